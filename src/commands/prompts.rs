//! What a model made of the policies' prompts, remembered in the data folder for every workspace.
//!
//! A large model takes seconds for the prompts of a dozen policies, at each `score` and each
//! `policy test` while somebody looks for better words. One file a model, one line a text; what
//! can't be read in it is embedded again.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::config::Config;
use crate::moderation::escape::escape_path;
use crate::moderation::{Embedding, Fingerprint};

/// A file that has grown past this, with prompts that were changed long ago, is begun anew.
const MOST_BYTES: u64 = 16 << 20;

/// The prompts that a model has embedded before on this machine.
#[derive(Debug)]
pub(super) struct PromptMemory(PathBuf);

impl PromptMemory {
    /// Those of the model with this fingerprint.
    pub(super) fn of(config: &Config, fingerprint: &Fingerprint) -> Self {
        Self(config.data_dir.join("prompts").join(format!("{}.jsonl", fingerprint.0)))
    }

    /// The embedding of each text that is remembered, `dim` components each.
    pub(super) fn known(&self, texts: &[String], dim: usize) -> Vec<Option<Embedding>> {
        let small = fs::metadata(&self.0).is_ok_and(|meta| meta.len() <= MOST_BYTES);
        let lines =
            if small { fs::read_to_string(&self.0).unwrap_or_default() } else { String::new() };
        let remembered: HashMap<String, Embedding> =
            lines.lines().filter_map(|line| read_line(line, dim)).collect();
        texts.iter().map(|text| remembered.get(text).cloned()).collect()
    }

    /// Remembers more of them. Where the folder can't be written to, they are embedded again the
    /// next time.
    pub(super) fn add<'a>(&self, new: impl IntoIterator<Item = (&'a String, &'a Embedding)>) {
        if let Err(error) = append(&self.0, new) {
            tracing::debug!(file = %escape_path(&self.0), %error, "prompts are not remembered");
        }
    }

    /// Forgets what a model that is being removed made of them.
    pub(super) fn forget(&self) {
        // Most models never had a file.
        let _ = fs::remove_file(&self.0);
    }
}

fn read_line(line: &str, dim: usize) -> Option<(String, Embedding)> {
    let line: Value = serde_json::from_str(line).ok()?;
    let bytes = STANDARD.decode(line["vector"].as_str()?).ok()?;
    let (parts, rest) = bytes.as_chunks::<4>();
    let vector: Vec<f32> = parts.iter().map(|part| f32::from_le_bytes(*part)).collect();
    // Only unit vectors were written: anything else was damaged.
    let squared: f32 = vector.iter().map(|x| x * x).sum();
    let whole = rest.is_empty() && vector.len() == dim && (squared - 1.0).abs() < 1e-3;
    let embedding = Embedding::normalised(vector).ok().filter(|_| whole)?;
    Some((line["text"].as_str()?.to_owned(), embedding))
}

fn append<'a>(
    file: &Path,
    new: impl IntoIterator<Item = (&'a String, &'a Embedding)>,
) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    if fs::metadata(file).is_ok_and(|meta| meta.len() > MOST_BYTES) {
        fs::remove_file(file)?;
    }
    // In one piece, because others may write too, and on a line of its own after a torn one.
    let mut lines = String::from("\n");
    for (text, embedding) in new {
        let vector: Vec<u8> = embedding.as_slice().iter().flat_map(|x| x.to_le_bytes()).collect();
        let line = json!({"text": text, "vector": STANDARD.encode(vector)});
        lines.push_str(&line.to_string());
        lines.push('\n');
    }
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600);
    options.open(file)?.write_all(lines.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(values: [f32; 3]) -> Embedding {
        Embedding::normalised(values.to_vec()).expect("has a direction")
    }

    fn texts(texts: [&str; 3]) -> Vec<String> {
        texts.map(str::to_owned).to_vec()
    }

    #[test]
    fn what_was_added_is_known_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let memory = PromptMemory(folder.path().join("prompts/a.jsonl"));
        let texts = texts(["a knife", "a \"gun\"\nand more", "a cat"]);
        assert_eq!(memory.known(&texts, 3), [None, None, None]);
        let (knife, gun) = (unit([1.0, 2.0, 3.0]), unit([-0.3, 0.0, 0.1]));
        memory.add([(&texts[0], &knife)]);
        memory.add([(&texts[1], &gun)]);
        let known = memory.known(&texts, 3);
        for (found, wanted) in known.iter().zip([Some(knife), Some(gun), None]) {
            let cosine = found.as_ref().zip(wanted.as_ref()).map(|(a, b)| a.cosine(b));
            assert!(cosine.is_none_or(|cosine| cosine > 0.999_999), "{cosine:?}");
            assert_eq!(found.is_some(), wanted.is_some());
        }
        assert_eq!(memory.known(&texts, 4), [None, None, None], "another model's length");
        memory.forget();
        assert_eq!(memory.known(&texts, 3), [None, None, None]);
    }

    #[test]
    fn damage_costs_the_damaged_lines_alone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("a.jsonl");
        let memory = PromptMemory(file.clone());
        let texts = texts(["a knife", "a gun", "a cat"]);
        let vectors = [unit([1.0, 2.0, 3.0]), unit([3.0, 2.0, 1.0]), unit([1.0, 0.0, 0.0])];
        memory.add(texts.iter().zip(&vectors).take(2));
        let whole = fs::read_to_string(&file).expect("written");
        // The second line is cut off, as by a crash; what is added later is read all the same.
        fs::write(&file, &whole[..whole.len() - 9]).expect("cut off");
        memory.add([(&texts[2], &vectors[2])]);
        let known = memory.known(&texts, 3);
        assert_eq!(known.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true]);
        // A vector that is no longer of unit length was damaged.
        let other = STANDARD.encode([0, 0, 128, 63, 0, 0, 128, 63, 0, 0, 0, 0]);
        let line = json!({"text": "a gun", "vector": other});
        fs::write(&file, format!("{line}\n")).expect("written");
        assert_eq!(memory.known(&texts, 3), [None, None, None]);
        fs::write(&file, [0xFF; 64]).expect("written");
        assert_eq!(memory.known(&texts, 3), [None, None, None]);
    }
}
