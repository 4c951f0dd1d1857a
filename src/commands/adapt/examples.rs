//! What there is to learn from: people's decisions, or a folder of labelled pictures.

use std::path::Path;

use anyhow::ensure;

use crate::commands::labels::Labels;
use crate::commands::progress::pictures_bar;
use crate::commands::workspace;
use crate::config::Config;
use crate::files::Named;
use crate::moderation::adapter::Example;
use crate::moderation::escape::escape_path;
use crate::moderation::{Embedding, PolicyId};
use crate::pipeline::judge_named;
use crate::store::Store;
use crate::vision::Encoder;

/// For each policy its examples, in the policies' order.
pub(super) type ByPolicy = Vec<Vec<Example>>;

/// Each decided item once, by its latest decision, the latest first; vectors come from the store.
pub(super) async fn of_decisions(
    store: &Store,
    config: &Config,
    policies: &[PolicyId],
) -> anyhow::Result<ByPolicy> {
    let card = workspace::model(config)?.card;
    let mut decided = store.latest_decisions().await?;
    decided.sort_by_key(|one| std::cmp::Reverse(one.at));
    let mut examples: ByPolicy = vec![Vec::new(); policies.len()];
    for part in decided.chunks(1000) {
        let numbers: Vec<i64> = part.iter().map(|one| one.number).collect();
        let block = store.vectors_of(&card.fingerprint, &numbers).await?;
        let names = store.name_items(&numbers).await?;
        let mut bytes = block.vectors.chunks_exact(2 * card.embedding_dim);
        let mut views = Vec::with_capacity(block.items.len());
        for item in &block.items {
            let own = bytes.by_ref().take(item.views).map(Embedding::from_f16_bytes);
            views.push((item.number, own.collect::<Result<Vec<_>, _>>()?));
        }
        for one in part {
            // Items come by number.
            let place = views.binary_search_by_key(&one.number, |(number, _)| *number);
            let (Ok(place), Some((item, _))) = (place, names.get(&one.number)) else { continue };
            for (policy, examples) in policies.iter().zip(&mut examples) {
                if let Some(violates) = one.violates(policy) {
                    let views = views[place].1.clone();
                    examples.push(Example { item: *item, views, violates });
                }
            }
        }
    }
    Ok(examples)
}

/// `DIR/POLICY/…` violates that policy; pictures in folders that are named like none of `all` (say
/// `neutral`) violate none.
pub(super) fn of_folder(
    dir: &Path,
    config: &Config,
    encoder: &dyn Encoder,
    all: &[PolicyId],
    policies: &[PolicyId],
) -> anyhow::Result<ByPolicy> {
    let labels = Labels::of_folders(dir, all)?;
    ensure!(
        policies.iter().any(|policy| labels.has_both_sides(policy)),
        "{} holds nothing to learn from: it needs a folder named like a policy, with pictures in \
         it, and one with pictures that violate none (say `neutral`)",
        escape_path(dir)
    );
    let decoders = workspace::decoders(config)?;
    encoder.open_for_pictures()?;
    let bar = pictures_bar(&encoder.model().name, labels.pictures.len() as u64);
    let mut examples: ByPolicy = vec![Vec::new(); policies.len()];
    let (mut place, mut lost) = (0, 0);
    let batch = config.engine.batch;
    // Without policies nothing is judged; the views are what the policies would see.
    let named = Named::of(&labels.pictures, Vec::new());
    judge_named(encoder, &[], &decoders, batch, named, |judged| {
        bar.inc(1);
        lost += usize::from(judged.views.is_empty());
        for (policy, examples) in policies.iter().zip(&mut examples) {
            if let Some(violates) = labels.belongs(place, policy)
                && !judged.views.is_empty()
            {
                let (item, views) = (judged.item, judged.views.clone());
                examples.push(Example { item, views, violates });
            }
        }
        place += 1;
    })?;
    bar.finish_and_clear();
    if lost > 0 {
        tracing::warn!("{lost} pictures could not be judged; nothing is learned from them");
    }
    Ok(examples)
}
