//! The frames of an animated PNG (PNG specification, third edition, section 11.3.6), each decoded as
//! a PNG of its own.

use std::io::Cursor;

use image::codecs::png::PngDecoder;
use image::{DynamicImage, RgbaImage};

use super::canvas::{Area, Blend, Disposal};
use super::{Animation, Data, Frame};
use crate::moderation::{Doubt, Doubts};
use crate::vision::decode::Limits;

const SIGNATURE: &[u8; 8] = b"\x89PNG\r\n\x1a\n";

/// The data of one frame, and what it needs of the file to be a PNG.
#[derive(Debug)]
pub(super) struct Image<'a> {
    /// Depth, colour type and methods: the end of the header.
    kind: [u8; 5],
    /// The palette and what of it is transparent.
    colours: Vec<([u8; 4], &'a [u8])>,
    data: Vec<&'a [u8]>,
}

/// Name, content, and whether the check sum is right.
type Chunk<'a> = ([u8; 4], &'a [u8], bool);

fn chunks(bytes: &[u8]) -> impl Iterator<Item = Chunk<'_>> {
    let mut rest = bytes.get(8..).unwrap_or_default();
    let mut ended = false;
    std::iter::from_fn(move || {
        if ended {
            return None;
        }
        let (head, behind) = rest.split_first_chunk::<8>()?;
        let [length @ .., a, b, c, d] = *head;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        let content = &behind[..length.min(behind.len())];
        let sum = behind.get(length..).and_then(|behind| behind.first_chunk::<4>());
        let name = [a, b, c, d];
        // The pixels of the still are the still's decoder's business.
        let is_right = matches!(&name, b"IDAT")
            || sum.is_some_and(|sum| u32::from_be_bytes(*sum) == check_sum(&name, content));
        rest = behind.get(length.saturating_add(4)..).unwrap_or_default();
        ended = &name == b"IEND";
        Some((name, content, is_right))
    })
}

/// The animation; `None` for a file without frames.
pub(super) fn read<'a>(bytes: &'a [u8], limits: &Limits) -> Option<Animation<'a>> {
    let header: &[u8; 13] = bytes.get(16..)?.first_chunk()?;
    let mut animation = Animation {
        canvas: (number(header, 0), number(header, 4)),
        frames: Vec::new(),
        count: 0,
        ends: false,
        cuts: Vec::new(),
        profile: None,
        exif: None,
        doubts: Doubts::default(),
    };
    let kind = [header[8], header[9], header[10], header[11], header[12]];
    let mut colours = Vec::new();
    let mut claimed = None;
    let (mut sequence, mut still_seen) = (0_u32, false);
    // The frame whose data may follow: it is not there before its first data.
    let mut open: Option<Frame> = None;
    for (name, content, is_right) in chunks(bytes) {
        if !is_right && matches!(&name, b"acTL" | b"fcTL" | b"fdAT") {
            animation.doubts.insert(Doubt::Damaged);
        }
        if matches!(&name, b"fcTL" | b"fdAT") {
            if number(content, 0) != sequence {
                animation.doubts.insert(Doubt::Damaged);
            }
            sequence = sequence.saturating_add(1);
        }
        match &name {
            b"PLTE" | b"tRNS" => colours.push((name, content)),
            b"acTL" if !still_seen && claimed.is_none() => {
                claimed = Some(number(content, 0));
                animation.ends = number(content, 4) != 0;
            }
            b"acTL" => animation.doubts.insert(Doubt::SecondPicture),
            b"fcTL" => {
                let image = Image { kind, colours: colours.clone(), data: Vec::new() };
                keep(&mut animation, open.take(), limits);
                open = frame(content, image);
            }
            b"IDAT" => {
                still_seen = true;
                add(&mut open, content);
            }
            b"fdAT" => match (&open, content.get(4..)) {
                (Some(_), Some(data)) => add(&mut open, data),
                _ => animation.doubts.insert(Doubt::Damaged),
            },
            _ => {}
        }
    }
    keep(&mut animation, open, limits);
    if animation.frames.is_empty() {
        return None;
    }
    match claimed {
        Some(claimed) if claimed == animation.count => {}
        Some(_) => animation.doubts.insert(Doubt::Damaged),
        // Frames that nothing announces.
        None => animation.doubts.insert(Doubt::SecondPicture),
    }
    let (width, height) = animation.canvas;
    let beyond = |area: Area| area.right() > width || area.bottom() > height || area.pixels() == 0;
    if animation.frames.iter().any(|frame| beyond(frame.area)) {
        animation.doubts.insert(Doubt::Canvas);
    }
    Some(animation)
}

fn add<'a>(open: &mut Option<Frame<'a>>, data: &'a [u8]) {
    if let Some(Frame { data: Data::Png(image), .. }) = open {
        image.data.push(data);
    }
}

/// Keeps a frame that has data.
fn keep<'a>(animation: &mut Animation<'a>, frame: Option<Frame<'a>>, limits: &Limits) {
    let Some(frame) = frame else { return };
    if matches!(&frame.data, Data::Png(image) if image.data.is_empty()) {
        animation.doubts.insert(Doubt::Damaged);
        return;
    }
    animation.count = animation.count.saturating_add(1);
    if animation.count <= limits.animation_frames {
        animation.frames.push(frame);
    }
}

fn number(bytes: &[u8], at: usize) -> u32 {
    let four = bytes.get(at..).and_then(|bytes| bytes.first_chunk());
    four.map_or(0, |four| u32::from_be_bytes(*four))
}

fn frame<'a>(control: &[u8], image: Image<'a>) -> Option<Frame<'a>> {
    let &[high, low, parts_high, parts_low, disposal, blend] =
        control.get(20..26)?.first_chunk()?;
    let parts = match u16::from_be_bytes([parts_high, parts_low]) {
        0 => 100,
        parts => u32::from(parts),
    };
    Some(Frame {
        area: Area {
            width: number(control, 4),
            height: number(control, 8),
            left: number(control, 12),
            top: number(control, 16),
        },
        milliseconds: u32::from(u16::from_be_bytes([high, low])) * 1_000 / parts,
        disposal: match disposal {
            1 => Disposal::Clear,
            2 => Disposal::Restore,
            _ => Disposal::Keep,
        },
        blend: if blend == 1 { Blend::Over } else { Blend::Replace },
        data: Data::Png(image),
    })
}

/// Decodes one frame.
pub(super) fn decode(image: &Image, area: Area, limits: &Limits) -> Option<RgbaImage> {
    limits.check_frame(area.width, area.height).ok()?;
    let sizes = [area.width, area.height].map(u32::to_be_bytes).concat();
    let mut file = SIGNATURE.to_vec();
    put(&mut file, b"IHDR", &[sizes.as_slice(), &image.kind].concat());
    image.colours.iter().for_each(|(name, content)| put(&mut file, name, content));
    put(&mut file, b"IDAT", &image.data.concat());
    put(&mut file, b"IEND", &[]);
    let decoder = PngDecoder::with_limits(Cursor::new(file), limits.of_decoder()).ok()?;
    Some(DynamicImage::from_decoder(decoder).ok()?.into_rgba8())
}

fn put(file: &mut Vec<u8>, name: &[u8], content: &[u8]) {
    file.extend(u32::try_from(content.len()).unwrap_or(u32::MAX).to_be_bytes());
    file.extend(name);
    file.extend(content);
    file.extend(check_sum(name, content).to_be_bytes());
}

/// CRC-32 of name and content (PNG specification, annex D).
fn check_sum(name: &[u8], content: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut value = 0;
        while value < 256 {
            let mut sum = value;
            let mut bit = 0;
            while bit < 8 {
                sum = if sum & 1 == 1 { 0xEDB8_8320 ^ (sum >> 1) } else { sum >> 1 };
                bit += 1;
            }
            table[value as usize] = sum;
            value += 1;
        }
        table
    };
    !name
        .iter()
        .chain(content)
        .fold(u32::MAX, |sum, byte| TABLE[((sum ^ u32::from(*byte)) & 0xFF) as usize] ^ (sum >> 8))
}
