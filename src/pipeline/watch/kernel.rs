//! Listens to the kernel's news of the watched folders, on a thread of its own (Linux).

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use crate::files::{News, Roots, Watches};
use crate::moderation::escape::escape_path;

use super::{Heard, Overflow};

/// A listening thread; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Watcher {
    /// The other end is in the thread's hands: closing this one ends it.
    _end: OwnedFd,
    hears_all: bool,
}

impl Watcher {
    /// Whether every folder that can be read is watched.
    pub(super) fn hears_all(&self) -> bool {
        self.hears_all
    }
}

/// A watcher of all roots, or `None` (with a word in the log) when the kernel refuses: then the
/// folders are scanned often instead.
pub(super) async fn start(
    roots: &Arc<Roots>,
    paths: &[PathBuf],
    news: &mpsc::Sender<Heard>,
    overflow: &Arc<Overflow>,
) -> Option<Watcher> {
    let (held, paths) = (Arc::clone(roots), paths.to_vec());
    let (news, overflow) = (news.clone(), Arc::clone(overflow));
    let (ready_out, ready) = oneshot::channel();
    let (ended, end) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).ok()?;
    std::thread::spawn(move || {
        let opened = Watches::new().and_then(|mut watches| {
            let complete = add_all(&mut watches, &held, &paths)?;
            Ok((watches, complete))
        });
        match opened {
            Ok((watches, complete)) => {
                // Nobody waits any more only when the run has ended.
                let _ = ready_out.send(Ok(complete));
                listen(watches, &ended, &news, &overflow);
            }
            Err(error) => {
                let _ = ready_out.send(Err(error));
            }
        }
    });
    match ready.await.ok()? {
        Ok(hears_all) => Some(Watcher { _end: end, hears_all }),
        Err(error) => {
            let hint = "the folders are scanned every few seconds instead";
            warn!(%error, hint, "can't watch by events");
            None
        }
    }
}

/// Watches all roots; answers whether there were enough watches. Folders that can't be read are
/// told; the scans see to them.
fn add_all(watches: &mut Watches, held: &Roots, paths: &[PathBuf]) -> io::Result<bool> {
    let mut complete = true;
    for path in paths {
        match watches.add(&held.root(path)?, Path::new("")) {
            Ok(()) => {}
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NOSPC) => {
                let hint = "raise fs.inotify.max_user_watches; the folders are scanned every few \
                            seconds meanwhile";
                warn!(folders = watches.count(), hint, "can't watch every folder by events");
                complete = false;
                break;
            }
            Err(error) => return Err(error),
        }
    }
    for (folder, error) in watches.unwatched.drain(..) {
        warn!(folder = %escape_path(&folder), %error, "can't watch this folder by events");
    }
    if watches.count() == 0 {
        return Err(io::Error::other("no folder can be watched (is /proc there?)"));
    }
    Ok(complete)
}

fn listen(mut watches: Watches, ended: &OwnedFd, news: &mpsc::Sender<Heard>, overflow: &Overflow) {
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
        for (folder, error) in watches.unwatched.drain(..) {
            warn!(folder = %escape_path(&folder), %error, "can't watch this folder by events");
        }
        if let Err(error) = read {
            let _ = news.try_send(Err(error.to_string()));
            overflow.tell();
            return;
        }
    }
}
