//! Opens and reads uploads: once, through one descriptor, never through a link.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use sha2::{Digest as _, Sha256};

use crate::moderation::ItemId;
use crate::store::FileStat;

/// What one reading of a file gave.
#[derive(Debug)]
pub(super) enum Reading {
    /// All its bytes, and as of when.
    Whole { item: ItemId, bytes: Vec<u8>, stat: FileStat },
    /// Too many bytes to decode; hashed all the same.
    TooLarge { item: ItemId, stat: FileStat },
    /// Neither its name nor its first bytes say that it is a picture.
    NoPicture,
    /// It changed while it was read: it has not settled yet.
    Changed,
    /// It is gone, or no regular file (any more).
    Gone,
    /// This process lacks what reading takes (descriptors, memory): no fault of the file.
    Starved { why: String },
    /// It is there and can't be read.
    Unreadable { why: String, stat: FileStat },
}

/// The stat of a regular file; `None` for links, folders, pipes, sockets and what is gone.
pub(super) fn stat_regular(path: &Path) -> Option<FileStat> {
    std::fs::symlink_metadata(path).ok().filter(Metadata::is_file).map(|meta| stat_of(&meta))
}

/// What the store compares to know whether a file changed.
pub(super) fn stat_of(meta: &Metadata) -> FileStat {
    let nanoseconds = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000) + rest;
    FileStat {
        size: meta.size(),
        mtime_ns: nanoseconds(meta.mtime(), meta.mtime_nsec()),
        ctime_ns: nanoseconds(meta.ctime(), meta.ctime_nsec()),
        inode: meta.ino(),
    }
}

/// Reads a file of at most `limit` bytes. `is_picture` decides by the first bytes (at most 64)
/// whether the rest is read at all.
pub(super) fn read(path: &Path, limit: u64, is_picture: impl Fn(&[u8]) -> bool) -> Reading {
    let Some(before) = stat_regular(path) else { return Reading::Gone };
    match read_open(path, limit, is_picture) {
        Ok(reading) => reading,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Reading::Gone,
        Err(error) if is_starved(&error) => Reading::Starved { why: plain(&error) },
        Err(error) => Reading::Unreadable { why: plain(&error), stat: before },
    }
}

fn is_starved(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS))
}

fn read_open(path: &Path, limit: u64, is_picture: impl Fn(&[u8]) -> bool) -> io::Result<Reading> {
    // NONBLOCK, so that a pipe put there since can't hang us; NOFOLLOW, so that a link put there
    // since can't lead us out of the watched folder.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(descriptor) => File::from(descriptor),
        Err(rustix::io::Errno::LOOP) => return Ok(Reading::Gone),
        Err(errno) => return Err(errno.into()),
    };
    let opened = file.metadata()?;
    if !opened.is_file() {
        return Ok(Reading::Gone);
    }
    let stat = stat_of(&opened);
    let mut bytes = Vec::with_capacity(usize::try_from(stat.size.min(limit)).unwrap_or(0) + 1);
    (&mut file).take(64).read_to_end(&mut bytes)?;
    if !is_picture(&bytes) {
        return Ok(Reading::NoPicture);
    }
    (&mut file).take(limit.saturating_sub(bytes.len() as u64)).read_to_end(&mut bytes)?;
    let mut hasher = Sha256::new();
    hasher.update(&bytes);
    let rest = hash_rest(&mut file, &mut hasher)?;
    let after = stat_of(&file.metadata()?);
    if after != stat || after.size != bytes.len() as u64 + rest {
        return Ok(Reading::Changed);
    }
    let item = ItemId::from_bytes(hasher.finalize().into());
    if rest > 0 {
        Ok(Reading::TooLarge { item, stat })
    } else {
        Ok(Reading::Whole { item, bytes, stat })
    }
}

fn hash_rest(file: &mut File, hasher: &mut Sha256) -> io::Result<u64> {
    let mut buffer = vec![0; 1 << 16];
    let mut rest = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(rest),
            count => {
                hasher.update(&buffer[..count]);
                rest += count as u64;
            }
        }
    }
}

/// `permission denied` instead of `Permission denied (os error 13)`.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut characters = text.chars();
    characters
        .next()
        .map_or_else(String::new, |first| first.to_lowercase().chain(characters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_a_folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary folder")
    }

    #[test]
    fn a_file_is_read_and_hashed() {
        let dir = in_a_folder();
        let path = dir.path().join("a");
        std::fs::write(&path, b"abc").expect("written");
        let Reading::Whole { item, bytes, stat } = read(&path, 3, |_| true) else {
            panic!("a whole file")
        };
        assert_eq!((item, bytes.as_slice(), stat.size), (ItemId::of_bytes(b"abc"), &b"abc"[..], 3));
    }

    #[test]
    fn a_file_over_the_limit_is_hashed_and_not_kept() {
        let dir = in_a_folder();
        let path = dir.path().join("a");
        let bytes = vec![7; 100_000];
        std::fs::write(&path, &bytes).expect("written");
        let Reading::TooLarge { item, .. } = read(&path, 99_999, |_| true) else {
            panic!("too large")
        };
        assert_eq!(item, ItemId::of_bytes(&bytes));
    }

    #[test]
    fn only_the_first_bytes_of_other_files_are_looked_at() {
        let dir = in_a_folder();
        let path = dir.path().join("a");
        std::fs::write(&path, vec![1; 1000]).expect("written");
        let looked = |first: &[u8]| first.len() != 64;
        assert!(matches!(read(&path, 1 << 20, looked), Reading::NoPicture));
    }

    #[test]
    fn links_pipes_and_missing_files_are_not_opened() {
        let dir = in_a_folder();
        let link = dir.path().join("link.jpg");
        std::os::unix::fs::symlink("/etc/passwd", &link).expect("linked");
        let pipe = dir.path().join("pipe.jpg");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, Mode::RUSR).expect("a pipe");
        for path in [&link, &pipe, &dir.path().to_owned(), &dir.path().join("missing")] {
            assert!(matches!(read(path, 1 << 20, |_| true), Reading::Gone), "{path:?}");
        }
    }
}
