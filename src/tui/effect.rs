//! What the dashboard wants done. Slow work carries a number, and its answer carries it back.

use std::path::PathBuf;

use ratatui::layout::Size;

use crate::moderation::{Action, ItemId, PolicyId, QueueCursor, QueueFilter, TaskId};

use super::state::{Query, RequestId, Reveal};

/// One thing that the driver should do. None of them may block the loop for long.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// End the loop; [`super::run`] does it itself.
    Quit,
    /// Give the terminal back, stop the program, and send [`super::Event::Resumed`] when it
    /// continues.
    Suspend,
    /// Clear the screen before the next draw; [`super::run`] does it itself.
    Redraw,
    /// Answer with [`super::Event::QueueLoaded`].
    LoadQueue {
        /// The request.
        id: RequestId,
        /// Which tasks.
        filter: QueueFilter,
        /// The page begins after this; at the top without.
        after: Option<QueueCursor>,
        /// Rows, at most.
        limit: usize,
    },
    /// Answer with [`super::Event::CountsLoaded`]; the driver knows when the day began.
    LoadCounts {
        /// The request.
        id: RequestId,
    },
    /// Answer with [`super::Event::PolicyCountsLoaded`]: over all undecided tasks.
    LoadPolicyCounts {
        /// The request.
        id: RequestId,
    },
    /// Answer with [`super::Event::DetailLoaded`]. A later request makes an unanswered one moot.
    LoadDetail {
        /// The request.
        id: RequestId,
        /// About this task.
        task: TaskId,
    },
    /// Answer with [`super::Event::PictureReady`] or [`super::Event::PictureFailed`]. A later
    /// request makes an unanswered one moot.
    LoadPicture {
        /// The request.
        id: RequestId,
        /// Where the file lies, tried in this order.
        paths: Vec<PathBuf>,
        /// What its bytes must be; anything else is [`super::NoPicture::Replaced`].
        item: ItemId,
        /// How much of it to show; never `Hidden`.
        reveal: Reveal,
        /// With a map over it of what matters to this policy; as the model sees it then.
        heat: Option<PolicyId>,
        /// The room for it, in cells.
        area: Size,
    },
    /// The picture under this number is not shown any more.
    DropPicture {
        /// The request that it came with.
        id: RequestId,
    },
    /// Record a decision, signed with the reviewer and the time; answer with
    /// [`super::Event::Decided`].
    Decide {
        /// The request.
        id: RequestId,
        /// About this task.
        task: TaskId,
        /// What.
        action: Action,
        /// The policy given as the reason, if any.
        reason: Option<PolicyId>,
        /// In the reviewer's own words, if any.
        note: Option<String>,
    },
    /// Decode a picture that is likely to be shown next, and tell nobody.
    Prefetch {
        /// Where the file lies.
        path: PathBuf,
        /// What its bytes must be.
        item: ItemId,
        /// The room for it, in cells.
        area: Size,
    },
    /// Answer with [`super::Event::GroupLoaded`]: the undecided tasks that these stand for,
    /// themselves included.
    LoadGroups {
        /// The request.
        id: RequestId,
        /// Rows of the queue.
        tasks: Vec<TaskId>,
    },
    /// Record one decision about several tasks; answer with [`super::Event::DecidedTogether`].
    DecideTogether {
        /// The request.
        id: RequestId,
        /// About these tasks.
        tasks: Vec<TaskId>,
        /// What.
        action: Action,
        /// The policy given as the reason, if any.
        reason: Option<PolicyId>,
        /// In the reviewer's own words, if any.
        note: Option<String>,
    },
    /// Record one decision about items that a search found, whether anything flagged them or
    /// not; answer with [`super::Event::DecidedTogether`].
    DecideItems {
        /// The request.
        id: RequestId,
        /// About these items.
        items: Vec<ItemId>,
        /// What.
        action: Action,
    },
    /// Take the reviewer's latest decision back; answer with [`super::Event::Undone`].
    Undo {
        /// The request.
        id: RequestId,
    },
    /// Decide again what was taken back; answer with [`super::Event::Redone`].
    Redo {
        /// The request.
        id: RequestId,
    },
    /// Lease a task, or renew the lease, and give back the one held before; answer with
    /// [`super::Event::Leased`]. A later request makes an unanswered one moot.
    Lease {
        /// The request.
        id: RequestId,
        /// Nothing is open any more without.
        task: Option<TaskId>,
    },
    /// Write down that a step of a picture was chosen; answer with [`super::Event::Exposures`].
    Expose {
        /// Whose picture.
        item: ItemId,
        /// Which step.
        step: Reveal,
    },
    /// Answer with [`super::Event::Exposures`].
    CountExposures,
    /// Search all pictures; answer with [`super::Event::Finding`] meanwhile and
    /// [`super::Event::FoundItems`] at last. A later request makes an unanswered one moot.
    Find {
        /// The request.
        id: RequestId,
        /// What for.
        query: Query,
    },
    /// Answer with [`super::Event::FoundItems`]: what is known now about items that were found,
    /// by the store's numbers, each with its likeness.
    LookUp {
        /// The request.
        id: RequestId,
        /// Number, cosine and percentile.
        items: Vec<(i64, f32, Option<f64>)>,
    },
    /// Answer with [`super::Event::Neighbours`]: the decided items most like this one. A later
    /// request makes an unanswered one moot.
    LoadNeighbours {
        /// The request.
        id: RequestId,
        /// Like which.
        item: ItemId,
    },
    /// Answer with [`super::Event::NumbersLoaded`].
    LoadNumbers {
        /// The request.
        id: RequestId,
    },
}
