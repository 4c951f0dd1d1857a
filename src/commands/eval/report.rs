//! What was measured, as tables for people and one JSON object for programs.

use std::io::{self, Write};

use serde_json::{Map, Value, json};

use crate::commands::output::{json_line, number, path_json, percent, share_json, table};
use crate::commands::validation::{print_validation, validation_json};
use crate::moderation::escape::{escape, escape_path};
use crate::moderation::{Evaluation, FoundAt, PolicyId, Share};

use super::adapted::{Adapted, Compared, Ranking};
use super::queries::Retrieval;
use super::{Measured, MeasuredSet};

/// Up to so many classes the whole confusion fits a screen.
const SMALL: usize = 16;

/// So many confusions are named otherwise, and so many pictures that can't be judged.
const LISTED: usize = 15;

pub(super) fn print(measured: &Measured) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let pictures = measured.labels.pictures.len();
    writeln!(
        out,
        "{}: {pictures} pictures in {} classes · model {} ({}, {}) · {:.1} s",
        escape_path(&measured.dir),
        measured.labels.classes.len(),
        escape(measured.card.name.as_bytes()),
        measured.card.kind,
        measured.card.fingerprint.short(),
        measured.seconds
    )?;
    if !measured.sets.is_empty() {
        writeln!(out)?;
        print_sets(&mut out, measured)?;
    }
    if let Some(best) = measured.best() {
        writeln!(out, "\nwith {}:\n", quoted(best))?;
        print_classes(&mut out, measured, best)?;
        writeln!(out)?;
        print_confusion(&mut out, measured, best)?;
        writeln!(out, "\ncalibration (ECE {}):\n", decimals(best.evaluation.calibration_error()))?;
        print_bins(&mut out, best)?;
    }
    if let Some(retrieval) = &measured.retrieval {
        writeln!(out, "\nfound by {} queries, as typed:\n", retrieval.answers.len())?;
        print_retrieval(&mut out, retrieval)?;
    }
    if let Some(adapted) = &measured.adapted {
        print_adapted(&mut out, adapted)?;
    }
    let without = measured.labels.pictures.iter().filter(|picture| picture.class.is_none()).count();
    if without > 0 && !measured.sets.is_empty() {
        writeln!(out, "\n{without} pictures have no class and count for queries only")?;
    }
    if !measured.left_out.is_empty() {
        writeln!(out, "\n{} pictures can't be judged and are left out:", measured.left_out.len())?;
        for (picture, reason) in measured.left_out.iter().take(LISTED) {
            let reason = escape(reason.to_string().as_bytes());
            writeln!(out, "  {}: {reason}", escape_path(measured.below(*picture)))?;
        }
    }
    Ok(())
}

fn quoted(set: &MeasuredSet) -> String {
    let name = escape(set.set.name.as_bytes());
    match set.set.templates.len() {
        1 => format!("\"{}\"", escape(set.set.templates[0].as_bytes())),
        templates => format!("{name} ({templates} templates, averaged)"),
    }
}

fn decimals(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.3}"))
}

fn print_sets(out: &mut impl Write, measured: &Measured) -> io::Result<()> {
    let row = |set: &MeasuredSet| {
        let evaluation = &set.evaluation;
        vec![
            quoted(set),
            percent(evaluation.top1()),
            percent(evaluation.top5()),
            evaluation
                .mean_class_accuracy()
                .map_or("-".to_owned(), |share| format!("{:.0} %", share * 100.0)),
            decimals(evaluation.calibration_error()),
        ]
    };
    let rows: Vec<_> = measured.sets.iter().map(row).collect();
    table(out, &["template", "top-1", "top-5", "mean class", "ECE"], &rows)
}

fn print_classes(out: &mut impl Write, measured: &Measured, set: &MeasuredSet) -> io::Result<()> {
    let name = |class: usize| escape(measured.labels.classes[class].name.as_bytes());
    let row = |class: usize| {
        let figures = set.evaluation.class(class);
        let taken_for =
            figures.taken_for.map(|(other, count)| format!("{} ({count})", name(other)));
        vec![
            name(class),
            figures.found.of.to_string(),
            percent(figures.found),
            percent(figures.right),
            figures.f1.map_or("-".to_owned(), |f1| format!("{f1:.2}")),
            taken_for.unwrap_or_default(),
        ]
    };
    let rows: Vec<_> = (0..measured.labels.classes.len()).map(row).collect();
    table(out, &["class", "pictures", "recall", "precision", "F1", "most often taken for"], &rows)
}

fn print_confusion(out: &mut impl Write, measured: &Measured, set: &MeasuredSet) -> io::Result<()> {
    let classes = &measured.labels.classes;
    let name = |class: usize| escape(classes[class].name.as_bytes());
    let confusion = &set.evaluation.confusion;
    if classes.len() <= SMALL {
        let numbers: Vec<String> = (1..=classes.len()).map(|number| number.to_string()).collect();
        let mut head = vec!["is \\ taken for"];
        head.extend(numbers.iter().map(String::as_str));
        let row = |class: usize| {
            let counts = confusion[class].iter().map(|count| match count {
                0 => "·".to_owned(),
                count => count.to_string(),
            });
            let mut row = vec![format!("{:2} {}", class + 1, name(class))];
            row.extend(counts);
            row
        };
        return table(out, &head, &(0..classes.len()).map(row).collect::<Vec<_>>());
    }
    let mut pairs: Vec<(u64, usize, usize)> = Vec::new();
    for (class, row) in confusion.iter().enumerate() {
        let wrong = row.iter().enumerate().filter(|(other, count)| *other != class && **count > 0);
        pairs.extend(wrong.map(|(other, count)| (*count, class, other)));
    }
    pairs.sort_by(|a, b| b.0.cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let listed = pairs.iter().take(LISTED);
    let rows: Vec<_> = listed
        .map(|(count, class, other)| vec![count.to_string(), name(*class), name(*other)])
        .collect();
    table(out, &["pictures", "of", "were taken for"], &rows)
}

fn print_bins(out: &mut impl Write, set: &MeasuredSet) -> io::Result<()> {
    let full = set.evaluation.bins().filter(|(_, _, bin)| bin.pictures > 0);
    let rows: Vec<_> = full
        .map(|(low, high, bin)| {
            vec![
                format!("{low:.2} to {high:.2}"),
                bin.pictures.to_string(),
                decimals(bin.confidence()),
                percent(bin.accuracy()),
            ]
        })
        .collect();
    table(out, &["confidence", "pictures", "mean", "right"], &rows)
}

fn print_retrieval(out: &mut impl Write, retrieval: &Retrieval) -> io::Result<()> {
    let labels: Vec<String> = retrieval
        .mean
        .iter()
        .flat_map(|at| [format!("P@{}", at.k), format!("R@{}", at.k)])
        .collect();
    let mut head = vec!["query", "relevant"];
    head.extend(labels.iter().map(String::as_str));
    let figures = |found: &[FoundAt]| -> Vec<String> {
        let both = |at: &FoundAt| [at.precision, at.recall].map(|share| format!("{share:.2}"));
        found.iter().flat_map(both).collect()
    };
    let mut rows: Vec<Vec<String>> = Vec::new();
    for answer in &retrieval.answers {
        let query = escape(answer.query.text.as_bytes());
        let mut row = vec![query, answer.query.relevant.len().to_string()];
        row.extend(figures(&answer.found));
        rows.push(row);
    }
    let mut mean = vec!["mean".to_owned(), String::new()];
    mean.extend(figures(&retrieval.mean));
    rows.push(mean);
    table(out, &head, &rows)
}

/// `modtool adapt` names it, a policy's id: there is nothing to escape.
fn print_adapted(out: &mut impl Write, adapted: &Adapted) -> io::Result<()> {
    for compared in &adapted.compared {
        writeln!(out, "\n{}:\n", described(compared))?;
        match &compared.comparison {
            Some(comparison) => print_validation(out, "the others", &comparison.validation)?,
            None => writeln!(out, "  {}", nothing_left(compared))?,
        }
    }
    let Some(ranking) = &adapted.ranking else { return Ok(()) };
    writeln!(out, "\n{}:\n", ranked(ranking))?;
    let names = ["words alone", "adapted"];
    let row = |(name, evaluation): (&str, &Evaluation)| {
        let shares = [evaluation.top1(), evaluation.top5()].map(percent);
        [vec![name.to_owned()], shares.to_vec()].concat()
    };
    let rows: Vec<_> = names.into_iter().zip(&ranking.evaluations).map(row).collect();
    table(out, &["", "top-1", "top-5"], &rows)
}

/// Which adapter, and what it is tried on.
pub(super) fn described(compared: &Compared) -> String {
    let Compared { name, policy, learned, alike, pictures, .. } = compared;
    let mode = compared.mode.map_or(String::new(), |mode| format!(", {mode}"));
    let alike = match alike {
        0 => String::new(),
        alike => format!(", and {alike} that look the same"),
    };
    format!(
        "{name} (for {policy}{mode}), beside the words alone: {} pictures; {learned} that it \
         learned from are left out{alike}",
        pictures.len()
    )
}

/// Why there is no comparison.
pub(super) fn nothing_left(compared: &Compared) -> String {
    format!(
        "no violating pictures are left, or no fine ones; `modtool adapt {} --hold-out 0.3` keeps \
         some to try it on",
        compared.policy
    )
}

pub(super) fn ranked(ranking: &Ranking) -> String {
    format!(
        "which of {} policies speaks loudest, about {} pictures that belong to one and that \
         nothing was learned from",
        ranking.policies.len(),
        ranking.evaluations[0].pictures()
    )
}

fn adapted_json(adapted: &Adapted) -> Value {
    let one = |compared: &Compared| {
        let comparison = compared.comparison.as_ref();
        json!({
            "adapter": compared.name.as_str(),
            "policy": compared.policy.as_str(),
            "mode": compared.mode,
            "pictures": compared.pictures.len(),
            "left_out_learned": compared.learned,
            "left_out_alike": compared.alike,
            "violating": comparison.map(|one| one.validation.violating),
            "fine": comparison.map(|one| one.validation.fine),
            "comparison": comparison.map(|one| validation_json(&one.validation)),
        })
    };
    let side = |evaluation: &Evaluation| {
        json!({
            "top1": share_json(evaluation.top1()),
            "top5": share_json(evaluation.top5()),
            "confusion": evaluation.confusion,
        })
    };
    let ranking = adapted.ranking.as_ref().map(|ranking| {
        let [words, adapted] = &ranking.evaluations;
        json!({
            "policies": ranking.policies.iter().map(PolicyId::as_str).collect::<Vec<_>>(),
            "pictures": words.pictures(),
            "words": side(words),
            "adapted": side(adapted),
        })
    });
    json!({"adapters": adapted.compared.iter().map(one).collect::<Value>(), "loudest": ranking})
}

pub(super) fn print_json(measured: &Measured) -> io::Result<()> {
    let mut object = path_json("dir", &measured.dir);
    let classes = measured.labels.classes.iter().enumerate().map(|(place, class)| {
        let pictures = measured.labels.count(place);
        json!({"class": class.name, "texts": class.texts, "pictures": pictures})
    });
    let left_out = measured.left_out.iter().map(|(picture, reason)| {
        let mut object = path_json("path", measured.below(*picture));
        object.insert("reason".into(), reason.to_string().into());
        Value::Object(object)
    });
    let confidence = if measured.card.kind.scores_prompts_alone() { "sigmoid" } else { "softmax" };
    let fields = [
        ("model", json!(measured.card.name)),
        ("kind", json!(measured.card.kind.as_str())),
        ("fingerprint", json!(measured.card.fingerprint.0)),
        ("engine", json!(measured.engine)),
        ("pictures", json!(measured.labels.pictures.len())),
        ("classes", classes.collect()),
        ("confidence", json!(confidence)),
        ("templates", measured.sets.iter().map(|set| set_json(measured, set)).collect()),
        ("best_template", json!(measured.best().map(|best| &best.set.name))),
        ("retrieval", measured.retrieval.as_ref().map(|all| retrieval_json(measured, all)).into()),
        ("adapted", measured.adapted.as_ref().map(adapted_json).into()),
        ("left_out", left_out.collect()),
        ("seconds", number(measured.seconds)),
    ];
    object.extend(fields.map(|(key, value)| (key.to_owned(), value)));
    json_line(&mut io::stdout().lock(), &object.into())
}

fn interval(share: Share) -> Value {
    let (low, high) = share.interval();
    json!([number(low), number(high)])
}

fn set_json(measured: &Measured, set: &MeasuredSet) -> Value {
    let evaluation = &set.evaluation;
    let name = |class: usize| measured.labels.classes[class].name.as_str();
    let classes = (0..measured.labels.classes.len()).map(|class| {
        let figures = evaluation.class(class);
        json!({
            "class": name(class),
            "pictures": figures.found.of,
            "right": figures.found.hits,
            "recall": figures.found.value().map(number),
            "recall_interval": interval(figures.found),
            "precision": figures.right.value().map(number),
            "f1": figures.f1.map(number),
            "taken_for": figures.taken_for.map(|(other, _)| name(other)),
        })
    });
    let bins = evaluation.bins().map(|(low, high, bin)| {
        json!({
            "from": number(low),
            "to": number(high),
            "pictures": bin.pictures,
            "confidence": bin.confidence().map(number),
            "accuracy": bin.accuracy().value().map(number),
        })
    });
    let wrong = set.predictions.iter().filter(|one| one.predicted != one.class).map(|one| {
        let mut object = path_json("path", measured.below(one.picture));
        object.insert("class".into(), name(one.class).into());
        object.insert("predicted".into(), name(one.predicted).into());
        object.insert("probability".into(), number(one.probability));
        Value::Object(object)
    });
    json!({
        "name": set.set.name,
        "templates": set.set.templates,
        "pictures": evaluation.pictures(),
        "top1": evaluation.top1().value().map(number),
        "top1_interval": interval(evaluation.top1()),
        "top5": evaluation.top5().value().map(number),
        "top5_interval": interval(evaluation.top5()),
        "mean_class_accuracy": evaluation.mean_class_accuracy().map(number),
        "ece": evaluation.calibration_error().map(number),
        "bins": bins.collect::<Value>(),
        "classes": classes.collect::<Value>(),
        "confusion": evaluation.confusion,
        "wrong": wrong.collect::<Value>(),
    })
}

fn retrieval_json(measured: &Measured, retrieval: &Retrieval) -> Value {
    let queries = retrieval.answers.iter().map(|answer| {
        let best = answer.best.iter().map(|(picture, cosine)| {
            let mut object = path_json("path", measured.below(*picture));
            let relevant = answer.query.relevant.binary_search(picture).is_ok();
            object.insert("relevant".into(), relevant.into());
            object.insert("cosine".into(), number(f64::from(*cosine)));
            Value::Object(object)
        });
        let mut object = Map::new();
        object.insert("query".into(), answer.query.text.as_str().into());
        object.insert("relevant".into(), answer.query.relevant.len().into());
        object.extend(found_json(&answer.found));
        object.insert("best".into(), best.collect());
        Value::Object(object)
    });
    let mut object = found_json(&retrieval.mean);
    object.insert("queries".into(), queries.collect());
    object.into()
}

/// `{"precision_at": {"1": …}, "recall_at": {"1": …}}`.
fn found_json(found: &[FoundAt]) -> Map<String, Value> {
    let by_k = |of: fn(&FoundAt) -> f64| -> Value {
        let at: Map<String, Value> =
            found.iter().map(|at| (at.k.to_string(), number(of(at)))).collect();
        at.into()
    };
    let both = [("precision_at", by_k(|at| at.precision)), ("recall_at", by_k(|at| at.recall))];
    both.map(|(key, value)| (key.to_owned(), value)).into_iter().collect()
}
