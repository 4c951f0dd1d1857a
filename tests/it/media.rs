//! What is no picture, can't be reached, or has another name by now: nothing of it is passed over
//! in silence.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::pictures::{meadow, page, png};
use crate::support::until;
use crate::support::workspace::{PATIENCE, Running, Workspace};

const FILM: &[u8] = b"\0\0\0\x18ftypisom\0\0\0\0isommp42";

fn queue(workspace: &Workspace) -> Vec<Value> {
    workspace.run(&["queue", "list", "--format", "json"]).json_lines()
}

/// Paths and reasons of what waits, in order.
fn waiting(workspace: &Workspace) -> Vec<(String, String)> {
    let text = |row: &Value, field: &str| row[field].as_str().unwrap_or_default().to_owned();
    let rows = queue(workspace);
    let mut rows: Vec<_> =
        rows.iter().map(|row| (text(row, "path"), text(row, "reason"))).collect();
    rows.sort();
    rows
}

fn folder(path: &Path) -> String {
    path.to_str().expect("a name of a test").to_owned()
}

fn decide(workspace: &Workspace, row: &Value, action: &str) -> Value {
    let item = row["item"].as_str().expect("an item");
    let arguments = ["queue", "decide", "--action", action, "--format", "json", item];
    workspace.run(&arguments).json_lines().remove(0)
}

#[test]
fn films_documents_and_links_are_one_row_a_folder_and_kind() {
    let workspace = Workspace::with_one_policy();
    workspace.upload("meadow.png", png(&meadow(1)));
    workspace.upload("notes.txt", "milk, bread");
    workspace.upload("page.png.json", "{\"name\": \"page.png\"}");
    for name in ["b.mp4", "a.webm", "deep/c", "deep/d.MOV"] {
        workspace.upload(name, FILM);
    }
    workspace.upload("deep/a.pdf", b"%PDF-1.7 ...");
    symlink("/etc/passwd", workspace.uploads().join("deep/link.png")).expect("linked");
    symlink("nowhere", workspace.uploads().join("deep/dangling")).expect("linked");

    let ran = workspace.scan().expect_code(1);
    let told = "4 videos, 1 PDF, 2 symbolic links were not judged";
    assert!(ran.err().contains(told) && ran.err().contains("2 skipped"), "{}", ran.err());
    let uploads = fs::canonicalize(workspace.uploads()).expect("there");
    let (top, deep) = (folder(&uploads), folder(&uploads.join("deep")));
    let links = "unreadable: 2 symbolic links, which modtool does not follow";
    let rows = [
        (top.clone(), "unjudged: 2 videos".to_owned()),
        (deep.clone(), "unjudged: 1 PDF".to_owned()),
        (deep.clone(), "unjudged: 2 videos".to_owned()),
        (deep.clone(), links.to_owned()),
    ];
    assert_eq!(waiting(&workspace), rows);
    for command in ["status", "stats"] {
        let said = workspace.run(&[command, "--format", "json"]).json_lines().remove(0);
        assert_eq!(said["not_judged"], json!({"video": 4, "pdf": 1, "link": 2}), "{command}");
        assert!(workspace.run(&[command]).out().contains(told), "{command}");
    }

    // Again and again the same: no new row, and not clean.
    let again = workspace.scan().expect_code(1);
    assert!(again.err().contains("0 judged"), "{}", again.err());
    assert_eq!(waiting(&workspace), rows);

    let films = queue(&workspace).into_iter();
    let mut films =
        films.filter(|row| row["reason"] == "unjudged: 2 videos" && row["path"] == *top);
    let film = films.next().expect("the row");
    let item = film["item"].as_str().expect("an item");
    let shown = workspace.run(&["queue", "show", "--format", "json", item]).json_lines().remove(0);
    assert_eq!(shown["files"], json!([{"name": "a.webm"}, {"name": "b.mp4"}]));
    assert!(workspace.run(&["queue", "show", item]).out().contains("a.webm"));

    // Removing would be silent about what it does not do.
    let refused = decide(&workspace, &film, "remove");
    assert_eq!(
        (&refused["recorded"], &refused["nothing_to_remove"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(waiting(&workspace), rows);
    assert_eq!(decide(&workspace, &film, "approve")["recorded"], true);
    workspace.scan().expect_code(1);
    assert_eq!(waiting(&workspace), rows[1..]);
    // One of what was approved goes: nothing new. Another comes: that is new.
    fs::remove_file(uploads.join("a.webm")).expect("removed");
    workspace.scan().expect_code(1);
    assert_eq!(waiting(&workspace), rows[1..]);
    workspace.upload("new.avi", b"RIFF\0\0\0\0AVI LIST");
    workspace.scan().expect_code(1);
    assert_eq!(waiting(&workspace)[..1], rows[..1]);

    // While it waits the row says how many there are, and goes with the last of them.
    workspace.upload("deep/e.mkv", b"\x1A\x45\xDF\xA3");
    workspace.scan().expect_code(1);
    assert_eq!(waiting(&workspace)[2], (deep.clone(), "unjudged: 3 videos".to_owned()));
    fs::remove_dir_all(uploads.join("deep")).expect("removed");
    fs::remove_file(uploads.join("b.mp4")).expect("removed");
    fs::remove_file(uploads.join("new.avi")).expect("removed");
    workspace.scan().expect_code(0);
    assert_eq!(waiting(&workspace), []);
    assert!(uploads.join("meadow.png").exists());
}

#[test]
fn settings_say_what_is_told_and_what_is_only_counted() {
    let workspace = Workspace::with_one_policy();
    let settings = |text: &str| {
        fs::write(workspace.path().join("modtool.yaml"), text).expect("written");
    };
    workspace.upload("a.mp4", FILM);
    workspace.upload("a.pdf", b"%PDF-1.7 ...");
    workspace.upload("a.bin", b"\x01\x02\xFF");
    settings("media: {video: skip, documents: skip}\n");
    let ran = workspace.scan().expect_code(0);
    assert!(ran.err().contains("1 video, 1 PDF were not judged"), "{}", ran.err());
    assert_eq!(waiting(&workspace), []);
    settings("media: {documents: skip, other: review}\n");
    workspace.scan().expect_code(1);
    let reasons: Vec<_> = waiting(&workspace).into_iter().map(|(_, reason)| reason).collect();
    assert_eq!(reasons, ["unjudged: 1 other file", "unjudged: 1 video"]);
    settings("media: {video: skip}\n");
    workspace.scan().expect_code(1);
    let reasons: Vec<_> = waiting(&workspace).into_iter().map(|(_, reason)| reason).collect();
    assert_eq!(reasons, ["unjudged: 1 PDF"]);
    settings("media: {video: judge}\n");
    let refused = workspace.scan();
    assert!(refused.code != 0 && refused.err().contains("pictures alone"), "{}", refused.err());
}

#[test]
fn a_watcher_tells_of_a_film_that_comes_soon() {
    let workspace = Workspace::with_one_policy();
    workspace.upload("sub/meadow.png", png(&meadow(1)));
    let mut watching = Running::watch(&workspace, &[]);
    until("the first scan is over", PATIENCE, || {
        watching.err().contains("scanned the folders").then_some(())
    });
    workspace.upload("sub/film", FILM);
    symlink("/etc/passwd", workspace.uploads().join("passwd.png")).expect("linked");
    until("the film waits for a person", PATIENCE, || {
        let waits = |(_, reason): &(String, String)| reason == "unjudged: 1 video";
        waiting(&workspace).iter().any(waits).then_some(())
    });
    watching.signal(rustix::process::Signal::INT);
    watching.ended(PATIENCE);
}

#[test]
fn the_innermost_folder_rules_whatever_the_order() {
    for order in [["uploads", "uploads/sub"], ["uploads/sub", "uploads"]] {
        let workspace = Workspace::with_one_policy();
        let policy = workspace.path().join("policies/documents.yaml");
        let mut text = fs::read_to_string(&policy).expect("the policy");
        text.push_str("scope: {include: [\"avatars/**\"]}\n");
        fs::write(&policy, text).expect("written");
        workspace.upload("sub/avatars/page.png", png(&page(1)));
        workspace.upload("avatars/page.png", png(&page(2)));
        workspace.upload("sub/page.png", png(&page(3)));
        let scan = || workspace.run(&["scan", order[0], order[1]]);
        let ran = scan().expect_code(1);
        assert!(ran.err().contains("3 judged"), "each once: {}", ran.err());
        let rows = workspace.verdicts();
        let outcome = |below: &str| {
            let path = fs::canonicalize(workspace.uploads().join(below)).expect("there");
            let row = rows.iter().find(|row| row["path"].as_str() == path.to_str());
            row.unwrap_or_else(|| panic!("{below} in {rows:?}"))["outcome"].clone()
        };
        assert_ne!(outcome("sub/avatars/page.png"), "allow", "{order:?}");
        assert_ne!(outcome("avatars/page.png"), "allow", "{order:?}");
        assert_eq!(outcome("sub/page.png"), "allow", "{order:?}");
    }
}

#[test]
fn a_renamed_file_is_named_as_it_is_now() {
    let workspace = Workspace::with_one_policy();
    let old = workspace.upload("page.png.part", png(&page(1)));
    workspace.upload("copy.png", png(&page(2)));
    workspace.scan().expect_code(1);
    let new = workspace.uploads().join("page.png");
    fs::rename(&old, &new).expect("renamed");
    workspace.scan().expect_code(1);
    let names = |rows: &[Value]| {
        let mut names: Vec<_> = rows.iter().map(|row| row["path"].clone()).collect();
        names.sort_by_key(ToString::to_string);
        names
    };
    let there = |rows: &[Value]| {
        let all = rows.iter().all(|row| Path::new(row["path"].as_str().expect("text")).exists());
        assert!(all && rows.len() == 2, "{:?}", names(rows));
    };
    there(&queue(&workspace));
    there(&workspace.verdicts());
    // A second copy is known when the first goes.
    fs::copy(&new, workspace.uploads().join("another.png")).expect("copied");
    workspace.scan().expect_code(1);
    fs::remove_file(&new).expect("removed");
    workspace.scan().expect_code(1);
    there(&queue(&workspace));
}

#[test]
fn a_path_beyond_the_limit_is_a_row_and_no_clean_end() {
    let workspace = Workspace::with_one_policy();
    workspace.upload("meadow.png", png(&meadow(1)));
    workspace.run(&["score", "uploads"]).expect_code(0);
    let part = "d".repeat(250);
    let mut folder = rustix::fs::open(
        workspace.uploads(),
        rustix::fs::OFlags::DIRECTORY,
        rustix::fs::Mode::empty(),
    )
    .expect("opened");
    for _ in 0..17 {
        rustix::fs::mkdirat(&folder, &part, rustix::fs::Mode::RWXU).expect("made");
        let flags = rustix::fs::OFlags::DIRECTORY;
        folder =
            rustix::fs::openat(&folder, &part, flags, rustix::fs::Mode::empty()).expect("opened");
    }
    workspace.scan().expect_code(1);
    let rows = waiting(&workspace);
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert!(rows[0].1.starts_with("unreadable: folder"), "{rows:?}");
    workspace.run(&["score", "uploads"]).expect_code(1);
}

#[test]
fn score_names_what_it_can_not_read_below_a_folder() {
    let workspace = Workspace::with_one_policy();
    workspace.upload("meadow.png", png(&meadow(1)));
    workspace.upload("film", FILM);
    symlink("/etc/passwd", workspace.uploads().join("link.png")).expect("linked");
    let ran = workspace.run(&["score", "--format", "json", "uploads"]).expect_code(1);
    let rows = ran.json_lines();
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert!(ran.err().contains("1 video was not judged"), "{}", ran.err());
    let link = rows.iter().find(|row| row["path"] == "uploads/link.png").expect("named");
    assert_eq!(link["reason"], "unreadable: links are not followed");
}
