//! Carries out what verdicts and decisions wish for: files into quarantine and back, and telling
//! hooks. Wishes lie in the store, so whatever is interrupted is done again.

mod hooks;
mod quarantine;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tracing::{info, warn};

use crate::moderation::escape::escape_path;
use crate::moderation::{ItemId, Timestamp};
use crate::store::{Place, Placement, Store, StoreError};

use super::monitor::{chain, now};

pub use hooks::{Hook, Target};

use quarantine::{Moved, Quarantine};

/// How often wishes are looked for; one look into an index.
const POLL: Duration = Duration::from_millis(500);
/// A wish that can't come true is tried again after at most so long.
const LONGEST_PAUSE_MS: i64 = 10 * 60_000;

/// Who carries out wishes.
#[derive(Debug, Clone)]
pub struct Actor {
    store: Arc<Store>,
    quarantine: Quarantine,
    hooks: Vec<Hook>,
}

/// An actor at work.
#[derive(Debug)]
pub struct Acting {
    end: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Acting {
    /// Lets it finish the file in hand; what is left is done at the next start.
    pub async fn end(self) {
        // It is gone already only when it panicked, and that was printed.
        let _ = self.end.send(());
        let _ = self.task.await;
    }
}

/// What was done in one round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Carried {
    /// Files that are where they were wanted now.
    pub done: u64,
    /// Files that could not be moved; the store says why.
    pub failed: u64,
}

impl Actor {
    /// `quarantine` is the workspace's folder for removed and held files.
    pub fn new(store: Arc<Store>, quarantine: PathBuf, hooks: Vec<Hook>) -> Self {
        Self { store, quarantine: Quarantine::at(quarantine), hooks }
    }

    /// Begins to carry out wishes, within the runtime, until it is told to end.
    pub fn start(self) -> Acting {
        let (end, ended) = oneshot::channel();
        Acting { end, task: tokio::spawn(self.run(ended)) }
    }

    async fn run(self, mut ended: oneshot::Receiver<()>) {
        let mut hooks = JoinSet::new();
        for hook in &self.hooks {
            hooks.spawn(hook.clone().run(Arc::clone(&self.store)));
        }
        let subscriptions: Vec<_> = self.hooks.iter().map(Hook::subscription).collect();
        let mut ticks = tokio::time::interval(POLL);
        let mut seen = None;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                // Told, or whoever could tell is gone.
                _ = &mut ended => return,
            }
            if let Err(error) = self.carry_out_due().await {
                warn!(%error, "files can't be moved; trying again");
            }
            let Ok(counter) = self.store.change_counter().await else { continue };
            if subscriptions.is_empty() || seen == Some(counter) {
                continue;
            }
            match self.store.fill_hooks(&subscriptions, now()).await {
                Ok(_) => seen = Some(counter),
                Err(error) => warn!(%error, "hooks can't read the audit log; trying again"),
            }
        }
    }

    /// Carries out everything that is due.
    ///
    /// # Errors
    /// When the store can't be read or written; trouble with a file is noted and counted.
    pub async fn carry_out_due(&self) -> Result<Carried, StoreError> {
        let mut carried = Carried::default();
        loop {
            // One at a time: what moves changes how many twins the next one has.
            let due = self.store.due_placements(now(), 1).await?;
            let Some(placement) = due.into_iter().next() else { return Ok(carried) };
            let quarantine = self.quarantine.clone();
            let lock = match quarantine.lock() {
                Ok(Some(lock)) => Arc::new(lock),
                // Another process is at it.
                Ok(None) => return Ok(carried),
                Err(error) => {
                    self.not_placed(&placement, &chain(&error)).await?;
                    carried.failed += 1;
                    return Ok(carried);
                }
            };
            self.carry_out(&quarantine, &lock, placement, &mut carried).await?;
        }
    }

    async fn carry_out(
        &self,
        quarantine: &Quarantine,
        lock: &Arc<File>,
        placement: Placement,
        carried: &mut Carried,
    ) -> Result<(), StoreError> {
        let (quarantine, moving) = (quarantine.clone(), placement.clone());
        // The lock goes with the work, so that it is held to its end whoever stops waiting for it.
        let lock = Arc::clone(lock);
        let moved = tokio::task::spawn_blocking(move || {
            let moved = quarantine.carry_out(&moving);
            drop(lock);
            moved
        })
        .await;
        let path = escape_path(&placement.sighting.path);
        let item = placement.item.short();
        match moved {
            Ok(Ok(Moved::Done)) => {
                self.store.record_placed(&placement, now()).await?;
                carried.done += 1;
                match placement.wanted {
                    Place::Quarantined => info!(path, item, "moved to quarantine"),
                    Place::InPlace => info!(path, item, "restored"),
                    Place::Purged => info!(item, "purged"),
                }
            }
            Ok(Ok(Moved::Lost(why))) => {
                warn!(path, item, why, "not moved");
                self.store.record_lost(&placement, &why, now()).await?;
            }
            Ok(Err(error)) => {
                let why = chain(&error);
                warn!(path, item, why, "can't move; trying again later");
                self.not_placed(&placement, &why).await?;
                carried.failed += 1;
            }
            Err(panicked) => {
                self.not_placed(&placement, &format!("a defect of modtool: {panicked}")).await?;
                carried.failed += 1;
            }
        }
        Ok(())
    }

    async fn not_placed(&self, placement: &Placement, why: &str) -> Result<(), StoreError> {
        let pause = (1000_i64 << placement.attempts.min(20)).min(LONGEST_PAUSE_MS);
        let again_at = Timestamp(now().0.saturating_add(pause));
        self.store.record_not_placed(placement, why, again_at).await
    }

    /// Where the bytes of an item would lie in the quarantine.
    pub fn place_of(&self, item: ItemId) -> PathBuf {
        self.quarantine.place_of(item)
    }
}

/// What became of the files of an item that is erased.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ErasedFiles {
    /// Deleted.
    pub deleted: u64,
    /// Left alone, because other bytes lie there.
    pub left: Vec<PathBuf>,
    /// Could not be deleted, with why.
    pub failed: Vec<(PathBuf, String)>,
}

/// Deletes the bytes of an item at these paths and in the quarantine. A file that holds other
/// bytes is left alone. Again is no harm.
pub fn erase_files(quarantine: &Path, item: ItemId, paths: &[PathBuf]) -> ErasedFiles {
    let quarantine = Quarantine::at(quarantine.to_owned());
    let mut erased = ErasedFiles::default();
    let place = quarantine.place_of(item);
    for path in paths.iter().chain([&place]) {
        match quarantine::delete_if(path, item) {
            Ok(quarantine::Deleted::Yes) => erased.deleted += 1,
            Ok(quarantine::Deleted::WasGone) => {}
            Ok(quarantine::Deleted::OtherBytes) => erased.left.push(path.clone()),
            Err(error) => erased.failed.push((path.clone(), chain(&error))),
        }
    }
    if let Err(error) = quarantine.forget(item) {
        erased.failed.push((place, chain(&error)));
    }
    erased
}

/// Where the bytes of an item would lie in this quarantine folder.
pub fn quarantined_at(folder: &Path, item: ItemId) -> PathBuf {
    Quarantine::at(folder.to_owned()).place_of(item)
}
