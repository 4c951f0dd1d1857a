//! Verbs about removals under way: what an interrupted one left is known by device and number,
//! never by a name.

use std::path::{Path, PathBuf};

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::moderation::{ItemId, Timestamp};

use super::rows::{RowError, path_bytes, path_of};
use super::{Store, StoreError};

/// A file that is being removed, and where it stands meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// The placement that it is removed for.
    pub placement: i64,
    /// Absolute path where it stands meanwhile.
    pub path: PathBuf,
    /// The file system's number.
    pub device: u64,
    /// The file's number on it.
    pub inode: u64,
}

impl Store {
    /// Writes down that a file is about to leave its path; at most one a placement, the latest.
    pub async fn begin_move(&self, begun: &Move, at: Timestamp) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT OR REPLACE INTO moves (placement, path, device, inode, begun_at)
             VALUES (?, ?, ?, ?, ?)",
        )
        .bind(begun.placement)
        .bind(path_bytes(&begun.path))
        .bind(begun.device.cast_signed())
        .bind(begun.inode.cast_signed())
        .bind(at.0)
        .execute(&self.writer)
        .await
        .map_err(|source| self.sql(source))?;
        Ok(())
    }

    /// The file of this placement is where it was, or gone for good.
    pub async fn end_move(&self, placement: i64) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM moves WHERE placement = ?")
            .bind(placement)
            .execute(&self.writer)
            .await
            .map_err(|source| self.sql(source))?;
        Ok(())
    }

    /// What was begun for this placement and not ended.
    pub async fn unfinished_move(&self, placement: i64) -> Result<Option<Move>, StoreError> {
        let row = sqlx::query("SELECT * FROM moves WHERE placement = ?")
            .bind(placement)
            .fetch_optional(&self.readers)
            .await;
        let read = row.and_then(|row| row.as_ref().map(move_of).transpose());
        read.map_err(|source| self.sql(source))
    }

    /// What was begun for any path of this item and not ended.
    pub async fn unfinished_moves_of(&self, item: ItemId) -> Result<Vec<Move>, StoreError> {
        let rows = sqlx::query(
            "SELECT m.* FROM moves AS m JOIN placements AS p ON p.id = m.placement
             JOIN items AS i ON i.id = p.item WHERE i.hash = ? ORDER BY m.placement",
        )
        .bind(item.as_bytes().as_slice())
        .fetch_all(&self.readers)
        .await;
        let read = rows.and_then(|rows| rows.iter().map(move_of).collect());
        read.map_err(|source| self.sql(source))
    }

    /// Whether this very file, at this path, is one that is being removed, and still holds the
    /// bytes that it is removed for.
    pub async fn is_being_moved(
        &self,
        path: &Path,
        device: u64,
        inode: u64,
        item: ItemId,
    ) -> Result<bool, StoreError> {
        let row = sqlx::query(
            "SELECT 1 FROM moves AS m JOIN placements AS p ON p.id = m.placement
             JOIN items AS i ON i.id = p.item
             WHERE m.path = ? AND m.device = ? AND m.inode = ? AND i.hash = ?",
        )
        .bind(path_bytes(path))
        .bind(device.cast_signed())
        .bind(inode.cast_signed())
        .bind(item.as_bytes().as_slice())
        .fetch_optional(&self.readers)
        .await
        .map_err(|source| self.sql(source))?;
        Ok(row.is_some())
    }

    /// Whether another path needs the bytes of this item that lie in the quarantine: they lie there
    /// for it, or an interrupted removal may have taken them from it. To be asked
    /// under the lock of whoever moves files, right before a copy is deleted.
    pub async fn is_needed_by_others(
        &self,
        item: ItemId,
        placement: i64,
    ) -> Result<bool, StoreError> {
        let read = async {
            let row = sqlx::query(
                "SELECT EXISTS (SELECT 1 FROM placements AS p JOIN items AS i ON i.id = p.item
                 WHERE i.hash = ? AND p.id <> ? AND (p.state = 'quarantined'
                     OR EXISTS (SELECT 1 FROM moves AS m WHERE m.placement = p.id)))",
            )
            .bind(item.as_bytes().as_slice())
            .bind(placement)
            .fetch_one(&self.readers)
            .await?;
            Ok(row.try_get(0)?)
        };
        read.await.map_err(|error: RowError| self.failed(error))
    }
}

fn move_of(row: &SqliteRow) -> Result<Move, sqlx::Error> {
    Ok(Move {
        placement: row.try_get("placement")?,
        path: path_of(row.try_get("path")?),
        device: row.try_get::<i64, _>("device")?.cast_unsigned(),
        inode: row.try_get::<i64, _>("inode")?.cast_unsigned(),
    })
}
