//! The decoder's cage: nothing gets out, and what happens to a child happens to one file.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use image::imageops::{FilterType, resize};
use modtool::moderation::Uploader;
use modtool::vision::decode::{self, Crash, Flaw, Limits, Lost};
use modtool::vision::preprocess::{ImageSpec, Resample, Resize};
use modtool::vision::sandbox::{Attack, ChildRole, SandboxError};
use modtool::vision::{DecoderPool, SandboxMode};

use crate::support::odd::{animated_gif, cmyk_jpeg, deep_png, png_header, transparent_png};
use crate::support::pictures::{encoded, jpeg, meadow, noise, page, png};

pub fn pool(limits: Limits) -> DecoderPool {
    let program = Path::new(env!("CARGO_BIN_EXE_modtool"));
    DecoderPool::start(program, SandboxMode::Required, limits).expect("the cage holds")
}

pub fn spec() -> ImageSpec {
    ImageSpec {
        size: 96,
        shortest_edge: 110,
        resize: Resize::Stretch,
        resample: Resample::Bicubic,
        mean: [0.5; 3],
        std: [0.5; 3],
    }
}

#[test]
fn every_way_out_is_shut() {
    let pool = pool(Limits::default());
    let cage = pool.cage();
    assert_eq!((cage.stopped.as_slice(), cage.open.as_slice()), (&Attack::ALL[..], &[][..]));
    if cage.landlock == 0 {
        crate::support::skipped("the second wall", "this kernel has no Landlock");
    }
    let words = cage.to_string();
    assert!(words.starts_with("7 of 7 ways out are shut"), "{words}");
}

/// The self-test is worth something only when it sees an open cage: without one, a child does
/// what it is told.
#[test]
fn an_open_cage_is_seen() {
    // A program that ignores its role and ends well: as if every attack had come back.
    let open = Path::new("/bin/true");
    let refused = DecoderPool::start(open, SandboxMode::Required, Limits::default());
    let Err(SandboxError::BrokenCage(through)) = refused else { panic!("{refused:?}") };
    assert_eq!(through, Attack::ALL);
    let error = SandboxError::BrokenCage(through).to_string();
    assert!(
        error.contains("open, connect, execve, fork") && error.contains("best-effort"),
        "{error}"
    );
    // One that can't even be locked in.
    let refused =
        DecoderPool::start("/bin/false".as_ref(), SandboxMode::Required, Limits::default());
    assert!(matches!(refused, Err(SandboxError::NotLocked(_))), "{refused:?}");
    let refused = DecoderPool::start("/nowhere".as_ref(), SandboxMode::Required, Limits::default());
    assert!(matches!(refused, Err(SandboxError::Start(_))), "{refused:?}");
    // As far as the system goes is further than nowhere; decoding then fails for another reason.
    let pool = DecoderPool::start(open, SandboxMode::BestEffort, Limits::default());
    let pool = pool.expect("best effort goes on");
    assert_eq!(pool.cage().open, Attack::ALL);
    let answer = pool.views(&png(&noise(1)), &spec(), &Uploader::Operator);
    assert!(matches!(answer, Err(SandboxError::NotReady(_))), "{answer:?}");
}

#[test]
fn roles_read_back() {
    for role in [ChildRole::Decode, ChildRole::DecodeAtBest]
        .into_iter()
        .chain(Attack::ALL.map(ChildRole::Attack))
        .chain(Attack::ALL.map(ChildRole::AttackLandlock))
    {
        assert_eq!(ChildRole::parse(&role.word()), Some(role));
    }
    assert_eq!(ChildRole::parse("attack"), None);
}

/// A child answers what the same decoders answer here, whatever the file.
#[test]
fn a_child_answers_what_the_decoder_says() {
    let limits = patient();
    let pool = pool(limits.clone());
    let large = resize(&meadow(1), 2_400, 1_800, FilterType::Triangle);
    let small = |seed| resize(&page(seed), 120, 160, FilterType::Triangle);
    let files = [
        png(&page(1)),
        jpeg(&meadow(1)),
        jpeg(&large),
        deep_png(&noise(1)),
        transparent_png(&page(2)),
        animated_gif(&[small(1), small(2), small(3)]),
        cmyk_jpeg(16, |x, _| [0, x.try_into().unwrap_or(255), 255, 255]),
        encoded(&image::DynamicImage::ImageRgb8(noise(2)), image::ImageFormat::WebP),
        Vec::new(),
        b"no picture".to_vec(),
        b"\0\0\0\x18ftypheic\0\0\0\0".to_vec(),
        png_header(100_000, 100_000),
        png_header(64, 64),
        jpeg(&meadow(1))[..5_000].to_vec(),
    ];
    for (index, bytes) in files.iter().enumerate() {
        for spec in [spec(), ImageSpec { resize: Resize::ShortestEdgeCrop, size: 32, ..spec() }] {
            let child = pool.views(bytes, &spec, &Uploader::Operator).expect("a decoder");
            assert_eq!(child, decode::views(bytes, &spec, &limits), "file {index}");
            let child = pool.reference_view(bytes, &spec, &Uploader::Operator).expect("a decoder");
            assert_eq!(child, decode::reference_view(bytes, &spec, &limits), "file {index}");
        }
        let child = pool.preview(bytes, 300, 200, &Uploader::Operator).expect("a decoder");
        assert_eq!(child, decode::preview(bytes, &limits, 300, 200), "file {index}");
    }
    let few = Limits { file_bytes: 10, ..patient() };
    let refused =
        self::pool(few).views(&files[0], &spec(), &Uploader::Operator).expect("a decoder");
    assert!(matches!(refused, Err(Flaw::TooManyBytes { limit: 10, .. })), "{refused:?}");
}

/// Times that hold on a machine that does ten other things.
fn patient() -> Limits {
    Limits { computing_seconds: 60, wall_seconds: 300, ..Limits::default() }
}

/// Whoever takes a child over without a sign whitens their own pictures at most.
#[test]
fn a_child_sees_the_files_of_one_uploader_only() {
    let pool = pool(patient());
    let good = png(&page(1));
    let expected = decode::views(&good, &spec(), &Limits::default());
    let uploader = |name: &str| Uploader::Folder(name.into());
    let seen =
        |bytes: &[u8], name: &str| pool.views(bytes, &spec(), &uploader(name)).expect("a decoder");
    assert_eq!(seen(&good, "bob"), expected);
    // Not a picture, so there is no answer to whiten yet.
    assert!(seen(b"modtool test: take over", "eve").is_err());
    let white = seen(&good, "eve").expect("a picture");
    assert!(white.views.iter().all(|view| view.rgb.iter().all(|part| *part == 255)));
    for round in 0..40 {
        let name = format!("uploader {}", round % 20);
        assert_eq!(seen(&good, &name), expected, "{name}");
        assert_eq!(seen(&good, "bob"), expected);
    }
}

/// Promise P4. The files ask a child of a build for development to fail; the failures are real.
#[test]
fn a_child_that_is_lost_costs_its_file_and_nothing_else() {
    let pool = Arc::new(pool(Limits { computing_seconds: 3, ..patient() }));
    let good = png(&page(1));
    let expected = decode::views(&good, &spec(), &Limits::default());
    // Others go on meanwhile.
    let beside = {
        let (pool, good, expected) = (Arc::clone(&pool), good.clone(), expected.clone());
        std::thread::spawn(move || {
            for _ in 0..300 {
                assert_eq!(
                    pool.views(&good, &spec(), &Uploader::Operator).expect("a decoder"),
                    expected
                );
            }
        })
    };
    let lost_on = |pool: &DecoderPool, wish: &str| {
        let answer =
            pool.views(format!("modtool test: {wish}").as_bytes(), &spec(), &Uploader::Operator);
        let Err(Flaw::Crashed(Crash { attempts: 3, how })) = answer.expect("a decoder") else {
            panic!("{wish} was survived, or given up too early")
        };
        how
    };
    for (wish, how) in [
        ("abort", Lost::Signal(6)),
        ("overflow", Lost::Signal(6)),
        ("garble", Lost::Garbled),
        ("open", Lost::BrokeRules),
        ("compute", Lost::ComputedTooLong),
    ] {
        assert_eq!(lost_on(&pool, wish), how, "{wish}");
        assert_eq!(
            pool.views(&good, &spec(), &Uploader::Operator).expect("a decoder"),
            expected,
            "after {wish}"
        );
    }
    // Taking so much memory may take longer than it may compute.
    let how = lost_on(&pool, "allocate");
    assert!(matches!(how, Lost::Signal(6) | Lost::ComputedTooLong), "{how:?}");
    let impatient = self::pool(Limits { wall_seconds: 2, ..patient() });
    assert_eq!(lost_on(&impatient, "sleep"), Lost::TimedOut(2));
    beside.join().expect("the others were not disturbed");
    let words = Flaw::Crashed(Crash { attempts: 3, how: Lost::Signal(6) }).to_string();
    assert_eq!(words, "the decoder failed on it 3 times: it was ended by signal 6");
}

/// What the cage costs, as a ratio in one run; nothing is asserted about speed.
#[test]
fn the_cost_of_the_cage_is_told() {
    if !crate::support::is_long() {
        return;
    }
    let limits = patient();
    let pool = pool(limits.clone());
    let large = resize(&meadow(3), 4_000, 3_000, FilterType::Triangle);
    for (name, bytes, count) in
        [("0.5 megapixel PNG", png(&page(1)), 400), ("12 megapixel JPEG", jpeg(&large), 40)]
    {
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        let measured = |decode: &(dyn Fn() + Sync)| {
            let start = std::time::Instant::now();
            std::thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(|| (0..count).for_each(|_| decode()));
                }
            });
            start.elapsed().as_secs_f64()
        };
        let inside = || assert!(decode::views(&bytes, &spec(), &limits).is_ok());
        let caged = || {
            assert!(
                pool.views(&bytes, &spec(), &Uploader::Operator).is_ok_and(|answer| answer.is_ok())
            );
        };
        // Twice each, the better one counts: the machine does other things too.
        let (a, b) = (measured(&inside), measured(&caged));
        let (a, b) = (a.min(measured(&inside)), b.min(measured(&caged)));
        crate::support::report(&format!(
            "cage: {name}, {} KiB: decoding in children takes {:.1} % longer",
            bytes.len() >> 10,
            (b / a - 1.0) * 100.0
        ));
    }
}

#[test]
fn decoding_can_be_called_off() {
    let pool = Arc::new(pool(Limits::default()));
    let asked = Arc::clone(&pool);
    let asking = std::thread::spawn(move || {
        asked.views(b"modtool test: sleep", &spec(), &Uploader::Operator)
    });
    std::thread::sleep(Duration::from_millis(300));
    assert!(!asking.is_finished());
    pool.call_off();
    let answer = asking.join().expect("no panic");
    assert!(matches!(answer, Err(SandboxError::CalledOff)), "{answer:?}");
}
