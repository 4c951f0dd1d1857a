//! `modtool completions`: what a shell needs to complete the command line.

use std::io::{self, Write as _};

use clap::{Args, Command};
use clap_complete::Shell;

use crate::exit_code::ExitCode;

/// Print the completion script for a shell
///
/// For bash: modtool completions bash > ~/.local/share/bash-completion/completions/modtool
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn run(args: &CompletionsArgs, mut command: Command) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "modtool", &mut script);
    io::stdout().write_all(&script)?;
    Ok(ExitCode::Clean)
}
