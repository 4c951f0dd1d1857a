//! An item is a picture's bytes; a sighting is a path where those bytes were seen.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// SHA-256 of a file's bytes: the same bytes under two names are one item.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemId([u8; 32]);

impl ItemId {
    /// The id of a picture whose bytes are at hand.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Stands in for the bytes of a file that could not be read at all (no permission,
    /// an input/output error), so that it can still be put before a person.
    /// Derived from the path alone; it can't collide with [`ItemId::of_bytes`] by chance.
    pub fn of_unread(path: &[u8]) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(b"modtool: unread file\0");
        hasher.update(path);
        Self(hasher.finalize().into())
    }

    /// An id from its 32 bytes, as a streaming hasher or the store has them.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 12 hexadecimal digits: enough for a person to tell items apart.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(12);
        text
    }
}

impl fmt::Display for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ItemId({})", self.short())
    }
}

/// The text is not 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an item id is 64 hexadecimal digits, not {0:?}")]
pub struct ItemIdError(pub String);

impl FromStr for ItemId {
    type Err = ItemIdError;

    fn from_str(text: &str) -> Result<Self, ItemIdError> {
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
        let refused = || ItemIdError(text.to_owned());
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != 32 || !rest.is_empty() {
            return Err(refused());
        }
        let mut bytes = [0; 32];
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = digit(*high).zip(digit(*low)).map(|(h, l)| h << 4 | l).ok_or_else(refused)?;
        }
        Ok(Self(bytes))
    }
}

/// What the file system says of a file; when none of it changed, the bytes did not either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileStat {
    /// Bytes.
    pub size: u64,
    /// Last change of the bytes, nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Last change of bytes, name or permissions, nanoseconds since 1970.
    pub ctime_ns: i64,
    /// The file's number on its file system.
    pub inode: u64,
}

/// A path where an item was seen.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sighting {
    /// Absolute path of the file.
    pub path: PathBuf,
    /// The watched folder that the file lies in; policies' scopes look at the rest.
    pub root: PathBuf,
}

impl Sighting {
    /// The path as it is told. One of the rows of a folder for what was not judged in it has `/.` behind
    /// the folder's path, as often as it takes to tell the rows apart; no file's path ends so.
    pub fn shown(&self) -> &Path {
        plain_folder(&self.path)
    }

    /// The path below the watched folder, which a policy's scope is matched against.
    /// A file given by name (`modtool score`) is its own root: then this is the file name.
    pub fn below(&self) -> &Path {
        match self.path.strip_prefix(&self.root) {
            Ok(below) if !below.as_os_str().is_empty() => below,
            _ => self.path.file_name().map_or(&self.path, Path::new),
        }
    }
}

/// A folder's path without what tells its rows apart; see [`Sighting::shown`].
pub fn plain_folder(path: &Path) -> &Path {
    let mut bytes = path.as_os_str().as_bytes();
    if !bytes.ends_with(b"/.") {
        return path;
    }
    while let Some(rest) = bytes.strip_suffix(b"/.") {
        bytes = rest;
    }
    Path::new(if bytes.is_empty() { OsStr::new("/") } else { OsStr::from_bytes(bytes) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_the_sha256_of_the_bytes_and_reads_back() {
        let id = ItemId::of_bytes(b"abc");
        // FIPS 180-2, appendix B.1.
        assert_eq!(
            id.to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.short(), "ba7816bf8f01");
    }

    #[test]
    fn what_is_not_an_id_is_refused() {
        for text in ["", "ba78", &"g".repeat(64), &"é".repeat(32), &"+1".repeat(32)] {
            assert!(text.parse::<ItemId>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_unread_file_has_an_id_of_its_own() {
        assert_ne!(ItemId::of_unread(b"/a"), ItemId::of_unread(b"/b"));
        assert_ne!(ItemId::of_unread(b"/a"), ItemId::of_bytes(b"/a"));
    }

    #[test]
    fn rows_of_a_folder_are_shown_as_the_folder() {
        for (path, shown) in
            [("/u/a/./.", "/u/a"), ("/./.", "/"), ("/u/a.jpg", "/u/a.jpg"), ("/u/a.", "/u/a.")]
        {
            let sighting = Sighting { path: path.into(), root: "/".into() };
            assert_eq!(sighting.shown().as_os_str(), shown, "{path}");
        }
    }

    #[test]
    fn the_path_below_the_root_is_what_scopes_see() {
        let sighting = |path: &str, root: &str| Sighting { path: path.into(), root: root.into() };
        assert_eq!(sighting("/u/avatars/a.png", "/u").below(), Path::new("avatars/a.png"));
        assert_eq!(sighting("/u/a.png", "/u/a.png").below(), Path::new("a.png"));
        assert_eq!(sighting("/v/a.png", "/u").below(), Path::new("a.png"));
    }
}
