//! Hooks against a real program and a real HTTP server that fails, hangs and recovers.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use modtool::moderation::{Action, AuditKind, QueueFilter};
use modtool::pipeline::{Acting, Actor, Hook, Target, now};
use modtool::store::Store;
use serde_json::Value;
use sha2::Sha256;
use tempfile::TempDir;

use crate::support::fixtures::{Judges, decision};
use crate::support::until;

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
