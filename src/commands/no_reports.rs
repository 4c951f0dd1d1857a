//! ONNX Runtime reports its use to its maker (from 1.29 on Linux too, even before a program can
//! switch that off) unless its environment forbids it before the library is loaded.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;

/// What forbids it. The first name is that of the releases (the string is in the library of 1.32);
/// the second stood in the sources in between (<https://github.com/microsoft/onnxruntime/pull/29843>).
const FORBID: [(&str, &str); 2] = [("ORT_DISABLE_TELEMETRY", "1"), ("ORT_TELEMETRY_DISABLED", "1")];

/// Makes sure that this process and its children have [`FORBID`] in their environment, by starting
/// the same program anew in its place where they have not: an environment can't be changed safely
/// once there are threads.
///
/// # Errors
/// When the program can't be started anew; then no ONNX Runtime may be loaded.
pub(super) fn forbid_reports() -> anyhow::Result<()> {
    if FORBID.iter().all(|(name, value)| std::env::var_os(name).is_some_and(|set| set == *value)) {
        return Ok(());
    }
    Err(start_anew(&[])).context(
        "can't start anew with ORT_DISABLE_TELEMETRY=1 and ORT_TELEMETRY_DISABLED=1, which keep \
         ONNX Runtime from reporting its use; set both yourself",
    )
}

/// Starts this program anew in its place, with an environment that forbids reports and has these
/// variables set or, where there is no value, not set. Comes back only when it fails. The process
/// keeps its number, descriptors and arguments.
pub(super) fn start_anew(environment: &[(&str, Option<OsString>)]) -> io::Error {
    let program = ourselves();
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| program.clone().into());
    let mut command = Command::new(program);
    command.arg0(name).args(arguments).envs(FORBID);
    for (name, value) in environment {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.exec()
}

/// The file of this program.
pub(super) fn ourselves() -> PathBuf {
    // Where the system can't tell, what was typed may do.
    let typed = || std::env::args_os().next().unwrap_or_default().into();
    std::env::current_exe().unwrap_or_else(|_unknown| typed())
}
