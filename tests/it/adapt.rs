//! `modtool adapt`: learn, prove, run in the background, put in force, take back.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use image::{Rgb, RgbImage};
use modtool::moderation::ItemId;
use rustix::process::Signal;
use serde_json::Value;

use crate::support::pictures::{chat, identity_card, page, phone, png, receipt};
use crate::support::workspace::{Ran, Running, Workspace, run};
use crate::support::{skipped, until};

const SOON: Duration = Duration::from_mins(1);

/// Its words can't tell the two kinds of screens apart, and its pictures can.
const CHATS: &str = "\
id: chats
prompts: [a screenshot of a phone]
contrast: [a printed page, a card]
thresholds: {review: 0.9, block: 0.99}
";

/// A drawing in a corner of a coloured ground, so that no two look the same.
fn placed(drawing: &RgbImage, seed: u64) -> Vec<u8> {
    let shade = |step: u64| u8::try_from(40 + (seed * step) % 200).expect("below 240");
    let ground = Rgb([shade(37), shade(61), shade(97)]);
    let (width, height) = drawing.dimensions();
    let more = |step: u64| u32::try_from((seed * step) % 7).expect("small") * 45;
    let mut picture = RgbImage::from_pixel(width + more(3), height + more(5), ground);
    image::imageops::overlay(
        &mut picture,
        drawing,
        i64::from(more(2) / 2).min(i64::from(more(3))),
        i64::from(more(4) / 2).min(i64::from(more(5))),
    );
    png(&picture)
}

/// `chats/` violates, `neutral/` does not.
fn examples(folder: &Path, each: u64) {
    for kind in ["chats", "neutral"] {
        fs::create_dir_all(folder.join(kind)).expect("a folder is made");
    }
    for seed in 0..each {
        let name = format!("{seed}.png");
        fs::write(folder.join("chats").join(&name), placed(&chat(seed), seed)).expect("written");
        let other = match seed % 4 {
            0 => page(seed),
            1 => identity_card(seed),
            _ => phone(seed),
        };
        fs::write(folder.join("neutral").join(&name), placed(&other, seed + 3)).expect("written");
    }
}

fn workspace() -> (Workspace, PathBuf) {
    let workspace = Workspace::new();
    fs::create_dir(workspace.path().join("policies")).expect("a folder is made");
    fs::write(workspace.path().join("policies/chats.yaml"), CHATS).expect("written");
    let folder = workspace.outside().join("examples");
    examples(&folder, 24);
    (workspace, folder)
}

fn adapt(workspace: &Workspace, folder: &Path, more: &[&str]) -> Ran {
    let from = folder.to_str().expect("a plain path");
    workspace.run(&[&["adapt", "--format", "json", "--from", from], more].concat())
}

fn score_of<'a>(line: &'a Value, id: &str) -> &'a Value {
    let mut policies = line["policies"].as_array().expect("policies").iter();
    policies.find(|policy| policy["id"] == id).unwrap_or_else(|| panic!("{id}: {line}"))
}

#[test]
fn what_is_learned_runs_in_the_background_then_in_force_and_can_be_taken_back() {
    let (workspace, folder) = workspace();
    let learned = adapt(&workspace, &folder, &["chats"]).expect_code(0).json_lines().remove(0);
    assert_eq!(learned["kept"], true, "{learned}");
    let gain = &learned["validation"]["gain"];
    assert!(gain["lower"].as_f64().expect("a number") > 0.0, "{learned}");
    let name = learned["adapter"].as_str().expect("a name").to_owned();
    assert!(name.starts_with("chats-probe-"), "{name}");
    // The same again is the same.
    let again = adapt(&workspace, &folder, &["chats"]).expect_code(0).json_lines().remove(0);
    assert_eq!(again["adapter"], name.as_str());

    for seed in 100..103 {
        workspace.upload(format!("chat-{seed}.png"), placed(&chat(seed), seed));
        workspace.upload(format!("phone-{seed}.png"), placed(&phone(seed), seed));
    }
    workspace.run(&["scan", "-q", "uploads"]);
    let plain = workspace.verdicts();

    // Not in force before it ran in the background.
    let too_early = workspace.run(&["adapt", "use", &name, "--live"]).expect_code(64);
    assert!(too_early.err().contains("in the background first"), "{}", too_early.err());
    workspace.run(&["adapt", "use", &name]).expect_code(0);
    let unseen = workspace.run(&["adapt", "use", &name, "--live"]).expect_code(64);
    assert!(unseen.err().contains("judged nothing"), "{}", unseen.err());
    workspace.run(&["rescore"]).expect_code(0);
    let shadowed = workspace.verdicts();
    for (before, after) in plain.iter().zip(&shadowed) {
        assert_eq!(before["outcome"], after["outcome"], "the background does nothing");
        assert_eq!(score_of(before, "chats"), score_of(after, "chats"));
        let shadow = score_of(after, &name);
        assert_eq!(
            (&shadow["mode"], &shadow["adapter"]),
            (&"background".into(), &name.as_str().into())
        );
    }
    let shown = workspace.run(&["adapt", "show", &name]).expect_code(0).out();
    assert!(shown.contains("6 pictures judged") && shown.contains("what it changes"), "{shown}");

    // In force: other scores, which name what changed them, by rescore, scan and score alike.
    let live = workspace.run(&["adapt", "use", &name, "--live"]).expect_code(0);
    assert!(live.out().contains("in force"), "{}", live.out());
    workspace.run(&["rescore"]).expect_code(0);
    let adapted = workspace.verdicts();
    let mut changed = 0;
    for (before, after) in plain.iter().zip(&adapted) {
        let (words, now) = (score_of(before, "chats"), score_of(after, "chats"));
        assert!(words["adapter"].is_null());
        assert_eq!(now["adapter"], name.as_str());
        assert_eq!(now["mode"], "live");
        changed += usize::from(words["score"] != now["score"]);
        let path = after["path"].as_str().expect("a path");
        let once = workspace.run(&["score", "--format", "json", path]).json_lines().remove(0);
        let once = score_of(&once, "chats");
        let apart = once["score"].as_f64().unwrap() - now["score"].as_f64().unwrap();
        assert!(apart.abs() < 0.002 && once["adapter"] == name.as_str(), "{once} {now}");
        explained_as_judged(&workspace, path, &name, once);
    }
    assert_eq!(changed, 6, "{adapted:#?}");
    workspace.upload("later.png", placed(&chat(200), 200));
    workspace.run(&["scan", "-q", "uploads"]);
    let later = workspace.verdicts();
    let later = later.iter().find(|row| row["path"].as_str().unwrap().ends_with("later.png"));
    assert_eq!(score_of(later.expect("judged"), "chats")["adapter"], name.as_str());

    // What is in use is not removed; taken back twice, the words alone judge again.
    let kept = workspace.run(&["adapt", "remove", &name]).expect_code(2);
    assert!(kept.err().contains("in use"), "{}", kept.err());
    workspace.run(&["adapt", "rollback"]).expect_code(0);
    workspace.run(&["adapt", "rollback", "chats"]).expect_code(0);
    workspace.run(&["adapt", "rollback"]).expect_code(2);
    workspace.run(&["rescore"]).expect_code(0);
    for (before, after) in plain.iter().zip(workspace.verdicts()) {
        assert_eq!(score_of(before, "chats"), score_of(&after, "chats"), "as if nothing had been");
    }
    let list = workspace.run(&["adapt", "list", "--format", "json"]).expect_code(0).json_lines();
    assert_eq!((list.len(), &list[0]["in_use"]), (1, &Value::Null));
    assert!(list[0]["learned"].is_null(), "numbers are for no eye");
    workspace.run(&["adapt", "remove", &name]).expect_code(0);
    every_step_is_in_the_log(&workspace, &name);
    assert!(workspace.run(&["adapt", "list"]).expect_code(0).out().contains("nothing was learned"));
}

/// `explain` judges by what is in force, says so, and can be asked for the words alone.
fn explained_as_judged(workspace: &Workspace, path: &str, name: &str, once: &Value) {
    let explain = ["policy", "explain", "--format", "json", path];
    let told = workspace.run(&explain).expect_code(0).json_lines().remove(0);
    let by_words = workspace.run(&[&explain[..], &["--no-adapter"]].concat());
    let by_words = by_words.expect_code(0).json_lines().remove(0);
    let (told, by_words) = (score_of(&told, "chats"), score_of(&by_words, "chats"));
    assert_eq!((&told["adapter"], &told["score"]), (&name.into(), &once["score"]));
    assert_eq!((&by_words["adapter"], &by_words["score_by_words"]), (&Value::Null, &Value::Null));
    assert_eq!(told["score_by_words"], by_words["score"]);
    let printed = workspace.run(&["policy", "explain", path]).expect_code(0).out();
    assert!(printed.contains(&format!("adapted by {name}; the words alone say")), "{printed}");
}

/// Every step that was taken, and none that was refused.
fn every_step_is_in_the_log(workspace: &Workspace, name: &str) {
    let log = workspace.run(&["audit", "list", "-n", "100", "--format", "json"]).expect_code(0);
    let steps: Vec<_> = log
        .json_lines()
        .iter()
        .filter(|row| row["kind"].as_str().is_some_and(|kind| kind.starts_with("adapter_")))
        .map(|row| {
            let text = |key: &str| row["detail"][key].as_str().unwrap_or("-").to_owned();
            assert_eq!(text("policy"), "chats");
            (row["kind"].as_str().expect("a kind").to_owned(), text("live"), text("background"))
        })
        .collect();
    let step =
        |kind: &str, live: &str, back: &str| (kind.to_owned(), live.to_owned(), back.to_owned());
    assert_eq!(
        steps,
        [
            step("adapter_used", "-", name),
            step("adapter_used", name, "-"),
            step("adapter_rolled_back", "-", name),
            step("adapter_rolled_back", "-", "-"),
            step("adapter_removed", "-", "-"),
        ]
    );
    workspace.run(&["audit", "verify"]).expect_code(0);
}

#[test]
fn a_running_watcher_takes_an_adapter_over() {
    let (workspace, folder) = workspace();
    let learned = adapt(&workspace, &folder, &["--method", "lora", "--rank", "2"]).expect_code(0);
    let learned = learned.json_lines().remove(0);
    let name = learned["adapter"].as_str().unwrap_or_else(|| panic!("{learned}")).to_owned();
    assert!(name.starts_with("chats-lora-"), "{name}");
    let first = workspace.upload("first.png", placed(&chat(300), 300));
    let mut watcher = Running::watch(&workspace, &[]);
    until("the first verdict", SOON, || workspace.verdict(&first));
    workspace.run(&["adapt", "use", &name]).expect_code(0);
    until("it is taken over", SOON, || watcher.err().contains("policies taken over").then_some(()));
    let second = workspace.upload("second.png", placed(&chat(301), 301));
    let verdict = until("the second verdict", SOON, || workspace.verdict(&second));
    assert_eq!(score_of(&verdict, &name)["mode"], "background");
    workspace.run(&["adapt", "use", &name, "--live"]).expect_code(0);
    let third = std::cell::Cell::new(302);
    until("a verdict names it", SOON, || {
        let seed = third.replace(third.get() + 1);
        let path = workspace.upload(format!("{seed}.png"), placed(&chat(seed), seed));
        let verdict = until("a verdict", SOON, || workspace.verdict(&path));
        (score_of(&verdict, "chats")["adapter"] == name.as_str()).then_some(())
    });
    watcher.signal(Signal::INT);
    assert!(watcher.ended(SOON).success());
}

#[test]
fn what_is_not_better_or_not_for_this_model_is_refused() {
    let (workspace, folder) = workspace();
    // Labels that say nothing.
    let mixed = workspace.outside().join("mixed");
    for seed in 0..24_u64 {
        let kind = if seed % 2 == 0 { "chats" } else { "neutral" };
        fs::create_dir_all(mixed.join(kind)).expect("made");
        let bytes = placed(&receipt(seed), seed);
        fs::write(mixed.join(kind).join(format!("{seed}.png")), bytes).expect("written");
    }
    let refused = adapt(&workspace, &mixed, &["chats"]).expect_code(1).json_lines().remove(0);
    assert_eq!((&refused["kept"], &refused["adapter"]), (&false.into(), &Value::Null));
    assert!(refused["refused"].as_str().is_some_and(|why| why.contains("not better")), "{refused}");
    assert!(!workspace.path().join("adapters").exists(), "nothing is kept");
    let few = workspace.outside().join("few");
    examples(&few, 5);
    let few = adapt(&workspace, &few, &["chats"]).expect_code(64);
    assert!(few.err().contains("at least 8"), "{}", few.err());
    let unknown = adapt(&workspace, &folder, &["guns"]).expect_code(64);
    assert!(unknown.err().contains("there is no policy"), "{}", unknown.err());
    let nothing = workspace.run(&["adapt"]).expect_code(2);
    assert!(nothing.err().contains("nothing was judged"), "{}", nothing.err());

    let name = adapt(&workspace, &folder, &["chats"]).expect_code(0).json_lines().remove(0);
    let name = name["adapter"].as_str().expect("kept").to_owned();
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/models/siglip-tiny");
    let mut add = workspace.command(&["model", "add"]);
    add.arg(tiny).args(["--name", "tiny"]);
    run(add).expect_code(0);
    let foreign = workspace.run(&["--model", "tiny", "adapt", "use", &name]).expect_code(2);
    assert!(foreign.err().contains("was learned for the model"), "{}", foreign.err());
    // In use, and then another model: its words alone, and it is said.
    workspace.run(&["adapt", "use", &name]).expect_code(0);
    let page = workspace.upload("page.png", png(&page(1)));
    let page = page.to_str().expect("a plain path");
    let other = workspace.run(&["--model", "tiny", "score", "--format", "json", page]);
    assert!(other.err().contains("words alone"), "{}", other.err());
    assert_eq!(other.json_lines()[0]["policies"].as_array().map(Vec::len), Some(1));
    // A changed file is noticed, and nothing is judged by half of the rules.
    let file = workspace.path().join(format!("adapters/{name}.json"));
    let text = fs::read_to_string(&file).expect("text");
    fs::write(&file, text.replace("\"offset\": \"", "\"offset\": \"AAAA")).expect("written");
    let broken = workspace.run(&["score", page]).expect_code(78);
    assert!(broken.err().contains(&name) && broken.err().contains("rollback"), "{}", broken.err());
    workspace.run(&["adapt", "rollback", "chats"]).expect_code(0);
    workspace.run(&["score", page]);
}

/// Another policy, so that policies can be told apart.
const CARDS: &str = "\
id: cards
prompts: [an identity card]
contrast: [a printed page, a screenshot of a phone]
thresholds: {review: 0.9, block: 0.99}
";

fn eval(workspace: &Workspace, folder: &Path, more: &[&str]) -> Ran {
    let mut command = workspace.command(&["eval"]);
    command.arg(folder).args(more);
    run(command)
}

#[test]
fn eval_shows_the_gain_on_pictures_that_were_not_learned_from() {
    let (workspace, folder) = workspace();
    examples(&folder, 44);
    fs::write(workspace.path().join("policies/cards.yaml"), CARDS).expect("written");
    fs::create_dir(folder.join("cards")).expect("made");
    for seed in 100..106 {
        let card = placed(&identity_card(seed), seed);
        fs::write(folder.join(format!("cards/{seed}.png")), card).expect("written");
    }
    let json = ["--format", "json"];
    let learned = adapt(&workspace, &folder, &["chats", "--hold-out", "0.4"]).expect_code(0);
    let learned = learned.json_lines().remove(0);
    let name = learned["adapter"].as_str().unwrap_or_else(|| panic!("{learned}")).to_owned();
    let count = |of: &Value, key: &str| of[key].as_u64().expect("a number");
    let from = count(&learned, "violating") + count(&learned, "fine");
    assert!(from > 35 && from < 75, "{learned}");
    // A copy of what it learned from is the same picture, wherever it lies.
    let about = fs::read(workspace.path().join(format!("adapters/{name}.json"))).expect("kept");
    let about: Value = serde_json::from_slice(&about).expect("JSON");
    let known: Vec<&str> = about["learned_items"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(known.len() as u64, from);
    let chat =
        (0..44).map(|seed| fs::read(folder.join(format!("chats/{seed}.png"))).expect("read"));
    let is_known = |bytes: &Vec<u8>| known.contains(&ItemId::of_bytes(bytes).to_string().as_str());
    let copy = chat.clone().find(is_known).expect("most are");
    fs::write(folder.join("chats/a copy.png"), copy).expect("written");
    let fresh = chat.filter(|bytes| !is_known(bytes)).count() as u64;

    let with = ["--adapter", &name];
    let told = eval(&workspace, &folder, &[&json[..], &with].concat()).expect_code(0);
    let told = told.json_lines().remove(0);
    let tried = &told["adapted"]["adapters"][0];
    assert_eq!((&tried["adapter"], &tried["mode"]), (&name.as_str().into(), &Value::Null));
    assert_eq!(count(tried, "left_out_learned"), from + 1, "{tried}");
    assert_eq!(count(tried, "pictures") + count(tried, "left_out_alike"), 88 - from, "{tried}");
    assert!(count(tried, "violating") <= fresh && count(tried, "violating") > 5, "{tried}");
    let area =
        |side: &str| tried["comparison"][side]["roc_auc"]["value"].as_f64().expect("a number");
    assert!(area("adapted") > area("words"), "{tried}");
    let hits = |side: &str, what: &str| count(&tried["comparison"][side][what], "hits");
    assert!(hits("adapted", "found_at_review") > hits("words", "found_at_review"), "{tried}");
    let loudest = &told["adapted"]["loudest"];
    assert_eq!(loudest["policies"], serde_json::json!(["cards", "chats"]));
    assert_eq!(count(loudest, "pictures"), fresh + 6, "{loudest}");
    let hits = |side: &str| loudest[side]["top1"]["hits"].as_u64().expect("a number");
    assert!(hits("adapted") >= hits("words"), "{loudest}");

    // In use it is tried without being named, unless nobody wants it.
    workspace.run(&["adapt", "use", &name]).expect_code(0);
    let report = workspace.outside().join("report.html");
    let html = ["--html", report.to_str().expect("a plain path")];
    let table = eval(&workspace, &folder, &html).expect_code(0).out();
    let head = format!("{name} (for chats, background), beside the words alone");
    for said in [&head, "found at review", "that it learned from are left out", "speaks loudest"] {
        assert!(table.contains(said), "{said}: {table}");
    }
    let html = fs::read_to_string(report).expect("the report");
    for said in [&head, "<polyline", "newly found", "speaks loudest"] {
        assert!(html.contains(said), "{said} is missing");
    }

    // What can't be tried is told: another folder's classes, and nothing but what it learned from.
    let other = workspace.outside().join("other");
    for (class, seed) in [("meadow", 1), ("page", 2)] {
        fs::create_dir_all(other.join(class)).expect("made");
        fs::write(other.join(class).join("1.png"), png(&page(seed))).expect("written");
    }
    let refused = eval(&workspace, &other, &with).expect_code(64);
    assert!(refused.err().contains("no such class"), "{}", refused.err());
    let told = eval(&workspace, &other, &json).expect_code(0);
    assert!(told.json_lines()[0]["adapted"].is_null(), "in use, and not about these");
    let few = workspace.outside().join("few");
    for class in ["chats", "neutral"] {
        let all = (0..44).map(|seed| fs::read(folder.join(format!("{class}/{seed}.png"))));
        let bytes = all.map(|bytes| bytes.expect("read")).find(is_known).expect("most are");
        fs::create_dir_all(few.join(class)).expect("made");
        fs::write(few.join(class).join("known.png"), bytes).expect("written");
    }
    let told = eval(&workspace, &few, &[]).expect_code(0).out();
    assert!(told.contains("--hold-out"), "{told}");
    let none = eval(&workspace, &few, &[&json[..], &["--no-adapter"]].concat());
    assert!(none.expect_code(0).json_lines()[0]["adapted"].is_null());
}

#[test]
fn real_photos_gain_from_a_few_examples() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/golden");
    if !folder.join("neutral").is_dir() {
        skipped("adapting to the golden photos", "../shared/golden is not there");
        return;
    }
    let workspace = Workspace::new();
    let learned = adapt(&workspace, &folder, &["memes"]).expect_code(0).json_lines().remove(0);
    let gain = learned["validation"]["gain"]["value"].as_f64().expect("a number");
    assert!(learned["kept"] == true && gain > 0.02, "{learned}");
    // Half of the photos to learn from, the others to try it on.
    let half = adapt(&workspace, &folder, &["memes", "--hold-out", "0.5"]).expect_code(0);
    let name = half.json_lines().remove(0)["adapter"].as_str().expect("kept").to_owned();
    let told = eval(&workspace, &folder, &["--format", "json", "--adapter", &name]).expect_code(0);
    let tried = told.json_lines().remove(0)["adapted"]["adapters"][0].take();
    let gain = tried["comparison"]["gain"]["value"].as_f64().expect("a number");
    assert!(gain > 0.0, "{tried}");
}
