//! The fields of a policy as they are written, before anything is checked.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_yaml::{Location, Spanned};

use crate::moderation::{Mode, OnBlock, SafeView, Scoring, Severity};

use super::Problems;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PolicyYaml {
    pub(super) id: Spanned<String>,
    pub(super) title: Option<String>,
    #[serde(default)]
    pub(super) description: String,
    #[serde(default = "medium", deserialize_with = "spelled_severity")]
    pub(super) severity: Severity,
    #[serde(default = "live", deserialize_with = "spelled_mode")]
    pub(super) mode: Mode,
    pub(super) prompts: Vec<Spanned<PromptYaml>>,
    #[serde(default)]
    pub(super) contrast: Vec<Spanned<PromptYaml>>,
    pub(super) templates: Option<Vec<Spanned<String>>>,
    #[serde(default = "contrast")]
    pub(super) scoring: Spanned<ScoringYaml>,
    pub(super) thresholds: Spanned<ThresholdsYaml>,
    #[serde(default = "everywhere")]
    pub(super) scope: Spanned<ScopeYaml>,
    #[serde(default = "blur", deserialize_with = "spelled_safe_view")]
    pub(super) safe_view: SafeView,
    #[serde(default = "nothing_on_block", deserialize_with = "spelled_on_block")]
    pub(super) on_block: OnBlock,
    pub(super) views: Option<Spanned<String>>,
    pub(super) min_precision: Option<Spanned<f32>>,
    pub(super) min_decisions: Option<Spanned<u64>>,
    #[serde(default)]
    pub(super) inherit: bool,
    pub(super) calibration: Option<Spanned<CalibrationYaml>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CalibrationYaml {
    pub(super) slope: f32,
    pub(super) intercept: f32,
    pub(super) fitted_for: String,
}

impl PolicyYaml {
    /// Fields of the agreed format that this version can't honour yet. Accepting them silently
    /// would promise a moderator something that does not happen.
    pub(super) fn later_fields(&self, problems: &mut Problems) {
        let later = "this version does not support it yet; remove the line";
        if let Some(field) = self.views.as_ref().filter(|field| field.value != "whole") {
            problems.at(field, format_args!("`views: {}`", field.value), later);
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ThresholdsYaml {
    pub(super) review: f32,
    pub(super) block: f32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ScopeYaml {
    #[serde(default = "all_paths")]
    pub(super) include: Globs,
    #[serde(default = "no_paths")]
    pub(super) exclude: Globs,
}

/// A list of globs, with the places of the list and of each.
pub(super) type Globs = Spanned<Vec<Spanned<String>>>;

#[derive(Debug)]
pub(super) struct PromptYaml {
    pub(super) text: String,
    pub(super) weight: f32,
}

/// So that the value's place is kept.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct ScoringYaml(#[serde(deserialize_with = "spelled_scoring")] pub(super) Scoring);

/// By hand, because an untagged enum would lose the place and the reason of a mistake.
impl<'de> Deserialize<'de> for PromptYaml {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrMap;

        impl<'de> Visitor<'de> for TextOrMap {
            type Value = PromptYaml;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, or {text: …, weight: …}")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<PromptYaml, E> {
                Ok(PromptYaml { text: text.to_owned(), weight: 1.0 })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<PromptYaml, A::Error> {
                #[derive(Deserialize)]
                #[serde(deny_unknown_fields)]
                struct Weighted {
                    text: String,
                    #[serde(default = "one")]
                    weight: f32,
                }
                let weighted = Weighted::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(PromptYaml { text: weighted.text, weight: weighted.weight })
            }
        }

        deserializer.deserialize_any(TextOrMap)
    }
}

fn one() -> f32 {
    1.0
}

fn medium() -> Severity {
    Severity::Medium
}

fn live() -> Mode {
    Mode::Live
}

fn contrast() -> Spanned<ScoringYaml> {
    nowhere(ScoringYaml(Scoring::Contrast))
}

fn blur() -> SafeView {
    SafeView::Blur
}

fn nothing_on_block() -> OnBlock {
    OnBlock::None
}

fn all_paths() -> Globs {
    nowhere(vec![nowhere("**".to_owned())])
}

fn no_paths() -> Globs {
    nowhere(Vec::new())
}

fn everywhere() -> Spanned<ScopeYaml> {
    nowhere(ScopeYaml { include: all_paths(), exclude: no_paths() })
}

/// A value that no file states.
fn nowhere<T>(value: T) -> Spanned<T> {
    Spanned::new(value, Location::UNKNOWN, Location::UNKNOWN)
}

/// Reads one of the core's enums by its one spelling.
macro_rules! spelled_as {
    ($function:ident, $kind:ident) => {
        fn $function<'de, D: Deserializer<'de>>(deserializer: D) -> Result<$kind, D::Error> {
            let text = String::deserialize(deserializer)?;
            let known: Vec<_> = $kind::ALL.iter().map(|value| value.as_str()).collect();
            $kind::parse(&text).ok_or_else(|| {
                de::Error::custom(format_args!("`{text}` is not one of {}", known.join(", ")))
            })
        }
    };
}
spelled_as!(spelled_severity, Severity);
spelled_as!(spelled_mode, Mode);
spelled_as!(spelled_scoring, Scoring);
spelled_as!(spelled_safe_view, SafeView);
spelled_as!(spelled_on_block, OnBlock);
