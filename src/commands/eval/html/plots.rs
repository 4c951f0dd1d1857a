//! Plots of a report, drawn as SVG.

use std::fmt::Write as _;

use crate::moderation::{Evaluation, Share};

/// Horizontal bars from 0 to 1 with whiskers. Labels are HTML already.
pub(super) fn bars(page: &mut String, title: &str, bars: &[(String, Share)]) -> std::fmt::Result {
    let (left, width, row) = (190.0, 420.0, 20.0);
    let mut y = 6.0;
    let mut drawn = String::new();
    for (label, share) in bars {
        let (low, high) = share.interval();
        let length = share.value().unwrap_or(0.0) * width;
        let middle = y + row / 2.0 - 1.0;
        writeln!(
            drawn,
            "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{label}</text>\
             <rect x=\"{left}\" y=\"{y:.0}\" width=\"{length:.1}\" height=\"14\" fill=\"var(--bar)\" \
             fill-opacity=\".65\"/>\
             <path d=\"M{:.1} {middle:.0}H{:.1}\" stroke=\"currentColor\" stroke-width=\"1.5\"/>\
             <text x=\"{:.0}\" y=\"{:.0}\">{:.0} %</text>",
            left - 8.0,
            y + 12.0,
            left + low * width,
            left + high * width,
            left + width + 8.0,
            y + 12.0,
            share.value().unwrap_or(0.0) * 100.0
        )?;
        y += row;
    }
    writeln!(
        page,
        "<p class=\"note\">{title}</p>\n<svg width=\"680\" height=\"{:.0}\" role=\"img\" \
         aria-label=\"{title}\">\n{drawn}<path d=\"M{left} 0V{y:.0}\" stroke=\"currentColor\"/></svg>",
        y + 6.0
    )
}

/// Confidence against accuracy, a point a bin. The title is HTML already.
pub(super) fn reliability(
    page: &mut String,
    title: &str,
    evaluation: &Evaluation,
) -> std::fmt::Result {
    let (side, margin) = (220.0, 30.0);
    let x = |share: f64| margin + share * side;
    let y = |share: f64| side + 8.0 - share * side;
    let error = evaluation.calibration_error().unwrap_or_default();
    #[expect(clippy::cast_precision_loss, reason = "counts of pictures")]
    let total = evaluation.pictures().max(1) as f64;
    writeln!(
        page,
        "<svg width=\"270\" height=\"290\" role=\"img\" aria-label=\"reliability: {title}\">\n\
         <rect x=\"{margin}\" y=\"8\" width=\"{side}\" height=\"{side}\" fill=\"none\" \
         stroke=\"var(--line)\"/>\
         <path d=\"M{:.0} {:.0}L{:.0} {:.0}\" stroke=\"var(--line)\" stroke-dasharray=\"4\"/>\
         <text x=\"{margin}\" y=\"{:.0}\">0</text><text x=\"{:.0}\" y=\"{:.0}\">confidence 1</text>\
         <text x=\"4\" y=\"20\">1</text><text x=\"{margin}\" y=\"{:.0}\">{title}</text>\
         <text x=\"{margin}\" y=\"{:.0}\">ECE {error:.3}</text>",
        x(0.0),
        y(0.0),
        x(1.0),
        y(1.0),
        side + 24.0,
        side - 46.0,
        side + 24.0,
        side + 44.0,
        side + 60.0
    )?;
    for (_, _, bin) in evaluation.bins() {
        let (Some(confidence), Some(accuracy)) = (bin.confidence(), bin.accuracy().value()) else {
            continue;
        };
        #[expect(clippy::cast_precision_loss, reason = "counts of pictures")]
        let radius = 2.5 + 9.0 * (bin.pictures as f64 / total).sqrt();
        let (low, high) = bin.accuracy().interval();
        writeln!(
            page,
            "<path d=\"M{:.1} {:.1}V{:.1}\" stroke=\"currentColor\" stroke-opacity=\".5\"/>\
             <circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"{radius:.1}\" fill=\"var(--bar)\" \
             fill-opacity=\".7\"/>",
            x(confidence),
            y(low),
            y(high),
            x(confidence),
            y(accuracy)
        )?;
    }
    page.push_str("</svg>\n");
    Ok(())
}

/// The ROC curves with the words alone and adapted. The title is HTML already.
pub(super) fn roc(
    page: &mut String,
    title: &str,
    curves: &[Vec<(f64, f64)>; 2],
) -> std::fmt::Result {
    let (side, margin) = (220.0, 30.0);
    let line = |curve: &[(f64, f64)]| {
        let point = |(others, belong): &(f64, f64)| {
            format!("{:.1},{:.1}", margin + others * side, side + 8.0 - belong * side)
        };
        curve.iter().map(point).collect::<Vec<_>>().join(" ")
    };
    let [words, adapted] = curves.each_ref().map(|curve| line(curve));
    writeln!(
        page,
        "<svg width=\"400\" height=\"270\" role=\"img\" aria-label=\"ROC curves of {title}\">\n\
         <rect x=\"{margin}\" y=\"8\" width=\"{side}\" height=\"{side}\" fill=\"none\" \
         stroke=\"var(--line)\"/>\
         <polyline points=\"{words}\" fill=\"none\" stroke=\"currentColor\" \
         stroke-dasharray=\"5 3\"/>\
         <polyline points=\"{adapted}\" fill=\"none\" stroke=\"var(--bar)\" stroke-width=\"2\"/>\
         <text x=\"{margin}\" y=\"{:.0}\">0</text>\
         <text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">false alarms 1</text>\
         <text x=\"4\" y=\"20\">1</text><text x=\"{margin}\" y=\"{:.0}\">found, upwards</text>\
         <path d=\"M{:.0} 60h24\" stroke=\"currentColor\" stroke-dasharray=\"5 3\"/>\
         <text x=\"{:.0}\" y=\"64\">words alone</text>\
         <path d=\"M{:.0} 80h24\" stroke=\"var(--bar)\" stroke-width=\"2\"/>\
         <text x=\"{:.0}\" y=\"84\">adapted</text></svg>",
        side + 24.0,
        margin + side,
        side + 24.0,
        side + 40.0,
        margin + side + 12.0,
        margin + side + 42.0,
        margin + side + 12.0,
        margin + side + 42.0
    )
}
