//! Search by a description or by the picture on the screen, and what it found.

use crate::moderation::{Action, ItemId};
use crate::tui::effect::Effect;
use crate::tui::keymap::Command;
use crate::tui::layout::inside;
use crate::tui::state::{
    Detail, Found, Mode, Pictures, Query, RequestId, Results, Reveal, State, Together,
};

use super::{drop_stale, forget_picture, next_request};

/// Whether a key with this meaning would do anything while results are shown.
pub(super) fn allows(state: &State, results: &Results, command: Command) -> bool {
    let some = !results.found.is_empty();
    let pictures = some && state.pictures == Pictures::Shown;
    match command {
        Command::Approve
        | Command::Remove
        | Command::Escalate
        | Command::Mark
        | Command::Alike
        | Command::Down
        | Command::Up
        | Command::PageDown
        | Command::PageUp
        | Command::First
        | Command::Last => some,
        Command::Reveal => pictures && state.reveal.next().is_some(),
        Command::Hide => pictures && state.reveal != Reveal::Hidden,
        Command::Undo | Command::Redo => state.undoing.is_none(),
        _ => true,
    }
}

/// Opens the line for a description.
pub(super) fn ask(state: &mut State) {
    state.mode = Mode::Ask { text: String::new(), like: None };
}

/// Opens the line with what was searched for in it.
pub(super) fn narrow(state: &mut State) {
    let Mode::Results(results) = &state.mode else { return };
    let Query { like, text } = results.query.clone();
    state.mode = Mode::Ask { text, like };
}

pub(super) fn by_text(
    state: &mut State,
    text: &str,
    like: Option<ItemId>,
    effects: &mut Vec<Effect>,
) {
    if !text.is_empty() || like.is_some() {
        search(state, Query { like, text: text.to_owned() }, effects);
    }
}

pub(super) fn alike(state: &mut State, effects: &mut Vec<Effect>) {
    let Some(shown) = state.shown() else { return };
    search(state, Query { like: Some(shown.item), text: String::new() }, effects);
}

fn search(state: &mut State, query: Query, effects: &mut Vec<Effect>) {
    let id = next_request(state);
    forget_picture(state, effects);
    state.reveal = Reveal::Hidden;
    let title = match (&query.like, query.text.as_str()) {
        (None, text) => format!("like “{text}”"),
        (Some(item), "") => format!("like item {}", item.short()),
        (Some(item), text) => format!("like item {} · “{text}”", item.short()),
    };
    state.mode = Mode::Results(Box::new(Results {
        query: query.clone(),
        title,
        request: Some(id),
        progress: "searching…".to_owned(),
        found: Vec::new(),
        selected: 0,
        top: 0,
        marks: std::collections::BTreeSet::new(),
    }));
    effects.push(Effect::Find { id, query });
}

pub(super) fn going_on(state: &mut State, id: RequestId, progress: String) {
    match &mut state.mode {
        Mode::Results(results) if results.request == Some(id) => results.progress = progress,
        _ => drop_stale(state),
    }
}

pub(super) fn found(state: &mut State, id: RequestId, found: Vec<Found>) {
    match &mut state.mode {
        Mode::Results(results) if results.request == Some(id) => {
            results.request = None;
            results.progress = String::new();
            results.selected = results.selected.min(found.len().saturating_sub(1));
            results.found = found;
        }
        _ => drop_stale(state),
    }
}

pub(super) fn neighbours(state: &mut State, id: RequestId, found: Vec<Found>) {
    if state.neighbours_request != Some(id) {
        return drop_stale(state);
    }
    state.neighbours_request = None;
    if let Detail::Ready(detail) = &mut state.detail {
        detail.neighbours = Some(found);
    }
}

/// After a decision: what stands about the results may have changed.
pub(super) fn refresh(state: &mut State, effects: &mut Vec<Effect>) {
    let Mode::Results(results) = &state.mode else { return };
    if results.found.is_empty() {
        return;
    }
    let items = results
        .found
        .iter()
        .map(|found| (found.item.number, found.cosine, found.percentile))
        .collect();
    let id = next_request(state);
    if let Mode::Results(results) = &mut state.mode {
        results.request = Some(id);
    }
    effects.push(Effect::LookUp { id, items });
}

pub(super) fn mark(state: &mut State) {
    let Mode::Results(results) = &mut state.mode else { return };
    let Some(found) = results.found.get(results.selected) else { return };
    let item = found.item.item;
    if !results.marks.remove(&item) {
        results.marks.insert(item);
    }
    results.selected = (results.selected + 1).min(results.found.len() - 1);
}

/// Shows what a decision is going to touch: the marked results, or the selected one.
pub(super) fn decide(state: &mut State, action: Action) {
    let Mode::Results(results) = std::mem::replace(&mut state.mode, Mode::Browse) else { return };
    let marked = |(index, found): &(usize, &Found)| {
        if results.marks.is_empty() {
            *index == results.selected
        } else {
            results.marks.contains(&found.item.item)
        }
    };
    let items: Vec<Found> =
        results.found.iter().enumerate().filter(marked).map(|(_, found)| found.clone()).collect();
    state.mode = Mode::Together(Box::new(Together {
        action,
        reason: None,
        note: None,
        request: None,
        tasks: Vec::new(),
        items,
        back: Some(results),
        scroll: 0,
    }));
}

/// Follows the selection with the window, and hides the picture of another result.
pub(super) fn keep_in_view(state: &mut State) {
    let rows = state.layout().panes().map_or(1, |panes| usize::from(inside(panes.queue).height));
    let Mode::Results(results) = &mut state.mode else { return };
    results.top = results.top.min(results.selected);
    if results.selected >= results.top + rows {
        results.top = results.selected + 1 - rows;
    }
}
