//! The decided items most like the one on the screen: all of them, read from a vector file that
//! holds nothing else.

use std::sync::Arc;

use crate::commands::vectors;
use crate::config::Config;
use crate::moderation::{Action, Embedding, ItemId, ItemNumbers};
use crate::search::{VectorFile, VectorRow};
use crate::store::Store;
use crate::vision::ModelCard;

/// So many decisions, or vectors, are read in one go.
const PAGE: u32 = 1000;

/// What was decided, as of the last look at the log of decisions.
pub(super) struct Decided {
    store: Arc<Store>,
    card: ModelCard,
    file: VectorFile,
    /// The last entry of the log that was looked at.
    last: i64,
    /// Items whose approval or removal stands.
    standing: ItemNumbers,
    /// Items that the file holds, and how many rows it had then.
    held: (ItemNumbers, u64),
    /// Decided items that the model has not seen, as of this last vector of the store.
    unseen: (Vec<i64>, i64),
}

impl Decided {
    pub(super) fn new(store: Arc<Store>, card: ModelCard, config: &Config) -> Self {
        let file = vectors::decided_file(config, &card);
        Self {
            store,
            card,
            file,
            last: 0,
            standing: ItemNumbers::default(),
            held: (ItemNumbers::default(), 0),
            unseen: (Vec::new(), 0),
        }
    }

    /// The decided items most like this one, itself left out: number and cosine.
    pub(super) async fn nearest(
        &mut self,
        item: ItemId,
        top: usize,
    ) -> anyhow::Result<Vec<(i64, f32)>> {
        let new = self.read_decisions().await?;
        self.bring_file_up_to_date(new).await?;
        let views = self.store.item_embeddings(item, &self.card.fingerprint).await?;
        let Some(view) = views.into_iter().next() else { return Ok(Vec::new()) };
        let itself = self.store.item_number(item).await?;
        let (file, standing) = (self.file.clone(), self.standing.clone());
        let wanted = move |item: i64| standing.contains(item) && Some(item) != itself;
        // Two dashboards may both have added an item: it would take two places.
        let nearest =
            tokio::task::spawn_blocking(move || file.nearest(&view, top * 4, wanted)).await??;
        let near = nearest.found.into_iter().take(top);
        Ok(near.map(|near| (near.item, near.cosine)).collect())
    }

    /// Takes in what the log says since the last look; answers the items that it is about.
    async fn read_decisions(&mut self) -> anyhow::Result<Vec<i64>> {
        let mut about = Vec::new();
        loop {
            let page = self.store.decision_log(self.last, PAGE).await?;
            let Some((last, ..)) = page.last() else { return Ok(about) };
            self.last = *last;
            let mut in_doubt = Vec::new();
            for (_, item, action) in &page {
                match action {
                    Some(Action::Approve | Action::Remove) => {
                        self.standing.insert(*item);
                        about.push(*item);
                    }
                    Some(Action::Escalate) => {}
                    // An undo: what stood before it may stand again.
                    None => in_doubt.push(*item),
                }
            }
            for (item, stands) in self.store.what_stands(&in_doubt).await? {
                if stands {
                    self.standing.insert(item);
                    about.push(item);
                } else {
                    self.standing.remove(item);
                }
            }
        }
    }

    /// Adds the vectors of decided items that the file lacks; `new` are those that may be new.
    async fn bring_file_up_to_date(&mut self, new: Vec<i64>) -> anyhow::Result<()> {
        let (rows, last_vector) = (self.file.count()?, self.store.last_vector().await?);
        let mut lacking = if rows == self.held.1 {
            new
        } else {
            // At the start; and when another dashboard added to it, or it was begun anew.
            let items = tokio::task::block_in_place(|| self.file.items())?;
            self.held = (items.into_iter().collect(), rows);
            self.standing.iter().collect()
        };
        if self.unseen.1 != last_vector {
            lacking.append(&mut self.unseen.0);
            self.unseen.1 = last_vector;
        }
        lacking.retain(|item| !self.held.0.contains(*item));
        lacking.sort_unstable();
        lacking.dedup();
        for page in lacking.chunks(PAGE as usize) {
            let views = self.store.first_views(&self.card.fingerprint, page).await?;
            let seen: ItemNumbers = views.iter().map(|(item, _)| *item).collect();
            self.unseen.0.extend(page.iter().filter(|item| !seen.contains(**item)));
            self.add(&views)?;
        }
        Ok(())
    }

    fn add(&mut self, views: &[(i64, Embedding)]) -> anyhow::Result<()> {
        tokio::task::block_in_place(|| {
            let mut appending = self.file.append()?;
            let numbers = appending.last() + 1..;
            let rows: Vec<VectorRow> = numbers
                .zip(views)
                .map(|(number, (item, embedding))| VectorRow {
                    number,
                    item: *item,
                    embedding: embedding.clone(),
                })
                .collect();
            appending.add(&rows)
        })?;
        for (item, _) in views {
            self.held.0.insert(*item);
        }
        self.held.1 += views.len() as u64;
        Ok(())
    }
}
