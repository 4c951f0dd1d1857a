//! Takes policies over while a watcher runs: always the new ones or the last good ones.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use crate::config::Config;
use crate::moderation::escape::{escape_lines, escape_path};
use crate::moderation::{Classifier, Fingerprint, PolicyHash};
use crate::pipeline::{self, Monitor, Reload};
use crate::policy_file::{PolicyFile, PolicyProblems};
use crate::store::{JudgedBy, Store};
use crate::vision::Encoder;

use super::adapters::Adapters;
use super::watch::Run;
use super::workspace;

/// What the policy files hold, by name.
type Texts = Vec<(PathBuf, Vec<u8>)>;

/// The policy files of a workspace, looked at again and again.
pub(super) struct PolicyFiles {
    config: Config,
    /// What was taken over or refused last; nothing where there is no folder.
    handled: Option<Texts>,
    /// Seen once: an editor may be in the middle of writing it.
    seen: Option<Texts>,
    /// There was no folder of policies at the start.
    starter: bool,
    load: Load,
}

/// How the policies are read: with what runs in the background, or without.
type Load = fn(&Config) -> Result<Vec<PolicyFile>, PolicyProblems>;

impl PolicyFiles {
    /// As they are now.
    pub(super) fn of(config: Config, load: Load) -> Self {
        let starter = !config.policies().exists();
        Self { handled: texts(&config, starter), seen: None, starter, load, config }
    }

    /// The policies, or what is wrong with them, when the files are other ones than at the last
    /// answer; only what stays the same for two looks is what somebody meant to write.
    pub(super) fn look(&mut self) -> Option<Result<Vec<PolicyFile>, PolicyProblems>> {
        let found = texts(&self.config, self.starter);
        if found == self.handled {
            self.seen = None;
            return None;
        }
        if self.seen.is_none() || self.seen != found {
            self.seen = found;
            return None;
        }
        self.seen = None;
        let files = (self.load)(&self.config);
        // Written again while it was read: the next look takes it.
        if texts(&self.config, self.starter) != found {
            return None;
        }
        self.handled = found;
        Some(files)
    }
}

struct Reloader {
    files: PolicyFiles,
    store: Arc<Store>,
    monitor: Arc<Monitor>,
    rescores: bool,
    hashes: Vec<PolicyHash>,
    rescoring: Option<JoinHandle<()>>,
    runtime: Handle,
}

/// Looks at the policies again and again.
///
/// # Errors
/// When the policies can't be read now.
pub(super) fn watching(config: Config, run: &Run) -> anyhow::Result<Reload> {
    let rescores = config.actions.rescore_on_change;
    let watched = PolicyFiles::of(config, workspace::judging_policies);
    let files = workspace::judging_policies(&watched.config)?;
    let mut reloader = Reloader {
        files: watched,
        rescores,
        store: Arc::clone(&run.store),
        monitor: Arc::clone(&run.monitor),
        hashes: files.iter().map(|file| file.policy.hash()).collect(),
        rescoring: None,
        runtime: Handle::current(),
    };
    Ok(Box::new(move |encoder| reloader.look(encoder)))
}

impl Reloader {
    fn look(&mut self, encoder: &dyn Encoder) -> Option<(Vec<Classifier>, JudgedBy)> {
        let files = self.files.look()?;
        match files.map_err(Into::into).and_then(|files| self.take_over(encoder, &files)) {
            Ok(taken) => Some(taken),
            Err(problem) => {
                error!(
                    problem = %escape_lines(&format!("{problem:#}")),
                    "the policies are broken; the last good ones stay in force"
                );
                self.monitor.went_wrong(format_args!("policies: {problem:#}"));
                None
            }
        }
    }

    fn take_over(
        &mut self,
        encoder: &dyn Encoder,
        files: &[PolicyFile],
    ) -> anyhow::Result<(Vec<Classifier>, JudgedBy)> {
        let hashes: Vec<_> = files.iter().map(|file| file.policy.hash()).collect();
        if files.is_empty() {
            warn!("there is no policy any more: every picture goes to review");
        }
        let card = encoder.model().clone();
        let policies: Vec<_> = files.iter().map(|file| Arc::clone(&file.policy)).collect();
        let store = Arc::clone(&self.store);
        let (classifiers, judged_by) = self.runtime.block_on(async {
            let classifiers =
                workspace::classifiers(encoder, files, &self.files.config, Some(&store)).await?;
            let judged_by = store.begin_judging(&card.fingerprint, &card.name, &policies).await?;
            Ok::<_, anyhow::Error>((classifiers, judged_by))
        })?;
        let changed = hashes != self.hashes;
        self.hashes = hashes;
        info!(policies = classifiers.len(), changed, "policies taken over");
        if changed && self.rescores {
            self.rescore(card.fingerprint, classifiers.clone(), judged_by.clone());
        }
        Ok((classifiers, judged_by))
    }

    fn rescore(&mut self, print: Fingerprint, classifiers: Vec<Classifier>, judged_by: JudgedBy) {
        if let Some(older) = self.rescoring.take() {
            older.abort();
        }
        let store = Arc::clone(&self.store);
        self.rescoring = Some(self.runtime.spawn(async move {
            match pipeline::rescore(&store, &print, &classifiers, &judged_by, |_| ()).await {
                Ok(done) => info!(
                    items = done.items,
                    judged = done.judged,
                    changed = done.changed,
                    tasks_opened = done.opened,
                    "judged stored pictures again"
                ),
                Err(error) => error!(%error, "stored pictures could not be judged again"),
            }
        }));
    }
}

impl Drop for Reloader {
    fn drop(&mut self) {
        if let Some(rescoring) = self.rescoring.take() {
            rescoring.abort();
        }
    }
}

/// What verdicts depend on, as it is now: every policy file, and which adapters are in use. `None`
/// where nothing is known, and so nothing changes.
fn texts(config: &Config, starter: bool) -> Option<Texts> {
    let log = Adapters::of(config).log();
    let in_use = std::fs::read(&log).ok().map(|text| (log, text));
    let written = policy_texts(&config.policies());
    match (written, in_use) {
        (Some(mut texts), in_use) => {
            texts.extend(in_use);
            Some(texts)
        }
        // A folder that went away is no wish for the starter policies.
        (None, Some(in_use)) if starter && !config.policies().exists() => Some(vec![in_use]),
        (None, _) => None,
    }
}

/// Every policy file as it is now; `None` where there is no folder, or it can't be read whole (a
/// file that is being renamed): then nothing is known, and nothing changes.
fn policy_texts(folder: &Path) -> Option<Texts> {
    let mut texts = Vec::new();
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            tracing::debug!(folder = %escape_path(folder), %error, "no policies to look at");
            return None;
        }
    };
    for entry in entries {
        let path = entry.ok()?.path();
        let is_yaml = path.extension().is_some_and(|e| e == "yaml" || e == "yml");
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes()[0] == b'.');
        if is_yaml && !hidden && path.is_file() {
            texts.push((path.clone(), std::fs::read(&path).ok()?));
        }
    }
    texts.sort();
    Some(texts)
}
