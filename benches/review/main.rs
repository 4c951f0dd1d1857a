//! `modtool review` with a million items and 50,000 open tasks, in a real pseudo-terminal, beside
//! what was promised. `cargo bench --bench review`; `MODTOOL_BENCH_ITEMS` for another number.
//!
//! Measured: from the start to the first frame with a row in it, from a key to the frame that
//! shows it, a page of the queue, a filter by text and by policy, processor time while nothing
//! happens, memory before the first search, and a search over all vectors.

#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use std::io::{Read as _, Write as _};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use modtool::moderation::{Embedding, Fingerprint, QueueFilter, QueueOrder, Timestamp};
use modtool::search::{VectorFile, VectorRow};
use modtool::store::Store;
use portable_pty::{CommandBuilder, PtySize, native_pty_system};
use sqlx::AssertSqlSafe;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

/// Components of a vector of the search.
const WIDTH: usize = 512;
/// Keys whose frames are waited for.
const KEYS: usize = 200;

#[tokio::main]
async fn main() {
    // `cargo test --benches` only wants to know that it builds.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let items = std::env::var("MODTOOL_BENCH_ITEMS").ok().and_then(|text| text.parse().ok());
    let items: u64 = items.unwrap_or(1_000_000);
    let tasks = items / 20;
    let dir = tempfile::tempdir().expect("a temporary folder");
    let workspace = dir.path().join("workspace");
    std::fs::create_dir_all(&workspace).expect("made");
    let database = workspace.join("modtool.db");
    let start = Instant::now();
    fill(&database, items, tasks).await;
    say("the store was filled", start.elapsed(), None);
    pages(&database).await;
    dashboard(&workspace, dir.path());
    search(dir.path(), items);
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

/// Straight into the tables: a million verdicts through the front door would take minutes.
async fn fill(database: &Path, items: u64, tasks: u64) {
    Store::open(database).await.expect("opens").close().await;
    let options = SqliteConnectOptions::new().filename(database).pragma("synchronous", "OFF");
    let pool = SqlitePool::connect_with(options).await.expect("opens");
    let numbers = format!(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {items})"
    );
    let now = 1_790_000_000_000_u64;
    for statement in [
        "INSERT INTO models (id, fingerprint, name) VALUES (1, 'f', 'bench')".to_owned(),
        "INSERT INTO policy_versions (id, hash, policy, severity, mode)
         VALUES (1, randomblob(32), 'weapons', 2, 'live'), (2, randomblob(32), 'memes', 0, 'live')"
            .to_owned(),
        "INSERT INTO policy_sets (hash, policy_version, position) VALUES (x'01', 1, 0), (x'01', 2, 1)"
            .to_owned(),
        format!(
            "{numbers} INSERT INTO items (id, hash, bytes, format, width, height, frames, first_seen)
             SELECT i, randomblob(32), 100000, 'jpeg', 800, 600, 1, {now} - i FROM n"
        ),
        format!(
            "{numbers} INSERT INTO sightings (id, item, path, root, size, mtime_ns, ctime_ns, inode,
                 outcome, model, policy_set, first_seen, judged_at)
             SELECT i, i, CAST('/srv/uploads/' || (i % 1000) || '/' || i || '.jpg' AS BLOB),
                 x'2f', 100000, i, i, i, iif(i <= {tasks}, 'review', 'allow'), 1, x'01', {now}, {now}
             FROM n"
        ),
        format!(
            "{numbers} INSERT INTO verdicts (item, policy_version, model, score, outcome, prompt)
             SELECT i, 1, 1, iif(i <= {tasks}, 0.5 + (i % 5000) / 10000.0, (i % 500) / 1000.0),
                 iif(i <= {tasks}, 'review', 'allow'), 'a handgun' FROM n"
        ),
        format!(
            "INSERT INTO tasks (id, item, sighting, policy, severity, score, outcome, state, opened_at)
             SELECT item, item, item, 'weapons', 2 - item % 3, score, 'review', 'open', {now} - item
             FROM verdicts WHERE item <= {tasks}"
        ),
        "INSERT INTO task_policies (task, policy) SELECT id, iif(id % 1000 = 0, 'memes', 'weapons') FROM tasks"
            .to_owned(),
        "INSERT INTO score_bins (policy_version, model, bin, items)
         SELECT policy_version, model, CAST(score * 1000 AS INTEGER), count(*)
         FROM verdicts GROUP BY 1, 2, 3"
            .to_owned(),
        "ANALYZE".to_owned(),
    ] {
        let ran = sqlx::query(AssertSqlSafe(statement.as_str())).execute(&pool).await;
        ran.unwrap_or_else(|error| panic!("{error}: {statement}"));
    }
    pool.close().await;
}

async fn pages(database: &Path) {
    let store = Store::open(database).await.expect("opens");
    let promised = Some(Duration::from_millis(50));
    let plain = QueueFilter::default();
    let mut after = None;
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        let start = Instant::now();
        let page = store.queue(&plain, after, 200).await.expect("a page");
        slowest = slowest.max(start.elapsed());
        after = page.last().map(modtool::moderation::QueueCursor::of);
    }
    say("page of 200 tasks, the slowest of 20", slowest, promised);
    for (what, filter) in [
        ("page of the newest", QueueFilter { order: QueueOrder::Newest, ..plain.clone() }),
        (
            "page of a policy that flagged one in 1,000",
            QueueFilter {
                policy: modtool::moderation::PolicyId::new("memes").ok(),
                ..plain.clone()
            },
        ),
        (
            "page of paths with a rare text",
            QueueFilter { text: Some("/77/40077.jpg".into()), ..plain.clone() },
        ),
    ] {
        let start = Instant::now();
        store.queue(&filter, None, 200).await.expect("a page");
        say(what, start.elapsed(), promised);
    }
    let start = Instant::now();
    store.queue_counts(Timestamp(0)).await.expect("counted");
    say("the counts of the first line", start.elapsed(), promised);
    store.close().await;
}

fn dashboard(workspace: &Path, data: &Path) {
    let size = PtySize { rows: 40, cols: 120, pixel_width: 0, pixel_height: 0 };
    let pair = native_pty_system().openpty(size).expect("a pseudo-terminal");
    let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_modtool"));
    command.args(["review", "--reviewer", "bench", "--no-pictures", "--workspace"]);
    command.arg(workspace);
    command.env("MODTOOL_DATA_DIR", data);
    command.env("TERM", "xterm-256color");
    let mut reader = pair.master.try_clone_reader().expect("readable");
    let mut keyboard = pair.master.take_writer().expect("writable");
    let (rows, columns) = (NonZero::new(40).expect("40"), NonZero::new(120).expect("120"));
    let screen = Arc::new(Mutex::new(vt100::Parser::new(rows, columns, 0)));
    let shown = Arc::clone(&screen);
    let start = Instant::now();
    let mut child = pair.slave.spawn_command(command).expect("the binary starts");
    let pid = child.process_id().expect("a pid");
    std::thread::spawn(move || {
        let mut bytes = vec![0; 65_536];
        while let Ok(length @ 1..) = reader.read(&mut bytes) {
            shown.lock().expect("not poisoned").process(&bytes[..length]);
        }
    });
    let wait = |text: &str| {
        let begun = Instant::now();
        loop {
            let contents = screen.lock().expect("not poisoned").screen().contents();
            if contents.contains(text) {
                return;
            }
            assert!(
                begun.elapsed() < Duration::from_mins(1),
                "{text} does not appear:\n{contents}"
            );
            std::thread::sleep(Duration::from_micros(200));
        }
    };
    wait("1 of ");
    say("start to the first frame with a row", start.elapsed(), Some(Duration::from_millis(300)));
    // Let the rest arrive, so that keys are measured and not the start.
    std::thread::sleep(Duration::from_secs(2));
    let mut times: Vec<Duration> = (2..KEYS + 2)
        .map(|row| {
            let pressed = Instant::now();
            keyboard.write_all(b"j").expect("takes keys");
            keyboard.flush().expect("takes keys");
            wait(&format!(" {row} of "));
            pressed.elapsed()
        })
        .collect();
    times.sort();
    let promised = Some(Duration::from_millis(16));
    say("key to frame, half of them", times[times.len() / 2], promised);
    say("key to frame, 99 of 100", times[times.len() * 99 / 100], promised);
    std::thread::sleep(Duration::from_secs(3));
    let before = processor_ticks(pid);
    std::thread::sleep(Duration::from_secs(10));
    let ticks = processor_ticks(pid) - before;
    println!("{:<46} {ticks:>9} ticks of 1,000 in 10 s", "processor time while nothing happens");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("readable");
    let memory =
        status.lines().filter(|line| line.starts_with("VmHWM") || line.starts_with("VmRSS"));
    for line in memory {
        println!("{:<46} {line} (promised: 150 MiB)", "memory");
    }
    keyboard.write_all(b"q").expect("takes keys");
    keyboard.flush().expect("takes keys");
    child.wait().expect("ends");
}

/// User and system time, in hundredths of a second.
fn processor_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("readable");
    let after_name = stat.rsplit(") ").next().expect("fields");
    let fields: Vec<&str> = after_name.split(' ').collect();
    [fields[11], fields[12]].iter().map(|field| field.parse::<u64>().expect("a number")).sum()
}

fn search(folder: &Path, items: u64) {
    let file = VectorFile::new(&PathBuf::from(folder), &Fingerprint("b".repeat(64)), WIDTH);
    let mut state = 1_u32;
    let mut random = || {
        // xorshift32 (Marsaglia 2003).
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        f32::from(i16::try_from(state % 20_001).expect("small")) - 10_000.0
    };
    let mut vector =
        || Embedding::normalised((0..WIDTH).map(|_| random()).collect()).expect("has a direction");
    let query = vector();
    let some: Vec<Embedding> = (0..1000).map(|_| vector()).collect();
    let mut appending = file.append().expect("opens");
    let mut numbers = 1..=i64::try_from(items).expect("fits");
    loop {
        let rows: Vec<VectorRow> = numbers
            .by_ref()
            .zip(&some)
            .map(|(number, embedding)| VectorRow {
                number,
                item: number,
                embedding: embedding.clone(),
            })
            .collect();
        if rows.is_empty() {
            break;
        }
        appending.add(&rows).expect("is written");
    }
    drop(appending);
    let mut best = Duration::MAX;
    for _ in 0..3 {
        let start = Instant::now();
        let found = file.nearest(&query, 200, |_| true).expect("reads");
        best = best.min(start.elapsed());
        assert_eq!(found.found.len(), 200);
    }
    say("search over all vectors, the best of 3", best, Some(Duration::from_millis(400)));
}
