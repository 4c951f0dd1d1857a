//! `modtool queue undo`: takes back what a reviewer decided last, as `u` on the screen does.

use std::io::{self, Write as _};

use clap::Args;
use serde_json::json;

use crate::cli::OutputFormat;
use crate::commands::clock::{ago, now};
use crate::commands::output::json_line;
use crate::commands::review;
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::moderation::{PastDecision, UndoOutcome};
use crate::store::Store;

use super::{decision_json, task_json};

#[derive(Debug, Args)]
pub(super) struct UndoArgs {
    /// Whose latest decision [default: what modtool.yaml says, else the system's user]
    #[arg(long, value_name = "NAME", env = "MODTOOL_REVIEWER")]
    reviewer: Option<String>,

    /// Form of what is printed
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
}

pub(super) async fn run(
    args: UndoArgs,
    config: &Config,
    store: &Store,
) -> anyhow::Result<ExitCode> {
    let reviewer = review::reviewer(args.reviewer.or_else(|| config.review.reviewer.clone()))?;
    let outcome = store.undo(&reviewer, now()).await?;
    let mut out = io::BufWriter::new(io::stdout());
    let (undone, by_others) = match outcome {
        UndoOutcome::Undone(undone) => (undone, None),
        UndoOutcome::NothingToUndo => (Vec::new(), None),
        UndoOutcome::DecidedSince(later) => (Vec::new(), Some(later)),
    };
    for past in &undone {
        tell(&mut out, args.format, store, past).await?;
    }
    if let Some(later) = &by_others {
        match args.format {
            OutputFormat::Json => {
                let since = decision_json(later);
                json_line(&mut out, &json!({"undone": false, "decided_since": since}))?;
            }
            OutputFormat::Table => writeln!(
                out,
                "not taken back: {} decided {} on it {}",
                later.decision.reviewer.as_str(),
                later.decision.action,
                ago(later.decision.at)
            )?,
        }
    } else if undone.is_empty() && args.format == OutputFormat::Table {
        writeln!(out, "{} has decided nothing that could be taken back", reviewer.as_str())?;
    }
    out.flush()?;
    Ok(if undone.is_empty() { ExitCode::Flagged } else { ExitCode::Clean })
}

/// The task as it stands now.
async fn tell(
    out: &mut impl io::Write,
    format: OutputFormat,
    store: &Store,
    past: &PastDecision,
) -> anyhow::Result<()> {
    let action = past.decision.action;
    let Some(detail) = store.task_detail(past.decision.task).await? else { return Ok(()) };
    match format {
        OutputFormat::Json => {
            let mut object = task_json(&detail.task);
            object.insert("undone".into(), true.into());
            object.insert("action".into(), action.as_str().into());
            json_line(out, &object.into())?;
        }
        OutputFormat::Table => {
            writeln!(out, "{}  {action} was taken back", detail.task.item.short())?;
        }
    }
    Ok(())
}
