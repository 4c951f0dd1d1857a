//! `modtool model compare`: two models over the same labelled pictures.

mod child;
mod report;

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use clap::Args;

use crate::cli::OutputFormat;
use crate::commands::labels::Labels;
use crate::commands::workspace;
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::moderation::PolicyId;

pub(super) use child::{JudgeArgs, run as judge};

use child::Measured;

/// Compare two models on your own pictures
///
/// With DIR, the pictures in DIR/POLICY-ID/ belong to that policy, those in other folders (say
/// `neutral`) to none. Without, the decisions of this workspace are the labels. Shows for each
/// policy the area under the ROC curve with 95 % intervals (0.5 is chance, 1 perfect; thresholds play
/// no part), what each model finds and flags at the policies' thresholds, where they disagree most,
/// and what each costs.
#[derive(Debug, Args)]
pub(super) struct CompareArgs {
    /// Name or folder of the first model
    #[arg(value_name = "A")]
    a: String,

    /// Name or folder of the second model
    #[arg(value_name = "B")]
    b: String,

    /// Folder with a folder of pictures for each policy
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,

    /// Disagreements to show
    #[arg(long, value_name = "N", default_value_t = 10)]
    disagreements: usize,

    /// Form of what is printed
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
}

/// Both models on the same pictures.
struct Comparison {
    policies: Vec<PolicyId>,
    labels: Labels,
    a: Measured,
    b: Measured,
}

pub(super) async fn run(args: &CompareArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let policies: Vec<PolicyId> =
        workspace::written_policies(config)?.iter().map(|file| file.policy.id.clone()).collect();
    let labels = if let Some(folder) = &args.folder {
        Labels::of_folders(folder, &policies)?
    } else {
        let store = workspace::existing_store(config).await?;
        let decided = store.labels().await?;
        store.close().await;
        Labels::of_decisions(decided)
    };
    ensure!(
        policies.iter().any(|policy| labels.has_both_sides(policy)),
        "nothing to compare on: {}",
        match &args.folder {
            Some(_) =>
                "there must be a folder named like a policy, with pictures in it, and \
                        another one with pictures that belong to none (say `neutral`)",
            None =>
                "too few decisions; at least one picture of a policy must have been removed \
                     and one approved; or name a folder with labelled pictures",
        }
    );
    let measure = |model: &str| {
        child::measure(config, model, &labels.pictures)
            .with_context(|| format!("the model {model} could not be measured"))
    };
    let (a, b) = (measure(&args.a)?, measure(&args.b)?);
    let comparison = Comparison { policies, labels, a, b };
    match args.format {
        OutputFormat::Table => report::print(&comparison, args.disagreements)?,
        OutputFormat::Json => report::print_json(&comparison, args.disagreements)?,
    }
    Ok(ExitCode::Clean)
}
