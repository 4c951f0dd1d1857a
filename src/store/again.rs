//! Verbs for a change of the model or of a recipe: what was judged with another one.

use std::path::PathBuf;

use serde_json::{Value, json};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, Sqlite, Transaction};

use crate::moderation::{JudgedWith, Recipe, Sighting};

use super::rows::{path_bytes, path_of};
use super::{Store, StoreError, hex};

/// Sightings that hold their path, below one of the roots (`?2`), judged by another model than `?1`
/// or by none of the recipes `?3`.
const JUDGED_OTHERWISE: &str = "FROM sightings WHERE gone_at IS NULL
    AND (model IS NOT (SELECT id FROM models WHERE fingerprint = ?1)
         OR recipe NOT IN (SELECT value FROM json_each(?3)))
    AND root IN (SELECT unhex(value) FROM json_each(?2))";

impl Store {
    /// The folders below which something lies that was judged, in order.
    pub async fn roots(&self) -> Result<Vec<PathBuf>, StoreError> {
        let rows = sqlx::query(
            "SELECT DISTINCT root FROM sightings WHERE gone_at IS NULL AND root <> x'' ORDER BY root",
        )
        .fetch_all(&self.readers)
        .await
        .map_err(|source| self.sql(source))?;
        let roots: Result<_, sqlx::Error> =
            rows.iter().map(|row| Ok(path_of(row.try_get("root")?))).collect();
        roots.map_err(|source| self.sql(source))
    }

    /// How many sightings below these roots were judged last with anything else than is used now.
    pub async fn count_judged_otherwise(
        &self,
        now: &JudgedWith,
        roots: &[PathBuf],
    ) -> Result<u64, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!("SELECT count(*) {JUDGED_OTHERWISE}"));
        let row = sqlx::query(sql)
            .bind(&now.fingerprint.0)
            .bind(paths(roots))
            .bind(listed(&now.recipes))
            .fetch_one(&self.readers)
            .await;
        let count: i64 = row.and_then(|row| row.try_get(0)).map_err(|source| self.sql(source))?;
        Ok(count.unsigned_abs())
    }

    /// The same sightings, newest first, with the numbers by which pages are asked for: those
    /// below `before` (`i64::MAX` for the first page).
    pub async fn judged_otherwise(
        &self,
        now: &JudgedWith,
        roots: &[PathBuf],
        before: i64,
        limit: u32,
    ) -> Result<Vec<(i64, Sighting)>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT id, path, root {JUDGED_OTHERWISE} AND id < ?4 ORDER BY id DESC LIMIT ?5"
        ));
        let rows = sqlx::query(sql)
            .bind(&now.fingerprint.0)
            .bind(paths(roots))
            .bind(listed(&now.recipes))
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
fn paths(roots: &[PathBuf]) -> String {
    roots.iter().map(|root| json!(hex(path_bytes(root)))).collect::<Value>().to_string()
}

/// Recipes as a JSON array.
pub(super) fn listed(recipes: &[Recipe]) -> String {
    recipes.iter().map(|recipe| json!(recipe.0)).collect::<Value>().to_string()
}

/// Makes room for views of items (`[item, recipe]` each) that another recipe made before, with the
/// verdicts about them. Where there were any it answers the highest number of a vector so far: the
/// new ones are to get higher ones, because files of vectors take a number for known.
pub(super) async fn make_room(
    transaction: &mut Transaction<'static, Sqlite>,
    model: i64,
    made: &[Value],
) -> Result<Option<i64>, sqlx::Error> {
    if made.is_empty() {
        return Ok(None);
    }
    let stale = sqlx::query(
        "SELECT DISTINCT e.item FROM json_each(?1) AS k CROSS JOIN embeddings AS e
         ON e.item = k.value ->> 0 AND e.model = ?2 WHERE e.recipe <> k.value ->> 1",
    )
    .bind(Value::from(made).to_string())
    .bind(model)
    .fetch_all(&mut **transaction)
    .await?;
    if stale.is_empty() {
        return Ok(None);
    }
    let items = stale.iter().map(|row| Ok(json!(row.try_get::<i64, _>("item")?)));
    let items = items.collect::<Result<Value, sqlx::Error>>()?.to_string();
    let last: i64 = sqlx::query_scalar("SELECT max(rowid) FROM embeddings")
        .fetch_one(&mut **transaction)
        .await?;
    for statement in [
        "DELETE FROM embeddings WHERE item IN (SELECT value FROM json_each(?1)) AND model = ?2",
        // Those of other policies too: they would be taken for judged if they came back.
        "DELETE FROM verdicts WHERE item IN (SELECT value FROM json_each(?1)) AND model = ?2",
        "DELETE FROM perceptual_hashes WHERE item IN (SELECT value FROM json_each(?1)) AND ?2 > 0",
    ] {
        sqlx::query(statement).bind(&items).bind(model).execute(&mut **transaction).await?;
    }
    sqlx::query(
        "INSERT INTO replaced_vectors (model, number) VALUES (?1, ?2)
         ON CONFLICT (model) DO UPDATE SET number = excluded.number",
    )
    .bind(model)
    .bind(last + 1)
    .execute(&mut **transaction)
    .await?;
    Ok(Some(last))
}
