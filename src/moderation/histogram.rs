//! How the scores of many items lie, in thousandths.

use super::policy::{PolicyHash, PolicyId};

/// The scores that one version of a policy gave, counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScoreHistogram {
    /// The policy's name.
    pub policy: PolicyId,
    /// Which version of it.
    pub version: PolicyHash,
    /// Items with a score in each thousandth; [`ScoreHistogram::BINS`] of them.
    bins: Vec<u64>,
}

impl ScoreHistogram {
    /// Bins from 0 to 1.
    pub const BINS: usize = 1000;

    /// Nothing counted yet.
    pub fn empty(policy: PolicyId, version: PolicyHash) -> Self {
        Self { policy, version, bins: vec![0; Self::BINS] }
    }

    /// The bin of a score.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within 0..=1000")]
    pub fn bin_of(score: f32) -> usize {
        // In doubles, as the store computes it.
        ((f64::from(score.clamp(0.0, 1.0)) * 1000.0) as usize).min(Self::BINS - 1)
    }

    /// Counts items; a bin that is not there is left out.
    pub fn add(&mut self, bin: usize, items: u64) {
        if let Some(count) = self.bins.get_mut(bin) {
            *count += items;
        }
    }

    /// All items.
    pub fn total(&self) -> u64 {
        self.bins.iter().sum()
    }

    /// The share of items with a lower score, 0..=1; none when nothing was counted.
    #[expect(clippy::cast_precision_loss, reason = "a share for people")]
    pub fn share_below(&self, score: f32) -> Option<f64> {
        let below: u64 = self.bins[..Self::bin_of(score)].iter().sum();
        let total = self.total();
        (total > 0).then(|| below as f64 / total as f64)
    }

    /// The counts in `columns` equal parts of 0..=1.
    pub fn columns(&self, columns: usize) -> Vec<u64> {
        let mut counts = vec![0; columns];
        for (bin, items) in self.bins.iter().enumerate() {
            if let Some(count) = counts.get_mut(bin * columns / Self::BINS) {
                *count += items;
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_columns_count_every_item_once() {
        let policy = PolicyId::new("weapons").expect("a name");
        let mut histogram = ScoreHistogram::empty(policy, PolicyHash([0; 32]));
        assert_eq!(histogram.share_below(0.5), None);
        for (score, items) in [(0.0, 90), (0.25, 5), (0.999_9, 4), (1.0, 1)] {
            histogram.add(ScoreHistogram::bin_of(score), items);
        }
        histogram.add(5000, 7);
        assert_eq!(histogram.total(), 100);
        assert_eq!(histogram.share_below(0.25), Some(0.9));
        assert_eq!(histogram.share_below(1.0), Some(0.95), "the same thousandth is not below");
        assert_eq!(histogram.columns(4), [90, 5, 0, 5]);
    }
}
