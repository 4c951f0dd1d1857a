//! Makes text that an uploader chose safe for terminals and logs.
//!
//! One function for the screen, the tables and the logs; JSON has its own reversible escapes.

use std::fmt::Write as _;
use std::path::Path;

/// Text in which nothing can move the cursor, change colours, reverse the reading order or hide:
/// C0 and C1 controls, DEL, bidirectional controls, zero-width and other invisible characters
/// appear as `\u{…}` (or `\n`, `\t`, `\r`), invalid UTF-8 as `\xNN`, a backslash as `\\`.
///
/// The same set is escaped wherever the tool prints; see promise P9.
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => out.push_str("\\\\"),
                '\n' | '\r' | '\t' => out.extend(character.escape_default()),
                _ if is_unprintable(character) => out.extend(character.escape_unicode()),
                _ => out.push(character),
            }
        }
        for byte in chunk.invalid() {
            write!(out, "\\x{byte:02X}").expect("a String takes every write");
        }
    }
    out
}

/// [`escape`] for text of several lines that are to stay lines (what another program said).
pub fn escape_lines(text: &str) -> String {
    text.lines().map(|line| escape(line.as_bytes())).collect::<Vec<_>>().join("\n")
}

/// For words of our own that quote something: only what a terminal would obey or hide is spelled
/// out; line breaks and backslashes stay.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character != '\n' && is_unprintable(character) {
            out.extend(character.escape_unicode());
        } else {
            out.push(character);
        }
    }
    out
}

/// [`escape`] for a path's raw bytes.
pub fn escape_path(path: &Path) -> String {
    escape(path.as_os_str().as_encoded_bytes())
}

/// Whether a terminal would obey or hide this character instead of showing it.
/// The ranges are Unicode's general categories Cc and Cf (bidirectional and zero-width ones among
/// them), the line and paragraph separators, variation selectors, fillers and tag characters.
pub fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{00AD}' | '\u{034F}' | '\u{0600}'..='\u{0605}' | '\u{061C}' | '\u{06DD}'
            | '\u{070F}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}'
            | '\u{180B}'..='\u{180F}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}'
            | '\u{2060}'..='\u{206F}' | '\u{3164}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}'
            | '\u{FFA0}' | '\u{FFF0}'..='\u{FFFB}' | '\u{13430}'..='\u{13455}'
            | '\u{1BCA0}'..='\u{1BCA3}' | '\u{1D173}'..='\u{1D17A}' | '\u{E0000}'..='\u{E0FFF}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ordinary_names_stay_as_they_are() {
        for name in ["IMG_2031.jpg", "weiß, schön & 日本語 ☀.png", "a b.gif"] {
            assert_eq!(escape(name.as_bytes()), name);
        }
    }

    #[test]
    fn what_a_terminal_would_obey_is_spelled_out() {
        assert_eq!(escape(b"\x1b]52;c;ZXZpbA==\x07"), "\\u{1b}]52;c;ZXZpbA==\\u{7}");
        assert_eq!(escape("a\u{202E}gpj.exe".as_bytes()), "a\\u{202e}gpj.exe");
        assert_eq!(escape("a\u{200B}b\u{85}".as_bytes()), "a\\u{200b}b\\u{85}");
        assert_eq!(escape(b"line\nbreak\tand\\slash"), "line\\nbreak\\tand\\\\slash");
        assert_eq!(escape(b"\xff\xfe.png"), "\\xFF\\xFE.png");
    }

    #[test]
    fn words_of_our_own_stay_lines_and_lose_what_a_terminal_would_obey() {
        assert_eq!(
            printable("a \\ b\n  hint: \u{1b}[2J\u{fe00}"),
            "a \\ b\n  hint: \\u{1b}[2J\\u{fe00}"
        );
    }

    proptest! {
        #[test]
        fn nothing_unprintable_ever_comes_out(bytes: Vec<u8>) {
            prop_assert!(!escape(&bytes).chars().any(is_unprintable));
        }

        #[test]
        fn different_names_stay_different(a: Vec<u8>, b: Vec<u8>) {
            prop_assert_eq!(a == b, escape(&a) == escape(&b));
        }
    }
}
