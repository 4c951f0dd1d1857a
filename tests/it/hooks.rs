//! Hooks against a real program and a real HTTP server that fails, hangs and recovers.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use modtool::moderation::{Action, AuditKind, QueueFilter, Timestamp};
use modtool::pipeline::{Acting, Actor, Hook, Target, now};
use modtool::store::{Delivery, Store, Subscription};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;
use sha2::Sha256;
use tempfile::TempDir;

use crate::support::fixtures::{Judges, decision, reviewer};
use crate::support::pictures::{jpeg, page, receipt};
use crate::support::terminal::Terminal;
use crate::support::until;
use crate::support::workspace::{PATIENCE, Running, Workspace};

const SOON: Duration = Duration::from_mins(1);

/// What one request was.
#[derive(Debug)]
struct Request {
    head: String,
    body: String,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines();
        let mut fields = lines.filter_map(|line| line.split_once(": "));
        fields.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// What the server does with a request.
#[derive(Debug, Clone, Copy)]
enum Answer {
    Status(u16),
    Hang,
}

/// Answers requests as told, the last answer for ever; hands every request on.
fn server(answers: &[Answer]) -> (String, Receiver<Request>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
    let (out, requests) = channel();
    let answers = answers.to_vec();
    std::thread::spawn(move || {
        for (index, stream) in listener.incoming().enumerate() {
            let Ok(stream) = stream else { return };
            let answer = answers[index.min(answers.len() - 1)];
            let out = out.clone();
            std::thread::spawn(move || serve(stream, answer, &out));
        }
    });
    (url, requests)
}

fn serve(mut stream: TcpStream, answer: Answer, out: &std::sync::mpsc::Sender<Request>) {
    let mut reader = BufReader::new(stream.try_clone().expect("cloned"));
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return;
        }
    }
    let mut request = Request { head, body: String::new() };
    let length = request.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("the body");
    request.body = String::from_utf8(body).expect("UTF-8");
    let _ = out.send(request);
    match answer {
        Answer::Status(status) => {
            let _ = write!(stream, "HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n");
        }
        Answer::Hang => std::thread::sleep(Duration::from_secs(20)),
    }
}

struct Bench {
    dir: TempDir,
    store: Arc<Store>,
    judges: Judges,
}

impl Bench {
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let store = Arc::new(Store::open(&dir.path().join("modtool.db")).await.expect("opens"));
        let judges = Judges::two(&store).await;
        Self { dir, store, judges }
    }

    fn start(&self, hook: Hook) -> Acting {
        let quarantine = self.dir.path().join("quarantine");
        Actor::new(Arc::clone(&self.store), Arc::default(), quarantine, vec![hook]).start()
    }

    async fn until_known(&self, hook: &str) {
        until_async("the hook is known", async || {
            let counts = self.store.hook_counts().await.expect("read");
            counts.iter().any(|known| known.name == hook)
        })
        .await;
    }

    async fn decide(&self, name: &str, bytes: &[u8]) {
        self.judges.record(&self.store, self.judges.judged(name, bytes, &[0.7, 0.1]), 1).await;
        let queue = self.store.queue(&QueueFilter::default(), None, 10).await.expect("read");
        let decided = decision(&queue[0], Action::Approve, "ana", 2);
        self.store.record_decision(&decided).await.expect("decided");
    }
}

async fn until_async(what: &str, mut ask: impl AsyncFnMut() -> bool) {
    let start = std::time::Instant::now();
    while !ask().await {
        assert!(start.elapsed() < SOON, "{what}: not in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn webhook(url: &str, attempts: u32) -> Hook {
    Hook {
        name: "site".into(),
        kinds: vec![AuditKind::Decision],
        target: Target::Webhook { url: url.to_owned(), secret: Some(b"key".to_vec()) },
        timeout: Duration::from_millis(700),
        attempts,
        pause: Duration::from_millis(20),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_told_until_it_listens_with_one_key_and_a_signature() {
    let (url, requests) =
        server(&[Answer::Status(503), Answer::Hang, Answer::Status(302), Answer::Status(204)]);
    let bench = Bench::new().await;
    bench.decide("before.png", b"before").await;
    let acting = bench.start(webhook(&url, 10));
    bench.until_known("site").await;
    bench.decide("a.png", b"a").await;
    let told: Vec<Request> = tokio::task::block_in_place(|| {
        (0..4).map(|_| requests.recv_timeout(SOON).expect("it is told")).collect()
    });
    for request in &told {
        let event: Value = serde_json::from_str(&request.body).expect("JSON");
        assert_eq!((&event["event"], &event["actor"]), (&"decision".into(), &"ana".into()));
        assert_eq!(event["path"], "/uploads/a.png", "what was before the hook is not told");
        assert_eq!(event["detail"]["action"], "approve");
        assert_eq!(event["id"].as_str(), request.header("idempotency-key"));
        let mut mac = Hmac::<Sha256>::new_from_slice(b"key").expect("a key");
        mac.update(request.body.as_bytes());
        let sealed = mac.finalize().into_bytes();
        let hex = sealed.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        assert_eq!(request.header("x-modtool-signature"), Some(format!("sha256={hex}").as_str()));
        assert!(request.head.starts_with("POST /hook HTTP/1.1"), "{}", request.head);
        assert_eq!(request.body, told[0].body);
    }
    until_async("it is delivered", async || {
        bench.store.hook_counts().await.expect("read")[0].waiting == 0
    })
    .await;
    // Nothing more comes, and the next event has another key.
    bench.decide("b.png", b"b").await;
    let next = tokio::task::block_in_place(|| requests.recv_timeout(SOON)).expect("told");
    assert_ne!(next.header("idempotency-key"), told[0].header("idempotency-key"));
    acting.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_up_is_seen_and_can_be_tried_again() {
    let (url, requests) = server(&[Answer::Status(500)]);
    let bench = Bench::new().await;
    let acting = bench.start(webhook(&url, 3));
    bench.until_known("site").await;
    bench.decide("a.png", b"a").await;
    until_async("it is given up", async || {
        bench.store.hook_counts().await.expect("read")[0].dead == 1
    })
    .await;
    assert_eq!(requests.try_iter().count(), 3);
    let counts = bench.store.hook_counts().await.expect("read");
    assert!(counts[0].problem.as_ref().is_some_and(|why| why.contains("500")), "{counts:?}");
    assert_eq!(bench.store.revive_deliveries("site", now()).await.expect("written"), 1);
    tokio::task::block_in_place(|| requests.recv_timeout(SOON)).expect("tried again");
    acting.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_gets_the_event_on_standard_input_and_no_shell_sees_it() {
    let bench = Bench::new().await;
    let out = bench.dir.path().join("told");
    // The file name is data for everyone on the way.
    let name = "$(touch pwned);\n.png";
    let mut hook = webhook("", 3);
    let tee = ["tee", "-a", out.to_str().expect("UTF-8")];
    hook.target = Target::Command(tee.map(ToOwned::to_owned).to_vec());
    let acting = bench.start(hook);
    bench.until_known("site").await;
    bench.decide(name, b"a").await;
    let told = tokio::task::block_in_place(|| {
        until("the command ran", SOON, || {
            fs::read_to_string(&out).ok().filter(|text| text.ends_with('\n'))
        })
    });
    let event: Value = serde_json::from_str(&told).expect("one JSON object");
    assert_eq!(event["path"], format!("/uploads/{name}"));
    acting.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_fails_or_hangs_is_ended_and_its_words_are_kept() {
    let bench = Bench::new().await;
    let mut hook = webhook("", 1);
    let failing = ["sh", "-c", "echo no such host >&2; exit 3"];
    hook.target = Target::Command(failing.map(ToOwned::to_owned).to_vec());
    let acting = bench.start(hook);
    bench.until_known("site").await;
    bench.decide("a.png", b"a").await;
    let dead = async || bench.store.hook_counts().await.expect("read")[0].dead == 1;
    until_async("it is given up", dead).await;
    let why = bench.store.hook_counts().await.expect("read")[0].problem.clone();
    assert!(why.as_ref().is_some_and(|why| why.contains("no such host")), "{why:?}");
    acting.end().await;

    let mut hook = webhook("", 1);
    hook.name = "hanging".into();
    hook.target = Target::Command(["sleep", "60"].map(ToOwned::to_owned).to_vec());
    let acting = bench.start(hook);
    bench.until_known("hanging").await;
    bench.decide("b.png", b"b").await;
    until_async("it is ended", async || {
        bench.store.hook_counts().await.expect("read").iter().any(|hook| {
            hook.name == "hanging" && hook.problem.as_ref().is_some_and(|w| w.contains("longer"))
        })
    })
    .await;
    acting.end().await;
}

fn command(words: &[&str]) -> Hook {
    let words = words.iter().map(ToString::to_string).collect();
    Hook { target: Target::Command(words), ..webhook("", 2) }
}

fn pid_in(file: &Path) -> Pid {
    until("the number of a process is written", SOON, || {
        let text = fs::read_to_string(file).ok().filter(|text| text.ends_with('\n'))?;
        Pid::from_raw(text.trim().parse().expect("a number"))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_ends_well_is_told_whatever_it_leaves_behind() {
    let bench = Bench::new().await;
    let (started, left) = (bench.dir.path().join("started"), bench.dir.path().join("left"));
    // The child keeps standard input and standard error open, and reads nothing.
    let script = format!(
        "echo x >> {}; sleep 300 <&0 & echo $! > {}; exit 0",
        started.display(),
        left.display()
    );
    let acting = bench.start(command(&["sh", "-c", &script]));
    bench.until_known("site").await;
    // More than a pipe holds, so that writing it all never ends.
    bench.judges.record(&bench.store, bench.judges.judged("a.png", b"a", &[0.7, 0.1]), 1).await;
    let queue = bench.store.queue(&QueueFilter::default(), None, 10).await.expect("read");
    let mut decided = decision(&queue[0], Action::Approve, "ana", 2);
    decided.note = Some("n".repeat(200_000));
    bench.store.record_decision(&decided).await.expect("decided");
    let pid = tokio::task::block_in_place(|| pid_in(&left));
    until_async("it is delivered", async || {
        let counts = bench.store.hook_counts().await.expect("read");
        (counts[0].waiting, counts[0].dead) == (0, 0)
    })
    .await;
    assert_eq!(fs::read_to_string(&started).expect("written"), "x\n", "started once");
    test_kill_process(pid).expect("what it left behind is its own business");
    kill_process(pid, Signal::KILL).expect("ours");
    acting.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_takes_too_long_is_ended_with_all_that_it_started() {
    let bench = Bench::new().await;
    let started = bench.dir.path().join("started");
    let script = format!("sleep 300 & echo $! > {}; wait", started.display());
    let acting = bench.start(Hook { attempts: 1, ..command(&["sh", "-c", &script]) });
    bench.until_known("site").await;
    bench.decide("a.png", b"a").await;
    let pid = tokio::task::block_in_place(|| pid_in(&started));
    until_async("it is given up", async || {
        bench.store.hook_counts().await.expect("read")[0].dead == 1
    })
    .await;
    until_async("its child is gone", async || test_kill_process(pid).is_err()).await;
    acting.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_words_of_a_failure_are_kept_though_a_child_could_say_more() {
    let bench = Bench::new().await;
    let left = bench.dir.path().join("left");
    let script = format!("sleep 300 & echo $! > {}; echo no such room >&2; exit 3", left.display());
    let acting = bench.start(Hook { attempts: 1, ..command(&["sh", "-c", &script]) });
    bench.until_known("site").await;
    bench.decide("a.png", b"a").await;
    until_async("it is given up", async || {
        bench.store.hook_counts().await.expect("read")[0].dead == 1
    })
    .await;
    let why = bench.store.hook_counts().await.expect("read")[0].problem.clone();
    assert!(why.as_ref().is_some_and(|why| why.contains("no such room")), "{why:?}");
    kill_process(tokio::task::block_in_place(|| pid_in(&left)), Signal::KILL).expect("ours");
    acting.end().await;
}

/// Takes all that is due, and answers it by hook.
async fn told(store: &Store, hooks: &[Subscription], at: i64) -> BTreeMap<String, Vec<i64>> {
    let mut told: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for hook in hooks {
        let (now, until) = (Timestamp(at), Timestamp(i64::MAX));
        let taken = store.take_deliveries(&hook.name, now, until, 1000).await.expect("taken");
        for Delivery { sequence, .. } in &taken {
            told.entry(hook.name.clone()).or_default().push(*sequence);
        }
        for delivery in &taken {
            store.record_delivered(delivery).await.expect("written");
        }
    }
    told
}

#[tokio::test]
async fn leases_hide_no_event_from_any_hook() {
    let bench = Bench::new().await;
    let subscription = |name: &str, kinds: &[AuditKind]| Subscription {
        name: name.to_owned(),
        kinds: kinds.to_vec(),
    };
    let mut hooks = vec![
        subscription("all", &[AuditKind::Verdict, AuditKind::Decision, AuditKind::Undo]),
        subscription("decisions", &[AuditKind::Decision]),
    ];
    let store = &bench.store;
    store.fill_hooks(&hooks, Timestamp(0)).await.expect("filled");
    let mut heard: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    let mut wanted: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    let mut seen = 0;
    for round in 1..=30 {
        let name = format!("{round}.png");
        let judged = bench.judges.judged(&name, name.as_bytes(), &[0.7, 0.1]);
        bench.judges.record(store, judged, round).await;
        let queue = store.queue(&QueueFilter::default(), None, 10).await.expect("read");
        // As a dashboard does: a lease each time a task comes on the screen.
        for _ in 0..3 {
            let lease = store.lease(queue[0].id, &reviewer("ana"), Timestamp(round)).await;
            assert!(lease.expect("leased").is_some());
            store.release(queue[0].id, &reviewer("ana")).await.expect("released");
        }
        if round == 15 {
            // A hook that is new begins with what happens from now on.
            hooks.push(subscription("late", &[AuditKind::Decision]));
            store.fill_hooks(&hooks, Timestamp(round)).await.expect("filled");
        }
        let decided = decision(&queue[0], Action::Approve, "ana", round);
        store.record_decision(&decided).await.expect("decided");
        // Not after every round: a run may be away for a while.
        if round % 3 != 2 {
            store.fill_hooks(&hooks, Timestamp(round)).await.expect("filled");
        }
        for (hook, events) in told(store, &hooks, round).await {
            heard.entry(hook).or_default().extend(events);
        }
        for row in store.audit_events(seen, 1000).await.expect("read") {
            seen = row.sequence;
            for hook in &hooks {
                if hook.kinds.contains(&row.event.kind) {
                    wanted.entry(hook.name.clone()).or_default().push(row.sequence);
                }
            }
        }
    }
    assert_eq!(heard, wanted, "each event once, in order");
    assert_eq!(heard["late"].len(), 16);
    assert!(store.change_counter().await.expect("read") >= 90 + 60, "leases were taken");
}

/// The events that a command wrote to a file, one a line, by number.
fn sequences(file: &Path, kind: &str) -> Vec<i64> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let whole = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let of_kind = whole.filter(|event| event["event"] == kind);
    let mut sequences: Vec<_> = of_kind.filter_map(|event| event["sequence"].as_i64()).collect();
    sequences.sort_unstable();
    sequences.dedup();
    sequences
}

#[test]
fn decisions_in_a_real_dashboard_reach_every_hook() {
    let workspace = Workspace::with_one_policy();
    let outside = workspace.outside();
    let (decisions, all) = (outside.join("decisions"), outside.join("all"));
    let hook = |name: &str, on: &str, file: &Path| {
        let append = format!("cat >> {}", file.display());
        format!("- {{name: {name}, on: [{on}], command: [/bin/sh, -c, '{append}']}}\n")
    };
    let hooks = hook("decisions", "decision", &decisions) + &hook("all", "decision, verdict", &all);
    fs::write(workspace.path().join("modtool.yaml"), format!("hooks:\n{hooks}")).expect("written");
    for seed in 1..=3 {
        workspace.upload(format!("page-{seed}.jpg"), jpeg(&page(seed)));
        workspace.upload(format!("receipt-{seed}.jpg"), jpeg(&receipt(seed)));
    }
    let _watcher = Running::watch(&workspace, &[]);
    let mut terminal = Terminal::start(&workspace.command(&["review", "--reviewer", "ana"]));
    let audited = |kind: &str| {
        let ran =
            workspace.run(&["audit", "list", "-n", "1000", "--kind", kind, "--format", "json"]);
        let rows = ran.expect_code(0).json_lines();
        let mut rows: Vec<_> = rows.iter().filter_map(|row| row["sequence"].as_i64()).collect();
        rows.sort_unstable();
        rows
    };
    // One by one, so that each is written after the lease of the next task was taken.
    for count in 1..=3 {
        terminal.shows(&format!("decided today {}", count - 1));
        terminal.shows("1 of ");
        terminal.press("a");
        terminal.shows(&format!("decided today {count}"));
    }
    terminal.press("u");
    terminal.shows("decided today 2");
    terminal.press("q");
    assert_eq!(terminal.ended(), 0);
    let wanted = audited("decision");
    assert!(wanted.len() >= 3, "{wanted:?}");
    for file in [&decisions, &all] {
        until("every decision is told", PATIENCE, || {
            (sequences(file, "decision") == wanted).then_some(())
        });
        assert_eq!(sequences(file, "undo"), audited("undo"));
    }
    // Later verdicts and decisions are told as well, by the watcher alone.
    workspace.upload("late.jpg", jpeg(&page(9)));
    let verdicts =
        until("it is judged", PATIENCE, || Some(audited("verdict")).filter(|rows| rows.len() == 7));
    until("every verdict is told", PATIENCE, || {
        (sequences(&all, "verdict") == verdicts).then_some(())
    });
}

#[test]
fn a_secret_that_signs_nothing_is_refused_before_anything_is_judged() {
    let workspace = Workspace::with_one_policy();
    workspace.upload("page.jpg", jpeg(&page(1)));
    let secret = workspace.path().join("hook.secret");
    let settings = "hooks: [{name: site, on: [verdict], webhook: 'http://127.0.0.1:9/', \
                    secret_file: hook.secret}]\n";
    fs::write(workspace.path().join("modtool.yaml"), settings).expect("written");
    for content in [None, Some("".as_bytes()), Some(b"\n"), Some(b" \r\n")] {
        if let Some(content) = content {
            fs::write(&secret, content).expect("written");
        }
        let ran = workspace.scan().expect_code(78);
        assert!(ran.err().contains("hook.secret: hook site: "), "{}", ran.err());
        assert!(ran.out().is_empty() && workspace.verdicts().is_empty());
        let doctor = workspace.run(&["doctor"]).expect_code(1);
        assert!(doctor.out().contains("hook.secret"), "{}", doctor.out());
    }
    fs::write(&secret, "short\n").expect("written");
    let ran = workspace.scan().expect_code(1);
    assert!(ran.err().contains("can be guessed"), "{}", ran.err());
}
