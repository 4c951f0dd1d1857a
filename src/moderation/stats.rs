//! The numbers of review: what came and went, who decided, how right the policies were.

use super::policy::PolicyId;
use super::review::{Reviewer, Timestamp};

/// What the numbers of a span of days are.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ReviewStats {
    /// Day by day, the earliest first.
    pub days: Vec<DayCount>,
    /// By name.
    pub reviewers: Vec<ReviewerStats>,
    /// By policy id.
    pub policies: Vec<PolicyStats>,
}

/// How the queue did in one day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayCount {
    /// When the day began.
    pub start: Timestamp,
    /// Tasks opened in it.
    pub opened: u64,
    /// Tasks closed in it.
    pub closed: u64,
    /// Tasks that waited at its end.
    pub waiting: u64,
}

/// What one reviewer decided; what was taken back does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReviewerStats {
    /// Who.
    pub reviewer: Reviewer,
    /// Decisions.
    pub approved: u64,
    /// Decisions.
    pub removed: u64,
    /// Decisions.
    pub escalated: u64,
    /// Steps of pictures that the reviewer chose to see.
    pub exposures: u64,
}

/// How people decided what one policy had flagged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyStats {
    /// Which.
    pub policy: PolicyId,
    /// Undecided tasks.
    pub waiting: u64,
    /// Decisions that agreed with it.
    pub removed: u64,
    /// Decisions that did not.
    pub approved: u64,
}

impl PolicyStats {
    /// The share of decided tasks in which a person agreed, 0..=1; none without decisions.
    #[expect(clippy::cast_precision_loss, reason = "numbers of decisions")]
    pub fn precision(&self) -> Option<f64> {
        let decided = self.removed + self.approved;
        (decided > 0).then(|| self.removed as f64 / decided as f64)
    }
}
