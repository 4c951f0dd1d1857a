//! Searches as `search` and the dashboard share them: from what was typed to items.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;

use crate::config::Config;
use crate::files::Named;
use crate::moderation::escape::escape_path;
use crate::moderation::{
    Decided, Embedding, FoundItem, ItemFilter, ItemNumbers, ItemSet, Outcome, PolicyId, ReviewState,
};
use crate::pipeline::judge_named;
use crate::policy_file::Defaults;
use crate::search::{Formula, Term};
use crate::store::Store;
use crate::vision::{DecoderPool, Encoder, ModelCard, VisionError};

use super::clock::moment;
use super::{UsageError, vectors, workspace};

/// Searches all pictures that one model has seen.
pub(super) struct Searcher {
    pub(super) store: Arc<Store>,
    pub(super) card: ModelCard,
    config: Config,
    /// Loaded with the first text or picture.
    encoder: Option<Arc<dyn Encoder>>,
    decoders: Option<Arc<DecoderPool>>,
    /// Folders that uploaders can write; a picture that is named there is reached without links.
    watched: Vec<PathBuf>,
    /// The only items that are compared; all where nobody says.
    living: Option<Arc<ItemNumbers>>,
}

/// An item that was found.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Hit {
    /// What is known about it.
    pub item: FoundItem,
    /// Cosine with what was searched for, −1..=1; no probability.
    pub score: f32,
    /// How many pictures of all are less like it.
    pub below: u64,
}

impl Hit {
    /// The share of all `of` pictures that are less alike, 0..=100.
    #[expect(clippy::cast_precision_loss, reason = "a percentage")]
    pub(super) fn percentile(&self, of: u64) -> f64 {
        self.below as f64 * 100.0 / of.max(1) as f64
    }
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Answer {
    /// The most similar first.
    pub hits: Vec<Hit>,
    /// Pictures that were compared.
    pub of: u64,
}

impl Searcher {
    /// Loads nothing before it is asked. `config` says the model and where the vectors lie.
    pub(super) fn new(store: Arc<Store>, card: ModelCard, config: Config) -> Self {
        Self {
            store,
            card,
            config,
            encoder: None,
            decoders: None,
            watched: Vec::new(),
            living: None,
        }
    }

    /// Says which folders uploaders can write.
    pub(super) fn beneath(mut self, watched: Vec<PathBuf>) -> Self {
        self.watched = watched;
        self
    }

    /// Whether a text or a picture can be embedded at once.
    pub(super) fn is_loaded(&self) -> bool {
        self.encoder.is_some()
    }

    /// Takes over what is open already.
    pub(super) fn with(mut self, encoder: Arc<dyn Encoder>, decoders: Arc<DecoderPool>) -> Self {
        (self.encoder, self.decoders) = (Some(encoder), Some(decoders));
        self
    }

    /// Compares only these items.
    pub(super) fn among(mut self, living: ItemNumbers) -> Self {
        self.living = Some(Arc::new(living));
        self
    }

    /// Makes what came since the last search searchable; `progress` is told how many vectors
    /// were copied so far.
    pub(super) async fn bring_up_to_date(&self, progress: impl FnMut(u64)) -> anyhow::Result<()> {
        let file = vectors::file(&self.config, &self.card);
        vectors::bring_up_to_date(&self.store, &self.card, &file, progress).await
    }

    /// How many vectors there are to search.
    pub(super) fn count(&self) -> anyhow::Result<u64> {
        if self.living.as_ref().is_some_and(|living| living.iter().next().is_none()) {
            return Ok(0);
        }
        Ok(vectors::file(&self.config, &self.card).count()?)
    }

    /// The direction in which to look: the weighted sum of texts and pictures. May load the model.
    ///
    /// # Errors
    /// [`UsageError`] for a text that is too long for the model, and when all cancels out.
    pub(super) fn direction(
        &mut self,
        terms: &[Term],
        pictures: &[Embedding],
    ) -> anyhow::Result<Embedding> {
        let mut sum = vec![0.0; self.card.embedding_dim];
        let mut parts = Vec::with_capacity(terms.len() + pictures.len());
        for term in terms {
            parts.push((term.weight, self.embed(&term.text)?));
        }
        parts.extend(pictures.iter().map(|picture| (1.0, picture.clone())));
        for (weight, embedding) in &parts {
            let components = sum.iter_mut().zip(embedding.as_slice());
            components.for_each(|(sum, component)| *sum += weight * component);
        }
        let length = sum.iter().map(|part| part * part).sum::<f32>().sqrt();
        if length < 1e-3 {
            let told = "what was asked for cancels itself out: there is no direction to look in";
            return Err(UsageError(told.to_owned()).into());
        }
        Ok(Embedding::normalised(sum)?)
    }

    /// As policies' prompts are embedded: over the templates, averaged.
    fn embed(&mut self, text: &str) -> anyhow::Result<Embedding> {
        let templates = self.config.templates.clone();
        let templates = templates.unwrap_or_else(|| Defaults::default().templates);
        let texts: Vec<String> = templates.iter().map(|one| one.replace("{}", text)).collect();
        let encoder = self.encoder()?;
        for text in &texts {
            match encoder.check_text(text) {
                Err(long @ VisionError::PromptTooLong { .. }) => {
                    return Err(UsageError(long.to_string()).into());
                }
                checked => checked?,
            }
        }
        Ok(Embedding::mean(&encoder.embed_texts(&texts)?)?)
    }

    /// A picture that need not be in the store, as the model sees it.
    ///
    /// # Errors
    /// When no picture can be read from the file; the error says why.
    pub(super) fn picture(&mut self, path: &Path) -> anyhow::Result<Embedding> {
        let decoders = self.decoders()?;
        let mut judged = None;
        let named = Named::of(&[PathBuf::from(path)], self.watched.clone());
        judge_named(self.encoder()?.as_ref(), &[], &decoders, 1, named, |one| judged = Some(one))?;
        let judged = judged.context("nothing was read")?;
        let reason = judged.verdict.reason.map(|reason| reason.to_string()).unwrap_or_default();
        judged
            .views
            .into_iter()
            .next()
            .with_context(|| format!("can't search by {}: {reason}", escape_path(path)))
    }

    /// The decoder in its cage, started when it is needed first.
    pub(super) fn decoders(&mut self) -> anyhow::Result<Arc<DecoderPool>> {
        Ok(match &self.decoders {
            Some(decoders) => Arc::clone(decoders),
            None => Arc::clone(self.decoders.insert(workspace::decoders(&self.config)?)),
        })
    }

    fn encoder(&mut self) -> anyhow::Result<Arc<dyn Encoder>> {
        if let Some(encoder) = &self.encoder {
            return Ok(Arc::clone(encoder));
        }
        let encoder: Arc<dyn Encoder> = workspace::encoder(&self.config)?.0.into();
        Ok(Arc::clone(self.encoder.insert(encoder)))
    }

    /// The `top` items most like a direction that are in the set and `is_there` says yes to.
    pub(super) async fn nearest(
        &self,
        direction: &Embedding,
        set: ItemSet,
        top: usize,
        is_there: impl Fn(&FoundItem) -> bool,
    ) -> anyhow::Result<Answer> {
        let set = Arc::new(set);
        let mut take = top.saturating_add(top / 8).saturating_add(8);
        loop {
            let file = vectors::file(&self.config, &self.card);
            let (direction, within) = (direction.clone(), Arc::clone(&set));
            let living = self.living.clone();
            let counted = move |item| living.as_ref().is_none_or(|living| living.contains(item));
            let wanted = move |item| within.contains(item);
            let search = move || file.nearest_among(&direction, take, counted, wanted);
            let nearest = tokio::task::spawn_blocking(search);
            let nearest = nearest.await.context("the search panicked")??;
            let numbers: Vec<i64> = nearest.found.iter().map(|near| near.item).collect();
            let mut known = Vec::with_capacity(numbers.len());
            for page in numbers.chunks(1000) {
                known.extend(self.store.found_items(page).await?);
            }
            let mut known = known.into_iter().peekable();
            let mut hits = Vec::with_capacity(top.min(numbers.len()));
            for near in &nearest.found {
                let found = known.next_if(|item| item.number == near.item).filter(&is_there);
                let hit = |item| Hit { item, score: near.cosine, below: near.below };
                hits.extend(found.map(hit));
            }
            // What lies nowhere any more took places; more are asked for until there are enough.
            if hits.len() >= top || nearest.found.len() < take {
                hits.truncate(top);
                return Ok(Answer { hits, of: nearest.of });
            }
            take = take.saturating_mul(4);
        }
    }
}

/// What restricts a search, from pairs of a key and a value.
///
/// # Errors
/// [`UsageError`] for a value that its key can't have, and for a key that comes twice.
pub(super) fn filter_of(only: &[(&'static str, String)]) -> Result<ItemFilter, UsageError> {
    let mut filter = ItemFilter::default();
    for (index, (key, value)) in only.iter().enumerate() {
        if only[..index].iter().any(|(before, _)| before == key) {
            return Err(UsageError(format!("{key} restricts the search twice; give one")));
        }
        let wrong = |fine: &str| UsageError(format!("{key} can't be {value:?}; it is {fine}"));
        match *key {
            "policy" => {
                let id = PolicyId::new(value.clone());
                filter.policy = Some(id.map_err(|_refused| wrong("the id of a policy"))?);
            }
            "outcome" => {
                let outcome = Outcome::parse(value);
                filter.outcome = Some(outcome.ok_or_else(|| wrong("allow, review or block"))?);
            }
            "decision" => {
                filter.decision = Some(match value.as_str() {
                    "approve" | "approved" => Decided::Approved,
                    "remove" | "removed" => Decided::Removed,
                    "none" | "undecided" => Decided::Undecided,
                    _ => return Err(wrong("approve, remove or none")),
                });
            }
            "state" => {
                let state = ReviewState::parse(value);
                filter.state = Some(state.ok_or_else(|| wrong("open, escalated or closed"))?);
            }
            "path" => filter.path = Some(value.clone()),
            _ => {
                let fine = "a day (2026-11-23), a time, or an age (12h, 30d, 2w)";
                let at = Some(moment(value).ok_or_else(|| wrong(fine))?);
                if *key == "since" { filter.since = at } else { filter.until = at }
            }
        }
    }
    Ok(filter)
}

/// Takes apart what was typed.
pub(super) fn formula(typed: &str) -> Result<Formula, UsageError> {
    Formula::parse(typed).map_err(|error| UsageError(error.to_string()))
}

/// Refuses a policy that neither the workspace nor its history knows: a slip of the pen must not
/// look like a search without results.
pub(super) async fn must_be_known(
    policy: Option<&PolicyId>,
    store: &Store,
    config: &Config,
) -> anyhow::Result<()> {
    let Some(policy) = policy else { return Ok(()) };
    if store.knows_policy(policy).await? {
        return Ok(());
    }
    workspace::must_be_policies(&[policy.as_str()], &workspace::policies(config)?)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restrictions_are_checked() {
        let pair = |key, value: &str| (key, value.to_owned());
        let filter = filter_of(&[
            pair("policy", "memes"),
            pair("outcome", "block"),
            pair("decision", "removed"),
            pair("state", "open"),
            pair("path", "Cats"),
            pair("since", "1970-01-01T00:00:01Z"),
        ]);
        let filter = filter.expect("fine");
        assert_eq!(filter.decision, Some(Decided::Removed));
        assert_eq!(filter.since.map(|at| at.0), Some(1000));
        assert_eq!(filter.until, None);
        for wrong in [
            pair("policy", "No Id"),
            pair("outcome", "bad"),
            pair("decision", "escalate"),
            pair("state", "done"),
            pair("until", "soon"),
        ] {
            let told = filter_of(&[wrong]).expect_err("refused").to_string();
            assert!(told.contains("it is "), "{told}");
        }
        assert!(filter_of(&[pair("path", "a"), pair("path", "b")]).is_err());
    }
}
