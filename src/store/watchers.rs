//! Verbs by which running watchers tell other processes how they do.

use std::path::PathBuf;

use serde_json::Value;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::moderation::Timestamp;

use super::rows::{path_bytes, path_of};
use super::{Store, StoreError, hex};

/// How one watcher does, as of its last beat.
#[derive(Debug, Clone, PartialEq)]
pub struct WatcherBeat {
    /// The watched folder.
    pub root: PathBuf,
    /// The process.
    pub pid: u32,
    /// When it started.
    pub started_at: Timestamp,
    /// When it last said so.
    pub beat_at: Timestamp,
    /// When it ended cleanly; none while it runs, or when it was killed.
    pub stopped_at: Option<Timestamp>,
    /// Engine and version.
    pub engine: String,
    /// The model's name.
    pub model: String,
    /// Files judged since it started.
    pub judged: u64,
    /// Files judged a second, lately.
    pub rate: f64,
    /// Files seen and not judged yet.
    pub waiting: u64,
    /// Age of the oldest of them, in milliseconds.
    pub lag_ms: u64,
    /// Files that are no pictures, at the last full scan.
    pub skipped: u64,
    /// Pictures judged by another model, still to be judged by this one.
    pub again: u64,
    /// The files that have waited longest, and since when; only such as wait for too long.
    pub stuck: Vec<(PathBuf, Timestamp)>,
    /// The last thing that went wrong, and when.
    pub last_error: Option<(String, Timestamp)>,
}

impl Store {
    /// Replaces what is known of the watcher of `beat.root`.
    pub async fn record_beat(&self, beat: &WatcherBeat) -> Result<(), StoreError> {
        let error = beat.last_error.as_ref();
        sqlx::query(
            "INSERT OR REPLACE INTO watchers (root, pid, started_at, beat_at, stopped_at, engine,
                 model, judged, rate, waiting, lag_ms, skipped, again, stuck, last_error, error_at)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(path_bytes(&beat.root))
        .bind(beat.pid)
        .bind(beat.started_at.0)
        .bind(beat.beat_at.0)
        .bind(beat.stopped_at.map(|at| at.0))
        .bind(&beat.engine)
        .bind(&beat.model)
        .bind(beat.judged.cast_signed())
        .bind(beat.rate)
        .bind(beat.waiting.cast_signed())
        .bind(beat.lag_ms.cast_signed())
        .bind(beat.skipped.cast_signed())
        .bind(beat.again.cast_signed())
        .bind(stuck_json(&beat.stuck))
        .bind(error.map(|(text, _)| text))
        .bind(error.map(|(_, at)| at.0))
        .execute(&self.writer)
        .await
        .map_err(|source| self.sql(source))?;
        Ok(())
    }

    /// All watchers that ever beat, by folder.
    pub async fn watcher_beats(&self) -> Result<Vec<WatcherBeat>, StoreError> {
        let rows = sqlx::query("SELECT * FROM watchers ORDER BY root")
            .fetch_all(&self.readers)
            .await
            .map_err(|source| self.sql(source))?;
        rows.iter().map(beat_of).collect::<Result<_, _>>().map_err(|source| self.sql(source))
    }
}

fn stuck_json(stuck: &[(PathBuf, Timestamp)]) -> String {
    let row = |(path, since): &(PathBuf, Timestamp)| {
        Value::from(vec![Value::from(hex(path_bytes(path))), Value::from(since.0)])
    };
    stuck.iter().map(row).collect::<Value>().to_string()
}

/// What does not read as it was written is left out: it is only for people to look at.
fn stuck_of(text: &str) -> Vec<(PathBuf, Timestamp)> {
    let rows: Vec<(String, i64)> = serde_json::from_str(text).unwrap_or_default();
    let row = |(digits, since): (String, i64)| Some((path_of(unhex(&digits)?), Timestamp(since)));
    rows.into_iter().filter_map(row).collect()
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    if rest.is_empty() { pairs.iter().map(byte).collect() } else { None }
}

fn beat_of(row: &SqliteRow) -> Result<WatcherBeat, sqlx::Error> {
    let count = |column: &str| row.try_get::<i64, _>(column).map(i64::unsigned_abs);
    let error: Option<String> = row.try_get("last_error")?;
    let error_at: Option<i64> = row.try_get("error_at")?;
    Ok(WatcherBeat {
        root: path_of(row.try_get("root")?),
        pid: row.try_get("pid")?,
        started_at: Timestamp(row.try_get("started_at")?),
        beat_at: Timestamp(row.try_get("beat_at")?),
        stopped_at: row.try_get::<Option<i64>, _>("stopped_at")?.map(Timestamp),
        engine: row.try_get("engine")?,
        model: row.try_get("model")?,
        judged: count("judged")?,
        rate: row.try_get("rate")?,
        waiting: count("waiting")?,
        lag_ms: count("lag_ms")?,
        skipped: count("skipped")?,
        again: count("again")?,
        stuck: stuck_of(row.try_get("stuck")?),
        last_error: error.zip(error_at.map(Timestamp)),
    })
}
