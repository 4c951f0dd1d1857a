//! Verbs of judging again what is stored, by other policies.

use serde_json::json;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::moderation::{
    AuditEvent, AuditKind, Doubts, Embedding, Fingerprint, ItemId, Outcome, Recipe, ReviewState,
    Sighting, TaskId, Timestamp, Verdict,
};

use super::ingest::set_hash;
use super::queue::set_state;
use super::rows::{RowError, item_of, outcome_of, path_of, perceptual_hash_of, unreadable};
use super::{FileStat, Judged, JudgedBy, PictureFacts, Recorded, Store, StoreError, append_audit};

/// One item with all that judging it again needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Rejudge {
    /// Its number; pass the last one back to get the next page.
    pub number: i64,
    /// Its hash.
    pub item: ItemId,
    /// Bytes.
    pub bytes: u64,
    /// What the decoder saw.
    pub facts: Option<PictureFacts>,
    /// Its views.
    pub views: Vec<Embedding>,
    /// What made them.
    pub recipe: Recipe,
    /// Where it lies now.
    pub seen: Vec<Seen>,
}

/// One path of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// The sighting's number.
    pub number: i64,
    /// Where.
    pub sighting: Sighting,
    /// As of when its bytes were read.
    pub stat: FileStat,
    /// The outcome on record.
    pub outcome: Outcome,
    policy_set: Vec<u8>,
    same_model: bool,
}

impl Seen {
    /// Whether exactly these policies have judged it already.
    pub fn is_judged_by(&self, verdict: &Verdict) -> bool {
        self.same_model && self.policy_set == set_hash(verdict)
    }
}

impl Store {
    /// The items after this number that a model has seen and that lie somewhere.
    pub async fn items_to_rejudge(
        &self,
        fingerprint: &Fingerprint,
        after: i64,
        limit: u32,
    ) -> Result<Vec<Rejudge>, StoreError> {
        let read = async {
            let mut reader = self.readers.acquire().await?;
            let rows = sqlx::query(
                "SELECT i.*, h.quality, h.forms FROM items AS i
                 LEFT JOIN perceptual_hashes AS h ON h.item = i.id
                 WHERE i.id > ?1
                   AND EXISTS (SELECT 1 FROM embeddings AS e WHERE e.item = i.id AND e.model =
                               (SELECT id FROM models WHERE fingerprint = ?2))
                   AND EXISTS (SELECT 1 FROM sightings AS s
                               WHERE s.item = i.id AND s.gone_at IS NULL)
                 ORDER BY i.id LIMIT ?3",
            )
            .bind(after)
            .bind(&fingerprint.0)
            .bind(limit)
            .fetch_all(&mut *reader)
            .await?;
            let mut items = Vec::with_capacity(rows.len());
            for row in &rows {
                let mut item = rejudge_of(row)?;
                let views = sqlx::query(
                    "SELECT vector, recipe FROM embeddings WHERE item = ? AND model =
                     (SELECT id FROM models WHERE fingerprint = ?) ORDER BY view",
                )
                .bind(item.number)
                .bind(&fingerprint.0)
                .fetch_all(&mut *reader)
                .await?;
                for view in &views {
                    item.recipe = Recipe(view.try_get("recipe")?);
                    let view = Embedding::from_f16_bytes(view.try_get("vector")?);
                    item.views.push(view.map_err(|torn| unreadable("embedding", torn))?);
                }
                let seen = sqlx::query(
                    "SELECT s.*, coalesce(m.fingerprint = ?2, 0) AS same_model FROM sightings AS s
                     LEFT JOIN models AS m ON m.id = s.model
                     WHERE s.item = ?1 AND s.gone_at IS NULL ORDER BY s.id",
                )
                .bind(item.number)
                .bind(&fingerprint.0)
                .fetch_all(&mut *reader)
                .await?;
                item.seen = seen.iter().map(seen_of).collect::<Result<_, _>>()?;
                items.push(item);
            }
            Ok(items)
        };
        read.await.map_err(|error| self.failed(error))
    }

    /// Writes new verdicts about stored sightings down; `None` for one whose path was taken by
    /// other bytes meanwhile.
    pub async fn record_rejudged(
        &self,
        judged_by: &JudgedBy,
        judged: &[(i64, Judged)],
        at: Timestamp,
    ) -> Result<Vec<Option<Recorded>>, StoreError> {
        let judged: Vec<_> = judged.iter().map(|(number, one)| (Some(*number), one)).collect();
        self.record(judged_by, &judged, at).await
    }

    /// How many open tasks no policy flags any more, wherever their item lies.
    pub async fn count_unflagged_tasks(&self) -> Result<u64, StoreError> {
        let statement = format!("SELECT count(*) FROM tasks AS t WHERE {UNFLAGGED}");
        let row = sqlx::query(sqlx::AssertSqlSafe(statement)).fetch_one(&self.readers).await;
        let count: i64 = row.and_then(|row| row.try_get(0)).map_err(|source| self.sql(source))?;
        Ok(count.unsigned_abs())
    }

    /// Closes those tasks, each with an audit event; answers how many they were.
    pub async fn close_unflagged_tasks(&self, at: Timestamp) -> Result<u64, StoreError> {
        let mut transaction = self.begin().await?;
        let close = async {
            let statement = format!(
                "SELECT t.id, (SELECT i.hash FROM items AS i WHERE i.id = t.item) AS hash
                 FROM tasks AS t WHERE {UNFLAGGED}"
            );
            let rows =
                sqlx::query(sqlx::AssertSqlSafe(statement)).fetch_all(&mut *transaction).await?;
            let mut events = Vec::with_capacity(rows.len());
            for row in &rows {
                let task = TaskId(row.try_get("id")?);
                set_state(&mut transaction, task, ReviewState::Closed, at).await?;
                events.push(AuditEvent {
                    at,
                    kind: AuditKind::Superseded,
                    actor: "modtool".to_owned(),
                    detail: json!({
                        "item": item_of(row.try_get("hash")?)?.to_string(),
                        "task": task.0,
                        "why": "no policy flags it any more",
                    })
                    .to_string(),
                });
            }
            append_audit(&mut transaction, &events).await?;
            Ok::<_, RowError>(rows.len() as u64)
        };
        let closed = close.await.map_err(|error| self.failed(error))?;
        self.commit(transaction).await?;
        Ok(closed)
    }
}

/// Open, flagged by scores alone, lying somewhere, allowed everywhere, and not held. What was
/// escalated, removed before or could not be judged stays for a person, and so do samples.
const UNFLAGGED: &str = "t.state = 'open' AND t.audit_rate IS NULL AND t.policy IS NOT NULL
    AND coalesce(t.reason, '') NOT IN ('removed_before', 'held')
    AND coalesce(t.reason, '') NOT LIKE 'like_removed:%'
    AND coalesce(t.reason, '') NOT LIKE 'inherited:%'
    AND EXISTS (SELECT 1 FROM sightings AS s WHERE s.item = t.item AND s.gone_at IS NULL)
    AND NOT EXISTS (SELECT 1 FROM sightings AS s
                    WHERE s.item = t.item AND s.gone_at IS NULL AND s.outcome <> 'allow')
    AND NOT EXISTS (SELECT 1 FROM placements AS p
                    WHERE p.item = t.item AND p.state = 'quarantined')";

fn rejudge_of(row: &SqliteRow) -> Result<Rejudge, RowError> {
    let format: Option<String> = row.try_get("format")?;
    let facts = format
        .map(|format| {
            Ok::<_, RowError>(PictureFacts {
                format,
                width: row.try_get("width")?,
                height: row.try_get("height")?,
                frames: row.try_get("frames")?,
                signals: crate::store::rows::signals_of(row.try_get("signals")?),
                doubts: Doubts::parse(row.try_get("doubts")?),
                hash: perceptual_hash_of(row)?,
            })
        })
        .transpose()?;
    Ok(Rejudge {
        number: row.try_get("id")?,
        item: item_of(row.try_get("hash")?)?,
        bytes: row.try_get::<i64, _>("bytes")?.unsigned_abs(),
        facts,
        views: Vec::new(),
        recipe: Recipe::default(),
        seen: Vec::new(),
    })
}

fn seen_of(row: &SqliteRow) -> Result<Seen, RowError> {
    let number = |column: &str| row.try_get::<i64, _>(column);
    Ok(Seen {
        number: number("id")?,
        sighting: Sighting {
            path: path_of(row.try_get("path")?),
            root: path_of(row.try_get("root")?),
        },
        stat: FileStat {
            size: number("size")?.cast_unsigned(),
            mtime_ns: number("mtime_ns")?,
            ctime_ns: number("ctime_ns")?,
            inode: number("inode")?.cast_unsigned(),
        },
        outcome: outcome_of(row.try_get("outcome")?)?,
        policy_set: row.try_get("policy_set")?,
        same_model: row.try_get("same_model")?,
    })
}
