//! From a decoded picture to the squares that a model sees, in all the ways in which viewers show it.

use image::DynamicImage;

use super::{Flaw, Still, shapes};
use crate::moderation::{Doubt, Doubts, PerceptualHash};
use crate::vision::perceptual;
use crate::vision::preprocess::{ImageSpec, Pixels, Raster, Resample, Resize, Window, resampled};

/// The most views of a file: as long as they take a model, other people's pictures wait. An animation has
/// at most 43 frames that are looked at, with `limits.frames` as it is. What would have more views (an
/// animated strip, or one that lets the background through) is not judged in full, and a person looks.
pub(crate) const MOST_VIEWS: u32 = 100;

/// The views of a file, filling up.
pub(super) struct ViewList<'a> {
    spec: &'a ImageSpec,
    /// No two are the same.
    pub(super) views: Vec<Pixels>,
    /// Whether a pixel that was looked at lets the background through.
    pub(super) has_alpha: bool,
    /// Of the first picture.
    pub(super) hash: Option<PerceptualHash>,
    pub(super) doubts: Doubts,
}

impl<'a> ViewList<'a> {
    /// An empty one, of a file about which there are these doubts already.
    pub(super) fn new(spec: &'a ImageSpec, doubts: Doubts) -> Self {
        Self { spec, views: Vec::new(), has_alpha: false, hash: None, doubts }
    }

    /// Adds what [`ViewList::looks`] makes of a picture.
    pub(super) fn hang(&mut self, still: Still) -> Result<(), Flaw> {
        self.looks(still)?.into_iter().for_each(|rgb| self.add(rgb));
        Ok(())
    }

    /// The squares of a picture in all the ways in which viewers show it.
    pub(super) fn looks(&mut self, still: Still) -> Result<Vec<Vec<u8>>, Flaw> {
        let looks = looks(still);
        self.doubts.extend(looks.doubts);
        let mut squares = self.squares(looks.shown)?;
        for other in looks.others {
            squares.extend(self.squares(other)?);
        }
        Ok(squares)
    }

    /// The views of a picture: the whole, and parts of it where the whole hides some; each twice when
    /// something shines through.
    fn squares(&mut self, mut image: DynamicImage) -> Result<Vec<Vec<u8>>, Flaw> {
        let (width, height) = (image.width(), image.height());
        let (spec, first, doubts) = (self.spec, &mut self.hash, &mut self.doubts);
        let mut squares = |channels, pixels: &[u8]| {
            let source = Raster { width, height, channels, pixels };
            if first.is_none() {
                *first = perceptual::hash(&source);
            }
            let mut squares = vec![spec.square(&source).ok_or(Flaw::NoPixels)?];
            let parts = parts_of(spec, &source, &squares[0]).ok_or(Flaw::NoPixels)?;
            if parts.incomplete {
                doubts.insert(Doubt::Parts);
            }
            for part in parts.parts {
                squares.push(spec.square_of(&source, part).ok_or(Flaw::NoPixels)?);
            }
            Ok(squares)
        };
        let DynamicImage::ImageRgba8(rgba) = &mut image else {
            return squares(3, &image.into_rgb8());
        };
        let transparent = rgba.pixels().any(|pixel| pixel.0[3] < 255);
        if transparent {
            premultiply(rgba.as_flat_samples_mut().samples);
        }
        // Resizing and laying over a background are both linear, so the large picture is resized
        // once and the small one is laid over both.
        let small = squares(4, rgba)?;
        let mut squares: Vec<_> = small.iter().map(|small| over(small, 255)).collect();
        if transparent {
            self.has_alpha = true;
            squares.extend(small.iter().map(|small| over(small, 0)));
        }
        Ok(squares)
    }

    pub(super) fn add(&mut self, rgb: Vec<u8>) {
        let view = Pixels { size: self.spec.size, rgb };
        if self.views.contains(&view) {
            return;
        }
        if self.views.len() < MOST_VIEWS as usize {
            self.views.push(view);
        } else {
            self.doubts.insert(Doubt::Parts);
        }
    }
}

/// Which parts are to be views besides the whole, whose square is at hand.
fn parts_of(spec: &ImageSpec, source: &Raster, square: &[u8]) -> Option<shapes::Parts> {
    let Raster { width, height, channels, .. } = *source;
    let grid = |side: u32, cells: &[u8]| {
        let grid = shapes::Grid { side: side as usize, channels, cells };
        shapes::parts(spec, width, height, grid)
    };
    if spec.resize == Resize::Stretch {
        return Some(grid(spec.size, square));
    }
    // The square shows the middle alone.
    let whole = Window::whole(width, height);
    let small = resampled(source, whole, (GRID, GRID), Resample::Bilinear)?;
    Some(grid(GRID, &small))
}

/// Cells a side of the grid in which borders are looked for.
const GRID: u32 = 96;

/// Multiplies red, green and blue by alpha / 255, rounded.
pub(super) fn premultiply(rgba: &mut [u8]) {
    for pixel in rgba.as_chunks_mut::<4>().0 {
        let alpha = u32::from(pixel[3]);
        for value in &mut pixel[..3] {
            let product = u32::from(*value) * alpha + 127;
            *value = u8::try_from(product / 255).unwrap_or(u8::MAX);
        }
    }
}

/// Premultiplied pixels over a grey background, without alpha.
pub(super) fn over(rgba: &[u8], background: u8) -> Vec<u8> {
    let pixels = rgba.as_chunks::<4>().0;
    pixels
        .iter()
        .flat_map(|&[red, green, blue, alpha]| {
            let behind = u32::from(background) * u32::from(255 - alpha) / 255;
            let behind = u8::try_from(behind).unwrap_or(u8::MAX);
            [red, green, blue].map(|value| value.saturating_add(behind))
        })
        .collect()
}

/// 8 bits, red, green, blue and perhaps alpha, turned and in sRGB: as browsers show it.
pub(super) fn shown(still: Still) -> DynamicImage {
    let mut image = eight_bits(still.image);
    still.colours.show(&mut image);
    image.apply_orientation(still.turn.shown);
    image
}

/// A picture in all the ways in which viewers show it; see [`ViewList::looks`].
struct Looks {
    /// As [`shown`].
    shown: DynamicImage,
    /// In other colours, or turned otherwise.
    others: Vec<DynamicImage>,
    /// What it is not judged for.
    doubts: Doubts,
}

fn looks(still: Still) -> Looks {
    let mut image = eight_bits(still.image);
    let (stored, doubt) = still.colours.apply(&mut image);
    let mut others = Vec::new();
    if let Some(mut stored) = stored {
        stored.apply_orientation(still.turn.shown);
        others.push(stored);
    }
    if let Some(orientation) = still.turn.elsewhere {
        let mut turned = image.clone();
        turned.apply_orientation(orientation);
        others.push(turned);
    }
    image.apply_orientation(still.turn.shown);
    Looks { shown: image, others, doubts: doubt.into_iter().collect() }
}

fn eight_bits(image: DynamicImage) -> DynamicImage {
    match image {
        image @ (DynamicImage::ImageRgb8(_) | DynamicImage::ImageRgba8(_)) => image,
        image if image.color().has_alpha() => DynamicImage::ImageRgba8(image.into_rgba8()),
        image => DynamicImage::ImageRgb8(image.into_rgb8()),
    }
}
