//! Judges files that were named on a command line, without a store: the same reading, decoding,
//! model and policies as a watched folder gets.

use std::cell::Cell;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::files::{Kind, Named, NamedFile, Reading, Roots};
use crate::moderation::{
    Classifier, FileKind, FileStat, ItemId, Reason, Recipe, Sighting, Uploader, Verdict,
};
use crate::store::Judged;
use crate::vision::decode::{self, has_picture_extension, kind_of};
use crate::vision::{DecoderPool, Encoder, VisionError};

use super::embed::judge;
use super::judged_with;
use super::monitor::Monitor;
use super::prepare::Preparer;
use super::reconcile::NoPictures;
use super::settle::Settled;

/// Judges the named files, and the files below named folders, in order. Every named file gets a
/// verdict: one that is missing or no picture gets Review with the reason. In folders, files that
/// are not pictures are left out, and counted by kind in the answer. `take` is called with each
/// verdict as it comes.
///
/// # Errors
/// [`VisionError::Load`] and its like before anything is judged: a model that can't be opened says
/// nothing about a picture.
pub fn judge_named(
    encoder: &dyn Encoder,
    classifiers: &[Classifier],
    decoders: &Arc<DecoderPool>,
    batch: usize,
    named: Named,
    mut take: impl FnMut(Judged),
) -> Result<Vec<(FileKind, u64)>, VisionError> {
    encoder.open_for_pictures()?;
    let (feedback, _nobody) = mpsc::unbounded_channel();
    let monitor = Arc::<Monitor>::default();
    let no_pictures = Arc::<NoPictures>::default();
    let files: Vec<NamedFile> = named.files().collect();
    let roots = Arc::new(named.roots);
    let preparer = Preparer {
        spec: encoder.model().image.clone(),
        roots: Arc::clone(&roots),
        decoders: Arc::clone(decoders),
        judged_with: Arc::new(judged_with(encoder.model().fingerprint.clone(), decoders)),
        store: None,
        no_pictures: Arc::clone(&no_pictures),
        open: None,
        monitor: Arc::clone(&monitor),
        feedback,
    };
    let batch = batch * encoder.lanes();
    let mut waiting = Vec::with_capacity(batch);
    for NamedFile { sighting, itself, unread } in files {
        if let Some(why) = unread {
            judge(encoder, classifiers, std::mem::take(&mut waiting), &monitor)
                .into_iter()
                .for_each(&mut take);
            let recipe = decode::unjudged(decoders.limits());
            take(unjudged(sighting, &Reading::Gone, Reason::Unreadable(why), recipe));
            continue;
        }
        // Files that are named together are put down to their folder.
        let uploader = Uploader::top_folder(&sighting)
            .map_or_else(|| Uploader::near(&sighting.path), Uploader::Folder);
        match preparer.prepare(Settled::named(sighting.clone()), &uploader) {
            Some(one) => waiting.push(one),
            None if itself => {
                judge(encoder, classifiers, std::mem::take(&mut waiting), &monitor)
                    .into_iter()
                    .for_each(&mut take);
                take(refused(sighting, &roots, decode::unjudged(decoders.limits())));
            }
            None => {}
        }
        if waiting.len() >= batch {
            judge(encoder, classifiers, std::mem::take(&mut waiting), &monitor)
                .into_iter()
                .for_each(&mut take);
        }
    }
    judge(encoder, classifiers, waiting, &monitor).into_iter().for_each(take);
    Ok(no_pictures.counts())
}

/// The named files, and below named folders the pictures and what can't be read, in order.
pub fn pictures_named(named: &Named) -> impl Iterator<Item = NamedFile> {
    let worth_a_look = |file: &NamedFile| {
        file.itself || file.unread.is_some() || may_be_picture(&file.sighting, &named.roots)
    };
    named.files().filter(worth_a_look)
}

/// By its name or its first bytes.
fn may_be_picture(sighting: &Sighting, roots: &Roots) -> bool {
    let known = Cell::new(has_picture_extension(&sighting.path));
    let look = |first: &[u8]| {
        known.set(kind_of(&sighting.path, first) == FileKind::Picture);
        // That is all there is to be read.
        false
    };
    matches!(roots.read(sighting, 0, look), Reading::Unreadable { .. }) || known.get()
}

fn refused(sighting: Sighting, roots: &Roots, recipe: Recipe) -> Judged {
    // Hashed without being kept: the file may be of any size.
    let reading = roots.read(&sighting, 0, |_| true);
    let why = match roots.stat(&sighting).ok().flatten().map(|stat| stat.kind) {
        Some(Kind::File) if matches!(reading, Reading::Busy) => {
            Reason::Unreadable("another program holds a lease on it; try again".into())
        }
        None => Reason::Unreadable("there is no such file".into()),
        Some(Kind::Link) => Reason::Unreadable("links are not followed".into()),
        Some(Kind::Folder | Kind::Other) => Reason::Unreadable("it is no regular file".into()),
        Some(Kind::File) => Reason::Undecodable(
            "neither its name nor its first bytes say that it is a picture".into(),
        ),
    };
    unjudged(sighting, &reading, why, recipe)
}

fn unjudged(sighting: Sighting, reading: &Reading, why: Reason, recipe: Recipe) -> Judged {
    Judged {
        item: item_of(&sighting, reading),
        bytes: 0,
        stat: FileStat { size: 0, mtime_ns: 0, ctime_ns: 0, inode: 0 },
        facts: None,
        views: Vec::new(),
        recipe,
        verdict: Verdict::unjudged(why),
        sighting,
    }
}

fn item_of(sighting: &Sighting, reading: &Reading) -> ItemId {
    match reading {
        Reading::Whole { item, .. } | Reading::TooLarge { item, .. } => *item,
        // Nothing was read of it.
        _ => ItemId::of_unread(sighting.path.as_os_str().as_encoded_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::moderation::Embedding;
    use crate::vision::{Limits, ModelCard, Pixels, SandboxMode, model};

    /// A model whose image tower can't be opened: a large one is opened with the first picture.
    struct Changed(ModelCard);

    fn changed() -> VisionError {
        VisionError::ChangedInUse { path: "image.onnx".into() }
    }

    impl Encoder for Changed {
        fn model(&self) -> &ModelCard {
            &self.0
        }

        fn lanes(&self) -> usize {
            1
        }

        fn open_for_pictures(&self) -> Result<(), VisionError> {
            Err(changed())
        }

        fn embed_images(&self, _: &[Pixels]) -> Result<Vec<Embedding>, VisionError> {
            Err(changed())
        }

        fn embed_texts(&self, _: &[String]) -> Result<Vec<Embedding>, VisionError> {
            Ok(Vec::new())
        }

        fn count_tokens(&self, _: &str) -> Result<usize, VisionError> {
            Ok(0)
        }

        fn readability(&self, _: &str) -> Result<crate::vision::Readability, VisionError> {
            Ok(crate::vision::Readability::Whole)
        }
    }

    #[test]
    fn a_model_that_can_not_be_opened_says_nothing_about_a_picture() {
        let encoder = Changed(model::builtin().expect("the built-in model").card);
        let photo = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/photos");
        let named = Named::of(&[photo], Vec::new());
        let pool = DecoderPool::start(Path::new("none"), SandboxMode::Off, Limits::default());
        let pool = Arc::new(pool.expect("no child is needed"));
        let mut judged = 0;
        let ended = judge_named(&encoder, &[], &pool, 8, named, |_| judged += 1);
        assert!(matches!(ended, Err(VisionError::ChangedInUse { .. })));
        assert_eq!(judged, 0);
    }
}
