//! What a comparison says, as tables for people and JSON for programs.

use std::io::{self, Write as _};

use serde_json::{Value, json};

use crate::commands::model::list::megabytes;
use crate::commands::output::{json_line, number, path_json, table};
use crate::moderation::PolicyId;
use crate::moderation::escape::{escape, escape_path};
use crate::moderation::roc::{Estimate, Labelled, auc_difference};

use super::Comparison;
use super::child::{Measured, Scored};

/// How one model does on one policy.
struct Side {
    auc: Option<Estimate>,
    /// Of the pictures that belong, how many it flags.
    found: usize,
    /// Of the others.
    flagged: usize,
}

struct Row<'a> {
    policy: &'a PolicyId,
    belong: usize,
    others: usize,
    a: Side,
    b: Side,
    difference: Option<Estimate>,
}

/// Where the two models see a picture most differently: by the share of all pictures that score
/// lower, because scores of different models are no measure for each other.
struct Disagreement<'a> {
    policy: &'a PolicyId,
    picture: usize,
    belongs: bool,
    a: f64,
    b: f64,
}

impl Comparison {
    fn rows(&self) -> Vec<Row<'_>> {
        let has_both = |policy: &&PolicyId| self.labels.has_both_sides(policy);
        let policies = self.policies.iter().enumerate();
        policies.filter(|(_, policy)| has_both(policy)).map(|(n, p)| self.row(n, p)).collect()
    }

    fn row<'a>(&'a self, place: usize, policy: &'a PolicyId) -> Row<'a> {
        let (mut a, mut b) = (Labelled::default(), Labelled::default());
        let mut counts = [[0; 2]; 2];
        for (_, belongs, [in_a, in_b]) in self.judged(place, policy) {
            for (model, (labelled, one)) in [(&mut a, in_a), (&mut b, in_b)].into_iter().enumerate()
            {
                if belongs { &mut labelled.belong } else { &mut labelled.others }.push(one.score);
                counts[model][usize::from(belongs)] += usize::from(one.flagged);
            }
        }
        let side = |labelled: &Labelled, [flagged, found]: [usize; 2]| Side {
            auc: labelled.auc(),
            found,
            flagged,
        };
        Row {
            policy,
            belong: a.belong.len(),
            others: a.others.len(),
            difference: auc_difference(&a, &b),
            a: side(&a, counts[0]),
            b: side(&b, counts[1]),
        }
    }

    /// Labelled pictures that both models could judge.
    fn judged(
        &self,
        place: usize,
        policy: &PolicyId,
    ) -> impl Iterator<Item = (usize, bool, [Scored; 2])> {
        let scored = move |measured: &Measured, picture: usize| -> Option<Scored> {
            *measured.pictures.get(picture)?.get(place)?
        };
        (0..self.labels.pictures.len()).filter_map(move |picture| {
            let belongs = self.labels.belongs(picture, policy)?;
            let both = [scored(&self.a, picture)?, scored(&self.b, picture)?];
            Some((picture, belongs, both))
        })
    }

    fn disagreements(&self, most: usize) -> Vec<Disagreement<'_>> {
        let mut all = Vec::new();
        for (place, policy) in self.policies.iter().enumerate() {
            let judged: Vec<_> = self.judged(place, policy).collect();
            if !self.labels.has_both_sides(policy) {
                continue;
            }
            let below = |model: usize, score: f32| {
                let lower = judged.iter().filter(|(_, _, both)| both[model].score < score).count();
                share(lower, judged.len())
            };
            all.extend(judged.iter().map(|(picture, belongs, both)| Disagreement {
                policy,
                picture: *picture,
                belongs: *belongs,
                a: below(0, both[0].score),
                b: below(1, both[1].score),
            }));
        }
        all.sort_by(|x, y| (y.a - y.b).abs().total_cmp(&(x.a - x.b).abs()));
        all.truncate(most);
        all
    }

    fn models(&self) -> [(&'static str, &Measured); 2] {
        [("a", &self.a), ("b", &self.b)]
    }

    /// Pictures that a model could not judge at all.
    fn unjudged(measured: &Measured) -> usize {
        measured.pictures.iter().filter(|policies| policies.iter().all(Option::is_none)).count()
    }
}

#[expect(clippy::cast_precision_loss, reason = "shares for people")]
fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

pub(super) fn print(comparison: &Comparison, most: usize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (letter, model) in comparison.models() {
        let unjudged = match Comparison::unjudged(model) {
            0 => String::new(),
            n => format!(" · {n} pictures could not be judged"),
        };
        writeln!(
            out,
            "{}  {} ({}) on {}: {:.1} pictures/s, ready after {:.1} s, {} at most{unjudged}",
            letter.to_uppercase(),
            escape(model.model.as_bytes()),
            model.fingerprint.get(..12).unwrap_or_default(),
            model.engine,
            model.pictures_per_second,
            model.start_seconds,
            model.peak_bytes.map_or_else(|| "unknown memory".to_owned(), megabytes),
        )?;
    }
    print_rows(&mut out, &comparison.rows())?;
    let disagreements = comparison.disagreements(most);
    if disagreements.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nthey disagree most on (share of the pictures that score lower):")?;
    let rows: Vec<Vec<String>> = disagreements
        .iter()
        .map(|one| {
            vec![
                one.policy.to_string(),
                if one.belongs { "yes" } else { "no" }.to_owned(),
                format!("{:.0} %", 100.0 * one.a),
                format!("{:.0} %", 100.0 * one.b),
                escape_path(&comparison.labels.pictures[one.picture]),
            ]
        })
        .collect();
    table(&mut out, &["policy", "belongs", "A", "B", "picture"], &rows)
}

/// Two tables, each narrow enough for 80 columns.
fn print_rows(out: &mut impl io::Write, rows: &[Row<'_>]) -> io::Result<()> {
    let area = |auc: Option<Estimate>| match auc {
        Some(Estimate { value, low, high }) => format!("{value:.2} ({low:.2}–{high:.2})"),
        None => "-".to_owned(),
    };
    let areas: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                row.policy.to_string(),
                format!("{}/{}", row.belong, row.others),
                area(row.a.auc),
                area(row.b.auc),
                row.difference.map_or_else(
                    || "-".to_owned(),
                    |d| format!("{:+.2} ({:+.2} to {:+.2})", d.value, d.low, d.high),
                ),
            ]
        })
        .collect();
    writeln!(out, "\narea under the ROC curve with its 95 % interval:")?;
    table(out, &["policy", "its/other", "A", "B", "B − A"], &areas)?;
    let flagged: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let of = |part: usize, whole: usize| format!("{part} of {whole}");
            vec![
                row.policy.to_string(),
                of(row.a.found, row.belong),
                of(row.b.found, row.belong),
                of(row.a.flagged, row.others),
                of(row.b.flagged, row.others),
            ]
        })
        .collect();
    writeln!(out, "\nat the policies' thresholds (which were tuned for one model):")?;
    table(out, &["policy", "A finds", "B finds", "A flags others", "B flags others"], &flagged)
}

pub(super) fn print_json(comparison: &Comparison, most: usize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (letter, model) in comparison.models() {
        let line = json!({
            "kind": "model",
            "letter": letter,
            "model": model.model,
            "fingerprint": model.fingerprint,
            "engine": model.engine,
            "pictures": model.pictures.len(),
            "unjudged": Comparison::unjudged(model),
            "pictures_per_second": number(model.pictures_per_second),
            "start_seconds": number(model.start_seconds),
            "peak_bytes": model.peak_bytes,
        });
        json_line(&mut out, &line)?;
    }
    let estimate = |estimate: Option<Estimate>| {
        estimate.map(
            |e| json!({"value": number(e.value), "low": number(e.low), "high": number(e.high)}),
        )
    };
    for row in comparison.rows() {
        let side = |side: &Side| json!({"auc": estimate(side.auc), "found": side.found, "flagged_others": side.flagged});
        let line = json!({
            "kind": "policy",
            "policy": row.policy.as_str(),
            "belong": row.belong,
            "others": row.others,
            "a": side(&row.a),
            "b": side(&row.b),
            "auc_difference": estimate(row.difference),
        });
        json_line(&mut out, &line)?;
    }
    for one in comparison.disagreements(most) {
        let mut object = path_json("path", &comparison.labels.pictures[one.picture]);
        object.insert("kind".into(), "disagreement".into());
        object.insert("policy".into(), one.policy.as_str().into());
        object.insert("belongs".into(), one.belongs.into());
        object.insert("a".into(), number(one.a));
        object.insert("b".into(), number(one.b));
        json_line(&mut out, &Value::from(object))?;
    }
    Ok(())
}
