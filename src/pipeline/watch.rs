//! Turns a watcher's events into candidates. Events are hints; the scan is the truth.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, CreateKind, EventKind, ModifyKind, RenameMode};
use notify::{Config, ErrorKind, Event, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tracing::{error, info, warn};

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

/// Scans the roots and then watches them until the stop. A failing watcher is replaced by polling.
pub(super) async fn watch(
    roots: &[PathBuf],
    watching: Watching,
    times: WatchTimes,
    scanner: &Scanner,
    mut stop: Stop,
) {
    let (events_out, mut events) = mpsc::channel(MOST_EVENTS);
    let overflow = Arc::new(Overflow::default());
    // Watch first, scan then: what comes in between is seen at least once.
    let mut watcher = match watching {
        Watching::Events => start(roots, events_out.clone(), Arc::clone(&overflow)),
        Watching::Polling => None,
    };
    let mut identity = identities(roots);
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
                    let found = identities(roots);
                    if found != identity {
                        tell_changed(roots, &identity, &found, &scanner.monitor);
                        (watcher, identity) = (None, found);
                    }
                    let all_there = identity.iter().all(Option::is_some);
                    if watching == Watching::Events && watcher.is_none() && all_there {
                        watcher = start(roots, events_out.clone(), Arc::clone(&overflow));
                    }
                    let compared = scan_all(roots, scanner, &mut stop).await;
                    let full = compared.is_ok() && watcher.is_some();
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
                if identities(roots) != identity {
                    next_scan = Instant::now();
                }
                next_look = Instant::now() + times.poll;
            }
            Some(event) = events.recv() => match event {
                Ok(event) => {
                    if event.need_rescan() || root_moved(&event, roots) {
                        next_scan = Instant::now();
                    }
                    for path in take(&event, roots, scanner).await {
                        again.extend(LOOK_AGAIN.map(|pause| (Instant::now() + pause, path.clone())));
                    }
                    if again.len() > MOST_AGAIN {
                        // One look at everything costs less.
                        again.clear();
                        next_scan = next_scan.min(Instant::now() + LOOK_AGAIN[1]);
                    }
                }
                Err(failed) => {
                    error!(error = %failed, "the watcher failed; scanning the folders");
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

/// File system and number of each root; `None` for one that is gone.
fn identities(roots: &[PathBuf]) -> Vec<Option<(u64, u64)>> {
    use std::os::unix::fs::MetadataExt as _;
    let identity = |root: &PathBuf| {
        let meta = std::fs::metadata(root).ok().filter(std::fs::Metadata::is_dir)?;
        Some((meta.dev(), meta.ino()))
    };
    roots.iter().map(identity).collect()
}

/// Says which roots are there again, or are others than before (unmounted, mounted over, moved).
/// That one is gone is said by the scan, again and again.
fn tell_changed(
    roots: &[PathBuf],
    before: &[Option<(u64, u64)>],
    now: &[Option<(u64, u64)>],
    monitor: &Monitor,
) {
    for ((root, before), now) in roots.iter().zip(before).zip(now) {
        match (before, now) {
            (None, Some(_)) => {
                info!(root = %escape_path(root), "the watched folder is there again");
            }
            (Some(was), Some(is)) if was != is => {
                warn!(
                    root = %escape_path(root),
                    "the watched folder is another one than before (unmounted, or replaced?); \
                     nothing is deleted, and this one is watched now"
                );
                monitor.went_wrong(format_args!("{} was replaced", escape_path(root)));
            }
            _ => {}
        }
    }
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

type Watched = notify::Result<Event>;

/// A watcher of all roots, or `None` (with a word in the log) when the kernel refuses: then the
/// folders are scanned often instead.
fn start(
    roots: &[PathBuf],
    events: mpsc::Sender<Watched>,
    overflow: Arc<Overflow>,
) -> Option<RecommendedWatcher> {
    let hand_on = move |event: Watched| {
        if events.try_send(event).is_err() {
            overflow.tell();
        }
    };
    let config = Config::default().with_follow_symlinks(false);
    let started = RecommendedWatcher::new(hand_on, config).and_then(|mut watcher| {
        roots.iter().try_for_each(|root| watcher.watch(root, RecursiveMode::Recursive))?;
        Ok(watcher)
    });
    match started {
        Ok(watcher) => Some(watcher),
        Err(failed) => {
            let hint = match failed.kind {
                ErrorKind::MaxFilesWatch => "raise fs.inotify.max_user_watches",
                _ => "the folders are scanned every few seconds instead",
            };
            warn!(error = %failed, hint, "can't watch by events");
            None
        }
    }
}

/// Sends candidates for an event's paths; answers the folders that appeared.
async fn take(event: &Event, roots: &[PathBuf], scanner: &Scanner) -> Vec<PathBuf> {
    let Some(hint) = hint_of(event.kind) else { return Vec::new() };
    let mut folders = Vec::new();
    for path in &event.paths {
        let Some(root) = root_of(roots, path) else { continue };
        if scanner.excluded.contains(path) {
            continue;
        }
        let Ok(meta) = std::fs::symlink_metadata(path) else { continue };
        if meta.is_dir() {
            if matches!(event.kind, EventKind::Create(_) | EventKind::Modify(ModifyKind::Name(_))) {
                folders.push(path.clone());
            }
        } else if meta.is_file() {
            let sighting = Sighting { path: path.clone(), root: root.to_owned() };
            // Closed only when the run ends; then the file is found at the next start.
            let _ = scanner.candidates.send(Candidate { sighting, hint }).await;
        }
    }
    folders
}

fn root_moved(event: &Event, roots: &[PathBuf]) -> bool {
    matches!(event.kind, EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)))
        && event.paths.iter().any(|path| roots.contains(path))
}

/// What an event says about a file; `None` for events that bring no new bytes.
fn hint_of(kind: EventKind) -> Option<Hint> {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both)) => {
            Some(Hint::Closed)
        }
        EventKind::Create(CreateKind::Any | CreateKind::File | CreateKind::Folder)
        | EventKind::Modify(_)
        | EventKind::Any
        | EventKind::Other => Some(Hint::None),
        EventKind::Create(CreateKind::Other) | EventKind::Access(_) | EventKind::Remove(_) => None,
    }
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
        if !root.is_dir() {
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
        // A folder that went away again holds nothing.
        Some(root) if folder.is_dir() => scanner.scan(root, folder).await.map(|_| ()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_closing_and_renaming_into_place_say_that_a_file_is_whole() {
        let closed = EventKind::Access(AccessKind::Close(AccessMode::Write));
        let renamed = EventKind::Modify(ModifyKind::Name(RenameMode::To));
        let created = EventKind::Create(CreateKind::File);
        let read = EventKind::Access(AccessKind::Close(AccessMode::Read));
        assert_eq!(hint_of(closed), Some(Hint::Closed));
        assert_eq!(hint_of(renamed), Some(Hint::Closed));
        assert_eq!(hint_of(created), Some(Hint::None));
        assert_eq!(hint_of(read), None);
    }

    #[test]
    fn a_path_belongs_to_the_innermost_root() {
        let roots = [PathBuf::from("/u"), PathBuf::from("/u/avatars")];
        assert_eq!(root_of(&roots, Path::new("/u/avatars/a.png")), Some(roots[1].as_path()));
        assert_eq!(root_of(&roots, Path::new("/u/a.png")), Some(roots[0].as_path()));
        assert_eq!(root_of(&roots, Path::new("/elsewhere")), None);
    }
}
