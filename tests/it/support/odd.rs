//! Files that are broken, rare or made to harm, byte by byte.

use std::io::Cursor;

use image::codecs::gif::GifEncoder;
use image::{DynamicImage, Frame, ImageBuffer, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};

use super::pictures::{encoded, jpeg};

/// A PNG whose header claims `width` × `height` pixels and that holds none of them.
pub fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut header = width.to_be_bytes().to_vec();
    header.extend(height.to_be_bytes());
    header.extend([8, 2, 0, 0, 0]);
    chunk(&mut bytes, *b"IHDR", &header);
    // An empty zlib stream.
    chunk(&mut bytes, *b"IDAT", &[0x78, 0x9c, 0x03, 0, 0, 0, 0, 1]);
    chunk(&mut bytes, *b"IEND", &[]);
    bytes
}

fn chunk(bytes: &mut Vec<u8>, name: [u8; 4], content: &[u8]) {
    bytes.extend(u32::try_from(content.len()).expect("a small chunk").to_be_bytes());
    let start = bytes.len();
    bytes.extend(name);
    bytes.extend(content);
    let sum = crc32(&bytes[start..]);
    bytes.extend(sum.to_be_bytes());
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    let mix = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc));
    !bytes.iter().fold(!0, mix)
}

/// Sixteen bits a channel.
pub fn deep_png(image: &RgbImage) -> Vec<u8> {
    let deep = ImageBuffer::from_fn(image.width(), image.height(), |x, y| {
        Rgb(image.get_pixel(x, y).0.map(|value| u16::from(value) * 257))
    });
    encoded(&DynamicImage::ImageRgb16(deep), ImageFormat::Png)
}

/// Dark ink on nothing: what is bright becomes transparent.
pub fn transparent_png(image: &RgbImage) -> Vec<u8> {
    let see_through = RgbaImage::from_fn(image.width(), image.height(), |x, y| {
        let [red, green, blue] = image.get_pixel(x, y).0;
        let alpha = if red > 200 { 0 } else { 255 };
        Rgba([red, green, blue, alpha])
    });
    encoded(&DynamicImage::ImageRgba8(see_through), ImageFormat::Png)
}

/// An animation of these pictures, all of one size.
pub fn animated_gif(frames: &[RgbImage]) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    {
        let mut encoder = GifEncoder::new_with_speed(&mut bytes, 30);
        for frame in frames {
            let frame = DynamicImage::ImageRgb8(frame.clone()).into_rgba8();
            encoder.encode_frame(Frame::new(frame)).expect("a frame is encoded");
        }
    }
    bytes.into_inner()
}

/// A JPEG lying on its side, with the note that says how to stand it up (EXIF orientation 6).
pub fn lying_jpeg(upright: &RgbImage) -> Vec<u8> {
    let lying = jpeg(&image::imageops::rotate270(upright));
    let mut bytes = lying[..2].to_vec();
    let tiff = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    bytes.extend([0xff, 0xe1]);
    bytes.extend(u16::try_from(tiff.len() + 2).expect("a short note").to_be_bytes());
    bytes.extend(tiff);
    bytes.extend(&lying[2..]);
    bytes
}

/// A JPEG of four inks, as print shops send them, with Adobe's marker: flat blocks of 8 × 8
/// pixels, `side` × `side` of them. Baseline, no subsampling, only the first coefficients.
pub fn cmyk_jpeg(side: u16, ink: impl Fn(u16, u16) -> [u8; 4]) -> Vec<u8> {
    let pixels = side * 8;
    let mut bytes = vec![0xff, 0xd8];
    // Transform 0: the four channels are inks, and inverted, as Adobe writes them.
    segment(&mut bytes, 0xee, b"Adobe\0\x64\0\0\0\0\0");
    let mut quantisation = vec![0];
    quantisation.extend([1; 64]);
    segment(&mut bytes, 0xdb, &quantisation);
    let [high, low] = pixels.to_be_bytes();
    let mut frame = vec![8, high, low, high, low, 4];
    (1..=4).for_each(|channel| frame.extend([channel, 0x11, 0]));
    segment(&mut bytes, 0xc0, &frame);
    // First coefficients: the twelve sizes 0 to 11 in four bits each. Others: only "end of
    // block", in one bit.
    let mut sizes = vec![0x00, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    sizes.extend(0..12);
    segment(&mut bytes, 0xc4, &sizes);
    segment(&mut bytes, 0xc4, &[0x10, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    segment(&mut bytes, 0xda, &[4, 1, 0, 2, 0, 3, 0, 4, 0, 0, 63, 0]);
    let mut bits = Bits::default();
    let mut before = [0_i32; 4];
    for y in 0..side {
        for x in 0..side {
            for (channel, value) in ink(x, y).into_iter().enumerate() {
                // The first coefficient of a flat block is eight times its distance from 128.
                let coefficient = (i32::from(value) - 128) * 8;
                bits.size_and_difference(coefficient - before[channel]);
                before[channel] = coefficient;
                bits.push(0, 1);
            }
        }
    }
    bytes.extend(bits.finished());
    bytes.extend([0xff, 0xd9]);
    bytes
}

fn segment(bytes: &mut Vec<u8>, marker: u8, content: &[u8]) {
    bytes.extend([0xff, marker]);
    bytes.extend(u16::try_from(content.len() + 2).expect("a short segment").to_be_bytes());
    bytes.extend(content);
}

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    held: u32,
    count: u32,
}

impl Bits {
    fn push(&mut self, value: u32, length: u32) {
        for bit in (0..length).rev() {
            self.held = self.held << 1 | (value >> bit & 1);
            self.count += 1;
            if self.count == 8 {
                let byte = u8::try_from(self.held & 0xff).expect("eight bits");
                self.bytes.push(byte);
                if byte == 0xff {
                    self.bytes.push(0);
                }
                (self.held, self.count) = (0, 0);
            }
        }
    }

    fn size_and_difference(&mut self, difference: i32) {
        let size = 32 - difference.unsigned_abs().leading_zeros();
        self.push(size, 4);
        let bits = if difference < 0 { difference - 1 } else { difference };
        self.push(bits.cast_unsigned() & ((1 << size) - 1), size);
    }

    fn finished(mut self) -> Vec<u8> {
        while self.count > 0 {
            self.push(1, 1);
        }
        self.bytes
    }
}

/// A PNG with a text chunk: keyword, zero, text.
pub fn png_with_text(image: &RgbImage, text: &[u8]) -> Vec<u8> {
    png_with_chunk(image, *b"tEXt", text)
}

/// A PNG with one more chunk behind its header.
pub fn png_with_chunk(image: &RgbImage, name: [u8; 4], content: &[u8]) -> Vec<u8> {
    let plain = super::pictures::png(image);
    // The signature and the header chunk.
    let mut bytes = plain[..33].to_vec();
    chunk(&mut bytes, name, content);
    bytes.extend(&plain[33..]);
    bytes
}

/// A PNG of these chunks.
pub fn png_of(chunks: &[([u8; 4], Vec<u8>)]) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    for (name, content) in chunks {
        chunk(&mut bytes, *name, content);
    }
    bytes
}

/// A JPEG with a comment.
pub fn jpeg_with_comment(image: &RgbImage, comment: &[u8]) -> Vec<u8> {
    let plain = jpeg(image);
    let mut bytes = plain[..2].to_vec();
    segment(&mut bytes, 0xfe, comment);
    bytes.extend(&plain[2..]);
    bytes
}

/// A WebP with one more chunk at its end.
pub fn webp_with_chunk(webp: &[u8], name: [u8; 4], content: &[u8]) -> Vec<u8> {
    let mut body = webp[8..].to_vec();
    body.extend(name);
    body.extend(u32::try_from(content.len()).expect("short").to_le_bytes());
    body.extend(content);
    body.resize(body.len() + content.len() % 2, 0);
    let length = u32::try_from(body.len()).expect("short").to_le_bytes();
    [b"RIFF", length.as_slice(), &body].concat()
}

/// A ZIP archive of one file, not compressed.
pub fn stored_zip(name: &str, content: &[u8]) -> Vec<u8> {
    let sum = crc32(content).to_le_bytes();
    let length = u32::try_from(content.len()).expect("short").to_le_bytes();
    let name_length = u16::try_from(name.len()).expect("short").to_le_bytes();
    let shared =
        [&[20, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &sum, &length, &length, &name_length, &[0, 0]]
            .concat();
    let local = [b"PK\x03\x04", shared.as_slice(), name.as_bytes(), content].concat();
    let central = [b"PK\x01\x02\x14\0", shared.as_slice(), &[0; 14], name.as_bytes()].concat();
    let size = u32::try_from(central.len()).expect("short").to_le_bytes();
    let offset = u32::try_from(local.len()).expect("short").to_le_bytes();
    let end = [&b"PK\x05\x06\0\0\0\0\x01\0\x01\0"[..], &size, &offset, &[0, 0]].concat();
    [local, central, end].concat()
}
