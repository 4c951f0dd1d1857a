//! `modtool eval`: what the model can tell apart on labelled pictures, without any training.

mod adapted;
mod html;
mod labels;
mod pictures;
mod queries;
mod report;
mod templates;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use clap::Args;

use crate::cli::OutputFormat;
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::moderation::escape::escape_path;
use crate::moderation::score::{sigmoid, softmax};
use crate::moderation::{Embedding, Evaluation, Reason};
use crate::vision::ModelCard;

use super::{UsageError, workspace};
use adapted::Adapted;
use labels::Labels;
use queries::Retrieval;
use templates::TemplateSet;

/// Measure the model on labelled pictures: zero-shot accuracy, calibration, retrieval
///
/// The folders of DIR are the classes (`_` reads as a space), or --labels says what is in each
/// picture. Every class is put into the bare template `{}`, into `a photo of a {}`, and into each
/// file of templates, whose vectors are averaged. Pictures are prepared as the model's reference
/// implementation does it, so that the figures can be compared with published ones.
#[derive(Debug, Args)]
pub(super) struct EvalArgs {
    /// Folder with a folder of pictures for each class
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    /// Labels instead of folders: CSV with the columns path and label, or JSON lines
    /// `{"path", "label"}`; paths below DIR
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,

    /// What a class is called in the templates; several texts of a class are averaged
    #[arg(long = "class", value_name = "NAME=TEXT", value_parser = class_text)]
    texts: Vec<(String, String)>,

    /// More templates to compare, one a line, as one ensemble; give several for several
    #[arg(long, value_name = "FILE")]
    templates: Vec<PathBuf>,

    /// Queries to find pictures by: JSON lines `{"query", "relevant": [path, …]}`, or CSV with one
    /// query,path a line
    #[arg(long, value_name = "FILE")]
    queries: Option<PathBuf>,

    /// Precision and recall of the queries after so many finds
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,5,10",
          value_parser = clap::value_parser!(u16).range(1..))]
    k: Vec<u16>,

    /// Try this adapter on the pictures that it did not learn from, beside the words of its policy
    /// alone; its policy must be a class. Give several for several [default: those in use]
    #[arg(long = "adapter", value_name = "NAME")]
    adapters: Vec<String>,

    /// Try none
    #[arg(long, conflicts_with = "adapters")]
    no_adapter: bool,

    /// Write a report with pictures and plots: one file that needs nothing else
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Form of what is printed
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
}

fn class_text(text: &str) -> Result<(String, String), String> {
    let (name, text) = text.split_once('=').ok_or("it is NAME=TEXT, such as dog=\"a big dog\"")?;
    Ok((name.trim().to_owned(), text.trim().to_owned()))
}

/// Everything that was measured.
struct Measured {
    dir: PathBuf,
    labels: Labels,
    card: ModelCard,
    engine: String,
    /// For each set of templates what it made of the pictures; empty without classes.
    sets: Vec<MeasuredSet>,
    retrieval: Option<Retrieval>,
    /// What was learned, where there is anything about these classes.
    adapted: Option<Adapted>,
    /// Pictures that can't be judged, by their place.
    left_out: Vec<(usize, Reason)>,
    seconds: f64,
}

struct MeasuredSet {
    set: TemplateSet,
    evaluation: Evaluation,
    predictions: Vec<Prediction>,
}

/// What one picture was taken for.
struct Prediction {
    /// Its place.
    picture: usize,
    class: usize,
    predicted: usize,
    /// Of the predicted class.
    probability: f64,
    /// Of its own.
    own_probability: f64,
}

impl Measured {
    /// The templates that name most pictures rightly; of equal ones the first.
    fn best(&self) -> Option<&MeasuredSet> {
        self.sets.iter().rev().max_by_key(|set| set.evaluation.top1().hits)
    }

    /// The path below DIR, where it is.
    fn below(&self, picture: usize) -> &Path {
        let path = &self.labels.pictures[picture].path;
        path.strip_prefix(&self.dir).unwrap_or(path)
    }
}

pub(super) async fn run(args: &EvalArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let (dir, file) = source(args)?;
    let sets = templates::sets(&args.templates)?;
    let labels = Labels::read(&dir, file.as_deref(), &args.texts)?;
    let asked = args.queries.as_deref().map(|file| queries::read(file, &dir, &labels));
    let asked = asked.transpose()?;
    let nothing_to_tell = labels.classes.len() < 2 && asked.is_none();
    ensure!(
        !nothing_to_tell,
        "{} has {} of pictures, and telling apart takes two: one folder for each class, or \
         --labels FILE, or --queries FILE",
        escape_path(&dir),
        if labels.classes.is_empty() { "no folder" } else { "one folder" }
    );
    let chosen =
        if args.no_adapter { None } else { adapted::choose(&args.adapters, config, &labels)? };
    let (encoder, engine) = workspace::encoder(config)?;
    let decoders = workspace::decoders(config)?;
    // Before the long part: a text that is too long is told at once.
    let sets = if labels.classes.len() < 2 { Vec::new() } else { sets };
    let embed = |set: TemplateSet| {
        let classes = set.embed(encoder.as_ref(), &labels.classes);
        Ok((classes.with_context(|| format!("templates {}", set.name))?, set))
    };
    let sets: Vec<(Vec<Embedding>, TemplateSet)> =
        sets.into_iter().map(embed).collect::<anyhow::Result<_>>()?;
    let paths: Vec<&Path> = labels.pictures.iter().map(|picture| &*picture.path).collect();
    encoder.open_for_pictures()?;
    let embedded = pictures::embed(encoder.as_ref(), &decoders, config.engine.batch, &paths)?;
    let card = encoder.model().clone();
    let sets =
        sets.into_iter().map(|(classes, set)| measure(&card, &labels, &embedded, &classes, set));
    let sets: Vec<MeasuredSet> = sets.collect();
    let ks: Vec<usize> = args.k.iter().map(|k| usize::from(*k)).collect();
    let retrieval = asked.map(|asked| queries::ask(encoder.as_ref(), asked, &embedded, &ks));
    let retrieval = retrieval.transpose()?;
    let adapted = match &chosen {
        Some(chosen) => {
            Some(adapted::measure(chosen, config, encoder.as_ref(), &decoders, &labels).await?)
        }
        None => None,
    };
    let left_out = embedded.into_iter().enumerate();
    let left_out = left_out.filter_map(|(place, one)| Some((place, one.err()?))).collect();
    let measured = Measured {
        dir,
        labels,
        card,
        engine: engine.to_string(),
        sets,
        retrieval,
        adapted,
        left_out,
        seconds: started.elapsed().as_secs_f64(),
    };
    if let Some(file) = &args.html {
        html::write(file, &measured, &decoders)
            .with_context(|| format!("can't write {}", escape_path(file)))?;
    }
    match args.format {
        OutputFormat::Table => report::print(&measured)?,
        OutputFormat::Json => report::print_json(&measured)?,
    }
    Ok(ExitCode::Clean)
}

/// The folder that paths are below, and the labels. A file of labels may be named in its place.
fn source(args: &EvalArgs) -> anyhow::Result<(PathBuf, Option<PathBuf>)> {
    let about = std::fs::metadata(&args.dir);
    let about = about.with_context(|| format!("can't open {}", escape_path(&args.dir)))?;
    if about.is_dir() {
        return Ok((args.dir.clone(), args.labels.clone()));
    }
    if args.labels.is_some() {
        let dir = escape_path(&args.dir);
        return Err(UsageError(format!("{dir} is no folder; --labels names the file")).into());
    }
    let above = args.dir.parent().filter(|above| !above.as_os_str().is_empty());
    Ok((above.unwrap_or(Path::new(".")).to_owned(), Some(args.dir.clone())))
}

/// Softmax over the classes for CLIP, a sigmoid for each with SigLIP.
fn measure(
    card: &ModelCard,
    labels: &Labels,
    embedded: &[Result<Embedding, Reason>],
    classes: &[Embedding],
    set: TemplateSet,
) -> MeasuredSet {
    let mut evaluation = Evaluation::new(classes.len());
    let mut predictions = Vec::new();
    for (picture, (labelled, embedding)) in labels.pictures.iter().zip(embedded).enumerate() {
        let (Some(class), Ok(embedding)) = (labelled.class, embedding) else { continue };
        let logit = |text: &Embedding| card.logit_scale.logit(embedding.cosine(text));
        let logits: Vec<f64> = classes.iter().map(logit).collect();
        let probabilities = if card.kind.scores_prompts_alone() {
            logits.iter().map(|logit| sigmoid(*logit)).collect()
        } else {
            softmax(&logits)
        };
        let predicted = evaluation.add(class, &logits, &probabilities);
        predictions.push(Prediction {
            picture,
            class,
            predicted,
            probability: probabilities[predicted],
            own_probability: probabilities[class],
        });
    }
    MeasuredSet { set, evaluation, predictions }
}
