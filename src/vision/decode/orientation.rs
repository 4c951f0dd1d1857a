//! Which side is up. Checked with Chromium and Pillow in 2026: both turn a PNG by an `eXIf` chunk before
//! its pixels; one behind them, or with the prefix `Exif\0\0`, turns it in Pillow alone, and so does any
//! orientation of a WebP.

use image::metadata::Orientation;

use super::colour::png_chunks;

/// How a picture is turned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn {
    /// What is shown to people here.
    pub(super) shown: Orientation,
    /// How some viewers show it, if they don't agree.
    pub(super) elsewhere: Option<Orientation>,
}

impl Turn {
    /// What all viewers agree about.
    pub(super) fn sure(shown: Orientation) -> Self {
        Self { shown, elsewhere: None }
    }
}

/// By the chunks of a PNG.
pub(super) fn of_png(bytes: &[u8]) -> Turn {
    let mut shown = None;
    let mut others = Vec::new();
    for chunk in png_chunks(bytes, &[*b"eXIf"]) {
        let plain = Orientation::from_exif_chunk(chunk.data());
        if shown.is_none() && chunk.is_taken() {
            shown = Some(plain.unwrap_or(Orientation::NoTransforms));
        }
        others.extend(plain.or_else(|| with_prefix(chunk.data())));
    }
    let shown = shown.unwrap_or(Orientation::NoTransforms);
    Turn { shown, elsewhere: others.into_iter().find(|other| *other != shown) }
}

/// By the `EXIF` chunk of a WebP.
pub(super) fn of_webp(exif: Option<&[u8]>) -> Turn {
    let found =
        exif.and_then(|exif| Orientation::from_exif_chunk(exif).or_else(|| with_prefix(exif)));
    match found {
        None | Some(Orientation::NoTransforms) => Turn::sure(Orientation::NoTransforms),
        Some(shown) => Turn { shown, elsewhere: Some(Orientation::NoTransforms) },
    }
}

/// As in a JPEG; some programs copy it from there.
fn with_prefix(exif: &[u8]) -> Option<Orientation> {
    Orientation::from_exif_chunk(exif.strip_prefix(b"Exif\0\0")?)
}
