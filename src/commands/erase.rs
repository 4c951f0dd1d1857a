//! `modtool erase`: everything personal about a picture, for ever.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use serde_json::json;

use crate::cli::OutputFormat;
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::moderation::escape::{escape, escape_path};
use crate::moderation::{ItemId, PolicyId};
use crate::pipeline;
use crate::store::Store;

use super::adapters::Adapters;
use super::clock::now;
use super::output::json_line;
use super::quarantine::{self, confirmed};
use super::{review, vectors, workspace};

/// How long others may keep the journal from being emptied.
const PATIENCE: Duration = Duration::from_secs(30);

const REMAINS: &str = "what is erased is out of the database, but may still be readable in its \
    file or journal; see below why, then run `modtool erase --finish`";

/// Erase a picture and everything personal about it
///
/// Deletes its files (in the watched folders and in quarantine), vectors, scores, names, notes and
/// hashes; a numbered tombstone stays, and the audit chain still verifies. Says first what it
/// would do, and asks. The database file is built anew, so that no remains can be read in it.
#[derive(Debug, Args)]
pub(super) struct EraseArgs {
    /// A path, or the first digits of its hash
    #[arg(value_name = "ITEM|PATH", required_unless_present = "finish")]
    what: Option<PathBuf>,

    /// Only build the database file anew, after an erasure that could not
    #[arg(long, conflicts_with_all = ["what", "yes"])]
    finish: bool,

    /// Who asks for it [default: what modtool.yaml says, else the system's user]
    #[arg(long, value_name = "NAME", env = "MODTOOL_REVIEWER")]
    reviewer: Option<String>,

    /// Don't ask
    #[arg(long)]
    yes: bool,

    /// Form of what is printed
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
}

pub(super) async fn run(args: EraseArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let store = workspace::existing_store(config).await?;
    let Some(what) = args.what else {
        return finish(store, args.format).await;
    };
    let by = review::reviewer(args.reviewer.or_else(|| config.review.reviewer.clone()))?;
    let item = item_named(&store, &what).await?;
    let erasable = store.erasable(item).await?.context("it was erased just now")?;
    let mut out = io::stdout().lock();
    let json = args.format == OutputFormat::Json;
    if !json {
        writeln!(out, "{item}")?;
        for sighting in &erasable.sightings {
            writeln!(out, "  deletes {}", escape_path(&sighting.path))?;
        }
        if erasable.quarantined {
            writeln!(out, "  deletes its file in quarantine")?;
        }
        writeln!(
            out,
            "  erases its vectors, scores, names, hashes, and the notes of {} decisions",
            erasable.decisions
        )?;
    }
    if !args.yes && !confirmed(&mut out)? {
        writeln!(out, "nothing was erased")?;
        return Ok(ExitCode::Clean);
    }
    // Nobody moves the files meanwhile; and what moved while we asked is looked up again.
    let lock = pipeline::lock_moves(&config.quarantine(), pipeline::PATIENCE);
    let lock = lock.map_err(anyhow::Error::msg)?;
    ensure!(
        lock.is_some(),
        "another modtool is moving files and does not come to an end; nothing was erased, try again"
    );
    let erasable = store.erasable(item).await?.context("it was erased just now")?;
    let unfinished = store.unfinished_moves_of(item).await?;
    // Files first: should this be interrupted, the item is still known and the command can be
    // given again.
    let files = pipeline::erase_files(&config.quarantine(), &erasable, &unfinished);
    if let Some((path, why)) = files.failed.first() {
        bail!(
            "{}: {}; nothing was erased from the database, so this can be tried again",
            escape_path(path),
            escape(why.as_bytes())
        );
    }
    let adapters = Adapters::of(config).forget(item)?;
    // Before and after: a search that runs meanwhile may copy it again as long as the store has it.
    let held = "the files in vectors/ still hold it; delete that folder";
    vectors::erase(config, erasable.number).context(held)?;
    let erased = store.erase(item, &by, now()).await?.context("it was erased just now")?;
    vectors::erase(config, erasable.number).context(held)?;
    drop(lock);
    let overwritten = store.overwrite_remains(PATIENCE).await.context(REMAINS);
    store.close().await;
    if json {
        let line = json!({
            "tombstone": erasable.number,
            "files": files.deleted,
            "files_left": files.left.iter().map(|path| escape_path(path)).collect::<Vec<_>>(),
            "embeddings": erased.embeddings,
            "names": erased.names,
            "notes": erased.notes,
            "audit_details": erased.events,
            "adapters": adapters.iter().map(PolicyId::as_str).collect::<Vec<_>>(),
        });
        json_line(&mut out, &line)?;
        return overwritten.map(|()| ExitCode::Clean);
    }
    writeln!(
        out,
        "erased: {} files, {} vectors, {} names, {} notes, {} audit details; tombstone {}",
        files.deleted,
        erased.embeddings,
        erased.names,
        erased.notes,
        erased.events,
        erasable.number
    )?;
    for path in &files.left {
        writeln!(out, "left alone, because other bytes lie there: {}", escape_path(path))?;
    }
    if !adapters.is_empty() {
        let names: Vec<&str> = adapters.iter().map(PolicyId::as_str).collect();
        writeln!(
            out,
            "struck from the lists of {}; what these learned from it stays in their numbers until \
             they are removed and learned again",
            names.join(", ")
        )?;
    }
    writeln!(out, "Backups, exports and what hooks were told are not reached from here.")?;
    overwritten.map(|()| ExitCode::Clean)
}

/// The one item that a path or the first digits of a hash name.
async fn item_named(store: &Store, what: &Path) -> anyhow::Result<ItemId> {
    let path = quarantine::place_named(what).or_else(|_| std::path::absolute(what))?;
    let found = store.find_items(&what.to_string_lossy(), &path).await?;
    match found.as_slice() {
        [] => bail!(
            "nothing is known about {}; name a path, or at least 8 digits of a hash (`modtool erase \
             --finish` ends an erasure that was interrupted)",
            escape_path(what)
        ),
        [item] => Ok(*item),
        several => {
            let several: Vec<_> = several.iter().map(ToString::to_string).collect();
            bail!("several pictures match; name one:\n  {}", several.join("\n  "));
        }
    }
}

/// What was erased before is overwritten now.
async fn finish(store: Store, format: OutputFormat) -> anyhow::Result<ExitCode> {
    let overwritten = store.overwrite_remains(PATIENCE).await.context(REMAINS);
    store.close().await;
    overwritten?;
    let mut out = io::stdout().lock();
    if format == OutputFormat::Json {
        json_line(&mut out, &json!({"finished": true}))?;
    } else {
        writeln!(out, "the database file was built anew; nothing that was erased is left in it")?;
    }
    Ok(ExitCode::Clean)
}
