//! How well a model names what is in pictures, and finds pictures by a description, without any
//! training: the figures that papers about dual encoders report.

use super::measure::Share;

/// Equal bins of confidence over 0..=1, as in Guo et al. 2017.
const BINS: usize = 15;

/// Zero-shot classification of labelled pictures, counted one picture at a time.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// `[true class][predicted class]`: pictures.
    pub confusion: Vec<Vec<u64>>,
    /// Pictures whose class was among the five most probable.
    top5: u64,
    bins: [Bin; BINS],
}

/// Pictures of about the same confidence.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Bin {
    /// How many pictures.
    pub pictures: u64,
    /// How many of them were named rightly.
    pub right: u64,
    confidence: f64,
}

/// What became of the pictures of one class.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassFigures {
    /// Of its pictures, those that were named so (recall).
    pub found: Share,
    /// Of the pictures that were named so, those that are (precision).
    pub right: Share,
    /// The harmonic mean of both; none without pictures of the class.
    pub f1: Option<f64>,
    /// The class that its pictures were most often taken for instead, and how many were.
    pub taken_for: Option<(usize, u64)>,
}

impl Evaluation {
    /// Nothing counted yet.
    pub fn new(classes: usize) -> Self {
        let bins = [Bin::default(); BINS];
        Self { confusion: vec![vec![0; classes]; classes], top5: 0, bins }
    }

    /// One more picture: its class, and of each class logit and probability. Classes are ordered
    /// by their logits, because probabilities near 1 may be equal where logits are not; of equal
    /// ones the first counts as more probable. Answers the class that was predicted.
    pub fn add(&mut self, class: usize, logits: &[f64], probabilities: &[f64]) -> usize {
        let before = |index: usize, other: usize| {
            let order = logits[other].total_cmp(&logits[index]);
            order.is_gt() || (order.is_eq() && other < index)
        };
        let classes = 0..logits.len();
        let rank = classes.clone().filter(|other| before(class, *other)).count();
        let predicted = classes.fold(0, |best, one| if before(best, one) { one } else { best });
        self.top5 += u64::from(rank < 5);
        self.confusion[class][predicted] += 1;
        let confidence = probabilities[predicted];
        let bin = &mut self.bins[bin_of(confidence)];
        bin.pictures += 1;
        bin.right += u64::from(predicted == class);
        bin.confidence += confidence;
        predicted
    }

    /// All pictures.
    pub fn pictures(&self) -> u64 {
        self.confusion.iter().flatten().sum()
    }

    /// Pictures whose most probable class was theirs.
    pub fn top1(&self) -> Share {
        let right = self.confusion.iter().enumerate().map(|(class, row)| row[class]).sum();
        Share::new(right, self.pictures())
    }

    /// Pictures whose class was among the five most probable.
    pub fn top5(&self) -> Share {
        Share::new(self.top5, self.pictures())
    }

    /// The mean over the classes that have pictures of the share that was named rightly: each
    /// class counts the same, however many pictures it has.
    #[expect(clippy::cast_precision_loss, reason = "few classes")]
    pub fn mean_class_accuracy(&self) -> Option<f64> {
        let classes = 0..self.confusion.len();
        let shares: Vec<f64> =
            classes.filter_map(|class| self.class(class).found.value()).collect();
        (!shares.is_empty()).then(|| shares.iter().sum::<f64>() / shares.len() as f64)
    }

    /// One class.
    #[expect(clippy::cast_precision_loss, reason = "counts of pictures")]
    pub fn class(&self, class: usize) -> ClassFigures {
        let row = &self.confusion[class];
        let hits = row[class];
        let (pictures, named): (u64, u64) =
            (row.iter().sum(), self.confusion.iter().map(|row| row[class]).sum());
        let others = row.iter().enumerate().filter(|(other, count)| *other != class && **count > 0);
        // Of equal ones the first.
        let taken_for = others.rev().max_by_key(|(_, count)| **count);
        ClassFigures {
            found: Share::new(hits, pictures),
            right: Share::new(hits, named),
            f1: (pictures > 0).then(|| 2.0 * hits as f64 / (pictures + named) as f64),
            taken_for: taken_for.map(|(other, count)| (other, *count)),
        }
    }

    /// The bins of confidence, from 0 to 1, with their bounds.
    #[expect(clippy::cast_precision_loss, reason = "fifteen bins")]
    pub fn bins(&self) -> impl Iterator<Item = (f64, f64, Bin)> {
        let bound = |index: usize| index as f64 / BINS as f64;
        self.bins.iter().enumerate().map(move |(index, bin)| (bound(index), bound(index + 1), *bin))
    }

    /// The expected calibration error (Guo et al. 2017, equation 3): the mean over pictures of the
    /// distance between a bin's confidence and its accuracy. None of nothing.
    #[expect(clippy::cast_precision_loss, reason = "counts of pictures")]
    pub fn calibration_error(&self) -> Option<f64> {
        let total = self.pictures();
        // A bin's sums are its means times its pictures, which cancel.
        let apart = |bin: &Bin| (bin.right as f64 - bin.confidence).abs();
        (total > 0).then(|| self.bins.iter().map(apart).sum::<f64>() / total as f64)
    }
}

impl Bin {
    /// Mean confidence; none of nothing.
    #[expect(clippy::cast_precision_loss, reason = "counts of pictures")]
    pub fn confidence(self) -> Option<f64> {
        (self.pictures > 0).then(|| self.confidence / self.pictures as f64)
    }

    /// The share that was named rightly.
    pub fn accuracy(self) -> Share {
        Share::new(self.right, self.pictures)
    }
}

/// Bins are open below and closed above: (0, 1/15], (1/15, 2/15], …; 0 falls into the first.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "within 0..15"
)]
fn bin_of(confidence: f64) -> usize {
    let place = (confidence.clamp(0.0, 1.0) * BINS as f64).ceil() as usize;
    place.saturating_sub(1).min(BINS - 1)
}

/// What the first `k` finds of a query are worth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FoundAt {
    /// So many finds are looked at.
    pub k: usize,
    /// Of `k` finds, the share that is relevant.
    pub precision: f64,
    /// Of what is relevant, the share that is among them.
    pub recall: f64,
}

/// Precision and recall of a ranking, at each `k` (above 0). `relevant` says of each find, the
/// best first, whether it is relevant, and `of` how many relevant pictures there are (above 0).
#[expect(clippy::cast_precision_loss, reason = "counts of pictures")]
pub fn found_at(relevant: &[bool], of: usize, ks: &[usize]) -> Vec<FoundAt> {
    let at = |k: &usize| {
        let hits = relevant.iter().take(*k).filter(|relevant| **relevant).count() as f64;
        FoundAt { k: *k, precision: hits / *k as f64, recall: hits / of as f64 }
    };
    ks.iter().map(at).collect()
}

/// The mean over queries, at each `k`; empty without queries. All must have the same `k`s.
#[expect(clippy::cast_precision_loss, reason = "counts of queries")]
pub fn mean_found(queries: &[Vec<FoundAt>]) -> Vec<FoundAt> {
    let Some(first) = queries.first() else { return Vec::new() };
    let mean = |place: usize, of: fn(&FoundAt) -> f64| {
        queries.iter().map(|query| of(&query[place])).sum::<f64>() / queries.len() as f64
    };
    let at = |(place, one): (usize, &FoundAt)| FoundAt {
        k: one.k,
        precision: mean(place, |one| one.precision),
        recall: mean(place, |one| one.recall),
    };
    first.iter().enumerate().map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn add(evaluation: &mut Evaluation, class: usize, probabilities: &[f64]) -> usize {
        evaluation.add(class, probabilities, probabilities)
    }

    fn near(value: Option<f64>, expected: f64) -> bool {
        value.is_some_and(|value| (value - expected).abs() < 1e-12)
    }

    #[test]
    fn classes_are_counted_from_both_sides() {
        let mut evaluation = Evaluation::new(3);
        assert_eq!(add(&mut evaluation, 0, &[0.7, 0.2, 0.1]), 0);
        assert_eq!(add(&mut evaluation, 0, &[0.2, 0.7, 0.1]), 1);
        assert_eq!(add(&mut evaluation, 1, &[0.1, 0.8, 0.1]), 1);
        assert_eq!(add(&mut evaluation, 1, &[0.1, 0.9, 0.0]), 1);
        assert_eq!(evaluation.top1(), Share::new(3, 4));
        assert_eq!(evaluation.top5(), Share::new(4, 4), "there are only three classes");
        assert_eq!(evaluation.confusion, [[1, 1, 0], [0, 2, 0], [0, 0, 0]]);
        assert!(near(evaluation.mean_class_accuracy(), 0.75), "the third class has no pictures");
        let first = evaluation.class(0);
        assert_eq!((first.found, first.right), (Share::new(1, 2), Share::new(1, 1)));
        assert!(near(first.f1, 2.0 / 3.0));
        assert_eq!(first.taken_for, Some((1, 1)));
        let second = evaluation.class(1);
        assert_eq!((second.right, second.taken_for), (Share::new(2, 3), None));
        assert_eq!((evaluation.class(2).found.value(), evaluation.class(2).f1), (None, None));
    }

    #[test]
    fn the_first_of_equal_classes_counts_as_more_probable() {
        let mut evaluation = Evaluation::new(7);
        assert_eq!(add(&mut evaluation, 4, &[0.5; 7]), 0);
        assert_eq!(add(&mut evaluation, 5, &[0.5; 7]), 0);
        assert_eq!(evaluation.top5(), Share::new(1, 2), "the fifth is in, the sixth is not");
    }

    #[test]
    fn the_calibration_error_is_the_published_one() {
        // Two bins: (0.6, 0.66…] with confidence 0.65 and accuracy 0.5; (0.93…, 1] with 1 and 1.
        let mut evaluation = Evaluation::new(2);
        add(&mut evaluation, 0, &[0.65, 0.35]);
        add(&mut evaluation, 1, &[0.65, 0.35]);
        add(&mut evaluation, 1, &[0.0, 1.0]);
        add(&mut evaluation, 1, &[0.0, 1.0]);
        assert!(near(evaluation.calibration_error(), 0.15 * 2.0 / 4.0));
        let full: Vec<_> = evaluation.bins().filter(|(_, _, bin)| bin.pictures > 0).collect();
        assert_eq!(full.len(), 2);
        assert!(near(full[0].2.confidence(), 0.65));
        assert_eq!(full[1].2.accuracy(), Share::new(2, 2));
        assert_eq!(Evaluation::new(2).calibration_error(), None);
    }

    #[test]
    fn precision_and_recall_of_finds() {
        let found = found_at(&[true, false, true, false], 4, &[1, 3, 10]);
        assert_eq!(found[0], FoundAt { k: 1, precision: 1.0, recall: 0.25 });
        assert_eq!(found[1], FoundAt { k: 3, precision: 2.0 / 3.0, recall: 0.5 });
        assert_eq!(found[2], FoundAt { k: 10, precision: 0.2, recall: 0.5 });
        let mean = mean_found(&[found, found_at(&[false], 1, &[1, 3, 10])]);
        assert_eq!(mean[0], FoundAt { k: 1, precision: 0.5, recall: 0.125 });
        assert_eq!(mean_found(&[]), []);
    }

    proptest! {
        #[test]
        fn every_picture_is_counted_once(
            pictures in proptest::collection::vec(
                (0_usize..6, proptest::collection::vec(0.0_f64..=1.0, 6)), 1..40),
        ) {
            let mut evaluation = Evaluation::new(6);
            for (class, probabilities) in &pictures {
                add(&mut evaluation, *class, probabilities);
            }
            prop_assert_eq!(evaluation.pictures(), pictures.len() as u64);
            let in_bins: u64 = evaluation.bins().map(|(_, _, bin)| bin.pictures).sum();
            prop_assert_eq!(in_bins, pictures.len() as u64);
            for (low, high, bin) in evaluation.bins() {
                let inside = bin.confidence().is_none_or(|mean| low <= mean && mean <= high);
                prop_assert!(inside, "{} {} {:?}", low, high, bin);
            }
            prop_assert!(evaluation.top1().hits <= evaluation.top5().hits);
            let error = evaluation.calibration_error().expect("some pictures");
            prop_assert!((0.0..=1.0).contains(&error));
        }
    }
}
