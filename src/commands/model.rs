//! `modtool model`: the models that this machine has: get, look at, choose, compare, remove.

mod add;
mod compare;
mod list;
mod pull;
mod remove;
mod show;
mod switch;
mod verify;

use std::io::IsTerminal as _;
use std::path::Path;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::vision::engine;
use crate::vision::model::{self, ModelsFolder};

use super::{UsageError, workspace};

/// Get, compare, choose and remove models
///
/// The built-in model is for the first minute. For decisions that matter take a published CLIP or
/// SigLIP: from the Hub with `pull`, or from a folder with `add`; `use` makes it this workspace's.
#[derive(Debug, Args)]
pub(super) struct ModelArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    List(list::ListArgs),
    Pull(pull::PullArgs),
    Add(add::AddArgs),
    Show(show::ShowArgs),
    Use(switch::UseArgs),
    Compare(compare::CompareArgs),
    Verify(verify::VerifyArgs),
    Remove(remove::RemoveArgs),
    #[command(name = "__judge", hide = true)]
    Judge(compare::JudgeArgs),
}

pub(super) async fn run(args: ModelArgs, config: &Config) -> anyhow::Result<ExitCode> {
    match args.what {
        What::List(args) => list::run(&args, config),
        What::Pull(args) => pull::run(&args, config),
        What::Add(args) => add::run(args, config),
        What::Show(args) => show::run(&args, config),
        What::Use(args) => switch::run(&args, config),
        What::Compare(args) => compare::run(&args, config).await,
        What::Judge(_) => compare::judge(config).await,
        What::Verify(args) => verify::run(&args, config),
        What::Remove(args) => remove::run(&args, config),
    }
}

/// Where this user's models lie.
fn folder(config: &Config) -> ModelsFolder {
    ModelsFolder(config.data_dir.join("models"))
}

/// Opens a model on this machine's engine and lets it compute once; answers the engine in words.
fn try_out(config: &Config, folder: &Path) -> anyhow::Result<String> {
    let model = model::load_dir(folder)?;
    let (encoder, engine) = workspace::encoder_of(config, &model)?;
    engine::try_out(encoder.as_ref())?;
    Ok(engine.to_string())
}

/// A model by its name, among those that were added.
fn added(config: &Config, name: &str) -> anyhow::Result<std::path::PathBuf> {
    let models = folder(config).list();
    if let Some((_, folder)) = models.iter().find(|(known, _)| known == name) {
        return Ok(folder.clone());
    }
    let names: Vec<&str> = models.iter().map(|(name, _)| name.as_str()).collect();
    let there = match names.as_slice() {
        [] => "none was added yet: `modtool model add DIR --name NAME`".to_owned(),
        names => format!("there are: {}", names.join(", ")),
    };
    let what = if name == "builtin" {
        "is compiled in; of those that were added"
    } else {
        "is none of the models;"
    };
    Err(UsageError(format!("{name} {what} {there}")).into())
}

/// A bar for bytes, where there is a terminal to draw it on.
fn bytes_bar(what: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("{msg} {bar:30} {bytes} of {total_bytes} · {bytes_per_sec}");
    let bar = ProgressBar::new(0);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message(what.to_owned());
    bar
}
