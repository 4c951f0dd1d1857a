//! The folder of models: what is in it, putting a model in, taking one out.
//!
//! A model is put together in a hidden folder beside its place and comes to it by a rename, when
//! every file is written and hashed: a half-written model is never one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::layout::{self, Draft, LayoutOptions, Network};
use super::manifest::Manifest;
use super::{MANIFEST_FILE, TOKENIZER_FILE, hex, onnx, read};
use crate::vision::tokenize::Canonicalize;
use crate::vision::{ModelCard, ModelKind, Resample, Resize, Tower, VisionError};

/// Why a model can't be added.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// A name that can't be a folder's.
    #[error(
        "{0:?} can't be a model's name: use small letters, digits, `-`, `_` and `.` (at most 64), \
         beginning with a letter or digit"
    )]
    Name(String),
    /// There is one of this name.
    #[error(
        "there is a model {0} already; choose another --name, or remove it first: \
         modtool model remove {0}"
    )]
    Taken(String),
    /// A file that the layout needs.
    #[error("{} is missing: {hint}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// What it is for, or what else can be done.
        hint: &'static str,
    },
    /// A file that can't be read, or is not what it should be.
    #[error("can't read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that can't be written.
    #[error("can't write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that is no JSON.
    #[error("{} is no JSON", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A field that is missing or says what can't be done.
    #[error("{}: {field} {problem}", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// The field.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A tokenizer that can't be read.
    #[error("the tokenizer {} can't be read", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// Why.
        source: tokenizers::Error,
    },
    /// No file holds the networks.
    #[error(
        "{} holds no networks{}{}",
        folder.display(),
        variant.as_ref().map(|v| format!(" of the variant {v}")).unwrap_or_default(),
        if variants.is_empty() {
            ": there must be onnx/vision_model.onnx and onnx/text_model.onnx, or onnx/model.onnx; \
             `optimum-cli export onnx` makes them".to_owned()
        } else {
            format!("; with --variant there are: {}", variants.join(", "))
        }
    )]
    NoNetworks {
        /// The folder.
        folder: PathBuf,
        /// What was asked for.
        variant: Option<String>,
        /// What is there.
        variants: Vec<String>,
    },
    /// An input or output that does not fit.
    #[error("{} {what}", path.display())]
    Misfit {
        /// The network.
        path: PathBuf,
        /// What does not fit.
        what: String,
    },
    /// A network that reads weights from elsewhere.
    #[error(
        "{} names weights in {name:?}; only files in the same folder are read", path.display()
    )]
    ForeignWeights {
        /// The network.
        path: PathBuf,
        /// The file that it names.
        name: String,
    },
    /// SigLIP without its two numbers.
    #[error(
        "nothing says the {kind} model's logit_scale and logit_bias, without which every \
         probability would be wrong: put model.safetensors of the original repository beside \
         config.json, or give --logit-scale (the multiplier, exp of the stored number) and \
         --logit-bias"
    )]
    NoScale {
        /// The family.
        kind: ModelKind,
    },
    /// The description that came out or was found is not a good one.
    #[error(transparent)]
    Vision(#[from] VisionError),
}

/// Where models lie.
#[derive(Debug, Clone)]
pub struct ModelsFolder(pub PathBuf);

/// How a model is put in.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AddOptions {
    /// Its name from now on.
    pub name: String,
    /// What the folder may not say.
    pub layout: LayoutOptions,
    /// Where it came from, for people.
    pub source: Option<String>,
    /// The licence of the weights, for people.
    pub licence: Option<String>,
    /// What becomes of the files.
    pub files: Files,
}

/// What becomes of the files that a model is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Files {
    /// They stay, copies are made.
    #[default]
    Copy,
    /// They get a second name where the file system can do that, copies otherwise.
    Link,
}

/// A model that is complete and waits for its place; gone when it is dropped before.
#[derive(Debug)]
pub struct Staged {
    folder: PathBuf,
    place: PathBuf,
    /// What a person should know.
    pub warnings: Vec<String>,
}

impl Staged {
    /// Where it is now, to be tried.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Gives it its name.
    ///
    /// # Errors
    /// [`AddError::Taken`] when a model of this name has come meanwhile.
    pub fn install(self) -> Result<PathBuf, AddError> {
        let place = self.place.clone();
        if place.exists() {
            return Err(AddError::Taken(name_of(&place)));
        }
        fs::rename(&self.folder, &place).map_err(|source| write_error(&place, source))?;
        if let Some(parent) = place.parent() {
            sync(parent)?;
        }
        Ok(place)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Gone already when it was installed; what is left is hidden and in nobody's way.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn name_of(folder: &Path) -> String {
    folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

impl ModelsFolder {
    /// Names and folders of the models, sorted.
    pub fn list(&self) -> Vec<(String, PathBuf)> {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        let mut models: Vec<_> = entries
            .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()))
            .filter(|(name, path)| is_name(name) && path.join(MANIFEST_FILE).is_file())
            .collect();
        models.sort();
        models
    }

    /// The folder of a model; it need not exist.
    ///
    /// # Errors
    /// [`AddError::Name`] for what can't be a model's name.
    pub fn place(&self, name: &str) -> Result<PathBuf, AddError> {
        if is_name(name) { Ok(self.0.join(name)) } else { Err(AddError::Name(name.to_owned())) }
    }

    /// Makes a model of a folder: one with a `model.yaml`, or one in the Hub's layout.
    /// `progress` is told how many bytes were copied, and of how many.
    ///
    /// # Errors
    /// [`AddError`]; nothing is left behind then.
    pub fn stage(
        &self,
        source: &Path,
        options: &AddOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Staged, AddError> {
        let place = self.place(&options.name)?;
        if place.exists() {
            return Err(AddError::Taken(options.name.clone()));
        }
        let plan = if source.join(MANIFEST_FILE).is_file() {
            Plan::by_hand(source, options)?
        } else {
            Plan::of_layout(layout::read(source, &options.layout)?, options)
        };
        let folder = self.0.join(format!(".adding-{}-{}", options.name, std::process::id()));
        // What is left of a run that was killed.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).map_err(|error| write_error(&folder, error))?;
        let staged = Staged { folder, place, warnings: plan.warnings.clone() };
        plan.carry_out(&staged.folder, options.files, progress)?;
        Ok(staged)
    }

    /// Takes a model out.
    ///
    /// # Errors
    /// When it is not there or can't be removed.
    pub fn remove(&self, name: &str) -> Result<(), AddError> {
        let place = self.place(name)?;
        let going = self.0.join(format!(".removing-{name}-{}", std::process::id()));
        // Out of sight first: half a model must never look like one.
        fs::rename(&place, &going).map_err(|source| write_error(&place, source))?;
        fs::remove_dir_all(&going).map_err(|source| write_error(&going, source))
    }
}

/// A description without its files being read: what `list` shows.
///
/// # Errors
/// Those of [`super::load_dir`] for the description itself.
pub fn describe(folder: &Path) -> Result<(ModelCard, BTreeMap<String, String>), VisionError> {
    let path = folder.join(MANIFEST_FILE);
    let manifest = Manifest::parse(&path, &read(&path)?)?;
    Ok((manifest.card, manifest.files))
}

/// Small letters, digits, `-`, `_`, `.`; no hidden files, nothing that leads elsewhere, and not the
/// name of the model that is compiled in.
fn is_name(name: &str) -> bool {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
    name.len() <= 64
        && name != "builtin"
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(good)
}

fn write_error(path: &Path, source: io::Error) -> AddError {
    AddError::Write { path: path.to_owned(), source }
}

/// A folder's entries are durable when the folder is.
fn sync(folder: &Path) -> Result<(), AddError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|source| write_error(folder, source))
}

/// What becomes of which file, and the description.
struct Plan {
    files: Vec<Step>,
    /// `model.yaml` without what only the copying tells.
    head: String,
    /// Whether the hashes are to be added.
    with_hashes: bool,
    warnings: Vec<String>,
}

struct Step {
    from: PathBuf,
    to: String,
    change: Change,
}

/// What a file is on the way.
#[derive(Debug, PartialEq)]
enum Change {
    None,
    /// Only the part of the network that leads to this output stays.
    Part(String),
    /// The network names these files with weights by the new names.
    Relocate(BTreeMap<String, String>),
}

impl Plan {
    /// The description stands; its name becomes the one that was asked for, and where it has no
    /// `files:`, they are added with their hashes.
    fn by_hand(source: &Path, options: &AddOptions) -> Result<Self, AddError> {
        let path = source.join(MANIFEST_FILE);
        let text = fs::read_to_string(&path)
            .map_err(|error| AddError::Read { path: path.clone(), source: error })?;
        let mut head = String::with_capacity(text.len());
        for line in text.lines().filter(|line| !line.starts_with("name:")) {
            head.extend([line, "\n"]);
        }
        let head = format!("name: {}\n{head}", options.name);
        let has_files = text.lines().any(|line| line.starts_with("files:"));
        let names: Vec<String> = if has_files {
            let files = Manifest::parse(&path, head.as_bytes())?.files;
            files.into_keys().collect()
        } else {
            let mut names = Vec::new();
            for tower in [Tower::Image, Tower::Text] {
                let network = source.join(tower.file_name());
                let about = onnx::read(&network)
                    .map_err(|error| AddError::Read { path: network.clone(), source: error })?;
                names.push(tower.file_name().to_owned());
                names.extend(about.external);
            }
            names.push(TOKENIZER_FILE.to_owned());
            names.sort();
            names.dedup();
            names
        };
        let step = |name: String| {
            let plain = Path::new(&name).file_name().is_some_and(|plain| plain == name.as_str());
            if !plain {
                return Err(AddError::ForeignWeights { path: path.clone(), name });
            }
            Ok(Step { from: source.join(&name), to: name, change: Change::None })
        };
        let files = names.into_iter().map(step).collect::<Result<_, _>>()?;
        Ok(Self { files, head, with_hashes: !has_files, warnings: Vec::new() })
    }

    fn of_layout(draft: Draft, options: &AddOptions) -> Self {
        let mut files: Vec<Step> = Vec::new();
        for (tower, network) in
            [(Tower::Image, &draft.image_network), (Tower::Text, &draft.text_network)]
        {
            let Network { file, part, external, .. } = network;
            let mut moved = BTreeMap::new();
            let mut weights = Vec::new();
            for name in external {
                let from = file.with_file_name(name);
                let taken = files.iter().find(|other| other.to == *name);
                let to = match taken {
                    // One file for both towers.
                    Some(other) if other.from == from => continue,
                    // Two folders may hold different files of one name.
                    Some(_) => {
                        let new = format!("{tower}.{name}");
                        moved.insert(name.clone(), new.clone());
                        new
                    }
                    None => name.clone(),
                };
                weights.push(Step { from, to, change: Change::None });
            }
            let change = match part {
                Some(output) => Change::Part(output.clone()),
                None if moved.is_empty() => Change::None,
                None => Change::Relocate(moved),
            };
            files.push(Step { from: file.clone(), to: tower.file_name().to_owned(), change });
            files.append(&mut weights);
        }
        let (from, to) = (draft.tokenizer.clone(), TOKENIZER_FILE.to_owned());
        files.push(Step { from, to, change: Change::None });
        Self { files, head: written(&draft, options), with_hashes: true, warnings: draft.warnings }
    }

    fn carry_out(
        &self,
        folder: &Path,
        files: Files,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), AddError> {
        let size = |step: &Step| fs::metadata(&step.from).map_or(0, |meta| meta.len());
        let total = self.files.iter().map(size).sum();
        let mut done = 0;
        let mut hashes = String::new();
        for step in &self.files {
            let to = folder.join(&step.to);
            let mut tell = |bytes| {
                done += bytes;
                progress(done, total);
            };
            let hash = match &step.change {
                Change::None => take(&step.from, &to, files, &mut tell)?,
                Change::Part(output) => changed(&step.from, &to, &mut tell, |whole| {
                    onnx::part_for(whole, output)
                        .ok_or_else(|| format!("can't be divided at the output {output}"))
                })?,
                Change::Relocate(names) => changed(&step.from, &to, &mut tell, |whole| {
                    onnx::relocated(whole, &|name| names.get(name).cloned())
                        .ok_or_else(|| "is no ONNX file".to_owned())
                })?,
            };
            writeln!(hashes, "  {}: sha256:{hash}", quoted(&step.to)).expect("a String takes all");
        }
        let mut text = self.head.clone();
        if self.with_hashes {
            text.extend(["files:\n", &hashes]);
        }
        let path = folder.join(MANIFEST_FILE);
        fs::write(&path, &text).map_err(|source| write_error(&path, source))?;
        sync(&path)?;
        sync(folder)?;
        // What was written is read as it will be at every start.
        if self.with_hashes {
            Manifest::parse(&path, text.as_bytes())?;
        } else {
            super::load_dir(folder)?.check()?;
        }
        Ok(())
    }
}

/// Copies or links a file, and answers its SHA-256.
fn take(
    from: &Path,
    to: &Path,
    files: Files,
    tell: &mut dyn FnMut(u64),
) -> Result<String, AddError> {
    let unreadable = |source| AddError::Read { path: from.to_owned(), source };
    let mut source = File::open(from).map_err(unreadable)?;
    let mut copy = if files == Files::Link && fs::hard_link(from, to).is_ok() {
        None
    } else {
        Some(File::create_new(to).map_err(|error| write_error(to, error))?)
    };
    let mut hasher = Sha256::new();
    let mut block = vec![0; 1 << 20];
    loop {
        let length = source.read(&mut block).map_err(unreadable)?;
        if length == 0 {
            break;
        }
        hasher.update(&block[..length]);
        if let Some(copy) = &mut copy {
            copy.write_all(&block[..length]).map_err(|error| write_error(to, error))?;
        }
        tell(length as u64);
    }
    copy.unwrap_or(source).sync_all().map_err(|error| write_error(to, error))?;
    Ok(hex(&hasher.finalize()))
}

/// Writes what becomes of a network, and answers its SHA-256.
fn changed(
    from: &Path,
    to: &Path,
    tell: &mut dyn FnMut(u64),
    change: impl FnOnce(&[u8]) -> Result<Vec<u8>, String>,
) -> Result<String, AddError> {
    let whole =
        fs::read(from).map_err(|source| AddError::Read { path: from.to_owned(), source })?;
    tell(whole.len() as u64 / 2);
    let part = change(&whole).map_err(|what| AddError::Misfit { path: from.to_owned(), what })?;
    drop(whole);
    let mut file = File::create_new(to).map_err(|error| write_error(to, error))?;
    file.write_all(&part).and_then(|()| file.sync_all()).map_err(|error| write_error(to, error))?;
    Ok(hex(&Sha256::digest(&part)))
}

/// `model.yaml` without its files.
fn written(draft: &Draft, options: &AddOptions) -> String {
    let Draft { image, text, scale, .. } = draft;
    let mut yaml = format!(
        "# Written by `modtool model add`; this file alone says how the model is used.\n\
         name: {}\nkind: {}\nembedding_dim: {}\nimage:\n  size: {}\n  resize: {}\n",
        options.name,
        draft.kind,
        draft.embedding_dim,
        image.size,
        match image.resize {
            Resize::Stretch => "stretch",
            Resize::ShortestEdgeCrop => "shortest_edge_crop",
        },
    );
    if image.resize == Resize::ShortestEdgeCrop && image.shortest_edge != image.size {
        writeln!(yaml, "  shortest_edge: {}", image.shortest_edge).expect("a String takes all");
    }
    let resample = match image.resample {
        Resample::Bicubic => "bicubic",
        Resample::Bilinear => "bilinear",
    };
    let canonicalize = match text.canonicalize {
        Canonicalize::None => "none",
        Canonicalize::Lower => "lower",
        Canonicalize::LowerNoAsciiPunctuation => "lower_no_ascii_punctuation",
    };
    write!(
        yaml,
        "  resample: {resample}\n  mean: {:?}\n  std: {:?}\ntext:\n  context_length: {}\n  \
         pad_id: {}\n  canonicalize: {canonicalize}\nlogit_scale: {:?}\nlogit_bias: {:?}\n",
        image.mean, image.std, text.context_length, text.pad_id, scale.scale, scale.bias,
    )
    .expect("a String takes all");
    let tensors = &draft.tensors;
    let entry = |usual: &str, name: &Option<String>| {
        name.as_deref()
            .filter(|name| *name != usual)
            .map(|name| format!("{usual}: {}", quoted(name)))
    };
    let inputs =
        [entry("pixel_values", &tensors.image_input), entry("input_ids", &tensors.text_input)];
    let outputs =
        [entry("image_embeds", &tensors.image_output), entry("text_embeds", &tensors.text_output)];
    for (field, names) in [("inputs", inputs), ("outputs", outputs)] {
        let names: Vec<String> = names.into_iter().flatten().collect();
        if !names.is_empty() {
            writeln!(yaml, "{field}: {{{}}}", names.join(", ")).expect("a String takes all");
        }
    }
    for (field, value) in [("source", &options.source), ("licence", &options.licence)] {
        if let Some(value) = value {
            writeln!(yaml, "{field}: {}", quoted(value)).expect("a String takes all");
        }
    }
    yaml
}

/// A text as YAML reads it back: JSON's strings are YAML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
