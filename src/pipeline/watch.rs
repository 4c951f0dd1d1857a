//! Turns a watcher's news into candidates. News are hints; the scan is the truth.

#[cfg(not(target_os = "linux"))]
#[path = "watch/elsewhere.rs"]
mod kernel;
#[cfg(target_os = "linux")]
mod kernel;

#[cfg(all(test, target_os = "linux"))]
#[path = "watch/elsewhere.rs"]
mod elsewhere;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::files::{Change, News};
use crate::moderation::Sighting;
use crate::moderation::escape::escape_path;
use crate::store::StoreError;

use super::Stop;
use super::monitor::{Monitor, chain};
use super::reconcile::Scanner;
use super::settle::{Candidate, Hint};

/// How folders are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchTimes {
    /// Between two full scans, as a safety net under the events.
    pub rescan: Duration,
    /// Between two full scans where there are no events (network folders, or on request).
    pub poll: Duration,
}

impl Default for WatchTimes {
    fn default() -> Self {
        Self { rescan: Duration::from_mins(5), poll: Duration::from_secs(5) }
    }
}

/// Where news of new files comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watching {
    /// The kernel's events, with full scans as a safety net.
    Events,
    /// Full scans alone.
    Polling,
}

/// Events wait here until they are looked at; when it is full, a scan makes up for the rest.
const MOST_EVENTS: usize = 4096;

/// Files can come into a new folder before the kernel watches it; so it is looked at again.
const LOOK_AGAIN: [Duration; 2] = [Duration::from_millis(300), Duration::from_secs(2)];

/// So many new folders are looked at again one by one.
const MOST_AGAIN: usize = 512;

/// What the watcher's thread hands on.
type Heard = Result<News, String>;

/// Scans the roots and then watches them until the stop. A failing watcher is replaced by polling.
pub(super) async fn watch(
    roots: &[PathBuf],
    watching: Watching,
    times: WatchTimes,
    scanner: &Scanner,
    mut stop: Stop,
) {
    let (news_out, mut news) = mpsc::channel(MOST_EVENTS);
    let overflow = Arc::new(Overflow::default());
    let start = async || kernel::start(&scanner.roots, roots, &news_out, &overflow).await;
    // Watch first, scan then: what comes in between is seen at least once.
    let mut watcher = None;
    scanner.roots.look_again(roots);
    let mut again: Vec<(Instant, PathBuf)> = Vec::new();
    let mut next_look = Instant::now() + times.poll;
    let mut next_scan = Instant::now();
    loop {
        let due = again.iter().map(|(due, _)| *due).min().unwrap_or(next_scan).min(next_scan);
        tokio::select! {
            biased;
            () = stop.requested() => return,
            () = overflow.noticed() => {
                warn!("more events than could be taken; scanning the folders instead");
                next_scan = Instant::now();
            }
            () = tokio::time::sleep_until(due) => {
                if next_scan <= Instant::now() {
                    // A folder that comes back, or that another was mounted over, is another
                    // folder to the kernel. Watch first, scan then.
                    if tell_changes(&scanner.roots.look_again(roots), &scanner.monitor) {
                        watcher = None;
                    }
                    let all_there = roots.iter().all(|root| scanner.roots.is_there(root));
                    if watching == Watching::Events && watcher.is_none() && all_there {
                        watcher = start().await;
                    }
                    let compared = scan_all(roots, scanner, &mut stop).await;
                    let hears_all = watcher.as_ref().is_some_and(kernel::Watcher::hears_all);
                    let full = compared.is_ok() && hears_all;
                    tell_failed(compared, &scanner.monitor);
                    let pause = if full { times.rescan } else { times.poll };
                    next_scan = Instant::now() + pause;
                }
                let now = Instant::now();
                for (_, folder) in again.extract_if(.., |(due, _)| *due <= now) {
                    tell_failed(scan_folder(roots, &folder, scanner).await, &scanner.monitor);
                }
            }
            () = tokio::time::sleep_until(next_look) => {
                if tell_changes(&scanner.roots.look_again(roots), &scanner.monitor) {
                    watcher = None;
                    next_scan = Instant::now();
                }
                next_look = Instant::now() + times.poll;
            }
            Some(heard) = news.recv() => match heard {
                Ok(News::Closed(path)) => take(path, Hint::Closed, roots, scanner).await,
                Ok(News::Changed(path)) => take(path, Hint::None, roots, scanner).await,
                Ok(News::Folder(path)) => {
                    again.extend(LOOK_AGAIN.map(|pause| (Instant::now() + pause, path.clone())));
                    if again.len() > MOST_AGAIN {
                        // One look at everything costs less.
                        again.clear();
                        next_scan = next_scan.min(Instant::now() + LOOK_AGAIN[1]);
                    }
                }
                Ok(News::RootMoved) => next_scan = Instant::now(),
                Ok(News::Overflow) => overflow.tell(),
                Err(failed) => {
                    error!(error = failed, "the watcher failed; scanning the folders");
                    scanner.monitor.went_wrong(format_args!("the watcher failed: {failed}"));
                    // A new watcher is made after the scan, which picks up what this one missed.
                    watcher = None;
                    next_scan = Instant::now();
                }
            },
        }
    }
}

/// A store that can't be read for a while is no reason to stop watching: it is asked again soon.
fn tell_failed(compared: Result<(), StoreError>, monitor: &Monitor) {
    if let Err(failed) = compared {
        let failed = chain(&failed);
        error!(error = failed, "the folders can't be compared with the database; trying again");
        monitor.went_wrong(failed);
    }
}

/// Says which roots are gone, are there again, or are others than before (unmounted, mounted over,
/// moved); answers whether there was anything to say.
fn tell_changes(changes: &[Change], monitor: &Monitor) -> bool {
    for change in changes {
        match change {
            Change::Back(root) => {
                info!(root = %escape_path(root), "the watched folder is there again");
            }
            Change::Replaced(root) => {
                warn!(
                    root = %escape_path(root),
                    "the watched folder is another one than before (unmounted, or replaced?); \
                     nothing is deleted, and this one is watched now"
                );
                monitor.went_wrong(format_args!("{} was replaced", escape_path(root)));
            }
            // The scan says so, again and again.
            Change::Gone(_) => {}
        }
    }
    !changes.is_empty()
}

/// Set by the watcher's thread when it could not hand an event on.
#[derive(Debug, Default)]
struct Overflow {
    happened: AtomicBool,
    notify: Notify,
}

impl Overflow {
    fn tell(&self) {
        self.happened.store(true, Ordering::Release);
        self.notify.notify_one();
    }

    async fn noticed(&self) {
        while !self.happened.swap(false, Ordering::AcqRel) {
            self.notify.notified().await;
        }
    }
}

/// Sends a candidate for a path that the kernel told of.
async fn take(path: PathBuf, hint: Hint, roots: &[PathBuf], scanner: &Scanner) {
    let Some(root) = root_of(roots, &path) else { return };
    if scanner.excluded.contains(&path) {
        return;
    }
    let sighting = Sighting { root: root.to_owned(), path };
    // Closed only when the run ends; then the file is found at the next start.
    let _ = scanner.candidates.send(Candidate { sighting, hint }).await;
}

fn root_of<'a>(roots: &'a [PathBuf], path: &Path) -> Option<&'a Path> {
    roots
        .iter()
        .map(PathBuf::as_path)
        .filter(|root| path.starts_with(root))
        .max_by_key(|root| root.as_os_str().len())
}

/// One full scan of every root; a root that is gone is told and looked for again later.
pub(super) async fn scan_all(
    roots: &[PathBuf],
    scanner: &Scanner,
    stop: &mut Stop,
) -> Result<(), StoreError> {
    let monitor = &scanner.monitor;
    let (mut special, mut unchanged, mut flagged_before) = (0, 0, 0);
    for root in roots {
        if !scanner.roots.is_there(root) {
            error!(
                root = %escape_path(root),
                "the watched folder is gone; nothing is deleted, and it is looked for again"
            );
            monitor.went_wrong(format_args!("{} is gone", escape_path(root)));
            continue;
        }
        let found = tokio::select! {
            found = scanner.scan(root, root) => found?,
            () = stop.requested() => return Ok(()),
        };
        special += found.special;
        unchanged += found.unchanged;
        flagged_before += found.flagged_before;
    }
    monitor.special.store(special, Ordering::Relaxed);
    monitor.unchanged.store(unchanged, Ordering::Relaxed);
    monitor.flagged_before.store(flagged_before, Ordering::Relaxed);
    if !monitor.scanned.swap(true, Ordering::Relaxed) {
        info!(unchanged, "scanned the folders once");
    }
    Ok(())
}

async fn scan_folder(
    roots: &[PathBuf],
    folder: &Path,
    scanner: &Scanner,
) -> Result<(), StoreError> {
    match root_of(roots, folder) {
        Some(root) => scanner.scan_again(root, folder).await,
        None => Ok(()),
    }
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
