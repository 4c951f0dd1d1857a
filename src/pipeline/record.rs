//! Writes verdicts down, many in one transaction, and says each in the log.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::{debug, error, info, warn};

use crate::files::Roots;
use crate::moderation::escape::{escape, escape_path};
use crate::moderation::{Outcome, Reason, Sighting};
use crate::store::{Judged, Recorded, Store, StoreError};

use super::embed::Rules;
use super::monitor::{Monitor, chain, count, now};
use super::settle::Feedback;
use super::{OnVerdict, Stop};

/// So many verdicts share one transaction: a write to the disk each would cost more than judging.
const BATCH: usize = 64;

/// The most other places of known bytes that are looked at.
const MOST_NAMES: u32 = 8;

/// What writing down needs.
pub(super) struct Recorder {
    pub store: Arc<Store>,
    pub roots: Arc<Roots>,
    pub rules: Arc<Rules>,
    pub monitor: Arc<Monitor>,
    pub on_verdict: OnVerdict,
    pub feedback: mpsc::UnboundedSender<Feedback>,
    pub stop: Stop,
}

impl Recorder {
    /// Writes everything down that comes in. A store that fails is tried again for as long as the
    /// run lasts: the folder keeps the files, and what is not written is judged again.
    pub(super) async fn run(self, mut judged: mpsc::Receiver<Judged>) -> Result<(), StoreError> {
        let mut batch = Vec::with_capacity(BATCH);
        while judged.recv_many(&mut batch, BATCH).await > 0 {
            let recorded = self.write(&batch).await?;
            self.leave_old_names(&batch, &recorded).await?;
            for (one, recorded) in batch.drain(..).zip(recorded) {
                tell(&one, &recorded);
                self.tally(&one, &recorded);
                (self.on_verdict)(&one, &recorded);
                // Closed only when the settling stage has ended, which then needs no news.
                let _ = self.feedback.send(Feedback::Done(one.sighting.path));
            }
        }
        Ok(())
    }

    /// Known bytes at a new place may be a file that was renamed: what is gone from its old place is
    /// named by the new one.
    async fn leave_old_names(
        &self,
        batch: &[Judged],
        recorded: &[Recorded],
    ) -> Result<(), StoreError> {
        let known = |(_, recorded): &(&Judged, &Recorded)| !recorded.new_item && !recorded.repeat;
        for (one, _) in batch.iter().zip(recorded).filter(known) {
            let path = &one.sighting.path;
            for other in self.store.other_sightings(one.item, path, MOST_NAMES).await? {
                if is_gone(&self.roots, &other) {
                    self.store.leave(&other.path, now()).await?;
                }
            }
        }
        Ok(())
    }

    async fn write(&self, batch: &[Judged]) -> Result<Vec<Recorded>, StoreError> {
        let mut pause = Duration::from_millis(100);
        loop {
            let judged_by = self.rules.judged_by();
            match self.store.record_verdicts(&judged_by, batch, now()).await {
                Ok(recorded) => return Ok(recorded),
                Err(failed) if self.stop.is_requested() => return Err(failed),
                Err(failed) => {
                    error!(error = %chain(&failed), "verdicts can't be written; trying again");
                    self.monitor.went_wrong(chain(&failed));
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(10));
                }
            }
        }
    }

    fn tally(&self, one: &Judged, recorded: &Recorded) {
        count(&self.monitor.judged);
        if recorded.outcome > Outcome::Allow {
            count(&self.monitor.flagged);
        }
        if one.verdict.reason.as_ref().is_some_and(Reason::is_unjudged) {
            count(&self.monitor.unjudged);
        }
    }
}

/// Whether nothing is there any more, in a root that is there.
pub(super) fn is_gone(roots: &Roots, sighting: &Sighting) -> bool {
    roots.is_there(&sighting.root) && matches!(roots.stat(sighting), Ok(None))
}

/// One line a verdict; everything that an uploader chose is escaped. The same bytes written again
/// are nobody's news: an uploader could fill the log with them.
fn tell(one: &Judged, recorded: &Recorded) {
    let path = escape_path(one.sighting.shown());
    let item = one.item.short();
    let outcome = recorded.outcome.as_str();
    if recorded.repeat {
        debug!(outcome, path, item, "the same verdict as before");
        return;
    }
    let signals = one.facts.as_ref().map(|facts| facts.signals.join(" "));
    let signals = signals.filter(|signals| !signals.is_empty());
    let about_scores = matches!(
        recorded.reason,
        None | Some(
            Reason::Held
                | Reason::NotArmed(_)
                | Reason::HoldCap(_)
                | Reason::LikeRemoved(_)
                | Reason::Inherited(_)
                | Reason::Doubtful(_)
        )
    );
    let heaviest = one.verdict.heaviest().filter(|_| about_scores);
    if let Some(heaviest) = heaviest {
        let (policy, score) = (heaviest.policy.as_str(), two_digits(heaviest.score));
        let prompt = heaviest.prompt.as_str();
        let adapter = heaviest.adapter.as_ref().map(ToString::to_string);
        let reason = recorded.reason.as_ref().map(ToString::to_string);
        warn!(outcome, path, item, policy, score, prompt, adapter, reason, signals, "verdict");
    } else if let Some(reason) = &recorded.reason {
        let reason = escape(reason.to_string().as_bytes());
        if recorded.outcome == Outcome::Allow {
            info!(outcome, path, item, reason, signals, "verdict");
        } else {
            warn!(outcome, path, item, reason, signals, "verdict");
        }
    } else {
        info!(outcome, path, item, signals, "verdict");
    }
}

fn two_digits(score: f32) -> f64 {
    (f64::from(score) * 1000.0).round() / 1000.0
}
