//! Deleting what is older than the settings say.

use serde_json::json;
use sqlx::{Row as _, Sqlite, Transaction};

use crate::moderation::{AuditEvent, AuditKind, Timestamp};

use super::rows::RowError;
use super::{Store, StoreError, append_audit};

/// Rows that share one transaction, so that others can write in between.
const BATCH: i64 = 2000;

/// What is older than this goes; `None` keeps everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cutoffs {
    /// Scores of items that were last judged before.
    pub verdicts: Option<Timestamp>,
    /// Embeddings of items that were last judged before.
    pub embeddings: Option<Timestamp>,
    /// Tasks that were closed before.
    pub done_tasks: Option<Timestamp>,
}

/// How much went, or would go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Expired {
    /// Scores.
    pub verdicts: u64,
    /// Vectors.
    pub embeddings: u64,
    /// Tasks with their decisions.
    pub done_tasks: u64,
}

/// An item that nobody has to look at any more: no undecided task, nothing in quarantine, and last
/// judged before `?1`.
const OLD_ITEM: &str = "
    NOT EXISTS (SELECT 1 FROM sightings AS s WHERE s.item = o.item AND s.judged_at >= ?1)
    AND NOT EXISTS (SELECT 1 FROM tasks AS t WHERE t.item = o.item AND t.state <> 'closed')
    AND NOT EXISTS (SELECT 1 FROM placements AS p
                    WHERE p.item = o.item AND p.state = 'quarantined')";

/// A task that was closed before `?1` and that nothing needs any more. The decision that last
/// removed an item stays: the same bytes must go to a person when they come back.
const OLD_TASK: &str = "
    o.state = 'closed' AND o.closed_at < ?1
    AND NOT EXISTS (SELECT 1 FROM placements AS p
                    WHERE p.task = o.id AND (p.state = 'quarantined' OR p.wanted <> p.state))
    AND coalesce((SELECT d.action <> 'remove' OR d.task <> o.id FROM decisions AS d
                  WHERE d.item = o.item AND d.action IN ('approve', 'remove')
                    AND NOT EXISTS (SELECT 1 FROM decisions AS u WHERE u.undoes = d.id)
                  ORDER BY d.id DESC LIMIT 1), 1)";

impl Store {
    /// How much [`Store::expire`] would delete.
    pub async fn count_expired(&self, cutoffs: Cutoffs) -> Result<Expired, StoreError> {
        let count = async |table: &str, condition: &str, before: Option<Timestamp>| {
            let Some(before) = before else { return Ok(0) };
            let statement = format!("SELECT count(*) FROM {table} AS o WHERE {condition}");
            let row = sqlx::query(sqlx::AssertSqlSafe(statement))
                .bind(before.0)
                .fetch_one(&self.readers)
                .await;
            let count: i64 =
                row.and_then(|row| row.try_get(0)).map_err(|source| self.sql(source))?;
            Ok::<_, StoreError>(count.unsigned_abs())
        };
        Ok(Expired {
            verdicts: count("verdicts", OLD_ITEM, cutoffs.verdicts).await?,
            embeddings: count("embeddings", OLD_ITEM, cutoffs.embeddings).await?,
            done_tasks: count("tasks", OLD_TASK, cutoffs.done_tasks).await?,
        })
    }

    /// Deletes what is older, in small transactions, with one audit event at the end.
    pub async fn expire(&self, cutoffs: Cutoffs, at: Timestamp) -> Result<Expired, StoreError> {
        let mut expired = Expired::default();
        if let Some(before) = cutoffs.verdicts {
            let keys = "(item, policy_version, model)";
            expired.verdicts = self.expire_rows("verdicts", keys, before).await?;
        }
        if let Some(before) = cutoffs.embeddings {
            let keys = "(item, model, view)";
            expired.embeddings = self.expire_rows("embeddings", keys, before).await?;
        }
        if let Some(before) = cutoffs.done_tasks {
            expired.done_tasks = self.expire_tasks(before).await?;
        }
        if expired != Expired::default() {
            let mut transaction = self.begin().await?;
            let event = AuditEvent {
                at,
                kind: AuditKind::Expired,
                actor: "modtool".to_owned(),
                detail: json!({
                    "verdicts": expired.verdicts,
                    "embeddings": expired.embeddings,
                    "done_tasks": expired.done_tasks,
                })
                .to_string(),
            };
            append_audit(&mut transaction, &[event]).await.map_err(|source| self.sql(source))?;
            self.commit(transaction).await?;
        }
        Ok(expired)
    }

    async fn expire_rows(
        &self,
        table: &str,
        keys: &str,
        before: Timestamp,
    ) -> Result<u64, StoreError> {
        let statement = format!(
            "DELETE FROM {table} WHERE {keys} IN (
                 SELECT {} FROM {table} AS o WHERE {OLD_ITEM} LIMIT ?2)",
            keys.trim_matches(['(', ')'])
        );
        let mut deleted = 0;
        loop {
            let mut transaction = self.begin().await?;
            let done = sqlx::query(sqlx::AssertSqlSafe(statement.clone()))
                .bind(before.0)
                .bind(BATCH)
                .execute(&mut *transaction)
                .await
                .map_err(|source| self.sql(source))?;
            self.commit(transaction).await?;
            deleted += done.rows_affected();
            if done.rows_affected() == 0 {
                return Ok(deleted);
            }
        }
    }

    async fn expire_tasks(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut deleted = 0;
        loop {
            let mut transaction = self.begin().await?;
            let done = expire_some_tasks(&mut transaction, before).await;
            let done = done.map_err(|error| self.failed(error))?;
            self.commit(transaction).await?;
            deleted += done;
            if done == 0 {
                return Ok(deleted);
            }
        }
    }
}

async fn expire_some_tasks(
    transaction: &mut Transaction<'static, Sqlite>,
    before: Timestamp,
) -> Result<u64, RowError> {
    let statement = format!("SELECT o.id FROM tasks AS o WHERE {OLD_TASK} LIMIT ?2");
    let rows = sqlx::query(sqlx::AssertSqlSafe(statement))
        .bind(before.0)
        .bind(BATCH)
        .fetch_all(&mut **transaction)
        .await?;
    let ids: Vec<i64> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    let list = serde_json::Value::from(ids.clone()).to_string();
    // Undos first, because they name what they take back.
    for statement in [
        "UPDATE decisions SET redoes = NULL WHERE task IN (SELECT value FROM json_each(?))",
        "DELETE FROM decisions WHERE undoes IS NOT NULL
           AND task IN (SELECT value FROM json_each(?))",
        "DELETE FROM decisions WHERE task IN (SELECT value FROM json_each(?))",
        "DELETE FROM task_policies WHERE task IN (SELECT value FROM json_each(?))",
        "DELETE FROM leases WHERE task IN (SELECT value FROM json_each(?))",
        "UPDATE tasks SET leader = NULL WHERE leader IN (SELECT value FROM json_each(?))",
        "DELETE FROM placements WHERE task IN (SELECT value FROM json_each(?))",
        "DELETE FROM tasks WHERE id IN (SELECT value FROM json_each(?))",
    ] {
        sqlx::query(statement).bind(&list).execute(&mut **transaction).await?;
    }
    Ok(ids.len() as u64)
}
