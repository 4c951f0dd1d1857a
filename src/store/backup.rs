//! A consistent copy of the database while others write to it, and taking one back.

use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _, Row as _};

use super::{MIGRATIONS, Store, StoreError};

/// What a copy holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyFacts {
    /// Pictures by content.
    pub items: u64,
    /// Paths at which they were seen.
    pub sightings: u64,
    /// What people decided.
    pub decisions: u64,
    /// Events of the audit log.
    pub audit_events: u64,
}

impl Store {
    /// Writes a copy of everything that was committed when this began into `to`, an empty file
    /// (so that its mode is the caller's choice). Others read and write meanwhile. The copy is
    /// one file without journals.
    pub async fn back_up(&self, to: &str) -> Result<(), StoreError> {
        // A connection of its own: this may take a while, and no verb should wait for it.
        let mut connection = SqliteConnectOptions::new()
            .filename(&self.path)
            .busy_timeout(Duration::from_secs(30))
            .connect()
            .await
            .map_err(|source| self.sql(source))?;
        let written = sqlx::query("VACUUM INTO ?").bind(to).execute(&mut connection).await;
        // The answer of the copying counts, not that of the hanging up.
        let _ = connection.close().await;
        written.map(|_| ()).map_err(|source| self.sql(source))
    }
}

/// Checks a copy from its first page to its last, without changing it.
///
/// # Errors
/// [`StoreError::Damaged`] when it is no whole database of this tool, [`StoreError::Newer`] when
/// a later version wrote it.
pub async fn check_copy(path: &Path) -> Result<CopyFacts, StoreError> {
    let damaged = |words: String| StoreError::Damaged { path: path.to_owned(), words };
    let read = async {
        // Immutable: no journal is looked for and no lock file is made beside it.
        let mut connection = SqliteConnectOptions::new()
            .filename(path)
            .read_only(true)
            .immutable(true)
            .connect()
            .await?;
        let words: Vec<String> =
            sqlx::query_scalar("PRAGMA integrity_check(3)").fetch_all(&mut connection).await?;
        let orphans = sqlx::query("PRAGMA foreign_key_check").fetch_all(&mut connection).await?;
        let newest: Option<i64> = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations")
            .fetch_one(&mut connection)
            .await?;
        let facts = facts(&mut connection).await?;
        // Nothing was written.
        let _ = connection.close().await;
        Ok::<_, sqlx::Error>((words, orphans.len(), newest, facts))
    };
    let (words, orphans, newest, facts) = read.await.map_err(|error| damaged(error.to_string()))?;
    if words != ["ok"] {
        return Err(damaged(words.join("; ")));
    }
    if orphans > 0 {
        return Err(damaged(format!("{orphans} rows belong to rows that are missing")));
    }
    let known = MIGRATIONS.iter().map(|(version, ..)| *version).max();
    if newest > known {
        return Err(StoreError::Newer { path: path.to_owned() });
    }
    Ok(facts)
}

async fn facts(connection: &mut SqliteConnection) -> Result<CopyFacts, sqlx::Error> {
    let row = sqlx::query(
        "SELECT (SELECT count(*) FROM items), (SELECT count(*) FROM sightings),
                (SELECT count(*) FROM decisions), (SELECT count(*) FROM audit_events)",
    )
    .fetch_one(connection)
    .await?;
    let count = |column: usize| row.try_get::<i64, _>(column).map(i64::unsigned_abs);
    Ok(CopyFacts {
        items: count(0)?,
        sightings: count(1)?,
        decisions: count(2)?,
        audit_events: count(3)?,
    })
}

/// Folds a database's journal into its file, which only works while nobody else has it open.
/// A database that is damaged is left as it is.
///
/// # Errors
/// [`StoreError::InUse`] when somebody has it open.
pub async fn fold(path: &Path) -> Result<(), StoreError> {
    let fold = async {
        let mut connection = SqliteConnectOptions::new()
            .filename(path)
            .busy_timeout(Duration::from_secs(2))
            .connect()
            .await?;
        let mode: String =
            sqlx::query_scalar("PRAGMA journal_mode = DELETE").fetch_one(&mut connection).await?;
        connection.close().await?;
        Ok::<_, sqlx::Error>(mode)
    };
    let in_use = || StoreError::InUse { path: path.to_owned() };
    match fold.await {
        Ok(mode) if mode == "delete" => Ok(()),
        Ok(_) => Err(in_use()),
        Err(error) if is_busy(&error) => Err(in_use()),
        Err(_) => Ok(()),
    }
}

/// `SQLITE_BUSY` (5) and `SQLITE_LOCKED` (6), in the low byte of every extended code.
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code()?.parse::<u32>().ok());
    matches!(code.map(|code| code & 0xff), Some(5 | 6))
}
