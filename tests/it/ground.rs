//! Whose ground it is: a workspace that others may write, a watched folder that overlaps it, root
//! in another user's workspace, and the lock that strangers can't take.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::Path;
use std::process::Command;

use crate::support::pictures::{meadow, page, png};
use crate::support::workspace::{PATIENCE, Ran, Running, Workspace, run};
use crate::support::{skipped, until};

/// Users that no machine has.
const OWNER: u32 = 61_546;
const STRANGER: u32 = 61_545;

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("ours");
}

/// Whether this is root, who alone can give files away and become others. Says so where it is not.
fn is_root(test: &str) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        skipped(test, "it needs root");
    }
    is_root
}

/// Gives a folder with all that is in it to a user.
fn give(folder: &Path, user: u32) {
    chown(folder, Some(user), Some(user)).expect("root may");
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            give(&path, user);
        } else {
            chown(&path, Some(user), Some(user)).expect("root may");
        }
    }
}

/// A workspace of [`OWNER`]'s, whose uploads anybody may write.
fn workspace_of_the_owner() -> Workspace {
    let workspace = Workspace::with_one_policy();
    mode(workspace.path().parent().expect("in a temporary folder"), 0o755);
    give(&workspace.path(), OWNER);
    give(&workspace.data(), OWNER);
    mode(&workspace.uploads(), 0o777);
    workspace
}

/// The command, run as [`OWNER`]. The program is copied to where that user can read it.
fn as_owner(workspace: &Workspace, arguments: &[&str]) -> Ran {
    run(lowered(workspace, arguments))
}

fn lowered(workspace: &Workspace, arguments: &[&str]) -> Command {
    use std::os::unix::process::CommandExt as _;
    let mut command = readable(workspace, arguments);
    command.uid(OWNER).gid(OWNER);
    command
}

/// The command with a copy of the program that everybody can run.
fn readable(workspace: &Workspace, arguments: &[&str]) -> Command {
    let program = workspace.outside().join("modtool");
    if !program.exists() {
        fs::copy(env!("CARGO_BIN_EXE_modtool"), &program).expect("copied");
        mode(&program, 0o755);
    }
    let typed = workspace.command(arguments);
    let mut command = Command::new(program);
    command.args(typed.get_args()).current_dir(typed.get_current_dir().expect("set"));
    command.stdin(std::process::Stdio::null());
    for (name, value) in typed.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

#[test]
fn what_others_may_write_is_refused_with_the_remedy_and_doctor_says_it_too() {
    let workspace = Workspace::with_one_policy();
    workspace.upload("a.png", png(&meadow(1)));
    workspace.run(&["init"]).expect_code(0);
    let (policies, settings) =
        (workspace.path().join("policies"), workspace.path().join("modtool.yaml"));
    let places = [
        (workspace.path(), 0o777, 0o755),
        (policies.clone(), 0o777, 0o755),
        (policies.join("documents.yaml"), 0o666, 0o644),
        (settings, 0o646, 0o644),
        (workspace.data(), 0o777, 0o755),
    ];
    workspace.run(&["scan", "uploads"]).expect_code(0);
    for (place, open, shut) in places {
        mode(&place, open);
        for command in [&["scan", "uploads"][..], &["queue", "list"], &["status"], &["review"]] {
            let ran = workspace.run(command).expect_code(78);
            let name = place.to_str().expect("a test's own name");
            assert!(ran.err().contains(name) && ran.err().contains("chmod o-w"), "{}", ran.err());
        }
        let told = workspace.run(&["doctor", "--format", "json"]).expect_code(1);
        let told = told.json_lines().remove(0);
        assert_eq!(told["healthy"], false);
        assert!(told["shared"].as_str().is_some_and(|text| text.contains("everybody")), "{told}");
        let ran = workspace.run(&["scan", "uploads", "--allow-shared-workspace"]).expect_code(0);
        assert!(ran.err().contains("everybody may write"), "{}", ran.err());
        mode(&place, shut);
    }
    workspace.run(&["scan", "uploads"]).expect_code(0);
    workspace.run(&["doctor"]).expect_code(0);
}

#[test]
fn a_folder_above_that_others_may_write_is_refused_unless_it_is_sticky() {
    let workspace = Workspace::with_one_policy();
    let above = workspace.path().parent().expect("in a temporary folder").to_owned();
    mode(&above, 0o777);
    workspace.run(&["scan", "uploads"]).expect_code(78);
    let mut allowed = workspace.command(&["scan", "uploads"]);
    allowed.env("MODTOOL_ALLOW_SHARED_WORKSPACE", "1");
    run(allowed).expect_code(0);
    mode(&above, 0o1777);
    workspace.run(&["scan", "uploads"]).expect_code(0);
    mode(&above, 0o755);
}

#[test]
fn settings_that_strangers_wrote_are_not_read() {
    let workspace = Workspace::with_one_policy();
    fs::write(workspace.path().join("modtool.yaml"), "no settings at all\n").expect("written");
    mode(&workspace.path(), 0o777);
    for command in [&["scan", "uploads"][..], &["doctor"]] {
        let ran = workspace.run(command);
        assert!(!ran.err().contains("no settings") && !ran.out().contains("no settings"));
        assert_eq!(ran.code, if command[0] == "doctor" { 1 } else { 78 }, "{}", ran.err());
    }
}

#[test]
fn a_watched_folder_that_overlaps_the_workspace_is_refused() {
    let workspace = Workspace::with_one_policy();
    let path = workspace.path();
    fs::create_dir(path.join("uploads")).expect("made");
    symlink(&path, workspace.outside().join("link")).expect("linked");
    let refused = [
        (".", "holds"),
        ("workspace", "is"),
        ("outside/link", "is"),
        ("workspace/policies", "is"),
        ("outside/link/policies", "is"),
        ("data", "is"),
    ];
    for (root, how) in refused {
        for command in ["scan", "watch"] {
            let ran = workspace.run(&[command, root]).expect_code(78);
            assert!(ran.err().contains(&format!("it {how} ")), "{root}: {}", ran.err());
            assert!(ran.err().contains("--allow-shared-workspace"), "{}", ran.err());
        }
    }
    assert!(!path.join("modtool.db").exists(), "nothing was begun");
    workspace.run(&["scan", "workspace/uploads"]).expect_code(0);
    // A name that only looks like one of ours.
    fs::create_dir(workspace.uploads().join("policies")).expect("made");
    workspace.upload("policies/a.png", png(&meadow(1)));
    workspace.upload("modtool.db", "not a database");
    workspace.run(&["scan", "uploads/policies"]).expect_code(0);
    assert_eq!(workspace.verdicts().len(), 1);
}

/// What looks like modtool's own below a watched folder is an upload like any other, also where the
/// workspace lies somewhere else.
#[test]
fn uploads_that_look_like_modtools_own_files_are_judged() {
    let workspace = Workspace::with_one_policy();
    for name in ["policies", "vectors", "quarantine", "adapters", "locks"] {
        workspace.upload(format!("{name}/a.png"), png(&meadow(1)));
    }
    workspace.scan().expect_code(0);
    assert_eq!(workspace.verdicts().len(), 5);
}

/// `unshare` and `mount` make a mount that only the command sees.
#[test]
fn a_mount_that_shows_a_part_of_the_workspace_is_seen_through() {
    if !is_root("a_mount_that_shows_a_part_of_the_workspace_is_seen_through") {
        return;
    }
    let workspace = Workspace::with_one_policy();
    fs::create_dir(workspace.path().join("policies/deep")).expect("made");
    let script = "mount --bind \"$1\" \"$2\" && shift 2 && exec \"$@\"";
    let mounted = |what: &Path, arguments: &[&str]| {
        let typed = workspace.command(arguments);
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", script, "sh"]).arg(what).arg(workspace.uploads());
        command.arg(env!("CARGO_BIN_EXE_modtool")).args(typed.get_args());
        command.current_dir(typed.get_current_dir().expect("set"));
        command.envs(typed.get_envs().filter_map(|(name, value)| Some((name, value?))));
        run(command)
    };
    let probe = Command::new("unshare").args(["-m", "true"]).status();
    if !probe.is_ok_and(|status| status.success()) {
        skipped("a mount that shows a part", "no namespace of mounts can be made here");
        return;
    }
    for part in ["", "policies", "policies/deep"] {
        let ran = mounted(&workspace.path().join(part), &["scan", "uploads"]);
        assert_eq!(ran.code, 78, "{part}: {}", ran.err());
    }
    mounted(&workspace.outside(), &["scan", "uploads"]).expect_code(0);
}

#[test]
fn root_leaves_a_users_workspace_to_the_user() {
    if !is_root("root_leaves_a_users_workspace_to_the_user") {
        return;
    }
    let workspace = workspace_of_the_owner();
    let settings = workspace.path().join("modtool.yaml");
    fs::write(settings, "review: {grace_seconds: 0}\n").expect("written");
    give(&workspace.path(), OWNER);
    let page = workspace.upload("page.png", png(&page(1)));
    mode(&page, 0o666);
    as_owner(&workspace, &["scan", "uploads"]).expect_code(1);
    let backup = workspace.outside().join("copies");
    fs::create_dir(&backup).expect("made");
    mode(&backup, 0o777);
    let copy = backup.join("copy.db");
    let upload = page.to_str().expect("a test's own name");
    let commands: [&[&str]; 9] = [
        &["init"],
        &["queue", "decide", upload, "--action", "remove"],
        // Moves it to the quarantine.
        &["scan", "uploads"],
        &["restore", upload],
        &["search", "a page", "--top", "1"],
        &["quarantine"],
        &["purge", "--older-than", "1d"],
        &["queue", "list"],
        &["backup", copy.to_str().expect("a test's own name")],
    ];
    for arguments in commands {
        let ran = run(readable(&workspace, arguments));
        let said = ran.err();
        assert!([0, 1].contains(&ran.code), "{arguments:?}: {} {said}", ran.code);
        let told = said.lines().filter(|line| line.contains("going on as 61546")).count();
        assert_eq!(told, 1, "{arguments:?}: {said}");
    }
    let mut folders = vec![workspace.path(), workspace.data()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("read").flatten() {
            let meta = entry.metadata().expect("it is there");
            assert_eq!(meta.uid(), OWNER, "{}", entry.path().display());
            folders.extend(meta.is_dir().then(|| entry.path()));
        }
    }
    assert_eq!(fs::metadata(copy).expect("written").uid(), OWNER);
    as_owner(&workspace, &["search", "a page", "--top", "1"]).expect_code(0);
    as_owner(&workspace, &["doctor"]).expect_code(0);
}

#[test]
fn who_keeps_root_is_told_by_doctor_and_status_what_root_made() {
    if !is_root("who_keeps_root_is_told_by_doctor_and_status_what_root_made") {
        return;
    }
    let workspace = workspace_of_the_owner();
    workspace.upload("a.png", png(&meadow(1)));
    as_owner(&workspace, &["scan", "uploads"]).expect_code(0);
    as_owner(&workspace, &["doctor"]).expect_code(0);
    let keep = ["search", "a page", "--top", "1", "--allow-shared-workspace"];
    let ran = run(readable(&workspace, &keep)).expect_code(0);
    assert!(!ran.err().contains("going on as"), "{}", ran.err());
    let vectors = workspace.path().join("vectors");
    assert_eq!(fs::metadata(&vectors).expect("made").uid(), 0, "it stayed root");
    let told = as_owner(&workspace, &["doctor"]).expect_code(1);
    let remedy = format!("chown -R 61546: {}", vectors.display());
    assert!(told.out().contains(&remedy), "{}", told.out());
    let told = as_owner(&workspace, &["status", "--format", "json"]).expect_code(1);
    let told = told.json_lines().remove(0);
    assert_eq!(told["foreign_owned"][0]["path"], vectors.to_str().expect("a test's own name"));
    let told = as_owner(&workspace, &["status"]).expect_code(1);
    assert!(told.out().contains(&remedy), "{}", told.out());
}

#[test]
fn another_users_workspace_is_refused_to_who_is_not_root() {
    if !is_root("another_users_workspace_is_refused_to_who_is_not_root") {
        return;
    }
    let workspace = workspace_of_the_owner();
    give(&workspace.path(), STRANGER);
    let ran = as_owner(&workspace, &["queue", "list"]).expect_code(78);
    assert!(ran.err().contains("belongs to the user 61545"), "{}", ran.err());
}

#[test]
fn a_strangers_lock_on_the_folder_keeps_nobody_from_watching_it() {
    let workspace = Workspace::with_one_policy();
    workspace.upload("a.png", png(&meadow(1)));
    let stranger = File::open(workspace.uploads()).expect("opened");
    stranger.lock().expect("locked");
    let watcher = Running::start(workspace.command(&["watch", "uploads"]));
    until("the upload is judged", PATIENCE, || (workspace.verdicts().len() == 1).then_some(()));
    let locks = workspace.path().join("locks");
    assert_eq!(fs::metadata(&locks).expect("made").mode() & 0o777, 0o700);
    drop(watcher);
}

#[test]
fn overlapping_folders_have_one_watcher_and_two_workspaces_are_told() {
    let workspace = Workspace::with_one_policy();
    workspace.upload("inner/a.png", png(&meadow(1)));
    let watcher = Running::start(workspace.command(&["watch", "uploads/inner"]));
    until("the upload is judged", PATIENCE, || (workspace.verdicts().len() == 1).then_some(()));
    for root in ["uploads", "uploads/inner"] {
        let ran = workspace.run(&["watch", root]).expect_code(2);
        assert!(ran.err().contains("another modtool watches"), "{}", ran.err());
    }
    let other = Workspace::with_one_policy();
    let mut command = other.command(&["watch"]);
    command.arg(workspace.uploads()).env("MODTOOL_DATA_DIR", workspace.data());
    let second = Running::start(command);
    until("the second workspace judges too", PATIENCE, || {
        (other.verdicts().len() == 1).then_some(())
    });
    assert!(second.err().contains("for another workspace"), "{}", second.err());
    drop((watcher, second));
}

/// A library with a wish of its own: loaded, it would make a file.
#[test]
fn a_library_that_others_may_write_is_not_even_tried() {
    let workspace = Workspace::with_one_policy();
    let open = workspace.outside().join("open");
    fs::create_dir(&open).expect("made");
    let library = open.join("libonnxruntime.so");
    fs::write(&library, "not a library").expect("written");
    let try_it = || {
        let mut command = workspace.bare(&["doctor", "--onnxruntime"]);
        command.arg(&library);
        run(command)
    };
    let tried = try_it().out();
    assert!(!tried.contains("others can change it"), "{tried}");
    for (place, open, shut) in [(&open, 0o777, 0o755), (&library, 0o666, 0o644)] {
        mode(place, open);
        let ran = try_it().expect_code(1);
        assert!(ran.out().contains("not loaded, because others can change it"), "{}", ran.out());
        let mut command = workspace.bare(&["score", "--engine", "onnxruntime", "--onnxruntime"]);
        command.arg(&library).arg("a.png");
        let ran = run(command).expect_code(2);
        assert!(ran.err().contains("others can change it"), "{}", ran.err());
        mode(place, shut);
    }
}

/// pip is called in a way that a module of the folder, or a setting of the environment, can't
/// change; a version whose wheels nobody knows needs a hash.
#[test]
fn runtime_install_runs_no_module_and_no_python_of_the_folder() {
    let workspace = Workspace::new();
    let (ran, folder) = (workspace.outside().join("ran"), workspace.uploads());
    let touch = format!("open({ran:?}, 'w').write('x'); raise SystemExit(1)\n");
    for name in ["pip.py", "pip/__init__.py", "pip/__main__.py", "sitecustomize.py"] {
        workspace.upload(name, &touch);
    }
    let planted = workspace.upload("python3", format!("#!/bin/sh\ntouch {}\n", ran.display()));
    mode(&planted, 0o755);
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = workspace.bare(&["runtime", "install", "--index-url", "http://127.0.0.1:9/"]);
    command
        .current_dir(&folder)
        .env("PATH", format!(".::{path}"))
        .env("PYTHONPATH", &folder)
        .env("PIP_RETRIES", "0")
        .env("MODTOOL_WORKSPACE", &folder)
        .env("https_proxy", "http://127.0.0.1:9");
    run(command).expect_code(2);
    assert!(!ran.exists(), "a file of the folder ran");
    let ran = workspace.run(&["runtime", "install", "--version", "1.31.0"]).expect_code(2);
    assert!(ran.err().contains("--sha256"), "{}", ran.err());
    let file = workspace.upload("x.whl", "not a wheel");
    let file = file.to_str().expect("a test's own name");
    let hash = "0".repeat(64);
    let named = ["runtime", "install", "--from", file, "--sha256", &hash];
    let ran = workspace.run(&named).expect_code(2);
    assert!(ran.err().contains("SHA-256"), "{}", ran.err());
}

/// `number`-th field with these bytes.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    let mut length = content.len();
    while length >= 0x80 {
        bytes.push(u8::try_from(length & 0x7F).expect("seven bits") | 0x80);
        length >>= 7;
    }
    bytes.push(u8::try_from(length).expect("less than 128"));
    [&bytes, content].concat()
}

/// A network that no engine may see: the project's own with one more node, whose operator no
/// network for pictures needs.
#[test]
fn a_network_with_a_foreign_operator_is_refused_before_an_engine_sees_it() {
    let workspace = Workspace::with_one_policy();
    workspace.upload("a.png", png(&meadow(1)));
    let source = workspace.outside().join("model");
    fs::create_dir(&source).expect("made");
    let built_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/builtin");
    for name in ["image.onnx", "text.onnx", "tokenizer.json", "model.yaml"] {
        fs::copy(built_in.join(name), source.join(name)).expect("copied");
    }
    let folder = source.to_str().expect("a test's own name");
    workspace.run(&["model", "add", folder, "--name", "good"]).expect_code(0);
    workspace.run(&["score", "uploads/a.png", "--model", "good"]).expect_code(0);
    let inspected = fs::read_dir(workspace.data().join("inspected")).expect("made");
    assert_eq!(inspected.count(), 1, "it is looked through once");

    // Protocol Buffers add a second field `graph` to the first.
    let node = [field(1, b"x"), field(2, b"y"), field(4, b"ImageDecoder")].concat();
    let image = fs::read(source.join("image.onnx")).expect("read");
    let changed = [image, field(7, &field(1, &node))].concat();
    fs::write(source.join("image.onnx"), changed).expect("written");
    let description = fs::read_to_string(source.join("model.yaml")).expect("read");
    let without_hashes: Vec<&str> =
        description.lines().take_while(|line| !line.starts_with("files:")).collect();
    fs::write(source.join("model.yaml"), without_hashes.join("\n") + "\n").expect("written");
    let ran = workspace.run(&["model", "add", folder, "--name", "bad"]).expect_code(2);
    assert!(ran.err().contains("the operator ImageDecoder"), "{}", ran.err());
    assert!(!workspace.data().join("models/bad").exists());
}
