//! What a picture looks like in 256 bits: copies that were resized, saved again or mirrored
//! stay near each other.

use std::fmt;

/// Bytes of one hash.
pub const HASH_BYTES: usize = 32;

/// A PDQ hash of a picture and of its seven turned and mirrored forms.
///
/// PDQ is Facebook's perceptual hash (Davis and Rosen 2019, "PDQ & TMK + PDQF"). Bit `k` stands
/// in byte `31 − k / 8` at place `k % 8`, so that the bytes in order are the usual 64 digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PerceptualHash {
    /// The picture as it is first, then its other seven forms.
    pub forms: [[u8; HASH_BYTES]; 8],
    /// 0..=100: how much there is to see. A plain or blurred picture is like any other.
    pub quality: u8,
}

impl PerceptualHash {
    /// Hashes of at most this distance are near-duplicates (the PDQ paper's threshold).
    pub const NEAR: u32 = 31;

    /// Below this quality a hash says nothing and is not matched (the PDQ paper's threshold).
    pub const LEAST_QUALITY: u8 = 50;

    /// The hash of the picture as it is.
    pub fn upright(&self) -> &[u8; HASH_BYTES] {
        &self.forms[0]
    }

    /// Whether the picture has enough to see to be matched at all.
    pub fn is_telling(&self) -> bool {
        self.quality >= Self::LEAST_QUALITY
    }

    /// Bits that differ between the other picture and the nearest form of this one, 0..=256.
    pub fn distance(&self, other: &[u8; HASH_BYTES]) -> u32 {
        self.forms.iter().map(|form| hamming(form, other)).min().unwrap_or(u32::MAX)
    }

    /// Whether two pictures are near-duplicates, turned or mirrored ones included.
    pub fn is_near(&self, other: &Self) -> bool {
        self.is_telling() && other.is_telling() && self.distance(other.upright()) <= Self::NEAR
    }

    /// All forms one after another, 256 bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.forms.concat()
    }

    /// Reads back [`PerceptualHash::to_bytes`]; `None` for any other number of bytes.
    pub fn from_bytes(bytes: &[u8], quality: u8) -> Option<Self> {
        let (forms, rest) = bytes.as_chunks::<HASH_BYTES>();
        let forms = forms.try_into().ok()?;
        rest.is_empty().then_some(Self { forms, quality })
    }
}

/// The sixteen words of 16 bits of a hash, each with its place: `place · 65536 + value`. Of two
/// hashes that differ in at most [`PerceptualHash::NEAR`] bits, one word at least differs in at most
/// one bit (multi-index hashing, Norouzi, Punjani and Fleet 2012).
pub fn words(hash: &[u8; HASH_BYTES]) -> [u32; 16] {
    let mut words = [0; 16];
    for ((place, word), pair) in (0_u32..).zip(&mut words).zip(hash.as_chunks::<2>().0) {
        *word = (place << 16) | u32::from(u16::from_be_bytes(*pair));
    }
    words
}

/// Every word that a picture near to one of the forms can have: each as it is, and with one bit
/// changed; sorted, each once.
pub fn words_near(hash: &PerceptualHash) -> Vec<u32> {
    let mut near: Vec<u32> = hash
        .forms
        .iter()
        .flat_map(words)
        .flat_map(|word| std::iter::once(word).chain((0..16).map(move |bit| word ^ (1 << bit))))
        .collect();
    near.sort_unstable();
    near.dedup();
    near
}

/// The 64 digits of a hash; `None` for anything else.
pub fn parse_hash(digits: &str) -> Option<[u8; HASH_BYTES]> {
    let mut hash = [0; HASH_BYTES];
    if digits.len() != 2 * HASH_BYTES || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, at) in hash.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()?;
    }
    Some(hash)
}

/// The 64 digits of a hash, as other tools write them.
pub fn digits(hash: &[u8; HASH_BYTES]) -> String {
    hash.iter()
        .fold(String::with_capacity(2 * HASH_BYTES), |text, byte| format!("{text}{byte:02x}"))
}

/// Bits that differ, 0..=256.
pub fn hamming(a: &[u8; HASH_BYTES], b: &[u8; HASH_BYTES]) -> u32 {
    let (a, b) = (a.as_chunks::<8>().0, b.as_chunks::<8>().0);
    a.iter()
        .zip(b)
        .map(|(a, b)| (u64::from_ne_bytes(*a) ^ u64::from_ne_bytes(*b)).count_ones())
        .sum()
}

impl fmt::Display for PerceptualHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&digits(self.upright()))
    }
}

impl fmt::Debug for PerceptualHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PerceptualHash({self}, quality {})", self.quality)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn two_near_hashes_always_share_a_word(
            bytes in proptest::array::uniform32(any::<u8>()),
            flips in proptest::collection::vec(0_usize..256, 0..=31),
        ) {
            let hash = PerceptualHash { forms: [bytes; 8], quality: 100 };
            let mut other = bytes;
            for bit in flips {
                other[bit / 8] ^= 1 << (bit % 8);
            }
            let near = words_near(&hash);
            prop_assert!(words(&other).iter().any(|word| near.binary_search(word).is_ok()));
        }

        #[test]
        fn digits_read_back(bytes in proptest::array::uniform32(any::<u8>())) {
            prop_assert_eq!(parse_hash(&digits(&bytes)), Some(bytes));
        }
    }

    #[test]
    fn only_64_digits_are_a_hash() {
        for text in ["", "ab", &"a".repeat(63), &"a".repeat(65), &"g".repeat(64), &"é".repeat(32)]
        {
            assert_eq!(parse_hash(text), None, "{text}");
        }
    }

    fn hash(forms: [[u8; 32]; 8]) -> PerceptualHash {
        PerceptualHash { forms, quality: 100 }
    }

    fn with_bits(count: usize) -> [u8; 32] {
        let mut bytes = [0; 32];
        (0..count).for_each(|bit| bytes[bit / 8] |= 1 << (bit % 8));
        bytes
    }

    #[test]
    fn near_is_at_most_31_bits_in_any_form() {
        let zero = hash([[0; 32]; 8]);
        assert!(zero.is_near(&hash([with_bits(31); 8])));
        assert!(!zero.is_near(&hash([with_bits(32); 8])));
        let mut forms = [[0xff; 32]; 8];
        forms[5] = [0; 32];
        assert!(hash(forms).is_near(&zero), "one of its forms is the other");
        assert_eq!(hash(forms).distance(&with_bits(3)), 3);
    }

    #[test]
    fn a_hash_of_nothing_is_near_to_nothing() {
        let good = hash([[0; 32]; 8]);
        let plain = PerceptualHash { quality: 49, ..good };
        assert!(!plain.is_near(&good) && !good.is_near(&plain));
        assert!(PerceptualHash { quality: 50, ..good }.is_near(&good));
    }

    #[test]
    fn bytes_read_back_and_torn_ones_do_not() {
        let mut forms = [[0; 32]; 8];
        (0..8_u8).zip(&mut forms).for_each(|(number, form)| form[0] = number);
        let hash = hash(forms);
        assert_eq!(PerceptualHash::from_bytes(&hash.to_bytes(), 100), Some(hash));
        assert_eq!(PerceptualHash::from_bytes(&hash.to_bytes()[1..], 100), None);
        assert_eq!(hash.to_string().len(), 64);
    }
}
