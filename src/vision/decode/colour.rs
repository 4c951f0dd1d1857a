//! Colours as viewers show them: what a file says about its numbers, to sRGB.
//!
//! The order is that of browsers (checked with Chromium 2026 and littleCMS): cICP, ICC profile, sRGB,
//! gamma with primaries, gamma alone. Other viewers skip one of these, or all. So the picture is also
//! judged as stored where that looks different, and a person is asked where it looks like another
//! picture.

mod png;
mod profile;

use std::sync::Arc;

use image::DynamicImage;
use moxcms::Transform8BitExecutor;

pub(super) use png::{chunks as png_chunks, of_png, without_colours};
pub(super) use profile::of_profile;

use crate::moderation::Doubt;

/// Pixels that are converted at once, so that a large picture needs no second copy of itself.
const BLOCK: usize = 4096;

/// Which other readings of the colours are looked at; a file with more of them is doubtful.
const MOST_OTHERS: usize = 4;

/// How the numbers of a file become the red, green and blue of sRGB.
#[derive(Clone)]
pub(super) enum Reading {
    /// As they are stored.
    Stored,
    /// A curve for the values of a grey picture.
    Curve(Arc<[u8; 256]>),
    /// Anything else: three channels to three channels.
    Profile(Arc<Transform8BitExecutor>),
}

/// What a file says about its colours.
#[derive(Clone)]
pub(super) struct Colours {
    /// What browsers make of it.
    shown: Reading,
    /// What other viewers may make of it, [`Reading::Stored`] apart.
    others: Vec<Reading>,
    /// Something in it can't be read here, and may be read elsewhere.
    unreadable: bool,
}

impl Colours {
    /// Of a file that says nothing.
    pub(super) fn stored() -> Self {
        Self { shown: Reading::Stored, others: Vec::new(), unreadable: false }
    }

    /// The first reading is what browsers show.
    fn from_readings(mut readings: Vec<Reading>, unreadable: bool) -> Self {
        if readings.is_empty() {
            return Self { unreadable, ..Self::stored() };
        }
        let shown = readings.remove(0);
        let mut others = readings;
        others.retain(|reading| !matches!(reading, Reading::Stored));
        let too_many = others.len() > MOST_OTHERS;
        others.truncate(MOST_OTHERS);
        Self { shown, others, unreadable: unreadable || too_many }
    }

    /// What comes of a picture of 8 bits: it is converted in place, and where viewers that know
    /// nothing of colours show something different, the picture as stored is the answer too.
    pub(super) fn apply(&self, image: &mut DynamicImage) -> (Option<DynamicImage>, Option<Doubt>) {
        let mut doubtful = self.unreadable;
        for other in &self.others {
            doubtful |= change(image, &self.shown, other).is_another_picture();
        }
        let mut stored = None;
        if !matches!(self.shown, Reading::Stored) {
            let change = change(image, &self.shown, &Reading::Stored);
            doubtful |= change.is_another_picture();
            stored = change.is_visible().then(|| image.clone());
            self.show(image);
        }
        (stored, doubtful.then_some(Doubt::Colours))
    }

    /// Converts a picture of 8 bits in place to what browsers show.
    pub(super) fn show(&self, image: &mut DynamicImage) {
        if matches!(self.shown, Reading::Stored) {
            return;
        }
        let (mut block, mut answer) = (Vec::with_capacity(BLOCK * 3), Vec::new());
        for_blocks(image, |samples, channels| {
            block.clear();
            for pixel in samples.chunks_exact(channels) {
                block.extend_from_slice(&pixel[..3]);
            }
            self.shown.read(&block, &mut answer);
            let converted = answer.as_chunks::<3>().0;
            for (pixel, rgb) in samples.chunks_exact_mut(channels).zip(converted) {
                pixel[..3].copy_from_slice(rgb);
            }
        });
    }
}

impl Reading {
    /// Red, green and blue of some pixels, into `answer`.
    fn read(&self, rgb: &[u8], answer: &mut Vec<u8>) {
        answer.clear();
        match self {
            Self::Stored => answer.extend_from_slice(rgb),
            Self::Curve(curve) => answer.extend(rgb.iter().map(|v| curve[usize::from(*v)])),
            Self::Profile(transform) => {
                answer.resize(rgb.len(), 0);
                if transform.transform(rgb, answer).is_err() {
                    answer.copy_from_slice(rgb);
                }
            }
        }
    }
}

/// How far two readings of a picture are apart.
///
/// Measured with littleCMS on 500 photos and drawings, converted from sRGB to other colour spaces
/// or taken for them, then read as stored and as the profile says (mean change of a channel, of
/// 255; share of pixels with a channel that changes by more than 128):
///
/// | colour space | mean: median, 99 %, most | share: 99 %, most |
/// |---|---|---|
/// | Display P3 | 3.7, 12.7, 18.2 | 0, 0 |
/// | Adobe RGB | 3.7, 12.5, 22.6 | 0, 0.02 % |
/// | gamma 1.8 (old Macintosh) | 12.5, 18.4, 18.6 | 0, 0 |
/// | gamma 2.6 | 12.1, 16.7, 17.4 | 0, 0 |
/// | `ProPhoto` RGB | 14.5, 24.1, 38.8 | 0.03 %, 5.3 % |
/// | Rec. 2020 | 9.0, 21.7, 31.4 | 0.03 %, 6.0 % |
/// | linear light | 48.5, 67.1, 69.1 | 0, 0 |
///
/// A curve that hides a picture changes half of the pixels or more from one end to the other.
#[derive(Debug, Default, Clone, Copy)]
struct Change {
    /// Pixels that are not wholly transparent.
    pixels: u64,
    /// Of all channels' changes.
    sum: u64,
    /// Pixels with a channel that changes by more than [`FAR`].
    far: u64,
}

/// A change of a channel that no ordinary colour space makes.
const FAR: u8 = 128;

impl Change {
    /// Whether both readings are judged.
    fn is_visible(self) -> bool {
        self.sum > 20 * 3 * self.pixels || self.far > self.pixels / 100
    }

    /// Whether a person is asked.
    fn is_another_picture(self) -> bool {
        self.sum > 40 * 3 * self.pixels || self.far > self.pixels * 6 / 100
    }
}

fn change(image: &mut DynamicImage, one: &Reading, other: &Reading) -> Change {
    let mut change = Change::default();
    let mut block = Vec::with_capacity(BLOCK * 3);
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for_blocks(image, |samples, channels| {
        block.clear();
        for pixel in samples.chunks_exact(channels) {
            // What is transparent has colours that nobody sees.
            if pixel.get(3) != Some(&0) {
                block.extend_from_slice(&pixel[..3]);
            }
        }
        one.read(&block, &mut first);
        other.read(&block, &mut second);
        change.pixels += block.len() as u64 / 3;
        for (a, b) in first.as_chunks::<3>().0.iter().zip(second.as_chunks::<3>().0) {
            let apart = [0, 1, 2].map(|channel| a[channel].abs_diff(b[channel]));
            change.sum += apart.iter().map(|apart| u64::from(*apart)).sum::<u64>();
            change.far += u64::from(apart.iter().any(|apart| *apart > FAR));
        }
    });
    change
}

/// Hands out the samples of [`BLOCK`] pixels at a time, and how many a pixel has: 3 or 4.
fn for_blocks(image: &mut DynamicImage, mut each: impl FnMut(&mut [u8], usize)) {
    let (samples, channels) = match image {
        DynamicImage::ImageRgb8(rgb) => (rgb.as_flat_samples_mut().samples, 3),
        DynamicImage::ImageRgba8(rgba) => (rgba.as_flat_samples_mut().samples, 4),
        _ => return,
    };
    samples.chunks_mut(BLOCK * channels).for_each(|block| each(block, channels));
}

#[cfg(test)]
mod tests;
