//! What can be told without another decoder beside it; `tests/it/viewers.rs` compares the pixels.

use std::fmt::Write as _;

use super::*;

/// A grey picture of two blocks, 16 × 8, whose DC differences are given by a table of two codes:
/// 0 for no difference, 10 for one of size 1.
fn two_blocks(data: &[u8], markers: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xFF, 0xD8];
    bytes.extend_from_slice(markers);
    bytes.extend([0xFF, 0xDB, 0, 67, 0]);
    bytes.extend([8; 64]);
    bytes.extend([0xFF, 0xC0, 0, 11, 8, 0, 8, 0, 16, 1, 1, 0x11, 0]);
    for class in [0x00, 0x10] {
        bytes.extend([0xFF, 0xC4, 0, 21, class, 1, 1]);
        bytes.extend([0; 14]);
        bytes.extend([0, 1]);
    }
    bytes.extend([0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 63, 0]);
    bytes.extend_from_slice(data);
    bytes
}

fn grey(bytes: &[u8], scale: Scale) -> (Vec<u8>, Warnings) {
    let picture = decode(bytes, scale, 1 << 20).expect("a picture");
    let Pixels::Grey(pixels) = picture.pixels else { panic!("one colour") };
    (pixels, picture.warnings)
}

/// DC +1, end of block; DC +1, end of block; ones.
const SOUND: [u8; 3] = [0b1010_1010, 0xFF, 0xD9];

#[test]
fn a_mean_is_a_mean_at_every_scale() {
    let bytes = two_blocks(&SOUND, &[]);
    for (scale, size) in
        [(Scale::Full, 128), (Scale::Half, 32), (Scale::Quarter, 8), (Scale::Eighth, 2)]
    {
        let (pixels, warnings) = grey(&bytes, scale);
        let (first, second) = (pixels[0], pixels[pixels.len() - 1]);
        assert_eq!((pixels.len(), first, second), (size, 129, 130), "{scale:?}");
        assert_eq!(warnings, Warnings::default());
    }
}

#[test]
fn what_is_missing_or_broken_is_told() {
    // The data ends after the first block; a code that the table does not have; no end marker.
    for data in [&[0b1010_1111, 0xFF, 0xD9][..], &[0b1111_1111, 0, 0xFF, 0xD9], &[0b1010_1010]] {
        let (_, warnings) = grey(&two_blocks(data, &[]), Scale::Full);
        assert!(warnings.damaged, "{data:?}");
    }
    assert_eq!(decode(&two_blocks(&[], &[])[..40], Scale::Full, 1 << 20), Err(Error::CutOff));
}

#[test]
fn a_restart_marker_brings_the_rest_back() {
    let interval = [0xFF, 0xDD, 0, 4, 0, 1];
    let sound = two_blocks(&[0b1010_1111, 0xFF, 0xD0, 0b1010_1111, 0xFF, 0xD9], &interval);
    assert_eq!(grey(&sound, Scale::Full).0[127], 129, "the mean begins anew");
    assert!(!grey(&sound, Scale::Full).1.damaged);
    // Noise in the first interval, and a marker that is counted wrongly: the second is as it was.
    for data in [
        &[0b1100_0000, 7, 7, 0xFF, 0xD0, 0b1010_1111, 0xFF, 0xD9][..],
        &[0b1010_1111, 0xFF, 0xD4, 0b1010_1111, 0xFF, 0xD9],
    ] {
        let (pixels, warnings) = grey(&two_blocks(data, &interval), Scale::Full);
        assert!(warnings.damaged && pixels[127] == 129, "{data:?}: {}", pixels[127]);
    }
}

/// Where a segment begins.
fn place_of(bytes: &[u8], marker: u8) -> usize {
    bytes.windows(2).position(|two| two == [0xFF, marker]).expect("a segment")
}

#[test]
fn what_follows_the_coded_data_is_told() {
    let sound = SOUND[..1].to_vec();
    let (end, fake) = ([0xFF, 0xD9], [0xFF, 0xFE, 0, 4, 0xFF, 0xD9]);
    let again = [0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 63, 0, 0b1010_1010];
    for (rest, damaged) in [
        (&end[..], false),
        (&[0xFF, 0xFF, 0xD9], false),
        // Bytes that nothing asks for, a second picture, a second scan, an end within a comment.
        (&[7, 7, 0xFF, 0xD9], true),
        (&[7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 0xFF, 0xD9], true),
        (&[0xFF, 0xD8, 0xFF, 0xD9], true),
        (&[again, again].concat(), true),
        (&fake, true),
    ] {
        let (pixels, warnings) = grey(&two_blocks(&[&sound, rest].concat(), &[]), Scale::Full);
        assert_eq!(warnings.damaged, damaged, "{rest:?}");
        assert_eq!((pixels[0], pixels[127]), (129, 130), "{rest:?}: it is shown all the same");
    }
}

#[test]
fn what_comes_behind_the_first_scan_changes_neither_side_nor_colours() {
    let exif = [&[0xFF, 0xE1, 0, 10][..], b"Exif\0\0II"].concat();
    let xmp = [&[0xFF, 0xE1, 0, 6][..], b"http"].concat();
    let of = |before: &[u8], behind: &[u8]| {
        let data = [&[0b1010_1111], behind, &[0xFF, 0xD9]].concat();
        let mut bytes = two_blocks(&data, before);
        // A progressive picture whose first scan brings DC: more may follow.
        let (frame, scan) = (place_of(&bytes, 0xC0), place_of(&bytes, 0xDA));
        bytes[frame + 1] = 0xC2;
        bytes[scan + 8] = 0;
        decode(&bytes, Scale::Full, 1 << 20).expect("a picture")
    };
    assert_eq!(of(&exif, &[]).exif, [b"II".to_vec()]);
    assert!(of(&[], &exif).exif.is_empty());
    assert!(!of(&exif, &[]).exif_is_late);
    assert!(of(&[xmp, exif].concat(), &[]).exif_is_late);
}

#[test]
fn in_front_of_a_marker_that_waits_lies_one_unit_of_zeros() {
    // In the DC table 0 is a difference of size 1 here, so that a unit of zeros is darker by one.
    let mut bytes = two_blocks(&[0b1001_1111, 0xFF, 0xD1, 0xFF, 0xD9], &[0xFF, 0xDD, 0, 4, 0, 1]);
    let table = place_of(&bytes, 0xC4);
    bytes[table + 21..table + 23].copy_from_slice(&[1, 0]);
    let (pixels, warnings) = grey(&bytes, Scale::Full);
    assert_eq!((pixels[0], pixels[127], warnings.damaged), (128, 127, true));
}

#[test]
fn a_reduced_picture_shows_what_the_full_one_shows_where_values_are_cut_off() {
    // A dark mean, and stripes so strong that they are black and white: their mean is grey.
    let mut bytes = two_blocks(&[0x96, 0xD2, 0xDA, 0xFF, 0xD9], &[]);
    let mut table = vec![0xFF, 0xDB, 0, 131, 0x10];
    let factors = [800_u16, 1, 1, 3_000].into_iter().chain([1; 60]);
    table.extend(factors.flat_map(u16::to_be_bytes));
    let place = place_of(&bytes, 0xDB);
    bytes.splice(place..place + 69, table);
    let full = grey(&bytes, Scale::Full).0;
    for (scale, side) in [(Scale::Half, 2), (Scale::Quarter, 4), (Scale::Eighth, 8)] {
        let reduced = grey(&bytes, scale).0;
        for (index, value) in reduced.iter().enumerate() {
            let (x, y) = (index % (16 / side) * side, index / (16 / side) * side);
            let within = (0..side * side).map(|part| (x + part % side, y + part / side));
            let sum: usize = within.map(|(x, y)| usize::from(full[y * 16 + x])).sum();
            let mean = sum / (side * side);
            assert!(usize::from(*value).abs_diff(mean) <= 1, "{scale:?}: {value} for {mean}");
        }
    }
}

#[test]
fn memory_is_bounded_before_it_is_taken() {
    let mut bytes = two_blocks(&SOUND, &[]);
    let size = bytes.windows(2).position(|two| two == [0xFF, 0xC0]).expect("a frame header");
    bytes[size + 5..size + 9].fill(0xFF);
    let refused = decode(&bytes, Scale::Full, 1 << 20);
    assert!(matches!(refused, Err(Error::TooMuchMemory { limit: 1_048_576, .. })), "{refused:?}");
}

#[test]
fn a_profile_is_whole_or_none() {
    let part = |number: u8, count: u8, bytes: &[u8]| {
        let mut body = b"ICC_PROFILE\0".to_vec();
        body.extend([number, count]);
        body.extend_from_slice(bytes);
        let length = u16::try_from(body.len() + 2).expect("short").to_be_bytes();
        [&[0xFF, 0xE2][..], &length, &body].concat()
    };
    let of = |parts: &[Vec<u8>]| {
        let picture = decode(&two_blocks(&SOUND, &parts.concat()), Scale::Full, 1 << 20);
        let picture = picture.expect("a picture");
        (picture.profile, picture.warnings.broken_profile)
    };
    assert_eq!(of(&[]), (None, false));
    assert_eq!(of(&[part(2, 2, b"cd"), part(1, 2, b"ab")]), (Some(b"abcd".to_vec()), false));
    for broken in [
        vec![part(1, 2, b"ab")],
        vec![part(1, 1, b"ab"), part(1, 1, b"cd")],
        vec![part(0, 1, b"ab")],
        vec![part(1, 2, b"ab"), part(2, 3, b"cd")],
    ] {
        assert_eq!(of(&broken), (None, true));
    }
}

/// Whatever the bytes are: no panic, and no more memory than allowed.
#[test]
fn any_bytes_are_survived() {
    let interval = [0xFF, 0xDD, 0, 4, 0, 1];
    let sound = two_blocks(&[0b1010_1111, 0xFF, 0xD0, 0b1010_1111, 0xFF, 0xD9], &interval);
    let mut outcomes = String::new();
    let mut state = 1_u64;
    for _ in 0..200_000 {
        let mut bytes = sound.clone();
        for _ in 0..3 {
            // A linear congruential generator (Knuth's constants).
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let place = usize::try_from(state >> 33).expect("31 bits") % bytes.len();
            bytes[place] = u8::try_from(state >> 24 & 0xFF).expect("a byte");
        }
        for scale in [Scale::Full, Scale::Quarter] {
            if let Err(error) = decode(&bytes, scale, 1 << 20) {
                outcomes.clear();
                write!(outcomes, "{error}").expect("room");
                assert!(!outcomes.is_empty());
            }
        }
    }
}
