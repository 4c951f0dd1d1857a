//! Turns a watcher's news into candidates. News are hints; the scan is the truth.

#[cfg(not(target_os = "linux"))]
#[path = "watch/elsewhere.rs"]
mod kernel;
#[cfg(target_os = "linux")]
mod kernel;

#[cfg(all(test, target_os = "linux"))]
#[path = "watch/elsewhere.rs"]
mod elsewhere;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::files::{Change, Kind, News};
use crate::moderation::escape::escape_path;
use crate::moderation::{FileKind, Sighting, Uploader};
use crate::store::StoreError;

use super::Stop;
use super::monitor::{Monitor, chain};
use super::reconcile::{Part, Scanner};
use super::settle::{Candidate, Hint};
use super::sweep::{Step, Sweep, root_of};

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

/// The least between two scans that make up for lost news.
const LEAST_BETWEEN: Duration = Duration::from_secs(1);

/// What the watcher's thread hands on.
type Message = Result<News, String>;

/// Scans the roots and then watches them until the stop. A failing watcher is replaced by polling.
/// Scans go on beside the news: a folder that takes long keeps nobody's news waiting.
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
    let mut sweep = Sweep::new(scanner.clone(), roots);
    let mut again: Vec<(Instant, PathBuf)> = Vec::new();
    let mut next_look = Instant::now() + times.poll;
    let mut next_scan = Instant::now();
    // Lost news are made up for at once, but not by scanning all the time.
    let mut not_before = next_scan;
    let mut started = next_scan;
    loop {
        let due = again.iter().map(|(due, _)| *due).min().unwrap_or(next_scan).min(next_scan);
        tokio::select! {
            biased;
            () = stop.requested() => return,
            () = overflow.noticed() => {
                let soon = not_before.max(Instant::now());
                // Said once for each scan, however often it happens until then.
                if soon < next_scan {
                    warn!("more events than could be taken; scanning the folders instead");
                    next_scan = soon;
                }
            }
            () = tokio::time::sleep_until(due) => {
                let now = Instant::now();
                if next_scan <= now {
                    // A folder that comes back, or that another was mounted over, is another
                    // folder to the kernel. Watch first, scan then.
                    if tell_changes(&scanner.roots.look_again(roots), &scanner.monitor) {
                        watcher = None;
                    }
                    let all_there = roots.iter().all(|root| scanner.roots.is_there(root));
                    if watching == Watching::Events && watcher.is_none() && all_there {
                        watcher = start().await;
                    }
                    sweep.request_all();
                    (started, not_before) = (now, now + LEAST_BETWEEN);
                    // Until it is over: then it is known how soon the next one is due.
                    next_scan = now + times.rescan;
                }
                for (_, folder) in again.extract_if(.., |(due, _)| *due <= now) {
                    if let Some(root) = root_of(roots, &folder) {
                        sweep.request_folder(root, folder.clone());
                    }
                }
            }
            () = tokio::time::sleep_until(next_look) => {
                if tell_changes(&scanner.roots.look_again(roots), &scanner.monitor) {
                    watcher = None;
                    next_scan = Instant::now();
                }
                next_look = Instant::now() + times.poll;
            }
            came = sweep.step() => {
                let hears_all = watcher.as_ref().is_some_and(kernel::Watcher::hears_all);
                let full = match came {
                    Step::On => continue,
                    Step::Complete => hears_all,
                    Step::Incomplete => false,
                    Step::Failed(failed) => {
                        tell_failed(&failed, &scanner.monitor);
                        false
                    }
                };
                let now = Instant::now();
                not_before = now + (now - started).clamp(LEAST_BETWEEN, times.poll);
                let pause = if full { times.rescan } else { times.poll };
                if next_scan > now {
                    next_scan = now + pause;
                }
            }
            Some(heard) = news.recv() => match heard {
                Ok(News::Closed(path)) => take(path, Hint::Closed, roots, scanner, &mut sweep),
                Ok(News::Changed(path)) => take(path, Hint::None, roots, scanner, &mut sweep),
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
                    // A new watcher is made with the scan, which picks up what this one missed.
                    watcher = None;
                    next_scan = Instant::now();
                }
            },
        }
    }
}

/// A store that can't be read for a while is no reason to stop watching: it is asked again soon.
fn tell_failed(failed: &StoreError, monitor: &Monitor) {
    let failed = chain(failed);
    error!(error = failed, "the folders can't be compared with the database; trying again");
    monitor.went_wrong(failed);
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

/// Sends a candidate for a path that the kernel told of. What is no picture takes no place, and
/// what finds no place is left in its folder, which is scanned.
fn take(path: PathBuf, hint: Hint, roots: &[PathBuf], scanner: &Scanner, sweep: &mut Sweep) {
    let Some(root) = root_of(roots, &path) else { return };
    if scanner.excluded.contains(&path) {
        return;
    }
    let sighting = Sighting { root: root.to_owned(), path };
    let owner = match scanner.roots.stat(&sighting) {
        Ok(Some(stat)) if stat.kind == Kind::File => stat.owner,
        Ok(Some(stat)) if stat.kind == Kind::Link => {
            return sweep.request_later(Part::of(&sighting));
        }
        Ok(_) => return,
        // Not now; a scan sees to it.
        Err(_) => return sweep.left_behind(Part::of(&sighting)),
    };
    match scanner.kind_at(&sighting) {
        Some(FileKind::Picture) => {}
        // A scan counts what is in the folder.
        Some(kind) if scanner.told.contains(&kind) => {
            return sweep.request_later(Part::of(&sighting));
        }
        _ => return,
    }
    match scanner.places.try_take(&Uploader::of(&sighting, owner)) {
        // Closed only when the run ends; then the file is found at the next start.
        Some(place) => drop(scanner.candidates.send(Candidate { sighting, hint, place })),
        None => sweep.left_behind(Part::of(&sighting)),
    }
}
