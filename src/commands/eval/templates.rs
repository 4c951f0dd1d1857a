//! The sentences that a class is put into.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use crate::moderation::Embedding;
use crate::moderation::escape::{escape, escape_path};
use crate::vision::Encoder;

use super::labels::Class;

/// Templates whose vectors are averaged (prompt ensembling, Radford et al. 2021, section 3.1.4).
pub(super) struct TemplateSet {
    /// The template, or the file's name.
    pub(super) name: String,
    pub(super) templates: Vec<String>,
}

/// The bare name, the sentence of the CLIP paper, and each file as one ensemble.
pub(super) fn sets(files: &[PathBuf]) -> anyhow::Result<Vec<TemplateSet>> {
    let alone = |template: &str| TemplateSet {
        name: template.to_owned(),
        templates: vec![template.to_owned()],
    };
    let mut sets = vec![alone("{}"), alone("a photo of a {}")];
    for file in files {
        sets.push(read(file)?);
    }
    Ok(sets)
}

/// One template a line; empty lines and lines that begin with `#` are left out.
fn read(file: &Path) -> anyhow::Result<TemplateSet> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("can't read the templates {}", escape_path(file)))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut templates = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        ensure!(
            line.matches("{}").count() == 1,
            "{}:{number}: a template needs `{{}}` exactly once, such as: a photo of a {{}}; not {}",
            escape_path(file),
            escape(line.as_bytes())
        );
        templates.push(line.to_owned());
    }
    ensure!(!templates.is_empty(), "{} has no templates", escape_path(file));
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(TemplateSet { name, templates })
}

impl TemplateSet {
    /// One vector a class.
    pub(super) fn embed(
        &self,
        encoder: &dyn Encoder,
        classes: &[Class],
    ) -> anyhow::Result<Vec<Embedding>> {
        let mut embedded = Vec::with_capacity(classes.len());
        for class in classes {
            let texts: Vec<String> = class
                .texts
                .iter()
                .flat_map(|text| self.templates.iter().map(|one| one.replace("{}", text)))
                .collect();
            for text in &texts {
                encoder.check_text(text)?;
            }
            let vectors = encoder.embed_texts(&texts)?;
            let mean = Embedding::mean(&vectors);
            embedded
                .push(mean.with_context(|| format!("class {}", escape(class.name.as_bytes())))?);
        }
        Ok(embedded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_one_ensemble_beside_the_usual_two() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let file = dir.path().join("many.txt");
        std::fs::write(&file, "# from a paper\na drawing of a {}.\n\n  a toy {}  \n")
            .expect("written");
        let sets = sets(std::slice::from_ref(&file)).expect("good templates");
        let names: Vec<_> = sets.iter().map(|set| set.name.as_str()).collect();
        assert_eq!(names, ["{}", "a photo of a {}", "many.txt"]);
        assert_eq!(sets[2].templates, ["a drawing of a {}.", "a toy {}"]);
        for wrong in ["a photo", "{} and {}", "", "# nothing"] {
            std::fs::write(&file, wrong).expect("written");
            assert!(read(&file).is_err(), "{wrong}");
        }
    }
}
