//! How the process ends; scripts rely on these numbers.

use std::process::ExitCode as ProcessExitCode;

/// 64 and 78 are `EX_USAGE` and `EX_CONFIG` of BSD's sysexits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitCode {
    /// All is well.
    Clean,
    /// Something is not Allow (`scan`, `score`), or not healthy (`status`).
    Flagged,
    /// It could not be done.
    Failure,
    /// The command line makes no sense.
    Usage,
    /// A policy or the configuration makes no sense.
    Config,
}

impl ExitCode {
    /// The number.
    pub fn number(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Flagged => 1,
            Self::Failure => 2,
            Self::Usage => 64,
            Self::Config => 78,
        }
    }
}

impl From<ExitCode> for ProcessExitCode {
    fn from(code: ExitCode) -> Self {
        code.number().into()
    }
}
