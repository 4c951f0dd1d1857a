//! `modtool export`: verdicts and embeddings for other programs.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::moderation::escape::{escape, escape_path};
use crate::moderation::{Fingerprint, ReviewState};
use crate::store::{ExportedEmbedding, ExportedVerdict, Store};

use super::clock::rfc3339;
use super::output::{VerdictLine, json_line, number, policies_json, twins_json};
use super::workspace;

/// So many rows are read in one go.
const PAGE: u32 = 500;

/// Hand verdicts or embeddings to other programs
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// One row for each path where a picture was seen
    Verdicts(VerdictsArgs),
    /// The model's vectors, one row for each view of each picture
    Embeddings(EmbeddingsArgs),
}

#[derive(Debug, Args)]
struct VerdictsArgs {
    #[arg(long, value_enum, default_value_t)]
    format: VerdictFormat,

    /// Also paths whose file was replaced by another since
    #[arg(long)]
    all: bool,

    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct EmbeddingsArgs {
    #[arg(long, value_enum, default_value_t)]
    format: EmbeddingFormat,

    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// With npy: write `item view` for each row to this file
    #[arg(long, value_name = "FILE")]
    rows: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum VerdictFormat {
    /// One JSON object a line
    #[default]
    Jsonl,
    /// Comma-separated values with a head line
    Csv,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum EmbeddingFormat {
    /// One JSON object a line: item, view, vector
    #[default]
    Jsonl,
    /// A NumPy array of 32-bit floats, one row a view
    Npy,
}

pub(super) async fn run(args: &ExportArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let store = workspace::existing_store(config).await?;
    match &args.what {
        What::Verdicts(args) => verdicts(args, &store).await?,
        What::Embeddings(args) => {
            let fingerprint = workspace::model(config)?.card.fingerprint.clone();
            embeddings(args, &store, &fingerprint).await?;
        }
    }
    store.close().await;
    Ok(ExitCode::Clean)
}

fn writer(output: Option<&PathBuf>) -> anyhow::Result<Box<dyn Write>> {
    Ok(match output {
        Some(path) => Box::new(BufWriter::new(
            File::create(path).with_context(|| format!("can't write {}", path.display()))?,
        )),
        None => Box::new(BufWriter::new(io::stdout())),
    })
}

async fn verdicts(args: &VerdictsArgs, store: &Store) -> anyhow::Result<()> {
    let mut out = writer(args.output.as_ref())?;
    let mut csv = csv::Writer::from_writer(Vec::new());
    if args.format == VerdictFormat::Csv {
        csv.write_record(CSV_HEAD)?;
    }
    let mut after = 0;
    loop {
        let page = store.export_verdicts(after, args.all, PAGE).await?;
        for row in &page {
            after = row.sighting;
            match args.format {
                VerdictFormat::Jsonl => json_line(&mut out, &verdict_json(row))?,
                VerdictFormat::Csv => csv.write_record(csv_fields(row))?,
            }
        }
        csv.flush()?;
        out.write_all(csv.get_ref())?;
        csv = csv::Writer::from_writer(Vec::new());
        if page.len() < PAGE as usize {
            break;
        }
    }
    Ok(out.flush()?)
}

fn verdict_json(row: &ExportedVerdict) -> Value {
    let line = VerdictLine {
        path: &row.path,
        item: row.item,
        model: row.model.as_ref().map(|(name, fingerprint)| (name.as_str(), fingerprint)),
        outcome: row.outcome,
        reason: row.reason.as_ref(),
        policies: &row.policies,
    };
    let mut object = line.json();
    object.insert("signals".into(), json!(row.signals));
    object.insert("twins".into(), twins_json(&row.twins));
    object.insert("first_seen".into(), rfc3339(row.first_seen).into());
    object.insert("state".into(), row.state.map(ReviewState::as_str).into());
    if let Some(gone_at) = row.gone_at {
        object.insert("gone_at".into(), rfc3339(gone_at).into());
    }
    object.into()
}

const CSV_HEAD: [&str; 11] = [
    "path",
    "item",
    "model",
    "fingerprint",
    "outcome",
    "reason",
    "policies",
    "first_seen",
    "state",
    "signals",
    "twins",
];

/// The fields of the JSON form; `policies` holds the same JSON array. A name that a spreadsheet
/// would take for a formula can't come first in a cell: paths are absolute.
fn csv_fields(row: &ExportedVerdict) -> [String; 11] {
    let (name, fingerprint) =
        row.model.clone().unwrap_or((String::new(), Fingerprint(String::new())));
    let reason = row.reason.as_ref().map(ToString::to_string).unwrap_or_default();
    [
        escape_path(&row.path),
        row.item.to_string(),
        name,
        fingerprint.0,
        row.outcome.to_string(),
        escape(reason.as_bytes()),
        policies_json(&row.policies).to_string(),
        rfc3339(row.first_seen),
        row.state.map(|state| state.to_string()).unwrap_or_default(),
        json!(row.signals).to_string(),
        twins_json(&row.twins).to_string(),
    ]
}

async fn embeddings(
    args: &EmbeddingsArgs,
    store: &Store,
    fingerprint: &Fingerprint,
) -> anyhow::Result<()> {
    let mut out = writer(args.output.as_ref())?;
    let mut rows = args.rows.as_ref().map(|path| writer(Some(path))).transpose()?;
    let mut left = store.count_embeddings(fingerprint).await?;
    let mut after = 0;
    let mut head_is_due = args.format == EmbeddingFormat::Npy;
    let total = left;
    // What is added meanwhile is left out: the head of the array has named its size already.
    while left > 0 || head_is_due {
        let limit = u32::try_from(left.min(u64::from(PAGE))).unwrap_or(PAGE);
        let page = store.export_embeddings(fingerprint, after, limit).await?;
        if head_is_due {
            let dim = page.first().map_or(0, |row| row.embedding.dim());
            out.write_all(&npy_head(total, dim))?;
            head_is_due = false;
        }
        let Some(last) = page.last() else { break };
        (after, left) = (last.row, left - page.len() as u64);
        for row in &page {
            match args.format {
                EmbeddingFormat::Jsonl => json_line(&mut out, &embedding_json(row))?,
                EmbeddingFormat::Npy => {
                    for component in row.embedding.as_slice() {
                        out.write_all(&component.to_le_bytes())?;
                    }
                }
            }
            if let Some(rows) = &mut rows {
                writeln!(rows, "{} {}", row.item, row.view)?;
            }
        }
    }
    if let Some(mut rows) = rows {
        rows.flush()?;
    }
    Ok(out.flush()?)
}

fn embedding_json(row: &ExportedEmbedding) -> Value {
    let vector = row.embedding.as_slice().iter().map(|x| number(f64::from(*x)));
    json!({"item": row.item.to_string(), "view": row.view, "vector": vector.collect::<Value>()})
}

/// The head of NumPy's format 1.0: magic, version, length, a Python literal padded with spaces
/// to a multiple of 64 bytes (numpy.lib.format).
fn npy_head(rows: u64, columns: usize) -> Vec<u8> {
    let mut literal =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    let padding = 64 - (10 + literal.len() + 1) % 64;
    literal.extend(std::iter::repeat_n(' ', padding % 64));
    literal.push('\n');
    let mut head = b"\x93NUMPY\x01\x00".to_vec();
    head.extend(u16::try_from(literal.len()).unwrap_or(u16::MAX).to_le_bytes());
    head.extend(literal.as_bytes());
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_of_an_array_is_aligned_and_names_its_shape() {
        for rows in [0, 1, 12_345_678] {
            let head = npy_head(rows, 256);
            assert_eq!(head.len() % 64, 0);
            assert_eq!(usize::from(u16::from_le_bytes([head[8], head[9]])), head.len() - 10);
            let text = String::from_utf8_lossy(&head[10..]).into_owned();
            assert!(text.contains(&format!("({rows}, 256)")) && text.ends_with('\n'));
        }
    }
}
