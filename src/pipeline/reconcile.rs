//! Compares a folder with the store and hands on what was not judged yet, or has changed.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use tracing::warn;

use crate::files::{Excluded, Found, Roots, walk};
use crate::moderation::escape::escape_path;
use crate::moderation::{FileStat, Fingerprint, Sighting};
use crate::store::{Standing, Store, StoreError};

use super::monitor::{Monitor, count};
use super::settle::{Candidate, Hint};

/// So many files are compared in one go.
const BATCH: usize = 256;

/// Files that turned out to be no pictures, so that a rescan does not open them again.
/// Sixteen bytes a path: its hash, and that of its latest stat.
#[derive(Debug, Default)]
pub(super) struct NoPictures {
    hasher: RandomState,
    known: Mutex<HashMap<u64, u64>>,
}

impl NoPictures {
    /// Answers whether the path was not known before.
    pub(super) fn insert(&self, path: &Path, stat: FileStat) -> bool {
        let (path, stat) = (self.hasher.hash_one(path), self.hasher.hash_one(stat));
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(path, stat).is_none()
    }

    fn contains(&self, path: &Path, stat: FileStat) -> bool {
        let (path, stat) = (self.hasher.hash_one(path), self.hasher.hash_one(stat));
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&path) == Some(&stat)
    }
}

/// What a scan compares with and where it sends what it finds.
#[derive(Debug, Clone)]
pub(super) struct Scanner {
    pub store: Arc<Store>,
    /// Of the model in use.
    pub fingerprint: Fingerprint,
    pub roots: Arc<Roots>,
    pub excluded: Excluded,
    pub no_pictures: Arc<NoPictures>,
    pub candidates: mpsc::Sender<Candidate>,
    pub monitor: Arc<Monitor>,
}

/// What one scan came upon.
#[derive(Debug, Default)]
pub(super) struct Scanned {
    /// Links, pipes and the like.
    pub special: u64,
    /// Judged before, and the same since.
    pub unchanged: u64,
    /// Of these, how many are neither allowed nor approved by a person.
    pub flagged_before: u64,
    /// Folders or entries that could not be read, with why.
    pub unreadable: Vec<(PathBuf, std::io::Error)>,
}

impl Scanner {
    /// Scans `folder`, which is `root` or lies below it. Blocks where the pipeline is full.
    /// Ends early when the pipeline is gone.
    pub(super) async fn scan(&self, root: &Path, folder: &Path) -> Result<Scanned, StoreError> {
        let (found_out, mut found_in) = mpsc::channel(4);
        let mut walk = match (self.roots.root(root), folder.strip_prefix(root)) {
            (Ok(held), Ok(below)) => walk(held, below.to_owned(), self.excluded.clone()),
            // It went away; the look at the roots says so.
            _ => return Ok(Scanned::default()),
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
        while let Some(batch) = found_in.recv().await {
            if !self.compare(root, batch, &mut scanned).await? {
                break;
            }
        }
        drop(found_in);
        if let Err(panicked) = walking.await {
            std::panic::resume_unwind(panicked.into_panic());
        }
        Ok(scanned)
    }

    /// Scans a folder that appeared; one that went away again holds nothing.
    pub(super) async fn scan_again(&self, root: &Path, folder: &Path) -> Result<(), StoreError> {
        let below = folder.strip_prefix(root).unwrap_or(Path::new(""));
        let there = self.roots.root(root).is_ok_and(|held| held.folder.folder(below).is_ok());
        if there { self.scan(root, folder).await.map(|_| ()) } else { Ok(()) }
    }

    /// Answers whether the pipeline still takes candidates.
    async fn compare(
        &self,
        root: &Path,
        batch: Vec<Found>,
        scanned: &mut Scanned,
    ) -> Result<bool, StoreError> {
        let mut files = Vec::with_capacity(batch.len());
        for found in batch {
            match found {
                Found::File(path, stat) if self.no_pictures.contains(&path, stat.file) => {
                    count(&self.monitor.passed);
                }
                Found::File(path, stat) => files.push((path, stat.file)),
                Found::Special(_) => scanned.special += 1,
                Found::Unreadable(path, error) => {
                    warn!(path = %escape_path(&path), %error, "can't be read");
                    self.monitor.went_wrong(format_args!("{}: {error}", escape_path(&path)));
                    scanned.unreadable.push((path, error));
                }
            }
        }
        let standing = self.store.standing(&files, &self.fingerprint).await?;
        for ((path, _), standing) in files.into_iter().zip(standing) {
            if standing != Standing::New {
                count(&self.monitor.passed);
                scanned.unchanged += 1;
                scanned.flagged_before += u64::from(standing == Standing::Flagged);
                continue;
            }
            let sighting = Sighting { path, root: root.to_owned() };
            if self.candidates.send(Candidate { sighting, hint: Hint::None }).await.is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Counts the files below the roots, so that progress can say how much is left.
    pub(super) fn count_files(&self, roots: &[PathBuf]) {
        let held = roots.iter().filter_map(|root| self.roots.root(root).ok());
        let found = held.flat_map(|root| walk(root, PathBuf::new(), self.excluded.clone()));
        for _ in found.filter(|found| matches!(found, Found::File(..))) {
            count(&self.monitor.total);
        }
    }
}
