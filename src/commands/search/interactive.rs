//! The driver of `tui::browse`: keys, searches and pictures, each on a thread or task of its own.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use anyhow::Context as _;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::layout::{Rect, Size};
use ratatui_image::Resize;
use ratatui_image::picker::Picker;
use ratatui_image::protocol::Protocol;
use tokio::sync::watch;

use crate::commands::find::{Answer, Hit, Searcher, filter_of, formula};
use crate::commands::screen::protocol::{self, PictureChoice};
use crate::commands::screen::terminal::{self, Screen};
use crate::commands::{review, screen};
use crate::moderation::escape::{escape, escape_path};
use crate::moderation::{FoundItem, ItemSet, Side};
use crate::tui::browse::{Browse, BrowseEffect, BrowseEvent, Tile, update};
use crate::tui::view::{self, Thumbnails};
use crate::tui::{Event, Pictures, RequestId, event_for};

use super::print::in_percent;
use super::thumbnails::{CELL, Shown};

/// So many pictures are kept, more than any screen shows.
const KEPT: usize = 400;

/// What holds as long as it is open.
pub(super) struct Terms {
    /// What was typed on the command line.
    pub typed: String,
    /// Restrictions of the command line.
    pub only: Vec<(&'static str, String)>,
    /// The most that are found.
    pub top: usize,
    /// Whether an item may be found.
    pub is_there: fn(&FoundItem) -> bool,
    /// How the terminal is given pictures.
    pub choice: PictureChoice,
}

/// Everything that was found so far, by number.
type Hits = Arc<Mutex<HashMap<i64, Hit>>>;

#[derive(Debug, Clone)]
enum Ask {
    Text(String),
    Like(i64),
}

/// Lets a person search until they take a picture or leave. Answers the path that was taken.
pub(super) async fn run(
    searcher: Searcher,
    shown: Shown,
    terms: Terms,
) -> anyhow::Result<(Searcher, Option<PathBuf>)> {
    let (events, inbox) = mpsc::channel();
    let hits = Hits::default();
    let (questions, asked) = watch::channel(None);
    let choice = terms.choice;
    let typed = terms.typed.clone();
    let answering =
        tokio::spawn(answer_all(searcher, terms, Arc::clone(&hits), events.clone(), asked));
    let screen = Screen::enter().context("can't take the terminal over")?;
    let chosen = tokio::task::block_in_place(|| {
        let found = protocol::ask(choice);
        let pictures = if found.picker.is_some() { Pictures::Shown } else { Pictures::Off };
        let mut gallery = Gallery::open(found.picker, shown, events.clone());
        listen_to_keys(events.clone(), found.unanswered_since);
        let (told, again) = (events.clone(), events.clone());
        terminal::listen_to_signals(
            move || told.send(BrowseEvent::Stop).is_ok(),
            move || again.send(BrowseEvent::Resumed).is_ok(),
        )?;
        let (width, height) = crossterm::terminal::size().unwrap_or((80, 24));
        let size = Size { width, height };
        let mut browse = Browse::new(typed, size, CELL, pictures, review::theme());
        let mut terminal = Terminal::new(CrosstermBackend::new(std::io::stdout()))?;
        let mut next = Some(BrowseEvent::Opened);
        while let Some(event) = next {
            for event in std::iter::once(event).chain(inbox.try_iter().take(64)) {
                for effect in update(&mut browse, event) {
                    match effect {
                        BrowseEffect::Quit => return Ok(None),
                        BrowseEffect::Choose(item) => {
                            return Ok(lock(&hits)
                                .get(&item)
                                .and_then(|hit| hit.item.path.clone()));
                        }
                        BrowseEffect::Suspend => {
                            terminal::suspend();
                            // The loop listens as long as it runs.
                            let _ = events.send(BrowseEvent::Resumed);
                        }
                        BrowseEffect::Redraw => {
                            let size = terminal.size()?;
                            terminal.resize(Rect::new(0, 0, size.width, size.height))?;
                        }
                        BrowseEffect::Search { id, text } => {
                            questions.send_replace(Some((id, Ask::Text(text))));
                        }
                        BrowseEffect::Like { id, item } => {
                            questions.send_replace(Some((id, Ask::Like(item))));
                        }
                        BrowseEffect::Show { items, revealed } => {
                            let hits = lock(&hits);
                            let wanted = items.iter().filter_map(|item| hits.get(item).cloned());
                            gallery.ask(wanted.collect(), revealed);
                        }
                    }
                }
            }
            gallery.take_what_is_made();
            terminal.draw(|frame| view::browse(frame, &browse, &gallery))?;
            next = inbox.recv().ok();
        }
        Ok::<_, anyhow::Error>(None)
    });
    drop(screen);
    // Nothing is asked any more: the task ends after the search that is under way.
    drop(questions);
    let searcher = answering.await.context("the search panicked")?;
    Ok((searcher, chosen?))
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keys until the loop is gone; the thread sleeps in a read that nothing can end.
fn listen_to_keys(events: mpsc::Sender<BrowseEvent>, unanswered_since: Option<std::time::Instant>) {
    std::thread::spawn(move || {
        if let Some(asked) = unanswered_since {
            protocol::drop_late_answer(asked);
        }
        while let Ok(event) = crossterm::event::read() {
            let event = match event_for(&event) {
                Some(Event::Key(key)) => BrowseEvent::Key(key),
                Some(Event::Paste(text)) => BrowseEvent::Paste(text),
                Some(Event::Resized { width, height }) => {
                    BrowseEvent::Resized(Size { width, height })
                }
                _ => continue,
            };
            if events.send(event).is_err() {
                return;
            }
        }
        // The terminal is gone.
        let _ = events.send(BrowseEvent::Stop);
    });
}

/// Answers the latest question, until nobody can ask any more.
async fn answer_all(
    mut searcher: Searcher,
    terms: Terms,
    hits: Hits,
    events: mpsc::Sender<BrowseEvent>,
    mut asked: watch::Receiver<Option<(RequestId, Ask)>>,
) -> Searcher {
    while asked.changed().await.is_ok() {
        let Some((id, ask)) = asked.borrow_and_update().clone() else { continue };
        let event = match answer(&mut searcher, &terms, &hits, &ask, id, &events).await {
            Ok(answer) => {
                let found = tiles(&answer);
                lock(&hits).extend(answer.hits.into_iter().map(|hit| (hit.item.number, hit)));
                let words = match found.len() {
                    0 => format!("none of {} pictures may be found", answer.of),
                    count => format!("{count} of {} pictures", answer.of),
                };
                BrowseEvent::Found { id, tiles: found, words }
            }
            Err(error) => {
                BrowseEvent::Telling { id, words: escape(format!("{error:#}").as_bytes()) }
            }
        };
        if events.send(event).is_err() {
            break;
        }
    }
    searcher
}

async fn answer(
    searcher: &mut Searcher,
    terms: &Terms,
    hits: &Hits,
    ask: &Ask,
    id: RequestId,
    events: &mpsc::Sender<BrowseEvent>,
) -> anyhow::Result<Answer> {
    let (direction, set) = match ask {
        Ask::Text(text) => {
            let formula = formula(text)?;
            anyhow::ensure!(!formula.terms.is_empty(), "type also what to look for");
            let only: Vec<_> = formula.only.iter().chain(&terms.only).cloned().collect();
            let set = searcher.store.items_where(&filter_of(&only)?).await?;
            if !searcher.is_loaded() {
                let words = "loading the model…".to_owned();
                // Nobody is there any more: then nobody wants to know.
                let _ = events.send(BrowseEvent::Telling { id, words });
            }
            (tokio::task::block_in_place(|| searcher.direction(&formula.terms, &[]))?, set)
        }
        Ask::Like(number) => {
            let item = lock(hits).get(number).map(|hit| hit.item.item);
            let item = item.context("it is not there any more")?;
            let views = searcher.store.item_embeddings(item, &searcher.card.fingerprint).await?;
            let view = views.into_iter().next().context("the model has not seen it")?;
            let mut set: ItemSet = searcher.store.items_where(&filter_of(&terms.only)?).await?;
            set.restrict([*number].into_iter().collect(), Side::Outside);
            (view, set)
        }
    };
    searcher.nearest(&direction, set, terms.top, terms.is_there).await
}

fn tiles(answer: &Answer) -> Vec<Tile> {
    let tile = |(place, hit): (usize, &Hit)| {
        let path = hit.item.path.as_deref();
        let name = path.and_then(|path| path.file_name()).unwrap_or_default();
        Tile {
            item: hit.item.number,
            name: escape(name.as_encoded_bytes()),
            path: path.map(escape_path).unwrap_or_default(),
            rank: format!(
                "{}  {:.3}  {}",
                place + 1,
                hit.score,
                in_percent(hit.percentile(answer.of))
            ),
        }
    };
    answer.hits.iter().enumerate().map(tile).collect()
}

/// A picture as the terminal is given it, or why there is none.
type Made = Result<Protocol, String>;

/// The pictures of the grid.
struct Gallery {
    requests: Option<mpsc::Sender<(Vec<Hit>, bool)>>,
    finished: mpsc::Receiver<(i64, bool, Made)>,
    made: HashMap<i64, Made>,
    revealed: bool,
}

impl Gallery {
    fn open(picker: Option<Picker>, shown: Shown, events: mpsc::Sender<BrowseEvent>) -> Self {
        let (hang_up, finished) = mpsc::channel();
        let requests = picker.map(|picker| {
            let (sender, requests) = mpsc::channel();
            std::thread::spawn(move || make_all(&requests, &picker, shown, &hang_up, &events));
            sender
        });
        Self { requests, finished, made: HashMap::new(), revealed: false }
    }

    fn ask(&mut self, mut hits: Vec<Hit>, revealed: bool) {
        if self.revealed != revealed || self.made.len() > KEPT {
            self.made.clear();
        }
        self.revealed = revealed;
        hits.retain(|hit| !self.made.contains_key(&hit.item.number));
        if let Some(requests) = &self.requests {
            // The thread lives as long as this sender.
            let _ = requests.send((hits, revealed));
        }
    }

    fn take_what_is_made(&mut self) {
        for (item, revealed, made) in self.finished.try_iter() {
            if revealed == self.revealed {
                self.made.insert(item, made);
            }
        }
    }
}

impl Thumbnails for Gallery {
    fn thumbnail(&self, item: i64) -> Option<Result<&Protocol, &str>> {
        self.made.get(&item).map(|made| made.as_ref().map_err(String::as_str))
    }
}

/// Makes what was asked for last, one after the other.
fn make_all(
    requests: &mpsc::Receiver<(Vec<Hit>, bool)>,
    picker: &Picker,
    mut shown: Shown,
    finished: &mpsc::Sender<(i64, bool, Made)>,
    events: &mpsc::Sender<BrowseEvent>,
) {
    let always = shown.reveal;
    while let Ok(first) = requests.recv() {
        let mut wanted = first;
        'again: loop {
            let (hits, revealed) = std::mem::take(&mut wanted);
            shown.reveal = always || revealed;
            for hit in hits {
                if let Some(later) = requests.try_iter().last() {
                    wanted = later;
                    continue 'again;
                }
                let made = made(&hit, &shown, picker);
                let sent = finished.send((hit.item.number, revealed, made)).is_ok();
                if !sent || events.send(BrowseEvent::Drawn).is_err() {
                    return;
                }
            }
            break;
        }
    }
}

fn made(hit: &Hit, shown: &Shown, picker: &Picker) -> Made {
    let (width, height) = screen::protocol::pixels_of(picker, CELL);
    let picture = shown.pixels(hit, width, height)?;
    let made = picker.new_protocol(picture.into(), CELL, Resize::Fit(None));
    made.map_err(|error| error.to_string())
}
