//! Policies as the YAML files that a moderator edits: the only reader of that format.
//!
//! The format, field by field, is in `policies/README.md`.

mod folder;
mod format;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_yaml::{Location, Spanned};

use crate::moderation::escape::printable;
use crate::moderation::{
    Arming, Calibration, FittedCalibration, FittedFor, Policy, PolicyId, Prompt, Scope, ScopeList,
    Thresholds,
};
use crate::yaml_file::{self, YamlProblem};

pub use folder::{load_dir, unread};
use format::{CalibrationYaml, PolicyYaml, PromptYaml, ScopeYaml};

/// The starter policies, compiled in; they apply where a workspace has no `policies` folder.
pub const STARTER: &[(&str, &str)] = &[
    ("alcohol.yaml", include_str!("../policies/alcohol.yaml")),
    ("crash.yaml", include_str!("../policies/crash.yaml")),
    ("documents.yaml", include_str!("../policies/documents.yaml")),
    ("fire.yaml", include_str!("../policies/fire.yaml")),
    ("gambling.yaml", include_str!("../policies/gambling.yaml")),
    ("memes.yaml", include_str!("../policies/memes.yaml")),
    ("money.yaml", include_str!("../policies/money.yaml")),
    ("pills.yaml", include_str!("../policies/pills.yaml")),
    ("screenshots.yaml", include_str!("../policies/screenshots.yaml")),
    ("smoking.yaml", include_str!("../policies/smoking.yaml")),
    ("weapons.yaml", include_str!("../policies/weapons.yaml")),
];

/// The page that explains the format; `modtool init` writes it beside the policies.
pub const STARTER_README: &str = include_str!("../policies/README.md");

/// What the workspace's settings say for policies that don't say it themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defaults {
    /// Used where a policy has no `templates`.
    pub templates: Vec<String>,
    /// Added to every policy's contrast prompts.
    pub neutral: Vec<String>,
}

impl Default for Defaults {
    fn default() -> Self {
        let owned = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        Self {
            templates: owned(&["a photo of {}"]),
            neutral: owned(&[
                "an ordinary photo",
                "a person",
                "a landscape",
                "an animal",
                "food",
                "a room",
                "a street",
            ]),
        }
    }
}

/// A policy and where its prompts stand, for problems that only a model can see.
#[derive(Debug, Clone)]
pub struct PolicyFile {
    /// The policy.
    pub policy: Arc<Policy>,
    /// The file it was read from.
    pub file: PathBuf,
    id_place: Location,
    scoring_place: Location,
    thresholds_place: Location,
    calibration_place: Option<Location>,
    /// Of the prompts, then the contrast prompts.
    prompt_places: Vec<Location>,
    /// None where the templates are the settings'.
    templates_place: Option<Location>,
    scope_place: Location,
    include_places: Vec<Location>,
    exclude_places: Vec<Location>,
}

impl PolicyFile {
    /// A problem of the prompt with this index in [`Policy::all_prompts`]; of the settings file's
    /// neutral prompts where it is none of the policy's own.
    pub fn prompt_problem(&self, index: usize, what: impl fmt::Display) -> YamlProblem {
        match self.prompt_places.get(index) {
            Some(place) => YamlProblem::at(&self.file, *place, what),
            None => YamlProblem::of_file(Path::new("modtool.yaml"), what),
        }
    }

    /// A problem of the templates; of the settings file's where the policy has none.
    pub fn templates_problem(&self, what: impl fmt::Display) -> YamlProblem {
        match self.templates_place {
            Some(place) => YamlProblem::at(&self.file, place, what),
            None => YamlProblem::of_file(Path::new("modtool.yaml"), what),
        }
    }

    /// A problem of the whole scope.
    pub fn scope_problem(&self, what: impl fmt::Display) -> YamlProblem {
        YamlProblem::at(&self.file, self.scope_place, what)
    }

    /// A problem of one glob, by its index in its list.
    pub fn glob_problem(
        &self,
        list: ScopeList,
        index: usize,
        what: impl fmt::Display,
    ) -> YamlProblem {
        let places = match list {
            ScopeList::Include => &self.include_places,
            ScopeList::Exclude => &self.exclude_places,
        };
        let place = places.get(index).copied().unwrap_or(self.scope_place);
        YamlProblem::at(&self.file, place, what)
    }

    /// A problem of the line `id:`.
    pub fn id_problem(&self, what: impl fmt::Display) -> YamlProblem {
        YamlProblem::at(&self.file, self.id_place, what)
    }

    /// The line of `thresholds:`, counted from 1.
    pub fn thresholds_line(&self) -> u64 {
        self.thresholds_place.line()
    }

    /// A problem of the line `calibration:`.
    pub fn calibration_problem(&self, what: impl fmt::Display) -> YamlProblem {
        let place = self.calibration_place.unwrap_or(Location::UNKNOWN);
        YamlProblem::at(&self.file, place, what)
    }

    /// A problem of the line `scoring:`.
    pub fn scoring_problem(&self, what: impl fmt::Display) -> YamlProblem {
        YamlProblem::at(&self.file, self.scoring_place, what)
    }
}

/// Everything that is wrong with a folder of policies, at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct PolicyProblems(pub Vec<YamlProblem>);

/// The policies compiled into the binary, by id.
///
/// # Errors
/// [`PolicyProblems`] when the workspace's defaults don't fit (an empty template, say).
pub fn starter(defaults: &Defaults) -> Result<Vec<PolicyFile>, PolicyProblems> {
    let files = STARTER
        .iter()
        .map(|(name, text)| (PathBuf::from("starter policies").join(name), Ok((*text).to_owned())));
    collect(files, defaults)
}

/// The policies of a folder, or the one of a file.
///
/// # Errors
/// Those of [`load_dir`].
pub fn load(path: &Path, defaults: &Defaults) -> Result<Vec<PolicyFile>, PolicyProblems> {
    if path.is_dir() {
        return load_dir(path, defaults);
    }
    collect(std::iter::once((path.to_owned(), yaml_file::read(path))), defaults)
}

/// What is no error and most likely not meant: a prompt that two policies look for, because each
/// of its pictures then opens a task for both.
pub fn shared_prompts(files: &[PolicyFile]) -> Vec<YamlProblem> {
    let mut seen: BTreeMap<String, &PolicyFile> = BTreeMap::new();
    let mut problems = Vec::new();
    for file in files {
        for (index, prompt) in file.policy.prompts.iter().enumerate() {
            let text = prompt.text.trim().to_lowercase();
            if let Some(first) = seen.get(&text) {
                let what =
                    format!("the policy `{}` looks for `{}` too", first.policy.id, prompt.text);
                let hint = "leave it to one of the two, or say more exactly what each looks for";
                problems.push(file.prompt_problem(index, what).with_hint(hint));
            } else {
                seen.insert(text, file);
            }
        }
    }
    problems
}

fn collect(
    files: impl Iterator<Item = (PathBuf, Result<String, YamlProblem>)>,
    defaults: &Defaults,
) -> Result<Vec<PolicyFile>, PolicyProblems> {
    let mut policies: BTreeMap<PolicyId, PolicyFile> = BTreeMap::new();
    let mut problems = Vec::new();
    for (file, text) in files {
        let read = text.map_err(|problem| vec![problem]);
        match read.and_then(|text| parse(&file, &text, defaults)) {
            Ok(policy) => {
                let id = &policy.policy.id;
                if let Some(first) = policies.get(id) {
                    let what = format!("the id `{id}` is taken by {}", first.file.display());
                    problems.push(
                        YamlProblem::of_file(&file, what).with_hint("give every policy its own id"),
                    );
                } else {
                    policies.insert(id.clone(), policy);
                }
            }
            Err(found) => problems.extend(found),
        }
    }
    if problems.is_empty() {
        Ok(policies.into_values().collect())
    } else {
        Err(PolicyProblems(problems))
    }
}

/// Reads one policy from the text of `file`.
///
/// # Errors
/// Every problem that can be seen without a model, with its place.
pub fn parse(file: &Path, text: &str, defaults: &Defaults) -> Result<PolicyFile, Vec<YamlProblem>> {
    checked(file, text, defaults).map_err(|mut problems| {
        // A policy may come from somebody else, and problems quote it.
        for problem in &mut problems {
            problem.what = printable(&problem.what);
            problem.hint = problem.hint.as_deref().map(printable);
        }
        problems
    })
}

fn checked(file: &Path, text: &str, defaults: &Defaults) -> Result<PolicyFile, Vec<YamlProblem>> {
    let written: PolicyYaml = yaml_file::parse(file, text).map_err(|problem| vec![problem])?;
    let mut problems = Problems { file, found: Vec::new() };
    written.later_fields(&mut problems);
    let id = problems.check(&written.id, "write a short name, such as `weapons`", |id| {
        PolicyId::new(id.clone())
    });
    let prompts = problems.prompts("prompts", &written.prompts);
    let contrast = problems.prompts("contrast", &written.contrast);
    problems.no_prompt_twice(&written.prompts, &written.contrast);
    let templates = written.templates.as_ref().map_or_else(
        || defaults.templates.clone(),
        |templates| {
            problems.templates(templates);
            templates.iter().map(|template| template.value.clone()).collect()
        },
    );
    let hint = "a score from `review` on goes to a person, one from `block` on is sure";
    let thresholds =
        problems.check(&written.thresholds, hint, |t| Thresholds::new(t.review, t.block));
    let scope = problems.scope(&written.scope);
    let arming = problems.arming(&written);
    let calibration = problems.calibration(written.calibration.as_ref());
    let (Some(id), Some(thresholds), Some(scope), true) =
        (id, thresholds, scope, problems.found.is_empty())
    else {
        return Err(problems.found);
    };
    // A workspace's neutral prompt that this policy looks for must not count against it.
    let violating = |text: &String| written.prompts.iter().any(|p| same_text(&p.value.text, text));
    let neutral = defaults.neutral.iter().filter(|text| !violating(text));
    let policy = Policy {
        title: written.title.unwrap_or_else(|| id.to_string()),
        id,
        description: written.description,
        severity: written.severity,
        mode: written.mode,
        prompts,
        contrast,
        neutral: neutral.map(|text| Prompt { text: text.clone(), weight: 1.0 }).collect(),
        templates,
        scoring: written.scoring.value.0,
        thresholds,
        scope,
        safe_view: written.safe_view,
        on_block: written.on_block,
        arming,
        inherit: written.inherit,
        calibration,
        adapter: None,
    };
    let all_prompts = written.prompts.iter().chain(&written.contrast);
    let ScopeYaml { include, exclude } = &written.scope.value;
    Ok(PolicyFile {
        policy: Arc::new(policy),
        file: file.to_owned(),
        id_place: written.id.referenced,
        scoring_place: written.scoring.referenced,
        thresholds_place: written.thresholds.referenced,
        calibration_place: written.calibration.as_ref().map(|written| written.referenced),
        prompt_places: all_prompts.map(|prompt| prompt.referenced).collect(),
        templates_place: written.templates.and_then(|list| Some(list.first()?.referenced)),
        scope_place: written.scope.referenced,
        include_places: include.value.iter().map(|glob| glob.referenced).collect(),
        exclude_places: exclude.value.iter().map(|glob| glob.referenced).collect(),
    })
}

/// Collects what is wrong in one file.
struct Problems<'a> {
    file: &'a Path,
    found: Vec<YamlProblem>,
}

impl Problems<'_> {
    fn at<T>(&mut self, place: &Spanned<T>, what: impl fmt::Display, hint: impl fmt::Display) {
        let problem = YamlProblem::at(self.file, place.referenced, what).with_hint(hint);
        self.found.push(problem);
    }

    fn check<T, U, E: std::error::Error>(
        &mut self,
        written: &Spanned<T>,
        hint: &str,
        check: impl FnOnce(&T) -> Result<U, E>,
    ) -> Option<U> {
        match check(&written.value) {
            Ok(value) => Some(value),
            Err(error) => {
                let what = match error.source() {
                    Some(source) => format!("{error}: {source}"),
                    None => error.to_string(),
                };
                self.at(written, what, hint);
                None
            }
        }
    }

    fn scope(&mut self, written: &Spanned<ScopeYaml>) -> Option<Scope> {
        let ScopeYaml { include, exclude } = &written.value;
        let texts = |globs: &format::Globs| {
            globs.value.iter().map(|glob| glob.value.clone()).collect::<Vec<_>>()
        };
        let error = match Scope::new(texts(include), texts(exclude)) {
            Ok(scope) => return Some(scope),
            Err(error) => error,
        };
        let list = match error.list {
            ScopeList::Include => include,
            ScopeList::Exclude => exclude,
        };
        match error.index.and_then(|index| list.value.get(index)) {
            Some(glob) => self.at(glob, &error, &error.hint),
            None => self.at(list, &error, &error.hint),
        }
        None
    }

    fn prompts(&mut self, list: &str, written: &[Spanned<PromptYaml>]) -> Vec<Prompt> {
        if written.is_empty() && list == "prompts" {
            let what = "`prompts` is empty";
            self.found
                .push(YamlProblem::of_file(self.file, what).with_hint(
                    "say in a few words what the policy looks for, such as `a handgun`",
                ));
        }
        for prompt in written {
            let PromptYaml { text, weight } = &prompt.value;
            if text.trim().is_empty() {
                self.at(prompt, "this prompt is empty", "write a noun phrase or remove the line");
            }
            if text.contains("{}") {
                let hint = "prompts are put into the templates; write the `{}` in `templates`";
                self.at(prompt, "`{}` stands in a prompt", hint);
            }
            if !(weight.is_finite() && *weight > 0.0) {
                let hint = "a weight is a number above 0; 1 is neutral, 2 doubles the odds";
                self.at(prompt, format_args!("{weight} is no weight"), hint);
            }
        }
        written
            .iter()
            .map(|prompt| Prompt { text: prompt.value.text.clone(), weight: prompt.value.weight })
            .collect()
    }

    /// The same text in both lists cancels itself out; twice in one list it counts double.
    fn no_prompt_twice(
        &mut self,
        prompts: &[Spanned<PromptYaml>],
        contrast: &[Spanned<PromptYaml>],
    ) {
        let all: Vec<_> = prompts.iter().chain(contrast).collect();
        for (index, prompt) in all.iter().enumerate() {
            let same =
                |other: &&&Spanned<PromptYaml>| same_text(&other.value.text, &prompt.value.text);
            if let Some(first) = all[..index].iter().find(same) {
                let what = format!(
                    "the prompt `{}` stands in line {} already",
                    prompt.value.text,
                    first.referenced.line()
                );
                self.at(prompt, what, "remove one of the two; `weight` makes a prompt count more");
            }
        }
    }

    fn arming(&mut self, written: &PolicyYaml) -> Arming {
        let mut arming = Arming::default();
        if let Some(precision) = &written.min_precision {
            arming.min_precision = precision.value;
            if !(0.0 < precision.value && precision.value < 1.0) {
                let what = format!("{} is no share between 0 and 1", precision.value);
                self.at(precision, what, "0.95: at least 95 of 100 Blocks are right");
            }
        }
        if let Some(decisions) = &written.min_decisions {
            arming.min_decisions = decisions.value;
            if decisions.value == 0 {
                let hint = "200 is a good number; a policy must earn the right to hold files";
                self.at(decisions, "`min_decisions` is at least 1", hint);
            }
        }
        arming
    }

    fn calibration(
        &mut self,
        written: Option<&Spanned<CalibrationYaml>>,
    ) -> Option<FittedCalibration> {
        let written = written?;
        let CalibrationYaml { slope, intercept, fitted_for } = &written.value;
        if !(slope.is_finite() && *slope > 0.0 && intercept.is_finite()) {
            let hint = "take the line that `modtool policy suggest` prints, or remove it";
            self.at(written, "these two numbers are no calibration", hint);
        }
        let calibration = Calibration { slope: *slope, intercept: *intercept };
        Some(FittedCalibration { calibration, fitted_for: FittedFor(fitted_for.clone()) })
    }

    fn templates(&mut self, templates: &[Spanned<String>]) {
        if templates.is_empty() {
            self.found.push(
                YamlProblem::of_file(self.file, "`templates` is empty")
                    .with_hint("leave the field out to use the workspace's templates"),
            );
        }
        for template in templates {
            if template.value.matches("{}").count() != 1 {
                let hint = "`{}` stands where the prompt goes, as in `a photo of {}`";
                self.at(template, "a template needs `{}` exactly once", hint);
            }
        }
    }
}

fn same_text(a: &str, b: &str) -> bool {
    a.trim().eq_ignore_ascii_case(b.trim())
}

#[cfg(test)]
mod tests {
    use crate::moderation::{Mode, OnBlock, SafeView, Scoring, Severity};

    use super::*;

    const MINIMAL: &str =
        "id: weapons\nprompts: [a handgun]\nthresholds: {review: 0.5, block: 0.9}\n";

    fn parsed(text: &str) -> Result<Arc<Policy>, Vec<YamlProblem>> {
        parse(Path::new("p.yaml"), text, &Defaults::default()).map(|file| file.policy)
    }

    fn only_problem(text: &str) -> YamlProblem {
        let mut problems = parsed(text).expect_err("must be refused");
        assert_eq!(problems.len(), 1, "{problems:?}");
        problems.remove(0)
    }

    #[test]
    fn every_field_is_read() {
        let policy = parsed(
            "id: weapons\ntitle: Weapons\ndescription: Guns.\nseverity: high\nmode: background\n\
             prompts:\n  - a handgun\n  - {text: a hunting knife, weight: 2}\n\
             contrast: [a water pistol]\ntemplates: ['a close-up of {}']\nscoring: independent\n\
             thresholds: {review: 0.55, block: 0.95}\nscope: {exclude: ['avatars/**']}\n\
             safe_view: hidden\non_block: hold\nviews: whole\ninherit: true\n\
             min_precision: 0.9\nmin_decisions: 50\n\
             calibration: {slope: 1.5, intercept: -0.5, fitted_for: a-b}\n",
        )
        .expect("a good policy");
        assert_eq!(policy.id.as_str(), "weapons");
        assert_eq!((policy.severity, policy.mode), (Severity::High, Mode::Background));
        assert_eq!(policy.prompts[1], Prompt { text: "a hunting knife".into(), weight: 2.0 });
        assert_eq!(policy.contrast.len(), 1);
        assert_eq!(policy.templates, ["a close-up of {}"]);
        assert_eq!(policy.scoring, Scoring::Independent);
        assert!((policy.thresholds.review() - 0.55).abs() < 1e-6);
        assert!(!policy.scope.includes(Path::new("avatars/a.png")));
        assert!(policy.scope.includes(Path::new("a.png")));
        assert_eq!(policy.safe_view, SafeView::Hidden);
        assert_eq!(policy.neutral.len(), 7);
        assert_eq!((policy.on_block, policy.inherit), (OnBlock::Hold, true));
        assert_eq!(policy.arming, Arming { min_precision: 0.9, min_decisions: 50 });
        let calibration = Calibration { slope: 1.5, intercept: -0.5 };
        let fitted_for = FittedFor("a-b".into());
        assert_eq!(policy.calibration, Some(FittedCalibration { calibration, fitted_for }));
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let policy = parsed(MINIMAL).expect("a good policy");
        assert_eq!(policy.title, "weapons");
        assert_eq!((policy.severity, policy.mode), (Severity::Medium, Mode::Live));
        assert_eq!(policy.templates, ["a photo of {}"]);
        assert_eq!(policy.safe_view, SafeView::Blur);
    }

    #[test]
    fn problems_name_their_place_and_a_way_out() {
        let problem = only_problem(&MINIMAL.replace("0.5", "0.95"));
        assert_eq!((problem.line, problem.column), (3, 13), "{problem}");
        assert!(problem.hint.is_some());
        let problem = only_problem(&MINIMAL.replace("id: weapons", "id: Weapons"));
        assert_eq!(problem.line, 1);
        let problem = only_problem(&format!("{MINIMAL}severity: hgih\n"));
        assert_eq!(problem.line, 4);
        assert!(problem.what.contains("low, medium, high"), "{problem}");
        let problem = only_problem(&format!("{MINIMAL}scope: {{include: ['a[']}}\n"));
        assert_eq!(problem.line, 4);
        let problem = only_problem(&format!("{MINIMAL}contrast: [A Handgun]\n"));
        assert!(problem.what.contains("line 2 already"), "{problem}");
        let problem = only_problem(&format!("{MINIMAL}templates: [a photo]\n"));
        assert!(problem.hint.is_some_and(|hint| hint.contains("{}")));
        assert!(only_problem(&MINIMAL.replace("[a handgun]", "[]")).what.contains("empty"));
        only_problem(&MINIMAL.replace("[a handgun]", "[{text: a gun, weight: 0}]"));
        let problem = only_problem(&MINIMAL.replace("[a handgun]", "[{text: a gun, wieght: 1}]"));
        assert_eq!(problem.hint.as_deref(), Some("did you mean `weight`?"), "{problem}");
    }

    #[test]
    fn fields_of_later_versions_are_refused_with_a_clear_word() {
        let problem = only_problem(&format!("{MINIMAL}views: tiles\n"));
        assert_eq!(problem.line, 4);
        assert!(problem.hint.is_some_and(|hint| hint.contains("remove the line")));
    }

    #[test]
    fn objectives_and_calibrations_out_of_range_are_refused() {
        for field in [
            "min_precision: 95",
            "min_precision: 1",
            "min_decisions: 0",
            "calibration: {slope: -1, intercept: 0, fitted_for: a}",
            "on_block: delete",
        ] {
            let problem = only_problem(&format!("{MINIMAL}{field}\n"));
            assert_eq!(problem.line, 4, "{problem}");
        }
    }

    #[test]
    fn a_prompt_that_two_policies_share_is_told() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(dir.path().join("a.yaml"), MINIMAL).expect("written");
        let other = MINIMAL.replace("weapons", "toys").replace("[a handgun]", "[' A Handgun']");
        std::fs::write(dir.path().join("b.yaml"), other).expect("written");
        let files = load(dir.path(), &Defaults::default()).expect("two good policies");
        let warnings = shared_prompts(&files);
        // Files come by id: `toys` is first, and `weapons` then repeats it.
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].to_string().contains("a.yaml:2:"), "{}", warnings[0]);
        let one = load(&dir.path().join("a.yaml"), &Defaults::default()).expect("one file");
        assert_eq!(shared_prompts(&one), []);
    }

    #[test]
    fn problems_that_a_model_sees_find_their_line() {
        let text = MINIMAL.replace("[a handgun]", "\n  - a handgun\n  - a rifle");
        let file = parse(Path::new("p.yaml"), &text, &Defaults::default()).expect("good");
        assert_eq!(file.prompt_problem(1, "too long").line, 4);
        assert_eq!(file.prompt_problem(2, "too long").file, Path::new("modtool.yaml"));
    }

    #[test]
    fn a_glob_that_matches_nothing_is_an_error_with_its_place() {
        for (scope, column) in [
            ("{include: []}", 18),
            ("{include: ['a/**', './b']}", 27),
            ("{exclude: ['avatars/']}", 19),
            ("{include: [a/**], exclude: ['**']}", 36),
        ] {
            let problem = only_problem(&format!("{MINIMAL}scope: {scope}\n"));
            assert_eq!((problem.line, problem.column), (4, column), "{scope}: {problem}");
            assert!(problem.hint.is_some(), "{problem}");
        }
        assert!(parsed(&format!("{MINIMAL}scope: {{include: }}\n")).is_err(), "nothing at all");
        let text = format!("{MINIMAL}scope: {{exclude: [avatars]}}\n");
        let file = parse(Path::new("p.yaml"), &text, &Defaults::default()).expect("good");
        let problem = file.glob_problem(ScopeList::Exclude, 0, "a folder?");
        assert_eq!((problem.line, problem.column), (4, 19));
    }

    #[test]
    fn all_problems_of_a_file_are_told_at_once() {
        let text = "id: W\nprompts: ['']\nthresholds: {review: 2, block: 1}\n";
        assert_eq!(parsed(text).expect_err("three problems").len(), 3);
    }

    #[test]
    fn a_neutral_prompt_that_the_policy_looks_for_is_dropped() {
        let policy = parsed(&MINIMAL.replace("a handgun", "food")).expect("a good policy");
        assert!(policy.neutral.iter().all(|prompt| prompt.text != "food"));
        assert_eq!(policy.neutral.len(), 6);
    }

    #[test]
    fn the_starter_policies_are_good_and_complete() {
        let policies = starter(&Defaults::default()).expect("the starter policies are good");
        let ids: Vec<_> = policies.iter().map(|file| file.policy.id.as_str()).collect();
        assert_eq!(
            ids,
            [
                "alcohol",
                "crash",
                "documents",
                "fire",
                "gambling",
                "memes",
                "money",
                "pills",
                "screenshots",
                "smoking",
                "weapons"
            ]
        );
        for PolicyFile { policy, .. } in &policies {
            assert!(!policy.contrast.is_empty(), "{} has contrast prompts", policy.id);
            let weak = ["pills", "smoking"].contains(&policy.id.as_str());
            assert_eq!(policy.mode == Mode::Background, weak, "{}", policy.id);
        }
    }

    #[test]
    fn a_folder_is_read_whole_or_not_at_all() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(dir.path().join("a.yaml"), MINIMAL).expect("written");
        std::fs::write(dir.path().join("b.yaml"), MINIMAL).expect("written");
        std::fs::write(dir.path().join("notes.txt"), "not a policy").expect("written");
        let problems = load_dir(dir.path(), &Defaults::default()).expect_err("one id, two files");
        assert!(problems.to_string().contains("`weapons` is taken by"), "{problems}");
        std::fs::remove_file(dir.path().join("b.yaml")).expect("removed");
        assert_eq!(load_dir(dir.path(), &Defaults::default()).expect("one policy").len(), 1);
        assert!(load_dir(&dir.path().join("none"), &Defaults::default()).is_err());
    }
}
