//! Strips, borders, and what only looks like one.

use super::*;
use crate::vision::preprocess::Resample;
use crate::vision::preprocess::tests::spec;

fn squeezed() -> ImageSpec {
    spec(96, Resize::Stretch, Resample::Bicubic)
}

fn cut() -> ImageSpec {
    spec(96, Resize::ShortestEdgeCrop, Resample::Bicubic)
}

const SIDE: usize = 64;

/// The colour of a border at a cell, or none within.
type Border = Box<dyn Fn(usize, usize) -> Option<u8>>;

/// Noise that no line of is flat.
fn busy(x: usize, y: usize) -> u8 {
    u8::try_from((x * 97 + y * 57 + x * y * 31) % 251).expect("a byte")
}

fn grid(colour: impl Fn(usize, usize) -> u8) -> Vec<u8> {
    (0..SIDE * SIDE).flat_map(|place| [colour(place % SIDE, place / SIDE); 3]).collect()
}

fn found(spec: &ImageSpec, size: (u32, u32), cells: &[u8]) -> Parts {
    parts(spec, size.0, size.1, Grid { side: SIDE, channels: 3, cells })
}

#[test]
fn what_is_long_is_seen_in_parts_that_cover_all_of_it() {
    let busy = grid(busy);
    for spec in [squeezed(), cut()] {
        for (long, short) in
            [(1_501, 1_000), (2_501, 1_000), (4_000, 900), (9_000, 1_000), (12_000, 375), (9, 1)]
        {
            for size in [(long, short), (short, long)] {
                let Parts { parts, incomplete } = found(&spec, size, &busy);
                let limit = if spec.resize == Resize::Stretch { 2.5 } else { 1.5 };
                if f64::from(long) / f64::from(short) <= limit {
                    assert_eq!(parts, []);
                    continue;
                }
                assert!((2..=MOST_PARTS).contains(&parts.len()), "{size:?}: {parts:?}");
                let mut seen = 0;
                for part in &parts {
                    let (start, length, across) = if size.0 > size.1 {
                        (part.left, part.width, part.height)
                    } else {
                        (part.top, part.height, part.width)
                    };
                    assert!(start <= seen && across == short, "{size:?}: {parts:?}");
                    seen = seen.max(start + length);
                    let ratio = f64::from(length) / f64::from(short);
                    // Give or take a pixel.
                    let limit = limit + 1.0 / f64::from(short);
                    assert!(incomplete || ratio <= limit, "{size:?}: {part:?}");
                }
                assert_eq!(seen, long, "{size:?}: {parts:?}");
                assert_eq!(incomplete, short == 375, "{size:?}");
            }
        }
        assert_eq!(found(&spec, (1_000, 1_000), &busy), Parts::default());
    }
}

#[test]
fn what_lies_within_a_border_is_seen_without_it() {
    // Bars above and below; a frame; a corner; frames in frames, each of its own colour; a gradient.
    let borders: [(&str, Border, [u32; 4]); 6] = [
        ("bars", Box::new(|_, y| (!(20..44).contains(&y)).then_some(0)), [0, 200, 640, 240]),
        (
            "a frame",
            Box::new(|x, y| (!(16..48).contains(&x) || !(16..48).contains(&y)).then_some(255)),
            [160, 160, 320, 320],
        ),
        ("a corner", Box::new(|x, y| (x < 50 || y < 50).then_some(128)), [500, 500, 140, 140]),
        (
            "two frames",
            Box::new(|x, y| {
                let depth = x.min(y).min(SIDE - 1 - x).min(SIDE - 1 - y);
                (depth < 16).then_some(if depth < 8 { 30 } else { 220 })
            }),
            [160, 160, 320, 320],
        ),
        (
            "a gradient",
            Box::new(|_, y| (y >= 30).then(|| u8::try_from(3 * y).expect("a byte"))),
            [0, 0, 640, 300],
        ),
        (
            "a dotted edge",
            Box::new(|x, y| {
                let outside = !(20..44).contains(&y);
                let dotted = y == 0 && x.is_multiple_of(3);
                outside.then_some(if dotted { 255 } else { 0 })
            }),
            [0, 200, 640, 240],
        ),
    ];
    for (name, border, [left, top, width, height]) in borders {
        let cells = grid(|x, y| border(x, y).unwrap_or_else(|| busy(x, y)));
        let Parts { parts, .. } = found(&squeezed(), (640, 640), &cells);
        let inner = Part { left, top, width, height };
        assert_eq!(parts.first(), Some(&inner), "{name}: {parts:?}");
        // Bars leave something long behind, which is seen in parts as well.
        assert_eq!(parts.len() > 1, width > 2 * height + height / 2, "{name}: {parts:?}");
    }
}

#[test]
fn a_picture_without_a_border_and_one_of_a_single_colour_need_no_other_view() {
    for cells in [grid(busy), grid(|_, _| 200), grid(|x, _| if x < 4 { 0 } else { busy(x, 3 * x) })]
    {
        assert_eq!(found(&squeezed(), (640, 640), &cells).parts.len(), 0);
    }
    // Something slender before a plain wall fills no box.
    let slender = grid(|x, y| if x.abs_diff(y) < 3 && (10..50).contains(&x) { 250 } else { 90 });
    assert_eq!(found(&squeezed(), (640, 640), &slender), Parts::default());
    // A thin frame hides nothing.
    let thin = grid(|x, y| if x == 0 || y == 0 { 0 } else { busy(x, y) });
    assert_eq!(found(&squeezed(), (640, 640), &thin), Parts::default());
}
