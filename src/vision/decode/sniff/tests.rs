//! Names and first bytes, and what they make of a file.

use super::*;

const SVG: &str = "<svg xmlns='http://www.w3.org/2000/svg'/>";

#[test]
fn names_that_promise_a_picture() {
    for name in [
        "a.jpg",
        "A.JPEG",
        "b.HeIc",
        "c.avif",
        "d.svg",
        "e.apng",
        "f.tar.png",
        ".png",
        "a.jpg ",
        "a.jpg. .",
        "a%2Ejpg",
        "a%252ejpg",
        "a.j%70g",
        "a.jpg%20",
        "a.PNG%00",
    ] {
        assert_eq!(promise(&plain_name(Path::new(name))), Promise::Picture, "{name}");
        assert!(has_picture_extension(Path::new(name)), "{name}");
    }
    for name in [
        "b.jpg.part",
        "a.jpg.bak",
        "a.jpg%00.txt",
        "photo.jpeg~",
        "a.png;.txt",
        "a.JPG.json",
        "a.gif?x=1",
        "a.webp:large",
        "a.jpg\u{200b}",
        "a%2ejpg%2ebak",
    ] {
        assert_eq!(promise(&plain_name(Path::new(name))), Promise::Perhaps, "{name}");
    }
    for name in ["a.txt", "jpg", "c.mp4", "", "a.jpgs", "png.d", "x.tar.gz", "%", "a.%2", "..."] {
        assert_eq!(promise(&plain_name(Path::new(name))), Promise::Nothing, "{name}");
    }
    for known in [PICTURES, VIDEOS, DOCUMENTS] {
        assert!(known.is_sorted());
    }
}

#[test]
fn first_bytes_tell_the_format() {
    for (bytes, format) in [
        (b"\xFF\xD8\xFF\xE0".as_slice(), Some("jpeg")),
        (b"\xFF\x0A\x00", Some("jxl")),
        (b"BM\x46\0\0\0\0\0\0\0", Some("bmp")),
        (b"BMI is a number", None),
        (b"BMI is a number, and this is more of a text", None),
        (b"BM\x46\0\0\0\x01\x02\x03\x04\x36\0\0\0\x28\0\0\0", Some("bmp")),
        (b"BM\x46\0\0\0\x01\x02\x03\x04\x36\0\0\0\x0C\0\0\0", Some("bmp")),
        (b"BM\x46\0\0\0\x01\x02\x03\x04\x36\0\0\0\x29\0\0\0", None),
        (b"\0\0\x02\0\x01\0", Some("ico")),
        (b"P6\n640 480\n", Some("pnm")),
        (b"P6 # made", Some("pnm")),
        (b"P600", None),
        (b"#define a_width 9\n", Some("xbm")),
        (b"#define WIDTH 9\n", None),
        (b"/* XPM */", Some("xpm")),
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

/// A box with its length.
fn boxed(kind: [u8; 4], content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(8 + content.len()).expect("small");
    [&length.to_be_bytes(), &kind, content].concat()
}

#[test]
fn a_brand_counts_wherever_it_stands() {
    let typed = |brands: &[&[u8; 4]]| {
        let (major, others) = brands.split_first().expect("one at least");
        let others: Vec<&[u8]> = others.iter().map(|brand| brand.as_slice()).collect();
        boxed(*b"ftyp", &[major.as_slice(), &[0; 4], &others.concat()].concat())
    };
    for (brands, format) in [
        (&[b"avif"][..], Some("avif")),
        (&[b"avis", b"msf1"], Some("avif")),
        (&[b"miaf", b"mif1", b"avif"], Some("avif")),
        (&[b"miaf"], Some("avif")),
        (&[b"isom", b"iso8", b"avif"], Some("avif")),
        (&[b"mp42", b"heic"], Some("heif")),
        (&[b"mif2", b"mif1", b"heic"], Some("heif")),
        (&[b"avci"], Some("heif")),
        (&[b"mif1", b"miaf"], Some("heif")),
        (&[b"heix"], Some("heif")),
        (&[b"crx ", b"isom"], Some("cr3")),
        (&[b"mp42", b"isom"], None),
        (&[b"qt  "], None),
    ] {
        let mut bytes = typed(brands);
        let expected = (format, if format.is_some() { FileKind::Picture } else { FileKind::Video });
        let told = |bytes: &[u8]| (sniff(bytes), kind_of(Path::new("x"), bytes));
        assert_eq!(told(&bytes), expected, "{brands:?}");
        for filling in [b"free", b"skip", b"wide"] {
            let behind = [boxed(*filling, &[7; 40]), bytes.clone()].concat();
            assert_eq!(told(&behind), expected, "{brands:?} behind {filling:?}");
        }
        for length in [0_u32, 7, u32::MAX] {
            bytes[..4].copy_from_slice(&length.to_be_bytes());
            assert_eq!(told(&bytes), expected, "{brands:?} of length {length}");
        }
        let long = [b"\0\0\0\x01ftyp\0\0\0\0\0\0\0\x40", &bytes[8..]].concat();
        assert_eq!(told(&long), expected, "{brands:?} with a long length");
    }
    assert_eq!(sniff(&boxed(*b"free", &[0; 2000])), Some("heif"), "what it is can't be seen");
}

#[test]
fn svg_is_found_behind_whatever_is_in_front() {
    let wide = |text: &str, bytes: fn(u16) -> [u8; 2]| {
        text.encode_utf16().flat_map(bytes).collect::<Vec<u8>>()
    };
    let head = "<?xml version=\"1.0\"?>\n<!-- by hand -->\n<!DOCTYPE svg PUBLIC \"-//W3C\">\n";
    for text in [
        SVG.to_owned(),
        format!("{head}{SVG}"),
        format!("\u{FEFF} \n\t{SVG}"),
        format!("some words in front {SVG}"),
        format!("<!-- {} -->{SVG}", "x".repeat(900)),
        format!("<!-- {} -->{SVG}", "x".repeat(5000)),
        format!("<?xml version='1.0'?>{}{SVG}", " ".repeat(5000)),
        "<svg:svg xmlns:svg='http://www.w3.org/2000/svg'>".to_owned(),
        "<x:SVG xmlns:x='http://www.w3.org/2000/svg'>".to_owned(),
        "<SVG>".to_owned(),
        "<html><body><svg width='9'>".to_owned(),
    ] {
        assert_eq!(sniff(text.as_bytes()), Some("svg"), "{text}");
        let bom = format!("\u{FEFF}{text}");
        for bytes in [wide(&bom, u16::to_le_bytes), wide(&bom, u16::to_be_bytes)] {
            let seen = text.find("<svg").or(text.find("<SVG")).is_none_or(|place| place < 500);
            assert!(!seen || sniff(&bytes) == Some("svg"), "{text} in two bytes a character");
        }
    }
    for text in [
        "<html><body>",
        "<?xml version='1.0'?><rss>",
        "<svgfoo>",
        "</svg>",
        "a < svg",
        "<!DOCTYPE html><!-- words -->",
    ] {
        assert_eq!(sniff(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn name_and_bytes_together_tell_the_kind() {
    let markup = b"<html><body>".as_slice();
    let binary = b"\x01\x02\x03\xFF\xFE".as_slice();
    for (name, bytes, kind) in [
        ("a", SVG.as_bytes(), FileKind::Picture),
        ("a.jpg", b"a text".as_slice(), FileKind::Picture),
        ("a.jpg", b"", FileKind::Picture),
        ("a.jpg", b"\x1A\x45\xDF\xA3", FileKind::Picture),
        ("a.jpg.json", b"{\"name\": \"caf\xC3\xA9\", \"1<2\": true}", FileKind::Other),
        ("a.png.txt", b"half a character: \xC3", FileKind::Other),
        ("a.png.txt", b"latin \xE9 1", FileKind::Picture),
        ("a.jpg.part", b"", FileKind::Other),
        ("a.jpg.part", binary, FileKind::Picture),
        ("a.jpg.txt", markup, FileKind::Picture),
        ("a.jpg.mp4", b"\x1A\x45\xDF\xA3", FileKind::Video),
        ("a.txt", markup, FileKind::Other),
        ("a", binary, FileKind::Other),
        ("a.MP4", binary, FileKind::Video),
        ("a.mp4", b"a text", FileKind::Other),
        ("a", b"RIFF\0\0\0\0AVI LIST", FileKind::Video),
        ("a", b"OggS\0\x02........\x80theora", FileKind::Video),
        ("a", b"OggS\0\x02........\x01vorbis", FileKind::Other),
        ("a", b"\0\0\0\x08wide\0\0\0\x09mdat", FileKind::Video),
        ("a", b"\0\0\0\x09mdat", FileKind::Video),
        ("a", b"%PDF-1.7", FileKind::Pdf),
        ("a", b"junk\n%PDF-1.7", FileKind::Pdf),
        ("a.pdf", binary, FileKind::Pdf),
        ("a", b"{\\rtf1", FileKind::Document),
        ("a", b"PK\x03\x04.................word/document.xml", FileKind::Document),
        ("a.zip", b"PK\x03\x04................a.txt", FileKind::Other),
        ("a.docx", b"PK\x03\x04................a.txt", FileKind::Document),
    ] {
        assert_eq!(kind_of(Path::new(name), bytes), kind, "{name}: {}", bytes.escape_ascii());
    }
}
