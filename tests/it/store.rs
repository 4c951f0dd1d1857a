//! What every store must do, asked of SQLite in a real file.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use modtool::moderation::{
    Action, AuditEvent, AuditKind, ChainHash, DecisionOutcome, Embedding, Fingerprint, ItemId,
    JudgedWith, Mode, Outcome, PolicyId, QueueCursor, QueueFilter, QueueOrder, Reason, ReviewState,
    ReviewTask, Severity, TaskId, Timestamp, UndoOutcome,
};
use modtool::store::{Cutoffs, Standing, Store, StoreError, WatcherBeat};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use sqlx::{AssertSqlSafe, Row as _};
use tempfile::TempDir;

use crate::support::fixtures::{
    Judges, decision, embedding, fingerprint, judged_with, policy, reviewer, sighting, stat, unread,
};
use crate::support::pictures::Dice;

pub struct Bench {
    pub dir: TempDir,
    pub store: Store,
    pub judges: Judges,
}

impl Bench {
    /// With `weapons` (high) and `memes` (low).
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(&dir.path().join("modtool.db")).await.expect("opens");
        let judges = Judges::two(&store).await;
        Self { dir, store, judges }
    }

    pub async fn record(
        &self,
        name: &str,
        bytes: &[u8],
        scores: &[f32],
        at: i64,
    ) -> modtool::store::Recorded {
        self.judges.record(&self.store, self.judges.judged(name, bytes, scores), at).await
    }

    pub async fn queue(&self) -> Vec<ReviewTask> {
        self.store.queue(&QueueFilter::default(), None, 1000).await.expect("the queue")
    }

    pub async fn only_task(&self) -> ReviewTask {
        let mut tasks = self.queue().await;
        assert_eq!(tasks.len(), 1, "{tasks:?}");
        tasks.remove(0)
    }

    pub async fn decide(&self, action: Action, name: &str, at: i64) -> DecisionOutcome {
        let task = self.only_task().await;
        self.store.record_decision(&decision(&task, action, name, at)).await.expect("decided")
    }

    pub async fn rows(&self, table: &str) -> i64 {
        let pool = raw(self.store.path()).await;
        let count = sqlx::query(AssertSqlSafe(format!("SELECT count(*) FROM {table} {BY_TEST}")));
        let count = count.fetch_one(&pool).await.expect("counted").get(0);
        pool.close().await;
        count
    }

    async fn all_rows(&self) -> BTreeMap<&'static str, i64> {
        let mut counts = BTreeMap::new();
        for table in [
            "items",
            "sightings",
            "embeddings",
            "verdicts",
            "tasks",
            "task_policies",
            "decisions",
            "audit_events",
        ] {
            counts.insert(table, self.rows(table).await);
        }
        counts
    }
}

/// Marks what a test asks past the store.
pub const BY_TEST: &str = "/* by a test */";

/// A connection past the store, as another program has it.
pub async fn raw(path: &Path) -> SqlitePool {
    let options = SqliteConnectOptions::new().filename(path);
    SqlitePool::connect_with(options).await.expect("the file is a database")
}

/// Seals every event again: the stored hashes must be the ones that come out. Also that there are
/// so many events of judging, and that SQLite finds its own file in order.
pub async fn assert_audit_holds(path: &Path, verdicts: usize) {
    let pool = raw(path).await;
    let rows = sqlx::query(
        "SELECT at, kind, actor, detail, hash FROM audit_events ORDER BY sequence /* by a test */",
    )
    .fetch_all(&pool)
    .await
    .expect("the events");
    let (mut hash, mut judged) = (ChainHash::GENESIS, 0);
    for row in &rows {
        let event = AuditEvent {
            at: Timestamp(row.get("at")),
            kind: AuditKind::parse(row.get("kind")).expect("a known kind"),
            actor: row.get("actor"),
            detail: row.get("detail"),
        };
        let detail: serde_json::Value = serde_json::from_str(&event.detail).expect("JSON");
        assert!(detail.is_object(), "{detail}");
        judged += usize::from(event.kind == AuditKind::Verdict);
        hash = event.seal(hash);
        assert_eq!(hash.0.as_slice(), row.get::<Vec<u8>, _>("hash"), "{event:?}");
    }
    assert_eq!(judged, verdicts);
    let check = sqlx::query("PRAGMA integrity_check").fetch_one(&pool).await.expect("checked");
    assert_eq!(check.get::<String, _>(0), "ok");
    pool.close().await;
}

#[tokio::test]
async fn a_verdict_is_written_with_all_that_belongs_to_it_and_a_repeat_changes_nothing() {
    let bench = Bench::new().await;
    let recorded = bench.record("a.png", b"a", &[0.7, 0.1], 1).await;
    assert!(recorded.new_item && recorded.task_opened);
    assert_eq!((recorded.outcome, recorded.reason), (Outcome::Review, None));
    let counts = bench.all_rows().await;
    let expected = [1, 1, 1, 2, 1, 1, 0, 1];
    let names = [
        "items",
        "sightings",
        "embeddings",
        "verdicts",
        "tasks",
        "task_policies",
        "decisions",
        "audit_events",
    ];
    assert_eq!(counts, names.into_iter().zip(expected).collect());

    let again = bench.record("a.png", b"a", &[0.7, 0.1], 2).await;
    assert!(!again.new_item && !again.task_opened && again.repeat);
    assert_eq!(bench.all_rows().await, counts);

    let known = bench.store.known_item(ItemId::of_bytes(b"a"), &fingerprint()).await;
    let known = known.expect("read").expect("known");
    assert!(known.views[0].cosine(&embedding(b"a")) > 0.999);
    assert_eq!(known.facts.map(|facts| facts.format), Some("png".into()));
    assert_eq!(known.reason, None);
    let unknown = bench.store.known_item(ItemId::of_bytes(b"b"), &fingerprint()).await;
    assert_eq!(unknown.expect("read"), None);
}

#[tokio::test]
async fn either_all_of_a_batch_is_written_or_nothing() {
    let bench = Bench::new().await;
    let stranger = Judges {
        policies: vec![Arc::new(policy("never-announced", Severity::Low))],
        judged_by: bench.judges.judged_by.clone(),
    };
    let batch =
        [bench.judges.judged("a.png", b"a", &[0.7, 0.1]), stranger.judged("b.png", b"b", &[0.7])];
    let refused = bench.store.record_verdicts(&bench.judges.judged_by, &batch, Timestamp(1)).await;
    assert!(matches!(refused, Err(StoreError::Sql { .. })), "{refused:?}");
    assert!(bench.all_rows().await.values().all(|count| *count == 0));
    // The set of policies of the batch was rolled back as well and is written by the next one.
    bench.record("a.png", b"a", &[0.7, 0.1], 2).await;
    let exported = bench.store.export_verdicts(0, false, 10).await.expect("exported");
    assert_eq!(exported[0].policies.len(), 2);
}

#[tokio::test]
async fn the_same_bytes_elsewhere_are_a_sighting_and_other_bytes_take_the_path() {
    let bench = Bench::new().await;
    bench.record("a.png", b"a", &[0.1, 0.1], 1).await;
    let second = bench.record("b.png", b"a", &[0.1, 0.1], 2).await;
    assert!(!second.new_item);
    assert_eq!((bench.rows("items").await, bench.rows("sightings").await), (1, 2));

    let replaced = bench.record("a.png", b"other", &[0.95, 0.1], 3).await;
    assert!(replaced.new_item && replaced.task_opened);
    assert_eq!(replaced.outcome, Outcome::Block);
    let current = bench.store.export_verdicts(0, false, 10).await.expect("exported");
    assert_eq!(current.len(), 2);
    assert!(current.iter().all(|row| row.gone_at.is_none()));
    let all = bench.store.export_verdicts(0, true, 10).await.expect("exported");
    assert_eq!(all.len(), 3);
    assert_eq!(all[0].gone_at, Some(Timestamp(3)));
    assert_eq!((all[0].item, all[2].item), (ItemId::of_bytes(b"a"), ItemId::of_bytes(b"other")));

    // And back again: a sighting of its own, not the old one revived.
    bench.record("a.png", b"a", &[0.1, 0.1], 4).await;
    let all = bench.store.export_verdicts(0, true, 10).await.expect("exported");
    let gone: Vec<_> = all.iter().map(|row| row.gone_at.is_some()).collect();
    assert_eq!(gone, [true, false, true, false]);
}

#[tokio::test]
async fn allow_asks_nobody_and_review_and_block_ask_once_an_item() {
    let bench = Bench::new().await;
    assert!(!bench.record("allowed.png", b"allowed", &[0.49, 0.2], 1).await.task_opened);
    assert!(bench.record("review.png", b"review", &[0.5, 0.2], 2).await.task_opened);
    assert!(bench.record("block.png", b"block", &[0.2, 0.9], 3).await.task_opened);
    assert!(!bench.record("twin.png", b"block", &[0.2, 0.9], 4).await.task_opened);
    let tasks = bench.queue().await;
    assert_eq!(tasks.len(), 2);
    assert_eq!(tasks[0].policy.as_ref().map(PolicyId::as_str), Some("weapons"), "the graver first");
    assert_eq!(tasks[1].policy.as_ref().map(PolicyId::as_str), Some("memes"));
    assert_eq!((tasks[1].outcome, tasks[1].sightings), (Outcome::Block, 2));
    assert_eq!(tasks[1].score, Some(0.9));

    let detail = bench.store.task_detail(tasks[1].id).await.expect("read").expect("there");
    assert_eq!(detail.policies[0].policy.as_str(), "memes", "the flagging one first");
    assert_eq!(detail.policies.len(), 2);
    assert_eq!(detail.sightings, [sighting("block.png"), sighting("twin.png")]);
    assert_eq!(bench.store.task_detail(TaskId(999)).await.expect("read"), None);
}

#[tokio::test]
async fn a_background_policy_is_recorded_and_asks_nobody() {
    let bench = Bench::new().await;
    let mut background = policy("smoking", Severity::High);
    background.mode = Mode::Background;
    let judges = Judges::announce(&bench.store, vec![background]).await;
    let recorded = judges.record(&bench.store, judges.judged("a.png", b"a", &[0.99]), 1).await;
    assert_eq!((recorded.outcome, recorded.task_opened), (Outcome::Allow, false));
    let exported = bench.store.export_verdicts(0, false, 10).await.expect("exported");
    assert_eq!(exported[0].policies[0].outcome, Outcome::Block);
    assert_eq!(exported[0].state, None);
}

#[tokio::test]
async fn a_policy_that_comes_later_asks_again_only_for_what_no_person_looked_at() {
    let bench = Bench::new().await;
    bench.record("a.png", b"a", &[0.7, 0.1], 1).await;
    bench.decide(Action::Approve, "ana", 2).await;
    // Judged again by the same policies: a person has looked for all of them.
    assert!(!bench.record("a.png", b"a", &[0.7, 0.1], 3).await.task_opened);
    // The same policy with other prompts still is what the person was asked about.
    let mut sharper = policy("weapons", Severity::High);
    sharper.prompts[0].text = "a rifle".into();
    let judges = Judges::announce(&bench.store, vec![sharper]).await;
    let sharper = judges.judged("a.png", b"a", &[0.8]);
    assert!(!judges.record(&bench.store, sharper, 4).await.task_opened);
    // A new policy flags it: a person has not looked at it for that.
    let later = vec![policy("weapons", Severity::High), policy("alcohol", Severity::Low)];
    let judges = Judges::announce(&bench.store, later).await;
    let by_both = judges.judged("a.png", b"a", &[0.7, 0.6]);
    assert!(judges.record(&bench.store, by_both.clone(), 5).await.task_opened);
    let task = bench.only_task().await;
    let detail = bench.store.task_detail(task.id).await.expect("read").expect("there");
    assert_eq!(detail.decisions.len(), 1, "what was decided before is shown");
    bench.decide(Action::Approve, "ana", 6).await;
    assert!(!judges.record(&bench.store, by_both, 7).await.task_opened);
}

#[tokio::test]
async fn what_was_removed_before_comes_back_to_a_person() {
    let bench = Bench::new().await;
    bench.record("a.png", b"a", &[0.7, 0.1], 1).await;
    bench.decide(Action::Remove, "ana", 2).await;
    assert!(!bench.record("a.png", b"a", &[0.7, 0.1], 3).await.task_opened, "known at this path");

    // At a new path, even when no policy flags it (any more).
    let again = bench.record("b.png", b"a", &[0.1, 0.1], 4).await;
    assert_eq!((again.outcome, again.reason), (Outcome::Review, Some(Reason::RemovedBefore)));
    assert!(again.task_opened);
    let task = bench.only_task().await;
    assert_eq!((&task.reason, &task.policy), (&Some(Reason::RemovedBefore), &None));
    assert_eq!(task.path, sighting("b.png").path);

    // Once a person let it pass, it passes.
    bench.decide(Action::Approve, "ana", 5).await;
    let passed = bench.record("c.png", b"a", &[0.1, 0.1], 6).await;
    assert_eq!((passed.outcome, passed.task_opened), (Outcome::Allow, false));
}

#[tokio::test]
async fn a_file_that_could_not_be_read_is_superseded_once_it_can_be() {
    let bench = Bench::new().await;
    let recorded = bench.judges.record(&bench.store, unread("a.png"), 1).await;
    assert_eq!(recorded.outcome, Outcome::Review);
    let task = bench.only_task().await;
    assert_eq!(task.severity, Severity::High, "what can't be judged might be anything");
    assert_eq!((task.policy.clone(), task.score), (None, None));

    let judged = bench.record("a.png", b"a", &[0.1, 0.1], 2).await;
    assert!(judged.new_item && !judged.task_opened);
    assert_eq!(bench.queue().await, []);
    let late = decision(&task, Action::Remove, "ana", 3);
    let late = bench.store.record_decision(&late).await.expect("answered");
    assert_eq!(late, DecisionOutcome::Superseded);
    assert_audit_holds(bench.store.path(), 2).await;
    let kinds = bench.rows("audit_events WHERE kind = 'superseded'").await;
    assert_eq!(kinds, 1);
}

#[tokio::test]
async fn bytes_that_can_not_be_judged_keep_their_task_while_they_lie_somewhere() {
    let bench = Bench::new().await;
    for (name, at) in [("b.png", 1), ("c.png", 2)] {
        let mut broken = bench.judges.judged(name, b"broken", &[]);
        let reason = Reason::Undecodable("cut off".into());
        broken.verdict = modtool::moderation::Verdict::unjudged(reason);
        (broken.views, broken.facts) = (Vec::new(), None);
        bench.judges.record(&bench.store, broken, at).await;
    }
    bench.record("b.png", b"whole", &[0.1, 0.1], 3).await;
    assert_eq!(bench.only_task().await.reason, Some(Reason::Undecodable("cut off".into())));
    bench.record("c.png", b"whole", &[0.1, 0.1], 4).await;
    assert_eq!(bench.queue().await, [], "they lie nowhere any more");
    // A picture that a policy flagged stays for a person, whatever takes its path.
    bench.record("d.png", b"bad", &[0.7, 0.1], 5).await;
    bench.record("d.png", b"harmless", &[0.1, 0.1], 6).await;
    assert_eq!(bench.only_task().await.score, Some(0.7));
    assert_audit_holds(bench.store.path(), 6).await;
}

#[tokio::test]
async fn the_standing_of_a_file_follows_its_bytes_and_its_decisions() {
    let bench = Bench::new().await;
    bench.record("a.png", b"a", &[0.1, 0.1], 1).await;
    bench.record("b.png", b"b", &[0.7, 0.1], 2).await;
    let standing = async |name: &str, bytes: &[u8]| {
        let asked = [(sighting(name).path, stat(bytes))];
        bench.store.standing(&asked, &judged_with()).await.expect("answered").remove(0)
    };
    assert_eq!(standing("a.png", b"a").await, Standing::Clear);
    assert_eq!(standing("a.png", b"changed").await, Standing::New);
    assert_eq!(standing("c.png", b"a").await, Standing::New);
    assert_eq!(standing("b.png", b"b").await, Standing::Flagged);
    bench.decide(Action::Escalate, "ana", 3).await;
    assert_eq!(standing("b.png", b"b").await, Standing::Flagged);
    bench.decide(Action::Approve, "ana", 4).await;
    assert_eq!(standing("b.png", b"b").await, Standing::Clear);
    bench.store.undo(&reviewer("ana"), Timestamp(5)).await.expect("undone");
    assert_eq!(standing("b.png", b"b").await, Standing::Flagged);
}

#[tokio::test]
async fn what_another_model_judged_is_known_newest_first() {
    let bench = Bench::new().await;
    for (name, bytes) in [("a.png", b"a"), ("b.png", b"b"), ("c.png", b"c")] {
        bench.record(name, bytes, &[0.7, 0.1], 1).await;
    }
    let roots = [std::path::PathBuf::from(crate::support::fixtures::ROOT)];
    let other = JudgedWith { fingerprint: Fingerprint("0".repeat(64)), ..judged_with() };
    let count = async |print: &JudgedWith, roots: &[std::path::PathBuf]| {
        bench.store.count_judged_otherwise(print, roots).await.expect("counted")
    };
    assert_eq!(count(&judged_with(), &roots).await, 0);
    assert_eq!(count(&other, &roots).await, 3);
    assert_eq!(count(&other, &["/elsewhere".into()]).await, 0);
    let page = async |before| {
        bench.store.judged_otherwise(&other, &roots, before, 2).await.expect("a page")
    };
    let first = page(i64::MAX).await;
    let paths: Vec<_> = first.iter().map(|(_, one)| one.clone()).collect();
    assert_eq!(paths, [sighting("c.png"), sighting("b.png")]);
    let second = page(first[1].0).await;
    assert_eq!(second.len(), 1);
    assert_eq!(second[0].1, sighting("a.png"));
    assert_eq!(page(second[0].0).await, []);
    // It stands for nothing, flagged or not.
    let asked = [(sighting("a.png").path, stat(b"a"))];
    let standing = bench.store.standing(&asked, &other).await.expect("answered");
    assert_eq!(standing, [Standing::Otherwise]);
    // Other bytes took the path: the old ones are nobody's business any more.
    bench.record("c.png", b"new", &[0.1, 0.1], 2).await;
    assert_eq!(count(&other, &roots).await, 3);
}

#[tokio::test]
async fn decisions_are_labels() {
    let bench = Bench::new().await;
    bench.record("a.png", b"a", &[0.7, 0.6], 1).await;
    bench.decide(Action::Remove, "ana", 2).await;
    bench.record("b.png", b"b", &[0.7, 0.1], 3).await;
    bench.decide(Action::Approve, "ana", 4).await;
    bench.record("c.png", b"c", &[0.7, 0.6], 5).await;
    let task = bench.only_task().await;
    let weapons = PolicyId::new("weapons").expect("a good id");
    let mut removal = decision(&task, Action::Remove, "ana", 6);
    removal.reason = Some(weapons.clone());
    bench.store.record_decision(&removal).await.expect("decided");
    let decided = bench.store.labels().await.expect("read");
    let found: Vec<_> = decided.iter().map(|one| (one.path.clone(), one.removed)).collect();
    let path = |name: &str| sighting(name).path;
    assert_eq!(found, [(path("a.png"), true), (path("b.png"), false), (path("c.png"), true)]);
    let memes = PolicyId::new("memes").expect("a good id");
    assert_eq!(decided[0].policies, [memes, weapons.clone()], "both had flagged it");
    assert_eq!(decided[2].policies, [weapons], "the reason counts");
    bench.store.undo(&reviewer("ana"), Timestamp(7)).await.expect("undone");
    assert_eq!(bench.store.labels().await.expect("read").len(), 2);
}

/// Thousands of tasks, with equal scores among them.
async fn fill(bench: &Bench, count: u32) -> BTreeSet<TaskId> {
    let mut dice = Dice(3);
    let mut batch = Vec::new();
    for index in 0..count {
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let mut score = || dice.below(50) as f32 / 50.0;
        let mut scores = [score(), score()];
        if scores.iter().all(|score| *score < 0.5) {
            scores[1] = 0.5;
        }
        let name = format!("{index}.png");
        batch.push(bench.judges.judged(&name, name.as_bytes(), &scores));
    }
    let recorded = bench.store.record_verdicts(&bench.judges.judged_by, &batch, Timestamp(1)).await;
    assert!(recorded.expect("written").iter().all(|recorded| recorded.task_opened));
    let all = bench.store.queue(&QueueFilter::default(), None, count + 1).await.expect("the queue");
    assert_eq!(all.len(), count as usize);
    all.iter().map(|task| task.id).collect()
}

async fn paged(store: &Store, filter: &QueueFilter, page: u32) -> Vec<ReviewTask> {
    let (mut tasks, mut after): (Vec<ReviewTask>, _) = (Vec::new(), None);
    loop {
        let next = store.queue(filter, after, page).await.expect("a page");
        assert!(next.len() <= page as usize);
        let Some(last) = next.last() else { return tasks };
        after = Some(QueueCursor::of(last));
        tasks.extend(next);
        assert!(tasks.len() <= 10_000, "the pages have no end");
    }
}

#[tokio::test]
async fn pages_of_the_queue_hold_every_task_once_and_in_order() {
    let bench = Bench::new().await;
    let ids = fill(&bench, 3000).await;
    // Some wait for someone with more say: both states are one queue.
    for task in bench.queue().await.iter().step_by(7) {
        let decided =
            bench.store.record_decision(&decision(task, Action::Escalate, "ana", 2)).await;
        assert!(matches!(decided, Ok(DecisionOutcome::Recorded(_))));
    }
    let tasks = paged(&bench.store, &QueueFilter::default(), 170).await;
    assert_eq!(tasks.len(), ids.len());
    assert_eq!(tasks.iter().map(|task| task.id).collect::<BTreeSet<_>>(), ids);
    assert!(tasks.is_sorted_by(|a, b| QueueOrder::Pressing.compare(a, b).is_lt()));

    let counts = bench.store.queue_counts(Timestamp(0)).await.expect("counted");
    assert_eq!(counts.open + counts.escalated, 3000);
    for (state, count) in
        [(ReviewState::Open, counts.open), (ReviewState::Escalated, counts.escalated)]
    {
        let filter = QueueFilter { state: Some(state), ..QueueFilter::default() };
        let of_state = paged(&bench.store, &filter, 97).await;
        assert_eq!(of_state.len() as u64, count);
        assert!(of_state.iter().all(|task| task.state == state));
    }
    let by_policy = bench.store.policy_counts().await.expect("counted");
    assert_eq!(by_policy.len(), 2);
    for (id, count) in by_policy {
        let filter = QueueFilter { policy: Some(id.clone()), ..QueueFilter::default() };
        let flagged = paged(&bench.store, &filter, 300).await;
        assert_eq!(flagged.len() as u64, count, "{id}");
        let one = &flagged[flagged.len() / 2];
        let detail = bench.store.task_detail(one.id).await.expect("read").expect("there");
        assert!(detail.policies.iter().any(|policy| policy.policy == id && policy.flags()));
    }
    let nobody = QueueFilter { policy: PolicyId::new("nobody").ok(), ..QueueFilter::default() };
    assert_eq!(paged(&bench.store, &nobody, 10).await, []);
}

#[tokio::test]
async fn a_decision_closes_an_escalation_waits_and_the_faster_one_counts() {
    let bench = Bench::new().await;
    bench.record("a.png", b"a", &[0.7, 0.1], 1).await;
    let task = bench.only_task().await;
    let before = bench.store.change_counter().await.expect("counted");
    assert!(matches!(bench.decide(Action::Escalate, "ana", 2).await, DecisionOutcome::Recorded(_)));
    assert!(bench.store.change_counter().await.expect("counted") > before);
    assert_eq!(bench.only_task().await.state, ReviewState::Escalated);
    let DecisionOutcome::AlreadyDecided(standing) = bench.decide(Action::Escalate, "bob", 3).await
    else {
        panic!("it is escalated already")
    };
    assert_eq!(standing.decision.reviewer, reviewer("ana"));
    let mut reasoned = decision(&task, Action::Remove, "bob", 4);
    reasoned.reason = PolicyId::new("weapons").ok();
    reasoned.note = Some("clear\u{1b} case".into());
    let recorded = bench.store.record_decision(&reasoned).await.expect("decided");
    assert!(matches!(recorded, DecisionOutcome::Recorded(_)));
    assert_eq!(bench.queue().await, []);
    let late = decision(&task, Action::Approve, "ana", 5);
    let DecisionOutcome::AlreadyDecided(standing) =
        bench.store.record_decision(&late).await.expect("answered")
    else {
        panic!("it is decided already")
    };
    assert_eq!(standing.decision, reasoned);
    let nobodys = ReviewTask { id: TaskId(999), ..task };
    let nobodys = decision(&nobodys, Action::Approve, "ana", 6);
    let outcome = bench.store.record_decision(&nobodys).await.expect("answered");
    assert_eq!(outcome, DecisionOutcome::Superseded);
    let counts = bench.store.queue_counts(Timestamp(4)).await.expect("counted");
    assert_eq!((counts.open, counts.escalated, counts.decided_today), (0, 0, 1));
    assert_eq!(counts.oldest, None);
    assert_audit_holds(bench.store.path(), 1).await;
}

#[tokio::test]
async fn undo_takes_back_the_own_latest_decision_step_by_step() {
    let bench = Bench::new().await;
    bench.record("a.png", b"a", &[0.7, 0.1], 1).await;
    bench.record("b.png", b"b", &[0.6, 0.1], 2).await;
    let tasks = bench.queue().await;
    let undo = async |name: &str, at| {
        bench.store.undo(&reviewer(name), Timestamp(at)).await.expect("answered")
    };
    let decide = async |task: &ReviewTask, action, name: &str, at| {
        let decided = bench.store.record_decision(&decision(task, action, name, at)).await;
        assert!(matches!(decided, Ok(DecisionOutcome::Recorded(_))), "{decided:?}");
    };
    assert_eq!(undo("ana", 3).await, UndoOutcome::NothingToUndo);
    decide(&tasks[0], Action::Approve, "ana", 4).await;
    decide(&tasks[1], Action::Remove, "ana", 5).await;
    assert_eq!(undo("bob", 6).await, UndoOutcome::NothingToUndo, "it is not bob's");

    let UndoOutcome::Undone(undone) = undo("ana", 7).await else { panic!("undone") };
    assert_eq!((undone[0].decision.task, undone[0].decision.action), (tasks[1].id, Action::Remove));
    assert_eq!(bench.only_task().await.id, tasks[1].id);
    let UndoOutcome::Undone(undone) = undo("ana", 8).await else { panic!("undone") };
    assert_eq!(undone[0].decision.task, tasks[0].id);
    assert_eq!(undo("ana", 9).await, UndoOutcome::NothingToUndo);
    assert_eq!(bench.queue().await, tasks, "all is as it was");
    // What was taken back does not count as removed before.
    let twin = bench.record("twin.png", b"b", &[0.6, 0.1], 10).await;
    assert_eq!(twin.reason, None);

    // An escalation that bob decided: ana can't take hers back under him.
    decide(&tasks[0], Action::Escalate, "ana", 11).await;
    decide(&tasks[0], Action::Approve, "bob", 12).await;
    let UndoOutcome::DecidedSince(standing) = undo("ana", 13).await else { panic!("refused") };
    assert_eq!(standing.decision.reviewer, reviewer("bob"));
    let UndoOutcome::Undone(_) = undo("bob", 14).await else { panic!("undone") };
    let back = bench.queue().await.into_iter().find(|task| task.id == tasks[0].id);
    assert_eq!(back.map(|task| task.state), Some(ReviewState::Escalated));
    let UndoOutcome::Undone(_) = undo("ana", 15).await else { panic!("undone") };
    let detail = bench.store.task_detail(tasks[0].id).await.expect("read").expect("there");
    assert!(detail.decisions.iter().all(|past| past.undone) && detail.decisions.len() == 3);
    assert_audit_holds(bench.store.path(), 3).await;
    assert_eq!(bench.rows("audit_events WHERE kind = 'undo'").await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_reviewers_racing_exactly_one_wins_each_task() {
    const TASKS: u32 = 200;
    let bench = Bench::new().await;
    fill(&bench, TASKS).await;
    let tasks = bench.queue().await;
    let mut racers = tokio::task::JoinSet::new();
    for name in ["ana", "bob"] {
        let (path, tasks) = (bench.store.path().to_owned(), tasks.clone());
        racers.spawn(async move {
            let store = Store::open(&path).await.expect("opens");
            let (mut won, mut lost_to_other) = (BTreeSet::new(), BTreeSet::new());
            for task in &tasks {
                let decision = decision(task, Action::Approve, name, 2);
                match store.record_decision(&decision).await.expect("never BUSY") {
                    DecisionOutcome::Recorded(_) => won.insert(task.id),
                    DecisionOutcome::AlreadyDecided(by) => {
                        assert_ne!(by.decision.reviewer, reviewer(name));
                        lost_to_other.insert(task.id)
                    }
                    outcome => panic!("{outcome:?} for {task:?}"),
                };
            }
            store.close().await;
            (won, lost_to_other)
        });
    }
    let ended = racers.join_all().await;
    let [(won_a, lost_a), (won_b, lost_b)] = ended.as_slice() else { panic!("two racers") };
    assert_eq!((won_a, won_b), (lost_b, lost_a));
    assert_eq!(won_a.len() + won_b.len(), TASKS as usize);
    assert_eq!(bench.rows("decisions").await, i64::from(TASKS));
    assert_eq!(bench.queue().await, []);
    assert_audit_holds(bench.store.path(), TASKS as usize).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_on_one_file_wait_for_each_other() {
    const WRITERS: u32 = 4;
    const EACH: u32 = 60;
    let bench = Bench::new().await;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let path = bench.store.path().to_owned();
        writers.spawn(async move {
            let store = Store::open(&path).await.expect("opens");
            let judges = Judges::two(&store).await;
            for index in 0..EACH {
                // Half of the files are seen by all of them.
                let name =
                    if index % 2 == 0 { format!("{index}") } else { format!("{writer}-{index}") };
                judges.record(&store, judges.judged(&name, name.as_bytes(), &[0.7, 0.1]), 1).await;
                store.queue(&QueueFilter::default(), None, 20).await.expect("never BUSY");
                let texts = [(name.clone(), embedding(name.as_bytes()))];
                let kept = store.record_text_embeddings(&fingerprint(), "builtin", &texts).await;
                kept.expect("never BUSY");
            }
            store.close().await;
        });
    }
    writers.join_all().await;
    let (each, writers) = (i64::from(EACH), i64::from(WRITERS));
    assert_eq!(bench.rows("items").await, each / 2 + writers * each / 2);
    assert_eq!(bench.rows("tasks").await, each / 2 + writers * each / 2);
    // What another writer judged already is no news.
    let judged = EACH / 2 + WRITERS * EACH / 2;
    assert_audit_holds(bench.store.path(), judged as usize).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_start_of_many_at_once_makes_one_database() {
    for _ in 0..5 {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut openers = tokio::task::JoinSet::new();
        for _ in 0..12 {
            let path = dir.path().join("modtool.db");
            openers.spawn(async move {
                let store = Store::open(&path).await.expect("opens");
                Judges::two(&store).await;
                store.close().await;
            });
        }
        openers.join_all().await;
        assert_audit_holds(&dir.path().join("modtool.db"), 0).await;
    }
}

#[tokio::test]
async fn the_audit_log_can_not_be_changed_and_its_chain_holds() {
    let bench = Bench::new().await;
    for index in 0..50_i64 {
        let name = format!("{index}.png");
        let scores = if index % 3 == 0 { [0.7, 0.1] } else { [0.1, 0.1] };
        bench.record(&name, name.as_bytes(), &scores, index).await;
    }
    for (index, task) in (0..).zip(bench.queue().await) {
        bench
            .store
            .record_decision(&decision(&task, Action::Remove, "ana", 100 + index))
            .await
            .expect("decided");
    }
    assert_audit_holds(bench.store.path(), 50).await;
    let pool = raw(bench.store.path()).await;
    for change in [
        "UPDATE audit_events SET actor = 'nobody' WHERE sequence = 7",
        "DELETE FROM audit_events WHERE sequence = 7",
        "DELETE FROM audit_events",
    ] {
        let refused = sqlx::query(change).execute(&pool).await.expect_err("append-only");
        assert!(refused.to_string().contains("append-only"), "{refused}");
    }
    pool.close().await;
    assert_audit_holds(bench.store.path(), 50).await;
}

#[tokio::test]
async fn only_the_owner_can_read_the_database() {
    let bench = Bench::new().await;
    bench.record("a.png", b"a", &[0.7, 0.1], 1).await;
    let mut files = Vec::new();
    for entry in std::fs::read_dir(bench.dir.path()).expect("the folder") {
        let entry = entry.expect("an entry");
        let mode = entry.metadata().expect("its mode").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", entry.path().display());
        files.push(entry.file_name().into_string().expect("a name"));
    }
    files.sort();
    assert_eq!(files, ["modtool.db", "modtool.db-shm", "modtool.db-wal"]);
}

#[tokio::test]
async fn what_is_no_database_is_refused_by_name() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("modtool.db");
    std::fs::write(&path, "no database at all, but long enough to look at. ".repeat(100))
        .expect("written");
    let error = Store::open(&path).await.expect_err("no database");
    assert!(error.to_string().contains("modtool.db"), "{error}");
    let missing = dir.path().join("no/such/folder/modtool.db");
    assert!(matches!(Store::open(&missing).await, Err(StoreError::Open { .. })));
}

#[tokio::test]
async fn a_database_of_a_later_version_is_refused_and_left_alone() {
    let bench = Bench::new().await;
    let pool = raw(bench.store.path()).await;
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (999, 'from the future', TRUE, x'00', 0)",
    )
    .execute(&pool)
    .await
    .expect("written");
    pool.close().await;
    let error = Store::open(bench.store.path()).await.expect_err("from the future");
    assert!(matches!(error, StoreError::Migrate { .. }), "{error}");
}

#[tokio::test]
async fn the_linked_sqlite_is_a_safe_one_and_the_journal_is_durable() {
    let bench = Bench::new().await;
    let version = bench.store.sqlite_version().await.expect("told");
    let parts: Vec<u32> = version.split('.').map(|part| part.parse().expect("a number")).collect();
    assert!(parts.as_slice() >= [3, 51, 3].as_slice(), "{version}");
    let pool = raw(bench.store.path()).await;
    let mode = sqlx::query("PRAGMA journal_mode").fetch_one(&pool).await.expect("told");
    assert_eq!(mode.get::<String, _>(0), "wal");
    pool.close().await;
}

#[tokio::test]
async fn exports_come_in_pages_that_miss_and_repeat_nothing() {
    let bench = Bench::new().await;
    fill(&bench, 700).await;
    let (mut paths, mut after) = (BTreeSet::new(), 0);
    loop {
        let page = bench.store.export_verdicts(after, false, 64).await.expect("a page");
        let Some(last) = page.last() else { break };
        assert!(last.sighting > after);
        after = last.sighting;
        for row in page {
            assert_eq!(row.policies.len(), 2);
            assert_eq!(row.policies[0].policy.as_str(), "weapons", "in the policies' order");
            assert_eq!(row.state, Some(ReviewState::Open));
            assert_eq!(row.model, Some(("builtin".to_owned(), fingerprint())));
            assert!(paths.insert(row.path));
        }
    }
    assert_eq!(paths.len(), 700);

    let count = bench.store.count_embeddings(&fingerprint()).await.expect("counted");
    assert_eq!(count, 700);
    let (mut items, mut after) = (BTreeSet::new(), 0);
    loop {
        let page = bench.store.export_embeddings(&fingerprint(), after, 64).await.expect("a page");
        let Some(last) = page.last() else { break };
        assert!(last.row > after);
        after = last.row;
        for row in page {
            assert_eq!((row.view, row.embedding.dim()), (0, 32));
            assert!(items.insert(row.item));
        }
    }
    assert_eq!(items.len(), 700);
    let other = modtool::moderation::Fingerprint("0".repeat(64));
    assert_eq!(bench.store.count_embeddings(&other).await.expect("counted"), 0);
    assert_eq!(bench.store.export_embeddings(&other, 0, 10).await.expect("read"), []);
}

#[tokio::test]
async fn embeddings_of_texts_read_back_exactly_and_belong_to_a_model() {
    let bench = Bench::new().await;
    let texts = ["a photo of a handgun", "", "naïve \u{1f52b}"];
    let kept: Vec<(String, Embedding)> =
        texts.iter().map(|text| ((*text).to_owned(), embedding(text.as_bytes()))).collect();
    bench.store.record_text_embeddings(&fingerprint(), "builtin", &kept[..2]).await.expect("kept");
    bench.store.record_text_embeddings(&fingerprint(), "builtin", &kept).await.expect("kept");
    let asked = [texts[2], "never seen", texts[0], texts[1], texts[0]].map(str::to_owned);
    let read = bench.store.text_embeddings(&fingerprint(), &asked).await.expect("read");
    let close = |index: usize, text: &str| {
        let read: &Embedding = read[index].as_ref().expect("kept");
        let kept = embedding(text.as_bytes());
        let pairs = read.as_slice().iter().zip(kept.as_slice());
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) < 1e-6
    };
    assert!(close(0, texts[2]) && close(2, texts[0]) && close(3, texts[1]) && close(4, texts[0]));
    assert_eq!(read[1], None);
    let other = modtool::moderation::Fingerprint("0".repeat(64));
    let read = bench.store.text_embeddings(&other, &asked).await.expect("read");
    assert_eq!(read, vec![None; 5]);
}

#[tokio::test]
async fn the_last_beat_of_a_watcher_is_what_others_see() {
    let bench = Bench::new().await;
    let beat = WatcherBeat {
        root: "/uploads".into(),
        pid: 42,
        started_at: Timestamp(1),
        beat_at: Timestamp(2),
        stopped_at: None,
        engine: "tract".into(),
        model: "builtin".into(),
        judged: 5,
        rate: 1.5,
        waiting: 2,
        lag_ms: 300,
        skipped: 1,
        again: 7,
        stuck: vec![("/u/\u{1b}slow.png".into(), Timestamp(5))],
        last_error: Some(("the disk is full".into(), Timestamp(2))),
    };
    let other = WatcherBeat { root: "/elsewhere".into(), last_error: None, ..beat.clone() };
    bench.store.record_beat(&beat).await.expect("written");
    bench.store.record_beat(&other).await.expect("written");
    let later = WatcherBeat { beat_at: Timestamp(9), stopped_at: Some(Timestamp(9)), ..beat };
    bench.store.record_beat(&later).await.expect("written");
    assert_eq!(bench.store.watcher_beats().await.expect("read"), [other, later]);
}

#[tokio::test]
async fn paths_are_bytes_and_read_back_as_they_were() {
    use std::os::unix::ffi::OsStrExt as _;
    let bench = Bench::new().await;
    let mut judged = bench.judges.judged("x", b"a", &[0.7, 0.1]);
    judged.sighting.path =
        Path::new("/uploads").join(std::ffi::OsStr::from_bytes(b"\xff\n\x1b.png"));
    let path = judged.sighting.path.clone();
    bench.judges.record(&bench.store, judged, 1).await;
    assert_eq!(bench.only_task().await.path, path);
    let exported = bench.store.export_verdicts(0, false, 10).await.expect("exported");
    assert_eq!(exported[0].path, path);
}

#[tokio::test]
async fn history_comes_in_blocks_of_whole_items_with_every_byte_of_their_vectors() {
    use modtool::store::Wanted;
    let bench = Bench::new().await;
    let mut expected = Vec::new();
    for number in 0..7_u8 {
        let bytes = [number, 0, 7];
        let mut judged = bench.judges.judged(&format!("{number}.png"), &bytes, &[0.1, 0.1]);
        // One to three views.
        judged.views = (0..=number % 3).map(|view| embedding(&[number, view])).collect();
        expected.push(judged.views.iter().flat_map(Embedding::to_f16_bytes).collect::<Vec<u8>>());
        bench.judges.record(&bench.store, judged, 1).await;
    }
    for limit in [3, 4, 5, 100] {
        let (mut after, mut items, mut vectors) = (0, Vec::new(), Vec::new());
        loop {
            let block = bench.store.history(&fingerprint(), after, Wanted::Sightings, limit).await;
            let block = block.expect("read");
            let Some(last) = block.items.last() else { break };
            after = last.number;
            assert!(block.items.iter().all(|item| item.sightings.len() == 1));
            items.extend(block.items.iter().map(|item| item.views));
            vectors.extend(block.vectors);
        }
        assert_eq!(items, [1, 2, 3, 1, 2, 3, 1], "limit {limit}");
        assert_eq!(vectors, expected.concat(), "limit {limit}");
    }
}

#[tokio::test]
async fn histograms_forget_what_is_erased_or_too_old() {
    let bench = Bench::new().await;
    let version = bench.judges.policies[0].hash();
    for (name, bytes) in [("a.png", b"a"), ("b.png", b"b"), ("c.png", b"c")] {
        bench.record(name, bytes, &[0.3, 0.1], 1).await;
    }
    let counted = async || {
        let histograms = bench.store.score_histograms(&fingerprint(), &[version]).await;
        histograms.expect("read").first().map_or(0, modtool::moderation::ScoreHistogram::total)
    };
    assert_eq!(counted().await, 3);
    let item = ItemId::of_bytes(b"a");
    bench.store.erase(item, &reviewer("ana"), Timestamp(2)).await.expect("erased");
    assert_eq!(counted().await, 2);
    let cutoffs = Cutoffs { verdicts: Some(Timestamp(1000)), ..Cutoffs::default() };
    bench.store.expire(cutoffs, Timestamp(2000)).await.expect("deleted");
    assert_eq!(counted().await, 0);
}

#[tokio::test]
async fn recall_counts_what_policies_found_and_not_what_people_came_upon() {
    let bench = Bench::new().await;
    let ana = reviewer("ana");
    bench.record("flagged.png", b"flagged", &[0.7, 0.1], 1).await;
    bench.decide(Action::Remove, "ana", 2).await;
    bench.record("missed.png", b"missed", &[0.1, 0.1], 3).await;
    let missed = ItemId::of_bytes(b"missed");
    bench.store.open_by_hand(missed, &ana, Timestamp(4)).await.expect("opened");
    bench.decide(Action::Remove, "ana", 5).await;
    let (found, samples) = bench.store.recall_samples().await.expect("read");
    assert_eq!((found, samples.len()), (1, 0));
}

/// Which of these bytes can be read in the database's files.
fn readable(store: &Store, secrets: &[&[u8]]) -> Vec<String> {
    let mut found = Vec::new();
    for ending in ["", "-wal"] {
        let path = format!("{}{ending}", store.path().display());
        let held = std::fs::read(&path).unwrap_or_default();
        for secret in secrets {
            if held.windows(secret.len()).any(|part| part == *secret) {
                found.push(format!("{} in modtool.db{ending}", String::from_utf8_lossy(secret)));
            }
        }
    }
    found
}

/// Pages that were split, and rows that were changed before anyone thought of erasing, leave
/// copies behind.
#[tokio::test]
async fn what_is_erased_can_be_read_nowhere_whatever_happened_before() {
    let bench = Bench::new().await;
    let item = ItemId::of_bytes(b"secret");
    for number in 0..120 {
        let other = format!("other {number}");
        bench.record(&format!("{number}/{other}.png"), other.as_bytes(), &[0.7, 0.1], 1).await;
        let name = format!("{number}/secret-name.png");
        bench.record(&name, b"secret", &[0.7, 0.1], number).await;
    }
    let task = bench.queue().await.into_iter().find(|task| task.item == item).expect("flagged");
    let mut decided = decision(&task, Action::Approve, "ana", 200);
    decided.note = Some("the-secret-note".into());
    bench.store.record_decision(&decided).await.expect("decided");
    let vectors = async || {
        let vectors = bench.store.vectors(&fingerprint(), 0, 1000).await.expect("read");
        vectors.into_iter().map(|vector| (vector.number, vector.item)).collect::<Vec<_>>()
    };
    let number = bench.store.item_number(item).await.expect("read").expect("known");
    let mut kept = vectors().await;
    kept.retain(|(_, item)| *item != number);
    let digits = item.to_string();
    let secrets =
        [b"secret-name".as_slice(), b"the-secret-note", digits.as_bytes(), item.as_bytes()];
    assert!(!readable(&bench.store, &secrets[..1]).is_empty(), "the test can see");

    let ana = reviewer("ana");
    bench.store.erase(item, &ana, Timestamp(300)).await.expect("erased").expect("known");
    bench.store.overwrite_remains(Duration::from_secs(30)).await.expect("overwritten");
    assert_eq!(readable(&bench.store, &secrets), Vec::<String>::new());
    // The files of vectors go by these numbers.
    assert_eq!(vectors().await, kept);
    assert!(bench.store.verify_audit(None).await.expect("read").is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_an_older_state_is_waited_for_and_then_named() {
    let bench = Bench::new().await;
    bench.record("secret-name.png", b"secret", &[0.7, 0.1], 1).await;
    let pool = raw(bench.store.path()).await;
    let mut reader = pool.begin().await.expect("begun");
    sqlx::query("SELECT count(*) FROM items").fetch_one(&mut *reader).await.expect("read");

    let item = ItemId::of_bytes(b"secret");
    bench.store.erase(item, &reviewer("ana"), Timestamp(2)).await.expect("erased");
    let held = bench.store.overwrite_remains(Duration::from_millis(200)).await;
    assert!(matches!(held, Err(StoreError::HeldOpen { .. })), "{held:?}");
    let secrets = [b"secret-name".as_slice(), item.as_bytes()];
    assert!(!readable(&bench.store, &secrets).is_empty(), "the reader still needs it");

    let release = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        reader.rollback().await.expect("ended");
    };
    let (overwritten, ()) =
        tokio::join!(bench.store.overwrite_remains(Duration::from_mins(1)), release);
    overwritten.expect("it was waited for");
    assert_eq!(readable(&bench.store, &secrets), Vec::<String>::new());
    pool.close().await;
}
