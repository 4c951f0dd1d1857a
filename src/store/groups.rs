//! Near-duplicates as one row of the queue: which task stands for which.
//!
//! A group is a leader and the tasks whose pictures are near to the leader's, all in the same
//! state. The most pressing one leads. Nobody is near to a group but by being near to its leader,
//! so that a chain of small steps can't join pictures that have nothing in common.

use serde_json::Value;
use sqlx::{AssertSqlSafe, Row as _, Sqlite, Transaction};

use crate::moderation::perceptual::{words, words_near};
use crate::moderation::{PerceptualHash, ReviewTask, TaskId};

use super::queue::{TASK_COLUMNS, TASK_TABLES};
use super::rows::{RowError, perceptual_hash_of, task_of};
use super::{Store, StoreError};

impl Store {
    /// The undecided tasks that a task stands for, itself first; a task that stands for no other
    /// is alone.
    pub async fn group(&self, leader: TaskId) -> Result<Vec<ReviewTask>, StoreError> {
        let read = async {
            let mut tasks = Vec::new();
            // Not one statement with OR: then no index would serve.
            for only in ["t.id = ?", "t.leader = ?"] {
                let statement = format!(
                    "SELECT {TASK_COLUMNS} FROM {TASK_TABLES} WHERE {only}
                     ORDER BY t.severity DESC, t.score DESC, t.id"
                );
                let rows = sqlx::query(AssertSqlSafe(statement)).bind(leader.0);
                let rows = rows.fetch_all(&self.readers).await?;
                tasks.extend(rows.iter().map(task_of).collect::<Result<Vec<_>, RowError>>()?);
            }
            Ok(tasks)
        };
        read.await.map_err(|error| self.failed(error))
    }
}

/// Takes a task out of its group; if it led, the most pressing of the others leads from now on.
pub(super) async fn leave(
    transaction: &mut Transaction<'static, Sqlite>,
    task: TaskId,
) -> Result<(), RowError> {
    let heir = sqlx::query(
        "SELECT id FROM tasks WHERE leader = ? ORDER BY severity DESC, score DESC, id LIMIT 1",
    )
    .bind(task.0)
    .fetch_optional(&mut **transaction)
    .await?;
    if let Some(heir) = heir {
        hand_over(transaction, task.0, heir.try_get(0)?).await?;
    }
    set_leader(transaction, task.0, None).await?;
    Ok(())
}

/// Puts an undecided task that stands alone into the group that its picture is nearest to.
pub(super) async fn join(
    transaction: &mut Transaction<'static, Sqlite>,
    task: TaskId,
) -> Result<(), RowError> {
    let own = sqlx::query(
        "SELECT t.item, t.state, h.quality, h.forms FROM tasks AS t
         JOIN perceptual_hashes AS h ON h.item = t.item WHERE t.id = ?",
    )
    .bind(task.0)
    .fetch_optional(&mut **transaction)
    .await?;
    let Some(own) = own else { return Ok(()) };
    let Some(hash) = perceptual_hash_of(&own)?.filter(PerceptualHash::is_telling) else {
        return Ok(());
    };
    let item: i64 = own.try_get("item")?;
    let leaders = sqlx::query(
        "SELECT t.id, h.quality, h.forms
         FROM (SELECT DISTINCT w.item FROM json_each(?1) AS k CROSS JOIN hash_words AS w
               WHERE w.word = k.value AND w.item <> ?2) AS near
         CROSS JOIN tasks AS t ON t.item = near.item AND t.state = ?3 AND t.leader IS NULL
         JOIN perceptual_hashes AS h ON h.item = near.item",
    )
    .bind(Value::from(words_near(&hash)).to_string())
    .bind(item)
    .bind(own.try_get::<String, _>("state")?)
    .fetch_all(&mut **transaction)
    .await?;
    remember_words(transaction, item, &hash).await?;
    let mut nearest: Option<(u32, i64)> = None;
    for row in &leaders {
        let Some(other) = perceptual_hash_of(row)? else { continue };
        if hash.is_near(&other) {
            let found = (hash.distance(other.upright()), row.try_get("id")?);
            nearest = Some(nearest.map_or(found, |best| best.min(found)));
        }
    }
    let Some((_, leader)) = nearest else { return Ok(()) };
    let presses = sqlx::query(
        "SELECT (a.severity, a.score) > (b.severity, b.score)
         FROM tasks AS a, tasks AS b WHERE a.id = ? AND b.id = ?",
    )
    .bind(task.0)
    .bind(leader)
    .fetch_one(&mut **transaction)
    .await?;
    if presses.try_get(0)? {
        hand_over(transaction, leader, task.0).await?;
        set_leader(transaction, leader, Some(task.0)).await?;
    } else {
        set_leader(transaction, task.0, Some(leader)).await?;
    }
    Ok(())
}

async fn hand_over(
    transaction: &mut Transaction<'static, Sqlite>,
    from: i64,
    to: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE tasks SET leader = nullif(?2, id) WHERE leader = ?1")
        .bind(from)
        .bind(to)
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

async fn set_leader(
    transaction: &mut Transaction<'static, Sqlite>,
    task: i64,
    leader: Option<i64>,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE tasks SET leader = ?2 WHERE id = ?1 AND leader IS NOT ?2")
        .bind(task)
        .bind(leader)
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

/// So that later pictures find this one.
async fn remember_words(
    transaction: &mut Transaction<'static, Sqlite>,
    item: i64,
    hash: &PerceptualHash,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT OR IGNORE INTO hash_words (word, item) SELECT value, ?2 FROM json_each(?1)",
    )
    .bind(Value::from(words(hash.upright()).to_vec()).to_string())
    .bind(item)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}
