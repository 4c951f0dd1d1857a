//! One key for several items: marks, groups, and the list of what it is going to touch.

use crate::moderation::{Action, DecisionOutcome, ReviewTask};
use crate::tui::effect::Effect;
use crate::tui::state::{
    Goal, LastDecision, MessageKind, Mode, PendingDecision, RequestId, State, Together,
};

use super::{
    advance, after_decision, drop_stale, file_name, find, next_request, past_tense, say,
    task_is_now,
};

/// Marks the selected row, or takes the mark away, and goes on.
pub(super) fn mark(state: &mut State) {
    if matches!(state.mode, Mode::Results(_)) {
        return find::mark(state);
    }
    let Some(task) = state.selected().map(|row| row.task.id) else { return };
    if !state.marks.remove(&task) {
        state.marks.insert(task);
    }
    let last = state.queue.rows.len().saturating_sub(1);
    state.queue.selected = (state.queue.selected + 1).min(last);
}

/// Asks what a decision would touch, and shows it before anything is decided.
pub(super) fn preview(state: &mut State, action: Action, effects: &mut Vec<Effect>) {
    let marked = !state.marks.is_empty();
    let tasks = match state.selected() {
        _ if marked => state.marks.iter().copied().collect(),
        Some(row) => vec![row.task.id],
        None => return,
    };
    let id = next_request(state);
    let draft = std::mem::take(&mut state.draft);
    state.mode = Mode::Together(Box::new(Together {
        action,
        reason: draft.reason.filter(|_| action != Action::Approve),
        note: draft.note,
        request: Some(id),
        tasks: Vec::new(),
        items: Vec::new(),
        back: None,
        scroll: 0,
    }));
    effects.push(Effect::LoadGroups { id, tasks });
}

pub(super) fn loaded(state: &mut State, id: RequestId, tasks: Vec<ReviewTask>) {
    match &mut state.mode {
        Mode::Together(together) if together.request == Some(id) => {
            together.request = None;
            together.tasks = tasks;
        }
        _ => drop_stale(state),
    }
}

/// Decides everything that was shown.
pub(super) fn confirm(state: &mut State, together: Together, effects: &mut Vec<Effect>) {
    // Nobody decides what she has not been shown.
    if together.request.is_some() || together.count() == 0 {
        state.mode = Mode::Together(Box::new(together));
        return;
    }
    let Together { action, reason, note, tasks, items, back, .. } = together;
    let id = next_request(state);
    if let Some(mut results) = back {
        results.marks.clear();
        state.mode = Mode::Results(results);
        let items = items.into_iter().map(|found| found.item.item).collect();
        effects.push(Effect::DecideItems { id, items, action });
        return;
    }
    state.last = Some(LastDecision { action, reason: reason.clone(), note: note.clone() });
    state.pending.extend(tasks.iter().map(|task| PendingDecision {
        id,
        task: task.id,
        action,
        name: file_name(&task.path),
    }));
    state.marks.clear();
    let tasks = tasks.iter().map(|task| task.id).collect();
    effects.push(Effect::DecideTogether { id, tasks, action, reason, note });
    advance(state);
}

pub(super) fn decided(
    state: &mut State,
    id: RequestId,
    outcomes: &[DecisionOutcome],
    effects: &mut Vec<Effect>,
) {
    let (mine, others): (Vec<_>, Vec<_>) =
        std::mem::take(&mut state.pending).into_iter().partition(|pending| pending.id == id);
    state.pending = others;
    let recorded = |outcome: &DecisionOutcome| matches!(outcome, DecisionOutcome::Recorded(_));
    for (pending, outcome) in mine.iter().zip(outcomes) {
        match outcome {
            DecisionOutcome::Recorded(_) => {
                task_is_now(state, pending.task, pending.action.state());
            }
            DecisionOutcome::AlreadyDecided(past) => {
                task_is_now(state, pending.task, past.decision.action.state());
            }
            DecisionOutcome::Leased(_)
            | DecisionOutcome::Superseded
            | DecisionOutcome::NothingToRemove => {}
        }
    }
    let (count, done) = (outcomes.len(), outcomes.iter().filter(|o| recorded(o)).count());
    let what = mine.first().map_or("decided", |pending| past_tense(pending.action));
    if done == count {
        let text = format!("{what} {count} items · u undoes all of them");
        say(state, MessageKind::Note, text);
    } else {
        let leased = outcomes.iter().filter(|o| matches!(o, DecisionOutcome::Leased(_))).count();
        let text = format!(
            "{what} {done} of {count} items; {leased} are open on another screen, {} were decided before",
            count - done - leased
        );
        say(state, MessageKind::Warning, text);
    }
    find::refresh(state, effects);
    // The rest of a group has a new leader, which only the store knows.
    if state.queue.request.is_none() {
        super::refresh_queue(state, effects);
    }
    after_decision(state, effects);
    if state.queue.goal == Some(Goal::End) {
        state.queue.goal = None;
    }
}
