//! Walks a folder without following links: the scan that is the truth.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use crate::store::FileStat;

use super::file::stat_of;

/// What is never looked at below a watched folder: the workspace's own files.
#[derive(Debug, Clone, Default)]
pub struct Excluded(Vec<PathBuf>);

impl Excluded {
    /// The workspace's database (with its journals), settings, policies, adapters, quarantine and vectors.
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
        ];
        Self(own.iter().map(|name| workspace.join(name)).collect())
    }

    /// One folder with all that is in it.
    pub fn folder(folder: PathBuf) -> Self {
        Self(vec![folder])
    }

    /// Whether the path is one of them, or lies below one.
    pub fn contains(&self, path: &Path) -> bool {
        self.0.iter().any(|own| path.starts_with(own))
    }
}

/// What the walk came upon.
#[derive(Debug)]
pub(super) enum Found {
    /// A regular file.
    File(PathBuf, FileStat),
    /// A link, pipe, socket or device: never opened.
    Special,
    /// A folder (or an entry) that could not be read.
    Unreadable(PathBuf, io::Error),
}

/// Visits everything below `folder`, folder by folder, names in order. `visit` answers whether
/// to go on. Uses memory for one folder's names and the folders still to visit.
pub(super) fn walk(folder: &Path, excluded: &Excluded, mut visit: impl FnMut(Found) -> bool) {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let names = match names_in(&folder) {
            Ok(names) => names,
            Err(error) => {
                if !visit(Found::Unreadable(folder, error)) {
                    return;
                }
                continue;
            }
        };
        let mut below = Vec::new();
        for name in names {
            let path = folder.join(&name);
            if excluded.contains(&path) {
                continue;
            }
            let found = match std::fs::symlink_metadata(&path) {
                Ok(meta) if meta.is_dir() => {
                    below.push(path);
                    continue;
                }
                Ok(meta) if meta.is_file() => Found::File(path, stat_of(&meta)),
                Ok(_) => Found::Special,
                // It went away since its name was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => Found::Unreadable(path, error),
            };
            if !visit(found) {
                return;
            }
        }
        folders.extend(below.into_iter().rev());
    }
}

fn names_in(folder: &Path) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        names.push(entry?.file_name());
    }
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(folder: &Path, excluded: &Excluded) -> Vec<String> {
        let mut files = Vec::new();
        walk(folder, excluded, |found| {
            if let Found::File(path, _) = found {
                let below = path.strip_prefix(folder).expect("below the folder");
                files.push(below.to_string_lossy().into_owned());
            }
            true
        });
        files
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
    }

    #[test]
    fn the_workspaces_own_files_are_left_out() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        for path in ["modtool.db", "policies/a.png", "quarantine/b.png", "policies-of-others.png"] {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().expect("has a parent")).expect("made");
            std::fs::write(path, b"x").expect("written");
        }
        let excluded = Excluded::own_files_of(dir.path());
        assert_eq!(files(dir.path(), &excluded), ["policies-of-others.png"]);
    }

    #[test]
    fn a_folder_that_is_gone_is_told() {
        let mut told = false;
        walk(Path::new("/nowhere/at/all"), &Excluded::default(), |found| {
            told = matches!(found, Found::Unreadable(..));
            true
        });
        assert!(told);
    }
}
