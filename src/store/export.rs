//! Verbs that hand everything to other programs, page by page.

use std::path::PathBuf;

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::moderation::item::plain_folder;
use crate::moderation::{
    BankTwin, Embedding, Fingerprint, ItemId, Outcome, PolicyVerdict, Reason, ReviewState,
    Timestamp,
};

use super::queue::POLICY_VERDICTS_OF_A_SIGHTING;
use super::rows::{
    RowError, item_of, outcome_of, path_of, policy_verdict_of, signals_of, state_of, unreadable,
};
use super::{Store, StoreError, bank};

/// One sighting with all that was said about it.
#[derive(Debug, Clone, PartialEq)]
pub struct ExportedVerdict {
    /// Numbers the sightings; pass the last one back to get the next page.
    pub sighting: i64,
    /// Where.
    pub path: PathBuf,
    /// What.
    pub item: ItemId,
    /// The model's name and fingerprint.
    pub model: Option<(String, Fingerprint)>,
    /// What happened with the upload.
    pub outcome: Outcome,
    /// Why, where it was not (only) the score.
    pub reason: Option<Reason>,
    /// What else the file is, besides a picture.
    pub signals: Vec<String>,
    /// What the item was found to be a twin of, the likest first.
    pub twins: Vec<BankTwin>,
    /// Every policy in scope, in the policies' order.
    pub policies: Vec<PolicyVerdict>,
    /// When this path was first seen with these bytes.
    pub first_seen: Timestamp,
    /// Where the item's latest task stands; none when nobody was ever asked.
    pub state: Option<ReviewState>,
    /// When other bytes took the path.
    pub gone_at: Option<Timestamp>,
}

/// One stored vector.
#[derive(Debug, Clone, PartialEq)]
pub struct ExportedEmbedding {
    /// Numbers the rows; pass the last one back to get the next page.
    pub row: i64,
    /// Whose.
    pub item: ItemId,
    /// Which of the item's views.
    pub view: u32,
    /// The unit vector.
    pub embedding: Embedding,
}

impl Store {
    /// The sightings after the given number (0 for the first page), oldest first.
    /// Those whose path was taken by other bytes are left out unless `gone_too`.
    pub async fn export_verdicts(
        &self,
        after: i64,
        gone_too: bool,
        limit: u32,
    ) -> Result<Vec<ExportedVerdict>, StoreError> {
        let read = async {
            let mut reader = self.readers.acquire().await?;
            let rows = sqlx::query(
                "SELECT s.id, s.item, s.path, i.hash, i.signals, s.outcome, s.reason, s.model, s.policy_set,
                        s.first_seen, s.gone_at, m.name, m.fingerprint,
                        (SELECT t.state FROM tasks AS t WHERE t.item = s.item
                         ORDER BY t.id DESC LIMIT 1) AS state
                 FROM sightings AS s JOIN items AS i ON i.id = s.item
                 LEFT JOIN models AS m ON m.id = s.model
                 WHERE s.id > ?1 AND (?2 OR s.gone_at IS NULL) ORDER BY s.id LIMIT ?3",
            )
            .bind(after)
            .bind(gone_too)
            .bind(limit)
            .fetch_all(&mut *reader)
            .await?;
            let mut exported = Vec::with_capacity(rows.len());
            for row in rows {
                let policies = sqlx::query(POLICY_VERDICTS_OF_A_SIGHTING)
                    .bind(row.try_get::<&[u8], _>("policy_set")?)
                    .bind(row.try_get::<i64, _>("item")?)
                    .bind(row.try_get::<Option<i64>, _>("model")?)
                    .fetch_all(&mut *reader)
                    .await?;
                let policies = policies.iter().map(policy_verdict_of).collect::<Result<_, _>>()?;
                let twins = bank::twins_of(&mut reader, row.try_get("item")?).await?;
                exported.push(exported_of(&row, policies, twins)?);
            }
            Ok(exported)
        };
        read.await.map_err(|error| self.failed(error))
    }

    /// The vectors of one model after the given row (0 for the first page).
    pub async fn export_embeddings(
        &self,
        fingerprint: &Fingerprint,
        after: i64,
        limit: u32,
    ) -> Result<Vec<ExportedEmbedding>, StoreError> {
        let read = async {
            let rows = sqlx::query(
                "SELECT e.rowid, i.hash, e.view, e.vector FROM embeddings AS e
                 JOIN items AS i ON i.id = e.item
                 WHERE e.rowid > ? AND e.model = (SELECT id FROM models WHERE fingerprint = ?)
                 ORDER BY e.rowid LIMIT ?",
            )
            .bind(after)
            .bind(&fingerprint.0)
            .bind(limit)
            .fetch_all(&self.readers)
            .await?;
            let embedding_of = |row: &SqliteRow| {
                let vector: &[u8] = row.try_get("vector")?;
                Ok::<_, RowError>(ExportedEmbedding {
                    row: row.try_get("rowid")?,
                    item: item_of(row.try_get("hash")?)?,
                    view: row.try_get("view")?,
                    embedding: Embedding::from_f16_bytes(vector)
                        .map_err(|torn| unreadable("embedding", torn))?,
                })
            };
            rows.iter().map(embedding_of).collect::<Result<_, _>>()
        };
        read.await.map_err(|error| self.failed(error))
    }

    /// How many vectors of one model there are.
    pub async fn count_embeddings(&self, fingerprint: &Fingerprint) -> Result<u64, StoreError> {
        let row = sqlx::query(
            "SELECT count(*) FROM embeddings
             WHERE model = (SELECT id FROM models WHERE fingerprint = ?)",
        )
        .bind(&fingerprint.0)
        .fetch_one(&self.readers)
        .await;
        let count: i64 = row.and_then(|row| row.try_get(0)).map_err(|source| self.sql(source))?;
        Ok(count.unsigned_abs())
    }
}

fn exported_of(
    row: &SqliteRow,
    policies: Vec<PolicyVerdict>,
    twins: Vec<BankTwin>,
) -> Result<ExportedVerdict, RowError> {
    let name: Option<String> = row.try_get("name")?;
    let fingerprint: Option<String> = row.try_get("fingerprint")?;
    let reason: Option<String> = row.try_get("reason")?;
    let state: Option<String> = row.try_get("state")?;
    Ok(ExportedVerdict {
        sighting: row.try_get("id")?,
        path: plain_folder(&path_of(row.try_get("path")?)).to_owned(),
        item: item_of(row.try_get("hash")?)?,
        model: name.zip(fingerprint.map(Fingerprint)),
        outcome: outcome_of(row.try_get("outcome")?)?,
        reason: reason.as_deref().map(Reason::parse),
        signals: signals_of(row.try_get("signals")?),
        twins,
        policies,
        first_seen: Timestamp(row.try_get("first_seen")?),
        state: state.as_deref().map(state_of).transpose()?,
        gone_at: row.try_get::<Option<i64>, _>("gone_at")?.map(Timestamp),
    })
}
