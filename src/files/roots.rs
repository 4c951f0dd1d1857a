//! The folders that are watched or were: each held by its descriptor, so that a path below it
//! can lead nowhere else.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use crate::moderation::{FileStat, Sighting};

use super::folder::{Entry, Folder, Identity, Kind, Stat};

/// A watched folder.
#[derive(Debug)]
pub struct Root {
    /// Its absolute path, without links.
    pub path: PathBuf,
    /// The folder itself.
    pub folder: Folder,
    /// Which folder it is.
    pub identity: Identity,
}

impl Root {
    /// Opens the folder of this absolute path, no component of which may be a link.
    ///
    /// # Errors
    /// When it is not there, no folder, or has become a link.
    pub fn open(path: &Path) -> io::Result<Self> {
        let folder = Folder::without_links(path)?;
        let identity = folder.identity()?;
        Ok(Self { path: path.to_owned(), folder, identity })
    }
}

impl Root {
    /// The absolute path of what lies below it; of itself where that is nothing.
    pub fn at(&self, below: &Path) -> PathBuf {
        // `join` with nothing would leave a slash behind.
        if below.as_os_str().is_empty() { self.path.clone() } else { self.path.join(below) }
    }
}

/// What became of a root's path since it was last looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Nothing is there any more.
    Gone(PathBuf),
    /// It is there again.
    Back(PathBuf),
    /// Another folder is there: mounted over, unmounted, or replaced.
    Replaced(PathBuf),
}

/// The roots that a run works with, opened when they are first needed and held from then on.
#[derive(Debug, Default)]
pub struct Roots {
    held: Mutex<BTreeMap<PathBuf, Slot>>,
}

#[derive(Debug, Clone)]
enum Slot {
    Open(Arc<Root>),
    /// It was held, and its path leads nowhere now.
    Lost,
}

impl Roots {
    /// The root of this path.
    ///
    /// # Errors
    /// When it can't be opened, or was lost and not looked at since.
    pub fn root(&self, path: &Path) -> io::Result<Arc<Root>> {
        match self.held().get(path) {
            Some(Slot::Open(root)) => return Ok(Arc::clone(root)),
            Some(Slot::Lost) => return Err(Errno::NOENT.into()),
            None => {}
        }
        let root = Arc::new(Root::open(path)?);
        self.held().insert(path.to_owned(), Slot::Open(Arc::clone(&root)));
        Ok(root)
    }

    /// Holds a folder that was opened by whoever knows how it may be reached.
    pub(super) fn hold(&self, root: Root) -> Arc<Root> {
        let root = Arc::new(root);
        self.held().insert(root.path.clone(), Slot::Open(Arc::clone(&root)));
        root
    }

    /// Looks whether these paths still lead to the folders that are held; where one leads to
    /// another folder, that one is held from now on. Answers what changed.
    pub fn look_again(&self, paths: &[PathBuf]) -> Vec<Change> {
        let mut changes = Vec::new();
        for path in paths {
            let found = match Root::open(path) {
                Ok(root) => Some(root),
                // That says nothing about the folder.
                Err(error) if is_starved(&error) => continue,
                Err(_) => None,
            };
            let mut held = self.held();
            let change = match (held.get(path), &found) {
                (Some(Slot::Open(before)), Some(now)) if before.identity == now.identity => {
                    continue;
                }
                (Some(Slot::Open(_)), Some(_)) => Change::Replaced(path.clone()),
                (Some(Slot::Open(_)), None) => Change::Gone(path.clone()),
                (Some(Slot::Lost), Some(_)) => Change::Back(path.clone()),
                (Some(Slot::Lost), None) => continue,
                // Not held so far: nothing to compare with.
                (None, Some(_)) => {
                    held.insert(path.clone(), open(found));
                    continue;
                }
                (None, None) => {
                    held.insert(path.clone(), Slot::Lost);
                    continue;
                }
            };
            held.insert(path.clone(), open(found));
            changes.push(change);
        }
        changes
    }

    /// Whether the root is there and held.
    pub fn is_there(&self, path: &Path) -> bool {
        self.root(path).is_ok()
    }

    /// What stands where the file was seen; `None` when nothing does.
    ///
    /// # Errors
    /// When it can't be told.
    pub fn stat(&self, sighting: &Sighting) -> io::Result<Option<Stat>> {
        match self.root(&sighting.root) {
            Ok(root) => root.folder.stat(below(sighting)?),
            Err(error) => nothing_or(error),
        }
    }

    /// Size, times and number of the regular file that was seen; `None` when there is none (any
    /// more).
    ///
    /// # Errors
    /// When it can't be told.
    pub fn regular(&self, sighting: &Sighting) -> io::Result<Option<FileStat>> {
        let stat = self.stat(sighting)?.filter(|stat| stat.kind == Kind::File);
        Ok(stat.map(|stat| stat.file))
    }

    /// The file that was seen, opened for reading; `None` when there is none.
    ///
    /// # Errors
    /// When it is there and can't be opened.
    pub fn open(&self, sighting: &Sighting) -> io::Result<Option<(File, Stat)>> {
        match self.root(&sighting.root) {
            Ok(root) => root.folder.open(below(sighting)?),
            Err(error) => nothing_or(error),
        }
    }

    /// The name where the file was seen, in its folder; `None` when that folder can't be reached
    /// any more without a link.
    ///
    /// # Errors
    /// When the root is not there (unmounted?), or the folder is there and can't be opened.
    pub fn entry(&self, sighting: &Sighting) -> io::Result<Option<Entry>> {
        self.root(&sighting.root)?;
        match self.entry_in(sighting, Folder::folder) {
            Ok(entry) => Ok(Some(entry)),
            Err(error) => nothing_or(error),
        }
    }

    /// The same, and folders that are missing are made.
    ///
    /// # Errors
    /// When they can't be made, or a link is on the way.
    pub fn make_entry(&self, sighting: &Sighting) -> io::Result<Entry> {
        self.entry_in(sighting, Folder::make_folder)
    }

    fn entry_in(
        &self,
        sighting: &Sighting,
        reach: impl Fn(&Folder, &Path) -> io::Result<Folder>,
    ) -> io::Result<Entry> {
        let root = self.root(&sighting.root)?;
        let below = below(sighting)?;
        let name = below.file_name().ok_or(Errno::INVAL)?;
        let folder = reach(&root.folder, below.parent().unwrap_or(Path::new("")))?;
        Ok(Entry { folder, name: name.to_owned(), path: sighting.path.clone() })
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Slot>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// This process lacks what opening takes (descriptors, memory): no fault of the file.
pub fn is_starved(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS))
}

fn open(found: Option<Root>) -> Slot {
    found.map_or(Slot::Lost, |root| Slot::Open(Arc::new(root)))
}

/// The path of a file below its root.
fn below(sighting: &Sighting) -> io::Result<&Path> {
    let below = sighting.path.strip_prefix(&sighting.root).ok();
    below.filter(|below| !below.as_os_str().is_empty()).ok_or_else(|| Errno::XDEV.into())
}

fn nothing_or<T>(error: io::Error) -> io::Result<Option<T>> {
    match Errno::from_io_error(&error) {
        Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => Ok(None),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = std::fs::canonicalize(dir.path()).expect("there");
        std::fs::create_dir(path.join("root")).expect("made");
        (dir, path)
    }

    fn sighting(root: &Path, below: &str) -> Sighting {
        Sighting { path: root.join(below), root: root.to_owned() }
    }

    #[test]
    fn a_root_that_goes_comes_back_or_is_another_is_told_once() {
        let (_dir, path) = folder();
        let root = path.join("root");
        let (roots, paths) = (Roots::default(), [root.clone()]);
        assert_eq!(roots.look_again(&paths), []);
        std::fs::rename(&root, path.join("old")).expect("renamed");
        assert_eq!(roots.look_again(&paths), [Change::Gone(root.clone())]);
        assert_eq!(roots.look_again(&paths), []);
        assert!(!roots.is_there(&root));
        std::fs::create_dir(&root).expect("made");
        assert_eq!(roots.look_again(&paths), [Change::Back(root.clone())]);
        std::fs::rename(&root, path.join("older")).expect("renamed");
        std::os::unix::fs::symlink(path.join("old"), &root).expect("linked");
        assert_eq!(roots.look_again(&paths), [Change::Gone(root.clone())], "a link is no root");
        std::fs::remove_file(&root).expect("removed");
        std::fs::create_dir(&root).expect("made");
        roots.look_again(&paths);
        std::fs::rename(&root, path.join("oldest")).expect("renamed");
        std::fs::create_dir(&root).expect("made");
        assert_eq!(roots.look_again(&paths), [Change::Replaced(root)]);
    }

    #[test]
    fn a_held_root_is_used_wherever_its_path_leads_by_then() {
        let (_dir, path) = folder();
        let root = path.join("root");
        std::fs::write(root.join("a"), b"ours").expect("written");
        let roots = Roots::default();
        assert!(roots.stat(&sighting(&root, "a")).expect("told").is_some());
        std::fs::rename(&root, path.join("moved")).expect("renamed");
        std::fs::create_dir(&root).expect("made");
        std::fs::write(root.join("a"), b"another's").expect("written");
        let (_, stat) = roots.open(&sighting(&root, "a")).expect("opened").expect("there");
        assert_eq!(stat.file.size, 4);
    }

    #[test]
    fn only_what_lies_below_the_root_is_reached() {
        let (_dir, path) = folder();
        let root = path.join("root");
        std::fs::write(path.join("outside"), b"x").expect("written");
        let roots = Roots::default();
        let outside = Sighting { path: path.join("outside"), root: root.clone() };
        assert!(roots.open(&outside).is_err() && roots.stat(&outside).is_err());
        assert!(roots.make_entry(&outside).is_err());
        assert!(roots.make_entry(&sighting(&root, "../outside")).is_err());
        let made = roots.make_entry(&sighting(&root, "new/deep/a")).expect("made");
        assert_eq!(made.name, "a");
        assert!(root.join("new/deep").is_dir());
        std::os::unix::fs::symlink(&path, root.join("away")).expect("linked");
        assert!(roots.make_entry(&sighting(&root, "away/new/a")).is_err());
        assert!(!path.join("new").exists());
    }
}
