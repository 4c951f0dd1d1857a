//! Verbs of search: vectors by the store's own numbers, and what is known about what was found.

use serde_json::{Value, json};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::moderation::{
    Action, AuditEvent, AuditKind, Embedding, Fingerprint, FoundItem, ItemId, Reason, ReviewState,
    Reviewer, TaskId, Timestamp,
};

use super::rows::{
    RowError, item_of, narrow, outcome_of, path_of, policy_id_of, state_of, unreadable,
};
use super::{Store, StoreError, append_audit, groups};

/// A vector by the store's own numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredVector {
    /// Numbers the vectors; later ones have higher numbers.
    pub number: i64,
    /// Numbers the items.
    pub item: i64,
    /// The unit vector.
    pub embedding: Embedding,
}

impl Store {
    /// The vectors of one model after the given number (0 for the first page).
    pub async fn vectors(
        &self,
        fingerprint: &Fingerprint,
        after: i64,
        limit: u32,
    ) -> Result<Vec<StoredVector>, StoreError> {
        let read = async {
            let rows = sqlx::query(
                "SELECT rowid AS number, item, vector FROM embeddings
                 WHERE rowid > ? AND model = (SELECT id FROM models WHERE fingerprint = ?)
                 ORDER BY rowid LIMIT ?",
            )
            .bind(after)
            .bind(&fingerprint.0)
            .bind(limit)
            .fetch_all(&self.readers)
            .await?;
            let vector_of = |row: &SqliteRow| {
                Ok::<_, RowError>(StoredVector {
                    number: row.try_get("number")?,
                    item: row.try_get("item")?,
                    embedding: Embedding::from_f16_bytes(row.try_get("vector")?)
                        .map_err(|torn| unreadable("embedding", torn))?,
                })
            };
            rows.iter().map(vector_of).collect::<Result<_, _>>()
        };
        read.await.map_err(|error| self.failed(error))
    }

    /// The number of the last vector, of whichever model; 0 when there is none.
    pub async fn last_vector(&self) -> Result<i64, StoreError> {
        let row = sqlx::query("SELECT coalesce(max(rowid), 0) FROM embeddings")
            .fetch_one(&self.readers)
            .await;
        row.and_then(|row| row.try_get(0)).map_err(|source| self.sql(source))
    }

    /// A file of this model's vectors that does not reach up to this number holds some that were
    /// replaced since; 0 when none ever was.
    pub async fn replaced_up_to(&self, fingerprint: &Fingerprint) -> Result<i64, StoreError> {
        let row = sqlx::query(
            "SELECT coalesce(max(number), 0) FROM replaced_vectors
             WHERE model = (SELECT id FROM models WHERE fingerprint = ?)",
        )
        .bind(&fingerprint.0)
        .fetch_one(&self.readers)
        .await;
        row.and_then(|row| row.try_get(0)).map_err(|source| self.sql(source))
    }

    /// The store's number of an item.
    pub async fn item_number(&self, item: ItemId) -> Result<Option<i64>, StoreError> {
        let row = sqlx::query("SELECT id FROM items WHERE hash = ?")
            .bind(item.as_bytes().as_slice())
            .fetch_optional(&self.readers)
            .await;
        let number = row.and_then(|row| row.map(|row| row.try_get(0)).transpose());
        number.map_err(|source| self.sql(source))
    }

    /// The first view of items by one model, by number; those it never saw are left out.
    pub async fn first_views(
        &self,
        fingerprint: &Fingerprint,
        numbers: &[i64],
    ) -> Result<Vec<(i64, Embedding)>, StoreError> {
        let read = async {
            let rows = sqlx::query(
                "SELECT e.item, e.vector FROM json_each(?1) AS k
                 CROSS JOIN embeddings AS e ON e.item = k.value
                   AND e.model = (SELECT id FROM models WHERE fingerprint = ?2) AND e.view = 0",
            )
            .bind(Value::from(numbers).to_string())
            .bind(&fingerprint.0)
            .fetch_all(&self.readers)
            .await?;
            let view_of = |row: &SqliteRow| {
                let embedding = Embedding::from_f16_bytes(row.try_get("vector")?)
                    .map_err(|torn| unreadable("embedding", torn))?;
                Ok::<_, RowError>((row.try_get("item")?, embedding))
            };
            rows.iter().map(view_of).collect::<Result<_, _>>()
        };
        read.await.map_err(|error| self.failed(error))
    }

    /// What is known about items, in the order of their numbers here; unknown ones are left out.
    pub async fn found_items(&self, numbers: &[i64]) -> Result<Vec<FoundItem>, StoreError> {
        let read = async {
            let rows = sqlx::query(FOUND_ITEMS)
                .bind(Value::from(numbers).to_string())
                .fetch_all(&self.readers)
                .await?;
            rows.iter().map(found_item_of).collect::<Result<_, _>>()
        };
        read.await.map_err(|error| self.failed(error))
    }

    /// The log of decisions after this entry: number, item, and the action; none for an undo.
    pub async fn decision_log(
        &self,
        after: i64,
        limit: u32,
    ) -> Result<Vec<(i64, i64, Option<Action>)>, StoreError> {
        let read = async {
            let rows = sqlx::query(
                "SELECT id, item, action FROM decisions WHERE id > ? ORDER BY id LIMIT ?",
            )
            .bind(after)
            .bind(limit)
            .fetch_all(&self.readers)
            .await?;
            let entry = |row: &SqliteRow| {
                let action: String = row.try_get("action")?;
                let action = if action == "undo" { None } else { Some(action_of(action)?) };
                Ok::<_, RowError>((row.try_get("id")?, row.try_get("item")?, action))
            };
            rows.iter().map(entry).collect::<Result<_, _>>()
        };
        read.await.map_err(|error| self.failed(error))
    }

    /// Of these items, by number, whether an approval or a removal stands.
    pub async fn what_stands(&self, numbers: &[i64]) -> Result<Vec<(i64, bool)>, StoreError> {
        let read = async {
            let rows = sqlx::query(
                "SELECT k.value AS item, EXISTS (SELECT 1 FROM decisions AS s
                    WHERE s.item = k.value AND s.action IN ('approve', 'remove')
                      AND NOT EXISTS (SELECT 1 FROM decisions AS u WHERE u.undoes = s.id))
                    AS stands
                 FROM json_each(?) AS k",
            )
            .bind(Value::from(numbers).to_string())
            .fetch_all(&self.readers)
            .await?;
            let standing =
                |row: &SqliteRow| Ok::<_, RowError>((row.try_get("item")?, row.try_get("stands")?));
            rows.iter().map(standing).collect::<Result<_, _>>()
        };
        read.await.map_err(|error| self.failed(error))
    }

    /// Opens a task about an item that nothing flagged, because a person wants to decide it; the
    /// task that waits already where there is one. None when the item lies nowhere.
    pub async fn open_by_hand(
        &self,
        item: ItemId,
        reviewer: &Reviewer,
        at: Timestamp,
    ) -> Result<Option<TaskId>, StoreError> {
        let mut transaction = self.begin().await?;
        let open = async {
            let waiting = sqlx::query(
                "SELECT t.id FROM tasks AS t JOIN items AS i ON i.id = t.item
                 WHERE i.hash = ? AND t.state <> 'closed'",
            )
            .bind(item.as_bytes().as_slice())
            .fetch_optional(&mut *transaction)
            .await?;
            if let Some(row) = waiting {
                return Ok::<_, RowError>(Some(TaskId(row.try_get(0)?)));
            }
            let opened = sqlx::query(
                "INSERT INTO tasks (item, sighting, policy, severity, score, outcome, reason,
                                    state, opened_at)
                 SELECT s.item, s.id, NULL, 0, 0, 'review', ?2, 'open', ?3
                 FROM sightings AS s JOIN items AS i ON i.id = s.item
                 WHERE i.hash = ?1 AND s.gone_at IS NULL ORDER BY s.id LIMIT 1 RETURNING id",
            )
            .bind(item.as_bytes().as_slice())
            .bind(Reason::Found.to_string())
            .bind(at.0)
            .fetch_optional(&mut *transaction)
            .await?;
            let Some(row) = opened else { return Ok(None) };
            let task = TaskId(row.try_get(0)?);
            groups::join(&mut transaction, task).await?;
            let event = AuditEvent {
                at,
                kind: AuditKind::Opened,
                actor: reviewer.as_str().to_owned(),
                detail: json!({"task": task.0, "item": item.to_string()}).to_string(),
            };
            append_audit(&mut transaction, &[event]).await?;
            Ok(Some(task))
        };
        let task = open.await.map_err(|error| self.failed(error))?;
        self.commit(transaction).await?;
        Ok(task)
    }
}

/// Binds: the numbers as a JSON array.
pub(super) const FOUND_ITEMS: &str = "
    SELECT i.id, i.hash, t.id AS task, t.state, t.policy, t.score,
        (SELECT s.path FROM sightings AS s WHERE s.item = i.id AND s.gone_at IS NULL
         ORDER BY s.id LIMIT 1) AS path,
        (SELECT s.outcome FROM sightings AS s WHERE s.item = i.id AND s.gone_at IS NULL
         ORDER BY s.outcome = 'block' DESC, s.outcome = 'review' DESC LIMIT 1) AS outcome,
        (SELECT d.action FROM decisions AS d
         WHERE d.item = i.id AND d.action IN ('approve', 'remove')
           AND NOT EXISTS (SELECT 1 FROM decisions AS u WHERE u.undoes = d.id)
         ORDER BY d.id DESC LIMIT 1) AS decision
    FROM json_each(?) AS k CROSS JOIN items AS i ON i.id = k.value
    LEFT JOIN tasks AS t ON t.id = (SELECT max(id) FROM tasks WHERE item = i.id)
    ORDER BY k.key";

fn found_item_of(row: &SqliteRow) -> Result<FoundItem, RowError> {
    let outcome: Option<String> = row.try_get("outcome")?;
    let state: Option<String> = row.try_get("state")?;
    let policy: Option<String> = row.try_get("policy")?;
    let decision: Option<String> = row.try_get("decision")?;
    let state = state.as_deref().map(state_of).transpose()?;
    let undecided = state.is_some_and(|state| state != ReviewState::Closed);
    let task: Option<i64> = row.try_get("task")?;
    Ok(FoundItem {
        number: row.try_get("id")?,
        item: item_of(row.try_get("hash")?)?,
        path: row.try_get::<Option<Vec<u8>>, _>("path")?.map(path_of),
        outcome: outcome.as_deref().map(outcome_of).transpose()?,
        task: task.filter(|_| undecided).map(TaskId),
        state,
        policy: match policy {
            Some(policy) => Some((policy_id_of(policy)?, narrow(row.try_get("score")?))),
            None => None,
        },
        decision: decision.map(action_of).transpose()?,
    })
}

fn action_of(text: String) -> Result<Action, StoreError> {
    Action::parse(&text).ok_or_else(|| unreadable("action", text))
}
