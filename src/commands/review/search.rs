//! Searches for the dashboard: by a description, by a picture, and the nearest decided items.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::commands::find::{Hit, Searcher, filter_of, formula, must_be_known};
use crate::config::Config;
use crate::moderation::{ItemId, Side};
use crate::store::Store;
use crate::tui::{Effect, Event, Found, Query, RequestId};
use crate::vision::ModelCard;

use super::decided::Decided;

/// Rows of a search.
const TOP: usize = 200;
/// Decided items that are shown beside the explanation.
const NEAREST: usize = 3;

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
    Again(Vec<(i64, f32, Option<f64>)>),
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
        let near = Decided::new(Arc::clone(&store), card.clone(), &config);
        running.spawn(answer_neighbours(near, Arc::clone(&store), asked_near, events.clone()));
        let all = Searcher::new(store, card, config.clone());
        running.spawn(answer_searches(all, config, events, asked));
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

async fn answer_searches(
    mut searcher: Searcher,
    config: Config,
    events: Sender<Event>,
    mut asked: watch::Receiver<Option<(RequestId, Search)>>,
) {
    while asked.changed().await.is_ok() {
        let Some((id, search)) = asked.borrow_and_update().clone() else { continue };
        let tell = |progress: String| {
            // Nobody is there any more: then nobody wants to know.
            let _ = events.send(Event::Finding { id, progress });
        };
        let found = match search {
            Search::Query(query) => find(&mut searcher, &config, query, tell).await,
            Search::Again(items) => known_about(&searcher.store, &items).await,
        };
        let event = match found {
            Ok(found) => Event::FoundItems { id, found },
            Err(error) => Event::Failed { id, why: format!("{error:#}") },
        };
        if events.send(event).is_err() {
            return;
        }
    }
}

async fn find(
    searcher: &mut Searcher,
    config: &Config,
    query: Query,
    tell: impl Fn(String),
) -> anyhow::Result<Vec<Found>> {
    searcher.bring_up_to_date(|copied| tell(format!("{copied} pictures made searchable…"))).await?;
    let formula = formula(&query.text)?;
    let filter = filter_of(&formula.only)?;
    must_be_known(filter.policy.as_ref(), &searcher.store, config).await?;
    let mut set = searcher.store.items_where(&filter).await?;
    let mut pictures = Vec::new();
    if let Some(item) = query.like {
        let store = &searcher.store;
        set.restrict(store.item_number(item).await?.into_iter().collect(), Side::Outside);
        let views = store.item_embeddings(item, &searcher.card.fingerprint).await?;
        pictures.extend(views.into_iter().next());
        anyhow::ensure!(!pictures.is_empty(), "this model has not seen the picture");
    }
    anyhow::ensure!(
        !formula.terms.is_empty() || !pictures.is_empty(),
        "type also what to look for; restrictions alone find nothing"
    );
    if !formula.terms.is_empty() && !searcher.is_loaded() {
        tell("loading the model…".to_owned());
    }
    let direction = tokio::task::block_in_place(|| searcher.direction(&formula.terms, &pictures))?;
    tell("searching…".to_owned());
    let answer = searcher.nearest(&direction, set, TOP, |_| true).await?;
    let found = |hit: Hit| {
        let percentile = Some(hit.percentile(answer.of));
        Found { item: hit.item, cosine: hit.score, percentile }
    };
    Ok(answer.hits.into_iter().map(found).collect())
}

/// What the store knows about what was found; what was erased since is left out.
async fn known_about(
    store: &Store,
    items: &[(i64, f32, Option<f64>)],
) -> anyhow::Result<Vec<Found>> {
    let numbers: Vec<i64> = items.iter().map(|(item, ..)| *item).collect();
    let likeness: HashMap<i64, (f32, Option<f64>)> =
        items.iter().map(|(item, cosine, percentile)| (*item, (*cosine, *percentile))).collect();
    let found = store.found_items(&numbers).await?.into_iter();
    let with_likeness = |item: crate::moderation::FoundItem| {
        let (cosine, percentile) = likeness.get(&item.number).copied().unwrap_or_default();
        Found { item, cosine, percentile }
    };
    Ok(found.map(with_likeness).collect())
}

async fn answer_neighbours(
    mut decided: Decided,
    store: Arc<Store>,
    mut asked: watch::Receiver<Option<(RequestId, ItemId)>>,
    events: Sender<Event>,
) {
    while asked.changed().await.is_ok() {
        let Some((id, item)) = *asked.borrow_and_update() else { continue };
        // The explanation is complete without them.
        let found = match decided.nearest(item, NEAREST).await {
            Ok(near) => {
                let near: Vec<_> =
                    near.into_iter().map(|(item, cosine)| (item, cosine, None)).collect();
                known_about(&store, &near).await
            }
            Err(error) => Err(error),
        };
        let found = found.unwrap_or_default();
        if events.send(Event::Neighbours { id, found }).is_err() {
            return;
        }
    }
}
