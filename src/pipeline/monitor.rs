//! How a run is doing, for whoever wants to show it: plain counters, shared by all stages.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::moderation::{FileKind, Timestamp};

/// Counters of one run. All of them only ever grow, but for what is in hand.
#[derive(Debug, Default)]
pub struct Monitor {
    /// Files in the folders, counted at the start.
    pub total: AtomicU64,
    /// Of these, how many need not be judged: judged before, or no pictures.
    pub passed: AtomicU64,
    /// Files that are being read and decoded now.
    pub(super) preparing: AtomicU64,
    /// Files judged and written down.
    pub judged: AtomicU64,
    /// Of these, how many need a person.
    pub flagged: AtomicU64,
    /// Of these, how many could not be judged as pictures.
    pub unjudged: AtomicU64,
    /// Pictures judged by another model that are still to be judged by the one in use.
    pub again: AtomicU64,
    /// Pipes and the like, at the last full scan.
    pub(super) special: AtomicU64,
    /// Files that are pictures neither by name nor by content, nor any other kind that is counted.
    pub(super) no_pictures: AtomicU64,
    /// Films, documents and links at the last full scan.
    media: Mutex<BTreeMap<FileKind, u64>>,
    /// Files that were judged before and have not changed, at the last full scan.
    pub unchanged: AtomicU64,
    /// Of these, how many are neither allowed nor approved by a person.
    pub flagged_before: AtomicU64,
    /// Folders that could not be read, at the last full scan.
    pub unreadable: AtomicU64,
    /// Whether the first full scan is over.
    pub scanned: AtomicBool,
    in_hand: Mutex<InHand>,
    last_error: Mutex<Option<(String, Timestamp)>>,
}

/// Files seen and not written down yet.
#[derive(Debug, Default)]
struct InHand {
    since: HashMap<PathBuf, Instant>,
    /// Of these, the ones that reached the model.
    at_model: HashSet<PathBuf>,
}

impl Monitor {
    /// Counts one more file in hand, unless it is in hand already.
    pub(super) fn take(&self, path: &Path) {
        let mut in_hand = lock(&self.in_hand);
        in_hand.at_model.remove(path);
        if !in_hand.since.contains_key(path) {
            in_hand.since.insert(path.to_owned(), Instant::now());
        }
    }

    /// The file has reached the model: of those in hand it is not to come any more.
    pub(super) fn reached_model(&self, path: &Path) {
        let mut in_hand = lock(&self.in_hand);
        if in_hand.since.contains_key(path) {
            in_hand.at_model.insert(path.to_owned());
        }
    }

    /// Files in hand that have not reached the model.
    pub(super) fn to_come(&self) -> usize {
        let in_hand = lock(&self.in_hand);
        in_hand.since.len() - in_hand.at_model.len()
    }

    /// The file is written down, went away, or turned out to be none of ours.
    pub(super) fn release(&self, path: &Path) {
        let mut in_hand = lock(&self.in_hand);
        in_hand.since.remove(path);
        in_hand.at_model.remove(path);
    }

    /// How many films, documents and links there were at the last full scan, by kind.
    pub fn media(&self) -> BTreeMap<FileKind, u64> {
        lock(&self.media).clone()
    }

    pub(super) fn set_media(&self, counted: BTreeMap<FileKind, u64>) {
        *lock(&self.media) = counted;
    }

    /// Files that were skipped because they are no pictures.
    pub fn skipped(&self) -> u64 {
        self.special.load(Ordering::Relaxed) + self.no_pictures.load(Ordering::Relaxed)
    }

    /// How many files wait, and since when the oldest does.
    pub fn waiting(&self) -> (u64, Option<Instant>) {
        let in_hand = lock(&self.in_hand);
        (in_hand.since.len() as u64, in_hand.since.values().min().copied())
    }

    /// The files that have waited longest, of those that have waited so long at least.
    pub fn stuck(&self, at_least: Duration, most: usize) -> Vec<(PathBuf, Timestamp)> {
        let in_hand = lock(&self.in_hand);
        // One look for all: their order must not be that of the looking.
        let looked = Instant::now();
        let mut stuck: Vec<(&Path, Duration)> = in_hand
            .since
            .iter()
            .map(|(path, since)| (path.as_path(), looked.saturating_duration_since(*since)))
            .filter(|(_, age)| *age >= at_least)
            .collect();
        stuck.sort_unstable_by_key(|(_, age)| std::cmp::Reverse(*age));
        let now = now().0;
        let since = |age: Duration| now - i64::try_from(age.as_millis()).unwrap_or(0);
        stuck.truncate(most);
        stuck.into_iter().map(|(path, age)| (path.to_owned(), Timestamp(since(age)))).collect()
    }

    /// Remembers what went wrong, for `modtool status`.
    pub fn went_wrong(&self, what: impl std::fmt::Display) {
        *lock(&self.last_error) = Some((what.to_string(), now()));
    }

    /// The last thing that went wrong, and when.
    pub fn last_error(&self) -> Option<(String, Timestamp)> {
        lock(&self.last_error).clone()
    }
}

/// An error with all its causes, for a log line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}

/// Adds one to a counter.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The clock: milliseconds since 1970.
#[expect(clippy::disallowed_methods, reason = "this is where the clock is read")]
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_in_hand_once_however_often_it_is_told_of() {
        let monitor = Monitor::default();
        monitor.take(Path::new("a"));
        let since = monitor.waiting().1;
        monitor.take(Path::new("a"));
        monitor.take(Path::new("b"));
        assert_eq!(monitor.waiting(), (2, since), "the first time counts");
        monitor.release(Path::new("a"));
        monitor.release(Path::new("never-there"));
        assert_eq!(monitor.waiting().0, 1);
    }

    #[test]
    fn what_waits_too_long_is_named_the_oldest_first() {
        let monitor = Monitor::default();
        for name in ["a", "b", "c"] {
            monitor.take(Path::new(name));
        }
        assert!(monitor.stuck(Duration::from_hours(1), 9).is_empty());
        let stuck = monitor.stuck(Duration::ZERO, 2);
        let names: Vec<_> = stuck.iter().map(|(path, _)| path.as_path()).collect();
        assert_eq!(names, [Path::new("a"), Path::new("b")]);
    }

    #[test]
    fn a_file_is_to_come_until_it_reaches_the_model() {
        let (monitor, a) = (Monitor::default(), Path::new("a"));
        monitor.take(a);
        monitor.take(Path::new("b"));
        monitor.reached_model(a);
        monitor.reached_model(Path::new("never-there"));
        assert_eq!((monitor.to_come(), monitor.waiting().0), (1, 2));
        monitor.take(a);
        assert_eq!(monitor.to_come(), 2, "it comes again");
        monitor.reached_model(a);
        monitor.release(a);
        assert_eq!((monitor.to_come(), monitor.waiting().0), (1, 1));
    }
}
