//! The bank: what was decided about one picture speaks for its twins, and never lets one through
//! that only looks like an approved picture.

use std::fs;

use image::imageops::{FilterType, resize};
use modtool::moderation::{
    Action, Arming, AuditKind, BankSource, BankState, DecisionOutcome, ItemId, Likeness, OnBlock,
    Outcome, PerceptualHash, Policy, PolicyId, QueueFilter, QueueRows, Reason, ReviewTask,
    Severity, Timestamp,
};
use modtool::store::{
    BankEntry, BankFilter, BankSelection, Judged, NewEntry, Recorded, Store, StoreSettings, Touched,
};
use tempfile::TempDir;

use crate::support::fixtures::{Judges, decision, policy, reviewer};
use crate::support::pictures::{chat, jpeg, noise, page, png};
use crate::support::workspace::Workspace;

struct Bench {
    _dir: TempDir,
    store: Store,
    judges: Judges,
    clock: std::cell::Cell<i64>,
}

impl Bench {
    async fn new(policies: Vec<Policy>, settings: StoreSettings) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(&dir.path().join("modtool.db")).await.expect("opens");
        let store = store.with_settings(settings);
        let judges = Judges::announce(&store, policies).await;
        Self { _dir: dir, store, judges, clock: std::cell::Cell::new(0) }
    }

    async fn plain() -> Self {
        Self::new(vec![policy("weapons", Severity::High)], StoreSettings::default()).await
    }

    async fn inheriting() -> Self {
        let settings = StoreSettings { bank_flood: 3, ..StoreSettings::default() };
        let policy = Policy { inherit: true, ..policy("weapons", Severity::High) };
        Self::new(vec![policy], settings).await
    }

    fn now(&self) -> Timestamp {
        self.clock.set(self.clock.get() + 1000);
        Timestamp(self.clock.get())
    }

    /// Judged with this score; its looks differ in `bits` bits from nothing.
    fn judged(&self, name: &str, bits: usize, score: f32) -> Judged {
        let mut judged = self.judges.judged(name, name.as_bytes(), &[score]);
        if let Some(facts) = &mut judged.facts {
            facts.hash = Some(looks(bits));
        }
        judged
    }

    async fn upload(&self, name: &str, bits: usize, score: f32) -> Recorded {
        let judged = self.judged(name, bits, score);
        self.judges.record(&self.store, judged, self.now().0).await
    }

    async fn task_of(&self, name: &str) -> Option<ReviewTask> {
        let filter = QueueFilter { rows: QueueRows::Tasks, ..QueueFilter::default() };
        let queue = self.store.queue(&filter, None, 1000).await.expect("read");
        let item = ItemId::of_bytes(name.as_bytes());
        queue.into_iter().find(|task| task.item == item)
    }

    async fn decide(&self, name: &str, action: Action) {
        let task = self.task_of(name).await.expect("a task");
        let decided = decision(&task, action, "ana", self.now().0);
        let outcome = self.store.record_decision(&decided).await.expect("decided");
        assert!(matches!(outcome, DecisionOutcome::Recorded(_)), "{outcome:?}");
    }

    async fn entries(&self) -> Vec<BankEntry> {
        self.store.bank_entries(&BankFilter::default(), 0, 1000).await.expect("read")
    }

    async fn switch(&self, entry: i64, state: BankState) {
        let which = BankSelection::Entries(vec![entry]);
        let by = reviewer("ana");
        let switched = self.store.switch_bank(&which, state, &by, self.now()).await;
        assert_eq!(switched.expect("switched"), 1);
    }

    async fn events(&self, kind: AuditKind) -> usize {
        let rows = self.store.audit_events(0, 10_000).await.expect("read");
        rows.iter().filter(|row| row.event.kind == kind).count()
    }
}

/// All forms alike, so that the distance of two is the difference of their bits.
fn looks(bits: usize) -> PerceptualHash {
    let mut form = [0; 32];
    (0..bits).for_each(|bit| form[bit / 8] |= 1 << (bit % 8));
    PerceptualHash { forms: [form; 8], quality: 80 }
}

fn like_removed(recorded: &Recorded) -> bool {
    matches!(recorded.reason, Some(Reason::LikeRemoved(_)))
}

#[tokio::test]
async fn what_looks_like_something_removed_goes_to_a_person_with_the_match() {
    let bench = Bench::plain().await;
    bench.upload("bad.png", 0, 0.7).await;
    bench.decide("bad.png", Action::Remove).await;
    let entries = bench.entries().await;
    assert_eq!(entries.len(), 1);
    assert_eq!((entries[0].source, entries[0].action), (BankSource::Decision, Action::Remove));
    assert_eq!(entries[0].policies, [PolicyId::new("weapons").expect("an id")]);

    // The policies would let it through.
    let twin = bench.upload("twin.png", 31, 0.1).await;
    assert_eq!(twin.outcome, Outcome::Review);
    assert!(like_removed(&twin) && twin.task_opened, "{twin:?}");
    assert!(!like_removed(&bench.upload("other.png", 32, 0.1).await));
    let task = bench.task_of("twin.png").await.expect("a task");
    let detail = bench.store.task_detail(task.id).await.expect("read").expect("there");
    assert_eq!(detail.twins.len(), 1);
    assert_eq!(detail.twins[0].likeness, Likeness::Looks(31));
    let exported = bench.store.export_verdicts(0, false, 10).await.expect("read");
    let row = exported.iter().find(|row| row.path.ends_with("twin.png")).expect("a row");
    assert_eq!(row.twins, detail.twins);

    // Judged again, it is no second hit and no second question.
    let again = bench.upload("twin.png", 31, 0.1).await;
    assert!(!again.task_opened);
    assert_eq!(bench.entries().await[0].hits, 1);
    // A person who knew of the match approved it: that settles it.
    bench.decide("twin.png", Action::Approve).await;
    let again = bench.upload("twin.png", 31, 0.1).await;
    assert_eq!((again.outcome, again.reason, again.task_opened), (Outcome::Allow, None, false));
    // A plain picture is like any other, and so like none.
    let mut plain = bench.judged("plain.png", 0, 0.1);
    if let Some(hash) = plain.facts.as_mut().and_then(|facts| facts.hash.as_mut()) {
        hash.quality = 49;
    }
    let plain = bench.judges.record(&bench.store, plain, bench.now().0).await;
    assert_eq!(plain.outcome, Outcome::Allow);
}

#[tokio::test]
async fn what_is_taken_back_or_switched_off_matches_no_more() {
    let bench = Bench::plain().await;
    bench.upload("bad.png", 0, 0.7).await;
    bench.decide("bad.png", Action::Remove).await;
    let entry = bench.entries().await[0].id;
    assert!(like_removed(&bench.upload("a.png", 5, 0.1).await));
    bench.switch(entry, BankState::Off).await;
    assert!(!like_removed(&bench.upload("b.png", 5, 0.1).await));
    bench.switch(entry, BankState::On).await;
    assert!(like_removed(&bench.upload("c.png", 5, 0.1).await));
    assert_eq!(bench.events(AuditKind::BankSwitched).await, 2);
    bench.store.undo(&reviewer("ana"), bench.now()).await.expect("undone");
    assert!(bench.entries().await.is_empty());
    assert!(!like_removed(&bench.upload("d.png", 5, 0.1).await));
    // Decided again, the other way.
    bench.decide("bad.png", Action::Approve).await;
    let entries = bench.entries().await;
    assert_eq!((entries[0].id, entries[0].action), (entry, Action::Approve));
    assert!(!like_removed(&bench.upload("e.png", 5, 0.1).await));
    assert!(bench.store.verify_audit(None).await.expect("read").is_ok());
}

#[tokio::test]
async fn an_approval_is_inherited_by_the_same_bytes_only_and_for_what_it_was_about() {
    let bench = Bench::inheriting().await;
    bench.upload("fine.png", 0, 0.7).await;
    bench.decide("fine.png", Action::Approve).await;
    // What only looks like it could be anything.
    let near = bench.upload("near.png", 1, 0.7).await;
    assert_eq!(near.outcome, Outcome::Review);
    assert!(near.task_opened);
    let task = bench.task_of("near.png").await.expect("a task");
    let detail = bench.store.task_detail(task.id).await.expect("read").expect("there");
    assert_eq!(detail.twins[0].action, Action::Approve, "it is shown");
    let block = bench.upload("blocked.png", 1, 0.95).await;
    assert_eq!(block.outcome, Outcome::Block, "and weakens nothing");

    // The very bytes, elsewhere.
    let mut same = bench.judged("fine.png", 0, 0.7);
    same.sighting.path = same.sighting.path.with_file_name("again.png");
    let same = bench.judges.record(&bench.store, same, bench.now().0).await;
    assert_eq!(same.outcome, Outcome::Allow);
    assert!(matches!(same.reason, Some(Reason::ApprovedBefore(_))) && !same.task_opened);

    // A policy that came later asks again.
    let inheriting = |id| Policy { inherit: true, ..policy(id, Severity::High) };
    let both =
        Judges::announce(&bench.store, vec![inheriting("weapons"), inheriting("fire")]).await;
    let judged = both.judged("fine.png", b"fine.png", &[0.7, 0.7]);
    let later = both.record(&bench.store, judged, bench.now().0).await;
    assert_eq!(later.outcome, Outcome::Review);
    assert!(later.task_opened, "{later:?}");
}

#[tokio::test]
async fn a_removal_that_is_inherited_blocks_and_a_flood_stops_that_but_lets_nothing_through() {
    let bench = Bench::inheriting().await;
    bench.upload("bad.png", 0, 0.7).await;
    bench.decide("bad.png", Action::Remove).await;
    for number in 0..4 {
        let recorded = bench.upload(&format!("{number}.png"), 3, 0.1).await;
        assert_eq!(recorded.outcome, Outcome::Block, "{number}");
        assert!(matches!(recorded.reason, Some(Reason::Inherited(_))), "{recorded:?}");
        assert!(recorded.task_opened);
    }
    // The fourth in an hour was more than three.
    assert_eq!(bench.entries().await[0].state, BankState::OnHold);
    assert_eq!(bench.events(AuditKind::BankOnHold).await, 1);
    let recorded = bench.upload("more.png", 3, 0.1).await;
    assert_eq!(recorded.outcome, Outcome::Review, "a person, and nothing by itself");
    assert!(like_removed(&recorded) && recorded.task_opened);
    let entry = bench.entries().await[0].clone();
    assert_eq!(entry.hits, 5);
    bench.switch(entry.id, BankState::On).await;
    assert_eq!(bench.upload("later.png", 3, 0.1).await.outcome, Outcome::Block);
    // Hits are counted by the hour.
    bench.clock.set(bench.clock.get() + 3_600_000);
    for number in 10..13 {
        bench.upload(&format!("{number}.png"), 3, 0.1).await;
    }
    assert_eq!(bench.entries().await[0].state, BankState::On);
}

#[tokio::test]
async fn one_transaction_stops_at_the_flood_as_many_do() {
    let bench = Bench::inheriting().await;
    bench.upload("bad.png", 0, 0.7).await;
    bench.decide("bad.png", Action::Remove).await;
    let batch: Vec<_> =
        (0..8).map(|number| bench.judged(&format!("{number}.png"), 3, 0.1)).collect();
    let at = bench.now();
    let recorded = bench.store.record_verdicts(&bench.judges.judged_by, &batch, at).await;
    let outcomes: Vec<_> =
        recorded.expect("written").iter().map(|recorded| recorded.outcome).collect();
    assert_eq!(outcomes[..4], [Outcome::Block; 4]);
    assert_eq!(outcomes[4..], [Outcome::Review; 4]);
}

#[tokio::test]
async fn an_inherited_block_holds_only_what_the_policy_may_hold() {
    let holding = Policy {
        inherit: true,
        on_block: OnBlock::Hold,
        arming: Arming { min_precision: 0.3, min_decisions: 3 },
        ..policy("weapons", Severity::High)
    };
    let settings = StoreSettings { grace_ms: 0, daily_hold_cap: 1, ..StoreSettings::default() };
    let bench = Bench::new(vec![holding], settings).await;
    // Each looks like none of the others.
    for (number, name) in ["1.png", "2.png", "3.png"].iter().enumerate() {
        bench.upload(name, 60 * (number + 1), 0.95).await;
        if number == 0 {
            bench.decide(name, Action::Remove).await;
            let recorded = bench.upload("early.png", 61, 0.1).await;
            assert_eq!(recorded.reason, Some(Reason::NotArmed("1 of 3 decisions".into())));
            continue;
        }
        bench.decide(name, Action::Remove).await;
    }
    let held = bench.upload("held.png", 62, 0.1).await;
    assert_eq!((held.outcome, held.reason), (Outcome::Block, Some(Reason::Held)));
    let capped = bench.upload("capped.png", 63, 0.1).await;
    assert_eq!((capped.outcome, capped.reason), (Outcome::Review, Some(Reason::HoldCap(1))));
}

#[tokio::test]
async fn banning_asks_about_the_history_and_leaves_settled_things_alone() {
    let bench = Bench::plain().await;
    for (name, score) in [("allowed.png", 0.1), ("waiting.png", 0.7), ("fine.png", 0.7)] {
        bench.upload(name, 2, score).await;
    }
    bench.decide("fine.png", Action::Approve).await;
    bench.upload("gone.png", 2, 0.7).await;
    bench.decide("gone.png", Action::Remove).await;
    bench.upload("other.png", 100, 0.1).await;
    let numbers = bench.store.looked_at(0, 100).await.expect("read");
    let touched: Vec<_> = numbers
        .iter()
        .filter(|looked| looked.looks.is_some_and(|looks| looks.upright()[0] == 3))
        .map(|looked| Touched { number: looked.number, entry: 0, likeness: Likeness::Looks(2) })
        .collect();
    assert_eq!(touched.len(), 4);
    let entry = NewEntry {
        source: BankSource::List,
        action: Action::Remove,
        item: None,
        looks: Some([0; 32]),
        policies: Vec::new(),
        list: Some("gang".into()),
        note: None,
    };
    let by = reviewer("bo");
    let entries = [entry];
    let added = bench.store.add_to_bank(&entries, &touched, &by, bench.now()).await.expect("added");
    // The allowed one and the approved one are asked about; the waiting one is shown the match.
    assert_eq!((added.asked, added.shown, added.known), (2, 1, 0));
    for name in ["allowed.png", "fine.png", "waiting.png"] {
        let task = bench.task_of(name).await.expect(name);
        assert!(matches!(task.reason, Some(Reason::LikeRemoved(_))), "{name}: {task:?}");
    }
    assert!(
        bench.task_of("gone.png").await.is_none() && bench.task_of("other.png").await.is_none()
    );
    let again = bench.store.add_to_bank(&entries, &touched, &by, bench.now()).await.expect("added");
    assert_eq!((again.asked, again.shown, again.known), (0, 3, 1));
    assert_eq!(again.ids, added.ids);
    assert!(bench.store.verify_audit(None).await.expect("read").is_ok());
}

#[test]
fn the_whole_binary_knows_a_picture_that_was_saved_again() {
    let workspace = Workspace::with_one_policy();
    let original = page(1);
    let bad = workspace.upload("bad.png", png(&original));
    workspace.scan().expect_code(1);
    let said = workspace.run(&["queue", "decide", "--action", "remove", "--reason", "documents"]);
    said.expect_code(64);
    let path = bad.to_str().expect("our name");
    workspace
        .run(&["queue", "decide", path, "--action", "remove", "--reason", "documents"])
        .expect_code(0);

    // Smaller, and saved as a JPEG.
    let small = resize(
        &original,
        original.width() * 3 / 4,
        original.height() * 3 / 4,
        FilterType::Triangle,
    );
    let twin = workspace.upload("twin.jpg", jpeg(&small));
    workspace.upload("noise.png", png(&noise(1)));
    workspace.scan();
    let row = workspace.verdict(&twin).expect("a verdict");
    assert!(row["reason"].as_str().is_some_and(|why| why.starts_with("like_removed")), "{row}");
    assert_eq!(row["twins"][0]["action"], "remove");
    let shown =
        workspace.run(&["queue", "show", twin.to_str().expect("ours")]).expect_code(0).out();
    assert!(shown.contains("looks like") && shown.contains("entry 1"), "{shown}");
    let listed = workspace.run(&["bank", "list", "--format", "json"]).expect_code(0).json_lines();
    assert_eq!((listed.len(), &listed[0]["hits"]), (1, &1.into()));
    let table = workspace.run(&["bank", "list"]).expect_code(0).out();
    assert!(table.contains("bad.png") && table.contains("documents"), "{table}");

    // What is exchanged reads back, elsewhere.
    let list = workspace.outside().join("shared.txt");
    let list = list.to_str().expect("our name");
    workspace.run(&["bank", "export", "-o", list]).expect_code(0);
    let text = fs::read_to_string(list).expect("written");
    assert_eq!((text.lines().count(), text.trim().len()), (1, 64), "{text}");
    let elsewhere = Workspace::with_one_policy();
    let innocent = elsewhere.upload("innocent-name.jpg", jpeg(&small));
    fs::write(
        elsewhere.path().join("policies/documents.yaml"),
        "id: documents\nprompts: [a submarine]\nthresholds: {review: 0.99, block: 1}\n",
    )
    .expect("written");
    elsewhere.scan().expect_code(0);
    elsewhere.run(&["bank", "import", list]).expect_code(64);
    let dry = elsewhere.run(&["bank", "import", list, "--dry-run"]).expect_code(0).out();
    assert!(dry.contains("innocent-name.jpg") && dry.contains("was let through"), "{dry}");
    assert!(elsewhere.run(&["bank", "list", "--format", "json"]).json_lines().is_empty());
    let added = elsewhere.run(&["bank", "import", list, "--yes", "--format", "json"]);
    let added = added.expect_code(0).json_lines().remove(0);
    assert_eq!((&added["list"], &added["asked"]), (&"shared".into(), &1.into()));
    let row = elsewhere.verdict(&innocent).expect("a verdict");
    assert_eq!((&row["outcome"], &row["state"]), (&"review".into(), &"open".into()));
    let off = elsewhere.run(&["bank", "disable", "--list", "shared"]).expect_code(0).out();
    assert!(off.contains("1 entry switched off"), "{off}");
    // Other people's lists are not handed on by accident.
    assert_eq!(elsewhere.run(&["bank", "export"]).expect_code(0).out(), "");
    for wrong in [
        ["bank", "disable", "99"],
        ["bank", "enable", "--list=nothing"],
        ["bank", "add", "/nowhere/at/all.png"],
    ] {
        elsewhere.run(&wrong).expect_code(64);
    }
}

#[test]
fn a_file_that_was_never_judged_is_banned_and_an_erased_one_is_forgotten() {
    let workspace = Workspace::with_one_policy();
    workspace.upload("noise.png", png(&noise(1)));
    workspace.scan();
    let outside = workspace.outside().join("known-bad.png");
    fs::write(&outside, png(&chat(3))).expect("written");
    let outside = outside.to_str().expect("our name");
    workspace.run(&["bank", "add", outside, "--reason", "nothing"]).expect_code(64);
    let added = workspace.run(&["bank", "add", outside, "--yes", "--note", "a\u{1b}[31m"]);
    let added = added.expect_code(0).out();
    assert!(added.contains("added entry 1") && added.contains("0 pictures match"), "{added}");
    let path = workspace.upload("chat.jpg", jpeg(&chat(3)));
    workspace.scan().expect_code(1);
    let row = workspace.verdict(&path).expect("a verdict");
    assert!(row["reason"].as_str().is_some_and(|why| why.starts_with("like_removed")), "{row}");

    let text = workspace.outside().join("no-picture.txt");
    fs::write(&text, "just text").expect("written");
    let refused = workspace.run(&["bank", "add", text.to_str().expect("ours"), "--yes"]);
    assert!(refused.expect_code(2).err().contains("no picture"));
    let list = workspace.outside().join("broken.txt");
    fs::write(&list, "abc\n").expect("written");
    let refused = workspace.run(&["bank", "import", list.to_str().expect("ours"), "--yes"]);
    assert!(refused.expect_code(64).err().contains("line 1:"));

    // Removed, then erased: nothing of it is left in the bank.
    let item = row["item"].as_str().expect("an id").to_owned();
    workspace.run(&["queue", "decide", &item, "--action", "remove"]).expect_code(0);
    assert!(hashes_in(&workspace, &item) > 0);
    workspace.run(&["erase", &item, "--yes"]).expect_code(0);
    assert_eq!(hashes_in(&workspace, &item), 0);
}

fn hashes_in(workspace: &Workspace, item: &str) -> usize {
    let listed = workspace.run(&["bank", "list", "--format", "json"]).expect_code(0).json_lines();
    listed.iter().filter(|entry| entry["item"] == *item).count()
}
