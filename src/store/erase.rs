//! Erasing an item: everything personal about it goes, a tombstone stays, and the audit chain
//! still verifies.

use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _, Row as _, Sqlite, Transaction};

use crate::moderation::{
    AuditEvent, AuditKind, ItemId, ReviewState, Reviewer, Sighting, TaskId, Timestamp,
};

use super::queue::set_state;
use super::rows::{RowError, item_of, path_bytes, path_of};
use super::{Store, StoreError, append_audit, bank};

/// An item and what erasing it would take away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erasable {
    /// The item.
    pub item: ItemId,
    /// Its number, which the tombstone keeps.
    pub number: i64,
    /// How many bytes it has.
    pub bytes: u64,
    /// Where its bytes lie, as far as is known.
    pub sightings: Vec<Sighting>,
    /// Where they lay before or were to be put back, and may lie again.
    pub earlier: Vec<Sighting>,
    /// Whether bytes lie in the quarantine.
    pub quarantined: bool,
    /// Decisions about it.
    pub decisions: u64,
}

/// What was erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Erased {
    /// Vectors.
    pub embeddings: u64,
    /// Paths, now and earlier.
    pub names: u64,
    /// Notes of reviewers.
    pub notes: u64,
    /// Audit events whose detail was erased.
    pub events: u64,
}

impl Store {
    /// The items that a text names: a hash, its beginning (at least 8 digits), or a path where
    /// the item lies or lay.
    pub async fn find_items(
        &self,
        text: &str,
        path: &std::path::Path,
    ) -> Result<Vec<ItemId>, StoreError> {
        let digits = text.len() >= 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let read = async {
            let rows = sqlx::query(
                "SELECT DISTINCT i.hash FROM items AS i
                 LEFT JOIN sightings AS s ON s.item = i.id
                 WHERE (?1 AND lower(hex(i.hash)) LIKE ?2 || '%') OR s.path = ?3
                 ORDER BY i.hash LIMIT 10",
            )
            .bind(digits)
            .bind(text.to_lowercase())
            .bind(path_bytes(path))
            .fetch_all(&self.readers)
            .await?;
            rows.iter().map(|row| Ok(item_of(row.try_get(0)?)?)).collect::<Result<_, RowError>>()
        };
        read.await.map_err(|error| self.failed(error))
    }

    /// What erasing an item would take away; `None` when it is not known.
    pub async fn erasable(&self, item: ItemId) -> Result<Option<Erasable>, StoreError> {
        let read = async {
            let mut reader = self.readers.acquire().await?;
            let row = sqlx::query(
                "SELECT i.id, i.bytes, (SELECT count(*) FROM decisions AS d WHERE d.item = i.id) AS decisions,
                        EXISTS (SELECT 1 FROM placements AS p
                                WHERE p.item = i.id AND p.state = 'quarantined') AS quarantined
                 FROM items AS i WHERE i.hash = ?",
            )
            .bind(item.as_bytes().as_slice())
            .fetch_optional(&mut *reader)
            .await?;
            let Some(row) = row else { return Ok(None) };
            let number: i64 = row.try_get("id")?;
            let rows = sqlx::query(
                "SELECT path, root, max(here) AS here FROM (
                     SELECT path, root, gone_at IS NULL AS here FROM sightings WHERE item = ?1
                     UNION ALL SELECT path, root, 0 FROM placements WHERE item = ?1)
                 GROUP BY path ORDER BY path",
            )
            .bind(number)
            .fetch_all(&mut *reader)
            .await?;
            let (mut sightings, mut earlier) = (Vec::new(), Vec::new());
            for row in &rows {
                let (path, root) = (row.try_get("path")?, row.try_get("root")?);
                let sighting = Sighting { path: path_of(path), root: path_of(root) };
                if row.try_get("here")? { sightings.push(sighting) } else { earlier.push(sighting) }
            }
            Ok(Some(Erasable {
                item,
                number,
                bytes: row.try_get::<i64, _>("bytes")?.unsigned_abs(),
                sightings,
                earlier,
                quarantined: row.try_get("quarantined")?,
                decisions: row.try_get::<i64, _>("decisions")?.unsigned_abs(),
            }))
        };
        read.await.map_err(|error: RowError| self.failed(error))
    }

    /// Erases all that is personal about an item, in one transaction: vectors, scores, names,
    /// notes, the hash itself, and the details of its audit events. The numbers of rows stay, so
    /// that counts and the chain stay right. Files are the caller's business, and must be gone
    /// before; [`Store::overwrite_remains`] comes after.
    pub async fn erase(
        &self,
        item: ItemId,
        by: &Reviewer,
        at: Timestamp,
    ) -> Result<Option<Erased>, StoreError> {
        let mut transaction = self.begin().await?;
        let erased = erase(&mut transaction, item, by, at).await;
        let erased = erased.map_err(|error| self.failed(error))?;
        self.commit(transaction).await?;
        Ok(erased)
    }

    /// Builds the database file anew from what is in force, so that nothing that was deleted can
    /// be read in it or in its journal. Overwriting what one transaction deletes (`PRAGMA
    /// secure_delete`) is not enough: earlier changes left copies in unused parts of pages.
    ///
    /// Takes the longer the larger the database is, and room for two copies of it; others can
    /// read meanwhile, and wait with their writing.
    ///
    /// # Errors
    /// [`StoreError::Sql`] when the file can't be built anew (the disk is full),
    /// [`StoreError::HeldOpen`] when somebody reads an older state for longer than `patience`,
    /// and so keeps the journal from being emptied.
    pub async fn overwrite_remains(&self, patience: Duration) -> Result<(), StoreError> {
        let overwrite = async {
            let options = SqliteConnectOptions::new().filename(&self.path).busy_timeout(patience);
            let mut connection = options.connect().await?;
            sqlx::query("VACUUM").execute(&mut connection).await?;
            let emptied = empty_journal(&mut connection, patience).await?;
            connection.close().await?;
            Ok(emptied)
        };
        if overwrite.await.map_err(|source| self.sql(source))? {
            Ok(())
        } else {
            Err(StoreError::HeldOpen { path: self.path.clone() })
        }
    }
}

/// Folds the journal into the file and cuts it to nothing; `false` when somebody was in the way
/// all the time. SQLite itself waits for readers, but not for another one that folds.
async fn empty_journal(
    connection: &mut SqliteConnection,
    patience: Duration,
) -> Result<bool, sqlx::Error> {
    let start = Instant::now();
    loop {
        let row =
            sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut *connection).await?;
        if row.try_get::<i64, _>("busy")? == 0 {
            return Ok(true);
        }
        if start.elapsed() >= patience {
            return Ok(false);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn erase(
    transaction: &mut Transaction<'static, Sqlite>,
    item: ItemId,
    by: &Reviewer,
    at: Timestamp,
) -> Result<Option<Erased>, RowError> {
    let row = sqlx::query("SELECT id FROM items WHERE hash = ?")
        .bind(item.as_bytes().as_slice())
        .fetch_optional(&mut **transaction)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let number: i64 = row.try_get("id")?;
    let tasks = sqlx::query("SELECT id FROM tasks WHERE item = ? AND state <> 'closed'")
        .bind(number)
        .fetch_all(&mut **transaction)
        .await?;
    for task in tasks {
        let task = TaskId(task.try_get("id")?);
        set_state(transaction, task, ReviewState::Closed, at).await?;
    }
    bank::forget(transaction, number).await?;
    let mut run = async |statement: &'static str| {
        let done = sqlx::query(statement).bind(number).execute(&mut **transaction).await?;
        Ok::<_, sqlx::Error>(done.rows_affected())
    };
    let embeddings = run("DELETE FROM embeddings WHERE item = ?").await?;
    run("DELETE FROM unjudged_folders WHERE item = (SELECT hash FROM items WHERE id = ?)").await?;
    run("DELETE FROM verdicts WHERE item = ?").await?;
    run("DELETE FROM moves WHERE placement IN (SELECT id FROM placements WHERE item = ?)").await?;
    run("DELETE FROM placements WHERE item = ?").await?;
    run("DELETE FROM perceptual_hashes WHERE item = ?").await?;
    run("DELETE FROM hash_words WHERE item = ?").await?;
    let notes = run("UPDATE decisions SET note = NULL WHERE item = ? AND note IS NOT NULL").await?;
    run("UPDATE tasks SET score = 0 WHERE item = ?").await?;
    // Random names, so that nothing can be guessed from them, and no two are alike.
    let names =
        run("UPDATE sightings SET path = randomblob(16), root = x'', size = 0, mtime_ns = 0,
             ctime_ns = 0, inode = 0, gone_at = coalesce(gone_at, judged_at) WHERE item = ?")
        .await?;
    run("UPDATE items SET hash = randomblob(32), bytes = 0, format = NULL, width = NULL,
             height = NULL, frames = NULL, reason = 'erased' WHERE id = ?")
    .await?;

    // Every event that names the item; details of the first version stand in the chain itself.
    let events =
        sqlx::query("DELETE FROM audit_details WHERE instr(detail, ?) > 0 RETURNING sequence")
            .bind(item.to_string())
            .fetch_all(&mut **transaction)
            .await?;
    let mut events: Vec<i64> = events.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    events.sort_unstable();
    let event = AuditEvent {
        at,
        kind: AuditKind::Erased,
        actor: by.as_str().to_owned(),
        detail: json!({"tombstone": number, "events": events}).to_string(),
    };
    append_audit(transaction, &[event]).await?;
    Ok(Some(Erased { embeddings, names, notes, events: events.len() as u64 }))
}
