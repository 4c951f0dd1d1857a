//! A JPEG as people's viewers show it.
//!
//! Browsers and nearly all other programs decode with libjpeg-turbo. Where it goes on after damage,
//! guesses colours or ignores a part of the file, so does this, and tells ([`Warnings`]): what is
//! judged has to be what is seen, or a person has to look. At full size the pixels are the same bit for
//! bit; at a reduced size they are what the full ones average to, nearly.
//!
//! It reads hostile bytes: no index, size or count of a file is trusted, memory is bounded before it is
//! taken, and there is no `unsafe`.
//!
//! Sources: ITU-T T.81 for the stream (section numbers in the files below); libjpeg 6b, which
//! libjpeg-turbo equals by default, for the arithmetic and for what is done about damage.

mod bits;
mod frame;
mod huffman;
mod pixels;
mod scan;
mod segments;
mod transform;

pub use segments::next_marker;

/// A decoded picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Pixels across, at the scale that was asked for or, where a reduced picture would not show what
    /// the full one shows, at full size.
    pub width: u32,
    /// Pixels down, at the same scale.
    pub height: u32,
    /// Rows from the top.
    pub pixels: Pixels,
    /// Bodies of the Exif segments, without their `Exif\0\0`, in the order of the file.
    pub exif: Vec<Vec<u8>>,
    /// Whether another APP1 segment comes first; some viewers look no further.
    pub exif_is_late: bool,
    /// The colour profile, put together from its parts.
    pub profile: Option<Vec<u8>>,
    /// What is wrong with it.
    pub warnings: Warnings,
}

/// What a pixel is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pixels {
    /// One byte each.
    Grey(Vec<u8>),
    /// Red, green and blue, one byte each.
    Rgb(Vec<u8>),
    /// The same, made of four colours. A profile would describe those.
    RgbOfFour(Vec<u8>),
}

/// What a viewer may show otherwise, or make up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Warnings {
    /// Coded data is broken or missing; what it covers is made up.
    pub damaged: bool,
    /// The last passes of a progressive picture, or whole colours, never come.
    pub unfinished: bool,
    /// Parts of the colour profile are missing, doubled or in disagreement.
    pub broken_profile: bool,
}

/// Why nothing can be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The file ends before anything of the picture.
    CutOff,
    /// Not allowed, or so rare that no viewer shows it either; the words say what.
    Broken(&'static str),
    /// Would take more memory than allowed.
    TooMuchMemory {
        /// It would take.
        bytes: u64,
        /// The most.
        limit: u64,
    },
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::CutOff => f.write_str("it is cut off"),
            Self::Broken(what) => f.write_str(what),
            Self::TooMuchMemory { bytes, limit } => {
                write!(f, "it would take {bytes} bytes of at most {limit}")
            }
        }
    }
}

impl std::error::Error for Error {}

/// How large the answer is: eighths of the picture's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scale {
    /// An eighth: one pixel for each block of 8 × 8.
    Eighth = 1,
    /// A quarter.
    Quarter = 2,
    /// A half.
    Half = 4,
    /// As it is.
    Full = 8,
}

impl Scale {
    /// The length of a side at this scale, rounded up.
    pub fn of(self, length: u32) -> u32 {
        u32::try_from((u64::from(length) * self as u64).div_ceil(8)).unwrap_or(u32::MAX)
    }
}

/// Decodes a picture of one, three or four colours in baseline, extended or progressive coding with
/// Huffman codes and 8 bits: what browsers show.
///
/// # Errors
/// For everything else, for what is broken before its first pixel, and when it would take more than
/// `most_bytes` of memory.
pub fn decode(bytes: &[u8], scale: Scale, most_bytes: u64) -> Result<Picture, Error> {
    let mut file = segments::File::new(most_bytes, scale);
    file.read(bytes)?;
    let warnings = file.warnings();
    let (profile, broken_profile) = file.profile();
    let exif = std::mem::take(&mut file.exif);
    let model = file.model();
    let exif_is_late = file.exif_is_late;
    let Some(mut frame) = file.frame else { return Err(Error::CutOff) };
    let wild = frame.finish();
    if frame.is_loud() && scale != Scale::Full {
        return decode(bytes, Scale::Full, most_bytes);
    }
    let (width, height) = (scale.of(frame.width), scale.of(frame.height));
    let pixels = pixels::pixels(&frame, model, scale)?;
    let damaged = warnings.damaged || wild;
    let warnings = Warnings { damaged, broken_profile, ..warnings };
    Ok(Picture { width, height, pixels, exif, exif_is_late, profile, warnings })
}

/// A length that fits memory; files claim at most 65,535 a side.
fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
