//! How a policy does with its words alone and adapted, as `adapt` and `eval` print it.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::moderation::adapter::Validation;
use crate::moderation::roc::Estimate;
use crate::moderation::{Counts, Share};

use super::output::{number, percent, share_json, table};

/// With the words alone and adapted, on the pictures that `on` says.
pub(super) fn print_validation(
    out: &mut impl Write,
    on: &str,
    validation: &Validation,
) -> io::Result<()> {
    let estimate = |of: Estimate| format!("{:.3} ({:.3} to {:.3})", of.value, of.low, of.high);
    let row = |what: &str, cells: [String; 2]| {
        let [words, adapted] = cells;
        vec![format!("  {what}"), words, adapted]
    };
    let mut rows = vec![row("ROC-AUC", validation.auc.map(estimate))];
    rows.extend(shares(validation).map(|(what, shares)| row(what, shares.map(percent))));
    table(out, &[&format!("  on {on}"), "words alone", "adapted"], &rows)?;
    let gain = validation.gain;
    writeln!(
        out,
        "  gain of ROC-AUC {:+.3} (95 %: {:+.3} to {:+.3})",
        gain.value, gain.low, gain.high
    )
}

/// What is found and what is flagged wrongly, at each threshold.
pub(super) fn shares(validation: &Validation) -> [(&'static str, [Share; 2]); 4] {
    let (review, block) = (validation.at_review, validation.at_block);
    [
        ("found at review", review.map(Counts::recall)),
        ("false alarms at review", review.map(false_alarms)),
        ("found at block", block.map(Counts::recall)),
        ("false alarms at block", block.map(false_alarms)),
    ]
}

fn false_alarms(counts: Counts) -> Share {
    Share::new(counts.false_alarms, counts.false_alarms + counts.passed)
}

/// The same for programs.
pub(super) fn validation_json(validation: &Validation) -> Value {
    let estimate = |of: Estimate| json!({"value": number(of.value), "lower": number(of.low), "upper": number(of.high)});
    let side = |which: usize| {
        let (review, block) = (validation.at_review[which], validation.at_block[which]);
        json!({
            "roc_auc": estimate(validation.auc[which]),
            "found_at_review": share_json(review.recall()),
            "false_alarms_at_review": share_json(false_alarms(review)),
            "found_at_block": share_json(block.recall()),
            "false_alarms_at_block": share_json(false_alarms(block)),
        })
    };
    json!({"words": side(0), "adapted": side(1), "gain": estimate(validation.gain)})
}
