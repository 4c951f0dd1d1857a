//! `modtool init`: write the starter policies and a commented settings file.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Write as _};
use std::path::Path;

use anyhow::Context as _;
use clap::Args;

use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::policy_file::{STARTER, STARTER_README};

/// Write policies/ and a commented modtool.yaml into the workspace
///
/// What is there already stays as it is.
#[derive(Debug, Args)]
pub(super) struct InitArgs {}

/// All settings of this version, commented out, with their defaults.
const SETTINGS: &str = include_str!("init/modtool.yaml");

pub(super) fn run(_args: &InitArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let policies = config.policies();
    std::fs::create_dir_all(&policies)
        .with_context(|| format!("can't make the folder {}", policies.display()))?;
    let mut files = vec![(config.workspace.join("modtool.yaml"), SETTINGS)];
    files.push((policies.join("README.md"), STARTER_README));
    files.extend(STARTER.iter().map(|(name, text)| (policies.join(name), *text)));
    let mut out = io::stdout().lock();
    let mut kept = 0;
    for (path, text) in files {
        if write_new(&path, text).with_context(|| format!("can't write {}", path.display()))? {
            writeln!(out, "wrote {}", path.display())?;
        } else {
            writeln!(out, "kept  {} (it was there)", path.display())?;
            kept += 1;
        }
    }
    if kept == 0 {
        writeln!(out, "next: edit the policies as you like, then `modtool watch DIR`")?;
    }
    Ok(ExitCode::Clean)
}

/// False when there is such a file already; it is never overwritten.
fn write_new(path: &Path, text: &str) -> io::Result<bool> {
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(mut file) => file.write_all(text.as_bytes()).map(|()| true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}
