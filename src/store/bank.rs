//! Verbs of the bank: its entries, what they match, and switching them.

use std::path::PathBuf;

use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Row as _, Sqlite, Transaction};
use tracing::warn;

use crate::moderation::perceptual::HASH_BYTES;
use crate::moderation::{
    Action, AuditEvent, AuditKind, Bank, BankKey, BankMatch, BankSource, BankState, BankTwin,
    ItemId, Likeness, PerceptualHash, PolicyId, Reason, Reviewer, TaskId, Timestamp,
};

use super::ingest::Batch;
use super::rows::{RowError, item_of, path_of, perceptual_hash_of, policy_id_of, unreadable};
use super::{Store, StoreError, append_audit, groups, hex};

/// Entries that are read in one go.
const PAGE: u32 = 10_000;
/// Matches are counted for so long before it is told whether they are a flood: an hour.
const HOUR_MS: i64 = 3_600_000;

/// One entry of the bank as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BankEntry {
    /// Its number.
    pub id: i64,
    /// Where it comes from.
    pub source: BankSource,
    /// Approve or Remove.
    pub action: Action,
    /// Whether it speaks.
    pub state: BankState,
    /// The bytes that it speaks for.
    pub item: Option<ItemId>,
    /// The PDQ hash that it speaks for.
    pub looks: Option<[u8; HASH_BYTES]>,
    /// The policies that it speaks for.
    pub policies: Vec<PolicyId>,
    /// Who decided or added it.
    pub reviewer: String,
    /// The list that it stands in.
    pub list: Option<String>,
    /// In the words of who added it.
    pub note: Option<String>,
    /// When it was decided or added.
    pub added_at: Timestamp,
    /// Uploads that it matched.
    pub hits: u64,
    /// When it matched last.
    pub last_hit_at: Option<Timestamp>,
    /// Where its picture lies, or lay.
    pub path: Option<PathBuf>,
}

/// Which entries; all that can match by default, and those that are off.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BankFilter {
    /// Only these.
    pub action: Option<Action>,
    /// Only those in this state; without one, all but the withdrawn.
    pub state: Option<BankState>,
    /// Only those of this list.
    pub list: Option<String>,
}

/// Entries that are switched together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BankSelection {
    /// By number.
    Entries(Vec<i64>),
    /// All of a list.
    List(String),
}

/// An entry that is to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEntry {
    /// By hand, or of a list.
    pub source: BankSource,
    /// Approve or Remove.
    pub action: Action,
    /// The bytes that it speaks for.
    pub item: Option<ItemId>,
    /// The PDQ hash that it speaks for.
    pub looks: Option<[u8; HASH_BYTES]>,
    /// The policies that it speaks for.
    pub policies: Vec<PolicyId>,
    /// The list that it stands in.
    pub list: Option<String>,
    /// Why, in the words of who adds it.
    pub note: Option<String>,
}

/// A stored item that a new entry matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Touched {
    /// The item's number.
    pub number: i64,
    /// Which of the new entries, by place.
    pub entry: usize,
    /// How alike.
    pub likeness: Likeness,
}

/// What came of adding entries.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Added {
    /// The entries' numbers, in the order given.
    pub ids: Vec<i64>,
    /// How many of them were there already.
    pub known: u64,
    /// Items that a person is asked about now and was not before.
    pub asked: u64,
    /// Items that waited already; the match is shown with them.
    pub shown: u64,
}

/// A stored item as the bank looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    /// Its number.
    pub number: i64,
    /// Its bytes.
    pub item: ItemId,
    /// What it looks like, where that was computed.
    pub looks: Option<PerceptualHash>,
}

/// How many entries there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BankCounts {
    /// That match.
    pub on: u64,
    /// That match, and act no more because they matched a flood.
    pub on_hold: u64,
    /// That were switched off.
    pub off: u64,
}

const COLUMNS: &str = "b.*,
    (SELECT s.path FROM sightings AS s JOIN items AS i ON i.id = s.item
     WHERE i.hash = b.sha256 ORDER BY s.gone_at IS NOT NULL, s.id LIMIT 1) AS path";

impl Store {
    /// The entries after this number, by number.
    pub async fn bank_entries(
        &self,
        filter: &BankFilter,
        after: i64,
        limit: u32,
    ) -> Result<Vec<BankEntry>, StoreError> {
        let statement = format!(
            "SELECT {COLUMNS} FROM bank AS b
             WHERE b.id > ?1 AND (?2 IS NULL OR b.action = ?2)
               AND (b.state = ?3 OR (?3 IS NULL AND b.state <> 'withdrawn'))
               AND (?4 IS NULL OR b.list = ?4)
             ORDER BY b.id LIMIT ?5"
        );
        let read = async {
            let rows = sqlx::query(sqlx::AssertSqlSafe(statement))
                .bind(after)
                .bind(filter.action.map(Action::as_str))
                .bind(filter.state.map(BankState::as_str))
                .bind(&filter.list)
                .bind(limit)
                .fetch_all(&self.readers)
                .await?;
            rows.iter().map(entry_of).collect::<Result<_, RowError>>()
        };
        read.await.map_err(|error| self.failed(error))
    }

    /// How many entries there are.
    pub async fn bank_counts(&self) -> Result<BankCounts, StoreError> {
        let rows = sqlx::query("SELECT state, count(*) FROM bank GROUP BY state")
            .fetch_all(&self.readers)
            .await
            .map_err(|source| self.sql(source))?;
        let mut counts = BankCounts::default();
        for row in &rows {
            let read = (row.try_get::<String, _>(0), row.try_get::<i64, _>(1));
            let (state, count) = match read {
                (Ok(state), Ok(count)) => (state, count.unsigned_abs()),
                (Err(source), _) | (_, Err(source)) => return Err(self.sql(source)),
            };
            match BankState::parse(&state) {
                Some(BankState::On) => counts.on = count,
                Some(BankState::OnHold) => counts.on_hold = count,
                Some(BankState::Off) => counts.off = count,
                Some(BankState::Withdrawn) | None => {}
            }
        }
        Ok(counts)
    }

    /// Switches entries on or off, with one audit event. Those that were withdrawn stay so.
    /// Answers how many are in another state now.
    pub async fn switch_bank(
        &self,
        which: &BankSelection,
        state: BankState,
        by: &Reviewer,
        at: Timestamp,
    ) -> Result<u64, StoreError> {
        let (ids, list) = match which {
            BankSelection::Entries(ids) => (Some(Value::from(ids.clone()).to_string()), None),
            BankSelection::List(list) => (None, Some(list)),
        };
        let mut transaction = self.begin().await?;
        let switch = async {
            let rows = sqlx::query(
                "UPDATE bank SET state = ?1, hour_hits = 0,
                     changed = (SELECT coalesce(max(changed), 0) + 1 FROM bank)
                 WHERE (id IN (SELECT value FROM json_each(?2)) OR list = ?3)
                   AND state NOT IN (?1, 'withdrawn') RETURNING id",
            )
            .bind(state.as_str())
            .bind(&ids)
            .bind(list)
            .fetch_all(&mut *transaction)
            .await?;
            if rows.is_empty() {
                return Ok(0);
            }
            let event = AuditEvent {
                at,
                kind: AuditKind::BankSwitched,
                actor: by.as_str().to_owned(),
                detail: json!({
                    "state": state.as_str(),
                    "entries": ids.as_ref().map(|_| {
                        rows.iter().filter_map(|row| row.try_get(0).ok()).collect::<Vec<i64>>()
                    }),
                    "list": list,
                    "count": rows.len(),
                })
                .to_string(),
            };
            append_audit(&mut transaction, &[event]).await?;
            Ok::<_, RowError>(rows.len() as u64)
        };
        let switched = switch.await.map_err(|error| self.failed(error))?;
        self.commit(transaction).await?;
        Ok(switched)
    }

    /// The items after this number, as the bank looks at them.
    pub async fn looked_at(&self, after: i64, limit: u32) -> Result<Vec<Looked>, StoreError> {
        let read = async {
            let rows = sqlx::query(
                "SELECT i.id, i.hash, h.quality, h.forms FROM items AS i
                 LEFT JOIN perceptual_hashes AS h ON h.item = i.id
                 WHERE i.id > ? ORDER BY i.id LIMIT ?",
            )
            .bind(after)
            .bind(limit)
            .fetch_all(&self.readers)
            .await?;
            let looked = |row: &SqliteRow| {
                Ok::<_, RowError>(Looked {
                    number: row.try_get("id")?,
                    item: item_of(row.try_get("hash")?)?,
                    looks: perceptual_hash_of(row)?,
                })
            };
            rows.iter().map(looked).collect::<Result<_, _>>()
        };
        read.await.map_err(|error| self.failed(error))
    }

    /// What is known of the looks of an item; `None` when it is not known at all.
    pub async fn looks_of(&self, item: ItemId) -> Result<Option<Looked>, StoreError> {
        let read = async {
            let row = sqlx::query(
                "SELECT i.id, h.quality, h.forms FROM items AS i
                 LEFT JOIN perceptual_hashes AS h ON h.item = i.id WHERE i.hash = ?",
            )
            .bind(item.as_bytes().as_slice())
            .fetch_optional(&self.readers)
            .await?;
            row.map(|row| {
                let looks = perceptual_hash_of(&row)?;
                Ok::<_, RowError>(Looked { number: row.try_get("id")?, item, looks })
            })
            .transpose()
        };
        read.await.map_err(|error| self.failed(error))
    }

    /// Adds entries, and puts what they match before a person, in ONE transaction with an audit
    /// event. Of those matched, what a person removed already and what lies nowhere is left alone;
    /// what only an approval matches is not asked about, the match is shown where a task waits.
    pub async fn add_to_bank(
        &self,
        entries: &[NewEntry],
        touched: &[Touched],
        by: &Reviewer,
        at: Timestamp,
    ) -> Result<Added, StoreError> {
        let mut transaction = self.begin().await?;
        let add = async {
            let mut added = Added::default();
            for chunk in entries.chunks(1000) {
                for entry in chunk {
                    let (id, known) = write_entry(&mut transaction, entry, by, at).await?;
                    added.ids.push(id);
                    added.known += u64::from(known);
                }
            }
            let mut events = vec![banked(entries, &added, by, at)];
            for one in touched {
                let Some((entry, id)) = entries.get(one.entry).zip(added.ids.get(one.entry)) else {
                    continue;
                };
                let asked = ask_about(&mut transaction, one, *id, entry.action, by, at).await?;
                match asked {
                    Asked::Nobody => {}
                    Asked::Shown => added.shown += 1,
                    Asked::Opened(event) => {
                        added.asked += 1;
                        events.push(event);
                    }
                }
            }
            append_audit(&mut transaction, &events).await?;
            Ok::<_, RowError>(added)
        };
        let added = add.await.map_err(|error| self.failed(error))?;
        self.commit(transaction).await?;
        Ok(added)
    }
}

fn banked(entries: &[NewEntry], added: &Added, by: &Reviewer, at: Timestamp) -> AuditEvent {
    let first = entries.first();
    // Hashes of pictures stand in no event but as the item's, which an erasure finds.
    let item = first.filter(|_| entries.len() == 1).and_then(|entry| entry.item);
    AuditEvent {
        at,
        kind: AuditKind::Banked,
        actor: by.as_str().to_owned(),
        detail: json!({
            "action": first.map(|entry| entry.action.as_str()),
            "entry": added.ids.first().filter(|_| entries.len() == 1),
            "item": item.map(|item| item.to_string()),
            "list": first.and_then(|entry| entry.list.as_deref()),
            "entries": entries.len(),
            "known": added.known,
        })
        .to_string(),
    }
}

/// Answers the entry's number, and whether it was there already.
async fn write_entry(
    transaction: &mut Transaction<'static, Sqlite>,
    entry: &NewEntry,
    by: &Reviewer,
    at: Timestamp,
) -> Result<(i64, bool), RowError> {
    let conflict = match entry.source {
        // A list that is imported again changes nothing: what was switched off stays off.
        BankSource::List => {
            "ON CONFLICT (list, looks, action) WHERE list IS NOT NULL
             DO UPDATE SET state = state"
        }
        BankSource::Hand | BankSource::Decision => {
            "ON CONFLICT (sha256, source) WHERE sha256 IS NOT NULL DO UPDATE SET
                 action = excluded.action, state = 'on', looks = excluded.looks,
                 policies = excluded.policies, reviewer = excluded.reviewer,
                 note = excluded.note, since = excluded.since, added_at = excluded.added_at,
                 changed = excluded.changed"
        }
    };
    let statement = format!(
        "INSERT INTO bank (source, action, state, sha256, looks, policies, reviewer, list, note,
                           since, added_at, changed)
         VALUES (?1, ?2, 'on', ?3, ?4, ?5, ?6, ?7, ?8,
                 (SELECT coalesce(max(id), 0) FROM decisions), ?9,
                 (SELECT coalesce(max(changed), 0) + 1 FROM bank))
         {conflict} RETURNING id, id <= ?10 AS known"
    );
    let last: i64 = sqlx::query("SELECT coalesce(max(id), 0) FROM bank")
        .fetch_one(&mut **transaction)
        .await?
        .try_get(0)?;
    let row = sqlx::query(sqlx::AssertSqlSafe(statement))
        .bind(entry.source.as_str())
        .bind(entry.action.as_str())
        .bind(entry.item.map(|item| item.as_bytes().to_vec()))
        .bind(entry.looks.map(|looks| looks.to_vec()))
        .bind(joined(&entry.policies))
        .bind(by.as_str())
        .bind(&entry.list)
        .bind(&entry.note)
        .bind(at.0)
        .bind(last)
        .fetch_one(&mut **transaction)
        .await?;
    Ok((row.try_get("id")?, row.try_get("known")?))
}

fn joined(policies: &[PolicyId]) -> String {
    policies.iter().map(PolicyId::as_str).collect::<Vec<_>>().join(",")
}

/// What became of a stored item that a new entry matches.
enum Asked {
    /// Nothing is left to ask.
    Nobody,
    /// A task waits already.
    Shown,
    /// A person is asked now.
    Opened(AuditEvent),
}

async fn ask_about(
    transaction: &mut Transaction<'static, Sqlite>,
    touched: &Touched,
    entry: i64,
    action: Action,
    by: &Reviewer,
    at: Timestamp,
) -> Result<Asked, RowError> {
    let row = sqlx::query(
        "SELECT i.hash,
             (SELECT t.id FROM tasks AS t WHERE t.item = i.id AND t.state <> 'closed') AS waiting,
             (SELECT min(s.id) FROM sightings AS s WHERE s.item = i.id AND s.gone_at IS NULL)
                 AS sighting,
             (SELECT d.action FROM decisions AS d
              WHERE d.item = i.id AND d.action IN ('approve', 'remove')
                AND NOT EXISTS (SELECT 1 FROM decisions AS u WHERE u.undoes = d.id)
              ORDER BY d.id DESC LIMIT 1) AS decided
         FROM items AS i WHERE i.id = ?",
    )
    .bind(touched.number)
    .fetch_one(&mut **transaction)
    .await?;
    let waiting: Option<i64> = row.try_get("waiting")?;
    let sighting: Option<i64> = row.try_get("sighting")?;
    let decided: Option<String> = row.try_get("decided")?;
    let removes = action == Action::Remove && decided.as_deref() != Some("remove");
    if waiting.is_none() && (!removes || sighting.is_none()) {
        return Ok(Asked::Nobody);
    }
    write_match(transaction, touched.number, entry, touched.likeness, at).await?;
    let reason = Reason::LikeRemoved(format!("entry {entry}, {}", touched.likeness)).to_string();
    if let Some(task) = waiting {
        if action == Action::Remove {
            sqlx::query(
                "UPDATE tasks SET reason = ?2, audit_rate = NULL
                 WHERE id = ?1 AND (reason IS NULL OR audit_rate IS NOT NULL)",
            )
            .bind(task)
            .bind(&reason)
            .execute(&mut **transaction)
            .await?;
        }
        return Ok(Asked::Shown);
    }
    let task = sqlx::query(
        "INSERT INTO tasks (item, sighting, policy, severity, score, outcome, reason, state,
                            opened_at)
         VALUES (?, ?, NULL, 2, 0, 'review', ?, 'open', ?) RETURNING id",
    )
    .bind(touched.number)
    .bind(sighting)
    .bind(&reason)
    .bind(at.0)
    .fetch_one(&mut **transaction)
    .await?;
    let task = TaskId(task.try_get(0)?);
    groups::join(transaction, task).await?;
    sqlx::query(
        "UPDATE sightings SET outcome = 'review', reason = ?2
         WHERE item = ?1 AND gone_at IS NULL AND outcome = 'allow'",
    )
    .bind(touched.number)
    .bind(&reason)
    .execute(&mut **transaction)
    .await?;
    Ok(Asked::Opened(AuditEvent {
        at,
        kind: AuditKind::Opened,
        actor: by.as_str().to_owned(),
        detail: json!({
            "task": task.0,
            "item": item_of(row.try_get("hash")?)?.to_string(),
            "entry": entry,
        })
        .to_string(),
    }))
}

async fn write_match(
    transaction: &mut Transaction<'static, Sqlite>,
    item: i64,
    entry: i64,
    likeness: Likeness,
    at: Timestamp,
) -> Result<(), sqlx::Error> {
    let bits = match likeness {
        Likeness::SameBytes => None,
        Likeness::Looks(bits) => Some(bits),
    };
    sqlx::query("INSERT OR IGNORE INTO bank_matches (item, entry, bits, at) VALUES (?, ?, ?, ?)")
        .bind(item)
        .bind(entry)
        .bind(bits)
        .bind(at.0)
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

/// Writes down that an upload is a twin, and counts it where it is a new one. An entry that
/// matches a flood is put on hold, with an audit event and a warning.
pub(super) async fn note_match(
    transaction: &mut Transaction<'static, Sqlite>,
    item: i64,
    twin: &BankMatch<'_>,
    is_new: bool,
    at: Timestamp,
    batch: &mut Batch<'_>,
) -> Result<(), RowError> {
    let entry = twin.key.id;
    write_match(transaction, item, entry, twin.likeness, at).await?;
    if !is_new {
        return Ok(());
    }
    let row = sqlx::query(
        "UPDATE bank SET hits = hits + 1, last_hit_at = ?2,
             hour_hits = iif(abs(?2 - hour_start) < ?3, hour_hits + 1, 1),
             hour_start = iif(abs(?2 - hour_start) < ?3, hour_start, ?2)
         WHERE id = ?1 RETURNING hour_hits, state",
    )
    .bind(entry)
    .bind(at.0)
    .bind(HOUR_MS)
    .fetch_one(&mut **transaction)
    .await?;
    let hits = row.try_get::<i64, _>("hour_hits")?.unsigned_abs();
    let state: String = row.try_get("state")?;
    if hits <= batch.settings.bank_flood || state != BankState::On.as_str() {
        return Ok(());
    }
    sqlx::query(
        "UPDATE bank SET state = 'on_hold',
             changed = (SELECT coalesce(max(changed), 0) + 1 FROM bank) WHERE id = ?",
    )
    .bind(entry)
    .execute(&mut **transaction)
    .await?;
    batch.on_hold.insert(entry);
    warn!(
        entry,
        hits,
        action = twin.key.action.as_str(),
        "an entry of the bank matches a flood and is put on hold: what it matches goes to a person; \
         `modtool bank enable` lets it act again"
    );
    batch.events.push(AuditEvent {
        at,
        kind: AuditKind::BankOnHold,
        actor: "modtool".to_owned(),
        detail: json!({"entry": entry, "action": twin.key.action.as_str(), "hits": hits})
            .to_string(),
    });
    Ok(())
}

/// The bank as this process knows it.
#[derive(Debug, Default)]
pub(super) struct KnownBank {
    pub(super) bank: Bank,
    /// The last change that is in it.
    seen: i64,
}

impl KnownBank {
    /// Takes over what changed since the last time. Must run before the transaction changes the
    /// bank itself: what is rolled back must not be known.
    pub(super) async fn refresh(
        &mut self,
        transaction: &mut Transaction<'static, Sqlite>,
    ) -> Result<(), RowError> {
        let row = sqlx::query("SELECT coalesce(max(changed), 0) FROM bank");
        let last: i64 = row.fetch_one(&mut **transaction).await?.try_get(0)?;
        if last < self.seen {
            *self = Self::default();
        }
        if last == self.seen {
            return Ok(());
        }
        let mut after = 0;
        loop {
            let rows = sqlx::query(
                "SELECT id, action, state, sha256, looks, since, policies FROM bank
                 WHERE changed > ? AND id > ? ORDER BY id LIMIT ?",
            )
            .bind(self.seen)
            .bind(after)
            .bind(PAGE)
            .fetch_all(&mut **transaction)
            .await?;
            for row in &rows {
                let (key, state) = key_of(row)?;
                after = key.id;
                match state {
                    BankState::On | BankState::OnHold => self.bank.put(key),
                    BankState::Off | BankState::Withdrawn => self.bank.take(key.id),
                }
            }
            if rows.len() < PAGE as usize {
                self.seen = last;
                return Ok(());
            }
        }
    }
}

/// The item's latest decision that stands speaks for its twins; none that stands, and none does.
/// What a person switched off stays off while it says the same.
pub(super) async fn follow_decisions(
    transaction: &mut Transaction<'static, Sqlite>,
    item: i64,
) -> Result<(), RowError> {
    let standing = sqlx::query(
        "SELECT d.id FROM decisions AS d WHERE d.item = ? AND d.action IN ('approve', 'remove')
           AND NOT EXISTS (SELECT 1 FROM decisions AS u WHERE u.undoes = d.id)
         ORDER BY d.id DESC LIMIT 1",
    )
    .bind(item)
    .fetch_optional(&mut **transaction)
    .await?;
    let Some(standing) = standing else {
        sqlx::query(
            "UPDATE bank SET state = 'withdrawn',
                 changed = (SELECT coalesce(max(changed), 0) + 1 FROM bank)
             WHERE source = 'decision' AND state <> 'withdrawn'
               AND sha256 = (SELECT hash FROM items WHERE id = ?)",
        )
        .bind(item)
        .execute(&mut **transaction)
        .await?;
        return Ok(());
    };
    // What could not be read has no bytes to speak for.
    sqlx::query(
        "INSERT INTO bank (source, action, state, sha256, looks, policies, reviewer, since,
                           added_at, changed)
         SELECT 'decision', d.action, 'on', i.hash,
             (SELECT substr(h.forms, 1, 32) FROM perceptual_hashes AS h
              WHERE h.item = i.id AND h.quality >= ?2),
             coalesce(CASE
                 WHEN d.action = 'remove' AND d.reason IS NOT NULL THEN d.reason
                 WHEN d.action = 'remove' THEN
                     (SELECT max(p.policy) FROM task_policies AS p WHERE p.task = d.task
                      HAVING count(*) = 1)
                 ELSE (SELECT group_concat(p.policy) FROM task_policies AS p WHERE p.task = d.task)
             END, ''),
             d.reviewer, d.id - 1, d.at, (SELECT coalesce(max(changed), 0) + 1 FROM bank)
         FROM decisions AS d JOIN items AS i ON i.id = d.item
         WHERE d.id = ?1 AND coalesce(i.reason, '') NOT LIKE 'unreadable%'
           AND coalesce(i.reason, '') NOT LIKE 'unjudged%'
         ON CONFLICT (sha256, source) WHERE sha256 IS NOT NULL DO UPDATE SET
             state = iif(state = 'off' AND action = excluded.action, 'off', 'on'),
             action = excluded.action, looks = excluded.looks, policies = excluded.policies,
             reviewer = excluded.reviewer, since = excluded.since, added_at = excluded.added_at,
             changed = excluded.changed",
    )
    .bind(standing.try_get::<i64, _>("id")?)
    .bind(PerceptualHash::LEAST_QUALITY)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// The same for the item of a task.
pub(super) async fn follow_decisions_about(
    transaction: &mut Transaction<'static, Sqlite>,
    task: TaskId,
) -> Result<(), RowError> {
    let row = sqlx::query("SELECT item FROM tasks WHERE id = ?").bind(task.0);
    let item: i64 = row.fetch_one(&mut **transaction).await?.try_get(0)?;
    follow_decisions(transaction, item).await
}

/// Makes the bank forget an item that is erased: a row without hash, name and note stays, because
/// verdicts name its number.
pub(super) async fn forget(
    transaction: &mut Transaction<'static, Sqlite>,
    item: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE bank SET state = 'withdrawn', sha256 = NULL, looks = NULL, note = NULL,
             changed = (SELECT coalesce(max(changed), 0) + 1 FROM bank)
         WHERE sha256 = (SELECT hash FROM items WHERE id = ?)",
    )
    .bind(item)
    .execute(&mut **transaction)
    .await?;
    sqlx::query("DELETE FROM bank_matches WHERE item = ?")
        .bind(item)
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

/// What an item was found to be a twin of, the likest first.
pub(super) async fn twins_of(
    reader: &mut SqliteConnection,
    item: i64,
) -> Result<Vec<BankTwin>, RowError> {
    let rows = sqlx::query(TWINS_OF_AN_ITEM).bind(item).fetch_all(reader).await?;
    rows.iter().map(twin_of).collect()
}

/// Binds: item.
pub(super) const TWINS_OF_AN_ITEM: &str =
    "SELECT b.id, b.action, b.state, b.source, b.reviewer, b.added_at, b.list, m.bits
     FROM bank_matches AS m JOIN bank AS b ON b.id = m.entry
     WHERE m.item = ? AND b.state <> 'withdrawn'
     ORDER BY m.bits IS NOT NULL, m.bits, b.id LIMIT 20";

fn twin_of(row: &SqliteRow) -> Result<BankTwin, RowError> {
    let (action, state, source) = spellings(row)?;
    let bits: Option<u32> = row.try_get("bits")?;
    Ok(BankTwin {
        entry: row.try_get("id")?,
        action,
        state,
        source,
        likeness: bits.map_or(Likeness::SameBytes, Likeness::Looks),
        reviewer: row.try_get("reviewer")?,
        added_at: Timestamp(row.try_get("added_at")?),
        list: row.try_get("list")?,
    })
}

fn spellings(row: &SqliteRow) -> Result<(Action, BankState, BankSource), RowError> {
    let action: String = row.try_get("action")?;
    let state: String = row.try_get("state")?;
    let source: String = row.try_get("source")?;
    Ok((
        Action::parse(&action).ok_or_else(|| unreadable("action", action))?,
        BankState::parse(&state).ok_or_else(|| unreadable("state of the bank", state))?,
        BankSource::parse(&source).ok_or_else(|| unreadable("source of the bank", source))?,
    ))
}

fn policies_of(row: &SqliteRow) -> Result<Vec<PolicyId>, RowError> {
    let policies: &str = row.try_get("policies")?;
    let ids = policies.split(',').filter(|id| !id.is_empty());
    ids.map(|id| Ok(policy_id_of(id.to_owned())?)).collect()
}

fn looks_of(row: &SqliteRow) -> Result<Option<[u8; HASH_BYTES]>, RowError> {
    let looks: Option<&[u8]> = row.try_get("looks")?;
    let torn = |looks: &[u8]| unreadable("perceptual hash", hex(looks));
    Ok(looks.map(|looks| looks.try_into().map_err(|_torn| torn(looks))).transpose()?)
}

fn bytes_of(row: &SqliteRow) -> Result<Option<ItemId>, RowError> {
    let bytes: Option<&[u8]> = row.try_get("sha256")?;
    Ok(bytes.map(item_of).transpose()?)
}

fn key_of(row: &SqliteRow) -> Result<(BankKey, BankState), RowError> {
    let action: String = row.try_get("action")?;
    let state: String = row.try_get("state")?;
    let state = BankState::parse(&state).ok_or_else(|| unreadable("state of the bank", state))?;
    let key = BankKey {
        id: row.try_get("id")?,
        action: Action::parse(&action).ok_or_else(|| unreadable("action", action))?,
        acts: state == BankState::On,
        bytes: bytes_of(row)?,
        looks: looks_of(row)?,
        since: row.try_get("since")?,
        policies: policies_of(row)?,
    };
    Ok((key, state))
}

fn entry_of(row: &SqliteRow) -> Result<BankEntry, RowError> {
    let (action, state, source) = spellings(row)?;
    Ok(BankEntry {
        id: row.try_get("id")?,
        source,
        action,
        state,
        item: bytes_of(row)?,
        looks: looks_of(row)?,
        policies: policies_of(row)?,
        reviewer: row.try_get("reviewer")?,
        list: row.try_get("list")?,
        note: row.try_get("note")?,
        added_at: Timestamp(row.try_get("added_at")?),
        hits: row.try_get::<i64, _>("hits")?.unsigned_abs(),
        last_hit_at: row.try_get::<Option<i64>, _>("last_hit_at")?.map(Timestamp),
        path: row.try_get::<Option<Vec<u8>>, _>("path")?.map(path_of),
    })
}
