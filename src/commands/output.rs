//! What commands print on standard output: tables for people, one JSON object a line for programs.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::moderation::escape::{escape_path, is_unprintable};
use crate::moderation::{
    BankTwin, Fingerprint, ItemId, Likeness, Outcome, PolicyVerdict, Reason, Share,
};

/// One JSON object a line. What a terminal would obey is spelled `\u…`, which reads back the same.
pub(super) fn json_line(out: &mut impl Write, value: &Value) -> io::Result<()> {
    let text = value.to_string();
    let mut line = String::with_capacity(text.len() + 1);
    for character in text.chars() {
        if is_unprintable(character) {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                write!(line, "\\u{unit:04x}").map_err(io::Error::other)?;
            }
        } else {
            line.push(character);
        }
    }
    line.push('\n');
    out.write_all(line.as_bytes())
}

/// The fields that `score` and `export verdicts` share.
pub(super) struct VerdictLine<'a> {
    /// Where.
    pub path: &'a Path,
    /// What.
    pub item: ItemId,
    /// Name and fingerprint of the model.
    pub model: Option<(&'a str, &'a Fingerprint)>,
    /// What happens with it.
    pub outcome: Outcome,
    /// Why, where it is not (only) the score.
    pub reason: Option<&'a Reason>,
    /// Every policy in scope.
    pub policies: &'a [PolicyVerdict],
}

impl VerdictLine<'_> {
    /// `{"path","item","model","fingerprint","outcome","reason","policies":[…]}`.
    pub(super) fn json(&self) -> Map<String, Value> {
        let mut object = file_json(self.path, self.item, self.model);
        object.insert("outcome".into(), self.outcome.as_str().into());
        object.insert("reason".into(), self.reason.map(ToString::to_string).into());
        object.insert("policies".into(), policies_json(self.policies));
        object
    }
}

/// `[{"id","score","outcome","prompt"}]`, and `adapter` and `mode` where something that was learned
/// changed the score.
pub(super) fn policies_json(policies: &[PolicyVerdict]) -> Value {
    let policy = |policy: &PolicyVerdict| {
        let mut object = json!({
            "id": policy.policy.as_str(),
            "score": number(f64::from(policy.score)),
            "outcome": policy.outcome.as_str(),
            "prompt": policy.prompt,
        });
        if let (Some(object), Some(adapter)) = (object.as_object_mut(), &policy.adapter) {
            object.insert("adapter".into(), adapter.as_str().into());
            object.insert("mode".into(), policy.mode.as_str().into());
        }
        object
    };
    policies.iter().map(policy).collect()
}

/// `[{"entry","action","state","source","list","bits"}]`; `bits` is null for the same bytes.
pub(super) fn twins_json(twins: &[BankTwin]) -> Value {
    let twin = |twin: &BankTwin| {
        json!({
            "entry": twin.entry,
            "action": twin.action.as_str(),
            "state": twin.state.as_str(),
            "source": twin.source.as_str(),
            "list": twin.list,
            "bits": match twin.likeness {
                Likeness::SameBytes => Value::Null,
                Likeness::Looks(bits) => bits.into(),
            },
        })
    };
    twins.iter().map(twin).collect()
}

/// `{"path","item","model","fingerprint"}`, and `path_b64` for a name that is not UTF-8.
pub(super) fn file_json(
    path: &Path,
    item: ItemId,
    model: Option<(&str, &Fingerprint)>,
) -> Map<String, Value> {
    let mut object = path_json("path", path);
    object.insert("item".into(), item.to_string().into());
    object.insert("model".into(), model.map(|(name, _)| name).into());
    object.insert("fingerprint".into(), model.map(|(_, print)| print.0.as_str()).into());
    object
}

/// The path under `key`, and under `key_b64` its bytes where they are not UTF-8.
pub(super) fn path_json(key: &str, path: &Path) -> Map<String, Value> {
    let mut object = Map::new();
    if let Some(path) = path.to_str() {
        object.insert(key.into(), path.into());
    } else {
        object.insert(key.into(), escape_path(path).into());
        let bytes = path.as_os_str().as_encoded_bytes();
        object.insert(format!("{key}_b64"), STANDARD.encode(bytes).into());
    }
    object
}

/// A number with seven digits that count, as many as an `f32` has.
pub(super) fn number(value: f64) -> Value {
    let rounded: f64 = format!("{value:.6e}").parse().unwrap_or(value);
    json!(rounded)
}

/// `81 % (73 to 87)`, or `-` of nothing.
pub(super) fn percent(share: Share) -> String {
    let Some(value) = share.value() else { return "-".to_owned() };
    let (lower, upper) = share.interval();
    format!("{:.0} % ({:.0} to {:.0})", value * 100.0, lower * 100.0, upper * 100.0)
}

/// `{"hits","of","share","lower","upper"}`.
pub(super) fn share_json(share: Share) -> Value {
    let (lower, upper) = share.interval();
    let rounded = |value: f64| (value * 1e6).round() / 1e6;
    json!({
        "hits": share.hits,
        "of": share.of,
        "share": share.value().map(rounded),
        "lower": rounded(lower),
        "upper": rounded(upper),
    })
}

/// Rows under a head, columns aligned by what they show.
pub(super) fn table(out: &mut impl Write, head: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(head);
    table.add_rows(rows);
    for line in table.lines() {
        writeln!(out, "{}", line.strip_prefix(' ').unwrap_or(&line).trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    fn printed(value: &Value) -> String {
        let mut out = Vec::new();
        json_line(&mut out, value).expect("a vector takes every write");
        String::from_utf8(out).expect("JSON is UTF-8")
    }

    #[test]
    fn json_is_one_line_and_reads_back_whatever_is_in_it() {
        let hostile = "a\u{1b}[2J\u{202e}gpj.exe\u{9b}\n\u{e0041}é";
        let line = printed(&json!({"path": hostile}));
        assert_eq!(line.lines().count(), 1);
        assert!(!line.trim_end().chars().any(is_unprintable), "{line}");
        let back: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(back["path"], hostile);
    }

    #[test]
    fn a_name_that_is_not_utf8_comes_twice() {
        let path = Path::new(std::ffi::OsStr::from_bytes(b"\xff.png"));
        let object = file_json(path, ItemId::of_bytes(b""), None);
        assert_eq!(object["path"], "\\xFF.png");
        assert_eq!(STANDARD.decode(object["path_b64"].as_str().unwrap()).unwrap(), b"\xff.png");
    }

    #[test]
    fn columns_line_up_by_what_is_seen() {
        let mut out = Vec::new();
        let rows = [vec!["日本".into(), "1".into()], vec!["ab".into(), "2".into()]];
        table(&mut out, &["name", "n"], &rows).expect("a vector takes every write");
        assert_eq!(String::from_utf8(out).unwrap(), "name  n\n日本  1\nab    2\n");
    }

    #[test]
    fn scores_are_printed_with_the_digits_they_have() {
        assert_eq!(number(f64::from(0.1_f32)).to_string(), "0.1");
        assert_eq!(number(f64::from(1.0_f32 / 3.0)).to_string(), "0.3333333");
    }
}
