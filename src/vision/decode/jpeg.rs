//! JPEG: a look at its segments before decoding, and what the decoder says about the picture.
//!
//! One decoder for everything, at full and at reduced size: two of them disagreed, and what one
//! showed was judged where people saw the other. Measured on 2026-12-01, one core, before the others
//! were dropped (pictures of 1.1 MP at half and full size, and of 12 MP at a quarter):
//!
//! | decoder | bit for bit as libjpeg-turbo | 1.1 MP | 1.1 MP in full | 12 MP |
//! |---|---|---|---|---|
//! | ours (`crates/jpeg`) | 500 of 500 photos, and all odd ones that are whole | 3.3 ms | 7.5 ms | 15 ms |
//! | zune-jpeg | no: scans of one colour, colours by JFIF before Adobe, damage as grey | – | 2.8 ms | 44 ms |
//! | jpeg-decoder | no: colours by Adobe before JFIF, no damage told | 3.6 ms | 4.7 ms | 23 ms |

use image::metadata::Orientation;
use image::{DynamicImage, GrayImage, RgbImage};
use modtool_jpeg::{Error, Pixels, Scale, Warnings, next_marker};

use super::orientation::Turn;
use super::{Flaw, Limits, Still, colour};
use crate::moderation::{Doubt, Doubts};

/// A reduced picture keeps at least this many times the model's size on each side. Measured with
/// the built-in model on photos of 1, 3.5 and 12 megapixels, against decoding in full: cosines
/// from 0.9987 up (with twice the size: from 0.9958), for the same time.
pub(super) const HEADROOM: u32 = 3;

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

    pub(super) fn check(&self, limits: &Limits) -> Result<(), Flaw> {
        let Self { width, height, scans, end: _ } = *self;
        limits.check_frame(width, height)?;
        let scanned = u64::from(width) * u64::from(height) * u64::from(scans);
        if scans > MOST_SCANS || scanned > MOST_SCANNED_MEGAPIXELS * 1_000_000 {
            return Err(Flaw::TooManyScans { scans, width, height });
        }
        Ok(())
    }
}

/// Decodes as people's viewers show it; no side comes out below `wanted` unless it is that small itself.
/// The caller has checked the survey.
pub(super) fn decode(
    bytes: &[u8],
    survey: &Survey,
    limits: &Limits,
    wanted: u32,
) -> Result<Still, Flaw> {
    let picture = modtool_jpeg::decode(bytes, scale(survey, wanted), limits.decoded_bytes);
    let picture = picture.map_err(|error| flaw(&error))?;
    let (width, height) = (picture.width, picture.height);
    let mut doubts = doubts(picture.warnings);
    let mut profile = picture.profile;
    let image = match picture.pixels {
        Pixels::Grey(pixels) => {
            GrayImage::from_raw(width, height, pixels).map(DynamicImage::ImageLuma8)
        }
        Pixels::Rgb(pixels) => {
            RgbImage::from_raw(width, height, pixels).map(DynamicImage::ImageRgb8)
        }
        Pixels::RgbOfFour(pixels) => {
            // It is about printing colours, and few viewers look at it.
            if profile.take().is_some() {
                doubts.insert(Doubt::Colours);
            }
            RgbImage::from_raw(width, height, pixels).map(DynamicImage::ImageRgb8)
        }
    };
    let turns = picture.exif.iter().map(|exif| Orientation::from_exif_chunk(exif));
    let turns: Vec<Orientation> =
        turns.map(|turn| turn.unwrap_or(Orientation::NoTransforms)).collect();
    let orientation = turns.first().copied().unwrap_or(Orientation::NoTransforms);
    // Firefox reads the first APP1 segment only, other browsers the first one that is Exif.
    let late = picture.exif_is_late && orientation != Orientation::NoTransforms;
    if late || turns.iter().any(|other| *other != orientation) {
        doubts.insert(Doubt::Orientation);
    }
    let image = image.ok_or(Flaw::NoPixels)?;
    let colours = colour::of_profile(profile.as_deref(), !image.color().has_color());
    let turn = Turn::sure(orientation);
    Ok(Still { image, full: (survey.width, survey.height), turn, colours, doubts })
}

fn flaw(error: &Error) -> Flaw {
    match error {
        Error::CutOff => Flaw::Truncated { format: "jpeg" },
        Error::TooMuchMemory { bytes, limit } => {
            Flaw::TooMuchMemory { bytes: *bytes, limit: *limit }
        }
        Error::Broken(what) => Flaw::Malformed { format: "jpeg", detail: (*what).to_owned() },
    }
}

fn doubts(warnings: Warnings) -> Doubts {
    let Warnings { damaged, unfinished, broken_profile } = warnings;
    let found = [
        (damaged, Doubt::Damaged),
        (unfinished, Doubt::Unfinished),
        (broken_profile, Doubt::Colours),
    ];
    found.into_iter().filter(|(found, _)| *found).map(|(_, doubt)| doubt).collect()
}

/// The smallest scale that leaves no side below `wanted`.
fn scale(survey: &Survey, wanted: u32) -> Scale {
    let fits =
        |scale: &Scale| scale.of(survey.width) >= wanted && scale.of(survey.height) >= wanted;
    [Scale::Eighth, Scale::Quarter, Scale::Half].into_iter().find(fits).unwrap_or(Scale::Full)
}
