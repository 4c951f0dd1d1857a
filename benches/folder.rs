//! `modtool search --dir` over a folder with a million pictures: how long the vectors take, from
//! the page cache and from the disk, how long a restriction by path takes in the store, and how
//! long the whole command takes. `cargo bench --bench folder`; `MODTOOL_BENCH_ITEMS` for another
//! number.
//!
//! The files are there (67 bytes each) and the index says that each was looked at, with a vector of
//! the built-in model's width: a thousand different ones, over and over. Vectors and head are
//! written by the real writer; only the model's work, hours of it, is left out.

#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use modtool::moderation::{Embedding, ItemFilter};
use modtool::search::{VectorFile, VectorRow};
use modtool::store::Store;
use modtool::vision::ModelCard;
use modtool::vision::model::builtin;
use rustix::fs::{Advice, fadvise};
use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

/// The smallest picture: one pixel.
const PIXEL: &[u8] = include_bytes!("../tests/data/pixel.png");
/// Different vectors.
const DIFFERENT: usize = 1000;
const ASKED: usize = 20;
const PROMISED: Duration = Duration::from_millis(400);

#[tokio::main]
async fn main() {
    // `cargo test --benches` only wants to know that it builds.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let items = std::env::var("MODTOOL_BENCH_ITEMS").ok().and_then(|text| text.parse().ok());
    let items: u64 = items.unwrap_or(1_000_000);
    let dir = tempfile::tempdir().expect("a temporary folder");
    let pictures = dir.path().join("pictures");
    let index = dir.path().join("pictures.modtool-index");
    let card = builtin().expect("the built-in model").card;
    let start = Instant::now();
    let files = write_pictures(&pictures, items);
    say("files and folders were made", start.elapsed(), None);
    let start = Instant::now();
    let vectors = vectors(card.embedding_dim);
    fill(&index, &card, &files, &vectors).await;
    let file = write_vectors(&index, &card, items, &vectors);
    say("the index was made", start.elapsed(), None);
    println!("{:<46} {:>9} MiB", "vectors", file.path().metadata().expect("there").len() >> 20);
    ask(&file, &vectors[7]);
    restrict(&index, items).await;
    command(&pictures, dir.path());
}

/// What was measured, and what was promised.
fn say(what: &str, took: Duration, promised: Option<Duration>) {
    let took = took.as_secs_f64() * 1000.0;
    let promised = promised.map(|promised| {
        let promised = promised.as_secs_f64() * 1000.0;
        format!(" of {promised:.0} ms: ratio {:.2}", took / promised)
    });
    println!("{what:<46} {took:>9.1} ms{}", promised.unwrap_or_default());
}

/// A thousand a folder, and what the scan will see of each.
fn write_pictures(folder: &Path, items: u64) -> Vec<(PathBuf, [i64; 4])> {
    let mut files = Vec::new();
    for number in 0..items {
        let folder = folder.join(format!("{:04}", number / 1000));
        if number % 1000 == 0 {
            std::fs::create_dir_all(&folder).expect("made");
        }
        let path = folder.join(format!("IMG_{number:07}.png"));
        std::fs::write(&path, PIXEL).expect("written");
        let meta = std::fs::metadata(&path).expect("there");
        let ns = |seconds: i64, ns: i64| seconds * 1_000_000_000 + ns;
        let changed = ns(meta.ctime(), meta.ctime_nsec());
        let stat = [
            meta.size().cast_signed(),
            ns(meta.mtime(), meta.mtime_nsec()),
            changed,
            meta.ino().cast_signed(),
        ];
        files.push((path, stat));
    }
    files
}

fn vectors(width: usize) -> Vec<Embedding> {
    let mut state = 1_u32;
    let mut random = || {
        // xorshift32 (Marsaglia 2003).
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        f32::from(i16::try_from(state % 20_001).expect("small")) - 10_000.0
    };
    let mut vector =
        || Embedding::normalised((0..width).map(|_| random()).collect()).expect("has a direction");
    (0..DIFFERENT).map(|_| vector()).collect()
}

/// Straight into the tables: a million pictures through the model would take hours.
async fn fill(
    index: &Path,
    card: &ModelCard,
    files: &[(PathBuf, [i64; 4])],
    vectors: &[Embedding],
) {
    std::fs::create_dir_all(index).expect("made");
    let database = index.join("modtool.db");
    Store::open(&database).await.expect("opens").close().await;
    let options = SqliteConnectOptions::new().filename(&database).pragma("synchronous", "OFF");
    let pool = SqlitePool::connect_with(options).await.expect("opens");
    let run = async |statement: &'static str, rows: &Value| {
        let ran = sqlx::query(statement).bind(rows.to_string()).execute(&pool).await;
        ran.unwrap_or_else(|error| panic!("{error}: {statement}"));
    };
    let model = json!([card.fingerprint.0, card.name]);
    run("INSERT INTO models (id, fingerprint, name) VALUES (1, ?1 ->> 0, ?1 ->> 1)", &model).await;
    let numbered: Vec<_> = (1_i64..).zip(files).collect();
    for page in numbered.chunks(10_000) {
        let row = |(number, (path, stat)): &(i64, &(PathBuf, [i64; 4]))| {
            json!([number, path.to_str().expect("plain"), stat[0], stat[1], stat[2], stat[3]])
        };
        let rows: Value = page.iter().map(row).collect();
        run(
            "INSERT INTO items (id, hash, bytes, format, width, height, frames, first_seen)
             SELECT value ->> 0, randomblob(32), 67, 'png', 1, 1, 1, 1 FROM json_each(?)",
            &rows,
        )
        .await;
        run(
            "INSERT INTO sightings (id, item, path, root, size, mtime_ns, ctime_ns, inode, outcome,
                                    model, policy_set, first_seen, judged_at)
             SELECT value ->> 0, value ->> 0, CAST(value ->> 1 AS BLOB), x'2f', value ->> 2,
                    value ->> 3, value ->> 4, value ->> 5, 'allow', 1, x'01', 1, 1
             FROM json_each(?)",
            &rows,
        )
        .await;
    }
    run("CREATE TABLE bench (number INTEGER PRIMARY KEY, vector TEXT)", &Value::Null).await;
    let hex = |embedding: &Embedding| {
        embedding
            .to_f16_bytes()
            .iter()
            .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
    };
    let rows: Value = vectors.iter().map(hex).collect();
    run("INSERT INTO bench SELECT key, value FROM json_each(?)", &rows).await;
    run(
        "INSERT INTO embeddings (item, model, view, vector)
         SELECT i.id, 1, 0, unhex(b.vector) FROM items AS i
         JOIN bench AS b ON b.number = (i.id - 1) % (SELECT count(*) FROM bench) ORDER BY i.id",
        &Value::Null,
    )
    .await;
    run("DROP TABLE bench", &Value::Null).await;
    run("ANALYZE", &Value::Null).await;
    pool.close().await;
}

fn write_vectors(index: &Path, card: &ModelCard, items: u64, vectors: &[Embedding]) -> VectorFile {
    let file = VectorFile::new(&index.join("vectors"), &card.fingerprint, card.embedding_dim);
    let mut appending = file.append().expect("opens");
    let numbers: Vec<i64> = (1..=items.cast_signed()).collect();
    for page in numbers.chunks(vectors.len()) {
        let row = |(number, embedding): (&i64, &Embedding)| VectorRow {
            number: *number,
            item: *number,
            embedding: embedding.clone(),
        };
        let rows: Vec<VectorRow> = page.iter().zip(vectors).map(row).collect();
        appending.add(&rows).expect("is written");
    }
    drop(appending);
    file
}

/// The middle one of several searches from the page cache, and of several from the disk.
fn ask(file: &VectorFile, query: &Embedding) {
    let opened = File::open(file.path()).expect("opens");
    opened.sync_all().expect("on the disk");
    for (what, cold) in
        [("search, vectors in the page cache", false), ("search, from the disk", true)]
    {
        let once = || {
            if cold {
                fadvise(&opened, 0, None, Advice::DontNeed).expect("dropped");
            }
            let start = Instant::now();
            let found = file.nearest(query, ASKED, |_| true).expect("reads");
            assert_eq!(found.found.len(), ASKED);
            start.elapsed()
        };
        let mut times: Vec<Duration> = (0..7).map(|_| once()).collect();
        times.sort();
        say(what, times[3], Some(PROMISED));
    }
}

async fn restrict(index: &Path, items: u64) {
    let store = Store::open(&index.join("modtool.db")).await.expect("opens");
    let rare = format!("/{:04}/", items / 2000);
    for (what, path) in [
        ("restriction by a text in paths, one in 1,000", rare.as_str()),
        ("restriction by a text in all paths", "img_"),
        ("restriction by a pattern, one in 10", "*7.png"),
    ] {
        let filter = ItemFilter { path: Some(path.to_owned()), ..ItemFilter::default() };
        let mut best = Duration::MAX;
        for _ in 0..3 {
            let start = Instant::now();
            let set = store.items_where(&filter).await.expect("read");
            best = best.min(start.elapsed());
            assert!((1..=items.cast_signed()).any(|number| set.contains(number)), "{path}");
        }
        say(what, best, None);
    }
    store.close().await;
}

/// With the look at every file that comes before: what came, changed and went since.
fn command(pictures: &Path, data: &Path) {
    for what in ["the whole command, the first time", "the whole command again"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_modtool"));
        command.args(["search", "a red square", "--format", "json", "--top", "20", "--dir"]);
        command.arg(pictures).env("MODTOOL_DATA_DIR", data).current_dir(data);
        let start = Instant::now();
        let output = command.output().expect("starts");
        let lines = String::from_utf8_lossy(&output.stdout).lines().count();
        assert!(
            output.status.success() && lines == 20,
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        say(what, start.elapsed(), None);
    }
}
