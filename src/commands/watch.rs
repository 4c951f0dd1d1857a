//! `modtool watch`: judge what is in a folder, and what comes.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tracing::{info, warn};

use crate::cli::OutputFormat;
use crate::config::{Config, MediaConfig, Unjudged};
use crate::exit_code::ExitCode;
use crate::files::{Excluded, Roots};
use crate::moderation::escape::escape_path;
use crate::moderation::{FileKind, JudgedWith, Timestamp};
use crate::pipeline::{
    self, Actor, Judging, Monitor, OnVerdict, PipelineError, RecheckPace, SettleTimes, Source,
    Stages, WatchTimes, Watching,
};
use crate::policy_file::PolicyFile;
use crate::store::{Judged, Recorded, Store, WatcherBeat};
use crate::vision::{Encoder, Model, ModelCard};

use super::clock::now;
use super::output::{VerdictLine, json_line};
use super::progress::{Doing, Progress, Rate, summary};
use super::{ground, reload, watchers, workspace};

/// Judge every picture in a folder, then every new one, until Ctrl-C
///
/// Verdicts go to modtool.db in the workspace, one log line each. What is flagged waits for a
/// person in `modtool review`; what people remove is moved to quarantine/. Policies that change
/// are taken over while it runs.
#[derive(Debug, Args)]
pub(super) struct WatchArgs {
    /// Folders to watch, with everything below them
    #[arg(required = true, value_name = "DIR")]
    folders: Vec<PathBuf>,

    /// Scan every few seconds instead of listening to the kernel's events
    #[arg(long)]
    poll: bool,

    /// What to print on standard output: json is one verdict a line, table is nothing
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
}

pub(super) async fn run(args: WatchArgs, config: Config) -> anyhow::Result<ExitCode> {
    let roots = roots(&args.folders, Missing::Make)?;
    ground::check_roots(&config, &roots)?;
    let locks = watchers::claim(&config, &roots)?;
    let watching = watching(&args, &config, &roots);
    let times = WatchTimes {
        rescan: Duration::from_secs(60 * config.watch.rescan_minutes),
        ..WatchTimes::default()
    };
    let settle = settle_times(&config, &roots);
    let pace = RecheckPace {
        days: config.watch.recheck_days,
        bytes_per_second: u64::from(config.watch.recheck_mib_s) << 20,
    };
    let run = Run::open(config.clone(), args.format, settle).await?;
    let reload = reload::watching(config.clone(), &run)?;
    run.renew_by(reload);
    let tidying = tokio::spawn(super::retention::daily(config, Arc::clone(&run.store)));
    for root in &roots {
        info!(folder = %escape_path(root), "watching; Ctrl-C ends");
    }
    let beating = run.beat(roots.clone());
    let ended = run.pipeline(Source::Watch(roots, watching, times, pace)).await;
    beating.end().await;
    tidying.abort();
    drop(locks);
    run.close().await;
    ended?;
    Ok(ExitCode::Clean)
}

/// By events, but for folders where the kernel has none to tell.
fn watching(args: &WatchArgs, config: &Config, roots: &[PathBuf]) -> Watching {
    let polling = args.poll
        || config.watch.poll.unwrap_or_else(|| {
            let mut kinds =
                roots.iter().filter_map(|root| workspace::file_system_without_events(root));
            kinds.next().is_some_and(|kind| {
                info!(kind, "a network file system, perhaps: scanning every few seconds");
                true
            })
        });
    if polling { Watching::Polling } else { Watching::Events }
}

/// Servers tell changes late, so files on them are left alone longer.
pub(super) fn settle_times(config: &Config, roots: &[PathBuf]) -> SettleTimes {
    let usual = SettleTimes::default();
    let far = roots.iter().any(|root| workspace::file_system_without_events(root).is_some());
    SettleTimes {
        closed: Duration::from_millis(config.watch.settle_ms),
        unchanged: if far { Duration::from_secs(5) } else { usual.unchanged },
        most: Duration::from_secs(config.watch.settle_max),
    }
}

/// What to do about a folder that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// An empty folder is what the user is about to drop pictures into.
    Make,
    /// There is nothing to look at.
    Refuse,
}

/// The folders by their real, absolute names, each once.
pub(super) fn roots(folders: &[PathBuf], missing: Missing) -> anyhow::Result<Vec<PathBuf>> {
    let mut roots = Vec::with_capacity(folders.len());
    for folder in folders {
        if missing == Missing::Make && std::fs::symlink_metadata(folder).is_err() {
            std::fs::create_dir(folder).with_context(|| {
                format!("there is no folder {}, and it can't be made", escape_path(folder))
            })?;
            warn!(folder = %escape_path(folder), "made this folder, which did not exist");
        }
        let root = std::fs::canonicalize(folder)
            .with_context(|| format!("can't open the folder {}", escape_path(folder)))?;
        if !root.is_dir() {
            bail!(
                "{} is a file, not a folder; `modtool score` judges single files",
                escape_path(folder)
            );
        }
        if !roots.contains(&root) {
            roots.push(root);
        }
    }
    Ok(roots)
}

/// The workspace's own files can lie below a watched folder only where the user asked for it;
/// elsewhere what only looks like them is an upload like any other.
fn excluded(config: &Config) -> Excluded {
    if config.allow_shared_workspace {
        Excluded::own_files_of(&config.workspace)
    } else {
        Excluded::default()
    }
}

/// The kinds of files that are not judged and that a person is told of. Links always: what they
/// lead to may be served.
fn told(config: &Config) -> BTreeSet<FileKind> {
    let MediaConfig { video, documents, other } = config.media;
    let kinds = [
        (FileKind::Video, video),
        (FileKind::Pdf, documents),
        (FileKind::Document, documents),
        (FileKind::Other, other),
        (FileKind::Link, Unjudged::Review),
    ];
    kinds.into_iter().filter(|(_, done)| *done == Unjudged::Review).map(|(kind, _)| kind).collect()
}

/// What `watch` and `scan` share: everything opened, ready to run the pipeline once.
pub(super) struct Run {
    pub(super) monitor: Arc<Monitor>,
    pub(super) store: Arc<Store>,
    actor: Actor,
    stages: std::sync::Mutex<Option<(Stages, Opening)>>,
    card: ModelCard,
    judged_with: JudgedWith,
    /// Set when it runs.
    engine: Arc<OnceLock<String>>,
    started: Instant,
    started_at: Timestamp,
    json_log: bool,
    /// A file that waits longer is named in `status`.
    alarm: Duration,
}

/// At most so many stuck paths are named in a beat.
const MOST_STUCK: usize = 5;

impl Run {
    /// Opens policies, store, engine and model; refuses broken policies before anything is judged.
    pub(super) async fn open(
        config: Config,
        format: OutputFormat,
        settle: SettleTimes,
    ) -> anyhow::Result<Self> {
        let json_log = config.json_log;
        let alarm = Duration::from_secs(config.watch.alarm_lag);
        let files = workspace::judging_policies(&config)?;
        if files.is_empty() {
            warn!(
                folder = %config.policies().display(),
                "there is no policy: every picture goes to review; `modtool init` writes some"
            );
        }
        let model = workspace::model(&config)?;
        let card = model.card.clone();
        // Each mostly waits, for children or for the disk.
        let own = config.clone();
        let decoders = tokio::task::spawn_blocking(move || workspace::decoders(&own));
        let (decoders, store) = tokio::join!(decoders, workspace::store(&config));
        let (decoders, store) = (decoders??, Arc::new(store?));
        let roots = Arc::<Roots>::default();
        let actor = workspace::actor(&config, &store, &roots)?;
        let monitor = Arc::<Monitor>::default();
        let judged_with = pipeline::judged_with(card.fingerprint.clone(), &decoders);
        let (give, judging) = oneshot::channel();
        let stages = Stages {
            store: Arc::clone(&store),
            spec: card.image.clone(),
            fingerprint: card.fingerprint.clone(),
            judging,
            reload: None,
            decoders,
            settle,
            preparers: std::thread::available_parallelism().map_or(2, usize::from),
            batch: config.engine.batch,
            roots,
            excluded: excluded(&config),
            told: told(&config),
            monitor: Arc::clone(&monitor),
            on_verdict: on_verdict(format, &card),
        };
        let opening = Opening { config, model, files, store: Arc::clone(&store), give };
        Ok(Self {
            monitor,
            store,
            actor,
            stages: std::sync::Mutex::new(Some((stages, opening))),
            card,
            judged_with,
            engine: Arc::default(),
            started: Instant::now(),
            started_at: now(),
            json_log,
            alarm,
        })
    }

    /// Lets the run take over newer policies.
    fn renew_by(&self, reload: pipeline::Reload) {
        if let Ok(mut stages) = self.stages.lock()
            && let Some((stages, _)) = stages.as_mut()
        {
            stages.reload = Some(reload);
        }
    }

    /// Runs until the source or the user ends it, and says what was done.
    pub(super) async fn pipeline(&self, source: Source) -> anyhow::Result<()> {
        let stages = self.stages.lock().ok().and_then(|mut stages| stages.take());
        let (stages, opening) = stages.context("a run can be used only once")?;
        let (told, mut twice) = stop_signals()?;
        let quiet = !tracing::enabled!(tracing::Level::INFO);
        let progress =
            Progress::start(Arc::clone(&self.monitor), Doing::Judging, quiet, self.json_log);
        let acting = self.actor.clone().start();
        // On a thread of its own: a large model computes for seconds before it is ready, in which
        // the run can be stopped.
        let (engine, runtime) = (Arc::clone(&self.engine), Handle::current());
        let opening = tokio::task::spawn_blocking(move || runtime.block_on(opening.open(&engine)));
        let ended = tokio::select! {
            ended = pipeline::run(source, stages, told) => ended,
            _ = twice.recv() => bail!("ended at once; what was not written down is judged again at the next start"),
        };
        acting.end().await;
        if matches!(ended, Err(PipelineError::NothingToJudgeWith)) {
            opening.await??;
        }
        // What the last verdicts wish for; what is interrupted here is done at the next start.
        self.actor.carry_out_due(Duration::ZERO).await?;
        drop(progress);
        info!("{}", summary(&self.monitor, self.started.elapsed()));
        Ok(ended?)
    }

    /// How many paths below these roots are not judged as they would be now.
    pub(super) async fn left(&self, roots: &[PathBuf]) -> anyhow::Result<u64> {
        Ok(self.store.count_judged_otherwise(&self.judged_with, roots).await?)
    }

    pub(super) async fn close(self) {
        drop((self.actor, self.stages));
        if let Some(store) = Arc::into_inner(self.store) {
            store.close().await;
        }
    }

    /// Tells other processes every second or so how the watcher does.
    fn beat(&self, roots: Vec<PathBuf>) -> Beating {
        let (end, mut ended) = tokio::sync::oneshot::channel();
        let (store, monitor) = (Arc::clone(&self.store), Arc::clone(&self.monitor));
        let (engine, model) = (Arc::clone(&self.engine), self.card.name.clone());
        let (started_at, alarm) = (self.started_at, self.alarm);
        let task = tokio::spawn(async move {
            let mut rate = Rate::new(&monitor);
            let mut interval = tokio::time::interval(Duration::from_secs(2));
            loop {
                let stopped = tokio::select! {
                    _ = interval.tick() => false,
                    _ = &mut ended => true,
                };
                let (waiting, oldest) = monitor.waiting();
                let per_second = rate.per_second();
                for root in &roots {
                    let beat = WatcherBeat {
                        root: root.clone(),
                        pid: std::process::id(),
                        started_at,
                        beat_at: now(),
                        stopped_at: stopped.then(now),
                        engine: engine.get().map_or("starting", String::as_str).to_owned(),
                        model: model.clone(),
                        judged: monitor.judged.load(Relaxed),
                        rate: per_second,
                        waiting,
                        lag_ms: oldest.map_or(0, |since| {
                            u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
                        }),
                        skipped: monitor.skipped(),
                        again: monitor.again.load(Relaxed),
                        stuck: monitor.stuck(alarm, MOST_STUCK),
                        last_error: monitor.last_error(),
                    };
                    if let Err(error) = store.record_beat(&beat).await {
                        warn!(%error, "can't tell other processes how the watcher does");
                    }
                }
                if stopped {
                    return;
                }
            }
        });
        Beating { end, task }
    }
}

/// The model and the policies are opened while the first files are found and decoded already.
struct Opening {
    config: Config,
    model: Model,
    files: Vec<PolicyFile>,
    store: Arc<Store>,
    give: oneshot::Sender<Judging>,
}

impl Opening {
    async fn open(self, engine: &OnceLock<String>) -> anyhow::Result<()> {
        let Self { config, model, files, store, give } = self;
        let (encoder, found) = workspace::encoder_of(&config, &model)?;
        let classifiers =
            workspace::classifiers(encoder.as_ref(), &files, &config, Some(&store)).await?;
        let encoder: Arc<dyn Encoder> = encoder.into();
        encoder.open_for_pictures()?;
        let card = encoder.model();
        let policies: Vec<_> = files.iter().map(|file| Arc::clone(&file.policy)).collect();
        let judged_by = store.begin_judging(&card.fingerprint, &card.name, &policies).await?;
        info!(model = card.name, engine = %found, policies = policies.len(), "ready");
        engine.get_or_init(|| found.to_string());
        // Nobody takes it only when the run was stopped meanwhile.
        let _ = give.send(Judging { encoder, classifiers, judged_by });
        Ok(())
    }
}

/// The watcher's heart; [`Beating::end`] tells that the end was wanted.
struct Beating {
    end: tokio::sync::oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

impl Beating {
    async fn end(self) {
        // The task is gone only when it panicked; that was printed.
        let _ = self.end.send(());
        let _ = self.task.await;
    }
}

/// With `--format json`, one verdict a line on standard output.
fn on_verdict(format: OutputFormat, card: &ModelCard) -> OnVerdict {
    if format == OutputFormat::Table {
        return Box::new(|_, _| ());
    }
    let (name, fingerprint) = (card.name.clone(), card.fingerprint.clone());
    Box::new(move |judged: &Judged, recorded: &Recorded| {
        let line = VerdictLine {
            path: judged.sighting.shown(),
            item: judged.item,
            model: Some((&name, &fingerprint)),
            outcome: recorded.outcome,
            reason: recorded.reason.as_ref(),
            policies: &judged.verdict.policies,
        };
        let mut out = std::io::stdout().lock();
        // A reader that went away does not stop the watcher: the verdict is in the store.
        let _ = json_line(&mut out, &line.json().into()).and_then(|()| out.flush());
    })
}

/// The first SIGINT or SIGTERM resolves the future; a second one arrives on the channel.
pub(super) fn stop_signals()
-> anyhow::Result<(impl Future<Output = ()> + Send + 'static, tokio::sync::mpsc::Receiver<()>)> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let (first, told) = tokio::sync::oneshot::channel();
    let (second, twice) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! { _ = interrupt.recv() => (), _ = terminate.recv() => () }
        };
        next().await;
        info!("ending: what is under way is written down; again to end at once");
        let _ = first.send(());
        next().await;
        let _ = second.send(()).await;
        std::future::pending::<()>().await;
    });
    let told = async move {
        if told.await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    Ok((told, twice))
}
