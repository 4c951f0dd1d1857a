//! ONNX Runtime reports its use to its maker (from 1.29 on Linux too, even before a program can
//! switch that off) unless its environment forbids it before the library is loaded.

use std::io;
use std::os::unix::process::CommandExt as _;
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
    Err(start_anew()).context(
        "can't start anew with ORT_DISABLE_TELEMETRY=1 and ORT_TELEMETRY_DISABLED=1, which keep \
         ONNX Runtime from reporting its use; set both yourself",
    )
}

/// Comes back only when it fails. The process keeps its number, descriptors and arguments.
fn start_anew() -> io::Error {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return error,
    };
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| program.clone().into());
    Command::new(program).arg0(name).args(arguments).envs(FORBID).exec()
}
