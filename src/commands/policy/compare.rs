//! `modtool policy diff` and `backtest`: what other rules would have done with the past.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::OutputFormat;
use crate::commands::output::{json_line, number, path_json, table};
use crate::commands::workspace;
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::moderation::escape::escape_path;
use crate::moderation::measure::estimated_recall;
use crate::moderation::{
    Counts, DecidedItem, ItemId, ManyScorer, Mode, Outcome, Policy, PolicyId, RecallEstimate,
    Sighting, Timestamp,
};
use crate::policy_file::PolicyFile;
use crate::store::{HistoryItem, Wanted};

use super::past::{Past, ScoredBlock};
use super::{must_exist, parse_since, percent, policies_at, share_json};

/// Compare two sets of policies on everything that was ever judged
///
/// Judges the past again from stored vectors, without the model: what NEW flags and OLD did not,
/// the other way round, what crosses to Block, and how both agree with people's decisions.
#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    /// A folder of policies, or one file
    #[arg(value_name = "OLD")]
    old: PathBuf,

    /// A folder of policies, or one file
    #[arg(value_name = "NEW")]
    new: PathBuf,

    #[command(flatten)]
    range: Range,
}

/// Compare policies with what was recorded
///
/// The same as `diff`, against the outcomes on record instead of other policies.
#[derive(Debug, Args)]
pub(super) struct BacktestArgs {
    /// A folder of policies, or one file [default: those of the workspace]
    #[arg(value_name = "POLICIES")]
    policies: Option<PathBuf>,

    #[command(flatten)]
    range: Range,
}

#[derive(Debug, Args)]
struct Range {
    /// Only items first seen since then: 2026-10-01, or an age such as 30d
    #[arg(long, value_name = "WHEN", value_parser = parse_since)]
    since: Option<Timestamp>,

    /// Examples of each change, the largest changes of the score first
    #[arg(long, value_name = "COUNT", default_value_t = 5)]
    examples: usize,

    /// Form of what is printed
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
}

pub(super) async fn diff(args: &DiffArgs, config: &Config) -> anyhow::Result<ExitCode> {
    must_exist(&[&args.old, &args.new])?;
    let old = policies_at(Some(&args.old), config)?;
    let new = policies_at(Some(&args.new), config)?;
    compare(Some(&old), &new, &args.range, config).await
}

pub(super) async fn backtest(args: &BacktestArgs, config: &Config) -> anyhow::Result<ExitCode> {
    must_exist(&args.policies.iter().collect::<Vec<_>>())?;
    let new = policies_at(args.policies.as_deref(), config)?;
    compare(None, &new, &args.range, config).await
}

/// Two sets that are at hand already.
pub(in crate::commands) async fn between(
    old: &[PolicyFile],
    new: &[PolicyFile],
    examples: usize,
    format: OutputFormat,
    config: &Config,
) -> anyhow::Result<ExitCode> {
    compare(Some(old), new, &Range { since: None, examples, format }, config).await
}

async fn compare(
    old: Option<&[PolicyFile]>,
    new: &[PolicyFile],
    range: &Range,
    config: &Config,
) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let past = Past::open(config, range.since).await?;
    let mut classifiers = match old {
        Some(old) => workspace::classifiers_from(&past.store, config, old).await?,
        None => Vec::new(),
    };
    let old_policies = classifiers.len();
    classifiers.extend(workspace::classifiers_from(&past.store, config, new).await?);
    let decided: HashMap<i64, DecidedItem> =
        past.store.latest_decisions().await?.into_iter().map(|one| (one.number, one)).collect();
    let scorer = ManyScorer::new(classifiers);
    let policies: Vec<Policy> = scorer.policies().cloned().collect();
    let (old_set, new_set) = policies.split_at(old_policies);
    let scoped = policies.iter().any(|policy| !policy.scope.is_everything());
    let wanted = if old.is_none() || scoped { Wanted::Sightings } else { Wanted::Vectors };
    let mut comparison = Comparison::of(old_set, new_set, old.is_none(), range.examples);
    let items = past.score(scorer, wanted, |block| comparison.add(&block, &decided)).await?;
    let names = past.store.name_items(&comparison.examples()).await?;
    let report = Report {
        items,
        without_vectors: past.items.saturating_sub(items),
        decided: comparison.total.decided,
        seconds: started.elapsed().as_secs_f64(),
        recorded: old.is_none(),
        model: &config.model,
        recall: past
            .store
            .recall_samples()
            .await
            .map(|(found, samples)| (samples.len(), estimated_recall(found, &samples)))?,
        names: &names,
        decisions: &decided,
    };
    let mut out = io::stdout().lock();
    match range.format {
        OutputFormat::Json => report.json(&mut out, &comparison)?,
        OutputFormat::Table => report.table(&mut out, &comparison)?,
    }
    out.flush()?;
    Ok(ExitCode::Clean)
}

/// What changed for one policy, or for all live ones together.
#[derive(Debug, Clone, Default)]
struct Change {
    /// Flagged (Review or Block): before, after.
    flagged: [u64; 2],
    /// Blocked: before, after.
    blocked: [u64; 2],
    newly: Examples,
    no_longer: Examples,
    to_block: Examples,
    from_block: Examples,
    /// Flagged or not against removed or approved: before, after.
    agreement: [Counts; 2],
    decided: u64,
}

/// How many, and the few with the largest change of the score.
#[derive(Debug, Clone, Default)]
struct Examples {
    count: u64,
    /// Item, score before, score after.
    kept: Vec<(i64, f32, f32)>,
}

impl Examples {
    fn add(&mut self, most: usize, item: i64, before: f32, after: f32) {
        self.count += 1;
        let change = |(_, before, after): &(i64, f32, f32)| (after - before).abs();
        let place = self.kept.partition_point(|kept| change(kept) >= (after - before).abs());
        if place < most {
            self.kept.insert(place, (item, before, after));
            self.kept.truncate(most);
        }
    }
}

impl Change {
    fn add(
        &mut self,
        item: i64,
        [old, new]: [Outcome; 2],
        [before, after]: [f32; 2],
        violates: Option<bool>,
        most: usize,
    ) {
        for (index, outcome) in [old, new].into_iter().enumerate() {
            self.flagged[index] += u64::from(outcome > Outcome::Allow);
            self.blocked[index] += u64::from(outcome == Outcome::Block);
            if let Some(violates) = violates {
                self.agreement[index] =
                    self.agreement[index].with(outcome > Outcome::Allow, violates);
            }
        }
        self.decided += u64::from(violates.is_some());
        if old == new {
            return;
        }
        let note = |examples: &mut Examples| examples.add(most, item, before, after);
        match (old, new) {
            (Outcome::Allow, _) => note(&mut self.newly),
            (_, Outcome::Allow) => note(&mut self.no_longer),
            _ => {}
        }
        if new == Outcome::Block {
            self.to_block.add(most, item, before, after);
        } else if old == Outcome::Block {
            self.from_block.add(most, item, before, after);
        }
    }

    fn kinds(&self) -> [(&'static str, &Examples); 4] {
        [
            ("newly flagged", &self.newly),
            ("no longer flagged", &self.no_longer),
            ("crossed to block", &self.to_block),
            ("no longer blocked", &self.from_block),
        ]
    }
}

/// A policy's place among the scores, and the policy.
type Placed<'a> = Option<(usize, &'a Policy)>;

struct Comparison<'a> {
    /// By id: in OLD, in NEW.
    policies: Vec<(PolicyId, [Placed<'a>; 2], Change)>,
    total: Change,
    scores_per_item: usize,
    against_record: bool,
    most: usize,
}

impl<'a> Comparison<'a> {
    fn of(old: &'a [Policy], new: &'a [Policy], against_record: bool, most: usize) -> Self {
        let mut by_id: BTreeMap<PolicyId, [Placed<'a>; 2]> = BTreeMap::new();
        for (side, set, first) in [(0, old, 0), (1, new, old.len())] {
            for (index, policy) in set.iter().enumerate() {
                by_id.entry(policy.id.clone()).or_default()[side] = Some((first + index, policy));
            }
        }
        let policies = by_id.into_iter().map(|(id, placed)| (id, placed, Change::default()));
        Self {
            policies: policies.collect(),
            total: Change::default(),
            scores_per_item: old.len() + new.len(),
            against_record,
            most,
        }
    }

    fn add(&mut self, block: &ScoredBlock, decided: &HashMap<i64, DecidedItem>) {
        if self.scores_per_item == 0 {
            return;
        }
        let rows = block.scores.chunks_exact(self.scores_per_item);
        for (item, scores) in block.items.iter().zip(rows) {
            let decision = decided.get(&item.number);
            let mut worst = [Outcome::Allow; 2];
            let mut highest = [0.0_f32; 2];
            for (id, placed, change) in &mut self.policies {
                let mut outcomes = [Outcome::Allow; 2];
                let mut own = [0.0; 2];
                for (side, placed) in placed.iter().enumerate() {
                    let Some((place, policy)) = *placed else { continue };
                    if !in_scope(policy, item) {
                        continue;
                    }
                    own[side] = scores[place];
                    outcomes[side] = policy.judge(scores[place]);
                    if policy.mode == Mode::Live {
                        worst[side] = worst[side].max(outcomes[side]);
                        highest[side] = highest[side].max(scores[place]);
                    }
                }
                if self.against_record {
                    // What each policy said then is not compared, only what came of it.
                    outcomes[0] = outcomes[1];
                    own[0] = own[1];
                }
                let violates = decision.and_then(|decision| decision.violates(id));
                change.add(item.number, outcomes, own, violates, self.most);
            }
            if self.against_record {
                worst[0] = item.recorded.unwrap_or(worst[1]);
                highest[0] = highest[1];
            }
            let removed = decision.map(DecidedItem::removed);
            self.total.add(item.number, worst, highest, removed, self.most);
        }
    }

    fn examples(&self) -> Vec<i64> {
        let changes = self.policies.iter().map(|(_, _, change)| change).chain([&self.total]);
        let kept = changes.flat_map(|change| change.kinds().map(|(_, examples)| &examples.kept));
        kept.flatten().map(|(item, _, _)| *item).collect()
    }
}

/// At least one of the paths where the item lies now; all where nobody asked for paths.
fn in_scope(policy: &Policy, item: &HistoryItem) -> bool {
    policy.scope.is_everything()
        || item.sightings.iter().map(Sighting::below).any(|below| policy.scope.includes(below))
}

struct Report<'a> {
    items: u64,
    without_vectors: u64,
    decided: u64,
    seconds: f64,
    recorded: bool,
    model: &'a str,
    /// How many samples of what was never flagged were decided, and what they say.
    recall: (usize, Option<RecallEstimate>),
    names: &'a HashMap<i64, (ItemId, Option<PathBuf>)>,
    decisions: &'a HashMap<i64, DecidedItem>,
}

impl Report<'_> {
    fn table(&self, out: &mut impl Write, comparison: &Comparison<'_>) -> io::Result<()> {
        writeln!(
            out,
            "{} items, {} of them decided by people · model {} · {:.1} s",
            self.items, self.decided, self.model, self.seconds
        )?;
        if self.without_vectors > 0 {
            writeln!(
                out,
                "{} more were never seen by this model or could not be decoded; they are left out",
                self.without_vectors
            )?;
        }
        writeln!(out)?;
        let all = PolicyId::new("all").map(|id| (id, [None, None], comparison.total.clone()));
        let rows: Vec<_> = comparison.policies.iter().chain(all.as_ref()).collect();
        let cells = |(id, placed, change): &&(PolicyId, [Placed<'_>; 2], Change)| {
            let is_all = id.as_str() == "all" && placed.iter().all(Option::is_none);
            let name = match (is_all, placed) {
                (true, _) => "all live ones".to_owned(),
                (_, [None, Some(_)]) if !self.recorded => format!("{id} (new)"),
                (_, [Some(_), None]) => format!("{id} (gone)"),
                _ => id.to_string(),
            };
            let compared = is_all || !self.recorded;
            let pair = |[old, new]: [u64; 2]| {
                if compared { format!("{old} → {new}") } else { new.to_string() }
            };
            let count = |examples: &Examples| match (compared, examples.count) {
                (true, 0) | (false, _) => "-".to_owned(),
                (true, count) => count.to_string(),
            };
            vec![
                name,
                pair(change.flagged),
                pair(change.blocked),
                count(&change.newly),
                count(&change.no_longer),
                count(&change.to_block),
                change.decided.to_string(),
            ]
        };
        let rows: Vec<_> = rows.iter().map(cells).collect();
        let head = ["policy", "flagged", "block", "newly", "no longer", "to block", "decided"];
        table(out, &head, &rows)?;
        self.agreement_table(out, comparison)?;
        for (id, _, change) in &comparison.policies {
            self.example_lines(out, id.as_str(), change)?;
        }
        if self.recorded {
            self.example_lines(out, "all live ones", &comparison.total)?;
        }
        Ok(())
    }

    /// Precision and recall among what people decided, where they decided anything.
    fn agreement_table(&self, out: &mut impl Write, comparison: &Comparison<'_>) -> io::Result<()> {
        let named = comparison.policies.iter().map(|(id, _, change)| (id.as_str(), change));
        let total = ("all live ones", &comparison.total);
        let mut rows = Vec::new();
        for (name, change) in named.chain([total]).filter(|(_, change)| change.decided > 0) {
            let [old, new] = change.agreement;
            let mut row = vec![name.to_owned()];
            if !self.recorded || name == total.0 {
                row.extend([percent(old.precision()), percent(old.recall())]);
            } else {
                row.extend([String::new(), String::new()]);
            }
            row.extend([percent(new.precision()), percent(new.recall())]);
            rows.push(row);
        }
        if rows.is_empty() {
            return writeln!(
                out,
                "\nnobody decided any of them yet, so nothing can be said about right and wrong"
            );
        }
        writeln!(out, "\nagreement with decisions, with 95 % intervals:")?;
        let before = if self.recorded { "as recorded" } else { "old" };
        let head = [
            "policy",
            &format!("{before}: precision"),
            &format!("{before}: recall"),
            "new: precision",
            "new: recall",
        ];
        table(out, &head, &rows)?;
        if let (samples, Some(estimate)) = self.recall {
            let RecallEstimate { recall, interval: (lower, upper), missed } = estimate;
            return writeln!(
                out,
                "Of all that should go, the policies in force so far found {:.0} % ({:.0} to \
                 {:.0}); about {missed:.0} pictures were missed, by {samples} random samples.",
                recall * 100.0,
                lower * 100.0,
                upper * 100.0
            );
        }
        writeln!(
            out,
            "Recall is among what people looked at: what was never flagged is not in it, unless \
             `audit_rate` sends samples."
        )
    }

    fn example_lines(&self, out: &mut impl Write, name: &str, change: &Change) -> io::Result<()> {
        for (kind, examples) in change.kinds() {
            if examples.kept.is_empty() {
                continue;
            }
            writeln!(out, "\n{name}, {kind} ({}):", examples.count)?;
            for (item, before, after) in &examples.kept {
                let (path, decision) = self.name(*item);
                let scores = if self.recorded {
                    format!("{after:.3}")
                } else {
                    format!("{before:.3} → {after:.3}")
                };
                let decision = decision.map(|action| format!("  ({action})")).unwrap_or_default();
                writeln!(out, "  {scores}  {path}{decision}")?;
            }
        }
        Ok(())
    }

    fn name(&self, item: i64) -> (String, Option<&'static str>) {
        let decision = self.decisions.get(&item).map(|decided| {
            if decided.removed() { "removed by a person" } else { "approved by a person" }
        });
        let name = match self.names.get(&item) {
            Some((_, Some(path))) => escape_path(path),
            Some((id, None)) => id.to_string(),
            None => format!("item {item}"),
        };
        (name, decision)
    }

    fn json(&self, out: &mut impl Write, comparison: &Comparison<'_>) -> io::Result<()> {
        for (id, placed, change) in &comparison.policies {
            let mut object = self.change_json(Some(id), change);
            for (field, placed) in [("old_hash", placed[0]), ("new_hash", placed[1])] {
                object[field] = placed.map(|(_, policy)| policy.hash().short()).into();
            }
            json_line(out, &object)?;
        }
        let mut total = self.change_json(None, &comparison.total);
        total["items"] = self.items.into();
        total["without_vectors"] = self.without_vectors.into();
        let (samples, estimate) = self.recall;
        total["recall_of_everything"] = estimate.map_or(Value::Null, |estimate| {
            json!({
                "samples": samples,
                "recall": number(estimate.recall),
                "lower": number(estimate.interval.0),
                "upper": number(estimate.interval.1),
                "missed": number(estimate.missed),
            })
        });
        total["seconds"] = number((self.seconds * 1000.0).round() / 1000.0);
        json_line(out, &total)
    }

    /// `policy` is null for all live policies together. Against the record there is no `old` of a
    /// single policy.
    fn change_json(&self, id: Option<&PolicyId>, change: &Change) -> Value {
        let compared = id.is_none() || !self.recorded;
        let old = |value: Value| if compared { value } else { Value::Null };
        let agreement = |counts: Counts| json!({"precision": share_json(counts.precision()), "recall": share_json(counts.recall())});
        let mut object = json!({
            "policy": id.map(PolicyId::as_str),
            "flagged": {"old": old(change.flagged[0].into()), "new": change.flagged[1]},
            "blocked": {"old": old(change.blocked[0].into()), "new": change.blocked[1]},
            "decided": change.decided,
            "agreement": {
                "old": old(agreement(change.agreement[0])),
                "new": agreement(change.agreement[1]),
            },
        });
        for (kind, examples) in change.kinds() {
            let kept = examples.kept.iter().map(|(item, before, after)| {
                let (id, path) = self.names.get(item).cloned().unzip();
                let mut object = serde_json::Map::new();
                object.insert("item".into(), id.map(|id| id.to_string()).into());
                if let Some(path) = path.flatten() {
                    object.extend(path_json("path", &path));
                }
                object.insert("old_score".into(), old(number(f64::from(*before))));
                object.insert("new_score".into(), number(f64::from(*after)));
                Value::Object(object)
            });
            object[kind.replace(' ', "_")] =
                json!({"count": old(examples.count.into()), "examples": kept.collect::<Value>()});
        }
        object
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_changes_are_kept_in_order() {
        let mut examples = Examples::default();
        for (item, after) in [(1, 0.6), (2, 0.9), (3, 0.55), (4, 0.9), (5, 0.7)] {
            examples.add(3, item, 0.5, after);
        }
        let kept: Vec<_> = examples.kept.iter().map(|(item, _, _)| *item).collect();
        assert_eq!((examples.count, kept), (5, vec![2, 4, 5]));
        let mut none = Examples::default();
        none.add(0, 1, 0.0, 1.0);
        assert_eq!((none.count, none.kept.len()), (1, 0));
    }

    #[test]
    fn crossings_are_counted_both_ways() {
        let mut change = Change::default();
        let (allow, review, block) = (Outcome::Allow, Outcome::Review, Outcome::Block);
        for (item, outcomes) in
            [[allow, review], [review, block], [block, allow], [allow, block], [review, review]]
                .into_iter()
                .enumerate()
        {
            let item = i64::try_from(item).expect("few");
            change.add(item, outcomes, [0.0, 1.0], Some(item == 1), 5);
        }
        assert_eq!((change.flagged, change.blocked), ([3, 4], [1, 2]));
        let counts = change.kinds().map(|(_, examples)| examples.count);
        assert_eq!(counts, [2, 1, 2, 1]);
        assert_eq!(change.agreement[1].precision(), crate::moderation::Share::new(1, 4));
        assert_eq!(change.decided, 5);
    }
}
