//! `modtool search`: the pictures that are most like a description, other pictures, or sums of them.

mod folder;
mod interactive;
mod print;
mod thumbnails;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use crate::config::{Config, PICTURES};
use crate::exit_code::ExitCode;
use crate::files::{Entry, Kind};
use crate::moderation::escape::escape_path;
use crate::moderation::{Embedding, FoundItem};
use crate::search::Formula;
use crate::tui::KnownPolicy;

use super::find::{Answer, Searcher, filter_of, formula, must_be_known};
use super::screen::protocol::PictureChoice;
use super::{UsageError, queue, review, workspace};
use thumbnails::Shown;

/// Find pictures by a description, by another picture, or by sums of them
///
/// Searches what `watch` and `scan` have seen, or any folder with --dir. The score is a cosine, no
/// probability: what it is worth, the percentile says, the share of your own pictures that are
/// less alike.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct SearchArgs {
    /// What to look for; ` + ` adds, ` - ` takes away, `2:dog` weighs
    #[arg(value_name = "QUERY")]
    query: Vec<String>,

    /// A picture to look for, a file or an item's id; with a query, they are added
    #[arg(long, value_name = "IMAGE")]
    like: Vec<PathBuf>,

    /// How many to show
    #[arg(
        long,
        value_name = "N",
        default_value = "20",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    top: u32,

    /// Form of what is printed [default: table, or paths with -0]
    #[arg(long, value_enum)]
    format: Option<SearchFormat>,

    /// Paths as they are, each ended by a NUL, for `xargs -0`
    #[arg(short = '0', long = "null")]
    nul: bool,

    /// Search the pictures of this folder instead; an index beside it makes the next time fast
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    /// Type and see the pictures change; Enter prints the path of the one that is taken
    #[arg(long)]
    interactive: bool,

    #[command(flatten)]
    small: Small,

    #[command(flatten)]
    only: Only,
}

/// The small pictures above the table and on the screen.
#[derive(Debug, Args)]
struct Small {
    /// How the terminal is given small pictures [default: what modtool.yaml says, else auto: only
    /// in a table on a terminal]
    #[arg(
        long,
        visible_alias = "thumbnails",
        value_name = "HOW",
        value_parser = clap::builder::PossibleValuesParser::new(PICTURES)
    )]
    pictures: Option<String>,

    /// Words only: the same as --pictures off
    #[arg(long, conflicts_with = "pictures")]
    no_pictures: bool,

    /// Show also what was flagged or removed in full, not as its policy's safe view says
    #[arg(long)]
    reveal: bool,
}

/// Restrictions.
#[derive(Debug, Args)]
#[command(next_help_heading = "Only pictures that")]
struct Only {
    /// this policy flagged, now or at some time
    #[arg(long, value_name = "ID", conflicts_with = "dir")]
    policy: Option<String>,

    /// have this outcome: allow, review, block
    #[arg(long, value_name = "OUTCOME", conflicts_with = "dir")]
    outcome: Option<String>,

    /// were decided so: approve, remove, none
    #[arg(long, value_name = "DECISION", conflicts_with = "dir")]
    decision: Option<String>,

    /// have a task in this state: open, escalated, closed
    #[arg(long, value_name = "STATE", conflicts_with = "dir")]
    state: Option<String>,

    /// lie at a path with this text, or that ends in this pattern (*.png, cats/*)
    #[arg(long, value_name = "TEXT")]
    path: Option<String>,

    /// were first seen since this day (2026-11-23), time, or age (12h, 30d)
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,

    /// were first seen before
    #[arg(long, value_name = "WHEN")]
    until: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SearchFormat {
    /// For people
    Table,
    /// One JSON object a line: path, item, score, percentile
    Json,
    /// One path a line; with -0 as they are, each ended by a NUL
    Paths,
}

const EXAMPLES: &str = "\
Examples:
  modtool search \"a sunset over the ocean\" --top 50
  modtool search \"dog + 2:snow - people\" --policy weapons --since 7d
  modtool search --like photo.jpg --format json
  modtool search \"a receipt\" --dir ~/Pictures -0 | xargs -0 ls -l";

impl Only {
    /// Pairs, as they can be typed in the query too.
    fn pairs(&self) -> Vec<(&'static str, String)> {
        let values = [
            &self.policy,
            &self.outcome,
            &self.decision,
            &self.state,
            &self.path,
            &self.since,
            &self.until,
        ];
        let pairs = Formula::KEYS.into_iter().zip(values);
        pairs.filter_map(|(key, value)| Some((key, value.clone()?))).collect()
    }
}

pub(super) async fn run(args: SearchArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let form = print::Form::of(args.format, args.nul)?;
    let formula = formula(&args.query.join(" "))?;
    if formula.terms.is_empty() && args.like.is_empty() && !args.interactive {
        let told = "say what to look for, as in `modtool search \"a sunset over the ocean\"`, or \
                    give a picture with --like";
        return Err(UsageError(told.to_owned()).into());
    }
    let only: Vec<_> = formula.only.iter().cloned().chain(args.only.pairs()).collect();
    let filter = filter_of(&only)?;
    let mut searcher = if let Some(dir) = &args.dir {
        refuse_what_a_folder_has_not(&only)?;
        folder::open(dir, config).await?
    } else {
        let store = workspace::existing_store(config).await?;
        let card = workspace::model(config)?.card;
        must_be_known(filter.policy.as_ref(), &store, config).await?;
        Searcher::new(Arc::new(store), card, config.clone())
            .beneath(workspace::watched(config).await)
    };
    if args.interactive {
        refuse_what_a_screen_has_not(&args)?;
    }
    let bar = copying();
    searcher.bring_up_to_date(|copied| bar.set_position(copied)).await?;
    bar.finish_and_clear();
    if searcher.count()? == 0 {
        let model = &searcher.card.name;
        anyhow::bail!(match &args.dir {
            Some(dir) => format!("there is no picture in {}", escape_path(dir)),
            None => format!(
                "the model {model} has seen no picture here yet; `modtool scan DIR` shows it some"
            ),
        });
    }
    if args.interactive {
        return interactively(args, config, searcher).await;
    }
    let mut pictures = Vec::with_capacity(args.like.len());
    for like in &args.like {
        pictures.push(picture(&mut searcher, like).await?);
    }
    let direction = tokio::task::block_in_place(|| searcher.direction(&formula.terms, &pictures))?;
    let set = searcher.store.items_where(&filter).await?;
    let top = usize::try_from(args.top).unwrap_or(usize::MAX);
    let answer = searcher.nearest(&direction, set, top, is_there(&args)).await?;
    if form == print::Form::Table && !answer.hits.is_empty() {
        show(&args, config, &mut searcher, &answer)?;
    }
    print::answer(form, &answer, args.dir.is_some())?;
    if let Some(store) = Arc::into_inner(searcher.store) {
        store.close().await;
    }
    Ok(ExitCode::Clean)
}

fn refuse_what_a_screen_has_not(args: &SearchArgs) -> Result<(), UsageError> {
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        return Err(UsageError("`modtool search --interactive` needs a terminal".to_owned()));
    }
    if args.nul || args.format.is_some() || !args.like.is_empty() {
        let told = "--interactive goes neither with --format, -0 nor --like: Tab searches by the \
                    picture that is selected";
        return Err(UsageError(told.to_owned()));
    }
    Ok(())
}

/// The screen; what was taken there is printed.
async fn interactively(
    args: SearchArgs,
    config: &Config,
    mut searcher: Searcher,
) -> anyhow::Result<ExitCode> {
    let shown = shown(&args, config, &mut searcher)?;
    // Restrictions that were typed stand in the line, where they can be changed.
    let typed = args.query.join(" ");
    let terms = interactive::Terms {
        typed,
        only: args.only.pairs(),
        top: usize::try_from(args.top).unwrap_or(usize::MAX),
        is_there: is_there(&args),
        choice: choice(&args, config),
    };
    let (searcher, taken) = interactive::run(searcher, shown, terms).await?;
    if let Some(path) = taken {
        print::path(&path)?;
    }
    if let Some(store) = Arc::into_inner(searcher.store) {
        store.close().await;
    }
    Ok(ExitCode::Clean)
}

/// Files of a folder can go away while nobody looks.
fn is_there(args: &SearchArgs) -> fn(&FoundItem) -> bool {
    if args.dir.is_some() { still_lies_there } else { |item| item.path.is_some() }
}

/// Small pictures above the table, where the terminal can show any.
fn show(
    args: &SearchArgs,
    config: &Config,
    searcher: &mut Searcher,
    answer: &Answer,
) -> anyhow::Result<()> {
    let Some(picker) = thumbnails::picker(choice(args, config)) else { return Ok(()) };
    let shown = shown(args, config, searcher)?;
    Ok(tokio::task::block_in_place(|| thumbnails::print(answer, &shown, &picker))?)
}

fn choice(args: &SearchArgs, config: &Config) -> PictureChoice {
    match args.small.pictures.as_deref() {
        _ if args.small.no_pictures => PictureChoice::Off,
        Some(how) => PictureChoice::parse(how),
        // Settings for the dashboard force nothing on a pipe.
        None if !std::io::stdout().is_terminal() => PictureChoice::Off,
        None => PictureChoice::parse(&config.review.pictures),
    }
}

fn shown(args: &SearchArgs, config: &Config, searcher: &mut Searcher) -> anyhow::Result<Shown> {
    Ok(Shown {
        decoders: searcher.decoders()?,
        quarantine: config.quarantine(),
        policies: known_policies(config, args.dir.is_some())?,
        reveal: args.small.reveal,
    })
}

/// Whose safe views hold; none in a folder, where nothing was judged.
fn known_policies(config: &Config, in_folder: bool) -> anyhow::Result<Vec<KnownPolicy>> {
    if in_folder {
        return Ok(Vec::new());
    }
    let files = workspace::policies(config)?;
    Ok(files.iter().map(|file| review::known_policy(&file.policy)).collect())
}

/// In a folder nothing was judged.
fn refuse_what_a_folder_has_not(only: &[(&'static str, String)]) -> Result<(), UsageError> {
    match only.iter().find(|(key, _)| !["path", "since", "until"].contains(key)) {
        None => Ok(()),
        Some((key, _)) => Err(UsageError(format!(
            "{key} can't restrict a search with --dir: the pictures of a folder were not judged; \
             `modtool scan DIR` judges them"
        ))),
    }
}

fn still_lies_there(item: &FoundItem) -> bool {
    let entry = item.path.as_deref().and_then(|path| Entry::without_links(path).ok());
    let stat = entry.and_then(|entry| entry.stat().ok().flatten());
    stat.is_some_and(|stat| stat.kind == Kind::File)
}

/// The picture that was named: a file, or an item by its id.
async fn picture(searcher: &mut Searcher, named: &Path) -> anyhow::Result<Embedding> {
    if named.exists() {
        anyhow::ensure!(!named.is_dir(), "{} is a folder, no picture", escape_path(named));
        return tokio::task::block_in_place(|| searcher.picture(named));
    }
    let digits = named.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if digits.is_none() {
        let told = format!("there is no picture {}", escape_path(named));
        return Err(UsageError(told).into());
    }
    let items = queue::named(&searcher.store, &[named.to_owned()]).await?;
    let item = items.first().context("nothing was named")?;
    let views = searcher.store.item_embeddings(*item, &searcher.card.fingerprint).await?;
    views.into_iter().next().with_context(|| {
        format!("the model {} has not seen item {}", searcher.card.name, item.short())
    })
}

/// Making vectors searchable takes a while the first time, where there are many.
fn copying() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {pos} pictures made searchable");
    let bar = ProgressBar::new_spinner();
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}
