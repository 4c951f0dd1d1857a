//! Files that are opened only after a wait. Whoever holds a write lease on a file (fcntl(2)) is
//! told when somebody opens it, and the opener waits until it is given up, 45 s at most. An open
//! that does not wait fails each time, while a web server's, which waits, succeeds: so a file that
//! is lent out is opened by a thread that may wait.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};

use super::folder::Identity;

/// Who gives a lease up as he should does so in less time.
const SOON: Duration = Duration::from_millis(50);
/// A file that was opened is kept for whoever asked for it, so that no new lease can be taken.
const KEPT: Duration = Duration::from_secs(10);

/// One at a time: somebody with a thousand of such files holds up nobody but himself.
static WAITING: Mutex<Option<Waiting>> = Mutex::new(None);

struct Waiting {
    identity: Identity,
    since: Instant,
    opened: Receiver<io::Result<File>>,
}

/// Opens a regular file for reading that `place` leads to (a descriptor of the path alone).
///
/// # Errors
/// `EAGAIN` while its lease is not given up, or while another file is waited for: to be tried
/// again; what was opened meanwhile is handed out then.
pub(super) fn open(place: OwnedFd, identity: Identity) -> io::Result<File> {
    let mut slot = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
    let begin = match &*slot {
        None => true,
        Some(waiting) => waiting.identity != identity && waiting.since.elapsed() > KEPT,
    };
    if begin {
        *slot = Some(start(place, identity));
    }
    let Some(waiting) = slot.as_ref().filter(|waiting| waiting.identity == identity) else {
        return Err(io::ErrorKind::WouldBlock.into());
    };
    match waiting.opened.recv_timeout(SOON) {
        Ok(opened) => {
            *slot = None;
            opened
        }
        Err(RecvTimeoutError::Timeout) => Err(io::ErrorKind::WouldBlock.into()),
        Err(RecvTimeoutError::Disconnected) => {
            *slot = None;
            Err(io::ErrorKind::WouldBlock.into())
        }
    }
}

fn start(place: OwnedFd, identity: Identity) -> Waiting {
    let (hand_over, opened) = mpsc::channel();
    std::thread::spawn(move || {
        let path = format!("/proc/self/fd/{}", place.as_raw_fd());
        let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        // Nobody wants it any more when it took too long.
        let _ = hand_over.send(file.map(File::from).map_err(io::Error::from));
    });
    Waiting { identity, since: Instant::now(), opened }
}
