//! Whether what was learned is better than the policy's words alone, on pictures that it was not
//! learned from; only then may it be used.

use crate::moderation::embedding::{Embedding, Fingerprint};
use crate::moderation::item::ItemId;
use crate::moderation::measure::Counts;
use crate::moderation::policy::Policy;
use crate::moderation::roc::{Estimate, Labelled, auc_difference};
use crate::moderation::score::Classifier;

use super::fitting::{Dice, Example, FitError, Recipe, Samples, log_odds};
use super::{Adapter, Learned, Method, lowrank, probe};

/// The parts that are each left out once.
const PARTS: usize = 5;

/// How the policy does on held-out pictures, with its words alone and adapted.
#[derive(Debug, Clone, PartialEq)]
pub struct Validation {
    /// Pictures that violate.
    pub violating: usize,
    /// Pictures that don't.
    pub fine: usize,
    /// The area under the ROC curve with the words alone, then adapted.
    pub auc: [Estimate; 2],
    /// How much larger it is adapted (`DeLong` et al. 1988).
    pub gain: Estimate,
    /// At the `review` threshold, with the words alone, then adapted.
    pub at_review: [Counts; 2],
    /// At the `block` threshold.
    pub at_block: [Counts; 2],
}

impl Validation {
    /// Why it may not be used: not better by the interval, or it would find less than before.
    pub fn shortfall(&self) -> Option<String> {
        if self.gain.low <= 0.0 {
            return Some(format!(
                "it is not better than the words alone for sure: the area under the ROC curve \
                 grows by {:.3}, somewhere from {:+.3} to {:+.3}",
                self.gain.value, self.gain.low, self.gain.high
            ));
        }
        let [words, adapted] = self.at_review.map(Counts::recall);
        (adapted.hits < words.hits).then(|| {
            format!(
                "with as many false alarms it would find fewer violating pictures: {} of {} \
                 instead of {}",
                adapted.hits, adapted.of, words.hits
            )
        })
    }
}

/// An adapter and what is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    /// What was learned from all examples.
    pub adapter: Adapter,
    /// Which examples these were.
    pub learned_from: Vec<ItemId>,
    /// How that way of learning does on pictures that it did not learn from.
    pub validation: Validation,
}

/// Learns from the examples, having tried five times how well that works: each time without a
/// fifth of them, which is then judged. `classifier` is that of the policy without an adapter.
///
/// Held-out pictures also tell where the log-odds have to lie, so that the policy's thresholds go
/// on meaning what they do: at `review`, and at `block`, no more fine pictures than before.
///
/// # Errors
/// [`FitError`] when there is too little to learn from.
pub fn learn(
    classifier: &Classifier,
    fingerprint: &Fingerprint,
    examples: &[Example],
    recipe: &Recipe,
    mut progress: impl FnMut(usize, usize),
) -> Result<Trained, FitError> {
    let policy = &classifier.policy;
    if policy.contrast.is_empty() && policy.neutral.is_empty() {
        return Err(FitError::NoContrast);
    }
    let examples = few(examples);
    let violating = examples.iter().filter(|example| example.violates).count();
    let fine = examples.len() - violating;
    if violating < Example::FEWEST || fine < Example::FEWEST {
        return Err(FitError::TooFew { violating, fine });
    }
    let parts = parts(&examples, recipe.seed);
    // Log-odds: with the words alone, and adapted by what was learned without the picture.
    let mut odds = vec![[0.0_f64; 2]; examples.len()];
    for part in 0..PARTS {
        let rest = examples.iter().zip(&parts).filter(|(_, of)| **of != part);
        let rest: Vec<&Example> = rest.map(|(example, _)| *example).collect();
        for violating in [true, false] {
            let left = rest.iter().filter(|example| example.violates == violating).count();
            if left < Example::FEWEST / 2 {
                return Err(FitError::Alike { violating });
            }
        }
        let learned = fit(classifier, &rest, recipe);
        for ((example, of), odds) in examples.iter().zip(&parts).zip(&mut odds) {
            if *of == part {
                *odds = [None, Some(&learned)].map(|by| best_odds(classifier, by, &example.views));
            }
        }
        progress(part + 1, PARTS + 1);
    }
    let thresholds = thresholds(policy);
    let of_kind = |violates: bool| {
        let own = examples.iter().zip(&odds).filter(|(example, _)| example.violates == violates);
        let (words, adapted) = own.map(|(_, odds)| (odds[0], odds[1])).unzip();
        Odds { words, adapted }
    };
    let (factor, by) = matching(&of_kind(false), &of_kind(true), thresholds);
    for odds in &mut odds {
        odds[1] = factor * odds[1] + by;
    }
    let learned = fit(classifier, &examples, recipe).mapped(factor, by);
    progress(PARTS + 1, PARTS + 1);
    let dim = examples.first().and_then(|example| example.views.first()).map_or(0, Embedding::dim);
    if !learned.fits(dim) {
        return Err(FitError::NoNumbers);
    }
    let validation = validated(&examples, &odds, thresholds).ok_or(FitError::NoNumbers)?;
    let fitted_for = policy.fitted_for(fingerprint);
    let adapter = Adapter::new(policy.id.clone(), fingerprint.clone(), fitted_for, learned);
    let learned_from = examples.iter().map(|example| example.item).collect();
    Ok(Trained { adapter, learned_from, validation })
}

/// The log-odds of `review` and of `block`.
pub(super) fn thresholds(policy: &Policy) -> [f64; 2] {
    [policy.thresholds.review(), policy.thresholds.block()]
        .map(|threshold| log_odds(f64::from(threshold)))
}

fn fit(classifier: &Classifier, examples: &[&Example], recipe: &Recipe) -> Learned {
    let samples = Samples::of(classifier, examples);
    match recipe.method {
        Method::Probe => probe::fit(&samples),
        Method::Lora => lowrank::fit(&samples, recipe),
    }
}

/// At most [`Example::MOST`] of each kind.
fn few(examples: &[Example]) -> Vec<&Example> {
    let mut left = [Example::MOST; 2];
    let take = |example: &&Example| {
        let left = &mut left[usize::from(example.violates)];
        let take = *left > 0 && !example.views.is_empty();
        *left -= usize::from(take);
        take
    };
    examples.iter().filter(take).collect()
}

/// The highest log-odds over the views, as the policy's score is.
pub(super) fn best_odds(
    classifier: &Classifier,
    learned: Option<&Learned>,
    views: &[Embedding],
) -> f64 {
    let odds = views.iter().map(|view| classifier.adapted_log_odds(learned, view));
    odds.fold(f64::NEG_INFINITY, f64::max)
}

/// The part of each example. Alike ones stay together, so that nothing is judged by its own copy;
/// both kinds are spread evenly.
fn parts(examples: &[&Example], seed: u64) -> Vec<usize> {
    let mut leaders: Vec<usize> = (0..examples.len()).collect();
    for one in 0..examples.len() {
        for other in 0..one {
            if examples[one].looks_like(examples[other]) {
                let (from, to) = (leader(&leaders, one), leader(&leaders, other));
                leaders[from.max(to)] = from.min(to);
            }
        }
    }
    let mut groups: Vec<Vec<usize>> = vec![Vec::new(); examples.len()];
    for one in 0..examples.len() {
        groups[leader(&leaders, one)].push(one);
    }
    groups.retain(|group| !group.is_empty());
    Dice(seed).shuffle(&mut groups);
    // Large groups first: small ones fill what is left. The sort keeps the order of chance.
    groups.sort_by_key(|group| std::cmp::Reverse(group.len()));
    let (mut parts, mut sizes) = (vec![0; examples.len()], [[0_usize; 2]; PARTS]);
    for group in groups {
        let kind = usize::from(examples[group[0]].violates);
        let part = (0..PARTS).min_by_key(|part| (sizes[*part][kind], sizes[*part][1 - kind]));
        for one in group {
            let part = part.unwrap_or_default();
            parts[one] = part;
            sizes[part][usize::from(examples[one].violates)] += 1;
        }
    }
    parts
}

fn leader(leaders: &[usize], mut one: usize) -> usize {
    while leaders[one] != one {
        one = leaders[one];
    }
    one
}

/// Log-odds of the pictures of one kind: with the words alone, and adapted.
#[derive(Debug, Clone, Default)]
struct Odds {
    words: Vec<f64>,
    adapted: Vec<f64>,
}

impl Odds {
    /// The adapted odds that come right after as many as reach the threshold with the words alone.
    fn first_below(&self, threshold: f64) -> Option<f64> {
        self.ranked().get(self.reaching(threshold)).copied()
    }

    /// The adapted odds that come last of as many.
    fn last_above(&self, threshold: f64) -> Option<f64> {
        let place = self.reaching(threshold).checked_sub(1)?;
        self.ranked().get(place).copied()
    }

    fn reaching(&self, threshold: f64) -> usize {
        self.words.iter().filter(|odds| **odds >= threshold).count()
    }

    fn ranked(&self) -> Vec<f64> {
        let mut ranked = self.adapted.clone();
        ranked.sort_by(|a, b| b.total_cmp(a));
        ranked
    }
}

/// Factor and addend for the adapted log-odds. At `review` they are moved down until no more fine
/// pictures reach it than with the words alone; where fewer do, that is the gain. About `review`
/// they are stretched so that as many violating pictures reach `block` as before, but never more
/// fine ones.
fn matching(fine: &Odds, violating: &Odds, [review, block]: [f64; 2]) -> (f64, f64) {
    // A little below the threshold, not upon it.
    let nudge = 1e-6;
    let shift = match fine.first_below(review) {
        Some(odds) if odds >= review => review - odds - nudge,
        _ => 0.0,
    };
    // What brings odds above `review` just to `block`.
    let stretch = |odds: Option<f64>| {
        let above = odds? + shift - review;
        (above > nudge).then(|| (block - review) / above)
    };
    let wanted = stretch(violating.last_above(block)).unwrap_or(1.0).max(1.0) + nudge;
    let most = stretch(fine.first_below(block)).map_or(f64::INFINITY, |most| most - nudge);
    let factor = if block > review { wanted.min(most) } else { 1.0 };
    (factor, factor * shift + review * (1.0 - factor))
}

pub(super) fn validated(
    examples: &[&Example],
    odds: &[[f64; 2]],
    [review, block]: [f64; 2],
) -> Option<Validation> {
    let mut labelled = [Labelled::default(), Labelled::default()];
    let mut at_review = [Counts::default(); 2];
    let mut at_block = [Counts::default(); 2];
    for (example, odds) in examples.iter().zip(odds) {
        for which in 0..2 {
            let kind = &mut labelled[which];
            let side = if example.violates { &mut kind.belong } else { &mut kind.others };
            // Only their order counts; as shares they would all be near 0 and 1.
            #[expect(clippy::cast_possible_truncation, reason = "only the order counts")]
            side.push(odds[which] as f32);
            at_review[which] = at_review[which].with(odds[which] >= review, example.violates);
            at_block[which] = at_block[which].with(odds[which] >= block, example.violates);
        }
    }
    let [words, adapted] = &labelled;
    Some(Validation {
        violating: words.belong.len(),
        fine: words.others.len(),
        auc: [words.auc()?, adapted.auc()?],
        gain: auc_difference(words, adapted)?,
        at_review,
        at_block,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::moderation::policy::tests::policy;
    use crate::moderation::score::LogitScale;

    const DIM: usize = 12;

    fn axis(which: usize) -> Vec<f32> {
        (0..DIM).map(|place| f32::from(u8::from(place == which))).collect()
    }

    /// A policy for what lies along the first axis, and not along the second.
    pub(in crate::moderation::adapter) fn plain() -> Classifier {
        let texts =
            [axis(0), axis(1)].map(|text| Embedding::normalised(text).expect("a direction"));
        let scale = LogitScale { scale: 20.0, bias: 0.0 };
        Classifier::new(Arc::new(policy("weapons")), &texts, scale).expect("prompts embed")
    }

    /// So many of each kind. The words tell them apart a little; the third axis, which no prompt
    /// knows, by `hidden` deviations more.
    pub(in crate::moderation::adapter) fn domain(each: usize, hidden: f64) -> Vec<Example> {
        let mut dice = Dice(11);
        let example = |index: usize| {
            let violates = index.is_multiple_of(2);
            let sign = if violates { 1.0 } else { -1.0 };
            let noise: Vec<f64> = (0..DIM).map(|_| dice.normal()).collect();
            #[expect(clippy::cast_possible_truncation, reason = "a test")]
            let vector = noise.iter().enumerate().map(|(place, noise)| match place {
                0 => (noise + 0.5 * sign) as f32,
                2 => (noise + hidden * sign) as f32,
                _ => *noise as f32,
            });
            let view = Embedding::normalised(vector.collect()).expect("a direction");
            let item = ItemId::of_bytes(&index.to_le_bytes());
            Example { item, views: vec![view], violates }
        };
        (0..2 * each).map(example).collect()
    }

    fn recipe(method: Method) -> Recipe {
        Recipe { method, rank: 2, seed: 7, sigmoid_loss: false }
    }

    fn learned(examples: &[Example], recipe: &Recipe) -> Result<Trained, FitError> {
        learn(&plain(), &Fingerprint("f".repeat(64)), examples, recipe, |_, _| ())
    }

    #[test]
    fn what_the_words_do_not_know_is_learned_and_shown() {
        let examples = domain(60, 1.5);
        let trained = learned(&examples, &recipe(Method::Probe)).expect("enough examples");
        let validation = &trained.validation;
        assert_eq!((validation.violating, validation.fine), (60, 60));
        assert!(validation.gain.low > 0.0, "{validation:?}");
        assert_eq!(validation.shortfall(), None, "{validation:?}");
        let [words, adapted] = validation.at_review;
        assert!(adapted.false_alarms <= words.false_alarms && adapted.hits > words.hits);
        let [words, adapted] = validation.at_block;
        assert!(adapted.false_alarms <= words.false_alarms, "{validation:?}");
    }

    #[test]
    fn both_losses_of_the_low_rank_way_learn() {
        for sigmoid_loss in [false, true] {
            let recipe = Recipe { sigmoid_loss, ..recipe(Method::Lora) };
            let trained = learned(&domain(60, 2.0), &recipe).expect("enough examples");
            assert!(trained.validation.gain.value > 0.0, "{:?}", trained.validation);
        }
    }

    #[test]
    fn where_there_is_nothing_to_learn_it_is_refused() {
        for method in [Method::Probe, Method::Lora] {
            let trained = learned(&domain(40, 0.0), &recipe(method)).expect("enough examples");
            assert!(trained.validation.shortfall().is_some(), "{:?}", trained.validation);
        }
        let few = domain(7, 1.0);
        let refused = learned(&few, &recipe(Method::Probe)).expect_err("too few");
        assert_eq!(refused, FitError::TooFew { violating: 7, fine: 7 });
    }

    #[test]
    fn the_same_seed_gives_the_same_adapter() {
        let examples = domain(20, 1.0);
        for method in [Method::Probe, Method::Lora] {
            let one = learned(&examples, &recipe(method)).expect("enough examples");
            let again = learned(&examples, &recipe(method)).expect("enough examples");
            assert_eq!(one, again);
            let other = Recipe { seed: 8, ..recipe(method) };
            let other = learned(&examples, &other).expect("enough examples");
            assert_ne!(one.validation, other.validation, "other parts");
        }
    }

    #[test]
    fn copies_stay_in_one_part() {
        let mut examples = domain(20, 1.0);
        examples.extend(examples.clone());
        let examples: Vec<&Example> = examples.iter().collect();
        let parts = parts(&examples, 1);
        assert_eq!(parts[..40], parts[40..]);
        for part in 0..PARTS {
            let of = |violates| {
                let own = examples.iter().zip(&parts).filter(|(_, of)| **of == part);
                own.filter(|(example, _)| example.violates == violates).count()
            };
            assert_eq!((of(true), of(false)), (8, 8));
        }
    }

    #[test]
    fn pictures_that_all_look_the_same_are_refused() {
        let mut examples = domain(20, 1.0);
        let copy = examples[0].views.clone();
        examples.iter_mut().filter(|one| one.violates).for_each(|one| one.views = copy.clone());
        let refused = learned(&examples, &recipe(Method::Probe)).expect_err("copies");
        assert_eq!(refused, FitError::Alike { violating: true });
    }

    #[test]
    fn fine_pictures_at_the_thresholds_never_become_more() {
        let fine = Odds { words: vec![-2.0, -1.0, 0.5, 1.5], adapted: vec![3.0, 2.0, 1.0, -1.0] };
        let few = Odds { words: vec![2.0, 2.0, 0.1], adapted: vec![9.0, 1.2, 1.1] };
        let (factor, by) = matching(&fine, &few, [0.0, 1.0]);
        let at = |odds: &Odds, threshold: f64| {
            let after = odds.adapted.iter().map(|odds| factor * odds + by);
            (odds.reaching(threshold), after.filter(|odds| *odds >= threshold).count())
        };
        for threshold in [0.0, 1.0] {
            let (before, after) = at(&fine, threshold);
            assert!(after <= before, "{factor} {by}");
        }
        // Where no fine picture is near, as many violating ones reach `block` as before.
        let far = Odds { words: vec![-2.0; 4], adapted: vec![-9.0; 4] };
        let (factor, by) = matching(&far, &few, [0.0, 4.0]);
        assert!((factor - 1.0).abs() < 1e-3 && by.abs() < 1e-3, "none reached it: {factor} {by}");
        let (factor, by) = matching(&far, &few, [0.0, 1.5]);
        let after = few.adapted.iter().filter(|odds| factor * **odds + by >= 1.5).count();
        assert_eq!(after, few.reaching(1.5), "{factor} {by}");
    }
}
