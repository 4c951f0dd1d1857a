//! One model over many pictures, in a process of its own: so its memory is its own too.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum as _};
use serde_json::{Value, json};

use crate::commands::output::json_line;
use crate::commands::workspace;
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::moderation::Outcome;
use crate::moderation::escape::escape_lines;
use crate::pipeline::judge_named;

use crate::commands::progress::pictures_bar;

/// Judge the pictures named on standard input, one JSON object each
#[derive(Debug, Args)]
pub(crate) struct JudgeArgs {}

/// What a model said, and what it cost.
pub(super) struct Measured {
    pub(super) model: String,
    pub(super) fingerprint: String,
    pub(super) engine: String,
    /// For each picture the policies' scores, in the policies' order; `None` for a picture that
    /// can't be judged, or out of a policy's scope.
    pub(super) pictures: Vec<Vec<Option<Scored>>>,
    pub(super) start_seconds: f64,
    pub(super) pictures_per_second: f64,
    /// Peak of resident memory, where the system tells it.
    pub(super) peak_bytes: Option<u64>,
}

/// What a policy says of a picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scored {
    pub(super) score: f32,
    pub(super) flagged: bool,
}

/// Runs a model over the pictures, in a child.
pub(super) fn measure(
    config: &Config,
    model: &str,
    pictures: &[PathBuf],
) -> anyhow::Result<Measured> {
    let mut child = command(config, model)?
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("can't start this program again")?;
    let mut stdin = child.stdin.take().context("the child has no input")?;
    let named: Vec<u8> = pictures
        .iter()
        .flat_map(|path| [path.as_os_str().as_encoded_bytes(), b"\0"].concat())
        .collect();
    // Beside the reading: the names may be more than a pipe holds. A child that is gone says why.
    let writer = std::thread::spawn(move || stdin.write_all(&named));
    let mut complaint = child.stderr.take().context("the child has no output")?;
    let listener = std::thread::spawn(move || {
        let mut text = String::new();
        // What was read until an error is good enough for a message.
        let _ = complaint.read_to_string(&mut text);
        text
    });
    let out = BufReader::new(child.stdout.take().context("the child has no output")?);
    let bar = pictures_bar(model, pictures.len() as u64);
    let mut lines = Vec::with_capacity(pictures.len() + 1);
    for line in out.lines() {
        lines.push(serde_json::from_str::<Value>(&line?)?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    // It fails only when the child ended early, which is told below.
    let _ = writer.join();
    let said = listener.join().unwrap_or_default();
    let status = child.wait()?;
    let Some(end) = lines.pop().filter(|end| status.success() && end["end"] == true) else {
        let said = escape_lines(said.trim());
        bail!("{}", if said.is_empty() { format!("it ended with {status}") } else { said });
    };
    for line in said.lines() {
        tracing::warn!("{}", escape_lines(line));
    }
    let text = |field: &str| end[field].as_str().unwrap_or_default().to_owned();
    Ok(Measured {
        model: text("model"),
        fingerprint: text("fingerprint"),
        engine: text("engine"),
        pictures: lines.iter().map(scores_of).collect(),
        start_seconds: end["start_seconds"].as_f64().unwrap_or_default(),
        pictures_per_second: end["pictures_per_second"].as_f64().unwrap_or_default(),
        peak_bytes: end["peak_bytes"].as_u64(),
    })
}

fn scores_of(line: &Value) -> Vec<Option<Scored>> {
    let policies = line["policies"].as_array().map(Vec::as_slice).unwrap_or_default();
    let one = |policy: &Value| {
        #[expect(clippy::cast_possible_truncation, reason = "it was printed from an f32")]
        let score = policy["score"].as_f64()? as f32;
        Some(Scored { score, flagged: policy["flagged"].as_bool()? })
    };
    policies.iter().map(one).collect()
}

/// The same settings with another model.
fn command(config: &Config, model: &str) -> anyhow::Result<Command> {
    let ourselves = std::env::current_exe().context("can't find the path of this program")?;
    let mut command = Command::new(ourselves);
    command.arg("--workspace").arg(&config.workspace);
    command.arg("--data-dir").arg(&config.data_dir);
    let engine = config.engine.engine.to_possible_value();
    command.arg("--engine").arg(engine.as_ref().map_or("auto", |value| value.get_name()));
    let device = config.engine.device.to_possible_value();
    command.arg("--device").arg(device.as_ref().map_or("auto", |value| value.get_name()));
    command.arg("--threads").arg(config.engine.threads.to_string());
    command.arg("--batch").arg(config.engine.batch.to_string());
    if let Some(library) = &config.engine.onnxruntime {
        command.arg("--onnxruntime").arg(library);
    }
    command.args(["--model", model, "--quiet", "model", "__judge"]);
    Ok(command)
}

/// What the child does.
pub(crate) async fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let mut named = Vec::new();
    io::stdin().lock().read_to_end(&mut named)?;
    let pictures: Vec<PathBuf> =
        named.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(path).collect();
    let files = workspace::written_policies(config)?;
    let (encoder, engine) = workspace::encoder(config)?;
    let classifiers = workspace::classifiers(encoder.as_ref(), &files, config, None).await?;
    let start_seconds = started.elapsed().as_secs_f64();
    let judging = Instant::now();
    let mut out = io::stdout().lock();
    let mut printed = Ok(());
    let decoders = workspace::decoders(config)?;
    let batch = config.engine.batch;
    let named = workspace::named(config, &pictures).await;
    judge_named(encoder.as_ref(), &classifiers, &decoders, batch, named, |judged| {
        let policy = |file: &crate::policy_file::PolicyFile| {
            let mut all = judged.verdict.policies.iter();
            let verdict = all.find(|verdict| verdict.policy == file.policy.id)?;
            let flagged = verdict.outcome > Outcome::Allow;
            Some(json!({"score": verdict.score, "flagged": flagged}))
        };
        let policies: Vec<Value> =
            files.iter().map(|file| policy(file).unwrap_or(Value::Null)).collect();
        if printed.is_ok() {
            printed = json_line(&mut out, &json!({"policies": policies}));
        }
    })?;
    printed?;
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = pictures.len() as f64 / judging.elapsed().as_secs_f64().max(1e-9);
    let card = encoder.model();
    let end = json!({
        "end": true,
        "model": card.name,
        "fingerprint": card.fingerprint.0,
        "engine": engine.to_string(),
        "start_seconds": start_seconds,
        "pictures_per_second": rate,
        "peak_bytes": peak_bytes(),
    });
    json_line(&mut out, &end)?;
    Ok(ExitCode::Clean)
}

#[cfg(unix)]
fn path(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt as _;
    Path::new(std::ffi::OsStr::from_bytes(bytes)).to_owned()
}

#[cfg(not(unix))]
fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(String::from_utf8_lossy(bytes).into_owned())
}

/// The peak of this process's resident memory (Linux: `VmHWM`, in kibibytes).
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes << 10)
}
