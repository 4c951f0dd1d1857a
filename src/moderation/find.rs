//! Which items a search may find.

use super::policy::{PolicyId, spelled};
use super::review::{ReviewState, Timestamp};
use super::verdict::Outcome;

spelled! {
    /// What people decided about an item.
    Decided {
        /// It stays.
        Approved = "approve",
        /// It goes.
        Removed = "remove",
        /// Nobody decided, or it was taken back.
        Undecided = "none",
    }
}

/// What must be true of an item; nothing by default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ItemFilter {
    /// This policy flagged it, now or at some time.
    pub policy: Option<PolicyId>,
    /// The worst outcome over the paths where it lies.
    pub outcome: Option<Outcome>,
    /// What stands about it.
    pub decision: Option<Decided>,
    /// Where its task stands; `Closed` where all of them are.
    pub state: Option<ReviewState>,
    /// A path where it lies holds this text (upper and lower case are the same), or, with `*` or
    /// `?` in it, ends in this pattern; `*` stands for any characters, `/` too.
    pub path: Option<String>,
    /// It was first seen then or later.
    pub since: Option<Timestamp>,
    /// It was first seen before.
    pub until: Option<Timestamp>,
}

/// Numbers of items in one store, one bit each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ItemNumbers(Vec<u64>);

impl ItemNumbers {
    /// Adds a number; whether it is new. Numbers below 0 are none of an item and left out.
    pub fn insert(&mut self, number: i64) -> bool {
        let Ok(number) = usize::try_from(number) else { return false };
        let (word, bit) = (number / 64, 1 << (number % 64));
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let is_new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        is_new
    }

    /// Takes a number out.
    pub fn remove(&mut self, number: i64) {
        let Ok(number) = usize::try_from(number) else { return };
        if let Some(word) = self.0.get_mut(number / 64) {
            *word &= !(1 << (number % 64));
        }
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = i64> {
        let bits = |(word, bits): (usize, &u64)| {
            let bits = *bits;
            (0..64).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| word * 64 + bit)
        };
        let numbers = self.0.iter().enumerate().flat_map(bits);
        numbers.filter_map(|number| i64::try_from(number).ok())
    }

    /// Whether the number is in it.
    pub fn contains(&self, number: i64) -> bool {
        usize::try_from(number).is_ok_and(|number| {
            self.0.get(number / 64).is_some_and(|w| w >> (number % 64) & 1 == 1)
        })
    }
}

impl FromIterator<i64> for ItemNumbers {
    fn from_iter<T: IntoIterator<Item = i64>>(numbers: T) -> Self {
        let mut all = Self::default();
        for number in numbers {
            all.insert(number);
        }
        all
    }
}

/// The items for which an [`ItemFilter`] holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ItemSet(Vec<(ItemNumbers, Side)>);

/// On which side of a set of numbers items must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// In it.
    Inside,
    /// Not in it.
    Outside,
}

impl ItemSet {
    /// Keeps only the items on this side of a set of numbers.
    pub fn restrict(&mut self, numbers: ItemNumbers, side: Side) {
        self.0.push((numbers, side));
    }

    /// Whether an item is in the set; all are while nothing restricts it.
    pub fn contains(&self, number: i64) -> bool {
        self.0.iter().all(|(numbers, side)| numbers.contains(number) == (*side == Side::Inside))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_in_it_until_they_are_taken_out() {
        let mut numbers: ItemNumbers = [0, 63, 64, 1000, -5].into_iter().collect();
        assert!([0, 63, 64, 1000].into_iter().all(|number| numbers.contains(number)));
        assert!([1, 62, 65, 999, 5000, -5].into_iter().all(|number| !numbers.contains(number)));
        assert!(!numbers.insert(64) && numbers.insert(65));
        numbers.remove(64);
        numbers.remove(9999);
        assert!(!numbers.contains(64) && numbers.contains(65));
        assert_eq!(numbers.iter().collect::<Vec<_>>(), [0, 63, 65, 1000]);
    }

    #[test]
    fn every_restriction_must_hold() {
        let mut set = ItemSet::default();
        assert!(set.contains(7));
        set.restrict([1, 2, 3].into_iter().collect(), Side::Inside);
        set.restrict([3, 4].into_iter().collect(), Side::Outside);
        assert!(set.contains(2) && !set.contains(3) && !set.contains(5));
    }
}
