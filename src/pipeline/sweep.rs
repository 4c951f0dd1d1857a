//! Scans of the watched folders: each top folder by itself, several at once, so that nobody's
//! files wait for the end of another's folder.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{error, info};

use crate::moderation::escape::escape_path;
use crate::store::StoreError;

use super::reconcile::{Extent, Part, Scanned, Scanner};

/// So many scans run at once, and besides as many as wait for places, up to the second number.
const AT_ONCE: (usize, usize) = (8, 256);

/// Until a folder is looked at into which a film or a document came.
const LATER: Duration = Duration::from_secs(2);

/// Between two looks at how many scans wait.
const PAUSE: Duration = Duration::from_millis(100);

/// The scans that run, wait to be run, and have run.
pub(super) struct Sweep {
    scanner: Scanner,
    roots: Vec<PathBuf>,
    running: JoinSet<(Part, Duration, Result<Scanned, StoreError>)>,
    /// Parts that run, and whether they are to be scanned once more.
    active: HashMap<Part, Again>,
    waiting: VecDeque<Part>,
    /// Parts that are to be scanned once more, but not at once.
    later: HashMap<Part, Instant>,
    found: mpsc::UnboundedReceiver<PathBuf>,
    folders: mpsc::UnboundedSender<PathBuf>,
    /// What the latest full scan came upon.
    scanned: HashMap<Part, Scanned>,
    full: Full,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    No,
    Yes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Full {
    /// None is under way.
    Over,
    /// One is under way.
    UnderWay,
    /// One is under way that missed something.
    Failed,
}

/// What [`Sweep::step`] saw.
#[derive(Debug)]
pub(super) enum Step {
    /// More is to be done.
    On,
    /// A full scan is over.
    Complete,
    /// The same, but it could not look at everything.
    Incomplete,
    /// The store could not be asked; the part is tried again.
    Failed(StoreError),
}

impl Sweep {
    pub(super) fn new(scanner: Scanner, roots: &[PathBuf]) -> Self {
        let (folders, found) = mpsc::unbounded_channel();
        Self {
            scanner,
            roots: roots.to_owned(),
            running: JoinSet::new(),
            active: HashMap::new(),
            waiting: VecDeque::new(),
            later: HashMap::new(),
            found,
            folders,
            scanned: HashMap::new(),
            full: Full::Over,
        }
    }

    /// Scans everything. What is being scanned already is scanned once more.
    pub(super) fn request_all(&mut self) {
        self.full = Full::UnderWay;
        self.scanned.clear();
        for root in self.roots.clone() {
            if self.scanner.roots.is_there(&root) {
                self.request(Part { folder: root.clone(), root, extent: Extent::FilesAlone });
                continue;
            }
            error!(
                root = %escape_path(&root),
                "the watched folder is gone; nothing is deleted, and it is looked for again"
            );
            self.scanner.monitor.went_wrong(format_args!("{} is gone", escape_path(&root)));
            self.full = Full::Failed;
        }
    }

    /// Scans a part: soon, or once more when it is being scanned.
    pub(super) fn request(&mut self, part: Part) {
        match self.active.get_mut(&part) {
            Some(again) => *again = Again::Yes,
            None if self.waiting.contains(&part) => {}
            None => self.waiting.push_back(part),
        }
    }

    /// Scans everything below a folder.
    pub(super) fn request_folder(&mut self, root: &Path, folder: PathBuf) {
        let extent = if folder == root { Extent::FilesAlone } else { Extent::Everything };
        self.request(Part { root: root.to_owned(), folder, extent });
    }

    /// Scans a part in a while, for what can wait for others of its kind.
    pub(super) fn request_later(&mut self, part: Part) {
        self.later.entry(part).or_insert_with(|| Instant::now() + LATER);
    }

    /// Scans a part for what found no place. `status` shows until then that something waits.
    pub(super) fn left_behind(&mut self, part: Part) {
        self.scanner.monitor.take(&part.folder);
        if !self.later.contains_key(&part) {
            self.request(part);
        }
    }

    /// Goes on until something happens. Can be dropped at any time and called again.
    pub(super) async fn step(&mut self) -> Step {
        self.start();
        let later = self.later.values().min().copied();
        let due =
            later.into_iter().chain((!self.waiting.is_empty()).then(|| Instant::now() + PAUSE));
        let due = due.min();
        tokio::select! {
            biased;
            Some(folder) = self.found.recv() => {
                if let Some(root) = root_of(&self.roots, &folder).map(Path::to_owned) {
                    self.request_folder(&root, folder);
                }
            }
            Some(ended) = self.running.join_next() => match ended {
                Ok((part, took, scanned)) => {
                    if let Some(failed) = self.ended(part, took, scanned) {
                        return Step::Failed(failed);
                    }
                }
                Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
            },
            () = until(due), if due.is_some() => {}
            else => std::future::pending().await,
        }
        if self.full == Full::Over || !self.is_over() { Step::On } else { self.complete().await }
    }

    fn is_over(&self) -> bool {
        self.active.is_empty() && self.waiting.is_empty() && self.found.is_empty()
    }

    fn start(&mut self) {
        let now = Instant::now();
        for (part, _) in self.later.extract_if(|_, due| *due <= now).collect::<Vec<_>>() {
            self.request(part);
        }
        let parked = self.scanner.parked.load(Ordering::Relaxed);
        let (at_once, most) = AT_ONCE;
        while self.running.len() < (at_once + parked).min(most)
            && let Some(part) = self.waiting.pop_front()
        {
            self.active.insert(part.clone(), Again::No);
            let (scanner, folders) = (self.scanner.clone(), self.folders.clone());
            self.running.spawn(async move {
                let start = Instant::now();
                let found = scanner.scan(&part, &folders).await;
                (part, start.elapsed(), found)
            });
        }
    }

    fn ended(
        &mut self,
        part: Part,
        took: Duration,
        scanned: Result<Scanned, StoreError>,
    ) -> Option<StoreError> {
        let mut error = None;
        let mut again = self.active.remove(&part).unwrap_or(Again::No);
        match scanned {
            Ok(scanned) => {
                if self.full != Full::Over && is_top(&part) {
                    self.scanned.insert(part.clone(), scanned);
                }
            }
            Err(failed) => {
                self.full = if self.full == Full::Over { Full::Over } else { Full::Failed };
                error = Some(failed);
                again = Again::Yes;
            }
        }
        if again == Again::Yes {
            // Not more often than half of the time.
            let pause = took.clamp(Duration::from_millis(200), Duration::from_mins(1));
            self.later.insert(part, Instant::now() + pause);
        } else {
            self.scanner.monitor.release(&part.folder);
        }
        error
    }

    async fn complete(&mut self) -> Step {
        let monitor = &self.scanner.monitor;
        let sum = |of: fn(&Scanned) -> u64| self.scanned.values().map(of).sum::<u64>();
        let unchanged = sum(|scanned| scanned.unchanged);
        monitor.special.store(sum(|scanned| scanned.special), Ordering::Relaxed);
        monitor.unchanged.store(unchanged, Ordering::Relaxed);
        monitor.flagged_before.store(sum(|scanned| scanned.flagged_before), Ordering::Relaxed);
        monitor.unreadable.store(sum(|scanned| scanned.unreadable.len() as u64), Ordering::Relaxed);
        let counted = self.scanner.count_kinds(&self.roots, &self.scanned).await;
        let complete = self.full == Full::UnderWay;
        self.full = Full::Over;
        self.scanned.clear();
        if !monitor.scanned.swap(true, Ordering::Relaxed) {
            info!(unchanged, "scanned the folders once");
        }
        let closed = self.scanner.close_readable(&self.roots).await;
        let named = self.scanner.name_what_is_there(&self.roots).await;
        let forgotten = self.scanner.forget_gone_folders(&self.roots).await;
        match counted.and(closed).and(named).and(forgotten) {
            Err(failed) => Step::Failed(failed),
            Ok(()) if complete => Step::Complete,
            Ok(()) => Step::Incomplete,
        }
    }
}

/// Of a full scan, not one of a folder that appeared deep down.
fn is_top(part: &Part) -> bool {
    part.folder == part.root || part.folder.parent() == Some(&part.root)
}

async fn until(due: Option<Instant>) {
    if let Some(due) = due {
        tokio::time::sleep_until(due).await;
    }
}

/// The innermost root that a path lies in.
pub(super) fn root_of<'a>(roots: &'a [PathBuf], path: &Path) -> Option<&'a Path> {
    roots
        .iter()
        .map(PathBuf::as_path)
        .filter(|root| path.starts_with(root))
        .max_by_key(|root| root.as_os_str().len())
}

/// One full scan of every root.
///
/// # Errors
/// When the store can't be asked.
pub(super) async fn scan_all(roots: &[PathBuf], scanner: &Scanner) -> Result<(), StoreError> {
    let mut sweep = Sweep::new(scanner.clone(), roots);
    sweep.request_all();
    while sweep.full != Full::Over {
        if let Step::Failed(failed) = sweep.step().await {
            return Err(failed);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_belongs_to_the_innermost_root() {
        let roots = [PathBuf::from("/u"), PathBuf::from("/u/avatars")];
        assert_eq!(root_of(&roots, Path::new("/u/avatars/a.png")), Some(roots[1].as_path()));
        assert_eq!(root_of(&roots, Path::new("/u/a.png")), Some(roots[0].as_path()));
        assert_eq!(root_of(&roots, Path::new("/elsewhere")), None);
    }
}
