//! `modtool policy explain`: prompt by prompt, why a picture has the score that it has.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};

use crate::cli::OutputFormat;
use crate::commands::UsageError;
use crate::commands::heat;
use crate::commands::output::{file_json, json_line, number, path_json, table};
use crate::commands::workspace;
use crate::commands::workspace::must_be_policies;
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::moderation::escape::{escape, escape_path};
use crate::moderation::{Classifier, DecidedItem, Embedding, Policy, PolicyScore, PromptShare};
use crate::pipeline::judge_named;
use crate::store::{Judged, Store};
use crate::vision::ModelCard;
use crate::vision::occlusion::{CELLS, Heatmap, png};

use super::{must_exist, policies_at};

/// Show prompt by prompt why pictures get their scores
///
/// Cosine, logit and share of every prompt and contrast prompt, the view that won, how the score
/// compares with your own uploads, and the nearest picture that a person decided.
#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// Pictures, or folders of them
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,

    /// Only this policy; give several for more [default: the three with the highest scores]
    #[arg(long = "policy", value_name = "ID")]
    only: Vec<String>,

    /// All policies
    #[arg(long, conflicts_with = "only")]
    all: bool,

    /// A folder of policies, or one file [default: those of the workspace]
    #[arg(long, value_name = "PATH")]
    policies: Option<PathBuf>,

    /// By the words alone, without what was learned and is in use
    #[arg(long, conflicts_with = "policies")]
    no_adapter: bool,

    /// Write a picture that shows which parts of IMAGE matter to the policy with the highest score
    /// (or the one that --policy names): red speaks for it, blue against it. It is approximate
    #[arg(long, value_name = "OUT.png")]
    heatmap: Option<PathBuf>,

    /// Form of what is printed
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
}

/// The decided picture that looks most alike.
struct Nearest<'a> {
    cosine: f32,
    decision: &'a DecidedItem,
    path: String,
}

pub(super) async fn run(args: &ExplainArgs, config: &Config) -> anyhow::Result<ExitCode> {
    must_exist(&args.images.iter().collect::<Vec<_>>())?;
    if let Some(out) = &args.heatmap {
        refuse_heatmap(out, args)?;
    }
    let files = if args.no_adapter {
        workspace::written_policies(config)?
    } else {
        policies_at(args.policies.as_deref(), config)?
    };
    must_be_policies(&args.only, &files)?;
    let (encoder, _) = workspace::encoder(config)?;
    let classifiers = workspace::classifiers(encoder.as_ref(), &files, config, None).await?;
    let card = encoder.model().clone();
    let mut pictures = Vec::new();
    let decoders = workspace::decoders(config)?;
    judge_named(
        encoder.as_ref(),
        &classifiers,
        &decoders,
        config.engine.batch,
        workspace::named(config, &args.images).await,
        |judged| pictures.push(judged),
    )?;
    let corpus = if config.database().exists() {
        Some(Corpus::open(workspace::existing_store(config).await?, &card).await?)
    } else {
        None
    };
    let mut out = io::stdout().lock();
    for judged in &pictures {
        let mut scored: Vec<(&Classifier, PolicyScore)> = classifiers
            .iter()
            .filter(|classifier| wanted(args, &classifier.policy))
            .filter_map(|classifier| Some((classifier, classifier.score(&judged.views)?)))
            .collect();
        scored.sort_by(|a, b| b.1.score.total_cmp(&a.1.score));
        if args.only.is_empty() && !args.all {
            scored.truncate(3);
        }
        let mut ranks = Vec::with_capacity(scored.len());
        for (classifier, score) in &scored {
            ranks.push(match &corpus {
                Some(corpus) => corpus.rank(&classifier.policy, &card, score.score).await?,
                None => None,
            });
        }
        let nearest = match &corpus {
            Some(corpus) => corpus.nearest(judged).await?,
            None => None,
        };
        let heat = match (&args.heatmap, scored.first()) {
            (Some(out), Some((classifier, score))) => {
                let named = workspace::named(config, &args.images).await;
                let file = named.files().find(|file| file.sighting == judged.sighting);
                let path = || escape_path(&judged.sighting.path);
                let file = file.with_context(|| format!("{} is gone", path()))?;
                let heat = tokio::task::block_in_place(|| {
                    let bytes = named.bytes(&file, decoders.limits().file_bytes);
                    let bytes = bytes.with_context(path)?;
                    let encoder = encoder.as_ref();
                    heat::of_file(encoder, classifier, &decoders, judged, &bytes, score.view)
                })?;
                std::fs::write(out, png(&heat.picture)?)
                    .with_context(|| format!("can't write {}", escape_path(out)))?;
                Some(Heat { policy: classifier.policy.id.to_string(), map: heat.map, out })
            }
            (Some(_), None) => {
                let path = escape_path(&judged.sighting.path);
                anyhow::bail!("there is no heatmap of {path}: it has no score");
            }
            (None, _) => None,
        };
        let explained = Explained { judged, scored, ranks, nearest, heat, card: &card };
        match args.format {
            OutputFormat::Json => json_line(&mut out, &explained.json())?,
            OutputFormat::Table => explained.print(&mut out)?,
        }
    }
    Ok(ExitCode::Clean)
}

/// The file is a picture's: it must not be one that is to be explained, or of another kind.
fn refuse_heatmap(out: &Path, args: &ExplainArgs) -> anyhow::Result<()> {
    let is_png = out.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png"));
    let told = if !is_png {
        format!("--heatmap writes a PNG; name it so: {}.png", escape_path(out))
    } else if args.images.len() != 1 || args.images.iter().any(|image| image.is_dir()) {
        "--heatmap explains one picture; name one".to_owned()
    } else if args.images.iter().any(|image| is_same(image, out)) {
        format!("--heatmap would overwrite the picture itself, {}", escape_path(out))
    } else {
        return Ok(());
    };
    Err(UsageError(told).into())
}

fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    real(one).is_some_and(|one| Some(one) == real(other))
}

/// A map that was written.
struct Heat<'a> {
    policy: String,
    map: Heatmap,
    out: &'a Path,
}

impl Heat<'_> {
    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(
            out,
            "\n  heatmap of {} (approximate): {}",
            escape(self.policy.as_bytes()),
            escape_path(self.out)
        )?;
        if self.map.strongest() < 0.1 {
            return writeln!(out, "  no part alone matters: covering any changes next to nothing");
        }
        writeln!(
            out,
            "  red parts speak for it, blue ones against it; what matters only together"
        )?;
        writeln!(out, "  with other parts is not seen: a help for writing prompts, no proof")
    }

    fn json(&self) -> Value {
        let mut object = path_json("file", self.out);
        object.insert("policy".into(), self.policy.as_str().into());
        object.insert("approximate".into(), true.into());
        let row = |row: &[f32]| row.iter().map(|drop| number(f64::from(*drop))).collect::<Value>();
        let rows = self.map.drops.chunks(CELLS as usize).map(row).collect::<Value>();
        object.insert("log_odds_drops".into(), rows);
        object.into()
    }
}

fn wanted(args: &ExplainArgs, policy: &Policy) -> bool {
    args.only.is_empty() || args.only.iter().any(|id| id == policy.id.as_str())
}

/// What is stored of the uploads, to compare with.
struct Corpus {
    store: Store,
    decided: Vec<DecidedItem>,
    /// The decided items' vectors, and whose each is: an index into `decided`.
    vectors: Vec<(usize, Embedding)>,
}

impl Corpus {
    async fn open(store: Store, card: &ModelCard) -> anyhow::Result<Self> {
        let decided = store.latest_decisions().await?;
        let numbers: Vec<i64> = decided.iter().map(|one| one.number).collect();
        let mut vectors = Vec::new();
        for part in numbers.chunks(1000) {
            let block = store.vectors_of(&card.fingerprint, part).await?;
            let mut bytes = block.vectors.chunks_exact(2 * card.embedding_dim);
            for item in &block.items {
                let index = decided.partition_point(|one| one.number < item.number);
                for vector in bytes.by_ref().take(item.views) {
                    vectors.push((index, Embedding::from_f16_bytes(vector)?));
                }
            }
        }
        Ok(Self { store, decided, vectors })
    }

    /// The share of recorded scores of this very policy that are lower, and how many there are.
    async fn rank(
        &self,
        policy: &Policy,
        card: &ModelCard,
        score: f32,
    ) -> anyhow::Result<Option<(u64, u64)>> {
        let (below, all) = self.store.scores_below(policy.hash(), &card.fingerprint, score).await?;
        Ok((all > 0).then_some((below, all)))
    }

    async fn nearest(&self, judged: &Judged) -> anyhow::Result<Option<Nearest<'_>>> {
        let likeness = |(index, vector): &(usize, Embedding)| {
            let cosines = judged.views.iter().map(|view| view.cosine(vector));
            (*index, cosines.fold(f32::NEG_INFINITY, f32::max))
        };
        let best = self.vectors.iter().map(likeness).max_by(|a, b| a.1.total_cmp(&b.1));
        let Some((index, cosine)) = best.filter(|_| !judged.views.is_empty()) else {
            return Ok(None);
        };
        let decision = &self.decided[index];
        let names = self.store.name_items(&[decision.number]).await?;
        let path = match names.get(&decision.number) {
            Some((_, Some(path))) => escape_path(path),
            Some((id, None)) => id.short(),
            None => String::new(),
        };
        Ok(Some(Nearest { cosine, decision, path }))
    }
}

struct Explained<'a> {
    judged: &'a Judged,
    scored: Vec<(&'a Classifier, PolicyScore)>,
    /// For each score, how many recorded ones are lower, of how many.
    ranks: Vec<Option<(u64, u64)>>,
    nearest: Option<Nearest<'a>>,
    heat: Option<Heat<'a>>,
    card: &'a ModelCard,
}

impl Explained<'_> {
    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let path = escape_path(&self.judged.sighting.path);
        let verdict = &self.judged.verdict;
        let reason = verdict.reason.as_ref();
        let reason = reason.map(|reason| format!(" ({})", escape(reason.to_string().as_bytes())));
        writeln!(out, "{path}: {}{}", verdict.outcome, reason.unwrap_or_default())?;
        for ((classifier, score), rank) in self.scored.iter().zip(&self.ranks) {
            let policy = &classifier.policy;
            let thresholds = policy.thresholds;
            writeln!(
                out,
                "\n  {} {:.3}: {} (review from {}, block from {}{})",
                policy.id,
                score.score,
                policy.judge(score.score),
                thresholds.review(),
                thresholds.block(),
                if policy.scope.includes(self.judged.sighting.below()) {
                    ""
                } else {
                    "; out of scope"
                }
            )?;
            if let (Some(adapter), Some(words)) = (&policy.adapter, score.words) {
                writeln!(
                    out,
                    "  adapted by {}; the words alone say {words:.3}: {}",
                    adapter.name(),
                    policy.judge(words)
                )?;
            }
            if let Some(probability) = policy.probability(score.score, &self.card.fingerprint) {
                writeln!(
                    out,
                    "  a person would remove {:.0} % of such scores",
                    probability * 100.0
                )?;
            }
            if let Some((below, all)) = rank {
                writeln!(
                    out,
                    "  higher than {} of your uploads ({all})",
                    in_percent(*below, *all)
                )?;
            }
            if self.judged.views.len() > 1 {
                let views = self.judged.views.len();
                writeln!(out, "  view {} of {views} has the highest score", score.view + 1)?;
            }
            let rows: Vec<_> = by_share(&score.shares).into_iter().map(share_row).collect();
            table(out, &["    share", "", "cosine", "logit", "prompt"], &rows)?;
        }
        if let Some(nearest) = &self.nearest {
            let action = if nearest.decision.removed() { "removed" } else { "approved" };
            writeln!(
                out,
                "\n  nearest decided picture: {action}, cosine {:.3}, {}",
                nearest.cosine, nearest.path
            )?;
        }
        if let Some(heat) = &self.heat {
            heat.print(out)?;
        }
        writeln!(out)
    }

    fn json(&self) -> Value {
        let model = Some((self.card.name.as_str(), &self.card.fingerprint));
        let mut object = file_json(&self.judged.sighting.path, self.judged.item, model);
        let verdict = &self.judged.verdict;
        object.insert("outcome".into(), verdict.outcome.as_str().into());
        let reason = verdict.reason.as_ref().map(ToString::to_string);
        object.insert("reason".into(), reason.into());
        let policies = self.scored.iter().zip(&self.ranks).map(|((classifier, score), rank)| {
            let policy = &classifier.policy;
            json!({
                "id": policy.id.as_str(),
                "hash": policy.hash().short(),
                "score": number(f64::from(score.score)),
                "adapter": policy.adapter.as_ref().map(|adapter| adapter.name().to_string()),
                "score_by_words": score.words.map(|words| number(f64::from(words))),
                "outcome": policy.judge(score.score).as_str(),
                "in_scope": policy.scope.includes(self.judged.sighting.below()),
                "review": number(f64::from(policy.thresholds.review())),
                "block": number(f64::from(policy.thresholds.block())),
                "probability": policy.probability(score.score, &self.card.fingerprint).map(number),
                "view": score.view,
                "views": self.judged.views.len(),
                "recorded_below": rank.map(|(below, _)| below),
                "recorded": rank.map(|(_, all)| all),
                "prompts": score.shares.iter().map(share_json).collect::<Value>(),
            })
        });
        object.insert("policies".into(), policies.collect());
        let nearest = self.nearest.as_ref().map(|nearest| {
            json!({
                "cosine": number(f64::from(nearest.cosine)),
                "action": nearest.decision.action.as_str(),
                "path": nearest.path,
            })
        });
        object.insert("nearest_decided".into(), nearest.into());
        if let Some(heat) = &self.heat {
            object.insert("heatmap".into(), heat.json());
        }
        object.into()
    }
}

fn by_share(shares: &[PromptShare]) -> Vec<&PromptShare> {
    let mut shares: Vec<_> = shares.iter().collect();
    shares.sort_by(|a, b| b.share.total_cmp(&a.share));
    shares
}

fn share_row(share: &PromptShare) -> Vec<String> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 14")]
    let bar = "█".repeat((share.share.clamp(0.0, 1.0) * 14.0).round() as usize);
    let text =
        if share.contrast { format!("{} (contrast)", share.text) } else { share.text.clone() };
    vec![
        format!("    {:.3}", share.share),
        format!("{bar:<14}"),
        format!("{:.4}", share.cosine),
        format!("{:.2}", share.logit),
        escape(text.as_bytes()),
    ]
}

fn share_json(share: &PromptShare) -> Value {
    json!({
        "text": share.text,
        "contrast": share.contrast,
        "cosine": number(f64::from(share.cosine)),
        "logit": number(f64::from(share.logit)),
        "share": number(f64::from(share.share)),
    })
}

/// `99.2 %`
#[expect(clippy::cast_precision_loss, reason = "one decimal")]
fn in_percent(part: u64, all: u64) -> String {
    format!("{:.1} %", part as f64 * 100.0 / all as f64)
}
