//! Hours at four fifths of what the machine can do: nothing grows that should not.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::pictures::{noise, png};
use crate::support::terminal::Terminal;
use crate::support::workspace::{Running, Workspace};
use crate::support::{report, until};
use crate::watch::{SOON, resident};

/// `MODTOOL_SOAK_SECONDS`, or a minute's fraction for each change.
fn length() -> Duration {
    let asked = std::env::var("MODTOOL_SOAK_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(asked.unwrap_or(15))
}

fn descriptors(pid: rustix::process::Pid) -> usize {
    fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero())).expect("it runs").count()
}

#[test]
fn a_watcher_under_load_neither_grows_nor_leaks() {
    let workspace = Workspace::with_one_policy();
    let mut watcher = Running::watch(&workspace, &[]);
    // A dashboard looks on all the time.
    let mut dashboard = Terminal::start(&workspace.command(&["review", "--reviewer", "ana"]));
    dashboard.shows("queue 0");
    let judged = || {
        let told = workspace.run(&["status", "--format", "json"]).json_lines().remove(0);
        told["watchers"][0]["judged"].as_u64().unwrap_or(0)
    };
    let mut number = 0_u64;
    let mut upload = |count: u64| {
        for _ in 0..count {
            workspace.upload(format!("{}/{number}.png", number % 50), png(&noise(number)));
            number += 1;
        }
        number
    };
    // What the machine can do, and everything warm.
    let start = Instant::now();
    let first = upload(100);
    until("the first are judged", SOON, || (judged() == first).then_some(()));
    let pause = start.elapsed().mul_f64(1.25 / 100.0);
    let (memory, open) = (resident(watcher.pid()), descriptors(watcher.pid()));

    let (start, mut highest, mut journal) = (Instant::now(), memory, 0);
    let mut all = first;
    while start.elapsed() < length() {
        all = upload(10);
        std::thread::sleep(pause * 10);
        highest = highest.max(resident(watcher.pid()));
        let size =
            fs::metadata(workspace.path().join("modtool.db-wal")).map_or(0, |meta| meta.len());
        journal = journal.max(size);
    }
    until("all are judged", SOON, || (judged() == all).then_some(()));
    let (memory_after, open_after) = (resident(watcher.pid()), descriptors(watcher.pid()));
    report(&format!(
        "soak: {} s, {all} files; {memory} MiB resident at the start, {memory_after} at the end, \
         {highest} at most; {open} and {open_after} descriptors; {} MiB of journal at most",
        start.elapsed().as_secs(),
        journal >> 20
    ));
    assert!(journal <= 64 << 20, "{journal} bytes of journal");
    assert!(open_after <= open + 8, "{open} descriptors became {open_after}");
    assert!(memory_after <= memory + 40, "{memory} MiB became {memory_after}");
    dashboard.press("q");
    assert_eq!(dashboard.ended(), 0);
    watcher.signal(Signal::TERM);
    assert_eq!(watcher.ended(Duration::from_secs(5)).code(), Some(0), "{}", watcher.err());
}
