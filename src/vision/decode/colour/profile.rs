//! Readings out of ICC profiles, and out of curves and primaries.

use std::sync::Arc;

use moxcms::{
    ColorProfile, DataColorSpace, Layout, ParsingOptions, RenderingIntent, ToneReprCurve,
    Transform8BitExecutor, TransformOptions,
};

use super::{Colours, Reading};

/// Bytes of a profile that is read. Browsers read larger ones; such a file is for a person.
pub(super) const LARGEST_PROFILE: usize = 32 << 20;

/// What a profile of a JPEG or WebP says.
pub(in crate::vision::decode) fn of_profile(profile: Option<&[u8]>, grey: bool) -> Colours {
    let Some(profile) = profile else { return Colours::stored() };
    match readings(profile, grey) {
        Ok(readings) => Colours::from_readings(readings, false),
        Err(Unreadable) => Colours::from_readings(Vec::new(), true),
    }
}

/// A profile that can't be used here.
#[derive(Debug)]
pub(super) struct Unreadable;

/// What viewers may make of a profile, browsers first. Empty when it describes colours that the
/// picture does not have: nobody can use it.
pub(super) fn readings(profile: &[u8], grey: bool) -> Result<Vec<Reading>, Unreadable> {
    let options = ParsingOptions {
        max_profile_size: LARGEST_PROFILE,
        max_allowed_clut_size: LARGEST_PROFILE,
        max_allowed_trc_size: LARGEST_PROFILE,
    };
    let profile =
        ColorProfile::new_from_slice_with_options(profile, options).ok().ok_or(Unreadable)?;
    match profile.color_space {
        DataColorSpace::Gray if grey => Ok(vec![of_grey(&profile)?]),
        // Browsers ignore it; others put every channel through the curve.
        DataColorSpace::Gray => Ok(vec![Reading::Stored, of_grey(&profile)?]),
        DataColorSpace::Rgb => of_colours(&profile),
        _ => Ok(Vec::new()),
    }
}

/// Red, green and blue: through tables, or through curves and a matrix. A profile that has both,
/// or two tables, may be read in more ways than one.
fn of_colours(profile: &ColorProfile) -> Result<Vec<Reading>, Unreadable> {
    let mut readings = Vec::new();
    let tables = |profile: &ColorProfile| {
        [&profile.lut_a_to_b_perceptual, &profile.lut_a_to_b_colorimetric]
            .into_iter()
            .any(Option::is_some)
            || profile.lut_a_to_b_saturation.is_some()
    };
    if tables(profile) {
        for intent in [RenderingIntent::Perceptual, RenderingIntent::RelativeColorimetric] {
            readings.extend(transform(profile, Layout::Rgb, intent).map(Reading::Profile));
        }
    }
    let mut plain = profile.clone();
    plain.lut_a_to_b_perceptual = None;
    plain.lut_a_to_b_colorimetric = None;
    plain.lut_a_to_b_saturation = None;
    // What it says of itself in the codes of video may contradict its curves.
    if plain.cicp.is_some() {
        readings.extend(of_matrix(&plain));
        plain.cicp = None;
    }
    readings.extend(of_matrix(&plain));
    if readings.is_empty() { Err(Unreadable) } else { Ok(readings) }
}

/// Of a profile of curves and a matrix.
pub(super) fn of_matrix(profile: &ColorProfile) -> Option<Reading> {
    let colorants = [profile.red_colorant, profile.green_colorant, profile.blue_colorant];
    if colorants.iter().any(|c| !(c.x.is_finite() && c.y.is_finite() && c.z.is_finite())) {
        return None;
    }
    let transform = transform(profile, Layout::Rgb, RenderingIntent::RelativeColorimetric)?;
    let stored = leaves_colours_alone(transform.as_ref());
    Some(if stored { Reading::Stored } else { Reading::Profile(transform) })
}

fn of_grey(profile: &ColorProfile) -> Result<Reading, Unreadable> {
    let transform = transform(profile, Layout::Gray, RenderingIntent::RelativeColorimetric)
        .ok_or(Unreadable)?;
    let ramp: Vec<u8> = (0..=255).collect();
    let mut answer = vec![0; 256 * 3];
    transform.transform(&ramp, &mut answer).ok().ok_or(Unreadable)?;
    let mut curve = [0; 256];
    for (value, rgb) in curve.iter_mut().zip(answer.as_chunks::<3>().0) {
        *value = rgb[0];
    }
    let same = curve.iter().zip(0_u8..=255).all(|(value, stored)| value.abs_diff(stored) <= 2);
    Ok(if same { Reading::Stored } else { Reading::Curve(Arc::new(curve)) })
}

fn transform(
    profile: &ColorProfile,
    layout: Layout,
    rendering_intent: RenderingIntent,
) -> Option<Arc<Transform8BitExecutor>> {
    let options = TransformOptions { rendering_intent, ..TransformOptions::default() };
    profile.create_transform_8bit(layout, &ColorProfile::new_srgb(), Layout::Rgb, options).ok()
}

/// sRGB with other curves: stored values 0 to 1 at equal steps, to light of 0 to 1.
pub(super) fn with_curve(light: impl Fn(f64) -> f64) -> ColorProfile {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "from 0 to 65,535 by the clamp"
    )]
    let step =
        |value: u16| (light(f64::from(value) / 255.0).clamp(0.0, 1.0) * 65_535.0).round() as u16;
    let curve = ToneReprCurve::Lut((0..256).map(step).collect());
    let mut profile = ColorProfile::new_srgb();
    profile.cicp = None;
    profile.red_trc = Some(curve.clone());
    profile.green_trc = Some(curve.clone());
    profile.blue_trc = Some(curve);
    profile
}

/// Whether every grey, every red, green and blue and a grid of 5³ colours come out as they went in,
/// give or take 2 of 255: then curves and matrix are those of sRGB, whatever the profile's name.
/// Every step of each curve is tried, as a few of them could hide a picture.
fn leaves_colours_alone(transform: &Transform8BitExecutor) -> bool {
    let ramps = (0..=255).flat_map(|v| [[v, v, v], [v, 0, 0], [0, v, 0], [0, 0, v]]);
    let steps = [0, 64, 128, 191, 255];
    let grid = steps
        .into_iter()
        .flat_map(|red| steps.map(|green| (red, green)))
        .flat_map(|(red, green)| steps.map(|blue| [red, green, blue]));
    let colours: Vec<u8> = ramps.chain(grid).flatten().collect();
    let mut answer = vec![0; colours.len()];
    transform.transform(&colours, &mut answer).is_ok()
        && colours.iter().zip(&answer).all(|(a, b)| a.abs_diff(*b) <= 2)
}
