//! Verbs that read the whole past, block by block: stored vectors, what was recorded, decisions.

use std::collections::HashMap;
use std::path::PathBuf;

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::moderation::{
    Action, DecidedItem, Fingerprint, ItemId, Outcome, PolicyHash, PolicyId, Sample, Sighting,
    Timestamp,
};

use super::rows::{RowError, item_of, outcome_of, path_of, policy_id_of, unreadable};
use super::{Store, StoreError};

/// What a block is to hold besides vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Nothing.
    Vectors,
    /// Where each item lies now, and what was recorded about it.
    Sightings,
}

/// One item with stored vectors.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryItem {
    /// Its number in the store; items come by it.
    pub number: i64,
    /// How many vectors it has.
    pub views: usize,
    /// Where it lies now; empty unless asked for.
    pub sightings: Vec<Sighting>,
    /// The worst outcome on record over those; none unless asked for.
    pub recorded: Option<Outcome>,
}

/// Some items and their vectors.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HistoryBlock {
    /// By number.
    pub items: Vec<HistoryItem>,
    /// Two bytes a component, item by item, view by view.
    pub vectors: Vec<u8>,
}

impl Store {
    /// The number before the first item that was first seen at or after this time.
    pub async fn history_start(&self, since: Timestamp) -> Result<i64, StoreError> {
        let row = sqlx::query(
            "SELECT coalesce((SELECT min(id) - 1 FROM items WHERE first_seen >= ?1),
                             (SELECT max(id) FROM items), 0)",
        )
        .bind(since.0)
        .fetch_one(&self.readers)
        .await;
        row.and_then(|row| row.try_get(0)).map_err(|source| self.sql(source))
    }

    /// The items after this number that a model has seen, at most `limit` vectors of them and
    /// always whole items. Empty at the end.
    pub async fn history(
        &self,
        fingerprint: &Fingerprint,
        after: i64,
        wanted: Wanted,
        limit: u32,
    ) -> Result<HistoryBlock, StoreError> {
        self.read_history(fingerprint, after, wanted, limit)
            .await
            .map_err(|error| self.failed(error))
    }

    async fn read_history(
        &self,
        fingerprint: &Fingerprint,
        after: i64,
        wanted: Wanted,
        limit: u32,
    ) -> Result<HistoryBlock, RowError> {
        let mut reader = self.readers.acquire().await?;
        // One row for the whole block: a row for each vector would cost more than multiplying it
        // does. Joining blobs as texts leaves their bytes as they are; their number is checked.
        let row = sqlx::query(
            "SELECT CAST(group_concat(vector, '') AS BLOB) AS vectors, sum(length(vector)) AS bytes,
                    group_concat(item) AS items
             FROM (SELECT item, vector FROM embeddings
                   WHERE model = (SELECT id FROM models WHERE fingerprint = ?1) AND item > ?2
                   ORDER BY item, view LIMIT ?3)",
        )
        .bind(&fingerprint.0)
        .bind(after)
        .bind(limit)
        .fetch_one(&mut *reader)
        .await?;
        let mut block = HistoryBlock::joined(&row)?;
        // The limit may have cut the last item in two; it begins the next block.
        let views: usize = block.items.iter().map(|item| item.views).sum();
        if views == limit as usize
            && block.items.len() > 1
            && let Some(cut) = block.items.pop()
        {
            block.vectors.truncate(block.vectors.len() / views * (views - cut.views));
        }
        if let (Wanted::Sightings, Some(last)) = (wanted, block.items.last()) {
            let rows = sqlx::query(
                "SELECT item, path, root, outcome FROM sightings
                 WHERE item > ? AND item <= ? AND gone_at IS NULL ORDER BY item, path",
            )
            .bind(after)
            .bind(last.number)
            .fetch_all(&mut *reader)
            .await?;
            add_sightings(&mut block.items, &rows)?;
        }
        Ok(block)
    }

    /// The vectors of these items by one model, as a block without sightings; items that it never
    /// saw are left out. Meant for some hundreds of items at a time.
    pub async fn vectors_of(
        &self,
        fingerprint: &Fingerprint,
        numbers: &[i64],
    ) -> Result<HistoryBlock, StoreError> {
        let read = async {
            let list = serde_json::Value::from(numbers).to_string();
            let rows = sqlx::query(
                "SELECT e.item, e.vector FROM json_each(?1) AS n JOIN embeddings AS e
                 ON e.item = n.value
                    AND e.model = (SELECT id FROM models WHERE fingerprint = ?2)
                 ORDER BY e.item, e.view",
            )
            .bind(list)
            .bind(&fingerprint.0)
            .fetch_all(&self.readers)
            .await?;
            let mut block = HistoryBlock::default();
            for row in &rows {
                block.add(row)?;
            }
            Ok(block)
        };
        read.await.map_err(|error| self.failed(error))
    }

    /// How many items there are after this number.
    pub async fn count_items(&self, after: i64) -> Result<u64, StoreError> {
        let row = sqlx::query("SELECT count(*) FROM items WHERE id > ?")
            .bind(after)
            .fetch_one(&self.readers)
            .await;
        let count: i64 = row.and_then(|row| row.try_get(0)).map_err(|source| self.sql(source))?;
        Ok(count.unsigned_abs())
    }

    /// Each decided item once, with its latest decision that stands, by number.
    pub async fn latest_decisions(&self) -> Result<Vec<DecidedItem>, StoreError> {
        let read = async {
            let rows = sqlx::query(
                "SELECT d.item, d.action, d.reason, d.at,
                        (SELECT group_concat(p.policy) FROM task_policies AS p WHERE p.task = d.task)
                            AS flagged
                 FROM decisions AS d WHERE d.id IN (
                     SELECT max(l.id) FROM decisions AS l WHERE l.action IN ('approve', 'remove')
                     AND NOT EXISTS (SELECT 1 FROM decisions AS u WHERE u.undoes = l.id)
                     GROUP BY l.item)
                 ORDER BY d.item",
            )
            .fetch_all(&self.readers)
            .await?;
            rows.iter().map(decided_of).collect::<Result<_, RowError>>()
        };
        read.await.map_err(|error| self.failed(error))
    }

    /// How many removed items policies had flagged, and the decided samples of what they had not.
    /// What a person or the bank found counts for neither: no policy did, and no chance chose it.
    pub async fn recall_samples(&self) -> Result<(u64, Vec<Sample>), StoreError> {
        let rows = sqlx::query(
            "SELECT t.audit_rate, d.action = 'remove' AS removed, t.policy IS NOT NULL AS flagged
             FROM decisions AS d JOIN tasks AS t ON t.id = d.task WHERE d.id IN (
                 SELECT max(l.id) FROM decisions AS l WHERE l.action IN ('approve', 'remove')
                 AND NOT EXISTS (SELECT 1 FROM decisions AS u WHERE u.undoes = l.id)
                 GROUP BY l.item)",
        )
        .fetch_all(&self.readers)
        .await
        .map_err(|source| self.sql(source))?;
        let (mut found, mut samples) = (0, Vec::new());
        for row in &rows {
            let read = || {
                Ok((row.try_get("audit_rate")?, row.try_get("removed")?, row.try_get("flagged")?))
            };
            let (rate, violates, flagged): (Option<f64>, bool, bool) =
                read().map_err(|source| self.sql(source))?;
            match rate {
                Some(rate) => samples.push(Sample { rate, violates }),
                None => found += u64::from(violates && flagged),
            }
        }
        Ok((found, samples))
    }

    /// Hash and one path for each of these items, where they are known.
    pub async fn name_items(
        &self,
        numbers: &[i64],
    ) -> Result<HashMap<i64, (ItemId, Option<PathBuf>)>, StoreError> {
        let read = async {
            let list = serde_json::Value::from(numbers).to_string();
            let rows = sqlx::query(
                "SELECT i.id, i.hash, (SELECT s.path FROM sightings AS s WHERE s.item = i.id
                                       ORDER BY s.gone_at IS NOT NULL, s.id LIMIT 1) AS path
                 FROM items AS i WHERE i.id IN (SELECT value FROM json_each(?))",
            )
            .bind(list)
            .fetch_all(&self.readers)
            .await?;
            let named = |row: &SqliteRow| {
                let path: Option<Vec<u8>> = row.try_get("path")?;
                let item = item_of(row.try_get("hash")?)?;
                Ok::<_, RowError>((row.try_get("id")?, (item, path.map(path_of))))
            };
            rows.iter().map(named).collect::<Result<_, _>>()
        };
        read.await.map_err(|error| self.failed(error))
    }

    /// How many recorded scores of a policy version are below this one, and how many there are.
    pub async fn scores_below(
        &self,
        policy: PolicyHash,
        fingerprint: &Fingerprint,
        score: f32,
    ) -> Result<(u64, u64), StoreError> {
        let row = sqlx::query(
            "SELECT coalesce(sum(score < ?3), 0), count(*) FROM verdicts
             WHERE policy_version = (SELECT id FROM policy_versions WHERE hash = ?1)
               AND model = (SELECT id FROM models WHERE fingerprint = ?2)",
        )
        .bind(policy.0.as_slice())
        .bind(&fingerprint.0)
        .bind(f64::from(score))
        .fetch_one(&self.readers)
        .await;
        let counts = row.and_then(|row| Ok((row.try_get::<i64, _>(0)?, row.try_get::<i64, _>(1)?)));
        let (below, all) = counts.map_err(|source| self.sql(source))?;
        Ok((below.unsigned_abs(), all.unsigned_abs()))
    }
}

impl HistoryBlock {
    /// Columns: vectors, bytes, items; all NULL where there is nothing.
    fn joined(row: &SqliteRow) -> Result<Self, RowError> {
        let Some(list) = row.try_get::<Option<&str>, _>("items")? else {
            return Ok(Self::default());
        };
        let mut items: Vec<HistoryItem> = Vec::new();
        let mut views = 0;
        for number in list.split(',') {
            let number: i64 =
                number.parse().map_err(|_torn| unreadable("number of an item", number))?;
            views += 1;
            match items.last_mut() {
                Some(item) if item.number == number => item.views += 1,
                Some(item) if item.number > number => {
                    return Err(unreadable("order of items", number).into());
                }
                _ => items.push(HistoryItem {
                    number,
                    views: 1,
                    sightings: Vec::new(),
                    recorded: None,
                }),
            }
        }
        let vectors: Vec<u8> = row.try_get("vectors")?;
        let bytes: i64 = row.try_get("bytes")?;
        if usize::try_from(bytes) != Ok(vectors.len()) || !vectors.len().is_multiple_of(views) {
            return Err(unreadable("block of vectors", format!("{} bytes", vectors.len())).into());
        }
        Ok(Self { items, vectors })
    }

    /// One more vector; columns: item, vector. Rows come by item, then view.
    fn add(&mut self, row: &SqliteRow) -> Result<(), RowError> {
        let number = row.try_get(0)?;
        match self.items.last_mut() {
            Some(item) if item.number == number => item.views += 1,
            _ => {
                let (sightings, recorded) = (Vec::new(), None);
                self.items.push(HistoryItem { number, views: 1, sightings, recorded });
            }
        }
        self.vectors.extend_from_slice(row.try_get(1)?);
        Ok(())
    }
}

fn add_sightings(items: &mut [HistoryItem], rows: &[SqliteRow]) -> Result<(), RowError> {
    let mut items = items.iter_mut().peekable();
    for row in rows {
        let number: i64 = row.try_get("item")?;
        // Both lists come by number; an item without vectors has sightings and no place here.
        while items.next_if(|item| item.number < number).is_some() {}
        let Some(item) = items.peek_mut().filter(|item| item.number == number) else { continue };
        item.sightings.push(Sighting {
            path: path_of(row.try_get("path")?),
            root: path_of(row.try_get("root")?),
        });
        let outcome = outcome_of(row.try_get("outcome")?)?;
        item.recorded = item.recorded.max(Some(outcome));
    }
    Ok(())
}

fn decided_of(row: &SqliteRow) -> Result<DecidedItem, RowError> {
    let action: String = row.try_get("action")?;
    let reason: Option<String> = row.try_get("reason")?;
    let flagged: Option<String> = row.try_get("flagged")?;
    let flagged = flagged.as_deref().unwrap_or_default().split(',').filter(|id| !id.is_empty());
    Ok(DecidedItem {
        number: row.try_get("item")?,
        action: Action::parse(&action).ok_or_else(|| unreadable("action", action))?,
        reason: reason.map(policy_id_of).transpose()?,
        flagged: flagged
            .map(|id| policy_id_of(id.to_owned()))
            .collect::<Result<Vec<PolicyId>, _>>()?,
        at: Timestamp(row.try_get("at")?),
    })
}
