//! `modtool score`: what the model sees in some pictures; nothing is stored.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};

use crate::cli::OutputFormat;
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::moderation::escape::escape_path;
use crate::moderation::score::{sigmoid, softmax};
use crate::moderation::{ItemId, Outcome, Reason, Uploader};
use crate::pipeline::{judge_named, pictures_named};
use crate::store::Judged;
use crate::vision::{DecoderPool, ModelCard, Pixels};

use super::output::{VerdictLine, file_json, json_line, number, table};
use super::progress::not_judged;
use super::{misread, workspace};

/// Score pictures against the policies, or against prompts of your own
///
/// Nothing is stored. Against the policies the exit code is 1 when a picture is not allowed.
#[derive(Debug, Args)]
pub(super) struct ScoreArgs {
    /// Pictures, or folders of them
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,

    /// Plain zero-shot probability of this text, as typed; give several to compare them
    #[arg(long = "prompt", value_name = "TEXT")]
    prompts: Vec<String>,

    /// Form of what is printed
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
}

pub(super) async fn run(args: &ScoreArgs, config: &Config) -> anyhow::Result<ExitCode> {
    if args.prompts.is_empty() {
        against_policies(args, config).await
    } else {
        against_prompts(args, config).await
    }
}

async fn against_policies(args: &ScoreArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let files = workspace::judging_policies(config)?;
    let (encoder, _) = workspace::encoder(config)?;
    let classifiers = workspace::classifiers(encoder.as_ref(), &files, config, None).await?;
    let card = encoder.model().clone();
    let decoders = workspace::decoders(config)?;
    let mut code = ExitCode::Clean;
    let (mut printed, mut pictures) = (Ok(()), 0);
    let batch = config.engine.batch;
    let named = workspace::named(config, &args.images).await;
    let media = judge_named(encoder.as_ref(), &classifiers, &decoders, batch, named, |judged| {
        pictures += 1;
        if judged.verdict.outcome > Outcome::Allow {
            code = ExitCode::Flagged;
        }
        if printed.is_ok() {
            printed = print_verdict(args.format, &judged, &card);
        }
    })?;
    printed?;
    if let Some(unjudged) = not_judged(&media) {
        tracing::warn!("{unjudged}");
    }
    tell_if_none(pictures, &args.images);
    Ok(code)
}

/// A folder without a picture in it was perhaps not the one that was meant.
fn tell_if_none(pictures: usize, named: &[PathBuf]) {
    if pictures == 0 {
        let folders: Vec<_> = named.iter().map(|path| escape_path(path)).collect();
        tracing::warn!("there is no picture in {}", folders.join(", "));
    }
}

fn print_verdict(format: OutputFormat, judged: &Judged, card: &ModelCard) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let verdict = &judged.verdict;
    if format == OutputFormat::Json {
        let line = VerdictLine {
            path: &judged.sighting.path,
            item: judged.item,
            model: Some((&card.name, &card.fingerprint)),
            outcome: verdict.outcome,
            reason: verdict.reason.as_ref(),
            policies: &verdict.policies,
        };
        return json_line(&mut out, &line.json().into());
    }
    let reason = verdict.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    writeln!(out, "{}: {}{reason}", escape_path(&judged.sighting.path), verdict.outcome)?;
    let mut policies: Vec<_> = verdict.policies.iter().collect();
    policies.sort_by(|a, b| b.outcome.cmp(&a.outcome).then(b.score.total_cmp(&a.score)));
    let rows: Vec<Vec<String>> = policies
        .into_iter()
        .map(|policy| {
            vec![
                format!("  {}", policy.policy),
                format!("{:.3}", policy.score),
                policy.outcome.to_string(),
                policy.mode.to_string(),
                match &policy.adapter {
                    None => policy.prompt.clone(),
                    Some(adapter) => format!("{} (adapted: {adapter})", policy.prompt),
                },
            ]
        })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    table(&mut out, &["  policy", "score", "outcome", "mode", "looks most like"], &rows)
}

async fn against_prompts(args: &ScoreArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let (encoder, _) = workspace::encoder(config)?;
    let card = encoder.model().clone();
    for prompt in &args.prompts {
        encoder.check_text(prompt)?;
        if let Some((what, hint)) = misread::text(encoder.as_ref(), prompt)? {
            tracing::warn!("{what}; {hint}");
        }
    }
    if args.prompts.len() == 1 && !card.kind.scores_prompts_alone() {
        tracing::warn!(
            "one prompt alone has no probability with a CLIP model (it is always 1); \
             give others to compare it with"
        );
    }
    let texts = encoder.embed_texts(&args.prompts)?;
    encoder.open_for_pictures()?;
    let decoders = workspace::decoders(config)?;
    let (mut code, mut pictures) = (ExitCode::Clean, 0);
    let named = workspace::named(config, &args.images).await;
    for file in pictures_named(&named) {
        pictures += 1;
        let path = &file.sighting.path;
        let bytes = named.bytes(&file, decoders.limits().file_bytes);
        let (item, view) = reference_view(path, bytes, &card, &decoders)?;
        let scored = view.and_then(|pixels| {
            let embedded = encoder.embed_images(&[pixels]);
            let failed = |error| Reason::Undecodable(format!("the model failed: {error}"));
            embedded.map_err(failed).map(|embedded| {
                let cosines: Vec<f32> =
                    texts.iter().map(|text| text.cosine(&embedded[0])).collect();
                prompt_rows(&card, &args.prompts, &cosines)
            })
        });
        if scored.is_err() {
            code = ExitCode::Flagged;
        }
        print_prompts(args.format, path, item, &card, &scored)?;
    }
    tell_if_none(pictures, &args.images);
    Ok(code)
}

struct PromptRow {
    text: String,
    cosine: f64,
    logit: f64,
    probability: f64,
}

/// Softmax over the prompts for CLIP, a sigmoid for each with SigLIP: what the reference
/// implementation prints.
fn prompt_rows(card: &ModelCard, prompts: &[String], cosines: &[f32]) -> Vec<PromptRow> {
    let logits: Vec<f64> = cosines.iter().map(|cosine| card.logit_scale.logit(*cosine)).collect();
    let probabilities = if card.kind.scores_prompts_alone() {
        logits.iter().map(|logit| sigmoid(*logit)).collect()
    } else {
        softmax(&logits)
    };
    prompts
        .iter()
        .zip(cosines)
        .zip(logits.iter().zip(probabilities))
        .map(|((text, cosine), (logit, probability))| PromptRow {
            text: text.clone(),
            cosine: f64::from(*cosine),
            logit: *logit,
            probability,
        })
        .collect()
}

fn reference_view(
    path: &Path,
    bytes: io::Result<Vec<u8>>,
    card: &ModelCard,
    decoders: &DecoderPool,
) -> anyhow::Result<(ItemId, Result<Pixels, Reason>)> {
    let bytes = match bytes {
        Ok(bytes) => bytes,
        Err(error) => {
            let item = ItemId::of_unread(path.as_os_str().as_encoded_bytes());
            return Ok((item, Err(Reason::Unreadable(error.to_string()))));
        }
    };
    let view = decoders
        .reference_view(&bytes, &card.image, &Uploader::Operator)?
        .map_err(|flaw| Reason::Undecodable(flaw.to_string()))
        .and_then(|mut views| {
            let none = || Reason::Undecodable("it has no frame".into());
            (!views.views.is_empty()).then(|| views.views.swap_remove(0)).ok_or_else(none)
        });
    Ok((ItemId::of_bytes(&bytes), view))
}

fn print_prompts(
    format: OutputFormat,
    path: &Path,
    item: ItemId,
    card: &ModelCard,
    scored: &Result<Vec<PromptRow>, Reason>,
) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let rows = scored.as_ref().map_or(&[][..], Vec::as_slice);
    if format == OutputFormat::Json {
        let mut object = file_json(path, item, Some((&card.name, &card.fingerprint)));
        let prompt = |row: &PromptRow| {
            json!({
                "text": row.text,
                "cosine": number(row.cosine),
                "logit": number(row.logit),
                "probability": number(row.probability),
            })
        };
        object.insert("prompts".into(), rows.iter().map(prompt).collect::<Value>());
        if let Err(reason) = scored {
            object.insert("reason".into(), reason.to_string().into());
        }
        return json_line(&mut out, &object.into()).context("can't print");
    }
    match scored {
        Err(reason) => writeln!(out, "{}: {reason}", escape_path(path))?,
        Ok(_) => writeln!(out, "{}", escape_path(path))?,
    }
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                format!("  {:.4}", row.probability),
                format!("{:.3}", row.logit),
                format!("{:.4}", row.cosine),
                row.text.clone(),
            ]
        })
        .collect();
    if !rows.is_empty() {
        table(&mut out, &["  probability", "logit", "cosine", "prompt"], &rows)?;
    }
    Ok(())
}
