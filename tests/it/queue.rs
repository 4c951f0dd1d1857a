//! `modtool queue` and `modtool stats`: the same rules as the screen, for scripts.

use modtool::moderation::{QueueFilter, Timestamp};

use super::support::fixtures::reviewer;
use super::support::pictures::{jpeg, page, receipt};
use super::support::workspace::Workspace;

/// Two drawn pages were flagged.
fn flagged() -> Workspace {
    let workspace = Workspace::with_one_policy();
    workspace.upload("page.jpg", jpeg(&page(1)));
    workspace.upload("receipt.jpg", jpeg(&receipt(2)));
    workspace.scan().expect_code(1);
    workspace
}

fn json(workspace: &Workspace, arguments: &[&str], code: i32) -> Vec<serde_json::Value> {
    let ran = workspace.run(&[arguments, &["--format", "json"]].concat()).expect_code(code);
    ran.json_lines()
}

#[test]
fn what_waits_is_listed_and_decided_by_id_and_by_path() {
    let workspace = flagged();
    let rows = json(&workspace, &["queue", "list"], 0);
    assert_eq!(rows.len(), 2);
    for row in &rows {
        for field in ["task", "item", "path", "policy", "score", "outcome", "state"] {
            assert!(!row[field].is_null(), "{field} in {row}");
        }
        assert_eq!((&row["policy"], &row["state"]), (&"documents".into(), &"open".into()));
    }
    assert_eq!(json(&workspace, &["queue", "list", "--limit", "1"], 0).len(), 1);
    assert_eq!(json(&workspace, &["queue", "list", "--policy", "weapons"], 0).len(), 0);

    let first = rows[0]["item"].as_str().expect("an id");
    let decided = json(
        &workspace,
        &[
            "queue",
            "decide",
            &first[..12],
            "--action",
            "remove",
            "--reason",
            "documents",
            "--note",
            "a bill",
            "--reviewer",
            "ana",
        ],
        0,
    );
    assert_eq!((&decided[0]["recorded"], &decided[0]["item"]), (&true.into(), &first.into()));
    let path = rows[1]["path"].as_str().expect("a path");
    json(&workspace, &["queue", "decide", path, "--action", "escalate", "--reviewer", "ana"], 0);
    assert!(json(&workspace, &["queue", "list", "--state", "open"], 0).is_empty());
    assert_eq!(json(&workspace, &["queue", "list"], 0)[0]["state"], "escalated");
    assert_eq!(json(&workspace, &["queue", "list", "--state", "closed"], 0).len(), 1);

    // The slower one is told who decided.
    let again = ["queue", "decide", first, "--action", "approve", "--reviewer", "bob"];
    let late = json(&workspace, &again, 1);
    assert_eq!(late[0]["recorded"], false);
    assert_eq!(late[0]["already_decided"]["reviewer"], "ana");
    let told = workspace.run(&again).expect_code(1).out();
    assert!(told.contains("not recorded: ana decided remove"), "{told}");

    let shown = json(&workspace, &["queue", "show", first], 0);
    assert_eq!(shown[0]["decisions"][0]["note"], "a bill");
    assert_eq!(shown[0]["policies"][0]["id"], "documents");
    let shown = workspace.run(&["queue", "show", path]).expect_code(0).out();
    assert!(shown.contains("decided  escalate by ana"), "{shown}");
}

#[test]
fn the_latest_decisions_are_taken_back_one_command_at_a_time() {
    let workspace = flagged();
    let rows = json(&workspace, &["queue", "list"], 0);
    let [first, second] = [0, 1].map(|row: usize| rows[row]["item"].as_str().expect("an id"));
    let decide = |item: &str, action: &str, who: &str| {
        let decide = ["queue", "decide", item, "--action", action, "--reviewer", who];
        json(&workspace, &decide, 0);
    };
    decide(first, "escalate", "ana");
    decide(second, "remove", "ana");
    let undo = ["queue", "undo", "--reviewer", "ana"];
    let undone = json(&workspace, &undo, 0);
    assert_eq!((&undone[0]["item"], &undone[0]["state"]), (&second.into(), &"open".into()));
    assert_eq!((&undone[0]["undone"], &undone[0]["action"]), (&true.into(), &"remove".into()));
    // Somebody with more say has decided since: both decisions stand.
    decide(first, "approve", "bob");
    let refused = json(&workspace, &undo, 1);
    assert_eq!(refused[0]["decided_since"]["reviewer"], "bob");
    let told = workspace.run(&["queue", "undo", "--reviewer", "eve"]).expect_code(1).out();
    assert!(told.contains("eve has decided nothing"), "{told}");
    assert_eq!(json(&workspace, &["queue", "list"], 0).len(), 1);
}

#[test]
fn a_wrong_name_decides_nothing() {
    let workspace = flagged();
    let item =
        json(&workspace, &["queue", "list"], 0)[0]["item"].as_str().expect("an id").to_owned();
    for wrong in ["abcdef", "no-such-file.jpg", "x"] {
        let ran = workspace.run(&["queue", "decide", &item, wrong, "--action", "remove"]);
        assert_eq!(ran.code, 64, "{}", ran.err());
        assert!(ran.err().contains(wrong), "{}", ran.err());
    }
    let ran = workspace.run(&["queue", "decide", &item, "--action", "remove", "--reason", "nope"]);
    assert!(ran.expect_code(64).err().contains("there are documents"));
    assert_eq!(json(&workspace, &["queue", "list", "--state", "open"], 0).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn leased_tasks_are_listed_and_not_decided_under_the_other() {
    let workspace = flagged();
    let store = workspace.store().await;
    let task = store.queue(&QueueFilter::default(), None, 1).await.expect("read").remove(0);
    let far = Timestamp(i64::MAX / 2);
    store.lease(task.id, &reviewer("ana"), far).await.expect("leased");
    store.close().await;
    let rows = json(&workspace, &["queue", "list"], 0);
    assert_eq!(rows.len(), 2);
    let item = task.item.to_string();
    assert_eq!(rows.iter().find(|row| row["item"] == item).expect("listed")["leased_by"], "ana");
    let refused = json(
        &workspace,
        &["queue", "decide", &item, "--action", "approve", "--reviewer", "bob"],
        1,
    );
    assert_eq!(refused[0]["leased_by"], "ana");
}

#[test]
fn an_item_that_nothing_flagged_can_be_removed_by_name() {
    let workspace = Workspace::with_one_policy();
    let path = workspace
        .upload("plain.png", super::support::pictures::png(&super::support::pictures::meadow(1)));
    workspace.scan().expect_code(0);
    let path = path.to_str().expect("a test's own name");
    json(&workspace, &["queue", "decide", path, "--action", "remove", "--reviewer", "ana"], 0);
    assert_eq!(json(&workspace, &["queue", "show", path], 0)[0]["reason"], "found");
    assert_eq!(json(&workspace, &["queue", "list", "--state", "closed"], 0).len(), 1);
}

#[test]
fn the_numbers_are_told_to_people_and_programs() {
    let workspace = flagged();
    let item =
        json(&workspace, &["queue", "list"], 0)[0]["item"].as_str().expect("an id").to_owned();
    json(&workspace, &["queue", "decide", &item, "--action", "remove", "--reviewer", "ana"], 0);
    let stats = &json(&workspace, &["stats", "--days", "3"], 0)[0];
    assert_eq!((&stats["queue"]["open"], &stats["queue"]["decided_today"]), (&1.into(), &1.into()));
    assert_eq!(stats["days"].as_array().expect("days").len(), 3);
    assert_eq!(stats["days"][2]["opened"], 2);
    assert_eq!(stats["reviewers"][0]["removed"], 1);
    assert_eq!(stats["policies"][0]["precision"], 1.0);
    assert_eq!(stats["scores"][0]["items"], 2);
    assert_eq!((&stats["recall"]["found"], &stats["recall"]["samples"]), (&1.into(), &0.into()));
    assert!(stats["recall"]["recall"].is_null() && stats["hooks"] == serde_json::json!([]));
    let table = workspace.run(&["stats"]).expect_code(0).out();
    for text in ["queue: 1 open", "ana", "documents", "100 %", "█", "recall: unknown"] {
        assert!(table.contains(text), "{text} in\n{table}");
    }
}

#[test]
fn without_a_database_it_says_what_to_do() {
    let workspace = Workspace::with_one_policy();
    for command in [["queue", "list"], ["stats", "--days=2"]] {
        let ran = workspace.run(&command).expect_code(2);
        assert!(ran.err().contains("modtool watch DIR"), "{}", ran.err());
    }
}
