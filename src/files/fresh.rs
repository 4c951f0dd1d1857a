//! New files of ours: made under no name, or under one that nobody can guess, and given their
//! name only when they are whole, on the disk, and hold the bytes that they should.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Read as _, Seek as _};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use crate::moderation::ItemId;

use super::folder::{Entry, Folder, Stat};

/// A new file, for its owner alone, that has no name yet. Dropped, it is gone again.
#[derive(Debug)]
pub struct NewFile {
    /// Open for reading and writing.
    pub file: File,
    /// The folder that it will stand in.
    folder: Folder,
    /// Set on file systems that have no files without a name.
    name: Option<OsString>,
}

impl NewFile {
    /// Makes one in a folder.
    ///
    /// # Errors
    /// When the folder may not be written.
    pub fn in_folder(folder: &Folder) -> io::Result<Self> {
        let mode = Mode::RUSR | Mode::WUSR;
        let held = folder.folder(Path::new(""))?;
        #[cfg(target_os = "linux")]
        {
            let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
            match rustix::fs::openat(folder, ".", flags, mode) {
                Ok(file) => return Ok(Self { file: file.into(), folder: held, name: None }),
                // What file systems and kernels say that have no such files.
                Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        let name = random_name();
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::RDWR | OFlags::CLOEXEC;
        let file = rustix::fs::openat(folder, &*name, flags, mode)?;
        Ok(Self { file: file.into(), folder: held, name: Some(name) })
    }

    /// Gives the file its name, unless something has that name already, and writes file and name
    /// to the disk.
    ///
    /// # Errors
    /// `EEXIST` when the name is taken; then the file is gone again.
    pub fn name_it(mut self, name: &OsStr) -> io::Result<()> {
        self.file.sync_all()?;
        self.link_as(name)?;
        // Whoever may write in the folder could have swapped the unguessable name after all: what
        // has the name now must be the very file that was written.
        let ours = Stat::of_open(&self.file)?.identity;
        if self.folder.stat(Path::new(name))?.map(|stat| stat.identity) != Some(ours) {
            return Err(io::Error::other("another file took its place while it was named"));
        }
        self.forget_name()?;
        self.folder.sync()
    }

    fn link_as(&self, name: &OsStr) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        {
            use std::os::fd::AsRawFd as _;
            // The descriptor itself: needs a right that few have, before Linux 6.10.
            let linked =
                rustix::fs::linkat(&self.file, "", &self.folder, name, AtFlags::EMPTY_PATH);
            match linked {
                Ok(()) => return Ok(()),
                Err(Errno::EXIST) => return Err(Errno::EXIST.into()),
                Err(_) => {}
            }
            let by_number = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            let follow = AtFlags::SYMLINK_FOLLOW;
            match rustix::fs::linkat(rustix::fs::CWD, by_number, &self.folder, name, follow) {
                Err(errno) if errno == Errno::EXIST || self.name.is_none() => {
                    return Err(errno.into());
                }
                Ok(()) => return Ok(()),
                Err(_) => {}
            }
        }
        let Some(own) = &self.name else { return Err(Errno::NOENT.into()) };
        let from = self.folder.entry(own, Path::new(own))?;
        // The folder is synced when the file has its name.
        Ok(from.rename_to(&self.folder.entry(name, Path::new(name))?)?)
    }

    /// Takes the unguessable name away, where it still leads to this file.
    fn forget_name(&mut self) -> io::Result<()> {
        let Some(own) = self.name.take() else { return Ok(()) };
        let ours = Stat::of_open(&self.file)?.identity;
        if self.folder.stat(Path::new(&own))?.map(|stat| stat.identity) == Some(ours) {
            rustix::fs::unlinkat(&self.folder, &*own, AtFlags::empty())?;
        }
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // A name that can't be taken away again stays as any other file does.
        let _ = self.forget_name();
    }
}

/// How names of ours begin that stand among uploads for a moment. It says to people whose they
/// are, and to programs nothing: an uploader can choose such a name as well.
pub const TEMPORARY: &str = ".modtool-";

/// A new name that nobody can guess.
pub fn random_name() -> OsString {
    let random = || RandomState::new().hash_one(std::process::id());
    format!("{TEMPORARY}{:016x}{:016x}", random(), random()).into()
}

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The bytes that arrived are not the item's.
    #[error("the bytes changed while they were copied")]
    OtherBytes,
}

/// A new file in `folder` with the bytes of `from`, which must be the item's: shared with the
/// original where the file system can (a reflink), else copied; then read again from the copy.
/// The original can change as it likes after that.
///
/// # Errors
/// [`CopyError`]; then nothing is left of the copy.
pub fn copy_of(from: &mut File, folder: &Folder, item: ItemId) -> Result<NewFile, CopyError> {
    let mut new = NewFile::in_folder(folder)?;
    from.rewind()?;
    if !reflinked(&new.file, from) {
        let stat = rustix::fs::fstat(&*from).map_err(io::Error::from)?;
        refuse_without_room(folder, stat.st_blocks.unsigned_abs().saturating_mul(512))?;
        copy_data(from, &mut new.file, stat.st_size.unsigned_abs())?;
    }
    if hash_of_file(&mut new.file)? == item { Ok(new) } else { Err(CopyError::OtherBytes) }
}

/// A copy leaves so much room for the database, which lies on the same disk more often than not.
const RESERVE: u64 = 64 << 20;

fn refuse_without_room(folder: &Folder, bytes: u64) -> io::Result<()> {
    let disk = rustix::fs::fstatvfs(folder)?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    // A disk that is smaller than that altogether is somebody's choice.
    let reserve = RESERVE.min(disk.f_blocks.saturating_mul(disk.f_frsize) / 16);
    if bytes.saturating_add(reserve) > free {
        return Err(io::ErrorKind::StorageFull.into());
    }
    Ok(())
}

/// Copies what is data and leaves holes: a file that takes no room must not fill the disk.
fn copy_data(from: &mut File, to: &mut File, size: u64) -> io::Result<()> {
    use rustix::fs::SeekFrom;
    let mut at = 0;
    while at < size {
        let (start, end) = match rustix::fs::seek(&*from, SeekFrom::Data(at)) {
            Ok(start) => (start, rustix::fs::seek(&*from, SeekFrom::Hole(start))?),
            // Only holes are left.
            Err(Errno::NXIO) => break,
            // A file system that knows no holes.
            Err(_) => (at, size),
        };
        from.seek(io::SeekFrom::Start(start))?;
        to.seek(io::SeekFrom::Start(start))?;
        let copied = io::copy(&mut (&mut *from).take(end - start), to)?;
        if copied == 0 {
            break;
        }
        at = start + copied;
    }
    to.set_len(size)
}

#[cfg(target_os = "linux")]
fn reflinked(to: &File, from: &File) -> bool {
    rustix::fs::ioctl_ficlone(to, from).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn reflinked(_to: &File, _from: &File) -> bool {
    false
}

/// The hash of the regular file of this name; `None` when there is none.
///
/// # Errors
/// When it can't be read.
pub fn hash_of(entry: &Entry) -> io::Result<Option<ItemId>> {
    match entry.open()? {
        Some((mut file, _)) => hash_of_file(&mut file).map(Some),
        None => Ok(None),
    }
}

/// The hash of an open file, from its beginning.
///
/// # Errors
/// When it can't be read.
pub fn hash_of_file(file: &mut File) -> io::Result<ItemId> {
    file.rewind()?;
    let mut hasher = Sha256::new();
    hash_into(file, &mut hasher)?;
    Ok(ItemId::from_bytes(hasher.finalize().into()))
}

/// Hashes the rest of a file; answers how many bytes that were.
pub(super) fn hash_into(file: &mut impl io::Read, hasher: &mut Sha256) -> io::Result<u64> {
    let mut buffer = vec![0; 1 << 16];
    let mut count = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(count),
            Ok(read) => {
                hasher.update(&buffer[..read]);
                count += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn names(folder: &Path) -> Vec<OsString> {
        let folder = Folder::of_ours(folder).expect("there");
        let mut names: Vec<_> =
            folder.names().expect("listed").map(|name| name.expect("a name")).collect();
        names.sort();
        names
    }

    /// Without a name, and with one that nobody can guess.
    fn both(folder: &Folder) -> [NewFile; 2] {
        let named = random_name();
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR;
        let file = rustix::fs::openat(folder, &*named, flags, Mode::RUSR | Mode::WUSR);
        let folder_again = folder.folder(Path::new("")).expect("opened");
        [
            NewFile::in_folder(folder).expect("made"),
            NewFile { file: file.expect("made").into(), folder: folder_again, name: Some(named) },
        ]
    }

    #[test]
    fn a_new_file_has_its_name_only_when_it_is_whole_and_never_another_ones() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let folder = Folder::of_ours(dir.path()).expect("there");
        for mut new in both(&folder) {
            new.file.write_all(b"bytes").expect("written");
            assert!(!names(dir.path()).contains(&"a".into()));
            new.name_it(OsStr::new("a")).expect("named");
            assert_eq!(names(dir.path()).iter().filter(|name| *name == "a").count(), 1);
            std::fs::remove_file(dir.path().join("a")).expect("removed");
        }
        assert_eq!(names(dir.path()), Vec::<OsString>::new());
        std::fs::write(dir.path().join("a"), b"another's").expect("written");
        std::os::unix::fs::symlink("/nowhere", dir.path().join("b")).expect("linked");
        for name in ["a", "b"] {
            for new in both(&folder) {
                let refused = new.name_it(OsStr::new(name)).expect_err("taken");
                assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
            }
        }
        assert_eq!(std::fs::read(dir.path().join("a")).expect("there"), b"another's");
        assert_eq!(names(dir.path()), ["a", "b"]);
    }

    #[test]
    fn a_copy_is_verified_and_nothing_is_left_of_a_bad_one() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let folder = Folder::of_ours(dir.path()).expect("there");
        std::fs::write(dir.path().join("a"), b"bytes").expect("written");
        let mut from = File::open(dir.path().join("a")).expect("opened");
        let other = copy_of(&mut from, &folder, ItemId::of_bytes(b"others"));
        assert!(matches!(other, Err(CopyError::OtherBytes)));
        drop(other);
        let copy = copy_of(&mut from, &folder, ItemId::of_bytes(b"bytes")).expect("copied");
        copy.name_it(OsStr::new("b")).expect("named");
        assert_eq!(names(dir.path()), ["a", "b"]);
        std::fs::write(dir.path().join("a"), b"changed").expect("written");
        assert_eq!(std::fs::read(dir.path().join("b")).expect("there"), b"bytes");
        let entry = folder.entry(OsStr::new("b"), Path::new("b")).expect("there");
        assert_eq!(hash_of(&entry).expect("read"), Some(ItemId::of_bytes(b"bytes")));
    }

    #[test]
    fn holes_stay_holes() {
        use std::os::unix::fs::MetadataExt as _;
        let dir = tempfile::tempdir().expect("a temporary folder");
        let folder = Folder::of_ours(dir.path()).expect("there");
        let mut from = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(dir.path().join("a"))
            .expect("made");
        for at in [1 << 20, 40 << 20] {
            from.seek(io::SeekFrom::Start(at)).expect("moved");
            from.write_all(b"data").expect("written");
        }
        from.set_len(64 << 20).expect("grown");
        let item = hash_of_file(&mut from).expect("hashed");
        let copy = copy_of(&mut from, &folder, item).expect("copied");
        let meta = copy.file.metadata().expect("told");
        assert_eq!(meta.len(), 64 << 20);
        assert!(meta.blocks() * 512 < 8 << 20, "{} bytes on the disk", meta.blocks() * 512);
    }

    #[test]
    fn a_swapped_temporary_name_is_noticed_and_not_deleted() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let folder = Folder::of_ours(dir.path()).expect("there");
        let [_, new] = both(&folder);
        let own = new.name.clone().expect("has one");
        std::fs::remove_file(dir.path().join(&own)).expect("removed");
        std::fs::write(dir.path().join(&own), b"another's").expect("written");
        drop(new);
        assert_eq!(std::fs::read(dir.path().join(own)).expect("stays"), b"another's");
    }
}
