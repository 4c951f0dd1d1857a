//! `modtool model add`: a model from a folder on this machine.

use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use tracing::warn;

use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::moderation::escape::{escape, escape_path};
use crate::vision::model::{AddOptions, Files, LayoutOptions, Staged, describe};

use super::{bytes_bar, folder, try_out};

/// Add a model from a folder
///
/// The folder is in the layout of the Hub's ONNX exports (`config.json`, `preprocessor_config.json`,
/// `tokenizer.json`, `onnx/vision_model.onnx` and `onnx/text_model.onnx`, or `onnx/model.onnx`), or
/// holds a `model.yaml` written by hand. Files are copied, hashed and tried before the model can be
/// used.
#[derive(Debug, Args)]
pub(super) struct AddArgs {
    /// The folder
    #[arg(value_name = "DIR")]
    folder: PathBuf,

    /// What to call it from now on
    #[arg(long, value_name = "NAME")]
    name: String,

    #[command(flatten)]
    layout: LayoutArgs,
}

/// What a layout may leave open.
#[derive(Debug, Args)]
pub(super) struct LayoutArgs {
    /// Which of several networks: fp16, int8, q4 …
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,

    /// What cosines are multiplied by, where the folder does not say it
    #[arg(long, value_name = "NUMBER")]
    logit_scale: Option<f32>,

    /// What is added then, where the folder does not say it
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    logit_bias: Option<f32>,
}

impl LayoutArgs {
    pub(super) fn options(&self) -> LayoutOptions {
        LayoutOptions {
            variant: self.variant.clone(),
            logit_scale: self.logit_scale,
            logit_bias: self.logit_bias,
            known_scale: None,
        }
    }
}

pub(super) fn run(args: AddArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let options = AddOptions {
        layout: args.layout.options(),
        name: args.name,
        source: None,
        licence: None,
        files: Files::Copy,
    };
    let bar = bytes_bar("copying");
    let staged = folder(config).stage(&args.folder, &options, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let staged = staged.with_context(|| format!("can't add {}", escape_path(&args.folder)))?;
    finish(staged, &options.name, config)
}

/// Tries a model that is complete, puts it in its place and says how to use it.
pub(super) fn finish(staged: Staged, name: &str, config: &Config) -> anyhow::Result<ExitCode> {
    for warning in &staged.warnings {
        warn!("{}", escape(warning.as_bytes()));
    }
    let engine =
        try_out(config, staged.folder()).context("the model does not work, nothing was added")?;
    let place = staged.install()?;
    let (card, _) = describe(&place)?;
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "added {name} ({}, {} dimensions, {} px) as {}; it computes on {engine}",
        card.kind,
        card.embedding_dim,
        card.image.size,
        escape_path(&place),
    )?;
    writeln!(out, "`modtool model use {name}` makes it this workspace's model")?;
    Ok(ExitCode::Clean)
}
