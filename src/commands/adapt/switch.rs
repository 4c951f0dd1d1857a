//! `modtool adapt use`, `rollback` and `remove`: one step at a time, and each can be taken back.

use std::io::{self, Write as _};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::Args;

use crate::cli::OutputFormat;
use crate::commands::adapters::{Adapters, InUse, Kept, name_of, shadow_of};
use crate::commands::clock::now;
use crate::commands::workspace::{self, must_be_policies};
use crate::commands::{UsageError, policy, review};
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::moderation::{AuditKind, Mode, Policy, PolicyId, Reviewer};
use crate::policy_file::PolicyFile;
use crate::store::AdapterStep;

/// Let an adapter run in the background; with --live put it in force
///
/// In the background its scores are recorded beside the policy's and do nothing. It can be put in
/// force once it has judged something there; what that changes is listed first.
#[derive(Debug, Args)]
pub(super) struct UseArgs {
    /// Its name, as `adapt list` shows it
    #[arg(value_name = "NAME")]
    name: String,

    /// Its scores become the policy's
    #[arg(long)]
    live: bool,
}

/// Take the last step back: live to background, background to nothing
#[derive(Debug, Args)]
pub(super) struct RollbackArgs {
    /// The policy, or the adapter that is in use [default: the only one with an adapter in use]
    #[arg(value_name = "POLICY")]
    policy: Option<String>,
}

/// Delete an adapter that is not in use
#[derive(Debug, Args)]
pub(super) struct RemoveArgs {
    /// Its name, as `adapt list` shows it
    #[arg(value_name = "NAME")]
    name: String,
}

/// The policy as it is written, and as the adapter has it.
///
/// # Errors
/// When there is no such policy any more, or the adapter was learned for another model or prompts.
pub(super) fn before_and_after(
    config: &Config,
    kept: &Kept,
) -> anyhow::Result<(PolicyFile, PolicyFile)> {
    let policy = &kept.adapter.policy;
    let files = workspace::written_policies(config)?;
    let plain = files.into_iter().find(|file| file.policy.id == *policy);
    let plain = plain.with_context(|| format!("there is no policy {policy} any more"))?;
    let fingerprint = workspace::fingerprint(config)?;
    let mut adapted = plain.clone();
    adapted.policy = Arc::new(plain.policy.adapted(&kept.adapter, &fingerprint)?);
    Ok((plain, adapted))
}

/// How many pictures the adapter has judged in the background.
pub(super) async fn judged_in_background(
    config: &Config,
    kept: &Kept,
    adapted: &Policy,
) -> anyhow::Result<u64> {
    if !config.database().exists() {
        return Ok(0);
    }
    let store = workspace::existing_store(config).await?;
    let shadow = shadow_of(adapted.clone(), &kept.adapter.name()).hash();
    let histograms = store.score_histograms(&kept.adapter.fingerprint, &[shadow]).await?;
    store.close().await;
    Ok(histograms.iter().map(crate::moderation::ScoreHistogram::total).sum())
}

/// Takes a step, which the audit log holds before it is taken: a step without a trace would be
/// worse than a trace of one that then failed.
async fn step(
    config: &Config,
    policy: &PolicyId,
    adapter: Option<(&PolicyId, Mode)>,
    who: &Reviewer,
) -> anyhow::Result<()> {
    let adapters = Adapters::of(config);
    let kind = match adapter {
        Some(_) => AuditKind::AdapterUsed,
        None => AuditKind::AdapterRolledBack,
    };
    let after = adapters.after(policy, adapter)?;
    record(config, kind, policy, adapter.map(|(name, _)| name), after, who).await?;
    adapters.add_step(policy, adapter, who.as_str())
}

async fn record(
    config: &Config,
    kind: AuditKind,
    policy: &PolicyId,
    adapter: Option<&PolicyId>,
    InUse { live, background }: InUse,
    who: &Reviewer,
) -> anyhow::Result<()> {
    let (policy, adapter) = (policy.clone(), adapter.cloned());
    let event = AdapterStep { kind, policy, adapter, live, background };
    let store = workspace::store(config).await?;
    store.record_adapter_step(&event, who, now()).await?;
    store.close().await;
    Ok(())
}

pub(super) async fn put_in_use(args: &UseArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let adapters = Adapters::of(config);
    let name = name_of(&args.name)?;
    let kept = adapters.open(&name)?;
    let policy = &kept.adapter.policy;
    let (plain, adapted) = before_and_after(config, &kept)?;
    let in_use = adapters.in_use()?.remove(policy).unwrap_or_default();
    let who = review::reviewer(config.review.reviewer.clone())?;
    if !args.live {
        if [&in_use.live, &in_use.background].contains(&&Some(name.clone())) {
            bail!("{name} is in use already; `modtool adapt show {name}` tells how it does");
        }
        step(config, policy, Some((&name, Mode::Background)), &who).await?;
        writeln!(
            io::stdout().lock(),
            "{name} runs in the background of {policy}: it is recorded and does nothing.\n\
             `modtool rescore` lets it judge what is stored, a running watcher takes it from now \
             on;\n`modtool adapt show {name}` lists what it would change"
        )?;
        return Ok(ExitCode::Clean);
    }
    if in_use.live.as_ref() == Some(&name) {
        bail!("{name} is live already");
    }
    if in_use.background.as_ref() != Some(&name) {
        return Err(UsageError(format!(
            "{name} must run in the background first: `modtool adapt use {name}`"
        ))
        .into());
    }
    let judged = judged_in_background(config, &kept, &adapted.policy).await?;
    if judged == 0 {
        return Err(UsageError(format!(
            "{name} has judged nothing in the background yet; let `modtool watch` or `scan` run, \
             or `modtool rescore`"
        ))
        .into());
    }
    policy::between(&[plain], &[adapted], 5, OutputFormat::Table, config).await?;
    step(config, policy, Some((&name, Mode::Live)), &who).await?;
    writeln!(
        io::stdout().lock(),
        "\n{name} is in force for {policy}: new verdicts name it. A running watcher takes it over \
         within\nseconds; `modtool rescore` judges stored pictures by it; `modtool adapt rollback \
         {policy}` takes it back"
    )?;
    Ok(ExitCode::Clean)
}

pub(super) async fn rollback(args: &RollbackArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let adapters = Adapters::of(config);
    let in_use = adapters.in_use()?;
    let is_meant = |(policy, now): &(&PolicyId, &InUse)| {
        args.policy.as_ref().is_none_or(|typed| {
            let used = [&now.live, &now.background].into_iter().flatten();
            policy.as_str() == typed || used.clone().any(|name| name.as_str() == typed)
        })
    };
    let meant: Vec<_> = in_use.iter().filter(is_meant).collect();
    let (policy, before) = match meant.as_slice() {
        [one] => *one,
        [] if args.policy.is_none() => bail!("no adapter is in use"),
        [] => {
            must_be_policies(args.policy.as_slice(), &workspace::written_policies(config)?)?;
            bail!("no adapter of this policy is in use")
        }
        several => {
            let names: Vec<&str> = several.iter().map(|(policy, _)| policy.as_str()).collect();
            let names = names.join(", ");
            return Err(
                UsageError(format!("name the policy; adapters of {names} are in use")).into()
            );
        }
    };
    let who = review::reviewer(config.review.reviewer.clone())?;
    step(config, policy, None, &who).await?;
    let after = adapters.in_use()?.remove(policy).unwrap_or_default();
    let said = |now: &InUse| match (&now.live, &now.background) {
        (Some(live), Some(background)) => format!("{live} (and {background} in the background)"),
        (Some(live), None) => live.to_string(),
        (None, Some(background)) => format!("its words ({background} in the background)"),
        (None, None) => "its words alone".to_owned(),
    };
    let hint = if before.live == after.live {
        ""
    } else {
        "; `modtool rescore` judges stored pictures again"
    };
    writeln!(
        io::stdout().lock(),
        "{policy} was judged by {}, and is by {} now{hint}",
        said(before),
        said(&after)
    )?;
    Ok(ExitCode::Clean)
}

pub(super) async fn remove(args: &RemoveArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let adapters = Adapters::of(config);
    let name = name_of(&args.name)?;
    // A step that is taken back must find what it leads to.
    let steps = adapters.steps()?;
    let mut in_reach = steps.iter().filter(|(_, steps)| {
        let names = |now: &InUse| [&now.live, &now.background].contains(&&Some(name.clone()));
        steps.iter().any(names)
    });
    if let Some((policy, _)) = in_reach.next() {
        bail!(
            "{name} is in use for {policy}, or a rollback leads back to it; take it out of use \
             first: `modtool adapt rollback {policy}`"
        );
    }
    adapters.must_exist(&name)?;
    // Whose it was is told by what it holds; one that can't be read is removed all the same.
    let policy =
        adapters.open(&name).map_or_else(|_torn| name.clone(), |kept| kept.adapter.policy.clone());
    let after = adapters.in_use()?.remove(&policy).unwrap_or_default();
    let who = review::reviewer(config.review.reviewer.clone())?;
    record(config, AuditKind::AdapterRemoved, &policy, Some(&name), after, &who).await?;
    adapters.remove(&name)?;
    writeln!(io::stdout().lock(), "{name} is removed")?;
    Ok(ExitCode::Clean)
}
