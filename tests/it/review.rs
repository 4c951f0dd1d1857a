//! `modtool review` in a real pseudo-terminal, on a real database.

use super::support::pictures::{jpeg, page, receipt};
use super::support::terminal::Terminal;
use super::support::until;
use super::support::workspace::{PATIENCE, Running, Workspace};

/// A workspace in which one drawn page was flagged.
fn flagged() -> Workspace {
    let workspace = Workspace::with_one_policy();
    workspace.upload("page.jpg", jpeg(&page(1)));
    workspace.scan().expect_code(1);
    workspace
}

fn review(workspace: &Workspace) -> Terminal {
    Terminal::start(&workspace.command(&["review", "--reviewer", "ana"]))
}

fn state_of(workspace: &Workspace, name: &str) -> String {
    let row = workspace.verdict(&workspace.uploads().join(name)).expect("was judged");
    row["state"].as_str().unwrap_or("none").to_owned()
}

#[test]
fn one_item_is_decided_undone_and_decided_again_after_a_restart() {
    let workspace = flagged();
    let mut terminal = review(&workspace);
    terminal.shows("page.jpg");
    terminal.shows("queue 1");
    terminal.press("a");
    terminal.shows("decided today 1");
    terminal.shows("queue 0");
    assert_eq!(state_of(&workspace, "page.jpg"), "closed");
    terminal.press("q");
    assert_eq!(terminal.ended(), 0);

    let mut terminal = review(&workspace);
    terminal.shows("decided today 1");
    terminal.press("u");
    terminal.shows("decided today 0");
    terminal.shows("page.jpg");
    assert_eq!(state_of(&workspace, "page.jpg"), "open");
    terminal.press("e");
    terminal.shows("escalated 1");
    assert_eq!(state_of(&workspace, "page.jpg"), "escalated");
    terminal.press("\x03");
    assert_eq!(terminal.ended(), 0, "Ctrl-C is a clean end");
}

#[test]
fn the_terminal_is_given_back() {
    let workspace = flagged();
    let mut terminal = review(&workspace);
    terminal.shows("page.jpg");
    terminal.press("q");
    terminal.ended();
    until("the screen is left", PATIENCE, || {
        let output = terminal.output();
        let left = |sequence: &[u8]| output.windows(sequence.len()).any(|w| w == sequence);
        // The alternate screen, the hidden cursor and the mouse, all undone.
        (left(b"\x1b[?1049l") && left(b"\x1b[?25h") && left(b"\x1b[?1000l")).then_some(())
    });
}

#[test]
fn new_items_appear_by_themselves_and_their_names_can_not_speak_to_the_terminal() {
    let workspace = Workspace::with_one_policy();
    let _watcher = Running::watch(&workspace, &[]);
    let terminal = review(&workspace);
    terminal.shows("Nothing waits");
    terminal.shows("watching");
    workspace.upload("evil\x1b]0;owned\x07.jpg", jpeg(&receipt(2)));
    terminal.shows("queue 1");
    terminal.shows("evil\\u{1b}]0;owned");
    let output = terminal.output();
    assert!(!output.windows(9).any(|window| window == b"\x1b]0;owned"), "an escape got through");
}

#[test]
fn without_a_terminal_it_says_so() {
    let workspace = Workspace::with_one_policy();
    let ran = workspace.run(&["review"]).expect_code(64);
    assert!(ran.err().contains("needs a terminal"), "{}", ran.err());
}
