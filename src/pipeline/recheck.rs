//! Reads allowed files again: what is written through a shared mapping changes without an event,
//! and on some file systems without a new time.
//!
//! A file that somebody still had open for writing when it was judged is read again soon, and all
//! others by and by, slowly and when the disk has nothing better to do.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tracing::{debug, warn};

use crate::files::{Reading, Roots};
use crate::moderation::escape::escape_path;
use crate::moderation::{ItemId, Sighting, Timestamp, Uploader};
use crate::store::StoreError;
use crate::vision::sandbox;

use super::Stop;
use super::monitor::{chain, now};
use super::reconcile::Scanner;
use super::settle::{Candidate, Hint};

/// How allowed files are read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecheckPace {
    /// Each once in so many days.
    pub days: u32,
    /// At so many bytes a second at most; 0: never.
    pub bytes_per_second: u64,
}

/// A share of all allowed files is read each hour.
const SHARE: Duration = Duration::from_hours(1);

/// So many of a share are asked for at once.
const PAGE: u32 = 256;

/// Between two looks at what is due.
const PAUSE: Duration = Duration::from_secs(1);

/// A file that is still open is read again after this, then after twice as long, up to the second.
const OPEN: (Duration, Duration) = (Duration::from_secs(2), Duration::from_mins(1));

/// So many open files are remembered, of one uploader and in all; the others wait for their share.
const MOST_OPEN: (usize, usize) = (32, 1024);

/// Bytes a second of open files.
const OPEN_PACE: u64 = 50 << 20;

/// Files that were still open for writing when they were judged.
#[derive(Debug, Default)]
pub(super) struct OpenFiles(Mutex<HashMap<PathBuf, OpenFile>>);

#[derive(Debug, Clone)]
struct OpenFile {
    sighting: Sighting,
    uploader: Uploader,
    item: ItemId,
    due: Instant,
    pause: Duration,
}

impl OpenFiles {
    /// Remembers a file that was just read, if somebody still has it open for writing and the
    /// system tells.
    pub(super) fn remember(
        &self,
        roots: &Roots,
        sighting: &Sighting,
        item: ItemId,
        uploader: &Uploader,
    ) {
        if is_open(roots, sighting) == Some(true) {
            self.insert(sighting, item, uploader);
        }
    }

    fn insert(&self, sighting: &Sighting, item: ItemId, uploader: &Uploader) {
        let mut open = self.open();
        let same = open.values().filter(|one| one.uploader == *uploader).count();
        if same >= MOST_OPEN.0 || open.len() >= MOST_OPEN.1 {
            return;
        }
        let (sighting, uploader, pause) = (sighting.clone(), uploader.clone(), OPEN.0);
        let due = Instant::now() + pause;
        open.insert(sighting.path.clone(), OpenFile { sighting, uploader, item, due, pause });
    }

    /// Those that are due are taken out.
    fn due(&self, now: Instant) -> Vec<OpenFile> {
        self.open().extract_if(|_, one| one.due <= now).map(|(_, one)| one).collect()
    }

    fn put_back(&self, mut one: OpenFile) {
        one.pause = (one.pause * 2).min(OPEN.1);
        one.due = Instant::now() + one.pause;
        // Unless it was judged again meanwhile, and is news.
        self.open().entry(one.sighting.path.clone()).or_insert(one);
    }

    fn open(&self) -> MutexGuard<'_, HashMap<PathBuf, OpenFile>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_open(roots: &Roots, sighting: &Sighting) -> Option<bool> {
    let (file, _) = roots.open(sighting).ok()??;
    sandbox::is_open_for_writing(&file)
}

/// Reads files again until the stop, on a thread of its own.
pub(super) fn start(scanner: Scanner, open: Arc<OpenFiles>, pace: RecheckPace, stop: Stop) {
    let runtime = Handle::current();
    let rechecking = Rechecking { scanner, open, pace, stop, runtime };
    let started =
        std::thread::Builder::new().name("reading again".to_owned()).spawn(|| rechecking.run());
    if let Err(error) = started {
        warn!(%error, "allowed files are not read again");
    }
}

struct Rechecking {
    scanner: Scanner,
    open: Arc<OpenFiles>,
    pace: RecheckPace,
    stop: Stop,
    runtime: Handle,
}

/// What a second reading told.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// The bytes that were judged.
    Same,
    /// Others, and they are on their way to be judged.
    Changed,
    /// Nothing that can be read; the scans see to it.
    Gone,
}

impl Rechecking {
    fn run(mut self) {
        sandbox::use_idle_disk();
        let mut next_share = Instant::now() + SHARE;
        while !self.stop.is_requested() {
            for one in self.open.due(Instant::now()) {
                let closed = is_open(&self.scanner.roots, &one.sighting) != Some(true);
                // Looked at before it is read: what is written in between is read.
                let (found, bytes) = self.look(&one.sighting, one.item, &one.uploader);
                if found == Found::Same && !closed {
                    self.open.put_back(one);
                }
                self.rest(bytes, OPEN_PACE);
            }
            if next_share <= Instant::now() {
                next_share = Instant::now() + SHARE;
                self.scanner.no_pictures.forget();
                if self.pace.bytes_per_second > 0
                    && let Err(failed) = self.share()
                {
                    warn!(error = chain(&failed), "allowed files can't be read again now");
                }
            }
            self.sleep(PAUSE);
        }
    }

    /// The share of an hour, those first that were not looked at for longest.
    fn share(&mut self) -> Result<(), StoreError> {
        let started = now();
        let all = self.runtime.block_on(self.scanner.store.count_allowed())?;
        let mut left = all.div_ceil(24 * u64::from(self.pace.days));
        debug!(files = left, of = all, "reading allowed files again");
        while left > 0 && !self.stop.is_requested() {
            let page = PAGE.min(u32::try_from(left).unwrap_or(PAGE));
            let files = self.runtime.block_on(self.scanner.store.checked_before(started, page))?;
            if files.is_empty() {
                return Ok(());
            }
            left -= files.len() as u64;
            self.check(files)?;
        }
        Ok(())
    }

    fn check(&mut self, files: Vec<(i64, Sighting, ItemId)>) -> Result<(), StoreError> {
        let mut checked: Vec<i64> = Vec::with_capacity(files.len());
        for (number, sighting, item) in files {
            if self.stop.is_requested() {
                break;
            }
            let owner = self.scanner.roots.stat(&sighting).ok().flatten();
            let uploader = Uploader::of(&sighting, owner.map_or(0, |stat| stat.owner));
            let (_, bytes) = self.look(&sighting, item, &uploader);
            checked.push(number);
            self.rest(bytes, self.pace.bytes_per_second);
        }
        let at: Timestamp = now();
        self.runtime.block_on(self.scanner.store.record_checked(&checked, at))
    }

    /// Reads a file; other bytes than were judged are judged like a new upload.
    fn look(&self, sighting: &Sighting, item: ItemId, uploader: &Uploader) -> (Found, u64) {
        // Hashed without being kept.
        match self.scanner.roots.read(sighting, 0, |_| true) {
            Reading::Whole { item: found, stat, .. } | Reading::TooLarge { item: found, stat }
                if found == item =>
            {
                (Found::Same, stat.file.size)
            }
            Reading::Whole { stat, .. }
            | Reading::TooLarge { stat, .. }
            | Reading::Changed { stat, .. } => {
                warn!(
                    path = %escape_path(&sighting.path),
                    "the file is not the one that was allowed; it is judged again"
                );
                let place = self.runtime.block_on(self.scanner.places.take(uploader));
                let candidate = Candidate { sighting: sighting.clone(), hint: Hint::None, place };
                // Closed only when the run ends.
                let _ = self.scanner.candidates.send(candidate);
                (Found::Changed, stat.file.size)
            }
            _ => (Found::Gone, 0),
        }
    }

    /// Reads no more than so many bytes a second.
    fn rest(&mut self, bytes: u64, per_second: u64) {
        let milliseconds = bytes.saturating_mul(1000) / per_second.max(1);
        self.sleep(Duration::from_millis(milliseconds));
    }

    fn sleep(&mut self, pause: Duration) {
        let stop = &mut self.stop;
        // The clock of the runtime is known inside of it only.
        let rest = async { tokio::time::timeout(pause, stop.requested()).await };
        // Whether it was the stop or the time: both are looked at next.
        let _ = self.runtime.block_on(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sighting(name: &str) -> Sighting {
        Sighting { path: PathBuf::from("/u").join(name), root: "/u".into() }
    }

    #[test]
    fn one_uploader_does_not_fill_the_list_of_open_files() {
        let open = OpenFiles::default();
        let (eve, bob) = (Uploader::Folder("/u/eve".into()), Uploader::Folder("/u/bob".into()));
        let item = ItemId::of_bytes(b"x");
        for name in 0..100 {
            open.insert(&sighting(&format!("eve/{name}")), item, &eve);
        }
        open.insert(&sighting("bob/a"), item, &bob);
        assert_eq!(open.open().len(), MOST_OPEN.0 + 1);
        assert!(open.due(Instant::now()).is_empty());
        let due = open.due(Instant::now() + OPEN.0);
        assert_eq!((due.len(), open.open().len()), (MOST_OPEN.0 + 1, 0));
        let one = due[0].clone();
        open.put_back(one.clone());
        assert!(open.due(Instant::now() + OPEN.0).is_empty(), "the next time it takes longer");
        assert_eq!(open.due(Instant::now() + OPEN.0 * 2).len(), 1);
        open.insert(&one.sighting, ItemId::of_bytes(b"y"), &one.uploader);
        open.put_back(one.clone());
        assert_ne!(open.open()[&one.sighting.path].item, one.item, "news are not forgotten");
    }

    #[test]
    fn who_has_a_file_open_for_writing_is_known_for_own_files() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let root = std::fs::canonicalize(dir.path()).expect("there");
        let sighting = Sighting { path: root.join("a"), root };
        let file = std::fs::File::create(&sighting.path).expect("made");
        let roots = Roots::default();
        // Some file systems of containers have no leases.
        let Some(open) = is_open(&roots, &sighting) else { return };
        assert!(open);
        drop(file);
        assert_eq!(is_open(&roots, &sighting), Some(false));
    }
}
