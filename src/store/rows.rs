//! The bridge from rows to the words of the core; nothing outside the store sees a row.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::moderation::item::plain_folder;
use crate::moderation::{
    Action, Decision, DecisionId, ItemId, Lease, Mode, Outcome, PastDecision, PerceptualHash,
    PolicyHash, PolicyId, PolicyVerdict, Reason, ReviewState, ReviewTask, Reviewer, Severity,
    TaskId, Timestamp,
};

use super::StoreError;

/// A path's raw bytes.
pub(super) fn path_bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_encoded_bytes()
}

/// The path with these raw bytes.
#[cfg(unix)]
pub(super) fn path_of(bytes: Vec<u8>) -> PathBuf {
    use std::os::unix::ffi::OsStringExt as _;
    OsString::from_vec(bytes).into()
}

/// The path with these bytes; outside Unix they are UTF-8 as far as this tool writes them.
#[cfg(not(unix))]
pub(super) fn path_of(bytes: Vec<u8>) -> PathBuf {
    OsString::from(String::from_utf8_lossy(&bytes).into_owned()).into()
}

/// The order of severities in SQL.
pub(super) fn severity_number(severity: Severity) -> i64 {
    match severity {
        Severity::Low => 0,
        Severity::Medium => 1,
        Severity::High => 2,
    }
}

pub(super) fn severity_of(number: i64) -> Result<Severity, StoreError> {
    match number {
        0 => Ok(Severity::Low),
        1 => Ok(Severity::Medium),
        2 => Ok(Severity::High),
        _ => Err(unreadable("severity", number)),
    }
}

pub(super) fn outcome_of(text: &str) -> Result<Outcome, StoreError> {
    Outcome::parse(text).ok_or_else(|| unreadable("outcome", text))
}

pub(super) fn state_of(text: &str) -> Result<ReviewState, StoreError> {
    ReviewState::parse(text).ok_or_else(|| unreadable("review state", text))
}

pub(super) fn policy_id_of(text: String) -> Result<PolicyId, StoreError> {
    PolicyId::new(text).map_err(|refused| unreadable("policy id", refused.0))
}

pub(super) fn item_of(bytes: &[u8]) -> Result<ItemId, StoreError> {
    hash_of("item id", bytes).map(ItemId::from_bytes)
}

/// The names in a row's list; an empty list holds none.
pub(super) fn signals_of(list: &str) -> Vec<String> {
    list.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn hash_of(what: &'static str, bytes: &[u8]) -> Result<[u8; 32], StoreError> {
    bytes.try_into().map_err(|_torn| unreadable(what, format!("{} bytes", bytes.len())))
}

pub(super) fn unreadable(what: &'static str, value: impl std::fmt::Display) -> StoreError {
    StoreError::Row { what, value: value.to_string() }
}

/// Columns: those of `TASK_COLUMNS` in `queue`.
pub(super) fn task_of(row: &SqliteRow) -> Result<ReviewTask, RowError> {
    let policy: Option<String> = row.try_get("policy")?;
    let reason: Option<String> = row.try_get("reason")?;
    let policy = policy.map(policy_id_of).transpose()?;
    Ok(ReviewTask {
        id: TaskId(row.try_get("id")?),
        item: item_of(row.try_get("hash")?)?,
        path: plain_folder(&path_of(row.try_get("path")?)).to_owned(),
        sightings: row.try_get("sightings")?,
        score: policy.as_ref().map(|_| row.try_get("score")).transpose()?.map(narrow),
        policy,
        severity: severity_of(row.try_get("severity")?)?,
        outcome: outcome_of(row.try_get("outcome")?)?,
        reason: reason.as_deref().map(Reason::parse),
        state: state_of(row.try_get("state")?)?,
        opened_at: Timestamp(row.try_get("opened_at")?),
        group: row.try_get("group_size")?,
        lease: lease_of(row)?,
    })
}

/// Columns: `leased_by`, `leased_until`; both NULL where nobody has it open.
pub(super) fn lease_of(row: &SqliteRow) -> Result<Option<Lease>, RowError> {
    let (reviewer, until): (Option<String>, Option<i64>) =
        (row.try_get("leased_by")?, row.try_get("leased_until")?);
    let Some((reviewer, until)) = reviewer.zip(until) else { return Ok(None) };
    let reviewer = Reviewer::new(&reviewer).map_err(|name| unreadable("reviewer", name.0))?;
    Ok(Some(Lease { reviewer, until: Timestamp(until) }))
}

/// Columns: quality, forms; both NULL where the hash was never computed.
pub(super) fn perceptual_hash_of(row: &SqliteRow) -> Result<Option<PerceptualHash>, RowError> {
    let (quality, forms): (Option<u8>, Option<&[u8]>) =
        (row.try_get("quality")?, row.try_get("forms")?);
    let Some((quality, forms)) = quality.zip(forms) else { return Ok(None) };
    let torn = || unreadable("perceptual hash", format!("{} bytes", forms.len()));
    Ok(Some(PerceptualHash::from_bytes(forms, quality).ok_or_else(torn)?))
}

/// Columns: policy, hash, severity, mode, adapter, score, outcome, prompt.
pub(super) fn policy_verdict_of(row: &SqliteRow) -> Result<PolicyVerdict, RowError> {
    let mode: String = row.try_get("mode")?;
    Ok(PolicyVerdict {
        policy: policy_id_of(row.try_get("policy")?)?,
        policy_hash: PolicyHash(hash_of("policy hash", row.try_get("hash")?)?),
        severity: severity_of(row.try_get("severity")?)?,
        mode: Mode::parse(&mode).ok_or_else(|| unreadable("mode", mode))?,
        score: narrow(row.try_get("score")?),
        outcome: outcome_of(row.try_get("outcome")?)?,
        prompt: row.try_get("prompt")?,
        adapter: row.try_get::<Option<String>, _>("adapter")?.map(policy_id_of).transpose()?,
    })
}

/// Columns: id, task, action, reviewer, reason, note, at, undone.
pub(super) fn past_decision_of(row: &SqliteRow) -> Result<PastDecision, RowError> {
    let action: String = row.try_get("action")?;
    let reviewer: String = row.try_get("reviewer")?;
    let reason: Option<String> = row.try_get("reason")?;
    Ok(PastDecision {
        id: DecisionId(row.try_get("id")?),
        decision: Decision {
            task: TaskId(row.try_get("task")?),
            action: Action::parse(&action).ok_or_else(|| unreadable("action", action))?,
            reviewer: Reviewer::new(&reviewer).map_err(|name| unreadable("reviewer", name.0))?,
            reason: reason.map(policy_id_of).transpose()?,
            note: row.try_get("note")?,
            at: Timestamp(row.try_get("at")?),
        },
        undone: row.try_get("undone")?,
    })
}

/// SQLite's reals are doubles; what was stored came from an `f32` and fits again.
#[expect(clippy::cast_possible_truncation, reason = "the value came from an f32")]
pub(super) fn narrow(score: f64) -> f32 {
    score as f32
}

/// Reading a row fails in SQLite or in the meaning; [`super::Store`] turns both into its error.
#[derive(Debug)]
pub(super) enum RowError {
    Sql(sqlx::Error),
    Meaning(StoreError),
}

impl From<sqlx::Error> for RowError {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<StoreError> for RowError {
    fn from(error: StoreError) -> Self {
        Self::Meaning(error)
    }
}

impl super::Store {
    /// Turns what a verb's inner function failed with into the room's error.
    pub(super) fn failed(&self, error: RowError) -> StoreError {
        match error {
            RowError::Sql(source) => self.sql(source),
            RowError::Meaning(error) => error,
        }
    }
}
