//! Which paths a policy looks at: globs that are refused where they can't mean what they say.

use std::borrow::Cow;
use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// How globs are matched. It is part of the hash of a policy that names more than `**`, so that
/// files are judged again when the rule changes. 2: the case of letters makes no difference.
pub(super) const MATCHING_VERSION: &[u8] = b"2";

/// A glob whose braces stand for more globs than this is refused.
const MOST_ALTERNATIVES: usize = 1_000;

/// Which paths below the watched folder a policy looks at.
#[derive(Debug, Clone)]
pub struct Scope {
    pub(super) include: Vec<String>,
    pub(super) exclude: Vec<String>,
    include_set: GlobSet,
    exclude_set: GlobSet,
}

/// A list of globs that can't be read, or that can match nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct ScopeError {
    /// In `include` or in `exclude`.
    pub list: ScopeList,
    /// Which glob of the list, counted from 0; the whole list where there is none.
    pub index: Option<usize>,
    /// What is wrong.
    pub what: String,
    /// What to write instead.
    pub hint: String,
}

/// The two lists of a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScopeList {
    /// What is looked at.
    Include,
    /// What of it is left out.
    Exclude,
}

impl Scope {
    /// Compiles two lists of globs on paths below the watched folder. `*` and `?` stay within one
    /// folder, `**` crosses folders; the case of letters makes no difference.
    ///
    /// # Errors
    /// [`ScopeError`] naming the first glob that can't be read or that no path can match, an empty
    /// `include`, and an `exclude` that leaves nothing over.
    pub fn new(include: Vec<String>, exclude: Vec<String>) -> Result<Self, ScopeError> {
        if include.is_empty() {
            return Err(ScopeError {
                list: ScopeList::Include,
                index: None,
                what: "`include` is empty, so the policy would look at no picture".to_owned(),
                hint: "remove `include` to look at everything, or name folders: `avatars/**`"
                    .to_owned(),
            });
        }
        let include_set = compile(ScopeList::Include, &include)?;
        let exclude_set = compile(ScopeList::Exclude, &exclude)?;
        if let Some(index) = leaves_nothing(&include, &exclude) {
            return Err(ScopeError {
                list: ScopeList::Exclude,
                index: Some(index),
                what: "`exclude` leaves nothing of what `include` names".to_owned(),
                hint: "narrow `exclude`; `mode: background` records without asking anyone"
                    .to_owned(),
            });
        }
        Ok(Self { include, exclude, include_set, exclude_set })
    }

    /// Everything.
    ///
    /// # Panics
    /// Never: the one glob it compiles is a good one.
    pub fn everything() -> Self {
        Self::new(vec!["**".to_owned()], Vec::new()).expect("`**` is a glob")
    }

    /// No path at all; no file can say this.
    pub fn nothing() -> Self {
        let none = GlobSet::empty;
        let include = Vec::new();
        Self { include, exclude: Vec::new(), include_set: none(), exclude_set: none() }
    }

    /// Whether it is plainly everything, so that no path need be known.
    pub fn is_everything(&self) -> bool {
        self.exclude.is_empty() && self.include.iter().any(|glob| glob == "**")
    }

    /// Whether the path (below the watched folder) is looked at.
    pub fn includes(&self, below: &Path) -> bool {
        let lower = lower_case(below);
        let matches = |set: &GlobSet| {
            set.is_match(below) || lower.as_ref().is_some_and(|lower| set.is_match(lower))
        };
        matches(&self.include_set) && !matches(&self.exclude_set)
    }

    /// Globs that name one file and were most likely meant as a folder: no wildcard, no dot.
    pub fn folders_without_stars(&self) -> Vec<(ScopeList, usize, &str)> {
        let lists = [(ScopeList::Include, &self.include), (ScopeList::Exclude, &self.exclude)];
        let each = lists.into_iter().flat_map(|(list, globs)| {
            globs.iter().enumerate().map(move |(index, glob)| (list, index, glob.as_str()))
        });
        each.filter(|(_, _, glob)| !glob.contains(['*', '?', '[', '{', '.'])).collect()
    }
}

/// The path in lower case, where that matters: globset itself folds the letters of ASCII only.
fn lower_case(below: &Path) -> Option<String> {
    below.to_str().filter(|text| !text.is_ascii()).map(str::to_lowercase)
}

fn compile(list: ScopeList, globs: &[String]) -> Result<GlobSet, ScopeError> {
    let mut set = GlobSetBuilder::new();
    for (index, glob) in globs.iter().enumerate() {
        let refused = |Fault { what, hint }| ScopeError { list, index: Some(index), what, hint };
        check(glob).map_err(refused)?;
        let lower = (!glob.is_ascii()).then(|| glob.to_lowercase());
        for spelling in std::iter::once(glob).chain(&lower) {
            let built = GlobBuilder::new(spelling)
                .literal_separator(true)
                .case_insensitive(true)
                .empty_alternates(true)
                .build();
            set.add(built.map_err(|error| refused(not_a_glob(glob, &error)))?);
        }
    }
    set.build().map_err(|error| {
        let Fault { what, hint } = not_a_glob(&globs.join(", "), &error);
        ScopeError { list, index: None, what, hint }
    })
}

/// Which entry of `exclude` takes away the rest of what `include` names, if nothing is left over.
fn leaves_nothing(include: &[String], exclude: &[String]) -> Option<usize> {
    let everything = |glob: &str| matches!(glob, "**" | "**/*" | "**/**");
    let excluding = |wanted: &String| {
        let same = |glob: &String| everything(glob) || glob.eq_ignore_ascii_case(wanted);
        exclude.iter().position(same)
    };
    let found: Option<Vec<usize>> = include.iter().map(excluding).collect();
    found?.into_iter().max()
}

struct Fault {
    what: String,
    hint: String,
}

impl Fault {
    fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), hint: hint.into() }
    }
}

fn not_a_glob(glob: &str, error: &globset::Error) -> Fault {
    let what = format!("{glob:?} is not a glob: {}", error.kind());
    Fault::new(what, "such as `avatars/**`; `[[]` stands for a `[` in a name, `[{]` for a `{`")
}

/// What a person types and no path below a folder can ever match.
fn check(glob: &str) -> Result<(), Fault> {
    let fault = |what: &str, hint: String| {
        Err(Fault::new(format!("{glob:?} matches no path: {what}"), hint))
    };
    let write = |better: &str| format!("write `{better}`");
    if glob.trim().is_empty() {
        return fault("it is empty", "write `**` for everything, `avatars/**` for a folder".into());
    }
    if glob.trim() != glob {
        return fault("it has spaces at its ends", write(glob.trim()));
    }
    if let Some(rest) = glob.strip_prefix('!') {
        let hint = format!("put `{rest}` under `exclude` (or `include`); `!` has no meaning here");
        return fault("it begins with `!`", hint);
    }
    if glob.contains('\\') {
        let better = corrected(&glob.replace('\\', "/"));
        let hint = write(&better) + "; `[*]` stands for a `*` in a name";
        return fault("it has a backslash, and folders are parted by `/`", hint);
    }
    if glob.chars().any(char::is_control) {
        return fault("it has a control character", "`?` stands for any one character".into());
    }
    let alternatives = alternatives(glob).ok_or_else(|| {
        let what = format!("{glob:?} stands for more than {MOST_ALTERNATIVES} globs");
        Fault::new(what, "write several shorter globs")
    })?;
    alternatives.iter().try_for_each(|each| check_parts(glob, each))
}

/// One glob without braces; `typed` is what it comes from.
fn check_parts(typed: &str, glob: &str) -> Result<(), Fault> {
    let fault = |what: &str| {
        let better = corrected(glob);
        let hint = match better.as_str() {
            "" => "write `**` for everything, `avatars/**` for a folder".to_owned(),
            better => format!("write `{better}`"),
        };
        let hint = format!("{hint}: paths are given below the watched folder");
        Err(Fault::new(format!("{typed:?} matches no path: {what}"), hint))
    };
    if glob.starts_with('/') {
        return fault("it begins with `/`");
    }
    if glob.ends_with('/') {
        return fault("it ends with `/`");
    }
    let mut parts = glob.split('/');
    let first = parts.clone().next().unwrap_or_default();
    if first == "~" {
        return fault("`~` is not replaced by a home folder");
    }
    if let [letter, b':'] = first.as_bytes()
        && letter.is_ascii_alphabetic()
    {
        return fault("a drive's letter is no part of it");
    }
    if parts.clone().any(|part| part == "." || part == "..") {
        return fault("no path has `.` or `..` in it");
    }
    if parts.clone().any(str::is_empty) {
        return fault("it has `//` in it, or is empty");
    }
    if let Some(part) = parts.find(|part| part.contains("**") && *part != "**") {
        let what = format!("{typed:?} does not cross folders: in {part:?} the `**` is not alone");
        let better = format!("write `{}`", corrected(glob));
        return Err(Fault::new(what, format!("{better}: `**` stands alone between `/`")));
    }
    Ok(())
}

/// The nearest glob that can match, for a hint.
fn corrected(glob: &str) -> String {
    let is_drive = |part: &str| part.len() == 2 && part.ends_with(':');
    let mut parts: Vec<String> = Vec::new();
    for part in glob.split('/') {
        match part {
            "" | "." | ".." | "~" => {}
            part if is_drive(part) => {}
            part if part != "**" && part.starts_with("**") => {
                parts.extend(["**".to_owned(), part.replace("**", "*")]);
            }
            part if part != "**" && part.ends_with("**") => {
                parts.extend([part.replace("**", ""), "**".to_owned()]);
            }
            part => parts.push(part.to_owned()),
        }
    }
    if glob.ends_with('/') && parts.last().is_none_or(|last| last != "**") {
        parts.push("**".to_owned());
    }
    parts.join("/")
}

/// The globs without braces that a glob stands for; none where they are too many. What can't be
/// read is left as it is: the compiler says what is wrong with it.
fn alternatives(glob: &str) -> Option<Vec<String>> {
    let mut open = vec![Cow::Borrowed(glob)];
    let mut done = Vec::new();
    while let Some(next) = open.pop() {
        match first_braces(&next) {
            None => done.push(next.into_owned()),
            Some((start, end, choices)) => {
                open.extend(choices.iter().map(|choice| {
                    Cow::Owned(format!("{}{choice}{}", &next[..start], &next[end..]))
                }));
            }
        }
        if open.len() + done.len() > MOST_ALTERNATIVES {
            return None;
        }
    }
    Some(done)
}

/// The first `{…,…}` outside brackets: where it begins and ends, and what stands in it.
fn first_braces(glob: &str) -> Option<(usize, usize, Vec<&str>)> {
    let (mut depth, mut in_class, mut start, mut from) = (0_usize, false, 0, 0);
    let mut choices = Vec::new();
    for (at, character) in glob.char_indices() {
        match character {
            '[' if !in_class => in_class = true,
            ']' => in_class = false,
            '{' if !in_class => {
                depth += 1;
                if depth == 1 {
                    (start, from) = (at, at + 1);
                }
            }
            ',' if !in_class && depth == 1 => {
                choices.push(&glob[from..at]);
                from = at + 1;
            }
            '}' if !in_class && depth == 1 => {
                choices.push(&glob[from..at]);
                return Some((start, at + 1, choices));
            }
            '}' if !in_class => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(include: &[&str], exclude: &[&str]) -> Result<Scope, ScopeError> {
        let owned = |globs: &[&str]| globs.iter().map(ToString::to_string).collect();
        Scope::new(owned(include), owned(exclude))
    }

    #[test]
    fn what_can_match_nothing_is_refused_with_what_to_write() {
        for (glob, hint) in [
            ("", "`**`"),
            ("  ", "`**`"),
            (" avatars/**", "`avatars/**`"),
            ("!avatars/**", "`avatars/**` under `exclude`"),
            ("/**", "`**`"),
            ("/srv/up/**", "`srv/up/**`"),
            ("./**", "`**`"),
            ("./avatars/**", "`avatars/**`"),
            ("../up/**", "`up/**`"),
            ("a/../b", "`a/b`"),
            ("a//b", "`a/b`"),
            ("avatars/", "`avatars/**`"),
            ("**/", "`**`"),
            ("avatars\\**", "`avatars/**`"),
            ("C:/up/**", "`up/**`"),
            ("C:\\up\\**", "`up/**`"),
            ("~/up/**", "`up/**`"),
            ("**.jpg", "`**/*.jpg`"),
            ("avatars**", "`avatars/**`"),
            ("{/a,b}/**", "`a/**`"),
            ("{a,./b}/**", "`b/**`"),
            ("{}", "`**`"),
            ("a[", "`[[]`"),
            ("{a", "`[{]`"),
        ] {
            for (include, exclude) in [(vec!["x/**", glob], vec![]), (vec!["**"], vec![glob])] {
                let error = scope(&include, &exclude).expect_err(glob);
                assert_eq!(error.index, Some(include.len() - 1), "{glob:?}");
                assert!(error.hint.contains(hint), "{glob:?}: {error}; {}", error.hint);
            }
        }
    }

    #[test]
    fn what_can_match_is_taken() {
        for glob in
            ["**", "*", "**/*.{jpg,png}", "a/**/b", "a{,b}/c", "[!x]?/*", "[[]a", ".x/**", "..x"]
        {
            scope(&[glob], &[]).expect(glob);
        }
        let many = "{a,b}".repeat(12);
        assert!(scope(&[&many], &[]).is_err(), "4,096 globs in one");
    }

    #[test]
    fn a_scope_that_leaves_nothing_is_refused() {
        assert_eq!(scope(&[], &[]).expect_err("nothing").index, None);
        for (include, exclude) in [
            (vec!["a/**"], vec!["**"]),
            (vec!["**"], vec!["x", "**/*"]),
            (vec!["a/**", "b/**"], vec!["A/**", "b/**"]),
        ] {
            let error = scope(&include, &exclude).expect_err("nothing is left");
            assert_eq!((error.list, error.index), (ScopeList::Exclude, Some(exclude.len() - 1)));
        }
        scope(&["a/**", "b/**"], &["a/**"]).expect("b is left");
    }

    #[test]
    fn the_case_of_letters_makes_no_difference() {
        let jpegs = scope(&["**/*.jpg", "Ärger/**", "[A-C]x/**"], &["Avatars/**"]).expect("good");
        for path in ["B.JPG", "deep/b.Jpg", "ärger/a", "ÄRGER/a", "bX/a"] {
            assert!(jpegs.includes(Path::new(path)), "{path}");
        }
        for path in ["avatars/b.jpg", "AVATARS/b.jpg", "b.png", "dx/a"] {
            assert!(!jpegs.includes(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn stars_stay_within_a_folder_and_nothing_is_nothing() {
        let one_level = scope(&["*"], &[]).expect("a glob");
        assert!(one_level.includes(Path::new("a.png")));
        assert!(!one_level.includes(Path::new("deep/a.png")));
        assert!(!Scope::nothing().includes(Path::new("a.png")));
        assert!(!Scope::nothing().is_everything());
    }

    #[test]
    fn a_folder_without_stars_is_named() {
        let scope = scope(&["avatars", "logo.png", "x/*"], &["a/b"]).expect("a scope");
        let found = scope.folders_without_stars();
        assert_eq!(found, [(ScopeList::Include, 0, "avatars"), (ScopeList::Exclude, 0, "a/b")]);
    }
}
