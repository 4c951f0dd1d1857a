//! A policy: what a moderator does not want, in plain language, and how sure to be.

mod scope;

use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::adapter::Adapter;
use super::embedding::Fingerprint;
use super::measure::{Calibration, Share};
use super::verdict::Outcome;

pub use scope::{Scope, ScopeError, ScopeList};

/// One rule, complete: workspace defaults (templates, neutral prompts) are already filled in.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Stable name; shows in verdicts.
    pub id: PolicyId,
    /// What people read.
    pub title: String,
    /// A sentence or two for moderators.
    pub description: String,
    /// Orders the queue.
    pub severity: Severity,
    /// Whether it acts or only records.
    pub mode: Mode,
    /// What the policy is about (P); never empty.
    pub prompts: Vec<Prompt>,
    /// What looks alike and is fine (part of N).
    pub contrast: Vec<Prompt>,
    /// The workspace's neutral prompts (the rest of N).
    pub neutral: Vec<Prompt>,
    /// Each holds `{}` once, where the prompt goes; never empty.
    pub templates: Vec<String>,
    /// How cosines become a score.
    pub scoring: Scoring,
    /// Where Review and Block begin.
    pub thresholds: Thresholds,
    /// Which paths it looks at.
    pub scope: Scope,
    /// How the dashboard first shows what it flagged.
    pub safe_view: SafeView,
    /// What a Block does besides opening a task.
    pub on_block: OnBlock,
    /// What arms `on_block: hold`, and what `policy suggest` aims at.
    pub arming: Arming,
    /// Whether the outcome of a decided twin is applied instead of proposed.
    pub inherit: bool,
    /// How scores become probabilities, if that was fitted.
    pub calibration: Option<FittedCalibration>,
    /// What was learned from labelled pictures, if that is in use.
    pub adapter: Option<Arc<Adapter>>,
}

impl Policy {
    /// What a score of this policy means: `score ≥ block` → Block, `≥ review` → Review, else Allow.
    /// A score that is not a number is in doubt: Review.
    pub fn judge(&self, score: f32) -> Outcome {
        if score >= self.thresholds.block() {
            Outcome::Block
        } else if score < self.thresholds.review() {
            Outcome::Allow
        } else {
            Outcome::Review
        }
    }

    /// Every text that must be embedded for this policy: for each of its prompts, contrast prompts
    /// and neutral prompts, in that order, one text a template. [`super::Classifier::new`] takes
    /// their embeddings in the same order.
    pub fn expanded_texts(&self) -> Vec<String> {
        self.all_prompts().flat_map(|(prompt, _)| self.expand(&prompt.text)).collect()
    }

    /// All prompts with whether they are contrast (own or neutral): P, then N.
    pub fn all_prompts(&self) -> impl Iterator<Item = (&Prompt, bool)> {
        self.prompts
            .iter()
            .map(|prompt| (prompt, false))
            .chain(self.contrast.iter().chain(&self.neutral).map(|prompt| (prompt, true)))
    }

    /// One prompt put into each template.
    pub fn expand<'a>(&'a self, text: &'a str) -> impl Iterator<Item = String> + 'a {
        self.templates.iter().map(move |template| template.replace("{}", text))
    }

    /// Identifies everything that can change a verdict: all fields but title, description,
    /// severity, `safe_view`, and what only says what a verdict does. Two policies with one hash
    /// judge alike.
    pub fn hash(&self) -> PolicyHash {
        let mut hasher = Sha256::new();
        let mut field = |name: &str, value: &[u8]| hash_field(&mut hasher, name, value);
        field("id", self.id.0.as_bytes());
        field("mode", self.mode.as_str().as_bytes());
        self.hash_scoring(&mut field);
        field("review", &self.thresholds.review.to_le_bytes());
        field("block", &self.thresholds.block.to_le_bytes());
        if !self.scope.is_everything() {
            field("globs", scope::MATCHING_VERSION);
        }
        for glob in &self.scope.include {
            field("include", glob.as_bytes());
        }
        for glob in &self.scope.exclude {
            field("exclude", glob.as_bytes());
        }
        PolicyHash(hasher.finalize().into())
    }

    /// Identifies what can change a score: prompts, templates and scoring, not the thresholds.
    /// A calibration belongs to it.
    pub fn scoring_hash(&self) -> PolicyHash {
        let mut hasher = Sha256::new();
        self.hash_scoring(&mut |name, value| hash_field(&mut hasher, name, value));
        PolicyHash(hasher.finalize().into())
    }

    fn hash_scoring(&self, field: &mut dyn FnMut(&str, &[u8])) {
        field("scoring", self.scoring.as_str().as_bytes());
        for (prompt, contrast) in self.all_prompts() {
            field(if contrast { "contrast" } else { "prompt" }, prompt.text.as_bytes());
            field("weight", &prompt.weight.to_le_bytes());
        }
        for template in &self.templates {
            field("template", template.as_bytes());
        }
        if let Some(adapter) = &self.adapter {
            field("adapter", &adapter.digest());
        }
    }

    /// The same with what was learned, or refused when that was learned for other prompts or
    /// another model; `fingerprint` is that of the model in use.
    ///
    /// # Errors
    /// [`ForeignAdapter`] saying what it was learned for.
    pub fn adapted(
        &self,
        adapter: &Arc<Adapter>,
        fingerprint: &Fingerprint,
    ) -> Result<Self, ForeignAdapter> {
        let plain = Self { adapter: None, ..self.clone() };
        let name = || adapter.name();
        if adapter.policy != self.id {
            let (adapter, policy) = (name(), adapter.policy.clone());
            return Err(ForeignAdapter::Policy { adapter, policy });
        }
        if adapter.fingerprint != *fingerprint {
            let (made_for, in_use) = (adapter.fingerprint.clone(), fingerprint.clone());
            return Err(ForeignAdapter::Model { adapter: name(), made_for, in_use });
        }
        if adapter.fitted_for != plain.fitted_for(fingerprint) {
            return Err(ForeignAdapter::Prompts { adapter: name() });
        }
        Ok(Self { adapter: Some(Arc::clone(adapter)), ..plain })
    }

    /// What a calibration that is fitted now belongs to.
    pub fn fitted_for(&self, fingerprint: &Fingerprint) -> FittedFor {
        FittedFor(format!("{}-{}", self.scoring_hash().short(), fingerprint.short()))
    }

    /// The probability that a person would remove a picture with this score; none where no
    /// calibration was fitted to these prompts and this model.
    pub fn probability(&self, score: f32, fingerprint: &Fingerprint) -> Option<f64> {
        let fitted = self.calibration.as_ref()?;
        (fitted.fitted_for == self.fitted_for(fingerprint))
            .then(|| fitted.calibration.probability(score))
    }
}

/// An adapter that must not be used here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForeignAdapter {
    /// For another policy.
    #[error("{adapter} was learned for the policy {policy}")]
    Policy {
        /// Its name.
        adapter: PolicyId,
        /// What it was learned for.
        policy: PolicyId,
    },
    /// For another model.
    #[error(
        "{adapter} was learned for the model {}, and {} is in use: vectors of different models \
         are never mixed", made_for.short(), in_use.short()
    )]
    Model {
        /// Its name.
        adapter: PolicyId,
        /// What it was learned for.
        made_for: Fingerprint,
        /// What is in use.
        in_use: Fingerprint,
    },
    /// For other prompts, templates or scoring.
    #[error("{adapter} was learned for other prompts of this policy; learn again")]
    Prompts {
        /// Its name.
        adapter: PolicyId,
    },
}

/// Every part is preceded by its length, so that no two lists of fields hash alike.
fn hash_field(hasher: &mut Sha256, name: &str, value: &[u8]) {
    for part in [name.as_bytes(), value] {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
}

/// A policy's stable name: lower-case letters, digits, `-` and `_`, at most 64.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyId(String);

/// The text can't name a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a policy id is 1 to 64 lower-case letters, digits, '-' or '_', beginning with a letter; not {0:?}"
)]
pub struct PolicyIdError(pub String);

impl PolicyId {
    /// Checks and takes a name.
    ///
    /// # Errors
    /// [`PolicyIdError`] when the text does not have the form above.
    pub fn new(text: impl Into<String>) -> Result<Self, PolicyIdError> {
        let text = text.into();
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
        if text.len() <= 64
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.chars().all(fits)
        {
            Ok(Self(text))
        } else {
            Err(PolicyIdError(text))
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// SHA-256 over what can change a verdict; see [`Policy::hash`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyHash(pub [u8; 32]);

impl PolicyHash {
    /// The first 12 hexadecimal digits, for people.
    pub fn short(&self) -> String {
        self.0[..6].iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
    }
}

/// When `on_block: hold` acts: only while the lower bound of its precision, from people's
/// decisions, holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Arming {
    /// The lower end of the 95 % interval must be at least this; above 0 and below 1.
    pub min_precision: f32,
    /// So many of its Blocks must have been decided; at least 1.
    pub min_decisions: u64,
}

impl Default for Arming {
    fn default() -> Self {
        Self { min_precision: 0.95, min_decisions: 200 }
    }
}

impl Arming {
    /// Whether so many removals among the decided Blocks are enough.
    pub fn is_armed(self, removed: Share) -> bool {
        removed.of >= self.min_decisions && removed.lower() >= f64::from(self.min_precision)
    }
}

/// A calibration and what it was fitted to.
#[derive(Debug, Clone, PartialEq)]
pub struct FittedCalibration {
    /// The two numbers.
    pub calibration: Calibration,
    /// Prompts and model; see [`Policy::fitted_for`].
    pub fitted_for: FittedFor,
}

/// Names prompts and model together: the first 12 digits of each hash, with a `-` between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FittedFor(pub String);

/// One noun phrase or sentence, and how much it counts.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    /// As the moderator typed it, without a template.
    pub text: String,
    /// Its logit gets `ln weight` added (`contrast` scoring only); positive and finite.
    pub weight: f32,
}

/// Declares an enum whose values have one spelling in YAML, SQL, JSON and on the screen.
macro_rules! spelled {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant),+ }

        impl $name {
            /// All values, in order.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The one spelling, used in YAML, SQL, JSON and on the screen.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// The value with this spelling.
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.as_str() == text)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}
pub(crate) use spelled;

spelled! {
    /// How bad it is; orders the queue.
    Severity {
        /// Reviewed last.
        Low = "low",
        /// The default.
        Medium = "medium",
        /// Reviewed first.
        High = "high",
    }
}

spelled! {
    /// Whether a policy acts.
    Mode {
        /// Its outcome counts and opens tasks.
        Live = "live",
        /// Scored and recorded only.
        Background = "background",
    }
}

spelled! {
    /// What a Block does besides opening a task.
    OnBlock {
        /// Nothing.
        None = "none",
        /// Moves the file to quarantine until a person decides, once armed.
        Hold = "hold",
    }
}

spelled! {
    /// How cosines become a score; the formulas are in [`super::score`].
    Scoring {
        /// Softmax mass on the violating prompts, against the contrast prompts.
        Contrast = "contrast",
        /// The largest sigmoid of the violating prompts; SigLIP kinds only.
        Independent = "independent",
    }
}

spelled! {
    /// How an item first appears in the dashboard.
    SafeView {
        /// As it is.
        None = "none",
        /// Without colour.
        Grey = "grey",
        /// Blurred.
        Blur = "blur",
        /// Not at all, until revealed.
        Hidden = "hidden",
    }
}

/// Where Review and Block begin: `0 < review ≤ block ≤ 1`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    review: f32,
    block: f32,
}

/// The two numbers are not thresholds.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("thresholds must satisfy 0 < review ≤ block ≤ 1, not review {review}, block {block}")]
pub struct ThresholdsError {
    /// What was given for `review`.
    pub review: f32,
    /// What was given for `block`.
    pub block: f32,
}

impl Thresholds {
    /// Checks and takes the two numbers.
    ///
    /// # Errors
    /// [`ThresholdsError`] when they are out of order, out of range or NaN.
    pub fn new(review: f32, block: f32) -> Result<Self, ThresholdsError> {
        if 0.0 < review && review <= block && block <= 1.0 {
            Ok(Self { review, block })
        } else {
            Err(ThresholdsError { review, block })
        }
    }

    /// Scores from here on go to a person.
    pub fn review(self) -> f32 {
        self.review
    }

    /// Scores from here on are Block.
    pub fn block(self) -> f32 {
        self.block
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A policy that flags at 0.5 and blocks at 0.9, for tests of this room.
    pub(crate) fn policy(id: &str) -> Policy {
        let prompt = |text: &str| Prompt { text: text.to_owned(), weight: 1.0 };
        Policy {
            id: PolicyId::new(id).expect("test ids are good"),
            title: id.to_owned(),
            description: String::new(),
            severity: Severity::Medium,
            mode: Mode::Live,
            prompts: vec![prompt("a handgun")],
            contrast: vec![prompt("a water pistol")],
            neutral: vec![],
            templates: vec!["a photo of {}".to_owned()],
            scoring: Scoring::Contrast,
            thresholds: Thresholds::new(0.5, 0.9).expect("in order"),
            scope: Scope::everything(),
            safe_view: SafeView::Blur,
            on_block: OnBlock::None,
            arming: Arming::default(),
            inherit: false,
            calibration: None,
            adapter: None,
        }
    }

    #[test]
    fn thresholds_are_inclusive_and_a_missing_number_is_in_doubt() {
        let policy = policy("weapons");
        assert_eq!(policy.judge(0.499), Outcome::Allow);
        assert_eq!(policy.judge(0.5), Outcome::Review);
        assert_eq!(policy.judge(0.9), Outcome::Block);
        assert_eq!(policy.judge(f32::NAN), Outcome::Review);
    }

    #[test]
    fn thresholds_out_of_order_or_range_are_refused() {
        for (review, block) in [(0.9, 0.5), (0.0, 0.5), (0.5, 1.1), (f32::NAN, 0.5)] {
            assert!(Thresholds::new(review, block).is_err(), "{review} {block}");
        }
        assert!(Thresholds::new(0.5, 0.5).is_ok());
    }

    fn scoped(glob: &str) -> Scope {
        Scope::new(vec![glob.to_owned()], vec![]).expect("a glob")
    }

    /// What was judged by an older rule for globs is judged again; what has no globs is not.
    #[test]
    fn the_hash_of_a_policy_with_globs_has_the_version_of_their_rule() {
        assert_eq!(policy("weapons").hash().short(), "15e635659d20");
        let mut with_globs = policy("weapons");
        with_globs.scope = scoped("**/*.jpg");
        assert_eq!(with_globs.hash().short(), "01295041a6e5");
    }

    #[test]
    fn the_hash_changes_with_what_judges_and_with_nothing_else() {
        let base = policy("weapons");
        let hash_after = |change: fn(&mut Policy)| {
            let mut policy = base.clone();
            change(&mut policy);
            policy.hash()
        };
        assert_eq!(base.hash(), hash_after(|p| p.title = "Arms".into()));
        assert_eq!(base.hash(), hash_after(|p| p.severity = Severity::High));
        assert_ne!(base.hash(), hash_after(|p| p.mode = Mode::Background));
        assert_ne!(base.hash(), hash_after(|p| p.prompts[0].text = "a gun".into()));
        assert_ne!(base.hash(), hash_after(|p| p.prompts[0].weight = 2.0));
        assert_ne!(
            base.hash(),
            hash_after(|p| p.thresholds = Thresholds::new(0.5, 0.8).expect("in order"))
        );
        assert_ne!(base.hash(), hash_after(|p| p.scope = scoped("**/*.jpg")));
        // Moving a text between the lists is a change, though the bytes are the same.
        assert_ne!(
            base.hash(),
            hash_after(|p| {
                let moved = p.contrast.remove(0);
                p.prompts.push(moved);
            })
        );
    }

    #[test]
    fn a_calibration_holds_for_its_prompts_and_model_only() {
        let (one, other) = (Fingerprint("a".repeat(64)), Fingerprint("b".repeat(64)));
        let mut calibrated = policy("weapons");
        let calibration = Calibration { slope: 1.0, intercept: 0.0 };
        let fitted_for = calibrated.fitted_for(&one);
        calibrated.calibration = Some(FittedCalibration { calibration, fitted_for });
        assert!(calibrated.probability(0.25, &one).is_some_and(|p| (p - 0.25).abs() < 1e-6));
        assert_eq!(calibrated.probability(0.25, &other), None);
        // Other thresholds leave scores as they are; another prompt does not.
        calibrated.thresholds = Thresholds::new(0.1, 0.2).expect("in order");
        assert!(calibrated.probability(0.25, &one).is_some());
        calibrated.prompts[0].text = "a rifle".into();
        assert_eq!(calibrated.probability(0.25, &one), None);
    }

    #[test]
    fn a_hold_is_armed_by_enough_decisions_with_a_good_lower_bound() {
        let arming = Arming { min_precision: 0.9, min_decisions: 50 };
        assert!(arming.is_armed(Share::new(60, 60)));
        assert!(!arming.is_armed(Share::new(49, 49)), "too few decisions");
        assert!(!arming.is_armed(Share::new(55, 60)), "91.7 % found, but it might be 82 %");
    }

    #[test]
    fn texts_come_prompt_by_prompt_then_template_by_template() {
        let mut policy = policy("weapons");
        policy.templates.push("a drawing of {}".into());
        assert_eq!(
            policy.expanded_texts(),
            [
                "a photo of a handgun",
                "a drawing of a handgun",
                "a photo of a water pistol",
                "a drawing of a water pistol"
            ]
        );
    }

    #[test]
    fn ids_are_plain() {
        assert!(PolicyId::new("weapons-2_b").is_ok());
        for id in ["", "Weapons", "2b", "a b", "\u{1b}[31m", &"a".repeat(65)] {
            assert!(PolicyId::new(id).is_err(), "{id:?}");
        }
    }
}
