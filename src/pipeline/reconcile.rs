//! Compares a folder with the store and hands on what was not judged yet, or has changed.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinError;
use tokio::time::timeout;
use tracing::error;

use crate::files::{Excluded, Found, Reading, Roots, walk, walk_one};
use crate::moderation::escape::escape_path;
use crate::moderation::{FileKind, FileStat, ItemId, JudgedWith, Recipe, Sighting, Uploader};
use crate::store::{Standing, Store, StoreError};
use crate::vision::decode::{has_picture_extension, kind_of};

use super::fair::{FairQueue, Queues};
use super::media::InFolder;
use super::monitor::{Monitor, count};
use super::places::{Place, Places};
use super::prepare::Prepared;
use super::settle::{Candidate, Hint};
use super::turns::Turns;

/// So many files are compared in one go.
const BATCH: usize = 256;

/// Where files of several uploaders lie in one folder, so many wait for their uploaders' places
/// while the others' are looked for.
const MOST_DEFERRED: usize = 1 << 16;

/// Between two tries of a scan that lacked descriptors or memory.
const STARVED: Duration = Duration::from_secs(1);

/// So many files that are no pictures are remembered; then it begins anew.
const MOST_KNOWN: usize = 1 << 21;

/// Files that turned out to be no pictures, so that a rescan does not open them again.
/// A few bytes a file: the hashes of path and stat, and what it is.
#[derive(Debug, Default)]
pub(super) struct NoPictures {
    hasher: RandomState,
    known: Mutex<HashMap<u64, (u64, FileKind)>>,
}

impl NoPictures {
    /// Answers whether the path is not known yet.
    pub(super) fn insert(&self, path: &Path, stat: FileStat, kind: FileKind) -> bool {
        let (path, stat) = (self.hasher.hash_one(path), self.hasher.hash_one(stat));
        let mut known = self.known();
        if known.len() >= MOST_KNOWN {
            known.clear();
        }
        known.insert(path, (stat, kind)).is_none()
    }

    /// Forgets everything: what was written through a shared mapping may have the same stat and be
    /// a picture by now.
    pub(super) fn forget(&self) {
        self.known().clear();
    }

    /// How many of each kind are known, but for what is neither picture, film nor document.
    pub(super) fn counts(&self) -> Vec<(FileKind, u64)> {
        let mut counted = BTreeMap::<FileKind, u64>::new();
        for (_, kind) in self.known().values().filter(|(_, kind)| *kind != FileKind::Other) {
            *counted.entry(*kind).or_default() += 1;
        }
        counted.into_iter().collect()
    }

    /// What it is, if it is known and unchanged.
    fn kind(&self, path: &Path, stat: FileStat) -> Option<FileKind> {
        let (known, kind) = self.known().get(&self.hasher.hash_one(path)).copied()?;
        (known == self.hasher.hash_one(stat)).then_some(kind)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<u64, (u64, FileKind)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What tells that an allowed file is still the one that was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Its size, times and number. A file that was written through a shared mapping may have all
    /// of them unchanged.
    Times,
    /// Its bytes: every allowed file is read.
    Bytes,
}

/// What a scan compares with and where it sends what it finds.
#[derive(Debug, Clone)]
pub(super) struct Scanner {
    pub store: Arc<Store>,
    pub judged_with: Arc<JudgedWith>,
    /// The recipe of what could not be judged.
    pub unjudged: Recipe,
    pub roots: Arc<Roots>,
    /// The roots' paths: what lies in several belongs to the innermost.
    pub paths: Arc<[PathBuf]>,
    pub trust: Trust,
    pub excluded: Excluded,
    /// What is not judged and is put before a person all the same.
    pub told: Arc<BTreeSet<FileKind>>,
    pub no_pictures: Arc<NoPictures>,
    pub candidates: mpsc::UnboundedSender<Candidate>,
    pub places: Arc<Places>,
    pub turns: Arc<Turns>,
    /// Where folders go that can't be read: there is nothing to decode.
    pub unread: Arc<FairQueue<Prepared>>,
    /// How many scans wait for a place.
    pub parked: Arc<AtomicUsize>,
    pub monitor: Arc<Monitor>,
}

/// A part of a watched folder that is scanned by itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Part {
    pub root: PathBuf,
    /// The root, or a folder below it.
    pub folder: PathBuf,
    pub extent: Extent,
}

/// A panic of one of our threads is one of ours.
fn resume<T>(panicked: JoinError) -> T {
    std::panic::resume_unwind(panicked.into_panic())
}

impl Part {
    /// What is scanned to find a file: its top folder, or the files that lie beside it.
    pub(super) fn of(sighting: &Sighting) -> Self {
        let root = sighting.root.clone();
        match Uploader::top_folder(sighting) {
            Some(folder) => Self { root, folder, extent: Extent::Everything },
            None => Self { folder: root.clone(), root, extent: Extent::FilesAlone },
        }
    }
}

/// How much of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Extent {
    /// The files that lie directly in it.
    FilesAlone,
    /// Whatever lies below it.
    Everything,
}

/// Counts one that waits for a place while it lives.
struct Parked<'a>(&'a AtomicUsize);

impl<'a> Parked<'a> {
    fn new(parked: &'a AtomicUsize) -> Self {
        parked.fetch_add(1, Ordering::Relaxed);
        Self(parked)
    }
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What one scan came upon.
#[derive(Debug, Default)]
pub(super) struct Scanned {
    /// Pipes and the like.
    pub special: u64,
    /// Files that are never judged, by folder and kind.
    pub folders: BTreeMap<(PathBuf, FileKind), InFolder>,
    /// Judged before, and the same since.
    pub unchanged: u64,
    /// Of these, how many are neither allowed nor approved by a person.
    pub flagged_before: u64,
    /// Something could not be looked at for want of descriptors or memory.
    pub starved: bool,
    /// Folders that could not be read.
    pub unreadable: BTreeSet<PathBuf>,
}

impl Scanner {
    /// Scans a part of a root, until there was enough to look at everything with.
    pub(super) async fn scan(
        &self,
        part: &Part,
        folders: &mpsc::UnboundedSender<PathBuf>,
    ) -> Result<Scanned, StoreError> {
        loop {
            let scanned = self.scan_once(part, folders).await?;
            if !scanned.starved || self.candidates.is_closed() {
                return Ok(scanned);
            }
            let what = "folders can't be read for want of descriptors or memory; trying again";
            error!(folder = %escape_path(&part.folder), what);
            self.monitor.went_wrong(what);
            tokio::time::sleep(STARVED).await;
        }
    }

    /// Scans a part of a root. Waits where its uploader has no place left, and where a whole
    /// folder is one uploader's, for nobody else's sake. Folders that it does not walk into go to
    /// `folders`. Ends early when the pipeline is gone.
    async fn scan_once(
        &self,
        part: &Part,
        folders: &mpsc::UnboundedSender<PathBuf>,
    ) -> Result<Scanned, StoreError> {
        let (found_out, mut found_in) = mpsc::channel(4);
        let below = part.folder.strip_prefix(&part.root).unwrap_or(Path::new("")).to_owned();
        let Ok(held) = self.roots.root(&part.root) else {
            // It went away; the look at the roots says so.
            return Ok(Scanned::default());
        };
        let excluded = self.excluded_of(&part.root);
        let mut walk = match part.extent {
            Extent::Everything => walk(held, below, excluded),
            Extent::FilesAlone => walk_one(held, below, excluded),
        };
        let walking = tokio::task::spawn_blocking(move || {
            loop {
                let batch: Vec<Found> = walk.by_ref().take(BATCH).collect();
                // Nobody listening any more is no error: the run is being stopped.
                if batch.is_empty() || found_out.blocking_send(batch).is_err() {
                    return;
                }
            }
        });
        let mut scanned = Scanned::default();
        let mut deferred = Queues::default();
        let mut wanted = true;
        while wanted && let Some(batch) = found_in.recv().await {
            let new = self.compare(part, batch, folders, &mut scanned).await?;
            for (uploader, sighting) in new {
                wanted = wanted && self.hand_on(part, uploader, sighting, &mut deferred).await;
            }
        }
        while wanted && deferred.len() > 0 {
            wanted = self.hand_on_deferred(&mut deferred).await;
        }
        drop(found_in);
        walking.await.unwrap_or_else(resume);
        if wanted && !scanned.starved {
            self.tell_unjudged(part, &mut scanned).await?;
        }
        Ok(scanned)
    }

    /// What is not looked at below a root: our own files, and roots of their own.
    fn excluded_of(&self, root: &Path) -> Excluded {
        let inner = |path: &&PathBuf| path.as_path() != root && path.starts_with(root);
        self.excluded.clone().and(self.paths.iter().filter(inner).cloned())
    }

    /// Answers what is to be judged, with whose it is.
    async fn compare(
        &self,
        part: &Part,
        batch: Vec<Found>,
        folders: &mpsc::UnboundedSender<PathBuf>,
        scanned: &mut Scanned,
    ) -> Result<Vec<(Uploader, Sighting)>, StoreError> {
        let (mut files, mut owners) = (Vec::new(), Vec::new());
        for found in batch {
            match found {
                Found::File(path, stat) => {
                    if let Some(kind) = self.no_pictures.kind(&path, stat.file) {
                        count(&self.monitor.passed);
                        self.note(kind, &path, stat.file, scanned);
                    } else {
                        files.push((path, stat.file));
                        owners.push(stat.owner);
                    }
                }
                Found::Link(path, stat) => self.note(FileKind::Link, &path, stat.file, scanned),
                // Nobody scans it only while the run is being stopped.
                Found::Folder(path) => drop(folders.send(path)),
                Found::Special(_) => scanned.special += 1,
                Found::Unreadable(path, error) => {
                    self.tell_unreadable(&part.root, path, &error, scanned).await?;
                }
            }
        }
        let mut standing = self.store.standing(&files, &self.judged_with).await?;
        if self.trust == Trust::Bytes {
            self.read_allowed(&part.root, &files, &mut standing).await?;
        }
        let (mut new, mut nameless) = (Vec::new(), Vec::new());
        for (((path, stat), owner), standing) in files.into_iter().zip(owners).zip(standing) {
            if standing != Standing::New {
                count(&self.monitor.passed);
                scanned.unchanged += 1;
                scanned.flagged_before += u64::from(standing == Standing::Flagged);
                continue;
            }
            let sighting = Sighting { path, root: part.root.clone() };
            let named = has_picture_extension(&sighting.path);
            let uploader = Uploader::of(&sighting, owner);
            if named {
                new.push((uploader, sighting));
            } else {
                nameless.push((uploader, sighting, stat));
            }
        }
        if !nameless.is_empty() {
            let looker = self.clone();
            let looking = tokio::task::spawn_blocking(move || {
                let look = |(uploader, sighting, stat)| {
                    let kind = looker.kind_at(&sighting)?;
                    Some((kind, uploader, sighting, stat))
                };
                nameless.into_iter().filter_map(look).collect::<Vec<_>>()
            });
            for (kind, uploader, sighting, stat) in looking.await.unwrap_or_else(resume) {
                if kind == FileKind::Picture {
                    new.push((uploader, sighting));
                } else {
                    self.note(kind, &sighting.path, stat, scanned);
                }
            }
        }
        Ok(new)
    }

    /// Allowed files whose bytes are others by now stand for nothing.
    async fn read_allowed(
        &self,
        root: &Path,
        files: &[(PathBuf, FileStat)],
        standing: &mut [Standing],
    ) -> Result<(), StoreError> {
        let allowed = (0..files.len()).filter(|place| standing[*place] == Standing::Clear);
        let allowed: Vec<usize> = allowed.collect();
        let paths: Vec<&Path> = allowed.iter().map(|place| files[*place].0.as_path()).collect();
        let judged = self.store.items_at(&paths).await?;
        let mut reading = Vec::new();
        for (place, item) in allowed.into_iter().zip(judged) {
            let sighting = Sighting { path: files[place].0.clone(), root: root.to_owned() };
            reading.push((place, sighting, item));
        }
        let half = reading.split_off(reading.len() / 2);
        let changed = |files: Vec<(usize, Sighting, Option<ItemId>)>| {
            let roots = Arc::clone(&self.roots);
            tokio::task::spawn_blocking(move || {
                let same = |(_, sighting, item): &(usize, Sighting, Option<ItemId>)| match roots
                    .read(sighting, 0, |_| true)
                {
                    Reading::Whole { item: now, .. } | Reading::TooLarge { item: now, .. } => {
                        *item == Some(now)
                    }
                    _ => false,
                };
                let others = files.iter().filter(|file| !same(file));
                others.map(|(place, ..)| *place).collect::<Vec<_>>()
            })
        };
        for changed in [changed(reading), changed(half)] {
            for place in changed.await.unwrap_or_else(resume) {
                standing[place] = Standing::New;
            }
        }
        Ok(())
    }

    /// What a file is, by its name or its first bytes; `None` when it is gone. What is no picture
    /// is remembered. A file that can't be read might be one.
    pub(super) fn kind_at(&self, sighting: &Sighting) -> Option<FileKind> {
        if has_picture_extension(&sighting.path) {
            return Some(FileKind::Picture);
        }
        let kind = Cell::new(FileKind::Picture);
        let look = |first: &[u8]| {
            kind.set(kind_of(&sighting.path, first));
            // That is all there is to be read.
            false
        };
        match self.roots.read(sighting, 0, look) {
            Reading::NoPicture { stat } if kind.get() != FileKind::Picture => {
                self.remember(&sighting.path, stat.file, kind.get());
                Some(kind.get())
            }
            Reading::Gone => None,
            _ => Some(FileKind::Picture),
        }
    }

    fn remember(&self, path: &Path, stat: FileStat, kind: FileKind) {
        if self.no_pictures.insert(path, stat, kind) {
            count(&self.monitor.passed);
            if kind == FileKind::Other {
                count(&self.monitor.no_pictures);
            }
        }
    }

    /// Hands a path on as soon as there is a place; answers whether the pipeline still takes any.
    async fn hand_on(
        &self,
        part: &Part,
        uploader: Uploader,
        sighting: Sighting,
        deferred: &mut Queues<Sighting>,
    ) -> bool {
        match self.places.try_take(&uploader) {
            Some(place) => return self.send(sighting, place),
            // All of it is one uploader's.
            None if part.extent == Extent::Everything => {
                let _parked = Parked::new(&self.parked);
                let place = self.places.take(&uploader).await;
                return self.send(sighting, place);
            }
            None => deferred.push(uploader, sighting),
        }
        while deferred.len() > MOST_DEFERRED {
            if !self.hand_on_deferred(deferred).await {
                return false;
            }
        }
        true
    }

    /// Hands on one of those whose uploaders had no place, or waits a while.
    async fn hand_on_deferred(&self, deferred: &mut Queues<Sighting>) -> bool {
        let mut place = None;
        let next = deferred.pop(|uploader| {
            place = self.places.try_take(uploader);
            place.is_some()
        });
        if let Some(((_, sighting), place)) = next.zip(place) {
            return self.send(sighting, place);
        }
        let _parked = Parked::new(&self.parked);
        // In vain when one became free just before.
        let _ = timeout(Duration::from_millis(100), self.places.freed()).await;
        !self.candidates.is_closed()
    }

    fn send(&self, sighting: Sighting, place: Place) -> bool {
        self.candidates.send(Candidate { sighting, hint: Hint::None, place }).is_ok()
    }

    /// Counts the files below the roots, so that progress can say how much is left.
    pub(super) fn count_files(&self, roots: &[PathBuf]) {
        let held = roots.iter().filter_map(|root| self.roots.root(root).ok());
        let found = held.flat_map(|root| {
            let excluded = self.excluded_of(&root.path);
            walk(root, PathBuf::new(), excluded)
        });
        for _ in found.filter(|found| matches!(found, Found::File(..))) {
            count(&self.monitor.total);
        }
    }
}
