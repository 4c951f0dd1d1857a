//! `modtool policy suggest`: thresholds as objectives, fitted to people's decisions.

mod patch;

use std::io::{self, Write};

use clap::Args;
use serde_json::{Value, json};

use crate::cli::OutputFormat;
use crate::commands::output::{json_line, number, table};
use crate::commands::workspace;
use crate::commands::workspace::must_be_policies;
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::moderation::escape::escape_path;
use crate::moderation::measure::{
    Point, curve, roc_auc, threshold_for_precision, threshold_for_recall,
};
use crate::moderation::{
    Calibration, Counts, Fingerprint, Labelled, ManyScorer, Policy, PolicyId, Share, Thresholds,
};
use crate::policy_file::PolicyFile;
use crate::store::Store;

use super::test::share_argument;
use super::{percent, share_json};

/// Suggest thresholds and a calibration from people's decisions; prints a patch
///
/// `block` is the lowest threshold (the most finds) whose precision is at least what the policy
/// says in `min_precision`; `review` the highest that still finds --min-recall of what people
/// removed. Both by the lower end of the 95 % interval, each item once with its latest decision.
/// No file is changed: the patch can be read, and applied with `patch` or `git apply`.
#[derive(Debug, Args)]
pub(super) struct SuggestArgs {
    /// Policies [default: all that people decided about]
    #[arg(value_name = "ID")]
    ids: Vec<String>,

    /// Aim of `block`, instead of the policy's `min_precision`
    #[arg(long, value_name = "SHARE", value_parser = share_argument)]
    min_precision: Option<f64>,

    /// Aim of `review`
    #[arg(long, value_name = "SHARE", value_parser = share_argument, default_value_t = 0.9)]
    min_recall: f64,

    /// Form of what is printed
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
}

/// The parts that each are left out once.
const PARTS: u64 = 5;

/// What was found out about one policy.
struct Suggestion<'a> {
    file: &'a PolicyFile,
    labelled: Vec<Labelled>,
    curve: Vec<Point>,
    aims: Aims,
    block: Option<Point>,
    review: Option<Point>,
    /// What the suggested thresholds did on the parts that they were not chosen with.
    held_out: HeldOut,
    calibration: Option<Calibration>,
}

#[derive(Debug, Clone, Copy)]
struct Aims {
    precision: f64,
    recall: f64,
}

#[derive(Debug, Clone, Copy, Default)]
struct HeldOut {
    block: Counts,
    review: Counts,
    /// In how many parts a threshold reached its aim.
    block_parts: u64,
    review_parts: u64,
}

pub(super) async fn run(args: &SuggestArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let files = workspace::policies(config)?;
    must_be_policies(&args.ids, &files)?;
    let wanted = |file: &&PolicyFile| {
        args.ids.is_empty() || args.ids.iter().any(|id| id == file.policy.id.as_str())
    };
    let files: Vec<PolicyFile> = files.iter().filter(wanted).cloned().collect();
    let store = workspace::existing_store(config).await?;
    let fingerprint = workspace::model(config)?.card.fingerprint;
    let classifiers = workspace::classifiers_from(&store, config, &files).await?;
    let labelled = labelled(&store, &fingerprint, &ManyScorer::new(classifiers)).await?;
    let mut out = io::stdout().lock();
    let mut said = 0;
    for (file, labelled) in files.iter().zip(labelled) {
        if labelled.is_empty() && args.ids.is_empty() {
            continue;
        }
        let precision = args.min_precision.unwrap_or(f64::from(file.policy.arming.min_precision));
        let aims = Aims { precision, recall: args.min_recall };
        let suggestion = Suggestion::of(file, labelled, aims);
        said += 1;
        match args.format {
            OutputFormat::Json => json_line(&mut out, &suggestion.json(&fingerprint))?,
            OutputFormat::Table => suggestion.print(&mut out, &fingerprint)?,
        }
    }
    if said == 0 && args.format == OutputFormat::Table {
        writeln!(
            out,
            "nobody decided anything yet that this model has seen; decide in `modtool review` \
             first"
        )?;
    }
    Ok(ExitCode::Clean)
}

/// An item's place in the cross-validation comes with its score.
type Sample = (i64, Labelled);

/// For each policy the decided items that say something about it.
async fn labelled(
    store: &Store,
    fingerprint: &Fingerprint,
    scorer: &ManyScorer,
) -> anyhow::Result<Vec<Vec<Sample>>> {
    let policies: Vec<PolicyId> = scorer.policies().map(|policy| policy.id.clone()).collect();
    let mut samples = vec![Vec::new(); policies.len()];
    let decided = store.latest_decisions().await?;
    for part in decided.chunks(1000) {
        let numbers: Vec<i64> = part.iter().map(|one| one.number).collect();
        let block = store.vectors_of(fingerprint, &numbers).await?;
        let by_view = scorer.scores(&block.vectors)?;
        let mut rows = by_view.chunks_exact(policies.len().max(1));
        for item in &block.items {
            let mut best = vec![f32::NEG_INFINITY; policies.len()];
            for row in rows.by_ref().take(item.views) {
                best.iter_mut().zip(row).for_each(|(best, score)| *best = best.max(*score));
            }
            let Some(decision) = part.iter().find(|one| one.number == item.number) else {
                continue;
            };
            for ((id, score), samples) in policies.iter().zip(best).zip(&mut samples) {
                if let Some(violates) = decision.violates(id) {
                    samples.push((item.number, Labelled { score, violates }));
                }
            }
        }
    }
    Ok(samples)
}

impl<'a> Suggestion<'a> {
    fn of(file: &'a PolicyFile, samples: Vec<Sample>, aims: Aims) -> Self {
        let held_out = cross_validated(&samples, aims);
        let labelled: Vec<Labelled> = samples.into_iter().map(|(_, labelled)| labelled).collect();
        let block = threshold_for_precision(&labelled, aims.precision);
        let review = threshold_for_recall(&labelled, aims.recall);
        Self {
            file,
            curve: curve(&labelled),
            aims,
            block,
            review,
            held_out,
            calibration: Calibration::fit(&labelled),
            labelled,
        }
    }

    fn policy(&self) -> &Policy {
        &self.file.policy
    }

    fn removed(&self) -> Share {
        let removed = self.labelled.iter().filter(|one| one.violates).count() as u64;
        Share::new(removed, self.labelled.len() as u64)
    }

    /// The thresholds that reach their aims, and the present ones where none does. Where both
    /// would cross, Review gives way: more work, and nothing missed.
    fn thresholds(&self) -> Thresholds {
        let now = self.policy().thresholds;
        let block = self.block.map_or(now.block(), |point| self.between(point.threshold));
        let review = self.review.map_or(now.review(), |point| self.between(point.threshold));
        Thresholds::new(review.min(block), block).unwrap_or(now)
    }

    /// The shortest number that separates this score from the next lower one of the samples.
    fn between(&self, score: f32) -> f32 {
        let lower = self.labelled.iter().map(|one| one.score).filter(|other| *other < score);
        let lower = f64::from(lower.fold(0.0, f32::max));
        let middle = f64::midpoint(lower, f64::from(score));
        for digits in 2..7 {
            let scale = 10_f64.powi(digits);
            let rounded = (middle * scale).round() / scale;
            if rounded > lower && rounded <= f64::from(score) {
                #[expect(clippy::cast_possible_truncation, reason = "few digits")]
                return rounded as f32;
            }
        }
        score
    }

    fn print(&self, out: &mut impl Write, fingerprint: &Fingerprint) -> io::Result<()> {
        let policy = self.policy();
        let removed = self.removed();
        writeln!(
            out,
            "{}: {} decisions ({} removed, {} approved){}",
            policy.id,
            removed.of,
            removed.hits,
            removed.of - removed.hits,
            roc_auc(&self.labelled).map(|auc| format!(" · ROC-AUC {auc:.3}")).unwrap_or_default()
        )?;
        if removed.of == 0 {
            return writeln!(out, "  nothing to learn from yet\n");
        }
        let (now, new) = (policy.thresholds, self.thresholds());
        let row = |what: &str, threshold: f32| {
            let counts = Counts::at(&self.labelled, threshold);
            vec![
                format!("  {what}"),
                threshold.to_string(),
                percent(counts.precision()),
                percent(counts.recall()),
            ]
        };
        let rows = [
            row("review now", now.review()),
            row("review suggested", new.review()),
            row("block now", now.block()),
            row("block suggested", new.block()),
        ];
        table(out, &["  threshold", "", "precision", "finds of what was removed"], &rows)?;
        self.print_shortfalls(out)?;
        self.print_held_out(out)?;
        self.print_curve(out)?;
        if let Some(calibration) = self.calibration {
            let at = |score| calibration.probability(score) * 100.0;
            writeln!(
                out,
                "  calibration: a person would remove {:.0} % at the review threshold, {:.0} % at \
                 block",
                at(new.review()),
                at(new.block())
            )?;
        }
        match patch::patch(self.file, new, self.calibration, fingerprint) {
            Ok(patch) if patch.is_empty() => writeln!(out, "  nothing to change")?,
            Ok(patch) => writeln!(out, "\n{patch}")?,
            Err(why) => writeln!(out, "  no patch: {why}")?,
        }
        writeln!(out)
    }

    fn print_shortfalls(&self, out: &mut impl Write) -> io::Result<()> {
        let best = |share: fn(Counts) -> Share| {
            let by_lower = |a: &&Point, b: &&Point| {
                share(a.counts).lower().total_cmp(&share(b.counts).lower())
            };
            self.curve.iter().max_by(by_lower)
        };
        if self.block.is_none() {
            let best = best(Counts::precision).map_or(0.0, |p| p.counts.precision().lower());
            writeln!(
                out,
                "  block stays: no threshold has a precision of {:.0} % for sure; at best {:.0} %. \
                 More decisions narrow the interval.",
                self.aims.precision * 100.0,
                best * 100.0
            )?;
        }
        if self.review.is_none() {
            writeln!(
                out,
                "  review stays: {} removals are too few to promise that {:.0} % are found",
                self.removed().hits,
                self.aims.recall * 100.0
            )?;
        }
        Ok(())
    }

    fn print_held_out(&self, out: &mut impl Write) -> io::Result<()> {
        let HeldOut { block, review, block_parts, review_parts } = self.held_out;
        if block_parts > 0 {
            writeln!(
                out,
                "  held out, block: precision {} ({block_parts} of {PARTS} parts reached the aim)",
                percent(block.precision())
            )?;
        }
        if review_parts > 0 {
            writeln!(
                out,
                "  held out, review: finds {} ({review_parts} of {PARTS} parts reached the aim)",
                percent(review.recall())
            )?;
        }
        Ok(())
    }

    /// At most ten points: precision as a bar.
    fn print_curve(&self, out: &mut impl Write) -> io::Result<()> {
        let step = self.curve.len().div_ceil(10).max(1);
        let last = self.curve.len().checked_sub(1);
        let points = self.curve.iter().enumerate();
        let shown = points.filter(|(index, _)| index % step == 0 || Some(*index) == last);
        let rows: Vec<_> = shown.map(|(_, point)| curve_row(point)).collect();
        let head = ["  from", "precision (lower bound)", "", "finds", "flagged"];
        table(out, &head, &rows)
    }

    fn json(&self, fingerprint: &Fingerprint) -> Value {
        let policy = self.policy();
        let at = |threshold: f32| {
            let counts = Counts::at(&self.labelled, threshold);
            json!({
                "threshold": number(f64::from(threshold)),
                "precision": share_json(counts.precision()),
                "recall": share_json(counts.recall()),
            })
        };
        let (now, new) = (policy.thresholds, self.thresholds());
        let HeldOut { block, review, block_parts, review_parts } = self.held_out;
        json!({
            "policy": policy.id.as_str(),
            "hash": policy.hash().short(),
            "fingerprint": fingerprint.0,
            "decisions": self.removed().of,
            "removed": self.removed().hits,
            "roc_auc": roc_auc(&self.labelled).map(number),
            "aims": {"precision": self.aims.precision, "recall": self.aims.recall},
            "reached": {"block": self.block.is_some(), "review": self.review.is_some()},
            "now": {"review": at(now.review()), "block": at(now.block())},
            "suggested": {"review": at(new.review()), "block": at(new.block())},
            "held_out": {
                "parts": PARTS,
                "block": {"precision": share_json(block.precision()), "parts": block_parts},
                "review": {"recall": share_json(review.recall()), "parts": review_parts},
            },
            "calibration": self.calibration.map(|calibration| json!({
                "slope": number(f64::from(calibration.slope)),
                "intercept": number(f64::from(calibration.intercept)),
                "fitted_for": policy.fitted_for(fingerprint).0,
            })),
            "curve": self.curve.iter().map(|point| at(point.threshold)).collect::<Value>(),
            "file": escape_path(&self.file.file),
            "patch": patch::patch(self.file, new, self.calibration, fingerprint).ok(),
        })
    }
}

fn curve_row(point: &Point) -> Vec<String> {
    let (precision, recall) = (point.counts.precision(), point.counts.recall());
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 20")]
    let cells = |share: f64| (share * 20.0).round() as usize;
    let lower = cells(precision.lower());
    let bar = "█".repeat(lower) + &"░".repeat(cells(precision.value().unwrap_or(0.0)) - lower);
    vec![
        format!("  {:.4}", point.threshold),
        format!("{bar:<20}"),
        percent(precision),
        recall.value().map_or("-".to_owned(), |recall| format!("{:.0} %", recall * 100.0)),
        precision.of.to_string(),
    ]
}

/// Chooses thresholds without each part in turn and counts what they do on it.
fn cross_validated(samples: &[Sample], aims: Aims) -> HeldOut {
    // Numbers are given in the order of arrival; mixing spreads bursts over the parts.
    let part_of = |number: i64| number.unsigned_abs().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
    let mut held_out = HeldOut::default();
    for part in 0..PARTS {
        let (out, rest): (Vec<Sample>, Vec<Sample>) =
            samples.iter().partition(|(number, _)| part_of(*number) % PARTS == part);
        let plain =
            |samples: Vec<Sample>| samples.into_iter().map(|(_, one)| one).collect::<Vec<_>>();
        let (out, rest) = (plain(out), plain(rest));
        if let Some(point) = threshold_for_precision(&rest, aims.precision) {
            held_out.block = held_out.block.plus(Counts::at(&out, point.threshold));
            held_out.block_parts += 1;
        }
        if let Some(point) = threshold_for_recall(&rest, aims.recall) {
            held_out.review = held_out.review.plus(Counts::at(&out, point.threshold));
            held_out.review_parts += 1;
        }
    }
    held_out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_out_parts_are_all_items_once() {
        let samples: Vec<Sample> = (0..500)
            .map(|number| {
                let violates = number % 2 == 0;
                (number, Labelled { score: if violates { 0.9 } else { 0.1 }, violates })
            })
            .collect();
        let found = cross_validated(&samples, Aims { precision: 0.9, recall: 0.9 });
        assert_eq!((found.block_parts, found.review_parts), (PARTS, PARTS));
        assert_eq!(found.block.total(), 500);
        assert_eq!(found.block.precision(), Share::new(250, 250));
        assert_eq!(found.review.recall(), Share::new(250, 250));
    }
}
