//! The first line: how much waits, and whether anyone is watching.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::tui::state::{State, Watcher};

use super::style::{Role, style};
use super::text::{age, fit_end, width};

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let (watcher, role) = watcher(state.watcher);
    let reviewer = fit_end(state.reviewer.as_str(), 20);
    let right_width = width(&watcher) + width(&reviewer) + 3;
    let room = usize::from(area.width).saturating_sub(right_width + 1);

    let mut left = String::new();
    for (index, piece) in pieces(state).into_iter().enumerate() {
        let separator = match index {
            0 => " ",
            1 => "  ",
            _ => " · ",
        };
        if width(&left) + width(separator) + width(&piece) > room {
            break;
        }
        left += separator;
        left += &piece;
    }
    frame.render_widget(Line::styled(left, style(state.theme, Role::Title)), area);
    let right = Line::from(vec![
        Span::styled(watcher, style(state.theme, role)),
        Span::raw("  "),
        Span::styled(reviewer, style(state.theme, Role::Dim)),
        Span::raw(" "),
    ]);
    frame.render_widget(right.right_aligned(), area);
}

/// What is said on the left; the last ones give way first.
fn pieces(state: &State) -> Vec<String> {
    let mut pieces = vec!["modtool review".to_owned()];
    let Some(counts) = state.counts else { return pieces };
    pieces.push(format!("queue {}", counts.open));
    pieces.push(format!("escalated {}", counts.escalated));
    if counts.unjudged > 0 {
        pieces.push(format!("not judged {}", counts.unjudged));
    }
    if counts.restored_without > 0 {
        // Only the log and `modtool quarantine` have room for which and what.
        pieces.push(format!("restored incompletely {}", counts.restored_without));
    }
    pieces.push(format!("decided today {}", counts.decided_today));
    if let Some(oldest) = counts.oldest {
        pieces.push(format!("oldest {}", age(state.now, oldest)));
    }
    if let Some(exposures) = state.exposures.filter(|count| *count > 0) {
        let budget = state.care.budget.map_or_else(String::new, |budget| format!(" of {budget}"));
        pieces.push(format!("reveals {exposures}{budget}"));
    }
    pieces
}

fn watcher(watcher: Watcher) -> (String, Role) {
    match watcher {
        Watcher::Unknown => (String::new(), Role::Dim),
        Watcher::Absent => ("○ no watcher".to_owned(), Role::Warning),
        Watcher::Watching { rate } => (format!("● watching {rate:.1} img/s"), Role::Good),
    }
}
