//! `modtool audit`: read the log of everything that happened, and prove that it is whole.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::str::FromStr as _;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::OutputFormat;
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::moderation::escape::escape;
use crate::moderation::{AuditKind, ChainHash, ItemId, Timestamp};
use crate::store::{AuditRow, Store};

use super::clock::{ago, moment, rfc3339};
use super::output::{json_line, table};
use super::{UsageError, workspace};

/// So many events are read in one go.
const PAGE: u32 = 1000;

/// Read the audit log, or prove that it is whole
#[derive(Debug, Args)]
pub(super) struct AuditArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show the last events
    List(ListArgs),
    /// Seal everything again and compare; exit code 1 when it does not hold
    ///
    /// Every event is sealed with the hash of all before it, so a changed, missing or swapped event
    /// is found. A tail that was cut off can only be found with an anchor (the last event's number
    /// and hash, printed at the end) that was kept where whoever cuts can't reach it.
    Verify(VerifyArgs),
    /// Write all events, one JSON object a line
    Export(ExportArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    /// At most so many, the latest
    #[arg(short = 'n', long, default_value_t = 30)]
    count: u32,

    /// Only this kind of event; give several for more
    #[arg(long, value_name = "KIND", value_parser = kind_argument)]
    kind: Vec<AuditKind>,

    /// Only events since then: 2026-10-01, or an age such as 30d
    #[arg(long, value_name = "WHEN", value_parser = since_argument)]
    since: Option<Timestamp>,

    /// Form of what is printed
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
}

#[derive(Debug, Args)]
struct VerifyArgs {
    /// An anchor that an earlier `audit verify` printed: NUMBER:HASH
    #[arg(long, value_name = "ANCHOR", value_parser = anchor_argument)]
    anchor: Option<(i64, ChainHash)>,

    /// Form of what is printed
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
}

#[derive(Debug, Args)]
struct ExportArgs {
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

fn kind_argument(text: &str) -> Result<AuditKind, UsageError> {
    AuditKind::parse(text).ok_or_else(|| {
        let known: Vec<_> = AuditKind::ALL.iter().map(|kind| kind.as_str()).collect();
        UsageError(format!("{text:?} is no kind of event; it is one of {}", known.join(", ")))
    })
}

fn since_argument(text: &str) -> Result<Timestamp, UsageError> {
    moment(text).ok_or_else(|| UsageError(format!("{text:?} is no time; write 2026-10-01 or 30d")))
}

fn anchor_argument(text: &str) -> Result<(i64, ChainHash), UsageError> {
    let refused = || UsageError(format!("{text:?} is no anchor; it looks like 412:9f86d0…"));
    let (number, hash) = text.trim().split_once(':').ok_or_else(refused)?;
    let number = number.parse().ok().filter(|number| *number > 0).ok_or_else(refused)?;
    // Both are 64 digits.
    let hash = ItemId::from_str(hash).map_err(|_digits| refused())?;
    Ok((number, ChainHash(*hash.as_bytes())))
}

pub(super) async fn run(args: &AuditArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let store = workspace::existing_store(config).await?;
    match &args.what {
        What::List(args) => list(args, &store).await,
        What::Verify(args) => verify(args, &store).await,
        What::Export(args) => export(args, &store).await,
    }
}

async fn list(args: &ListArgs, store: &Store) -> anyhow::Result<ExitCode> {
    let last = store.last_audit_event().await?;
    let wanted = |row: &AuditRow| {
        (args.kind.is_empty() || args.kind.contains(&row.event.kind))
            && args.since.is_none_or(|since| row.event.at >= since)
    };
    // Backwards page by page, until there are enough.
    let mut found: Vec<AuditRow> = Vec::new();
    let mut end = last;
    while end > 0 && found.len() < args.count as usize {
        let after = (end - i64::from(PAGE)).max(0);
        let page = store.audit_events(after, PAGE).await?;
        let matching = page.into_iter().filter(|row| row.sequence <= end && wanted(row));
        found.extend(matching.collect::<Vec<_>>().into_iter().rev());
        end = after;
    }
    found.truncate(args.count as usize);
    found.reverse();
    let mut out = io::stdout().lock();
    if args.format == OutputFormat::Json {
        for row in &found {
            json_line(&mut out, &json_of(row))?;
        }
        return Ok(ExitCode::Clean);
    }
    let row = |row: &AuditRow| {
        vec![
            row.sequence.to_string(),
            ago(row.event.at),
            row.event.kind.to_string(),
            escape(row.event.actor.as_bytes()),
            escape(row.detail.as_deref().unwrap_or("(erased)").as_bytes()),
        ]
    };
    let rows: Vec<_> = found.iter().map(row).collect();
    table(&mut out, &["event", "when", "what", "who", "particulars"], &rows)?;
    Ok(ExitCode::Clean)
}

async fn verify(args: &VerifyArgs, store: &Store) -> anyhow::Result<ExitCode> {
    let verified = store.verify_audit(args.anchor).await?;
    let mut out = io::stdout().lock();
    let anchored = args.anchor.is_some();
    match (args.format, verified) {
        (OutputFormat::Json, Ok(chain)) => {
            let line = json!({
                "whole": true,
                "events": chain.events,
                "erased": chain.erased,
                "anchor": format!("{}:{}", chain.sequence, ItemId::from_bytes(chain.hash.0)),
                "checked_against_anchor": anchored,
            });
            json_line(&mut out, &line)?;
            Ok(ExitCode::Clean)
        }
        (OutputFormat::Json, Err(broken)) => {
            json_line(&mut out, &json!({"whole": false, "why": broken.to_string()}))?;
            Ok(ExitCode::Flagged)
        }
        (OutputFormat::Table, Ok(chain)) => {
            writeln!(out, "{} events, and the chain holds", chain.events)?;
            if chain.erased > 0 {
                writeln!(
                    out,
                    "{} of them had their particulars erased, as `erased` events in the chain say",
                    chain.erased
                )?;
            }
            if !anchored {
                writeln!(
                    out,
                    "Without an anchor this can't tell whether events were cut off at the end, or \
                     whether somebody who can write the database rewrote all of it."
                )?;
            }
            let hash = ItemId::from_bytes(chain.hash.0);
            writeln!(
                out,
                "anchor, to keep elsewhere and give to --anchor later:\n{}:{hash}",
                chain.sequence
            )?;
            Ok(ExitCode::Clean)
        }
        (OutputFormat::Table, Err(broken)) => {
            writeln!(out, "the chain does NOT hold: {broken}")?;
            Ok(ExitCode::Flagged)
        }
    }
}

async fn export(args: &ExportArgs, store: &Store) -> anyhow::Result<ExitCode> {
    let mut out: Box<dyn Write> = match &args.output {
        Some(path) => Box::new(BufWriter::new(
            std::fs::File::create(path)
                .with_context(|| format!("can't write {}", path.display()))?,
        )),
        None => Box::new(BufWriter::new(io::stdout())),
    };
    let mut after = 0;
    loop {
        let page = store.audit_events(after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.sequence;
        for row in &page {
            json_line(&mut out, &json_of(row))?;
        }
    }
    out.flush()?;
    Ok(ExitCode::Clean)
}

/// With what the chain holds, so that the export itself can be verified.
fn json_of(row: &AuditRow) -> Value {
    let detail = row.detail.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok());
    json!({
        "sequence": row.sequence,
        "at": rfc3339(row.event.at),
        "at_ms": row.event.at.0,
        "kind": row.event.kind.as_str(),
        "actor": row.event.actor,
        "detail": detail,
        "chained": row.event.detail,
        "hash": ItemId::from_bytes(row.hash.0).to_string(),
    })
}
