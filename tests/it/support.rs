//! What the tests share: a private workspace, pictures, odd files, waiting with a deadline.

pub mod fixtures;
pub mod font;
pub mod hub;
pub mod odd;
pub mod pictures;
pub mod terminal;
pub mod workspace;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Asks again and again until there is an answer.
///
/// # Panics
/// When there is none after `deadline`, saying what was waited for.
pub fn until<T>(what: &str, deadline: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < deadline, "{what}: not within {deadline:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Whether this is a long run (`just soak`, `just torture`), with numbers to match.
pub fn is_long() -> bool {
    std::env::var_os("MODTOOL_LONG").is_some()
}

/// How many kills a test takes: few with each change, in a long run many, or `MODTOOL_KILLS`.
pub fn kills(each_change: u32, long: u32) -> u32 {
    if !is_long() {
        return each_change;
    }
    let asked = std::env::var("MODTOOL_KILLS").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or(long)
}

/// What a test measured, for `docs/reliability.md`; shown by long runs.
pub fn report(line: &str) {
    if is_long() {
        // Nobody to tell is no reason to fail.
        let _ = writeln!(std::io::stderr(), "*** {line}");
    }
}

/// Says that a test proves nothing here, past the capturing of the test harness.
pub fn skipped(test: &str, why: &str) {
    // Nobody to tell is no reason to fail.
    let _ = writeln!(std::io::stderr(), "\n*** SKIPPED {test}: {why} ***");
}

/// All files below a folder, in no order; none where it does not exist.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files
}

/// The free photos that the project carries; `tests/data/photos/README.md` says whose they are.
pub fn photo(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/photos").join(name)
}

/// All of them: everyday things that no policy should flag.
pub const PHOTOS: &[&str] = &[
    "grapes-small.png",
    "jumper.jpg",
    "nectarines-progressive.jpg",
    "peaches.webp",
    "trousers.jpg",
];

/// The ids of the starter policies, which are the topics of the golden photos too.
pub const STARTER: [&str; 11] = [
    "alcohol",
    "crash",
    "documents",
    "fire",
    "gambling",
    "memes",
    "money",
    "pills",
    "screenshots",
    "smoking",
    "weapons",
];
