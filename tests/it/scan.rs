//! `modtool scan` from end to end: real pictures, the real binary, the starter policies.

use std::fs;
use std::path::Path;

use modtool::moderation::{
    Action, Decision, DecisionOutcome, ItemId, QueueFilter, Reviewer, Timestamp, UndoOutcome,
};
use modtool::pipeline::now;
use serde_json::Value;

use crate::support::pictures::{
    chat, identity_card, jpeg, meadow, noise, page, phone, png, receipt, still_life,
};
use crate::support::workspace::{PATIENCE, Running, Workspace, flagging};
use crate::support::{PHOTOS, photo};

/// Pictures that no policy may flag.
fn upload_ordinary(workspace: &Workspace) -> usize {
    for name in PHOTOS {
        workspace.upload(name, fs::read(photo(name)).expect("the project's own photo"));
    }
    for seed in 0..2 {
        workspace.upload(format!("noise-{seed}.png"), png(&noise(seed)));
        workspace.upload(format!("meadow-{seed}.jpg"), jpeg(&meadow(seed)));
        workspace.upload(format!("still-life-{seed}.jpg"), jpeg(&still_life(seed)));
    }
    PHOTOS.len() + 6
}

fn name_of(row: &Value) -> &str {
    let path = Path::new(row["path"].as_str().expect("a path"));
    path.file_name().and_then(|name| name.to_str()).expect("a name of a test")
}

#[test]
fn drawn_topics_are_flagged_by_their_policies_and_ordinary_pictures_by_none() {
    let workspace = Workspace::new();
    let ordinary = upload_ordinary(&workspace);
    let mut topics = Vec::new();
    for seed in 0..2 {
        let drawn = [
            ("page", "documents", page(seed)),
            ("receipt", "documents", receipt(seed)),
            ("card", "documents", identity_card(seed)),
            ("chat", "screenshots", chat(seed)),
            ("phone", "screenshots", phone(seed)),
        ];
        for (name, policy, picture) in drawn {
            for (ending, bytes) in [("png", png(&picture)), ("jpg", jpeg(&picture))] {
                let name = format!("{name}-{seed}.{ending}");
                workspace.upload(&name, bytes);
                topics.push((name, policy));
            }
        }
    }

    workspace.scan().expect_code(1);
    let rows = workspace.verdicts();
    assert_eq!(rows.len(), ordinary + topics.len());
    for row in &rows {
        let name = name_of(row);
        let topic = topics.iter().find(|(topic, _)| topic == name);
        if let Some((_, policy)) = topic {
            assert!(flagging(row).contains(policy), "{name}: {row}");
        }
        assert_eq!(row["outcome"] != "allow", topic.is_some(), "{name}: {row}");
        let state = topic.map_or(Value::Null, |_| "open".into());
        assert_eq!(row["state"], state, "{name}: {row}");
        assert_eq!(row["policies"].as_array().map(Vec::len), Some(11), "{name}: {row}");
        assert_eq!(row["reason"], Value::Null, "{name}: {row}");
    }
}

#[test]
fn ordinary_pictures_alone_end_with_0() {
    let workspace = Workspace::new();
    workspace.scan().expect_code(0);
    let ordinary = upload_ordinary(&workspace);
    let ran = workspace.scan().expect_code(0);
    assert!(ran.out().is_empty(), "standard output is for programs: {}", ran.out());
    assert!(ran.err().contains(&format!("{ordinary} judged")), "{}", ran.err());
}

#[tokio::test]
async fn a_second_scan_judges_nothing_and_a_persons_approval_makes_it_clean() {
    let workspace = Workspace::with_one_policy();
    workspace.upload("page.png", png(&page(1)));
    workspace.upload("deep/er/receipt.png", png(&receipt(1)));
    workspace.upload("deep/meadow.png", png(&meadow(1)));
    let first = workspace.scan().expect_code(1);
    assert!(first.err().contains("3 judged"), "{}", first.err());

    let before = workspace.verdicts();
    let second = workspace.scan().expect_code(1);
    assert!(second.err().contains("0 judged"), "{}", second.err());
    assert_eq!(workspace.verdicts(), before);

    let ana = Reviewer::new("ana").expect("a name");
    let store = workspace.store().await;
    let tasks = store.queue(&QueueFilter::default(), None, 10).await.expect("the queue");
    assert_eq!(tasks.len(), 2);
    for (index, task) in (0..).zip(&tasks) {
        // Removing is no approval: the file is still in the folder.
        for action in if index == 0 { &[Action::Approve][..] } else { &[Action::Remove] } {
            let decision = Decision {
                task: task.id,
                action: *action,
                reviewer: ana.clone(),
                reason: None,
                note: None,
                // Its effect on the file comes later than this test ends.
                at: Timestamp(now().0 + 1_000_000 + index),
            };
            let decided = store.record_decision(&decision).await.expect("decided");
            assert!(matches!(decided, DecisionOutcome::Recorded(_)));
        }
    }
    workspace.scan().expect_code(1);
    let undone = store.undo(&ana, Timestamp(now().0 + 1_000_003)).await.expect("undone");
    assert!(matches!(undone, UndoOutcome::Undone(_)));
    let decision = Decision {
        task: tasks[1].id,
        action: Action::Approve,
        reviewer: ana.clone(),
        reason: None,
        note: None,
        at: Timestamp(now().0 + 1_000_004),
    };
    store.record_decision(&decision).await.expect("decided");
    store.close().await;
    workspace.scan().expect_code(0);
    let states = workspace.verdicts().iter().filter(|row| row["state"] == "closed").count();
    assert_eq!(states, 2);
}

#[test]
fn the_same_bytes_twice_are_one_item_at_two_paths() {
    let workspace = Workspace::with_one_policy();
    let bytes = png(&page(3));
    workspace.upload("a.png", &bytes);
    workspace.upload("b/c.jpg", &bytes);
    workspace.scan().expect_code(1);
    let rows = workspace.verdicts();
    assert_eq!(rows.len(), 2);
    for row in &rows {
        assert_eq!(row["item"], ItemId::of_bytes(&bytes).to_string());
    }
    assert_eq!(rows[0]["policies"], rows[1]["policies"]);
}

#[test]
fn verdicts_as_json_are_one_line_a_file_and_nothing_else() {
    let workspace = Workspace::with_one_policy();
    workspace.upload("page.png", png(&page(1)));
    workspace.upload("meadow.png", png(&meadow(1)));
    workspace.upload("notes.txt", "no picture");
    let ran = workspace.run(&["scan", "uploads", "--format", "json"]).expect_code(1);
    let lines = ran.json_lines();
    assert_eq!(lines.len(), 2);
    for row in workspace.verdicts() {
        let line = lines.iter().find(|line| line["path"] == row["path"]).expect("each file");
        for field in ["item", "model", "fingerprint", "outcome", "reason", "policies"] {
            assert_eq!(line[field], row[field], "{field}");
        }
    }
}

#[test]
fn scope_and_missing_policies_have_reasons() {
    let workspace = Workspace::with_one_policy();
    let policy = workspace.path().join("policies/documents.yaml");
    let mut text = fs::read_to_string(&policy).expect("the policy");
    text.push_str("\nscope: {exclude: [\"avatars/**\"]}\n");
    fs::write(&policy, text).expect("written");
    let avatar = workspace.upload("avatars/page.png", png(&page(1)));
    let post = workspace.upload("posts/page.png", png(&page(2)));
    workspace.scan().expect_code(1);
    let row = workspace.verdict(&avatar).expect("judged");
    assert_eq!((&row["outcome"], &row["reason"]), (&"allow".into(), &"out_of_scope".into()));
    assert_eq!(workspace.verdict(&post).expect("judged")["reason"], Value::Null);

    fs::remove_file(&policy).expect("removed");
    let unruled = workspace.upload("posts/meadow.png", png(&meadow(1)));
    workspace.scan().expect_code(1);
    let row = workspace.verdict(&unruled).expect("judged");
    assert_eq!((&row["outcome"], &row["reason"]), (&"review".into(), &"no_policy".into()));
}

#[test]
fn the_workspaces_own_files_are_no_uploads() {
    let workspace = Workspace::with_one_policy();
    let root = workspace.path();
    fs::create_dir(root.join("quarantine")).expect("made");
    fs::write(root.join("quarantine/held.png"), png(&page(1))).expect("written");
    fs::write(root.join("policies/example.png"), png(&page(2))).expect("written");
    fs::write(root.join("modtool.yaml"), "model: builtin\n").expect("written");
    fs::write(root.join("upload.png"), png(&meadow(1))).expect("written");
    let allowed = "--allow-shared-workspace";
    let ran = workspace.run(&["scan", "workspace", allowed]).expect_code(0);
    let rows = workspace.verdicts();
    assert_eq!(rows.iter().map(name_of).collect::<Vec<_>>(), ["upload.png"]);
    assert!(!ran.err().contains("skipped ("), "its own files are not even counted: {}", ran.err());
    // The same when the folder goes by another name.
    std::os::unix::fs::symlink(&root, workspace.outside().join("link")).expect("linked");
    let linked = ["scan", "outside/link", "--workspace", "outside/link", allowed];
    workspace.run(&linked).expect_code(0);
    assert_eq!(workspace.verdicts().len(), 1);
}

#[tokio::test]
async fn many_first_starts_at_once_make_one_database() {
    let workspace = Workspace::with_one_policy();
    for seed in 0..3 {
        workspace.upload(format!("{seed}.png"), png(&meadow(seed)));
    }
    let scan = || Running::start(workspace.command(&["scan", "uploads"]));
    let mut scans: Vec<_> = (0..6).map(|_| scan()).collect();
    for scan in &mut scans {
        let status = scan.ended(PATIENCE);
        assert_eq!(status.code(), Some(0), "{}", scan.err());
    }
    assert_eq!(workspace.verdicts().len(), 3);
    // Each of them may have judged each file; what they say is one chain.
    let told: usize = scans.iter().map(|scan| scan.err().matches(" verdict ").count()).sum();
    crate::store::assert_audit_holds(&workspace.path().join("modtool.db"), told).await;
}
