//! What is odd about a file beside its pixels: a picture that is something else as well.
//!
//! Such a file is judged like any other, by what it shows. That it also opens as an archive, a
//! document or a page is recorded, for the people and programs that hand it on.

use super::{Format, jpeg};

/// A set of oddities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Signals(u32);

/// Bit, name in stored rows and exports.
const NAMES: [(u32, &str); 4] = [
    (TRAILING_BYTES, "trailing_bytes"),
    (ARCHIVE, "archive"),
    (DOCUMENT, "document"),
    (MARKUP, "markup"),
];

/// Bytes behind the picture's end (telephones put films there too).
const TRAILING_BYTES: u32 = 1;
/// Opens as a ZIP, RAR or 7z archive.
const ARCHIVE: u32 = 2;
/// Opens as a PDF.
const DOCUMENT: u32 = 4;
/// HTML, a script or PHP in its text or behind its end.
const MARKUP: u32 = 8;

/// Of a stretch that is no pixels, so much is looked at from its beginning and its end.
const LOOKED_AT: usize = 1 << 20;

impl Signals {
    /// From [`Signals::bits`]; `None` for bits that mean nothing.
    pub fn from_bits(bits: u32) -> Option<Self> {
        let known = NAMES.iter().fold(0, |all, (bit, _)| all | bit);
        (bits & !known == 0).then_some(Self(bits))
    }

    /// One bit for each oddity.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// The names of the oddities, in a fixed order.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES.into_iter().filter(move |(bit, _)| self.0 & bit != 0).map(|(_, name)| name)
    }
}

/// Looks at what is no pixels: the text and extensions of the format, and what follows its end.
///
/// `survey` is that of a JPEG.
pub(super) fn signals(format: Format, bytes: &[u8], survey: Option<&jpeg::Survey>) -> Signals {
    let anatomy = match format {
        Format::Jpeg => of_jpeg(bytes, survey.and_then(|survey| survey.end)),
        Format::Png => of_png(bytes),
        Format::Gif => of_gif(bytes),
        Format::WebP => of_webp(bytes),
    };
    let behind = bytes.get(anatomy.end..).unwrap_or_default();
    let mut found = 0;
    // Padding of zeros is no message.
    if behind.iter().any(|byte| *byte != 0) {
        found |= TRAILING_BYTES;
    }
    for stretch in anatomy.texts.iter().copied().chain([behind]) {
        found |= contents(stretch);
    }
    Signals(found)
}

/// The parts of a file that are no pixels.
struct Anatomy<'a> {
    texts: Vec<&'a [u8]>,
    /// Where the picture ends; the file's length when that can't be told.
    end: usize,
}

/// How such contents begin, or end. The first is the end record of a ZIP on one disk; readers look
/// for it from the end of the file.
const CONTENTS: [(&[u8], u32); 9] = [
    (b"PK\x05\x06\0\0\0\0", ARCHIVE),
    (b"Rar!\x1a\x07", ARCHIVE),
    (b"7z\xbc\xaf\x27\x1c", ARCHIVE),
    (b"%PDF-", DOCUMENT),
    (b"<script", MARKUP),
    (b"<html", MARKUP),
    (b"<!doctype", MARKUP),
    (b"<?php", MARKUP),
    (b"javascript:", MARKUP),
];

fn contents(stretch: &[u8]) -> u32 {
    let tail = stretch.len().saturating_sub(LOOKED_AT).max(LOOKED_AT.min(stretch.len()));
    found_in(&stretch[..stretch.len().min(LOOKED_AT)]) | found_in(&stretch[tail..])
}

fn found_in(part: &[u8]) -> u32 {
    let begins = |rest: &[u8], word: &[u8]| {
        rest.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word))
    };
    let mut found = 0;
    for (at, byte) in part.iter().enumerate() {
        // A word a position would take as long as decoding does; few bytes begin one.
        if matches!(byte, b'P' | b'p' | b'R' | b'r' | b'7' | b'%' | b'<' | b'J' | b'j') {
            let here = CONTENTS.iter().filter(|(word, _)| begins(&part[at..], word));
            found |= here.fold(0, |bits, (_, bit)| bits | bit);
        }
    }
    found
}

fn of_jpeg(bytes: &[u8], end: Option<usize>) -> Anatomy<'_> {
    let end = end.unwrap_or(bytes.len());
    let mut texts = Vec::new();
    let mut at = 2;
    // Up to the first pass over the pixels; behind it there are tables and pixels.
    while let Some([0xFF, marker, high, low]) = bytes.get(at..at + 4) {
        let length = usize::from(u16::from_be_bytes([*high, *low])).max(2);
        let body = bytes.get(at + 4..at + 2 + length).unwrap_or_default();
        match marker {
            0xDA => break,
            // Application data and comments. A thumbnail or a profile holds no words.
            0xE0..=0xEF | 0xFE => texts.push(body),
            _ => {}
        }
        at += 2 + length;
    }
    Anatomy { texts, end }
}

fn of_png(bytes: &[u8]) -> Anatomy<'_> {
    let mut texts = Vec::new();
    let mut at = 8_usize;
    while let Some(head) = bytes.get(at..at + 8) {
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let Some(next) = at.checked_add(12).and_then(|next| next.checked_add(length)) else {
            break;
        };
        match &head[4..] {
            b"IEND" => return Anatomy { texts, end: next },
            b"IDAT" | b"fdAT" => {}
            _ => texts.push(bytes.get(at + 8..next - 4).unwrap_or_default()),
        }
        at = next;
    }
    Anatomy { texts, end: bytes.len() }
}

fn of_gif(bytes: &[u8]) -> Anatomy<'_> {
    let table = |packed: u8| if packed & 0x80 == 0 { 0 } else { 3 << ((packed & 7) + 1) };
    let mut texts = Vec::new();
    let mut at = 13 + bytes.get(10).map_or(0, |packed| table(*packed));
    loop {
        let is_text = match bytes.get(at) {
            Some(0x3B) => return Anatomy { texts, end: at + 1 },
            Some(0x21) => {
                at += 2;
                true
            }
            Some(0x2C) => {
                at += 11 + bytes.get(at + 9).map_or(0, |packed| table(*packed));
                false
            }
            _ => break,
        };
        let start = at;
        while let Some(length) = bytes.get(at).filter(|length| **length > 0) {
            at += 1 + usize::from(*length);
        }
        if is_text {
            texts.push(bytes.get(start..at).unwrap_or_default());
        }
        at += 1;
    }
    Anatomy { texts, end: bytes.len() }
}

fn of_webp(bytes: &[u8]) -> Anatomy<'_> {
    let length = |at: usize| {
        let four = bytes.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(four)).ok()
    };
    let end = length(4).and_then(|length| length.checked_add(8)).unwrap_or(bytes.len());
    let mut texts = Vec::new();
    let mut at = 12_usize;
    while let (Some(name), Some(size)) = (bytes.get(at..at + 4), length(at + 4)) {
        if at >= end {
            break;
        }
        let Some(next) = at.checked_add(8).and_then(|next| next.checked_add(size)) else { break };
        if !matches!(name, b"VP8 " | b"VP8L" | b"ALPH" | b"ANMF") {
            texts.push(bytes.get(at + 8..next).unwrap_or_default());
        }
        // Chunks begin at even places.
        at = next + next % 2;
    }
    Anatomy { texts, end: end.min(bytes.len()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_bits_belong_together() {
        let all = Signals::from_bits(15).expect("all known");
        let names: Vec<_> = all.names().collect();
        assert_eq!(names, ["trailing_bytes", "archive", "document", "markup"]);
        assert!(Signals::from_bits(16).is_none());
        assert_eq!(Signals::default().names().count(), 0);
    }

    #[test]
    fn what_is_written_between_the_blocks_of_a_gif_is_read() {
        let mut gif = b"GIF89a\x01\0\x01\0\0\0\0".to_vec();
        gif.extend(b"\x21\xfe\x0b<script>foo\0");
        gif.extend(b"\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0\x3b");
        assert_eq!(signals(Format::Gif, &gif, None).bits(), MARKUP);
        gif.extend(b"Rar!\x1a\x07\x01\0");
        assert_eq!(signals(Format::Gif, &gif, None).bits(), MARKUP | TRAILING_BYTES | ARCHIVE);
    }
}
