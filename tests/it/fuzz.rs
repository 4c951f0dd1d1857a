//! Any bytes at all, where bytes of strangers and slips of the keyboard come in. `just fuzz` gives
//! each of these an hour's worth of cases (`PROPTEST_CASES`).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use modtool::moderation::Sighting;
use modtool::moderation::escape::{escape, escape_lines, escape_path, is_unprintable};
use modtool::policy_file::{self, Defaults};
use modtool::vision::decode::{Limits, preview, sniff, views};
use proptest::prelude::*;

use crate::sandbox::spec;

/// First bytes that lead somewhere.
fn beginnings() -> impl Strategy<Value = Vec<u8>> {
    let magic: [&[u8]; 10] = [
        b"\xff\xd8\xff\xe0",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x08\0\0\0\x08\x08\x06\0\0\0",
        b"GIF89a\x08\0\x08\0\x80\0\0\0\0\0\xff\xff\xff\x2c\0\0\0\0\x08\0\x08\0\0\x02",
        b"RIFF\x40\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0\x07\0\0\x07\0\0ANMF",
        b"RIFF\x40\0\0\0WEBPVP8L\x20\0\0\0\x2f",
        b"RIFF\x40\0\0\0WEBPVP8 \x20\0\0\0",
        b"\0\0\0\x18ftyp",
        b"<?xml ",
        b"P6\n",
        b"",
    ];
    (prop::sample::select(magic.to_vec()), prop::collection::vec(any::<u8>(), 0..300))
        .prop_map(|(magic, rest)| [magic, &rest].concat())
}

/// A policy's file with lines taken from several, some of them damaged.
fn policies() -> impl Strategy<Value = String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let texts: Vec<String> = std::fs::read_dir(folder)
        .expect("the starter policies")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| std::fs::read_to_string(path).expect("UTF-8"))
        .collect();
    let lines: Vec<String> =
        texts.iter().flat_map(|text| text.lines()).map(str::to_owned).collect();
    let odd = prop_oneof![
        prop::sample::select(lines),
        any::<String>(),
        Just("&a [*a, *a]".to_owned()),
        Just("  thresholds: {review: .nan, block: -1e999}".to_owned()),
        "[a-z]{1,9}: [{\\[]{0,40}",
    ];
    prop::collection::vec(odd, 0..30).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #[test]
    fn sniffing_never_fails_and_knows_what_it_says(bytes in beginnings()) {
        if let Some(format) = sniff(&bytes) {
            prop_assert!(!format.is_empty() && !format.chars().any(is_unprintable));
            // The decision does not hang on what comes later.
            prop_assert_eq!(sniff(&bytes[..bytes.len().min(1024)]), Some(format));
        }
    }

    #[test]
    fn decoders_answer_whatever_they_are_given(bytes in beginnings()) {
        let limits = Limits { megapixels: 1, animation_megapixels: 2, ..Limits::default() };
        match views(&bytes, &spec(), &limits) {
            Ok(views) => prop_assert!(!views.views.is_empty()),
            Err(flaw) => prop_assert!(!flaw.to_string().is_empty()),
        }
        if let Ok(picture) = preview(&bytes, &limits, 40, 30) {
            prop_assert!(picture.width() <= 40 && picture.height() <= 30);
        }
    }

    #[test]
    fn a_policy_is_read_or_every_problem_has_a_place(text in policies()) {
        let file = Path::new("policies/fuzz.yaml");
        if let Err(problems) = policy_file::parse(file, &text, &Defaults::default()) {
            prop_assert!(!problems.is_empty());
            for problem in problems {
                prop_assert_eq!(problem.file.as_path(), file);
                prop_assert!(!problem.to_string().chars().any(|c| c != '\n' && is_unprintable(c)));
            }
        }
    }

    #[test]
    fn nothing_that_a_terminal_obeys_is_left(bytes: Vec<u8>) {
        let path = PathBuf::from(OsStr::from_bytes(&bytes));
        for said in [escape(&bytes), escape_path(&path)] {
            prop_assert!(!said.chars().any(is_unprintable));
        }
        let lines = escape_lines(&String::from_utf8_lossy(&bytes));
        prop_assert!(!lines.chars().any(|c| c != '\n' && is_unprintable(c)));
    }

    /// A policy's scope is matched against the path below the folder: never a way out of it.
    #[test]
    fn the_path_below_a_folder_stays_below_it(name in prop::collection::vec(1_u8..=255, 1..60)) {
        let root = PathBuf::from("/srv/uploads");
        let sighting = Sighting { path: root.join(OsStr::from_bytes(&name)), root };
        // Every file has a name; `/` and `..` have none.
        prop_assume!(sighting.path.file_name().is_some());
        let below = sighting.below();
        let climbs = |path: &Path| path.components().any(|part| part == Component::RootDir);
        prop_assert!(!climbs(below), "{below:?}");
        prop_assert!(!below.as_os_str().is_empty());
    }
}
