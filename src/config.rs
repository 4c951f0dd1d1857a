//! Command line + `modtool.yaml` + environment → [`Config`], once, at the start.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy as _;
use serde::Deserialize;
use serde_yaml::Spanned;

use crate::cli::{Device, Engine, GlobalOptions, LogFormat};
use crate::yaml_file::{self, YamlProblem};

/// The settings that hold for this run; everything is resolved and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Whether log lines are JSON.
    pub json_log: bool,
    /// Absolute path of the workspace, without links.
    pub workspace: PathBuf,
    /// Whether files that others may write are used, with a warning.
    pub allow_shared_workspace: bool,
    /// Holds `models/` and `runtime/`.
    pub data_dir: PathBuf,
    /// `builtin`, the name of a model in `data_dir`, or a folder.
    pub model: String,
    /// Templates for policies that have none; `None`: the tool's own.
    pub templates: Option<Vec<String>>,
    /// Neutral prompts; `None`: the tool's own.
    pub neutral: Option<Vec<String>>,
    /// What runs the model.
    pub engine: EngineConfig,
    /// What an upload may cost.
    pub limits: LimitsConfig,
    /// How the decoder is locked in, one of [`SANDBOX`]; `None`: as usual on this system.
    pub sandbox: Option<String>,
    /// What becomes of files that are no pictures.
    pub media: MediaConfig,
    /// How folders are watched.
    pub watch: WatchConfig,
    /// Who reviews, and how.
    pub review: ReviewConfig,
    /// What verdicts and decisions do.
    pub actions: ActionsConfig,
    /// What is deleted after how many days; nothing by default.
    pub retention: RetentionConfig,
    /// Programs that are told what happened.
    pub hooks: Vec<HookConfig>,
}

/// The database's name in the workspace.
pub const DATABASE: &str = "modtool.db";

/// What verdicts and decisions do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ActionsConfig {
    /// The chance with which an unflagged picture is sent to a person, 0..=1.
    pub audit_rate: f64,
    /// Whether stored embeddings are judged again at once when a policy changes.
    pub rescore_on_change: bool,
    /// Automatic holds in 24 hours, at most.
    pub daily_hold_cap: u64,
    /// Seconds between a decision and its effect on files.
    pub grace_seconds: u64,
    /// An entry of the bank that matches more uploads than this in an hour is put on hold.
    pub bank_flood: u64,
}

/// What is deleted after how many days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionConfig {
    /// Scores of items that were last seen so long ago.
    pub verdicts_days: Option<u32>,
    /// Embeddings of items that were last seen so long ago.
    pub embeddings_days: Option<u32>,
    /// Tasks that were decided so long ago, with their decisions and notes.
    pub done_tasks_days: Option<u32>,
}

/// One program that is told what happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookConfig {
    /// Its name.
    pub name: String,
    /// `verdict`, `decision`, `action`.
    pub on: Vec<String>,
    /// Program and arguments, or nothing.
    pub command: Vec<String>,
    /// Address of a webhook, if it is none of the above.
    pub webhook: Option<String>,
    /// File with the secret that signs what is sent.
    pub secret_file: Option<PathBuf>,
    /// Seconds that it may take.
    pub timeout_seconds: u64,
    /// Tries of one event until it is given up.
    pub attempts: u32,
    /// Milliseconds between the first and the second try.
    pub pause_ms: u64,
}

/// What a hook can listen to.
pub const HOOK_EVENTS: &[&str] = &["verdict", "decision", "action"];

/// What runs the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineConfig {
    /// Which engine.
    pub engine: Engine,
    /// Where it computes.
    pub device: Device,
    /// Threads of the model; 0: as many as there are cores.
    pub threads: usize,
    /// Pictures that the model takes at once.
    pub batch: usize,
    /// Library to try first.
    pub onnxruntime: Option<PathBuf>,
}

/// What an upload may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Mebibytes of a file.
    pub file_mib: u32,
    /// Pixels of a side.
    pub side: u32,
    /// Megapixels of a frame.
    pub megapixels: u32,
    /// Frames of an animation that are scored.
    pub frames: u32,
}

/// What becomes of files that are no pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MediaConfig {
    /// Films.
    pub video: Unjudged,
    /// PDFs, office documents and their like.
    pub documents: Unjudged,
    /// Anything else.
    pub other: Unjudged,
}

/// What becomes of a file that is not judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unjudged {
    /// A person is told, with one row for each folder and kind.
    Review,
    /// It is counted, and left alone.
    Skip,
}

/// How folders are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchConfig {
    /// Milliseconds after a file was closed until it is read.
    pub settle_ms: u64,
    /// Minutes between two full scans.
    pub rescan_minutes: u64,
    /// Scan instead of listening to the kernel; `None`: where the file system needs it.
    pub poll: Option<bool>,
    /// Seconds after which a file that is still being written is judged as it is.
    pub settle_max: u64,
    /// Seconds that a file may wait before `status` calls that unhealthy.
    pub alarm_lag: u64,
    /// Days in which every allowed file is read again.
    pub recheck_days: u32,
    /// Mebibytes a second that this may read at most; 0: never.
    pub recheck_mib_s: u32,
}

/// Who reviews, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReviewConfig {
    /// Signs decisions; `None`: the system's user.
    pub reviewer: Option<String>,
    /// How the terminal is given pictures.
    pub pictures: String,
    /// Commands and the keys that they have instead of the usual ones.
    pub keys: BTreeMap<String, String>,
    /// Steps of pictures a day after which the dashboard says a word.
    pub exposure_budget: Option<u64>,
    /// Minutes of work after which the dashboard suggests a break.
    pub break_minutes: Option<u32>,
}

/// Ways to give a terminal pictures, as `modtool.yaml` and `--pictures` spell them.
pub const PICTURES: &[&str] = &["auto", "kitty", "sixel", "iterm2", "halfblocks", "off"];

/// How the decoder is locked in, as `modtool.yaml` spells it.
pub const SANDBOX: &[&str] = &["required", "best-effort", "off"];

impl Config {
    /// Reads `modtool.yaml` where the workspace has one; the command line wins over it.
    ///
    /// # Errors
    /// [`ConfigError`] naming file, line and field, or the folder that is missing.
    pub fn resolve(options: &GlobalOptions) -> Result<Self, ConfigError> {
        let (workspace, data_dir) = folders(options)?;
        let file = workspace.join("modtool.yaml");
        let written = if file.exists() { read(&file)? } else { Settings::default() };
        Ok(Self::merge(options, written, workspace, data_dir))
    }

    /// What the command line says, without a look at the workspace's `modtool.yaml`: for what needs
    /// none of it, and where it can't be trusted.
    ///
    /// # Errors
    /// [`ConfigError`] naming the folder that is missing.
    pub fn without_settings(options: &GlobalOptions) -> Result<Self, ConfigError> {
        let (workspace, data_dir) = folders(options)?;
        Ok(Self::merge(options, Settings::default(), workspace, data_dir))
    }

    fn merge(
        options: &GlobalOptions,
        written: Settings,
        workspace: PathBuf,
        data_dir: PathBuf,
    ) -> Self {
        let Settings { engine, limits, watch, review, .. } = written;
        Self {
            json_log: options.log_format == LogFormat::Json,
            model: options.model.clone().unwrap_or(written.model),
            templates: written.templates.map(|list| list.into_iter().map(|t| t.value).collect()),
            neutral: written.neutral,
            engine: EngineConfig {
                engine: options.engine,
                device: options.device.unwrap_or(match engine.device.value.as_str() {
                    "cpu" => Device::Cpu,
                    "cuda" => Device::Cuda,
                    _ => Device::Auto,
                }),
                threads: options.threads.unwrap_or(engine.threads),
                batch: options.batch.map_or(engine.batch.value, usize::from),
                onnxruntime: options
                    .onnxruntime
                    .clone()
                    .or_else(|| engine.onnxruntime.map(|path| workspace.join(path))),
            },
            limits: LimitsConfig {
                file_mib: limits.file_mib.value,
                side: limits.side.value,
                megapixels: limits.megapixels.value,
                frames: limits.frames.value,
            },
            sandbox: written.sandbox.map(|sandbox| sandbox.value),
            media: written.media.resolved(),
            watch: WatchConfig {
                settle_ms: watch.settle_ms.value,
                rescan_minutes: watch.rescan_minutes.value,
                poll: match watch.poll.value.as_str() {
                    "true" => Some(true),
                    "false" => Some(false),
                    _ => None,
                },
                settle_max: watch.settle_max.value,
                alarm_lag: watch.alarm_lag.value,
                recheck_days: watch.recheck_days.value,
                recheck_mib_s: watch.recheck_mib_s.value,
            },
            review: ReviewConfig {
                reviewer: review.reviewer,
                pictures: review.pictures.value,
                keys: review.keys,
                exposure_budget: review.exposure_budget,
                break_minutes: review.break_minutes,
            },
            actions: ActionsConfig {
                audit_rate: written.audit_rate.value,
                rescore_on_change: written.rescore_on_change,
                daily_hold_cap: written.daily_hold_cap,
                grace_seconds: review.grace_seconds.value,
                bank_flood: written.bank_flood.value,
            },
            retention: written.retention,
            hooks: written.hooks.into_iter().map(|hook| hook.value.resolved(&workspace)).collect(),
            workspace,
            allow_shared_workspace: options.allow_shared_workspace,
            data_dir,
        }
    }

    /// The database of the workspace.
    pub fn database(&self) -> PathBuf {
        self.workspace.join(DATABASE)
    }

    /// The folder that says which folders are watched from this workspace now.
    pub fn locks(&self) -> PathBuf {
        self.workspace.join("locks")
    }

    /// The folder of removed and held files of the workspace; it need not exist.
    pub fn quarantine(&self) -> PathBuf {
        self.workspace.join("quarantine")
    }

    /// The folder of what was learned in the workspace; it need not exist.
    pub fn adapters(&self) -> PathBuf {
        self.workspace.join("adapters")
    }

    /// The folder of policies of the workspace; it need not exist.
    pub fn policies(&self) -> PathBuf {
        self.workspace.join("policies")
    }
}

/// Why there is no configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// `--workspace` names no folder.
    #[error("the workspace {} is no folder; make it, or name another with --workspace", .0.display())]
    NoWorkspace(PathBuf),
    /// The platform has no home folder for this user.
    #[error("this user has no home folder; say where models may be kept with MODTOOL_DATA_DIR")]
    NoDataDir,
    /// The keys under `review` can't be as they are written.
    #[error("{}: review: keys: {problem}", path.display())]
    Keys {
        /// `modtool.yaml`.
        path: PathBuf,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// A hook's `secret_file` can't be used.
    #[error("{}: hook {hook}: {problem}", path.display())]
    Secret {
        /// The file with the secret.
        path: PathBuf,
        /// The hook's name.
        hook: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// Something is wrong in `modtool.yaml`; every problem is told.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Settings(Vec<YamlProblem>),
}

/// The workspace by its real name, as watched folders go by it, and the data folder.
fn folders(options: &GlobalOptions) -> Result<(PathBuf, PathBuf), ConfigError> {
    let workspace = std::fs::canonicalize(&options.workspace)
        .ok()
        .filter(|path| path.is_dir())
        .ok_or_else(|| ConfigError::NoWorkspace(options.workspace.clone()))?;
    let data_dir = match &options.data_dir {
        Some(dir) => std::path::absolute(dir).unwrap_or_else(|_| dir.clone()),
        None => platform_data_dir().ok_or(ConfigError::NoDataDir)?,
    };
    Ok((workspace, data_dir))
}

fn platform_data_dir() -> Option<PathBuf> {
    let base = etcetera::choose_base_strategy().ok()?;
    Some(base.data_dir().join("modtool"))
}

fn read(file: &Path) -> Result<Settings, ConfigError> {
    let one = |problem| ConfigError::Settings(vec![problem]);
    let text = yaml_file::read(file).map_err(one)?;
    // A file of comments alone is a null document: all defaults.
    let written: Option<Settings> = yaml_file::parse(file, &text).map_err(one)?;
    let written = written.unwrap_or_default();
    let problems = written.problems(file);
    if problems.is_empty() { Ok(written) } else { Err(ConfigError::Settings(problems)) }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    model: String,
    templates: Option<Vec<Spanned<String>>>,
    neutral: Option<Vec<String>>,
    engine: EngineSettings,
    limits: LimitsSettings,
    sandbox: Option<Spanned<String>>,
    media: MediaSettings,
    watch: WatchSettings,
    review: ReviewSettings,
    audit_rate: Spanned<f64>,
    rescore_on_change: bool,
    daily_hold_cap: u64,
    bank_flood: Spanned<u64>,
    retention: RetentionConfig,
    hooks: Vec<Spanned<HookSettings>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HookSettings {
    name: String,
    on: Vec<String>,
    #[serde(default)]
    command: Vec<String>,
    webhook: Option<String>,
    secret_file: Option<PathBuf>,
    #[serde(default = "ten_seconds")]
    timeout_seconds: u64,
    #[serde(default = "ten_attempts")]
    attempts: u32,
    #[serde(default = "one_second")]
    pause_ms: u64,
}

fn ten_seconds() -> u64 {
    10
}

fn ten_attempts() -> u32 {
    10
}

fn one_second() -> u64 {
    1000
}

impl HookSettings {
    /// What is wrong with it, and what to do.
    fn problem(&self) -> Option<(String, &'static str)> {
        let HookSettings { name, on, command, webhook, .. } = self;
        if name.is_empty() || name.len() > 64 || name.chars().any(char::is_control) {
            let hint = "what it was told is kept under its name";
            return Some(("a hook needs a name of 1 to 64 characters".to_owned(), hint));
        }
        let unknown = on.iter().find(|event| !HOOK_EVENTS.contains(&event.as_str()));
        if let Some(event) = unknown {
            return Some((
                format!("`{event}` is no event"),
                "it is one of verdict, decision, action",
            ));
        }
        if on.is_empty() {
            return Some(("`on` is empty".to_owned(), "such as `on: [decision, action]`"));
        }
        let is_http = |url: &String| url.starts_with("https://") || url.starts_with("http://");
        match (command.is_empty(), webhook) {
            (true, None) | (false, Some(_)) => {
                let hint = "`command: [program, argument]`, or `webhook: https://…`";
                Some(("a hook has a command or a webhook".to_owned(), hint))
            }
            (true, Some(url)) if !is_http(url) => {
                Some(("a webhook is an http or https address".to_owned(), "https://example.org/…"))
            }
            _ if !(1..=300).contains(&self.timeout_seconds) => {
                Some(("timeout_seconds is 1 to 300".to_owned(), "the default is 10"))
            }
            _ if !(1..=100).contains(&self.attempts) => {
                Some(("attempts is 1 to 100".to_owned(), "the default is 10"))
            }
            _ if !(10..=600_000).contains(&self.pause_ms) => {
                Some(("pause_ms is 10 to 600000".to_owned(), "the default is 1000"))
            }
            _ => None,
        }
    }

    fn resolved(self, workspace: &Path) -> HookConfig {
        HookConfig {
            name: self.name,
            on: self.on,
            command: beneath(workspace, self.command),
            webhook: self.webhook,
            secret_file: self.secret_file.map(|file| workspace.join(file)),
            timeout_seconds: self.timeout_seconds,
            attempts: self.attempts,
            pause_ms: self.pause_ms,
        }
    }
}

/// A program named by a path of several parts is that of the workspace, wherever modtool is
/// started: in a folder of uploads it would be an uploader's.
fn beneath(workspace: &Path, mut command: Vec<String>) -> Vec<String> {
    if let Some(program) = command.first_mut().filter(|program| program.contains('/')) {
        // An absolute path stays what it is.
        if let Some(path) = workspace.join(&*program).to_str() {
            path.clone_into(program);
        }
    }
    command
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct EngineSettings {
    device: Spanned<String>,
    threads: usize,
    batch: Spanned<usize>,
    onnxruntime: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LimitsSettings {
    file_mib: Spanned<u32>,
    side: Spanned<u32>,
    megapixels: Spanned<u32>,
    frames: Spanned<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct MediaSettings {
    video: Spanned<String>,
    documents: Spanned<String>,
    other: Spanned<String>,
}

impl MediaSettings {
    fn resolved(self) -> MediaConfig {
        // Whatever is neither was refused.
        let done = |written: Spanned<String>| match written.value.as_str() {
            "skip" => Unjudged::Skip,
            _ => Unjudged::Review,
        };
        let Self { video, documents, other } = self;
        MediaConfig { video: done(video), documents: done(documents), other: done(other) }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WatchSettings {
    settle_ms: Spanned<u64>,
    rescan_minutes: Spanned<u64>,
    poll: Spanned<String>,
    settle_max: Spanned<u64>,
    alarm_lag: Spanned<u64>,
    recheck_days: Spanned<u32>,
    recheck_mib_s: Spanned<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ReviewSettings {
    reviewer: Option<String>,
    pictures: Spanned<String>,
    grace_seconds: Spanned<u64>,
    keys: BTreeMap<String, String>,
    exposure_budget: Option<u64>,
    break_minutes: Option<u32>,
}

fn nowhere<T>(value: T) -> Spanned<T> {
    Spanned::new(value, serde_yaml::Location::UNKNOWN, serde_yaml::Location::UNKNOWN)
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            model: "builtin".to_owned(),
            templates: None,
            neutral: None,
            engine: EngineSettings::default(),
            limits: LimitsSettings::default(),
            sandbox: None,
            media: MediaSettings::default(),
            watch: WatchSettings::default(),
            review: ReviewSettings::default(),
            audit_rate: nowhere(0.0),
            rescore_on_change: false,
            daily_hold_cap: 200,
            bank_flood: nowhere(100),
            retention: RetentionConfig::default(),
            hooks: Vec::new(),
        }
    }
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            device: nowhere("auto".to_owned()),
            threads: 0,
            batch: nowhere(8),
            onnxruntime: None,
        }
    }
}

impl Default for LimitsSettings {
    fn default() -> Self {
        Self {
            file_mib: nowhere(50),
            side: nowhere(16_384),
            megapixels: nowhere(50),
            frames: nowhere(8),
        }
    }
}

impl Default for MediaSettings {
    fn default() -> Self {
        let written = |done: &str| nowhere(done.to_owned());
        Self { video: written("review"), documents: written("review"), other: written("skip") }
    }
}

impl Default for WatchSettings {
    fn default() -> Self {
        Self {
            settle_ms: nowhere(250),
            rescan_minutes: nowhere(5),
            poll: nowhere("auto".to_owned()),
            settle_max: nowhere(30),
            alarm_lag: nowhere(60),
            recheck_days: nowhere(7),
            recheck_mib_s: nowhere(5),
        }
    }
}

impl Default for ReviewSettings {
    fn default() -> Self {
        Self {
            reviewer: None,
            pictures: nowhere("auto".to_owned()),
            grace_seconds: nowhere(30),
            keys: BTreeMap::new(),
            exposure_budget: None,
            break_minutes: None,
        }
    }
}

impl Settings {
    /// Every value out of range, and every field that this version can't honour yet.
    fn problems(&self, file: &Path) -> Vec<YamlProblem> {
        let mut problems = Problems { file, found: Vec::new() };
        for template in self.templates.iter().flatten() {
            let once = template.value.matches("{}").count() == 1;
            problems.unless(once, template, "a template needs `{}` exactly once", "a photo of {}");
        }
        let EngineSettings { device, batch, .. } = &self.engine;
        let devices = ["auto", "cpu", "cuda"];
        let known = devices.contains(&device.value.as_str());
        problems.unless(known, device, "an unknown device", "it is one of auto, cpu, cuda");
        let fits = (1..=256).contains(&batch.value);
        problems.unless(fits, batch, "a batch is 1 to 256 pictures", "8 suits most machines");

        let LimitsSettings { file_mib, side, megapixels, frames } = &self.limits;
        let limits = [(file_mib, 2048), (side, 65_535), (megapixels, 1000), (frames, 64)];
        for (limit, most) in limits {
            let fits = (1..=most).contains(&limit.value);
            let what = format!("this limit is 1 to {most}");
            problems.unless(fits, limit, &what, "leave the line out for the default");
        }
        if let Some(sandbox) = &self.sandbox {
            let known = SANDBOX.contains(&sandbox.value.as_str());
            let hint = format!("it is one of {}", SANDBOX.join(", "));
            problems.unless(known, sandbox, "an unknown way to lock the decoder in", &hint);
        }
        let MediaSettings { video, documents, other } = &self.media;
        for kind in [video, documents, other] {
            let (what, hint) = match kind.value.as_str() {
                "judge" => {
                    ("this version judges pictures alone", "review tells a person, skip does not")
                }
                _ => ("an unknown value", "it is one of review, skip"),
            };
            problems.unless(["review", "skip"].contains(&kind.value.as_str()), kind, what, hint);
        }
        let WatchSettings { settle_ms, rescan_minutes, poll, .. } = &self.watch;
        let fits = settle_ms.value <= 60_000;
        problems.unless(fits, settle_ms, "settle_ms is at most 60000", "the default is 250");
        let fits = (1..=1440).contains(&rescan_minutes.value);
        problems.unless(fits, rescan_minutes, "rescan_minutes is 1 to 1440", "the default is 5");
        let known = ["auto", "true", "false"].contains(&poll.value.as_str());
        problems.unless(known, poll, "an unknown value", "it is one of auto, true, false");
        let WatchSettings { settle_max, alarm_lag, recheck_days, recheck_mib_s, .. } = &self.watch;
        let fits = (1..=3600).contains(&settle_max.value);
        problems.unless(fits, settle_max, "settle_max is 1 to 3600 seconds", "the default is 30");
        let fits = (5..=86_400).contains(&alarm_lag.value);
        problems.unless(fits, alarm_lag, "alarm_lag is 5 to 86400 seconds", "the default is 60");
        let fits = (1..=365).contains(&recheck_days.value);
        problems.unless(fits, recheck_days, "recheck_days is 1 to 365", "the default is 7");
        let (fits, hint) = (recheck_mib_s.value <= 10_000, "the default is 5; 0 switches it off");
        problems.unless(fits, recheck_mib_s, "recheck_mib_s is at most 10000", hint);
        let pictures = &self.review.pictures;
        let known = PICTURES.contains(&pictures.value.as_str());
        let hint = format!("it is one of {}", PICTURES.join(", "));
        problems.unless(known, pictures, "an unknown way to show pictures", &hint);

        let fits = (0.0..=1.0).contains(&self.audit_rate.value);
        let hint = "0.01 sends one unflagged picture in a hundred to a person";
        problems.unless(fits, &self.audit_rate, "audit_rate is a share from 0 to 1", hint);
        let grace = &self.review.grace_seconds;
        let fits = grace.value <= 86_400;
        problems.unless(fits, grace, "grace_seconds is at most 86400", "the default is 30");
        let flood = &self.bank_flood;
        let hint = "100 by default; an entry of the bank that matches more in an hour acts no more";
        problems.unless(flood.value > 0, flood, "bank_flood is at least 1", hint);
        for (index, hook) in self.hooks.iter().enumerate() {
            if let Some((what, hint)) = hook.value.problem() {
                problems.unless(false, hook, &what, hint);
            }
            let twice = self.hooks[..index].iter().any(|other| other.value.name == hook.value.name);
            problems.unless(!twice, hook, "two hooks have this name", "give each its own");
        }
        problems.found
    }
}

struct Problems<'a> {
    file: &'a Path,
    found: Vec<YamlProblem>,
}

impl Problems<'_> {
    fn unless<T>(&mut self, good: bool, place: &Spanned<T>, what: &str, hint: &str) {
        if !good {
            let problem = YamlProblem::at(self.file, place.referenced, what).with_hint(hint);
            self.found.push(problem);
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: GlobalOptions,
    }

    fn resolved(yaml: &str, arguments: &[&str]) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(dir.path().join("modtool.yaml"), yaml).expect("written");
        let workspace = dir.path().display().to_string();
        let line = ["modtool", "--workspace", &workspace, "--data-dir", &workspace];
        let line = Line::parse_from(line.iter().chain(arguments));
        Config::resolve(&line.options)
    }

    #[test]
    fn without_settings_the_defaults_hold() {
        for yaml in ["", "# only a comment\n", "model: builtin\n"] {
            let config = resolved(yaml, &[]).expect("good settings");
            assert_eq!(config.model, "builtin");
            assert_eq!((config.engine.batch, config.limits.file_mib), (8, 50));
            assert_eq!((config.watch.settle_ms, config.watch.poll), (250, None));
            assert_eq!((config.watch.settle_max, config.watch.alarm_lag), (30, 60));
            assert_eq!((config.watch.recheck_days, config.watch.recheck_mib_s), (7, 5));
        }
    }

    #[test]
    fn the_command_line_wins() {
        let config = resolved("model: a\nengine: {onnxruntime: lib.so}\n", &["--model", "b"]);
        let config = config.expect("good settings");
        assert_eq!(config.model, "b");
        assert!(config.engine.onnxruntime.is_some_and(|path| path.ends_with("lib.so")));
    }

    #[test]
    fn every_problem_is_told_with_its_place() {
        let yaml = "limits: {side: 0}\nwatch:\n  poll: maybe\naudit_rate: 1.01\n";
        let Err(ConfigError::Settings(problems)) = resolved(yaml, &[]) else {
            panic!("must be refused")
        };
        let lines: Vec<_> = problems.iter().map(|problem| problem.line).collect();
        assert_eq!(lines, [1, 3, 4], "{problems:?}");
        let yaml = "watch:\n  settle_max: 0\n  alarm_lag: 1\n  recheck_days: 0\n  \
                    recheck_mib_s: 10001\n";
        let Err(ConfigError::Settings(problems)) = resolved(yaml, &[]) else {
            panic!("must be refused")
        };
        let lines: Vec<_> = problems.iter().map(|problem| problem.line).collect();
        assert_eq!(lines, [2, 3, 4, 5], "{problems:?}");
        let Err(error) = resolved("modle: x\n", &[]) else { panic!("must be refused") };
        assert!(error.to_string().contains("did you mean `model`?"), "{error}");
    }

    #[test]
    fn what_is_no_picture_is_told_of_or_skipped_and_never_judged() {
        let media = |yaml: &str| resolved(yaml, &[]).expect("good settings").media;
        let usual = media("");
        assert_eq!((usual.video, usual.documents), (Unjudged::Review, Unjudged::Review));
        assert_eq!(usual.other, Unjudged::Skip);
        let own = media("media: {video: skip, other: review}");
        assert_eq!((own.video, own.documents), (Unjudged::Skip, Unjudged::Review));
        assert_eq!(own.other, Unjudged::Review);
        let error = resolved("media: {video: judge}", &[]).expect_err("not yet").to_string();
        assert!(error.contains("pictures alone"), "{error}");
        resolved("media: {other: no}", &[]).expect_err("unknown");
        resolved("media: {videos: skip}", &[]).expect_err("unknown");
    }

    #[test]
    fn hooks_are_read_and_every_mistake_is_told() {
        let good = "hooks:\n- {name: a, on: [verdict], command: [cat, -u]}\n\
                    - {name: b, on: [decision, action], webhook: 'https://x.example/h', \
                       secret_file: hook.secret, timeout_seconds: 3}\n";
        let config = resolved(good, &[]).expect("good settings");
        assert_eq!(config.hooks[0].command, ["cat", "-u"]);
        let own = resolved("hooks: [{name: a, on: [verdict], command: [./tell, x/y]}]", &[]);
        let own = own.expect("good settings");
        let program = Path::new(&own.hooks[0].command[0]);
        assert!(program.starts_with(&own.workspace) && program.ends_with("tell"));
        assert_eq!(own.hooks[0].command[1], "x/y");
        assert_eq!((config.hooks[0].timeout_seconds, config.hooks[0].attempts), (10, 10));
        let secret = config.hooks[1].secret_file.as_ref().expect("a file");
        assert!(secret.is_absolute() && secret.ends_with("hook.secret"));
        for wrong in [
            "{name: '', on: [verdict], command: [cat]}",
            "{name: a, on: [], command: [cat]}",
            "{name: a, on: [verdicts], command: [cat]}",
            "{name: a, on: [verdict]}",
            "{name: a, on: [verdict], command: [cat], webhook: 'https://x.example'}",
            "{name: a, on: [verdict], webhook: 'ftp://x.example'}",
            "{name: a, on: [verdict], command: [cat], attempts: 0}",
        ] {
            let error = resolved(&format!("hooks: [{wrong}]"), &[]).expect_err(wrong);
            assert!(error.to_string().contains(":1:"), "{error}");
        }
        let twice = good.replace("name: b", "name: a");
        assert!(resolved(&twice, &[]).expect_err("twice").to_string().contains("two hooks"));
    }

    #[test]
    fn what_verdicts_and_decisions_do_has_defaults() {
        let config = resolved("", &[]).expect("good settings");
        let actions = config.actions;
        let ActionsConfig { audit_rate, rescore_on_change, daily_hold_cap, .. } = actions;
        assert!(audit_rate.abs() < 1e-12 && !rescore_on_change);
        assert_eq!((daily_hold_cap, actions.grace_seconds, actions.bank_flood), (200, 30, 100));
        resolved("bank_flood: 0", &[]).expect_err("nothing could ever match");
        assert_eq!(config.retention, RetentionConfig::default());
        let config = resolved("retention: {embeddings_days: 30, verdicts_days: null}", &[]);
        assert_eq!(config.expect("good").retention.embeddings_days, Some(30));
    }

    #[test]
    fn a_missing_workspace_is_named() {
        let line = Line::parse_from(["modtool", "--workspace", "/nowhere/at/all"]);
        let error = Config::resolve(&line.options).expect_err("no such folder");
        assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
    }
}
