//! `modtool bank`: what was decided about one picture, and lists of hashes, speak for their twins.

mod add;
mod list_file;
mod transfer;

use std::io::{self, Write as _};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::cli::OutputFormat;
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::moderation::escape::{escape, escape_path};
use crate::moderation::perceptual::digits;
use crate::moderation::{Action, BankSource, BankState, ItemId, PolicyId};
use crate::store::{BankEntry, BankFilter, BankSelection, Store};

use super::clock::{ago, now, rfc3339};
use super::output::{json_line, path_json, table};
use super::{UsageError, review, workspace};

/// So many entries are read in one go.
const PAGE: u32 = 1000;

/// What was decided about one picture speaks for its twins: see, add, switch, exchange
///
/// Every decision to remove or approve is an entry. An upload with the same bytes as a removed
/// picture, or that looks like one (PDQ, at most 31 of 256 bits differ), goes to a person with the
/// match shown; a policy that says `inherit: true` blocks it. What only looks like an approved
/// picture is never let through by that.
#[derive(Debug, Args)]
pub(super) struct BankArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show the entries and how often they matched
    List(ListArgs),
    Add(add::AddArgs),
    /// Switch entries off: they match nothing any more
    Disable(SwitchArgs),
    /// Switch entries on, also those that a flood put on hold
    Enable(SwitchArgs),
    Import(transfer::ImportArgs),
    Export(transfer::ExportArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Only what was removed, or approved
    #[arg(long, value_enum)]
    action: Option<Choice>,

    /// Only entries in this state
    #[arg(long, value_enum)]
    state: Option<StateChoice>,

    /// Only entries of this list
    #[arg(long, value_name = "NAME")]
    list: Option<String>,

    /// Form of what is printed
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
}

#[derive(Debug, Args)]
struct SwitchArgs {
    /// Numbers of entries, as `modtool bank list` shows them
    #[arg(value_name = "ENTRY", required_unless_present = "list")]
    entries: Vec<i64>,

    /// All entries of this list
    #[arg(long, value_name = "NAME", conflicts_with = "entries")]
    list: Option<String>,

    /// Who says so [default: what modtool.yaml says, else the system's user]
    #[arg(long, value_name = "NAME", env = "MODTOOL_REVIEWER")]
    reviewer: Option<String>,
}

/// What an entry says about its twins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Choice {
    /// Twins go to a person, or are blocked where a policy inherits
    Remove,
    /// Twins are fine, says a person
    Approve,
}

impl Choice {
    fn action(self) -> Action {
        match self {
            Self::Remove => Action::Remove,
            Self::Approve => Action::Approve,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StateChoice {
    /// Matches, and may act
    On,
    /// Matched a flood: matches, and acts no more
    OnHold,
    /// Switched off
    Off,
    /// Its decision was taken back
    Withdrawn,
}

impl StateChoice {
    fn state(self) -> BankState {
        match self {
            Self::On => BankState::On,
            Self::OnHold => BankState::OnHold,
            Self::Off => BankState::Off,
            Self::Withdrawn => BankState::Withdrawn,
        }
    }
}

pub(super) async fn run(args: BankArgs, config: &Config) -> anyhow::Result<ExitCode> {
    match args.what {
        What::List(args) => list(&args, config).await,
        What::Add(args) => add::run(args, config).await,
        What::Disable(args) => switch(args, BankState::Off, config).await,
        What::Enable(args) => switch(args, BankState::On, config).await,
        What::Import(args) => transfer::import(args, config).await,
        What::Export(args) => transfer::export(&args, config).await,
    }
}

async fn list(args: &ListArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let store = workspace::existing_store(config).await?;
    let filter = BankFilter {
        action: args.action.map(Choice::action),
        state: args.state.map(StateChoice::state),
        list: args.list.clone(),
    };
    let mut out = io::BufWriter::new(io::stdout());
    let mut rows = Vec::new();
    let mut entries = Entries::of(&store, filter);
    while let Some(page) = entries.next().await? {
        for entry in &page {
            match args.format {
                OutputFormat::Json => json_line(&mut out, &entry_json(entry))?,
                OutputFormat::Table => rows.push(entry_row(entry)),
            }
        }
    }
    if args.format == OutputFormat::Table {
        if rows.is_empty() {
            writeln!(out, "no such entry; decisions make entries, and so does `modtool bank add`")?;
        } else {
            let head =
                ["entry", "says", "state", "hits", "last hit", "by", "for policies", "picture"];
            table(&mut out, &head, &rows)?;
        }
    }
    out.flush()?;
    Ok(ExitCode::Clean)
}

/// The entries that fit a filter, page by page.
struct Entries<'a> {
    store: &'a Store,
    filter: BankFilter,
    after: Option<i64>,
}

impl<'a> Entries<'a> {
    fn of(store: &'a Store, filter: BankFilter) -> Self {
        Self { store, filter, after: Some(0) }
    }

    async fn next(&mut self) -> anyhow::Result<Option<Vec<BankEntry>>> {
        let Some(after) = self.after else { return Ok(None) };
        let page = self.store.bank_entries(&self.filter, after, PAGE).await?;
        let is_last = page.len() < PAGE as usize;
        self.after = page.last().filter(|_| !is_last).map(|entry| entry.id);
        Ok(Some(page))
    }
}

fn entry_row(entry: &BankEntry) -> Vec<String> {
    let by = match (&entry.list, entry.source) {
        (Some(list), _) => format!("list {}", escape(list.as_bytes())),
        (None, BankSource::Hand) => format!("{} by hand {}", entry.reviewer, ago(entry.added_at)),
        (None, _) => format!("{} {}", entry.reviewer, ago(entry.added_at)),
    };
    let policies: Vec<_> = entry.policies.iter().map(PolicyId::as_str).collect();
    let picture = match (&entry.path, entry.item, entry.looks) {
        (Some(path), ..) => escape_path(path),
        (None, Some(item), _) => item.short(),
        (None, None, Some(looks)) => digits(&looks),
        (None, None, None) => "erased".to_owned(),
    };
    let state = if entry.state == BankState::OnHold { "on hold" } else { entry.state.as_str() };
    vec![
        entry.id.to_string(),
        entry.action.to_string(),
        state.to_owned(),
        entry.hits.to_string(),
        entry.last_hit_at.map_or_else(|| "-".to_owned(), ago),
        by,
        if policies.is_empty() { "-".to_owned() } else { policies.join(", ") },
        picture,
    ]
}

fn entry_json(entry: &BankEntry) -> Value {
    let mut object = json!({
        "entry": entry.id,
        "action": entry.action.as_str(),
        "state": entry.state.as_str(),
        "source": entry.source.as_str(),
        "item": entry.item.map(|item| item.to_string()),
        "pdq": entry.looks.map(|looks| digits(&looks)),
        "policies": entry.policies.iter().map(PolicyId::as_str).collect::<Vec<_>>(),
        "reviewer": entry.reviewer,
        "list": entry.list,
        "note": entry.note,
        "added_at": rfc3339(entry.added_at),
        "hits": entry.hits,
        "last_hit_at": entry.last_hit_at.map(rfc3339),
    });
    if let (Some(path), Some(fields)) = (&entry.path, object.as_object_mut()) {
        fields.extend(path_json("path", path));
    }
    object
}

async fn switch(args: SwitchArgs, state: BankState, config: &Config) -> anyhow::Result<ExitCode> {
    let by = review::reviewer(args.reviewer.or_else(|| config.review.reviewer.clone()))?;
    let store = workspace::existing_store(config).await?;
    let which = match args.list {
        Some(list) => BankSelection::List(list),
        None => BankSelection::Entries(args.entries),
    };
    must_be_there(&store, &which).await?;
    let switched = store.switch_bank(&which, state, &by, now()).await?;
    let word = if state == BankState::On { "on" } else { "off" };
    let entries = if switched == 1 { "entry" } else { "entries" };
    writeln!(io::stdout(), "{switched} {entries} switched {word}")?;
    Ok(ExitCode::Clean)
}

/// A slip of the pen switches nothing.
async fn must_be_there(store: &Store, which: &BankSelection) -> anyhow::Result<()> {
    let refused = |what: String| {
        Err(UsageError(format!("there is no {what}; `modtool bank list` shows what is there"))
            .into())
    };
    match which {
        BankSelection::List(list) => {
            let filter = BankFilter { list: Some(list.clone()), ..BankFilter::default() };
            if store.bank_entries(&filter, 0, 1).await?.is_empty() {
                return refused(format!("list {list:?}"));
            }
        }
        BankSelection::Entries(ids) => {
            for id in ids {
                let found = store.bank_entries(&BankFilter::default(), id - 1, 1).await?;
                if found.first().is_none_or(|entry| entry.id != *id) {
                    return refused(format!("entry {id}"));
                }
            }
        }
    }
    Ok(())
}

/// The policy that an entry is to speak for; it must be there.
fn known_policies(reason: Option<&str>, config: &Config) -> anyhow::Result<Vec<PolicyId>> {
    let files = workspace::policies(config)?;
    let ids: Vec<&str> = reason.into_iter().collect();
    workspace::must_be_policies(&ids, &files)?;
    let known = files.iter().map(|file| file.policy.id.clone());
    Ok(known.filter(|id| ids.contains(&id.as_str())).collect())
}

/// How a picture is named where it has no path.
fn short(item: Option<ItemId>) -> String {
    item.map_or_else(|| "?".to_owned(), |item| item.short())
}
