//! Verbs about `on_block: hold`: whether people's decisions allow it to act.

use serde_json::json;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, Sqlite, Transaction};

use crate::moderation::{
    Arming, AuditEvent, AuditKind, Fingerprint, PolicyHash, PolicyId, Share, Timestamp,
};

use super::rows::{RowError, policy_id_of};
use super::{Store, StoreError, append_audit};

/// How a policy's hold stands.
#[derive(Debug, Clone, PartialEq)]
pub struct ArmingState {
    /// Which policy.
    pub policy: PolicyId,
    /// What it needs.
    pub needs: Arming,
    /// Of its decided Blocks, how many were removed.
    pub removed: Share,
}

impl ArmingState {
    /// Whether a Block may hold a file.
    pub fn is_armed(&self) -> bool {
        self.needs.is_armed(self.removed)
    }

    /// Why it may not, for people; nothing when it may.
    pub fn shortfall(&self) -> Option<String> {
        let Arming { min_precision, min_decisions } = self.needs;
        if self.removed.of < min_decisions {
            return Some(format!("{} of {min_decisions} decisions", self.removed.of));
        }
        (!self.is_armed()).then(|| {
            format!(
                "precision is {:.1} % for sure, {:.1} % is needed",
                self.removed.lower() * 100.0,
                min_precision * 100.0
            )
        })
    }
}

impl Store {
    /// How the hold of a policy version stands, from the decisions about what it blocked.
    pub async fn arming(
        &self,
        policy: &PolicyId,
        version: PolicyHash,
        needs: Arming,
        fingerprint: &Fingerprint,
    ) -> Result<ArmingState, StoreError> {
        let row = sqlx::query(
            "SELECT (SELECT id FROM policy_versions WHERE hash = ?),
                    (SELECT id FROM models WHERE fingerprint = ?)",
        )
        .bind(version.0.as_slice())
        .bind(&fingerprint.0)
        .fetch_one(&self.readers)
        .await;
        let removed = async {
            let row = row?;
            let ids: (Option<i64>, Option<i64>) = (row.try_get(0)?, row.try_get(1)?);
            let (Some(version), Some(model)) = ids else { return Ok(Share::new(0, 0)) };
            let row =
                sqlx::query(DECIDED_BLOCKS).bind(version).bind(model).fetch_one(&self.readers);
            share_of(&row.await?)
        };
        let removed = removed.await.map_err(|source: sqlx::Error| self.sql(source))?;
        Ok(ArmingState { policy: policy.clone(), needs, removed })
    }
}

/// Of the items that a version blocked, how many were decided and how many removed: each once, by
/// its latest decision that stands. One that was removed for another policy says nothing.
/// Binds: policy version, model.
const DECIDED_BLOCKS: &str = "
    SELECT count(*), coalesce(sum(d.action = 'remove'), 0)
    FROM (SELECT max(l.id) AS id, l.item FROM decisions AS l
          WHERE l.action IN ('approve', 'remove')
            AND NOT EXISTS (SELECT 1 FROM decisions AS u WHERE u.undoes = l.id)
          GROUP BY l.item) AS latest
    JOIN decisions AS d ON d.id = latest.id
    JOIN verdicts AS v ON v.item = latest.item AND v.policy_version = ?1 AND v.model = ?2
    JOIN policy_versions AS p ON p.id = v.policy_version
    WHERE v.outcome = 'block'
      AND (d.action = 'approve' OR d.reason IS NULL OR d.reason = p.policy)";

fn share_of(row: &SqliteRow) -> Result<Share, sqlx::Error> {
    let (decided, removed): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    Ok(Share::new(removed.unsigned_abs(), decided.unsigned_abs()))
}

/// Looks at the decisions again and keeps what comes out, with an audit event where it changed.
pub(super) async fn look_again(
    transaction: &mut Transaction<'static, Sqlite>,
    version: i64,
    model: i64,
    needs: Arming,
    at: Timestamp,
) -> Result<ArmingState, RowError> {
    let removed =
        sqlx::query(DECIDED_BLOCKS).bind(version).bind(model).fetch_one(&mut **transaction).await?;
    let removed = share_of(&removed)?;
    let known = sqlx::query(
        "SELECT p.policy, (SELECT a.armed FROM arming AS a
                           WHERE a.policy_version = p.id AND a.model = ?2) AS armed
         FROM policy_versions AS p WHERE p.id = ?1",
    )
    .bind(version)
    .bind(model)
    .fetch_one(&mut **transaction)
    .await?;
    let policy = policy_id_of(known.try_get("policy")?)?;
    let was_armed: Option<bool> = known.try_get("armed")?;
    let state = ArmingState { policy, needs, removed };
    let armed = state.is_armed();
    sqlx::query(
        "INSERT INTO arming (policy_version, model, armed, min_precision, min_decisions)
         VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET armed = excluded.armed,
             min_precision = excluded.min_precision, min_decisions = excluded.min_decisions",
    )
    .bind(version)
    .bind(model)
    .bind(armed)
    .bind(f64::from(needs.min_precision))
    .bind(needs.min_decisions.cast_signed())
    .execute(&mut **transaction)
    .await?;
    if was_armed.unwrap_or(false) != armed {
        let event = AuditEvent {
            at,
            kind: if armed { AuditKind::Armed } else { AuditKind::Disarmed },
            actor: "modtool".to_owned(),
            detail: json!({
                "policy": state.policy.as_str(),
                "decided": removed.of,
                "removed": removed.hits,
                "lower_bound": removed.lower(),
                "needs": {"precision": needs.min_precision, "decisions": needs.min_decisions},
            })
            .to_string(),
        };
        append_audit(transaction, &[event]).await?;
    }
    Ok(state)
}

/// After a decision: every hold that is armed must still deserve it.
pub(super) async fn disarm_where_due(
    transaction: &mut Transaction<'static, Sqlite>,
    at: Timestamp,
) -> Result<(), RowError> {
    let armed = sqlx::query(
        "SELECT policy_version, model, min_precision, min_decisions FROM arming WHERE armed",
    )
    .fetch_all(&mut **transaction)
    .await?;
    for row in armed {
        let decisions: i64 = row.try_get("min_decisions")?;
        let needs = Arming {
            min_precision: super::rows::narrow(row.try_get("min_precision")?),
            min_decisions: decisions.unsigned_abs(),
        };
        let (version, model) = (row.try_get("policy_version")?, row.try_get("model")?);
        look_again(transaction, version, model, needs, at).await?;
    }
    Ok(())
}
