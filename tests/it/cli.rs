//! The command line itself: exit codes, words of errors, files that commands write.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Cursor, Read as _, Write as _};
use std::path::Path;
use std::process::Stdio;

use modtool::moderation::{Severity, Timestamp};
use modtool::policy_file::STARTER;
use serde_json::Value;

use crate::support::fixtures::{Judges, fingerprint, policy};
use crate::support::pictures::{meadow, page, png};
use crate::support::workspace::{PATIENCE, Running, Workspace, run};

#[test]
fn help_and_version_go_to_standard_output_and_end_with_0() {
    let workspace = Workspace::new();
    let commands =
        ["watch", "scan", "score", "status", "export", "init", "doctor", "runtime", "completions"];
    let help = run(workspace.bare(&["--help"])).expect_code(0);
    for command in commands {
        assert!(help.out().contains(command), "{command}: {}", help.out());
        let help = run(workspace.bare(&[command, "--help"])).expect_code(0);
        assert!(help.out().contains("Usage:") && help.err().is_empty(), "{command}");
    }
    assert!(!help.out().contains("__probe"), "what is hidden stays hidden");
    let version = run(workspace.bare(&["--version"])).expect_code(0);
    assert_eq!(version.out().trim(), concat!("modtool ", env!("CARGO_PKG_VERSION")));
}

/// An official ONNX Runtime reports its use to its maker unless its environment forbids it, before
/// anything can be said to it.
#[cfg(target_os = "linux")]
#[test]
fn whatever_loads_the_runtime_has_its_reports_forbidden() {
    let workspace = Workspace::with_one_policy();
    let mut watcher = Running::watch(&workspace, &[]);
    let pid = watcher.pid().as_raw_nonzero();
    let environment = fs::read(format!("/proc/{pid}/environ")).expect("it runs");
    let variables: Vec<&[u8]> = environment.split(|byte| *byte == 0).collect();
    for wanted in [&b"ORT_DISABLE_TELEMETRY=1"[..], b"ORT_TELEMETRY_DISABLED=1"] {
        assert!(variables.contains(&wanted), "{}", String::from_utf8_lossy(wanted));
    }
    watcher.signal(rustix::process::Signal::TERM);
    assert!(watcher.ended(PATIENCE).success(), "the signal reaches the program: {}", watcher.err());
}

#[test]
fn a_command_line_that_makes_no_sense_ends_with_64() {
    let workspace = Workspace::new();
    for arguments in [
        &["--no-such-flag"][..],
        &["scan"],
        &["scan", "--no-such-flag", "uploads"],
        &["no-such-command"],
        &["score", "--format", "xml", "a.png"],
        &["export", "nothing"],
        &["watch", "--quiet", "--verbose", "uploads"],
        &["completions", "no-such-shell"],
        &[],
    ] {
        let ran = run(workspace.bare(arguments));
        assert_eq!(ran.code, 64, "{arguments:?}: {}", ran.err());
        assert!(ran.out().is_empty() && !ran.err().is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_broken_policy_ends_with_78_and_says_where_and_what_to_do() {
    let workspace = Workspace::with_one_policy();
    workspace.upload("a.png", png(&meadow(1)));
    let broken = workspace.path().join("policies/weapons.yaml");
    fs::write(
        &broken,
        "id: weapons\npromts:\n  - a handgun\nthresholds: {review: 0.5, block: 0.9}\n",
    )
    .expect("written");
    let twice = workspace.path().join("policies/zwei.yaml");
    let copy = fs::read(workspace.path().join("policies/documents.yaml")).expect("read");
    fs::write(twice, copy).expect("written");
    for arguments in [&["scan", "uploads"][..], &["watch", "uploads"], &["score", "uploads/a.png"]]
    {
        let ran = workspace.run(arguments).expect_code(78);
        let place = format!("{}:2:1: unknown field `promts`", broken.display());
        assert!(ran.err().contains(&place), "{}", ran.err());
        assert!(ran.err().contains("hint: did you mean `prompts`?"), "{}", ran.err());
        assert!(
            ran.err().contains("zwei.yaml: the id `documents` is taken"),
            "every problem at once"
        );
        assert!(ran.out().is_empty());
    }
    assert!(!workspace.path().join("modtool.db").exists(), "nothing was begun");
    let doctor = workspace.run(&["doctor"]).expect_code(1);
    assert!(doctor.out().contains("promts"), "{}", doctor.out());
}

#[test]
fn a_prompt_that_the_model_can_not_read_whole_is_a_problem_of_its_line() {
    let workspace = Workspace::with_one_policy();
    let long = "a very long description of something ".repeat(12);
    let text = format!(
        "id: long\nprompts:\n  - short\n  - {long}\nthresholds: {{review: 0.5, block: 0.9}}\n"
    );
    fs::write(workspace.path().join("policies/long.yaml"), text).expect("written");
    let ran = workspace.scan().expect_code(78);
    assert!(ran.err().contains("long.yaml:4:"), "{}", ran.err());
    assert!(ran.err().contains("hint: "), "{}", ran.err());
}

#[test]
fn broken_settings_end_with_78_and_say_where_and_what_to_do() {
    let workspace = Workspace::with_one_policy();
    let file = workspace.path().join("modtool.yaml");
    for (text, words) in [
        (
            "modle: builtin\n",
            &["modtool.yaml:1:1: unknown field `modle`", "did you mean `model`?"][..],
        ),
        ("\nwatch:\n  poll: maybe\n", &["modtool.yaml:3:9", "auto, true, false"]),
        ("hooks: [{a: b}]\n", &["modtool.yaml:1:10", "unknown field `a`"]),
        ("limits: {side: 0}\naudit_rate: 1.5\n", &["modtool.yaml:1:16", "modtool.yaml:2:13"]),
        ("a: [\n", &["modtool.yaml:"]),
    ] {
        fs::write(&file, text).expect("written");
        let ran = workspace.scan().expect_code(78);
        for word in words {
            assert!(ran.err().contains(word), "{word}: {}", ran.err());
        }
    }
    let mut command = workspace.command(&["scan", "uploads"]);
    let ran = run({
        command.env("MODTOOL_WORKSPACE", workspace.path().join("nowhere"));
        command
    });
    assert_eq!(ran.code, 78, "{}", ran.err());
    assert!(ran.err().contains("nowhere is no folder"), "{}", ran.err());
}

#[test]
fn what_is_missing_is_named_and_ends_with_2() {
    let workspace = Workspace::with_one_policy();
    let ran = workspace.run(&["scan", "no-such-folder"]).expect_code(2);
    assert!(ran.err().contains("can't open the folder no-such-folder"), "{}", ran.err());
    workspace.upload("a.png", png(&meadow(1)));
    let ran = workspace.run(&["scan", "uploads/a.png"]).expect_code(2);
    assert!(ran.err().contains("`modtool score` judges single files"), "{}", ran.err());
    let ran = workspace.run(&["export", "verdicts"]).expect_code(2);
    assert!(ran.err().contains("run `modtool watch DIR` here"), "{}", ran.err());
    let ran = workspace.run(&["scan", "uploads", "--model", "no-such-model"]).expect_code(2);
    assert!(ran.err().contains("no-such-model"), "{}", ran.err());
    let asked = ["scan", "uploads", "--engine", "onnxruntime", "--onnxruntime", "/no/such/lib.so"];
    let ran = run(workspace.bare(&asked)).expect_code(2);
    assert!(ran.err().contains("/no/such/lib.so"), "{}", ran.err());
    for ran in [ran, workspace.run(&["scan", "nothing"])] {
        assert_eq!(ran.err().matches("modtool: ").count(), 1, "told once: {}", ran.err());
        assert!(!ran.err().contains("panicked"), "{}", ran.err());
    }
}

#[test]
fn init_writes_what_then_works_and_keeps_what_is_there() {
    let workspace = Workspace::new();
    let own = "# my own\nid: fire\nprompts: [a fire]\nthresholds: {review: 0.9, block: 0.99}\n";
    fs::create_dir(workspace.path().join("policies")).expect("made");
    fs::write(workspace.path().join("policies/fire.yaml"), own).expect("written");
    let ran = workspace.run(&["init"]).expect_code(0);
    assert!(ran.out().contains("kept") && ran.out().contains("wrote"), "{}", ran.out());
    let kept = fs::read_to_string(workspace.path().join("policies/fire.yaml")).expect("read");
    assert_eq!(kept, own);
    for (name, _) in STARTER {
        assert!(workspace.path().join("policies").join(name).is_file(), "{name}");
    }
    assert!(workspace.path().join("policies/README.md").is_file());

    workspace.upload("page.png", png(&page(1)));
    let ran = workspace.scan().expect_code(1);
    assert!(ran.err().contains("policies=11"), "{}", ran.err());
    // Every setting that is commented out there is a right one with its default.
    let file = workspace.path().join("modtool.yaml");
    let settings = fs::read_to_string(&file).expect("read");
    let is_setting = |line: &&str| {
        let line = line.trim_start_matches("# ");
        line.split_once(':')
            .is_some_and(|(key, _)| key.trim().bytes().all(|c| c.is_ascii_lowercase() || c == b'_'))
    };
    let uncommented: Vec<_> =
        settings.lines().filter(is_setting).map(|line| line.replacen("# ", "", 1)).collect();
    assert!(uncommented.len() >= 4, "{settings}");
    fs::write(&file, uncommented.join("\n")).expect("written");
    let ran = workspace.scan().expect_code(1);
    assert!(ran.err().contains("0 judged"), "the defaults are the defaults: {}", ran.err());
    let again = workspace.run(&["init"]).expect_code(0);
    assert!(!again.out().contains("wrote"), "{}", again.out());
}

#[test]
fn completions_are_there_for_the_usual_shells() {
    let workspace = Workspace::new();
    for shell in ["bash", "zsh", "fish"] {
        let ran = run(workspace.bare(&["completions", shell])).expect_code(0);
        assert!(ran.out().contains("modtool") && ran.out().contains("export"), "{shell}");
        assert!(ran.out().len() > 1000 && ran.err().is_empty(), "{shell}");
    }
}

#[test]
fn doctor_tells_engine_model_and_what_to_improve() {
    let workspace = Workspace::new();
    let ran = workspace.run(&["doctor", "--format", "json"]).expect_code(0);
    let told = ran.json_lines().remove(0);
    assert_eq!(told["healthy"], true, "{told}");
    assert!(told["engine"].as_str().is_some_and(|engine| engine.contains("tract")), "{told}");
    assert!(
        told["policies"].as_str().is_some_and(|text| text.starts_with("11 (9 live)")),
        "{told}"
    );
    for field in ["model", "fingerprint", "limits", "watcher", "workspace", "data_folder"] {
        assert!(told[field].is_string(), "{field}: {told}");
    }
    assert!(told["to_improve"].is_array());
    workspace.scan().expect_code(0);
    let ran = workspace.run(&["doctor"]).expect_code(0);
    assert!(ran.out().contains("SQLite") && ran.out().contains("to improve:"), "{}", ran.out());
    fs::write(workspace.path().join("modtool.db"), "no database ".repeat(1000)).expect("written");
    for journal in ["modtool.db-wal", "modtool.db-shm"] {
        // They go with a clean end.
        let _ = fs::remove_file(workspace.path().join(journal));
    }
    let ran = workspace.run(&["doctor"]).expect_code(1);
    assert!(ran.out().contains("✗ database"), "{}", ran.out());
}

#[test]
fn exports_can_be_read_by_other_programs() {
    let workspace = Workspace::with_one_policy();
    let name = "comma, \"quote\".png";
    workspace.upload(name, png(&page(1)));
    workspace.upload("=formula.png", png(&meadow(1)));
    workspace.upload("broken.png", "no picture");
    workspace.scan().expect_code(1);
    let rows = workspace.verdicts();

    let csv = workspace.run(&["export", "verdicts", "--format", "csv"]).expect_code(0);
    let mut reader = csv::Reader::from_reader(csv.stdout.as_slice());
    let head: Vec<String> = reader.headers().expect("a head").iter().map(str::to_owned).collect();
    let mut count = 0;
    for (record, row) in reader.records().zip(&rows) {
        let record = record.expect("a record");
        for (field, text) in head.iter().zip(&record) {
            match &row[field] {
                Value::Null => assert_eq!(text, "", "{field}"),
                Value::String(expected) => assert_eq!(text, expected, "{field}"),
                other => {
                    let read: Value = serde_json::from_str(text).expect("JSON");
                    assert_eq!(&read, other, "{field}");
                }
            }
            assert!(!text.starts_with(['=', '+', '-', '@']), "a formula for a spreadsheet: {text}");
        }
        count += 1;
    }
    assert_eq!((count, rows.len()), (3, 3));
    for row in &rows {
        assert!(row["first_seen"].as_str().is_some_and(|at| at.ends_with('Z')), "{row}");
        assert!(row.as_object().is_some_and(|row| row.contains_key("state")));
    }

    let vectors = workspace.run(&["export", "embeddings"]).expect_code(0).json_lines();
    let items: BTreeSet<_> = vectors.iter().map(|row| row["item"].to_string()).collect();
    assert_eq!(items.len(), 2, "what can't be judged has no vector");
    let arguments =
        ["export", "embeddings", "--format", "npy", "-o", "outside.npy", "--rows", "outside.txt"];
    let ran = workspace.run(&arguments).expect_code(0);
    assert!(ran.out().is_empty());
    let beside = |name: &str| workspace.path().parent().expect("a folder").join(name);
    let array = fs::read(beside("outside.npy")).expect("written");
    let (rows, columns, values) = read_npy(&array);
    let listed = fs::read_to_string(beside("outside.txt")).expect("written");
    assert_eq!((rows, listed.lines().count()), (vectors.len(), vectors.len()));
    for (index, (vector, line)) in vectors.iter().zip(listed.lines()).enumerate() {
        assert_eq!(line, format!("{} {}", vector["item"].as_str().expect("an id"), vector["view"]));
        let components = vector["vector"].as_array().expect("a vector");
        assert_eq!(components.len(), columns);
        let row = &values[index * columns..][..columns];
        let length: f32 = row.iter().map(|x| x * x).sum();
        assert!((length - 1.0).abs() < 1e-3, "a unit vector: {length}");
        for (a, b) in components.iter().zip(row) {
            assert!((a.as_f64().expect("a number") - f64::from(*b)).abs() < 1e-6);
        }
    }
}

/// NumPy's format 1.0 (numpy.lib.format): rows, columns, values.
fn read_npy(bytes: &[u8]) -> (usize, usize, Vec<f32>) {
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
    let end = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let head = std::str::from_utf8(&bytes[10..end]).expect("a Python literal");
    assert!(head.contains("'descr': '<f4'") && head.contains("'fortran_order': False"), "{head}");
    let shape = head.split("'shape': (").nth(1).expect("a shape");
    let mut numbers = shape.split(&[',', ')'][..]).map(str::trim);
    let mut next = || numbers.next().expect("a side").parse::<usize>().expect("a number");
    let (rows, columns) = (next(), next());
    let (values, rest) = bytes[end..].as_chunks::<4>();
    assert!(rest.is_empty());
    assert_eq!(values.len(), rows * columns, "the size that the head names");
    (rows, columns, values.iter().map(|value| f32::from_le_bytes(*value)).collect())
}

#[tokio::test]
async fn a_reader_that_goes_away_is_no_mistake() {
    let workspace = Workspace::new();
    let store = workspace.store().await;
    let judges = Judges::announce(&store, vec![policy("weapons", Severity::High)]).await;
    let batch: Vec<_> = (0..3000)
        .map(|index| judges.judged(&index.to_string(), format!("{index}").as_bytes(), &[0.7]))
        .collect();
    store.record_verdicts(&judges.judged_by, &batch, Timestamp(1)).await.expect("written");
    assert_eq!(store.count_embeddings(&fingerprint()).await.expect("counted"), 3000);
    store.close().await;
    for arguments in [&["export", "verdicts"][..], &["export", "verdicts", "--format", "csv"]] {
        let mut command = workspace.command(arguments);
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
        let mut first = [0; 100];
        let mut pipe = child.stdout.take().expect("is piped");
        pipe.read_exact(&mut first).expect("it says something");
        drop(pipe);
        let mut told = String::new();
        let mut complaints = child.stderr.take().expect("is piped");
        complaints.read_to_string(&mut told).expect("UTF-8");
        let status = child.wait().expect("ends");
        assert_eq!((status.code(), told.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn a_runtime_that_is_none_is_refused_and_leaves_nothing() {
    let workspace = Workspace::new();
    let outside = workspace.outside();
    let nothing_installed = || {
        let entries = fs::read_dir(workspace.data().join("runtime")).into_iter().flatten();
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        // That it was tried is remembered.
        let left: Vec<_> = names.filter(|name| name != "probes.json").collect();
        assert!(left.is_empty(), "{left:?}");
    };
    let install = |file: &Path| {
        let mut command = workspace.bare(&["runtime", "install", "--from"]);
        command.arg(file);
        run(command)
    };

    let garbage = outside.join("garbage.whl");
    fs::write(&garbage, "no archive").expect("written");
    let ran = install(&garbage).expect_code(2);
    assert!(ran.err().contains("neither a wheel or zip file nor a .tgz"), "{}", ran.err());
    let ran = install(&outside.join("missing.whl")).expect_code(2);
    assert!(ran.err().contains("missing.whl"), "{}", ran.err());
    let torn = outside.join("torn.whl");
    fs::write(&torn, b"PK\x03\x04 and then nothing of a zip").expect("written");
    install(&torn).expect_code(2);
    nothing_installed();

    let name = match std::env::consts::OS {
        "macos" => "libonnxruntime.1.32.0.dylib",
        "windows" => "onnxruntime.dll",
        _ => "libonnxruntime.so.1.32.0",
    };
    let fake = outside.join("onnxruntime-1.32.0-fake.whl");
    fs::write(&fake, zipped(&format!("onnxruntime/capi/{name}"), b"\x7fELF but no library"))
        .expect("written");
    let ran = install(&fake).expect_code(2);
    assert!(ran.err().contains("nothing was installed"), "{}", ran.err());
    nothing_installed();

    let other = outside.join("other.whl");
    fs::write(&other, zipped("numpy/core.so", b"something else")).expect("written");
    let ran = install(&other).expect_code(2);
    assert!(ran.err().contains("holds no ONNX Runtime library"), "{}", ran.err());
    nothing_installed();
}

fn zipped(name: &str, content: &[u8]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    zip.start_file(name, options).expect("an entry");
    zip.write_all(content).expect("written");
    zip.finish().expect("a zip file").into_inner()
}

#[test]
fn quiet_says_nothing_and_verbose_says_more() {
    let workspace = Workspace::with_one_policy();
    workspace.upload("page.png", png(&page(1)));
    let quiet = workspace.run(&["scan", "uploads", "-q"]).expect_code(1);
    assert_eq!((quiet.out(), quiet.err()), (String::new(), String::new()));
    let mut running = Running::start(workspace.command(&["scan", "uploads", "-v"]));
    running.ended(crate::support::workspace::PATIENCE);
    assert!(running.err().contains("INFO"), "{}", running.err());
}
