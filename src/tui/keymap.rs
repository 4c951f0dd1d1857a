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
    /// Arrow.
    Left,
    /// Arrow.
    Right,
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
    /// Decide this as the one before.
    Repeat,
    /// Take the own latest decision back.
    Undo,
    /// Decide again what was taken back.
    Redo,
    /// Mark a row, so that one key decides several.
    Mark,
    /// Show one step more of the picture.
    Reveal,
    /// Hide the picture.
    Hide,
    /// Show over the picture what matters to the policy that is explained.
    Heatmap,
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
    /// Type what the path must contain.
    Text,
    /// Choose a policy to filter by.
    Filter,
    /// Open, escalated, could not be judged, or all.
    States,
    /// Every outcome, Block or Review.
    Outcomes,
    /// What comes first.
    Order,
    /// Search pictures by a description.
    Search,
    /// Restrict what a search found, or ask for more.
    Narrow,
    /// Search pictures that are like the one on the screen.
    Alike,
    /// The numbers.
    Numbers,
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
    /// The line for a part of a path.
    Text,
    /// The line for a description.
    Ask,
    /// What a decision is going to touch.
    Together,
    /// What a search found.
    Results,
    /// The numbers.
    Numbers,
}

impl Place {
    /// Where the keyboard is in this mode.
    pub fn of(mode: &Mode) -> Self {
        match mode {
            Mode::Browse => Self::Browse,
            Mode::Help { .. } => Self::Help,
            Mode::Filter(_) => Self::Filter,
            Mode::Note { .. } => Self::Note,
            Mode::Text { .. } => Self::Text,
            Mode::Ask { .. } => Self::Ask,
            Mode::Together(_) => Self::Together,
            Mode::Results(_) => Self::Results,
            Mode::Numbers(_) => Self::Numbers,
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
    /// What the command is called in the settings.
    pub name: &'static str,
    /// One word for the status line; empty where the line need not say it.
    pub label: &'static str,
    /// A sentence for the help.
    pub help: &'static str,
    /// Where they work.
    pub places: &'static [Place],
}

const BROWSE: &[Place] = &[Place::Browse];
const EVERYWHERE: &[Place] = &[
    Place::Browse,
    Place::Help,
    Place::Filter,
    Place::Note,
    Place::Text,
    Place::Ask,
    Place::Together,
    Place::Results,
    Place::Numbers,
];
const LISTS: &[Place] =
    &[Place::Browse, Place::Help, Place::Filter, Place::Together, Place::Results, Place::Numbers];
const LINES: &[Place] = &[Place::Note, Place::Text, Place::Ask];
const DECIDING: &[Place] = &[Place::Browse, Place::Results];

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
    ($($keys:expr, $spelling:literal, $command:ident, $name:literal, $label:literal, $places:expr, $help:literal;)+) => {
        &[$(Binding {
            keys: $keys,
            spelling: $spelling,
            command: Command::$command,
            name: $name,
            label: $label,
            help: $help,
            places: $places,
        }),+]
    };
}

/// All keys as they are without settings, in the order of the help and of the status line.
pub const KEYS: &[Binding] = bindings![
    &[Key::Char('a')], "a", Approve, "approve", "approve", DECIDING, "approve: the picture stays";
    &[Key::Char('r')], "r", Remove, "remove", "remove", DECIDING, "remove: the picture should go";
    &[Key::Char('e')], "e", Escalate, "escalate", "escalate", DECIDING, "escalate: someone else should decide";
    DIGITS, "1-9", Reason, "reason", "reason", BROWSE, "choose the policy that is the reason to remove";
    &[Key::Char('n')], "n", Note, "note", "note", BROWSE, "write a note that goes with the decision";
    &[Key::Char(' ')], "space", Mark, "mark", "mark", DECIDING, "mark a row; the next decision is about all marked ones";
    &[Key::Char('u')], "u", Undo, "undo", "undo", DECIDING, "take back your latest decision";
    &[Key::Char('v')], "v", Reveal, "reveal", "reveal", DECIDING, "show one step more of the picture";
    &[Key::Char('/')], "/", Text, "text", "filter", BROWSE, "show only paths that contain a text";
    &[Key::Char('s')], "s", Search, "search", "search", DECIDING, "search all pictures by a description";
    &[Key::Char('/')], "/", Narrow, "narrow", "narrow", &[Place::Results], "search again, with policy: outcome: decision: path:";
    &[Key::Char('S')], "S", Alike, "alike", "", DECIDING, "search pictures like the one on the screen";
    &[Key::Char('.')], ".", Repeat, "repeat", "", BROWSE, "decide this as the one before";
    &[Key::Char('U')], "U", Redo, "redo", "", DECIDING, "decide again what you took back";
    &[Key::Char('V')], "V", Hide, "hide", "hide", DECIDING, "hide the picture again";
    &[Key::Char('h')], "h", Heatmap, "heatmap", "", BROWSE, "show which parts of the picture matter (approximate)";
    &[Key::Enter], "Enter", Accept, "accept", "take it", &[Place::Filter, Place::Note, Place::Text, Place::Ask, Place::Together], "take what is selected or typed";
    &[Key::Esc], "Esc", Close, "close", "close", EVERYWHERE, "close what is open, the marks, or the message";
    &[Key::Char('p')], "p", Filter, "policies", "policies", BROWSE, "show only what one policy flagged";
    &[Key::Char('o')], "o", States, "states", "states", BROWSE, "open, escalated, not judged, or all";
    &[Key::Char('b')], "b", Outcomes, "outcomes", "", BROWSE, "every outcome, only Block, or only Review";
    &[Key::Char('O')], "O", Order, "order", "", BROWSE, "most pressing, newest, oldest, by path";
    &[Key::Tab], "Tab", Numbers, "numbers", "numbers", &[Place::Browse, Place::Numbers], "the numbers: queue, reviewers, policies, scores";
    &[Key::Char(']')], "]", NextPolicy, "next-policy", "policy", BROWSE, "explain the next policy's score";
    &[Key::BackTab, Key::Char('[')], "[", PreviousPolicy, "previous-policy", "", BROWSE, "explain the previous policy's score";
    &[Key::Char('J')], "J", WhyDown, "why-down", "", BROWSE, "scroll the explanation on";
    &[Key::Char('K')], "K", WhyUp, "why-up", "", BROWSE, "scroll the explanation back";
    &[Key::Char('j'), Key::Down], "j ↓", Down, "down", "", LISTS, "next row";
    &[Key::Char('k'), Key::Up], "k ↑", Up, "up", "", LISTS, "previous row";
    &[Key::PageDown], "PgDn", PageDown, "page-down", "", LISTS, "a screenful on";
    &[Key::PageUp], "PgUp", PageUp, "page-up", "", LISTS, "a screenful back";
    &[Key::Char('g'), Key::Home], "g Home", First, "first", "", LISTS, "first row";
    &[Key::Char('G'), Key::End], "G End", Last, "last", "", LISTS, "last row";
    &[Key::Backspace], "Backspace", Erase, "erase", "", LINES, "erase the last character";
    &[Key::Ctrl('l')], "Ctrl-L", Redraw, "redraw", "", EVERYWHERE, "draw everything anew";
    &[Key::Ctrl('z')], "Ctrl-Z", Suspend, "suspend", "", EVERYWHERE, "back to the shell; fg returns";
    &[Key::Char('q')], "q", Quit, "quit", "quit", BROWSE, "leave";
    &[Key::Ctrl('c')], "Ctrl-C", Quit, "leave", "", EVERYWHERE, "leave at once";
    &[Key::Char('?')], "?", Help, "help", "help", &[Place::Browse, Place::Help], "show or close this list";
];

/// The keys that work: those of [`KEYS`] with what the settings change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keymap {
    rows: Vec<(Binding, Option<Vec<Key>>)>,
}

/// The settings ask for keys that can't be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeymapError {
    /// No command has this name.
    #[error("there is no command {name:?}; commands are {}", names().join(", "))]
    UnknownCommand {
        /// As written.
        name: String,
    },
    /// No key has this spelling.
    #[error("{key:?} is no key for {name}: write one character, Ctrl-x, or one of {}", SPELLINGS.map(|(name, _)| name).join(", "))]
    UnknownKey {
        /// The command.
        name: String,
        /// As written.
        key: String,
    },
    /// One key would mean two things at one place.
    #[error("{key} would mean both {first} and {second}; give one of them another key")]
    Twice {
        /// The key.
        key: String,
        /// A command.
        first: &'static str,
        /// Another.
        second: &'static str,
    },
}

/// Keys that have names.
const SPELLINGS: [(&str, Key); 15] = [
    ("Enter", Key::Enter),
    ("Esc", Key::Esc),
    ("Tab", Key::Tab),
    ("Shift-Tab", Key::BackTab),
    ("Backspace", Key::Backspace),
    ("Up", Key::Up),
    ("Down", Key::Down),
    ("Left", Key::Left),
    ("Right", Key::Right),
    ("PageUp", Key::PageUp),
    ("PageDown", Key::PageDown),
    ("Home", Key::Home),
    ("End", Key::End),
    ("space", Key::Char(' ')),
    ("Space", Key::Char(' ')),
];

fn names() -> Vec<&'static str> {
    KEYS.iter().map(|binding| binding.name).collect()
}

impl Key {
    /// The key with this spelling: one character, `Ctrl-x`, or a name.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some((_, key)) = SPELLINGS.iter().find(|(name, _)| *name == text) {
            return Some(*key);
        }
        let one = |text: &str| {
            let mut characters = text.chars();
            characters.next().filter(|_| characters.next().is_none())
        };
        match text.strip_prefix("Ctrl-") {
            Some(letter) => one(letter).map(|letter| Self::Ctrl(letter.to_ascii_lowercase())),
            None => one(text).map(Self::Char),
        }
    }

    fn spelled(self) -> String {
        if let Some((name, _)) = SPELLINGS.iter().find(|(_, key)| *key == self) {
            return (*name).to_owned();
        }
        match self {
            Self::Char(character) => character.to_string(),
            Self::Ctrl(letter) => format!("Ctrl-{}", letter.to_ascii_uppercase()),
            _ => String::new(),
        }
    }
}

impl Default for Keymap {
    fn default() -> Self {
        Self { rows: KEYS.iter().map(|binding| (*binding, None)).collect() }
    }
}

impl Keymap {
    /// The usual keys, but for commands that the settings give others; several are parted by
    /// spaces.
    ///
    /// # Errors
    /// [`KeymapError`] for an unknown command or key, and for a key that would mean two things.
    pub fn with<'a>(
        changes: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, KeymapError> {
        let mut keymap = Self::default();
        for (name, keys) in changes {
            let row = keymap.rows.iter_mut().find(|(binding, _)| binding.name == name);
            let unknown = || KeymapError::UnknownCommand { name: name.to_owned() };
            let (_, own_keys) = row.ok_or_else(unknown)?;
            let parsed = keys.split_whitespace().map(|key| {
                let unknown =
                    || KeymapError::UnknownKey { name: name.to_owned(), key: key.to_owned() };
                Key::parse(key).ok_or_else(unknown)
            });
            *own_keys = Some(parsed.collect::<Result<_, _>>()?);
        }
        keymap.refuse_doubles()?;
        Ok(keymap)
    }

    fn refuse_doubles(&self) -> Result<(), KeymapError> {
        for (index, (second, _)) in self.rows.iter().enumerate() {
            for key in self.keys(index) {
                let before = self.rows[..index].iter().enumerate();
                let twice = before.clone().find(|(other, (first, _))| {
                    let shared = first.places.iter().any(|place| second.places.contains(place));
                    shared && self.keys(*other).contains(key)
                });
                if let Some((_, (first, _))) = twice {
                    let (first, second) = (first.name, second.name);
                    return Err(KeymapError::Twice { key: key.spelled(), first, second });
                }
            }
        }
        Ok(())
    }

    fn keys(&self, index: usize) -> &[Key] {
        let (binding, changed) = &self.rows[index];
        changed.as_deref().unwrap_or(binding.keys)
    }

    /// What a key means at a place.
    pub fn command_for(&self, place: Place, key: Key) -> Option<Command> {
        let mut rows = self.rows.iter().enumerate();
        let found = rows.find(|(index, (binding, _))| {
            binding.places.contains(&place) && self.keys(*index).contains(&key)
        });
        found.map(|(_, (binding, _))| binding.command)
    }

    /// All rows, with how their keys are written; a command without any key is left out.
    pub fn rows(&self) -> impl Iterator<Item = (&Binding, String)> {
        self.rows.iter().filter_map(|(binding, changed)| match changed {
            None => Some((binding, binding.spelling.to_owned())),
            Some(keys) if keys.is_empty() => None,
            Some(keys) => {
                let keys: Vec<String> = keys.iter().map(|key| key.spelled()).collect();
                Some((binding, keys.join(" ")))
            }
        })
    }
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
        KeyCode::Left => Key::Left,
        KeyCode::Right => Key::Right,
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
    fn settings_change_keys_and_mistakes_are_told() {
        let keymap = Keymap::with([("approve", "y Ctrl-a"), ("remove", "a")]).expect("fine");
        let browse = |key| keymap.command_for(Place::Browse, key);
        assert_eq!(browse(Key::Char('y')), Some(Command::Approve));
        assert_eq!(browse(Key::Ctrl('a')), Some(Command::Approve));
        assert_eq!(browse(Key::Char('a')), Some(Command::Remove));
        assert_eq!(browse(Key::Char('r')), None);
        let spelled: Vec<_> = keymap.rows().take(2).map(|(_, spelling)| spelling).collect();
        assert_eq!(spelled, ["y Ctrl-A", "a"]);
        let told = |changes: &[(&'static str, &'static str)]| {
            Keymap::with(changes.iter().copied()).expect_err("a mistake").to_string()
        };
        assert!(told(&[("aprove", "y")]).contains("commands are approve, remove"));
        assert!(told(&[("approve", "yy")]).contains("\"yy\" is no key for approve"));
        assert_eq!(
            told(&[("approve", "e")]),
            "e would mean both approve and escalate; give one of them another key"
        );
        assert_eq!(Keymap::with([]), Ok(Keymap::default()));
    }

    #[test]
    fn every_command_has_a_name_of_its_own() {
        let names: HashSet<_> = names().into_iter().collect();
        assert_eq!(names.len(), KEYS.len());
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
