//! Carries out what verdicts and decisions wish for: files into quarantine and back, and telling
//! hooks. Wishes lie in the store, so whatever is interrupted is done again.

mod hooks;
mod manifest;
mod quarantine;
mod steps;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tracing::{info, warn};

use crate::files::{Entry, Roots};
use crate::moderation::escape::escape_path;
use crate::moderation::{ItemId, Sighting, Timestamp};
use crate::store::{Erasable, Move, Place, Placement, Store, StoreError};

use super::monitor::{chain, now};

pub use hooks::{Hook, Target};
pub use quarantine::MoveLock;
pub use steps::STEPS;

use quarantine::{Deleted, FirstLook, MoveError, Quarantine, Ready, Recovery, Removal};
use steps::pass;

/// How often wishes are looked for; one look into an index.
const POLL: Duration = Duration::from_millis(500);
/// A wish that can't come true is tried again after at most so long.
const LONGEST_PAUSE_MS: i64 = 10 * 60_000;

/// How long a command waits for another process that moves files.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Who carries out wishes.
#[derive(Debug, Clone)]
pub struct Actor {
    store: Arc<Store>,
    roots: Arc<Roots>,
    quarantine: Quarantine,
    hooks: Vec<Hook>,
}

/// Why one wish was not carried out.
enum Trouble {
    /// The store can't be read or written.
    Store(StoreError),
    /// The file can't be moved.
    File(MoveError),
    /// A defect of this program.
    Panicked(tokio::task::JoinError),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<MoveError> for Trouble {
    fn from(error: MoveError) -> Self {
        Self::File(error)
    }
}

/// How one wish was carried out.
enum Moved {
    /// The file is where it was wanted; the text says what could not be given back.
    Done(Option<String>),
    /// There is nothing to move; the text says why.
    Lost(&'static str),
}

const OTHER_BYTES: &str = "other bytes lie at this path now; they stay";

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
    /// `roots` are the folders of uploads, `quarantine` is the workspace's folder for removed and
    /// held files.
    pub fn new(
        store: Arc<Store>,
        roots: Arc<Roots>,
        quarantine: PathBuf,
        hooks: Vec<Hook>,
    ) -> Self {
        Self { store, roots, quarantine: Quarantine::at(quarantine), hooks }
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
            if let Err(error) = self.carry_out_due(Duration::ZERO).await {
                warn!(%error, "files can't be moved; trying again");
            }
            let Ok(last) = self.store.last_audit_event().await else { continue };
            if subscriptions.is_empty() || seen == Some(last) {
                continue;
            }
            match self.store.fill_hooks(&subscriptions, now()).await {
                Ok(_) => seen = Some(last),
                Err(error) => warn!(%error, "hooks can't read the audit log; trying again"),
            }
        }
    }

    /// Carries out everything that is due. While another process moves files it does not begin;
    /// it waits for that for at most `patience`.
    ///
    /// # Errors
    /// When the store can't be read or written; trouble with a file is noted and counted.
    pub async fn carry_out_due(&self, patience: Duration) -> Result<Carried, StoreError> {
        let mut carried = Carried::default();
        loop {
            // A look without the lock, which most of the time says that there is nothing to do.
            let due = self.store.due_placements(now(), 1).await?;
            let Some(first) = due.into_iter().next() else { return Ok(carried) };
            let lock = match self.lock(patience).await {
                Ok(Some(lock)) => lock,
                // Another process is at it.
                Ok(None) => return Ok(carried),
                Err(error) => {
                    self.not_placed(&first, &chain(&error)).await?;
                    carried.failed += 1;
                    return Ok(carried);
                }
            };
            // Read again: what was due before may have been carried out by whoever had the lock.
            // One at a time: what moves changes who else needs the same bytes.
            let due = self.store.due_placements(now(), 1).await?;
            if let Some(placement) = due.into_iter().next() {
                self.carry_out(placement, &mut carried).await?;
            }
            drop(lock);
        }
    }

    async fn lock(&self, patience: Duration) -> Result<Option<MoveLock>, MoveError> {
        let quarantine = self.quarantine.clone();
        let locking = tokio::task::spawn_blocking(move || quarantine.lock(patience));
        // It does not panic; should it, nothing is moved.
        locking.await.unwrap_or(Ok(None))
    }

    async fn carry_out(
        &self,
        placement: Placement,
        carried: &mut Carried,
    ) -> Result<(), StoreError> {
        let moved = match placement.wanted {
            Place::Quarantined => self.remove(&placement).await,
            Place::InPlace => self.restore(&placement).await,
            Place::Purged => self.purge(&placement).await,
        };
        let path = escape_path(&placement.sighting.path);
        let item = placement.item.short();
        let why = match moved {
            Ok(Moved::Done(note)) => {
                self.store.record_placed(&placement, note.as_deref(), now()).await?;
                pass("recorded");
                carried.done += 1;
                match (placement.wanted, note) {
                    (Place::Quarantined, _) => info!(path, item, "moved to quarantine"),
                    (Place::Purged, _) => info!(item, "purged"),
                    (Place::InPlace, None) => info!(path, item, "restored"),
                    (Place::InPlace, Some(lost)) => {
                        warn!(path, item, lost, "restored, but not all that belonged to it");
                    }
                }
                return Ok(());
            }
            Ok(Moved::Lost(why)) => {
                warn!(path, item, why, "not moved");
                return self.store.record_lost(&placement, why, now()).await;
            }
            Err(Trouble::Store(error)) => return Err(error),
            Err(Trouble::File(error)) => chain(&error),
            Err(Trouble::Panicked(panicked)) => format!("a defect of modtool: {panicked}"),
        };
        warn!(path, item, why, "can't move; trying again later");
        carried.failed += 1;
        self.not_placed(&placement, &why).await
    }

    /// Ends what an interrupted removal left; `None` when there was nothing.
    async fn finish(&self, placement: &Placement) -> Result<Option<Recovery>, Trouble> {
        let Some(begun) = self.store.unfinished_move(placement.id).await? else { return Ok(None) };
        let (roots, moving) = (Arc::clone(&self.roots), placement.clone());
        let finish = move |quarantine: &Quarantine| quarantine.finish(&roots, &moving, &begun);
        self.blocking(finish).await.map(Some)
    }

    /// A file goes into the quarantine.
    async fn remove(&self, placement: &Placement) -> Result<Moved, Trouble> {
        match self.finish(placement).await? {
            Some(Recovery::Removed) => return Ok(Moved::Done(None)),
            Some(Recovery::PutBack) => return self.missed(placement, OTHER_BYTES).await,
            Some(Recovery::NotBegun) => self.store.end_move(placement.id).await?,
            None => {}
        }
        let (roots, moving) = (Arc::clone(&self.roots), placement.clone());
        let copied = self.blocking(move |quarantine| quarantine.copy_in(&roots, &moving)).await?;
        match copied {
            FirstLook::Gone => {
                let moving = placement.clone();
                let there = self.blocking(move |quarantine| quarantine.take_over(&moving)).await?;
                if there {
                    return Ok(Moved::Done(None));
                }
                self.missed(placement, "the file is gone; nothing to remove").await
            }
            FirstLook::OtherBytes => self.missed(placement, OTHER_BYTES).await,
            FirstLook::Ready(ready) => self.take_away(placement, ready).await,
        }
    }

    /// There is nothing to remove; but a file of the same bytes that was removed from this path
    /// before still lies in the quarantine, and is what the placement is about then.
    async fn missed(&self, placement: &Placement, why: &'static str) -> Result<Moved, Trouble> {
        let (item, path) = (placement.item, placement.sighting.path.clone());
        let held = self.blocking(move |quarantine| quarantine.holds_from(item, &path)).await?;
        Ok(if held { Moved::Done(None) } else { Moved::Lost(why) })
    }

    /// Deletes a copy that was made for an attempt which failed: the next one makes it anew.
    async fn give_up(&self, placement: &Placement, copied: bool) -> Result<(), Trouble> {
        if copied { self.forget_unless_needed(placement).await } else { Ok(()) }
    }

    /// The quarantine holds its bytes: the upload leaves its path. Where it stands meanwhile is
    /// written down first.
    async fn take_away(&self, placement: &Placement, ready: Ready) -> Result<Moved, Trouble> {
        let asides = self.quarantine.asides(&ready)?;
        let identity = ready.stat.identity;
        let (mut ready, item) = (ready, placement.item);
        for aside in asides {
            let begun = Move {
                placement: placement.id,
                path: aside.path.clone(),
                device: identity.device,
                inode: identity.inode,
            };
            self.store.begin_move(&begun, now()).await?;
            pass("begun");
            let taken;
            (taken, ready) = self
                .blocking(move |_| {
                    let taken = Quarantine::take_away(&mut ready, &aside, item)?;
                    Ok((taken, ready))
                })
                .await?;
            match taken {
                Removal::Gone => return Ok(Moved::Done(None)),
                Removal::OtherBytes => {
                    self.give_up(placement, ready.copied).await?;
                    return self.missed(placement, OTHER_BYTES).await;
                }
                Removal::OtherDevice => {}
                Removal::Refused(error) => {
                    self.store.end_move(placement.id).await?;
                    self.give_up(placement, ready.copied).await?;
                    return Err(error.into());
                }
            }
        }
        self.store.end_move(placement.id).await?;
        Ok(Moved::Lost("its folder is on another file system than itself"))
    }

    /// A file goes back to its path, and the quarantine forgets it unless others need its bytes.
    async fn restore(&self, placement: &Placement) -> Result<Moved, Trouble> {
        if self.finish(placement).await? == Some(Recovery::PutBack) {
            return Ok(Moved::Lost(OTHER_BYTES));
        }
        let (roots, moving) = (Arc::clone(&self.roots), placement.clone());
        let lost = self.blocking(move |quarantine| quarantine.put_back(&roots, &moving)).await?;
        let (item, path) = (placement.item, placement.sighting.path.clone());
        self.blocking(move |quarantine| quarantine.forget_path(item, &path)).await?;
        self.forget_unless_needed(placement).await?;
        Ok(Moved::Done(lost))
    }

    /// Other paths of the same bytes may still be undecided: the bytes stay for them.
    async fn purge(&self, placement: &Placement) -> Result<Moved, Trouble> {
        self.forget_unless_needed(placement).await?;
        Ok(Moved::Done(None))
    }

    /// Deletes the copy in the quarantine, unless another path needs it by now. Under the lock.
    async fn forget_unless_needed(&self, placement: &Placement) -> Result<(), Trouble> {
        let item = placement.item;
        if self.store.is_needed_by_others(item, placement.id).await? {
            return Ok(());
        }
        self.blocking(move |quarantine| quarantine.forget(item)).await
    }

    /// Runs what waits for the disk where it holds nobody up.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Quarantine) -> Result<T, MoveError> + Send + 'static,
    ) -> Result<T, Trouble> {
        let quarantine = self.quarantine.clone();
        let worked = tokio::task::spawn_blocking(move || work(&quarantine)).await;
        Ok(worked.map_err(Trouble::Panicked)??)
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

/// Keeps other processes from moving files until it is dropped; `None` when one does so for
/// longer than `patience`.
///
/// # Errors
/// When the quarantine can't be made or locked; the text says why.
pub fn lock_moves(quarantine: &Path, patience: Duration) -> Result<Option<MoveLock>, String> {
    Quarantine::at(quarantine.to_owned()).lock(patience).map_err(|error| chain(&error))
}

/// Deletes the bytes of an item where it was seen, in the quarantine, and wherever an interrupted
/// move left them. A file that holds other bytes is left alone. Again is no harm. To be called
/// under the lock of [`lock_moves`].
pub fn erase_files(quarantine: &Path, erasable: &Erasable, unfinished: &[Move]) -> ErasedFiles {
    let (quarantine, item) = (Quarantine::at(quarantine.to_owned()), erasable.item);
    let (mut erased, roots) = (ErasedFiles::default(), Roots::default());
    for sighting in &erasable.sightings {
        erase_one(&quarantine, erasable, &sighting.path, entry(&roots, sighting), &mut erased);
    }
    let left = erased.left.len();
    for sighting in &erasable.earlier {
        erase_one(&quarantine, erasable, &sighting.path, entry(&roots, sighting), &mut erased);
    }
    // That other bytes lie where it was before is no news.
    erased.left.truncate(left);
    // What stands in the quarantine itself is cleared with it.
    for begun in unfinished.iter().filter(|begun| !quarantine.contains(&begun.path)) {
        let mut seen = erasable.sightings.iter().chain(&erasable.earlier);
        let root = seen.find(|seen| begun.path.starts_with(&seen.root)).map(|seen| &seen.root);
        let root = root.unwrap_or(&begun.path).clone();
        let stands = entry(&roots, &Sighting { path: begun.path.clone(), root });
        erase_one(&quarantine, erasable, &begun.path, stands, &mut erased);
    }
    let place = quarantine.place_of(item);
    let forgotten = quarantine.holds(item).and_then(|held| {
        quarantine.forget(item)?;
        Ok(u64::from(held) + quarantine.clear_incoming(item)?)
    });
    match forgotten {
        Ok(deleted) => erased.deleted += deleted,
        Err(error) => erased.failed.push((place, chain(&error))),
    }
    erased
}

/// Beneath its root, or where a person named the place that it was restored to.
fn entry(roots: &Roots, sighting: &Sighting) -> std::io::Result<Option<Entry>> {
    if sighting.path.starts_with(&sighting.root) && sighting.path != sighting.root {
        roots.entry(sighting)
    } else {
        Entry::without_links(&sighting.path).map(Some)
    }
}

fn erase_one(
    quarantine: &Quarantine,
    erasable: &Erasable,
    path: &Path,
    entry: std::io::Result<Option<Entry>>,
    erased: &mut ErasedFiles,
) {
    let entry = match entry {
        Ok(Some(entry)) => entry,
        // Its folder is gone, or has become a link: nothing of ours is behind it.
        Ok(None) => return,
        // So is its whole watched folder.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
        Err(error) => {
            erased.failed.push((path.to_owned(), error.to_string()));
            return;
        }
    };
    match quarantine.delete_if(&entry, erasable.item, erasable.bytes) {
        Ok(Deleted::Yes) => erased.deleted += 1,
        Ok(Deleted::WasGone) => {}
        Ok(Deleted::OtherBytes) => erased.left.push(path.to_owned()),
        Err(error) => erased.failed.push((path.to_owned(), chain(&error))),
    }
}

/// Where the bytes of an item would lie in this quarantine folder, by its real name.
pub fn quarantined_at(folder: &Path, item: ItemId) -> PathBuf {
    let real = std::fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    Quarantine::at(real).place_of(item)
}
