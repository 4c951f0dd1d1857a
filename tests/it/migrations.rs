//! Databases of earlier versions, opened with every migration since: nothing is lost, and what an
//! earlier version got wrong is repaired.

use std::fs;
use std::path::{Path, PathBuf};

use modtool::moderation::{Action, AuditKind, Outcome, QueueFilter, QueueRows, Timestamp};
use modtool::store::{BankFilter, Store, Subscription, check_copy};
use serde_json::Value;
use sqlx::Row as _;
use tempfile::TempDir;

use crate::store::raw;
use crate::support::fixtures::reviewer;

/// A copy that may be changed.
fn copy_of(name: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("modtool.db");
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/databases").join(name);
    fs::copy(from, &path).expect("copied");
    (dir, path)
}

async fn opened(name: &str) -> (TempDir, Store) {
    let (dir, path) = copy_of(name);
    let store = Store::open(&path).await.expect("every migration runs");
    (dir, store)
}

#[tokio::test]
async fn nothing_is_lost_on_the_way_from_before_migration_16() {
    let (_dir, store) = opened("before-0016.db").await;
    let chain = store.verify_audit(None).await.expect("read").expect("the chain holds");
    assert_eq!((chain.events, chain.erased), (33, 0));
    let verdicts = store.export_verdicts(0, true, 100).await.expect("read");
    assert_eq!(verdicts.len(), 19);
    for outcome in [Outcome::Allow, Outcome::Review, Outcome::Block] {
        assert!(verdicts.iter().any(|row| row.outcome == outcome), "{outcome:?}");
    }
    assert!(verdicts.iter().all(|row| row.path.starts_with("/srv/uploads")));
    let twins = verdicts.iter().filter(|row| row.path.ends_with("twin.png"));
    assert_eq!(twins.count(), 1);
    let filter = QueueFilter { rows: QueueRows::Tasks, ..QueueFilter::default() };
    let queue = store.queue(&filter, None, 100).await.expect("read");
    let detail = store.task_detail(queue[0].id).await.expect("read").expect("there");
    assert!(!queue.is_empty() && !detail.policies.is_empty());
    let decisions = store.decision_log(0, 100).await.expect("read");
    assert_eq!(decisions.len(), 9);
    assert!(decisions.iter().any(|(_, _, action)| action.is_none()), "an undo");
    let quarantined = store.quarantined().await.expect("read");
    assert_eq!((quarantined.len(), quarantined[0].decision), (1, Some(Action::Remove)));
    let bank = store.bank_entries(&BankFilter::default(), 0, 100).await.expect("read");
    assert!(bank.len() >= 5 && bank.iter().any(|entry| entry.action == Action::Remove));
    let beats = store.watcher_beats().await.expect("read");
    assert_eq!((beats.len(), beats[0].root.as_path()), (1, Path::new("/srv/uploads")));
    let item = queue.iter().map(|task| task.item).next().expect("a task");
    assert!(store.item_number(item).await.expect("read").is_some());
    // And it goes on as ever.
    let opened = store.open_by_hand(item, &reviewer("ana"), Timestamp(1)).await;
    assert!(opened.expect("written").is_some());
}

#[tokio::test]
async fn a_database_of_an_earlier_version_counts_as_a_good_copy() {
    let (_dir, path) = copy_of("before-0016.db");
    let facts = check_copy(&path, &path).await.expect("good");
    assert_eq!((facts.items, facts.sightings, facts.decisions), (17, 19, 9));
    Store::open(&path).await.expect("every migration runs").close().await;
    check_copy(&path, &path).await.expect("good as it is now");
}

/// The hooks of the database, and one that is new.
fn hooks() -> [Subscription; 3] {
    let hook = |name: &str, kinds: &[AuditKind]| Subscription {
        name: name.to_owned(),
        kinds: kinds.to_vec(),
    };
    let decisions = [AuditKind::Decision, AuditKind::Undo];
    let all = [AuditKind::Verdict, AuditKind::Decision, AuditKind::Undo, AuditKind::Quarantined];
    [hook("site", &decisions), hook("everything", &all), hook("new", &all)]
}

async fn due(store: &Store, hook: &str) -> Vec<i64> {
    let (now, until) = (Timestamp(i64::MAX / 2), Timestamp(i64::MAX));
    let taken = store.take_deliveries(hook, now, until, 1000).await.expect("taken");
    taken.iter().map(|delivery| delivery.sequence).collect()
}

#[tokio::test]
async fn hooks_are_told_what_an_earlier_version_passed_over() {
    let (_dir, store) = opened("before-0016.db").await;
    store.fill_hooks(&hooks(), Timestamp(1)).await.expect("filled");
    let events = store.audit_events(0, 100).await.expect("read");
    for hook in &hooks()[..2] {
        // These were told nothing after event 18.
        let missed =
            events.iter().filter(|row| row.sequence > 18 && hook.kinds.contains(&row.event.kind));
        let missed: Vec<_> = missed.map(|row| row.sequence).collect();
        let due = due(&store, &hook.name).await;
        assert!(missed.len() >= 6, "{missed:?}");
        assert!(due.ends_with(&missed), "{}: {due:?} lacks some of {missed:?}", hook.name);
        // Before the first task there was nothing to lease: that is not told again.
        assert!(!due.contains(&1), "{due:?}");
    }
    assert_eq!(due(&store, "new").await, [0_i64; 0], "it begins with what happens from now on");
    // Once is enough.
    assert_eq!(store.fill_hooks(&hooks(), Timestamp(2)).await.expect("filled"), 0);
    let counts = store.hook_counts().await.expect("read");
    assert!(counts.iter().all(|hook| hook.dead == 0), "{counts:?}");
}

#[tokio::test]
async fn what_was_missed_long_ago_shows_as_given_up() {
    let (_dir, path) = copy_of("before-0016.db");
    let pool = raw(&path).await;
    // The last event happened two months after the others.
    for statement in [
        "DROP TRIGGER audit_events_never_change",
        "UPDATE audit_events SET at = at + 5184000000 WHERE sequence = 33",
    ] {
        sqlx::query(statement).execute(&pool).await.expect("changed");
    }
    let told = "SELECT group_concat(sequence) FROM audit_events WHERE sequence > 18
                AND kind IN ('decision', 'undo')";
    let told: String = sqlx::query(told).fetch_one(&pool).await.expect("read").get(0);
    pool.close().await;
    let store = Store::open(&path).await.expect("every migration runs");
    store.fill_hooks(&hooks()[..1], Timestamp(1)).await.expect("filled");
    let before = due(&store, "site").await;
    assert!(before.iter().all(|sequence| *sequence == 33), "{before:?}");
    let counts = store.hook_counts().await.expect("read");
    let site = counts.iter().find(|hook| hook.name == "site").expect("it is known");
    assert!(site.dead >= 6, "{counts:?}");
    assert!(site.problem.as_ref().is_some_and(|why| why.contains("earlier version")));
    store.revive_deliveries("site", Timestamp(2)).await.expect("revived");
    let mut all = [due(&store, "site").await, before].concat();
    all.sort_unstable();
    let told: Vec<i64> = serde_json::from_value(
        serde_json::from_str::<Value>(&format!("[{told}]")).expect("a list of numbers"),
    )
    .expect("numbers");
    assert!(all.ends_with(&told), "{all:?} {told:?}");
}

#[tokio::test]
async fn cursors_that_no_lease_moved_stay_as_they_are() {
    let (_dir, path) = copy_of("before-0016.db");
    let pool = raw(&path).await;
    for statement in [
        "DELETE FROM sqlite_sequence WHERE name = 'leases'",
        "UPDATE hooks SET sequence = 20 WHERE name = 'site'",
        "UPDATE hooks SET sequence = 33 WHERE name = 'everything'",
    ] {
        sqlx::query(statement).execute(&pool).await.expect("changed");
    }
    pool.close().await;
    let store = Store::open(&path).await.expect("every migration runs");
    store.fill_hooks(&hooks()[..2], Timestamp(1)).await.expect("filled");
    let due_now = due(&store, "site").await;
    assert!(due_now.first().is_some_and(|first| *first > 20), "{due_now:?}");
    assert_eq!(due(&store, "everything").await, [0_i64; 0]);
}
