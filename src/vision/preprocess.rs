//! From a picture of any size to the square that a model was trained on.
//!
//! The arithmetic is Pillow's (antialiased convolution on 8-bit pixels, bicubic with a = −0.5),
//! because that is what the models saw in training. A preprocessing that is only nearly right
//! makes zero-shot wrong without a sign.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

/// How a model wants its pictures; read from `model.yaml`, never known by name.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageSpec {
    /// Side of the square, in pixels.
    pub size: u32,
    /// How a rectangle becomes a square.
    pub resize: Resize,
    /// The filter.
    pub resample: Resample,
    /// Mean of value / 255, for red, green, blue.
    pub mean: [f32; 3],
    /// Deviation of value / 255, for red, green, blue.
    pub std: [f32; 3],
}

/// How a rectangle becomes a square.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resize {
    /// Straight to the square; the aspect ratio is lost (SigLIP).
    Stretch,
    /// The shorter side to the square's, then the middle is cut out (CLIP).
    ShortestEdgeCrop,
}

/// The resampling filter, always antialiased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resample {
    /// Cubic convolution with a = −0.5 (Keys 1981; Pillow's `BICUBIC`).
    Bicubic,
    /// Triangle filter (Pillow's `BILINEAR`).
    Bilinear,
}

/// A square picture as a model's preprocessing leaves it, before it is normalised.
/// Plain bytes, so that another process can answer it.
#[derive(Clone, PartialEq, Eq)]
pub struct Pixels {
    /// Side, in pixels.
    pub size: u32,
    /// `size · size · 3` bytes: rows from the top, red, green, blue.
    pub rgb: Vec<u8>,
}

impl std::fmt::Debug for Pixels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pixels").field("size", &self.size).finish_non_exhaustive()
    }
}

/// Pixels of 8 bits a channel, `width · height · channels` bytes, that someone else holds.
#[derive(Clone, Copy)]
pub(crate) struct Raster<'a> {
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// 3 or 4.
    pub(crate) channels: usize,
    pub(crate) pixels: &'a [u8],
}

/// The part of the source that the square shows, in source pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Window {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
}

impl Window {
    /// Everything.
    pub(crate) fn whole(width: u32, height: u32) -> Self {
        Self { left: 0.0, top: 0.0, width: f64::from(width), height: f64::from(height) }
    }
}

/// Pillow's antialiased convolution of a part of the source to `size` (width, height).
/// `None` when the buffer does not have the length that it says, or a side is 0.
pub(crate) fn resampled(
    source: &Raster,
    window: Window,
    size: (u32, u32),
    resample: Resample,
) -> Option<Vec<u8>> {
    let pixel_type = match source.channels {
        3 => PixelType::U8x3,
        4 => PixelType::U8x4,
        _ => return None,
    };
    let image = ImageRef::new(source.width, source.height, source.pixels, pixel_type).ok()?;
    let mut answer = Image::new(size.0, size.1, pixel_type);
    let filter = match resample {
        Resample::Bicubic => FilterType::CatmullRom,
        Resample::Bilinear => FilterType::Bilinear,
    };
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(filter))
        .use_alpha(false)
        .crop(window.left, window.top, window.width, window.height);
    Resizer::new().resize(&image, &mut answer, &options).ok()?;
    Some(answer.into_vec())
}

impl ImageSpec {
    /// Resizes 8-bit pixels of 3 or 4 channels (`width · height · channels` bytes) to the
    /// square; the channels stay apart (alpha is a channel like the others).
    ///
    /// `None` when the buffer does not have that length or a side is 0.
    pub(crate) fn square(
        &self,
        width: u32,
        height: u32,
        channels: usize,
        pixels: &[u8],
    ) -> Option<Vec<u8>> {
        if width == 0 || height == 0 {
            return None;
        }
        let window = self.window(width, height);
        let source = Raster { width, height, channels, pixels };
        resampled(&source, window, (self.size, self.size), self.resample)
    }

    /// Which part of a `width` × `height` picture the square shows.
    ///
    /// Resizing and then cutting out is the same convolution as resizing the part that is cut
    /// out, and does not pass through a huge picture when one side is much longer.
    /// Sizes and offsets are rounded down as the reference implementation does it:
    /// `int(size · long / short)` and `(long − size) // 2`.
    fn window(&self, width: u32, height: u32) -> Window {
        let whole = Window::whole(width, height);
        if self.resize == Resize::Stretch {
            return whole;
        }
        let size = u64::from(self.size);
        let (short, long) = (u64::from(width.min(height)), u64::from(width.max(height)));
        let resized_long = size * long / short;
        let offset = (resized_long - size) / 2;
        #[expect(clippy::cast_precision_loss, reason = "pixel counts are far below 2^52")]
        let scale = long as f64 / resized_long as f64;
        #[expect(clippy::cast_precision_loss, reason = "pixel counts are far below 2^52")]
        let (start, length) = (offset as f64 * scale, size as f64 * scale);
        if width >= height {
            Window { left: start, width: length.min(f64::from(width) - start), ..whole }
        } else {
            Window { top: start, height: length.min(f64::from(height) - start), ..whole }
        }
    }

    /// `(value / 255 − mean) / std` for every byte value and channel, `[channel][value]`.
    pub(crate) fn normalisation(&self) -> [[f32; 256]; 3] {
        let mut table = [[0.0; 256]; 3];
        for (channel, row) in table.iter_mut().enumerate() {
            for (value, cell) in (0_u16..).zip(row.iter_mut()) {
                *cell = (f32::from(value) / 255.0 - self.mean[channel]) / self.std[channel];
            }
        }
        table
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn spec(size: u32, resize: Resize, resample: Resample) -> ImageSpec {
        ImageSpec { size, resize, resample, mean: [0.5; 3], std: [0.5; 3] }
    }

    /// A row of grey values as RGB.
    fn grey(values: &[u8]) -> Vec<u8> {
        values.iter().flat_map(|value| [*value; 3]).collect()
    }

    #[test]
    fn bilinear_downscaling_is_antialiased_as_in_pillow() {
        // Pillow 12: Image.new("L", (8, 1)) with these values, .resize((2, 1), BILINEAR)
        // twice the kernel's width reaches over the whole row.
        let row = grey(&[0, 0, 0, 0, 255, 255, 255, 255]);
        let rows = row.repeat(8);
        let square = spec(2, Resize::Stretch, Resample::Bilinear)
            .square(8, 8, 3, &rows)
            .expect("right length");
        // Triangle of half-width 4 around 2 and 6: weights .125 .375 .625 .875 .875 .625 (.375 .125)
        // over 8 pixels cut at the edge: right half sees (.625 + .375 … ) — see the sums below.
        let near: f64 = 0.625 + 0.875 + 0.875 + 0.625 + 0.375 + 0.125 - 0.625 - 0.375;
        assert!(near > 0.0);
        let dark = square[0];
        assert!((35..=50).contains(&dark), "antialiasing mixes in the far half: {dark}");
        assert_eq!(u16::from(square[3]) + u16::from(dark), 255, "symmetric");
    }

    #[test]
    fn the_window_is_cut_as_the_reference_does_it() {
        let spec = spec(224, Resize::ShortestEdgeCrop, Resample::Bicubic);
        // 640 × 480: resized to 298 × 224 (298.67 rounded down), offset (298 − 224) // 2 = 37.
        let window = spec.window(640, 480);
        assert!((window.left - 37.0 * 640.0 / 298.0).abs() < 1e-9);
        assert!((window.width - 224.0 * 640.0 / 298.0).abs() < 1e-9);
        assert_eq!((window.top, window.height), (0.0, 480.0));
        let window = spec.window(480, 640);
        assert!((window.top - 37.0 * 640.0 / 298.0).abs() < 1e-9);
        assert_eq!((window.left, window.width), (0.0, 480.0));
    }

    #[test]
    fn a_very_long_picture_costs_no_more_than_its_middle() {
        let spec = spec(224, Resize::ShortestEdgeCrop, Resample::Bicubic);
        let row = grey(&[7; 10_000]);
        let square = spec.square(10_000, 1, 3, &row).expect("right length");
        assert_eq!(square.len(), 224 * 224 * 3);
        assert!(square.iter().all(|value| *value == 7));
    }

    #[test]
    fn the_wrong_length_is_refused() {
        let spec = spec(4, Resize::Stretch, Resample::Bicubic);
        assert!(spec.square(2, 2, 3, &[0; 11]).is_none());
        assert!(spec.square(0, 2, 3, &[]).is_none());
        assert!(spec.square(2, 2, 1, &[0; 4]).is_none());
    }

    #[test]
    fn normalisation_is_the_formula() {
        let mut spec = spec(4, Resize::Stretch, Resample::Bicubic);
        spec.mean = [0.485, 0.456, 0.406];
        spec.std = [0.229, 0.224, 0.225];
        let table = spec.normalisation();
        assert!((table[0][0] - -2.117_904).abs() < 1e-5);
        assert!((table[2][255] - 2.64).abs() < 1e-5);
    }
}
