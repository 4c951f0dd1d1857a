//! The binary: everything is in the library, see `modtool::commands`.

use std::process::ExitCode;

fn main() -> ExitCode {
    modtool::commands::main().into()
}
