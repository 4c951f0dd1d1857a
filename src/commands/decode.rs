//! The hidden child that decodes uploads, locked in, so that a hostile one can't harm us.

use clap::Args;

use crate::exit_code::ExitCode;
use crate::vision::sandbox::{ChildRole, live_as_child};

/// Decode what comes on standard input
#[derive(Debug, Args)]
pub(super) struct DecodeArgs {
    #[arg(value_parser = role)]
    role: ChildRole,
}

fn role(word: &str) -> Result<ChildRole, String> {
    ChildRole::parse(word).ok_or_else(|| "no such role".to_owned())
}

pub(super) fn run(args: &DecodeArgs) -> anyhow::Result<ExitCode> {
    live_as_child(args.role)?;
    Ok(ExitCode::Clean)
}
