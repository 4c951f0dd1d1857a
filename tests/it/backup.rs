//! `modtool backup` and `modtool restore-backup`: a copy while the watcher runs, and taking it back.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;

use crate::store::{assert_audit_holds, raw};
use crate::support::pictures::{noise, page, png};
use crate::support::workspace::{Running, Workspace};
use crate::watch::{stray_files, until_judged};

fn kept(workspace: &Workspace) -> Vec<PathBuf> {
    let is_kept = |path: &PathBuf| path.to_string_lossy().contains(".before-restore-");
    stray_files(&workspace.path()).into_iter().filter(is_kept).collect()
}

#[test]
fn a_copy_made_while_the_watcher_runs_is_whole_and_can_be_taken_back() {
    let workspace = Workspace::with_one_policy();
    let mut wanted = BTreeMap::new();
    let mut upload = |from: u64, to: u64| {
        for seed in from..to {
            let bytes = if seed == 0 { png(&page(0)) } else { png(&noise(seed)) };
            wanted.insert(workspace.upload(format!("{seed}.png"), &bytes), bytes);
        }
        wanted.clone()
    };
    let mut watcher = Running::watch(&workspace, &[]);
    until_judged(&workspace, &upload(0, 10));
    // While it works.
    upload(10, 60);
    let copy = workspace.outside().join("copy.db");
    let copy = copy.to_str().expect("a test's own name");
    let ran = workspace.run(&["backup", copy]).expect_code(0);
    assert!(ran.out().contains("wrote ") && ran.out().contains(" uploads of "), "{}", ran.out());
    let mode = fs::metadata(copy).expect("written").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "{mode:o}");
    let beside: Vec<_> = fs::read_dir(workspace.outside()).expect("a folder").collect();
    assert_eq!(beside.len(), 1, "no part and no journal is left: {beside:?}");

    let again = workspace.run(&["backup", copy]).expect_code(2);
    assert!(again.err().contains("never overwrites"), "{}", again.err());
    let nowhere = workspace.run(&["backup", "/nowhere/copy.db"]).expect_code(2);
    assert!(nowhere.err().contains("/nowhere/copy.db"), "{}", nowhere.err());
    let early = workspace.run(&["restore-backup", copy]).expect_code(2);
    assert!(early.err().contains("a watcher of") && early.err().contains("end it first"));

    let rows = until_judged(&workspace, &upload(60, 62));
    watcher.signal(Signal::TERM);
    assert_eq!(watcher.ended(Duration::from_secs(5)).code(), Some(0), "{}", watcher.err());

    // What a failing disk leaves.
    let database = workspace.path().join("modtool.db");
    fs::write(&database, b"no database any more").expect("our own file");
    workspace.run(&["export", "verdicts"]).expect_code(2);
    let ran = workspace.run(&["restore-backup", copy]).expect_code(0);
    assert!(ran.out().contains("restored") && ran.out().contains("kept as"), "{}", ran.out());
    let kept = kept(&workspace);
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(fs::read(&kept[0]).expect("kept"), b"no database any more");
    let mode = fs::metadata(&database).expect("restored").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "{mode:o}");
    let restored = workspace.verdicts();
    assert!((10..rows.len()).contains(&restored.len()), "{} rows", restored.len());
    assert!(restored.iter().all(|row| rows.contains(row)), "as they were");

    // What came since is found.
    workspace.scan().expect_code(1);
    let after = workspace.verdicts();
    assert_eq!(after.len(), rows.len());
    assert_eq!(after.iter().filter(|row| row["state"] == "open").count(), 1);
    tokio::runtime::Runtime::new()
        .expect("a runtime")
        .block_on(assert_audit_holds(&database, rows.len()));
}

#[test]
fn a_damaged_copy_is_refused_and_what_is_there_stays() {
    let workspace = Workspace::with_one_policy();
    for seed in 0..20 {
        workspace.upload(format!("{seed}.png"), png(&noise(seed)));
    }
    workspace.scan().expect_code(0);
    let before = workspace.verdicts();
    let good = workspace.outside().join("good.db");
    workspace.run(&["backup", "outside/good.db"]).expect_code(0);
    let whole = fs::read(&good).expect("a copy");
    let middle = whole.len() / 2 / 4096 * 4096;
    let mut flipped = whole.clone();
    flipped[middle..middle + 4096].fill(0xa5);
    let cases: [(&str, &[u8]); 5] = [
        ("flipped.db", &flipped),
        ("cut.db", &whole[..whole.len() - 8192]),
        ("empty.db", b""),
        ("text.db", b"Dear Sir or Madam,"),
        ("other.db", &whole[..100]),
    ];
    for (name, bytes) in cases {
        fs::write(workspace.outside().join(name), bytes).expect("written");
        let ran = workspace.run(&["restore-backup", &format!("outside/{name}")]).expect_code(2);
        assert!(ran.err().contains("is no good copy"), "{name}: {}", ran.err());
        assert_eq!(workspace.verdicts(), before, "{name}");
    }
    let ran = workspace.run(&["restore-backup", "outside/missing.db"]).expect_code(2);
    assert!(ran.err().contains("there is no file"), "{}", ran.err());
    assert!(kept(&workspace).is_empty());
    workspace.run(&["restore-backup", "outside/good.db"]).expect_code(0);
    assert_eq!(workspace.verdicts(), before);
    assert_eq!(kept(&workspace).len(), 1);
}

#[tokio::test]
async fn nothing_is_restored_under_an_open_dashboard() {
    let workspace = Workspace::with_one_policy();
    workspace.upload("0.png", png(&noise(0)));
    workspace.scan().expect_code(0);
    workspace.run(&["backup", "outside/copy.db"]).expect_code(2);
    fs::create_dir_all(workspace.outside()).expect("made");
    workspace.run(&["backup", "outside/copy.db"]).expect_code(0);
    let dashboard = raw(&workspace.path().join("modtool.db")).await;
    sqlx::query("SELECT count(*) FROM items").fetch_one(&dashboard).await.expect("counted");
    let ran = workspace.run(&["restore-backup", "outside/copy.db"]).expect_code(2);
    assert!(ran.err().contains("end it first"), "{}", ran.err());
    dashboard.close().await;
    workspace.run(&["restore-backup", "outside/copy.db"]).expect_code(0);
}

#[test]
fn a_new_machine_starts_from_a_copy() {
    let old = Workspace::with_one_policy();
    old.upload("page.png", png(&page(1)));
    old.scan().expect_code(1);
    let copy = old.outside().join("copy.db");
    old.run(&["backup", copy.to_str().expect("a test's own name")]).expect_code(0);
    let new = Workspace::with_one_policy();
    let ran =
        new.run(&["restore-backup", copy.to_str().expect("a test's own name")]).expect_code(0);
    assert!(!ran.out().contains("kept as"), "nothing was there: {}", ran.out());
    assert_eq!(new.verdicts(), old.verdicts());
}
