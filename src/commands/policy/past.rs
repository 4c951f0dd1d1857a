//! Judges the whole past again from stored vectors: blocks are read ahead while others are
//! multiplied on all cores, so memory stays flat however long the past is.

use std::collections::VecDeque;
use std::io::IsTerminal as _;
use std::sync::Arc;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::commands::workspace;
use crate::config::Config;
use crate::moderation::{Fingerprint, ManyScorer, Timestamp};
use crate::store::{HistoryBlock, HistoryItem, Store, StoreError, Wanted};

/// Vectors of a block; about two megabytes with 256 components.
const BLOCK: u32 = 4096;

/// Some items and their scores.
pub(super) struct ScoredBlock {
    /// By number.
    pub items: Vec<HistoryItem>,
    /// For each item, one score a classifier: the highest over its views.
    pub scores: Vec<f32>,
}

/// The workspace's past as one model sees it.
pub(super) struct Past {
    pub store: Arc<Store>,
    pub fingerprint: Fingerprint,
    /// Items after this number only.
    pub after: i64,
    /// How many there are.
    pub items: u64,
}

impl Past {
    pub(super) async fn open(config: &Config, since: Option<Timestamp>) -> anyhow::Result<Self> {
        let store = Arc::new(workspace::existing_store(config).await?);
        let fingerprint = workspace::model(config)?.card.fingerprint;
        let after = match since {
            Some(since) => store.history_start(since).await?,
            None => 0,
        };
        let items = store.count_items(after).await?;
        Ok(Self { store, fingerprint, after, items })
    }

    /// Scores everything and hands it to `take`, in order; answers how many items had vectors.
    pub(super) async fn score(
        &self,
        scorer: ManyScorer,
        wanted: Wanted,
        mut take: impl FnMut(ScoredBlock),
    ) -> anyhow::Result<u64> {
        let scorer = Arc::new(scorer);
        let bar = progress(self.items);
        let mut blocks = self.read_ahead(wanted);
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let mut under_way: VecDeque<JoinHandle<anyhow::Result<ScoredBlock>>> = VecDeque::new();
        let mut seen = 0;
        loop {
            let block = if under_way.len() < cores { blocks.recv().await } else { None };
            if let Some(block) = block {
                let (block, scorer) = (block?, Arc::clone(&scorer));
                under_way.push_back(tokio::task::spawn_blocking(move || scored(block, &scorer)));
                continue;
            }
            let Some(oldest) = under_way.pop_front() else { break };
            let block = oldest.await.context("a thread panicked; please report this")??;
            seen += block.items.len() as u64;
            bar.set_position(seen);
            take(block);
        }
        bar.finish_and_clear();
        Ok(seen)
    }

    fn read_ahead(&self, wanted: Wanted) -> mpsc::Receiver<Result<HistoryBlock, StoreError>> {
        let (out, blocks) = mpsc::channel(2);
        let (store, fingerprint) = (Arc::clone(&self.store), self.fingerprint.clone());
        let mut after = self.after;
        tokio::spawn(async move {
            loop {
                let block = store.history(&fingerprint, after, wanted, BLOCK).await;
                let last = match &block {
                    Ok(block) => block.items.last().map(|item| item.number),
                    Err(_) => None,
                };
                // Nobody waits for the empty block at the end.
                if matches!(&block, Ok(block) if block.items.is_empty())
                    || out.send(block).await.is_err()
                {
                    return;
                }
                let Some(last) = last else { return };
                after = last;
            }
        });
        blocks
    }
}

fn scored(block: HistoryBlock, by: &ManyScorer) -> anyhow::Result<ScoredBlock> {
    let by_view = by.scores(&block.vectors).context("a stored vector can't be read")?;
    let policies = by.classifiers().len();
    if block.items.iter().all(|item| item.views == 1) {
        return Ok(ScoredBlock { items: block.items, scores: by_view });
    }
    let mut scores = Vec::with_capacity(block.items.len() * policies);
    let mut rows = by_view.chunks_exact(policies.max(1));
    for item in &block.items {
        let start = scores.len();
        scores.resize(start + policies, f32::NEG_INFINITY);
        for row in rows.by_ref().take(item.views) {
            for (best, score) in scores[start..].iter_mut().zip(row) {
                *best = best.max(*score);
            }
        }
    }
    Ok(ScoredBlock { items: block.items, scores })
}

fn progress(items: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {pos} of {len} items · {eta} left");
    ProgressBar::new(items).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
