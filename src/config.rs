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
    /// How folders are watched.
    pub watch: WatchConfig,
    /// Who reviews, and how.
    pub review: ReviewConfig,
}

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

/// How folders are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchConfig {
    /// Milliseconds after a file was closed until it is read.
    pub settle_ms: u64,
    /// Minutes between two full scans.
    pub rescan_minutes: u64,
    /// Scan instead of listening to the kernel; `None`: where the file system needs it.
    pub poll: Option<bool>,
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

impl Config {
    /// Reads `modtool.yaml` where the workspace has one; the command line wins over it.
    ///
    /// # Errors
    /// [`ConfigError`] naming file, line and field, or the folder that is missing.
    pub fn resolve(options: &GlobalOptions) -> Result<Self, ConfigError> {
        // The real name, as watched folders go by it: the workspace's own files are told by it.
        let workspace = std::fs::canonicalize(&options.workspace)
            .ok()
            .filter(|path| path.is_dir())
            .ok_or_else(|| ConfigError::NoWorkspace(options.workspace.clone()))?;
        let data_dir = match &options.data_dir {
            Some(dir) => std::path::absolute(dir).unwrap_or_else(|_| dir.clone()),
            None => platform_data_dir().ok_or(ConfigError::NoDataDir)?,
        };
        let file = workspace.join("modtool.yaml");
        let written = if file.exists() { read(&file)? } else { Settings::default() };
        Ok(Self::merge(options, written, workspace, data_dir))
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
            watch: WatchConfig {
                settle_ms: watch.settle_ms.value,
                rescan_minutes: watch.rescan_minutes.value,
                poll: match watch.poll.value.as_str() {
                    "true" => Some(true),
                    "false" => Some(false),
                    _ => None,
                },
            },
            review: ReviewConfig {
                reviewer: review.reviewer,
                pictures: review.pictures.value,
                keys: review.keys,
                exposure_budget: review.exposure_budget,
                break_minutes: review.break_minutes,
            },
            workspace,
            data_dir,
        }
    }

    /// The database of the workspace.
    pub fn database(&self) -> PathBuf {
        self.workspace.join("modtool.db")
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
    /// Something is wrong in `modtool.yaml`; every problem is told.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Settings(Vec<YamlProblem>),
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
    watch: WatchSettings,
    review: ReviewSettings,
    audit_rate: Spanned<f64>,
    rescore_on_change: Spanned<bool>,
    daily_hold_cap: Option<Spanned<u64>>,
    retention: Spanned<BTreeMap<String, Option<u64>>>,
    hooks: Spanned<Vec<serde::de::IgnoredAny>>,
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
struct WatchSettings {
    settle_ms: Spanned<u64>,
    rescan_minutes: Spanned<u64>,
    poll: Spanned<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ReviewSettings {
    reviewer: Option<String>,
    pictures: Spanned<String>,
    grace_seconds: Option<Spanned<u64>>,
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
            watch: WatchSettings::default(),
            review: ReviewSettings::default(),
            audit_rate: nowhere(0.0),
            rescore_on_change: nowhere(false),
            daily_hold_cap: None,
            retention: nowhere(BTreeMap::new()),
            hooks: nowhere(Vec::new()),
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

impl Default for WatchSettings {
    fn default() -> Self {
        Self {
            settle_ms: nowhere(250),
            rescan_minutes: nowhere(5),
            poll: nowhere("auto".to_owned()),
        }
    }
}

impl Default for ReviewSettings {
    fn default() -> Self {
        Self {
            reviewer: None,
            pictures: nowhere("auto".to_owned()),
            grace_seconds: None,
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
        let WatchSettings { settle_ms, rescan_minutes, poll } = &self.watch;
        let fits = settle_ms.value <= 60_000;
        problems.unless(fits, settle_ms, "settle_ms is at most 60000", "the default is 250");
        let fits = (1..=1440).contains(&rescan_minutes.value);
        problems.unless(fits, rescan_minutes, "rescan_minutes is 1 to 1440", "the default is 5");
        let known = ["auto", "true", "false"].contains(&poll.value.as_str());
        problems.unless(known, poll, "an unknown value", "it is one of auto, true, false");
        let pictures = &self.review.pictures;
        let known = PICTURES.contains(&pictures.value.as_str());
        let hint = format!("it is one of {}", PICTURES.join(", "));
        problems.unless(known, pictures, "an unknown way to show pictures", &hint);

        problems.later(self.audit_rate.value == 0.0, &self.audit_rate, "audit_rate");
        let rescore = &self.rescore_on_change;
        problems.later(!rescore.value, rescore, "rescore_on_change");
        if let Some(cap) = &self.daily_hold_cap {
            problems.later(false, cap, "daily_hold_cap");
        }
        let kept = self.retention.value.values().all(Option::is_none);
        problems.later(kept, &self.retention, "retention");
        problems.later(self.hooks.value.is_empty(), &self.hooks, "hooks");
        if let Some(grace) = &self.review.grace_seconds {
            problems.later(false, grace, "review.grace_seconds");
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

    /// Accepting such a field silently would promise something that does not happen.
    fn later<T>(&mut self, unset: bool, place: &Spanned<T>, field: &str) {
        let what = format!("`{field}` is not supported by this version yet");
        self.unless(unset, place, &what, "remove the line");
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
        let yaml = "limits: {side: 0}\nwatch:\n  poll: maybe\naudit_rate: 0.01\n";
        let Err(ConfigError::Settings(problems)) = resolved(yaml, &[]) else {
            panic!("must be refused")
        };
        let lines: Vec<_> = problems.iter().map(|problem| problem.line).collect();
        assert_eq!(lines, [1, 3, 4], "{problems:?}");
        let Err(error) = resolved("modle: x\n", &[]) else { panic!("must be refused") };
        assert!(error.to_string().contains("did you mean `model`?"), "{error}");
    }

    #[test]
    fn what_this_version_can_not_do_is_refused() {
        for yaml in ["hooks: [{}]", "retention: {verdicts_days: 3}"] {
            let error = resolved(yaml, &[]).expect_err("must be refused").to_string();
            assert!(error.contains("not supported by this version yet"), "{error}");
        }
    }

    #[test]
    fn a_missing_workspace_is_named() {
        let line = Line::parse_from(["modtool", "--workspace", "/nowhere/at/all"]);
        let error = Config::resolve(&line.options).expect_err("no such folder");
        assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
    }
}
