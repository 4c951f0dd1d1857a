//! What a file is, by its first bytes or its name.

mod container;
mod text;

use std::path::Path;

use crate::moderation::FileKind;

use container::{MediaFile, media_file};
use text::is_plain_text;

/// The length of a file's beginning, in bytes, that tells what it is: at least what browsers look at.
pub const FIRST_BYTES: usize = 1024;

/// Extensions that promise a picture, those of formats that are not compiled in too: such a
/// file must come before a person, not be passed over.
const PICTURES: &[&str] = &[
    "apng", "avif", "avifs", "bmp", "cr2", "cr3", "cur", "dds", "dib", "djvu", "dng", "emf", "eps",
    "exr", "gif", "hdr", "heic", "heics", "heif", "hif", "icns", "ico", "j2k", "jfi", "jfif",
    "jif", "jp2", "jpe", "jpeg", "jpf", "jpg", "jpm", "jpx", "jxl", "jxr", "mng", "nef", "orf",
    "pbm", "pcx", "pgm", "pict", "pjp", "pjpeg", "png", "pnm", "ppm", "psd", "qoi", "raf", "raw",
    "rw2", "svg", "svgz", "tga", "tif", "tiff", "wbmp", "wdp", "webp", "wmf", "xbm", "xcf", "xpm",
];

const VIDEOS: &[&str] = &[
    "3g2", "3gp", "asf", "avi", "divx", "f4v", "flv", "m2ts", "m2v", "m4v", "mkv", "mov", "mp4",
    "mpe", "mpeg", "mpg", "mts", "mxf", "ogm", "ogv", "qt", "rm", "rmvb", "swf", "vob", "webm",
    "wmv",
];

const DOCUMENTS: &[&str] = &[
    "ai", "cbr", "cbz", "doc", "docm", "docx", "dot", "dotx", "epub", "fb2", "indd", "key", "mobi",
    "numbers", "odg", "odp", "ods", "odt", "oxps", "pages", "pps", "ppsx", "ppt", "pptm", "pptx",
    "ps", "pub", "rtf", "vsd", "vsdx", "xls", "xlsm", "xlsx", "xps",
];

/// Every format that [`sniff()`] tells apart. The place of a name in this list stands for it when
/// a decoding child speaks of it.
pub(crate) const FORMATS: &[&str] = &[
    "jpeg",
    "png",
    "gif",
    "webp",
    "jxl",
    "tiff",
    "bmp",
    "ico",
    "psd",
    "jpeg 2000",
    "jpeg xr",
    "qoi",
    "openexr",
    "hdr",
    "dds",
    "xcf",
    "djvu",
    "icns",
    "farbfeld",
    "pnm",
    "svg",
    "avif",
    "heif",
    "cr3",
    "xbm",
    "xpm",
];

/// What a name says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Promise {
    /// It ends as a picture's does.
    Picture,
    /// A picture's extension is somewhere in it: `a.jpg.part`, `a%2Ejpg`, `a.jpg%00.txt`.
    Perhaps,
    /// Nothing about pictures.
    Nothing,
}

/// Whether a file's name ends as a picture's does.
pub fn has_picture_extension(path: &Path) -> bool {
    promise(&plain_name(path)) == Promise::Picture
}

/// What a file is, by its name and its first bytes ([`FIRST_BYTES`] of them, or all there are).
/// When in doubt it is a picture, so that a person sees it.
pub fn kind_of(path: &Path, first_bytes: &[u8]) -> FileKind {
    let name = plain_name(path);
    let promise = promise(&name);
    if promise == Promise::Picture || sniff(first_bytes).is_some() {
        return FileKind::Picture;
    }
    match media_file(first_bytes) {
        Some(MediaFile::Video) => return FileKind::Video,
        Some(MediaFile::Pdf) => return FileKind::Pdf,
        Some(MediaFile::Document) => return FileKind::Document,
        None => {}
    }
    // What is written beside a picture often has the picture's name: `a.jpg.json`.
    if is_plain_text(first_bytes) {
        return FileKind::Other;
    }
    let ends_as =
        |known: &[&str]| name.rsplit_once('.').is_some_and(|(_, end)| known.contains(&end));
    match promise {
        Promise::Perhaps => FileKind::Picture,
        _ if ends_as(VIDEOS) => FileKind::Video,
        _ if ends_as(&["pdf"]) => FileKind::Pdf,
        _ if ends_as(DOCUMENTS) => FileKind::Document,
        _ => FileKind::Other,
    }
}

/// The name in small letters, with percent escapes undone as often as there are some, and without
/// what other systems cut off its end (dots, white space, what follows a zero byte).
fn plain_name(path: &Path) -> String {
    let mut name = path.file_name().unwrap_or_default().as_encoded_bytes().to_ascii_lowercase();
    // A name that was escaped more often than that is served by nobody as what it was.
    for _ in 0..4 {
        name = unescaped(&name);
    }
    let end = |byte: &u8| !(byte.is_ascii_whitespace() || byte.is_ascii_control() || *byte == b'.');
    let length = name.iter().rposition(end).map_or(0, |last| last + 1);
    name.truncate(length);
    String::from_utf8_lossy(&name).into_owned()
}

fn unescaped(name: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    while let [byte, after @ ..] = rest {
        let escaped = match rest {
            [b'%', high, low, ..] => hexadecimal(*high).zip(hexadecimal(*low)),
            _ => None,
        };
        if let Some((high, low)) = escaped {
            plain.push((high << 4 | low).to_ascii_lowercase());
            rest = &rest[3..];
        } else {
            plain.push(*byte);
            rest = after;
        }
    }
    plain
}

fn hexadecimal(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// `name` as [`plain_name`] answers it.
fn promise(name: &str) -> Promise {
    let known = |extension: &str| PICTURES.contains(&extension);
    if name.rsplit_once('.').is_some_and(|(_, extension)| known(extension)) {
        return Promise::Picture;
    }
    let begins = |part: &str| {
        known(part.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default())
    };
    if name.split('.').skip(1).any(begins) { Promise::Perhaps } else { Promise::Nothing }
}

/// Which picture format the first bytes ([`FIRST_BYTES`] are enough) announce; also formats that
/// can't be decoded here. What browsers take for a picture is in
/// <https://mimesniff.spec.whatwg.org/#matching-an-image-type-pattern>; this knows more, and in
/// doubt says yes.
pub fn sniff(first_bytes: &[u8]) -> Option<&'static str> {
    let head = &first_bytes[..first_bytes.len().min(FIRST_BYTES)];
    let begins = |magic: &[u8]| head.starts_with(magic);
    let at = |offset: usize, magic: &[u8]| {
        head.get(offset..).is_some_and(|rest| rest.starts_with(magic))
    };
    let known = if begins(b"\xFF\xD8\xFF") {
        "jpeg"
    } else if begins(b"\x89PNG\r\n\x1A\n") {
        "png"
    } else if begins(b"GIF87a") || begins(b"GIF89a") {
        "gif"
    } else if begins(b"RIFF") && at(8, b"WEBP") {
        "webp"
    } else if begins(b"\xFF\x0A") || begins(b"\0\0\0\x0CJXL \r\n\x87\n") {
        "jxl"
    } else if begins(b"II*\0") || begins(b"MM\0*") || begins(b"II+\0") || begins(b"MM\0+") {
        "tiff"
    } else if is_bitmap(head) {
        "bmp"
    } else if begins(b"\0\0\x01\0") || begins(b"\0\0\x02\0") {
        "ico"
    } else if begins(b"8BPS") {
        "psd"
    } else if begins(b"\0\0\0\x0CjP  \r\n\x87\n") || begins(b"\xFF\x4F\xFF\x51") {
        "jpeg 2000"
    } else if begins(b"II\xBC\x01") {
        "jpeg xr"
    } else if begins(b"qoif") {
        "qoi"
    } else if begins(b"\x76\x2F\x31\x01") {
        "openexr"
    } else if begins(b"#?RADIANCE") || begins(b"#?RGBE") {
        "hdr"
    } else if begins(b"DDS ") {
        "dds"
    } else if begins(b"gimp xcf") {
        "xcf"
    } else if begins(b"AT&TFORM") {
        "djvu"
    } else if begins(b"icns") {
        "icns"
    } else if begins(b"farbfeld") {
        "farbfeld"
    } else if is_portable_map(head) {
        "pnm"
    } else if begins(b"/* XPM") {
        "xpm"
    } else if begins(b"#define") && text::contains(head, b"_width") {
        "xbm"
    } else if let Some(format) = container::iso_picture(head) {
        format
    } else if text::is_svg(head) {
        "svg"
    } else {
        return None;
    };
    Some(known)
}

/// `BM` alone begins many a text. The reserved bytes that follow are zero, or whatever a hostile
/// writer likes; then the length of the header tells, of those that browsers read.
fn is_bitmap(bytes: &[u8]) -> bool {
    let Some(rest) = bytes.strip_prefix(b"BM") else { return false };
    let header =
        bytes.get(14..18).and_then(|length| length.try_into().ok()).map(u32::from_le_bytes);
    rest.get(4..8) == Some(&[0; 4])
        || matches!(header, Some(12 | 42 | 46 | 108 | 124))
        || header.is_some_and(|length| (16..=64).contains(&length) && length % 4 == 0)
}

/// `P1` to `P7`, white space, a number or a comment.
fn is_portable_map(bytes: &[u8]) -> bool {
    matches!(bytes, [b'P', b'1'..=b'7', space, next, ..]
        if space.is_ascii_whitespace() && (next.is_ascii_digit() || matches!(next, b'#' | b'W')))
}

#[cfg(test)]
mod tests;
