//! Verbs by which allowed files are compared with what was judged.

use std::path::Path;

use serde_json::Value;
use sqlx::Row as _;

use crate::moderation::{ItemId, Sighting, Timestamp};

use super::rows::{RowError, item_of, path_bytes, path_of};
use super::{Store, StoreError, hex};

impl Store {
    /// The items that lie at these paths, in the order asked for; `None` where nothing does.
    pub async fn items_at(&self, paths: &[&Path]) -> Result<Vec<Option<ItemId>>, StoreError> {
        let read = async {
            let asked: Value =
                paths.iter().map(|path| Value::from(hex(path_bytes(path)))).collect();
            let rows = sqlx::query(
                "SELECT k.key AS place, i.hash FROM json_each(?) AS k
                 CROSS JOIN sightings AS s ON s.path = unhex(k.value) AND s.gone_at IS NULL
                 CROSS JOIN items AS i ON i.id = s.item",
            )
            .bind(asked.to_string())
            .fetch_all(&self.readers)
            .await?;
            let mut items = vec![None; paths.len()];
            for row in &rows {
                let place: i64 = row.try_get("place")?;
                let place = usize::try_from(place).ok().and_then(|place| items.get_mut(place));
                if let Some(item) = place {
                    *item = Some(item_of(row.try_get("hash")?)?);
                }
            }
            Ok::<_, RowError>(items)
        };
        read.await.map_err(|error| self.failed(error))
    }

    /// How many files are allowed.
    pub async fn count_allowed(&self) -> Result<u64, StoreError> {
        let count = sqlx::query(
            "SELECT count(*) FROM sightings WHERE gone_at IS NULL AND outcome = 'allow'",
        );
        let row = count.fetch_one(&self.readers).await.map_err(|source| self.sql(source))?;
        let count: i64 = row.try_get(0).map_err(|source| self.sql(source))?;
        Ok(count.unsigned_abs())
    }

    /// Files that are there, after the given number (0 for the first page), with their numbers.
    pub async fn sightings_here(
        &self,
        after: i64,
        most: u32,
    ) -> Result<Vec<(i64, Sighting)>, StoreError> {
        let read = async {
            let rows = sqlx::query(
                "SELECT id, path, root FROM sightings WHERE gone_at IS NULL AND id > ?
                 ORDER BY id LIMIT ?",
            )
            .bind(after)
            .bind(most)
            .fetch_all(&self.readers)
            .await?;
            let sighting = |row: &sqlx::sqlite::SqliteRow| {
                let (path, root) = (path_of(row.try_get("path")?), path_of(row.try_get("root")?));
                Ok((row.try_get("id")?, Sighting { path, root }))
            };
            rows.iter().map(sighting).collect::<Result<Vec<_>, RowError>>()
        };
        read.await.map_err(|error| self.failed(error))
    }

    /// Allowed files whose bytes were not compared since that time, those first that were not
    /// looked at for longest.
    pub async fn checked_before(
        &self,
        time: Timestamp,
        most: u32,
    ) -> Result<Vec<(i64, Sighting, ItemId)>, StoreError> {
        let read = async {
            let rows = sqlx::query(
                "SELECT s.id, s.path, s.root, i.hash FROM sightings AS s
                 JOIN items AS i ON i.id = s.item
                 WHERE s.gone_at IS NULL AND s.outcome = 'allow'
                   AND coalesce(s.checked_at, s.judged_at) < ?
                 ORDER BY coalesce(s.checked_at, s.judged_at) LIMIT ?",
            )
            .bind(time.0)
            .bind(most)
            .fetch_all(&self.readers)
            .await?;
            rows.iter()
                .map(|row| {
                    let (path, root) =
                        (path_of(row.try_get("path")?), path_of(row.try_get("root")?));
                    let item = item_of(row.try_get("hash")?)?;
                    Ok((row.try_get("id")?, Sighting { path, root }, item))
                })
                .collect::<Result<Vec<_>, RowError>>()
        };
        read.await.map_err(|error| self.failed(error))
    }

    /// Remembers when these files, by their numbers, were looked at.
    pub async fn record_checked(&self, checked: &[i64], at: Timestamp) -> Result<(), StoreError> {
        let numbers: Value = checked.iter().copied().map(Value::from).collect();
        sqlx::query(
            "UPDATE sightings SET checked_at = ?1 WHERE id IN (SELECT value FROM json_each(?2))",
        )
        .bind(at.0)
        .bind(numbers.to_string())
        .execute(&self.writer)
        .await
        .map_err(|source| self.sql(source))?;
        Ok(())
    }
}
