//! `modtool bank add`: bans or clears a picture by hand, after showing what it touches.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};

use crate::cli::OutputFormat;
use crate::commands::clock::now;
use crate::commands::output::{json_line, path_json, table};
use crate::commands::quarantine::confirmed;
use crate::commands::{queue, review, workspace};
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::moderation::escape::escape_path;
use crate::moderation::{
    Action, Bank, BankKey, BankSource, FoundItem, ItemId, PerceptualHash, PolicyId, Uploader,
};
use crate::store::{Added, Looked, NewEntry, Store, Touched};

use super::{Choice, known_policies, short};

/// Items that are looked at in one go.
const PAGE: u32 = 2000;
/// So many matches are listed before the question.
const LISTED: usize = 20;

/// Ban a picture, or clear one, whether anything flagged it or not
///
/// Says first which pictures of the history match it, and asks. Those that were let through then
/// wait for a person; nothing is moved or deleted by this.
#[derive(Debug, Args)]
pub(super) struct AddArgs {
    /// An item's id (the first six digits will do), or the path of a file, also of one that was
    /// never judged
    #[arg(value_name = "ITEM|PATH")]
    item: PathBuf,

    /// What it says about its twins
    #[arg(long, value_enum, default_value = "remove")]
    action: Choice,

    /// The policy that it speaks for; only that one can inherit from it
    #[arg(long, value_name = "ID")]
    reason: Option<String>,

    /// A note for those who see the entry
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,

    #[command(flatten)]
    asking: Asking,
}

/// Who adds, and whether they are asked.
#[derive(Debug, Args)]
pub(super) struct Asking {
    /// Who adds it [default: what modtool.yaml says, else the system's user]
    #[arg(long, value_name = "NAME", env = "MODTOOL_REVIEWER")]
    pub reviewer: Option<String>,

    /// Don't ask
    #[arg(long)]
    pub yes: bool,

    /// Only say what it would touch
    #[arg(long, conflicts_with = "yes")]
    pub dry_run: bool,

    /// Form of what is printed
    #[arg(long, value_enum, default_value_t)]
    pub format: OutputFormat,
}

pub(super) async fn run(args: AddArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let store = workspace::existing_store(config).await?;
    let named = named(&args.item, &store, config).await?;
    let mut policies = known_policies(args.reason.as_deref(), config)?;
    if policies.is_empty() && args.action == Choice::Approve {
        // What is cleared is cleared for what is looked for now; a later policy asks again.
        policies = workspace::policies(config)?.iter().map(|file| file.policy.id.clone()).collect();
    }
    let entry = NewEntry {
        source: BankSource::Hand,
        action: args.action.action(),
        item: Some(named.item),
        looks: named.looks.filter(PerceptualHash::is_telling).map(|looks| *looks.upright()),
        policies,
        list: None,
        note: args.note.filter(|note| !note.trim().is_empty()),
    };
    if args.asking.format == OutputFormat::Table {
        let mut out = io::stdout().lock();
        writeln!(out, "{}", named.item)?;
        if entry.looks.is_none() {
            writeln!(
                out,
                "  shows too little to be known by its looks: only the same bytes match"
            )?;
        }
    }
    add(&store, &[entry], &args.asking, config).await
}

/// What is to be added, known or not.
struct Named {
    item: ItemId,
    looks: Option<PerceptualHash>,
}

async fn named(name: &Path, store: &Store, config: &Config) -> anyhow::Result<Named> {
    let unknown_file = name.is_file() && queue::item_at(store, name).await?.is_none();
    if unknown_file && queue::item_by_digits(store, name).await?.is_none() {
        return from_file(name, config).await;
    }
    let item = queue::named(store, &[name.to_owned()]).await?;
    let item = *item.first().context("one name is one item")?;
    let looks = store.looks_of(item).await?.and_then(|looked| looked.looks);
    Ok(Named { item, looks })
}

/// A file that was never judged is decoded as an upload is.
async fn from_file(path: &Path, config: &Config) -> anyhow::Result<Named> {
    let decoders = workspace::decoders(config)?;
    let limit = decoders.limits().file_bytes;
    let named = workspace::named(config, &[path.to_owned()]).await;
    let file = named.files().next().context("one name is one file")?;
    let bytes = named.bytes(&file, limit);
    let bytes = bytes.with_context(|| format!("can't read {}", escape_path(path)))?;
    let spec = workspace::model(config)?.card.image;
    let views = decoders.views(&bytes, &spec, &Uploader::Operator)?;
    let views = views.with_context(|| format!("{} is no picture", escape_path(path)))?;
    Ok(Named { item: ItemId::of_bytes(&bytes), looks: views.facts.hash })
}

/// Shows what the entries touch, asks, and adds them.
pub(super) async fn add(
    store: &Store,
    entries: &[NewEntry],
    asking: &Asking,
    config: &Config,
) -> anyhow::Result<ExitCode> {
    let by = review::reviewer(asking.reviewer.clone().or_else(|| config.review.reviewer.clone()))?;
    let touched = touched(store, entries).await?;
    let numbers: Vec<i64> = touched.iter().map(|one| one.number).collect();
    let mut items = Vec::with_capacity(numbers.len());
    for some in numbers.chunks(PAGE as usize) {
        items.extend(store.found_items(some).await?);
    }
    let action = entries.first().map_or(Action::Remove, |entry| entry.action);
    let mut out = io::stdout().lock();
    let is_json = asking.format == OutputFormat::Json;
    if !is_json {
        print_touched(&mut out, action, &touched, &items)?;
    }
    if asking.dry_run {
        for (one, item) in touched.iter().zip(&items).filter(|_| is_json) {
            json_line(&mut out, &touched_json(one, item, action))?;
        }
        return Ok(ExitCode::Clean);
    }
    if !asking.yes && !confirmed(&mut out)? {
        writeln!(out, "nothing was added")?;
        return Ok(ExitCode::Clean);
    }
    let added = store.add_to_bank(entries, &touched, &by, now()).await?;
    if is_json {
        json_line(&mut out, &added_json(entries, &added, touched.len()))?;
    } else {
        print_added(&mut out, &added)?;
    }
    Ok(ExitCode::Clean)
}

/// The stored items that the entries match, each once with its likest entry, by number.
async fn touched(store: &Store, entries: &[NewEntry]) -> anyhow::Result<Vec<Touched>> {
    let mut bank = Bank::default();
    for (id, entry) in (0_i64..).zip(entries) {
        bank.put(BankKey {
            id,
            action: entry.action,
            acts: false,
            bytes: entry.item,
            looks: entry.looks,
            since: 0,
            policies: Vec::new(),
        });
    }
    let bar = progress(store.count_items(0).await?);
    let mut found = Vec::new();
    let mut after = 0;
    loop {
        let page = store.looked_at(after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.number;
        let of = |looked: &Looked| {
            let matches = bank.matches(looked.item, looked.looks.as_ref());
            let likest = matches.first()?;
            let entry = usize::try_from(likest.key.id).ok()?;
            Some(Touched { number: looked.number, entry, likeness: likest.likeness })
        };
        tokio::task::block_in_place(|| found.extend(page.iter().filter_map(of)));
        bar.inc(page.len() as u64);
    }
    bar.finish_and_clear();
    Ok(found)
}

fn progress(items: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {pos} of {len} items · {eta} left");
    ProgressBar::new(items).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// What becomes of a stored item that matches.
fn becomes(item: &FoundItem, action: Action) -> &'static str {
    match (item.decision, item.task, &item.path) {
        (_, Some(_), _) => "waits already; the match is shown",
        (Some(Action::Remove), ..) => "was removed; nothing changes",
        (_, _, None) => "lies nowhere now; nothing changes",
        _ if action != Action::Remove => "nothing changes",
        (Some(Action::Approve), ..) => "was approved; a person is asked again",
        _ => "was let through; a person is asked",
    }
}

fn print_touched(
    out: &mut impl io::Write,
    action: Action,
    touched: &[Touched],
    items: &[FoundItem],
) -> io::Result<()> {
    let pictures = if items.len() == 1 { "picture matches" } else { "pictures match" };
    writeln!(out, "in the history {} {pictures}", items.len())?;
    let mut likest: Vec<_> = touched.iter().zip(items).collect();
    likest.sort_by_key(|(one, _)| (one.likeness, one.number));
    let row = |(one, item): &(&Touched, &FoundItem)| {
        let path = item.path.as_deref().map_or_else(|| short(Some(item.item)), escape_path);
        vec![one.likeness.to_string(), becomes(item, action).to_owned(), path]
    };
    let rows: Vec<_> = likest.iter().take(LISTED).map(row).collect();
    if !rows.is_empty() {
        table(out, &["likeness", "what becomes of it", "picture"], &rows)?;
    }
    if likest.len() > LISTED {
        writeln!(out, "and {} more; `--dry-run --format json` lists all", likest.len() - LISTED)?;
    }
    if action == Action::Remove {
        writeln!(out, "from now on twins go to a person")?;
    } else {
        writeln!(out, "from now on the match is shown where something flags a twin")?;
    }
    Ok(())
}

fn print_added(out: &mut impl io::Write, added: &Added) -> io::Result<()> {
    match added.ids.as_slice() {
        [id] if added.known == 0 => write!(out, "added entry {id}")?,
        [id] => write!(out, "entry {id} was there already, and says this now")?,
        ids => write!(
            out,
            "added {} entries, {} were there already",
            ids.len() as u64 - added.known,
            added.known
        )?,
    }
    let wait = if added.asked == 1 { "picture waits" } else { "pictures wait" };
    writeln!(
        out,
        "; of the history {} {wait} for a person now, {} did before",
        added.asked, added.shown
    )
}

fn touched_json(touched: &Touched, item: &FoundItem, action: Action) -> Value {
    let mut object = Map::new();
    object.insert("item".into(), item.item.to_string().into());
    if let Some(path) = &item.path {
        object.extend(path_json("path", path));
    }
    object.insert("match".into(), touched.likeness.to_string().into());
    object.insert("decision".into(), item.decision.map(Action::as_str).into());
    object.insert("becomes".into(), becomes(item, action).into());
    object.into()
}

fn added_json(entries: &[NewEntry], added: &Added, touched: usize) -> Value {
    let first = entries.first();
    json!({
        "entries": added.ids.len(),
        "entry": added.ids.first().filter(|_| added.ids.len() == 1),
        "known": added.known,
        "action": first.map(|entry| entry.action.as_str()),
        "list": first.and_then(|entry| entry.list.as_deref()),
        "policies": first.map(|entry| {
            entry.policies.iter().map(PolicyId::as_str).collect::<Vec<_>>()
        }),
        "matched": touched,
        "asked": added.asked,
        "waited": added.shown,
    })
}
