//! From vectors to a score: pure arithmetic, the same for CLIP and SigLIP.
//!
//! `logit = scale · cos + bias` (Radford et al. 2021 for CLIP, where bias is 0; Zhai et al. 2023
//! for SigLIP). Sums are taken in double precision, so the order of prompts does not matter.

use std::sync::Arc;

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
}

impl Classifier {
    /// `text_embeddings` are those of [`Policy::expanded_texts`], in that order; the templates of
    /// one prompt are averaged and normalised again (prompt ensembling).
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
                Ok(EmbeddedPrompt {
                    text: prompt.text.clone(),
                    contrast,
                    ln_weight: f64::from(prompt.weight).ln(),
                    embedding: Embedding::mean(ensembles.next().unwrap_or_default())?,
                })
            })
            .collect::<Result<_, EmbeddingError>>()?;
        Ok(Self { policy, prompts, logit_scale })
    }

    /// Scores an item by its views; `None` when there is no view to score.
    ///
    /// With `contrast` scoring a view's score is the softmax mass of the violating prompts among
    /// all prompts; with `independent` it is the largest sigmoid of the violating prompts.
    pub fn score(&self, views: &[Embedding]) -> Option<PolicyScore> {
        views
            .iter()
            .enumerate()
            .map(|(view, embedding)| {
                let shares = self.shares(embedding);
                let violating = shares.iter().filter(|share| !share.contrast);
                let score = self.score_of(violating.map(|share| share.share));
                PolicyScore { score, view, shares }
            })
            .max_by(|a, b| a.score.total_cmp(&b.score))
    }

    /// The embeddings of all prompts (templates averaged): violating ones first, in order.
    pub fn prompt_embeddings(&self) -> impl Iterator<Item = &Embedding> {
        self.prompts.iter().map(|prompt| &prompt.embedding)
    }

    /// The score of one view whose cosines to [`Classifier::prompt_embeddings`] are known: the
    /// same number as [`Classifier::score`], without saying where it came from.
    #[expect(clippy::cast_possible_truncation, reason = "shares are kept as f32")]
    pub fn score_of_cosines(&self, cosines: &[f32]) -> f32 {
        let shares = self.shares_of_logits(&self.logits(cosines));
        let violating = self.prompts.iter().zip(shares).filter(|(prompt, _)| !prompt.contrast);
        self.score_of(violating.map(|(_, share)| share as f32))
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
    fn shares(&self, picture: &Embedding) -> Vec<PromptShare> {
        let cosines: Vec<f32> =
            self.prompts.iter().map(|prompt| prompt.embedding.cosine(picture)).collect();
        let logits = self.logits(&cosines);
        let shares = self.shares_of_logits(&logits);
        self.prompts
            .iter()
            .zip(cosines)
            .zip(logits.iter().zip(shares))
            .map(|((prompt, cosine), (logit, share))| PromptShare {
                text: prompt.text.clone(),
                contrast: prompt.contrast,
                cosine,
                logit: *logit as f32,
                share: share as f32,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moderation::policy::{Prompt, tests::policy};
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
