//! The explanation: which policies, which prompts, what was decided before, where the file lies.

use std::path::PathBuf;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::moderation::escape::{escape, escape_path};
use crate::moderation::{Action, BankState, BankTwin, Likeness, Mode, PromptShare, Reason};
use crate::tui::layout::inside;
use crate::tui::state::{Detail, Found, ItemDetail, Panel, State};
use crate::tui::update::in_words;

use super::queue::{in_percent, standing};
use super::style::{Role, style};
use super::text::{age, fit_end, fit_middle, padded};

/// Prompts with a smaller share are counted, not listed.
const LISTED_FROM: f32 = 0.005;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let room = inside(area);
    let lines = lines(state, room.width);
    let below = lines.len().saturating_sub(usize::from(state.why_scroll + room.height));
    let mut pane = super::pane(state, Line::styled(" why ", style(state.theme, Role::Title)));
    if below > 0 {
        pane = pane.title_bottom(Line::raw(format!(" {below} more lines: J ")).right_aligned());
    }
    frame.render_widget(pane, area);
    for (row, line) in room.rows().zip(lines.into_iter().skip(usize::from(state.why_scroll))) {
        frame.render_widget(line, row);
    }
}

/// The whole explanation, one line a row of the panel, none wider than `width`.
pub(super) fn lines(state: &State, width: u16) -> Vec<Line<'static>> {
    let cells = usize::from(width);
    if let Some(found) = state.found() {
        return about_found(found, cells);
    }
    let detail = match &state.detail {
        Detail::Nothing => return Vec::new(),
        Detail::Loading { .. } => return vec![Line::raw("loading…")],
        Detail::Failed { .. } => return vec![Line::raw("nothing is known about this item")],
        Detail::Ready(detail) => detail,
    };
    let mut lines = Vec::new();
    if let Some(reason) = &detail.detail.task.reason {
        let text = fit_end(&in_full(reason), cells);
        lines.push(Line::styled(text, style(state.theme, Role::Warning)));
    }
    lines.extend(files(detail, cells));
    lines.extend(twins(state, detail, cells));
    lines.extend(reasons(state, detail, cells));
    if let Some(panel) = detail.panels.get(state.panel) {
        lines.extend(prompts(state, detail, panel, cells));
    }
    lines.extend(beside(detail, state.panel, cells));
    lines.extend(past(state, detail, cells));
    lines.extend(places(state, detail, cells));
    lines
}

fn in_full(reason: &Reason) -> String {
    match reason {
        Reason::OutOfScope => "no policy looks at this folder".to_owned(),
        Reason::NoPolicy => "no policy is in force, so a person decides".to_owned(),
        Reason::Found => "nothing flagged it; a person found it".to_owned(),
        Reason::RemovedBefore => "removed before: a person removed the same picture".to_owned(),
        Reason::LikeRemoved(_) => "a twin of something that was removed".to_owned(),
        Reason::Inherited(_) => "blocked, as a twin of something that was removed".to_owned(),
        Reason::ApprovedBefore(_) => "the same bytes were approved before".to_owned(),
        Reason::Held => "held: the file is in quarantine until you decide".to_owned(),
        Reason::NotArmed(why) => format!("not held, because its policy is not armed: {why}"),
        Reason::HoldCap(cap) => format!("not held: {cap} files were held in 24 hours already"),
        Reason::Doubtful(doubt) => doubt.words().to_owned(),
        Reason::Unreadable(why) => format!("could not be read: {}", escape(why.as_bytes())),
        Reason::Unjudged(what) => format!("not judged: {}", escape(what.as_bytes())),
        Reason::Undecodable(why) => {
            format!("could not be judged as a picture: {}", escape(why.as_bytes()))
        }
    }
}

/// The first files that a row stands for, where it stands for several.
fn files(detail: &ItemDetail, cells: usize) -> Vec<Line<'static>> {
    let name = |name: &PathBuf| Line::raw(fit_end(&format!("  {}", escape_path(name)), cells));
    detail.detail.files.iter().map(name).collect()
}

/// What of the bank it is a twin of, the likest two: enough to see that something is known.
fn twins(state: &State, detail: &ItemDetail, cells: usize) -> Vec<Line<'static>> {
    let line = |twin: &BankTwin| {
        let done = if twin.action == Action::Remove { "removed" } else { "approved" };
        let like = match twin.likeness {
            Likeness::SameBytes => "the same bytes were".to_owned(),
            Likeness::Looks(bits) => format!("looks like ({bits}/256) what was"),
        };
        let whose = match &twin.list {
            Some(list) => format!("list {}", escape(list.as_bytes())),
            None => format!("{} {} ago", twin.reviewer, age(state.now, twin.added_at)),
        };
        let hold = if twin.state == BankState::OnHold { ", on hold" } else { "" };
        let text = format!("{like} {done} · {whose} · entry {}{hold}", twin.entry);
        let role = if twin.action == Action::Remove { Role::Warning } else { Role::Dim };
        Line::styled(fit_end(&text, cells), style(state.theme, role))
    };
    detail.detail.twins.iter().take(2).map(line).collect()
}

/// The flagging policies with their digits; the chosen one in brackets.
fn reasons(state: &State, detail: &ItemDetail, cells: usize) -> Vec<Line<'static>> {
    let flag = |(index, panel): (usize, &Panel)| {
        let verdict = &panel.verdict;
        let chosen = state.draft.reason.as_ref() == Some(&verdict.policy);
        let (open, close) = if chosen { ("[", "]") } else { (" ", " ") };
        format!("{open}{} {} {:.2}{close}", index + 1, verdict.policy, verdict.score)
    };
    let text: String = detail.flagging().enumerate().map(flag).collect();
    if text.is_empty() {
        return Vec::new();
    }
    vec![Line::raw(fit_end(&format!("flagged by{text}"), cells))]
}

fn prompts(state: &State, detail: &ItemDetail, panel: &Panel, cells: usize) -> Vec<Line<'static>> {
    let verdict = &panel.verdict;
    let count = format!("({} of {})", state.panel + 1, detail.panels.len());
    let mode = if verdict.mode == Mode::Background { " · only recorded" } else { "" };
    let thresholds = panel.why.as_ref().map_or_else(String::new, |why| {
        let title = escape(why.title.as_bytes());
        let long =
            format!(" · review from {:.2}, block from {:.2} · {title}", why.review, why.block);
        if cells >= 70 { long } else { format!(" ({:.2}/{:.2}) · {title}", why.review, why.block) }
    });
    let head =
        format!("{} {:.2} {}{mode}{thresholds}", verdict.policy, verdict.score, verdict.outcome);
    let room = cells.saturating_sub(count.len() + 1);
    let mut lines = vec![Line::from(vec![
        Span::styled(padded(&head, room), style(state.theme, Role::Title)),
        Span::raw(" "),
        Span::raw(count),
    ])];
    if let Some(adapter) = &verdict.adapter {
        let words = panel.why.as_ref().and_then(|why| why.words);
        let words = words.map(|words| format!("; the words alone say {words:.2}"));
        let text = format!("adapted by {adapter}{}", words.unwrap_or_default());
        lines.push(Line::raw(fit_end(&text, cells)));
    }
    let Some(why) = &panel.why else {
        let text = format!("most like: {}", escape(verdict.prompt.as_bytes()));
        lines.push(Line::raw(fit_end(&text, cells)));
        return lines;
    };
    let mut shares: Vec<&PromptShare> =
        why.shares.iter().filter(|share| share.share >= LISTED_FROM).collect();
    shares.sort_by(|a, b| b.share.total_cmp(&a.share));
    lines.extend(shares.iter().map(|share| bar(state, share, cells)));
    let small = why.shares.len() - shares.len();
    if small > 0 {
        let prompts = if small == 1 { "prompt" } else { "prompts" };
        let text = format!("{small} more {prompts} under 0.01");
        lines.push(Line::styled(fit_end(&text, cells), style(state.theme, Role::Dim)));
    }
    lines
}

/// How rare such a score is, and what was decided about the most similar pictures.
fn beside(detail: &ItemDetail, panel: usize, cells: usize) -> Vec<Line<'static>> {
    let mut words = Vec::new();
    let why = detail.panels.get(panel).and_then(|panel| panel.why.as_ref());
    if let Some(share) = why.and_then(|why| why.higher_than) {
        // Never rounded up to all of them.
        let percent = (share * 1000.0).floor() / 10.0;
        words.push(format!("higher than {percent:.1} % of your uploads"));
    }
    if let Some(found) = &detail.neighbours
        && !found.is_empty()
    {
        let near: Vec<String> =
            found.iter().map(|found| format!("{} {:.2}", standing(found), found.cosine)).collect();
        words.push(format!("nearest: {}", near.join(", ")));
    }
    words.iter().map(|text| Line::raw(fit_end(text, cells))).collect()
}

/// What is known about a result of a search.
fn about_found(found: &Found, cells: usize) -> Vec<Line<'static>> {
    let item = &found.item;
    let mut words = vec![format!("cosine {:.3}, no probability", found.cosine)];
    if let Some(percentile) = found.percentile {
        words.push(format!("more alike than {} of all pictures", in_percent(percentile).trim()));
    }
    words.push(format!("item {}", item.item.short()));
    if let Some((policy, score)) = &item.policy {
        words.push(format!("flagged by {policy} {score:.2}"));
    } else if item.state.is_none() {
        words.push("nothing flagged it".to_owned());
    }
    if let Some(outcome) = item.outcome {
        words.push(format!("outcome {outcome}"));
    }
    if let Some(state) = item.state {
        words.push(format!("its task is {state}"));
    }
    if let Some(decision) = item.decision {
        words.push(format!("decided before: {decision}"));
    }
    let mut lines: Vec<_> = words.iter().map(|text| Line::raw(fit_end(text, cells))).collect();
    if let Some(path) = &item.path {
        lines.push(Line::raw(fit_middle(&escape_path(path), cells)));
    }
    lines
}

fn bar(state: &State, share: &PromptShare, cells: usize) -> Line<'static> {
    const NUMBER: usize = 5;
    const CONTRAST: &str = " (contrast)";
    let text_cells = (cells * 2 / 5).max(12);
    let room = cells.saturating_sub(text_cells + NUMBER + CONTRAST.len() + 1);
    let full = eighths(share.share, room);
    let bar = format!("{}{}", "█".repeat(full / 8), partial(full % 8));
    let (role, contrast) =
        if share.contrast { (Role::Contrast, CONTRAST) } else { (Role::Violating, "") };
    Line::from(vec![
        Span::raw(padded(&escape(share.text.as_bytes()), text_cells)),
        Span::raw(" "),
        Span::styled(padded(&bar, room), style(state.theme, role)),
        Span::raw(format!(" {:.2}", share.share)),
        Span::raw(contrast),
    ])
}

/// The length of a bar in eighths of a cell; something is seen wherever the share isn't nothing.
fn eighths(share: f32, cells: usize) -> usize {
    let most = u16::try_from(cells * 8).unwrap_or(u16::MAX);
    (1..=most)
        .take_while(|eighth| f32::from(*eighth) <= share.clamp(0.0, 1.0) * f32::from(most))
        .count()
        .max(usize::from(share > 0.0 && most > 0))
}

fn partial(eighths: usize) -> &'static str {
    ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths]
}

fn past(state: &State, detail: &ItemDetail, cells: usize) -> Vec<Line<'static>> {
    let line = |past: &crate::moderation::PastDecision| {
        let undone = if past.undone { " (taken back)" } else { "" };
        let text = format!("before: {}{undone}", in_words(past, state.now));
        Line::raw(fit_end(&text, cells))
    };
    detail.detail.decisions.iter().map(line).collect()
}

fn places(state: &State, detail: &ItemDetail, cells: usize) -> Vec<Line<'static>> {
    let task = &detail.detail.task;
    let waiting = age(state.now, task.opened_at);
    let head = match detail.detail.sightings.len() {
        0 => format!("item {} · waiting {waiting} · lies nowhere now", task.item.short()),
        1 => format!("item {} · waiting {waiting}", task.item.short()),
        count => format!("item {} · waiting {waiting} · lies at {count} paths", task.item.short()),
    };
    let mut lines = vec![Line::styled(fit_end(&head, cells), style(state.theme, Role::Dim))];
    for sighting in &detail.detail.sightings {
        let path = fit_middle(&escape_path(&sighting.path), cells.saturating_sub(2));
        lines.push(Line::raw(format!("  {path}")));
    }
    lines
}
