//! What a frame looks like from afar, and how far two frames are from one another.

use image::RgbaImage;

/// Cells along each side.
const CELLS: usize = 32;

/// Two frames that are further apart (root mean square, of 255) are not the same picture.
///
/// Measured on 360 animations made of photos, text and drawings (pans, zooms, fades, slides, heads,
/// scrolls, screens, loops, spinners, films; 5 to 200 frames; GIF, WebP, PNG): within 32 views nothing
/// was left over but in 0.8 % of them (three scrolls through pages of text). Of 200 pairs of photos
/// 99 % are 40 apart or more, the nearest pair 11. Frames made to have the same means as another one
/// in 12 × 12 cells are 17 to 31 apart, so not all of those are told.
pub(super) const DIFFERS: u64 = 24;

/// Cells along each side of a block that may have moved.
const BLOCK: usize = 8;

/// The most cells that a block may have moved.
const MOVED: usize = 4;

/// How much texture weighs beside colour.
const TEXTURE: u32 = 2;

/// The means of cells: red, green and blue (times alpha), alpha, and how much the pixels of the cell
/// differ from their neighbours. The last one tells what is blurred or filled with another pattern
/// from what has the same means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sketch {
    cells: Vec<[u8; 5]>,
}

impl Sketch {
    /// Of a whole frame; every pixel counts.
    pub(super) fn of(frame: &RgbaImage) -> Self {
        let (width, height) = (frame.width() as usize, frame.height() as usize);
        let columns: Vec<_> = (0..CELLS).map(|cell| bounds(cell, width)).collect();
        let lines: Vec<&[[u8; 4]]> = frame
            .as_raw()
            .chunks_exact((width * 4).max(1))
            .map(|line| line.as_chunks().0)
            .collect();
        let mut cells = Vec::with_capacity(CELLS * CELLS);
        let (mut above, mut here) = (Vec::new(), Vec::new());
        for row in 0..CELLS {
            let mut sums = [[0_u64; 5]; CELLS];
            let rows = bounds(row, height);
            for line in lines.get(rows.clone()).unwrap_or_default() {
                std::mem::swap(&mut above, &mut here);
                here.clear();
                here.extend(line.iter().map(|pixel| brightness(*pixel)));
                if above.is_empty() {
                    above.clone_from(&here);
                }
                for (sums, columns) in sums.iter_mut().zip(&columns) {
                    add(sums, &line[columns.clone()]);
                    sums[4] += texture(&here, &above, columns.clone());
                }
            }
            for (sums, columns) in sums.iter().zip(&columns) {
                let count = (rows.len() * columns.len()).max(1) as u64;
                let mean =
                    |sum: u64, scale: u64| u8::try_from(sum / (count * scale)).unwrap_or(u8::MAX);
                let [red, green, blue, alpha, texture] = *sums;
                let [red, green, blue] = [red, green, blue].map(|sum| mean(sum, 255));
                cells.push([red, green, blue, mean(alpha, 1), mean(texture, 1)]);
            }
        }
        Self { cells }
    }

    /// Whether the other one shows nothing that this one does not, apart from parts that have moved
    /// a little: a camera's pan, a head that turns, lines of text that scroll.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let most = DIFFERS * DIFFERS * (CELLS * CELLS * 3) as u64;
        self.distance(other) <= most || self.moved(other, most)
    }

    /// The sum of squared differences.
    pub(super) fn distance(&self, other: &Self) -> u64 {
        u64::from(apart(&self.cells, &other.cells))
    }

    /// Whether what is left over is no more, after every block of the other one was found where it
    /// fits best here.
    fn moved(&self, other: &Self, most: u64) -> bool {
        let mut left = 0;
        for top in (0..CELLS).step_by(BLOCK) {
            for start in (0..CELLS).step_by(BLOCK) {
                left += u64::from(self.best_fit(other, top, start));
                if left > most {
                    return false;
                }
            }
        }
        true
    }

    fn best_fit(&self, other: &Self, top: usize, start: usize) -> u32 {
        let around =
            |place: usize| place.saturating_sub(MOVED)..=(place + MOVED).min(CELLS - BLOCK);
        let mut best = u32::MAX;
        for from_top in around(top) {
            for from_start in around(start) {
                let mut sum = 0;
                for line in 0..BLOCK {
                    let here = (from_top + line) * CELLS + from_start;
                    let there = (top + line) * CELLS + start;
                    sum +=
                        apart(&self.cells[here..here + BLOCK], &other.cells[there..there + BLOCK]);
                    if sum >= best {
                        break;
                    }
                }
                best = best.min(sum);
            }
        }
        best
    }
}

/// The sum of squared differences of cells; fits, for there are no more than a few thousand.
fn apart(a: &[[u8; 5]], b: &[[u8; 5]]) -> u32 {
    let square = |a: u8, b: u8| u32::from(a.abs_diff(b)).pow(2);
    a.iter()
        .zip(b)
        .map(|(a, b)| {
            let colours: u32 = (0..4).map(|channel| square(a[channel], b[channel])).sum();
            colours + TEXTURE * square(a[4], b[4])
        })
        .sum()
}

/// The pixels of a cell along one side: at least one.
fn bounds(cell: usize, length: usize) -> std::ops::Range<usize> {
    let start = cell * length / CELLS;
    start..((cell + 1) * length / CELLS).max(start + 1).min(length.max(1))
}

fn add(sums: &mut [u64; 5], pixels: &[[u8; 4]]) {
    // A line of a cell is short enough for 32 bits.
    let mut line = [0_u32; 4];
    for &[red, green, blue, alpha] in pixels {
        let weight = u32::from(alpha);
        line[0] += u32::from(red) * weight;
        line[1] += u32::from(green) * weight;
        line[2] += u32::from(blue) * weight;
        line[3] += weight;
    }
    sums.iter_mut().zip(line).for_each(|(sum, line)| *sum += u64::from(line));
}

/// About the brightness over black, and a little for the alpha, so that black on nothing shows.
fn brightness([red, green, blue, alpha]: [u8; 4]) -> u8 {
    let sum = u32::from(red) + 2 * u32::from(green) + u32::from(blue) + 64;
    u8::try_from(sum * u32::from(alpha) / 1084).unwrap_or(u8::MAX)
}

/// How much pixels differ from the one before and the one above.
fn texture(here: &[u8], above: &[u8], columns: std::ops::Range<usize>) -> u64 {
    let differ = |a: &[u8], b: &[u8]| -> u32 {
        a.iter().zip(b).map(|(a, b)| u32::from(a.abs_diff(*b))).sum()
    };
    let start = columns.start.max(1);
    let beside = differ(&here[start..columns.end.max(start)], &here[start - 1..]);
    u64::from(beside + differ(&here[columns.clone()], &above[columns]))
}

#[cfg(test)]
mod tests {
    use image::Rgba;

    use super::*;

    fn drawn(pixel: impl Fn(u32, u32) -> u8) -> Sketch {
        Sketch::of(&RgbaImage::from_fn(96, 64, |x, y| {
            let grey = pixel(x, y);
            Rgba([grey, grey, grey, 255])
        }))
    }

    #[test]
    fn a_sketch_is_the_mean_over_every_pixel() {
        let lines = RgbaImage::from_fn(320, 320, |x, _| {
            if x % 2 == 0 { Rgba([200, 0, 0, 255]) } else { Rgba([0, 0, 100, 0]) }
        });
        let cells = Sketch::of(&lines).cells;
        assert_eq!(cells.len(), CELLS * CELLS);
        assert_eq!(cells[40][..4], [100, 0, 0, 127]);
        assert_eq!(Sketch::of(&RgbaImage::new(1, 1)).cells.len(), CELLS * CELLS);
    }

    #[test]
    fn what_has_moved_a_little_is_alike_and_what_is_new_is_not() {
        let hills = |x: u32, y: u32| u8::try_from(x + 2 * y + (x * y / 40) % 30).expect("a byte");
        let still = drawn(hills);
        assert!(still.is_like(&drawn(|x, y| hills((x + 6).min(95), y))), "a pan");
        assert!(!still.is_like(&drawn(|x, y| 255 - hills(x, y))), "another picture");
        let patch = |x: u32, y: u32| {
            (20..80).contains(&x) && (8..56).contains(&y) && (x / 6 + y / 6).is_multiple_of(2)
        };
        let with_patch = drawn(|x, y| if patch(x, y) { 255 } else { hills(x, y) });
        assert!(!still.is_like(&with_patch), "something new in the middle");
    }

    #[test]
    fn what_has_the_same_means_is_told_by_its_texture() {
        let page = drawn(|x, y| if (x / 2 + y / 2) % 2 == 0 { 0 } else { 200 });
        let blurred = drawn(|_, _| 100);
        assert!(!page.is_like(&blurred));
    }
}
