//! Which folders are watched now: one file a folder, locked by the watcher as long as it lives.
//!
//! The files lie in the workspace (and once more in the data folder, for other workspaces), where
//! nobody who may write uploads can lock them: a lock on the watched folder itself could be taken
//! by anybody who may read it.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tracing::{debug, warn};

use crate::config::Config;
use crate::ground::{Mounts, Overlap};
use crate::moderation::escape::escape_path;

/// Ends the name of a file that stands for a watched folder.
const ENDING: &str = "watch";

/// Looking through the files takes milliseconds; whoever takes longer is stuck.
const PATIENCE: Duration = Duration::from_secs(10);

/// No path is longer (`PATH_MAX`), and a file holds two.
const LONGEST: u64 = 2 * 4096 + 1;

/// The folders that this process watches, in the eyes of others, until it is dropped.
pub(super) struct Claim(Vec<(PathBuf, File)>);

impl Drop for Claim {
    fn drop(&mut self) {
        for (path, _) in &self.0 {
            // The next watcher removes what is left.
            let _ = fs::remove_file(path);
        }
    }
}

/// Claims folders for this process. Two watchers of one workspace may not share a folder: they
/// would judge everything twice. Two workspaces may, and are told.
///
/// # Errors
/// When another watcher of this workspace has one of the folders, one above or one below.
pub(super) fn claim(config: &Config, roots: &[PathBuf]) -> anyhow::Result<Vec<Claim>> {
    let folder = config.locks();
    let own = Registry::open(&folder)
        .with_context(|| format!("can't use the folder {}", escape_path(&folder)))?;
    if let Some((root, other)) = own.overlapping(roots)?.first() {
        let how = match other.overlap {
            Overlap::Same => String::new(),
            Overlap::Holds => format!(", which lies in {}", escape_path(root)),
            Overlap::LiesIn => format!(", where {} lies", escape_path(root)),
        };
        bail!(
            "another modtool watches {} already{how}; `modtool status` tells how it does",
            escape_path(&other.root)
        );
    }
    let mut claims = vec![own.claim(roots, &config.workspace)?];
    match in_data_folder(config, roots) {
        Ok(claim) => claims.push(claim),
        Err(error) => debug!(error = %format!("{error:#}"), "other workspaces can't be warned"),
    }
    Ok(claims)
}

/// Other workspaces of this user tell each other in the data folder what they watch.
fn in_data_folder(config: &Config, roots: &[PathBuf]) -> anyhow::Result<Claim> {
    let shared = Registry::open(&config.data_dir.join("watchers"))?;
    for (root, other) in shared.overlapping(roots)? {
        if other.workspace == config.workspace {
            continue;
        }
        warn!(
            folder = %escape_path(root),
            other = %escape_path(&other.root),
            workspace = %escape_path(&other.workspace),
            "another modtool watches this folder too, for another workspace: both judge its \
             files, and both may move them"
        );
    }
    shared.claim(roots, &config.workspace)
}

/// A folder of such files, while nobody else looks through it.
struct Registry {
    folder: PathBuf,
    /// Locked as long as this lives.
    _guard: File,
}

/// A folder that another watcher has.
struct Other {
    root: PathBuf,
    workspace: PathBuf,
    /// How the folder that is to be watched lies to it.
    overlap: Overlap,
}

impl Registry {
    fn open(folder: &Path) -> anyhow::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let guard = open_options().create(true).truncate(false).open(folder.join("guard"))?;
        let end = Instant::now() + PATIENCE;
        loop {
            match guard.try_lock() {
                Ok(()) => return Ok(Self { folder: folder.to_owned(), _guard: guard }),
                Err(TryLockError::Error(error)) => return Err(error.into()),
                Err(TryLockError::WouldBlock) => {
                    ensure!(Instant::now() < end, "another modtool holds the file `guard` in it");
                    thread::sleep(Duration::from_millis(10));
                }
            }
        }
    }

    /// The folders of living watchers that share something with `roots`; what dead ones left is
    /// removed.
    fn overlapping<'a>(&self, roots: &'a [PathBuf]) -> io::Result<Vec<(&'a Path, Other)>> {
        let mounts = Mounts::now();
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if path.extension().is_none_or(|ending| ending != ENDING) {
                continue;
            }
            let Some((watched, workspace)) = living(&path)? else { continue };
            for root in roots {
                if let Some(overlap) = mounts.overlap(root, &watched) {
                    let (watched, workspace) = (watched.clone(), workspace.clone());
                    found.push((root.as_path(), Other { root: watched, workspace, overlap }));
                }
            }
        }
        Ok(found)
    }

    fn claim(&self, roots: &[PathBuf], workspace: &Path) -> anyhow::Result<Claim> {
        let mut claim = Claim(Vec::new());
        for root in roots {
            let (path, file) = self
                .claim_one(root, workspace)
                .with_context(|| format!("can't write into {}", escape_path(&self.folder)))?;
            claim.0.push((path, file));
        }
        Ok(claim)
    }

    fn claim_one(&self, root: &Path, workspace: &Path) -> io::Result<(PathBuf, File)> {
        let (path, mut file) = self.new_file()?;
        file.try_lock()?;
        let [root, workspace] = [root, workspace].map(|path| path.as_os_str().as_bytes());
        file.write_all(&[root, b"\0", workspace].concat())?;
        Ok((path, file))
    }

    /// A name that no living watcher has: processes in two containers can have the same number.
    fn new_file(&self) -> io::Result<(PathBuf, File)> {
        let mut number = 0;
        loop {
            let path = self.folder.join(format!("{}-{number}.{ENDING}", std::process::id()));
            match open_options().create_new(true).open(&path) {
                Ok(file) => return Ok((path, file)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(error),
            }
        }
    }
}

/// Folder and workspace of a watcher that lives; the file of a dead one is removed.
fn living(path: &Path) -> io::Result<Option<(PathBuf, PathBuf)>> {
    let mut file = match open_options().open(path) {
        Ok(file) => file,
        // Its watcher ended just now.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match file.try_lock() {
        Ok(()) => {
            // Already gone is as good.
            let _ = fs::remove_file(path);
            Ok(None)
        }
        Err(TryLockError::Error(error)) => Err(error),
        Err(TryLockError::WouldBlock) => {
            let mut bytes = Vec::new();
            (&mut file).take(LONGEST).read_to_end(&mut bytes)?;
            let mut parts = bytes.splitn(2, |byte| *byte == 0);
            let mut next = || OsString::from_vec(parts.next().unwrap_or_default().to_vec());
            Ok(Some((next().into(), next().into())))
        }
    }
}

fn open_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(dir: &tempfile::TempDir) -> Registry {
        Registry::open(&dir.path().join("locks")).expect("it opens")
    }

    #[test]
    fn a_folder_is_claimed_until_its_watcher_ends() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let roots = ["a", "b"].map(|name| dir.path().join(name));
        fs::create_dir_all(roots[0].join("inner")).expect("made");
        let claim = registry(&dir).claim(&roots, Path::new("/ws")).expect("claimed");
        let others = |root: PathBuf| -> Vec<Overlap> {
            let roots = [root];
            let found = registry(&dir).overlapping(&roots).expect("read");
            assert!(found.iter().all(|(_, other)| other.workspace == Path::new("/ws")));
            found.into_iter().map(|(_, other)| other.overlap).collect()
        };
        assert_eq!(others(roots[0].clone()), [Overlap::Same]);
        assert_eq!(others(roots[0].join("inner")), [Overlap::LiesIn]);
        assert_eq!(others(dir.path().to_owned()).len(), 2);
        assert_eq!(others(dir.path().join("c")), []);
        drop(claim);
        assert_eq!(others(roots[0].clone()), []);
    }

    #[test]
    fn what_a_dead_watcher_left_is_removed() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let registry = registry(&dir);
        let left = registry.folder.join("1-0.watch");
        fs::write(&left, "/u\0/ws").expect("written");
        assert_eq!(registry.overlapping(&["/u".into()]).expect("read").len(), 0);
        assert!(!left.exists());
    }
}
