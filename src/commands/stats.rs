//! `modtool stats`: the queue over time, reviewers, how right the policies are, watchers.

use std::io::{self, Write as _};

use clap::Args;
use serde_json::{Value, json};

use crate::cli::OutputFormat;
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::moderation::escape::{escape, escape_path};
use crate::moderation::measure::estimated_recall;
use crate::moderation::{
    FileKind, PolicyHash, PolicyStats, QueueCounts, RecallEstimate, ReviewStats, Sample,
    ScoreHistogram,
};
use crate::store::{HookCounts, WatcherBeat};

use super::clock::{ago, day_start, days_back, local_day, now, rfc3339, span};
use super::output::{json_line, number, path_json, table};
use super::progress::not_judged;
use super::{status, workspace};

/// Tell how the queue, the reviewers and the policies do
#[derive(Debug, Args)]
pub(super) struct StatsArgs {
    /// How many days back, today included
    #[arg(long, value_name = "N", default_value_t = 14, value_parser = clap::value_parser!(u16).range(1..=366))]
    days: u16,

    /// Form of what is printed
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
}

struct Numbers {
    counts: QueueCounts,
    stats: ReviewStats,
    histograms: Vec<ScoreHistogram>,
    watchers: Vec<WatcherBeat>,
    /// Files that are not judged, by kind.
    media: Vec<(FileKind, u64)>,
    recall: Recall,
    /// Hooks that something waits for or was given up for.
    hooks: Vec<HookCounts>,
}

/// What samples of the rest say about what the policies miss.
struct Recall {
    /// Removed pictures that policies had flagged.
    found: u64,
    samples: Vec<Sample>,
    estimate: Option<RecallEstimate>,
    /// The share that is drawn from now on.
    rate: f64,
}

pub(super) async fn run(args: &StatsArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let policies = workspace::policies(config)?;
    let fingerprint = workspace::model(config)?.card.fingerprint.clone();
    let versions: Vec<PolicyHash> = policies.iter().map(|file| file.policy.hash()).collect();
    let store = workspace::existing_store(config).await?;
    let numbers = Numbers {
        counts: store.queue_counts(day_start()).await?,
        stats: store.review_stats(&days_back(args.days), now()).await?,
        histograms: store.score_histograms(&fingerprint, &versions).await?,
        watchers: store.watcher_beats().await?,
        media: store.media_counts().await?,
        recall: {
            let (found, samples) = store.recall_samples().await?;
            let estimate = estimated_recall(found, &samples);
            Recall { found, samples, estimate, rate: config.actions.audit_rate }
        },
        hooks: store
            .hook_counts()
            .await?
            .into_iter()
            .filter(|hook| hook.waiting + hook.dead > 0)
            .collect(),
    };
    store.close().await;
    match args.format {
        OutputFormat::Json => json_line(&mut io::stdout().lock(), &in_json(&numbers))?,
        OutputFormat::Table => print(&numbers)?,
    }
    Ok(ExitCode::Clean)
}

fn in_json(numbers: &Numbers) -> Value {
    let Numbers { counts, stats, histograms, watchers, media, recall, hooks } = numbers;
    let histogram = |histogram: &ScoreHistogram| {
        json!({
            "policy": histogram.policy.as_str(),
            "items": histogram.total(),
            "histogram": histogram.columns(20),
        })
    };
    let watcher = |beat: &WatcherBeat| {
        let mut object = path_json("folder", &beat.root);
        object.insert("running".into(), status::is_running(beat).into());
        object.insert("engine".into(), beat.engine.clone().into());
        object.insert("model".into(), beat.model.clone().into());
        object.insert("judged".into(), beat.judged.into());
        object.insert("rate".into(), number((beat.rate * 100.0).round() / 100.0));
        object.insert("waiting".into(), beat.waiting.into());
        object.insert("lag_ms".into(), beat.lag_ms.into());
        Value::Object(object)
    };
    let policy = |policy: &PolicyStats| {
        json!({
            "policy": policy.policy.as_str(),
            "waiting": policy.waiting,
            "removed": policy.removed,
            "approved": policy.approved,
            "precision": policy.precision().map(number),
        })
    };
    json!({
        "queue": {
            "open": counts.open,
            "escalated": counts.escalated,
            "unjudged": counts.unjudged,
            "decided_today": counts.decided_today,
            "oldest": counts.oldest.map(rfc3339),
        },
        "days": stats.days.iter().map(|day| json!({
            "start": rfc3339(day.start),
            "opened": day.opened,
            "closed": day.closed,
            "waiting": day.waiting,
        })).collect::<Value>(),
        "reviewers": stats.reviewers.iter().map(|one| json!({
            "reviewer": one.reviewer.as_str(),
            "approved": one.approved,
            "removed": one.removed,
            "escalated": one.escalated,
            "exposures": one.exposures,
        })).collect::<Value>(),
        "policies": stats.policies.iter().map(policy).collect::<Value>(),
        "scores": histograms.iter().map(histogram).collect::<Value>(),
        "not_judged": status::media_json(media),
        "watchers": watchers.iter().map(watcher).collect::<Value>(),
        "recall": recall_json(recall),
        "hooks": hooks.iter().map(|hook| json!({
            "name": hook.name,
            "waiting": hook.waiting,
            "dead": hook.dead,
            "problem": hook.problem,
        })).collect::<Value>(),
    })
}

/// The numbers behind the estimate stand beside it; what can't be told is null.
fn recall_json(recall: &Recall) -> Value {
    let estimate = recall.estimate;
    json!({
        "found": recall.found,
        "samples": recall.samples.len(),
        "samples_removed": recall.samples.iter().filter(|sample| sample.violates).count(),
        "recall": estimate.map(|estimate| number(estimate.recall)),
        "lower": estimate.map(|estimate| number(estimate.interval.0)),
        "upper": estimate.map(|estimate| number(estimate.interval.1)),
        "missed": estimate.map(|estimate| number(estimate.missed)),
        "audit_rate": recall.rate,
    })
}

/// How much of what should go the policies find, as far as samples tell.
fn recall_in_words(recall: &Recall) -> String {
    let samples = recall.samples.len();
    if let Some(RecallEstimate { recall: share, interval: (lower, upper), missed }) =
        recall.estimate
    {
        let removed = recall.samples.iter().filter(|sample| sample.violates).count();
        return format!(
            "recall: of all that should go, the policies found {:.0} % (95 % interval {:.0} to \
             {:.0}); about {missed:.0} pictures were missed, by {samples} random samples of the \
             rest, {removed} of them removed",
            share * 100.0,
            lower * 100.0,
            upper * 100.0
        );
    }
    match (samples, recall.rate > 0.0) {
        (0, false) => {
            "recall: unknown, because nobody looks at what no policy flags; `audit_rate: \
                       0.01` in modtool.yaml sends a sample of it to people"
                .to_owned()
        }
        (0, true) => "recall: unknown until random samples of the rest were decided".to_owned(),
        (samples, _) => format!("recall: nothing was removed yet, nor any of {samples} samples"),
    }
}

fn print(numbers: &Numbers) -> io::Result<()> {
    let Numbers { counts, stats, histograms, watchers, media, recall, hooks } = numbers;
    let mut out = io::stdout().lock();
    let oldest = counts.oldest.map(|at| format!(", the oldest from {}", ago(at)));
    writeln!(
        out,
        "queue: {} open, {} escalated, {} that could not be judged{}; {} decided today",
        counts.open,
        counts.escalated,
        counts.unjudged,
        oldest.unwrap_or_default(),
        counts.decided_today
    )?;
    if let Some(unjudged) = not_judged(media) {
        writeln!(out, "{unjudged}")?;
    }
    writeln!(out)?;
    let days: Vec<_> = stats
        .days
        .iter()
        .map(|day| {
            let numbers = [day.opened, day.closed, day.waiting].map(|count| count.to_string());
            [vec![local_day(day.start)], numbers.to_vec()].concat()
        })
        .collect();
    table(&mut out, &["day", "opened", "closed", "waiting at its end"], &days)?;
    if !stats.reviewers.is_empty() {
        writeln!(out)?;
        let rows: Vec<_> = stats
            .reviewers
            .iter()
            .map(|one| {
                let counts = [one.approved, one.removed, one.escalated, one.exposures];
                let counts = counts.map(|count| count.to_string());
                [vec![one.reviewer.as_str().to_owned()], counts.to_vec()].concat()
            })
            .collect();
        table(&mut out, &["reviewer", "approved", "removed", "escalated", "reveals"], &rows)?;
    }
    if !stats.policies.is_empty() || !histograms.is_empty() {
        writeln!(out)?;
        table(&mut out, &POLICY_HEAD, &policy_rows(stats, histograms))?;
    }
    writeln!(out)?;
    writeln!(out, "{}", recall_in_words(recall))?;
    for hook in hooks {
        let name = escape(hook.name.as_bytes());
        write!(out, "hook {name}: {} events wait, {} were given up", hook.waiting, hook.dead)?;
        if let Some(problem) = &hook.problem {
            write!(out, " ({}); `modtool hooks retry` tries again", escape(problem.as_bytes()))?;
        }
        writeln!(out)?;
    }
    for beat in watchers.iter().filter(|beat| status::is_running(beat)) {
        writeln!(out)?;
        writeln!(
            out,
            "watching {}: {:.1} pictures/s, {} waiting, lag {}, {}, model {}",
            escape_path(&beat.root),
            beat.rate,
            beat.waiting,
            span(if beat.waiting > 0 { beat.lag_ms } else { 0 }),
            beat.engine,
            beat.model
        )?;
    }
    out.flush()
}

const POLICY_HEAD: [&str; 6] = ["policy", "waiting", "removed", "approved", "precision", "scores"];

fn policy_rows(stats: &ReviewStats, histograms: &[ScoreHistogram]) -> Vec<Vec<String>> {
    let mut names: Vec<_> = stats.policies.iter().map(|policy| &policy.policy).collect();
    names.extend(histograms.iter().map(|histogram| &histogram.policy));
    names.sort();
    names.dedup();
    let row = |name: &&crate::moderation::PolicyId| {
        let policy = stats.policies.iter().find(|policy| policy.policy == **name);
        let count = |of: fn(&PolicyStats) -> u64| policy.map_or(0, of).to_string();
        let precision = policy.and_then(PolicyStats::precision);
        let histogram = histograms.iter().find(|histogram| histogram.policy == **name);
        vec![
            name.to_string(),
            count(|policy| policy.waiting),
            count(|policy| policy.removed),
            count(|policy| policy.approved),
            precision.map_or_else(|| "-".to_owned(), |share| format!("{:.0} %", share * 100.0)),
            histogram.map_or_else(String::new, |histogram| bars(&histogram.columns(20))),
        ]
    };
    names.iter().map(row).collect()
}

/// One character a number, the tallest for the largest; on a logarithmic scale, because nearly
/// all uploads are innocent of nearly everything.
fn bars(counts: &[u64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let bits = |count: u64| u64::BITS - count.leading_zeros();
    let most = counts.iter().copied().map(bits).max().unwrap_or(0).max(1);
    let bar = |count: &u64| match bits(*count) {
        0 => ' ',
        tall => BARS[((tall * 8).div_ceil(most) as usize).clamp(1, 8) - 1],
    };
    counts.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_can_be_seen_and_none_can_be_missed() {
        assert_eq!(bars(&[0, 1, 1_000_000]), " ▁█");
        assert_eq!(bars(&[]), "");
        assert_eq!(bars(&[0, 0]), "  ");
    }
}
