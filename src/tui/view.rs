//! Draws the state, and changes nothing.

mod browse;
mod header;
mod numbers;
mod picture;
mod popup;
mod queue;
mod status;
mod style;
mod text;
mod why;

use ratatui::Frame;
use ratatui::layout::Size;
use ratatui::text::Line;
use ratatui::widgets::Block;
use ratatui_image::protocol::Protocol;

use super::layout::{Layout, SMALLEST};
use super::state::{Mode, RequestId, State};
use style::{Role, style};

pub use browse::{Thumbnails, browse};
pub use text::ago;

/// Where the pixels are: the driver keeps what [`super::Event::PictureReady`] announced.
pub trait PictureSource {
    /// The encoded picture with this number, if it is still kept.
    fn protocol(&mut self, id: RequestId) -> Option<&Protocol>;
}

/// For terminals without pictures, and for tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoPictures;

impl PictureSource for NoPictures {
    fn protocol(&mut self, _: RequestId) -> Option<&Protocol> {
        None
    }
}

/// Draws one frame.
pub fn view(frame: &mut Frame<'_>, state: &State, pictures: &mut dyn PictureSource) {
    let area = frame.area();
    let Layout::Panes(panes) = Layout::of(area.as_size(), state.pictures) else {
        return draw_too_small(frame);
    };
    header::draw(frame, panes.header, state);
    if let Mode::Numbers(page) = &state.mode {
        numbers::draw(frame, panes, state, page);
        status::draw_message(frame, panes.message, state);
        return status::draw_keys(frame, panes.keys, state);
    }
    queue::draw(frame, panes.queue, state);
    if panes.picture.height > 0 {
        picture::draw(frame, panes.picture, state, pictures);
    }
    why::draw(frame, panes.why, state);
    status::draw_message(frame, panes.message, state);
    status::draw_keys(frame, panes.keys, state);
    match &state.mode {
        Mode::Help { scroll } => popup::draw_help(frame, state, *scroll),
        Mode::Filter(filter) => popup::draw_filter(frame, state, filter),
        Mode::Together(together) => popup::draw_together(frame, state, together),
        Mode::Browse
        | Mode::Note { .. }
        | Mode::Text { .. }
        | Mode::Ask { .. }
        | Mode::Results(_)
        | Mode::Numbers(_) => {}
    }
}

/// How many lines the explanation has at this width.
pub fn why_height(state: &State, width: u16) -> u16 {
    u16::try_from(why::lines(state, width).len()).unwrap_or(u16::MAX)
}

/// How many lines of the list of keys don't fit into a window of this size.
pub fn help_overflow(size: Size) -> u16 {
    popup::help_overflow(size)
}

fn draw_too_small(frame: &mut Frame<'_>) {
    let words = format!("the window is too small: {}×{} needed", SMALLEST.width, SMALLEST.height);
    let area = frame.area();
    let width = usize::from(area.width);
    let mut lines: Vec<Line<'_>> = Vec::new();
    let mut line = String::new();
    for word in words.split(' ') {
        if !line.is_empty()
            && Line::raw(line.as_str()).width() + 1 + Line::raw(word).width() > width
        {
            lines.push(Line::raw(std::mem::take(&mut line)));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(Line::raw(line));
    for (row, line) in area.rows().zip(lines) {
        frame.render_widget(line, row);
    }
}

fn pane<'a>(state: &State, title: Line<'a>) -> Block<'a> {
    Block::bordered().border_style(style(state.theme, Role::Border)).title(title)
}
