//! `modtool status`: how the watcher does, told from another terminal.

use std::io::{self, Write as _};

use clap::Args;
use rustix::process::{Pid, test_kill_process};
use serde_json::{Value, json};

use crate::cli::OutputFormat;
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::moderation::QueueCounts;
use crate::moderation::escape::{escape, escape_path};
use crate::store::WatcherBeat;

use super::clock::{ago, day_start, now, rfc3339, span};
use super::ground::{self, ForeignOwned};
use super::output::{json_line, number, path_json, table};
use super::workspace;

/// A watcher beats every two seconds; a machine under load may miss a few.
const LATE_MS: i64 = 20_000;

/// Tell whether a watcher runs and how it does; exit code 0 healthy, 1 not
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
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
    let (beats, counts) = if config.database().exists() {
        let store = workspace::existing_store(config).await?;
        (store.watcher_beats().await?, store.queue_counts(day_start()).await?)
    } else {
        (Vec::new(), QueueCounts::default())
    };
    let watchers: Vec<(Health, WatcherBeat)> =
        beats.into_iter().map(|beat| (Health::of(&beat), beat)).collect();
    let foreign = ground::foreign_owned(config);
    let healthy = is_healthy(&watchers) && foreign.is_none();
    match args.format {
        OutputFormat::Json => print_json(healthy, counts, &watchers, foreign.as_ref())?,
        OutputFormat::Table => {
            print_table(counts, &watchers)?;
            if let Some(foreign) = &foreign {
                print_foreign(foreign)?;
            }
        }
    }
    Ok(if healthy { ExitCode::Clean } else { ExitCode::Flagged })
}

/// At least one watcher runs, none died or went silent, and nothing went wrong in the last minute.
fn is_healthy(watchers: &[(Health, WatcherBeat)]) -> bool {
    let fine = |(health, beat): &(Health, WatcherBeat)| match health {
        Health::Running => beat.last_error.as_ref().is_none_or(|(_, at)| now().0 - at.0 > 60_000),
        Health::Ended => true,
        Health::Silent | Health::Died => false,
    };
    watchers.iter().any(|(health, _)| *health == Health::Running) && watchers.iter().all(fine)
}

#[expect(clippy::cast_precision_loss, reason = "seconds for programs")]
fn print_json(
    healthy: bool,
    counts: QueueCounts,
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
        "queue": {
            "open": counts.open,
            "escalated": counts.escalated,
            "decided_today": counts.decided_today,
            "oldest": counts.oldest.map(rfc3339),
        },
        "watchers": watchers.iter().map(watcher).collect::<Value>(),
        "foreign_owned": foreign.map_or(&[][..], |foreign| &foreign.paths[..])
            .iter()
            .map(|path| Value::Object(path_json("path", path)))
            .collect::<Value>(),
    });
    json_line(&mut io::stdout().lock(), &status)
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

fn print_table(counts: QueueCounts, watchers: &[(Health, WatcherBeat)]) -> io::Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moderation::Timestamp;

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
        assert!(is_healthy(std::slice::from_ref(&running)));
        assert!(!is_healthy(&[]));
        assert!(!is_healthy(&[(Health::Ended, beat(1, 100))]));
        assert!(!is_healthy(&[running.clone(), (Health::Died, beat(1, 100))]));
        let failing = WatcherBeat { last_error: Some(("disk".into(), now())), ..beat(1, 100) };
        assert!(!is_healthy(&[(Health::Running, failing)]));
    }
}
