//! `modtool score`: the contract of its JSON lines, and that it sees what `scan` stores.

use std::path::{Path, PathBuf};

use modtool::moderation::ItemId;
use serde_json::Value;

use crate::support::pictures::{jpeg, meadow, page, png};
use crate::support::workspace::{Ran, Workspace, run};
use crate::support::{PHOTOS, STARTER, photo};

fn score(workspace: &Workspace, images: &[&Path], more: &[&str]) -> Ran {
    let mut command = workspace.command(&["score", "--format", "json"]);
    command.args(images).args(more);
    run(command)
}

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<_> =
        value.as_object().expect("an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

fn is_hash(value: &Value) -> bool {
    let digits = value.as_str().unwrap_or_default();
    digits.len() == 64 && digits.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c))
}

#[test]
fn against_the_policies_the_contract_holds() {
    let workspace = Workspace::new();
    let flagged = workspace.upload("page.png", png(&page(1)));
    let fine = photo(PHOTOS[0]);
    let broken = workspace.upload("broken.jpg", "no picture");
    let ran = score(&workspace, &[&flagged, &fine, &broken], &[]).expect_code(1);
    let lines = ran.json_lines();
    assert_eq!(lines.len(), 3, "one object a file, in order");
    for (line, path) in lines.iter().zip([&flagged, &fine, &broken]) {
        assert_eq!(
            keys(line),
            ["fingerprint", "item", "model", "outcome", "path", "policies", "reason"]
        );
        assert_eq!(line["path"], path.to_str().expect("our name"));
        let bytes = std::fs::read(path).expect("read");
        assert_eq!(line["item"], ItemId::of_bytes(&bytes).to_string());
        assert_eq!(line["model"], "builtin");
        assert!(is_hash(&line["fingerprint"]));
    }
    for line in &lines[..2] {
        let policies = line["policies"].as_array().expect("policies");
        let ids: Vec<_> = policies.iter().map(|policy| &policy["id"]).collect();
        assert_eq!(ids, STARTER, "every policy in scope");
        for policy in policies {
            assert_eq!(keys(policy), ["id", "outcome", "prompt", "score"]);
            let score = policy["score"].as_f64().expect("a number");
            assert!((0.0..=1.0).contains(&score), "{policy}");
            assert!(policy["prompt"].as_str().is_some_and(|prompt| !prompt.is_empty()));
            let outcome = policy["outcome"].as_str().expect("a word");
            assert!(["allow", "review", "block"].contains(&outcome), "{policy}");
        }
        assert_eq!(line["reason"], Value::Null);
    }
    assert_ne!(lines[0]["outcome"], "allow");
    assert_eq!(lines[0]["policies"][2]["outcome"], lines[0]["outcome"]);
    assert_eq!(lines[1]["outcome"], "allow");
    assert_eq!(lines[2]["outcome"], "review");
    assert_eq!(lines[2]["policies"], Value::Array(vec![]));
    let reason = lines[2]["reason"].as_str().expect("a reason");
    assert!(reason.starts_with("undecodable: "), "{reason}");

    score(&workspace, &[&fine], &[]).expect_code(0);
    assert!(!workspace.path().join("modtool.db").exists(), "nothing is stored");
}

#[test]
fn scores_are_those_that_scan_stores() {
    let workspace = Workspace::new();
    let paths: Vec<PathBuf> = vec![
        workspace.upload("page.jpg", jpeg(&page(1))),
        workspace.upload("meadow.png", png(&meadow(1))),
        workspace.upload(PHOTOS[3], std::fs::read(photo(PHOTOS[3])).expect("the photo")),
    ];
    workspace.scan().expect_code(1);
    let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
    let lines = score(&workspace, &paths, &[]).expect_code(1).json_lines();
    let rows = workspace.verdicts();
    for line in &lines {
        let row = rows.iter().find(|row| row["path"] == line["path"]).expect("stored");
        for field in ["item", "model", "fingerprint", "outcome", "reason"] {
            assert_eq!(line[field], row[field], "{field} of {}", line["path"]);
        }
        let policies = |of: &Value| of["policies"].as_array().cloned().expect("policies");
        assert_eq!(policies(line).len(), STARTER.len());
        for (scored, stored) in policies(line).iter().zip(policies(row)) {
            for field in ["id", "outcome", "prompt"] {
                assert_eq!(scored[field], stored[field], "{field} of {}", line["path"]);
            }
            // The last digit of a prompt's stored vector may differ.
            let score = |of: &Value| of["score"].as_f64().expect("a score");
            assert!((score(scored) - score(&stored)).abs() < 1e-6, "{scored} {stored}");
        }
    }
}

#[test]
fn against_prompts_each_has_its_own_probability_in_the_order_typed() {
    let workspace = Workspace::new();
    let texts = ["a page of text", "a landscape", "a cat", "a landscape"];
    let mut more = Vec::new();
    for text in texts {
        more.extend(["--prompt", text]);
    }
    let paths = [
        workspace.upload("page.png", png(&page(1))),
        workspace.upload("meadow.jpg", jpeg(&meadow(1))),
    ];
    let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
    let lines = score(&workspace, &paths, &more).expect_code(0).json_lines();
    assert_eq!(lines.len(), 2);
    for line in &lines {
        assert_eq!(keys(line), ["fingerprint", "item", "model", "path", "prompts"]);
        let prompts = line["prompts"].as_array().expect("prompts");
        assert_eq!(prompts.iter().map(|prompt| &prompt["text"]).collect::<Vec<_>>(), texts);
        for prompt in prompts {
            assert_eq!(keys(prompt), ["cosine", "logit", "probability", "text"]);
            let number = |field: &str| prompt[field].as_f64().expect("a number");
            assert!((-1.0..=1.0).contains(&number("cosine")), "{prompt}");
            // The built-in model is of the SigLIP kind: every prompt stands alone.
            let sigmoid = 1.0 / (1.0 + (-number("logit")).exp());
            assert!((sigmoid - number("probability")).abs() < 1e-6, "{prompt}");
        }
        assert_eq!(prompts[1], prompts[3]);
        // logit = scale · cosine + bias, one scale and one bias for all.
        let slope = |a: usize, b: usize| {
            let of = |index: usize, field: &str| prompts[index][field].as_f64().expect("a number");
            (of(a, "logit") - of(b, "logit")) / (of(a, "cosine") - of(b, "cosine"))
        };
        assert!((slope(0, 1) - slope(0, 2)).abs() < 0.01 * slope(0, 1).abs(), "{line}");
    }
    let probability = |line: usize, prompt: usize| {
        lines[line]["prompts"][prompt]["probability"].as_f64().expect("a number")
    };
    assert!(probability(0, 0) > probability(1, 0), "a page is more of a page");
    assert!(probability(1, 1) > probability(0, 1), "a meadow is more of a landscape");
    // A prompt's number does not depend on what stands beside it.
    let alone = score(&workspace, &paths[..1], &["--prompt", texts[0]]).expect_code(0).json_lines();
    let (alone, among) = (&alone[0]["prompts"][0], &lines[0]["prompts"][0]);
    for field in ["cosine", "logit"] {
        let [alone, among] = [alone, among].map(|prompt| prompt[field].as_f64().expect("a number"));
        assert!((alone - among).abs() < 1e-3, "{field}: {alone} {among}");
    }
}

#[test]
fn what_can_not_be_scored_is_told_on_its_line() {
    let workspace = Workspace::with_one_policy();
    let broken = workspace.upload("broken.png", "no picture");
    let missing = workspace.uploads().join("missing.png");
    let good = workspace.upload("good.png", png(&meadow(1)));
    for more in [&[][..], &["--prompt", "a cat"]] {
        let ran = score(&workspace, &[&broken, &missing, &good], more).expect_code(1);
        let lines = ran.json_lines();
        assert_eq!(lines.len(), 3);
        let reasons: Vec<_> = lines.iter().map(|line| line["reason"].as_str()).collect();
        assert!(reasons[0].is_some_and(|reason| reason.starts_with("undecodable")), "{lines:?}");
        assert!(reasons[1].is_some_and(|reason| reason.starts_with("unreadable")), "{lines:?}");
        assert_eq!(reasons[2], None);
    }
}

#[test]
fn folders_are_gone_through_with_prompts_as_well() {
    let workspace = Workspace::with_one_policy();
    let inner = workspace.upload("below/picture.png", png(&meadow(1)));
    let unnamed = workspace.upload("below/no-extension", jpeg(&meadow(2)));
    let broken = workspace.upload("below/broken.jpg", "no picture");
    workspace.upload("below/notes.txt", "nothing to see");
    let ran = score(&workspace, &[&workspace.uploads()], &["--prompt", "a cat"]).expect_code(1);
    let lines = ran.json_lines();
    let mut paths: Vec<_> = lines.iter().map(|line| line["path"].as_str().expect("one")).collect();
    paths.sort_unstable();
    let mut expected = [&inner, &unnamed, &broken].map(|path| path.to_str().expect("plain"));
    expected.sort_unstable();
    assert_eq!(paths, expected);
    let scored = lines.iter().filter(|line| line.get("reason").is_none());
    assert!(scored.clone().all(|line| line["prompts"][0]["probability"].is_number()));
    assert_eq!(scored.count(), 2, "{lines:?}");
}

#[test]
fn a_folder_without_pictures_is_told() {
    let workspace = Workspace::with_one_policy();
    workspace.upload("notes.txt", "no picture");
    for prompts in [&[] as &[&str], &["--prompt", "a cat"]] {
        let ran = score(&workspace, &[&workspace.uploads()], prompts).expect_code(0);
        assert_eq!(ran.out(), "");
        assert!(ran.err().contains("there is no picture in"), "{}", ran.err());
    }
}

#[test]
fn a_prompt_that_is_too_long_is_refused_and_never_cut() {
    let workspace = Workspace::with_one_policy();
    let picture = workspace.upload("a.png", png(&meadow(1)));
    let long = "a photograph of a very particular thing ".repeat(12);
    let ran = score(&workspace, &[&picture], &["--prompt", &long]);
    assert_eq!(ran.code, 2, "{}", ran.err());
    assert!(ran.err().contains("tokens") && ran.out().is_empty(), "{}", ran.err());
}

#[test]
fn the_table_is_for_people() {
    let workspace = Workspace::with_one_policy();
    let picture = workspace.upload("page.png", png(&page(1)));
    let mut command = workspace.command(&["score"]);
    command.arg(&picture);
    let ran = run(command).expect_code(1);
    assert!(ran.out().contains("page.png: ") && ran.out().contains("documents"), "{}", ran.out());
    let mut command = workspace.command(&["score", "--prompt", "a cat"]);
    command.arg(&picture);
    let ran = run(command).expect_code(0);
    assert!(ran.out().contains("probability") && ran.out().contains("a cat"), "{}", ran.out());
}

#[test]
fn prompts_are_embedded_once_on_a_machine() {
    let workspace = Workspace::with_one_policy();
    let picture = workspace.upload("page.png", png(&page(1)));
    let scored = || score(&workspace, &[&picture], &[]).json_lines()[0]["policies"].clone();
    let files = || -> Vec<PathBuf> {
        let folder = std::fs::read_dir(workspace.data().join("prompts")).expect("a folder");
        folder.map(|entry| entry.expect("an entry").path()).collect()
    };
    let first = scored();
    let [file] = &files()[..] else { panic!("one model, one file: {:?}", files()) };
    let lines = std::fs::read_to_string(file).expect("read");
    assert_eq!(scored(), first);
    assert_eq!(std::fs::read_to_string(file).expect("read"), lines, "nothing was embedded again");
    // What is remembered is what is used: here every prompt is made to look like the first.
    let texts: Vec<Value> = lines.lines().flat_map(serde_json::from_str).collect();
    let alike: Vec<String> = texts
        .iter()
        .map(|line: &Value| {
            serde_json::json!({"text": line["text"], "vector": texts[0]["vector"]}).to_string()
        })
        .collect();
    std::fs::write(file, alike.join("\n")).expect("written");
    assert_ne!(scored(), first);
    // What can't be read is embedded again, and remembered again.
    std::fs::write(file, "torn").expect("written");
    assert_eq!(scored(), first);
    assert!(std::fs::read_to_string(file).expect("read").len() > lines.len());
}
