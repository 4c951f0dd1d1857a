//! The last two lines: what just happened or is being typed, and the keys that work now.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::moderation::escape::escape;
use crate::tui::keymap::{Binding, Command, KEYS, Place};
use crate::tui::state::{MessageKind, Mode, State};
use crate::tui::update::allows;

use super::style::{Role, style};
use super::text::{fit_end, width};

pub(super) fn draw_message(frame: &mut Frame<'_>, area: Rect, state: &State) {
    if let Mode::Note { text } = &state.mode {
        return draw_note(frame, area, text);
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

fn draw_note(frame: &mut Frame<'_>, area: Rect, text: &str) {
    const LABEL: &str = " note: ";
    let room = usize::from(area.width).saturating_sub(width(LABEL) + 1);
    // The end of the note is where the typing happens.
    let mut shown = text;
    while width(shown) > room {
        let mut characters = shown.chars();
        characters.next();
        shown = characters.as_str();
    }
    let line = format!("{LABEL}{shown}");
    let column = u16::try_from(width(&line)).unwrap_or(area.width).min(area.width - 1);
    frame.render_widget(Line::raw(line), area);
    frame.set_cursor_position((area.x + column, area.y));
}

pub(super) fn draw_keys(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let place = Place::of(&state.mode);
    let works = |binding: &&Binding| {
        !binding.label.is_empty()
            && binding.places.contains(&place)
            && allows(state, binding.command)
    };
    // The way to all other keys is always there.
    let (last, rest): (Vec<&Binding>, Vec<&Binding>) =
        KEYS.iter().filter(works).partition(|binding| binding.command == Command::Help);
    let cells = |binding: &Binding| width(binding.spelling) + width(binding.label) + 3;
    let mut room = usize::from(area.width).saturating_sub(last.iter().map(|b| cells(b)).sum());
    let mut shown = Vec::new();
    for binding in rest {
        let Some(left) = room.checked_sub(cells(binding)) else { break };
        room = left;
        shown.push(binding);
    }
    let spans = shown.into_iter().chain(last).flat_map(|binding| {
        [
            Span::raw(" "),
            Span::styled(binding.spelling, style(state.theme, Role::Key)),
            Span::raw(format!(" {} ", binding.label)),
        ]
    });
    frame.render_widget(spans.collect::<Line<'_>>(), area);
}
