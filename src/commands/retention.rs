//! `modtool retention`: what is older than the settings say; `watch` deletes it once a day.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tracing::{error, info};

use crate::cli::OutputFormat;
use crate::config::{Config, RetentionConfig};
use crate::exit_code::ExitCode;
use crate::moderation::Timestamp;
use crate::store::{Cutoffs, Expired, Store};

use super::clock::now;
use super::output::json_line;
use super::{vectors, workspace};

/// Show what is older than `retention` in modtool.yaml says, or delete it
///
/// `modtool watch` deletes it by itself, once a day. What waits for a person, what lies in
/// quarantine, and the decision that last removed a picture always stay.
#[derive(Debug, Args)]
pub(super) struct RetentionArgs {
    /// Delete it now
    #[arg(long)]
    apply: bool,

    /// Form of what is printed
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
}

pub(super) async fn run(args: &RetentionArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let store = workspace::existing_store(config).await?;
    let cutoffs = cutoffs(config.retention);
    let expired = if args.apply {
        let expired = store.expire(cutoffs, now()).await?;
        forget_vectors(config, expired)?;
        expired
    } else {
        store.count_expired(cutoffs).await?
    };
    let Expired { verdicts, embeddings, done_tasks } = expired;
    let mut out = io::stdout().lock();
    if args.format == OutputFormat::Json {
        let line = json!({
            "deleted": args.apply,
            "verdicts": verdicts,
            "embeddings": embeddings,
            "done_tasks": done_tasks,
        });
        json_line(&mut out, &line)?;
        return Ok(ExitCode::Clean);
    }
    if config.retention == RetentionConfig::default() {
        writeln!(out, "modtool.yaml says nothing about retention: everything is kept")?;
        return Ok(ExitCode::Clean);
    }
    let word = if args.apply { "deleted" } else { "to be deleted" };
    writeln!(out, "{word}: {verdicts} scores, {embeddings} embeddings, {done_tasks} done tasks")?;
    Ok(ExitCode::Clean)
}

fn cutoffs(retention: RetentionConfig) -> Cutoffs {
    let before =
        |days: Option<u32>| days.map(|days| Timestamp(now().0 - i64::from(days) * 86_400_000));
    Cutoffs {
        verdicts: before(retention.verdicts_days),
        embeddings: before(retention.embeddings_days),
        done_tasks: before(retention.done_tasks_days),
    }
}

/// The flat files must not keep what the store forgot.
fn forget_vectors(config: &Config, expired: Expired) -> io::Result<()> {
    if expired.embeddings > 0 { vectors::forget(config) } else { Ok(()) }
}

/// Deletes what is too old, now and once a day, for as long as it is polled.
pub(super) async fn daily(config: Config, store: Arc<Store>) {
    if config.retention == RetentionConfig::default() {
        return;
    }
    let mut days = tokio::time::interval(Duration::from_hours(24));
    loop {
        days.tick().await;
        match store.expire(cutoffs(config.retention), now()).await {
            Ok(expired) if expired == Expired::default() => {}
            Ok(expired @ Expired { verdicts, embeddings, done_tasks }) => {
                if let Err(error) = forget_vectors(&config, expired) {
                    error!(%error, "the files in vectors/ could not be removed");
                }
                info!(
                    verdicts,
                    embeddings, done_tasks, "deleted what is older than retention says"
                );
            }
            Err(error) => error!(%error, "retention could not delete"),
        }
    }
}
