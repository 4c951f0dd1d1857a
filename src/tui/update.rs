//! The only place where the dashboard's state changes.
//!
//! Every event is applied first; then `settle` compares what is selected and visible with what
//! is loaded, and asks for what is missing. Answers whose number nobody waits for are dropped.

mod find;
mod together;

use std::path::Path;

use ratatui::layout::Size;

use crate::moderation::escape::{escape, is_unprintable};
use crate::moderation::{
    Action, DecisionOutcome, Lease, PastDecision, PolicyId, QueueFilter, QueueOrder, RedoOutcome,
    ReviewState, ReviewTask, TaskDetail, TaskId, Timestamp, UndoOutcome,
};

use super::effect::Effect;
use super::event::{Direction, Event};
use super::keymap::{Command, Key, Place};
use super::layout::{Panes, inside};
use super::state::{
    Detail, Draft, Extent, FilterPopup, Goal, ItemDetail, LastDecision, Message, MessageKind, Mode,
    NumbersPage, PageKind, PageRequest, PendingDecision, Picture, Pictures, Queue, RequestId,
    Reveal, Row, State, Why, first_reveal, next_lane, next_order, next_outcome,
};
use super::view;

/// Rows of a page of the queue.
pub const PAGE: usize = 200;
/// Rows of a page on the way to the end of the queue.
pub const LONG_PAGE: usize = 2000;
/// Rows that are loaded ahead of the selection.
const AHEAD: usize = 100;
/// Characters of a note, or of whatever else is typed.
pub const LONGEST_NOTE: usize = 500;
/// A lease is renewed at a key that comes so many milliseconds after it was taken.
const RENEW_AFTER: i64 = Lease::LENGTH_MS / 4;
/// Pictures that are decoded ahead.
const PREFETCHED: usize = 2;

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
    if let Mode::Results(results) = &state.mode {
        return find::allows(state, results, command);
    }
    let browsing = matches!(state.mode, Mode::Browse);
    let free = state.selected().filter(|row| state.pending(row.task.id).is_none());
    let detail = state.item_detail();
    match command {
        Command::Approve | Command::Remove | Command::Note | Command::Mark => free.is_some(),
        Command::Repeat => free.is_some() && state.last.is_some(),
        Command::Escalate => free
            .is_some_and(|row| row.task.state != ReviewState::Escalated || !state.marks.is_empty()),
        Command::Reason => {
            free.is_some() && detail.is_some_and(|detail| detail.flagging().next().is_some())
        }
        Command::Undo | Command::Redo => state.undoing.is_none(),
        Command::Reveal => {
            state.pictures == Pictures::Shown && detail.is_some() && state.reveal.next().is_some()
        }
        Command::Hide => {
            state.pictures == Pictures::Shown && detail.is_some() && state.reveal != Reveal::Hidden
        }
        Command::NextPolicy | Command::PreviousPolicy => {
            detail.is_some_and(|detail| detail.panels.len() > 1)
        }
        Command::Heatmap => {
            state.pictures == Pictures::Shown
                && state.reveal != Reveal::Hidden
                && detail.is_some_and(|detail| !detail.panels.is_empty())
        }
        Command::WhyDown | Command::WhyUp | Command::Alike => detail.is_some(),
        Command::Down
        | Command::Up
        | Command::PageDown
        | Command::PageUp
        | Command::First
        | Command::Last => !browsing || !state.queue.rows.is_empty(),
        Command::Close => !browsing || state.message.is_some() || !state.marks.is_empty(),
        Command::Filter
        | Command::States
        | Command::Text
        | Command::Outcomes
        | Command::Order
        | Command::Search
        | Command::Narrow
        | Command::Numbers
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
            effects.push(Effect::CountExposures);
        }
        Event::Key(key) => press(state, key, effects),
        Event::Paste(text) => type_text(state, &text, effects),
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
            refresh_numbers(state, effects);
        }
        Event::PoliciesChanged { policies } => {
            state.policies = policies;
            say(state, MessageKind::Note, "the policies were changed".to_owned());
            refresh_detail(state, effects);
            refresh_numbers(state, effects);
        }
        Event::PoliciesBroken { why } => {
            let text = format!("the policies are broken, the last good ones stay: {why}");
            say(state, MessageKind::Warning, text);
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
        Event::DetailLoaded { id, detail, whys } => {
            detail_loaded(state, id, detail, whys, effects);
        }
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
        Event::Redone { id, outcome } => redone(state, id, outcome, effects),
        Event::GroupLoaded { id, tasks } => together::loaded(state, id, tasks),
        Event::DecidedTogether { id, outcomes } => {
            together::decided(state, id, &outcomes, effects);
        }
        Event::Leased { id, lease } => leased(state, id, lease),
        Event::Exposures { count } => exposed(state, count),
        Event::Finding { id, progress } => find::going_on(state, id, progress),
        Event::FoundItems { id, found } => find::found(state, id, found),
        Event::Neighbours { id, found } => find::neighbours(state, id, found),
        Event::NumbersLoaded { id, numbers } => match &mut state.mode {
            Mode::Numbers(page) if page.request == Some(id) => {
                page.request = None;
                page.numbers = Some(*numbers);
            }
            _ => drop_stale(state),
        },
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
    find::keep_in_view(state);
}

// Keys.

fn press(state: &mut State, key: Key, effects: &mut Vec<Effect>) {
    renew_lease(state, effects);
    let place = Place::of(&state.mode);
    let Some(command) = state.keys.command_for(place, key) else {
        match key {
            Key::Char(character) => {
                type_text(state, character.encode_utf8(&mut [0; 4]), effects);
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
        Command::Repeat => repeat(state, effects),
        Command::Mark => together::mark(state),
        Command::Reason => choose_reason(state, key),
        Command::Note => {
            state.mode = Mode::Note { text: state.draft.note.clone().unwrap_or_default() };
        }
        Command::Undo | Command::Redo => {
            let id = next_request(state);
            state.undoing = Some(id);
            effects.push(match command {
                Command::Undo => Effect::Undo { id },
                _ => Effect::Redo { id },
            });
        }
        Command::Reveal => reveal(state, effects),
        Command::Search => find::ask(state),
        Command::Narrow => find::narrow(state),
        Command::Alike => find::alike(state, effects),
        Command::Numbers => open_numbers(state, effects),
        Command::Text => {
            state.mode = Mode::Text { text: state.filter.text.clone().unwrap_or_default() };
        }
        Command::Outcomes | Command::Order | Command::States => {
            let filter = state.filter.clone();
            let filter = match command {
                Command::Outcomes => {
                    QueueFilter { outcome: next_outcome(filter.outcome), ..filter }
                }
                Command::Order => QueueFilter { order: next_order(filter.order), ..filter },
                _ => next_lane(&filter),
            };
            change_filter(state, filter, effects);
        }
        Command::Heatmap => turn_heatmap(state, effects),
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
        Command::Help => {
            state.mode = match state.mode {
                Mode::Help { .. } => Mode::Browse,
                _ => Mode::Help { scroll: 0 },
            };
        }
        Command::Accept => accept(state, effects),
        Command::Erase => erase(state, effects),
        Command::Close => close(state, effects),
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

/// Decides the selected item as the one before.
fn repeat(state: &mut State, effects: &mut Vec<Effect>) {
    if let Some(LastDecision { action, reason, note }) = state.last.clone() {
        state.draft = Draft { reason, note };
        decide(state, action, effects);
    }
}

fn reveal(state: &mut State, effects: &mut Vec<Effect>) {
    if let (Some(step), Some(shown)) = (state.reveal.next(), state.shown()) {
        state.reveal = step;
        forget_picture(state, effects);
        effects.push(Effect::Expose { item: shown.item, step });
    }
}

fn open_numbers(state: &mut State, effects: &mut Vec<Effect>) {
    if matches!(state.mode, Mode::Numbers(_)) {
        state.mode = Mode::Browse;
        return;
    }
    let page = NumbersPage { request: None, numbers: None, scroll: 0 };
    state.mode = Mode::Numbers(Box::new(page));
    refresh_numbers(state, effects);
}

/// Into the line that has the keyboard, if one has.
fn type_text(state: &mut State, text: &str, effects: &mut Vec<Effect>) {
    match &mut state.mode {
        Mode::Note { text: line } | Mode::Ask { text: line, .. } => type_into(line, text),
        Mode::Text { text: line } => {
            type_into(line, text);
            filter_by_text(state, effects);
        }
        _ => state.needs_draw = false,
    }
}

fn type_into(line: &mut String, text: &str) {
    let room = LONGEST_NOTE.saturating_sub(line.chars().count());
    line.extend(text.chars().filter(|character| !is_unprintable(*character)).take(room));
}

fn erase(state: &mut State, effects: &mut Vec<Effect>) {
    match &mut state.mode {
        Mode::Note { text } | Mode::Ask { text, .. } => {
            text.pop();
        }
        Mode::Text { text } => {
            text.pop();
            filter_by_text(state, effects);
        }
        _ => {}
    }
}

/// The queue follows what is typed.
fn filter_by_text(state: &mut State, effects: &mut Vec<Effect>) {
    let Mode::Text { text } = &state.mode else { return };
    let text = Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    change_filter(state, QueueFilter { text, ..state.filter.clone() }, effects);
}

fn close(state: &mut State, effects: &mut Vec<Effect>) {
    match std::mem::replace(&mut state.mode, Mode::Browse) {
        Mode::Browse if state.message.is_some() => state.message = None,
        Mode::Browse => state.marks.clear(),
        Mode::Text { .. } => {
            change_filter(state, QueueFilter { text: None, ..state.filter.clone() }, effects);
        }
        Mode::Together(together) => {
            // Nothing is decided, and what was chosen stays chosen.
            state.draft = Draft { reason: together.reason, note: together.note };
            if let Some(results) = together.back {
                state.mode = Mode::Results(results);
            }
        }
        Mode::Results(_) => {
            forget_picture(state, effects);
            state.pictured = None;
            state.reveal = match state.item_detail() {
                Some(detail) if state.pictures == Pictures::Shown => {
                    first_reveal(detail, &state.policies)
                }
                _ => Reveal::Hidden,
            };
        }
        Mode::Help { .. }
        | Mode::Filter(_)
        | Mode::Note { .. }
        | Mode::Ask { .. }
        | Mode::Numbers(_) => {}
    }
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
            let filter = QueueFilter { policy, ..state.filter.clone() };
            change_filter(state, filter, effects);
        }
        // What was typed is what the queue shows already.
        Mode::Text { .. } => {}
        Mode::Ask { text, like } => find::by_text(state, text.trim(), like, effects),
        Mode::Together(together) => together::confirm(state, *together, effects),
        mode @ (Mode::Browse | Mode::Help { .. } | Mode::Results(_) | Mode::Numbers(_)) => {
            state.mode = mode;
        }
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

/// A map of what matters to the policy that is explained, over the picture or away from it.
fn turn_heatmap(state: &mut State, effects: &mut Vec<Effect>) {
    let explained = state.item_detail().and_then(|detail| detail.panels.get(state.panel));
    let policy = explained.map(|panel| panel.verdict.policy.clone());
    state.heat = if state.heat.is_some() { None } else { policy };
    if let Some(policy) = &state.heat {
        let text = format!("red parts speak for {policy}, blue ones against it; approximate");
        say(state, MessageKind::Note, text);
    }
    forget_picture(state, effects);
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
        Mode::Results(results) => {
            results.selected = target(results.selected, results.found.len());
        }
        Mode::Together(together) => {
            let most = together.count().saturating_sub(1);
            let moved = target(usize::from(together.scroll), most + 1);
            together.scroll = u16::try_from(moved).unwrap_or(u16::MAX);
        }
        Mode::Numbers(page) => {
            let moved = usize::from(page.scroll).saturating_add_signed(rows).min(500);
            page.scroll = u16::try_from(moved).unwrap_or(u16::MAX);
        }
        Mode::Note { .. } | Mode::Text { .. } | Mode::Ask { .. } => {}
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
    if let Mode::Results(results) = &mut state.mode
        && rows.contains(ratatui::layout::Position { x: column, y: row })
    {
        let index = results.top + usize::from(row - rows.y);
        if index < results.found.len() {
            results.selected = index;
        }
        return;
    }
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
    let order = state.filter.order;
    let queue = &mut state.queue;
    queue.request = None;
    queue.failed = false;
    queue.extent = if tasks.len() < request.limit { Extent::Whole } else { Extent::Beginning };
    match request.kind {
        PageKind::Refresh => replace_rows(queue, tasks, order),
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
fn replace_rows(queue: &mut Queue, tasks: Vec<ReviewTask>, order: QueueOrder) {
    let above = queue.selected.saturating_sub(queue.top);
    let selected =
        (queue.selected < queue.rows.len()).then(|| queue.rows.swap_remove(queue.selected));
    queue.rows = tasks.into_iter().map(|task| Row { task, gone: false }).collect();
    if let Some(mut row) = selected {
        queue.selected = queue.position(row.task.id).unwrap_or_else(|| {
            row.gone = true;
            let place =
                queue.rows.partition_point(|other| order.compare(&other.task, &row.task).is_lt());
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
    state.marks.clear();
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
    // While results are shown, the picture is one of theirs.
    if !matches!(state.mode, Mode::Results(_)) {
        forget_picture(state, effects);
        state.reveal = Reveal::Hidden;
    }
    state.panel = 0;
    state.why_scroll = 0;
    state.draft = Draft::default();
    state.detail_refresh = None;
    state.detail = Detail::Nothing;
    state.lease = None;
    if matches!(state.mode, Mode::Note { .. }) {
        state.mode = Mode::Browse;
        say(state, MessageKind::Warning, "the item went away; its note was not kept".to_owned());
    }
    if let Some(task) = selected {
        let id = next_request(state);
        state.detail = Detail::Loading { id, task };
        effects.push(Effect::LoadDetail { id, task });
    } else {
        lease(state, None, effects);
    }
}

fn lease(state: &mut State, task: Option<TaskId>, effects: &mut Vec<Effect>) {
    let id = next_request(state);
    state.lease_request = Some(id);
    state.leased_at = state.now;
    effects.push(Effect::Lease { id, task });
}

/// A lease lasts as long as someone is at the keys.
fn renew_lease(state: &mut State, effects: &mut Vec<Effect>) {
    let due = state.now.0 - state.leased_at.0 >= RENEW_AFTER;
    if due && let Some(task) = state.item_detail().map(|detail| detail.detail.task.id) {
        lease(state, Some(task), effects);
    }
}

fn leased(state: &mut State, id: RequestId, lease: Option<Lease>) {
    if state.lease_request != Some(id) {
        return drop_stale(state);
    }
    state.lease_request = None;
    state.lease = lease.filter(|lease| lease.reviewer != state.reviewer);
    if let Some(lease) = &state.lease {
        let text =
            format!("{} has this item open; you can't decide it now", lease.reviewer.as_str());
        say(state, MessageKind::Warning, text);
    } else {
        state.needs_draw = false;
    }
}

fn exposed(state: &mut State, count: u64) {
    state.exposures = Some(count);
    let Some(budget) = state.care.budget.filter(|budget| count >= *budget) else { return };
    let text =
        format!("you have revealed pictures {count} times today; you wanted to stop at {budget}");
    say(state, MessageKind::Warning, text);
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
    effects: &mut Vec<Effect>,
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
    let mut detail = ItemDetail::new(*detail, whys);
    detail.neighbours = state.item_detail().and_then(|old| old.neighbours.clone());
    let same = |policy: PolicyId| detail.panels.iter().position(|p| p.verdict.policy == policy);
    state.panel = shown.and_then(same).unwrap_or(0);
    if fresh && !matches!(state.mode, Mode::Results(_)) {
        state.reveal = match state.pictures {
            Pictures::Shown => first_reveal(&detail, &state.policies),
            Pictures::Off => Reveal::Hidden,
        };
    }
    if moved && matches!(state.picture, Picture::Failed(_)) {
        // Perhaps the file lies elsewhere now.
        state.picture = Picture::Nothing;
    }
    let (task, item) = (detail.detail.task.id, detail.detail.task.item);
    let undecided = detail.detail.task.state != ReviewState::Closed;
    state.detail = Detail::Ready(Box::new(detail));
    if fresh {
        lease(state, Some(task).filter(|_| undecided), effects);
        let id = next_request(state);
        state.neighbours_request = Some(id);
        effects.push(Effect::LoadNeighbours { id, item });
        prefetch(state, effects);
    }
}

/// Decodes what is likely to be looked at next, unless it begins hidden.
fn prefetch(state: &State, effects: &mut Vec<Effect>) {
    let Some(panes) = state.layout().panes().filter(|_| state.pictures == Pictures::Shown) else {
        return;
    };
    let next = state.queue.rows.iter().skip(state.queue.selected + 1).take(PREFETCHED);
    for Row { task, .. } in next {
        let policy = state.policies.iter().find(|known| Some(&known.id) == task.policy.as_ref());
        let first = policy.map_or(Reveal::Hidden, |known| Reveal::first(known.safe_view));
        if first != Reveal::Hidden {
            let (path, item) = (task.path.clone(), task.item);
            let area = inside(panes.picture).as_size();
            effects.push(Effect::Prefetch { path, item, area });
        }
    }
}

fn follow_picture(state: &mut State, effects: &mut Vec<Effect>) {
    let item = state.shown().map(|shown| shown.item);
    if item != state.pictured {
        // What was chosen for one picture says nothing about another.
        if item.is_some() && state.pictured.is_some() {
            state.reveal = Reveal::Hidden;
        }
        state.heat = None;
        forget_picture(state, effects);
        state.pictured = item;
    }
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
    let (Some(area), Some(shown)) = (wanted, state.shown()) else { return };
    let id = next_request(state);
    state.picture = Picture::Loading { id, area };
    let (paths, item, reveal, heat) = (shown.paths, shown.item, state.reveal, state.heat.clone());
    effects.push(Effect::LoadPicture { id, paths, item, reveal, heat, area });
}

/// The room for the picture, if one should be on the screen.
fn wanted_picture(state: &State) -> Option<Size> {
    let room = inside(state.layout().panes()?.picture);
    let shown = state.reveal != Reveal::Hidden && state.shown().is_some();
    (shown && room.width > 0 && room.height > 0).then(|| room.as_size())
}

fn forget_picture(state: &mut State, effects: &mut Vec<Effect>) {
    if let Picture::Ready { id, .. } = std::mem::replace(&mut state.picture, Picture::Nothing) {
        effects.push(Effect::DropPicture { id });
    }
}

// Decisions.

fn decide(state: &mut State, action: Action, effects: &mut Vec<Effect>) {
    if matches!(state.mode, Mode::Results(_)) {
        return find::decide(state, action);
    }
    let Some(row) = state.selected() else { return };
    if !state.marks.is_empty() || row.task.group > 1 {
        return together::preview(state, action, effects);
    }
    let (task, name) = (row.task.id, file_name(&row.task.path));
    let id = next_request(state);
    let draft = std::mem::take(&mut state.draft);
    // Whoever approves gives no reason to remove.
    let reason = draft.reason.filter(|_| action != Action::Approve);
    let note = draft.note;
    state.last = Some(LastDecision { action, reason: reason.clone(), note: note.clone() });
    state.pending.push(PendingDecision { id, task, action, name });
    effects.push(Effect::Decide { id, task, action, reason, note });
    advance(state);
}

/// To the next row that can be decided: not pending, and not open on someone else's screen.
fn advance(state: &mut State) {
    let free = |row: &Row| {
        state.pending(row.task.id).is_none()
            && row.task.leased_by_other(&state.reviewer, state.now).is_none()
    };
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
        DecisionOutcome::Leased(lease) => {
            let text =
                format!("not recorded: {name} is open on {}'s screen", lease.reviewer.as_str());
            say(state, MessageKind::Warning, text);
        }
        DecisionOutcome::Superseded => {
            task_is_now(state, task, ReviewState::Closed);
            let text = format!(
                "not recorded: {name} needs no decision any more; its file was replaced or could be read after all, or no policy flags it"
            );
            say(state, MessageKind::Warning, text);
        }
        DecisionOutcome::NothingToRemove => {
            let text = format!(
                "not recorded: modtool removes no files that it did not judge; delete those of {name} yourself, then approve"
            );
            say(state, MessageKind::Warning, text);
        }
    }
    after_decision(state, effects);
}

fn after_decision(state: &mut State, effects: &mut Vec<Effect>) {
    // A page that was read before this decision would bring the row back for a moment.
    if state.queue.request.is_some_and(|request| request.kind == PageKind::Refresh) {
        state.queue.request = None;
        refresh_queue(state, effects);
    }
    refresh_counts(state, effects);
}

/// Takes the row away, or shows its new state, as the filter wants it.
fn task_is_now(state: &mut State, task: TaskId, now: ReviewState) {
    state.marks.remove(&task);
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
            let text = format!("taken back: {}", all_in_words(&past, state.now));
            say(state, MessageKind::Note, text);
            state.queue.goal = past.first().map(|past| Goal::Task(past.decision.task));
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

fn redone(state: &mut State, id: RequestId, outcome: RedoOutcome, effects: &mut Vec<Effect>) {
    if state.undoing != Some(id) {
        return drop_stale(state);
    }
    state.undoing = None;
    match outcome {
        RedoOutcome::Redone(decisions) => {
            let text = format!("decided again: {}", all_in_words(&decisions, state.now));
            say(state, MessageKind::Note, text);
            for past in &decisions {
                let now = past.decision.action.state();
                task_is_now(state, past.decision.task, now);
            }
            after_decision(state, effects);
        }
        RedoOutcome::NothingToRedo => {
            say(state, MessageKind::Note, "there is nothing to decide again".to_owned());
        }
        RedoOutcome::DecidedSince(past) => {
            let text = format!("not decided again: {}", in_words(&past, state.now));
            say(state, MessageKind::Warning, text);
        }
    }
}

fn refresh_numbers(state: &mut State, effects: &mut Vec<Effect>) {
    if !matches!(state.mode, Mode::Numbers(_)) {
        return;
    }
    let id = next_request(state);
    if let Mode::Numbers(page) = &mut state.mode {
        page.request = Some(id);
    }
    effects.push(Effect::LoadNumbers { id });
}

fn failed(state: &mut State, id: RequestId, why: &str) {
    let why = escape(why.as_bytes());
    let together = state.pending.iter().filter(|pending| pending.id == id).count();
    if together > 1 {
        state.pending.retain(|pending| pending.id != id);
        let text = format!("not recorded: {together} decisions: {why}");
        return say(state, MessageKind::Error, text);
    }
    if let Some(index) = state.pending.iter().position(|pending| pending.id == id) {
        let pending = state.pending.remove(index);
        let (name, action) = (escape(&pending.name), pending.action);
        let text = format!("not recorded: {action} {name}: {why}");
        return say(state, MessageKind::Error, text);
    }
    let what = if state.undoing == Some(id) {
        state.undoing = None;
        "nothing was taken back or decided again"
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
    } else if let Mode::Numbers(page) = &mut state.mode
        && page.request == Some(id)
    {
        page.request = None;
        "the numbers could not be loaded"
    } else if let Mode::Results(results) = &mut state.mode
        && results.request == Some(id)
    {
        results.request = None;
        results.progress = String::new();
        "the search failed"
    } else if let Mode::Together(together) = &mut state.mode
        && together.request == Some(id)
    {
        together.request = None;
        "the group could not be loaded"
    } else if state.lease_request == Some(id) {
        state.lease_request = None;
        "others can't be told that you have this item open"
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
    let Some(minutes) = state.care.break_minutes else { return };
    if now.0 - state.working_since.0 >= i64::from(minutes) * 60_000 {
        state.working_since = now;
        state.needs_draw = true;
        let text = format!("you have been at it for {minutes} minutes; a short break helps");
        say(state, MessageKind::Note, text);
    }
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

/// One decision in words, several as a number.
fn all_in_words(decisions: &[PastDecision], now: Timestamp) -> String {
    match decisions {
        [] => "nothing".to_owned(),
        [past] => in_words(past, now),
        [past, ..] => {
            let action = past_tense(past.decision.action);
            format!("{} decisions, {action} {}", decisions.len(), view::ago(now, past.decision.at))
        }
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
