//! What things look like. Colour only ever repeats what a word or a mark already says.

use ratatui::style::{Color, Modifier, Style};

use crate::tui::state::Theme;

/// What something is, as far as its look goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Title,
    Border,
    Selected,
    Dim,
    Good,
    Warning,
    Bad,
    Violating,
    Contrast,
    Key,
}

/// The look of a role. Foreground colours from the terminal's own palette and no background, so
/// that light and dark terminals both work; without colours, bold, dim and reverse remain.
pub(super) fn style(theme: Theme, role: Role) -> Style {
    let modifier = match role {
        Role::Title | Role::Bad | Role::Key => Modifier::BOLD,
        Role::Selected => Modifier::REVERSED,
        Role::Border | Role::Dim | Role::Contrast => Modifier::DIM,
        Role::Good | Role::Warning | Role::Violating => Modifier::empty(),
    };
    let colour = match role {
        Role::Title | Role::Border | Role::Selected | Role::Dim => None,
        Role::Good => Some(Color::Green),
        Role::Warning => Some(Color::Yellow),
        Role::Bad | Role::Violating => Some(Color::Red),
        Role::Contrast => Some(Color::Blue),
        Role::Key => Some(Color::Cyan),
    };
    let style = Style::new().add_modifier(modifier);
    match (theme, colour) {
        (Theme::Colour, Some(colour)) => style.fg(colour),
        (Theme::Colour, None) | (Theme::Plain, _) => style,
    }
}
