//! The pixels of a picture: read, decoded in the cage, and as much of them as may be shown.

use std::path::PathBuf;

use image::imageops::{self, FilterType};
use image::{DynamicImage, RgbImage};

use crate::files;
use crate::moderation::{ItemId, Uploader};
use crate::tui::{NoPicture, Reveal};
use crate::vision::DecoderPool;

/// The item's bytes from the first path that has them.
pub(in crate::commands) fn bytes_of(
    paths: &[PathBuf],
    item: ItemId,
    limit: u64,
) -> Result<Vec<u8>, NoPicture> {
    let mut worst = NoPicture::Gone;
    for path in paths {
        match files::bytes_of(path, limit) {
            Ok(Some(bytes)) if ItemId::of_bytes(&bytes) == item => return Ok(bytes),
            Ok(Some(_)) => worst = NoPicture::Replaced,
            Ok(None) => {}
            Err(error) => worst = NoPicture::Unreadable(error.to_string()),
        }
    }
    Err(worst)
}

/// Whose decoder shows an item: its first path is where it was uploaded.
pub(in crate::commands) fn uploader_of(paths: &[PathBuf]) -> Uploader {
    paths.first().map_or(Uploader::Operator, |path| Uploader::near(path))
}

/// The picture, decoded in the cage, at most so many pixels wide and high.
pub(in crate::commands) fn decoded(
    decoders: &DecoderPool,
    bytes: &[u8],
    width: u32,
    height: u32,
    uploader: &Uploader,
) -> Result<RgbImage, NoPicture> {
    let shown = |what: &dyn std::fmt::Display| NoPicture::Undecodable(what.to_string());
    let decoded =
        decoders.preview(bytes, width, height, uploader).map_err(|error| shown(&error))?;
    decoded.map_err(|flaw| shown(&flaw))
}

/// As much of the picture as the step shows. What a step leaves out is not in the pixels.
pub(in crate::commands) fn revealed(picture: RgbImage, step: Reveal) -> RgbImage {
    let (width, height) = picture.dimensions();
    match step {
        // Never asked for; should it be, nothing is shown.
        Reveal::Hidden => RgbImage::new(width.min(8), height.min(8)),
        // Sixteen pixels along the longer side, grey, smoothed over a third of the room.
        Reveal::Tiny => {
            let few = shrunk(&picture, 16);
            smoothed(&grey(&few), (width / 3).max(1), (height / 3).max(1))
        }
        // Enough to tell a beach from a street, not a face from a face.
        Reveal::Blur => smoothed(&shrunk(&picture, 40), width, height),
        Reveal::Grey => grey(&picture),
        Reveal::Full => picture,
    }
}

fn grey(picture: &RgbImage) -> RgbImage {
    DynamicImage::ImageLuma8(imageops::grayscale(picture)).into_rgb8()
}

/// At most `pixels` along the longer side.
fn shrunk(picture: &RgbImage, pixels: u32) -> RgbImage {
    let (width, height) = picture.dimensions();
    let longer = width.max(height).max(1);
    if longer <= pixels {
        return picture.clone();
    }
    let part = |side: u32| (side * pixels / longer).max(1);
    imageops::resize(picture, part(width), part(height), FilterType::Triangle)
}

fn smoothed(picture: &RgbImage, width: u32, height: u32) -> RgbImage {
    imageops::resize(picture, width, height, FilterType::CatmullRom)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stripes two pixels wide, red and blue.
    fn stripes() -> RgbImage {
        RgbImage::from_fn(320, 160, |x, _| {
            if x / 2 % 2 == 0 { image::Rgb([255, 0, 0]) } else { image::Rgb([0, 0, 255]) }
        })
    }

    fn contrast(picture: &RgbImage) -> u8 {
        let row = picture.height() / 2;
        let middle = picture.width() / 4..picture.width() * 3 / 4;
        let reds = middle.map(|x| picture.get_pixel(x, row)[0]);
        let (low, high) = reds.fold((255, 0), |(l, h), red| (red.min(l), red.max(h)));
        high - low
    }

    fn is_grey(picture: &RgbImage) -> bool {
        picture.pixels().all(|pixel| pixel[0] == pixel[1] && pixel[1] == pixel[2])
    }

    #[test]
    fn every_step_shows_what_it_says_and_no_more() {
        let full = revealed(stripes(), Reveal::Full);
        assert_eq!((contrast(&full), is_grey(&full)), (255, false));
        let grey = revealed(stripes(), Reveal::Grey);
        assert!(is_grey(&grey) && contrast(&grey) > 20);
        assert_eq!(grey.dimensions(), (320, 160));
        let blur = revealed(stripes(), Reveal::Blur);
        assert!(!is_grey(&blur) && contrast(&blur) < 30, "{}", contrast(&blur));
        assert_eq!(blur.dimensions(), (320, 160));
        let tiny = revealed(stripes(), Reveal::Tiny);
        assert!(is_grey(&tiny) && contrast(&tiny) < 30, "{}", contrast(&tiny));
        assert!(tiny.width() < 120);
        let hidden = revealed(stripes(), Reveal::Hidden);
        assert!(hidden.pixels().all(|pixel| pixel.0 == [0, 0, 0]));
    }

    #[test]
    fn every_step_takes_every_size() {
        for (width, height) in [(1, 1), (1, 500), (500, 1), (16, 16), (41, 3)] {
            for step in Reveal::ALL {
                revealed(RgbImage::new(width, height), step);
            }
        }
    }

    #[test]
    fn only_the_items_own_bytes_are_shown() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = std::fs::canonicalize(dir.path()).expect("there");
        let [first, second, gone] = ["a.png", "b.png", "gone.png"].map(|name| path.join(name));
        std::fs::write(&first, b"other bytes").expect("written");
        std::fs::write(&second, b"its bytes").expect("written");
        let item = ItemId::of_bytes(b"its bytes");
        let bytes = |paths: &[&PathBuf]| {
            let paths: Vec<_> = paths.iter().map(|path| (*path).clone()).collect();
            bytes_of(&paths, item, 100)
        };
        assert_eq!(bytes(&[&gone, &first, &second]), Ok(b"its bytes".to_vec()));
        assert_eq!(bytes(&[&first]), Err(NoPicture::Replaced));
        assert_eq!(bytes(&[&gone]), Err(NoPicture::Gone));
        assert_eq!(bytes(&[&path]), Err(NoPicture::Gone), "a folder is not a file");
        let link = path.join("link.png");
        std::os::unix::fs::symlink(&second, &link).expect("linked");
        assert_eq!(bytes(&[&link]), Err(NoPicture::Gone), "links are not followed");
        std::fs::write(&first, vec![0; 101]).expect("written");
        assert!(matches!(bytes(&[&first]), Err(NoPicture::Unreadable(_))));
    }
}
