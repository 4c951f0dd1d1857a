//! `policy diff` over a long past: a million stored items, ten policies of eight prompts, beside
//! the time that reading the vectors alone takes. `HISTORY_ITEMS` makes it shorter.
#![expect(clippy::print_stdout, reason = "it is run by hand")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use half::f16;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool};

/// Components of the built-in model's vectors.
const DIM: usize = 256;

fn main() {
    if std::env::args().any(|argument| argument == "--list" || argument == "--test") {
        return;
    }
    let items: u64 =
        std::env::var("HISTORY_ITEMS").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let dir = tempfile::tempdir().expect("a temporary folder");
    let [old, new] = [("old", 0.9), ("new", 0.8)].map(|(name, review)| {
        let folder = dir.path().join(name);
        write_policies(&folder, review);
        folder
    });
    let workspace = dir.path().join("workspace");
    std::fs::create_dir_all(workspace.join("policies")).expect("made");
    // Makes the database, with the model in it, and embeds the prompts.
    let uploads = dir.path().join("uploads");
    std::fs::create_dir(&uploads).expect("made");
    copy_policies(&new, &workspace.join("policies"));
    modtool(&workspace, &["scan", uploads.to_str().expect("UTF-8")]);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let filling = Instant::now();
    runtime.block_on(fill(&workspace.join("modtool.db"), items));
    println!("{items} items written in {:.1} s", filling.elapsed().as_secs_f64());

    let reading = Instant::now();
    let read = runtime.block_on(read(&workspace.join("modtool.db")));
    let reading = reading.elapsed();
    println!("reading {read} vectors and doing nothing: {:.2} s", reading.as_secs_f64());

    let paths = [old.to_str().expect("UTF-8"), new.to_str().expect("UTF-8")];
    for name in ["diff", "backtest"] {
        let mut arguments = vec!["policy", name];
        if name == "diff" {
            arguments.extend(paths);
        }
        let took = modtool(&workspace, &arguments);
        println!(
            "policy {name}: {:.2} s, {:.1} times the reading",
            took.as_secs_f64(),
            took.as_secs_f64() / reading.as_secs_f64()
        );
    }
}

/// Ten policies of eight prompts, contrast prompts included; the workspace's neutral prompts come
/// on top.
fn write_policies(folder: &Path, review: f32) {
    std::fs::create_dir(folder).expect("made");
    let things = ["gun", "cat", "car", "tree", "book", "boat", "pill", "coin", "fire", "cake"];
    for (number, thing) in things.iter().enumerate() {
        let prompts: Vec<_> =
            ["red", "green", "small", "large"].map(|how| format!("a {how} {thing}")).into();
        let contrast: Vec<_> =
            ["drawn", "broken", "wooden", "blurry"].map(|how| format!("a {how} {thing}")).into();
        let text = format!(
            "id: policy-{number}\nprompts: [{}]\ncontrast: [{}]\n\
             thresholds: {{review: {review}, block: 0.99}}\n",
            prompts.join(", "),
            contrast.join(", ")
        );
        std::fs::write(folder.join(format!("{number}.yaml")), text).expect("written");
    }
}

fn copy_policies(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("a folder") {
        let path: PathBuf = entry.expect("an entry").path();
        std::fs::copy(&path, to.join(path.file_name().expect("a name"))).expect("copied");
    }
}

/// How long a command took, which must end well.
fn modtool(workspace: &Path, arguments: &[&str]) -> Duration {
    let start = Instant::now();
    let status = Command::new(env!("CARGO_BIN_EXE_modtool"))
        .args(["--workspace", workspace.to_str().expect("UTF-8"), "--quiet"])
        .args(arguments)
        .status()
        .expect("the binary starts");
    assert!(status.success(), "{arguments:?} ended with {status}");
    start.elapsed()
}

/// Random vectors around ten centres, so that scores differ.
async fn fill(database: &Path, items: u64) {
    let options =
        SqliteConnectOptions::new().filename(database).journal_mode(SqliteJournalMode::Wal);
    let pool = SqlitePool::connect_with(options).await.expect("a database");
    let mut transaction = pool.begin().await.expect("begins");
    sqlx::query(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
         INSERT INTO items (id, hash, bytes, format, width, height, frames, first_seen)
         SELECT i, randomblob(32), 1000, 'jpeg', 640, 480, 1, i FROM n",
    )
    .bind(items.cast_signed())
    .execute(&mut *transaction)
    .await
    .expect("items");
    sqlx::query(
        "INSERT INTO sightings (item, path, root, size, mtime_ns, ctime_ns, inode, outcome, model,
                                policy_set, first_seen, judged_at)
         SELECT id, CAST('/uploads/' || id || '.jpg' AS BLOB), CAST('/uploads' AS BLOB), 1000, 0, 0,
                id, 'allow', 1, x'00', id, id FROM items",
    )
    .execute(&mut *transaction)
    .await
    .expect("sightings");
    let mut dice = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        f32::from(u16::try_from(dice >> 48).expect("16 bits")) / 65_536.0 - 0.5
    };
    let centres: Vec<Vec<f32>> = (0..10).map(|_| (0..DIM).map(|_| next()).collect()).collect();
    for item in 1..=items {
        let centre = &centres[usize::try_from(item % 10).expect("small")];
        let vector: Vec<f32> = centre.iter().map(|x| x + next()).collect();
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        let bytes: Vec<u8> =
            vector.iter().flat_map(|x| f16::from_f32(x / length).to_le_bytes()).collect();
        sqlx::query("INSERT INTO embeddings (item, model, view, vector) VALUES (?, 1, 0, ?)")
            .bind(item.cast_signed())
            .bind(bytes)
            .execute(&mut *transaction)
            .await
            .expect("a vector");
    }
    transaction.commit().await.expect("commits");
    pool.close().await;
}

async fn read(database: &Path) -> usize {
    let store = modtool::store::Store::open(database).await.expect("opens");
    let print = modtool::vision::model::builtin().expect("the model").card.fingerprint;
    let (mut after, mut count) = (0, 0);
    loop {
        let wanted = modtool::store::Wanted::Vectors;
        let block = store.history(&print, after, wanted, 4096).await.expect("read");
        let Some(last) = block.items.last() else { return count };
        after = last.number;
        count += block.items.len();
    }
}
