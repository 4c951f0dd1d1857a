//! The PDQ hash of a decoded picture: a pure function from pixels to 256 bits and a quality.
//!
//! Luma is smoothed with a tent filter (two passes of a box, after Jarosz), sampled at 64 × 64
//! points, and transformed; the signs of its 16 × 16 lowest frequencies against their median are
//! the bits (Davis and Rosen 2019). Turning or mirroring a picture only swaps and negates those
//! frequencies, so all eight forms come from one transformation.

use std::f32::consts::PI;

use crate::moderation::PerceptualHash;
use crate::moderation::perceptual::HASH_BYTES;

use super::preprocess::Raster;

/// Points a side at which the smoothed picture is sampled.
const POINTS: usize = 64;
/// Frequencies a side that make up the hash.
const FREQUENCIES: usize = 16;
/// The smoothing window covers this part of a sampling step.
const WINDOW_PARTS: usize = 2 * POINTS;

/// The hash of a picture of 3 channels, or of 4 premultiplied ones (laid over white).
///
/// `None` when the buffer does not have the length that it says, or a side is 0.
pub(crate) fn hash(source: &Raster) -> Option<PerceptualHash> {
    let (width, height) = (source.width as usize, source.height as usize);
    let expected = width.checked_mul(height)?.checked_mul(source.channels)?;
    if expected == 0 || source.pixels.len() != expected || !(3..=4).contains(&source.channels) {
        return None;
    }
    let points = sampled(source, width, height);
    let frequencies = transformed(&points);
    Some(PerceptualHash { forms: forms(&frequencies), quality: quality(&points) })
}

/// Luma (ITU-R BT.601, 0..=255) at 64 × 64 points of the smoothed picture, row by row.
///
/// Smoothing is linear and each direction is independent of the other, so only what the points
/// need is computed: a weighted sum of some rows for each row of points, then of its columns.
fn sampled(source: &Raster, width: usize, height: usize) -> Vec<f32> {
    let across = tents(width);
    let stride = width * source.channels;
    let mut sums = vec![0.0; stride];
    let mut points = Vec::with_capacity(POINTS * POINTS);
    for tent in tents(height) {
        sums.fill(0.0);
        let rows = source.pixels[tent.first * stride..].chunks_exact(stride);
        for (row, weight) in rows.zip(&tent.weights) {
            sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += weight * f32::from(*value));
        }
        let luma = luma(&sums, source.channels);
        points.extend(across.iter().map(|tent| {
            let values = luma[tent.first..].iter().zip(&tent.weights);
            values.map(|(value, weight)| value * weight).sum::<f32>()
        }));
    }
    points
}

/// The values that one point sums up.
struct Tent {
    first: usize,
    weights: Vec<f32>,
}

/// For each of the 64 points along a side: the means over a window of the means over a window
/// around the middle of its part. Windows are cut off at the ends.
fn tents(length: usize) -> Vec<Tent> {
    let window = length.div_ceil(WINDOW_PARTS);
    let (ahead, behind) = (window / 2, (window - 1) / 2);
    let around = |at: usize| at.saturating_sub(behind)..(at + ahead + 1).min(length);
    let tent = |point: usize| {
        let outer = around((2 * point + 1) * length / WINDOW_PARTS);
        let (first, last) = (around(outer.start).start, around(outer.end - 1).end);
        let mut weights = vec![0.0; last - first];
        for at in outer.clone() {
            let inner = around(at);
            let share = 1.0 / (count(outer.len()) * count(inner.len()));
            weights[inner.start - first..inner.end - first].iter_mut().for_each(|w| *w += share);
        }
        Tent { first, weights }
    };
    (0..POINTS).map(tent).collect()
}

fn luma(values: &[f32], channels: usize) -> Vec<f32> {
    let of = |red: f32, green: f32, blue: f32| 0.299 * red + 0.587 * green + 0.114 * blue;
    if channels == 4 {
        let over_white = |&[r, g, b, alpha]: &[f32; 4]| of(r, g, b) + 255.0 - alpha;
        values.as_chunks::<4>().0.iter().map(over_white).collect()
    } else {
        values.as_chunks::<3>().0.iter().map(|&[r, g, b]| of(r, g, b)).collect()
    }
}

/// 0..=100: the sum of steps between neighbouring points, in percent of full contrast, / 90.
fn quality(points: &[f32]) -> u8 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "0 to 100; the fraction is dropped"
    )]
    let step = |a: f32, b: f32| u32::from((((a - b) * 100.0) / 255.0).abs() as u8);
    let down = points.iter().zip(&points[POINTS..]).map(|(a, b)| step(*a, *b));
    let across = points.chunks_exact(POINTS).flat_map(|row| row.windows(2));
    let sum: u32 = down.sum::<u32>() + across.map(|pair| step(pair[0], pair[1])).sum::<u32>();
    u8::try_from(sum / 90).map_or(100, |quality| quality.min(100))
}

/// The lowest frequencies but the mean, by a cosine transformation (DCT-II) in both directions.
fn transformed(points: &[f32]) -> [[f32; FREQUENCIES]; FREQUENCIES] {
    let mut waves = [[0.0; POINTS]; FREQUENCIES];
    for (frequency, wave) in waves.iter_mut().enumerate() {
        for (point, value) in wave.iter_mut().enumerate() {
            let angle = PI / count(WINDOW_PARTS) * count(frequency + 1) * count(2 * point + 1);
            *value = (2.0 / count(POINTS)).sqrt() * angle.cos();
        }
    }
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let mut answer = [[0.0; FREQUENCIES]; FREQUENCIES];
    for (down, row) in waves.iter().zip(&mut answer) {
        let mut combined = [0.0; POINTS];
        for (weight, line) in down.iter().zip(points.chunks_exact(POINTS)) {
            combined.iter_mut().zip(line).for_each(|(sum, value)| *sum += weight * value);
        }
        for (across, value) in waves.iter().zip(row) {
            *value = dot(across, &combined);
        }
    }
    answer
}

/// The picture's own hash, then those of its turned and mirrored forms.
fn forms(frequencies: &[[f32; FREQUENCIES]; FREQUENCIES]) -> [[u8; HASH_BYTES]; 8] {
    let mut forms = [[0; HASH_BYTES]; 8];
    for (number, form) in forms.iter_mut().enumerate() {
        let (upside_down, mirrored, turned) = (number & 1, number & 2, number & 4);
        // Counted from 1, the odd frequencies change their sign when a direction is reversed.
        let sign = |reversed: usize, index: usize| {
            if reversed != 0 && index.is_multiple_of(2) { -1.0 } else { 1.0 }
        };
        let value = |row: usize, column: usize| {
            let value =
                if turned == 0 { frequencies[row][column] } else { frequencies[column][row] };
            value * sign(upside_down, row) * sign(mirrored, column)
        };
        let all: Vec<f32> = (0..FREQUENCIES * FREQUENCIES)
            .map(|bit| value(bit / FREQUENCIES, bit % FREQUENCIES))
            .collect();
        let mut sorted = all.clone();
        sorted.sort_by(f32::total_cmp);
        let median = sorted[sorted.len() / 2 - 1];
        for (bit, value) in all.iter().enumerate() {
            if *value > median {
                form[HASH_BYTES - 1 - bit / 8] |= 1 << (bit % 8);
            }
        }
    }
    forms
}

#[expect(clippy::cast_precision_loss, reason = "numbers of pixels, far below 2^24")]
fn count(number: usize) -> f32 {
    number as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moderation::perceptual::hamming;

    const SIZE: (u32, u32) = (200, 150);

    /// Rings, stripes and hyperbolas, by whole numbers, so that any program draws the same.
    fn drawn() -> Vec<u8> {
        let mut rgb = Vec::new();
        for y in 0..i32::try_from(SIZE.1).expect("small") {
            for x in 0..i32::try_from(SIZE.0).expect("small") {
                let rings = ((x - 70).pow(2) + (y - 60).pow(2)) / 64;
                let values = [rings, x * 3 + y * 5, x * y / 37];
                rgb.extend(values.map(|value| u8::try_from(value % 256).expect("a byte")));
            }
        }
        rgb
    }

    /// As a camera sees things: nothing jumps from one pixel to the next.
    fn smooth() -> Vec<u8> {
        let fold = |value: i32| (value % 510 - 255).abs();
        let mut rgb = Vec::new();
        for y in 0..i32::try_from(SIZE.1).expect("small") {
            for x in 0..i32::try_from(SIZE.0).expect("small") {
                let rings = ((x - 70).pow(2) + (y - 60).pow(2)) / 12;
                let values = [rings, x * 6 + y * 2, (x + 40) * (y + 30) / 12];
                rgb.extend(values.map(|value| u8::try_from(fold(value)).expect("a byte")));
            }
        }
        rgb
    }

    fn hash_of(width: u32, height: u32, channels: usize, pixels: &[u8]) -> PerceptualHash {
        hash(&Raster { width, height, channels, pixels }).expect("the buffer has its length")
    }

    fn bytes_of(digits: &str) -> [u8; 32] {
        digits.parse::<crate::moderation::ItemId>().map(|id| *id.as_bytes()).expect("64 digits")
    }

    #[test]
    fn hashes_are_those_of_the_reference_implementation() {
        // pdqhash 0.2 (the C++ reference, bound to Python): `compute_dihedral` of this picture.
        let reference = [
            "9ff5c35dbe754b5bbe10549a95b54c1a95f10c5af7f0aaa5108d8465aac55422",
            "fab6aade28325156b952511af832addf86ba2f19a2b5081f57487de157411d61",
            "cba0e9f7eb60e1f1eb45fe30c0e0e6b0c1a4a6f0a2a5000f45d82ecfff90fe88",
            "afe300747d67fafc6c07fab0ad65077153ef84b357e0a2b5001d874b0014a7cb",
            "96553ca0be1134a0be00ab6595b5a3a594f1f3a5f7f0555a108d7a9aa8c5abdd",
            "cba0960eeb649e0feb5501cfc0ea1d4fc1a4590fa2a5fff045d8d130ff900177",
            "eab655212832aea9b952afe5f832d2a086baf0e6a2b5ffe05548e21e1541f29e",
            "ffe3ff8b7d670403ec07054fad67f88ad3ef7a4cf7e0554a001d48b440145834",
        ];
        let ours = hash_of(SIZE.0, SIZE.1, 3, &drawn());
        assert_eq!(ours.quality, 100);
        // A value that equals the median to the last digit may fall on either side of it.
        assert!(hamming(ours.upright(), &bytes_of(reference[0])) <= 2, "{ours}");
        for digits in reference {
            assert!(ours.distance(&bytes_of(digits)) <= 2, "{digits}");
        }
    }

    #[test]
    fn a_mirrored_turned_or_darker_copy_is_near_and_another_picture_is_not() {
        let (width, height) = (SIZE.0 as usize, SIZE.1 as usize);
        let picture = smooth();
        let pixel = |x: usize, y: usize| &picture[(y * width + x) * 3..][..3];
        let mirrored: Vec<u8> = (0..height)
            .flat_map(|y| (0..width).rev().flat_map(move |x| [(x, y)]))
            .flat_map(|(x, y)| pixel(x, y).to_vec())
            .collect();
        let turned: Vec<u8> = (0..width)
            .flat_map(|x| (0..height).rev().map(move |y| (x, y)))
            .flat_map(|(x, y)| pixel(x, y).to_vec())
            .collect();
        let darker: Vec<u8> = picture.iter().map(|value| value / 4 * 3).collect();
        let ours = hash_of(SIZE.0, SIZE.1, 3, &picture);
        let mirrored = hash_of(SIZE.0, SIZE.1, 3, &mirrored);
        assert!(hamming(ours.upright(), mirrored.upright()) > PerceptualHash::NEAR);
        assert!(ours.is_near(&mirrored), "{}", ours.distance(mirrored.upright()));
        assert!(ours.is_near(&hash_of(SIZE.1, SIZE.0, 3, &turned)));
        assert!(ours.is_near(&hash_of(SIZE.0, SIZE.1, 3, &darker)));
        let other: Vec<u8> = picture.iter().rev().map(|value| value.wrapping_mul(3)).collect();
        assert!(!ours.is_near(&hash_of(SIZE.0, SIZE.1, 3, &other)));
    }

    #[test]
    fn opaque_pixels_hash_as_without_alpha_and_transparent_ones_as_white() {
        let picture = drawn();
        let rgba: Vec<u8> =
            picture.as_chunks::<3>().0.iter().flat_map(|&[r, g, b]| [r, g, b, 255]).collect();
        let with_alpha = hash_of(SIZE.0, SIZE.1, 4, &rgba);
        assert_eq!(with_alpha, hash_of(SIZE.0, SIZE.1, 3, &picture));
        assert_eq!(hash_of(40, 40, 4, &[0; 40 * 40 * 4]), hash_of(40, 40, 3, &[255; 40 * 40 * 3]));
    }

    #[test]
    fn a_plain_picture_has_no_quality_and_every_size_has_a_hash() {
        assert_eq!(hash_of(64, 64, 3, &[128; 64 * 64 * 3]).quality, 0);
        for (width, height) in [(1, 1), (1, 700), (700, 1), (63, 65), (129, 128), (3, 2)] {
            let pixels = vec![9; width as usize * height as usize * 3];
            assert!(!hash_of(width, height, 3, &pixels).is_telling());
        }
    }

    #[test]
    fn a_wrong_length_has_no_hash() {
        for (width, height, channels, length) in [(2, 2, 3, 11), (0, 2, 3, 0), (1, 1, 2, 2)] {
            let pixels = vec![0; length];
            assert!(hash(&Raster { width, height, channels, pixels: &pixels }).is_none());
        }
    }
}
