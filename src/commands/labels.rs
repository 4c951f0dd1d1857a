//! Which picture belongs to which policy: by folders, or by decisions.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::moderation::PolicyId;
use crate::moderation::escape::escape_path;
use crate::store::DecidedItem;
use crate::vision::decode::has_picture_extension;

/// Pictures, and what is known of each.
pub(super) struct Labels {
    /// Sorted by folder and name, or by the time of the decision.
    pub(super) pictures: Vec<PathBuf>,
    labels: Vec<Label>,
}

#[derive(Debug, Clone, PartialEq)]
enum Label {
    /// It belongs to these policies; of others nothing is said.
    Belongs(Vec<PolicyId>),
    /// It belongs to none.
    None,
    /// It says nothing about any policy.
    Unknown,
}

impl Labels {
    /// `DIR/POLICY/…` belongs to that policy. Where there are folders with other names, only their
    /// pictures belong to none; otherwise every other policy's pictures count as such.
    pub(super) fn of_folders(folder: &Path, policies: &[PolicyId]) -> anyhow::Result<Self> {
        let mut folders: Vec<PathBuf> = fs::read_dir(folder)
            .with_context(|| format!("can't read the folder {}", escape_path(folder)))?
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.is_dir())
            .collect();
        folders.sort();
        let (mut pictures, mut labels) = (Vec::new(), Vec::new());
        for folder in folders {
            let name = folder.file_name().unwrap_or_default();
            let label = label_of(&name.to_string_lossy(), policies);
            for picture in pictures_below(&folder)? {
                pictures.push(picture);
                labels.push(label.clone());
            }
        }
        Ok(Self { pictures, labels })
    }

    /// The same where the names of the classes are known already; a picture without one says
    /// nothing.
    pub(super) fn of_classes<'a>(
        pictures: impl Iterator<Item = (PathBuf, Option<&'a str>)>,
        policies: &[PolicyId],
    ) -> Self {
        let label =
            |class: Option<&str>| class.map_or(Label::Unknown, |class| label_of(class, policies));
        let labelled = pictures.map(|(path, class)| (path, label(class)));
        let (pictures, labels) = labelled.unzip();
        Self { pictures, labels }
    }

    /// A removal speaks for the policies that it names, an approval against all.
    pub(super) fn of_decisions(decided: Vec<DecidedItem>) -> Self {
        let label = |one: &DecidedItem| match (one.removed, one.policies.as_slice()) {
            (false, _) => Label::None,
            (true, []) => Label::Unknown,
            (true, policies) => Label::Belongs(policies.to_vec()),
        };
        let there = decided.into_iter().filter(|one| one.path.is_file());
        let (pictures, labels) = there.map(|one| (one.path.clone(), label(&one))).unzip();
        Self { pictures, labels }
    }

    /// Whether a picture belongs to a policy; `None` when nobody said.
    pub(super) fn belongs(&self, picture: usize, policy: &PolicyId) -> Option<bool> {
        match self.labels.get(picture)? {
            Label::Belongs(policies) if policies.contains(policy) => Some(true),
            // Where ordinary pictures are labelled, they alone stand against a policy.
            Label::Belongs(_) if self.labels.contains(&Label::None) => None,
            Label::Belongs(_) | Label::None => Some(false),
            Label::Unknown => None,
        }
    }

    /// Whether there are pictures that belong to a policy, and others.
    pub(super) fn has_both_sides(&self, policy: &PolicyId) -> bool {
        let has = |side| (0..self.pictures.len()).any(|p| self.belongs(p, policy) == Some(side));
        has(true) && has(false)
    }
}

fn label_of(class: &str, policies: &[PolicyId]) -> Label {
    let policy = policies.iter().find(|policy| policy.as_str() == class);
    policy.map_or(Label::None, |policy| Label::Belongs(vec![policy.clone()]))
}

/// Pictures by their names, with everything below, sorted; links are not followed.
fn pictures_below(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut pictures = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder)
            .with_context(|| format!("can't read the folder {}", escape_path(&folder)))?;
        for entry in entries.flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() && has_picture_extension(&entry.path()) {
                pictures.push(entry.path());
            }
        }
    }
    pictures.sort();
    Ok(pictures)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> PolicyId {
        PolicyId::new(name).expect("a good id")
    }

    #[test]
    fn folders_say_what_belongs() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        for file in ["fire/a.jpg", "fire/deep/b.png", "money/c.jpg", "neutral/d.jpg", "fire/x.txt"]
        {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().expect("has one")).expect("made");
            fs::write(path, "").expect("written");
        }
        let policies = [id("fire"), id("money"), id("crash")];
        let labels = Labels::of_folders(dir.path(), &policies).expect("read");
        assert_eq!(labels.pictures.len(), 4);
        let fire: Vec<_> = (0..4).map(|p| labels.belongs(p, &policies[0])).collect();
        assert_eq!(fire, [Some(true), Some(true), None, Some(false)]);
        assert!(labels.has_both_sides(&policies[1]) && !labels.has_both_sides(&policies[2]));
        fs::remove_dir_all(dir.path().join("neutral")).expect("removed");
        let labels = Labels::of_folders(dir.path(), &policies).expect("read");
        assert_eq!(labels.belongs(2, &policies[0]), Some(false), "there is nothing else");
    }

    #[test]
    fn decisions_say_what_belongs() {
        let here = PathBuf::from(file!());
        let there = std::env::current_exe().expect("a file that exists");
        let one = |path: &Path, removed, policies: &[&str]| DecidedItem {
            path: path.to_owned(),
            removed,
            policies: policies.iter().map(|name| id(name)).collect(),
        };
        let gone = here.join("not/there");
        let labels = Labels::of_decisions(vec![
            one(&there, true, &["fire"]),
            one(&gone, true, &["fire"]),
            one(&there, false, &["fire"]),
            one(&there, true, &[]),
        ]);
        let fire: Vec<_> = (0..4).map(|p| labels.belongs(p, &id("fire"))).collect();
        assert_eq!(fire, [Some(true), Some(false), None, None]);
        assert_eq!(labels.belongs(0, &id("money")), None);
    }
}
