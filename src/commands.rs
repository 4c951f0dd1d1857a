//! The subcommands: one file each, its arguments above, what it does below.
//!
//! Errors end up here, are printed once with what to do next, and become an exit code.

mod adapt;
mod adapters;
mod audit;
mod backup;
mod bank;
mod clock;
mod completions;
mod decode;
mod doctor;
mod erase;
mod eval;
mod export;
mod find;
mod ground;
mod heat;
mod hooks;
mod init;
mod inspected;
mod labels;
mod misread;
mod model;
mod no_reports;
mod output;
mod policy;
mod probe;
mod progress;
mod prompts;
mod quarantine;
mod queue;
mod reload;
mod rescore;
mod retention;
mod review;
mod runtime;
mod scan;
mod score;
mod screen;
mod search;
mod secret;
mod stats;
mod status;
mod validation;
mod vectors;
mod watch;
mod watchers;
mod workspace;

use std::io::{ErrorKind, IsTerminal as _, Write as _};

use clap::{CommandFactory as _, Parser, Subcommand};
use tracing_subscriber::filter::LevelFilter;

use crate::cli::{GlobalOptions, LogFormat};
use crate::config::{Config, ConfigError};
use crate::exit_code::ExitCode;
use crate::moderation::escape::{escape, printable};
use crate::policy_file::PolicyProblems;
use crate::telemetry::{self, Telemetry};
use crate::vision::sandbox::{CHILD_SUBCOMMAND, compute_in_background};
use ground::GroundError;

/// Finds the pictures that break your rules, here on this machine, and puts them before a person
#[derive(Debug, Parser)]
#[command(name = "modtool", version, after_help = FIRST_STEPS)]
pub struct Cli {
    #[command(flatten)]
    options: GlobalOptions,
    #[command(subcommand)]
    command: Command,
}

const FIRST_STEPS: &str = "\
First steps:
  modtool watch ./uploads     judge what is there and what comes
  modtool review              decide what was flagged, in another terminal
  modtool init                write policies/ and modtool.yaml to edit
  modtool doctor              see engine, model, limits, and what to improve";

#[derive(Debug, Subcommand)]
enum Command {
    Watch(watch::WatchArgs),
    Scan(scan::ScanArgs),
    Score(score::ScoreArgs),
    Review(review::ReviewArgs),
    Search(search::SearchArgs),
    Queue(queue::QueueArgs),
    Stats(stats::StatsArgs),
    Policy(policy::PolicyArgs),
    Eval(eval::EvalArgs),
    Bank(bank::BankArgs),
    Adapt(adapt::AdaptArgs),
    Rescore(rescore::RescoreArgs),
    Quarantine(quarantine::QuarantineArgs),
    Restore(quarantine::RestoreArgs),
    Purge(quarantine::PurgeArgs),
    Erase(erase::EraseArgs),
    Retention(retention::RetentionArgs),
    Audit(audit::AuditArgs),
    Hooks(hooks::HooksArgs),
    Status(status::StatusArgs),
    Export(export::ExportArgs),
    Backup(backup::BackupArgs),
    RestoreBackup(backup::RestoreArgs),
    Init(init::InitArgs),
    Doctor(doctor::DoctorArgs),
    Model(model::ModelArgs),
    Runtime(runtime::RuntimeArgs),
    Completions(completions::CompletionsArgs),
    #[command(name = "__probe-runtime", hide = true)]
    ProbeRuntime(probe::ProbeArgs),
    #[command(name = CHILD_SUBCOMMAND, hide = true)]
    Decode(decode::DecodeArgs),
}

/// Parses the command line, runs, prints an error once, and answers how to end.
pub fn main() -> ExitCode {
    // A decoder's panic is caught and becomes a reason for review; what it says may hold bytes
    // that an uploader chose.
    std::panic::set_hook(Box::new(|panic| {
        let told = escape(panic.to_string().as_bytes());
        let _ = writeln!(std::io::stderr(), "modtool: {told}");
    }));
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(refused) => return refuse(&refused),
    };
    telemetry::start(Telemetry {
        level: level(&cli),
        json: cli.options.log_format == LogFormat::Json,
    });
    match run(cli) {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::Clean,
        Err(error) => {
            // Standard error may be gone too; then there is nobody left to tell.
            let told = printable(&format!("{error:#}"));
            let _ = writeln!(std::io::stderr(), "modtool: {told}");
            code_of(&error)
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Completions(args) => return completions::run(&args, Cli::command()),
        Command::ProbeRuntime(args) => return probe::run(&args),
        Command::Decode(args) => return decode::run(&args),
        _ => {}
    }
    if !matches!(cli.command, Command::Runtime(_)) {
        ground::leave_root_to_the_owner(&cli.options)?;
    }
    no_reports::forbid_reports()?;
    let config = config_for(&cli)?;
    if matches!(cli.command, Command::Watch(_) | Command::Scan(_)) {
        // Before there are threads, which take it over.
        compute_in_background();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let code = runtime.block_on(async {
        match cli.command {
            Command::Watch(args) => watch::run(args, config).await,
            Command::Scan(args) => scan::run(args, config).await,
            Command::Score(args) => score::run(&args, &config).await,
            Command::Review(args) => review::run(args, config).await,
            Command::Search(args) => search::run(args, &config).await,
            Command::Queue(args) => queue::run(args, &config).await,
            Command::Stats(args) => stats::run(&args, &config).await,
            Command::Policy(args) => policy::run(args, &config).await,
            Command::Eval(args) => eval::run(&args, &config).await,
            Command::Bank(args) => bank::run(args, &config).await,
            Command::Adapt(args) => adapt::run(args, &config).await,
            Command::Rescore(args) => rescore::run(&args, &config).await,
            Command::Quarantine(args) => quarantine::list(&args, &config).await,
            Command::Restore(args) => quarantine::restore(&args, &config).await,
            Command::Purge(args) => quarantine::purge(&args, &config).await,
            Command::Erase(args) => erase::run(args, &config).await,
            Command::Retention(args) => retention::run(&args, &config).await,
            Command::Audit(args) => audit::run(&args, &config).await,
            Command::Hooks(args) => hooks::run(&args, &config).await,
            Command::Status(args) => status::run(&args, &config).await,
            Command::Export(args) => export::run(&args, &config).await,
            Command::Backup(args) => backup::run(&args, &config).await,
            Command::RestoreBackup(args) => backup::restore(&args, &config).await,
            Command::Init(args) => init::run(&args, &config),
            Command::Doctor(args) => doctor::run(&args, &config, &cli.options.workspace).await,
            Command::Model(args) => model::run(args, &config).await,
            Command::Runtime(args) => runtime::run(&args, &config),
            Command::Completions(_) | Command::ProbeRuntime(_) | Command::Decode(_) => {
                Ok(ExitCode::Clean)
            }
        }
    });
    // A second Ctrl-C must not wait for a picture that is being decoded.
    runtime.shutdown_background();
    code
}

/// The settings, once it is certain that nobody else wrote them.
///
/// # Errors
/// [`GroundError`] and [`ConfigError`].
fn config_for(cli: &Cli) -> anyhow::Result<Config> {
    let config = Config::without_settings(&cli.options)?;
    match &cli.command {
        // It works for every workspace, in any folder.
        Command::Runtime(_) => return Ok(config),
        // It tells what is wrong, and goes by nothing that others may have written.
        Command::Doctor(_) if ground::check(&config, &cli.options.workspace).is_err() => {
            return Ok(config);
        }
        _ => ground::check(&config, &cli.options.workspace)?,
    }
    Ok(Config::resolve(&cli.options)?)
}

/// `watch` and `scan` say each verdict; other commands only what went wrong.
fn level(cli: &Cli) -> LevelFilter {
    // The dashboard has the screen for itself.
    if matches!(cli.command, Command::Review(_)) && std::io::stderr().is_terminal() {
        return LevelFilter::OFF;
    }
    let talks = matches!(cli.command, Command::Watch(_) | Command::Scan(_));
    match (cli.options.quiet, cli.options.verbose, talks) {
        (true, _, _) => LevelFilter::ERROR,
        (_, 0, false) => LevelFilter::WARN,
        (_, 0, true) | (_, 1, false) => LevelFilter::INFO,
        (_, 1, true) | (_, 2, _) => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    }
}

fn refuse(refused: &clap::Error) -> ExitCode {
    // `--help` and `--version` come this way too, and go to standard output.
    let _ = refused.print();
    if refused.use_stderr() { ExitCode::Usage } else { ExitCode::Clean }
}

fn code_of(error: &anyhow::Error) -> ExitCode {
    if error.is::<ConfigError>() || error.is::<PolicyProblems>() || error.is::<GroundError>() {
        ExitCode::Config
    } else if error.is::<UsageError>() {
        ExitCode::Usage
    } else {
        ExitCode::Failure
    }
}

/// `modtool export … | head` is no mistake.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == ErrorKind::BrokenPipe)
    })
}

/// The arguments parse, but make no sense together or here.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct UsageError(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn errors_become_the_promised_exit_codes() {
        let config = anyhow::Error::new(ConfigError::NoDataDir);
        assert_eq!(code_of(&config), ExitCode::Config);
        assert_eq!(code_of(&config.context("while starting")), ExitCode::Config);
        assert_eq!(code_of(&PolicyProblems(vec![]).into()), ExitCode::Config);
        assert_eq!(code_of(&UsageError("no".into()).into()), ExitCode::Usage);
        assert_eq!(code_of(&anyhow::anyhow!("no disk")), ExitCode::Failure);
    }
}
