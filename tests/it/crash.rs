//! The machine stops at any instant, the disk is full, readers stand still: nothing is lost,
//! nothing is done twice.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use modtool::moderation::{Severity, Timestamp};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use serde_json::Value;
use sqlx::Row as _;

use crate::store::{assert_audit_holds, raw};
use crate::support::fixtures::{Judges, policy};
use crate::support::pictures::{Dice, noise, page, png};
use crate::support::workspace::{PATIENCE, Running, Workspace, run};
use crate::support::{is_long, kills, report, skipped, until};
use crate::watch::{SOON, stray_files, until_judged};

fn audit_holds(workspace: &Workspace, verdicts: usize) {
    tokio::runtime::Runtime::new()
        .expect("a runtime")
        .block_on(assert_audit_holds(&workspace.path().join("modtool.db"), verdicts));
}

/// The process ends just before and just after each commit of a run.
#[test]
fn ended_at_the_edge_of_any_commit_the_next_start_completes_the_work() {
    let mut ends = 0;
    for edge in ["before", "after"] {
        for commit in 1.. {
            let workspace = Workspace::with_one_policy();
            for seed in 0..3 {
                workspace.upload(format!("{seed}.png"), png(&noise(seed)));
            }
            workspace.upload("page.png", png(&page(1)));
            let mut command = workspace.command(&["scan", "uploads"]);
            command.env("MODTOOL_FAIL_AT", format!("{edge}:{commit}"));
            let status = Running::start(command).ended(PATIENCE);
            if status.signal() != Some(6) {
                // There are no more commits in a run.
                assert_eq!(status.code(), Some(1), "{status}");
                assert!(commit > 3, "a run has more commits than {commit}");
                break;
            }
            ends += 1;
            workspace.scan().expect_code(1);
            let rows = workspace.verdicts();
            assert_eq!(rows.len(), 4, "{edge} commit {commit}");
            assert!(rows.iter().all(|row| row["reason"].is_null()), "{rows:?}");
            let tasks = rows.iter().filter(|row| row["state"] == "open").count();
            assert_eq!(tasks, 1, "{edge} commit {commit}");
            audit_holds(&workspace, 4);
            assert_eq!(stray_files(&workspace.path()), Vec::<PathBuf>::new());
        }
    }
    report(&format!("failpoints: {ends} ends at edges of commits, nothing lost, nothing twice"));
}

/// Promise P3: a decision that was acknowledged is there after a crash; one that was not can be
/// made again, and none is made twice.
#[tokio::test(flavor = "multi_thread")]
async fn ended_at_the_edge_of_a_decisions_commit_it_is_made_once_or_not_at_all() {
    let workspace = Workspace::with_one_policy();
    workspace.upload("page.png", png(&page(1)));
    workspace.scan().expect_code(1);
    let whole = workspace.outside().join("copy.db");
    let database = workspace.path().join("modtool.db");
    fs::copy(&database, &whole).expect("copied");
    let list = ["queue", "list", "--format", "json"];
    let item = workspace.run(&list).json_lines()[0]["item"].as_str().expect("an id").to_owned();
    let decide = ["queue", "decide", &item, "--action", "remove", "--reviewer", "ana"];
    let mut ends = 0;
    for edge in ["before", "after"] {
        for commit in 1.. {
            for leftover in ["modtool.db-wal", "modtool.db-shm"] {
                // They belong to the database of the round before.
                let _ = fs::remove_file(workspace.path().join(leftover));
            }
            fs::copy(&whole, &database).expect("copied");
            let mut command = workspace.command(&decide);
            command.env("MODTOOL_FAIL_AT", format!("{edge}:{commit}"));
            let mut first = Running::start(command);
            let status = first.ended(PATIENCE);
            if status.signal() != Some(6) {
                assert_eq!(status.code(), Some(0), "{status}");
                assert!(commit > 1, "a decision has a commit");
                break;
            }
            ends += 1;
            let again = workspace.run(&decide);
            let pool = raw(&database).await;
            let decisions: i64 = sqlx::query_scalar("SELECT count(*) FROM decisions")
                .fetch_one(&pool)
                .await
                .expect("counted");
            pool.close().await;
            assert_eq!(decisions, 1, "{edge} commit {commit}: {}", again.err());
            assert!(workspace.run(&list).json_lines().is_empty(), "{edge} commit {commit}");
            assert_audit_holds(&database, 1).await;
        }
    }
    report(&format!("failpoints: {ends} ends at edges of a decision's commits, made exactly once"));
}

/// Promises P1 and P2: SIGKILL again and again.
#[test]
fn killed_again_and_again_every_file_is_final_exactly_once() {
    let kills = u64::from(kills(20, 500));
    let files = kills * if is_long() { 8 } else { 12 };
    let workspace = Workspace::with_one_policy();
    let mut wanted = BTreeMap::new();
    for seed in 0..files {
        // Every fifth file holds bytes that another one holds too.
        let bytes = png(&noise(if seed % 5 == 4 { seed - 1 } else { seed }));
        let path = workspace.upload(format!("{}/{seed}.png", seed % 7), &bytes);
        wanted.insert(path, bytes);
    }
    let mut dice = Dice(7);
    let mut kills_with_work_left = 0;
    for _ in 0..kills {
        let mut watcher = Running::start(workspace.command(&["watch", "uploads"]));
        let lines = dice.below(u32::try_from(2 * files / kills).expect("few")) as usize;
        until("some verdicts are told", SOON, || {
            let said = watcher.err();
            let told = said.matches(" verdict ").count();
            let known = said.split("unchanged=").nth(1).and_then(|rest| {
                rest.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u64>().ok()
            });
            let nothing_left = known.is_some_and(|known| known + told as u64 >= files);
            (told >= lines || nothing_left).then_some(())
        });
        watcher.signal(Signal::KILL);
        watcher.ended(PATIENCE);
        kills_with_work_left += usize::from(workspace.verdicts().len() < wanted.len());
    }
    assert!(kills_with_work_left > 0, "the kills came too late to prove anything");

    let mut watcher = Running::watch(&workspace, &[]);
    until_judged(&workspace, &wanted);
    watcher.signal(Signal::TERM);
    assert_eq!(watcher.ended(Duration::from_secs(5)).code(), Some(0), "{}", watcher.err());
    let all = workspace.run(&["export", "verdicts", "--all"]).expect_code(0).json_lines();
    assert_eq!(all.len(), wanted.len(), "every file has one sighting");
    assert_eq!(stray_files(&workspace.path()), Vec::<PathBuf>::new());
    let vectors = workspace.run(&["export", "embeddings"]).expect_code(0).json_lines().len();
    assert_eq!(vectors, wanted.len() / 5 * 4, "one vector an item");
    audit_holds(&workspace, wanted.len());
    report(&format!(
        "kill -9: {kills} kills over {files} files ({kills_with_work_left} with work left): every \
         file final once, audit chain and integrity check good"
    ));
}

/// Children of the watcher are killed while they decode: it goes on, and nothing is given up.
#[test]
fn decoders_that_are_killed_from_outside_are_replaced() {
    let workspace = Workspace::with_one_policy();
    let mut wanted = BTreeMap::new();
    let mut watcher = Running::watch(&workspace, &[]);
    for seed in 0..60 {
        let bytes = png(&noise(seed));
        wanted.insert(workspace.upload(format!("{seed}.png"), &bytes), bytes);
        if seed % 10 == 5 {
            for child in children_of(watcher.pid()) {
                // It may have been replaced since.
                let _ = kill_process(child, Signal::KILL);
            }
        }
    }
    for row in until_judged(&workspace, &wanted) {
        assert_eq!(row["reason"], Value::Null, "{row}");
    }
    watcher.signal(Signal::TERM);
    assert_eq!(watcher.ended(Duration::from_secs(5)).code(), Some(0), "{}", watcher.err());
}

fn children_of(parent: Pid) -> Vec<Pid> {
    let tasks = fs::read_dir(format!("/proc/{}/task", parent.as_raw_nonzero())).expect("it runs");
    let lists =
        tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
    let numbers: Vec<String> = lists.collect();
    numbers
        .iter()
        .flat_map(|list| list.split_whitespace())
        .filter_map(|number| Pid::from_raw(number.parse().ok()?))
        .collect()
}

/// A picture that takes long must not keep the watcher from ending.
#[test]
fn a_watcher_ends_in_time_while_a_decoder_hangs() {
    let workspace = Workspace::with_one_policy();
    let mut watcher = Running::watch(&workspace, &[]);
    workspace.upload("hangs.png", b"modtool test: sleep");
    until("the decoder is at it", SOON, || (!children_of(watcher.pid()).is_empty()).then_some(()));
    watcher.signal(Signal::TERM);
    assert_eq!(watcher.ended(Duration::from_secs(5)).code(), Some(0), "{}", watcher.err());
    assert!(workspace.verdicts().is_empty(), "it is left for the next start");
}

/// The soft limit on what a file may hold stands for a disk that is full: writes fail with
/// "file too large" instead of "no space left", and SQLite takes both for a full disk.
#[test]
fn a_full_disk_loses_nothing_and_work_goes_on_when_there_is_room() {
    let workspace = Workspace::with_one_policy();
    let inner = workspace.command(&["watch", "uploads"]);
    let mut command = Command::new("/bin/sh");
    // The signal would end it, which a full disk does not.
    command.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"]).arg(inner.get_program());
    command.args(inner.get_args()).current_dir(inner.get_current_dir().expect("set"));
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let mut watcher = Running::start(command);
    // It scans while the prompts are being written down, which must have happened as well.
    until("the watcher runs", PATIENCE, || {
        let said = watcher.err();
        (said.contains(" ready ") && said.contains("scanned the folders once")).then_some(())
    });
    let limit = |bytes| {
        let limit = Rlimit { current: bytes, maximum: None };
        prlimit(Some(watcher.pid()), Resource::Fsize, limit).expect("our own child");
    };
    limit(Some(64 << 10));
    let mut wanted = BTreeMap::new();
    for seed in 0..40 {
        let bytes = png(&noise(seed));
        wanted.insert(workspace.upload(format!("{seed}.png"), &bytes), bytes);
    }
    until("it says that it can't write", SOON, || {
        watcher.err().contains("verdicts can't be written; trying again").then_some(())
    });
    limit(None);
    for row in until_judged(&workspace, &wanted) {
        assert_eq!(row["reason"], Value::Null, "{row}");
    }
    watcher.signal(Signal::TERM);
    assert_eq!(watcher.ended(Duration::from_secs(5)).code(), Some(0), "{}", watcher.err());
    audit_holds(&workspace, wanted.len());
}

/// Without a descriptor no file can be opened and no decoder started. That is no file's fault.
#[test]
fn without_descriptors_work_waits_and_goes_on_when_there_are_some() {
    let workspace = Workspace::with_one_policy();
    let mut watcher = Running::watch(&workspace, &[]);
    let limit = |count| {
        let limit = Rlimit { current: Some(count), maximum: Some(4096) };
        prlimit(Some(watcher.pid()), Resource::Nofile, limit).expect("our own child");
    };
    limit(0);
    let mut wanted = BTreeMap::new();
    for seed in 0..5 {
        let bytes = png(&noise(seed));
        wanted.insert(workspace.upload(format!("{seed}.png"), &bytes), bytes);
    }
    until("it says what is missing", SOON, || {
        watcher.err().contains("too many open files").then_some(())
    });
    limit(1024);
    for row in until_judged(&workspace, &wanted) {
        assert_eq!(row["reason"], Value::Null, "{row}");
    }
    watcher.signal(Signal::TERM);
    assert_eq!(watcher.ended(Duration::from_secs(5)).code(), Some(0), "{}", watcher.err());
}

#[test]
fn a_database_that_can_only_be_read_is_named_and_left_alone() {
    let workspace = Workspace::with_one_policy();
    workspace.upload("0.png", png(&noise(0)));
    workspace.scan().expect_code(0);
    workspace.upload("1.png", png(&noise(1)));
    let database = workspace.path().join("modtool.db");
    let before = fs::read(&database).expect("readable");
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("our own file");
    };
    mode(&database, 0o444);
    mode(&workspace.path(), 0o555);
    let mut scan = workspace.command(&["scan", "uploads"]);
    if rustix::process::geteuid().is_root() {
        // Root writes everywhere, so someone else must scan.
        mode(&workspace.uploads(), 0o777);
        let nobody = Some(65_534);
        std::os::unix::fs::chown(workspace.data(), nobody, nobody).expect("given");
        mode(workspace.uploads().parent().expect("the temporary folder"), 0o755);
        scan.uid(65_534).gid(65_534);
        let mut try_out = workspace.command(&["--version"]);
        if try_out.uid(65_534).gid(65_534).output().is_err() {
            skipped("a read-only database", "another user can't run the binary from here");
            return;
        }
    }
    let ran = run(scan).expect_code(2);
    assert!(ran.err().contains("modtool.db") && ran.err().contains("readonly"), "{}", ran.err());
    assert_eq!(fs::read(&database).expect("readable"), before, "not a byte changed");
    mode(&workspace.path(), 0o755);
    mode(&database, 0o600);
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(workspace.data(), Some(0), Some(0)).expect("taken back");
    }
    workspace.scan().expect_code(0);
    assert_eq!(workspace.verdicts().len(), 2);
}

/// An export that stands still half way holds no transaction, so the journal does not grow; a
/// foreign program that holds one is told of.
#[tokio::test]
async fn a_reader_that_stands_still_does_not_let_the_journal_grow() {
    const MOST: u64 = 64 << 20;
    let workspace = Workspace::with_one_policy();
    let store = workspace.store().await;
    let judges = Judges::two(&store).await;
    let write = async |from: u32, to: u32| {
        let at = |number: u32| Timestamp(number.into());
        for start in (from..to).step_by(64) {
            let batch: Vec<_> = (start..start + 64)
                .map(|number| {
                    let name = format!("{number}.png");
                    judges.judged(&name, &number.to_le_bytes(), &[0.7, 0.1])
                })
                .collect();
            store.record_verdicts(&judges.judged_by, &batch, at(start)).await.expect("written");
        }
    };
    let journal = workspace.path().join("modtool.db-wal");
    let size = || fs::metadata(&journal).map_or(0, |meta| meta.len());
    write(0, 3_000).await;
    // Nobody reads what it prints, so that it stops in the middle of it.
    let mut export = workspace.command(&["export", "verdicts"]);
    let mut export = export.stdout(std::process::Stdio::piped()).spawn().expect("it starts");
    let pid = Pid::from_raw(i32::try_from(export.id()).expect("a pid")).expect("not 0");
    std::thread::sleep(Duration::from_millis(500));
    kill_process(pid, Signal::STOP).expect("it runs");
    let (count, mut highest) = (if is_long() { 200_000 } else { 12_000 }, 0);
    for start in (3_000..count).step_by(1_500) {
        write(start, start + 1_500).await;
        highest = highest.max(size());
    }
    assert!(highest <= MOST, "{highest} bytes of journal");
    report(&format!("stopped reader: {} MiB of journal at most", highest >> 20));
    export.kill().expect("it was there");
    export.wait().expect("it was there");

    let foreign = raw(&workspace.path().join("modtool.db")).await;
    let mut held = foreign.begin().await.expect("a transaction");
    let first = sqlx::query("SELECT count(*) FROM items").fetch_one(&mut *held).await;
    let first: i64 = first.expect("counted").get(0);
    let mut number = count;
    while size() <= MOST {
        write(number, number + 1_500).await;
        number += 1_500;
        assert!(number < count + 200_000, "the journal does not grow past {}", size());
    }
    let told = workspace.run(&["doctor"]).out();
    assert!(told.contains("holds a read transaction open"), "{told}");
    let again = sqlx::query("SELECT count(*) FROM items").fetch_one(&mut *held).await;
    assert_eq!(again.expect("counted").get::<i64, _>(0), first, "it still sees what it saw");
    drop(held);
    foreign.close().await;
    write(number, number + 1_500).await;
    store.close().await;
    let told = workspace.run(&["doctor"]).out();
    assert!(!told.contains("holds a read transaction open"), "{told}");
}

/// The clock jumps: order is by number, and nothing is lost by a time that runs backwards.
#[tokio::test]
async fn a_clock_that_steps_changes_no_order_and_loses_nothing() {
    use crate::support::fixtures::decision;
    use modtool::moderation::{Action, DecisionOutcome, QueueFilter, UndoOutcome};
    let workspace = Workspace::with_one_policy();
    let store = workspace.store().await;
    let judges = Judges::announce(&store, vec![policy("weapons", Severity::High)]).await;
    for (number, at) in [(0, 5_000), (1, -9_000_000), (2, 4_102_444_800_000), (3, 1)] {
        let name = format!("{number}.png");
        judges.record(&store, judges.judged(&name, &[number], &[0.7]), at).await;
    }
    let queue = store.queue(&QueueFilter::default(), None, 10).await.expect("the queue");
    assert_eq!(queue.len(), 4);
    for (task, at) in queue.iter().zip([900, 100, 500, 0]) {
        let decided = store.record_decision(&decision(task, Action::Remove, "ana", at)).await;
        assert!(matches!(decided.expect("decided"), DecisionOutcome::Recorded(_)));
    }
    // The latest decision is the last one written, whatever its time says.
    let ana = crate::support::fixtures::reviewer("ana");
    let undone = store.undo(&ana, Timestamp(-1)).await.expect("undone");
    let UndoOutcome::Undone(past) = undone else { panic!("{undone:?}") };
    assert_eq!(past.len(), 1);
    assert_eq!(past[0].decision.task, queue[3].id);
    store.close().await;
    assert_audit_holds(&workspace.path().join("modtool.db"), 4).await;
}

/// Files from the past and the future are judged like any other.
#[test]
fn files_with_impossible_times_are_judged() {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
    let workspace = Workspace::with_one_policy();
    let mut wanted = BTreeMap::new();
    let mut watcher = Running::watch(&workspace, &[]);
    for (seed, seconds) in (0..).zip([0, -3_000_000_000, 4_102_444_800, i64::from(u32::MAX) * 4]) {
        let bytes = png(&noise(seed));
        let path = workspace.upload(format!("{seed}.png"), &bytes);
        let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(CWD, &path, &times, AtFlags::empty()).expect("our own file");
        wanted.insert(path, bytes);
    }
    until_judged(&workspace, &wanted);
    watcher.signal(Signal::TERM);
    assert_eq!(watcher.ended(Duration::from_secs(5)).code(), Some(0), "{}", watcher.err());
    workspace.scan().expect_code(0);
    assert!(workspace.scan().err().contains("4 judged before"), "they are known by their times");
}
