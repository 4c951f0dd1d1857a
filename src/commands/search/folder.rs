//! Any folder, made searchable: an index beside it that grows with the folder.
//!
//! The index is a small workspace of its own, whose one policy includes no path: the same reading,
//! decoding and embedding as for uploads, and nothing is judged. A scan before each search finds
//! what came and what changed since the last one.

use std::collections::BTreeSet;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::oneshot;
use tracing::warn;

use crate::commands::find::Searcher;
use crate::commands::progress::{Doing, Progress};
use crate::commands::watch::{Missing, roots, settle_times, stop_signals};
use crate::commands::workspace;
use crate::config::Config;
use crate::files::{Excluded, Roots};
use crate::ground;
use crate::moderation::escape::escape_path;
use crate::moderation::{
    Arming, Classifier, ItemId, ItemNumbers, Mode, OnBlock, Policy, PolicyId, Prompt, SafeView,
    Scope, Scoring, Severity, Thresholds,
};
use crate::pipeline::{self, Judging, Monitor, Source, Stages, Trust};
use crate::store::Store;

/// So many paths are looked at in one go.
const PAGE: u32 = 5000;

/// Ends the name of an index beside a folder.
const SUFFIX: &str = ".modtool-index";

/// Brings the folder's index up to date and opens it.
///
/// # Errors
/// When the folder can't be read, the index can't be written, or the user ends it before its time.
pub(super) async fn open(dir: &Path, config: &Config) -> anyhow::Result<Searcher> {
    let roots = roots(&[dir.to_owned()], Missing::Refuse)?;
    let root = roots.first().context("no folder was named")?.clone();
    let index = index_of(&root, config)?;
    let config = Config { workspace: index.clone(), hooks: Vec::new(), ..config.clone() };
    let decoders = workspace::decoders(&config)?;
    let (encoder, _) = tokio::task::block_in_place(|| workspace::encoder(&config))?;
    let store = Arc::new(workspace::store(&config).await?);
    let nothing = Arc::new(no_policy()?);
    let texts = encoder.embed_texts(&nothing.expanded_texts())?;
    tokio::task::block_in_place(|| encoder.open_for_pictures())?;
    let card = encoder.model().clone();
    let classifier = Classifier::new(Arc::clone(&nothing), &texts, card.logit_scale)?;
    let judged_by = store.begin_judging(&card.fingerprint, &card.name, &[nothing]).await?;
    let encoder: Arc<dyn crate::vision::Encoder> = encoder.into();
    let (give, judging) = oneshot::channel();
    let ready = Judging { encoder: Arc::clone(&encoder), classifiers: vec![classifier], judged_by };
    // The other end is held right here.
    let _ = give.send(ready);
    let monitor = Arc::<Monitor>::default();
    let stages = Stages {
        store: Arc::clone(&store),
        spec: card.image.clone(),
        fingerprint: card.fingerprint.clone(),
        judging,
        reload: None,
        decoders: Arc::clone(&decoders),
        settle: settle_times(&config, &roots),
        preparers: std::thread::available_parallelism().map_or(2, usize::from),
        batch: config.engine.batch,
        roots: Arc::default(),
        excluded: Excluded::folder(index),
        told: BTreeSet::new(),
        monitor: Arc::clone(&monitor),
        on_verdict: Box::new(|_, _| ()),
    };
    let (told, mut again) = stop_signals()?;
    let quiet = !tracing::enabled!(tracing::Level::WARN);
    let progress = Progress::start(Arc::clone(&monitor), Doing::Indexing, quiet, config.json_log);
    let (stopped, mut stop) = oneshot::channel();
    let told = async move {
        told.await;
        // Nobody waits for it when the scan is over.
        let _ = stopped.send(());
    };
    let ended = tokio::select! {
        ended = pipeline::run(Source::Scan(roots, Trust::Times), stages, told) => ended,
        _ = again.recv() => anyhow::bail!("ended at once; the index goes on from here next time"),
    };
    drop(progress);
    ended?;
    if stop.try_recv().is_ok() {
        anyhow::bail!(
            "ended before all pictures of {} were looked at; the index goes on from here next time",
            escape_path(&root)
        );
    }
    let living = living(&store, &root).await?;
    Ok(Searcher::new(store, card, config).with(encoder, decoders).among(living))
}

/// The items that still lie somewhere: a file that was deleted is nothing to compare with. (One
/// that was moved is no new item, and is not looked at again.)
async fn living(store: &Store, root: &Path) -> anyhow::Result<ItemNumbers> {
    let roots = Roots::default();
    let mut living = ItemNumbers::default();
    let mut last = 0;
    loop {
        let page = store.places_after(last, PAGE).await?;
        let Some((number, ..)) = page.last() else { return Ok(living) };
        last = *number;
        tokio::task::block_in_place(|| {
            for (_, item, path) in &page {
                let sighting =
                    crate::moderation::Sighting { path: path.clone(), root: root.to_owned() };
                if matches!(roots.regular(&sighting), Ok(Some(_))) {
                    living.insert(*item);
                }
            }
        });
    }
}

/// Beside the folder; in the data folder where nothing can be written there, or where it lies on
/// the network.
fn index_of(root: &Path, config: &Config) -> anyhow::Result<PathBuf> {
    let beside = root.file_name().map(|name| {
        let mut name = name.to_owned();
        name.push(SUFFIX);
        root.with_file_name(name)
    });
    if let Some(beside) = &beside
        && workspace::network_file_system(root).is_none()
        && make(beside).is_ok()
    {
        return Ok(beside.clone());
    }
    let name = ItemId::of_bytes(root.as_os_str().as_encoded_bytes()).to_string();
    let elsewhere = config.data_dir.join("folders").join(name);
    if !elsewhere.exists() {
        warn!(
            index = %escape_path(&elsewhere),
            "no index can be kept beside {}; it is kept elsewhere",
            escape_path(root)
        );
    }
    make(&elsewhere)
        .with_context(|| format!("can't make the index {}", escape_path(&elsewhere)))?;
    Ok(elsewhere)
}

/// Makes the folder, for its owner alone, and sees whether it can be written to. One that somebody
/// else made, or may swap for another, is not used: what it holds would be believed.
fn make(folder: &Path) -> std::io::Result<()> {
    let trusted =
        |path: &Path| ground::check(path).map_err(|place| std::io::Error::other(place.to_string()));
    folder.parent().map_or(Ok(()), trusted)?;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let kind = std::fs::symlink_metadata(folder)?;
    if !kind.is_dir() {
        return Err(std::io::Error::other("it is not a folder"));
    }
    // Another user may have made it first.
    trusted(folder)?;
    rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).map_err(Into::into)
}

/// A policy that looks at no path: without any policy everything would go to review.
fn no_policy() -> anyhow::Result<Policy> {
    Ok(Policy {
        id: PolicyId::new("none".to_owned())?,
        title: "Nothing".to_owned(),
        description: String::new(),
        severity: Severity::Low,
        mode: Mode::Background,
        prompts: vec![Prompt { text: "a picture".to_owned(), weight: 1.0 }],
        contrast: vec![Prompt { text: "a photo".to_owned(), weight: 1.0 }],
        neutral: Vec::new(),
        templates: vec!["{}".to_owned()],
        scoring: Scoring::Contrast,
        thresholds: Thresholds::new(1.0, 1.0)?,
        scope: Scope::nothing(),
        safe_view: SafeView::None,
        on_block: OnBlock::None,
        arming: Arming::default(),
        inherit: false,
        calibration: None,
        adapter: None,
    })
}
