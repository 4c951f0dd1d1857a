//! Moves files into the quarantine and back, such that no step can lose one and no step trusts a
//! name that an uploader could choose.
//!
//! *In*: the bytes are copied into the quarantine first, to a new file of ours, and read again
//! from there. Only then does the upload leave its path, to where nobody looks for it; it is
//! compared with what was read, and only then deleted. *Back*: a new file is made where the
//! upload was, and gets its name when it is whole.
//!
//! `quarantine/ab/abcd…` holds the bytes with this SHA-256, [`Manifests`] beside it where they
//! came from. `quarantine/incoming/` holds, for moments, what is on its way.

use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::Mode;
use rustix::io::Errno;

use crate::files::{
    CopyError, Entry, Folder, Identity, Kept, Kind, Roots, Stat, TEMPORARY, copy_of, hash_of,
    hash_of_file, random_name,
};
use crate::moderation::escape::escape_path;
use crate::moderation::{ItemId, Sighting};
use crate::store::{Move, Placement};

use super::manifest::Manifests;
use super::steps::pass;

/// Nobody writes to what lies in the quarantine, its owner included.
const EVIDENCE: u32 = 0o400;

/// Why a file could not be moved. It is where it was, or where the database says that it stands.
#[derive(Debug, thiserror::Error)]
pub(super) enum MoveError {
    /// The system refused.
    #[error("{what} {}", escape_path(path))]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A file of this name is there, with other bytes.
    #[error(
        "{} is taken by another file; name another place: modtool restore --to", escape_path(.0)
    )]
    Taken(PathBuf),
    /// The quarantine does not hold what it should.
    #[error("the quarantine does not hold {} (any more)", .0)]
    Missing(ItemId),
    /// The bytes in the quarantine are not those that the name says.
    #[error("{} was changed: its bytes are not those of its name; it is left alone", escape_path(.0))]
    Corrupt(PathBuf),
}

pub(super) fn io_error<'a>(
    what: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> MoveError + 'a {
    move |source| MoveError::Io { what, path: path.to_owned(), source }
}

/// The folder of what was removed or is held.
#[derive(Debug, Clone)]
pub(super) struct Quarantine {
    folder: PathBuf,
}

/// Keeps other processes from moving files until it is dropped.
#[derive(Debug)]
pub struct MoveLock(#[expect(dead_code, reason = "the lock goes with the descriptor")] File);

/// What a first look at an upload that is to be removed gave.
#[derive(Debug)]
pub(super) enum FirstLook {
    /// Nothing lies at the path (any more), or a link is on the way.
    Gone,
    /// Other bytes lie there.
    OtherBytes,
    /// The quarantine holds its bytes; now it may go.
    Ready(Ready),
}

/// An upload whose bytes the quarantine holds, still at its path.
#[derive(Debug)]
pub(super) struct Ready {
    entry: Entry,
    file: File,
    /// As it was before its bytes were copied.
    pub(super) stat: Stat,
    /// Whether the copy was made for this attempt; else it was there before.
    pub(super) copied: bool,
}

/// How the attempt to take an upload away ended.
#[derive(Debug)]
pub(super) enum Removal {
    /// It is gone.
    Gone,
    /// It stays: another file took its place in that moment, or it was written to.
    OtherBytes,
    /// That place is on another file system; nothing was done.
    OtherDevice,
    /// The system does not let it go; nothing was done.
    Refused(MoveError),
}

/// What became of a removal that was interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recovery {
    /// The upload is gone, and the quarantine holds its bytes.
    Removed,
    /// It never left its path.
    NotBegun,
    /// It was put back, because it holds other bytes.
    PutBack,
}

impl Quarantine {
    pub(super) fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Keeps other processes from moving files at the same time; `None` when one does so for
    /// longer than `patience`.
    pub(super) fn lock(&self, patience: Duration) -> Result<Option<MoveLock>, MoveError> {
        make_private(&self.folder)?;
        let path = self.folder.join(".lock");
        let file =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(io_error("can't open", &path))?;
        let start = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => {
                    pass("locked");
                    return Ok(Some(MoveLock(file)));
                }
                Err(std::fs::TryLockError::WouldBlock) if start.elapsed() >= patience => {
                    return Ok(None);
                }
                Err(std::fs::TryLockError::WouldBlock) => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(std::fs::TryLockError::Error(error)) => {
                    return Err(io_error("can't lock", &path)(error));
                }
            }
        }
    }

    /// Whether a path lies in the quarantine.
    pub(super) fn contains(&self, path: &Path) -> bool {
        path.starts_with(&self.folder)
    }

    /// Where the bytes of an item lie in the quarantine.
    pub(super) fn place_of(&self, item: ItemId) -> PathBuf {
        let name = item.to_string();
        self.folder.join(&name[..2]).join(name)
    }

    fn manifests(&self, item: ItemId) -> Manifests {
        Manifests::beside(&self.place_of(item), item)
    }

    /// The item's place, in a folder that is there.
    fn place(&self, item: ItemId) -> Result<Entry, MoveError> {
        let path = self.place_of(item);
        let folder = path.parent().unwrap_or(&self.folder);
        make_private(folder)?;
        own_entry(&path)
    }

    fn incoming(&self) -> Result<PathBuf, MoveError> {
        let incoming = self.folder.join("incoming");
        make_private(&incoming)?;
        Ok(incoming)
    }

    /// First step of a removal: the quarantine gets the bytes.
    pub(super) fn copy_in(
        &self,
        roots: &Roots,
        placement: &Placement,
    ) -> Result<FirstLook, MoveError> {
        let (item, path) = (placement.item, placement.sighting.path.as_path());
        let reached = roots.entry(&placement.sighting).map_err(io_error("can't reach", path))?;
        let Some(entry) = reached else { return Ok(FirstLook::Gone) };
        let opened = entry.open().map_err(io_error("can't open", path))?;
        let Some((mut file, stat)) = opened else { return Ok(FirstLook::Gone) };
        // A larger file is not even read: it could be of any size.
        if stat.file.size != placement.bytes
            || hash_of_file(&mut file).map_err(io_error("can't read", path))? != item
        {
            return Ok(FirstLook::OtherBytes);
        }
        let place = self.place(item)?;
        // The way back stands in the manifest before the file moves.
        self.manifests(item).note(placement, &stat, &Kept::of(&file, &stat))?;
        let copied = match keep_copy(&mut file, &place, item) {
            Ok(copied) => copied,
            Err(NoCopy::Changed) => return Ok(FirstLook::OtherBytes),
            Err(NoCopy::Failed(error)) => return Err(error),
        };
        pass("copied");
        Ok(FirstLook::Ready(Ready { entry, file, stat, copied }))
    }

    /// Where an upload may stand for the moment between leaving its path and being deleted: in a
    /// folder of ours on the same file system, else beside itself under a name that nobody can
    /// guess.
    pub(super) fn asides(&self, ready: &Ready) -> Result<Vec<Entry>, MoveError> {
        self.asides_of(&ready.entry, &ready.stat)
    }

    fn asides_of(&self, entry: &Entry, stat: &Stat) -> Result<Vec<Entry>, MoveError> {
        let mut asides = Vec::new();
        let incoming = self.incoming()?;
        let aside = own_entry(&incoming.join(taken_name()))?;
        let device = aside.folder.identity().map(|identity| identity.device);
        if device.is_ok_and(|device| device == stat.identity.device) {
            asides.push(aside);
        }
        asides.push(entry.beside(random_name()).map_err(io_error("can't reach", &entry.path))?);
        Ok(asides)
    }

    /// Second step of a removal: the upload goes. What is deleted is the very file that was
    /// copied, and still holds the bytes that the quarantine holds.
    pub(super) fn take_away(
        ready: &mut Ready,
        aside: &Entry,
        item: ItemId,
    ) -> Result<Removal, MoveError> {
        let path = ready.entry.path.clone();
        match ready.entry.rename_to_fresh(aside) {
            Ok(()) => {}
            Err(Errno::XDEV) => return Ok(Removal::OtherDevice),
            Err(Errno::NOENT) => return Ok(Removal::Gone),
            Err(errno) => {
                let refused = io_error("can't take away", &path)(errno.into());
                return Ok(Removal::Refused(refused));
            }
        }
        pass("taken");
        // Whatever fails from here on is found again by what the database says.
        ready.entry.sync_with(aside).map_err(io_error("can't sync the folder of", &path))?;
        let stands = aside.stat().map_err(io_error("can't look at", &aside.path))?;
        let is_it = stands.is_some_and(|stat| {
            stat.identity == ready.stat.identity && stat.file.size == ready.stat.file.size
        });
        let mut unchanged = || hash_of_file(&mut ready.file).map(|found| found == item);
        if !is_it || !unchanged().map_err(io_error("can't read", &path))? {
            put_wrong_back(aside, &ready.entry)?;
            return Ok(Removal::OtherBytes);
        }
        aside.unlink().map_err(io_error("can't delete", &aside.path))?;
        pass("unlinked");
        Ok(Removal::Gone)
    }

    /// Goes on with a removal that was interrupted after the upload was about to leave its path.
    pub(super) fn finish(
        &self,
        roots: &Roots,
        placement: &Placement,
        begun: &Move,
    ) -> Result<Recovery, MoveError> {
        let (item, path) = (placement.item, placement.sighting.path.as_path());
        let identity = Identity { device: begun.device, inode: begun.inode };
        let is_it = |entry: &Entry| {
            let stat = entry.stat().map_err(io_error("can't look at", &entry.path))?;
            Ok::<_, MoveError>(stat.is_some_and(|stat| stat.identity == identity))
        };
        let at_path = roots.entry(&placement.sighting).map_err(io_error("can't reach", path))?;
        let Some(aside) = self.stands_at(roots, placement, begun)? else {
            return Ok(Recovery::NotBegun);
        };
        if !is_it(&aside)? {
            let own = begun.path.starts_with(&self.folder);
            let stands = aside.stat().map_err(io_error("can't look at", &aside.path))?.is_some();
            if own && stands {
                // It was interrupted before what was taken was compared.
                put_wrong_back(&aside, &entry_for_return(roots, &placement.sighting)?)?;
                return Ok(Recovery::PutBack);
            }
            let whole = hash_of(&self.place(item)?).map_err(io_error("can't read", path))?;
            let left = match &at_path {
                Some(entry) => is_it(entry)?,
                None => false,
            };
            return Ok(if left || whole != Some(item) {
                Recovery::NotBegun
            } else {
                Recovery::Removed
            });
        }
        let opened = aside.open().map_err(io_error("can't open", &aside.path))?;
        let Some((mut file, stat)) = opened else { return Ok(Recovery::NotBegun) };
        if stat.file.size != placement.bytes
            || hash_of_file(&mut file).map_err(io_error("can't read", &aside.path))? != item
        {
            put_wrong_back(&aside, &entry_for_return(roots, &placement.sighting)?)?;
            return Ok(Recovery::PutBack);
        }
        match keep_copy(&mut file, &self.place(item)?, item) {
            Ok(_) => {}
            Err(NoCopy::Changed) => return Err(MoveError::Missing(item)),
            Err(NoCopy::Failed(error)) => return Err(error),
        }
        aside.unlink().map_err(io_error("can't delete", &aside.path))?;
        Ok(Recovery::Removed)
    }

    /// The name under which an interrupted removal left the upload; `None` when its folder is no
    /// longer to be reached.
    fn stands_at(
        &self,
        roots: &Roots,
        placement: &Placement,
        begun: &Move,
    ) -> Result<Option<Entry>, MoveError> {
        if begun.path.starts_with(&self.folder) {
            self.incoming()?;
            return own_entry(&begun.path).map(Some);
        }
        let root = placement.sighting.root.clone();
        let sighting = Sighting { path: begun.path.clone(), root };
        roots.entry(&sighting).map_err(io_error("can't reach", &begun.path))
    }

    /// A removal of the version before this one that was interrupted left its upload under the
    /// placement's number. Answers whether the quarantine holds its bytes now.
    pub(super) fn take_over(&self, placement: &Placement) -> Result<bool, MoveError> {
        let old = own_entry(&self.incoming()?.join(placement.id.to_string()))?;
        let opened = old.open().map_err(io_error("can't open", &old.path))?;
        let Some((mut file, _)) = opened else { return Ok(false) };
        if hash_of_file(&mut file).map_err(io_error("can't read", &old.path))? != placement.item {
            return Ok(false);
        }
        match keep_copy(&mut file, &self.place(placement.item)?, placement.item) {
            Ok(_) => {}
            Err(NoCopy::Changed) => return Ok(false),
            Err(NoCopy::Failed(error)) => return Err(error),
        }
        old.unlink().map_err(io_error("can't delete", &old.path))?;
        Ok(true)
    }

    /// Whether the quarantine holds the file of this path from an earlier removal: the same bytes
    /// came there again and went again.
    pub(super) fn holds_from(&self, item: ItemId, path: &Path) -> Result<bool, MoveError> {
        Ok(self.manifests(item).lists(path) && self.holds(item)?)
    }

    /// The file of this path is back; what others of the same bytes need stays.
    pub(super) fn forget_path(&self, item: ItemId, path: &Path) -> Result<(), MoveError> {
        self.manifests(item).delete(path)
    }

    /// Whether the quarantine holds the bytes of an item.
    pub(super) fn holds(&self, item: ItemId) -> Result<bool, MoveError> {
        let place = self.place(item)?;
        let found = hash_of(&place).map_err(io_error("can't read", &place.path))?;
        Ok(found == Some(item))
    }

    /// A restore: a new file at the path, with what belonged to the old one. Answers what could
    /// not be given back. The copy in the quarantine stays, for whoever asks next who needs it.
    pub(super) fn put_back(
        &self,
        roots: &Roots,
        placement: &Placement,
    ) -> Result<Option<String>, MoveError> {
        let (item, path) = (placement.item, placement.sighting.path.as_path());
        let entry = entry_for_return(roots, &placement.sighting)?;
        if let Some(stat) = entry.stat().map_err(io_error("can't look at", path))? {
            // Put back before, or never really gone.
            let alike = stat.file.size == placement.bytes;
            let found = if alike { hash_of(&entry) } else { Ok(None) };
            let found = found.map_err(io_error("can't read", path))?;
            return if found == Some(item) { Ok(None) } else { Err(MoveError::Taken(path.into())) };
        }
        let place = self.place(item)?;
        let opened = place.open().map_err(io_error("can't open", &place.path))?;
        let Some((mut file, _)) = opened else { return Err(MoveError::Missing(item)) };
        let copy = match copy_of(&mut file, &entry.folder, item) {
            Ok(copy) => copy,
            Err(CopyError::OtherBytes) => return Err(MoveError::Corrupt(place.path)),
            Err(CopyError::Io(error)) => return Err(io_error("can't copy to", path)(error)),
        };
        let lost = self.manifests(item).kept(path).give_to(&copy.file);
        let lost = lost.map_err(io_error("can't set the permissions of", path))?;
        copy.name_it(&entry.name).map_err(|error| match Errno::from_io_error(&error) {
            Some(Errno::EXIST) => MoveError::Taken(path.to_owned()),
            _ => io_error("can't put back", path)(error),
        })?;
        pass("returned");
        Ok(lost.words())
    }

    /// The bytes are not needed here any more.
    pub(super) fn forget(&self, item: ItemId) -> Result<(), MoveError> {
        let place = self.place(item)?;
        place.unlink().map_err(io_error("can't remove", &place.path))?;
        self.manifests(item).delete_all()?;
        sync_folder_of(&place.path)?;
        pass("forgotten");
        Ok(())
    }

    /// Deletes a file if it holds these bytes.
    pub(super) fn delete_if(
        &self,
        entry: &Entry,
        item: ItemId,
        bytes: u64,
    ) -> Result<Deleted, MoveError> {
        let path = &entry.path;
        let opened = entry.open().map_err(io_error("can't open", path))?;
        let Some((mut file, stat)) = opened else {
            let other = entry.stat().map_err(io_error("can't look at", path))?.is_some();
            return Ok(if other { Deleted::OtherBytes } else { Deleted::WasGone });
        };
        if stat.file.size != bytes
            || hash_of_file(&mut file).map_err(io_error("can't read", path))? != item
        {
            return Ok(Deleted::OtherBytes);
        }
        let asides = self.asides_of(entry, &stat)?;
        let entry = entry.beside(entry.name.clone()).map_err(io_error("can't reach", path))?;
        let mut ready = Ready { entry, file, stat, copied: false };
        for aside in asides {
            return match Self::take_away(&mut ready, &aside, item)? {
                Removal::OtherDevice => continue,
                Removal::Gone => Ok(Deleted::Yes),
                Removal::OtherBytes => Ok(Deleted::OtherBytes),
                Removal::Refused(error) => Err(error),
            };
        }
        Err(io_error("can't delete", path)(Errno::XDEV.into()))
    }

    /// Deletes what interrupted moves of an item left in `incoming/` and beside its place: whole
    /// copies, and half ones, which have names of their own there. To be called under the lock, when nothing of this
    /// item is under way.
    pub(super) fn clear_incoming(&self, item: ItemId) -> Result<u64, MoveError> {
        let incoming = self.incoming()?;
        let mut deleted = 0;
        for name in names_in(&incoming)? {
            let entry = own_entry(&incoming.join(&name))?;
            if is_temporary(&name)
                || hash_of(&entry).map_err(io_error("can't read", &entry.path))? == Some(item)
            {
                deleted +=
                    u64::from(entry.unlink().map_err(io_error("can't delete", &entry.path))?);
            }
        }
        let place = self.place(item)?;
        let beside = place.path.parent().unwrap_or(&self.folder);
        for name in names_in(beside)?.iter().filter(|name| is_temporary(name)) {
            let entry = own_entry(&beside.join(name))?;
            deleted += u64::from(entry.unlink().map_err(io_error("can't delete", &entry.path))?);
        }
        Ok(deleted)
    }
}

/// Sees to it that the quarantine holds these bytes in a file of its own, which nobody else
/// has a name or a descriptor of. Answers whether it did not hold them before.
fn keep_copy(from: &mut File, place: &Entry, item: ItemId) -> Result<bool, NoCopy> {
    let stat = place.stat().map_err(io_error("can't look at", &place.path))?;
    if let Some(stat) = stat {
        if hash_of(place).map_err(io_error("can't read", &place.path))? != Some(item) {
            return Err(MoveError::Corrupt(place.path.clone()).into());
        }
        if is_ours_alone(&stat) {
            return Ok(false);
        }
        // Versions before this one moved the upload itself here, to which its uploader may
        // have kept a link: a new file takes its place.
    }
    let copy = match copy_of(from, &place.folder, item) {
        Ok(copy) => copy,
        Err(CopyError::OtherBytes) => return Err(NoCopy::Changed),
        Err(CopyError::Io(error)) => {
            return Err(io_error("can't copy to", &place.path)(error).into());
        }
    };
    rustix::fs::fchmod(&copy.file, Mode::from_raw_mode(EVIDENCE))
        .map_err(|errno| io_error("can't protect", &place.path)(errno.into()))?;
    if stat.is_some() {
        let aside = place.beside(random_name()).map_err(io_error("can't reach", &place.path))?;
        copy.name_it(&aside.name).map_err(io_error("can't place", &aside.path))?;
        // Both names are ours: the one is replaced by the other in one step.
        std::fs::rename(&aside.path, &place.path).map_err(io_error("can't place", &place.path))?;
        sync_folder_of(&place.path)?;
        return Ok(false);
    }
    copy.name_it(&place.name).map_err(io_error("can't place", &place.path))?;
    Ok(true)
}

/// What became of one file.
pub(super) enum Deleted {
    Yes,
    WasGone,
    OtherBytes,
}

/// Why the quarantine does not hold the bytes.
enum NoCopy {
    /// They changed while they were copied.
    Changed,
    Failed(MoveError),
}

impl From<MoveError> for NoCopy {
    fn from(error: MoveError) -> Self {
        Self::Failed(error)
    }
}

/// Where a file goes back to: beneath its root, or to the place that a person named.
fn entry_for_return(roots: &Roots, sighting: &Sighting) -> Result<Entry, MoveError> {
    let path = sighting.path.as_path();
    let entry = if path.starts_with(&sighting.root) {
        roots.make_entry(sighting)
    } else {
        Entry::without_links(path)
    };
    entry.map_err(io_error("can't reach the folder of", path))
}

/// What was taken is not what was to be taken: it goes back under its name, or, where that was
/// taken meanwhile, under one that says where it comes from.
fn put_wrong_back(aside: &Entry, entry: &Entry) -> Result<(), MoveError> {
    let failed = |path: &Path, errno: Errno| io_error("can't put back", path)(errno.into());
    match aside.rename_to(entry) {
        Ok(()) => {}
        // Taken; or a file system that can't rename without replacing.
        Err(Errno::EXIST | Errno::PERM) => {
            let mut name = entry.name.clone();
            name.push(".put-back");
            name.push(random_name());
            // At most 255 bytes on every file system that uploads lie on.
            let name = if name.len() > 255 { random_name() } else { name };
            let other = entry.beside(name).map_err(io_error("can't reach", &entry.path))?;
            aside.rename_to_fresh(&other).map_err(|errno| failed(&other.path, errno))?;
        }
        Err(errno) => return Err(failed(&entry.path, errno)),
    }
    aside.sync_with(entry).map_err(io_error("can't sync the folder of", &entry.path))
}

/// A file that only this process's user can change, under one name.
fn is_ours_alone(stat: &Stat) -> bool {
    let ours = rustix::process::geteuid().as_raw();
    stat.kind == Kind::File && stat.links == 1 && stat.owner == ours && stat.mode == EVIDENCE
}

/// For uploads in `incoming/`; copies that are being written have other names.
fn taken_name() -> OsString {
    let mut name = OsString::from("taken");
    name.push(random_name());
    name
}

/// A copy that was being written.
fn is_temporary(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(TEMPORARY.as_bytes())
}

fn names_in(folder: &Path) -> Result<Vec<OsString>, MoveError> {
    let opened = Folder::of_ours(folder).map_err(io_error("can't open", folder))?;
    let names = opened.names().and_then(Iterator::collect);
    names.map_err(io_error("can't list", folder))
}

/// A name in a folder of ours, by its path.
fn own_entry(path: &Path) -> Result<Entry, MoveError> {
    let (folder, name) = path.parent().zip(path.file_name()).unwrap_or((path, path.as_os_str()));
    let opened = Folder::of_ours(folder).map_err(io_error("can't open", folder))?;
    Ok(Entry { folder: opened, name: name.to_owned(), path: path.to_owned() })
}

/// A rename is on the disk only when its folder is.
pub(super) fn sync_folder_of(path: &Path) -> Result<(), MoveError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io_error("can't sync", folder))
}

fn make_private(folder: &Path) -> Result<(), MoveError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(folder).map_err(io_error("can't make the folder", folder))?;
    let meta = std::fs::metadata(folder).map_err(io_error("can't look at", folder))?;
    if meta.mode() & 0o022 != 0 {
        // Made by somebody else while the folder above was open to others.
        let others = io::Error::other("others may write there; `chmod go-w` it, or remove it");
        return Err(io_error("can't use the folder", folder)(others));
    }
    Ok(())
}

#[cfg(test)]
#[path = "quarantine/tests.rs"]
mod tests;
