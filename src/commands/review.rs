//! `modtool review`: the driver of the dashboard in [`crate::tui`].
//!
//! Keys, signals, the clock, changes of the store and answers all become events in one channel;
//! the loop sleeps on it. What the dashboard asks for is done elsewhere: reads and decisions by
//! the store's tasks (`desk`), pictures by a thread (`pictures`).

mod decided;
mod desk;
mod pictures;
mod search;

use std::io::IsTerminal as _;
use std::sync::{Arc, mpsc};

use anyhow::Context as _;
use clap::Args;
use ratatui::backend::CrosstermBackend;
use ratatui::{Terminal, layout::Size};

use crate::config::{Config, ConfigError, PICTURES};
use crate::exit_code::ExitCode;
use crate::moderation::{Policy, Reviewer};
use crate::pipeline;
use crate::tui::state::Opening;
use crate::tui::{self, Care, Effect, Event, Keymap, KnownPolicy, Pictures, State, Theme};

use super::clock::now;
use super::heat::Artist;
use super::screen::protocol::{self, PictureChoice};
use super::screen::terminal::{self, Screen};
use super::{UsageError, workspace};
use desk::Desk;
use pictures::Gallery;

/// Decide what was flagged, on a screen
///
/// Shows what waits, why it was flagged, and as much of the picture as you choose to see.
/// New items appear by themselves while `modtool watch` runs. `?` shows all keys.
#[derive(Debug, Args)]
pub(super) struct ReviewArgs {
    /// Who signs the decisions [default: what modtool.yaml says, else the system's user]
    #[arg(long, value_name = "NAME", env = "MODTOOL_REVIEWER")]
    reviewer: Option<String>,

    /// How the terminal is given pictures [default: what modtool.yaml says, else auto]
    #[arg(long, value_name = "HOW", value_parser = clap::builder::PossibleValuesParser::new(PICTURES))]
    pictures: Option<String>,

    /// Words only: the same as --pictures off
    #[arg(long, conflicts_with = "pictures")]
    no_pictures: bool,
}

pub(super) async fn run(args: ReviewArgs, config: Config) -> anyhow::Result<ExitCode> {
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        return Err(UsageError("`modtool review` needs a terminal".to_owned()).into());
    }
    let reviewer = reviewer(args.reviewer.or_else(|| config.review.reviewer.clone()))?;
    let choice = match args.pictures.as_deref() {
        _ if args.no_pictures => PictureChoice::Off,
        Some(how) => PictureChoice::parse(how),
        None => PictureChoice::parse(&config.review.pictures),
    };
    let keys = keymap(&config)?;
    let policies: Vec<_> =
        workspace::policies(&config)?.into_iter().map(|file| file.policy).collect();
    let model = workspace::model(&config)?;
    let decoders = workspace::decoders(&config)?;
    let store = Arc::new(workspace::store(&config).await?);
    // Decisions take effect also where nobody watches.
    let actor = workspace::actor(&config, &store, &Arc::default())?;
    let acting = actor.clone().start();
    let quarantine = config.quarantine();

    let (events, inbox) = mpsc::channel();
    let known = known_policies(&policies);
    let care =
        Care { budget: config.review.exposure_budget, break_minutes: config.review.break_minutes };
    let mut desk = Desk::open(
        Arc::clone(&store),
        reviewer.clone(),
        policies,
        &model.card,
        &config,
        events.clone(),
    );

    let artist = Artist::new(config.clone(), tokio::runtime::Handle::current());

    // From here on the terminal is ours, and is given back when `screen` is dropped.
    let screen = Screen::enter().context("can't take the terminal over")?;
    let ended = tokio::task::block_in_place(|| {
        let found = protocol::ask(choice);
        let shown = if found.picker.is_some() { Pictures::Shown } else { Pictures::Off };
        let mut gallery = Gallery::open(found.picker, decoders, Some(artist), events.clone());
        listen_to_keys(events.clone(), found.unanswered_since);
        let (told, again) = (events.clone(), events.clone());
        terminal::listen_to_signals(
            move || told.send(Event::Stop).is_ok(),
            move || again.send(Event::Resumed).is_ok(),
        )?;
        let (width, height) = crossterm::terminal::size().unwrap_or((80, 24));
        let mut state = State::new(Opening {
            reviewer,
            theme: theme(),
            pictures: shown,
            size: Size { width, height },
            now: now(),
            policies: known,
            keys,
            care,
        });
        let mut terminal = Terminal::new(CrosstermBackend::new(std::io::stdout()))?;
        let requests = gallery.requests();
        let perform = |effect: Effect| match effect {
            // So that a test can see what a panic leaves behind.
            #[cfg(debug_assertions)]
            Effect::LoadNumbers { .. } if std::env::var_os("MODTOOL_DEBUG_PANIC").is_some() => {
                panic!("asked to panic")
            }
            Effect::Suspend => {
                terminal::suspend();
                // The loop listens as long as it runs.
                let _ = events.send(Event::Resumed);
            }
            Effect::LoadPicture { id, mut paths, item, reveal, heat, area } => {
                // What is held lies there.
                paths.push(pipeline::quarantined_at(&quarantine, item));
                requests.ask(Effect::LoadPicture { id, paths, item, reveal, heat, area });
            }
            Effect::Prefetch { .. } | Effect::DropPicture { .. } => requests.ask(effect),
            other => desk.perform(other),
        };
        tui::run(&mut terminal, &mut state, &inbox, perform, &mut gallery)
            .context("can't draw on the terminal")
    });
    drop(screen);
    // What was decided is written down before the program ends, however it ends.
    desk.close().await;
    acting.end().await;
    // Whoever leaves is done deciding; an undo from now on moves files back.
    store.hurry_placements(now()).await?;
    actor.carry_out_due(std::time::Duration::ZERO).await?;
    ended.map(|()| ExitCode::Clean)
}

/// What the dashboard has to know of policies.
fn known_policies(policies: &[Arc<Policy>]) -> Vec<KnownPolicy> {
    policies.iter().map(|policy| known_policy(policy)).collect()
}

/// What a screen has to know of a policy.
pub(super) fn known_policy(policy: &Policy) -> KnownPolicy {
    KnownPolicy {
        id: policy.id.clone(),
        safe_view: policy.safe_view,
        review: policy.thresholds.review(),
        block: policy.thresholds.block(),
    }
}

/// The keys as the settings want them.
fn keymap(config: &Config) -> anyhow::Result<Keymap> {
    let changes = config.review.keys.iter().map(|(name, keys)| (name.as_str(), keys.as_str()));
    let place = config.workspace.join("modtool.yaml");
    Keymap::with(changes)
        .map_err(|error| ConfigError::Keys { path: place, problem: error.to_string() }.into())
}

/// How this terminal would be given pictures; `None` where there is no terminal to ask.
pub(super) fn picture_protocol() -> Option<&'static str> {
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        return None;
    }
    protocol::ask_in_passing(PictureChoice::Auto).map(|picker| protocol::name(&picker))
}

pub(super) fn theme() -> Theme {
    // https://no-color.org: any value but the empty one.
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if refused { Theme::Plain } else { Theme::Colour }
}

/// The name on the decisions: as asked for, or the system's user.
pub(super) fn reviewer(name: Option<String>) -> anyhow::Result<Reviewer> {
    let name = name.unwrap_or_else(|| {
        let number = rustix::process::getuid().as_raw();
        let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let user = ["USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
        user.filter(|user| !user.trim().is_empty())
            .or_else(|| account(&accounts, number))
            .unwrap_or_else(|| format!("user {number}"))
    });
    Reviewer::new(&name).map_err(|error| UsageError(format!("{error}; see --reviewer")).into())
}

/// The user with this number in the text of `/etc/passwd`.
fn account(accounts: &str, number: u32) -> Option<String> {
    let mut lines = accounts.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let found = lines.find(|fields| fields.get(2).is_some_and(|id| id.parse() == Ok(number)))?;
    found.first().map(|name| (*name).to_owned())
}

/// Keys, the mouse and window sizes, until the loop is gone. The thread sleeps in a read that
/// nothing can end, so it is left behind when the program ends.
fn listen_to_keys(events: mpsc::Sender<Event>, unanswered_since: Option<std::time::Instant>) {
    std::thread::spawn(move || {
        if let Some(asked) = unanswered_since {
            // A late answer of the terminal must never be taken for keys.
            protocol::drop_late_answer(asked);
        }
        while let Ok(event) = crossterm::event::read() {
            if tui::event_for(&event).is_some_and(|event| events.send(event).is_err()) {
                return;
            }
        }
        // The terminal is gone.
        let _ = events.send(Event::Stop);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_number() {
        let accounts = "root:x:0:0:root:/root:/bin/bash\nana:x:1000:1000::/home/ana:/bin/sh\n";
        assert_eq!(account(accounts, 1000).as_deref(), Some("ana"));
        assert_eq!(account(accounts, 7), None);
    }

    #[test]
    fn a_reviewer_is_who_was_asked_for_and_never_a_trick() {
        assert_eq!(reviewer(Some(" ana ".into())).expect("fine").as_str(), "ana");
        assert!(reviewer(None).is_ok());
        let refused = reviewer(Some("a\u{1b}[2J".into())).expect_err("unprintable");
        assert!(refused.is::<UsageError>());
        assert!(!refused.to_string().contains('\u{1b}'), "{refused}");
    }
}
