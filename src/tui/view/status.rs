//! The last two lines: what just happened or is being typed, and the keys that work now.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::moderation::escape::escape;
use crate::tui::keymap::{Binding, Command, Place};
use crate::tui::state::{Extent, MessageKind, Mode, State};
use crate::tui::update::allows;

use super::queue::{label, likeness, standing};
use super::style::{Role, style};
use super::text::{file_name, fit_end, width};

/// What can be typed to search, besides words.
const EXAMPLE: &str = "a red car policy:weapons outcome:block decision:none path:cats";

pub(super) fn draw_message(frame: &mut Frame<'_>, area: Rect, state: &State) {
    match &state.mode {
        Mode::Note { text } => return draw_line(frame, area, " note: ", text),
        Mode::Text { text } => return draw_line(frame, area, " path contains: ", text),
        Mode::Ask { text, like } => {
            let label = match like {
                Some(item) => format!(" search pictures like {} and: ", item.short()),
                None => " search pictures of: ".to_owned(),
            };
            if text.is_empty() {
                let example =
                    fit_end(EXAMPLE, usize::from(area.width).saturating_sub(width(&label)));
                let x = area.x + u16::try_from(width(&label)).unwrap_or(area.width).min(area.width);
                let place = Rect { x, width: area.right().saturating_sub(x), ..area };
                frame.render_widget(Line::styled(example, style(state.theme, Role::Dim)), place);
            }
            return draw_line(frame, area, &label, text);
        }
        _ => {}
    }
    let draft = draft(state);
    let draft = fit_end(&draft, usize::from(area.width) / 2);
    let room = usize::from(area.width).saturating_sub(width(&draft) + 3);
    if let Some(message) = &state.message {
        let (word, role) = match message.kind {
            MessageKind::Note => ("", Role::Good),
            MessageKind::Warning => ("warning: ", Role::Warning),
            MessageKind::Error => ("error: ", Role::Bad),
        };
        let text = format!(" {}", fit_end(&format!("{word}{}", message.text), room));
        frame.render_widget(Line::styled(text, style(state.theme, role)), area);
    } else {
        let text = format!(" {}", fit_end(&selected_in_words(state), room));
        frame.render_widget(Line::styled(text, style(state.theme, Role::Dim)), area);
    }
    if !matches!(state.mode, Mode::Help { .. } | Mode::Filter(_)) {
        // Screen readers and braille displays follow the cursor: here stands what was said or
        // selected last.
        frame.set_cursor_position((area.x, area.y));
    }
    let line = Line::styled(format!("{draft} "), style(state.theme, Role::Title));
    frame.render_widget(line.right_aligned(), area);
}

/// What the next decision will carry.
fn draft(state: &State) -> String {
    let reason = state.draft.reason.as_ref().map(|policy| format!("reason: {policy}"));
    let note = state.draft.note.as_ref();
    let note = note.map(|note| format!("note: “{}”", escape(note.as_bytes())));
    reason.into_iter().chain(note).collect::<Vec<_>>().join(" · ")
}

/// The selected row in words, for those who can't see the list: place, policy, score, state,
/// name, and how much of the picture is shown.
fn selected_in_words(state: &State) -> String {
    if let Mode::Results(results) = &state.mode {
        let Some(found) = state.found() else { return results.progress.clone() };
        let name = found.item.path.as_deref().map_or_else(|| "gone".to_owned(), file_name);
        return format!(
            "{} of {}: {} {} {name}",
            results.selected + 1,
            results.found.len(),
            likeness(found).trim_start(),
            standing(found)
        );
    }
    let Some(row) = state.selected() else { return String::new() };
    let task = &row.task;
    let place = format!("{} of {}:", state.queue.selected + 1, waiting(state));
    let score = task.score.map(|score| format!("{score:.2}"));
    let what = [Some(place), Some(label(task).to_owned()), score, Some(task.outcome.to_string())];
    let escalated = task.state != crate::moderation::ReviewState::Open;
    let more = [
        escalated.then(|| task.state.to_string()),
        (task.group > 1).then(|| format!("{} near-duplicates", task.group)),
        state.marks.contains(&task.id).then(|| "marked".to_owned()),
        Some(file_name(&task.path)),
    ];
    let what = what.into_iter().flatten().collect::<Vec<_>>().join(" ");
    std::iter::once(what).chain(more.into_iter().flatten()).collect::<Vec<_>>().join(", ")
}

/// How many rows there are, as far as is known.
fn waiting(state: &State) -> String {
    let more = if state.queue.extent == Extent::Whole { "" } else { "+" };
    format!("{}{more}", state.queue.rows.len())
}

fn draw_line(frame: &mut Frame<'_>, area: Rect, label: &str, text: &str) {
    let room = usize::from(area.width).saturating_sub(width(label) + 1);
    // The end is where the typing happens.
    let mut shown = text;
    while width(shown) > room {
        let mut characters = shown.chars();
        characters.next();
        shown = characters.as_str();
    }
    let line = format!("{label}{shown}");
    let column = u16::try_from(width(&line)).unwrap_or(area.width).min(area.width - 1);
    frame.render_widget(Line::raw(line), area);
    frame.set_cursor_position((area.x + column, area.y));
}

pub(super) fn draw_keys(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let place = Place::of(&state.mode);
    let works = |(binding, _): &(&Binding, String)| {
        !binding.label.is_empty()
            && binding.places.contains(&place)
            && allows(state, binding.command)
    };
    // The way to all other keys is always there.
    let (last, rest): (Vec<_>, Vec<_>) =
        state.keys.rows().filter(works).partition(|(binding, _)| binding.command == Command::Help);
    let cells =
        |(binding, spelling): &(&Binding, String)| width(spelling) + width(binding.label) + 3;
    let mut room = usize::from(area.width).saturating_sub(last.iter().map(cells).sum());
    let mut shown = Vec::new();
    for row in rest {
        let Some(left) = room.checked_sub(cells(&row)) else { break };
        room = left;
        shown.push(row);
    }
    let spans = shown.into_iter().chain(last).flat_map(|(binding, spelling)| {
        [
            Span::raw(" "),
            Span::styled(spelling, style(state.theme, Role::Key)),
            Span::raw(format!(" {} ", binding.label)),
        ]
    });
    frame.render_widget(spans.collect::<Line<'_>>(), area);
}
