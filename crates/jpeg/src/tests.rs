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
