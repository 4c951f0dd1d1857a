//! `modtool model list`.

use std::io;
use std::path::Path;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::OutputFormat;
use crate::commands::output::{json_line, path_json, table};
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::moderation::escape::escape;
use crate::vision::ModelCard;
use crate::vision::model::{self, describe};

use super::folder;

/// List the models that this machine has
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Form of what is printed
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
}

struct Row {
    name: String,
    card: Result<ModelCard, String>,
    bytes: u64,
    path: Option<std::path::PathBuf>,
}

pub(super) fn run(args: &ListArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let builtin = model::builtin()?;
    let mut rows = vec![Row {
        name: "builtin".to_owned(),
        card: Ok(builtin.card),
        bytes: model::builtin::SIZE,
        path: None,
    }];
    for (name, path) in folder(config).list() {
        let described = describe(&path);
        let bytes = described
            .as_ref()
            .map_or(0, |(_, files)| files.keys().map(|name| size_of(&path.join(name))).sum());
        let card = described.map(|(card, _)| card).map_err(|error| error.to_string());
        rows.push(Row { name, card, bytes, path: Some(path) });
    }
    match args.format {
        OutputFormat::Json => {
            let mut out = io::stdout().lock();
            rows.iter().try_for_each(|row| json_line(&mut out, &json_of(row, config)))?;
        }
        OutputFormat::Table => print(&rows, config)?,
    }
    Ok(ExitCode::Clean)
}

/// Bytes of a file; 0 when it is not there.
pub(super) fn size_of(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |meta| meta.len())
}

fn json_of(row: &Row, config: &Config) -> Value {
    let card = row.card.as_ref().ok();
    let mut object = match &row.path {
        Some(path) => path_json("path", path),
        None => serde_json::Map::new(),
    };
    let fields = json!({
        "name": row.name,
        "in_use": row.name == config.model,
        "kind": card.map(|card| card.kind.as_str()),
        "dimensions": card.map(|card| card.embedding_dim),
        "pixels": card.map(|card| card.image.size),
        "bytes": row.bytes,
        "licence": card.and_then(|card| card.licence.clone()),
        "source": card.and_then(|card| card.source.clone()),
        "fingerprint": card.map(|card| card.fingerprint.0.clone()),
        "problem": row.card.as_ref().err(),
    });
    if let Value::Object(fields) = fields {
        object.extend(fields);
    }
    object.into()
}

fn print(rows: &[Row], config: &Config) -> io::Result<()> {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let mark = if row.name == config.model { "●" } else { "" };
            let mut cells = vec![mark.to_owned(), row.name.clone()];
            match &row.card {
                Ok(card) => cells.extend([
                    card.kind.to_string(),
                    format!("{} px", card.image.size),
                    card.embedding_dim.to_string(),
                    megabytes(row.bytes),
                    escape(card.licence.as_deref().unwrap_or("-").as_bytes()),
                ]),
                Err(problem) => cells.push(escape(problem.as_bytes())),
            }
            cells
        })
        .collect();
    let head = ["", "model", "kind", "picture", "dimensions", "size", "licence"];
    table(&mut io::stdout().lock(), &head, &rows)
}

/// Bytes for people.
pub(super) fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes.div_ceil(1_000_000))
}
