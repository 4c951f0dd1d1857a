//! What was learned for policies, beside their words alone, on pictures that it did not learn from.
//!
//! The pictures go through the model once more, as the policies see them.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use tracing::warn;

use crate::commands::adapters::{Adapters, Kept, name_of};
use crate::commands::labels::Labels as PolicyLabels;
use crate::commands::progress::pictures_bar;
use crate::commands::{UsageError, workspace};
use crate::config::Config;
use crate::files::Named;
use crate::moderation::adapter::{Comparison, Example, Learned, compare, loudest};
use crate::moderation::escape::escape;
use crate::moderation::{Adapter, Classifier, Embedding, Evaluation, ItemId, PolicyId};
use crate::pipeline::judge_named;
use crate::policy_file::PolicyFile;
use crate::vision::{DecoderPool, Encoder};

use super::labels::Labels;

/// Everything that was learned and tried.
pub(super) struct Adapted {
    pub(super) compared: Vec<Compared>,
    pub(super) ranking: Option<Ranking>,
}

/// One adapter beside the words of its policy.
pub(super) struct Compared {
    pub(super) name: PolicyId,
    pub(super) policy: PolicyId,
    /// How it is in use, if it is.
    pub(super) mode: Option<&'static str>,
    /// Pictures that it learned from.
    pub(super) learned: usize,
    /// Others that look the same as one of those.
    pub(super) alike: usize,
    /// The places of the pictures that are left.
    pub(super) pictures: Vec<usize>,
    /// Of these, in their order; none where there are no violating ones among them, or no fine ones.
    pub(super) comparison: Option<Comparison>,
}

/// Which policy speaks loudest about pictures that each belong to one.
pub(super) struct Ranking {
    pub(super) policies: Vec<PolicyId>,
    /// With the words alone, then adapted.
    pub(super) evaluations: [Evaluation; 2],
}

/// Which adapters are tried, with the policies that are classes here.
pub(super) struct Chosen {
    kept: Vec<(Kept, Option<&'static str>)>,
    /// Every policy's id.
    all: Vec<PolicyId>,
    /// Those that are classes, as they are written.
    files: Vec<PolicyFile>,
}

/// Picks the adapters that were named or else those in use, as far as their policies are classes.
///
/// # Errors
/// [`UsageError`] for one that was named and can't be tried on these pictures.
pub(super) fn choose(
    named: &[String],
    config: &Config,
    labels: &Labels,
) -> anyhow::Result<Option<Chosen>> {
    let adapters = Adapters::of(config);
    let in_use = adapters.in_use()?;
    let mut wanted: Vec<PolicyId> = Vec::new();
    if named.is_empty() {
        let used = in_use.values().flat_map(|now| [&now.live, &now.background]);
        wanted.extend(used.flatten().cloned());
    }
    for name in named {
        let name = name_of(name)?;
        if !wanted.contains(&name) {
            wanted.push(name);
        }
    }
    if wanted.is_empty() {
        return Ok(None);
    }
    let is_class = |policy: &PolicyId| labels.class_of(policy.as_str()).is_some();
    let files = workspace::written_policies(config)?;
    let all: Vec<PolicyId> = files.iter().map(|file| file.policy.id.clone()).collect();
    let files: Vec<PolicyFile> = files.into_iter().filter(|f| is_class(&f.policy.id)).collect();
    let fingerprint = workspace::fingerprint(config)?;
    let mut kept = Vec::new();
    for name in wanted {
        let one = adapters.open(&name)?;
        let policy = &one.adapter.policy;
        let file = files.iter().find(|file| file.policy.id == *policy);
        let refused = match file {
            None => Some(format!(
                "{name} was learned for the policy {policy}, and there is no such class among \
                 these pictures, or no such policy"
            )),
            Some(file) => match file.policy.adapted(&one.adapter, &fingerprint) {
                Err(foreign) => Some(foreign.to_string()),
                Ok(_) if one.learned_items().is_none() => Some(format!(
                    "{name} does not say which pictures it learned from, so it can't be tried on \
                     others; learn again with `modtool adapt {policy}`"
                )),
                Ok(_) => None,
            },
        };
        match refused {
            None => {
                let mode = in_use.get(policy).and_then(|now| now.mode_of(&name));
                kept.push((one, mode));
            }
            Some(why) if !named.is_empty() => return Err(UsageError(why).into()),
            // In use, and not about these pictures: nothing is amiss.
            Some(_) if file.is_none() => {}
            Some(why) => warn!("{why}"),
        }
    }
    Ok((!kept.is_empty()).then_some(Chosen { kept, all, files }))
}

/// Judges the pictures by words alone and adapted.
pub(super) async fn measure(
    chosen: &Chosen,
    config: &Config,
    encoder: &dyn Encoder,
    decoders: &Arc<DecoderPool>,
    labels: &Labels,
) -> anyhow::Result<Adapted> {
    let classifiers = workspace::classifiers(encoder, &chosen.files, config, None).await?;
    let seen = views(config, encoder, decoders, labels)?;
    let pictures = labels.pictures.iter().map(|picture| {
        let class = picture.class.map(|class| labels.classes[class].name.as_str());
        (picture.path.clone(), class)
    });
    let belongs = PolicyLabels::of_classes(pictures, &chosen.all);
    let mut compared = Vec::new();
    for (kept, mode) in &chosen.kept {
        let adapter = &kept.adapter;
        let learned = kept.learned_items().unwrap_or_default();
        let classifier = of_policy(&classifiers, &adapter.policy)?;
        compared.push(one(classifier, adapter, *mode, &learned, &seen, &belongs));
    }
    let ranking = ranking(chosen, &classifiers, labels, &seen);
    Ok(Adapted { compared, ranking })
}

fn of_policy<'a>(
    classifiers: &'a [Classifier],
    policy: &PolicyId,
) -> anyhow::Result<&'a Classifier> {
    let found = classifiers.iter().find(|one| one.policy.id == *policy);
    found.with_context(|| format!("there is no policy {}", escape(policy.as_str().as_bytes())))
}

/// A picture's bytes and what the model saw; no views where it can't be judged.
type Seen = (ItemId, Vec<Embedding>);

fn views(
    config: &Config,
    encoder: &dyn Encoder,
    decoders: &Arc<DecoderPool>,
    labels: &Labels,
) -> anyhow::Result<Vec<Seen>> {
    let paths: Vec<PathBuf> = labels.pictures.iter().map(|one| one.path.clone()).collect();
    encoder.open_for_pictures()?;
    let bar = pictures_bar("as the policies see them", paths.len() as u64);
    let mut seen = Vec::with_capacity(paths.len());
    let named = Named::of(&paths, Vec::new());
    judge_named(encoder, &[], decoders, config.engine.batch, named, |judged| {
        bar.inc(1);
        seen.push((judged.item, judged.views));
    })?;
    bar.finish_and_clear();
    Ok(seen)
}

fn one(
    classifier: &Classifier,
    adapter: &Adapter,
    mode: Option<&'static str>,
    learned: &HashSet<ItemId>,
    seen: &[Seen],
    belongs: &PolicyLabels,
) -> Compared {
    let (mut known, mut new) = (Vec::new(), Vec::new());
    for (picture, (item, views)) in seen.iter().enumerate() {
        let violates = belongs.belongs(picture, &adapter.policy).filter(|_| !views.is_empty());
        let Some(violates) = violates else { continue };
        let example = Example { item: *item, views: views.clone(), violates };
        if learned.contains(item) { known.push(example) } else { new.push((picture, example)) }
    }
    let others = new.len();
    new.retain(|(_, example)| !known.iter().any(|known| known.looks_like(example)));
    let examples: Vec<&Example> = new.iter().map(|(_, example)| example).collect();
    Compared {
        name: adapter.name(),
        policy: adapter.policy.clone(),
        mode,
        learned: known.len(),
        alike: others - new.len(),
        comparison: compare(classifier, &adapter.learned, &examples),
        pictures: new.iter().map(|(picture, _)| *picture).collect(),
    }
}

/// Over all policies that are classes; pictures that anything tried here learned from are left out.
fn ranking(
    chosen: &Chosen,
    classifiers: &[Classifier],
    labels: &Labels,
    seen: &[Seen],
) -> Option<Ranking> {
    let mut learned: BTreeMap<&PolicyId, &Learned> = BTreeMap::new();
    for (kept, mode) in &chosen.kept {
        // Of two for one policy the one in force, or else the first.
        if *mode == Some("live") || !learned.contains_key(&kept.adapter.policy) {
            learned.insert(&kept.adapter.policy, &kept.adapter.learned);
        }
    }
    let known: HashSet<ItemId> =
        chosen.kept.iter().filter_map(|(kept, _)| kept.learned_items()).flatten().collect();
    let policies: Vec<(&Classifier, Option<&Learned>)> =
        classifiers.iter().map(|one| (one, learned.get(&one.policy.id).copied())).collect();
    let place = |class: usize| {
        let class = labels.classes[class].name.as_str();
        classifiers.iter().position(|one| one.policy.id.as_str() == class)
    };
    let pictures: Vec<(usize, &[Embedding])> = labels
        .pictures
        .iter()
        .zip(seen)
        .filter(|(_, (item, views))| !views.is_empty() && !known.contains(item))
        .filter_map(|(picture, (_, views))| Some((place(picture.class?)?, views.as_slice())))
        .collect();
    (policies.len() > 1 && !pictures.is_empty()).then(|| Ranking {
        policies: classifiers.iter().map(|one| one.policy.id.clone()).collect(),
        evaluations: loudest(&policies, &pictures),
    })
}
