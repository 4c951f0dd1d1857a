//! Small pictures of what was found, printed above the table, in whatever way the terminal can.

use std::io::{self, IsTerminal as _, Write};
use std::path::PathBuf;
use std::sync::Arc;

use ratatui::buffer::{Buffer, Cell, CellDiffOption};
use ratatui::layout::{Rect, Size};
use ratatui::style::{Color, Style};
use ratatui::widgets::Widget as _;
use ratatui_image::picker::Picker;
use ratatui_image::{Image, Resize};

use crate::commands::find::{Answer, Hit};
use crate::commands::screen::pixels::{bytes_of, decoded, revealed, uploader_of};
use crate::commands::screen::protocol::{self, PictureChoice};
use crate::moderation::escape::escape;
use crate::moderation::{Action, Outcome};
use crate::pipeline::quarantined_at;
use crate::tui::{KnownPolicy, Reveal};
use crate::vision::DecoderPool;

use super::print::in_percent;

/// Cells of a picture and of the gap beside it.
pub(super) const CELL: Size = Size { width: 24, height: 8 };
const GAP: u16 = 2;
/// Lines below a picture.
const WORDS: u16 = 2;

/// Where pictures lie, how they are decoded, and how much of them may be shown.
pub(super) struct Shown {
    pub decoders: Arc<DecoderPool>,
    pub quarantine: PathBuf,
    /// Whose safe views hold; nothing is hidden in a folder that nobody judged.
    pub policies: Vec<KnownPolicy>,
    pub reveal: bool,
}

impl Shown {
    /// How much of a picture is shown: what was flagged or removed as its policy says, nothing
    /// where that is not known; what was approved, and what nothing flagged, in full.
    pub(super) fn step(&self, hit: &Hit) -> Reveal {
        let item = &hit.item;
        let fine = match item.decision {
            Some(Action::Approve) => true,
            Some(Action::Remove | Action::Escalate) => false,
            None => item.outcome.is_none_or(|outcome| outcome == Outcome::Allow),
        };
        if self.reveal || fine {
            return Reveal::Full;
        }
        let policy = item.policy.as_ref().map(|(policy, _)| policy);
        let known = self.policies.iter().find(|known| Some(&known.id) == policy);
        known.map_or(Reveal::Hidden, |known| Reveal::first(known.safe_view))
    }

    /// The words in place of a picture that can't be shown.
    pub(super) fn pixels(
        &self,
        hit: &Hit,
        width: u32,
        height: u32,
    ) -> Result<image::RgbImage, String> {
        let step = self.step(hit);
        if step == Reveal::Hidden {
            return Err("hidden (--reveal)".to_owned());
        }
        let mut paths: Vec<PathBuf> = hit.item.path.iter().cloned().collect();
        paths.push(quarantined_at(&self.quarantine, hit.item.item));
        let bytes = bytes_of(&paths, hit.item.item, self.decoders.limits().file_bytes);
        let uploader = uploader_of(&paths);
        let picture =
            bytes.and_then(|bytes| decoded(&self.decoders, &bytes, width, height, &uploader));
        picture.map(|picture| revealed(picture, step)).map_err(|why| why.to_string())
    }
}

/// How pictures are given to the terminal; `None` where they can't or should not be. `auto` means
/// none where nobody looks.
pub(super) fn picker(choice: PictureChoice) -> Option<Picker> {
    let looked_at = io::stdin().is_terminal() && io::stdout().is_terminal();
    match choice {
        PictureChoice::Off => None,
        PictureChoice::Fixed(kind) if !looked_at => {
            let mut picker = Picker::halfblocks();
            picker.set_protocol_type(kind);
            Some(picker)
        }
        PictureChoice::Auto if !looked_at => None,
        PictureChoice::Auto | PictureChoice::Fixed(_) => protocol::ask_in_passing(choice),
    }
}

/// Prints all pictures in rows as wide as the terminal.
pub(super) fn print(answer: &Answer, shown: &Shown, picker: &Picker) -> io::Result<()> {
    let width = crossterm::terminal::size().map_or(80, |(width, _)| width.max(CELL.width));
    let in_a_row = usize::from((width + GAP) / (CELL.width + GAP)).max(1);
    let mut out = io::stdout().lock();
    for (row, hits) in answer.hits.chunks(in_a_row).enumerate() {
        let count = u16::try_from(hits.len()).unwrap_or(u16::MAX);
        let mut buffer = Buffer::empty(Rect {
            x: 0,
            y: 0,
            width: count * (CELL.width + GAP),
            height: CELL.height + WORDS,
        });
        for (column, hit) in (0..).zip(hits) {
            let place = row * in_a_row + usize::from(column);
            let at = Rect { x: column * (CELL.width + GAP), y: 0, ..Rect::default() };
            let area = Rect { width: CELL.width, height: CELL.height, ..at };
            draw(&mut buffer, area, shown, hit, picker);
            let percent = in_percent(hit.percentile(answer.of));
            let words = format!("{}  {:.3}  {percent}", place + 1, hit.score);
            buffer.set_stringn(at.x, area.height, words, CELL.width.into(), Style::new());
            let name = hit.item.path.as_deref().and_then(|path| path.file_name());
            let name = escape(name.unwrap_or_default().as_encoded_bytes());
            buffer.set_stringn(at.x, area.height + 1, name, CELL.width.into(), Style::new());
        }
        write_buffer(&mut out, &buffer)?;
        writeln!(out)?;
    }
    out.flush()
}

fn draw(buffer: &mut Buffer, area: Rect, shown: &Shown, hit: &Hit, picker: &Picker) {
    let (width, height) = protocol::pixels_of(picker, area.as_size());
    let made = shown.pixels(hit, width, height).and_then(|picture| {
        let size = Size { width: area.width, height: area.height };
        let made = picker.new_protocol(picture.into(), size, Resize::Fit(None));
        made.map_err(|error| error.to_string())
    });
    match made {
        Ok(protocol) => Image::new(&protocol).render(area, buffer),
        Err(why) => {
            let why = escape(why.as_bytes());
            buffer.set_stringn(area.x, area.y, format!("[{why}]"), area.width.into(), Style::new());
        }
    }
}

/// Prints a buffer where the cursor is, line by line, and leaves the cursor below it.
fn write_buffer(out: &mut impl Write, buffer: &Buffer) -> io::Result<()> {
    let Rect { width, height, .. } = buffer.area;
    let is_sequence = |cell: &Cell| cell.symbol().contains('\u{1b}');
    let sequences = buffer.content.iter().any(is_sequence);
    if sequences {
        // Room first: a picture that is drawn at the lower edge would scroll the one beside it.
        write!(out, "{}\u{1b}[{height}A", "\n".repeat(height.into()))?;
    }
    for y in 0..height {
        let mut colours = (Color::Reset, Color::Reset);
        let last = (0..width).rev().find(|x| {
            let cell = &buffer[(*x, y)];
            cell.symbol() != " " || cell.bg != Color::Reset
        });
        let mut skipped = 0;
        for x in 0..last.map_or(0, |last| last + 1) {
            let cell = &buffer[(x, y)];
            if cell.diff_option == CellDiffOption::Skip {
                skipped += 1;
                continue;
            }
            if skipped > 0 {
                write!(out, "\u{1b}[{}C", std::mem::take(&mut skipped))?;
            }
            if colours != (cell.fg, cell.bg) {
                colours = (cell.fg, cell.bg);
                write!(out, "\u{1b}[0m")?;
                write_colour(out, 38, cell.fg)?;
                write_colour(out, 48, cell.bg)?;
            }
            if is_sequence(cell) && !cell.symbol().contains(PLACEHOLDER) {
                // Where the cursor is after a picture, terminals do not agree about.
                write!(out, "\u{1b}7{}\u{1b}8\u{1b}[C", cell.symbol())?;
            } else {
                write!(out, "{}", cell.symbol())?;
            }
        }
        if colours != (Color::Reset, Color::Reset) {
            write!(out, "\u{1b}[0m")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// What kitty shows a picture in place of; each takes one cell.
const PLACEHOLDER: char = '\u{10EEEE}';

fn write_colour(out: &mut impl Write, kind: u8, colour: Color) -> io::Result<()> {
    match colour {
        Color::Rgb(red, green, blue) => write!(out, "\u{1b}[{kind};2;{red};{green};{blue}m"),
        Color::Indexed(number) => write!(out, "\u{1b}[{kind};5;{number}m"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use ratatui_image::picker::ProtocolType;

    use super::*;

    fn printed(kind: ProtocolType) -> String {
        let mut picker = Picker::halfblocks();
        picker.set_protocol_type(kind);
        let size = Size { width: 4, height: 2 };
        let pixels = image::RgbImage::from_pixel(40, 40, image::Rgb([200, 30, 10]));
        let made = picker.new_protocol(pixels.into(), size, Resize::Fit(None)).expect("is made");
        let mut buffer = Buffer::empty(Rect::new(0, 0, 12, 3));
        Image::new(&made).render(Rect::new(0, 0, 4, 2), &mut buffer);
        buffer.set_stringn(6, 0, "beside", 6, Style::new());
        buffer.set_stringn(0, 2, "below", 6, Style::new());
        let mut out = Vec::new();
        write_buffer(&mut out, &buffer).expect("a vector takes every write");
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn every_terminal_gets_what_it_can_show() {
        let half = printed(ProtocolType::Halfblocks);
        assert!(
            half.contains("\u{1b}[48;2;200;30;10m") || half.contains("38;2;200;30;10"),
            "{half:?}"
        );
        assert_eq!(half.lines().count(), 3);
        let kitty = printed(ProtocolType::Kitty);
        assert!(kitty.contains("\u{1b}_G") && kitty.contains(PLACEHOLDER), "{kitty:?}");
        let sixel = printed(ProtocolType::Sixel);
        assert!(sixel.contains("\u{1b}P") && sixel.contains("\u{1b}8"), "{sixel:?}");
        let iterm = printed(ProtocolType::Iterm2);
        assert!(iterm.contains("\u{1b}]1337;File=inline=1"), "{iterm:?}");
        for all in [half, kitty, sixel, iterm] {
            assert!(all.contains("beside") && all.contains("below") && all.ends_with('\n'));
        }
    }

    #[test]
    fn half_blocks_stand_where_they_should_on_a_real_screen() {
        let text = printed(ProtocolType::Halfblocks).replace('\n', "\r\n");
        let mut screen = vt100::Parser::new(
            std::num::NonZero::new(6).expect("6"),
            std::num::NonZero::new(20).expect("20"),
            0,
        );
        screen.process(text.as_bytes());
        let contents = screen.screen().contents();
        let lines: Vec<_> = contents.lines().collect();
        assert!(lines[0].ends_with("  beside"), "{lines:?}");
        assert_eq!(lines[2], "below");
    }
}
