//! One uploader against another: how long a picture waits while somebody else attacks the same
//! watcher, by three attacks. `cargo bench --bench fairness`; `MODTOOL_BENCH_BINARY` names another
//! binary to measure (the one before a change), `MODTOOL_BENCH_ENTRIES` another number of entries.
//!
//! The victim's pictures come one after another into a folder of their own. What each took is told
//! beside the same without an attack: the difference is what the attacker costs, and promised is at
//! most two seconds.

#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use std::fs::{self, File, FileTimes};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant, SystemTime};

use image::codecs::gif::GifEncoder;
use image::{Frame, ImageFormat, Rgb, RgbImage, RgbaImage};

/// What an attack may add to the time of another's picture.
const PROMISED: Duration = Duration::from_secs(2);
/// Pictures of the victim for each attack.
const PICTURES: u64 = 5;
/// Longer is as good as never.
const PATIENCE: Duration = Duration::from_mins(1);
const TOUCHED: usize = 1200;
const ANIMATIONS: usize = 150;

fn main() {
    // `cargo test --benches` only wants to know that it builds.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let entries = std::env::var("MODTOOL_BENCH_ENTRIES").ok().and_then(|text| text.parse().ok());
    let entries: usize = entries.unwrap_or(1_000_000);
    let alone = measure("nothing", |_| None);
    let mut kept = true;
    kept &= tell(alone, measure("1,200 touched files", |folder| Some(touched(folder))));
    kept &= tell(
        alone,
        measure("150 slow animations", |folder| {
            animations(folder);
            None
        }),
    );
    let words = format!("a folder of {entries} entries");
    kept &= tell(
        alone,
        measure(&words, |folder| {
            (0..entries).for_each(|n| drop(File::create(folder.join(format!("{n:07}.png")))));
            None
        }),
    );
    println!("{}", if kept { "kept" } else { "NOT KEPT" });
}

/// Whether the promise was kept.
fn tell(alone: Duration, attacked: Duration) -> bool {
    let more = attacked.saturating_sub(alone);
    println!(
        "    {:.1} s more than without; promised: {} s",
        more.as_secs_f64(),
        PROMISED.as_secs()
    );
    more <= PROMISED
}

/// The longest that one of the victim's pictures took, from its last byte to its verdict.
fn measure(attack: &str, begin: impl FnOnce(&Path) -> Option<Arc<AtomicBool>>) -> Duration {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let [eve, bob] = ["eve", "bob"].map(|name| dir.path().join("uploads").join(name));
    for folder in [&eve, &bob, &dir.path().join("workspace/policies")] {
        fs::create_dir_all(folder).expect("a folder");
    }
    let policy = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/documents.yaml");
    fs::copy(policy, dir.path().join("workspace/policies/documents.yaml")).expect("copied");
    fs::write(bob.join("first.png"), page(99)).expect("written");
    let (mut watcher, verdicts) = watch(dir.path());
    wait_for("first.png", &verdicts);
    let attacking = begin(&eve);
    let mut longest = Duration::ZERO;
    for n in 0..PICTURES {
        let name = format!("{n}.png");
        fs::write(bob.join(&name), page(n)).expect("written");
        let start = Instant::now();
        let came = wait_for(&name, &verdicts);
        longest = longest.max(start.elapsed());
        if !came {
            break;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    if let Some(attacking) = attacking {
        attacking.store(false, Ordering::Relaxed);
    }
    watcher.kill().expect("ended");
    watcher.wait().expect("ended");
    println!("{attack}: {:.1} s at most for another's picture", longest.as_secs_f64());
    longest
}

/// A watcher, and the paths that it says verdicts of.
fn watch(dir: &Path) -> (Child, Receiver<PathBuf>) {
    let binary = std::env::var_os("MODTOOL_BENCH_BINARY")
        .unwrap_or_else(|| env!("CARGO_BIN_EXE_modtool").into());
    let mut watcher = Command::new(binary)
        .args(["-q", "--engine", "tract", "watch", "uploads", "--format", "json"])
        .env("MODTOOL_DATA_DIR", dir.join("data"))
        .env("MODTOOL_WORKSPACE", dir.join("workspace"))
        .current_dir(dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the watcher starts");
    let lines = BufReader::new(watcher.stdout.take().expect("is piped")).lines();
    let (told, verdicts) = channel();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let verdict: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            let path = verdict["path"].as_str().unwrap_or_default().into();
            if told.send(path).is_err() {
                return;
            }
        }
    });
    (watcher, verdicts)
}

/// Whether the verdict came in time.
fn wait_for(name: &str, verdicts: &Receiver<PathBuf>) -> bool {
    let until = Instant::now() + PATIENCE;
    let mine = Path::new("bob").join(name);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match verdicts.recv_timeout(left) {
            Ok(path) if path.ends_with(&mine) => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
}

/// Files whose times are set anew faster than a file settles: half of them pictures by name.
fn touched(folder: &Path) -> Arc<AtomicBool> {
    let name = |n| folder.join(format!("{n}.{}", if n % 2 == 0 { "png" } else { "txt" }));
    let files: Vec<PathBuf> = (0..TOUCHED).map(name).collect();
    for path in &files {
        fs::write(path, b"x").expect("written");
    }
    let goes_on = Arc::new(AtomicBool::new(true));
    let until = Arc::clone(&goes_on);
    std::thread::spawn(move || {
        while until.load(Ordering::Relaxed) {
            for path in &files {
                // The folder goes when the measuring is over.
                let Ok(file) = File::options().write(true).open(path) else { return };
                #[expect(clippy::disallowed_methods, reason = "what `touch` sets")]
                let times = FileTimes::new().set_modified(SystemTime::now());
                file.set_times(times).expect("set");
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    });
    // All of them are known before the victim's first picture comes.
    std::thread::sleep(Duration::from_secs(3));
    goes_on
}

/// Small files that take long: hundreds of frames each.
fn animations(folder: &Path) {
    let mut bytes = Vec::new();
    let mut encoder = GifEncoder::new_with_speed(&mut bytes, 30);
    for n in 0..900_u32 {
        let stripe = n * 7 % 420;
        let pixel =
            |_, y| if (stripe..stripe + 12).contains(&y) { 200 } else { n.to_le_bytes()[0] };
        let frame = RgbaImage::from_fn(450, 440, |x, y| {
            let grey = pixel(x, y);
            image::Rgba([grey, grey, grey, 255])
        });
        encoder.encode_frame(Frame::new(frame)).expect("encoded");
    }
    drop(encoder);
    for n in 0..ANIMATIONS {
        // Different bytes, the same picture.
        let own = [&bytes[..], n.to_string().as_bytes()].concat();
        fs::write(folder.join(format!("{n}.gif")), own).expect("written");
    }
}

/// A picture of lines, another for each number.
fn page(seed: u64) -> Vec<u8> {
    let picture = RgbImage::from_fn(300, 400, |x, y| {
        let ink = y % 12 < 5 && (u64::from(x / 7 + y / 12) * 31 + seed) % 5 > 1;
        if ink { Rgb([20, 20, 20]) } else { Rgb([250, 250, 250]) }
    });
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Png).expect("encoded");
    bytes.into_inner()
}
