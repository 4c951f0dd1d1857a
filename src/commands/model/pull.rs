//! `modtool model pull`: a model from the Hub.

use std::fs;
use std::io::{self, Write as _};

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use crate::cli::OutputFormat;
use crate::commands::UsageError;
use crate::commands::output::{json_line, table};
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::vision::model::catalogue::{self, CATALOGUE, Entry, Scale};
use crate::vision::model::hub::{self, Hub, HubError, Repository};
use crate::vision::model::{AddError, AddOptions, Files};

use super::add::{LayoutArgs, finish};
use super::{bytes_bar, folder};

/// The Hub.
const ENDPOINT: &str = "https://huggingface.co";

/// Fetch a model from the Hub
///
/// Without a name, shows the models that are known by name. Every file is checked against the hash
/// that the Hub names, and pinned; a download that was cut off goes on where it stopped.
/// `HF_ENDPOINT`, `HF_TOKEN` and `HF_HUB_OFFLINE` are honoured.
#[derive(Debug, Args)]
pub(super) struct PullArgs {
    /// A name of the catalogue, or OWNER/REPO[@REVISION] with an ONNX export
    #[arg(value_name = "NAME")]
    what: Option<String>,

    /// What to call it from now on [default: the name of the catalogue or of the repository]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    #[command(flatten)]
    layout: LayoutArgs,

    /// Form of the catalogue
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
}

pub(super) fn run(args: &PullArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let Some(what) = args.what.as_deref() else { return show_catalogue(args.format) };
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    if variable("HF_HUB_OFFLINE").is_some_and(|value| value != "0") {
        return Err(HubError::Offline.into());
    }
    let endpoint = variable("HF_ENDPOINT");
    let hub = Hub::new(endpoint.as_deref().unwrap_or(ENDPOINT), variable("HF_TOKEN"))?;
    let (repository, entry) = resolve(what)?;
    let name = args.name.clone().unwrap_or_else(|| name_of(entry, &repository));
    let models = folder(config);
    if models.place(&name)?.exists() {
        return Err(AddError::Taken(name).into());
    }
    let (known_scale, scale_from) = match entry.map(|entry| entry.scale) {
        Some(Scale::Known(scale)) => (Some(scale), None),
        Some(Scale::From(id)) => {
            (None, Some(Repository { id: id.to_owned(), revision: "main".to_owned() }))
        }
        None => (None, None),
    };
    let mut layout = args.layout.options();
    layout.known_scale = known_scale;
    // Hidden, and no model: what lies here only saves fetching it again.
    let download = models.0.join(format!(".pulling-{name}"));
    let bar = bytes_bar("");
    let fetched = hub::fetch(
        &hub,
        &repository,
        layout.variant.as_deref(),
        scale_from.as_ref(),
        &download,
        &mut |file, here, size| {
            if bar.message() != file {
                bar.set_message(file.to_owned());
            }
            bar.set_length(size);
            bar.set_position(here);
        },
    );
    bar.finish_and_clear();
    let fetched = fetched.with_context(|| format!("can't fetch {}", repository.id))?;
    let options = AddOptions {
        name,
        layout,
        source: Some(format!("{}@{}", hub.page(&repository), fetched.commit)),
        licence: entry.map(|entry| entry.licence.to_owned()),
        files: Files::Link,
    };
    let staged = models
        .stage(&download, &options, &mut |_, _| ())
        .with_context(|| format!("{} can't be used", repository.id))?;
    let code = finish(staged, &options.name, config)?;
    // The model has its own names for the files. Until it is there they stay: another try, perhaps
    // with another option, then fetches nothing twice.
    let _ = fs::remove_dir_all(&download);
    Ok(code)
}

fn resolve(what: &str) -> anyhow::Result<(Repository, Option<&'static Entry>)> {
    let (name, revision) = what.split_once('@').map_or((what, None), |(n, r)| (n, Some(r)));
    if let Some(entry) = catalogue::find(name) {
        let text = format!("{}@{}", entry.repository, revision.unwrap_or("main"));
        let repository = Repository::parse(&text)
            .ok_or_else(|| UsageError(format!("{what} names no revision")))?;
        return Ok((repository, Some(entry)));
    }
    let repository = Repository::parse(what).ok_or_else(|| {
        UsageError(format!(
            "{what} is neither a name of the catalogue (`modtool model pull` lists it) nor \
             OWNER/REPO[@REVISION]"
        ))
    })?;
    let entry = CATALOGUE.iter().find(|entry| entry.repository == repository.id);
    Ok((repository, entry))
}

/// A repository's name in the letters that a model's name may have.
fn name_of(entry: Option<&Entry>, repository: &Repository) -> String {
    let repo = repository.id.rsplit('/').next().unwrap_or_default();
    entry.map_or_else(|| repo.to_ascii_lowercase(), |entry| entry.name.to_owned())
}

fn show_catalogue(format: OutputFormat) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    if format == OutputFormat::Json {
        for entry in &CATALOGUE {
            let line = json!({
                "name": entry.name,
                "repository": entry.repository,
                "megabytes": entry.megabytes,
                "int8_megabytes": entry.int8_megabytes,
                "licence": entry.licence,
                "good_for": entry.good_for,
            });
            json_line(&mut out, &line)?;
        }
        return Ok(ExitCode::Clean);
    }
    let row = |entry: &Entry| {
        vec![
            entry.name.to_owned(),
            format!("{} MB", entry.megabytes),
            entry.int8_megabytes.map_or_else(|| "-".to_owned(), |size| format!("{size} MB")),
            entry.licence.to_owned(),
            entry.good_for.to_owned(),
        ]
    };
    let rows: Vec<_> = CATALOGUE.iter().map(row).collect();
    table(&mut out, &["name", "size", "int8", "licence", "good for"], &rows)?;
    writeln!(
        out,
        "\n`modtool model pull NAME` fetches one; sizes are about; any OWNER/REPO with an ONNX \
         export can be pulled too"
    )?;
    Ok(ExitCode::Clean)
}
