//! The numbers: the queue over time, reviewers, how right the policies are, how scores lie.

use ratatui::Frame;
use ratatui::text::{Line, Span};

use crate::moderation::{DayCount, PolicyStats, ScoreHistogram};
use crate::tui::layout::{Panes, inside};
use crate::tui::state::{Numbers, NumbersPage, State};

use super::style::{Role, style};
use super::text::{fit_end, padded};

/// Columns of a histogram.
const COLUMNS: usize = 40;
/// From empty to full, an eighth a step.
const BARS: [&str; 9] = [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];

pub(super) fn draw(frame: &mut Frame<'_>, panes: Panes, state: &State, page: &NumbersPage) {
    let area = panes.queue.union(panes.why).union(panes.picture);
    let mut border = super::pane(state, Line::styled(" numbers ", style(state.theme, Role::Title)));
    let room = inside(area);
    let lines = match &page.numbers {
        None => vec![Line::raw("loading…")],
        Some(numbers) => lines(state, numbers, usize::from(room.width)),
    };
    let scroll = usize::from(page.scroll).min(lines.len().saturating_sub(1));
    let below = lines.len().saturating_sub(scroll + usize::from(room.height));
    if below > 0 {
        border = border.title_bottom(Line::raw(format!(" {below} more lines: j ")).right_aligned());
    }
    frame.render_widget(border, area);
    for (row, line) in room.rows().zip(lines.into_iter().skip(scroll)) {
        frame.render_widget(line, row);
    }
}

fn lines(state: &State, numbers: &Numbers, cells: usize) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    let heading = |text: &str| Line::styled(fit_end(text, cells), style(state.theme, Role::Title));
    lines.push(heading("waiting at the end of each day"));
    lines.extend(days(state, numbers, cells));
    if !numbers.stats.policies.is_empty() {
        lines.push(Line::raw(""));
        lines.push(heading("how often people agreed with each policy (removed of decided)"));
        lines.extend(numbers.stats.policies.iter().map(|policy| precision(state, policy, cells)));
    }
    if !numbers.stats.reviewers.is_empty() {
        lines.push(Line::raw(""));
        lines.push(heading("reviewers          approved  removed  escalated  reveals"));
        lines.extend(numbers.stats.reviewers.iter().map(|one| {
            let name = padded(one.reviewer.as_str(), 18);
            let text = format!(
                "{name} {:>8} {:>8} {:>10} {:>8}",
                one.approved, one.removed, one.escalated, one.exposures
            );
            Line::raw(fit_end(&text, cells))
        }));
    }
    if !numbers.histograms.is_empty() {
        lines.push(Line::raw(""));
        lines.push(heading(
            "scores from 0 to 1, all uploads (log scale); r review from, b block from",
        ));
        lines.extend(numbers.histograms.iter().flat_map(|one| histogram(state, one, cells)));
    }
    lines.push(Line::raw(""));
    lines.push(heading("watchers"));
    if numbers.watchers.is_empty() {
        lines.push(Line::raw("none runs; start one: modtool watch DIR"));
    }
    lines.extend(numbers.watchers.iter().map(|text| Line::raw(fit_end(text, cells))));
    lines
}

/// One bar a day: what waited at its end, and what came and went.
fn days(state: &State, numbers: &Numbers, cells: usize) -> Vec<Line<'static>> {
    let most = numbers.stats.days.iter().map(|day| day.waiting).max().unwrap_or(0).max(1);
    let room = cells.saturating_sub(50).clamp(8, 60);
    let line = |(name, day): (&String, &DayCount)| {
        let bar = padded(&bar(day.waiting, most, room), room);
        Line::from(vec![
            Span::raw(padded(name, 16)),
            Span::styled(bar, style(state.theme, Role::Warning)),
            Span::raw(format!(" {:>6} waiting  +{} −{}", day.waiting, day.opened, day.closed)),
        ])
    };
    numbers.days.iter().zip(&numbers.stats.days).map(line).collect()
}

fn precision(state: &State, policy: &PolicyStats, cells: usize) -> Line<'static> {
    let room = cells.saturating_sub(56).clamp(8, 40);
    let decided = policy.removed + policy.approved;
    let share = policy
        .precision()
        .map_or_else(|| "    –".to_owned(), |share| format!("{:>4.0} %", share * 100.0));
    let text = format!(" {share} of {decided:>6}, {:>5} waiting", policy.waiting);
    Line::from(vec![
        Span::raw(padded(policy.policy.as_str(), 16)),
        Span::styled(
            padded(&bar(policy.removed, decided.max(1), room), room),
            style(state.theme, Role::Good),
        ),
        Span::raw(text),
    ])
}

/// The histogram, and a line below it that points at the thresholds.
fn histogram(state: &State, one: &ScoreHistogram, cells: usize) -> Vec<Line<'static>> {
    let columns = COLUMNS.min(cells.saturating_sub(30)).max(10);
    let counts = one.columns(columns);
    let bits = |count: u64| u64::BITS - count.leading_zeros();
    let most = counts.iter().copied().map(bits).max().unwrap_or(0).max(1);
    let bars: String = counts
        .iter()
        .map(|count| BARS[((bits(*count) * 8).div_ceil(most) as usize).min(8)])
        .collect();
    let head = Line::from(vec![
        Span::raw(padded(one.policy.as_str(), 16)),
        Span::styled(bars, style(state.theme, Role::Violating)),
        Span::raw(format!(" {} items", one.total())),
    ]);
    let Some(known) = state.policies.iter().find(|known| known.id == one.policy) else {
        return vec![head];
    };
    let mut marks = vec![" "; columns];
    let place = |score: f32| (ScoreHistogram::bin_of(score) * columns / 1000).min(columns - 1);
    marks[place(known.review)] = "r";
    marks[place(known.block)] = "b";
    let below = format!("{}{}", " ".repeat(16), marks.concat());
    vec![head, Line::styled(below, style(state.theme, Role::Dim))]
}

/// A bar of whole and partial cells; something is seen wherever the count isn't nothing.
fn bar(count: u64, most: u64, cells: usize) -> String {
    let eighths = usize::try_from(count * (cells as u64 * 8) / most).unwrap_or(usize::MAX);
    let eighths = eighths.max(usize::from(count > 0)).min(cells * 8);
    let partial = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8];
    format!("{}{partial}", "█".repeat(eighths / 8))
}
