//! `modtool search --interactive`: type, and see the grid of pictures change.
//!
//! In the manner of the dashboard: [`update`] alone changes [`Browse`], `view::browse` alone draws it,
//! slow work leaves as an effect with a number.

use ratatui::layout::Size;

use super::keymap::Key;
use super::state::{Pictures, RequestId, Theme};

/// Lines below a picture, the empty one included.
const WORDS: u16 = 3;
/// Columns between pictures.
pub(super) const GAP: u16 = 2;
/// Lines that are no grid: what is typed, what is selected, the keys.
pub(super) const FRAME: u16 = 3;
/// While nothing is typed.
const INVITATION: &str = "type what to look for";
/// Characters of a description, at most.
const LONGEST: usize = 500;

/// What is on the screen.
#[derive(Debug, Clone, PartialEq)]
pub struct Browse {
    /// What was typed so far.
    pub text: String,
    /// What was searched for last is a picture of this name.
    pub like: Option<String>,
    /// What was found, the most similar first.
    pub tiles: Vec<Tile>,
    /// Index of the selected one.
    pub selected: usize,
    /// How much of flagged pictures is shown.
    pub revealed: bool,
    /// What the driver is doing, or what went wrong.
    pub message: String,
    /// The window.
    pub size: Size,
    /// Cells of a picture.
    pub cell: Size,
    /// Whether there are pictures at all.
    pub pictures: Pictures,
    /// How it looks.
    pub theme: Theme,
    last: u64,
    /// The search that is on its way.
    waiting: Option<RequestId>,
    /// Row of the grid at the upper edge.
    pub(super) top: usize,
}

/// One picture of the grid, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tile {
    /// The store's number of the item.
    pub item: i64,
    /// The file's name, safe to print.
    pub name: String,
    /// The path, safe to print.
    pub path: String,
    /// Place, score, percentile.
    pub rank: String,
}

/// What happens.
#[derive(Debug, Clone, PartialEq)]
pub enum BrowseEvent {
    /// It opens.
    Opened,
    /// A key was pressed.
    Key(Key),
    /// Text was pasted.
    Paste(String),
    /// The window has this size now.
    Resized(Size),
    /// The terminal is ours again after a stop.
    Resumed,
    /// A picture of the grid is there, or is known not to come.
    Drawn,
    /// How far a search is.
    Telling {
        /// The request.
        id: RequestId,
        /// In words.
        words: String,
    },
    /// A search is over.
    Found {
        /// The request.
        id: RequestId,
        /// The most similar first.
        tiles: Vec<Tile>,
        /// What there is to say about it.
        words: String,
    },
    /// Someone asked the program to end.
    Stop,
}

/// What the driver should do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BrowseEffect {
    /// End without a choice.
    Quit,
    /// End and print the path of this item.
    Choose(i64),
    /// Give the terminal back and stop, then send [`BrowseEvent::Resumed`].
    Suspend,
    /// Clear the screen before the next draw.
    Redraw,
    /// Search; a later one makes an unfinished one moot. Answer with [`BrowseEvent::Found`].
    Search {
        /// The request.
        id: RequestId,
        /// As typed.
        text: String,
    },
    /// Search for what is like this item.
    Like {
        /// The request.
        id: RequestId,
        /// Its number.
        item: i64,
    },
    /// Make pictures of these, in this order; what was asked for before is moot. Answer each with
    /// [`BrowseEvent::Drawn`].
    Show {
        /// Numbers of items.
        items: Vec<i64>,
        /// In full, or as safe views say.
        revealed: bool,
    },
}

impl Browse {
    /// With what was typed on the command line.
    pub fn new(text: String, size: Size, cell: Size, pictures: Pictures, theme: Theme) -> Self {
        Self {
            text,
            like: None,
            tiles: Vec::new(),
            selected: 0,
            revealed: false,
            message: INVITATION.to_owned(),
            size,
            cell,
            pictures,
            theme,
            last: 0,
            waiting: None,
            top: 0,
        }
    }

    /// Pictures side by side.
    pub(super) fn columns(&self) -> usize {
        usize::from((self.size.width + GAP) / (self.cell.width + GAP)).max(1)
    }

    pub(super) fn tile_height(&self) -> u16 {
        if self.pictures == Pictures::Shown { self.cell.height + WORDS } else { WORDS }
    }

    /// Rows of pictures on the screen.
    fn rows(&self) -> usize {
        usize::from(self.size.height.saturating_sub(FRAME) / self.tile_height()).max(1)
    }

    /// Indices of what is on the screen.
    pub(super) fn visible(&self) -> std::ops::Range<usize> {
        let first = self.top * self.columns();
        first.min(self.tiles.len())..(first + self.rows() * self.columns()).min(self.tiles.len())
    }

    fn next_request(&mut self) -> RequestId {
        self.last += 1;
        let id = RequestId(self.last);
        self.waiting = Some(id);
        id
    }

    fn search(&mut self) -> Vec<BrowseEffect> {
        self.like = None;
        if self.text.trim().is_empty() {
            self.waiting = None;
            self.tiles.clear();
            INVITATION.clone_into(&mut self.message);
            return Vec::new();
        }
        let id = self.next_request();
        vec![BrowseEffect::Search { id, text: self.text.clone() }]
    }

    fn show(&self) -> Vec<BrowseEffect> {
        if self.pictures == Pictures::Off || self.tiles.is_empty() {
            return Vec::new();
        }
        let items = self.tiles[self.visible()].iter().map(|tile| tile.item).collect();
        vec![BrowseEffect::Show { items, revealed: self.revealed }]
    }

    /// Selects, and follows the selection with the window.
    fn select(&mut self, index: usize) -> Vec<BrowseEffect> {
        self.selected = index.min(self.tiles.len().saturating_sub(1));
        let (row, before) = (self.selected / self.columns(), self.top);
        self.top = self.top.clamp((row + 1).saturating_sub(self.rows()), row);
        if self.top == before { Vec::new() } else { self.show() }
    }
}

/// What an event changes, and what is to be done.
pub fn update(browse: &mut Browse, event: BrowseEvent) -> Vec<BrowseEffect> {
    match event {
        BrowseEvent::Opened => browse.search(),
        BrowseEvent::Key(key) => pressed(browse, key),
        BrowseEvent::Paste(text) => {
            let text: String = text.chars().filter(|one| !one.is_control()).collect();
            browse.text.push_str(&text);
            browse.text = browse.text.chars().take(LONGEST).collect();
            browse.search()
        }
        BrowseEvent::Resized(size) => {
            browse.size = size;
            browse.top = 0;
            browse.select(browse.selected);
            browse.show()
        }
        BrowseEvent::Resumed => vec![BrowseEffect::Redraw],
        BrowseEvent::Drawn => Vec::new(),
        BrowseEvent::Telling { id, words } => {
            if browse.waiting == Some(id) {
                browse.message = words;
            }
            Vec::new()
        }
        BrowseEvent::Found { id, tiles, words } => {
            if browse.waiting != Some(id) {
                return Vec::new();
            }
            browse.waiting = None;
            (browse.tiles, browse.message) = (tiles, words);
            (browse.selected, browse.top) = (0, 0);
            browse.show()
        }
        BrowseEvent::Stop => vec![BrowseEffect::Quit],
    }
}

fn pressed(browse: &mut Browse, key: Key) -> Vec<BrowseEffect> {
    let (columns, selected) = (browse.columns(), browse.selected);
    let page = columns * browse.rows();
    match key {
        Key::Char(character) => {
            if browse.text.chars().count() < LONGEST {
                browse.text.push(character);
            }
            browse.search()
        }
        Key::Backspace => {
            if browse.text.pop().is_none() {
                return Vec::new();
            }
            browse.search()
        }
        Key::Ctrl('u') => {
            browse.text.clear();
            browse.search()
        }
        Key::Ctrl('w') => {
            let kept = browse.text.trim_end();
            let end = kept.rfind(char::is_whitespace).map_or(0, |space| space + 1);
            browse.text.truncate(end);
            browse.search()
        }
        Key::Right => browse.select(selected + 1),
        Key::Left => browse.select(selected.saturating_sub(1)),
        Key::Down if selected + columns >= browse.tiles.len() => browse.select(selected),
        Key::Down => browse.select(selected + columns),
        Key::Up if selected < columns => Vec::new(),
        Key::Up => browse.select(selected - columns),
        Key::PageDown => browse.select(selected + page),
        Key::PageUp => browse.select(selected.saturating_sub(page)),
        Key::Home => browse.select(0),
        Key::End => browse.select(usize::MAX),
        Key::Tab => match browse.tiles.get(selected) {
            Some(tile) => {
                let item = tile.item;
                browse.like = Some(tile.name.clone());
                vec![BrowseEffect::Like { id: browse.next_request(), item }]
            }
            None => Vec::new(),
        },
        Key::BackTab => browse.search(),
        Key::Ctrl('r') => {
            browse.revealed = !browse.revealed;
            browse.show()
        }
        Key::Enter => match browse.tiles.get(selected) {
            // What is about to change is not taken by mistake.
            Some(tile) if browse.waiting.is_none() => vec![BrowseEffect::Choose(tile.item)],
            _ => Vec::new(),
        },
        Key::Esc | Key::Ctrl('c' | 'd') => vec![BrowseEffect::Quit],
        Key::Ctrl('z') => vec![BrowseEffect::Suspend],
        Key::Ctrl('l') => vec![BrowseEffect::Redraw],
        Key::Ctrl(_) => Vec::new(),
    }
}

#[cfg(test)]
pub(super) mod fixtures {
    //! A grid of pictures for the tests of what it does and of how it looks.

    use super::*;

    pub(in crate::tui) fn open() -> Browse {
        let (size, cell) = (Size::new(80, 24), Size::new(24, 6));
        Browse::new(String::new(), size, cell, Pictures::Shown, Theme::Plain)
    }

    fn tiles(count: i64) -> Vec<Tile> {
        let tile = |item| Tile {
            item,
            name: format!("{item}.jpg"),
            path: format!("/srv/{item}.jpg"),
            rank: format!("{item}  0.300  99.0 %"),
        };
        (1..=count).map(tile).collect()
    }

    pub(in crate::tui) fn press(browse: &mut Browse, keys: &str) -> Vec<BrowseEffect> {
        let mut effects = Vec::new();
        for key in keys.chars() {
            effects.extend(update(browse, BrowseEvent::Key(Key::Char(key))));
        }
        effects
    }

    pub(in crate::tui) fn found(browse: &mut Browse, id: u64, count: i64) -> Vec<BrowseEffect> {
        let words = "of 9 pictures".to_owned();
        let event = BrowseEvent::Found { id: RequestId(id), tiles: tiles(count), words };
        update(browse, event)
    }
}

#[cfg(test)]
mod tests {
    use super::fixtures::{found, open, press};
    use super::*;

    #[test]
    fn every_letter_searches_and_only_the_latest_answer_counts() {
        let mut browse = open();
        assert_eq!(update(&mut browse, BrowseEvent::Opened), []);
        let effects = press(&mut browse, "ox");
        let search = |id, text: &str| BrowseEffect::Search { id: RequestId(id), text: text.into() };
        assert_eq!(effects, [search(1, "o"), search(2, "ox")]);
        assert_eq!(found(&mut browse, 1, 5), [], "moot");
        assert!(browse.tiles.is_empty());
        let shown = BrowseEffect::Show { items: (1..=6).collect(), revealed: false };
        assert_eq!(found(&mut browse, 2, 20), [shown]);
        let effects = update(&mut browse, BrowseEvent::Key(Key::Backspace));
        assert_eq!(effects, [search(3, "o")]);
        assert_eq!(update(&mut browse, BrowseEvent::Key(Key::Ctrl('u'))), []);
        assert!(browse.tiles.is_empty() && browse.text.is_empty());
        assert_eq!(found(&mut browse, 3, 5), [], "nothing is asked any more");
        press(&mut browse, "a b");
        update(&mut browse, BrowseEvent::Key(Key::Ctrl('w')));
        update(&mut browse, BrowseEvent::Paste("c\u{1b}\n d".to_owned()));
        assert_eq!(browse.text, "a c d");
    }

    #[test]
    fn the_selection_moves_through_the_grid_and_the_window_follows() {
        let mut browse = open();
        press(&mut browse, "o");
        found(&mut browse, 1, 20);
        let mut key = |key| {
            let effects = update(&mut browse, BrowseEvent::Key(key));
            (browse.selected, effects)
        };
        assert_eq!(key(Key::Right), (1, vec![]));
        assert_eq!(key(Key::Up), (1, vec![]));
        assert_eq!(key(Key::Down), (4, vec![]));
        let shown =
            |from: i64| BrowseEffect::Show { items: (from..from + 6).collect(), revealed: false };
        assert_eq!(key(Key::Down), (7, vec![shown(4)]));
        let last = BrowseEffect::Show { items: (16..=20).collect(), revealed: false };
        assert_eq!(key(Key::End), (19, vec![last]));
        assert_eq!(key(Key::Down).0, 19);
        assert_eq!(key(Key::PageUp).0, 13);
        assert_eq!(key(Key::Home), (0, vec![shown(1)]));
        assert_eq!(key(Key::Enter).1, [BrowseEffect::Choose(1)]);
        assert_eq!(key(Key::Tab).1, [BrowseEffect::Like { id: RequestId(2), item: 1 }]);
        assert_eq!(key(Key::Enter).1, [], "it is about to change");
        let revealed = BrowseEffect::Show { items: (1..=6).collect(), revealed: true };
        assert_eq!(key(Key::Ctrl('r')).1, [revealed]);
        assert_eq!(key(Key::Esc).1, [BrowseEffect::Quit]);
    }
}
