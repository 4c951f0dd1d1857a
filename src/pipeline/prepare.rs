//! Reads, hashes and decodes: from a settled path to pixels at the model's size.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tracing::error;

use crate::files::{Identity, Reading, Roots, Stat, TEMPORARY};
use crate::moderation::escape::escape_path;
use crate::moderation::{
    Embedding, FileKind, FileStat, ItemId, JudgedWith, Reason, Recipe, Sighting, Uploader,
};
use crate::store::{PictureFacts, Store};
use crate::vision::decode::{self, Flaw, Views};
use crate::vision::preprocess::{ImageSpec, Pixels};
use crate::vision::{DecoderPool, SandboxError};

use super::fair::FairQueue;
use super::monitor::{Monitor, chain, count};
use super::recheck::OpenFiles;
use super::reconcile::NoPictures;
use super::settle::{Feedback, Rest, Settled};
use super::turns::{Run, Turns};

/// A file on its way to the model.
#[derive(Debug)]
pub(super) struct Prepared {
    pub sighting: Sighting,
    pub item: ItemId,
    pub stat: FileStat,
    pub content: Content,
    /// What made the pixels, or could not make any.
    pub recipe: Recipe,
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

impl Content {
    /// How much room it takes while it waits for the model: its views, but 1 at least.
    fn size(&self) -> usize {
        match self {
            Self::Pixels(views, _) => views.len().max(1),
            Self::Embedded(..) | Self::Unjudged(_) => 1,
        }
    }
}

/// What a preparing thread needs besides its paths.
#[derive(Debug, Clone)]
pub(super) struct Preparer {
    pub spec: ImageSpec,
    pub roots: Arc<Roots>,
    pub decoders: Arc<DecoderPool>,
    pub judged_with: Arc<JudgedWith>,
    /// Where known items are looked up, and the runtime to ask on; none when nothing is stored.
    pub store: Option<(Arc<Store>, Handle)>,
    pub no_pictures: Arc<NoPictures>,
    /// Where files are remembered that are still open for writing; none where nobody looks again.
    pub open: Option<Arc<OpenFiles>>,
    pub monitor: Arc<Monitor>,
    pub feedback: mpsc::UnboundedSender<Feedback>,
}

impl Preparer {
    /// Takes settled paths until there are no more, or nobody wants what comes out.
    /// Runs on a thread of its own; several of them share `turns`.
    pub(super) fn run(&self, turns: &Turns, prepared: &FairQueue<Prepared>) {
        let mut run = Run::default();
        while let Some((turn, mut settled)) = turns.next(&mut run) {
            settled.leave_place();
            count(&self.monitor.preparing);
            let wanted = match self.prepare(settled, &turn.uploader) {
                Some(one) => prepared.push(turn.uploader.clone(), one.content.size(), one),
                None => true,
            };
            self.monitor.preparing.fetch_sub(1, Ordering::Relaxed);
            if !wanted {
                return;
            }
        }
    }

    /// `None` when there is nothing to judge: the settling stage has been told.
    pub(super) fn prepare(&self, settled: Settled, uploader: &Uploader) -> Option<Prepared> {
        let Settled { sighting, stat: settled_as, rest, .. } = settled;
        let limit = self.decoders.limits().file_bytes;
        let kind = Cell::new(FileKind::Picture);
        let is_picture = |first: &[u8]| {
            kind.set(decode::kind_of(&sighting.path, first));
            kind.get() == FileKind::Picture
        };
        let reading = match self.reading(&sighting, limit, is_picture)? {
            Reading::Changed { item, bytes, mut stat } if rest != Rest::Resting => {
                // The file may never have held these bytes: no later scan takes it for judged.
                (stat.file.mtime_ns, stat.file.ctime_ns) = (0, 0);
                if stat.file.size > limit {
                    Reading::TooLarge { item, stat }
                } else {
                    Reading::Whole { item, bytes, stat }
                }
            }
            // It was left alone, and has changed in the moment since.
            Reading::Whole { stat, .. } | Reading::TooLarge { stat, .. }
                if rest == Rest::Resting
                    && settled_as.is_some_and(|settled| settled != stat.file) =>
            {
                self.tell(Feedback::Again(sighting));
                return None;
            }
            reading => reading,
        };
        let mut recipe = decode::unjudged(self.decoders.limits());
        let (item, stat, content) = match reading {
            Reading::Whole { item, stat, .. } | Reading::TooLarge { item, stat }
                if self.is_being_moved(&sighting, &stat, item) =>
            {
                self.tell(Feedback::Done(sighting.path));
                return None;
            }
            Reading::Whole { item, bytes, stat } => {
                let (content, of_it) = self.content(item, &bytes, uploader)?;
                recipe = of_it;
                (item, stat.file, content)
            }
            Reading::TooLarge { item, stat } => {
                let flaw = Flaw::TooManyBytes { bytes: stat.file.size, limit };
                (item, stat.file, Content::Unjudged(Reason::Undecodable(flaw.to_string())))
            }
            Reading::Unreadable { why, stat } => {
                let item = ItemId::of_unread(sighting.path.as_os_str().as_encoded_bytes());
                (item, stat.file, Content::Unjudged(Reason::Unreadable(why)))
            }
            Reading::NoPicture { stat } => {
                // As it was when it was looked at: whatever took its place since is news.
                if self.no_pictures.insert(&sighting.path, stat.file, kind.get())
                    && kind.get() == FileKind::Other
                {
                    count(&self.monitor.no_pictures);
                }
                count(&self.monitor.passed);
                self.tell(Feedback::Done(sighting.path));
                return None;
            }
            Reading::Gone | Reading::Starved { .. } => {
                count(&self.monitor.passed);
                self.tell(Feedback::Done(sighting.path));
                return None;
            }
            Reading::Changed { .. } | Reading::Busy => {
                self.tell(Feedback::Again(sighting));
                return None;
            }
        };
        if let (Rest::Restless(tried), Content::Unjudged(Reason::Undecodable(_))) = (rest, &content)
            && tried != Some(item)
        {
            // It may still be growing: that no picture comes out of it is said of what rests, or of
            // what stays the same while it is touched all the time.
            self.tell(Feedback::Unfinished(sighting, item));
            return None;
        }
        if let Some(open) = &self.open
            && !matches!(content, Content::Unjudged(_))
        {
            open.remember(&self.roots, &sighting, item, uploader);
        }
        Some(Prepared { sighting, item, stat, content, recipe })
    }

    /// Whether this very file is one that is being removed and stands here for a moment. Its name
    /// only says whether that is worth asking: an uploader can choose it, and is judged then.
    fn is_being_moved(&self, sighting: &Sighting, stat: &Stat, item: ItemId) -> bool {
        let name = sighting.path.file_name().unwrap_or_default().as_encoded_bytes();
        let Some((store, runtime)) = &self.store else { return false };
        if !name.starts_with(TEMPORARY.as_bytes()) {
            return false;
        }
        let Identity { device, inode } = stat.identity;
        let asked = store.is_being_moved(&sighting.path, device, inode, item);
        let asked = runtime.block_on(asked);
        // When in doubt it is judged.
        asked.unwrap_or(false)
    }

    /// Reads again until there is enough to read with. `None` when the run is being ended.
    fn reading(
        &self,
        sighting: &Sighting,
        limit: u64,
        is_picture: impl Fn(&[u8]) -> bool,
    ) -> Option<Reading> {
        let mut pause = Duration::from_millis(100);
        loop {
            match self.roots.read(sighting, limit, &is_picture) {
                Reading::Starved { why } => {
                    error!(why, "uploads can't be opened; trying again");
                    self.monitor.went_wrong(format_args!("uploads can't be opened: {why}"));
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_secs(5));
                }
                reading => return Some(reading),
            }
            if self.decoders.is_called_off() {
                return None;
            }
        }
    }

    /// What there is to judge, and what made it. `None` when the run is being ended.
    fn content(
        &self,
        item: ItemId,
        bytes: &[u8],
        uploader: &Uploader,
    ) -> Option<(Content, Recipe)> {
        if let Some((store, runtime)) = &self.store {
            match runtime.block_on(store.known_item(item, &self.judged_with.fingerprint)) {
                // What another recipe made is made again.
                Ok(Some(known)) if self.judged_with.recipes.contains(&known.recipe) => {
                    let facts = match known.facts {
                        Some(facts) => Some(self.with_hash(facts, bytes, uploader)?),
                        None => None,
                    };
                    return Some((Content::Embedded(known.views, facts), known.recipe));
                }
                Ok(_) => {}
                // Judging again is always right; the store's trouble shows when it is written to.
                Err(error) => self.monitor.went_wrong(&error),
            }
        }
        Some(match self.views(bytes, uploader)? {
            Ok(Views { views, facts }) => {
                let recipe = decode::recipe_of(&facts, self.decoders.limits());
                let facts = PictureFacts {
                    format: facts.format.to_owned(),
                    width: facts.width,
                    height: facts.height,
                    frames: facts.frames,
                    hash: facts.hash,
                    signals: facts.signals.names().map(str::to_owned).collect(),
                    doubts: facts.doubts,
                };
                (Content::Pixels(views, facts), recipe)
            }
            Err(flaw) => {
                let content = Content::Unjudged(Reason::Undecodable(flaw.to_string()));
                (content, decode::unjudged(self.decoders.limits()))
            }
        })
    }

    /// Asks again until a decoder can be had: that there is none (no memory, no descriptors) says
    /// nothing about the file. `None` when the run is being ended.
    fn views(&self, bytes: &[u8], uploader: &Uploader) -> Option<Result<Views, Flaw>> {
        let mut pause = Duration::from_millis(100);
        loop {
            match self.decoders.views(bytes, &self.spec, uploader) {
                Ok(views) => return Some(views),
                Err(SandboxError::CalledOff) => return None,
                Err(failed) => {
                    let failed = chain(&failed);
                    error!(error = failed, "no decoder can be had; trying again");
                    self.monitor.went_wrong(failed);
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_secs(5));
                }
            }
        }
    }

    /// What was stored before perceptual hashes were computed gets one now.
    fn with_hash(
        &self,
        facts: PictureFacts,
        bytes: &[u8],
        uploader: &Uploader,
    ) -> Option<PictureFacts> {
        if facts.hash.is_some() {
            return Some(facts);
        }
        let decoded = self.views(bytes, uploader)?;
        Some(PictureFacts { hash: decoded.ok().and_then(|views| views.facts.hash), ..facts })
    }

    fn tell(&self, feedback: Feedback) {
        // Nobody listens any more only while the run is being stopped.
        if let Err(mpsc::error::SendError(lost)) = self.feedback.send(feedback) {
            let path = match lost {
                Feedback::Done(path) => path,
                Feedback::Again(sighting) | Feedback::Unfinished(sighting, _) => sighting.path,
            };
            tracing::debug!(path = %escape_path(&path), "left for the next start");
        }
    }
}
