//! The list on the left: one line a task or a found item, marks not by colour alone.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::moderation::escape::escape;
use crate::moderation::{
    Action, Lane, Outcome, QueueFilter, QueueOrder, Reason, ReviewState, ReviewTask,
};
use crate::tui::layout::inside;
use crate::tui::state::{Extent, Found, Mode, Results, Row, State};

use super::style::{Role, style};
use super::text::{file_name, fit_end, fit_middle, padded, width};

/// What the marks mean; the help shows it too.
pub(super) const MARKS: [(&str, &str); 7] = [
    ("●", "block: the policy is sure"),
    ("▲", "escalated"),
    ("○", "could not be judged"),
    (" ", "review: the policy is in doubt"),
    ("+", "marked for the next decision"),
    ("×3", "near-duplicates, or copies, in one row"),
    ("@ana", "open on ana's screen"),
];

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &State) {
    if let Mode::Results(results) = &state.mode {
        return draw_results(frame, area, state, results);
    }
    let title = fit_end(&title(state), usize::from(area.width).saturating_sub(4));
    let title = Line::styled(format!(" {title} "), style(state.theme, Role::Title));
    frame.render_widget(super::pane(state, title), area);
    let rows = inside(area);
    if state.queue.rows.is_empty() {
        return draw_empty(frame, rows, state);
    }
    let visible = state.queue.rows.iter().enumerate().skip(state.queue.top);
    for ((index, row), area) in visible.zip(rows.rows()) {
        let selected = index == state.queue.selected;
        frame.render_widget(line(state, row, selected, usize::from(area.width)), area);
    }
}

fn title(state: &State) -> String {
    let filter = &state.filter;
    let mut title = match (filter.state, filter.lane) {
        (Some(ReviewState::Open), Lane::Everything) => "queue".to_owned(),
        (Some(shown), Lane::Everything) => shown.to_string(),
        (_, Lane::Unjudged) => "not judged".to_owned(),
        (None, Lane::Everything) => "open and escalated".to_owned(),
    };
    if let Some(policy) = &filter.policy {
        title += " · only ";
        title += policy.as_str();
    }
    if let Some(outcome) = filter.outcome {
        title += " · only ";
        title += outcome.as_str();
    }
    if let Some(text) = &filter.text {
        title.extend([" · “", &escape(text.as_bytes()), "”"]);
    }
    match filter.order {
        QueueOrder::Pressing => {}
        QueueOrder::Newest | QueueOrder::Oldest => {
            title.extend([" · ", filter.order.as_str(), " first"]);
        }
        QueueOrder::Path => title += " · by path",
    }
    if !state.marks.is_empty() {
        title.extend([" · ", &state.marks.len().to_string(), " marked"]);
    }
    title
}

fn draw_results(frame: &mut Frame<'_>, area: Rect, state: &State, results: &Results) {
    let cells = usize::from(area.width).saturating_sub(4);
    let marked = match results.marks.len() {
        0 => String::new(),
        count => format!(" · {count} marked"),
    };
    let title = fit_end(&format!("{}{marked}", results.title), cells);
    let title = Line::styled(format!(" {title} "), style(state.theme, Role::Title));
    frame.render_widget(super::pane(state, title), area);
    let rows = inside(area);
    if results.found.is_empty() {
        let text: &[&str] = match results.request {
            Some(_) => &[&results.progress],
            None => &["Nothing was found.", "", "Only judged pictures", "can be found."],
        };
        for (row, text) in rows.rows().skip(1).zip(text) {
            let text = fit_end(text, usize::from(row.width));
            frame.render_widget(Line::styled(text, style(state.theme, Role::Dim)).centered(), row);
        }
        return;
    }
    let visible = results.found.iter().enumerate().skip(results.top);
    for ((index, found), area) in visible.zip(rows.rows()) {
        let marked = results.marks.contains(&found.item.item);
        let line = found_line(found, usize::from(area.width), index == results.selected, marked);
        let selected = index == results.selected;
        let line = if selected { line.style(style(state.theme, Role::Selected)) } else { line };
        frame.render_widget(line, area);
    }
}

/// Pointer, mark, similarity with its percentile, what stands, name.
fn found_line(found: &Found, cells: usize, selected: bool, marked: bool) -> Line<'static> {
    let pointer = if selected { "▸" } else { " " };
    let mark = if marked { "+" } else { " " };
    let likeness = match found.percentile {
        // In a narrow list the name needs the room of a number that says little alone.
        Some(percentile) if cells < 50 => in_percent(percentile),
        _ => likeness(found),
    };
    let start = format!("{pointer}{mark}{likeness} {} ", padded(standing(found), 9));
    let room = cells.saturating_sub(width(&start));
    let name = found.item.path.as_deref().map_or_else(|| "gone".to_owned(), file_name);
    Line::raw(padded(&(start + &fit_middle(&name, room)), cells))
}

/// The cosine and, of a search, what it is worth: the share of all pictures that are less alike.
pub(super) fn likeness(found: &Found) -> String {
    // With the sign's column, and without a sign for what is nothing.
    let cosine = (found.cosine * 100.0).round() / 100.0 + 0.0;
    match found.percentile {
        Some(percentile) => format!("{cosine:>5.2} {}", in_percent(percentile)),
        None => format!("{cosine:>5.2}"),
    }
}

/// Never rounded up to all of them, so never 100.
pub(super) fn in_percent(percentile: f64) -> String {
    format!("{:>4.1} %", (percentile * 10.0).floor() / 10.0)
}

/// What was decided about an item, or where it stands.
pub(super) fn standing(found: &Found) -> &'static str {
    match (found.item.decision, found.item.state, found.item.outcome) {
        (_, Some(ReviewState::Open), _) => "open",
        (_, Some(ReviewState::Escalated), _) => "escalated",
        (Some(Action::Remove), ..) => "removed",
        (Some(Action::Approve), ..) => "approved",
        (_, _, Some(outcome)) => outcome.as_str(),
        _ => "",
    }
}

fn draw_empty(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let text: &[&str] = if state.queue.extent == Extent::Unknown {
        &["loading…"]
    } else if is_plain(&state.filter) {
        &["Nothing waits for you.", "", "New items appear here", "by themselves."]
    } else {
        &["Nothing waits that fits", "the filter.", "", "p: another policy", "o: open, escalated …"]
    };
    for (row, text) in area.rows().skip(1).zip(text) {
        let line = Line::styled(*text, style(state.theme, Role::Dim));
        frame.render_widget(line.centered(), row);
    }
}

fn is_plain(filter: &QueueFilter) -> bool {
    let plain = QueueFilter { state: filter.state, order: filter.order, ..QueueFilter::default() };
    *filter == plain && filter.state != Some(ReviewState::Escalated)
}

fn line(state: &State, row: &Row, selected: bool, cells: usize) -> Line<'static> {
    let task = &row.task;
    let pending = state.pending(task.id);
    let (mark, role) = mark(task);
    let what = match pending {
        Some(action) => padded(&format!("pending {action}…"), 16),
        None if row.gone => padded("not in the queue", 16),
        None => format!("{} {}", padded(label(task), 11), score(task)),
    };
    let times = match task.group.max(task.sightings) {
        0 | 1 => String::new(),
        count => format!("×{count} "),
    };
    let lease = task.leased_by_other(&state.reviewer, state.now);
    let lease = lease.map(|lease| format!("@{} ", fit_end(lease.reviewer.as_str(), 8)));
    let start = format!("{what} {times}{}", lease.unwrap_or_default());
    let pointer = if selected { "▸" } else { " " };
    let room = cells.saturating_sub(3 + width(&start));
    let text =
        padded(&(start + &fit_middle(&file_name(&task.path), room)), cells.saturating_sub(3));
    let faded = pending.is_some() || row.gone;
    let plain = if faded { style(state.theme, Role::Dim) } else { ratatui::style::Style::new() };
    let line = Line::from(vec![
        Span::raw(pointer),
        Span::styled(mark, style(state.theme, role)),
        Span::raw(if state.marks.contains(&task.id) { "+" } else { " " }),
        Span::styled(text, plain),
    ]);
    if selected { line.style(style(state.theme, Role::Selected)) } else { line }
}

fn mark(task: &ReviewTask) -> (&'static str, Role) {
    if task.state == ReviewState::Escalated {
        ("▲", Role::Warning)
    } else if task.reason.as_ref().is_some_and(Reason::is_unjudged) {
        ("○", Role::Warning)
    } else if task.outcome == Outcome::Block {
        ("●", Role::Bad)
    } else {
        (" ", Role::Dim)
    }
}

/// One word for what it is about.
pub(super) fn label(task: &ReviewTask) -> &str {
    match (&task.reason, &task.policy) {
        (Some(Reason::Unreadable(_)), _) => "unreadable",
        (Some(Reason::Undecodable(_)), _) => "undecodable",
        (Some(Reason::Unjudged(what)), _) => what.as_str(),
        (_, Some(policy)) => policy.as_str(),
        (Some(Reason::Doubtful(_)), None) => "in doubt",
        (Some(Reason::RemovedBefore), None) => "removed before",
        (Some(Reason::LikeRemoved(_) | Reason::Inherited(_)), None) => "twin",
        (Some(Reason::NoPolicy), None) => "no policy",
        (Some(Reason::Found), None) => "found",
        (None, None) => "random sample",
        (Some(_), None) => "",
    }
}

fn score(task: &ReviewTask) -> String {
    task.score.map_or_else(|| "    ".to_owned(), |score| format!("{score:.2}"))
}
