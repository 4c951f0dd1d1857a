//! From a text to the token ids that a text tower was trained on.
//!
//! Padding and truncation are set here, from the model's description: the tokenizer files of
//! the families either say nothing about them or something that the models were not trained with.

use tokenizers::Tokenizer;

use super::VisionError;

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
}

impl TextReader {
    /// Reads a `tokenizer.json`; its own padding and truncation are switched off.
    pub(crate) fn new(spec: TextSpec, json: &[u8]) -> Result<Self, tokenizers::Error> {
        let mut tokenizer = Tokenizer::from_bytes(json)?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None)?;
        Ok(Self { spec, tokenizer })
    }

    /// How many tokens a text has, special tokens included.
    pub(crate) fn count(&self, text: &str) -> Result<usize, VisionError> {
        Ok(self.own_ids(text)?.len())
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
}
