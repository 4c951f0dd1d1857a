//! Files that are small and claim or contain much, cut-off files, and random damage: each is
//! refused or decoded within the child's limits, and nothing else happens.

use std::io::Write as _;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::ZlibEncoder;
use image::imageops::{FilterType, resize};
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use modtool::moderation::Uploader;
use modtool::vision::decode::{Flaw, Limits};

use crate::sandbox::{pool, spec};
use crate::support::odd::{animated_gif, png_of, png_with_chunk, transparent_png};
use crate::support::pictures::{Dice, encoded, jpeg, noise, page, png};
use crate::support::{is_long, report};

/// So many zeros, packed.
fn packed_zeros(length: usize) -> Vec<u8> {
    let mut packer = ZlibEncoder::new(Vec::new(), Compression::fast());
    let block = vec![0; 1 << 20];
    let mut left = length;
    while left > 0 {
        let part = left.min(block.len());
        packer.write_all(&block[..part]).expect("a vector takes every write");
        left -= part;
    }
    packer.finish().expect("a vector takes every write")
}

/// A PNG of zeros that holds what its header claims. Colour 2: RGB, 6: with alpha.
fn zeros_png(width: u32, height: u32, depth: u8, colour: u8) -> Vec<u8> {
    let channels = if colour == 6 { 4 } else { 3 };
    let row = 1 + width as usize * channels * usize::from(depth / 8);
    let pixels = packed_zeros(row * height as usize);
    let size = [width.to_be_bytes(), height.to_be_bytes()].concat();
    png_of(&[
        (*b"IHDR", [size.as_slice(), &[depth, colour, 0, 0, 0]].concat()),
        (*b"IDAT", pixels),
        (*b"IEND", Vec::new()),
    ])
}

/// A JPEG whose frame header claims `side` × `side` pixels.
fn vast_jpeg(side: u16) -> Vec<u8> {
    let mut bytes = jpeg(&noise(1));
    let frame = bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).expect("a frame header");
    bytes[frame + 5..frame + 7].copy_from_slice(&side.to_be_bytes());
    bytes[frame + 7..frame + 9].copy_from_slice(&side.to_be_bytes());
    bytes
}

/// A GIF of one-pixel frames on a canvas.
fn gif_of(frames: usize, side: u16) -> Vec<u8> {
    let [low, high] = side.to_le_bytes();
    let mut bytes = b"GIF89a".to_vec();
    bytes.extend([low, high, low, high, 0x80, 0, 0, 0, 0, 0, 255, 255, 255]);
    let frame = b"\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0";
    (0..frames).for_each(|_| bytes.extend(frame));
    bytes.push(0x3b);
    bytes
}

/// An animated PNG that announces so many frames.
fn apng_of(frames: u32) -> Vec<u8> {
    png_with_chunk(&noise(1), *b"acTL", &[frames.to_be_bytes(), [0; 4]].concat())
}

fn progressive_jpeg(scans: usize) -> Vec<u8> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/jpeg/420-progressive.jpg");
    let whole = std::fs::read(file).expect("the project's own picture");
    let scan = whole.windows(2).rposition(|pair| pair == [0xff, 0xda]).expect("a scan");
    let (head, last) = (&whole[..whole.len() - 2], &whole[scan..whole.len() - 2]);
    [head, &last.repeat(scans), &[0xff, 0xd9]].concat()
}

/// What may come of a bomb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// Its header is enough to refuse it.
    Refused,
    /// It is decoded, or refused, within the limits.
    Contained,
}

#[test]
fn bombs_are_refused_or_contained() {
    use Expected::{Contained, Refused};
    // A length of packed zeros that is quick to make; long runs take the real thing.
    let much = if is_long() { 1 << 30 } else { 256 << 20 };
    let text = [b"Comment\0\0".as_slice(), &packed_zeros(much)].concat();
    let profile = [b"icc\0\0".as_slice(), &packed_zeros(much)].concat();
    let mut bombs = vec![
        ("JPEG header of 65,535 × 65,535", vast_jpeg(65_535), Refused),
        (
            "PNG header of 100,000 × 100,000",
            crate::support::odd::png_header(100_000, 100_000),
            Refused,
        ),
        ("GIF canvas of 65,535 × 65,535", gif_of(2, 65_535), Refused),
        ("GIF of 10,000 frames", gif_of(10_000, 1), Refused),
        // None of them is there: a still.
        ("APNG that claims 10,000 frames", apng_of(10_000), Contained),
        ("progressive JPEG of 10,000 scans", progressive_jpeg(10_000), Refused),
        (
            "PNG with a packed text of a gigabyte",
            png_with_chunk(&noise(1), *b"zTXt", &text),
            Contained,
        ),
        (
            "PNG with a packed profile of a gigabyte",
            png_with_chunk(&noise(1), *b"iCCP", &profile),
            Contained,
        ),
        ("PNG of 7,000 × 7,000, alpha", zeros_png(7_000, 7_000, 8, 6), Contained),
    ];
    if is_long() {
        // Flat, so that the file itself stays below the limit.
        let flat = [0, 255].map(|level| RgbImage::from_pixel(447, 447, Rgb([level; 3])));
        let frames: Vec<_> = flat.iter().cycle().take(1_000).cloned().collect();
        bombs.extend([
            ("PNG of 16,384 × 16,384, alpha, all there", zeros_png(16_384, 16_384, 8, 6), Refused),
            ("PNG of 7,000 × 7,000, 16 bits, alpha", zeros_png(7_000, 7_000, 16, 6), Contained),
            ("GIF of 1,000 frames, 200 megapixels", animated_gif(&frames), Contained),
        ]);
    }
    for (name, bytes, expected) in &bombs {
        assert!(bytes.len() < 50 << 20, "{name}: a file of that size is refused as such");
        // A pool each, so that its peak is this bomb's.
        let pool = pool(Limits::default());
        let warm = pool.views(&png(&noise(2)), &spec(), &Uploader::Operator).expect("a decoder");
        assert!(warm.is_ok());
        let start = Instant::now();
        let answer = pool.views(bytes, &spec(), &Uploader::Operator).expect("a decoder");
        let took = start.elapsed();
        let peak = pool.peak_memory().map_or(0, |peak| peak >> 20);
        let words = answer.as_ref().map_or_else(ToString::to_string, |_| "decoded".to_owned());
        report(&format!(
            "bomb: {name}, {} KiB: {words}; {took:.1?}, {peak} MiB",
            bytes.len() >> 10
        ));
        if *expected == Refused {
            assert!(answer.is_err(), "{name}");
            assert!(!matches!(answer, Err(Flaw::Crashed(_))), "{name}: {answer:?}");
            assert!(peak < 100, "{name}: {peak} MiB for a header");
        }
        assert!(took < Duration::from_secs(50), "{name}: {took:?}");
        // Whatever it was, the next one is served.
        assert_eq!(
            pool.views(&png(&noise(2)), &spec(), &Uploader::Operator).expect("a decoder"),
            warm,
            "{name}"
        );
    }
}

/// Small pictures of every format that is compiled in, each with its name.
fn seeds(seed: u64) -> Vec<(&'static str, Vec<u8>)> {
    let small = resize(&page(seed), 60, 80, FilterType::Triangle);
    let other = resize(&noise(seed), 60, 80, FilterType::Triangle);
    let webp = encoded(&DynamicImage::ImageRgb8(small.clone()), ImageFormat::WebP);
    vec![
        ("png", png(&small)),
        ("jpeg", jpeg(&small)),
        ("webp", webp),
        ("alpha", transparent_png(&small)),
        ("gif", animated_gif(&[small, other])),
    ]
}

#[test]
fn a_file_that_is_cut_off_anywhere_is_never_taken_for_whole() {
    let pool = pool(Limits::default());
    let mut tried = 0;
    for seed in 0..if is_long() { 1_000 } else { 2 } {
        for (name, whole) in seeds(seed) {
            assert!(
                pool.views(&whole, &spec(), &Uploader::Operator).expect("a decoder").is_ok(),
                "{name}"
            );
            for length in (0..whole.len()).step_by(37) {
                let answer =
                    pool.views(&whole[..length], &spec(), &Uploader::Operator).expect("a decoder");
                tried += 1;
                match answer {
                    Err(Flaw::Crashed(crash)) => panic!("{name} cut at {length}: {crash:?}"),
                    Err(_) => {}
                    Ok(views) if !views.facts.doubts.is_empty() => {}
                    // What is left of an animation may be a whole one with fewer frames.
                    Ok(views) => {
                        let shorter = name == "gif" && views.facts.frames < 2;
                        // A GIF is whole without its last byte, a PNG without its end chunk.
                        let only_the_end = whole.len() - length <= 12;
                        assert!(
                            shorter || only_the_end,
                            "{name} cut at {length} of {}",
                            whole.len()
                        );
                    }
                }
            }
        }
    }
    report(&format!("cut off: {tried} files, none taken for whole, no decoder lost"));
}

#[test]
fn random_damage_never_costs_more_than_the_file() {
    let pool = pool(Limits::default());
    let mut dice = Dice(11);
    let (mut tried, mut lost, mut decoded) = (0, 0, 0);
    for seed in 0..if is_long() { 1_000 } else { 4 } {
        for (_, whole) in seeds(seed) {
            for _ in 0..40 {
                let mut bytes = whole.clone();
                for _ in 0..=dice.below(8) {
                    let place = dice.below(u32::try_from(bytes.len()).expect("small")) as usize;
                    bytes[place] = u8::try_from(dice.below(256)).expect("a byte");
                }
                tried += 1;
                match pool.views(&bytes, &spec(), &Uploader::Operator).expect("a decoder") {
                    Ok(_) => decoded += 1,
                    Err(Flaw::Crashed(_)) => lost += 1,
                    Err(_) => {}
                }
            }
        }
    }
    report(&format!("damaged: {tried} files, {decoded} still decoded, {lost} cost decoders"));
    assert!(decoded < tried);
}
