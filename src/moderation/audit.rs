//! The audit log: append-only events, each sealed with the hash of all before it.

use sha2::{Digest, Sha256};

use super::policy::spelled;
use super::review::Timestamp;

spelled! {
    /// What happened.
    AuditKind {
        /// A sighting was judged.
        Verdict = "verdict",
        /// A person decided.
        Decision = "decision",
        /// A person took a decision back.
        Undo = "undo",
        /// A person asked for an item to be decided that nothing had flagged.
        Opened = "opened",
        /// A task was closed because its file could be read after all, or changed.
        Superseded = "superseded",
        /// A policy's `on_block: hold` may act from now on.
        Armed = "armed",
        /// It may not any more.
        Disarmed = "disarmed",
        /// A file was moved to quarantine.
        Quarantined = "quarantined",
        /// A file was put back.
        Restored = "restored",
        /// A removed file was deleted after the grace period.
        Purged = "purged",
        /// Pictures or hashes were added to the bank.
        Banked = "banked",
        /// A person switched entries of the bank on or off.
        BankSwitched = "bank_switched",
        /// An entry of the bank matched a flood, and acts no more until a person says so.
        BankOnHold = "bank_on_hold",
        /// All that is personal about an item was deleted.
        Erased = "erased",
        /// What is older than the settings say was deleted.
        Expired = "expired",
        /// A person let an adapter run, in the background or in force.
        AdapterUsed = "adapter_used",
        /// A person took the last such step back.
        AdapterRolledBack = "adapter_rolled_back",
        /// A person deleted an adapter.
        AdapterRemoved = "adapter_removed",
    }
}

/// Seals an event and everything before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChainHash(pub [u8; 32]);

impl ChainHash {
    /// What the first event follows.
    pub const GENESIS: Self = Self([0; 32]);
}

/// One thing that happened, written in the same transaction as the fact itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEvent {
    /// When.
    pub at: Timestamp,
    /// What.
    pub kind: AuditKind,
    /// Who: a reviewer, or `modtool`.
    pub actor: String,
    /// The particulars, as one JSON object.
    pub detail: String,
}

impl AuditEvent {
    /// `SHA-256(previous ‖ at ‖ kind ‖ actor ‖ detail)`, every text preceded by its length, so
    /// that no two different events hash alike. Changing, dropping or swapping rows breaks the
    /// chain from there on.
    pub fn seal(&self, previous: ChainHash) -> ChainHash {
        let mut hasher = Sha256::new();
        hasher.update(previous.0);
        hasher.update(self.at.0.to_le_bytes());
        for text in [self.kind.as_str(), &self.actor, &self.detail] {
            hasher.update((text.len() as u64).to_le_bytes());
            hasher.update(text);
        }
        ChainHash(hasher.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_and_the_past_are_sealed() {
        let event = AuditEvent {
            at: Timestamp(1),
            kind: AuditKind::Decision,
            actor: "ana".into(),
            detail: "{}".into(),
        };
        let sealed = event.seal(ChainHash::GENESIS);
        let changed = [
            AuditEvent { at: Timestamp(2), ..event.clone() },
            AuditEvent { kind: AuditKind::Undo, ..event.clone() },
            AuditEvent { actor: "an".into(), detail: "a{}".into(), ..event.clone() },
            AuditEvent { detail: "{} ".into(), ..event.clone() },
        ];
        for other in changed {
            assert_ne!(other.seal(ChainHash::GENESIS), sealed);
        }
        assert_ne!(event.seal(sealed), sealed);
    }
}
