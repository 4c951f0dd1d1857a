//! The store: items, sightings, embeddings, verdicts, tasks, decisions and the audit log in SQLite.
//!
//! A verb of [`Store`] is one transaction. There is one writing connection, which begins with
//! `BEGIN IMMEDIATE` so that two processes queue instead of failing, and a few reading ones, which
//! hold no transaction between calls. What a verb acknowledged survives power loss
//! (WAL with `synchronous=FULL`).

mod again;
mod arming;
mod audit;
mod backup;
mod bank;
mod checks;
mod decided;
mod desk;
mod erase;
mod export;
mod failpoint;
mod find;
mod folders;
mod groups;
mod history;
mod hooks;
mod ingest;
mod moves;
mod placements;
mod queue;
mod rescore;
mod retention;
mod rows;
mod schema;
mod stats;
mod vectors;
mod watchers;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Connection as _, Row as _, SqlSafeStr as _, Sqlite, Transaction};

use crate::moderation::{AuditEvent, ChainHash};
use failpoint::Edge;

pub use crate::moderation::FileStat;
pub use arming::ArmingState;
pub use audit::{AdapterStep, AuditRow, Chain, ChainBreak};
pub use backup::{CopyFacts, check_copy, fold};
pub use bank::{
    Added, BankCounts, BankEntry, BankFilter, BankSelection, Looked, NewEntry, Touched,
};
pub use decided::DecidedItem;
pub use erase::{Erasable, Erased};
pub use export::{ExportedEmbedding, ExportedVerdict};
pub use folders::UnjudgedFolder;
pub use history::{HistoryBlock, HistoryItem, Wanted};
pub use hooks::{Delivery, HookCounts, Subscription};
pub use ingest::{Judged, JudgedBy, KnownItem, PictureFacts, Recorded, Standing};
pub use moves::Move;
pub use placements::{Place, Placement, Quarantined};
pub use rescore::{Rejudge, Seen};
pub use retention::{Cutoffs, Expired};
pub use vectors::StoredVector;
pub use watchers::WatcherBeat;

/// Below this, two connections that checkpoint at once can corrupt a WAL database
/// (<https://sqlite.org/releaselog/3_51_3.html>).
const OLDEST_SAFE_SQLITE: [u32; 3] = [3, 51, 3];

/// Forward only; the first line of each says why.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "first tables", include_str!("../migrations/sqlite/0001_first_tables.sql")),
    (3, "perceptual hashes", include_str!("../migrations/sqlite/0003_perceptual_hashes.sql")),
    (6, "review", include_str!("../migrations/sqlite/0006_review.sql")),
    (7, "judging again", include_str!("../migrations/sqlite/0007_judging_again.sql")),
    (8, "actions", include_str!("../migrations/sqlite/0008_actions.sql")),
    (9, "signals", include_str!("../migrations/sqlite/0009_signals.sql")),
    (10, "filters", include_str!("../migrations/sqlite/0010_filters.sql")),
    (11, "bank", include_str!("../migrations/sqlite/0011_bank.sql")),
    (14, "adapters", include_str!("../migrations/sqlite/0014_adapters.sql")),
    (15, "searches", include_str!("../migrations/sqlite/0015_searches.sql")),
    (16, "hooks by sequence", include_str!("../migrations/sqlite/0016_hooks_by_sequence.sql")),
    (17, "moves", include_str!("../migrations/sqlite/0017_moves.sql")),
    (18, "fairness", include_str!("../migrations/sqlite/0018_fairness.sql")),
    (19, "doubts", include_str!("../migrations/sqlite/0019_doubts.sql")),
    (20, "unjudged folders", include_str!("../migrations/sqlite/0020_unjudged_folders.sql")),
];

/// A handle to one workspace's database; cheap to share by reference, safe in several processes.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    writer: SqlitePool,
    readers: SqlitePool,
    /// Hashes of policy sets that are known to be in the database.
    known_sets: Mutex<HashSet<[u8; 32]>>,
    /// The bank as of the last verdicts that were written.
    bank: tokio::sync::Mutex<bank::KnownBank>,
    /// Set once, after opening.
    settings: OnceLock<StoreSettings>,
}

/// What a workspace's settings say about what verdicts and decisions do.
#[derive(Debug, Clone, PartialEq)]
pub struct StoreSettings {
    /// Milliseconds between a decision and its effect on files.
    pub grace_ms: i64,
    /// Automatic holds in 24 hours, at most.
    pub daily_hold_cap: u64,
    /// The chance with which an unflagged item is sent to a person, 0..=1.
    pub audit_rate: f64,
    /// An entry of the bank that matches more uploads than this in an hour is put on hold.
    pub bank_flood: u64,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self { grace_ms: 30_000, daily_hold_cap: 200, audit_rate: 0.0, bank_flood: 100 }
    }
}

/// What can go wrong in the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database file can't be created or opened.
    #[error("can't open the database {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The tables can't be brought up to date.
    #[error("can't bring the database {} up to date", path.display())]
    Migrate {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: sqlx::migrate::MigrateError,
    },
    /// The linked SQLite is one that can corrupt the database.
    #[error(
        "this build links SQLite {version}, which can corrupt a database; 3.51.3 or later is needed"
    )]
    OldSqlite {
        /// What is linked.
        version: String,
    },
    /// SQLite refused a statement.
    #[error("the database {} failed", path.display())]
    Sql {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// A copy that is not whole, or no database of this tool.
    #[error("{} is no good copy: {words}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        words: String,
    },
    /// A copy that a later version of the tool wrote.
    #[error("{} was written by a later version of modtool; update this one first", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
    },
    /// Somebody has the database open.
    #[error("another modtool has {} open (a dashboard?); end it first", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// Somebody reads an older state of the database, which its journal has to keep meanwhile.
    #[error("{} is being read in an older state (by a long export?)", path.display())]
    HeldOpen {
        /// The file.
        path: PathBuf,
    },
    /// A row holds what no version of the tool writes.
    #[error("the database holds a {what} that can't be read: {value:?}")]
    Row {
        /// Which kind of value.
        what: &'static str,
        /// The value.
        value: String,
    },
}

impl Store {
    /// Opens the database, creating the file (mode 0600) and its tables where they are missing.
    ///
    /// # Errors
    /// [`StoreError`] when the file can't be opened, is no database, was written by a newer
    /// version, or when the linked SQLite is unsafe.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        create_private(path)
            .map_err(|source| StoreError::Open { path: path.to_owned(), source })?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(30))
            .pragma("mmap_size", "0")
            .pragma("journal_size_limit", (64 << 20).to_string())
            .pragma("trusted_schema", "OFF");
        let sql = |source| StoreError::Sql { path: path.to_owned(), source };
        // A file does not go away as a server does: asking the connection before each use would
        // only double the waits.
        let pool = || {
            SqlitePoolOptions::new()
                .max_connections(1)
                // A commit that fails (the disk is full) can leave a transaction open that nothing
                // ends any more: every verb after it would fail. Such a connection is given up.
                .after_release(|connection, _| {
                    Box::pin(async move {
                        // Rolling back is under way; the answer comes after it.
                        connection.ping().await?;
                        Ok(!connection.is_in_transaction())
                    })
                })
                .test_before_acquire(false)
                .connect_with(options.clone())
        };
        // Of many that make the same database, the slower ones find it locked for a moment; SQLite's
        // busy timeout does not cover the change to WAL.
        let mut attempts = 0;
        let writer = loop {
            match pool().await {
                Err(failed) if attempts < 50 && backup::is_busy(&failed) => {
                    attempts += 1;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                opened => break opened.map_err(sql)?,
            }
        };
        let version = linked_sqlite(&writer).await.map_err(sql)?;
        if !is_safe_sqlite(&version) {
            return Err(StoreError::OldSqlite { version });
        }
        migrate(&writer, path).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(4)
            .test_before_acquire(false)
            .connect_lazy_with(options.pragma("query_only", "ON"));
        Ok(Self {
            path: path.to_owned(),
            writer,
            readers,
            known_sets: Mutex::default(),
            bank: tokio::sync::Mutex::default(),
            settings: OnceLock::new(),
        })
    }

    /// Finishes what is under way and closes the connections, which folds the WAL into the file.
    pub async fn close(self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    /// Says what holds in this workspace; the defaults hold until then. Only the first call
    /// counts.
    #[must_use]
    pub fn with_settings(self, settings: StoreSettings) -> Self {
        self.settings.get_or_init(|| settings);
        self
    }

    fn settings(&self) -> &StoreSettings {
        self.settings.get_or_init(StoreSettings::default)
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The version of the linked SQLite.
    pub async fn sqlite_version(&self) -> Result<String, StoreError> {
        linked_sqlite(&self.readers).await.map_err(|source| self.sql(source))
    }

    /// Grows with every change that anyone makes, in this process or another; one index look-up.
    /// It says that something changed, not where in the audit log: see [`Store::last_audit_event`].
    pub async fn change_counter(&self) -> Result<u64, StoreError> {
        // Leases leave no audit events, but others want to see them.
        let row = sqlx::query(
            "SELECT (SELECT coalesce(max(sequence), 0) FROM audit_events)
                  + coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'leases'), 0)",
        )
        .fetch_one(&self.readers)
        .await;
        let sequence: i64 =
            row.and_then(|row| row.try_get(0)).map_err(|source| self.sql(source))?;
        Ok(sequence.unsigned_abs())
    }

    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(|source| self.sql(source))
    }

    async fn commit(&self, transaction: Transaction<'static, Sqlite>) -> Result<(), StoreError> {
        failpoint::pass(Edge::Before);
        transaction.commit().await.map_err(|source| self.sql(source))?;
        failpoint::pass(Edge::After);
        Ok(())
    }

    fn sql(&self, source: sqlx::Error) -> StoreError {
        StoreError::Sql { path: self.path.clone(), source }
    }
}

/// Appends events to the audit log, sealing each with the hash of all before it. Must run inside
/// the transaction that writes the facts themselves.
async fn append_audit(
    transaction: &mut Transaction<'static, Sqlite>,
    events: &[AuditEvent],
) -> Result<(), sqlx::Error> {
    let last = sqlx::query(
        "SELECT hash FROM audit_events
         WHERE sequence = (SELECT max(sequence) FROM audit_events)",
    )
    .fetch_optional(&mut **transaction)
    .await?;
    let mut hash = match last {
        Some(row) => {
            let bytes: Vec<u8> = row.try_get(0)?;
            ChainHash(bytes.try_into().map_err(|_torn| {
                sqlx::Error::Decode("the last audit hash is not 32 bytes".into())
            })?)
        }
        None => ChainHash::GENESIS,
    };
    if events.is_empty() {
        return Ok(());
    }
    let next =
        sqlx::query("SELECT coalesce(max(sequence), 0) + 1, randomblob(32) FROM audit_events")
            .fetch_one(&mut **transaction)
            .await?;
    let (first, seed): (i64, Vec<u8>) = (next.try_get(0)?, next.try_get(1)?);
    let mut rows = Vec::with_capacity(events.len());
    for (sequence, event) in (first..).zip(events) {
        // Only a commitment goes into the chain, so that the detail can be erased later; the salt
        // keeps anyone from guessing an erased detail.
        let salt = salt(&seed, sequence);
        let sealed = json!({"sealed": hex(&commitment(&salt, &event.detail))}).to_string();
        let AuditEvent { at, kind, actor, detail } = event;
        hash = AuditEvent { detail: sealed.clone(), ..event.clone() }.seal(hash);
        let hash = hex(&hash.0);
        rows.push(json!([sequence, at.0, kind.as_str(), actor, sealed, hash, hex(&salt), detail]));
    }
    let rows = Value::Array(rows).to_string();
    sqlx::query(
        "INSERT INTO audit_events (sequence, at, kind, actor, detail, hash)
         SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, unhex(value ->> 5)
         FROM json_each(?) ORDER BY key",
    )
    .bind(&rows)
    .execute(&mut **transaction)
    .await?;
    sqlx::query(
        "INSERT INTO audit_details (sequence, salt, detail)
         SELECT value ->> 0, unhex(value ->> 6), value ->> 7 FROM json_each(?) ORDER BY key",
    )
    .bind(&rows)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// 16 bytes for each event, from the random seed of its transaction.
fn salt(seed: &[u8], sequence: i64) -> [u8; 16] {
    let digest: [u8; 32] =
        Sha256::new().chain_update(seed).chain_update(sequence.to_le_bytes()).finalize().into();
    let mut salt = [0; 16];
    salt.copy_from_slice(&digest[..16]);
    salt
}

/// What the chain holds of an event's detail: `SHA-256(salt ‖ detail)`.
fn commitment(salt: &[u8], detail: &str) -> [u8; 32] {
    Sha256::new().chain_update(salt).chain_update(detail).finalize().into()
}

/// Bytes as hexadecimal digits, which SQLite's `unhex` reads.
fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Creates the file before SQLite does, so that only its owner can read it; the WAL and its
/// index inherit the mode.
fn create_private(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

async fn linked_sqlite(pool: &SqlitePool) -> Result<String, sqlx::Error> {
    sqlx::query("SELECT sqlite_version()").fetch_one(pool).await?.try_get(0)
}

fn is_safe_sqlite(version: &str) -> bool {
    let parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    parts.collect::<Vec<_>>().as_slice() >= OLDEST_SAFE_SQLITE.as_slice()
}

/// Our migrations, in order.
fn migrator() -> Migrator {
    let migrations = MIGRATIONS.iter().map(|(version, description, sql)| {
        Migration::new(
            *version,
            (*description).into(),
            MigrationType::Simple,
            sql.into_sql_str(),
            false,
        )
    });
    Migrator::with_migrations(migrations.collect())
}

/// Two processes that start at once both see the missing tables; the slower one then finds them
/// made, and trying again shows that nothing is left to do.
async fn migrate(writer: &SqlitePool, path: &Path) -> Result<(), StoreError> {
    let migrator = migrator();
    let mut attempts = 0;
    loop {
        match migrator.run(writer).await {
            Ok(()) => return Ok(()),
            Err(source) if attempts == 5 => {
                return Err(StoreError::Migrate { path: path.to_owned(), source });
            }
            Err(_) => {
                attempts += 1;
                tokio::time::sleep(Duration::from_millis(100 * attempts)).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corrupting_versions_of_sqlite_are_refused() {
        assert!(is_safe_sqlite("3.51.3") && is_safe_sqlite("3.60.0") && is_safe_sqlite("4.0"));
        assert!(!is_safe_sqlite("3.51.2") && !is_safe_sqlite("3.46.0") && !is_safe_sqlite("?"));
    }
}
