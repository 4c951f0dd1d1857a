//! A linear probe that is anchored in the policy's words, in the manner of LP++ (Huang et al.
//! 2024, "LP++: A Surprisingly Strong Linear Probe for Few-Shot CLIP"): the classifier is a blend
//! of what the words say, with a factor that is learned, and of a direction that is learned. No
//! rate of learning and no strength is searched for: the step follows from the bound on the
//! curvature of the loss, and the pull towards the words from the number of examples.

use crate::moderation::score::sigmoid;

use super::Learned;
use super::fitting::{Sample, Samples};

/// Log-odds are divided by this: models are surer than they are right, and a unit of log-odds then
/// weighs about as much as a unit vector.
const ODDS_SCALE: f64 = 3.0;

/// The pull of the direction towards nothing and of the factor towards 1, for one example of the
/// rarer kind; measured on 500 photos that are in no test.
const PULL_DIRECTION: f64 = 0.3;
const PULL_SCALE: f64 = 3.0;

/// So many steps reach the bottom to the fourth digit.
const STEPS: u32 = 400;

/// Minimises, over factor a, direction w and offset b,
/// `Σ weight · cross-entropy(violates, sigmoid(a·x + w·(v − mean) + b)) + λ_w/2 |w|² + λ_a/2 (a − 1)²`
/// with `x` the log-odds above the threshold, divided by [`ODDS_SCALE`], by Nesterov's method for convex functions.
pub(super) fn fit(samples: &Samples<'_>) -> Learned {
    let (dim, rarer) = (samples.dim(), samples.rarer());
    let mean = mean(&samples.list, dim);
    let rows: Vec<Row> = samples.list.iter().map(|sample| Row::of(sample, &mean)).collect();
    let (pull_w, pull_a) = (PULL_DIRECTION / rarer, PULL_SCALE / rarer);
    // The second derivative of the cross-entropy is at most ¼ of the squared length of a row.
    let curvature: f64 = rows.iter().map(|row| row.weight * row.square() / 4.0).sum();
    let step = 1.0 / (curvature + pull_w.max(pull_a));
    let start = Numbers { direction: vec![0.0; dim], scale: 1.0, offset: 0.0 };
    let (mut now, mut ahead) = (start.clone(), start);
    for round in 1..=STEPS {
        let gradient = gradient(&rows, &ahead, pull_w, pull_a);
        let next = ahead.less(&gradient, step);
        let momentum = (f64::from(round) - 1.0) / (f64::from(round) + 2.0);
        ahead = next.beyond(&now, momentum);
        now = next;
    }
    // Back to plain log-odds and vectors.
    let scale = now.scale / ODDS_SCALE;
    let centre: f64 = now.direction.iter().zip(&mean).map(|(w, m)| w * m).sum();
    #[expect(clippy::cast_possible_truncation, reason = "f32 is the models' precision")]
    let direction = now.direction.iter().map(|w| *w as f32).collect();
    let offset = samples.threshold * (1.0 - scale) - centre + now.offset;
    Learned::Probe { scale, direction, offset }
}

struct Row {
    view: Vec<f64>,
    /// In units of [`ODDS_SCALE`].
    odds: f64,
    target: f64,
    weight: f64,
}

impl Row {
    fn of(sample: &Sample, mean: &[f64]) -> Self {
        let components = sample.view.as_slice().iter().zip(mean);
        Self {
            view: components.map(|(x, mean)| f64::from(*x) - mean).collect(),
            odds: sample.odds / ODDS_SCALE,
            target: f64::from(u8::from(sample.violates)),
            weight: sample.weight,
        }
    }

    fn square(&self) -> f64 {
        self.view.iter().map(|x| x * x).sum::<f64>() + self.odds * self.odds + 1.0
    }
}

#[derive(Clone)]
struct Numbers {
    direction: Vec<f64>,
    scale: f64,
    offset: f64,
}

impl Numbers {
    fn less(&self, gradient: &Self, step: f64) -> Self {
        let pairs = self.direction.iter().zip(&gradient.direction);
        Self {
            direction: pairs.map(|(x, g)| x - step * g).collect(),
            scale: self.scale - step * gradient.scale,
            offset: self.offset - step * gradient.offset,
        }
    }

    fn beyond(&self, before: &Self, momentum: f64) -> Self {
        let go = |now: f64, before: f64| now + momentum * (now - before);
        let pairs = self.direction.iter().zip(&before.direction);
        Self {
            direction: pairs.map(|(now, before)| go(*now, *before)).collect(),
            scale: go(self.scale, before.scale),
            offset: go(self.offset, before.offset),
        }
    }
}

fn mean(samples: &[Sample], dim: usize) -> Vec<f64> {
    let mut mean = vec![0.0; dim];
    for sample in samples {
        let share = 1.0 / count(samples);
        mean.iter_mut().zip(sample.view.as_slice()).for_each(|(m, x)| *m += share * f64::from(*x));
    }
    mean
}

#[expect(clippy::cast_precision_loss, reason = "a few thousand")]
fn count<T>(list: &[T]) -> f64 {
    list.len() as f64
}

fn gradient(rows: &[Row], at: &Numbers, pull_w: f64, pull_a: f64) -> Numbers {
    let mut gradient = Numbers {
        direction: at.direction.iter().map(|w| pull_w * w).collect(),
        scale: pull_a * (at.scale - 1.0),
        offset: 0.0,
    };
    for row in rows {
        let along: f64 = row.view.iter().zip(&at.direction).map(|(x, w)| x * w).sum();
        let error = row.weight * (sigmoid(at.scale * row.odds + along + at.offset) - row.target);
        gradient.direction.iter_mut().zip(&row.view).for_each(|(g, x)| *g += error * x);
        gradient.scale += error * row.odds;
        gradient.offset += error;
    }
    gradient
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moderation::adapter::fitting::Example;
    use crate::moderation::adapter::validation::tests::{domain, plain};

    #[test]
    fn with_what_the_words_know_already_the_words_stay() {
        let classifier = plain();
        let examples = domain(40, 0.0);
        let examples: Vec<&Example> = examples.iter().collect();
        let Learned::Probe { scale, direction, .. } = fit(&Samples::of(&classifier, &examples))
        else {
            panic!("a probe")
        };
        let length = direction.iter().map(|x| x * x).sum::<f32>().sqrt();
        assert!(scale > 0.2 && length.is_finite(), "{scale} {length}");
    }

    #[test]
    fn the_bottom_is_reached() {
        let classifier = plain();
        let examples = domain(30, 1.0);
        let examples: Vec<&Example> = examples.iter().collect();
        let samples = Samples::of(&classifier, &examples);
        let Learned::Probe { scale, direction, offset } = fit(&samples) else { panic!("a probe") };
        // At the bottom the gradient is nothing.
        let mean = mean(&samples.list, samples.dim());
        let rows: Vec<Row> = samples.list.iter().map(|one| Row::of(one, &mean)).collect();
        let direction: Vec<f64> = direction.into_iter().map(f64::from).collect();
        let centre: f64 = direction.iter().zip(&mean).map(|(w, m)| w * m).sum();
        let offset = offset - samples.threshold * (1.0 - scale) + centre;
        let at = Numbers { direction, scale: scale * ODDS_SCALE, offset };
        let rarer = samples.rarer();
        let left = gradient(&rows, &at, PULL_DIRECTION / rarer, PULL_SCALE / rarer);
        let length = left.direction.iter().map(|g| g * g).sum::<f64>().sqrt();
        assert!(length < 1e-3 && left.scale.abs() < 1e-3 && left.offset.abs() < 1e-3, "{length}");
    }
}
