//! The walls between the rooms, as ARCHITECTURE.md draws them: who may import whom.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// What one room may use.
struct Row {
    room: &'static str,
    /// Other rooms.
    rooms: &'static [&'static str],
    /// Crates, besides those that any room may use.
    crates: &'static [&'static str],
    /// Crates that only some of its files may use: the beginning of the path below `src`.
    only_in: &'static [(&'static str, &'static [&'static str])],
}

/// Any room may use these.
const EVERYWHERE: &[&str] = &["thiserror", "tracing"];

const ALL_ROOMS: &[&str] = &[
    "cli",
    "config",
    "exit_code",
    "files",
    "ground",
    "moderation",
    "pipeline",
    "policy_file",
    "search",
    "store",
    "telemetry",
    "tui",
    "vision",
    "yaml_file",
];

/// The table. Rooms that are planned and not built yet have their row already.
const TABLE: &[Row] = &[
    // `globset`: the scope of a policy is a list of globs, and matching a path is no I/O.
    Row { room: "moderation", rooms: &[], crates: &["sha2", "half", "globset"], only_in: &[] },
    // One reader of YAML with limits and places, for policies, settings and manifests alike;
    // `strsim` finds the field that was meant.
    Row { room: "yaml_file", rooms: &[], crates: &["serde", "serde_yaml", "strsim"], only_in: &[] },
    Row {
        room: "policy_file",
        rooms: &["moderation", "yaml_file"],
        crates: &["serde", "serde_yaml"],
        only_in: &[],
    },
    // `nix`: users and groups; `rustix`: access control lists.
    Row { room: "ground", rooms: &["moderation"], crates: &["nix", "rustix"], only_in: &[] },
    // `ground`: libraries and models are loaded only where nobody else may write them.
    // `moxcms`: colour profiles; `modtool_jpeg`: our own decoder; `weezl`: unpacking GIFs; `sha2`: the hashes
    // in a manifest; `half`: networks and numbers in half precision.
    Row {
        room: "vision",
        rooms: &["ground", "moderation", "yaml_file"],
        crates: &[
            "ort",
            "ort_tract",
            "tokenizers",
            "image",
            "weezl",
            "modtool_jpeg",
            "fast_image_resize",
            "moxcms",
            "weezl",
            "ndarray",
            "rustix",
            "serde",
            "serde_yaml",
            "serde_json",
            "sha2",
            "half",
        ],
        only_in: &[
            // Packed colour profiles.
            ("vision/decode/colour", &["flate2"]),
            // Fetching models; small files of the Hub are told by their git hash.
            ("vision/model/hub", &["ureq", "sha1"]),
            // The walls around a decoding child.
            ("vision/sandbox/cage", &["landlock", "libc", "seccompiler"]),
            // Settings of this process that have no other door: its heap, how it is scheduled.
            ("vision/sandbox/process", &["libc"]),
        ],
    },
    // `sha2`: the hash that names a set of policies.
    Row {
        room: "store",
        rooms: &["moderation"],
        crates: &["sqlx", "tokio", "serde_json", "sha2"],
        only_in: &[],
    },
    // `half`: turning half precision into numbers with the vector instructions at hand.
    Row { room: "search", rooms: &["moderation"], crates: &[], only_in: &[] },
    // `rustix`: resolving a path without following links, files without a name, the kernel's
    // news; `sha2`: copies are compared by hash.
    Row { room: "files", rooms: &["moderation"], crates: &["rustix", "sha2"], only_in: &[] },
    // `rustix`: waiting for the kernel's news, what a test stops, errors by their number.
    Row {
        room: "pipeline",
        rooms: &["files", "moderation", "vision", "store"],
        crates: &["tokio", "rustix", "sha2"],
        // Hooks: the HTTP client, and the signature of what is sent. Quarantine: its manifest.
        // Elsewhere than on Linux the system's news come through `notify`.
        only_in: &[
            ("pipeline/act/hooks", &["ureq", "hmac"]),
            ("pipeline/act/manifest", &["serde_json", "base64"]),
            ("pipeline/watch/elsewhere", &["notify"]),
        ],
    },
    Row {
        room: "tui",
        rooms: &["moderation"],
        crates: &["ratatui"],
        only_in: &[("tui/view", &["ratatui_image"]), ("tui/keymap", &["crossterm"])],
    },
    Row { room: "cli", rooms: &[], crates: &["clap"], only_in: &[] },
    // `etcetera`: where the platform keeps a program's data.
    Row {
        room: "config",
        rooms: &["cli", "yaml_file"],
        crates: &["clap", "serde", "serde_yaml", "etcetera"],
        only_in: &[],
    },
    Row { room: "exit_code", rooms: &[], crates: &[], only_in: &[] },
    Row { room: "telemetry", rooms: &[], crates: &["tracing_subscriber", "jiff"], only_in: &[] },
    Row {
        room: "commands",
        rooms: ALL_ROOMS,
        crates: &[
            "anyhow",
            "indicatif",
            "tokio",
            "serde_json",
            "clap",
            "clap_complete",
            "jiff",
            "base64",
            "csv",
            "comfy_table",
            "rustix",
        ],
        only_in: &[
            // A suggestion is printed as a patch.
            ("commands/policy/suggest", &["similar"]),
            // The level of the log is a choice of the subcommand's.
            ("commands.rs", &["tracing_subscriber"]),
            // `sha2`: what was fetched is what was pinned.
            ("commands/runtime", &["zip", "tar", "flate2", "sha2"]),
            ("commands/heat", &["image"]),
            ("commands/review", &["ratatui", "ratatui_image", "crossterm", "image"]),
            ("commands/screen", &["ratatui", "ratatui_image", "crossterm", "image"]),
            ("commands/search", &["ratatui", "ratatui_image", "crossterm", "image"]),
        ],
    },
];

/// One file below `src`.
struct Source {
    /// Below `src`, with `/`.
    path: String,
    text: String,
    /// Without comments, and with empty strings.
    code: String,
}

impl Source {
    fn room(&self) -> &str {
        self.path.split('/').next().unwrap_or_default().trim_end_matches(".rs")
    }

    fn is_root(&self) -> bool {
        ["lib.rs", "main.rs"].contains(&self.path.as_str())
    }

    /// Tests are built with the development dependencies too.
    fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.contains("/tests/")
    }

    /// The code without a module of tests at the end.
    fn program(&self) -> &str {
        self.code.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default()
    }
}

#[test]
fn rooms_import_only_what_the_table_allows() {
    let crates = dependencies();
    let mut broken = String::new();
    for source in sources().iter().filter(|source| !source.is_root()) {
        let Some(row) = TABLE.iter().find(|row| row.room == source.room()) else { continue };
        for room in rooms_in(source) {
            if room != row.room && !row.rooms.contains(&room.as_str()) {
                writeln!(broken, "{}: {} may not import {room}", source.path, row.room)
                    .expect("a String takes every write");
            }
        }
        if source.is_test() {
            continue;
        }
        for name in crates_in(source.program(), &crates) {
            let here = |(place, names): &(&str, &[&str])| {
                source.path.starts_with(place) && names.contains(&name.as_str())
            };
            let allowed = EVERYWHERE.iter().chain(row.crates).any(|known| *known == name)
                || row.only_in.iter().any(here);
            if !allowed {
                writeln!(broken, "{}: {} may not use the crate {name}", source.path, row.room)
                    .expect("a String takes every write");
            }
        }
    }
    assert!(broken.is_empty(), "walls were broken:\n{broken}");
}

#[test]
fn every_room_has_a_row_and_stands_in_the_map() {
    let sources = sources();
    let rooms: BTreeSet<&str> =
        sources.iter().filter(|source| !source.is_root()).map(Source::room).collect();
    let map = &sources.iter().find(|source| source.path == "lib.rs").expect("src/lib.rs").code;
    for room in rooms {
        assert!(TABLE.iter().any(|row| row.room == room), "the room {room} has no row");
        assert!(map.contains(&format!("mod {room};")), "the room {room} is not in src/lib.rs");
    }
    for row in TABLE {
        for room in row.rooms {
            assert!(
                TABLE.iter().any(|row| row.room == *room),
                "{} names no room: {room}",
                row.room
            );
        }
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    for source in sources() {
        assert!(source.text.starts_with("//! "), "src/{} must begin with //!", source.path);
    }
}

#[test]
fn nobody_reaches_over_two_walls() {
    for source in sources() {
        assert!(
            !source.code.contains("super::super"),
            "src/{}: write crate::… instead of super::super",
            source.path
        );
    }
}

#[test]
fn rooms_are_name_rs_and_not_mod_rs() {
    for source in sources() {
        assert!(
            !source.path.ends_with("mod.rs"),
            "src/{} must be NAME.rs beside NAME/",
            source.path
        );
    }
}

#[test]
fn main_is_thin() {
    let main = sources().into_iter().find(|source| source.path == "main.rs").expect("src/main.rs");
    assert!(main.text.lines().count() < 40, "src/main.rs is for parsing and exiting");
}

/// No byte of an upload is parsed in a process that holds the database, the network, keys or the
/// terminal: outside their room, pictures are decoded by a pool of children alone.
#[test]
fn uploads_are_decoded_in_the_cage_only() {
    let mut broken = String::new();
    for source in sources() {
        if source.room() == "vision" || source.is_test() {
            continue;
        }
        for way in [
            "decode::views",
            "decode::reference_view",
            "decode::preview",
            "image::load_from",
            "image::open",
            "ImageReader",
        ] {
            if source.program().contains(way) {
                writeln!(broken, "src/{}: {way}", source.path).expect("a String takes every write");
            }
        }
    }
    assert!(broken.is_empty(), "use vision::DecoderPool instead:\n{broken}");
}

/// What the compiler can't check stands in one place.
#[test]
fn unsafe_code_is_in_the_cage_only() {
    for source in sources() {
        let in_cage = source.path.starts_with("vision/sandbox/");
        assert!(in_cage || !source.code.contains("unsafe"), "src/{} is unsafe", source.path);
        let reasons = source.code.matches("unsafe_code").count();
        let blocks = source.code.matches("unsafe {").count();
        assert_eq!(blocks, reasons, "src/{}: a reason for each unsafe block", source.path);
    }
}

/// The walls only hold while the reading of code works.
#[test]
fn the_reading_of_code_sees_imports_and_nothing_else() {
    let code = "use crate::{cli, config::Config};\nfn f() { crate::store::x(); sqlx::query(); }\n\
                // crate::tui\nconst T: &str = \"crate::vision csv::Writer\";\n\
                let c = '\"'; crate::search::y(r#\"crate::pipeline\"#); self::half::z();";
    let source = Source {
        path: "a/b.rs".into(),
        text: code.into(),
        code: without_comments_and_strings(code),
    };
    assert_eq!(rooms_in(&source), strings(&["cli", "config", "search", "store"]));
    assert_eq!(crates_in(&source.code, &strings(&["csv", "half", "sqlx"])), strings(&["sqlx"]));
    let top = Source { path: "store.rs".into(), ..source };
    assert!(rooms_in(&Source { code: "use super::tui::x;".into(), ..top }).contains("tui"));
}

fn strings(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for path in entries(&folder) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source file is UTF-8");
                let below = path.strip_prefix(&root).expect("below src");
                sources.push(Source {
                    path: below.to_string_lossy().replace('\\', "/"),
                    code: without_comments_and_strings(&text),
                    text,
                });
            }
        }
    }
    assert!(sources.len() > 30, "the sources were not found");
    sources
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder of sources");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

/// The names of all dependencies, as code spells them.
fn dependencies() -> BTreeSet<String> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let manifest = fs::read_to_string(manifest).expect("Cargo.toml");
    let sections = manifest.split("\n[").filter(|section| {
        // Those of one system alone too.
        let head = section.lines().next().unwrap_or_default();
        head == "dependencies]" || (head.starts_with("target.") && head.ends_with(".dependencies]"))
    });
    let names: BTreeSet<String> = sections
        .flat_map(str::lines)
        .filter_map(|line| Some(line.split_once(" = ")?.0.trim().replace('-', "_")))
        .filter(|name| !name.starts_with('#'))
        .collect();
    assert!(names.contains("sqlx") && names.contains("serde_yaml"), "{names:?}");
    names
}

/// The rooms that a file names, as `crate::room` or in `crate::{…}`; in a room's first file
/// `super` is the crate as well.
fn rooms_in(source: &Source) -> BTreeSet<String> {
    let code = source.code.as_str();
    let mut rooms = BTreeSet::new();
    let mut heads = vec!["crate::"];
    if !source.path.contains('/') {
        heads.push("super::");
    }
    for head in heads {
        for (start, _) in code.match_indices(head) {
            if begins_inside_a_word(code, start) {
                continue;
            }
            let rest = &code[start + head.len()..];
            let names = match rest.strip_prefix('{') {
                Some(list) => first_names_in_braces(list),
                None => vec![word_at(rest).to_owned()],
            };
            let is_room = |name: &String| {
                head == "crate::" || TABLE.iter().any(|row| row.room == name.as_str())
            };
            rooms.extend(names.into_iter().filter(is_room));
        }
    }
    rooms.remove("");
    rooms
}

/// The crates whose items code names, in `use` or in the middle of things.
fn crates_in(code: &str, crates: &BTreeSet<String>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (end, _) in code.match_indices("::") {
        let start = code[..end]
            .rfind(|c: char| !(c.is_alphanumeric() || c == '_'))
            .map_or(0, |before| before + code[before..].chars().next().map_or(1, char::len_utf8));
        let name = &code[start..end];
        let is_path_inside = code[..start].ends_with("::");
        if !is_path_inside && crates.contains(name) {
            found.insert(name.to_owned());
        }
    }
    for line in code.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("use ").and_then(|rest| rest.strip_suffix(';'))
            && crates.contains(name)
        {
            found.insert(name.to_owned());
        }
    }
    found
}

fn begins_inside_a_word(code: &str, start: usize) -> bool {
    code[..start].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
}

fn word_at(code: &str) -> &str {
    let end = code.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(code.len());
    &code[..end]
}

/// `a, b::{c, d}}` → a, b.
fn first_names_in_braces(list: &str) -> Vec<String> {
    let (mut depth, mut names, mut expects) = (0, Vec::new(), true);
    for (index, character) in list.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => expects = true,
            c if expects && depth == 0 && !c.is_whitespace() => {
                names.push(word_at(&list[index..]).to_owned());
                expects = false;
            }
            _ => {}
        }
    }
    names
}

/// Comments go, strings become empty, so that words in them are no code.
fn without_comments_and_strings(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(hashes) = raw_string_hashes(rest) {
            let close = format!("\"{}", "#".repeat(hashes));
            let open = hashes + 2;
            code.push_str("\"\"");
            rest[open..].find(&close).map_or(rest.len(), |end| open + end + close.len())
        } else if first == '"' {
            code.push_str("\"\"");
            string_length(rest)
        } else if first == '\'' {
            character_length(rest)
        } else {
            code.push(first);
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    code
}

/// `r#"` → 1. The letter before must not belong to a longer word; `br"` counts too.
fn raw_string_hashes(rest: &str) -> Option<usize> {
    let after = rest.strip_prefix('r')?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    after[hashes..].starts_with('"').then_some(hashes)
}

fn string_length(rest: &str) -> usize {
    let mut escaped = false;
    for (index, character) in rest.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return index + 1,
            _ => {}
        }
    }
    rest.len()
}

/// A character, or only the tick of a lifetime.
fn character_length(rest: &str) -> usize {
    let mut characters = rest.char_indices().skip(1);
    match characters.next() {
        Some((_, '\\')) => {
            let from = 3.min(rest.len());
            rest[from..].find('\'').map_or(1, |end| from + end + 1)
        }
        Some(_) => match characters.next() {
            Some((index, '\'')) => index + 1,
            _ => 1,
        },
        None => 1,
    }
}
