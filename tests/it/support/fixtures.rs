//! Verdicts as the pipeline hands them to the store, without a picture or a model.

use std::path::PathBuf;
use std::sync::Arc;

use modtool::moderation::{
    Action, Arming, Decision, Embedding, Fingerprint, ItemId, JudgedWith, Mode, OnBlock, Outcome,
    Policy, PolicyId, PolicyVerdict, Prompt, Reason, Recipe, ReviewTask, Reviewer, SafeView, Scope,
    Scoring, Severity, Sighting, Thresholds, Timestamp, Verdict,
};
use modtool::store::{FileStat, Judged, JudgedBy, PictureFacts, Store};

/// The folder in which the sightings of the tests lie.
pub const ROOT: &str = "/uploads";

pub fn fingerprint() -> Fingerprint {
    Fingerprint("f".repeat(64))
}

/// A live policy that flags at 0.5 and blocks at 0.9.
pub fn policy(id: &str, severity: Severity) -> Policy {
    let prompt = |text: &str| Prompt { text: text.to_owned(), weight: 1.0 };
    Policy {
        id: PolicyId::new(id).expect("a good id"),
        title: id.to_owned(),
        description: String::new(),
        severity,
        mode: Mode::Live,
        prompts: vec![prompt("a handgun")],
        contrast: vec![prompt("a water pistol")],
        neutral: Vec::new(),
        templates: vec!["a photo of {}".to_owned()],
        scoring: Scoring::Contrast,
        thresholds: Thresholds::new(0.5, 0.9).expect("in order"),
        scope: Scope::everything(),
        safe_view: SafeView::Blur,
        on_block: OnBlock::None,
        arming: Arming::default(),
        inherit: false,
        calibration: None,
        adapter: None,
    }
}

/// Some policies and who they are for the store.
pub struct Judges {
    pub policies: Vec<Arc<Policy>>,
    pub judged_by: JudgedBy,
}

impl Judges {
    pub async fn announce(store: &Store, policies: Vec<Policy>) -> Self {
        let policies: Vec<_> = policies.into_iter().map(Arc::new).collect();
        let judged_by = store
            .begin_judging(&fingerprint(), "builtin", &policies)
            .await
            .expect("the judges are announced");
        Self { policies, judged_by }
    }

    /// `weapons` (high) and `memes` (low).
    pub async fn two(store: &Store) -> Self {
        let policies = vec![policy("weapons", Severity::High), policy("memes", Severity::Low)];
        Self::announce(store, policies).await
    }

    /// A picture at `name` with these bytes, and one score for each policy.
    pub fn judged(&self, name: &str, bytes: &[u8], scores: &[f32]) -> Judged {
        let policies: Vec<_> = self
            .policies
            .iter()
            .zip(scores)
            .map(|(policy, score)| PolicyVerdict {
                policy: policy.id.clone(),
                policy_hash: policy.hash(),
                severity: policy.severity,
                mode: policy.mode,
                score: *score,
                outcome: policy.judge(*score),
                prompt: "a handgun".to_owned(),
                adapter: None,
            })
            .collect();
        let live = policies.iter().filter(|policy| policy.mode == Mode::Live);
        let outcome = live.map(|policy| policy.outcome).max().unwrap_or(Outcome::Allow);
        Judged {
            item: ItemId::of_bytes(bytes),
            bytes: bytes.len() as u64,
            sighting: sighting(name),
            stat: stat(bytes),
            facts: Some(PictureFacts {
                format: "png".into(),
                width: 4,
                height: 3,
                frames: 1,
                hash: None,
                signals: Vec::new(),
                doubts: modtool::moderation::Doubts::default(),
            }),
            views: vec![embedding(bytes)],
            recipe: recipe(),
            verdict: Verdict { outcome, reason: None, policies },
        }
    }

    /// Writes one down.
    pub async fn record(&self, store: &Store, judged: Judged, at: i64) -> modtool::store::Recorded {
        let recorded = store.record_verdicts(&self.judged_by, &[judged], Timestamp(at)).await;
        recorded.expect("the verdict is written").remove(0)
    }
}

/// A file that could not be read at all.
pub fn unread(name: &str) -> Judged {
    let path = sighting(name).path;
    Judged {
        item: ItemId::of_unread(path.as_os_str().as_encoded_bytes()),
        bytes: 0,
        sighting: sighting(name),
        stat: stat(b"unread"),
        facts: None,
        views: Vec::new(),
        recipe: recipe(),
        verdict: Verdict::unjudged(Reason::Unreadable("permission denied".into())),
    }
}

/// What made every picture here.
pub fn recipe() -> Recipe {
    Recipe("png 2".to_owned())
}

/// What judged every picture here.
pub fn judged_with() -> JudgedWith {
    JudgedWith { fingerprint: fingerprint(), recipes: vec![recipe()] }
}

pub fn sighting(name: &str) -> Sighting {
    Sighting { path: PathBuf::from(ROOT).join(name), root: ROOT.into() }
}

/// Differs where the bytes differ.
pub fn stat(bytes: &[u8]) -> FileStat {
    let id = ItemId::of_bytes(bytes);
    let [a, b, ..] = *id.as_bytes();
    FileStat { size: bytes.len() as u64, mtime_ns: i64::from(a), ctime_ns: 7, inode: u64::from(b) }
}

/// Another direction for other bytes.
pub fn embedding(bytes: &[u8]) -> Embedding {
    let id = ItemId::of_bytes(bytes);
    let vector = id.as_bytes().iter().map(|byte| f32::from(*byte) - 127.5).collect();
    Embedding::normalised(vector).expect("has a direction")
}

pub fn reviewer(name: &str) -> Reviewer {
    Reviewer::new(name).expect("a good name")
}

pub fn decision(task: &ReviewTask, action: Action, name: &str, at: i64) -> Decision {
    Decision {
        task: task.id,
        action,
        reviewer: reviewer(name),
        reason: None,
        note: None,
        at: Timestamp(at),
    }
}
