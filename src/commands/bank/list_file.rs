//! Lists of PDQ hashes as other tools exchange them: a line a hash of 64 hexadecimal digits.

use crate::moderation::PerceptualHash;
use crate::moderation::perceptual::{HASH_BYTES, parse_hash};

/// So many broken lines are told.
const MOST_TOLD: usize = 10;

/// What a list holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct HashList {
    /// Each once, in order.
    pub hashes: Vec<[u8; HASH_BYTES]>,
    /// Lines whose quality says that the hash tells nothing.
    pub poor: u64,
    /// Lines that said the same as one before.
    pub repeated: u64,
}

/// Reads a list: one hash a line, after it perhaps a comma, its quality (0 to 100) and more fields,
/// as PDQ's own tools print them. Empty lines, comments (`#`) and a head line are left out.
///
/// # Errors
/// Every line that is none of these, by number; then nothing may be taken: half a list is not what
/// was given.
pub(super) fn parse(text: &str) -> Result<HashList, String> {
    let mut list = HashList { hashes: Vec::new(), poor: 0, repeated: 0 };
    let mut broken = Vec::new();
    for (number, line) in (1_u64..).zip(text.trim_start_matches('\u{feff}').lines()) {
        let mut fields = line.split([',', ' ', '\t', ';']).map(|field| field.trim_matches('"'));
        let first = fields.next().unwrap_or_default();
        let is_head = number == 1 && ["hash", "pdq", "pdq_hash"].contains(&first);
        if line.trim().is_empty() || first.starts_with('#') || is_head {
            continue;
        }
        let Some(hash) = parse_hash(first) else {
            broken.push(number);
            continue;
        };
        let quality = fields.next().and_then(|field| field.parse::<u8>().ok());
        if quality.is_some_and(|quality| quality < PerceptualHash::LEAST_QUALITY) {
            list.poor += 1;
        } else {
            list.hashes.push(hash);
        }
    }
    if !broken.is_empty() {
        let told: Vec<_> = broken.iter().take(MOST_TOLD).map(u64::to_string).collect();
        let more = broken.len().saturating_sub(MOST_TOLD);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        return Err(format!(
            "line {}{more}: no PDQ hash (64 hexadecimal digits, perhaps with a comma and its \
             quality); nothing was taken",
            told.join(", ")
        ));
    }
    let all = list.hashes.len();
    let mut seen = std::collections::HashSet::with_capacity(all);
    list.hashes.retain(|hash| seen.insert(*hash));
    list.repeated = (all - list.hashes.len()) as u64;
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_read_as_tools_write_them() {
        let a = "ab".repeat(32);
        let b = "0C".repeat(32);
        let text = format!(
            "\u{feff}hash,quality,filename\n# a list\n\n{a}\r\n{b},100,photo.jpg\n{a}\n{b},49\n"
        );
        let list = parse(&text).expect("a good list");
        assert_eq!(list, HashList { hashes: vec![[0xab; 32], [0x0c; 32]], poor: 1, repeated: 1 });
        assert_eq!(parse("").expect("an empty list").hashes.len(), 0);
    }

    #[test]
    fn every_broken_line_is_told_and_nothing_is_taken() {
        let good = "ab".repeat(32);
        let told = parse(&format!("{good}\nsha256\n{good}\n{}\n", &good[1..])).expect_err("broken");
        assert!(told.starts_with("line 2, 4:"), "{told}");
        let told = parse(&"x\n".repeat(12)).expect_err("broken");
        assert!(told.contains("10 and 2 more"), "{told}");
    }
}
