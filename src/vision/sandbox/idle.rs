//! Decoders that wait for work: each for the uploader whose files it saw, and a few that saw none.

use std::collections::VecDeque;
use std::num::NonZero;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::moderation::Uploader;

use super::{Decoder, Starter};

/// So many children more than there are cores wait at most: each may keep some 100 MiB at hand.
const MORE_THAN_CORES: usize = 6;

/// So many children that saw no file are kept ready once uploaders have begun to change.
const FRESH: usize = 2;

/// The children that wait.
pub(super) struct Idle {
    starter: Arc<Starter>,
    /// Who saw the files of whom; the one that waits longest first.
    used: Mutex<VecDeque<(Uploader, Decoder)>>,
    fresh: Mutex<Option<Receiver<Decoder>>>,
    most: usize,
}

impl Idle {
    pub(super) fn new(starter: Arc<Starter>) -> Self {
        let cores = thread::available_parallelism().map_or(2, NonZero::get);
        let most = cores + MORE_THAN_CORES;
        Self { starter, used: Mutex::default(), fresh: Mutex::default(), most }
    }

    /// A child that saw this uploader's files only, or none yet.
    pub(super) fn take(&self, uploader: &Uploader) -> Option<Decoder> {
        let mut used = self.used();
        // The latest first: its memory is the warmest.
        if let Some(place) = used.iter().rposition(|(saw, _)| saw == uploader) {
            return used.remove(place).map(|(_, decoder)| decoder);
        }
        let changing = !used.is_empty();
        drop(used);
        if changing { self.take_fresh() } else { None }
    }

    /// The child waits for the next file of this uploader.
    pub(super) fn put_back(&self, uploader: &Uploader, decoder: Decoder) {
        let mut used = self.used();
        used.push_back((uploader.clone(), decoder));
        let longest = if used.len() > self.most { used.pop_front() } else { None };
        drop(used);
        // Ending it takes a moment, in which nobody has to wait for the others.
        drop(longest);
    }

    /// Ends all that wait.
    pub(super) fn clear(&self) {
        self.used().clear();
        *self.fresh.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The largest of what is found about those that wait.
    pub(super) fn most<T: Ord>(&self, found: impl Fn(&Decoder) -> Option<T>) -> Option<T> {
        self.used().iter().filter_map(|(_, decoder)| found(decoder)).max()
    }

    /// One that was started ahead, by a thread that begins with the first change of uploaders.
    fn take_fresh(&self) -> Option<Decoder> {
        let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        match fresh.as_ref().map(Receiver::try_recv) {
            Some(Ok(decoder)) => return Some(decoder),
            Some(Err(TryRecvError::Empty)) => return None,
            Some(Err(TryRecvError::Disconnected)) | None => {}
        }
        let (give, ready) = sync_channel(FRESH - 1);
        let starter = Arc::clone(&self.starter);
        // Without the thread, each child is started when it is needed.
        let thread = thread::Builder::new().name("fresh decoders".to_owned()).spawn(move || {
            keep_ready(&starter, &give);
        });
        *fresh = thread.ok().map(|_| ready);
        None
    }

    fn used(&self) -> MutexGuard<'_, VecDeque<(Uploader, Decoder)>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts children until nobody takes them any more. Where one can't be started the thread ends:
/// whoever needs one tries for themselves, says why there is none, and begins another thread later.
fn keep_ready(starter: &Starter, give: &SyncSender<Decoder>) {
    while !starter.called_off.load(Ordering::Relaxed) {
        let Ok(decoder) = starter.decoder() else { return };
        if give.send(decoder).is_err() {
            return;
        }
    }
}
