//! What a file is, by its first bytes or its name.

use std::path::Path;

/// Extensions that promise a picture, those of formats that are not compiled in too: such a
/// file must come before a person, not be passed over.
const EXTENSIONS: &[&str] = &[
    "apng", "avif", "avifs", "bmp", "cr2", "cr3", "cur", "dds", "dib", "djvu", "dng", "emf", "eps",
    "exr", "gif", "hdr", "heic", "heics", "heif", "hif", "icns", "ico", "j2k", "jfi", "jfif",
    "jif", "jp2", "jpe", "jpeg", "jpf", "jpg", "jpm", "jpx", "jxl", "jxr", "mng", "nef", "orf",
    "pbm", "pcx", "pgm", "pict", "pjp", "pjpeg", "png", "pnm", "ppm", "psd", "qoi", "raf", "raw",
    "rw2", "svg", "svgz", "tga", "tif", "tiff", "wbmp", "wdp", "webp", "wmf", "xbm", "xcf", "xpm",
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
];

/// Whether a file's name promises a picture.
pub fn has_picture_extension(path: &Path) -> bool {
    let extension = path.extension().map(std::ffi::OsStr::to_ascii_lowercase);
    extension.is_some_and(|extension| EXTENSIONS.iter().any(|known| extension == *known))
}

/// Which format the first bytes (32 are enough, except for SVG) announce; also formats that
/// can't be decoded here.
pub fn sniff(first_bytes: &[u8]) -> Option<&'static str> {
    let begins = |magic: &[u8]| first_bytes.starts_with(magic);
    let at = |offset: usize, magic: &[u8]| {
        first_bytes.get(offset..).is_some_and(|rest| rest.starts_with(magic))
    };
    let known = if begins(b"\xFF\xD8\xFF") {
        "jpeg"
    } else if begins(b"\x89PNG\r\n\x1A\n") {
        "png"
    } else if begins(b"GIF87a") || begins(b"GIF89a") {
        "gif"
    } else if begins(b"RIFF") && at(8, b"WEBP") {
        "webp"
    } else if at(4, b"ftyp") {
        return iso_media_brand(first_bytes.get(8..12)?);
    } else if begins(b"\xFF\x0A") || begins(b"\0\0\0\x0CJXL \r\n\x87\n") {
        "jxl"
    } else if begins(b"II*\0") || begins(b"MM\0*") || begins(b"II+\0") || begins(b"MM\0+") {
        "tiff"
    } else if begins(b"BM") && at(6, b"\0\0\0\0") {
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
    } else if is_portable_map(first_bytes) {
        "pnm"
    } else if is_svg(first_bytes) {
        "svg"
    } else {
        return None;
    };
    Some(known)
}

/// The pictures among the files of the ISO base media format; the others are films.
fn iso_media_brand(brand: &[u8]) -> Option<&'static str> {
    match brand {
        b"avif" | b"avis" => Some("avif"),
        b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" | b"mif1" | b"msf1" => {
            Some("heif")
        }
        b"crx " => Some("cr3"),
        _ => None,
    }
}

/// `P1` to `P7`, white space, a number or a comment.
fn is_portable_map(bytes: &[u8]) -> bool {
    matches!(bytes, [b'P', b'1'..=b'7', space, next, ..]
        if space.is_ascii_whitespace() && (next.is_ascii_digit() || matches!(next, b'#' | b'W')))
}

/// The root element among the first kilobyte of what looks like XML.
fn is_svg(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(1024)];
    let head = head.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(head).trim_ascii_start();
    head.starts_with(b"<") && head.windows(4).any(|window| window == b"<svg")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_promise_a_picture() {
        for name in ["a.jpg", "A.JPEG", "b.HeIc", "c.avif", "d.svg", "e.apng", "f.tar.png"] {
            assert!(has_picture_extension(Path::new(name)), "{name}");
        }
        for name in ["a.txt", "jpg", ".png", "b.jpg.part", "c.mp4", ""] {
            assert!(!has_picture_extension(Path::new(name)), "{name}");
        }
        assert!(EXTENSIONS.is_sorted());
    }

    #[test]
    fn first_bytes_tell_the_format() {
        for (bytes, format) in [
            (b"\xFF\xD8\xFF\xE0".as_slice(), Some("jpeg")),
            (b"\0\0\0\x1Cftypavif", Some("avif")),
            (b"\0\0\0\x18ftypheic", Some("heif")),
            (b"\0\0\0\x18ftypmp42", None),
            (b"\xFF\x0A\x00", Some("jxl")),
            (b"BM\x46\0\0\0\0\0\0\0", Some("bmp")),
            (b"BMI is a number", None),
            (b"P6\n640 480\n", Some("pnm")),
            (b"P6 # made", Some("pnm")),
            (b"P600", None),
            (b"<?xml version='1.0'?><svg xmlns=", Some("svg")),
            (b"<html><body>", None),
            (b"RIFF\x10\0\0\0WEBPVP8 ", Some("webp")),
            (b"RIFF\x10\0\0\0WAVEfmt ", None),
            (b"8BPS\0\x01", Some("psd")),
            (b"", None),
            (b"\0", None),
        ] {
            assert_eq!(sniff(bytes), format, "{}", bytes.escape_ascii());
            assert!(format.is_none_or(|format| FORMATS.contains(&format)), "{format:?}");
        }
    }
}
