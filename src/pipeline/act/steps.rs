//! Where a test stops or ends the process in the middle of a move: behind every step that another
//! process could see.
//!
//! Only in builds for development. `MODTOOL_STOP_AT=taken` stops the process (as Ctrl-Z does) the
//! first time that it comes behind this step; `MODTOOL_END_AT=taken` ends it there as a kill would.

/// The steps, in their order; of a removal the first five, of a restore the others.
pub const STEPS: [&str; 8] =
    ["locked", "copied", "begun", "taken", "unlinked", "returned", "forgotten", "recorded"];

/// Stops or ends the process when this is the step that a test asked for.
#[cfg(debug_assertions)]
pub(super) fn pass(step: &'static str) {
    use rustix::process::{Signal, getpid, kill_process};
    use std::sync::atomic::{AtomicBool, Ordering};
    static STOPPED: AtomicBool = AtomicBool::new(false);
    debug_assert!(STEPS.contains(&step), "an unknown step");
    let asked = |variable: &str| std::env::var(variable).is_ok_and(|asked| asked == step);
    if asked("MODTOOL_END_AT") {
        std::process::abort();
    }
    if asked("MODTOOL_STOP_AT") && !STOPPED.swap(true, Ordering::Relaxed) {
        // Nothing to do about a process that can't be stopped: the test sees it.
        let _ = kill_process(getpid(), Signal::STOP);
    }
}

#[cfg(not(debug_assertions))]
pub(super) fn pass(_step: &'static str) {}
