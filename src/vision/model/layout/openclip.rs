//! OpenCLIP exports with a folder for each tower, as Immich publishes them: `config.json` is
//! OpenCLIP's own, `visual/` holds the image tower and `preprocess_cfg.json`, `textual/` the text
//! tower and the tokenizer. The networks call their one input and output as they like and are
//! often made for one item at a time.

use std::path::Path;

use super::{
    AddError, Draft, Json, LayoutOptions, Network, no_networks, one_dimension, scale, stored_scale,
    suffixes, text_reader, three, tokenizer_at,
};
use crate::vision::model::TensorNames;
use crate::vision::tokenize::{Canonicalize, TextSpec};
use crate::vision::{ImageSpec, ModelKind, Resample, Resize};

/// How pictures are prepared.
pub(in crate::vision::model) const PICTURES_FILE: &str = "visual/preprocess_cfg.json";
/// The tokenizer.
pub(in crate::vision::model) const TOKENIZER: &str = "textual/tokenizer.json";
/// Names the token that fills up a short text.
pub(in crate::vision::model) const TOKENIZER_CONFIG: &str = "textual/tokenizer_config.json";
/// The networks, without a variant and `.onnx`.
pub(in crate::vision::model) const STEMS: [&str; 2] = ["visual/model", "textual/model"];

/// OpenCLIP's training pads with it when nothing else is said.
const CLIP_PADDING: &str = "<|endoftext|>";
/// OpenCLIP's default (`CLIPTextCfg.context_length`).
const CONTEXT_LENGTH: u64 = 77;

/// Whether a `config.json` is OpenCLIP's.
pub(super) fn is_it(config: &Json) -> bool {
    config.value["text_cfg"].is_object() && config.value["model_type"].is_null()
}

/// Reads a folder.
///
/// # Errors
/// As [`super::read`].
pub(super) fn read(
    folder: &Path,
    config: &Json,
    options: &LayoutOptions,
) -> Result<Draft, AddError> {
    // Only models trained with a sigmoid have a bias to begin with.
    let sigmoid = config.value["init_logit_bias"].is_number();
    let kind = if sigmoid { ModelKind::Siglip } else { ModelKind::Clip };
    let image = image_spec(&Json::read(folder, PICTURES_FILE)?)?;
    let tokenizer = tokenizer_at(folder, TOKENIZER)?;
    let text = text_spec(folder, config, &tokenizer)?;
    let [image_network, text_network] = networks(folder, options.variant.as_deref())?;
    let (image_input, image_output) = ends(&image_network)?;
    let (text_input, text_output) = ends(&text_network)?;
    image_network.takes_pictures_of(&image_input, image.size, PICTURES_FILE)?;
    let written = config.value["embed_dim"].as_u64();
    let embedding_dim =
        one_dimension((&image_network, &image_output), (&text_network, &text_output), written)?
            .ok_or_else(|| config.refused("embed_dim", "is no number of dimensions"))?;
    let mut warnings = Vec::new();
    let scale = scale(kind, stored_scale(folder)?, options, &mut warnings)?;
    let tensors = TensorNames {
        image_input: Some(image_input),
        text_input: Some(text_input),
        mask_input: None,
        image_output: Some(image_output),
        text_output: Some(text_output),
    };
    Ok(Draft {
        kind,
        embedding_dim,
        image,
        text,
        tokenizer,
        scale,
        image_network,
        text_network,
        tensors,
        warnings,
    })
}

/// `PreprocessCfg` of OpenCLIP.
fn image_spec(json: &Json) -> Result<ImageSpec, AddError> {
    let value = &json.value;
    let size = match &value["size"] {
        list if list.is_array() && list[0] == list[1] => &list[0],
        other => other,
    };
    let size = size.as_u64().and_then(|size| u32::try_from(size).ok());
    let size = size.filter(|size| (1..=4096).contains(size)).ok_or_else(|| {
        json.refused("size", format!("is {}; only squares are known", value["size"]))
    })?;
    let resample = match value["interpolation"].as_str() {
        None | Some("bicubic") => Resample::Bicubic,
        Some("bilinear") => Resample::Bilinear,
        Some(other) => {
            let problem = format!("is {other:?}; bicubic and bilinear are known");
            return Err(json.refused("interpolation", problem));
        }
    };
    let resize = match value["resize_mode"].as_str() {
        None | Some("shortest") => Resize::ShortestEdgeCrop,
        Some("squash") => Resize::Stretch,
        Some(other) => {
            let problem = format!("is {other:?}; shortest and squash are known");
            return Err(json.refused("resize_mode", problem));
        }
    };
    let (mean, std) = (three(json, "mean")?, three(json, "std")?);
    Ok(ImageSpec { size, resize, shortest_edge: size, resample, mean, std })
}

fn text_spec(folder: &Path, config: &Json, tokenizer: &Path) -> Result<TextSpec, AddError> {
    let about = &config.value["text_cfg"];
    let length = about["context_length"].as_u64().unwrap_or(CONTEXT_LENGTH);
    let context_length = usize::try_from(length).ok().filter(|n| (1..=4096).contains(n));
    let context_length = context_length
        .ok_or_else(|| config.refused("text_cfg.context_length", format!("is {length}")))?;
    let canonicalize = match about["tokenizer_kwargs"]["clean"].as_str() {
        Some("canonicalize") => Canonicalize::LowerNoAsciiPunctuation,
        // What else there is to do, the tokenizer does by itself.
        _ => Canonicalize::None,
    };
    let mut spec = TextSpec { context_length, pad_id: 0, canonicalize };
    let reader = text_reader(spec, tokenizer)?;
    let padding = padding_token(folder)?;
    spec.pad_id = reader.token_id(&padding).ok_or_else(|| AddError::Field {
        path: tokenizer.to_owned(),
        field: padding,
        problem: "is no token of this tokenizer, but texts are filled up with it".to_owned(),
    })?;
    Ok(spec)
}

/// A plain text, or an object with the text in it.
fn padding_token(folder: &Path) -> Result<String, AddError> {
    if !folder.join(TOKENIZER_CONFIG).is_file() {
        return Ok(CLIP_PADDING.to_owned());
    }
    let about = Json::read(folder, TOKENIZER_CONFIG)?;
    let token = &about.value["pad_token"];
    let token = token.as_str().or_else(|| token["content"].as_str());
    Ok(token.unwrap_or(CLIP_PADDING).to_owned())
}

fn networks(folder: &Path, variant: Option<&str>) -> Result<[Network; 2], AddError> {
    for suffix in suffixes(variant) {
        let [image, text] = STEMS.map(|stem| folder.join(format!("{stem}{suffix}.onnx")));
        let missing = match (image.is_file(), text.is_file()) {
            (true, true) => {
                return Ok([Network::read(&image, None)?, Network::read(&text, None)?]);
            }
            (false, false) if variant.is_some() => continue,
            (true, false) => text,
            (false, _) => image,
        };
        let hint = "it holds one of the two networks; fetch it from the model's repository";
        return Err(AddError::Missing { path: missing, hint });
    }
    Err(no_networks(folder, &[folder.join("visual")], variant))
}

/// The one input and the one output.
fn ends(network: &Network) -> Result<(String, String), AddError> {
    let only = |what, tensors: &[super::onnx::Tensor]| match tensors {
        [one] => Ok(one.name.clone()),
        several => {
            let names: Vec<_> = several.iter().map(|tensor| tensor.name.as_str()).collect();
            Err(network.misfit(format!("has several {what} ({}), not one", names.join(", "))))
        }
    };
    Ok((only("inputs", &network.about.inputs)?, only("outputs", &network.about.outputs)?))
}
