//! `modtool backup` and `modtool restore-backup`: a copy of the database, and taking it back.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;

use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::moderation::escape::escape_path;
use crate::store::{CopyFacts, Store, StoreError, check_copy, fold};

use super::clock::stamp;
use super::{status, vectors, workspace};

/// Write a copy of the database to a file, while the watcher runs
///
/// The copy is one file, consistent as of one moment, and checked before it gets its name. It
/// holds everything that was judged and decided; not the pictures, the policies and modtool.yaml.
/// `modtool restore-backup FILE` takes it back.
#[derive(Debug, Args)]
pub(super) struct BackupArgs {
    /// The copy; must not exist yet
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Take a copy of the database back
///
/// Refuses while a watcher or a dashboard runs. The database that is there is kept under another
/// name, nothing is deleted. What came in since the copy is found by the next scan; decisions
/// since then are only in the database that was kept.
#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    /// What `modtool backup` wrote
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(super) async fn run(args: &BackupArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let file = std::path::absolute(&args.file)?;
    refuse_to_overwrite(&file)?;
    let store = workspace::existing_store(config).await?;
    let part = beside(&file, &format!("part-{}", std::process::id()))?;
    let written = write_copy(&store, &part, &file).await;
    store.close().await;
    if written.is_err() {
        // It may never have been made.
        let _ = fs::remove_file(&part);
    }
    let facts = written?;
    let bytes = fs::metadata(&file)?.len();
    writeln!(
        io::stdout(),
        "wrote {} ({}, {} MiB); take it back with `modtool restore-backup`",
        escape_path(&file),
        told(facts),
        bytes.div_ceil(1 << 20)
    )?;
    Ok(ExitCode::Clean)
}

async fn write_copy(store: &Store, part: &Path, file: &Path) -> anyhow::Result<CopyFacts> {
    let name = part.to_str().context("SQLite takes only names that are UTF-8")?;
    let new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(part);
    drop(new.with_context(|| format!("can't write {}", escape_path(part)))?);
    store.back_up(name).await?;
    let facts = check_copy(part, file).await?;
    settle_under(part, file)?;
    Ok(facts)
}

pub(super) async fn restore(args: &RestoreArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let database = config.database();
    if database.exists() {
        refuse_while_watched(config).await?;
    }
    // Nobody can know the name, and none that exists is taken.
    let part = beside(&database, &format!("restoring-{:016x}", RandomState::new().hash_one(())))?;
    let placed = place(&args.file, &part, &database).await;
    if placed.is_err() {
        // It may never have been made.
        let _ = fs::remove_file(&part);
    }
    let (facts, kept) = placed?;
    // Brings an older copy up to date, and shows that it opens.
    Store::open(&database).await?.close().await;
    // Their rows are numbered by the database that was there.
    vectors::forget(config)
        .context("what searches use belongs to the database before; delete the folder vectors/")?;
    let mut out = io::stdout();
    writeln!(out, "restored {} ({})", escape_path(&database), told(facts))?;
    if let Some(kept) = kept {
        writeln!(out, "the database before is kept as {}", escape_path(&kept))?;
    }
    writeln!(out, "what came in since the copy is found by the next `modtool watch` or `scan`")?;
    Ok(ExitCode::Clean)
}

/// Puts a copy in the database's place. What is checked is what is placed: a file of ours, which
/// nobody else can change any more. Answers what it holds, and where the database before is kept.
async fn place(
    copy: &Path,
    part: &Path,
    database: &Path,
) -> anyhow::Result<(CopyFacts, Option<PathBuf>)> {
    take_in(copy, part)?;
    let facts = check_copy(part, copy).await?;
    let kept = if database.exists() {
        fold(database).await?;
        Some(put_aside(database)?)
    } else {
        None
    };
    let renamed = fs::rename(part, database)
        .with_context(|| format!("can't write {}", escape_path(database)))
        .and_then(|()| sync_folder(database));
    if renamed.is_err()
        && let Some(kept) = &kept
    {
        // What was there must be there again.
        put_back(kept, database);
    }
    renamed?;
    Ok((facts, kept))
}

/// Copies a file, opened once, into a new one of ours.
fn take_in(copy: &Path, part: &Path) -> anyhow::Result<()> {
    // Opening a pipe would wait for somebody who writes.
    if !copy.is_file() {
        bail!(
            "there is no file {}; give the path of a copy that `modtool backup` made",
            escape_path(copy)
        );
    }
    let unreadable = || format!("can't read {}", escape_path(copy));
    let mut from = File::open(copy).with_context(unreadable)?;
    let new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(part);
    let unwritable = || format!("can't write {}", escape_path(part));
    let mut to = new.with_context(unwritable)?;
    io::copy(&mut from, &mut to)
        .with_context(|| format!("can't copy {} to {}", escape_path(copy), escape_path(part)))?;
    to.sync_all().with_context(unwritable)
}

fn told(facts: CopyFacts) -> String {
    let CopyFacts { items, sightings, decisions, audit_events } = facts;
    format!(
        "{sightings} uploads of {items} pictures, {decisions} decisions, {audit_events} audit events"
    )
}

fn refuse_to_overwrite(file: &Path) -> anyhow::Result<()> {
    if fs::symlink_metadata(file).is_ok() {
        bail!("{} exists already; a backup never overwrites, name another file", escape_path(file));
    }
    Ok(())
}

/// A name in the same folder, so that renaming is one step.
fn beside(file: &Path, ending: &str) -> anyhow::Result<PathBuf> {
    let mut name = file.file_name().context("this names no file")?.to_owned();
    name.push(".");
    name.push(ending);
    Ok(file.with_file_name(name))
}

/// Gives a finished file its name, for good: its bytes first, then the name.
fn settle_under(part: &Path, file: &Path) -> anyhow::Result<()> {
    File::open(part)?.sync_all()?;
    // A hard link never replaces what came there meanwhile.
    match fs::hard_link(part, file) {
        Ok(()) => fs::remove_file(part)?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => refuse_to_overwrite(file)?,
        // A file system without hard links.
        Err(_) => {
            refuse_to_overwrite(file)?;
            fs::rename(part, file)?;
        }
    }
    sync_folder(file)
}

fn sync_folder(file: &Path) -> anyhow::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    Ok(File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?)
}

async fn refuse_while_watched(config: &Config) -> anyhow::Result<()> {
    let beats = async {
        let store = Store::open(&config.database()).await?;
        let beats = store.watcher_beats().await;
        store.close().await;
        beats
    };
    // A damaged database is just why somebody restores.
    let beats: Result<_, StoreError> = beats.await;
    for beat in beats.unwrap_or_default() {
        if status::is_running(&beat) {
            bail!("a watcher of {} runs (pid {}); end it first", escape_path(&beat.root), beat.pid);
        }
    }
    Ok(())
}

/// The database and what SQLite may keep beside it.
const JOURNALS: [&str; 4] = ["", "-wal", "-shm", "-journal"];

/// Renames the database and whatever journals are left; they belong together.
fn put_aside(database: &Path) -> anyhow::Result<PathBuf> {
    let kept = beside(database, &format!("before-restore-{}", stamp()))?;
    refuse_to_overwrite(&kept)?;
    for ending in JOURNALS {
        let (from, to) = (with_ending(database, ending), with_ending(&kept, ending));
        if from.exists() {
            fs::rename(&from, &to).with_context(|| format!("can't keep {}", escape_path(&from)))?;
        }
    }
    Ok(kept)
}

fn put_back(kept: &Path, database: &Path) {
    for ending in JOURNALS {
        // Those that were not there can't be renamed.
        let _ = fs::rename(with_ending(kept, ending), with_ending(database, ending));
    }
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}
