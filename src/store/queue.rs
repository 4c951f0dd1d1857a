//! Verbs of review: the queue, its numbers, and decisions as an event log.

use serde_json::json;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row as _, Sqlite, Transaction};

use crate::moderation::review::queue_order;
use crate::moderation::{
    Action, AuditEvent, AuditKind, Decision, DecisionId, DecisionOutcome, Mode, Outcome,
    PastDecision, PolicyId, PolicyVerdict, QueueCounts, QueueCursor, QueueFilter, ReviewState,
    ReviewTask, Reviewer, Sighting, TaskDetail, TaskId, Timestamp, UndoOutcome,
};

use super::rows::{
    RowError, item_of, past_decision_of, path_of, policy_id_of, policy_verdict_of, severity_number,
    state_of, task_of,
};
use super::{Store, StoreError, append_audit};

/// The columns that [`task_of`] reads.
const TASK_COLUMNS: &str = "t.id, i.hash, s.path, t.policy, t.severity, t.score, t.outcome,
    t.reason, t.state, t.opened_at,
    (SELECT count(*) FROM sightings AS n WHERE n.item = t.item AND n.gone_at IS NULL) AS sightings";

/// The columns that [`past_decision_of`] reads.
const DECISION_COLUMNS: &str = "d.id, d.task, d.action, d.reviewer, d.reason, d.note, d.at,
    EXISTS (SELECT 1 FROM decisions AS u WHERE u.undoes = d.id) AS undone";

impl Store {
    /// One page of the queue, the most pressing first: by severity, then score, then age.
    /// `after` is the cursor of the last row before the page.
    pub async fn queue(
        &self,
        filter: &QueueFilter,
        after: Option<QueueCursor>,
        limit: u32,
    ) -> Result<Vec<ReviewTask>, StoreError> {
        let undecided = [ReviewState::Open, ReviewState::Escalated];
        let states = filter.state.as_ref().map_or(undecided.as_slice(), std::slice::from_ref);
        let mut tasks = Vec::new();
        // One state at a time, because then the index holds the rows in just this order.
        for state in states {
            let page = self.queue_of_state(*state, filter, after, limit).await;
            tasks.extend(page.map_err(|error| self.failed(error))?);
        }
        tasks.sort_by(queue_order);
        tasks.truncate(limit as usize);
        Ok(tasks)
    }

    async fn queue_of_state(
        &self,
        state: ReviewState,
        filter: &QueueFilter,
        after: Option<QueueCursor>,
        limit: u32,
    ) -> Result<Vec<ReviewTask>, RowError> {
        let only_policy = match filter.policy {
            Some(_) => {
                "AND EXISTS (SELECT 1 FROM task_policies AS p
                                    WHERE p.task = t.id AND p.policy = ?5)"
            }
            None => "",
        };
        let statement = format!(
            "SELECT {TASK_COLUMNS} FROM tasks AS t
             JOIN items AS i ON i.id = t.item JOIN sightings AS s ON s.id = t.sighting
             WHERE t.state = ?1 AND t.severity <= ?2
               AND (t.severity < ?2 OR t.score < ?3 OR (t.score = ?3 AND t.id > ?4)) {only_policy}
             ORDER BY t.severity DESC, t.score DESC, t.id LIMIT ?6"
        );
        let before_all = (i64::MAX, f64::INFINITY, 0);
        let (severity, score, id) = after.map_or(before_all, |cursor| {
            (severity_number(cursor.severity), f64::from(cursor.score), cursor.id.0)
        });
        let rows = sqlx::query(AssertSqlSafe(statement))
            .bind(state.as_str())
            .bind(severity)
            .bind(score)
            .bind(id)
            .bind(filter.policy.as_ref().map(PolicyId::as_str))
            .bind(limit)
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(task_of).collect()
    }

    /// The numbers of the dashboard's first line; `day_start` is midnight where the reviewer is.
    pub async fn queue_counts(&self, day_start: Timestamp) -> Result<QueueCounts, StoreError> {
        let row = sqlx::query(
            "SELECT (SELECT count(*) FROM tasks WHERE state = 'open') AS open,
                    (SELECT count(*) FROM tasks WHERE state = 'escalated') AS escalated,
                    (SELECT count(*) FROM decisions AS d WHERE d.at >= ? AND d.action <> 'undo'
                       AND NOT EXISTS (SELECT 1 FROM decisions AS u WHERE u.undoes = d.id))
                      AS decided,
                    (SELECT min(opened_at) FROM tasks WHERE state IN ('open', 'escalated'))
                      AS oldest",
        )
        .bind(day_start.0)
        .fetch_one(&self.readers)
        .await;
        let counts = |row: SqliteRow| {
            Ok(QueueCounts {
                open: row.try_get::<i64, _>("open")?.unsigned_abs(),
                escalated: row.try_get::<i64, _>("escalated")?.unsigned_abs(),
                decided_today: row.try_get::<i64, _>("decided")?.unsigned_abs(),
                oldest: row.try_get::<Option<i64>, _>("oldest")?.map(Timestamp),
            })
        };
        row.and_then(counts).map_err(|source| self.sql(source))
    }

    /// How many undecided tasks each policy flagged, by policy id. One task can count for several.
    pub async fn policy_counts(&self) -> Result<Vec<(PolicyId, u64)>, StoreError> {
        let rows = sqlx::query(
            "SELECT p.policy, count(*) AS tasks FROM tasks AS t
             JOIN task_policies AS p ON p.task = t.id
             WHERE t.state IN ('open', 'escalated') GROUP BY p.policy ORDER BY p.policy",
        )
        .fetch_all(&self.readers)
        .await
        .map_err(|source| self.sql(source))?;
        let count = |row: &SqliteRow| {
            let tasks: i64 = row.try_get("tasks")?;
            Ok((policy_id_of(row.try_get("policy")?)?, tasks.unsigned_abs()))
        };
        rows.iter().map(count).collect::<Result<_, _>>().map_err(|error| self.failed(error))
    }

    /// A task with all that is known about its item; `None` when there is no such task.
    pub async fn task_detail(&self, id: TaskId) -> Result<Option<TaskDetail>, StoreError> {
        self.read_detail(id).await.map_err(|error| self.failed(error))
    }

    async fn read_detail(&self, id: TaskId) -> Result<Option<TaskDetail>, RowError> {
        let statement = format!(
            "SELECT {TASK_COLUMNS}, t.item, t.sighting, s.policy_set, s.model FROM tasks AS t
             JOIN items AS i ON i.id = t.item JOIN sightings AS s ON s.id = t.sighting
             WHERE t.id = ?"
        );
        let mut reader = self.readers.acquire().await?;
        let row =
            sqlx::query(AssertSqlSafe(statement)).bind(id.0).fetch_optional(&mut *reader).await?;
        let Some(row) = row else { return Ok(None) };
        let item: i64 = row.try_get("item")?;

        let mut policies = sqlx::query(POLICY_VERDICTS_OF_A_SIGHTING)
            .bind(row.try_get::<&[u8], _>("policy_set")?)
            .bind(item)
            .bind(row.try_get::<Option<i64>, _>("model")?)
            .fetch_all(&mut *reader)
            .await?
            .iter()
            .map(policy_verdict_of)
            .collect::<Result<Vec<_>, _>>()?;
        policies.sort_by(most_telling_first);

        let sightings = sqlx::query(
            "SELECT path, root FROM sightings WHERE item = ? AND (gone_at IS NULL OR id = ?)
             ORDER BY id <> ?2, path LIMIT 100",
        )
        .bind(item)
        .bind(row.try_get::<i64, _>("sighting")?)
        .fetch_all(&mut *reader)
        .await?;
        let sighting = |row: &SqliteRow| {
            Ok::<_, RowError>(Sighting {
                path: path_of(row.try_get("path")?),
                root: path_of(row.try_get("root")?),
            })
        };

        let statement = format!(
            "SELECT {DECISION_COLUMNS} FROM decisions AS d
             WHERE d.item = ? AND d.action <> 'undo' ORDER BY d.id DESC LIMIT 20"
        );
        let decisions =
            sqlx::query(AssertSqlSafe(statement)).bind(item).fetch_all(&mut *reader).await?;
        Ok(Some(TaskDetail {
            task: task_of(&row)?,
            policies,
            sightings: sightings.iter().map(sighting).collect::<Result<_, _>>()?,
            decisions: decisions.iter().map(past_decision_of).collect::<Result<_, _>>()?,
        }))
    }

    /// Writes a decision, its audit event, and the task's new state in ONE transaction. Of two
    /// reviewers who decide one task, exactly one is recorded and the other learns of it.
    pub async fn record_decision(
        &self,
        decision: &Decision,
    ) -> Result<DecisionOutcome, StoreError> {
        let mut transaction = self.begin().await?;
        let decided = decide(&mut transaction, decision).await;
        let decided = decided.map_err(|error| self.failed(error))?;
        self.commit(transaction).await?;
        Ok(decided)
    }

    /// Takes back the reviewer's latest decision that stands, as one more event, and puts the
    /// task back into the state before it.
    pub async fn undo(
        &self,
        reviewer: &Reviewer,
        at: Timestamp,
    ) -> Result<UndoOutcome, StoreError> {
        let mut transaction = self.begin().await?;
        let undone = undo_latest(&mut transaction, reviewer, at).await;
        let undone = undone.map_err(|error| self.failed(error))?;
        self.commit(transaction).await?;
        Ok(undone)
    }
}

/// Binds: policy set, item, model.
pub(super) const POLICY_VERDICTS_OF_A_SIGHTING: &str =
    "SELECT p.policy, p.hash, p.severity, p.mode, v.score, v.outcome, v.prompt
     FROM policy_sets AS m
     JOIN policy_versions AS p ON p.id = m.policy_version
     JOIN verdicts AS v ON v.policy_version = p.id
     WHERE m.hash = ?1 AND v.item = ?2 AND v.model = ?3 ORDER BY m.position";

/// Flagging policies first, background ones last; within each, the highest score first.
fn most_telling_first(a: &PolicyVerdict, b: &PolicyVerdict) -> std::cmp::Ordering {
    let rank = |policy: &PolicyVerdict| match (policy.flags(), policy.mode) {
        (true, _) => 0,
        (false, Mode::Background) if policy.outcome > Outcome::Allow => 1,
        _ => 2,
    };
    rank(a).cmp(&rank(b)).then_with(|| {
        let severity = if rank(a) == 0 { b.severity.cmp(&a.severity) } else { 0.cmp(&0) };
        severity.then_with(|| b.score.total_cmp(&a.score))
    })
}

async fn decide(
    transaction: &mut Transaction<'static, Sqlite>,
    decision: &Decision,
) -> Result<DecisionOutcome, RowError> {
    let task = sqlx::query(
        "SELECT t.state, t.item, i.hash FROM tasks AS t JOIN items AS i ON i.id = t.item
         WHERE t.id = ?",
    )
    .bind(decision.task.0)
    .fetch_optional(&mut **transaction)
    .await?;
    let Some(task) = task else { return Ok(DecisionOutcome::Superseded) };
    let state = state_of(task.try_get("state")?)?;
    let again = state == ReviewState::Escalated && decision.action == Action::Escalate;
    if state == ReviewState::Closed || again {
        let standing = standing_decision(transaction, decision.task).await?;
        return Ok(standing.map_or(DecisionOutcome::Superseded, DecisionOutcome::AlreadyDecided));
    }
    let item: i64 = task.try_get("item")?;
    let id = sqlx::query(
        "INSERT INTO decisions (task, item, action, reviewer, reason, note, at)
         VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING id",
    )
    .bind(decision.task.0)
    .bind(item)
    .bind(decision.action.as_str())
    .bind(decision.reviewer.as_str())
    .bind(decision.reason.as_ref().map(PolicyId::as_str))
    .bind(&decision.note)
    .bind(decision.at.0)
    .fetch_one(&mut **transaction)
    .await?
    .try_get(0)?;
    set_state(transaction, decision.task, decision.action.state(), decision.at).await?;
    let event = AuditEvent {
        at: decision.at,
        kind: AuditKind::Decision,
        actor: decision.reviewer.as_str().to_owned(),
        detail: json!({
            "decision": id,
            "task": decision.task.0,
            "item": item_of(task.try_get("hash")?)?.to_string(),
            "action": decision.action.as_str(),
            "reason": decision.reason.as_ref().map(PolicyId::as_str),
            "note": decision.note,
        })
        .to_string(),
    };
    append_audit(transaction, &[event]).await?;
    Ok(DecisionOutcome::Recorded(DecisionId(id)))
}

async fn undo_latest(
    transaction: &mut Transaction<'static, Sqlite>,
    reviewer: &Reviewer,
    at: Timestamp,
) -> Result<UndoOutcome, RowError> {
    let statement = format!(
        "SELECT {DECISION_COLUMNS} FROM decisions AS d
         WHERE d.reviewer = ? AND d.action <> 'undo'
           AND NOT EXISTS (SELECT 1 FROM decisions AS u WHERE u.undoes = d.id)
         ORDER BY d.id DESC LIMIT 1"
    );
    let latest = sqlx::query(AssertSqlSafe(statement))
        .bind(reviewer.as_str())
        .fetch_optional(&mut **transaction)
        .await?;
    let Some(latest) = latest else { return Ok(UndoOutcome::NothingToUndo) };
    let latest = past_decision_of(&latest)?;
    let task = latest.decision.task;
    if let Some(standing) = standing_decision(transaction, task).await?
        && standing.id != latest.id
    {
        return Ok(UndoOutcome::DecidedSince(standing));
    }
    let id: i64 = sqlx::query(
        "INSERT INTO decisions (task, item, action, undoes, reviewer, at)
         SELECT task, item, 'undo', id, ?, ? FROM decisions WHERE id = ? RETURNING id",
    )
    .bind(reviewer.as_str())
    .bind(at.0)
    .bind(latest.id.0)
    .fetch_one(&mut **transaction)
    .await?
    .try_get(0)?;
    let before = standing_decision(transaction, task).await?;
    let state = before.map_or(ReviewState::Open, |before| before.decision.action.state());
    if !another_task_waits(transaction, task).await? {
        set_state(transaction, task, state, at).await?;
    }
    let event = AuditEvent {
        at,
        kind: AuditKind::Undo,
        actor: reviewer.as_str().to_owned(),
        detail: json!({"decision": id, "undoes": latest.id.0, "task": task.0}).to_string(),
    };
    append_audit(transaction, &[event]).await?;
    Ok(UndoOutcome::Undone(latest))
}

/// The task's latest decision that was not taken back.
async fn standing_decision(
    transaction: &mut Transaction<'static, Sqlite>,
    task: TaskId,
) -> Result<Option<PastDecision>, RowError> {
    let statement = format!(
        "SELECT {DECISION_COLUMNS} FROM decisions AS d
         WHERE d.task = ? AND d.action <> 'undo'
           AND NOT EXISTS (SELECT 1 FROM decisions AS u WHERE u.undoes = d.id)
         ORDER BY d.id DESC LIMIT 1"
    );
    let row = sqlx::query(AssertSqlSafe(statement))
        .bind(task.0)
        .fetch_optional(&mut **transaction)
        .await?;
    row.as_ref().map(past_decision_of).transpose()
}

/// Whether the same item is asked about by another task already (it was uploaded again since);
/// then reopening this one would ask twice.
async fn another_task_waits(
    transaction: &mut Transaction<'static, Sqlite>,
    task: TaskId,
) -> Result<bool, RowError> {
    let row = sqlx::query(
        "SELECT 1 FROM tasks WHERE item = (SELECT item FROM tasks WHERE id = ?1)
         AND id <> ?1 AND state <> 'closed'",
    )
    .bind(task.0)
    .fetch_optional(&mut **transaction)
    .await?;
    Ok(row.is_some())
}

async fn set_state(
    transaction: &mut Transaction<'static, Sqlite>,
    task: TaskId,
    state: ReviewState,
    at: Timestamp,
) -> Result<(), RowError> {
    let closed_at = (state == ReviewState::Closed).then_some(at.0);
    sqlx::query("UPDATE tasks SET state = ?, closed_at = ? WHERE id = ?")
        .bind(state.as_str())
        .bind(closed_at)
        .bind(task.0)
        .execute(&mut **transaction)
        .await?;
    Ok(())
}
