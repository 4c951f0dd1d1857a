//! Writes verdicts down, many in one transaction, and says each in the log.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::{error, info, warn};

use crate::moderation::escape::{escape, escape_path};
use crate::moderation::Outcome;
use crate::store::{Judged, JudgedBy, Recorded, Store, StoreError};

use super::Stop;
use super::monitor::{Monitor, count, now};
use super::settle::Feedback;

/// So many verdicts share one transaction: a write to the disk each would cost more than judging.
const BATCH: usize = 64;

/// Writes everything down that comes in. A store that fails is tried again for as long as the run
/// lasts: the folder keeps the files, and what is not written is judged again.
pub(super) async fn record(
    store: &Store,
    judged_by: &JudgedBy,
    mut judged: mpsc::Receiver<Judged>,
    feedback: mpsc::UnboundedSender<Feedback>,
    monitor: &Arc<Monitor>,
    stop: &Stop,
) -> Result<(), StoreError> {
    let mut batch = Vec::with_capacity(BATCH);
    while judged.recv_many(&mut batch, BATCH).await > 0 {
        let recorded = write(store, judged_by, &batch, monitor, stop).await?;
        for (one, recorded) in batch.drain(..).zip(recorded) {
            tell(&one, &recorded);
            tally(monitor, &one, &recorded);
            // Closed only when the settling stage has ended, which then needs no news.
            let _ = feedback.send(Feedback::Done(one.sighting.path));
        }
    }
    Ok(())
}

async fn write(
    store: &Store,
    judged_by: &JudgedBy,
    batch: &[Judged],
    monitor: &Monitor,
    stop: &Stop,
) -> Result<Vec<Recorded>, StoreError> {
    let mut pause = Duration::from_millis(100);
    loop {
        match store.record_verdicts(judged_by, batch, now()).await {
            Ok(recorded) => return Ok(recorded),
            Err(failed) if stop.is_requested() => return Err(failed),
            Err(failed) => {
                error!(error = %chain(&failed), "verdicts can't be written; trying again");
                monitor.went_wrong(chain(&failed));
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(10));
            }
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}

fn tally(monitor: &Monitor, one: &Judged, recorded: &Recorded) {
    count(&monitor.judged);
    if recorded.outcome > Outcome::Allow {
        count(&monitor.flagged);
    }
    if one.verdict.reason.as_ref().is_some_and(crate::moderation::Reason::is_unjudged) {
        monitor.unjudged.fetch_add(1, Ordering::Relaxed);
    }
}

/// One line a verdict; everything that an uploader chose is escaped.
fn tell(one: &Judged, recorded: &Recorded) {
    let path = escape_path(&one.sighting.path);
    let item = one.item.short();
    let outcome = recorded.outcome.as_str();
    if let Some(reason) = &recorded.reason {
        let reason = escape(reason.to_string().as_bytes());
        if recorded.outcome == Outcome::Allow {
            info!(outcome, path, item, reason, "verdict");
        } else {
            warn!(outcome, path, item, reason, "verdict");
        }
    } else if let Some(heaviest) = one.verdict.heaviest() {
        let (policy, score) = (heaviest.policy.as_str(), two_digits(heaviest.score));
        let prompt = heaviest.prompt.as_str();
        warn!(outcome, path, item, policy, score, prompt, "verdict");
    } else {
        info!(outcome, path, item, "verdict");
    }
}

fn two_digits(score: f32) -> f64 {
    (f64::from(score) * 1000.0).round() / 1000.0
}
