//! Text that fits: cut by the width it has on the screen, never in the middle of a character.

use std::path::Path;

use ratatui::style::Style;
use ratatui::text::Span;

use crate::moderation::Timestamp;
use crate::moderation::escape::escape;

const ELLIPSIS: &str = "…";

/// How many cells the text takes.
pub(super) fn width(text: &str) -> usize {
    Span::raw(text).width()
}

/// The file's name, safe to print.
pub(super) fn file_name(path: &Path) -> String {
    escape(path.file_name().unwrap_or(path.as_os_str()).as_encoded_bytes())
}

/// Cuts the end off with `…` where the text is wider than `cells`.
pub(super) fn fit_end(text: &str, cells: usize) -> String {
    if width(text) <= cells {
        return text.to_owned();
    }
    if cells == 0 {
        return String::new();
    }
    take(text, cells - 1) + ELLIPSIS
}

/// Cuts the middle out with `…`, so that a name keeps its beginning and its extension.
pub(super) fn fit_middle(text: &str, cells: usize) -> String {
    if width(text) <= cells {
        return text.to_owned();
    }
    if cells < 4 {
        return fit_end(text, cells);
    }
    let extension = text.rfind('.').map_or("", |dot| &text[dot..]);
    let room = cells - 1;
    // A short extension is kept whole, with three characters before it where there is room.
    let tail = (width(extension) + 3).clamp(room / 3, (room * 2 / 3).max(1));
    let end = take_back(text, tail);
    let beginning = take(text, room - width(&end));
    beginning + ELLIPSIS + &end
}

/// Fills up with spaces on the right; a text that is too wide is cut at its end.
pub(super) fn padded(text: &str, cells: usize) -> String {
    let fitted = fit_end(text, cells);
    let missing = cells - width(&fitted);
    fitted + &" ".repeat(missing)
}

fn take(text: &str, cells: usize) -> String {
    let mut room = cells;
    let span = Span::raw(text);
    span.styled_graphemes(Style::new())
        .map(|grapheme| grapheme.symbol)
        .take_while(|symbol| match room.checked_sub(width(symbol)) {
            Some(rest) => {
                room = rest;
                true
            }
            None => false,
        })
        .collect()
}

fn take_back(text: &str, cells: usize) -> String {
    let span = Span::raw(text);
    let symbols: Vec<&str> =
        span.styled_graphemes(Style::new()).map(|grapheme| grapheme.symbol).collect();
    let mut room = cells;
    let mut from = symbols.len();
    while from > 0 {
        let Some(rest) = room.checked_sub(width(symbols[from - 1])) else { break };
        room = rest;
        from -= 1;
    }
    symbols[from..].concat()
}

/// A span of time in words: `2 min`, `3 h`, `5 d`.
pub(super) fn age(now: Timestamp, then: Timestamp) -> String {
    let minutes = now.0.saturating_sub(then.0).max(0) / 60_000;
    match minutes {
        0 => "under 1 min".to_owned(),
        1..60 => format!("{minutes} min"),
        60..1440 => format!("{} h", minutes / 60),
        _ => format!("{} d", minutes / 1440),
    }
}

/// When something was: `just now`, `2 min ago`.
pub fn ago(now: Timestamp, then: Timestamp) -> String {
    if now.0.saturating_sub(then.0) < 60_000 {
        return "just now".to_owned();
    }
    format!("{} ago", age(now, then))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn long_names_keep_their_beginning_and_extension() {
        assert_eq!(fit_middle("IMG_2031.jpg", 12), "IMG_2031.jpg");
        assert_eq!(fit_middle("holiday-in-the-mountains.jpeg", 16), "holiday…ins.jpeg");
        assert_eq!(fit_middle("x.averyveryverylongextension", 10), "x.a…ension");
        assert_eq!(fit_middle("日本語の長い名前です.png", 12), "日本…す.png");
        assert_eq!(fit_middle("abcdef", 3), "ab…");
    }

    #[test]
    fn ends_are_cut_and_padded_by_width() {
        assert_eq!(fit_end("日本語", 5), "日本…");
        assert_eq!(fit_end("日本語", 4), "日…");
        assert_eq!(fit_end("abc", 0), "");
        assert_eq!(padded("日", 4), "日  ");
    }

    #[test]
    fn ages_are_in_one_unit() {
        let age_of = |minutes: i64| age(Timestamp(minutes * 60_000), Timestamp(0));
        assert_eq!(age_of(0), "under 1 min");
        assert_eq!(age_of(59), "59 min");
        assert_eq!(age_of(125), "2 h");
        assert_eq!(age_of(60 * 24 * 3), "3 d");
        assert_eq!(age(Timestamp(0), Timestamp(9_999_999)), "under 1 min", "clocks differ");
        assert_eq!(ago(Timestamp(0), Timestamp(0)), "just now");
        assert_eq!(ago(Timestamp(7_200_000), Timestamp(0)), "2 h ago");
    }

    proptest! {
        #[test]
        fn what_is_cut_fits(text in ".{0,60}", cells in 0_usize..40) {
            let text = escape(text.as_bytes());
            prop_assert!(width(&fit_end(&text, cells)) <= cells);
            prop_assert!(width(&fit_middle(&text, cells)) <= cells);
            prop_assert_eq!(width(&padded(&text, cells)), cells);
        }
    }
}
