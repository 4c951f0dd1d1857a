//! Finding a library of ONNX Runtime that works, without risking this process.
//!
//! A missing or too old library makes the binding panic, some versions hang, and a hung
//! `dlopen` can't be called off. So each candidate is tried in a child of the same binary that
//! is killed when it takes too long, and the answer is remembered by path, size and time.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::FoundEngine;
use crate::ground::{self, Untrusted};

/// The hidden subcommand that a child is started with, followed by the library.
pub const PROBE_SUBCOMMAND: &str = "__probe-runtime";

/// The variable that names a library, as other programs with ONNX Runtime know it.
const FROM_ENVIRONMENT: &str = "ORT_DYLIB_PATH";

/// The longest that loading and the self-test may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// A library that may be ONNX Runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeCandidate {
    /// The library.
    pub path: PathBuf,
    /// Where it was found, in words.
    pub origin: &'static str,
}

/// What came of looking for a runtime.
#[derive(Debug, Clone)]
pub struct Probe {
    /// The first library that works.
    pub found: Option<FoundEngine>,
    /// Those before it that don't.
    pub failures: Vec<ProbeFailure>,
}

/// A library that can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeFailure {
    /// The library.
    pub candidate: RuntimeCandidate,
    /// Why.
    pub reason: FailureReason,
}

/// Why a library can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FailureReason {
    /// The child could not be started.
    NoChild(std::io::ErrorKind),
    /// It did not answer in time.
    TimedOut,
    /// What the child said last, shortened to one line.
    Refused(String),
    /// Nothing lies there.
    Missing,
    /// Others may write it, or something that the loader would take from beside it: it was not
    /// even tried.
    Untrusted(Untrusted),
}

impl ProbeFailure {
    /// Whether nothing was there at all, as is usual for the system's loader.
    pub fn is_absence(&self) -> bool {
        self.reason == FailureReason::Missing
    }
}

impl fmt::Display for ProbeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RuntimeCandidate { path, origin } = &self.candidate;
        write!(f, "{} ({origin}): ", path.display())?;
        match &self.reason {
            FailureReason::NoChild(kind) => write!(f, "the test could not be started: {kind}"),
            FailureReason::TimedOut => {
                write!(f, "did not answer within {} seconds", DEADLINE.as_secs())
            }
            FailureReason::Refused(words) => f.write_str(words),
            FailureReason::Missing => f.write_str("there is no such file"),
            FailureReason::Untrusted(why) => {
                write!(f, "not loaded, because others can change it: {why}; {}", why.remedy())
            }
        }
    }
}

/// `: a; b` for a message; nothing when there are none.
pub(crate) fn listed(failures: &[ProbeFailure]) -> String {
    let texts: Vec<String> = failures.iter().map(ToString::to_string).collect();
    if texts.is_empty() { String::new() } else { format!(": {}", texts.join("; ")) }
}

/// Where a library may be, best first. With `explicit` (a library or a folder that holds one)
/// only that.
///
/// The order is: `ORT_DYLIB_PATH`, beside the executable, `<data_dir>/runtime`, the active
/// Python environment, the folders that the system's loader looks into. A name without a folder is
/// looked for in those alone: the loader would not say which file it takes.
pub fn candidates(explicit: Option<&Path>, data_dir: &Path) -> Vec<RuntimeCandidate> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    candidates_from(explicit, data_dir, &variable)
}

fn candidates_from(
    explicit: Option<&Path>,
    data_dir: &Path,
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Vec<RuntimeCandidate> {
    let named = |path: &Path, origin| -> Vec<RuntimeCandidate> {
        if path.is_dir() {
            in_folder(path, origin)
        } else {
            vec![RuntimeCandidate { path: path.to_owned(), origin }]
        }
    };
    if let Some(path) = explicit.filter(|path| is_bare(path)) {
        let files = loader_folders(variable).into_iter().map(|folder| folder.join(path));
        let found = files.filter(|file| file.is_file()).collect::<Vec<_>>();
        let found = if found.is_empty() { vec![path.to_owned()] } else { found };
        let candidate = |path| RuntimeCandidate { path, origin: "as asked for" };
        return found.into_iter().map(candidate).collect();
    }
    if let Some(path) = explicit {
        return named(path, "as asked for");
    }
    let mut all = Vec::new();
    if let Some(path) = variable(FROM_ENVIRONMENT) {
        all.extend(named(Path::new(&path), FROM_ENVIRONMENT));
    }
    if let Some(folder) = std::env::current_exe().ok().as_deref().and_then(Path::parent) {
        all.extend(in_folder(folder, "beside the executable"));
    }
    all.extend(in_folder(&data_dir.join("runtime"), "modtool's data folder"));
    for packages in python_packages(variable) {
        all.extend(in_folder(&packages.join("onnxruntime").join("capi"), "Python environment"));
    }
    for folder in loader_folders(variable) {
        all.extend(in_folder(&folder, "system's folder of libraries"));
    }
    let mut seen = Vec::new();
    all.retain(|candidate| {
        let real = fs::canonicalize(&candidate.path).unwrap_or_else(|_| candidate.path.clone());
        let new = !seen.contains(&real);
        seen.push(real);
        new
    });
    all
}

/// The folders that the system's loader looks into, as its settings name them: ld.so(8), and dyld(1)
/// on macOS. Only absolute ones: others mean the current folder.
fn loader_folders(variable: &dyn Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let (named, usual): (_, &[&str]) = if cfg!(target_os = "macos") {
        ("DYLD_LIBRARY_PATH", &["/usr/local/lib", "/opt/homebrew/lib", "/usr/lib"])
    } else {
        ("LD_LIBRARY_PATH", &["/usr/local/lib", "/lib64", "/usr/lib64", "/lib", "/usr/lib"])
    };
    let named = variable(named).unwrap_or_default();
    let named: Vec<PathBuf> = std::env::split_paths(&named).collect();
    let settings = entries(Path::new("/etc/ld.so.conf.d")).into_iter();
    let settings = settings.chain([PathBuf::from("/etc/ld.so.conf")]);
    let listed = settings.filter_map(|file| fs::read_to_string(file).ok());
    // Lines of settings that name no folder (comments, `include`) are not absolute either.
    let listed: Vec<PathBuf> =
        listed.flat_map(|text| text.lines().map(PathBuf::from).collect::<Vec<_>>()).collect();
    let all = named.into_iter().chain(listed).chain(usual.iter().map(PathBuf::from));
    all.filter(|folder| folder.is_absolute()).collect()
}

/// The name that the system's loader looks for.
fn bare_name() -> &'static str {
    if cfg!(windows) {
        "onnxruntime.dll"
    } else if cfg!(target_os = "macos") {
        "libonnxruntime.dylib"
    } else {
        "libonnxruntime.so"
    }
}

fn is_bare(path: &Path) -> bool {
    path.components().count() == 1
}

/// The runtime's own libraries in a folder, newest version first. Providers' are no candidates.
fn in_folder(folder: &Path, origin: &'static str) -> Vec<RuntimeCandidate> {
    let mut found: Vec<(Vec<u32>, PathBuf)> = entries(folder)
        .into_iter()
        .filter_map(|path| Some((library_version(path.file_name()?.to_str()?)?, path)))
        .collect();
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, path)| RuntimeCandidate { path, origin }).collect()
}

/// The version in a library's file name (empty when it has none); `None` when the name is not
/// the runtime's.
pub(super) fn library_version(name: &str) -> Option<Vec<u32>> {
    let numbers = if name == bare_name() {
        ""
    } else if cfg!(windows) {
        return None;
    } else if cfg!(target_os = "macos") {
        name.strip_prefix("libonnxruntime.")?.strip_suffix(".dylib")?
    } else {
        name.strip_prefix("libonnxruntime.so.")?
    };
    let parts = numbers.split('.').filter(|part| !part.is_empty());
    parts.map(|part| part.parse().ok()).collect()
}

/// Folders of packages of the active Python: the active environment's, then those that belong
/// to the `python3` on the path. Python itself is not started, it would cost more than it tells.
fn python_packages(variable: &dyn Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let mut prefixes: Vec<PathBuf> = ["VIRTUAL_ENV", "CONDA_PREFIX"]
        .into_iter()
        .filter_map(|name| variable(name).map(PathBuf::from))
        .collect();
    let program = if cfg!(windows) { "python.exe" } else { "python3" };
    let python = variable("PATH").and_then(|path| {
        let folders = std::env::split_paths(&path).filter(|folder| folder.is_absolute());
        folders.map(|folder| folder.join(program)).find(|file| file.is_file())
    });
    if let Some(python) = python {
        if python.parent().and_then(Path::file_name) == Some(OsStr::new("shims")) {
            prefixes.extend(pyenv_prefixes(&python, variable));
        }
        for file in [Some(python.clone()), fs::canonicalize(&python).ok()].into_iter().flatten() {
            // <prefix>/bin/python3; on Windows <prefix>\python.exe or <prefix>\Scripts\.
            let levels = file.ancestors().skip(1).take(if cfg!(windows) { 2 } else { 3 });
            prefixes.extend(levels.skip(usize::from(!cfg!(windows))).map(Path::to_owned));
        }
        // Debian's python3 lies in /usr and installs to /usr/local.
        prefixes.push(PathBuf::from("/usr/local"));
        prefixes.extend(variable("HOME").map(|home| Path::new(&home).join(".local")));
    }
    prefixes.iter().flat_map(|prefix| packages_of(prefix)).collect()
}

/// `<pyenv>/shims/python3` stands for `<pyenv>/versions/<version>`.
fn pyenv_prefixes(shim: &Path, variable: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let root = shim.parent()?.parent()?;
    let version = match variable("PYENV_VERSION") {
        Some(version) => version.to_str()?.to_owned(),
        None => fs::read_to_string(root.join("version")).ok()?,
    };
    // Several versions may be given, the first is the active one.
    let first = version.split([':', '\n']).next()?.trim();
    (!first.is_empty()).then(|| root.join("versions").join(first))
}

/// The folders of packages under a Python prefix.
fn packages_of(prefix: &Path) -> Vec<PathBuf> {
    if cfg!(windows) {
        return vec![prefix.join("Lib").join("site-packages")];
    }
    let mut pythons: Vec<PathBuf> = entries(&prefix.join("lib"))
        .into_iter()
        .filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("python3"))
        })
        .collect();
    pythons.sort();
    pythons.iter().rev().flat_map(|p| [p.join("site-packages"), p.join("dist-packages")]).collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Tries the candidates in order and stops at the first that works.
///
/// Each is tried by running `<probe_command> __probe-runtime <path>` (our own executable, which
/// calls [`super::self_test_child`], prints the version on standard output and ends with 0, or
/// prints the reason on standard error and ends otherwise). Answers are kept in
/// `<data_dir>/runtime/probes.json`; when that can't be read or written, everything is tried again.
pub fn find_runtime(
    candidates: &[RuntimeCandidate],
    data_dir: &Path,
    probe_command: &Path,
) -> Probe {
    let cache_path = data_dir.join("runtime").join("probes.json");
    let mut cache = Cache::read(&cache_path);
    let known = cache.answers.len();
    let mut probe = Probe { found: None, failures: Vec::new() };
    for candidate in candidates {
        match try_candidate(candidate, &mut cache, probe_command) {
            Ok(version) => {
                probe.found = Some(FoundEngine::OnnxRuntime {
                    library: candidate.path.clone(),
                    version,
                    origin: candidate.origin,
                });
                break;
            }
            Err(reason) => {
                let failure = ProbeFailure { candidate: candidate.clone(), reason };
                match &failure.reason {
                    FailureReason::Missing => {}
                    // Who names one wants to know why it is not the one.
                    FailureReason::Untrusted(_) if candidate.origin == FROM_ENVIRONMENT => {
                        tracing::warn!(%failure, "an ONNX Runtime is not used");
                    }
                    _ => tracing::debug!(%failure, "an ONNX Runtime can't be used"),
                }
                probe.failures.push(failure);
            }
        }
    }
    if cache.answers.len() != known {
        cache.write(&cache_path);
    }
    probe
}

fn try_candidate(
    candidate: &RuntimeCandidate,
    cache: &mut Cache,
    probe_command: &Path,
) -> Result<String, FailureReason> {
    let Some(stamp) = Stamp::of(&candidate.path) else { return Err(FailureReason::Missing) };
    // Before the child: what a library does when it is loaded, it does as this user there too.
    check_library(&candidate.path)?;
    if let Some(answer) = cache.answer(&stamp) {
        return answer.clone().into_result();
    }
    let result = run_child(probe_command, &candidate.path, DEADLINE);
    let answer = match &result {
        Ok(version) => Some(Answer::Version(version.clone())),
        Err(FailureReason::Refused(words)) => Some(Answer::Refused(words.clone())),
        // A busy machine, or a command that is not ours: worth another try.
        Err(_) => None,
    };
    if let Some(answer) = answer {
        cache.remember(stamp, answer);
    }
    result
}

/// Those of the candidates that are there and are not even tried, because others can change them.
pub fn untrusted(candidates: &[RuntimeCandidate]) -> Vec<ProbeFailure> {
    let there = candidates.iter().filter(|candidate| candidate.path.exists());
    let failure = |candidate: &RuntimeCandidate| {
        let reason = check_library(&candidate.path).err()?;
        Some(ProbeFailure { candidate: candidate.clone(), reason })
    };
    there.filter_map(failure).collect()
}

/// Whether nobody else may write the library, nor the other libraries of ONNX Runtime beside it,
/// which it loads.
fn check_library(path: &Path) -> Result<(), FailureReason> {
    ground::check(path).map_err(FailureReason::Untrusted)?;
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    for folder in [path.parent(), real.parent()].into_iter().flatten() {
        for beside in entries(folder) {
            let is_one = beside
                .file_name()
                .is_some_and(|name| name.as_encoded_bytes().starts_with(b"libonnxruntime"));
            if is_one {
                ground::check(&beside).map_err(FailureReason::Untrusted)?;
            }
        }
    }
    Ok(())
}

/// Runs the child and waits for it, but not for ever.
fn run_child(command: &Path, library: &Path, deadline: Duration) -> Result<String, FailureReason> {
    let end = Instant::now() + deadline;
    let mut child = Command::new(command)
        .arg(PROBE_SUBCOMMAND)
        .arg(library)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| FailureReason::NoChild(error.kind()))?;
    let output = child.stdout.take().map(reading);
    let complaint = child.stderr.take().map(reading);
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < end => thread::sleep(Duration::from_millis(2)),
            Ok(None) | Err(_) => {
                // It may be gone by itself in the meantime; either way it is waited for.
                let _ = child.kill();
                let _ = child.wait();
                return Err(FailureReason::TimedOut);
            }
        }
    };
    let text = |reader: Option<thread::JoinHandle<String>>| {
        reader.and_then(|reader| reader.join().ok()).unwrap_or_default()
    };
    let (output, complaint) = (text(output), text(complaint));
    let version = last_line(&output);
    if status.success() && !version.is_empty() {
        return Ok(version);
    }
    let words = last_line(&complaint);
    Err(FailureReason::Refused(if words.is_empty() {
        format!("the test ended with {status}")
    } else {
        words
    }))
}

/// Reads a pipe beside the waiting, so that a child that talks much does not get stuck.
fn reading(pipe: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read until an error is good enough for a message.
        let _ = pipe.take(64 * 1024).read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// The last line with words in it, at most 300 characters, without control characters.
fn last_line(text: &str) -> String {
    let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    line.trim().chars().filter(|c| !c.is_control()).take(300).collect()
}

/// What a library looked like when it was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    path: PathBuf,
    size: u64,
    modified_ns: u128,
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let path = fs::canonicalize(path).ok()?;
        let metadata = fs::metadata(&path).ok()?;
        let modified = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some(Self { size: metadata.len(), modified_ns: modified.as_nanos(), path })
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Version(String),
    Refused(String),
}

impl Answer {
    fn into_result(self) -> Result<String, FailureReason> {
        match self {
            Self::Version(version) => Ok(version),
            Self::Refused(words) => Err(FailureReason::Refused(words)),
        }
    }
}

/// Answers of earlier runs, of this version of modtool only.
#[derive(Debug, Serialize, Deserialize)]
struct Cache {
    modtool: String,
    answers: Vec<(Stamp, Answer)>,
}

impl Cache {
    fn empty() -> Self {
        Self { modtool: env!("CARGO_PKG_VERSION").to_owned(), answers: Vec::new() }
    }

    fn read(path: &Path) -> Self {
        let read =
            fs::read(path).ok().and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
        read.filter(|cache| cache.modtool == env!("CARGO_PKG_VERSION")).unwrap_or_else(Self::empty)
    }

    fn answer(&self, stamp: &Stamp) -> Option<&Answer> {
        self.answers.iter().find(|(known, _)| known == stamp).map(|(_, answer)| answer)
    }

    fn remember(&mut self, stamp: Stamp, answer: Answer) {
        self.answers.retain(|(known, _)| known.path != stamp.path);
        self.answers.push((stamp, answer));
    }

    /// A cache that can't be written costs time, nothing else.
    fn write(&self, path: &Path) {
        let written = || -> std::io::Result<()> {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            let partial = path.with_extension(format!("json.{}", std::process::id()));
            fs::write(&partial, serde_json::to_vec_pretty(self)?)?;
            fs::rename(&partial, path)
        };
        if let Err(error) = written() {
            tracing::debug!(path = %path.display(), %error, "can't keep the answers of the probes");
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// Stands in for our own executable: a script that writes down that it was called.
    fn command(folder: &Path, script: &str) -> PathBuf {
        let path = folder.join("modtool");
        let calls = folder.join("calls");
        let text = format!("#!/bin/sh\necho \"$1 $2\" >> {}\n{script}\n", calls.display());
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
        path
    }

    fn calls(folder: &Path) -> Vec<String> {
        let text = fs::read_to_string(folder.join("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn library(folder: &Path, name: &str) -> RuntimeCandidate {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("has a parent")).expect("made");
        fs::write(&path, b"not really a library").expect("written");
        RuntimeCandidate { path, origin: "the test" }
    }

    #[test]
    fn the_first_that_works_is_taken_and_remembered() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (bad, good) = (library(folder.path(), "bad.so"), library(folder.path(), "good.so"));
        let missing = RuntimeCandidate { path: folder.path().join("none.so"), origin: "the test" };
        let script = "case $2 in *bad*) echo it is too old >&2; exit 1;; *) echo 1.32.0;; esac";
        let command = command(folder.path(), script);
        let candidates = [missing, bad.clone(), good.clone(), library(folder.path(), "third.so")];
        for _ in 0..2 {
            let probe = find_runtime(&candidates, folder.path(), &command);
            let found = probe.found.expect("one works");
            assert_eq!(found.library(), Some(good.path.as_path()));
            assert_eq!((found.name(), found.version()), ("ONNX Runtime", "1.32.0"));
            let texts: Vec<String> = probe.failures.iter().map(ToString::to_string).collect();
            assert_eq!(texts.len(), 2);
            assert!(texts[0].ends_with("none.so (the test): there is no such file"), "{texts:?}");
            assert!(texts[1].ends_with("bad.so (the test): it is too old"), "{texts:?}");
        }
        // Once each: the second time the answers were known, and the third was never needed.
        let asked: Vec<String> = [&bad, &good]
            .map(|candidate| format!("{PROBE_SUBCOMMAND} {}", candidate.path.display()))
            .to_vec();
        assert_eq!(calls(folder.path()), asked);

        fs::write(&good.path, b"another build of the library").expect("written");
        find_runtime(&candidates, folder.path(), &command);
        assert_eq!(calls(folder.path()).len(), 3, "a changed library is tried again");
        fs::write(folder.path().join("runtime/probes.json"), b"{broken").expect("written");
        let probe = find_runtime(&candidates, folder.path(), &command);
        assert!(probe.found.is_some(), "a broken memory is no obstacle");
        assert_eq!(calls(folder.path()).len(), 5);
    }

    #[test]
    fn a_library_that_hangs_is_given_up_and_not_remembered() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let hanging = library(folder.path(), "hangs.so");
        let command = command(folder.path(), "exec sleep 600");
        let result = run_child(&command, &hanging.path, Duration::from_millis(200));
        assert_eq!(result, Err(FailureReason::TimedOut));
        let mut cache = Cache::empty();
        let nothing = folder.path().join("no such command");
        let result = try_candidate(&hanging, &mut cache, &nothing);
        assert_eq!(result, Err(FailureReason::NoChild(std::io::ErrorKind::NotFound)));
        assert!(cache.answers.is_empty());
    }

    #[test]
    fn a_library_that_crashes_the_child_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let command = command(folder.path(), "kill -SEGV $$");
        let result = run_child(&command, Path::new("x.so"), DEADLINE);
        assert!(
            matches!(&result, Err(FailureReason::Refused(words)) if words.contains("signal")),
            "{result:?}"
        );
    }

    #[test]
    fn libraries_are_looked_for_in_order() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let named = library(folder.path(), "mine/libonnxruntime.so.1.30.0");
        let capi = "venv/lib/python3.11/site-packages/onnxruntime/capi";
        let older = library(folder.path(), &format!("{capi}/libonnxruntime.so.1.9.0"));
        let newer = library(folder.path(), &format!("{capi}/libonnxruntime.so.1.32.0"));
        library(folder.path(), &format!("{capi}/libonnxruntime_providers_shared.so"));
        let installed = library(folder.path(), "data/runtime/libonnxruntime.so");
        let variable = |name: &str| match name {
            "ORT_DYLIB_PATH" => Some(named.path.clone().into_os_string()),
            "VIRTUAL_ENV" => Some(folder.path().join("venv").into_os_string()),
            _ => None,
        };
        let data_dir = folder.path().join("data");
        if cfg!(target_os = "linux") {
            let found = candidates_from(None, &data_dir, &variable);
            let paths: Vec<&Path> = found.iter().map(|c| c.path.as_path()).collect();
            let expected = [&named.path, &installed.path, &newer.path, &older.path];
            assert_eq!(paths[..4], expected.map(PathBuf::as_path));
            assert!(paths[4..].iter().all(|path| path.is_absolute()), "{paths:?}");
            let only = candidates_from(Some(&folder.path().join("mine")), &data_dir, &variable);
            assert_eq!(only, [RuntimeCandidate { path: named.path, origin: "as asked for" }]);
        }
    }

    #[test]
    fn the_python_on_the_path_leads_to_its_packages() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path();
        for path in ["opt/bin/python3.12", "shims/python3"] {
            library(root, path);
        }
        let pyenv = root.join("versions/3.11.9");
        for prefix in [root.join("opt"), root.join("env"), pyenv.clone()] {
            fs::create_dir_all(prefix.join("lib/python3.12")).expect("made");
            fs::create_dir_all(prefix.join("bin")).expect("made");
        }
        std::os::unix::fs::symlink(root.join("opt/bin/python3.12"), root.join("env/bin/python3"))
            .expect("linked");
        let with_path = |path: PathBuf| {
            python_packages(&move |name| (name == "PATH").then(|| path.clone().into_os_string()))
        };
        let found = with_path(root.join("env/bin"));
        assert!(found.contains(&root.join("env/lib/python3.12/site-packages")), "{found:?}");
        let real = fs::canonicalize(root).expect("is there");
        assert!(found.contains(&real.join("opt/lib/python3.12/site-packages")), "{found:?}");
        fs::write(root.join("version"), "3.11.9\n3.10.1\n").expect("written");
        let found = with_path(root.join("shims"));
        assert!(found.contains(&pyenv.join("lib/python3.12/site-packages")), "{found:?}");
    }

    #[test]
    fn only_the_runtimes_own_names_count() {
        if cfg!(target_os = "linux") {
            assert_eq!(library_version("libonnxruntime.so"), Some(vec![]));
            assert_eq!(library_version("libonnxruntime.so.1.32.0"), Some(vec![1, 32, 0]));
            assert_eq!(library_version("libonnxruntime.so.1.32.0.bak"), None);
            assert_eq!(library_version("libonnxruntime_providers_cuda.so"), None);
        }
    }

    #[test]
    fn a_message_is_one_clean_line() {
        assert_eq!(last_line("first\n  last\x1b[31m \n\n"), "last[31m");
        assert_eq!(last_line(""), "");
        assert_eq!(last_line(&"x".repeat(900)).len(), 300);
    }
}
