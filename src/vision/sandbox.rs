//! Decoding in a cage: no byte of an upload is parsed in a process that holds the database, the
//! network, keys or the terminal.
//!
//! A [`DecoderPool`] keeps children of the same binary, which are locked in before they see a
//! byte (see `cage`). A child is given a file's bytes through a pipe and answers pixels at the
//! model's size, or why there are none; the answer's size is known before it is read, and
//! everything in it is checked. A child that crashes, hangs or is killed costs one attempt of one
//! file and nothing else. A child that was taken over without a sign could still answer what it
//! likes: so it sees the files of one uploader only, and can whiten nobody else's.

mod attack;
mod cage;
mod child;
mod idle;
mod inspection;
mod process;
mod wire;

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use image::RgbImage;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit};
use tracing::{error, warn};

use super::decode::{self, Crash, Flaw, Limits, Lost, Views};
use super::preprocess::{ImageSpec, Pixels};
use crate::moderation::Uploader;
use idle::Idle;
use wire::{HELLO, Hello, REPLY_HEAD, ReplyHead, Request, Wish};

pub use attack::Attack;
pub use cage::CageError;
pub use child::{ChildError, ChildRole, live_as_child};
pub use inspection::InspectError;
pub(super) use inspection::inspect_in_child;
pub(super) use process::LargeBlocksGoBack;
pub use process::{compute_in_background, is_open_for_writing, use_idle_disk};

/// The hidden subcommand that a child is started with, followed by its role.
pub const CHILD_SUBCOMMAND: &str = "__decode";

/// A file is given up after so many children were lost on it.
pub const ATTEMPTS: u32 = 3;

/// The most address space of a child, in bytes.
pub const ADDRESS_SPACE: u64 = 3 << 29;

/// The longest that a child may take to lock itself in, on a machine under load.
const START: Duration = Duration::from_secs(20);

/// A child is replaced after so many files, so that nothing that one left behind lives long.
const FILES_A_CHILD: u32 = 256;

/// Pipes of this size save most of the switching between us and a child.
const PIPE: usize = 1 << 20;

/// How the decoder is to be locked in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxMode {
    /// With everything, or nothing is decoded.
    Required,
    /// In children with whatever this system has.
    BestEffort,
    /// Not at all: in this process.
    Off,
}

impl SandboxMode {
    /// The words of `modtool.yaml`.
    pub const WORDS: [&str; 3] = ["required", "best-effort", "off"];

    /// What holds where nothing was set: everything, on the system that has it.
    pub fn usual() -> Self {
        if cfg!(target_os = "linux") { Self::Required } else { Self::BestEffort }
    }

    /// Reads one of [`SandboxMode::WORDS`].
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "required" => Some(Self::Required),
            "best-effort" => Some(Self::BestEffort),
            "off" => Some(Self::Off),
            _ => None,
        }
    }
}

/// Why nothing can be decoded; no fault of a file.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// There is no child.
    #[error("can't start a decoder")]
    Start(#[source] io::Error),
    /// A child does not get as far as to be ready.
    #[error("a decoder does not start: {0}")]
    NotReady(String),
    /// A child can't be locked in.
    #[error(
        "the decoder can't be locked in: {0}; `sandbox: best-effort` in modtool.yaml does with \
         what this system has"
    )]
    NotLocked(String),
    /// The self-test got out.
    #[error(
        "the decoder's cage does not hold: {} got through from inside; `sandbox: best-effort` in \
         modtool.yaml goes on all the same",
        listed(.0)
    )]
    BrokenCage(Vec<Attack>),
    /// [`DecoderPool::call_off`] was called.
    #[error("decoding was called off")]
    CalledOff,
}

fn listed(attacks: &[Attack]) -> String {
    attacks.iter().map(|attack| attack.as_str()).collect::<Vec<_>>().join(", ")
}

/// What the self-test found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cage {
    /// Ways out that the filter of system calls stopped.
    pub stopped: Vec<Attack>,
    /// Ways out that are open.
    pub open: Vec<Attack>,
    /// Version of Landlock that is in force; 0: this kernel has none.
    pub landlock: u32,
}

impl fmt::Display for Cage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = Attack::ALL.len();
        write!(f, "{} of {all} ways out are shut", self.stopped.len())?;
        if !self.open.is_empty() {
            write!(f, " (open: {})", listed(&self.open))?;
        }
        match self.landlock {
            0 => f.write_str("; this kernel has no Landlock"),
            version => write!(f, "; Landlock {version}"),
        }
    }
}

/// Children that decode; as many as there are callers at once, and each for one uploader.
pub struct DecoderPool {
    starter: Arc<Starter>,
    limits: Limits,
    cage: Cage,
    idle: Idle,
}

/// How children are started, from any thread.
struct Starter {
    program: PathBuf,
    mode: SandboxMode,
    called_off: AtomicBool,
}

impl fmt::Debug for DecoderPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecoderPool").field("mode", &self.starter.mode).finish_non_exhaustive()
    }
}

/// How the binary that runs now can be started again, even when its file was replaced since.
pub fn ourselves() -> io::Result<PathBuf> {
    let link = Path::new("/proc/self/exe");
    if link.exists() { Ok(link.to_owned()) } else { std::env::current_exe() }
}

impl DecoderPool {
    /// Tries from inside a cage to get out of it, and refuses to go on where that succeeds and
    /// the mode is [`SandboxMode::Required`]. `program` is this binary ([`ourselves`]).
    ///
    /// # Errors
    /// [`SandboxError`] saying what is missing.
    pub fn start(program: &Path, mode: SandboxMode, limits: Limits) -> Result<Self, SandboxError> {
        let cage = match mode {
            SandboxMode::Off => {
                warn!(
                    "`sandbox: off`: uploads are decoded in this process, which an attack could take over"
                );
                Cage::default()
            }
            SandboxMode::BestEffort => {
                let cage = try_out(program).unwrap_or_else(|why| {
                    warn!(error = %why, "the decoder's cage could not be tried out");
                    Cage { open: Attack::ALL.to_vec(), ..Cage::default() }
                });
                if !cage.open.is_empty() {
                    warn!(
                        open = listed(&cage.open),
                        "the decoder is not locked in well on this system"
                    );
                }
                cage
            }
            SandboxMode::Required => {
                let cage = try_out(program)?;
                if !cage.open.is_empty() {
                    return Err(SandboxError::BrokenCage(cage.open));
                }
                cage
            }
        };
        let called_off = AtomicBool::new(false);
        let starter = Arc::new(Starter { program: program.to_owned(), mode, called_off });
        let idle = Idle::new(Arc::clone(&starter));
        Ok(Self { starter, limits, cage, idle })
    }

    /// What the self-test found.
    pub fn cage(&self) -> &Cage {
        &self.cage
    }

    /// What a file may cost.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The views that policies score, see [`decode::views`]; or why the file has none. The child
    /// that decodes it never sees another uploader's file.
    ///
    /// # Errors
    /// [`SandboxError`] when no decoder can be had: that says nothing about the file.
    pub fn views(
        &self,
        bytes: &[u8],
        spec: &ImageSpec,
        uploader: &Uploader,
    ) -> Result<Result<Views, Flaw>, SandboxError> {
        if self.starter.mode == SandboxMode::Off {
            return Ok(decode::views(bytes, spec, &self.limits));
        }
        Ok(self.decode(Wish::Views(spec.clone()), bytes, uploader)?.map(Answer::views))
    }

    /// The one view of the reference implementation, see [`decode::reference_view`].
    ///
    /// # Errors
    /// As [`DecoderPool::views`].
    pub fn reference_view(
        &self,
        bytes: &[u8],
        spec: &ImageSpec,
        uploader: &Uploader,
    ) -> Result<Result<Views, Flaw>, SandboxError> {
        if self.starter.mode == SandboxMode::Off {
            return Ok(decode::reference_view(bytes, spec, &self.limits));
        }
        Ok(self.decode(Wish::Reference(spec.clone()), bytes, uploader)?.map(Answer::views))
    }

    /// A picture for people, see [`decode::preview`].
    ///
    /// # Errors
    /// As [`DecoderPool::views`].
    pub fn preview(
        &self,
        bytes: &[u8],
        max_width: u32,
        max_height: u32,
        uploader: &Uploader,
    ) -> Result<Result<RgbImage, Flaw>, SandboxError> {
        if self.starter.mode == SandboxMode::Off {
            return Ok(decode::preview(bytes, &self.limits, max_width, max_height));
        }
        let wish = Wish::Preview(max_width.max(1), max_height.max(1));
        Ok(self.decode(wish, bytes, uploader)?.map(Answer::preview))
    }

    /// Ends what is being decoded, for good: every call answers [`SandboxError::CalledOff`].
    pub fn call_off(&self) {
        self.starter.called_off.store(true, Ordering::Relaxed);
        self.idle.clear();
    }

    /// Whether [`DecoderPool::call_off`] was called.
    pub fn is_called_off(&self) -> bool {
        self.starter.called_off.load(Ordering::Relaxed)
    }

    fn decode(
        &self,
        wish: Wish,
        bytes: &[u8],
        uploader: &Uploader,
    ) -> Result<Result<Answer, Flaw>, SandboxError> {
        let (length, limit) = (bytes.len() as u64, self.limits.file_bytes);
        if length > limit {
            return Ok(Err(Flaw::TooManyBytes { bytes: length, limit }));
        }
        let mut request = Request { sequence: 0, wish, limits: self.limits.clone(), length };
        let mut attempts = 0;
        loop {
            let idle = self.idle.take(uploader);
            let mut decoder = idle.map_or_else(|| self.starter.decoder(), Ok)?;
            match decoder.answer(&mut request, bytes, &self.starter.called_off) {
                Ok(answer) => {
                    if decoder.files < FILES_A_CHILD {
                        self.idle.put_back(uploader, decoder);
                    }
                    return Ok(answer);
                }
                Err(Trouble::CalledOff) => return Err(SandboxError::CalledOff),
                Err(Trouble::Lost(how)) => {
                    attempts += 1;
                    if how == Lost::BrokeRules {
                        error!(
                            "a decoder tried what no decoder may do, and was stopped: perhaps an attack"
                        );
                    }
                    if attempts == ATTEMPTS {
                        return Ok(Err(Flaw::Crashed(Crash { attempts, how })));
                    }
                }
            }
        }
    }

    /// The most memory that a child that waits now ever used, in bytes; `None` when none waits.
    pub fn peak_memory(&self) -> Option<u64> {
        let peak = |decoder: &Decoder| {
            let status = std::fs::read_to_string(format!("/proc/{}/status", decoder.child.id()));
            let status = status.ok()?;
            // Resident memory at its highest, see proc(5).
            let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
            Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? << 10)
        };
        self.idle.most(peak)
    }
}

impl Starter {
    /// A child that is ready and has seen no file.
    fn decoder(&self) -> Result<Decoder, SandboxError> {
        let role = match self.mode {
            SandboxMode::Required => ChildRole::Decode,
            SandboxMode::BestEffort | SandboxMode::Off => ChildRole::DecodeAtBest,
        };
        let mut decoder = Decoder::start(&self.program, role).map_err(SandboxError::Start)?;
        let hello = decoder.hello(&self.called_off).map_err(|trouble| match trouble {
            Trouble::CalledOff => SandboxError::CalledOff,
            Trouble::Lost(how) => SandboxError::NotReady(how.to_string()),
        })?;
        if role == ChildRole::Decode && cfg!(target_os = "linux") && !hello.seccomp {
            return Err(SandboxError::NotLocked("it says so itself".to_owned()));
        }
        Ok(decoder)
    }
}

/// A child that is ready for a file.
struct Decoder {
    child: Child,
    requests: ChildStdin,
    answers: ChildStdout,
    /// So many were decoded.
    files: u32,
    /// Time at work since its limit on computing was last raised.
    busy: Duration,
}

/// What stops an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// The child is of no use any more.
    Lost(Lost),
    /// Nobody wants the answer any more.
    CalledOff,
}

/// What a child answers.
#[expect(clippy::large_enum_variant, reason = "one at a time, on its way through")]
enum Answer {
    Views(Views),
    Preview(RgbImage),
}

impl Answer {
    /// The head was checked against the wish, so that it is never the other kind.
    fn views(self) -> Views {
        match self {
            Self::Views(views) => views,
            Self::Preview(_) => unreachable!("the answer's kind was checked"),
        }
    }

    fn preview(self) -> RgbImage {
        match self {
            Self::Preview(image) => image,
            Self::Views(_) => unreachable!("the answer's kind was checked"),
        }
    }
}

impl Decoder {
    fn start(program: &Path, role: ChildRole) -> io::Result<Self> {
        let mut child = command(program, role).stderr(Stdio::null()).spawn()?;
        let (Some(requests), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("a child without pipes"));
        };
        for pipe in [requests.as_fd(), answers.as_fd()] {
            rustix::io::ioctl_fionbio(pipe, true)?;
            #[cfg(target_os = "linux")]
            {
                // A smaller pipe is only slower.
                let _ = rustix::pipe::fcntl_setpipe_size(pipe, PIPE);
            }
        }
        Ok(Self { child, requests, answers, files: 0, busy: Duration::ZERO })
    }

    fn hello(&mut self, called_off: &AtomicBool) -> Result<Hello, Trouble> {
        let mut bytes = [0; HELLO];
        let waiting = Waiting { patience: START, until: Instant::now() + START, called_off };
        self.receive(&mut bytes, &waiting)?;
        Hello::unpack(&bytes).map_err(|wire::Garbled| Trouble::Lost(Lost::Garbled))
    }

    /// One file there, one answer back.
    fn answer(
        &mut self,
        request: &mut Request,
        bytes: &[u8],
        called_off: &AtomicBool,
    ) -> Result<Result<Answer, Flaw>, Trouble> {
        self.allow_computing(request.limits.computing_seconds);
        let start = Instant::now();
        self.files += 1;
        request.sequence = self.files.into();
        let wall = Duration::from_secs(request.limits.wall_seconds);
        let waiting = Waiting { patience: wall, until: start + wall, called_off };
        self.send(&request.pack(), &waiting)?;
        self.send(bytes, &waiting)?;
        let mut head = [0; REPLY_HEAD];
        self.receive(&mut head, &waiting)?;
        let head = ReplyHead::unpack(&head, request)
            .map_err(|wire::Garbled| Trouble::Lost(Lost::Garbled))?;
        let answer = self.rest(head, &waiting)?;
        self.busy += start.elapsed();
        Ok(answer)
    }

    fn rest(
        &mut self,
        head: ReplyHead,
        waiting: &Waiting<'_>,
    ) -> Result<Result<Answer, Flaw>, Trouble> {
        let length = usize::try_from(head.length()).unwrap_or(usize::MAX);
        Ok(match head {
            ReplyHead::Views { count, side, facts } => {
                let mut views = Vec::with_capacity(count as usize);
                for _ in 0..count {
                    let mut rgb = vec![0; length / count as usize];
                    self.receive(&mut rgb, waiting)?;
                    views.push(Pixels { size: side, rgb });
                }
                Ok(Answer::Views(Views { views, facts }))
            }
            ReplyHead::Preview { width, height } => {
                let mut rgb = vec![0; length];
                self.receive(&mut rgb, waiting)?;
                let image = RgbImage::from_raw(width, height, rgb);
                Ok(Answer::Preview(image.ok_or(Trouble::Lost(Lost::Garbled))?))
            }
            ReplyHead::Flaw { flaw, .. } => {
                let mut words = vec![0; length];
                self.receive(&mut words, waiting)?;
                Err(wire::with_words(flaw, &words))
            }
        })
    }

    fn send(&mut self, mut bytes: &[u8], waiting: &Waiting<'_>) -> Result<(), Trouble> {
        while !bytes.is_empty() {
            match rustix::io::write(&self.requests, bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(Errno::AGAIN) => waiting.on(&self.requests, PollFlags::OUT)?,
                Err(Errno::INTR) => {}
                Err(_) => return Err(self.lost()),
            }
        }
        Ok(())
    }

    fn receive(&mut self, mut space: &mut [u8], waiting: &Waiting<'_>) -> Result<(), Trouble> {
        while !space.is_empty() {
            match rustix::io::read(&self.answers, &mut *space) {
                Ok(0) => return Err(self.lost()),
                Ok(count) => space = &mut space[count..],
                Err(Errno::AGAIN) => waiting.on(&self.answers, PollFlags::IN)?,
                Err(Errno::INTR) => {}
                Err(_) => return Err(self.lost()),
            }
        }
        Ok(())
    }

    /// It has closed its pipes: says how it ended.
    fn lost(&mut self) -> Trouble {
        let status = ended_within(&mut self.child, Duration::from_secs(1));
        Trouble::Lost(match status.map(|status| (status.signal(), status.code())) {
            Some((Some(SIGXCPU), _)) => Lost::ComputedTooLong,
            Some((Some(SIGSYS), _)) => Lost::BrokeRules,
            Some((Some(signal), _)) => Lost::Signal(signal),
            Some((None, code)) => Lost::Ended(code.unwrap_or(-1)),
            None => Lost::Garbled,
        })
    }

    /// Gives the next file its seconds. What the child has used is asked for only when it can
    /// have used a second since it was last asked for.
    #[cfg(target_os = "linux")]
    fn allow_computing(&mut self, seconds: u64) {
        if self.files > 0 && self.busy < Duration::from_secs(1) {
            return;
        }
        self.busy = Duration::ZERO;
        let (Some(pid), Some(used)) = (pid_of(&self.child), seconds_used(&self.child)) else {
            return;
        };
        let maximum = rustix::process::getrlimit(Resource::Cpu).maximum;
        let current = Some(used + seconds);
        // A child that is gone shows when it is written to.
        let _ = rustix::process::prlimit(Some(pid), Resource::Cpu, Rlimit { current, maximum });
    }

    /// Elsewhere the limit can't be raised from outside: a child has its seconds once.
    #[cfg(not(target_os = "linux"))]
    fn allow_computing(&mut self, _seconds: u64) {
        if self.busy > Duration::from_secs(1) {
            self.files = FILES_A_CHILD;
        }
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        // It may have ended long ago.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const SIGXCPU: i32 = rustix::process::Signal::XCPU.as_raw();
const SIGSYS: i32 = rustix::process::Signal::SYS.as_raw();

/// How long an exchange may take, and who may end it.
struct Waiting<'a> {
    patience: Duration,
    until: Instant,
    called_off: &'a AtomicBool,
}

impl Waiting<'_> {
    /// Until the pipe is ready.
    fn on(&self, pipe: &impl AsFd, flags: PollFlags) -> Result<(), Trouble> {
        loop {
            if self.called_off.load(Ordering::Relaxed) {
                return Err(Trouble::CalledOff);
            }
            let left = self.until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Trouble::Lost(Lost::TimedOut(self.patience.as_secs())));
            }
            // In short steps, so that it can be called off.
            let step = left.min(Duration::from_millis(100));
            let timeout = Timespec::try_from(step).ok();
            match poll(&mut [PollFd::new(pipe, flags)], timeout.as_ref()) {
                Ok(0) | Err(Errno::INTR) => {}
                // What is wrong with the pipe shows when it is used.
                Ok(_) | Err(_) => return Ok(()),
            }
        }
    }
}

/// Nothing of ours reaches a child: no variable, no folder, no terminal, not its signals.
fn command(program: &Path, role: ChildRole) -> Command {
    let mut command = Command::new(program);
    command
        .arg(CHILD_SUBCOMMAND)
        .arg(role.word())
        .env_clear()
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    command
}

fn pid_of(child: &Child) -> Option<Pid> {
    Pid::from_raw(i32::try_from(child.id()).ok()?)
}

/// Seconds of computing so far, rounded up: `utime` and `stime` of proc(5), in hundredths.
#[cfg(target_os = "linux")]
fn seconds_used(child: &Child) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).ok()?;
    // The second field is the name in brackets, which may hold anything.
    let mut fields = stat.rsplit(')').next()?.split_whitespace().skip(11);
    let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(ticks.div_ceil(100))
}

fn ended_within(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let start = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if start.elapsed() < patience => thread::sleep(Duration::from_millis(1)),
            Ok(None) | Err(_) => return None,
        }
    }
}

/// Tries every way out, each in a child of its own, all at once.
fn try_out(program: &Path) -> Result<Cage, SandboxError> {
    let start = |role| command(program, role).stderr(Stdio::piped()).spawn();
    let behind_filter: Vec<(Attack, io::Result<Child>)> =
        Attack::ALL.into_iter().map(|attack| (attack, start(ChildRole::Attack(attack)))).collect();
    let behind_landlock = start(ChildRole::AttackLandlock(Attack::Open));
    let mut cage = Cage::default();
    for (attack, child) in behind_filter {
        let (status, _, words) = outcome(child.map_err(SandboxError::Start)?)?;
        match (status.signal(), status.code()) {
            (Some(SIGSYS), _) => cage.stopped.push(attack),
            // Not even locked in.
            (None, Some(code)) if code != 0 => return Err(SandboxError::NotLocked(words)),
            _ => cage.open.push(attack),
        }
    }
    let (_, said, _) = outcome(behind_landlock.map_err(SandboxError::Start)?)?;
    if said.starts_with(attack::REFUSED) {
        cage.landlock = said.get(attack::REFUSED.len()).copied().unwrap_or(0).into();
    }
    Ok(cage)
}

/// How a child of the self-test ended, what it answered and what it complained of.
fn outcome(mut child: Child) -> Result<(ExitStatus, Vec<u8>, String), SandboxError> {
    if ended_within(&mut child, START).is_none() {
        // It may just have ended.
        let _ = child.kill();
        let _ = child.wait();
        return Err(SandboxError::NotReady("the self-test did not end in time".to_owned()));
    }
    // What it says is less than a pipe holds.
    let output = child.wait_with_output().map_err(SandboxError::Start)?;
    let words = String::from_utf8_lossy(&output.stderr);
    let words = words.trim().trim_start_matches("modtool: ").chars().filter(|c| !c.is_control());
    Ok((output.status, output.stdout, words.take(300).collect()))
}
