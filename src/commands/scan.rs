//! `modtool scan`: judge what is in a folder, and end.

use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;

use clap::Args;

use crate::cli::OutputFormat;
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::pipeline::{Source, Trust};

use super::ground;
use super::watch::{Missing, Run, roots, settle_times};

/// Judge every picture in a folder once, and end
///
/// The same as `watch`, but for the waiting. Exit code 1 when a picture in the folder is flagged
/// (and was not approved by a person since) or a folder can't be read, 0 when all is well.
#[derive(Debug, Args)]
pub(super) struct ScanArgs {
    /// Folders to scan, with everything below them
    #[arg(required = true, value_name = "DIR")]
    folders: Vec<PathBuf>,

    /// Do not read allowed files again whose size and times are the same as when they were judged
    ///
    /// A second scan of a folder reads every file in it, because a file that is written through a
    /// shared mapping may change without a new time. With this it takes a fraction of that.
    #[arg(long)]
    trust_times: bool,

    /// What to print on standard output: json is one verdict a line, table is nothing
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
}

pub(super) async fn run(args: ScanArgs, config: Config) -> anyhow::Result<ExitCode> {
    let roots = roots(&args.folders, Missing::Refuse)?;
    ground::check_roots(&config, &roots)?;
    let trust = if args.trust_times { Trust::Times } else { Trust::Bytes };
    let settle = settle_times(&config, &roots);
    let run = Run::open(config, args.format, settle).await?;
    let ended = run.pipeline(Source::Scan(roots, trust)).await;
    let counters = [&run.monitor.flagged, &run.monitor.flagged_before, &run.monitor.unreadable];
    let flagged: u64 = counters.iter().map(|counter| counter.load(Relaxed)).sum();
    run.close().await;
    ended?;
    Ok(if flagged > 0 { ExitCode::Flagged } else { ExitCode::Clean })
}
