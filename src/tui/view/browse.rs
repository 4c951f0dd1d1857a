//! The grid of an interactive search.

use ratatui::Frame;
use ratatui::layout::{Rect, Size};
use ratatui::text::Line;
use ratatui_image::Image;
use ratatui_image::protocol::Protocol;

use crate::moderation::escape::escape;
use crate::tui::browse::{Browse, FRAME, GAP};
use crate::tui::state::Pictures;

use super::style::{Role, style};
use super::text::{fit_end, fit_middle, width as cells};

/// Where the grid's pictures are.
pub trait Thumbnails {
    /// The picture of an item, or why there is none; `None` while it is being made.
    fn thumbnail(&self, item: i64) -> Option<Result<&Protocol, &str>>;
}

/// Draws everything.
pub fn browse(frame: &mut Frame<'_>, browse: &Browse, thumbnails: &dyn Thumbnails) {
    let Size { width, height } = browse.size;
    let area = frame.area().intersection(Rect { x: 0, y: 0, width, height });
    if area.height == 0 {
        return;
    }
    draw_typed(frame, Rect { height: 1, ..area }, browse);
    for index in browse.visible() {
        let place = |part: usize| u16::try_from(part).unwrap_or(u16::MAX);
        let (row, column) = (place(index / browse.columns()), place(index % browse.columns()));
        let row = row - place(browse.top);
        let x = area.x + column * (browse.cell.width + GAP);
        let y = area.y + 1 + row * browse.tile_height();
        let room = Rect { x, y, width: browse.cell.width, height: browse.tile_height() };
        draw_tile(frame, room.intersection(area), browse, index, thumbnails);
    }
    if area.height >= FRAME {
        let line = |up: u16| Rect { y: area.bottom() - up, height: 1, ..area };
        let path = browse.tiles.get(browse.selected).map_or("", |tile| tile.path.as_str());
        let path = format!(" {}", fit_middle(path, usize::from(area.width).saturating_sub(1)));
        frame.render_widget(Line::styled(path, style(browse.theme, Role::Title)), line(2));
        let keys = format!(
            " Enter takes it · arrows move · Tab more like it · Ctrl-R {} · Esc ends",
            if browse.revealed { "hides" } else { "reveals" }
        );
        let keys = fit_end(&keys, area.width.into());
        frame.render_widget(Line::styled(keys, style(browse.theme, Role::Dim)), line(1));
    }
}

/// What is typed, with its end in sight, and how the search is.
fn draw_typed(frame: &mut Frame<'_>, area: Rect, browse: &Browse) {
    let typed = match &browse.like {
        Some(name) => format!(" like {name} · "),
        None => " search: ".to_owned(),
    };
    let room = usize::from(area.width);
    let message = fit_end(&browse.message, room / 2);
    let left = room.saturating_sub(cells(&typed) + cells(&message) + 3);
    let mut text = escape(browse.text.as_bytes());
    while cells(&text) > left && !text.is_empty() {
        text.remove(0);
    }
    let line = format!("{typed}{text}");
    let cursor = u16::try_from(cells(&line)).unwrap_or(area.width);
    frame.render_widget(Line::styled(line, style(browse.theme, Role::Title)), area);
    let message = Line::styled(format!("{message} "), style(browse.theme, Role::Dim));
    frame.render_widget(message.right_aligned(), area);
    frame.set_cursor_position((area.x + cursor.min(area.width.saturating_sub(1)), area.y));
}

fn draw_tile(
    frame: &mut Frame<'_>,
    area: Rect,
    browse: &Browse,
    index: usize,
    thumbnails: &dyn Thumbnails,
) {
    let Some(tile) = browse.tiles.get(index) else { return };
    let mut y = area.y;
    if browse.pictures == Pictures::Shown {
        let room = Rect { height: browse.cell.height.min(area.height), ..area };
        match thumbnails.thumbnail(tile.item) {
            Some(Ok(protocol)) => frame.render_widget(Image::new(protocol), room),
            Some(Err(why)) => {
                let why = fit_end(&format!("[{why}]"), area.width.into());
                let line = Line::styled(why, style(browse.theme, Role::Dim));
                frame.render_widget(line, Rect { height: 1.min(room.height), ..room });
            }
            None => {
                frame.render_widget(Line::raw("…"), Rect { height: 1.min(room.height), ..room });
            }
        }
        y += browse.cell.height;
    }
    let selected = index == browse.selected;
    let role = if selected { Role::Selected } else { Role::Dim };
    let mark = if selected { ">" } else { " " };
    for text in [format!("{mark}{}", tile.rank), format!("{mark}{}", tile.name)] {
        if y < area.bottom() {
            let line =
                Line::styled(fit_middle(&text, area.width.into()), style(browse.theme, role));
            frame.render_widget(line, Rect { y, height: 1, ..area });
        }
        y += 1;
    }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::tui::browse::fixtures::{found, open, press};
    use crate::tui::browse::{BrowseEvent, update};

    struct NoThumbnails;

    impl Thumbnails for NoThumbnails {
        fn thumbnail(&self, item: i64) -> Option<Result<&Protocol, &str>> {
            (item == 2).then_some(Err("hidden"))
        }
    }

    #[test]
    fn it_is_drawn_at_every_size() {
        let mut browse = open();
        press(&mut browse, "a red car");
        found(&mut browse, 9, 20);
        for (width, height) in [(80, 24), (120, 40), (200, 60), (20, 6), (5, 2), (1, 1)] {
            update(&mut browse, BrowseEvent::Resized(Size::new(width, height)));
            let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a screen");
            terminal.draw(|frame| super::browse(frame, &browse, &NoThumbnails)).expect("drawn");
            let text = terminal.backend().to_string();
            if width >= 80 {
                for part in [
                    " search: a red car",
                    "of 9 pictures",
                    ">1.jpg",
                    "[hidden]",
                    "/srv/1.jpg",
                    "Esc ends",
                ] {
                    assert!(text.contains(part), "{part} at {width}x{height}:\n{text}");
                }
            }
        }
    }
}
