//! The core: what an item, a policy, a score, a verdict and a decision are.
//!
//! No I/O, no async, no clock and no serde in here: everything is a value or a pure
//! function over values, so every rule of the tool can be tested without a file or a model.

pub mod adapter;
pub mod audit;
pub mod bank;
pub mod doubt;
pub mod embedding;
pub mod escape;
pub mod evaluation;
pub mod find;
pub mod histogram;
pub mod history;
pub mod item;
pub mod many;
pub mod measure;
pub mod media;
pub mod perceptual;
pub mod policy;
pub mod recipe;
pub mod review;
pub mod roc;
pub mod score;
pub mod stats;
pub mod uploader;
pub mod verdict;

pub use adapter::Adapter;
pub use audit::{AuditEvent, AuditKind, ChainHash};
pub use bank::{Bank, BankKey, BankMatch, BankSource, BankState, BankTwin, Likeness, Weighed};
pub use doubt::{Doubt, Doubts};
pub use embedding::{Embedding, EmbeddingError, Fingerprint};
pub use evaluation::{Evaluation, FoundAt};
pub use find::{Decided, ItemFilter, ItemNumbers, ItemSet, Side};
pub use histogram::ScoreHistogram;
pub use history::DecidedItem;
pub use item::{FileStat, ItemId, Sighting};
pub use many::ManyScorer;
pub use measure::{Calibration, Counts, Labelled, RecallEstimate, Sample, Share};
pub use media::FileKind;
pub use perceptual::PerceptualHash;
pub use policy::{
    Arming, FittedCalibration, FittedFor, Mode, OnBlock, Policy, PolicyHash, PolicyId, Prompt,
    SafeView, Scope, ScopeError, ScopeList, Scoring, Severity, Thresholds,
};
pub use recipe::{JudgedWith, Recipe};
pub use review::{
    Action, Decision, DecisionId, DecisionOutcome, FoundItem, Lane, Lease, PastDecision,
    QueueCounts, QueueCursor, QueueFilter, QueueOrder, QueueRows, RedoOutcome, ReviewState,
    ReviewTask, Reviewer, TaskDetail, TaskId, Timestamp, UndoOutcome,
};
pub use score::{Classifier, LogitScale, PolicyScore, PromptShare};
pub use stats::{DayCount, PolicyStats, ReviewStats, ReviewerStats};
pub use uploader::Uploader;
pub use verdict::{Outcome, PolicyVerdict, Reason, Verdict, verdict_over};
