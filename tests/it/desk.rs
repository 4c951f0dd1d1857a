//! What the store must do for reviewers: groups, leases, undo and redo, exposure, numbers, search,
//! and no walk over a big table.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use modtool::moderation::{
    Action, Decided, Decision, DecisionOutcome, Embedding, ItemFilter, ItemId, Lane, Lease,
    Outcome, PerceptualHash, PolicyId, QueueCursor, QueueFilter, QueueOrder, QueueRows, Reason,
    RedoOutcome, ReviewState, ReviewTask, ScoreHistogram, TaskId, Timestamp, UndoOutcome,
};
use modtool::store::{Judged, Store};
use sqlx::{AssertSqlSafe, Row as _};
use tracing::field::{Field, Visit};

use super::store::{BY_TEST, Bench, assert_audit_holds, raw};
use super::support::fixtures::{decision, fingerprint, reviewer, unread};

/// A hash with these bits set in its upright form and none of the eight forms alike.
fn hash(bits: impl IntoIterator<Item = usize>) -> PerceptualHash {
    let mut forms = [[0; 32]; 8];
    for (number, form) in (0_u8..).zip(&mut forms) {
        form.fill(0x1b_u8.wrapping_mul(number));
    }
    for bit in bits {
        forms[0][bit / 8] |= 1 << (bit % 8);
    }
    PerceptualHash { forms, quality: 80 }
}

fn hashed(mut judged: Judged, hash: &PerceptualHash) -> Judged {
    judged.facts.as_mut().expect("a picture").hash = Some(*hash);
    judged
}

impl Bench {
    async fn look(&self, name: &str, score: f32, hash: &PerceptualHash) -> TaskId {
        let judged = hashed(self.judges.judged(name, name.as_bytes(), &[score, 0.1]), hash);
        let item = judged.item;
        self.judges.record(&self.store, judged, 1).await;
        self.store.latest_task(item).await.expect("read").expect("was flagged").id
    }

    async fn groups(&self) -> Vec<(TaskId, u32)> {
        self.queue().await.iter().map(|task| (task.id, task.group)).collect()
    }
}

fn together(tasks: &[ReviewTask], action: Action, name: &str, at: i64) -> Vec<Decision> {
    tasks.iter().map(|task| decision(task, action, name, at)).collect()
}

#[tokio::test]
async fn near_duplicates_are_one_row_and_the_most_pressing_leads() {
    let bench = Bench::new().await;
    let first = bench.look("first.png", 0.6, &hash(0..100)).await;
    let near = bench.look("near.png", 0.5, &hash(0..131)).await;
    assert_eq!(bench.groups().await, [(first, 2)]);
    let far = bench.look("far.png", 0.55, &hash((0..100).chain(200..232))).await;
    assert_eq!(bench.groups().await, [(first, 2), (far, 1)]);
    let worst = bench.look("worst.png", 0.9, &hash(1..100)).await;
    assert_eq!(bench.groups().await, [(worst, 3), (far, 1)], "it leads, being the most pressing");
    let group = bench.store.group(worst).await.expect("read");
    let members: Vec<_> = group.iter().map(|task| task.id).collect();
    assert_eq!(members, [worst, first, near]);

    // A list of tasks has each of them.
    let filter = QueueFilter { rows: QueueRows::Tasks, ..QueueFilter::default() };
    assert_eq!(bench.store.queue(&filter, None, 10).await.expect("read").len(), 4);

    // The leader alone is decided: the next one leads. Taken back, it leads again.
    let decided = decision(&group[0], Action::Approve, "ana", 2);
    bench.store.record_decision(&decided).await.expect("decided");
    assert_eq!(bench.groups().await, [(first, 2), (far, 1)]);
    bench.store.undo(&reviewer("ana"), Timestamp(3)).await.expect("undone");
    assert_eq!(bench.groups().await, [(worst, 3), (far, 1)]);

    // Escalated ones are apart.
    let escalated = decision(&group[1], Action::Escalate, "ana", 4);
    bench.store.record_decision(&escalated).await.expect("decided");
    let of_state = |state| QueueFilter { state: Some(state), ..QueueFilter::default() };
    let open = bench.store.queue(&of_state(ReviewState::Open), None, 10).await.expect("read");
    assert_eq!(open.iter().map(|t| (t.id, t.group)).collect::<Vec<_>>(), [(worst, 2), (far, 1)]);
}

#[tokio::test]
async fn a_mirrored_copy_joins_and_a_hash_that_says_nothing_does_not() {
    let bench = Bench::new().await;
    let upright = bench.look("a.png", 0.6, &hash(0..100)).await;
    let mut mirrored = hash(150..250);
    mirrored.forms[2] = *hash(0..101).upright();
    bench.look("mirrored.png", 0.5, &mirrored).await;
    assert_eq!(bench.groups().await, [(upright, 2)]);
    let plain = PerceptualHash { quality: 49, ..hash(0..100) };
    let plain = bench.look("plain.png", 0.55, &plain).await;
    assert_eq!(bench.groups().await, [(upright, 2), (plain, 1)]);
}

#[tokio::test]
async fn one_key_decides_a_group_and_one_undo_takes_all_back_and_one_redo_decides_again() {
    let bench = Bench::new().await;
    let leader = bench.look("a.png", 0.6, &hash(0..100)).await;
    bench.look("b.png", 0.5, &hash(0..101)).await;
    bench.look("c.png", 0.55, &hash(0..102)).await;
    let group = bench.store.group(leader).await.expect("read");
    let decisions = together(&group, Action::Remove, "ana", 2);
    let outcomes = bench.store.record_decisions(&decisions).await.expect("decided");
    assert!(outcomes.iter().all(|outcome| matches!(outcome, DecisionOutcome::Recorded(_))));
    assert_eq!(bench.queue().await, []);
    let redo =
        async |at| bench.store.redo(&reviewer("ana"), Timestamp(at)).await.expect("answered");
    assert_eq!(redo(3).await, RedoOutcome::NothingToRedo);

    let undone = bench.store.undo(&reviewer("ana"), Timestamp(4)).await.expect("undone");
    let UndoOutcome::Undone(undone) = undone else { panic!("{undone:?}") };
    assert_eq!(undone.len(), 3);
    assert_eq!(bench.groups().await, [(leader, 3)], "all is as it was");

    let RedoOutcome::Redone(redone) = redo(5).await else { panic!("redone") };
    assert_eq!(redone.len(), 3);
    assert!(redone.iter().all(|past| past.decision.action == Action::Remove));
    assert_eq!(bench.queue().await, []);
    assert_eq!(redo(6).await, RedoOutcome::NothingToRedo);
    // What was redone can be taken back again, and decided again.
    let undone = bench.store.undo(&reviewer("ana"), Timestamp(7)).await.expect("undone");
    assert!(matches!(undone, UndoOutcome::Undone(undone) if undone.len() == 3));
    assert!(matches!(redo(8).await, RedoOutcome::Redone(redone) if redone.len() == 3));
    assert_audit_holds(bench.store.path(), 3).await;
}

#[tokio::test]
async fn redo_goes_back_step_by_step_and_ends_with_a_new_decision() {
    let bench = Bench::new().await;
    for name in ["a.png", "b.png", "c.png"] {
        bench.record(name, name.as_bytes(), &[0.7, 0.1], 1).await;
    }
    let tasks = bench.queue().await;
    let decide = async |index: usize, name: &str, at| {
        let decision = decision(&tasks[index], Action::Approve, name, at);
        bench.store.record_decision(&decision).await.expect("answered")
    };
    let ana = reviewer("ana");
    decide(0, "ana", 2).await;
    decide(1, "ana", 3).await;
    bench.store.undo(&ana, Timestamp(4)).await.expect("undone");
    bench.store.undo(&ana, Timestamp(5)).await.expect("undone");
    let redone = async |at| match bench.store.redo(&ana, Timestamp(at)).await.expect("answered") {
        RedoOutcome::Redone(past) => past[0].decision.task,
        other => panic!("{other:?}"),
    };
    assert_eq!(redone(6).await, tasks[0].id, "the last undo first");
    assert_eq!(redone(7).await, tasks[1].id);
    bench.store.undo(&ana, Timestamp(8)).await.expect("undone");
    decide(2, "ana", 9).await;
    let nothing = bench.store.redo(&ana, Timestamp(10)).await.expect("answered");
    assert_eq!(nothing, RedoOutcome::NothingToRedo, "something else was decided since");

    // What someone else decided in the meantime stands.
    bench.store.undo(&ana, Timestamp(11)).await.expect("undone");
    decide(2, "bob", 12).await;
    let refused = bench.store.redo(&ana, Timestamp(13)).await.expect("answered");
    assert!(
        matches!(refused, RedoOutcome::DecidedSince(by) if by.decision.reviewer == reviewer("bob"))
    );
}

#[tokio::test]
async fn a_lease_keeps_others_out_until_it_is_given_back_or_runs_out() {
    let bench = Bench::new().await;
    bench.record("a.png", b"a", &[0.7, 0.1], 1).await;
    let task = bench.only_task().await;
    let (ana, bob) = (reviewer("ana"), reviewer("bob"));
    let lease =
        async |who, at| bench.store.lease(task.id, who, Timestamp(at)).await.expect("asked");
    let before = bench.store.change_counter().await.expect("counted");
    let taken = lease(&ana, 100).await.expect("a lease");
    assert_eq!(
        (taken.reviewer.clone(), taken.until),
        (ana.clone(), Timestamp(100 + Lease::LENGTH_MS))
    );
    assert!(bench.store.change_counter().await.expect("counted") > before, "others are told");
    assert_eq!(bench.only_task().await.lease, Some(taken.clone()));
    assert_eq!(lease(&bob, 200).await, Some(taken), "bob is told whose it is");
    let refused = decision(&task, Action::Approve, "bob", 300);
    let refused = bench.store.record_decision(&refused).await.expect("answered");
    assert!(matches!(refused, DecisionOutcome::Leased(lease) if lease.reviewer == ana));

    let renewed = lease(&ana, 500).await.expect("renewed");
    assert_eq!(renewed.until, Timestamp(500 + Lease::LENGTH_MS));
    let late = 500 + Lease::LENGTH_MS;
    assert_eq!(lease(&bob, late).await.expect("ran out").reviewer, bob);
    bench.store.release(task.id, &ana).await.expect("answered");
    assert!(bench.only_task().await.lease.is_some(), "it is not ana's any more");
    bench.store.release(task.id, &bob).await.expect("given back");
    assert_eq!(bench.only_task().await.lease, None);

    lease(&ana, late).await;
    let decided = decision(&task, Action::Approve, "ana", late + 1);
    assert!(matches!(
        bench.store.record_decision(&decided).await,
        Ok(DecisionOutcome::Recorded(_))
    ));
    assert_eq!(lease(&bob, late + 2).await, None, "nothing to lease");
    assert_eq!(bench.rows("leases").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_desks_on_one_queue_never_both_decide_and_both_know_who_did() {
    let bench = Bench::new().await;
    for index in 0..60 {
        bench.look(&format!("{index}.png"), 0.7, &hash([index, index + 64, index + 128])).await;
    }
    let mut desks = tokio::task::JoinSet::new();
    for name in ["ana", "bob"] {
        let path = bench.store.path().to_owned();
        desks.spawn(async move {
            let store = Store::open(&path).await.expect("opens");
            let (mut recorded, mut refused) = (BTreeSet::new(), 0);
            loop {
                let page = store.queue(&QueueFilter::default(), None, 5).await.expect("a page");
                let Some(task) = page.first() else { break };
                let lease =
                    store.lease(task.id, &reviewer(name), Timestamp(2)).await.expect("asked");
                let group = store.group(task.id).await.expect("read");
                let decisions = together(&group, Action::Remove, name, 3);
                for (decision, outcome) in decisions
                    .iter()
                    .zip(store.record_decisions(&decisions).await.expect("never BUSY"))
                {
                    match outcome {
                        DecisionOutcome::Recorded(_) => {
                            assert!(recorded.insert(decision.task));
                        }
                        DecisionOutcome::AlreadyDecided(by) => {
                            assert_ne!(by.decision.reviewer, reviewer(name));
                            refused += 1;
                        }
                        DecisionOutcome::Leased(lease) => {
                            assert_ne!(lease.reviewer, reviewer(name));
                            refused += 1;
                        }
                        DecisionOutcome::Superseded | DecisionOutcome::NothingToRemove => {
                            panic!("nobody superseded {decision:?}")
                        }
                    }
                }
                drop(lease);
                tokio::task::yield_now().await;
            }
            store.close().await;
            (recorded, refused)
        });
    }
    let ended = desks.join_all().await;
    let [(ana, _), (bob, _)] = ended.as_slice() else { panic!("two desks") };
    assert!(ana.is_disjoint(bob));
    assert_eq!(ana.len() + bob.len(), 60);
    assert_eq!(bench.rows("decisions").await, 60);
    assert_audit_holds(bench.store.path(), 60).await;
}

#[tokio::test]
async fn the_queue_can_be_sorted_and_filtered_in_every_way() {
    let bench = Bench::new().await;
    bench.record("Cats/one.png", b"1", &[0.95, 0.1], 30).await;
    bench.record("cats/two.png", b"2", &[0.6, 0.7], 10).await;
    bench.record("dogs/three.png", b"3", &[0.1, 0.8], 20).await;
    bench.judges.record(&bench.store, unread("dogs/four.png"), 40).await;
    let names = async |filter: &QueueFilter| {
        let (mut names, mut after) = (Vec::new(), None);
        // One row a page, so that every cursor is used.
        loop {
            let page = bench.store.queue(filter, after, 1).await.expect("a page");
            let Some(task) = page.first() else { return names };
            after = Some(QueueCursor::of(task));
            names.push(task.path.file_stem().expect("a name").to_string_lossy().into_owned());
        }
    };
    let all = QueueFilter::default();
    assert_eq!(names(&all).await, ["one", "two", "four", "three"]);
    let newest = QueueFilter { order: QueueOrder::Newest, ..all.clone() };
    assert_eq!(names(&newest).await, ["four", "one", "three", "two"]);
    let oldest = QueueFilter { order: QueueOrder::Oldest, ..all.clone() };
    assert_eq!(names(&oldest).await, ["two", "three", "one", "four"]);
    let by_path = QueueFilter { order: QueueOrder::Path, ..all.clone() };
    assert_eq!(names(&by_path).await, ["one", "two", "four", "three"]);
    let some = QueueFilter { policy: PolicyId::new("memes").ok(), ..by_path.clone() };
    assert_eq!(names(&some).await, ["two", "three"]);
    let some = QueueFilter { text: Some("O".into()), outcome: Some(Outcome::Review), ..by_path };
    assert_eq!(names(&some).await, ["two", "four", "three"]);
    let unjudged = QueueFilter { lane: Lane::Unjudged, ..all.clone() };
    assert_eq!(names(&unjudged).await, ["four"]);
    let text = QueueFilter { text: Some("CATS/".into()), ..all.clone() };
    assert_eq!(names(&text).await, ["one", "two"]);
    let block = QueueFilter { outcome: Some(Outcome::Block), ..all.clone() };
    assert_eq!(names(&block).await, ["one"]);
    let memes = QueueFilter { policy: PolicyId::new("memes").ok(), ..oldest };
    assert_eq!(names(&memes).await, ["two", "three"]);
    let counts = bench.store.queue_counts(Timestamp(0)).await.expect("counted");
    assert_eq!((counts.open, counts.unjudged, counts.oldest), (4, 1, Some(Timestamp(10))));
}

#[tokio::test]
async fn the_numbers_are_those_of_what_happened() {
    const DAY: i64 = 86_400_000;
    let bench = Bench::new().await;
    bench.record("a.png", b"a", &[0.7, 0.1], DAY / 2).await;
    bench.record("b.png", b"b", &[0.6, 0.1], DAY + 1).await;
    bench.record("c.png", b"c", &[0.2, 0.8], DAY + 2).await;
    let tasks = bench.queue().await;
    for (task, action, name, at) in [
        (&tasks[0], Action::Remove, "ana", DAY + 10),
        (&tasks[1], Action::Approve, "bob", 2 * DAY + 10),
        (&tasks[2], Action::Approve, "bob", 2 * DAY + 20),
    ] {
        bench.store.record_decision(&decision(task, action, name, at)).await.expect("decided");
    }
    bench.store.undo(&reviewer("bob"), Timestamp(2 * DAY + 30)).await.expect("undone");
    let item = tasks[0].item;
    for step in ["blur", "full"] {
        let at = Timestamp(2 * DAY + 5);
        bench.store.record_exposure(&reviewer("ana"), item, step, at).await.expect("written");
    }
    let ana = reviewer("ana");
    assert_eq!(bench.store.exposures(&ana, Timestamp(2 * DAY)).await.expect("counted"), 2);
    assert_eq!(bench.store.exposures(&ana, Timestamp(3 * DAY)).await.expect("counted"), 0);

    let days = [Timestamp(0), Timestamp(DAY), Timestamp(2 * DAY)];
    let stats = bench.store.review_stats(&days, Timestamp(2 * DAY + 100)).await.expect("counted");
    let days: Vec<_> = stats.days.iter().map(|d| (d.opened, d.closed, d.waiting)).collect();
    assert_eq!(days, [(1, 0, 1), (2, 1, 2), (0, 1, 1)]);
    let reviewers: Vec<_> = stats
        .reviewers
        .iter()
        .map(|one| (one.reviewer.as_str(), one.approved, one.removed, one.exposures))
        .collect();
    assert_eq!(reviewers, [("ana", 0, 1, 2), ("bob", 1, 0, 0)]);
    let policies: Vec<_> = stats
        .policies
        .iter()
        .map(|one| (one.policy.as_str(), one.waiting, one.removed, one.approved, one.precision()))
        .collect();
    assert_eq!(policies, [("memes", 1, 0, 0, None), ("weapons", 0, 1, 1, Some(0.5))]);

    let versions: Vec<_> = bench.judges.policies.iter().map(|policy| policy.hash()).collect();
    let histograms = bench.store.score_histograms(&fingerprint(), &versions).await.expect("read");
    assert_eq!(histograms.len(), 2);
    assert_eq!(histograms[0].total(), 3);
    assert_eq!(histograms[0].share_below(0.65), Some(2.0 / 3.0));
    // Repeats are not counted again.
    bench.record("again.png", b"a", &[0.7, 0.1], 3 * DAY).await;
    let again = bench.store.score_histograms(&fingerprint(), &versions).await.expect("read");
    assert_eq!(again.iter().map(ScoreHistogram::total).collect::<Vec<_>>(), [3, 3]);
}

#[tokio::test]
async fn what_a_search_needs_is_there_by_number() {
    let bench = Bench::new().await;
    bench.record("a.png", b"a", &[0.7, 0.1], 1).await;
    bench.record("b.png", b"b", &[0.1, 0.1], 2).await;
    let vectors = bench.store.vectors(&fingerprint(), 0, 10).await.expect("read");
    assert_eq!(vectors.len(), 2);
    assert_eq!(bench.store.last_vector().await.expect("read"), vectors[1].number);
    assert_eq!(
        bench.store.vectors(&fingerprint(), vectors[0].number, 10).await.expect("read").len(),
        1
    );
    let expected =
        Embedding::from_f16_bytes(&super::support::fixtures::embedding(b"b").to_f16_bytes());
    assert_eq!(Ok(vectors[1].embedding.clone()), expected);
    let [a, b] = [b"a", b"b"].map(|bytes| ItemId::of_bytes(bytes));
    assert_eq!(bench.store.item_number(b).await.expect("read"), Some(vectors[1].item));

    let task = bench.only_task().await;
    let numbers = [vectors[1].item, 999, vectors[0].item];
    let found = bench.store.found_items(&numbers).await.expect("read");
    assert_eq!(found.iter().map(|found| found.item).collect::<Vec<_>>(), [b, a]);
    assert_eq!((found[0].task, found[0].outcome), (None, Some(Outcome::Allow)));
    assert_eq!((found[1].task, found[1].outcome), (Some(task.id), Some(Outcome::Review)));
    assert!(found[1].path.as_ref().is_some_and(|path| path.ends_with("a.png")));

    // A person can decide what nothing flagged.
    let opened = bench.store.open_by_hand(b, &reviewer("ana"), Timestamp(3)).await.expect("opened");
    let again = bench.store.open_by_hand(b, &reviewer("bob"), Timestamp(4)).await.expect("there");
    assert!(opened.is_some() && opened == again);
    let nobody = ItemId::of_bytes(b"never seen");
    assert_eq!(
        bench.store.open_by_hand(nobody, &reviewer("ana"), Timestamp(5)).await.expect("asked"),
        None
    );
    let opened = bench.store.latest_task(b).await.expect("read").expect("a task");
    assert_eq!((opened.reason.clone(), opened.state), (Some(Reason::Found), ReviewState::Open));
    let remove = decision(&opened, Action::Remove, "ana", 6);
    bench.store.record_decision(&remove).await.expect("decided");
    let found = bench.store.found_items(&[vectors[1].item]).await.expect("read");
    assert_eq!((found[0].decision, found[0].task), (Some(Action::Remove), None));
    let item = vectors[1].item;
    let log = bench.store.decision_log(0, 10).await.expect("read");
    assert_eq!(
        log.iter().map(|(_, item, action)| (*item, *action)).collect::<Vec<_>>(),
        [(item, Some(Action::Remove))]
    );
    assert_eq!(
        bench.store.what_stands(&[item, 999]).await.expect("read"),
        [(item, true), (999, false)]
    );
    bench.store.undo(&reviewer("ana"), Timestamp(7)).await.expect("undone");
    let log = bench.store.decision_log(log[0].0, 10).await.expect("read");
    assert_eq!(
        log.iter().map(|(_, item, action)| (*item, *action)).collect::<Vec<_>>(),
        [(item, None)]
    );
    assert_eq!(bench.store.what_stands(&[item]).await.expect("read"), [(item, false)]);
    assert_audit_holds(bench.store.path(), 2).await;
}

#[tokio::test]
async fn a_hash_is_stored_and_read_back_and_one_that_was_missing_comes_later() {
    let bench = Bench::new().await;
    let without = bench.judges.judged("a.png", b"a", &[0.1, 0.1]);
    bench.judges.record(&bench.store, without.clone(), 1).await;
    let stored = async || {
        let known = bench.store.known_item(without.item, &fingerprint()).await.expect("read");
        known.and_then(|known| known.facts).and_then(|facts| facts.hash)
    };
    assert_eq!(stored().await, None);
    bench.judges.record(&bench.store, hashed(without.clone(), &hash([5])), 2).await;
    assert_eq!(stored().await, Some(hash([5])));
}

/// Keeps every statement that SQLite is given.
#[derive(Default)]
struct Statements(Mutex<BTreeSet<String>>);

struct Collecting(Arc<Statements>);

struct Text<'a>(&'a mut Vec<String>);

impl Visit for Text<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if ["summary", "db.statement"].contains(&field.name()) {
            self.0.push(value.to_owned());
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

impl tracing::Subscriber for Collecting {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "sqlx::query"
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut texts = Vec::new();
        event.record(&mut Text(&mut texts));
        // A short statement is its own summary.
        let text = texts.into_iter().max_by_key(String::len).unwrap_or_default();
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).insert(text);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

/// Tables that grow with the uploads, and the names that statements give them.
const BIG: [&str; 29] = [
    "items",
    "i",
    "sightings",
    "s",
    "n",
    "embeddings",
    "e",
    "verdicts",
    "v",
    "tasks",
    "t",
    "g",
    "a",
    "b",
    "task_policies",
    "p",
    "decisions",
    "d",
    "u",
    "r",
    "w",
    "audit_events",
    "perceptual_hashes",
    "h",
    "hash_words",
    "leases",
    "l",
    "exposures",
    "score_bins",
];

#[tokio::test]
async fn no_verb_of_the_desk_walks_over_a_big_table() {
    let seen = Arc::<Statements>::default();
    // For all threads, as SQLite has one of its own; other tests' statements come in as well.
    tracing::subscriber::set_global_default(Collecting(Arc::clone(&seen))).expect("the only one");
    let bench = Bench::new().await;
    let store = &bench.store;
    let leader = bench.look("a.png", 0.6, &hash(0..100)).await;
    bench.look("b.png", 0.5, &hash(0..101)).await;
    bench.record("c.png", b"c", &[0.1, 0.1], 1).await;
    bench.record("c.png", b"changed", &[0.6, 0.6], 1).await;
    bench.judges.record(store, unread("d.png"), 2).await;
    let (ana, at) = (reviewer("ana"), Timestamp(5));
    for order in QueueOrder::ALL {
        for rows in [QueueRows::Groups, QueueRows::Tasks] {
            for lane in [Lane::Everything, Lane::Unjudged] {
                for policy in [None, PolicyId::new("weapons").ok()] {
                    let text = policy.as_ref().map(|_| "x".to_owned());
                    let outcome = policy.as_ref().map(|_| Outcome::Block);
                    let filter = QueueFilter {
                        policy,
                        state: None,
                        outcome,
                        lane,
                        text,
                        order: *order,
                        rows,
                    };
                    store.queue(&filter, None, 5).await.expect("a page");
                }
            }
        }
    }
    let group = store.group(leader).await.expect("read");
    store.lease(leader, &ana, at).await.expect("leased");
    store.record_decisions(&together(&group, Action::Remove, "ana", 6)).await.expect("decided");
    store.undo(&ana, at).await.expect("undone");
    store.redo(&ana, at).await.expect("redone");
    store.undo(&ana, at).await.expect("undone");
    store.record_decision(&decision(&group[0], Action::Escalate, "ana", 7)).await.expect("decided");
    store.undo(&ana, at).await.expect("undone");
    store.redo(&ana, at).await.expect("redone");
    store.release(leader, &ana).await.expect("released");
    store.record_exposure(&ana, group[0].item, "blur", at).await.expect("written");
    store.exposures(&ana, at).await.expect("counted");
    store.task_detail(leader).await.expect("read");
    store.latest_task(group[0].item).await.expect("read");
    store.items_between(group[0].item, group[0].item, 2).await.expect("read");
    store.item_at(&group[0].path).await.expect("read");
    store.queue_counts(at).await.expect("counted");
    store.policy_counts().await.expect("counted");
    store.review_stats(&[Timestamp(0), at], Timestamp(9)).await.expect("counted");
    let versions: Vec<_> = bench.judges.policies.iter().map(|policy| policy.hash()).collect();
    store.score_histograms(&fingerprint(), &versions).await.expect("read");
    store.vectors(&fingerprint(), 0, 5).await.expect("read");
    store.last_vector().await.expect("read");
    store.found_items(&[1, 2]).await.expect("read");
    store.first_views(&fingerprint(), &[1, 2]).await.expect("read");
    store.decision_log(0, 10).await.expect("read");
    store.what_stands(&[1, 2]).await.expect("read");
    let policy = group[0].policy.clone();
    for filter in [
        ItemFilter { policy, since: Some(at), ..ItemFilter::default() },
        ItemFilter { outcome: Some(Outcome::Review), ..ItemFilter::default() },
        ItemFilter { decision: Some(Decided::Undecided), ..ItemFilter::default() },
        ItemFilter { state: Some(ReviewState::Closed), ..ItemFilter::default() },
    ] {
        store.items_where(&filter).await.expect("read");
    }
    store.item_number(group[0].item).await.expect("read");
    store.open_by_hand(ItemId::of_bytes(b"c"), &ana, at).await.expect("opened");
    store.change_counter().await.expect("counted");

    let statements = seen.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert!(statements.len() > 60, "statements are not seen any more: {}", statements.len());
    let pool = raw(store.path()).await;
    let mut walks = String::new();
    for statement in &statements {
        let first = statement.split_whitespace().next().unwrap_or_default();
        if !["SELECT", "INSERT", "UPDATE", "DELETE"].contains(&first) || statement.contains(BY_TEST)
        {
            continue;
        }
        let plan = format!("EXPLAIN QUERY PLAN {statement}");
        // Other tests make tables of their own.
        let Ok(plan) = sqlx::query(AssertSqlSafe(plan)).fetch_all(&pool).await else { continue };
        for step in plan {
            let step: String = step.get("detail");
            let scanned = step.strip_prefix("SCAN ").and_then(|rest| rest.split(' ').next());
            let virtual_table = step.contains("VIRTUAL TABLE");
            // SQLite also plans for what would happen if an insert replaced a row that others
            // refer to; none does, and the statement does not name those tables.
            let named = |table: &str| {
                let is_word = |c: char| c.is_alphanumeric() || c == '_';
                statement.split(|c| !is_word(c)).any(|word| word == table)
            };
            if scanned.is_some_and(|table| BIG.contains(&table) && named(table)) && !virtual_table {
                walks.extend([&step, ":\n", statement, "\n"]);
            }
        }
    }
    pool.close().await;
    assert!(walks.is_empty(), "{walks}");
}
