//! `modtool watch` from end to end: however a file gets into the folder, it is judged once, whole.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use modtool::moderation::ItemId;
use rustix::process::Signal;
use serde_json::Value;

use crate::support::pictures::{jpeg, meadow, noise, page, png};
use crate::support::workspace::{PATIENCE, Running, Workspace, flagging, json_lines};
use crate::support::{is_long, report, until};

/// Files go in within seconds; a machine under load is slower.
pub const SOON: Duration = Duration::from_mins(1);

/// Waits until exactly these files are judged with exactly these bytes.
pub fn until_judged(workspace: &Workspace, wanted: &BTreeMap<PathBuf, Vec<u8>>) -> Vec<Value> {
    let wanted: BTreeMap<String, String> = wanted
        .iter()
        .map(|(path, bytes)| (path.display().to_string(), ItemId::of_bytes(bytes).to_string()))
        .collect();
    let mut seen = BTreeMap::new();
    let text = |row: &Value, field: &str| row[field].as_str().expect("a text").to_owned();
    let start = std::time::Instant::now();
    until("all files are judged", SOON, || {
        let rows = workspace.verdicts();
        seen = rows.iter().map(|row| (text(row, "path"), text(row, "item"))).collect();
        let late = start.elapsed() + Duration::from_secs(2) > SOON;
        assert!(!late || seen == wanted, "seen {seen:#?}\nwanted {wanted:#?}");
        (seen == wanted).then_some(rows)
    })
}

fn status(workspace: &Workspace) -> (i32, Value) {
    let ran = workspace.run(&["status", "--format", "json"]);
    (ran.code, ran.json_lines().remove(0))
}

#[test]
fn however_a_file_arrives_it_is_judged_whole_and_once() {
    let workspace = Workspace::with_one_policy();
    let mut wanted = BTreeMap::new();
    let early = png(&page(0));
    wanted.insert(workspace.upload("there-before.png", &early), early.clone());
    let mut watcher = Running::watch(&workspace, &["--format", "json"]);
    assert!(listens(&watcher));

    let plain = jpeg(&meadow(1));
    let replaced = workspace.upload("plain.jpg", &plain);
    wanted.insert(replaced.clone(), plain);

    let renamed = png(&page(1));
    let partial = workspace.upload(".upload-1.part", &renamed);
    let place = workspace.uploads().join("renamed-into-place.png");
    fs::rename(&partial, &place).expect("renamed");
    wanted.insert(place, renamed);

    let linked = png(&meadow(2));
    let original = workspace.outside().join("original");
    fs::write(&original, &linked).expect("written");
    let link = workspace.uploads().join("hard-link.png");
    fs::hard_link(&original, &link).expect("linked");
    wanted.insert(link, linked);

    for depth in ["new-folder/first.png", "new-folder/a/b/c/deep.png"] {
        let bytes = png(&noise(depth.len() as u64));
        wanted.insert(workspace.upload(depth, &bytes), bytes);
    }

    let moved = workspace.outside().join("album");
    for (seed, name) in ["one.jpg", "inner/two.jpg", "inner/three.jpg"].into_iter().enumerate() {
        let bytes = jpeg(&noise(10 + seed as u64));
        let path = moved.join(name);
        fs::create_dir_all(path.parent().expect("below the album")).expect("made");
        fs::write(&path, &bytes).expect("written");
        wanted.insert(workspace.uploads().join("album").join(name), bytes);
    }
    fs::rename(&moved, workspace.uploads().join("album")).expect("moved in");

    // Somebody who claims the room first and fills it later.
    let preallocated = png(&meadow(3));
    let path = workspace.uploads().join("preallocated.png");
    let mut file = File::create(&path).expect("made");
    file.set_len(preallocated.len() as u64).expect("grown");
    std::thread::sleep(Duration::from_millis(500));
    file.seek(SeekFrom::Start(0)).expect("rewound");
    file.write_all(&preallocated).expect("written");
    drop(file);
    wanted.insert(path, preallocated);

    // Somebody with a slow line.
    let slow = jpeg(&page(2));
    let path = workspace.uploads().join("slow.jpg");
    let mut file = File::create(&path).expect("made");
    for part in slow.chunks(slow.len() / 5 + 1) {
        file.write_all(part).expect("written");
        std::thread::sleep(Duration::from_millis(500));
    }
    drop(file);
    wanted.insert(path, slow);
    workspace.upload("notes.txt", "no picture");

    let rows = until_judged(&workspace, &wanted);
    for row in &rows {
        assert_eq!(row["reason"], Value::Null, "judged before it was whole: {row}");
        let name = row["path"].as_str().expect("a path");
        let is_page = ["there-before", "renamed", "slow"].iter().any(|page| name.contains(page));
        assert_eq!(flagging(row) == ["documents"], is_page, "{row}");
    }

    // Other bytes on the same path: the old sighting is history.
    let other = png(&page(4));
    fs::write(&replaced, &other).expect("overwritten");
    wanted.insert(replaced.clone(), other);
    until_judged(&workspace, &wanted);

    watcher.signal(Signal::INT);
    assert_eq!(watcher.ended(Duration::from_secs(5)).code(), Some(0), "{}", watcher.err());
    let all = workspace.run(&["export", "verdicts", "--all"]).expect_code(0).json_lines();
    let of_plain: Vec<_> =
        all.iter().filter(|row| row["path"] == replaced.to_str().expect("our name")).collect();
    assert_eq!(of_plain.len(), 2);
    assert!(of_plain[0]["gone_at"].is_string() && of_plain[1]["gone_at"].is_null());
    assert_eq!(all.len(), wanted.len() + 1, "each file was judged once: {all:#?}");
    let printed = json_lines(&watcher.stdout());
    assert_eq!(printed.len(), wanted.len() + 1, "one line a verdict: {}", watcher.err());
    // One that a scan came upon in just that moment may be looked at twice, which changes nothing.
    let judged = watcher.err();
    let judged = judged.split(" judged in").next().and_then(|line| line.rsplit(' ').next());
    let judged: usize = judged.and_then(|count| count.parse().ok()).expect("it says how many");
    assert!(judged > wanted.len(), "{}", watcher.err());
}

/// Whether it asked the kernel for events.
fn listens(watcher: &Running) -> bool {
    let descriptors = format!("/proc/{}/fd", watcher.pid().as_raw_nonzero());
    fs::read_dir(descriptors).expect("it runs").any(|entry| {
        let link = entry.and_then(|entry| fs::read_link(entry.path()));
        link.is_ok_and(|link| link == Path::new("anon_inode:inotify"))
    })
}

/// What else runs on the machine is not driven off its core.
#[cfg(target_os = "linux")]
#[test]
fn a_watcher_computes_in_the_background() {
    /// `SCHED_BATCH`, the 41st field of proc(5)'s `stat`; the second is the name in brackets.
    const BATCH: &str = "3";
    let workspace = Workspace::with_one_policy();
    let mut watcher = Running::watch(&workspace, &[]);
    let bytes = png(&page(1));
    let wanted = BTreeMap::from([(workspace.upload("a.png", &bytes), bytes.clone())]);
    until_judged(&workspace, &wanted);
    let policy_of = |thread: &Path| {
        let stat = fs::read_to_string(thread.join("stat")).ok()?;
        stat.rsplit(')').next()?.split_whitespace().nth(38).map(str::to_owned)
    };
    let folder = format!("/proc/{}/task", watcher.pid().as_raw_nonzero());
    let threads = fs::read_dir(folder).expect("it runs");
    // One that ends meanwhile has none.
    let policies: Vec<String> =
        threads.filter_map(|thread| policy_of(&thread.expect("an entry").path())).collect();
    assert!(policies.len() > 2 && policies.iter().all(|policy| policy == BATCH), "{policies:?}");
    watcher.signal(Signal::TERM);
    assert_eq!(watcher.ended(Duration::from_secs(5)).code(), Some(0), "{}", watcher.err());
}

#[test]
fn polling_finds_files_as_well() {
    for (arguments, settings) in [(["--poll"].as_slice(), ""), (&[], "watch: {poll: true}\n")] {
        let workspace = Workspace::with_one_policy();
        fs::write(workspace.path().join("modtool.yaml"), settings).expect("written");
        let mut watcher = Running::watch(&workspace, arguments);
        assert!(!listens(&watcher), "{arguments:?} {settings}");
        let bytes = png(&page(1));
        let wanted = BTreeMap::from([(workspace.upload("a/b.png", &bytes), bytes.clone())]);
        until_judged(&workspace, &wanted);
        watcher.signal(Signal::TERM);
        assert_eq!(watcher.ended(Duration::from_secs(5)).code(), Some(0), "{}", watcher.err());
    }
}

#[test]
fn status_tells_a_running_watcher_and_a_second_one_is_refused() {
    let workspace = Workspace::with_one_policy();
    let (code, told) = status(&workspace);
    assert_eq!((code, &told["healthy"]), (1, &false.into()), "{told}");

    let mut watcher = Running::watch(&workspace, &[]);
    workspace.upload("page.png", png(&page(1)));
    let told = until("status tells of the verdict", SOON, || {
        let (code, told) = status(&workspace);
        assert_eq!(code, 0, "{told}");
        (told["watchers"][0]["judged"] == 1).then_some(told)
    });
    let of_watcher = &told["watchers"][0];
    assert_eq!(of_watcher["running"], true, "{told}");
    assert_eq!(of_watcher["folder"], workspace.uploads().to_str().expect("our name"));
    assert_eq!(of_watcher["last_error"], Value::Null, "{told}");
    assert!(of_watcher["engine"].as_str().is_some_and(|engine| engine.starts_with("tract")));
    for field in ["lag_seconds", "rate", "waiting", "pid"] {
        assert!(of_watcher[field].is_number(), "{field}: {told}");
    }
    assert_eq!(told["queue"]["open"], 1, "{told}");
    let table = workspace.run(&["status"]).expect_code(0);
    assert!(table.out().contains("running (pid "), "{}", table.out());

    let second = workspace.run(&["watch", "uploads"]).expect_code(2);
    assert!(second.err().contains("another modtool watches"), "{}", second.err());
    // Also under another name.
    let elsewhere = workspace.outside();
    std::os::unix::fs::symlink(workspace.uploads(), elsewhere.join("same")).expect("linked");
    workspace.run(&["watch", "outside/same"]).expect_code(2);

    watcher.signal(Signal::TERM);
    assert_eq!(watcher.ended(Duration::from_secs(5)).code(), Some(0), "{}", watcher.err());
    let (code, told) = status(&workspace);
    assert_eq!((code, &told["watchers"][0]["state"]), (1, &"ended".into()), "{told}");

    let mut watcher = Running::watch(&workspace, &[]);
    until("it runs again", SOON, || (status(&workspace).0 == 0).then_some(()));
    watcher.signal(Signal::KILL);
    assert_eq!(watcher.ended(PATIENCE).code(), None);
    let (code, told) = status(&workspace);
    assert_eq!((code, &told["watchers"][0]["state"]), (1, &"died".into()), "{told}");
}

#[test]
fn who_stops_it_before_the_model_is_ready_does_not_wait_for_the_model() {
    // The prompts of all the starter policies take seconds.
    let workspace = Workspace::new();
    let mut watcher = Running::watch(&workspace, &[]);
    watcher.signal(Signal::INT);
    assert_eq!(watcher.ended(PATIENCE).code(), Some(0), "{}", watcher.err());
    assert!(!watcher.err().contains("ready"), "{}", watcher.err());
}

#[test]
fn a_watcher_makes_the_folder_that_is_not_there_yet() {
    let workspace = Workspace::with_one_policy();
    fs::remove_dir(workspace.uploads()).expect("removed");
    let mut watcher = Running::watch(&workspace, &[]);
    assert!(workspace.uploads().is_dir());
    watcher.signal(Signal::INT);
    assert_eq!(watcher.ended(Duration::from_secs(5)).code(), Some(0), "{}", watcher.err());
}

#[test]
fn log_lines_are_structured_with_one_a_verdict() {
    let workspace = Workspace::with_one_policy();
    let mut wanted = BTreeMap::new();
    let mut watcher = Running::watch(&workspace, &["--log-format", "json"]);
    for seed in 0..5 {
        let bytes = if seed == 0 { png(&page(0)) } else { png(&noise(seed)) };
        wanted.insert(workspace.upload(format!("{seed}.png"), &bytes), bytes);
    }
    until_judged(&workspace, &wanted);
    watcher.signal(Signal::INT);
    watcher.ended(Duration::from_secs(5));
    let lines = json_lines(&watcher.stderr());
    let verdicts: Vec<_> = lines.iter().filter(|line| line["message"] == "verdict").collect();
    assert_eq!(verdicts.len(), wanted.len(), "{lines:#?}");
    for path in wanted.keys() {
        let of_path = |line: &&&Value| line["path"] == path.to_str().expect("our name");
        assert_eq!(verdicts.iter().filter(of_path).count(), 1, "{}", path.display());
    }
    let flagged: Vec<_> = verdicts.iter().filter(|line| line["outcome"] != "allow").collect();
    assert_eq!(flagged.len(), 1);
    assert_eq!(
        (&flagged[0]["policy"], &flagged[0]["level"]),
        (&"documents".into(), &"WARN".into())
    );
    assert!(flagged[0]["score"].is_number() && flagged[0]["prompt"].is_string());
    assert!(lines.iter().all(|line| line["timestamp"].is_string() && line["level"].is_string()));
}

/// The folder is unmounted, renamed, or replaced while it is watched: an alarm, and nothing else.
#[test]
fn a_lost_folder_alarms_deletes_nothing_and_is_watched_again() {
    let workspace = Workspace::with_one_policy();
    let mut wanted = BTreeMap::new();
    let mut watcher = Running::watch(&workspace, &[]);
    let bytes = png(&page(1));
    wanted.insert(workspace.upload("a/first.png", &bytes), bytes);
    let before = until_judged(&workspace, &wanted);
    let away = workspace.outside().join("away");
    fs::rename(workspace.uploads(), &away).expect("renamed");
    until("status tells that it is gone", SOON, || {
        let (code, told) = status(&workspace);
        let error = told["watchers"][0]["last_error"].as_str().unwrap_or_default().to_owned();
        (code == 1 && error.contains("is gone")).then_some(())
    });
    assert_eq!(workspace.verdicts(), before, "nothing is forgotten");
    fs::rename(&away, workspace.uploads()).expect("renamed back");
    let bytes = png(&noise(2));
    wanted.insert(workspace.upload("a/second.png", &bytes), bytes);
    until_judged(&workspace, &wanted);

    // Another folder takes its place, as when something is mounted over it: no event says so.
    fs::rename(workspace.uploads(), &away).expect("renamed");
    fs::create_dir(workspace.uploads()).expect("made");
    until("it says that the folder is another one", SOON, || {
        watcher.err().contains("is another one than before").then_some(())
    });
    let bytes = png(&noise(3));
    wanted.insert(workspace.upload("third.png", &bytes), bytes);
    until_judged(&workspace, &wanted);
    watcher.signal(Signal::TERM);
    assert_eq!(watcher.ended(Duration::from_secs(5)).code(), Some(0), "{}", watcher.err());
    assert!(away.join("a/first.png").is_file() && away.join("a/second.png").is_file());
    let all = workspace.run(&["export", "verdicts", "--all"]).expect_code(0).json_lines();
    assert!(all.iter().all(|row| row.get("gone_at").is_none()), "{all:?}");
}

/// Bytes written over others in the same file, with the same length and time stamps, are a new
/// item: the change of the inode's status can't be set back.
#[test]
fn the_same_inode_written_again_is_a_new_item() {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
    let workspace = Workspace::with_one_policy();
    let mut wanted = BTreeMap::new();
    let mut watcher = Running::watch(&workspace, &[]);
    let [first, mut second] = [png(&noise(1)), png(&page(1))];
    let length = first.len().max(second.len());
    let path = workspace.uploads().join("same.png");
    let mut padded = first;
    padded.resize(length, 0);
    second.resize(length, 0);
    let write = |bytes: &[u8]| {
        let mut file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        file.as_mut().expect("our own file").write_all(bytes).expect("written");
        drop(file);
        let time = Timespec { tv_sec: 1_700_000_000, tv_nsec: 5 };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(CWD, &path, &times, AtFlags::empty()).expect("our own file");
    };
    write(&padded);
    wanted.insert(path.clone(), padded);
    let first = until_judged(&workspace, &wanted);
    assert_eq!(first[0]["outcome"], "allow");
    write(&second);
    wanted.insert(path.clone(), second);
    let second = until_judged(&workspace, &wanted);
    assert_eq!(flagging(&second[0]), ["documents"]);
    watcher.signal(Signal::TERM);
    assert_eq!(watcher.ended(Duration::from_secs(5)).code(), Some(0), "{}", watcher.err());
    let all = workspace.run(&["export", "verdicts", "--all"]).expect_code(0).json_lines();
    assert_eq!(all.len(), 2);
}

/// More events than the kernel keeps, while the watcher stands still: all files are found.
#[test]
fn a_burst_that_overflows_the_kernels_queue_loses_nothing() {
    let files: u64 = if is_long() { 100_000 } else { 6_000 };
    let workspace = Workspace::with_one_policy();
    // Few contents, so that the time goes into finding files and not into the model.
    let contents: Vec<PathBuf> = (0..10)
        .map(|seed| {
            let path = workspace.outside().join(format!("{seed}.png"));
            fs::write(&path, png(&noise(seed))).expect("written");
            path
        })
        .collect();
    let mut watcher = Running::watch(&workspace, &[]);
    watcher.signal(Signal::STOP);
    for (number, content) in (0..files).zip(contents.iter().cycle()) {
        let folder = workspace.uploads().join((number % 16).to_string());
        if number < 16 {
            fs::create_dir(&folder).expect("made");
        }
        // Written, not linked: that is what costs events.
        fs::copy(content, folder.join(format!("{number}.png"))).expect("copied");
    }
    watcher.signal(Signal::CONT);
    let start = std::time::Instant::now();
    let patience = Duration::from_secs(60 + files / 20);
    let mut highest = 0;
    until("all files are judged", patience, || {
        highest = highest.max(resident(watcher.pid()));
        let (_, told) = status(&workspace);
        // Some are judged twice: by the scan, and when their event comes. That changes nothing.
        let judged = told["watchers"][0]["judged"].as_u64().unwrap_or(0);
        (judged >= files && told["watchers"][0]["waiting"] == 0).then_some(())
    });
    report(&format!(
        "burst: {files} files while the watcher stood still, all judged {:.0?} later; {highest} \
         MiB resident at most",
        start.elapsed()
    ));
    let rows = workspace.run(&["export", "verdicts"]).expect_code(0).json_lines();
    assert_eq!(rows.len() as u64, files);
    assert!(highest < 400, "{highest} MiB for a backlog of {files}");
    watcher.signal(Signal::TERM);
    assert_eq!(watcher.ended(Duration::from_secs(5)).code(), Some(0), "{}", watcher.err());
}

/// Resident memory in MiB, see proc(5).
pub fn resident(pid: rustix::process::Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero()));
    let status = status.unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) >> 10
}

pub fn stray_files(workspace: &Path) -> Vec<PathBuf> {
    let known = ["modtool.db", "modtool.db-wal", "modtool.db-shm", "policies", "locks"];
    let entries = fs::read_dir(workspace).expect("the workspace");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.filter(|path| !known.iter().any(|name| path.ends_with(name))).collect()
}
