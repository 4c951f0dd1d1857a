//! `modtool status`: how the watcher does, told from another terminal.

use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::Args;
use rustix::process::{Pid, test_kill_process};
use serde_json::{Value, json};

use crate::cli::OutputFormat;
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::moderation::escape::{escape, escape_path};
use crate::moderation::{FileKind, QueueCounts, Timestamp};
use crate::store::WatcherBeat;

use super::clock::{ago, day_start, now, rfc3339, span};
use super::ground::{self, ForeignOwned};
use super::output::{json_line, number, path_json, table};
use super::progress::not_judged;
use super::workspace;

/// A watcher beats every two seconds; a machine under load may miss a few.
const LATE_MS: i64 = 20_000;

/// Tell whether a watcher runs and how it does; exit code 0 healthy, 1 not
///
/// Healthy: a watcher runs, none died or fell silent, nothing went wrong in the last minute, and no
/// file has waited longer than `watch.alarm_lag` of modtool.yaml (60 s).
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// Exit code 1 only for what starting the watcher again fixes: none runs, one died or fell
    /// silent
    #[arg(long)]
    live: bool,

    /// Form of what is printed
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
}

/// What a beat says about its watcher now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    /// It beats.
    Running,
    /// It is there and does not beat: stuck, or stopped by a signal.
    Silent,
    /// It ended as it should.
    Ended,
    /// It is gone without a word: killed, or the machine went down.
    Died,
}

/// Whether the watcher that sent this beat is alive and beats.
pub(super) fn is_running(beat: &WatcherBeat) -> bool {
    Health::of(beat) == Health::Running
}

impl Health {
    fn of(beat: &WatcherBeat) -> Self {
        if beat.stopped_at.is_some() {
            return Self::Ended;
        }
        let pid = i32::try_from(beat.pid).ok().and_then(Pid::from_raw);
        let alive = pid.is_some_and(|pid| match test_kill_process(pid) {
            Ok(()) => true,
            // It is there and belongs to someone else.
            Err(errno) => errno == rustix::io::Errno::PERM,
        });
        match (alive, now().0 - beat.beat_at.0 < LATE_MS) {
            (true, true) => Self::Running,
            (true, false) => Self::Silent,
            (false, _) => Self::Died,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Silent => "silent",
            Self::Ended => "ended",
            Self::Died => "died",
        }
    }
}

pub(super) async fn run(args: &StatusArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let (beats, counts, media) = if config.database().exists() {
        let store = workspace::existing_store(config).await?;
        let (beats, counts) =
            (store.watcher_beats().await?, store.queue_counts(day_start()).await?);
        (beats, counts, store.media_counts().await?)
    } else {
        (Vec::new(), QueueCounts::default(), Vec::new())
    };
    let watchers: Vec<(Health, WatcherBeat)> =
        beats.into_iter().map(|beat| (Health::of(&beat), beat)).collect();
    let alarm_ms = config.watch.alarm_lag * 1000;
    let foreign = ground::foreign_owned(config);
    let live = is_live(&watchers);
    let healthy = is_healthy(&watchers, alarm_ms) && foreign.is_none();
    match args.format {
        OutputFormat::Json => {
            print_json(healthy, live, (counts, &media), &watchers, foreign.as_ref())?;
        }
        OutputFormat::Table => {
            print_table(counts, &watchers, alarm_ms)?;
            if let Some(unjudged) = not_judged(&media) {
                writeln!(io::stdout(), "{unjudged}")?;
            }
            if let Some(foreign) = &foreign {
                print_foreign(foreign)?;
            }
        }
    }
    let fine = if args.live { live } else { healthy };
    Ok(if fine { ExitCode::Clean } else { ExitCode::Flagged })
}

/// At least one watcher runs, and none died or went silent.
fn is_live(watchers: &[(Health, WatcherBeat)]) -> bool {
    let gone = |health: &Health| matches!(health, Health::Silent | Health::Died);
    watchers.iter().any(|(health, _)| *health == Health::Running)
        && !watchers.iter().any(|(health, _)| gone(health))
}

/// Besides, nothing went wrong in the last minute, and nothing waits for too long.
fn is_healthy(watchers: &[(Health, WatcherBeat)], alarm_ms: u64) -> bool {
    let fine = |beat: &WatcherBeat| {
        beat.last_error.as_ref().is_none_or(|(_, at)| now().0 - at.0 > 60_000)
            && beat.lag_ms <= alarm_ms
    };
    is_live(watchers)
        && watchers.iter().all(|(health, beat)| *health != Health::Running || fine(beat))
}

#[expect(clippy::cast_precision_loss, reason = "seconds for programs")]
fn print_json(
    healthy: bool,
    live: bool,
    (counts, media): (QueueCounts, &[(FileKind, u64)]),
    watchers: &[(Health, WatcherBeat)],
    foreign: Option<&ForeignOwned>,
) -> io::Result<()> {
    let watcher = |(health, beat): &(Health, WatcherBeat)| {
        let mut object = path_json("folder", &beat.root);
        let fields = json!({
            "state": health.as_str(),
            "running": *health == Health::Running,
            "pid": beat.pid,
            "started_at": rfc3339(beat.started_at),
            "beat_at": rfc3339(beat.beat_at),
            "engine": beat.engine,
            "model": beat.model,
            "judged": beat.judged,
            "rate": number((beat.rate * 100.0).round() / 100.0),
            "waiting": beat.waiting,
            "lag_seconds": number(beat.lag_ms as f64 / 1000.0),
            "skipped": beat.skipped,
            "judging_again": beat.again,
            "stuck": beat.stuck.iter().map(stuck_json).collect::<Value>(),
            "last_error": beat.last_error.as_ref().map(|(text, _)| text),
            "last_error_at": beat.last_error.as_ref().map(|(_, at)| rfc3339(*at)),
        });
        if let Value::Object(fields) = fields {
            object.extend(fields);
        }
        Value::Object(object)
    };
    let status = json!({
        "healthy": healthy,
        "live": live,
        "queue": {
            "open": counts.open,
            "escalated": counts.escalated,
            "decided_today": counts.decided_today,
            "oldest": counts.oldest.map(rfc3339),
        },
        "not_judged": media_json(media),
        "watchers": watchers.iter().map(watcher).collect::<Value>(),
        "foreign_owned": foreign.map_or(&[][..], |foreign| &foreign.paths[..])
            .iter()
            .map(|path| Value::Object(path_json("path", path)))
            .collect::<Value>(),
    });
    json_line(&mut io::stdout().lock(), &status)
}

/// `{"video": 2, "pdf": 1}`: how many files of each kind are not judged.
pub(super) fn media_json(media: &[(FileKind, u64)]) -> Value {
    let count = |(kind, files): &(FileKind, u64)| (kind.as_str().to_owned(), Value::from(*files));
    media.iter().map(count).collect()
}

fn print_foreign(foreign: &ForeignOwned) -> io::Result<()> {
    let names: Vec<_> = foreign.paths.iter().map(|path| escape_path(path)).collect();
    writeln!(
        io::stdout(),
        "not the workspace's user, who can't write there: {}\n  {}",
        names.join(", "),
        foreign.remedy
    )
}

fn stuck_json((path, since): &(PathBuf, Timestamp)) -> Value {
    let mut object = path_json("path", path);
    object.insert("since".to_owned(), rfc3339(*since).into());
    Value::Object(object)
}

fn print_table(
    counts: QueueCounts,
    watchers: &[(Health, WatcherBeat)],
    alarm_ms: u64,
) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let oldest = counts.oldest.map(|at| format!(", the oldest from {}", ago(at)));
    writeln!(
        out,
        "queue: {} open, {} escalated{}; {} decided today",
        counts.open,
        counts.escalated,
        oldest.unwrap_or_default(),
        counts.decided_today
    )?;
    if watchers.is_empty() {
        return writeln!(
            out,
            "no watcher ever ran in this workspace; start one: modtool watch DIR"
        );
    }
    let row = |(health, beat): &(Health, WatcherBeat)| {
        let lag = if beat.waiting > 0 { span(beat.lag_ms) } else { "-".to_owned() };
        let state = match health {
            Health::Running => format!("running (pid {})", beat.pid),
            Health::Silent => format!("silent since {} (pid {})", ago(beat.beat_at), beat.pid),
            Health::Ended => format!("ended {}", ago(beat.stopped_at.unwrap_or(beat.beat_at))),
            Health::Died => format!("died about {}", ago(beat.beat_at)),
        };
        vec![
            escape_path(&beat.root),
            state,
            beat.judged.to_string(),
            format!("{:.1}/s", beat.rate),
            beat.waiting.to_string(),
            lag,
            beat.engine.clone(),
        ]
    };
    let rows: Vec<_> = watchers.iter().map(row).collect();
    let head = ["folder", "watcher", "judged", "rate", "waiting", "lag", "engine"];
    table(&mut out, &head, &rows)?;
    for (health, beat) in watchers {
        if *health == Health::Running && beat.again > 0 {
            let (folder, model) = (escape_path(&beat.root), escape(beat.model.as_bytes()));
            let again = beat.again;
            writeln!(out, "{folder}: {again} pictures still to be judged again, by {model}")?;
        }
        if *health == Health::Running && beat.lag_ms > alarm_ms {
            let (folder, lag) = (escape_path(&beat.root), span(beat.lag_ms));
            writeln!(out, "{folder}: {} waiting, one of them for {lag}", count_of(beat.waiting))?;
            for (path, since) in &beat.stuck {
                writeln!(out, "  {}: not judged since {}", escape_path(path), ago(*since))?;
            }
        }
        if let Some((text, at)) = &beat.last_error {
            let folder = escape_path(&beat.root);
            writeln!(out, "last error in {folder}, {}: {}", ago(*at), escape(text.as_bytes()))?;
        }
    }
    if watchers.iter().any(|(health, _)| *health == Health::Died) {
        writeln!(out, "a watcher died: start it again; what it missed is found by its first scan")?;
    }
    Ok(())
}

/// `1 file`, `2 files`.
fn count_of(files: u64) -> String {
    if files == 1 { "1 file".to_owned() } else { format!("{files} files") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(pid: u32, age_ms: i64) -> WatcherBeat {
        WatcherBeat {
            root: "/u".into(),
            pid,
            started_at: Timestamp(0),
            beat_at: Timestamp(now().0 - age_ms),
            stopped_at: None,
            engine: "tract".into(),
            model: "builtin".into(),
            judged: 1,
            rate: 1.0,
            waiting: 0,
            lag_ms: 0,
            skipped: 0,
            again: 0,
            stuck: Vec::new(),
            last_error: None,
        }
    }

    #[test]
    fn a_watcher_is_running_silent_dead_or_ended() {
        let ourselves = std::process::id();
        assert_eq!(Health::of(&beat(ourselves, 100)), Health::Running);
        assert_eq!(Health::of(&beat(ourselves, 60_000)), Health::Silent);
        assert_eq!(Health::of(&beat(i32::MAX.unsigned_abs(), 100)), Health::Died);
        let ended = WatcherBeat { stopped_at: Some(now()), ..beat(1, 100) };
        assert_eq!(Health::of(&ended), Health::Ended);
    }

    #[test]
    fn healthy_needs_a_running_watcher_and_no_recent_error() {
        let running = (Health::Running, beat(1, 100));
        let verdict = |watchers: &[_]| (is_healthy(watchers, 60_000), is_live(watchers));
        assert_eq!(verdict(std::slice::from_ref(&running)), (true, true));
        assert_eq!(verdict(&[]), (false, false));
        assert_eq!(verdict(&[(Health::Ended, beat(1, 100))]), (false, false));
        assert_eq!(verdict(&[running.clone(), (Health::Died, beat(1, 100))]), (false, false));
        assert_eq!(verdict(&[running, (Health::Silent, beat(1, 100))]), (false, false));
        // Starting it again would not help.
        let failing = WatcherBeat { last_error: Some(("disk".into(), now())), ..beat(1, 100) };
        assert_eq!(verdict(&[(Health::Running, failing)]), (false, true));
        let late = |lag_ms| (Health::Running, WatcherBeat { lag_ms, waiting: 1, ..beat(1, 100) });
        assert_eq!(verdict(&[late(60_001)]), (false, true));
        assert_eq!(verdict(&[late(60_000)]), (true, true));
    }
}
