//! What people decided about items, as the truth that policies are measured by.

use super::policy::PolicyId;
use super::review::{Action, Timestamp};

/// An item's latest decision that stands; each item counts once, and what was only escalated is
/// not decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecidedItem {
    /// The item's number in the store.
    pub number: i64,
    /// Approve or Remove.
    pub action: Action,
    /// The policy given as the reason, if any.
    pub reason: Option<PolicyId>,
    /// The policies that had flagged the decided task.
    pub flagged: Vec<PolicyId>,
    /// When.
    pub at: Timestamp,
}

impl DecidedItem {
    /// Whether the item violates this policy, as far as the decision says so.
    ///
    /// An approved item violates no policy. A removed one violates the policy that was given as
    /// the reason, or else the only one that had flagged it; what it says about others is unknown.
    pub fn violates(&self, policy: &PolicyId) -> Option<bool> {
        match (self.action, &self.reason, self.flagged.as_slice()) {
            (Action::Approve, _, _) => Some(false),
            (Action::Remove, Some(reason), _) if reason == policy => Some(true),
            (Action::Remove, None, [only]) if only == policy => Some(true),
            (Action::Remove | Action::Escalate, _, _) => None,
        }
    }

    /// Whether the item was removed, for whatever policy.
    pub fn removed(&self) -> bool {
        self.action == Action::Remove
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> PolicyId {
        PolicyId::new(text).expect("a good id")
    }

    #[test]
    fn a_decision_speaks_for_the_policies_that_it_was_about() {
        let decided = |action, reason: Option<&str>, flagged: &[&str]| DecidedItem {
            number: 1,
            action,
            reason: reason.map(id),
            flagged: flagged.iter().map(|flagged| id(flagged)).collect(),
            at: Timestamp(0),
        };
        let approved = decided(Action::Approve, None, &["memes"]);
        assert_eq!(approved.violates(&id("weapons")), Some(false));
        let with_reason = decided(Action::Remove, Some("weapons"), &["weapons", "memes"]);
        assert_eq!(with_reason.violates(&id("weapons")), Some(true));
        assert_eq!(with_reason.violates(&id("memes")), None);
        let one_flag = decided(Action::Remove, None, &["memes"]);
        assert_eq!(one_flag.violates(&id("memes")), Some(true));
        let unclear = decided(Action::Remove, None, &["weapons", "memes"]);
        assert_eq!(unclear.violates(&id("memes")), None);
    }
}
