//! Which parts of a picture matter to a policy, as `policy explain` and the dashboard show it.

use anyhow::Context as _;
use image::RgbImage;
use tokio::runtime::Handle;

use crate::config::Config;
use crate::moderation::ItemId;
use crate::moderation::escape::escape_path;
use crate::moderation::{Classifier, Embedding, PolicyId, Uploader};
use crate::store::Judged;
use crate::vision::occlusion::{Heatmap, as_picture, occlusion};
use crate::vision::{DecoderPool, Encoder, Pixels};

use super::workspace;

/// A map over a picture has at least so many pixels a side.
const SIDE: u32 = 448;

/// A map, and the view that it is about with the map over it.
pub(super) struct Heat {
    pub map: Heatmap,
    pub picture: RgbImage,
}

/// Of a file that was just judged: the view with this index.
pub(super) fn of_file(
    encoder: &dyn Encoder,
    classifier: &Classifier,
    decoders: &DecoderPool,
    judged: &Judged,
    bytes: &[u8],
    view: usize,
) -> anyhow::Result<Heat> {
    let path = || escape_path(&judged.sighting.path);
    anyhow::ensure!(ItemId::of_bytes(bytes) == judged.item, "{} was changed just now", path());
    let uploader = Uploader::near(&judged.sighting.path);
    let views = decoders.views(bytes, &encoder.model().image, &uploader)?;
    let views = views.with_context(path)?.views;
    let view = views.get(view).context("the picture has fewer views than before")?;
    let map = map(encoder, classifier, view, &|| true)?.context("it was called off")?;
    let picture = map.over(&as_picture(view, SIDE).context("the view has no pixels")?);
    Ok(Heat { map, picture })
}

/// Of one view as the model sees it; none once `still_wanted` says no.
fn map(
    encoder: &dyn Encoder,
    classifier: &Classifier,
    view: &Pixels,
    still_wanted: &dyn Fn() -> bool,
) -> anyhow::Result<Option<Heatmap>> {
    let measure = |embedding: &Embedding| classifier.log_odds(embedding);
    Ok(occlusion(encoder, view, measure, |_, _| still_wanted())?)
}

/// Draws maps for the dashboard; the model is loaded with the first one.
pub(super) struct Artist {
    config: Config,
    runtime: Handle,
    ready: Option<(Box<dyn Encoder>, Vec<Classifier>)>,
}

impl Artist {
    pub(super) fn new(config: Config, runtime: Handle) -> Self {
        Self { config, runtime, ready: None }
    }

    /// The view that the policy's score comes from, as much of it as `reveal` leaves, with the
    /// map over it. Must be called outside of the runtime. Nothing once nobody wants it any more.
    pub(super) fn draw(
        &mut self,
        decoders: &DecoderPool,
        (bytes, uploader): (&[u8], &Uploader),
        policy: &PolicyId,
        reveal: impl Fn(RgbImage) -> RgbImage,
        still_wanted: &dyn Fn() -> bool,
    ) -> anyhow::Result<Option<RgbImage>> {
        let (encoder, classifiers) = match &mut self.ready {
            Some(ready) => ready,
            none => {
                let files = workspace::policies(&self.config)?;
                let (encoder, _) = workspace::encoder(&self.config)?;
                let embedding =
                    workspace::classifiers(encoder.as_ref(), &files, &self.config, None);
                let classifiers = self.runtime.block_on(embedding)?;
                none.insert((encoder, classifiers))
            }
        };
        let classifier = classifiers.iter().find(|one| one.policy.id == *policy);
        let classifier = classifier.context("the policy is not in force any more")?;
        let views = decoders.views(bytes, &encoder.model().image, uploader)??.views;
        let score = classifier.score(&encoder.embed_images(&views)?);
        let view = score.and_then(|score| views.get(score.view)).context("there is no view")?;
        let Some(map) = map(encoder.as_ref(), classifier, view, still_wanted)? else {
            return Ok(None);
        };
        let picture = as_picture(view, SIDE).context("the view has no pixels")?;
        Ok(Some(map.over(&reveal(picture))))
    }
}
