//! The small model that is compiled in, so that the tool works with no download.

use std::path::Path;

use super::{Manifest, Model, ModelFiles, VisionError};

/// Bytes of the built-in model.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) manifest: &'static [u8],
    pub(crate) image: &'static [u8],
    pub(crate) text: &'static [u8],
    pub(crate) tokenizer: &'static [u8],
}

pub(crate) const FILES: &Files = &Files {
    manifest: include_bytes!("../../../models/builtin/model.yaml"),
    image: include_bytes!("../../../models/builtin/image.onnx"),
    text: include_bytes!("../../../models/builtin/text.onnx"),
    tokenizer: include_bytes!("../../../models/builtin/tokenizer.json"),
};

/// Bytes of the model in the binary.
pub const SIZE: u64 =
    (FILES.manifest.len() + FILES.image.len() + FILES.text.len() + FILES.tokenizer.len()) as u64;

/// The whole model card, Markdown.
pub const CARD: &str = include_str!("../../../models/builtin/CARD.md");

/// How well a model does on a topic of moderation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ability {
    /// ROC-AUC of 0.95 and more.
    Good,
    /// ROC-AUC of 0.85 and more.
    Fair,
    /// Less: expect misses.
    Weak,
}

/// One row of the card's table of topics.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Topic {
    /// The topic, as the starter policies name it.
    pub name: &'static str,
    /// How well the model does.
    pub ability: Ability,
    /// Area under the ROC curve against everyday photos, 0..=1.
    pub auc: f32,
    /// Share found when 5 % of everyday photos are flagged, 0..=1.
    pub recall_at_5_percent: f32,
}

const fn topic(name: &'static str, ability: Ability, auc: f32, recall_at_5_percent: f32) -> Topic {
    Topic { name, ability, auc, recall_at_5_percent }
}

/// What the model was measured on; the figures are those of [`CARD`] (a test compares them).
pub const TOPICS: [Topic; 12] = [
    topic("screenshots", Ability::Good, 1.00, 1.000),
    topic("documents", Ability::Good, 1.00, 1.000),
    topic("fire", Ability::Good, 0.98, 0.818),
    topic("crash", Ability::Good, 0.96, 0.692),
    topic("alcohol", Ability::Fair, 0.94, 0.565),
    topic("drawings", Ability::Fair, 0.94, 0.720),
    topic("weapons", Ability::Fair, 0.91, 0.750),
    topic("memes", Ability::Fair, 0.90, 0.580),
    topic("gambling", Ability::Fair, 0.90, 0.478),
    topic("money", Ability::Fair, 0.87, 0.421),
    topic("smoking", Ability::Weak, 0.75, 0.200),
    topic("pills", Ability::Weak, 0.70, 0.000),
];

/// The topics on which misses are to be expected.
pub fn weak_topics() -> impl Iterator<Item = &'static Topic> {
    topics_of(Ability::Weak)
}

/// The topics of one ability.
pub fn topics_of(ability: Ability) -> impl Iterator<Item = &'static Topic> {
    TOPICS.iter().filter(move |topic| topic.ability == ability)
}

/// What the model was never trained on, with words that give such a prompt away.
const UNKNOWN: [(&str, &[&str]); 4] = [
    (
        "nudity",
        &[
            "nude",
            "naked",
            "nudity",
            "porn",
            "pornography",
            "sex",
            "sexual",
            "nsfw",
            "genitals",
            "breasts",
            "topless",
        ],
    ),
    (
        "violence",
        &[
            "blood",
            "bloody",
            "gore",
            "corpse",
            "corpses",
            "violence",
            "violent",
            "torture",
            "beheading",
            "beating",
            "wound",
            "wounds",
        ],
    ),
    ("hate symbols", &["swastika", "nazi", "hate", "klan"]),
    ("self-harm", &["self-harm", "suicide", "noose", "self-injury"]),
];

/// The topic that a prompt is about and that the model can't see, if there is one: a guess by its
/// words, for a warning.
pub fn unknown_topic(prompt: &str) -> Option<&'static str> {
    let prompt = prompt.to_lowercase();
    let is_part = |character: char| character.is_alphanumeric() || character == '-';
    let words: Vec<&str> = prompt.split(|character| !is_part(character)).collect();
    let about = |(_, known): &&(&str, &[&str])| words.iter().any(|word| known.contains(word));
    UNKNOWN.iter().find(about).map(|(topic, _)| *topic)
}

/// The built-in model. Its files can't change, so their hashes are checked by a test
/// instead of when they are used.
///
/// # Errors
/// Those of [`super::load_dir`]; a test shows that there are none.
pub fn builtin() -> Result<Model, VisionError> {
    let manifest = Manifest::parse(Path::new("builtin/model.yaml"), FILES.manifest)?;
    Ok(manifest.into_model(ModelFiles::Builtin(FILES)))
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::vision::model::hex;

    #[test]
    fn the_compiled_files_are_those_of_the_description() {
        let manifest =
            Manifest::parse(Path::new("model.yaml"), FILES.manifest).expect("a good model");
        for (name, bytes) in [
            ("image.onnx", FILES.image),
            ("text.onnx", FILES.text),
            ("tokenizer.json", FILES.tokenizer),
        ] {
            assert_eq!(manifest.files[name], hex(&Sha256::digest(bytes)), "{name}");
        }
        assert_eq!(manifest.files.len(), 3);
    }

    #[test]
    fn prompts_about_what_it_never_saw_are_told_by_their_words() {
        assert_eq!(unknown_topic("a Naked person"), Some("nudity"));
        assert_eq!(unknown_topic("a noose (self-harm)"), Some("self-harm"));
        assert_eq!(unknown_topic("a bloodhound in Essex"), None);
    }

    #[test]
    fn the_topics_are_those_of_the_card() {
        for topic in TOPICS {
            let row = CARD
                .lines()
                .find(|line| line.starts_with(&format!("| {} |", topic.name)))
                .unwrap_or_else(|| panic!("{} is not on the card", topic.name));
            let auc = format!("| {:.2} (", topic.auc);
            let recall = format!("| {:.1} % |", topic.recall_at_5_percent * 100.0);
            assert!(row.contains(&auc) && row.contains(&recall), "{row}");
            let expected = match topic.auc {
                auc if auc >= 0.95 => Ability::Good,
                auc if auc >= 0.85 => Ability::Fair,
                _ => Ability::Weak,
            };
            assert_eq!(topic.ability, expected, "{row}");
        }
        let names: Vec<&str> = weak_topics().map(|topic| topic.name).collect();
        assert_eq!(names, ["smoking", "pills"]);
    }
}
