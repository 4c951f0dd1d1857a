//! `modtool rescore`: score stored pictures again with the current policies and, on request, the current
//! decoders.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::cli::OutputFormat;
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::pipeline::{self, Source};

use super::clock::now;
use super::ground;
use super::output::json_line;
use super::watch::{Run, settle_times};
use super::workspace;

/// Score every stored picture again with the current policies, without the model
///
/// New verdicts go on record, and what is flagged now and was not looked at by a person for it
/// opens a task. Decisions stand. Can be ended and started again at any time.
#[derive(Debug, Args)]
pub(super) struct RescoreArgs {
    /// First decode and score again what another model, an older decoder or other limits scored
    ///
    /// `watch` and `scan` do the same in the background; this does only that, for every folder that
    /// was ever judged, and ends.
    #[arg(long)]
    decode: bool,

    /// Also close open tasks that no policy flags any more
    #[arg(long)]
    close: bool,

    /// Form of what is printed
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
}

pub(super) async fn run(args: &RescoreArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let decoded = if args.decode { Some(decode_again(config).await?) } else { None };
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
            let mut line = json!({
                "items": done.items,
                "judged": done.judged,
                "changed": done.changed,
                "tasks_opened": done.opened,
                "tasks_closed": closed,
                "tasks_that_no_policy_flags": left,
            });
            if let (Some(decoded), Some(line)) = (decoded, line.as_object_mut()) {
                line.insert("decoded_again".into(), json!(decoded.judged));
                line.insert("not_decoded_again".into(), json!(decoded.left));
            }
            json_line(&mut out, &line)?;
        }
        OutputFormat::Table => {
            if let Some(decoded) = decoded {
                writeln!(out, "{} decoded and scored again", paths(decoded.judged))?;
                if decoded.left > 0 {
                    writeln!(
                        out,
                        "{} left as before: the file is gone, or the run was stopped; run it again for \
                         the rest",
                        paths(decoded.left)
                    )?;
                }
            }
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

fn paths(count: u64) -> String {
    format!("{count} path{}", if count == 1 { "" } else { "s" })
}

/// What came of decoding again.
#[derive(Debug, Clone, Copy)]
struct Decoded {
    /// Paths judged anew.
    judged: u64,
    /// Paths that were not.
    left: u64,
}

/// Decodes and judges what was judged with anything else than is used now.
async fn decode_again(config: &Config) -> anyhow::Result<Decoded> {
    let roots = {
        let store = workspace::existing_store(config).await?;
        let mut roots = store.roots().await?;
        store.close().await;
        roots.retain(|root| root.is_dir());
        roots
    };
    ground::check_roots(config, &roots)?;
    let settle = settle_times(config, &roots);
    let run = Run::open(config.clone(), OutputFormat::Table, settle).await?;
    let ended = run.pipeline(Source::Again(roots.clone())).await;
    let judged = run.monitor.judged.load(Relaxed);
    let left = run.left(&roots).await?;
    run.close().await;
    ended?;
    Ok(Decoded { judged, left })
}

fn bar(items: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {pos} of {len} items · {eta} left");
    ProgressBar::new(items).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
