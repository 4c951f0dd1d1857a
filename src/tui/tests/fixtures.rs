//! A dashboard with a made-up queue, whose store answers when a test says so.

use std::path::PathBuf;

use ratatui::layout::Size;

use crate::moderation::{
    Action, Decision, DecisionId, FoundItem, ItemId, Mode, Outcome, PastDecision, PolicyHash,
    PolicyId, PolicyVerdict, PromptShare, QueueCounts, QueueFilter, Reason, ReviewState,
    ReviewTask, Reviewer, SafeView, Severity, Sighting, TaskDetail, TaskId, Timestamp,
};
use crate::tui::state::{
    Care, Found, KnownPolicy, Opening, Pictures, RequestId, State, Theme, Why,
};
use crate::tui::{Effect, Event, Key, Keymap, update};

pub(super) const NOW: Timestamp = Timestamp(1_700_000_000_000);
pub(super) const HOUR: i64 = 3_600_000;

/// A dashboard and everything that it asked for so far.
pub(super) struct Desk {
    pub(super) state: State,
    pub(super) effects: Vec<Effect>,
}

impl Desk {
    /// Nothing is answered yet.
    pub(super) fn opened(width: u16, height: u16) -> Self {
        let mut state = State::new(Opening {
            reviewer: Reviewer::new("ana").expect("a name"),
            theme: Theme::Colour,
            pictures: Pictures::Shown,
            size: Size { width, height },
            now: NOW,
            policies: vec![
                known("weapons", SafeView::Blur),
                known("documents", SafeView::Grey),
                known("memes", SafeView::None),
                known("pills", SafeView::Hidden),
            ],
            keys: Keymap::default(),
            care: Care::default(),
        });
        // Open and escalated ones together, so that every kind of row can be looked at.
        state.filter = QueueFilter::default();
        let mut desk = Self { state, effects: Vec::new() };
        desk.send(Event::Opened);
        desk
    }

    /// The queue and the counts are answered; the first row is selected and its detail asked for.
    pub(super) fn with(width: u16, height: u16, tasks: Vec<ReviewTask>) -> Self {
        let mut desk = Self::opened(width, height);
        desk.answer_queue(tasks);
        let id = desk.last_id(|effect| match effect {
            Effect::LoadCounts { id } => Some(*id),
            _ => None,
        });
        let counts = QueueCounts {
            open: 128,
            escalated: 12,
            unjudged: 2,
            decided_today: 340,
            oldest: Some(Timestamp(NOW.0 - 2 * HOUR)),
            restored_without: 0,
        };
        desk.send(Event::CountsLoaded { id, counts });
        desk
    }

    /// As `with`, and the first row's detail is there too.
    pub(super) fn explained(width: u16, height: u16, tasks: Vec<ReviewTask>) -> Self {
        let mut desk = Self::with(width, height, tasks);
        desk.answer_detail();
        desk
    }

    /// Sends an event; the answer is what it alone caused.
    pub(super) fn send(&mut self, event: Event) -> Vec<Effect> {
        let effects = update(&mut self.state, event);
        self.effects.extend(effects.iter().cloned());
        effects
    }

    pub(super) fn press(&mut self, character: char) -> Vec<Effect> {
        self.send(Event::Key(Key::Char(character)))
    }

    /// The number of the latest effect that `pick` picks.
    pub(super) fn last_id(&self, pick: impl Fn(&Effect) -> Option<RequestId>) -> RequestId {
        self.effects.iter().rev().find_map(pick).expect("it was asked for")
    }

    pub(super) fn queue_id(&self) -> RequestId {
        self.last_id(|effect| match effect {
            Effect::LoadQueue { id, .. } => Some(*id),
            _ => None,
        })
    }

    pub(super) fn detail_id(&self) -> RequestId {
        self.last_id(|effect| match effect {
            Effect::LoadDetail { id, .. } => Some(*id),
            _ => None,
        })
    }

    pub(super) fn picture_id(&self) -> RequestId {
        self.last_id(|effect| match effect {
            Effect::LoadPicture { id, .. } => Some(*id),
            _ => None,
        })
    }

    pub(super) fn decide_id(&self) -> RequestId {
        self.last_id(|effect| match effect {
            Effect::Decide { id, .. } => Some(*id),
            _ => None,
        })
    }

    pub(super) fn answer_queue(&mut self, tasks: Vec<ReviewTask>) -> Vec<Effect> {
        let id = self.queue_id();
        self.send(Event::QueueLoaded { id, tasks })
    }

    /// Answers for the selected row with two flagging policies and one that is content.
    pub(super) fn answer_detail(&mut self) -> Vec<Effect> {
        let task = self.state.selected().expect("a row").task.clone();
        self.answer_detail_with(detail(task))
    }

    pub(super) fn answer_detail_with(&mut self, detail: TaskDetail) -> Vec<Effect> {
        let id = self.detail_id();
        let whys = detail.policies.iter().map(why).collect();
        self.send(Event::DetailLoaded { id, detail: Some(Box::new(detail)), whys })
    }

    /// Searches for a description; five items are found.
    pub(super) fn search(&mut self, text: &str) {
        self.press('s');
        for character in text.chars() {
            self.press(character);
        }
        self.send(Event::Key(Key::Enter));
        let id = self.find_id();
        let names = ["one.jpg", "two.jpg", "three.jpg", "four.jpg", "five.jpg"];
        let all = (1..).zip([0.9, 0.8, 0.7, 0.6, 0.5]).zip(names);
        let found = all.map(|((number, cosine), name)| found(number, cosine, name)).collect();
        self.send(Event::FoundItems { id, found });
    }

    pub(super) fn find_id(&self) -> RequestId {
        self.last_id(|effect| match effect {
            Effect::Find { id, .. } | Effect::LookUp { id, .. } => Some(*id),
            _ => None,
        })
    }

    pub(super) fn group_id(&self) -> RequestId {
        self.last_id(|effect| match effect {
            Effect::LoadGroups { id, .. } => Some(*id),
            _ => None,
        })
    }

    pub(super) fn selected_id(&self) -> Option<i64> {
        self.state.selected().map(|row| row.task.id.0)
    }

    pub(super) fn row_ids(&self) -> Vec<i64> {
        self.state.queue.rows.iter().map(|row| row.task.id.0).collect()
    }

    pub(super) fn message(&self) -> &str {
        self.state.message.as_ref().map_or("", |message| message.text.as_str())
    }
}

/// Something that a search found.
pub(super) fn found(number: i64, cosine: f32, name: &str) -> Found {
    Found {
        item: FoundItem {
            number,
            item: ItemId::of_bytes(name.as_bytes()),
            path: Some(PathBuf::from("/srv/uploads").join(name)),
            outcome: Some(Outcome::Allow),
            task: None,
            state: None,
            policy: None,
            decision: None,
        },
        cosine,
        percentile: Some(100.0 - f64::from(u8::try_from(number).unwrap_or(99)) / 4.0),
    }
}

pub(super) fn policy(id: &str) -> PolicyId {
    PolicyId::new(id).expect("a policy's name")
}

fn known(id: &str, safe_view: SafeView) -> KnownPolicy {
    KnownPolicy { id: policy(id), safe_view, review: 0.6, block: 0.9 }
}

pub(super) fn task(id: i64, policy_id: &str, score: f32, name: &str) -> ReviewTask {
    ReviewTask {
        id: TaskId(id),
        item: ItemId::of_bytes(&id.to_le_bytes()),
        path: PathBuf::from("/srv/uploads").join(name),
        sightings: 1,
        policy: Some(policy(policy_id)),
        severity: Severity::Medium,
        score: Some(score),
        outcome: if score >= 0.9 { Outcome::Block } else { Outcome::Review },
        reason: None,
        state: ReviewState::Open,
        opened_at: Timestamp(NOW.0 - 2 * HOUR),
        group: 1,
        lease: None,
    }
}

pub(super) fn unjudged(id: i64, reason: Reason, name: &str) -> ReviewTask {
    ReviewTask {
        policy: None,
        score: None,
        severity: Severity::High,
        outcome: Outcome::Review,
        reason: Some(reason),
        ..task(id, "weapons", 0.0, name)
    }
}

/// Some rows such as a day brings.
pub(super) fn tasks() -> Vec<ReviewTask> {
    let undecodable = Reason::Undecodable("the file is empty".into());
    let mut tasks = vec![
        unjudged(1, undecodable, "x.webp"),
        task(2, "weapons", 0.93, "IMG_2031.jpg"),
        task(3, "documents", 0.71, "scan-11.png"),
        task(4, "weapons", 0.64, "burst/IMG_7000-with-a-rather-long-name.jpeg"),
        task(5, "screenshots", 0.61, "Bildschirmfoto vom 2026-11-02 um 10.04.png"),
    ];
    tasks[3].sightings = 3;
    tasks[4].state = ReviewState::Escalated;
    tasks
}

/// `count` rows in queue order, numbered from `first`.
pub(super) fn many(first: i64, count: usize) -> Vec<ReviewTask> {
    let ids = (first..).take(count);
    ids.map(|id| task(id, "weapons", 0.5, &format!("{id:05}.jpg"))).collect()
}

pub(super) fn verdict(id: &str, score: f32, outcome: Outcome) -> PolicyVerdict {
    PolicyVerdict {
        policy: policy(id),
        policy_hash: PolicyHash([0; 32]),
        severity: Severity::Medium,
        mode: Mode::Live,
        score,
        outcome,
        prompt: "a handgun".into(),
        adapter: None,
    }
}

pub(super) fn why(verdict: &PolicyVerdict) -> Why {
    let share = |text: &str, contrast, share| PromptShare {
        text: text.into(),
        contrast,
        cosine: 0.2,
        logit: 1.0,
        share,
    };
    Why {
        policy: verdict.policy.clone(),
        title: format!("All about {}", verdict.policy),
        score: verdict.score,
        words: verdict.adapter.is_some().then_some(0.42),
        review: 0.6,
        block: 0.9,
        shares: vec![
            share("a handgun", false, 0.81),
            share("a rifle or another long gun", false, 0.05),
            share("a toy water pistol", true, 0.12),
            share("a power drill", true, 0.017),
            share("a photo of something else", true, 0.003),
        ],
        higher_than: Some(0.9928),
    }
}

/// What is known about a task: its own policy and `memes` flagged it, `smoking` did not.
pub(super) fn detail(task: ReviewTask) -> TaskDetail {
    let policies = match (&task.policy, task.score) {
        (Some(heaviest), Some(score)) => vec![
            verdict("memes", 0.66, Outcome::Review),
            verdict(heaviest.as_str(), score, task.outcome),
            verdict("smoking", 0.02, Outcome::Allow),
        ],
        _ => Vec::new(),
    };
    let sighting = |path: PathBuf| Sighting { path, root: PathBuf::from("/srv/uploads") };
    let mut sightings = vec![sighting(task.path.clone())];
    if task.sightings > 1 {
        sightings.push(sighting("/srv/uploads/again/copy.jpeg".into()));
    }
    let decisions =
        vec![PastDecision { undone: true, ..past(7, task.id.0, "ben", Action::Remove, 48 * HOUR) }];
    TaskDetail { task, policies, sightings, decisions, twins: Vec::new(), files: Vec::new() }
}

/// A decision that someone made some milliseconds ago.
pub(super) fn past(id: i64, task: i64, who: &str, action: Action, ago: i64) -> PastDecision {
    PastDecision {
        id: DecisionId(id),
        decision: Decision {
            task: TaskId(task),
            action,
            reviewer: Reviewer::new(who).expect("a name"),
            reason: (action == Action::Remove).then(|| policy("weapons")),
            note: None,
            at: Timestamp(NOW.0 - ago),
        },
        undone: false,
    }
}
