//! What verdicts and decisions do to files: real files, a real database, the real worker.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use modtool::moderation::{
    Action, Arming, AuditKind, DecisionOutcome, ItemId, OnBlock, Outcome, Policy, QueueFilter,
    Reason, ReviewTask, Severity, Sighting, Timestamp, UndoOutcome,
};
use modtool::pipeline::{Actor, now};
use modtool::store::{Place, Recorded, Store, StoreSettings};
use tempfile::TempDir;

use crate::support::fixtures::{Judges, decision, policy, reviewer};
use crate::support::pictures::{noise, page, png};
use crate::support::workspace::{PATIENCE, Running, Workspace};

struct Bench {
    dir: TempDir,
    store: Arc<Store>,
    judges: Judges,
    actor: Actor,
}

impl Bench {
    async fn new(policies: Vec<Policy>, settings: StoreSettings) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(dir.path().join("uploads")).expect("made");
        let store = Store::open(&dir.path().join("modtool.db")).await.expect("opens");
        let store = Arc::new(store.with_settings(settings));
        let judges = Judges::announce(&store, policies).await;
        let actor = Actor::new(
            Arc::clone(&store),
            Arc::default(),
            dir.path().join("quarantine"),
            Vec::new(),
        );
        Self { dir, store, judges, actor }
    }

    /// `weapons`, which only opens tasks; no grace.
    async fn plain() -> Self {
        let settings = StoreSettings { grace_ms: 0, ..StoreSettings::default() };
        Self::new(vec![policy("weapons", Severity::High)], settings).await
    }

    fn uploads(&self) -> PathBuf {
        self.dir.path().join("uploads")
    }

    /// Writes a file and records that it was judged with this score.
    async fn upload(&self, name: &str, bytes: &[u8], score: f32) -> Recorded {
        let path = self.uploads().join(name);
        fs::write(&path, bytes).expect("written");
        let mut judged = self.judges.judged(name, bytes, &[score]);
        judged.sighting = Sighting { path, root: self.uploads() };
        self.judges.record(&self.store, judged, now().0).await
    }

    async fn task_of(&self, bytes: &[u8]) -> ReviewTask {
        let queue = self.store.queue(&QueueFilter::default(), None, 1000).await.expect("read");
        let item = ItemId::of_bytes(bytes);
        queue.into_iter().find(|task| task.item == item).expect("a task about it")
    }

    async fn decide(&self, bytes: &[u8], action: Action) {
        let task = self.task_of(bytes).await;
        let decided = decision(&task, action, "ana", now().0);
        let outcome = self.store.record_decision(&decided).await.expect("decided");
        assert!(matches!(outcome, DecisionOutcome::Recorded(_)), "{outcome:?}");
    }

    async fn undo(&self) {
        let undone = self.store.undo(&reviewer("ana"), now()).await.expect("undone");
        assert!(matches!(undone, UndoOutcome::Undone(_)), "{undone:?}");
    }

    async fn act(&self) -> u64 {
        self.actor.carry_out_due(Duration::ZERO).await.expect("the store works").done
    }

    fn is_there(&self, name: &str) -> bool {
        self.uploads().join(name).exists()
    }

    fn is_quarantined(&self, bytes: &[u8]) -> bool {
        self.actor.place_of(ItemId::of_bytes(bytes)).exists()
    }

    async fn events(&self, kind: AuditKind) -> usize {
        let rows = self.store.audit_events(0, 10_000).await.expect("read");
        rows.iter().filter(|row| row.event.kind == kind).count()
    }
}

#[tokio::test]
async fn a_removed_file_is_quarantined_and_undo_brings_it_back() {
    let bench = Bench::plain().await;
    bench.upload("a.png", b"bad", 0.7).await;
    bench.upload("twin.png", b"bad", 0.7).await;
    bench.upload("good.png", b"good", 0.7).await;
    bench.decide(b"bad", Action::Remove).await;
    bench.decide(b"good", Action::Approve).await;
    assert_eq!(bench.act().await, 2, "both paths of the bytes");
    assert!(!bench.is_there("a.png") && !bench.is_there("twin.png") && bench.is_there("good.png"));
    assert!(bench.is_quarantined(b"bad"));
    assert_eq!(bench.act().await, 0);
    let inside = bench.store.quarantined().await.expect("read");
    assert_eq!(inside.len(), 2);
    assert_eq!(inside[0].decision, Some(Action::Remove));
    assert_eq!(bench.events(AuditKind::Quarantined).await, 2);

    bench.undo().await; // the approval
    bench.undo().await;
    assert_eq!(bench.act().await, 2);
    for name in ["a.png", "twin.png"] {
        assert_eq!(fs::read(bench.uploads().join(name)).expect("back"), b"bad");
    }
    assert!(!bench.is_quarantined(b"bad"));
    assert_eq!(bench.events(AuditKind::Restored).await, 2);
    // Removed once more: the same rows go the same way again.
    bench.upload("a.png", b"bad", 0.7).await;
    bench.decide(b"bad", Action::Remove).await;
    assert_eq!(bench.act().await, 1);
    assert!(bench.is_quarantined(b"bad") && !bench.is_there("a.png"));
}

#[tokio::test]
async fn within_the_grace_period_nothing_moves_and_undo_costs_nothing() {
    let bench = Bench::new(vec![policy("weapons", Severity::High)], StoreSettings::default()).await;
    bench.upload("a.png", b"bad", 0.7).await;
    bench.decide(b"bad", Action::Remove).await;
    assert_eq!(bench.act().await, 0);
    assert!(bench.is_there("a.png"));
    bench.undo().await;
    assert_eq!(bench.store.hurry_placements(now()).await.expect("written"), 0);
    assert_eq!(bench.act().await, 0);
    assert!(bench.is_there("a.png"));

    bench.decide(b"bad", Action::Remove).await;
    assert_eq!(bench.store.hurry_placements(now()).await.expect("written"), 1);
    assert_eq!(bench.act().await, 1);
    assert!(!bench.is_there("a.png"));
}

#[tokio::test]
async fn a_file_that_was_replaced_since_stays_and_nothing_is_overwritten() {
    let bench = Bench::plain().await;
    bench.upload("a.png", b"bad", 0.7).await;
    bench.decide(b"bad", Action::Remove).await;
    fs::write(bench.uploads().join("a.png"), b"innocent").expect("written");
    bench.act().await;
    assert_eq!(fs::read(bench.uploads().join("a.png")).expect("there"), b"innocent");
    assert!(!bench.is_quarantined(b"bad"));

    bench.upload("b.png", b"other", 0.7).await;
    bench.decide(b"other", Action::Remove).await;
    bench.act().await;
    fs::write(bench.uploads().join("b.png"), b"newcomer").expect("written");
    bench.undo().await;
    let carried = bench.actor.carry_out_due(Duration::ZERO).await.expect("the store works");
    assert_eq!((carried.done, carried.failed), (0, 1));
    assert_eq!(fs::read(bench.uploads().join("b.png")).expect("there"), b"newcomer");
    assert!(bench.is_quarantined(b"other"), "nothing is lost");
    let stuck = bench.store.stuck_placements().await.expect("read");
    assert!(stuck[0].problem.as_ref().is_some_and(|why| why.contains("--to")), "{stuck:?}");
    // Elsewhere it can go.
    let to = bench.uploads().join("deep/er/b.png");
    let id = stuck[0].placement.id;
    assert!(bench.store.wish_back(id, Some(&to), now()).await.expect("written"));
    assert_eq!(bench.act().await, 1);
    assert_eq!(fs::read(&to).expect("there"), b"other");
}

fn holding() -> Policy {
    Policy {
        on_block: OnBlock::Hold,
        arming: Arming { min_precision: 0.3, min_decisions: 3 },
        ..policy("weapons", Severity::High)
    }
}

#[tokio::test]
async fn a_hold_acts_only_while_decisions_allow_it_and_disarms_itself() {
    let settings = StoreSettings { grace_ms: 0, ..StoreSettings::default() };
    let bench = Bench::new(vec![holding()], settings).await;
    for (index, bytes) in [b"1", b"2", b"3"].into_iter().enumerate() {
        let recorded = bench.upload(&format!("{index}.png"), bytes, 0.95).await;
        assert_eq!(recorded.outcome, Outcome::Block);
        let why = format!("{index} of 3 decisions");
        assert_eq!(recorded.reason, Some(Reason::NotArmed(why)));
        bench.decide(bytes, Action::Remove).await;
    }
    bench.act().await;
    let recorded = bench.upload("held.png", b"4", 0.95).await;
    assert_eq!((recorded.outcome, recorded.reason), (Outcome::Block, Some(Reason::Held)));
    assert_eq!(bench.events(AuditKind::Armed).await, 1);
    bench.act().await;
    assert!(!bench.is_there("held.png") && bench.is_quarantined(b"4"));
    let task = bench.task_of(b"4").await;
    assert_eq!(task.reason, Some(Reason::Held));
    // What is only flagged, and not blocked, is not held.
    let recorded = bench.upload("flagged.png", b"flagged", 0.6).await;
    assert_eq!(recorded.reason, None);

    // Approved: it goes back, and is not held again when it is seen again.
    bench.decide(b"4", Action::Approve).await;
    bench.act().await;
    assert!(bench.is_there("held.png") && !bench.is_quarantined(b"4"));
    let again = bench.upload("held.png", b"4", 0.95).await;
    assert!(!again.task_opened && again.reason.is_none());
    // Undone: held as before.
    bench.undo().await;
    bench.act().await;
    assert!(!bench.is_there("held.png") && bench.is_quarantined(b"4"));
    bench.decide(b"4", Action::Approve).await;
    bench.act().await;

    // 3 of 4 is enough for 0.3; 3 of 6 is not (lower bound 0.188).
    for bytes in [b"5", b"6"] {
        bench.upload("x.png", bytes, 0.95).await;
        bench.act().await;
        bench.decide(bytes, Action::Approve).await;
        bench.act().await;
    }
    assert_eq!(bench.events(AuditKind::Disarmed).await, 1);
    let recorded = bench.upload("y.png", b"7", 0.95).await;
    assert!(matches!(recorded.reason, Some(Reason::NotArmed(_))), "{recorded:?}");
    assert!(bench.is_there("y.png"));
    // Decisions that are taken back count no more.
    bench.undo().await;
    bench.undo().await;
    let recorded = bench.upload("z.png", b"8", 0.95).await;
    assert_eq!(recorded.reason, Some(Reason::Held));
}

#[tokio::test]
async fn past_the_daily_cap_files_go_to_review_instead() {
    let settings = StoreSettings { grace_ms: 0, daily_hold_cap: 2, ..StoreSettings::default() };
    let bench = Bench::new(vec![holding()], settings).await;
    for bytes in [b"1", b"2", b"3"] {
        bench.upload("a.png", bytes, 0.95).await;
        bench.decide(bytes, Action::Remove).await;
    }
    for bytes in [b"4", b"5"] {
        assert_eq!(bench.upload("b.png", bytes, 0.95).await.reason, Some(Reason::Held));
    }
    let recorded = bench.upload("c.png", b"6", 0.95).await;
    assert_eq!((recorded.outcome, recorded.reason), (Outcome::Review, Some(Reason::HoldCap(2))));
    assert!(recorded.task_opened);
}

#[tokio::test]
async fn samples_are_drawn_once_an_item_blindly_and_about_as_often_as_asked_for() {
    let settings = StoreSettings { audit_rate: 0.2, ..StoreSettings::default() };
    let bench = Bench::new(vec![policy("weapons", Severity::High)], settings).await;
    let mut drawn = 0;
    for number in 0..400_u32 {
        let bytes = number.to_le_bytes();
        let judged = bench.judges.judged(&format!("{number}.png"), &bytes, &[0.1]);
        let recorded = bench.judges.record(&bench.store, judged.clone(), 1).await;
        assert_eq!(recorded.outcome, Outcome::Allow);
        drawn += usize::from(recorded.task_opened);
        let again = bench.judges.record(&bench.store, judged, 2).await;
        assert!(!again.task_opened, "once an item");
    }
    // Binomial with 400 and 0.2: ten standard deviations on either side.
    assert!((1..160).contains(&drawn), "{drawn}");
    let queue = bench.store.queue(&QueueFilter::default(), None, 1000).await.expect("read");
    assert_eq!(queue.len(), drawn);
    let detail = bench.store.task_detail(queue[0].id).await.expect("read").expect("there");
    assert!(detail.policies.is_empty() && detail.task.score.is_none(), "blind: {detail:?}");
    let severities: std::collections::BTreeSet<_> =
        queue.iter().map(|task| task.severity).collect();
    assert!(severities.len() > 1, "its place in the queue says nothing");
}

/// A workspace with one page that is flagged, removed by `ana` and carried out.
async fn removed_page(workspace: &Workspace) -> (PathBuf, Vec<u8>) {
    let bytes = png(&page(1));
    let path = workspace.upload("secret-name.png", &bytes);
    workspace.upload("noise.png", png(&noise(1)));
    workspace.scan().expect_code(1);
    let store = workspace.store().await;
    let task = store.queue(&QueueFilter::default(), None, 10).await.expect("read").remove(0);
    let mut decided = decision(&task, Action::Remove, "ana", now().0 - 100_000);
    decided.note = Some("the-secret-note".into());
    store.record_decision(&decided).await.expect("decided");
    store.close().await;
    // The next run of anything that acts carries it out; until then the file is a flagged one.
    workspace.scan().expect_code(1);
    (path, bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn restore_and_purge_say_what_they_do_and_do_only_that() {
    let workspace = Workspace::with_one_policy();
    let (path, bytes) = removed_page(&workspace).await;
    assert!(!path.exists());
    let listed = workspace.run(&["quarantine", "--format", "json"]).expect_code(0).json_lines();
    assert_eq!((listed.len(), &listed[0]["decision"]), (1, &"remove".into()));
    let table = workspace.run(&["quarantine"]).expect_code(0).out();
    assert!(table.contains("removed by ana"), "{table}");

    // Too young to be purged; and without a terminal nobody can say yes.
    workspace.run(&["purge", "--older-than", "1d", "--yes"]).expect_code(0);
    workspace.run(&["purge", "--older-than", "10s"]).expect_code(64);
    let dry = workspace.run(&["purge", "--older-than", "10s", "--dry-run"]).expect_code(0).out();
    assert!(dry.contains("secret-name.png"), "{dry}");
    assert_eq!(workspace.run(&["quarantine", "--format", "json"]).json_lines().len(), 1);

    let restored = workspace.run(&["restore", path.to_str().expect("our name")]).expect_code(0);
    assert!(restored.out().contains("restored"), "{}", restored.out());
    assert_eq!(fs::read(&path).expect("back"), bytes);
    workspace.run(&["restore", path.to_str().expect("our name")]).expect_code(2);
    // The decision stands: seen again, it goes to a person again.
    workspace.scan().expect_code(1);
    let row = workspace.verdict(&path).expect("a verdict");
    assert_eq!((&row["reason"], &row["state"]), (&"removed_before".into(), &"open".into()));

    let store = workspace.store().await;
    let task = store.queue(&QueueFilter::default(), None, 10).await.expect("read").remove(0);
    let decided = decision(&task, Action::Remove, "ana", now().0 - 100_000);
    store.record_decision(&decided).await.expect("decided");
    store.close().await;
    let purged = workspace.run(&["purge", "--older-than", "60s", "--yes"]).expect_code(0).out();
    // It was not moved yet: only what lies in the quarantine is purged.
    assert!(purged.contains("nothing was removed that long ago"), "{purged}");
    workspace.scan().expect_code(1);
    let purged = workspace.run(&["purge", "--older-than", "60s", "--yes"]).expect_code(0).out();
    assert!(purged.contains("1 files purged"), "{purged}");
    assert!(!path.exists());
    let left = files_below(&workspace.path().join("quarantine"));
    assert!(
        left.iter().all(|path| path.file_name().is_some_and(|n| n.as_encoded_bytes()[0] == b'.')),
        "{left:?}"
    );
}

/// Neither name, note nor hash of [`removed_page`] can be read in the database's files.
fn assert_nothing_is_left(workspace: &Workspace, bytes: &[u8]) {
    let item = ItemId::of_bytes(bytes);
    for name in ["modtool.db", "modtool.db-wal"] {
        let held = fs::read(workspace.path().join(name)).unwrap_or_default();
        for secret in [
            b"secret-name".as_slice(),
            b"the-secret-note",
            item.to_string().as_bytes(),
            item.as_bytes(),
        ] {
            let found = held.windows(secret.len()).any(|part| part == secret);
            assert!(!found, "{name} still holds {}", String::from_utf8_lossy(secret));
        }
    }
}

/// Ended just behind the commit, before the file is built anew.
#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_that_was_interrupted_can_be_finished() {
    let workspace = Workspace::with_one_policy();
    let (_, bytes) = removed_page(&workspace).await;
    let item = ItemId::of_bytes(&bytes).to_string();
    let mut command = workspace.command(&["erase", &item, "--yes"]);
    command.env("MODTOOL_FAIL_AT", "after:1");
    let status = Running::start(command).ended(PATIENCE);
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(6), "{status}");

    let again = workspace.run(&["erase", &item, "--yes"]).expect_code(2).err();
    assert!(again.contains("modtool erase --finish"), "{again}");
    let finished = workspace.run(&["erase", "--finish"]).expect_code(0).out();
    assert!(finished.contains("built anew"), "{finished}");
    assert_nothing_is_left(&workspace, &bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn erasing_leaves_nothing_but_a_tombstone_and_a_whole_chain() {
    let workspace = Workspace::with_one_policy();
    let (path, bytes) = removed_page(&workspace).await;
    let twin = workspace.upload("again/secret-name-2.png", &bytes);
    workspace.scan().expect_code(1);
    let anchor = workspace.run(&["audit", "verify", "--format", "json"]).expect_code(0);
    let anchor = anchor.json_lines()[0]["anchor"].as_str().expect("an anchor").to_owned();
    let item = ItemId::of_bytes(&bytes).to_string();

    workspace.run(&["erase", &item[..12]]).expect_code(64);
    assert!(twin.exists());
    let erased = workspace.run(&["erase", &item[..12], "--yes", "--reviewer", "bo"]).expect_code(0);
    assert!(erased.out().contains("secret-name-2.png") && erased.out().contains("tombstone"));
    assert!(!path.exists() && !twin.exists());
    workspace.run(&["erase", &item, "--yes"]).expect_code(2);

    assert_nothing_is_left(&workspace, &bytes);
    workspace.run(&["erase"]).expect_code(64);
    let left = files_below(&workspace.path().join("quarantine"));
    assert!(
        left.iter().all(|path| path.file_name().is_some_and(|n| n.as_encoded_bytes()[0] == b'.')),
        "{left:?}"
    );
    let verified = workspace.run(&["audit", "verify", "--anchor", &anchor]).expect_code(0).out();
    assert!(verified.contains("the chain holds") && verified.contains("erased"), "{verified}");
    let rows = workspace.verdicts();
    assert_eq!(rows.len(), 1, "the other picture is still there: {rows:?}");
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_carries_decisions_out_while_it_runs() {
    let workspace = Workspace::with_one_policy();
    fs::write(workspace.path().join("modtool.yaml"), "review: {grace_seconds: 0}\n")
        .expect("written");
    let path = workspace.upload("page.png", png(&page(1)));
    let mut watcher = Running::watch(&workspace, &[]);
    crate::support::until("it is judged", std::time::Duration::from_mins(1), || {
        workspace.verdict(&path)
    });
    let store = workspace.store().await;
    let task = store.queue(&QueueFilter::default(), None, 10).await.expect("read").remove(0);
    store.record_decision(&decision(&task, Action::Remove, "ana", now().0)).await.expect("decided");
    crate::support::until("it is moved", std::time::Duration::from_mins(1), || {
        (!path.exists()).then_some(())
    });
    store.undo(&reviewer("ana"), now()).await.expect("undone");
    crate::support::until("it is back", std::time::Duration::from_mins(1), || {
        path.exists().then_some(())
    });
    watcher.signal(rustix::process::Signal::TERM);
    watcher.ended(std::time::Duration::from_secs(10));
    let placements = store.due_placements(Timestamp(i64::MAX), 10).await.expect("read");
    assert!(placements.iter().all(|one| one.state == Place::InPlace), "{placements:?}");
}

/// Runs a statement past the store and its triggers, as somebody who can write the file can.
async fn tamper(store: &Store, statement: &'static str) {
    let options = sqlx::sqlite::SqliteConnectOptions::new();
    let options = options.filename(store.path()).foreign_keys(false);
    let pool = sqlx::sqlite::SqlitePool::connect_with(options).await.expect("opens");
    for statement in [
        "DROP TRIGGER audit_events_never_change",
        "DROP TRIGGER audit_events_are_never_deleted",
        statement,
    ] {
        sqlx::query(statement).execute(&pool).await.expect(statement);
    }
    pool.close().await;
}

#[tokio::test]
async fn whatever_is_done_to_the_log_is_found() {
    for (statement, found) in [
        ("UPDATE audit_events SET actor = 'bo' WHERE sequence = 2", "event 2 is not what was"),
        ("UPDATE audit_events SET at = at + 1 WHERE sequence = 3", "event 3 is not what was"),
        (
            "UPDATE audit_details SET detail = replace(detail, '0', '1') WHERE sequence = 2",
            "detail of event 2 was changed",
        ),
        ("DELETE FROM audit_details WHERE sequence = 2", "no erasure accounts for it"),
        ("DELETE FROM audit_events WHERE sequence = 2", "event 2 is missing"),
        (
            "UPDATE audit_events SET sequence = 100 + sequence WHERE sequence > 1",
            "event 2 is missing",
        ),
        ("DELETE FROM audit_events WHERE sequence = 4", "its tail was cut"),
    ] {
        let bench = Bench::plain().await;
        for bytes in [b"1", b"2", b"3", b"4"] {
            bench.upload("a.png", bytes, 0.1).await;
        }
        let chain = bench.store.verify_audit(None).await.expect("read").expect("holds");
        assert_eq!((chain.events, chain.sequence), (4, 4));
        let anchor = Some((chain.sequence, chain.hash));
        assert!(bench.store.verify_audit(anchor).await.expect("read").is_ok());
        tamper(&bench.store, statement).await;
        let is_cut = found.contains("cut");
        let anchor = if is_cut { anchor } else { None };
        let broken = bench.store.verify_audit(anchor).await.expect("read");
        let broken = broken.expect_err(statement).to_string();
        assert!(broken.contains(found), "{statement}: {broken}");
    }
}

#[tokio::test]
async fn retention_deletes_what_is_old_and_keeps_what_protects() {
    use modtool::store::{Cutoffs, Expired};
    let bench = Bench::plain().await;
    bench.upload("clear.png", b"clear", 0.1).await;
    bench.upload("approved.png", b"approved", 0.7).await;
    bench.decide(b"approved", Action::Approve).await;
    bench.upload("removed.png", b"removed", 0.7).await;
    bench.decide(b"removed", Action::Remove).await;
    bench.upload("open.png", b"open", 0.7).await;
    let nothing = bench.store.expire(Cutoffs::default(), now()).await.expect("done");
    assert_eq!(nothing, Expired::default());
    let soon = Some(Timestamp(now().0 + 1000));
    let cutoffs = Cutoffs { verdicts: soon, embeddings: soon, done_tasks: soon };
    let counted = bench.store.count_expired(cutoffs).await.expect("counted");
    // The removal is still to be carried out, and would protect its item also after that.
    assert_eq!(counted, Expired { verdicts: 3, embeddings: 3, done_tasks: 1 });
    assert_eq!(bench.store.expire(cutoffs, now()).await.expect("done"), counted);
    assert_eq!(bench.store.expire(cutoffs, now()).await.expect("done"), Expired::default());
    assert_eq!(bench.events(AuditKind::Expired).await, 1);
    bench.act().await;
    assert!(bench.is_quarantined(b"removed"));
    let again = bench.upload("again.png", b"removed", 0.1).await;
    assert_eq!(again.reason, Some(Reason::RemovedBefore), "nothing bad slips through");
    assert_eq!(bench.task_of(b"open").await.state, modtool::moderation::ReviewState::Open);
    assert!(bench.store.verify_audit(None).await.expect("read").is_ok());
}
