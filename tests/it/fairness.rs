//! One uploader can't stop the others: attacks by whoever has a folder and nothing else.

use std::fs::{self, File, FileTimes};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::support::odd::animated_gif;
use crate::support::pictures::{meadow, noise, page, png};
use crate::support::workspace::{PATIENCE, Running, Workspace, run};
use crate::support::{skipped, until};

/// A user that owns nothing else.
const SOMEBODY: u32 = 65_534;

/// Something that goes on beside a test until it is dropped.
struct Beside {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Beside {
    fn start(mut again: impl FnMut() + Send + 'static) -> Self {
        let ended = Arc::<AtomicBool>::default();
        let until = Arc::clone(&ended);
        let thread = std::thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                again();
            }
        });
        Self { ended, thread: Some(thread) }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(Err(panicked)) = self.thread.take().map(JoinHandle::join)
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panicked);
        }
    }
}

/// Gives files a new time, again and again.
fn touching(files: Vec<PathBuf>, pause: Duration) -> Beside {
    Beside::start(move || {
        for path in &files {
            // It may be gone.
            if let Ok(file) = File::options().write(true).open(path) {
                #[expect(clippy::disallowed_methods, reason = "what `touch` sets")]
                let times = FileTimes::new().set_modified(SystemTime::now());
                file.set_times(times).expect("times are set");
            }
        }
        std::thread::sleep(pause);
    })
}

fn settings(workspace: &Workspace, text: &str) {
    fs::write(workspace.path().join("modtool.yaml"), text).expect("written");
}

fn judged(workspace: &Workspace, path: &Path) -> Value {
    let what = format!("{} is judged", path.display());
    until(&what, PATIENCE, || workspace.verdict(path))
}

fn status(workspace: &Workspace, more: &[&str]) -> (i32, Value) {
    let arguments = [&["status", "--format", "json"], more].concat();
    let ran = workspace.run(&arguments);
    (ran.code, ran.json_lines().remove(0))
}

#[test]
fn files_that_are_touched_all_the_time_take_no_place_from_others() {
    let workspace = Workspace::with_one_policy();
    let pictures = (0..700).map(|n| workspace.upload(format!("eve/{n}.png"), b"no picture"));
    let others = (0..700).map(|n| workspace.upload(format!("eve/{n}.txt"), b"x"));
    let _touching = touching(pictures.chain(others).collect(), Duration::from_millis(500));
    let _watcher = Running::start(workspace.command(&["watch", "uploads"]));
    until("the database is there", PATIENCE, || {
        workspace.path().join("modtool.db").exists().then_some(())
    });
    for name in ["bob/a.png", "bob/b.png"] {
        let start = Instant::now();
        let path = workspace.upload(name, png(&page(1)));
        judged(&workspace, &path);
        // Two seconds on a machine that does nothing else.
        assert!(start.elapsed() < Duration::from_mins(1), "{name}: {:?}", start.elapsed());
    }
}

#[test]
fn slow_animations_of_one_uploader_do_not_hold_up_another_picture() {
    let workspace = Workspace::with_one_policy();
    let watcher = Running::watch(&workspace, &["--format", "json"]);
    let frames: Vec<_> = (0..120).map(noise).collect();
    let slow = animated_gif(&frames);
    for n in 0..40_u8 {
        workspace.upload(format!("eve/{n}.gif"), [&slow[..], &[n]].concat());
    }
    let path = workspace.upload("bob/bad.png", png(&page(1)));
    judged(&workspace, &path);
    let is_slow = |row: &&Value| row["path"].as_str().is_some_and(|path| path.contains(".gif"));
    let done = workspace.verdicts().iter().filter(is_slow).count();
    assert!(done < 20, "{done} of 40 animations went first; {}", watcher.err());
}

#[test]
fn what_never_rests_is_judged_all_the_same_and_what_still_grows_is_pending() {
    let workspace = Workspace::with_one_policy();
    settings(&workspace, "watch: {settle_max: 2, alarm_lag: 5}\n");
    let _watcher = Running::watch(&workspace, &[]);
    let bad = workspace.upload("bad.png", png(&page(1)));
    let _touching = touching(vec![bad.clone()], Duration::from_millis(100));
    let whole = png(&meadow(2));
    let growing = workspace.upload("growing.png", &whole[..100]);
    let (path, rest) = (growing.clone(), whole.clone());
    let mut length = 100;
    let growth = Beside::start(move || {
        length = (length + 1).min(rest.len() - 1);
        fs::write(&path, &rest[..length]).expect("written");
        std::thread::sleep(Duration::from_millis(50));
    });
    assert_eq!(judged(&workspace, &bad)["outcome"], "review");
    let told = until("status is unhealthy", PATIENCE, || {
        let (code, told) = status(&workspace, &[]);
        (code == 1).then_some(told)
    });
    assert_eq!((&told["healthy"], &told["live"]), (&Value::Bool(false), &Value::Bool(true)));
    assert_eq!(told["watchers"][0]["stuck"][0]["path"], growing.to_str().expect("UTF-8"));
    assert_eq!(status(&workspace, &["--live"]).0, 0, "a new start would not help");
    assert!(workspace.verdict(&growing).is_none(), "nothing is said of what still grows");
    drop(growth);
    fs::write(&growing, &whole).expect("written");
    assert_ne!(judged(&workspace, &growing)["reason"], "undecodable");
}

#[test]
fn a_folder_that_can_not_be_read_waits_for_a_person_until_it_can() {
    let workspace = Workspace::with_one_policy();
    let bad = workspace.upload("eve/bad.png", png(&page(1)));
    let good = workspace.upload("bob/good.png", png(&meadow(1)));
    let eve = workspace.uploads().join("eve");
    let mode = |mode| fs::set_permissions(&eve, fs::Permissions::from_mode(mode)).expect("set");
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        // Root reads everything, so someone else must scan, in a workspace of their own.
        for path in [&workspace.path(), &workspace.path().join("policies"), &workspace.data()] {
            std::os::unix::fs::chown(path, Some(SOMEBODY), Some(SOMEBODY)).expect("changed");
        }
        let all = workspace.uploads();
        let above = all.parent().expect("the temporary folder");
        fs::set_permissions(above, fs::Permissions::from_mode(0o755)).expect("set");
    }
    let command = || {
        let mut scan = workspace.command(&["scan", "uploads"]);
        if is_root {
            scan.uid(SOMEBODY).gid(SOMEBODY);
        }
        scan
    };
    if command().arg("--help").output().is_err() {
        skipped("a folder that can't be read", "another user can't run the binary from here");
        return;
    }
    let scan = || run(command());
    for closed in [0o711, 0o744, 0o000] {
        mode(closed);
        let ran = scan();
        assert_eq!(ran.code, 1, "{closed:o}: {}", ran.err());
        let row = workspace.verdict(&eve).unwrap_or_else(|| panic!("a row: {}", ran.err()));
        let reason = row["reason"].as_str().expect("a reason");
        assert!(reason.starts_with("unreadable: folder"), "{closed:o}: {reason}");
        assert_eq!(workspace.verdict(&good).expect("judged")["outcome"], "allow");
        mode(0o755);
        // What is in it is flagged now.
        scan().expect_code(1);
        assert_eq!(workspace.verdict(&bad).expect("judged")["outcome"], "review");
        fs::remove_file(&bad).expect("removed");
        fs::write(&bad, png(&page(2 + u64::from(closed)))).expect("written");
        let open = workspace.run(&["queue", "list", "--format", "json"]).json_lines();
        let about = |row: &Value| row["path"].as_str() == eve.to_str();
        assert!(!open.iter().any(about), "{closed:o}: it can be read again");
    }
}

#[test]
fn a_scan_finds_what_was_rewritten_through_a_mapping() {
    // Only there, times stay as they are.
    let Ok(shared) = tempfile::tempdir_in("/dev/shm") else {
        skipped("rewritten through a mapping", "there is no /dev/shm");
        return;
    };
    let workspace = Workspace::with_one_policy();
    let (good, bad) = (png(&meadow(1)), png(&page(1)));
    let size = good.len().max(bad.len());
    let padded = |bytes: &[u8]| {
        let mut bytes = bytes.to_owned();
        bytes.resize(size, 0);
        bytes
    };
    let path = fs::canonicalize(shared.path()).expect("there").join("a.png");
    fs::write(&path, padded(&good)).expect("written");
    let mut mapping = Mapping::of(&path, size);
    mapping.write(&padded(&good));
    let folder = shared.path().to_str().expect("UTF-8").to_owned();
    workspace.run(&["scan", &folder]).expect_code(0);
    let before = fs::metadata(&path).expect("there").modified().expect("a time");
    mapping.write(&padded(&bad));
    let after = fs::metadata(&path).expect("there").modified().expect("a time");
    drop(mapping);
    if before == after {
        workspace.run(&["scan", &folder, "--trust-times"]).expect_code(0);
    }
    workspace.run(&["scan", &folder]).expect_code(1);
    workspace.run(&["scan", &folder]).expect_code(1);
}

/// A file's pages, shared with all who read it.
struct Mapping {
    area: *mut std::ffi::c_void,
    size: usize,
}

#[expect(unsafe_code, reason = "there is no safe way to a shared mapping")]
impl Mapping {
    fn of(path: &Path, size: usize) -> Self {
        use rustix::mm::{MapFlags, ProtFlags, mmap};
        let file = File::options().read(true).write(true).open(path).expect("opened");
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the system chooses where, and nothing else knows of the area.
        let area =
            unsafe { mmap(std::ptr::null_mut(), size, protection, MapFlags::SHARED, &file, 0) };
        Self { area: area.expect("mapped"), size }
    }

    fn write(&mut self, bytes: &[u8]) {
        assert_eq!(bytes.len(), self.size);
        // SAFETY: the area is that large, and the file is not cut off by this test.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.area.cast(), self.size) };
    }
}

impl Drop for Mapping {
    #[expect(unsafe_code, reason = "there is no safe way to a shared mapping")]
    fn drop(&mut self) {
        // SAFETY: it was mapped by `of`, and nobody uses it any more.
        unsafe { rustix::mm::munmap(self.area, self.size) }.expect("unmapped");
    }
}
