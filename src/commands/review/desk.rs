//! Does what the dashboard asks of the store, and tells it what others changed there.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval};

use crate::config::Config;
use crate::moderation::escape::{escape, escape_path};
use crate::moderation::{
    Action, Classifier, Decision, DecisionOutcome, Fingerprint, ItemId, LogitScale, Policy,
    ReviewTask, Reviewer, ScoreHistogram, TaskDetail, TaskId, Timestamp,
};
use crate::store::{Store, StoreError, WatcherBeat};
use crate::tui::{Effect, Event, Numbers, RequestId, Reveal, Watcher, Why};
use crate::vision::ModelCard;

use super::known_policies;
use super::search::Finder;
use crate::commands::clock::{day_start, days_back, local_day, now, span};
use crate::commands::reload::PolicyFiles;
use crate::commands::{status, workspace};

/// How often the store is asked whether anything changed; one look into an index.
const POLL: Duration = Duration::from_millis(500);
/// Every so many polls the watchers are looked at, and the clock is told.
const SLOW: u32 = 4;
/// How the scores of all uploads lie is read again after so many milliseconds.
const FRESH_MS: i64 = 60_000;
/// Days on the page of numbers.
const DAYS: u16 = 14;

/// The store's side of the dashboard. Reads run side by side, decisions one after another.
pub(super) struct Desk {
    shared: Arc<Shared>,
    reads: JoinSet<()>,
    details: watch::Sender<Option<(RequestId, TaskId)>>,
    leases: watch::Sender<Option<(RequestId, Option<TaskId>)>>,
    lessee: JoinHandle<()>,
    finder: Finder,
    decisions: mpsc::UnboundedSender<Write>,
    writer: JoinHandle<()>,
}

struct Shared {
    store: Arc<Store>,
    explainer: Explainer,
    events: Sender<Event>,
}

enum Write {
    Decide(RequestId, Decision),
    Together(RequestId, Vec<Decision>),
    Items(RequestId, Vec<ItemId>, Action),
    Undo(RequestId),
    Redo(RequestId),
    Expose(ItemId, Reveal),
}

impl Desk {
    /// Begins to watch the store; must be called within the runtime.
    pub(super) fn open(
        store: Arc<Store>,
        reviewer: Reviewer,
        policies: Vec<Arc<Policy>>,
        card: &ModelCard,
        config: &Config,
        events: Sender<Event>,
    ) -> Self {
        let finder = Finder::open(Arc::clone(&store), card.clone(), config.clone(), events.clone());
        let explainer = Explainer {
            reviewer,
            policies: Mutex::new(policies),
            fingerprint: card.fingerprint.clone(),
            logit_scale: card.logit_scale,
            classifiers: Mutex::new(Vec::new()),
            histograms: Mutex::new((Timestamp(0), Vec::new())),
        };
        let shared = Arc::new(Shared { store, explainer, events });
        let mut reads = JoinSet::new();
        reads.spawn(watch_the_store(Arc::clone(&shared)));
        reads.spawn(watch_the_policies(
            Arc::clone(&shared),
            PolicyFiles::of(config.clone(), workspace::policies),
        ));
        let (details, asked) = watch::channel(None);
        reads.spawn(answer_details(Arc::clone(&shared), asked));
        let (leases, wanted) = watch::channel(None);
        let lessee = tokio::spawn(hold_leases(Arc::clone(&shared), wanted));
        // Unbounded, as a person fills it by hand.
        let (decisions, to_write) = mpsc::unbounded_channel();
        let writer = tokio::spawn(write_all(Arc::clone(&shared), to_write));
        Self { shared, reads, details, leases, lessee, finder, decisions, writer }
    }

    /// Begins what an effect asks for.
    pub(super) fn perform(&mut self, effect: Effect) {
        while self.reads.try_join_next().is_some() {}
        let shared = Arc::clone(&self.shared);
        match effect {
            Effect::LoadQueue { id, filter, after, limit } => {
                self.reads.spawn(async move {
                    let limit = u32::try_from(limit).unwrap_or(u32::MAX);
                    let tasks = shared.store.queue(&filter, after, limit).await;
                    shared.answer(id, tasks, |tasks| Event::QueueLoaded { id, tasks });
                });
            }
            Effect::LoadCounts { id } => {
                self.reads.spawn(async move {
                    let counts = shared.store.queue_counts(day_start()).await;
                    shared.answer(id, counts, |counts| Event::CountsLoaded { id, counts });
                });
            }
            Effect::LoadPolicyCounts { id } => {
                self.reads.spawn(async move {
                    let counts = shared.store.policy_counts().await;
                    shared.answer(id, counts, |counts| Event::PolicyCountsLoaded { id, counts });
                });
            }
            Effect::LoadDetail { id, task } => {
                self.details.send_replace(Some((id, task)));
            }
            Effect::Decide { id, task, action, reason, note } => {
                let reviewer = shared.explainer.reviewer.clone();
                let decision = Decision { task, action, reviewer, reason, note, at: now() };
                self.write(id, Write::Decide(id, decision));
            }
            Effect::DecideTogether { id, tasks, action, reason, note } => {
                let decision = |task| Decision {
                    task,
                    action,
                    reviewer: shared.explainer.reviewer.clone(),
                    reason: reason.clone(),
                    note: note.clone(),
                    at: now(),
                };
                self.write(id, Write::Together(id, tasks.into_iter().map(decision).collect()));
            }
            Effect::DecideItems { id, items, action } => {
                self.write(id, Write::Items(id, items, action));
            }
            Effect::Undo { id } => self.write(id, Write::Undo(id)),
            Effect::Redo { id } => self.write(id, Write::Redo(id)),
            Effect::Expose { item, step } => {
                // Nobody waits for it by number.
                self.write(RequestId(0), Write::Expose(item, step));
            }
            Effect::CountExposures => {
                self.reads.spawn(async move { shared.count_exposures().await });
            }
            Effect::Lease { id, task } => {
                self.leases.send_replace(Some((id, task)));
            }
            Effect::LoadGroups { id, tasks } => {
                self.reads.spawn(async move {
                    let groups = shared.groups(&tasks).await;
                    shared.answer(id, groups, |tasks| Event::GroupLoaded { id, tasks });
                });
            }
            Effect::LoadNumbers { id } => {
                self.reads.spawn(async move {
                    let numbers = shared.numbers().await;
                    shared.answer(id, numbers, |numbers| Event::NumbersLoaded {
                        id,
                        numbers: Box::new(numbers),
                    });
                });
            }
            effect @ (Effect::Find { .. }
            | Effect::LookUp { .. }
            | Effect::LoadNeighbours { .. }) => self.finder.perform(effect),
            Effect::Quit
            | Effect::Suspend
            | Effect::Redraw
            | Effect::LoadPicture { .. }
            | Effect::Prefetch { .. }
            | Effect::DropPicture { .. } => {}
        }
    }

    fn write(&self, id: RequestId, write: Write) {
        if self.decisions.send(write).is_err() {
            self.shared.tell(Event::Failed { id, why: "the store was closed".to_owned() });
        }
    }

    /// Finishes what was decided; reads are dropped.
    pub(super) async fn close(mut self) {
        drop((self.decisions, self.leases));
        // If one of them panicked, its panic was reported already.
        let _ = self.writer.await;
        let _ = self.lessee.await;
        self.finder.close().await;
        self.reads.shutdown().await;
    }
}

impl Shared {
    /// The loop may be gone: then nobody wants to know.
    fn tell(&self, event: Event) -> bool {
        self.events.send(event).is_ok()
    }

    fn answer<T>(
        &self,
        id: RequestId,
        answer: Result<T, StoreError>,
        event: impl FnOnce(T) -> Event,
    ) {
        self.tell(match answer {
            Ok(answer) => event(answer),
            Err(error) => Event::Failed { id, why: in_one_line(&error) },
        });
    }
}

impl Shared {
    async fn count_exposures(&self) {
        let counted = self.store.exposures(&self.explainer.reviewer, day_start()).await;
        // A number that can't be read is not worth a word.
        if let Ok(count) = counted {
            self.tell(Event::Exposures { count });
        }
    }

    /// The tasks that these stand for, each once.
    async fn groups(&self, leaders: &[TaskId]) -> Result<Vec<ReviewTask>, StoreError> {
        let mut tasks: Vec<ReviewTask> = Vec::new();
        for leader in leaders {
            for task in self.store.group(*leader).await? {
                if !tasks.iter().any(|known| known.id == task.id) {
                    tasks.push(task);
                }
            }
        }
        Ok(tasks)
    }

    async fn numbers(&self) -> Result<Numbers, StoreError> {
        let days = days_back(DAYS);
        let beats = self.store.watcher_beats().await?;
        let running = beats.iter().filter(|beat| status::is_running(beat));
        let watcher = |beat: &WatcherBeat| {
            format!(
                "{}: {:.1} pictures/s, {} waiting, lag {}, {}, model {}",
                escape_path(&beat.root),
                beat.rate,
                beat.waiting,
                span(if beat.waiting > 0 { beat.lag_ms } else { 0 }),
                escape(beat.engine.as_bytes()),
                escape(beat.model.as_bytes())
            )
        };
        Ok(Numbers {
            watchers: running.map(watcher).collect(),
            stats: self.store.review_stats(&days, now()).await?,
            days: days.iter().map(|day| local_day(*day)).collect(),
            histograms: self.explainer.read_histograms(&self.store).await?,
        })
    }

    /// Decides items whether anything flagged them or not.
    async fn decide_items(
        &self,
        items: &[ItemId],
        action: Action,
    ) -> Result<Vec<DecisionOutcome>, StoreError> {
        let reviewer = &self.explainer.reviewer;
        let mut decisions = Vec::with_capacity(items.len());
        for item in items {
            if let Some(task) = self.store.open_by_hand(*item, reviewer, now()).await? {
                let (reviewer, at) = (reviewer.clone(), now());
                decisions.push(Decision { task, action, reviewer, reason: None, note: None, at });
            }
        }
        let mut outcomes = self.store.record_decisions(&decisions).await?;
        // What lies nowhere any more can't be decided.
        outcomes.resize(items.len(), DecisionOutcome::Superseded);
        Ok(outcomes)
    }
}

/// The error and its causes, as `{err:#}` prints them.
fn in_one_line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text += ": ";
        text += &source.to_string();
        cause = source.source();
    }
    text
}

/// One decision after another, in the order of the keys; ends when all are written.
async fn write_all(shared: Arc<Shared>, mut writes: mpsc::UnboundedReceiver<Write>) {
    while let Some(write) = writes.recv().await {
        match write {
            Write::Decide(id, decision) => {
                let outcome = shared.store.record_decision(&decision).await;
                shared.answer(id, outcome, |outcome| Event::Decided { id, outcome });
            }
            Write::Together(id, decisions) => {
                let outcomes = shared.store.record_decisions(&decisions).await;
                shared.answer(id, outcomes, |outcomes| Event::DecidedTogether { id, outcomes });
            }
            Write::Items(id, items, action) => {
                let outcomes = shared.decide_items(&items, action).await;
                shared.answer(id, outcomes, |outcomes| Event::DecidedTogether { id, outcomes });
            }
            Write::Undo(id) => {
                let outcome = shared.store.undo(&shared.explainer.reviewer, now()).await;
                shared.answer(id, outcome, |outcome| Event::Undone { id, outcome });
            }
            Write::Redo(id) => {
                let outcome = shared.store.redo(&shared.explainer.reviewer, now()).await;
                shared.answer(id, outcome, |outcome| Event::Redone { id, outcome });
            }
            Write::Expose(item, step) => {
                let reviewer = &shared.explainer.reviewer;
                let written =
                    shared.store.record_exposure(reviewer, item, step.as_str(), now()).await;
                if written.is_ok() {
                    shared.count_exposures().await;
                }
            }
        }
    }
}

/// Holds the lease of what is open on the screen, and no other.
async fn hold_leases(
    shared: Arc<Shared>,
    mut wanted: watch::Receiver<Option<(RequestId, Option<TaskId>)>>,
) {
    let reviewer = &shared.explainer.reviewer;
    let mut held: Option<TaskId> = None;
    while wanted.changed().await.is_ok() {
        let Some((id, task)) = *wanted.borrow_and_update() else { continue };
        if let Some(before) = held.filter(|before| Some(*before) != task) {
            // If it can't be given back now, it runs out by itself.
            let _ = shared.store.release(before, reviewer).await;
            held = None;
        }
        let lease = match task {
            Some(task) => shared.store.lease(task, reviewer, now()).await,
            None => Ok(None),
        };
        if let Ok(Some(lease)) = &lease {
            held = task.filter(|_| lease.reviewer == *reviewer);
        }
        shared.answer(id, lease, |lease| Event::Leased { id, lease });
    }
    if let Some(task) = held {
        let _ = shared.store.release(task, reviewer).await;
    }
}

/// Only the latest request is answered: whoever moves on quickly does not wait for the others.
async fn answer_details(
    shared: Arc<Shared>,
    mut asked: watch::Receiver<Option<(RequestId, TaskId)>>,
) {
    while asked.changed().await.is_ok() {
        let Some((id, task)) = *asked.borrow_and_update() else { continue };
        match shared.store.task_detail(task).await {
            Ok(detail) => {
                let whys = match &detail {
                    Some(detail) => shared.explainer.explain(&shared.store, detail).await,
                    None => Ok(Vec::new()),
                };
                let detail = detail.map(Box::new);
                shared.tell(match whys {
                    Ok(whys) => Event::DetailLoaded { id, detail, whys },
                    Err(error) => Event::Failed { id, why: format!("{error:#}") },
                });
            }
            Err(error) => {
                shared.tell(Event::Failed { id, why: in_one_line(&error) });
            }
        }
    }
}

/// Says when anyone changed the store, whether uploads are judged, and what time it is.
async fn watch_the_store(shared: Arc<Shared>) {
    let mut ticks = interval(POLL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut seen = None;
    let mut watcher = None;
    let mut minute = None;
    for tick in 0_u32.. {
        ticks.tick().await;
        // A store that can't be read says so in the answers to what the dashboard asks.
        if let Ok(counter) = shared.store.change_counter().await {
            let before = seen.replace(counter);
            if before.is_some_and(|before| before != counter) && !shared.tell(Event::StoreChanged) {
                return;
            }
        }
        if tick % SLOW != 0 {
            continue;
        }
        if let Ok(beats) = shared.store.watcher_beats().await {
            let running: Vec<_> = beats.iter().filter(|beat| status::is_running(beat)).collect();
            let now_watching = if running.is_empty() {
                Watcher::Absent
            } else {
                Watcher::Watching { rate: total_rate(running.iter().map(|beat| beat.rate)) }
            };
            if watcher.replace(now_watching) != Some(now_watching) {
                shared.tell(Event::Watcher(now_watching));
            }
        }
        let time = now();
        if minute.replace(time.0 / 60_000) != Some(time.0 / 60_000) {
            shared.tell(Event::Clock(time));
        }
    }
}

/// Takes policies over that somebody saves: always the new ones or the last good ones. Nobody waits
/// for the model here: what a watcher embeds is explained as soon as it lies in the store.
async fn watch_the_policies(shared: Arc<Shared>, mut files: PolicyFiles) {
    let mut ticks = interval(2 * POLL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let looked = tokio::task::spawn_blocking(move || {
            let found = files.look();
            (files, found)
        });
        // A panic was printed; the policies in force stay.
        let Ok((back, found)) = looked.await else { return };
        files = back;
        let event = match found {
            None => continue,
            Some(Ok(files)) => {
                let policies: Vec<_> = files.into_iter().map(|file| file.policy).collect();
                let known = known_policies(&policies);
                shared.explainer.take_over(policies).await;
                Event::PoliciesChanged { policies: known }
            }
            Some(Err(problems)) => {
                let first = problems.0.first().map(ToString::to_string).unwrap_or_default();
                Event::PoliciesBroken { why: escape(first.replace('\n', " ").as_bytes()) }
            }
        };
        if !shared.tell(event) {
            return;
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "shown with one decimal")]
fn total_rate(rates: impl Iterator<Item = f64>) -> f32 {
    // Rounded as it is shown, so that nothing is drawn for a change that can't be seen.
    ((rates.sum::<f64>() * 10.0).round() / 10.0) as f32
}

/// Recomputes scores from the stored vectors, prompt by prompt; never loads the model.
struct Explainer {
    reviewer: Reviewer,
    /// In force.
    policies: Mutex<Vec<Arc<Policy>>>,
    fingerprint: Fingerprint,
    logit_scale: LogitScale,
    /// As many as have their prompts embedded by now; `watch` may do so while we are open.
    classifiers: Mutex<Vec<Classifier>>,
    /// How all scores lie, and as of when.
    histograms: Mutex<(Timestamp, Vec<ScoreHistogram>)>,
}

impl Explainer {
    async fn take_over(&self, policies: Vec<Arc<Policy>>) {
        // Locked in this order everywhere, so that nobody waits for each other.
        let mut classifiers = self.classifiers.lock().await;
        let mut histograms = self.histograms.lock().await;
        *self.policies.lock().await = policies;
        classifiers.clear();
        *histograms = (Timestamp(0), Vec::new());
    }

    async fn read_histograms(&self, store: &Store) -> Result<Vec<ScoreHistogram>, StoreError> {
        let policies = self.policies.lock().await.clone();
        let versions: Vec<_> = policies.iter().map(|policy| policy.hash()).collect();
        store.score_histograms(&self.fingerprint, &versions).await
    }

    async fn explain(&self, store: &Store, detail: &TaskDetail) -> anyhow::Result<Vec<Why>> {
        let views = store.item_embeddings(detail.task.item, &self.fingerprint).await?;
        if views.is_empty() {
            return Ok(Vec::new());
        }
        let mut classifiers = self.classifiers.lock().await;
        let policies = self.policies.lock().await.clone();
        if classifiers.len() < policies.len() {
            *classifiers = workspace::stored_classifiers(
                &policies,
                &self.fingerprint,
                self.logit_scale,
                store,
            )
            .await?;
        }
        let mut histograms = self.histograms.lock().await;
        if now().0 - histograms.0.0 > FRESH_MS {
            *histograms = (now(), self.read_histograms(store).await?);
        }
        let why = |classifier: &Classifier| {
            let policy = &classifier.policy;
            let explained = classifier.score(&views)?;
            // A recorded score of another version of the policy is not explained by this one.
            let judged = detail.policies.iter().find(|verdict| verdict.policy == policy.id)?;
            (judged.policy_hash == policy.hash()).then(|| Why {
                policy: policy.id.clone(),
                title: policy.title.clone(),
                score: explained.score,
                words: explained.words,
                review: policy.thresholds.review(),
                block: policy.thresholds.block(),
                shares: explained.shares,
                higher_than: histograms
                    .1
                    .iter()
                    .find(|one| one.version == judged.policy_hash)
                    .and_then(|one| one.share_below(judged.score)),
            })
        };
        Ok(classifiers.iter().filter_map(why).collect())
    }
}
