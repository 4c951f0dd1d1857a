//! What made the pixels that were judged.

use std::fmt;

use super::embedding::Fingerprint;

/// Names what made the pixels: the decoder's version for the format, and the limits that they depend
/// on. Where it is another one today, a picture is decoded and judged again. Empty for what was
/// judged before recipes were kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Recipe(pub String);

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What pictures are judged with now. What was judged with anything else is judged again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JudgedWith {
    /// Of the model in use.
    pub fingerprint: Fingerprint,
    /// Every recipe that a picture may have today.
    pub recipes: Vec<Recipe>,
}
