//! Pictures that the tests draw themselves, sound and broken.

use image::codecs::gif::GifEncoder;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::codecs::webp::WebPEncoder;
use image::{
    ExtendedColorType, Frame, GrayImage, ImageBuffer, ImageEncoder, ImageFormat, Luma, Rgb, Rgba,
    RgbaImage,
};
use proptest::prelude::*;

use super::*;
use crate::moderation::Doubt;
use crate::vision::preprocess::tests::spec;
use crate::vision::preprocess::{Resample, Resize};

const RED: [u8; 3] = [220, 20, 30];
const BLUE: [u8; 3] = [20, 40, 210];

/// Left half red, right half blue.
fn halves(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, _| Rgb(if x < width / 2 { RED } else { BLUE }))
}

fn written(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format).expect("encodes");
    bytes.into_inner()
}

fn png(image: impl Into<DynamicImage>) -> Vec<u8> {
    written(image, ImageFormat::Png)
}

fn small() -> ImageSpec {
    spec(8, Resize::Stretch, Resample::Bilinear)
}

fn seen(bytes: &[u8]) -> Result<Views, Flaw> {
    views(bytes, &small(), &Limits::default())
}

/// The colour in the middle of a corner or edge cell.
fn at(view: &Pixels, x: u32, y: u32) -> [u8; 3] {
    let place = usize::try_from((y * view.size + x) * 3).expect("small");
    [view.rgb[place], view.rgb[place + 1], view.rgb[place + 2]]
}

fn near(found: [u8; 3], expected: [u8; 3], off: u8) -> bool {
    found.iter().zip(expected).all(|(a, b)| a.abs_diff(b) <= off)
}

#[test]
fn every_format_shows_the_same_picture() {
    for (format, name) in [
        (ImageFormat::Jpeg, "jpeg"),
        (ImageFormat::Png, "png"),
        (ImageFormat::Gif, "gif"),
        (ImageFormat::WebP, "webp"),
    ] {
        let views = seen(&written(halves(64, 32), format)).expect("a good picture");
        let hash = views.facts.hash;
        assert!(hash.is_some(), "{name}");
        let facts = PictureFacts {
            format: name,
            width: 64,
            height: 32,
            frames: 1,
            has_alpha: false,
            hash,
            signals: Signals::default(),
            doubts: Doubts::default(),
        };
        assert_eq!(views.facts, facts);
        assert_eq!(views.views.len(), 1, "{name}");
        assert!(near(at(&views.views[0], 0, 0), RED, 12), "{name}");
        assert!(near(at(&views.views[0], 7, 7), BLUE, 12), "{name}");
    }
}

#[test]
fn what_is_no_picture_is_said_plainly() {
    assert_eq!(seen(b""), Err(Flaw::Empty));
    assert_eq!(seen(b"hello, I am a text"), Err(Flaw::NotAPicture));
    assert_eq!(seen(b"II*\0\x08\0\0\0"), Err(Flaw::UnsupportedFormat { format: "tiff" }));
    assert_eq!(Flaw::Empty.to_string(), "the file is empty");
    let limits = Limits { file_bytes: 10, ..Limits::default() };
    let flaw = views(&png(halves(4, 4)), &small(), &limits);
    assert!(matches!(flaw, Err(Flaw::TooManyBytes { limit: 10, .. })));
}

#[test]
fn a_header_that_claims_too_much_is_refused_before_decoding() {
    let mut bomb = png(halves(4, 4));
    bomb[16..24].copy_from_slice(&[0, 0, 0x75, 0x30, 0, 0, 0x75, 0x30]);
    let flaw = seen(&bomb).expect_err("30000 by 30000");
    assert_eq!(flaw.to_string(), "30000 × 30000 pixels are more than the limit of 50 megapixels");

    let mut bomb = written(halves(16, 16), ImageFormat::Jpeg);
    let header = bomb.windows(2).position(|pair| pair == [0xFF, 0xC0]).expect("a frame header");
    bomb[header + 5..header + 9].copy_from_slice(&[0xFF; 4]);
    assert!(matches!(seen(&bomb), Err(Flaw::TooManyPixels { width: 65_535, .. })));

    let mut bomb = written(halves(4, 4), ImageFormat::Gif);
    bomb[6..10].copy_from_slice(&[0xFF, 0xFF, 0x10, 0]);
    assert!(matches!(seen(&bomb), Err(Flaw::TooLong { width: 65_535, height: 16, .. })));

    let limits = Limits { decoded_bytes: 1_000, ..Limits::default() };
    let flaw = views(&png(halves(64, 64)), &small(), &limits);
    assert!(matches!(flaw, Err(Flaw::TooMuchMemory { bytes: 12_288, limit: 1_000 })), "{flaw:?}");
}

#[test]
fn a_picture_that_is_cut_off_goes_to_a_person() {
    let noise = RgbImage::from_fn(61, 47, |x, y| {
        Rgb([x * 7 + y * y, x * y, x * x + 31 * y].map(|v| u8::try_from(v % 256).expect("a byte")))
    });
    for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP] {
        let whole = written(noise.clone(), format);
        assert!(seen(&whole).is_ok_and(|seen| seen.facts.doubts.is_empty()));
        for length in (0..whole.len() - 12).step_by(37) {
            // What a viewer shows of it is judged too.
            let asks = seen(&whole[..length]).map_or(true, |seen| !seen.facts.doubts.is_empty());
            assert!(asks, "{format:?} cut at {length}");
        }
        let with_more = [whole.as_slice(), b"trailing garbage \xFF\xD8\xFF"].concat();
        assert!(seen(&with_more).is_ok(), "{format:?} with more behind it");
    }
}

#[test]
fn rotations_that_the_file_asks_for_are_applied() {
    // A TIFF header and one entry: orientation (0x112) 6, a quarter turn clockwise.
    let exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0".to_vec();
    let picture = halves(64, 32);
    let (pixels, color) = (picture.as_raw(), ExtendedColorType::Rgb8);
    let mut jpeg = Vec::new();
    let mut encoder = JpegEncoder::new(&mut jpeg);
    encoder.set_exif_metadata(exif.clone()).expect("known to the encoder");
    encoder.write_image(pixels, 64, 32, color).expect("encodes");
    let mut png = Vec::new();
    let mut encoder = PngEncoder::new(&mut png);
    encoder.set_exif_metadata(exif.clone()).expect("known to the encoder");
    encoder.write_image(pixels, 64, 32, color).expect("encodes");
    let mut webp = Vec::new();
    let mut encoder = WebPEncoder::new_lossless(&mut webp);
    encoder.set_exif_metadata(exif).expect("known to the encoder");
    encoder.write_image(pixels, 64, 32, color).expect("encodes");
    for bytes in [jpeg, png, webp] {
        for views in [seen(&bytes), reference_view(&bytes, &small(), &Limits::default())] {
            let views = views.expect("a good picture");
            assert_eq!((views.facts.width, views.facts.height), (32, 64), "{:?}", views.facts);
            assert!(near(at(&views.views[0], 7, 0), RED, 12), "red is above");
            assert!(near(at(&views.views[0], 0, 7), BLUE, 12), "blue is below");
        }
        let shown = preview(&bytes, &Limits::default(), 100, 32).expect("a good picture");
        assert_eq!(shown.dimensions(), (16, 32));
    }
}

#[test]
fn a_rotation_that_not_every_viewer_applies_is_a_doubt() {
    let exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0".to_vec();
    let mut turned = Vec::new();
    let mut encoder = JpegEncoder::new(&mut turned);
    encoder.set_exif_metadata(exif).expect("known to the encoder");
    let picture = halves(64, 32);
    encoder.write_image(picture.as_raw(), 64, 32, ExtendedColorType::Rgb8).expect("encodes");
    let doubts = |bytes: &[u8]| seen(bytes).expect("a good picture").facts.doubts;
    assert!(doubts(&turned).is_empty());
    let first: &[u8] = b"\xFF\xE1\0\x06http";
    let behind = [&turned[..2], first, &turned[2..]].concat();
    assert_eq!(doubts(&behind), [Doubt::Orientation].into_iter().collect());
}

#[test]
fn transparent_pictures_are_seen_over_white_and_over_black() {
    let ghost = |alpha: u8| RgbaImage::from_pixel(16, 16, Rgba([200, 100, 0, alpha]));
    let views = seen(&png(ghost(128))).expect("a good picture");
    assert!(views.facts.has_alpha);
    assert_eq!(views.views.len(), 2);
    // 200 · 128 / 255 = 100.4, and 127 of white behind it.
    assert!(near(at(&views.views[0], 3, 3), [227, 177, 127], 1), "over white");
    assert!(near(at(&views.views[1], 3, 3), [100, 50, 0], 1), "over black");

    let opaque = seen(&png(ghost(255))).expect("a good picture");
    assert_eq!(opaque.views.len(), 1);
    assert!(!opaque.facts.has_alpha);
    assert_eq!(at(&opaque.views[0], 0, 0), [200, 100, 0]);

    // What the reference implementation does: alpha is dropped.
    let plain = reference_view(&png(ghost(0)), &small(), &Limits::default());
    assert_eq!(at(&plain.expect("a good picture").views[0], 0, 0), [200, 100, 0]);
}

#[test]
fn white_text_on_nothing_shows_in_one_of_the_views() {
    let text =
        RgbaImage::from_fn(16, 16, |x, _| Rgba([255, 255, 255, if x < 8 { 255 } else { 0 }]));
    let views = seen(&png(text)).expect("a good picture").views;
    let flat = |view: &Pixels| at(view, 0, 0) == at(view, 7, 7);
    assert!(flat(&views[0]) && !flat(&views[1]));
}

#[test]
fn sixteen_bits_and_greys_are_pictures_too() {
    let deep: ImageBuffer<Rgb<u16>, Vec<u16>> =
        ImageBuffer::from_pixel(9, 9, Rgb([0xFFFF, 0x8080, 0]));
    let view = &seen(&png(deep)).expect("a good picture").views[0];
    assert_eq!(at(view, 4, 4), [255, 128, 0]);
    let deep: ImageBuffer<Luma<u16>, Vec<u16>> = ImageBuffer::from_pixel(9, 9, Luma([0x4040]));
    assert_eq!(at(&seen(&png(deep)).expect("a good picture").views[0], 4, 4), [64; 3]);
    let grey = GrayImage::from_pixel(9, 9, Luma([77]));
    for format in [ImageFormat::Png, ImageFormat::Jpeg] {
        let view = &seen(&written(grey.clone(), format)).expect("a good picture").views[0];
        assert!(near(at(view, 4, 4), [77; 3], 1));
    }
}

/// The pictures of `tests/data/jpeg`, drawn for this project.
fn data(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/jpeg/");
    std::fs::read(format!("{folder}{name}")).expect("a test picture")
}

#[test]
fn four_colours_of_a_printer_are_shown_in_three() {
    let cmyk = data("cmyk.jpg");
    for views in [seen(&cmyk), reference_view(&cmyk, &small(), &Limits::default())] {
        // The middle of a red disc.
        let colour = at(&views.expect("a good picture").views[0], 3, 3);
        assert!(near(colour, [230, 40, 60], 25), "{colour:?}");
    }
}

#[test]
fn jpegs_equal_those_of_libjpeg_in_every_byte() {
    // The PNGs hold what libjpeg-turbo 3 (through Pillow 13.0) made of the JPEGs.
    for name in ["420", "422", "444", "420-progressive", "420-restarts", "grey-progressive", "rgb"]
    {
        let expected = image::load_from_memory(&data(&format!("{name}.png"))).expect("a PNG");
        let bytes = data(&format!("{name}.jpg"));
        let survey = jpeg::Survey::of(&bytes).expect("a size");
        let found = jpeg::decode(&bytes, &survey, &Limits::default(), u32::MAX);
        let found = found.expect("a known kind");
        assert!(found.doubts.is_empty(), "{name}: {}", found.doubts);
        assert_eq!(found.image.to_rgb8(), expected.to_rgb8(), "{name}");
    }
}

#[test]
fn colours_are_converted_to_srgb_for_policies_only() {
    let with_profile = |profile: Vec<u8>| {
        let mut bytes = Vec::new();
        let mut encoder = PngEncoder::new(&mut bytes);
        encoder.set_icc_profile(profile).expect("known to the encoder");
        let pixels = [200_u8, 100, 50].repeat(64);
        encoder.write_image(&pixels, 8, 8, ExtendedColorType::Rgb8).expect("encodes");
        bytes
    };
    let colour = |bytes: &[u8]| at(&seen(bytes).expect("a good picture").views[0], 4, 4);
    let encoded = |profile: moxcms::ColorProfile| profile.encode().expect("a profile");
    // Display P3 to sRGB: 213.4, 94.2, 33.5 by the matrices of both (ICC v4, D50).
    let wide = with_profile(encoded(moxcms::ColorProfile::new_display_p3()));
    assert!(near(colour(&wide), [213, 94, 34], 3), "{:?}", colour(&wide));
    let plain = reference_view(&wide, &small(), &Limits::default()).expect("a good picture");
    assert_eq!(at(&plain.views[0], 4, 4), [200, 100, 50]);
    let same = with_profile(encoded(moxcms::ColorProfile::new_srgb()));
    assert_eq!(colour(&same), [200, 100, 50]);
    assert_eq!(colour(&with_profile(b"not a profile".to_vec())), [200, 100, 50]);
}

/// Frames of one grey each: 0, 10, 20, …
fn greys(count: u32) -> impl Iterator<Item = RgbaImage> {
    (0..count).map(|index| {
        let grey = u8::try_from(index * 10 % 256).expect("a byte");
        RgbaImage::from_pixel(12, 10, Rgba([grey, grey, grey, 255]))
    })
}

fn animated_gif(count: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = GifEncoder::new(&mut bytes);
    encoder.encode_frames(greys(count).map(Frame::new)).expect("encodes");
    drop(encoder);
    bytes
}

/// The chunks of a PNG: name and content.
fn chunks(png: &[u8]) -> Vec<([u8; 4], Vec<u8>)> {
    let mut chunks = Vec::new();
    let mut at = 8;
    while at < png.len() {
        let length = u32::from_be_bytes(png[at..at + 4].try_into().expect("four bytes")) as usize;
        let name = png[at + 4..at + 8].try_into().expect("four bytes");
        chunks.push((name, png[at + 8..at + 8 + length].to_vec()));
        at += 12 + length;
    }
    chunks
}

fn put_chunk(png: &mut Vec<u8>, name: &[u8], content: &[u8]) {
    png.extend(u32::try_from(content.len()).expect("short").to_be_bytes());
    let start = png.len();
    png.extend(name);
    png.extend(content);
    // CRC-32 of name and content (PNG specification, annex D).
    let crc = png[start..].iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { 0xEDB8_8320 ^ (crc >> 1) } else { crc >> 1 }
        })
    });
    png.extend((!crc).to_be_bytes());
}

/// An animated PNG of grey frames; `hidden` is the picture for viewers that know no animations,
/// otherwise that is the first frame.
fn animated_png(count: u32, hidden: Option<&RgbaImage>) -> Vec<u8> {
    let first = chunks(&png(hidden.cloned().unwrap_or_else(|| greys(1).next().expect("one"))));
    let mut bytes = b"\x89PNG\r\n\x1A\n".to_vec();
    let header = first.iter().find(|(name, _)| name == b"IHDR").expect("a header");
    put_chunk(&mut bytes, b"IHDR", &header.1);
    put_chunk(&mut bytes, b"acTL", &[count.to_be_bytes(), [0; 4]].concat());
    let mut sequence = 0_u32;
    let control = |bytes: &mut Vec<u8>, sequence: &mut u32| {
        let numbers = [*sequence, 12, 10, 0, 0].map(u32::to_be_bytes).concat();
        put_chunk(bytes, b"fcTL", &[numbers.as_slice(), &[0, 1, 0, 10, 0, 0]].concat());
        *sequence += 1;
    };
    if hidden.is_none() {
        control(&mut bytes, &mut sequence);
    }
    for (_, content) in first.iter().filter(|(name, _)| name == b"IDAT") {
        put_chunk(&mut bytes, b"IDAT", content);
    }
    for frame in greys(count).skip(usize::from(hidden.is_none())) {
        control(&mut bytes, &mut sequence);
        for (_, content) in chunks(&png(frame)).iter().filter(|(name, _)| name == b"IDAT") {
            put_chunk(&mut bytes, b"fdAT", &[&sequence.to_be_bytes(), content.as_slice()].concat());
            sequence += 1;
        }
    }
    put_chunk(&mut bytes, b"IEND", &[]);
    bytes
}

fn animated_webp(count: u32) -> Vec<u8> {
    let chunk = |name: &[u8], content: &[u8]| {
        let length = u32::try_from(content.len()).expect("short").to_le_bytes();
        let padding = vec![0; content.len() % 2];
        [name, &length, content, &padding].concat()
    };
    // Flags: animation; canvas 12 × 10, each less one.
    let mut body = chunk(b"VP8X", &[2, 0, 0, 0, 11, 0, 0, 9, 0, 0]);
    body.extend(chunk(b"ANIM", &[0; 6]));
    for frame in greys(count) {
        let whole = written(frame, ImageFormat::WebP);
        let head = [0, 0, 0, 0, 0, 0, 11, 0, 0, 9, 0, 0, 100, 0, 0, 0];
        // Behind RIFF, its length and WEBP comes the one chunk of the pixels.
        body.extend(chunk(b"ANMF", &[&head, &whole[12..]].concat()));
    }
    chunk(b"RIFF", &[b"WEBP", body.as_slice()].concat())
}

#[test]
fn of_an_animation_the_first_the_last_and_some_between_are_seen() {
    for (bytes, format) in
        [(animated_gif(20), "gif"), (animated_png(20, None), "png"), (animated_webp(20), "webp")]
    {
        let views = seen(&bytes).unwrap_or_else(|flaw| panic!("{format}: {flaw}"));
        let hash = views.facts.hash;
        let facts = PictureFacts {
            format,
            width: 12,
            height: 10,
            frames: 20,
            has_alpha: false,
            hash,
            signals: Signals::default(),
            doubts: Doubts::default(),
        };
        assert_eq!(views.facts, facts);
        let found: Vec<u8> = views.views.iter().map(|view| at(view, 4, 4)[0]).collect();
        assert_eq!(found.len(), 8, "{format}: {found:?}");
        assert!(found.is_sorted() && found[0] <= 1 && found[7] >= 189, "{format}: {found:?}");
        // No stretch of the animation is far from a frame that was seen.
        let widest = found.windows(2).map(|pair| pair[1] - pair[0]).max();
        assert!(widest <= Some(61), "{format}: {found:?}");
        let one = reference_view(&bytes, &small(), &Limits::default()).expect("a good picture");
        assert_eq!((one.views.len(), at(&one.views[0], 4, 4)), (1, [0; 3]), "{format}");
    }
}

#[test]
fn an_animations_hidden_picture_is_seen_as_well() {
    let hidden = RgbaImage::from_pixel(12, 10, Rgba([200, 0, 0, 255]));
    let views = seen(&animated_png(3, Some(&hidden))).expect("a good picture").views;
    let found: Vec<[u8; 3]> = views.iter().map(|view| at(view, 4, 4)).collect();
    assert_eq!(found, [[200, 0, 0], [0; 3], [10; 3], [20; 3]]);
    // One frame is enough to be shown in place of the still.
    let views = seen(&animated_png(1, Some(&hidden))).expect("a good picture").views;
    let found: Vec<[u8; 3]> = views.iter().map(|view| at(view, 4, 4)).collect();
    assert_eq!(found, [[200, 0, 0], [0; 3]]);
}

#[test]
fn too_much_animation_is_refused() {
    let few = Limits { animation_frames: 19, ..Limits::default() };
    let small_sum = Limits { animation_megapixels: 0, ..Limits::default() };
    for bytes in [animated_gif(20), animated_png(20, None), animated_webp(20)] {
        let flaw = views(&bytes, &small(), &few);
        assert_eq!(flaw, Err(Flaw::TooManyFrames { frames: 20, limit: 19 }));
        let flaw = views(&bytes, &small(), &small_sum);
        assert!(matches!(flaw, Err(Flaw::AnimationTooLarge { frames: 20, .. })), "{flaw:?}");
    }
}

#[test]
fn an_animation_that_is_cut_off_is_never_judged() {
    for bytes in [animated_gif(6), animated_png(6, None), animated_webp(6)] {
        let cut = &bytes[..bytes.len() - 40];
        match seen(cut) {
            Err(_) => {}
            // The blocks that are left are a whole animation of fewer frames, or a person is asked.
            Ok(views) => {
                let whole = views.facts.doubts.is_empty();
                assert!(views.facts.frames < 6 || !whole, "{:?}", views.facts);
            }
        }
    }
}

#[test]
fn a_large_jpeg_is_decoded_smaller_and_looks_the_same() {
    let wave = |x: u32, y: u32, k: f32| {
        let phase = f32::from(u16::try_from(x * 3 + y * 2).expect("small")) / 300.0 * k;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 255")]
        let value = (phase.sin() * 120.0 + 128.0) as u8;
        value
    };
    let large = RgbImage::from_fn(1_700, 1_300, |x, y| {
        Rgb([wave(x, y, 1.0), wave(y, x, 1.7), wave(x, y, 0.6)])
    });
    let bytes = written(large, ImageFormat::Jpeg);
    let spec = spec(96, Resize::Stretch, Resample::Bilinear);
    let limits = Limits::default();
    let survey = survey(Format::Jpeg, &bytes, &limits).expect("good");
    let wanted = 96 * jpeg::HEADROOM;
    let reduced = decode_first(Format::Jpeg, &bytes, survey.as_ref(), &limits, wanted);
    let reduced = reduced.expect("good");
    assert_eq!((reduced.image.width(), reduced.image.height()), (425, 325));
    let fast = views(&bytes, &spec, &limits).expect("a good picture");
    let full = reference_view(&bytes, &spec, &limits).expect("a good picture");
    assert_eq!((fast.facts.width, fast.facts.height), (1_700, 1_300));
    let off: Vec<u8> =
        fast.views[0].rgb.iter().zip(&full.views[0].rgb).map(|(a, b)| a.abs_diff(*b)).collect();
    assert!(off.iter().all(|off| *off <= 6), "{:?}", off.iter().max());
}

#[test]
fn a_jpeg_that_is_made_to_be_slow_is_refused() {
    let whole = data("420-progressive.jpg");
    let scan = whole.windows(2).rposition(|pair| pair == [0xFF, 0xDA]).expect("a scan");
    let (head, last) = (&whole[..whole.len() - 2], &whole[scan..whole.len() - 2]);
    let slow = [head, &last.repeat(1_001), &[0xFF, 0xD9]].concat();
    assert!(matches!(seen(&slow), Err(Flaw::TooManyScans { .. })));
}

#[test]
fn a_preview_fits_and_shows_what_is_transparent() {
    let limits = Limits::default();
    let wide = preview(&png(halves(64, 32)), &limits, 16, 16).expect("a good picture");
    assert_eq!(wide.dimensions(), (16, 8));
    assert!(near(wide.get_pixel(0, 0).0, RED, 2));
    let tiny = preview(&png(halves(4, 2)), &limits, 100, 100).expect("a good picture");
    assert_eq!(tiny.dimensions(), (4, 2), "never enlarged");
    let nothing = RgbaImage::from_pixel(16, 16, Rgba([255, 0, 0, 0]));
    let board = preview(&png(nothing), &limits, 16, 16).expect("a good picture");
    assert_eq!(board.get_pixel(0, 0).0, [0x99; 3]);
    assert_eq!(board.get_pixel(8, 0).0, [0x66; 3]);
    assert_eq!(board.get_pixel(8, 8).0, [0x99; 3]);
}

#[test]
fn a_decoders_words_are_kept_short() {
    let long = shortened(&"é\n".repeat(500));
    assert!(long.chars().count() == 121 && !long.contains('\n'));
    assert_eq!(shortened("short"), "short");
}

proptest! {
    // Decoding takes longer than most cases do; `just fuzz` asks for more.
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases / 4,
        ..ProptestConfig::default()
    })]
    #[test]
    fn mutated_pictures_give_whole_views_or_a_flaw(
        which in 0_usize..6,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = match which {
            0 => animated_gif(4),
            1 => animated_png(4, None),
            2 => animated_webp(4),
            3 => data("420.jpg"),
            4 => data("420-progressive.jpg"),
            _ => data("cmyk.jpg"),
        };
        for (index, value) in changes {
            let place = index.index(bytes.len());
            bytes[place] = value;
        }
        let limits = Limits { megapixels: 2, animation_megapixels: 4, ..Limits::default() };
        for views in [views(&bytes, &small(), &limits), reference_view(&bytes, &small(), &limits)] {
            match views {
                Ok(views) => {
                    prop_assert!(!views.views.is_empty());
                    prop_assert!(views.views.iter().all(|view| view.rgb.len() == 8 * 8 * 3));
                }
                Err(flaw) => prop_assert!(!flaw.to_string().is_empty()),
            }
        }
    }
}
