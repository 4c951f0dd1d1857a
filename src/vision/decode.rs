//! From a file's bytes to the pixels that a model sees.
//!
//! What a file is, its bytes say, not its name. Everything that a header claims is checked
//! before memory is taken for it, and whatever is wrong with a file is a [`Flaw`]: a value
//! that a person gets to read, never a failure of the tool.

mod animation;
mod colour;
mod jpeg;
mod orientation;
mod recipe;
mod shapes;
mod signals;
pub(crate) mod sniff;

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, RgbImage};

use super::perceptual;
use super::preprocess::{ImageSpec, Pixels, Raster, Resample, Resize, Window, resampled};
use crate::moderation::{Doubt, Doubts, PerceptualHash};

use animation::Animation;
use colour::Colours;
use orientation::Turn;

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

/// Why a file can't be judged. The texts are fragments for a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// No bytes.
    #[error("the file is empty")]
    Empty,
    /// More bytes than allowed.
    #[error("{bytes} bytes are more than the limit of {limit}")]
    TooManyBytes {
        /// Of the file.
        bytes: u64,
        /// The most.
        limit: u64,
    },
    /// The first bytes are not those of any known format.
    #[error("the content is not a picture of a known format")]
    NotAPicture,
    /// A format that this build can't decode.
    #[error("{format} pictures can't be read by this build")]
    UnsupportedFormat {
        /// By its bytes, as [`sniff()`] says.
        format: &'static str,
    },
    /// A side of length 0.
    #[error("the picture has no pixels")]
    NoPixels,
    /// More pixels than allowed.
    #[error("{width} × {height} pixels are more than the limit of {megapixels} megapixels")]
    TooManyPixels {
        /// As the header claims.
        width: u32,
        /// As the header claims.
        height: u32,
        /// The most.
        megapixels: u32,
    },
    /// A side that is longer than allowed.
    #[error("{width} × {height} pixels: no side may be longer than {side}")]
    TooLong {
        /// As the header claims.
        width: u32,
        /// As the header claims.
        height: u32,
        /// The most.
        side: u32,
    },
    /// More memory than allowed.
    #[error("{bytes} bytes of pixels are more than the limit of {limit}")]
    TooMuchMemory {
        /// Of the decoded frame.
        bytes: u64,
        /// The most.
        limit: u64,
    },
    /// More frames than allowed.
    #[error("an animation of {frames} frames; the limit is {limit}")]
    TooManyFrames {
        /// As the file has them.
        frames: u32,
        /// The most.
        limit: u32,
    },
    /// More pixels in all frames than allowed.
    #[error(
        "an animation of {frames} frames of {width} × {height} pixels is more than the limit \
         of {megapixels} megapixels in all"
    )]
    AnimationTooLarge {
        /// As the file has them.
        frames: u32,
        /// Of a frame.
        width: u32,
        /// Of a frame.
        height: u32,
        /// The most.
        megapixels: u32,
    },
    /// A progressive JPEG that is made to be slow.
    #[error("a JPEG of {scans} passes over {width} × {height} pixels would take too long")]
    TooManyScans {
        /// Passes over the picture.
        scans: u32,
        /// As the header claims.
        width: u32,
        /// As the header claims.
        height: u32,
    },
    /// The file stops before the picture does.
    #[error("the {format} is cut off")]
    Truncated {
        /// By its bytes, as [`sniff()`] says.
        format: &'static str,
    },
    /// The decoder does not understand it.
    #[error("the {format} is broken: {detail}")]
    Malformed {
        /// By its bytes, as [`sniff()`] says.
        format: &'static str,
        /// The decoder's words, shortened.
        detail: String,
    },
    /// The decoder gave up in disorder.
    #[error("the {format} decoder failed on it")]
    Panicked {
        /// By its bytes, as [`sniff()`] says.
        format: &'static str,
    },
    /// The decoding child was lost on it again and again.
    #[error("the decoder failed on it {} times: {}", .0.attempts, .0.how)]
    Crashed(Crash),
}

/// How decoding children were lost on a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crash {
    /// How often it was tried.
    pub attempts: u32,
    /// How the last one was lost.
    pub how: Lost,
}

/// How a decoding child was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// It needed more memory than it may have, or crashed.
    #[error("it was ended by signal {0}")]
    Signal(i32),
    /// It computed longer than it may.
    #[error("it computed for too long")]
    ComputedTooLong,
    /// It did not answer in time.
    #[error("it took longer than {0} seconds")]
    TimedOut(u64),
    /// It called the system in a way that no decoder does: an attack, or a defect of ours.
    #[error("it tried what no decoder may do, and was stopped")]
    BrokeRules,
    /// It ended by itself.
    #[error("it ended with code {0}")]
    Ended(i32),
    /// What it answered can't be true.
    #[error("its answer made no sense")]
    Garbled,
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
        let mut still = decode_small(format, bytes, survey.as_ref(), limits, u32::MAX)?;
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
        let still = decode_small(format, bytes, survey.as_ref(), limits, wanted)?;
        let image = shown(still);
        fitted(&image, max_width.max(1), max_height.max(1)).ok_or(Flaw::NoPixels)
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
    let still = decode_small(format, bytes, survey.as_ref(), limits, wanted)?;
    let mut gallery =
        Gallery { spec, views: Vec::new(), has_alpha: false, hash: None, doubts: still.doubts };
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
        gallery.hang(still)?;
    }
    if let Some(film) = &film {
        let chosen = film.chosen(format, limits, |image| gallery.looks(of_frame(image)))?;
        chosen.seen.into_iter().flatten().for_each(|rgb| gallery.add(rgb));
        gallery.doubts.extend(chosen.doubts);
    }
    for cut in cuts {
        gallery.hang(of_frame(cut))?;
    }
    let facts = PictureFacts {
        format: format.name(),
        width,
        height,
        frames: film.map_or(1, |film| film.count()),
        has_alpha: gallery.has_alpha,
        hash: gallery.hash,
        signals: signals::signals(format, bytes, survey.as_ref()),
        doubts: gallery.doubts,
    };
    Ok(Views { views: gallery.views, facts })
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

/// The most views of a file. An ordinary animation has two for each frame that is looked at; what would
/// have more (an animated strip that lets the background through, in doubtful colours) is not judged in
/// full, and a person looks.
pub(crate) const MOST_VIEWS: u32 = 200;

/// Collects views.
struct Gallery<'a> {
    spec: &'a ImageSpec,
    views: Vec<Pixels>,
    has_alpha: bool,
    hash: Option<PerceptualHash>,
    doubts: Doubts,
}

impl Gallery<'_> {
    /// Adds what [`Gallery::looks`] makes of a picture.
    fn hang(&mut self, still: Still) -> Result<(), Flaw> {
        self.looks(still)?.into_iter().for_each(|rgb| self.add(rgb));
        Ok(())
    }

    /// The squares of a picture in all the ways in which viewers show it.
    fn looks(&mut self, still: Still) -> Result<Vec<Vec<u8>>, Flaw> {
        let looks = looks(still);
        self.doubts.extend(looks.doubts);
        let mut squares = self.squares(looks.shown)?;
        for other in looks.others {
            squares.extend(self.squares(other)?);
        }
        Ok(squares)
    }

    /// The views of a picture: the whole, and parts of it where the whole hides some; each twice when
    /// something shines through.
    fn squares(&mut self, mut image: DynamicImage) -> Result<Vec<Vec<u8>>, Flaw> {
        let (width, height) = (image.width(), image.height());
        let (spec, first, doubts) = (self.spec, &mut self.hash, &mut self.doubts);
        let mut squares = |channels, pixels: &[u8]| {
            let source = Raster { width, height, channels, pixels };
            if first.is_none() {
                *first = perceptual::hash(&source);
            }
            let mut squares = vec![spec.square(&source).ok_or(Flaw::NoPixels)?];
            let parts = parts_of(spec, &source, &squares[0]).ok_or(Flaw::NoPixels)?;
            if parts.incomplete {
                doubts.insert(Doubt::Parts);
            }
            for part in parts.parts {
                squares.push(spec.square_of(&source, part).ok_or(Flaw::NoPixels)?);
            }
            Ok(squares)
        };
        let DynamicImage::ImageRgba8(rgba) = &mut image else {
            return squares(3, &image.into_rgb8());
        };
        let transparent = rgba.pixels().any(|pixel| pixel.0[3] < 255);
        if transparent {
            premultiply(rgba.as_flat_samples_mut().samples);
        }
        // Resizing and laying over a background are both linear, so the large picture is resized
        // once and the small one is laid over both.
        let small = squares(4, rgba)?;
        let mut squares: Vec<_> = small.iter().map(|small| over(small, 255)).collect();
        if transparent {
            self.has_alpha = true;
            squares.extend(small.iter().map(|small| over(small, 0)));
        }
        Ok(squares)
    }

    fn add(&mut self, rgb: Vec<u8>) {
        let view = Pixels { size: self.spec.size, rgb };
        if self.views.contains(&view) {
            return;
        }
        if self.views.len() < MOST_VIEWS as usize {
            self.views.push(view);
        } else {
            self.doubts.insert(Doubt::Parts);
        }
    }
}

/// Which parts are to be views besides the whole, whose square is at hand.
fn parts_of(spec: &ImageSpec, source: &Raster, square: &[u8]) -> Option<shapes::Parts> {
    let Raster { width, height, channels, .. } = *source;
    let grid = |side: u32, cells: &[u8]| {
        let grid = shapes::Grid { side: side as usize, channels, cells };
        shapes::parts(spec, width, height, grid)
    };
    if spec.resize == Resize::Stretch {
        return Some(grid(spec.size, square));
    }
    // The square shows the middle alone.
    let whole = Window::whole(width, height);
    let small = resampled(source, whole, (GRID, GRID), Resample::Bilinear)?;
    Some(grid(GRID, &small))
}

/// Cells a side of the grid in which borders are looked for.
const GRID: u32 = 96;

/// Multiplies red, green and blue by alpha / 255, rounded.
fn premultiply(rgba: &mut [u8]) {
    for pixel in rgba.as_chunks_mut::<4>().0 {
        let alpha = u32::from(pixel[3]);
        for value in &mut pixel[..3] {
            let product = u32::from(*value) * alpha + 127;
            *value = u8::try_from(product / 255).unwrap_or(u8::MAX);
        }
    }
}

/// Premultiplied pixels over a grey background, without alpha.
fn over(rgba: &[u8], background: u8) -> Vec<u8> {
    let pixels = rgba.as_chunks::<4>().0;
    pixels
        .iter()
        .flat_map(|&[red, green, blue, alpha]| {
            let behind = u32::from(background) * u32::from(255 - alpha) / 255;
            let behind = u8::try_from(behind).unwrap_or(u8::MAX);
            [red, green, blue].map(|value| value.saturating_add(behind))
        })
        .collect()
}

/// 8 bits, red, green, blue and perhaps alpha, turned and in sRGB: as browsers show it.
fn shown(still: Still) -> DynamicImage {
    let mut image = eight_bits(still.image);
    still.colours.show(&mut image);
    image.apply_orientation(still.turn.shown);
    image
}

/// A picture in all the ways in which viewers show it; see [`Gallery::looks`].
struct Looks {
    /// As [`shown`].
    shown: DynamicImage,
    /// In other colours, or turned otherwise.
    others: Vec<DynamicImage>,
    /// What it is not judged for.
    doubts: Doubts,
}

fn looks(still: Still) -> Looks {
    let mut image = eight_bits(still.image);
    let (stored, doubt) = still.colours.apply(&mut image);
    let mut others = Vec::new();
    if let Some(mut stored) = stored {
        stored.apply_orientation(still.turn.shown);
        others.push(stored);
    }
    if let Some(orientation) = still.turn.elsewhere {
        let mut turned = image.clone();
        turned.apply_orientation(orientation);
        others.push(turned);
    }
    image.apply_orientation(still.turn.shown);
    Looks { shown: image, others, doubts: doubt.into_iter().collect() }
}

fn eight_bits(image: DynamicImage) -> DynamicImage {
    match image {
        image @ (DynamicImage::ImageRgb8(_) | DynamicImage::ImageRgba8(_)) => image,
        image if image.color().has_alpha() => DynamicImage::ImageRgba8(image.into_rgba8()),
        image => DynamicImage::ImageRgb8(image.into_rgb8()),
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

/// The first frame. A JPEG may come out smaller, with no side below `wanted` (unless it is that small
/// itself).
fn decode_small(
    format: Format,
    bytes: &[u8],
    survey: Option<&jpeg::Survey>,
    limits: &Limits,
    wanted: u32,
) -> Result<Still, Flaw> {
    match survey {
        Some(survey) => jpeg::decode(bytes, survey, limits, wanted),
        None => decode_still(format, bytes, limits),
    }
}

/// The first frame, at full size. The caller has surveyed a JPEG.
fn decode_still(format: Format, bytes: &[u8], limits: &Limits) -> Result<Still, Flaw> {
    let reader = || Cursor::new(bytes);
    let flaw = |error: image::ImageError| format.flaw(&error);
    match format {
        Format::Jpeg => {
            let survey = jpeg::Survey::of(bytes)?;
            survey.check(limits)?;
            jpeg::decode(bytes, &survey, limits, u32::MAX)
        }
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

/// Fits a picture into a box and lays it over a checkerboard.
fn fitted(image: &DynamicImage, max_width: u32, max_height: u32) -> Option<RgbImage> {
    let (width, height) = (image.width(), image.height());
    let scale = (f64::from(max_width) / f64::from(width))
        .min(f64::from(max_height) / f64::from(height))
        .min(1.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1 and a side of the picture"
    )]
    let shrunk = |length: u32| ((f64::from(length) * scale).round() as u32).max(1);
    let size = (shrunk(width), shrunk(height));
    let whole = Window::whole(width, height);
    let rgb = if let DynamicImage::ImageRgba8(rgba) = image {
        let mut premultiplied = rgba.clone();
        premultiply(premultiplied.as_flat_samples_mut().samples);
        let source = Raster { width, height, channels: 4, pixels: premultiplied.as_raw() };
        let small = resampled(&source, whole, size, Resample::Bilinear)?;
        checkered(&small, size.0)
    } else {
        let rgb = image.as_rgb8()?;
        let source = Raster { width, height, channels: 3, pixels: rgb.as_raw() };
        resampled(&source, whole, size, Resample::Bilinear)?
    };
    RgbImage::from_raw(size.0, size.1, rgb)
}

/// Premultiplied pixels over squares of 8 × 8 pixels in two greys.
fn checkered(rgba: &[u8], width: u32) -> Vec<u8> {
    let rows = rgba.chunks(width as usize * 4);
    rows.enumerate()
        .flat_map(|(y, row)| {
            row.chunks(8 * 4).enumerate().flat_map(move |(x, part)| {
                let background = if (x + y / 8) % 2 == 0 { 0x99 } else { 0x66 };
                over(part, background)
            })
        })
        .collect()
}

#[cfg(test)]
mod tests;
