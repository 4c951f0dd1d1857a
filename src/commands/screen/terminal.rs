//! Takes the terminal over and gives it back: at the end, after a panic, and around Ctrl-Z.

use std::io::{self, Write as _};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossterm::cursor::Show;
use crossterm::event::{
    DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture,
};
use crossterm::execute;
use crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use rustix::process::{Signal, getpid, kill_process};
use tokio::signal::unix::{SignalKind, signal};

/// Whether the dashboard is on the screen right now.
static OURS: AtomicBool = AtomicBool::new(false);
/// Whether a dashboard is open at all, on the screen or stopped by Ctrl-Z.
static OPEN: AtomicBool = AtomicBool::new(false);
static HOOK: Once = Once::new();

/// The terminal is ours as long as this lives.
#[derive(Debug)]
pub(in crate::commands) struct Screen(());

impl Screen {
    /// Raw mode, the other screen, the mouse, and pasted text in brackets.
    pub(in crate::commands) fn enter() -> io::Result<Self> {
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                // A message on the other screen would vanish with it. A decoder's panic is
                // caught elsewhere and is no reason to leave: only the loop's own thread is.
                if std::thread::current().name() == Some("main") {
                    leave();
                    before(panic);
                } else if !OURS.load(Ordering::SeqCst) {
                    before(panic);
                }
            }));
        });
        OPEN.store(true, Ordering::SeqCst);
        // Whatever goes wrong halfway is undone when this is dropped.
        let screen = Self(());
        enter()?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        OPEN.store(false, Ordering::SeqCst);
        leave();
    }
}

fn enter() -> io::Result<()> {
    OURS.store(true, Ordering::SeqCst);
    enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen, EnableMouseCapture, EnableBracketedPaste)
}

/// Gives the terminal back; doing it twice does no harm. There is nobody to tell when it fails.
fn leave() {
    if !OURS.swap(false, Ordering::SeqCst) {
        return;
    }
    let _ = execute!(
        io::stdout(),
        DisableBracketedPaste,
        DisableMouseCapture,
        LeaveAlternateScreen,
        Show
    );
    let _ = disable_raw_mode();
    let _ = io::stdout().flush();
}

/// Ctrl-Z: the terminal goes back to the shell, we stop, and go on when the shell says so.
pub(in crate::commands) fn suspend() {
    leave();
    if kill_process(getpid(), Signal::TSTP).is_ok() {
        // Another thread may be the one that takes the signal: we are stopped during this pause.
        // Where nothing can stop us (no job control), we simply go on after it.
        std::thread::sleep(Duration::from_millis(100));
    }
    take_over_again();
}

/// After a stop, ours or not: the shell has changed the terminal in the meantime.
pub(in crate::commands) fn take_over_again() {
    if OPEN.load(Ordering::SeqCst) {
        // Raw mode is remembered as being on, though the shell may have switched it off.
        let _ = disable_raw_mode();
        // If it fails, the next draw fails too and is reported.
        let _ = enter();
    }
}

/// Ends cleanly on request (`stop`); takes the terminal over again after a stop that we did not
/// ask for (`resumed`). Both answer whether anyone still listens. Must be called within the
/// runtime.
pub(in crate::commands) fn listen_to_signals(
    stop: impl Fn() -> bool + Clone + Send + 'static,
    resumed: impl Fn() -> bool + Send + 'static,
) -> io::Result<()> {
    for kind in [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()] {
        let (mut signal, stop) = (signal(kind)?, stop.clone());
        tokio::spawn(async move { while signal.recv().await.is_some() && stop() {} });
    }
    let mut continued = signal(SignalKind::from_raw(Signal::CONT.as_raw()))?;
    tokio::spawn(async move {
        while continued.recv().await.is_some() {
            // After our own Ctrl-Z this is done twice, which does no harm.
            tokio::time::sleep(Duration::from_millis(100)).await;
            take_over_again();
            if !resumed() {
                return;
            }
        }
    });
    Ok(())
}
