//! Animations: how many frames there are, and those that are looked at.

mod shortlist;

use std::io::Cursor;

use image::codecs::gif::GifDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::{AnimationDecoder, DynamicImage, Frames, ImageDecoder};

use super::{Flaw, Format, Limits};
use shortlist::{Shortlist, thumbnail};

/// How many frames the animation has, by a walk over the file's blocks that decodes nothing;
/// `None` for a still.
pub(super) fn frame_count(format: Format, bytes: &[u8]) -> Option<u32> {
    match format {
        Format::Jpeg => None,
        Format::Gif => Some(gif_frames(bytes)).filter(|frames| *frames > 1),
        // An animation of one frame may still show another picture than the still.
        Format::Png => png_frames(bytes).filter(|frames| *frames > 0),
        Format::WebP => Some(webp_frames(bytes)).filter(|frames| *frames > 0),
    }
}

/// Decodes the animation and answers what `look` makes of some frames: the first, the last, some
/// evenly between, and those that differ most from all others.
pub(super) fn chosen_frames<T>(
    format: Format,
    bytes: &[u8],
    limits: &Limits,
    frames: u32,
    mut look: impl FnMut(DynamicImage) -> Result<T, Flaw>,
) -> Result<Vec<T>, Flaw> {
    if frames > limits.animation_frames {
        return Err(Flaw::TooManyFrames { frames, limit: limits.animation_frames });
    }
    let flaw = |error: image::ImageError| format.flaw(&error);
    let reader = || Cursor::new(bytes);
    let stream: Frames = match format {
        Format::Jpeg => return Ok(Vec::new()),
        Format::Gif => {
            let mut decoder = GifDecoder::new(reader()).map_err(flaw)?;
            check(&mut decoder, limits, frames)?.map_err(flaw)?;
            decoder.into_frames()
        }
        Format::Png => {
            let mut decoder =
                PngDecoder::with_limits(reader(), limits.of_decoder()).map_err(flaw)?;
            check(&mut decoder, limits, frames)?.map_err(flaw)?;
            decoder.apng().map_err(flaw)?.into_frames()
        }
        Format::WebP => {
            let mut decoder = WebPDecoder::new(reader()).map_err(flaw)?;
            check(&mut decoder, limits, frames)?.map_err(flaw)?;
            decoder.into_frames()
        }
    };
    let mut shortlist = Shortlist::new(frames, limits.frames_scored);
    let mut decoded = 0;
    for frame in stream.take(frames as usize) {
        let frame = frame.map_err(flaw)?.into_buffer();
        let thumbnail = thumbnail(&frame);
        if let Some(place) = shortlist.place(decoded, &thumbnail) {
            let seen = look(DynamicImage::ImageRgba8(frame))?;
            shortlist.put(place, decoded, thumbnail, seen);
        }
        decoded += 1;
    }
    if decoded < frames {
        return Err(Flaw::Truncated { format: format.name() });
    }
    Ok(shortlist.finish())
}

/// Checks the whole animation's size, then passes the limits on to the decoder.
fn check(
    decoder: &mut impl ImageDecoder,
    limits: &Limits,
    frames: u32,
) -> Result<image::ImageResult<()>, Flaw> {
    let (width, height) = decoder.dimensions();
    limits.check_frame(width, height)?;
    let pixels = u64::from(width) * u64::from(height) * u64::from(frames);
    let megapixels = limits.animation_megapixels;
    if pixels > u64::from(megapixels) * 1_000_000 {
        return Err(Flaw::AnimationTooLarge { frames, width, height, megapixels });
    }
    Ok(decoder.set_limits(limits.of_decoder()))
}

/// Counts image descriptors (specification of GIF 89a, sections 18 to 27).
fn gif_frames(bytes: &[u8]) -> u32 {
    let table = |packed: u8| if packed & 0x80 == 0 { 0 } else { 3 << ((packed & 7) + 1) };
    let Some(packed) = bytes.get(10) else { return 0 };
    let mut at = 13 + table(*packed);
    let mut frames = 0;
    loop {
        match bytes.get(at) {
            Some(0x21) => at += 2,
            Some(0x2C) => {
                let Some(packed) = bytes.get(at + 9) else { break };
                frames += 1;
                // The descriptor, its colours and the code size.
                at += 10 + table(*packed) + 1;
            }
            _ => break,
        }
        // Blocks of data, each with its length before it, until one of length 0.
        loop {
            let Some(length) = bytes.get(at) else { return frames };
            at += 1 + usize::from(*length);
            if *length == 0 {
                break;
            }
        }
    }
    frames
}

/// The number in the animation control chunk, which must come before the pixels
/// (PNG specification, third edition, section 11.3.6.1).
fn png_frames(bytes: &[u8]) -> Option<u32> {
    let mut at = 8_usize;
    loop {
        let length = u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?);
        match bytes.get(at + 4..at + 8)? {
            b"acTL" => {
                return bytes.get(at + 8..at + 12)?.try_into().ok().map(u32::from_be_bytes);
            }
            b"IDAT" | b"IEND" => return None,
            _ => at = at.checked_add(12)?.checked_add(usize::try_from(length).ok()?)?,
        }
    }
}

/// Counts the frame chunks of the container (WebP container specification).
fn webp_frames(bytes: &[u8]) -> u32 {
    let mut at = 12_usize;
    let mut frames = 0;
    while let (Some(name), Some(length)) = (bytes.get(at..at + 4), bytes.get(at + 4..at + 8)) {
        frames += u32::from(name == b"ANMF");
        let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]);
        let padded = usize::try_from(length).unwrap_or(usize::MAX).saturating_add(1) & !1;
        at = at.saturating_add(8).saturating_add(padded);
    }
    frames
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counting_survives_any_bytes() {
        for format in [Format::Gif, Format::Png, Format::WebP] {
            for length in 0..40 {
                frame_count(format, &vec![0xFF; length]);
            }
        }
    }
}
