//! Waits until a file stops changing, and lets each path through only once at a time.
//!
//! A preallocated file has its final size while bytes are missing, so size alone says nothing.
//! A file counts as settled 250 ms after it was closed or renamed into place (a hint of the
//! watcher), or when size, times and inode have not changed for 2 s. A file that is never left
//! alone for so long is judged as it is after a deadline, and again when it rests.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::files::Roots;
use crate::moderation::{FileStat, ItemId, Sighting, Uploader};

use super::Stop;
use super::monitor::{Monitor, now};
use super::places::{Place, Places};
use super::turns::Turns;

/// How long a file must be left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettleTimes {
    /// After it was closed or renamed into place.
    pub closed: Duration,
    /// Otherwise: since it was last seen to change.
    pub unchanged: Duration,
    /// After so long it is judged as it is, and again when it rests.
    pub most: Duration,
}

impl Default for SettleTimes {
    fn default() -> Self {
        Self {
            closed: Duration::from_millis(250),
            unchanged: Duration::from_secs(2),
            most: Duration::from_secs(30),
        }
    }
}

/// A path that may hold an upload, and what the watcher said about it.
#[derive(Debug)]
pub(super) struct Candidate {
    pub sighting: Sighting,
    pub hint: Hint,
    /// Where it may settle, and whose it is.
    pub place: Place,
}

/// What is known of a path's writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hint {
    /// Nothing, or that it is being written.
    None,
    /// It was closed after writing, or renamed into place.
    Closed,
}

/// A path that is to be judged.
#[derive(Debug)]
pub(super) struct Settled {
    pub sighting: Sighting,
    /// As of when it was left alone; none where nobody looked.
    pub stat: Option<FileStat>,
    /// Whether it was.
    pub rest: Rest,
    /// Kept until it is its turn.
    place: Option<Place>,
}

impl Settled {
    /// A file that was named, and is judged as it is.
    pub(super) fn named(sighting: Sighting) -> Self {
        Self { sighting, stat: None, rest: Rest::Resting, place: None }
    }

    /// Lets others settle: it is its turn.
    pub(super) fn leave_place(&mut self) {
        self.place = None;
    }
}

/// Whether a file was left alone before it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// It was.
    Resting,
    /// It never is; the bytes that it had when it was last read so, if it was.
    Restless(Option<ItemId>),
}

/// What later stages tell about a path that was let through.
#[derive(Debug)]
pub(super) enum Feedback {
    /// It is written down, or none of ours.
    Done(PathBuf),
    /// It changed while it was read, or could not be handled: try again.
    Again(Sighting),
    /// It never rests, and no picture came out of these bytes: perhaps the rest is still to come.
    Unfinished(Sighting, ItemId),
}

#[derive(Debug)]
struct Waiting {
    sighting: Sighting,
    hint: Hint,
    stat: FileStat,
    /// Settled if nothing changes until then.
    rests_at: Instant,
    /// Judged as it is from then on.
    deadline: Instant,
    /// The bytes that it had when it was last judged as it is.
    tried: Option<ItemId>,
    place: Place,
}

impl Waiting {
    fn due(&self) -> Instant {
        self.rests_at.min(self.deadline)
    }
}

/// A path in later stages.
struct UnderWay {
    sighting: Sighting,
    uploader: Uploader,
    /// As of when it was let through.
    stat: FileStat,
    deadline: Instant,
    rest: Rest,
    /// What came in about it since.
    meanwhile: Option<Hint>,
}

/// How the stage is joined to the others.
pub(super) struct Channels {
    /// Paths that may hold an upload; bounded by the places that they have.
    pub candidates: mpsc::UnboundedReceiver<Candidate>,
    /// What became of those that were let through.
    pub feedback: mpsc::UnboundedReceiver<Feedback>,
}

/// Lets settled paths through to `turns`. Ends when `candidates` is closed and nothing waits or
/// is under way any more; after a stop at once, leaving what waits for the next start.
pub(super) async fn settle(
    channels: Channels,
    roots: &Roots,
    places: &Arc<Places>,
    turns: &Turns,
    times: SettleTimes,
    monitor: &Monitor,
    mut stop: Stop,
) {
    let Channels { mut candidates, mut feedback } = channels;
    let mut settling = Settling {
        waiting: HashMap::new(),
        due: BTreeSet::new(),
        under_way: HashMap::new(),
        roots,
        places,
        times,
        monitor,
    };
    let _stopped_at_the_end = StopTurns(turns);
    let mut open = true;
    while open || !settling.waiting.is_empty() || !settling.under_way.is_empty() {
        let next = settling.due.first().map(|(due, _)| *due);
        tokio::select! {
            biased;
            () = stop.requested() => return,
            Some(told) = feedback.recv() => settling.hear(told),
            // First what is due: a flood of candidates must not keep it waiting.
            () = until(next), if next.is_some() => settling.let_through(turns),
            candidate = candidates.recv(), if open => match candidate {
                Some(candidate) => settling.take(candidate),
                None => open = false,
            },
        }
    }
}

/// However this stage ends: nothing is under way then, or what is left is found at the next start.
struct StopTurns<'a>(&'a Turns);

impl Drop for StopTurns<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

async fn until(due: Option<Instant>) {
    if let Some(due) = due {
        tokio::time::sleep_until(due).await;
    }
}

struct Settling<'a> {
    waiting: HashMap<PathBuf, Waiting>,
    /// The same paths, by when they are to be looked at.
    due: BTreeSet<(Instant, PathBuf)>,
    under_way: HashMap<PathBuf, UnderWay>,
    roots: &'a Roots,
    places: &'a Arc<Places>,
    times: SettleTimes,
    monitor: &'a Monitor,
}

impl Settling<'_> {
    fn hear(&mut self, told: Feedback) {
        match told {
            Feedback::Done(path) => {
                self.monitor.release(&path);
                let Some(one) = self.under_way.remove(&path) else { return };
                if let Some(hint) = one.news(self.roots) {
                    let place = self.places.take_back(&one.uploader);
                    self.take(Candidate { sighting: one.sighting, hint, place });
                }
            }
            Feedback::Again(sighting) => {
                let Some(one) = self.under_way.remove(&sighting.path) else { return };
                let tried = match one.rest {
                    Rest::Resting => None,
                    Rest::Restless(tried) => tried,
                };
                self.back(one, None, tried);
            }
            Feedback::Unfinished(sighting, item) => {
                let Some(one) = self.under_way.remove(&sighting.path) else { return };
                let deadline = Instant::now() + self.times.most;
                self.back(one, Some(deadline), Some(item));
            }
        }
    }

    /// A path that comes back unjudged.
    fn back(&mut self, one: UnderWay, deadline: Option<Instant>, tried: Option<ItemId>) {
        let (place, path) = (self.places.take_back(&one.uploader), one.sighting.path.clone());
        let hint = one.meanwhile.unwrap_or(Hint::None);
        self.take(Candidate { sighting: one.sighting, hint, place });
        if let Some(waiting) = self.remove(&path) {
            let deadline = deadline.unwrap_or(one.deadline);
            self.insert(Waiting { deadline, tried, ..waiting });
        }
    }

    fn take(&mut self, candidate: Candidate) {
        let Candidate { sighting, mut hint, place } = candidate;
        if let Some(one) = self.under_way.get_mut(&sighting.path) {
            one.meanwhile = Some(hint);
            return;
        }
        let before = self.remove(&sighting.path);
        let stat = match self.roots.regular(&sighting) {
            Ok(Some(stat)) => stat,
            Ok(None) => return self.monitor.release(&sighting.path),
            // No descriptors: it waits as something that is not known yet.
            Err(_) => FileStat { size: 0, mtime_ns: i64::MAX, ctime_ns: i64::MAX, inode: 0 },
        };
        let now = Instant::now();
        let (mut deadline, mut tried) = (now + self.times.most, None);
        if let Some(before) = before {
            (deadline, tried) = (before.deadline, before.tried);
            // `chmod` or `touch` after the writer closed the file does not open it again.
            let same_bytes = before.stat.size == stat.size && before.stat.mtime_ns == stat.mtime_ns;
            if before.hint == Hint::Closed && same_bytes {
                hint = Hint::Closed;
            }
        }
        self.monitor.take(&sighting.path);
        let rests_at = now + time_left(hint, stat, self.times);
        self.insert(Waiting { sighting, hint, stat, rests_at, deadline, tried, place });
    }

    fn insert(&mut self, one: Waiting) {
        let path = one.sighting.path.clone();
        self.due.insert((one.due(), path.clone()));
        self.waiting.insert(path, one);
    }

    fn remove(&mut self, path: &Path) -> Option<Waiting> {
        let one = self.waiting.remove(path)?;
        self.due.remove(&(one.due(), path.to_owned()));
        Some(one)
    }

    /// Looks at the path that is due first.
    fn let_through(&mut self, turns: &Turns) {
        let Some((_, path)) = self.due.first().cloned() else { return };
        let Some(one) = self.remove(&path) else { return };
        let now = Instant::now();
        let (stat, told) = match self.roots.regular(&one.sighting) {
            Ok(Some(stat)) => (stat, Some(stat)),
            Ok(None) => return self.monitor.release(&path),
            // No descriptors, or a disk that fails: whoever reads it says so, and tries again.
            Err(_) => (one.stat, None),
        };
        let rest = if stat == one.stat && one.rests_at <= now {
            Rest::Resting
        } else if one.deadline <= now {
            Rest::Restless(one.tried)
        } else {
            let rests_at = if stat == one.stat { one.rests_at } else { now + self.times.unchanged };
            let hint = if stat == one.stat { one.hint } else { Hint::None };
            return self.insert(Waiting { hint, stat, rests_at, ..one });
        };
        let Waiting { sighting, deadline, place, .. } = one;
        let uploader = place.uploader.clone();
        self.under_way.insert(
            path,
            UnderWay {
                sighting: sighting.clone(),
                uploader: uploader.clone(),
                stat,
                deadline,
                rest,
                meanwhile: None,
            },
        );
        turns.push(uploader, Settled { sighting, stat: told, rest, place: Some(place) });
    }
}

impl UnderWay {
    /// What came in meanwhile, unless the file is still the one that was just judged: a scan of
    /// a new folder often comes upon files that are under way already. A file that never rested
    /// is looked at again in any case.
    fn news(&self, roots: &Roots) -> Option<Hint> {
        let restless = (self.rest != Rest::Resting).then_some(Hint::None);
        let hint = self.meanwhile.or(restless)?;
        let now = roots.regular(&self.sighting).ok().flatten();
        (now != Some(self.stat)).then_some(hint)
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::stopper;
    use crate::pipeline::turns::Run;

    struct Bench {
        dir: tempfile::TempDir,
        candidates: mpsc::UnboundedSender<Candidate>,
        feedback: mpsc::UnboundedSender<Feedback>,
        turns: Arc<Turns>,
        places: Arc<Places>,
        stopper: crate::pipeline::Stopper,
        settling: tokio::task::JoinHandle<()>,
    }

    fn bench() -> Bench {
        let (candidates, candidates_in) = mpsc::unbounded_channel();
        let (feedback, feedback_in) = mpsc::unbounded_channel();
        let (turns, places) = (Arc::new(Turns::new(1)), Arc::<Places>::default());
        let (stopper, stop) = stopper();
        let times = SettleTimes {
            closed: Duration::from_millis(20),
            unchanged: Duration::from_millis(300),
            most: Duration::from_secs(2),
        };
        let channels = Channels { candidates: candidates_in, feedback: feedback_in };
        let (own_turns, own_places) = (Arc::clone(&turns), Arc::clone(&places));
        let settling = tokio::spawn(async move {
            let (roots, monitor) = (Roots::default(), Monitor::default());
            settle(channels, &roots, &own_places, &own_turns, times, &monitor, stop).await;
        });
        let dir = tempfile::tempdir().expect("a temporary folder");
        Bench { dir, candidates, feedback, turns, places, stopper, settling }
    }

    impl Bench {
        fn tell(&self, name: &str, hint: Hint) -> PathBuf {
            let root = std::fs::canonicalize(self.dir.path()).expect("there");
            let path = root.join(name);
            let sighting = Sighting { path: path.clone(), root };
            let place = self.places.try_take(&Uploader::of(&sighting, 0)).expect("a place");
            self.candidates.send(Candidate { sighting, hint, place }).expect("settle runs");
            path
        }

        async fn next_settled(&self) -> Option<Settled> {
            let turns = Arc::clone(&self.turns);
            let next = tokio::task::spawn_blocking(move || {
                turns.next(&mut Run::default()).map(|(_, settled)| settled)
            });
            let next = tokio::time::timeout(Duration::from_secs(20), next);
            next.await.expect("settle answers in time").expect("no panic")
        }

        async fn next(&self) -> Option<PathBuf> {
            self.next_settled().await.map(|settled| settled.sighting.path)
        }
    }

    #[tokio::test]
    async fn an_old_file_is_ready_at_once_and_the_end_comes_when_all_is_done() {
        let bench = bench();
        let path = bench.dir.path().join("old.png");
        std::fs::write(&path, b"x").expect("written");
        let path = bench.tell("old.png", Hint::None);
        assert_eq!(bench.next().await, Some(path.clone()));
        drop(bench.candidates);
        assert!(!bench.settling.is_finished(), "a path is still under way");
        bench.feedback.send(Feedback::Done(path)).expect("settle runs");
        bench.settling.await.expect("settle ends");
    }

    #[tokio::test]
    async fn a_file_that_keeps_growing_is_not_let_through() {
        let bench = bench();
        let path = bench.dir.path().join("slow.png");
        std::fs::write(&path, b"x").expect("written");
        let path = bench.tell("slow.png", Hint::None);
        for length in 2..12 {
            tokio::time::sleep(Duration::from_millis(60)).await;
            std::fs::write(&path, vec![b'x'; length]).expect("written");
            assert!(bench.turns.waiting() == 0, "let through while it was written");
        }
        assert_eq!(bench.next().await, Some(path));
    }

    #[tokio::test]
    async fn what_comes_in_about_a_path_under_way_waits_for_it() {
        let bench = bench();
        std::fs::write(bench.dir.path().join("a.png"), b"x").expect("written");
        let path = bench.tell("a.png", Hint::Closed);
        assert_eq!(bench.next().await, Some(path.clone()));
        std::fs::write(&path, b"changed").expect("written");
        bench.tell("a.png", Hint::Closed);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(bench.turns.waiting() == 0, "one path is in one pair of hands");
        bench.feedback.send(Feedback::Done(path.clone())).expect("settle runs");
        assert_eq!(bench.next().await, Some(path));
    }

    #[tokio::test]
    async fn a_file_that_did_not_change_while_it_was_judged_is_not_judged_again() {
        let bench = bench();
        std::fs::write(bench.dir.path().join("a.png"), b"x").expect("written");
        let path = bench.tell("a.png", Hint::Closed);
        assert_eq!(bench.next().await, Some(path.clone()));
        bench.tell("a.png", Hint::None);
        std::fs::write(bench.dir.path().join("b.png"), b"x").expect("written");
        let other = bench.tell("b.png", Hint::Closed);
        assert_eq!(bench.next().await, Some(other.clone()), "what was told before has come in");
        for path in [path, other] {
            bench.feedback.send(Feedback::Done(path)).expect("settle runs");
        }
        drop(bench.candidates);
        assert_eq!(next_of(bench.turns).await, None, "settle ends with nothing more to do");
    }

    #[tokio::test]
    async fn what_is_gone_is_dropped() {
        let bench = bench();
        bench.tell("never-there.png", Hint::Closed);
        std::fs::write(bench.dir.path().join("b.png"), b"x").expect("written");
        let there = bench.tell("b.png", Hint::Closed);
        assert_eq!(bench.next().await, Some(there));
    }

    #[tokio::test]
    async fn a_stop_leaves_the_rest_for_the_next_start() {
        let bench = bench();
        std::fs::write(bench.dir.path().join("a.png"), b"x").expect("written");
        bench.tell("a.png", Hint::None);
        bench.stopper.stop();
        bench.settling.await.expect("settle ends");
    }

    #[tokio::test]
    async fn a_file_that_never_rests_is_judged_as_it_is_and_again_when_it_rests() {
        let bench = bench();
        let path = bench.dir.path().join("warm.png");
        std::fs::write(&path, b"x").expect("written");
        let start = Instant::now();
        let path = bench.tell("warm.png", Hint::Closed);
        let warming = {
            let path = path.clone();
            tokio::spawn(async move {
                for length in 0_usize.. {
                    std::fs::write(&path, vec![b'x'; length]).expect("written");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
        };
        let judged = bench.next_settled().await.expect("judged");
        assert_eq!(judged.rest, Rest::Restless(None));
        assert!(start.elapsed() >= Duration::from_secs(2), "not before the deadline");
        let item = ItemId::of_bytes(b"x");
        bench.feedback.send(Feedback::Unfinished(judged.sighting, item)).expect("settle runs");
        let judged = bench.next_settled().await.expect("judged again");
        assert_eq!(judged.rest, Rest::Restless(Some(item)), "with what was seen before");
        warming.abort();
        std::fs::write(&path, b"the last of it").expect("written");
        bench.feedback.send(Feedback::Done(path.clone())).expect("settle runs");
        let judged = bench.next_settled().await.expect("judged when it rests");
        assert_eq!(judged.rest, Rest::Resting);
        bench.feedback.send(Feedback::Done(path)).expect("settle runs");
        drop(bench.candidates);
        assert_eq!(next_of(bench.turns).await, None, "and that is all");
    }

    async fn next_of(turns: Arc<Turns>) -> Option<PathBuf> {
        let next = tokio::task::spawn_blocking(move || {
            turns.next(&mut Run::default()).map(|(_, settled)| settled.sighting.path)
        });
        next.await.expect("no panic")
    }
}
