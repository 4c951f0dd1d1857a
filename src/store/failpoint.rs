//! Where a test ends the process: just before and just after every commit.
//!
//! Only in builds for development. `MODTOOL_FAIL_AT=before:3` ends the process as a kill would,
//! before its third commit; `after:3` just behind it.

/// An edge of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Edge {
    Before,
    After,
}

/// Ends the process when this is the edge that a test asked for.
#[cfg(debug_assertions)]
pub(super) fn pass(edge: Edge) {
    use std::sync::atomic::{AtomicU64, Ordering};
    static BEFORE: AtomicU64 = AtomicU64::new(0);
    static AFTER: AtomicU64 = AtomicU64::new(0);
    let Ok(asked) = std::env::var("MODTOOL_FAIL_AT") else { return };
    let (name, counter) = match edge {
        Edge::Before => ("before", &BEFORE),
        Edge::After => ("after", &AFTER),
    };
    let passed = counter.fetch_add(1, Ordering::Relaxed) + 1;
    if asked == format!("{name}:{passed}") {
        std::process::abort();
    }
}

#[cfg(not(debug_assertions))]
pub(super) fn pass(_edge: Edge) {}
