//! Tells other programs what happened: a command gets the event on standard input, a webhook by
//! HTTP POST. At least once, in order of the events as far as the receiver keeps up, with the same
//! idempotency key at every try.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use rustix::process::{Pid, Signal, kill_process_group};
use sha2::Sha256;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStderr, ChildStdin, Command};
use tracing::{debug, error, warn};

use crate::moderation::escape::escape;
use crate::moderation::{AuditKind, Timestamp};
use crate::store::{Delivery, Store, StoreError, Subscription};

use super::{POLL, chain, now};

/// Deliveries that are taken in one go.
const BATCH: u32 = 16;
/// Of what a command says about a failure, so much is kept.
const MOST_SAID: u64 = 2000;
/// After a failure its last words are waited for so long.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// One program that wants to hear of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// Its name; what it was told is kept under it.
    pub name: String,
    /// Which kinds of events.
    pub kinds: Vec<AuditKind>,
    /// How it is told.
    pub target: Target,
    /// It must be done within so long.
    pub timeout: Duration,
    /// After so many tries an event is given up.
    pub attempts: u32,
    /// Between the first and the second try; doubled each time.
    pub pause: Duration,
}

/// How a hook is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Program and arguments, without a shell; the event is its standard input. Told when it ends
    /// with 0, whatever it leaves behind; one that takes too long is killed with all it started.
    Command(Vec<String>),
    /// An HTTP POST of the event.
    Webhook {
        /// Where to.
        url: String,
        /// Signs the body, if there is one.
        secret: Option<Vec<u8>>,
    },
}

impl Hook {
    pub(super) fn subscription(&self) -> Subscription {
        Subscription { name: self.name.clone(), kinds: self.kinds.clone() }
    }

    /// Delivers for as long as it is polled.
    pub(super) async fn run(self, store: Arc<Store>) {
        let mut ticks = tokio::time::interval(POLL);
        loop {
            ticks.tick().await;
            // A backlog is worked off without waiting for the next tick.
            loop {
                match self.deliver_some(&store).await {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) => {
                        warn!(hook = self.name, %error, "can't read what to tell");
                        break;
                    }
                }
            }
        }
    }

    /// Answers how many deliveries were tried.
    async fn deliver_some(&self, store: &Store) -> Result<usize, StoreError> {
        let timeout = i64::try_from(self.timeout.as_millis()).unwrap_or(i64::MAX / 4);
        // Longer than all of them can take, so that no other process tells the same meanwhile.
        let until = Timestamp(now().0 + (timeout + 1000) * (i64::from(BATCH) + 1));
        let taken = store.take_deliveries(&self.name, now(), until, BATCH).await?;
        for delivery in &taken {
            match self.tell(delivery).await {
                Ok(()) => {
                    debug!(hook = self.name, sequence = delivery.sequence, "told");
                    store.record_delivered(delivery).await?;
                }
                Err(why) => self.failed(store, delivery, &why).await?,
            }
        }
        Ok(taken.len())
    }

    async fn failed(
        &self,
        store: &Store,
        delivery: &Delivery,
        why: &str,
    ) -> Result<(), StoreError> {
        let (hook, sequence) = (&self.name, delivery.sequence);
        if delivery.attempts + 1 >= self.attempts {
            error!(hook, sequence, why, "given up; `modtool hooks retry` tries again");
            return store.record_not_delivered(delivery, why, None).await;
        }
        let pause = self.pause.saturating_mul(1 << delivery.attempts.min(16));
        let pause = pause.min(Duration::from_mins(10));
        warn!(hook, sequence, why, again_in_seconds = pause.as_secs(), "can't be told");
        let again_at = now().0 + i64::try_from(pause.as_millis()).unwrap_or(600_000);
        store.record_not_delivered(delivery, why, Some(Timestamp(again_at))).await
    }

    async fn tell(&self, delivery: &Delivery) -> Result<(), String> {
        match &self.target {
            Target::Command(words) => self.run_command(words, delivery).await,
            Target::Webhook { url, secret } => {
                let (url, secret) = (url.clone(), secret.clone());
                let (delivery, timeout) = (delivery.clone(), self.timeout);
                let post = move || post(&url, secret.as_deref(), &delivery, timeout);
                match tokio::task::spawn_blocking(post).await {
                    Ok(told) => told,
                    Err(panicked) => Err(format!("a defect of modtool: {panicked}")),
                }
            }
        }
    }

    async fn run_command(&self, words: &[String], delivery: &Delivery) -> Result<(), String> {
        let Some((program, arguments)) = words.split_first() else {
            return Err("the command is empty".into());
        };
        let mut child = Command::new(program)
            .args(arguments)
            .env("MODTOOL_IDEMPOTENCY_KEY", &delivery.key)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // A group of its own, so that all of it can be ended.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("can't start {program}: {error}"))?;
        let group = KilledGroup::of(&child);
        let ended = tokio::time::timeout(self.timeout, converse(&mut child, &delivery.body)).await;
        if ended.is_ok() {
            // What it leaves behind is its own business.
            group.spare();
        }
        match ended {
            Err(_) => Err(format!("{program} took longer than {:?}", self.timeout)),
            Ok(Err(error)) => Err(format!("{program}: {error}")),
            Ok(Ok((status, _))) if status.success() => Ok(()),
            Ok(Ok((status, said))) => {
                let said = escape(said.trim_ascii());
                Err(format!("{program} ended with {status}: {said}"))
            }
        }
    }
}

/// Hands a command its input and reads what it says until it ends. Only its own end counts:
/// children that it leaves behind may keep the pipes open for as long as they like. Answers how it
/// ended and the beginning of what it said, which is waited for only after a failure.
async fn converse(child: &mut Child, body: &str) -> io::Result<(ExitStatus, Vec<u8>)> {
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let mut said = Vec::new();
    let status = {
        let talk = async {
            tokio::join!(feed(stdin, body), listen(stderr, &mut said));
        };
        tokio::pin!(talk);
        let (status, silent) = tokio::select! {
            // Polled first, so that nobody who talks on holds up the end.
            biased;
            status = child.wait() => (status?, false),
            () = &mut talk => (child.wait().await?, true),
        };
        if !silent && !status.success() {
            // Its last words may be in the pipe still.
            let _ = tokio::time::timeout(LAST_WORDS, talk).await;
        }
        status
    };
    Ok((status, said))
}

/// A program that does not read its input may be content all the same.
async fn feed(stdin: Option<ChildStdin>, body: &str) {
    let Some(mut stdin) = stdin else { return };
    let _ = stdin.write_all(body.as_bytes()).await;
    let _ = stdin.write_all(b"\n").await;
}

/// Keeps the beginning; the rest is read away, so that the program is not stopped by a full pipe.
async fn listen(stderr: Option<ChildStderr>, said: &mut Vec<u8>) {
    let Some(mut stderr) = stderr else { return };
    let _ = (&mut stderr).take(MOST_SAID).read_to_end(said).await;
    let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
}

/// Kills a command with all that it started, unless it ended by itself.
struct KilledGroup(Option<Pid>);

impl KilledGroup {
    /// The command must lead a process group.
    fn of(child: &Child) -> Self {
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        Self(pid.and_then(Pid::from_raw))
    }

    fn spare(mut self) {
        self.0 = None;
    }
}

impl Drop for KilledGroup {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may be gone already.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// 2xx is success; redirects are not followed, because a body with a signature goes only where it
/// was meant to go.
fn post(
    url: &str,
    secret: Option<&[u8]>,
    delivery: &Delivery,
    timeout: Duration,
) -> Result<(), String> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(timeout))
        .max_redirects(0)
        .http_status_as_error(false)
        .user_agent(concat!("modtool/", env!("CARGO_PKG_VERSION")))
        .build()
        .into();
    let mut request = agent
        .post(url)
        .header("Content-Type", "application/json")
        .header("Idempotency-Key", &delivery.key);
    if let Some(secret) = secret {
        let signature = signature(secret, delivery.body.as_bytes());
        request = request.header("X-Modtool-Signature", format!("sha256={signature}"));
    }
    let answer = request.send(&delivery.body).map_err(|error| chain(&error))?;
    let status = answer.status();
    if status.is_success() { Ok(()) } else { Err(format!("the server answered {status}")) }
}

/// HMAC-SHA256 of the body, hexadecimal (RFC 2104).
fn signature(secret: &[u8], body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.update(body);
    let sealed = mac.finalize().into_bytes();
    sealed.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_signed_as_the_standard_says() {
        // RFC 4231, test case 2.
        assert_eq!(
            signature(b"Jefe", b"what do ya want for nothing?"),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
