//! JPEG: a look at its segments before decoding, and decoding at a reduced scale.

mod reference;

use std::panic::{AssertUnwindSafe, catch_unwind};

use image::metadata::Orientation;
use image::{DynamicImage, GrayImage, RgbImage};
use jpeg_decoder::{Decoder, PixelFormat};

use super::{Flaw, Limits, Still};

/// A reduced picture keeps at least this many times the model's size on each side. Measured with
/// the built-in model on photos of 1, 3.5 and 12 megapixels, against decoding in full: cosines
/// from 0.9987 up (with twice the size: from 0.9958), for the same time.
pub(super) const HEADROOM: u32 = 3;

/// Smaller pictures are decoded in full, which takes no longer: 5 ms for a megapixel either way,
/// but 38 instead of 62 ms for twelve (one core, 2.1 MB).
const WORTH_REDUCING: u32 = 2_000_000;

/// The most passes over the picture, whatever its size, and the most pixels over all passes.
const MOST_SCANS: u32 = 1_000;
const MOST_SCANNED_MEGAPIXELS: u64 = 2_000;

/// What the segments say, without decoding anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Survey {
    pub(super) width: u32,
    pub(super) height: u32,
    /// Passes over the picture.
    pub(super) scans: u32,
    /// Where the end marker ends; `None` when there is none.
    pub(super) end: Option<usize>,
}

impl Survey {
    /// Walks over the segments (ITU-T T.81, annex B) up to the end marker.
    pub(super) fn of(bytes: &[u8]) -> Result<Self, Flaw> {
        let mut survey = Self { width: 0, height: 0, scans: 0, end: None };
        let mut at = 2;
        while let Some(marker) = next_marker(bytes, &mut at) {
            match marker {
                0xD9 => {
                    survey.end = Some(at);
                    break;
                }
                // Markers without a length: restarts, TEM and a second start.
                0x01 | 0xD0..=0xD8 => continue,
                _ => {}
            }
            let Some(length) = bytes.get(at..at + 2) else { break };
            let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
            match marker {
                // Frame headers; C4, C8 and CC are tables.
                0xC0..=0xCF if !matches!(marker, 0xC4 | 0xC8 | 0xCC) => {
                    let Some(&[h1, h0, w1, w0]) = bytes.get(at + 3..at + 7) else { break };
                    // A second frame header can't make a picture smaller than it is checked for.
                    survey.height = survey.height.max(u16::from_be_bytes([h1, h0]).into());
                    survey.width = survey.width.max(u16::from_be_bytes([w1, w0]).into());
                }
                0xDA => survey.scans += 1,
                _ => {}
            }
            at += length.max(2);
        }
        if survey.width == 0 && survey.height == 0 {
            return Err(Flaw::Truncated { format: "jpeg" });
        }
        Ok(survey)
    }

    /// Decoders fill in what is missing without a word, so the end marker is asked for here.
    pub(super) fn check(&self, limits: &Limits) -> Result<(), Flaw> {
        let Self { width, height, scans, end } = *self;
        limits.check_frame(width, height)?;
        let scanned = u64::from(width) * u64::from(height) * u64::from(scans);
        if scans > MOST_SCANS || scanned > MOST_SCANNED_MEGAPIXELS * 1_000_000 {
            return Err(Flaw::TooManyScans { scans, width, height });
        }
        if end.is_none() {
            return Err(Flaw::Truncated { format: "jpeg" });
        }
        Ok(())
    }
}

/// The next marker at or after `at`, which is moved behind it. Skips coded data, in which
/// FF 00 is a byte and FF FF is filling.
fn next_marker(bytes: &[u8], at: &mut usize) -> Option<u8> {
    loop {
        let rest = bytes.get(*at..)?;
        let start = rest.iter().position(|byte| *byte == 0xFF)?;
        let marker = *rest.get(start + 1)?;
        match marker {
            0xFF => *at += start + 1,
            0x00 => *at += start + 2,
            _ => {
                *at += start + 2;
                return Some(marker);
            }
        }
    }
}

/// Decodes at 1/2, 1/4 or 1/8 of the size, the smallest that leaves no side below `wanted`.
///
/// `None` when the picture is needed in full, or when this decoder does not know its kind
/// (four colours, arithmetic coding, …) or fails on it: the other one then has the last word.
pub(super) fn decode_reduced(
    bytes: &[u8],
    survey: &Survey,
    limits: &Limits,
    wanted: u32,
) -> Option<Still> {
    if survey.width.saturating_mul(survey.height) < WORTH_REDUCING {
        return None;
    }
    let eighths = eighths(survey, wanted)?;
    // It starts threads, which can fail, and then it panics.
    let decode = || at_scale(bytes, survey, limits, eighths);
    catch_unwind(AssertUnwindSafe(decode)).ok().flatten()
}

fn at_scale(bytes: &[u8], survey: &Survey, limits: &Limits, eighths: u32) -> Option<Still> {
    let (width, height) = (scaled(survey.width, eighths), scaled(survey.height, eighths));
    let mut decoder = Decoder::new(bytes);
    decoder.set_max_decoding_buffer_size(usize::try_from(limits.decoded_bytes).ok()?);
    let size = decoder.scale(width.try_into().ok()?, height.try_into().ok()?).ok()?;
    if (u32::from(size.0), u32::from(size.1)) != (width, height) {
        return None;
    }
    let pixel_format = decoder.info()?.pixel_format;
    if !matches!(pixel_format, PixelFormat::L8 | PixelFormat::RGB24) {
        return None;
    }
    let pixels = decoder.decode().ok()?;
    let image = match pixel_format {
        PixelFormat::L8 => DynamicImage::ImageLuma8(GrayImage::from_raw(width, height, pixels)?),
        _ => DynamicImage::ImageRgb8(RgbImage::from_raw(width, height, pixels)?),
    };
    let orientation = decoder.exif_data().and_then(Orientation::from_exif_chunk);
    Some(Still {
        image,
        full: (survey.width, survey.height),
        orientation: orientation.unwrap_or(Orientation::NoTransforms),
        profile: decoder.icc_profile(),
    })
}

/// As the reference implementation decodes it; `None` for kinds that only the other decoder knows.
/// The caller has checked the survey.
pub(super) fn decode_exactly(bytes: &[u8]) -> Option<DynamicImage> {
    reference::decode(bytes)
}

/// The scale in eighths; `None` for the full size.
fn eighths(survey: &Survey, wanted: u32) -> Option<u32> {
    let fits = |eighths: &u32| {
        scaled(survey.width, *eighths) >= wanted && scaled(survey.height, *eighths) >= wanted
    };
    [1, 2, 4].into_iter().find(fits)
}

/// The length of a side at a scale, as the decoder rounds it.
fn scaled(length: u32, eighths: u32) -> u32 {
    (length * eighths).div_ceil(8)
}
