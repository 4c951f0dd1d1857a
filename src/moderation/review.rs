//! A task asks a person; a decision answers. Decisions are events: undo is one more event.

use std::path::PathBuf;

use super::bank::BankTwin;
use super::item::{ItemId, Sighting};
use super::policy::{PolicyId, SafeView, Severity, spelled};
use super::verdict::{Outcome, PolicyVerdict, Reason};

/// Milliseconds since 1970, UTC. The core never reads a clock; callers pass the time in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

/// Numbers a task within one store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(pub i64);

/// Numbers a decision within one store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DecisionId(pub i64);

spelled! {
    /// Where a task stands.
    ReviewState {
        /// Waits for anyone.
        Open = "open",
        /// Waits for someone with more say.
        Escalated = "escalated",
        /// Was decided.
        Closed = "closed",
    }
}

spelled! {
    /// What a person decides.
    Action {
        /// The picture stays.
        Approve = "approve",
        /// The picture goes.
        Remove = "remove",
        /// Someone else should decide.
        Escalate = "escalate",
    }
}

impl Action {
    /// The state that a task is in after this action.
    pub fn state(self) -> ReviewState {
        match self {
            Self::Approve | Self::Remove => ReviewState::Closed,
            Self::Escalate => ReviewState::Escalated,
        }
    }
}

/// Who decides: any name without control characters, at most 64 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reviewer(String);

/// The text can't sign decisions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a reviewer's name is 1 to 64 printable characters, not {0:?}")]
pub struct ReviewerError(pub String);

impl Reviewer {
    /// Trims, checks and takes a name.
    ///
    /// # Errors
    /// [`ReviewerError`] for an empty, too long or unprintable name.
    pub fn new(name: &str) -> Result<Self, ReviewerError> {
        let trimmed = name.trim();
        let unprintable = trimmed.chars().any(super::escape::is_unprintable);
        if trimmed.is_empty() || trimmed.chars().count() > 64 || unprintable {
            return Err(ReviewerError(name.to_owned()));
        }
        Ok(Self(trimmed.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One flagged item that waits for a person, as the queue shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct ReviewTask {
    /// Its number.
    pub id: TaskId,
    /// What it is about.
    pub item: ItemId,
    /// Where the item was last seen.
    pub path: PathBuf,
    /// At how many paths the item lies now.
    pub sightings: u32,
    /// The policy that weighs most; none when the item could not be judged.
    pub policy: Option<PolicyId>,
    /// That policy's severity; High for what could not be judged.
    pub severity: Severity,
    /// That policy's score.
    pub score: Option<f32>,
    /// Review or Block.
    pub outcome: Outcome,
    /// Why it was not (only) the score.
    pub reason: Option<Reason>,
    /// Where it stands.
    pub state: ReviewState,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// Undecided tasks about near-duplicates that this one stands for, itself included.
    pub group: u32,
    /// Who has it open on a screen; it may have run out.
    pub lease: Option<Lease>,
}

impl ReviewTask {
    /// Who else has it open now.
    pub fn leased_by_other(&self, reviewer: &Reviewer, now: Timestamp) -> Option<&Lease> {
        self.lease.as_ref().filter(|lease| lease.binds(reviewer, now))
    }
}

/// A task that is open on someone's screen: nobody else decides it until then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Whose screen.
    pub reviewer: Reviewer,
    /// When it runs out by itself.
    pub until: Timestamp,
}

impl Lease {
    /// A lease lasts so long unless it is renewed: 10 minutes, in milliseconds.
    pub const LENGTH_MS: i64 = 600_000;

    /// Whether it keeps this reviewer from deciding now.
    pub fn binds(&self, reviewer: &Reviewer, now: Timestamp) -> bool {
        self.until > now && self.reviewer != *reviewer
    }
}

spelled! {
    /// What comes first in the queue.
    QueueOrder {
        /// Severity, then score, then age.
        Pressing = "pressing",
        /// What was opened last.
        Newest = "newest",
        /// What has waited longest.
        Oldest = "oldest",
        /// What lies together, whatever the case of its letters.
        Path = "path",
    }
}

impl QueueOrder {
    /// Compares two tasks; less comes first.
    pub fn compare(self, a: &ReviewTask, b: &ReviewTask) -> std::cmp::Ordering {
        let score = |task: &ReviewTask| task.score.unwrap_or(0.0);
        let age = |task: &ReviewTask| (task.opened_at, task.id);
        let place = |task: &ReviewTask| {
            (task.path.as_os_str().as_encoded_bytes().to_ascii_lowercase(), task.id)
        };
        match self {
            Self::Path => place(a).cmp(&place(b)),
            Self::Newest => age(b).cmp(&age(a)),
            Self::Oldest => age(a).cmp(&age(b)),
            Self::Pressing => b
                .severity
                .cmp(&a.severity)
                .then_with(|| score(b).total_cmp(&score(a)))
                .then_with(|| a.id.cmp(&b.id)),
        }
    }
}

/// What a person decided about a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Which task.
    pub task: TaskId,
    /// What.
    pub action: Action,
    /// Who.
    pub reviewer: Reviewer,
    /// The policy given as the reason, if any.
    pub reason: Option<PolicyId>,
    /// In the reviewer's own words, if any.
    pub note: Option<String>,
    /// When.
    pub at: Timestamp,
}

/// Which tasks a queue shows; all undecided ones by default, near-duplicates as one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueFilter {
    /// Only tasks that this policy flagged (it need not be the heaviest).
    pub policy: Option<PolicyId>,
    /// Only tasks in this state; `None` is open and escalated.
    pub state: Option<ReviewState>,
    /// Only tasks with this outcome.
    pub outcome: Option<Outcome>,
    /// All tasks, or those whose file could not be judged.
    pub lane: Lane,
    /// Only tasks whose path contains this text, whatever the case of its letters A to Z.
    pub text: Option<String>,
    /// What comes first.
    pub order: QueueOrder,
    /// One row a group, or one a task.
    pub rows: QueueRows,
}

impl Default for QueueFilter {
    fn default() -> Self {
        Self {
            policy: None,
            state: None,
            outcome: None,
            lane: Lane::Everything,
            text: None,
            order: QueueOrder::Pressing,
            rows: QueueRows::Groups,
        }
    }
}

/// Which kind of tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// All.
    Everything,
    /// Those whose file could not be read or decoded.
    Unjudged,
}

/// What a row of the queue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum QueueRows {
    /// A task that stands for all its near-duplicates.
    Groups,
    /// A task.
    Tasks,
}

/// Where a page of the queue ended; the next page begins after it (keyset paging).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QueueCursor {
    /// The last row's severity.
    pub severity: Severity,
    /// The last row's score; 0 where it has none.
    pub score: f32,
    /// When the last row was opened.
    pub opened_at: Timestamp,
    /// The last row's number.
    pub id: TaskId,
}

impl QueueCursor {
    /// The cursor after this task.
    pub fn of(task: &ReviewTask) -> Self {
        Self {
            severity: task.severity,
            score: task.score.unwrap_or(0.0),
            opened_at: task.opened_at,
            id: task.id,
        }
    }
}

/// The numbers in the dashboard's first line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueCounts {
    /// Tasks that wait for anyone.
    pub open: u64,
    /// Tasks that wait for someone with more say.
    pub escalated: u64,
    /// Undecided tasks whose file could not be judged.
    pub unjudged: u64,
    /// Decisions since the given start of the day that were not taken back.
    pub decided_today: u64,
    /// When the oldest undecided task was opened.
    pub oldest: Option<Timestamp>,
    /// Files that were restored since the start of the day without their owner or attributes.
    pub restored_without: u64,
}

/// A task with what is known about its item.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskDetail {
    /// The task itself.
    pub task: ReviewTask,
    /// What every policy said, the flagging ones first, then by score.
    pub policies: Vec<PolicyVerdict>,
    /// Where the item lies now; the sighting that opened the task first.
    pub sightings: Vec<Sighting>,
    /// What was decided about this item before, the latest first.
    pub decisions: Vec<PastDecision>,
    /// What it is a twin of, the likest first; empty for a sample, which is decided blindly.
    pub twins: Vec<BankTwin>,
    /// Names of the first files that the row stands for, where it stands for several in a folder.
    pub files: Vec<PathBuf>,
}

/// What is known about an item that a search found.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundItem {
    /// Numbers the items.
    pub number: i64,
    /// What.
    pub item: ItemId,
    /// Where it lies now; none where its file was replaced.
    pub path: Option<PathBuf>,
    /// The worst outcome over its sightings.
    pub outcome: Option<Outcome>,
    /// Its undecided task.
    pub task: Option<TaskId>,
    /// Where its latest task stands.
    pub state: Option<ReviewState>,
    /// The policy of its latest task, and the score.
    pub policy: Option<(PolicyId, f32)>,
    /// What was decided last and stands.
    pub decision: Option<Action>,
}

/// A decision in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastDecision {
    /// Its number.
    pub id: DecisionId,
    /// What was decided.
    pub decision: Decision,
    /// Whether it was taken back since.
    pub undone: bool,
}

/// What came of trying to decide. Losing a race is a value, not an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DecisionOutcome {
    /// It stands, and survives power loss.
    Recorded(DecisionId),
    /// Someone was faster; here is what they decided.
    AlreadyDecided(PastDecision),
    /// Someone else has it open on a screen.
    Leased(Lease),
    /// The task was closed without a decision: its file was replaced or could be read after all, or
    /// no policy flags it any more.
    Superseded,
    /// The row stands for files of a folder that modtool did not judge, and removes none of them.
    NothingToRemove,
}

/// What came of trying to take a decision back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UndoOutcome {
    /// What the reviewer decided last (with one key) is undone and the tasks are as before.
    Undone(Vec<PastDecision>),
    /// This reviewer has no decision left to undo.
    NothingToUndo,
    /// Someone decided the same task after it; that decision stands, and so does this one.
    DecidedSince(PastDecision),
}

/// What came of trying to decide again what was taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedoOutcome {
    /// The decisions of the reviewer's latest undo stand again.
    Redone(Vec<PastDecision>),
    /// Nothing was taken back since the reviewer's last decision.
    NothingToRedo,
    /// Someone decided the task in the meantime; that decision stands.
    DecidedSince(PastDecision),
}

/// The stronger of two safe views: what several flagging policies ask for together.
pub fn safest(a: SafeView, b: SafeView) -> SafeView {
    a.max(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_fool_a_terminal_are_refused() {
        assert_eq!(Reviewer::new(" ana ").expect("trimmed").as_str(), "ana");
        for name in ["", "  ", "a\u{1b}[2J", "a\u{202e}b", &"x".repeat(65)] {
            assert!(Reviewer::new(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn only_approve_and_remove_close_a_task() {
        assert_eq!(Action::Approve.state(), ReviewState::Closed);
        assert_eq!(Action::Remove.state(), ReviewState::Closed);
        assert_eq!(Action::Escalate.state(), ReviewState::Escalated);
    }

    #[test]
    fn the_queue_is_ordered_by_severity_then_score_then_age() {
        let task = |id, severity, score| ReviewTask {
            id: TaskId(id),
            item: ItemId::of_bytes(b""),
            path: PathBuf::new(),
            sightings: 1,
            policy: None,
            severity,
            score,
            outcome: Outcome::Review,
            reason: None,
            state: ReviewState::Open,
            opened_at: Timestamp(-id),
            group: 1,
            lease: None,
        };
        let mut tasks = [
            task(1, Severity::Low, Some(0.99)),
            task(2, Severity::High, None),
            task(3, Severity::High, Some(0.6)),
            task(4, Severity::High, Some(0.6)),
        ];
        let mut sorted = |order: QueueOrder| {
            tasks.sort_by(|a, b| order.compare(a, b));
            tasks.iter().map(|task| task.id.0).collect::<Vec<_>>()
        };
        assert_eq!(sorted(QueueOrder::Pressing), [3, 4, 2, 1]);
        assert_eq!(sorted(QueueOrder::Oldest), [4, 3, 2, 1]);
        assert_eq!(sorted(QueueOrder::Newest), [1, 2, 3, 4]);
    }

    #[test]
    fn a_lease_binds_others_and_only_for_its_time() {
        let [ana, ben] = ["ana", "ben"].map(|name| Reviewer::new(name).expect("a name"));
        let task = ReviewTask {
            id: TaskId(1),
            item: ItemId::of_bytes(b""),
            path: PathBuf::new(),
            sightings: 1,
            policy: None,
            severity: Severity::Low,
            score: None,
            outcome: Outcome::Review,
            reason: None,
            state: ReviewState::Open,
            opened_at: Timestamp(0),
            group: 1,
            lease: Some(Lease { reviewer: ana.clone(), until: Timestamp(10) }),
        };
        assert!(task.leased_by_other(&ben, Timestamp(9)).is_some());
        assert!(task.leased_by_other(&ben, Timestamp(10)).is_none());
        assert!(task.leased_by_other(&ana, Timestamp(9)).is_none());
    }

    #[test]
    fn of_two_safe_views_the_stronger_holds() {
        assert_eq!(safest(SafeView::Grey, SafeView::Hidden), SafeView::Hidden);
        assert_eq!(safest(SafeView::Blur, SafeView::None), SafeView::Blur);
    }
}
