//! A picture for people: fitted into a box, over a checkerboard where it lets the background through.

use image::{DynamicImage, RgbImage};

use super::views::{over, premultiply};
use crate::vision::preprocess::{Raster, Resample, Window, resampled};

/// Fits a picture into a box and lays it over a checkerboard.
pub(super) fn fitted(image: &DynamicImage, max_width: u32, max_height: u32) -> Option<RgbImage> {
    let (width, height) = (image.width(), image.height());
    let scale = (f64::from(max_width) / f64::from(width))
        .min(f64::from(max_height) / f64::from(height))
        .min(1.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1 and a side of the picture"
    )]
    let shrunk = |length: u32| ((f64::from(length) * scale).round() as u32).max(1);
    let size = (shrunk(width), shrunk(height));
    let whole = Window::whole(width, height);
    let rgb = if let DynamicImage::ImageRgba8(rgba) = image {
        let mut premultiplied = rgba.clone();
        premultiply(premultiplied.as_flat_samples_mut().samples);
        let source = Raster { width, height, channels: 4, pixels: premultiplied.as_raw() };
        let small = resampled(&source, whole, size, Resample::Bilinear)?;
        checkered(&small, size.0)
    } else {
        let rgb = image.as_rgb8()?;
        let source = Raster { width, height, channels: 3, pixels: rgb.as_raw() };
        resampled(&source, whole, size, Resample::Bilinear)?
    };
    RgbImage::from_raw(size.0, size.1, rgb)
}

/// Premultiplied pixels over squares of 8 × 8 pixels in two greys.
fn checkered(rgba: &[u8], width: u32) -> Vec<u8> {
    let rows = rgba.chunks(width as usize * 4);
    rows.enumerate()
        .flat_map(|(y, row)| {
            row.chunks(8 * 4).enumerate().flat_map(move |(x, part)| {
                let background = if (x + y / 8) % 2 == 0 { 0x99 } else { 0x66 };
                over(part, background)
            })
        })
        .collect()
}
