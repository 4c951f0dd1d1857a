//! What the dashboard wants done. Slow work carries a number, and its answer carries it back.

use std::path::PathBuf;

use ratatui::layout::Size;

use crate::moderation::{Action, ItemId, PolicyId, QueueCursor, QueueFilter, TaskId};

use super::state::{RequestId, Reveal};

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
        /// About this task.
        task: TaskId,
        /// Where the file lies, tried in this order.
        paths: Vec<PathBuf>,
        /// What its bytes must be; anything else is [`super::NoPicture::Replaced`].
        item: ItemId,
        /// How much of it to show; never `Hidden`.
        reveal: Reveal,
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
    /// Take the reviewer's latest decision back; answer with [`super::Event::Undone`].
    Undo {
        /// The request.
        id: RequestId,
    },
}
