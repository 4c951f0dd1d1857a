//! The report as one HTML file: tables, plots and pictures, nothing fetched and nothing run.
//!
//! Pictures are our own pixels, decoded in the cage and encoded anew, and blurred until the reader
//! wants to see them. Names are escaped twice: for what a terminal obeys, then for HTML.

mod plots;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::commands::clock::{now, rfc3339};
use crate::commands::output::percent;
use crate::commands::validation::shares;
use crate::moderation::adapter::{Comparison, Validation};
use crate::moderation::escape::{escape, escape_path};
use crate::moderation::roc::Labelled;
use crate::moderation::score::sigmoid;
use crate::moderation::{Evaluation, FoundAt, Uploader};
use crate::vision::{DecoderPool, encode};

use super::adapted::{Adapted, Compared};
use super::pictures::read;
use super::queries::Retrieval;
use super::report::{described, nothing_left, ranked};
use super::{Measured, MeasuredSet, Prediction};

/// Longer side of a picture in the report, in pixels.
const THUMBNAIL: u32 = 160;

/// The surest mistakes, and rightly named pictures of each class.
const MISTAKES: usize = 24;
const RIGHT_A_CLASS: usize = 3;

/// Queries that are shown with pictures, and finds of each.
const QUERIES: usize = 50;
const FINDS: usize = 10;

pub(super) fn write(
    file: &Path,
    measured: &Measured,
    decoders: &DecoderPool,
) -> anyhow::Result<()> {
    let mut thumbnails = Thumbnails { measured, decoders, made: HashMap::new() };
    let mut page = String::new();
    head(&mut page, measured)?;
    if let Some(best) = measured.best() {
        templates(&mut page, measured)?;
        classes(&mut page, measured, best)?;
        confusion(&mut page, measured, best)?;
        calibration(&mut page, measured)?;
        mistakes(&mut page, measured, best, &mut thumbnails)?;
        examples(&mut page, measured, best, &mut thumbnails)?;
    }
    if let Some(adapted) = &measured.adapted {
        adapters(&mut page, adapted, &mut thumbnails)?;
    }
    if let Some(retrieval) = &measured.retrieval {
        queries(&mut page, retrieval, &mut thumbnails)?;
    }
    left_out(&mut page, measured)?;
    page.push_str("</main>\n</body>\n</html>\n");
    Ok(std::fs::write(file, page)?)
}

/// Text inside an element or a quoted attribute.
fn text(raw: &str) -> String {
    let mut safe = String::with_capacity(raw.len());
    for character in escape(raw.as_bytes()).chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

fn path(raw: &Path) -> String {
    // What `escape_path` answers has nothing left to escape for a terminal.
    text(&escape_path(raw))
}

const STYLE: &str = "
:root { color-scheme: light dark; --line: #8886; --bar: #3a7bd5; --good: #2e9e5b; --bad: #d0453b; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.15rem; margin-top: 2.5rem; }
table { border-collapse: collapse; } th, td { padding: .15rem .6rem; text-align: right; }
th:first-child, td:first-child, td.name { text-align: left; } tr { border-bottom: 1px solid var(--line); }
.confusion td, .confusion th { padding: .1rem .35rem; text-align: center; min-width: 1.6rem; }
.confusion th.side { text-align: left; white-space: nowrap; }
.scroll { overflow-x: auto; }
.gallery { display: flex; flex-wrap: wrap; gap: .8rem; }
figure { margin: 0; width: 160px; font-size: .8rem; overflow-wrap: anywhere; cursor: pointer; }
figure div { width: 160px; height: 160px; overflow: hidden; display: grid; place-items: center;
  background: #8882; border: 3px solid transparent; box-sizing: border-box; }
figure.good div { border-color: var(--good); } figure.bad div { border-color: var(--bad); }
figure img { max-width: 100%; max-height: 100%; filter: blur(14px) grayscale(1); }
figure:focus img, #sharp:checked ~ main img { filter: none; }
svg text { fill: currentColor; font: 12px system-ui, sans-serif; }
.note { opacity: .75; }
";

fn head(page: &mut String, measured: &Measured) -> std::fmt::Result {
    let name = path(&measured.dir);
    write!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         img-src data:; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>modtool eval: {name}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <h1>Zero-shot evaluation of {name}</h1>\n\
         <p>{} pictures in {} classes · model {} ({}), fingerprint {} · {} · {}</p>\n\
         <input type=\"checkbox\" id=\"sharp\"><label for=\"sharp\"> show all pictures sharp \
         (a click on one shows that one)</label>\n<main>\n",
        measured.labels.pictures.len(),
        measured.labels.classes.len(),
        text(&measured.card.name),
        measured.card.kind,
        measured.card.fingerprint.short(),
        text(&measured.engine),
        rfc3339(now())
    )
}

fn set_name(set: &MeasuredSet) -> String {
    match set.set.templates.len() {
        1 => text(&set.set.name),
        templates => format!("{} ({templates} averaged)", text(&set.set.name)),
    }
}

fn templates(page: &mut String, measured: &Measured) -> std::fmt::Result {
    page.push_str(
        "<h2>Templates</h2>\n<table><tr><th>template<th>top-1<th>top-5<th>mean class<th>ECE</tr>\n",
    );
    for set in &measured.sets {
        let evaluation = &set.evaluation;
        let mean = evaluation
            .mean_class_accuracy()
            .map_or("-".to_owned(), |mean| format!("{:.0} %", mean * 100.0));
        let error = evaluation.calibration_error().map_or("-".to_owned(), |e| format!("{e:.3}"));
        writeln!(
            page,
            "<tr><td>{}<td>{}<td>{}<td>{mean}<td>{error}</tr>",
            set_name(set),
            percent(evaluation.top1()),
            percent(evaluation.top5())
        )?;
    }
    page.push_str("</table>\n");
    let bars: Vec<_> =
        measured.sets.iter().map(|set| (set_name(set), set.evaluation.top1())).collect();
    plots::bars(page, "top-1 accuracy with 95 % intervals", &bars)
}

fn classes(page: &mut String, measured: &Measured, best: &MeasuredSet) -> std::fmt::Result {
    writeln!(page, "<h2>Classes, with {}</h2>", set_name(best))?;
    page.push_str(
        "<table><tr><th>class<th>pictures<th>recall<th>precision<th>F1<th>most often taken \
         for</tr>\n",
    );
    let name = |class: usize| text(&measured.labels.classes[class].name);
    let mut bars = Vec::new();
    for class in 0..measured.labels.classes.len() {
        let figures = best.evaluation.class(class);
        let taken_for =
            figures.taken_for.map(|(other, count)| format!("{} ({count})", name(other)));
        writeln!(
            page,
            "<tr><td>{}<td>{}<td>{}<td>{}<td>{}<td class=\"name\">{}</tr>",
            name(class),
            figures.found.of,
            percent(figures.found),
            percent(figures.right),
            figures.f1.map_or("-".to_owned(), |f1| format!("{f1:.2}")),
            taken_for.unwrap_or_default()
        )?;
        bars.push((name(class), figures.found));
    }
    page.push_str("</table>\n");
    plots::bars(page, "recall of each class with 95 % intervals", &bars)
}

fn confusion(page: &mut String, measured: &Measured, best: &MeasuredSet) -> std::fmt::Result {
    page.push_str(
        "<h2>Confusion</h2>\n<p class=\"note\">Rows: what it is. Columns: what it was taken \
         for.</p>\n<div class=\"scroll\"><table class=\"confusion\"><tr><th>",
    );
    let classes = &measured.labels.classes;
    for (number, class) in classes.iter().enumerate() {
        write!(page, "<th title=\"{}\">{}", text(&class.name), number + 1)?;
    }
    page.push_str("</tr>\n");
    for (number, (class, row)) in classes.iter().zip(&best.evaluation.confusion).enumerate() {
        let total: u64 = row.iter().sum();
        write!(page, "<tr><th class=\"side\">{} {}", number + 1, text(&class.name))?;
        for (other, count) in row.iter().enumerate() {
            #[expect(clippy::cast_precision_loss, reason = "a shade")]
            let share = *count as f64 / total.max(1) as f64;
            let colour = if other == number { "46,158,91" } else { "208,69,59" };
            let shown = if *count > 0 { count.to_string() } else { String::new() };
            write!(page, "<td style=\"background:rgba({colour},{:.2})\">{shown}", share * 0.8)?;
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</table></div>\n");
    Ok(())
}

fn calibration(page: &mut String, measured: &Measured) -> std::fmt::Result {
    page.push_str(
        "<h2>Calibration</h2>\n<p class=\"note\">Of pictures with a confidence, how many are named \
         rightly; on the line, confidence can be taken at its word. The size of a point is the \
         number of pictures. ECE is the mean distance from the line.</p>\n<div class=\"gallery\">\n",
    );
    for set in &measured.sets {
        plots::reliability(page, &set_name(set), &set.evaluation)?;
    }
    page.push_str("</div>\n");
    Ok(())
}

fn mistakes(
    page: &mut String,
    measured: &Measured,
    best: &MeasuredSet,
    thumbnails: &mut Thumbnails<'_>,
) -> std::fmt::Result {
    let mut wrong: Vec<&Prediction> =
        best.predictions.iter().filter(|one| one.predicted != one.class).collect();
    if wrong.is_empty() {
        return Ok(());
    }
    wrong.sort_by(|a, b| b.probability.total_cmp(&a.probability));
    let shown = wrong.len().min(MISTAKES);
    writeln!(
        page,
        "<h2>The {shown} surest of {} mistakes</h2>\n<div class=\"gallery\">",
        wrong.len()
    )?;
    for one in &wrong[..shown] {
        let name = |class: usize| text(&measured.labels.classes[class].name);
        let caption = format!(
            "{} ({:.2}), taken for {} ({:.2})",
            name(one.class),
            one.own_probability,
            name(one.predicted),
            one.probability
        );
        figure(page, "bad", &caption, one.picture, thumbnails)?;
    }
    page.push_str("</div>\n");
    Ok(())
}

fn examples(
    page: &mut String,
    measured: &Measured,
    best: &MeasuredSet,
    thumbnails: &mut Thumbnails<'_>,
) -> std::fmt::Result {
    page.push_str("<h2>The surest of each class</h2>\n<div class=\"gallery\">\n");
    for (class, named) in measured.labels.classes.iter().enumerate() {
        let mut right: Vec<&Prediction> = best
            .predictions
            .iter()
            .filter(|one| one.class == class && one.predicted == class)
            .collect();
        right.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        for one in right.into_iter().take(RIGHT_A_CLASS) {
            let caption = format!("{} ({:.2})", text(&named.name), one.probability);
            figure(page, "good", &caption, one.picture, thumbnails)?;
        }
    }
    page.push_str("</div>\n");
    Ok(())
}

fn adapters(
    page: &mut String,
    adapted: &Adapted,
    thumbnails: &mut Thumbnails<'_>,
) -> std::fmt::Result {
    page.push_str("<h2>What was learned, beside the words alone</h2>\n");
    for compared in &adapted.compared {
        writeln!(page, "<h3>{}</h3>", text(compared.name.as_str()))?;
        writeln!(page, "<p class=\"note\">{}.</p>", text(&described(compared)))?;
        match &compared.comparison {
            None => writeln!(page, "<p>{}</p>", text(&nothing_left(compared)))?,
            Some(comparison) => {
                figures(page, &comparison.validation)?;
                curves(page, compared, comparison)?;
                differences(page, compared, comparison, thumbnails)?;
            }
        }
    }
    let Some(ranking) = &adapted.ranking else { return Ok(()) };
    writeln!(page, "<h3>All policies</h3>\n<p class=\"note\">{}.</p>", text(&ranked(ranking)))?;
    page.push_str("<table><tr><th><th>words alone<th>adapted</tr>\n");
    let [words, adapted] = &ranking.evaluations;
    for (what, shares) in
        [("top-1", [words.top1(), adapted.top1()]), ("top-5", [words.top5(), adapted.top5()])]
    {
        let [words, adapted] = shares.map(percent);
        writeln!(page, "<tr><td>{what}<td>{words}<td>{adapted}</tr>")?;
    }
    page.push_str("</table>\n");
    let bars: Vec<_> = ranking
        .policies
        .iter()
        .enumerate()
        .filter(|(place, _)| words.class(*place).found.of > 0)
        .flat_map(|(place, policy)| {
            let bar = |how: &str, evaluation: &Evaluation| {
                (text(&format!("{policy}, {how}")), evaluation.class(place).found)
            };
            [bar("words", words), bar("adapted", adapted)]
        })
        .collect();
    plots::bars(page, "of each policy's pictures, the share where it speaks loudest", &bars)
}

fn figures(page: &mut String, validation: &Validation) -> std::fmt::Result {
    page.push_str("<table><tr><th><th>words alone<th>adapted</tr>\n");
    let [words, adapted] =
        validation.auc.map(|auc| format!("{:.3} ({:.3} to {:.3})", auc.value, auc.low, auc.high));
    writeln!(page, "<tr><td>ROC-AUC<td>{words}<td>{adapted}</tr>")?;
    for (what, both) in shares(validation) {
        let [words, adapted] = both.map(percent);
        writeln!(page, "<tr><td>{what}<td>{words}<td>{adapted}</tr>")?;
    }
    let gain = validation.gain;
    writeln!(
        page,
        "</table>\n<p>Gain of ROC-AUC {:+.3} (95 %: {:+.3} to {:+.3}), from {} violating and {} \
         fine pictures.</p>",
        gain.value, gain.low, gain.high, validation.violating, validation.fine
    )
}

fn curves(page: &mut String, compared: &Compared, comparison: &Comparison) -> std::fmt::Result {
    let curve = |which: usize| {
        let mut labelled = Labelled::default();
        for (odds, violates) in comparison.odds.iter().zip(&comparison.violates) {
            let side = if *violates { &mut labelled.belong } else { &mut labelled.others };
            // Only their order counts.
            #[expect(clippy::cast_possible_truncation, reason = "only the order counts")]
            side.push(odds[which] as f32);
        }
        labelled.curve()
    };
    plots::roc(page, &text(compared.policy.as_str()), &[curve(0), curve(1)])
}

/// Pictures that only one of both brings before a person, what changes most first.
fn differences(
    page: &mut String,
    compared: &Compared,
    comparison: &Comparison,
    thumbnails: &mut Thumbnails<'_>,
) -> std::fmt::Result {
    let mut changed: Vec<(usize, [f64; 2], bool)> = compared
        .pictures
        .iter()
        .zip(&comparison.odds)
        .zip(&comparison.violates)
        .map(|((picture, odds), violates)| (*picture, *odds, *violates))
        .filter(|(_, [words, adapted], _)| {
            (*words >= comparison.review) != (*adapted >= comparison.review)
        })
        .collect();
    changed.sort_by(|a, b| (b.1[1] - b.1[0]).abs().total_cmp(&(a.1[1] - a.1[0]).abs()));
    if changed.is_empty() {
        return writeln!(page, "<p>Both bring the same pictures before a person.</p>");
    }
    let shown = changed.len().min(MISTAKES);
    let of = if shown < changed.len() { format!("{shown} of ") } else { String::new() };
    writeln!(
        page,
        "<p class=\"note\">{of}{} pictures that only one of both brings before a person; green \
         where adapted is right.</p>\n<div class=\"gallery\">",
        changed.len()
    )?;
    for (picture, [words, adapted], violates) in &changed[..shown] {
        let now = *adapted >= comparison.review;
        let kind = if now == *violates { "good" } else { "bad" };
        let what = match (now, violates) {
            (true, true) => "newly found",
            (true, false) => "newly flagged, fine",
            (false, true) => "no longer found",
            (false, false) => "rightly flagged no more",
        };
        let caption = format!("{what} ({:.2} → {:.2})", sigmoid(*words), sigmoid(*adapted));
        figure(page, kind, &caption, *picture, thumbnails)?;
    }
    page.push_str("</div>\n");
    Ok(())
}

fn queries(
    page: &mut String,
    retrieval: &Retrieval,
    thumbnails: &mut Thumbnails<'_>,
) -> std::fmt::Result {
    let figures = |found: &[FoundAt]| {
        found.iter().fold(String::new(), |row, at| {
            format!("{row}<td>{:.2}<td>{:.2}", at.precision, at.recall)
        })
    };
    page.push_str("<h2>Queries</h2>\n<table><tr><th>query<th>relevant");
    for at in &retrieval.mean {
        write!(page, "<th>P@{}<th>R@{}", at.k, at.k)?;
    }
    page.push_str("</tr>\n");
    for answer in &retrieval.answers {
        writeln!(
            page,
            "<tr><td>{}<td>{}{}</tr>",
            text(&answer.query.text),
            answer.query.relevant.len(),
            figures(&answer.found)
        )?;
    }
    writeln!(page, "<tr><th>mean<td>{}</tr></table>", figures(&retrieval.mean))?;
    for answer in retrieval.answers.iter().take(QUERIES) {
        writeln!(page, "<h3>{}</h3>\n<div class=\"gallery\">", text(&answer.query.text))?;
        for (picture, cosine) in answer.best.iter().take(FINDS) {
            let relevant = answer.query.relevant.binary_search(picture).is_ok();
            let kind = if relevant { "good" } else { "bad" };
            figure(page, kind, &format!("cosine {cosine:.3}"), *picture, thumbnails)?;
        }
        page.push_str("</div>\n");
    }
    Ok(())
}

fn left_out(page: &mut String, measured: &Measured) -> std::fmt::Result {
    if measured.left_out.is_empty() {
        return Ok(());
    }
    page.push_str("<h2>Left out</h2>\n<ul>\n");
    for (picture, reason) in &measured.left_out {
        let reason = text(&reason.to_string());
        writeln!(page, "<li>{}: {reason}", path(measured.below(*picture)))?;
    }
    page.push_str("</ul>\n");
    Ok(())
}

/// `caption` is HTML already.
fn figure(
    page: &mut String,
    kind: &str,
    caption: &str,
    picture: usize,
    thumbnails: &mut Thumbnails<'_>,
) -> std::fmt::Result {
    let name = path(thumbnails.measured.below(picture));
    let image = thumbnails.image(picture);
    writeln!(
        page,
        "<figure class=\"{kind}\" tabindex=\"0\"><div>{image}</div><figcaption>{caption}<br>\
         <span class=\"note\">{name}</span></figcaption></figure>"
    )
}

/// Pictures that were made small, by their place.
struct Thumbnails<'a> {
    measured: &'a Measured,
    decoders: &'a DecoderPool,
    made: HashMap<usize, String>,
}

impl Thumbnails<'_> {
    fn image(&mut self, picture: usize) -> String {
        if let Some(made) = self.made.get(&picture) {
            return made.clone();
        }
        let image = self.make(picture).map_or("no picture".to_owned(), |jpeg| {
            let data = STANDARD.encode(jpeg);
            format!("<img alt=\"\" loading=\"lazy\" src=\"data:image/jpeg;base64,{data}\">")
        });
        self.made.insert(picture, image.clone());
        image
    }

    /// A picture that can't be shown costs only itself.
    fn make(&self, picture: usize) -> Option<Vec<u8>> {
        let path = &self.measured.labels.pictures[picture].path;
        let bytes = read(path, self.decoders.limits().file_bytes).ok()?;
        let small = self.decoders.preview(&bytes, THUMBNAIL, THUMBNAIL, &Uploader::Operator);
        let small = small.ok()?.ok()?;
        encode::jpeg(&small, 75)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_becomes_markup() {
        assert_eq!(
            text("<img src=x onerror=\"alert('1')\">&"),
            "&lt;img src=x onerror=&quot;alert(&#39;1&#39;)&quot;&gt;&amp;"
        );
        assert!(!text("a\u{1b}[2J\u{202e}").chars().any(|c| c == '\u{1b}' || c == '\u{202e}'));
    }
}
