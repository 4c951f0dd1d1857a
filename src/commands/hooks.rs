//! `modtool hooks`: how the programs that are told of events stand.

use std::io::{self, Write as _};

use clap::{Args, Subcommand};
use serde_json::json;

use crate::cli::OutputFormat;
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::moderation::escape::escape;

use super::clock::now;
use super::output::{json_line, table};
use super::{UsageError, workspace};

/// Show how hooks stand, or give failed events another chance
#[derive(Debug, Args)]
pub(super) struct HooksArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show what waits to be told and what was given up
    List(ListArgs),
    /// Try again what was given up; a running watcher delivers it
    Retry(RetryArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Form of what is printed
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
}

#[derive(Debug, Args)]
struct RetryArgs {
    /// The hook's name in modtool.yaml
    #[arg(value_name = "NAME")]
    name: String,
}

pub(super) async fn run(args: &HooksArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let store = workspace::existing_store(config).await?;
    let mut out = io::stdout().lock();
    match &args.what {
        What::List(args) => {
            let counts = store.hook_counts().await?;
            if args.format == OutputFormat::Json {
                for hook in &counts {
                    let line = json!({
                        "name": hook.name,
                        "configured": config.hooks.iter().any(|known| known.name == hook.name),
                        "waiting": hook.waiting,
                        "dead": hook.dead,
                        "problem": hook.problem,
                    });
                    json_line(&mut out, &line)?;
                }
                return Ok(ExitCode::Clean);
            }
            let row = |hook: &crate::store::HookCounts| {
                let known = config.hooks.iter().any(|known| known.name == hook.name);
                let name = escape(hook.name.as_bytes());
                vec![
                    if known { name } else { format!("{name} (not in modtool.yaml any more)") },
                    hook.waiting.to_string(),
                    hook.dead.to_string(),
                    escape(hook.problem.as_deref().unwrap_or("-").as_bytes()),
                ]
            };
            let rows: Vec<_> = counts.iter().map(row).collect();
            if rows.is_empty() {
                writeln!(out, "no hook was ever at work; see `hooks:` in modtool.yaml")?;
            } else {
                table(&mut out, &["hook", "waiting", "given up", "last problem"], &rows)?;
            }
        }
        What::Retry(args) => {
            let counts = store.hook_counts().await?;
            if !counts.iter().any(|hook| hook.name == args.name) {
                return Err(UsageError(format!("there is no hook {:?}", args.name)).into());
            }
            let revived = store.revive_deliveries(&args.name, now()).await?;
            writeln!(out, "{revived} events are tried again")?;
        }
    }
    Ok(ExitCode::Clean)
}
