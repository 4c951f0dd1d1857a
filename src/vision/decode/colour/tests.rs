//! Files whose colours and sides are up to the viewer, drawn here byte by byte.

use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use image::codecs::webp::WebPEncoder;
use image::{DynamicImage, GrayImage, ImageEncoder, ImageFormat, Luma, Rgb, RgbImage};

use crate::moderation::Doubt;
use crate::vision::decode::{Limits, Views, preview, views};
use crate::vision::preprocess::tests::spec;
use crate::vision::preprocess::{Resample, Resize};

const SRGB: [[f64; 3]; 3] =
    [[0.4361, 0.2225, 0.0139], [0.3851, 0.7169, 0.0971], [0.1431, 0.0606, 0.7141]];
const DISPLAY_P3: [[f64; 3]; 3] =
    [[0.5151, 0.2412, -0.0011], [0.2919, 0.6922, 0.0419], [0.1572, 0.0666, 0.7841]];

/// What the one colour of these pictures is in light, by the curve of sRGB: as Chromium shows it.
const STORED: [u8; 3] = [100, 150, 50];
const LINEAR: [u8; 3] = [168, 202, 122];

fn seen(bytes: &[u8]) -> Views {
    views(bytes, &spec(8, Resize::Stretch, Resample::Bilinear), &Limits::default())
        .expect("a good picture")
}

/// The colour at the left of every view.
fn colours(views: &Views) -> Vec<[u8; 3]> {
    views.views.iter().map(|view| *view.rgb[3 * 24..].first_chunk().expect("pixels")).collect()
}

fn near(one: [u8; 3], other: [u8; 3]) -> bool {
    one.iter().zip(other).all(|(a, b)| a.abs_diff(b) <= 2)
}

fn doubtful(views: &Views) -> bool {
    views.facts.doubts.iter().any(|doubt| doubt == Doubt::Colours)
}

/// What is shown first, and whether a person is asked.
fn shown(bytes: &[u8]) -> ([u8; 3], bool) {
    let views = seen(bytes);
    (colours(&views)[0], doubtful(&views))
}

fn chunk(name: [u8; 4], data: &[u8]) -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(&name);
    crc.update(data);
    let length = u32::try_from(data.len()).expect("small");
    [&length.to_be_bytes()[..], &name, data, &crc.sum().to_be_bytes()].concat()
}

/// A PNG with chunks behind its header.
fn png(image: impl Into<DynamicImage>, chunks: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, ImageFormat::Png).expect("encodes");
    let mut bytes = bytes.into_inner();
    // The signature and the header take 33 bytes.
    bytes.splice(33..33, chunks.concat());
    bytes
}

fn plain() -> RgbImage {
    RgbImage::from_pixel(16, 16, Rgb(STORED))
}

fn grey() -> GrayImage {
    GrayImage::from_pixel(16, 16, Luma([100]))
}

fn gamma(value: f64) -> Vec<u8> {
    chunk(*b"gAMA", &whole(value * 100_000.0).to_be_bytes())
}

fn primaries() -> Vec<u8> {
    let points = [0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06];
    chunk(*b"cHRM", &points.map(|point| whole(point * 100_000.0).to_be_bytes()).concat())
}

fn fixed(value: f64) -> [u8; 4] {
    whole(value * 65_536.0).to_be_bytes()
}

#[expect(clippy::cast_possible_truncation, reason = "these tests' numbers are small")]
fn whole(value: f64) -> i32 {
    value.round() as i32
}

fn curve(points: &[u16]) -> Vec<u8> {
    let count = u32::try_from(points.len()).expect("small").to_be_bytes();
    let points: Vec<u8> = points.iter().flat_map(|point| point.to_be_bytes()).collect();
    [b"curv\0\0\0\0", &count[..], &points].concat()
}

/// Light as it is stored.
fn straight() -> Vec<u8> {
    curve(&[256])
}

fn profile(space: [u8; 4], tags: &[(&[u8; 4], Vec<u8>)]) -> Vec<u8> {
    let (mut table, mut body) = (Vec::new(), Vec::new());
    let start = 132 + 12 * tags.len();
    for (name, data) in tags {
        let place = [start + body.len(), data.len()].map(|n| u32::try_from(n).expect("small"));
        table.extend([&name[..], &place[0].to_be_bytes(), &place[1].to_be_bytes()].concat());
        body.extend_from_slice(data);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    let length = u32::try_from(start + body.len()).expect("small").to_be_bytes();
    let mut head = [&length[..], b"none", &[2, 0x40, 0, 0], b"mntr", &space, b"XYZ "].concat();
    head.resize(36, 0);
    head.extend(b"acsp");
    head.resize(68, 0);
    head.extend([0.9642, 1.0, 0.8249].map(fixed).concat());
    head.resize(128, 0);
    let count = u32::try_from(tags.len()).expect("small").to_be_bytes();
    [&head[..], &count, &table, &body].concat()
}

fn rgb_profile(colorants: [[f64; 3]; 3], curve: &[u8]) -> Vec<u8> {
    profile(*b"RGB ", &rgb_tags(colorants, curve))
}

fn rgb_tags(colorants: [[f64; 3]; 3], curve: &[u8]) -> Vec<(&'static [u8; 4], Vec<u8>)> {
    let xyz = |values: [f64; 3]| [b"XYZ \0\0\0\0", &values.map(fixed).concat()[..]].concat();
    let names = [b"rXYZ", b"gXYZ", b"bXYZ"];
    let colorants = names.into_iter().zip(colorants.map(xyz));
    let curves = [b"rTRC", b"gTRC", b"bTRC"].into_iter().map(|name| (name, curve.to_vec()));
    colorants.chain(curves).collect()
}

fn grey_profile(curve: Vec<u8>) -> Vec<u8> {
    profile(*b"GRAY", &[(b"kTRC", curve)])
}

fn iccp(profile: &[u8]) -> Vec<u8> {
    let mut deflated = ZlibEncoder::new(Vec::new(), Compression::fast());
    deflated.write_all(profile).expect("memory");
    chunk(*b"iCCP", &[b"x\0\0", &deflated.finish().expect("memory")[..]].concat())
}

fn linear() -> Vec<u8> {
    iccp(&rgb_profile(SRGB, &straight()))
}

#[test]
fn what_a_png_says_is_taken_in_the_order_of_browsers() {
    let srgb = chunk(*b"sRGB", &[0]);
    let codes = |curve| chunk(*b"cICP", &[1, curve, 0, 1]);
    for (name, chunks, expected) in [
        ("nothing", vec![], STORED),
        ("gamma alone", vec![gamma(1.0)], LINEAR),
        ("gamma and primaries", vec![gamma(1.0), primaries()], LINEAR),
        ("primaries alone", vec![primaries()], STORED),
        ("gamma of 0", vec![gamma(0.0), primaries()], STORED),
        ("about the usual gamma", vec![gamma(0.46), primaries()], STORED),
        ("sRGB over gamma", vec![gamma(1.0), primaries(), srgb.clone()], STORED),
        ("a profile over sRGB", vec![srgb.clone(), linear()], LINEAR),
        ("a profile over gamma", vec![gamma(0.2), linear()], LINEAR),
        ("codes over a profile", vec![linear(), codes(13)], STORED),
        ("codes", vec![codes(8)], LINEAR),
        ("the first of two", vec![linear(), iccp(&rgb_profile(SRGB, &curve(&[3 * 256])))], LINEAR),
        ("a broken profile", vec![chunk(*b"iCCP", b"x\0\0nothing"), gamma(1.0)], LINEAR),
    ] {
        let found = shown(&png(plain(), &chunks)).0;
        assert!(near(found, expected), "{name}: {found:?}");
    }
}

#[test]
fn colours_that_are_far_from_the_stored_ones_are_judged_both_ways_and_a_person_looks() {
    for chunks in [vec![gamma(1.0)], vec![linear()]] {
        let views = seen(&png(plain(), &chunks));
        let colours = colours(&views);
        assert!(colours.iter().any(|colour| near(*colour, LINEAR)), "{colours:?}");
        assert!(colours.iter().any(|colour| near(*colour, STORED)), "{colours:?}");
        assert!(doubtful(&views));
    }
}

#[test]
fn ordinary_colour_spaces_are_converted_without_a_doubt() {
    for chunks in [
        vec![iccp(&rgb_profile(DISPLAY_P3, &curve(&[563])))],
        vec![iccp(&rgb_profile(SRGB, &curve(&[461])))],
        vec![gamma(1.0 / 1.8), primaries()],
        vec![gamma(1.0 / 2.6)],
    ] {
        let views = seen(&png(plain(), &chunks));
        assert!(!near(colours(&views)[0], STORED), "it is converted");
        assert!(views.facts.doubts.is_empty());
        assert_eq!(views.views.len(), 1);
    }
}

#[test]
fn what_one_viewer_takes_and_another_does_not_asks_a_person() {
    let mut spoiled = gamma(0.1);
    let end = spoiled.len() - 1;
    spoiled[end] ^= 1;
    let srgb = chunk(*b"sRGB", &[0]);
    for (name, chunks) in [
        ("a wrong checksum", vec![spoiled]),
        ("gamma beside sRGB", vec![srgb, gamma(0.1)]),
        ("two gammas", vec![gamma(0.45455), gamma(0.1)]),
        ("a profile for grey", vec![iccp(&grey_profile(curve(&[8 * 256])))]),
        ("a broken profile", vec![iccp(b"nothing")]),
        ("a profile that is cut off", vec![chunk(*b"iCCP", &linear()[8..40])]),
        ("codes with a matrix", vec![chunk(*b"cICP", &[1, 13, 1, 1])]),
        ("a high dynamic range", vec![chunk(*b"cICP", &[9, 16, 0, 1])]),
    ] {
        let (found, doubtful) = shown(&png(plain(), &chunks));
        assert!(doubtful, "{name}");
        assert!(name == "a high dynamic range" || near(found, STORED), "{name}: {found:?}");
    }
}

#[test]
fn grey_pictures_have_grey_profiles_or_coloured_ones() {
    for profile in [grey_profile(straight()), rgb_profile(SRGB, &straight())] {
        let (found, _) = shown(&png(grey(), &[iccp(&profile)]));
        assert!(near(found, [168; 3]), "{found:?}");
    }
    let (found, doubtful) = shown(&png(grey(), &[iccp(&grey_profile(curve(&[461])))]));
    assert!(found[0] > 105 && !doubtful, "an old Macintosh: {found:?}");
}

#[test]
fn a_curve_that_is_odd_at_a_few_steps_only_is_no_srgb() {
    let mut points: Vec<u16> = (0..256_u32)
        .map(|step| {
            let value = f64::from(step) / 255.0;
            u16::try_from(whole(((value + 0.055) / 1.055).powf(2.4).max(value / 12.92) * 65_535.0))
                .expect("at most one")
        })
        .collect();
    points[100] = 65_535;
    points[150] = 65_535;
    let (found, doubtful) = shown(&png(plain(), &[iccp(&rgb_profile(SRGB, &curve(&points)))]));
    assert!(found[0] == 255 && doubtful, "{found:?}");
}

#[test]
fn a_profile_of_many_megabytes_is_used_and_one_beyond_the_limit_asks_a_person() {
    let padded = |bytes: usize| {
        let mut tags = rgb_tags(SRGB, &straight());
        tags.push((b"text", [b"text\0\0\0\0".to_vec(), vec![b'a'; bytes]].concat()));
        png(plain(), &[iccp(&profile(*b"RGB ", &tags))])
    };
    let (found, _) = shown(&padded(6 << 20));
    assert!(near(found, LINEAR), "{found:?}");
    let (found, doubtful) = shown(&padded(super::profile::LARGEST_PROFILE));
    assert!(doubtful && near(found, STORED));
}

#[test]
fn what_is_transparent_does_not_make_a_change_small() {
    let mut image = DynamicImage::ImageRgb8(plain()).into_rgba8();
    for (x, _, pixel) in image.enumerate_pixels_mut() {
        if x > 0 {
            // Black stays black.
            pixel.0 = [0, 0, 0, 0];
        }
    }
    assert!(doubtful(&seen(&png(image, &[linear()]))));
}

#[test]
fn a_preview_shows_what_is_judged() {
    let preview = preview(&png(plain(), &[linear()]), &Limits::default(), 8, 8).expect("good");
    assert!(near(preview.get_pixel(3, 3).0, LINEAR));
}

fn webp(configure: impl FnOnce(&mut WebPEncoder<&mut Vec<u8>>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = WebPEncoder::new_lossless(&mut bytes);
    configure(&mut encoder);
    let image = halves();
    encoder.write_image(&image, 16, 16, image::ExtendedColorType::Rgb8).expect("encodes");
    bytes
}

/// Left dark, right light.
fn halves() -> RgbImage {
    RgbImage::from_fn(16, 16, |x, _| if x < 8 { Rgb(STORED) } else { Rgb([250; 3]) })
}

#[test]
fn a_webp_has_a_profile_for_colours_alone() {
    let with = |profile: Vec<u8>| webp(|encoder| encoder.set_icc_profile(profile).expect("kept"));
    let found = colours(&seen(&with(rgb_profile(SRGB, &straight()))))[0];
    assert!(near(found, LINEAR), "{found:?}");
    let found = colours(&seen(&with(grey_profile(straight()))))[0];
    assert!(near(found, STORED), "{found:?}");
}

/// A TIFF header and a directory of one entry.
fn exif(orientation: u8) -> Vec<u8> {
    let entry = [0x12, 1, 3, 0, 1, 0, 0, 0, orientation, 0, 0, 0];
    [b"II*\0\x08\0\0\0\x01\0", &entry[..], &[0; 4]].concat()
}

/// How many views show the dark half on the left, and how many on the right.
fn sides(views: &Views) -> (usize, usize) {
    let dark_at =
        |x: usize| views.views.iter().filter(|view| view.rgb[3 * (8 * 4 + x)] < 128).count();
    (dark_at(1), dark_at(6))
}

#[test]
fn a_picture_that_viewers_turn_differently_is_judged_both_ways() {
    let mirrored = 2;
    let prefixed = [b"Exif\0\0".to_vec(), exif(mirrored)].concat();
    for exif in [exif(mirrored), prefixed.clone()] {
        let views = seen(&webp(|encoder| encoder.set_exif_metadata(exif).expect("kept")));
        assert_eq!(sides(&views), (1, 1));
        assert!(views.facts.doubts.is_empty(), "all of it was judged");
    }
    let good = seen(&png(halves(), &[chunk(*b"eXIf", &exif(mirrored))]));
    assert_eq!(sides(&good), (0, 1));
    let mut behind = png(halves(), &[]);
    let end = behind.len() - 12;
    behind.splice(end..end, chunk(*b"eXIf", &exif(mirrored)));
    for bytes in [
        behind,
        png(halves(), &[chunk(*b"eXIf", &prefixed)]),
        png(halves(), &[chunk(*b"eXIf", &exif(1)), chunk(*b"eXIf", &exif(mirrored))]),
    ] {
        assert_eq!(sides(&seen(&bytes)), (1, 1));
    }
    let text = [b"Raw profile type exif\0".to_vec(), exif(mirrored)].concat();
    assert_eq!(sides(&seen(&png(halves(), &[chunk(*b"tEXt", &text)]))), (1, 0));
}

#[test]
fn no_bytes_about_colours_or_sides_stop_a_picture_from_being_judged() {
    for name in [b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"eXIf"] {
        for length in 0..48 {
            for filling in [0, 1, 0x7F, 0xFF] {
                let said = chunk(*name, &vec![filling; length]);
                assert!(!seen(&png(plain(), &[said, gamma(0.5)])).views.is_empty());
            }
        }
    }
}
