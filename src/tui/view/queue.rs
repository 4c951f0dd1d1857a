//! The list on the left: one line a task, marks not by colour alone.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::moderation::{Outcome, Reason, ReviewState, ReviewTask};
use crate::tui::layout::inside;
use crate::tui::state::{Extent, Row, State};

use super::style::{Role, style};
use super::text::{file_name, fit_end, fit_middle, padded, width};

/// What the marks mean; the help shows it too.
pub(super) const MARKS: [(&str, &str); 4] = [
    ("●", "block: the policy is sure"),
    ("▲", "escalated"),
    ("○", "could not be judged"),
    (" ", "review: the policy is in doubt"),
];

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &State) {
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
    let mut title = "queue".to_owned();
    if let Some(policy) = &state.filter.policy {
        title += " · only ";
        title += policy.as_str();
    }
    if let Some(shown) = state.filter.state {
        title += " · only ";
        title += shown.as_str();
    }
    title
}

fn draw_empty(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let text: &[&str] = if state.queue.extent == Extent::Unknown {
        &["loading…"]
    } else if state.filter == crate::moderation::QueueFilter::default() {
        &["Nothing waits for you.", "", "New items appear here", "by themselves."]
    } else {
        &["Nothing waits that fits", "the filter.", "", "p: another policy", "o: open or escalated"]
    };
    for (row, text) in area.rows().skip(1).zip(text) {
        let line = Line::styled(*text, style(state.theme, Role::Dim));
        frame.render_widget(line.centered(), row);
    }
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
    let times = match task.sightings {
        0 | 1 => String::new(),
        count => format!("×{count} "),
    };
    let start = format!("{what} {times}");
    let pointer = if selected { "▸" } else { " " };
    let room = cells.saturating_sub(3 + width(&start));
    let text =
        padded(&(start + &fit_middle(&file_name(&task.path), room)), cells.saturating_sub(3));
    let faded = pending.is_some() || row.gone;
    let plain = if faded { style(state.theme, Role::Dim) } else { ratatui::style::Style::new() };
    let line = Line::from(vec![
        Span::raw(pointer),
        Span::styled(mark, style(state.theme, role)),
        Span::raw(" "),
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
        (_, Some(policy)) => policy.as_str(),
        (Some(Reason::RemovedBefore), None) => "removed before",
        (Some(Reason::NoPolicy), None) => "no policy",
        (Some(Reason::OutOfScope) | None, None) => "",
    }
}

fn score(task: &ReviewTask) -> String {
    task.score.map_or_else(|| "    ".to_owned(), |score| format!("{score:.2}"))
}
