//! `modtool model remove`.

use std::io::{self, Write as _};

use clap::Args;

use crate::commands::UsageError;
use crate::config::Config;
use crate::exit_code::ExitCode;

use super::{added, folder};

/// Remove a model's files from this machine; verdicts and vectors stay
#[derive(Debug, Args)]
pub(super) struct RemoveArgs {
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,
}

pub(super) fn run(args: &RemoveArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let name = args.name.as_str();
    added(config, name)?;
    if config.model == name {
        let what = format!(
            "{name} is the model of this workspace; choose another first: modtool model use builtin"
        );
        return Err(UsageError(what).into());
    }
    folder(config).remove(name)?;
    writeln!(io::stdout().lock(), "removed {name}")?;
    Ok(ExitCode::Clean)
}
