//! `modtool backup` and `modtool restore-backup`: a copy while the watcher runs, and taking it back.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use sqlx::{AssertSqlSafe, Connection as _};

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

/// Changes a copy past the store.
async fn change(copy: &Path, statements: &[&str]) {
    let pool = raw(copy).await;
    // On one connection: some of them are settings of the connection.
    let mut connection = pool.acquire().await.expect("a connection").detach();
    for statement in statements {
        sqlx::query(AssertSqlSafe(*statement))
            .execute(&mut connection)
            .await
            .unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    connection.close().await.expect("closed");
    pool.close().await;
}

#[tokio::test]
async fn a_copy_with_anything_foreign_is_refused_and_nothing_changes() {
    const EDIT: &str = "PRAGMA writable_schema = ON";
    let cases: &[(&[&str], &str)] = &[
        (
            &["CREATE TRIGGER tidy AFTER INSERT ON sightings BEGIN
               UPDATE sightings SET outcome = 'allow' WHERE id = NEW.id; END"],
            "modtool makes no trigger `tidy`",
        ),
        (
            &[
                "ALTER TABLE exposures RENAME TO seen",
                "CREATE VIEW exposures AS SELECT * FROM seen",
            ],
            "modtool makes no table `seen`",
        ),
        (&["CREATE TABLE notes (text)"], "modtool makes no table `notes`"),
        (&["CREATE INDEX odd ON items (hex(hash))"], "modtool makes no index `odd`"),
        (
            &["ALTER TABLE secrets ADD COLUMN more TEXT AS (hex(bytes))"],
            "its table `secrets` is not as modtool makes it",
        ),
        (&["DROP TRIGGER audit_events_never_change"], "`audit_events_never_change` is missing"),
        (
            &[
                EDIT,
                "UPDATE sqlite_schema SET sql = replace(sql, '''purged'')', '''purged'', '''')')
                 WHERE name = 'placements'",
            ],
            "its table `placements` is not as modtool makes it",
        ),
        // Two indexes that are one: what is written to one is in the other.
        (
            &[
                EDIT,
                "UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema
                 WHERE name = 'sqlite_autoindex_items_1') WHERE name = 'sightings_by_item'",
            ],
            "",
        ),
        (&[EDIT, "UPDATE sqlite_schema SET sql = 'CREATE nonsense' WHERE name = 'items'"], ""),
        (&[EDIT, "UPDATE sqlite_schema SET rootpage = 99999 WHERE name = 'items'"], ""),
        (&["PRAGMA foreign_keys = OFF", "DELETE FROM items"], "rows belong to rows"),
        (&["UPDATE _sqlx_migrations SET checksum = x'00' WHERE version = 8"], "its migrations"),
        (&["UPDATE _sqlx_migrations SET version = 9999 WHERE version = 8"], "later version"),
    ];
    let workspace = Workspace::with_one_policy();
    workspace.upload("page.png", png(&page(1)));
    workspace.scan().expect_code(1);
    let before = workspace.verdicts();
    let good = workspace.outside().join("good.db");
    workspace.run(&["backup", "outside/good.db"]).expect_code(0);
    for (statements, words) in cases {
        let copy = workspace.outside().join("changed.db");
        fs::copy(&good, &copy).expect("copied");
        change(&copy, statements).await;
        let ran = workspace.run(&["restore-backup", "outside/changed.db"]).expect_code(2);
        assert!(ran.err().contains("changed.db"), "{statements:?}: {}", ran.err());
        assert!(ran.err().contains(words), "{statements:?}: {}", ran.err());
        assert_eq!(workspace.verdicts(), before, "{statements:?}");
        assert!(kept(&workspace).is_empty(), "{statements:?}");
        let left = stray_files(&workspace.path());
        assert!(!left.iter().any(|path| path.to_string_lossy().contains("restoring")), "{left:?}");
    }
    // What SQLite keeps for its planner is nobody's.
    let copy = workspace.outside().join("changed.db");
    fs::copy(&good, &copy).expect("copied");
    change(&copy, &["ANALYZE"]).await;
    workspace.run(&["restore-backup", "outside/changed.db"]).expect_code(0);
    assert_eq!(workspace.verdicts(), before);
}

#[tokio::test]
async fn a_database_that_could_not_be_taken_back_is_told_when_it_is_backed_up() {
    let workspace = Workspace::with_one_policy();
    workspace.upload("page.png", png(&page(1)));
    workspace.scan().expect_code(1);
    let database = workspace.path().join("modtool.db");
    change(&database, &["CREATE INDEX mine ON items (bytes)"]).await;
    fs::create_dir_all(workspace.outside()).expect("made");
    let ran = workspace.run(&["backup", "outside/copy.db"]).expect_code(2);
    assert!(ran.err().contains("modtool makes no index `mine`"), "{}", ran.err());
    change(&database, &["DROP INDEX mine"]).await;
    workspace.run(&["backup", "outside/copy.db"]).expect_code(0);
}

#[test]
fn what_somebody_put_in_the_way_is_left_alone() {
    let workspace = Workspace::with_one_policy();
    workspace.upload("page.png", png(&page(1)));
    workspace.scan().expect_code(1);
    let before = workspace.verdicts();
    fs::create_dir_all(workspace.outside()).expect("made");
    workspace.run(&["backup", "outside/copy.db"]).expect_code(0);
    // By another name, as backups often have one for the latest.
    std::os::unix::fs::symlink("copy.db", workspace.outside().join("latest.db")).expect("linked");
    let precious = workspace.outside().join("precious");
    fs::write(&precious, b"precious").expect("written");
    let planted = workspace.path().join("modtool.db.restoring");
    std::os::unix::fs::symlink(&precious, &planted).expect("linked");
    workspace.run(&["restore-backup", "outside/latest.db"]).expect_code(0);
    assert_eq!(fs::read(&precious).expect("there"), b"precious");
    assert!(fs::symlink_metadata(&planted).expect("there").is_symlink());
    assert_eq!(workspace.verdicts(), before);
    let database = fs::symlink_metadata(workspace.path().join("modtool.db")).expect("there");
    assert!(database.is_file() && database.permissions().mode() & 0o777 == 0o600);
}

#[test]
fn searches_after_a_restore_find_what_is_there_now() {
    let workspace = Workspace::with_one_policy();
    for seed in 0..4 {
        workspace.upload(format!("{seed}.png"), png(&noise(seed)));
    }
    workspace.scan().expect_code(0);
    fs::create_dir_all(workspace.outside()).expect("made");
    workspace.run(&["backup", "outside/copy.db"]).expect_code(0);
    // As many again, whose vectors are numbered on.
    for seed in 4..8 {
        workspace.upload(format!("{seed}.png"), png(&noise(seed)));
    }
    workspace.scan().expect_code(0);
    let found = || {
        let ran = workspace.run(&["search", "noise", "--top", "50", "--format", "json"]);
        let rows = ran.expect_code(0).json_lines();
        let path = |row: &serde_json::Value| row["path"].as_str().map(ToOwned::to_owned);
        rows.iter().filter_map(path).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(found().len(), 8);
    workspace.run(&["restore-backup", "outside/copy.db"]).expect_code(0);
    // Others take the numbers of those that are gone.
    for seed in 4..8 {
        fs::remove_file(workspace.uploads().join(format!("{seed}.png"))).expect("removed");
        workspace.upload(format!("new-{seed}.png"), png(&noise(seed + 10)));
    }
    workspace.scan().expect_code(0);
    // Found by what they look like: the vectors of those that are gone would be near others.
    let row = |seed: u64| {
        let path = workspace.uploads().join(format!("new-{seed}.png"));
        let like = path.to_str().expect("a test's own name");
        let ran = workspace.run(&["search", "--like", like, "--top", "1", "--format", "json"]);
        ran.expect_code(0).json_lines().remove(0)["path"].clone()
    };
    assert_eq!(found().len(), 8);
    for seed in 4..8 {
        let path = row(seed);
        assert!(path.as_str().is_some_and(|path| path.ends_with(&format!("new-{seed}.png"))));
    }
}
