//! A folder held by its descriptor, and a name in it: what is done here happens in that very
//! folder, whatever its path leads to by then.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::moderation::FileStat;

use super::{beneath, leased};

/// What a file or folder is, however it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// The file system's number.
    pub device: u64,
    /// The file's number on it.
    pub inode: u64,
}

/// What stands at a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A pipe, socket or device.
    Other,
}

/// What the file system says of a name; links are not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: Kind,
    /// Which one it is.
    pub identity: Identity,
    /// Size, times and number, as the store compares them.
    pub file: FileStat,
    /// Number of the user that it belongs to.
    pub owner: u32,
    /// Number of its group.
    pub group: u32,
    /// Permission bits, with set-user-id, set-group-id and sticky.
    pub mode: u32,
    /// Names that it has.
    pub links: u64,
}

impl Stat {
    #[expect(
        clippy::unnecessary_cast,
        clippy::cast_possible_wrap,
        reason = "the fields' types differ between systems"
    )]
    pub(super) fn of(stat: &rustix::fs::Stat) -> Self {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Folder,
            FileType::Symlink => Kind::Link,
            _ => Kind::Other,
        };
        let nanoseconds =
            |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        Self {
            kind,
            identity: Identity { device: stat.st_dev as u64, inode: stat.st_ino },
            file: FileStat {
                size: stat.st_size.unsigned_abs(),
                mtime_ns: nanoseconds(stat.st_mtime, stat.st_mtime_nsec as i64),
                ctime_ns: nanoseconds(stat.st_ctime, stat.st_ctime_nsec as i64),
                inode: stat.st_ino,
            },
            owner: stat.st_uid,
            group: stat.st_gid,
            mode: stat.st_mode as u32 & 0o7777,
            links: stat.st_nlink as u64,
        }
    }

    /// A file of which nothing can be told.
    pub(super) const UNKNOWN: Self = Self {
        kind: Kind::File,
        identity: Identity { device: 0, inode: 0 },
        file: FileStat { size: 0, mtime_ns: 0, ctime_ns: 0, inode: 0 },
        owner: 0,
        group: 0,
        mode: 0,
        links: 0,
    };

    /// What an open file is.
    ///
    /// # Errors
    /// When the file system does not answer.
    pub fn of_open(file: impl AsFd) -> io::Result<Self> {
        Ok(Self::of(&rustix::fs::fstat(file)?))
    }
}

/// A folder, held by its descriptor.
#[derive(Debug)]
pub struct Folder {
    descriptor: OwnedFd,
}

impl Folder {
    /// One of our own folders, by a path that nobody else can change. Links are followed: an
    /// administrator may have put the quarantine on another disk.
    ///
    /// # Errors
    /// When it is not there, or no folder.
    pub fn of_ours(path: &Path) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | beneath::path_only();
        Ok(Self { descriptor: rustix::fs::open(path, flags, Mode::empty())? })
    }

    /// A folder by its absolute path, no component of which may be a link.
    ///
    /// # Errors
    /// When it is not there, no folder, or has become a link.
    pub fn without_links(path: &Path) -> io::Result<Self> {
        let below = path.strip_prefix("/").map_err(|_relative| Errno::INVAL)?;
        Self::of_ours(Path::new("/"))?.folder(below)
    }

    /// A folder beneath this one; an empty path is this one itself.
    ///
    /// # Errors
    /// When it is not there, no folder, or a link is on the way.
    pub fn folder(&self, below: &Path) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | beneath::path_only();
        Ok(Self { descriptor: beneath::open(self.as_fd(), below, flags)? })
    }

    /// A folder beneath this one; what is missing of it is made, for the owner and readable for
    /// all as the umask allows.
    ///
    /// # Errors
    /// When it can't be made, or a link is on the way.
    pub fn make_folder(&self, below: &Path) -> io::Result<Self> {
        let mut here = self.folder(Path::new(""))?;
        for name in below {
            match rustix::fs::mkdirat(&here, name, Mode::from_raw_mode(0o777)) {
                Ok(()) => here.sync()?,
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
            here = here.folder(Path::new(name))?;
        }
        Ok(here)
    }

    /// What stands at a path beneath this folder; `None` when nothing does, or when a link is on
    /// the way.
    ///
    /// # Errors
    /// When it can't be told: no permission, the file system fails.
    pub fn stat(&self, below: &Path) -> io::Result<Option<Stat>> {
        // A name in this very folder needs no descriptor of its own.
        let looked = if below.components().count() == 1 && below.file_name().is_some() {
            rustix::fs::statat(self, below, AtFlags::SYMLINK_NOFOLLOW)
        } else {
            beneath::open(self.as_fd(), below, beneath::path_only()).and_then(rustix::fs::fstat)
        };
        match looked {
            Ok(stat) => Ok(Some(Stat::of(&stat))),
            Err(errno) if leads_nowhere(errno) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// A regular file beneath this folder, opened for reading, with what it was when it was
    /// opened. `None` when there is none, or a link is on the way.
    ///
    /// # Errors
    /// When it is there and can't be opened; `EAGAIN` when somebody holds a lease on it and it
    /// should be tried again.
    pub fn open(&self, below: &Path) -> io::Result<Option<(File, Stat)>> {
        // NONBLOCK, so that a pipe put there can't hang us.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let file = match beneath::open(self.as_fd(), below, flags) {
            Ok(descriptor) => File::from(descriptor),
            // Somebody holds a lease on it.
            Err(Errno::AGAIN) => return self.open_leased(below),
            // A socket, or a device without a driver.
            Err(errno) if leads_nowhere(errno) || errno == Errno::NXIO => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        let stat = Stat::of_open(&file)?;
        Ok((stat.kind == Kind::File).then_some((file, stat)))
    }

    /// The same for a file that is opened only after a wait.
    fn open_leased(&self, below: &Path) -> io::Result<Option<(File, Stat)>> {
        let place = beneath::open(self.as_fd(), below, beneath::path_only())?;
        let stat = Stat::of_open(&place)?;
        if stat.kind != Kind::File {
            return Ok(None);
        }
        let file = leased::open(place, stat.identity)?;
        let stat = Stat::of_open(&file)?;
        Ok((stat.kind == Kind::File).then_some((file, stat)))
    }

    /// The names in this folder, in no order.
    ///
    /// # Errors
    /// When it can't be listed.
    pub fn names(&self) -> io::Result<impl Iterator<Item = io::Result<OsString>> + use<>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let entries = Dir::new(rustix::fs::openat(self, ".", flags, Mode::empty())?)?;
        Ok(entries.filter_map(|entry| match entry {
            Ok(entry) => {
                let name = OsStr::from_bytes(entry.file_name().to_bytes());
                (name != "." && name != "..").then(|| Ok(name.to_owned()))
            }
            Err(errno) => Some(Err(errno.into())),
        }))
    }

    /// Which folder this is.
    ///
    /// # Errors
    /// When the file system does not answer.
    pub fn identity(&self) -> io::Result<Identity> {
        Ok(Stat::of_open(self)?.identity)
    }

    /// Writes the folder's names to the disk: a rename is there only when its folder is.
    ///
    /// # Errors
    /// When the disk fails. A folder that may be written and not read can't be synced; that is no
    /// error.
    pub fn sync(&self) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::openat(self, ".", flags, Mode::empty()) {
            Ok(readable) => File::from(readable).sync_all(),
            Err(Errno::ACCESS) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// A name in this folder.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn entry(&self, name: &OsStr, path: &Path) -> io::Result<Entry> {
        Ok(Entry {
            folder: self.folder(Path::new(""))?,
            name: name.to_owned(),
            path: path.to_owned(),
        })
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Nothing is there, or the way there is no way any more.
fn leads_nowhere(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV)
}

/// A name in a folder that is held: there may be a file of this name, or not.
#[derive(Debug)]
pub struct Entry {
    /// The folder.
    pub folder: Folder,
    /// The name in it.
    pub name: OsString,
    /// How people call it; nothing is opened by it.
    pub path: PathBuf,
}

impl Entry {
    /// A file by its absolute path, no component of which may be a link.
    ///
    /// # Errors
    /// When its folder can't be reached.
    pub fn without_links(path: &Path) -> io::Result<Self> {
        let (folder, name) = path.parent().zip(path.file_name()).ok_or(Errno::INVAL)?;
        let folder = Folder::without_links(folder)?;
        Ok(Self { folder, name: name.to_owned(), path: path.to_owned() })
    }

    /// Another name in the same folder.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn beside(&self, name: OsString) -> io::Result<Self> {
        let path = self.path.with_file_name(&name);
        Ok(Self { folder: self.folder.folder(Path::new(""))?, name, path })
    }

    /// What stands at the name; links are not followed.
    ///
    /// # Errors
    /// As [`Folder::stat`].
    pub fn stat(&self) -> io::Result<Option<Stat>> {
        self.folder.stat(Path::new(&self.name))
    }

    /// The regular file of this name, opened for reading.
    ///
    /// # Errors
    /// As [`Folder::open`].
    pub fn open(&self) -> io::Result<Option<(File, Stat)>> {
        self.folder.open(Path::new(&self.name))
    }

    /// Renames what stands here, and never over anything. [`Entry::sync_with`] comes after.
    ///
    /// # Errors
    /// `EEXIST` when the other name is taken, `EXDEV` across file systems, and whatever else the
    /// system refuses it for.
    pub fn rename_to(&self, other: &Self) -> Result<(), Errno> {
        let (from, to) = (&self.folder, &other.folder);
        let renamed =
            rustix::fs::renameat_with(from, &*self.name, to, &*other.name, RenameFlags::NOREPLACE);
        match renamed {
            // Some file systems don't know the flag: a second name is refused where there is one.
            Err(Errno::INVAL | Errno::NOSYS) => {
                rustix::fs::linkat(from, &*self.name, to, &*other.name, AtFlags::empty())?;
                rustix::fs::unlinkat(from, &*self.name, AtFlags::empty())?;
            }
            other => other?,
        }
        Ok(())
    }

    /// The same to a name that nobody can guess, or in a folder of ours, so that nothing can be
    /// there: also on file systems that have neither such a rename nor a second name for files
    /// of others.
    ///
    /// # Errors
    /// As [`Entry::rename_to`].
    pub fn rename_to_fresh(&self, other: &Self) -> Result<(), Errno> {
        let (from, to) = (&self.folder, &other.folder);
        let flags = RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(from, &*self.name, to, &*other.name, flags) {
            Err(Errno::INVAL | Errno::NOSYS) => {
                rustix::fs::renameat(from, &*self.name, to, &*other.name)
            }
            other => other,
        }
    }

    /// Writes this folder and the other's to the disk after a rename.
    ///
    /// # Errors
    /// When the disk fails, or there are no descriptors left; the rename was made all the same.
    pub fn sync_with(&self, other: &Self) -> io::Result<()> {
        self.folder.sync()?;
        other.folder.sync()
    }

    /// Takes the name away; `false` when it was gone.
    ///
    /// # Errors
    /// When the system refuses it.
    pub fn unlink(&self) -> io::Result<bool> {
        match rustix::fs::unlinkat(&self.folder, &*self.name, AtFlags::empty()) {
            Ok(()) => self.folder.sync().map(|()| true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_happens_in_the_folder_that_was_reached() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let dir = std::fs::canonicalize(dir.path()).expect("there");
        std::fs::create_dir(dir.join("sub")).expect("made");
        std::fs::create_dir(dir.join("outside")).expect("made");
        for folder in ["sub", "outside"] {
            std::fs::write(dir.join(folder).join("a"), folder).expect("written");
        }
        let entry = Entry::without_links(&dir.join("sub/a")).expect("reached");
        std::fs::rename(dir.join("sub"), dir.join("moved")).expect("renamed");
        std::os::unix::fs::symlink("outside", dir.join("sub")).expect("linked");
        let other = entry.beside("b".into()).expect("beside");
        entry.rename_to(&other).expect("renamed");
        assert_eq!(std::fs::read(dir.join("moved/b")).expect("there"), b"sub");
        assert!(other.unlink().expect("unlinked") && !other.unlink().expect("gone"));
        assert_eq!(std::fs::read(dir.join("outside/a")).expect("stays"), b"outside");
        Entry::without_links(&dir.join("sub/a")).expect_err("a link is on the way");
    }

    #[test]
    fn a_rename_never_replaces_a_file() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let folder = Folder::of_ours(dir.path()).expect("there");
        for name in ["a", "b"] {
            std::fs::write(dir.path().join(name), name).expect("written");
        }
        let [a, b] = ["a", "b"].map(|name| folder.entry(OsStr::new(name), Path::new(name)));
        let refused = a.expect("a").rename_to(&b.expect("b"));
        assert_eq!(refused, Err(Errno::EXIST));
        assert_eq!(std::fs::read(dir.path().join("b")).expect("there"), b"b");
    }

    #[test]
    fn links_pipes_and_folders_are_no_files_to_open() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).expect("linked");
        rustix::fs::mkfifoat(rustix::fs::CWD, dir.path().join("pipe"), Mode::RUSR).expect("made");
        std::fs::create_dir(dir.path().join("folder")).expect("made");
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket"));
        let folder = Folder::of_ours(dir.path()).expect("there");
        for name in ["link", "pipe", "folder", "socket", "missing", "missing/too"] {
            assert!(folder.open(Path::new(name)).expect(name).is_none(), "{name}");
        }
        let kind = |name: &str| folder.stat(Path::new(name)).expect(name).map(|stat| stat.kind);
        assert_eq!(kind("link"), Some(Kind::Link));
        assert_eq!(kind("pipe"), Some(Kind::Other));
        assert_eq!(kind("folder"), Some(Kind::Folder));
        assert_eq!(kind("missing/too"), None);
    }
}
