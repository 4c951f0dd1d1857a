//! Every key of the dashboard in one table, and what crossterm reports as our own events.
//!
//! `update` looks keys up here; the help view and the status line are drawn from here.

use crossterm::event::{
    Event as TerminalEvent, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton,
    MouseEventKind,
};

use super::event::{Direction, Event};
use super::state::Mode;

/// A key as far as the dashboard tells keys apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Key {
    /// A character, Shift already applied.
    Char(char),
    /// A letter with Ctrl, in lower case.
    Ctrl(char),
    /// Return.
    Enter,
    /// Escape.
    Esc,
    /// Tabulator.
    Tab,
    /// Tabulator with Shift.
    BackTab,
    /// Backspace.
    Backspace,
    /// Arrow.
    Up,
    /// Arrow.
    Down,
    /// A page back.
    PageUp,
    /// A page on.
    PageDown,
    /// To the beginning.
    Home,
    /// To the end.
    End,
}

impl Key {
    /// The number on a digit key from 1 to 9.
    pub fn digit(self) -> Option<usize> {
        match self {
            Self::Char(character @ '1'..='9') => {
                character.to_digit(10).and_then(|digit| usize::try_from(digit).ok())
            }
            _ => None,
        }
    }
}

/// What a key means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Command {
    /// The picture stays.
    Approve,
    /// The picture goes.
    Remove,
    /// Someone else should decide.
    Escalate,
    /// Choose the reason of a removal by its digit.
    Reason,
    /// Write a note for the decision.
    Note,
    /// Take the own latest decision back.
    Undo,
    /// Show one step more of the picture.
    Reveal,
    /// Hide the picture.
    Hide,
    /// The next row, or line.
    Down,
    /// The previous row, or line.
    Up,
    /// A screenful on.
    PageDown,
    /// A screenful back.
    PageUp,
    /// The first row.
    First,
    /// The last row.
    Last,
    /// The next policy in the why panel.
    NextPolicy,
    /// The previous policy in the why panel.
    PreviousPolicy,
    /// Scroll the why panel on.
    WhyDown,
    /// Scroll the why panel back.
    WhyUp,
    /// Choose a policy to filter by.
    Filter,
    /// Open, escalated or both.
    States,
    /// The list of keys.
    Help,
    /// Take what is selected or typed.
    Accept,
    /// Erase the last character.
    Erase,
    /// Close what is open.
    Close,
    /// Draw everything anew.
    Redraw,
    /// Back to the shell for a while.
    Suspend,
    /// Leave.
    Quit,
}

/// A mode without what it holds: where a key works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// The queue.
    Browse,
    /// The list of keys.
    Help,
    /// The list of policies.
    Filter,
    /// The line for a note.
    Note,
}

impl Place {
    /// Where the keyboard is in this mode.
    pub fn of(mode: &Mode) -> Self {
        match mode {
            Mode::Browse => Self::Browse,
            Mode::Help { .. } => Self::Help,
            Mode::Filter(_) => Self::Filter,
            Mode::Note { .. } => Self::Note,
        }
    }
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding {
    /// The keys, each of which means the command.
    pub keys: &'static [Key],
    /// How the keys are written in the help and on the status line.
    pub spelling: &'static str,
    /// What they mean.
    pub command: Command,
    /// One word for the status line; empty where the line need not say it.
    pub label: &'static str,
    /// A sentence for the help.
    pub help: &'static str,
    /// Where they work.
    pub places: &'static [Place],
}

const BROWSE: &[Place] = &[Place::Browse];
const EVERYWHERE: &[Place] = &[Place::Browse, Place::Help, Place::Filter, Place::Note];
const LISTS: &[Place] = &[Place::Browse, Place::Help, Place::Filter];

const DIGITS: &[Key] = &[
    Key::Char('1'),
    Key::Char('2'),
    Key::Char('3'),
    Key::Char('4'),
    Key::Char('5'),
    Key::Char('6'),
    Key::Char('7'),
    Key::Char('8'),
    Key::Char('9'),
];

macro_rules! bindings {
    ($($keys:expr, $spelling:literal, $command:ident, $label:literal, $places:expr, $help:literal;)+) => {
        &[$(Binding {
            keys: $keys,
            spelling: $spelling,
            command: Command::$command,
            label: $label,
            help: $help,
            places: $places,
        }),+]
    };
}

/// All keys, in the order of the help and of the status line.
pub const KEYS: &[Binding] = bindings![
    &[Key::Char('a')], "a", Approve, "approve", BROWSE, "approve: the picture stays";
    &[Key::Char('r')], "r", Remove, "remove", BROWSE, "remove: the picture should go";
    &[Key::Char('e')], "e", Escalate, "escalate", BROWSE, "escalate: someone else should decide";
    DIGITS, "1-9", Reason, "reason", BROWSE, "choose the policy that is the reason to remove";
    &[Key::Char('n')], "n", Note, "note", BROWSE, "write a note that goes with the decision";
    &[Key::Char('u')], "u", Undo, "undo", BROWSE, "take back your latest decision";
    &[Key::Char('v')], "v", Reveal, "reveal", BROWSE, "show one step more of the picture";
    &[Key::Char('V')], "V", Hide, "hide", BROWSE, "hide the picture again";
    &[Key::Enter], "Enter", Accept, "take it", &[Place::Filter, Place::Note], "take what is selected or typed";
    &[Key::Esc], "Esc", Close, "close", EVERYWHERE, "close what is open, or the message";
    &[Key::Char('p'), Key::Char('/')], "p /", Filter, "filter", BROWSE, "show only what one policy flagged";
    &[Key::Char('o')], "o", States, "open/escalated", BROWSE, "show open tasks, escalated ones, or both";
    &[Key::Tab, Key::Char(']')], "Tab ]", NextPolicy, "policy", BROWSE, "explain the next policy's score";
    &[Key::BackTab, Key::Char('[')], "[", PreviousPolicy, "", BROWSE, "explain the previous policy's score";
    &[Key::Char('J')], "J", WhyDown, "", BROWSE, "scroll the explanation on";
    &[Key::Char('K')], "K", WhyUp, "", BROWSE, "scroll the explanation back";
    &[Key::Char('j'), Key::Down], "j ↓", Down, "", LISTS, "next row";
    &[Key::Char('k'), Key::Up], "k ↑", Up, "", LISTS, "previous row";
    &[Key::PageDown], "PgDn", PageDown, "", LISTS, "a screenful on";
    &[Key::PageUp], "PgUp", PageUp, "", LISTS, "a screenful back";
    &[Key::Char('g'), Key::Home], "g Home", First, "", LISTS, "first row";
    &[Key::Char('G'), Key::End], "G End", Last, "", LISTS, "last row";
    &[Key::Backspace], "Backspace", Erase, "", &[Place::Note], "erase the last character of the note";
    &[Key::Ctrl('l')], "Ctrl-L", Redraw, "", EVERYWHERE, "draw everything anew";
    &[Key::Ctrl('z')], "Ctrl-Z", Suspend, "", EVERYWHERE, "back to the shell; fg returns";
    &[Key::Char('q')], "q", Quit, "quit", BROWSE, "leave";
    &[Key::Ctrl('c')], "Ctrl-C", Quit, "", EVERYWHERE, "leave at once";
    &[Key::Char('?')], "?", Help, "help", &[Place::Browse, Place::Help], "show or close this list";
];

/// What a key means at a place.
pub fn command_for(place: Place, key: Key) -> Option<Command> {
    KEYS.iter()
        .find(|binding| binding.places.contains(&place) && binding.keys.contains(&key))
        .map(|binding| binding.command)
}

/// What crossterm reported, as an event of the dashboard; `None` for what means nothing to it.
pub fn event_for(event: &TerminalEvent) -> Option<Event> {
    match event {
        TerminalEvent::Key(key) if key.kind != KeyEventKind::Release => {
            key_for(*key).map(Event::Key)
        }
        TerminalEvent::Paste(text) => Some(Event::Paste(text.clone())),
        TerminalEvent::Resize(width, height) => {
            Some(Event::Resized { width: *width, height: *height })
        }
        TerminalEvent::Mouse(mouse) => {
            let (column, row) = (mouse.column, mouse.row);
            match mouse.kind {
                MouseEventKind::ScrollDown => {
                    Some(Event::Scroll { column, row, direction: Direction::Forward })
                }
                MouseEventKind::ScrollUp => {
                    Some(Event::Scroll { column, row, direction: Direction::Back })
                }
                MouseEventKind::Down(MouseButton::Left) => Some(Event::Click { column, row }),
                _ => None,
            }
        }
        TerminalEvent::Key(_) | TerminalEvent::FocusGained | TerminalEvent::FocusLost => None,
    }
}

fn key_for(event: KeyEvent) -> Option<Key> {
    let foreign =
        KeyModifiers::ALT | KeyModifiers::SUPER | KeyModifiers::HYPER | KeyModifiers::META;
    if event.modifiers.intersects(foreign) {
        return None;
    }
    Some(match event.code {
        KeyCode::Char('h') if event.modifiers.contains(KeyModifiers::CONTROL) => Key::Backspace,
        KeyCode::Char(character) if event.modifiers.contains(KeyModifiers::CONTROL) => {
            Key::Ctrl(character.to_ascii_lowercase())
        }
        KeyCode::Char(character) => Key::Char(character),
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Esc,
        KeyCode::Tab => Key::Tab,
        KeyCode::BackTab => Key::BackTab,
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use crossterm::event::MouseEvent;

    use super::*;

    #[test]
    fn no_key_means_two_things_at_one_place() {
        let mut seen = HashSet::new();
        for binding in KEYS {
            for (place, key) in
                binding.places.iter().flat_map(|p| binding.keys.iter().map(move |k| (p, k)))
            {
                assert!(seen.insert((place, key)), "{key:?} twice at {place:?}");
            }
        }
    }

    #[test]
    fn every_row_can_be_explained() {
        for binding in KEYS {
            assert!(!binding.help.is_empty() && !binding.spelling.is_empty(), "{binding:?}");
            assert!(!binding.keys.is_empty() && !binding.places.is_empty(), "{binding:?}");
        }
    }

    #[test]
    fn keys_are_told_apart_by_shift_and_ctrl_but_not_by_alt() {
        let key = |code, modifiers| event_for(&TerminalEvent::Key(KeyEvent::new(code, modifiers)));
        let char_key = |c| Some(Event::Key(Key::Char(c)));
        assert_eq!(key(KeyCode::Char('v'), KeyModifiers::NONE), char_key('v'));
        assert_eq!(key(KeyCode::Char('V'), KeyModifiers::SHIFT), char_key('V'));
        assert_eq!(
            key(KeyCode::Char('C'), KeyModifiers::CONTROL),
            Some(Event::Key(Key::Ctrl('c')))
        );
        assert_eq!(
            key(KeyCode::Char('h'), KeyModifiers::CONTROL),
            Some(Event::Key(Key::Backspace))
        );
        assert_eq!(key(KeyCode::Char('a'), KeyModifiers::ALT), None);
        assert_eq!(key(KeyCode::F(5), KeyModifiers::NONE), None);
    }

    #[test]
    fn letting_a_key_go_is_not_pressing_it() {
        let mut event = KeyEvent::new(KeyCode::Char('a'), KeyModifiers::NONE);
        event.kind = KeyEventKind::Release;
        assert_eq!(event_for(&TerminalEvent::Key(event)), None);
        event.kind = KeyEventKind::Repeat;
        assert_eq!(event_for(&TerminalEvent::Key(event)), Some(Event::Key(Key::Char('a'))));
    }

    #[test]
    fn the_mouse_points_and_turns() {
        let mouse = |kind| {
            let modifiers = KeyModifiers::NONE;
            event_for(&TerminalEvent::Mouse(MouseEvent { kind, column: 3, row: 4, modifiers }))
        };
        assert_eq!(
            mouse(MouseEventKind::Down(MouseButton::Left)),
            Some(Event::Click { column: 3, row: 4 })
        );
        assert_eq!(
            mouse(MouseEventKind::ScrollUp),
            Some(Event::Scroll { column: 3, row: 4, direction: Direction::Back })
        );
        assert_eq!(
            mouse(MouseEventKind::ScrollDown),
            Some(Event::Scroll { column: 3, row: 4, direction: Direction::Forward })
        );
        assert_eq!(mouse(MouseEventKind::Moved), None);
    }

    #[test]
    fn pasting_and_resizing_arrive() {
        assert_eq!(event_for(&TerminalEvent::Paste("a".into())), Some(Event::Paste("a".into())));
        assert_eq!(
            event_for(&TerminalEvent::Resize(80, 24)),
            Some(Event::Resized { width: 80, height: 24 })
        );
        assert_eq!(event_for(&TerminalEvent::FocusGained), None);
    }
}
