//! The only place where the dashboard's state changes.
//!
//! Every event is applied first; then `settle` compares what is selected and visible with what
//! is loaded, and asks for what is missing. Answers whose number nobody waits for are dropped.

use std::path::{Path, PathBuf};

use ratatui::layout::Size;

use crate::moderation::escape::{escape, is_unprintable};
use crate::moderation::review::queue_order;
use crate::moderation::{
    Action, DecisionOutcome, PastDecision, PolicyId, QueueFilter, ReviewState, ReviewTask,
    TaskDetail, TaskId, Timestamp, UndoOutcome,
};

use super::effect::Effect;
use super::event::{Direction, Event};
use super::keymap::{self, Command, Key, Place};
use super::layout::{Panes, inside};
use super::state::{
    Detail, Draft, Extent, FilterPopup, Goal, ItemDetail, Message, MessageKind, Mode, PageKind,
    PageRequest, PendingDecision, Picture, Pictures, Queue, RequestId, Reveal, Row, State, Why,
    first_reveal, next_states,
};
use super::view;

/// Rows of a page of the queue.
pub const PAGE: usize = 200;
/// Rows of a page on the way to the end of the queue.
pub const LONG_PAGE: usize = 2000;
/// Rows that are loaded ahead of the selection.
const AHEAD: usize = 100;
/// Characters of a note.
pub const LONGEST_NOTE: usize = 500;

/// Applies an event; the answer is what should be done outside.
pub fn update(state: &mut State, event: Event) -> Vec<Effect> {
    state.needs_draw = true;
    let mut effects = Vec::new();
    apply(state, event, &mut effects);
    settle(state, &mut effects);
    effects
}

/// Whether a key with this meaning would do anything now.
pub fn allows(state: &State, command: Command) -> bool {
    let browsing = matches!(state.mode, Mode::Browse);
    let free = state.selected().filter(|row| state.pending(row.task.id).is_none());
    let detail = state.item_detail();
    match command {
        Command::Approve | Command::Remove | Command::Note => free.is_some(),
        Command::Escalate => free.is_some_and(|row| row.task.state != ReviewState::Escalated),
        Command::Reason => {
            free.is_some() && detail.is_some_and(|detail| detail.flagging().next().is_some())
        }
        Command::Undo => state.undoing.is_none(),
        Command::Reveal => {
            state.pictures == Pictures::Shown && detail.is_some() && state.reveal.next().is_some()
        }
        Command::Hide => {
            state.pictures == Pictures::Shown && detail.is_some() && state.reveal != Reveal::Hidden
        }
        Command::NextPolicy | Command::PreviousPolicy => {
            detail.is_some_and(|detail| detail.panels.len() > 1)
        }
        Command::WhyDown | Command::WhyUp => detail.is_some(),
        Command::Down
        | Command::Up
        | Command::PageDown
        | Command::PageUp
        | Command::First
        | Command::Last => !browsing || !state.queue.rows.is_empty(),
        Command::Close => !browsing || state.message.is_some(),
        Command::Filter
        | Command::States
        | Command::Help
        | Command::Accept
        | Command::Erase
        | Command::Redraw
        | Command::Suspend
        | Command::Quit => true,
    }
}

fn apply(state: &mut State, event: Event, effects: &mut Vec<Effect>) {
    match event {
        Event::Opened => {
            refresh_queue(state, effects);
            refresh_counts(state, effects);
        }
        Event::Key(key) => press(state, key, effects),
        Event::Paste(text) => match &mut state.mode {
            Mode::Note { text: note } => type_into(note, &text),
            Mode::Browse | Mode::Help { .. } | Mode::Filter(_) => state.needs_draw = false,
        },
        Event::Scroll { column, row, direction } => scroll(state, column, row, direction),
        Event::Click { column, row } => click(state, column, row),
        Event::Resized { width, height } => state.size = Size { width, height },
        Event::Resumed => {
            state.suspended = false;
            effects.push(Effect::Redraw);
            // What the terminal kept of a picture may be gone with the screen.
            forget_picture(state, effects);
        }
        Event::Stop => effects.push(Effect::Quit),
        Event::Clock(now) => clock(state, now),
        Event::StoreChanged => {
            state.needs_draw = false;
            state.queue.failed = false;
            refresh_queue(state, effects);
            refresh_counts(state, effects);
            refresh_detail(state, effects);
            refresh_popup(state, effects);
        }
        Event::Watcher(watcher) => {
            state.needs_draw = state.watcher != watcher;
            state.watcher = watcher;
        }
        Event::QueueLoaded { id, tasks } => queue_loaded(state, id, tasks, effects),
        Event::CountsLoaded { id, counts } => {
            if state.counts_request != Some(id) {
                return drop_stale(state);
            }
            state.counts_request = None;
            state.needs_draw = state.counts != Some(counts);
            state.counts = Some(counts);
        }
        Event::PolicyCountsLoaded { id, counts } => policy_counts_loaded(state, id, counts),
        Event::DetailLoaded { id, detail, whys } => detail_loaded(state, id, detail, whys),
        Event::PictureReady { id } => match state.picture {
            Picture::Loading { id: awaited, area } if awaited == id => {
                state.picture = Picture::Ready { id, area };
            }
            _ => {
                drop_stale(state);
                effects.push(Effect::DropPicture { id });
            }
        },
        Event::PictureFailed { id, why } => match state.picture {
            Picture::Loading { id: awaited, .. } if awaited == id => {
                state.picture = Picture::Failed(why);
            }
            _ => drop_stale(state),
        },
        Event::Decided { id, outcome } => decided(state, id, outcome, effects),
        Event::Undone { id, outcome } => undone(state, id, outcome, effects),
        Event::Failed { id, why } => failed(state, id, &why),
    }
}

/// Makes what is loaded follow what is selected and visible.
fn settle(state: &mut State, effects: &mut Vec<Effect>) {
    forget_rows_that_went(state);
    keep_in_view(state);
    follow_selection(state, effects);
    follow_picture(state, effects);
    load_ahead(state, effects);
}

// Keys.

fn press(state: &mut State, key: Key, effects: &mut Vec<Effect>) {
    let place = Place::of(&state.mode);
    let Some(command) = keymap::command_for(place, key) else {
        match (&mut state.mode, key) {
            (Mode::Note { text }, Key::Char(character)) => {
                type_into(text, character.encode_utf8(&mut [0; 4]));
            }
            _ => state.needs_draw = false,
        }
        return;
    };
    if state.message.as_ref().is_some_and(|message| message.kind == MessageKind::Note) {
        state.message = None;
    }
    if !allows(state, command) {
        let escalated =
            state.selected().is_some_and(|row| row.task.state == ReviewState::Escalated);
        if command == Command::Escalate && escalated {
            say(state, MessageKind::Note, "this item is already escalated".to_owned());
        }
        return;
    }
    match command {
        Command::Approve => decide(state, Action::Approve, effects),
        Command::Remove => decide(state, Action::Remove, effects),
        Command::Escalate => decide(state, Action::Escalate, effects),
        Command::Reason => choose_reason(state, key),
        Command::Note => {
            state.mode = Mode::Note { text: state.draft.note.clone().unwrap_or_default() };
        }
        Command::Undo => {
            let id = next_request(state);
            state.undoing = Some(id);
            effects.push(Effect::Undo { id });
        }
        Command::Reveal => {
            if let Some(step) = state.reveal.next() {
                state.reveal = step;
                forget_picture(state, effects);
            }
        }
        Command::Hide => {
            state.reveal = Reveal::Hidden;
            forget_picture(state, effects);
        }
        Command::Down => move_by(state, 1),
        Command::Up => move_by(state, -1),
        Command::PageDown => move_by(state, screenful(state)),
        Command::PageUp => move_by(state, -screenful(state)),
        Command::First => move_by(state, isize::MIN),
        Command::Last => {
            move_by(state, isize::MAX);
            if matches!(state.mode, Mode::Browse) {
                state.queue.goal = Some(Goal::End);
            }
        }
        Command::NextPolicy => turn_panel(state, Direction::Forward),
        Command::PreviousPolicy => turn_panel(state, Direction::Back),
        Command::WhyDown => scroll_why(state, 1),
        Command::WhyUp => scroll_why(state, -1),
        Command::Filter => open_filter(state, effects),
        Command::States => {
            let state_shown = next_states(state.filter.state);
            let policy = state.filter.policy.clone();
            change_filter(state, QueueFilter { policy, state: state_shown }, effects);
        }
        Command::Help => {
            state.mode = match state.mode {
                Mode::Help { .. } => Mode::Browse,
                _ => Mode::Help { scroll: 0 },
            };
        }
        Command::Accept => accept(state, effects),
        Command::Erase => {
            if let Mode::Note { text } = &mut state.mode {
                text.pop();
            }
        }
        Command::Close => match state.mode {
            Mode::Browse => state.message = None,
            _ => state.mode = Mode::Browse,
        },
        Command::Redraw => {
            effects.push(Effect::Redraw);
            forget_picture(state, effects);
        }
        Command::Suspend => {
            state.suspended = true;
            effects.push(Effect::Suspend);
        }
        Command::Quit => effects.push(Effect::Quit),
    }
}

fn type_into(note: &mut String, text: &str) {
    let room = LONGEST_NOTE.saturating_sub(note.chars().count());
    note.extend(text.chars().filter(|character| !is_unprintable(*character)).take(room));
}

fn accept(state: &mut State, effects: &mut Vec<Effect>) {
    match std::mem::replace(&mut state.mode, Mode::Browse) {
        Mode::Note { text } => {
            let note = text.trim();
            state.draft.note = (!note.is_empty()).then(|| note.to_owned());
        }
        Mode::Filter(popup) => {
            let chosen = popup.selected.checked_sub(1).and_then(|index| popup.policies.get(index));
            let policy = chosen.map(|(policy, _)| policy.clone());
            let shown = state.filter.state;
            change_filter(state, QueueFilter { policy, state: shown }, effects);
        }
        Mode::Browse | Mode::Help { .. } => {}
    }
}

fn choose_reason(state: &mut State, key: Key) {
    let Some(detail) = state.item_detail() else { return };
    let chosen = key.digit().and_then(|digit| detail.flagging().nth(digit - 1));
    let Some(policy) = chosen.map(|panel| panel.verdict.policy.clone()) else {
        let text = format!("there is no reason {}", key.digit().unwrap_or_default());
        return say(state, MessageKind::Note, text);
    };
    // The same digit again takes the choice back.
    state.draft.reason = (state.draft.reason.as_ref() != Some(&policy)).then_some(policy);
}

fn turn_panel(state: &mut State, direction: Direction) {
    let count = state.item_detail().map_or(0, |detail| detail.panels.len());
    if count > 0 {
        state.panel = match direction {
            Direction::Forward => (state.panel + 1) % count,
            Direction::Back => (state.panel + count - 1) % count,
        };
    }
    state.why_scroll = 0;
}

fn scroll_why(state: &mut State, lines: i16) {
    let Some(panes) = state.layout().panes() else { return };
    let room = inside(panes.why);
    let most = view::why_height(state, room.width).saturating_sub(room.height);
    state.why_scroll = state.why_scroll.saturating_add_signed(lines).min(most);
}

fn screenful(state: &State) -> isize {
    let rows = state.layout().panes().map_or(1, |panes| inside(panes.queue).height.max(2) - 1);
    isize::try_from(rows).unwrap_or(1)
}

fn move_by(state: &mut State, rows: isize) {
    let target = |selected: usize, count: usize| {
        selected.saturating_add_signed(rows).min(count.saturating_sub(1))
    };
    match &mut state.mode {
        Mode::Browse => {
            let queue = &mut state.queue;
            queue.goal = None;
            queue.failed = false;
            queue.selected = target(queue.selected, queue.rows.len());
        }
        Mode::Filter(popup) => popup.selected = target(popup.selected, popup.policies.len() + 1),
        Mode::Help { scroll } => {
            let most = usize::from(view::help_overflow(state.size));
            let moved = target(usize::from(*scroll), most + 1);
            *scroll = u16::try_from(moved).unwrap_or(u16::MAX);
        }
        Mode::Note { .. } => {}
    }
}

// The mouse.

fn scroll(state: &mut State, column: u16, row: u16, direction: Direction) {
    let step = match direction {
        Direction::Back => -1,
        Direction::Forward => 1,
    };
    let Some(panes) = state.layout().panes() else { return };
    let at = ratatui::layout::Position { x: column, y: row };
    if matches!(state.mode, Mode::Browse) && panes.why.contains(at) {
        scroll_why(state, step);
    } else if !matches!(state.mode, Mode::Browse) || panes.queue.contains(at) {
        move_by(state, isize::from(step));
    }
}

fn click(state: &mut State, column: u16, row: u16) {
    let Some(Panes { queue: pane, .. }) = state.layout().panes() else { return };
    let rows = inside(pane);
    if !matches!(state.mode, Mode::Browse)
        || !rows.contains(ratatui::layout::Position { x: column, y: row })
    {
        return;
    }
    let index = state.queue.top + usize::from(row - rows.y);
    if index < state.queue.rows.len() {
        state.queue.goal = None;
        state.queue.selected = index;
    }
}

// The queue.

fn refresh_queue(state: &mut State, effects: &mut Vec<Effect>) {
    if let Some(request) = &mut state.queue.request {
        request.stale = true;
        return;
    }
    let needed = state.queue.selected + 1 + AHEAD;
    ask_for_page(state, PageKind::Refresh, needed.next_multiple_of(PAGE), effects);
}

fn ask_for_page(state: &mut State, kind: PageKind, limit: usize, effects: &mut Vec<Effect>) {
    let id = next_request(state);
    state.queue.request = Some(PageRequest { id, kind, limit, stale: false });
    let after = match kind {
        PageKind::Refresh => None,
        PageKind::Append => state.queue.end(),
    };
    effects.push(Effect::LoadQueue { id, filter: state.filter.clone(), after, limit });
}

fn queue_loaded(
    state: &mut State,
    id: RequestId,
    tasks: Vec<ReviewTask>,
    effects: &mut Vec<Effect>,
) {
    let Some(request) = state.queue.request.filter(|request| request.id == id) else {
        return drop_stale(state);
    };
    let queue = &mut state.queue;
    queue.request = None;
    queue.failed = false;
    queue.extent = if tasks.len() < request.limit { Extent::Whole } else { Extent::Beginning };
    match request.kind {
        PageKind::Refresh => replace_rows(queue, tasks),
        PageKind::Append => append_rows(queue, tasks),
    }
    match queue.goal {
        Some(Goal::End) => {
            queue.selected = queue.rows.len().saturating_sub(1);
            if queue.extent == Extent::Whole {
                queue.goal = None;
            }
        }
        Some(Goal::Task(task)) if request.kind == PageKind::Refresh && !request.stale => {
            queue.selected = queue.position(task).unwrap_or(queue.selected);
            queue.goal = None;
        }
        Some(Goal::Task(_)) | None => {}
    }
    if request.stale {
        refresh_queue(state, effects);
    }
}

/// Puts new rows in place of the old, with the selection on the same task at the same height.
fn replace_rows(queue: &mut Queue, tasks: Vec<ReviewTask>) {
    let above = queue.selected.saturating_sub(queue.top);
    let selected =
        (queue.selected < queue.rows.len()).then(|| queue.rows.swap_remove(queue.selected));
    queue.rows = tasks.into_iter().map(|task| Row { task, gone: false }).collect();
    if let Some(mut row) = selected {
        queue.selected = queue.position(row.task.id).unwrap_or_else(|| {
            row.gone = true;
            let place =
                queue.rows.partition_point(|other| queue_order(&other.task, &row.task).is_lt());
            queue.rows.insert(place, row);
            place
        });
    }
    queue.top = queue.selected.saturating_sub(above);
}

fn append_rows(queue: &mut Queue, tasks: Vec<ReviewTask>) {
    let selected = queue.rows.get(queue.selected).map(|row| row.task.id);
    let known: std::collections::HashSet<TaskId> =
        queue.rows.iter().filter(|row| !row.gone).map(|row| row.task.id).collect();
    let fresh: Vec<Row> = tasks
        .into_iter()
        .filter(|task| !known.contains(&task.id))
        .map(|task| Row { task, gone: false })
        .collect();
    queue.rows.retain(|row| !row.gone || !fresh.iter().any(|new| new.task.id == row.task.id));
    queue.rows.extend(fresh);
    queue.selected = selected.and_then(|task| queue.position(task)).unwrap_or(queue.selected);
}

/// A row that the store no longer lists stays only as long as it is selected.
fn forget_rows_that_went(state: &mut State) {
    let queue = &mut state.queue;
    let mut index = 0;
    while index < queue.rows.len() {
        if queue.rows[index].gone && index != queue.selected {
            remove_at(queue, index);
        } else {
            index += 1;
        }
    }
}

fn remove_at(queue: &mut Queue, index: usize) {
    queue.rows.remove(index);
    if index < queue.selected {
        queue.selected -= 1;
        queue.top = queue.top.saturating_sub(1);
    }
}

fn remove_row(queue: &mut Queue, task: TaskId) {
    if let Some(index) = queue.position(task) {
        remove_at(queue, index);
    }
}

fn keep_in_view(state: &mut State) {
    let rows = state.layout().panes().map_or(1, |panes| usize::from(inside(panes.queue).height));
    let queue = &mut state.queue;
    queue.selected = queue.selected.min(queue.rows.len().saturating_sub(1));
    let last_top = queue.rows.len().saturating_sub(rows);
    queue.top = queue.top.min(queue.selected).min(last_top);
    if queue.selected >= queue.top + rows {
        queue.top = queue.selected + 1 - rows;
    }
}

fn load_ahead(state: &mut State, effects: &mut Vec<Effect>) {
    let queue = &state.queue;
    if queue.extent != Extent::Beginning || queue.failed || queue.request.is_some() {
        return;
    }
    if queue.goal == Some(Goal::End) {
        ask_for_page(state, PageKind::Append, LONG_PAGE, effects);
    } else if queue.selected + AHEAD >= queue.rows.len() {
        ask_for_page(state, PageKind::Append, PAGE, effects);
    }
}

fn change_filter(state: &mut State, filter: QueueFilter, effects: &mut Vec<Effect>) {
    if state.filter == filter {
        return;
    }
    state.filter = filter;
    // Whatever is on its way belongs to the old filter.
    state.queue = Queue::default();
    refresh_queue(state, effects);
}

fn refresh_counts(state: &mut State, effects: &mut Vec<Effect>) {
    let id = next_request(state);
    state.counts_request = Some(id);
    effects.push(Effect::LoadCounts { id });
}

// The list of policies.

fn open_filter(state: &mut State, effects: &mut Vec<Effect>) {
    state.mode = Mode::Filter(FilterPopup { request: None, policies: Vec::new(), selected: 0 });
    refresh_popup(state, effects);
}

fn refresh_popup(state: &mut State, effects: &mut Vec<Effect>) {
    if !matches!(state.mode, Mode::Filter(_)) {
        return;
    }
    let id = next_request(state);
    if let Mode::Filter(popup) = &mut state.mode {
        popup.request = Some(id);
    }
    effects.push(Effect::LoadPolicyCounts { id });
}

fn policy_counts_loaded(state: &mut State, id: RequestId, counts: Vec<(PolicyId, u64)>) {
    let Mode::Filter(popup) = &mut state.mode else { return drop_stale(state) };
    if popup.request != Some(id) {
        return drop_stale(state);
    }
    let first = popup.policies.is_empty();
    let chosen = popup.selected.checked_sub(1).and_then(|index| popup.policies.get(index));
    let chosen = chosen.map(|(policy, _)| policy.clone());
    let wanted = if first { state.filter.policy.clone() } else { chosen };
    popup.request = None;
    popup.policies = counts;
    // The policy that is filtered by can always be seen, also when nothing is left of it.
    if let Some(policy) = &state.filter.policy
        && !popup.policies.iter().any(|(id, _)| id == policy)
    {
        popup.policies.push((policy.clone(), 0));
    }
    let place = wanted.and_then(|policy| popup.policies.iter().position(|(id, _)| *id == policy));
    popup.selected = place.map_or(0, |index| index + 1);
}

// The selected item.

fn follow_selection(state: &mut State, effects: &mut Vec<Effect>) {
    let selected = state.selected().map(|row| row.task.id);
    let followed = match &state.detail {
        Detail::Nothing => None,
        Detail::Loading { task, .. } | Detail::Failed { task } => Some(*task),
        Detail::Ready(detail) => Some(detail.detail.task.id),
    };
    if selected == followed {
        return;
    }
    forget_picture(state, effects);
    state.reveal = Reveal::Hidden;
    state.panel = 0;
    state.why_scroll = 0;
    state.draft = Draft::default();
    state.detail_refresh = None;
    state.detail = Detail::Nothing;
    if matches!(state.mode, Mode::Note { .. }) {
        state.mode = Mode::Browse;
        say(state, MessageKind::Warning, "the item went away; its note was not kept".to_owned());
    }
    if let Some(task) = selected {
        let id = next_request(state);
        state.detail = Detail::Loading { id, task };
        effects.push(Effect::LoadDetail { id, task });
    }
}

fn refresh_detail(state: &mut State, effects: &mut Vec<Effect>) {
    let task = match &state.detail {
        Detail::Ready(detail) => detail.detail.task.id,
        Detail::Failed { task } => *task,
        Detail::Nothing | Detail::Loading { .. } => return,
    };
    let id = next_request(state);
    state.detail_refresh = Some(id);
    effects.push(Effect::LoadDetail { id, task });
}

fn detail_loaded(
    state: &mut State,
    id: RequestId,
    detail: Option<Box<TaskDetail>>,
    whys: Vec<Why>,
) {
    let first = match state.detail {
        Detail::Loading { id: awaited, task } if awaited == id => Some(task),
        _ if state.detail_refresh == Some(id) => None,
        _ => return drop_stale(state),
    };
    state.detail_refresh = None;
    let Some(detail) = detail else {
        if let Some(task) = first {
            state.detail = Detail::Failed { task };
            say(state, MessageKind::Warning, "the store no longer knows this task".to_owned());
        }
        return;
    };
    let shown = state.item_detail().and_then(|old| old.panels.get(state.panel));
    let shown = shown.map(|panel| panel.verdict.policy.clone());
    let moved = state.item_detail().is_some_and(|old| old.detail.sightings != detail.sightings);
    let fresh = first.is_some() || state.item_detail().is_none();
    let detail = ItemDetail::new(*detail, whys);
    let same = |policy: PolicyId| detail.panels.iter().position(|p| p.verdict.policy == policy);
    state.panel = shown.and_then(same).unwrap_or(0);
    if fresh {
        state.reveal = match state.pictures {
            Pictures::Shown => first_reveal(&detail, &state.policies),
            Pictures::Off => Reveal::Hidden,
        };
    }
    if moved && matches!(state.picture, Picture::Failed(_)) {
        // Perhaps the file lies elsewhere now.
        state.picture = Picture::Nothing;
    }
    state.detail = Detail::Ready(Box::new(detail));
}

fn follow_picture(state: &mut State, effects: &mut Vec<Effect>) {
    let wanted = wanted_picture(state);
    let area = match state.picture {
        Picture::Loading { area, .. } | Picture::Ready { area, .. } => Some(area),
        // A picture that can't be had is not asked for again until something changes.
        Picture::Failed(_) if wanted.is_some() => return,
        Picture::Nothing | Picture::Failed(_) => None,
    };
    if area == wanted {
        return;
    }
    forget_picture(state, effects);
    let (Some(area), Some(detail)) = (wanted, state.item_detail()) else { return };
    let task = &detail.detail.task;
    let others = detail.detail.sightings.iter().map(|sighting| &sighting.path);
    let mut paths: Vec<PathBuf> = vec![task.path.clone()];
    paths.extend(others.filter(|path| **path != task.path).cloned());
    let (task, item, reveal) = (task.id, task.item, state.reveal);
    let id = next_request(state);
    state.picture = Picture::Loading { id, area };
    effects.push(Effect::LoadPicture { id, task, paths, item, reveal, area });
}

/// The room for the picture, if one should be on the screen.
fn wanted_picture(state: &State) -> Option<Size> {
    let room = inside(state.layout().panes()?.picture);
    let shown = state.item_detail().is_some() && state.reveal != Reveal::Hidden;
    (shown && room.width > 0 && room.height > 0).then(|| room.as_size())
}

fn forget_picture(state: &mut State, effects: &mut Vec<Effect>) {
    if let Picture::Ready { id, .. } = std::mem::replace(&mut state.picture, Picture::Nothing) {
        effects.push(Effect::DropPicture { id });
    }
}

// Decisions.

fn decide(state: &mut State, action: Action, effects: &mut Vec<Effect>) {
    let Some(row) = state.selected() else { return };
    let (task, name) = (row.task.id, file_name(&row.task.path));
    let id = next_request(state);
    let draft = std::mem::take(&mut state.draft);
    // Whoever approves gives no reason to remove.
    let reason = draft.reason.filter(|_| action != Action::Approve);
    state.pending.push(PendingDecision { id, task, action, name });
    effects.push(Effect::Decide { id, task, action, reason, note: draft.note });
    let free = |row: &Row| state.pending(row.task.id).is_none();
    let (rows, selected) = (&state.queue.rows, state.queue.selected);
    let after = (selected + 1..rows.len()).find(|index| free(&rows[*index]));
    let before = (0..selected).rev().find(|index| free(&rows[*index]));
    state.queue.selected = after.or(before).unwrap_or(selected);
    state.queue.goal = None;
}

fn decided(state: &mut State, id: RequestId, outcome: DecisionOutcome, effects: &mut Vec<Effect>) {
    let Some(index) = state.pending.iter().position(|pending| pending.id == id) else {
        return drop_stale(state);
    };
    let PendingDecision { task, action, name, .. } = state.pending.remove(index);
    let name = escape(&name);
    match outcome {
        DecisionOutcome::Recorded(_) => {
            task_is_now(state, task, action.state());
            say(state, MessageKind::Note, format!("{} {name} · u undoes", past_tense(action)));
        }
        DecisionOutcome::AlreadyDecided(past) => {
            task_is_now(state, task, past.decision.action.state());
            let text =
                format!("not recorded: {name} was decided before: {}", in_words(&past, state.now));
            say(state, MessageKind::Warning, text);
        }
        DecisionOutcome::Superseded => {
            task_is_now(state, task, ReviewState::Closed);
            let text = format!(
                "not recorded: {name} needs no decision any more; its file was replaced or could be read after all"
            );
            say(state, MessageKind::Warning, text);
        }
    }
    // A page that was read before this decision would bring the row back for a moment.
    if state.queue.request.is_some_and(|request| request.kind == PageKind::Refresh) {
        state.queue.request = None;
        refresh_queue(state, effects);
    }
    refresh_counts(state, effects);
}

/// Takes the row away, or shows its new state, as the filter wants it.
fn task_is_now(state: &mut State, task: TaskId, now: ReviewState) {
    let listed = now != ReviewState::Closed && state.filter.state.is_none_or(|shown| shown == now);
    if !listed {
        remove_row(&mut state.queue, task);
    } else if let Some(index) = state.queue.position(task) {
        state.queue.rows[index].task.state = now;
    }
}

fn undone(state: &mut State, id: RequestId, outcome: UndoOutcome, effects: &mut Vec<Effect>) {
    if state.undoing != Some(id) {
        return drop_stale(state);
    }
    state.undoing = None;
    match outcome {
        UndoOutcome::Undone(past) => {
            let text = format!("taken back: {}", in_words(&past, state.now));
            say(state, MessageKind::Note, text);
            state.queue.goal = Some(Goal::Task(past.decision.task));
            refresh_queue(state, effects);
            refresh_counts(state, effects);
        }
        UndoOutcome::NothingToUndo => {
            say(state, MessageKind::Note, "you have no decision left to take back".to_owned());
        }
        UndoOutcome::DecidedSince(past) => {
            let text = format!(
                "not taken back: the item was decided again since: {}",
                in_words(&past, state.now)
            );
            say(state, MessageKind::Warning, text);
        }
    }
}

fn failed(state: &mut State, id: RequestId, why: &str) {
    let why = escape(why.as_bytes());
    if let Some(index) = state.pending.iter().position(|pending| pending.id == id) {
        let pending = state.pending.remove(index);
        let (name, action) = (escape(&pending.name), pending.action);
        let text = format!("not recorded: {action} {name}: {why}");
        return say(state, MessageKind::Error, text);
    }
    let what = if state.undoing == Some(id) {
        state.undoing = None;
        "the decision was not taken back"
    } else if state.queue.request.is_some_and(|request| request.id == id) {
        state.queue.request = None;
        state.queue.failed = true;
        "the queue could not be loaded"
    } else if state.counts_request == Some(id) {
        state.counts_request = None;
        "the counts could not be loaded"
    } else if state.detail_refresh == Some(id) {
        state.detail_refresh = None;
        "the explanation could not be loaded again"
    } else if let Detail::Loading { id: awaited, task } = state.detail
        && awaited == id
    {
        state.detail = Detail::Failed { task };
        "the explanation could not be loaded"
    } else if let Mode::Filter(popup) = &mut state.mode
        && popup.request == Some(id)
    {
        popup.request = None;
        "the policies' counts could not be loaded"
    } else {
        return drop_stale(state);
    };
    say(state, MessageKind::Error, format!("{what}: {why}"));
}

// Small things.

fn clock(state: &mut State, now: Timestamp) {
    // Ages are shown in minutes: within one, nothing on the screen changes.
    state.needs_draw = now.0.div_euclid(60_000) != state.now.0.div_euclid(60_000);
    state.now = now;
}

fn drop_stale(state: &mut State) {
    state.needs_draw = false;
}

fn say(state: &mut State, kind: MessageKind, text: String) {
    state.message = Some(Message { kind, text });
}

fn next_request(state: &mut State) -> RequestId {
    state.last_request += 1;
    RequestId(state.last_request)
}

fn file_name(path: &Path) -> Vec<u8> {
    path.file_name().unwrap_or(path.as_os_str()).as_encoded_bytes().to_vec()
}

fn past_tense(action: Action) -> &'static str {
    match action {
        Action::Approve => "approved",
        Action::Remove => "removed",
        Action::Escalate => "escalated",
    }
}

/// "ana removed it 2 min ago (weapons): “a note”".
pub(super) fn in_words(past: &PastDecision, now: Timestamp) -> String {
    use std::fmt::Write as _;
    let decision = &past.decision;
    let mut text = format!(
        "{} {} it {}",
        decision.reviewer.as_str(),
        past_tense(decision.action),
        view::ago(now, decision.at)
    );
    if let Some(reason) = &decision.reason {
        write!(text, " ({reason})").expect("a String takes every write");
    }
    if let Some(note) = &decision.note {
        write!(text, ": “{}”", escape(note.as_bytes())).expect("a String takes every write");
    }
    text
}
