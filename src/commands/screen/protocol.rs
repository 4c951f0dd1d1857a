//! Which pictures the terminal can show: asked once, before anyone reads keys.

use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use ratatui_image::FontSize;
use ratatui_image::picker::cap_parser::{Parser, QueryStdioOptions, Response};
use ratatui_image::picker::{Picker, ProtocolType};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How long the first frame may wait for the terminal's answer.
const PATIENCE: Duration = Duration::from_millis(250);
/// After this no answer comes any more.
const LATEST: Duration = Duration::from_secs(1);
/// Where the terminal does not say how large its letters are.
const USUAL_FONT: FontSize = FontSize { width: 10, height: 20 };

/// `--pictures`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::commands) enum PictureChoice {
    /// What the terminal says it can.
    Auto,
    /// This way, whatever it says.
    Fixed(ProtocolType),
    /// No pictures.
    Off,
}

impl PictureChoice {
    /// From its checked spelling.
    pub(in crate::commands) fn parse(text: &str) -> Self {
        match text {
            "kitty" => Self::Fixed(ProtocolType::Kitty),
            "sixel" => Self::Fixed(ProtocolType::Sixel),
            "iterm2" => Self::Fixed(ProtocolType::Iterm2),
            "halfblocks" => Self::Fixed(ProtocolType::Halfblocks),
            "off" => Self::Off,
            _ => Self::Auto,
        }
    }
}

/// What came of asking.
#[derive(Debug)]
pub(in crate::commands) struct Found {
    /// Encodes pictures for this terminal; none when they are off.
    pub(in crate::commands) picker: Option<Picker>,
    /// The terminal was asked then and has not finished its answer.
    pub(in crate::commands) unanswered_since: Option<Instant>,
}

/// Asks the terminal, unless the answer would change nothing. It must be in raw mode.
pub(in crate::commands) fn ask(choice: PictureChoice) -> Found {
    match choice {
        PictureChoice::Off => Found { picker: None, unanswered_since: None },
        PictureChoice::Fixed(ProtocolType::Halfblocks) => {
            Found { picker: Some(Picker::halfblocks()), unanswered_since: None }
        }
        PictureChoice::Auto => query(None),
        PictureChoice::Fixed(protocol) => query(Some(protocol)),
    }
}

/// Asks a terminal that is not in raw mode, and waits until no answer can come any more.
pub(in crate::commands) fn ask_in_passing(choice: PictureChoice) -> Option<Picker> {
    crossterm::terminal::enable_raw_mode().ok()?;
    let found = ask(choice);
    if let Some(asked) = found.unanswered_since {
        drop_late_answer(asked);
    }
    crossterm::terminal::disable_raw_mode().ok()?;
    found.picker
}

fn query(fixed: Option<ProtocolType>) -> Found {
    let asked = Instant::now();
    let is_tmux = Picker::halfblocks().tmux_detected();
    let options = QueryStdioOptions {
        // These two answer, but draw the wrong thing; both know the protocol of iTerm2.
        blacklist_protocols: if is_set("WEZTERM_EXECUTABLE") || is_set("KONSOLE_VERSION") {
            vec![ProtocolType::Kitty, ProtocolType::Sixel]
        } else {
            Vec::new()
        },
        ..QueryStdioOptions::default()
    };
    let question = Parser::query(is_tmux, options);
    let mut out = io::stdout();
    let sent = out.write_all(question.as_bytes()).and_then(|()| out.flush());
    let mut answer = Answer::new();
    if sent.is_ok() {
        answer.read_until(asked + PATIENCE);
    }
    let unanswered_since = (sent.is_ok() && !answer.finished).then_some(asked);
    Found { picker: Some(answer.picker(fixed)), unanswered_since }
}

/// The pixels of so many cells.
pub(in crate::commands) fn pixels_of(picker: &Picker, cells: ratatui::layout::Size) -> (u32, u32) {
    let font = picker.font_size();
    let side = |cells: u16, pixels: u16| u32::from(cells) * u32::from(pixels);
    (side(cells.width, font.width), side(cells.height, font.height))
}

/// What the protocol is called in the settings.
pub(in crate::commands) fn name(picker: &Picker) -> &'static str {
    match picker.protocol_type() {
        ProtocolType::Kitty => "kitty",
        ProtocolType::Sixel => "sixel",
        ProtocolType::Iterm2 => "iterm2",
        ProtocolType::Halfblocks => "halfblocks",
    }
}

/// Throws input away until the terminal has answered after all, or can't be expected to.
pub(in crate::commands) fn drop_late_answer(asked: Instant) {
    Answer::new().read_until(asked + LATEST);
}

fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| !value.is_empty())
}

/// The terminal's answer as far as it came.
struct Answer {
    parser: Parser,
    responses: Vec<Response>,
    finished: bool,
}

impl Answer {
    fn new() -> Self {
        Self { parser: Parser::new(), responses: Vec::new(), finished: false }
    }

    fn read_until(&mut self, deadline: Instant) {
        let stdin = io::stdin();
        let mut bytes = [0; 256];
        while !self.finished {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(timeout) = Timespec::try_from(left) else { return };
            let mut waiting = [PollFd::new(&stdin, PollFlags::IN)];
            match poll(&mut waiting, Some(&timeout)) {
                Ok(0) => return,
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => return,
            }
            // Not through `Stdin`, whose buffer would keep what the key reader needs.
            match rustix::io::read(&stdin, &mut bytes) {
                Ok(0) | Err(_) => return,
                Ok(count) => self.take(&bytes[..count]),
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let responses = self.parser.push(char::from(*byte));
            self.finished |= responses.contains(&Response::Status);
            self.responses.extend(responses);
        }
    }

    fn picker(&self, fixed: Option<ProtocolType>) -> Picker {
        let told = self.responses.iter().find_map(|response| match response {
            Response::CellSize(Some((width, height))) if *width > 0 && *height > 0 => {
                Some(FontSize { width: *width, height: *height })
            }
            _ => None,
        });
        let Some(font) = told.or_else(font_of_window) else {
            // Without the size of a letter, only half blocks land where they should.
            let mut picker = with_font(USUAL_FONT);
            picker.set_protocol_type(fixed.unwrap_or(ProtocolType::Halfblocks));
            return picker;
        };
        let mut picker = with_font(font);
        let protocol = if self.responses.contains(&Response::Kitty) {
            ProtocolType::Kitty
        } else if self.responses.contains(&Response::Sixel) {
            ProtocolType::Sixel
        } else {
            // What the environment says: iTerm2 and its like don't answer.
            picker.protocol_type()
        };
        picker.set_protocol_type(fixed.unwrap_or(protocol));
        picker
    }
}

#[expect(deprecated, reason = "the other constructor reads standard input beyond its time-out")]
fn with_font(font: FontSize) -> Picker {
    Picker::from_fontsize(font)
}

/// From the window's size in pixels, where the kernel knows it.
fn font_of_window() -> Option<FontSize> {
    let window = crossterm::terminal::window_size().ok()?;
    let width = window.width.checked_div(window.columns)?;
    let height = window.height.checked_div(window.rows)?;
    (width > 0 && height > 0).then_some(FontSize { width, height })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(bytes: &[u8]) -> Answer {
        let mut answer = Answer::new();
        answer.take(bytes);
        answer
    }

    #[test]
    fn a_terminal_that_knows_kitty_gets_kitty() {
        let answer = answered(b"\x1b_Gi=31;OK\x1b\\\x1b[?62;4c\x1b[6;18;9t\x1b[0n");
        assert!(answer.finished);
        let picker = answer.picker(None);
        assert_eq!(picker.protocol_type(), ProtocolType::Kitty);
        assert_eq!((picker.font_size().width, picker.font_size().height), (9, 18));
    }

    #[test]
    fn a_terminal_that_knows_sixel_gets_sixel_unless_told_otherwise() {
        let answer = answered(b"\x1b[?62;4c\x1b[6;18;9t\x1b[0n");
        assert_eq!(answer.picker(None).protocol_type(), ProtocolType::Sixel);
        let fixed = answer.picker(Some(ProtocolType::Iterm2));
        assert_eq!(fixed.protocol_type(), ProtocolType::Iterm2);
    }

    #[test]
    fn half_an_answer_is_not_finished() {
        assert!(!answered(b"\x1b[?62;4c\x1b[6;18").finished);
    }

    #[test]
    fn every_spelling_of_the_settings_is_known() {
        let choices: Vec<_> =
            crate::config::PICTURES.iter().map(|spelling| PictureChoice::parse(spelling)).collect();
        for (index, choice) in choices.iter().enumerate() {
            assert!(!choices[..index].contains(choice), "{choice:?} twice");
        }
    }
}
