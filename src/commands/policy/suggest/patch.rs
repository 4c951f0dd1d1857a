//! A suggestion as a patch of the policy's file: only the two lines that change are touched, and
//! comments stay.

use std::path::Path;

use similar::TextDiff;

use crate::moderation::{Calibration, Fingerprint, Thresholds};
use crate::policy_file::{PolicyFile, STARTER};

/// A unified diff; empty when nothing changes.
///
/// # Errors
/// Why there is none, for people.
pub(super) fn patch(
    file: &PolicyFile,
    thresholds: Thresholds,
    calibration: Option<Calibration>,
    fingerprint: &Fingerprint,
) -> Result<String, String> {
    let is_starter =
        STARTER.iter().any(|(name, _)| file.file == Path::new("starter policies").join(name));
    if is_starter {
        return Err("this is a starter policy in the binary; `modtool init` writes it out".into());
    }
    let text = std::fs::read_to_string(&file.file).map_err(|error| error.to_string())?;
    let flow = format!("{{review: {}, block: {}}}", thresholds.review(), thresholds.block());
    let mut new = text.clone();
    if thresholds != file.policy.thresholds {
        new = with_field(&new, "thresholds", &flow);
    }
    if let Some(calibration) = calibration {
        // Three digits say all that decisions can.
        let flow = format!(
            "{{slope: {:.3}, intercept: {:.3}, fitted_for: {}}}",
            calibration.slope,
            calibration.intercept,
            file.policy.fitted_for(fingerprint).0
        );
        new = with_field(&new, "calibration", &flow);
    }
    if new == text {
        return Ok(String::new());
    }
    let name = file.file.display().to_string();
    let diff = TextDiff::from_lines(&text, &new);
    Ok(diff.unified_diff().context_radius(3).header(&name, &name).to_string().trim_end().to_owned())
}

/// The text with this top-level field set; a value over several lines becomes one line, a comment
/// behind it stays.
fn with_field(text: &str, field: &str, value: &str) -> String {
    let head = format!("{field}:");
    let lines: Vec<&str> = text.lines().collect();
    let Some(start) = lines.iter().position(|line| line.starts_with(&head)) else {
        let gap = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        return format!("{text}{gap}{head} {value}\n");
    };
    let belongs = |line: &&&str| line.starts_with([' ', '\t', '}']);
    let more = lines[start + 1..].iter().take_while(belongs).count();
    let line = lines[start];
    let comment = line.find(" #").map(|at| &line[line[..at].trim_end().len()..]);
    let comment = comment.unwrap_or_default();
    let mut new: Vec<String> = lines[..start].iter().map(ToString::to_string).collect();
    new.push(format!("{head} {value}{comment}"));
    new.extend(lines[start + 1 + more..].iter().map(ToString::to_string));
    new.join("\n") + if text.ends_with('\n') { "\n" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_replaced_where_it_stands() {
        let set = |text: &str| with_field(text, "thresholds", "{review: 0.2, block: 0.9}");
        assert_eq!(
            set("id: a\nthresholds: {review: 0.5, block: 0.8}  # tuned\nmode: live\n"),
            "id: a\nthresholds: {review: 0.2, block: 0.9}  # tuned\nmode: live\n"
        );
        assert_eq!(
            set("thresholds:\n  review: 0.5\n  # sure\n  block: 0.8\n\nmode: live"),
            "thresholds: {review: 0.2, block: 0.9}\n\nmode: live"
        );
        assert_eq!(
            set("thresholds: {\n  review: 0.5,\n  block: 0.8\n}\nid: a\n"),
            "thresholds: {review: 0.2, block: 0.9}\nid: a\n"
        );
        assert_eq!(set("id: a"), "id: a\nthresholds: {review: 0.2, block: 0.9}\n");
    }
}
