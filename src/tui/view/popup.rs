//! What opens over the dashboard: the list of keys and the list of policies.

use ratatui::Frame;
use ratatui::layout::{Rect, Size};
use ratatui::text::{Line, Span};
use ratatui::widgets::Clear;

use crate::tui::keymap::KEYS;
use crate::tui::layout::inside;
use crate::tui::state::{FilterPopup, State, Together};

use super::queue::{MARKS, label, likeness, standing};
use super::style::{Role, style};
use super::text::{file_name, fit_end, fit_middle, padded, width};

pub(super) fn draw_help(frame: &mut Frame<'_>, state: &State, scroll: u16) {
    let area = help_area(frame.area().as_size());
    let below = help_overflow(frame.area().as_size()).saturating_sub(scroll);
    let title = if below > 0 { format!(" keys · {below} more: j ") } else { " keys ".to_owned() };
    let cells = usize::from(inside(area).width);
    let key = |spelling: &str, help: &str| {
        Line::from(vec![
            Span::styled(padded(spelling, 11), style(state.theme, Role::Key)),
            Span::raw(fit_end(help, cells.saturating_sub(11))),
        ])
    };
    let keys = state.keys.rows().map(|(binding, spelling)| key(&spelling, binding.help));
    let mouse = key("mouse", "the wheel moves, a click selects");
    let marks = MARKS.iter().map(|(mark, meaning)| key(mark, meaning));
    let heading = Line::styled("marks in the queue", style(state.theme, Role::Title));
    let lines = keys.chain([mouse, heading]).chain(marks);
    draw_box(frame, area, state, title);
    for (row, line) in inside(area).rows().zip(lines.skip(usize::from(scroll))) {
        frame.render_widget(line, row);
    }
}

/// Lines of the list of keys that don't fit.
pub(super) fn help_overflow(size: Size) -> u16 {
    help_height().saturating_sub(inside(help_area(size)).height)
}

fn help_height() -> u16 {
    u16::try_from(KEYS.len() + 2 + MARKS.len()).unwrap_or(u16::MAX)
}

fn help_area(size: Size) -> Rect {
    centred(size, 66, help_height() + 2)
}

pub(super) fn draw_filter(frame: &mut Frame<'_>, state: &State, popup: &FilterPopup) {
    let rows = u16::try_from(popup.policies.len() + 1).unwrap_or(u16::MAX);
    let waiting = popup.request.is_some() && popup.policies.is_empty();
    let area = centred(frame.area().as_size(), 40, rows.saturating_add(2 + u16::from(waiting)));
    draw_box(frame, area, state, " show only · Enter takes, Esc closes ".to_owned());
    let room = inside(area);
    let all = state.counts.map(|counts| counts.open + counts.escalated);
    let all = ("all".to_owned(), all.map_or_else(String::new, |count| count.to_string()));
    let policies = popup.policies.iter().map(|(id, count)| (id.to_string(), count.to_string()));
    let top = (popup.selected + 1).saturating_sub(usize::from(room.height));
    let entries = std::iter::once(all).chain(policies).enumerate().skip(top);
    for ((index, (name, count)), row) in entries.zip(room.rows()) {
        let cells = usize::from(row.width);
        let pointer = if index == popup.selected { "▸" } else { " " };
        let name = padded(&name, cells.saturating_sub(10));
        let line = Line::raw(padded(&format!("{pointer} {name}{count:>7}"), cells));
        let selected = index == popup.selected;
        let line = if selected { line.style(style(state.theme, Role::Selected)) } else { line };
        frame.render_widget(line, row);
    }
    if waiting && room.height > 1 {
        let row = Rect::new(room.x, room.y + 1, room.width, 1);
        frame.render_widget(Line::styled("  loading…", style(state.theme, Role::Dim)), row);
    }
}

/// What a decision is going to touch, before it is made.
pub(super) fn draw_together(frame: &mut Frame<'_>, state: &State, together: &Together) {
    let count = together.count();
    let rows = u16::try_from(count.max(1)).unwrap_or(u16::MAX);
    let area = centred(frame.area().as_size(), 70, rows.saturating_add(4));
    let title = match together.request {
        Some(_) => format!(" {} … ", together.action),
        None => format!(" {} {count} items · Enter does it, Esc does not ", together.action),
    };
    draw_box(frame, area, state, title);
    let room = inside(area);
    let cells = usize::from(room.width);
    let tasks = together.tasks.iter().map(|task| {
        let score = task.score.map_or_else(String::new, |score| format!("{score:.2}"));
        let lease = task.leased_by_other(&state.reviewer, state.now);
        let lease = lease.map(|lease| format!(" (open on {}'s screen)", lease.reviewer.as_str()));
        let start = format!("{} {} ", padded(label(task), 12), padded(&score, 4));
        (start, file_name(&task.path) + &lease.unwrap_or_default())
    });
    let items = together.items.iter().map(|found| {
        let name = found.item.path.as_deref().map_or_else(|| "gone".to_owned(), file_name);
        (format!("{} {} ", padded(standing(found), 12), likeness(found)), name)
    });
    let lines = tasks.chain(items).map(|(start, name)| {
        let fitted = fit_middle(&name, cells.saturating_sub(width(&start)));
        Line::raw(start + &fitted)
    });
    let listed = Rect { height: room.height.saturating_sub(2), ..room };
    for (row, line) in listed.rows().zip(lines.skip(usize::from(together.scroll))) {
        frame.render_widget(line, row);
    }
    let below = count.saturating_sub(usize::from(together.scroll + listed.height));
    let mut words = Vec::new();
    if below > 0 {
        words.push(format!("{below} more: j"));
    }
    if let Some(reason) = &together.reason {
        words.push(format!("reason: {reason}"));
    }
    if let Some(note) = &together.note {
        words.push(format!("note: “{note}”"));
    }
    let last = Rect { y: room.bottom().saturating_sub(1), height: room.height.min(1), ..room };
    let words = fit_end(&words.join(" · "), cells);
    frame.render_widget(Line::styled(words, style(state.theme, Role::Dim)), last);
}

fn draw_box(frame: &mut Frame<'_>, area: Rect, state: &State, title: String) {
    frame.render_widget(Clear, area);
    let title = Line::styled(title, style(state.theme, Role::Title));
    frame.render_widget(super::pane(state, title), area);
}

/// In the middle of the window, above its last two lines.
fn centred(size: Size, width: u16, height: u16) -> Rect {
    let width = width.min(size.width);
    let height = height.min(size.height.saturating_sub(3));
    let x = (size.width - width) / 2;
    Rect::new(x, 1 + (size.height.saturating_sub(3) - height) / 2, width, height)
}
