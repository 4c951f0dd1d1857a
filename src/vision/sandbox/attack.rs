//! What an upload that took a decoder over would try. Each is tried at the start of a run, from
//! inside the cage, to see that the cage holds.

use std::fmt;
use std::io::Write as _;

/// One way to break out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attack {
    /// Open a file.
    Open,
    /// Reach the network.
    Connect,
    /// Become another program.
    Execute,
    /// Start another process.
    Fork,
    /// Write to a descriptor that is not the answer's.
    Write,
    /// Make memory executable.
    Map,
    /// Send its parent a signal.
    Signal,
}

impl Attack {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Open,
        Self::Connect,
        Self::Execute,
        Self::Fork,
        Self::Write,
        Self::Map,
        Self::Signal,
    ];

    /// Its name, on the child's command line and in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Connect => "connect",
            Self::Execute => "execve",
            Self::Fork => "fork",
            Self::Write => "write",
            Self::Map => "mmap-exec",
            Self::Signal => "kill",
        }
    }

    /// Tries it. When this returns, standard output tells how it went: `got through` or `refused`.
    /// A cage that holds ends the process before.
    pub(super) fn attempt(self) {
        let got_through = match self {
            Self::Open => std::fs::File::open("/etc/hostname")
                .or_else(|_| std::fs::File::open("/proc/self/status"))
                .is_ok(),
            Self::Connect => reached_the_network(),
            Self::Execute => executed(),
            Self::Fork => std::process::Command::new("/proc/self/exe")
                .arg("--version")
                .stdout(std::process::Stdio::null())
                .spawn()
                .is_ok(),
            // The request's pipe, which only can be read: any answer but our end is the system's.
            Self::Write => rustix::io::write(rustix::stdio::stdin(), b"x").is_ok(),
            Self::Map => mapped_executable(),
            // No signal at all, only the question whether one could be sent.
            Self::Signal => rustix::process::getppid()
                .is_some_and(|parent| rustix::process::test_kill_process(parent).is_ok()),
        };
        let told: &[u8] = if got_through { GOT_THROUGH } else { REFUSED };
        // Nobody to tell means that nobody waits for it.
        let _ = std::io::stdout().write_all(told);
    }
}

/// What an attack says that was not stopped.
pub(super) const GOT_THROUGH: &[u8] = b"got through";

/// What an attack says that the system answered with an error.
pub(super) const REFUSED: &[u8] = b"refused";

impl fmt::Display for Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refused connection was let through by the system: it got as far as the other side.
fn reached_the_network() -> bool {
    match std::net::TcpStream::connect("127.0.0.1:9") {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
    }
}

/// Comes back only when it failed; what it becomes when it does not fail ends with code 0.
fn executed() -> bool {
    use std::os::unix::process::CommandExt as _;
    let _ = std::process::Command::new("/proc/self/exe").arg("--version").exec();
    false
}

fn mapped_executable() -> bool {
    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
    let protection = ProtFlags::READ | ProtFlags::WRITE | ProtFlags::EXEC;
    #[expect(
        unsafe_code,
        reason = "the self-test must ask for executable memory, which no safe function gives"
    )]
    // SAFETY: a new mapping at a place that the kernel chooses, which nothing points to and
    // nobody reads or writes.
    let mapped =
        unsafe { mmap_anonymous(std::ptr::null_mut(), 4096, protection, MapFlags::PRIVATE) };
    mapped.is_ok()
}
