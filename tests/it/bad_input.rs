//! What uploads look like that nobody wishes for: broken, rare, misnamed and hostile files.
//! When in doubt, a person looks; nothing stops the others.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use modtool::moderation::escape::is_unprintable;
use modtool::vision::decode;
use serde_json::Value;

use crate::support::odd::{
    animated_gif, cmyk_jpeg, deep_png, lying_jpeg, png_header, transparent_png,
};
use crate::support::pictures::{jpeg, meadow, noise, page, png};
use crate::support::workspace::{Workspace, flagging, run};
use crate::support::{photo, skipped};

fn verdict<'a>(rows: &'a [Value], path: &Path) -> &'a Value {
    let path = path.to_str().expect("a name of a test");
    rows.iter()
        .find(|row| row["path"] == path)
        .unwrap_or_else(|| panic!("{path} was not judged: {rows:?}"))
}

#[test]
fn what_can_not_be_judged_goes_to_review_with_the_reason() {
    let workspace = Workspace::with_one_policy();
    let whole = jpeg(&page(1));
    let heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic\0\0\0\x08mdat";
    let broken: [(&str, &[u8], &str); 8] = [
        ("empty.png", b"", "empty"),
        ("garbage.jpg", b"no picture at all, whatever the name says", "not a picture"),
        ("text.png", b"Dear Sir or Madam,\n", "not a picture"),
        ("photo.heic", heic, "heif pictures can't be read"),
        ("head.jpg", &whole[..200], "jpeg"),
        ("huge.png", &png_header(100_000, 100_000), "limit"),
        ("long.png", &png_header(1, 20_000), "no side may be longer"),
        ("hollow.png", &png_header(64, 64), "png"),
    ];
    let paths: Vec<PathBuf> =
        broken.iter().map(|(name, bytes, _)| workspace.upload(name, bytes)).collect();
    let good = workspace.upload("zzz-good.jpg", jpeg(&meadow(1)));
    // What viewers show of it is judged too.
    let cut = workspace.upload("cut.jpg", &whole[..whole.len() * 3 / 4]);

    let ran = workspace.scan().expect_code(1);
    assert!(ran.err().contains("8 of them could not be judged"), "{}", ran.err());
    let rows = workspace.verdicts();
    assert_eq!(rows.len(), broken.len() + 2);
    let cut = verdict(&rows, &cut);
    assert_ne!(cut["outcome"], "allow");
    assert!(cut["reason"].as_str().is_some_and(|why| why.starts_with("damaged: ")), "{cut}");
    assert_eq!(cut["policies"].as_array().map(Vec::len), Some(1));
    for ((name, _, why), path) in broken.iter().zip(&paths) {
        let row = verdict(&rows, path);
        assert_eq!(row["outcome"], "review", "{name}");
        assert_eq!(row["state"], "open", "{name}");
        assert_eq!(row["policies"], Value::Array(vec![]), "{name}");
        let reason = row["reason"].as_str().expect("a reason");
        assert!(reason.starts_with("undecodable: ") && reason.contains(why), "{name}: {reason}");
    }
    assert_eq!(verdict(&rows, &good)["outcome"], "allow", "it does not stop the others");
}

#[test]
fn rare_but_good_pictures_are_judged() {
    let workspace = Workspace::with_one_policy();
    let documents = [
        workspace.upload("deep.png", deep_png(&page(1))),
        workspace.upload("transparent.png", transparent_png(&page(1))),
        workspace.upload("lying.jpg", lying_jpeg(&page(1))),
        // The page comes late, when nobody looks any more.
        workspace.upload("late.gif", animated_gif(&[small(&meadow(1)), small(&page(1))])),
        workspace.upload("jpeg-named.txt", jpeg(&page(1))),
        workspace.upload("no-extension", png(&page(1))),
        workspace.upload("png-named.jpg", png(&page(2))),
    ];
    let ordinary = [
        workspace.upload("inks.jpg", cmyk_jpeg(16, |_, _| [0, 255, 255, 255])),
        workspace.upload("still.gif", animated_gif(&[small(&meadow(1)), small(&meadow(2))])),
    ];
    workspace.upload("notes.txt", "milk, bread, eggs");
    workspace.upload("film.mp4", b"\0\0\0\x18ftypisom\0\0\0\0isommp42");

    let ran = workspace.scan().expect_code(1);
    let err = ran.err();
    assert!(err.contains("1 skipped") && err.contains("1 video was not judged"), "{err}");
    let rows = workspace.verdicts();
    // The last one is for the folder's films.
    assert_eq!(rows.len(), documents.len() + ordinary.len() + 1);
    for path in &documents {
        let row = verdict(&rows, path);
        assert_eq!(row["reason"], Value::Null, "{row}");
        assert_eq!(flagging(row), ["documents"], "{row}");
    }
    for path in &ordinary {
        let row = verdict(&rows, path);
        assert_eq!(row["reason"], Value::Null, "{row}");
        assert_eq!(row["policies"].as_array().map(Vec::len), Some(1), "{row}");
    }
}

/// Animations of the tests have frames of one size.
fn small(picture: &image::RgbImage) -> image::RgbImage {
    image::imageops::resize(picture, 300, 400, image::imageops::FilterType::Triangle)
}

#[test]
fn four_inks_become_the_colours_that_a_printer_means() {
    let limits = decode::Limits::default();
    // Adobe stores 255 − ink: no ink is white, the first ink alone is cyan, the last is black.
    for (stored, seen) in [
        ([255, 255, 255, 255], [255, 255, 255]),
        ([0, 255, 255, 255], [0, 255, 255]),
        ([255, 255, 255, 0], [0, 0, 0]),
    ] {
        let shown = decode::preview(&cmyk_jpeg(4, |_, _| stored), &limits, 32, 32).expect("a JPEG");
        let far = shown.get_pixel(16, 16).0.iter().zip(seen).any(|(a, b)| a.abs_diff(b) > 4);
        assert!(!far, "{stored:?}: {:?} instead of {seen:?}", shown.get_pixel(16, 16));
    }
}

#[test]
fn a_picture_on_its_side_is_stood_up_before_it_is_judged() {
    let workspace = Workspace::new();
    let upright = image::open(photo("trousers.jpg")).expect("the photo").into_rgb8();
    let standing = workspace.upload("standing.jpg", jpeg(&upright));
    let noted = workspace.upload("noted.jpg", lying_jpeg(&upright));
    let lying = workspace.upload("lying.jpg", jpeg(&image::imageops::rotate270(&upright)));
    workspace.scan();
    let rows = workspace.verdicts();
    let scores = |path: &Path| -> Vec<f64> {
        let policies = verdict(&rows, path)["policies"].as_array().expect("policies");
        policies.iter().map(|policy| policy["score"].as_f64().expect("a score")).collect()
    };
    let apart = |other: &Path| {
        let pairs = scores(&standing).into_iter().zip(scores(other));
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
    };
    assert!(apart(&noted) < 0.02, "{}", apart(&noted));
    assert!(apart(&lying) > 0.1, "the test needs a difference: {}", apart(&lying));
}

#[test]
fn links_pipes_sockets_and_folders_are_never_opened() {
    let workspace = Workspace::with_one_policy();
    let uploads = workspace.uploads();
    let secret = workspace.outside().join("secret.png");
    fs::write(&secret, png(&page(1))).expect("written");
    symlink(&secret, uploads.join("link.png")).expect("linked");
    symlink("/etc/passwd", uploads.join("passwd.jpg")).expect("linked");
    symlink(&uploads, uploads.join("loop")).expect("linked");
    symlink(uploads.join("nowhere.png"), uploads.join("dangling.png")).expect("linked");
    rustix::fs::mkfifoat(rustix::fs::CWD, uploads.join("pipe.jpg"), rustix::fs::Mode::RWXU)
        .expect("a pipe is made");
    let _socket = UnixListener::bind(uploads.join("socket.jpg")).expect("a socket is made");
    let inside = workspace.upload("folder.jpg/inside.png", png(&meadow(1)));

    let ran = workspace.scan().expect_code(1);
    let rows = workspace.verdicts();
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert_eq!(verdict(&rows, &inside)["outcome"], "allow");
    let links = verdict(&rows, &fs::canonicalize(&uploads).expect("there"));
    assert_eq!(links["reason"], "unreadable: 4 symbolic links, which modtool does not follow");
    assert!(ran.err().contains("2 skipped"), "{}", ran.err());
}

#[test]
fn a_file_without_permission_goes_to_a_person_and_is_judged_once_it_can_be_read() {
    let workspace = Workspace::with_one_policy();
    let locked = workspace.upload("locked.jpg", jpeg(&meadow(1)));
    let good = workspace.upload("good.jpg", jpeg(&meadow(2)));
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("our own file");
    };
    mode(&locked, 0o000);
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        // Root reads everything, so someone else must scan.
        let nobody = Some(65_534);
        for path in [&workspace.path(), &workspace.data()] {
            std::os::unix::fs::chown(path, nobody, nobody).expect("given");
        }
        mode(&workspace.uploads(), 0o777);
        mode(workspace.uploads().parent().expect("the temporary folder"), 0o755);
        mode(&good, 0o644);
    }
    let scan = || {
        let mut command = workspace.command(&["scan", "uploads"]);
        if is_root {
            command.uid(65_534).gid(65_534);
        }
        command
    };
    let mut try_out = scan();
    if is_root && try_out.arg("--help").output().is_err() {
        skipped("a file without permission", "another user can't run the binary from here");
        return;
    }
    run(scan()).expect_code(1);
    let row = workspace.verdict(&locked).expect("it is put before a person");
    assert_eq!(row["outcome"], "review");
    assert_eq!(row["reason"], "unreadable: permission denied");
    assert_eq!(row["state"], "open");
    assert_eq!(workspace.verdict(&good).expect("judged")["outcome"], "allow");

    mode(&locked, 0o644);
    run(scan()).expect_code(0);
    let row = workspace.verdict(&locked).expect("judged");
    assert_eq!((&row["outcome"], &row["state"]), (&"allow".into(), &Value::Null));
}

#[test]
fn names_that_attack_a_terminal_are_spelled_out_everywhere() {
    let workspace = Workspace::with_one_policy();
    let mut longest = b"\x1b[2J".repeat(62);
    longest.extend(b"abc.png");
    assert_eq!(longest.len(), 255);
    let hostile: [&[u8]; 7] = [
        b"\x1b]52;c;ZXZpbA==\x07.png",
        b"new\nline\r.png",
        "right\u{202e}gnp.exe.png".as_bytes(),
        "zero\u{200b}width\u{feff}.png".as_bytes(),
        b"\xff\xfe-not-utf-8-\x1b[31m.png",
        "c1\u{9b}31m.png".as_bytes(),
        &longest,
    ];
    for (seed, name) in (0..).zip(hostile) {
        workspace.upload(OsStr::from_bytes(name), png(&noise(seed)));
    }
    // In the words of an error too.
    workspace.upload(OsStr::from_bytes(b"broken\x1b[2J.png"), b"\x89PNG\r\n\x1a\nbroken");

    let text = workspace.run(&["scan", "uploads", "--format", "json", "-v"]).expect_code(1);
    let csv = workspace.run(&["export", "verdicts", "--format", "csv"]).expect_code(0);
    let jsonl = workspace.run(&["export", "verdicts"]).expect_code(0);
    let mut scored = workspace.command(&["score"]);
    scored.arg(workspace.uploads());
    let scored = run(scored);
    for said in [&text.stdout, &text.stderr, &csv.stdout, &jsonl.stdout, &scored.stdout] {
        let lines = std::str::from_utf8(said).expect("UTF-8 whatever the names");
        for line in lines.lines() {
            assert!(!line.chars().any(is_unprintable), "{line:?}");
        }
        assert!(!said.is_empty());
    }
    assert_eq!(text.json_lines().len(), hostile.len() + 1);

    let rows = jsonl.json_lines();
    assert_eq!(rows.len(), hostile.len() + 1);
    for name in hostile {
        let path = workspace.uploads().join(OsStr::from_bytes(name));
        let back = |row: &Value| match row["path_b64"].as_str() {
            Some(bytes) => STANDARD.decode(bytes).expect("base64"),
            None => row["path"].as_str().expect("a path").as_bytes().to_vec(),
        };
        let row = rows.iter().find(|row| back(row) == path.as_os_str().as_bytes());
        let row = row.unwrap_or_else(|| panic!("{path:?} does not read back"));
        assert_eq!(row["path_b64"].is_string(), std::str::from_utf8(name).is_err(), "{row}");
        assert_eq!(row["outcome"], "allow", "{row}");
    }
}
