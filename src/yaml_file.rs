//! Reads a YAML file within limits; every problem names file, line and column, and a way out.
//!
//! Policies, the workspace's settings and models' manifests are all read through this room.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_yaml::{Error, Location, Options, SnippetMode, UserMessageFormatter};

/// Larger files are refused before they are parsed.
pub const MAX_BYTES: usize = 1 << 20;

/// Something is wrong in a YAML file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct YamlProblem {
    /// Which file.
    pub file: PathBuf,
    /// Counted from 1; 0 when the whole file is meant.
    pub line: u64,
    /// Counted from 1; 0 when the whole file is meant.
    pub column: u64,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl fmt::Display for YamlProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}", self.what)?;
        self.hint.iter().try_for_each(|hint| write!(f, "\n  hint: {hint}"))
    }
}

impl YamlProblem {
    /// A problem of the whole file.
    pub fn of_file(file: &Path, what: impl fmt::Display) -> Self {
        Self { file: file.to_owned(), line: 0, column: 0, what: what.to_string(), hint: None }
    }

    /// A problem at a place, as `Spanned::referenced` names it.
    pub fn at(file: &Path, place: Location, what: impl fmt::Display) -> Self {
        let (line, column) = (place.line(), place.column());
        Self { file: file.to_owned(), line, column, what: what.to_string(), hint: None }
    }

    /// The same problem with a way out.
    #[must_use]
    pub fn with_hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }
}

/// Reads a file's text, up to [`MAX_BYTES`].
///
/// # Errors
/// [`YamlProblem`] when it can't be read, is too large or is not UTF-8.
pub fn read(file: &Path) -> Result<String, YamlProblem> {
    let bytes = std::fs::read(file)
        .map_err(|error| YamlProblem::of_file(file, format_args!("can't be read: {error}")))?;
    if bytes.len() > MAX_BYTES {
        let what =
            format_args!("{} bytes are more than the limit of 1 MiB", bytes.len()).to_string();
        return Err(YamlProblem::of_file(file, what));
    }
    String::from_utf8(bytes).map_err(|error| {
        YamlProblem::of_file(file, format_args!("is not UTF-8 text: {}", error.utf8_error()))
    })
}

/// Parses text that came from `file`: at most 16 levels, 10,000 nodes and 64 aliases, no key twice.
///
/// # Errors
/// [`YamlProblem`] naming the place and, for a misspelt field, the nearest right one.
pub fn parse<T: DeserializeOwned>(file: &Path, text: &str) -> Result<T, YamlProblem> {
    serde_yaml::from_str_with_options(text, limits()).map_err(|error| explain(file, &error))
}

fn limits() -> Options {
    serde_yaml::options! {
        budget: serde_yaml::budget! {
            max_depth: 16,
            max_nodes: 10_000,
            max_aliases: 64,
            // A second one is found by the parser, which knows its place.
            max_documents: 2,
        },
    }
}

fn explain(file: &Path, error: &Error) -> YamlProblem {
    let error = error.without_snippet();
    let place = error.location().unwrap_or(Location::UNKNOWN);
    match error {
        Error::SerdeUnknownField { field, expected, .. } => {
            let problem = YamlProblem::at(file, place, format_args!("unknown field `{field}`"));
            let known = || format!("the fields are {}", expected.join(", "));
            problem.with_hint(nearest(field, expected).unwrap_or_else(known))
        }
        Error::SerdeUnknownVariant { variant, expected, .. } => {
            YamlProblem::at(file, place, format_args!("`{variant}` is no possible value here"))
                .with_hint(format_args!("it is one of {}", expected.join(", ")))
        }
        Error::SerdeMissingField { field, .. } => {
            YamlProblem::at(file, place, format_args!("the field `{field}` is missing"))
                .with_hint(format_args!("add a line `{field}: …`"))
        }
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            YamlProblem::at(file, place, format_args!("the field `{key}` stands here twice"))
                .with_hint("remove one of the two")
        }
        Error::Unexpected { expected: "sequence start", .. } => {
            YamlProblem::at(file, place, "a list is expected here")
                .with_hint("write it in brackets: `[a, b]`")
        }
        Error::MultipleDocuments { .. } => {
            YamlProblem::at(file, place, "a second document begins here, and only one is read")
                .with_hint(
                    "remove the line `---`; what stands below it goes into a file of its own",
                )
        }
        other => {
            let plain = serde_yaml::render_options! {
                formatter: &UserMessageFormatter,
                snippets: SnippetMode::Off,
            };
            YamlProblem::at(file, place, other.render_with_options(plain))
        }
    }
}

/// `did you mean …?` when one candidate is close enough to be meant.
pub fn nearest(typed: &str, candidates: &[&str]) -> Option<String> {
    let likeness = |candidate: &&&str| strsim::jaro_winkler(typed, candidate);
    candidates
        .iter()
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
        .filter(|candidate| likeness(candidate) > 0.8)
        .map(|candidate| format!("did you mean `{candidate}`?"))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[expect(dead_code, reason = "only the parsing is tested")]
        prompts: Vec<String>,
    }

    fn problem(text: &str) -> YamlProblem {
        parse::<Sample>(Path::new("p.yaml"), text).expect_err("must be refused")
    }

    #[test]
    fn a_misspelt_field_is_named_with_its_place_and_the_right_one() {
        let problem = problem("# comment\npromts: [a]\n");
        assert_eq!((problem.line, problem.column), (2, 1));
        assert_eq!(
            problem.to_string(),
            "p.yaml:2:1: unknown field `promts`\n  hint: did you mean `prompts`?"
        );
    }

    #[test]
    fn a_field_that_is_like_none_gets_the_list() {
        assert_eq!(problem("zzz: 1").hint.as_deref(), Some("the fields are prompts"));
    }

    #[test]
    fn missing_and_repeated_fields_are_named() {
        assert!(problem("{}").what.contains("`prompts` is missing"));
        assert!(problem("prompts: [a]\nprompts: [b]").what.contains("twice"));
    }

    #[test]
    fn a_list_that_is_none_is_named() {
        for text in ["prompts: a", "prompts:", "prompts: {a: b}"] {
            assert_eq!(problem(text).what, "a list is expected here", "{text}");
        }
    }

    #[test]
    fn a_second_document_is_named_and_a_marked_single_one_is_read() {
        for text in [
            "prompts: [a]\n---\nprompts: [b]\n",
            "---\nprompts: [a]\n---\n",
            "prompts: [a]\n...\n---\nprompts: [b]\n",
            "prompts: [a]\n---\na: 1\n---\nb: 1\n",
        ] {
            let problem = problem(text);
            assert!(problem.what.contains("second document"), "{problem}");
            assert!((2..=4).contains(&problem.line), "{problem}");
        }
        for text in ["---\nprompts: [a]\n", "prompts: [a]\n...\n", "# a\n---\nprompts: [a]\n"] {
            parse::<Sample>(Path::new("p.yaml"), text).expect("one document");
        }
    }

    #[test]
    fn bombs_are_refused_quickly() {
        let deep = format!("prompts: {}{}", "[".repeat(40), "]".repeat(40));
        let wide = format!("prompts: [{}]", "a,".repeat(20_000));
        let mut laughs = String::from("a: &a [x, x, x, x, x, x, x, x, x, x]\n");
        for pair in [b"ab", b"bc", b"cd", b"de", b"ef", b"fg", b"gh"] {
            let [from, to] = pair.map(char::from);
            let ten = vec![format!("*{from}"); 10].join(", ");
            writeln!(laughs, "{to}: &{to} [{ten}]").unwrap();
        }
        for bomb in [deep, wide, laughs] {
            problem(&bomb);
        }
    }

    #[test]
    fn errors_name_the_file_that_can_not_be_read() {
        let missing = read(Path::new("/nowhere/x.yaml")).expect_err("missing");
        assert!(missing.to_string().starts_with("/nowhere/x.yaml: can't be read"), "{missing}");
    }
}
