//! Which runtime computes, and a model opened on it.
//!
//! ONNX Runtime is preferred; where none is found the same calls run on tract, which is
//! compiled in, so that a fresh machine works. One process holds one engine for its life:
//! [`choose`] decides, [`start`] loads, [`open`] makes a model run.

mod encoder;
mod gelu;
mod lean;
pub mod probe;
mod self_test;
mod single;
mod tensor;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::ep::ExecutionProvider as _;

use super::{Encoder, Model, VisionError};

pub use probe::{ProbeFailure, RuntimeCandidate, candidates, find_runtime};
pub use self_test::{self_test_child, try_out};

/// What the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EngineChoice {
    /// ONNX Runtime where it is found, tract otherwise.
    #[default]
    Auto,
    /// ONNX Runtime or an error.
    OnnxRuntime,
    /// tract.
    Tract,
}

/// Where a model computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// The first CUDA device where there is one and the library can use it, the processor
    /// otherwise.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// The first CUDA device, or an error.
    Cuda,
}

/// How a model is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineOptions {
    /// Threads that one batch may use; 0 means the number of cores.
    pub threads: usize,
    /// Pictures that go through the network together.
    pub batch: usize,
    /// Where it computes.
    pub device: Device,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self { threads: 0, batch: 8, device: Device::Auto }
    }
}

/// An engine that works on this machine; [`start`] loads it.
#[derive(Debug, Clone)]
pub enum FoundEngine {
    /// A library that passed the self-test.
    OnnxRuntime {
        /// The library, as the loader wants it.
        library: PathBuf,
        /// Its version.
        version: String,
        /// Where it was found, in words.
        origin: &'static str,
    },
    /// The engine that is compiled in.
    Tract {
        /// Why not ONNX Runtime.
        why: WhyTract,
    },
}

/// Why tract was taken.
#[derive(Debug, Clone)]
pub enum WhyTract {
    /// It was asked for.
    AskedFor,
    /// No ONNX Runtime was found that works; these were tried.
    NoRuntime(Vec<ProbeFailure>),
}

impl FoundEngine {
    /// `ONNX Runtime` or `tract`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::OnnxRuntime { .. } => "ONNX Runtime",
            Self::Tract { .. } => "tract",
        }
    }

    /// The engine's version; for tract that of the binding and of tract itself.
    pub fn version(&self) -> &str {
        match self {
            Self::OnnxRuntime { version, .. } => version,
            Self::Tract { .. } => TRACT_VERSION,
        }
    }

    /// The library, where there is one.
    pub fn library(&self) -> Option<&Path> {
        match self {
            Self::OnnxRuntime { library, .. } => Some(library),
            Self::Tract { .. } => None,
        }
    }

    /// One line for people when the engine is not the fast one: why, and what to do.
    pub fn advice(&self) -> Option<String> {
        let Self::Tract { why: WhyTract::NoRuntime(failures) } = self else { return None };
        let found = match failures.iter().filter(|failure| !failure.is_absence()).count() {
            0 => "no ONNX Runtime was found".to_owned(),
            1 => "the ONNX Runtime that was found does not work (`modtool doctor` says why)"
                .to_owned(),
            n => format!("{n} ONNX Runtimes were found, none works (`modtool doctor` says why)"),
        };
        Some(format!(
            "running on tract, which is several times slower: {found}; \
             `modtool runtime install` gets one"
        ))
    }
}

impl fmt::Display for FoundEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name(), self.version())
    }
}

/// Of the binding and of tract, as pinned in Cargo.toml (a test compares).
const TRACT_VERSION: &str = "0.5.0+0.23";

/// The engine of this process, loaded.
#[derive(Debug, Clone)]
pub struct Engine {
    /// What was loaded.
    pub found: FoundEngine,
    environment: ort::environment::Environment,
}

static STARTED: Mutex<Option<Engine>> = Mutex::new(None);

/// Decides which engine this process is going to use; loads nothing.
///
/// `explicit` is a library (or a folder that holds one) that the user named: it is the only one
/// tried, and if it does not work that is an error, not a reason to take another.
/// `probe_command` is our own executable, see [`find_runtime`].
///
/// # Errors
/// [`VisionError::NoRuntime`] when ONNX Runtime was asked for and none works.
pub fn choose(
    choice: EngineChoice,
    explicit: Option<&Path>,
    data_dir: &Path,
    probe_command: &Path,
) -> Result<FoundEngine, VisionError> {
    if choice == EngineChoice::Tract {
        return Ok(FoundEngine::Tract { why: WhyTract::AskedFor });
    }
    let candidates = candidates(explicit, data_dir);
    let probe = find_runtime(&candidates, data_dir, probe_command);
    match probe.found {
        Some(found) => Ok(found),
        None if choice == EngineChoice::OnnxRuntime || explicit.is_some() => {
            Err(VisionError::NoRuntime { failures: probe.failures })
        }
        None => Ok(FoundEngine::Tract { why: WhyTract::NoRuntime(probe.failures) }),
    }
}

/// Loads the engine into this process. Again with the same engine: the one that runs.
///
/// # Errors
/// [`VisionError::EngineTaken`] when another engine runs already, [`VisionError::LoadRuntime`]
/// or [`VisionError::StartEngine`] when it does not load after all.
///
/// # Panics
/// The binding panics on a library without the API that it needs, which is why only
/// libraries that passed [`find_runtime`] may come here.
pub fn start(found: &FoundEngine) -> Result<Engine, VisionError> {
    let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(engine) = &*started {
        if engine.found.library() == found.library() {
            return Ok(engine.clone());
        }
        return Err(VisionError::EngineTaken {
            running: engine.found.to_string(),
            wanted: found.to_string(),
        });
    }
    let builder = match found {
        FoundEngine::OnnxRuntime { library, .. } => ort::init_from(library)
            .map_err(|source| VisionError::LoadRuntime { path: library.clone(), source })?,
        FoundEngine::Tract { .. } => {
            ort::set_api(ort_tract::api());
            ort::init()
        }
    };
    let environment = builder
        .with_name("modtool")
        .with_telemetry(false)
        .build()
        .map_err(|source| VisionError::StartEngine { engine: found.name(), source })?;
    if matches!(found, FoundEngine::OnnxRuntime { .. }) {
        // Its warnings go straight to the terminal; what matters also comes as an error.
        environment.set_log_level(ort::logging::LogLevel::Fatal);
    }
    Ok(started.insert(Engine { found: found.clone(), environment }).clone())
}

/// Opens a model on the engine.
///
/// # Errors
/// Those of the tokenizer, and where the network for pictures is opened at once those of loading it:
/// [`VisionError::NoSuchTensor`] and [`VisionError::UnknownInput`] when its inputs or outputs do not
/// fit; [`VisionError::NoCuda`] when a CUDA device was asked for and can't be had.
pub fn open(
    model: &Model,
    engine: &Engine,
    options: EngineOptions,
) -> Result<Box<dyn Encoder>, VisionError> {
    let on = |device| encoder::Towers::open(model, engine, EngineOptions { device, ..options });
    let no_cuda = |why| VisionError::NoCuda { engine: engine.found.to_string(), why };
    let has_cuda = matches!(engine.found, FoundEngine::OnnxRuntime { .. })
        && ort::ep::CUDA::is_available().unwrap_or(false);
    Ok(Box::new(match options.device {
        Device::Cuda if !has_cuda => return Err(no_cuda("it was built without it".to_owned())),
        Device::Cuda => match on(Device::Cuda) {
            Err(VisionError::Load { source, .. }) => return Err(no_cuda(source.to_string())),
            other => other?,
        },
        Device::Auto if has_cuda => match on(Device::Cuda) {
            Err(VisionError::Load { source, .. }) => {
                tracing::warn!(error = %source, "the GPU can't be used; computing on the processor");
                on(Device::Cpu)?
            }
            other => other?,
        },
        Device::Cpu | Device::Auto => on(Device::Cpu)?,
    }))
}

/// The version of a loaded library, such as `1.32.0`: from its file's name, where official builds
/// have it, otherwise from what the library says about its build.
fn runtime_version(library: &Path, build_info: &str) -> Option<String> {
    let real = std::fs::canonicalize(library).unwrap_or_else(|_| library.to_owned());
    let numbers = real.file_name()?.to_str().and_then(probe::library_version);
    if let Some(numbers) = numbers.filter(|numbers| !numbers.is_empty()) {
        let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
        return Some(numbers.join("."));
    }
    let branch = build_info.split("git-branch=").nth(1)?.split(',').next()?.trim();
    let version = branch.strip_prefix("rel-").unwrap_or(branch);
    version.starts_with(|c: char| c.is_ascii_digit()).then(|| version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_tract_is_the_pinned_one() {
        let lock = include_str!("../../Cargo.lock");
        let entry = lock.split("name = \"ort-tract\"").nth(1).expect("in the lock file");
        assert!(entry.trim_start().starts_with(&format!("version = \"{TRACT_VERSION}\"")));
    }

    #[test]
    fn the_version_is_in_the_name_or_in_the_build_information() {
        let info = "ORT Build Info: git-branch=rel-1.31.0, git-commit-id=1, build type=Release";
        let plain = Path::new("libonnxruntime-of-mine.so");
        assert_eq!(runtime_version(plain, info).as_deref(), Some("1.31.0"));
        assert_eq!(runtime_version(plain, "ORT Build Info: git-branch=HEAD, x"), None);
        assert_eq!(runtime_version(plain, ""), None);
        if cfg!(target_os = "linux") {
            let numbered = Path::new("libonnxruntime.so.1.32.0");
            assert_eq!(runtime_version(numbered, info).as_deref(), Some("1.32.0"));
        }
    }

    #[test]
    fn asking_for_a_library_that_is_not_there_is_an_error() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let missing = folder.path().join("libonnxruntime.so");
        let command = Path::new("/nonexistent/modtool");
        let error = choose(EngineChoice::Auto, Some(&missing), folder.path(), command)
            .expect_err("nothing there");
        assert!(error.to_string().contains("libonnxruntime.so"), "{error}");
    }

    #[test]
    fn the_advice_names_the_way_out() {
        let asked = FoundEngine::Tract { why: WhyTract::AskedFor };
        assert_eq!(asked.advice(), None);
        let none = FoundEngine::Tract { why: WhyTract::NoRuntime(vec![]) };
        assert!(none.advice().is_some_and(|line| line.contains("modtool runtime install")));
    }
}
