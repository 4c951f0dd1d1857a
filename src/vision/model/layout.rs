//! The layout of the Hub's ONNX exports, read as it is: what a `model.yaml` would say of it.
//!
//! A folder has `config.json` (the family), `preprocessor_config.json` or
//! `processor_config.json` (how pictures are prepared), `tokenizer.json`, and the networks in `onnx/` or beside these files: a tower a file
//! (`vision_model.onnx`, `text_model.onnx`) or both in `model.onnx`, each perhaps in variants
//! (`vision_model_fp16.onnx`). Nothing is known by a model's name. OpenCLIP's own layout is read
//! too.

pub(super) mod openclip;
mod pictures;

use std::fs;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::onnx::{self, OnnxFile};
use super::safetensors::{StoredScale, scale_in};
use super::{AddError, TOKENIZER_FILE, TensorNames};
use crate::moderation::LogitScale;
use crate::vision::tokenize::{Canonicalize, TextReader, TextSpec};
use crate::vision::{ImageSpec, ModelKind, Tower};
use pictures::{image_spec, three};

/// Says which family a model is of.
pub(super) const CONFIG_FILE: &str = "config.json";
/// Says how pictures are prepared.
pub(super) const PREPROCESSOR_FILE: &str = "preprocessor_config.json";
/// Where transformers 5 says it, within what it says of texts.
pub(super) const PROCESSOR_FILE: &str = "processor_config.json";
/// Holds the scale and the bias, where a repository has it.
pub(super) const WEIGHTS_FILE: &str = "model.safetensors";

/// The multiplier of OpenAI's checkpoints, to which their training clips it (Radford et al. 2021,
/// §2.5).
const CLIP_SCALE: f32 = 100.0;

/// What the user says beside the folder.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LayoutOptions {
    /// Which of several networks: `fp16` for `vision_model_fp16.onnx`; `None`: the plain one.
    pub variant: Option<String>,
    /// The multiplier itself (not its logarithm), where the folder does not say it.
    pub logit_scale: Option<f32>,
    /// The bias, where the folder does not say it.
    pub logit_bias: Option<f32>,
    /// What the catalogue knows, where nobody else does.
    pub known_scale: Option<LogitScale>,
}

/// A model as a layout describes it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Draft {
    pub(super) kind: ModelKind,
    pub(super) embedding_dim: usize,
    pub(super) image: ImageSpec,
    pub(super) text: TextSpec,
    pub(super) tokenizer: PathBuf,
    pub(super) scale: LogitScale,
    pub(super) image_network: Network,
    pub(super) text_network: Network,
    /// Names of inputs and outputs, where they are not the family's.
    pub(super) tensors: TensorNames,
    /// What a person should know.
    pub(super) warnings: Vec<String>,
}

/// Where a tower is.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Network {
    pub(super) file: PathBuf,
    /// Set when the file holds both towers: the output that leads to this one.
    pub(super) part: Option<String>,
    /// Plain names of files beside it that hold weights.
    pub(super) external: Vec<String>,
    about: OnnxFile,
}

/// Reads a folder.
///
/// # Errors
/// [`AddError`] naming the missing file, the field that can't be, or the input or output that does
/// not fit.
pub(super) fn read(folder: &Path, options: &LayoutOptions) -> Result<Draft, AddError> {
    let config = Json::read(folder, CONFIG_FILE)?;
    if openclip::is_it(&config) {
        return openclip::read(folder, &config, options);
    }
    let preprocessor = Json::of_pictures(folder)?;
    let tokenizer = tokenizer_at(folder, TOKENIZER_FILE)?;
    let reader = text_reader(spec_of_nothing(), &tokenizer)?;
    let kind = family(&config, &reader, &tokenizer)?;
    let image = image_spec(kind, &preprocessor, &config)?;
    let [image_network, text_network] = networks(folder, options.variant.as_deref())?;
    check_image(kind, &image_network, &image, &preprocessor.name())?;
    check_text(kind, &text_network)?;
    let embedding_dim = dimension(kind, &config, &image_network, &text_network)?;
    let text = text_spec(kind, &config, &reader, &tokenizer)?;
    let mut warnings = Vec::new();
    let stored = stored_scale(folder)?;
    let scale = scale(kind, stored, options, &mut warnings)?;
    Ok(Draft {
        kind,
        embedding_dim,
        image,
        text,
        tokenizer,
        scale,
        image_network,
        text_network,
        tensors: TensorNames::default(),
        warnings,
    })
}

/// Whether the `config.json` in a folder is OpenCLIP's own; no, where it can't be read.
pub(super) fn is_openclip(folder: &Path) -> bool {
    Json::read(folder, CONFIG_FILE).is_ok_and(|config| openclip::is_it(&config))
}

/// What a variant adds to a network's name; the first that is there counts.
pub(super) fn suffixes(variant: Option<&str>) -> Vec<String> {
    match variant {
        None => vec![String::new()],
        // Two names for one thing.
        Some("int8") => vec!["_int8".to_owned(), "_quantized".to_owned()],
        Some("quantized") => vec!["_quantized".to_owned(), "_int8".to_owned()],
        Some(variant) => vec![format!("_{variant}")],
    }
}

fn tokenizer_at(folder: &Path, name: &str) -> Result<PathBuf, AddError> {
    let path = folder.join(name);
    if path.is_file() {
        return Ok(path);
    }
    let hint = "without it no prompt can be read; it lies beside the other files of the model's \
                repository";
    Err(AddError::Missing { path, hint })
}

fn text_reader(spec: TextSpec, tokenizer: &Path) -> Result<TextReader, AddError> {
    let bytes = fs::read(tokenizer)
        .map_err(|source| AddError::Read { path: tokenizer.to_owned(), source })?;
    TextReader::new(spec, &bytes)
        .map_err(|source| AddError::Tokenizer { path: tokenizer.to_owned(), source })
}

/// For a look at the vocabulary alone.
fn spec_of_nothing() -> TextSpec {
    TextSpec { context_length: 0, pad_id: 0, canonicalize: Canonicalize::None }
}

struct Json {
    path: PathBuf,
    value: Value,
}

impl Json {
    fn read(folder: &Path, name: &'static str) -> Result<Self, AddError> {
        let path = folder.join(name);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let hint = "this is the layout of the Hub's ONNX exports; for any other model \
                            write a model.yaml (docs/models.md)";
                return Err(AddError::Missing { path, hint });
            }
            Err(source) => return Err(AddError::Read { path, source }),
        };
        match serde_json::from_slice(&bytes) {
            Ok(value) => Ok(Self { path, value }),
            Err(source) => Err(AddError::Json { path, source }),
        }
    }

    /// `preprocessor_config.json`, or the part about pictures of `processor_config.json`.
    fn of_pictures(folder: &Path) -> Result<Self, AddError> {
        if folder.join(PREPROCESSOR_FILE).exists() || !folder.join(PROCESSOR_FILE).exists() {
            return Self::read(folder, PREPROCESSOR_FILE);
        }
        let whole = Self::read(folder, PROCESSOR_FILE)?;
        match &whole.value["image_processor"] {
            part if part.is_object() => Ok(Self { value: part.clone(), ..whole }),
            _ => {
                let problem = format!("is missing, and there is no {PREPROCESSOR_FILE}");
                Err(whole.refused("image_processor", problem))
            }
        }
    }

    /// The file's name, for people.
    fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn refused(&self, field: &str, problem: impl Into<String>) -> AddError {
        AddError::Field {
            path: self.path.clone(),
            field: field.to_owned(),
            problem: problem.into(),
        }
    }

    fn flag(&self, field: &str, usual: bool) -> bool {
        self.value[field].as_bool().unwrap_or(usual)
    }
}

/// `model_type`, and for SigLIP the first tokens of the vocabulary: fixed-resolution SigLIP 2
/// checkpoints call themselves `siglip` and have Gemma's vocabulary. What a
/// `tokenizer_config.json` calls its class changes with the version that wrote it.
fn family(config: &Json, reader: &TextReader, tokenizer: &Path) -> Result<ModelKind, AddError> {
    match config.value["model_type"].as_str() {
        Some("clip") => Ok(ModelKind::Clip),
        Some("siglip") => {
            let is = |token, id| reader.token_id(token) == Some(id);
            if is("<pad>", 0) && is("<eos>", 1) && is("<bos>", 2) {
                Ok(ModelKind::Siglip2)
            } else if is("</s>", 1) {
                Ok(ModelKind::Siglip)
            } else {
                Err(AddError::Field {
                    path: tokenizer.to_owned(),
                    field: "model.vocab".to_owned(),
                    problem: "is neither SigLIP's (</s> is token 1) nor SigLIP 2's (<pad>, <eos>, \
                              <bos> are 0, 1, 2), so nobody knows how its texts are filled up; \
                              a model.yaml can say it (docs/models.md)"
                        .to_owned(),
                })
            }
        }
        Some("siglip2") => Err(config.refused(
            "model_type",
            "is siglip2, the variant for pictures of any size (NaFlex), which modtool can't \
             prepare; take one for a fixed size, such as siglip2-base-patch16-224",
        )),
        Some(other) => Err(config.refused(
            "model_type",
            format!(
                "is {other:?}; clip and siglip are read by themselves, any other dual encoder \
                 with a model.yaml (docs/models.md)"
            ),
        )),
        None => Err(config.refused("model_type", "is missing")),
    }
}

/// Padding and canonicalising are the family's; the tokenizer's files say other things, or none.
fn text_spec(
    kind: ModelKind,
    config: &Json,
    reader: &TextReader,
    tokenizer: &Path,
) -> Result<TextSpec, AddError> {
    let written = config.value["text_config"]["max_position_embeddings"].as_u64();
    let written = written.and_then(|length| usize::try_from(length).ok());
    let (usual, canonicalize) = match kind {
        ModelKind::Clip => (77, Canonicalize::None),
        ModelKind::Siglip => (64, Canonicalize::LowerNoAsciiPunctuation),
        ModelKind::Siglip2 => (64, Canonicalize::Lower),
    };
    let pad_id = match kind {
        ModelKind::Clip => reader.token_id("<|endoftext|>").ok_or_else(|| AddError::Field {
            path: tokenizer.to_owned(),
            field: "<|endoftext|>".to_owned(),
            problem: "is no token of this tokenizer, but CLIP pads with it".to_owned(),
        })?,
        ModelKind::Siglip => 1,
        ModelKind::Siglip2 => 0,
    };
    Ok(TextSpec { context_length: written.unwrap_or(usual), pad_id, canonicalize })
}

/// The image tower and the text tower.
fn networks(folder: &Path, variant: Option<&str>) -> Result<[Network; 2], AddError> {
    let places = [folder.join("onnx"), folder.to_owned()];
    let found = |stem: &str| -> Option<PathBuf> {
        let suffixes = suffixes(variant);
        let names = suffixes.iter().map(|suffix| format!("{stem}{suffix}.onnx"));
        let mut files = names.flat_map(|name| places.clone().map(|place| place.join(&name)));
        files.find(|file| file.is_file())
    };
    if let (Some(image), Some(text)) = (found("vision_model"), found("text_model")) {
        return Ok([Network::read(&image, None)?, Network::read(&text, None)?]);
    }
    let Some(both) = found("model") else {
        return Err(no_networks(folder, &places, variant));
    };
    let part = |output: &str| Network::read(&both, Some(output));
    Ok([part("image_embeds")?, part("text_embeds")?])
}

/// Says what is there instead.
fn no_networks(folder: &Path, places: &[PathBuf], variant: Option<&str>) -> AddError {
    let mut variants: Vec<String> = Vec::new();
    for entry in places.iter().filter_map(|place| fs::read_dir(place).ok()).flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let stem = name.strip_suffix(".onnx");
        let rest = stem.and_then(|stem| {
            ["vision_model", "model"].iter().find_map(|head| stem.strip_prefix(head))
        });
        let plain = |rest: &&str| rest.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        let rest = rest.filter(plain);
        match rest {
            Some("") => variants.push("(none)".to_owned()),
            Some(rest) => variants.extend(rest.strip_prefix('_').map(str::to_owned)),
            None => {}
        }
    }
    variants.sort();
    variants.dedup();
    AddError::NoNetworks {
        folder: folder.to_owned(),
        variant: variant.map(str::to_owned),
        variants,
    }
}

impl Network {
    fn read(file: &Path, part: Option<&str>) -> Result<Self, AddError> {
        let about =
            onnx::read(file).map_err(|source| AddError::Read { path: file.to_owned(), source })?;
        let mut external = Vec::new();
        for name in &about.external {
            let plain = Path::new(name).file_name().is_some_and(|plain| plain == name.as_str());
            if !plain || name.contains('\\') {
                return Err(AddError::ForeignWeights { path: file.to_owned(), name: name.clone() });
            }
            let beside = file.with_file_name(name);
            if !beside.is_file() {
                let hint = "it holds the network's weights";
                return Err(AddError::Missing { path: beside, hint });
            }
            external.push(name.clone());
        }
        Ok(Self { file: file.to_owned(), part: part.map(str::to_owned), external, about })
    }

    fn misfit(&self, what: impl Into<String>) -> AddError {
        AddError::Misfit { path: self.file.clone(), what: what.into() }
    }

    fn input(&self, name: &str) -> Option<&onnx::Tensor> {
        self.about.inputs.iter().find(|input| input.name == name)
    }

    /// The output that a family's exports have, under one of its names.
    fn output(&self, names: &[&str]) -> Result<&onnx::Tensor, AddError> {
        let one = self.part.as_deref();
        let mut wanted = names.iter().filter(|name| one.is_none_or(|one| one == **name));
        wanted
            .find_map(|name| self.about.outputs.iter().find(|output| output.name == *name))
            .ok_or_else(|| {
                let there: Vec<_> =
                    self.about.outputs.iter().map(|output| output.name.as_str()).collect();
                self.misfit(format!(
                    "has no output {}; it has {}",
                    names.join(" or "),
                    there.join(", ")
                ))
            })
    }

    /// `prepared_by` is the file that says how large pictures come.
    fn takes_pictures_of(&self, input: &str, size: u32, prepared_by: &str) -> Result<(), AddError> {
        let input =
            self.input(input).ok_or_else(|| self.misfit(format!("has no input {input}")))?;
        let wrong = input.shape.iter().skip(2).flatten().find(|found| **found != u64::from(size));
        match wrong {
            Some(found) => Err(self.misfit(format!(
                "takes pictures of {found} pixels, but {prepared_by} prepares {size}"
            ))),
            None => Ok(()),
        }
    }

    /// Every input must be one that can be fed.
    fn only_inputs(&self, known: &[&str]) -> Result<(), AddError> {
        let both = ["pixel_values", "input_ids", "attention_mask"];
        let known = if self.part.is_some() { &both[..] } else { known };
        match self.about.inputs.iter().find(|input| !known.contains(&input.name.as_str())) {
            Some(other) => Err(self.misfit(format!(
                "wants an input {}, which modtool can't give (it gives {})",
                other.name,
                known.join(", ")
            ))),
            None => Ok(()),
        }
    }
}

/// Of CLIP, only the projected embedding is comparable between the towers; SigLIP has no
/// projection.
fn output_names(kind: ModelKind, tower: Tower) -> &'static [&'static str] {
    match (kind, tower) {
        (ModelKind::Clip, Tower::Image) => &["image_embeds"],
        (ModelKind::Clip, Tower::Text) => &["text_embeds"],
        (_, Tower::Image) => &["image_embeds", "pooler_output"],
        (_, Tower::Text) => &["text_embeds", "pooler_output"],
    }
}

fn check_image(
    kind: ModelKind,
    network: &Network,
    spec: &ImageSpec,
    prepared_by: &str,
) -> Result<(), AddError> {
    network.output(output_names(kind, Tower::Image))?;
    network.only_inputs(&["pixel_values"])?;
    network.takes_pictures_of("pixel_values", spec.size, prepared_by)
}

fn check_text(kind: ModelKind, network: &Network) -> Result<(), AddError> {
    network.output(output_names(kind, Tower::Text))?;
    network.only_inputs(&["input_ids", "attention_mask"])?;
    match network.input("input_ids") {
        Some(_) => Ok(()),
        None => Err(network.misfit("has no input input_ids")),
    }
}

/// From the networks where they say it, from `config.json` otherwise.
fn dimension(
    kind: ModelKind,
    config: &Json,
    image: &Network,
    text: &Network,
) -> Result<usize, AddError> {
    let named = |network: &Network, tower| -> Result<String, AddError> {
        Ok(network.output(output_names(kind, tower))?.name.clone())
    };
    let (image_output, text_output) = (named(image, Tower::Image)?, named(text, Tower::Text)?);
    let written = match kind {
        ModelKind::Clip => config.value["projection_dim"].as_u64().or(Some(512)),
        ModelKind::Siglip | ModelKind::Siglip2 => {
            config.value["vision_config"]["hidden_size"].as_u64().or(Some(768))
        }
    };
    one_dimension((image, &image_output), (text, &text_output), written)?
        .ok_or_else(|| config.refused("projection_dim", "is no number of dimensions"))
}

/// What both towers' outputs say, or else `written`; `None` when that is no dimension.
fn one_dimension(
    (image, image_output): (&Network, &str),
    (text, text_output): (&Network, &str),
    written: Option<u64>,
) -> Result<Option<usize>, AddError> {
    let of = |network: &Network, name| -> Result<Option<u64>, AddError> {
        Ok(network.output(&[name])?.shape.last().copied().flatten())
    };
    let (image_dim, text_dim) = (of(image, image_output)?, of(text, text_output)?);
    if let (Some(a), Some(b)) = (image_dim, text_dim)
        && a != b
    {
        return Err(text.misfit(format!(
            "answers {b} numbers, but the image tower {a}: they are not of one model"
        )));
    }
    let dim = image_dim.or(text_dim).or(written).and_then(|dim| usize::try_from(dim).ok());
    Ok(dim.filter(|dim| (1..=65_536).contains(dim)))
}

fn stored_scale(folder: &Path) -> Result<StoredScale, AddError> {
    let path = folder.join(WEIGHTS_FILE);
    let failed = |source| AddError::Read { path: path.clone(), source };
    let mut file = match fs::File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(StoredScale::default()),
        Err(source) => return Err(failed(source)),
    };
    scale_in(|offset, length| {
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.by_ref().take(length).read_to_end(&mut bytes)?;
        Ok(bytes)
    })
    .map_err(failed)
}

/// The order: the model's own weights, what the user says, what the catalogue knows, and for CLIP
/// the value of OpenAI's checkpoints. SigLIP has no such value: without one every probability would
/// be wrong.
fn scale(
    kind: ModelKind,
    stored: StoredScale,
    options: &LayoutOptions,
    warnings: &mut Vec<String>,
) -> Result<LogitScale, AddError> {
    let own = stored.logit_scale.map(f32::exp).filter(|scale| scale.is_finite() && *scale > 0.0);
    let known = options.known_scale;
    let scale = own.or(options.logit_scale).or(known.map(|known| known.scale));
    let bias = stored.logit_bias.or(options.logit_bias).or(known.map(|known| known.bias));
    if let (Some(own), Some(said)) = (own, options.logit_scale)
        && (own - said).abs() > 1e-3 * own
    {
        warnings.push(format!(
            "{WEIGHTS_FILE} says logit_scale {own}, which counts; --logit-scale {said} does not"
        ));
    }
    match (kind, scale, bias) {
        (ModelKind::Clip, Some(scale), bias) => Ok(LogitScale { scale, bias: bias.unwrap_or(0.0) }),
        (ModelKind::Clip, None, bias) => {
            warnings.push(format!(
                "nothing says the logit_scale; {CLIP_SCALE} is taken, which is right for OpenAI's \
                 and OpenCLIP's checkpoints (otherwise: --logit-scale)"
            ));
            Ok(LogitScale { scale: CLIP_SCALE, bias: bias.unwrap_or(0.0) })
        }
        (_, Some(scale), Some(bias)) => Ok(LogitScale { scale, bias }),
        _ => Err(AddError::NoScale { kind }),
    }
}
