//! What uploaders do to slip a picture past: each trick, drawn here, against the real pipeline
//! with the `documents` policy and a page that it flags.

use std::io::Cursor;
use std::path::Path;

use image::imageops::{FilterType, flip_horizontal, resize, rotate90, rotate180, rotate270};
use image::{DynamicImage, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};
use modtool::moderation::Uploader;
use modtool::vision::decode::Limits;
use serde_json::Value;

use crate::sandbox::{pool, spec};
use crate::support::odd::{
    animated_gif, jpeg_with_comment, png_with_text, stored_zip, webp_with_chunk,
};
use crate::support::pictures::{encoded, jpeg, meadow, noise, page, png};
use crate::support::workspace::{Workspace, flagging};

fn judged(workspace: &Workspace, path: &Path) -> Value {
    workspace.verdict(path).unwrap_or_else(|| panic!("{} was not judged", path.display()))
}

fn rgba(picture: RgbaImage) -> Vec<u8> {
    encoded(&DynamicImage::ImageRgba8(picture), ImageFormat::Png)
}

/// How dark each pixel of a page is, as alpha.
fn ink(seed: u64, colour: [u8; 3]) -> RgbaImage {
    let page = page(seed);
    RgbaImage::from_fn(page.width(), page.height(), |x, y| {
        let [red, green, blue] = colour;
        Rgba([red, green, blue, 255 - page.get_pixel(x, y)[1]])
    })
}

#[test]
fn what_alpha_hides_from_one_background_shows_on_the_other() {
    let workspace = Workspace::with_one_policy();
    // Black ink is seen on white, white ink on black; each is invisible on the other.
    let black = workspace.upload("black-ink.png", rgba(ink(1, [0, 0, 0])));
    let white = workspace.upload("white-ink.png", rgba(ink(1, [255, 255, 255])));
    // Colours behind alpha 0 are seen by nobody: a page there is no page.
    let covered = |picture: &RgbImage, alpha: u8| {
        RgbaImage::from_fn(picture.width(), picture.height(), |x, y| {
            let [red, green, blue] = picture.get_pixel(x, y).0;
            Rgba([red, green, blue, alpha])
        })
    };
    let buried = workspace.upload("buried.png", rgba(covered(&page(2), 0)));
    let nothing = workspace.upload("nothing.png", rgba(RgbaImage::new(600, 800)));
    // Alpha that nobody sees changes nothing.
    let ghost = covered(&page(3), 254);
    let ghost = workspace.upload("nearly-opaque.png", rgba(ghost));
    workspace.scan().expect_code(1);
    for path in [&black, &white, &ghost] {
        assert_eq!(flagging(&judged(&workspace, path)), ["documents"], "{}", path.display());
    }
    let scores = |path| judged(&workspace, path)["policies"].clone();
    assert_eq!(scores(&buried), scores(&nothing));
}

/// A picture whose every `step`th pixel belongs to another one: whoever shrinks it carelessly
/// sees only that other one (Xiao et al., "Seeing is Not Believing", USENIX Security 2019).
fn seen_at(shown: &RgbImage, sampled: &RgbImage, step: u32) -> RgbImage {
    let large =
        resize(shown, sampled.width() * step, sampled.height() * step, FilterType::Triangle);
    let middle = step / 2;
    RgbImage::from_fn(large.width(), large.height(), |x, y| {
        if x % step == middle && y % step == middle {
            *sampled.get_pixel(x / step, y / step)
        } else {
            *large.get_pixel(x, y)
        }
    })
}

#[test]
fn what_only_a_careless_resize_would_see_or_miss_fools_nobody() {
    let workspace = Workspace::with_one_policy();
    let grass = resize(&meadow(1), 128, 128, FilterType::Triangle);
    let text = resize(&page(1), 128, 128, FilterType::Triangle);
    // At exactly the model's size, sampled pixel by pixel, this page would be a meadow.
    let disguised = seen_at(&page(1), &grass, 16);
    // And this meadow a page.
    let harmless = seen_at(&meadow(1), &text, 16);
    let disguised = workspace.upload("disguised.png", png(&disguised));
    let harmless = workspace.upload("harmless.png", png(&harmless));
    // The same through the JPEG decoder, which shrinks by itself.
    let as_jpeg = workspace.upload("disguised.jpg", jpeg(&seen_at(&page(2), &grass, 16)));
    workspace.scan().expect_code(1);
    assert_eq!(flagging(&judged(&workspace, &disguised)), ["documents"]);
    assert_eq!(flagging(&judged(&workspace, &as_jpeg)), ["documents"]);
    assert!(flagging(&judged(&workspace, &harmless)).is_empty(), "people see a meadow");
}

#[test]
fn a_page_late_in_an_animation_is_found() {
    let workspace = Workspace::with_one_policy();
    let frame = |picture: &RgbImage| resize(picture, 300, 400, FilterType::Triangle);
    let mut frames: Vec<RgbImage> = (0..30).map(|seed| frame(&meadow(seed))).collect();
    *frames.last_mut().expect("thirty") = frame(&page(1));
    let last = workspace.upload("last.gif", animated_gif(&frames));
    // For one frame of thirty, at a place that is not one of eight evenly spaced ones.
    let mut frames: Vec<RgbImage> = (0..30).map(|seed| frame(&meadow(seed))).collect();
    frames[10] = frame(&page(2));
    let flash = workspace.upload("flash.gif", animated_gif(&frames));
    workspace.scan().expect_code(1);
    assert_eq!(flagging(&judged(&workspace, &last)), ["documents"]);
    assert_eq!(flagging(&judged(&workspace, &flash)), ["documents"]);
}

#[test]
fn mirrored_and_turned_copies_are_flagged_like_the_original() {
    let workspace = Workspace::with_one_policy();
    let original = page(1);
    let copies = [
        ("original", original.clone()),
        ("mirrored", flip_horizontal(&original)),
        ("quarter", rotate90(&original)),
        ("half", rotate180(&original)),
        ("three-quarters", rotate270(&original)),
    ];
    let paths = copies.map(|(name, copy)| workspace.upload(format!("{name}.png"), png(&copy)));
    workspace.scan().expect_code(1);
    for path in &paths {
        assert_eq!(flagging(&judged(&workspace, path)), ["documents"], "{}", path.display());
    }
}

#[test]
fn a_file_that_is_two_things_is_judged_as_a_picture_and_says_so() {
    let workspace = Workspace::with_one_policy();
    let zip = stored_zip("evil.txt", b"not a picture");
    let grass = meadow(1);
    let behind = |picture: Vec<u8>, more: &[u8]| [&picture, more].concat();
    let webp = encoded(&DynamicImage::ImageRgb8(grass.clone()), ImageFormat::WebP);
    let cases: [(&str, Vec<u8>, &[&str]); 8] = [
        ("plain.png", png(&grass), &[]),
        ("plain.jpg", jpeg(&grass), &[]),
        ("zip.png", behind(png(&grass), &zip), &["trailing_bytes", "archive"]),
        ("zip.jpg", behind(jpeg(&grass), &zip), &["trailing_bytes", "archive"]),
        (
            "page.gif",
            behind(animated_gif(std::slice::from_ref(&grass)), b"<HTML><script>x()</script>"),
            &["trailing_bytes", "markup"],
        ),
        ("document.jpg", jpeg_with_comment(&grass, b"%PDF-1.7 1 0 obj"), &["document"]),
        (
            "script.png",
            png_with_text(&grass, b"Comment\0<?php system($_GET['c']); ?>"),
            &["markup"],
        ),
        ("chunk.webp", webp_with_chunk(&webp, *b"XMP ", b"<x><script>1</script></x>"), &["markup"]),
    ];
    let paths = cases.each_ref().map(|(name, bytes, _)| workspace.upload(name, bytes));
    let ran = workspace.scan().expect_code(0);
    for ((name, _, signals), path) in cases.iter().zip(&paths) {
        let row = judged(&workspace, path);
        assert_eq!(row["outcome"], "allow", "{name}: what it shows is harmless");
        assert_eq!(row["signals"], Value::from(signals.to_vec()), "{name}");
    }
    assert!(ran.err().contains("signals=\"trailing_bytes archive\""), "{}", ran.err());
    let csv = workspace.run(&["export", "verdicts", "--format", "csv"]).expect_code(0).out();
    assert!(csv.lines().next().is_some_and(|head| head.ends_with(",signals,twins")), "{csv}");
    assert!(csv.contains(r#"[""trailing_bytes"",""markup""]"#), "{csv}");
    // A page with an archive behind it is a page all the same.
    let both = workspace.upload("both.png", behind(png(&page(1)), &zip));
    workspace.scan().expect_code(1);
    let row = judged(&workspace, &both);
    assert_eq!(
        (flagging(&row), &row["signals"]),
        (vec!["documents"], &Value::from(vec!["trailing_bytes", "archive"]))
    );
}

#[test]
fn what_a_file_calls_itself_does_not_matter() {
    let workspace = Workspace::with_one_policy();
    let named = [
        workspace.upload("page.gif", jpeg(&page(1))),
        workspace.upload("page.jpg", png(&page(2))),
        workspace.upload("page.mp3", png(&page(3))),
        workspace.upload(".page", png(&page(4))),
    ];
    workspace.scan().expect_code(1);
    for path in &named {
        assert_eq!(flagging(&judged(&workspace, path)), ["documents"], "{}", path.display());
    }
}

/// The eight pictures of one that lie on their side, as the note of a camera says (EXIF
/// orientation), are the same picture to the model.
#[test]
fn a_note_to_turn_the_picture_is_followed() {
    let pool = pool(Limits::default());
    let upright = page(1);
    let plain = pool
        .views(&jpeg(&upright), &spec(), &Uploader::Operator)
        .expect("a decoder")
        .expect("a picture");
    let turned = crate::support::odd::lying_jpeg(&upright);
    let turned =
        pool.views(&turned, &spec(), &Uploader::Operator).expect("a decoder").expect("a picture");
    let off =
        plain.views[0].rgb.iter().zip(&turned.views[0].rgb).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(off.is_some_and(|off| off < 40), "{off:?}");
    let mut still = Cursor::new(Vec::new());
    DynamicImage::ImageRgb8(RgbImage::from_pixel(3, 3, Rgb([1, 2, 3])))
        .write_to(&mut still, ImageFormat::Png)
        .expect("a picture is encoded");
    let tiny = pool
        .views(still.get_ref(), &spec(), &Uploader::Operator)
        .expect("a decoder")
        .expect("a picture");
    assert_eq!(tiny.views[0].rgb[..3], [1, 2, 3]);
    let busy = pool.views(&png(&noise(3)), &spec(), &Uploader::Operator).expect("a decoder");
    assert!(busy.is_ok());
}
