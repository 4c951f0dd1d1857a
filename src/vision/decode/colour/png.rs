//! What the chunks of a PNG say about its colours and its orientation (PNG specification, third
//! edition, section 11.3).
//!
//! As browsers take them: the first of a kind, with a right checksum, in its place before the pixels.
//! What they ignore is a reading that another viewer may make.

use std::borrow::Cow;
use std::io::Read;

use flate2::Crc;
use flate2::read::ZlibDecoder;
use moxcms::{
    Chromaticity, CicpColorPrimaries, CicpProfile, ColorPrimaries, ColorProfile,
    MatrixCoefficients, TransferCharacteristics, XyY,
};

use super::profile::{LARGEST_PROFILE, of_matrix, readings, with_curve};
use super::{Colours, Reading};

/// More chunks about colours than these are made to be slow.
const MOST_CHUNKS: usize = 12;

/// A tag of `cHRM` counts in 100,000ths, and so does `gAMA`.
const UNITS: f64 = 100_000.0;

/// The gamma that stands for sRGB's curve, and how far from it (libpng's rule) still does.
const USUAL_GAMMA: f64 = 45_455.0;
const ABOUT: f64 = 0.05;

/// Light of the white of ordinary pictures among that of a picture of high dynamic range, whose curve
/// ends at 10,000 candelas or, relative, at 12 times as much light (ITU-R BT.2408: 203 candelas,
/// which is 0.75 on the curve HLG).
const PQ_HEADROOM: f64 = 10_000.0 / 203.0;
const HLG_HEADROOM: f64 = 1.0 / 0.265;

/// A part of a PNG.
#[derive(Debug, Clone, Copy)]
pub(in crate::vision::decode) struct Chunk<'a> {
    name: [u8; 4],
    data: &'a [u8],
    /// Whether the checksum is right.
    whole: bool,
    /// Whether it lies before the pixels.
    early: bool,
    /// Whether it lies behind the palette.
    after_palette: bool,
}

/// The chunks with one of the names, in the file's order.
pub(in crate::vision::decode) fn chunks<'a>(bytes: &'a [u8], names: &[[u8; 4]]) -> Vec<Chunk<'a>> {
    let (mut at, mut early, mut after_palette) = (8_usize, true, false);
    let mut found = Vec::new();
    while let Some((name, data, checksum)) = chunk_at(bytes, at) {
        at += data.len() + 12;
        match &name {
            b"IDAT" => early = false,
            b"PLTE" => after_palette = true,
            _ => {}
        }
        if names.contains(&name) {
            let mut crc = Crc::new();
            crc.update(&name);
            crc.update(data);
            let whole = crc.sum() == checksum;
            found.push(Chunk { name, data, whole, early, after_palette });
        }
    }
    found
}

/// Name, data and checksum of the chunk at a place.
fn chunk_at(bytes: &[u8], at: usize) -> Option<([u8; 4], &[u8], u32)> {
    let number = |at: usize| Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
    let length = usize::try_from(number(at)?).ok()?;
    let name = *bytes.get(at + 4..)?.first_chunk()?;
    let end = at.checked_add(8)?.checked_add(length)?;
    Some((name, bytes.get(at + 8..end)?, number(end)?))
}

impl<'a> Chunk<'a> {
    /// The data if viewers take it, or all that is there.
    pub(in crate::vision::decode) fn data(&self) -> &'a [u8] {
        self.data
    }

    /// Whether browsers look at it, if it is the first of its kind.
    pub(in crate::vision::decode) fn is_taken(&self) -> bool {
        self.whole && self.early
    }
}

/// The file without what is read here: the decoder refuses pictures for codes that it does not like, and
/// it takes time and memory for profiles that nobody asks it for.
pub(in crate::vision::decode) fn without_colours(bytes: &[u8]) -> Cow<'_, [u8]> {
    let (mut at, mut kept, mut from) = (8_usize, Vec::new(), 0);
    while let Some((name, data, _)) = chunk_at(bytes, at) {
        let end = at + data.len() + 12;
        if [*b"cICP", *b"iCCP", *b"mDCV", *b"cLLI"].contains(&name) {
            kept.extend_from_slice(&bytes[from..at]);
            from = end;
        }
        at = end;
    }
    if from == 0 {
        return Cow::Borrowed(bytes);
    }
    kept.extend_from_slice(&bytes[from..]);
    Cow::Owned(kept)
}

/// What a PNG says about its colours.
pub(in crate::vision::decode) fn of_png(bytes: &[u8]) -> Colours {
    let names = [*b"cICP", *b"iCCP", *b"sRGB", *b"gAMA", *b"cHRM"];
    // Nobody has read what lies behind the pixels when they are shown.
    let mut chunks = chunks(bytes, &names);
    chunks.retain(|chunk| chunk.early);
    if chunks.is_empty() {
        return Colours::stored();
    }
    // Colour types 0 and 4 are grey.
    let grey = matches!(bytes.get(25), Some(0 | 4));
    let mut heard = Heard { taken: Vec::new(), ignored: Vec::new(), unreadable: false };
    heard.unreadable |= chunks.len() > MOST_CHUNKS;
    chunks.truncate(MOST_CHUNKS);
    let of = |name: &'static [u8; 4]| chunks.iter().filter(move |chunk| chunk.name == *name);
    heard.each(of(b"cICP"), |chunk| of_codes(chunk.data));
    // How much of a high dynamic range is shown depends on the viewer.
    heard.unreadable |= of(b"cICP").any(|chunk| matches!(chunk.data, [_, 16 | 18, ..]));
    heard.each(of(b"iCCP"), |chunk| of_iccp(chunk.data, grey));
    heard.each(of(b"sRGB"), |_| Some(vec![Reading::Stored]));
    // Whether its checksum is right or not, every viewer takes at most one.
    let primaries: Vec<_> = of(b"cHRM").filter(|chunk| chunk.whole).collect();
    let primaries = primaries.first().and_then(|chunk| primaries_of(chunk.data));
    heard.each(of(b"gAMA"), |chunk| of_gamma(chunk.data, primaries));
    // Browsers do nothing about primaries without a curve.
    if let (Some(primaries), None) = (primaries, of(b"gAMA").next()) {
        heard.ignored.extend(of_primaries(ColorProfile::new_srgb(), primaries));
    }
    heard.colours()
}

/// What the chunks said.
struct Heard {
    /// What browsers take, the first that counts first.
    taken: Vec<Reading>,
    ignored: Vec<Reading>,
    unreadable: bool,
}

impl Heard {
    /// Reads the chunks of one kind; `None` is what can't be read.
    fn each<'a>(
        &mut self,
        chunks: impl Iterator<Item = &'a Chunk<'a>>,
        read: impl Fn(&Chunk<'_>) -> Option<Vec<Reading>>,
    ) {
        let mut first = true;
        for chunk in chunks {
            let Some(readings) = read(chunk) else {
                self.unreadable = true;
                continue;
            };
            let misplaced = chunk.name == *b"cICP" && chunk.after_palette;
            if first && chunk.is_taken() && !misplaced {
                first = false;
                self.taken.extend(readings);
            } else {
                self.ignored.extend(readings);
            }
        }
    }

    fn colours(self) -> Colours {
        let mut readings = self.taken;
        if readings.is_empty() && !self.ignored.is_empty() {
            readings.push(Reading::Stored);
        }
        readings.extend(self.ignored);
        Colours::from_readings(readings, self.unreadable)
    }
}

/// A name, a zero, the method (0), a compressed profile.
fn of_iccp(data: &[u8], grey: bool) -> Option<Vec<Reading>> {
    let name = data.iter().take(80).position(|byte| *byte == 0).filter(|length| *length > 0)?;
    let (method, compressed) = data.get(name + 1..)?.split_first()?;
    if *method != 0 {
        return None;
    }
    let mut profile = Vec::new();
    let mut inflated = ZlibDecoder::new(compressed).take(LARGEST_PROFILE as u64 + 1);
    inflated.read_to_end(&mut profile).ok()?;
    if profile.len() > LARGEST_PROFILE {
        return None;
    }
    readings(&profile, grey).ok()
}

/// Codes of ITU-T H.273: primaries, curve, matrix (none), range (full).
fn of_codes(data: &[u8]) -> Option<Vec<Reading>> {
    let &[primaries, curve, 0, 1] = data else { return None };
    let codes = CicpProfile {
        color_primaries: CicpColorPrimaries::try_from(primaries).ok()?,
        transfer_characteristics: TransferCharacteristics::try_from(curve).ok()?,
        matrix_coefficients: MatrixCoefficients::Identity,
        full_range: true,
    };
    let mut profile = ColorProfile::new_from_cicp(codes);
    profile.red_trc.as_ref()?;
    // Through the curve's table: the codes were read.
    profile.cicp = None;
    let headroom = match codes.transfer_characteristics {
        TransferCharacteristics::Smpte2084 => PQ_HEADROOM,
        TransferCharacteristics::Hlg => HLG_HEADROOM,
        _ => 1.0,
    };
    for colorant in
        [&mut profile.red_colorant, &mut profile.green_colorant, &mut profile.blue_colorant]
    {
        colorant.x *= headroom;
        colorant.y *= headroom;
        colorant.z *= headroom;
    }
    of_matrix(&profile).map(|reading| vec![reading])
}

/// The exponent with which light was stored; 0 says nothing.
fn of_gamma(data: &[u8], primaries: Option<(XyY, ColorPrimaries)>) -> Option<Vec<Reading>> {
    let gamma = f64::from(u32::from_be_bytes(data.try_into().ok()?));
    if gamma <= 0.0 {
        return Some(Vec::new());
    }
    let profile = if (gamma / USUAL_GAMMA - 1.0).abs() <= ABOUT {
        ColorProfile::new_srgb()
    } else {
        with_curve(|value| value.powf(UNITS / gamma))
    };
    let reading = match primaries {
        Some(primaries) => of_primaries(profile, primaries),
        None => of_matrix(&profile),
    };
    reading.map(|reading| vec![reading])
}

fn of_primaries(
    mut profile: ColorProfile,
    (white, primaries): (XyY, ColorPrimaries),
) -> Option<Reading> {
    profile.update_rgb_colorimetry(white, primaries);
    of_matrix(&profile)
}

/// White, red, green and blue as points of the colour diagram. `None` for points that can't be.
fn primaries_of(data: &[u8]) -> Option<(XyY, ColorPrimaries)> {
    let numbers: [f64; 8] = data
        .as_chunks::<4>()
        .0
        .iter()
        .map(|number| f64::from(u32::from_be_bytes(*number)) / UNITS)
        .collect::<Vec<_>>()
        .try_into()
        .ok()?;
    let [white_x, white_y, red_x, red_y, green_x, green_y, blue_x, blue_y] = numbers;
    if [white_y, red_y, green_y, blue_y].iter().any(|y| *y <= 0.0) {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "a point needs no more than five digits")]
    let point = |x: f64, y: f64| Chromaticity::new(x as f32, y as f32);
    let primaries = ColorPrimaries {
        red: point(red_x, red_y),
        green: point(green_x, green_y),
        blue: point(blue_x, blue_y),
    };
    Some((XyY { x: white_x, y: white_y, yb: 1.0 }, primaries))
}
