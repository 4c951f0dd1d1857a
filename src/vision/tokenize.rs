//! From a text to the token ids that a text tower was trained on.
//!
//! Padding and truncation are set here, from the model's description: the tokenizer files of
//! the families either say nothing about them or something that the models were not trained with.

mod words;

use std::collections::HashMap;
use std::sync::OnceLock;

use tokenizers::Tokenizer;

use super::VisionError;
pub use words::Readability;
use words::Vocabulary;

/// What is done to a text before it is cut into tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Canonicalize {
    /// Nothing; the tokenizer's own normaliser does what is needed.
    None,
    /// Lower case (SigLIP 2).
    Lower,
    /// Lower case, no ASCII punctuation, single spaces (SigLIP).
    LowerNoAsciiPunctuation,
}

/// How a model wants its texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TextSpec {
    /// Every text is padded to this many tokens and may not have more.
    pub(crate) context_length: usize,
    /// The token that fills up.
    pub(crate) pad_id: u32,
    /// What is done before.
    pub(crate) canonicalize: Canonicalize,
}

/// The ids of one text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tokens {
    /// `context_length` ids.
    pub(crate) ids: Vec<i64>,
    /// How many of them are the text's own; the rest is padding.
    pub(crate) length: usize,
}

/// A tokenizer and the rules around it.
pub(crate) struct TextReader {
    spec: TextSpec,
    tokenizer: Tokenizer,
    vocabulary: Vocabulary,
    /// How many tokens each script has; counted when it is asked for.
    scripts: OnceLock<HashMap<u32, usize>>,
}

impl TextReader {
    /// Reads a `tokenizer.json`; its own padding and truncation are switched off.
    pub(crate) fn new(spec: TextSpec, json: &[u8]) -> Result<Self, tokenizers::Error> {
        let mut tokenizer = Tokenizer::from_bytes(json)?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None)?;
        let vocabulary = Vocabulary::of(&tokenizer);
        Ok(Self { spec, tokenizer, vocabulary, scripts: OnceLock::new() })
    }

    /// How many tokens a text has, special tokens included.
    pub(crate) fn count(&self, text: &str) -> Result<usize, VisionError> {
        Ok(self.own_ids(text)?.len())
    }

    /// The number of a token, if the vocabulary has it.
    pub(crate) fn token_id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    /// The padded ids.
    ///
    /// # Errors
    /// [`VisionError::PromptTooLong`] instead of cutting words off.
    pub(crate) fn read(&self, text: &str) -> Result<Tokens, VisionError> {
        let own = self.own_ids(text)?;
        let (length, limit) = (own.len(), self.spec.context_length);
        if length > limit {
            return Err(VisionError::PromptTooLong {
                text: text.to_owned(),
                tokens: length,
                limit,
            });
        }
        let mut ids: Vec<i64> = own.into_iter().map(i64::from).collect();
        ids.resize(limit, i64::from(self.spec.pad_id));
        Ok(Tokens { ids, length })
    }

    fn own_ids(&self, text: &str) -> Result<Vec<u32>, VisionError> {
        let canonical = canonical(text, self.spec.canonicalize);
        match self.tokenizer.encode_fast(canonical, true) {
            Ok(encoding) => Ok(encoding.get_ids().to_vec()),
            Err(source) => Err(VisionError::Tokenize { text: text.to_owned(), source }),
        }
    }
}

/// SigLIP's `canonicalize_text`: punctuation is Python's `string.punctuation`, which is ASCII's.
fn canonical(text: &str, rule: Canonicalize) -> String {
    match rule {
        Canonicalize::None => text.to_owned(),
        Canonicalize::Lower => text.to_lowercase(),
        Canonicalize::LowerNoAsciiPunctuation => {
            let plain: String = text.chars().filter(|c| !c.is_ascii_punctuation()).collect();
            let words: Vec<&str> = plain.split_whitespace().collect();
            words.join(" ").to_lowercase()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn canonical_texts() {
        let text = "  A receipt, from a\tSHOP! ½–é ";
        assert_eq!(canonical(text, Canonicalize::None), text);
        assert_eq!(canonical(text, Canonicalize::Lower), "  a receipt, from a\tshop! ½–é ");
        assert_eq!(
            canonical(text, Canonicalize::LowerNoAsciiPunctuation),
            "a receipt from a shop ½–é"
        );
    }

    #[test]
    fn ids_are_those_of_the_reference() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        ids_agree(&root.join("tests/data/models"), 513);
        let reference = root.join("../shared/reference");
        if reference.is_dir() {
            ids_agree(&reference, 49_407);
        }
    }

    /// Every prompt of every family; `end` is the end-of-text token of the CLIP tokenizer.
    fn ids_agree(reference: &Path, end: u32) {
        for (family, context_length, pad_id, canonicalize) in [
            ("clip-tiny", 77, end, Canonicalize::None),
            ("siglip-tiny", 64, 1, Canonicalize::LowerNoAsciiPunctuation),
            ("siglip2-tiny", 64, 0, Canonicalize::Lower),
        ] {
            let read = |name| std::fs::read(reference.join(family).join(name)).expect("a file");
            let golden: serde_json::Value =
                serde_json::from_slice(&read("golden.json")).expect("JSON");
            let spec = TextSpec { context_length, pad_id, canonicalize };
            let reader = TextReader::new(spec, &read("tokenizer.json")).expect("a tokenizer");
            let prompts = golden["prompts"].as_array().expect("a list");
            assert!(!prompts.is_empty());
            for (prompt, ids) in prompts.iter().zip(golden["input_ids"].as_array().expect("ids")) {
                let prompt = prompt.as_str().expect("a text");
                let tokens = reader.read(prompt).expect("short enough");
                assert_eq!(serde_json::json!(tokens.ids), *ids, "{family}: {prompt}");
            }
        }
    }

    #[test]
    fn a_long_text_is_refused_and_a_short_one_padded() {
        let json = include_bytes!("../../models/builtin/tokenizer.json");
        let spec = TextSpec { context_length: 4, pad_id: 9, canonicalize: Canonicalize::None };
        let reader = TextReader::new(spec, json).expect("a tokenizer");
        let tokens = reader.read("a photo").expect("short enough");
        assert_eq!((tokens.length, &tokens.ids[2..]), (2, [9, 9].as_slice()));
        assert!(reader.read("a photo of a").is_ok());
        let error = reader.read("a photo of a cat").expect_err("too long");
        assert!(matches!(error, VisionError::PromptTooLong { tokens: 5, limit: 4, .. }), "{error}");
    }
}
