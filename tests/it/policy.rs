//! Policies as code: check, explain, compare, suggest, test, reload, judge again.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use modtool::moderation::{Action, QueueFilter, Timestamp};
use modtool::pipeline::now;
use rustix::process::Signal;
use serde_json::Value;

use crate::support::fixtures::decision;
use crate::support::pictures::{chat, meadow, noise, page, png, receipt};
use crate::support::until;
use crate::support::workspace::{Running, Workspace};

const SOON: Duration = Duration::from_mins(1);

fn policy_file(workspace: &Workspace) -> PathBuf {
    workspace.path().join("policies/documents.yaml")
}

/// The workspace's one policy with other thresholds.
fn with_thresholds(workspace: &Workspace, thresholds: &str) -> String {
    let text = fs::read_to_string(policy_file(workspace)).expect("the starter policy");
    let lines = text.lines().map(|line| {
        if line.starts_with("thresholds:") {
            format!("thresholds: {thresholds}")
        } else {
            line.into()
        }
    });
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

/// Four pages and two other pictures, judged.
fn judged(workspace: &Workspace) {
    for seed in 0..2 {
        workspace.upload(format!("page-{seed}.png"), png(&page(seed)));
        workspace.upload(format!("receipt-{seed}.png"), png(&receipt(seed)));
        workspace.upload(format!("noise-{seed}.png"), png(&noise(seed)));
    }
    workspace.scan().expect_code(1);
}

fn of_policy<'a>(lines: &'a [Value], id: Option<&str>) -> &'a Value {
    let wanted = id.map_or(Value::Null, Value::from);
    lines
        .iter()
        .find(|line| line["policy"] == wanted)
        .unwrap_or_else(|| panic!("{id:?}: {lines:#?}"))
}

#[test]
fn check_tells_every_problem_with_its_place() {
    let workspace = Workspace::with_one_policy();
    let fine = workspace.run(&["policy", "check"]).expect_code(0);
    assert!(fine.out().contains("1 policy (1 live), 0 warnings"), "{}", fine.out());
    let broken = workspace.path().join("policies/broken.yaml");
    let minimal = "prompts: [a handgun]\nthresholds: {review: 0.5, block: 0.9}\n";
    fs::write(&broken, format!("id: Weapons\n{minimal}")).expect("written");
    let other = workspace.path().join("policies/other.yaml");
    fs::write(&other, format!("id: weapons\nscope: {{include: ['a[']}}\n{minimal}"))
        .expect("written");
    let told = workspace.run(&["policy", "check", "--format", "json"]).expect_code(78).json_lines();
    let places: Vec<_> = told.iter().map(|problem| (&problem["line"], &problem["level"])).collect();
    assert_eq!(places, [(&1.into(), &"error".into()), (&2.into(), &"error".into())], "{told:#?}");
    assert!(told.iter().all(|problem| problem["hint"].is_string()));
    fs::remove_file(&other).expect("removed");

    // What only the model sees, and what is only odd.
    let long = vec!["word"; 60].join(" ");
    fs::write(&broken, format!("id: weapons\n{}", minimal.replace("a handgun", &long)))
        .expect("written");
    let told = workspace.run(&["policy", "check"]).expect_code(78).out();
    assert!(told.contains("broken.yaml:2:") && told.contains("tokens"), "{told}");
    let odd = minimal.replace("a handgun", "a naked person, a receipt").replace(", a r", ", 'A r");
    let odd = odd.replace("receipt]", "receipt']");
    fs::write(&broken, format!("id: weapons\n{odd}")).expect("written");
    let told = workspace.run(&["policy", "check"]).expect_code(0).out();
    assert!(told.contains("never trained on nudity"), "{told}");
    assert!(told.contains("the policy `documents` looks for"), "{told}");
    workspace.run(&["policy", "check", "--strict"]).expect_code(78);
    let one = workspace.run(&["policy", "check", policy_file(&workspace).to_str().expect("ours")]);
    assert!(one.expect_code(0).out().contains("1 policy"));
    workspace.run(&["policy", "check", "nowhere.yaml"]).expect_code(78);
}

#[test]
fn what_is_misread_is_told_before_it_judges() {
    let workspace = Workspace::with_one_policy();
    let path = workspace.path().join("policies/strange.yaml");
    let write = |more: &str| {
        let text = format!(
            "id: strange\nprompts: [a page, страница]\nthresholds: {{review: 1, block: 1}}\n{more}"
        );
        fs::write(&path, text).expect("written");
    };
    write("templates: ['фото {}']\ncontrast: [a gun \u{1F52B}]\nscope: {include: [avatars/**]}\n");
    fs::write(workspace.path().join("policies/x.yaml.txt"), "id: x\n").expect("written");
    workspace.upload("page.png", png(&page(0)));
    let image = workspace.upload("meadow.png", png(&meadow(0)));

    let told = workspace.run(&["policy", "check"]).expect_code(0).out();
    for (place, word) in [
        ("strange.yaml:2:19:", "страница"),
        ("strange.yaml:4:13:", "фото"),
        ("strange.yaml:5:", "`\u{1F52B}` in `a gun"),
        ("x.yaml.txt: ", "is not read"),
    ] {
        let found = told.lines().any(|line| line.contains(place) && line.contains(word));
        assert!(found, "{place} {word}: {told}");
    }
    assert!(!told.contains("scope takes"), "nothing was judged yet: {told}");

    let ran = workspace.scan();
    assert!(ran.err().contains("страница") && ran.err().contains("x.yaml.txt"), "{}", ran.err());
    let told = workspace.run(&["policy", "check"]).expect_code(0).out();
    assert!(told.contains("strange: the scope takes 0 of 2 pictures"), "{told}");
    assert!(told.contains("strange.yaml:6:") && told.contains("none of the 2 pictures"), "{told}");
    let told = workspace.run(&["doctor"]).out();
    assert!(told.contains("strange: the scope takes 0 of 2 pictures"), "{told}");
    assert!(told.contains("x.yaml.txt"), "{told}");

    fs::remove_file(workspace.path().join("policies/x.yaml.txt")).expect("removed");
    fs::remove_file(&path).expect("removed");
    workspace.run(&["policy", "check", "--strict"]).expect_code(0);
    write("");
    workspace.run(&["policy", "check", "--strict"]).expect_code(78);
    write("scope: {include: [./avatars/**]}\n");
    let told = workspace.scan().expect_code(78).err();
    assert!(told.contains("strange.yaml:4:") && told.contains("write `avatars/**`"), "{told}");

    fs::remove_file(&path).expect("removed");
    let image = image.to_str().expect("our name");
    let prompts = ["--prompt", "ｇｕｎ", "--prompt", "a gun"];
    let ran = workspace.run(&[&["score", image][..], &prompts].concat()).expect_code(0);
    assert!(ran.err().contains("can't read any of `ｇｕｎ`"), "{}", ran.err());
    assert_eq!(ran.err().matches("can't read any of").count(), 1, "{}", ran.err());
}

#[test]
fn explain_shows_prompts_that_add_up_to_the_score() {
    let workspace = Workspace::with_one_policy();
    judged(&workspace);
    let image = workspace.upload("page-0.png", png(&page(0)));
    let image = image.to_str().expect("our name");
    let told = workspace.run(&["policy", "explain", image, "--format", "json"]).expect_code(0);
    let line = told.json_lines().remove(0);
    let policy = &line["policies"][0];
    let share = |contrast: bool| -> f64 {
        let prompts = policy["prompts"].as_array().expect("prompts").iter();
        let wanted = prompts.filter(|prompt| prompt["contrast"] == contrast);
        wanted.map(|prompt| prompt["share"].as_f64().expect("a number")).sum()
    };
    let score = policy["score"].as_f64().expect("a number");
    assert!((share(false) - score).abs() < 1e-4, "{policy}");
    assert!((share(false) + share(true) - 1.0).abs() < 1e-4, "{policy}");
    assert_eq!(policy["recorded"], 6, "compared with the uploads");
    let table =
        workspace.run(&["policy", "explain", image, "--policy", "documents"]).expect_code(0);
    assert!(
        table.out().contains("higher than") && table.out().contains("(contrast)"),
        "{}",
        table.out()
    );
    workspace.run(&["policy", "explain", image, "--policy", "memes"]).expect_code(64);
    workspace.run(&["policy", "explain", "nowhere.png"]).expect_code(2);
}

#[test]
fn a_heatmap_is_written_beside_nothing_else() {
    let workspace = Workspace::with_one_policy();
    let image = workspace.upload("page.png", png(&page(3)));
    let image = image.to_str().expect("our name");
    let out = workspace.outside().join("map.png");
    let name = out.to_str().expect("our name");
    let explain = |more: &[&str]| {
        let mut arguments = vec!["policy", "explain", image, "--policy", "documents"];
        arguments.extend(more);
        workspace.run(&arguments)
    };
    let told = explain(&["--heatmap", name]).expect_code(0);
    assert!(told.out().contains("heatmap of documents (approximate)"), "{}", told.out());
    let map = image::open(&out).expect("a picture").into_rgb8();
    assert!(map.width() >= 224 && map.width() == map.height());
    let told = explain(&["--heatmap", name, "--format", "json"]).expect_code(0);
    let line = told.json_lines().remove(0);
    assert_eq!(line["heatmap"]["approximate"], true);
    let rows = line["heatmap"]["log_odds_drops"].as_array().expect("rows");
    assert_eq!(rows.len(), 10);
    let drops = rows.iter().flat_map(|row| row.as_array().expect("cells"));
    let drops: Vec<f64> = drops.map(|drop| drop.as_f64().expect("a number")).collect();
    assert_eq!(drops.len(), 100);
    assert!(drops.iter().any(|drop| drop.abs() > 0.05), "{drops:?}");

    for wrong in [image, "map.jpg", workspace.uploads().to_str().expect("our name")] {
        explain(&["--heatmap", wrong]).expect_code(64);
    }
    let two = ["policy", "explain", image, image, "--heatmap", name];
    workspace.run(&two).expect_code(64);
    let broken = workspace.upload("broken.png", b"no picture");
    let broken = broken.to_str().expect("our name");
    workspace.run(&["policy", "explain", broken, "--heatmap", name]).expect_code(2);
    explain(&["--heatmap", "/nowhere/map.png"]).expect_code(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn diff_and_backtest_judge_the_past_and_measure_against_decisions() {
    let workspace = Workspace::with_one_policy();
    judged(&workspace);
    let decided = decide_all(&workspace).await;
    assert_eq!(decided, (2, 2), "pages are removed, receipts approved");

    // Nothing changes where nothing changed.
    let policies = workspace.path().join("policies");
    let policies = policies.to_str().expect("ours");
    let same = workspace.run(&["policy", "diff", policies, policies, "--format", "json"]);
    let same = same.expect_code(0).json_lines();
    let documents = of_policy(&same, Some("documents"));
    assert_eq!(documents["flagged"], serde_json::json!({"old": 4, "new": 4}));
    assert_eq!(documents["newly_flagged"]["count"], 0);
    let agreement = &documents["agreement"]["new"];
    assert_eq!(
        (&agreement["precision"]["hits"], &agreement["precision"]["of"]),
        (&2.into(), &4.into())
    );

    // A threshold that nothing reaches, in one file.
    let strict = workspace.outside().join("strict.yaml");
    fs::write(&strict, with_thresholds(&workspace, "{review: 1, block: 1}")).expect("written");
    let strict = strict.to_str().expect("ours");
    let told = workspace.run(&["policy", "diff", policies, strict, "--format", "json"]);
    let told = told.expect_code(0).json_lines();
    let documents = of_policy(&told, Some("documents"));
    assert_eq!(documents["flagged"], serde_json::json!({"old": 4, "new": 0}), "{documents}");
    assert_eq!(documents["no_longer_flagged"]["examples"].as_array().map(Vec::len), Some(4));
    assert_eq!(documents["agreement"]["new"]["recall"]["hits"], 0);
    assert_eq!(of_policy(&told, None)["items"], 6);
    let table = workspace.run(&["policy", "diff", policies, strict]).expect_code(0).out();
    assert!(table.contains("4 → 0") && table.contains("page-0.png"), "{table}");
    assert!(table.contains("removed by a person") && table.contains("6 items"), "{table}");

    let against_record = workspace.run(&["policy", "backtest", strict, "--format", "json"]);
    let against_record = against_record.expect_code(0).json_lines();
    assert_eq!(of_policy(&against_record, Some("documents"))["flagged"]["new"], 0);
    assert_eq!(of_policy(&against_record, None)["flagged"]["old"], 4);
    let table = workspace.run(&["policy", "backtest"]).expect_code(0).out();
    assert!(table.contains("as recorded"), "{table}");
    let none = workspace.run(&["policy", "backtest", "--since", "2999-01-01"]).expect_code(0);
    assert!(none.out().contains("0 items"), "{}", none.out());
    workspace.run(&["policy", "backtest", "--since", "yesterday"]).expect_code(64);
    workspace.run(&["policy", "diff", policies, "nowhere"]).expect_code(2);
}

/// Removes pages, approves the rest; how many of each.
async fn decide_all(workspace: &Workspace) -> (usize, usize) {
    let store = workspace.store().await;
    let queue = store.queue(&QueueFilter::default(), None, 100).await.expect("read");
    let mut counts = (0, 0);
    for task in queue {
        let is_page = task.path.to_string_lossy().contains("page");
        let action = if is_page { Action::Remove } else { Action::Approve };
        if is_page {
            counts.0 += 1;
        } else {
            counts.1 += 1;
        }
        // Long ago is not due for ever: nothing acts in these tests.
        let decided = decision(&task, action, "ana", now().0 + 100_000_000);
        store.record_decision(&decided).await.expect("decided");
    }
    store.close().await;
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn suggest_learns_from_decisions_and_prints_a_patch_that_applies() {
    let workspace = Workspace::with_one_policy();
    judged(&workspace);
    let nothing = workspace.run(&["policy", "suggest"]).expect_code(0).out();
    assert!(nothing.contains("nobody decided"), "{nothing}");
    decide_all(&workspace).await;
    let told = workspace.run(&[
        "policy",
        "suggest",
        "--format",
        "json",
        "--min-recall",
        "0.3",
        "--min-precision",
        "0.2",
    ]);
    let told = told.expect_code(0).json_lines().remove(0);
    assert_eq!((&told["decisions"], &told["removed"]), (&4.into(), &2.into()), "{told}");
    let few = workspace.run(&["policy", "suggest"]).expect_code(0).out();
    assert!(few.contains("too few to promise") && few.contains("block stays"), "{few}");

    let before = fs::read_to_string(policy_file(&workspace)).expect("read");
    let patch = told["patch"].as_str().expect("a patch");
    assert!(
        patch.contains("+thresholds: {review: ") || patch.contains("+calibration: "),
        "{patch}"
    );
    let after = applied(&before, patch);
    fs::write(policy_file(&workspace), &after).expect("written");
    let checked = workspace.run(&["policy", "check", "--strict"]).expect_code(0);
    assert!(checked.out().contains("0 warnings"), "{}", checked.out());
    workspace.run(&["policy", "suggest", "memes"]).expect_code(64);
}

/// Applies the one hunk of a unified diff by hand.
fn applied(text: &str, patch: &str) -> String {
    let mut lines: Vec<String> = text.lines().map(ToOwned::to_owned).collect();
    for hunk in patch.split("\n@@ ").skip(1) {
        let mut at = None;
        for line in hunk.lines().skip(1) {
            let (sign, rest) = line.split_at(line.len().min(1));
            let place = at.get_or_insert_with(|| {
                lines.iter().position(|known| known == rest).expect("the context is there")
            });
            match sign {
                "-" => {
                    assert_eq!(lines.remove(*place), rest);
                }
                "+" => {
                    lines.insert(*place, rest.to_owned());
                    *place += 1;
                }
                _ => {
                    assert_eq!(lines[*place], rest);
                    *place += 1;
                }
            }
        }
    }
    lines.join("\n") + "\n"
}

#[test]
fn test_measures_sorted_pictures_and_fails_below_what_is_asked_for() {
    let workspace = Workspace::with_one_policy();
    let sorted = workspace.outside().join("sorted");
    let put = |folder: &str, name: &str, bytes: Vec<u8>| {
        let folder = sorted.join("documents").join(folder);
        fs::create_dir_all(&folder).expect("made");
        fs::write(folder.join(name), bytes).expect("written");
    };
    for seed in 0..3_u64 {
        put("review", &format!("page-{seed}.png"), png(&page(seed)));
        put("allow", &format!("noise-{seed}.png"), png(&noise(seed)));
    }
    let dir = sorted.to_str().expect("ours");
    let all = ["policy", "test", dir, "--min-precision", "1", "--min-recall", "1"];
    let told = workspace.run(&all).expect_code(0).out();
    assert!(told.contains("precision 100 %") && told.contains("ROC-AUC 1.000"), "{told}");

    put("review", "meadow.png", png(&meadow(1)));
    put("allow", "broken.png", b"no picture".to_vec());
    let told =
        workspace.run(&[&all[..], &["--format", "json"]].concat()).expect_code(1).json_lines();
    let line = &told[0];
    assert_eq!((&line["recall"]["hits"], &line["recall"]["of"]), (&3.into(), &4.into()), "{line}");
    assert_eq!(line["confusion"]["review"]["allow"], 1);
    assert_eq!(line["wrong"].as_array().map(Vec::len), Some(1));
    assert_eq!(line["unjudged"].as_array().map(Vec::len), Some(1), "told, and left out");
    workspace.run(&["policy", "test", dir, "--min-recall", "0.7"]).expect_code(0);

    fs::rename(sorted.join("documents"), sorted.join("document")).expect("renamed");
    let told = workspace.run(&["policy", "test", dir]).expect_code(2).err();
    assert!(told.contains("did you mean `documents`?"), "{told}");
}

/// Waits for the verdict of a new upload and answers whether the policy flagged it.
fn flags(workspace: &Workspace, name: &str, seed: u64) -> bool {
    let path = workspace.upload(name, png(&page(seed)));
    let row = until("it is judged", SOON, || workspace.verdict(&path));
    row["outcome"] != "allow"
}

#[test]
fn a_saved_policy_is_in_force_however_it_was_saved_and_a_broken_one_never_is() {
    let workspace = Workspace::with_one_policy();
    let file = policy_file(&workspace);
    let good = fs::read_to_string(&file).expect("read");
    let blind = with_thresholds(&workspace, "{review: 1, block: 1}");
    let mut watcher = Running::watch(&workspace, &[]);
    let taken_over = |watcher: &Running, times: usize| {
        until("policies are taken over", SOON, || {
            (watcher.err().matches("policies taken over").count() >= times).then_some(())
        });
    };
    assert!(flags(&workspace, "0.png", 0));

    // In place, as VS Code does it.
    fs::write(&file, &blind).expect("written");
    taken_over(&watcher, 1);
    assert!(!flags(&workspace, "1.png", 1));

    // Broken: the last good one stays, and it is told once.
    fs::write(&file, "id: documents\nprompts: [").expect("written");
    until("it is told", SOON, || watcher.err().contains("the policies are broken").then_some(()));
    assert!(!flags(&workspace, "2.png", 2));
    assert_eq!(watcher.err().matches("the policies are broken").count(), 1);

    // Renamed into place, as vim and sed -i do it; the backup beside it is no policy.
    fs::write(file.with_extension("yaml~"), &blind).expect("written");
    let swap = file.with_file_name(".documents.yaml.swp");
    fs::write(&swap, &good).expect("written");
    fs::rename(&swap, &file).expect("renamed");
    taken_over(&watcher, 2);
    assert!(flags(&workspace, "3.png", 3));

    // The folder is gone for a moment: nothing changes.
    let policies = workspace.path().join("policies");
    fs::rename(&policies, workspace.outside().join("old")).expect("renamed");
    std::thread::sleep(Duration::from_millis(2500));
    assert!(flags(&workspace, "4.png", 4));
    // A link to another folder, as releases do it.
    let release = workspace.outside().join("release");
    fs::create_dir(&release).expect("made");
    fs::write(release.join("documents.yaml"), &blind).expect("written");
    std::os::unix::fs::symlink(&release, &policies).expect("linked");
    taken_over(&watcher, 3);
    assert!(!flags(&workspace, "5.png", 5));
    watcher.signal(Signal::INT);
    assert_eq!(watcher.ended(Duration::from_secs(10)).code(), Some(0), "{}", watcher.err());
}

/// Promise P6, while pictures are scored: whatever is saved, the last good policy judges them all.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_broken_saves_while_pictures_are_scored_change_no_verdict() {
    let workspace = Workspace::with_one_policy();
    let file = policy_file(&workspace);
    let good = fs::read_to_string(&file).expect("read");
    let broken = |save: usize| match save % 5 {
        0 => "id: documents\nprompts: [".to_owned(),
        1 => String::new(),
        2 => good.replace("thresholds:", "treshholds:"),
        3 => format!("{good}\n\tid: twice"),
        _ => good.replace("id: documents", "id: Not An Id!"),
    };
    let mut watcher = Running::watch(&workspace, &[]);
    let saves = 100;
    let mut wanted = std::collections::BTreeMap::new();
    for save in 0..saves {
        fs::write(&file, broken(save)).expect("written");
        let bytes = png(&page(save as u64));
        wanted.insert(workspace.upload(format!("{save}.png"), &bytes), bytes);
        // Some stay long enough to be read, most are gone before.
        std::thread::sleep(Duration::from_millis(if save % 20 == 0 { 2500 } else { 20 }));
    }
    let rows = crate::watch::until_judged(&workspace, &wanted);
    assert_eq!(rows.len(), saves);
    assert!(watcher.err().contains("the policies are broken"), "none was even read");
    assert!(!watcher.err().contains("policies taken over"), "{}", watcher.err());
    watcher.signal(Signal::TERM);
    assert_eq!(watcher.ended(Duration::from_secs(10)).code(), Some(0), "{}", watcher.err());
    let pool = crate::store::raw(&workspace.path().join("modtool.db")).await;
    let versions: i64 = sqlx::query_scalar("SELECT count(DISTINCT policy_version) FROM verdicts")
        .fetch_one(&pool)
        .await
        .expect("counted");
    assert_eq!(versions, 1, "every verdict names the good policy");
    pool.close().await;
}

#[test]
fn a_change_is_applied_to_history_at_once_where_settings_say_so() {
    let workspace = Workspace::with_one_policy();
    fs::write(workspace.path().join("modtool.yaml"), "rescore_on_change: true\n").expect("written");
    let path = workspace.upload("page.png", png(&page(1)));
    let mut watcher = Running::watch(&workspace, &[]);
    until("it is judged", SOON, || {
        workspace.verdict(&path).filter(|row| row["outcome"] != "allow")
    });
    let blind = with_thresholds(&workspace, "{review: 1, block: 1}");
    fs::write(policy_file(&workspace), blind).expect("written");
    until("it is judged again", SOON, || {
        workspace.verdict(&path).filter(|row| row["outcome"] == "allow")
    });
    watcher.signal(Signal::INT);
    watcher.ended(Duration::from_secs(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn rescore_judges_history_opens_tasks_and_closes_them_only_when_told() {
    let workspace = Workspace::with_one_policy();
    let good = fs::read_to_string(policy_file(&workspace)).expect("read");
    let blind = with_thresholds(&workspace, "{review: 1, block: 1}");
    workspace.upload("chat.png", png(&chat(0)));
    judged(&workspace);
    let rescored = |more: &[&str]| {
        let ran = workspace.run(&[&["rescore", "--format", "json"], more].concat());
        ran.expect_code(0).json_lines().remove(0)
    };
    let same = rescored(&[]);
    assert_eq!((&same["judged"], &same["changed"]), (&0.into(), &0.into()), "{same}");
    let flagged = workspace.verdicts().iter().filter(|row| row["outcome"] != "allow").count();

    fs::write(policy_file(&workspace), &blind).expect("written");
    let loose = rescored(&[]);
    assert_eq!(loose["changed"], flagged, "{loose}");
    assert_eq!(
        (&loose["tasks_closed"], &loose["tasks_that_no_policy_flags"]),
        (&0.into(), &flagged.into())
    );
    assert!(workspace.verdicts().iter().all(|row| row["outcome"] == "allow"));
    assert_eq!(rescored(&["--close"])["tasks_closed"], flagged);
    let store = workspace.store().await;
    assert_eq!(store.queue_counts(Timestamp(0)).await.expect("read").open, 0);
    store.close().await;

    fs::write(policy_file(&workspace), &good).expect("written");
    let strict = rescored(&[]);
    assert_eq!((&strict["changed"], &strict["tasks_opened"]), (&flagged.into(), &flagged.into()));
    workspace.run(&["audit", "verify"]).expect_code(0);
}

#[test]
fn policies_of_the_past_do_not_need_the_engine() {
    let workspace = Workspace::with_one_policy();
    judged(&workspace);
    // Everything that was embedded before is taken from the store: no engine is asked for.
    let mut command = workspace.bare(&["--engine", "onnxruntime", "policy", "backtest"]);
    command.env("ORT_DYLIB_PATH", Path::new("/nowhere/libonnxruntime.so"));
    let ran = crate::support::workspace::run(command);
    assert_eq!(ran.code, 0, "{}", ran.err());
}
