//! Walks a folder beneath its root, without following links: the scan that is the truth.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::vec::IntoIter;

use super::folder::{Folder, Kind, Stat};
use super::roots::Root;

/// What is never looked at below a watched folder: the workspace's own files.
#[derive(Debug, Clone, Default)]
pub struct Excluded(Vec<PathBuf>);

impl Excluded {
    /// The workspace's database (with its journals), settings, policies, adapters, quarantine, vectors and locks.
    pub fn own_files_of(workspace: &Path) -> Self {
        let own = [
            "modtool.yaml",
            "modtool.db",
            "modtool.db-wal",
            "modtool.db-shm",
            "policies",
            "adapters",
            "quarantine",
            "vectors",
            "locks",
        ];
        Self(own.iter().map(|name| workspace.join(name)).collect())
    }

    /// One folder with all that is in it.
    pub fn folder(folder: PathBuf) -> Self {
        Self(vec![folder])
    }

    /// These, and folders that others see to.
    #[must_use]
    pub fn and(mut self, folders: impl IntoIterator<Item = PathBuf>) -> Self {
        self.0.extend(folders);
        self
    }

    /// Whether the path is one of them, or lies below one.
    pub fn contains(&self, path: &Path) -> bool {
        self.0.iter().any(|own| path.starts_with(own))
    }
}

/// What the walk came upon; paths are absolute.
#[derive(Debug)]
pub enum Found {
    /// A regular file.
    File(PathBuf, Stat),
    /// A folder that is not walked into ([`walk_one`]).
    Folder(PathBuf),
    /// A symbolic link: never followed.
    Link(PathBuf, Stat),
    /// A pipe, socket or device: never opened.
    Special(PathBuf),
    /// A folder (or an entry) that could not be read.
    Unreadable(PathBuf, io::Error),
}

/// Everything below a folder, folder by folder, names in order. Uses memory for one folder's names
/// and the folders still to visit.
#[derive(Debug)]
pub struct Walk {
    root: Arc<Root>,
    excluded: Excluded,
    /// Still to visit, below the root; the next one last.
    folders: Vec<PathBuf>,
    depth: Depth,
    here: Option<Here>,
}

/// How far a walk goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    One,
    All,
}

/// The folder that is being visited.
#[derive(Debug)]
struct Here {
    below: PathBuf,
    folder: Folder,
    names: IntoIter<OsString>,
    /// Folders in it, in order.
    deeper: Vec<PathBuf>,
}

/// Walks over `below`, a path below the root (empty: the root itself).
pub fn walk(root: Arc<Root>, below: PathBuf, excluded: Excluded) -> Walk {
    Walk { root, excluded, folders: vec![below], depth: Depth::All, here: None }
}

/// Visits one folder only, and names those in it.
pub fn walk_one(root: Arc<Root>, below: PathBuf, excluded: Excluded) -> Walk {
    Walk { depth: Depth::One, ..walk(root, below, excluded) }
}

impl Iterator for Walk {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        loop {
            let Some(here) = &mut self.here else {
                let below = self.folders.pop()?;
                match here(&self.root.folder, &below) {
                    Ok(here) => self.here = Some(here),
                    Err(error) => {
                        return Some(Found::Unreadable(self.root.at(&below), error));
                    }
                }
                continue;
            };
            let Some(name) = here.names.next() else {
                self.folders.extend(here.deeper.drain(..).rev());
                self.here = None;
                continue;
            };
            let below = here.below.join(&name);
            let path = self.root.path.join(&below);
            if self.excluded.contains(&path) {
                continue;
            }
            match here.folder.stat(Path::new(&name)) {
                Ok(Some(stat)) if stat.kind == Kind::Folder => match self.depth {
                    Depth::One => return Some(Found::Folder(path)),
                    Depth::All => here.deeper.push(below),
                },
                Ok(Some(stat)) if stat.kind == Kind::File => return Some(Found::File(path, stat)),
                Ok(Some(stat)) if stat.kind == Kind::Link => return Some(Found::Link(path, stat)),
                Ok(Some(_)) => return Some(Found::Special(path)),
                // It went away since its name was read.
                Ok(None) => {}
                Err(error) => return Some(Found::Unreadable(path, error)),
            }
        }
    }
}

fn here(root: &Folder, below: &Path) -> io::Result<Here> {
    let folder = root.folder(below)?;
    let mut names = folder.names()?.collect::<io::Result<Vec<_>>>()?;
    names.sort_unstable();
    Ok(Here { below: below.to_owned(), folder, names: names.into_iter(), deeper: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walked(folder: &Path, excluded: &Excluded) -> impl Iterator<Item = Found> + use<> {
        let root = Root::open(&std::fs::canonicalize(folder).expect("there")).expect("opened");
        walk(Arc::new(root), PathBuf::new(), excluded.clone())
    }

    fn files(folder: &Path, excluded: &Excluded) -> Vec<String> {
        let root = std::fs::canonicalize(folder).expect("there");
        let below = |found| match found {
            Found::File(path, _) => {
                let below = path.strip_prefix(&root).expect("below the folder");
                Some(below.to_string_lossy().into_owned())
            }
            _ => None,
        };
        walked(folder, excluded).filter_map(below).collect()
    }

    #[test]
    fn everything_below_is_visited_in_order_and_links_are_not_followed() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        for path in ["b/2.png", "b/1.png", "a/deep/er/x.png", "z.png"] {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().expect("has a parent")).expect("made");
            std::fs::write(path, b"x").expect("written");
        }
        std::os::unix::fs::symlink(dir.path(), dir.path().join("b/loop")).expect("linked");
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("p.jpg")).expect("linked");
        assert_eq!(
            files(dir.path(), &Excluded::default()),
            ["z.png", "a/deep/er/x.png", "b/1.png", "b/2.png"]
        );
        let link = |found: &Found| matches!(found, Found::Link(..));
        assert_eq!(walked(dir.path(), &Excluded::default()).filter(link).count(), 2);
    }

    #[test]
    fn a_folder_that_becomes_a_link_during_the_walk_leads_nowhere() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        for path in ["up/a/1.png", "up/b/2.png", "outside/3.png"] {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().expect("has a parent")).expect("made");
            std::fs::write(path, b"x").expect("written");
        }
        let up = dir.path().join("up");
        let mut walk = walked(&up, &Excluded::default());
        assert!(matches!(walk.next(), Some(Found::File(path, _)) if path.ends_with("a/1.png")));
        std::fs::rename(up.join("b"), up.join("c")).expect("renamed");
        std::os::unix::fs::symlink(dir.path().join("outside"), up.join("b")).expect("linked");
        assert!(walk.all(|found| matches!(found, Found::Unreadable(..))), "nothing is visited");
    }

    #[test]
    fn the_workspaces_own_files_are_left_out() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        for path in ["modtool.db", "policies/a.png", "quarantine/b.png", "policies-of-others.png"] {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().expect("has a parent")).expect("made");
            std::fs::write(path, b"x").expect("written");
        }
        let excluded = Excluded::own_files_of(&std::fs::canonicalize(dir.path()).expect("there"));
        assert_eq!(files(dir.path(), &excluded), ["policies-of-others.png"]);
    }
}
