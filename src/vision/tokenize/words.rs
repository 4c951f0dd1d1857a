//! Which words of a prompt a model can read at all.
//!
//! A word counts as unread when the tokenizer has no token for a part of it: the unknown token,
//! bytes that stand for a character that has no token (`byte_fallback`), or, with a vocabulary of
//! bytes (CLIP), a sign that is cut into single bytes. A vocabulary of bytes can write any script,
//! so there the letters count too: a script was learned when at least [`LEARNED`] tokens have
//! letters of it. Latin letters always count as learned.

use std::collections::HashMap;

use tokenizers::{ModelWrapper, NormalizedString, Normalizer as _, PreTokenizerWrapper, Tokenizer};

use super::canonical;
use super::{TextReader, VisionError};

/// A script with fewer tokens is one that strayed into the training set. Chosen between the tiny
/// share that a model of English captions has of others and the smallest language of a
/// multilingual vocabulary (Gemma's, XLM-R's), which has several hundred.
const LEARNED: usize = 200;

/// How much of a text a model can read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readability {
    /// Every word.
    Whole,
    /// Not these words, or not all of each.
    Partly(Vec<String>),
    /// Nothing: the text means the same to the model as any other that it can't read.
    Nothing,
}

/// What of one word is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Known,
    Partly,
    Unknown,
    /// Punctuation, or signs without a picture.
    Mute,
}

/// What a tokenizer does with what it does not have.
pub(super) struct Vocabulary {
    unknown: Option<u32>,
    is_of_bytes: bool,
}

impl Vocabulary {
    pub(super) fn of(tokenizer: &Tokenizer) -> Self {
        let unknown = match tokenizer.get_model() {
            ModelWrapper::BPE(model) => model.get_unk_token().clone(),
            ModelWrapper::WordPiece(model) => Some(model.unk_token.clone()),
            ModelWrapper::WordLevel(model) => Some(model.unk_token.clone()),
            // Its number is private; sentencepiece always calls it so.
            ModelWrapper::Unigram(_) => Some("<unk>".to_owned()),
        };
        let is_of_bytes = tokenizer.get_pre_tokenizer().is_some_and(cuts_into_bytes);
        Self { unknown: unknown.and_then(|token| tokenizer.token_to_id(&token)), is_of_bytes }
    }
}

fn cuts_into_bytes(step: &PreTokenizerWrapper) -> bool {
    match step {
        PreTokenizerWrapper::ByteLevel(_) => true,
        PreTokenizerWrapper::Sequence(steps) => steps.as_ref().iter().any(cuts_into_bytes),
        _ => false,
    }
}

impl TextReader {
    /// Which words the tokenizer has tokens for.
    ///
    /// # Errors
    /// [`VisionError::Tokenize`] when the tokenizer fails on it.
    pub(crate) fn readability(&self, text: &str) -> Result<Readability, VisionError> {
        let (mut unread, mut any_known) = (Vec::new(), false);
        for word in text.split_whitespace() {
            let found = self.word(word)?;
            any_known |= matches!(found, Word::Known | Word::Partly);
            if matches!(found, Word::Unknown | Word::Partly) {
                unread.push(word.to_owned());
            }
        }
        Ok(match (any_known, unread.is_empty()) {
            (false, _) => Readability::Nothing,
            (true, true) => Readability::Whole,
            (true, false) => Readability::Partly(unread),
        })
    }

    fn word(&self, word: &str) -> Result<Word, VisionError> {
        if word.chars().all(|c| c.is_ascii_punctuation()) {
            return Ok(Word::Mute);
        }
        let failed = |source| VisionError::Tokenize { text: word.to_owned(), source };
        let text = canonical(word, self.spec.canonicalize);
        let mut normal = NormalizedString::from(text.as_str());
        if let Some(normalizer) = self.tokenizer.get_normalizer() {
            normalizer.normalize(&mut normal).map_err(failed)?;
        }
        let encoding = self.tokenizer.encode_fast(text, false).map_err(failed)?;
        let tokens: Vec<(u32, String)> = encoding
            .get_ids()
            .iter()
            .filter_map(|id| Some((*id, self.tokenizer.id_to_token(*id)?)))
            .collect();
        let (known, unknown) = if self.vocabulary.is_of_bytes {
            self.known_letters(normal.get(), &tokens)
        } else {
            self.known_tokens(&tokens)
        };
        Ok(match (known, unknown) {
            (true, false) => Word::Known,
            (true, true) => Word::Partly,
            (false, true) => Word::Unknown,
            (false, false) => Word::Mute,
        })
    }

    /// Whether some tokens say something, and whether some are unknown.
    fn known_tokens(&self, tokens: &[(u32, String)]) -> (bool, bool) {
        let is_unknown = |(id, token): &(u32, String)| {
            Some(*id) == self.vocabulary.unknown || is_fallback(token)
        };
        let says = |token: &str| token.chars().any(|c| c.is_alphanumeric() || !c.is_ascii());
        let bare = |token: &str| token.trim_matches('\u{2581}').to_owned();
        let known = |token: &(u32, String)| !is_unknown(token) && says(&bare(&token.1));
        (tokens.iter().any(known), tokens.iter().any(is_unknown))
    }

    /// The same for a vocabulary of bytes, by the letters and signs of the word.
    fn known_letters(&self, word: &str, tokens: &[(u32, String)]) -> (bool, bool) {
        let mut ends = Vec::new();
        for (_, token) in tokens {
            let length = token.strip_suffix("</w>").unwrap_or(token).chars().count();
            ends.push(ends.last().copied().unwrap_or(0) + length);
        }
        let is_cut =
            |at: usize, c: char| ends.iter().any(|end| at < *end && *end < at + c.len_utf8());
        let (mut known, mut unknown) = (false, false);
        for (at, c) in word.char_indices() {
            let is_known = match c {
                c if c.is_ascii_alphanumeric() || is_latin(c) => true,
                c if c.is_ascii() || is_invisible(c) => continue,
                c if c.is_alphabetic() => self.has_learned(c),
                c => !is_cut(at, c),
            };
            known |= is_known;
            unknown |= !is_known;
        }
        (known, unknown)
    }

    fn has_learned(&self, letter: char) -> bool {
        let scripts = self.scripts.get_or_init(|| scripts(&self.tokenizer));
        scripts.get(&script(letter)).is_some_and(|tokens| *tokens >= LEARNED)
    }
}

/// `<0xE2>`: one byte of a character that has no token.
fn is_fallback(token: &str) -> bool {
    let byte = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    byte.is_some_and(|byte| byte.len() == 2)
}

/// Joiners, zero-width spaces, direction marks and selectors of variants: they show nothing.
fn is_invisible(c: char) -> bool {
    matches!(u32::from(c), 0x200B..=0x200F | 0x202A..=0x202E | 0x2060..=0x206F | 0xFE00..=0xFE0F | 0xFEFF)
}

/// Latin letters with and without marks; not the full-width and mathematical ones, which are no
/// letters of the texts that models learn from.
fn is_latin(c: char) -> bool {
    c.is_alphabetic() && (c <= '\u{24F}' || ('\u{1E00}'..='\u{1EFF}').contains(&c))
}

/// Names the script of a letter: the ones of several blocks by one number, the others by their 128
/// code points.
fn script(letter: char) -> u32 {
    match u32::from(letter) {
        0x2E80..=0x9FFF | 0xF900..=0xFAFF | 0x2_0000..=0x3_FFFF => 0x4E00,
        0x1100..=0x11FF | 0xAC00..=0xD7FF => 0xAC00,
        0x0600..=0x077F | 0xFB50..=0xFDFF | 0xFE70..=0xFEFF => 0x0600,
        0x0400..=0x052F => 0x0400,
        0x0370..=0x03FF | 0x1F00..=0x1FFF => 0x0370,
        code => code >> 7 << 7,
    }
}

/// How many tokens of a vocabulary of bytes have letters of each script but Latin.
fn scripts(tokenizer: &Tokenizer) -> HashMap<u32, usize> {
    let mut counts = HashMap::new();
    for token in tokenizer.get_vocab(false).keys() {
        let bytes: Vec<u8> = token.chars().filter_map(byte_of).collect();
        let text = String::from_utf8_lossy(&bytes);
        if let Some(letter) = text.chars().find(|c| c.is_alphabetic() && !is_latin(*c)) {
            *counts.entry(script(letter)).or_insert(0) += 1;
        }
    }
    counts
}

/// The byte that a character of a byte-level vocabulary stands for: itself where it can be
/// printed, else the next free one from U+0100 on (Radford et al. 2019, `bytes_to_unicode`).
fn byte_of(c: char) -> Option<u8> {
    let is_printable = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    match u32::from(c) {
        code @ 0..=0xFF => u8::try_from(code).ok().filter(is_printable),
        code => {
            let rank = usize::try_from(code - 0x100).ok()?;
            (0..=u8::MAX).filter(|byte| !is_printable(byte)).nth(rank)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::vision::tokenize::{Canonicalize, TextSpec};

    fn reader(json: &[u8]) -> TextReader {
        let canonicalize = Canonicalize::None;
        TextReader::new(TextSpec { context_length: 64, pad_id: 0, canonicalize }, json)
            .expect("a tokenizer")
    }

    fn builtin() -> TextReader {
        reader(include_bytes!("../../../models/builtin/tokenizer.json"))
    }

    fn of_family(name: &str) -> TextReader {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/models");
        reader(&std::fs::read(root.join(name).join("tokenizer.json")).expect("a file"))
    }

    fn readability(reader: &TextReader, text: &str) -> Readability {
        reader.readability(text).expect("the tokenizer works")
    }

    #[test]
    fn what_no_tokenizer_has_is_not_read() {
        for reader in
            [builtin(), of_family("clip-tiny"), of_family("siglip-tiny"), of_family("siglip2-tiny")]
        {
            for text in
                ["страница", "\u{1F52B}", "ｇｕｎ", "\u{200B}", "", "?!", "𝐠𝐮𝐧", "銃 ピストル"]
            {
                assert_eq!(readability(&reader, text), Readability::Nothing, "{text:?}");
            }
        }
    }

    #[test]
    fn english_is_read_and_what_is_not_is_named() {
        for reader in [builtin(), of_family("clip-tiny")] {
            for text in ["a photo of a gun, 9 mm", "a café (naïve)", "zzqxv", "911"] {
                assert_eq!(readability(&reader, text), Readability::Whole, "{text:?}");
            }
            let named = |words: &[&str]| {
                Readability::Partly(words.iter().map(ToString::to_string).collect())
            };
            assert_eq!(readability(&reader, "a пистолет in a hand"), named(&["пистолет"]));
            assert_eq!(readability(&reader, "a gun/пистолет"), named(&["gun/пистолет"]));
            assert_eq!(readability(&reader, "a gun \u{1F52B}"), named(&["\u{1F52B}"]));
        }
    }

    #[test]
    fn bytes_are_those_of_the_reference() {
        assert_eq!(
            [byte_of('a'), byte_of('Ā'), byte_of('Ġ'), byte_of('Ń')],
            [Some(b'a'), Some(0), Some(b' '), Some(0xAD)]
        );
        assert_eq!(byte_of('\u{144}'), None);
    }
}
