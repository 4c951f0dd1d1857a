//! What people's viewers show is what is judged: pictures of all the kinds that decoders disagree
//! about, drawn by `tests/viewers/draw.py`, decoded in the cage and beside it by reference programs.
//!
//! Everything that the reference shows must be among the views, or a person must be asked (a flaw, or
//! a doubt). What people's programs usually write must be among the views without any doubt.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use modtool::moderation::Uploader;
use modtool::vision::DecoderPool;
use modtool::vision::decode::{Limits, Views};
use modtool::vision::preprocess::{ImageSpec, Resample};

use crate::sandbox::pool;
use crate::support::skipped;

/// So many pictures in CI; `just viewers` sets `MODTOOL_VIEWERS` to more.
const PICTURES: u32 = 1_500;

/// The mean difference of a channel at the model's size, of 255, up to which two pictures are one:
/// rounding of decoders, colour arithmetic and resizing.
const ROUNDING: f64 = 2.5;

/// Programs beside Pillow; what each shows of a picture lies beside it under the program's name.
const PROGRAMS: [&str; 4] = ["browser", "djpeg", "dwebp", "gif2rgb"];

/// What came of the pictures of one kind.
#[derive(Debug, Default)]
struct Tally {
    same: u32,
    asked: BTreeMap<String, u32>,
    wrong: Vec<String>,
}

#[test]
fn what_viewers_show_is_judged_or_a_person_is_asked() {
    let Some(python) = python() else {
        skipped("the comparison with viewers", "no Python with Pillow; run .ci/viewers");
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let count = setting("MODTOOL_VIEWERS").and_then(|count| count.parse().ok()).unwrap_or(PICTURES);
    let seed = setting("MODTOOL_VIEWERS_SEED").unwrap_or_else(|| "1".to_owned());
    let drawn = Command::new(&python)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/viewers/draw.py"))
        .arg(folder.path())
        .args([count.to_string(), seed])
        .output()
        .expect("Python runs");
    assert!(drawn.status.success(), "{}", String::from_utf8_lossy(&drawn.stderr));
    if setting("MODTOOL_VIEWERS_PROGRAMS").is_some() {
        show_elsewhere(&python, folder.path());
    }

    let pool = pool(Limits::default());
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    for path in pictures(folder.path()) {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let kind = name.split(' ').next().unwrap_or_default().to_owned();
        let tally = tallies.entry(kind.clone()).or_default();
        let usual = kind.ends_with('!');
        match compare(&pool, &path) {
            Ok(()) => tally.same += 1,
            Err(Difference::Asked(why)) if !usual => *tally.asked.entry(why).or_default() += 1,
            Err(Difference::Asked(why)) => {
                tally.wrong.push(format!("{name}: asks a person: {why}"));
            }
            Err(Difference::Unseen(distance)) => {
                tally
                    .wrong
                    .push(format!("{name}: what is shown is not judged ({distance:.1} away)"));
            }
        }
    }
    let report = report(&tallies);
    if setting("MODTOOL_VIEWERS").is_some() {
        // Nobody to tell is no reason to fail.
        let _ = writeln!(std::io::stderr(), "{report}");
    }
    if let Some(kept) = setting("MODTOOL_VIEWERS_KEEP") {
        keep(folder.path(), Path::new(&kept), &tallies);
    }
    let wrong: usize = tallies.values().map(|tally| tally.wrong.len()).sum();
    assert_eq!(wrong, 0, "{report}");
}

fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The stills as other programs show them; one that is not installed is named.
fn show_elsewhere(python: &Path, folder: &Path) {
    for script in ["tests/viewers/browser.py", "tests/viewers/programs.py"] {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
        let shown = Command::new(python).arg(script).arg(folder).output().expect("Python runs");
        for why in String::from_utf8_lossy(&shown.stderr).lines() {
            skipped("a comparison with viewers", why);
        }
    }
}

/// The one that .ci/viewers made, or the system's if it has Pillow.
fn python() -> Option<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/viewers/bin/python");
    [own, PathBuf::from("python3")].into_iter().find(|python| {
        let asked = Command::new(python).args(["-c", "from PIL import Image, ImageCms"]).output();
        asked.is_ok_and(|asked| asked.status.success())
    })
}

fn pictures(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("the folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let drawn = |path: &PathBuf| {
        let extension = path.extension().unwrap_or_default();
        extension != "seen" && !PROGRAMS.iter().any(|program| extension == *program)
    };
    let mut paths: Vec<_> = paths.filter(drawn).collect();
    paths.sort();
    assert!(!paths.is_empty(), "nothing was drawn");
    paths
}

/// How modtool's answer is another one than the reference's.
enum Difference {
    /// A person is asked, with these words.
    Asked(String),
    /// Nobody is, and something that is shown is so far from all that is judged.
    Unseen(f64),
}

fn compare(pool: &DecoderPool, path: &Path) -> Result<(), Difference> {
    let bytes = std::fs::read(path).expect("it was drawn");
    let views = pool.views(&bytes, &spec(), &Uploader::Operator).expect("a decoder");
    let views = views.map_err(|flaw| Difference::Asked(words(&flaw.to_string())))?;
    let mut readings = readings(&std::fs::read(beside(path, "seen")).expect("it was drawn"));
    for program in PROGRAMS {
        if let Ok(shown) = std::fs::read(beside(path, program)) {
            // Over white alone: a page is white behind its pictures, and the others' have no alpha,
            // or the same.
            readings.extend(self::readings(&shown).into_iter().take(1));
        }
    }
    let furthest = readings.iter().map(|reading| distance(&views, reading)).fold(0.0, f64::max);
    if let Some(doubt) = views.facts.doubts.iter().next() {
        return Err(Difference::Asked(doubt.words().to_owned()));
    }
    if furthest > ROUNDING { Err(Difference::Unseen(furthest)) } else { Ok(()) }
}

/// What the reference programs made of it lies beside it.
fn beside(path: &Path, program: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(program);
    name.into()
}

/// Without what differs from file to file.
fn words(flaw: &str) -> String {
    flaw.split(':').next().unwrap_or_default().chars().filter(|c| !c.is_ascii_digit()).collect()
}

fn spec() -> ImageSpec {
    let resample = Resample::Bilinear;
    ImageSpec { size: 48, shortest_edge: 48, resample, ..crate::sandbox::spec() }
}

/// What the reference shows, over white and over black, at the model's size.
fn readings(seen: &[u8]) -> Vec<Vec<u8>> {
    let number = |at: usize| u32::from_le_bytes(seen[at..at + 4].try_into().expect("four bytes"));
    let (mut at, mut squares) = (4, Vec::new());
    for _ in 0..number(0) {
        let (width, height) = (number(at), number(at + 4));
        let length = (width * height * 4) as usize;
        let rgba = &seen[at + 8..at + 8 + length];
        at += 8 + length;
        for background in [255_u32, 0] {
            let over = |pixel: &[u8; 4]| {
                let alpha = u32::from(pixel[3]);
                let shown =
                    |value: u8| (u32::from(value) * alpha + background * (255 - alpha) + 127) / 255;
                [pixel[0], pixel[1], pixel[2]]
                    .map(|value| u8::try_from(shown(value)).expect("a mean"))
            };
            let rgb: Vec<u8> = rgba.as_chunks::<4>().0.iter().flat_map(over).collect();
            squares.push(spec().prepare(width, height, &rgb).expect("pixels").rgb);
        }
    }
    squares
}

/// To the view that is nearest: the mean difference of a channel.
fn distance(views: &Views, reading: &[u8]) -> f64 {
    let apart = |view: &[u8]| {
        let sum: u64 = view.iter().zip(reading).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let mean = sum as f64 / reading.len() as f64;
        mean
    };
    views.views.iter().map(|view| apart(&view.rgb)).fold(f64::INFINITY, f64::min)
}

fn report(tallies: &BTreeMap<String, Tally>) -> String {
    let mut report = String::new();
    for (kind, tally) in tallies {
        let asked: u32 = tally.asked.values().sum();
        let _ = writeln!(
            report,
            "{kind:16} {:5} the same {asked:5} to a person {:5} wrong",
            tally.same,
            tally.wrong.len()
        );
        for (why, count) in &tally.asked {
            let _ = writeln!(report, "{count:28} {why}");
        }
        for wrong in tally.wrong.iter().take(5) {
            let _ = writeln!(report, "    {wrong}");
        }
    }
    report
}

/// Copies what went wrong, for a closer look.
fn keep(from: &Path, to: &Path, tallies: &BTreeMap<String, Tally>) {
    std::fs::create_dir_all(to).expect("the folder can be made");
    for wrong in tallies.values().flat_map(|tally| &tally.wrong) {
        let name = wrong.split(':').next().unwrap_or_default();
        let of_program = |program: &&str| format!("{name}.{program}");
        let beside = PROGRAMS.iter().chain(&["seen"]).map(of_program);
        for name in beside.chain([name.to_owned()]) {
            // Not everything is shown by every program.
            let _ = std::fs::copy(from.join(&name), to.join(&name));
        }
    }
}
