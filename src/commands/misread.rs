//! What is no error and does not mean what it looks like: words that a model can't read, scopes that
//! take no picture, files that look like policies.

use std::collections::HashSet;

use tracing::warn;

use crate::config::Config;
use crate::moderation::escape::{escape_lines, printable};
use crate::policy_file::{self, PolicyFile};
use crate::store::Store;
use crate::vision::{Encoder, Readability, VisionError};
use crate::yaml_file::YamlProblem;

use super::workspace;

/// Says each of these problems once, as a warning.
pub(super) fn warn_of(problems: &[YamlProblem]) {
    for problem in problems {
        warn!("{}", escape_lines(&problem.to_string()));
    }
}

/// Everything that is told when pictures are about to be judged.
pub(super) fn at_start(
    encoder: &dyn Encoder,
    files: &[PolicyFile],
    config: &Config,
) -> Result<Vec<YamlProblem>, VisionError> {
    let mut problems = unread_files(config);
    problems.extend(globs(files));
    problems.extend(prompts(encoder, files)?);
    // What only runs along has the prompts and the scope of its policy.
    Ok(once(problems))
}

fn once(mut problems: Vec<YamlProblem>) -> Vec<YamlProblem> {
    let mut seen = HashSet::new();
    problems.retain(|problem| seen.insert(problem.to_string()));
    problems
}

/// What the model can't read of a text, and what to do; nothing where it reads all of it.
pub(super) fn text(
    encoder: &dyn Encoder,
    text: &str,
) -> Result<Option<(String, &'static str)>, VisionError> {
    let model = printable(&encoder.model().name);
    let shown =
        if text.trim().is_empty() { "\u{201C}\u{201D}".to_owned() } else { printable(text) };
    Ok(match encoder.readability(text)? {
        Readability::Whole => None,
        Readability::Nothing => Some((
            format!(
                "the model {model} can't read any of `{shown}`: it means the same to it as every \
                 other text that it can't read"
            ),
            "say it in plain English words; a multilingual model (SigLIP 2) reads more languages",
        )),
        Readability::Partly(words) => Some((
            format!("the model {model} can't read `{}` in `{shown}`", printable(&words.join(" "))),
            "say it in plain English words, or leave it out",
        )),
    })
}

/// Prompts and templates that the model can't read, each told once.
pub(super) fn prompts(
    encoder: &dyn Encoder,
    files: &[PolicyFile],
) -> Result<Vec<YamlProblem>, VisionError> {
    let mut problems = Vec::new();
    for file in files {
        let policy = &file.policy;
        for (index, (prompt, _)) in policy.all_prompts().enumerate() {
            if let Some((what, hint)) = text(encoder, &prompt.text)? {
                problems.push(file.prompt_problem(index, what).with_hint(hint));
            }
        }
        for template in &policy.templates {
            let words = template.replace("{}", " ");
            let bare = words.trim_matches(|c: char| c.is_whitespace() || c.is_ascii_punctuation());
            if bare.is_empty() {
                continue;
            }
            if let Some((what, hint)) = text(encoder, bare)? {
                problems.push(file.templates_problem(what).with_hint(hint));
            }
        }
    }
    // Neutral prompts and templates of the settings come with every policy.
    Ok(once(problems))
}

/// Globs that name one file and look like a folder.
pub(super) fn globs(files: &[PolicyFile]) -> Vec<YamlProblem> {
    let of_file = |file: &PolicyFile| -> Vec<YamlProblem> {
        let globs = file.policy.scope.folders_without_stars();
        let problem = |(list, index, glob): (_, usize, &str)| {
            let glob = printable(glob);
            let what = format!("`{glob}` means one file of this name, not what is in a folder");
            let hint = format!("write `{glob}/**` for the files of the folder");
            file.glob_problem(list, index, what).with_hint(hint)
        };
        globs.into_iter().map(problem).collect()
    };
    files.iter().flat_map(of_file).collect()
}

/// Files in `policies/` that look like policies and are not read.
pub(super) fn unread_files(config: &Config) -> Vec<YamlProblem> {
    let folder = config.policies();
    if folder.is_dir() { policy_file::unread(&folder) } else { Vec::new() }
}

/// How many pictures a policy's scope takes.
pub(super) struct Taken {
    /// Of these.
    pub(super) of: u64,
    /// One number a policy, in the order asked for.
    pub(super) taken: Vec<u64>,
}

impl Taken {
    /// One line for each policy that does not look at everything; none before the first picture.
    pub(super) fn lines(&self, files: &[PolicyFile]) -> Vec<String> {
        let each = files.iter().zip(&self.taken).filter(|_| self.of > 0);
        let scoped = each.filter(|(file, _)| !file.policy.scope.is_everything());
        let line = |(file, taken): (&PolicyFile, &u64)| {
            let pictures = if self.of == 1 { "picture" } else { "pictures" };
            format!("{}: the scope takes {taken} of {} {pictures}", file.policy.id, self.of)
        };
        scoped.map(line).collect()
    }

    /// A warning for each scope that takes none of some pictures.
    pub(super) fn problems(&self, files: &[PolicyFile]) -> Vec<YamlProblem> {
        let none = files.iter().zip(&self.taken).filter(|(_, taken)| self.of > 0 && **taken == 0);
        none.map(|(file, _)| {
            let pictures =
                if self.of == 1 { "1 picture".into() } else { format!("{} pictures", self.of) };
            let what = format!("this scope takes none of the {pictures} of the workspace");
            let hint = "globs are matched against the path below the watched folder";
            file.scope_problem(what).with_hint(hint)
        })
        .collect()
    }
}

/// Counts the pictures of the store that each policy's scope takes; nothing without a store.
pub(super) async fn count(config: &Config, files: &[PolicyFile]) -> Option<Taken> {
    let every = files.iter().all(|file| file.policy.scope.is_everything());
    if every || !config.database().exists() {
        return None;
    }
    let counted = async {
        let store = workspace::existing_store(config).await?;
        let counted = count_in(&store, files).await;
        store.close().await;
        counted
    };
    match counted.await {
        Ok(taken) => Some(taken),
        Err(error) => {
            warn!(
                "can't count the pictures of each scope: {}",
                escape_lines(&format!("{error:#}"))
            );
            None
        }
    }
}

/// The same in an open store.
pub(super) async fn count_in(store: &Store, files: &[PolicyFile]) -> anyhow::Result<Taken> {
    const PAGE: u32 = 10_000;
    let mut found = Taken { of: 0, taken: vec![0; files.len()] };
    let mut after = 0;
    loop {
        let page = store.sightings_here(after, PAGE).await?;
        let Some((last, _)) = page.last() else { return Ok(found) };
        after = *last;
        for (_, sighting) in &page {
            found.of += 1;
            for (file, taken) in files.iter().zip(&mut found.taken) {
                *taken += u64::from(file.policy.scope.includes(sighting.below()));
            }
        }
    }
}
