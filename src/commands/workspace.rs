//! Opens what commands work with: policies, store, engine, model and classifiers.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tracing::warn;

use super::prompts::PromptMemory;
use super::{UsageError, adapters, ground, inspected, misread, secret};
use crate::cli;
use crate::config::{Config, HookConfig};
use crate::files::{Named, Roots};
use crate::moderation::escape::{escape, escape_path};
use crate::moderation::{
    AuditKind, Classifier, Embedding, Fingerprint, LogitScale, Policy, Scoring,
};
use crate::pipeline::{Actor, Hook, Target};
use crate::policy_file::{self, Defaults, PolicyFile, PolicyProblems};
use crate::store::{Store, StoreSettings};
use crate::vision::engine::{self, Device, EngineChoice, EngineOptions, FoundEngine};
use crate::vision::{DecoderPool, Encoder, Limits, Model, SandboxMode, model, sandbox};

/// The policies that are in force: as they are written, each with what was learned for it and is
/// in use.
pub(super) fn policies(config: &Config) -> Result<Vec<PolicyFile>, PolicyProblems> {
    adapters::in_force(config, written_policies(config)?)
}

/// The same, and a background policy for each adapter that only runs along: for what records.
pub(super) fn judging_policies(config: &Config) -> Result<Vec<PolicyFile>, PolicyProblems> {
    adapters::with_shadows(config, written_policies(config)?)
}

/// The workspace's policies, or the starter policies where it has no folder of them.
pub(super) fn written_policies(config: &Config) -> Result<Vec<PolicyFile>, PolicyProblems> {
    let defaults = defaults(config);
    let folder = config.policies();
    if folder.exists() {
        policy_file::load_dir(&folder, &defaults)
    } else {
        policy_file::starter(&defaults)
    }
}

/// What policies take from the settings where they don't say it themselves.
pub(super) fn defaults(config: &Config) -> Defaults {
    let tool = Defaults::default();
    Defaults {
        templates: config.templates.clone().unwrap_or(tool.templates),
        neutral: config.neutral.clone().unwrap_or(tool.neutral),
    }
}

/// The workspace's database, made where it is missing.
///
/// # Errors
/// Also when the workspace lies on a network file system: SQLite's locks are not kept there, and
/// two machines that write at once would destroy the database.
pub(super) async fn store(config: &Config) -> anyhow::Result<Store> {
    if let Some(kind) = network_file_system(&config.workspace) {
        anyhow::bail!(
            "the workspace {} lies on {kind}, where a database is not safe; name a local folder \
             with --workspace (the watched folder may be on the network)",
            escape_path(&config.workspace)
        );
    }
    Ok(Store::open(&config.database()).await?.with_settings(settings(config)))
}

fn settings(config: &Config) -> StoreSettings {
    StoreSettings {
        grace_ms: i64::try_from(config.actions.grace_seconds * 1000).unwrap_or(i64::MAX),
        daily_hold_cap: config.actions.daily_hold_cap,
        audit_rate: config.actions.audit_rate,
        bank_flood: config.actions.bank_flood,
    }
}

/// Who carries out what verdicts and decisions wish for, with the workspace's hooks.
///
/// # Errors
/// [`ConfigError::Secret`](crate::config::ConfigError::Secret) when the secret of a hook can't be
/// read or is empty.
pub(super) fn actor(
    config: &Config,
    store: &Arc<Store>,
    roots: &Arc<Roots>,
) -> anyhow::Result<Actor> {
    let hooks = config.hooks.iter().map(hook).collect::<anyhow::Result<_>>()?;
    Ok(Actor::new(Arc::clone(store), Arc::clone(roots), config.quarantine(), hooks))
}

fn hook(hook: &HookConfig) -> anyhow::Result<Hook> {
    let kinds = hook.on.iter().flat_map(|event| match event.as_str() {
        "verdict" => vec![AuditKind::Verdict],
        "decision" => vec![AuditKind::Decision, AuditKind::Undo],
        _ => vec![
            AuditKind::Quarantined,
            AuditKind::Restored,
            AuditKind::Purged,
            AuditKind::Erased,
            AuditKind::BankOnHold,
            AuditKind::Armed,
            AuditKind::Disarmed,
        ],
    });
    let target = match &hook.webhook {
        None => Target::Command(hook.command.clone()),
        Some(url) => {
            let secret = secret::read(hook)?;
            for doubt in secret.iter().flat_map(|secret| &secret.doubts) {
                warn!(hook = escape(hook.name.as_bytes()), "{doubt}");
            }
            let secret = secret.map(|secret| secret.bytes);
            Target::Webhook { url: url.clone(), secret }
        }
    };
    Ok(Hook {
        name: hook.name.clone(),
        kinds: kinds.collect(),
        target,
        timeout: Duration::from_secs(hook.timeout_seconds),
        attempts: hook.attempts,
        pause: Duration::from_millis(hook.pause_ms),
    })
}

/// File systems that other machines write to, by their numbers in statfs(2).
const NETWORK: [(u64, &str); 7] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x00c3_6400, "Ceph"),
    (0x5346_414f, "AFS"),
    (0x7375_7245, "Coda"),
];

/// What may lie behind these is not known: sshfs or a virtual machine's host, but a local disk too.
const PERHAPS_NETWORK: [(u64, &str); 2] = [(0x6573_5546, "FUSE"), (0x0102_1997, "9p")];

/// The network file system that a folder lies on, if it does.
pub(super) fn network_file_system(folder: &Path) -> Option<&'static str> {
    kind_of(&NETWORK, number_of_file_system(folder)?)
}

/// The file system that a folder lies on, if the kernel's events may not tell there what others
/// write.
pub(super) fn file_system_without_events(folder: &Path) -> Option<&'static str> {
    let number = number_of_file_system(folder)?;
    kind_of(&NETWORK, number).or_else(|| kind_of(&PERHAPS_NETWORK, number))
}

fn number_of_file_system(folder: &Path) -> Option<u64> {
    Some(u64::try_from(rustix::fs::statfs(folder).ok()?.f_type).ok()? & 0xffff_ffff)
}

fn kind_of(kinds: &[(u64, &'static str)], number: u64) -> Option<&'static str> {
    kinds.iter().find(|(kind, _)| *kind == number).map(|(_, name)| *name)
}

/// The workspace's database; an error that says what to do where there is none yet.
pub(super) async fn existing_store(config: &Config) -> anyhow::Result<Store> {
    let path = config.database();
    anyhow::ensure!(
        path.exists(),
        "there is no {}: nothing was judged in this workspace yet; run `modtool watch DIR` here, \
         or name another folder with --workspace",
        path.display()
    );
    Ok(Store::open(&path).await?.with_settings(settings(config)))
}

/// Files that a person named: those below a folder that a watcher of this workspace watches, or
/// watched, are reached without links.
pub(super) async fn named(config: &Config, paths: &[PathBuf]) -> Named {
    Named::of(paths, watched(config).await)
}

/// The folders that watchers of this workspace watch or watched; none where that can't be told,
/// because it needs no database to score a file.
pub(super) async fn watched(config: &Config) -> Vec<PathBuf> {
    let path = config.database();
    if !path.exists() {
        return Vec::new();
    }
    let Ok(store) = Store::open(&path).await else { return Vec::new() };
    let beats = store.watcher_beats().await.unwrap_or_default();
    store.close().await;
    beats.into_iter().map(|beat| beat.root).collect()
}

/// What the decoder may spend on an upload.
pub(super) fn limits(config: &Config) -> Limits {
    Limits {
        file_bytes: u64::from(config.limits.file_mib) << 20,
        side: config.limits.side,
        megapixels: config.limits.megapixels,
        frames_scored: config.limits.frames,
        ..Limits::default()
    }
}

/// The decoder in its cage, tried out.
pub(super) fn decoders(config: &Config) -> anyhow::Result<Arc<DecoderPool>> {
    let mode = sandbox_mode(config);
    let program = sandbox::ourselves().context("can't find the path of this program")?;
    Ok(Arc::new(DecoderPool::start(&program, mode, limits(config))?))
}

/// How children that parse what strangers made are to be locked in.
pub(super) fn sandbox_mode(config: &Config) -> SandboxMode {
    let mode = config.sandbox.as_deref().and_then(SandboxMode::parse);
    mode.unwrap_or_else(SandboxMode::usual)
}

/// The model by name (`builtin`, or one in the data folder) or by folder.
pub(super) fn model(config: &Config) -> anyhow::Result<Model> {
    if config.model == "builtin" {
        return Ok(model::builtin()?);
    }
    let folder = model_folder(config);
    anyhow::ensure!(
        folder.join("model.yaml").is_file(),
        "there is no model `{}`: {} holds no model.yaml; `modtool model list` shows what is here, \
         `modtool model pull` what can be fetched",
        config.model,
        escape_path(&folder)
    );
    ground::check_named(config, &folder)?;
    Ok(model::load_dir(&folder)?)
}

/// The fingerprint of the model in use, without reading its networks.
pub(super) fn fingerprint(config: &Config) -> anyhow::Result<Fingerprint> {
    if config.model == "builtin" {
        return Ok(model::builtin()?.card.fingerprint);
    }
    let folder = model_folder(config);
    let read = model::fingerprint_of(&folder);
    read.with_context(|| format!("the model {} can't be read", escape_path(&folder)))
}

fn model_folder(config: &Config) -> PathBuf {
    let named = config.data_dir.join("models").join(&config.model);
    // A name is looked up in the data folder; what has a slash or exists here is a folder.
    if named.is_dir() || !Path::new(&config.model).is_dir() {
        named
    } else {
        PathBuf::from(&config.model)
    }
}

/// The engine that this run uses, not loaded yet.
pub(super) fn found_engine(config: &Config) -> anyhow::Result<FoundEngine> {
    let choice = match config.engine.engine {
        cli::Engine::Auto => EngineChoice::Auto,
        cli::Engine::Onnxruntime => EngineChoice::OnnxRuntime,
        cli::Engine::Tract => EngineChoice::Tract,
    };
    let ourselves = std::env::current_exe().context("can't find the path of this program")?;
    let explicit = config.engine.onnxruntime.as_deref();
    Ok(engine::choose(choice, explicit, &config.data_dir, &ourselves)?)
}

/// The model, running. Says once when the engine is not the fast one.
pub(super) fn encoder(config: &Config) -> anyhow::Result<(Box<dyn Encoder>, FoundEngine)> {
    encoder_of(config, &model(config)?)
}

/// Any model, running.
pub(super) fn encoder_of(
    config: &Config,
    model: &Model,
) -> anyhow::Result<(Box<dyn Encoder>, FoundEngine)> {
    inspected::inspect(config, model)?;
    let found = found_engine(config)?;
    if let Some(advice) = found.advice() {
        warn!("{advice}");
    }
    let engine = engine::start(&found)?;
    let device = match config.engine.device {
        cli::Device::Auto => Device::Auto,
        cli::Device::Cpu => Device::Cpu,
        cli::Device::Cuda => Device::Cuda,
    };
    let options =
        EngineOptions { threads: config.engine.threads, batch: config.engine.batch, device };
    Ok((engine::open(model, &engine, options)?, found))
}

/// Refuses ids that no policy has, naming those there are.
pub(super) fn must_be_policies(
    ids: &[impl AsRef<str>],
    files: &[PolicyFile],
) -> Result<(), UsageError> {
    let known: Vec<&str> = files.iter().map(|file| file.policy.id.as_str()).collect();
    match ids.iter().find(|id| !known.contains(&id.as_ref())) {
        None => Ok(()),
        Some(id) => Err(UsageError(format!(
            "there is no policy {:?}; there are {}",
            id.as_ref(),
            known.join(", ")
        ))),
    }
}

/// The policies, embedded by the model; what it has embedded before is taken from the store and
/// from the data folder.
///
/// # Errors
/// [`PolicyProblems`] naming every prompt that is too long for the model, and every policy whose
/// scoring the model's family does not allow.
pub(super) async fn classifiers(
    encoder: &dyn Encoder,
    files: &[PolicyFile],
    config: &Config,
    store: Option<&Store>,
) -> anyhow::Result<Vec<Classifier>> {
    refuse_what_the_model_can_not_do(encoder, files)?;
    misread::warn_of(&misread::at_start(encoder, files, config)?);
    let card = encoder.model().clone();
    // All at once: full batches for the model, and one transaction.
    let texts: Vec<Vec<String>> = files.iter().map(|file| file.policy.expanded_texts()).collect();
    let mut embeddings = embed(encoder, &texts.concat(), config, store).await?.into_iter();
    let classifier = |(file, texts): (&PolicyFile, &Vec<String>)| {
        let own: Vec<Embedding> = embeddings.by_ref().take(texts.len()).collect();
        Classifier::new(Arc::clone(&file.policy), &own, card.logit_scale)
            .with_context(|| format!("policy {}", file.policy.id))
    };
    files.iter().zip(&texts).map(classifier).collect()
}

/// The policies as far as their prompts were embedded before: enough to explain scores without
/// loading the model.
pub(super) async fn stored_classifiers(
    policies: &[Arc<Policy>],
    fingerprint: &Fingerprint,
    logit_scale: LogitScale,
    store: &Store,
) -> anyhow::Result<Vec<Classifier>> {
    let mut classifiers = Vec::with_capacity(policies.len());
    for policy in policies {
        let known = store.text_embeddings(fingerprint, &policy.expanded_texts()).await?;
        if let Some(embeddings) = known.into_iter().collect::<Option<Vec<_>>>() {
            classifiers.push(Classifier::new(Arc::clone(policy), &embeddings, logit_scale)?);
        }
    }
    Ok(classifiers)
}

/// The policies, embedded; the model is loaded only for prompts that it never saw, because that
/// takes longer than everything else that a look at history does.
///
/// # Errors
/// Those of [`classifiers`].
pub(super) async fn classifiers_from(
    store: &Store,
    config: &Config,
    files: &[PolicyFile],
) -> anyhow::Result<Vec<Classifier>> {
    let card = model(config)?.card;
    let policies: Vec<_> = files.iter().map(|file| Arc::clone(&file.policy)).collect();
    let known = stored_classifiers(&policies, &card.fingerprint, card.logit_scale, store).await?;
    let alone = card.kind.scores_prompts_alone()
        || policies.iter().all(|policy| policy.scoring == Scoring::Contrast);
    if known.len() == policies.len() && alone {
        return Ok(known);
    }
    let (encoder, _) = encoder(config)?;
    classifiers(encoder.as_ref(), files, config, Some(store)).await
}

/// One embedding a text, in order; the model is asked only for what it never saw on this machine.
async fn embed(
    encoder: &dyn Encoder,
    texts: &[String],
    config: &Config,
    store: Option<&Store>,
) -> anyhow::Result<Vec<Embedding>> {
    let card = encoder.model();
    let stored = match store {
        Some(store) => store.text_embeddings(&card.fingerprint, texts).await?,
        None => vec![None; texts.len()],
    };
    let memory = PromptMemory::of(config, &card.fingerprint);
    let embeddings = completed(&stored, texts, |missing| {
        completed(&memory.known(missing, card.embedding_dim), missing, |unknown| {
            let new = encoder.embed_texts(unknown)?;
            memory.add(unknown.iter().zip(&new));
            Ok(new)
        })
    })?;
    let new = texts.iter().zip(&embeddings).zip(&stored).filter(|(_, stored)| stored.is_none());
    let new: Vec<_> = new.map(|((text, found), _)| (text.clone(), found.clone())).collect();
    if let Some(store) = store.filter(|_| !new.is_empty()) {
        store.record_text_embeddings(&card.fingerprint, &card.name, &new).await?;
    }
    Ok(embeddings)
}

/// What is known of the texts, and for the others what `find` answers.
fn completed(
    known: &[Option<Embedding>],
    texts: &[String],
    find: impl FnOnce(&[String]) -> anyhow::Result<Vec<Embedding>>,
) -> anyhow::Result<Vec<Embedding>> {
    let missing = texts.iter().zip(known).filter(|(_, known)| known.is_none());
    let missing: Vec<String> = missing.map(|(text, _)| text.clone()).collect();
    let found = if missing.is_empty() { Vec::new() } else { find(&missing)? };
    let mut found = found.into_iter();
    let each = known.iter().map(|known| known.clone().or_else(|| found.next()));
    each.collect::<Option<_>>().context("the model answered fewer embeddings than it was asked for")
}

/// Prompts that are too long for the model, and scoring that its family does not have.
pub(super) fn refuse_what_the_model_can_not_do(
    encoder: &dyn Encoder,
    files: &[PolicyFile],
) -> Result<(), PolicyProblems> {
    let card = encoder.model();
    let mut problems = Vec::new();
    for file in files {
        let policy = &file.policy;
        if policy.scoring == Scoring::Independent && !card.kind.scores_prompts_alone() {
            let what = format!(
                "`scoring: independent` does not fit the model {} ({}): its prompts have a \
                 probability only against each other",
                card.name, card.kind
            );
            problems.push(file.scoring_problem(what).with_hint("use `scoring: contrast`"));
        }
        for (index, (prompt, _)) in policy.all_prompts().enumerate() {
            let too_long =
                policy.expand(&prompt.text).find_map(|text| encoder.check_text(&text).err());
            if let Some(error) = too_long {
                let hint = "say it in fewer words; nothing is ever cut off silently";
                problems.push(file.prompt_problem(index, error).with_hint(hint));
            }
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(PolicyProblems(problems)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_databases_disk_and_the_uploads_disk_are_judged_apart() {
        // Of statfs(2): a local disk (ext4), a server (NFS), and what may be either (FUSE).
        let [local, server, either] = [0xef53, 0x6969, 0x6573_5546];
        assert_eq!(kind_of(&NETWORK, local).or_else(|| kind_of(&PERHAPS_NETWORK, local)), None);
        assert_eq!(kind_of(&NETWORK, server), Some("NFS"));
        // A database may lie on a local disk behind FUSE; uploads there are polled all the same.
        assert_eq!(kind_of(&NETWORK, either), None);
        assert_eq!(kind_of(&PERHAPS_NETWORK, either), Some("FUSE"));
        assert!(number_of_file_system(Path::new("/")).is_some());
    }
}
