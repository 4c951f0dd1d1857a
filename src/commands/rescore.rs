//! `modtool rescore`: judge stored pictures again by the policies of now.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::cli::OutputFormat;
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::pipeline;

use super::clock::now;
use super::output::json_line;
use super::workspace;

/// Judge every stored picture again by the policies of now, without the model
///
/// New verdicts go on record, and what is flagged now and was not looked at by a person for it
/// opens a task. Decisions stand. Can be ended and started again at any time.
#[derive(Debug, Args)]
pub(super) struct RescoreArgs {
    /// Also close open tasks that no policy flags any more
    #[arg(long)]
    close: bool,

    /// Form of what is printed
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
}

pub(super) async fn run(args: &RescoreArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let files = workspace::judging_policies(config)?;
    let store = Arc::new(workspace::existing_store(config).await?);
    let card = workspace::model(config)?.card;
    let classifiers = workspace::classifiers_from(&store, config, &files).await?;
    let policies: Vec<_> = files.iter().map(|file| Arc::clone(&file.policy)).collect();
    let judged_by = store.begin_judging(&card.fingerprint, &card.name, &policies).await?;
    let bar = bar(store.count_items(0).await?);
    let rescoring =
        pipeline::rescore(&store, &card.fingerprint, &classifiers, &judged_by, |items| {
            bar.set_position(items);
        });
    let done = rescoring.await;
    bar.finish_and_clear();
    let done = done?;
    let unflagged = if args.close {
        store.close_unflagged_tasks(now()).await?
    } else {
        store.count_unflagged_tasks().await?
    };
    // An armed policy may hold what it blocks now.
    workspace::actor(config, &store, &Arc::default())?.carry_out_due(pipeline::PATIENCE).await?;
    let mut out = io::stdout().lock();
    match args.format {
        OutputFormat::Json => {
            let (closed, left) = if args.close { (unflagged, 0) } else { (0, unflagged) };
            let line = json!({
                "items": done.items,
                "judged": done.judged,
                "changed": done.changed,
                "tasks_opened": done.opened,
                "tasks_closed": closed,
                "tasks_that_no_policy_flags": left,
            });
            json_line(&mut out, &line)?;
        }
        OutputFormat::Table => {
            writeln!(
                out,
                "{} items looked at, {} paths judged anew, {} with another outcome, {} tasks opened",
                done.items, done.judged, done.changed, done.opened
            )?;
            if args.close {
                writeln!(out, "{unflagged} tasks closed that no policy flags any more")?;
            } else if unflagged > 0 {
                writeln!(
                    out,
                    "{unflagged} open tasks are flagged by no policy any more; `modtool rescore \
                     --close` closes them"
                )?;
            }
        }
    }
    Ok(ExitCode::Clean)
}

fn bar(items: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {pos} of {len} items · {eta} left");
    ProgressBar::new(items).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
