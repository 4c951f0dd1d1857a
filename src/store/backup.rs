//! A consistent copy of the database while others write to it, and taking one back.

use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _, Row as _};

use super::schema::{Shape, shape_of};
use super::{Store, StoreError};

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

/// Checks a copy from its first page to its last, without changing it: also that it has exactly the
/// tables, indexes, triggers and views of the version that it names. `named` is what people call it
/// when it lies under another name for the time being.
///
/// # Errors
/// [`StoreError::Damaged`] when it is no whole database of this tool or has anything foreign,
/// [`StoreError::Newer`] when a later version wrote it.
pub async fn check_copy(path: &Path, named: &Path) -> Result<CopyFacts, StoreError> {
    let damaged = |words: String| StoreError::Damaged { path: named.to_owned(), words };
    // Immutable: no journal is looked for and no lock file is made beside it. What its schema says
    // runs nothing but what is harmless.
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .immutable(true)
        .pragma("trusted_schema", "OFF")
        .pragma("cell_size_check", "ON");
    let read = async {
        let mut connection = options.connect().await?;
        let shape = shape_of(&mut connection).await?;
        if shape != Shape::Ours {
            return Ok((shape, Vec::new(), 0, None));
        }
        let words: Vec<String> =
            sqlx::query_scalar("PRAGMA integrity_check(3)").fetch_all(&mut connection).await?;
        let orphans = sqlx::query("PRAGMA foreign_key_check").fetch_all(&mut connection).await?;
        let facts = facts(&mut connection).await?;
        // Nothing was written.
        let _ = connection.close().await;
        Ok::<_, sqlx::Error>((shape, words, orphans.len(), Some(facts)))
    };
    let (shape, words, orphans, facts) = read.await.map_err(|error| damaged(error.to_string()))?;
    match shape {
        Shape::Ours => {}
        Shape::Newer => return Err(StoreError::Newer { path: named.to_owned() }),
        Shape::Foreign(words) => return Err(damaged(words)),
    }
    if words != ["ok"] {
        return Err(damaged(words.join("; ")));
    }
    if orphans > 0 {
        return Err(damaged(format!("{orphans} rows belong to rows that are missing")));
    }
    facts.ok_or_else(|| damaged("it was not read".to_owned()))
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
