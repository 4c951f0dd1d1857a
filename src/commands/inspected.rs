//! Which models were looked through already: one file a model in the data folder, named after the
//! model's fingerprint, which covers every byte of it.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use anyhow::Context as _;
use tracing::debug;

use crate::config::Config;
use crate::moderation::escape::{escape, escape_path};
use crate::vision::{Model, sandbox};

use super::workspace;

/// Other rules of what a network may hold: what older versions let through is looked through again.
const RULES: &str = "1";

/// Has a model that is not this program's own looked through by a locked-in child, unless it was
/// before.
///
/// # Errors
/// When one of its networks is refused, or a file is not what its description says.
pub(super) fn inspect(config: &Config, model: &Model) -> anyhow::Result<()> {
    if model.is_builtin() {
        return Ok(());
    }
    let name = format!("{}-{RULES}", model.card.fingerprint.0);
    let known = config.data_dir.join("inspected").join(name);
    if known.exists() {
        return Ok(());
    }
    let program = sandbox::ourselves().context("can't find the path of this program")?;
    model.inspect(&program, workspace::sandbox_mode(config)).with_context(|| {
        let name = escape(model.card.name.as_bytes());
        format!("the model {name} is refused; `modtool model use NAME` takes another")
    })?;
    if let Err(error) = remember(&known) {
        debug!(file = %escape_path(&known), %error, "the model is looked through again next time");
    }
    Ok(())
}

fn remember(known: &Path) -> io::Result<()> {
    if let Some(folder) = known.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    fs::write(known, "")
}
