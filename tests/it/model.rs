//! `modtool model`: models from folders and from a Hub, exact, switched, compared, removed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::hub::{COMMIT, HubServer};
use crate::support::pictures::{meadow, page, png};
use crate::support::workspace::{PATIENCE, Ran, Running, Workspace, run};
use crate::support::{PHOTOS, photo, until};

/// The project's own small models.
fn tiny(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/models").join(name)
}

fn golden(name: &str) -> Value {
    let bytes = fs::read(tiny(name).join("golden.json")).expect("what the reference computes");
    serde_json::from_slice(&bytes).expect("JSON")
}

/// A copy that a test may spoil.
fn copy_of(name: &str, workspace: &Workspace) -> PathBuf {
    let to = workspace.outside().join(name);
    let from = tiny(name);
    for entry in ["", "onnx", "visual", "textual"] {
        let Ok(files) = fs::read_dir(from.join(entry)) else { continue };
        fs::create_dir_all(to.join(entry)).expect("made");
        for file in files {
            let file = file.expect("an entry");
            if file.path().is_file() {
                fs::copy(file.path(), to.join(entry).join(file.file_name())).expect("copied");
            }
        }
    }
    to
}

fn add(workspace: &Workspace, folder: &Path, name: &str, more: &[&str]) -> Ran {
    let folder = folder.to_str().expect("a plain path");
    let mut arguments = vec!["model", "add", folder, "--name", name];
    arguments.extend(more);
    workspace.run(&arguments)
}

/// What the tool says of every photo and prompt must be what the reference implementation says.
fn equals_the_reference(workspace: &Workspace, model: &str, family: &str, off: f64) {
    let golden = golden(family);
    let mut command = workspace.command(&["score", "--format", "json", "--model", model]);
    for prompt in golden["prompts"].as_array().expect("prompts") {
        command.args(["--prompt", prompt.as_str().expect("a text")]);
    }
    let images = golden["images"].as_array().expect("images");
    command.args(images.iter().map(|name| photo(name.as_str().expect("a name"))));
    let lines = run(command).expect_code(0).json_lines();
    assert_eq!(lines.len(), images.len());
    for (line, expected) in lines.iter().zip(golden["probabilities"].as_array().expect("rows")) {
        let found = line["prompts"].as_array().expect("prompts");
        assert_eq!(line["model"], model);
        for (found, expected) in found.iter().zip(expected.as_array().expect("a row")) {
            let (found, expected) =
                (found["probability"].as_f64().expect("one"), expected.as_f64().expect("one"));
            assert!(
                (found - expected).abs() < off,
                "{model}: {found} instead of {expected}\n{line}"
            );
        }
    }
}

#[test]
fn every_layout_is_read_as_it_is_and_computes_what_the_reference_does() {
    let workspace = Workspace::with_one_policy();
    for (family, variant, off) in [
        ("clip-tiny", None, 1e-3),
        ("clip-tiny", Some("apart"), 1e-3),
        ("clip-tiny", Some("both"), 1e-3),
        ("siglip-tiny", None, 1e-3),
        ("siglip2-tiny", None, 1e-3),
        ("openclip-tiny", None, 1e-3),
    ] {
        let name = format!("{family}-{}", variant.unwrap_or("plain"));
        let more: Vec<&str> = variant.iter().flat_map(|variant| ["--variant", variant]).collect();
        let ran = add(&workspace, &tiny(family), &name, &more).expect_code(0);
        assert!(ran.out().contains(&format!("model use {name}")), "{}", ran.out());
        assert!(!ran.err().contains("logit_scale"), "it is in the folder: {}", ran.err());
        equals_the_reference(&workspace, &name, family, off);
    }
    let listed = workspace.run(&["model", "list", "--format", "json"]).expect_code(0).json_lines();
    let names: Vec<_> = listed.iter().map(|row| row["name"].as_str().expect("a name")).collect();
    assert_eq!(
        names,
        [
            "builtin",
            "clip-tiny-apart",
            "clip-tiny-both",
            "clip-tiny-plain",
            "openclip-tiny-plain",
            "siglip-tiny-plain",
            "siglip2-tiny-plain"
        ]
    );
    assert_eq!(listed[6]["kind"], "siglip2");
    let verified = workspace.run(&["model", "verify"]).expect_code(0);
    assert_eq!(verified.out().matches(": good").count(), 6, "{}", verified.out());
}

/// What transformers 5 writes, and what people do to such folders.
#[test]
fn siglip_2_is_told_by_its_tokens_and_pictures_by_either_file() {
    let workspace = Workspace::with_one_policy();
    let folder = copy_of("siglip2-tiny", &workspace);
    let named = folder.join("tokenizer_config.json");
    fs::write(&named, r#"{"tokenizer_class": "SiglipTokenizer"}"#).expect("written");
    add(&workspace, &folder, "other-class", &[]).expect_code(0);
    equals_the_reference(&workspace, "other-class", "siglip2-tiny", 1e-3);

    fs::remove_file(&named).expect("removed");
    let preprocessor = folder.join("preprocessor_config.json");
    let mut image: Value =
        serde_json::from_slice(&fs::read(&preprocessor).expect("read")).expect("JSON");
    image["resample"] = "PIL.Image.BILINEAR".into();
    let processor = serde_json::json!({"image_processor": image, "processor_class": "x"});
    fs::write(folder.join("processor_config.json"), processor.to_string()).expect("written");
    fs::remove_file(&preprocessor).expect("removed");
    add(&workspace, &folder, "one-file", &[]).expect_code(0);
    equals_the_reference(&workspace, "one-file", "siglip2-tiny", 1e-3);

    refused(
        "siglip-tiny",
        &edit("tokenizer.json", "</s>", "<end>"),
        &[],
        &["tokenizer.json", "neither", "model.yaml"],
    );
    refused(
        "siglip-tiny",
        &edit("preprocessor_config.json", "\"resample\": 3", "\"resample\": \"lanczos\""),
        &[],
        &["resample", "lanczos", "bicubic"],
    );
    refused(
        "siglip-tiny",
        &|folder| {
            fs::remove_file(folder.join("preprocessor_config.json")).expect("removed");
            fs::write(folder.join("processor_config.json"), "{}").expect("written");
        },
        &[],
        &["processor_config.json", "image_processor"],
    );
}

#[test]
fn half_precision_and_integers_stay_near() {
    let workspace = Workspace::with_one_policy();
    for (variant, off) in [("fp16", 5e-3), ("int8", 0.1), ("quantized", 0.1)] {
        // What tract can't run, ONNX Runtime can.
        let folder = tiny("siglip-tiny");
        let mut command =
            workspace.bare(&["model", "add", "--name", variant, "--variant", variant]);
        command.arg(&folder);
        let ran = run(command);
        if ran.err().contains("tract can't load") || ran.err().contains("tower of model") {
            crate::support::skipped(variant, &format!("only ONNX Runtime runs it: {}", ran.err()));
            continue;
        }
        ran.expect_code(0);
        let golden = golden("siglip-tiny");
        let mut command = workspace.bare(&["score", "--format", "json", "--model", variant]);
        command.args(["--prompt", golden["prompts"][0].as_str().expect("a text")]);
        command.arg(photo(golden["images"][0].as_str().expect("a name")));
        let line = run(command).expect_code(0).json_lines().remove(0);
        let found = line["prompts"][0]["probability"].as_f64().expect("one");
        let expected = golden["probabilities"][0][0].as_f64().expect("one");
        assert!((found - expected).abs() < off, "{variant}: {found} instead of {expected}");
    }
}

#[test]
fn onnx_runtime_leaves_the_weights_in_the_file() {
    let workspace = Workspace::with_one_policy();
    let Some(library) = workspace.onnxruntime() else {
        crate::support::skipped("weights in the file", "no ONNX Runtime; set ORT_DYLIB_PATH");
        return;
    };
    for (family, variant) in [
        ("clip-tiny", "fp32"),
        ("clip-tiny", "apart"),
        ("clip-tiny", "both"),
        ("siglip-tiny", "fp32"),
        ("siglip-tiny", "fp16"),
        ("siglip-tiny", "int8"),
        ("siglip2-tiny", "fp32"),
        ("openclip-tiny", "fp32"),
    ] {
        let name = format!("{family}-{variant}");
        let mut command = workspace.bare(&["model", "add", "--name", &name]);
        if variant != "fp32" {
            command.args(["--variant", variant]);
        }
        command.arg(tiny(family)).arg("--onnxruntime").arg(&library);
        command.env("MODTOOL_LOG", "modtool=debug");
        // It computes with the model before it takes it.
        let ran = run(command).expect_code(0);
        let left: Vec<u64> = ran
            .err()
            .lines()
            .filter(|line| line.contains("weights stay in the file"))
            .filter_map(|line| line.split("left=").nth(1)?.split_whitespace().next()?.parse().ok())
            .collect();
        assert_eq!(left.len(), 2, "both towers of {name}: {}", ran.err());
        // Those of the first are in another file already, and those of the second all small.
        let none = variant == "apart" || family == "openclip-tiny";
        assert!(left.iter().all(|bytes| (*bytes == 0) == none), "{name}: {left:?}");
        assert!(!ran.err().contains("as it is"), "{name}: {}", ran.err());
    }
}

#[test]
fn a_network_that_was_changed_judges_nothing() {
    let workspace = Workspace::with_one_policy();
    add(&workspace, &tiny("clip-tiny"), "m", &[]).expect_code(0);
    workspace.upload("meadow.png", png(&meadow(0)));
    let picture = photo(PHOTOS[0]);
    let picture = picture.to_str().expect("a plain path");
    let with_pictures: [&[&str]; 3] = [
        &["score", "--model", "m", picture],
        &["score", "--model", "m", "--prompt", "a cat", "--prompt", "a dog", picture],
        &["scan", "--model", "m", "uploads"],
    ];
    let spoil = |name: &str| {
        let path = workspace.data().join("models").join(name);
        let good = fs::read(&path).expect("read");
        let mut bytes = good.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).expect("written");
        (path, good)
    };
    let (network, good) = spoil("m/image.onnx");
    for arguments in with_pictures {
        let ran = workspace.run(arguments).expect_code(2);
        assert!(ran.err().contains("image.onnx was changed"), "{arguments:?}: {}", ran.err());
        assert_eq!(ran.out(), "", "{arguments:?}");
    }
    let doctor = workspace.run(&["doctor", "--model", "m"]).expect_code(1);
    assert!(doctor.out().contains("image.onnx was changed"), "{}", doctor.out());
    fs::write(&network, good).expect("written");
    for arguments in with_pictures {
        assert!(workspace.run(arguments).code < 2, "{arguments:?}");
    }
    let judged = workspace.run(&["export", "verdicts"]).expect_code(0).json_lines();
    assert!(judged.iter().all(|line| line["reason"].is_null()), "{judged:?}");
    assert!(!judged.is_empty(), "the scan after it judged the upload");

    // Weights in another file are part of the network.
    add(&workspace, &tiny("clip-tiny"), "apart", &["--variant", "apart"]).expect_code(0);
    let files = fs::read_dir(workspace.data().join("models/apart")).expect("there");
    let names = files.map(|file| file.expect("an entry").file_name().into_string().expect("ASCII"));
    let data: Vec<String> = names.filter(|name| name.ends_with("_data")).collect();
    assert_eq!(data.len(), 2, "{data:?}");
    for name in data {
        let (path, good) = spoil(&format!("apart/{name}"));
        let prompts = ["--prompt", "a cat", "--prompt", "a dog"];
        let mut command = workspace.command(&["score", "--model", "apart", picture]);
        command.args(prompts);
        let ran = run(command).expect_code(2);
        assert!(ran.err().contains(&format!("{name} was changed")), "{}", ran.err());
        fs::write(path, good).expect("written");
    }
}

/// Adds a changed copy of a model: it is refused with these words, and nothing is left.
fn refused(family: &str, change: &dyn Fn(&Path), more: &[&str], told: &[&str]) {
    let workspace = Workspace::with_one_policy();
    let folder = copy_of(family, &workspace);
    change(&folder);
    let ran = add(&workspace, &folder, "x", more).expect_code(2);
    for word in told {
        assert!(ran.err().contains(word), "{word}: {}", ran.err());
    }
    let left = fs::read_dir(workspace.data().join("models"));
    assert_eq!(left.map_or(0, Iterator::count), 0, "nothing is left: {}", ran.err());
}

fn remove(name: &'static str) -> impl Fn(&Path) {
    move |folder| fs::remove_file(folder.join(name)).expect("removed")
}

fn edit(name: &'static str, from: &'static str, to: &'static str) -> impl Fn(&Path) {
    move |folder| {
        let path = folder.join(name);
        let text = fs::read_to_string(&path).expect("read");
        assert!(text.contains(from), "{text}");
        fs::write(path, text.replace(from, to)).expect("written");
    }
}

fn nothing(_: &Path) {}

#[test]
fn what_does_not_fit_is_named_and_leaves_nothing() {
    let workspace = Workspace::with_one_policy();
    refused("clip-tiny", &remove("config.json"), &[], &["config.json", "model.yaml"]);
    refused("clip-tiny", &remove("tokenizer.json"), &[], &["tokenizer.json"]);
    refused("clip-tiny", &remove("onnx/text_model.onnx"), &[], &["networks", "apart", "both"]);
    refused("clip-tiny", &nothing, &["--variant", "q4"], &["variant q4", "apart", "both"]);
    refused(
        "clip-tiny",
        &remove("onnx/vision_model_apart.onnx_data"),
        &["--variant", "apart"],
        &["vision_model_apart.onnx_data"],
    );
    refused(
        "clip-tiny",
        &edit("config.json", "\"clip\"", "\"blip\""),
        &[],
        &["model_type", "blip"],
    );
    refused(
        "clip-tiny",
        &edit("preprocessor_config.json", "\"crop_size\": 48", "\"crop_size\": 40"),
        &[],
        &["vision_model.onnx", "48", "40"],
    );
    refused(
        "clip-tiny",
        &edit("preprocessor_config.json", "\"resample\": 3", "\"resample\": 1"),
        &[],
        &["resample"],
    );
    refused(
        "clip-tiny",
        &|folder| {
            let onnx = folder.join("onnx");
            fs::copy(onnx.join("vision_model.onnx"), onnx.join("text_model.onnx")).expect("copied");
        },
        &[],
        &["text_model.onnx", "text_embeds", "image_embeds"],
    );
    refused(
        "siglip-tiny",
        &remove("model.safetensors"),
        &[],
        &["logit_scale", "logit_bias", "--logit-bias"],
    );
    refused(
        "siglip-tiny",
        &|folder| fs::write(folder.join("onnx/text_model.onnx"), "nonsense").expect("written"),
        &[],
        &["text_model.onnx", "no ONNX file"],
    );
    let folder = tiny("clip-tiny");
    for name in ["../x", "builtin", "UPPER", ".x"] {
        let ran = add(&workspace, &folder, name, &[]).expect_code(2);
        assert!(ran.err().contains("can't be a model's name"), "{}", ran.err());
    }
}

#[test]
fn what_does_not_fit_in_a_folder_a_tower_is_named_too() {
    refused(
        "openclip-tiny",
        &edit("visual/preprocess_cfg.json", "\"shortest\"", "\"longest\""),
        &[],
        &["preprocess_cfg.json", "resize_mode", "longest"],
    );
    refused(
        "openclip-tiny",
        &edit("visual/preprocess_cfg.json", "48", "40"),
        &[],
        &["visual/model.onnx", "48", "preprocess_cfg.json", "40"],
    );
    refused(
        "openclip-tiny",
        &edit("textual/tokenizer_config.json", "<|endoftext|>", "<pad>"),
        &[],
        &["tokenizer.json", "<pad>"],
    );
    refused("openclip-tiny", &remove("textual/tokenizer.json"), &[], &["textual/tokenizer.json"]);
    refused("openclip-tiny", &remove("textual/model.onnx"), &[], &["textual/model.onnx"]);
    refused("openclip-tiny", &nothing, &["--variant", "fp16"], &["variant fp16"]);
    refused(
        "openclip-tiny",
        &|folder| {
            for tower in ["visual", "textual"] {
                fs::remove_file(folder.join(tower).join("model.onnx")).expect("removed");
            }
        },
        &[],
        &["visual/model.onnx", "fetch it"],
    );
    refused("openclip-tiny", &remove("visual/model.onnx.data"), &[], &["model.onnx.data"]);
}

#[test]
fn scale_and_bias_are_looked_for_in_order() {
    let workspace = Workspace::with_one_policy();
    let shown = |name: &str| -> (f64, f64) {
        let ran = workspace.run(&["model", "show", name, "--format", "json"]).expect_code(0);
        let shown = ran.json_lines().remove(0);
        let number = |field: &str| shown[field].as_f64().expect("a number");
        (number("logit_scale"), number("logit_bias"))
    };
    let folder = copy_of("siglip-tiny", &workspace);
    add(&workspace, &folder, "own", &["--logit-scale", "3", "--logit-bias", "-1"]).expect_code(0);
    let (scale, bias) = shown("own");
    assert!((scale - 2.5_f64.exp()).abs() < 1e-4 && (bias - -1.0).abs() < 1e-6, "{scale} {bias}");
    fs::remove_file(folder.join("model.safetensors")).expect("removed");
    add(&workspace, &folder, "said", &["--logit-scale", "3", "--logit-bias", "-2"]).expect_code(0);
    assert_eq!(shown("said"), (3.0, -2.0));
    let folder = copy_of("clip-tiny", &workspace);
    fs::remove_file(folder.join("model.safetensors")).expect("removed");
    let ran = add(&workspace, &folder, "usual", &[]).expect_code(0);
    assert!(ran.err().contains("100 is taken"), "{}", ran.err());
    assert_eq!(shown("usual"), (100.0, 0.0));
}

#[test]
fn a_description_by_hand_rules_and_changed_files_are_found() {
    let workspace = Workspace::with_one_policy();
    let folder = workspace.outside().join("mine");
    fs::create_dir_all(&folder).expect("made");
    let source = tiny("siglip-tiny");
    fs::copy(source.join("onnx/vision_model.onnx"), folder.join("image.onnx")).expect("copied");
    fs::copy(source.join("onnx/text_model.onnx"), folder.join("text.onnx")).expect("copied");
    fs::copy(source.join("tokenizer.json"), folder.join("tokenizer.json")).expect("copied");
    let yaml = "# by hand\nname: mine\nkind: siglip\nembedding_dim: 16\n\
                image: {size: 48, resize: stretch, resample: bicubic, mean: [0.5, 0.5, 0.5], \
                std: [0.5, 0.5, 0.5]}\n\
                text: {context_length: 64, pad_id: 1, canonicalize: lower_no_ascii_punctuation}\n\
                logit_scale: 12.182494\nlogit_bias: -1\noutputs: {image_embeds: pooler_output}\n";
    fs::write(folder.join("model.yaml"), yaml).expect("written");
    add(&workspace, &folder, "by-hand", &[]).expect_code(0);
    equals_the_reference(&workspace, "by-hand", "siglip-tiny", 1e-3);
    let taken = add(&workspace, &folder, "by-hand", &[]).expect_code(2);
    assert!(taken.err().contains("model remove by-hand"), "{}", taken.err());
    // A folder can be named too, with its hashes.
    let installed = workspace.data().join("models/by-hand");
    let written = fs::read_to_string(installed.join("model.yaml")).expect("read");
    assert!(written.starts_with("name: by-hand\n") && written.contains("# by hand"), "{written}");

    let network = installed.join("text.onnx");
    let mut bytes = fs::read(&network).expect("read");
    let last = bytes.len() - 1;
    bytes[last / 2] ^= 1;
    fs::write(&network, bytes).expect("written");
    let verified = workspace.run(&["model", "verify", "by-hand"]).expect_code(1);
    assert!(verified.out().contains("text.onnx was changed"), "{}", verified.out());
    let ran = workspace.run(&["score", "--model", "by-hand", "x.png"]).expect_code(2);
    assert!(ran.err().contains("was changed"), "{}", ran.err());
}

#[test]
fn use_writes_one_line_and_remove_takes_only_what_is_not_in_use() {
    let workspace = Workspace::with_one_policy();
    add(&workspace, &tiny("siglip-tiny"), "tiny", &[]).expect_code(0);
    let settings = workspace.path().join("modtool.yaml");
    fs::write(&settings, "# mine\nengine: {batch: 4} # four\n").expect("written");
    let missing = workspace.run(&["model", "use", "tinny"]).expect_code(64);
    assert!(missing.err().contains("there are: tiny"), "{}", missing.err());
    workspace.run(&["model", "use", "tiny"]).expect_code(0);
    let text = fs::read_to_string(&settings).expect("read");
    assert_eq!(text, "model: tiny\n# mine\nengine: {batch: 4} # four\n");
    let doctor = workspace.run(&["doctor", "--format", "json"]).expect_code(0);
    assert_eq!(doctor.json_lines()[0]["model"], "tiny (siglip, 16 dimensions)");
    let in_use = workspace.run(&["model", "remove", "tiny"]).expect_code(64);
    assert!(in_use.err().contains("model use builtin"), "{}", in_use.err());
    workspace.run(&["score", "x.png"]).expect_code(1);
    let remembered = || fs::read_dir(workspace.data().join("prompts")).expect("there").count();
    assert_eq!(remembered(), 1);
    workspace.run(&["model", "use", "builtin"]).expect_code(0);
    workspace.run(&["model", "remove", "tiny"]).expect_code(0);
    assert_eq!(remembered(), 0, "what it made of prompts goes with it");
    assert_eq!(fs::read_dir(workspace.data().join("models")).expect("there").count(), 0);
    let listed = workspace.run(&["model", "list", "--format", "json"]).expect_code(0).json_lines();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["in_use"], true);
}

fn pull(workspace: &Workspace, hub: &HubServer, arguments: &[&str]) -> std::process::Command {
    let mut command = workspace.command(&["model", "pull"]);
    command.args(arguments).env("HF_ENDPOINT", &hub.endpoint);
    for name in ["HF_TOKEN", "HF_HUB_OFFLINE", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]
    {
        command.env_remove(name);
    }
    command
}

/// No model, whatever lies in the folder.
fn no_model(workspace: &Workspace) {
    let listed = workspace.run(&["model", "list", "--format", "json"]).expect_code(0);
    assert_eq!(listed.json_lines().len(), 1, "{}", listed.out());
}

#[test]
fn a_model_is_pulled_checked_and_pinned() {
    let workspace = Workspace::with_one_policy();
    let hub = HubServer::start(&tiny("siglip2-tiny"));
    hub.change(|mishaps| mishaps.token = Some("hf_secret".into()));
    let ran = run(pull(&workspace, &hub, &["tiny/siglip2-tiny"])).expect_code(2);
    assert!(ran.err().contains("HF_TOKEN"), "{}", ran.err());
    hub.asked();
    let mut command = pull(&workspace, &hub, &["tiny/siglip2-tiny@v1"]);
    command.env("HF_TOKEN", "hf_secret");
    run(command).expect_code(0);
    equals_the_reference(&workspace, "siglip2-tiny", "siglip2-tiny", 1e-3);
    let shown = workspace.run(&["model", "show", "siglip2-tiny", "--format", "json"]);
    let source = shown.expect_code(0).json_lines().remove(0)["source"].clone();
    assert_eq!(source, format!("{}/tiny/siglip2-tiny@{COMMIT}", hub.endpoint));
    let asked = hub.asked();
    assert!(asked[0].path.contains("/resolve/v1/"), "{asked:?}");
    assert!(asked[1..].iter().all(|one| one.host == "store" || one.path.contains(COMMIT)));
    let elsewhere: Vec<_> = asked.iter().filter(|one| one.host == "store").collect();
    assert!(elsewhere.len() >= 4, "{elsewhere:?}");
    assert!(elsewhere.iter().all(|one| one.token.is_none()), "the token is for the Hub alone");
    // Of the weights only the two numbers are fetched.
    let weights = elsewhere.iter().filter(|one| one.path.contains("safetensors"));
    assert!(weights.clone().count() >= 2);
    assert!(weights.clone().all(|one| one.range.is_some()), "{elsewhere:?}");
    let left: Vec<_> = fs::read_dir(workspace.data().join("models")).expect("there").collect();
    assert_eq!(left.len(), 1, "{left:?}");
    let again = run(pull(&workspace, &hub, &["tiny/siglip2-tiny"])).expect_code(2);
    assert!(again.err().contains("already"), "{}", again.err());
}

#[test]
fn variants_with_weights_apart_are_pulled_whole() {
    let workspace = Workspace::with_one_policy();
    let hub = HubServer::start(&tiny("clip-tiny"));
    hub.remove("tiny/clip-tiny/model.safetensors");
    let arguments = ["tiny/clip-tiny", "--name", "apart", "--variant", "apart"];
    let ran = run(pull(&workspace, &hub, &arguments)).expect_code(0);
    assert!(ran.err().contains("100 is taken"), "{}", ran.err());
    assert!(workspace.data().join("models/apart/text_model_apart.onnx_data").is_file());
    let arguments = ["tiny/clip-tiny", "--name", "both", "--variant", "both"];
    run(pull(&workspace, &hub, &arguments)).expect_code(0);
}

#[test]
fn a_tower_a_folder_is_pulled_as_well() {
    let workspace = Workspace::with_one_policy();
    let hub = HubServer::start(&tiny("openclip-tiny"));
    run(pull(&workspace, &hub, &["tiny/openclip-tiny"])).expect_code(0);
    equals_the_reference(&workspace, "openclip-tiny", "openclip-tiny", 1e-3);
    // Both towers keep their weights in a file of one name.
    let there = |name: &str| workspace.data().join("models/openclip-tiny").join(name).is_file();
    assert!(there("model.onnx.data") && there("text.model.onnx.data"));
}

#[test]
fn a_cut_connection_is_mended() {
    let workspace = Workspace::with_one_policy();
    let hub = HubServer::start(&tiny("siglip-tiny"));
    hub.change(|mishaps| {
        mishaps.cuts = vec![
            ("vision_model.onnx", 10_000),
            ("vision_model.onnx", 7_000),
            ("text_model.onnx", 100),
            ("tokenizer.json", 50),
        ];
    });
    run(pull(&workspace, &hub, &["tiny/siglip-tiny"])).expect_code(0);
    equals_the_reference(&workspace, "siglip-tiny", "siglip-tiny", 1e-3);
    let asked = hub.asked();
    let resumed: Vec<_> = asked
        .iter()
        .filter(|one| one.path.contains("vision_model.onnx") && one.host == "store")
        .filter_map(|one| one.range.as_deref().zip(one.if_range.as_deref()))
        .collect();
    let size =
        fs::metadata(tiny("siglip-tiny").join("onnx/vision_model.onnx")).expect("there").len();
    let tag = format!("\"store-{size}\"");
    assert_eq!(resumed, [("bytes=10000-", tag.as_str()), ("bytes=17000-", tag.as_str())]);
}

#[test]
fn a_pull_that_is_given_up_or_killed_goes_on_where_it_stopped() {
    let workspace = Workspace::with_one_policy();
    let hub = HubServer::start(&tiny("siglip-tiny"));
    // Cut again and again, without getting any further.
    hub.change(|mishaps| {
        mishaps.cuts = vec![("vision_model.onnx", 5_000)];
        mishaps.cuts.extend([("vision_model.onnx", 0); 20]);
    });
    let ran = run(pull(&workspace, &hub, &["tiny/siglip-tiny"])).expect_code(2);
    assert!(ran.err().contains("goes on from there"), "{}", ran.err());
    no_model(&workspace);
    hub.asked();
    hub.change(|mishaps| {
        mishaps.cuts.clear();
        mishaps.stalls = vec![("text_model.onnx", 30_000)];
    });
    let running = Running::start(pull(&workspace, &hub, &["tiny/siglip-tiny"]));
    let part = workspace.data().join("models/.pulling-siglip-tiny/onnx/text_model.onnx.part");
    until("half a network is here", PATIENCE, || {
        (fs::metadata(&part).ok()?.len() == 30_000).then_some(())
    });
    // Not SIGINT: shells start background jobs with it ignored.
    running.signal(Signal::TERM);
    let mut running = running;
    let status = running.ended(Duration::from_secs(20));
    assert!(!status.success());
    no_model(&workspace);
    let asked = hub.asked();
    let ranges = |end: &str, asked: &[crate::support::hub::Asked]| -> Vec<String> {
        let of = asked.iter().filter(|one| one.host == "store" && one.path.contains(end));
        of.filter_map(|one| one.range.clone()).collect()
    };
    assert_eq!(ranges("vision_model.onnx", &asked), ["bytes=5000-"]);
    run(pull(&workspace, &hub, &["tiny/siglip-tiny"])).expect_code(0);
    let asked = hub.asked();
    assert_eq!(ranges("text_model.onnx", &asked), ["bytes=30000-"]);
    let whole = asked.iter().any(|one| one.host == "store" && one.path.contains("vision_model"));
    assert!(!whole, "what is here already is not fetched again");
    equals_the_reference(&workspace, "siglip-tiny", "siglip-tiny", 1e-3);
}

#[test]
fn a_server_without_ranges_is_enough() {
    let workspace = Workspace::with_one_policy();
    let hub = HubServer::start(&tiny("siglip-tiny"));
    hub.change(|mishaps| {
        mishaps.no_ranges = true;
        mishaps.cuts = vec![("vision_model.onnx", 10_000)];
    });
    run(pull(&workspace, &hub, &["tiny/siglip-tiny"])).expect_code(0);
    equals_the_reference(&workspace, "siglip-tiny", "siglip-tiny", 1e-3);
}

#[test]
fn a_wrong_hash_a_missing_file_or_repository_and_offline_mode_are_told() {
    let workspace = Workspace::with_one_policy();
    let hub = HubServer::start(&tiny("siglip-tiny"));
    let told = |command, words: &[&str]| {
        let ran: Ran = run(command).expect_code(2);
        for word in words {
            assert!(ran.err().contains(word), "{word}: {}", ran.err());
        }
        no_model(&workspace);
    };
    for damaged in ["tokenizer.json", "vision_model.onnx"] {
        hub.change(|mishaps| mishaps.damaged = vec![damaged]);
        told(pull(&workspace, &hub, &["tiny/siglip-tiny"]), &[damaged, "hash", "thrown away"]);
    }
    hub.change(|mishaps| mishaps.damaged.clear());
    told(
        pull(&workspace, &hub, &["tiny/siglip-tiny", "--variant", "q4"]),
        &["vision_model_q4.onnx"],
    );
    told(pull(&workspace, &hub, &["tiny/other"]), &["no tiny/other"]);
    let mut command = pull(&workspace, &hub, &["tiny/siglip-tiny"]);
    command.env("HF_HUB_OFFLINE", "1");
    told(command, &["HF_HUB_OFFLINE"]);
    let mut command = pull(&workspace, &hub, &["tiny/siglip-tiny"]);
    command.env("HF_ENDPOINT", "127.0.0.1:1");
    told(command, &["HF_ENDPOINT"]);
    let mut command = pull(&workspace, &hub, &["tiny/siglip-tiny"]);
    command.env("HF_ENDPOINT", "http://127.0.0.1:1");
    told(command, &["can't reach http://127.0.0.1:1/"]);
    // A network that names weights elsewhere: nothing outside the repository is asked for.
    let outside = fs::read(tiny("clip-tiny").join("onnx/vision_model_apart.onnx")).expect("read");
    let outside: Vec<u8> =
        replaced(&outside, b"vision_model_apart.onnx_data", b"../../../../../../etc/passwd");
    hub.put("tiny/siglip-tiny/onnx/vision_model.onnx", &outside);
    told(pull(&workspace, &hub, &["tiny/siglip-tiny"]), &["only files in the same folder"]);
    hub.remove("tiny/siglip-tiny/tokenizer.json");
    told(pull(&workspace, &hub, &["tiny/siglip-tiny"]), &["no file tokenizer.json"]);
}

/// Bytes with a text of the same length in place of another.
fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = bytes.to_vec();
    let places: Vec<usize> =
        (0..=bytes.len() - from.len()).filter(|at| bytes[*at..].starts_with(from)).collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(to);
    }
    bytes
}

#[test]
fn another_model_judges_again_what_was_judged_before() {
    let workspace = Workspace::with_one_policy();
    for name in PHOTOS {
        workspace.upload(name, fs::read(photo(name)).expect("the project's own photo"));
    }
    workspace.scan();
    let prints = |workspace: &Workspace| -> Vec<String> {
        let rows = workspace.verdicts();
        assert_eq!(rows.len(), PHOTOS.len());
        rows.iter().map(|row| row["fingerprint"].as_str().expect("one").to_owned()).collect()
    };
    let before = prints(&workspace);
    add(&workspace, &tiny("siglip-tiny"), "tiny", &[]).expect_code(0);
    workspace.run(&["model", "use", "tiny"]).expect_code(0);
    let mut watching = Running::watch(&workspace, &["--format", "json"]);
    until("everything is judged again", PATIENCE, || {
        watching
            .err()
            .contains("everything is judged by the model and the decoders in use")
            .then_some(())
    });
    let new = workspace.upload("new.png", fs::read(photo("grapes-small.png")).expect("read"));
    until("the new one is judged", PATIENCE, || workspace.verdict(&new));
    watching.signal(Signal::INT);
    assert!(watching.ended(PATIENCE).success());
    let lines = crate::support::workspace::json_lines(&watching.stdout());
    let order: Vec<_> = lines
        .iter()
        .map(|line| Path::new(line["path"].as_str().expect("a path")).file_name().expect("one"))
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    assert_eq!(order.len(), PHOTOS.len() + 1, "{order:?}");
    fs::remove_file(&new).expect("removed");
    let after: Vec<_> = workspace
        .verdicts()
        .iter()
        .map(|row| row["fingerprint"].as_str().expect("one").to_owned())
        .collect();
    assert!(after.iter().all(|print| !before.contains(print)), "{after:?}");
    // Vectors of both are kept, apart.
    let vectors = |model: &str| {
        let ran = workspace.run(&["export", "embeddings", "--model", model]).expect_code(0);
        ran.json_lines().len()
    };
    assert_eq!((vectors("builtin"), vectors("tiny")), (PHOTOS.len(), PHOTOS.len()));
    // Back again: known vectors are used, and nothing is left to do then.
    workspace.run(&["model", "use", "builtin"]).expect_code(0);
    let back = workspace.scan();
    assert!(
        back.err().contains("another model or an older decoder judged these"),
        "{}",
        back.err()
    );
    let once_more = workspace.scan();
    assert!(!once_more.err().contains("another model"), "{}", once_more.err());
}

#[test]
fn two_models_are_compared_on_labelled_folders() {
    let workspace = Workspace::with_one_policy();
    add(&workspace, &tiny("siglip-tiny"), "tiny", &[]).expect_code(0);
    let folder = workspace.outside().join("labelled");
    for seed in 0..6 {
        for (label, picture) in [("documents", png(&page(seed))), ("neutral", png(&meadow(seed)))] {
            fs::create_dir_all(folder.join(label)).expect("made");
            fs::write(folder.join(label).join(format!("{seed}.png")), picture).expect("written");
        }
    }
    fs::write(folder.join("documents/broken.png"), "no picture").expect("written");
    let folder = folder.to_str().expect("a plain path");
    let ran = workspace.run(&["model", "compare", "builtin", "tiny", folder, "--format", "json"]);
    let lines = ran.expect_code(0).json_lines();
    let of = |kind: &str| -> Vec<&Value> { lines.iter().filter(|l| l["kind"] == kind).collect() };
    let models = of("model");
    assert_eq!((&models[0]["model"], &models[1]["model"]), (&"builtin".into(), &"tiny".into()));
    for model in &models {
        assert_eq!((&model["pictures"], &model["unjudged"]), (&13.into(), &1.into()), "{model}");
        assert!(model["pictures_per_second"].as_f64().expect("a rate") > 0.0);
        assert!(model["peak_bytes"].as_u64().expect("bytes") > 10 << 20, "{model}");
    }
    let policies = of("policy");
    assert_eq!(policies.len(), 1);
    let policy = policies[0];
    assert_eq!((&policy["belong"], &policy["others"]), (&6.into(), &6.into()));
    let auc = |side: &str, end: &str| policy[side]["auc"][end].as_f64().expect("a number");
    assert!(auc("a", "value") > 0.95, "{policy}");
    assert!(auc("a", "low") < auc("a", "value") && auc("b", "low") < auc("b", "high"), "{policy}");
    let difference = policy["auc_difference"]["value"].as_f64().expect("a number");
    assert!((auc("a", "value") + difference - auc("b", "value")).abs() < 1e-6, "{policy}");
    assert!(!of("disagreement").is_empty());
    let table = workspace.run(&["model", "compare", "builtin", "tiny", folder]).expect_code(0);
    assert!(table.out().contains("documents") && table.out().contains("pictures/s"));
    let nothing = workspace.run(&["model", "compare", "builtin", "tiny", "uploads"]).expect_code(2);
    assert!(nothing.err().contains("nothing to compare on"), "{}", nothing.err());
}

#[test]
fn a_device_that_is_not_there_is_refused_with_the_way_out() {
    let workspace = Workspace::with_one_policy();
    let photo = photo(PHOTOS[0]);
    let score = |more: &[&str]| {
        let mut command = workspace.bare(&["score"]);
        command.arg(&photo).args(more);
        run(command)
    };
    let ran = score(&["--engine", "tract", "--device", "cuda"]).expect_code(2);
    assert!(ran.err().contains("CUDA") && ran.err().contains("--device cpu"), "{}", ran.err());
    for device in ["cpu", "auto"] {
        let arguments = ["--device", device, "--threads", "1", "--batch", "2"];
        assert!(score(&arguments).code < 2);
    }
    assert_eq!(score(&["--batch", "0"]).code, 64);
    assert_eq!(score(&["--device", "tpu"]).code, 64);
    if std::env::var_os("ORT_DYLIB_PATH").is_some() {
        let ran = score(&["--engine", "onnxruntime", "--device", "cuda"]);
        assert!(ran.code < 2 || ran.err().contains("--device cpu"), "{}", ran.err());
    } else {
        crate::support::skipped("CUDA on ONNX Runtime", "ORT_DYLIB_PATH names no library");
    }
}
