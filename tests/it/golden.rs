//! Real photos of the topics, where they are at hand, and one engine against the other.
//! The photos are not ours to publish: `../shared/golden` is not part of the project.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::pictures::{chat, identity_card, jpeg, meadow, page, phone, png, receipt};
use crate::support::skipped;
use crate::support::workspace::{Workspace, flagging, run};
use crate::support::{PHOTOS, STARTER, photo};

fn golden_folder() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/golden");
    folder.join("neutral").is_dir().then_some(folder)
}

/// A share as people read it.
#[expect(clippy::cast_precision_loss, reason = "a few hundred photos")]
fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole as f64
}

#[test]
fn starter_policies_find_their_topics_in_real_photos_and_leave_ordinary_ones_alone() {
    let Some(folder) = golden_folder() else {
        skipped("the golden photos", "../shared/golden is not there");
        return;
    };
    let workspace = Workspace::new();
    let mut command = workspace.command(&["scan", "-q"]);
    command.arg(&folder);
    run(command).expect_code(1);
    let rows = workspace.verdicts();
    let live = |row: &Value| row["outcome"] != "allow";
    let mut found: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let (mut neutral, mut neutral_flagged) = (0, 0);
    for row in &rows {
        let path = Path::new(row["path"].as_str().expect("a path"));
        let topic = path.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        let topic = topic.expect("a folder a topic");
        if topic == "neutral" {
            neutral += 1;
            neutral_flagged += usize::from(live(row));
        } else if STARTER.contains(&topic) {
            // Background policies count by what they would have said.
            let (hits, all) = found.entry(topic.to_owned()).or_default();
            *hits += usize::from(flagging(row).contains(&topic));
            *all += 1;
        }
    }
    assert_eq!(found.len(), STARTER.len(), "{found:?}");
    assert!(neutral > 100, "{neutral}");
    let recalls = found.values().map(|(hits, all)| share(*hits, *all));
    let recall = recalls.sum::<f64>() / share(STARTER.len(), 1);
    let false_alarms = share(neutral_flagged, neutral);
    assert!(recall >= 0.60, "mean recall {recall:.3}: {found:?}");
    assert!(false_alarms <= 0.15, "{neutral_flagged} of {neutral} ordinary photos are flagged");
}

#[test]
fn both_engines_see_the_same() {
    let workspace = Workspace::new();
    let Some(library) = workspace.onnxruntime() else {
        skipped("tract against ONNX Runtime", "no ONNX Runtime was found; set ORT_DYLIB_PATH");
        return;
    };
    for seed in 0..2 {
        workspace.upload(format!("page-{seed}.png"), png(&page(seed)));
        workspace.upload(format!("receipt-{seed}.png"), png(&receipt(seed)));
        workspace.upload(format!("card-{seed}.jpg"), jpeg(&identity_card(seed)));
        workspace.upload(format!("chat-{seed}.png"), png(&chat(seed)));
        workspace.upload(format!("phone-{seed}.jpg"), jpeg(&phone(seed)));
        workspace.upload(format!("meadow-{seed}.jpg"), jpeg(&meadow(seed)));
    }
    for name in PHOTOS {
        workspace.upload(name, std::fs::read(photo(name)).expect("the project's own photo"));
    }
    let native = {
        let mut command = workspace.bare(&["score", "--format", "json", "uploads"]);
        command.args(["--engine", "onnxruntime", "--onnxruntime"]).arg(&library);
        run(command).expect_code(1).json_lines()
    };
    let tract =
        workspace.run(&["score", "--format", "json", "uploads"]).expect_code(1).json_lines();
    assert_eq!((native.len(), tract.len()), (12 + PHOTOS.len(), 12 + PHOTOS.len()));
    for (native, tract) in native.iter().zip(&tract) {
        assert_eq!(native["path"], tract["path"]);
        let policies = |line: &Value| line["policies"].as_array().cloned().expect("policies");
        for (native, tract) in policies(native).iter().zip(policies(tract)) {
            assert_eq!(native["id"], tract["id"]);
            let score = |policy: &Value| policy["score"].as_f64().expect("a score");
            let apart = (score(native) - score(&tract)).abs();
            assert!(apart < 0.01, "{native} {tract}");
        }
        assert_eq!(native["outcome"], tract["outcome"], "{native} {tract}");
    }
    let cosines = |engine: &[&str]| -> Vec<f64> {
        let mut command = workspace.bare(&["score", "--format", "json", "--prompt", "a receipt"]);
        let lines = run({
            command.args(engine).args(PHOTOS.iter().map(|name| photo(name)));
            command
        });
        let cosine = |line: &Value| line["prompts"][0]["cosine"].as_f64().expect("a cosine");
        lines.expect_code(0).json_lines().iter().map(cosine).collect()
    };
    let library = library.to_str().expect("a plain path");
    let native = cosines(&["--engine", "onnxruntime", "--onnxruntime", library]);
    for (native, tract) in native.iter().zip(cosines(&["--engine", "tract"])) {
        assert!((native - tract).abs() < 0.01, "{native} {tract}");
    }
}
