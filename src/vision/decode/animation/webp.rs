//! The frames of an animated WebP (WebP container specification), each decoded as a file of its own.

use std::io::Cursor;

use image::codecs::webp::WebPDecoder;
use image::{DynamicImage, ImageDecoder, RgbaImage};

use super::canvas::{Area, Blend, Disposal};
use super::{Animation, Data, Frame};
use crate::moderation::{Doubt, Doubts};
use crate::vision::decode::Limits;

/// The flag of an extended file that says that it may be transparent.
const ALPHA: u8 = 0x10;

/// The flag of an extended file that says that it is an animation.
const ANIMATION: u8 = 0x02;

/// A part of the container: name and content, cut where the file ends.
type Chunk<'a> = ([u8; 4], &'a [u8]);

/// The chunks one after the other; what follows the last whole head is no chunk.
fn chunks(bytes: &[u8]) -> impl Iterator<Item = Chunk<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (head, behind) = rest.split_first_chunk::<8>()?;
        let [a, b, c, d, length @ ..] = *head;
        let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        // Chunks begin at even places.
        let padded = length.saturating_add(length % 2).min(behind.len());
        rest = &behind[padded..];
        Some(([a, b, c, d], &behind[..length.min(behind.len())]))
    })
}

/// What lies within the length that the file gives itself, and whether the file is as long.
fn body(bytes: &[u8]) -> Option<(&[u8], bool)> {
    let length = u32::from_le_bytes(*bytes.get(4..)?.first_chunk()?);
    let end = usize::try_from(length).unwrap_or(usize::MAX).saturating_add(8);
    Some((bytes.get(12..end.min(bytes.len()))?, end <= bytes.len()))
}

fn is_picture(name: [u8; 4]) -> bool {
    matches!(&name, b"VP8 " | b"VP8L")
}

/// What viewers of a still may differ about.
pub(in crate::vision::decode) fn doubts_of_still(bytes: &[u8]) -> Doubts {
    let mut doubts = Doubts::default();
    let Some((body, _)) = body(bytes) else { return doubts };
    let chunks: Vec<_> = chunks(body).collect();
    let pictures: Vec<_> = chunks.iter().filter(|(name, _)| is_picture(*name)).collect();
    if pictures.len() > 1 {
        doubts.insert(Doubt::SecondPicture);
    }
    let flags =
        chunks.first().filter(|(name, _)| name == b"VP8X").and_then(|(_, body)| body.first());
    // Some viewers believe the flag, others the pixels.
    let opaque = flags.is_some_and(|flags| flags & ALPHA == 0);
    let lossless_with_alpha =
        |chunk: &Chunk| &chunk.0 == b"VP8L" && chunk.1.get(4).is_some_and(|byte| byte & 0x10 != 0);
    let has_alpha = chunks.iter().any(|(name, _)| name == b"ALPH");
    if opaque && (has_alpha || pictures.iter().any(|chunk| lossless_with_alpha(chunk))) {
        doubts.insert(Doubt::Canvas);
    }
    if flags.is_some_and(|flags| flags & ANIMATION != 0) {
        // An animation without frames.
        doubts.insert(Doubt::SecondPicture);
    }
    doubts
}

/// The animation; `None` for a file without frames.
pub(super) fn read<'a>(bytes: &'a [u8], limits: &Limits) -> Option<Animation<'a>> {
    let (body, is_whole) = body(bytes)?;
    let mut animation = Animation {
        canvas: (0, 0),
        frames: Vec::new(),
        count: 0,
        // Once, where it is not said.
        ends: true,
        cuts: Vec::new(),
        profile: None,
        exif: None,
        doubts: Doubts::default(),
    };
    let mut flags = 0;
    let mut still: Vec<Chunk> = Vec::new();
    for (name, content) in chunks(body) {
        match &name {
            b"VP8X" => {
                flags = content.first().copied().unwrap_or(0);
                animation.canvas = (less_one(content, 4), less_one(content, 7));
            }
            b"ANIM" => animation.ends = content.get(4..6) != Some(&[0, 0]),
            b"ANMF" => {
                animation.count = animation.count.saturating_add(1);
                if animation.count <= limits.animation_frames {
                    match frame(content) {
                        Some(frame) => animation.frames.push(frame),
                        None => animation.doubts.insert(Doubt::Damaged),
                    }
                }
            }
            b"VP8 " | b"VP8L" | b"ALPH" => still.push((name, content)),
            b"ICCP" => animation.profile = Some(content.to_vec()),
            b"EXIF" => animation.exif = Some(content.to_vec()),
            _ => {}
        }
    }
    if animation.frames.is_empty() {
        return None;
    }
    if !is_whole {
        animation.doubts.insert(Doubt::Damaged);
    }
    if !still.is_empty() || flags & ANIMATION == 0 {
        // The still, or the animation, or nothing is shown.
        animation.doubts.insert(Doubt::SecondPicture);
    }
    let canvas = animation.canvas;
    let beyond = |area: Area| area.right() > canvas.0 || area.bottom() > canvas.1;
    if animation.frames.iter().any(|frame| beyond(frame.area)) {
        animation.doubts.insert(Doubt::Canvas);
    }
    if still.iter().any(|(name, _)| is_picture(*name)) {
        let area = Area { left: 0, top: 0, width: canvas.0, height: canvas.1 };
        let (disposal, blend) = (Disposal::Clear, Blend::Replace);
        let data = Data::WebP(still);
        animation.frames.insert(0, Frame { area, milliseconds: 0, disposal, blend, data });
        animation.count = animation.count.saturating_add(1);
    }
    Some(animation)
}

/// A number of three bytes, one less than what is meant.
fn less_one(bytes: &[u8], at: usize) -> u32 {
    number(bytes, at) + 1
}

fn number(bytes: &[u8], at: usize) -> u32 {
    let three = bytes.get(at..at + 3).and_then(|bytes| bytes.first_chunk::<3>());
    three.map_or(0, |[low, middle, high]| u32::from_le_bytes([*low, *middle, *high, 0]))
}

fn frame(content: &[u8]) -> Option<Frame<'_>> {
    let (head, inner) = content.split_at_checked(16)?;
    let area = Area {
        left: number(head, 0) * 2,
        top: number(head, 3) * 2,
        width: less_one(head, 6),
        height: less_one(head, 9),
    };
    let disposal = if head[15] & 1 == 0 { Disposal::Keep } else { Disposal::Clear };
    let blend = if head[15] & 2 == 0 { Blend::Over } else { Blend::Replace };
    let data = Data::WebP(chunks(inner).collect());
    Some(Frame { area, milliseconds: number(head, 12), disposal, blend, data })
}

/// Decodes the first picture among these chunks, and says what is odd about it.
pub(super) fn decode(chunks: &[Chunk], area: Area, limits: &Limits) -> Option<(RgbaImage, Doubts)> {
    let mut doubts = Doubts::default();
    if chunks.iter().filter(|(name, _)| is_picture(*name)).count() > 1 {
        doubts.insert(Doubt::SecondPicture);
    }
    let (name, content) = chunks.iter().find(|(name, _)| is_picture(*name))?;
    // Only lossy pictures have their alpha apart.
    let alpha = chunks.iter().find(|(other, _)| other == b"ALPH" && name == b"VP8 ");
    let mut inner = Vec::with_capacity(content.len() + 64);
    if let Some((_, alpha)) = alpha {
        let mut head = vec![ALPHA, 0, 0, 0];
        for length in [area.width, area.height] {
            head.extend(&length.saturating_sub(1).to_le_bytes()[..3]);
        }
        put(&mut inner, b"VP8X", &head);
        put(&mut inner, b"ALPH", alpha);
    }
    put(&mut inner, name, content);
    let mut file = Vec::with_capacity(inner.len() + 12);
    put(&mut file, b"RIFF", &[b"WEBP", inner.as_slice()].concat());
    let mut decoder = WebPDecoder::new(Cursor::new(file)).ok()?;
    let (width, height) = decoder.dimensions();
    limits.check_frame(width, height).ok()?;
    decoder.set_limits(limits.of_decoder()).ok()?;
    if (width, height) != (area.width, area.height) {
        doubts.insert(Doubt::Damaged);
    }
    let image = DynamicImage::from_decoder(decoder).ok()?.into_rgba8();
    Some((image, doubts))
}

fn put(file: &mut Vec<u8>, name: &[u8], content: &[u8]) {
    file.extend(name);
    file.extend(u32::try_from(content.len()).unwrap_or(u32::MAX).to_le_bytes());
    file.extend(content);
    file.resize(file.len() + content.len() % 2, 0);
}
