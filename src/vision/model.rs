//! A model on disk or compiled in: its card, its text rules and its checked files.

pub mod builtin;
pub mod catalogue;
mod folder;
pub mod hub;
mod layout;
mod manifest;
mod onnx;
mod safetensors;

use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::tokenize::TextSpec;
use super::{ModelCard, Tower, VisionError, side_by_side};
use crate::moderation::Fingerprint;
use manifest::Manifest;

pub use builtin::builtin;
pub use folder::{AddError, AddOptions, Files, ModelsFolder, Staged, describe};
pub use layout::LayoutOptions;

/// Name of the description in a model folder.
pub const MANIFEST_FILE: &str = "model.yaml";
/// Name of the tokenizer in a model folder.
pub const TOKENIZER_FILE: &str = "tokenizer.json";

/// A model whose files are there and unchanged; [`super::engine::open`] makes it run.
#[derive(Debug, Clone)]
pub struct Model {
    /// What the model is and wants.
    pub card: ModelCard,
    pub(crate) text: TextSpec,
    pub(crate) tensors: TensorNames,
    pub(crate) files: ModelFiles,
}

/// Names of inputs and outputs that `model.yaml` gives, where it does.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct TensorNames {
    pub(crate) image_input: Option<String>,
    pub(crate) text_input: Option<String>,
    pub(crate) mask_input: Option<String>,
    pub(crate) image_output: Option<String>,
    pub(crate) text_output: Option<String>,
}

/// Where a model's bytes are.
#[derive(Debug, Clone)]
pub(crate) enum ModelFiles {
    /// In the binary.
    Builtin(&'static builtin::Files),
    /// In a folder; a network may be gigabytes, so the engine reads it itself.
    Folder(PathBuf),
}

impl ModelFiles {
    /// The bytes of `tokenizer.json`.
    pub(crate) fn tokenizer(&self) -> Result<Vec<u8>, VisionError> {
        match self {
            Self::Builtin(files) => Ok(files.tokenizer.to_vec()),
            Self::Folder(folder) => read(&folder.join(TOKENIZER_FILE)),
        }
    }

    /// The bytes of a network.
    pub(crate) fn network(&self, tower: Tower) -> Network {
        match (self, tower) {
            (Self::Builtin(files), Tower::Image) => Network::Bytes(files.image.into()),
            (Self::Builtin(files), Tower::Text) => Network::Bytes(files.text.into()),
            (Self::Folder(folder), tower) => Network::File(folder.join(tower.file_name())),
        }
    }
}

/// A network as an engine can read it.
pub(crate) enum Network {
    /// From memory.
    Bytes(Cow<'static, [u8]>),
    /// From a file, with what lies beside it (weights apart from the graph).
    File(PathBuf),
    /// A graph from memory, its weights from files in a folder.
    Graph {
        /// The network.
        graph: Vec<u8>,
        /// The folder.
        folder: PathBuf,
    },
}

/// Files of a model that are hashed at the same time.
const CHECKED_AT_ONCE: usize = 4;

/// Reads a model folder: `model.yaml` and the files it names.
///
/// # Errors
/// [`VisionError::Manifest`] and its like for a description that is not understood,
/// [`VisionError::ReadFile`] for a missing file, [`VisionError::ChangedFile`] for bytes that
/// are not those the description names.
pub fn load_dir(dir: &Path) -> Result<Model, VisionError> {
    let path = dir.join(MANIFEST_FILE);
    let manifest = Manifest::parse(&path, &read(&path)?)?;
    let check = |name: &String, expected: &String| {
        let path = dir.join(name);
        let found = sha256_of(&path)?;
        if found == *expected {
            return Ok(());
        }
        Err(VisionError::ChangedFile { path, found, expected: expected.clone() })
    };
    // A start waits for this, and the two networks are about as large as each other.
    let files: Vec<_> = manifest.files.iter().collect();
    for files in files.chunks(CHECKED_AT_ONCE) {
        let checks = files.iter().map(|(name, expected)| || check(name, expected));
        side_by_side(checks).into_iter().collect::<Result<(), _>>()?;
    }
    for tower in [Tower::Image, Tower::Text] {
        only_listed_weights(&dir.join(tower.file_name()), &manifest)?;
    }
    Ok(manifest.into_model(ModelFiles::Folder(dir.to_owned())))
}

/// What names a model in a folder: the hash of its description, which holds those of its files.
///
/// # Errors
/// [`VisionError::ReadFile`] where there is no description.
pub fn fingerprint_of(dir: &Path) -> Result<Fingerprint, VisionError> {
    Ok(Fingerprint(hex(&Sha256::digest(read(&dir.join(MANIFEST_FILE))?))))
}

/// A network may keep its weights in other files; only those that were hashed are read.
fn only_listed_weights(network: &Path, manifest: &Manifest) -> Result<(), VisionError> {
    let about = onnx::read(network)
        .map_err(|source| VisionError::ReadFile { path: network.to_owned(), source })?;
    match about.external.into_iter().find(|name| !manifest.files.contains_key(name)) {
        Some(name) => Err(VisionError::UnlistedWeights { path: network.to_owned(), name }),
        None => Ok(()),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, VisionError> {
    std::fs::read(path).map_err(|source| VisionError::ReadFile { path: path.to_owned(), source })
}

/// SHA-256 of a file, hexadecimal, read in blocks.
fn sha256_of(path: &Path) -> Result<String, VisionError> {
    let unreadable = |source| VisionError::ReadFile { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(unreadable)?;
    let mut hasher = Sha256::new();
    let mut block = vec![0; 1 << 20];
    loop {
        match file.read(&mut block).map_err(unreadable)? {
            0 => return Ok(hex(&hasher.finalize())),
            length => hasher.update(&block[..length]),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string can't fail");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The built-in model, written out as a folder.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let files = builtin::FILES;
        for (name, bytes) in [
            ("model.yaml", files.manifest),
            ("image.onnx", files.image),
            ("text.onnx", files.text),
            ("tokenizer.json", files.tokenizer),
        ] {
            std::fs::write(folder.path().join(name), bytes).expect("written");
        }
        folder
    }

    #[test]
    fn a_folder_reads_as_the_same_model() {
        let folder = folder();
        let model = load_dir(folder.path()).expect("a good folder");
        let builtin = builtin().expect("a good model");
        assert_eq!(model.card.fingerprint, builtin.card.fingerprint);
        assert_eq!(model.card.name, "builtin");
    }

    #[test]
    fn changed_bytes_are_refused() {
        let folder = folder();
        let path = folder.path().join("text.onnx");
        let mut bytes = std::fs::read(&path).expect("read");
        bytes[1000] ^= 1;
        std::fs::write(&path, bytes).expect("written");
        let error = load_dir(folder.path()).expect_err("one bit differs");
        assert!(
            matches!(&error, VisionError::ChangedFile { path: p, .. } if *p == path),
            "{error}"
        );
    }

    #[test]
    fn a_missing_file_is_named() {
        let folder = folder();
        std::fs::remove_file(folder.path().join("tokenizer.json")).expect("removed");
        let error = load_dir(folder.path()).expect_err("a file is missing");
        assert!(error.to_string().contains("tokenizer.json"), "{error}");
        std::fs::remove_file(folder.path().join("model.yaml")).expect("removed");
        let error = load_dir(folder.path()).expect_err("no description");
        assert!(error.to_string().contains("model.yaml"), "{error}");
    }
}
