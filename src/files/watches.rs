//! The kernel's news of folders (inotify): a watch stands on the very folder that was reached
//! beneath its root, not on whatever its path leads to when the watch is set.
//!
//! `notify`, which other systems use, sets its watches by path, and always listens to every
//! opening of a file: on a site whose pictures are looked at, that is most of what it hears.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use super::News;
use super::folder::{Folder, Kind};
use super::roots::Root;

/// What a watch listens to: what brings, changes or takes away files. Reading is not among it.
const LISTENS: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// Watches on every folder below some roots.
#[derive(Debug)]
pub struct Watches {
    descriptor: OwnedFd,
    watched: HashMap<i32, Place>,
    /// The same by absolute path: what lies below a folder stands right behind it.
    by_path: BTreeMap<PathBuf, i32>,
    /// Folders that could not be watched, with why.
    pub unwatched: Vec<(PathBuf, io::Error)>,
    /// Whether this user may have no more watches (`fs.inotify.max_user_watches`): then only scans
    /// see what comes into other folders.
    pub exhausted: bool,
}

#[derive(Debug, Clone)]
struct Place {
    root: Arc<Root>,
    below: PathBuf,
}

impl Place {
    fn path(&self) -> PathBuf {
        self.root.at(&self.below)
    }
}

impl Watches {
    /// No watches yet.
    ///
    /// # Errors
    /// When this user may have no more of them (`fs.inotify.max_user_instances`).
    pub fn new() -> io::Result<Self> {
        let descriptor = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self {
            descriptor,
            watched: HashMap::new(),
            by_path: BTreeMap::new(),
            unwatched: Vec::new(),
            exhausted: false,
        })
    }

    /// Watches a folder and everything below it. What can't be watched is noted in
    /// [`Watches::unwatched`] or [`Watches::exhausted`]: the scans see to it.
    pub fn add(&mut self, root: &Arc<Root>, below: &Path) {
        let mut folders = vec![below.to_owned()];
        while let Some(below) = folders.pop() {
            match self.add_one(root, &below) {
                Ok(deeper) => folders.extend(deeper.into_iter().map(|name| below.join(name))),
                Err(error) if Errno::from_io_error(&error) == Some(Errno::NOSPC) => {
                    self.exhausted = true;
                    return;
                }
                // It went away again, or became a link.
                Err(error) if is_gone(&error) => {}
                Err(error) => self.unwatched.push((root.at(&below), error)),
            }
        }
    }

    /// Watches one folder; answers the names of those in it. First the watch, then the look: what
    /// comes in between is seen at least once.
    fn add_one(&mut self, root: &Arc<Root>, below: &Path) -> io::Result<Vec<std::ffi::OsString>> {
        let folder = root.folder.folder(below)?;
        let watch = watch_on(&self.descriptor, &folder)?;
        let place = Place { root: Arc::clone(root), below: below.to_owned() };
        self.by_path.insert(place.path(), watch);
        // The kernel gives a folder that it watches already the same number: it has moved.
        if let Some(before) = self.watched.insert(watch, place)
            && before.below != below
        {
            self.by_path.remove(&before.path());
        }
        let mut deeper = Vec::new();
        for name in folder.names()? {
            let name = name?;
            if matches!(folder.stat(Path::new(&name)), Ok(Some(stat)) if stat.kind == Kind::Folder)
            {
                deeper.push(name);
            }
        }
        Ok(deeper)
    }

    /// Reads what there is to read and hands it to `take`; nothing when nothing came.
    ///
    /// # Errors
    /// When the descriptor fails.
    pub fn read(&mut self, mut take: impl FnMut(News)) -> io::Result<()> {
        let mut buffer = vec![MaybeUninit::<u8>::uninit(); 1 << 16];
        let mut came = Vec::new();
        let mut reader = inotify::Reader::new(&self.descriptor, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
                    came.push((event.wd(), event.events(), name.map(ToOwned::to_owned)));
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            }
            if reader.is_buffer_empty() {
                break;
            }
        }
        for (watch, events, name) in came {
            if let Some(news) = self.news(watch, events, name.as_deref()) {
                take(news);
            }
        }
        Ok(())
    }

    fn news(&mut self, watch: i32, events: ReadFlags, name: Option<&OsStr>) -> Option<News> {
        if events.contains(ReadFlags::QUEUE_OVERFLOW) {
            return Some(News::Overflow);
        }
        if events.contains(ReadFlags::IGNORED) {
            self.remove(watch);
            return None;
        }
        let place = self.watched.get(&watch).cloned()?;
        let own = ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT;
        if events.intersects(own) {
            return place.below.as_os_str().is_empty().then_some(News::RootMoved);
        }
        let name = name?;
        let below = place.below.join(name);
        if events.contains(ReadFlags::ISDIR) {
            if events.contains(ReadFlags::MOVED_FROM) {
                self.forget(&place.root.at(&below));
                // Two folders that are exchanged in one step: another one is there already.
                self.add(&place.root, &below);
                return None;
            }
            let came = events.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO);
            // Its permissions changed: it may be one that could not be watched before.
            let changed = events.contains(ReadFlags::ATTRIB)
                && !self.by_path.contains_key(&place.root.at(&below));
            if !came && !changed {
                return None;
            }
            self.add(&place.root, &below);
            return Some(News::Folder(place.path().join(name)));
        }
        let path = place.path().join(name);
        if events.intersects(ReadFlags::CLOSE_WRITE | ReadFlags::MOVED_TO) {
            Some(News::Closed(path))
        } else if events.intersects(ReadFlags::CREATE | ReadFlags::MODIFY | ReadFlags::ATTRIB) {
            Some(News::Changed(path))
        } else {
            None
        }
    }

    /// Forgets a watch that the kernel has dropped, or is to drop.
    fn remove(&mut self, watch: i32) {
        let Some(place) = self.watched.remove(&watch) else { return };
        let path = place.path();
        // Another folder may have come to this path meanwhile.
        if self.by_path.get(&path) == Some(&watch) {
            self.by_path.remove(&path);
        }
    }

    /// A folder was renamed away: its watches would go on under the old name.
    fn forget(&mut self, path: &Path) {
        let below = self.by_path.range(path.to_owned()..);
        let below = below.take_while(|(watched, _)| watched.starts_with(path));
        let watches: Vec<i32> = below.map(|(_, watch)| *watch).collect();
        for watch in watches {
            self.remove(watch);
            // The kernel may have dropped it already.
            let _ = inotify::remove_watch(&self.descriptor, watch);
        }
    }

    /// How many folders are watched.
    pub fn count(&self) -> usize {
        self.watched.len()
    }
}

impl AsFd for Watches {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// A watch on the folder itself: the kernel takes only paths, and this one leads to the
/// descriptor.
fn watch_on(inotify: &OwnedFd, folder: &Folder) -> io::Result<i32> {
    let path = format!("/proc/self/fd/{}", folder.as_fd().as_raw_fd());
    Ok(inotify::add_watch(inotify, path, LISTENS)?)
}

fn is_gone(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    struct Bench {
        _dir: tempfile::TempDir,
        path: PathBuf,
        root: Arc<Root>,
        watches: Watches,
    }

    fn bench() -> Bench {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = std::fs::canonicalize(dir.path()).expect("there");
        std::fs::create_dir_all(path.join("up/sub")).expect("made");
        std::fs::create_dir_all(path.join("outside")).expect("made");
        let root = Arc::new(Root::open(&path.join("up")).expect("opened"));
        let mut watches = Watches::new().expect("inotify");
        watches.add(&root, Path::new(""));
        Bench { _dir: dir, path, root, watches }
    }

    impl Bench {
        /// Everything until the wanted news came.
        fn until(&mut self, wanted: &News) -> Vec<News> {
            let (mut all, end) = (Vec::new(), Instant::now() + Duration::from_secs(20));
            while !all.contains(wanted) {
                assert!(Instant::now() < end, "{wanted:?} did not come, but {all:?}");
                self.watches.read(|news| all.push(news)).expect("read");
            }
            all
        }
    }

    #[test]
    fn writing_renaming_and_new_folders_are_told_and_reading_is_not() {
        let mut bench = bench();
        let up = bench.path.join("up");
        std::fs::write(up.join("sub/a"), b"x").expect("written");
        bench.until(&News::Closed(up.join("sub/a")));
        for _ in 0..50 {
            std::fs::read(up.join("sub/a")).expect("read");
        }
        std::fs::create_dir(up.join("new")).expect("made");
        let told = bench.until(&News::Folder(up.join("new")));
        assert_eq!(told.len(), 1, "reading a file is no news: {told:?}");
        std::fs::write(up.join("new/b"), b"x").expect("written");
        bench.until(&News::Closed(up.join("new/b")));
        std::fs::rename(up.join("new"), up.join("other")).expect("renamed");
        bench.until(&News::Folder(up.join("other")));
        std::fs::write(up.join("other/c"), b"x").expect("written");
        let told = bench.until(&News::Closed(up.join("other/c")));
        assert!(!told.contains(&News::Closed(up.join("new/c"))), "{told:?}");
        std::fs::rename(&up, bench.path.join("moved")).expect("renamed");
        bench.until(&News::RootMoved);
    }

    #[test]
    fn folders_that_are_exchanged_or_become_readable_are_watched() {
        let mut bench = bench();
        let up = bench.path.join("up");
        std::fs::create_dir(up.join("other")).expect("made");
        bench.until(&News::Folder(up.join("other")));
        let flags = rustix::fs::RenameFlags::EXCHANGE;
        let (cwd, sub) = (rustix::fs::CWD, up.join("sub"));
        rustix::fs::renameat_with(cwd, &sub, cwd, up.join("other"), flags).expect("exchanged");
        bench.until(&News::Folder(sub.clone()));
        for name in ["sub/a", "other/b"] {
            std::fs::write(up.join(name), b"x").expect("written");
            bench.until(&News::Closed(up.join(name)));
        }
        // As if it could not be watched when it came.
        bench.watches.forget(&sub);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o750);
        std::fs::set_permissions(&sub, mode).expect("set");
        bench.until(&News::Folder(sub.clone()));
        std::fs::write(sub.join("c"), b"x").expect("written");
        bench.until(&News::Closed(sub.join("c")));
    }

    #[test]
    fn a_folder_swapped_for_a_link_is_not_watched_behind_the_link() {
        let mut bench = bench();
        let up = bench.path.join("up");
        std::fs::create_dir(bench.path.join("outside/deep")).expect("made");
        std::fs::rename(up.join("sub"), bench.path.join("sub")).expect("renamed");
        std::os::unix::fs::symlink("../outside", up.join("sub")).expect("linked");
        let before = bench.watches.count();
        let root = Arc::clone(&bench.root);
        bench.watches.add(&root, Path::new("sub"));
        bench.watches.add(&root, Path::new("sub/deep"));
        assert!(bench.watches.count() <= before);
        std::fs::write(bench.path.join("outside/deep/x"), b"x").expect("written");
        std::fs::write(up.join("y"), b"x").expect("written");
        let told = bench.until(&News::Closed(up.join("y")));
        assert!(told.iter().all(|news| *news != News::Closed(up.join("sub/deep/x"))), "{told:?}");
    }
}
