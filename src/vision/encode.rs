//! Our own pixels as a file: what the decoder handed over, small, for a report.

use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;

/// A JPEG of decoded pixels; nothing of the file that they came from is in it but what is seen.
/// `quality` is 1 to 100. None where the picture is empty or too large for the format.
pub fn jpeg(picture: &RgbImage, quality: u8) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut bytes, quality);
    picture.write_with_encoder(encoder).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_become_a_jpeg_of_the_same_size() {
        let picture =
            RgbImage::from_fn(20, 10, |x, _| image::Rgb([u8::try_from(x).unwrap(), 9, 9]));
        let bytes = jpeg(&picture, 80).expect("a JPEG");
        assert!(bytes.starts_with(b"\xFF\xD8\xFF"));
        let read = image::load_from_memory(&bytes).expect("reads back");
        assert_eq!((read.width(), read.height()), (20, 10));
        assert_eq!(jpeg(&RgbImage::new(0, 0), 80), None);
    }
}
