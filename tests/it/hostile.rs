//! What somebody may try who can only write into the upload folder: links in the place of folders
//! and of temporary names, foreign rights, hard links, names like ours. Nothing outside their own
//! files is read, moved, written or deleted.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use modtool::moderation::ItemId;

use crate::support::workspace::{PATIENCE, Ran, Running, Workspace, run};
use crate::support::{skipped, until};

/// No picture, so that a person is asked.
const BYTES: &[u8] = b"not a picture, whatever its name says";

/// No grace period: what is decided is done at once.
fn workspace() -> Workspace {
    let workspace = Workspace::with_one_policy();
    fs::write(workspace.path().join("modtool.yaml"), "review: {grace_seconds: 0}\n")
        .expect("written");
    workspace
}

/// The folder goes away with what is in it, and a link of its name leads elsewhere.
fn swap_for_link(folder: &Path, target: &Path) {
    fs::remove_dir_all(folder).expect("removed");
    symlink(target, folder).expect("linked");
}

fn decide(workspace: &Workspace, action: &str) -> Ran {
    let item = ItemId::of_bytes(BYTES).to_string();
    workspace.run(&["queue", "decide", &item, "--action", action, "--reviewer", "ana"])
}

/// Waits until nothing is to be moved any more, or it is known why not.
async fn moved(workspace: &Workspace) {
    let store = workspace.store().await;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let due = store.due_placements(modtool::pipeline::now(), 10).await.expect("read");
        if due.is_empty() {
            return store.close().await;
        }
        assert!(Instant::now() < deadline, "still to be moved: {due:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_swapped_for_a_link_leads_no_command_outside() {
    let workspace = workspace();
    let outside = workspace.outside();
    let theirs = outside.join("a.jpg");
    fs::write(&theirs, BYTES).expect("written");
    let stays = || assert_eq!(fs::read(&theirs).expect("it stays"), BYTES);
    workspace.upload("sub/a.jpg", BYTES);
    let mut watcher = Running::watch(&workspace, &[]);
    until("it is judged", PATIENCE, || workspace.verdict(&workspace.uploads().join("sub/a.jpg")));
    // Removing.
    swap_for_link(&workspace.uploads().join("sub"), &outside);
    decide(&workspace, "remove").expect_code(0);
    moved(&workspace).await;
    stays();
    // Reading: events, scans, and files that are named.
    fs::write(outside.join("b.jpg"), b"other bytes, outside").expect("written");
    watcher.signal(rustix::process::Signal::TERM);
    watcher.ended(Duration::from_secs(20));
    workspace.scan();
    let known = workspace.run(&["export", "verdicts", "--all"]).out();
    let foreign = ItemId::of_bytes(b"other bytes, outside").to_string();
    assert!(!known.contains(&foreign), "a file outside was read: {known}");
    let scored = workspace.run(&["score", "uploads/sub/b.jpg", "--format", "json"]);
    assert!(!scored.out().contains(&foreign), "{}", scored.out());
    // Putting back.
    fs::remove_file(workspace.uploads().join("sub")).expect("removed");
    workspace.upload("sub/a.jpg", BYTES);
    workspace.scan().expect_code(1);
    // It comes to a person again: the removal did not reach it.
    decide(&workspace, "remove").expect_code(0);
    workspace.run(&["rescore"]).expect_code(0);
    moved(&workspace).await;
    assert!(!workspace.uploads().join("sub/a.jpg").exists());
    fs::remove_file(&theirs).expect("removed");
    swap_for_link(&workspace.uploads().join("sub"), &outside);
    let item = ItemId::of_bytes(BYTES).to_string();
    workspace.run(&["restore", &item]).expect_code(2);
    assert!(!theirs.exists(), "the restore wrote outside");
    // Erasing.
    fs::write(&theirs, BYTES).expect("written");
    workspace.run(&["erase", &item, "--yes", "--reviewer", "ana"]).expect_code(0);
    stays();
}

#[test]
fn a_name_like_ours_is_an_upload_like_any_other() {
    let workspace = workspace();
    let names = [
        ".modtool-7-0123456789abcdef.taken",
        ".modtool-0123456789abcdef0123456789abcdef.jpg",
        "quarantine/a.jpg",
        "policies/a.jpg",
        "vectors/a.jpg",
    ];
    for name in names {
        // A page of its own each, told by its bytes.
        let page = crate::support::pictures::png(&crate::support::pictures::page(7));
        workspace.upload(name, [page.as_slice(), name.as_bytes()].concat());
    }
    workspace.scan().expect_code(1);
    for name in names {
        assert!(workspace.verdict(&workspace.uploads().join(name)).is_some(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_is_out_of_reach_of_links_that_were_kept() {
    let workspace = workspace();
    let upload = workspace.upload("a.jpg", BYTES);
    let kept = workspace.outside().join("kept.jpg");
    fs::hard_link(&upload, &kept).expect("linked");
    workspace.scan().expect_code(1);
    decide(&workspace, "remove").expect_code(0);
    workspace.run(&["rescore"]).expect_code(0);
    moved(&workspace).await;
    assert!(!upload.exists());
    fs::write(&kept, b"tampered").expect("written");
    let item = ItemId::of_bytes(BYTES).to_string();
    workspace.run(&["restore", &item]).expect_code(0);
    assert_eq!(fs::read(&upload).expect("restored"), BYTES);
    assert_eq!(fs::read(&kept).expect("theirs"), b"tampered");
}

/// modtool as one user, an uploader as another; `None`, loudly, without root.
struct TwoUsers {
    dir: tempfile::TempDir,
    program: PathBuf,
}

const MODERATOR: u32 = 61_546;
const UPLOADER: u32 = 61_545;

impl TwoUsers {
    fn new(test: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            skipped(test, "it takes root to be two users");
            return None;
        }
        let dir = tempfile::tempdir().expect("a temporary folder");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("set");
        // The users need not be able to reach the place where it was built.
        let program = dir.path().join("modtool");
        fs::copy(env!("CARGO_BIN_EXE_modtool"), &program).expect("copied");
        for (folder, owner) in
            [("workspace", MODERATOR), ("data", MODERATOR), ("uploads", MODERATOR)]
        {
            fs::create_dir(dir.path().join(folder)).expect("made");
            chown(dir.path().join(folder), Some(owner), Some(owner)).expect("given");
        }
        let users = Self { dir, program };
        let settings = users.path("workspace/modtool.yaml");
        fs::write(&settings, "review: {grace_seconds: 0}\n").expect("written");
        chown(&settings, Some(MODERATOR), Some(MODERATOR)).expect("given");
        Some(users)
    }

    fn path(&self, below: &str) -> PathBuf {
        fs::canonicalize(self.dir.path()).expect("there").join(below)
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let mut command = Command::new(&self.program);
        command
            .env_clear()
            .env("MODTOOL_DATA_DIR", self.path("data"))
            .env("MODTOOL_WORKSPACE", self.path("workspace"))
            .current_dir(self.path("workspace"))
            .args(arguments)
            .args(["--engine", "tract"])
            .uid(MODERATOR)
            .gid(MODERATOR);
        run(command)
    }
}

#[test]
fn what_comes_back_has_no_rights_that_it_did_not_need_and_says_whose_it_was() {
    let Some(users) = TwoUsers::new("restoring another user's file") else { return };
    let folder = users.path("uploads/theirs");
    fs::create_dir(&folder).expect("made");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).expect("set");
    let upload = folder.join("a.jpg");
    fs::write(&upload, BYTES).expect("written");
    chown(&upload, Some(UPLOADER), Some(UPLOADER)).expect("given");
    fs::set_permissions(&upload, fs::Permissions::from_mode(0o6755)).expect("set");
    let uploads = users.path("uploads");
    let uploads = uploads.to_str().expect("UTF-8");
    users.run(&["scan", uploads]).expect_code(1);
    let item = ItemId::of_bytes(BYTES).to_string();
    let remove = ["queue", "decide", &item, "--action", "remove", "--reviewer", "ana"];
    users.run(&remove).expect_code(0);
    users.run(&["rescore"]).expect_code(0);
    assert!(!upload.exists(), "{}", users.run(&["quarantine"]).out());
    let restored = users.run(&["restore", &item]).expect_code(0).out();
    assert!(restored.contains("chown 61545:61545"), "{restored}");
    let meta = fs::metadata(&upload).expect("restored");
    assert_eq!((meta.mode() & 0o7777, meta.uid()), (0o755, MODERATOR));
    let listed = users.run(&["quarantine", "--format", "json"]).expect_code(0).json_lines();
    let said = listed[0]["not_given_back"].as_str().expect("it says so");
    assert!(said.contains("user 61545"), "{said}");
    assert!(users.run(&["quarantine"]).out().contains("chown 61545:61545"));
}

/// How much the process has computed, in hundredths of a second (proc(5)).
fn ticks(running: &Running) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", running.pid().as_raw_nonzero()));
    let stat = stat.expect("it runs");
    let mut fields = stat.rsplit(')').next().expect("a name").split_whitespace().skip(11);
    let mut next = || fields.next().and_then(|ticks| ticks.parse::<u64>().ok()).expect("a number");
    next() + next()
}

#[test]
fn reading_uploads_a_hundred_thousand_times_costs_the_watcher_nothing() {
    let workspace = workspace();
    let upload = workspace.upload("a.txt", b"text");
    let watcher = Running::watch(&workspace, &[]);
    let (before, start) = (ticks(&watcher), Instant::now());
    for _ in 0..100_000 {
        fs::File::open(&upload).expect("opened");
    }
    let (read, took) = (ticks(&watcher), start.elapsed());
    // What it does anyway in as long a time.
    std::thread::sleep(took);
    let (spent, idle) = (read - before, ticks(&watcher) - read);
    // Listening to every opening takes over a second.
    assert!(spent < idle + 40, "{spent} hundredths of a second, and {idle} without readers");
}
