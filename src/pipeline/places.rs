//! Places in the settling stage: so many in all, and nobody takes more than are left for others.
//!
//! What finds no place stays in its folder, which is the overflow store.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::moderation::Uploader;

/// So many paths may settle at once.
const MOST: usize = 1024;

/// The places, and who has them.
#[derive(Debug)]
pub(super) struct Places {
    taken: Mutex<Taken>,
    freed: Notify,
    most: usize,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by: HashMap<Uploader, usize>,
}

/// One place; free again when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    /// Whom it was given to.
    pub(super) uploader: Uploader,
    places: Arc<Places>,
}

impl Default for Places {
    fn default() -> Self {
        Self { taken: Mutex::default(), freed: Notify::new(), most: MOST }
    }
}

impl Places {
    /// A place, unless the uploader has as many as there are left.
    pub(super) fn try_take(self: &Arc<Self>, uploader: &Uploader) -> Option<Place> {
        let mut taken = self.taken();
        let free = self.most.saturating_sub(taken.all);
        if taken.by.get(uploader).copied().unwrap_or(0) >= free {
            return None;
        }
        Some(self.give(&mut taken, uploader))
    }

    /// The same, as soon as there is one.
    pub(super) async fn take(self: &Arc<Self>, uploader: &Uploader) -> Place {
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            // Listens from here on: what is freed after the next look is not missed.
            freed.as_mut().enable();
            if let Some(place) = self.try_take(uploader) {
                return place;
            }
            freed.await;
        }
    }

    /// A place for a path that had one before, and comes back from a later stage.
    pub(super) fn take_back(self: &Arc<Self>, uploader: &Uploader) -> Place {
        self.give(&mut self.taken(), uploader)
    }

    /// Whether anybody has one.
    pub(super) fn are_taken(&self) -> bool {
        self.taken().all > 0
    }

    /// Resolves when the next place is free.
    pub(super) async fn freed(&self) {
        self.freed.notified().await;
    }

    fn give(self: &Arc<Self>, taken: &mut Taken, uploader: &Uploader) -> Place {
        taken.all += 1;
        *taken.by.entry(uploader.clone()).or_default() += 1;
        Place { uploader: uploader.clone(), places: Arc::clone(self) }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.all = taken.all.saturating_sub(1);
        if let Some(count) = taken.by.get_mut(&self.uploader) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                taken.by.remove(&self.uploader);
            }
        }
        drop(taken);
        self.places.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(most: usize) -> Arc<Places> {
        Arc::new(Places { most, ..Places::default() })
    }

    fn uploader(name: &str) -> Uploader {
        Uploader::Folder(name.into())
    }

    #[test]
    fn there_is_always_a_place_for_who_comes_next() {
        let (places, eve) = (places(16), uploader("eve"));
        let mut held: Vec<_> = std::iter::from_fn(|| places.try_take(&eve)).collect();
        assert_eq!(held.len(), 8, "as many as are left");
        for name in ["ann", "bob", "cid"] {
            held.push(places.try_take(&uploader(name)).expect(name));
        }
        assert!(places.try_take(&eve).is_none());
        held.push(places.take_back(&eve));
        drop(held);
        assert!(places.taken().by.is_empty() && places.taken().all == 0);
        assert!(places.try_take(&eve).is_some());
    }

    #[tokio::test]
    async fn who_waits_for_a_place_gets_the_next_that_is_free() {
        let (places, eve) = (places(2), uploader("eve"));
        let held = places.try_take(&eve).expect("the first");
        let waiting = {
            let (places, eve) = (Arc::clone(&places), eve.clone());
            tokio::spawn(async move { places.take(&eve).await })
        };
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(held);
        let got = tokio::time::timeout(std::time::Duration::from_secs(20), waiting).await;
        assert_eq!(got.expect("in time").expect("no panic").uploader, eve);
    }
}
