//! Fetches a wheel with pip, in a way that nothing but the user's own words can change: no module,
//! setting or index of the folder or the environment that it is called in.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use sha2::{Digest as _, Sha256};

use crate::ground;
use crate::moderation::escape::{escape_lines, escape_path};

use super::wheels::{VERSION, WHEELS};

/// What pip needs of the environment: its user's home, proxies, and which authorities the machine
/// trusts.
const KEPT: [&str; 15] = [
    "HOME",
    "LANG",
    "LC_ALL",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
];

/// What is to be fetched.
pub(super) struct Wanted<'a> {
    /// The version of ONNX Runtime.
    pub(super) version: &'a str,
    /// Hashes of the wheels that may come, hexadecimal; empty: those of the pinned version.
    pub(super) hashes: &'a [String],
    /// The index that the user named; none: pip's own.
    pub(super) index: Option<&'a str>,
}

/// Fetches the wheel for this machine into a folder of ours, which is empty.
///
/// # Errors
/// When there is no Python or pip, the index can't be reached, or what came is not one of the
/// wheels whose hashes are known.
pub(super) fn download(wanted: &Wanted, into: &Path) -> anyhow::Result<PathBuf> {
    let Wanted { version, .. } = wanted;
    let plausible = version.chars().all(|c| c.is_ascii_alphanumeric() || c == '.');
    ensure!(plausible && !version.is_empty(), "`{version}` is not a version; try {VERSION}");
    let hashes = hashes(wanted)?;
    let requirements = into.join("requirements.txt");
    fs::write(&requirements, requirements_of(version, &hashes))
        .with_context(|| format!("can't write {}", escape_path(&requirements)))?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let python = python(&path)?;
    writeln!(io::stderr(), "fetching onnxruntime=={version} with pip …")?;
    // First for the Python at hand; where there is no wheel for it, any wheel holds the library.
    let attempts: [&[&str]; 2] = [&[], &["--python-version", "3.12", "--implementation", "cp"]];
    let mut said = String::new();
    for extra in attempts {
        let run = pip(&python, &path, into, wanted.index)
            .args(extra)
            .arg("--requirement")
            .arg(&requirements)
            .output()
            .with_context(|| format!("can't run {}", escape_path(&python)))?;
        if run.status.success() {
            let wheel = wheel_in(into)?;
            must_have(&wheel, &hashes)?;
            return Ok(wheel);
        }
        String::from_utf8_lossy(&run.stderr).trim().clone_into(&mut said);
        if said.contains("No module named pip") {
            bail!(
                "{} has no pip, which fetches the library; install it (on Debian: \
                 apt install python3-pip), or run `modtool runtime install --from FILE` with a \
                 wheel or release archive that you have",
                escape_path(&python)
            );
        }
    }
    bail!(
        "pip could not fetch onnxruntime=={version}:\n{}\nwithout a network: `modtool runtime \
         install --from FILE` takes a wheel or release archive",
        escape_lines(&said)
    )
}

/// Refuses a file that has none of these SHA-256.
///
/// # Errors
/// Also when it can't be read.
pub(super) fn must_have(file: &Path, hashes: &[String]) -> anyhow::Result<()> {
    let opened = File::open(file);
    let mut opened = opened.with_context(|| format!("can't open {}", escape_path(file)))?;
    let mut sum = Sha256::new();
    let mut block = vec![0; 1 << 20];
    loop {
        let read = opened.read(&mut block);
        match read.with_context(|| format!("can't read {}", escape_path(file)))? {
            0 => break,
            length => sum.update(&block[..length]),
        }
    }
    let found = hexadecimal(&sum.finalize());
    ensure!(
        hashes.iter().any(|hash| hash.eq_ignore_ascii_case(&found)),
        "{} is not the file that was expected: its SHA-256 is {found}; nothing was installed",
        escape_path(file)
    );
    Ok(())
}

fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes every write");
        text
    })
}

/// The hashes of the wheels that may come.
fn hashes(wanted: &Wanted) -> anyhow::Result<Vec<String>> {
    if !wanted.hashes.is_empty() {
        return Ok(wanted.hashes.to_vec());
    }
    ensure!(
        wanted.version == VERSION,
        "only the wheels of {VERSION} are known by their hashes; add --sha256 with the hash of the \
         wheel of {} for this machine, as its index lists it",
        wanted.version
    );
    Ok(WHEELS.iter().map(|(_, hash)| (*hash).to_owned()).collect())
}

fn requirements_of(version: &str, hashes: &[String]) -> String {
    let hashes: Vec<_> = hashes.iter().map(|hash| format!(" --hash=sha256:{hash}")).collect();
    format!("onnxruntime=={version}{}\n", hashes.join(" \\\n"))
}

/// pip, run in a folder of ours, where Python looks for no module (`-I`), with none of the
/// environment's settings and no file of settings (`PIP_CONFIG_FILE`).
fn pip(python: &Path, path: &OsStr, scratch: &Path, index: Option<&str>) -> Command {
    let mut command = Command::new(python);
    command
        .args(["-I", "-m", "pip", "--isolated", "download", "--no-deps", "--only-binary=:all:"])
        .args(["--require-hashes", "--no-cache-dir", "--disable-pip-version-check", "--no-input"])
        .args(index.into_iter().flat_map(|url| ["--index-url", url]))
        .args(["--quiet", "--dest"])
        .arg(scratch)
        .current_dir(scratch)
        .env_clear()
        .envs(KEPT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .env("PATH", joined(&absolute_folders(path)))
        .env("PIP_CONFIG_FILE", "/dev/null")
        .env("TMPDIR", scratch);
    command
}

/// The first `python3` of the search path that nobody else may write. Entries that are not
/// absolute mean the current folder, where a stranger's file may lie.
fn python(path: &OsStr) -> anyhow::Result<PathBuf> {
    let mut refused = Vec::new();
    let files = absolute_folders(path).into_iter().map(|folder| folder.join("python3"));
    for file in files.filter(|file| file.is_file()) {
        match ground::check(&file) {
            Ok(()) => return Ok(file),
            Err(why) => refused.push(format!("{} is not used: {why}", escape_path(&file))),
        }
    }
    ensure!(refused.is_empty(), "{}", refused.join("\n"));
    bail!(
        "python3 was not found, which fetches the library; install python3 with pip, or \
         download the onnxruntime wheel or release archive for this machine elsewhere and \
         run `modtool runtime install --from FILE`"
    )
}

fn absolute_folders(path: &OsStr) -> Vec<PathBuf> {
    std::env::split_paths(path).filter(|folder| folder.is_absolute()).collect()
}

fn joined(folders: &[PathBuf]) -> OsString {
    // They came out of a joined path, so none has a colon.
    std::env::join_paths(folders).unwrap_or_default()
}

fn wheel_in(folder: &Path) -> anyhow::Result<PathBuf> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension() == Some(OsStr::new("whl")) {
            return Ok(path);
        }
    }
    bail!("pip fetched no wheel into {}", escape_path(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_is_not_known_needs_a_hash() {
        let wanted = Wanted { version: "1.31.0", hashes: &[], index: None };
        let error = hashes(&wanted).expect_err("nobody knows its wheels");
        assert!(error.to_string().contains("--sha256"), "{error}");
        let known = Wanted { version: VERSION, ..wanted };
        assert_eq!(hashes(&known).expect("known").len(), WHEELS.len());
        let own = ["ab".repeat(32)];
        let named = Wanted { version: "1.31.0", hashes: &own, index: None };
        assert_eq!(hashes(&named).expect("named"), own);
        let text = requirements_of("1.31.0", &own);
        assert_eq!(text, format!("onnxruntime==1.31.0 --hash=sha256:{}\n", own[0]));
    }

    #[test]
    fn python_is_looked_for_in_absolute_folders_only() {
        let path = OsStr::new(".::bin:/usr/bin:/opt/x");
        assert_eq!(absolute_folders(path), [Path::new("/usr/bin"), Path::new("/opt/x")]);
    }

    #[test]
    fn pip_gets_nothing_of_the_environment_that_could_lead_it_elsewhere() {
        let scratch = Path::new("/scratch");
        let (python, path) = (Path::new("/usr/bin/python3"), OsStr::new("/usr/bin:."));
        let chosen = pip(python, path, scratch, Some("https://index.example"));
        let words: Vec<_> = chosen.get_args().collect();
        let option = words.iter().position(|word| *word == "--index-url").expect("it was named");
        assert_eq!(words[option + 1], "https://index.example");
        let command = pip(python, path, scratch, None);
        let arguments: Vec<_> = command.get_args().collect();
        assert!(!arguments.contains(&OsStr::new("--index-url")), "pip's own");
        assert_eq!(arguments[0], "-I", "no module of the folder");
        assert_eq!(command.get_current_dir(), Some(scratch));
        let set: Vec<_> = command.get_envs().filter(|(_, value)| value.is_some()).collect();
        let names = set.iter().map(|(name, _)| name.to_string_lossy());
        for name in names {
            let ours = ["PATH", "PIP_CONFIG_FILE", "TMPDIR"].contains(&&*name);
            assert!(ours || KEPT.contains(&&*name), "{name}");
        }
        assert!(set.contains(&(OsStr::new("PATH"), Some(OsStr::new("/usr/bin")))));
    }

    #[test]
    fn a_file_of_another_hash_is_refused() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let file = dir.path().join("x.whl");
        fs::write(&file, "abc").expect("written");
        // SHA-256 of "abc", FIPS 180-2.
        let hash = "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD";
        must_have(&file, &["00".repeat(32), hash.to_owned()]).expect("it is that file");
        assert!(must_have(&file, &["00".repeat(32)]).is_err());
    }
}
