//! The benchmark's own pictures: soft shapes with grain, about as hard to decode as photos.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::codecs::jpeg::JpegEncoder;
use image::{ImageFormat, RgbImage, imageops};

use super::Answer;

/// Pictures of 0.3 to 1 megapixel, one in ten a PNG, the others JPEG of quality 85.
pub(super) fn small(folder: &Path, count: u32) -> Answer<PathBuf> {
    const SIZES: [(u32, u32); 5] = [(640, 480), (800, 600), (720, 960), (1024, 768), (1152, 864)];
    make(&folder.join(format!("small-{count}")), count, |seed| {
        let (width, height) = SIZES[seed as usize % SIZES.len()];
        let format = if seed % 10 == 9 { ImageFormat::Png } else { ImageFormat::Jpeg };
        (draw(seed, width, height), format)
    })
}

/// Pictures of 4000 × 3000, JPEG of quality 85.
pub(super) fn large(folder: &Path, count: u32) -> Answer<PathBuf> {
    make(&folder.join(format!("large-{count}")), count, |seed| {
        (draw(seed + 1_000_000, 4000, 3000), ImageFormat::Jpeg)
    })
}

/// Draws what is missing, on all cores; the pictures stay in the target folder.
fn make(
    folder: &Path,
    count: u32,
    draw: impl Fn(u32) -> (RgbImage, ImageFormat) + Sync,
) -> Answer<PathBuf> {
    fs::create_dir_all(folder)?;
    if fs::read_dir(folder)?.count() == count as usize {
        return Ok(folder.to_owned());
    }
    eprintln!("drawing {count} pictures into {} …", folder.display());
    let threads = u32::try_from(std::thread::available_parallelism()?.get())?;
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|worker| {
                let draw = &draw;
                scope.spawn(move || -> Result<(), String> {
                    for seed in (worker..count).step_by(threads as usize) {
                        let (picture, format) = draw(seed);
                        let bytes = encode(&picture, format).map_err(|error| error.to_string())?;
                        let name = format!("{seed:05}.{}", format.extensions_str()[0]);
                        fs::write(folder.join(name), bytes).map_err(|error| error.to_string())?;
                    }
                    Ok(())
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| {
            worker.join().unwrap_or_else(|_panic| Err("drawing panicked".to_owned()))
        })
    })?;
    Ok(folder.to_owned())
}

fn encode(picture: &RgbImage, format: ImageFormat) -> image::ImageResult<Vec<u8>> {
    let mut bytes = Cursor::new(Vec::new());
    match format {
        ImageFormat::Jpeg => {
            picture.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, 85))?;
        }
        other => picture.write_to(&mut bytes, other)?,
    }
    Ok(bytes.into_inner())
}

/// Three layers of random colours, coarse to fine, smoothed, with grain on top.
fn draw(seed: u32, width: u32, height: u32) -> RgbImage {
    let mut random = Random(u64::from(seed) * 0x9e37_79b9 + 1);
    let mut layer = |columns: u32, rows: u32| {
        let small = RgbImage::from_fn(columns, rows, |_, _| image::Rgb(random.colour()));
        imageops::resize(&small, width, height, imageops::FilterType::Triangle)
    };
    let layers = [(layer(5, 4), 4_u32), (layer(24, 18), 2), (layer(width / 12, height / 12), 1)];
    let mut grain = Random(u64::from(seed) + 7);
    RgbImage::from_fn(width, height, |x, y| {
        let noise = grain.next() % 9;
        let mix = |channel: usize| {
            let sum: u32 = layers
                .iter()
                .map(|(layer, weight)| u32::from(layer.get_pixel(x, y)[channel]) * weight)
                .sum();
            u8::try_from((sum / 7 + noise as u32).min(255)).unwrap_or(u8::MAX)
        };
        image::Rgb([mix(0), mix(1), mix(2)])
    })
}

/// Xorshift (Marsaglia 2003): the same pictures on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }

    fn colour(&mut self) -> [u8; 3] {
        let [red, green, blue, ..] = self.next().to_le_bytes();
        [red, green, blue]
    }
}
