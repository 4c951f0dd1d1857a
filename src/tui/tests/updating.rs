//! What every event does to the state, and what it asks for.

use std::collections::HashSet;

use ratatui::layout::Size;

use super::fixtures::{Desk, HOUR, NOW, detail, found, many, past, policy, task, tasks, unjudged};
use crate::moderation::{
    Action, DecisionId, DecisionOutcome, ItemId, Lane, Lease, Outcome, QueueCounts, QueueCursor,
    QueueFilter, QueueOrder, Reason, RedoOutcome, ReviewState, Reviewer, TaskId, Timestamp,
    UndoOutcome,
};
use crate::tui::keymap::{Command, KEYS, Place};
use crate::tui::state::{
    Care, Detail, Draft, Extent, LastDecision, MessageKind, Mode, NoPicture, Picture, Pictures,
    Query, RequestId, Reveal, Watcher,
};
use crate::tui::update::{LONG_PAGE, LONGEST_NOTE, PAGE, allows};
use crate::tui::{Direction, Effect, Event, Key};

/// Every row of the key table, every key in it and every place it works in: something happens.
/// A new command must be added here, or this does not compile; a key that does nothing fails.
#[test]
#[expect(clippy::too_many_lines, reason = "one row for each command")]
fn every_key_does_what_its_row_says() {
    let mut tried = HashSet::new();
    for binding in KEYS {
        for (place, key) in binding
            .places
            .iter()
            .flat_map(|place| binding.keys.iter().map(move |key| (*place, *key)))
        {
            let mut desk = ready_for(place, binding.command);
            let before = desk.state.clone();
            assert_eq!(desk.state.keys.command_for(place, key), Some(binding.command));
            assert!(allows(&desk.state, binding.command), "{binding:?} at {place:?}");
            let effects = desk.send(Event::Key(key));
            let now = &desk.state;
            let asks = |pick: fn(&Effect) -> bool| effects.iter().any(pick);
            let decided = |wanted: Action| match &now.mode {
                // What is decided from a list of results is shown first.
                Mode::Together(together) => together.action == wanted && together.count() == 1,
                _ => effects.iter().any(
                    |effect| matches!(effect, Effect::Decide { action, .. } if *action == wanted),
                ),
            };
            let moved = match (&before.mode, &now.mode) {
                (Mode::Browse, _) => before.queue.selected != now.queue.selected,
                (old, new) => old != new,
            };
            let done = match binding.command {
                Command::Approve => decided(Action::Approve),
                Command::Remove => decided(Action::Remove),
                Command::Escalate | Command::Repeat => decided(Action::Escalate),
                Command::Reason if matches!(key, Key::Char('1' | '2')) => {
                    now.draft.reason.is_some()
                }
                Command::Reason => desk.message().contains("no reason"),
                Command::Note => matches!(now.mode, Mode::Note { .. }),
                Command::Undo => asks(|effect| matches!(effect, Effect::Undo { .. })),
                Command::Redo => asks(|effect| matches!(effect, Effect::Redo { .. })),
                Command::Mark => match &now.mode {
                    Mode::Results(results) => results.marks.len() == 1,
                    _ => now.marks.len() == 1,
                },
                Command::Text => matches!(now.mode, Mode::Text { .. }),
                Command::Search => matches!(now.mode, Mode::Ask { .. }),
                Command::Narrow => matches!(&now.mode, Mode::Ask { text, .. } if text == "a dog"),
                Command::Alike => {
                    matches!(now.mode, Mode::Results(_))
                        && asks(|e| {
                            matches!(e, Effect::Find { query: Query { like: Some(_), .. }, .. })
                        })
                }
                Command::Numbers => {
                    matches!(now.mode, Mode::Numbers(_)) != matches!(before.mode, Mode::Numbers(_))
                }
                Command::Outcomes => now.filter.outcome == Some(Outcome::Block),
                Command::Order => now.filter.order == QueueOrder::Newest,
                Command::Reveal => {
                    now.reveal > before.reveal
                        && asks(|effect| matches!(effect, Effect::Expose { .. }))
                }
                Command::Heatmap => {
                    now.heat.is_some()
                        && asks(|e| matches!(e, Effect::LoadPicture { heat: Some(_), .. }))
                }
                Command::Hide => now.reveal == Reveal::Hidden && before.reveal != Reveal::Hidden,
                Command::Down
                | Command::Up
                | Command::PageDown
                | Command::PageUp
                | Command::First
                | Command::Last => moved,
                Command::NextPolicy | Command::PreviousPolicy => now.panel != before.panel,
                Command::WhyDown | Command::WhyUp => now.why_scroll != before.why_scroll,
                Command::Filter => {
                    matches!(now.mode, Mode::Filter(_))
                        && asks(|effect| matches!(effect, Effect::LoadPolicyCounts { .. }))
                }
                Command::States => {
                    now.filter.state == Some(ReviewState::Open)
                        && asks(|effect| matches!(effect, Effect::LoadQueue { .. }))
                }
                Command::Help => {
                    matches!(now.mode, Mode::Help { .. })
                        != matches!(before.mode, Mode::Help { .. })
                }
                Command::Accept => match place {
                    Place::Text => now.mode == Mode::Browse && now.filter.text.is_some(),
                    Place::Ask => asks(|effect| matches!(effect, Effect::Find { .. })),
                    Place::Together => {
                        asks(|effect| matches!(effect, Effect::DecideTogether { .. }))
                    }
                    _ => {
                        now.mode == Mode::Browse
                            && (now.draft.note.is_some() || now.filter.policy.is_some())
                    }
                },
                Command::Erase => match &now.mode {
                    Mode::Note { text } | Mode::Ask { text, .. } => text == "ab",
                    Mode::Text { text } => text == "ab" && now.filter.text.as_deref() == Some("ab"),
                    _ => false,
                },
                Command::Close => now.mode == Mode::Browse && now.message.is_none(),
                Command::Redraw => asks(|effect| *effect == Effect::Redraw),
                Command::Suspend => now.suspended && asks(|effect| *effect == Effect::Suspend),
                Command::Quit => asks(|effect| *effect == Effect::Quit),
            };
            assert!(done, "{key:?} at {place:?} should: {}", binding.help);
            tried.insert((place, key));
        }
    }
    assert!(tried.len() > 50, "the table was walked");
}

/// A dashboard in which a command has something to do.
fn ready_for(place: Place, command: Command) -> Desk {
    // Low, so that even the explanation has to scroll.
    let mut desk = Desk::with(80, 16, many(1, 150));
    desk.press('j');
    desk.answer_detail();
    match place {
        Place::Browse => {}
        Place::Help => {
            desk.press('?');
        }
        Place::Filter => {
            desk.press('p');
            let id = desk.last_id(|effect| match effect {
                Effect::LoadPolicyCounts { id } => Some(*id),
                _ => None,
            });
            let counts = vec![(policy("weapons"), 9), (policy("memes"), 2)];
            desk.send(Event::PolicyCountsLoaded { id, counts });
        }
        Place::Note | Place::Text | Place::Ask => {
            desk.press(match place {
                Place::Note => 'n',
                Place::Text => '/',
                _ => 's',
            });
            for character in "abc".chars() {
                desk.press(character);
            }
        }
        Place::Together => {
            desk.press(' ');
            desk.press('a');
            let id = desk.group_id();
            desk.send(Event::GroupLoaded { id, tasks: many(1, 40) });
        }
        Place::Results => {
            desk.search("a dog");
            desk.press('j');
            if command == Command::Hide {
                desk.press('v');
            }
        }
        Place::Numbers => {
            desk.send(Event::Key(Key::Tab));
        }
    }
    desk.state.last = (command == Command::Repeat).then_some(LastDecision {
        action: Action::Escalate,
        reason: None,
        note: None,
    });
    match command {
        // Somewhere in the middle, so that there is a way up as well as down.
        Command::Up | Command::PageUp | Command::First | Command::Accept => {
            desk.send(Event::Key(Key::Down));
        }
        Command::WhyUp => {
            desk.press('J');
        }
        Command::Close if place == Place::Browse => {
            let id = desk.detail_id();
            desk.press('j');
            desk.send(Event::Failed { id, why: "dropped".into() });
            let id = desk.detail_id();
            desk.send(Event::Failed { id, why: "disk".into() });
        }
        _ => {}
    }
    desk
}

#[test]
fn opening_asks_for_the_queue_and_the_counts() {
    let desk = Desk::opened(80, 24);
    assert!(matches!(
        &desk.effects[..],
        [
            Effect::LoadQueue { filter, after: None, limit: PAGE, .. },
            Effect::LoadCounts { .. },
            Effect::CountExposures,
        ] if *filter == QueueFilter::default()
    ));
}

#[test]
fn the_first_row_is_selected_and_explained() {
    let desk = Desk::with(80, 24, tasks());
    assert_eq!(desk.selected_id(), Some(1));
    assert!(matches!(desk.state.detail, Detail::Loading { task: TaskId(1), .. }));
}

#[test]
fn answers_that_nobody_waits_for_change_nothing() {
    let mut desk = Desk::explained(80, 24, tasks());
    let id = RequestId(9_999);
    let stale = [
        Event::QueueLoaded { id, tasks: Vec::new() },
        Event::CountsLoaded { id, counts: QueueCounts::default() },
        Event::PolicyCountsLoaded { id, counts: Vec::new() },
        Event::DetailLoaded { id, detail: None, whys: Vec::new() },
        Event::PictureFailed { id, why: NoPicture::Gone },
        Event::Decided { id, outcome: DecisionOutcome::Superseded },
        Event::Undone { id, outcome: UndoOutcome::NothingToUndo },
        Event::Failed { id, why: "no".into() },
    ];
    for event in stale {
        let before = desk.state.clone();
        assert_eq!(desk.send(event.clone()), Vec::new(), "{event:?}");
        assert!(!desk.state.needs_draw, "{event:?}");
        desk.state.needs_draw = before.needs_draw;
        assert_eq!(desk.state, before, "{event:?}");
    }
    // Pixels that come too late are thrown away.
    assert_eq!(desk.send(Event::PictureReady { id }), [Effect::DropPicture { id }]);
}

#[test]
fn a_detail_of_the_row_before_is_dropped() {
    let mut desk = Desk::with(80, 24, tasks());
    let first = desk.detail_id();
    desk.press('j');
    let answer = Event::DetailLoaded {
        id: first,
        detail: Some(Box::new(detail(tasks()[0].clone()))),
        whys: Vec::new(),
    };
    desk.send(answer);
    assert!(matches!(desk.state.detail, Detail::Loading { task: TaskId(2), .. }));
}

// Deciding.

#[test]
fn deciding_moves_on_at_once_and_the_row_goes_when_the_store_has_it() {
    let mut desk = Desk::explained(80, 24, many(1, 3));
    let effects = desk.press('a');
    assert!(matches!(
        effects[..],
        [
            Effect::Decide {
                task: TaskId(1),
                action: Action::Approve,
                reason: None,
                note: None,
                ..
            },
            ..
        ]
    ));
    assert_eq!(desk.selected_id(), Some(2));
    assert_eq!(desk.row_ids(), [1, 2, 3]);
    assert_eq!(desk.state.pending(TaskId(1)), Some(Action::Approve));
    let id = desk.decide_id();
    let effects =
        desk.send(Event::Decided { id, outcome: DecisionOutcome::Recorded(DecisionId(1)) });
    assert!(matches!(effects[..], [Effect::LoadCounts { .. }]));
    assert_eq!((desk.row_ids(), desk.selected_id()), (vec![2, 3], Some(2)));
    assert!(desk.message().starts_with("approved 00001.jpg"), "{}", desk.message());
}

#[test]
fn a_pending_row_is_not_decided_twice() {
    let mut desk = Desk::explained(80, 24, many(1, 2));
    desk.press('r');
    desk.press('k');
    assert_eq!(desk.selected_id(), Some(1));
    for key in ['a', 'r', 'e', '1', 'n'] {
        let effects = desk.press(key);
        assert!(!effects.iter().any(|effect| matches!(effect, Effect::Decide { .. })), "{key}");
    }
    assert_eq!(desk.state.mode, Mode::Browse);
    assert_eq!(desk.state.pending.len(), 1);
}

#[test]
fn deciding_skips_rows_that_are_pending_and_turns_back_at_the_end() {
    let mut desk = Desk::explained(80, 24, many(1, 3));
    desk.press('j');
    desk.press('a');
    desk.press('k');
    desk.press('k');
    desk.press('a');
    assert_eq!(desk.selected_id(), Some(3), "2 is pending");
    desk.press('a');
    assert_eq!(desk.selected_id(), Some(3), "nothing is free any more");
    let mut desk = Desk::explained(80, 24, many(1, 3));
    desk.press('G');
    desk.press('a');
    assert_eq!(desk.selected_id(), Some(2), "the end turns back");
}

#[test]
fn losing_a_race_says_who_decided_what() {
    let mut desk = Desk::explained(80, 24, many(1, 3));
    desk.press('a');
    let outcome = DecisionOutcome::AlreadyDecided(past(5, 1, "ben", Action::Remove, 2 * HOUR));
    let id = desk.decide_id();
    desk.send(Event::Decided { id, outcome });
    assert_eq!(
        desk.message(),
        "not recorded: 00001.jpg was decided before: ben removed it 2 h ago (weapons)"
    );
    assert_eq!(desk.row_ids(), [2, 3]);
    // It stays until it is dismissed.
    desk.press('j');
    assert!(!desk.message().is_empty());
    desk.send(Event::Key(Key::Esc));
    assert!(desk.message().is_empty());
}

#[test]
fn a_task_without_need_of_a_decision_goes_and_says_so() {
    let mut desk = Desk::explained(80, 24, many(1, 2));
    desk.press('a');
    let id = desk.decide_id();
    desk.send(Event::Decided { id, outcome: DecisionOutcome::Superseded });
    assert!(desk.message().contains("needs no decision any more"));
    assert_eq!(desk.row_ids(), [2]);
}

#[test]
fn a_decision_that_failed_comes_back_with_the_reason() {
    let mut desk = Desk::explained(80, 24, many(1, 2));
    desk.press('r');
    let id = desk.decide_id();
    desk.send(Event::Failed { id, why: "the disk is full\u{1b}[2J".into() });
    assert_eq!(desk.row_ids(), [1, 2]);
    assert_eq!(desk.state.pending(TaskId(1)), None);
    let message = desk.state.message.as_ref().expect("a message");
    assert_eq!(message.kind, MessageKind::Error);
    assert_eq!(message.text, "not recorded: remove 00001.jpg: the disk is full\\u{1b}[2J");
}

#[test]
fn an_escalated_task_stays_where_escalated_ones_are_shown() {
    let mut desk = Desk::explained(80, 24, many(1, 2));
    desk.press('e');
    let id = desk.decide_id();
    desk.send(Event::Decided { id, outcome: DecisionOutcome::Recorded(DecisionId(1)) });
    assert_eq!(desk.row_ids(), [1, 2]);
    assert_eq!(desk.state.queue.rows[0].task.state, ReviewState::Escalated);
    desk.press('k');
    assert_eq!(desk.press('e').len(), 0);
    assert_eq!(desk.message(), "this item is already escalated");
    assert!(desk.press('a').iter().any(|effect| matches!(effect, Effect::Decide { .. })));

    let mut desk = Desk::explained(80, 24, many(1, 2));
    desk.press('o');
    desk.answer_queue(many(1, 2));
    desk.press('e');
    let id = desk.decide_id();
    desk.send(Event::Decided { id, outcome: DecisionOutcome::Recorded(DecisionId(1)) });
    assert_eq!(desk.row_ids(), [2], "only open ones are shown");
}

#[test]
fn a_reason_and_a_note_go_with_the_decision_and_not_with_the_next() {
    let mut desk = Desk::explained(80, 24, many(1, 3));
    desk.press('2');
    assert_eq!(desk.state.draft.reason, Some(policy("memes")));
    desk.press('1');
    assert_eq!(desk.state.draft.reason, Some(policy("weapons")), "the heaviest is 1");
    desk.press('n');
    for character in "q is no command here".chars() {
        desk.press(character);
    }
    desk.send(Event::Paste(" pasted\u{1b}[2J\n".into()));
    desk.send(Event::Key(Key::Enter));
    let effects = desk.press('r');
    let Effect::Decide { reason, note, .. } = &effects[0] else { panic!("{effects:?}") };
    assert_eq!(*reason, Some(policy("weapons")));
    assert_eq!(note.as_deref(), Some("q is no command here pasted[2J"));
    desk.answer_detail();
    let effects = desk.press('r');
    assert!(matches!(effects[0], Effect::Decide { reason: None, note: None, .. }));
}

#[test]
fn what_was_meant_for_one_item_never_goes_to_another() {
    let mut desk = Desk::explained(80, 24, many(1, 3));
    desk.press('1');
    desk.press('n');
    desk.press('x');
    desk.send(Event::Key(Key::Enter));
    assert!(desk.state.draft.reason.is_some() && desk.state.draft.note.is_some());
    desk.press('j');
    assert_eq!((&desk.state.draft, desk.state.reveal), (&Draft::default(), Reveal::Hidden));
    desk.answer_detail();
    let effects = desk.press('r');
    assert!(matches!(effects[0], Effect::Decide { reason: None, note: None, .. }));
}

#[test]
fn a_digit_twice_takes_the_reason_back_and_approving_carries_none() {
    let mut desk = Desk::explained(80, 24, many(1, 2));
    desk.press('1');
    desk.press('1');
    assert_eq!(desk.state.draft.reason, None);
    desk.press('1');
    let effects = desk.press('a');
    assert!(matches!(effects[0], Effect::Decide { reason: None, .. }));
}

#[test]
fn a_note_is_not_endless_and_esc_forgets_it() {
    let mut desk = Desk::explained(80, 24, many(1, 1));
    desk.press('n');
    desk.send(Event::Paste("x".repeat(LONGEST_NOTE + 9)));
    assert_eq!(desk.state.mode, Mode::Note { text: "x".repeat(LONGEST_NOTE) });
    desk.send(Event::Key(Key::Esc));
    assert_eq!((&desk.state.mode, &desk.state.draft.note), (&Mode::Browse, &None));
    let pasted = desk.send(Event::Paste("aaa".into()));
    assert!(pasted.is_empty() && desk.state.pending.is_empty(), "pasted text is no command");
}

#[test]
fn undo_says_what_it_took_back_and_selects_it() {
    let mut desk = Desk::explained(80, 24, many(2, 3));
    let effects = desk.press('u');
    let [Effect::Undo { id }] = effects[..] else { panic!("{effects:?}") };
    assert_eq!(desk.press('u'), [], "one at a time");
    let outcome = UndoOutcome::Undone(vec![past(5, 1, "ana", Action::Remove, HOUR)]);
    let effects = desk.send(Event::Undone { id, outcome });
    assert!(matches!(effects[0], Effect::LoadQueue { after: None, .. }));
    assert_eq!(desk.message(), "taken back: ana removed it 1 h ago (weapons)");
    desk.answer_queue(many(1, 4));
    assert_eq!(desk.selected_id(), Some(1));
}

#[test]
fn undo_without_anything_to_undo_says_so() {
    for (outcome, words) in [
        (UndoOutcome::NothingToUndo, "you have no decision left to take back"),
        (
            UndoOutcome::DecidedSince(past(6, 1, "ben", Action::Approve, HOUR)),
            "not taken back: the item was decided again since: ben approved it 1 h ago",
        ),
    ] {
        let mut desk = Desk::explained(80, 24, many(1, 2));
        let effects = desk.press('u');
        let [Effect::Undo { id }] = effects[..] else { panic!("{effects:?}") };
        desk.send(Event::Undone { id, outcome });
        assert_eq!(desk.message(), words);
        assert!(allows(&desk.state, Command::Undo));
    }
}

// The queue.

#[test]
fn the_next_page_begins_after_the_last_row() {
    let mut desk = Desk::with(80, 24, many(1, PAGE));
    assert_eq!(desk.state.queue.extent, Extent::Beginning);
    let mut asked = Vec::new();
    for _ in 0..PAGE / 2 {
        asked = desk.press('j');
        if asked.iter().any(|effect| matches!(effect, Effect::LoadQueue { .. })) {
            break;
        }
    }
    let page = asked.iter().find_map(|effect| match effect {
        Effect::LoadQueue { after, limit, .. } => Some((*after, *limit)),
        _ => None,
    });
    assert_eq!(page, Some((Some(QueueCursor::of(&many(200, 1)[0])), PAGE)));
    desk.answer_queue(many(201, 20));
    assert_eq!(desk.state.queue.rows.len(), PAGE + 20);
    assert_eq!(desk.state.queue.extent, Extent::Whole);
    assert!(!desk.press('j').iter().any(|effect| matches!(effect, Effect::LoadQueue { .. })));
}

#[test]
fn the_end_is_found_page_by_page() {
    let mut desk = Desk::with(80, 24, many(1, PAGE));
    let effects = desk.press('G');
    assert!(effects.iter().any(|effect| matches!(
        effect,
        Effect::LoadQueue { limit: LONG_PAGE, after: Some(_), .. }
    )));
    desk.answer_queue(many(201, LONG_PAGE));
    assert_eq!(desk.selected_id(), Some(2_200));
    desk.answer_queue(many(2_201, 7));
    assert_eq!(desk.selected_id(), Some(2_207));
    assert_eq!(desk.state.queue.goal, None);
    desk.press('g');
    assert_eq!((desk.selected_id(), desk.state.queue.top), (Some(1), 0));
}

#[test]
fn the_selected_row_is_always_on_the_screen() {
    let mut desk = Desk::with(80, 24, many(1, 150));
    for key in "jjjGkkgjG".chars() {
        desk.press(key);
        for key in [Key::PageDown, Key::PageUp, Key::PageDown] {
            desk.send(Event::Key(key));
            let queue = &desk.state.queue;
            assert!(queue.top <= queue.selected && queue.selected < queue.top + 19, "{queue:?}");
        }
    }
}

#[test]
fn a_change_elsewhere_keeps_the_selection_on_its_task() {
    let mut desk = Desk::explained(80, 24, many(10, 60));
    for _ in 0..30 {
        desk.press('j');
    }
    let (selected, height) = (desk.selected_id(), desk.state.queue.selected - desk.state.queue.top);
    let effects = desk.send(Event::StoreChanged);
    assert!(matches!(effects[0], Effect::LoadQueue { after: None, .. }));
    desk.answer_queue(many(1, 69));
    assert_eq!(desk.selected_id(), selected);
    assert_eq!(desk.state.queue.selected - desk.state.queue.top, height, "and where it was");
}

#[test]
fn changes_while_a_page_is_on_its_way_are_asked_for_afterwards() {
    let mut desk = Desk::opened(80, 24);
    desk.send(Event::StoreChanged);
    desk.send(Event::StoreChanged);
    let pages = |desk: &Desk| {
        desk.effects.iter().filter(|effect| matches!(effect, Effect::LoadQueue { .. })).count()
    };
    assert_eq!(pages(&desk), 1);
    desk.answer_queue(many(1, 3));
    assert_eq!(pages(&desk), 2);
    desk.answer_queue(many(1, 3));
    assert_eq!(pages(&desk), 2);
}

#[test]
fn a_row_that_goes_stays_under_the_fingers_until_one_moves_on() {
    let mut desk = Desk::explained(80, 24, many(1, 3));
    desk.press('j');
    desk.send(Event::StoreChanged);
    desk.answer_queue(vec![many(1, 1).remove(0), many(3, 1).remove(0)]);
    assert_eq!((desk.row_ids(), desk.selected_id()), (vec![1, 2, 3], Some(2)));
    assert!(desk.state.queue.rows[1].gone);
    // Deciding it asks the store, which knows who was faster.
    let effects = desk.press('a');
    assert!(matches!(effects[0], Effect::Decide { task: TaskId(2), .. }));
    assert_eq!(desk.row_ids(), [1, 3]);
}

#[test]
fn a_page_from_before_a_decision_does_not_bring_its_row_back() {
    let mut desk = Desk::explained(80, 24, many(1, 3));
    desk.press('a');
    desk.send(Event::StoreChanged);
    let old_page = desk.queue_id();
    let id = desk.decide_id();
    desk.send(Event::Decided { id, outcome: DecisionOutcome::Recorded(DecisionId(1)) });
    desk.send(Event::QueueLoaded { id: old_page, tasks: many(1, 3) });
    assert_eq!(desk.row_ids(), [2, 3]);
    desk.answer_queue(many(2, 2));
    assert_eq!(desk.row_ids(), [2, 3]);
}

#[test]
fn a_queue_that_cannot_be_loaded_is_not_asked_for_again_and_again() {
    let mut desk = Desk::opened(80, 24);
    let id = desk.queue_id();
    assert_eq!(desk.send(Event::Failed { id, why: "locked".into() }), []);
    assert_eq!(desk.message(), "the queue could not be loaded: locked");
    assert!(matches!(desk.send(Event::StoreChanged)[0], Effect::LoadQueue { .. }));

    let mut desk = Desk::with(80, 24, many(1, PAGE));
    desk.press('G');
    let id = desk.queue_id();
    assert_eq!(desk.send(Event::Failed { id, why: "locked".into() }), []);
}

#[test]
fn filtering_by_policy_begins_a_new_queue() {
    let mut desk = Desk::explained(80, 24, tasks());
    desk.press('p');
    let id = desk.last_id(|effect| match effect {
        Effect::LoadPolicyCounts { id } => Some(*id),
        _ => None,
    });
    let counts = vec![(policy("weapons"), 2), (policy("documents"), 1)];
    desk.send(Event::PolicyCountsLoaded { id, counts: counts.clone() });
    desk.press('j');
    desk.press('j');
    desk.press('j');
    let effects = desk.send(Event::Key(Key::Enter));
    let documents = QueueFilter { policy: Some(policy("documents")), ..QueueFilter::default() };
    assert!(
        matches!(&effects[0], Effect::LoadQueue { filter, after: None, .. } if *filter == documents)
    );
    assert_eq!((desk.state.mode.clone(), desk.row_ids()), (Mode::Browse, vec![]));
    desk.answer_queue(vec![task(3, "documents", 0.71, "scan-11.png")]);

    // The list opens on what is chosen; Esc leaves it as it is.
    desk.press('p');
    let id = desk.last_id(|effect| match effect {
        Effect::LoadPolicyCounts { id } => Some(*id),
        _ => None,
    });
    desk.send(Event::PolicyCountsLoaded { id, counts: counts[..1].to_vec() });
    let Mode::Filter(popup) = &desk.state.mode else { panic!("{:?}", desk.state.mode) };
    assert_eq!((popup.selected, &popup.policies[1]), (2, &(policy("documents"), 0)));
    desk.send(Event::Key(Key::Esc));
    assert_eq!(desk.state.filter, documents);
    desk.press('p');
    desk.press('g');
    desk.send(Event::Key(Key::Enter));
    assert_eq!(desk.state.filter, QueueFilter::default(), "all");
}

#[test]
fn a_page_of_the_old_filter_is_dropped() {
    let mut desk = Desk::opened(80, 24);
    let old = desk.queue_id();
    desk.press('o');
    desk.send(Event::QueueLoaded { id: old, tasks: many(1, 3) });
    assert_eq!(desk.row_ids(), Vec::<i64>::new());
    assert_eq!(desk.state.queue.extent, Extent::Unknown);
}

#[test]
fn the_states_go_round() {
    let mut desk = Desk::with(80, 24, tasks());
    let mut seen = Vec::new();
    for _ in 0..4 {
        desk.press('o');
        seen.push((desk.state.filter.state, desk.state.filter.lane));
    }
    let everything = |state| (state, Lane::Everything);
    assert_eq!(
        seen,
        [
            everything(Some(ReviewState::Open)),
            everything(Some(ReviewState::Escalated)),
            (None, Lane::Unjudged),
            everything(None),
        ]
    );
}

#[test]
fn an_empty_queue_takes_every_key_calmly() {
    let mut desk = Desk::with(80, 24, Vec::new());
    for binding in KEYS.iter().filter(|binding| binding.command != Command::Quit) {
        for key in binding.keys {
            desk.send(Event::Key(*key));
            desk.send(Event::Key(Key::Esc));
        }
    }
    assert_eq!(desk.selected_id(), None);
    assert!(!desk.effects.iter().any(|effect| matches!(effect, Effect::Decide { .. })));
    desk.press('g');
    while desk.state.filter.outcome.is_some() {
        desk.press('b');
    }
    while desk.state.filter.order != QueueOrder::Pressing {
        desk.press('O');
    }
    for _ in 0..4 {
        if desk.state.filter != QueueFilter::default() {
            desk.press('o');
        }
    }
    assert_eq!(desk.state.filter, QueueFilter::default());
    desk.answer_queue(many(1, 1));
    assert_eq!(desk.selected_id(), Some(1), "new items appear by themselves");
}

// The mouse.

#[test]
fn a_click_selects_and_the_wheel_moves() {
    let mut desk = Desk::explained(80, 24, many(1, 50));
    desk.send(Event::Click { column: 5, row: 4 });
    assert_eq!(desk.selected_id(), Some(3), "the header and the border come first");
    desk.send(Event::Scroll { column: 5, row: 4, direction: Direction::Forward });
    assert_eq!(desk.selected_id(), Some(4));
    desk.send(Event::Scroll { column: 5, row: 4, direction: Direction::Back });
    assert_eq!(desk.selected_id(), Some(3));
    for (column, row) in [(0, 0), (0, 2), (5, 23), (79, 5), (500, 500)] {
        desk.send(Event::Click { column, row });
        assert_eq!(desk.selected_id(), Some(3), "{column},{row} is not in the list");
    }
    desk.press('?');
    desk.send(Event::Click { column: 5, row: 8 });
    assert_eq!(desk.selected_id(), Some(3), "something else is open");
}

#[test]
fn the_wheel_over_the_explanation_scrolls_it_and_not_too_far() {
    let mut desk = Desk::explained(80, 16, tasks()[1..].to_vec());
    for _ in 0..50 {
        desk.send(Event::Scroll { column: 70, row: 12, direction: Direction::Forward });
    }
    let scrolled = desk.state.why_scroll;
    assert!(scrolled > 0 && scrolled < 20, "{scrolled}");
    desk.send(Event::Scroll { column: 70, row: 12, direction: Direction::Back });
    assert_eq!(desk.state.why_scroll, scrolled - 1);
    assert_eq!(desk.selected_id(), Some(2));
}

// The picture.

#[test]
fn a_picture_is_asked_for_at_its_safe_view_once_the_detail_is_there() {
    let mut desk = Desk::with(80, 24, tasks()[1..].to_vec());
    assert!(!desk.effects.iter().any(|effect| matches!(effect, Effect::LoadPicture { .. })));
    let effects = desk.answer_detail();
    let picture = effects.iter().find(|effect| matches!(effect, Effect::LoadPicture { .. }));
    let Some(Effect::LoadPicture { paths, reveal, area, .. }) = picture else {
        panic!("{effects:?}");
    };
    assert_eq!(*reveal, Reveal::Blur, "weapons say blur, memes would say none");
    assert_eq!(paths[0].to_str(), Some("/srv/uploads/IMG_2031.jpg"));
    assert!(area.width > 10 && area.height > 5);
    let id = desk.picture_id();
    assert_eq!(desk.send(Event::PictureReady { id }), []);
    assert!(matches!(desk.state.picture, Picture::Ready { .. }));
}

#[test]
fn the_strongest_safe_view_of_the_flagging_policies_counts() {
    let mut desk = Desk::with(80, 24, vec![task(1, "documents", 0.9, "a.jpg")]);
    let mut with_pills = detail(desk.state.queue.rows[0].task.clone());
    with_pills.policies.push(super::fixtures::verdict("pills", 0.7, Outcome::Review));
    desk.answer_detail_with(with_pills);
    assert_eq!(desk.state.reveal, Reveal::Hidden);

    let mut desk = Desk::with(80, 24, vec![task(1, "documents", 0.9, "a.jpg")]);
    let mut unknown = detail(desk.state.queue.rows[0].task.clone());
    unknown.policies.push(super::fixtures::verdict("no-longer-there", 0.7, Outcome::Review));
    desk.answer_detail_with(unknown);
    assert_eq!(desk.state.reveal, Reveal::Hidden, "in doubt, hidden");

    let mut desk = Desk::explained(80, 24, vec![task(1, "memes", 0.9, "a.jpg")]);
    assert_eq!(desk.state.reveal, Reveal::Full);
    desk.press('j');

    let mut removed = task(1, "memes", 0.9, "a.jpg");
    removed.reason = Some(Reason::RemovedBefore);
    let desk = Desk::explained(80, 24, vec![removed]);
    assert_eq!(desk.state.reveal, Reveal::Hidden, "someone removed it before");
    assert!(!desk.effects.iter().any(|effect| matches!(effect, Effect::LoadPicture { .. })));
}

#[test]
fn v_reveals_step_by_step_and_the_next_item_begins_anew() {
    let mut desk = Desk::explained(
        80,
        24,
        vec![task(1, "pills", 0.9, "a.jpg"), task(2, "pills", 0.8, "b.jpg")],
    );
    let mut steps = vec![desk.state.reveal];
    for _ in 0..4 {
        let effects = desk.press('v');
        steps.push(desk.state.reveal);
        let asked = effects.iter().find_map(|effect| match effect {
            Effect::LoadPicture { reveal, .. } => Some(*reveal),
            _ => None,
        });
        assert_eq!(asked, Some(desk.state.reveal));
        let id = desk.picture_id();
        desk.send(Event::PictureReady { id });
    }
    assert_eq!(steps, Reveal::ALL);
    assert!(!allows(&desk.state, Command::Reveal));
    let id = desk.picture_id();
    assert_eq!(desk.press('V'), [Effect::DropPicture { id }]);
    assert_eq!((desk.state.reveal, &desk.state.picture), (Reveal::Hidden, &Picture::Nothing));
    desk.press('v');
    desk.press('j');
    desk.answer_detail();
    assert_eq!(desk.state.reveal, Reveal::Hidden);
    desk.press('k');
    desk.answer_detail();
    assert_eq!(desk.state.reveal, Reveal::Hidden, "also when one comes back");
}

#[test]
fn moving_on_drops_the_pixels() {
    let mut desk = Desk::explained(80, 24, tasks()[1..].to_vec());
    let id = desk.picture_id();
    desk.send(Event::PictureReady { id });
    assert!(desk.press('j').contains(&Effect::DropPicture { id }));
    assert_eq!(desk.state.picture, Picture::Nothing);
}

#[test]
fn a_new_window_size_asks_for_a_new_picture() {
    let mut desk = Desk::explained(80, 24, tasks()[1..].to_vec());
    let old = desk.picture_id();
    desk.send(Event::PictureReady { id: old });
    let effects = desk.send(Event::Resized { width: 120, height: 40 });
    assert_eq!(desk.state.size, Size { width: 120, height: 40 });
    assert!(matches!(effects[..], [Effect::DropPicture { .. }, Effect::LoadPicture { .. }]));
    let effects = desk.send(Event::Resized { width: 20, height: 5 });
    assert_eq!(effects, [], "the unanswered one is moot, and nothing fits");
    assert_eq!(desk.state.picture, Picture::Nothing);
}

#[test]
fn a_picture_that_cannot_be_had_is_not_asked_for_again_by_itself() {
    let mut desk = Desk::explained(80, 24, tasks()[1..].to_vec());
    let id = desk.picture_id();
    assert_eq!(desk.send(Event::PictureFailed { id, why: NoPicture::Gone }), []);
    assert_eq!(desk.state.picture, Picture::Failed(NoPicture::Gone));
    let effects = desk.press('v');
    assert!(effects.iter().any(|effect| matches!(effect, Effect::LoadPicture { .. })));
}

#[test]
fn a_file_that_turns_up_elsewhere_is_tried_there() {
    let mut desk = Desk::explained(80, 24, tasks()[1..].to_vec());
    let id = desk.picture_id();
    desk.send(Event::PictureFailed { id, why: NoPicture::Gone });
    desk.send(Event::StoreChanged);
    let mut moved = detail(desk.state.queue.rows[0].task.clone());
    moved.sightings[0].path = "/srv/uploads/elsewhere.jpg".into();
    let effects = desk.answer_detail_with(moved);
    assert!(
        matches!(&effects[..], [Effect::LoadPicture { paths, .. }] if paths[1].ends_with("elsewhere.jpg"))
    );
}

#[test]
fn without_pictures_none_is_asked_for() {
    let mut desk = Desk::with(80, 24, tasks()[1..].to_vec());
    desk.state.pictures = Pictures::Off;
    desk.answer_detail();
    desk.press('v');
    assert!(!desk.effects.iter().any(|effect| matches!(effect, Effect::LoadPicture { .. })));
}

// The explanation.

#[test]
fn the_heaviest_policy_is_explained_first_then_the_others_that_flagged() {
    let mut desk = Desk::explained(80, 24, tasks()[1..].to_vec());
    let shown = |desk: &Desk| {
        let detail = desk.state.item_detail().expect("there");
        detail.panels[desk.state.panel].verdict.policy.as_str().to_owned()
    };
    let mut seen = vec![shown(&desk)];
    for _ in 0..3 {
        desk.press(']');
        seen.push(shown(&desk));
    }
    assert_eq!(seen, ["weapons", "memes", "smoking", "weapons"]);
    desk.press('[');
    assert_eq!(shown(&desk), "smoking");
    // A refresh keeps what one reads, and what was chosen and revealed.
    desk.press('1');
    desk.press('v');
    desk.send(Event::StoreChanged);
    desk.answer_detail();
    assert_eq!(shown(&desk), "smoking");
    assert_eq!(desk.state.draft.reason, Some(policy("weapons")));
    assert_eq!(desk.state.reveal, Reveal::Grey);
}

#[test]
fn an_item_that_could_not_be_judged_is_hidden_and_has_no_reasons() {
    let reason = Reason::Unreadable("permission denied".into());
    let mut desk = Desk::explained(80, 24, vec![unjudged(1, reason, "x.webp")]);
    assert_eq!(desk.state.reveal, Reveal::Hidden);
    assert!(!allows(&desk.state, Command::Reason));
    assert!(desk.press('r').iter().any(|effect| matches!(effect, Effect::Decide { .. })));
}

#[test]
fn a_task_that_the_store_does_not_know_says_so() {
    let mut desk = Desk::with(80, 24, tasks());
    let id = desk.detail_id();
    desk.send(Event::DetailLoaded { id, detail: None, whys: Vec::new() });
    assert_eq!(desk.state.detail, Detail::Failed { task: TaskId(1) });
    assert_eq!(desk.message(), "the store no longer knows this task");
}

// The rest.

#[test]
fn what_changes_nothing_on_the_screen_is_not_drawn() {
    let mut desk = Desk::explained(80, 24, tasks());
    let mut drawn = |event| {
        desk.send(event);
        desk.state.needs_draw
    };
    assert!(!drawn(Event::Clock(Timestamp(NOW.0 + 1))));
    assert!(drawn(Event::Clock(Timestamp(NOW.0 + 60_000))));
    assert!(drawn(Event::Watcher(Watcher::Absent)));
    assert!(!drawn(Event::Watcher(Watcher::Absent)));
    assert!(!drawn(Event::StoreChanged));
    assert!(!drawn(Event::Key(Key::Char('%'))));
    assert!(drawn(Event::Key(Key::Char('j'))));
}

#[test]
fn the_terminal_is_drawn_anew_after_a_stop() {
    let mut desk = Desk::explained(80, 24, tasks()[1..].to_vec());
    let id = desk.picture_id();
    desk.send(Event::PictureReady { id });
    desk.send(Event::Key(Key::Ctrl('z')));
    assert!(desk.state.suspended);
    let effects = desk.send(Event::Resumed);
    assert!(!desk.state.suspended);
    assert!(matches!(
        effects[..],
        [Effect::Redraw, Effect::DropPicture { .. }, Effect::LoadPicture { .. }]
    ));
}

#[test]
fn a_signal_to_stop_quits_from_everywhere() {
    for key in ['?', 'p', 'n', 'j'] {
        let mut desk = Desk::explained(80, 24, tasks());
        desk.press(key);
        assert!(desk.send(Event::Stop).contains(&Effect::Quit));
    }
}

#[test]
fn a_friendly_word_goes_with_the_next_key() {
    let mut desk = Desk::explained(80, 24, many(1, 3));
    desk.press('a');
    let id = desk.decide_id();
    desk.send(Event::Decided { id, outcome: DecisionOutcome::Recorded(DecisionId(1)) });
    assert!(!desk.message().is_empty());
    desk.press('j');
    assert!(desk.message().is_empty());
}

// Several at once.

/// Two rows, the first of which stands for three near-duplicates.
fn grouped() -> Desk {
    let mut rows = many(1, 2);
    rows[0].group = 3;
    Desk::explained(80, 24, rows)
}

#[test]
fn a_group_is_decided_after_it_was_shown_and_not_before() {
    let mut desk = grouped();
    desk.press('1');
    let effects = desk.press('r');
    assert!(matches!(&effects[..], [Effect::LoadGroups { tasks, .. }] if *tasks == [TaskId(1)]));
    assert_eq!(desk.send(Event::Key(Key::Enter)), [], "what it touches is not known yet");
    let id = desk.group_id();
    desk.send(Event::GroupLoaded { id, tasks: [many(1, 1), many(11, 2)].concat() });
    let effects = desk.send(Event::Key(Key::Enter));
    let [Effect::DecideTogether { id, tasks, action, reason, .. }, ..] = &effects[..] else {
        panic!("{effects:?}");
    };
    let id = *id;
    assert_eq!((tasks.len(), *action), (3, Action::Remove));
    assert_eq!(*reason, Some(policy("weapons")));
    assert_eq!((desk.selected_id(), &desk.state.mode), (Some(2), &Mode::Browse));
    let recorded = DecisionOutcome::Recorded(DecisionId(1));
    desk.send(Event::DecidedTogether { id, outcomes: vec![recorded; 3] });
    assert_eq!(desk.row_ids(), [2]);
    assert_eq!(desk.message(), "removed 3 items · u undoes all of them");
}

#[test]
fn esc_decides_nothing_and_keeps_what_was_chosen() {
    let mut desk = grouped();
    desk.press('1');
    desk.press('r');
    desk.send(Event::Key(Key::Esc));
    assert_eq!((&desk.state.mode, desk.row_ids()), (&Mode::Browse, vec![1, 2]));
    assert_eq!(desk.state.draft.reason, Some(policy("weapons")));
    assert!(!desk.effects.iter().any(|effect| matches!(effect, Effect::DecideTogether { .. })));
}

#[test]
fn marked_rows_are_decided_together_and_esc_takes_the_marks_away() {
    let mut desk = Desk::explained(80, 24, many(1, 5));
    desk.press(' ');
    desk.press('j');
    desk.press(' ');
    assert_eq!(desk.state.marks.iter().map(|task| task.0).collect::<Vec<_>>(), [1, 3]);
    let effects = desk.press('a');
    assert!(matches!(
        effects.iter().find(|e| matches!(e, Effect::LoadGroups { .. })),
        Some(Effect::LoadGroups { tasks, .. }) if *tasks == [TaskId(1), TaskId(3)]
    ));
    desk.send(Event::Key(Key::Esc));
    assert_eq!(desk.state.marks.len(), 2);
    desk.send(Event::Key(Key::Esc));
    assert!(desk.state.marks.is_empty());
}

#[test]
fn what_others_have_open_or_decided_is_told_when_a_group_is_decided() {
    let mut desk = grouped();
    desk.press('a');
    let id = desk.group_id();
    desk.send(Event::GroupLoaded { id, tasks: many(1, 3) });
    desk.send(Event::Key(Key::Enter));
    let id = desk.last_id(|effect| match effect {
        Effect::DecideTogether { id, .. } => Some(*id),
        _ => None,
    });
    let lease = Lease { reviewer: Reviewer::new("ben").expect("a name"), until: NOW };
    let outcomes = vec![
        DecisionOutcome::Recorded(DecisionId(1)),
        DecisionOutcome::Leased(lease),
        DecisionOutcome::AlreadyDecided(past(9, 3, "ben", Action::Remove, HOUR)),
    ];
    desk.send(Event::DecidedTogether { id, outcomes });
    assert_eq!(
        desk.message(),
        "approved 1 of 3 items; 1 are open on another screen, 1 were decided before"
    );
    assert_eq!(desk.state.message.as_ref().map(|m| m.kind), Some(MessageKind::Warning));
}

#[test]
fn the_dot_repeats_reason_and_note() {
    let mut desk = Desk::explained(80, 24, many(1, 3));
    desk.press('2');
    desk.press('r');
    desk.answer_detail();
    let effects = desk.press('.');
    let repeated = effects.iter().find_map(|effect| match effect {
        Effect::Decide { task, action, reason, .. } => Some((*task, *action, reason.clone())),
        _ => None,
    });
    assert_eq!(repeated, Some((TaskId(2), Action::Remove, Some(policy("memes")))));
}

#[test]
fn what_is_decided_again_leaves_the_queue() {
    let mut desk = Desk::explained(80, 24, many(1, 3));
    let effects = desk.press('U');
    let [Effect::Redo { id }] = effects[..] else { panic!("{effects:?}") };
    let outcome = RedoOutcome::Redone(vec![past(5, 2, "ana", Action::Approve, 0)]);
    desk.send(Event::Redone { id, outcome });
    assert_eq!(desk.row_ids(), [1, 3]);
    assert_eq!(desk.message(), "decided again: ana approved it just now");
    let effects = desk.press('U');
    let [Effect::Redo { id }] = effects[..] else { panic!("{effects:?}") };
    desk.send(Event::Redone { id, outcome: RedoOutcome::NothingToRedo });
    assert_eq!(desk.message(), "there is nothing to decide again");
}

// Several reviewers.

#[test]
fn what_is_open_is_leased_and_a_lost_lease_is_told() {
    let mut desk = Desk::explained(80, 24, many(1, 2));
    let id = desk.last_id(|effect| match effect {
        Effect::Lease { id, task: Some(TaskId(1)) } => Some(*id),
        _ => None,
    });
    let until = Timestamp(NOW.0 + 1000);
    let lease = |name: &str| Some(Lease { reviewer: Reviewer::new(name).expect("a name"), until });
    desk.send(Event::Leased { id, lease: lease("ana") });
    assert_eq!((&desk.state.lease, desk.message()), (&None, ""));
    desk.press('j');
    desk.answer_detail();
    let id = desk.last_id(|effect| match effect {
        Effect::Lease { id, task: Some(TaskId(2)) } => Some(*id),
        _ => None,
    });
    desk.send(Event::Leased { id, lease: lease("ben") });
    assert_eq!(desk.message(), "ben has this item open; you can't decide it now");
    desk.press('r');
    let id = desk.decide_id();
    let outcome = DecisionOutcome::Leased(lease("ben").expect("one"));
    desk.send(Event::Decided { id, outcome });
    assert_eq!(desk.message(), "not recorded: 00002.jpg is open on ben's screen");
    assert_eq!(desk.row_ids(), [1, 2], "it still waits");
}

#[test]
fn a_lease_is_renewed_by_keys_and_not_by_the_clock_alone() {
    let mut desk = Desk::explained(80, 24, many(1, 2));
    let later = Timestamp(NOW.0 + Lease::LENGTH_MS / 2);
    assert_eq!(desk.send(Event::Clock(later)), []);
    let effects = desk.press('J');
    assert!(matches!(effects[..], [Effect::Lease { task: Some(TaskId(1)), .. }]));
    assert_eq!(desk.press('J'), []);
}

#[test]
fn the_next_item_is_one_that_nobody_else_has_open() {
    let mut rows = many(1, 3);
    let reviewer = Reviewer::new("ben").expect("a name");
    rows[1].lease = Some(Lease { reviewer, until: Timestamp(NOW.0 + 1) });
    let mut desk = Desk::explained(80, 24, rows);
    desk.press('a');
    assert_eq!(desk.selected_id(), Some(3));
}

// Search.

#[test]
fn a_search_shows_what_it_found_hidden_and_goes_back_to_the_queue() {
    let mut desk = Desk::explained(80, 24, vec![task(1, "memes", 0.9, "a.jpg")]);
    assert_eq!(desk.state.reveal, Reveal::Full);
    desk.search("a dog");
    let Mode::Results(results) = &desk.state.mode else { panic!("{:?}", desk.state.mode) };
    assert_eq!((results.title.as_str(), results.found.len()), ("like “a dog”", 5));
    assert_eq!(desk.state.reveal, Reveal::Hidden);
    let effects = desk.press('v');
    let item = ItemId::of_bytes(b"one.jpg");
    assert!(effects.contains(&Effect::Expose { item, step: Reveal::Tiny }));
    assert!(
        effects.iter().any(
            |effect| matches!(effect, Effect::LoadPicture { item: shown, .. } if *shown == item)
        )
    );
    desk.press('j');
    assert_eq!(desk.state.reveal, Reveal::Hidden, "another picture begins hidden");
    desk.press('v');
    desk.press('r');
    assert_eq!(desk.state.reveal, Reveal::Hidden, "also that of the queue below");
    desk.send(Event::Key(Key::Esc));
    assert!(matches!(desk.state.mode, Mode::Results(_)));
    desk.send(Event::Key(Key::Esc));
    assert_eq!((&desk.state.mode, desk.state.reveal), (&Mode::Browse, Reveal::Full));
}

#[test]
fn marked_results_are_decided_and_looked_up_again() {
    let mut desk = Desk::explained(80, 24, many(1, 2));
    desk.search("a dog");
    desk.press(' ');
    desk.press(' ');
    desk.press('r');
    let effects = desk.send(Event::Key(Key::Enter));
    let [Effect::DecideItems { id, items, action: Action::Remove }] = &effects[..] else {
        panic!("{effects:?}");
    };
    assert_eq!(*items, [ItemId::of_bytes(b"one.jpg"), ItemId::of_bytes(b"two.jpg")]);
    let recorded = DecisionOutcome::Recorded(DecisionId(1));
    let effects = desk.send(Event::DecidedTogether { id: *id, outcomes: vec![recorded; 2] });
    let again = effects.iter().find_map(|effect| match effect {
        Effect::LookUp { items, .. } => Some(items.len()),
        _ => None,
    });
    assert_eq!(again, Some(5));
    let id = desk.find_id();
    desk.send(Event::FoundItems { id, found: vec![found(1, 0.9, "one.jpg")] });
    let Mode::Results(results) = &desk.state.mode else { panic!("{:?}", desk.state.mode) };
    assert_eq!((results.found.len(), results.marks.len()), (1, 0));
}

#[test]
fn a_search_that_is_moot_or_fails_changes_nothing_else() {
    let mut desk = Desk::explained(80, 24, many(1, 2));
    desk.search("a dog");
    let old = desk.find_id();
    desk.search("a cat");
    desk.send(Event::FoundItems { id: old, found: Vec::new() });
    let Mode::Results(results) = &desk.state.mode else { panic!("{:?}", desk.state.mode) };
    assert_eq!(results.found.len(), 5);
    desk.press('S');
    let id = desk.find_id();
    desk.send(Event::Failed { id, why: "no model".into() });
    assert_eq!(desk.message(), "the search failed: no model");
    for key in ['a', 'r', ' ', 'j', 'v'] {
        assert_eq!(desk.press(key), [], "nothing was found that {key} could be about");
    }
}

#[test]
fn typing_filters_by_path_and_esc_shows_all_again() {
    let mut desk = Desk::explained(80, 24, many(1, 3));
    desk.press('/');
    desk.press('a');
    desk.send(Event::Paste("b\u{1b}".into()));
    assert_eq!(desk.state.filter.text.as_deref(), Some("ab"));
    assert!(
        matches!(desk.effects.last(), Some(Effect::LoadQueue { filter, .. }) if filter.text.as_deref() == Some("ab"))
    );
    desk.send(Event::Key(Key::Backspace));
    assert_eq!(desk.state.filter.text.as_deref(), Some("a"));
    desk.send(Event::Key(Key::Enter));
    assert_eq!((&desk.state.mode, desk.state.filter.text.as_deref()), (&Mode::Browse, Some("a")));
    desk.press('/');
    desk.send(Event::Key(Key::Esc));
    assert_eq!(desk.state.filter.text, None);
}

// Care.

#[test]
fn a_budget_and_a_break_are_words_and_keep_nobody_from_working() {
    let mut desk = Desk::explained(80, 24, vec![task(1, "pills", 0.9, "a.jpg")]);
    desk.state.care = Care { budget: Some(2), break_minutes: Some(50) };
    desk.send(Event::Exposures { count: 1 });
    assert_eq!(desk.message(), "");
    desk.send(Event::Exposures { count: 2 });
    assert_eq!(desk.message(), "you have revealed pictures 2 times today; you wanted to stop at 2");
    assert!(allows(&desk.state, Command::Reveal));
    desk.send(Event::Clock(Timestamp(NOW.0 + 49 * 60_000)));
    assert!(!desk.message().contains("break"));
    desk.send(Event::Clock(Timestamp(NOW.0 + 50 * 60_000)));
    assert!(desk.message().contains("a short break helps"));
}

#[test]
fn a_search_is_narrowed_with_what_was_typed_in_the_line() {
    let mut desk = Desk::with(120, 40, many(1, 3));
    desk.search("red car");
    desk.press('/');
    assert_eq!(desk.state.mode, Mode::Ask { text: "red car".to_owned(), like: None });
    for character in " outcome:block".chars() {
        desk.press(character);
    }
    let effects = desk.send(Event::Key(Key::Enter));
    let text = "red car outcome:block".to_owned();
    let asked = |effects: &[Effect], query: &Query| {
        effects.iter().any(|one| matches!(one, Effect::Find { query: asked, .. } if asked == query))
    };
    assert!(asked(&effects, &Query { like: None, text }), "{effects:?}");
    let id = desk.find_id();
    desk.send(Event::FoundItems { id, found: vec![found(7, 0.9, "seven.jpg")] });
    desk.press('S');
    desk.press('/');
    desk.press('x');
    let effects = desk.send(Event::Key(Key::Enter));
    let Mode::Results(results) = &desk.state.mode else { panic!("{:?}", desk.state.mode) };
    assert!(results.query.like.is_some() && results.query.text == "x", "{:?}", results.query);
    assert!(asked(&effects, &results.query));
}

#[test]
fn a_map_of_what_matters_lies_over_one_picture_for_one_policy() {
    let mut desk = Desk::with(120, 40, many(1, 3));
    desk.answer_detail();
    let heat = |effects: &[Effect]| {
        effects.iter().find_map(|effect| match effect {
            Effect::LoadPicture { heat, .. } => Some(heat.clone()),
            _ => None,
        })
    };
    if desk.state.reveal == Reveal::Hidden {
        desk.press('v');
    }
    let effects = desk.press('h');
    let policy = desk.state.heat.clone();
    assert!(policy.is_some());
    assert_eq!(heat(&effects), Some(policy));
    assert!(desk.message().contains("approximate"), "{}", desk.message());
    let effects = desk.press('h');
    assert_eq!((heat(&effects), desk.state.heat.clone()), (Some(None), None));
    desk.press('h');
    desk.press('j');
    assert_eq!(desk.state.heat, None, "the next picture has none");
}
