//! `modtool quarantine`, `restore` and `purge`: what was removed or is held, back, or gone for ever.

use std::io::{self, BufRead as _, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Value, json};

use crate::cli::OutputFormat;
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::moderation::escape::{escape, escape_path};
use crate::moderation::{Action, Timestamp};
use crate::pipeline::{Carried, PATIENCE};
use crate::store::{Place, Quarantined, Store};

use super::clock::{age, ago, now, rfc3339};
use super::output::{json_line, path_json, table};
use super::{UsageError, workspace};

/// List what people removed and what is held until someone decides
#[derive(Debug, Args)]
pub(super) struct QuarantineArgs {
    /// Form of what is printed
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
}

/// Put a removed file back under its name, never over another file
///
/// The decision to remove it stands, so it comes to a person again when a watcher sees it.
#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    /// The path where it lay, or the first digits of its hash
    #[arg(value_name = "ITEM|PATH")]
    what: PathBuf,

    /// Put it here instead
    #[arg(long, value_name = "PATH")]
    to: Option<PathBuf>,
}

/// Delete for ever what people removed some time ago
///
/// Says first what it would do, and asks. What is only held, and what nobody decided, stays.
#[derive(Debug, Args)]
pub(super) struct PurgeArgs {
    /// Only what was removed longer ago: 30d, 12h
    #[arg(long, value_name = "AGE", value_parser = age_argument)]
    older_than: i64,

    /// Don't ask
    #[arg(long)]
    yes: bool,

    /// Only say what would be deleted
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,

    /// Form of what is printed
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
}

fn age_argument(text: &str) -> Result<i64, UsageError> {
    age(text).ok_or_else(|| UsageError(format!("{text:?} is no age; write 30d, 12h or 2w")))
}

pub(super) async fn list(args: &QuarantineArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let store = workspace::existing_store(config).await?;
    let (inside, stuck) = (store.quarantined().await?, store.stuck_placements().await?);
    let noted = store.noted_placements().await?;
    let mut out = io::stdout().lock();
    if args.format == OutputFormat::Json {
        for one in &inside {
            json_line(&mut out, &json_of(one))?;
        }
        for one in stuck.iter().filter(|one| !inside.contains(one)).chain(&noted) {
            json_line(&mut out, &json_of(one))?;
        }
        return Ok(ExitCode::Clean);
    }
    if inside.is_empty() {
        writeln!(out, "the quarantine is empty")?;
    } else {
        table(&mut out, &["item", "since", "why", "bytes", "path"], &rows(&inside))?;
    }
    if !stuck.is_empty() {
        writeln!(out, "\ncould not be moved as wanted; it is tried again:")?;
        for one in &stuck {
            let problem = one.problem.as_deref().unwrap_or_default();
            let path = escape_path(&one.placement.sighting.path);
            writeln!(out, "  {path}: {}", escape(problem.as_bytes()))?;
        }
    }
    if !noted.is_empty() {
        writeln!(out, "\nrestored, but not all that belonged to the file could be given back:")?;
        for one in &noted {
            let note = one.note.as_deref().unwrap_or_default();
            let path = escape_path(&one.placement.sighting.path);
            writeln!(out, "  {path}: {}", escape(note.as_bytes()))?;
        }
    }
    Ok(ExitCode::Clean)
}

pub(super) async fn restore(args: &RestoreArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let store = Arc::new(workspace::existing_store(config).await?);
    let text = args.what.to_string_lossy().to_lowercase();
    let path = std::path::absolute(&args.what)?;
    let digits = text.len() >= 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let inside = store.quarantined().await?;
    let found: Vec<&Quarantined> = inside
        .iter()
        .filter(|one| {
            let item = one.placement.item.to_string();
            same_place(&one.placement.sighting.path, &path) || (digits && item.starts_with(&text))
        })
        .collect();
    let Some(first) = found.first() else {
        bail!(
            "the quarantine holds nothing from {}; `modtool quarantine` lists what it holds",
            escape_path(&args.what)
        );
    };
    if args.to.is_some() && found.len() > 1 {
        bail!("{} files match; name one by its path to put it elsewhere", found.len());
    }
    if first.decision.is_none() {
        bail!(
            "{} is held until someone decides; approve it in `modtool review`, and it goes back",
            escape_path(&first.placement.sighting.path)
        );
    }
    let to = args.to.as_deref().map(place_named).transpose()?;
    for one in &found {
        store.wish_back(one.placement.id, to.as_deref(), now()).await?;
    }
    carry_out(config, &store).await?;
    let mut out = io::stdout().lock();
    let mut code = ExitCode::Clean;
    for one in &found {
        let place = escape_path(to.as_deref().unwrap_or(&one.placement.sighting.path));
        let after = store.quarantined_placement(one.placement.id).await?;
        let Some(after) = after else { continue };
        match (after.placement.state, after.problem, after.note) {
            (Place::InPlace, _, None) => writeln!(out, "restored {place}")?,
            (Place::InPlace, _, Some(lost)) => {
                writeln!(out, "restored {place}, but {}", escape(lost.as_bytes()))?;
            }
            (_, Some(why), _) => {
                code = ExitCode::Failure;
                writeln!(out, "not restored: {}", escape(why.as_bytes()))?;
            }
            (_, None, _) => {
                code = ExitCode::Failure;
                writeln!(
                    out,
                    "not restored yet: another modtool is moving files; it restores {place} next"
                )?;
            }
        }
    }
    Ok(code)
}

/// The place that a person named, by the real name of its folder: what is opened later goes
/// through no link.
pub(super) fn place_named(path: &Path) -> anyhow::Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    let (folder, name) = absolute
        .parent()
        .zip(absolute.file_name())
        .with_context(|| format!("{} names no file", escape_path(path)))?;
    let folder = std::fs::canonicalize(folder)
        .with_context(|| format!("can't open the folder {}", escape_path(folder)))?;
    Ok(folder.join(name))
}

/// Carries out what is due, this command's wishes among it.
async fn carry_out(config: &Config, store: &Arc<Store>) -> anyhow::Result<Carried> {
    let actor = workspace::actor(config, store, &Arc::default())?;
    Ok(actor.carry_out_due(PATIENCE).await?)
}

/// The same path, or the same file's folder under another name.
fn same_place(known: &Path, asked: &Path) -> bool {
    let real = |path: &Path| {
        let folder = path.parent().and_then(|folder| std::fs::canonicalize(folder).ok());
        folder.zip(path.file_name().map(ToOwned::to_owned))
    };
    known == asked || (real(known).is_some() && real(known) == real(asked))
}

pub(super) async fn purge(args: &PurgeArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let store = Arc::new(workspace::existing_store(config).await?);
    let before = Timestamp(now().0 - args.older_than);
    let old: Vec<Quarantined> = store
        .quarantined()
        .await?
        .into_iter()
        .filter(|one| {
            let decided_at = one.placement.decided.as_ref().map(|(_, at)| *at);
            one.decision == Some(Action::Remove) && decided_at.is_some_and(|at| at <= before)
        })
        .collect();
    let mut out = io::stdout().lock();
    let json = args.format == OutputFormat::Json;
    if old.is_empty() {
        if !json {
            writeln!(out, "nothing was removed that long ago")?;
        }
        return Ok(ExitCode::Clean);
    }
    let bytes: u64 = old.iter().map(|one| one.placement.bytes).sum();
    if !json {
        table(&mut out, &["item", "since", "why", "bytes", "path"], &rows(&old))?;
        writeln!(out, "{} files, {} KiB: deleted for ever", old.len(), bytes.div_ceil(1024))?;
    }
    if args.dry_run {
        for one in old.iter().filter(|_| json) {
            json_line(&mut out, &json_of(one))?;
        }
        return Ok(ExitCode::Clean);
    }
    if !args.yes && !confirmed(&mut out)? {
        writeln!(out, "nothing was deleted")?;
        return Ok(ExitCode::Clean);
    }
    let mut purged = 0;
    for one in &old {
        // Somebody may have restored it, or taken the decision back, while we asked.
        if store.wish_purged(one.placement.id, before, now()).await? {
            purged += 1;
            if json {
                json_line(&mut out, &json_of(one))?;
            }
        }
    }
    let carried = carry_out(config, &store).await?;
    if !json {
        writeln!(out, "{purged} files purged")?;
    }
    Ok(if carried.failed > 0 { ExitCode::Failure } else { ExitCode::Clean })
}

/// Asks on the terminal; without one, nobody can answer.
pub(super) fn confirmed(out: &mut impl Write) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        return Err(UsageError("there is no terminal to ask; say --yes".to_owned()).into());
    }
    write!(out, "type yes to go on: ")?;
    out.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}

fn why(one: &Quarantined) -> String {
    let decided = one.placement.decided.as_ref();
    match (one.decision, decided) {
        (Some(Action::Remove), Some((reviewer, at))) => {
            format!("removed by {reviewer} {}", ago(*at))
        }
        (Some(_), Some((reviewer, _))) => format!("approved by {reviewer}; goes back"),
        _ => format!("held ({})", one.placement.policy.as_deref().unwrap_or("-")),
    }
}

fn rows(quarantined: &[Quarantined]) -> Vec<Vec<String>> {
    let row = |one: &Quarantined| {
        vec![
            one.placement.item.short(),
            ago(one.since),
            why(one),
            one.placement.bytes.to_string(),
            escape_path(&one.placement.sighting.path),
        ]
    };
    quarantined.iter().map(row).collect()
}

fn json_of(one: &Quarantined) -> Value {
    let mut object = path_json("path", &one.placement.sighting.path);
    let decided = one.placement.decided.as_ref();
    object.insert("item".into(), one.placement.item.to_string().into());
    object.insert("bytes".into(), one.placement.bytes.into());
    object.insert("since".into(), rfc3339(one.since).into());
    object.insert("state".into(), one.placement.state.as_str().into());
    object.insert("wanted".into(), one.placement.wanted.as_str().into());
    object.insert("held".into(), one.placement.held.into());
    object.insert("policy".into(), one.placement.policy.clone().into());
    object.insert("decision".into(), json!(one.decision.map(Action::as_str)));
    object.insert("reviewer".into(), json!(decided.map(|(reviewer, _)| reviewer)));
    object.insert("decided_at".into(), json!(decided.map(|(_, at)| rfc3339(*at))));
    object.insert("problem".into(), json!(one.problem));
    object.insert("not_given_back".into(), json!(one.note));
    object.into()
}
