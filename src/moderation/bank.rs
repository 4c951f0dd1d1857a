//! The bank: what people decided about one picture speaks for its twins.
//!
//! A twin has the same bytes, or looks alike: PDQ hashes of telling quality that differ in at most
//! [`PerceptualHash::NEAR`] bits. Whoever uploads can choose how a picture looks to a hash, so what
//! only looks alike can make a verdict worse and never better.

use std::collections::HashMap;
use std::fmt;

use super::item::ItemId;
use super::perceptual::{HASH_BYTES, PerceptualHash, words, words_near};
use super::policy::{PolicyId, spelled};
use super::review::{Action, Timestamp};

spelled! {
    /// Whether an entry speaks.
    BankState {
        /// It matches, and may act where a policy inherits.
        On = "on",
        /// It matched a flood: it still sends to a person what it matches, and acts no more.
        OnHold = "on_hold",
        /// Switched off by a person: it matches nothing.
        Off = "off",
        /// The decision was taken back, or its picture erased: it matches nothing.
        Withdrawn = "withdrawn",
    }
}

spelled! {
    /// Where an entry comes from.
    BankSource {
        /// A decision in the queue.
        Decision = "decision",
        /// `modtool bank add`.
        Hand = "hand",
        /// A list of hashes of somebody else's.
        List = "list",
    }
}

/// How a picture is like an entry; the likest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Likeness {
    /// SHA-256 is the same.
    SameBytes,
    /// So many of 256 bits differ, 0..=31.
    Looks(u32),
}

impl fmt::Display for Likeness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SameBytes => f.write_str("the same bytes"),
            Self::Looks(bits) => write!(f, "looks alike, {bits} of 256 bits differ"),
        }
    }
}

/// What matching needs to know of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BankKey {
    /// Its number.
    pub id: i64,
    /// Approve or Remove.
    pub action: Action,
    /// Whether it may act where a policy inherits.
    pub acts: bool,
    /// The bytes that it speaks for.
    pub bytes: Option<ItemId>,
    /// The PDQ hash that it speaks for.
    pub looks: Option<[u8; HASH_BYTES]>,
    /// The number of the last decision before it: whoever decided later knew of it.
    pub since: i64,
    /// A removal speaks for one of these; an approval for all of them.
    pub policies: Vec<PolicyId>,
}

/// An entry that a picture is a twin of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BankMatch<'a> {
    /// Which entry.
    pub key: &'a BankKey,
    /// How alike.
    pub likeness: Likeness,
}

impl fmt::Display for BankMatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "entry {}, {}", self.key.id, self.likeness)
    }
}

/// A match as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BankTwin {
    /// The entry's number.
    pub entry: i64,
    /// What was decided.
    pub action: Action,
    /// Whether it speaks.
    pub state: BankState,
    /// Where it comes from.
    pub source: BankSource,
    /// How alike.
    pub likeness: Likeness,
    /// Who decided or added it.
    pub reviewer: String,
    /// When.
    pub added_at: Timestamp,
    /// The list that it stands in.
    pub list: Option<String>,
}

/// All entries that match anything, ready to be asked.
#[derive(Debug, Default)]
pub struct Bank {
    keys: HashMap<i64, BankKey>,
    by_bytes: HashMap<ItemId, Vec<i64>>,
    looks: Looks,
}

impl Bank {
    /// Adds an entry, or puts it in the place of the one with its number.
    pub fn put(&mut self, key: BankKey) {
        let known = self.keys.get(&key.id);
        let same_looks = known.is_some_and(|known| known.looks == key.looks);
        let same_bytes = known.is_some_and(|known| known.bytes == key.bytes);
        if let Some(looks) = key.looks.filter(|_| !same_looks) {
            self.looks.add(key.id, looks);
        }
        if !same_bytes {
            self.forget_bytes(key.id);
            if let Some(bytes) = key.bytes {
                self.by_bytes.entry(bytes).or_default().push(key.id);
            }
        }
        self.keys.insert(key.id, key);
        if self.looks.is_due() {
            let keys = &self.keys;
            self.looks
                .settle(|id, looks| keys.get(&id).is_some_and(|key| key.looks == Some(looks)));
        }
    }

    /// Forgets an entry.
    pub fn take(&mut self, id: i64) {
        self.forget_bytes(id);
        self.keys.remove(&id);
    }

    fn forget_bytes(&mut self, id: i64) {
        let Some(bytes) = self.keys.get(&id).and_then(|key| key.bytes) else { return };
        if let Some(ids) = self.by_bytes.get_mut(&bytes) {
            ids.retain(|known| *known != id);
            if ids.is_empty() {
                self.by_bytes.remove(&bytes);
            }
        }
    }

    /// How many entries match anything.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether nothing can match.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Every entry that a picture is a twin of, the likest first.
    pub fn matches(&self, bytes: ItemId, looks: Option<&PerceptualHash>) -> Vec<BankMatch<'_>> {
        if self.keys.is_empty() {
            return Vec::new();
        }
        let mut found: HashMap<i64, BankMatch<'_>> = HashMap::new();
        for id in self.by_bytes.get(&bytes).into_iter().flatten() {
            if let Some(key) = self.keys.get(id) {
                found.insert(*id, BankMatch { key, likeness: Likeness::SameBytes });
            }
        }
        if let Some(looks) = looks.filter(|looks| looks.is_telling()) {
            self.looks.near(looks, |id, hash, bits| {
                // What was forgotten or has changed is still in the index until it is settled.
                let key = self.keys.get(&id).filter(|key| key.looks == Some(*hash));
                if let Some(key) = key {
                    let likeness = Likeness::Looks(bits);
                    found.entry(id).or_insert(BankMatch { key, likeness });
                }
            });
        }
        let mut found: Vec<_> = found.into_values().collect();
        found.sort_by_key(|one| (one.likeness, one.key.id));
        found
    }

    /// The twins that count for a picture. `decided` is the number of the decision about its very
    /// bytes that stands: whoever made it knew the entries that were there, and they are settled.
    pub fn weigh(
        &self,
        bytes: ItemId,
        looks: Option<&PerceptualHash>,
        decided: Option<i64>,
    ) -> Weighed<'_> {
        let matches = self.matches(bytes, looks);
        let is_news = |one: &&BankMatch<'_>| decided.is_none_or(|decided| decided <= one.key.since);
        let of = |action: Action| matches.iter().filter(move |one| one.key.action == action);
        Weighed {
            removed: of(Action::Remove).find(is_news).copied(),
            approved: of(Action::Approve).next().copied(),
        }
    }
}

/// What the bank says when a picture is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Weighed<'a> {
    /// The likest twin that was removed.
    pub removed: Option<BankMatch<'a>>,
    /// The likest twin that was approved.
    pub approved: Option<BankMatch<'a>>,
}

/// Hashes that are searched one by one; more are searched by their words.
const FEW: usize = 256;

/// Hashes with their entries. The first ones are settled: found by their words; the later ones are
/// compared one by one until they are settled too.
#[derive(Debug, Default)]
struct Looks {
    hashes: Vec<(i64, [u8; HASH_BYTES])>,
    settled: usize,
    /// Where each word's places begin in `places`; empty while all are few.
    starts: Vec<u32>,
    places: Vec<u32>,
}

impl Looks {
    fn add(&mut self, id: i64, hash: [u8; HASH_BYTES]) {
        self.hashes.push((id, hash));
    }

    fn is_due(&self) -> bool {
        self.hashes.len() - self.settled > FEW.max(self.settled / 4)
    }

    /// Indexes everything that is still `wanted`, by counting: no list a word, and no allocation
    /// but two.
    fn settle(&mut self, wanted: impl Fn(i64, [u8; HASH_BYTES]) -> bool) {
        self.hashes.retain(|(id, hash)| wanted(*id, *hash));
        self.hashes.sort_unstable();
        self.hashes.dedup();
        self.settled = self.hashes.len();
        self.starts = vec![0; (16 << 16) + 1];
        for (_, hash) in &self.hashes {
            for word in words(hash) {
                self.starts[word as usize + 1] += 1;
            }
        }
        for word in 1..self.starts.len() {
            self.starts[word] += self.starts[word - 1];
        }
        self.places = vec![0; self.hashes.len() * 16];
        let mut next = self.starts.clone();
        for (place, (_, hash)) in (0_u32..).zip(&self.hashes) {
            for word in words(hash) {
                let next = &mut next[word as usize];
                self.places[*next as usize] = place;
                *next += 1;
            }
        }
    }

    fn near(&self, looks: &PerceptualHash, mut found: impl FnMut(i64, &[u8; HASH_BYTES], u32)) {
        let mut compare = |(id, hash): &(i64, [u8; HASH_BYTES])| {
            let bits = looks.distance(hash);
            if bits <= PerceptualHash::NEAR {
                found(*id, hash, bits);
            }
        };
        self.hashes[self.settled..].iter().for_each(&mut compare);
        if self.starts.is_empty() {
            return;
        }
        let bounds = |word: u32| {
            let bounds = (self.starts[word as usize], self.starts[word as usize + 1]);
            bounds.0 as usize..bounds.1 as usize
        };
        let mut places: Vec<u32> = words_near(looks)
            .into_iter()
            .flat_map(|word| &self.places[bounds(word)])
            .copied()
            .collect();
        places.sort_unstable();
        places.dedup();
        for place in places {
            compare(&self.hashes[place as usize]);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(id: i64, looks: Option<[u8; 32]>) -> BankKey {
        BankKey {
            id,
            action: Action::Remove,
            acts: true,
            bytes: None,
            looks,
            since: 0,
            policies: Vec::new(),
        }
    }

    fn telling(forms: [[u8; 32]; 8]) -> PerceptualHash {
        PerceptualHash { forms, quality: 50 }
    }

    fn nothing() -> ItemId {
        ItemId::of_bytes(b"nothing")
    }

    fn found(bank: &Bank, looks: &PerceptualHash) -> Vec<(i64, Likeness)> {
        let matches = bank.matches(nothing(), Some(looks));
        matches.iter().map(|one| (one.key.id, one.likeness)).collect()
    }

    #[test]
    fn the_same_bytes_come_before_what_looks_alike() {
        let mut bank = Bank::default();
        assert!(bank.is_empty() && bank.matches(nothing(), None).is_empty());
        bank.put(key(1, Some([0; 32])));
        let mut near = [0; 32];
        near[0] = 0b111;
        bank.put(key(2, Some(near)));
        bank.put(BankKey { bytes: Some(nothing()), ..key(3, None) });
        let looks = telling([near; 8]);
        let expected = [(3, Likeness::SameBytes), (2, Likeness::Looks(0)), (1, Likeness::Looks(3))];
        assert_eq!(found(&bank, &looks), expected);
        assert_eq!(bank.matches(nothing(), None).len(), 1);
        // A plain picture is like any other, and so like none.
        let plain = PerceptualHash { quality: 49, ..looks };
        assert_eq!(found(&bank, &plain).len(), 1);
        bank.take(3);
        bank.take(1);
        assert_eq!(found(&bank, &looks), [(2, Likeness::Looks(0))]);
        assert_eq!(bank.len(), 1);
    }

    #[test]
    fn a_removed_twin_is_settled_by_a_later_decision_about_the_very_bytes_only() {
        let mut bank = Bank::default();
        bank.put(BankKey { since: 10, ..key(1, Some([0; 32])) });
        let approved = BankKey { action: Action::Approve, bytes: Some(nothing()), ..key(2, None) };
        bank.put(approved);
        let looks = telling([[0; 32]; 8]);
        let removed = |decided| {
            let weighed = bank.weigh(nothing(), Some(&looks), decided);
            assert_eq!(weighed.approved.map(|one| one.key.id), Some(2));
            weighed.removed.map(|one| one.key.id)
        };
        assert_eq!(removed(None), Some(1));
        assert_eq!(removed(Some(10)), Some(1), "decided before the entry was there");
        assert_eq!(removed(Some(11)), None);
    }

    #[test]
    fn what_changed_is_found_as_it_is_now_and_only_so() {
        let mut bank = Bank::default();
        bank.put(key(1, Some([0; 32])));
        bank.put(key(1, Some([0xff; 32])));
        assert_eq!(found(&bank, &telling([[0; 32]; 8])), []);
        assert_eq!(found(&bank, &telling([[0xff; 32]; 8])), [(1, Likeness::Looks(0))]);
        bank.put(BankKey { acts: false, ..key(1, Some([0xff; 32])) });
        let looks = telling([[0xff; 32]; 8]);
        let matches = bank.matches(nothing(), Some(&looks));
        assert_eq!(matches.len(), 1, "once: {matches:?}");
        assert!(!matches[0].key.acts);
    }

    #[test]
    fn a_mirrored_picture_is_a_twin() {
        let mut bank = Bank::default();
        bank.put(key(7, Some([0x0f; 32])));
        let mut forms = [[0xf0; 32]; 8];
        forms[3] = [0x0f; 32];
        assert_eq!(found(&bank, &telling(forms)), [(7, Likeness::Looks(0))]);
    }

    /// Many settled hashes, some of them near: the index finds just what comparing with all does.
    #[test]
    fn the_index_misses_nothing() {
        let mut dice = 0x9e37_79b9_u32;
        let mut next = || {
            dice ^= dice << 13;
            dice ^= dice >> 17;
            dice ^= dice << 5;
            dice
        };
        let mut hashes: Vec<[u8; 32]> = Vec::new();
        let mut bank = Bank::default();
        for id in 0..10_000_u32 {
            let hash = if id % 3 == 0 || hashes.is_empty() {
                std::array::from_fn(|_| next().to_le_bytes()[1])
            } else {
                let mut near = hashes[next() as usize % hashes.len()];
                for _ in 0..next() % 45 {
                    let bit = next() as usize % 256;
                    near[bit / 8] ^= 1 << (bit % 8);
                }
                near
            };
            hashes.push(hash);
            bank.put(key(id.into(), Some(hash)));
            if id % 7 == 0 {
                bank.take(i64::from(next() % (id + 1)));
            }
        }
        assert!(bank.looks.settled > FEW && bank.looks.settled < bank.looks.hashes.len());
        for _ in 0..200 {
            let looks = telling([hashes[next() as usize % hashes.len()]; 8]);
            let mut expected: Vec<_> = bank
                .keys
                .values()
                .filter_map(|key| Some((looks.distance(&key.looks?), key.id)))
                .filter(|(bits, _)| *bits <= PerceptualHash::NEAR)
                .collect();
            expected.sort_unstable();
            let expected: Vec<_> =
                expected.into_iter().map(|(bits, id)| (id, Likeness::Looks(bits))).collect();
            assert_eq!(found(&bank, &looks), expected);
        }
    }

    proptest! {
        #[test]
        fn near_is_at_most_31_bits(flips in proptest::collection::btree_set(0_usize..256, 0..64)) {
            let mut bank = Bank::default();
            bank.put(key(1, Some([0; 32])));
            let mut other = [0_u8; 32];
            for bit in &flips {
                other[bit / 8] ^= 1 << (bit % 8);
            }
            let found = found(&bank, &telling([other; 8]));
            prop_assert_eq!(found.len(), usize::from(flips.len() <= 31));
        }
    }
}
