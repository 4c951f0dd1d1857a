//! `modtool search`: descriptions, pictures, sums, restrictions, formats, folders.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use modtool::moderation::{Action, ItemId, QueueFilter, Timestamp};
use modtool::pipeline::now;
use serde_json::Value;

use crate::support::fixtures::decision;
use crate::support::pictures::{meadow, noise, page, png, receipt, still_life};
use crate::support::terminal::Terminal;
use crate::support::workspace::{Ran, Workspace, run};

/// Pages, receipts, fruit and meadows: two of each, judged by `documents` alone.
fn judged(workspace: &Workspace) {
    for seed in 0..2 {
        workspace.upload(format!("papers/page-{seed}.png"), png(&page(seed)));
        workspace.upload(format!("papers/receipt-{seed}.png"), png(&receipt(seed)));
        workspace.upload(format!("fruit-{seed}.png"), png(&still_life(seed)));
        workspace.upload(format!("meadow-{seed}.png"), png(&meadow(seed)));
    }
    workspace.scan().expect_code(1);
}

/// The names of the files that were found, in their order.
fn names(ran: &Ran) -> Vec<String> {
    let name = |row: &Value| {
        let path = Path::new(row["path"].as_str().expect("a path"));
        path.file_name().expect("a file").to_string_lossy().into_owned()
    };
    ran.json_lines().iter().map(name).collect()
}

fn kind(name: &str) -> &str {
    name.split('-').next().expect("a word")
}

fn search(workspace: &Workspace, more: &[&str]) -> Ran {
    let mut arguments = vec!["search", "--format", "json"];
    arguments.extend(more);
    workspace.run(&arguments).expect_code(0)
}

#[test]
fn a_description_finds_what_it_says_with_scores_and_percentiles() {
    let workspace = Workspace::with_one_policy();
    judged(&workspace);
    let found = search(&workspace, &["a green meadow under a blue sky", "--top", "3"]);
    assert_eq!(names(&found)[..2].iter().map(|name| kind(name)).collect::<Vec<_>>(), ["meadow"; 2]);
    let rows = found.json_lines();
    assert_eq!(rows.len(), 3);
    let keys: Vec<_> = rows[0].as_object().expect("an object").keys().take(4).collect();
    assert_eq!(keys, ["path", "item", "score", "percentile"]);
    let numbers = |key: &str| -> Vec<f64> {
        rows.iter().map(|row| row[key].as_f64().expect("a number")).collect()
    };
    assert!(numbers("score").is_sorted_by(|a, b| a >= b), "{rows:#?}");
    assert!(numbers("score").iter().all(|score| (-1.0..=1.0).contains(score)));
    assert_eq!(numbers("percentile"), [87.5, 75.0, 62.5], "7, 6 and 5 of 8 are less alike");

    // The same words without quotes, and as a table.
    let table = workspace.run(&["search", "a", "green", "meadow", "--top", "2"]).expect_code(0);
    assert!(
        table.out().contains("percentile") && table.out().contains("87.5 %"),
        "{}",
        table.out()
    );
    assert!(table.out().contains("no probability"), "{}", table.out());
}

#[test]
fn a_picture_finds_itself_and_its_like_and_sums_lead_away() {
    let workspace = Workspace::with_one_policy();
    judged(&workspace);
    let image = workspace.uploads().join("meadow-1.png");
    let image = image.to_str().expect("our name");
    let found = search(&workspace, &["--like", image, "--top", "2"]);
    assert_eq!(names(&found), ["meadow-1.png", "meadow-0.png"]);
    let first = &found.json_lines()[0];
    assert!((first["score"].as_f64().expect("a number") - 1.0).abs() < 1e-3, "{first}");
    // By its id, and by a file that was never stored.
    let id = first["item"].as_str().expect("an id");
    assert_eq!(names(&search(&workspace, &["--like", &id[..12], "--top", "2"])), names(&found));
    let other = workspace.outside().join("new.png");
    fs::write(&other, png(&meadow(77))).expect("written");
    let other = other.to_str().expect("our name");
    assert_eq!(kind(&names(&search(&workspace, &["--like", other, "--top", "1"]))[0]), "meadow");
    let away = search(&workspace, &["a receipt - a meadow", "--top", "8"]);
    let kinds: Vec<_> = names(&away).iter().map(|name| kind(name).to_owned()).collect();
    let (receipt, meadow) = ("receipt".to_owned(), "meadow".to_owned());
    let last_receipt = kinds.iter().rposition(|kind| *kind == receipt).expect("some");
    let first_meadow = kinds.iter().position(|kind| *kind == meadow).unwrap_or(kinds.len());
    assert!(last_receipt < first_meadow, "{kinds:?}");
    let heavy = search(&workspace, &["a receipt + 9:a green meadow", "--top", "1"]);
    assert_eq!(kind(&names(&heavy)[0]), "meadow");

    for (wrong, code) in [
        (vec!["search"], 64),
        (vec!["search", "dog + - cat"], 64),
        (vec!["search", "dog - dog"], 64),
        (vec!["search", "dog", "--top", "0"], 64),
        (vec!["search", "dog", "-0", "--format", "json"], 64),
        (vec!["search", "--like", "nowhere.png"], 64),
        (vec!["search", "--like", "uploads"], 2),
        (vec!["search", "dog", "--policy", "unheard-of"], 64),
        (vec!["search", "dog", "--outcome", "fine"], 64),
        (vec!["search", "dog", "--policy", "documents", "--dir", "uploads"], 64),
        (vec!["search", "dog outcome:block", "--dir", "uploads"], 64),
        (vec!["search", "dog", "--dir", "nowhere"], 2),
    ] {
        let ran = workspace.run(&wrong);
        assert_eq!(ran.code, code, "{wrong:?}: {}", ran.err());
        assert!(ran.out().is_empty() && !ran.err().is_empty(), "{wrong:?}: {}", ran.out());
    }
    let long = vec!["word"; 90].join(" ");
    let told = workspace.run(&["search", &long]).expect_code(64);
    assert!(told.err().contains("tokens"), "{}", told.err());
}

#[tokio::test(flavor = "multi_thread")]
async fn searches_are_restricted_by_everything_that_is_known() {
    let workspace = Workspace::with_one_policy();
    judged(&workspace);
    let kinds = |more: &[&str]| {
        let mut arguments = vec!["a picture", "--top", "50"];
        arguments.extend(more);
        let mut names = names(&search(&workspace, &arguments));
        names.sort();
        names
    };
    let papers = ["page-0.png", "page-1.png", "receipt-0.png", "receipt-1.png"];
    let others = ["fruit-0.png", "fruit-1.png", "meadow-0.png", "meadow-1.png"];
    assert_eq!(kinds(&["--policy", "documents"]), papers);
    assert_eq!(kinds(&["--outcome", "allow"]), others);
    let flagged = [kinds(&["--outcome", "review"]), kinds(&["--outcome", "block"])].concat();
    assert_eq!(flagged.len(), 4);
    assert_eq!(kinds(&["--path", "PAPERS/rec"]), papers[2..]);
    assert_eq!(kinds(&["--path", "papers/*-1.png"]), ["page-1.png", "receipt-1.png"]);
    assert_eq!(kinds(&["--state", "open"]), papers);
    assert_eq!(kinds(&["--since", "1h"]).len(), 8);
    assert!(kinds(&["--until", "1h"]).is_empty());
    assert!(kinds(&["--since", "1h", "--until", "2020-01-01"]).is_empty());

    let store = workspace.store().await;
    let tasks = store.queue(&QueueFilter::default(), None, 10).await.expect("read");
    let task = |name: &str| {
        tasks.iter().find(|task| task.path.ends_with(name)).unwrap_or_else(|| panic!("{name}"))
    };
    let Timestamp(at) = now();
    for (name, action) in [
        ("page-0.png", Action::Remove),
        ("page-1.png", Action::Approve),
        ("receipt-0.png", Action::Escalate),
    ] {
        let decided = decision(task(name), action, "ana", at);
        store.record_decision(&decided).await.expect("decided");
    }
    store.close().await;
    assert_eq!(kinds(&["--decision", "remove"]), ["page-0.png"]);
    assert_eq!(kinds(&["--decision", "approve"]), ["page-1.png"]);
    assert_eq!(kinds(&["--decision", "none", "--policy", "documents"]), papers[2..]);
    assert_eq!(kinds(&["--state", "escalated"]), ["receipt-0.png"]);
    assert_eq!(kinds(&["--state", "closed"]), ["page-0.png", "page-1.png"]);
    // As part of what is typed too.
    let typed = search(&workspace, &["a picture policy:documents decision:removed"]);
    assert_eq!(names(&typed), ["page-0.png"]);
    // A rank is one among all, whatever is left out.
    let row = typed.json_lines().remove(0);
    let all = search(&workspace, &["a picture", "--top", "8"]).json_lines();
    let same = all.iter().find(|one| one["item"] == row["item"]).expect("among all");
    assert_eq!(row["percentile"], same["percentile"]);
    assert_eq!((&row["decision"], &row["policy"]), (&"remove".into(), &"documents".into()));
    assert!(row["outcome"].is_string() && row["state"] == "closed", "{row}");
}

#[test]
fn paths_go_through_pipes_as_they_are_and_never_reach_a_terminal_so() {
    let workspace = Workspace::with_one_policy();
    let hostile = OsStr::from_bytes(b"a\x1b]52;c;eA==\x07\n\xff.png");
    let path = workspace.upload(hostile, png(&meadow(1)));
    workspace.scan().expect_code(0);
    let raw = workspace.run(&["search", "a meadow", "-0"]).expect_code(0);
    assert_eq!(raw.stdout, [path.as_os_str().as_bytes(), b"\0"].concat());
    let same = workspace.run(&["search", "a meadow", "--format", "paths", "-0"]).expect_code(0);
    assert_eq!(same.stdout, raw.stdout);
    for format in ["paths", "table", "json"] {
        let shown = workspace.run(&["search", "a meadow", "--format", format]).expect_code(0);
        assert!(!shown.stdout.contains(&0x1b) && !shown.stdout.contains(&0xff), "{}", shown.out());
        assert!(format == "table" || shown.out().lines().count() == 1, "{}", shown.out());
    }
    let row = search(&workspace, &["a meadow"]).json_lines().remove(0);
    assert!(row["path_b64"].is_string(), "{row}");
}

#[test]
fn without_anything_to_search_it_says_what_to_do() {
    let workspace = Workspace::with_one_policy();
    let told = workspace.run(&["search", "a dog"]).expect_code(2);
    assert!(told.err().contains("modtool watch"), "{}", told.err());
    workspace.scan().expect_code(0);
    let told = workspace.run(&["search", "a dog"]).expect_code(2);
    assert!(told.err().contains("modtool scan"), "{}", told.err());
    let told = workspace.run(&["search", "a dog", "--dir", "uploads"]).expect_code(2);
    assert!(told.err().contains("no picture"), "{}", told.err());
}

/// When each picture of the index was looked at.
fn seen_at(workspace: &Workspace, folder: &Path) -> Vec<Value> {
    let mut command = workspace.command(&["export", "verdicts"]);
    command.env("MODTOOL_WORKSPACE", index(folder));
    let rows = run(command).expect_code(0).json_lines();
    assert!(rows.len() >= 3, "{rows:#?}");
    rows.into_iter().map(|row| row["judged_at"].clone()).collect()
}

/// Where the index of a folder lies.
fn index(folder: &Path) -> PathBuf {
    let mut name = folder.file_name().expect("a name").to_owned();
    name.push(".modtool-index");
    folder.with_file_name(name)
}

#[test]
fn any_folder_is_searched_and_its_index_grows_with_it() {
    let workspace = Workspace::new();
    let folder = workspace.outside();
    let write = |name: &str, bytes: Vec<u8>| {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, bytes).expect("written");
    };
    write("deep/er/meadow-0.png", png(&meadow(0)));
    write("receipt-0.png", png(&receipt(0)));
    write("broken.png", png(&noise(1))[..500].to_vec());
    write("notes.txt", b"no picture".to_vec());
    let dir = folder.to_str().expect("our name");
    let found = search(&workspace, &["a green meadow", "--dir", dir]);
    assert_eq!(names(&found), ["meadow-0.png", "receipt-0.png"]);
    let row = &found.json_lines()[0];
    let keys: Vec<_> = row.as_object().expect("an object").keys().collect();
    assert_eq!(keys, ["path", "item", "score", "percentile"]);
    assert_eq!(row["percentile"], 50.0);
    // Nothing of it is in the folder or the workspace, and nobody else may read it.
    let inside: Vec<_> = fs::read_dir(&folder).expect("readable").collect();
    assert_eq!(inside.len(), 4);
    assert!(!workspace.path().join("modtool.db").exists());
    let mode = fs::metadata(index(&folder)).expect("the index").permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o700);

    // What came, went and changed since.
    write("meadow-1.png", png(&meadow(1)));
    write("receipt-0.png", png(&page(5)));
    fs::remove_file(folder.join("deep/er/meadow-0.png")).expect("removed");
    let found = search(&workspace, &["a green meadow", "--dir", dir]);
    assert_eq!(names(&found), ["meadow-1.png", "receipt-0.png"]);
    let item = ItemId::of_bytes(&png(&page(5))).to_string();
    assert_eq!(found.json_lines()[1]["item"], item.as_str());
    // What went and what was written over is nothing to compare with.
    let ranks = found.json_lines().into_iter().map(|row| row["percentile"].clone());
    assert_eq!(ranks.collect::<Vec<_>>(), [50.0, 0.0]);
    let table = workspace.run(&["search", "a green meadow", "--dir", dir]).expect_code(0).out();
    assert!(table.contains("so many of 2 pictures"), "{table}");

    // What it knows is not looked at again.
    let known = seen_at(&workspace, &folder);
    let only = search(&workspace, &["a green meadow", "--dir", dir, "--path", "DEEP"]);
    assert!(only.stdout.is_empty(), "{}", only.out());
    assert_eq!(seen_at(&workspace, &folder), known);
    let paths = workspace.run(&["search", "a page", "--dir", dir, "-0", "--top", "1"]);
    let expected = [folder.join("receipt-0.png").as_os_str().as_bytes(), b"\0"].concat();
    let real = fs::canonicalize(&folder).expect("there").join("receipt-0.png");
    let real = [real.as_os_str().as_bytes(), b"\0"].concat();
    assert!([expected, real].contains(&paths.expect_code(0).stdout));
}

#[test]
fn small_pictures_are_printed_where_they_are_asked_for_and_flagged_ones_as_their_policy_says() {
    let workspace = Workspace::with_one_policy();
    judged(&workspace);
    let policy = workspace.path().join("policies/documents.yaml");
    let text = fs::read_to_string(&policy).expect("the policy");
    let lines = text.lines().filter(|line| !line.starts_with("safe_view:"));
    let text = lines.collect::<Vec<_>>().join("\n") + "\nsafe_view: hidden\n";
    fs::write(&policy, text).expect("written");
    let show = |more: &[&str]| {
        let mut arguments = vec!["search", "a receipt", "--top", "8"];
        arguments.extend(more);
        workspace.run(&arguments).expect_code(0).out()
    };
    assert!(!show(&[]).contains('\u{1b}'), "a pipe gets words");
    let half = show(&["--pictures", "halfblocks"]);
    assert!(half.contains("\u{1b}[0m\u{1b}[38;2;"), "{half}");
    assert_eq!(half.matches("[hidden (--reveal)]").count(), 4, "{half}");
    assert!(half.contains("percentile"), "the table follows");
    let revealed = show(&["--thumbnails", "halfblocks", "--reveal"]);
    assert!(!revealed.contains("hidden") && revealed.len() > half.len(), "{revealed}");
    let unflagged = ["--outcome", "allow"];
    for (how, sign) in
        [("kitty", "\u{1b}_G"), ("sixel", "\u{1b}P"), ("iterm2", "\u{1b}]1337;File=")]
    {
        let shown = show(&[&unflagged[..], &["--pictures", how]].concat());
        assert!(shown.matches(sign).count() >= 4, "{how}");
    }
    fs::remove_file(workspace.uploads().join("fruit-0.png")).expect("removed");
    assert!(show(&["--pictures", "halfblocks"]).contains("[the file is gone"));
}

#[test]
fn the_grid_follows_what_is_typed_and_what_is_taken_is_printed() {
    let workspace = Workspace::with_one_policy();
    judged(&workspace);
    let told = workspace.run(&["search", "--interactive"]).expect_code(64);
    assert!(told.err().contains("needs a terminal"), "{}", told.err());
    let arguments = ["search", "--interactive", "--pictures", "halfblocks", "a receipt"];
    let mut terminal = Terminal::start(&workspace.command(&arguments));
    terminal.shows("search: a receipt");
    terminal.shows("8 of 8 pictures");
    terminal.shows(">receipt-");
    terminal.press("\u{15}a green meadow path:fruit");
    terminal.shows("2 of 8 pictures");
    terminal.shows(">fruit-");
    terminal.press("\u{17}");
    terminal.shows(">meadow-");
    terminal.press("\u{1b}[C");
    terminal.shows(">2 ");
    terminal.press("dog + - ");
    terminal.shows("there is no text");
    terminal.press("\u{15}");
    terminal.shows("type what to look for");
    terminal.press("\u{1b}[200~a meadow\u{1b}[201~");
    terminal.shows("8 of 8 pictures");
    terminal.press("\r");
    assert_eq!(terminal.ended(), 0);
    terminal.shows("uploads/meadow-");
    let mut terminal = Terminal::start(&workspace.command(&["search", "--interactive"]));
    terminal.shows("type what to look for");
    terminal.press("\u{1b}");
    assert_eq!(terminal.ended(), 0);
    let output = String::from_utf8_lossy(&terminal.output()).into_owned();
    assert!(output.contains("\u{1b}[?1049l"), "the screen is given back");
}

#[test]
fn the_dashboard_restricts_its_search_and_finds_what_was_decided_about_the_like() {
    let workspace = Workspace::with_one_policy();
    judged(&workspace);
    let page = workspace.uploads().join("papers/page-0.png");
    let page = page.to_str().expect("our name");
    workspace.run(&["queue", "decide", page, "--action", "remove"]).expect_code(0);
    let review = ["review", "--reviewer", "ana", "--no-pictures"];
    let mut terminal = Terminal::start(&workspace.command(&review));
    terminal.shows("queue 3");
    terminal.shows("nearest: removed");
    terminal.press("s");
    terminal.shows("policy:weapons");
    terminal.press("a picture outcome:allow path:fruit\r");
    terminal.shows("1 of 2:");
    terminal.shows(" % ");
    terminal.shows("of all pictures");
    terminal.press("/");
    terminal.shows("search pictures of: a picture outcome:allow path:fruit");
    terminal.press("\u{8}\u{8}\u{8}\u{8}\u{8}meadow\r");
    terminal.shows("meadow-");
    terminal.press("S");
    terminal.shows("1 of 7:");
    terminal.press("/decision:removed\r");
    terminal.shows("1 of 1:");
    terminal.shows("page-0.png");
    terminal.press("/ policy:unheard\r");
    terminal.shows("there is no policy");
    terminal.press("\u{3}");
    assert_eq!(terminal.ended(), 0);
    // What is undone is no past decision any more, also after a restart.
    let mut terminal =
        Terminal::start(&workspace.command(&["review", "--reviewer", "ana", "--no-pictures"]));
    terminal.shows("nearest: removed");
    terminal.press("\u{3}");
    assert_eq!(terminal.ended(), 0);
}
