//! Verbs of the numbers: what came and went, who decided what, how right the policies are.

use std::collections::BTreeMap;

use serde_json::Value;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::moderation::{
    Action, DayCount, Fingerprint, PolicyHash, PolicyId, PolicyStats, ReviewStats, Reviewer,
    ReviewerStats, ScoreHistogram, Timestamp,
};

use super::rows::{RowError, policy_id_of, unreadable};
use super::{Store, StoreError, hex};

impl Store {
    /// The numbers since the first of `days`, which are the beginnings of days in order;
    /// the last day ends at `now`.
    pub async fn review_stats(
        &self,
        days: &[Timestamp],
        now: Timestamp,
    ) -> Result<ReviewStats, StoreError> {
        let since = days.first().copied().unwrap_or(now);
        let read = async {
            Ok(ReviewStats {
                days: self.day_counts(days, now).await?,
                reviewers: self.reviewer_stats(since).await?,
                policies: self.policy_stats(since).await?,
            })
        };
        read.await.map_err(|error| self.failed(error))
    }

    async fn day_counts(
        &self,
        days: &[Timestamp],
        now: Timestamp,
    ) -> Result<Vec<DayCount>, RowError> {
        let mut reader = self.readers.acquire().await?;
        let row = sqlx::query(
            "SELECT (SELECT count(*) FROM tasks WHERE state = 'open')
                  + (SELECT count(*) FROM tasks WHERE state = 'escalated')",
        )
        .fetch_one(&mut *reader)
        .await?;
        let mut waiting = row.try_get::<i64, _>(0)?.unsigned_abs();
        let ends = days.iter().skip(1).copied().chain([Timestamp(now.0.saturating_add(1))]);
        let mut counts = Vec::with_capacity(days.len());
        for (start, end) in days.iter().copied().zip(ends).collect::<Vec<_>>().into_iter().rev() {
            let row = sqlx::query(
                "SELECT (SELECT count(*) FROM tasks WHERE opened_at >= ?1 AND opened_at < ?2),
                        (SELECT count(*) FROM tasks WHERE closed_at >= ?1 AND closed_at < ?2)",
            )
            .bind(start.0)
            .bind(end.0)
            .fetch_one(&mut *reader)
            .await?;
            let opened = row.try_get::<i64, _>(0)?.unsigned_abs();
            let closed = row.try_get::<i64, _>(1)?.unsigned_abs();
            counts.push(DayCount { start, opened, closed, waiting });
            waiting = (waiting + closed).saturating_sub(opened);
        }
        counts.reverse();
        Ok(counts)
    }

    async fn reviewer_stats(&self, since: Timestamp) -> Result<Vec<ReviewerStats>, RowError> {
        let rows = sqlx::query(REVIEWER_STATS).bind(since.0).fetch_all(&self.readers).await?;
        let mut reviewers: BTreeMap<String, [u64; 4]> = BTreeMap::new();
        for row in &rows {
            let what: String = row.try_get("what")?;
            let place = match what.as_str() {
                "approve" => 0,
                "remove" => 1,
                "escalate" => 2,
                _ => 3,
            };
            let counts = reviewers.entry(row.try_get("reviewer")?).or_default();
            counts[place] = row.try_get::<i64, _>("times")?.unsigned_abs();
        }
        let stats = |(name, counts): (String, [u64; 4])| {
            let [approved, removed, escalated, exposures] = counts;
            let reviewer = Reviewer::new(&name).map_err(|name| unreadable("reviewer", name.0))?;
            Ok(ReviewerStats { reviewer, approved, removed, escalated, exposures })
        };
        reviewers.into_iter().map(stats).collect()
    }

    async fn policy_stats(&self, since: Timestamp) -> Result<Vec<PolicyStats>, RowError> {
        let rows = sqlx::query(POLICY_STATS).bind(since.0).fetch_all(&self.readers).await?;
        let mut counted = Vec::with_capacity(rows.len());
        for row in &rows {
            let action: String = row.try_get("action")?;
            let times = row.try_get::<i64, _>("times")?.unsigned_abs();
            counted.push((row.try_get::<String, _>("policy")?, Action::parse(&action), times));
        }
        let waiting = self.policy_counts().await?;
        let mut policies: BTreeMap<PolicyId, PolicyStats> = BTreeMap::new();
        let none = |policy: &PolicyId| PolicyStats {
            policy: policy.clone(),
            waiting: 0,
            removed: 0,
            approved: 0,
        };
        for (policy, count) in waiting {
            policies.entry(policy.clone()).or_insert_with(|| none(&policy)).waiting = count;
        }
        for (id, action, times) in counted {
            let policy = policy_id_of(id)?;
            let stats = policies.entry(policy.clone()).or_insert_with(|| none(&policy));
            match action {
                Some(Action::Remove) => stats.removed = times,
                _ => stats.approved = times,
            }
        }
        Ok(policies.into_values().collect())
    }

    /// How the scores of all items lie, for each of these policy versions; those that judged
    /// nothing are left out.
    pub async fn score_histograms(
        &self,
        fingerprint: &Fingerprint,
        versions: &[PolicyHash],
    ) -> Result<Vec<ScoreHistogram>, StoreError> {
        let wanted: Vec<String> = versions.iter().map(|version| hex(&version.0)).collect();
        let read = async {
            let rows = sqlx::query(
                "SELECT p.policy, p.hash, b.bin, b.items
                 FROM json_each(?1) AS k CROSS JOIN policy_versions AS p ON p.hash = unhex(k.value)
                 CROSS JOIN score_bins AS b ON b.policy_version = p.id
                   AND b.model = (SELECT id FROM models WHERE fingerprint = ?2)
                 ORDER BY k.key, b.bin",
            )
            .bind(Value::from(wanted).to_string())
            .bind(&fingerprint.0)
            .fetch_all(&self.readers)
            .await?;
            let mut histograms: Vec<ScoreHistogram> = Vec::new();
            for row in &rows {
                add_bin(&mut histograms, row)?;
            }
            Ok(histograms)
        };
        read.await.map_err(|error| self.failed(error))
    }
}

/// Binds: since. The plus keeps the index by reviewer out, which would be walked from end to end.
pub(super) const REVIEWER_STATS: &str =
    "SELECT d.reviewer, d.action AS what, count(*) AS times FROM decisions AS d
     WHERE d.at >= ?1 AND d.action <> 'undo'
       AND NOT EXISTS (SELECT 1 FROM decisions AS u WHERE u.undoes = d.id)
     GROUP BY d.reviewer, d.action
     UNION ALL
     SELECT reviewer, 'see', count(*) FROM exposures WHERE at >= ?1 GROUP BY +reviewer";

/// Binds: since.
pub(super) const POLICY_STATS: &str =
    "SELECT p.policy, d.action, count(*) AS times FROM decisions AS d
     JOIN task_policies AS p ON p.task = d.task
     WHERE d.at >= ?1 AND d.action IN ('approve', 'remove')
       AND NOT EXISTS (SELECT 1 FROM decisions AS u WHERE u.undoes = d.id)
     GROUP BY p.policy, d.action";

fn add_bin(histograms: &mut Vec<ScoreHistogram>, row: &SqliteRow) -> Result<(), RowError> {
    let hash: &[u8] = row.try_get("hash")?;
    let hash: [u8; 32] = hash
        .try_into()
        .map_err(|_torn| unreadable("policy hash", format!("{} bytes", hash.len())))?;
    let (bin, items): (i64, i64) = (row.try_get("bin")?, row.try_get("items")?);
    if histograms.last().is_none_or(|last| last.version != PolicyHash(hash)) {
        let policy = policy_id_of(row.try_get("policy")?)?;
        histograms.push(ScoreHistogram::empty(policy, PolicyHash(hash)));
    }
    if let Some(last) = histograms.last_mut() {
        last.add(usize::try_from(bin).unwrap_or(usize::MAX), items.unsigned_abs());
    }
    Ok(())
}
