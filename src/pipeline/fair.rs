//! Queues that are shared fairly: whoever brings much waits for their own turn, and whoever
//! brings little for next to nothing.

use std::collections::{HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::moderation::Uploader;

/// What waits, by uploader. Who comes anew goes first, then all take turns, one thing each: the
/// order of FQ-CoDel (RFC 8290, section 4.2), which can't be gamed by coming and going, because
/// whoever was served goes to the end of the line even when nothing of theirs is left.
#[derive(Debug)]
pub(super) struct Queues<T> {
    waiting: HashMap<Uploader, VecDeque<T>>,
    new: VecDeque<Uploader>,
    old: VecDeque<Uploader>,
    length: usize,
}

impl<T> Default for Queues<T> {
    fn default() -> Self {
        let (waiting, new, old) = (HashMap::new(), VecDeque::new(), VecDeque::new());
        Self { waiting, new, old, length: 0 }
    }
}

impl<T> Queues<T> {
    /// How many things wait.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// How many things of one uploader wait.
    pub(super) fn len_of(&self, uploader: &Uploader) -> usize {
        self.waiting.get(uploader).map_or(0, VecDeque::len)
    }

    /// Puts one more thing at the end of its uploader's queue.
    pub(super) fn push(&mut self, uploader: Uploader, one: T) {
        self.length += 1;
        if let Some(queue) = self.waiting.get_mut(&uploader) {
            queue.push_back(one);
            return;
        }
        self.new.push_back(uploader.clone());
        self.waiting.insert(uploader, VecDeque::from([one]));
    }

    /// Whether there is something of an uploader that may be served.
    pub(super) fn any(&self, may: impl Fn(&Uploader) -> bool) -> bool {
        self.waiting.iter().any(|(uploader, queue)| !queue.is_empty() && may(uploader))
    }

    /// The next thing of those that may be served.
    pub(super) fn pop(&mut self, mut may: impl FnMut(&Uploader) -> bool) -> Option<(Uploader, T)> {
        for anew in [true, false] {
            let mut place = 0;
            while let Some(uploader) = self.line(anew).get(place).cloned() {
                if self.len_of(&uploader) == 0 {
                    // Served to the end, and nothing came since.
                    self.line(anew).remove(place);
                    self.waiting.remove(&uploader);
                } else if may(&uploader) {
                    self.line(anew).remove(place);
                    self.old.push_back(uploader.clone());
                    let one = self.pop_of(&uploader)?;
                    return Some((uploader, one));
                } else {
                    place += 1;
                }
            }
        }
        None
    }

    /// The next thing of one uploader, whose turn stays where it is.
    pub(super) fn pop_of(&mut self, uploader: &Uploader) -> Option<T> {
        let one = self.waiting.get_mut(uploader)?.pop_front()?;
        self.length -= 1;
        Some(one)
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn line(&mut self, anew: bool) -> &mut VecDeque<Uploader> {
        if anew { &mut self.new } else { &mut self.old }
    }
}

/// A queue between threads in which things of a limited size wait, and of one thing more than that.
/// Nobody can fill more of it than is left for others, so that there is always room for whoever comes
/// next.
#[derive(Debug)]
pub(super) struct FairQueue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    most: usize,
}

#[derive(Debug)]
struct State<T> {
    /// With the size of each thing.
    queues: Queues<(usize, T)>,
    /// The size of all that waits, and of what waits of each uploader.
    filled: usize,
    filled_by: HashMap<Uploader, usize>,
    /// Nothing more comes.
    ended: bool,
    /// Nobody takes anything any more.
    abandoned: bool,
}

/// What [`FairQueue::pop_within`] found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Popped<T> {
    /// The next thing.
    One(T),
    /// Nothing came in that time.
    Nothing,
    /// Nothing will come any more.
    Ended,
}

impl<T> State<T> {
    fn take_away(&mut self, uploader: &Uploader, size: usize) {
        self.filled -= size;
        if let Some(filled) = self.filled_by.get_mut(uploader) {
            *filled -= size;
            if *filled == 0 {
                self.filled_by.remove(uploader);
            }
        }
    }
}

impl<T> FairQueue<T> {
    /// For things of this size altogether.
    pub(super) fn new(most: usize) -> Self {
        let state = State {
            queues: Queues::default(),
            filled: 0,
            filled_by: HashMap::new(),
            ended: false,
            abandoned: false,
        };
        Self { state: Mutex::new(state), changed: Condvar::new(), most: most.max(2) }
    }

    /// Waits for room in the uploader's share, then puts in a thing of this size. Answers whether
    /// anybody still takes things.
    pub(super) fn push(&self, uploader: Uploader, size: usize, one: T) -> bool {
        let mut state = self.state();
        loop {
            if state.abandoned {
                return false;
            }
            let free = self.most.saturating_sub(state.filled);
            if state.filled_by.get(&uploader).copied().unwrap_or(0) < free {
                break;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.filled += size;
        *state.filled_by.entry(uploader.clone()).or_default() += size;
        state.queues.push(uploader, (size, one));
        drop(state);
        self.changed.notify_all();
        true
    }

    /// Waits for the next thing; `None` when there will be no more.
    pub(super) fn pop(&self) -> Option<T> {
        loop {
            match self.pop_within(Duration::from_hours(1)) {
                Popped::One(one) => return Some(one),
                Popped::Nothing => {}
                Popped::Ended => return None,
            }
        }
    }

    /// The next thing, if it comes in time.
    pub(super) fn pop_within(&self, patience: Duration) -> Popped<T> {
        let until = Instant::now() + patience;
        let mut state = self.state();
        loop {
            if let Some((uploader, (size, one))) = state.queues.pop(|_| true) {
                state.take_away(&uploader, size);
                drop(state);
                self.changed.notify_all();
                return Popped::One(one);
            }
            if state.ended || state.abandoned {
                return Popped::Ended;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Popped::Nothing;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Nothing more comes; what waits can still be taken.
    pub(super) fn end(&self) {
        self.state().ended = true;
        self.changed.notify_all();
    }

    /// Nobody takes anything any more.
    pub(super) fn abandon(&self) {
        let mut state = self.state();
        state.abandoned = true;
        state.queues.clear();
        (state.filled, state.filled_by) = (0, HashMap::new());
        drop(state);
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn uploader(name: &str) -> Uploader {
        Uploader::Folder(name.into())
    }

    #[test]
    fn all_take_turns_and_who_comes_anew_goes_first() {
        let mut queues = Queues::default();
        let (eve, bob, ann) = (uploader("eve"), uploader("bob"), uploader("ann"));
        (0..10).for_each(|n| queues.push(eve.clone(), n));
        let next = |queues: &mut Queues<i32>| queues.pop(|_| true).expect("something waits").1;
        assert_eq!([next(&mut queues), next(&mut queues)], [0, 1]);
        queues.push(bob.clone(), 100);
        queues.push(bob.clone(), 101);
        queues.push(ann.clone(), 200);
        let order: Vec<_> = (0..5).map(|_| next(&mut queues)).collect();
        assert_eq!(order, [100, 200, 2, 101, 3]);
        queues.push(bob, 102);
        assert!(queues.new.is_empty(), "who was served a moment ago does not come anew");
        assert_eq!((queues.len(), queues.len_of(&eve)), (7, 6));
        assert_eq!(queues.pop(|one| *one != eve).expect("bob's").1, 102);
        assert!(queues.pop(|one| *one != eve).is_none() && !queues.any(|one| *one != eve));
        let mut left = 0;
        while queues.pop(|_| true).is_some() {
            left += 1;
        }
        assert_eq!((left, queues.len()), (6, 0));
        assert!(queues.waiting.is_empty() && queues.old.is_empty(), "nothing is remembered");
    }

    #[test]
    fn nobody_fills_more_than_is_left_for_others() {
        let queue = Arc::new(FairQueue::new(4));
        let filling = {
            let queue = Arc::clone(&queue);
            std::thread::spawn(move || (0..3).all(|n| queue.push(uploader("eve"), 1, n)))
        };
        let full = Instant::now() + Duration::from_secs(20);
        while queue.state().queues.len() < 2 {
            assert!(Instant::now() < full, "two have room");
            std::thread::yield_now();
        }
        assert!(queue.push(uploader("bob"), 1, 100), "there is room for another");
        assert_eq!(queue.state().queues.len(), 3, "the third of the first waits");
        assert_eq!(queue.pop(), Some(0));
        assert_eq!(queue.pop(), Some(100));
        assert!(filling.join().expect("no panic"));
        queue.end();
        assert_eq!((queue.pop(), queue.pop(), queue.pop()), (Some(1), Some(2), None));
        assert_eq!(queue.pop_within(Duration::ZERO), Popped::Ended);
    }

    #[test]
    fn things_take_room_by_their_size() {
        let queue = FairQueue::new(10);
        // The first may be larger than its share, and then nobody has room.
        assert!(queue.push(uploader("eve"), 20, "large"));
        let filled = |queue: &FairQueue<_>| {
            let state = queue.state();
            (state.filled, state.filled_by.len())
        };
        assert_eq!(filled(&queue), (20, 1));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| queue.push(uploader("bob"), 4, "small"));
            assert_eq!(queue.pop(), Some("large"));
            assert!(waiting.join().expect("no panic"));
        });
        assert_eq!(filled(&queue), (4, 1));
        assert_eq!(queue.pop(), Some("small"));
        assert_eq!(filled(&queue), (0, 0), "nothing is remembered");
    }

    #[test]
    fn an_abandoned_queue_takes_nothing() {
        let queue = FairQueue::new(2);
        assert!(queue.push(uploader("eve"), 1, 1));
        assert_eq!(FairQueue::<i32>::new(2).pop_within(Duration::ZERO), Popped::Nothing);
        queue.abandon();
        assert!(!queue.push(uploader("eve"), 1, 2));
        assert_eq!(queue.pop(), None);
    }
}
