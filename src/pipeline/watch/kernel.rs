//! Listens to the kernel's news of the watched folders, on a thread of its own (Linux).

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use crate::files::{News, Roots, Watches};
use crate::moderation::escape::escape_path;

use super::{Message, Overflow};

/// A listening thread; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Watcher {
    /// The other end is in the thread's hands: closing this one ends it.
    _end: OwnedFd,
    hears_all: Arc<AtomicBool>,
}

impl Watcher {
    /// Whether every folder that can be read is watched.
    pub(super) fn hears_all(&self) -> bool {
        self.hears_all.load(Ordering::Relaxed)
    }
}

/// A watcher of all roots, or `None` (with a word in the log) when the kernel refuses: then the
/// folders are scanned often instead.
pub(super) async fn start(
    roots: &Arc<Roots>,
    paths: &[PathBuf],
    news: &mpsc::Sender<Message>,
    overflow: &Arc<Overflow>,
) -> Option<Watcher> {
    let (held, paths) = (Arc::clone(roots), paths.to_vec());
    let (news, overflow) = (news.clone(), Arc::clone(overflow));
    let (ready_out, ready) = oneshot::channel();
    let (ended, end) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).ok()?;
    let hears_all = Arc::new(AtomicBool::new(true));
    let shared = Arc::clone(&hears_all);
    std::thread::spawn(move || {
        let opened = Watches::new().and_then(|mut watches| {
            add_all(&mut watches, &held, &paths)?;
            Ok(watches)
        });
        match opened {
            Ok(watches) => {
                note_exhausted(&watches, &shared);
                // Nobody waits any more only when the run has ended.
                let _ = ready_out.send(Ok(()));
                listen(watches, &shared, &ended, &news, &overflow);
            }
            Err(error) => {
                let _ = ready_out.send(Err(error));
            }
        }
    });
    match ready.await.ok()? {
        Ok(()) => Some(Watcher { _end: end, hears_all }),
        Err(error) => {
            let hint = "the folders are scanned every few seconds instead";
            warn!(%error, hint, "can't watch by events");
            None
        }
    }
}

/// Watches all roots. Folders that can't be read are told; the scans see to them.
fn add_all(watches: &mut Watches, held: &Roots, paths: &[PathBuf]) -> io::Result<()> {
    for path in paths {
        watches.add(&held.root(path)?, Path::new(""));
    }
    tell_unwatched(watches);
    if watches.count() == 0 {
        return Err(io::Error::other("no folder can be watched (is /proc there?)"));
    }
    Ok(())
}

fn tell_unwatched(watches: &mut Watches) {
    for (folder, error) in watches.unwatched.drain(..) {
        warn!(folder = %escape_path(&folder), %error, "can't watch this folder by events");
    }
}

/// Notes, and says the first time, that there are folders that nothing is heard of.
fn note_exhausted(watches: &Watches, hears_all: &AtomicBool) {
    if watches.exhausted && hears_all.swap(false, Ordering::Relaxed) {
        let hint = "raise fs.inotify.max_user_watches; the folders are scanned every few seconds \
                    meanwhile";
        warn!(folders = watches.count(), hint, "can't watch every folder by events");
    }
}

fn listen(
    mut watches: Watches,
    hears_all: &AtomicBool,
    ended: &OwnedFd,
    news: &mpsc::Sender<Message>,
    overflow: &Overflow,
) {
    loop {
        let mut ready = [PollFd::new(&watches, PollFlags::IN), PollFd::new(ended, PollFlags::IN)];
        match poll(&mut ready, None) {
            Ok(_) if !ready[1].revents().is_empty() => return,
            Ok(_) | Err(Errno::INTR) => {}
            // So poll(2) says that this process may have no descriptors at the moment.
            Err(Errno::INVAL | Errno::NOMEM) => {
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
            Err(errno) => {
                // The queue is full only of what leads to a scan anyway.
                let _ = news.try_send(Err(errno.to_string()));
                return;
            }
        }
        let read = watches.read(|one| match one {
            News::Overflow => overflow.tell(),
            one => {
                if news.try_send(Ok(one)).is_err() {
                    overflow.tell();
                }
            }
        });
        tell_unwatched(&mut watches);
        note_exhausted(&watches, hears_all);
        if let Err(error) = read {
            let _ = news.try_send(Err(error.to_string()));
            overflow.tell();
            return;
        }
    }
}
