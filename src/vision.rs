//! Pictures and texts become embeddings: decoding, preprocessing, tokens, models, engines.
//!
//! `decode` turns a file's bytes into [`Pixels`], and `sandbox` has that done in a child that is
//! locked in; `model` reads what a model wants,
//! `engine` finds a runtime and opens the model as an [`Encoder`]. Nothing in here knows
//! policies, files being watched or a database.

pub mod decode;
pub mod encode;
pub mod engine;
pub mod model;
pub mod occlusion;
mod perceptual;
pub mod preprocess;
mod protobuf;
pub mod sandbox;
mod tokenize;

use std::fmt;
use std::path::PathBuf;

pub use decode::{Flaw, Limits, PictureFacts, Views};
pub use engine::{Device, Engine, EngineChoice, EngineOptions, FoundEngine};
pub use model::Model;
pub use preprocess::{ImageSpec, Pixels, Resample, Resize};
pub use sandbox::{DecoderPool, SandboxError, SandboxMode};
pub use tokenize::Readability;

use crate::moderation::{Embedding, EmbeddingError, Fingerprint, LogitScale};

/// A dual encoder that is ready to run: pictures and texts into one space.
pub trait Encoder: Send + Sync {
    /// What the model is and wants.
    fn model(&self) -> &ModelCard;

    /// Batches of pictures that can be embedded at the same time; a further caller waits.
    fn lanes(&self) -> usize;

    /// Loads what pictures need, where that is not loaded yet, and gives up what only texts need:
    /// so that what is wrong with the model shows at the start, not with the first picture.
    ///
    /// # Errors
    /// [`VisionError::ChangedFile`], [`VisionError::Load`] and their like.
    fn open_for_pictures(&self) -> Result<(), VisionError>;

    /// One embedding a picture, in order; any number of pictures (it batches inside).
    ///
    /// # Errors
    /// [`VisionError::PictureSize`] for pixels that were prepared for another model,
    /// [`VisionError::Run`] and its like when the engine fails, and those of
    /// [`Encoder::open_for_pictures`].
    fn embed_images(&self, pictures: &[Pixels]) -> Result<Vec<Embedding>, VisionError>;

    /// One embedding a text, in order; any number of texts, used as they are (no templates).
    ///
    /// # Errors
    /// [`VisionError::PromptTooLong`] for a text that does not fit (nothing is ever cut off);
    /// [`VisionError::ChangedFile`], [`VisionError::Load`] and their like with the first text.
    fn embed_texts(&self, texts: &[String]) -> Result<Vec<Embedding>, VisionError>;

    /// How many tokens a text has for this model, its special tokens included.
    ///
    /// # Errors
    /// [`VisionError::Tokenize`] when the tokenizer fails on it.
    fn count_tokens(&self, text: &str) -> Result<usize, VisionError>;

    /// Which words of a text the model can read.
    ///
    /// # Errors
    /// [`VisionError::Tokenize`] when the tokenizer fails on it.
    fn readability(&self, text: &str) -> Result<Readability, VisionError>;

    /// Whether a text fits the model's context.
    ///
    /// # Errors
    /// [`VisionError::PromptTooLong`] naming the text, its tokens and the limit.
    fn check_text(&self, text: &str) -> Result<(), VisionError> {
        let (tokens, limit) = (self.count_tokens(text)?, self.model().context_length);
        if tokens > limit {
            return Err(VisionError::PromptTooLong { text: text.to_owned(), tokens, limit });
        }
        Ok(())
    }
}

/// What a model is: the part of `model.yaml` that other rooms need.
#[derive(Debug, Clone)]
pub struct ModelCard {
    /// The name in `model.yaml`.
    pub name: String,
    /// Which family, and so which scoring rules make sense.
    pub kind: ModelKind,
    /// Names the model by content.
    pub fingerprint: Fingerprint,
    /// How cosines become logits.
    pub logit_scale: LogitScale,
    /// Components of an embedding.
    pub embedding_dim: usize,
    /// How a picture is prepared.
    pub image: ImageSpec,
    /// The most tokens a text may have, special tokens included.
    pub context_length: usize,
    /// The licence of the weights, as `model.yaml` states it.
    pub licence: Option<String>,
    /// Where the model came from, as `model.yaml` states it.
    pub source: Option<String>,
}

/// The families of dual encoders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelKind {
    /// Softmax over prompts (Radford et al. 2021).
    Clip,
    /// A sigmoid for each prompt (Zhai et al. 2023).
    Siglip,
    /// A sigmoid for each prompt (Tschannen et al. 2025).
    Siglip2,
}

impl ModelKind {
    /// The word in `model.yaml`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Clip => "clip",
            Self::Siglip => "siglip",
            Self::Siglip2 => "siglip2",
        }
    }

    /// Whether one prompt alone has a probability: true for the sigmoid families.
    pub fn scores_prompts_alone(self) -> bool {
        !matches!(self, Self::Clip)
    }
}

impl fmt::Display for ModelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One of the two networks of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tower {
    /// Pictures to embeddings.
    Image,
    /// Texts to embeddings.
    Text,
}

impl Tower {
    /// The file that holds it.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Image => "image.onnx",
            Self::Text => "text.onnx",
        }
    }
}

impl fmt::Display for Tower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Image => "image",
            Self::Text => "text",
        })
    }
}

/// Why there is no embedding. What is wrong with one picture is a [`Flaw`] instead.
#[derive(Debug, thiserror::Error)]
pub enum VisionError {
    /// A prompt would have to be cut off.
    #[error("the prompt {text:?} has {tokens} tokens, but the model reads only {limit}")]
    PromptTooLong {
        /// The prompt as typed.
        text: String,
        /// Its tokens, special tokens included.
        tokens: usize,
        /// The model's context length.
        limit: usize,
    },
    /// A file of a model can't be read.
    #[error("can't read {}", path.display())]
    ReadFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// `model.yaml` is not understood; the source knows line and column.
    #[error("{} is not a valid model description", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What and where.
        source: Box<serde_yaml::Error>,
    },
    /// A value of `model.yaml` that can't be right.
    #[error("{}: {field} {problem}", path.display())]
    ManifestValue {
        /// The file.
        path: PathBuf,
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A file under `files:` that can't be one of the model's.
    #[error("{}: files: {name:?} {problem}", path.display())]
    ManifestFile {
        /// `model.yaml`.
        path: PathBuf,
        /// The entry.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A file's bytes are not those that `model.yaml` names.
    #[error("{} was changed: its SHA-256 is {found}, model.yaml says {expected}", path.display())]
    ChangedFile {
        /// The file.
        path: PathBuf,
        /// SHA-256 of the bytes that are there.
        found: String,
        /// SHA-256 that was expected.
        expected: String,
    },
    /// Somebody wrote to a file that an engine still reads from.
    #[error(
        "{} was changed while it was in use, and nothing more is judged with it: replace a model by \
         `modtool model remove` and `modtool model add`, and start again", path.display()
    )]
    ChangedInUse {
        /// The file.
        path: PathBuf,
    },
    /// A network that is not loaded.
    #[error(transparent)]
    Inspect(sandbox::InspectError),
    /// A network reads weights from a file that `model.yaml` does not name.
    #[error("{} reads weights from {name:?}, which model.yaml does not list under files", path.display())]
    UnlistedWeights {
        /// The network.
        path: PathBuf,
        /// The file that it names.
        name: String,
    },
    /// `tokenizer.json` can't be read.
    #[error("the tokenizer of model {model} can't be read")]
    Tokenizer {
        /// The model's name.
        model: String,
        /// Why.
        source: tokenizers::Error,
    },
    /// The tokenizer fails on a text.
    #[error("the text {text:?} can't be cut into tokens")]
    Tokenize {
        /// The text.
        text: String,
        /// Why.
        source: tokenizers::Error,
    },
    /// The engine can't load a network.
    #[error("{engine} can't load the {tower} tower of model {model}")]
    Load {
        /// The engine's name.
        engine: &'static str,
        /// The model's name.
        model: String,
        /// Which network.
        tower: Tower,
        /// Why.
        source: ort::Error,
    },
    /// A network lacks an input or output that it must have.
    #[error(
        "the {tower} tower of model {model} has no {role} named {}; it has {}",
        wanted.join(" or "), present.join(", ")
    )]
    NoSuchTensor {
        /// The model's name.
        model: String,
        /// Which network.
        tower: Tower,
        /// `input` or `output`.
        role: &'static str,
        /// The names that were looked for.
        wanted: Vec<String>,
        /// The names that are there.
        present: Vec<String>,
    },
    /// A network has an input that nothing is known to feed.
    #[error("the {tower} tower of model {model} wants an input {input} that modtool can't give")]
    UnknownInput {
        /// The model's name.
        model: String,
        /// Which network.
        tower: Tower,
        /// The input.
        input: String,
    },
    /// The engine fails while it runs a network.
    #[error("the {tower} tower of model {model} failed")]
    Run {
        /// The model's name.
        model: String,
        /// Which network.
        tower: Tower,
        /// Why.
        source: ort::Error,
    },
    /// A network answers something that is not one vector an item.
    #[error(
        "the output {output} of the {tower} tower of model {model} has shape {found:?}, \
         not {expected:?}"
    )]
    OutputShape {
        /// The model's name.
        model: String,
        /// Which network.
        tower: Tower,
        /// The output's name.
        output: String,
        /// Its shape.
        found: Vec<i64>,
        /// The shape that was expected.
        expected: Vec<i64>,
    },
    /// A network answers a vector without a direction.
    #[error("the {tower} tower of model {model} failed")]
    NoDirection {
        /// The model's name.
        model: String,
        /// Which network.
        tower: Tower,
        /// What is wrong with the vector.
        source: EmbeddingError,
    },
    /// Pixels that were prepared for another size.
    #[error("a picture of {found} × {found} pixels can't go into a model that wants {expected}")]
    PictureSize {
        /// Side of the pixels.
        found: u32,
        /// Side that the model wants.
        expected: u32,
    },
    /// The library can't be loaded.
    #[error("{} can't be loaded as ONNX Runtime", path.display())]
    LoadRuntime {
        /// The library.
        path: PathBuf,
        /// Why.
        source: ort::LoadDynamicError,
    },
    /// The engine's environment can't be made.
    #[error("{engine} can't be started")]
    StartEngine {
        /// The engine's name.
        engine: &'static str,
        /// Why.
        source: ort::Error,
    },
    /// A CUDA device was asked for.
    #[error(
        "{engine} has no CUDA here: {why}; use `--device cpu`, or a build of ONNX Runtime with CUDA \
         (the library of `pip install onnxruntime-gpu`, named with --onnxruntime) on a machine with \
         an NVIDIA driver"
    )]
    NoCuda {
        /// The engine and its version.
        engine: String,
        /// What is missing.
        why: String,
    },
    /// One process can hold only one engine.
    #[error("this process already runs on {running}; {wanted} can't be started beside it")]
    EngineTaken {
        /// The engine that runs.
        running: String,
        /// The engine that was asked for.
        wanted: String,
    },
    /// ONNX Runtime was asked for and none of the libraries works.
    #[error("no working ONNX Runtime was found{}", engine::probe::listed(failures))]
    NoRuntime {
        /// Every library that was tried, with the reason.
        failures: Vec<engine::ProbeFailure>,
    },
    /// The engine computes something else than it should.
    #[error(
        "the self-test answers a cosine of {found:.4} for {prompt:?}, not {expected:.4}: this \
         build of the runtime computes wrongly"
    )]
    SelfTest {
        /// The prompt.
        prompt: &'static str,
        /// The cosine it should have to the test picture.
        expected: f32,
        /// The cosine it has.
        found: f32,
    },
}
