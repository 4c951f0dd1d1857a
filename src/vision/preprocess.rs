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
    /// What the shorter side is resized to before the middle is cut out, in pixels; at least
    /// [`Self::size`], and the same with most models. Without meaning for [`Resize::Stretch`].
    pub shortest_edge: u32,
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
    /// The shorter side to [`ImageSpec::shortest_edge`], then the middle is cut out (CLIP).
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

impl std::fmt::Display for Resample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Bicubic => "bicubic",
            Self::Bilinear => "bilinear",
        })
    }
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

/// A part of a picture, in its pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) left: u32,
    pub(crate) top: u32,
    pub(crate) width: u32,
    pub(crate) height: u32,
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

/// Antialiased convolution of a part of the source to `size` (width, height).
///
/// Each direction is a pass of its own, rows first, with 8 bits between them and weights of
/// 16 bits: byte for byte what the reference implementation's image processors compute (on
/// `uint8` tensors), and Pillow give or take a unit in the last place. With the columns first,
/// or with both passes left to the library, a probability of a sensitive model moves by
/// some hundredths.
///
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
    let filter = match resample {
        Resample::Bicubic => FilterType::CatmullRom,
        Resample::Bilinear => FilterType::Bilinear,
    };
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)).use_alpha(false);
    let image = ImageRef::new(source.width, source.height, source.pixels, pixel_type).ok()?;
    let height = f64::from(source.height);
    let mut resizer = Resizer::new();
    let mut narrow = Image::new(size.0, source.height, pixel_type);
    let rows = options.crop(window.left, 0.0, window.width, height);
    resizer.resize(&image, &mut narrow, &rows).ok()?;
    let mut answer = Image::new(size.0, size.1, pixel_type);
    let columns = options.crop(0.0, window.top, f64::from(size.0), window.height);
    resizer.resize(&narrow, &mut answer, &columns).ok()?;
    Some(answer.into_vec())
}

impl ImageSpec {
    /// Bytes of one picture's [`Pixels`].
    pub fn bytes(&self) -> usize {
        (self.size as usize).pow(2) * 3
    }

    /// Resizes a picture to the square; channels stay apart (alpha is one like the others).
    ///
    /// `None` when the buffer does not have the length that it says, or a side is 0.
    pub(crate) fn square(&self, source: &Raster) -> Option<Vec<u8>> {
        resampled(source, self.window(source)?, (self.size, self.size), self.resample)
    }

    /// Resizes a part of a picture to the square as if it were all there is.
    ///
    /// `None` as in [`Self::square`], and when the part does not lie in the picture.
    pub(crate) fn square_of(&self, source: &Raster, part: Part) -> Option<Vec<u8>> {
        let row = source.width as usize * source.channels;
        let (top, height) = (part.top as usize, part.height as usize);
        // Other rows need not be looked at.
        let pixels = source.pixels.get(top * row..(top + height) * row)?;
        let rows = Raster { height: part.height, pixels, ..*source };
        let own = Raster { width: part.width, ..rows };
        let mut window = self.window(&own)?;
        window.left += f64::from(part.left);
        resampled(&rows, window, (self.size, self.size), self.resample)
    }

    /// A picture of 8-bit red, green and blue as the model's square.
    ///
    /// `None` when `rgb` does not have `width · height · 3` bytes, or a side is 0.
    pub fn prepare(&self, width: u32, height: u32, rgb: &[u8]) -> Option<Pixels> {
        let rgb = self.square(&Raster { width, height, channels: 3, pixels: rgb })?;
        Some(Pixels { size: self.size, rgb })
    }

    /// `[n, 3, size, size]` normalised values, plane by plane, for pictures of this size; `narrow`
    /// makes the numbers that a network takes of them. On at most so many threads.
    pub fn planes<T: Copy + Default + Send + Sync>(
        &self,
        pictures: &[Pixels],
        threads: usize,
        narrow: impl Fn(f32) -> T,
    ) -> Vec<T> {
        let table = self.normalisation().map(|row| row.map(&narrow));
        let area = (self.size as usize).pow(2);
        let mut values = vec![T::default(); pictures.len() * 3 * area];
        let fill = |pictures: &[Pixels], values: &mut [T]| {
            for (picture, planes) in pictures.iter().zip(values.chunks_exact_mut(3 * area)) {
                let (cells, _) = picture.rgb.as_chunks::<3>();
                for (channel, plane) in planes.chunks_exact_mut(area).enumerate() {
                    for (value, cell) in plane.iter_mut().zip(cells) {
                        *value = table[channel][usize::from(cell[channel])];
                    }
                }
            }
        };
        // A thread costs about as much as a few pictures.
        let share = pictures.len().div_ceil(threads.max(1)).max(4);
        if share >= pictures.len() {
            fill(pictures, &mut values);
            return values;
        }
        std::thread::scope(|scope| {
            let shares = pictures.chunks(share).zip(values.chunks_mut(share * 3 * area));
            for (pictures, values) in shares {
                scope.spawn(move || fill(pictures, values));
            }
        });
        values
    }

    /// Which part of a picture the square shows; `None` when a side is 0.
    ///
    /// Resizing and then cutting out is the same convolution as resizing the part that is cut
    /// out, and does not pass through a huge picture when one side is much longer.
    /// Sizes and offsets are rounded down as the reference implementation does it:
    /// `int(size · long / short)` and `(long − size) // 2`.
    fn window(&self, source: &Raster) -> Option<Window> {
        let Raster { width, height, .. } = *source;
        if width == 0 || height == 0 {
            return None;
        }
        let whole = Window::whole(width, height);
        if self.resize == Resize::Stretch {
            return Some(whole);
        }
        let (size, edge) = (u64::from(self.size), u64::from(self.shortest_edge.max(self.size)));
        let (short, long) = (u64::from(width.min(height)), u64::from(width.max(height)));
        let [along, across] =
            [(long, edge * long / short), (short, edge)].map(|(side, resized)| {
                let offset = (resized - size) / 2;
                #[expect(clippy::cast_precision_loss, reason = "pixel counts are far below 2^52")]
                let scale = side as f64 / resized as f64;
                #[expect(clippy::cast_precision_loss, reason = "pixel counts are far below 2^52")]
                let (start, length) = (offset as f64 * scale, size as f64 * scale);
                #[expect(clippy::cast_precision_loss, reason = "pixel counts are far below 2^52")]
                (start, length.min(side as f64 - start))
            });
        let ((left, width), (top, height)) =
            if width >= height { (along, across) } else { (across, along) };
        Some(Window { left, top, width, height })
    }

    /// How a rectangle becomes the square, in words.
    pub fn resize_words(&self) -> String {
        match self.resize {
            Resize::Stretch => "stretched".to_owned(),
            Resize::ShortestEdgeCrop => {
                format!("shorter side to {} px, middle cut out", self.shortest_edge)
            }
        }
    }

    /// The side, in pixels, that a picture's shorter side is resized to at least: more detail
    /// than this is not needed.
    pub(crate) fn detail(&self) -> u32 {
        match self.resize {
            Resize::Stretch => self.size,
            Resize::ShortestEdgeCrop => self.shortest_edge.max(self.size),
        }
    }

    /// `(value / 255 − mean) / std` for every byte value and channel, `[channel][value]`.
    fn normalisation(&self) -> [[f32; 256]; 3] {
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
        ImageSpec { size, resize, shortest_edge: size, resample, mean: [0.5; 3], std: [0.5; 3] }
    }

    /// A row of grey values as RGB.
    fn grey(values: &[u8]) -> Vec<u8> {
        values.iter().flat_map(|value| [*value; 3]).collect()
    }

    fn raster(width: u32, height: u32, pixels: &[u8]) -> Raster<'_> {
        Raster { width, height, channels: 3, pixels }
    }

    #[test]
    fn resizing_is_that_of_pillow() {
        // Pillow 13.0: Image.fromarray(rows).resize((2, 2)) with BILINEAR and BICUBIC. Without
        // antialiasing the answers are 0 and 255; with a = -0.75 bicubic gives 16 and 239.
        let rows = grey(&[0, 0, 0, 0, 255, 255, 255, 255]).repeat(8);
        for (resample, dark, bright) in
            [(Resample::Bilinear, 36, 219), (Resample::Bicubic, 24, 231)]
        {
            let spec = spec(2, Resize::Stretch, resample);
            let expected = Some(grey(&[dark, bright, dark, bright]));
            assert_eq!(spec.square(&raster(8, 8, &rows)), expected, "{resample:?}");
        }
    }

    #[test]
    fn the_window_is_cut_as_the_reference_does_it() {
        let spec = spec(224, Resize::ShortestEdgeCrop, Resample::Bicubic);
        // 640 × 480: resized to 298 × 224 (298.67 rounded down), offset (298 − 224) // 2 = 37.
        let window = spec.window(&raster(640, 480, &[])).expect("has pixels");
        assert!((window.left - 37.0 * 640.0 / 298.0).abs() < 1e-9);
        assert!((window.width - 224.0 * 640.0 / 298.0).abs() < 1e-9);
        assert!(window.top.abs() < 1e-9 && (window.height - 480.0).abs() < 1e-9);
        let window = spec.window(&raster(480, 640, &[])).expect("has pixels");
        assert!((window.top - 37.0 * 640.0 / 298.0).abs() < 1e-9);
        assert!(window.left.abs() < 1e-9 && (window.width - 480.0).abs() < 1e-9);
    }

    #[test]
    fn a_smaller_crop_is_cut_from_the_middle_both_ways() {
        let mut spec = spec(224, Resize::ShortestEdgeCrop, Resample::Bicubic);
        spec.shortest_edge = 256;
        // 640 × 480: resized to 341 × 256, offsets (341 − 224) // 2 = 58 and 16.
        let window = spec.window(&raster(640, 480, &[])).expect("has pixels");
        assert!((window.left - 58.0 * 640.0 / 341.0).abs() < 1e-9);
        assert!((window.width - 224.0 * 640.0 / 341.0).abs() < 1e-9);
        assert!((window.top - 16.0 * 480.0 / 256.0).abs() < 1e-9);
        assert!((window.height - 224.0 * 480.0 / 256.0).abs() < 1e-9);
        assert_eq!(spec.detail(), 256);
    }

    #[test]
    fn a_very_long_picture_costs_no_more_than_its_middle() {
        let spec = spec(224, Resize::ShortestEdgeCrop, Resample::Bicubic);
        let row = grey(&[7; 10_000]);
        for square in [spec.square(&raster(10_000, 1, &row)), spec.square(&raster(1, 10_000, &row))]
        {
            assert_eq!(square, Some(vec![7; 224 * 224 * 3]));
        }
    }

    #[test]
    fn the_wrong_length_is_refused() {
        let spec = spec(4, Resize::Stretch, Resample::Bicubic);
        for (width, height, length) in [(2, 2, 11), (0, 2, 0), (2, 0, 0)] {
            let pixels = vec![0; length];
            assert!(spec.square(&raster(width, height, &pixels)).is_none());
        }
    }

    #[test]
    fn planes_are_the_same_on_any_number_of_threads() {
        let spec = spec(2, Resize::Stretch, Resample::Bicubic);
        let picture = |n: u8| Pixels { size: 2, rgb: (0..12).map(|place| place + n).collect() };
        let pictures: Vec<Pixels> = (0..23).map(picture).collect();
        let one = spec.planes(&pictures, 1, |value| value);
        let table = spec.normalisation();
        assert_eq!(one.len(), 23 * 12);
        // The second picture's green, last cell: byte 3 · 3 + 1 of it.
        let place = 12 + 4 + 3;
        assert!((one[place] - table[1][10 + 1]).abs() < 1e-9);
        for threads in [0, 2, 5, 64] {
            assert_eq!(spec.planes(&pictures, threads, |value| value), one, "{threads}");
        }
        assert_eq!(spec.planes(&[], 4, |value| value), [] as [f32; 0]);
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
