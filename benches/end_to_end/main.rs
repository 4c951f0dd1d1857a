//! How fast `modtool scan` is, beside what the machine could do: `just bench`.
//!
//! The ideal is what the cores could do if they did nothing but hash, decode and encode:
//! `cores / (hash + decode + encode)`, the costs measured one by one, on one thread of a core while
//! the other cores measure theirs. Machines differ, and a shared one is faster in one minute than
//! in the next, so every scan has a reading of the ideal right before it and right after it, and
//! is compared with the mean of the two; `ratio` is the mean of a number of rounds, `low` and `high`
//! their range. `start` is what a scan of one picture takes in a new workspace (engine, model,
//! decoders, tables; the prompts were embedded on this machine before); `steady` is the ratio
//! without it, which is what a watcher does all day.
//!
//! `MODTOOL_BENCH_MODEL=FOLDER` measures with that model (a fifth of the small pictures then, and
//! ONNX Runtime only); `benches/models/make_models.py` and `modtool model add` make such folders.
//!
//! `--small` takes a tenth of the pictures, which shows that the benchmark works and little else;
//! `--large-pictures` only those of 12 megapixels, `--rounds 1` measures one round instead of five.
//!
//! `--encode cpu` or `--encode cuda` measures the image tower alone instead, in batches of several
//! sizes; `MODTOOL_BENCH_LIBRARY` names the ONNX Runtime to use.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is run by hand")]
#![expect(clippy::cast_precision_loss, reason = "figures for people")]

mod pictures;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use modtool::moderation::ItemId;
use modtool::vision::engine::{self, Device, EngineChoice, EngineOptions};
use modtool::vision::{Limits, Pixels, decode, model};

type Answer<T> = Result<T, Box<dyn Error>>;

/// Measure the bare costs with one engine: how this program calls itself.
const BARE: &str = "__bare-costs";

fn main() -> Answer<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--encode") {
        let on_gpu = arguments.get(at + 1).is_some_and(|device| device == "cuda");
        return encode_alone(if on_gpu { Device::Cuda } else { Device::Cpu });
    }
    if let Some(at) = arguments.iter().position(|argument| argument == BARE) {
        return bare_costs(&arguments[at + 1], Path::new(&arguments[at + 2]));
    }
    let rounds = match arguments.iter().position(|argument| argument == "--rounds") {
        Some(at) => arguments.get(at + 1).ok_or("--rounds takes a number")?.parse()?,
        None => ROUNDS,
    };
    compare(&|word| arguments.iter().any(|given| given == word), rounds)
}

/// The model to measure with; none: the built-in one.
fn bench_model() -> Option<PathBuf> {
    std::env::var_os("MODTOOL_BENCH_MODEL").map(PathBuf::from)
}

/// Pictures a second of the image tower: from prepared pixels to vectors.
fn encode_alone(device: Device) -> Answer<()> {
    let library = std::env::var_os("MODTOOL_BENCH_LIBRARY").map(PathBuf::from);
    let choice = EngineChoice::OnnxRuntime;
    let found = engine::choose(choice, library.as_deref(), &data_dir()?, &modtool_binary())?;
    let engine = engine::start(&found)?;
    let model = model_to_measure()?;
    println!("{} on {device:?}: pictures a second, by batch", model.card.name);
    for batch in [1, 8, 32, 128] {
        let encoder = engine::open(&model, &engine, EngineOptions { batch, device, threads: 0 })?;
        let pixels = noise(batch * encoder.lanes(), encoder.model().image.size);
        for _ in 0..3 {
            encoder.embed_images(&pixels)?;
        }
        let (start, mut count) = (Instant::now(), 0);
        while start.elapsed() < Duration::from_secs(3) {
            count += encoder.embed_images(&pixels)?.len();
        }
        println!("{batch:>4} {:>9.1}", count as f64 / start.elapsed().as_secs_f64());
    }
    Ok(())
}

/// Pictures without any pattern; xorshift32 (Marsaglia 2003) is random enough for that.
fn noise(count: usize, size: u32) -> Vec<Pixels> {
    let mut state: u32 = 1;
    let mut byte = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    let picture = |_| Pixels { size, rgb: (0..size * size * 3).map(|_| byte()).collect() };
    (0..count).map(picture).collect()
}

fn model_to_measure() -> Answer<model::Model> {
    Ok(match bench_model() {
        Some(folder) => model::load_dir(&folder)?,
        None => model::builtin::builtin()?,
    })
}

fn compare(asked_for: &dyn Fn(&str) -> bool, rounds: usize) -> Answer<()> {
    let with_model = bench_model().is_some();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-pictures");
    let share = if asked_for("--small") { 10 } else { 1 };
    let small_share = if with_model { 5 * share } else { share };
    let mut sets = vec![("12 megapixels", pictures::large(&folder, 200 / share)?)];
    if !asked_for("--large-pictures") {
        let small = pictures::small(&folder, 3000 / small_share)?;
        sets.insert(0, ("at most 1 megapixel", small));
    }
    let cores = std::thread::available_parallelism()?.get();
    println!("{cores} cores; pictures a second, and milliseconds of one core for each picture\n");
    println!(
        "{:<20} {:<12} {:>8} {:>8} {:>8} {:>6} {:>6} {:>6} {:>6} {:>7}   {:>6} {:>7} {:>7}   {:>9}",
        "set",
        "engine",
        "scan",
        "uncaged",
        "ideal",
        "ratio",
        "low",
        "high",
        "steady",
        "start s",
        "hash",
        "decode",
        "encode",
        "peak MiB"
    );
    let engines: &[_] = if with_model { &["onnxruntime"] } else { &["onnxruntime", "tract"] };
    for engine in engines {
        for (name, set) in &sets {
            let Some(row) = Row::measure(engine, set, rounds)? else {
                println!("{name:<20} {engine:<12} skipped: the engine was not found");
                continue;
            };
            row.print(name, engine)?;
        }
    }
    Ok(())
}

/// How often everything is measured, unless one says.
const ROUNDS: usize = 5;

/// What the rounds gave; rates in pictures a second.
#[derive(Debug, Default)]
struct Row {
    /// Readings of the ideal: one before the first scan, and one after each.
    bare: Vec<Bare>,
    caged: Vec<f64>,
    uncaged: Vec<f64>,
    /// Seconds of a scan of one picture.
    start: Vec<f64>,
    /// Rate of a scan, and without its start, as parts of the ideal around it.
    ratio: Vec<f64>,
    steady: Vec<f64>,
    /// The highest.
    peak_mib: f64,
}

impl Row {
    fn measure(engine: &str, set: &Path, rounds: usize) -> Answer<Option<Self>> {
        let (one, count) = (one_of(set)?, files_of(set)?.len() as f64);
        let mut row = Self::default();
        let Some(first) = bare_costs_on_every_core(engine, set)? else { return Ok(None) };
        row.bare.push(first);
        // The prompts are embedded once on a machine.
        scan(engine, tempfile::tempdir()?.path(), "required")?;
        for round in 0..rounds {
            let start = scan(engine, &one, "required")?.seconds;
            row.start.push(start);
            // Neither is always the first.
            let both = if round % 2 == 0 { ["required", "off"] } else { ["off", "required"] };
            for sandbox in both {
                let scan = scan(engine, set, sandbox)?;
                let after = bare_costs_on_every_core(engine, set)?.ok_or("the engine has gone")?;
                let before = row.bare[row.bare.len() - 1];
                row.bare.push(after);
                if sandbox == "off" {
                    row.uncaged.push(count / scan.seconds);
                    continue;
                }
                let ideal = Bare::mean_of(&[before, after]).ideal()?;
                row.caged.push(count / scan.seconds);
                row.ratio.push(count / scan.seconds / ideal);
                row.steady.push((count - 1.0) / (scan.seconds - start) / ideal);
                row.peak_mib = row.peak_mib.max(scan.peak_mib);
                eprintln!("  {:.1} beside {ideal:.1}", count / scan.seconds);
            }
        }
        Ok(Some(row))
    }

    fn print(&self, set: &str, engine: &str) -> Answer<()> {
        let mean = |numbers: &[f64]| average(numbers.iter().copied());
        let bare = Bare::mean_of(&self.bare);
        println!(
            "{set:<20} {engine:<12} {:>8.1} {:>8.1} {:>8.1} {:>6.2} {:>6.2} {:>6.2} {:>6.2} {:>7.2}   {:>6.2} {:>7.2} {:>7.2}   {:>9.0}",
            mean(&self.caged),
            mean(&self.uncaged),
            bare.ideal()?,
            mean(&self.ratio),
            self.ratio.iter().copied().fold(f64::INFINITY, f64::min),
            self.ratio.iter().copied().fold(0.0, f64::max),
            mean(&self.steady),
            mean(&self.start),
            bare.hash * 1e3,
            bare.decode * 1e3,
            bare.encode * 1e3,
            self.peak_mib
        );
        Ok(())
    }
}

fn average(numbers: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = numbers.len() as f64;
    numbers.sum::<f64>() / count
}

/// Seconds of one core for a picture, while every other core does the same.
#[derive(Debug, Clone, Copy)]
struct Bare {
    hash: f64,
    decode: f64,
    encode: f64,
}

/// Measured in as many processes as there are cores, at the same time: what a core can do while the
/// others rest is not what all of them can do. The mean; `None` when there is no such engine.
fn bare_costs_on_every_core(engine: &str, set: &Path) -> Answer<Option<Bare>> {
    let cores = std::thread::available_parallelism()?.get();
    let start = || {
        Command::new(std::env::current_exe()?)
            .args([BARE, engine])
            .arg(set)
            .stdout(Stdio::piped())
            .spawn()
    };
    let children: Vec<_> = (0..cores).map(|_| start()).collect::<Result<_, _>>()?;
    let mut bare = Vec::new();
    for child in children {
        let text = String::from_utf8(child.wait_with_output()?.stdout)?;
        let numbers: Vec<f64> =
            text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let [hash, decode, encode] = numbers[..] else { return Ok(None) };
        bare.push(Bare { hash, decode, encode });
    }
    Ok(Some(Bare::mean_of(&bare)))
}

impl Bare {
    /// Pictures a second of all cores, if they did nothing else.
    fn ideal(&self) -> Answer<f64> {
        let cores = std::thread::available_parallelism()?.get();
        Ok(cores as f64 / (self.hash + self.decode + self.encode))
    }

    fn mean_of(all: &[Self]) -> Self {
        Self {
            hash: average(all.iter().map(|bare| bare.hash)),
            decode: average(all.iter().map(|bare| bare.decode)),
            encode: average(all.iter().map(|bare| bare.encode)),
        }
    }
}

/// About how many pictures of a set the bare costs are measured with.
const SAMPLE: usize = 60;

/// Prints the three costs, or nothing when there is no such engine.
fn bare_costs(engine: &str, set: &Path) -> Answer<()> {
    let choice = if engine == "tract" { EngineChoice::Tract } else { EngineChoice::OnnxRuntime };
    let Ok(found) = engine::choose(choice, None, &data_dir()?, &modtool_binary()) else {
        return Ok(());
    };
    let options = EngineOptions { threads: 1, ..EngineOptions::default() };
    let model = model_to_measure()?;
    let encoder = engine::open(&model, &engine::start(&found)?, options)?;
    let all = files_of(set)?;
    // Enough for a stable mean, and it fits in memory. The step shares no factor with the cycles
    // of sizes and formats (5 and 10), so that the sample is made up like the set.
    let step = (1..=all.len() / SAMPLE).rev().find(|step| step % 2 != 0 && step % 5 != 0);
    let files: Vec<Vec<u8>> =
        all.iter().step_by(step.unwrap_or(1)).map(std::fs::read).collect::<Result<_, _>>()?;
    let (hash, _) = mean(&files, |bytes| ItemId::of_bytes(bytes));
    let (spec, limits) = (encoder.model().image.clone(), Limits::default());
    let (decode, views) = mean(&files, |bytes| decode::views(bytes, &spec, &limits));
    let mut pixels: Vec<Pixels> = Vec::new();
    for view in views {
        pixels.extend(view.map_err(|flaw| flaw.to_string())?.views);
    }
    encoder.embed_images(&pixels[..8.min(pixels.len())])?;
    let batches: Vec<&[Pixels]> = pixels.chunks(8).collect();
    let (batch, embedded) = mean(&batches, |batch| encoder.embed_images(batch));
    embedded.into_iter().collect::<Result<Vec<_>, _>>()?;
    let encode = batch * batches.len() as f64 / files.len() as f64;
    println!("{hash} {decode} {encode}");
    Ok(())
}

/// Mean seconds of one core for `work` over the items, and what it answered. Counted as the
/// system counts them for the whole process, because decoders may use threads of their own.
fn mean<T, U>(items: &[T], mut work: impl FnMut(&T) -> U) -> (f64, Vec<U>) {
    let start = core_seconds();
    let answers: Vec<U> = items.iter().map(&mut work).collect();
    ((core_seconds() - start) / items.len() as f64, answers)
}

/// `utime` and `stime` of proc(5), in ticks of a hundredth of a second.
fn core_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field is the name in brackets; the rest is numbers.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: Vec<f64> = fields.skip(11).take(2).flat_map(str::parse).collect();
    ticks.iter().sum::<f64>() / 100.0
}

struct Scan {
    seconds: f64,
    peak_mib: f64,
}

/// A folder with the first picture of a set. It stays: a file that was just written would be left
/// alone until it has settled.
fn one_of(set: &Path) -> Answer<PathBuf> {
    let folder = set.with_extension("one");
    std::fs::create_dir_all(&folder)?;
    let all = files_of(set)?;
    let first = all.first().ok_or("an empty set")?;
    let copy = folder.join(first.file_name().ok_or("a file has a name")?);
    if !copy.exists() {
        std::fs::copy(first, copy)?;
    }
    Ok(folder)
}

/// The real binary, in a new workspace. `sandbox` is how the decoder is locked in.
fn scan(engine: &str, set: &Path, sandbox: &str) -> Answer<Scan> {
    let workspace = tempfile::tempdir()?;
    std::fs::write(workspace.path().join("modtool.yaml"), format!("sandbox: {sandbox}\n"))?;
    let start = Instant::now();
    let mut child = Command::new(modtool_binary())
        .args(["scan", "--quiet", "--engine", engine, "--workspace"])
        .arg(workspace.path())
        .arg(set)
        .args(bench_model().iter().flat_map(|folder| ["--model".as_ref(), folder.as_os_str()]))
        .env("MODTOOL_DATA_DIR", data_dir()?)
        .stdout(Stdio::null())
        .spawn()?;
    let status_file = format!("/proc/{}/status", child.id());
    let mut peak_mib = 0.0;
    let ended = loop {
        if let Some(ended) = child.try_wait()? {
            break ended;
        }
        peak_mib = peak(&status_file).unwrap_or(peak_mib);
        std::thread::sleep(Duration::from_millis(20));
    };
    // 1: something was flagged, which is no failure here.
    if !matches!(ended.code(), Some(0 | 1)) {
        return Err(format!("modtool scan ended with {ended}").into());
    }
    Ok(Scan { seconds: start.elapsed().as_secs_f64(), peak_mib })
}

/// `VmHWM` of proc(5), in MiB.
fn peak(status_file: &str) -> Option<f64> {
    let status = std::fs::read_to_string(status_file).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}

fn files_of(set: &Path) -> Answer<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(set)? {
        files.push(entry?.path());
    }
    files.sort();
    Ok(files)
}

fn modtool_binary() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_modtool"))
}

/// Where `modtool runtime install` puts the library, so that it is found here too.
fn data_dir() -> Answer<PathBuf> {
    if let Some(dir) = std::env::var_os("MODTOOL_DATA_DIR") {
        return Ok(dir.into());
    }
    let home = std::env::var_os("HOME").ok_or("there is no HOME")?;
    Ok(Path::new(&home).join(".local/share/modtool"))
}
