//! How good a policy is, from what people decided: shares with intervals, curves, thresholds.
//!
//! Plain arithmetic over pairs of a score and the truth; where the pairs come from is for others.

use super::score::sigmoid;

/// The two-sided 95 % quantile of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// A share `hits / of` with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// How many were.
    pub hits: u64,
    /// Of how many.
    pub of: u64,
}

impl Share {
    /// `hits` of `of`.
    pub fn new(hits: u64, of: u64) -> Self {
        Self { hits, of }
    }

    /// 0..=1; none of nothing.
    #[expect(clippy::cast_precision_loss, reason = "counts of people's decisions")]
    pub fn value(self) -> Option<f64> {
        (self.of > 0).then(|| self.hits as f64 / self.of as f64)
    }

    /// Wilson's 95 % score interval (Wilson 1927, equation 5): never beyond 0..=1, and honest for
    /// few decisions and for shares near 0 and 1. Of nothing, everything is possible.
    #[expect(clippy::cast_precision_loss, reason = "counts of people's decisions")]
    pub fn interval(self) -> (f64, f64) {
        let Some(share) = self.value() else { return (0.0, 1.0) };
        let (lower, upper) = wilson(share, self.of as f64);
        // At the ends the formula gives 0 and 1 up to rounding.
        (if self.hits == 0 { 0.0 } else { lower }, if self.hits == self.of { 1.0 } else { upper })
    }

    /// The lower end of the interval.
    pub fn lower(self) -> f64 {
        self.interval().0
    }
}

fn wilson(share: f64, n: f64) -> (f64, f64) {
    let (square, scale) = (Z * Z, 1.0 + Z * Z / n);
    let middle = (share + square / (2.0 * n)) / scale;
    let half = Z / scale * (share * (1.0 - share) / n + square / (4.0 * n * n)).sqrt();
    ((middle - half).max(0.0), (middle + half).min(1.0))
}

/// A random sample of what no policy flagged, decided by a person.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// The chance with which it was drawn, above 0 and at most 1.
    pub rate: f64,
    /// It was removed: the policies missed it.
    pub violates: bool,
}

/// How much of what should be removed the policies find.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RecallEstimate {
    /// 0..=1.
    pub recall: f64,
    /// The 95 % interval.
    pub interval: (f64, f64),
    /// Pictures that are missed, estimated.
    pub missed: f64,
}

/// Estimates recall from `found` removed pictures that policies had flagged and from samples of
/// the rest. Each sample stands for 1/rate pictures (Horvitz and Thompson 1952). The interval is
/// Wilson's for the share of violations among the rest, with Kish's effective number of samples,
/// (Σw)² / Σw². None without samples, or where there is nothing to find.
#[expect(clippy::cast_precision_loss, reason = "counts of people's decisions")]
pub fn estimated_recall(found: u64, samples: &[Sample]) -> Option<RecallEstimate> {
    let weights: f64 = samples.iter().map(|sample| 1.0 / sample.rate).sum();
    let squares: f64 = samples.iter().map(|sample| sample.rate.powi(-2)).sum();
    let violating = samples.iter().filter(|sample| sample.violates);
    // A sum of nothing is −0.
    let missed: f64 = violating.map(|sample| 1.0 / sample.rate).sum::<f64>() + 0.0;
    let found = found as f64;
    if samples.is_empty() || found + missed <= 0.0 {
        return None;
    }
    let (fewest, most) = wilson(missed / weights, weights * weights / squares);
    let recall = |missed: f64| found / (found + missed);
    // Without a violation among the samples nothing speaks against finding everything.
    let upper = if missed > 0.0 { recall(fewest * weights) } else { 1.0 };
    let interval = (recall(most * weights), upper);
    Some(RecallEstimate { recall: recall(missed), interval, missed })
}

/// A score and whether a person found that the policy's topic is there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Labelled {
    /// 0..=1.
    pub score: f32,
    /// A person removed it for this policy.
    pub violates: bool,
}

/// What a threshold makes of labelled scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Flagged and violating.
    pub hits: u64,
    /// Flagged and fine.
    pub false_alarms: u64,
    /// Not flagged and violating.
    pub missed: u64,
    /// Not flagged and fine.
    pub passed: u64,
}

impl Counts {
    /// Counts what is at or above the threshold.
    pub fn at(labelled: &[Labelled], threshold: f32) -> Self {
        labelled
            .iter()
            .fold(Self::default(), |counts, one| counts.with(one.score >= threshold, one.violates))
    }

    /// One more.
    #[must_use]
    pub fn with(mut self, flagged: bool, violates: bool) -> Self {
        match (flagged, violates) {
            (true, true) => self.hits += 1,
            (true, false) => self.false_alarms += 1,
            (false, true) => self.missed += 1,
            (false, false) => self.passed += 1,
        }
        self
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            hits: self.hits + other.hits,
            false_alarms: self.false_alarms + other.false_alarms,
            missed: self.missed + other.missed,
            passed: self.passed + other.passed,
        }
    }

    /// Of what is flagged, how much violates.
    pub fn precision(self) -> Share {
        Share::new(self.hits, self.hits + self.false_alarms)
    }

    /// Of what violates, how much is flagged.
    pub fn recall(self) -> Share {
        Share::new(self.hits, self.hits + self.missed)
    }

    /// All that were counted.
    pub fn total(self) -> u64 {
        self.hits + self.false_alarms + self.missed + self.passed
    }
}

/// The area under the ROC curve: the chance that a violating picture scores higher than a fine
/// one, ties counting half (Mann and Whitney's U, normalised). None without both kinds.
#[expect(clippy::cast_precision_loss, reason = "counts of pictures")]
pub fn roc_auc(labelled: &[Labelled]) -> Option<f64> {
    let mut sorted = labelled.to_vec();
    sorted.sort_by(|a, b| a.score.total_cmp(&b.score));
    let violating = sorted.iter().filter(|one| one.violates).count() as f64;
    let fine = sorted.len() as f64 - violating;
    if violating == 0.0 || fine == 0.0 {
        return None;
    }
    let (mut fine_below, mut won) = (0.0, 0.0);
    for tied in sorted.chunk_by(|a, b| a.score.total_cmp(&b.score).is_eq()) {
        let violating_here = tied.iter().filter(|one| one.violates).count() as f64;
        let fine_here = tied.len() as f64 - violating_here;
        won += violating_here * (fine_below + fine_here / 2.0);
        fine_below += fine_here;
    }
    Some(won / (violating * fine))
}

/// One point of an operating curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Scores from here on are flagged.
    pub threshold: f32,
    /// What that makes of the labelled scores.
    pub counts: Counts,
}

/// The operating curve: one point for every score that occurs, from the strictest down.
pub fn curve(labelled: &[Labelled]) -> Vec<Point> {
    let mut sorted = labelled.to_vec();
    sorted.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut counts = Counts::at(&sorted, f32::INFINITY);
    let mut points = Vec::new();
    for tied in sorted.chunk_by(|a, b| a.score.total_cmp(&b.score).is_eq()) {
        for one in tied {
            if one.violates {
                counts.hits += 1;
                counts.missed -= 1;
            } else {
                counts.false_alarms += 1;
                counts.passed -= 1;
            }
        }
        points.push(Point { threshold: tied[0].score, counts });
    }
    points
}

/// The lowest threshold (the most finds) at which the lower bound of precision is still at least
/// `precision`; none where no threshold has it.
pub fn threshold_for_precision(labelled: &[Labelled], precision: f64) -> Option<Point> {
    let good = |point: &Point| point.counts.precision().lower() >= precision;
    curve(labelled).into_iter().rfind(good)
}

/// The highest threshold (the fewest false alarms) at which the lower bound of recall among the
/// labelled is at least `recall`; none where there are too few finds to say so.
pub fn threshold_for_recall(labelled: &[Labelled], recall: f64) -> Option<Point> {
    curve(labelled).into_iter().find(|point| point.counts.recall().lower() >= recall)
}

/// Maps a score to the probability that a person would remove the picture:
/// `sigmoid(slope · logit(score) + intercept)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Calibration {
    /// Multiplies the log-odds of the score.
    pub slope: f32,
    /// Is added.
    pub intercept: f32,
}

impl Calibration {
    /// 0..=1.
    pub fn probability(self, score: f32) -> f64 {
        sigmoid(f64::from(self.slope) * log_odds(score) + f64::from(self.intercept))
    }

    /// Fits both numbers by maximum likelihood (Newton's method, 50 steps at most). Targets are
    /// smoothed and not 0 and 1, as Platt 1999 (section 2.2) does against overfitting. None
    /// without both kinds, or where higher scores don't mean more violations.
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "few digits")]
    pub fn fit(labelled: &[Labelled]) -> Option<Self> {
        let violating = labelled.iter().filter(|one| one.violates).count() as f64;
        let fine = labelled.len() as f64 - violating;
        if violating == 0.0 || fine == 0.0 {
            return None;
        }
        let targets = [1.0 / (fine + 2.0), (violating + 1.0) / (violating + 2.0)];
        let points: Vec<(f64, f64)> = labelled
            .iter()
            .map(|one| (log_odds(one.score), targets[usize::from(one.violates)]))
            .collect();
        let (mut slope, mut intercept) = (0.0, ((violating + 1.0) / (fine + 1.0)).ln());
        let mut loss = cross_entropy(&points, slope, intercept);
        for _ in 0..50 {
            // A little ridge keeps the matrix invertible where all scores are alike.
            let mut gradient = [0.0, 0.0];
            let (mut ss, mut si, mut ii) = (1e-9, 0.0, 1e-9);
            for (x, target) in &points {
                let p = sigmoid(slope * x + intercept);
                let (error, weight) = (p - target, p * (1.0 - p));
                gradient[0] += error * x;
                gradient[1] += error;
                ss += weight * x * x;
                si += weight * x;
                ii += weight;
            }
            let determinant = ss * ii - si * si;
            if determinant.abs() < 1e-18 || gradient.iter().all(|part| part.abs() < 1e-7) {
                break;
            }
            let step = [
                (ii * gradient[0] - si * gradient[1]) / determinant,
                (ss * gradient[1] - si * gradient[0]) / determinant,
            ];
            // Halve a step that overshoots.
            let mut size = 1.0;
            let better = loop {
                let tried = (slope - size * step[0], intercept - size * step[1]);
                let tried_loss = cross_entropy(&points, tried.0, tried.1);
                if tried_loss < loss {
                    break Some((tried, tried_loss));
                }
                size /= 2.0;
                if size < 1e-6 {
                    break None;
                }
            };
            let Some((tried, tried_loss)) = better else { break };
            ((slope, intercept), loss) = (tried, tried_loss);
        }
        (slope > 0.0).then_some(Self { slope: slope as f32, intercept: intercept as f32 })
    }
}

/// Scores are kept a little away from 0 and 1, whose log-odds are infinite.
fn log_odds(score: f32) -> f64 {
    let score = f64::from(score).clamp(1e-6, 1.0 - 1e-6);
    (score / (1.0 - score)).ln()
}

fn cross_entropy(points: &[(f64, f64)], slope: f64, intercept: f64) -> f64 {
    let loss = |(x, target): &(f64, f64)| {
        let logit = slope * x + intercept;
        // ln(1 + e^logit) − target · logit, in a form that can't overflow.
        logit.max(0.0) + (-logit.abs()).exp().ln_1p() - target * logit
    };
    points.iter().map(loss).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labelled(pairs: &[(f32, bool)]) -> Vec<Labelled> {
        pairs
            .iter()
            .map(|(score, violates)| Labelled { score: *score, violates: *violates })
            .collect()
    }

    #[test]
    fn wilsons_interval_is_the_published_one() {
        // Newcombe 1998, table I, method 3: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
        for (hits, of, lower, upper) in [
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
        ] {
            let (low, high) = Share::new(hits, of).interval();
            assert!((low - lower).abs() < 5e-5 && (high - upper).abs() < 5e-5, "{low} {high}");
        }
        assert_eq!(Share::new(0, 0).interval(), (0.0, 1.0));
        assert_eq!(Share::new(7, 7).interval().1.to_bits(), 1.0_f64.to_bits());
    }

    #[test]
    fn recall_is_estimated_from_samples_by_their_weights() {
        let samples = |rate, violating, fine| {
            let one = move |violates| Sample { rate, violates };
            let mut all = vec![one(true); violating];
            all.extend(vec![one(false); fine]);
            all
        };
        // 2 of 200 samples at 10 %: about 20 of 2000 are missed.
        let estimate = estimated_recall(80, &samples(0.1, 2, 198)).expect("some to find");
        assert!((estimate.recall - 0.8).abs() < 1e-9 && (estimate.missed - 20.0).abs() < 1e-9);
        // Wilson for 2 of 200: 0.275 % to 3.572 %, so 5.5 to 71.4 are missed.
        let (lower, upper) = estimate.interval;
        assert!(
            (lower - 80.0 / 151.4).abs() < 2e-3 && (upper - 80.0 / 85.5).abs() < 2e-3,
            "{estimate:?}"
        );
        let clean = estimated_recall(80, &samples(0.1, 0, 50)).expect("some to find");
        assert!(clean.interval.1 >= 1.0 && clean.interval.0 < 0.7, "{clean:?}");
        let mut mixed = samples(0.1, 1, 99);
        mixed.extend(samples(1.0, 1, 9));
        let mixed = estimated_recall(89, &mixed).expect("some to find");
        assert!((mixed.missed - 11.0).abs() < 1e-9, "each by its own weight: {mixed:?}");
        assert_eq!(estimated_recall(80, &[]), None);
        assert_eq!(estimated_recall(0, &samples(0.1, 0, 5)), None);
    }

    #[test]
    fn the_area_counts_ties_half() {
        let auc = |pairs: &[(f32, bool)]| roc_auc(&labelled(pairs));
        assert_eq!(auc(&[(0.9, true), (0.1, false)]), Some(1.0));
        assert_eq!(auc(&[(0.1, true), (0.9, false)]), Some(0.0));
        assert_eq!(auc(&[(0.5, true), (0.5, false)]), Some(0.5));
        assert_eq!(auc(&[(0.8, true), (0.5, true), (0.5, false), (0.1, false)]), Some(0.875));
        assert_eq!(auc(&[(0.5, true)]), None);
    }

    #[test]
    fn thresholds_are_the_lowest_and_the_highest_that_hold_the_bound() {
        // 40 violating at 0.9, 40 fine at 0.2, and 40 of each at 0.5.
        let mut all = vec![Labelled { score: 0.9, violates: true }; 40];
        all.extend(vec![Labelled { score: 0.2, violates: false }; 40]);
        for violates in [true, false] {
            all.extend(vec![Labelled { score: 0.5, violates }; 40]);
        }
        let strict = threshold_for_precision(&all, 0.9).expect("40 of 40 is enough");
        assert!((strict.threshold - 0.9).abs() < 1e-6, "{strict:?}");
        let loose = threshold_for_precision(&all, 0.5).expect("80 of 120 is enough");
        assert!((loose.threshold - 0.5).abs() < 1e-6, "{loose:?}");
        assert_eq!(threshold_for_precision(&all, 0.999), None, "40 decisions can't show that");
        let all_found = threshold_for_recall(&all, 0.9).expect("80 of 80");
        assert!((all_found.threshold - 0.5).abs() < 1e-6, "{all_found:?}");
        assert_eq!(threshold_for_recall(&labelled(&[(0.9, true)]), 0.9), None);
    }

    #[test]
    fn a_calibration_finds_the_curve_that_made_the_decisions() {
        // Violations drawn exactly at the rate sigmoid(2 · logit + 1).
        let truth = Calibration { slope: 2.0, intercept: 1.0 };
        let mut all = Vec::new();
        for step in 1..40_u16 {
            let score = f32::from(step) / 40.0;
            let share = truth.probability(score);
            for index in 0..1000 {
                all.push(Labelled { score, violates: f64::from(index) < share * 1000.0 });
            }
        }
        let fitted = Calibration::fit(&all).expect("both kinds");
        assert!(
            (fitted.slope - 2.0).abs() < 0.05 && (fitted.intercept - 1.0).abs() < 0.05,
            "{fitted:?}"
        );
        assert_eq!(Calibration::fit(&all[..0]), None);
        let upside_down = labelled(&[(0.1, true), (0.2, true), (0.8, false), (0.9, false)]);
        assert_eq!(Calibration::fit(&upside_down), None);
        let separable = labelled(&[(0.1, false), (0.2, false), (0.8, true), (0.9, true)]);
        assert!(Calibration::fit(&separable).is_some_and(|fit| fit.slope.is_finite()));
    }

    proptest! {
        #[test]
        fn every_point_of_the_curve_counts_what_its_threshold_flags(
            pairs in proptest::collection::vec((0_u8..20, any::<bool>()), 1..60),
        ) {
            let all: Vec<_> = pairs
                .iter()
                .map(|(score, violates)| Labelled { score: f32::from(*score) / 20.0, violates: *violates })
                .collect();
            for point in curve(&all) {
                prop_assert_eq!(point.counts, Counts::at(&all, point.threshold));
            }
        }

        #[test]
        fn the_interval_holds_the_share(of in 1_u64..500, part in 0.0_f64..=1.0) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "small and positive")]
            let hits = (part * of as f64) as u64;
            let share = Share::new(hits, of);
            let (low, high) = share.interval();
            let value = share.value().expect("of some");
            prop_assert!(low <= value && value <= high && low >= 0.0 && high <= 1.0);
        }
    }
}
