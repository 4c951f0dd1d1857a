//! Reads, hashes and decodes: from a settled path to pixels at the model's size.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::moderation::escape::escape_path;
use crate::moderation::{Embedding, Fingerprint, ItemId, Reason, Sighting};
use crate::store::{FileStat, PictureFacts, Store};
use crate::vision::decode::{self, Flaw, Limits, Views};
use crate::vision::preprocess::{ImageSpec, Pixels};

use super::file::{Reading, read};
use super::monitor::{Monitor, count};
use super::reconcile::NoPictures;
use super::settle::Feedback;
use super::{Shared, file};

/// A file on its way to the model.
#[derive(Debug)]
pub(super) struct Prepared {
    pub sighting: Sighting,
    pub item: ItemId,
    pub stat: FileStat,
    pub content: Content,
}

/// What there is to judge.
#[derive(Debug)]
pub(super) enum Content {
    /// Pixels for the model, one a view.
    Pixels(Vec<Pixels>, PictureFacts),
    /// The model saw these bytes before.
    Embedded(Vec<Embedding>, Option<PictureFacts>),
    /// No picture comes out of it.
    Unjudged(Reason),
}

/// What a preparing thread needs besides its paths.
#[derive(Debug, Clone)]
pub(super) struct Preparer {
    pub spec: ImageSpec,
    pub limits: Limits,
    pub fingerprint: Fingerprint,
    /// Where known items are looked up, and the runtime to ask on; none when nothing is stored.
    pub store: Option<(Arc<Store>, Handle)>,
    pub no_pictures: Arc<NoPictures>,
    pub monitor: Arc<Monitor>,
    pub feedback: mpsc::UnboundedSender<Feedback>,
}

impl Preparer {
    /// Takes settled paths until there are no more, or nobody wants what comes out.
    /// Runs on a thread of its own; several of them share `ready`.
    pub(super) fn run(
        &self,
        ready: &Shared<mpsc::Receiver<Sighting>>,
        prepared: &mpsc::Sender<Prepared>,
    ) {
        loop {
            let next = super::lock(ready).blocking_recv();
            let Some(sighting) = next else { return };
            let Some(one) = self.prepare(sighting) else { continue };
            if prepared.blocking_send(one).is_err() {
                return;
            }
        }
    }

    /// `None` when there is nothing to judge: the settling stage has been told.
    pub(super) fn prepare(&self, sighting: Sighting) -> Option<Prepared> {
        let named = decode::has_picture_extension(&sighting.path);
        let is_picture = |first: &[u8]| named || decode::sniff(first).is_some();
        let (item, stat, content) = match read(&sighting.path, self.limits.file_bytes, is_picture) {
            Reading::Whole { item, bytes, stat } => (item, stat, self.content(item, &bytes)),
            Reading::TooLarge { item, stat } => {
                let flaw = Flaw::TooManyBytes { bytes: stat.size, limit: self.limits.file_bytes };
                (item, stat, Content::Unjudged(Reason::Undecodable(flaw.to_string())))
            }
            Reading::Unreadable { why, stat } => {
                let item = ItemId::of_unread(sighting.path.as_os_str().as_encoded_bytes());
                (item, stat, Content::Unjudged(Reason::Unreadable(why)))
            }
            Reading::NoPicture => {
                if let Some(stat) = file::stat_regular(&sighting.path)
                    && self.no_pictures.insert(&sighting.path, stat)
                {
                    count(&self.monitor.no_pictures);
                }
                count(&self.monitor.passed);
                self.tell(Feedback::Done(sighting.path));
                return None;
            }
            Reading::Gone => {
                count(&self.monitor.passed);
                self.tell(Feedback::Done(sighting.path));
                return None;
            }
            Reading::Changed => {
                self.tell(Feedback::Again(sighting));
                return None;
            }
        };
        Some(Prepared { sighting, item, stat, content })
    }

    fn content(&self, item: ItemId, bytes: &[u8]) -> Content {
        if let Some((store, runtime)) = &self.store {
            match runtime.block_on(store.known_item(item, &self.fingerprint)) {
                Ok(Some(known)) if !known.views.is_empty() => {
                    let facts = known.facts.map(|facts| self.with_hash(facts, bytes));
                    return Content::Embedded(known.views, facts);
                }
                Ok(_) => {}
                // Judging again is always right; the store's trouble shows when it is written to.
                Err(error) => self.monitor.went_wrong(&error),
            }
        }
        match decode::views(bytes, &self.spec, &self.limits) {
            Ok(Views { views, facts }) => {
                let facts = PictureFacts {
                    format: facts.format.to_owned(),
                    width: facts.width,
                    height: facts.height,
                    frames: facts.frames,
                    hash: facts.hash,
                };
                Content::Pixels(views, facts)
            }
            Err(flaw) => Content::Unjudged(Reason::Undecodable(flaw.to_string())),
        }
    }

    /// What was stored before perceptual hashes were computed gets one now.
    fn with_hash(&self, facts: PictureFacts, bytes: &[u8]) -> PictureFacts {
        if facts.hash.is_some() {
            return facts;
        }
        let decoded = decode::views(bytes, &self.spec, &self.limits);
        PictureFacts { hash: decoded.ok().and_then(|views| views.facts.hash), ..facts }
    }

    fn tell(&self, feedback: Feedback) {
        // Nobody listens any more only while the run is being stopped.
        if let Err(mpsc::error::SendError(lost)) = self.feedback.send(feedback) {
            let path = match lost {
                Feedback::Done(path) => path,
                Feedback::Again(sighting) => sighting.path,
            };
            tracing::debug!(path = %escape_path(&path), "left for the next start");
        }
    }
}
