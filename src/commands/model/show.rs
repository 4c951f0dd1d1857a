//! `modtool model show`.

use std::io::{self, Write as _};

use clap::Args;
use serde_json::json;

use crate::cli::OutputFormat;
use crate::commands::output::{json_line, number};
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::moderation::escape::{escape, escape_path};
use crate::vision::ModelCard;
use crate::vision::model::{self, describe};

use super::added;
use super::list::{megabytes, size_of};

/// Show what a model is, how it prepares pictures and texts, and where it came from
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// Its name [default: the model in use]
    #[arg(value_name = "NAME")]
    name: Option<String>,

    /// Form of what is printed
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
}

pub(super) fn run(args: &ShowArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let name = args.name.as_deref().unwrap_or(&config.model);
    let mut files = Vec::new();
    let (card, place) = if name == "builtin" {
        (model::builtin()?.card, "compiled into this program".to_owned())
    } else {
        let folder = added(config, name)?;
        let (card, listed) = describe(&folder)?;
        for (file, hash) in listed {
            files.push((size_of(&folder.join(&file)), file, hash));
        }
        (card, escape_path(&folder))
    };
    let mut out = io::stdout().lock();
    if args.format == OutputFormat::Json {
        let mut object = card_json(name, &card);
        object["place"] = place.into();
        object["files"] = files
            .iter()
            .map(|(bytes, file, hash)| json!({"name": file, "bytes": bytes, "sha256": hash}))
            .collect();
        json_line(&mut out, &object)?;
        return Ok(ExitCode::Clean);
    }
    let text = |text: Option<&str>| escape(text.unwrap_or("not stated").as_bytes());
    let image = &card.image;
    let scale = card.logit_scale;
    for (field, value) in [
        ("name", name.to_owned()),
        ("kind", card.kind.to_string()),
        ("place", place),
        ("fingerprint", card.fingerprint.0.clone()),
        ("source", text(card.source.as_deref())),
        ("licence", text(card.licence.as_deref())),
        ("dimensions", card.embedding_dim.to_string()),
        ("pictures", format!("{} px, {}, {}", image.size, image.resize_words(), image.resample)),
        ("mean, std", format!("{:?}, {:?}", image.mean, image.std)),
        ("texts", format!("at most {} tokens", card.context_length)),
        ("logit", format!("{} · cosine + {}", scale.scale, scale.bias)),
    ] {
        writeln!(out, "{field:<12} {value}")?;
    }
    for (bytes, file, hash) in &files {
        writeln!(out, "{:<12} {file}, {}, sha256 {hash}", "file", megabytes(*bytes))?;
    }
    if name == "builtin" {
        writeln!(out, "\n{}", model::builtin::CARD)?;
    }
    Ok(ExitCode::Clean)
}

fn card_json(name: &str, card: &ModelCard) -> serde_json::Value {
    let image = &card.image;
    json!({
        "name": name,
        "kind": card.kind.as_str(),
        "fingerprint": card.fingerprint.0,
        "source": card.source,
        "licence": card.licence,
        "dimensions": card.embedding_dim,
        "image": {
            "size": image.size,
            "resize": image.resize_words(),
            "resample": image.resample.to_string(),
            "mean": image.mean.map(|n| number(n.into())),
            "std": image.std.map(|n| number(n.into())),
        },
        "context_length": card.context_length,
        "logit_scale": number(card.logit_scale.scale.into()),
        "logit_bias": number(card.logit_scale.bias.into()),
    })
}
