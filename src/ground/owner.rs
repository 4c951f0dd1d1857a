//! Whose workspace a folder is, and how root becomes that user.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::accounts::Account;

/// Why root could not become the user that a workspace belongs to.
#[derive(Debug, thiserror::Error)]
pub enum BecomeError {
    /// The system refused.
    #[error("the system does not let this process become the user {uid}")]
    Refused {
        /// The user's number.
        uid: u32,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// It did not refuse, and yet this process can still be root.
    #[error("this process should be the user {0} now, and is not")]
    NotDone(u32),
}

/// The user whose workspace this is: who owns the folder, or where that is root's, the file `main`
/// in it (such as its database). `None` for a folder that can't be looked at.
pub fn owner_of(workspace: &Path, main: &str) -> Option<Account> {
    let folder = fs::metadata(workspace).ok()?;
    let file = fs::symlink_metadata(workspace.join(main)).ok();
    let about = match file {
        Some(file) if folder.uid() == 0 => file,
        _ => folder,
    };
    Some(Account::of(about.uid(), about.gid()))
}

/// Gives up root for good and becomes this user, with the groups that the user has. To be called
/// before there are threads: each would have to do it for itself.
///
/// # Errors
/// [`BecomeError`]; then nothing may be done any more, because parts of it may have happened.
pub fn become_account(account: &Account) -> Result<(), BecomeError> {
    use nix::unistd::{Gid, Uid, getegid, geteuid, getgid, getuid, setgid, setuid};
    let refused =
        |errno: nix::errno::Errno| BecomeError::Refused { uid: account.uid, source: errno.into() };
    let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
    take_groups(account, gid).map_err(refused)?;
    setgid(gid).map_err(refused)?;
    setuid(uid).map_err(refused)?;
    let are_we = (getuid(), geteuid(), getgid(), getegid()) == (uid, uid, gid, gid);
    // Whoever can become root again has not given it up.
    if !are_we || setuid(Uid::from_raw(0)).is_ok() {
        return Err(BecomeError::NotDone(account.uid));
    }
    Ok(())
}

#[cfg(not(target_os = "macos"))]
fn take_groups(account: &Account, gid: nix::unistd::Gid) -> nix::Result<()> {
    match &account.name {
        Some(name) => nix::unistd::initgroups(name, gid),
        None => nix::unistd::setgroups(&[gid]),
    }
}

/// macOS asks its directory for a process's groups, by the user that it is.
#[cfg(target_os = "macos")]
fn take_groups(_account: &Account, _gid: nix::unistd::Gid) -> nix::Result<()> {
    Ok(())
}

/// Those of the paths, and of the folders in them down to three levels, that exist and belong to
/// somebody else than the user `uid`: a command that root ran made them, and `uid` can't write
/// them. At most `MOST_FOREIGN`.
pub fn foreign_owned(paths: &[PathBuf], uid: u32) -> Vec<PathBuf> {
    let mut foreign = Vec::new();
    let mut waiting: Vec<(PathBuf, usize)> = paths.iter().rev().map(|p| (p.clone(), 3)).collect();
    let mut looked_at = 0;
    while let Some((path, depth)) = waiting.pop() {
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        looked_at += 1;
        if meta.uid() != uid && !meta.is_symlink() {
            foreign.push(path);
            if foreign.len() == MOST_FOREIGN {
                break;
            }
            continue;
        }
        if !meta.is_dir() || depth == 0 || looked_at > MOST_FOLDERS {
            continue;
        }
        let entries = fs::read_dir(&path).into_iter().flatten().flatten();
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        waiting.extend(folders.map(|entry| (entry.path(), depth - 1)));
    }
    foreign
}

/// So many are enough to know what to do.
const MOST_FOREIGN: usize = 20;

/// So many folders are looked at: `status` is asked often.
const MOST_FOLDERS: usize = 1000;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::chown;

    use super::*;

    #[test]
    fn a_workspace_is_the_folders_owners_or_else_the_databases() {
        if !crate::ground::is_root("only root can give files away") {
            return;
        }
        let dir = tempfile::tempdir().expect("a temporary folder");
        let owner = || owner_of(dir.path(), "main.db").map(|account| account.uid);
        assert_eq!(owner(), Some(0));
        fs::write(dir.path().join("main.db"), "x").expect("written");
        chown(dir.path().join("main.db"), Some(61_546), Some(61_546)).expect("root may");
        assert_eq!(owner(), Some(61_546), "root's folder with somebody's database");
        chown(dir.path(), Some(61_545), Some(61_545)).expect("root may");
        assert_eq!(owner(), Some(61_545), "the folder says it");
        assert_eq!(owner_of(Path::new("/no/such/folder"), "main.db"), None);
    }

    #[test]
    fn what_belongs_to_another_user_is_found() {
        if !crate::ground::is_root("only root can give files away") {
            return;
        }
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (mine, theirs) = (dir.path().join("vectors"), dir.path().join("quarantine/ab/cd"));
        fs::create_dir_all(&mine).expect("made");
        fs::create_dir_all(&theirs).expect("made");
        let paths = [mine, dir.path().join("quarantine"), dir.path().join("none")];
        assert_eq!(foreign_owned(&paths, 0), Vec::<PathBuf>::new());
        chown(&theirs, Some(61_545), None).expect("root may");
        assert_eq!(foreign_owned(&paths, 0), [theirs]);
    }
}
