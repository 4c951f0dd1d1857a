//! The picture on the right, as much of it as the reviewer chose to see.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui_image::Image;

use crate::moderation::escape::escape;
use crate::tui::layout::inside;
use crate::tui::state::{Detail, Mode, Picture, Reveal, State};

use super::PictureSource;
use super::queue::label;
use super::style::{Role, style};
use super::text::{file_name, fit_end, fit_middle, width};

pub(super) fn draw(
    frame: &mut Frame<'_>,
    area: Rect,
    state: &State,
    pictures: &mut dyn PictureSource,
) {
    let path = match &state.mode {
        Mode::Results(_) => state.found().and_then(|found| found.item.path.clone()),
        _ => state.selected().map(|row| row.task.path.clone()),
    };
    let Some(path) = path else {
        return frame.render_widget(super::pane(state, Line::raw(" picture ")), area);
    };
    let step = match &state.heat {
        Some(policy) => format!(" heatmap of {policy}, approximate (h) "),
        None if state.shown().is_some() => safe_view(state.reveal),
        None => String::new(),
    };
    let room = usize::from(area.width).saturating_sub(width(&step) + 5);
    let name = format!(" {} ", fit_middle(&file_name(&path), room));
    let title = Line::styled(name, style(state.theme, Role::Title));
    let pane = super::pane(state, title).title(Line::raw(step).right_aligned());
    frame.render_widget(pane, area);
    let room = inside(area);
    match words(state) {
        Some(lines) => draw_words(frame, room, state, &lines),
        None => draw_pixels(frame, room, state, pictures),
    }
}

fn safe_view(reveal: Reveal) -> String {
    match reveal.next() {
        Some(_) => format!(" safe view: {} (v) ", reveal.as_str()),
        None => format!(" safe view: {} (V hides) ", reveal.as_str()),
    }
}

/// What is said in place of a picture; nothing where there is one.
fn words(state: &State) -> Option<Vec<String>> {
    let results = matches!(state.mode, Mode::Results(_));
    match &state.detail {
        _ if results => {}
        Detail::Nothing | Detail::Failed { .. } => return Some(Vec::new()),
        Detail::Loading { .. } => return Some(vec!["loading…".to_owned()]),
        Detail::Ready(_) => {}
    }
    match &state.picture {
        Picture::Nothing if results => {
            Some(["The picture is hidden.", "v reveals one step"].map(str::to_owned).to_vec())
        }
        Picture::Nothing => {
            let task = &state.selected()?.task;
            let mut lines = vec!["The picture is hidden.".to_owned()];
            match task.score {
                Some(score) => lines.push(format!("{} {score:.2}", label(task))),
                None => lines.push(label(task).to_owned()),
            }
            lines.push("v reveals one step".to_owned());
            Some(lines)
        }
        Picture::Loading { .. } => Some(vec!["loading…".to_owned()]),
        Picture::Failed(why) => {
            Some(vec!["No picture:".to_owned(), escape(why.to_string().as_bytes())])
        }
        Picture::Ready { .. } => None,
    }
}

fn draw_words(frame: &mut Frame<'_>, area: Rect, state: &State, lines: &[String]) {
    let above = usize::from(area.height).saturating_sub(lines.len()) / 2;
    for (row, text) in area.rows().skip(above).zip(lines) {
        let text = fit_end(text, usize::from(area.width));
        frame.render_widget(Line::styled(text, style(state.theme, Role::Dim)).centered(), row);
    }
}

fn draw_pixels(frame: &mut Frame<'_>, area: Rect, state: &State, pictures: &mut dyn PictureSource) {
    // Some protocols paint over whatever text comes later, so a popup has the screen for itself.
    if matches!(state.mode, Mode::Help { .. } | Mode::Filter(_) | Mode::Together(_)) {
        return;
    }
    let Picture::Ready { id, .. } = state.picture else { return };
    let Some(protocol) = pictures.protocol(id) else { return };
    let size = protocol.size();
    let (width, height) = (size.width.min(area.width), size.height.min(area.height));
    let x = area.x + (area.width - width) / 2;
    let y = area.y + (area.height - height) / 2;
    frame.render_widget(Image::new(protocol).allow_clipping(true), Rect::new(x, y, width, height));
}
