//! From a file's bytes to the pixels that a model sees.
//!
//! What a file is, its bytes say, not its name. Everything that a header claims is checked
//! before memory is taken for it, and whatever is wrong with a file is a [`Flaw`]: a value
//! that a person gets to read, never a failure of the tool.

mod animation;
mod colour;
mod flaw;
mod jpeg;
mod orientation;
mod preview;
mod recipe;
mod shapes;
mod signals;
pub(crate) mod sniff;
mod views;

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, RgbImage};

use super::preprocess::{ImageSpec, Pixels, Raster};
use crate::moderation::{Doubts, PerceptualHash};

use animation::Animation;
use colour::Colours;
use orientation::Turn;
use views::{ViewList, shown};

pub(crate) use views::MOST_VIEWS;

pub use flaw::{Crash, Flaw, Lost};
pub use recipe::{recipe_of, recipes, unjudged};
pub use signals::Signals;
pub use sniff::{FIRST_BYTES, has_picture_extension, kind_of, sniff};

/// What a picture may cost. The defaults are the promised ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Pixels of a side.
    pub side: u32,
    /// Megapixels (millions of pixels) of a frame.
    pub megapixels: u32,
    /// Bytes of a decoded frame.
    pub decoded_bytes: u64,
    /// Frames of an animation that become views: the first, the last, evenly between.
    pub frames_scored: u32,
    /// Frames of an animation.
    pub animation_frames: u32,
    /// Megapixels of all frames of an animation together.
    pub animation_megapixels: u32,
    /// Seconds of computing, give or take one; kept by the pool of children.
    pub computing_seconds: u64,
    /// Seconds in all; kept by the pool of children.
    pub wall_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            file_bytes: 50 << 20,
            side: 16_384,
            megapixels: 50,
            decoded_bytes: 512 << 20,
            frames_scored: 8,
            animation_frames: 1_000,
            animation_megapixels: 200,
            computing_seconds: 10,
            wall_seconds: 15,
        }
    }
}

/// A picture as a model is going to see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Views {
    /// At least one; see [`views`].
    pub views: Vec<Pixels>,
    /// What the file is.
    pub facts: PictureFacts,
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureFacts {
    /// By its bytes, as [`sniff()`] says.
    pub format: &'static str,
    /// As shown: after a rotation that the file asks for.
    pub width: u32,
    /// As shown.
    pub height: u32,
    /// 1 for what is not an animation.
    pub frames: u32,
    /// Whether a pixel that was looked at lets the background through.
    pub has_alpha: bool,
    /// What the first picture in the file looks like; none where nobody asked for it.
    pub hash: Option<PerceptualHash>,
    /// What else the file is.
    pub signals: Signals,
    /// Why a person has to see it whatever its scores are.
    pub doubts: Doubts,
}

/// The views that policies score: what a viewer sees.
///
/// A rotation that the file asks for is applied and its colours are converted to sRGB. A picture
/// with transparent pixels gives two views, over white and over black, so that nothing hides
/// in the background; an animation gives up to [`Limits::frames_scored`] frames.
/// No two views are the same.
///
/// # Errors
/// A [`Flaw`] for everything that can't be decoded in full within the limits.
pub fn views(bytes: &[u8], spec: &ImageSpec, limits: &Limits) -> Result<Views, Flaw> {
    guarded(bytes, limits, |format| policy_views(format, bytes, spec, limits))
}

/// The one view of the reference implementation: the first frame with its rotation applied,
/// alpha dropped, colours as they are, decoded at full size.
///
/// # Errors
/// As [`views`].
pub fn reference_view(bytes: &[u8], spec: &ImageSpec, limits: &Limits) -> Result<Views, Flaw> {
    guarded(bytes, limits, |format| {
        let survey = survey(format, bytes, limits)?;
        let mut still = decode_first(format, bytes, survey.as_ref(), limits, u32::MAX)?;
        still.image.apply_orientation(still.turn.shown);
        let rgb = still.image.into_rgb8();
        let (width, height) = rgb.dimensions();
        let source = Raster { width, height, channels: 3, pixels: rgb.as_raw() };
        let square = spec.square(&source).ok_or(Flaw::NoPixels)?;
        Ok(Views {
            views: vec![Pixels { size: spec.size, rgb: square }],
            facts: PictureFacts {
                format: format.name(),
                width,
                height,
                frames: 1,
                has_alpha: false,
                hash: None,
                signals: signals::signals(format, bytes, survey.as_ref()),
                doubts: still.doubts,
            },
        })
    })
}

/// A picture for people: the first frame as a viewer sees it, fitted into
/// `max_width` × `max_height` pixels (never enlarged), transparent parts over a checkerboard.
///
/// # Errors
/// As [`views`].
pub fn preview(
    bytes: &[u8],
    limits: &Limits,
    max_width: u32,
    max_height: u32,
) -> Result<RgbImage, Flaw> {
    guarded(bytes, limits, |format| {
        let wanted = max_width.max(max_height).max(1);
        let survey = survey(format, bytes, limits)?;
        let still = decode_first(format, bytes, survey.as_ref(), limits, wanted)?;
        let image = shown(still);
        preview::fitted(&image, max_width.max(1), max_height.max(1)).ok_or(Flaw::NoPixels)
    })
}

/// The formats that are compiled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Jpeg,
    Png,
    Gif,
    WebP,
}

impl Format {
    fn of(bytes: &[u8]) -> Result<Self, Flaw> {
        match sniff(bytes) {
            Some("jpeg") => Ok(Self::Jpeg),
            Some("png") => Ok(Self::Png),
            Some("gif") => Ok(Self::Gif),
            Some("webp") => Ok(Self::WebP),
            Some(format) => Err(Flaw::UnsupportedFormat { format }),
            None => Err(Flaw::NotAPicture),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "jpeg",
            Self::Png => "png",
            Self::Gif => "gif",
            Self::WebP => "webp",
        }
    }

    /// What the decoder says, as a flaw.
    fn flaw(self, error: &image::ImageError) -> Flaw {
        let cut_off = |error: &image::ImageError| match error {
            image::ImageError::IoError(io) => io.kind() == std::io::ErrorKind::UnexpectedEof,
            _ => false,
        };
        if cut_off(error) {
            return Flaw::Truncated { format: self.name() };
        }
        Flaw::Malformed { format: self.name(), detail: shortened(&error.to_string()) }
    }
}

/// A decoder's words: one line of at most 120 characters.
fn shortened(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match line.char_indices().nth(120) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// What holds for every way in: size, format, and decoders that panic.
fn guarded<T>(
    bytes: &[u8],
    limits: &Limits,
    decode: impl FnOnce(Format) -> Result<T, Flaw>,
) -> Result<T, Flaw> {
    if bytes.is_empty() {
        return Err(Flaw::Empty);
    }
    let length = bytes.len() as u64;
    if length > limits.file_bytes {
        return Err(Flaw::TooManyBytes { bytes: length, limit: limits.file_bytes });
    }
    let format = Format::of(bytes)?;
    catch_unwind(AssertUnwindSafe(|| decode(format)))
        .unwrap_or_else(|_| Err(Flaw::Panicked { format: format.name() }))
}

impl Limits {
    /// Checks what a header claims, before anything is allocated for it.
    pub(crate) fn check_frame(&self, width: u32, height: u32) -> Result<(), Flaw> {
        if width == 0 || height == 0 {
            return Err(Flaw::NoPixels);
        }
        if u64::from(width) * u64::from(height) > u64::from(self.megapixels) * 1_000_000 {
            return Err(Flaw::TooManyPixels { width, height, megapixels: self.megapixels });
        }
        if width.max(height) > self.side {
            return Err(Flaw::TooLong { width, height, side: self.side });
        }
        Ok(())
    }

    fn check_bytes(&self, bytes: u64) -> Result<(), Flaw> {
        if bytes > self.decoded_bytes {
            return Err(Flaw::TooMuchMemory { bytes, limit: self.decoded_bytes });
        }
        Ok(())
    }

    fn of_decoder(&self) -> image::Limits {
        let mut limits = image::Limits::default();
        limits.max_image_width = Some(self.side);
        limits.max_image_height = Some(self.side);
        limits.max_alloc = Some(self.decoded_bytes);
        limits
    }
}

/// One decoded picture and what the file says about showing it.
struct Still {
    image: DynamicImage,
    /// Width and height in the file; a JPEG may have been decoded at a smaller scale.
    full: (u32, u32),
    turn: Turn,
    colours: Colours,
    /// Why a person has to see it.
    doubts: Doubts,
}

fn policy_views(
    format: Format,
    bytes: &[u8],
    spec: &ImageSpec,
    limits: &Limits,
) -> Result<Views, Flaw> {
    let survey = survey(format, bytes, limits)?;
    let wanted = spec.detail().saturating_mul(jpeg::HEADROOM);
    let still = decode_first(format, bytes, survey.as_ref(), limits, wanted)?;
    let mut list = ViewList::new(spec, still.doubts);
    let (full, turn, colours) = (still.full, still.turn, still.colours.clone());
    let of_frame = |image| {
        let (colours, doubts) = (colours.clone(), Doubts::default());
        Still { image, full, turn, colours, doubts }
    };
    let (width, height) = still.full_as_shown();
    let film = Animation::of(format, bytes, limits);
    let cuts = film.as_ref().map_or_else(Vec::new, |film| film.cuts(&still.image));
    // A GIF of one frame is a still.
    let film = film.filter(|film| format != Format::Gif || film.count() > 1);
    // The still of an animated PNG may be a picture that is no frame of it; viewers that know
    // no animations show it, the others never do.
    if film.is_none() || format == Format::Png {
        list.hang(still)?;
    }
    if let Some(film) = &film {
        let chosen = film.chosen(format, limits, |image| list.looks(of_frame(image)))?;
        chosen.seen.into_iter().flatten().for_each(|rgb| list.add(rgb));
        list.doubts.extend(chosen.doubts);
    }
    for cut in cuts {
        list.hang(of_frame(cut))?;
    }
    let facts = PictureFacts {
        format: format.name(),
        width,
        height,
        frames: film.map_or(1, |film| film.count()),
        has_alpha: list.has_alpha,
        hash: list.hash,
        signals: signals::signals(format, bytes, survey.as_ref()),
        doubts: list.doubts,
    };
    Ok(Views { views: list.views, facts })
}

impl Still {
    /// Width and height as shown.
    fn full_as_shown(&self) -> (u32, u32) {
        let turned = matches!(
            self.turn.shown,
            Orientation::Rotate90
                | Orientation::Rotate270
                | Orientation::Rotate90FlipH
                | Orientation::Rotate270FlipH
        );
        if turned { (self.full.1, self.full.0) } else { self.full }
    }
}

/// A look at a JPEG before it is decoded, within the limits; `None` for other formats.
fn survey(format: Format, bytes: &[u8], limits: &Limits) -> Result<Option<jpeg::Survey>, Flaw> {
    if format != Format::Jpeg {
        return Ok(None);
    }
    let survey = jpeg::Survey::of(bytes)?;
    survey.check(limits)?;
    Ok(Some(survey))
}

/// The first frame. A JPEG, whose survey is at hand, may come out smaller, with no side below `wanted`
/// (unless it is that small itself).
fn decode_first(
    format: Format,
    bytes: &[u8],
    survey: Option<&jpeg::Survey>,
    limits: &Limits,
    wanted: u32,
) -> Result<Still, Flaw> {
    if let Some(survey) = survey {
        return jpeg::decode(bytes, survey, limits, wanted);
    }
    let reader = || Cursor::new(bytes);
    let flaw = |error: image::ImageError| format.flaw(&error);
    match format {
        // It has no size.
        Format::Jpeg => Err(Flaw::Truncated { format: format.name() }),
        Format::Png => {
            // The decoder checks sizes only after it has read the header's claims into account.
            let (width, height) = png_size(bytes).ok_or(Flaw::Truncated { format: "png" })?;
            limits.check_frame(width, height)?;
            let plain = colour::without_colours(bytes);
            let decoder = PngDecoder::with_limits(Cursor::new(&*plain), limits.of_decoder());
            finish(format, bytes, decoder.map_err(flaw)?, limits)
        }
        Format::Gif | Format::WebP => match Animation::of(format, bytes, limits) {
            Some(film) => film.first(format, limits),
            None if format == Format::Gif => Err(Flaw::Truncated { format: format.name() }),
            None => {
                let decoder = WebPDecoder::new(reader()).map_err(flaw)?;
                let mut still = finish(format, bytes, decoder, limits)?;
                still.doubts.extend(animation::doubts_of_still(bytes));
                Ok(still)
            }
        },
    }
}

/// Width and height from the header, which is always the first chunk.
fn png_size(bytes: &[u8]) -> Option<(u32, u32)> {
    let number = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
    Some((number(16)?, number(20)?))
}

/// Checks what the decoder has read of the header, then decodes.
fn finish(
    format: Format,
    bytes: &[u8],
    mut decoder: impl ImageDecoder,
    limits: &Limits,
) -> Result<Still, Flaw> {
    let (width, height) = decoder.dimensions();
    limits.check_frame(width, height)?;
    limits.check_bytes(decoder.total_bytes())?;
    let mut remaining = limits.of_decoder();
    let flaw = |error: image::ImageError| format.flaw(&error);
    remaining.reserve(decoder.total_bytes()).map_err(flaw)?;
    decoder.set_limits(remaining).map_err(flaw)?;
    // Broken metadata is no reason to refuse the pixels.
    let (turn, colours) = if format == Format::Png {
        (orientation::of_png(bytes), colour::of_png(bytes))
    } else {
        let exif = decoder.exif_metadata().ok().flatten();
        let profile = decoder.icc_profile().ok().flatten();
        (orientation::of_webp(exif.as_deref()), colour::of_profile(profile.as_deref(), false))
    };
    let image = DynamicImage::from_decoder(decoder).map_err(flaw)?;
    let doubts = Doubts::default();
    Ok(Still { image, full: (width, height), turn, colours, doubts })
}

#[cfg(test)]
mod tests;
