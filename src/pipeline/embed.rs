//! One thread for each of the model's lanes: it takes what is waiting, up to a batch, and judges it.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tracing::error;

use crate::moderation::escape::escape_path;
use crate::moderation::{Classifier, Doubts, Embedding, Reason, Verdict, verdict_over};
use crate::store::{Judged, JudgedBy, PictureFacts};
use crate::vision::preprocess::Pixels;
use crate::vision::{Encoder, VisionError};

use super::fair::{FairQueue, Popped};
use super::monitor::Monitor;
use super::prepare::{Content, Prepared};
use super::{Reload, Stop, lock};

/// How long a picture waits at most for the others of its batch, while there are others on their
/// way. It costs the model about half as much in a batch of eight as alone, and two cores decode one
/// of 12 megapixels every 35 ms; the wait is nothing beside the time that files take to settle.
const LINGER: Duration = Duration::from_millis(300);

/// How long it waits when no other is being decoded: one may just have been found.
const PAUSE: Duration = Duration::from_millis(30);

/// So many files at most, of which any number needs no model: a flood of those must not keep one
/// that does from its turn.
const MOST_FILES: usize = 64;

/// The policies in force; newer ones may come while a run lasts.
pub(super) struct Rules {
    classifiers: Mutex<Arc<[Classifier]>>,
    judged_by: Mutex<JudgedBy>,
}

impl Rules {
    pub(super) fn new(classifiers: Vec<Classifier>, judged_by: JudgedBy) -> Self {
        Self { classifiers: Mutex::new(classifiers.into()), judged_by: Mutex::new(judged_by) }
    }

    fn classifiers(&self) -> Arc<[Classifier]> {
        Arc::clone(&lock(&self.classifiers))
    }

    /// Every version that a verdict under way may name.
    pub(super) fn judged_by(&self) -> JudgedBy {
        lock(&self.judged_by).clone()
    }

    /// Takes new policies over: their versions are known before the first verdict names them.
    pub(super) fn renew(&self, classifiers: Vec<Classifier>, later: JudgedBy) {
        {
            let mut known = lock(&self.judged_by);
            *known = known.clone().and(later);
        }
        *lock(&self.classifiers) = classifiers.into();
    }
}

/// How often newer policies are looked for.
const LOOK: Duration = Duration::from_secs(1);

/// Takes newer policies over until the stop. They are embedded beside the judging, which goes on
/// by the ones in force.
pub(super) async fn renew(
    mut reload: Reload,
    encoder: Arc<dyn Encoder>,
    rules: Arc<Rules>,
    mut stop: Stop,
) {
    loop {
        tokio::select! {
            () = stop.requested() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let encoder = Arc::clone(&encoder);
        let looked = tokio::task::spawn_blocking(move || {
            let found = reload(&*encoder);
            (reload, found)
        });
        // A panic was printed; the policies in force stay.
        let Ok((back, found)) = looked.await else { return };
        reload = back;
        if let Some((classifiers, judged_by)) = found {
            rules.renew(classifiers, judged_by);
        }
    }
}

/// What a judging thread needs.
pub(super) struct Embedder {
    pub encoder: Arc<dyn Encoder>,
    pub rules: Arc<Rules>,
    /// The most pictures that go through the model at once.
    pub batch: usize,
    pub monitor: Arc<Monitor>,
    pub stop: Stop,
}

impl Embedder {
    /// Turns prepared files into judged ones until there are no more, or the stop's grace is
    /// over. Runs on a thread of its own; several of them share `prepared`.
    pub(super) fn run(
        &self,
        prepared: &FairQueue<Prepared>,
        gathering: &Mutex<()>,
        judged: &mpsc::Sender<Judged>,
    ) {
        let lanes = self.encoder.lanes();
        loop {
            let files = {
                // One lane gathers at a time, and lets go before the model runs.
                let _alone = lock(gathering);
                next_batch(prepared, self.batch, lanes, LINGER, &self.monitor)
            };
            let Some(files) = files else { return };
            if self.stop.grace_is_over() {
                return;
            }
            let classifiers = self.rules.classifiers();
            for one in judge(&*self.encoder, &classifiers, files, &self.monitor) {
                if judged.blocking_send(one).is_err() {
                    return;
                }
            }
        }
    }
}

/// Waits for a file, then a while for others, up to so many pictures; `None` when there are no more.
///
/// What is left, when little is to come, is shared out among the lanes in shrinking parts (guided
/// self-scheduling, Polychronopoulos and Kuck 1987), so that none rests while another has a whole
/// batch: seconds with a large model.
fn next_batch(
    prepared: &FairQueue<Prepared>,
    most: usize,
    lanes: usize,
    linger: Duration,
    monitor: &Monitor,
) -> Option<Vec<Prepared>> {
    let mut waiting = vec![prepared.pop()?];
    let until = Instant::now() + linger;
    let most = most.min(monitor.to_come().max(1).div_ceil(lanes));
    monitor.reached_model(&waiting[0].sighting.path);
    while pictures(&waiting) < most && waiting.len() < MOST_FILES {
        match prepared.pop_within(PAUSE) {
            Popped::One(next) => {
                monitor.reached_model(&next.sighting.path);
                waiting.push(next);
            }
            Popped::Ended => break,
            Popped::Nothing if Instant::now() > until => break,
            Popped::Nothing if monitor.preparing.load(Ordering::Relaxed) == 0 => break,
            Popped::Nothing => {}
        }
    }
    Some(waiting)
}

fn pictures(waiting: &[Prepared]) -> usize {
    let views = |one: &Prepared| match &one.content {
        Content::Pixels(views, _) => views.len(),
        Content::Embedded(..) | Content::Unjudged(_) => 0,
    };
    waiting.iter().map(views).sum()
}

/// Judges some files, with one run of the model for all of them.
pub(super) fn judge(
    encoder: &dyn Encoder,
    classifiers: &[Classifier],
    mut batch: Vec<Prepared>,
    monitor: &Monitor,
) -> Vec<Judged> {
    let mut pixels: Vec<Pixels> = Vec::new();
    let mut ranges: Vec<Range<usize>> = Vec::with_capacity(batch.len());
    for one in &mut batch {
        let start = pixels.len();
        if let Content::Pixels(views, _) = &mut one.content {
            pixels.append(views);
        }
        ranges.push(start..pixels.len());
    }
    let embedded = embed_each(encoder, &pixels, &ranges);
    batch
        .into_iter()
        .zip(embedded)
        .map(|(one, embedded)| judge_one(classifiers, one, embedded, monitor))
        .collect()
}

/// The embeddings of every range. When the whole batch fails, each range is tried alone, so that
/// one bad picture costs only itself.
fn embed_each(
    encoder: &dyn Encoder,
    pixels: &[Pixels],
    ranges: &[Range<usize>],
) -> Vec<Result<Vec<Embedding>, VisionError>> {
    if pixels.is_empty() {
        return ranges.iter().map(|_| Ok(Vec::new())).collect();
    }
    match encoder.embed_images(pixels) {
        Ok(all) => ranges.iter().map(|range| Ok(all[range.clone()].to_vec())).collect(),
        Err(failed) if ranges.len() == 1 => vec![Err(failed)],
        Err(_) => ranges.iter().map(|range| encoder.embed_images(&pixels[range.clone()])).collect(),
    }
}

fn judge_one(
    classifiers: &[Classifier],
    one: Prepared,
    embedded: Result<Vec<Embedding>, VisionError>,
    monitor: &Monitor,
) -> Judged {
    let Prepared { sighting, item, stat, content, recipe } = one;
    let (views, facts, verdict) = match (content, embedded) {
        (Content::Unjudged(reason), _) => (Vec::new(), None, Verdict::unjudged(reason)),
        (Content::Embedded(views, facts), _) => scored(classifiers, views, facts, &sighting),
        (Content::Pixels(_, facts), Ok(views)) => {
            scored(classifiers, as_stored(views), Some(facts), &sighting)
        }
        (Content::Pixels(_, facts), Err(failed)) => {
            error!(path = %escape_path(&sighting.path), error = %failed, "the model failed");
            monitor.went_wrong(&failed);
            let reason = Reason::Undecodable(format!("the model failed: {failed}"));
            (Vec::new(), Some(facts), Verdict::unjudged(reason))
        }
    };
    Judged { item, bytes: stat.size, sighting, stat, facts, views, recipe, verdict }
}

fn scored(
    classifiers: &[Classifier],
    views: Vec<Embedding>,
    facts: Option<PictureFacts>,
    sighting: &crate::moderation::Sighting,
) -> (Vec<Embedding>, Option<PictureFacts>, Verdict) {
    let doubts = facts.as_ref().map_or(Doubts::default(), |facts| facts.doubts);
    let verdict = verdict_over(classifiers, &views, doubts, sighting.below());
    (views, facts, verdict)
}

/// Scores are computed from what the store keeps (half precision), so that judging stored
/// embeddings again gives the very same scores.
fn as_stored(views: Vec<Embedding>) -> Vec<Embedding> {
    views
        .into_iter()
        .map(|view| Embedding::from_f16_bytes(&view.to_f16_bytes()).unwrap_or(view))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::moderation::{ItemId, Recipe, Sighting, Uploader};
    use crate::store::FileStat;

    fn prepared(name: &str) -> Prepared {
        let facts = PictureFacts {
            format: "png".to_owned(),
            width: 1,
            height: 1,
            frames: 1,
            hash: None,
            signals: Vec::new(),
            doubts: Doubts::default(),
        };
        Prepared {
            sighting: Sighting { path: name.into(), root: "/".into() },
            item: ItemId::of_bytes(name.as_bytes()),
            stat: FileStat { size: 0, mtime_ns: 0, ctime_ns: 0, inode: 0 },
            content: Content::Pixels(vec![Pixels { size: 1, rgb: vec![0; 3] }], facts),
            recipe: Recipe::default(),
        }
    }

    /// How many pictures the batch has that begins with the first of two; the second comes when
    /// the first has waited for long.
    async fn batch(most: usize, being_prepared: u64) -> Option<usize> {
        let monitor = Arc::<Monitor>::default();
        monitor.preparing.store(being_prepared, Ordering::Relaxed);
        // More are in hand than the batch takes on every lane.
        (0..100).for_each(|name| monitor.take(Path::new(&name.to_string())));
        let queue = Arc::new(FairQueue::new(8));
        assert!(queue.push(Uploader::Operator, 1, prepared("first")), "taken");
        let receive = Arc::clone(&queue);
        let mut batching = tokio::task::spawn_blocking(move || {
            next_batch(&receive, most, 2, Duration::from_hours(1), &monitor).map(|all| all.len())
        });
        tokio::select! {
            ended = &mut batching => return ended.expect("no panic"),
            () = tokio::time::sleep(PAUSE * 30) => {}
        }
        assert!(queue.push(Uploader::Operator, 1, prepared("second")), "taken");
        queue.end();
        batching.await.expect("no panic")
    }

    #[tokio::test]
    async fn a_picture_waits_for_those_on_their_way_and_for_no_others() {
        assert_eq!(batch(8, 1).await, Some(2), "one more was being decoded");
        assert_eq!(batch(1, 1).await, Some(1), "the batch was full");
        assert_eq!(batch(8, 0).await, Some(1), "nobody knew of another");
    }

    #[tokio::test]
    async fn what_needs_no_model_does_not_fill_a_batch_for_ever() {
        let (queue, monitor) = (FairQueue::new(1000), Monitor::default());
        for name in 0..200 {
            let content = Content::Unjudged(Reason::Undecodable("broken".to_owned()));
            let one = Prepared { content, ..prepared(&name.to_string()) };
            monitor.take(&one.sighting.path);
            assert!(queue.push(Uploader::Operator, 1, one), "taken");
        }
        let batching = tokio::task::spawn_blocking(move || {
            next_batch(&queue, 8, 1, LINGER, &monitor).map(|all| all.len())
        });
        assert_eq!(batching.await.expect("no panic"), Some(MOST_FILES));
    }

    #[tokio::test]
    async fn the_last_pictures_are_shared_out_among_the_lanes() {
        let batches = async |count: usize, lanes: usize| -> Vec<usize> {
            let receive = FairQueue::new(64);
            let monitor = Monitor::default();
            for name in 0..count {
                let one = prepared(&name.to_string());
                monitor.take(&one.sighting.path);
                assert!(receive.push(Uploader::Operator, 1, one), "taken");
            }
            let batching = tokio::task::spawn_blocking(move || {
                let mut sizes = Vec::new();
                while monitor.to_come() > 0 {
                    let batch = next_batch(&receive, 8, lanes, LINGER, &monitor);
                    sizes.push(batch.expect("more are to come").len());
                }
                sizes
            });
            batching.await.expect("no panic")
        };
        assert_eq!(batches(20, 1).await, [8, 8, 4]);
        assert_eq!(batches(20, 2).await, [8, 6, 3, 2, 1]);
        assert_eq!(batches(3, 8).await, [1, 1, 1]);
    }
}
