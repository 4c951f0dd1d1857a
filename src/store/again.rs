//! Verbs for a change of the model: what another one judged.

use std::path::PathBuf;

use serde_json::{Value, json};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::moderation::{Fingerprint, Sighting};

use super::rows::{path_bytes, path_of};
use super::{Store, StoreError, hex};

/// Sightings that hold their path, below one of the roots (`?2`), judged by another model.
const JUDGED_OTHERWISE: &str = "FROM sightings WHERE gone_at IS NULL
    AND model IS NOT (SELECT id FROM models WHERE fingerprint = ?1)
    AND root IN (SELECT unhex(value) FROM json_each(?2))";

impl Store {
    /// How many sightings below these roots another model than the named one judged last.
    pub async fn count_judged_otherwise(
        &self,
        fingerprint: &Fingerprint,
        roots: &[PathBuf],
    ) -> Result<u64, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!("SELECT count(*) {JUDGED_OTHERWISE}"));
        let row = sqlx::query(sql)
            .bind(&fingerprint.0)
            .bind(listed(roots))
            .fetch_one(&self.readers)
            .await;
        let count: i64 = row.and_then(|row| row.try_get(0)).map_err(|source| self.sql(source))?;
        Ok(count.unsigned_abs())
    }

    /// The same sightings, newest first, with the numbers by which pages are asked for: those
    /// below `before` (`i64::MAX` for the first page).
    pub async fn judged_otherwise(
        &self,
        fingerprint: &Fingerprint,
        roots: &[PathBuf],
        before: i64,
        limit: u32,
    ) -> Result<Vec<(i64, Sighting)>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT id, path, root {JUDGED_OTHERWISE} AND id < ?3 ORDER BY id DESC LIMIT ?4"
        ));
        let rows = sqlx::query(sql)
            .bind(&fingerprint.0)
            .bind(listed(roots))
            .bind(before)
            .bind(limit)
            .fetch_all(&self.readers)
            .await
            .map_err(|source| self.sql(source))?;
        let sighting = |row: &SqliteRow| {
            let (path, root) = (path_of(row.try_get("path")?), path_of(row.try_get("root")?));
            Ok((row.try_get("id")?, Sighting { path, root }))
        };
        let sightings: Result<_, sqlx::Error> = rows.iter().map(sighting).collect();
        sightings.map_err(|source| self.sql(source))
    }
}

/// Paths are bytes, which JSON has no word for.
fn listed(roots: &[PathBuf]) -> String {
    roots.iter().map(|root| json!(hex(path_bytes(root)))).collect::<Value>().to_string()
}
