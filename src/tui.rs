//! The review dashboard, without the store and without pixels.
//!
//! [`update()`] alone changes the [`State`]; [`view()`] alone draws it. Slow work leaves as an
//! [`Effect`] with a number and comes back as an [`Event`] with the same number. [`run`] is the
//! loop around them: it sleeps until something happens, and draws when something changed.

pub mod browse;
pub mod effect;
pub mod event;
pub mod keymap;
pub mod layout;
pub mod state;
#[cfg(test)]
mod tests;
pub mod update;
pub mod view;

use std::sync::mpsc::Receiver;

use ratatui::Terminal;
use ratatui::backend::Backend;
use ratatui::layout::Rect;

pub use effect::Effect;
pub use event::{Direction, Event};
pub use keymap::{Key, Keymap, event_for};
pub use state::{
    Care, Found, KnownPolicy, NoPicture, Numbers, Opening, Pictures, Query, RequestId, Reveal,
    State, Theme, Watcher, Why,
};
pub use update::update;
pub use view::{NoPictures, PictureSource, view};

/// Events that are taken together before the next draw.
const BATCH: usize = 256;

/// Runs the dashboard until it asks to quit or nobody can send events any more.
///
/// Everything arrives through `events`: keys, the clock, changes of the store, answers. `perform`
/// starts what an effect asks for and must return quickly; `Quit` and `Redraw` don't reach it.
///
/// # Errors
/// What the terminal reports while drawing.
pub fn run<B: Backend>(
    terminal: &mut Terminal<B>,
    state: &mut State,
    events: &Receiver<Event>,
    mut perform: impl FnMut(Effect),
    pictures: &mut dyn PictureSource,
) -> Result<(), B::Error> {
    let mut next = Some(Event::Opened);
    let mut redraw = false;
    while let Some(event) = next {
        let mut changed = false;
        let mut event = Some(event);
        for _ in 0..BATCH {
            let Some(one) = event else { break };
            let effects = update(state, one);
            changed |= state.needs_draw;
            for effect in effects {
                match effect {
                    Effect::Quit => return Ok(()),
                    Effect::Redraw => redraw = true,
                    other => perform(other),
                }
            }
            event = events.try_recv().ok();
        }
        if !state.suspended {
            if std::mem::take(&mut redraw) {
                // `Terminal::clear` asks the terminal where the cursor is, and the answer would
                // land among the keys; a resize to the same size clears without asking.
                let size = terminal.size()?;
                terminal.resize(Rect::new(0, 0, size.width, size.height))?;
            }
            if changed {
                terminal.draw(|frame| view(frame, state, pictures))?;
            }
        }
        next = event.or_else(|| events.recv().ok());
    }
    Ok(())
}
