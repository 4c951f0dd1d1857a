//! Shows how a run does: a bar where there is a terminal, one line a minute otherwise.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tracing::info;

use crate::moderation::FileKind;
use crate::pipeline::Monitor;
use crate::telemetry;

use super::clock::span;

/// What a run does, in the words of its progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    /// Judges pictures.
    Judging,
    /// Makes pictures searchable; nothing is judged.
    Indexing,
}

/// Shows progress until it is dropped.
pub(super) struct Progress {
    task: tokio::task::JoinHandle<()>,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Begins to show how a run does. `quiet` shows nothing; without a terminal, or with JSON
    /// logs, a log line a minute tells.
    pub(super) fn start(monitor: Arc<Monitor>, doing: Doing, quiet: bool, json_log: bool) -> Self {
        let bar = (std::io::stderr().is_terminal() && !quiet && !json_log).then(bar);
        let task = match bar.clone() {
            Some(bar) => tokio::spawn(draw(monitor, doing, bar)),
            None if quiet => tokio::spawn(std::future::pending()),
            None => tokio::spawn(tell(monitor)),
        };
        Self { task, bar }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(bar) = &self.bar {
            telemetry::release_lines();
            bar.finish_and_clear();
        }
    }
}

/// A bar for pictures, where there is a terminal to draw it on.
pub(super) fn pictures_bar(what: &str, count: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg} {bar:30} {pos} of {len} pictures · {per_sec}");
    let bar = ProgressBar::new(count);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message(what.to_owned());
    bar
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    let drawn = bar.clone();
    telemetry::divert_lines(move |line| {
        drawn.suspend(|| {
            use std::io::Write as _;
            // A terminal that is gone needs no log.
            let _ = std::io::stderr().write_all(line);
        });
    });
    bar
}

const JUDGING: &str = "{bar:30} {pos} of {len} files · {msg} · {eta} left";
const LOOKING: &str = "{spinner} {msg}";

/// A bar while there is a backlog; while there is none, one quiet line.
async fn draw(monitor: Arc<Monitor>, doing: Doing, bar: ProgressBar) {
    let judging =
        ProgressStyle::with_template(JUDGING).unwrap_or_else(|_| ProgressStyle::default_bar());
    let looking =
        ProgressStyle::with_template(LOOKING).unwrap_or_else(|_| ProgressStyle::default_spinner());
    let mut rate = Rate::new(&monitor);
    let mut interval = tokio::time::interval(Duration::from_millis(250));
    loop {
        interval.tick().await;
        let (judged, flagged) = (monitor.judged.load(Relaxed), monitor.flagged.load(Relaxed));
        let (total, done) = (monitor.total.load(Relaxed), judged + monitor.passed.load(Relaxed));
        let (per_second, (waiting, _)) = (rate.per_second(), monitor.waiting());
        // A file that was counted and went away since must not keep the bar from ending.
        let over = monitor.scanned.load(Relaxed) && waiting == 0;
        if done < total && !over {
            bar.set_style(judging.clone());
            bar.set_length(total);
            bar.set_position(done);
            bar.set_message(match doing {
                Doing::Judging => format!("{per_second:.1} pictures/s · {flagged} flagged"),
                Doing::Indexing => format!("{per_second:.1} pictures/s made searchable"),
            });
        } else {
            bar.set_style(looking.clone());
            let again = match monitor.again.load(Relaxed) {
                0 => String::new(),
                left => format!(" · {left} to judge again ({per_second:.1}/s)"),
            };
            bar.set_message(match doing {
                Doing::Judging => format!(
                    "{judged} judged · {flagged} flagged · {waiting} waiting{again} · Ctrl-C ends"
                ),
                Doing::Indexing => format!("{judged} made searchable{again} · Ctrl-C ends"),
            });
        }
        bar.tick();
    }
}

async fn tell(monitor: Arc<Monitor>) {
    let mut rate = Rate::new(&monitor);
    let mut interval = tokio::time::interval(Duration::from_mins(1));
    interval.tick().await;
    loop {
        interval.tick().await;
        let (waiting, oldest) = monitor.waiting();
        info!(
            judged = monitor.judged.load(Relaxed),
            flagged = monitor.flagged.load(Relaxed),
            waiting,
            to_judge_again = monitor.again.load(Relaxed),
            lag_seconds = oldest.map_or(0, |since| since.elapsed().as_secs()),
            pictures_per_second = (rate.per_second() * 10.0).round() / 10.0,
            "progress"
        );
    }
}

/// Pictures a second since it was last asked, smoothed.
pub(super) struct Rate<'a> {
    monitor: &'a Monitor,
    at: Instant,
    judged: u64,
    smoothed: f64,
}

impl<'a> Rate<'a> {
    pub(super) fn new(monitor: &'a Monitor) -> Self {
        Self { monitor, at: Instant::now(), judged: monitor.judged.load(Relaxed), smoothed: 0.0 }
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    pub(super) fn per_second(&mut self) -> f64 {
        let (now, judged) = (Instant::now(), self.monitor.judged.load(Relaxed));
        let seconds = (now - self.at).as_secs_f64();
        if seconds > 0.0 {
            let rate = (judged - self.judged) as f64 / seconds;
            // Forget with a time constant of five seconds.
            let keep = (-seconds / 5.0).exp();
            self.smoothed = self.smoothed * keep + rate * (1.0 - keep);
            (self.at, self.judged) = (now, judged);
        }
        self.smoothed
    }
}

/// `2 videos, 1 PDF were not judged`; `None` when there are none.
pub(super) fn not_judged(media: &[(FileKind, u64)]) -> Option<String> {
    let counted = media.iter().filter(|(_, files)| *files > 0);
    let counted: Vec<_> = counted.map(|(kind, files)| kind.count(*files)).collect();
    let one = media.iter().map(|(_, files)| files).sum::<u64>() == 1;
    let were = if one { "was" } else { "were" };
    (!counted.is_empty()).then(|| format!("{} {were} not judged", counted.join(", ")))
}

/// What was done, in one line, at the end of a run.
pub(super) fn summary(monitor: &Monitor, took: Duration) -> String {
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Relaxed);
    let (judged, flagged) = (load(&monitor.judged), load(&monitor.flagged));
    let mut text =
        format!("{judged} judged in {}", span(u64::try_from(took.as_millis()).unwrap_or(0)));
    let mut add = |count: u64, what: &str| {
        if count > 0 {
            text.extend([", ", &count.to_string(), " ", what]);
        }
    };
    add(flagged, "flagged for review");
    add(load(&monitor.unjudged), "of them could not be judged");
    add(load(&monitor.unchanged), "judged before");
    add(monitor.skipped(), "skipped (no pictures)");
    let (waiting, _) = monitor.waiting();
    add(waiting, "left for the next start");
    let media: Vec<_> = monitor.media().into_iter().collect();
    if let Some(unjudged) = not_judged(&media) {
        text.extend(["; ", &unjudged]);
    }
    text
}
