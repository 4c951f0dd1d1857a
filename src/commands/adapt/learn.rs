//! `modtool adapt`: learns, tries what was learned on held-out pictures, and keeps what is better.

use std::io::{self, IsTerminal as _, Write};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::ensure;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::cli::OutputFormat;
use crate::commands::UsageError;
use crate::commands::adapters::Adapters;
use crate::commands::clock::{now, rfc3339};
use crate::commands::output::{json_line, number};
use crate::commands::validation::{print_validation, validation_json};
use crate::commands::workspace::{self, must_be_policies};
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::moderation::adapter::{Example, FitError, Learned, Method, Recipe, Trained, learn};
use crate::moderation::escape::escape_path;
use crate::moderation::{Classifier, ItemId, PolicyId};
use crate::vision::ModelCard;

use super::examples::{self, ByPolicy};

#[derive(Debug, Args)]
pub(super) struct LearnArgs {
    /// Policies to learn for [default: all that have enough examples]
    #[arg(value_name = "POLICY")]
    ids: Vec<String>,

    /// Learn from labelled pictures instead of decisions: DIR/POLICY/ violates that policy, other
    /// folders (say `neutral`) violate none
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,

    /// A linear probe, anchored in the policy's words, or a low-rank change of the whole space
    #[arg(long, value_enum, default_value_t)]
    method: MethodArg,

    /// Rank of the low-rank change
    #[arg(long, value_name = "N", default_value_t = 4,
          value_parser = clap::value_parser!(u16).range(1..=64))]
    rank: u16,

    /// The same seed and examples give the same adapter
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,

    /// Don't learn from this share of the pictures, 0 to 0.9, so that `modtool eval` can try on them
    /// what was learned; which ones depends on their bytes alone
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = held_out_argument)]
    hold_out: f64,

    /// Form of what is printed
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
}

fn held_out_argument(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if (0.0..=0.9).contains(&share) { Ok(share) } else { Err("it is 0 to 0.9".to_owned()) }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum MethodArg {
    /// A linear probe in the manner of LP++
    #[default]
    Probe,
    /// A low-rank adapter of both projections
    Lora,
}

pub(super) async fn run(args: &LearnArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let files = workspace::written_policies(config)?;
    must_be_policies(&args.ids, &files)?;
    let wanted =
        |id: &PolicyId| args.ids.is_empty() || args.ids.iter().any(|one| one == id.as_str());
    let all: Vec<PolicyId> = files.iter().map(|file| file.policy.id.clone()).collect();
    let files: Vec<_> = files.into_iter().filter(|file| wanted(&file.policy.id)).collect();
    let ids: Vec<PolicyId> = files.iter().map(|file| file.policy.id.clone()).collect();
    let (classifiers, card, mut by_policy) = if let Some(dir) = &args.from {
        let (encoder, _) = workspace::encoder(config)?;
        let classifiers = workspace::classifiers(encoder.as_ref(), &files, config, None).await?;
        let examples = examples::of_folder(dir, config, encoder.as_ref(), &all, &ids)?;
        (classifiers, encoder.model().clone(), examples)
    } else {
        let store = workspace::existing_store(config).await?;
        let examples = examples::of_decisions(&store, config, &ids).await?;
        let classifiers = workspace::classifiers_from(&store, config, &files).await?;
        store.close().await;
        (classifiers, workspace::model(config)?.card, examples)
    };
    for examples in &mut by_policy {
        examples.retain(|example| !is_held_out(example.item, args.hold_out));
    }
    learn_all(args, config, &card, &classifiers, &by_policy)
}

/// By the hash of the bytes: copies go together, and more pictures change nothing for the others.
#[expect(clippy::cast_precision_loss, reason = "a share")]
fn is_held_out(item: ItemId, share: f64) -> bool {
    let [a, b, c, d, ..] = *item.as_bytes();
    f64::from(u32::from_be_bytes([a, b, c, d])) < share * (1_u64 << 32) as f64
}

fn learn_all(
    args: &LearnArgs,
    config: &Config,
    card: &ModelCard,
    classifiers: &[Classifier],
    by_policy: &ByPolicy,
) -> anyhow::Result<ExitCode> {
    let recipe = Recipe {
        method: match args.method {
            MethodArg::Probe => Method::Probe,
            MethodArg::Lora => Method::Lora,
        },
        rank: usize::from(args.rank),
        seed: args.seed,
        sigmoid_loss: card.kind.scores_prompts_alone(),
    };
    let (mut kept, mut tried, mut poor) = (0, 0, Vec::new());
    for (classifier, examples) in classifiers.iter().zip(by_policy) {
        let policy = &classifier.policy.id;
        let started = Instant::now();
        let bar = bar(policy);
        let trained = learn(classifier, &card.fingerprint, examples, &recipe, |done, of| {
            bar.set_length(of as u64);
            bar.set_position(done as u64);
        });
        bar.finish_and_clear();
        let trained = match trained {
            Ok(trained) => trained,
            Err(FitError::TooFew { violating, fine }) if args.ids.is_empty() => {
                if violating > 0 {
                    poor.push(format!("{policy} ({violating} violating, {fine} fine)"));
                }
                continue;
            }
            Err(refused) => return Err(UsageError(format!("{policy}: {refused}")).into()),
        };
        tried += 1;
        let shortfall = trained.validation.shortfall();
        let told = Told { args, card, trained: &trained, shortfall: shortfall.as_deref(), started };
        let file = match shortfall {
            None => Some(Adapters::of(config).keep(&trained.adapter, told.about(&recipe))?),
            Some(_) => None,
        };
        kept += usize::from(file.is_some());
        let mut out = io::stdout().lock();
        match args.format {
            OutputFormat::Json => json_line(&mut out, &told.json())?,
            OutputFormat::Table => told.print(&mut out, file.as_ref())?,
        }
    }
    if !poor.is_empty() {
        tracing::warn!(
            "too few examples (at least {} of each kind are needed): {}",
            Example::FEWEST,
            poor.join(", ")
        );
    }
    ensure!(
        tried > 0,
        "there is too little to learn from: at least {} pictures that violate a policy and {} that \
         don't; decide more in `modtool review`, or name a folder with --from",
        Example::FEWEST,
        Example::FEWEST
    );
    Ok(if kept > 0 { ExitCode::Clean } else { ExitCode::Flagged })
}

fn bar(policy: &PolicyId) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg} {bar:30} {pos} of {len} rounds");
    let bar = ProgressBar::new(1);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message(policy.to_string());
    bar
}

/// What was learned for one policy.
struct Told<'a> {
    args: &'a LearnArgs,
    card: &'a ModelCard,
    trained: &'a Trained,
    /// Why it is refused.
    shortfall: Option<&'a str>,
    started: Instant,
}

impl Told<'_> {
    /// What the file says besides the numbers.
    fn about(&self, recipe: &Recipe) -> Value {
        let validation = &self.trained.validation;
        json!({
            "model": self.card.name,
            "learned_at": rfc3339(now()),
            "learned_from": self.args.from.as_deref().map_or("decisions".to_owned(), escape_path),
            "seed": recipe.seed,
            "rank": recipe.rank,
            "violating": validation.violating,
            "fine": validation.fine,
            "held_out": self.args.hold_out,
            "validation": validation_json(validation),
            "learned_items": self.trained.learned_from.iter().map(ToString::to_string).collect::<Value>(),
        })
    }

    fn print(&self, out: &mut impl Write, file: Option<&PathBuf>) -> io::Result<()> {
        let Trained { adapter, validation, .. } = self.trained;
        writeln!(
            out,
            "{}: {} from {} violating and {} fine pictures · seed {} · {:.1} s",
            adapter.policy,
            match adapter.learned {
                Learned::Probe { .. } => "a probe".to_owned(),
                Learned::LowRank { .. } => format!("a low-rank adapter (rank {})", self.args.rank),
            },
            validation.violating,
            validation.fine,
            self.args.seed,
            self.started.elapsed().as_secs_f64()
        )?;
        print_validation(out, "held-out pictures", validation)?;
        match (file, self.shortfall) {
            (Some(file), _) => writeln!(
                out,
                "  kept as {}; `modtool adapt use {}` lets it run in the background\n",
                escape_path(file),
                adapter.name()
            ),
            (None, why) => writeln!(out, "  REFUSED: {}\n", why.unwrap_or_default()),
        }
    }

    fn json(&self) -> Value {
        let Trained { adapter, validation, .. } = self.trained;
        let name = adapter.name();
        json!({
            "policy": adapter.policy.as_str(),
            "method": adapter.learned.method().as_str(),
            "adapter": self.shortfall.is_none().then_some(name.as_str()),
            "kept": self.shortfall.is_none(),
            "refused": self.shortfall,
            "model": self.card.name,
            "fingerprint": self.card.fingerprint.0,
            "seed": self.args.seed,
            "violating": validation.violating,
            "fine": validation.fine,
            "held_out": self.args.hold_out,
            "validation": validation_json(validation),
            "seconds": number(self.started.elapsed().as_secs_f64()),
        })
    }
}
