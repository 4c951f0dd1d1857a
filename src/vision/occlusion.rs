//! Which parts of a picture matter to the model: parts are covered one after the other, and what
//! that costs is measured (occlusion sensitivity: Zeiler and Fergus 2014, section 4.2).
//!
//! It is approximate: parts that matter only together are not told apart, and what covers a part is
//! a picture too.

use image::{Rgb, RgbImage};

use super::{Encoder, Pixels, VisionError};
use crate::moderation::Embedding;

/// Cells along a side of the map.
pub const CELLS: u32 = 10;

/// Pictures that go to the model at once, on each of its lanes.
const BATCH: usize = 8;

/// How much each part of a picture speaks for something.
#[derive(Debug, Clone, PartialEq)]
pub struct Heatmap {
    /// [`CELLS`] · [`CELLS`] numbers, rows from the top: by how much the measure falls when the
    /// part is covered. Below 0: covering it makes it rise.
    pub drops: Vec<f32>,
}

/// Measures a picture and the same picture with each of its parts covered. `measure` turns an
/// embedding into what is to be explained; `go_on` is told how many of how many pictures went
/// through the model, and answers whether anyone still wants to know.
///
/// Each cover is two cells wide and high and lies half over the next one, and a cell's number is
/// the mean over the covers that hide it.
///
/// # Errors
/// Those of [`Encoder::embed_images`]. `None` when nobody wanted to know any more.
pub fn occlusion(
    encoder: &dyn Encoder,
    picture: &Pixels,
    measure: impl Fn(&Embedding) -> f64,
    mut go_on: impl FnMut(usize, usize) -> bool,
) -> Result<Option<Heatmap>, VisionError> {
    let whole = encoder.embed_images(std::slice::from_ref(picture))?;
    let whole: f64 = whole.first().map_or(0.0, &measure);
    let ground = mean_colour(picture);
    // A cover begins at each cell, and one before the first, so that every cell has four covers.
    let covers: Vec<(i64, i64)> = (-1..i64::from(CELLS))
        .flat_map(|row| (-1..i64::from(CELLS)).map(move |column| (row, column)))
        .collect();
    let cells = usize::try_from(CELLS * CELLS).unwrap_or(0);
    let (mut sums, mut done) = (vec![0.0; cells], 0);
    for part in covers.chunks(BATCH * encoder.lanes().max(1)) {
        let covered: Vec<Pixels> =
            part.iter().map(|(row, column)| cover(picture, *row, *column, ground)).collect();
        for ((row, column), embedding) in part.iter().zip(encoder.embed_images(&covered)?) {
            let drop = whole - measure(&embedding);
            for (row, column) in
                [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(down, right)| (row + down, column + right))
            {
                let side = i64::from(CELLS);
                if (0..side).contains(&row) && (0..side).contains(&column) {
                    sums[usize::try_from(row * side + column).unwrap_or(0)] += drop / 4.0;
                }
            }
        }
        done += part.len();
        if !go_on(done, covers.len()) {
            return Ok(None);
        }
    }
    #[expect(clippy::cast_possible_truncation, reason = "shown as colours")]
    let drops = sums.into_iter().map(|sum| sum as f32).collect();
    Ok(Some(Heatmap { drops }))
}

fn mean_colour(picture: &Pixels) -> [u8; 3] {
    let (pixels, _) = picture.rgb.as_chunks::<3>();
    let mean = |channel: usize| {
        let sum: u64 = pixels.iter().map(|pixel| u64::from(pixel[channel])).sum();
        u8::try_from(sum / (pixels.len() as u64).max(1)).unwrap_or(u8::MAX)
    };
    [mean(0), mean(1), mean(2)]
}

/// The picture with two by two cells under one colour.
fn cover(picture: &Pixels, row: i64, column: i64, colour: [u8; 3]) -> Pixels {
    let edge = |cell: i64| {
        let cell = u32::try_from(cell.clamp(0, CELLS.into())).unwrap_or(0);
        (cell * picture.size / CELLS) as usize
    };
    let mut covered = picture.clone();
    for y in edge(row)..edge(row + 2) {
        let start = y * picture.size as usize;
        let line = (start + edge(column)) * 3..(start + edge(column + 2)) * 3;
        covered.rgb[line].as_chunks_mut::<3>().0.fill(colour);
    }
    covered
}

impl Heatmap {
    /// The largest number, whichever way it points; 0 for a picture without parts that matter.
    pub fn strongest(&self) -> f32 {
        self.drops.iter().fold(0.0, |most, drop| most.max(drop.abs()))
    }

    /// The view with the map over it, as large as the view: red is what speaks for it, blue what
    /// speaks against it, the strongest part in full colour.
    pub fn over(&self, view: &RgbImage) -> RgbImage {
        let strongest = self.strongest().max(f32::MIN_POSITIVE);
        let (width, height) = view.dimensions();
        RgbImage::from_fn(width, height, |x, y| {
            let heat = self.at(place(x, width), place(y, height)) / strongest;
            tinted(*view.get_pixel(x, y), heat)
        })
    }

    /// Between the middles of cells, bilinearly; `x` and `y` in cells.
    fn at(&self, x: f32, y: f32) -> f32 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cell")]
        let cell = |at: f32| (at.max(0.0) as usize).min(CELLS as usize - 1);
        let (left, top) = (cell(x.floor()), cell(y.floor()));
        let (right, bottom) = (cell(x.floor() + 1.0), cell(y.floor() + 1.0));
        let (along, down) = ((x - x.floor()).clamp(0.0, 1.0), (y - y.floor()).clamp(0.0, 1.0));
        let drop = |row: usize, column: usize| self.drops[row * CELLS as usize + column];
        let upper = drop(top, left) * (1.0 - along) + drop(top, right) * along;
        let lower = drop(bottom, left) * (1.0 - along) + drop(bottom, right) * along;
        upper * (1.0 - down) + lower * down
    }
}

/// A pixel's place among the middles of cells.
#[expect(clippy::cast_precision_loss, reason = "a place on a screen")]
fn place(pixel: u32, pixels: u32) -> f32 {
    (pixel as f32 + 0.5) / pixels.max(1) as f32 * CELLS as f32 - 0.5
}

/// `heat` from −1 to 1. The picture stays to be seen, in pale colours.
fn tinted(pixel: Rgb<u8>, heat: f32) -> Rgb<u8> {
    let [red, green, blue] = pixel.0.map(f32::from);
    let grey = 0.299 * red + 0.587 * green + 0.114 * blue;
    let colour = if heat >= 0.0 { [255.0, 30.0, 0.0] } else { [0.0, 80.0, 255.0] };
    let much = 0.7 * heat.abs().min(1.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 255")]
    let mixed = |own: f32, colour: f32| {
        let pale = 0.4 * own + 0.6 * grey;
        (pale * (1.0 - much) + colour * much).clamp(0.0, 255.0) as u8
    };
    Rgb([mixed(red, colour[0]), mixed(green, colour[1]), mixed(blue, colour[2])])
}

/// A view as a picture, enlarged to at least so many pixels a side.
pub fn as_picture(view: &Pixels, at_least: u32) -> Option<RgbImage> {
    let image = RgbImage::from_raw(view.size, view.size, view.rgb.clone())?;
    let side = view.size.max(at_least);
    Some(image::imageops::resize(&image, side, side, image::imageops::FilterType::Triangle))
}

/// A picture as the bytes of a PNG file.
///
/// # Errors
/// When the encoder fails; it writes to memory.
pub fn png(picture: &RgbImage) -> Result<Vec<u8>, image::ImageError> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, image::ImageFormat::Png)?;
    Ok(bytes.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moderation::{Fingerprint, LogitScale};
    use crate::vision::{ImageSpec, ModelCard, ModelKind, Resample, Resize};

    /// Sees nothing but how red the upper left quarter is.
    struct RedCorner(ModelCard);

    impl Encoder for RedCorner {
        fn model(&self) -> &ModelCard {
            &self.0
        }

        fn lanes(&self) -> usize {
            1
        }

        fn open_for_pictures(&self) -> Result<(), VisionError> {
            Ok(())
        }

        fn embed_images(&self, pictures: &[Pixels]) -> Result<Vec<Embedding>, VisionError> {
            let seen = |picture: &Pixels| {
                let half = picture.size as usize / 2;
                let corner = picture.rgb.chunks(picture.size as usize * 3).take(half);
                let reds = corner.flat_map(|row| row.chunks(3).take(half).map(|pixel| pixel[0]));
                let red = reds.map(f32::from).sum::<f32>() / 255.0;
                Embedding::normalised(vec![red, 100.0]).expect("has a direction")
            };
            Ok(pictures.iter().map(seen).collect())
        }

        fn embed_texts(&self, _: &[String]) -> Result<Vec<Embedding>, VisionError> {
            Ok(Vec::new())
        }

        fn count_tokens(&self, _: &str) -> Result<usize, VisionError> {
            Ok(0)
        }

        fn readability(&self, _: &str) -> Result<crate::vision::Readability, VisionError> {
            Ok(crate::vision::Readability::Whole)
        }
    }

    fn red_corner() -> RedCorner {
        RedCorner(ModelCard {
            name: "corner".to_owned(),
            kind: ModelKind::Clip,
            fingerprint: Fingerprint("c".repeat(64)),
            logit_scale: LogitScale { scale: 1.0, bias: 0.0 },
            embedding_dim: 2,
            image: ImageSpec {
                size: 40,
                resize: Resize::Stretch,
                resample: Resample::Bilinear,
                shortest_edge: 40,
                mean: [0.0; 3],
                std: [1.0; 3],
            },
            context_length: 8,
            licence: None,
            source: None,
        })
    }

    #[test]
    fn the_part_that_the_model_looks_at_is_found() {
        let pixels = RgbImage::from_fn(40, 40, |x, y| {
            if x < 20 && y < 20 { Rgb([255, 0, 0]) } else { Rgb([0, 0, 255]) }
        });
        let picture = Pixels { size: 40, rgb: pixels.into_raw() };
        let red = |embedding: &Embedding| f64::from(embedding.as_slice()[0]);
        let mut told = Vec::new();
        let found = occlusion(&red_corner(), &picture, red, |done, of| {
            told.push((done, of));
            true
        });
        let map = found.expect("runs").expect("was wanted");
        assert_eq!(told.last(), Some(&(121, 121)));
        let drop = |row: usize, column: usize| map.drops[row * 10 + column];
        assert!(drop(1, 1) > 1e-3 && drop(3, 3) > 1e-3, "{:?}", map.drops);
        for (row, column) in [(6, 6), (1, 7), (9, 0)] {
            assert!(drop(row, column).abs() < 1e-6, "{row} {column}: {}", drop(row, column));
        }
        let called_off = occlusion(&red_corner(), &picture, red, |_, _| false);
        assert_eq!(called_off.expect("runs"), None);
    }

    #[test]
    fn covers_lie_over_two_by_two_cells_and_end_at_the_border() {
        let picture = Pixels { size: 40, rgb: vec![9; 40 * 40 * 3] };
        let count = |row, column| {
            let covered = cover(&picture, row, column, [1, 2, 3]);
            covered.rgb.as_chunks::<3>().0.iter().filter(|pixel| **pixel == [1, 2, 3]).count()
        };
        assert_eq!((count(0, 0), count(4, 7)), (64, 64));
        assert_eq!((count(-1, -1), count(9, 3), count(9, 9)), (16, 32, 16));
    }

    #[test]
    fn what_matters_is_red_and_what_speaks_against_it_blue() {
        let mut drops = vec![0.0; 100];
        (drops[22], drops[77]) = (2.0, -2.0);
        let heatmap = Heatmap { drops };
        let shown = heatmap.over(&RgbImage::from_pixel(100, 100, Rgb([100, 100, 100])));
        let [hot, cold, other] =
            [(25, 25), (75, 75), (75, 25)].map(|(x, y)| shown.get_pixel(x, y).0);
        assert!(hot[0] > 190 && hot[2] < 60, "{hot:?}");
        assert!(cold[2] > 190 && cold[0] < 60, "{cold:?}");
        assert_eq!(other, [100, 100, 100]);
        assert!((heatmap.strongest() - 2.0).abs() < 1e-6);
        let flat = Heatmap { drops: vec![0.0; 100] };
        let shown = flat.over(&RgbImage::from_pixel(7, 3, Rgb([200, 10, 10])));
        assert_eq!(shown.dimensions(), (7, 3));
        assert!(png(&shown).expect("encodes").starts_with(b"\x89PNG"));
    }
}
