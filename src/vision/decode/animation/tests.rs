//! Animations that the tests write byte by byte, sound and odd.

use std::io::Cursor;

use image::{ExtendedColorType, ImageEncoder, ImageFormat, Rgb, RgbImage};
use proptest::prelude::*;

use super::*;
use crate::vision::decode::{MOST_VIEWS, Views, preview, reference_view, views};
use crate::vision::preprocess::tests::spec;
use crate::vision::preprocess::{ImageSpec, Pixels, Resample, Resize};

const RED: [u8; 3] = [220, 20, 30];
const GREEN: [u8; 3] = [10, 180, 40];
const BLUE: [u8; 3] = [20, 40, 210];
const BLACK: [u8; 3] = [0; 3];
const WHITE: [u8; 3] = [255; 3];
/// Index 0 is what tests make transparent.
const PALETTE: [[u8; 3]; 4] = [WHITE, RED, GREEN, BLUE];

fn small() -> ImageSpec {
    spec(8, Resize::Stretch, Resample::Bilinear)
}

fn seen(bytes: &[u8]) -> Result<Views, Flaw> {
    views(bytes, &small(), &Limits::default())
}

fn judged(bytes: &[u8]) -> Views {
    seen(bytes).expect("something is shown")
}

fn doubts(views: &Views) -> Vec<Doubt> {
    views.facts.doubts.iter().collect()
}

/// The colour in the middle of a cell.
fn at(view: &Pixels, x: u32, y: u32) -> [u8; 3] {
    let place = usize::try_from((y * view.size + x) * 3).expect("small");
    [view.rgb[place], view.rgb[place + 1], view.rgb[place + 2]]
}

fn shows(views: &Views, colour: [u8; 3]) -> bool {
    let near = |found: [u8; 3]| found.iter().zip(colour).all(|(a, b)| a.abs_diff(b) < 8);
    views.views.iter().any(|view| near(at(view, 4, 4)))
}

/// A picture of a GIF: where, how, and one index for each pixel.
struct Drawn {
    area: Area,
    disposal: u8,
    delay: u16,
    transparent: bool,
    interlaced: bool,
    indices: Vec<u8>,
}

fn flat(left: u32, top: u32, width: u32, height: u32, index: u8) -> Drawn {
    Drawn {
        area: Area { left, top, width, height },
        disposal: 0,
        delay: 10,
        transparent: false,
        interlaced: false,
        indices: vec![index; (width * height) as usize],
    }
}

fn short(number: u32) -> [u8; 2] {
    u16::try_from(number).expect("short").to_le_bytes()
}

/// A graphic control extension and a picture.
fn blocks(drawn: &Drawn) -> Vec<u8> {
    let mut bytes = vec![0x21, 0xF9, 4, drawn.disposal << 2 | u8::from(drawn.transparent)];
    bytes.extend(drawn.delay.to_le_bytes());
    bytes.extend([0, 0, 0x2C]);
    let Area { left, top, width, height } = drawn.area;
    bytes.extend([left, top, width, height].map(short).concat());
    bytes.extend([if drawn.interlaced { 0x40 } else { 0 }, 2]);
    // Codes of three bits: two pixels, then a clear code, so that they never grow.
    let codes =
        drawn.indices.chunks(2).flat_map(|pair| [4].into_iter().chain(pair.iter().copied()));
    let bits: Vec<u8> =
        codes.chain([5]).flat_map(|code| (0..3).map(move |bit| code >> bit & 1)).collect();
    let packed: Vec<u8> =
        bits.chunks(8).map(|bits| bits.iter().rev().fold(0, |byte, bit| byte << 1 | bit)).collect();
    for part in packed.chunks(255) {
        bytes.push(u8::try_from(part.len()).expect("short"));
        bytes.extend(part);
    }
    bytes.push(0);
    bytes
}

fn gif_head(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = b"GIF89a".to_vec();
    bytes.extend([width, height].map(short).concat());
    bytes.extend([0x81, 0, 0]);
    bytes.extend(PALETTE.concat());
    bytes
}

const FOR_EVER: &[u8] = b"\x21\xFF\x0BNETSCAPE2.0\x03\x01\0\0\0";

fn gif(width: u32, height: u32, pictures: &[Drawn]) -> Vec<u8> {
    let mut bytes = gif_head(width, height);
    bytes.extend(FOR_EVER);
    for drawn in pictures {
        bytes.extend(blocks(drawn));
    }
    bytes.push(0x3B);
    bytes
}

#[test]
fn a_frame_beyond_the_logical_screen_is_seen_and_a_person_is_asked() {
    // Green above, red below.
    let mut tall = flat(0, 0, 8, 24, 1);
    tall.indices[..64].fill(2);
    for (width, height) in [(8, 8), (1, 1), (0, 0), (8, 23)] {
        let bytes =
            gif(width, height, &[Drawn { indices: tall.indices.clone(), ..flat(0, 0, 8, 24, 1) }]);
        let views = judged(&bytes);
        assert_eq!((views.facts.width, views.facts.height), (8, 24), "{width} × {height}");
        assert_eq!(at(&views.views[0], 4, 0), GREEN);
        assert_eq!(at(&views.views[0], 4, 7), RED);
        assert_eq!(doubts(&views), [Doubt::Canvas]);
        let reference = reference_view(&bytes, &small(), &Limits::default()).expect("shown");
        assert_eq!(at(&reference.views[0], 4, 7), RED);
        let preview = preview(&bytes, &Limits::default(), 100, 100).expect("shown");
        assert_eq!(preview.dimensions(), (8, 24));
    }
    // The second one, to the right.
    let views = judged(&gif(8, 8, &[flat(0, 0, 8, 8, 2), flat(4, 0, 40, 8, 1)]));
    assert_eq!((views.facts.width, views.facts.frames), (44, 2));
    assert_eq!(doubts(&views), [Doubt::Canvas]);
    assert!(shows(&views, RED) && shows(&views, GREEN), "the first alone is seen as well");
    assert_eq!(doubts(&judged(&gif(8, 24, &[tall]))), [], "nothing is odd");
}

#[test]
fn an_old_gif_and_a_frame_without_size_are_doubtful() {
    let mut old = gif(8, 8, &[flat(0, 0, 4, 4, 1)]);
    assert_eq!(doubts(&judged(&old)), []);
    old[4] = b'7';
    let views = judged(&old);
    assert_eq!(doubts(&views), [Doubt::Canvas]);
    assert_eq!(at(&views.views[2], 7, 7), RED, "the first frame alone");
    let mut empty = flat(0, 0, 8, 8, 1);
    empty.area = Area { left: 0, top: 0, width: 0, height: 0 };
    let views = judged(&gif(8, 8, &[empty]));
    assert_eq!((doubts(&views), shows(&views, RED)), (vec![Doubt::Canvas], true));
}

#[test]
fn what_follows_a_stray_byte_is_seen_and_a_person_is_asked() {
    for stray in [b"\0".as_slice(), b"\x01", b"\x2B", b"\x21", b"\x2C", b"abc,!", b"\0\0\0\xFF"] {
        let mut bytes = gif_head(8, 8);
        bytes.extend(blocks(&flat(0, 0, 8, 8, 2)));
        bytes.extend(stray);
        bytes.extend(blocks(&flat(0, 0, 8, 8, 1)));
        bytes.extend(stray);
        bytes.extend(blocks(&flat(0, 0, 8, 8, 3)));
        bytes.push(0x3B);
        let views = judged(&bytes);
        assert!(doubts(&views).contains(&Doubt::Damaged), "{stray:?}: {:?}", views.facts);
        if !stray.starts_with(b"\x21") && !stray.starts_with(b"\x2C") {
            assert!(shows(&views, RED) && shows(&views, BLUE), "{stray:?}: {:?}", views.facts);
            assert_eq!(views.facts.frames, 3);
        }
    }
}

#[test]
fn a_second_picture_behind_the_end_is_seen_and_padding_is_not_one() {
    let first = gif(8, 8, &[flat(0, 0, 8, 8, 2)]);
    let second = gif(8, 8, &[flat(0, 0, 8, 8, 1)]);
    for behind in
        [second.as_slice(), &[b"some text ,!".as_slice(), &second].concat(), &second[25..]]
    {
        let views = judged(&[first.as_slice(), behind].concat());
        assert_eq!(doubts(&views), [Doubt::SecondPicture]);
        assert!(shows(&views, RED) && shows(&views, GREEN));
        assert_eq!(views.facts.frames, 2);
    }
    for behind in [[0; 600].as_slice(), b"GIF89a, that was!", &[b','; 4_000], b"PK\x05\x06,,,,"] {
        let views = judged(&[first.as_slice(), behind].concat());
        assert_eq!((doubts(&views), views.facts.frames), (vec![], 1), "{behind:?}");
    }
    let without_end = &first[..first.len() - 1];
    assert_eq!(doubts(&judged(without_end)), []);
    assert_eq!(doubts(&judged(&[without_end, &[0; 9]].concat())), []);
}

#[test]
fn what_there_is_of_a_broken_gif_is_seen() {
    let whole = gif(8, 8, &[flat(0, 0, 8, 8, 2), flat(0, 0, 8, 8, 1)]);
    // The end, the empty block, and half of the data.
    let views = judged(&whole[..whole.len() - 22]);
    assert_eq!((doubts(&views), views.facts.frames), (vec![Doubt::Damaged], 2));
    assert_eq!(at(&views.views[1], 4, 0), RED);
    assert_eq!(at(&views.views[1], 4, 7), GREEN);
    let only = gif(8, 8, &[flat(0, 0, 8, 8, 1)]);
    for length in 0..only.len() - 2 {
        match seen(&only[..length]) {
            Err(_) => {}
            Ok(views) => assert_eq!(doubts(&views), [Doubt::Damaged], "{length}"),
        }
    }
    let mut wrong = only.clone();
    let size = wrong.len() - 2 - blocks(&flat(0, 0, 8, 8, 1)).len() + 19;
    assert_eq!(wrong[size], 2, "the code size");
    wrong[size] = 12;
    assert!(matches!(seen(&wrong), Err(Flaw::Truncated { format: "gif" })));
}

#[test]
fn colours_that_are_not_there_are_told() {
    let mut bytes = gif(8, 8, &[flat(0, 0, 8, 8, 3)]);
    // Two colours instead of four.
    bytes[10] = 0x80;
    bytes.drain(19..25);
    let views = judged(&bytes);
    assert_eq!((doubts(&views), shows(&views, BLACK)), (vec![Doubt::Colours], true));
    let mut none = gif(8, 8, &[flat(0, 0, 8, 8, 3)]);
    none[10] = 0;
    none.drain(13..25);
    assert_eq!(doubts(&judged(&none)), [Doubt::Colours]);
}

#[test]
fn frames_are_disposed_of_as_browsers_do() {
    let corner = |index, disposal| Drawn { disposal, ..flat(4, 4, 4, 4, index) };
    let three = |disposal| {
        judged(&gif(8, 8, &[flat(0, 0, 8, 8, 2), corner(1, disposal), flat(0, 0, 2, 2, 3)]))
    };
    let last = |views: &Views, back: usize| {
        let view = &views.views[views.views.len() - back];
        assert_eq!(at(view, 0, 0), BLUE);
        at(view, 6, 6)
    };
    assert_eq!(last(&three(0), 1), RED, "it stays");
    assert_eq!(last(&three(1), 1), RED, "it stays");
    assert_eq!(last(&three(2), 2), WHITE, "nothing is there, over white");
    assert_eq!(last(&three(2), 1), BLACK, "nothing is there, over black");
    assert_eq!(last(&three(3), 1), GREEN, "what was there");
    assert_eq!(doubts(&three(3)), []);
}

#[test]
fn interlaced_lines_and_transparent_pixels_are_where_they_belong() {
    // Lines in the order of the file: 0, 4, 2, 6, 1, 3, 5, 7.
    let mut comb = flat(0, 0, 8, 8, 1);
    comb.interlaced = true;
    comb.indices[32..].fill(3);
    let views = judged(&gif(8, 8, &[comb]));
    let column: Vec<_> = (0..8).map(|y| at(&views.views[0], 3, y)).collect();
    assert_eq!(column, [RED, BLUE].repeat(4));
    let hole = Drawn { transparent: true, ..flat(0, 0, 8, 8, 0) };
    let views = judged(&gif(8, 8, &[flat(0, 0, 8, 8, 2), hole]));
    assert_eq!((views.views.len(), views.facts.has_alpha), (1, false), "it shows the first again");
}

#[test]
fn the_frame_that_stays_longest_is_seen() {
    for place in [1, 9, 13] {
        let frames: Vec<Drawn> = (0..20_u8)
            .map(|number| {
                let mut frame = flat(0, 0, 16, 16, if number == place { 3 } else { 2 });
                // Less than what differs by itself.
                frame.indices[..250].fill(2);
                frame.delay = if number == place { 60_000 } else { 2 };
                // Something to choose among.
                frame.indices[usize::from(number)] = 1;
                frame
            })
            .collect();
        let views = judged(&gif(16, 16, &frames));
        let blue = |view: &Pixels| at(view, 7, 7)[2] > GREEN[2] + 20;
        assert!(views.views.iter().any(blue), "{place}");
        assert_eq!((views.views.len(), doubts(&views)), (8, vec![]));
    }
}

#[test]
fn more_pictures_than_are_looked_at_are_for_a_person() {
    let stripes = |number: u32| {
        let mut frame = flat(0, 0, 64, 64, 0);
        for (place, index) in (0_u32..).zip(&mut frame.indices) {
            let (x, y) = (place % 64 / 8, place / 64 / 8);
            *index =
                u8::try_from((x * 7 + y * 13 + number * (x + 3 * y + 1)) % 31 % 4).expect("small");
        }
        frame
    };
    let limits = Limits { frames_scored: 2, ..Limits::default() };
    let judged = |count| {
        let frames: Vec<Drawn> = (0..count).map(stripes).collect();
        views(&gif(64, 64, &frames), &small(), &limits).expect("something is shown")
    };
    let few = judged(7);
    assert_eq!((doubts(&few), few.views.len()), (vec![], 7), "all of them are seen");
    let many = judged(16);
    assert_eq!(doubts(&many), [Doubt::Frames]);
    assert!((8..=MOST_VIEWS as usize).contains(&many.views.len()));
}

fn png_chunk(name: &[u8], content: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(content.len()).expect("short").to_be_bytes().to_vec();
    bytes.extend([name, content].concat());
    // CRC-32 of name and content (PNG specification, annex D).
    let sum = [name, content].concat().iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            if sum & 1 == 1 { 0xEDB8_8320 ^ (sum >> 1) } else { sum >> 1 }
        })
    });
    bytes.extend((!sum).to_be_bytes());
    bytes
}

/// The compressed pixels of a PNG of 16 bits a channel.
fn png_data(width: u32, height: u32, [red, green, blue]: [u8; 3]) -> Vec<u8> {
    let pixel = [red, red, green, green, blue, blue];
    let mut png = Vec::new();
    let encoder = image::codecs::png::PngEncoder::new(&mut png);
    let pixels = pixel.repeat((width * height) as usize);
    encoder.write_image(&pixels, width, height, ExtendedColorType::Rgb16).expect("encodes");
    let place = png.windows(4).position(|name| name == b"IDAT").expect("data");
    let length = u32::from_be_bytes(png[place - 4..place].try_into().expect("four bytes"));
    png[place + 4..place + 4 + length as usize].to_vec()
}

/// One frame of an animated PNG.
fn png_frame(sequence: &mut u32, area: Area, disposal: u8, colour: [u8; 3]) -> Vec<u8> {
    let Area { left, top, width, height } = area;
    let control = [*sequence, width, height, left, top].map(u32::to_be_bytes).concat();
    let control = png_chunk(b"fcTL", &[control.as_slice(), &[0, 1, 0, 10, disposal, 0]].concat());
    let data =
        [(*sequence + 1).to_be_bytes().as_slice(), &png_data(width, height, colour)].concat();
    *sequence += 2;
    [control, png_chunk(b"fdAT", &data)].concat()
}

/// A blue still, and frames that say of themselves that they are so many.
fn apng(claimed: Option<u32>, frames: &[u8]) -> Vec<u8> {
    let header = [8_u32, 8].map(u32::to_be_bytes).concat();
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    bytes.extend(png_chunk(b"IHDR", &[header.as_slice(), &[16, 2, 0, 0, 0]].concat()));
    if let Some(claimed) = claimed {
        bytes.extend(png_chunk(b"acTL", &[claimed.to_be_bytes(), [0; 4]].concat()));
    }
    bytes.extend(png_chunk(b"IDAT", &png_data(8, 8, BLUE)));
    bytes.extend(frames);
    bytes.extend(png_chunk(b"IEND", &[]));
    bytes
}

const ALL: Area = Area { left: 0, top: 0, width: 8, height: 8 };
const CORNER: Area = Area { left: 4, top: 4, width: 4, height: 4 };

#[test]
fn an_animated_png_of_any_depth_is_seen_with_its_still() {
    let mut next = 0;
    let frames = [(ALL, 0, GREEN), (CORNER, 2, RED), (CORNER, 1, RED), (CORNER, 0, WHITE)]
        .map(|(area, disposal, colour)| png_frame(&mut next, area, disposal, colour));
    let views = judged(&apng(Some(4), &frames.concat()));
    assert_eq!((doubts(&views), views.facts.frames), (vec![], 4));
    let corners: Vec<_> = views.views.iter().map(|view| at(view, 6, 6)).collect();
    assert_eq!(corners, [BLUE, GREEN, RED, WHITE]);
    // The first frame comes back to nothing.
    let mut next = 0;
    let frames = [(ALL, 2, GREEN), (CORNER, 0, RED)]
        .map(|(area, disposal, colour)| png_frame(&mut next, area, disposal, colour));
    let views = judged(&apng(Some(2), &frames.concat()));
    assert_eq!(views.views.len(), 4, "the last one over white and over black");
    assert_eq!(at(&views.views[3], 0, 0), BLACK);
}

#[test]
fn an_odd_animated_png_is_seen_and_a_person_is_asked() {
    let frames = |areas: &[Area]| {
        let mut next = 0;
        let frames = areas.iter().map(|area| png_frame(&mut next, *area, 0, RED));
        frames.collect::<Vec<_>>().concat()
    };
    let beyond = Area { left: 4, top: 0, width: 8, height: 8 };
    for (bytes, doubt) in [
        (apng(None, &frames(&[ALL])), Doubt::SecondPicture),
        (apng(Some(0), &frames(&[ALL])), Doubt::Damaged),
        (apng(Some(1), &frames(&[ALL, CORNER])), Doubt::Damaged),
        (apng(Some(3), &frames(&[ALL, CORNER])), Doubt::Damaged),
        (apng(Some(1), &frames(&[beyond])), Doubt::Canvas),
        (apng(Some(2), &frames(&[ALL, ALL])[38..]), Doubt::Damaged),
    ] {
        let views = judged(&bytes);
        assert_eq!(views.facts.doubts.iter().next(), Some(doubt), "{:?}", views.facts);
        assert!(views.views.iter().any(|view| at(view, 6, 6) == RED), "{doubt:?}");
    }
    let mut broken = apng(Some(2), &frames(&[ALL, CORNER]));
    let last = broken.windows(4).rposition(|name| name == b"fdAT").expect("data");
    broken[last + 12] ^= 0xFF;
    let views = judged(&broken);
    assert_eq!((doubts(&views), shows(&views, RED)), (vec![Doubt::Damaged], true));
    assert_eq!(doubts(&judged(&apng(Some(1), &[]))), [], "all viewers show the still");
}

fn riff(name: &[u8], content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).expect("short").to_le_bytes();
    [name, &length, content, &vec![0; content.len() % 2]].concat()
}

/// The chunk of the pixels.
fn webp_data(width: u32, height: u32, colour: [u8; 3]) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let image = RgbImage::from_pixel(width, height, Rgb(colour));
    image.write_to(&mut bytes, ImageFormat::WebP).expect("encodes");
    bytes.into_inner()[12..].to_vec()
}

fn webp_frame(area: Area, flags: u8, colour: [u8; 3]) -> Vec<u8> {
    let three = |number: u32| number.to_le_bytes()[..3].to_vec();
    let Area { left, top, width, height } = area;
    let head = [left / 2, top / 2, width - 1, height - 1, 100].map(three).concat();
    let content = [head.as_slice(), &[flags], &webp_data(width, height, colour)].concat();
    riff(b"ANMF", &content)
}

/// Of 8 × 8 pixels.
fn webp(flags: u8, chunks: &[Vec<u8>]) -> Vec<u8> {
    let head = riff(b"VP8X", &[flags, 0, 0, 0, 7, 0, 0, 7, 0, 0]);
    let body = [b"WEBP".to_vec(), head, riff(b"ANIM", &[0; 6]), chunks.concat()].concat();
    riff(b"RIFF", &body)
}

#[test]
fn a_webp_frame_that_is_cleared_is_gone() {
    let frames = [webp_frame(ALL, 2, GREEN), webp_frame(CORNER, 1, RED)];
    let third = webp_frame(Area { left: 0, top: 0, width: 2, height: 2 }, 2, BLUE);
    let views = judged(&webp(0x12, &[frames.concat(), third]));
    assert_eq!((doubts(&views), views.facts.frames), (vec![], 3));
    let corners: Vec<_> = views.views.iter().map(|view| at(view, 6, 6)).collect();
    assert_eq!(corners, [GREEN, RED, WHITE, BLACK]);
}

#[test]
fn an_odd_webp_is_seen_and_a_person_is_asked() {
    let (green, red) = (webp_frame(ALL, 2, GREEN), webp_frame(ALL, 2, RED));
    let beyond = webp_frame(Area { left: 4, top: 4, width: 8, height: 8 }, 2, RED);
    let cut = webp(2, &[green.clone(), red.clone()]);
    let mut two = red[8..24].to_vec();
    two.extend([webp_data(8, 8, RED), webp_data(8, 8, BLUE)].concat());
    for (bytes, doubt) in [
        (webp(2, &[green.clone(), beyond]), Doubt::Canvas),
        (webp(0, &[green.clone(), red.clone()]), Doubt::SecondPicture),
        (webp(2, &[webp_data(8, 8, RED), green.clone()]), Doubt::SecondPicture),
        (webp(2, &[green.clone(), riff(b"ANMF", &two)]), Doubt::SecondPicture),
        ([cut.as_slice(), &[]].concat()[..cut.len() - 2].to_vec(), Doubt::Damaged),
    ] {
        let views = judged(&bytes);
        assert_eq!(doubts(&views), [doubt]);
        let found = views.views.iter().any(|view| at(view, 6, 6) == RED);
        assert!(found || doubt == Doubt::Damaged, "{doubt:?}");
    }
    let unlike = riff(b"ANMF", &[&red[8..24], &webp_data(4, 4, RED)].concat());
    assert_eq!(doubts(&judged(&webp(2, &[green.clone(), unlike]))), [Doubt::Damaged]);
    // Stills.
    let still = webp(0, &[webp_data(8, 8, RED), webp_data(8, 8, BLUE)]);
    assert_eq!(doubts(&judged(&still)), [Doubt::SecondPicture]);
    let behind = [webp(2, std::slice::from_ref(&green)), red].concat();
    let views = judged(&behind);
    assert_eq!((doubts(&views), views.facts.frames), (vec![], 1), "no viewer looks there");
}

proptest! {
    #[test]
    fn any_blocks_are_read_to_an_end(
        noise in proptest::collection::vec(prop_oneof![
            any::<u8>(), Just(0x2C), Just(0x21), Just(0x3B), Just(0xF9), Just(0), Just(4), Just(8),
        ], 0..400),
        which in 0_usize..3,
    ) {
        let mut bytes = match which {
            0 => gif(8, 8, &[flat(0, 0, 8, 8, 1)]),
            1 => apng(Some(1), &png_frame(&mut 0, ALL, 0, RED)),
            _ => webp(2, &[webp_frame(ALL, 0, RED)]),
        };
        bytes.truncate(bytes.len() - 1);
        bytes.extend(noise);
        let limits = Limits { megapixels: 1, animation_megapixels: 2, ..Limits::default() };
        if let Ok(views) = views(&bytes, &small(), &limits) {
            prop_assert!(!views.views.is_empty());
            prop_assert!(views.views.len() <= MOST_VIEWS as usize);
        }
    }
}
