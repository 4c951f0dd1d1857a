//! A mended decoder judges again: what another recipe made is known, decoded anew and replaced, and
//! what people decided stands.

use std::fs;

use modtool::moderation::{Action, Doubt, JudgedWith, Outcome, Reason, Recipe, Timestamp, Verdict};
use modtool::store::Standing;
use sqlx::Row as _;

use crate::store::{Bench, raw};
use crate::support::fixtures::{ROOT, embedding, fingerprint, judged_with, sighting, stat};
use crate::support::pictures::{gif_of, meadow, page, png};
use crate::support::until;
use crate::support::workspace::{PATIENCE, Running, Workspace};

fn newer() -> JudgedWith {
    JudgedWith { recipes: vec![Recipe("png 3".to_owned())], ..judged_with() }
}

#[tokio::test]
async fn views_of_another_recipe_take_the_place_of_the_old_ones_with_their_verdicts() {
    let bench = Bench::new().await;
    bench.record("a.png", b"a", &[0.1, 0.1], 1).await;
    bench.record("b.png", b"b", &[0.1, 0.1], 2).await;
    let roots = [ROOT.into()];
    let left = async |now: &JudgedWith| {
        bench.store.count_judged_otherwise(now, &roots).await.expect("counted")
    };
    assert_eq!((left(&judged_with()).await, left(&newer()).await), (0, 2));
    let asked = [(sighting("b.png").path, stat(b"b"))];
    let standing = bench.store.standing(&asked, &newer()).await.expect("answered");
    assert_eq!(standing, [Standing::Otherwise]);

    // The newest is decoded first, and looks otherwise now: two views, and another score.
    let before = bench.store.vectors(&fingerprint(), 0, 10).await.expect("read");
    let mut again = bench.judges.judged("b.png", b"b", &[0.95, 0.1]);
    again.recipe = newer().recipes.remove(0);
    again.views = vec![embedding(b"white"), embedding(b"black")];
    let recorded = bench.judges.record(&bench.store, again.clone(), 3).await;
    assert_eq!((recorded.outcome, recorded.task_opened), (Outcome::Block, true));
    let known = bench.store.known_item(again.item, &fingerprint()).await.expect("read");
    let known = known.expect("known");
    assert_eq!((known.views.len(), known.recipe), (2, again.recipe.clone()));
    assert_eq!(bench.only_task().await.score, Some(0.95));
    assert_eq!(left(&newer()).await, 1);

    // Files of vectors know how far they are by numbers: none is given twice.
    let after = bench.store.vectors(&fingerprint(), 0, 10).await.expect("read");
    assert_eq!(after.len(), 3);
    let last = before.iter().map(|vector| vector.number).max().expect("two");
    assert!(after[1..].iter().all(|vector| vector.number > last), "{after:?}");
    let replaced = bench.store.replaced_up_to(&fingerprint()).await.expect("read");
    assert!(last < replaced && replaced <= after[1].number, "{replaced}");

    // The histogram has each picture once for each policy.
    let pool = raw(bench.store.path()).await;
    let bins = sqlx::query("SELECT sum(items) FROM score_bins").fetch_one(&pool).await;
    assert_eq!(bins.expect("summed").get::<i64, _>(0), 4);
}

#[tokio::test]
async fn what_can_not_be_decoded_any_more_is_not_judged_by_its_old_views() {
    let bench = Bench::new().await;
    bench.record("a.png", b"a", &[0.1, 0.1], 1).await;
    let mut again = bench.judges.judged("a.png", b"a", &[]);
    again.recipe = newer().recipes.remove(0);
    again.views = Vec::new();
    again.verdict = Verdict::unjudged(Reason::Undecodable("the png is broken".to_owned()));
    let recorded = bench.judges.record(&bench.store, again, 2).await;
    assert_eq!((recorded.outcome, recorded.task_opened), (Outcome::Review, true));
    let left = bench.store.items_to_rejudge(&fingerprint(), 0, 10).await.expect("read");
    assert_eq!(left, [], "`rescore` would allow it by what an older decoder saw");
}

#[tokio::test]
async fn a_decision_stands_when_a_picture_is_judged_again() {
    let bench = Bench::new().await;
    bench.record("a.png", b"a", &[0.7, 0.1], 1).await;
    bench.decide(Action::Approve, "ana", 2).await;
    let mut again = bench.judges.judged("a.png", b"a", &[0.8, 0.1]);
    again.recipe = newer().recipes.remove(0);
    again.verdict.reason = Some(Reason::Doubtful(Doubt::Damaged));
    let facts = again.facts.as_mut().expect("decoded");
    facts.doubts.insert(Doubt::Damaged);
    let recorded = bench.judges.record(&bench.store, again.clone(), 3).await;
    assert!(!recorded.task_opened, "ana has looked at it for this policy");
    let known = bench.store.known_item(again.item, &fingerprint()).await.expect("read");
    let facts = known.and_then(|known| known.facts).expect("decoded");
    assert_eq!(
        facts.doubts.iter().collect::<Vec<_>>(),
        [Doubt::Damaged],
        "kept for other policies"
    );
    let clear = bench.store.standing(&[(sighting("a.png").path, stat(b"a"))], &newer()).await;
    assert_eq!(clear.expect("read"), [Standing::Clear]);
    let none = bench.store.undo(&crate::support::fixtures::reviewer("ana"), Timestamp(4)).await;
    none.expect("the decision is still there to be undone");
}

/// Makes rows look as an older version left them.
fn forget_recipes(workspace: &Workspace) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let pool = raw(&workspace.path().join("modtool.db")).await;
        for statement in ["UPDATE sightings SET recipe = ''", "UPDATE embeddings SET recipe = ''"] {
            sqlx::query(statement).execute(&pool).await.expect(statement);
        }
        pool.close().await;
    });
}

#[test]
fn rescore_decode_decodes_again_what_an_older_version_judged_and_then_nothing() {
    let workspace = Workspace::with_one_policy();
    workspace.upload("page.png", png(&page(1)));
    workspace.upload("meadow.png", png(&meadow(1)));
    let gone = workspace.upload("gone.png", png(&meadow(2)));
    workspace.scan();
    fs::remove_file(gone).expect("removed");
    forget_recipes(&workspace);
    let counts = |ran: &[serde_json::Value]| {
        [&ran[0]["decoded_again"], &ran[0]["not_decoded_again"]].map(serde_json::Value::as_u64)
    };
    let again = ["rescore", "--decode", "--format", "json"];
    let first = workspace.run(&again).expect_code(0).json_lines();
    assert_eq!(counts(&first), [Some(2), Some(1)], "{first:?}");
    let second = workspace.run(&again).expect_code(0).json_lines();
    assert_eq!(counts(&second), [Some(0), Some(1)], "{second:?}");
    // By hand, for a person.
    let said = workspace.run(&["rescore", "--decode"]).expect_code(0);
    assert!(said.out().contains("1 path left as before"), "{}", said.out());
}

#[test]
fn more_frames_are_looked_at_again_by_scan_and_by_a_watcher_and_stills_are_left_alone() {
    let workspace = Workspace::with_one_policy();
    let frames = |frames: u32| {
        let settings = format!("limits: {{frames: {frames}}}\n");
        fs::write(workspace.path().join("modtool.yaml"), settings).expect("written");
    };
    frames(1);
    let film = gif_of(&[meadow(1), meadow(2), page(1)]);
    let film = workspace.upload("film.gif", film);
    workspace.upload("still.png", png(&meadow(3)));
    workspace.scan();
    frames(8);
    let scan = workspace.scan();
    let err = scan.err();
    assert!(err.contains("an older decoder") && err.contains("pictures=1"), "{err}");
    let verdict = workspace.verdict(&film).expect("judged");
    assert_ne!(verdict["outcome"], "allow", "the page is seen now: {verdict}");
    assert!(!workspace.scan().err().contains("an older decoder"), "once is enough");

    frames(7);
    let mut watching = Running::watch(&workspace, &[]);
    until("it is judged again", PATIENCE, || {
        watching.err().contains("everything is judged by").then_some(())
    });
    watching.signal(rustix::process::Signal::INT);
    assert!(watching.ended(PATIENCE).success());
}
