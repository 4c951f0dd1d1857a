//! Where everything is on the screen: the one answer for drawing, clicks and picture sizes.

use ratatui::layout::{Rect, Size};

use super::state::Pictures;

/// Smaller windows show one line that says so.
pub const SMALLEST: Size = Size { width: 60, height: 14 };

/// The areas of a window that is large enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Nothing useful fits.
    TooSmall,
    /// The dashboard.
    Panes(Panes),
}

/// The dashboard's areas, borders included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Panes {
    /// One line.
    pub header: Rect,
    /// The list on the left.
    pub queue: Rect,
    /// The picture on the right; empty when pictures are off.
    pub picture: Rect,
    /// The explanation below it.
    pub why: Rect,
    /// One line for messages and what is being typed.
    pub message: Rect,
    /// One line with the keys that work now.
    pub keys: Rect,
}

impl Layout {
    /// The layout of a window.
    pub fn of(size: Size, pictures: Pictures) -> Self {
        if size.width < SMALLEST.width || size.height < SMALLEST.height {
            return Self::TooSmall;
        }
        let Size { width, height } = size;
        let body = height - 3;
        let queue_width = (width * 3 / 10).clamp(36, 64).min(width / 2);
        let picture_height = match pictures {
            Pictures::Shown => (body * 6 / 11).min(body - 6),
            Pictures::Off => 0,
        };
        let right = width - queue_width;
        Self::Panes(Panes {
            header: Rect::new(0, 0, width, 1),
            queue: Rect::new(0, 1, queue_width, body),
            picture: Rect::new(queue_width, 1, right, picture_height),
            why: Rect::new(queue_width, 1 + picture_height, right, body - picture_height),
            message: Rect::new(0, height - 2, width, 1),
            keys: Rect::new(0, height - 1, width, 1),
        })
    }

    /// The areas, if the window is large enough.
    pub fn panes(self) -> Option<Panes> {
        match self {
            Self::TooSmall => None,
            Self::Panes(panes) => Some(panes),
        }
    }
}

/// The area within a border of one cell.
pub fn inside(area: Rect) -> Rect {
    if area.width < 2 || area.height < 2 {
        return Rect::new(area.x, area.y, 0, 0);
    }
    Rect::new(area.x + 1, area.y + 1, area.width - 2, area.height - 2)
}
