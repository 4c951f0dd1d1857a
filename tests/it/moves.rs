//! Files on their way into the quarantine, back and out of the world, killed in the middle of it:
//! nothing is lost, nothing is left half way.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use modtool::moderation::{Action, ItemId, QueueFilter, QueueRows};
use modtool::pipeline::now;
use modtool::store::Store;
use rustix::process::Signal;
use sqlx::Row as _;

use crate::store::raw;
use crate::support::fixtures::{decision, reviewer};
use crate::support::pictures::Dice;
use crate::support::workspace::{PATIENCE, Running, Workspace};
use crate::support::{files_below, kills, report, skipped};

/// A placement as the database holds it.
struct Placed {
    path: PathBuf,
    item: ItemId,
    wanted: String,
    state: String,
}

/// Every file that was uploaded, by path.
type Files = BTreeMap<PathBuf, ItemId>;

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_of_moves_no_file_is_lost() {
    let workspace = Workspace::with_one_policy();
    killed_in_the_middle(&workspace, kills(8, 250), "one file system").await;
}

/// Moves are copies then, and take longer.
#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_of_moves_across_file_systems_no_file_is_lost() {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(other) = tempfile::tempdir_in("/dev/shm") else {
        skipped("moves across file systems", "there is no /dev/shm to write to");
        return;
    };
    let workspace = Workspace::with_one_policy();
    let device = |path: &Path| fs::metadata(path).expect("it is there").dev();
    if device(other.path()) == device(&workspace.path()) {
        skipped("moves across file systems", "/dev/shm is on the same one");
        return;
    }
    std::os::unix::fs::symlink(other.path(), workspace.path().join("quarantine")).expect("linked");
    killed_in_the_middle(&workspace, kills(6, 250), "two file systems").await;
}

async fn killed_in_the_middle(workspace: &Workspace, kills: u32, what: &str) {
    fs::write(workspace.path().join("modtool.yaml"), "review: {grace_seconds: 0}\n")
        .expect("written");
    let mut files = Files::new();
    for seed in 0..24_u8 {
        // No picture, so that a person is asked; large enough for a move to take its time.
        let bytes = vec![seed; 200_000 + usize::from(seed)];
        let item = ItemId::of_bytes(&bytes);
        files.insert(workspace.upload(format!("{seed}.jpg"), &bytes), item);
        if seed % 5 == 0 {
            files.insert(workspace.upload(format!("again/{seed}.jpg"), &bytes), item);
        }
    }
    workspace.scan().expect_code(1);
    let mut dice = Dice(11);
    let (mut in_the_middle, mut gone) = (0, BTreeSet::new());
    for kill in 0..kills {
        decide_something(workspace, &mut dice).await;
        let before = lying_at(&files);
        let moves = dice.below(8) as usize;
        // The purge comes late, so that there is something to lose until then.
        let purges = kill % 4 == 3 && kill > kills / 2;
        let mut command = if purges {
            workspace.command(&["purge", "--older-than", "10s", "--yes"])
        } else {
            workspace.command(&["watch", "uploads"])
        };
        command.env("RUST_BACKTRACE", "0");
        let mut running = Running::start(command);
        let deadline = Instant::now() + Duration::from_secs(if purges { 2 } else { 4 });
        while Instant::now() < deadline {
            let changes = lying_at(&files).symmetric_difference(&before).count();
            if changes > moves || (purges && quarantined(workspace) < moves) {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        running.signal(Signal::KILL);
        running.ended(PATIENCE);
        let placed = placements(workspace).await;
        in_the_middle += usize::from(placed.iter().any(|one| one.wanted != one.state));
        gone.extend(placed.iter().filter(|one| one.wanted == "purged").map(|one| one.item));
        let there = items_anywhere(workspace);
        for (path, item) in &files {
            assert!(
                there.contains(item) || gone.contains(item),
                "{} is lost after kill {kill}",
                path.display()
            );
        }
    }
    assert!(in_the_middle > 0, "the kills came too late to prove anything");
    end_well(workspace, &gone).await;
    report(&format!(
        "kill -9 in the middle of moves, {what}: {kills} kills ({in_the_middle} with moves left) over \
         {} files: none lost, none half way, audit chain good",
        files.len()
    ));
}

/// Removes, approves and takes back, as several people at a queue do.
async fn decide_something(workspace: &Workspace, dice: &mut Dice) {
    let store = workspace.store().await;
    for _ in 0..dice.below(6) {
        store.undo(&reviewer("ana"), now()).await.expect("undone");
    }
    let filter = QueueFilter { rows: QueueRows::Tasks, ..QueueFilter::default() };
    for task in store.queue(&filter, None, 100).await.expect("read") {
        let action = match dice.below(5) {
            0 => continue,
            1 => Action::Approve,
            _ => Action::Remove,
        };
        // Long enough ago to be purged.
        let decided = decision(&task, action, "ana", now().0 - 60_000);
        store.record_decision(&decided).await.expect("decided");
    }
    store.close().await;
}

/// The uploads that lie at their paths.
fn lying_at(files: &Files) -> BTreeSet<PathBuf> {
    files.keys().filter(|path| path.exists()).cloned().collect()
}

/// How many files of items lie in the quarantine.
fn quarantined(workspace: &Workspace) -> usize {
    let is_item = |path: &PathBuf| path.file_name().is_some_and(|name| name.len() == 64);
    files_below(&workspace.path().join("quarantine")).iter().filter(|path| is_item(path)).count()
}

/// Whatever name their bytes lie under at this moment.
fn items_anywhere(workspace: &Workspace) -> BTreeSet<ItemId> {
    let folders = [workspace.uploads(), workspace.path().join("quarantine")];
    let files = folders.iter().flat_map(|folder| files_below(folder));
    files.filter_map(|path| Some(ItemId::of_bytes(&fs::read(path).ok()?))).collect()
}

async fn placements(workspace: &Workspace) -> Vec<Placed> {
    let pool = raw(&workspace.path().join("modtool.db")).await;
    let rows = sqlx::query(
        "SELECT p.path, i.hash, p.wanted, p.state FROM placements AS p
         JOIN items AS i ON i.id = p.item",
    );
    let rows = rows.fetch_all(&pool).await.expect("read");
    pool.close().await;
    let placed = |row: &sqlx::sqlite::SqliteRow| Placed {
        path: String::from_utf8(row.get("path")).expect("our own name").into(),
        item: ItemId::from_bytes(row.get::<Vec<u8>, _>("hash").try_into().expect("32 bytes")),
        wanted: row.get("wanted"),
        state: row.get("state"),
    };
    rows.iter().map(placed).collect()
}

/// A watcher that is left alone brings every file where it is wanted.
async fn end_well(workspace: &Workspace, gone: &BTreeSet<ItemId>) {
    let mut watcher = Running::watch(workspace, &[]);
    let store = workspace.store().await;
    settle(&store).await;
    store.close().await;
    watcher.signal(Signal::TERM);
    assert_eq!(watcher.ended(Duration::from_secs(10)).code(), Some(0), "{}", watcher.err());
    let placed = placements(workspace).await;
    let inside: BTreeSet<ItemId> =
        placed.iter().filter(|one| one.state == "quarantined").map(|one| one.item).collect();
    for one in &placed {
        let (path, item) = (&one.path, one.item);
        let here = fs::read(path).is_ok_and(|bytes| ItemId::of_bytes(&bytes) == item);
        match one.state.as_str() {
            "in_place" => assert!(here || gone.contains(&item), "{} is gone", path.display()),
            _ => assert!(!here, "{} is still there", path.display()),
        }
        let name = item.to_string();
        let place = workspace.path().join("quarantine").join(&name[..2]).join(&name);
        let held = fs::read(&place).is_ok_and(|bytes| ItemId::of_bytes(&bytes) == item);
        assert_eq!(held, inside.contains(&item), "{}, {}", place.display(), one.state);
    }
    let names = files_below(&workspace.path().join("quarantine"));
    let half = |path: &&PathBuf| path.parent().is_some_and(|folder| folder.ends_with("incoming"));
    assert_eq!(names.iter().filter(half).collect::<Vec<_>>(), Vec::<&PathBuf>::new());
    let stray = files_below(&workspace.uploads());
    let ours = |path: &&PathBuf| path.file_name().is_some_and(|n| n.as_encoded_bytes()[0] == b'.');
    assert_eq!(stray.iter().filter(ours).collect::<Vec<_>>(), Vec::<&PathBuf>::new());
    workspace.run(&["audit", "verify"]).expect_code(0);
}

async fn settle(store: &Store) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = store.due_placements(modtool::moderation::Timestamp(i64::MAX), 100).await;
        let left = left.expect("read");
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "still to be moved: {left:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
