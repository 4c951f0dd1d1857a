//! Searches for the dashboard: by a description, by a picture, and the nearest decided items.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use anyhow::Context as _;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::Config;
use crate::moderation::{Action, Embedding, ItemId};
use crate::policy_file::Defaults;
use crate::search::Neighbour;
use crate::store::Store;
use crate::tui::{Effect, Event, Found, Query, RequestId};
use crate::vision::{Encoder, ModelCard};

use crate::commands::{vectors, workspace};

/// Rows of a search.
const TOP: usize = 200;
/// Decided items that are shown beside the explanation.
const NEAREST: usize = 3;
/// So many of the latest decided items are compared with what is on the screen.
const DECIDED: u32 = 10_000;

/// Searches, one of each kind at a time; a later one makes an unfinished one moot.
pub(super) struct Finder {
    searches: watch::Sender<Option<(RequestId, Search)>>,
    neighbours: watch::Sender<Option<(RequestId, ItemId)>>,
    tasks: JoinSet<()>,
}

#[derive(Clone)]
enum Search {
    Query(Query),
    /// What is known now about what was found before.
    Again(Vec<(i64, f32)>),
}

impl Finder {
    /// Loads nothing before it is asked.
    pub(super) fn open(
        store: Arc<Store>,
        card: ModelCard,
        config: Config,
        events: Sender<Event>,
    ) -> Self {
        let mut running = JoinSet::new();
        let (searches, asked) = watch::channel(None);
        let (neighbours, asked_near) = watch::channel(None);
        let near = Decided {
            store: Arc::clone(&store),
            card: card.clone(),
            last: 0,
            items: HashMap::new(),
        };
        running.spawn(answer_neighbours(near, asked_near, events.clone()));
        let all = Searcher { store, card, config, encoder: None, events };
        running.spawn(answer_searches(all, asked));
        Self { searches, neighbours, tasks: running }
    }

    /// Begins what an effect asks for.
    pub(super) fn perform(&self, effect: Effect) {
        match effect {
            Effect::Find { id, query } => {
                self.searches.send_replace(Some((id, Search::Query(query))));
            }
            Effect::LookUp { id, items } => {
                self.searches.send_replace(Some((id, Search::Again(items))));
            }
            Effect::LoadNeighbours { id, item } => {
                self.neighbours.send_replace(Some((id, item)));
            }
            _ => {}
        }
    }

    /// Drops what is unfinished.
    pub(super) async fn close(mut self) {
        self.tasks.shutdown().await;
    }
}

struct Searcher {
    store: Arc<Store>,
    card: ModelCard,
    config: Config,
    /// Loaded with the first description.
    encoder: Option<Box<dyn Encoder>>,
    events: Sender<Event>,
}

async fn answer_searches(
    mut searcher: Searcher,
    mut asked: watch::Receiver<Option<(RequestId, Search)>>,
) {
    while asked.changed().await.is_ok() {
        let Some((id, search)) = asked.borrow_and_update().clone() else { continue };
        let found = match search {
            Search::Query(query) => searcher.find(id, query).await,
            Search::Again(items) => known_about(&searcher.store, &items).await,
        };
        let event = match found {
            Ok(found) => Event::FoundItems { id, found },
            Err(error) => Event::Failed { id, why: format!("{error:#}") },
        };
        if searcher.events.send(event).is_err() {
            return;
        }
    }
}

impl Searcher {
    async fn find(&mut self, id: RequestId, query: Query) -> anyhow::Result<Vec<Found>> {
        let file = vectors::file(&self.config, &self.card);
        let events = self.events.clone();
        let tell = |progress: String| {
            // Nobody is there any more: then nobody wants to know.
            let _ = events.send(Event::Finding { id, progress });
        };
        vectors::bring_up_to_date(&self.store, &self.card, &file, |copied| {
            tell(format!("{copied} pictures made searchable…"));
        })
        .await?;
        let (wanted, itself) = match &query {
            Query::Like(item) => {
                let views = self.store.item_embeddings(*item, &self.card.fingerprint).await?;
                let view = views.into_iter().next();
                let view = view.context("this model has not seen the picture")?;
                (view, self.store.item_number(*item).await?)
            }
            Query::Text(text) => {
                if self.encoder.is_none() {
                    tell("loading the model…".to_owned());
                }
                (self.embed(text)?, None)
            }
        };
        tell("searching…".to_owned());
        let nearest = tokio::task::spawn_blocking(move || {
            file.nearest(&wanted, TOP, |item| Some(item) != itself)
        });
        let nearest = nearest.await.context("the search panicked")??;
        let items: Vec<_> = nearest.iter().map(|near| (near.item, near.cosine)).collect();
        known_about(&self.store, &items).await
    }

    /// As policies' prompts are embedded: over the templates, averaged.
    fn embed(&mut self, text: &str) -> anyhow::Result<Embedding> {
        let templates = self.config.templates.clone();
        let templates = templates.unwrap_or_else(|| Defaults::default().templates);
        let texts: Vec<String> = templates.iter().map(|one| one.replace("{}", text)).collect();
        tokio::task::block_in_place(|| {
            let encoder = match &mut self.encoder {
                Some(encoder) => encoder,
                none => none.insert(workspace::encoder(&self.config)?.0),
            };
            for text in &texts {
                encoder.check_text(text)?;
            }
            Ok(Embedding::mean(&encoder.embed_texts(&texts)?)?)
        })
    }
}

/// What the store knows about what was found; what was erased since is left out.
async fn known_about(store: &Store, items: &[(i64, f32)]) -> anyhow::Result<Vec<Found>> {
    let numbers: Vec<i64> = items.iter().map(|(item, _)| *item).collect();
    let cosines: HashMap<i64, f32> = items.iter().copied().collect();
    let found = store.found_items(&numbers).await?.into_iter();
    let with_cosine = |item: crate::moderation::FoundItem| {
        let cosine = cosines.get(&item.number).copied().unwrap_or_default();
        Found { item, cosine }
    };
    Ok(found.map(with_cosine).collect())
}

/// The first views of the latest decided items, in memory: comparing them takes no time.
struct Decided {
    store: Arc<Store>,
    card: ModelCard,
    last: i64,
    items: HashMap<i64, Embedding>,
}

async fn answer_neighbours(
    mut decided: Decided,
    mut asked: watch::Receiver<Option<(RequestId, ItemId)>>,
    events: Sender<Event>,
) {
    while asked.changed().await.is_ok() {
        let Some((id, item)) = *asked.borrow_and_update() else { continue };
        // The explanation is complete without them.
        let found = decided.nearest(item).await.unwrap_or_default();
        if events.send(Event::Neighbours { id, found }).is_err() {
            return;
        }
    }
}

impl Decided {
    async fn nearest(&mut self, item: ItemId) -> anyhow::Result<Vec<Found>> {
        self.refresh().await?;
        let views = self.store.item_embeddings(item, &self.card.fingerprint).await?;
        let Some(view) = views.first() else { return Ok(Vec::new()) };
        let itself = self.store.item_number(item).await?;
        let others = self.items.iter().filter(|(number, _)| Some(**number) != itself);
        let mut near: Vec<Neighbour> = others
            .map(|(item, other)| Neighbour { item: *item, cosine: view.cosine(other) })
            .collect();
        near.sort_by(|a, b| b.cosine.total_cmp(&a.cosine).then(a.item.cmp(&b.item)));
        near.truncate(NEAREST);
        let near: Vec<_> = near.iter().map(|near| (near.item, near.cosine)).collect();
        known_about(&self.store, &near).await
    }

    async fn refresh(&mut self) -> anyhow::Result<()> {
        let (last, changed) = self.store.decided_items(self.last, DECIDED).await?;
        self.last = last;
        let mut standing: HashMap<i64, Option<Action>> = HashMap::new();
        standing.extend(changed);
        self.items.retain(|item, _| !matches!(standing.get(item), Some(None)));
        let new: Vec<i64> = standing
            .iter()
            .filter(|(item, action)| action.is_some() && !self.items.contains_key(item))
            .map(|(item, _)| *item)
            .collect();
        let views = self.store.first_views(&self.card.fingerprint, &new).await?;
        self.items.extend(views);
        Ok(())
    }
}
