//! Pictures that the tests draw themselves, the same ones every time.
//!
//! What the built-in model makes of them was measured: pages, receipts and cards are flagged by
//! `documents`, chats and phone screens by `screenshots`; noise and the scenes by nothing.

use std::io::Cursor;

use image::codecs::gif::{GifEncoder, Repeat};
use image::codecs::jpeg::JpegEncoder;
use image::{Delay, DynamicImage, Frame, ImageFormat, Rgb, RgbImage};

use super::font::glyph;

const WHITE: Rgb<u8> = Rgb([255, 255, 255]);
const BLACK: Rgb<u8> = Rgb([20, 20, 20]);

/// The bytes of a PNG file.
pub fn png(image: &RgbImage) -> Vec<u8> {
    encoded(&DynamicImage::ImageRgb8(image.clone()), ImageFormat::Png)
}

/// The bytes of a JPEG file.
pub fn jpeg(image: &RgbImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 95).encode_image(image).expect("a JPEG is encoded");
    bytes
}

/// The bytes of a file in one of the formats that are compiled in.
pub fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).expect("a picture is encoded");
    bytes.into_inner()
}

/// Each for a tenth of a second, for ever.
pub fn gif_of(frames: &[RgbImage]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = GifEncoder::new(&mut bytes);
    encoder.set_repeat(Repeat::Infinite).expect("room in memory");
    for frame in frames {
        let rgba = DynamicImage::ImageRgb8(frame.clone()).into_rgba8();
        let frame = Frame::from_parts(rgba, 0, 0, Delay::from_numer_denom_ms(100, 1));
        encoder.encode_frame(frame).expect("encodes");
    }
    drop(encoder);
    bytes
}

/// A page full of lines of text under a heading: `documents`.
pub fn page(seed: u64) -> RgbImage {
    let mut dice = Dice(seed);
    let mut image = RgbImage::from_pixel(600, 800, Rgb([250, 250, 246]));
    text(&mut image, (50, 50), 4, BLACK, &dice.words(2));
    for line in 0..42 {
        let y = 120 + 15 * line;
        if line % 9 != 8 {
            let words = dice.words(12);
            let length = words.len().min(40);
            text(&mut image, (50, y), 2, BLACK, &words[..length]);
        }
    }
    image
}

/// A till receipt: `documents`.
pub fn receipt(seed: u64) -> RgbImage {
    let mut dice = Dice(seed);
    let mut image = RgbImage::from_pixel(360, 800, WHITE);
    text(&mut image, (70, 30), 4, BLACK, "SHOP MARKET");
    text(&mut image, (90, 75), 2, BLACK, "12 HIGH STREET");
    for line in 0..24 {
        let y = 120 + 22 * line;
        let words = dice.words(2);
        text(&mut image, (20, y), 2, BLACK, &words[..words.len().min(18)]);
        let price = format!("{}.{:02}", dice.below(90) + 1, dice.below(100));
        text(&mut image, (270, y), 2, BLACK, &price);
    }
    fill(&mut image, (20, 660), (320, 2), BLACK);
    text(&mut image, (20, 680), 4, BLACK, "TOTAL 84.20");
    text(&mut image, (60, 740), 2, BLACK, "THANK YOU FOR SHOPPING");
    image
}

/// Something like an identity card: `documents`.
pub fn identity_card(seed: u64) -> RgbImage {
    let mut dice = Dice(seed);
    let mut image = RgbImage::from_pixel(640, 400, Rgb([215, 226, 238]));
    fill(&mut image, (0, 0), (640, 60), Rgb([30, 60, 140]));
    text(&mut image, (20, 16), 4, WHITE, "IDENTITY CARD");
    fill(&mut image, (30, 90), (190, 250), Rgb([200, 200, 206]));
    disc(&mut image, (125, 170), 45, Rgb([230, 190, 160]));
    disc(&mut image, (125, 310), 75, Rgb([60, 70, 110]));
    fill(&mut image, (30, 340), (190, 60), Rgb([215, 226, 238]));
    for (row, field) in
        ["SURNAME", "GIVEN NAMES", "DATE OF BIRTH", "NUMBER", "EXPIRES"].into_iter().enumerate()
    {
        let y = 90 + 52 * u32::try_from(row).expect("five rows");
        text(&mut image, (250, y), 2, Rgb([90, 90, 90]), field);
        text(&mut image, (250, y + 20), 3, BLACK, &dice.words(2));
    }
    image
}

/// A conversation in bubbles: `screenshots`.
pub fn chat(seed: u64) -> RgbImage {
    let mut dice = Dice(seed);
    let mut image = RgbImage::from_pixel(390, 844, WHITE);
    fill(&mut image, (0, 0), (390, 76), Rgb([244, 244, 246]));
    disc(&mut image, (40, 48), 18, Rgb([150, 170, 200]));
    text(&mut image, (70, 42), 2, Rgb([60, 60, 60]), "ANNA");
    let mut y = 96;
    while y < 720 {
        let lines = 1 + dice.below(3);
        let (width, height) = (150 + dice.below(110), 20 * lines + 16);
        let mine = dice.below(2) == 0;
        let x = if mine { 390 - width - 14 } else { 14 };
        let (bubble, ink) =
            if mine { (Rgb([0, 132, 255]), WHITE) } else { (Rgb([228, 228, 233]), BLACK) };
        rounded(&mut image, (x, y), (width, height), 14, bubble);
        for line in 0..lines {
            let words = dice.words(6);
            let fits = usize::try_from((width - 24) / 12).expect("a bubble is small");
            let words = &words[..words.len().min(fits)];
            text(&mut image, (x + 12, y + 10 + 20 * line), 2, ink, words);
        }
        y += height + 12;
    }
    rounded(&mut image, (14, 784), (362, 40), 18, Rgb([238, 238, 242]));
    text(&mut image, (30, 796), 2, Rgb([150, 150, 150]), "MESSAGE");
    image
}

/// The settings of a phone: `screenshots`.
pub fn phone(seed: u64) -> RgbImage {
    let mut dice = Dice(seed);
    let mut image = RgbImage::from_pixel(390, 844, Rgb([242, 242, 247]));
    text(&mut image, (20, 14), 2, BLACK, "9:41");
    rounded(&mut image, (340, 12), (34, 16), 4, BLACK);
    text(&mut image, (20, 60), 4, BLACK, "SETTINGS");
    for row in 0..11 {
        let y = 116 + 62 * row;
        rounded(&mut image, (16, y), (358, 54), 10, WHITE);
        let hue = [Rgb([255, 149, 0]), Rgb([52, 199, 89]), Rgb([0, 122, 255]), Rgb([255, 59, 48])]
            [dice.below(4) as usize];
        rounded(&mut image, (28, y + 11), (32, 32), 7, hue);
        let words = dice.words(2);
        text(&mut image, (74, y + 20), 2, BLACK, &words[..words.len().min(16)]);
        if row % 3 == 0 {
            rounded(&mut image, (312, y + 14), (48, 26), 13, Rgb([52, 199, 89]));
            disc(&mut image, (346, y + 27), 11, WHITE);
        } else {
            text(&mut image, (346, y + 20), 2, Rgb([170, 170, 175]), "-");
        }
    }
    image
}

/// Coloured noise, as fine as the pixels: nothing.
pub fn noise(seed: u64) -> RgbImage {
    let mut dice = Dice(seed);
    RgbImage::from_fn(320, 240, |_, _| {
        Rgb([dice.below(256), dice.below(256), dice.below(256)].map(byte))
    })
}

/// A meadow under a sky, grainy as a photo is: nothing.
pub fn meadow(seed: u64) -> RgbImage {
    let mut dice = Dice(seed);
    let horizon = 120 + dice.below(50);
    RgbImage::from_fn(400, 300, |_, y| {
        let base = if y < horizon {
            let fade = 90 * y / horizon;
            [90 + fade, 140 + fade, 235]
        } else {
            let near = 50 * (y - horizon) / (300 - horizon);
            [70 + near, 120 + near / 2, 40 + near / 3]
        };
        let grain = if y < horizon { dice.below(9) } else { dice.below(60) };
        Rgb(base.map(|value| byte((value + grain).min(255))))
    })
}

/// Fruits on a table under soft light, grainy as a photo is.
pub fn still_life(seed: u64) -> RgbImage {
    let mut dice = Dice(seed);
    let fruits: Vec<_> = (0..3)
        .map(|index| {
            let hue = [[200, 60, 40], [220, 160, 50], [110, 150, 50]][dice.below(3) as usize];
            (90 + 110 * index + dice.below(20), 170 + dice.below(20), 40 + dice.below(20), hue)
        })
        .collect();
    RgbImage::from_fn(400, 300, |x, y| {
        let mut base = if y < 150 { [150, 140, 130] } else { [120, 84, 52] };
        for (left, top, radius, hue) in &fruits {
            let (dx, dy) = (x.abs_diff(*left), y.abs_diff(*top));
            if dx * dx + dy * dy < radius * radius {
                let shade = 100 - 60 * (dx * dx + dy * dy) / (radius * radius);
                base = hue.map(|value| value * (shade + 20) / 120);
            }
        }
        let grain = dice.below(24);
        Rgb(base.map(|value| byte((value + grain).min(255))))
    })
}

/// Random numbers that are the same on every machine (Knuth's MMIX generator).
pub struct Dice(pub u64);

impl Dice {
    /// 0 to `limit` − 1.
    pub fn below(&mut self, limit: u32) -> u32 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u32::try_from((self.0 >> 33) % u64::from(limit)).expect("below a u32")
    }

    fn words(&mut self, count: u32) -> String {
        const WORDS: [&str; 24] = [
            "INVOICE", "TOTAL", "NUMBER", "NAME", "DATE", "ACCOUNT", "ADDRESS", "AMOUNT", "PLEASE",
            "CUSTOMER", "STREET", "ORDER", "PAYMENT", "DUE", "SERVICE", "RECEIVED", "THANK", "YOU",
            "ITEM", "PRICE", "TAX", "LETTER", "DEAR", "REPORT",
        ];
        let words: Vec<_> = (0..count).map(|_| WORDS[self.below(24) as usize]).collect();
        words.join(" ")
    }
}

fn byte(value: u32) -> u8 {
    u8::try_from(value).expect("a colour")
}

/// Dots of `scale` × `scale` pixels; what does not fit is cut off.
fn text(image: &mut RgbImage, at: (u32, u32), scale: u32, ink: Rgb<u8>, words: &str) {
    for (index, character) in (0..).zip(words.chars()) {
        for (row, bits) in (0..).zip(glyph(character)) {
            for column in 0..5 {
                if bits >> (4 - column) & 1 == 1 {
                    let x = at.0 + (index * 6 + column) * scale;
                    fill(image, (x, at.1 + row * scale), (scale, scale), ink);
                }
            }
        }
    }
}

fn fill(image: &mut RgbImage, at: (u32, u32), size: (u32, u32), colour: Rgb<u8>) {
    for y in at.1..(at.1 + size.1).min(image.height()) {
        for x in at.0..(at.0 + size.0).min(image.width()) {
            image.put_pixel(x, y, colour);
        }
    }
}

fn disc(image: &mut RgbImage, centre: (u32, u32), radius: u32, colour: Rgb<u8>) {
    for y in centre.1.saturating_sub(radius)..(centre.1 + radius).min(image.height()) {
        for x in centre.0.saturating_sub(radius)..(centre.0 + radius).min(image.width()) {
            let (dx, dy) = (x.abs_diff(centre.0), y.abs_diff(centre.1));
            if dx * dx + dy * dy <= radius * radius {
                image.put_pixel(x, y, colour);
            }
        }
    }
}

fn rounded(image: &mut RgbImage, at: (u32, u32), size: (u32, u32), radius: u32, colour: Rgb<u8>) {
    let radius = radius.min(size.0 / 2).min(size.1 / 2);
    fill(image, (at.0 + radius, at.1), (size.0 - 2 * radius, size.1), colour);
    fill(image, (at.0, at.1 + radius), (size.0, size.1 - 2 * radius), colour);
    for x in [at.0 + radius, at.0 + size.0 - radius] {
        for y in [at.1 + radius, at.1 + size.1 - radius] {
            disc(image, (x, y), radius, colour);
        }
    }
}
