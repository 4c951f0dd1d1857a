//! The only place that opens, moves and deletes files that others name.
//!
//! A path that an uploader can change is never used as it stands: the folder that was watched is
//! held as a descriptor ([`Root`]), and everything below it is resolved beneath that descriptor
//! without following a single symbolic link. What is done to a file is done in the folder that
//! was reached so ([`Folder`], [`Entry`]), so a folder that is swapped for a link in between leads
//! nowhere else.

mod beneath;
mod folder;
mod fresh;
mod kept;
mod leased;
mod named;
mod read;
mod roots;
mod walk;
#[cfg(target_os = "linux")]
mod watches;

pub use folder::{Entry, Folder, Identity, Kind, Stat};
pub use fresh::{CopyError, NewFile, TEMPORARY, copy_of, hash_of, hash_of_file, random_name};
pub use kept::{Kept, NotKept};
pub use named::{Named, NamedFile};
pub use read::{Reading, bytes_of, plain_words};
pub use roots::{Change, Root, Roots, is_starved};
pub use walk::{Excluded, Found, Walk, walk, walk_one};
#[cfg(target_os = "linux")]
pub use watches::Watches;

use std::path::PathBuf;

/// What the kernel tells of watched folders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// A file was closed after writing, or renamed into place.
    Closed(PathBuf),
    /// A file came or changed, and may go on changing.
    Changed(PathBuf),
    /// A folder came; it is watched, and what was in it already is to be looked at.
    Folder(PathBuf),
    /// A root was moved or deleted.
    RootMoved,
    /// Some news were lost.
    Overflow,
}
