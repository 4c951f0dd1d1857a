//! `modtool adapt list` and `show`: what was learned, how well, what is in use, what would change.

use std::io::{self, Write};
use std::path::Path;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::OutputFormat;
use crate::commands::adapters::{Adapters, Kept, name_of};
use crate::commands::output::{json_line, table};
use crate::commands::policy;
use crate::commands::workspace;
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::moderation::PolicyId;
use crate::moderation::escape::escape;

use super::switch::{before_and_after, judged_in_background};

/// Show what was learned, and what of it is in use
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Form of what is printed
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
}

/// Show how good an adapter is, and what it changes about everything that was ever judged
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// Its name, as `adapt list` shows it
    #[arg(value_name = "NAME")]
    name: String,

    /// Examples of each change, the largest changes of the score first
    #[arg(long, value_name = "COUNT", default_value_t = 5)]
    examples: usize,

    /// Form of what is printed
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
}

pub(super) fn list(args: &ListArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let adapters = Adapters::of(config);
    let in_use = adapters.in_use()?;
    let names = adapters.names()?;
    let fingerprint = workspace::fingerprint(config)?;
    let mut out = io::stdout().lock();
    let mut rows = Vec::new();
    for name in &names {
        let Kept { adapter, about } = match adapters.open(name) {
            Ok(kept) => kept,
            Err(error) => {
                tracing::warn!("{error:#}");
                continue;
            }
        };
        let mode = in_use.get(&adapter.policy).and_then(|now| now.mode_of(name));
        let fits = adapter.fingerprint == fingerprint;
        if args.format == OutputFormat::Json {
            json_line(&mut out, &described(name, &about, mode, fits))?;
            continue;
        }
        let gain = about["validation"]["gain"]["value"].as_f64();
        rows.push(vec![
            name.to_string(),
            escape(about["model"].as_str().unwrap_or_default().as_bytes()),
            format!("{} + {}", about["violating"], about["fine"]),
            gain.map_or("-".to_owned(), |gain| format!("{gain:+.3}")),
            match (mode, fits) {
                (Some(mode), true) => mode.to_owned(),
                (Some(mode), false) => format!("{mode}, but not for this model"),
                (None, true) => "-".to_owned(),
                (None, false) => "- (another model)".to_owned(),
            },
        ]);
    }
    if args.format == OutputFormat::Table {
        if rows.is_empty() {
            writeln!(out, "nothing was learned yet; `modtool adapt` learns from decisions")?;
        } else {
            table(&mut out, &["name", "model", "examples", "gain", "in use"], &rows)?;
        }
    }
    Ok(ExitCode::Clean)
}

/// The file without its numbers.
fn described(name: &PolicyId, about: &Value, mode: Option<&str>, fits: bool) -> Value {
    let mut object = about.clone();
    if let Some(object) = object.as_object_mut() {
        object.remove("learned");
        object.remove("learned_items");
        object.insert("name".into(), name.as_str().into());
        object.insert("in_use".into(), mode.into());
        object.insert("fits_model_in_use".into(), fits.into());
    }
    object
}

pub(super) async fn show(args: &ShowArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let adapters = Adapters::of(config);
    let name = name_of(&args.name)?;
    let kept = adapters.open(&name)?;
    let in_use = adapters.in_use()?;
    let mode = in_use.get(&kept.adapter.policy).and_then(|now| now.mode_of(&name));
    let fits = kept.adapter.fingerprint == workspace::fingerprint(config)?;
    let (plain, adapted) = before_and_after(config, &kept)?;
    let shadowed = judged_in_background(config, &kept, &adapted.policy).await?;
    {
        let mut out = io::stdout().lock();
        if args.format == OutputFormat::Json {
            let mut object = described(&name, &kept.about, mode, fits);
            if let Some(object) = object.as_object_mut() {
                object.insert("judged_in_background".into(), json!(shadowed));
            }
            json_line(&mut out, &object)?;
        } else {
            print(&mut out, &name, &kept, mode, shadowed)?;
        }
    }
    if config.database().exists() {
        policy::between(&[plain], &[adapted], args.examples, args.format, config).await?;
    }
    Ok(ExitCode::Clean)
}

fn print(
    out: &mut impl Write,
    name: &PolicyId,
    kept: &Kept,
    mode: Option<&str>,
    shadowed: u64,
) -> io::Result<()> {
    let about = &kept.about;
    let text = |key: &str| escape(about[key].as_str().unwrap_or("-").as_bytes());
    writeln!(out, "{name}: {} for {}", kept.adapter.learned.method(), kept.adapter.policy)?;
    writeln!(out, "  model      {} ({})", text("model"), kept.adapter.fingerprint.short())?;
    writeln!(
        out,
        "  learned    {} from {} ({} violating, {} fine), seed {}",
        text("learned_at"),
        escape(
            Path::new(about["learned_from"].as_str().unwrap_or("-"))
                .display()
                .to_string()
                .as_bytes()
        ),
        about["violating"],
        about["fine"],
        about["seed"]
    )?;
    let figure = |path: &[&str]| {
        let found = path.iter().fold(about, |value, key| &value[*key]);
        found.as_f64().map_or("-".to_owned(), |number| format!("{number:.3}"))
    };
    let area = |side: &str| figure(&["validation", side, "roc_auc", "value"]);
    writeln!(
        out,
        "  held out   ROC-AUC {} by the words alone, {} adapted; gain {} ({} to {})",
        area("words"),
        area("adapted"),
        figure(&["validation", "gain", "value"]),
        figure(&["validation", "gain", "lower"]),
        figure(&["validation", "gain", "upper"])
    )?;
    writeln!(out, "  in use     {}", mode.unwrap_or("no"))?;
    writeln!(out, "  background {shadowed} pictures judged\n")?;
    writeln!(
        out,
        "what it changes (old: the words alone, new: adapted); it learned from the decided ones, so \
         for these\nthe list is kinder than life, and the held-out figures are not:\n"
    )
}
