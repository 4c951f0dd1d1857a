//! The loop: draws when something changed, sleeps otherwise, ends when asked.

use std::sync::mpsc;

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::fixtures::{Desk, NOW, tasks};
use crate::moderation::Timestamp;
use crate::tui::{Effect, Event, Key, NoPictures, run};

#[test]
fn the_loop_hands_effects_out_draws_and_ends_with_q() {
    let mut state = Desk::opened(80, 24).state;
    let (sender, events) = mpsc::channel();
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).expect("a terminal in memory");
    let mut seen = Vec::new();
    sender.send(Event::Clock(Timestamp(NOW.0))).expect("the loop listens");
    let answers = sender.clone();
    let perform = |effect: Effect| {
        if let Effect::LoadQueue { id, .. } = &effect {
            answers.send(Event::QueueLoaded { id: *id, tasks: tasks() }).expect("listens");
            answers.send(Event::Key(Key::Char('q'))).expect("listens");
        }
        seen.push(effect);
    };
    // The state is one that has asked already; a page on its way is not asked for twice.
    state.queue.request = None;
    run(&mut terminal, &mut state, &events, perform, &mut NoPictures).expect("draws");
    assert!(matches!(seen[0], Effect::LoadQueue { .. }));
    assert!(!seen.contains(&Effect::Quit), "the loop ends by itself");
    assert_eq!(state.queue.rows.len(), 5);
}

#[test]
fn the_loop_ends_when_nobody_can_send_any_more() {
    let mut state = Desk::opened(80, 24).state;
    let (sender, events) = mpsc::channel();
    sender.send(Event::Key(Key::Char('?'))).expect("the loop listens");
    drop(sender);
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).expect("a terminal in memory");
    run(&mut terminal, &mut state, &events, |_| {}, &mut NoPictures).expect("draws");
    let screen = terminal.backend().to_string();
    assert!(screen.contains("approve: the picture stays"), "{screen}");
}

#[test]
fn nothing_is_drawn_while_the_terminal_belongs_to_the_shell() {
    let mut state = Desk::opened(80, 24).state;
    state.suspended = true;
    let (sender, events) = mpsc::channel();
    sender.send(Event::Key(Key::Char('?'))).expect("the loop listens");
    drop(sender);
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).expect("a terminal in memory");
    run(&mut terminal, &mut state, &events, |_| {}, &mut NoPictures).expect("runs");
    terminal.backend().assert_buffer_lines(vec![" ".repeat(80); 24]);
}
