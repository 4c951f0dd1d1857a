//! What people decided, as labels for measuring a model.

use std::path::PathBuf;

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::moderation::PolicyId;

use super::rows::{RowError, path_of, policy_id_of};
use super::{Store, StoreError};

/// An item's last decision that stands, where the item still lies somewhere.
#[derive(Debug, Clone, PartialEq)]
pub struct DecidedItem {
    /// Where it was seen last.
    pub path: PathBuf,
    /// Whether a person removed it; otherwise it was approved.
    pub removed: bool,
    /// The policies that a removal speaks for: the reason that was given, or those that had
    /// flagged the item.
    pub policies: Vec<PolicyId>,
}

impl Store {
    /// Every item that was approved or removed and is still seen, oldest decision first.
    pub async fn labels(&self) -> Result<Vec<DecidedItem>, StoreError> {
        let read = async {
            let rows = sqlx::query(
                "WITH standing AS (
                     SELECT max(d.id) AS id FROM decisions AS d
                     WHERE d.action IN ('approve', 'remove')
                       AND NOT EXISTS (SELECT 1 FROM decisions AS u WHERE u.undoes = d.id)
                     GROUP BY d.item
                 )
                 SELECT d.action = 'remove' AS removed, d.reason, d.task, s.path
                 FROM standing JOIN decisions AS d ON d.id = standing.id
                 JOIN sightings AS s ON s.id = (SELECT max(n.id) FROM sightings AS n
                                                WHERE n.item = d.item AND n.gone_at IS NULL)
                 ORDER BY d.id",
            )
            .fetch_all(&self.readers)
            .await?;
            let mut items = Vec::with_capacity(rows.len());
            for row in &rows {
                items.push(DecidedItem {
                    path: path_of(row.try_get("path")?),
                    removed: row.try_get("removed")?,
                    policies: self.spoken_for(row).await?,
                });
            }
            Ok(items)
        };
        read.await.map_err(|error| self.failed(error))
    }

    async fn spoken_for(&self, row: &SqliteRow) -> Result<Vec<PolicyId>, RowError> {
        if let Some(reason) = row.try_get::<Option<String>, _>("reason")? {
            return Ok(vec![policy_id_of(reason)?]);
        }
        let policies =
            sqlx::query("SELECT policy FROM task_policies WHERE task = ? ORDER BY policy")
                .bind(row.try_get::<i64, _>("task")?)
                .fetch_all(&self.readers)
                .await?;
        policies.iter().map(|row| Ok(policy_id_of(row.try_get("policy")?)?)).collect()
    }
}
