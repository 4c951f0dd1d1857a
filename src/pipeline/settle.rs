//! Waits until a file stops changing, and lets each path through only once at a time.
//!
//! A preallocated file has its final size while bytes are missing, so size alone says nothing.
//! A file counts as settled 250 ms after it was closed or renamed into place (a hint of the
//! watcher), or when size, times and inode have not changed for 2 s.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::files::Roots;
use crate::moderation::{FileStat, Sighting};

use super::Stop;
use super::monitor::{Monitor, now};

/// How long a file must be left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettleTimes {
    /// After it was closed or renamed into place.
    pub closed: Duration,
    /// Otherwise: since it was last seen to change.
    pub unchanged: Duration,
}

impl Default for SettleTimes {
    fn default() -> Self {
        Self { closed: Duration::from_millis(250), unchanged: Duration::from_secs(2) }
    }
}

/// A path that may hold an upload, and what the watcher said about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub sighting: Sighting,
    pub hint: Hint,
}

/// What is known of a path's writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hint {
    /// Nothing, or that it is being written.
    None,
    /// It was closed after writing, or renamed into place.
    Closed,
}

/// What later stages tell about a path that was let through.
#[derive(Debug)]
pub(super) enum Feedback {
    /// It is written down, or none of ours.
    Done(PathBuf),
    /// It changed while it was read, or could not be handled: try again.
    Again(Sighting),
}

/// At most so many paths wait here; the folder itself is the overflow store.
const MOST_WAITING: usize = 1024;

struct Waiting {
    sighting: Sighting,
    hint: Hint,
    stat: FileStat,
    /// Settled if nothing changes until then.
    due: Instant,
}

/// A path in later stages.
struct UnderWay {
    /// As of when it was let through.
    stat: FileStat,
    /// What came in about it since.
    meanwhile: Option<Candidate>,
}

impl UnderWay {
    /// What came in meanwhile, unless the file is still the one that was just judged: a scan of
    /// a new folder often comes upon files that are under way already.
    fn news(self, roots: &Roots) -> Option<Candidate> {
        let now = |candidate: &Candidate| roots.regular(&candidate.sighting).ok().flatten();
        self.meanwhile.filter(|candidate| now(candidate) != Some(self.stat))
    }
}

/// How the stage is joined to the others.
pub(super) struct Channels {
    /// Paths that may hold an upload.
    pub candidates: mpsc::Receiver<Candidate>,
    /// What became of those that were let through.
    pub feedback: mpsc::UnboundedReceiver<Feedback>,
    /// Where they are let through.
    pub ready: mpsc::Sender<Sighting>,
}

/// Lets settled paths through to `ready`. Ends when `candidates` is closed and nothing waits or
/// is under way any more; after a stop at once, leaving what waits for the next start.
pub(super) async fn settle(
    channels: Channels,
    roots: &Roots,
    times: SettleTimes,
    monitor: &Monitor,
    mut stop: Stop,
) {
    let Channels { mut candidates, mut feedback, ready } = channels;
    let mut waiting: HashMap<PathBuf, Waiting> = HashMap::new();
    let mut under_way: HashMap<PathBuf, UnderWay> = HashMap::new();
    let mut open = true;
    while open || !waiting.is_empty() || !under_way.is_empty() {
        let next = waiting.values().map(|one| one.due).min();
        tokio::select! {
            biased;
            () = stop.requested() => return,
            Some(told) = feedback.recv() => match told {
                Feedback::Done(path) => {
                    monitor.release(&path);
                    if let Some(candidate) = under_way.remove(&path).and_then(|one| one.news(roots)) {
                        wait(&mut waiting, roots, monitor, candidate, times);
                    }
                }
                Feedback::Again(sighting) => {
                    under_way.remove(&sighting.path);
                    let candidate = Candidate { sighting, hint: Hint::None };
                    wait(&mut waiting, roots, monitor, candidate, times);
                }
            },
            candidate = candidates.recv(), if open && waiting.len() < MOST_WAITING => {
                match candidate {
                    Some(candidate) => match under_way.get_mut(&candidate.sighting.path) {
                        Some(one) => one.meanwhile = Some(candidate),
                        None => wait(&mut waiting, roots, monitor, candidate, times),
                    },
                    None => open = false,
                }
            }
            // A permit first, so that no path is taken out that can't be let through.
            permit = ready_when_due(&ready, next), if next.is_some() => {
                let Ok(permit) = permit else { return };
                let Some(path) = earliest(&waiting) else { continue };
                match settled(&mut waiting, roots, &path, times) {
                    Settled::Yes(sighting, stat) => {
                        under_way.insert(path, UnderWay { stat, meanwhile: None });
                        permit.send(sighting);
                    }
                    Settled::NotYet => {}
                    Settled::Gone => monitor.release(&path),
                }
            }
        }
    }
}

async fn ready_when_due(
    ready: &mpsc::Sender<Sighting>,
    due: Option<Instant>,
) -> Result<mpsc::Permit<'_, Sighting>, mpsc::error::SendError<()>> {
    if let Some(due) = due {
        tokio::time::sleep_until(due).await;
    }
    ready.reserve().await
}

fn earliest(waiting: &HashMap<PathBuf, Waiting>) -> Option<PathBuf> {
    waiting.iter().min_by_key(|(_, one)| one.due).map(|(path, _)| path.clone())
}

fn wait(
    waiting: &mut HashMap<PathBuf, Waiting>,
    roots: &Roots,
    monitor: &Monitor,
    candidate: Candidate,
    times: SettleTimes,
) {
    let Candidate { sighting, mut hint } = candidate;
    let stat = match roots.regular(&sighting) {
        Ok(Some(stat)) => stat,
        Ok(None) => {
            waiting.remove(&sighting.path);
            monitor.release(&sighting.path);
            return;
        }
        // No descriptors: it waits as something that is not known yet.
        Err(_) => FileStat { size: 0, mtime_ns: i64::MAX, ctime_ns: i64::MAX, inode: 0 },
    };
    if let Some(before) = waiting.get(&sighting.path) {
        // `chmod` or `touch` after the writer closed the file does not open it again.
        let same_bytes = before.stat.size == stat.size && before.stat.mtime_ns == stat.mtime_ns;
        if before.hint == Hint::Closed && same_bytes {
            hint = Hint::Closed;
        }
    }
    monitor.take(&sighting.path);
    let due = Instant::now() + time_left(hint, stat, times);
    waiting.insert(sighting.path.clone(), Waiting { sighting, hint, stat, due });
}

/// A file whose own times say that it was left alone long enough need not be watched doing so.
fn time_left(hint: Hint, stat: FileStat, times: SettleTimes) -> Duration {
    if hint == Hint::Closed {
        return times.closed;
    }
    let changed_ns = stat.mtime_ns.max(stat.ctime_ns);
    let age_ms = now().0.saturating_sub(changed_ns / 1_000_000);
    match u64::try_from(age_ms) {
        Ok(age_ms) => times.unchanged.saturating_sub(Duration::from_millis(age_ms)),
        // A time in the future says nothing.
        Err(_) => times.unchanged,
    }
}

enum Settled {
    Yes(Sighting, FileStat),
    NotYet,
    Gone,
}

fn settled(
    waiting: &mut HashMap<PathBuf, Waiting>,
    roots: &Roots,
    path: &Path,
    times: SettleTimes,
) -> Settled {
    let Some(one) = waiting.get_mut(path) else { return Settled::Gone };
    let stat = match roots.regular(&one.sighting) {
        Ok(Some(stat)) => stat,
        Ok(None) => {
            waiting.remove(path);
            return Settled::Gone;
        }
        // No descriptors, or a disk that fails: whoever reads it says so, and tries again.
        Err(_) => one.stat,
    };
    if stat != one.stat {
        one.stat = stat;
        one.hint = Hint::None;
        one.due = Instant::now() + times.unchanged;
        return Settled::NotYet;
    }
    waiting.remove(path).map_or(Settled::Gone, |one| Settled::Yes(one.sighting, one.stat))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::stopper;

    struct Bench {
        dir: tempfile::TempDir,
        candidates: mpsc::Sender<Candidate>,
        feedback: mpsc::UnboundedSender<Feedback>,
        ready: mpsc::Receiver<Sighting>,
        stopper: crate::pipeline::Stopper,
        settling: tokio::task::JoinHandle<()>,
    }

    fn bench() -> Bench {
        let (candidates, candidates_in) = mpsc::channel(8);
        let (feedback, feedback_in) = mpsc::unbounded_channel();
        let (ready_out, ready) = mpsc::channel(8);
        let (stopper, stop) = stopper();
        let times = SettleTimes {
            closed: Duration::from_millis(20),
            unchanged: Duration::from_millis(300),
        };
        let channels =
            Channels { candidates: candidates_in, feedback: feedback_in, ready: ready_out };
        let settling = tokio::spawn(async move {
            settle(channels, &Roots::default(), times, &Monitor::default(), stop).await;
        });
        let dir = tempfile::tempdir().expect("a temporary folder");
        Bench { dir, candidates, feedback, ready, stopper, settling }
    }

    impl Bench {
        async fn tell(&self, name: &str, hint: Hint) -> PathBuf {
            let root = std::fs::canonicalize(self.dir.path()).expect("there");
            let path = root.join(name);
            let sighting = Sighting { path: path.clone(), root };
            self.candidates.send(Candidate { sighting, hint }).await.expect("settle runs");
            path
        }

        async fn next(&mut self) -> Option<PathBuf> {
            let next = tokio::time::timeout(Duration::from_secs(20), self.ready.recv());
            next.await.expect("settle answers in time").map(|sighting| sighting.path)
        }
    }

    #[tokio::test]
    async fn an_old_file_is_ready_at_once_and_the_end_comes_when_all_is_done() {
        let mut bench = bench();
        let path = bench.dir.path().join("old.png");
        std::fs::write(&path, b"x").expect("written");
        let path = bench.tell("old.png", Hint::None).await;
        assert_eq!(bench.next().await, Some(path.clone()));
        drop(bench.candidates);
        assert!(!bench.settling.is_finished(), "a path is still under way");
        bench.feedback.send(Feedback::Done(path)).expect("settle runs");
        bench.settling.await.expect("settle ends");
    }

    #[tokio::test]
    async fn a_file_that_keeps_growing_is_not_let_through() {
        let mut bench = bench();
        let path = bench.dir.path().join("slow.png");
        std::fs::write(&path, b"x").expect("written");
        let path = bench.tell("slow.png", Hint::None).await;
        for length in 2..12 {
            tokio::time::sleep(Duration::from_millis(60)).await;
            std::fs::write(&path, vec![b'x'; length]).expect("written");
            assert!(bench.ready.try_recv().is_err(), "let through while it was written");
        }
        assert_eq!(bench.next().await, Some(path));
    }

    #[tokio::test]
    async fn what_comes_in_about_a_path_under_way_waits_for_it() {
        let mut bench = bench();
        std::fs::write(bench.dir.path().join("a.png"), b"x").expect("written");
        let path = bench.tell("a.png", Hint::Closed).await;
        assert_eq!(bench.next().await, Some(path.clone()));
        std::fs::write(&path, b"changed").expect("written");
        bench.tell("a.png", Hint::Closed).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(bench.ready.try_recv().is_err(), "one path is in one pair of hands");
        bench.feedback.send(Feedback::Done(path.clone())).expect("settle runs");
        assert_eq!(bench.next().await, Some(path));
    }

    #[tokio::test]
    async fn a_file_that_did_not_change_while_it_was_judged_is_not_judged_again() {
        let mut bench = bench();
        std::fs::write(bench.dir.path().join("a.png"), b"x").expect("written");
        let path = bench.tell("a.png", Hint::Closed).await;
        assert_eq!(bench.next().await, Some(path.clone()));
        bench.tell("a.png", Hint::None).await;
        std::fs::write(bench.dir.path().join("b.png"), b"x").expect("written");
        let other = bench.tell("b.png", Hint::Closed).await;
        assert_eq!(bench.next().await, Some(other.clone()), "what was told before has come in");
        for path in [path, other] {
            bench.feedback.send(Feedback::Done(path)).expect("settle runs");
        }
        drop(bench.candidates);
        assert_eq!(bench.ready.recv().await, None, "settle ends with nothing more to do");
    }

    #[tokio::test]
    async fn what_is_gone_is_dropped() {
        let mut bench = bench();
        bench.tell("never-there.png", Hint::Closed).await;
        std::fs::write(bench.dir.path().join("b.png"), b"x").expect("written");
        let there = bench.tell("b.png", Hint::Closed).await;
        assert_eq!(bench.next().await, Some(there));
    }

    #[tokio::test]
    async fn a_stop_leaves_the_rest_for_the_next_start() {
        let bench = bench();
        std::fs::write(bench.dir.path().join("a.png"), b"x").expect("written");
        bench.tell("a.png", Hint::None).await;
        bench.stopper.stop();
        bench.settling.await.expect("settle ends");
    }
}
