//! Files that hold other things than one picture: boxes of the ISO base media format, films,
//! documents.

use super::text;

/// What is no picture and may show one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MediaFile {
    Video,
    Pdf,
    /// Text with layout, of whatever format.
    Document,
}

/// Brands of HEIF and what is built on it, but for AVIF (ISO/IEC 23008-12, annex B and on).
const HEIF: &[&[u8; 4]] = &[
    b"avcI", b"avci", b"avcs", b"heic", b"heif", b"heim", b"heis", b"heix", b"hevc", b"hevm",
    b"hevs", b"hevx", b"j2ki", b"j2is", b"jpeg", b"jpgs", b"mif1", b"mif2", b"mif3", b"msf1",
    b"vvic", b"vvis",
];

/// The pictures among the files of the ISO base media format; the others are films. A brand may
/// stand anywhere in the list, and harmless boxes before it: readers are that lenient.
pub(super) fn iso_picture(head: &[u8]) -> Option<&'static str> {
    let brands: Vec<&[u8]> = match file_type(head)? {
        FileType::Brands(brands) => brands.chunks_exact(4).collect(),
        FileType::OutOfSight => return Some("heif"),
    };
    let any = |known: &[&[u8; 4]]| known.iter().any(|brand| brands.contains(&brand.as_slice()));
    if any(&[b"avif", b"avis", b"avio", b"miaf", b"MA1A", b"MA1B"]) {
        // `miaf` says only how the file is built; then it is HEIF if another brand says so.
        let sure = any(&[b"avif", b"avis", b"avio", b"MA1A", b"MA1B"]);
        Some(if !sure && any(HEIF) { "heif" } else { "avif" })
    } else if any(HEIF) {
        Some("heif")
    } else if any(&[b"crx "]) {
        Some("cr3")
    } else if any(&[b"jxl "]) {
        Some("jxl")
    } else if any(&[b"jp2 ", b"jpx ", b"jpm "]) {
        Some("jpeg 2000")
    } else {
        None
    }
}

/// What the head of an ISO base media file tells.
enum FileType<'a> {
    /// The major brand, the version, and the compatible brands.
    Brands(&'a [u8]),
    /// Filling reaches beyond the head, so nobody knows.
    OutOfSight,
}

fn file_type(head: &[u8]) -> Option<FileType<'_>> {
    let mut rest = head;
    loop {
        let size = usize::try_from(u32::from_be_bytes(rest.get(..4)?.try_into().ok()?)).ok()?;
        match rest.get(4..8)? {
            b"ftyp" => {
                // A length of 1 stands for eight more bytes; one that can't be, for all there is.
                let begin = if size == 1 { 16 } else { 8 };
                let end = if (begin + 4..=rest.len()).contains(&size) { size } else { rest.len() };
                return Some(FileType::Brands(rest.get(begin..end).unwrap_or_default()));
            }
            b"free" | b"skip" | b"wide" => match rest.get(size.max(8)..) {
                Some(after) if after.len() >= 8 => rest = after,
                _ => return Some(FileType::OutOfSight),
            },
            _ => return None,
        }
    }
}

/// Films and documents, by their first bytes.
pub(super) fn media_file(head: &[u8]) -> Option<MediaFile> {
    let begins = |magic: &[u8]| head.starts_with(magic);
    let at = |offset: usize, magic: &[u8]| {
        head.get(offset..).is_some_and(|rest| rest.starts_with(magic))
    };
    if is_video(head) {
        Some(MediaFile::Video)
    } else if text::contains(head, b"%PDF-") {
        Some(MediaFile::Pdf)
    } else if begins(b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1")
        || begins(b"{\\rt")
        || begins(b"%!PS")
        || begins(b"\x04%!PS")
        || begins(b"\xC5\xD0\xD3\xC6")
        || at(60, b"BOOKMOBI")
        || (begins(b"PK\x03\x04") && OFFICE.iter().any(|part| text::contains(head, part)))
    {
        Some(MediaFile::Document)
    } else {
        None
    }
}

/// What the archives of office programs and books begin with.
const OFFICE: &[&[u8]] = &[
    b"[Content_Types].xml",
    b"_rels/",
    b"docProps/",
    b"word/",
    b"xl/",
    b"ppt/",
    b"META-INF/container.xml",
    b"mimetypeapplication/",
];

fn is_video(head: &[u8]) -> bool {
    let begins = |magic: &[u8]| head.starts_with(magic);
    let at = |offset: usize, magic: &[u8]| {
        head.get(offset..).is_some_and(|rest| rest.starts_with(magic))
    };
    let boxes = [b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"moof", b"styp"];
    let packets = |first: usize, length: usize| {
        (0..4).all(|packet| head.get(first + packet * length) == Some(&0x47))
    };
    boxes.iter().any(|kind| at(4, kind.as_slice()))
        || begins(b"\x1A\x45\xDF\xA3")
        || (begins(b"RIFF") && at(8, b"AVI "))
        || begins(b"FLV\x01")
        || begins(b"\x30\x26\xB2\x75\x8E\x66\xCF\x11")
        || begins(b"\0\0\x01\xBA")
        || begins(b"\0\0\x01\xB3")
        || packets(0, 188)
        || packets(4, 192)
        || begins(b".RMF\0")
        || (begins(b"OggS") && !text::contains(head, b"vorbis") && !text::contains(head, b"Opus"))
        || matches!(head, [b'F' | b'C' | b'Z', b'W', b'S', 1..=63, ..])
        || begins(b"\x06\x0E\x2B\x34\x02\x05\x01\x01")
}
