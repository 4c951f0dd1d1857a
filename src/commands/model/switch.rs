//! `modtool model use`: which model a workspace works with.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use anyhow::Context as _;
use clap::Args;

use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::moderation::escape::escape_path;
use crate::vision::model::{self, describe};

use super::added;

/// Make a model this workspace's; writes one line of modtool.yaml
///
/// `watch` and `scan` then judge with it, and judge again in the background what another model
/// judged, newest first. Vectors of different models are never mixed.
#[derive(Debug, Args)]
pub(super) struct UseArgs {
    /// Its name, or builtin
    #[arg(value_name = "NAME")]
    name: String,
}

pub(super) fn run(args: &UseArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let name = args.name.as_str();
    let card =
        if name == "builtin" { model::builtin()?.card } else { describe(&added(config, name)?)?.0 };
    let path = config.workspace.join("modtool.yaml");
    let before = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => {
            return Err(error).with_context(|| format!("can't read {}", escape_path(&path)));
        }
    };
    let after = with_model(&before, name);
    let mut out = io::stdout().lock();
    if after == before {
        writeln!(out, "{name} is this workspace's model already")?;
        return Ok(ExitCode::Clean);
    }
    replace(&path, &after).with_context(|| format!("can't write {}", escape_path(&path)))?;
    writeln!(
        out,
        "this workspace uses {name} ({}) from now on: {}",
        card.kind,
        escape_path(&path)
    )?;
    if config.database().exists() {
        writeln!(
            out,
            "the next `watch` or `scan` judges again what another model judged, newest first; \
             a `watch` that runs now goes on with its model until it is started again"
        )?;
    }
    Ok(ExitCode::Clean)
}

/// Only the line of the model changes, or one is put where the commented one is, or first.
fn with_model(text: &str, name: &str) -> String {
    let line = |comment: &str| format!("model: {name}{comment}\n");
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    if let Some(last) = lines.last_mut().filter(|last| !last.ends_with('\n')) {
        last.push('\n');
    }
    if let Some(place) = lines.iter().position(|line| line.starts_with("model:")) {
        let comment = lines[place].find(" #").map(|at| lines[place][at..].trim_end().to_owned());
        lines[place] = line(&comment.unwrap_or_default());
    } else {
        let behind = lines.iter().position(|line| line.starts_with("# model:"));
        lines.insert(behind.map_or(0, |place| place + 1), line(""));
    }
    lines.concat()
}

/// At once or not at all: a settings file must never be half written.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let draft = path.with_file_name(format!(".modtool.yaml.{}", std::process::id()));
    let written = fs::File::create(&draft)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| match fs::metadata(path) {
            Ok(meta) => fs::set_permissions(&draft, meta.permissions()),
            Err(_) => Ok(()),
        })
        .and_then(|()| fs::rename(&draft, path));
    if written.is_err() {
        // The error is what matters.
        let _ = fs::remove_file(&draft);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_line_of_the_model_changes() {
        for (before, after) in [
            ("", "model: x\n"),
            ("engine: {batch: 4}\n", "model: x\nengine: {batch: 4}\n"),
            ("a: 1\nmodel: y # mine\nb: 2", "a: 1\nmodel: x # mine\nb: 2\n"),
            ("# model: builtin\n\n# more\n", "# model: builtin\nmodel: x\n\n# more\n"),
            ("#c\nmodel: \"y\"\r\n", "#c\nmodel: x\n"),
        ] {
            assert_eq!(with_model(before, "x"), after, "{before:?}");
        }
    }
}
