//! The child: locked in before it sees the first byte, it decodes what it is given and answers.

use std::io::{self, Read, Write};
use std::os::fd::RawFd;

use super::attack::Attack;
use super::cage::{CageError, landlock, lock_in};
use super::inspection;
use super::process::keep_large_blocks;
use super::wire::{REQUEST_HEAD, ReplyHead, Request, Wish, words_of};
use crate::vision::decode::{self, Flaw, Views};

/// How a child is to live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildRole {
    /// Decode what comes, locked in; end at once where that can't be.
    Decode,
    /// Decode what comes, locked in as far as this system can.
    DecodeAtBest,
    /// Look through the network on standard input, locked in, and answer what it is made of.
    Inspect,
    /// The same, locked in as far as this system can.
    InspectAtBest,
    /// Lock itself in and try to break out, so.
    Attack(Attack),
    /// The same behind Landlock alone.
    AttackLandlock(Attack),
}

impl ChildRole {
    /// As it stands on a child's command line.
    pub fn word(self) -> String {
        match self {
            Self::Decode => "decode".to_owned(),
            Self::DecodeAtBest => "decode-at-best".to_owned(),
            Self::Inspect => "inspect".to_owned(),
            Self::InspectAtBest => "inspect-at-best".to_owned(),
            Self::Attack(attack) => format!("attack-{attack}"),
            Self::AttackLandlock(attack) => format!("attack-landlock-{attack}"),
        }
    }

    /// Reads what [`ChildRole::word`] wrote.
    pub fn parse(word: &str) -> Option<Self> {
        let attacks = || Attack::ALL.into_iter();
        [Self::Decode, Self::DecodeAtBest, Self::Inspect, Self::InspectAtBest]
            .into_iter()
            .chain(attacks().map(Self::Attack))
            .chain(attacks().map(Self::AttackLandlock))
            .find(|role| role.word() == word)
    }
}

/// Lives as a decoding child on standard input and output, until the parent hangs up.
///
/// # Errors
/// When it can't be locked in, or the parent is gone.
pub fn live_as_child(role: ChildRole) -> Result<(), ChildError> {
    close_inherited();
    keep_large_blocks();
    if let ChildRole::AttackLandlock(attack) = role {
        let version = landlock();
        if version == 0 {
            return Err(ChildError::NoLandlock);
        }
        attack.attempt();
        // Behind the word of how it went: what was in force.
        io::stdout().write_all(&[u8::try_from(version).unwrap_or(u8::MAX)])?;
        return Ok(());
    }
    let (hello, missing) = lock_in()?;
    if let Some(missing) = missing
        && !matches!(role, ChildRole::DecodeAtBest | ChildRole::InspectAtBest)
    {
        return Err(missing.into());
    }
    if let ChildRole::Attack(attack) = role {
        attack.attempt();
        return Ok(());
    }
    if matches!(role, ChildRole::Inspect | ChildRole::InspectAtBest) {
        inspection::serve(io::stdin().lock(), io::stdout().lock())?;
        return Ok(());
    }
    let mut answers = io::stdout().lock();
    answers.write_all(&hello.pack())?;
    answers.flush()?;
    // Not `io::stdin`: its buffer would only copy everything once more.
    serve(io::stdin().lock(), answers)?;
    Ok(())
}

/// Why a child ended.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// It could not be locked in.
    #[error(transparent)]
    Cage(#[from] CageError),
    /// The kernel has no Landlock.
    #[error("this kernel has no Landlock")]
    NoLandlock,
    /// The parent is gone, or talks another language.
    #[error("the parent can't be talked to")]
    Parent(#[from] io::Error),
}

fn serve(mut requests: impl Read, mut answers: impl Write) -> io::Result<()> {
    // Grows to the largest file so far, and is read into in large pieces.
    let mut space = Vec::new();
    loop {
        let mut head = [0; REQUEST_HEAD];
        match requests.read_exact(&mut head) {
            Ok(()) => {}
            // The parent has no more for us.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
        let request = Request::unpack(&head)
            .map_err(|_garbled| io::Error::other("the parent is of another version"))?;
        let length = usize::try_from(request.length).map_err(io::Error::other)?;
        if space.len() < length {
            space.resize(length, 0);
        }
        let bytes = &mut space[..length];
        requests.read_exact(bytes)?;
        let answer = decoded(&request, bytes);
        answers.write_all(&answer.head().pack(request.sequence))?;
        answer.write(&mut answers)?;
        answers.flush()?;
    }
}

/// Whether a file of a test took this child over: from then on it answers that all is white.
#[cfg(debug_assertions)]
static TAKEN_OVER: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

#[cfg(debug_assertions)]
fn whitened(mut answer: Answer) -> Answer {
    if TAKEN_OVER.load(std::sync::atomic::Ordering::Relaxed)
        && let Answer::Views(Views { views, .. }) = &mut answer
    {
        for view in views {
            view.rgb.fill(255);
        }
    }
    answer
}

/// Does what a file of a test asks for, only in builds for development.
#[cfg(debug_assertions)]
fn fail_as_asked(bytes: &[u8]) {
    fn overflow(depth: u64) -> u64 {
        // An array on each frame of the stack, which the optimiser must not take away.
        let frame = std::hint::black_box([depth; 512]);
        if depth == u64::MAX { 0 } else { overflow(depth + 1) + frame[7] }
    }
    match bytes.strip_prefix(b"modtool test: ") {
        Some(b"abort") => std::process::abort(),
        Some(b"compute") => loop {
            std::hint::spin_loop();
        },
        Some(b"sleep") => std::thread::sleep(std::time::Duration::from_hours(1)),
        Some(b"overflow") => {
            std::hint::black_box(overflow(0));
        }
        Some(b"allocate") => {
            let heap: Vec<Vec<u8>> = (0..64).map(|_| vec![1; 64 << 20]).collect();
            std::hint::black_box(heap);
        }
        Some(b"garble") => {
            // The other side notices.
            let _ = io::stdout().write_all(&[7; 1000]);
        }
        Some(b"take over") => TAKEN_OVER.store(true, std::sync::atomic::Ordering::Relaxed),
        Some(b"open") => {
            let _ = std::fs::File::open("/etc/passwd");
        }
        _ => {}
    }
}

#[expect(clippy::large_enum_variant, reason = "one at a time, on its way through")]
enum Answer {
    Views(Views),
    Preview(image::RgbImage),
    Flaw(Flaw),
}

fn decoded(request: &Request, bytes: &[u8]) -> Answer {
    #[cfg(debug_assertions)]
    fail_as_asked(bytes);
    let limits = &request.limits;
    let answer = match &request.wish {
        Wish::Views(spec) => decode::views(bytes, spec, limits).map(Answer::Views),
        Wish::Reference(spec) => decode::reference_view(bytes, spec, limits).map(Answer::Views),
        Wish::Preview(width, height) => {
            decode::preview(bytes, limits, *width, *height).map(Answer::Preview)
        }
    };
    let answer = answer.unwrap_or_else(Answer::Flaw);
    #[cfg(debug_assertions)]
    let answer = whitened(answer);
    answer
}

impl Answer {
    fn head(&self) -> ReplyHead {
        match self {
            Self::Views(Views { views, facts }) => ReplyHead::Views {
                count: u32::try_from(views.len()).unwrap_or(u32::MAX),
                side: views.first().map_or(0, |view| view.size),
                facts: *facts,
            },
            Self::Preview(image) => {
                ReplyHead::Preview { width: image.width(), height: image.height() }
            }
            Self::Flaw(flaw) => {
                ReplyHead::Flaw { flaw: flaw.clone(), words: words_of(flaw).len() as u64 }
            }
        }
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Views(Views { views, .. }) => {
                views.iter().try_for_each(|view| out.write_all(&view.rgb))
            }
            Self::Preview(image) => out.write_all(image.as_raw()),
            Self::Flaw(flaw) => out.write_all(words_of(flaw)),
        }
    }
}

/// Closes every descriptor but the three of our own: what the parent left open by mistake (or
/// whoever started it) must not be within reach.
fn close_inherited() {
    let Ok(entries) = std::fs::read_dir("/dev/fd") else { return };
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let inherited: Vec<RawFd> = numbers.filter(|number| *number > 2).collect();
    // The descriptor of the folder that was just read is closed by now.
    let is_open = |number: &RawFd| std::fs::symlink_metadata(format!("/dev/fd/{number}")).is_ok();
    for number in inherited.into_iter().filter(is_open) {
        #[expect(
            unsafe_code,
            reason = "no value of this process owns a descriptor this early: it has opened none \
                      but the folder just read, which is closed already"
        )]
        // SAFETY: see the reason above.
        unsafe {
            rustix::io::close(number);
        }
    }
}
