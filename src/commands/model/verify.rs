//! `modtool model verify`.

use std::io::{self, Write as _};

use clap::Args;

use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::moderation::escape::escape_lines;
use crate::vision::model::load_dir;

use super::{added, folder, try_out};

/// Check that a model's files are unchanged and that it computes; exit code 1 when one is not
#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// Its name [default: every model]
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

pub(super) fn run(args: &VerifyArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let models = match &args.name {
        Some(name) => vec![(name.clone(), added(config, name)?)],
        None => folder(config).list(),
    };
    let mut out = io::stdout().lock();
    if models.is_empty() {
        writeln!(out, "no model was added yet; the built-in one is part of this program")?;
    }
    let mut code = ExitCode::Clean;
    for (name, path) in models {
        let verified = || {
            load_dir(&path)?.check()?;
            try_out(config, &path)
        };
        match verified() {
            Ok(engine) => {
                writeln!(out, "{name}: good; every file is as it was, computes on {engine}")?;
            }
            Err(error) => {
                code = ExitCode::Flagged;
                writeln!(out, "{name}: {}", escape_lines(&format!("{error:#}")))?;
            }
        }
    }
    Ok(code)
}
