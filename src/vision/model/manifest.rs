//! `model.yaml`: the one description that rules at run time, whatever family a model is of.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{Model, ModelFiles, TOKENIZER_FILE, TensorNames, hex};
use crate::moderation::{Fingerprint, LogitScale};
use crate::vision::tokenize::{Canonicalize, TextSpec};
use crate::vision::{ImageSpec, ModelCard, ModelKind, Resample, Resize, Tower, VisionError};

/// A description that was read and makes sense.
#[derive(Debug)]
pub(super) struct Manifest {
    pub(super) card: ModelCard,
    text: TextSpec,
    tensors: TensorNames,
    /// SHA-256 (lower-case hexadecimal) by file name.
    pub(super) files: BTreeMap<String, String>,
}

impl Manifest {
    /// `path` is only for messages.
    pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Self, VisionError> {
        let written: Written = serde_yaml::from_slice(bytes).map_err(|source| {
            VisionError::Manifest { path: path.to_owned(), source: Box::new(source) }
        })?;
        written.check(path)?;
        let files = checked_files(path, &written.files)?;
        let image = ImageSpec {
            size: written.image.size,
            resize: written.image.resize.into(),
            shortest_edge: written.image.shortest_edge.unwrap_or(written.image.size),
            resample: written.image.resample.into(),
            mean: written.image.mean,
            std: written.image.std,
        };
        let card = ModelCard {
            name: written.name,
            kind: written.kind.into(),
            fingerprint: Fingerprint(hex(&Sha256::digest(bytes))),
            logit_scale: LogitScale { scale: written.logit_scale, bias: written.logit_bias },
            embedding_dim: written.embedding_dim,
            image,
            context_length: written.text.context_length,
            licence: written.licence,
            source: written.source,
        };
        let text = TextSpec {
            context_length: written.text.context_length,
            pad_id: written.text.pad_id,
            canonicalize: written.text.canonicalize.into(),
        };
        let tensors = TensorNames {
            image_input: written.inputs.pixel_values,
            text_input: written.inputs.input_ids,
            mask_input: written.inputs.attention_mask,
            image_output: written.outputs.image_embeds,
            text_output: written.outputs.text_embeds,
        };
        Ok(Self { card, text, tensors, files })
    }

    pub(super) fn into_model(self, files: ModelFiles) -> Model {
        Model { card: self.card, text: self.text, tensors: self.tensors, files }
    }
}

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    kind: Kind,
    embedding_dim: usize,
    image: WrittenImage,
    text: WrittenText,
    logit_scale: f32,
    #[serde(default)]
    logit_bias: f32,
    files: BTreeMap<String, String>,
    /// Where the model came from; for people.
    #[serde(default)]
    source: Option<String>,
    #[serde(default)]
    licence: Option<String>,
    #[serde(default)]
    inputs: WrittenInputs,
    #[serde(default)]
    outputs: WrittenOutputs,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenImage {
    size: u32,
    resize: WrittenResize,
    #[serde(default)]
    shortest_edge: Option<u32>,
    resample: WrittenResample,
    mean: [f32; 3],
    std: [f32; 3],
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenText {
    context_length: usize,
    pad_id: u32,
    canonicalize: WrittenCanonicalize,
}

/// Names of the networks' inputs where they differ from the usual ones.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenInputs {
    #[serde(default)]
    pixel_values: Option<String>,
    #[serde(default)]
    input_ids: Option<String>,
    #[serde(default)]
    attention_mask: Option<String>,
}

/// Names of the networks' outputs where they differ from the usual ones.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenOutputs {
    #[serde(default)]
    image_embeds: Option<String>,
    #[serde(default)]
    text_embeds: Option<String>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Clip,
    Siglip,
    Siglip2,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WrittenResize {
    Stretch,
    ShortestEdgeCrop,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WrittenResample {
    Bicubic,
    Bilinear,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WrittenCanonicalize {
    None,
    Lower,
    LowerNoAsciiPunctuation,
}

impl From<Kind> for ModelKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Clip => Self::Clip,
            Kind::Siglip => Self::Siglip,
            Kind::Siglip2 => Self::Siglip2,
        }
    }
}

impl From<WrittenResize> for Resize {
    fn from(resize: WrittenResize) -> Self {
        match resize {
            WrittenResize::Stretch => Self::Stretch,
            WrittenResize::ShortestEdgeCrop => Self::ShortestEdgeCrop,
        }
    }
}

impl From<WrittenResample> for Resample {
    fn from(resample: WrittenResample) -> Self {
        match resample {
            WrittenResample::Bicubic => Self::Bicubic,
            WrittenResample::Bilinear => Self::Bilinear,
        }
    }
}

impl From<WrittenCanonicalize> for Canonicalize {
    fn from(rule: WrittenCanonicalize) -> Self {
        match rule {
            WrittenCanonicalize::None => Self::None,
            WrittenCanonicalize::Lower => Self::Lower,
            WrittenCanonicalize::LowerNoAsciiPunctuation => Self::LowerNoAsciiPunctuation,
        }
    }
}

impl Written {
    /// Numbers that would only fail later, and then without a name.
    fn check(&self, path: &Path) -> Result<(), VisionError> {
        let problem = if self.name.trim().is_empty() {
            ("name", "is empty")
        } else if !(1..=65_536).contains(&self.embedding_dim) {
            ("embedding_dim", "must be from 1 to 65536")
        } else if !(1..=4096).contains(&self.image.size) {
            ("image.size", "must be from 1 to 4096 pixels")
        } else if self
            .image
            .shortest_edge
            .is_some_and(|edge| !(self.image.size..=8192).contains(&edge))
        {
            ("image.shortest_edge", "must be from image.size to 8192 pixels")
        } else if !self.image.mean.iter().all(|mean| mean.is_finite()) {
            ("image.mean", "must be finite numbers")
        } else if !self.image.std.iter().all(|std| std.is_finite() && *std > 0.0) {
            ("image.std", "must be numbers above 0")
        } else if !(1..=65_536).contains(&self.text.context_length) {
            ("text.context_length", "must be from 1 to 65536 tokens")
        } else if !self.logit_scale.is_finite() || self.logit_scale <= 0.0 {
            ("logit_scale", "must be a number above 0 (the multiplier itself, not its logarithm)")
        } else if !self.logit_bias.is_finite() {
            ("logit_bias", "must be a finite number")
        } else {
            return Ok(());
        };
        let (field, problem) = problem;
        Err(VisionError::ManifestValue { path: path.to_owned(), field, problem })
    }
}

/// The three files must be there, under plain names, each with its hash.
fn checked_files(
    path: &Path,
    written: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, VisionError> {
    let refused = |name: &str, problem| VisionError::ManifestFile {
        path: path.to_owned(),
        name: name.to_owned(),
        problem,
    };
    for name in [Tower::Image.file_name(), Tower::Text.file_name(), TOKENIZER_FILE] {
        if !written.contains_key(name) {
            return Err(refused(name, "is missing"));
        }
    }
    let mut files = BTreeMap::new();
    for (name, hash) in written {
        let mut components = Path::new(name).components();
        let plain = matches!(components.next(), Some(Component::Normal(_)));
        if !plain || components.next().is_some() || name.contains(['/', '\\']) {
            return Err(refused(name, "must be the name of a file in the same folder"));
        }
        let digits = hash
            .strip_prefix("sha256:")
            .filter(|digits| digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
            .ok_or_else(|| refused(name, "needs sha256: and 64 hexadecimal digits"))?;
        files.insert(name.clone(), digits.to_ascii_lowercase());
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builtin() -> String {
        String::from_utf8(crate::vision::model::builtin::FILES.manifest.to_vec()).expect("UTF-8")
    }

    fn error(yaml: &str) -> String {
        let error = Manifest::parse(Path::new("m/model.yaml"), yaml.as_bytes())
            .expect_err("a broken description");
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        text
    }

    #[test]
    fn the_built_in_description_reads() {
        let manifest =
            Manifest::parse(Path::new("model.yaml"), builtin().as_bytes()).expect("reads");
        assert_eq!(manifest.card.kind, ModelKind::Siglip);
        assert_eq!(manifest.card.image.size, 128);
        assert_eq!(manifest.card.image.resize, Resize::Stretch);
        assert_eq!(manifest.card.image.resample, Resample::Bilinear);
        assert_eq!(manifest.card.logit_scale, LogitScale { scale: 32.0475, bias: -7.9833 });
        assert_eq!(manifest.card.context_length, 32);
        assert_eq!(manifest.card.fingerprint.0.len(), 64);
        assert_eq!(manifest.text.canonicalize, Canonicalize::None);
    }

    #[test]
    fn the_fingerprint_is_the_hash_of_the_bytes() {
        let first = Manifest::parse(Path::new("a"), builtin().as_bytes()).expect("reads");
        let other = format!("{}\n", builtin());
        let second = Manifest::parse(Path::new("b"), other.as_bytes()).expect("reads");
        assert_eq!(first.card.fingerprint.0, hex(&Sha256::digest(builtin())));
        assert_ne!(first.card.fingerprint, second.card.fingerprint);
    }

    #[test]
    fn other_names_of_inputs_and_outputs_are_data() {
        let yaml = format!(
            "{}\ninputs: {{pixel_values: image, attention_mask: mask}}\noutputs: {{text_embeds: t}}\n",
            builtin()
        );
        let manifest = Manifest::parse(Path::new("m"), yaml.as_bytes()).expect("reads");
        assert_eq!(manifest.tensors.image_input.as_deref(), Some("image"));
        assert_eq!(manifest.tensors.mask_input.as_deref(), Some("mask"));
        assert_eq!(manifest.tensors.text_output.as_deref(), Some("t"));
    }

    #[test]
    fn an_unknown_field_is_refused_with_its_place() {
        let text = error(&format!("{}\nlogit_scael: 3\n", builtin()));
        assert!(text.contains("logit_scael") && text.contains("line"), "{text}");
        let text = error(&builtin().replace("  resize: stretch", "  resize: squash"));
        assert!(text.contains("squash") && text.contains("line"), "{text}");
    }

    #[test]
    fn values_that_cannot_be_right_are_named() {
        for (from, to, named) in [
            ("size: 128", "size: 0", "image.size"),
            ("std: [0.229,", "std: [0.0,", "image.std"),
            ("logit_scale: 32.0475", "logit_scale: -4", "logit_scale"),
            ("context_length: 32", "context_length: 0", "text.context_length"),
            ("embedding_dim: 256", "embedding_dim: 0", "embedding_dim"),
            ("  text.onnx:", "  text2.onnx:", "text.onnx"),
            ("sha256:c5b3", "sha256:zzb3", "image.onnx"),
            ("sha256:c5b3", "md5:c5b3", "image.onnx"),
            ("files:", "files:\n  ../x: sha256:00", "../x"),
        ] {
            let yaml = builtin();
            assert!(yaml.contains(from), "{from}");
            let text = error(&yaml.replace(from, to));
            assert!(text.contains(named), "{named}: {text}");
        }
    }
}
