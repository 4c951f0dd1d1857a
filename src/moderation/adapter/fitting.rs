//! What both methods learn from: labelled pictures as the policy sees them, and a seeded chance.

use crate::moderation::embedding::Embedding;
use crate::moderation::item::ItemId;
use crate::moderation::score::{Classifier, LogitScale};

use super::Method;

/// Pictures whose vectors have at least this cosine are copies or of one burst.
const ALIKE: f32 = 0.97;

/// A labelled picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// Its bytes, so that nothing is measured on what was learned from.
    pub item: ItemId,
    /// Its views, at least one.
    pub views: Vec<Embedding>,
    /// Whether it is what the policy looks for.
    pub violates: bool,
}

/// How to learn. The same recipe and examples give the same adapter, bit for bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recipe {
    /// Which way.
    pub method: Method,
    /// Rank of a low-rank adapter.
    pub rank: usize,
    /// Seeds the parts and the first numbers.
    pub seed: u64,
    /// The model's own loss: whether a prompt has a probability alone (a sigmoid for each pair,
    /// Zhai et al. 2023), or only among others (a softmax, Radford et al. 2021).
    pub sigmoid_loss: bool,
}

/// Why nothing can be learned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FitError {
    /// Too few of a kind.
    #[error(
        "{violating} pictures that violate the policy and {fine} that don't; at least {} of \
         each are needed",
        Example::FEWEST
    )]
    TooFew {
        /// Of the one kind.
        violating: usize,
        /// Of the other.
        fine: usize,
    },
    /// So many of a kind are copies of each other that a held-out part leaves too few.
    #[error(
        "nearly all {} pictures look the same: what is learned from some can't be tried on others; \
         different pictures are needed", if *violating { "violating" } else { "fine" }
    )]
    Alike {
        /// Which kind.
        violating: bool,
    },
    /// The policy has no prompt to hold against its own.
    #[error("the policy has no contrast prompt and no neutral one: all its scores are 1")]
    NoContrast,
    /// The learned numbers are none.
    #[error("learning came to no numbers; please report this")]
    NoNumbers,
}

impl Example {
    /// With fewer of a kind nothing can be shown, because a fifth of them is always held out.
    pub const FEWEST: usize = 8;

    /// More of a kind are not looked at; the first ones count.
    pub const MOST: usize = 2000;

    /// Whether both are copies or of one burst: to know one is to know the other.
    pub fn looks_like(&self, other: &Self) -> bool {
        self.views[0].cosine(&other.views[0]) >= ALIKE
    }
}

/// One labelled picture, by the view that scored highest.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) view: Embedding,
    /// What the words alone say, less the log-odds of the `review` threshold.
    pub(super) odds: f64,
    pub(super) violates: bool,
    /// Both kinds weigh one half in all.
    pub(super) weight: f64,
}

/// The policy's words and the labelled pictures.
#[derive(Debug, Clone)]
pub(super) struct Samples<'a> {
    pub(super) classifier: &'a Classifier,
    pub(super) list: Vec<Sample>,
    /// Log-odds of the threshold from which on a person looks.
    pub(super) threshold: f64,
}

impl<'a> Samples<'a> {
    /// `classifier` is that of the policy without an adapter.
    pub(super) fn of(classifier: &'a Classifier, examples: &[&Example]) -> Self {
        let threshold = log_odds(f64::from(classifier.policy.thresholds.review()));
        let mut kinds = [0.0_f64; 2];
        for example in examples {
            kinds[usize::from(example.violates)] += 1.0;
        }
        let sample = |example: &&Example| {
            let odds = example.views.iter().map(|view| (view, classifier.plain_log_odds(view)));
            let (view, odds) = odds.max_by(|a, b| a.1.total_cmp(&b.1))?;
            Some(Sample {
                view: view.clone(),
                odds: odds - threshold,
                violates: example.violates,
                weight: 0.5 / kinds[usize::from(example.violates)],
            })
        };
        Self { list: examples.iter().filter_map(sample).collect(), classifier, threshold }
    }

    /// How many there are of the rarer kind, at least 1.
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    pub(super) fn rarer(&self) -> f64 {
        let violating = self.list.iter().filter(|sample| sample.violates).count();
        violating.min(self.list.len() - violating).max(1) as f64
    }

    pub(super) fn dim(&self) -> usize {
        self.list.first().map_or(0, |sample| sample.view.dim())
    }

    pub(super) fn logit_scale(&self) -> LogitScale {
        self.classifier.logit_scale()
    }
}

/// Log-odds of a share, which is kept a little away from 0 and 1.
pub(super) fn log_odds(share: f64) -> f64 {
    let share = share.clamp(1e-6, 1.0 - 1e-6);
    (share / (1.0 - share)).ln()
}

/// `SplitMix64` (Steele, Lea, Flood 2014): a chance that is the same on every machine.
#[derive(Debug, Clone)]
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Above 0 and at most 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    fn share(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// Normally distributed, mean 0, deviation 1 (Box and Muller 1958).
    pub(super) fn normal(&mut self) -> f64 {
        let (radius, angle) = (self.share(), self.share());
        (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    }

    /// Shuffles (Fisher and Yates).
    pub(super) fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            #[expect(clippy::cast_possible_truncation, reason = "less than the length")]
            let other = (self.next() % (last as u64 + 1)) as usize;
            list.swap(last, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chance_is_the_published_one_and_looks_like_chance() {
        // The first numbers of SplitMix64 with the seed 1234567, as its authors' code prints them.
        let mut dice = Dice(1_234_567);
        assert_eq!(dice.next(), 6_457_827_717_110_365_317);
        assert_eq!(dice.next(), 3_203_168_211_198_807_973);
        let mut dice = Dice(7);
        let drawn: Vec<f64> = (0..4000).map(|_| dice.normal()).collect();
        let mean = drawn.iter().sum::<f64>() / 4000.0;
        let variance = drawn.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 4000.0;
        assert!(mean.abs() < 0.06 && (variance - 1.0).abs() < 0.08, "{mean} {variance}");
        let mut list: Vec<u32> = (0..50).collect();
        dice.shuffle(&mut list);
        assert_ne!(list, (0..50).collect::<Vec<_>>());
        list.sort_unstable();
        assert_eq!(list, (0..50).collect::<Vec<_>>());
    }
}
