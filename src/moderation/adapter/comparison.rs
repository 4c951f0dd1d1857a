//! What was learned beside the words alone, on labelled pictures that were not learned from.

use crate::moderation::embedding::Embedding;
use crate::moderation::evaluation::Evaluation;
use crate::moderation::score::{Classifier, sigmoid};

use super::Learned;
use super::fitting::Example;
use super::validation::{Validation, best_odds, thresholds, validated};

/// How a policy does with its words alone and adapted.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// In figures.
    pub validation: Validation,
    /// Log-odds of each picture, in their order: with the words alone, then adapted.
    pub odds: Vec<[f64; 2]>,
    /// Whether each picture is what the policy looks for.
    pub violates: Vec<bool>,
    /// Log-odds from which on a person looks.
    pub review: f64,
}

/// Judges pictures twice. `classifier` is that of the policy without an adapter. `None` when there
/// are no violating pictures, or no fine ones.
pub fn compare(
    classifier: &Classifier,
    learned: &Learned,
    examples: &[&Example],
) -> Option<Comparison> {
    let both = |example: &&Example| {
        [None, Some(learned)].map(|learned| best_odds(classifier, learned, &example.views))
    };
    let odds: Vec<[f64; 2]> = examples.iter().map(both).collect();
    let thresholds = thresholds(&classifier.policy);
    let validation = validated(examples, &odds, thresholds)?;
    let violates = examples.iter().map(|example| example.violates).collect();
    Some(Comparison { validation, odds, violates, review: thresholds[0] })
}

/// Which of several policies speaks loudest about pictures that each belong to one of them: the
/// one whose log-odds are farthest above its `review` threshold. With the words alone, then
/// adapted, where a policy has something learned. `pictures` are a policy's place and the views.
pub fn loudest(
    policies: &[(&Classifier, Option<&Learned>)],
    pictures: &[(usize, &[Embedding])],
) -> [Evaluation; 2] {
    [false, true].map(|adapted| {
        let mut evaluation = Evaluation::new(policies.len());
        for (policy, views) in pictures {
            let margin = |(classifier, learned): &(&Classifier, Option<&Learned>)| {
                let [review, _] = thresholds(&classifier.policy);
                best_odds(classifier, learned.filter(|_| adapted), views) - review
            };
            let margins: Vec<f64> = policies.iter().map(margin).collect();
            let shares: Vec<f64> = margins.iter().map(|margin| sigmoid(*margin)).collect();
            evaluation.add(*policy, &margins, &shares);
        }
        evaluation
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moderation::adapter::validation::tests::{domain, plain};

    /// Knows the third axis, which the words do not.
    fn learned() -> Learned {
        let mut direction = vec![0.0; 12];
        direction[2] = 40.0;
        Learned::Probe { scale: 1.0, direction, offset: 0.0 }
    }

    #[test]
    fn what_was_learned_is_seen_on_other_pictures() {
        let (classifier, examples) = (plain(), domain(40, 1.5));
        let examples: Vec<&Example> = examples.iter().collect();
        let compared = compare(&classifier, &learned(), &examples).expect("both kinds");
        assert_eq!(compared.odds.len(), 80);
        assert_eq!((compared.validation.violating, compared.validation.fine), (40, 40));
        assert!(compared.validation.gain.low > 0.0, "{:?}", compared.validation);
        let fine: Vec<&Example> = examples.into_iter().filter(|one| !one.violates).collect();
        assert_eq!(compare(&classifier, &learned(), &fine), None);
    }

    #[test]
    fn the_loudest_policy_is_the_one_farthest_above_its_threshold() {
        let (classifier, examples) = (plain(), domain(40, 1.5));
        let learned = learned();
        let Learned::Probe { direction, .. } = &learned else { unreachable!("a probe") };
        let away = Learned::Probe {
            scale: 1.0,
            direction: direction.iter().map(|x| -x).collect(),
            offset: 0.0,
        };
        let policies = [(&classifier, Some(&learned)), (&classifier, Some(&away))];
        let of = |one: &Example| usize::from(!one.violates);
        let pictures: Vec<(usize, &[Embedding])> =
            examples.iter().map(|one| (of(one), one.views.as_slice())).collect();
        let [words, adapted] = loudest(&policies, &pictures);
        assert_eq!(words.top1().hits, 40, "both say the same: the first one wins");
        assert!(adapted.top1().hits > 65, "{:?}", adapted.confusion);
    }
}
