//! Moves files into the quarantine and back, such that no step can lose one: a file is taken under
//! a name of our own, its bytes are checked, it gets its place, and only then does a second copy go.
//! Every step finds out by itself how far an interrupted one came.
//!
//! `quarantine/ab/abcd…` holds the bytes with this SHA-256, `abcd….json` beside it where they came
//! from: enough to put everything back by hand, without the database.

use std::fs::{DirBuilder, File, OpenOptions};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::{CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::moderation::ItemId;
use crate::moderation::escape::escape_path;
use crate::store::{Place, Placement};

/// How an attempt ended that did not fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Moved {
    /// The file is where it was wanted.
    Done,
    /// There is nothing to move; the text says why.
    Lost(String),
}

/// Why a file could not be moved; it is where it was, or under a name of ours where the next
/// attempt finds it.
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

fn io_error<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> MoveError + 'a {
    move |source| MoveError::Io { what, path: path.to_owned(), source }
}

/// The folder of what was removed or is held.
#[derive(Debug, Clone)]
pub(super) struct Quarantine {
    folder: PathBuf,
}

impl Quarantine {
    pub(super) fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Keeps other processes from moving files at the same time, until it is dropped; `None` when
    /// one does already.
    pub(super) fn lock(&self) -> Result<Option<File>, MoveError> {
        make_private(&self.folder)?;
        let path = self.folder.join(".lock");
        let file =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(io_error("can't open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(std::fs::TryLockError::WouldBlock) => Ok(None),
            Err(std::fs::TryLockError::Error(error)) => Err(io_error("can't lock", &path)(error)),
        }
    }

    /// Where the bytes of an item lie in the quarantine.
    pub(super) fn place_of(&self, item: ItemId) -> PathBuf {
        let name = item.to_string();
        self.folder.join(&name[..2]).join(name)
    }

    fn manifest_of(&self, item: ItemId) -> PathBuf {
        self.place_of(item).with_extension("json")
    }

    /// Brings a file where it is wanted.
    pub(super) fn carry_out(&self, placement: &Placement) -> Result<Moved, MoveError> {
        match placement.wanted {
            Place::Quarantined => self.take_in(placement),
            Place::InPlace => self.put_back(placement),
            Place::Purged => self.purge(placement),
        }
    }

    fn take_in(&self, placement: &Placement) -> Result<Moved, MoveError> {
        let (item, path) = (placement.item, placement.sighting.path.as_path());
        let place = self.place_of(item);
        let incoming = self.folder.join("incoming");
        make_private(&incoming)?;
        make_private(place.parent().unwrap_or(&self.folder))?;
        let taken = incoming.join(placement.id.to_string());
        let beside = self.beside(path, placement.id, "taken")?;

        // An interrupted attempt may have taken it already.
        if !exists(&taken) && !exists(&beside) {
            match hash_regular(path)? {
                None if exists(&place) => return Ok(Moved::Done),
                None => return Ok(Moved::Lost("the file is gone; nothing to remove".into())),
                Some(found) if found != item => {
                    return Ok(Moved::Lost("other bytes lie at this path now; they stay".into()));
                }
                Some(_) => {}
            }
            // The way back stands in the manifest before the file moves.
            self.note(placement, path)?;
            match rename_new(path, &taken) {
                Ok(()) => {}
                Err(Errno::XDEV) => rename_new(path, &beside)
                    .map_err(|errno| io_error("can't take", path)(errno.into()))?,
                Err(errno) => return Err(io_error("can't take", path)(errno.into())),
            }
            sync_folder_of(path)?;
        }
        if exists(&beside) {
            if hash_regular(&beside)? != Some(item) {
                return put_wrong_back(&beside, path);
            }
            copy_new(&beside, &taken, item)?;
        }
        if hash_regular(&taken)? != Some(item) {
            return put_wrong_back(&taken, path);
        }
        match rename_new(&taken, &place) {
            Ok(()) => {}
            // The same bytes came from another path before; this copy is one too many once that
            // one is known to be whole.
            Err(Errno::EXIST) => {
                if hash_regular(&place)? != Some(item) {
                    return Err(MoveError::Corrupt(place));
                }
                std::fs::remove_file(&taken).map_err(io_error("can't remove the copy", &taken))?;
            }
            Err(errno) => return Err(io_error("can't place", &place)(errno.into())),
        }
        sync_folder_of(&place)?;
        if exists(&beside) {
            std::fs::remove_file(&beside).map_err(io_error("can't remove the copy", &beside))?;
            sync_folder_of(&beside)?;
        }
        Ok(Moved::Done)
    }

    fn put_back(&self, placement: &Placement) -> Result<Moved, MoveError> {
        let (item, path) = (placement.item, placement.sighting.path.as_path());
        let place = self.place_of(item);
        match hash_regular(path)? {
            // Put back before, or never really gone.
            Some(found) if found == item => {}
            None if !exists(path) => {
                match hash_regular(&place)? {
                    None => return Err(MoveError::Missing(item)),
                    Some(found) if found != item => return Err(MoveError::Corrupt(place)),
                    Some(_) => {}
                }
                if let Some(folder) = path.parent() {
                    std::fs::create_dir_all(folder)
                        .map_err(io_error("can't make the folder", folder))?;
                }
                self.give(placement, &place, path)?;
                sync_folder_of(path)?;
            }
            Some(_) | None => return Err(MoveError::Taken(path.to_owned())),
        }
        if placement.twins == 0 {
            self.forget(item)?;
        }
        Ok(Moved::Done)
    }

    /// The last path gets the file itself, others a copy.
    fn give(&self, placement: &Placement, place: &Path, path: &Path) -> Result<(), MoveError> {
        if placement.twins == 0 {
            // A second name first, which is refused where there is a file: never over another one.
            match rustix::fs::link(place, path) {
                Ok(()) => return Ok(()),
                Err(Errno::EXIST) => return Err(MoveError::Taken(path.to_owned())),
                // Another file system, or one without links: a copy.
                Err(_) => {}
            }
        }
        let copy = self.beside(path, placement.id, "restoring")?;
        copy_new(place, &copy, placement.item)?;
        rename_new(&copy, path).map_err(|errno| match errno {
            Errno::EXIST => MoveError::Taken(path.to_owned()),
            other => io_error("can't put back", path)(other.into()),
        })
    }

    fn purge(&self, placement: &Placement) -> Result<Moved, MoveError> {
        // Other paths of the same bytes may still be undecided: the bytes stay for them.
        if placement.twins == 0 {
            self.forget(placement.item)?;
        }
        Ok(Moved::Done)
    }

    /// The bytes are not needed here any more.
    pub(super) fn forget(&self, item: ItemId) -> Result<(), MoveError> {
        let place = self.place_of(item);
        for path in [&place, &self.manifest_of(item)] {
            match std::fs::remove_file(path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(io_error("can't remove", path)(error)),
            }
        }
        if exists(place.parent().unwrap_or(&self.folder)) { sync_folder_of(&place) } else { Ok(()) }
    }

    /// A name of ours in the same folder, for moves across file systems: the same at the next
    /// attempt, and one that no uploader can take first.
    fn beside(&self, path: &Path, id: i64, what: &str) -> Result<PathBuf, MoveError> {
        make_private(&self.folder)?;
        let file = self.folder.join(".secret");
        let random = || format!("{:016x}", RandomState::new().hash_one(std::process::id()));
        let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file);
        if let Ok(mut out) = opened {
            let written = out.write_all(random().as_bytes()).and_then(|()| out.sync_all());
            written.map_err(io_error("can't write", &file))?;
        }
        let secret = std::fs::read_to_string(&file).map_err(io_error("can't read", &file))?;
        Ok(path.with_file_name(format!(".modtool-{id}-{secret}.{what}")))
    }

    /// Writes down where the bytes come from, beside those that are known already.
    fn note(&self, placement: &Placement, path: &Path) -> Result<(), MoveError> {
        let file = self.manifest_of(placement.item);
        let mut manifest: Value = std::fs::read(&file)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_else(|| json!({"item": placement.item.to_string(), "files": []}));
        let meta = std::fs::symlink_metadata(path).map_err(io_error("can't look at", path))?;
        let bytes = path.as_os_str().as_encoded_bytes();
        let entry = json!({
            "path": escape_path(path),
            "path_b64": STANDARD.encode(bytes),
            "bytes": meta.size(),
            "mode": format!("{:o}", meta.mode() & 0o7777),
            "modified_s": meta.mtime(),
            "held": placement.held,
            "by": placement.decided.as_ref().map(|(reviewer, _)| reviewer),
            "decided_at_ms": placement.decided.as_ref().map(|(_, at)| at.0),
            "policy": placement.policy,
        });
        if let Some(files) = manifest["files"].as_array_mut() {
            files.retain(|known| known["path_b64"] != entry["path_b64"]);
            files.push(entry);
        }
        let text = format!("{manifest:#}\n");
        let written = file.with_extension("json.new");
        let write = || {
            let mut out = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&written)?;
            out.write_all(text.as_bytes())?;
            out.sync_all()?;
            std::fs::rename(&written, &file)
        };
        write().map_err(io_error("can't write", &file))?;
        sync_folder_of(&file)
    }
}

/// What became of one file.
pub(super) enum Deleted {
    Yes,
    WasGone,
    OtherBytes,
}

/// Deletes a file if it holds these bytes.
pub(super) fn delete_if(path: &Path, item: ItemId) -> Result<Deleted, MoveError> {
    match hash_regular(path)? {
        None => return Ok(Deleted::WasGone),
        Some(found) if found != item => return Ok(Deleted::OtherBytes),
        Some(_) => {}
    }
    std::fs::remove_file(path).map_err(io_error("can't delete", path))?;
    sync_folder_of(path)?;
    Ok(Deleted::Yes)
}

/// What was taken is not what was to be taken: somebody replaced it in that moment.
fn put_wrong_back(taken: &Path, path: &Path) -> Result<Moved, MoveError> {
    rename_new(taken, path).map_err(|errno| match errno {
        Errno::EXIST => MoveError::Taken(path.to_owned()),
        other => io_error("can't put back", path)(other.into()),
    })?;
    sync_folder_of(path)?;
    Ok(Moved::Lost("other bytes lie at this path now; they stay".into()))
}

fn exists(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok()
}

/// Renames, and never over another file.
fn rename_new(from: &Path, to: &Path) -> Result<(), Errno> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Some file systems don't know the flag: a second name is refused where there is a file.
        Err(Errno::INVAL | Errno::NOSYS) => {
            rustix::fs::link(from, to)?;
            rustix::fs::unlink(from)
        }
        other => other,
    }
}

/// The hash of a regular file's bytes; `None` when there is none. Links are not followed.
fn hash_regular(path: &Path) -> Result<Option<ItemId>, MoveError> {
    let failed = |source: io::Error| io_error("can't read", path)(source);
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(descriptor) => File::from(descriptor),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
        Err(errno) => return Err(failed(errno.into())),
    };
    if !file.metadata().map_err(failed)?.is_file() {
        return Ok(None);
    }
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(io_error("can't read", path)(error)),
        }
    }
    Ok(Some(ItemId::from_bytes(hasher.finalize().into())))
}

/// Copies bytes, permissions and times to a new file of ours, to the disk, and reads them again.
fn copy_new(from: &Path, to: &Path, item: ItemId) -> Result<(), MoveError> {
    let copy = || {
        let mut source = File::open(from)?;
        let meta = source.metadata()?;
        let mut target =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(to)?;
        io::copy(&mut source, &mut target)?;
        target.set_permissions(meta.permissions())?;
        let times = std::fs::FileTimes::new().set_modified(meta.modified()?);
        target.set_times(times)?;
        target.sync_all()
    };
    copy().map_err(io_error("can't copy to", to))?;
    if hash_regular(to)? != Some(item) {
        let _ = std::fs::remove_file(to);
        return Err(MoveError::Corrupt(from.to_owned()));
    }
    sync_folder_of(to)
}

/// A rename is on the disk only when its folder is.
fn sync_folder_of(path: &Path) -> Result<(), MoveError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io_error("can't sync", folder))
}

fn make_private(folder: &Path) -> Result<(), MoveError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(folder).map_err(io_error("can't make the folder", folder))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moderation::Sighting;

    struct Bench {
        dir: tempfile::TempDir,
        quarantine: Quarantine,
        uploads: PathBuf,
    }

    fn bench() -> Bench {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let quarantine = Quarantine::at(dir.path().join("quarantine"));
        let uploads = dir.path().join("uploads");
        std::fs::create_dir(&uploads).expect("made");
        Bench { dir, quarantine, uploads }
    }

    fn placement(id: i64, path: &Path, bytes: &[u8], wanted: Place) -> Placement {
        let state = if wanted == Place::Quarantined { Place::InPlace } else { Place::Quarantined };
        Placement {
            id,
            item: ItemId::of_bytes(bytes),
            sighting: Sighting { path: path.to_owned(), root: path.to_owned() },
            wanted,
            state,
            held: false,
            decided: None,
            policy: None,
            twins: 0,
            attempts: 0,
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(folder)
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    impl Bench {
        fn upload(&self, name: &str, bytes: &[u8]) -> PathBuf {
            let path = self.uploads.join(name);
            std::fs::write(&path, bytes).expect("written");
            path
        }

        fn go(&self, placement: &Placement) -> Result<Moved, MoveError> {
            self.quarantine.carry_out(placement)
        }
    }

    #[test]
    fn a_file_goes_in_under_its_hash_and_comes_back_under_its_name() {
        let bench = bench();
        let path = bench.upload("a.png", b"bytes");
        let taken = placement(1, &path, b"bytes", Place::Quarantined);
        for _ in 0..2 {
            assert_eq!(bench.go(&taken).expect("moved"), Moved::Done, "again is no harm");
            assert_eq!(names(&bench.uploads), Vec::<String>::new());
        }
        let place = bench.quarantine.place_of(taken.item);
        assert_eq!(std::fs::read(&place).expect("there"), b"bytes");
        let manifest = std::fs::read(place.with_extension("json")).expect("there");
        let manifest: Value = serde_json::from_slice(&manifest).expect("JSON");
        assert_eq!(manifest["files"][0]["path"], path.to_str().expect("UTF-8"));
        let mode = |path: &Path| std::fs::metadata(path).expect("there").mode() & 0o777;
        assert_eq!(mode(&bench.quarantine.folder), 0o700);

        let back = placement(1, &path, b"bytes", Place::InPlace);
        for _ in 0..2 {
            assert_eq!(bench.go(&back).expect("moved"), Moved::Done);
            assert_eq!(std::fs::read(&path).expect("there"), b"bytes");
        }
        assert!(!exists(&place) && !exists(&place.with_extension("json")));
    }

    #[test]
    fn a_file_that_took_the_name_is_never_overwritten() {
        let bench = bench();
        let path = bench.upload("a.png", b"bad");
        bench.go(&placement(1, &path, b"bad", Place::Quarantined)).expect("moved");
        bench.upload("a.png", b"new");
        let back = placement(1, &path, b"bad", Place::InPlace);
        assert!(matches!(bench.go(&back), Err(MoveError::Taken(_))));
        assert_eq!(std::fs::read(&path).expect("there"), b"new");
        assert!(exists(&bench.quarantine.place_of(back.item)), "nothing is lost");
        // A link is somebody's file as well.
        std::fs::remove_file(&path).expect("removed");
        std::os::unix::fs::symlink("/nowhere", &path).expect("linked");
        assert!(matches!(bench.go(&back), Err(MoveError::Taken(_))));
    }

    #[test]
    fn other_bytes_at_the_path_stay() {
        let bench = bench();
        let path = bench.upload("a.png", b"replaced");
        let taken = placement(1, &path, b"bad", Place::Quarantined);
        assert!(matches!(bench.go(&taken).expect("looked"), Moved::Lost(_)));
        assert_eq!(std::fs::read(&path).expect("there"), b"replaced");
        std::fs::remove_file(&path).expect("removed");
        assert!(matches!(bench.go(&taken).expect("looked"), Moved::Lost(_)));
    }

    #[test]
    fn two_paths_of_the_same_bytes_share_one_place_and_both_come_back() {
        let bench = bench();
        let paths = [bench.upload("a.png", b"twin"), bench.upload("b.png", b"twin")];
        for (id, path) in (1..).zip(&paths) {
            bench.go(&placement(id, path, b"twin", Place::Quarantined)).expect("moved");
        }
        assert_eq!(names(&bench.uploads), Vec::<String>::new());
        let mut first = placement(1, &paths[0], b"twin", Place::InPlace);
        first.twins = 1;
        bench.go(&first).expect("moved");
        assert!(exists(&bench.quarantine.place_of(first.item)), "the other one still needs it");
        bench.go(&placement(2, &paths[1], b"twin", Place::InPlace)).expect("moved");
        for path in &paths {
            assert_eq!(std::fs::read(path).expect("there"), b"twin");
        }
        // Two files, as before: a change of one does not reach the other.
        std::fs::write(&paths[0], b"changed").expect("written");
        assert_eq!(std::fs::read(&paths[1]).expect("there"), b"twin");
    }

    #[test]
    fn a_damaged_quarantine_is_told_and_left_alone() {
        let bench = bench();
        let path = bench.upload("a.png", b"bad");
        let taken = placement(1, &path, b"bad", Place::Quarantined);
        bench.go(&taken).expect("moved");
        let place = bench.quarantine.place_of(taken.item);
        std::fs::write(&place, b"damaged").expect("written");
        let back = placement(1, &path, b"bad", Place::InPlace);
        assert!(matches!(bench.go(&back), Err(MoveError::Corrupt(_))));
        bench.upload("b.png", b"bad");
        let twin = placement(2, &bench.uploads.join("b.png"), b"bad", Place::Quarantined);
        assert!(matches!(bench.go(&twin), Err(MoveError::Corrupt(_))));
        assert_eq!(
            std::fs::read(bench.quarantine.folder.join("incoming/2")).expect("kept"),
            b"bad"
        );
        std::fs::remove_file(&place).expect("removed");
        assert!(matches!(bench.go(&back), Err(MoveError::Missing(_))));
        bench.go(&twin).expect("goes on from where it stood");
        assert_eq!(std::fs::read(&place).expect("there"), b"bad");
    }

    #[test]
    fn an_interrupted_move_goes_on_from_every_step() {
        let bench = bench();
        let path = bench.uploads.join("a.png");
        let taken = placement(7, &path, b"bytes", Place::Quarantined);
        let place = bench.quarantine.place_of(taken.item);
        let incoming = bench.quarantine.folder.join("incoming");
        std::fs::create_dir_all(&incoming).expect("made");
        std::fs::create_dir_all(place.parent().expect("a folder")).expect("made");
        let beside = bench.quarantine.beside(&path, 7, "taken").expect("a name");
        // Taken; taken across file systems; half copied; copied; in place with the copy left.
        for (files, what) in [
            (vec![(incoming.join("7"), "bytes")], "taken"),
            (vec![(beside.clone(), "bytes")], "taken on the other file system"),
            (vec![(beside.clone(), "bytes"), (incoming.join("7"), "by")], "half copied"),
            (vec![(beside.clone(), "bytes"), (incoming.join("7"), "bytes")], "copied"),
            (vec![(beside.clone(), "bytes"), (place.clone(), "bytes")], "placed"),
        ] {
            for (file, bytes) in &files {
                std::fs::write(file, bytes).expect("written");
            }
            assert_eq!(bench.go(&taken).expect(what), Moved::Done, "{what}");
            assert_eq!(std::fs::read(&place).expect(what), b"bytes", "{what}");
            assert_eq!(names(&bench.uploads), Vec::<String>::new(), "{what}");
            assert_eq!(names(&incoming), Vec::<String>::new(), "{what}");
            std::fs::remove_file(&place).expect("removed");
        }
        // A new upload took the path meanwhile: it stays.
        std::fs::write(incoming.join("7"), "bytes").expect("written");
        std::fs::write(&path, "innocent").expect("written");
        assert_eq!(bench.go(&taken).expect("moved"), Moved::Done);
        assert_eq!(std::fs::read(&path).expect("there"), b"innocent");
    }

    #[test]
    fn across_file_systems_bytes_permissions_and_times_survive() {
        let bench = bench();
        let Ok(other) = tempfile::tempdir_in("/dev/shm") else {
            let _ = writeln!(io::stderr(), "*** SKIPPED: there is no /dev/shm to move from ***");
            return;
        };
        let device = |path: &Path| std::fs::metadata(path).expect("there").dev();
        if device(other.path()) == device(bench.dir.path()) {
            let _ = writeln!(io::stderr(), "*** SKIPPED: /dev/shm is the same file system ***");
            return;
        }
        let path = other.path().join("a.png");
        std::fs::write(&path, b"bytes").expect("written");
        let file = File::options().write(true).open(&path).expect("opened");
        let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        file.set_times(std::fs::FileTimes::new().set_modified(old)).expect("set");
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o640)).expect("set");
        bench.go(&placement(1, &path, b"bytes", Place::Quarantined)).expect("moved");
        assert_eq!(names(other.path()), Vec::<String>::new());
        bench.go(&placement(1, &path, b"bytes", Place::InPlace)).expect("moved");
        assert_eq!(names(other.path()), ["a.png"]);
        let meta = std::fs::metadata(&path).expect("there");
        assert_eq!((meta.mode() & 0o777, meta.mtime()), (0o640, 1_000_000));
        assert_eq!(std::fs::read(&path).expect("there"), b"bytes");
    }
}
