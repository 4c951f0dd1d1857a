//! A network that somebody else made is looked through in a child that is locked in like a decoder,
//! before an engine of this process gets it.
//!
//! The child reads the network from its standard input, a descriptor that can only be read, and
//! answers lines of bounded length: what is fed, what comes out, which files hold weights, and at
//! last `ok`, or why the network is refused. Nothing of it is believed that can't be.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;

use super::{ChildRole, SandboxMode, Trouble, Waiting, command, ended_within};
use crate::moderation::escape::{escape, escape_path, is_unprintable};
use crate::vision::model::inspect::{Inspected, inspect};
use crate::vision::model::onnx::Tensor;

/// A network of gigabytes is read from a slow disk within this.
const PATIENCE: Duration = Duration::from_mins(5);

/// More than any answer has.
const MOST_ANSWER: usize = 8 << 20;

/// Why a network is not loaded.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// Something is in it that must not be, or is not in it that must.
    #[error("{} is not loaded: {why}", escape_path(.path))]
    Refused {
        /// The network.
        path: PathBuf,
        /// What.
        why: String,
    },
    /// The child did not come to an end of it.
    #[error(
        "{} is not loaded: the process that looked through it {how}", escape_path(.path)
    )]
    Lost {
        /// The network.
        path: PathBuf,
        /// What became of the child.
        how: String,
    },
    /// It can't be read.
    #[error("can't read {}", escape_path(.path))]
    Read {
        /// The network.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no child.
    #[error("can't start the process that looks through networks")]
    Start(#[source] io::Error),
}

/// Looks through a network in a child; `program` is this binary.
///
/// # Errors
/// [`InspectError`].
pub(in crate::vision) fn inspect_in_child(
    program: &Path,
    mode: SandboxMode,
    path: &Path,
) -> Result<Inspected, InspectError> {
    let file =
        File::open(path).map_err(|source| InspectError::Read { path: path.to_owned(), source })?;
    let refused = |why| InspectError::Refused { path: path.to_owned(), why };
    let role = match mode {
        SandboxMode::Required => ChildRole::Inspect,
        SandboxMode::BestEffort => ChildRole::InspectAtBest,
        SandboxMode::Off => return inspect(file).map_err(refused),
    };
    let lost = |how: String| InspectError::Lost { path: path.to_owned(), how };
    let mut child = command(program, role)
        .stdin(Stdio::from(file))
        .stderr(Stdio::null())
        .spawn()
        .map_err(InspectError::Start)?;
    let answer = child.stdout.take().map(|pipe| read_to_end(&pipe));
    // It has closed its end, or is of no use any more.
    let status = ended_within(&mut child, Duration::from_secs(1));
    let _ = child.kill();
    let _ = child.wait();
    let answer = match answer {
        Some(Ok(answer)) => answer,
        Some(Err(how)) => return Err(lost(how)),
        None => return Err(lost("has no pipe".to_owned())),
    };
    match parse(&answer) {
        Some(verdict) => verdict.map_err(refused),
        None => Err(lost(match status {
            Some(status) => format!("ended with {status}"),
            None => "answered what is no answer".to_owned(),
        })),
    }
}

/// The child's part: reads a network and answers.
pub(super) fn serve(network: impl Read, mut answers: impl Write) -> io::Result<()> {
    answers.write_all(written(&inspect(network)).as_bytes())?;
    answers.flush()
}

fn read_to_end(pipe: &std::process::ChildStdout) -> Result<Vec<u8>, String> {
    rustix::io::ioctl_fionbio(pipe, true).map_err(|errno| errno.to_string())?;
    let called_off = AtomicBool::new(false);
    let until = Instant::now() + PATIENCE;
    let waiting = Waiting { patience: PATIENCE, until, called_off: &called_off };
    let (mut answer, mut block) = (Vec::new(), [0; 1 << 14]);
    loop {
        match rustix::io::read(pipe, &mut block) {
            Ok(0) => return Ok(answer),
            Ok(count) if answer.len() + count > MOST_ANSWER => {
                return Err("answered too much".to_owned());
            }
            Ok(count) => answer.extend_from_slice(&block[..count]),
            Err(Errno::AGAIN) => {
                waiting.on(pipe, PollFlags::IN).map_err(|trouble| match trouble {
                    Trouble::Lost(how) => how.to_string(),
                    Trouble::CalledOff => "was called off".to_owned(),
                })?;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.to_string()),
        }
    }
}

/// One line each; names hold no line end and no tab, because such names are refused.
fn written(verdict: &Result<Inspected, String>) -> String {
    let mut text = String::new();
    match verdict {
        Err(why) => {
            let _ = writeln!(text, "refused\t{}", escape(why.as_bytes()));
        }
        Ok(found) => {
            for (word, values) in [("input", &found.inputs), ("output", &found.outputs)] {
                for value in values {
                    let sides = value.shape.iter();
                    let sides =
                        sides.map(|side| side.map_or_else(|| "?".into(), |n| n.to_string()));
                    let sides: Vec<String> = sides.collect();
                    let _ = writeln!(text, "{word}\t{}\t{}", value.name, sides.join(" "));
                }
            }
            for (name, end) in &found.external {
                let _ = writeln!(text, "weights\t{name}\t{end}");
            }
            text.push_str("ok\n");
        }
    }
    text
}

/// Reads what [`written`] wrote; `None` for anything else.
fn parse(answer: &[u8]) -> Option<Result<Inspected, String>> {
    let text = std::str::from_utf8(answer).ok()?;
    let lines: Vec<&str> = text.strip_suffix('\n')?.split('\n').collect();
    let (last, lines) = lines.split_last()?;
    if let Some(why) = last.strip_prefix("refused\t") {
        let why = escape(why.as_bytes()).chars().take(1000).collect();
        return lines.is_empty().then_some(Err(why));
    }
    if *last != "ok" {
        return None;
    }
    let mut found = Inspected { external: BTreeMap::new(), ..Inspected::default() };
    for line in lines {
        let mut parts = line.split('\t');
        let (word, name, rest) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || name.chars().any(is_unprintable) {
            return None;
        }
        let name = name.to_owned();
        match word {
            "weights" => {
                found.external.insert(name, rest.parse().ok()?);
            }
            "input" => found.inputs.push(Tensor { name, shape: shape(rest)? }),
            "output" => found.outputs.push(Tensor { name, shape: shape(rest)? }),
            _ => return None,
        }
    }
    Some(Ok(found))
}

fn shape(text: &str) -> Option<Vec<Option<u64>>> {
    let side = |side: &str| if side == "?" { Some(None) } else { side.parse().ok().map(Some) };
    text.split(' ').filter(|side| !side.is_empty()).map(side).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vision::model::builtin::FILES;

    #[test]
    fn an_answer_is_read_as_it_was_written_and_nothing_else_is() {
        let mut answer = Vec::new();
        serve(FILES.image, &mut answer).expect("a Vec takes every write");
        let found = inspect(FILES.image).expect("a good network");
        assert_eq!(parse(&answer), Some(Ok(found.clone())));
        let external = BTreeMap::from([("x.data".to_owned(), 4120)]);
        let found = Inspected { external, ..found };
        assert_eq!(parse(written(&Ok(found.clone())).as_bytes()), Some(Ok(found)));
        let why = "it has\ttabs\nand lines".to_owned();
        let refused = parse(written(&Err(why)).as_bytes()).expect("an answer");
        assert!(refused.expect_err("refused").contains("it has"));
        for other in
            ["", "ok", "okay\n", "input\tx\n", "input\tx\t1 2\nnot ok\n", "weights\tx\t-1\nok\n"]
        {
            assert_eq!(parse(other.as_bytes()), None, "{other:?}");
        }
        assert_eq!(parse(&[0xFF, b'\n']), None);
    }
}
