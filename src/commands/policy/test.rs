//! `modtool policy test`: policies against a folder of pictures sorted by what should happen.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};

use crate::cli::OutputFormat;
use crate::commands::output::{json_line, number, path_json, table};
use crate::commands::workspace;
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::moderation::escape::{escape, escape_path};
use crate::moderation::measure::roc_auc;
use crate::moderation::{Counts, Labelled, Outcome, Policy, Reason};
use crate::pipeline::judge_named;
use crate::yaml_file::nearest;

use super::{percent, policies_at, share_json};

/// Measure policies on pictures sorted by what should happen, for your own CI
///
/// DIR holds one folder a policy id, with folders `review`, `block` and `allow` of pictures in it.
/// Exit code 1 when a policy is below --min-precision or --min-recall.
#[derive(Debug, Args)]
pub(super) struct TestArgs {
    /// The folder of sorted pictures
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    /// A folder of policies, or one file [default: those of the workspace]
    #[arg(long, value_name = "PATH")]
    policies: Option<PathBuf>,

    /// The least share of flagged pictures that must be right, 0 to 1
    #[arg(long, value_name = "SHARE", value_parser = share_argument)]
    min_precision: Option<f64>,

    /// The least share of violating pictures that must be flagged, 0 to 1
    #[arg(long, value_name = "SHARE", value_parser = share_argument)]
    min_recall: Option<f64>,

    /// Form of what is printed
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
}

/// A share as people type it.
pub(super) fn share_argument(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("a share is 0 to 1".to_owned()) }
}

/// How one policy did.
struct Tested<'a> {
    policy: &'a Policy,
    /// `[expected][judged]`, in the order allow, review, block.
    confusion: [[u64; 3]; 3],
    labelled: Vec<Labelled>,
    wrong: Vec<(PathBuf, Outcome, Outcome, f32)>,
    unjudged: Vec<(PathBuf, Reason)>,
}

pub(super) async fn run(args: &TestArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let files = policies_at(args.policies.as_deref(), config)?;
    let ids: Vec<&str> = files.iter().map(|file| file.policy.id.as_str()).collect();
    let folders = sorted_folders(&args.dir, &ids)?;
    let (encoder, _) = workspace::encoder(config)?;
    let classifiers = workspace::classifiers(encoder.as_ref(), &files, config, None).await?;
    let decoders = workspace::decoders(config)?;
    let mut all = Vec::new();
    for classifier in &classifiers {
        let mut tested = Tested::of(&classifier.policy);
        for (_, expected, folder) in
            folders.iter().filter(|(id, ..)| *id == classifier.policy.id.as_str())
        {
            let only = std::slice::from_ref(classifier);
            let named = workspace::named(config, std::slice::from_ref(folder)).await;
            let batch = config.engine.batch;
            judge_named(encoder.as_ref(), only, &decoders, batch, named, |judged| {
                // The path below is that of the test folder; what the scope says is for uploads.
                let score = classifier.score(&judged.views).map(|score| score.score);
                tested.add(judged.sighting.path, *expected, score, judged.verdict.reason);
            })?;
        }
        if folders.iter().any(|(id, ..)| *id == classifier.policy.id.as_str()) {
            all.push(tested);
        }
    }
    let mut out = io::stdout().lock();
    let mut failed = false;
    for tested in &all {
        let short = tested.shortfalls(args);
        failed |= !short.is_empty();
        match args.format {
            OutputFormat::Json => json_line(&mut out, &tested.json(&short))?,
            OutputFormat::Table => tested.print(&mut out, &short)?,
        }
    }
    Ok(if failed { ExitCode::Flagged } else { ExitCode::Clean })
}

/// Policy id, expected outcome, folder. What is misnamed is an error: a test that silently tests
/// nothing is worse than none.
fn sorted_folders(dir: &Path, ids: &[&str]) -> anyhow::Result<Vec<(String, Outcome, PathBuf)>> {
    let mut folders = Vec::new();
    for policy in folders_in(dir)? {
        let id = policy.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !ids.contains(&id.as_str()) {
            let hint =
                nearest(&id, ids).unwrap_or_else(|| format!("the policies are {}", ids.join(", ")));
            bail!(
                "{}: there is no policy `{}`; {hint}",
                escape_path(&policy),
                escape(id.as_bytes())
            );
        }
        for sorted in folders_in(&policy)? {
            let name = sorted.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let Some(expected) = Outcome::parse(&name) else {
                bail!("{}: the folders are review, block and allow", escape_path(&sorted));
            };
            folders.push((id.clone(), expected, sorted));
        }
    }
    if folders.is_empty() {
        bail!(
            "{} holds no DIR/<policy id>/{{review,block,allow}}/ folders of pictures",
            escape_path(dir)
        );
    }
    Ok(folders)
}

fn folders_in(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    use anyhow::Context as _;
    let context = || format!("can't read the folder {}", escape_path(dir));
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(context)? {
        let path = entry.with_context(context)?.path();
        if path.is_dir() {
            folders.push(path);
        }
    }
    folders.sort();
    Ok(folders)
}

fn place(outcome: Outcome) -> usize {
    match outcome {
        Outcome::Allow => 0,
        Outcome::Review => 1,
        Outcome::Block => 2,
    }
}

impl<'a> Tested<'a> {
    fn of(policy: &'a Policy) -> Self {
        Self {
            policy,
            confusion: [[0; 3]; 3],
            labelled: Vec::new(),
            wrong: Vec::new(),
            unjudged: Vec::new(),
        }
    }

    fn add(&mut self, path: PathBuf, expected: Outcome, score: Option<f32>, why: Option<Reason>) {
        let Some(score) = score else {
            let why = why.unwrap_or(Reason::Undecodable("it has no view to score".into()));
            self.unjudged.push((path, why));
            return;
        };
        let judged = self.policy.judge(score);
        self.confusion[place(expected)][place(judged)] += 1;
        let violates = expected > Outcome::Allow;
        self.labelled.push(Labelled { score, violates });
        if violates != (judged > Outcome::Allow) {
            self.wrong.push((path, expected, judged, score));
        }
    }

    fn counts(&self) -> Counts {
        Counts::at(&self.labelled, self.policy.thresholds.review())
    }

    /// What is below what was asked for. A share of nothing is below everything: a test that has
    /// nothing to say must not pass.
    fn shortfalls(&self, args: &TestArgs) -> Vec<String> {
        let counts = self.counts();
        let asked = [
            ("precision", counts.precision(), args.min_precision),
            ("recall", counts.recall(), args.min_recall),
        ];
        let short = asked.into_iter().filter_map(|(name, share, least)| {
            let least = least?;
            let value = share.value();
            // Precision of a policy that rightly flags nothing, because nothing violates.
            let nothing_to_find = counts.hits + counts.missed + counts.false_alarms == 0;
            let fine = value.is_some_and(|value| value >= least) || nothing_to_find;
            (!fine).then(|| {
                let found = value.map_or("nothing".to_owned(), |value| format!("{value:.3}"));
                format!("{name} is {found}, less than {least}")
            })
        });
        short.collect()
    }

    fn print(&self, out: &mut impl Write, short: &[String]) -> io::Result<()> {
        let counts = self.counts();
        let auc = roc_auc(&self.labelled).map_or("-".to_owned(), |auc| format!("{auc:.3}"));
        writeln!(
            out,
            "{}: precision {} · recall {} · ROC-AUC {auc} · {} pictures",
            self.policy.id,
            percent(counts.precision()),
            percent(counts.recall()),
            counts.total()
        )?;
        let row = |expected: Outcome| {
            let counts = self.confusion[place(expected)];
            let mut row = vec![format!("  should be {expected}")];
            row.extend(counts.map(|count| count.to_string()));
            row
        };
        let rows: Vec<_> = Outcome::ALL.iter().map(|outcome| row(*outcome)).collect();
        table(out, &["", "allow", "review", "block"], &rows)?;
        for (path, expected, judged, score) in &self.wrong {
            writeln!(out, "  {}: {judged} ({score:.3}), should be {expected}", escape_path(path))?;
        }
        for (path, reason) in &self.unjudged {
            let reason = escape(reason.to_string().as_bytes());
            writeln!(out, "  {}: left out, {reason}", escape_path(path))?;
        }
        for short in short {
            writeln!(out, "  FAILED: {short}")?;
        }
        writeln!(out)
    }

    fn json(&self, short: &[String]) -> Value {
        let counts = self.counts();
        let wrong = self.wrong.iter().map(|(path, expected, judged, score)| {
            let mut object = path_json("path", path);
            object.insert("expected".into(), expected.as_str().into());
            object.insert("outcome".into(), judged.as_str().into());
            object.insert("score".into(), number(f64::from(*score)));
            Value::Object(object)
        });
        let unjudged = self.unjudged.iter().map(|(path, reason)| {
            let mut object = path_json("path", path);
            object.insert("reason".into(), reason.to_string().into());
            Value::Object(object)
        });
        let row = |expected: Outcome| {
            let [allow, review, block] = self.confusion[place(expected)];
            json!({"allow": allow, "review": review, "block": block})
        };
        json!({
            "policy": self.policy.id.as_str(),
            "hash": self.policy.hash().short(),
            "pictures": counts.total(),
            "precision": share_json(counts.precision()),
            "recall": share_json(counts.recall()),
            "roc_auc": roc_auc(&self.labelled).map(number),
            "confusion": {
                "allow": row(Outcome::Allow),
                "review": row(Outcome::Review),
                "block": row(Outcome::Block),
            },
            "wrong": wrong.collect::<Value>(),
            "unjudged": unjudged.collect::<Value>(),
            "failed": short,
        })
    }
}
