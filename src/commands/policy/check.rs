//! `modtool policy check`: every problem at once, before anything is judged by it.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use crate::cli::OutputFormat;
use crate::commands::output::{json_line, path_json};
use crate::commands::{misread, workspace};
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::moderation::Mode;
use crate::moderation::escape::escape_lines;
use crate::policy_file::{self, PolicyFile, shared_prompts};
use crate::vision::model::builtin;
use crate::yaml_file::YamlProblem;

/// Tell everything that is wrong with policies, with file, line and a way out
///
/// Errors end with exit code 78; with --strict warnings do too.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// A folder of policies, or one file [default: those of the workspace]
    #[arg(value_name = "PATH")]
    path: Option<PathBuf>,

    /// Treat warnings as errors
    #[arg(long)]
    strict: bool,

    /// Form of what is printed
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
}

pub(super) async fn run(args: &CheckArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let (files, mut errors) = match super::policies_at(args.path.as_deref(), config) {
        Ok(files) => (files, Vec::new()),
        Err(problems) => (Vec::new(), problems.0),
    };
    let (mut warnings, mut counts) = (unread_files(args.path.as_deref(), config), Vec::new());
    if errors.is_empty() {
        let (encoder, _) = workspace::encoder(config)?;
        if let Err(problems) = workspace::refuse_what_the_model_can_not_do(encoder.as_ref(), &files)
        {
            errors.extend(problems.0);
        }
        warnings.extend(shared_prompts(&files));
        warnings.extend(misread::globs(&files));
        warnings.extend(misread::prompts(encoder.as_ref(), &files)?);
        if let Some(taken) = misread::count(config, &files).await {
            warnings.extend(taken.problems(&files));
            counts = taken.lines(&files);
        }
        let card = encoder.model();
        for file in &files {
            let fitted = file.policy.calibration.as_ref().map(|fitted| &fitted.fitted_for);
            if fitted.is_some_and(|fitted| *fitted != file.policy.fitted_for(&card.fingerprint)) {
                let what = "this calibration was fitted to other prompts or another model, and is \
                            not used";
                let hint = "`modtool policy suggest` fits it anew; or remove the line";
                warnings.push(file.calibration_problem(what).with_hint(hint));
            }
        }
        if config.model == "builtin" {
            warnings.extend(files.iter().flat_map(topics));
        }
        if files.is_empty() {
            let folder = args.path.clone().unwrap_or_else(|| config.policies());
            let what = "there is no policy here: every picture goes to review";
            warnings.push(YamlProblem::of_file(&folder, what));
        }
    }
    match args.format {
        OutputFormat::Json => print_json(&errors, &warnings)?,
        OutputFormat::Table => print(&files, &errors, &warnings, &counts)?,
    }
    let failed = !errors.is_empty() || (args.strict && !warnings.is_empty());
    Ok(if failed { ExitCode::Config } else { ExitCode::Clean })
}

/// Files that look like policies and are not read: of the named folder, or the workspace's.
fn unread_files(path: Option<&Path>, config: &Config) -> Vec<YamlProblem> {
    match path {
        None => misread::unread_files(config),
        Some(path) if path.is_dir() => policy_file::unread(path),
        Some(_) => Vec::new(),
    }
}

/// What the built-in model never learned, or learned badly.
fn topics(file: &PolicyFile) -> Vec<YamlProblem> {
    let policy = &file.policy;
    let mut problems = Vec::new();
    for (index, prompt) in policy.prompts.iter().enumerate() {
        if let Some(topic) = builtin::unknown_topic(&prompt.text) {
            let what = format!("the built-in model was never trained on {topic}");
            let hint = "its scores mean nothing here; use a published CLIP or SigLIP (--model)";
            problems.push(file.prompt_problem(index, what).with_hint(hint));
        }
    }
    let weak = builtin::weak_topics().any(|topic| topic.name == policy.id.as_str());
    if weak && policy.mode == Mode::Live {
        let what = format!("the built-in model is weak at `{}`: expect misses", policy.id);
        let hint = "`mode: background` records without asking anyone; or use a larger model";
        problems.push(file.id_problem(what).with_hint(hint));
    }
    problems
}

fn print(
    files: &[PolicyFile],
    errors: &[YamlProblem],
    warnings: &[YamlProblem],
    counts: &[String],
) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (kind, problems) in [("error", errors), ("warning", warnings)] {
        for problem in problems {
            writeln!(out, "{kind}: {}", escape_lines(&problem.to_string()))?;
        }
    }
    if !errors.is_empty() {
        return writeln!(
            out,
            "{} to mend; what is in force stays",
            plural(errors.len(), "problem")
        );
    }
    for line in counts {
        writeln!(out, "{line}")?;
    }
    let live = files.iter().filter(|file| file.policy.mode == Mode::Live).count();
    let word = if files.len() == 1 { "policy" } else { "policies" };
    writeln!(out, "{} {word} ({live} live), {}", files.len(), plural(warnings.len(), "warning"))
}

fn plural(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

fn print_json(errors: &[YamlProblem], warnings: &[YamlProblem]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (level, problems) in [("error", errors), ("warning", warnings)] {
        for problem in problems {
            let mut object = path_json("file", &problem.file);
            object.insert("line".into(), (problem.line > 0).then_some(problem.line).into());
            object.insert("column".into(), (problem.column > 0).then_some(problem.column).into());
            object.insert("level".into(), json!(level));
            object.insert("what".into(), json!(problem.what));
            object.insert("hint".into(), json!(problem.hint));
            json_line(&mut out, &object.into())?;
        }
    }
    Ok(())
}
