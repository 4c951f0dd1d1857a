//! Does what the dashboard asks of the store, and tells it what others changed there.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval};

use crate::moderation::{
    Classifier, Decision, Fingerprint, LogitScale, Policy, Reviewer, TaskDetail, TaskId,
};
use crate::store::{Store, StoreError};
use crate::tui::{Effect, Event, RequestId, Watcher, Why};
use crate::vision::ModelCard;

use crate::commands::clock::{day_start, now};
use crate::commands::{status, workspace};

/// How often the store is asked whether anything changed; one look into an index.
const POLL: Duration = Duration::from_millis(500);
/// Every so many polls the watchers are looked at, and the clock is told.
const SLOW: u32 = 4;

/// The store's side of the dashboard. Reads run side by side, decisions one after another.
pub(super) struct Desk {
    shared: Arc<Shared>,
    reads: JoinSet<()>,
    details: watch::Sender<Option<(RequestId, TaskId)>>,
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
    Undo(RequestId, Reviewer),
}

impl Desk {
    /// Begins to watch the store; must be called within the runtime.
    pub(super) fn open(
        store: Arc<Store>,
        reviewer: Reviewer,
        policies: Vec<Arc<Policy>>,
        card: &ModelCard,
        events: Sender<Event>,
    ) -> Self {
        let explainer = Explainer {
            reviewer,
            policies,
            fingerprint: card.fingerprint.clone(),
            logit_scale: card.logit_scale,
            classifiers: Mutex::new(Vec::new()),
        };
        let shared = Arc::new(Shared { store, explainer, events });
        let mut reads = JoinSet::new();
        reads.spawn(watch_the_store(Arc::clone(&shared)));
        let (details, asked) = watch::channel(None);
        reads.spawn(answer_details(Arc::clone(&shared), asked));
        // Unbounded, as a person fills it by hand.
        let (decisions, to_write) = mpsc::unbounded_channel();
        let writer = tokio::spawn(write_all(Arc::clone(&shared), to_write));
        Self { shared, reads, details, decisions, writer }
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
            Effect::Undo { id } => {
                let reviewer = shared.explainer.reviewer.clone();
                self.write(id, Write::Undo(id, reviewer));
            }
            Effect::Quit
            | Effect::Suspend
            | Effect::Redraw
            | Effect::LoadPicture { .. }
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
        drop(self.decisions);
        // If the writer panicked, its panic was reported already.
        let _ = self.writer.await;
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
            Write::Undo(id, reviewer) => {
                let outcome = shared.store.undo(&reviewer, now()).await;
                shared.answer(id, outcome, |outcome| Event::Undone { id, outcome });
            }
        }
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

#[expect(clippy::cast_possible_truncation, reason = "shown with one decimal")]
fn total_rate(rates: impl Iterator<Item = f64>) -> f32 {
    // Rounded as it is shown, so that nothing is drawn for a change that can't be seen.
    ((rates.sum::<f64>() * 10.0).round() / 10.0) as f32
}

/// Recomputes scores from the stored vectors, prompt by prompt; never loads the model.
struct Explainer {
    reviewer: Reviewer,
    policies: Vec<Arc<Policy>>,
    fingerprint: Fingerprint,
    logit_scale: LogitScale,
    /// As many as have their prompts embedded by now; `watch` may do so while we are open.
    classifiers: Mutex<Vec<Classifier>>,
}

impl Explainer {
    async fn explain(&self, store: &Store, detail: &TaskDetail) -> anyhow::Result<Vec<Why>> {
        let views = store.item_embeddings(detail.task.item, &self.fingerprint).await?;
        if views.is_empty() {
            return Ok(Vec::new());
        }
        let mut classifiers = self.classifiers.lock().await;
        if classifiers.len() < self.policies.len() {
            *classifiers = workspace::stored_classifiers(
                &self.policies,
                &self.fingerprint,
                self.logit_scale,
                store,
            )
            .await?;
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
                review: policy.thresholds.review(),
                block: policy.thresholds.block(),
                shares: explained.shares,
            })
        };
        Ok(classifiers.iter().filter_map(why).collect())
    }
}
