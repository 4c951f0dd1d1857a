//! Verbs of restricted searches: which items may be found.

use std::path::PathBuf;

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::moderation::{
    Decided, ItemFilter, ItemNumbers, ItemSet, Outcome, PolicyId, ReviewState, Side,
};

use super::rows::{RowError, path_of, unreadable};
use super::{Store, StoreError};

impl Store {
    /// The items for which a filter holds. A text in paths is looked for in all paths; everything
    /// else has an index.
    pub async fn items_where(&self, filter: &ItemFilter) -> Result<ItemSet, StoreError> {
        self.read_items_where(filter).await.map_err(|error| self.failed(error))
    }

    /// Where items lie, as far as it is known, after the given number (0 for the first page): the
    /// next number to ask with, the item, the path.
    pub async fn places_after(
        &self,
        after: i64,
        limit: u32,
    ) -> Result<Vec<(i64, i64, PathBuf)>, StoreError> {
        let rows = sqlx::query(PLACES)
            .bind(after)
            .bind(limit)
            .fetch_all(&self.readers)
            .await
            .map_err(|source| self.sql(source))?;
        let place = |row: &SqliteRow| {
            Ok((row.try_get("id")?, row.try_get("item")?, path_of(row.try_get("path")?)))
        };
        let places: Result<_, RowError> = rows.iter().map(place).collect();
        places.map_err(|error| self.failed(error))
    }

    /// Whether any version of a policy ever judged here.
    pub async fn knows_policy(&self, policy: &PolicyId) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT EXISTS (SELECT 1 FROM policy_versions WHERE policy = ?)")
            .bind(policy.as_str())
            .fetch_one(&self.readers)
            .await;
        row.and_then(|row| row.try_get(0)).map_err(|source| self.sql(source))
    }

    async fn read_items_where(&self, filter: &ItemFilter) -> Result<ItemSet, RowError> {
        let mut set = ItemSet::default();
        if let Some(policy) = &filter.policy {
            let flagged = self.numbers(FLAGGED_BY, &[PolicyId::as_str(policy)]).await?;
            set.restrict(flagged, Side::Inside);
        }
        if let Some(outcome) = filter.outcome {
            // The worst outcome counts: what is worse must lie nowhere.
            for worse in Outcome::ALL.iter().filter(|one| **one > outcome) {
                set.restrict(self.numbers(WITH_OUTCOME, &[worse.as_str()]).await?, Side::Outside);
            }
            if outcome > Outcome::Allow {
                let these = self.numbers(WITH_OUTCOME, &[outcome.as_str()]).await?;
                set.restrict(these, Side::Inside);
            }
        }
        match filter.decision {
            None => {}
            Some(decided @ (Decided::Approved | Decided::Removed)) => {
                set.restrict(self.numbers(DECIDED, &[decided.as_str()]).await?, Side::Inside);
            }
            Some(Decided::Undecided) => {
                for decided in [Decided::Approved, Decided::Removed] {
                    set.restrict(self.numbers(DECIDED, &[decided.as_str()]).await?, Side::Outside);
                }
            }
        }
        if let Some(state) = filter.state {
            let these = self.numbers(IN_STATE, &[state.as_str()]).await?;
            set.restrict(these, Side::Inside);
            if state == ReviewState::Closed {
                for waiting in [ReviewState::Open, ReviewState::Escalated] {
                    let these = self.numbers(IN_STATE, &[waiting.as_str()]).await?;
                    set.restrict(these, Side::Outside);
                }
            }
        }
        if let Some(path) = &filter.path {
            let lying = if path.contains(['*', '?']) {
                let anywhere = if path.starts_with(['/', '*']) { "" } else { "*/" };
                self.numbers(AT_PATHS_LIKE, &[&format!("{anywhere}{path}")]).await?
            } else {
                self.numbers(AT_PATHS_WITH, &[&path.to_ascii_lowercase()]).await?
            };
            set.restrict(lying, Side::Inside);
        }
        if filter.since.is_some() || filter.until.is_some() {
            let since = filter.since.map_or(i64::MIN, |since| since.0);
            let until = filter.until.map_or(i64::MAX, |until| until.0);
            let seen = sqlx::query(SEEN_BETWEEN).bind(since).bind(until);
            set.restrict(numbers_in(&seen.fetch_one(&self.readers).await?)?, Side::Inside);
        }
        Ok(set)
    }

    async fn numbers(
        &self,
        statement: &'static str,
        binds: &[&str],
    ) -> Result<ItemNumbers, RowError> {
        let query = sqlx::query(statement);
        let query = binds.iter().fold(query, |query, bind| query.bind(*bind));
        numbers_in(&query.fetch_one(&self.readers).await?)
    }
}

/// A million numbers as rows would take a hundred megabytes, as one text they take eight.
fn numbers_in(row: &SqliteRow) -> Result<ItemNumbers, RowError> {
    let list: &str = row.try_get(0)?;
    let numbers: Vec<i64> =
        serde_json::from_str(list).map_err(|_torn| unreadable("list of items", list.len()))?;
    Ok(numbers.into_iter().collect())
}

/// Binds: policy id. What opened a task, and what any version of the policy has flagged.
const FLAGGED_BY: &str = "
    SELECT json_group_array(item) FROM (
        SELECT t.item FROM task_policies AS p JOIN tasks AS t ON t.id = p.task WHERE p.policy = ?1
        UNION ALL
        SELECT v.item FROM policy_versions AS version
        CROSS JOIN verdicts AS v ON v.policy_version = version.id
        WHERE version.policy = ?1 AND v.outcome <> 'allow')";

/// Binds: an outcome other than `allow`.
const WITH_OUTCOME: &str = "
    SELECT json_group_array(item) FROM sightings
    WHERE gone_at IS NULL AND outcome = ? AND outcome <> 'allow'";

/// Binds: `approve` or `remove`.
const DECIDED: &str = "
    SELECT json_group_array(d.item) FROM decisions AS d WHERE d.action = ?
    AND NOT EXISTS (SELECT 1 FROM decisions AS u WHERE u.undoes = d.id)
    AND NOT EXISTS (
        SELECT 1 FROM decisions AS l
        WHERE l.item = d.item AND l.id > d.id AND l.action IN ('approve', 'remove')
        AND NOT EXISTS (SELECT 1 FROM decisions AS u WHERE u.undoes = l.id))";

/// Binds: a state.
const IN_STATE: &str = "SELECT json_group_array(item) FROM tasks WHERE state = ?";

/// Binds: a text in lower case.
const AT_PATHS_WITH: &str = "
    SELECT json_group_array(item) FROM sightings
    WHERE gone_at IS NULL AND instr(lower(CAST(path AS TEXT)), ?) > 0";

/// Binds: a pattern.
const AT_PATHS_LIKE: &str = "
    SELECT json_group_array(item) FROM sightings
    WHERE gone_at IS NULL AND CAST(path AS TEXT) GLOB ?";

/// Binds: the last number, how many.
const PLACES: &str = "SELECT id, item, path FROM sightings
    WHERE id > ? AND gone_at IS NULL ORDER BY id LIMIT ?";

/// Binds: since, until.
const SEEN_BETWEEN: &str =
    "SELECT json_group_array(id) FROM items WHERE first_seen >= ? AND first_seen < ?";
