//! What happens to the dashboard: keys, the mouse, the clock, and answers to its effects.

use crate::moderation::{
    DecisionOutcome, Lease, PolicyId, QueueCounts, RedoOutcome, ReviewTask, TaskDetail, Timestamp,
    UndoOutcome,
};

use super::keymap::Key;
use super::state::{Found, KnownPolicy, NoPicture, Numbers, RequestId, Watcher, Why};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The dashboard opens: it asks for what it shows first. [`super::run`] sends it.
    Opened,
    /// A key was pressed.
    Key(Key),
    /// Text was pasted.
    Paste(String),
    /// The wheel was turned over a cell.
    Scroll {
        /// From the left edge, from 0.
        column: u16,
        /// From the upper edge, from 0.
        row: u16,
        /// Towards the end, or the beginning.
        direction: Direction,
    },
    /// A cell was clicked.
    Click {
        /// From the left edge, from 0.
        column: u16,
        /// From the upper edge, from 0.
        row: u16,
    },
    /// The window has this size now.
    Resized {
        /// Cells.
        width: u16,
        /// Cells.
        height: u16,
    },
    /// The terminal is ours again (after Ctrl-Z, or another stop): everything is drawn anew.
    Resumed,
    /// Someone asked the program to end (SIGTERM, SIGHUP).
    Stop,
    /// The clock; used for relative ages only.
    Clock(Timestamp),
    /// The store's change counter grew, here or in another process.
    StoreChanged,
    /// Other policies are in force from now on.
    PoliciesChanged {
        /// All of them.
        policies: Vec<KnownPolicy>,
    },
    /// The policy files are broken; the last good ones stay in force.
    PoliciesBroken {
        /// The first problem, with file and line, in one line.
        why: String,
    },
    /// Whether anyone judges uploads.
    Watcher(Watcher),
    /// Answers [`super::Effect::LoadQueue`].
    QueueLoaded {
        /// The request.
        id: RequestId,
        /// At most as many as were asked for; fewer mean that nothing comes after.
        tasks: Vec<ReviewTask>,
    },
    /// Answers [`super::Effect::LoadCounts`].
    CountsLoaded {
        /// The request.
        id: RequestId,
        /// The numbers.
        counts: QueueCounts,
    },
    /// Answers [`super::Effect::LoadPolicyCounts`].
    PolicyCountsLoaded {
        /// The request.
        id: RequestId,
        /// Policies and how many tasks each flagged.
        counts: Vec<(PolicyId, u64)>,
    },
    /// Answers [`super::Effect::LoadDetail`].
    DetailLoaded {
        /// The request.
        id: RequestId,
        /// Nothing when the task does not exist.
        detail: Option<Box<TaskDetail>>,
        /// One for every policy in force whose score could be explained.
        whys: Vec<Why>,
    },
    /// Answers [`super::Effect::LoadPicture`]: the driver keeps the picture under this number.
    PictureReady {
        /// The request.
        id: RequestId,
    },
    /// Answers [`super::Effect::LoadPicture`]: there is none.
    PictureFailed {
        /// The request.
        id: RequestId,
        /// Why.
        why: NoPicture,
    },
    /// Answers [`super::Effect::Decide`].
    Decided {
        /// The request.
        id: RequestId,
        /// What came of it.
        outcome: DecisionOutcome,
    },
    /// Answers [`super::Effect::Undo`].
    Undone {
        /// The request.
        id: RequestId,
        /// What came of it.
        outcome: UndoOutcome,
    },
    /// Answers [`super::Effect::LoadGroups`].
    GroupLoaded {
        /// The request.
        id: RequestId,
        /// Each task once.
        tasks: Vec<ReviewTask>,
    },
    /// Answers [`super::Effect::DecideTogether`] and [`super::Effect::DecideItems`].
    DecidedTogether {
        /// The request.
        id: RequestId,
        /// What came of each, in the order asked for.
        outcomes: Vec<DecisionOutcome>,
    },
    /// Answers [`super::Effect::Redo`].
    Redone {
        /// The request.
        id: RequestId,
        /// What came of it.
        outcome: RedoOutcome,
    },
    /// Answers [`super::Effect::Lease`].
    Leased {
        /// The request.
        id: RequestId,
        /// The lease that holds; someone else's where the reviewer came too late.
        lease: Option<Lease>,
    },
    /// How many steps of pictures the reviewer chose to see today.
    Exposures {
        /// Since midnight.
        count: u64,
    },
    /// How far a search is.
    Finding {
        /// The request.
        id: RequestId,
        /// In words.
        progress: String,
    },
    /// Answers [`super::Effect::Find`].
    FoundItems {
        /// The request.
        id: RequestId,
        /// The most similar first.
        found: Vec<Found>,
    },
    /// Answers [`super::Effect::LoadNeighbours`].
    Neighbours {
        /// The request.
        id: RequestId,
        /// The most similar first.
        found: Vec<Found>,
    },
    /// Answers [`super::Effect::LoadNumbers`].
    NumbersLoaded {
        /// The request.
        id: RequestId,
        /// The numbers.
        numbers: Box<Numbers>,
    },
    /// Answers any effect of the store: it did not work.
    Failed {
        /// The request.
        id: RequestId,
        /// The error and its causes in one line.
        why: String,
    },
}

/// Towards the beginning or the end of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the beginning.
    Back,
    /// To the end.
    Forward,
}
