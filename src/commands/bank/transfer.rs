//! `modtool bank import` and `export`: lists of PDQ hashes, a line a hash, as `ThreatExchange`
//! tools exchange them.

use std::fs::File;
use std::io::{self, BufWriter, Read as _, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

use crate::cli::OutputFormat;
use crate::commands::{UsageError, workspace};
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::moderation::escape::{escape_path, is_unprintable};
use crate::moderation::perceptual::digits;
use crate::moderation::{BankSource, BankState};
use crate::store::{BankFilter, NewEntry};

use super::add::{Asking, add};
use super::{Choice, Entries, known_policies, list_file};

/// A list may hold some millions of hashes, and no more.
const MOST_BYTES: u64 = 512 << 20;

/// Take a list of PDQ hashes: a line a hash of 64 hexadecimal digits
///
/// After the hash its quality may stand, with a comma; those below 50 are left out. Says first
/// which pictures of the history match, and asks. Taking the same list again adds what is new.
#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// The file; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// The list's name, to switch it as a whole [default: the file's name]
    #[arg(long, value_name = "NAME")]
    list: Option<String>,

    /// What it says about twins
    #[arg(long, value_enum, default_value = "remove")]
    action: Choice,

    /// The policy that it speaks for; only that one can inherit from it
    #[arg(long, value_name = "ID")]
    reason: Option<String>,

    #[command(flatten)]
    asking: Asking,
}

/// Print the hashes of what people removed here, a line a hash
///
/// Only entries that are on, and not those of other people's lists.
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// What was removed, or approved
    #[arg(long, value_enum, default_value = "remove")]
    action: Choice,

    /// This list instead of what was decided here
    #[arg(long, value_name = "NAME")]
    list: Option<String>,

    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) async fn import(args: ImportArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let store = workspace::existing_store(config).await?;
    let name = list_name(args.list.as_deref(), &args.file)?;
    let policies = known_policies(args.reason.as_deref(), config)?;
    let text = read(&args.file)?;
    let list = list_file::parse(&text)
        .map_err(|told| UsageError(format!("{}: {told}", escape_path(&args.file))))?;
    if args.asking.format == OutputFormat::Table {
        let mut out = io::stdout().lock();
        write!(out, "{name}: {} hashes", list.hashes.len())?;
        if list.repeated > 0 {
            write!(out, ", {} lines repeat one", list.repeated)?;
        }
        if list.poor > 0 {
            write!(out, ", {} of poor quality left out", list.poor)?;
        }
        writeln!(out)?;
    }
    if list.hashes.is_empty() {
        return Err(UsageError(format!("{} holds no hash", escape_path(&args.file))).into());
    }
    let entry = |hash: &[u8; 32]| NewEntry {
        source: BankSource::List,
        action: args.action.action(),
        item: None,
        looks: Some(*hash),
        policies: policies.clone(),
        list: Some(name.clone()),
        note: None,
    };
    let entries: Vec<_> = list.hashes.iter().map(entry).collect();
    add(&store, &entries, &args.asking, config).await
}

fn list_name(given: Option<&str>, file: &Path) -> Result<String, UsageError> {
    let stem = file.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let name = match given {
        Some(name) => name.trim().to_owned(),
        None => stem.filter(|stem| stem != "-").unwrap_or_default(),
    };
    let fits = (1..=64).contains(&name.chars().count()) && !name.chars().any(is_unprintable);
    if fits {
        Ok(name)
    } else {
        Err(UsageError("say with --list how the list is called, in 1 to 64 characters".to_owned()))
    }
}

fn read(file: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let from: Box<dyn io::Read> = if file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(file).with_context(|| format!("can't open {}", escape_path(file)))?)
    };
    let read = from.take(MOST_BYTES + 1).read_to_string(&mut text);
    read.with_context(|| format!("can't read {} as text", escape_path(file)))?;
    anyhow::ensure!(text.len() as u64 <= MOST_BYTES, "{} is too long", escape_path(file));
    Ok(text)
}

pub(super) async fn export(args: &ExportArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let store = workspace::existing_store(config).await?;
    let filter = BankFilter {
        action: Some(args.action.action()),
        state: Some(BankState::On),
        list: args.list.clone(),
    };
    let mut hashes = Vec::new();
    let mut entries = Entries::of(&store, filter);
    while let Some(page) = entries.next().await? {
        let ours = page.iter().filter(|entry| args.list.is_some() || entry.list.is_none());
        hashes.extend(ours.filter_map(|entry| entry.looks));
    }
    hashes.sort_unstable();
    hashes.dedup();
    let mut out: Box<dyn Write> = match &args.output {
        Some(path) => Box::new(BufWriter::new(
            File::create(path).with_context(|| format!("can't write {}", escape_path(path)))?,
        )),
        None => Box::new(BufWriter::new(io::stdout())),
    };
    for hash in &hashes {
        writeln!(out, "{}", digits(hash))?;
    }
    out.flush()?;
    Ok(ExitCode::Clean)
}
