//! Writing the same bytes again is no news: an uploader who does nothing else makes nothing grow.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use modtool::moderation::{
    Action, Arming, ItemId, OnBlock, Outcome, Policy, Reason, Severity, Timestamp, Verdict,
};
use modtool::store::{FileStat, Judged, Place, Recorded, Standing};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Row as _};

use crate::store::{BY_TEST, Bench, raw};
use crate::support::fixtures::{Judges, judged_with, policy, reviewer, unread};
use crate::support::pictures::{noise, page, png};
use crate::support::until;
use crate::support::workspace::{PATIENCE, Running, Workspace};

/// How many rows every table has, and how often the bank was hit.
async fn sizes(bench: &Bench) -> BTreeMap<String, i64> {
    let pool = raw(bench.store.path()).await;
    let tables = sqlx::query(AssertSqlSafe(format!(
        "SELECT name FROM sqlite_schema WHERE type = 'table' {BY_TEST}"
    )));
    let mut sizes = BTreeMap::new();
    for table in tables.fetch_all(&pool).await.expect("the tables") {
        let table: String = table.get(0);
        let count = AssertSqlSafe(format!("SELECT count(*) FROM {table} {BY_TEST}"));
        let count = sqlx::query(count).fetch_one(&pool).await.expect("counted").get(0);
        sizes.insert(table, count);
    }
    let hits = AssertSqlSafe(format!("SELECT coalesce(sum(hits), 0) FROM bank {BY_TEST}"));
    let hits = sqlx::query(hits).fetch_one(&pool).await.expect("summed").get(0);
    sizes.insert("hits of the bank".into(), hits);
    pool.close().await;
    sizes
}

/// As of a later look at the same file.
fn touched(judged: &Judged, at: i64) -> Judged {
    let stat = FileStat { mtime_ns: at, ctime_ns: at, inode: at.unsigned_abs(), ..judged.stat };
    Judged { stat, ..judged.clone() }
}

fn undecodable(bench: &Bench, name: &str) -> Judged {
    let mut broken = bench.judges.judged(name, name.as_bytes(), &[]);
    broken.verdict = Verdict::unjudged(Reason::Undecodable("cut off".into()));
    (broken.views, broken.facts) = (Vec::new(), None);
    broken
}

#[tokio::test]
async fn two_thousand_rewrites_leave_no_trace() {
    let bench = Bench::new().await;
    let removed = bench.judges.judged("removed.png", b"removed", &[0.7, 0.1]);
    bench.judges.record(&bench.store, removed.clone(), 1).await;
    bench.decide(Action::Remove, "ana", 2).await;
    let all = [
        bench.judges.judged("allowed.png", b"allowed", &[0.1, 0.1]),
        bench.judges.judged("flagged.png", b"flagged", &[0.7, 0.6]),
        bench.judges.judged("blocked.png", b"blocked", &[0.95, 0.1]),
        undecodable(&bench, "broken.png"),
        unread("secret.png"),
        removed,
        // What was removed comes back at another path.
        bench.judges.judged("again.png", b"removed", &[0.7, 0.1]),
    ];
    let judged_by = &bench.judges.judged_by;
    let first = bench.store.record_verdicts(judged_by, &all, Timestamp(3)).await.expect("written");
    let fresh = first.iter().filter(|recorded| !recorded.repeat).count();
    assert_eq!(fresh, all.len() - 1, "all but the removed one are new: {first:?}");
    assert_eq!(first[6].reason, Some(Reason::RemovedBefore));
    let before = sizes(&bench).await;
    for round in 0..300 {
        let again: Vec<_> = all.iter().map(|judged| touched(judged, 1000 + round)).collect();
        let again = bench.store.record_verdicts(judged_by, &again, Timestamp(4 + round)).await;
        for (again, first) in again.expect("written").iter().zip(&first) {
            let (outcome, reason) = (first.outcome, first.reason.clone());
            let told =
                Recorded { outcome, reason, task_opened: false, new_item: false, repeat: true };
            assert_eq!(*again, told);
        }
    }
    assert_eq!(sizes(&bench).await, before);
    // But it is known how the files are now.
    let last = all.map(|judged| (judged.sighting.path.clone(), touched(&judged, 1299).stat));
    let standing = bench.store.standing(&last, &judged_with()).await;
    assert!(standing.expect("read").iter().all(|standing| *standing != Standing::New));
}

#[tokio::test]
async fn other_bytes_and_back_again_is_news_every_time() {
    let bench = Bench::new().await;
    bench.record("a.png", b"a", &[0.1, 0.1], 1).await;
    for at in [2, 4, 6] {
        assert!(!bench.record("a.png", b"b", &[0.1, 0.1], at).await.repeat);
        assert!(!bench.record("a.png", b"a", &[0.1, 0.1], at + 1).await.repeat);
    }
    assert_eq!(bench.rows("audit_events").await, 7);
}

#[tokio::test]
async fn another_verdict_or_another_judge_is_news() {
    let bench = Bench::new().await;
    bench.record("a.png", b"a", &[0.1, 0.1], 1).await;
    let broken = Judged {
        verdict: Verdict::unjudged(Reason::Undecodable("too large".into())),
        ..bench.judges.judged("a.png", b"a", &[])
    };
    let broken = bench.judges.record(&bench.store, broken, 2).await;
    assert!(!broken.repeat && broken.outcome == Outcome::Review);
    assert!(!bench.record("a.png", b"a", &[0.1, 0.1], 3).await.repeat);
    let others = Judges::announce(&bench.store, vec![policy("alcohol", Severity::Low)]).await;
    let by_others = others.judged("a.png", b"a", &[0.1]);
    assert!(!others.record(&bench.store, by_others.clone(), 4).await.repeat);
    assert!(others.record(&bench.store, by_others, 5).await.repeat);
}

#[tokio::test]
async fn a_repeat_that_changes_what_people_are_asked_is_news() {
    let bench = Bench::new().await;
    bench.record("a.png", b"a", &[0.7, 0.1], 1).await;
    bench.decide(Action::Approve, "ana", 2).await;
    assert!(bench.record("a.png", b"a", &[0.7, 0.1], 3).await.repeat, "a person has looked");
    // A person wants to look again: the task gets what flags it, once.
    let item = ItemId::of_bytes(b"a");
    let opened = bench.store.open_by_hand(item, &reviewer("ana"), Timestamp(4)).await;
    assert!(opened.expect("opened").is_some());
    assert!(!bench.record("a.png", b"a", &[0.7, 0.1], 5).await.repeat);
    assert_eq!(bench.only_task().await.score, Some(0.7));
    assert!(bench.record("a.png", b"a", &[0.7, 0.1], 6).await.repeat);
    // A decision is undone: its task is open again, and nothing about it is new.
    bench.decide(Action::Approve, "ana", 7).await;
    bench.store.undo(&reviewer("ana"), Timestamp(8)).await.expect("undone");
    assert!(bench.record("a.png", b"a", &[0.7, 0.1], 9).await.repeat);
    assert_eq!(bench.queue().await.len(), 1);
}

#[tokio::test]
async fn what_was_removed_and_came_back_waits_for_people_however_often_it_is_written() {
    let bench = Bench::new().await;
    bench.record("a.png", b"a", &[0.7, 0.1], 1).await;
    bench.decide(Action::Remove, "ana", 2).await;
    for at in 3..6 {
        let back = bench.record("b.png", b"a", &[0.1, 0.1], at).await;
        assert_eq!((back.outcome, back.reason), (Outcome::Review, Some(Reason::RemovedBefore)));
        assert_eq!((back.task_opened, back.repeat), (at == 3, at > 3));
    }
    // Decided again: at this path it is known now, and nobody is asked a second time.
    bench.decide(Action::Remove, "ana", 6).await;
    let known = bench.record("b.png", b"a", &[0.1, 0.1], 7).await;
    assert!(!known.task_opened && bench.queue().await.is_empty());
    assert!(bench.record("b.png", b"a", &[0.1, 0.1], 8).await.repeat);
}

/// Blocks at 0.9 and holds, for which one removal is enough.
async fn holding(bench: &Bench) -> Judges {
    let holds = Policy {
        on_block: OnBlock::Hold,
        arming: Arming { min_precision: 0.05, min_decisions: 1 },
        ..policy("weapons", Severity::High)
    };
    let judges = Judges::announce(&bench.store, vec![holds]).await;
    judges.record(&bench.store, judges.judged("first.png", b"first", &[0.95]), 1).await;
    bench.decide(Action::Remove, "ana", 2).await;
    judges
}

#[tokio::test]
async fn a_file_that_is_to_be_held_is_held_whatever_is_written_meanwhile() {
    let bench = Bench::new().await;
    let judges = holding(&bench).await;
    let bad = judges.judged("bad.png", b"bad", &[0.95]);
    let held = judges.record(&bench.store, bad.clone(), 3).await;
    assert_eq!((held.reason.as_ref(), held.repeat), (Some(&Reason::Held), false));
    assert!(judges.record(&bench.store, bad.clone(), 4).await.repeat, "it is wished already");
    let due = async || {
        let due = bench.store.due_placements(Timestamp(100), 10).await.expect("read");
        let due = due.into_iter().filter(|due| due.item == ItemId::of_bytes(b"bad"));
        due.collect::<Vec<_>>()
    };
    let wished = due().await;
    assert_eq!(wished.len(), 1);
    assert_eq!(wished[0].wanted, Place::Quarantined);
    // The mover came while it was half written. Once it is whole, it must go all the same.
    bench.store.record_lost(&wished[0], "other bytes lie there", Timestamp(5)).await.expect("lost");
    assert!(due().await.is_empty());
    assert!(!judges.record(&bench.store, bad.clone(), 6).await.repeat);
    assert_eq!(due().await.len(), 1);
    // In the quarantine, and there again.
    bench.store.record_placed(&due().await[0], None, Timestamp(7)).await.expect("placed");
    assert!(!judges.record(&bench.store, bad, 8).await.repeat);
    assert_eq!(due().await.len(), 1);
}

fn stat_of(path: &Path) -> FileStat {
    let meta = fs::metadata(path).expect("the file is there");
    let nanoseconds = |seconds: i64, rest: i64| seconds * 1_000_000_000 + rest;
    FileStat {
        size: meta.size(),
        mtime_ns: nanoseconds(meta.mtime(), meta.mtime_nsec()),
        ctime_ns: nanoseconds(meta.ctime(), meta.ctime_nsec()),
        inode: meta.ino(),
    }
}

#[test]
fn a_watcher_says_nothing_about_the_same_bytes_again() {
    let workspace = Workspace::with_one_policy();
    let told = workspace.outside().join("told");
    let hook = format!(
        "hooks: [{{name: site, on: [verdict], command: [/bin/sh, -c, 'cat >> {}']}}]\n",
        told.display()
    );
    fs::write(workspace.path().join("modtool.yaml"), hook).expect("written");
    let files = 40;
    let bytes = |seed: u64| if seed == 0 { png(&page(0)) } else { png(&noise(seed % 5)) };
    let write_all = || {
        for seed in 0..files {
            workspace.upload(format!("{seed}.png"), bytes(seed));
        }
    };
    let watcher = Running::watch(&workspace, &["--format", "json"]);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    // A repeat shows only in what is remembered of the file.
    let judged = || {
        let now: Vec<_> =
            (0..files).map(|n| workspace.uploads().join(format!("{n}.png"))).collect();
        let now: Vec<_> = now.into_iter().map(|path| (path.clone(), stat_of(&path))).collect();
        until("the files are judged as they are now", PATIENCE, || {
            let standing = runtime.block_on(async {
                let store = workspace.store().await;
                let standing = store.standing(&now, &judged_with()).await.expect("read");
                store.close().await;
                standing
            });
            (!standing.contains(&Standing::New)).then_some(())
        });
    };
    let lines = |bytes: &[u8]| bytes.split(|byte| *byte == b'\n').count() - 1;
    write_all();
    judged();
    let told_lines = || lines(&fs::read(&told).unwrap_or_default());
    until("the hook is told", PATIENCE, || (told_lines() == 40).then_some(()));
    let events = || workspace.run(&["audit", "export"]).expect_code(0).json_lines().len();
    let before = (events(), watcher.stdout(), watcher.err().matches("verdict").count());
    for _ in 0..5 {
        write_all();
        judged();
    }
    assert_eq!(events(), before.0);
    assert_eq!(watcher.stdout(), before.1);
    assert_eq!(watcher.err().matches("verdict").count(), before.2, "{}", watcher.err());
    assert_eq!(told_lines(), 40);
    // What says something new is told as ever.
    let news = workspace.upload("1.png", png(&page(7)));
    until("it is told", PATIENCE, || (told_lines() == 41).then_some(()));
    let line = String::from_utf8(watcher.stdout()).expect("JSON is UTF-8");
    let line: Value = serde_json::from_str(line.lines().last().expect("a line")).expect("JSON");
    assert_eq!(line["path"], news.to_str().expect("a test's own name"));
}
