//! A low-rank change of both sides of the space, in the manner of `LoRA` (Hu et al. 2022):
//! `v' = normalise(v + B·A·v)` for pictures and likewise for prompts. `A` begins as chance and `B`
//! as nothing, so that learning begins at the model itself. It is trained with the model's own
//! loss over the policy's prompts: a softmax for CLIP, a sigmoid for each pair for SigLIP.

use crate::moderation::embedding::{Embedding, EmbeddingError};
use crate::moderation::policy::Scoring;
use crate::moderation::score::{log_sum_exp, sigmoid, softmax};

use super::Learned;
use super::fitting::{Dice, Recipe, Sample, Samples};

/// One side's change.
#[derive(Debug, Clone, PartialEq)]
pub struct Side {
    /// `A`, `[rank][dim]`, row by row.
    pub down: Vec<f32>,
    /// `B` transposed, `[rank][dim]`, row by row.
    pub up: Vec<f32>,
}

/// Steps of Adam (Kingma and Ba 2015) with its usual momenta, their size, and the decay of the
/// numbers (Loshchilov and Hutter 2019). Few and fixed: with few examples a longer run learns
/// them by heart. Measured on 500 photos that are in no test.
const STEPS: i32 = 50;
const RATE: f64 = 1e-3;
const DECAY: f64 = 0.1;

impl Side {
    /// `normalise(v + B·A·v)`.
    ///
    /// # Errors
    /// When nothing is left of the vector.
    pub fn apply(&self, vector: &Embedding) -> Result<Embedding, EmbeddingError> {
        let v = vector.as_slice();
        let mut sum = v.to_vec();
        for (down, up) in self.down.chunks_exact(v.len()).zip(self.up.chunks_exact(v.len())) {
            let inner: f32 = down.iter().zip(v).map(|(a, x)| a * x).sum();
            sum.iter_mut().zip(up).for_each(|(sum, b)| *sum += inner * b);
        }
        Embedding::normalised(sum)
    }

    /// Whether it fits embeddings of so many components, and holds only numbers.
    pub fn fits(&self, dim: usize) -> bool {
        let whole = dim > 0 && self.down.len().is_multiple_of(dim) && !self.down.is_empty();
        let finite = self.down.iter().chain(&self.up).all(|x| x.is_finite());
        whole && self.down.len() == self.up.len() && finite
    }
}

pub(super) fn fit(samples: &Samples<'_>, recipe: &Recipe) -> Learned {
    let dim = samples.dim();
    let mut dice = Dice(recipe.seed);
    let mut image = Turning::new(recipe.rank, dim, &mut dice);
    let mut text = Turning::new(recipe.rank, dim, &mut dice);
    let prompts: Vec<Vec<f64>> = samples.classifier.prompt_embeddings().map(doubled).collect();
    let views: Vec<Vec<f64>> = samples.list.iter().map(|one| doubled(&one.view)).collect();
    for step in 1..=STEPS {
        let turned_prompts: Vec<Turned> = prompts.iter().map(|one| text.turn(one)).collect();
        let mut to_prompts = vec![vec![0.0; dim]; prompts.len()];
        for (sample, view) in samples.list.iter().zip(&views) {
            let turned = image.turn(view);
            let pulls = pulls(samples, recipe, sample, &turned, &turned_prompts);
            let mut to_view = vec![0.0; dim];
            for ((pull, prompt), to_prompt) in
                pulls.iter().zip(&turned_prompts).zip(&mut to_prompts)
            {
                add(&mut to_view, *pull, &prompt.unit);
                add(to_prompt, *pull, &turned.unit);
            }
            image.learn(view, &turned, &to_view);
        }
        for ((prompt, turned), to_prompt) in prompts.iter().zip(&turned_prompts).zip(&to_prompts) {
            text.learn(prompt, turned, to_prompt);
        }
        image.step(step);
        text.step(step);
    }
    Learned::LowRank { image: image.side(), text: text.side(), scale: 1.0, offset: 0.0 }
}

/// The derivative of the loss of one picture by its cosine to each prompt.
fn pulls(
    samples: &Samples<'_>,
    recipe: &Recipe,
    sample: &Sample,
    view: &Turned,
    prompts: &[Turned],
) -> Vec<f64> {
    let classifier = samples.classifier;
    let scale = samples.logit_scale();
    let violating = classifier.policy.prompts.len();
    let cosines = prompts.iter().map(|prompt| dot(&prompt.unit, &view.unit));
    let weighted = classifier.policy.scoring == Scoring::Contrast;
    let logits: Vec<f64> = cosines
        .zip(classifier.ln_weights())
        .map(|(cosine, ln_weight)| {
            let logit = f64::from(scale.scale) * cosine + f64::from(scale.bias);
            if weighted { logit + ln_weight } else { logit }
        })
        .collect();
    let (ours, others) = logits.split_at(violating);
    // Which prompts speak, on each side.
    let (ours_share, others_share) = (softmax(ours), softmax(others));
    let pull = |by_logit: f64| sample.weight * by_logit * f64::from(scale.scale);
    if recipe.sigmoid_loss {
        // Pairs of a violating picture and the prompts that fit it best belong together; a fine
        // picture belongs to no prompt of the policy, and a violating one to none of the others.
        let belongs = |logit: &f64, share: &f64| -share * sigmoid(-logit);
        return if sample.violates {
            let near = ours.iter().zip(&ours_share).map(|(logit, share)| belongs(logit, share));
            near.chain(others.iter().map(|logit| sigmoid(*logit))).map(pull).collect()
        } else {
            let far = ours.iter().map(|logit| sigmoid(*logit));
            let near = others.iter().zip(&others_share).map(|(logit, share)| belongs(logit, share));
            far.chain(near).map(pull).collect()
        };
    }
    // Cross-entropy of the mass on the policy's prompts, with the threshold as where both kinds are
    // equally likely.
    let odds = log_sum_exp(ours) - log_sum_exp(others) - samples.threshold;
    let error = sigmoid(odds) - f64::from(u8::from(sample.violates));
    let ours = ours_share.iter().map(|share| pull(error * share));
    ours.chain(others_share.iter().map(|share| pull(-error * share))).collect()
}

fn doubled(vector: &Embedding) -> Vec<f64> {
    vector.as_slice().iter().map(|x| f64::from(*x)).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(sum: &mut [f64], factor: f64, vector: &[f64]) {
    sum.iter_mut().zip(vector).for_each(|(sum, x)| *sum += factor * x);
}

/// A vector after the change, and what the way back needs.
struct Turned {
    unit: Vec<f64>,
    length: f64,
    /// `A·v`.
    inner: Vec<f64>,
}

/// One side while it is learned.
struct Turning {
    dim: usize,
    down: Vec<f64>,
    up: Vec<f64>,
    down_gradient: Vec<f64>,
    up_gradient: Vec<f64>,
    /// Adam's first and second momenta, of `down` and of `up`.
    momenta: [Vec<(f64, f64)>; 2],
}

impl Turning {
    #[expect(clippy::cast_precision_loss, reason = "a few thousand components")]
    fn new(rank: usize, dim: usize, dice: &mut Dice) -> Self {
        let size = rank * dim;
        let deviation = 1.0 / (dim as f64).sqrt();
        Self {
            dim,
            down: (0..size).map(|_| dice.normal() * deviation).collect(),
            up: vec![0.0; size],
            down_gradient: vec![0.0; size],
            up_gradient: vec![0.0; size],
            momenta: [vec![(0.0, 0.0); size], vec![(0.0, 0.0); size]],
        }
    }

    fn turn(&self, vector: &[f64]) -> Turned {
        let mut sum = vector.to_vec();
        let mut inner = Vec::new();
        let rows = self.down.chunks_exact(self.dim).zip(self.up.chunks_exact(self.dim));
        for (down, up) in rows {
            let one = dot(down, vector);
            add(&mut sum, one, up);
            inner.push(one);
        }
        let length = dot(&sum, &sum).sqrt().max(f64::MIN_POSITIVE);
        for x in &mut sum {
            *x /= length;
        }
        Turned { unit: sum, length, inner }
    }

    /// Adds the gradient by `A` and `B`, from that by the unit vector.
    fn learn(&mut self, vector: &[f64], turned: &Turned, by_unit: &[f64]) {
        let along = dot(by_unit, &turned.unit);
        let by_sum: Vec<f64> = by_unit
            .iter()
            .zip(&turned.unit)
            .map(|(g, unit)| (g - along * unit) / turned.length)
            .collect();
        let rows = self.up.chunks_exact(self.dim).zip(&turned.inner);
        let gradients = self.up_gradient.chunks_exact_mut(self.dim);
        let gradients = gradients.zip(self.down_gradient.chunks_exact_mut(self.dim));
        for ((up, inner), (up_gradient, down_gradient)) in rows.zip(gradients) {
            add(up_gradient, *inner, &by_sum);
            add(down_gradient, dot(up, &by_sum), vector);
        }
    }

    fn step(&mut self, step: i32) {
        let pairs =
            [(&mut self.down, &mut self.down_gradient), (&mut self.up, &mut self.up_gradient)];
        for ((numbers, gradients), momenta) in pairs.into_iter().zip(&mut self.momenta) {
            for ((number, gradient), (first, second)) in
                numbers.iter_mut().zip(gradients.iter_mut()).zip(momenta)
            {
                *first = 0.9 * *first + 0.1 * *gradient;
                *second = 0.999 * *second + 0.001 * *gradient * *gradient;
                let mean = *first / (1.0 - 0.9_f64.powi(step));
                let spread = (*second / (1.0 - 0.999_f64.powi(step))).sqrt();
                *number -= RATE * (mean / (spread + 1e-8) + DECAY * *number);
                *gradient = 0.0;
            }
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "f32 is the models' precision")]
    fn side(&self) -> Side {
        let single = |numbers: &[f64]| numbers.iter().map(|x| *x as f32).collect();
        Side { down: single(&self.down), up: single(&self.up) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moderation::adapter::Method;
    use crate::moderation::adapter::fitting::Example;
    use crate::moderation::adapter::validation::tests::{domain, plain};

    const RECIPE: Recipe = Recipe { method: Method::Lora, rank: 2, seed: 3, sigmoid_loss: false };

    #[test]
    fn with_nothing_learned_a_vector_stays() {
        let side = Side { down: vec![0.3; 8], up: vec![0.0; 8] };
        let vector = Embedding::normalised(vec![1.0, 2.0, 3.0, 4.0]).expect("has a direction");
        let turned = side.apply(&vector).expect("has a direction");
        assert!(turned.cosine(&vector) > 1.0 - 1e-6);
        assert!(side.fits(4) && !side.fits(3) && !side.fits(0));
    }

    #[test]
    fn the_slope_is_that_of_the_loss() {
        // What a small change of one number does to the loss, against the gradient.
        let classifier = plain();
        let examples = domain(6, 1.0);
        let examples: Vec<&Example> = examples.iter().collect();
        let samples = Samples::of(&classifier, &examples);
        let prompts: Vec<Vec<f64>> = classifier.prompt_embeddings().map(doubled).collect();
        for sigmoid_loss in [false, true] {
            let recipe = Recipe { sigmoid_loss, ..RECIPE };
            let mut image = Turning::new(2, samples.dim(), &mut Dice(5));
            image.up.iter_mut().zip(0_u8..).for_each(|(x, n)| *x = f64::from(n % 5) * 0.05);
            let turned_prompts: Vec<Turned> = {
                let still = Turning::new(2, samples.dim(), &mut Dice(5));
                prompts.iter().map(|one| still.turn(one)).collect()
            };
            let sample = &samples.list[0];
            let view = doubled(&sample.view);
            let turned = image.turn(&view);
            let pulls = pulls(&samples, &recipe, sample, &turned, &turned_prompts);
            let mut to_view = vec![0.0; samples.dim()];
            for (pull, prompt) in pulls.iter().zip(&turned_prompts) {
                add(&mut to_view, *pull, &prompt.unit);
            }
            image.learn(&view, &turned, &to_view);
            // The softmax loss has a plain form; of the sigmoid loss, whose shares are held fixed,
            // only the way back is looked at.
            let along = |image: &Turning| {
                let turned = image.turn(&view);
                if sigmoid_loss {
                    return dot(&to_view, &turned.unit);
                }
                let logits: Vec<f64> =
                    turned_prompts.iter().map(|p| 20.0 * dot(&p.unit, &turned.unit)).collect();
                let odds = logits[0] - logits[1] - samples.threshold;
                let target = f64::from(u8::from(sample.violates));
                sample.weight * (odds.exp().ln_1p() - target * odds)
            };
            for place in [0, 3, 5] {
                for which in 0..2 {
                    let small = 1e-6;
                    let numbers = |image: &mut Turning, by: f64| {
                        let list = if which == 0 { &mut image.down } else { &mut image.up };
                        list[place] += by;
                    };
                    let before = along(&image);
                    numbers(&mut image, small);
                    let slope = (along(&image) - before) / small;
                    numbers(&mut image, -small);
                    let list = if which == 0 { &image.down_gradient } else { &image.up_gradient };
                    assert!((slope - list[place]).abs() < 1e-4 * (1.0 + slope.abs()), "{slope}");
                }
            }
        }
    }
}
