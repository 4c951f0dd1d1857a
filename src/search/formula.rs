//! What people type to search: `dog + 2:snow - people policy:weapons`.
//!
//! Texts are added with ` + ` and taken away with ` - `, each with a weight before a colon where
//! it is not 1. Words like `policy:weapons` are no text, they restrict what is found. What stands
//! in double quotes is text as it is.

/// A text and how much of it is wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct Term {
    /// Below 0: to get away from it. Never 0.
    pub weight: f32,
    /// What the model reads, not empty.
    pub text: String,
}

/// What was typed, taken apart.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Formula {
    /// In the order typed; empty where only restrictions were typed.
    pub terms: Vec<Term>,
    /// Pairs of one of [`Formula::KEYS`] and what stood behind it, not empty.
    pub only: Vec<(&'static str, String)>,
}

/// What is typed makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormulaError {
    /// An operator without a text.
    #[error("there is no text after `{0}`; an example: dog + snow - people")]
    NoText(String),
    /// A weight that can't be one.
    #[error("the weight {0} does nothing; give one above 0, as in 2:dog")]
    Weight(String),
}

/// A word as typed; what was in quotes is never an operator or a restriction.
struct Word {
    text: String,
    quoted: bool,
}

impl Formula {
    /// What can restrict a search.
    pub const KEYS: [&str; 7] =
        ["policy", "outcome", "decision", "state", "path", "since", "until"];

    /// Takes apart what was typed.
    ///
    /// # Errors
    /// [`FormulaError`] saying what is wrong in it.
    pub fn parse(typed: &str) -> Result<Self, FormulaError> {
        let mut formula = Self::default();
        let mut term = Pending::default();
        for word in words(typed) {
            match (word.quoted, word.text.as_str()) {
                (false, "+" | "-") => {
                    term.finish(&mut formula.terms)?;
                    term = Pending::after(&word.text);
                }
                (false, text) => match restriction(text) {
                    Some(only) => formula.only.push(only),
                    None => term.add(text)?,
                },
                (true, text) => term.push(text),
            }
        }
        term.finish(&mut formula.terms)?;
        Ok(formula)
    }
}

/// A term that is being read.
#[derive(Default)]
struct Pending {
    operator: Option<String>,
    weight: Option<f32>,
    text: String,
    /// What stood there before the colon.
    number: String,
}

impl Pending {
    fn after(operator: &str) -> Self {
        Self { operator: Some(operator.to_owned()), ..Self::default() }
    }

    /// A word that may begin with a weight.
    fn add(&mut self, word: &str) -> Result<(), FormulaError> {
        let weighted = word.split_once(':').and_then(|(number, rest)| {
            let plain = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
            Some((number, number.parse::<f32>().ok().filter(|_| plain)?, rest))
        });
        match weighted {
            Some((number, weight, rest)) if self.text.is_empty() && self.weight.is_none() => {
                if !weight.is_normal() {
                    return Err(FormulaError::Weight(number.to_owned()));
                }
                self.weight = Some(weight);
                number.clone_into(&mut self.number);
                if !rest.is_empty() {
                    self.push(rest);
                }
            }
            _ => self.push(word),
        }
        Ok(())
    }

    fn push(&mut self, word: &str) {
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        self.text.push_str(word);
    }

    fn finish(&mut self, terms: &mut Vec<Term>) -> Result<(), FormulaError> {
        let text = std::mem::take(&mut self.text);
        if text.trim().is_empty() {
            return match (&self.operator, self.weight) {
                (_, Some(_)) => Err(FormulaError::NoText(format!("{}:", self.number))),
                (Some(operator), None) => Err(FormulaError::NoText(operator.clone())),
                (None, None) => Ok(()),
            };
        }
        let sign = if self.operator.as_deref() == Some("-") { -1.0 } else { 1.0 };
        terms.push(Term { weight: sign * self.weight.unwrap_or(1.0), text });
        Ok(())
    }
}

fn restriction(word: &str) -> Option<(&'static str, String)> {
    let (key, value) = word.split_once(':')?;
    let key = Formula::KEYS.into_iter().find(|known| *known == key)?;
    (!value.is_empty()).then(|| (key, value.to_owned()))
}

/// Cut at white space outside of double quotes. A quote that is never closed is a character like
/// others.
fn words(typed: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut rest = typed.trim_start();
    while !rest.is_empty() {
        let quoted = rest.starts_with('"') && rest[1..].contains('"');
        let mut text = String::new();
        while let Some(next) = rest.chars().next().filter(|next| !next.is_whitespace()) {
            rest = &rest[next.len_utf8()..];
            match rest.find('"').filter(|_| next == '"') {
                Some(end) => {
                    text.push_str(&rest[..end]);
                    rest = &rest[end + 1..];
                }
                None => text.push(next),
            }
        }
        words.push(Word { text, quoted });
        rest = rest.trim_start();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(typed: &str) -> Vec<(f32, String)> {
        let formula = Formula::parse(typed).expect("makes sense");
        formula.terms.into_iter().map(|term| (term.weight, term.text)).collect()
    }

    fn term(weight: f32, text: &str) -> (f32, String) {
        (weight, text.to_owned())
    }

    #[test]
    fn a_sentence_is_one_term() {
        assert_eq!(terms("  a sunset  over the ocean "), [term(1.0, "a sunset over the ocean")]);
        let with_signs = "a t-shirt -20% off, 3:2 format+grain";
        assert_eq!(terms(with_signs), [term(1.0, with_signs)]);
        assert_eq!(terms(""), []);
    }

    #[test]
    fn texts_are_added_and_taken_away_with_weights() {
        let sum = [term(1.0, "dog"), term(1.0, "snow"), term(-1.0, "people")];
        assert_eq!(terms("dog + snow - people"), sum);
        let weighted = [term(2.0, "dog"), term(-0.5, "deep snow")];
        assert_eq!(terms("2:dog - .5: deep snow"), weighted);
        assert_eq!(terms("- people"), [term(-1.0, "people")]);
        assert_eq!(
            terms("\"salt + pepper\" - \"2:1\""),
            [term(1.0, "salt + pepper"), term(-1.0, "2:1")]
        );
        assert_eq!(terms("a 5\" screen"), [term(1.0, "a 5\" screen")]);
    }

    #[test]
    fn restrictions_are_no_text() {
        let formula =
            Formula::parse("red car outcome:block + snow path:\"my cats\" url:x").expect("fine");
        assert_eq!(formula.terms.len(), 2);
        assert_eq!(formula.terms[1].text, "snow url:x");
        let only = [("outcome", "block".to_owned()), ("path", "my cats".to_owned())];
        assert_eq!(formula.only, only);
        assert!(Formula::parse("policy:memes").expect("fine").terms.is_empty());
        assert_eq!(terms("\"policy:memes\""), [term(1.0, "policy:memes")]);
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        let no_text = |operator: &str| Err(FormulaError::NoText(operator.to_owned()));
        assert_eq!(Formula::parse("dog +"), no_text("+"));
        assert_eq!(Formula::parse("dog - + cat"), no_text("-"));
        assert_eq!(Formula::parse("2:"), no_text("2:"));
        assert_eq!(Formula::parse("0:dog"), Err(FormulaError::Weight("0".to_owned())));
    }
}
