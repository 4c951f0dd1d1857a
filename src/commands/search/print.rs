//! What a search prints.

use std::io::{self, Write};
use std::path::Path;

use serde_json::Value;

use crate::commands::UsageError;
use crate::commands::find::{Answer, Hit};
use crate::commands::output::{json_line, number, path_json, table};
use crate::moderation::escape::escape_path;
use crate::moderation::{Action, Outcome, ReviewState};

use super::SearchFormat;

/// How an answer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Table,
    Json,
    /// A line each, fit for a terminal.
    Paths,
    /// Raw bytes and a NUL each.
    RawPaths,
}

impl Form {
    pub(super) fn of(format: Option<SearchFormat>, nul: bool) -> Result<Self, UsageError> {
        match (format, nul) {
            (None | Some(SearchFormat::Paths), true) => Ok(Self::RawPaths),
            (Some(_), true) => Err(UsageError("-0 goes with --format paths alone".to_owned())),
            (None | Some(SearchFormat::Table), false) => Ok(Self::Table),
            (Some(SearchFormat::Json), false) => Ok(Self::Json),
            (Some(SearchFormat::Paths), false) => Ok(Self::Paths),
        }
    }
}

/// `in_folder`: nothing was judged there, so there is nothing to tell of verdicts.
pub(super) fn answer(form: Form, answer: &Answer, in_folder: bool) -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    match form {
        Form::Table => print_table(&mut out, answer, in_folder)?,
        Form::Json => {
            for hit in &answer.hits {
                json_line(&mut out, &json(hit, answer.of, in_folder))?;
            }
        }
        Form::Paths => {
            for hit in &answer.hits {
                writeln!(out, "{}", escape_path(path_of(hit)))?;
            }
        }
        Form::RawPaths => {
            for hit in &answer.hits {
                out.write_all(path_of(hit).as_os_str().as_encoded_bytes())?;
                out.write_all(b"\0")?;
            }
        }
    }
    out.flush()
}

/// One path, fit for a terminal.
pub(super) fn path(path: &Path) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{}", escape_path(path))
}

/// What was found lies somewhere.
fn path_of(hit: &Hit) -> &Path {
    hit.item.path.as_deref().unwrap_or(Path::new(""))
}

/// `{"path","item","score","percentile",…}`.
fn json(hit: &Hit, of: u64, in_folder: bool) -> Value {
    let mut object = path_json("path", path_of(hit));
    object.insert("item".into(), hit.item.item.to_string().into());
    object.insert("score".into(), number(hit.score.into()));
    object.insert("percentile".into(), number(hit.percentile(of)));
    if !in_folder {
        let item = &hit.item;
        object.insert("outcome".into(), item.outcome.map(Outcome::as_str).into());
        object.insert("decision".into(), item.decision.map(Action::as_str).into());
        object.insert("state".into(), item.state.map(ReviewState::as_str).into());
        let policy = item.policy.as_ref().map(|(policy, _)| policy.as_str());
        object.insert("policy".into(), policy.into());
    }
    object.into()
}

fn print_table(out: &mut impl Write, answer: &Answer, in_folder: bool) -> io::Result<()> {
    let Answer { hits, of } = answer;
    if hits.is_empty() {
        return writeln!(out, "none of {} may be found", pictures(*of));
    }
    let mut head = vec!["#", "score", "percentile"];
    if !in_folder {
        head.extend(["outcome", "policy", "decision"]);
    }
    head.push("path");
    let row = |(place, hit): (usize, &Hit)| {
        let percent = in_percent(hit.percentile(*of));
        let mut row = vec![(place + 1).to_string(), format!("{:.3}", hit.score), percent];
        if !in_folder {
            let item = &hit.item;
            let or_none = |text: Option<&str>| text.unwrap_or("-").to_owned();
            row.push(or_none(item.outcome.map(Outcome::as_str)));
            row.push(or_none(item.policy.as_ref().map(|(policy, _)| policy.as_str())));
            row.push(or_none(match item.decision {
                Some(Action::Approve) => Some("approved"),
                Some(Action::Remove) => Some("removed"),
                Some(Action::Escalate) | None => None,
            }));
        }
        row.push(escape_path(path_of(hit)));
        row
    };
    table(out, &head, &hits.iter().enumerate().map(row).collect::<Vec<_>>())?;
    writeln!(
        out,
        "\nscore: a cosine, no probability\npercentile: so many of {} are less alike",
        pictures(*of)
    )
}

/// Rounded down: what is not the best of all is never 100 %.
pub(super) fn in_percent(percentile: f64) -> String {
    format!("{:.1} %", (percentile * 10.0).floor() / 10.0)
}

fn pictures(count: u64) -> String {
    if count == 1 { "1 picture".to_owned() } else { format!("{count} pictures") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_ended_paths_are_a_form_of_their_own() {
        assert!(matches!(Form::of(None, true), Ok(Form::RawPaths)));
        assert!(matches!(Form::of(Some(SearchFormat::Paths), true), Ok(Form::RawPaths)));
        assert!(Form::of(Some(SearchFormat::Json), true).is_err());
        assert!(matches!(Form::of(None, false), Ok(Form::Table)));
    }

    #[test]
    fn percent_are_rounded_down() {
        assert_eq!(in_percent(99.99), "99.9 %");
        assert_eq!(in_percent(100.0), "100.0 %");
    }
}
