//! What the dashboard knows. Plain values; pixels and the store are the driver's.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use ratatui::layout::Size;

use crate::moderation::{
    Action, FoundItem, ItemId, Lane, Lease, Outcome, PolicyId, PolicyVerdict, PromptShare,
    QueueCounts, QueueCursor, QueueFilter, QueueOrder, Reason, ReviewState, ReviewStats,
    ReviewTask, Reviewer, SafeView, ScoreHistogram, TaskDetail, TaskId, Timestamp,
};

use super::keymap::Keymap;
use super::layout::Layout;

/// Numbers a piece of slow work: the effect that asks and the event that answers carry the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Everything that is drawn, and what is still on its way. Only [`super::update()`] changes it.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// Who decides.
    pub reviewer: Reviewer,
    /// Colours or none.
    pub theme: Theme,
    /// Whether pictures are shown at all.
    pub pictures: Pictures,
    /// The window, in cells.
    pub size: Size,
    /// For relative ages; minutes old at most.
    pub now: Timestamp,
    /// The policies in force.
    pub policies: Vec<KnownPolicy>,
    /// The keys that work.
    pub keys: Keymap,
    /// How much a reviewer wants to see in a day, and when to rest.
    pub care: Care,
    /// Steps of pictures that were revealed today; none before the store has answered.
    pub exposures: Option<u64>,
    /// Which tasks the queue shows.
    pub filter: QueueFilter,
    /// The rows that are loaded.
    pub queue: Queue,
    /// The numbers of the first line, once they are there.
    pub counts: Option<QueueCounts>,
    /// Whether uploads are being judged.
    pub watcher: Watcher,
    /// What is known about the selected item.
    pub detail: Detail,
    /// How much of the selected item is shown.
    pub reveal: Reveal,
    /// Over the picture lies a map of what matters to this policy.
    pub heat: Option<PolicyId>,
    /// The selected item's picture.
    pub picture: Picture,
    /// Which policy's prompts are shown: an index into [`ItemDetail::panels`].
    pub panel: usize,
    /// Lines of the why panel above its upper edge.
    pub why_scroll: u16,
    /// What the next decision about the selected item carries.
    pub draft: Draft,
    /// Who else has the selected task open, once the store has answered.
    pub lease: Option<Lease>,
    /// Rows that the next decision is about, all together.
    pub marks: BTreeSet<TaskId>,
    /// What `.` repeats.
    pub last: Option<LastDecision>,
    /// Decisions that the store has not answered yet.
    pub pending: Vec<PendingDecision>,
    /// An undo or redo that the store has not answered yet.
    pub undoing: Option<RequestId>,
    /// What has the keyboard.
    pub mode: Mode,
    /// What just happened, if it is worth a word.
    pub message: Option<Message>,
    /// The terminal belongs to the shell (Ctrl-Z): nothing is drawn.
    pub suspended: bool,
    /// The last event changed something that can be seen.
    pub needs_draw: bool,
    pub(super) last_request: u64,
    pub(super) counts_request: Option<RequestId>,
    pub(super) detail_refresh: Option<RequestId>,
    pub(super) lease_request: Option<RequestId>,
    /// When the lease was taken or renewed last.
    pub(super) leased_at: Timestamp,
    pub(super) neighbours_request: Option<RequestId>,
    /// Whose picture `picture` is about.
    pub(super) pictured: Option<ItemId>,
    /// When the reviewer began, or rested last.
    pub(super) working_since: Timestamp,
}

impl State {
    /// A dashboard that has loaded nothing yet; [`super::Event::Opened`] makes it ask.
    pub fn new(opening: Opening) -> Self {
        Self {
            reviewer: opening.reviewer,
            theme: opening.theme,
            pictures: opening.pictures,
            size: opening.size,
            now: opening.now,
            policies: opening.policies,
            keys: opening.keys,
            care: opening.care,
            exposures: None,
            filter: QueueFilter { state: Some(ReviewState::Open), ..QueueFilter::default() },
            queue: Queue::default(),
            counts: None,
            watcher: Watcher::Unknown,
            detail: Detail::Nothing,
            reveal: Reveal::Hidden,
            heat: None,
            picture: Picture::Nothing,
            panel: 0,
            why_scroll: 0,
            draft: Draft::default(),
            lease: None,
            marks: BTreeSet::new(),
            last: None,
            pending: Vec::new(),
            undoing: None,
            mode: Mode::Browse,
            message: None,
            suspended: false,
            needs_draw: true,
            last_request: 0,
            counts_request: None,
            detail_refresh: None,
            lease_request: None,
            leased_at: opening.now,
            neighbours_request: None,
            pictured: None,
            working_since: opening.now,
        }
    }

    /// The result of the search that is selected, while results are shown.
    pub fn found(&self) -> Option<&Found> {
        match &self.mode {
            Mode::Results(results) => results.found.get(results.selected),
            _ => None,
        }
    }

    /// The item whose picture belongs on the screen, and where its file may lie.
    pub fn shown(&self) -> Option<Shown> {
        if matches!(self.mode, Mode::Results(_)) {
            let found = &self.found()?.item;
            return Some(Shown {
                item: found.item,
                paths: found.path.clone().into_iter().collect(),
            });
        }
        let detail = &self.item_detail()?.detail;
        let task = &detail.task;
        let others = detail.sightings.iter().map(|sighting| &sighting.path);
        let mut paths = vec![task.path.clone()];
        paths.extend(others.filter(|path| **path != task.path).cloned());
        Some(Shown { item: task.item, paths })
    }

    /// The selected row.
    pub fn selected(&self) -> Option<&Row> {
        self.queue.rows.get(self.queue.selected)
    }

    /// What is known about the selected item, once it is there.
    pub fn item_detail(&self) -> Option<&ItemDetail> {
        match &self.detail {
            Detail::Ready(detail) => Some(detail),
            Detail::Nothing | Detail::Loading { .. } | Detail::Failed { .. } => None,
        }
    }

    /// What was decided about this task, as long as the store has not answered.
    pub fn pending(&self, task: TaskId) -> Option<Action> {
        self.pending.iter().find(|pending| pending.task == task).map(|pending| pending.action)
    }

    /// Where everything is on the screen.
    pub fn layout(&self) -> Layout {
        Layout::of(self.size, self.pictures)
    }
}

/// What the driver knows when it opens the dashboard.
#[derive(Debug, Clone, PartialEq)]
pub struct Opening {
    /// Who decides.
    pub reviewer: Reviewer,
    /// `Plain` where `NO_COLOR` is set.
    pub theme: Theme,
    /// `Off` with `--pictures off`.
    pub pictures: Pictures,
    /// The window, in cells.
    pub size: Size,
    /// The clock.
    pub now: Timestamp,
    /// The policies in force.
    pub policies: Vec<KnownPolicy>,
    /// The keys that work.
    pub keys: Keymap,
    /// How much a reviewer wants to see in a day, and when to rest.
    pub care: Care,
}

/// How a reviewer looks after herself; nothing of it keeps anyone from working.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Care {
    /// Steps revealed in a day after which a word is said.
    pub budget: Option<u64>,
    /// Minutes of work after which a break is suggested.
    pub break_minutes: Option<u32>,
}

/// An item whose picture belongs on the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// What.
    pub item: ItemId,
    /// Where its file may lie, tried in this order.
    pub paths: Vec<PathBuf>,
}

/// A decision that can be made again about another item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastDecision {
    /// What.
    pub action: Action,
    /// The policy given as the reason, if any.
    pub reason: Option<PolicyId>,
    /// In the reviewer's own words, if any.
    pub note: Option<String>,
}

/// A policy as far as the dashboard needs it before any item is loaded.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownPolicy {
    /// Its name.
    pub id: PolicyId,
    /// How what it flags is shown first.
    pub safe_view: SafeView,
    /// Scores from here on go to a person.
    pub review: f32,
    /// Scores from here on are Block.
    pub block: f32,
}

/// Colours or none; meaning never depends on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Theme {
    /// Bold, dim and reverse only (`NO_COLOR`).
    Plain,
    /// The terminal's own 16 colours, so that light and dark terminals both work.
    Colour,
}

/// Whether pictures are shown at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pictures {
    /// In the way the terminal can.
    Shown,
    /// `--pictures off`: the explanation takes their room.
    Off,
}

/// Whether uploads are being judged right now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Watcher {
    /// Not asked yet.
    Unknown,
    /// No `modtool watch` runs on this workspace.
    Absent,
    /// At least one runs.
    Watching {
        /// Pictures judged a second, all watchers together.
        rate: f32,
    },
}

/// The part of the queue that is loaded: everything from its top down to some row.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Queue {
    /// In queue order.
    pub rows: Vec<Row>,
    /// How much of the whole queue they are.
    pub extent: Extent,
    /// Index of the selected row; 0 when there is none.
    pub selected: usize,
    /// Index of the first row on the screen.
    pub top: usize,
    /// The page that is on its way.
    pub request: Option<PageRequest>,
    /// The last page could not be loaded: don't ask again before something happens.
    pub failed: bool,
    /// Where the selection wants to go once the rows are there.
    pub goal: Option<Goal>,
}

impl Queue {
    /// The cursor after the last row that the store itself put there.
    pub fn end(&self) -> Option<QueueCursor> {
        self.rows.iter().rev().find(|row| !row.gone).map(|row| QueueCursor::of(&row.task))
    }

    /// Index of this task's row.
    pub fn position(&self, task: TaskId) -> Option<usize> {
        self.rows.iter().position(|row| row.task.id == task)
    }
}

/// One line of the queue.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The task.
    pub task: ReviewTask,
    /// The store no longer lists it; it stays as long as it is selected, so that the
    /// selection never jumps to another item under the reviewer's fingers.
    pub gone: bool,
}

/// A page of the queue that was asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PageRequest {
    /// Its number.
    pub id: RequestId,
    /// Replaces all rows, or is put after them.
    pub kind: PageKind,
    /// Fewer rows than this mean that nothing comes after.
    pub limit: usize,
    /// Something changed since: ask again when it is there.
    pub stale: bool,
}

/// How much of the whole queue is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Extent {
    /// The store has not answered for this filter yet.
    #[default]
    Unknown,
    /// Something comes after the last row.
    Beginning,
    /// Nothing comes after the last row.
    Whole,
}

/// What a page is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageKind {
    /// The queue from its top, in place of what is there.
    Refresh,
    /// What comes after the last row.
    Append,
}

/// Where the selection wants to go once the rows are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// The last row of the whole queue.
    End,
    /// The row of this task, after an undo.
    Task(TaskId),
}

/// What is known about the selected item.
#[derive(Debug, Clone, PartialEq)]
pub enum Detail {
    /// Nothing is selected.
    Nothing,
    /// Was asked for.
    Loading {
        /// The request.
        id: RequestId,
        /// For this task.
        task: TaskId,
    },
    /// Is there.
    Ready(Box<ItemDetail>),
    /// Could not be loaded; the message says why.
    Failed {
        /// For this task.
        task: TaskId,
    },
}

/// A task with everything that explains it.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemDetail {
    /// The task, its sightings and past decisions.
    pub detail: TaskDetail,
    /// One for every policy: the heaviest first, then the other flagging ones, then by score.
    pub panels: Vec<Panel>,
    /// The most similar items that were decided, once they are found.
    pub neighbours: Option<Vec<Found>>,
}

impl ItemDetail {
    /// Puts the policies' verdicts and explanations together, in the order of the panels.
    pub fn new(detail: TaskDetail, whys: Vec<Why>) -> Self {
        let mut whys: Vec<Option<Why>> = whys.into_iter().map(Some).collect();
        let mut why_of = |policy: &PolicyId| {
            let found =
                whys.iter_mut().find(|why| why.as_ref().is_some_and(|w| w.policy == *policy));
            found.and_then(Option::take)
        };
        let mut panels: Vec<Panel> = detail
            .policies
            .iter()
            .map(|verdict| Panel { why: why_of(&verdict.policy), verdict: verdict.clone() })
            .collect();
        panels.sort_by(|a, b| {
            let rank = |panel: &Panel| {
                let heaviest = detail.task.policy.as_ref() == Some(&panel.verdict.policy);
                (!heaviest, !panel.verdict.flags())
            };
            rank(a).cmp(&rank(b)).then(b.verdict.score.total_cmp(&a.verdict.score))
        });
        Self { detail, panels, neighbours: None }
    }

    /// The policies that flagged the item, in the order of their digits (from 1).
    pub fn flagging(&self) -> impl Iterator<Item = &Panel> {
        self.panels.iter().filter(|panel| panel.verdict.flags()).take(9)
    }
}

/// What one policy says, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    /// As it was recorded.
    pub verdict: PolicyVerdict,
    /// Nothing when the policy is no longer in force or the vectors are missing.
    pub why: Option<Why>,
}

/// The arithmetic behind one policy's score, as the driver computed it from the stored vectors.
#[derive(Debug, Clone, PartialEq)]
pub struct Why {
    /// Which policy.
    pub policy: PolicyId,
    /// What people read.
    pub title: String,
    /// 0..=1.
    pub score: f32,
    /// Where something that was learned changed it: the score by the words alone.
    pub words: Option<f32>,
    /// Scores from here on go to a person.
    pub review: f32,
    /// Scores from here on are Block.
    pub block: f32,
    /// Every prompt's part.
    pub shares: Vec<PromptShare>,
    /// The share of all uploads that this policy scored lower, 0..=1.
    pub higher_than: Option<f64>,
}

/// How much of a picture is shown, from nothing to all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reveal {
    /// Label, score and explanation only; the picture isn't even loaded.
    Hidden,
    /// A few dozen grey pixels, heavily blurred.
    Tiny,
    /// Lightly blurred, in colour.
    Blur,
    /// Sharp, without colour.
    Grey,
    /// As it is.
    Full,
}

impl Reveal {
    /// All steps, in order.
    pub const ALL: [Self; 5] = [Self::Hidden, Self::Tiny, Self::Blur, Self::Grey, Self::Full];

    /// Where an item with this safe view begins.
    pub fn first(safe_view: SafeView) -> Self {
        match safe_view {
            SafeView::Hidden => Self::Hidden,
            SafeView::Blur => Self::Blur,
            SafeView::Grey => Self::Grey,
            SafeView::None => Self::Full,
        }
    }

    /// One step more; `None` when everything is shown.
    pub fn next(self) -> Option<Self> {
        Self::ALL.into_iter().find(|step| *step > self)
    }

    /// The word on the screen.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hidden => "hidden",
            Self::Tiny => "tiny",
            Self::Blur => "blur",
            Self::Grey => "grey",
            Self::Full => "full",
        }
    }
}

/// The selected item's picture. The driver keeps the pixels under the request's number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Picture {
    /// Hidden, off, or nothing is selected.
    Nothing,
    /// Was asked for.
    Loading {
        /// The request.
        id: RequestId,
        /// The room it was asked for, in cells.
        area: Size,
    },
    /// The driver has it.
    Ready {
        /// The request.
        id: RequestId,
        /// The room it was made for, in cells.
        area: Size,
    },
    /// There is none.
    Failed(NoPicture),
}

/// Why there is no picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoPicture {
    /// No file is at the path any more.
    Gone,
    /// Another file is at the path now: its bytes are not the item's.
    Replaced,
    /// The file can't be read; the system says why.
    Unreadable(String),
    /// The bytes are no picture that can be shown.
    Undecodable(String),
}

impl fmt::Display for NoPicture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("the file is gone"),
            Self::Replaced => {
                f.write_str("the file was replaced; these are not its bytes any more")
            }
            Self::Unreadable(why) => write!(f, "the file can't be read: {why}"),
            Self::Undecodable(why) => write!(f, "the file can't be shown: {why}"),
        }
    }
}

/// What the next decision about the selected item carries.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Draft {
    /// The policy given as the reason.
    pub reason: Option<PolicyId>,
    /// In the reviewer's own words.
    pub note: Option<String>,
}

/// A decision that the store has not answered yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingDecision {
    /// The request.
    pub id: RequestId,
    /// About this task.
    pub task: TaskId,
    /// What was decided.
    pub action: Action,
    /// What to call the item in messages: its file name, as in the upload.
    pub name: Vec<u8>,
}

/// What has the keyboard.
#[derive(Debug, Clone, PartialEq)]
pub enum Mode {
    /// The queue.
    Browse,
    /// The list of keys.
    Help {
        /// Lines above its upper edge.
        scroll: u16,
    },
    /// The list of policies.
    Filter(FilterPopup),
    /// The line for a note.
    Note {
        /// What was typed so far.
        text: String,
    },
    /// The line for a part of a path; the queue follows every letter.
    Text {
        /// What was typed so far.
        text: String,
    },
    /// The line for a description to search by, and for what restricts the search.
    Ask {
        /// What was typed so far.
        text: String,
        /// Added to what is like this item.
        like: Option<ItemId>,
    },
    /// What a decision is going to touch.
    Together(Box<Together>),
    /// What a search found.
    Results(Box<Results>),
    /// The numbers.
    Numbers(Box<NumbersPage>),
}

/// Several items that one key is about to decide.
#[derive(Debug, Clone, PartialEq)]
pub struct Together {
    /// What is going to be decided.
    pub action: Action,
    /// The policy given as the reason, if any.
    pub reason: Option<PolicyId>,
    /// In the reviewer's own words, if any.
    pub note: Option<String>,
    /// The tasks that are on their way.
    pub request: Option<RequestId>,
    /// What it is going to touch.
    pub tasks: Vec<ReviewTask>,
    /// Marked results of a search; decided in place of tasks.
    pub items: Vec<Found>,
    /// The results to go back to.
    pub back: Option<Box<Results>>,
    /// Rows above the upper edge.
    pub scroll: u16,
}

impl Together {
    /// How many items.
    pub fn count(&self) -> usize {
        self.tasks.len() + self.items.len()
    }
}

/// What a search looks for; never nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Pictures like this one.
    pub like: Option<ItemId>,
    /// As typed: descriptions, and restrictions such as `policy:weapons`.
    pub text: String,
}

/// What a search found, the most similar first.
#[derive(Debug, Clone, PartialEq)]
pub struct Results {
    /// What was searched for.
    pub query: Query,
    /// In words, for the title.
    pub title: String,
    /// The search that is on its way.
    pub request: Option<RequestId>,
    /// What the driver is doing meanwhile.
    pub progress: String,
    /// Items.
    pub found: Vec<Found>,
    /// Index of the selected one.
    pub selected: usize,
    /// Index of the first one on the screen.
    pub top: usize,
    /// What the next decision is about.
    pub marks: BTreeSet<ItemId>,
}

/// An item that is like what was searched for.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// What is known about it.
    pub item: FoundItem,
    /// Cosine similarity, −1..=1: no probability.
    pub cosine: f32,
    /// Of a search: the share of all pictures that are less alike, 0..=100.
    pub percentile: Option<f64>,
}

/// The numbers on the screen.
#[derive(Debug, Clone, PartialEq)]
pub struct NumbersPage {
    /// What is on its way.
    pub request: Option<RequestId>,
    /// Nothing before the store has answered.
    pub numbers: Option<Numbers>,
    /// Lines above the upper edge.
    pub scroll: u16,
}

/// How the queue, the reviewers, the policies and the watchers do.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Numbers {
    /// From the store.
    pub stats: ReviewStats,
    /// How each day is called, in the order of [`ReviewStats::days`].
    pub days: Vec<String>,
    /// How the scores of each policy in force lie.
    pub histograms: Vec<ScoreHistogram>,
    /// A line for each watcher that runs, safe to print.
    pub watchers: Vec<String>,
}

/// The list of policies to choose from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterPopup {
    /// The counts that are on their way.
    pub request: Option<RequestId>,
    /// Policies and how many tasks each flagged.
    pub policies: Vec<(PolicyId, u64)>,
    /// 0 is "all", then the policies.
    pub selected: usize,
}

/// What just happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// How loud.
    pub kind: MessageKind,
    /// Full words, already safe to print.
    pub text: String,
}

/// How loud a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageKind {
    /// Goes away with the next key.
    Note,
    /// Stays until Esc or a later message.
    Warning,
    /// As a warning: something that was asked for did not happen.
    Error,
}

/// The step at which an item first appears: the strongest safe view of all policies that flagged
/// it. In doubt (not judged or not all of it, removed before, flagged by a policy that is no longer in force)
/// nothing is shown; what no policy has looked at appears blurred.
pub fn first_reveal(detail: &ItemDetail, policies: &[KnownPolicy]) -> Reveal {
    let task = &detail.detail.task;
    match &task.reason {
        Some(reason) if reason.is_unjudged() => return Reveal::Hidden,
        Some(
            Reason::RemovedBefore
            | Reason::LikeRemoved(_)
            | Reason::Inherited(_)
            | Reason::Doubtful(_),
        ) => return Reveal::Hidden,
        _ => {}
    }
    let safe_view = |id: &PolicyId| {
        let known = policies.iter().find(|policy| policy.id == *id);
        known.map_or(SafeView::Hidden, |policy| policy.safe_view)
    };
    let flagging = detail.panels.iter().filter(|panel| panel.verdict.flags());
    flagging
        .map(|panel| &panel.verdict.policy)
        .chain(&task.policy)
        .map(safe_view)
        .max()
        .map_or(Reveal::Blur, Reveal::first)
}

/// The next lane: open, escalated, what could not be judged, all.
pub(super) fn next_lane(filter: &QueueFilter) -> QueueFilter {
    let (state, lane) = match (filter.state, filter.lane) {
        (Some(ReviewState::Open), _) => (Some(ReviewState::Escalated), Lane::Everything),
        (Some(_), _) => (None, Lane::Unjudged),
        (None, Lane::Unjudged) => (None, Lane::Everything),
        (None, Lane::Everything) => (Some(ReviewState::Open), Lane::Everything),
    };
    QueueFilter { state, lane, ..filter.clone() }
}

/// The next choice of outcomes: all, Block, Review.
pub(super) fn next_outcome(outcome: Option<Outcome>) -> Option<Outcome> {
    match outcome {
        None => Some(Outcome::Block),
        Some(Outcome::Block) => Some(Outcome::Review),
        Some(_) => None,
    }
}

/// The next order of the queue.
pub(super) fn next_order(order: QueueOrder) -> QueueOrder {
    let later = QueueOrder::ALL.iter().copied().find(|other| *other > order);
    later.unwrap_or(QueueOrder::Pressing)
}
