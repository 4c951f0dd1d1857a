//! `modtool queue`: what waits for a person, and decisions, for scripts.

mod undo;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, Value, json};

use crate::cli::OutputFormat;
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::moderation::escape::{escape, escape_path};
use crate::moderation::{
    Action, BankSource, BankState, BankTwin, Decision, DecisionOutcome, ItemId, Likeness,
    PastDecision, PolicyId, QueueCursor, QueueFilter, QueueRows, Reason, ReviewState, ReviewTask,
    TaskDetail,
};
use crate::store::Store;

use super::clock::{ago, now, rfc3339};
use super::output::{json_line, number, path_json, policies_json, table, twins_json};
use super::{UsageError, quarantine, review, workspace};

/// So many tasks are read in one go.
const PAGE: u32 = 500;
/// Fewer digits of an item's id could mean too many items.
const FEWEST_DIGITS: usize = 6;

/// See and decide what waits, without a screen: the same rules as `modtool review`
#[derive(Debug, Args)]
pub(super) struct QueueArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// All undecided tasks, the most pressing first
    List(ListArgs),
    /// Everything that is known about items
    Show(ShowArgs),
    /// Approve, remove or escalate items; exit code 1 when one was not recorded
    Decide(DecideArgs),
    /// Take back what you decided last; exit code 1 when there is nothing to take back
    Undo(undo::UndoArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Only tasks in this state [default: open and escalated]
    #[arg(long, value_enum)]
    state: Option<State>,

    /// Only tasks that this policy flagged
    #[arg(long, value_name = "ID")]
    policy: Option<String>,

    /// Only so many [default: all]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,

    /// Form of what is printed
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum State {
    Open,
    Escalated,
    Closed,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// An item's id (the first six digits will do), or the path of a file
    #[arg(required = true, value_name = "ITEM")]
    items: Vec<PathBuf>,

    /// Form of what is printed
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
}

#[derive(Debug, Args)]
struct DecideArgs {
    /// An item's id (the first six digits will do), or the path of a file
    #[arg(required = true, value_name = "ITEM")]
    items: Vec<PathBuf>,

    /// What to decide
    #[arg(long, value_enum)]
    action: Choice,

    /// The policy that is the reason
    #[arg(long, value_name = "ID")]
    reason: Option<String>,

    /// A note that goes with the decision
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,

    /// Who signs [default: what modtool.yaml says, else the system's user]
    #[arg(long, value_name = "NAME", env = "MODTOOL_REVIEWER")]
    reviewer: Option<String>,

    /// Form of what is printed
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Choice {
    /// The picture stays
    Approve,
    /// The picture goes
    Remove,
    /// Someone else should decide
    Escalate,
}

impl Choice {
    fn action(self) -> Action {
        match self {
            Self::Approve => Action::Approve,
            Self::Remove => Action::Remove,
            Self::Escalate => Action::Escalate,
        }
    }
}

pub(super) async fn run(args: QueueArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let store = workspace::existing_store(config).await?;
    let code = match args.what {
        What::List(args) => list(&args, &store).await?,
        What::Show(args) => show(&args, &store).await?,
        What::Decide(args) => decide(args, config, &store).await?,
        What::Undo(args) => undo::run(args, config, &store).await?,
    };
    store.close().await;
    Ok(code)
}

async fn list(args: &ListArgs, store: &Store) -> anyhow::Result<ExitCode> {
    let filter = QueueFilter {
        policy: args.policy.as_deref().map(policy_id).transpose()?,
        state: args.state.map(|state| match state {
            State::Open => ReviewState::Open,
            State::Escalated => ReviewState::Escalated,
            State::Closed => ReviewState::Closed,
        }),
        rows: QueueRows::Tasks,
        ..QueueFilter::default()
    };
    let mut out = io::BufWriter::new(io::stdout());
    let mut left = args.limit.unwrap_or(usize::MAX);
    let mut after = None;
    let mut rows = Vec::new();
    while left > 0 {
        let limit = PAGE.min(u32::try_from(left).unwrap_or(PAGE));
        let page = store.queue(&filter, after, limit).await?;
        left -= page.len();
        after = page.last().map(QueueCursor::of);
        for task in &page {
            match args.format {
                OutputFormat::Json => json_line(&mut out, &task_json(task).into())?,
                OutputFormat::Table => rows.push(task_row(task)),
            }
        }
        if page.len() < limit as usize {
            break;
        }
    }
    if args.format == OutputFormat::Table {
        if rows.is_empty() {
            writeln!(out, "nothing waits")?;
        } else {
            let head = ["task", "item", "policy", "score", "outcome", "state", "waits", "path"];
            table(&mut out, &head, &rows)?;
        }
    }
    out.flush()?;
    Ok(ExitCode::Clean)
}

fn policy_id(id: &str) -> anyhow::Result<PolicyId> {
    PolicyId::new(id.to_owned()).map_err(|_refused| {
        UsageError(format!("{id:?} is no policy's id; `modtool score` shows them")).into()
    })
}

/// `{"task","item","path","policy","score","outcome","state",…}`.
fn task_json(task: &ReviewTask) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("task".into(), task.id.0.into());
    object.insert("item".into(), task.item.to_string().into());
    object.extend(path_json("path", &task.path));
    object.insert("policy".into(), task.policy.as_ref().map(PolicyId::as_str).into());
    object.insert("score".into(), task.score.map(|score| number(score.into())).into());
    object.insert("outcome".into(), task.outcome.as_str().into());
    object.insert("state".into(), task.state.as_str().into());
    object.insert("reason".into(), task.reason.as_ref().map(ToString::to_string).into());
    object.insert("severity".into(), task.severity.as_str().into());
    object.insert("opened_at".into(), rfc3339(task.opened_at).into());
    let lease = task.lease.as_ref().filter(|lease| lease.until > now());
    object.insert("leased_by".into(), lease.map(|lease| lease.reviewer.as_str()).into());
    object
}

fn task_row(task: &ReviewTask) -> Vec<String> {
    let policy = match (&task.policy, &task.reason) {
        (Some(policy), _) => policy.to_string(),
        (None, Some(Reason::Unreadable(_))) => "unreadable".to_owned(),
        (None, Some(Reason::Undecodable(_))) => "undecodable".to_owned(),
        (None, Some(Reason::Unjudged(what))) => what.clone(),
        (None, Some(Reason::LikeRemoved(_) | Reason::Inherited(_))) => "like_removed".to_owned(),
        (None, Some(reason)) => reason.to_string(),
        (None, None) => "-".to_owned(),
    };
    vec![
        task.id.0.to_string(),
        task.item.short(),
        policy,
        task.score.map_or_else(|| "-".to_owned(), |score| format!("{score:.3}")),
        task.outcome.to_string(),
        task.state.to_string(),
        ago(task.opened_at),
        escape_path(&task.path),
    ]
}

async fn show(args: &ShowArgs, store: &Store) -> anyhow::Result<ExitCode> {
    let items = named(store, &args.items).await?;
    let mut out = io::BufWriter::new(io::stdout());
    for (index, item) in items.iter().enumerate() {
        let task = store.latest_task(*item).await?;
        let detail = match &task {
            Some(task) => store.task_detail(task.id).await?,
            None => None,
        };
        match (args.format, &detail) {
            (OutputFormat::Json, Some(detail)) => {
                json_line(&mut out, &detail_json(detail).into())?;
            }
            (OutputFormat::Json, None) => json_line(
                &mut out,
                &json!({"task": null, "item": item.to_string(), "state": null}),
            )?,
            (OutputFormat::Table, Some(detail)) => {
                if index > 0 {
                    writeln!(out)?;
                }
                print_detail(&mut out, detail)?;
            }
            (OutputFormat::Table, None) => {
                writeln!(out, "{}: nothing flagged it, nobody was asked", item.short())?;
            }
        }
    }
    out.flush()?;
    Ok(ExitCode::Clean)
}

fn detail_json(detail: &TaskDetail) -> Map<String, Value> {
    let mut object = task_json(&detail.task);
    object.insert("policies".into(), policies_json(&detail.policies));
    object.insert("twins".into(), twins_json(&detail.twins));
    let paths = detail.sightings.iter().map(|sighting| path_json("path", &sighting.path).into());
    object.insert("sightings".into(), paths.collect::<Vec<Value>>().into());
    let files = detail.files.iter().map(|name| path_json("name", name).into());
    object.insert("files".into(), files.collect::<Vec<Value>>().into());
    let decisions = detail.decisions.iter().map(decision_json);
    object.insert("decisions".into(), decisions.collect::<Vec<Value>>().into());
    object
}

fn decision_json(past: &PastDecision) -> Value {
    let decision = &past.decision;
    json!({
        "action": decision.action.as_str(),
        "reviewer": decision.reviewer.as_str(),
        "reason": decision.reason.as_ref().map(PolicyId::as_str),
        "note": decision.note,
        "at": rfc3339(decision.at),
        "undone": past.undone,
    })
}

fn print_detail(out: &mut impl io::Write, detail: &TaskDetail) -> io::Result<()> {
    let task = &detail.task;
    writeln!(out, "item     {}", task.item)?;
    writeln!(out, "task     {}, {}, opened {}", task.id.0, task.state, ago(task.opened_at))?;
    if let Some(reason) = &task.reason {
        writeln!(out, "reason   {}", escape(reason.to_string().as_bytes()))?;
    }
    if let Some(lease) = task.lease.as_ref().filter(|lease| lease.until > now()) {
        writeln!(out, "open     on {}'s screen", lease.reviewer.as_str())?;
    }
    for sighting in &detail.sightings {
        writeln!(out, "path     {}", escape_path(&sighting.path))?;
    }
    for name in &detail.files {
        writeln!(out, "file     {}", escape_path(name))?;
    }
    for policy in &detail.policies {
        writeln!(
            out,
            "policy   {:<12} {:.3} {:<7} most like: {}",
            policy.policy.as_str(),
            policy.score,
            policy.outcome,
            escape(policy.prompt.as_bytes())
        )?;
    }
    for twin in &detail.twins {
        writeln!(out, "twin     {}", twin_in_words(twin))?;
    }
    for past in &detail.decisions {
        let decision = &past.decision;
        let reason = decision.reason.as_ref().map(|id| format!(" ({id})")).unwrap_or_default();
        let note = decision.note.as_ref().map(|note| format!(": {}", escape(note.as_bytes())));
        writeln!(
            out,
            "decided  {} by {} {}{reason}{}{}",
            decision.action,
            decision.reviewer.as_str(),
            ago(decision.at),
            note.unwrap_or_default(),
            if past.undone { " (taken back)" } else { "" }
        )?;
    }
    Ok(())
}

/// `the same bytes as what ana removed 3 d ago (entry 7 of the bank)`.
fn twin_in_words(twin: &BankTwin) -> String {
    let what = match twin.likeness {
        Likeness::SameBytes => "the same bytes as".to_owned(),
        Likeness::Looks(bits) => format!("looks like ({bits} of 256 bits differ)"),
    };
    let done = if twin.action == Action::Remove { "removed" } else { "approved" };
    let whose = match (&twin.list, twin.source) {
        (Some(list), _) => {
            format!("what the list {} says is to be {done}", escape(list.as_bytes()))
        }
        (None, BankSource::Hand) => {
            format!("what {} entered by hand as {done} {}", twin.reviewer, ago(twin.added_at))
        }
        (None, _) => format!("what {} {done} {}", twin.reviewer, ago(twin.added_at)),
    };
    let state = match twin.state {
        BankState::On | BankState::Withdrawn => "",
        BankState::OnHold => ", on hold",
        BankState::Off => ", switched off",
    };
    format!("{what} {whose} (entry {}{state})", twin.entry)
}

async fn decide(args: DecideArgs, config: &Config, store: &Store) -> anyhow::Result<ExitCode> {
    let reviewer = review::reviewer(args.reviewer.or_else(|| config.review.reviewer.clone()))?;
    let reason = args.reason.as_deref().map(|id| known_policy(config, id)).transpose()?;
    let note = args.note.as_deref().map(str::trim).filter(|note| !note.is_empty());
    // All are looked up first: a slip of the pen decides nothing.
    let items = named(store, &args.items).await?;
    let action = args.action.action();
    let at = now();
    let mut decisions = Vec::with_capacity(items.len());
    for item in &items {
        let task = match store.latest_task(*item).await? {
            Some(task) => Some(task.id),
            None => store.open_by_hand(*item, &reviewer, at).await?,
        };
        let task = task.with_context(|| {
            format!("item {} lies nowhere any more, so there is nothing to decide", item.short())
        })?;
        decisions.push(Decision {
            task,
            action,
            reviewer: reviewer.clone(),
            reason: reason.clone(),
            note: note.map(ToOwned::to_owned),
            at,
        });
    }
    let outcomes = store.record_decisions(&decisions).await?;
    let mut out = io::BufWriter::new(io::stdout());
    let mut all_recorded = true;
    for ((item, decision), outcome) in items.iter().zip(&decisions).zip(&outcomes) {
        all_recorded &= matches!(outcome, DecisionOutcome::Recorded(_));
        match args.format {
            OutputFormat::Json => json_line(&mut out, &outcome_json(*item, decision, outcome))?,
            OutputFormat::Table => {
                writeln!(out, "{}  {}", item.short(), in_words(action, outcome))?;
            }
        }
    }
    out.flush()?;
    Ok(if all_recorded { ExitCode::Clean } else { ExitCode::Flagged })
}

fn known_policy(config: &Config, id: &str) -> anyhow::Result<PolicyId> {
    let wanted = policy_id(id)?;
    workspace::must_be_policies(&[id], &workspace::policies(config)?)?;
    Ok(wanted)
}

fn outcome_json(item: ItemId, decision: &Decision, outcome: &DecisionOutcome) -> Value {
    let mut object = json!({
        "task": decision.task.0,
        "item": item.to_string(),
        "action": decision.action.as_str(),
        "recorded": matches!(outcome, DecisionOutcome::Recorded(_)),
    });
    let (key, why) = match outcome {
        DecisionOutcome::Recorded(id) => ("decision", id.0.into()),
        DecisionOutcome::AlreadyDecided(past) => ("already_decided", decision_json(past)),
        DecisionOutcome::Leased(lease) => ("leased_by", lease.reviewer.as_str().into()),
        DecisionOutcome::Superseded => ("superseded", true.into()),
        DecisionOutcome::NothingToRemove => ("nothing_to_remove", true.into()),
    };
    object[key] = why;
    object
}

fn in_words(action: Action, outcome: &DecisionOutcome) -> String {
    match outcome {
        DecisionOutcome::Recorded(_) => match action {
            Action::Approve => "approved".to_owned(),
            Action::Remove => "removed".to_owned(),
            Action::Escalate => "escalated".to_owned(),
        },
        DecisionOutcome::AlreadyDecided(past) => format!(
            "not recorded: {} decided {} {}",
            past.decision.reviewer.as_str(),
            past.decision.action,
            ago(past.decision.at)
        ),
        DecisionOutcome::Leased(lease) => {
            format!("not recorded: it is open on {}'s screen", lease.reviewer.as_str())
        }
        DecisionOutcome::Superseded => {
            "not recorded: its task was closed meanwhile, because the file was replaced or could be \
             read after all, or no policy flags it any more"
                .to_owned()
        }
        DecisionOutcome::NothingToRemove => {
            "not recorded: modtool removes no files that it did not judge; delete them yourself, \
             then approve"
                .to_owned()
        }
    }
}

/// The items that were named, by id, by the first digits of one, or by path.
pub(super) async fn named(store: &Store, names: &[PathBuf]) -> anyhow::Result<Vec<ItemId>> {
    let mut items = Vec::with_capacity(names.len());
    for name in names {
        let item = match name.to_str().and_then(ids_beginning_with) {
            Some((first, last)) => by_digits(store, name, first, last).await?,
            None => by_path(store, name).await?,
        };
        if !items.contains(&item) {
            items.push(item);
        }
    }
    Ok(items)
}

async fn by_digits(
    store: &Store,
    name: &Path,
    first: ItemId,
    last: ItemId,
) -> anyhow::Result<ItemId> {
    let found = store.items_between(first, last, 2).await?;
    match found.as_slice() {
        [item] => Ok(*item),
        [] if name.exists() => by_path(store, name).await,
        [] => Err(UsageError(format!(
            "no item's id begins with {}; `modtool queue list` shows them",
            escape_path(name)
        ))
        .into()),
        _ => Err(UsageError(format!(
            "more than one item's id begins with {}; give more digits",
            escape_path(name)
        ))
        .into()),
    }
}

/// The item that lies at this path, as far as the store knows.
pub(super) async fn item_at(store: &Store, name: &Path) -> anyhow::Result<Option<ItemId>> {
    // The name itself is not followed: an uploader's link must not stand for another picture.
    let real = quarantine::place_named(name).or_else(|_gone| std::path::absolute(name));
    let real = real.with_context(|| format!("can't make out {}", escape_path(name)))?;
    Ok(store.item_at(&real).await?)
}

/// The only item whose id begins with these digits.
pub(super) async fn item_by_digits(store: &Store, name: &Path) -> anyhow::Result<Option<ItemId>> {
    let Some((first, last)) = name.to_str().and_then(ids_beginning_with) else { return Ok(None) };
    Ok(store.items_between(first, last, 1).await?.first().copied())
}

async fn by_path(store: &Store, name: &Path) -> anyhow::Result<ItemId> {
    item_at(store, name).await?.ok_or_else(|| {
        UsageError(format!(
            "{} is no item's id and no file that was judged; `modtool queue list` shows what waits",
            escape_path(name)
        ))
        .into()
    })
}

/// The first and the last id with these digits; `None` for what is no beginning of an id.
fn ids_beginning_with(digits: &str) -> Option<(ItemId, ItemId)> {
    let fits = (FEWEST_DIGITS..=64).contains(&digits.len());
    if !fits || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let filled = |digit: &str| (digits.to_owned() + &digit.repeat(64 - digits.len())).parse().ok();
    Some((filled("0")?, filled("f")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_digits_of_an_id_are_a_range_of_ids() {
        let (first, last) = ids_beginning_with("Ba7816").expect("six digits");
        let id = ItemId::of_bytes(b"abc");
        assert!(first <= id && id <= last);
        assert_eq!(ids_beginning_with(&id.to_string()), Some((id, id)));
        for other in ["", "ba781", "photo.jpg", "ba781g", &"a".repeat(65)] {
            assert_eq!(ids_beginning_with(other), None, "{other}");
        }
    }
}
