//! A model on disk or compiled in: its card, its text rules and its checked files.

pub mod builtin;
pub mod catalogue;
mod folder;
pub mod hub;
pub(super) mod inspect;
mod layout;
mod manifest;
pub(super) mod onnx;
mod safetensors;

use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use super::sandbox::{InspectError, SandboxMode, inspect_in_child};
use super::tokenize::TextSpec;
use super::{ModelCard, Tower, VisionError};
use crate::moderation::Fingerprint;
use inspect::Inspected;
use manifest::Manifest;

pub use builtin::builtin;
pub use folder::{AddError, AddOptions, Files, ModelsFolder, Staged, describe};
pub use layout::LayoutOptions;

/// Name of the description in a model folder.
pub const MANIFEST_FILE: &str = "model.yaml";
/// Name of the tokenizer in a model folder.
pub const TOKENIZER_FILE: &str = "tokenizer.json";

/// A model whose files are there; [`super::engine::open`] makes it run, and refuses those that are not
/// what the description names when it comes to read them.
#[derive(Debug, Clone)]
pub struct Model {
    /// What the model is and wants.
    pub card: ModelCard,
    pub(crate) text: TextSpec,
    pub(crate) tensors: TensorNames,
    pub(crate) files: ModelFiles,
}

impl Model {
    /// Whether it is compiled in.
    pub fn is_builtin(&self) -> bool {
        matches!(self.files, ModelFiles::Builtin(_))
    }

    /// Compares every file with the description.
    ///
    /// # Errors
    /// [`VisionError::ReadFile`] and [`VisionError::ChangedFile`].
    pub fn check(&self) -> Result<(), VisionError> {
        self.files.tokenizer()?;
        self.files.check(Tower::Image)?;
        self.files.check(Tower::Text)?;
        match &self.files {
            ModelFiles::Builtin(_) => Ok(()),
            ModelFiles::Folder(files) => files.check(&files.others).map(|_unused| ()),
        }
    }
}

impl Model {
    /// Has each network looked through by a locked-in child, compares what it says with the
    /// description, and every file with its hash. The built-in model is this program's own.
    /// `program` is this binary.
    ///
    /// # Errors
    /// [`VisionError::Inspect`], and those of [`Model::check`].
    pub fn inspect(&self, program: &Path, mode: SandboxMode) -> Result<(), VisionError> {
        let ModelFiles::Folder(files) = &self.files else { return Ok(()) };
        for tower in [Tower::Image, Tower::Text] {
            let path = files.dir.join(tower.file_name());
            let found = inspect_in_child(program, mode, &path).map_err(VisionError::Inspect)?;
            let refused = |why| VisionError::Inspect(InspectError::Refused { path, why });
            self.must_fit(tower, &found).map_err(refused)?;
        }
        self.check()
    }

    /// Whether a network is what the description says: shapes, and the sizes of its files.
    fn must_fit(&self, tower: Tower, found: &Inspected) -> Result<(), String> {
        let ModelFiles::Folder(files) = &self.files else { return Ok(()) };
        let listed = match tower {
            Tower::Image => &files.image,
            Tower::Text => &files.text,
        };
        for (name, end) in &found.external {
            if !listed.iter().any(|(listed, _)| listed == name) {
                return Err(format!("it reads weights from {name:?}, which is not listed"));
            }
            let size = std::fs::metadata(files.dir.join(name)).map_or(0, |meta| meta.len());
            if size < *end {
                return Err(format!("{name:?} has {size} bytes, and its weights end at {end}"));
            }
        }
        let side = u64::from(self.card.image.size);
        let dim = self.card.embedding_dim as u64;
        let is_fed = found.inputs.iter().any(|input| match (tower, input.shape.as_slice()) {
            (_, []) => true,
            (Tower::Image, &[_, a, b, c]) => [(a, 3), (b, side), (c, side)]
                .iter()
                .all(|(found, wanted)| is_or_open(*found, *wanted)),
            (Tower::Text, shape) => shape.len() == 2,
            (Tower::Image, _) => false,
        });
        let comes_out = found
            .outputs
            .iter()
            .any(|output| output.shape.last().is_none_or(|last| is_or_open(*last, dim)));
        match (is_fed, comes_out) {
            (false, _) => Err("no input has the shape that model.yaml says".to_owned()),
            (_, false) => Err(format!("no output has {dim} numbers, as model.yaml says")),
            (true, true) => Ok(()),
        }
    }
}

fn is_or_open(found: Option<u64>, wanted: u64) -> bool {
    found.is_none_or(|found| found == wanted)
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
    Folder(Arc<FolderFiles>),
}

/// The files of a model in a folder, each with its SHA-256 (hexadecimal).
#[derive(Debug)]
pub(crate) struct FolderFiles {
    dir: PathBuf,
    tokenizer: String,
    /// A network's file and those that hold its weights.
    image: Vec<(String, String)>,
    text: Vec<(String, String)>,
    /// What `model.yaml` lists beside them.
    others: Vec<(String, String)>,
}

/// A file from which an engine may go on reading for as long as it lives.
#[derive(Debug)]
pub(crate) struct HeldFile {
    path: PathBuf,
    file: File,
    /// As it was before it was hashed.
    size: u64,
    modified: Option<SystemTime>,
}

impl HeldFile {
    fn open(path: PathBuf) -> Result<Self, VisionError> {
        let opened = File::open(&path).and_then(|file| Ok((file.metadata()?, file)));
        let (about, file) =
            opened.map_err(|source| VisionError::ReadFile { path: path.clone(), source })?;
        Ok(Self { path, file, size: about.len(), modified: about.modified().ok() })
    }

    /// Whether nobody wrote to the file since it was hashed. Another file under its name does not
    /// matter: the engine has this one.
    ///
    /// # Errors
    /// [`VisionError::ChangedInUse`].
    pub(crate) fn unchanged(&self) -> Result<(), VisionError> {
        match self.file.metadata() {
            Ok(about) if about.len() == self.size && about.modified().ok() == self.modified => {
                Ok(())
            }
            _ => Err(VisionError::ChangedInUse { path: self.path.clone() }),
        }
    }
}

impl ModelFiles {
    /// The bytes of `tokenizer.json`.
    ///
    /// # Errors
    /// [`VisionError::ReadFile`] and [`VisionError::ChangedFile`].
    pub(crate) fn tokenizer(&self) -> Result<Vec<u8>, VisionError> {
        match self {
            Self::Builtin(files) => Ok(files.tokenizer.to_vec()),
            Self::Folder(files) => {
                let path = files.dir.join(TOKENIZER_FILE);
                let bytes = read(&path)?;
                compare(path, &hex(&Sha256::digest(&bytes)), &files.tokenizer)?;
                Ok(bytes)
            }
        }
    }

    /// The bytes of a network, of which nobody knows yet whether they are unchanged.
    pub(crate) fn network(&self, tower: Tower) -> Network {
        match (self, tower) {
            (Self::Builtin(files), Tower::Image) => Network::Bytes(files.image.into()),
            (Self::Builtin(files), Tower::Text) => Network::Bytes(files.text.into()),
            (Self::Folder(files), tower) => Network::File(files.dir.join(tower.file_name())),
        }
    }

    /// Reads all that a network is made of, compares it with the description and answers the files.
    ///
    /// # Errors
    /// [`VisionError::ReadFile`] and [`VisionError::ChangedFile`].
    pub(crate) fn check(&self, tower: Tower) -> Result<Vec<HeldFile>, VisionError> {
        match (self, tower) {
            (Self::Builtin(_), _) => Ok(Vec::new()),
            (Self::Folder(files), Tower::Image) => files.check(&files.image),
            (Self::Folder(files), Tower::Text) => files.check(&files.text),
        }
    }
}

impl FolderFiles {
    fn check(&self, files: &[(String, String)]) -> Result<Vec<HeldFile>, VisionError> {
        let check = |(name, expected): &(String, String)| {
            let held = HeldFile::open(self.dir.join(name))?;
            let unreadable = |source| VisionError::ReadFile { path: held.path.clone(), source };
            let found = sha256_of(&held.file).map_err(unreadable)?;
            compare(held.path.clone(), &found, expected)?;
            Ok(held)
        };
        files.iter().map(check).collect()
    }
}

fn compare(path: PathBuf, found: &str, expected: &str) -> Result<(), VisionError> {
    if found == expected {
        return Ok(());
    }
    let (found, expected) = (found.to_owned(), expected.to_owned());
    Err(VisionError::ChangedFile { path, found, expected })
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
        folder: String,
    },
}

/// Reads a model folder: `model.yaml` and what the networks it names say about themselves. A file is
/// compared with its hash when it is used, right before: a start does not wait for gigabytes that it
/// has no use for. [`Model::check`] looks at all.
///
/// # Errors
/// [`VisionError::Manifest`] and its like for a description that is not understood,
/// [`VisionError::ReadFile`] for a missing file, [`VisionError::UnlistedWeights`] for weights in a
/// file that the description does not name.
pub fn load_dir(dir: &Path) -> Result<Model, VisionError> {
    let path = dir.join(MANIFEST_FILE);
    let manifest = Manifest::parse(&path, &read(&path)?)?;
    for name in manifest.files.keys() {
        let path = dir.join(name);
        std::fs::metadata(&path).map_err(|source| VisionError::ReadFile { path, source })?;
    }
    let (image, text) =
        (files_of(dir, Tower::Image, &manifest)?, files_of(dir, Tower::Text, &manifest)?);
    let mut others = manifest.files.clone();
    let tokenizer = others.remove(TOKENIZER_FILE).unwrap_or_default();
    others.retain(|name, _| !image.iter().chain(&text).any(|(used, _)| used == name));
    let others = others.into_iter().collect();
    let files = FolderFiles { dir: dir.to_owned(), tokenizer, image, text, others };
    Ok(manifest.into_model(ModelFiles::Folder(Arc::new(files))))
}

/// A network's file and those in which it keeps weights; only such as are listed are read.
fn files_of(
    dir: &Path,
    tower: Tower,
    manifest: &Manifest,
) -> Result<Vec<(String, String)>, VisionError> {
    let path = dir.join(tower.file_name());
    let about =
        onnx::read(&path).map_err(|source| VisionError::ReadFile { path: path.clone(), source })?;
    let names = std::iter::once(tower.file_name().to_owned()).chain(about.external);
    let with_hash = |name: String| match manifest.files.get(&name) {
        Some(hash) => Ok((name, hash.clone())),
        None => Err(VisionError::UnlistedWeights { path: path.clone(), name }),
    };
    names.map(with_hash).collect()
}

/// What names a model in a folder: the hash of its description, which holds those of its files.
///
/// # Errors
/// [`VisionError::ReadFile`] where there is no description.
pub fn fingerprint_of(dir: &Path) -> Result<Fingerprint, VisionError> {
    Ok(Fingerprint(hex(&Sha256::digest(read(&dir.join(MANIFEST_FILE))?))))
}

fn read(path: &Path) -> Result<Vec<u8>, VisionError> {
    std::fs::read(path).map_err(|source| VisionError::ReadFile { path: path.to_owned(), source })
}

/// SHA-256 of a file, hexadecimal, read in blocks.
fn sha256_of(mut file: &File) -> std::io::Result<String> {
    let mut hasher = Sha256::new();
    let mut block = vec![0; 1 << 20];
    loop {
        match file.read(&mut block)? {
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
        for name in ["image.onnx", "text.onnx", "tokenizer.json"] {
            let folder = folder();
            load_dir(folder.path()).and_then(|model| model.check()).expect("good files");
            let path = folder.path().join(name);
            let mut bytes = std::fs::read(&path).expect("read");
            // In the middle: weights or words, nothing that could not be read any more.
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(&path, bytes).expect("written");
            let model = load_dir(folder.path()).expect("it says the same about itself");
            let error = model.check().expect_err("one bit differs");
            assert!(
                matches!(&error, VisionError::ChangedFile { path: p, .. } if *p == path),
                "{error}"
            );
        }
    }

    #[test]
    fn a_file_that_nothing_uses_is_looked_at_when_all_are() {
        let folder = folder();
        let manifest = folder.path().join("model.yaml");
        let text = std::fs::read_to_string(&manifest).expect("read");
        let hash = hex(&Sha256::digest(b"notes"));
        let files = format!("files:\n  notes.txt: sha256:{hash}\n");
        std::fs::write(&manifest, text.replace("files:\n", &files)).expect("written");
        let error = load_dir(folder.path()).expect_err("it is not there");
        assert!(error.to_string().contains("notes.txt"), "{error}");
        std::fs::write(folder.path().join("notes.txt"), b"notes").expect("written");
        load_dir(folder.path()).expect("a model").check().expect("as it was");
        std::fs::write(folder.path().join("notes.txt"), b"other").expect("written");
        let error = load_dir(folder.path()).expect("a model").check().expect_err("another");
        assert!(matches!(error, VisionError::ChangedFile { .. }), "{error}");
    }

    #[test]
    fn a_file_that_is_written_to_while_it_is_in_use_is_noticed() {
        let folder = folder();
        let model = load_dir(folder.path()).expect("a good folder");
        let held = model.files.check(Tower::Image).expect("unchanged");
        let path = folder.path().join("image.onnx");
        let unchanged = || held.iter().try_for_each(HeldFile::unchanged);
        unchanged().expect("nobody wrote to it");
        // Replaced, as `model remove` and `model add` do it: the old file is still the old one.
        let other = folder.path().join("other");
        std::fs::copy(&path, &other).expect("copied");
        std::fs::rename(&path, folder.path().join("old")).expect("renamed");
        std::fs::rename(&other, &path).expect("renamed");
        unchanged().expect("another file has its name");
        let old = File::options().append(true).open(folder.path().join("old")).expect("opened");
        std::io::Write::write_all(&mut &old, b"x").expect("written");
        let error = unchanged().expect_err("it grew");
        assert!(matches!(error, VisionError::ChangedInUse { .. }), "{error}");
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
