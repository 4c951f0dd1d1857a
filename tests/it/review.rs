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
    terminal.press("U");
    terminal.shows("decided again");
    assert_eq!(state_of(&workspace, "page.jpg"), "closed");
    terminal.press("u");
    terminal.shows("page.jpg");
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
    is_given_back(&terminal);
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

/// The alternate screen, the hidden cursor and the mouse, all undone.
fn is_given_back(terminal: &Terminal) {
    for sequence in [b"\x1b[?1049l".as_slice(), b"\x1b[?25h", b"\x1b[?1000l"] {
        terminal.wrote("the terminal is given back", sequence);
    }
}

#[test]
fn a_picture_is_revealed_step_by_step_and_every_step_is_counted() {
    let workspace = flagged();
    let terminal = review(&workspace);
    terminal.shows("safe view: blur");
    terminal.press("v");
    terminal.shows("safe view: grey");
    terminal.press("v");
    terminal.shows("safe view: full");
    terminal.shows("reveals 2");
    terminal.press("V");
    terminal.shows("The picture is hidden.");
}

#[test]
fn words_are_enough_where_there_are_no_pictures() {
    let workspace = flagged();
    for (width, height) in [(80, 24), (120, 40), (200, 60)] {
        let command = workspace.command(&["review", "--reviewer", "ana", "--no-pictures"]);
        let mut terminal = Terminal::sized(&command, width, height);
        terminal.shows("1 of 1: documents");
        assert!(!terminal.screen().contains("safe view"), "{}", terminal.screen());
        terminal.press("q");
        assert_eq!(terminal.ended(), 0);
    }
}

#[test]
fn pictures_go_to_the_terminal_in_its_own_language() {
    let workspace = flagged();
    for (how, beginning) in
        [("kitty", b"\x1b_G".as_slice()), ("iterm2", b"\x1b]1337;File="), ("sixel", b"\x1bP")]
    {
        let command = workspace.command(&["review", "--reviewer", "ana", "--pictures", how]);
        let terminal = Terminal::start(&command);
        terminal.shows("page.jpg");
        terminal.wrote(how, beginning);
    }
}

#[test]
fn sigterm_ends_it_cleanly() {
    let workspace = flagged();
    let mut terminal = review(&workspace);
    terminal.shows("page.jpg");
    terminal.signal(rustix::process::Signal::TERM);
    assert_eq!(terminal.ended(), 0);
    is_given_back(&terminal);
}

#[test]
fn a_panic_gives_the_terminal_back_and_is_told() {
    let workspace = flagged();
    let mut command = workspace.command(&["review", "--reviewer", "ana"]);
    command.env("MODTOOL_DEBUG_PANIC", "1");
    let mut terminal = Terminal::start(&command);
    terminal.shows("page.jpg");
    // The page of numbers is where a debug build panics when it is asked to.
    terminal.press("\t");
    assert_ne!(terminal.ended(), 0);
    is_given_back(&terminal);
    terminal.wrote("what happened is told", b"asked to panic");
}

#[test]
fn ctrl_z_goes_to_the_shell_and_fg_comes_back() {
    let workspace = flagged();
    let review = workspace.command(&["review", "--reviewer", "ana"]);
    // A shell with job control, as a person has it.
    let shell = workspace.bare(&[]);
    let words = std::iter::once(review.get_program()).chain(review.get_args());
    let quoted: Vec<_> = words.map(|word| format!("'{}'", word.to_str().expect("plain"))).collect();
    let script = format!("set -m; {}; echo STOPPED; read line; fg; echo ENDED", quoted.join(" "));
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &script]);
    for (name, value) in shell.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    command.current_dir(shell.get_current_dir().expect("a folder"));
    let mut terminal = Terminal::start(&command);
    terminal.shows("page.jpg");
    terminal.press("\x1a");
    terminal.shows("STOPPED");
    terminal.press("\r");
    terminal.shows("page.jpg");
    terminal.shows("1 of 1: documents");
    terminal.press("q");
    terminal.shows("ENDED");
    assert_eq!(terminal.ended(), 0);
}

#[test]
fn keys_of_the_settings_work_and_wrong_ones_are_told() {
    let workspace = flagged();
    let settings = workspace.path().join("modtool.yaml");
    std::fs::write(&settings, "review: {keys: {approve: y, remove: a}}\n").expect("written");
    let terminal = review(&workspace);
    terminal.shows("y approve");
    terminal.press("y");
    terminal.shows("approved page.jpg");
    drop(terminal);
    std::fs::write(&settings, "review: {keys: {approve: r}}\n").expect("written");
    let mut terminal = review(&workspace);
    assert_eq!(terminal.ended(), 78);
    terminal.shows("r would mean both approve and remove");
}

#[test]
fn pictures_are_found_by_a_description_and_decided() {
    let workspace = flagged();
    workspace
        .upload("meadow.png", super::support::pictures::png(&super::support::pictures::meadow(3)));
    workspace.scan().expect_code(1);
    let terminal = review(&workspace);
    terminal.shows("page.jpg");
    terminal.press("sgreen grass\r");
    terminal.shows("meadow.png");
    terminal.press("r");
    terminal.shows("Enter does it");
    terminal.press("\r");
    terminal.shows("removed");
    assert_eq!(state_of(&workspace, "meadow.png"), "closed");
}

#[test]
fn policies_that_are_saved_meanwhile_are_taken_over_and_broken_ones_are_told() {
    let workspace = flagged();
    let file = workspace.path().join("policies/documents.yaml");
    let good = std::fs::read_to_string(&file).expect("a policy");
    let terminal = review(&workspace);
    terminal.shows("1 of 1: documents");
    std::fs::write(&file, format!("{good}wrong_field: 1\n")).expect("written");
    terminal.shows("the policies are broken");
    std::fs::write(&file, format!("{good}\n# as before\n")).expect("written");
    terminal.shows("the policies were changed");
    // It still decides.
    terminal.press("a");
    terminal.shows("decided today 1");
}

#[test]
fn a_map_of_what_matters_lies_over_the_picture() {
    let workspace = flagged();
    let command = ["review", "--reviewer", "ana", "--pictures", "halfblocks"];
    let mut terminal = Terminal::start(&workspace.command(&command));
    terminal.shows("safe view");
    until("it is revealed", PATIENCE, || {
        terminal.press("v");
        terminal.screen().contains("safe view: full").then_some(())
    });
    assert!(!has_red(&terminal), "a page is black and white");
    terminal.press("h");
    terminal.shows("heatmap of documents, approximate");
    until("something is red", PATIENCE, || has_red(&terminal).then_some(()));
    terminal.press("h");
    terminal.shows("safe view: full");
    terminal.press("q");
    assert_eq!(terminal.ended(), 0);
}

/// Whether a cell of pure enough red was ever drawn.
fn has_red(terminal: &Terminal) -> bool {
    let output = String::from_utf8_lossy(&terminal.output()).into_owned();
    output.split("8;2;").skip(1).any(|colour| {
        let numbers = colour.split(|c: char| !c.is_ascii_digit());
        let numbers: Vec<i32> = numbers.take(3).filter_map(|number| number.parse().ok()).collect();
        matches!(numbers[..], [red, green, blue] if red > green + 100 && red > blue + 100)
    })
}
