//! Every step of a move, on real files.

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use serde_json::Value;

use super::*;
use crate::store::Place;

struct Bench {
    path: PathBuf,
    quarantine: Quarantine,
    uploads: PathBuf,
    roots: Roots,
    _dir: tempfile::TempDir,
}

fn bench() -> Bench {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = std::fs::canonicalize(dir.path()).expect("there");
    let uploads = path.join("uploads");
    std::fs::create_dir(&uploads).expect("made");
    bench_of(dir, path, uploads)
}

fn bench_of(dir: tempfile::TempDir, path: PathBuf, uploads: PathBuf) -> Bench {
    let quarantine = Quarantine::at(path.join("quarantine"));
    make_private(&quarantine.folder).expect("made");
    Bench { path, quarantine, uploads, roots: Roots::default(), _dir: dir }
}

/// With uploads on another file system than the quarantine; `None`, loudly, where there is none.
fn across() -> Option<(Bench, tempfile::TempDir)> {
    let mut bench = bench();
    let device = |path: &Path| std::fs::metadata(path).expect("there").dev();
    let other = tempfile::tempdir_in("/dev/shm").ok();
    let other = other.filter(|other| device(other.path()) != device(&bench.path));
    if other.is_none() {
        let _ = writeln!(io::stderr(), "*** SKIPPED: /dev/shm is no other file system here ***");
    }
    let other = other?;
    bench.uploads = std::fs::canonicalize(other.path()).expect("there");
    Some((bench, other))
}

fn exists(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok()
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
        std::fs::create_dir_all(path.parent().expect("has one")).expect("made");
        std::fs::write(&path, bytes).expect("written");
        path
    }

    fn placement(&self, id: i64, path: &Path, bytes: &[u8], wanted: Place) -> Placement {
        let state = if wanted == Place::Quarantined { Place::InPlace } else { Place::Quarantined };
        Placement {
            id,
            item: ItemId::of_bytes(bytes),
            bytes: bytes.len() as u64,
            sighting: Sighting { path: path.to_owned(), root: self.uploads.clone() },
            wanted,
            state,
            held: false,
            decided: None,
            policy: None,
            twins: 0,
            attempts: 0,
        }
    }

    fn copied(&self, placement: &Placement) -> Ready {
        match self.quarantine.copy_in(&self.roots, placement).expect("copied") {
            FirstLook::Ready(ready) => ready,
            other => panic!("not ready: {other:?}"),
        }
    }

    /// All of a removal, as whoever carries out wishes does it.
    fn remove(&self, path: &Path, bytes: &[u8]) -> Removal {
        let placement = self.placement(1, path, bytes, Place::Quarantined);
        let mut ready = self.copied(&placement);
        for aside in self.quarantine.asides(&ready).expect("found") {
            let taken = Quarantine::take_away(&mut ready, &aside, placement.item);
            match taken.expect("no failure") {
                Removal::OtherDevice => {}
                other => return other,
            }
        }
        panic!("no place to take it to")
    }

    fn restore(&self, path: &Path, bytes: &[u8]) -> Result<Option<String>, MoveError> {
        let placement = self.placement(1, path, bytes, Place::InPlace);
        self.quarantine.put_back(&self.roots, &placement)
    }

    fn begun(at: &Path, file: &Path) -> Move {
        let meta = std::fs::metadata(file).expect("there");
        Move { placement: 1, path: at.to_owned(), device: meta.dev(), inode: meta.ino() }
    }

    fn finish(&self, path: &Path, bytes: &[u8], begun: &Move) -> Recovery {
        let placement = self.placement(1, path, bytes, Place::Quarantined);
        self.quarantine.finish(&self.roots, &placement, begun).expect("finished")
    }

    fn place(&self, bytes: &[u8]) -> PathBuf {
        self.quarantine.place_of(ItemId::of_bytes(bytes))
    }

    fn incoming(&self) -> Vec<String> {
        names(&self.quarantine.incoming().expect("made"))
    }
}

#[test]
fn a_file_goes_in_under_its_hash_and_comes_back_under_its_name() {
    let bench = bench();
    let path = bench.upload("a.png", b"bytes");
    assert!(matches!(bench.remove(&path, b"bytes"), Removal::Gone));
    assert_eq!(names(&bench.uploads), Vec::<String>::new());
    assert_eq!(bench.incoming(), Vec::<String>::new());
    let place = bench.place(b"bytes");
    assert_eq!(std::fs::read(&place).expect("there"), b"bytes");
    let shard = place.parent().expect("has one");
    let manifests = || {
        let json = |name: &String| name.contains(".json");
        names(shard).into_iter().filter(json).collect::<Vec<_>>()
    };
    let manifest = std::fs::read(shard.join(&manifests()[0])).expect("there");
    let manifest: Value = serde_json::from_slice(&manifest).expect("JSON");
    assert_eq!(manifest["path"], path.to_str().expect("UTF-8"));
    let mode = |path: &Path| std::fs::metadata(path).expect("there").mode() & 0o777;
    assert_eq!(mode(&bench.quarantine.folder), 0o700);
    assert_eq!(mode(&place), 0o400);

    for _ in 0..2 {
        assert_eq!(bench.restore(&path, b"bytes").expect("again is no harm"), None);
        assert_eq!(std::fs::read(&path).expect("there"), b"bytes");
    }
    bench.quarantine.forget(ItemId::of_bytes(b"bytes")).expect("forgotten");
    assert!(!exists(&place) && manifests().is_empty());
}

#[test]
fn what_the_quarantine_holds_is_no_file_of_the_uploaders() {
    let bench = bench();
    let path = bench.upload("a.png", b"bytes");
    let kept = bench.path.join("kept.png");
    std::fs::hard_link(&path, &kept).expect("linked");
    let mut open = OpenOptions::new().write(true).open(&path).expect("opened");
    assert!(matches!(bench.remove(&path, b"bytes"), Removal::Gone));
    std::fs::write(&kept, b"tampered").expect("written");
    open.write_all(b"tampered").expect("written");
    assert_eq!(std::fs::read(bench.place(b"bytes")).expect("there"), b"bytes");
}

#[test]
fn what_an_earlier_version_moved_in_is_replaced_by_a_file_of_ours() {
    let bench = bench();
    let path = bench.upload("a.png", b"bytes");
    let place = bench.place(b"bytes");
    std::fs::create_dir_all(place.parent().expect("has one")).expect("made");
    std::fs::hard_link(&path, &place).expect("linked");
    let kept = bench.path.join("kept.png");
    std::fs::hard_link(&path, &kept).expect("linked");
    assert!(matches!(bench.remove(&path, b"bytes"), Removal::Gone));
    std::fs::write(&kept, b"tampered").expect("written");
    assert_eq!(std::fs::read(&place).expect("there"), b"bytes");
    assert_eq!(std::fs::metadata(&place).expect("there").nlink(), 1);
}

#[test]
fn other_bytes_at_the_path_stay_whenever_they_come() {
    let bench = bench();
    let path = bench.upload("a.png", b"replaced");
    let placement = bench.placement(1, &path, b"bad", Place::Quarantined);
    let look = || bench.quarantine.copy_in(&bench.roots, &placement).expect("looked");
    assert!(matches!(look(), FirstLook::OtherBytes));
    std::fs::remove_file(&path).expect("removed");
    assert!(matches!(look(), FirstLook::Gone));
    // Swapped between the copy and the removal: by another file, and by other bytes in the same.
    for swap in [true, false] {
        let path = bench.upload("b.png", b"bad");
        let placement = bench.placement(1, &path, b"bad", Place::Quarantined);
        let mut ready = bench.copied(&placement);
        if swap {
            std::fs::remove_file(&path).expect("removed");
            symlink("/etc/passwd", &path).expect("linked");
        } else {
            std::fs::write(&path, b"innocent").expect("written");
        }
        let aside = bench.quarantine.asides(&ready).expect("found").remove(0);
        let taken = Quarantine::take_away(&mut ready, &aside, placement.item).expect("taken");
        assert!(matches!(taken, Removal::OtherBytes));
        assert!(exists(&path), "it was put back");
        assert_eq!(std::fs::symlink_metadata(&path).expect("there").is_symlink(), swap);
        assert_eq!(bench.incoming(), Vec::<String>::new());
        std::fs::remove_file(&path).expect("removed");
    }
}

#[test]
fn a_file_that_took_the_name_is_never_overwritten() {
    let bench = bench();
    let path = bench.upload("a.png", b"bad");
    bench.remove(&path, b"bad");
    std::fs::write(&path, b"a new upload").expect("written");
    assert!(matches!(bench.restore(&path, b"bad"), Err(MoveError::Taken(_))));
    assert_eq!(std::fs::read(&path).expect("there"), b"a new upload");
    assert!(exists(&bench.place(b"bad")), "nothing is lost");
    // A link is somebody's file as well.
    std::fs::remove_file(&path).expect("removed");
    symlink("/nowhere", &path).expect("linked");
    assert!(matches!(bench.restore(&path, b"bad"), Err(MoveError::Taken(_))));
}

#[test]
fn folders_swapped_for_links_lead_nowhere() {
    let bench = bench();
    let outside = bench.path.join("outside");
    std::fs::create_dir(&outside).expect("made");
    std::fs::write(outside.join("a.png"), b"bytes").expect("written");
    let path = bench.upload("sub/a.png", b"bytes");
    let placement = bench.placement(1, &path, b"bytes", Place::Quarantined);
    let swap = || {
        std::fs::rename(bench.uploads.join("sub"), bench.path.join("gone")).expect("renamed");
        symlink(&outside, bench.uploads.join("sub")).expect("linked");
    };
    let back = || {
        std::fs::remove_file(bench.uploads.join("sub")).expect("removed");
        std::fs::rename(bench.path.join("gone"), bench.uploads.join("sub")).expect("renamed");
    };
    swap();
    let looked = bench.quarantine.copy_in(&bench.roots, &placement).expect("looked");
    assert!(matches!(looked, FirstLook::Gone));
    back();
    // Between the steps: what was reached is used, not what the path leads to by then.
    let mut ready = bench.copied(&placement);
    swap();
    for aside in bench.quarantine.asides(&ready).expect("found").into_iter().take(1) {
        let taken = Quarantine::take_away(&mut ready, &aside, placement.item).expect("taken");
        assert!(matches!(taken, Removal::Gone));
    }
    assert!(!exists(&bench.path.join("gone/a.png")));
    std::fs::remove_file(outside.join("a.png")).expect("the one outside stayed");
    bench.restore(&path, b"bytes").expect_err("nothing is written behind a link");
    assert_eq!(names(&outside), Vec::<String>::new());
    let entry = bench.roots.entry(&placement.sighting).expect("told");
    assert!(entry.is_none(), "erase finds nothing there either");
}

#[test]
fn two_paths_of_the_same_bytes_share_one_place_and_both_come_back() {
    let bench = bench();
    let paths = [bench.upload("a.png", b"twin"), bench.upload("b.png", b"twin")];
    for path in &paths {
        bench.remove(path, b"twin");
    }
    for path in &paths {
        bench.restore(path, b"twin").expect("restored");
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
    bench.remove(&path, b"bad");
    let place = bench.place(b"bad");
    std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o600)).expect("set");
    std::fs::write(&place, b"damaged").expect("written");
    assert!(matches!(bench.restore(&path, b"bad"), Err(MoveError::Corrupt(_))));
    let path = bench.upload("b.png", b"bad");
    let placement = bench.placement(2, &path, b"bad", Place::Quarantined);
    let refused = bench.quarantine.copy_in(&bench.roots, &placement);
    assert!(matches!(refused, Err(MoveError::Corrupt(_))));
    assert_eq!(std::fs::read(&path).expect("kept"), b"bad");
    std::fs::remove_file(&place).expect("removed");
    assert!(matches!(
        bench.restore(&bench.uploads.join("a.png"), b"bad"),
        Err(MoveError::Missing(_))
    ));
    bench.remove(&path, b"bad");
    assert_eq!(std::fs::read(&place).expect("there"), b"bad");
}

#[test]
fn an_interrupted_removal_goes_on_from_what_the_database_says() {
    let bench = bench();
    let path = bench.upload("a.png", b"bytes");
    let item = ItemId::of_bytes(b"bytes");
    for own in [true, false] {
        let aside = if own {
            bench.quarantine.incoming().expect("made").join("taken-1")
        } else {
            bench.uploads.join(".modtool-1")
        };
        // Before it left its path.
        let begun = Bench::begun(&aside, &path);
        assert_eq!(bench.finish(&path, b"bytes", &begun), Recovery::NotBegun);
        assert!(exists(&path));
        // After: with and without the copy in the quarantine.
        std::fs::rename(&path, &aside).expect("renamed");
        std::fs::write(&path, b"a new upload").expect("written");
        assert_eq!(bench.finish(&path, b"bytes", &begun), Recovery::Removed);
        assert_eq!(std::fs::read(bench.place(b"bytes")).expect("there"), b"bytes");
        assert_eq!(std::fs::read(&path).expect("stays"), b"a new upload");
        assert!(!exists(&aside));
        // It was deleted and not written down.
        assert_eq!(bench.finish(&path, b"bytes", &begun), Recovery::Removed);
        bench.quarantine.forget(item).expect("forgotten");
        // Written to in that moment: it goes back, beside what took its name.
        std::fs::write(&aside, b"other bytes").expect("written");
        let begun = Bench::begun(&aside, &aside);
        assert_eq!(bench.finish(&path, b"bytes", &begun), Recovery::PutBack);
        assert_eq!(names(&bench.uploads).len(), 2, "{:?}", names(&bench.uploads));
        for name in names(&bench.uploads) {
            std::fs::remove_file(bench.uploads.join(name)).expect("removed");
        }
        bench.upload("a.png", b"bytes");
    }
    // What stands at a name among the uploads and is another file is not touched.
    let aside = bench.upload(".modtool-1", b"an uploader's");
    let begun = Move { placement: 1, path: aside.clone(), device: 1, inode: 1 };
    assert_eq!(bench.finish(&path, b"bytes", &begun), Recovery::NotBegun);
    assert_eq!(std::fs::read(aside).expect("stays"), b"an uploader's");
}

#[test]
fn a_removal_that_an_earlier_version_began_is_ended() {
    let bench = bench();
    let path = bench.uploads.join("a.png");
    let old = bench.quarantine.incoming().expect("made").join("7");
    let placement = bench.placement(7, &path, b"bytes", Place::Quarantined);
    assert!(!bench.quarantine.take_over(&placement).expect("looked"));
    std::fs::write(&old, b"bytes").expect("written");
    assert!(bench.quarantine.take_over(&placement).expect("taken over"));
    assert_eq!(std::fs::read(bench.place(b"bytes")).expect("there"), b"bytes");
    assert_eq!(bench.incoming(), Vec::<String>::new());
}

#[test]
fn erasing_clears_whole_and_half_copies_and_leaves_other_bytes() {
    let bench = bench();
    let item = ItemId::of_bytes(b"bytes");
    let incoming = bench.quarantine.incoming().expect("made");
    for (name, bytes) in [("taken-1", "bytes"), (".modtool-1", "byt"), ("taken-2", "others")] {
        std::fs::write(incoming.join(name), bytes).expect("written");
    }
    assert_eq!(bench.quarantine.clear_incoming(item).expect("cleared"), 2);
    assert_eq!(bench.incoming(), ["taken-2"]);
    let path = bench.upload("a.png", b"bytes");
    let delete = |path: &Path| {
        let entry = Entry::without_links(path).expect("reached");
        bench.quarantine.delete_if(&entry, item, 5).expect("looked")
    };
    assert!(matches!(delete(&path), Deleted::Yes));
    assert!(matches!(delete(&path), Deleted::WasGone));
    symlink("/etc/passwd", &path).expect("linked");
    assert!(matches!(delete(&path), Deleted::OtherBytes));
    assert!(exists(&path));
}

#[test]
fn across_file_systems_no_name_is_left_and_what_belongs_to_the_file_survives() {
    let Some((bench, _other)) = across() else { return };
    let path = bench.upload("a.png", b"bytes");
    let file = File::options().write(true).open(&path).expect("opened");
    let old = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000);
    file.set_times(std::fs::FileTimes::new().set_modified(old)).expect("set");
    file.set_permissions(std::fs::Permissions::from_mode(0o6640)).expect("set");
    assert!(matches!(bench.remove(&path, b"bytes"), Removal::Gone));
    assert_eq!(names(&bench.uploads), Vec::<String>::new());
    assert_eq!(bench.restore(&path, b"bytes").expect("restored"), None);
    assert_eq!(names(&bench.uploads), ["a.png"]);
    let meta = std::fs::metadata(&path).expect("there");
    assert_eq!((meta.mode() & 0o7777, meta.mtime()), (0o640, 1_000_000), "no set-user-id");
    assert_eq!(std::fs::read(&path).expect("there"), b"bytes");
}

#[test]
fn a_lock_is_waited_for() {
    let bench = bench();
    let lock = bench.quarantine.lock(Duration::ZERO).expect("locked").expect("free");
    assert!(bench.quarantine.lock(Duration::from_millis(120)).expect("asked").is_none());
    drop(lock);
    assert!(bench.quarantine.lock(Duration::ZERO).expect("locked").is_some());
}
