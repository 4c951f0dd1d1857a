//! Scoring a great many stored embeddings at once: one matrix product instead of millions of dot
//! products, with the very same scores as [`Classifier::score`].

use super::embedding::{Embedding, EmbeddingError};
use super::policy::Policy;
use super::score::Classifier;

/// Vectors that are multiplied together; their block of a few kilobytes stays in the fastest cache.
const ROWS: usize = 4;
/// Prompts that are multiplied together: as many sums as the processor has registers for.
const COLUMNS: usize = 8;

/// Several classifiers of one model with their prompts side by side. A prompt that several
/// policies share (the neutral ones) is multiplied only once.
#[derive(Debug, Clone)]
pub struct ManyScorer {
    classifiers: Vec<Classifier>,
    /// For each classifier, the columns of its prompts, in order.
    columns: Vec<Vec<usize>>,
    /// For each classifier, the first one that gives the very same scores: often itself. Two
    /// versions of a policy that differ in their thresholds alone are scored once.
    scored_as: Vec<usize>,
    /// `[panel][component][COLUMNS]`: prompts in panels of [`COLUMNS`], the last one padded with 0.
    panels: Vec<f32>,
    dim: usize,
    prompts: usize,
}

impl ManyScorer {
    /// All classifiers must be of one model.
    pub fn new(classifiers: Vec<Classifier>) -> Self {
        let mut distinct: Vec<&Embedding> = Vec::new();
        let mut columns = Vec::with_capacity(classifiers.len());
        for classifier in &classifiers {
            let column = |embedding| {
                distinct.iter().position(|known| *known == embedding).unwrap_or_else(|| {
                    distinct.push(embedding);
                    distinct.len() - 1
                })
            };
            columns.push(classifier.prompt_embeddings().map(column).collect());
        }
        let scorings: Vec<_> =
            classifiers.iter().map(|classifier| classifier.policy.scoring_hash()).collect();
        let first_alike = |index: usize| {
            let alike = (0..index).find(|first| {
                scorings[*first] == scorings[index] && columns[*first] == columns[index]
            });
            alike.unwrap_or(index)
        };
        let scored_as = (0..classifiers.len()).map(first_alike).collect();
        let dim = distinct.first().map_or(0, |embedding| embedding.dim());
        let prompts = distinct.len();
        let mut panels = vec![0.0; prompts.div_ceil(COLUMNS) * dim * COLUMNS];
        for (index, embedding) in distinct.iter().enumerate() {
            let panel = index / COLUMNS * dim * COLUMNS;
            for (component, value) in embedding.as_slice().iter().enumerate() {
                panels[panel + component * COLUMNS + index % COLUMNS] = *value;
            }
        }
        Self { classifiers, columns, scored_as, panels, dim, prompts }
    }

    /// The policies, in the order of the scores.
    pub fn policies(&self) -> impl Iterator<Item = &Policy> {
        self.classifiers.iter().map(|classifier| &*classifier.policy)
    }

    /// The classifiers, in the order of the scores.
    pub fn classifiers(&self) -> &[Classifier] {
        &self.classifiers
    }

    /// Scores of stored vectors (two bytes a component, one after another, as
    /// [`Embedding::to_f16_bytes`] writes them): one row of scores a vector, one score a policy.
    ///
    /// # Errors
    /// [`EmbeddingError`] when the bytes are no whole number of this model's vectors, or one has
    /// no direction.
    pub fn scores(&self, stored: &[u8]) -> Result<Vec<f32>, EmbeddingError> {
        if self.dim == 0 {
            return Ok(Vec::new());
        }
        let bytes = self.dim * 2;
        if !stored.len().is_multiple_of(bytes) {
            return Err(EmbeddingError::Torn { bytes: stored.len() });
        }
        let mut scores = Vec::with_capacity(stored.len() / bytes * self.classifiers.len());
        let mut vectors = Vec::with_capacity(ROWS);
        let mut cosines = vec![0.0; ROWS * self.prompts];
        let mut own = Vec::new();
        for block in stored.chunks(ROWS * bytes) {
            vectors.clear();
            for one in block.chunks_exact(bytes) {
                vectors.push(Embedding::from_f16_bytes(one)?);
            }
            self.multiply(&vectors, &mut cosines);
            for (row, vector) in cosines.chunks_exact(self.prompts).zip(&vectors) {
                let start = scores.len();
                for (index, classifier) in self.classifiers.iter().enumerate() {
                    let (first, columns) = (self.scored_as[index], &self.columns[index]);
                    if first < index {
                        scores.push(scores[start + first]);
                        continue;
                    }
                    // What an adapter does to a vector is no product with prompts.
                    if classifier.policy.adapter.is_some() {
                        scores.push(classifier.adapted_score(vector));
                        continue;
                    }
                    own.clear();
                    own.extend(columns.iter().map(|column| row[*column]));
                    scores.push(classifier.words_of_cosines(&own));
                }
            }
        }
        Ok(scores)
    }

    /// Each sum runs over the components in their order, as [`Embedding::cosine`] does: the same
    /// additions give the same bits.
    fn multiply(&self, vectors: &[Embedding], cosines: &mut [f32]) {
        // Missing rows are multiplied like the first one and left alone by the caller.
        let row = |index: usize| vectors.get(index).unwrap_or(&vectors[0]).as_slice();
        let rows: [&[f32]; ROWS] = std::array::from_fn(row);
        for (panel, weights) in self.panels.chunks_exact(self.dim * COLUMNS).enumerate() {
            let mut sums = [[0.0_f32; COLUMNS]; ROWS];
            let (weights, _) = weights.as_chunks::<COLUMNS>();
            for (component, weights) in weights.iter().enumerate() {
                for (sums, row) in sums.iter_mut().zip(rows) {
                    let value = row[component];
                    for (sum, weight) in sums.iter_mut().zip(weights) {
                        *sum += value * weight;
                    }
                }
            }
            let first = panel * COLUMNS;
            let count = COLUMNS.min(self.prompts - first);
            for (index, sums) in sums.iter().enumerate() {
                let start = index * self.prompts + first;
                cosines[start..start + count].copy_from_slice(&sums[..count]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::moderation::policy::{Prompt, Scoring, Thresholds, tests::policy};
    use crate::moderation::score::LogitScale;
    use proptest::prelude::*;

    fn vector(seed: u32, dim: usize) -> Embedding {
        let component = |index: usize| {
            let mixed = (seed.wrapping_add(1)).wrapping_mul(2_654_435_761)
                ^ u32::try_from(index + 1)
                    .expect("small")
                    .wrapping_mul(40_503_u32.wrapping_mul(977));
            f32::from(u16::try_from(mixed.wrapping_mul(2_246_822_519) >> 16).expect("16 bits"))
                - 32_768.3
        };
        Embedding::normalised((0..dim).map(component).collect()).expect("has a direction")
    }

    fn classifier(id: &str, prompts: u32, seed: u32, scoring: Scoring, dim: usize) -> Classifier {
        let mut policy = policy(id);
        policy.prompts = (0..prompts)
            .map(|n| Prompt {
                text: format!("{id} {n}"),
                weight: 1.0 + f32::from(u8::try_from(n).expect("few")),
            })
            .collect();
        policy.scoring = scoring;
        let mut texts: Vec<_> = (0..prompts).map(|n| vector(seed + n, dim)).collect();
        // The contrast prompt is the same for all.
        texts.push(vector(1000, dim));
        let scale = LogitScale { scale: 14.0, bias: -3.0 };
        Classifier::new(Arc::new(policy), &texts, scale).expect("prompts embed")
    }

    proptest! {
        #[test]
        fn many_scores_are_bit_for_bit_those_of_one(
            items in 1_u32..14, dim in 9_usize..40, prompts in 1_u32..12, seed in 0_u32..500,
        ) {
            let mut stricter = classifier("a", prompts, seed, Scoring::Contrast, dim);
            let mut policy = (*stricter.policy).clone();
            policy.thresholds = Thresholds::new(0.9, 0.95).expect("in order");
            stricter.policy = Arc::new(policy);
            let mut heavier = classifier("a", prompts, seed, Scoring::Contrast, dim).policy;
            Arc::make_mut(&mut heavier).prompts[0].weight = 5.0;
            let mut texts: Vec<_> = (0..prompts).map(|n| vector(seed + n, dim)).collect();
            texts.push(vector(1000, dim));
            let scale = LogitScale { scale: 14.0, bias: -3.0 };
            let classifiers = vec![
                classifier("a", prompts, seed, Scoring::Contrast, dim),
                classifier("b", 3, seed + 50, Scoring::Independent, dim),
                stricter,
                Classifier::new(heavier, &texts, scale).expect("prompts embed"),
            ];
            let many = ManyScorer::new(classifiers.clone());
            prop_assert_eq!(&many.scored_as, &[0, 1, 0, 3]);
            prop_assert_eq!(many.prompts, prompts as usize + 4, "the shared prompt only once");
            let stored: Vec<u8> =
                (0..items).flat_map(|n| vector(seed + 7 * n, dim).to_f16_bytes()).collect();
            let scores = many.scores(&stored).expect("whole vectors");
            let mut expected = Vec::new();
            for one in stored.chunks(2 * dim) {
                let view = Embedding::from_f16_bytes(one).expect("a vector");
                for classifier in &classifiers {
                    expected.push(classifier.score(std::slice::from_ref(&view)).expect("a view").score);
                }
            }
            let bits = |scores: &[f32]| scores.iter().map(|score| score.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&scores), bits(&expected));
        }
    }

    #[test]
    fn torn_vectors_are_refused() {
        let many = ManyScorer::new(vec![classifier("a", 1, 0, Scoring::Contrast, 8)]);
        assert_eq!(many.scores(&[0; 17]), Err(EmbeddingError::Torn { bytes: 17 }));
        assert_eq!(many.scores(&[]), Ok(Vec::new()));
        assert_eq!(ManyScorer::new(Vec::new()).scores(&[]), Ok(Vec::new()));
    }
}
