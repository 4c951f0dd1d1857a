//! Reads uploads: once, through one descriptor, beneath a held root.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use crate::moderation::{FileStat, ItemId, Sighting};

use super::folder::{Entry, Kind, Stat};
use super::roots::{Roots, is_starved};

/// The first bytes that tell what a file is.
const FIRST: u64 = 1024;

/// No more than this is read of a file, 4 GiB: about four seconds of hashing. What is larger than
/// the limit for pictures is hashed so far, because people remove by hash.
const MOST_READ: u64 = 4 << 30;

/// What one reading of a file gave. Each stat is that of the descriptor that was read.
#[derive(Debug)]
pub enum Reading {
    /// All its bytes, and as of when.
    Whole {
        /// Their hash.
        item: ItemId,
        /// The bytes.
        bytes: Vec<u8>,
        /// The file that they were read from.
        stat: Stat,
    },
    /// Too many bytes to decode; hashed all the same.
    TooLarge {
        /// The hash of all bytes.
        item: ItemId,
        /// The file that they were read from.
        stat: Stat,
    },
    /// Neither its name nor its first bytes say that it is a picture.
    NoPicture {
        /// The file that was looked at.
        stat: Stat,
    },
    /// It changed while it was read: it has not settled yet.
    Changed {
        /// The hash of what was read.
        item: ItemId,
        /// What was read, which the file may never have held as a whole.
        bytes: Vec<u8>,
        /// The file as it was after reading.
        stat: Stat,
    },
    /// It is gone, no regular file (any more), or a link is on the way.
    Gone,
    /// Somebody holds a lease on it (fcntl(2)) and has not given it up yet: to be tried again.
    Busy,
    /// This process lacks what reading takes (descriptors, memory): no fault of the file.
    Starved {
        /// What the system says.
        why: String,
    },
    /// It is there and can't be read.
    Unreadable {
        /// What the system says.
        why: String,
        /// The file as it was before.
        stat: Stat,
    },
}

impl Roots {
    /// Reads the file that was seen, of at most `limit` bytes. `is_picture` decides by the first
    /// bytes (at most 1,024) whether the rest is read at all.
    pub fn read(
        &self,
        sighting: &Sighting,
        limit: u64,
        is_picture: impl Fn(&[u8]) -> bool,
    ) -> Reading {
        let opened = self.open(sighting);
        match opened {
            Ok(None) => Reading::Gone,
            Ok(Some((file, stat))) => match read_open(file, stat, limit, is_picture) {
                Ok(reading) => reading,
                Err(error) => failed(&error, Some(stat)),
            },
            // Where nothing can be looked at either, something may be there all the same.
            Err(error) => failed(&error, self.stat(sighting).unwrap_or(Some(Stat::UNKNOWN))),
        }
    }
}

fn failed(error: &io::Error, stat: Option<Stat>) -> Reading {
    let why = plain_words(error);
    if is_starved(error) {
        return Reading::Starved { why };
    }
    if error.kind() == io::ErrorKind::WouldBlock {
        return Reading::Busy;
    }
    match (Errno::from_io_error(error), stat) {
        (Some(Errno::NOENT), _) | (_, None) => Reading::Gone,
        (_, Some(stat)) if stat.kind != Kind::File => Reading::Gone,
        (_, Some(stat)) => Reading::Unreadable { why, stat },
    }
}

fn read_open(
    mut file: File,
    stat: Stat,
    limit: u64,
    is_picture: impl Fn(&[u8]) -> bool,
) -> io::Result<Reading> {
    let expected = usize::try_from(stat.file.size.min(limit)).unwrap_or(0);
    let mut bytes = Vec::with_capacity(expected + 1);
    (&mut file).take(FIRST).read_to_end(&mut bytes)?;
    if !is_picture(&bytes) {
        return Ok(Reading::NoPicture { stat });
    }
    if stat.file.size > MOST_READ.max(limit) {
        // It may be all holes, and take hours to read.
        let size = stat.file.size >> 30;
        let why = format!("{size} GiB, which is more than is read of a file");
        return Ok(Reading::Unreadable { why, stat });
    }
    (&mut file).take(limit.saturating_sub(bytes.len() as u64)).read_to_end(&mut bytes)?;
    let mut hasher = Sha256::new();
    hasher.update(&bytes);
    // One more than there should be: somebody who goes on writing must not keep us reading.
    let most = stat.file.size.saturating_sub(bytes.len() as u64).saturating_add(1);
    let rest = super::fresh::hash_into(&mut (&mut file).take(most), &mut hasher)?;
    let item = ItemId::from_bytes(hasher.finalize().into());
    let after = Stat::of_open(&file)?;
    if after.file != stat.file || after.file.size != bytes.len() as u64 + rest {
        return Ok(Reading::Changed { item, bytes, stat: after });
    }
    Ok(if rest > 0 {
        Reading::TooLarge { item, stat }
    } else {
        Reading::Whole { item, bytes, stat }
    })
}

/// The bytes of a file whose absolute path was recorded, no component of which may be a link;
/// `None` when there is no regular file.
///
/// # Errors
/// When it can't be read, or holds more than `limit` bytes.
pub fn bytes_of(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let entry = match Entry::without_links(path) {
        Ok(entry) => entry,
        Err(error) => return nothing_or(error),
    };
    let Some((file, stat)) = entry.open()? else { return Ok(None) };
    let mut bytes = Vec::with_capacity(usize::try_from(stat.file.size.min(limit)).unwrap_or(0) + 1);
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!("more than {limit} bytes")));
    }
    Ok(Some(bytes))
}

fn nothing_or<T>(error: io::Error) -> io::Result<Option<T>> {
    match Errno::from_io_error(&error) {
        Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        _ => Err(error),
    }
}

/// `permission denied` instead of `Permission denied (os error 13)`.
pub fn plain_words(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut characters = text.chars();
    characters
        .next()
        .map_or_else(String::new, |first| first.to_lowercase().chain(characters).collect())
}

/// Only its size, times and number, as the store compares them.
impl From<Stat> for FileStat {
    fn from(stat: Stat) -> Self {
        stat.file
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::Mode;

    use super::*;

    struct Bench {
        dir: tempfile::TempDir,
        roots: Roots,
    }

    fn bench() -> Bench {
        Bench { dir: tempfile::tempdir().expect("a temporary folder"), roots: Roots::default() }
    }

    impl Bench {
        fn sighting(&self, name: &str) -> Sighting {
            let root = std::fs::canonicalize(self.dir.path()).expect("there");
            Sighting { path: root.join(name), root }
        }

        fn write(&self, name: &str, bytes: &[u8]) -> Sighting {
            let sighting = self.sighting(name);
            std::fs::write(&sighting.path, bytes).expect("written");
            sighting
        }
    }

    #[test]
    fn a_file_is_read_and_hashed() {
        let bench = bench();
        let a = bench.write("a", b"abc");
        let Reading::Whole { item, bytes, stat } = bench.roots.read(&a, 3, |_| true) else {
            panic!("a whole file")
        };
        assert_eq!((item, bytes.as_slice()), (ItemId::of_bytes(b"abc"), &b"abc"[..]));
        assert_eq!(stat.file.size, 3);
    }

    #[test]
    fn a_file_over_the_limit_is_hashed_and_not_kept() {
        let (bench, bytes) = (bench(), vec![7; 100_000]);
        let a = bench.write("a", &bytes);
        let Reading::TooLarge { item, .. } = bench.roots.read(&a, 99_999, |_| true) else {
            panic!("too large")
        };
        assert_eq!(item, ItemId::of_bytes(&bytes));
    }

    #[test]
    fn a_file_of_any_size_takes_no_time() {
        let bench = bench();
        let a = bench.write("a", b"");
        let file = File::options().write(true).open(&a.path).expect("opened");
        // ext4 takes less than 16 TiB, tmpfs less than its size allows: any file system takes this.
        file.set_len(1 << 40).expect("grown");
        let read = bench.roots.read(&a, 1 << 20, |_| true);
        assert!(matches!(read, Reading::Unreadable { .. }), "{read:?}");
    }

    #[test]
    fn only_the_first_bytes_of_other_files_are_looked_at() {
        let bench = bench();
        let a = bench.write("a", &[1; 2000]);
        let looked = |first: &[u8]| first.len() != 1024;
        assert!(matches!(bench.roots.read(&a, 1 << 20, looked), Reading::NoPicture { .. }));
    }

    #[test]
    fn what_takes_the_place_of_a_file_that_is_looked_at_is_another_file() {
        let bench = bench();
        let (a, picture) = (bench.write("a", b"text"), bench.write("b", b"a picture"));
        let before = bench.roots.regular(&a).expect("told").expect("there");
        let swap = |_: &[u8]| {
            std::fs::rename(&picture.path, &a.path).expect("renamed");
            false
        };
        let Reading::NoPicture { stat } = bench.roots.read(&a, 1 << 20, swap) else {
            panic!("it is no picture")
        };
        assert_eq!(stat.file, before, "remembered as it was when it was looked at");
        assert_ne!(bench.roots.regular(&a).expect("told"), Some(before));
    }

    #[test]
    fn links_pipes_folders_and_missing_files_are_not_opened() {
        let bench = bench();
        std::fs::create_dir(bench.sighting("folder").path).expect("made");
        std::os::unix::fs::symlink("/etc", bench.sighting("away").path).expect("linked");
        std::os::unix::fs::symlink("/etc/passwd", bench.sighting("l.jpg").path).expect("linked");
        let pipe = bench.sighting("p.jpg").path;
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, Mode::RUSR).expect("a pipe");
        for name in ["l.jpg", "p.jpg", "folder", "missing", "away/passwd"] {
            let sighting = bench.sighting(name);
            let read = bench.roots.read(&sighting, 1 << 20, |_| true);
            assert!(matches!(read, Reading::Gone), "{name}: {read:?}");
            assert!(matches!(bytes_of(&sighting.path, 1 << 20), Ok(None)), "{name}");
        }
    }

    #[test]
    fn recorded_paths_are_read_up_to_a_limit() {
        let bench = bench();
        let a = bench.write("a", b"abc");
        assert_eq!(bytes_of(&a.path, 3).expect("read"), Some(b"abc".to_vec()));
        bytes_of(&a.path, 2).expect_err("too many");
    }
}
