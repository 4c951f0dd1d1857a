//! The workspace's `adapters/`: what was learned, one JSON file each, and `uses.jsonl`, a log of
//! which of it was in use when. Lines are only ever added to that log, so that the last step can
//! be taken back, and what was in force at any time can be told.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::config::Config;
use crate::moderation::adapter::{Learned, Side};
use crate::moderation::escape::{escape, escape_path};
use crate::moderation::policy::FittedFor;
use crate::moderation::{Adapter, Fingerprint, ItemId, Mode, OnBlock, Policy, PolicyId};
use crate::policy_file::{PolicyFile, PolicyProblems};
use crate::yaml_file::YamlProblem;

use super::clock;

/// A file larger than this is none of ours: a low-rank adapter of a large model is 1 MB.
const LARGEST: u64 = 64 << 20;

/// An adapter on record.
pub(super) struct Kept {
    pub(super) adapter: Arc<Adapter>,
    /// What the file says besides: when, from what, how well.
    pub(super) about: Value,
}

impl Kept {
    /// The pictures that it learned from; `None` for one of before this was written down.
    pub(super) fn learned_items(&self) -> Option<HashSet<ItemId>> {
        let items = self.about["learned_items"].as_array()?.iter();
        items.map(|item| ItemId::from_str(item.as_str()?).ok()).collect()
    }
}

/// What is in use for one policy.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct InUse {
    /// Its scores are the policy's.
    pub(super) live: Option<PolicyId>,
    /// Its scores are recorded beside the policy's and do nothing.
    pub(super) background: Option<PolicyId>,
}

impl InUse {
    /// How an adapter is in use, if it is.
    pub(super) fn mode_of(&self, name: &PolicyId) -> Option<&'static str> {
        match (self.live.as_ref() == Some(name), self.background.as_ref() == Some(name)) {
            (true, _) => Some("live"),
            (_, true) => Some("background"),
            _ => None,
        }
    }
}

/// The workspace's folder of adapters; it need not exist.
pub(super) struct Adapters(PathBuf);

impl Adapters {
    pub(super) fn of(config: &Config) -> Self {
        Self(config.adapters())
    }

    fn file(&self, name: &PolicyId) -> PathBuf {
        self.0.join(format!("{name}.json"))
    }

    /// The log of uses.
    pub(super) fn log(&self) -> PathBuf {
        self.0.join("uses.jsonl")
    }

    /// Writes what was learned, under its name; the same again changes nothing but the words.
    pub(super) fn keep(&self, adapter: &Adapter, about: Value) -> anyhow::Result<PathBuf> {
        let file = self.file(&adapter.name());
        let context = || format!("can't write {}", escape_path(&file));
        fs::create_dir_all(&self.0).with_context(context)?;
        let mut object = json!({
            "name": adapter.name().as_str(),
            "policy": adapter.policy.as_str(),
            "method": adapter.learned.method().as_str(),
            "fingerprint": adapter.fingerprint.0,
            "fitted_for": adapter.fitted_for.0,
        });
        if let (Some(object), Value::Object(about)) = (object.as_object_mut(), about) {
            object.extend(about);
            object.insert("learned".into(), learned_json(&adapter.learned));
        }
        write(&file, &object).with_context(context)?;
        Ok(file)
    }

    /// The adapter of this name.
    pub(super) fn open(&self, name: &PolicyId) -> anyhow::Result<Kept> {
        let file = self.file(name);
        let shown = escape_path(&file);
        let about = fs::metadata(&file).with_context(|| {
            format!("there is no {shown}; `modtool adapt list` shows what there is")
        })?;
        ensure!(about.len() <= LARGEST, "{shown} is too large to be an adapter");
        let text = fs::read_to_string(&file).with_context(|| format!("can't read {shown}"))?;
        let about: Value =
            serde_json::from_str(&text).with_context(|| format!("{shown} is no JSON"))?;
        let adapter = adapter_of(&about).with_context(|| format!("{shown} is no good adapter"))?;
        ensure!(
            adapter.name() == *name,
            "{shown} was changed: what it holds has the name {}; learn again",
            adapter.name()
        );
        Ok(Kept { adapter: Arc::new(adapter), about })
    }

    /// All names, sorted.
    pub(super) fn names(&self) -> anyhow::Result<Vec<PolicyId>> {
        let entries = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.with_context(|| format!("can't read {}", escape_path(&self.0)))?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let path = entry?.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned);
            if path.extension().is_some_and(|extension| extension == "json")
                && let Some(Ok(name)) = stem.map(PolicyId::new)
            {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    pub(super) fn must_exist(&self, name: &PolicyId) -> anyhow::Result<()> {
        let file = self.file(name);
        let there = file.is_file();
        ensure!(
            there,
            "there is no {}; `modtool adapt list` shows what there is",
            escape_path(&file)
        );
        Ok(())
    }

    pub(super) fn remove(&self, name: &PolicyId) -> anyhow::Result<()> {
        let file = self.file(name);
        fs::remove_file(&file).with_context(|| format!("can't remove {}", escape_path(&file)))
    }

    /// Strikes a picture from the lists of those that were learned from; answers whose lists held
    /// it. What was learned stays in the numbers.
    pub(super) fn forget(&self, item: ItemId) -> anyhow::Result<Vec<PolicyId>> {
        let item = item.to_string();
        let mut struck = Vec::new();
        for name in self.names()? {
            let file = self.file(&name);
            let context = || format!("can't strike a picture from {}", escape_path(&file));
            let text = fs::read_to_string(&file).with_context(context)?;
            if !text.contains(&item) {
                continue;
            }
            let mut about: Value = serde_json::from_str(&text).with_context(context)?;
            if let Some(items) = about["learned_items"].as_array_mut() {
                items.retain(|one| *one != item.as_str());
            }
            write(&file, &about).with_context(context)?;
            struck.push(name);
        }
        Ok(struck)
    }

    /// What was in use for each policy, step by step; the last step holds.
    pub(super) fn steps(&self) -> anyhow::Result<BTreeMap<PolicyId, Vec<InUse>>> {
        let file = self.log();
        let text = match fs::read_to_string(&file) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeMap::new()),
            text => text.with_context(|| format!("can't read {}", escape_path(&file)))?,
        };
        let mut steps: BTreeMap<PolicyId, Vec<InUse>> = BTreeMap::new();
        for (line, number) in text.lines().zip(1_u64..) {
            let step = step_of(line)
                .with_context(|| format!("{}:{number} is not understood", escape_path(&file)))?;
            take(&mut steps, step);
        }
        Ok(steps)
    }

    /// What is in use, by policy; policies without anything in use are left out.
    pub(super) fn in_use(&self) -> anyhow::Result<BTreeMap<PolicyId, InUse>> {
        let last = |(policy, steps): (PolicyId, Vec<InUse>)| Some((policy, steps.last()?.clone()));
        let used = |(_, now): &(PolicyId, InUse)| *now != InUse::default();
        Ok(self.steps()?.into_iter().filter_map(last).filter(used).collect())
    }

    /// What will be in use after a step: an adapter in a mode, or (none) the last step taken back.
    pub(super) fn after(
        &self,
        policy: &PolicyId,
        adapter: Option<(&PolicyId, Mode)>,
    ) -> anyhow::Result<InUse> {
        let mut steps = self.steps()?;
        let step = match adapter {
            Some((name, mode)) => Step::Use(policy.clone(), name.clone(), mode),
            None => Step::Back(policy.clone()),
        };
        take(&mut steps, step);
        let last = steps.remove(policy).and_then(|mut steps| steps.pop());
        Ok(last.unwrap_or_default())
    }

    /// Adds a step: an adapter in a mode, or (none) the last step taken back.
    pub(super) fn add_step(
        &self,
        policy: &PolicyId,
        adapter: Option<(&PolicyId, Mode)>,
        who: &str,
    ) -> anyhow::Result<()> {
        let file = self.log();
        let line = json!({
            "at": clock::rfc3339(clock::now()),
            "who": who,
            "policy": policy.as_str(),
            "step": if adapter.is_some() { "use" } else { "rollback" },
            "adapter": adapter.map(|(name, _)| name.as_str()),
            "mode": adapter.map(|(_, mode)| mode.as_str()),
        });
        let written =
            OpenOptions::new().create(true).append(true).open(&file).and_then(|mut log| {
                log.write_all(format!("{line}\n").as_bytes())?;
                log.sync_all()
            });
        written.with_context(|| format!("can't write {}", escape_path(&file)))
    }
}

/// By a rename: nobody ever reads half of it.
fn write(file: &Path, object: &Value) -> std::io::Result<()> {
    let part = file.with_extension("part");
    fs::write(&part, format!("{object:#}\n"))?;
    fs::rename(&part, file)
}

enum Step {
    Use(PolicyId, PolicyId, Mode),
    Back(PolicyId),
}

fn step_of(line: &str) -> anyhow::Result<Step> {
    let step: Value = serde_json::from_str(line)?;
    let id = |key: &str| -> anyhow::Result<PolicyId> {
        Ok(PolicyId::new(step[key].as_str().with_context(|| format!("no `{key}`"))?)?)
    };
    match step["step"].as_str() {
        Some("rollback") => Ok(Step::Back(id("policy")?)),
        Some("use") => {
            let mode = step["mode"].as_str().and_then(Mode::parse).context("no `mode`")?;
            Ok(Step::Use(id("policy")?, id("adapter")?, mode))
        }
        _ => bail!("no `step`"),
    }
}

fn take(steps: &mut BTreeMap<PolicyId, Vec<InUse>>, step: Step) {
    match step {
        Step::Back(policy) => {
            steps.entry(policy).or_default().pop();
        }
        Step::Use(policy, adapter, mode) => {
            let steps = steps.entry(policy).or_default();
            let mut now = steps.last().cloned().unwrap_or_default();
            match mode {
                Mode::Background => now.background = Some(adapter),
                Mode::Live => now = InUse { live: Some(adapter), background: None },
            }
            steps.push(now);
        }
    }
}

/// Policies with the adapters that are in use live. One that was learned for another model or
/// other prompts is not used, and said to be so.
///
/// # Errors
/// When the log or an adapter in use can't be read: then nothing is judged by half of the rules.
pub(super) fn in_force(
    config: &Config,
    files: Vec<PolicyFile>,
) -> Result<Vec<PolicyFile>, PolicyProblems> {
    attached(config, files, false)
}

/// The same, and a background policy for each adapter that runs in the background.
pub(super) fn with_shadows(
    config: &Config,
    files: Vec<PolicyFile>,
) -> Result<Vec<PolicyFile>, PolicyProblems> {
    attached(config, files, true)
}

fn attached(
    config: &Config,
    mut files: Vec<PolicyFile>,
    shadows: bool,
) -> Result<Vec<PolicyFile>, PolicyProblems> {
    let adapters = Adapters::of(config);
    let problem = |file: &Path, error: &anyhow::Error| {
        let hint = "put the file back, or take the adapter out of use: `modtool adapt rollback`";
        PolicyProblems(vec![YamlProblem::of_file(file, format!("{error:#}")).with_hint(hint)])
    };
    let in_use = adapters.in_use().map_err(|error| problem(&adapters.log(), &error))?;
    if in_use.is_empty() {
        return Ok(files);
    }
    let fingerprint =
        super::workspace::fingerprint(config).map_err(|error| problem(&adapters.log(), &error))?;
    let mut more = Vec::new();
    for file in &mut files {
        let Some(now) = in_use.get(&file.policy.id) else { continue };
        let plain = Arc::clone(&file.policy);
        let adapted = |name: &PolicyId| {
            let kept =
                adapters.open(name).map_err(|error| problem(&adapters.file(name), &error))?;
            match plain.adapted(&kept.adapter, &fingerprint) {
                Ok(adapted) => Ok(Some(adapted)),
                Err(foreign) => {
                    tracing::warn!(
                        policy = %plain.id,
                        "{foreign}; this policy is judged by its words alone"
                    );
                    Ok(None)
                }
            }
        };
        if let Some(name) = now.background.as_ref().filter(|_| shadows)
            && let Some(adapted) = adapted(name)?
        {
            let mut shadow = file.clone();
            shadow.policy = Arc::new(shadow_of(adapted, name));
            more.push(shadow);
        }
        if let Some(adapted) = now.live.as_ref().map(adapted).transpose()?.flatten() {
            file.policy = Arc::new(adapted);
        }
    }
    files.extend(more);
    Ok(files)
}

/// Scored and recorded under the adapter's own name, so that no program takes it for the policy.
pub(super) fn shadow_of(adapted: Policy, name: &PolicyId) -> Policy {
    Policy {
        id: name.clone(),
        title: format!("{} (in the background: {name})", adapted.title),
        mode: Mode::Background,
        on_block: OnBlock::None,
        ..adapted
    }
}

fn learned_json(learned: &Learned) -> Value {
    let side = |side: &Side| json!({"down": numbers(&side.down), "up": numbers(&side.up)});
    match learned {
        Learned::Probe { scale, direction, offset } => {
            json!({"scale": bits(*scale), "offset": bits(*offset), "direction": numbers(direction)})
        }
        Learned::LowRank { image, text, scale, offset } => json!({
            "scale": bits(*scale),
            "offset": bits(*offset),
            "image": side(image),
            "text": side(text),
        }),
    }
}

/// Little-endian 32-bit floats in base 64.
fn numbers(list: &[f32]) -> String {
    STANDARD.encode(list.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>())
}

/// A little-endian 64-bit float in base 64: digits would not come back bit by bit.
fn bits(number: f64) -> String {
    STANDARD.encode(number.to_le_bytes())
}

fn adapter_of(about: &Value) -> anyhow::Result<Adapter> {
    let text = |key: &str| about[key].as_str().with_context(|| format!("it has no `{key}`"));
    let learned = &about["learned"];
    let list = |value: &Value| -> anyhow::Result<Vec<f32>> {
        let bytes = STANDARD.decode(value.as_str().context("numbers are missing")?)?;
        let (fours, rest) = bytes.as_chunks::<4>();
        ensure!(rest.is_empty(), "the numbers are torn");
        Ok(fours.iter().map(|four| f32::from_le_bytes(*four)).collect())
    };
    let one = |key: &str| -> anyhow::Result<f64> {
        let bytes = STANDARD.decode(learned[key].as_str().context("a number is missing")?)?;
        let eight = <[u8; 8]>::try_from(bytes.as_slice()).context("a number is torn")?;
        Ok(f64::from_le_bytes(eight))
    };
    let side = |key: &str| -> anyhow::Result<Side> {
        let side = &learned[key];
        Ok(Side { down: list(&side["down"])?, up: list(&side["up"])? })
    };
    let (scale, offset) = (one("scale")?, one("offset")?);
    let (learned, dim) = if text("method")? == "probe" {
        let direction = list(&learned["direction"])?;
        let dim = direction.len();
        (Learned::Probe { scale, direction, offset }, dim)
    } else {
        let (image, text) = (side("image")?, side("text")?);
        let rank = about["rank"].as_u64().and_then(|rank| usize::try_from(rank).ok());
        let rank = rank.filter(|rank| *rank > 0).context("it has no `rank`")?;
        let dim = image.down.len() / rank;
        (Learned::LowRank { image, text, scale, offset }, dim)
    };
    ensure!(learned.fits(dim), "its numbers are none, or of different lengths");
    Ok(Adapter::new(
        PolicyId::new(text("policy")?)?,
        Fingerprint(text("fingerprint")?.to_owned()),
        FittedFor(text("fitted_for")?.to_owned()),
        learned,
    ))
}

/// The name as it was typed.
pub(super) fn name_of(typed: &str) -> anyhow::Result<PolicyId> {
    PolicyId::new(typed).ok().with_context(|| {
        format!("{} is no adapter's name; `modtool adapt list`", escape(typed.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> PolicyId {
        PolicyId::new(text).expect("a good id")
    }

    fn adapter(learned: Learned) -> Adapter {
        Adapter::new(id("weapons"), Fingerprint("f".repeat(64)), FittedFor("a-b".into()), learned)
    }

    #[test]
    fn what_was_learned_reads_back_bit_by_bit_and_a_change_is_noticed() {
        let dir = tempfile::tempdir().expect("a folder");
        let adapters = Adapters(dir.path().join("adapters"));
        let side = |seed: f32| Side { down: vec![seed, 0.1], up: vec![-seed, 1e-30] };
        let probe =
            Learned::Probe { scale: 0.1 + 0.2, direction: vec![0.1, -3.0], offset: -1.0 / 3.0 };
        let low_rank =
            Learned::LowRank { image: side(0.3), text: side(0.7), scale: 0.9, offset: 1e-9 };
        for learned in [probe, low_rank] {
            let adapter = adapter(learned);
            let file = adapters.keep(&adapter, json!({"rank": 1})).expect("written");
            let kept = adapters.open(&adapter.name()).expect("reads back");
            assert_eq!(*kept.adapter, adapter);
            let text = fs::read_to_string(&file).expect("text");
            fs::write(&file, text.replace("\"a-b\"", "\"a-c\"")).expect("written");
            let refused = adapters.open(&adapter.name()).err().expect("refused");
            assert!(format!("{refused:#}").contains("was changed"), "{refused:#}");
        }
        assert_eq!(adapters.names().expect("read").len(), 2);
    }

    #[test]
    fn an_erased_picture_is_struck_from_the_lists() {
        let dir = tempfile::tempdir().expect("a folder");
        let adapters = Adapters(dir.path().to_owned());
        let one = adapter(Learned::Probe { scale: 1.0, direction: vec![0.5], offset: 0.0 });
        let [a, b] = [b"a", b"b"].map(|bytes| ItemId::of_bytes(bytes));
        let about = json!({"learned_items": [a.to_string(), b.to_string()]});
        adapters.keep(&one, about).expect("written");
        assert_eq!(adapters.forget(a).expect("written"), [one.name()]);
        assert!(adapters.forget(a).expect("read").is_empty());
        let kept = adapters.open(&one.name()).expect("reads back");
        assert_eq!(kept.learned_items(), Some(HashSet::from([b])));
        assert_eq!(*kept.adapter, one);
    }

    #[test]
    fn steps_are_taken_and_taken_back() {
        let dir = tempfile::tempdir().expect("a folder");
        let adapters = Adapters(dir.path().to_owned());
        let (a, b) = (id("weapons-probe-aaaaaa"), id("weapons-lora-bbbbbb"));
        let weapons = id("weapons");
        let now = || adapters.in_use().expect("read").remove(&weapons).unwrap_or_default();
        let step = |step: Option<(&PolicyId, Mode)>| {
            adapters.add_step(&weapons, step, "anna").expect("written");
        };
        assert_eq!(now(), InUse::default());
        step(Some((&a, Mode::Background)));
        step(Some((&a, Mode::Live)));
        step(Some((&b, Mode::Background)));
        assert_eq!(now(), InUse { live: Some(a.clone()), background: Some(b.clone()) });
        step(None);
        assert_eq!(now(), InUse { live: Some(a.clone()), background: None });
        step(None);
        assert_eq!(now(), InUse { live: None, background: Some(a.clone()) });
        step(None);
        step(None);
        assert_eq!(now(), InUse::default());
        fs::write(adapters.log(), "{\"step\":\"use\"}\n").expect("written");
        assert!(adapters.in_use().is_err());
    }
}
