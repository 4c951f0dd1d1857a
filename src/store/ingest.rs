//! Verbs of the pipeline: what is known, and writing down what was judged.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, Sqlite, Transaction};

use crate::moderation::{
    Arming, AuditEvent, AuditKind, Bank, BankMatch, Doubts, Embedding, FileStat, Fingerprint,
    ItemId, JudgedWith, Likeness, Mode, OnBlock, Outcome, PerceptualHash, Policy, PolicyHash,
    PolicyId, PolicyVerdict, Reason, Recipe, ReviewState, ScoreHistogram, Severity, Sighting,
    TaskId, Timestamp, Verdict, Weighed,
};

use super::again::{listed, make_room};
use super::arming::{ArmingState, look_again};
use super::placements::{held_since, wish_held};
use super::rows::{
    RowError, item_of, narrow, path_bytes, path_of, perceptual_hash_of, severity_number,
    signals_of, unreadable,
};
use super::{Store, StoreError, StoreSettings, append_audit, bank, groups, hex};

/// What the decoder saw of a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PictureFacts {
    /// `jpeg`, `png`, …
    pub format: String,
    /// Pixels, as stored in the file.
    pub width: u32,
    /// Pixels, as stored in the file.
    pub height: u32,
    /// 1 for a still picture.
    pub frames: u32,
    /// What it looks like; none where it was never computed.
    pub hash: Option<PerceptualHash>,
    /// What else the file is, as the decoder names it (`archive`, `trailing_bytes`, …).
    pub signals: Vec<String>,
    /// Why a person has to see it whatever its scores are.
    pub doubts: Doubts,
}

/// One file, judged, ready to be written down.
#[derive(Debug, Clone)]
pub struct Judged {
    /// The hash of its bytes.
    pub item: ItemId,
    /// How many bytes.
    pub bytes: u64,
    /// Where it was seen.
    pub sighting: Sighting,
    /// As of when its bytes were read.
    pub stat: FileStat,
    /// None when it could not be decoded.
    pub facts: Option<PictureFacts>,
    /// One embedding for each view; empty when it could not be decoded.
    pub views: Vec<Embedding>,
    /// What made the views, or could not make any.
    pub recipe: Recipe,
    /// What the policies say.
    pub verdict: Verdict,
}

/// The model and the policies that judged, as the store numbers them.
#[derive(Debug, Clone)]
pub struct JudgedBy {
    model: i64,
    versions: Vec<Version>,
}

/// A policy version's number, and what arms its hold if it has one.
#[derive(Debug, Clone)]
struct Version {
    hash: PolicyHash,
    number: i64,
    hold: Option<Arming>,
    inherits: bool,
}

impl JudgedBy {
    /// The same with these versions too: verdicts of policies that were in force until just now
    /// may still be on their way.
    #[must_use]
    pub fn and(mut self, later: Self) -> Self {
        self.versions.retain(|old| !later.versions.iter().any(|new| new.hash == old.hash));
        self.versions.extend(later.versions);
        self
    }
}

/// What is stored of an item already.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownItem {
    /// Its views by the model asked for; empty when that model never saw it.
    pub views: Vec<Embedding>,
    /// What made the views.
    pub recipe: Recipe,
    /// What the decoder saw.
    pub facts: Option<PictureFacts>,
    /// Why it can't be judged, if so.
    pub reason: Option<Reason>,
}

/// How a file in a folder stands in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Never judged as it is now.
    New,
    /// Judged: allowed, or approved by a person.
    Clear,
    /// Judged: not allowed, and not approved by a person.
    Flagged,
    /// Judged, but by another model or by another recipe.
    Otherwise,
}

/// What came of writing one verdict down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The outcome that holds; `Review` instead of `Allow` where the item was removed before.
    pub outcome: Outcome,
    /// The reason that holds.
    pub reason: Option<Reason>,
    /// Whether a person is asked now who was not asked before.
    pub task_opened: bool,
    /// Whether these bytes were seen for the first time.
    pub new_item: bool,
    /// Whether all of it was on record already: only the file's size and times, and when it was
    /// judged, were written.
    pub repeat: bool,
}

impl Store {
    /// Announces who judges from now on: the model and the policy versions get their numbers.
    pub async fn begin_judging(
        &self,
        fingerprint: &Fingerprint,
        model_name: &str,
        policies: &[Arc<Policy>],
    ) -> Result<JudgedBy, StoreError> {
        let mut transaction = self.begin().await?;
        let judged_by = number_judges(&mut transaction, fingerprint, model_name, policies)
            .await
            .map_err(|source| self.sql(source))?;
        self.commit(transaction).await?;
        Ok(judged_by)
    }

    /// For each file: was it judged with exactly this size, time stamps and inode, and how does
    /// it stand since? What was judged with anything else than is used now stands for nothing.
    pub async fn standing(
        &self,
        files: &[(PathBuf, FileStat)],
        now: &JudgedWith,
    ) -> Result<Vec<Standing>, StoreError> {
        let row = |(path, stat): &(PathBuf, FileStat)| {
            let [size, inode] = [stat.size, stat.inode].map(u64::cast_signed);
            json!([hex(path_bytes(path)), size, stat.mtime_ns, stat.ctime_ns, inode])
        };
        let read = async {
            // One statement for all: a statement a file takes most of a scan's time.
            let rows = sqlx::query(STANDING)
                .bind(files.iter().map(row).collect::<Value>().to_string())
                .bind(&now.fingerprint.0)
                .bind(listed(&now.recipes))
                .fetch_all(&self.readers)
                .await?;
            let mut answers = vec![Standing::New; files.len()];
            for row in &rows {
                let place: i64 = row.try_get("place")?;
                let standing = match (row.try_get("otherwise")?, row.try_get("flagged")?) {
                    (true, _) => Standing::Otherwise,
                    (false, false) => Standing::Clear,
                    (false, true) => Standing::Flagged,
                };
                let place = usize::try_from(place).ok().and_then(|place| answers.get_mut(place));
                if let Some(answer) = place {
                    *answer = standing;
                }
            }
            Ok(answers)
        };
        read.await.map_err(|source| self.sql(source))
    }

    /// What is known of these bytes; `None` when they were never seen.
    pub async fn known_item(
        &self,
        item: ItemId,
        fingerprint: &Fingerprint,
    ) -> Result<Option<KnownItem>, StoreError> {
        let known = async {
            let Some(row) = sqlx::query(
                "SELECT i.id, i.format, i.width, i.height, i.frames, i.signals, i.doubts, i.reason, h.quality, h.forms
                 FROM items AS i LEFT JOIN perceptual_hashes AS h ON h.item = i.id
                 WHERE i.hash = ?",
            )
            .bind(item.as_bytes().as_slice())
            .fetch_optional(&self.readers)
            .await?
            else {
                return Ok(None);
            };
            let format: Option<String> = row.try_get("format")?;
            let reason: Option<String> = row.try_get("reason")?;
            let facts = format
                .map(|format| {
                    Ok::<_, RowError>(PictureFacts {
                        format,
                        width: row.try_get("width")?,
                        height: row.try_get("height")?,
                        frames: row.try_get("frames")?,
                        hash: perceptual_hash_of(&row)?,
                        signals: signals_of(row.try_get("signals")?),
                        doubts: Doubts::parse(row.try_get("doubts")?),
                    })
                })
                .transpose()?;
            let (views, recipe) = self.views_of(row.try_get("id")?, fingerprint).await?;
            Ok(Some(KnownItem {
                views,
                recipe,
                facts,
                reason: reason.as_deref().map(Reason::parse),
            }))
        };
        known.await.map_err(|error| self.failed(error))
    }

    /// What waits for a person because it could not be read, where it still counts as being there.
    pub async fn unread_waiting(&self) -> Result<Vec<(Sighting, ItemId)>, StoreError> {
        let read = async {
            let rows = sqlx::query(
                "SELECT s.path, s.root, i.hash FROM tasks AS t JOIN items AS i ON i.id = t.item
                 JOIN sightings AS s ON s.item = t.item AND s.gone_at IS NULL
                 WHERE t.state IN ('open', 'escalated') AND t.reason >= 'unreadable: '
                   AND t.reason < 'unreadable:!'",
            )
            .fetch_all(&self.readers)
            .await?;
            rows.iter()
                .map(|row| {
                    let (path, root) =
                        (path_of(row.try_get("path")?), path_of(row.try_get("root")?));
                    Ok::<_, RowError>((Sighting { path, root }, item_of(row.try_get("hash")?)?))
                })
                .collect::<Result<Vec<_>, RowError>>()
        };
        read.await.map_err(|error| self.failed(error))
    }

    /// What could not be read at this path can be read now, or is gone: nobody needs to look at it
    /// any more.
    pub async fn read_at_last(&self, path: &Path, at: Timestamp) -> Result<(), StoreError> {
        self.leave(path, at).await
    }

    /// What was seen at this path is gone from it. A task that named the path names another place
    /// of the same bytes from now on, if there is one.
    pub async fn leave(&self, path: &Path, at: Timestamp) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        let write = async {
            let Some(before) = current_sighting(&mut transaction, path).await? else {
                return Ok(());
            };
            let mut events = Vec::new();
            leave_behind(&mut transaction, &before, at, &mut events).await?;
            append_audit(&mut transaction, &events).await?;
            Ok::<_, RowError>(())
        };
        write.await.map_err(|error| self.failed(error))?;
        self.commit(transaction).await
    }

    /// The stored views of an item by one model, in order; empty when it never saw the item.
    pub async fn item_embeddings(
        &self,
        item: ItemId,
        fingerprint: &Fingerprint,
    ) -> Result<Vec<Embedding>, StoreError> {
        Ok(self.known_item(item, fingerprint).await?.map(|known| known.views).unwrap_or_default())
    }

    async fn views_of(
        &self,
        item: i64,
        fingerprint: &Fingerprint,
    ) -> Result<(Vec<Embedding>, Recipe), RowError> {
        let rows = sqlx::query(
            "SELECT vector, recipe FROM embeddings
             WHERE item = ? AND model = (SELECT id FROM models WHERE fingerprint = ?) ORDER BY view",
        )
        .bind(item)
        .bind(&fingerprint.0)
        .fetch_all(&self.readers)
        .await?;
        let recipe = rows.first().map(|row| row.try_get("recipe")).transpose()?;
        let views = rows.iter().map(|row| {
            let bytes: &[u8] = row.try_get("vector")?;
            Ok(Embedding::from_f16_bytes(bytes).map_err(|torn| unreadable("embedding", torn))?)
        });
        let views = views.collect::<Result<_, RowError>>()?;
        Ok((views, Recipe(recipe.unwrap_or_default())))
    }

    /// Writes verdicts down: item, embeddings, sighting, verdict rows, audit event and, where a
    /// person is needed, an open task; all of it in ONE transaction, or nothing.
    /// Writing the same again changes nothing and is no event.
    pub async fn record_verdicts(
        &self,
        judged_by: &JudgedBy,
        judged: &[Judged],
        at: Timestamp,
    ) -> Result<Vec<Recorded>, StoreError> {
        let judged: Vec<_> = judged.iter().map(|one| (None, one)).collect();
        let recorded = self.record(judged_by, &judged, at).await?;
        Ok(recorded.into_iter().flatten().collect())
    }

    /// Writes down verdicts about sightings that were read from here before. One whose path was
    /// taken by other bytes meanwhile is left out.
    pub(super) async fn record(
        &self,
        judged_by: &JudgedBy,
        judged: &[(Option<i64>, &Judged)],
        at: Timestamp,
    ) -> Result<Vec<Option<Recorded>>, StoreError> {
        let mut transaction = self.begin().await?;
        let mut recorded = Vec::with_capacity(judged.len());
        let mut known = self.bank.lock().await;
        known.refresh(&mut transaction).await.map_err(|error| self.failed(error))?;
        let mut batch = Batch::new(self.settings().clone(), &known.bank);
        let mut new_sets = Vec::new();
        for (sighting, one) in judged {
            if let Some(sighting) = sighting
                && !is_current(&mut transaction, *sighting)
                    .await
                    .map_err(|source| self.sql(source))?
            {
                recorded.push(None);
                continue;
            }
            let set = set_hash(&one.verdict);
            if !self.set_is_known(&set) && !new_sets.contains(&set) {
                write_set(&mut transaction, judged_by, set, &one.verdict)
                    .await
                    .map_err(|source| self.sql(source))?;
                new_sets.push(set);
            }
            let written = write_one(&mut transaction, judged_by, set, one, at, &mut batch).await;
            recorded.push(Some(written.map_err(|error| self.failed(error))?));
        }
        batch.write(&mut transaction, judged_by).await.map_err(|source| self.sql(source))?;
        self.commit(transaction).await?;
        self.known_sets.lock().unwrap_or_else(PoisonError::into_inner).extend(new_sets);
        Ok(recorded)
    }

    fn set_is_known(&self, set: &[u8; 32]) -> bool {
        self.known_sets.lock().unwrap_or_else(PoisonError::into_inner).contains(set)
    }

    /// The stored embeddings of texts by one model, in the order asked for; `None` for a text
    /// that was never embedded.
    pub async fn text_embeddings(
        &self,
        fingerprint: &Fingerprint,
        texts: &[String],
    ) -> Result<Vec<Option<Embedding>>, StoreError> {
        let read = async {
            let mut reader = self.readers.acquire().await?;
            let mut found = Vec::with_capacity(texts.len());
            for text in texts {
                let row = sqlx::query(
                    "SELECT vector FROM text_embeddings
                     WHERE model = (SELECT id FROM models WHERE fingerprint = ?) AND text = ?",
                )
                .bind(&fingerprint.0)
                .bind(text)
                .fetch_optional(&mut *reader)
                .await?;
                let embedding = row.map(|row| {
                    let (parts, _) = row.try_get::<&[u8], _>("vector")?.as_chunks::<4>();
                    let vector = parts.iter().map(|part| f32::from_le_bytes(*part)).collect();
                    Ok::<_, RowError>(
                        Embedding::normalised(vector)
                            .map_err(|torn| unreadable("text embedding", torn))?,
                    )
                });
                found.push(embedding.transpose()?);
            }
            Ok(found)
        };
        read.await.map_err(|error| self.failed(error))
    }

    /// Keeps the embeddings of texts (in full precision, four bytes a component).
    pub async fn record_text_embeddings(
        &self,
        fingerprint: &Fingerprint,
        model_name: &str,
        texts: &[(String, Embedding)],
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        let write = async {
            let model = number_model(&mut transaction, fingerprint, model_name).await?;
            for (text, embedding) in texts {
                let vector: Vec<u8> =
                    embedding.as_slice().iter().flat_map(|x| x.to_le_bytes()).collect();
                sqlx::query(
                    "INSERT OR IGNORE INTO text_embeddings (model, text, vector) VALUES (?, ?, ?)",
                )
                .bind(model)
                .bind(text)
                .bind(vector)
                .execute(&mut *transaction)
                .await?;
            }
            Ok(())
        };
        write.await.map_err(|source| self.sql(source))?;
        self.commit(transaction).await
    }
}

async fn number_judges(
    transaction: &mut Transaction<'static, Sqlite>,
    fingerprint: &Fingerprint,
    model_name: &str,
    policies: &[Arc<Policy>],
) -> Result<JudgedBy, sqlx::Error> {
    let model = number_model(transaction, fingerprint, model_name).await?;
    let mut versions = Vec::with_capacity(policies.len());
    for policy in policies {
        let hash = policy.hash();
        // Severity is no part of the hash, because it can't change a verdict; the latest counts.
        let row = sqlx::query(
            "INSERT INTO policy_versions (hash, policy, severity, mode, adapter)
             VALUES (?, ?, ?, ?, ?)
             ON CONFLICT (hash) DO UPDATE SET severity = excluded.severity RETURNING id",
        )
        .bind(hash.0.as_slice())
        .bind(policy.id.as_str())
        .bind(severity_number(policy.severity))
        .bind(policy.mode.as_str())
        .bind(policy.adapter.as_ref().map(|adapter| adapter.name().to_string()))
        .fetch_one(&mut **transaction)
        .await?;
        let hold = (policy.on_block == OnBlock::Hold && policy.mode == Mode::Live)
            .then_some(policy.arming);
        let inherits = policy.inherit && policy.mode == Mode::Live;
        versions.push(Version { hash, number: row.try_get(0)?, hold, inherits });
    }
    Ok(JudgedBy { model, versions })
}

async fn number_model(
    transaction: &mut Transaction<'static, Sqlite>,
    fingerprint: &Fingerprint,
    name: &str,
) -> Result<i64, sqlx::Error> {
    sqlx::query(
        "INSERT INTO models (fingerprint, name) VALUES (?, ?)
         ON CONFLICT (fingerprint) DO UPDATE SET name = excluded.name RETURNING id",
    )
    .bind(&fingerprint.0)
    .bind(name)
    .fetch_one(&mut **transaction)
    .await?
    .try_get(0)
}

async fn is_current(
    transaction: &mut Transaction<'static, Sqlite>,
    sighting: i64,
) -> Result<bool, sqlx::Error> {
    let row = sqlx::query("SELECT 1 FROM sightings WHERE id = ? AND gone_at IS NULL")
        .bind(sighting)
        .fetch_optional(&mut **transaction)
        .await?;
    Ok(row.is_some())
}

/// Names the policies in scope of a sighting, in their order.
pub(super) fn set_hash(verdict: &Verdict) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for policy in &verdict.policies {
        hasher.update(policy.policy_hash.0);
    }
    hasher.finalize().into()
}

async fn write_set(
    transaction: &mut Transaction<'static, Sqlite>,
    judged_by: &JudgedBy,
    set: [u8; 32],
    verdict: &Verdict,
) -> Result<(), sqlx::Error> {
    for (position, policy) in (0_i64..).zip(&verdict.policies) {
        sqlx::query(
            "INSERT OR IGNORE INTO policy_sets (hash, policy_version, position) VALUES (?, ?, ?)",
        )
        .bind(set.as_slice())
        .bind(judged_by.version(policy.policy_hash)?)
        .bind(position)
        .execute(&mut **transaction)
        .await?;
    }
    Ok(())
}

impl JudgedBy {
    fn version(&self, hash: PolicyHash) -> Result<i64, sqlx::Error> {
        let missing =
            || sqlx::Error::Protocol("a verdict by a policy that was not announced".into());
        self.known(hash).map(|version| version.number).ok_or_else(missing)
    }

    fn known(&self, hash: PolicyHash) -> Option<&Version> {
        self.versions.iter().find(|known| known.hash == hash)
    }

    /// The versions that block here and may hold files if they are armed.
    fn holding<'a>(&'a self, verdict: &'a Verdict) -> impl Iterator<Item = (i64, Arming)> + 'a {
        let blocking = verdict.policies.iter().filter(|policy| policy.outcome == Outcome::Block);
        blocking.filter_map(|policy| {
            let known = self.known(policy.policy_hash)?;
            Some((known.number, known.hold?))
        })
    }

    /// The versions in scope that inherit what was decided for one of these policies.
    fn inheriting(&self, verdict: &Verdict, decided: &[PolicyId]) -> Vec<&Version> {
        let speaks_for = verdict.policies.iter().filter(|policy| decided.contains(&policy.policy));
        let known = speaks_for.filter_map(|policy| self.known(policy.policy_hash));
        known.filter(|known| known.inherits).collect()
    }

    /// Whether everything that flags was approved for, and inherits that.
    fn all_inherit(&self, verdict: &Verdict, approved: &[PolicyId]) -> bool {
        verdict.policies.iter().filter(|policy| policy.flags()).all(|policy| {
            approved.contains(&policy.policy)
                && self.known(policy.policy_hash).is_some_and(|known| known.inherits)
        })
    }
}

async fn write_one(
    transaction: &mut Transaction<'static, Sqlite>,
    judged_by: &JudgedBy,
    set: [u8; 32],
    judged: &Judged,
    at: Timestamp,
    batch: &mut Batch<'_>,
) -> Result<Recorded, RowError> {
    let (item, new_item) = write_item(transaction, judged, at).await?;
    batch.add(judged_by, item, new_item, judged)?;
    let history = if new_item { History::default() } else { history_of(transaction, item).await? };
    let waiting = if new_item { None } else { waiting_task(transaction, item).await? };
    let before = current_sighting(transaction, &judged.sighting.path).await?;
    let same = before.as_ref().filter(|before| before.item == item);
    let new_sighting = same.is_none();
    // Until somebody decides, what came back stays what came back, however often it is written.
    let asked_before = waiting.is_some() && same.is_some_and(CurrentSighting::was_removed_before);
    let removed_before =
        history.last_action.as_deref() == Some("remove") && (new_sighting || asked_before);
    let looks = judged.facts.as_ref().and_then(|facts| facts.hash.as_ref());
    // What was removed and comes back is no matter that is settled.
    let decided = history.last_decision.filter(|_| !removed_before);
    let twins = batch.bank.weigh(judged.item, looks, decided);
    let mut heard =
        hear(&judged.verdict, judged_by, &twins, removed_before, waiting.is_some(), batch);
    let (outcome, reason) = (&mut heard.outcome, &mut heard.reason);
    let asks = *outcome > Outcome::Allow
        && (waiting.is_some()
            || removed_before
            || twins.removed.is_some()
            || !history.covers(&judged.verdict));
    let mut held = false;
    if asks && *outcome == Outcome::Block {
        match hold(transaction, judged_by.model, &heard.holds, at, batch).await? {
            Hold::NotAsked => {}
            Hold::NotArmed(why) => {
                if reason.as_ref().is_none_or(Reason::is_inherited) {
                    *reason = Some(Reason::NotArmed(why));
                }
            }
            Hold::Capped(cap) => {
                (*outcome, *reason) = (Outcome::Review, Some(Reason::HoldCap(cap)));
            }
            Hold::Held => (held, *reason) = (true, Some(Reason::Held)),
        }
    }
    let Heard { outcome, reason, .. } = heard;

    let mut repeat = same.is_some_and(|same| {
        same.says(outcome, reason.as_ref()) && same.judged_by == (Some(judged_by.model), set.into())
    });
    if let Some(before) = before.filter(|before| before.item != item) {
        leave_behind(transaction, &before, at, &mut batch.events).await?;
    }
    let sighting =
        write_sighting(transaction, judged_by, item, set, judged, outcome, reason.as_ref(), at)
            .await?;
    let mut task_opened = false;
    if outcome > Outcome::Allow {
        write_hash(transaction, item, judged).await?;
    }
    let flags = judged.verdict.policies.iter().any(PolicyVerdict::flags);
    if !repeat {
        for twin in twins.removed.iter().chain(twins.approved.iter().filter(|_| flags)) {
            bank::note_match(transaction, item, twin, new_sighting, at, batch).await?;
        }
    }
    if asks {
        task_opened = waiting.is_none();
        let (task, changed) =
            ask(transaction, waiting, item, sighting, judged, outcome, reason.as_ref(), at).await?;
        repeat &= !changed;
        if held {
            repeat &= !wish_held(transaction, item, &judged.sighting, task, at).await?;
        }
    } else if outcome == Outcome::Allow
        && !flags
        && waiting.is_none()
        && history.last_action.is_none()
    {
        task_opened = sample(transaction, item, sighting, judged, at, batch).await?;
    }
    repeat &= !task_opened;
    let recorded = Recorded { outcome, reason, task_opened, new_item, repeat };
    if !repeat {
        batch.events.push(verdict_event(judged, sighting, &recorded, held, at));
    }
    Ok(recorded)
}

fn verdict_event(
    judged: &Judged,
    sighting: i64,
    recorded: &Recorded,
    held: bool,
    at: Timestamp,
) -> AuditEvent {
    AuditEvent {
        at,
        kind: AuditKind::Verdict,
        actor: "modtool".to_owned(),
        detail: json!({
            "item": judged.item.to_string(),
            "sighting": sighting,
            "outcome": recorded.outcome.as_str(),
            "reason": recorded.reason.as_ref().map(ToString::to_string),
            "flagged": flagged(&judged.verdict),
            "task_opened": recorded.task_opened,
            "held": held,
        })
        .to_string(),
    }
}

/// A verdict with what the bank says to it.
struct Heard {
    outcome: Outcome,
    reason: Option<Reason>,
    /// What may hold the file if it is armed.
    holds: Vec<(i64, Arming)>,
}

/// A twin of something removed makes a verdict Review at least, and Block where a policy inherits.
/// The very bytes of something approved make it Allow where all that flags inherits; what only
/// looks like it never does, because an uploader can choose what a picture looks like to a hash.
fn hear(
    verdict: &Verdict,
    judged_by: &JudgedBy,
    twins: &Weighed<'_>,
    removed_before: bool,
    waits: bool,
    batch: &Batch<'_>,
) -> Heard {
    let mut heard = Heard {
        outcome: verdict.outcome,
        reason: verdict.reason.clone(),
        holds: judged_by.holding(verdict).collect(),
    };
    let acts = |twin: &&BankMatch<'_>| twin.key.acts && !batch.on_hold.contains(&twin.key.id);
    let unjudged = verdict.reason.clone().filter(Reason::is_unjudged);
    if removed_before || twins.removed.is_some() {
        heard.outcome = verdict.outcome.max(Outcome::Review);
        let like = twins.removed.map(|twin| Reason::LikeRemoved(twin.to_string()));
        let said = if removed_before { Some(Reason::RemovedBefore) } else { like };
        heard.reason = unjudged.or(said);
        if let Some(twin) = twins.removed.as_ref().filter(acts) {
            let inheriting = judged_by.inheriting(verdict, &twin.key.policies);
            if !inheriting.is_empty() {
                heard.outcome = Outcome::Block;
                heard.reason = Some(Reason::Inherited(twin.to_string()));
                let holds = inheriting.iter().filter_map(|known| Some((known.number, known.hold?)));
                heard.holds.extend(holds);
            }
        }
    } else if verdict.outcome > Outcome::Allow
        && verdict.reason.is_none()
        && !waits
        && let Some(twin) = twins.approved.as_ref().filter(acts)
        && twin.likeness == Likeness::SameBytes
        && judged_by.all_inherit(verdict, &twin.key.policies)
    {
        heard.outcome = Outcome::Allow;
        heard.reason = Some(Reason::ApprovedBefore(twin.to_string()));
    }
    heard
}

fn flagged(verdict: &Verdict) -> Vec<&str> {
    let flagging = verdict.policies.iter().filter(|policy| policy.flags());
    flagging.map(|policy| policy.policy.as_str()).collect()
}

async fn write_item(
    transaction: &mut Transaction<'static, Sqlite>,
    judged: &Judged,
    at: Timestamp,
) -> Result<(i64, bool), RowError> {
    let unjudged = judged.verdict.reason.as_ref().filter(|reason| reason.is_unjudged());
    let facts = judged.facts.as_ref();
    let hash = judged.item.as_bytes().as_slice();
    let reason = unjudged.map(ToString::to_string);
    let signals = facts.map(|facts| facts.signals.join(",")).unwrap_or_default();
    let doubts = facts.map(|facts| facts.doubts.to_string()).unwrap_or_default();
    let new = sqlx::query(
        "INSERT INTO items (hash, bytes, format, width, height, frames, signals, doubts, reason, first_seen)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (hash) DO NOTHING RETURNING id",
    )
    .bind(hash)
    .bind(judged.bytes.cast_signed())
    .bind(facts.map(|facts| facts.format.as_str()))
    .bind(facts.map(|facts| facts.width))
    .bind(facts.map(|facts| facts.height))
    .bind(facts.map(|facts| facts.frames))
    .bind(&signals)
    .bind(&doubts)
    .bind(reason.as_deref())
    .bind(at.0)
    .fetch_optional(&mut **transaction)
    .await?;
    if let Some(row) = new {
        return Ok((row.try_get(0)?, true));
    }
    // Known bytes; what the decoder makes of them may have changed with its limits.
    let known = sqlx::query(
        "UPDATE items SET format = ?, width = ?, height = ?, frames = ?, signals = ?, doubts = ?,
         reason = ?
         WHERE hash = ? RETURNING id",
    )
    .bind(facts.map(|facts| facts.format.as_str()))
    .bind(facts.map(|facts| facts.width))
    .bind(facts.map(|facts| facts.height))
    .bind(facts.map(|facts| facts.frames))
    .bind(&signals)
    .bind(&doubts)
    .bind(reason.as_deref())
    .bind(hash)
    .fetch_one(&mut **transaction)
    .await?;
    Ok((known.try_get(0)?, false))
}

/// Rows of all files of a transaction, written by one statement for each table: a statement for
/// each row would cost more than judging does.
pub(super) struct Batch<'a> {
    /// `[item, view, vector as hexadecimal digits, recipe]`
    embeddings: Vec<Value>,
    /// `[item, recipe]` of those that were decoded, or could not be: what another recipe made of them
    /// is not to be judged any more.
    made_anew: Vec<Value>,
    /// `[item, quality, forms as hexadecimal digits]`
    hashes: Vec<Value>,
    /// `[item, policy version, score, outcome, prompt]`
    verdicts: Vec<Value>,
    pub(super) events: Vec<AuditEvent>,
    pub(super) settings: StoreSettings,
    /// As of the beginning of the transaction.
    bank: &'a Bank,
    /// Entries of the bank that this transaction put on hold.
    pub(super) on_hold: HashSet<i64>,
    /// Holds that were looked at, by policy version.
    arming: HashMap<i64, ArmingState>,
    /// Keys the choice of samples; read when it is needed.
    sampling: Option<Vec<u8>>,
}

impl<'a> Batch<'a> {
    fn new(settings: StoreSettings, bank: &'a Bank) -> Self {
        Self {
            embeddings: Vec::new(),
            made_anew: Vec::new(),
            hashes: Vec::new(),
            verdicts: Vec::new(),
            events: Vec::new(),
            settings,
            bank,
            on_hold: HashSet::new(),
            arming: HashMap::new(),
            sampling: None,
        }
    }

    fn add(
        &mut self,
        judged_by: &JudgedBy,
        item: i64,
        new_item: bool,
        judged: &Judged,
    ) -> Result<(), RowError> {
        let undecodable = matches!(judged.verdict.reason, Some(Reason::Undecodable(_)));
        if !new_item && (undecodable || !judged.views.is_empty()) {
            self.made_anew.push(json!([item, judged.recipe.0]));
        }
        for (view, embedding) in judged.views.iter().enumerate() {
            let digits = hex(&embedding.to_f16_bytes());
            self.embeddings.push(json!([item, view, digits, judged.recipe.0]));
        }
        if let Some(hash) = judged.facts.as_ref().and_then(|facts| facts.hash.as_ref()) {
            self.hashes.push(json!([item, hash.quality, hex(&hash.to_bytes())]));
        }
        for policy in &judged.verdict.policies {
            self.verdicts.push(json!([
                item,
                judged_by.version(policy.policy_hash)?,
                f64::from(policy.score),
                policy.outcome.as_str(),
                policy.prompt,
            ]));
        }
        Ok(())
    }

    async fn write(
        self,
        transaction: &mut Transaction<'static, Sqlite>,
        judged_by: &JudgedBy,
    ) -> Result<(), sqlx::Error> {
        let last = make_room(transaction, judged_by.model, &self.made_anew).await?;
        sqlx::query(
            "INSERT OR IGNORE INTO embeddings (rowid, item, model, view, vector, recipe)
             SELECT ?3 + key + 1, value ->> 0, ?1, value ->> 1, unhex(value ->> 2), value ->> 3
             FROM json_each(?2)",
        )
        .bind(judged_by.model)
        .bind(Value::Array(self.embeddings).to_string())
        .bind(last)
        .execute(&mut **transaction)
        .await?;
        sqlx::query(
            "INSERT OR IGNORE INTO perceptual_hashes (item, quality, forms)
             SELECT value ->> 0, value ->> 1, unhex(value ->> 2) FROM json_each(?)",
        )
        .bind(Value::Array(self.hashes).to_string())
        .execute(&mut **transaction)
        .await?;
        let new = sqlx::query(
            "INSERT OR IGNORE INTO verdicts (item, policy_version, model, score, outcome, prompt)
             SELECT value ->> 0, value ->> 1, ?1, value ->> 2, value ->> 3, value ->> 4
             FROM json_each(?2) RETURNING policy_version, score",
        )
        .bind(judged_by.model)
        .bind(Value::Array(self.verdicts).to_string())
        .fetch_all(&mut **transaction)
        .await?;
        count_scores(transaction, judged_by.model, &new).await?;
        append_audit(transaction, &self.events).await
    }
}

/// Keeps the histogram of each policy version in step with its verdicts.
async fn count_scores(
    transaction: &mut Transaction<'static, Sqlite>,
    model: i64,
    new: &[SqliteRow],
) -> Result<(), sqlx::Error> {
    let mut bins: BTreeMap<(i64, usize), u64> = BTreeMap::new();
    for row in new {
        let bin = ScoreHistogram::bin_of(narrow(row.try_get("score")?));
        *bins.entry((row.try_get("policy_version")?, bin)).or_default() += 1;
    }
    let rows = bins.into_iter().map(|((version, bin), items)| json!([version, bin, items]));
    sqlx::query(
        "INSERT INTO score_bins (policy_version, model, bin, items)
         SELECT value ->> 0, ?1, value ->> 1, value ->> 2 FROM json_each(?2) WHERE true
         ON CONFLICT (policy_version, model, bin) DO UPDATE SET items = items + excluded.items",
    )
    .bind(model)
    .bind(rows.collect::<Value>().to_string())
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// What people decided about an item, as far as a new verdict must know.
#[derive(Default)]
struct History {
    /// `approve` or `remove`: the last decision that closed a task and stands.
    last_action: Option<String>,
    /// Its number.
    last_decision: Option<i64>,
    /// The policies that had flagged the decided task; empty when it could not be judged.
    decided_policies: Vec<String>,
}

impl History {
    /// Whether a person has looked at this item for all that flags it now.
    fn covers(&self, verdict: &Verdict) -> bool {
        self.last_action.is_some()
            && flagged(verdict).iter().all(|id| self.decided_policies.iter().any(|p| p == id))
    }
}

async fn history_of(
    transaction: &mut Transaction<'static, Sqlite>,
    item: i64,
) -> Result<History, RowError> {
    let last = sqlx::query(
        "SELECT d.id, d.task, d.action FROM decisions AS d
         WHERE d.item = ? AND d.action IN ('approve', 'remove')
           AND NOT EXISTS (SELECT 1 FROM decisions AS u WHERE u.undoes = d.id)
         ORDER BY d.id DESC LIMIT 1",
    )
    .bind(item)
    .fetch_optional(&mut **transaction)
    .await?;
    let Some(last) = last else { return Ok(History::default()) };
    let rows = sqlx::query("SELECT policy FROM task_policies WHERE task = ?")
        .bind(last.try_get::<i64, _>("task")?)
        .fetch_all(&mut **transaction)
        .await?;
    let policies = rows.iter().map(|row| row.try_get("policy"));
    Ok(History {
        last_action: last.try_get("action")?,
        last_decision: last.try_get("id")?,
        decided_policies: policies.collect::<Result<_, _>>()?,
    })
}

/// Binds: files as a JSON array of path in hexadecimal digits, size, times and inode; the model; the
/// recipes as a JSON array.
const STANDING: &str = "
    SELECT k.key AS place,
        s.outcome <> 'allow' AND NOT EXISTS (
            SELECT 1 FROM decisions AS d WHERE d.item = s.item AND d.action = 'approve'
            AND NOT EXISTS (SELECT 1 FROM decisions AS u WHERE u.undoes = d.id)
        ) AS flagged,
        s.model IS NOT (SELECT id FROM models WHERE fingerprint = ?2)
            OR s.recipe NOT IN (SELECT value FROM json_each(?3)) AS otherwise
    FROM json_each(?1) AS k CROSS JOIN sightings AS s
    ON s.path = unhex(k.value ->> 0) AND s.gone_at IS NULL AND s.size = k.value ->> 1
    AND s.mtime_ns = k.value ->> 2 AND s.ctime_ns = k.value ->> 3 AND s.inode = k.value ->> 4";

/// The sighting that holds a path now.
struct CurrentSighting {
    id: i64,
    item: i64,
    hash: ItemId,
    outcome: String,
    reason: Option<String>,
    /// The model, and the set of policies.
    judged_by: (Option<i64>, Vec<u8>),
}

impl CurrentSighting {
    /// Whether this is what is on record.
    fn says(&self, outcome: Outcome, reason: Option<&Reason>) -> bool {
        self.outcome == outcome.as_str() && self.reason == reason.map(ToString::to_string)
    }

    fn was_removed_before(&self) -> bool {
        self.reason.as_deref().map(Reason::parse) == Some(Reason::RemovedBefore)
    }
}

async fn current_sighting(
    transaction: &mut Transaction<'static, Sqlite>,
    path: &Path,
) -> Result<Option<CurrentSighting>, RowError> {
    let row = sqlx::query(
        "SELECT s.id, s.item, i.hash, s.outcome, s.reason, s.model, s.policy_set
         FROM sightings AS s JOIN items AS i ON i.id = s.item
         WHERE s.path = ? AND s.gone_at IS NULL",
    )
    .bind(path_bytes(path))
    .fetch_optional(&mut **transaction)
    .await?;
    row.map(|row| {
        Ok(CurrentSighting {
            id: row.try_get("id")?,
            item: row.try_get("item")?,
            hash: item_of(row.try_get("hash")?)?,
            outcome: row.try_get("outcome")?,
            reason: row.try_get("reason")?,
            judged_by: (row.try_get("model")?, row.try_get("policy_set")?),
        })
    })
    .transpose()
}

/// Other bytes took the path. The old sighting stays as history. A task about bytes that could not
/// be judged is pointless once they lie nowhere any more (a file that was half written, or could
/// not be read at first); any other task stays for a person.
async fn leave_behind(
    transaction: &mut Transaction<'static, Sqlite>,
    before: &CurrentSighting,
    at: Timestamp,
    events: &mut Vec<AuditEvent>,
) -> Result<(), RowError> {
    sqlx::query("UPDATE sightings SET gone_at = ? WHERE id = ?")
        .bind(at.0)
        .bind(before.id)
        .execute(&mut **transaction)
        .await?;
    sqlx::query(
        "UPDATE tasks SET sighting = (
             SELECT min(id) FROM sightings WHERE item = ?1 AND gone_at IS NULL)
         WHERE item = ?1 AND sighting = ?2 AND state <> 'closed'
           AND EXISTS (SELECT 1 FROM sightings WHERE item = ?1 AND gone_at IS NULL)",
    )
    .bind(before.item)
    .bind(before.id)
    .execute(&mut **transaction)
    .await?;
    let closed = sqlx::query(
        "UPDATE tasks SET state = 'closed', closed_at = ?1 WHERE item = ?2 AND state <> 'closed'
         AND (SELECT reason FROM items WHERE id = ?2) IS NOT NULL
         AND NOT EXISTS (SELECT 1 FROM sightings WHERE item = ?2 AND gone_at IS NULL)",
    )
    .bind(at.0)
    .bind(before.item)
    .execute(&mut **transaction)
    .await?;
    if closed.rows_affected() > 0 {
        events.push(AuditEvent {
            at,
            kind: AuditKind::Superseded,
            actor: "modtool".to_owned(),
            detail: json!({"item": before.hash.to_string(), "sighting": before.id}).to_string(),
        });
    }
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "one row, one call")]
async fn write_sighting(
    transaction: &mut Transaction<'static, Sqlite>,
    judged_by: &JudgedBy,
    item: i64,
    set: [u8; 32],
    judged: &Judged,
    outcome: Outcome,
    reason: Option<&Reason>,
    at: Timestamp,
) -> Result<i64, RowError> {
    let stat = judged.stat;
    let row = sqlx::query(
        "INSERT INTO sightings (item, path, root, size, mtime_ns, ctime_ns, inode, outcome, reason,
                                model, policy_set, recipe, first_seen, judged_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?13)
         ON CONFLICT (path) WHERE gone_at IS NULL DO UPDATE SET
             root = excluded.root, size = excluded.size, mtime_ns = excluded.mtime_ns,
             ctime_ns = excluded.ctime_ns, inode = excluded.inode, outcome = excluded.outcome,
             reason = excluded.reason, model = excluded.model, policy_set = excluded.policy_set,
             recipe = excluded.recipe, judged_at = excluded.judged_at
         RETURNING id",
    )
    .bind(item)
    .bind(path_bytes(&judged.sighting.path))
    .bind(path_bytes(&judged.sighting.root))
    .bind(stat.size.cast_signed())
    .bind(stat.mtime_ns)
    .bind(stat.ctime_ns)
    .bind(stat.inode.cast_signed())
    .bind(outcome.as_str())
    .bind(reason.map(ToString::to_string))
    .bind(judged_by.model)
    .bind(set.as_slice())
    .bind(&judged.recipe.0)
    .bind(at.0)
    .fetch_one(&mut **transaction)
    .await?;
    Ok(row.try_get(0)?)
}

/// At once where a task may be opened, whose group the hash decides.
async fn write_hash(
    transaction: &mut Transaction<'static, Sqlite>,
    item: i64,
    judged: &Judged,
) -> Result<(), sqlx::Error> {
    let Some(hash) = judged.facts.as_ref().and_then(|facts| facts.hash.as_ref()) else {
        return Ok(());
    };
    sqlx::query("INSERT OR IGNORE INTO perceptual_hashes (item, quality, forms) VALUES (?, ?, ?)")
        .bind(item)
        .bind(hash.quality)
        .bind(hash.to_bytes())
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

/// Opens a task, or adds what is new to the one that waits already. Answers its number, and whether
/// anything was new.
#[expect(clippy::too_many_arguments, reason = "one row, one call")]
async fn ask(
    transaction: &mut Transaction<'static, Sqlite>,
    waiting: Option<i64>,
    item: i64,
    sighting: i64,
    judged: &Judged,
    outcome: Outcome,
    reason: Option<&Reason>,
    at: Timestamp,
) -> Result<(i64, bool), RowError> {
    let mut changes = 0;
    let heaviest = judged.verdict.heaviest();
    // What could not be judged might be anything: it is as pressing as the worst.
    let severity = heaviest.map_or(Severity::High, |policy| policy.severity);
    let task: i64 = if let Some(task) = waiting {
        if let Some(heaviest) = heaviest {
            // A sample that is flagged now is a sample no longer.
            changes += sqlx::query(
                "UPDATE tasks SET policy = ?2, severity = ?3, score = ?4, outcome = ?5, reason = ?6,
                     audit_rate = NULL
                 WHERE id = ?1 AND ((severity, score) < (?3, ?4) OR audit_rate IS NOT NULL)",
            )
            .bind(task)
            .bind(heaviest.policy.as_str())
            .bind(severity_number(severity))
            .bind(f64::from(heaviest.score))
            .bind(outcome.as_str())
            .bind(reason.map(ToString::to_string))
            .execute(&mut **transaction)
            .await?
            .rows_affected();
        }
        if let Some(Reason::LikeRemoved(_) | Reason::Inherited(_)) = reason {
            changes += sqlx::query(
                "UPDATE tasks SET reason = ?2, audit_rate = NULL
                 WHERE id = ?1 AND (reason IS NULL OR audit_rate IS NOT NULL)",
            )
            .bind(task)
            .bind(reason.map(ToString::to_string))
            .execute(&mut **transaction)
            .await?
            .rows_affected();
        }
        if let Some(Reason::Unjudged(_) | Reason::Unreadable(_)) = reason {
            // How many files there are.
            changes +=
                sqlx::query("UPDATE tasks SET reason = ?2 WHERE id = ?1 AND reason IS NOT ?2")
                    .bind(task)
                    .bind(reason.map(ToString::to_string))
                    .execute(&mut **transaction)
                    .await?
                    .rows_affected();
        }
        if reason == Some(&Reason::Held) {
            changes += sqlx::query(
                "UPDATE tasks SET outcome = 'block', reason = ?1
                 WHERE id = ?2 AND (outcome <> 'block' OR reason IS NOT ?1)",
            )
            .bind(Reason::Held.to_string())
            .bind(task)
            .execute(&mut **transaction)
            .await?
            .rows_affected();
        }
        task
    } else {
        sqlx::query(
            "INSERT INTO tasks (item, sighting, policy, severity, score, outcome, reason, state,
                                opened_at)
             VALUES (?, ?, ?, ?, ?, ?, ?, 'open', ?) RETURNING id",
        )
        .bind(item)
        .bind(sighting)
        .bind(heaviest.map(|policy| policy.policy.as_str()))
        .bind(severity_number(severity))
        .bind(heaviest.map_or(0.0, |policy| f64::from(policy.score)))
        .bind(outcome.as_str())
        .bind(reason.map(ToString::to_string))
        .bind(at.0)
        .fetch_one(&mut **transaction)
        .await?
        .try_get(0)?
    };
    if waiting.is_none() {
        groups::join(transaction, TaskId(task)).await?;
    }
    for policy in flagged(&judged.verdict) {
        changes += sqlx::query("INSERT OR IGNORE INTO task_policies (task, policy) VALUES (?, ?)")
            .bind(task)
            .bind(policy)
            .execute(&mut **transaction)
            .await?
            .rows_affected();
    }
    Ok((task, waiting.is_none() || changes > 0))
}

/// The item's undecided task.
async fn waiting_task(
    transaction: &mut Transaction<'static, Sqlite>,
    item: i64,
) -> Result<Option<i64>, RowError> {
    let row = sqlx::query("SELECT id FROM tasks WHERE item = ? AND state <> ?")
        .bind(item)
        .bind(ReviewState::Closed.as_str())
        .fetch_optional(&mut **transaction)
        .await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// What a Block does to the file.
enum Hold {
    /// No policy that blocks says `on_block: hold`.
    NotAsked,
    /// Decisions don't allow it; the text says why.
    NotArmed(String),
    /// So many were held in 24 hours.
    Capped(u64),
    /// It goes to quarantine.
    Held,
}

/// A day, in milliseconds.
const DAY_MS: i64 = 86_400_000;

async fn hold(
    transaction: &mut Transaction<'static, Sqlite>,
    model: i64,
    holds: &[(i64, Arming)],
    at: Timestamp,
    batch: &mut Batch<'_>,
) -> Result<Hold, RowError> {
    let mut answer = Hold::NotAsked;
    for (version, needs) in holds.iter().copied() {
        let state = match batch.arming.get(&version) {
            Some(state) => state.clone(),
            None => look_again(transaction, version, model, needs, at).await?,
        };
        let shortfall = state.shortfall();
        batch.arming.insert(version, state);
        let Some(why) = shortfall else {
            let cap = batch.settings.daily_hold_cap;
            let held = held_since(transaction, Timestamp(at.0 - DAY_MS)).await?;
            return Ok(if held >= cap { Hold::Capped(cap) } else { Hold::Held });
        };
        answer = Hold::NotArmed(why);
    }
    Ok(answer)
}

/// Sends a random share of what no policy flags to a person, once an item: without it nobody
/// knows what is missed. Answers whether it did.
async fn sample(
    transaction: &mut Transaction<'static, Sqlite>,
    item: i64,
    sighting: i64,
    judged: &Judged,
    at: Timestamp,
    batch: &mut Batch<'_>,
) -> Result<bool, RowError> {
    let rate = batch.settings.audit_rate;
    if rate <= 0.0 || judged.verdict.policies.is_empty() {
        return Ok(false);
    }
    if batch.sampling.is_none() {
        let row = sqlx::query("SELECT bytes FROM secrets WHERE name = 'audit_lane'")
            .fetch_one(&mut **transaction)
            .await?;
        batch.sampling = Some(row.try_get(0)?);
    }
    // Drawn by the bytes, so that judging again draws the same, and with a secret, so that no
    // uploader can tell.
    let mut hasher = Sha256::new();
    hasher.update(batch.sampling.as_deref().unwrap_or_default());
    hasher.update(judged.item.as_bytes());
    let digest: [u8; 32] = hasher.finalize().into();
    let (drawn, _) = digest.as_chunks::<4>();
    if f64::from(u32::from_le_bytes(drawn[0])) >= rate * 2_f64.powi(32) {
        return Ok(false);
    }
    // Blind: no policy, no score; and of any severity, so that its place in the queue says
    // nothing.
    let opened = sqlx::query(
        "INSERT INTO tasks (item, sighting, severity, score, outcome, state, opened_at, audit_rate)
         SELECT ?1, ?2, ?3, 0, 'review', 'open', ?4, ?5
         WHERE NOT EXISTS (SELECT 1 FROM tasks WHERE item = ?1 AND audit_rate IS NOT NULL)",
    )
    .bind(item)
    .bind(sighting)
    .bind(i64::from(drawn[1][0] % 3))
    .bind(at.0)
    .bind(rate)
    .execute(&mut **transaction)
    .await?;
    Ok(opened.rows_affected() == 1)
}
