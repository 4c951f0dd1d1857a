//! `modtool model remove`.

use std::io::{self, Write as _};

use clap::Args;

use crate::commands::UsageError;
use crate::commands::prompts::PromptMemory;
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::vision::model;

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
    let place = added(config, name)?;
    if config.model == name {
        let what = format!(
            "{name} is the model of this workspace; choose another first: modtool model use builtin"
        );
        return Err(UsageError(what).into());
    }
    let fingerprint = model::fingerprint_of(&place);
    folder(config).remove(name)?;
    // One that can't be read has computed nothing either.
    if let Ok(fingerprint) = fingerprint {
        PromptMemory::of(config, &fingerprint).forget();
    }
    writeln!(io::stdout().lock(), "removed {name}")?;
    Ok(ExitCode::Clean)
}
