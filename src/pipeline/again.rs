//! After a change of the model, of a decoder or of a limit: judges again what was judged with another
//! one, newest first, whenever nothing newer waits.
//!
//! What is left to do is read from the store, so a run that ends in the middle is gone on with by
//! the next. Vectors of different models are never mixed: each picture is decoded and encoded
//! anew, unless the model in use saw it before as it is decoded now.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tracing::info;

use crate::files::Kind;
use crate::moderation::{Sighting, Uploader};
use crate::store::StoreError;

use super::Stop;
use super::reconcile::Scanner;
use super::settle::{Candidate, Hint};
use super::sweep::root_of;

/// So many sightings are asked for at once.
const PAGE: u32 = 256;

/// New uploads go first: while more files than this wait, nothing old is added to them.
const FEW_WAITING: usize = 32;

/// New uploads go first, but no flood of them stops this for ever.
const PATIENCE: Duration = Duration::from_secs(1);

/// Between two looks at how much waits.
const PAUSE: Duration = Duration::from_millis(20);

/// Hands on every sighting below the roots that was judged with anything else than is used now.
pub(super) async fn judge_again(
    roots: &[PathBuf],
    scanner: &Scanner,
    mut stop: Stop,
) -> Result<(), StoreError> {
    let (store, monitor) = (&scanner.store, &scanner.monitor);
    let now = &scanner.judged_with;
    let mut left = store.count_judged_otherwise(now, roots).await?;
    let (mut before, mut told) = (i64::MAX, false);
    loop {
        let page = store.judged_otherwise(now, roots, before, PAGE).await?;
        let Some((last, _)) = page.last() else { break };
        before = *last;
        for (_, mut sighting) in page {
            left = left.saturating_sub(1);
            // Its root may be another one by now.
            if let Some(root) = root_of(roots, &sighting.path) {
                root.clone_into(&mut sighting.root);
            }
            // What went away since stays judged as it was.
            let owner = match scanner.roots.stat(&sighting) {
                Ok(Some(stat)) if stat.kind == Kind::File => stat.owner,
                _ => continue,
            };
            if !told {
                info!(
                    pictures = left + 1,
                    "another model or an older decoder judged these; judging again, newest first"
                );
                told = true;
            }
            monitor.again.store(left, Ordering::Relaxed);
            tokio::select! {
                () = stop.requested() => return Ok(()),
                handed = hand_on(scanner, sighting, owner) => if !handed { return Ok(()) },
            }
        }
    }
    monitor.again.store(0, Ordering::Relaxed);
    if told {
        tokio::select! {
            () = stop.requested() => return Ok(()),
            () = written_down(scanner) => {}
        }
        info!("everything is judged by the model and the decoders in use");
    }
    Ok(())
}

/// Waits until nothing is in hand any more: what was handed on is judged only then.
async fn written_down(scanner: &Scanner) {
    while scanner.places.are_taken() || scanner.monitor.waiting().0 > 0 {
        tokio::time::sleep(PAUSE).await;
    }
}

/// Waits until little waits; answers whether the pipeline still takes candidates.
async fn hand_on(scanner: &Scanner, sighting: Sighting, owner: u32) -> bool {
    let patience = Instant::now() + PATIENCE;
    while scanner.turns.waiting() > FEW_WAITING && Instant::now() < patience {
        tokio::time::sleep(PAUSE).await;
    }
    let place = scanner.places.take(&Uploader::of(&sighting, owner)).await;
    scanner.candidates.send(Candidate { sighting, hint: Hint::None, place }).is_ok()
}
