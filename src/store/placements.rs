//! Verbs about where files should lie: removing and holding are wishes that are written with the
//! decision or the verdict, and carried out by a worker, again and again until they are true.

use serde_json::json;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, Sqlite, Transaction};

use crate::moderation::policy::spelled;
use crate::moderation::{Action, AuditEvent, AuditKind, ItemId, Sighting, TaskId, Timestamp};

use super::rows::{RowError, item_of, path_bytes, path_of, unreadable};
use super::{Store, StoreError, append_audit};

spelled! {
    /// Where the bytes of a file are.
    Place {
        /// At their path.
        InPlace = "in_place",
        /// In the quarantine.
        Quarantined = "quarantined",
        /// Deleted, by a person's decision and after the grace period.
        Purged = "purged",
    }
}

/// A file whose place is not the wanted one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// Its number.
    pub id: i64,
    /// What the bytes must be.
    pub item: ItemId,
    /// And how many.
    pub bytes: u64,
    /// Where the file lies, or lay.
    pub sighting: Sighting,
    /// Where it should be.
    pub wanted: Place,
    /// Where it is, as far as is known.
    pub state: Place,
    /// Whether an armed Block put it there.
    pub held: bool,
    /// Who decided, and when; none while nobody has.
    pub decided: Option<(String, Timestamp)>,
    /// The policy that the task is about.
    pub policy: Option<String>,
    /// How many other paths of the same bytes lie in the quarantine.
    pub twins: u64,
    /// How often it was tried in vain.
    pub attempts: u32,
}

/// One path whose bytes lie in the quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// The placement and what is known about it.
    pub placement: Placement,
    /// When it came there.
    pub since: Timestamp,
    /// The standing decision on its task.
    pub decision: Option<Action>,
    /// Why it could not be moved, if so.
    pub problem: Option<String>,
    /// What a restore could not give back, if so.
    pub note: Option<String>,
}

/// The standing decision of a task, for sub-selects: its id.
const STANDING: &str = "(SELECT max(d.id) FROM decisions AS d WHERE d.task = p.task
    AND d.action IN ('approve', 'remove')
    AND NOT EXISTS (SELECT 1 FROM decisions AS u WHERE u.undoes = d.id))";

fn selected(condition: &str) -> String {
    format!(
        "SELECT p.*, i.hash, i.bytes, t.policy, d.action, d.reviewer, d.at AS decided_at,
                (SELECT count(*) FROM placements AS o WHERE o.item = p.item AND o.id <> p.id
                 AND o.state = 'quarantined') AS twins
         FROM placements AS p JOIN items AS i ON i.id = p.item JOIN tasks AS t ON t.id = p.task
         LEFT JOIN decisions AS d ON d.id = {STANDING}
         WHERE {condition}"
    )
}

impl Store {
    /// Some files that are due to be moved, the longest waiting first; then those that left their
    /// path when a removal was interrupted, and are wanted back there since.
    pub async fn due_placements(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<Placement>, StoreError> {
        let due = self.due_where("p.wanted <> p.state", now, limit).await?;
        if !due.is_empty() {
            return Ok(due);
        }
        // A statement of its own: with `OR` neither would be answered from an index.
        self.due_where("p.id IN (SELECT placement FROM moves)", now, limit).await
    }

    async fn due_where(
        &self,
        condition: &str,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<Placement>, StoreError> {
        let order = "ORDER BY p.due_at, p.id LIMIT ?";
        let statement = selected(&format!("{condition} AND p.due_at <= ? {order}"));
        let read = async {
            let rows = sqlx::query(sqlx::AssertSqlSafe(statement))
                .bind(now.0)
                .bind(limit)
                .fetch_all(&self.readers)
                .await?;
            rows.iter().map(placement_of).collect::<Result<_, _>>()
        };
        read.await.map_err(|error| self.failed(error))
    }

    /// Makes everything that waits for its grace period due now; answers how much that is.
    pub async fn hurry_placements(&self, now: Timestamp) -> Result<u64, StoreError> {
        let hurried = sqlx::query(
            "UPDATE placements SET due_at = ?1
             WHERE wanted <> state AND due_at > ?1 AND attempts = 0",
        )
        .bind(now.0)
        .execute(&self.writer)
        .await
        .map_err(|source| self.sql(source))?;
        Ok(hurried.rows_affected())
    }

    /// Writes down that a file is where it was wanted, with an audit event and what could not be
    /// given back. Answers false when the wish has changed meanwhile; then the file's place is
    /// noted and the new wish stays due.
    pub async fn record_placed(
        &self,
        placement: &Placement,
        note: Option<&str>,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        let write = async {
            let row = sqlx::query(
                "UPDATE placements SET state = ?2, changed_at = ?3, attempts = 0, problem = NULL,
                     note = ?4
                 WHERE id = ?1 RETURNING wanted = state",
            )
            .bind(placement.id)
            .bind(placement.wanted.as_str())
            .bind(at.0)
            .bind(note)
            .fetch_one(&mut *transaction)
            .await?;
            let settled: bool = row.try_get(0)?;
            if placement.wanted == Place::Quarantined {
                leave_path(&mut transaction, placement, at).await?;
            }
            forget_move(&mut transaction, placement).await?;
            let kind = match placement.wanted {
                Place::InPlace => AuditKind::Restored,
                Place::Quarantined => AuditKind::Quarantined,
                Place::Purged => AuditKind::Purged,
            };
            append_audit(&mut transaction, &[event(kind, placement, at, note)]).await?;
            Ok::<_, RowError>(settled)
        };
        let settled = write.await.map_err(|error| self.failed(error))?;
        self.commit(transaction).await?;
        Ok(settled)
    }

    /// Writes down that a wish can't come true because the file is not there, or is another one:
    /// nothing is left to do. Should the file come back to its path, it is seen anew, and comes
    /// to a person again.
    pub async fn record_lost(
        &self,
        placement: &Placement,
        why: &str,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        let write = async {
            sqlx::query(
                "UPDATE placements SET wanted = 'in_place', state = 'in_place', changed_at = ?,
                     problem = ? WHERE id = ?",
            )
            .bind(at.0)
            .bind(why)
            .bind(placement.id)
            .execute(&mut *transaction)
            .await?;
            forget_move(&mut transaction, placement).await?;
            leave_path(&mut transaction, placement, at).await
        };
        write.await.map_err(|source| self.sql(source))?;
        self.commit(transaction).await
    }

    /// Writes down why it did not work, and when to try again.
    pub async fn record_not_placed(
        &self,
        placement: &Placement,
        why: &str,
        again_at: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE placements SET attempts = attempts + 1, problem = ?, due_at = ? WHERE id = ?",
        )
        .bind(why)
        .bind(again_at.0)
        .bind(placement.id)
        .execute(&self.writer)
        .await
        .map_err(|source| self.sql(source))?;
        Ok(())
    }

    /// Everything in the quarantine, the oldest first.
    pub async fn quarantined(&self) -> Result<Vec<Quarantined>, StoreError> {
        self.quarantined_where("p.state = 'quarantined' ORDER BY p.changed_at, p.id").await
    }

    /// What could not be moved as wanted, the latest first.
    pub async fn stuck_placements(&self) -> Result<Vec<Quarantined>, StoreError> {
        self.quarantined_where(
            "p.wanted <> p.state AND p.problem IS NOT NULL ORDER BY p.id DESC LIMIT 100",
        )
        .await
    }

    /// What came back without something that belonged to it, the latest first.
    pub async fn noted_placements(&self) -> Result<Vec<Quarantined>, StoreError> {
        let condition = "p.note IS NOT NULL AND p.state = 'in_place' AND p.wanted = 'in_place'
                         ORDER BY p.changed_at DESC, p.id DESC LIMIT 100";
        self.quarantined_where(condition).await
    }

    /// How one placement stands now; `None` when it was erased.
    pub async fn quarantined_placement(&self, id: i64) -> Result<Option<Quarantined>, StoreError> {
        let read = async {
            let row = sqlx::query(sqlx::AssertSqlSafe(selected("p.id = ?")))
                .bind(id)
                .fetch_optional(&self.readers)
                .await?;
            row.as_ref().map(quarantined_of).transpose()
        };
        read.await.map_err(|error| self.failed(error))
    }

    async fn quarantined_where(&self, condition: &str) -> Result<Vec<Quarantined>, StoreError> {
        let read = async {
            let rows = sqlx::query(sqlx::AssertSqlSafe(selected(condition)))
                .fetch_all(&self.readers)
                .await?;
            rows.iter().map(quarantined_of).collect::<Result<_, _>>()
        };
        read.await.map_err(|error| self.failed(error))
    }

    /// Wishes a file back in place, at another path if one is given. Only for what lies in the
    /// quarantine; answers whether it does.
    pub async fn wish_back(
        &self,
        placement: i64,
        elsewhere: Option<&std::path::Path>,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let wished = sqlx::query(
            "UPDATE placements SET wanted = 'in_place', due_at = ?2, asked_at = ?2, attempts = 0,
                 problem = NULL, path = coalesce(?3, path)
             WHERE id = ?1 AND state = 'quarantined'",
        )
        .bind(placement)
        .bind(at.0)
        .bind(elsewhere.map(path_bytes))
        .execute(&self.writer)
        .await
        .map_err(|source| self.sql(source))?;
        Ok(wished.rows_affected() == 1)
    }

    /// Wishes a removed file deleted. Looks again, in the same transaction, that a person's
    /// decision to remove it stands and is at least as old as `older_than`; answers whether it is.
    pub async fn wish_purged(
        &self,
        placement: i64,
        older_than: Timestamp,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let statement = format!(
            "UPDATE placements AS p SET wanted = 'purged', due_at = ?3, asked_at = ?3
             WHERE p.id = ?1 AND p.state = 'quarantined' AND p.wanted <> 'in_place'
               AND EXISTS (SELECT 1 FROM decisions AS d WHERE d.id = {STANDING}
                           AND d.action = 'remove' AND d.at <= ?2)"
        );
        let wished = sqlx::query(sqlx::AssertSqlSafe(statement))
            .bind(placement)
            .bind(older_than.0)
            .bind(at.0)
            .execute(&self.writer)
            .await
            .map_err(|source| self.sql(source))?;
        Ok(wished.rows_affected() == 1)
    }
}

/// Nothing of this item lies at the path any more; whatever comes there is seen anew.
async fn leave_path(
    transaction: &mut Transaction<'static, Sqlite>,
    placement: &Placement,
    at: Timestamp,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE sightings SET gone_at = ?3
         WHERE item = (SELECT item FROM placements WHERE id = ?1) AND path = ?2
           AND gone_at IS NULL",
    )
    .bind(placement.id)
    .bind(path_bytes(&placement.sighting.path))
    .bind(at.0)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// Its removal is not under way any more.
async fn forget_move(
    transaction: &mut Transaction<'static, Sqlite>,
    placement: &Placement,
) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM moves WHERE placement = ?")
        .bind(placement.id)
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

fn event(kind: AuditKind, placement: &Placement, at: Timestamp, why: Option<&str>) -> AuditEvent {
    let decided = placement.decided.as_ref();
    AuditEvent {
        at,
        kind,
        actor: decided.map_or("modtool", |(reviewer, _)| reviewer).to_owned(),
        detail: json!({
            "item": placement.item.to_string(),
            "placement": placement.id,
            "held": placement.held,
            "why": why,
        })
        .to_string(),
    }
}

fn placement_of(row: &SqliteRow) -> Result<Placement, RowError> {
    let place = |column: &str| {
        let text: String = row.try_get(column)?;
        Ok::<_, RowError>(Place::parse(&text).ok_or_else(|| unreadable("place", text))?)
    };
    let reviewer: Option<String> = row.try_get("reviewer")?;
    let decided_at: Option<i64> = row.try_get("decided_at")?;
    let twins: i64 = row.try_get("twins")?;
    Ok(Placement {
        id: row.try_get("id")?,
        item: item_of(row.try_get("hash")?)?,
        bytes: row.try_get::<i64, _>("bytes")?.unsigned_abs(),
        sighting: Sighting {
            path: path_of(row.try_get("path")?),
            root: path_of(row.try_get("root")?),
        },
        wanted: place("wanted")?,
        state: place("state")?,
        held: row.try_get("held")?,
        decided: reviewer.zip(decided_at.map(Timestamp)),
        policy: row.try_get("policy")?,
        twins: twins.unsigned_abs(),
        attempts: row.try_get("attempts")?,
    })
}

fn quarantined_of(row: &SqliteRow) -> Result<Quarantined, RowError> {
    let changed_at: Option<i64> = row.try_get("changed_at")?;
    let action: Option<String> = row.try_get("action")?;
    Ok(Quarantined {
        placement: placement_of(row)?,
        since: Timestamp(changed_at.unwrap_or(row.try_get("asked_at")?)),
        decision: action.as_deref().and_then(Action::parse),
        problem: row.try_get("problem")?,
        note: row.try_get("note")?,
    })
}

/// What a decision wishes for the files of its item; in its transaction.
pub(super) async fn wish_as_decided(
    transaction: &mut Transaction<'static, Sqlite>,
    task: TaskId,
    item: i64,
    action: Action,
    at: Timestamp,
    grace_ms: i64,
) -> Result<(), RowError> {
    let due = at.0.saturating_add(grace_ms);
    match action {
        Action::Escalate => {}
        Action::Approve => {
            sqlx::query(
                "UPDATE placements SET wanted = 'in_place', due_at = ?, asked_at = ?, attempts = 0
                 WHERE task = ? AND wanted = 'quarantined'",
            )
            .bind(due)
            .bind(at.0)
            .bind(task.0)
            .execute(&mut **transaction)
            .await?;
        }
        Action::Remove => {
            sqlx::query(
                "UPDATE placements SET wanted = 'quarantined', due_at = ?, asked_at = ?
                 WHERE task = ? AND state = 'quarantined'",
            )
            .bind(due)
            .bind(at.0)
            .bind(task.0)
            .execute(&mut **transaction)
            .await?;
            // A file that could not be read has no bytes to check, and stays where it is.
            sqlx::query(
                "INSERT INTO placements (item, path, root, task, held, wanted, state, due_at,
                                         asked_at)
                 SELECT s.item, s.path, s.root, ?2, 0, 'quarantined', 'in_place', ?3, ?4
                 FROM sightings AS s JOIN items AS i ON i.id = s.item
                 WHERE s.item = ?1 AND s.gone_at IS NULL
                   AND coalesce(i.reason, '') NOT LIKE 'unreadable%'
                   AND coalesce(i.reason, '') NOT LIKE 'unjudged%'
                 ON CONFLICT (item, path) DO UPDATE SET
                     task = excluded.task, root = excluded.root, wanted = excluded.wanted,
                     state = excluded.state,
                     held = iif(placements.task = excluded.task, held, 0),
                     due_at = excluded.due_at, asked_at = excluded.asked_at, attempts = 0,
                     problem = NULL",
            )
            .bind(item)
            .bind(task.0)
            .bind(due)
            .bind(at.0)
            .execute(&mut **transaction)
            .await?;
        }
    }
    Ok(())
}

/// A decision was taken back and none stands on its task: files go back, but for what was held.
pub(super) async fn wish_as_before(
    transaction: &mut Transaction<'static, Sqlite>,
    task: TaskId,
    at: Timestamp,
) -> Result<(), RowError> {
    sqlx::query(
        "UPDATE placements SET wanted = iif(held, 'quarantined', 'in_place'), due_at = ?1,
             asked_at = ?1, attempts = 0, problem = NULL
         WHERE task = ?2 AND state <> 'purged'",
    )
    .bind(at.0)
    .bind(task.0)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// How many files were held since then.
pub(super) async fn held_since(
    transaction: &mut Transaction<'static, Sqlite>,
    since: Timestamp,
) -> Result<u64, RowError> {
    let row = sqlx::query("SELECT count(*) FROM placements WHERE held AND asked_at >= ?")
        .bind(since.0)
        .fetch_one(&mut **transaction)
        .await?;
    Ok(row.try_get::<i64, _>(0)?.unsigned_abs())
}

/// An armed Block wishes this file into quarantine until a person decides. Answers whether that was
/// not wished already.
pub(super) async fn wish_held(
    transaction: &mut Transaction<'static, Sqlite>,
    item: i64,
    sighting: &Sighting,
    task: i64,
    at: Timestamp,
) -> Result<bool, RowError> {
    let wished = sqlx::query(
        "INSERT INTO placements (item, path, root, task, held, wanted, state, due_at, asked_at)
         VALUES (?1, ?2, ?3, ?4, 1, 'quarantined', 'in_place', ?5, ?5)
         ON CONFLICT (item, path) DO UPDATE SET
             task = excluded.task, root = excluded.root, held = 1, wanted = 'quarantined',
             state = 'in_place', due_at = excluded.due_at, asked_at = excluded.asked_at,
             attempts = 0, problem = NULL
         WHERE NOT (task = excluded.task AND held AND wanted = 'quarantined'
                    AND state = 'in_place')",
    )
    .bind(item)
    .bind(path_bytes(&sighting.path))
    .bind(path_bytes(&sighting.root))
    .bind(task)
    .bind(at.0)
    .execute(&mut **transaction)
    .await?;
    Ok(wished.rows_affected() > 0)
}
