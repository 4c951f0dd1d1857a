//! Colours as a viewer sees them: a picture's own profile to sRGB.

use image::DynamicImage;
use moxcms::{
    ColorProfile, DataColorSpace, Layout, RenderingIntent, Transform8BitExecutor, TransformOptions,
};

/// Profiles beyond this many bytes are left alone; they hold tables for printers.
const LARGEST_PROFILE: usize = 4 << 20;

/// Converts the pixels in place. A profile that is broken, that is not about red, green and
/// blue, or that is sRGB anyway changes nothing.
pub(super) fn to_srgb(image: &mut DynamicImage, profile: &[u8]) {
    let (samples, layout) = match image {
        DynamicImage::ImageRgb8(rgb) => (rgb.as_flat_samples_mut().samples, Layout::Rgb),
        DynamicImage::ImageRgba8(rgba) => (rgba.as_flat_samples_mut().samples, Layout::Rgba),
        _ => return,
    };
    let channels = if layout == Layout::Rgb { 3 } else { 4 };
    let Some(transform) = transform(profile, layout) else { return };
    if leaves_colours_alone(transform.as_ref(), channels) {
        return;
    }
    // In blocks, so that a large picture needs no second copy of itself.
    let mut block = vec![0; 4096 * channels];
    for part in samples.chunks_mut(block.len()) {
        let answer = &mut block[..part.len()];
        if transform.transform(part, answer).is_err() {
            return;
        }
        part.copy_from_slice(answer);
    }
}

fn transform(profile: &[u8], layout: Layout) -> Option<std::sync::Arc<Transform8BitExecutor>> {
    if profile.len() > LARGEST_PROFILE {
        return None;
    }
    let source = ColorProfile::new_from_slice(profile).ok()?;
    if source.color_space != DataColorSpace::Rgb {
        return None;
    }
    let options = TransformOptions {
        rendering_intent: RenderingIntent::RelativeColorimetric,
        ..TransformOptions::default()
    };
    source.create_transform_8bit(layout, &ColorProfile::new_srgb(), layout, options).ok()
}

/// Whether a grid of 5³ colours comes out as it went in, give or take 2 of 255: then the
/// profile is sRGB, whatever its name.
fn leaves_colours_alone(transform: &Transform8BitExecutor, channels: usize) -> bool {
    let steps = [0, 64, 128, 191, 255];
    let colours: Vec<u8> = steps
        .into_iter()
        .flat_map(|red| steps.map(|green| (red, green)))
        .flat_map(|(red, green)| steps.map(|blue| [red, green, blue, 255]))
        .flat_map(|colour| colour.into_iter().take(channels))
        .collect();
    let mut answer = vec![0; colours.len()];
    transform.transform(&colours, &mut answer).is_ok()
        && colours.iter().zip(&answer).all(|(a, b)| a.abs_diff(*b) <= 2)
}
