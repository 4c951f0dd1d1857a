//! Which frames of an animation are looked at: some evenly spaced, so that nothing long is
//! missed, and those that differ most from all others, so that one frame that flashes by is seen.

use image::RgbaImage;

/// Cells of a thumbnail along each side.
const CELLS: u32 = 12;

/// What a frame looks like from afar: red, green, blue (times alpha) and alpha, cell by cell.
pub(super) type Thumbnail = Vec<u8>;

/// The frames that are looked at, as of the last one that was offered.
pub(super) struct Shortlist<T> {
    /// Frames that are kept whatever they show.
    even: Vec<u32>,
    /// How many others may be kept.
    room: usize,
    kept: Vec<Kept<T>>,
}

struct Kept<T> {
    number: u32,
    thumbnail: Thumbnail,
    /// One of the evenly spaced.
    stays: bool,
    /// The distance to the one that looks most like it.
    apart: u64,
    what: T,
}

/// Where a frame is to be put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It is one of the evenly spaced.
    Stays,
    /// There is room.
    New,
    /// In place of this one, which is more like the others.
    InsteadOf(usize),
}

impl<T> Shortlist<T> {
    /// For an animation of `frames` frames of which `count` are looked at.
    pub(super) fn new(frames: u32, count: u32) -> Self {
        let count = count.clamp(1, frames.max(1));
        // All of them, or half evenly spaced and half by what they show.
        let even = if count == frames { count } else { count.div_ceil(2).max(2).min(count) };
        let room = usize::try_from(count - even).unwrap_or(0);
        Self { even: evenly(frames, even), room, kept: Vec::new() }
    }

    /// Where this frame is to be put, if it is to be looked at.
    pub(super) fn place(&self, number: u32, thumbnail: &Thumbnail) -> Option<Place> {
        if self.even.contains(&number) {
            return Some(Place::Stays);
        }
        let apart = self.kept.iter().map(|kept| distance(&kept.thumbnail, thumbnail)).min();
        let apart = apart.unwrap_or(u64::MAX);
        let others = || self.kept.iter().enumerate().filter(|(_, kept)| !kept.stays);
        if others().count() < self.room {
            return (apart > 0).then_some(Place::New);
        }
        let (weakest, kept) = others().min_by_key(|(_, kept)| kept.apart)?;
        (apart > kept.apart).then_some(Place::InsteadOf(weakest))
    }

    /// Keeps a frame.
    pub(super) fn put(&mut self, place: Place, number: u32, thumbnail: Thumbnail, what: T) {
        let stays = place == Place::Stays;
        let kept = Kept { number, thumbnail, stays, apart: 0, what };
        match place {
            Place::InsteadOf(index) if index < self.kept.len() => self.kept[index] = kept,
            _ => self.kept.push(kept),
        }
        for index in 0..self.kept.len() {
            let others = self.kept.iter().enumerate().filter(|(other, _)| *other != index);
            let apart =
                others.map(|(_, kept)| distance(&kept.thumbnail, &self.kept[index].thumbnail));
            self.kept[index].apart = apart.min().unwrap_or(u64::MAX);
        }
    }

    /// What is kept, in the order of the animation.
    pub(super) fn finish(mut self) -> Vec<T> {
        self.kept.sort_by_key(|kept| kept.number);
        self.kept.into_iter().map(|kept| kept.what).collect()
    }
}

/// The mean of every cell, over all its pixels.
pub(super) fn thumbnail(frame: &RgbaImage) -> Thumbnail {
    let (width, height) = frame.dimensions();
    let bounds = |cell: u32, length: u32| {
        let at =
            |cell: u32| usize::try_from(u64::from(cell) * u64::from(length) / u64::from(CELLS));
        let start = at(cell).unwrap_or(0);
        start..at(cell + 1).unwrap_or(0).max(start + 1)
    };
    let pixels = frame.as_raw().as_chunks::<4>().0;
    let mut means = Vec::with_capacity((CELLS * CELLS * 4) as usize);
    for row in 0..CELLS {
        for column in 0..CELLS {
            let (mut sums, mut count) = ([0_u64; 4], 0_u64);
            for y in bounds(row, height) {
                let start = y * width as usize;
                let columns = bounds(column, width);
                let line = pixels.get(start + columns.start..start + columns.end);
                for &[red, green, blue, alpha] in line.unwrap_or_default() {
                    let weight = u64::from(alpha);
                    for (sum, value) in sums.iter_mut().zip([red, green, blue]) {
                        *sum += u64::from(value) * weight / 255;
                    }
                    sums[3] += weight;
                    count += 1;
                }
            }
            means.extend(sums.map(|sum| u8::try_from(sum / count.max(1)).unwrap_or(u8::MAX)));
        }
    }
    means
}

/// The sum of squared differences.
fn distance(a: &Thumbnail, b: &Thumbnail) -> u64 {
    a.iter().zip(b).map(|(a, b)| u64::from(a.abs_diff(*b)).pow(2)).sum()
}

/// `count` numbers from 0 to `frames` − 1: the first, the last, evenly between.
fn evenly(frames: u32, count: u32) -> Vec<u32> {
    let count = count.clamp(1, frames.max(1));
    if count == 1 {
        return vec![0];
    }
    let (last, steps) = (u64::from(frames) - 1, u64::from(count) - 1);
    (0..=steps)
        // Rounded to the nearest.
        .map(|step| u32::try_from((2 * step * last + steps) / (2 * steps)).unwrap_or(u32::MAX))
        .collect()
}

#[cfg(test)]
mod tests {
    use image::Rgba;

    use super::*;

    /// The frames that are looked at of an animation of these greys.
    fn looked_at(greys: &[u8], count: u32) -> Vec<u32> {
        let frames = u32::try_from(greys.len()).expect("few");
        let mut shortlist = Shortlist::new(frames, count);
        for (number, grey) in (0..).zip(greys) {
            let frame = RgbaImage::from_pixel(5, 30, Rgba([*grey, *grey, *grey, 255]));
            let thumbnail = thumbnail(&frame);
            if let Some(place) = shortlist.place(number, &thumbnail) {
                shortlist.put(place, number, thumbnail, number);
            }
        }
        shortlist.finish()
    }

    #[test]
    fn numbers_are_spread_from_the_first_to_the_last() {
        assert_eq!(evenly(2, 8), [0, 1]);
        assert_eq!(evenly(8, 8), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(evenly(1_000, 8), [0, 143, 285, 428, 571, 714, 856, 999]);
        assert_eq!(evenly(100, 1), [0]);
        assert_eq!(evenly(0, 8), [0]);
    }

    #[test]
    fn a_frame_that_flashes_by_is_looked_at_wherever_it_is() {
        for place in 0..200 {
            let mut greys: Vec<u8> = (0..200).map(|frame| 100 + frame % 7).collect();
            greys[place] = 250;
            let seen = looked_at(&greys, 8);
            assert!(seen.contains(&u32::try_from(place).expect("small")), "{place}: {seen:?}");
            assert!(seen.len() <= 8 && seen.contains(&0) && seen.contains(&199), "{seen:?}");
        }
    }

    #[test]
    fn all_of_few_frames_are_looked_at_and_one_is_the_first() {
        assert_eq!(looked_at(&[9, 9, 9], 8), [0, 1, 2]);
        assert_eq!(looked_at(&[1, 2, 3, 4, 5], 1), [0]);
        assert_eq!(looked_at(&[1, 2, 3, 4, 5], 2), [0, 4]);
        assert_eq!(looked_at(&[7; 100], 8), [0, 33, 66, 99], "the same again shows nothing new");
    }

    #[test]
    fn a_thumbnail_is_the_mean_over_every_pixel() {
        let lines = RgbaImage::from_fn(120, 120, |x, _| {
            if x % 2 == 0 { Rgba([200, 0, 0, 255]) } else { Rgba([0, 0, 100, 0]) }
        });
        let thumbnail = thumbnail(&lines);
        assert_eq!(thumbnail.len(), 12 * 12 * 4);
        assert_eq!(thumbnail[..4], [100, 0, 0, 127]);
        assert_eq!(super::thumbnail(&RgbaImage::new(1, 1)).len(), 12 * 12 * 4);
    }
}
