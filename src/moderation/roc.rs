//! How well scores tell what belongs to a policy from what does not: the area under the ROC curve,
//! with intervals.

/// Standard normal quantile of a two-sided 95 % interval.
const Z: f64 = 1.959_963_985;

/// An estimate with the 95 % interval around it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The estimate.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Scores of the pictures that belong to a policy and of those that do not, in a fixed order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Labelled {
    /// Scores of those that belong, 0..=1.
    pub belong: Vec<f32>,
    /// Scores of the others, 0..=1.
    pub others: Vec<f32>,
}

impl Labelled {
    /// The area under the ROC curve: the probability that a picture that belongs scores higher
    /// than one that does not, ties half. The interval is the one that Newcombe (2006, "Confidence
    /// intervals for an effect size measure based on the Mann-Whitney statistic. Part 2", method 5)
    /// found to hold best near 1. `None` when either side is empty.
    pub fn auc(&self) -> Option<Estimate> {
        let value = mean(&self.placements()?.0);
        let (m, n) = (count(&self.belong), count(&self.others));
        let half = f64::midpoint(m, n) - 1.0;
        let variance = |auc: f64| {
            let spread = 1.0 + half * (1.0 - auc) / (2.0 - auc) + half * auc / (1.0 + auc);
            auc * (1.0 - auc) * spread / (m * n)
        };
        // Where the distance to the estimate is just Z deviations.
        let end = |mut inside: f64, mut outside: f64| {
            for _ in 0..60 {
                let middle = f64::midpoint(inside, outside);
                if (middle - value).abs() <= Z * variance(middle).max(0.0).sqrt() {
                    inside = middle;
                } else {
                    outside = middle;
                }
            }
            inside
        };
        Some(Estimate { value, low: end(value, 0.0), high: end(value, 1.0) })
    }

    /// The ROC curve from (0, 0) to (1, 1): of the others, the share that scores at least so much,
    /// and of those that belong, at each score. Nothing when either side is empty.
    pub fn curve(&self) -> Vec<(f64, f64)> {
        if self.belong.is_empty() || self.others.is_empty() {
            return Vec::new();
        }
        let mut scores: Vec<f32> = self.belong.iter().chain(&self.others).copied().collect();
        scores.sort_by(|a, b| b.total_cmp(a));
        scores.dedup();
        let share = |side: &[f32], from: f32| {
            let above: Vec<f32> = side.iter().filter(|score| **score >= from).copied().collect();
            count(&above) / count(side)
        };
        let point = |from: f32| (share(&self.others, from), share(&self.belong, from));
        std::iter::once((0.0, 0.0)).chain(scores.into_iter().map(point)).collect()
    }

    /// For each picture that belongs, the share of the others that it beats; and for each of the
    /// others, the share of those that belong that beat it (`DeLong` et al. 1988).
    fn placements(&self) -> Option<(Vec<f64>, Vec<f64>)> {
        if self.belong.is_empty() || self.others.is_empty() {
            return None;
        }
        let beats = |a: f32, b: f32| match a.total_cmp(&b) {
            std::cmp::Ordering::Greater => 1.0,
            std::cmp::Ordering::Equal => 0.5,
            std::cmp::Ordering::Less => 0.0,
        };
        let belong = self
            .belong
            .iter()
            .map(|a| self.others.iter().map(|b| beats(*a, *b)).sum::<f64>() / count(&self.others));
        let others = self
            .others
            .iter()
            .map(|b| self.belong.iter().map(|a| beats(*a, *b)).sum::<f64>() / count(&self.belong));
        Some((belong.collect(), others.collect()))
    }
}

/// How much larger the area is with `b` than with `a`, the same pictures scored twice (`DeLong`
/// et al. 1988). `None` when a side is empty or the pictures are not the same
/// number.
pub fn auc_difference(a: &Labelled, b: &Labelled) -> Option<Estimate> {
    if a.belong.len() != b.belong.len() || a.others.len() != b.others.len() {
        return None;
    }
    let ((belong_a, others_a), (belong_b, others_b)) = (a.placements()?, b.placements()?);
    let differences =
        |x: &[f64], y: &[f64]| -> Vec<f64> { x.iter().zip(y).map(|(x, y)| y - x).collect() };
    let (belong, others) = (differences(&belong_a, &belong_b), differences(&others_a, &others_b));
    let value = mean(&belong);
    let variance = spread(&belong) + spread(&others);
    let reach = Z * variance.sqrt();
    Some(Estimate { value, low: (value - reach).max(-1.0), high: (value + reach).min(1.0) })
}

#[expect(clippy::cast_precision_loss, reason = "pictures are far fewer than 2^52")]
fn count<T>(list: &[T]) -> f64 {
    list.len() as f64
}

fn mean(list: &[f64]) -> f64 {
    list.iter().sum::<f64>() / count(list)
}

/// Variance of the mean.
fn spread(list: &[f64]) -> f64 {
    if list.len() < 2 {
        return 0.0;
    }
    let mean = mean(list);
    list.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (count(list) - 1.0) / count(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labelled(belong: &[f32], others: &[f32]) -> Labelled {
        Labelled { belong: belong.to_vec(), others: others.to_vec() }
    }

    #[test]
    fn the_area_is_the_share_of_pairs_in_order() {
        let auc = labelled(&[0.9, 0.4], &[0.1, 0.4, 0.5]).auc().expect("both sides");
        // 0.9 beats three; 0.4 beats one and ties with one.
        assert!((auc.value - 4.5 / 6.0).abs() < 1e-12);
        assert!(auc.low < auc.value && auc.value < auc.high && auc.high <= 1.0);
        assert_eq!(labelled(&[], &[0.1]).auc(), None);
    }

    #[test]
    fn the_curve_has_the_area_below_it() {
        let scores = labelled(&[0.9, 0.4, 0.4, 0.2], &[0.1, 0.4, 0.5]);
        let curve = scores.curve();
        assert_eq!((curve[0], curve.last()), ((0.0, 0.0), Some(&(1.0, 1.0))));
        let area: f64 =
            curve.windows(2).map(|w| (w[1].0 - w[0].0) * f64::midpoint(w[0].1, w[1].1)).sum();
        assert!((area - scores.auc().expect("both sides").value).abs() < 1e-12, "{curve:?}");
        assert_eq!(labelled(&[0.4], &[]).curve(), []);
    }

    #[test]
    fn a_perfect_order_of_few_is_not_certain() {
        let few = labelled(&[0.9; 5], &[0.1; 20]).auc().expect("both sides");
        let many = labelled(&[0.9; 500], &[0.1; 2000]).auc().expect("both sides");
        assert!((few.value - 1.0).abs() < 1e-12 && (few.high - 1.0).abs() < 1e-9);
        assert!(few.low < 0.95 && few.low > 0.5, "{few:?}");
        assert!(many.low > 0.99, "{many:?}");
    }

    #[test]
    fn the_difference_knows_that_the_pictures_are_the_same() {
        let a = labelled(&[0.9, 0.8, 0.3, 0.6], &[0.1, 0.2, 0.5, 0.4]);
        let none = auc_difference(&a, &a).expect("the same pictures");
        assert_eq!((none.value, none.low, none.high), (0.0, 0.0, 0.0));
        let b = labelled(&[0.9, 0.8, 0.7, 0.6], &[0.1, 0.2, 0.5, 0.4]);
        let better = auc_difference(&a, &b).expect("the same pictures");
        assert!((better.value - 2.0 / 16.0).abs() < 1e-12);
        assert!(better.low < better.value && better.value < better.high);
        assert_eq!(auc_difference(&a, &labelled(&[0.1], &[0.1])), None);
    }
}
