//! `modtool policy`: try rules on pictures, on history and on people's decisions before they bite.

mod check;
mod compare;
mod explain;
mod past;
mod suggest;
mod test;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};

use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::moderation::Timestamp;
use crate::policy_file::{self, PolicyFile, PolicyProblems};

use super::output::{percent, share_json};
use super::{UsageError, workspace};

/// Check, explain, compare and measure policies; nothing that is in force changes
#[derive(Debug, Args)]
pub(super) struct PolicyArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Check(check::CheckArgs),
    Explain(explain::ExplainArgs),
    Diff(compare::DiffArgs),
    Backtest(compare::BacktestArgs),
    Suggest(suggest::SuggestArgs),
    Test(test::TestArgs),
}

pub(super) use compare::between;

pub(super) async fn run(args: PolicyArgs, config: &Config) -> anyhow::Result<ExitCode> {
    match args.what {
        What::Check(args) => check::run(&args, config).await,
        What::Explain(args) => explain::run(&args, config).await,
        What::Diff(args) => compare::diff(&args, config).await,
        What::Backtest(args) => compare::backtest(&args, config).await,
        What::Suggest(args) => suggest::run(&args, config).await,
        What::Test(args) => test::run(&args, config).await,
    }
}

/// The policies of a named folder or file, or those of the workspace.
fn policies_at(path: Option<&Path>, config: &Config) -> Result<Vec<PolicyFile>, PolicyProblems> {
    match path {
        Some(path) => policy_file::load(path, &workspace::defaults(config)),
        None => workspace::policies(config),
    }
}

/// `2026-10-01`, an RFC 3339 time, or an age such as `30d`, `12h`.
fn parse_since(text: &str) -> Result<Timestamp, UsageError> {
    super::clock::moment(text).ok_or_else(|| {
        UsageError(format!("{text:?} is no time; write 2026-10-01, or an age such as 30d or 12h"))
    })
}

/// The paths that were named, or an error for the first that is not there.
fn must_exist(paths: &[&PathBuf]) -> anyhow::Result<()> {
    for path in paths {
        std::fs::metadata(path).with_context(|| {
            format!("can't open {}", crate::moderation::escape::escape_path(path))
        })?;
    }
    Ok(())
}
