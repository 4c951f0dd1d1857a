//! From a folder to verdicts in the store: bounded stages, joined by channels.
//!
//! `source → settle → prepare (read, hash, decode) → embed (model, policies) → record`
//!
//! Only the source knows the difference between `watch`, `scan` and `score`. To stop, the source
//! is stopped; closed channels drain the rest. What was not let in yet stays in the folder, which
//! is the overflow store, and is found at the next start.

mod act;
mod again;
mod embed;
mod fair;
mod media;
mod monitor;
mod once;
mod places;
mod prepare;
mod recheck;
mod reconcile;
mod record;
mod rescore;
mod settle;
mod sweep;
mod turns;
mod unread;
mod watch;

use std::collections::{BTreeSet, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch as signal};
use tokio::task::JoinSet;

use crate::files::{Excluded, Roots};
use crate::moderation::{Classifier, FileKind, Fingerprint, JudgedWith};
use crate::store::{Judged, JudgedBy, Recorded, Store, StoreError};
use crate::vision::{DecoderPool, Encoder, ImageSpec, decode};

pub use act::{
    Acting, Actor, Carried, ErasedFiles, Hook, MoveLock, PATIENCE, STEPS, Target, erase_files,
    lock_moves, quarantined_at,
};
pub use monitor::{Monitor, now};
pub use once::{judge_named, pictures_named};
pub use recheck::RecheckPace;
pub use reconcile::Trust;
pub use rescore::{Rescored, rescore};
pub use settle::SettleTimes;
pub use watch::{WatchTimes, Watching};

use embed::{Embedder, Rules};
use fair::FairQueue;
use places::Places;
use prepare::{Prepared, Preparer};
use recheck::OpenFiles;
use reconcile::{NoPictures, Scanner};
use record::Recorder;
use settle::{Candidate, Feedback};
use turns::Turns;

/// After a stop, what is under way may take so long to be written down.
const GRACE: Duration = Duration::from_secs(3);

/// The pixels of views that may wait for the model, in bytes: the decoders go on while it is being loaded.
const WAITING: usize = 16 << 20;

/// Longer than any run.
const FAR: Duration = Duration::from_hours(24 * 365 * 30);

/// Where files come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// Everything below these folders, once.
    Scan(Vec<PathBuf>, Trust),
    /// What lies below these folders and was judged with anything else than is used now, once.
    Again(Vec<PathBuf>),
    /// Everything below these folders, for ever.
    Watch(Vec<PathBuf>, Watching, WatchTimes, RecheckPace),
}

/// What a run works with.
pub struct Stages {
    /// Where verdicts go.
    pub store: Arc<Store>,
    /// How pictures are prepared for the model.
    pub spec: ImageSpec,
    /// Names the model.
    pub fingerprint: Fingerprint,
    /// The model and the policies, which may still be on their way: files are found, read and
    /// decoded meanwhile. A sender that goes away without them ends the run.
    pub judging: oneshot::Receiver<Judging>,
    /// Where newer policies come from, if they may change while the run lasts.
    pub reload: Option<Reload>,
    /// Where pictures are decoded.
    pub decoders: Arc<DecoderPool>,
    /// When a file counts as written.
    pub settle: SettleTimes,
    /// Files that are read and decoded at once; one more where these take long.
    pub preparers: usize,
    /// Pictures that the model takes at once.
    pub batch: usize,
    /// The folders, held.
    pub roots: Arc<Roots>,
    /// The workspace's own files.
    pub excluded: Excluded,
    /// What is not judged and is put before a person all the same, one row a folder and kind.
    pub told: BTreeSet<FileKind>,
    /// Tells how the run does.
    pub monitor: Arc<Monitor>,
    /// Called with every verdict once it is written down; of a watcher only with those that say
    /// something new.
    pub on_verdict: OnVerdict,
}

/// What judges.
pub struct Judging {
    /// The model, running.
    pub encoder: Arc<dyn Encoder>,
    /// The policies, embedded by that model.
    pub classifiers: Vec<Classifier>,
    /// The same, as the store numbers them.
    pub judged_by: JudgedBy,
}

/// Asked every second, on a thread of its own: answers new policies, embedded by the model and
/// announced to the store, when there are any that are good.
pub type Reload = Box<dyn FnMut(&dyn Encoder) -> Option<(Vec<Classifier>, JudgedBy)> + Send>;

/// Called with every verdict once it is written down.
pub type OnVerdict = Box<dyn Fn(&Judged, &Recorded) + Send + Sync>;

/// Why a run ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The store could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The sender of [`Stages::judging`] knows why.
    #[error("there is nothing to judge with")]
    NothingToJudgeWith,
    /// A stage panicked: a defect of this program.
    #[error("a stage of the pipeline panicked; please report this")]
    Panicked(#[source] tokio::task::JoinError),
}

/// Runs until the source has ended (a scan) or `shutdown` resolves (then what is under way is
/// drained, for at most three seconds). Files that were judged are in the store when this returns.
///
/// # Errors
/// [`PipelineError`] when the store fails for good or a stage panics.
pub async fn run(
    source: Source,
    stages: Stages,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), PipelineError> {
    let (stopper, stop) = stopper();
    // Bounded by the places: each candidate has one.
    let (candidates, candidates_in) = mpsc::unbounded_channel::<Candidate>();
    let (feedback, feedback_in) = mpsc::unbounded_channel::<Feedback>();
    let (places, turns) = (Arc::<Places>::default(), Arc::new(Turns::new(stages.preparers)));
    let most_waiting = (WAITING / stages.spec.bytes()).max((stages.preparers + 1) * stages.batch);
    // One uploader can fill half of it.
    let to_model = Arc::new(FairQueue::<Prepared>::new(2 * most_waiting));
    let no_pictures = Arc::new(NoPictures::default());
    let Stages { store, fingerprint, judging, reload, monitor, on_verdict, roots, .. } = stages;
    let on_verdict = match source {
        Source::Scan(..) | Source::Again(_) => on_verdict,
        Source::Watch(..) => only_news(on_verdict),
    };

    let judged_with = Arc::new(judged_with(fingerprint, &stages.decoders));
    let open = Arc::<OpenFiles>::default();
    let (Source::Scan(paths, _) | Source::Watch(paths, ..) | Source::Again(paths)) = &source;
    let paths: Arc<[PathBuf]> = paths.as_slice().into();
    let (trust, looks_again) = match &source {
        Source::Scan(_, trust) => (*trust, None),
        Source::Again(_) => (Trust::Times, None),
        Source::Watch(..) => (Trust::Times, Some(Arc::clone(&open))),
    };
    let scanner = Scanner {
        trust,
        store: Arc::clone(&store),
        judged_with: Arc::clone(&judged_with),
        unjudged: decode::unjudged(stages.decoders.limits()),
        roots: Arc::clone(&roots),
        paths,
        excluded: stages.excluded,
        told: Arc::new(stages.told),
        no_pictures: Arc::clone(&no_pictures),
        candidates,
        places: Arc::clone(&places),
        turns: Arc::clone(&turns),
        unread: Arc::clone(&to_model),
        parked: Arc::default(),
        monitor: Arc::clone(&monitor),
    };
    let preparer = Preparer {
        spec: stages.spec,
        roots: Arc::clone(&roots),
        decoders: Arc::clone(&stages.decoders),
        judged_with,
        store: Some((Arc::clone(&store), Handle::current())),
        no_pictures,
        open: looks_again,
        monitor: Arc::clone(&monitor),
        feedback: feedback.clone(),
    };

    let held = Arc::clone(&roots);
    let mut tasks: JoinSet<Result<(), PipelineError>> = JoinSet::new();
    {
        let stop = stop.clone();
        tasks.spawn(async move { Ok(feed(source, scanner, open, stop).await?) });
    }
    {
        let (turns, times) = (Arc::clone(&turns), stages.settle);
        let (monitor, stop) = (Arc::clone(&monitor), stop.clone());
        tasks.spawn(async move {
            let channels = settle::Channels { candidates: candidates_in, feedback: feedback_in };
            settle::settle(channels, &roots, &places, &turns, times, &monitor, stop).await;
            Ok(())
        });
    }
    let last = Arc::new(Last(Arc::clone(&to_model)));
    for _ in 0..turns.threads() {
        let (preparer, turns, last) = (preparer.clone(), Arc::clone(&turns), Arc::clone(&last));
        tasks.spawn_blocking(move || {
            preparer.run(&turns, &last.0);
            Ok(())
        });
    }
    drop((preparer, last));
    let batch = stages.batch;
    let judge = Judge { store, roots: held, batch, reload, monitor, on_verdict, feedback, stop };
    tasks.spawn(judge.run(judging, to_model));

    join(tasks, stopper, shutdown, &stages.decoders).await
}

/// What pictures are judged with by this model and these decoders.
pub fn judged_with(fingerprint: Fingerprint, decoders: &DecoderPool) -> JudgedWith {
    JudgedWith { fingerprint, recipes: decode::recipes(decoders.limits()) }
}

/// Of so many paths a watcher knows whether it has told their verdict; eight bytes each.
const MOST_TOLD: usize = 1 << 20;

/// A scan reads each file once. A watcher would say the same as often as an uploader writes it: what
/// it has told of a path in this run, or what is known and a million others were told of, is not
/// told again.
fn only_news(on_verdict: OnVerdict) -> OnVerdict {
    let (hasher, told) = (RandomState::new(), Mutex::new(HashSet::<u64>::new()));
    Box::new(move |judged: &Judged, recorded: &Recorded| {
        let path = hasher.hash_one(&judged.sighting.path);
        let mut told = lock(&told);
        let first = told.len() < MOST_TOLD && told.insert(path);
        drop(told);
        if first || !recorded.repeat {
            on_verdict(judged, recorded);
        }
    })
}

/// Shared by the preparing threads: the last one to end tells the model's threads.
struct Last(Arc<FairQueue<Prepared>>);

impl Drop for Last {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Held by the stages behind the model's queue: without them nobody takes anything from it.
struct Taking(Arc<FairQueue<Prepared>>);

impl Drop for Taking {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// The stages that need the model: embed and record.
struct Judge {
    store: Arc<Store>,
    roots: Arc<Roots>,
    batch: usize,
    reload: Option<Reload>,
    monitor: Arc<Monitor>,
    on_verdict: OnVerdict,
    feedback: mpsc::UnboundedSender<Feedback>,
    stop: Stop,
}

impl Judge {
    async fn run(
        self,
        judging: oneshot::Receiver<Judging>,
        prepared: Arc<FairQueue<Prepared>>,
    ) -> Result<(), PipelineError> {
        let _taking = Taking(Arc::clone(&prepared));
        let Self { store, roots, batch, reload, monitor, on_verdict, feedback, mut stop } = self;
        let judging = tokio::select! {
            judging = judging => judging.map_err(|_gone| PipelineError::NothingToJudgeWith)?,
            // What was prepared is found again at the next start.
            () = stop.requested() => return Ok(()),
        };
        let Judging { encoder, classifiers, judged_by } = judging;
        let rules = Arc::new(Rules::new(classifiers, judged_by));
        let lanes = encoder.lanes();
        let (judged, judged_in) = mpsc::channel::<Judged>((lanes + 1) * batch);
        let mut tasks: JoinSet<Result<(), PipelineError>> = JoinSet::new();
        if let Some(reload) = reload {
            let (encoder, rules, stop) = (Arc::clone(&encoder), Arc::clone(&rules), stop.clone());
            tasks.spawn(async move {
                embed::renew(reload, encoder, rules, stop).await;
                Ok(())
            });
        }
        let gathering = Arc::<Mutex<()>>::default();
        for _ in 0..lanes {
            let embedder = Embedder {
                encoder: Arc::clone(&encoder),
                rules: Arc::clone(&rules),
                batch,
                monitor: Arc::clone(&monitor),
                stop: stop.clone(),
            };
            let (prepared, judged) = (Arc::clone(&prepared), judged.clone());
            let gathering = Arc::clone(&gathering);
            tasks.spawn_blocking(move || {
                embedder.run(&prepared, &gathering, &judged);
                Ok(())
            });
        }
        drop((encoder, judged));
        tasks.spawn(async move {
            let recorder = Recorder { store, roots, rules, monitor, on_verdict, feedback, stop };
            Ok(recorder.run(judged_in).await?)
        });
        // The first error ends the others: what they read from is gone then.
        while let Some(ended) = tasks.join_next().await {
            ended.map_err(PipelineError::Panicked)??;
        }
        Ok(())
    }
}

/// Waits for all stages. The first error stops the source and is answered when all have ended.
async fn join(
    mut tasks: JoinSet<Result<(), PipelineError>>,
    stopper: Stopper,
    shutdown: impl Future<Output = ()> + Send + 'static,
    decoders: &DecoderPool,
) -> Result<(), PipelineError> {
    let mut shutdown = Box::pin(shutdown);
    let mut ending = false;
    let mut first_error = None;
    let mut grace = Box::pin(tokio::time::sleep(FAR));
    loop {
        tokio::select! {
            // A picture that takes seconds must not keep the run from ending.
            () = &mut grace, if ending => {
                decoders.call_off();
                grace.as_mut().reset(tokio::time::Instant::now() + FAR);
            }
            () = &mut shutdown, if !ending => {
                ending = true;
                stopper.stop();
                grace.as_mut().reset(tokio::time::Instant::now() + GRACE);
            }
            ended = tasks.join_next() => {
                let error = match ended {
                    None => return first_error.map_or(Ok(()), Err),
                    Some(Ok(Ok(()))) => continue,
                    Some(Ok(Err(error))) => error,
                    Some(Err(panicked)) => PipelineError::Panicked(panicked),
                };
                first_error.get_or_insert(error);
                ending = true;
                stopper.stop();
                grace.as_mut().reset(tokio::time::Instant::now() + GRACE);
            }
        }
    }
}

async fn feed(
    source: Source,
    scanner: Scanner,
    open: Arc<OpenFiles>,
    mut stop: Stop,
) -> Result<(), StoreError> {
    if let Source::Scan(roots, _) | Source::Watch(roots, ..) = &source {
        let (roots, counting) = (roots.clone(), scanner.clone());
        // Nobody waits for it: it only makes the progress bar wise.
        tokio::task::spawn_blocking(move || counting.count_files(&roots));
    }
    match source {
        Source::Scan(roots, _) => {
            tokio::select! {
                found = sweep::scan_all(&roots, &scanner) => found?,
                () = stop.requested() => return Ok(()),
            }
            again::judge_again(&roots, &scanner, stop).await
        }
        Source::Again(roots) => again::judge_again(&roots, &scanner, stop).await,
        Source::Watch(roots, watching, times, pace) => {
            recheck::start(scanner.clone(), open, pace, stop.clone());
            let again = again::judge_again(&roots, &scanner, stop.clone());
            let watching = async {
                watch::watch(&roots, watching, times, &scanner, stop).await;
                Ok(())
            };
            tokio::try_join!(watching, again).map(|_| ())
        }
    }
}

/// The stopping side of a [`Stop`].
#[derive(Debug)]
struct Stopper(signal::Sender<Option<Instant>>);

/// Tells a stage that the run is to end.
#[derive(Debug, Clone)]
struct Stop(signal::Receiver<Option<Instant>>);

fn stopper() -> (Stopper, Stop) {
    let (sender, receiver) = signal::channel(None);
    (Stopper(sender), Stop(receiver))
}

impl Stopper {
    fn stop(&self) {
        self.0.send_if_modified(|since| since.replace(Instant::now()).is_none());
    }
}

impl Stop {
    async fn requested(&mut self) {
        if self.0.wait_for(Option::is_some).await.is_err() {
            // The stopping side went away without stopping: nobody will.
            std::future::pending::<()>().await;
        }
    }

    fn is_requested(&self) -> bool {
        self.0.borrow().is_some()
    }

    fn grace_is_over(&self) -> bool {
        self.0.borrow().is_some_and(|since| since.elapsed() > GRACE)
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
