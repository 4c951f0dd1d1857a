//! `modtool doctor`: what this installation is made of, and what to improve.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use clap::Args;
use serde_json::{Map, Value, json};

use crate::cli::OutputFormat;
use crate::config::{Config, HookConfig};
use crate::exit_code::ExitCode;
use crate::moderation::escape::{escape, escape_lines, escape_path};
use crate::moderation::{Mode, OnBlock};
use crate::store::Store;
use crate::vision::engine::probe::untrusted;
use crate::vision::engine::{FoundEngine, ProbeFailure, WhyTract, candidates};
use crate::vision::model::builtin::{Ability, topics_of};
use crate::vision::{Limits, Model, sandbox};
use crate::yaml_file::YamlProblem;

use super::ground;
use super::output::json_line;
use super::review::picture_protocol;
use super::{misread, secret, workspace};

/// Show engine, model, policies, limits and terminal, and what to improve
#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// Form of what is printed
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
}

/// One line of the report.
struct Finding {
    name: &'static str,
    value: String,
    /// What to do about it, if anything.
    advice: Option<String>,
    /// Whether the tool can't work like this.
    broken: bool,
}

impl Finding {
    fn fine(name: &'static str, value: impl Into<String>) -> Self {
        Self { name, value: value.into(), advice: None, broken: false }
    }

    fn broken(name: &'static str, error: &anyhow::Error) -> Self {
        let value = escape_lines(&format!("{error:#}"));
        Self { name, value, advice: Some("mend this first".into()), broken: true }
    }

    fn with_advice(mut self, advice: Option<impl ToString>) -> Self {
        self.advice = advice.map(|advice| advice.to_string());
        self
    }
}

/// `typed` is the workspace as it was named.
pub(super) async fn run(
    args: &DoctorArgs,
    config: &Config,
    typed: &Path,
) -> anyhow::Result<ExitCode> {
    let mut findings = vec![
        Finding::fine("modtool", env!("CARGO_PKG_VERSION")),
        Finding::fine("workspace", escape_path(&config.workspace)),
        Finding::fine("data folder", escape_path(&config.data_dir)),
    ];
    let shared = shared(config, typed);
    // Others may have written the settings, policies and libraries: nothing of it is read.
    let is_ours = config.allow_shared_workspace || shared.is_empty();
    findings.extend(shared);
    if is_ours {
        findings.extend(parts(config).await);
    }
    let healthy = !findings.iter().any(|finding| finding.broken);
    match args.format {
        OutputFormat::Json => print_json(healthy, &findings)?,
        OutputFormat::Table => print(&findings)?,
    }
    Ok(if healthy { ExitCode::Clean } else { ExitCode::Flagged })
}

/// Places through which others decide what modtool does.
fn shared(config: &Config, typed: &Path) -> Vec<Finding> {
    let found = ground::untrusted_places(config, typed).into_iter();
    let finding = |(value, remedy)| {
        let broken = !config.allow_shared_workspace;
        Finding { name: "shared", value, advice: Some(remedy), broken }
    };
    found.map(finding).collect()
}

async fn parts(config: &Config) -> Vec<Finding> {
    let mut findings: Vec<Finding> = foreign_owned(config).into_iter().collect();
    findings.extend(engine(config));
    findings.extend(model(config));
    findings.push(policies(config));
    findings.extend(misread::unread_files(config).iter().map(unread));
    findings.extend(store(config).await);
    findings.extend(config.hooks.iter().filter_map(hook_secret));
    findings.push(watcher());
    findings.push(open_files());
    findings.push(decoder(config));
    findings.push(limits(config));
    findings.push(terminal());
    findings
}

/// What root made in another user's workspace.
fn foreign_owned(config: &Config) -> Option<Finding> {
    let foreign = ground::foreign_owned(config)?;
    let names: Vec<_> = foreign.paths.iter().map(|path| escape_path(path)).collect();
    let value = format!("not the workspace's user: {}", names.join(", "));
    Some(Finding { name: "owner", value, advice: Some(foreign.remedy), broken: true })
}

fn engine(config: &Config) -> Vec<Finding> {
    let found = match workspace::found_engine(config) {
        Ok(found) => found,
        Err(error) => return vec![Finding::broken("engine", &error)],
    };
    let mut findings = vec![Finding::fine("engine", found.to_string()).with_advice(found.advice())];
    match &found {
        FoundEngine::OnnxRuntime { library, origin, .. } => {
            findings.push(Finding::fine("library", format!("{} ({origin})", library.display())));
            let all = candidates(config.engine.onnxruntime.as_deref(), &config.data_dir);
            findings.extend(untrusted(&all).iter().map(does_not_work));
        }
        FoundEngine::Tract { why: WhyTract::NoRuntime(failures) } => {
            let told = failures.iter().filter(|failure| !failure.is_absence());
            findings.extend(told.map(does_not_work));
        }
        FoundEngine::Tract { why: WhyTract::AskedFor } => {}
    }
    findings
}

fn does_not_work(failure: &ProbeFailure) -> Finding {
    Finding::fine("does not work", escape(failure.to_string().as_bytes()))
}

fn model(config: &Config) -> Vec<Finding> {
    let checked = || -> anyhow::Result<Model> {
        let model = workspace::model(config)?;
        model.check()?;
        Ok(model)
    };
    let model = match checked() {
        Ok(model) => model,
        Err(error) => return vec![Finding::broken("model", &error)],
    };
    let card = &model.card;
    let dim = card.embedding_dim;
    let mut findings = vec![
        Finding::fine("model", format!("{} ({}, {dim} dimensions)", card.name, card.kind)),
        Finding::fine("fingerprint", &*card.fingerprint.0),
    ];
    if config.model == "builtin" {
        findings.extend(abilities());
    }
    findings
}

/// What the built-in model's card says it can and can't do.
fn abilities() -> Vec<Finding> {
    let names = |ability| {
        let names: Vec<_> = topics_of(ability).map(|topic| topic.name).collect();
        names.join(", ")
    };
    vec![
        Finding::fine("good at", names(Ability::Good)),
        Finding::fine("fair at", names(Ability::Fair)),
        Finding::fine("weak at", names(Ability::Weak)).with_advice(Some(
            "the built-in model is small: for decisions that matter use a published CLIP or SigLIP \
             (`modtool model pull`)",
        )),
        Finding::fine(
            "can't see",
            "nudity, violence, hate symbols, self-harm, text in pictures (never trained, never \
             measured)",
        ),
    ]
}

fn policies(config: &Config) -> Finding {
    let files = match workspace::policies(config) {
        Ok(files) => files,
        Err(problems) => return Finding::broken("policies", &problems.into()),
    };
    let live = files.iter().filter(|file| file.policy.mode == Mode::Live).count();
    let own = config.policies().exists();
    let source = if own { "from policies/" } else { "starter policies, compiled in" };
    let value = format!("{} ({live} live), {source}", files.len());
    let advice = match (files.is_empty(), own) {
        (true, _) => Some("without a policy every picture goes to review: `modtool init`"),
        (false, false) => Some("`modtool init` writes them out, to be edited"),
        (false, true) => None,
    };
    Finding::fine("policies", value).with_advice(advice)
}

/// The journal is cut back to this; only a reader that stands still lets it grow.
const MOST_JOURNAL: u64 = 64 << 20;

async fn store(config: &Config) -> Vec<Finding> {
    let path = config.database();
    if !path.exists() {
        return vec![
            Finding::fine("database", format!("none yet ({})", path.display()))
                .with_advice(Some("`modtool watch DIR` makes it")),
        ];
    }
    // Before it is opened: closing it cuts the journal back.
    let journal = std::fs::metadata(path.with_extension("db-wal")).map_or(0, |meta| meta.len());
    let opened = async {
        let store = Store::open(&path).await?;
        let version = store.sqlite_version().await?;
        let mut findings = actions(config, &store).await?;
        findings.extend(watched(config, &store).await?);
        findings.extend(scopes(config, &store).await?);
        store.close().await;
        Ok::<_, anyhow::Error>((version, findings))
    };
    match opened.await {
        Ok((version, mut findings)) => {
            let grown = (journal > MOST_JOURNAL).then(|| {
                format!(
                    "its journal has {} MiB: another program holds a read transaction open",
                    journal >> 20
                )
            });
            findings.insert(0, Finding::fine("SQLite", version));
            findings.insert(0, Finding::fine("database", escape_path(&path)).with_advice(grown));
            findings
        }
        Err(error) => vec![Finding::broken("database", &error)],
    }
}

/// A secret that can't be used, or should be another one.
fn hook_secret(hook: &HookConfig) -> Option<Finding> {
    let name = escape(hook.name.as_bytes());
    match secret::read(hook) {
        Err(error) => Some(Finding::broken("hook", &error.into())),
        Ok(Some(secret)) if !secret.doubts.is_empty() => {
            let advice = secret.doubts.join("; ");
            Some(Finding::fine("hook", format!("{name}: signed")).with_advice(Some(advice)))
        }
        Ok(_) => None,
    }
}

/// Files that could not be moved, entries of the bank on hold, hooks that could not be told, holds that are not armed.
async fn actions(config: &Config, store: &Store) -> anyhow::Result<Vec<Finding>> {
    let (inside, stuck) = (store.quarantined().await?, store.stuck_placements().await?);
    let mut findings = Vec::new();
    if !inside.is_empty() || !stuck.is_empty() {
        let value = format!("{} files, {} that can't be moved", inside.len(), stuck.len());
        let advice = (!stuck.is_empty()).then_some("`modtool quarantine` says which and why");
        findings.push(Finding::fine("quarantine", value).with_advice(advice));
    }
    let bank = store.bank_counts().await?;
    if bank.on + bank.on_hold > 0 {
        let value = format!("{} entries, {} on hold", bank.on + bank.on_hold, bank.on_hold);
        let advice = (bank.on_hold > 0).then_some(
            "what is on hold matched a flood: look at `modtool bank list --state on-hold`, then \
             `modtool bank enable` or `disable` it",
        );
        findings.push(Finding::fine("bank", value).with_advice(advice));
    }
    for hook in store.hook_counts().await? {
        if !config.hooks.iter().any(|known| known.name == hook.name) {
            continue;
        }
        let name = escape(hook.name.as_bytes());
        let value = format!("{name}: {} waiting, {} given up", hook.waiting, hook.dead);
        let why = escape(hook.problem.as_deref().unwrap_or_default().as_bytes());
        let advice = (hook.dead > 0)
            .then(|| format!("{why}; once it is mended: `modtool hooks retry {name}`"));
        findings.push(Finding::fine("hook", value).with_advice(advice));
    }
    let Ok(files) = workspace::policies(config) else { return Ok(findings) };
    let fingerprint = workspace::model(config)?.card.fingerprint;
    for policy in files.iter().map(|file| &file.policy) {
        if policy.on_block == OnBlock::Hold {
            let state =
                store.arming(&policy.id, policy.hash(), policy.arming, &fingerprint).await?;
            let value = match state.shortfall() {
                None => format!("{}: armed", policy.id),
                Some(why) => format!("{}: not armed, {why}", policy.id),
            };
            findings.push(Finding::fine("hold", value));
        }
    }
    Ok(findings)
}

/// Folders that were watched before and could not be watched now.
async fn watched(config: &Config, store: &Store) -> anyhow::Result<Vec<Finding>> {
    let beats = store.watcher_beats().await?;
    let roots: Vec<_> = beats.into_iter().map(|beat| beat.root).collect();
    let found = ground::watched_overlaps(config, &roots).into_iter();
    let finding = |(value, remedy)| {
        let broken = !config.allow_shared_workspace;
        Finding { name: "watched", value, advice: Some(remedy), broken }
    };
    Ok(found.map(finding).collect())
}

/// A file that looks like a policy and is not read.
fn unread(problem: &YamlProblem) -> Finding {
    let value = format!("{}: {}", escape_path(&problem.file), escape(problem.what.as_bytes()));
    Finding::fine("policy", value).with_advice(problem.hint.as_ref())
}

/// How many pictures the policies take that don't look at everything.
async fn scopes(config: &Config, store: &Store) -> anyhow::Result<Vec<Finding>> {
    let Ok(files) = workspace::policies(config) else { return Ok(Vec::new()) };
    let scoped: Vec<_> =
        files.into_iter().filter(|file| !file.policy.scope.is_everything()).collect();
    if scoped.is_empty() {
        return Ok(Vec::new());
    }
    let taken = misread::count_in(store, &scoped).await?;
    let lines = taken.lines(&scoped).into_iter().zip(&taken.taken);
    let finding = |(line, count): (String, &u64)| {
        let advice = (taken.of > 0 && *count == 0)
            .then_some("globs are matched against the path below the watched folder");
        Finding::fine("scope", line).with_advice(advice)
    };
    Ok(lines.map(finding).collect())
}

fn watcher() -> Finding {
    let kind = match std::env::consts::OS {
        "linux" => "inotify",
        "macos" => "FSEvents",
        _ => "the system's events",
    };
    let watches = std::fs::read_to_string("/proc/sys/fs/inotify/max_user_watches");
    let Ok(watches) = watches else { return Finding::fine("watcher", kind) };
    let most: u64 = watches.trim().parse().unwrap_or(0);
    let advice = (most < 65_536).then_some("raise fs.inotify.max_user_watches for many folders");
    Finding::fine("watcher", format!("{kind}, at most {most} folders; full scans as a safety net"))
        .with_advice(advice)
}

/// `CAP_LEASE` of capabilities(7).
const CAP_LEASE: u32 = 28;

/// Whether it can be known that an upload is still open for writing; tried with a file of our own.
fn open_files() -> Finding {
    const NAME: &str = "open files";
    let tried = || -> io::Result<Option<bool>> {
        let path = std::env::temp_dir().join(format!("modtool-open-{}", std::process::id()));
        let _writer = OpenOptions::new().write(true).create_new(true).open(&path)?;
        let reader = File::open(&path);
        std::fs::remove_file(&path)?;
        Ok(sandbox::is_open_for_writing(&reader?))
    };
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let all = effective.is_some_and(|mask| mask >> CAP_LEASE & 1 == 1);
    match (tried(), all) {
        (Ok(Some(true)), true) => Finding::fine(NAME, "known for all uploads, and read again"),
        (Ok(Some(true)), false) => {
            Finding::fine(NAME, "known for files of this user, and read again").with_advice(Some(
                "with CAP_LEASE for all uploads (contrib/lease.conf); the others are read again \
                 within `watch.recheck_days`",
            ))
        }
        _ => Finding::fine(NAME, "not known here; allowed files are read again in the background"),
    }
}

/// What holds the decoder, found out by trying to get out of it.
fn decoder(config: &Config) -> Finding {
    if config.sandbox.as_deref() == Some("off") {
        return Finding::fine("decoder", "NOT LOCKED IN (`sandbox: off`)").with_advice(Some(
            "remove `sandbox: off` from modtool.yaml: uploads come from strangers",
        ));
    }
    match workspace::decoders(config) {
        Ok(decoders) => {
            let cage = decoders.cage();
            let advice = (!cage.open.is_empty())
                .then_some("an upload that takes the decoder over is not stopped by this system");
            Finding::fine("decoder", format!("locked in: {cage}")).with_advice(advice)
        }
        Err(error) => Finding::broken("decoder", &error),
    }
}

fn limits(config: &Config) -> Finding {
    let Limits { animation_frames, animation_megapixels, decoded_bytes, .. } = Limits::default();
    let limits = workspace::limits(config);
    Finding::fine(
        "limits",
        format!(
            "file {} MiB · side {} px · {} megapixels a frame · {} MiB decoded · animation {} \
             frames, {} megapixels in all, {} scored · decoder {} MiB, {} s of \
             computing, {} s in all",
            config.limits.file_mib,
            limits.side,
            limits.megapixels,
            decoded_bytes >> 20,
            animation_frames,
            animation_megapixels,
            limits.frames_scored,
            sandbox::ADDRESS_SPACE >> 20,
            limits.computing_seconds,
            limits.wall_seconds
        ),
    )
}

fn terminal() -> Finding {
    match picture_protocol() {
        None => Finding::fine("pictures", "no terminal here to ask"),
        Some("halfblocks") => Finding::fine("pictures", "halfblocks: coarse, on every terminal")
            .with_advice(Some("a terminal with the kitty, iTerm2 or sixel protocol shows more")),
        Some(protocol) => Finding::fine("pictures", protocol),
    }
}

fn print(findings: &[Finding]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for finding in findings {
        let mark = if finding.broken { "✗" } else { " " };
        writeln!(out, "{mark} {:<13} {}", finding.name, finding.value)?;
    }
    let advice: Vec<_> =
        findings.iter().filter_map(|f| Some((f.name, f.advice.as_ref()?))).collect();
    if !advice.is_empty() {
        writeln!(out, "\nto improve:")?;
        for (name, advice) in advice {
            writeln!(out, "  {name}: {advice}")?;
        }
    }
    Ok(())
}

fn print_json(healthy: bool, findings: &[Finding]) -> io::Result<()> {
    let mut object = Map::new();
    object.insert("healthy".into(), healthy.into());
    for finding in findings {
        object.insert(finding.name.replace([' ', '\''], "_").to_lowercase(), json!(finding.value));
    }
    let advice = findings.iter().filter_map(|finding| {
        Some(json!({"about": finding.name, "advice": finding.advice.as_ref()?}))
    });
    object.insert("to_improve".into(), advice.collect::<Value>());
    json_line(&mut io::stdout().lock(), &object.into())
}
