//! Which files of a folder are policies, and which only look like some.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use crate::yaml_file::{self, YamlProblem};

use super::{Defaults, PolicyFile, PolicyProblems, collect};

/// Every `*.yaml` and `*.yml` file of a folder (in any case, not of its subfolders), by policy id.
///
/// # Errors
/// [`PolicyProblems`] with every problem of every file; then no policy may be used, because half
/// a set of rules is not what the moderator wrote.
pub fn load_dir(dir: &Path, defaults: &Defaults) -> Result<Vec<PolicyFile>, PolicyProblems> {
    let files = entries(dir)?.into_iter().filter(|path| kind(path) == Kind::Policy);
    collect(files.map(|file| (file.clone(), read(&file))), defaults)
}

/// What lies in a folder of policies, looks like one, and is not read. Hidden files and those that
/// editors leave behind are none of it.
pub fn unread(dir: &Path) -> Vec<YamlProblem> {
    let paths = entries(dir).unwrap_or_default();
    let problem = |path: PathBuf| match kind(&path) {
        Kind::Misnamed => Some(
            YamlProblem::of_file(&path, "is not read: its name does not end with .yaml")
                .with_hint("rename it if it is a policy; otherwise move it elsewhere"),
        ),
        Kind::Folder if has_policies(&path) => Some(
            YamlProblem::of_file(&path, "the policies in this folder are not read")
                .with_hint("move them one folder up"),
        ),
        _ => None,
    };
    paths.into_iter().filter_map(problem).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Policy,
    Folder,
    Misnamed,
    Other,
}

fn kind(path: &Path) -> Kind {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
    // Editors' copies, locks and swap files come and go while somebody types.
    if name.starts_with(['.', '#']) || ends(&["~", ".swp", ".swo", ".swx", ".tmp", ".part"]) {
        return Kind::Other;
    }
    if path.is_dir() {
        return Kind::Folder;
    }
    let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default().to_lowercase();
    match extension.as_str() {
        "yaml" | "yml" => Kind::Policy,
        _ if name.contains(".yaml") || name.contains(".yml") => Kind::Misnamed,
        other if yaml_file::nearest(other, &["yaml", "yml"]).is_some() => Kind::Misnamed,
        _ => Kind::Other,
    }
}

fn has_policies(dir: &Path) -> bool {
    entries(dir).unwrap_or_default().iter().any(|path| kind(path) == Kind::Policy)
}

/// A pipe in place of a file would be waited for without end.
fn read(file: &Path) -> Result<String, YamlProblem> {
    match fs::metadata(file) {
        Ok(about) if !about.is_file() => Err(YamlProblem::of_file(file, "is not a file")),
        _ => yaml_file::read(file),
    }
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, PolicyProblems> {
    let unreadable = |error: std::io::Error| {
        PolicyProblems(vec![YamlProblem::of_file(dir, format_args!("can't be read: {error}"))])
    };
    let entries = fs::read_dir(dir).map_err(unreadable)?;
    let paths: Result<Vec<_>, _> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut paths = paths.map_err(unreadable)?;
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "prompts: [a handgun]\nthresholds: {review: 0.5, block: 0.9}\n";

    fn folder(names: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a temporary folder");
        for (number, name) in names.iter().enumerate() {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, format!("id: p{number}\n{POLICY}")).expect("written");
        }
        dir
    }

    #[test]
    fn names_end_with_yaml_in_any_case_and_what_only_looks_so_is_told() {
        let good = ["UP.YAML", "a.yaml", "b.yml", "c.YmL"];
        let told = ["c.yaml.txt", "d.yaml.bak", "e.ymal", "f.yaml ", "more/x.yaml"];
        let quiet =
            ["g.yaml~", ".g.yaml.swp", "#g.yaml#", ".#g.yaml", "g.yaml.tmp", "README.md", "n.txt"];
        let dir = folder(&[&good[..], &told, &quiet].concat());
        let read = load_dir(dir.path(), &Defaults::default()).expect("good policies");
        assert_eq!(read.len(), good.len());
        let unread: Vec<String> = unread(dir.path()).iter().map(ToString::to_string).collect();
        assert_eq!(unread.len(), told.len(), "{unread:?}");
        for name in told {
            let name = name.split('/').next().expect("a name");
            assert!(unread.iter().any(|told| told.contains(name)), "{name}: {unread:?}");
        }
    }

    #[test]
    fn a_link_to_nothing_is_a_problem_and_not_one_policy_less() {
        let dir = folder(&["a.yaml"]);
        std::os::unix::fs::symlink("nowhere", dir.path().join("b.yaml")).expect("linked");
        let problems = load_dir(dir.path(), &Defaults::default()).expect_err("half a set of rules");
        assert!(problems.to_string().contains("b.yaml"), "{problems}");
    }
}
