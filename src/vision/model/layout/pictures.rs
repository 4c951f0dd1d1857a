//! How pictures are prepared, as the image processors of transformers write it down.

use serde_json::Value;

use super::{AddError, Json};
use crate::vision::{ImageSpec, ModelKind, Resample, Resize};

/// Both styles: `"size": 224` of the older feature extractors, `"size": {"shortest_edge": 224}` of
/// the newer image processors.
pub(super) fn image_spec(
    kind: ModelKind,
    json: &Json,
    config: &Json,
) -> Result<ImageSpec, AddError> {
    let value = &json.value;
    for step in ["do_resize", "do_rescale"] {
        if !json.flag(step, true) {
            return Err(json.refused(step, "is false, but no model takes pictures as they are"));
        }
    }
    if json.flag("do_pad", false) {
        return Err(
            json.refused("do_pad", "is true; pictures are stretched or cropped, not padded")
        );
    }
    let factor = value["rescale_factor"].as_f64().unwrap_or(1.0 / 255.0);
    if (factor * 255.0 - 1.0).abs() > 1e-4 {
        return Err(json.refused("rescale_factor", format!("is {factor}, not 1/255")));
    }
    let resample = resample(json)?;
    let size = side(json, "size")?;
    let (resize, size, shortest_edge) = match size {
        Some(Side::Square(size)) => (Resize::Stretch, size, size),
        Some(Side::Number(size)) if !json.flag("do_center_crop", kind == ModelKind::Clip) => {
            (Resize::Stretch, size, size)
        }
        Some(Side::Number(edge) | Side::ShortestEdge(edge)) => {
            if !json.flag("do_center_crop", true) {
                return Err(json.refused(
                    "do_center_crop",
                    "is false, but a shorter side alone makes no square",
                ));
            }
            let crop = match side(json, "crop_size")? {
                None => edge,
                Some(Side::Number(size) | Side::Square(size) | Side::ShortestEdge(size)) => size,
            };
            if crop > edge {
                return Err(json.refused("crop_size", "is larger than size"));
            }
            (Resize::ShortestEdgeCrop, crop, edge)
        }
        None => {
            let size = config.value["vision_config"]["image_size"].as_u64();
            let size = size.and_then(|size| u32::try_from(size).ok());
            let size = size.ok_or_else(|| json.refused("size", "is missing"))?;
            let resize = match kind {
                ModelKind::Clip => Resize::ShortestEdgeCrop,
                ModelKind::Siglip | ModelKind::Siglip2 => Resize::Stretch,
            };
            (resize, size, size)
        }
    };
    let (mean, std) = if json.flag("do_normalize", true) {
        (three(json, "image_mean")?, three(json, "image_std")?)
    } else {
        ([0.0; 3], [1.0; 3])
    };
    Ok(ImageSpec { size, resize, shortest_edge, resample, mean, std })
}

/// A number of Pillow's, or its name in any spelling: `bicubic`, `PIL.Image.BICUBIC`,
/// `Resampling.BICUBIC`.
fn resample(json: &Json) -> Result<Resample, AddError> {
    let value = &json.value["resample"];
    let name = value
        .as_str()
        .map(|text| text.rsplit('.').next().unwrap_or_default().trim().to_ascii_lowercase());
    match (value.as_u64(), name.as_deref()) {
        // Without a word the image processors of all families are bicubic.
        _ if value.is_null() => Ok(Resample::Bicubic),
        (Some(3), _) | (_, Some("bicubic" | "3")) => Ok(Resample::Bicubic),
        (Some(2), _) | (_, Some("bilinear" | "2")) => Ok(Resample::Bilinear),
        _ => {
            Err(json
                .refused("resample", format!("is {value}; 2 (bilinear) and 3 (bicubic) are known")))
        }
    }
}

enum Side {
    /// `224`
    Number(u32),
    /// `{"height": 224, "width": 224}`
    Square(u32),
    /// `{"shortest_edge": 224}`
    ShortestEdge(u32),
}

fn side(json: &Json, field: &str) -> Result<Option<Side>, AddError> {
    let number = |value: &Value| {
        value.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| (1..=4096).contains(n))
    };
    let value = &json.value[field];
    if value.is_null() {
        return Ok(None);
    }
    if let Some(n) = number(value) {
        return Ok(Some(Side::Number(n)));
    }
    if let Some(n) = number(&value["shortest_edge"]) {
        return Ok(Some(Side::ShortestEdge(n)));
    }
    match (number(&value["height"]), number(&value["width"])) {
        (Some(height), Some(width)) if height == width => Ok(Some(Side::Square(height))),
        (Some(height), Some(width)) => {
            let problem = format!("is {width} × {height}; only squares are known");
            Err(json.refused(field, problem))
        }
        _ => Err(json.refused(field, format!("is {value}, which is no size"))),
    }
}

pub(super) fn three(json: &Json, field: &str) -> Result<[f32; 3], AddError> {
    let list: Vec<f32> = json.value[field]
        .as_array()
        .map(|list| list.iter().filter_map(number_of).collect())
        .unwrap_or_default();
    <[f32; 3]>::try_from(list).map_err(|_other| json.refused(field, "must be three numbers"))
}

#[expect(clippy::cast_possible_truncation, reason = "models compute in single precision")]
fn number_of(value: &Value) -> Option<f32> {
    value.as_f64().map(|number| number as f32)
}
