//! Pictures that are text, and text that is none.

/// Whether these bytes occur.
pub(super) fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

/// Whether the first bytes of a file are those of a text without markup, which no viewer shows a
/// picture for; an empty file is such a text.
pub(super) fn is_plain_text(first_bytes: &[u8]) -> bool {
    let text = match std::str::from_utf8(first_bytes) {
        Ok(text) => text,
        // A character that the end cuts in two.
        Err(cut) if cut.error_len().is_none() => {
            std::str::from_utf8(&first_bytes[..cut.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    let written = |c: char| !c.is_control() || matches!(c, '\t' | '\n' | '\r' | '\x0C');
    let markup = |pair: &[u8]| {
        pair[0] == b'<' && (pair[1].is_ascii_alphabetic() || matches!(pair[1], b'!' | b'?' | b'/'))
    };
    text.chars().all(written) && !text.as_bytes().windows(2).any(markup) && !text.ends_with('<')
}

/// An `<svg` in the head, with or without a prefix (`<x:svg`), whatever is in front of it; or the
/// beginning of XML whose root element comes too late to be seen.
pub(super) fn is_svg(head: &[u8]) -> bool {
    // Of the wide encodings every second byte is zero, or three of four are.
    let wide = head.starts_with(b"\xFF\xFE")
        || head.starts_with(b"\xFE\xFF")
        || matches!(head, [0, b'<' | 0, ..] | [b'<', 0, ..]);
    let mut text = head.to_ascii_lowercase();
    if wide {
        text.retain(|byte| *byte != 0);
    }
    if (0..text.len()).any(|place| is_svg_element(&text[place..])) {
        return true;
    }
    let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&text);
    let text = text.strip_prefix(b"\xFF\xFE").or(text.strip_prefix(b"\xFE\xFF")).unwrap_or(text);
    head.len() >= super::FIRST_BYTES && has_hidden_root(text.trim_ascii_start())
}

/// Whether an element begins here whose name is `svg`.
fn is_svg_element(text: &[u8]) -> bool {
    let Some(tag) = text.strip_prefix(b"<") else { return false };
    let ends = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'>' | b'/' | 0);
    let name = tag.split(ends).next().unwrap_or_default();
    name.rsplit(|byte| *byte == b':').next() == Some(b"svg") && !name.starts_with(b"/")
}

/// Whether this begins as XML does and ends before any element.
fn has_hidden_root(mut text: &[u8]) -> bool {
    let mut is_xml = false;
    loop {
        text = text.trim_ascii_start();
        let close: &[u8] = if text.starts_with(b"<?") {
            b"?>"
        } else if text.starts_with(b"<!--") {
            b"-->"
        } else if text.starts_with(b"<!doctype") && !text.starts_with(b"<!doctype html") {
            b">"
        } else {
            return is_xml && text.is_empty();
        };
        is_xml = true;
        match text.windows(close.len()).position(|window| window == close) {
            Some(end) => text = &text[end + close.len()..],
            None => return true,
        }
    }
}
