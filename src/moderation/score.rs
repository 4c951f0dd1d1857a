//! From vectors to a score: pure arithmetic, the same for CLIP and SigLIP.
//!
//! `logit = scale · cos + bias` (Radford et al. 2021 for CLIP, where bias is 0; Zhai et al. 2023
//! for SigLIP). Sums are taken in double precision, so the order of prompts does not matter.

use std::sync::Arc;

use super::adapter::Learned;
use super::embedding::{Embedding, EmbeddingError};
use super::policy::{Policy, Scoring};

/// How a model's cosines become logits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogitScale {
    /// Multiplies the cosine (already exponentiated: 100 for OpenAI's CLIP).
    pub scale: f32,
    /// Is added; 0 for CLIP.
    pub bias: f32,
}

impl LogitScale {
    /// `scale · cosine + bias`.
    pub fn logit(self, cosine: f32) -> f64 {
        f64::from(self.scale) * f64::from(cosine) + f64::from(self.bias)
    }
}

/// Probabilities over a set of logits that sum to 1 (CLIP's own reading of its logits).
/// An empty set gives an empty answer.
pub fn softmax(logits: &[f64]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exponentials: Vec<f64> = logits.iter().map(|logit| (logit - largest).exp()).collect();
    let total: f64 = exponentials.iter().sum();
    exponentials.into_iter().map(|exponential| exponential / total).collect()
}

/// The probability of one prompt on its own (SigLIP's reading of its logits).
pub fn sigmoid(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}

/// What one prompt contributed to a score.
#[derive(Debug, Clone, PartialEq)]
pub struct PromptShare {
    /// The prompt as typed.
    pub text: String,
    /// Whether it is a contrast (or neutral) prompt.
    pub contrast: bool,
    /// Cosine to the picture, −1..=1.
    pub cosine: f32,
    /// `scale · cosine + bias`, and `ln weight` with contrast scoring.
    pub logit: f32,
    /// Contrast scoring: its part of the softmax, all prompts sum to 1.
    /// Independent scoring: its own sigmoid.
    pub share: f32,
}

/// How a policy sees an item.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyScore {
    /// 0..=1; the maximum over the item's views.
    pub score: f32,
    /// Index of the view that won.
    pub view: usize,
    /// Every prompt's part in the winning view: violating prompts first, in the policy's order.
    pub shares: Vec<PromptShare>,
    /// Where an adapter is in use: the score of that view by the words alone.
    pub words: Option<f32>,
}

impl PolicyScore {
    /// The violating prompt with the largest share: what the picture was taken for.
    pub fn top_prompt(&self) -> Option<&PromptShare> {
        let violating = self.shares.iter().filter(|share| !share.contrast);
        violating.max_by(|a, b| a.share.total_cmp(&b.share))
    }
}

/// A policy with its prompts embedded by one model: scores pictures of that model.
#[derive(Debug, Clone)]
pub struct Classifier {
    /// The policy that is applied.
    pub policy: Arc<Policy>,
    prompts: Vec<EmbeddedPrompt>,
    logit_scale: LogitScale,
}

#[derive(Debug, Clone)]
struct EmbeddedPrompt {
    text: String,
    contrast: bool,
    ln_weight: f64,
    embedding: Embedding,
    /// As an adapter has it, where one changes it.
    adapted: Option<Embedding>,
}

impl Classifier {
    /// `text_embeddings` are those of [`Policy::expanded_texts`], in that order; the templates of
    /// one prompt are averaged and normalised again (prompt ensembling). They are the model's own:
    /// what an adapter of the policy changes is done here.
    ///
    /// # Errors
    /// [`EmbeddingError::NoDirection`] when a prompt's templates cancel out or one is missing.
    pub fn new(
        policy: Arc<Policy>,
        text_embeddings: &[Embedding],
        logit_scale: LogitScale,
    ) -> Result<Self, EmbeddingError> {
        let mut ensembles = text_embeddings.chunks(policy.templates.len());
        let prompts = policy
            .all_prompts()
            .map(|(prompt, contrast)| {
                let embedding = Embedding::mean(ensembles.next().unwrap_or_default())?;
                let adapted = match policy.adapter.as_ref().map(|adapter| &adapter.learned) {
                    Some(Learned::LowRank { text, .. }) => Some(text.apply(&embedding)?),
                    Some(Learned::Probe { .. }) | None => None,
                };
                Ok(EmbeddedPrompt {
                    text: prompt.text.clone(),
                    contrast,
                    ln_weight: f64::from(prompt.weight).ln(),
                    embedding,
                    adapted,
                })
            })
            .collect::<Result<_, EmbeddingError>>()?;
        Ok(Self { policy, prompts, logit_scale })
    }

    /// Scores an item by its views; `None` when there is no view to score.
    ///
    /// With `contrast` scoring a view's score is the softmax mass of the violating prompts among
    /// all prompts; with `independent` it is the largest sigmoid of the violating prompts. An
    /// adapter changes the log-odds of that.
    pub fn score(&self, views: &[Embedding]) -> Option<PolicyScore> {
        let score = |(view, embedding)| self.score_of_view(view, embedding);
        views.iter().enumerate().map(score).max_by(|a, b| a.score.total_cmp(&b.score))
    }

    fn score_of_view(&self, view: usize, picture: &Embedding) -> PolicyScore {
        let learned = self.policy.adapter.as_ref().map(|adapter| &adapter.learned);
        let cosines = self.cosines(learned, picture);
        let shares = self.shares(&cosines);
        let Some(learned) = learned else {
            let violating = shares.iter().filter(|share| !share.contrast);
            let score = self.score_of(violating.map(|share| share.share));
            return PolicyScore { score, view, shares, words: None };
        };
        let score = adapted_score(self.adapted_log_odds(Some(learned), picture));
        let words = self.words_of_cosines(&self.cosines(None, picture));
        PolicyScore { score, view, shares, words: Some(words) }
    }

    /// The embeddings of all prompts (templates averaged): violating ones first, in order. They
    /// are the model's own, without what an adapter changes.
    pub fn prompt_embeddings(&self) -> impl Iterator<Item = &Embedding> {
        self.prompts.iter().map(|prompt| &prompt.embedding)
    }

    /// The logarithms of the prompts' weights, in the same order.
    pub(super) fn ln_weights(&self) -> impl Iterator<Item = f64> {
        self.prompts.iter().map(|prompt| prompt.ln_weight)
    }

    /// How this model's cosines become logits.
    pub(super) fn logit_scale(&self) -> LogitScale {
        self.logit_scale
    }

    /// The score of one view whose cosines to [`Classifier::prompt_embeddings`] are known: the
    /// same number as [`Classifier::score`] without an adapter, without saying where it came from.
    pub fn words_of_cosines(&self, cosines: &[f32]) -> f32 {
        let shares = self.shares_of_logits(&self.logits(cosines));
        let violating = self.prompts.iter().zip(shares).filter(|(prompt, _)| !prompt.contrast);
        #[expect(clippy::cast_possible_truncation, reason = "shares are kept as f32")]
        self.score_of(violating.map(|(_, share)| share as f32))
    }

    /// The adapted score of one view, the same number as [`Classifier::score`].
    pub(super) fn adapted_score(&self, picture: &Embedding) -> f32 {
        let learned = self.policy.adapter.as_ref().map(|adapter| &adapter.learned);
        adapted_score(self.adapted_log_odds(learned, picture))
    }

    /// The log-odds that the words alone give: of the violating prompts' mass against that of the
    /// others with `contrast` scoring, and the largest logit with `independent`.
    pub(super) fn plain_log_odds(&self, picture: &Embedding) -> f64 {
        self.adapted_log_odds(None, picture)
    }

    /// The same as something learned changes it, for this policy and this model.
    pub(super) fn adapted_log_odds(&self, learned: Option<&Learned>, picture: &Embedding) -> f64 {
        let logits = self.logits(&self.cosines(learned, picture));
        let violating = self.policy.prompts.len();
        let (ours, others) = logits.split_at(violating);
        let odds = match self.policy.scoring {
            Scoring::Contrast => log_sum_exp(ours) - log_sum_exp(others),
            Scoring::Independent => ours.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        };
        match learned {
            None => odds,
            Some(Learned::LowRank { scale, offset, .. }) => scale * odds + offset,
            Some(Learned::Probe { scale, direction, offset }) => {
                let along = direction.iter().zip(picture.as_slice());
                let along: f64 = along.map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
                scale * odds + along + offset
            }
        }
    }

    fn cosines(&self, learned: Option<&Learned>, picture: &Embedding) -> Vec<f32> {
        let Some(Learned::LowRank { image, text, .. }) = learned else {
            return self.prompts.iter().map(|prompt| prompt.embedding.cosine(picture)).collect();
        };
        // What cancels out altogether has no cosine; as NaN it ends in Review.
        let Ok(turned) = image.apply(picture) else { return vec![f32::NAN; self.prompts.len()] };
        let cosine = |prompt: &EmbeddedPrompt| match &prompt.adapted {
            Some(adapted) => adapted.cosine(&turned),
            None => text.apply(&prompt.embedding).map_or(f32::NAN, |said| said.cosine(&turned)),
        };
        self.prompts.iter().map(cosine).collect()
    }

    /// The log-odds of one view's score as an adapter of the policy, if it has one, changes it:
    /// unlike the score it still tells differences where the score is all but 0 or 1.
    pub fn log_odds(&self, view: &Embedding) -> f64 {
        let learned = self.policy.adapter.as_ref().map(|adapter| &adapter.learned);
        self.adapted_log_odds(learned, view)
    }

    fn score_of(&self, violating: impl Iterator<Item = f32>) -> f32 {
        match self.policy.scoring {
            // A sum of rounded shares can exceed 1 by a few units in the last place.
            Scoring::Contrast => violating.sum::<f32>().min(1.0),
            Scoring::Independent => violating.fold(0.0, f32::max),
        }
    }

    fn logits(&self, cosines: &[f32]) -> Vec<f64> {
        let weighted = |prompt: &EmbeddedPrompt| match self.policy.scoring {
            Scoring::Contrast => prompt.ln_weight,
            Scoring::Independent => 0.0,
        };
        let logit = |(prompt, cosine): (&EmbeddedPrompt, &f32)| {
            self.logit_scale.logit(*cosine) + weighted(prompt)
        };
        self.prompts.iter().zip(cosines).map(logit).collect()
    }

    fn shares_of_logits(&self, logits: &[f64]) -> Vec<f64> {
        match self.policy.scoring {
            Scoring::Contrast => softmax(logits),
            Scoring::Independent => logits.iter().map(|logit| sigmoid(*logit)).collect(),
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "shares and logits are kept as f32")]
    fn shares(&self, cosines: &[f32]) -> Vec<PromptShare> {
        let logits = self.logits(cosines);
        let shares = self.shares_of_logits(&logits);
        self.prompts
            .iter()
            .zip(cosines)
            .zip(logits.iter().zip(shares))
            .map(|((prompt, cosine), (logit, share))| PromptShare {
                text: prompt.text.clone(),
                contrast: prompt.contrast,
                cosine: *cosine,
                logit: *logit as f32,
                share: share as f32,
            })
            .collect()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "scores are kept as f32")]
fn adapted_score(log_odds: f64) -> f32 {
    sigmoid(log_odds) as f32
}

/// `ln Σ e^logit`, without overflow.
pub(super) fn log_sum_exp(logits: &[f64]) -> f64 {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    largest + logits.iter().map(|logit| (logit - largest).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moderation::adapter::{Adapter, Side};
    use crate::moderation::embedding::Fingerprint;
    use crate::moderation::policy::{ForeignAdapter, Prompt, tests::policy};
    use proptest::prelude::*;

    fn unit(vector: &[f32]) -> Embedding {
        Embedding::normalised(vector.to_vec()).expect("has a direction")
    }

    fn classifier(policy: Policy, texts: &[&[f32]]) -> Classifier {
        let texts: Vec<_> = texts.iter().map(|text| unit(text)).collect();
        Classifier::new(Arc::new(policy), &texts, LogitScale { scale: 10.0, bias: -5.0 })
            .expect("prompts embed")
    }

    #[test]
    fn contrast_scoring_is_the_softmax_mass_of_the_violating_prompts() {
        let classifier = classifier(policy("weapons"), &[&[1.0, 0.0], &[0.0, 1.0]]);
        let score = classifier.score(&[unit(&[0.8, 0.6])]).expect("one view");
        // Cosines 0.8 and 0.6: 1 / (1 + e^(10 · (0.6 − 0.8))).
        assert!((score.score - 0.880_797).abs() < 1e-5, "{}", score.score);
        assert!((score.shares[0].logit - 3.0).abs() < 1e-5);
        assert_eq!(score.top_prompt().map(|share| share.text.as_str()), Some("a handgun"));
    }

    #[test]
    fn a_weight_multiplies_a_prompts_odds() {
        let mut weighted = policy("weapons");
        weighted.prompts[0].weight = 3.0;
        let classifier = classifier(weighted, &[&[1.0, 0.0], &[0.0, 1.0]]);
        let score = classifier.score(&[unit(&[1.0, 1.0])]).expect("one view");
        assert!((score.score - 0.75).abs() < 1e-5, "{}", score.score);
    }

    #[test]
    fn independent_scoring_is_the_largest_sigmoid_and_ignores_weights() {
        let mut independent = policy("weapons");
        independent.scoring = Scoring::Independent;
        independent.prompts.push(Prompt { text: "a rifle".into(), weight: 9.0 });
        let classifier = classifier(independent, &[&[1.0, 0.0], &[0.0, 1.0], &[1.0, 1.0]]);
        let score = classifier.score(&[unit(&[1.0, 0.0])]).expect("one view");
        assert!((f64::from(score.score) - sigmoid(5.0)).abs() < 1e-6, "{}", score.score);
    }

    #[test]
    fn the_riskiest_view_counts() {
        let classifier = classifier(policy("weapons"), &[&[1.0, 0.0], &[0.0, 1.0]]);
        let score = classifier.score(&[unit(&[0.0, 1.0]), unit(&[1.0, 0.0])]).expect("two views");
        assert_eq!(score.view, 1);
        assert!(score.score > 0.99);
        assert_eq!(classifier.score(&[]), None);
    }

    #[test]
    fn templates_are_averaged_and_normalised() {
        let mut two = policy("weapons");
        two.templates.push("a drawing of {}".into());
        let texts: &[&[f32]] = &[&[1.0, 0.0], &[0.0, 1.0], &[-1.0, 0.0], &[-1.0, 0.0]];
        let classifier = classifier(two, texts);
        let score = classifier.score(&[unit(&[1.0, 1.0])]).expect("one view");
        assert!((score.shares[0].cosine - 1.0).abs() < 1e-6);
    }

    fn adapted(learned: Learned) -> Classifier {
        let policy = policy("weapons");
        let fingerprint = Fingerprint("f".repeat(64));
        let fitted_for = policy.fitted_for(&fingerprint);
        let id = policy.id.clone();
        let adapter = Adapter::new(id, fingerprint.clone(), fitted_for, learned);
        let policy = policy.adapted(&Arc::new(adapter), &fingerprint).expect("made for it");
        classifier(policy, &[&[1.0, 0.0], &[0.0, 1.0]])
    }

    #[test]
    fn an_adapter_that_learned_nothing_changes_nothing() {
        let plain = classifier(policy("weapons"), &[&[1.0, 0.0], &[0.0, 1.0]]);
        let nothing = Side { down: vec![0.5, -0.5], up: vec![0.0, 0.0] };
        let probe = Learned::Probe { scale: 1.0, direction: vec![0.0, 0.0], offset: 0.0 };
        let side = nothing.clone();
        let low_rank = Learned::LowRank { image: nothing, text: side, scale: 1.0, offset: 0.0 };
        for learned in [probe, low_rank] {
            let adapted = adapted(learned);
            for picture in [[0.8, 0.6], [0.1, 1.0], [-1.0, 0.2]] {
                let (words, adapted) =
                    (plain.score(&[unit(&picture)]), adapted.score(&[unit(&picture)]));
                let (words, adapted) = (words.expect("a view"), adapted.expect("a view"));
                assert!((words.score - adapted.score).abs() < 1e-5, "{words:?} {adapted:?}");
                assert!(adapted.words.is_some_and(|same| (same - words.score).abs() < 1e-6));
            }
        }
    }

    #[test]
    fn an_adapter_changes_the_log_odds_and_the_version() {
        let plain = classifier(policy("weapons"), &[&[1.0, 0.0], &[0.0, 1.0]]);
        let probe = Learned::Probe { scale: 0.5, direction: vec![0.0, 3.0], offset: -1.0 };
        let changed = adapted(probe);
        let score = changed.score(&[unit(&[0.8, 0.6])]).expect("one view");
        // Log-odds by the words: 10 · (0.8 − 0.6) = 2.
        let expected = sigmoid(0.5 * 2.0 + 3.0 * 0.6 - 1.0);
        assert!((f64::from(score.score) - expected).abs() < 1e-6, "{}", score.score);
        assert_ne!(changed.policy.hash(), plain.policy.hash());
        assert_ne!(changed.policy.scoring_hash(), plain.policy.scoring_hash());
    }

    #[test]
    fn an_adapter_of_another_model_or_other_prompts_is_refused() {
        let (mine, other) = (Fingerprint("f".repeat(64)), Fingerprint("0".repeat(64)));
        let mut weapons = policy("weapons");
        let learned = Learned::Probe { scale: 1.0, direction: vec![0.0; 2], offset: 0.0 };
        let fitted_for = weapons.fitted_for(&mine);
        let adapter = Adapter::new(weapons.id.clone(), mine.clone(), fitted_for, learned);
        let adapter = Arc::new(adapter);
        assert!(weapons.adapted(&adapter, &mine).is_ok());
        let refused = weapons.adapted(&adapter, &other).expect_err("another model");
        assert!(matches!(refused, ForeignAdapter::Model { .. }), "{refused}");
        weapons.prompts[0].text = "a sword".into();
        let refused = weapons.adapted(&adapter, &mine).expect_err("other prompts");
        assert!(matches!(refused, ForeignAdapter::Prompts { .. }), "{refused}");
        assert!(policy("smoking").adapted(&adapter, &mine).is_err());
    }

    #[test]
    fn a_missing_text_embedding_is_an_error() {
        let texts = [unit(&[1.0, 0.0])];
        let scale = LogitScale { scale: 1.0, bias: 0.0 };
        assert!(Classifier::new(Arc::new(policy("weapons")), &texts, scale).is_err());
    }

    proptest! {
        #[test]
        fn softmax_sums_to_one_and_ignores_a_common_shift(
            logits in proptest::collection::vec(-500.0_f64..500.0, 1..20),
            shift in -100.0_f64..100.0,
        ) {
            let plain = softmax(&logits);
            let shifted: Vec<f64> = logits.iter().map(|logit| logit + shift).collect();
            prop_assert!((plain.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            for (a, b) in plain.iter().zip(softmax(&shifted)) {
                prop_assert!((a - b).abs() < 1e-9);
            }
        }
    }
}
