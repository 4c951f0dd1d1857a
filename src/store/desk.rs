//! Verbs of a reviewer's desk: what is open on the screen, and what had to be looked at.

use sqlx::Row as _;

use crate::moderation::{ItemId, Lease, Reviewer, TaskId, Timestamp};

use super::rows::{RowError, lease_of};
use super::{Store, StoreError};

impl Store {
    /// Leases an undecided task to a reviewer until `at` + [`Lease::LENGTH_MS`], or renews the
    /// lease. Answers the lease that holds now: someone else's where that has not run out; none
    /// when the task is decided.
    pub async fn lease(
        &self,
        task: TaskId,
        reviewer: &Reviewer,
        at: Timestamp,
    ) -> Result<Option<Lease>, StoreError> {
        let mut transaction = self.begin().await?;
        let take = async {
            // A new row and not a changed one: its number tells others that something happened.
            sqlx::query("DELETE FROM leases WHERE task = ? AND until <= ?")
                .bind(task.0)
                .bind(at.0)
                .execute(&mut *transaction)
                .await?;
            sqlx::query(
                "INSERT INTO leases (task, reviewer, until)
                 SELECT id, ?2, ?3 FROM tasks WHERE id = ?1 AND state <> 'closed'
                 ON CONFLICT (task) DO UPDATE SET until = excluded.until
                 WHERE leases.reviewer = excluded.reviewer",
            )
            .bind(task.0)
            .bind(reviewer.as_str())
            .bind(at.0 + Lease::LENGTH_MS)
            .execute(&mut *transaction)
            .await?;
            let row = sqlx::query(
                "SELECT reviewer AS leased_by, until AS leased_until FROM leases WHERE task = ?",
            )
            .bind(task.0)
            .fetch_optional(&mut *transaction)
            .await?;
            Ok::<_, RowError>(row.as_ref().map(lease_of).transpose()?.flatten())
        };
        let lease = take.await.map_err(|error| self.failed(error))?;
        self.commit(transaction).await?;
        Ok(lease)
    }

    /// Gives a reviewer's lease back before it runs out.
    pub async fn release(&self, task: TaskId, reviewer: &Reviewer) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM leases WHERE task = ? AND reviewer = ?")
            .bind(task.0)
            .bind(reviewer.as_str())
            .execute(&self.writer)
            .await
            .map_err(|source| self.sql(source))?;
        Ok(())
    }

    /// Writes down that a reviewer chose to see one step of an item's picture.
    pub async fn record_exposure(
        &self,
        reviewer: &Reviewer,
        item: ItemId,
        step: &str,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO exposures (reviewer, item, step, at)
             SELECT ?, id, ?, ? FROM items WHERE hash = ?",
        )
        .bind(reviewer.as_str())
        .bind(step)
        .bind(at.0)
        .bind(item.as_bytes().as_slice())
        .execute(&self.writer)
        .await
        .map_err(|source| self.sql(source))?;
        Ok(())
    }

    /// How many steps a reviewer chose to see since a moment.
    pub async fn exposures(
        &self,
        reviewer: &Reviewer,
        since: Timestamp,
    ) -> Result<u64, StoreError> {
        let row = sqlx::query("SELECT count(*) FROM exposures WHERE reviewer = ? AND at >= ?")
            .bind(reviewer.as_str())
            .bind(since.0)
            .fetch_one(&self.readers)
            .await;
        let count: i64 = row.and_then(|row| row.try_get(0)).map_err(|source| self.sql(source))?;
        Ok(count.unsigned_abs())
    }
}
