//! Verbs of hooks: each reads the audit log at its own pace, so nothing is lost when a program
//! that is told is away, or we are.

use serde_json::{Map, Value, json};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, Sqlite, Transaction};
use tracing::warn;

use crate::moderation::escape::{escape, escape_path};
use crate::moderation::{AuditKind, Timestamp};

use super::audit::last_sequence;
use super::rows::{RowError, path_of};
use super::{Store, StoreError, hex};

/// Of the events that an earlier version may have missed, so many are delivered by themselves.
const MOST_AGAIN: i64 = 10_000;
/// They are at most so much older than the latest one: 30 days.
const LONGEST_AGAIN_MS: i64 = 30 * 86_400_000;
/// What `modtool hooks list` says of the others.
const MAYBE_MISSED: &str = "an earlier version may not have told this event";

/// A hook's name and what it wants to hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Its name; deliveries are kept under it.
    pub name: String,
    /// Which kinds of events.
    pub kinds: Vec<AuditKind>,
}

impl Subscription {
    /// As a JSON array.
    fn listed_kinds(&self) -> String {
        self.kinds.iter().map(|kind| kind.as_str()).collect::<Value>().to_string()
    }
}

/// One event that one hook is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Which hook.
    pub hook: String,
    /// Which event.
    pub sequence: i64,
    /// How often it was tried in vain.
    pub attempts: u32,
    /// The same at every try of this event, and of no other: the event's hash.
    pub key: String,
    /// The event as one JSON object.
    pub body: String,
}

/// How a hook stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookCounts {
    /// Which hook.
    pub name: String,
    /// Events that wait to be told.
    pub waiting: u64,
    /// Events that were given up.
    pub dead: u64,
    /// The last thing that went wrong, of those.
    pub problem: Option<String>,
}

impl Store {
    /// Lets each hook read on: new events of its kinds become deliveries. A hook that was never
    /// seen begins with what happens from now on. Answers how many deliveries were added.
    pub async fn fill_hooks(
        &self,
        subscriptions: &[Subscription],
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let mut transaction = self.begin().await?;
        let fill = async {
            let last = last_sequence(&mut *transaction).await?;
            let mut added = 0;
            for subscription in subscriptions {
                added += fill_one(&mut transaction, subscription, last, now).await?;
            }
            Ok(added)
        };
        let added = fill.await.map_err(|source: sqlx::Error| self.sql(source))?;
        self.commit(transaction).await?;
        Ok(added)
    }

    /// Takes some deliveries that are due, the oldest event first, and keeps others from taking
    /// them until `until`: whoever takes one and dies has it tried again then.
    pub async fn take_deliveries(
        &self,
        hook: &str,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<Delivery>, StoreError> {
        let mut transaction = self.begin().await?;
        let take = async {
            let rows = sqlx::query(
                "UPDATE hook_deliveries SET next_try_at = ?3 WHERE (hook, sequence) IN (
                     SELECT hook, sequence FROM hook_deliveries
                     WHERE hook = ?1 AND NOT dead AND next_try_at <= ?2
                     ORDER BY sequence LIMIT ?4)
                 RETURNING sequence, attempts",
            )
            .bind(hook)
            .bind(now.0)
            .bind(until.0)
            .bind(limit)
            .fetch_all(&mut *transaction)
            .await?;
            let mut taken = Vec::with_capacity(rows.len());
            for row in rows {
                let sequence: i64 = row.try_get("sequence")?;
                let event = sqlx::query(EVENT).bind(sequence).fetch_one(&mut *transaction).await?;
                let (key, body) = event_of(&event)?;
                let attempts = row.try_get("attempts")?;
                taken.push(Delivery { hook: hook.to_owned(), sequence, attempts, key, body });
            }
            taken.sort_by_key(|delivery| delivery.sequence);
            Ok(taken)
        };
        let taken = take.await.map_err(|error: RowError| self.failed(error))?;
        self.commit(transaction).await?;
        Ok(taken)
    }

    /// The hook was told.
    pub async fn record_delivered(&self, delivery: &Delivery) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM hook_deliveries WHERE hook = ? AND sequence = ?")
            .bind(&delivery.hook)
            .bind(delivery.sequence)
            .execute(&self.writer)
            .await
            .map_err(|source| self.sql(source))?;
        Ok(())
    }

    /// The hook could not be told; it is tried again at `again_at`, or never without one.
    pub async fn record_not_delivered(
        &self,
        delivery: &Delivery,
        why: &str,
        again_at: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE hook_deliveries SET attempts = attempts + 1, problem = ?, dead = ?,
                 next_try_at = ? WHERE hook = ? AND sequence = ?",
        )
        .bind(why)
        .bind(again_at.is_none())
        .bind(again_at.map_or(i64::MAX, |at| at.0))
        .bind(&delivery.hook)
        .bind(delivery.sequence)
        .execute(&self.writer)
        .await
        .map_err(|source| self.sql(source))?;
        Ok(())
    }

    /// How all hooks that ever were stand, by name.
    pub async fn hook_counts(&self) -> Result<Vec<HookCounts>, StoreError> {
        let rows = sqlx::query(
            "SELECT h.name, coalesce(sum(d.dead = 0), 0) AS waiting,
                    coalesce(sum(d.dead), 0) AS dead, max(d.problem) AS problem
             FROM hooks AS h LEFT JOIN hook_deliveries AS d ON d.hook = h.name
             GROUP BY h.name ORDER BY h.name",
        )
        .fetch_all(&self.readers)
        .await
        .map_err(|source| self.sql(source))?;
        let counts = |row: &SqliteRow| {
            Ok(HookCounts {
                name: row.try_get("name")?,
                waiting: row.try_get::<i64, _>("waiting")?.unsigned_abs(),
                dead: row.try_get::<i64, _>("dead")?.unsigned_abs(),
                problem: row.try_get("problem")?,
            })
        };
        rows.iter().map(counts).collect::<Result<_, _>>().map_err(|source| self.sql(source))
    }

    /// Gives what was given up another chance; answers how many events that are.
    pub async fn revive_deliveries(&self, hook: &str, now: Timestamp) -> Result<u64, StoreError> {
        let revived = sqlx::query(
            "UPDATE hook_deliveries SET dead = 0, attempts = 0, next_try_at = ?
             WHERE hook = ? AND dead",
        )
        .bind(now.0)
        .bind(hook)
        .execute(&self.writer)
        .await
        .map_err(|source| self.sql(source))?;
        Ok(revived.rows_affected())
    }
}

/// Lets one hook read up to the audit event `last`.
async fn fill_one(
    transaction: &mut Transaction<'static, Sqlite>,
    hook: &Subscription,
    last: i64,
    now: Timestamp,
) -> Result<u64, sqlx::Error> {
    let known = sqlx::query(
        "INSERT INTO hooks (name, sequence) VALUES (?1, ?2)
         ON CONFLICT DO UPDATE SET sequence = sequence RETURNING sequence, doubted_after",
    )
    .bind(&hook.name)
    .bind(last)
    .fetch_one(&mut **transaction)
    .await?;
    let sequence: i64 = known.try_get("sequence")?;
    let doubted_after: Option<i64> = known.try_get("doubted_after")?;
    let mut added = 0;
    if let Some(after) = doubted_after {
        added += deliver_again(transaction, hook, after, sequence, now).await?;
    }
    if sequence >= last {
        return Ok(added);
    }
    added += sqlx::query(
        "INSERT OR IGNORE INTO hook_deliveries (hook, sequence, next_try_at)
         SELECT ?1, sequence, ?2 FROM audit_events
         WHERE sequence > ?3 AND sequence <= ?4 AND kind IN (SELECT value FROM json_each(?5))",
    )
    .bind(&hook.name)
    .bind(now.0)
    .bind(sequence)
    .bind(last)
    .bind(hook.listed_kinds())
    .execute(&mut **transaction)
    .await?
    .rows_affected();
    sqlx::query("UPDATE hooks SET sequence = ? WHERE name = ?")
        .bind(last)
        .bind(&hook.name)
        .execute(&mut **transaction)
        .await?;
    Ok(added)
}

/// Delivers what an earlier version may have passed over (see migration 16). Of a long time only
/// the latest events are told by themselves; the older ones count as given up, which
/// `modtool hooks list` shows and `modtool hooks retry` delivers.
async fn deliver_again(
    transaction: &mut Transaction<'static, Sqlite>,
    hook: &Subscription,
    after: i64,
    until: i64,
    now: Timestamp,
) -> Result<u64, sqlx::Error> {
    let rows = sqlx::query(
        "INSERT OR IGNORE INTO hook_deliveries (hook, sequence, next_try_at, dead, problem)
         SELECT ?1, sequence, iif(soon, ?2, ?3), NOT soon, iif(soon, NULL, ?4)
         FROM (SELECT sequence,
                   row_number() OVER (ORDER BY sequence DESC) <= ?5
                   AND at >= coalesce((SELECT at FROM audit_events WHERE sequence = ?8), at) - ?6
                       AS soon
               FROM audit_events
               WHERE sequence > ?7 AND sequence <= ?8
                 AND kind IN (SELECT value FROM json_each(?9)))
         RETURNING dead",
    )
    .bind(&hook.name)
    .bind(now.0)
    .bind(i64::MAX)
    .bind(MAYBE_MISSED)
    .bind(MOST_AGAIN)
    .bind(LONGEST_AGAIN_MS)
    .bind(after)
    .bind(until)
    .bind(hook.listed_kinds())
    .fetch_all(&mut **transaction)
    .await?;
    let mut given_up = 0_usize;
    for row in &rows {
        given_up += usize::from(row.try_get::<bool, _>("dead")?);
    }
    sqlx::query("UPDATE hooks SET doubted_after = NULL WHERE name = ?")
        .bind(&hook.name)
        .execute(&mut **transaction)
        .await?;
    if !rows.is_empty() {
        warn!(
            hook = escape(hook.name.as_bytes()),
            again = rows.len() - given_up,
            given_up,
            "an earlier version may not have told this hook of these events: the latest are \
             delivered (perhaps again); `modtool hooks retry` delivers those that were given up"
        );
    }
    Ok(rows.len() as u64)
}

/// Binds: sequence. The sighting is that of the event, or the item's latest.
const EVENT: &str = "
    SELECT e.sequence, e.at, e.kind, e.actor, e.hash, d.detail,
           (SELECT s.path FROM sightings AS s WHERE s.id = coalesce(
                json_extract(d.detail, '$.sighting'),
                (SELECT max(n.id) FROM sightings AS n JOIN items AS i ON i.id = n.item
                 WHERE i.hash = unhex(json_extract(d.detail, '$.item'))))) AS path
    FROM audit_events AS e LEFT JOIN audit_details AS d ON d.sequence = e.sequence
    WHERE e.sequence = ?";

fn event_of(row: &SqliteRow) -> Result<(String, String), RowError> {
    let hash: &[u8] = row.try_get("hash")?;
    let key = hex(hash);
    let detail: Option<String> = row.try_get("detail")?;
    let path: Option<Vec<u8>> = row.try_get("path")?;
    let mut event = Map::new();
    event.insert("event".into(), row.try_get::<String, _>("kind")?.into());
    event.insert("id".into(), key.clone().into());
    event.insert("sequence".into(), row.try_get::<i64, _>("sequence")?.into());
    event.insert("at_ms".into(), row.try_get::<i64, _>("at")?.into());
    event.insert("actor".into(), row.try_get::<String, _>("actor")?.into());
    if let Some(path) = path.map(path_of) {
        // A name that is not UTF-8 comes readable; the item's hash is the exact name.
        let text = path.to_str().map_or_else(|| escape_path(&path), ToOwned::to_owned);
        event.insert("path".into(), text.into());
    }
    let detail = detail.and_then(|detail| serde_json::from_str(&detail).ok());
    event.insert("detail".into(), detail.unwrap_or(json!({"erased": true})));
    Ok((key, Value::Object(event).to_string()))
}
