//! The hidden child that tries an ONNX Runtime library, so that a bad one can't harm us.

use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::Args;

use crate::exit_code::ExitCode;
use crate::vision::engine::self_test_child;

/// Load a library and run the self-test
#[derive(Debug, Args)]
pub(super) struct ProbeArgs {
    library: PathBuf,
}

pub(super) fn run(args: &ProbeArgs) -> anyhow::Result<ExitCode> {
    let version = self_test_child(&args.library)?;
    writeln!(io::stdout(), "{version}")?;
    Ok(ExitCode::Clean)
}
