//! What the policies together say about a sighting. When in doubt: Review.

use std::fmt;
use std::path::Path;

use super::doubt::{Doubt, Doubts};
use super::embedding::Embedding;
use super::policy::{Mode, PolicyHash, PolicyId, Severity, spelled};
use super::score::{Classifier, PolicyScore};

spelled! {
    /// What happens with an upload; a later one is worse.
    Outcome {
        /// Nothing to see.
        Allow = "allow",
        /// A person should look.
        Review = "review",
        /// The policy is sure; a person still decides.
        Block = "block",
    }
}

/// Why an outcome is not (only) a matter of scores.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No policy's scope includes the path: Allow.
    OutOfScope,
    /// No policy is loaded at all: Review.
    NoPolicy,
    /// The same bytes were removed by a person before: Review.
    RemovedBefore,
    /// It is a twin of something that a person removed; the text names the entry of the bank: Review.
    LikeRemoved(String),
    /// The same, and a policy inherits: Block.
    Inherited(String),
    /// A person approved the same bytes for all that flags them, and the policies inherit: Allow.
    ApprovedBefore(String),
    /// Nothing flagged it; a person found it and wants to decide: Review.
    Found,
    /// An armed policy blocked it: the file is in quarantine until a person decides.
    Held,
    /// The policy says `on_block: hold`, and decisions don't allow it yet; the text says why.
    NotArmed(String),
    /// So many files were held in 24 hours that this one is not: Review.
    HoldCap(u64),
    /// What was judged may not be what people see, whatever the scores say: Review at least.
    Doubtful(Doubt),
    /// The file could not be read; the text says why.
    Unreadable(String),
    /// The bytes could not be judged as a picture; the text says why.
    Undecodable(String),
    /// Files in a folder that are no pictures and may show some; the text says how many of what.
    Unjudged(String),
}

impl Reason {
    /// Reads back what `Display` wrote; an unknown text becomes `Undecodable`, so that a row
    /// written by a later version still goes to a person.
    pub fn parse(text: &str) -> Self {
        if let Some(doubt) = Doubt::ALL.iter().find(|doubt| doubt.words() == text) {
            return Self::Doubtful(*doubt);
        }
        match text.split_once(": ") {
            Some(("unreadable", why)) => Self::Unreadable(why.to_owned()),
            Some(("undecodable", why)) => Self::Undecodable(why.to_owned()),
            Some(("unjudged", what)) => Self::Unjudged(what.to_owned()),
            Some(("not_armed", why)) => Self::NotArmed(why.to_owned()),
            Some(("like_removed", twin)) => Self::LikeRemoved(twin.to_owned()),
            Some(("inherited", twin)) => Self::Inherited(twin.to_owned()),
            Some(("approved_before", twin)) => Self::ApprovedBefore(twin.to_owned()),
            Some(("hold_cap", cap)) => {
                cap.parse().map_or_else(|_| Self::Undecodable(text.to_owned()), Self::HoldCap)
            }
            _ => match text {
                "out_of_scope" => Self::OutOfScope,
                "no_policy" => Self::NoPolicy,
                "removed_before" => Self::RemovedBefore,
                "found" => Self::Found,
                "held" => Self::Held,
                _ => Self::Undecodable(text.to_owned()),
            },
        }
    }

    /// Whether it is only a twin's outcome that a policy inherits.
    pub fn is_inherited(&self) -> bool {
        matches!(self, Self::Inherited(_))
    }

    /// Whether nothing could be scored.
    pub fn is_unjudged(&self) -> bool {
        matches!(self, Self::Unreadable(_) | Self::Undecodable(_) | Self::Unjudged(_))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfScope => f.write_str("out_of_scope"),
            Self::NoPolicy => f.write_str("no_policy"),
            Self::RemovedBefore => f.write_str("removed_before"),
            Self::LikeRemoved(twin) => write!(f, "like_removed: {twin}"),
            Self::Inherited(twin) => write!(f, "inherited: {twin}"),
            Self::ApprovedBefore(twin) => write!(f, "approved_before: {twin}"),
            Self::Found => f.write_str("found"),
            Self::Held => f.write_str("held"),
            Self::NotArmed(why) => write!(f, "not_armed: {why}"),
            Self::HoldCap(cap) => write!(f, "hold_cap: {cap}"),
            Self::Doubtful(doubt) => f.write_str(doubt.words()),
            Self::Unreadable(why) => write!(f, "unreadable: {why}"),
            Self::Undecodable(why) => write!(f, "undecodable: {why}"),
            Self::Unjudged(what) => write!(f, "unjudged: {what}"),
        }
    }
}

/// What one policy says about an item.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyVerdict {
    /// Which policy.
    pub policy: PolicyId,
    /// Which version of it.
    pub policy_hash: PolicyHash,
    /// Orders the queue.
    pub severity: Severity,
    /// A Background policy's outcome is recorded and does nothing.
    pub mode: Mode,
    /// 0..=1.
    pub score: f32,
    /// The policy's judgement of that score.
    pub outcome: Outcome,
    /// The violating prompt with the largest share.
    pub prompt: String,
    /// What was learned from examples and changed the score, by its name.
    pub adapter: Option<PolicyId>,
}

impl PolicyVerdict {
    fn new(classifier: &Classifier, score: &PolicyScore) -> Self {
        let policy = &classifier.policy;
        Self {
            policy: policy.id.clone(),
            policy_hash: policy.hash(),
            severity: policy.severity,
            mode: policy.mode,
            score: score.score,
            outcome: policy.judge(score.score),
            prompt: score.top_prompt().map(|share| share.text.clone()).unwrap_or_default(),
            adapter: policy.adapter.as_ref().map(|adapter| adapter.name()),
        }
    }

    /// Whether this policy is a cause of a task: it is Live and not content.
    pub fn flags(&self) -> bool {
        self.mode == Mode::Live && self.outcome > Outcome::Allow
    }
}

/// What all policies in scope say about a sighting.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The worst over all Live policies, or what the reason demands.
    pub outcome: Outcome,
    /// Set when the outcome is not only a matter of scores.
    pub reason: Option<Reason>,
    /// One for every policy in scope, in the policies' order; empty when nothing was scored.
    pub policies: Vec<PolicyVerdict>,
}

impl Verdict {
    /// For a file that no policy could be applied to: Review.
    pub fn unjudged(reason: Reason) -> Self {
        Self { outcome: Outcome::Review, reason: Some(reason), policies: Vec::new() }
    }

    /// The flagging policy that weighs most: by severity, then outcome, then score.
    pub fn heaviest(&self) -> Option<&PolicyVerdict> {
        self.policies.iter().filter(|policy| policy.flags()).max_by(|a, b| {
            (a.severity, a.outcome).cmp(&(b.severity, b.outcome)).then(a.score.total_cmp(&b.score))
        })
    }
}

/// Judges an item's views, seen at `below` (the path below the watched folder).
///
/// No classifier at all → Review (`no_policy`); none whose scope includes the path → Allow
/// (`out_of_scope`); no view → Review (`undecodable`); a doubt → Review at least.
pub fn verdict_over(
    classifiers: &[Classifier],
    views: &[Embedding],
    doubts: Doubts,
    below: &Path,
) -> Verdict {
    if classifiers.is_empty() {
        return Verdict::unjudged(Reason::NoPolicy);
    }
    let in_scope: Vec<&Classifier> =
        classifiers.iter().filter(|classifier| classifier.policy.scope.includes(below)).collect();
    if in_scope.is_empty() {
        return Verdict {
            outcome: Outcome::Allow,
            reason: Some(Reason::OutOfScope),
            policies: Vec::new(),
        };
    }
    let policies: Option<Vec<PolicyVerdict>> = in_scope
        .into_iter()
        .map(|classifier| Some(PolicyVerdict::new(classifier, &classifier.score(views)?)))
        .collect();
    let Some(policies) = policies else {
        return Verdict::unjudged(Reason::Undecodable("the picture has no view to score".into()));
    };
    let live = policies.iter().filter(|policy| policy.mode == Mode::Live);
    let scored = live.map(|policy| policy.outcome).max().unwrap_or(Outcome::Allow);
    let doubt = doubts.iter().next();
    let outcome = if doubt.is_some() { scored.max(Outcome::Review) } else { scored };
    Verdict { outcome, reason: doubt.map(Reason::Doubtful), policies }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::moderation::policy::{Policy, Scope, tests::policy};
    use crate::moderation::score::LogitScale;

    fn classifier(policy: Policy) -> Classifier {
        let unit = |v: [f32; 2]| Embedding::normalised(v.to_vec()).expect("has a direction");
        let texts = [unit([1.0, 0.0]), unit([0.0, 1.0])];
        Classifier::new(Arc::new(policy), &texts, LogitScale { scale: 10.0, bias: 0.0 })
            .expect("prompts embed")
    }

    fn bad_picture() -> Vec<Embedding> {
        vec![Embedding::normalised(vec![1.0, 0.0]).expect("has a direction")]
    }

    #[test]
    fn the_worst_live_policy_counts_and_a_background_one_does_not() {
        let live = classifier(policy("weapons"));
        let mut background = policy("smoking");
        background.mode = Mode::Background;
        let background = classifier(background);

        let verdict = verdict_over(
            &[live, background.clone()],
            &bad_picture(),
            Doubts::default(),
            Path::new("a.jpg"),
        );
        assert_eq!(verdict.outcome, Outcome::Block);
        assert_eq!(verdict.heaviest().map(|policy| policy.policy.as_str()), Some("weapons"));

        let verdict =
            verdict_over(&[background], &bad_picture(), Doubts::default(), Path::new("a.jpg"));
        assert_eq!(verdict.outcome, Outcome::Allow);
        assert_eq!(verdict.policies[0].outcome, Outcome::Block, "recorded all the same");
        assert_eq!(verdict.heaviest(), None);
    }

    #[test]
    fn without_a_policy_a_person_looks() {
        let verdict = verdict_over(&[], &bad_picture(), Doubts::default(), Path::new("a.jpg"));
        assert_eq!((verdict.outcome, verdict.reason), (Outcome::Review, Some(Reason::NoPolicy)));
    }

    #[test]
    fn out_of_every_scope_is_allowed_and_says_so() {
        let mut scoped = policy("weapons");
        scoped.scope = Scope::new(vec!["**".into()], vec!["avatars/**".into()]).expect("globs");
        let verdict = verdict_over(
            &[classifier(scoped)],
            &bad_picture(),
            Doubts::default(),
            Path::new("avatars/a.png"),
        );
        assert_eq!((verdict.outcome, verdict.reason), (Outcome::Allow, Some(Reason::OutOfScope)));
    }

    #[test]
    fn a_doubt_is_review_at_least_and_no_scope_is_still_no_scope() {
        let judge = |classifiers: &[Classifier], views: &[Embedding], doubts: &[Doubt]| {
            let doubts = doubts.iter().copied().collect();
            let verdict = verdict_over(classifiers, views, doubts, Path::new("avatars/a.png"));
            (verdict.outcome, verdict.reason)
        };
        let fine = [Embedding::normalised(vec![0.0, 1.0]).expect("has a direction")];
        let classifiers = [classifier(policy("weapons"))];
        assert_eq!(judge(&classifiers, &fine, &[]), (Outcome::Allow, None));
        let doubtful = |outcome, doubt| (outcome, Some(Reason::Doubtful(doubt)));
        for doubt in Doubt::ALL.iter().copied() {
            let both = [Doubt::Parts, doubt];
            assert_eq!(judge(&classifiers, &fine, &both), doubtful(Outcome::Review, doubt));
            let flagged = judge(&classifiers, &bad_picture(), &both);
            assert_eq!(flagged, doubtful(Outcome::Block, doubt));
        }
        let mut scoped = policy("weapons");
        scoped.scope = Scope::new(vec!["**".into()], vec!["avatars/**".into()]).expect("globs");
        let outside = judge(&[classifier(scoped)], &fine, &[Doubt::Damaged]);
        assert_eq!(outside, (Outcome::Allow, Some(Reason::OutOfScope)));
    }

    #[test]
    fn without_a_view_a_person_looks() {
        let verdict = verdict_over(
            &[classifier(policy("weapons"))],
            &[],
            Doubts::default(),
            Path::new("a.jpg"),
        );
        assert_eq!(verdict.outcome, Outcome::Review);
        assert!(verdict.reason.is_some_and(|reason| reason.is_unjudged()));
    }

    #[test]
    fn severity_weighs_more_than_score() {
        let verdict_of = |id: &str, severity, score| PolicyVerdict {
            policy: PolicyId::new(id).expect("good id"),
            policy_hash: PolicyHash([0; 32]),
            severity,
            mode: Mode::Live,
            score,
            outcome: Outcome::Review,
            prompt: String::new(),
            adapter: None,
        };
        let verdict = Verdict {
            outcome: Outcome::Review,
            reason: None,
            policies: vec![
                verdict_of("memes", Severity::Low, 0.99),
                verdict_of("weapons", Severity::High, 0.6),
            ],
        };
        assert_eq!(verdict.heaviest().map(|policy| policy.policy.as_str()), Some("weapons"));
    }

    #[test]
    fn reasons_read_back() {
        for reason in [
            Reason::OutOfScope,
            Reason::NoPolicy,
            Reason::RemovedBefore,
            Reason::Found,
            Reason::Held,
            Reason::LikeRemoved("entry 7, looks alike, 12 of 256 bits differ".into()),
            Reason::Inherited("entry 7, the same bytes".into()),
            Reason::ApprovedBefore("entry 8, the same bytes".into()),
            Reason::NotArmed("41 of 200 decisions".into()),
            Reason::HoldCap(200),
            Reason::Doubtful(Doubt::Damaged),
            Reason::Doubtful(Doubt::Frames),
            Reason::Unreadable("permission denied".into()),
            Reason::Undecodable("the file is empty".into()),
            Reason::Unjudged("3 videos".into()),
        ] {
            assert_eq!(Reason::parse(&reason.to_string()), reason);
        }
        assert!(Reason::parse("from the future").is_unjudged());
    }
}
