//! Two processes that move files of the same bytes: one is stopped at each step of its move while
//! the other runs, or is ended there for good. No interleaving loses a file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use modtool::moderation::{Action, ItemId, QueueFilter, QueueRows};
use modtool::pipeline::{STEPS, now, quarantined_at};
use modtool::store::Store;
use rustix::process::Signal;

use crate::support::fixtures::decision;
use crate::support::workspace::{PATIENCE, Running, Workspace, run};
use crate::support::{files_below, report};

/// What moves files, as people and services do it.
const MOVERS: [&[&str]; 4] = [
    // Judges again by the policies, and carries out what is due: here, a removal.
    &["rescore"],
    &["restore", "uploads/in/a.jpg"],
    &["purge", "--older-than", "1s", "--yes"],
    &["erase", "uploads/in/a.jpg", "--yes", "--reviewer", "ana"],
];

/// Three paths of the same bytes: `in/a.jpg` and `in/c.jpg` lie in the quarantine, `in/b.jpg` is to
/// go there.
struct Scene {
    workspace: Workspace,
    /// As it was before anything was tried.
    saved: PathBuf,
}

fn bytes() -> Vec<u8> {
    // No picture, so that a person is asked.
    vec![7; 300_000]
}

impl Scene {
    async fn new() -> Self {
        let workspace = Workspace::with_one_policy();
        fs::write(workspace.path().join("modtool.yaml"), "review: {grace_seconds: 0}\n")
            .expect("written");
        std::os::unix::fs::symlink(workspace.uploads(), workspace.path().join("uploads"))
            .expect("linked");
        workspace.upload("in/a.jpg", bytes());
        workspace.upload("in/c.jpg", bytes());
        workspace.upload("other.jpg", b"no picture either");
        workspace.scan().expect_code(1);
        let store = workspace.store().await;
        decide(&store).await;
        store.close().await;
        workspace.run(&["rescore"]).expect_code(0);
        assert!(!workspace.uploads().join("in/a.jpg").exists(), "a.jpg is in the quarantine");
        workspace.upload("in/b.jpg", bytes());
        workspace.scan().expect_code(1);
        let store = workspace.store().await;
        decide(&store).await;
        store.close().await;
        let saved = workspace.outside().join("saved");
        copy(&workspace.path(), &saved.join("workspace"));
        copy(&workspace.uploads(), &saved.join("uploads"));
        Self { workspace, saved }
    }

    /// Everything as it was at the beginning.
    fn again(&self) {
        for (name, folder) in
            [("workspace", self.workspace.path()), ("uploads", self.workspace.uploads())]
        {
            for entry in fs::read_dir(&folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() && !path.is_symlink() {
                    fs::remove_dir_all(path).expect("removed");
                } else {
                    fs::remove_file(path).expect("removed");
                }
            }
            copy(&self.saved.join(name), &folder);
        }
    }

    fn mover(&self, arguments: &[&str]) -> Command {
        let mut command = self.workspace.command(arguments);
        command.current_dir(self.workspace.path()).env("RUST_BACKTRACE", "0");
        command
    }

    /// Whether any file holds the bytes.
    fn is_somewhere(&self) -> bool {
        let item = ItemId::of_bytes(&bytes());
        let folders = [self.workspace.uploads(), self.workspace.path().join("quarantine")];
        let files = folders.iter().flat_map(|folder| files_below(folder));
        files.filter_map(|path| fs::read(path).ok()).any(|found| ItemId::of_bytes(&found) == item)
    }

    /// What is left is carried out by whoever comes next; then everything is where it says.
    async fn ends_well(&self, what: &str) {
        run(self.mover(&["rescore"])).expect_code(0);
        let store = self.workspace.store().await;
        let due = store.due_placements(now(), 10).await.expect("read");
        assert!(due.is_empty(), "{what}: still to be moved: {due:?}");
        for one in store.quarantined().await.expect("read") {
            let (item, path) = (one.placement.item, one.placement.sighting.path);
            let place = quarantined_at(&self.workspace.path().join("quarantine"), item);
            let held = fs::read(place).is_ok_and(|bytes| ItemId::of_bytes(&bytes) == item);
            assert!(held, "{what}: the quarantine does not hold {}", path.display());
            assert!(!path.exists(), "{what}: {} is still there", path.display());
        }
        store.close().await;
        let incoming = files_below(&self.workspace.path().join("quarantine/incoming"));
        assert!(incoming.is_empty(), "{what}: {incoming:?}");
        let stray = files_below(&self.workspace.uploads()).into_iter().find(|path| {
            path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".modtool"))
        });
        assert_eq!(stray, None, "{what}");
        self.workspace.run(&["audit", "verify"]).expect_code(0);
    }
}

/// Removes everything that is asked about, long enough ago to be purged.
async fn decide(store: &Store) {
    let filter = QueueFilter { rows: QueueRows::Tasks, ..QueueFilter::default() };
    let item = ItemId::of_bytes(&bytes());
    for task in store.queue(&filter, None, 10).await.expect("read") {
        if task.item == item {
            let decided = decision(&task, Action::Remove, "ana", now().0 - 60_000);
            store.record_decision(&decided).await.expect("decided");
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("a folder") {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).expect("an entry");
        if path.is_symlink() {
            let leads = fs::read_link(&path).expect("a link");
            std::os::unix::fs::symlink(leads, to.join(name)).expect("linked");
        } else if path.is_dir() {
            copy(&path, &to.join(name));
        } else {
            fs::copy(&path, to.join(name)).expect("copied");
        }
    }
}

/// Whether the process came to the step, and stands there; else it has ended.
fn stands(running: &mut Running) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if running.is_stopped() {
            return true;
        }
        if running.has_ended() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("it neither stops nor ends: {}", running.err());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_stopped_at_each_step_while_another_moves_the_same_bytes() {
    let scene = Scene::new().await;
    let mut stood = 0;
    for first in MOVERS {
        for step in STEPS {
            for second in MOVERS {
                scene.again();
                let what = format!("{first:?} stopped when {step}, meanwhile {second:?}");
                let mut command = scene.mover(first);
                command.env("MODTOOL_STOP_AT", step);
                let mut stopped = Running::start(command);
                if !stands(&mut stopped) {
                    // This one does not come by this step, whoever else runs.
                    break;
                }
                stood += 1;
                // It waits for the lock, which the stopped one has.
                let mut other = Running::start(scene.mover(second));
                std::thread::sleep(Duration::from_millis(150));
                stopped.signal(Signal::CONT);
                stopped.ended(PATIENCE);
                other.ended(PATIENCE);
                scene.ends_well(&what).await;
                let gone = [first, second].iter().any(|one| ["purge", "erase"].contains(&one[0]));
                assert!(gone || scene.is_somewhere(), "{what}: the bytes are lost");
                let erased = [first, second].iter().any(|one| one[0] == "erase");
                assert!(!erased || !scene.is_somewhere(), "{what}: erased, and still somewhere");
            }
        }
    }
    assert!(stood > 40, "only {stood} stops");
    report(&format!("two movers of the same bytes: {stood} interleavings, nothing lost"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_interrupted_removal_took_is_kept_until_it_is_back() {
    let scene = Scene::new().await;
    for step in ["taken", "unlinked"] {
        scene.again();
        let mut command = scene.mover(&["rescore"]);
        command.env("MODTOOL_END_AT", step);
        assert!(Running::start(command).ended(PATIENCE).code().is_none(), "ended when {step}");
        let path = scene.workspace.uploads().join("in/b.jpg");
        assert!(!path.exists(), "{step}");
        // Its removal is undone, and its twins go back before it does.
        run(scene.mover(&["queue", "undo", "--reviewer", "ana"])).expect_code(0);
        for twin in ["uploads/in/a.jpg", "uploads/in/c.jpg"] {
            run(scene.mover(&["restore", twin]));
        }
        scene.ends_well(step).await;
        assert_eq!(fs::read(&path).expect("it is back"), bytes(), "{step}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_ended_at_each_step_is_gone_on_with_by_the_next() {
    let scene = Scene::new().await;
    let mut ends = 0;
    for first in MOVERS {
        for step in STEPS {
            scene.again();
            let what = format!("{first:?} ended when {step}");
            let mut command = scene.mover(first);
            command.env("MODTOOL_END_AT", step);
            let ended = Running::start(command).ended(PATIENCE);
            if ended.code().is_some() {
                // This one does not come by this step.
                continue;
            }
            ends += 1;
            if first[0] == "erase" {
                // The item is known still, so the command can be given again.
                run(scene.mover(first)).expect_code(0);
                assert!(!scene.is_somewhere(), "{what}: not all of it is gone");
            }
            scene.ends_well(&what).await;
            assert!(
                ["purge", "erase"].contains(&first[0]) || scene.is_somewhere(),
                "{what}: the bytes are lost"
            );
        }
    }
    assert!(ends > 10, "only {ends} ends");
}
