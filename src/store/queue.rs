//! Verbs of review: the queue, its numbers, and decisions as an event log.

use std::path::Path;

use serde_json::json;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row as _, Sqlite, Transaction};

use crate::moderation::item::plain_folder;
use crate::moderation::{
    Action, AuditEvent, AuditKind, Decision, DecisionId, DecisionOutcome, ItemId, Lane, Mode,
    Outcome, PastDecision, PolicyId, PolicyVerdict, QueueCounts, QueueCursor, QueueFilter,
    QueueOrder, QueueRows, RedoOutcome, ReviewState, ReviewTask, Reviewer, Sighting, TaskDetail,
    TaskId, Timestamp, UndoOutcome,
};

use super::arming::disarm_where_due;
use super::folders::files_of;
use super::placements::{wish_as_before, wish_as_decided};
use super::rows::{
    RowError, item_of, lease_of, past_decision_of, path_bytes, path_of, policy_id_of,
    policy_verdict_of, severity_number, state_of, task_of,
};
use super::{Store, StoreError, append_audit, bank, groups};

/// The columns that [`task_of`] reads.
pub(super) const TASK_COLUMNS: &str =
    "t.id, i.hash, s.path, t.policy, t.severity, t.score, t.outcome, t.reason, t.state, t.opened_at,
    (SELECT count(*) FROM sightings AS n WHERE n.item = t.item AND n.gone_at IS NULL) AS sightings,
    (SELECT count(*) FROM tasks AS g WHERE g.leader = t.id) + 1 AS group_size,
    l.reviewer AS leased_by, l.until AS leased_until";

/// What [`TASK_COLUMNS`] are taken from.
pub(super) const TASK_TABLES: &str = "tasks AS t
    JOIN items AS i ON i.id = t.item JOIN sightings AS s ON s.id = t.sighting
    LEFT JOIN leases AS l ON l.task = t.id";

/// The columns that [`past_decision_of`] reads.
pub(super) const DECISION_COLUMNS: &str =
    "d.id, d.task, d.action, d.reviewer, d.reason, d.note, d.at,
    EXISTS (SELECT 1 FROM decisions AS u WHERE u.undoes = d.id) AS undone";

impl Store {
    /// One page of the queue in the filter's order. `after` is the cursor of the last row before
    /// the page.
    pub async fn queue(
        &self,
        filter: &QueueFilter,
        after: Option<QueueCursor>,
        limit: u32,
    ) -> Result<Vec<ReviewTask>, StoreError> {
        let undecided = [ReviewState::Open, ReviewState::Escalated];
        let states = filter.state.as_ref().map_or(undecided.as_slice(), std::slice::from_ref);
        let mut tasks = Vec::new();
        // One state at a time, because then an index holds the rows in just this order.
        for state in states {
            let page = self.queue_of_state(*state, filter, after, limit).await;
            tasks.extend(page.map_err(|error| self.failed(error))?);
        }
        tasks.sort_by(|a, b| filter.order.compare(a, b));
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
        let (severity, score, opened_at, id) = match (after, filter.order) {
            (Some(cursor), _) => (
                severity_number(cursor.severity),
                f64::from(cursor.score),
                cursor.opened_at.0,
                cursor.id.0,
            ),
            (None, QueueOrder::Newest) => (i64::MAX, f64::INFINITY, i64::MAX, i64::MAX),
            (None, _) => (i64::MAX, f64::INFINITY, i64::MIN, 0),
        };
        let rows = sqlx::query(AssertSqlSafe(page_statement(filter)))
            .bind(state.as_str())
            .bind(severity)
            .bind(score)
            .bind(id)
            .bind(filter.policy.as_ref().map(|policy| format!(" {policy} ")))
            .bind(limit)
            .bind(opened_at)
            .bind(filter.outcome.map(Outcome::as_str))
            .bind(filter.text.as_ref().map(|text| text.to_ascii_lowercase().into_bytes()))
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(task_of).collect()
    }

    /// The numbers of the dashboard's first line; `day_start` is midnight where the reviewer is.
    pub async fn queue_counts(&self, day_start: Timestamp) -> Result<QueueCounts, StoreError> {
        let row = sqlx::query(
            "SELECT (SELECT count(*) FROM tasks WHERE state = 'open') AS open,
                    (SELECT count(*) FROM tasks WHERE state = 'escalated') AS escalated,
                    (SELECT count(*) FROM tasks WHERE state IN ('open', 'escalated')
                       AND reason >= 'un' AND reason < 'uo') AS unjudged,
                    (SELECT count(*) FROM decisions AS d WHERE d.at >= ?1 AND d.action <> 'undo'
                       AND NOT EXISTS (SELECT 1 FROM decisions AS u WHERE u.undoes = d.id))
                      AS decided,
                    (SELECT min(first) FROM (
                       SELECT min(opened_at) AS first FROM tasks WHERE state = 'open'
                       UNION ALL
                       SELECT min(opened_at) FROM tasks WHERE state = 'escalated')) AS oldest,
                    (SELECT count(*) FROM placements WHERE note IS NOT NULL AND changed_at >= ?1
                       AND state = 'in_place') AS restored_without",
        )
        .bind(day_start.0)
        .fetch_one(&self.readers)
        .await;
        let counts = |row: SqliteRow| {
            Ok(QueueCounts {
                open: row.try_get::<i64, _>("open")?.unsigned_abs(),
                escalated: row.try_get::<i64, _>("escalated")?.unsigned_abs(),
                unjudged: row.try_get::<i64, _>("unjudged")?.unsigned_abs(),
                decided_today: row.try_get::<i64, _>("decided")?.unsigned_abs(),
                oldest: row.try_get::<Option<i64>, _>("oldest")?.map(Timestamp),
                restored_without: row.try_get::<i64, _>("restored_without")?.unsigned_abs(),
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
            "SELECT {TASK_COLUMNS}, t.item, t.sighting, s.policy_set, s.model,
                    t.audit_rate IS NOT NULL AND t.state <> 'closed' AS blind
             FROM {TASK_TABLES}
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
        let mut twins = bank::twins_of(&mut reader, item).await?;
        if row.try_get("blind")? {
            // A sample is decided by what is seen, not by what the policies say.
            policies.clear();
            twins.clear();
        }

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
                path: plain_folder(&path_of(row.try_get("path")?)).to_owned(),
                root: path_of(row.try_get("root")?),
            })
        };

        let statement = format!(
            "SELECT {DECISION_COLUMNS} FROM decisions AS d
             WHERE d.item = ? AND d.action <> 'undo' ORDER BY d.id DESC LIMIT 20"
        );
        let decisions =
            sqlx::query(AssertSqlSafe(statement)).bind(item).fetch_all(&mut *reader).await?;
        let task = task_of(&row)?;
        Ok(Some(TaskDetail {
            policies,
            sightings: sightings.iter().map(sighting).collect::<Result<_, _>>()?,
            decisions: decisions.iter().map(past_decision_of).collect::<Result<_, _>>()?,
            twins,
            files: files_of(&mut reader, task.item.as_bytes()).await?,
            task,
        }))
    }

    /// The items whose ids lie between two ids, both included; at most `limit`, by id.
    pub async fn items_between(
        &self,
        first: ItemId,
        last: ItemId,
        limit: u32,
    ) -> Result<Vec<ItemId>, StoreError> {
        let read = async {
            let rows = sqlx::query(
                "SELECT hash FROM items WHERE hash BETWEEN ? AND ? ORDER BY hash LIMIT ?",
            )
            .bind(first.as_bytes().as_slice())
            .bind(last.as_bytes().as_slice())
            .bind(limit)
            .fetch_all(&self.readers)
            .await?;
            let item = |row: &SqliteRow| Ok::<_, RowError>(item_of(row.try_get("hash")?)?);
            rows.iter().map(item).collect::<Result<_, _>>()
        };
        read.await.map_err(|error| self.failed(error))
    }

    /// The item that lies at a path now, as far as the store knows.
    pub async fn item_at(&self, path: &Path) -> Result<Option<ItemId>, StoreError> {
        let read = async {
            let row = sqlx::query(
                "SELECT i.hash FROM sightings AS s JOIN items AS i ON i.id = s.item
                 WHERE s.path = ? AND s.gone_at IS NULL",
            )
            .bind(path_bytes(path))
            .fetch_optional(&self.readers)
            .await?;
            row.map(|row| Ok(item_of(row.try_get("hash")?)?)).transpose()
        };
        read.await.map_err(|error: RowError| self.failed(error))
    }

    /// The latest task about an item: the undecided one where there is one.
    pub async fn latest_task(&self, item: ItemId) -> Result<Option<ReviewTask>, StoreError> {
        let read = async {
            let statement = format!(
                "SELECT {TASK_COLUMNS} FROM {TASK_TABLES} WHERE t.id = (
                     SELECT id FROM tasks WHERE item = (SELECT id FROM items WHERE hash = ?)
                     ORDER BY state = 'closed', id DESC LIMIT 1)"
            );
            let row = sqlx::query(AssertSqlSafe(statement))
                .bind(item.as_bytes().as_slice())
                .fetch_optional(&self.readers)
                .await?;
            row.as_ref().map(task_of).transpose()
        };
        read.await.map_err(|error| self.failed(error))
    }

    /// Writes a decision, its audit event, and the task's new state in ONE transaction. Of two
    /// reviewers who decide one task, exactly one is recorded and the other learns of it.
    pub async fn record_decision(
        &self,
        decision: &Decision,
    ) -> Result<DecisionOutcome, StoreError> {
        let mut outcomes = self.record_decisions(std::slice::from_ref(decision)).await?;
        Ok(outcomes.pop().unwrap_or(DecisionOutcome::Superseded))
    }

    /// Writes decisions that were made with one key, all in ONE transaction; one undo takes all
    /// of them back. A task that someone else decided or has open stays out of it: each decision
    /// has an outcome of its own, in the same order.
    pub async fn record_decisions(
        &self,
        decisions: &[Decision],
    ) -> Result<Vec<DecisionOutcome>, StoreError> {
        let mut transaction = self.begin().await?;
        let mut outcomes = Vec::with_capacity(decisions.len());
        let mut batch = Batch::of(decisions.len(), self.settings().grace_ms);
        for decision in decisions {
            let decided = decide(&mut transaction, decision, &mut batch, None).await;
            outcomes.push(decided.map_err(|error| self.failed(error))?);
        }
        self.commit(transaction).await?;
        Ok(outcomes)
    }

    /// Takes back what the reviewer decided last and still stands, as more events, and puts the
    /// tasks back into the state before it.
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

    /// Decides again what the reviewer's latest undo took back, unless the reviewer has decided
    /// something else since.
    pub async fn redo(
        &self,
        reviewer: &Reviewer,
        at: Timestamp,
    ) -> Result<RedoOutcome, StoreError> {
        let mut transaction = self.begin().await?;
        let redone = redo_latest(&mut transaction, reviewer, at, self.settings().grace_ms).await;
        let redone = redone.map_err(|error| self.failed(error))?;
        self.commit(transaction).await?;
        Ok(redone)
    }
}

/// One page of one state. Binds: state, severity, score, id, policy between spaces, limit,
/// opened at, outcome, text.
///
/// The inner query finds the rows, from an index alone where it filters undecided tasks; only
/// those of the page are looked at.
fn page_statement(filter: &QueueFilter) -> String {
    let (after, order, index) = match filter.order {
        QueueOrder::Pressing => (
            "t.severity <= ?2
             AND (t.severity < ?2 OR t.score < ?3 OR (t.score = ?3 AND t.id > ?4))",
            "t.severity DESC, t.score DESC, t.id",
            "undecided_by_weight",
        ),
        QueueOrder::Newest => (
            "t.opened_at <= ?7 AND (t.opened_at < ?7 OR t.id < ?4)",
            "t.opened_at DESC, t.id DESC",
            "undecided_by_age",
        ),
        QueueOrder::Oldest => (
            "t.opened_at >= ?7 AND (t.opened_at > ?7 OR t.id > ?4)",
            "t.opened_at, t.id",
            "undecided_by_age",
        ),
        QueueOrder::Path => (
            "(t.path_text, t.id) > (coalesce((SELECT path_text FROM tasks WHERE id = ?4), x''), ?4)",
            "t.path_text, t.id",
            "undecided_by_path",
        ),
    };
    let mut only = String::new();
    if filter.policy.is_some() {
        only += " AND instr(t.policies, ?5) > 0";
    }
    if filter.outcome.is_some() {
        only += " AND t.outcome = ?8";
    }
    if filter.text.is_some() {
        only += " AND instr(t.path_text, ?9) > 0";
    }
    let by_index = !only.is_empty() || filter.order == QueueOrder::Path;
    if filter.rows == QueueRows::Groups {
        only += " AND t.leader IS NULL";
    }
    if filter.lane == Lane::Unjudged {
        only += " AND t.reason >= 'un' AND t.reason < 'uo'";
    }
    let mut indexed = String::new();
    if by_index && filter.state != Some(ReviewState::Closed) {
        indexed = format!(" INDEXED BY {index}");
        only += " AND t.state <> 'closed'";
    }
    format!(
        "SELECT {TASK_COLUMNS} FROM (
             SELECT t.id AS found FROM tasks AS t{indexed}
             WHERE t.state = ?1 AND {after}{only} ORDER BY {order} LIMIT ?6
         ) CROSS JOIN {TASK_TABLES} WHERE t.id = found ORDER BY {order}"
    )
}

/// Binds: policy set, item, model.
pub(super) const POLICY_VERDICTS_OF_A_SIGHTING: &str =
    "SELECT p.policy, p.hash, p.severity, p.mode, p.adapter, v.score, v.outcome, v.prompt
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

/// Decisions that are made together name the first of them.
struct Batch {
    first: Option<i64>,
    together: bool,
    /// Milliseconds until they take effect on files.
    grace_ms: i64,
}

impl Batch {
    fn of(decisions: usize, grace_ms: i64) -> Self {
        Self { first: None, together: decisions > 1, grace_ms }
    }

    /// Marks a row that was just written as one of the batch.
    async fn take(
        &mut self,
        transaction: &mut Transaction<'static, Sqlite>,
        id: i64,
    ) -> Result<(), sqlx::Error> {
        if !self.together {
            return Ok(());
        }
        let first = *self.first.get_or_insert(id);
        sqlx::query("UPDATE decisions SET batch = ? WHERE id = ?")
            .bind(first)
            .bind(id)
            .execute(&mut **transaction)
            .await?;
        Ok(())
    }
}

async fn decide(
    transaction: &mut Transaction<'static, Sqlite>,
    decision: &Decision,
    batch: &mut Batch,
    redoes: Option<DecisionId>,
) -> Result<DecisionOutcome, RowError> {
    let task = sqlx::query(
        "SELECT t.state, t.item, i.hash, l.reviewer AS leased_by, l.until AS leased_until,
                EXISTS (SELECT 1 FROM unjudged_folders AS f WHERE f.item = i.hash)
                    AS stands_for_files
         FROM tasks AS t JOIN items AS i ON i.id = t.item LEFT JOIN leases AS l ON l.task = t.id
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
    if decision.action == Action::Remove && task.try_get("stands_for_files")? {
        return Ok(DecisionOutcome::NothingToRemove);
    }
    let lease = lease_of(&task)?;
    if let Some(lease) = lease.filter(|lease| lease.binds(&decision.reviewer, decision.at)) {
        return Ok(DecisionOutcome::Leased(lease));
    }
    let item: i64 = task.try_get("item")?;
    let id = sqlx::query(
        "INSERT INTO decisions (task, item, action, reviewer, reason, note, at, redoes)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
    )
    .bind(decision.task.0)
    .bind(item)
    .bind(decision.action.as_str())
    .bind(decision.reviewer.as_str())
    .bind(decision.reason.as_ref().map(PolicyId::as_str))
    .bind(&decision.note)
    .bind(decision.at.0)
    .bind(redoes.map(|undo| undo.0))
    .fetch_one(&mut **transaction)
    .await?
    .try_get(0)?;
    batch.take(transaction, id).await?;
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
    let Decision { task, action, at, .. } = decision;
    wish_as_decided(transaction, *task, item, *action, *at, batch.grace_ms).await?;
    bank::follow_decisions(transaction, item).await?;
    disarm_where_due(transaction, *at).await?;
    Ok(DecisionOutcome::Recorded(DecisionId(id)))
}

async fn undo_latest(
    transaction: &mut Transaction<'static, Sqlite>,
    reviewer: &Reviewer,
    at: Timestamp,
) -> Result<UndoOutcome, RowError> {
    let statement = format!(
        "SELECT {DECISION_COLUMNS}, d.batch FROM decisions AS d
         WHERE d.reviewer = ? AND d.action <> 'undo'
           AND NOT EXISTS (SELECT 1 FROM decisions AS u WHERE u.undoes = d.id)
         ORDER BY d.id DESC LIMIT 1"
    );
    let latest = sqlx::query(AssertSqlSafe(statement))
        .bind(reviewer.as_str())
        .fetch_optional(&mut **transaction)
        .await?;
    let Some(latest) = latest else { return Ok(UndoOutcome::NothingToUndo) };
    let together = match latest.try_get::<Option<i64>, _>("batch")? {
        None => vec![past_decision_of(&latest)?],
        Some(batch) => {
            let statement = format!(
                "SELECT {DECISION_COLUMNS} FROM decisions AS d
                 WHERE d.batch = ? AND d.action <> 'undo'
                   AND NOT EXISTS (SELECT 1 FROM decisions AS u WHERE u.undoes = d.id)
                 ORDER BY d.id"
            );
            let rows = sqlx::query(AssertSqlSafe(statement)).bind(batch);
            let rows = rows.fetch_all(&mut **transaction).await?;
            rows.iter().map(past_decision_of).collect::<Result<Vec<_>, _>>()?
        }
    };
    let mut batch = Batch::of(together.len(), 0);
    let mut undone = Vec::with_capacity(together.len());
    let mut since = None;
    for past in together {
        match undo_one(transaction, &past, reviewer, at, &mut batch).await? {
            None => undone.push(past),
            Some(standing) => since = Some(standing),
        }
    }
    Ok(match since {
        Some(standing) if undone.is_empty() => UndoOutcome::DecidedSince(standing),
        _ => UndoOutcome::Undone(undone),
    })
}

/// Takes one decision back; answers the decision that stands in the way, if one does.
async fn undo_one(
    transaction: &mut Transaction<'static, Sqlite>,
    past: &PastDecision,
    reviewer: &Reviewer,
    at: Timestamp,
    batch: &mut Batch,
) -> Result<Option<PastDecision>, RowError> {
    let task = past.decision.task;
    if let Some(standing) = standing_decision(transaction, task).await?
        && standing.id != past.id
    {
        return Ok(Some(standing));
    }
    let id: i64 = sqlx::query(
        "INSERT INTO decisions (task, item, action, undoes, reviewer, at)
         SELECT task, item, 'undo', id, ?, ? FROM decisions WHERE id = ? RETURNING id",
    )
    .bind(reviewer.as_str())
    .bind(at.0)
    .bind(past.id.0)
    .fetch_one(&mut **transaction)
    .await?
    .try_get(0)?;
    batch.take(transaction, id).await?;
    let before = standing_decision(transaction, task).await?;
    let state = before.map_or(ReviewState::Open, |before| before.decision.action.state());
    if !another_task_waits(transaction, task).await? {
        set_state(transaction, task, state, at).await?;
    }
    let event = AuditEvent {
        at,
        kind: AuditKind::Undo,
        actor: reviewer.as_str().to_owned(),
        detail: json!({"decision": id, "undoes": past.id.0, "task": task.0}).to_string(),
    };
    append_audit(transaction, &[event]).await?;
    wish_as_before(transaction, task, at).await?;
    bank::follow_decisions_about(transaction, task).await?;
    disarm_where_due(transaction, at).await?;
    Ok(None)
}

async fn redo_latest(
    transaction: &mut Transaction<'static, Sqlite>,
    reviewer: &Reviewer,
    at: Timestamp,
    grace_ms: i64,
) -> Result<RedoOutcome, RowError> {
    let fresh: i64 = sqlx::query(
        "SELECT coalesce(max(id), 0) FROM (SELECT id FROM decisions
         WHERE reviewer = ? AND action <> 'undo' AND redoes IS NULL ORDER BY id DESC LIMIT 1)",
    )
    .bind(reviewer.as_str())
    .fetch_one(&mut **transaction)
    .await?
    .try_get(0)?;
    let latest = sqlx::query(
        "SELECT u.id, u.batch FROM decisions AS u
         WHERE u.reviewer = ? AND u.id > ? AND u.action = 'undo'
           AND NOT EXISTS (SELECT 1 FROM decisions AS r WHERE r.redoes = u.id)
         ORDER BY u.id DESC LIMIT 1",
    )
    .bind(reviewer.as_str())
    .bind(fresh)
    .fetch_optional(&mut **transaction)
    .await?;
    let Some(latest) = latest else { return Ok(RedoOutcome::NothingToRedo) };
    let one = latest.try_get::<i64, _>("id")?;
    let statement = format!(
        "SELECT {DECISION_COLUMNS}, w.id AS undo FROM decisions AS w
         JOIN decisions AS d ON d.id = w.undoes
         WHERE {} AND NOT EXISTS (SELECT 1 FROM decisions AS r WHERE r.redoes = w.id)
         ORDER BY d.id",
        // Not both in one statement: then no index would serve.
        if latest.try_get::<Option<i64>, _>("batch")?.is_some() {
            "w.batch = ? AND w.action = 'undo'"
        } else {
            "w.id = ?"
        }
    );
    let key = latest.try_get::<Option<i64>, _>("batch")?.unwrap_or(one);
    let rows = sqlx::query(AssertSqlSafe(statement)).bind(key);
    let rows = rows.fetch_all(&mut **transaction).await?;
    let mut batch = Batch::of(rows.len(), grace_ms);
    let mut redone = Vec::with_capacity(rows.len());
    let mut since = None;
    for row in &rows {
        let past = past_decision_of(row)?;
        let undo = DecisionId(row.try_get("undo")?);
        let decision = Decision { reviewer: reviewer.clone(), at, ..past.decision.clone() };
        match decide(transaction, &decision, &mut batch, Some(undo)).await? {
            DecisionOutcome::Recorded(id) => {
                redone.push(PastDecision { id, decision, undone: false });
            }
            DecisionOutcome::AlreadyDecided(standing) => since = Some(standing),
            DecisionOutcome::Leased(_)
            | DecisionOutcome::Superseded
            | DecisionOutcome::NothingToRemove => {}
        }
    }
    Ok(match since {
        Some(standing) if redone.is_empty() => RedoOutcome::DecidedSince(standing),
        None if redone.is_empty() => RedoOutcome::NothingToRedo,
        _ => RedoOutcome::Redone(redone),
    })
}

/// The task's latest decision that was not taken back.
pub(super) async fn standing_decision(
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

/// Puts a task into a state and into the group of its near-duplicates there.
pub(super) async fn set_state(
    transaction: &mut Transaction<'static, Sqlite>,
    task: TaskId,
    state: ReviewState,
    at: Timestamp,
) -> Result<(), RowError> {
    groups::leave(transaction, task).await?;
    let closed_at = (state == ReviewState::Closed).then_some(at.0);
    sqlx::query("UPDATE tasks SET state = ?, closed_at = ? WHERE id = ?")
        .bind(state.as_str())
        .bind(closed_at)
        .bind(task.0)
        .execute(&mut **transaction)
        .await?;
    if state == ReviewState::Closed {
        sqlx::query("DELETE FROM leases WHERE task = ?")
            .bind(task.0)
            .execute(&mut **transaction)
            .await?;
        return Ok(());
    }
    groups::join(transaction, task).await
}
