//! The core: what an item, a policy, a score, a verdict and a decision are.
//!
//! No I/O, no async, no clock and no serde in here: everything is a value or a pure
//! function over values, so every rule of the tool can be tested without a file or a model.

pub mod audit;
pub mod embedding;
pub mod escape;
pub mod item;
pub mod policy;
pub mod review;
pub mod score;
pub mod verdict;

pub use audit::{AuditEvent, AuditKind, ChainHash};
pub use embedding::{Embedding, EmbeddingError, Fingerprint};
pub use item::{ItemId, Sighting};
pub use policy::{
    Mode, Policy, PolicyHash, PolicyId, Prompt, SafeView, Scope, Scoring, Severity, Thresholds,
};
pub use review::{
    Action, Decision, DecisionId, DecisionOutcome, PastDecision, QueueCounts, QueueCursor,
    QueueFilter, ReviewState, ReviewTask, Reviewer, TaskDetail, TaskId, Timestamp, UndoOutcome,
};
pub use score::{Classifier, LogitScale, PolicyScore, PromptShare};
pub use verdict::{Outcome, PolicyVerdict, Reason, Verdict, verdict_over};
