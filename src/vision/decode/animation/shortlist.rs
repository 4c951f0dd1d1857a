//! Which frames of an animation are looked at: some evenly spaced, those that stay longest on the
//! screen, and those that differ from the others, so that one frame that flashes by is seen.

use super::sketch::Sketch;

/// An animation that shows more than the usual number of frames can stand for may have this many times
/// as many looked at.
///
/// Of the ordinary animations that were measured (see `sketch.rs`) nearly all need no more than
/// three times as many, and a picture takes a model so long that more would hold others up.
const STRETCH: u32 = 4;

/// A frame that is shown this many times as long as the average one is always looked at.
const LONG: u64 = 2;

/// The most frames that are looked at of an animation, by the usual number.
#[cfg(test)]
fn most_looked_at(usually: u32) -> u32 {
    usually.max(1).saturating_mul(STRETCH + 1).saturating_add(3)
}

/// The frames that are looked at, as of the last one that was offered.
pub(super) struct Shortlist<T> {
    /// Frames that are kept whatever they show.
    always: Vec<u32>,
    /// How many frames are usually kept.
    usually: usize,
    /// How many are kept at most, where they all differ.
    most: usize,
    /// Whether a frame differs from all that stay, and there was no room for it.
    is_full: bool,
    kept: Vec<Kept<T>>,
}

struct Kept<T> {
    number: u32,
    sketch: Sketch,
    /// It is never given up for another one.
    stays: bool,
    /// The distance to the one that looks most like it.
    apart: u64,
    what: T,
}

/// Where a frame is to be put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It stays: it is one of those that are always looked at, or like none of those that stay.
    Stays,
    /// There is room.
    New,
    /// In place of this one, which is more like the others.
    InsteadOf(usize),
}

impl<T> Shortlist<T> {
    /// For an animation by the time that each frame is shown, in milliseconds, and the number of frames
    /// that are usually looked at.
    /// An animation that `ends` shows its last frame for ever.
    pub(super) fn new(times: &[u32], ends: bool, usually: u32) -> Self {
        let frames = u32::try_from(times.len()).unwrap_or(u32::MAX);
        let count = usually.clamp(1, frames.max(1));
        // All of them, or half evenly spaced and half by what they show.
        let even = if count == frames { count } else { count.div_ceil(2).max(2).min(count) };
        let mut always = evenly(frames, even);
        if ends {
            always.push(frames.saturating_sub(1));
        }
        let number = |length: u32| usize::try_from(length).unwrap_or(usize::MAX);
        always.extend(longest(times, number(usually).div_ceil(2)));
        always.sort_unstable();
        always.dedup();
        let most = number(usually.max(1).saturating_mul(STRETCH));
        Self { always, usually: number(count), most, is_full: false, kept: Vec::new() }
    }

    /// Where this frame is to be put, if it is to be looked at.
    pub(super) fn place(&mut self, number: u32, sketch: &Sketch) -> Option<Place> {
        if self.always.contains(&number) {
            return Some(Place::Stays);
        }
        // The latest is most often the one that is alike.
        let stay = self.kept.iter().rev().filter(|kept| kept.stays);
        if !stay.clone().any(|kept| kept.sketch.is_like(sketch)) {
            if stay.count() < self.most {
                return Some(Place::Stays);
            }
            self.is_full = true;
        }
        let apart = self.kept.iter().map(|kept| kept.sketch.distance(sketch)).min();
        let apart = apart.unwrap_or(u64::MAX);
        let to_come = self.always.iter().filter(|always| **always > number).count();
        if self.kept.len() + to_come < self.usually {
            return (apart > 0).then_some(Place::New);
        }
        let (weakest, kept) = self.weakest()?;
        (apart > kept.apart).then_some(Place::InsteadOf(weakest))
    }

    /// The one among those that may go that is most like another.
    fn weakest(&self) -> Option<(usize, &Kept<T>)> {
        let others = self.kept.iter().enumerate().filter(|(_, kept)| !kept.stays);
        others.min_by_key(|(_, kept)| kept.apart)
    }

    /// Keeps a frame.
    pub(super) fn put(&mut self, place: Place, number: u32, sketch: Sketch, what: T) {
        let to_come = self.always.iter().filter(|always| **always > number).count();
        let stays = place == Place::Stays;
        if stays
            && self.kept.len() + to_come >= self.usually
            && let Some((weakest, _)) = self.weakest()
        {
            self.kept.swap_remove(weakest);
        }
        let kept = Kept { number, sketch, stays, apart: 0, what };
        match place {
            Place::InsteadOf(index) if index < self.kept.len() => self.kept[index] = kept,
            _ => self.kept.push(kept),
        }
        for index in 0..self.kept.len() {
            let others = self.kept.iter().enumerate().filter(|(other, _)| *other != index);
            let apart = others.map(|(_, kept)| kept.sketch.distance(&self.kept[index].sketch));
            self.kept[index].apart = apart.min().unwrap_or(u64::MAX);
        }
    }

    /// Whether there is a frame that looks like none that is kept.
    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    /// What is kept, in the order of the animation.
    pub(super) fn finish(mut self) -> Vec<T> {
        self.kept.sort_by_key(|kept| kept.number);
        self.kept.into_iter().map(|kept| kept.what).collect()
    }
}

/// The frames that are shown much longer than the average one, the longest of them first.
fn longest(times: &[u32], most: usize) -> Vec<u32> {
    let all: u64 = times.iter().map(|time| u64::from(*time)).sum();
    let mut long: Vec<(u32, u32)> = (0..).zip(times.iter().copied()).collect();
    long.retain(|(_, time)| u64::from(*time) * times.len() as u64 >= LONG * all);
    long.sort_by_key(|(number, time)| (std::cmp::Reverse(*time), *number));
    long.into_iter().map(|(number, _)| number).take(most).collect()
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
    use image::{Rgba, RgbaImage};

    use super::*;

    /// Greys below this distance are alike.
    const STEP: u8 = 3;

    /// The frames that are looked at of an animation of these greys, all shown for the same time.
    fn looked_at(greys: &[u8], count: u32) -> Vec<u32> {
        let mut shortlist = Shortlist::new(&vec![100; greys.len()], false, count);
        for (number, grey) in (0..).zip(greys) {
            offer(&mut shortlist, number, *grey);
        }
        shortlist.finish()
    }

    fn offer(shortlist: &mut Shortlist<u32>, number: u32, grey: u8) {
        let sketch = Sketch::of(&RgbaImage::from_pixel(5, 30, Rgba([grey, grey, grey, 255])));
        if let Some(place) = shortlist.place(number, &sketch) {
            shortlist.put(place, number, sketch, number);
        }
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
        // Far from the others, and not so far that it counts as another picture.
        for flash in [250, 106 + STEP] {
            for place in 0..200 {
                let mut greys: Vec<u8> = (0..200).map(|frame| 100 + frame % 7).collect();
                greys[place] = flash;
                let seen = looked_at(&greys, 8);
                assert!(seen.contains(&u32::try_from(place).expect("small")), "{place}: {seen:?}");
                assert!(seen.len() <= 8 && seen.contains(&0) && seen.contains(&199), "{seen:?}");
            }
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
    fn what_is_shown_long_or_last_for_ever_is_looked_at() {
        let mut times = vec![20; 50];
        (times[17], times[30]) = (600, 500);
        assert_eq!(longest(&times, 4), [17, 30]);
        assert_eq!(longest(&[100; 50], 4), [0_u32; 0]);
        assert_eq!(longest(&[0; 3], 1), [0], "no time at all");
        assert_eq!(longest(&[], 4), [0_u32; 0]);
        let mut shortlist = Shortlist::new(&times, true, 1);
        (0..50).for_each(|number| offer(&mut shortlist, number, 7));
        assert_eq!(shortlist.finish(), [0, 17, 49]);
    }

    #[test]
    fn as_many_as_differ_are_looked_at_and_no_more_than_is_promised() {
        for usually in [1, 2, 8] {
            let mut shortlist = Shortlist::new(&[100; 200], true, usually);
            let grey = |number: u32| u8::try_from(number * 61 % 256).expect("a byte");
            (0..200).for_each(|number| offer(&mut shortlist, number, grey(number)));
            let stays = shortlist.kept.iter().filter(|kept| kept.stays).count();
            let far = |number: u32| {
                shortlist.kept.iter().all(|kept| grey(kept.number).abs_diff(grey(number)) > 24)
            };
            let all_alike = !(0..200).any(far);
            assert!(all_alike || shortlist.is_full(), "{usually}");
            assert!(stays <= most_looked_at(usually) as usize, "{usually}: {stays}");
            assert!(shortlist.finish().len() <= most_looked_at(usually) as usize);
        }
    }
}
