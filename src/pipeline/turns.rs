//! Who has which file read and decoded next: the threads that prepare files are shared fairly.
//!
//! Uploaders take turns. As many files are prepared at once as there are cores; when all of them
//! take long, one more may be for somebody who has none of them, so that whoever fills all cores
//! with slow files holds up nobody else. A thread stays with an uploader for a while, because the
//! next one's files need another decoder.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::moderation::Uploader;

use super::fair::Queues;
use super::settle::Settled;

/// How long a thread stays with one uploader while others wait, and for how many files: a change
/// costs the start of a decoder, some 6 ms, which is to be a small part of that.
const RUN: (Duration, u32) = (Duration::from_millis(800), 128);

/// When none of the threads became free for so long, one more may work.
const STUCK: Duration = Duration::from_millis(200);

/// The files that are to be prepared.
#[derive(Debug)]
pub(super) struct Turns {
    state: Mutex<State>,
    changed: Condvar,
    /// So many are prepared at once, and one more when these take long.
    at_once: usize,
}

#[derive(Debug)]
struct State {
    queues: Queues<Settled>,
    /// How many files of each uploader are being prepared.
    held: HashMap<Uploader, usize>,
    busy: usize,
    /// When a thread last became free.
    freed_at: Instant,
    /// Nothing more comes.
    ended: bool,
}

/// What one thread remembers from file to file.
#[derive(Debug, Default)]
pub(super) struct Run {
    serves: Option<(Uploader, Instant, u32)>,
}

/// A file that is being prepared. Dropped when that is over.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    pub(super) uploader: Uploader,
    turns: &'a Turns,
}

impl Turns {
    pub(super) fn new(at_once: usize) -> Self {
        let state = State {
            queues: Queues::default(),
            held: HashMap::new(),
            busy: 0,
            freed_at: Instant::now(),
            ended: false,
        };
        Self { state: Mutex::new(state), changed: Condvar::new(), at_once: at_once.max(1) }
    }

    /// So many threads are of use.
    pub(super) fn threads(&self) -> usize {
        self.at_once + 1
    }

    /// How many files wait for their turn.
    pub(super) fn waiting(&self) -> usize {
        self.state().queues.len()
    }

    /// Queues a file.
    pub(super) fn push(&self, uploader: Uploader, file: Settled) {
        self.state().queues.push(uploader, file);
        // All of them: which thread may take it depends on whose it is.
        self.changed.notify_all();
    }

    /// Nothing more comes, and what waits is left for the next start.
    pub(super) fn stop(&self) {
        let mut state = self.state();
        state.queues.clear();
        state.ended = true;
        drop(state);
        self.changed.notify_all();
    }

    /// Waits for the next file; `None` when there will be no more.
    pub(super) fn next(&self, run: &mut Run) -> Option<(Turn<'_>, Settled)> {
        let mut state = self.state();
        loop {
            if let Some((uploader, file)) = state.next(run, self.at_once) {
                state.busy += 1;
                *state.held.entry(uploader.clone()).or_default() += 1;
                drop(state);
                return Some((Turn { uploader, turns: self }, file));
            }
            if state.ended && state.queues.len() == 0 {
                drop(state);
                // The other threads may end too.
                self.changed.notify_all();
                return None;
            }
            state = match state.until_stuck(self.at_once) {
                Some(left) => {
                    let waited = self.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next(&mut self, run: &mut Run, at_once: usize) -> Option<(Uploader, Settled)> {
        let extra = self.busy >= at_once;
        if extra && self.freed_at.elapsed() < STUCK {
            return None;
        }
        if let Some((uploader, until, left)) = run.serves.take_if(|_| !extra)
            && left > 0
            && Instant::now() < until
            && let Some(file) = self.queues.pop_of(&uploader)
        {
            run.serves = Some((uploader.clone(), until, left - 1));
            return Some((uploader, file));
        }
        let held = &self.held;
        let (uploader, file) =
            self.queues.pop(|uploader| !extra || !held.contains_key(uploader))?;
        let (length, files) = RUN;
        run.serves = Some((uploader.clone(), Instant::now() + length, files));
        Some((uploader, file))
    }

    /// How long until one more thread may work, if there is something for it.
    fn until_stuck(&self, at_once: usize) -> Option<Duration> {
        let of_others = || self.queues.any(|uploader| !self.held.contains_key(uploader));
        (self.busy == at_once && of_others())
            .then(|| STUCK.saturating_sub(self.freed_at.elapsed()).max(Duration::from_millis(1)))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.turns.state();
        state.busy = state.busy.saturating_sub(1);
        state.freed_at = Instant::now();
        if let Some(count) = state.held.get_mut(&self.uploader) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                state.held.remove(&self.uploader);
            }
        }
        drop(state);
        self.turns.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moderation::Sighting;

    fn uploader(name: &str) -> Uploader {
        Uploader::Folder(name.into())
    }

    fn file(name: &str) -> Settled {
        Settled::named(Sighting { path: name.into(), root: "/".into() })
    }

    fn fill(turns: &Turns, name: &str, files: usize) {
        (0..files).for_each(|_| turns.push(uploader(name), file(name)));
    }

    #[test]
    fn one_more_than_usual_is_for_who_has_none() {
        let turns = Turns::new(2);
        fill(&turns, "eve", 10);
        let (first, _) = turns.next(&mut Run::default()).expect("eve's");
        let (_second, _) = turns.next(&mut Run::default()).expect("eve's");
        let stuck = |turns: &Turns| {
            turns.state().freed_at =
                Instant::now().checked_sub(STUCK).expect("the machine runs longer");
        };
        stuck(&turns);
        assert!(turns.state().next(&mut Run::default(), 2).is_none(), "no third one of hers");
        fill(&turns, "bob", 2);
        let (third, _) = turns.next(&mut Run::default()).expect("bob's, after a while");
        assert_eq!(third.uploader, uploader("bob"));
        stuck(&turns);
        assert!(turns.state().next(&mut Run::default(), 2).is_none(), "and no second of his");
        drop((first, third));
        let (next, _) = turns.next(&mut Run::default()).expect("more wait");
        assert_eq!(next.uploader, uploader("eve"), "it is her turn: his was the last");
    }

    #[test]
    fn while_files_are_quick_no_more_are_prepared_than_there_are_cores() {
        let turns = Turns::new(1);
        fill(&turns, "eve", 1);
        let (_first, _) = turns.next(&mut Run::default()).expect("eve's");
        fill(&turns, "bob", 1);
        turns.state().freed_at = Instant::now() + Duration::from_hours(1);
        assert!(turns.state().next(&mut Run::default(), 1).is_none());
        assert!(turns.state().until_stuck(1).is_some(), "but later");
    }

    #[test]
    fn a_thread_stays_with_an_uploader_for_a_while() {
        let turns = Turns::new(1);
        fill(&turns, "eve", 4);
        fill(&turns, "bob", 2);
        let mut run = Run::default();
        let mut next = || {
            let (turn, _) = turns.next(&mut run).expect("something waits");
            turn.uploader.clone()
        };
        assert_eq!([next(), next()], [uploader("eve"), uploader("eve")]);
        fill(&turns, "ann", 1);
        run.serves = run.serves.map(|(one, _, left)| (one, Instant::now(), left));
        let mut next = || {
            let (turn, _) = turns.next(&mut run).expect("something waits");
            turn.uploader.clone()
        };
        assert_eq!([next(), next()], [uploader("bob"), uploader("bob")]);
        assert_eq!([next(), next()], [uploader("ann"), uploader("eve")], "who came anew is first");
    }

    #[test]
    fn a_stop_leaves_what_waits() {
        let turns = Turns::new(1);
        fill(&turns, "eve", 4);
        turns.stop();
        assert!(turns.next(&mut Run::default()).is_none() && turns.waiting() == 0);
    }
}
