//! Why a person has to see a picture whatever its scores are: what people's viewers show of it is
//! not known, or not all of it was judged.

use std::fmt;

use super::policy::spelled;

spelled! {
    /// A doubt about what was judged. An earlier one weighs more.
    Doubt {
        /// A part of the data is broken; viewers show what they can.
        Damaged = "damaged",
        /// Which part of the picture is shown depends on the viewer.
        Canvas = "canvas",
        /// More pictures than one lie in the file, and which are shown depends on the viewer.
        SecondPicture = "second_picture",
        /// Which colours are shown depends on the viewer.
        Colours = "colours",
        /// Which side is up depends on the viewer.
        Orientation = "orientation",
        /// The picture never becomes complete; viewers guess at what is missing.
        Unfinished = "unfinished",
        /// Frames of an animation look like none of those that were judged.
        Frames = "frames",
        /// The picture is too long for all of its parts to be judged.
        Parts = "parts",
    }
}

impl Doubt {
    /// What it means: a fragment for a person, which begins with its kind.
    pub fn words(self) -> &'static str {
        match self {
            Self::Damaged => "damaged: viewers show what they can of it",
            Self::Canvas => "ambiguous: viewers show different parts of it",
            Self::SecondPicture => "ambiguous: more than one picture lies in it",
            Self::Colours => "ambiguous: viewers show it in different colours",
            Self::Orientation => "ambiguous: viewers turn it differently",
            Self::Unfinished => "ambiguous: viewers guess at what is missing",
            Self::Frames => "partly_judged: not all frames judged",
            Self::Parts => "partly_judged: not all parts judged",
        }
    }
}

/// A set of doubts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Doubts(u32);

impl Doubts {
    /// From [`Doubts::bits`]; `None` for bits that mean nothing.
    pub fn from_bits(bits: u32) -> Option<Self> {
        let known = Doubt::ALL.iter().fold(0, |all, doubt| all | bit(*doubt));
        (bits & !known == 0).then_some(Self(bits))
    }

    /// One bit for each doubt.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// From what `Display` wrote. A name that is not known, as a later version may have written,
    /// counts as damage: a person looks.
    pub fn parse(list: &str) -> Self {
        let names = list.split(',').filter(|name| !name.is_empty());
        names.map(|name| Doubt::parse(name).unwrap_or(Doubt::Damaged)).collect()
    }

    /// Puts a doubt in.
    pub fn insert(&mut self, doubt: Doubt) {
        self.0 |= bit(doubt);
    }

    /// Puts in what another set holds.
    pub fn extend(&mut self, others: Self) {
        self.0 |= others.0;
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Its doubts, the one that weighs most first.
    pub fn iter(self) -> impl Iterator<Item = Doubt> {
        Doubt::ALL.iter().copied().filter(move |doubt| self.0 & bit(*doubt) != 0)
    }
}

impl FromIterator<Doubt> for Doubts {
    fn from_iter<T: IntoIterator<Item = Doubt>>(doubts: T) -> Self {
        let mut set = Self::default();
        doubts.into_iter().for_each(|doubt| set.insert(doubt));
        set
    }
}

/// The names, joined by commas: as they are stored.
impl fmt::Display for Doubts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.iter().map(Doubt::as_str).collect();
        f.write_str(&names.join(","))
    }
}

fn bit(doubt: Doubt) -> u32 {
    1 << doubt as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_read_back() {
        let all: Doubts = Doubt::ALL.iter().copied().collect();
        for set in [Doubts::default(), [Doubt::Frames, Doubt::Damaged].into_iter().collect(), all] {
            assert_eq!(Doubts::parse(&set.to_string()), set);
            assert_eq!(Doubts::from_bits(set.bits()), Some(set));
        }
        assert_eq!(all.iter().count(), Doubt::ALL.len());
        assert_eq!(all.iter().next(), Some(Doubt::Damaged), "what weighs most comes first");
        assert_eq!(Doubts::from_bits(1 << 31), None);
        assert!(!Doubts::parse("from the future").is_empty(), "a person looks");
    }
}
