//! Judges what is stored again by other policies, from its embeddings, without the model.

use crate::moderation::{Classifier, Doubts, Fingerprint, Outcome, verdict_over};
use crate::store::{Judged, JudgedBy, Rejudge, Store, StoreError};

use super::monitor::now;

/// Items that are read in one go; their verdicts share one transaction.
const PAGE: u32 = 64;

/// What came of judging again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rescored {
    /// Items that were looked at.
    pub items: u64,
    /// Paths with a new verdict on record.
    pub judged: u64,
    /// Of these, how many have another outcome than before.
    pub changed: u64,
    /// Items that a person is asked about now and was not before.
    pub opened: u64,
}

/// Judges every item that the model has seen and that lies somewhere. What exactly these policies
/// have judged already is left out, so an interrupted run goes on where it stood.
/// `progress` is told how many items were looked at.
///
/// # Errors
/// When the store can't be read or written.
pub async fn rescore(
    store: &Store,
    fingerprint: &Fingerprint,
    classifiers: &[Classifier],
    judged_by: &JudgedBy,
    mut progress: impl FnMut(u64),
) -> Result<Rescored, StoreError> {
    let mut rescored = Rescored::default();
    let mut after = 0;
    loop {
        let page = store.items_to_rejudge(fingerprint, after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(rescored) };
        after = last.number;
        rescored.items += page.len() as u64;
        let (before, judged): (Vec<_>, Vec<_>) =
            page.iter().flat_map(|item| judge(item, classifiers)).unzip();
        if !judged.is_empty() {
            let recorded = store.record_rejudged(judged_by, &judged, now()).await?;
            for (before, recorded) in before.into_iter().zip(recorded) {
                let Some(recorded) = recorded else { continue };
                rescored.judged += 1;
                rescored.changed += u64::from(recorded.outcome != before);
                rescored.opened += u64::from(recorded.task_opened);
            }
        }
        progress(rescored.items);
    }
}

/// For each path that other policies judged: the outcome on record, and the new verdict.
fn judge<'a>(
    item: &'a Rejudge,
    classifiers: &'a [Classifier],
) -> impl Iterator<Item = (Outcome, (i64, Judged))> + 'a {
    let doubts = item.facts.as_ref().map_or(Doubts::default(), |facts| facts.doubts);
    item.seen.iter().filter_map(move |seen| {
        let verdict = verdict_over(classifiers, &item.views, doubts, seen.sighting.below());
        if seen.is_judged_by(&verdict) {
            return None;
        }
        let judged = Judged {
            item: item.item,
            bytes: item.bytes,
            sighting: seen.sighting.clone(),
            stat: seen.stat,
            facts: item.facts.clone(),
            // They are stored.
            views: Vec::new(),
            recipe: item.recipe.clone(),
            verdict,
        };
        Some((seen.outcome, (seen.number, judged)))
    })
}
