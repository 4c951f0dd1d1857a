//! Models on real engines: what the reference implementation computes must come out.
//!
//! One process holds one engine for its life, so each engine gets a process: a test starts this
//! binary again with the name of `engine_child` and the engine in a variable.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use modtool::moderation::{Embedding, LogitScale, score};
use modtool::vision::engine::{self, FoundEngine, WhyTract, candidates};
use modtool::vision::model::{AddOptions, ModelsFolder};
use modtool::vision::{EngineOptions, Limits, ModelKind, VisionError, decode, model};
use serde_json::Value;

/// Tells `engine_child` what to run on: `tract` or the path of a library.
const ENGINE: &str = "MODTOOL_TEST_ENGINE";

#[test]
fn tract_equals_the_reference() {
    run_child("tract".as_ref());
}

#[test]
fn onnx_runtime_equals_the_reference() {
    let data_dir = tempfile::tempdir().expect("a temporary folder");
    let candidates = candidates(None, data_dir.path());
    match candidates.iter().find(|candidate| candidate.path.is_file()) {
        Some(candidate) => run_child(&candidate.path),
        None => skipped("no ONNX Runtime is here; set ORT_DYLIB_PATH to try it"),
    }
}

/// Nothing by itself; the whole test of one engine when a test above starts it.
#[test]
fn engine_child() {
    let Some(wanted) = std::env::var_os(ENGINE) else { return };
    let found = if wanted == "tract" {
        FoundEngine::Tract { why: WhyTract::AskedFor }
    } else {
        let library = PathBuf::from(wanted);
        let version = engine::self_test_child(&library).expect("the library computes well");
        assert!(version.starts_with("1."), "{version}");
        FoundEngine::OnnxRuntime { library, version, origin: "the test" }
    };
    let engine = engine::start(&found).expect("the engine starts");
    another_engine_is_refused(&found);
    batches_of_any_size_agree(&engine);
    errors_name_what_does_not_fit(&engine);
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    for family in FAMILIES.into_iter().chain(["openclip-tiny"]) {
        equals_the_reference(
            &engine,
            &here.join("tests/data/models"),
            &here.join("tests/data/photos"),
            family,
        );
    }
    let Some(reference) = reference() else {
        return skipped("../shared/reference is not here, only the project's own was compared");
    };
    for family in FAMILIES {
        equals_the_reference(&engine, &reference, &reference.join("images"), family);
    }
}

fn another_engine_is_refused(running: &FoundEngine) {
    assert!(engine::start(running).is_ok(), "the same engine again is fine");
    let other = match running {
        FoundEngine::OnnxRuntime { .. } => FoundEngine::Tract { why: WhyTract::AskedFor },
        FoundEngine::Tract { .. } => FoundEngine::OnnxRuntime {
            library: "libonnxruntime.so".into(),
            version: "1.32.0".into(),
            origin: "the test",
        },
    };
    let error = engine::start(&other).expect_err("one process, one engine");
    assert!(matches!(error, VisionError::EngineTaken { .. }), "{error}");
}

fn run_child(wanted: &Path) {
    let output = Command::new(std::env::current_exe().expect("this binary has a path"))
        .args(["--exact", "vision::engine_child", "--nocapture"])
        .env(ENGINE, wanted)
        .output()
        .expect("this binary starts again");
    let text = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{complaint}");
    assert!(text.contains("1 passed"), "the child ran nothing:\n{text}\n{complaint}");
    if complaint.contains(SKIPPED) {
        skipped(&complaint);
    }
}

const SKIPPED: &str = "SKIPPED";

fn skipped(why: &str) {
    crate::support::skipped("parity with the reference", why);
}

fn reference() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/reference");
    folder.is_dir().then_some(folder)
}

const FAMILIES: [&str; 3] = ["clip-tiny", "siglip-tiny", "siglip2-tiny"];

fn equals_the_reference(engine: &engine::Engine, reference: &Path, images: &Path, family: &str) {
    let folder = model_folder(&reference.join(family));
    let model = model::load_dir(&folder.path().join("model")).expect("a good model");
    let encoder = engine::open(&model, engine, EngineOptions::default()).expect("the model opens");
    let golden: Value = json(&reference.join(family).join("golden.json"));

    let prompts: Vec<String> = strings(&golden["prompts"]);
    let texts = encoder.embed_texts(&prompts).expect("texts embed");
    close(family, "text", &texts, &golden["text_embeds"]);

    let pictures: Vec<_> = strings(&golden["images"])
        .iter()
        .map(|name| {
            let bytes = fs::read(images.join(name)).expect("a picture");
            let views = decode::reference_view(&bytes, &model.card.image, &Limits::default());
            let mut views = views.expect("a good picture").views;
            assert_eq!(views.len(), 1);
            views.remove(0)
        })
        .collect();
    let pictures = encoder.embed_images(&pictures).expect("pictures embed");
    close(family, "picture", &pictures, &golden["image_embeds"]);

    for (index, picture) in pictures.iter().enumerate() {
        let logits: Vec<f64> =
            texts.iter().map(|text| model.card.logit_scale.logit(picture.cosine(text))).collect();
        let probabilities = match model.card.kind {
            ModelKind::Clip => score::softmax(&logits),
            ModelKind::Siglip | ModelKind::Siglip2 => {
                logits.iter().map(|logit| score::sigmoid(*logit)).collect()
            }
        };
        let expected = numbers(&golden["probabilities"][index]);
        for (found, expected) in probabilities.iter().zip(&expected) {
            let off = (found - f64::from(*expected)).abs();
            assert!(off < 1e-3, "{family} picture {index}: {found} instead of {expected}");
        }
    }
}

fn close(family: &str, what: &str, found: &[Embedding], golden: &Value) {
    let golden = golden.as_array().expect("a list");
    assert_eq!(found.len(), golden.len());
    for (index, (found, expected)) in found.iter().zip(golden).enumerate() {
        let expected = Embedding::normalised(numbers(expected)).expect("has a direction");
        let cosine = found.cosine(&expected);
        assert!(cosine >= 0.9999, "{family} {what} {index}: cosine {cosine}");
    }
}

/// The folder of a family as modtool wants it, made of the Hub's layout.
fn model_folder(source: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = AddOptions { name: "model".into(), ..AddOptions::default() };
    let models = ModelsFolder(folder.path().to_owned());
    let staged = models.stage(source, &options, &mut |_, _| ()).expect("the layout is read");
    assert_eq!(staged.warnings, [] as [&str; 0]);
    staged.install().expect("installed");
    folder
}

fn batches_of_any_size_agree(engine: &engine::Engine) {
    let model = model::builtin().expect("a good model");
    let options = EngineOptions { threads: 2, batch: 4, ..EngineOptions::default() };
    let encoder = engine::open(&model, engine, options).expect("the model opens");
    assert_eq!(encoder.model().logit_scale, LogitScale { scale: 32.0475, bias: -7.9833 });
    let pictures: Vec<_> = (0..11).map(stripes).collect();
    let alone: Vec<Embedding> = pictures
        .iter()
        .map(|picture| {
            let mut one = encoder.embed_images(std::slice::from_ref(picture)).expect("embeds");
            one.remove(0)
        })
        .collect();
    for count in [0, 1, 2, 3, 4, 5, 8, 11] {
        let together = encoder.embed_images(&pictures[..count]).expect("embeds");
        assert_eq!(together.len(), count);
        for (index, (one, other)) in together.iter().zip(&alone).enumerate() {
            assert!(one.cosine(other) > 0.99999, "picture {index} of {count}");
        }
    }
    assert!(alone[0].cosine(&alone[9]) < 0.999, "different pictures differ");
    // Texts after pictures: the text tower comes back.
    let texts = ["a photo of a dog".to_owned(), "a screenshot".to_owned()];
    let first = encoder.embed_texts(&texts).expect("embeds");
    encoder.embed_images(&pictures[..1]).expect("embeds");
    assert_eq!(encoder.embed_texts(&texts).expect("embeds").len(), first.len());
    assert!(encoder.embed_texts(&[]).expect("nothing to do").is_empty());
}

fn stripes(width: usize) -> modtool::vision::Pixels {
    let even = |x: usize| (x / (width + 1)).is_multiple_of(2);
    let shade = |x| if even(x) { [200, 30, 30] } else { [20, 60, 240] };
    let rgb = (0..128 * 128).flat_map(|place| shade(place % 128)).collect();
    modtool::vision::Pixels { size: 128, rgb }
}

fn errors_name_what_does_not_fit(engine: &engine::Engine) {
    let model = model::builtin().expect("a good model");
    let encoder = engine::open(&model, engine, EngineOptions::default()).expect("the model opens");
    let long = "word ".repeat(40);
    let error = encoder.embed_texts(std::slice::from_ref(&long)).expect_err("too long");
    assert!(matches!(error, VisionError::PromptTooLong { tokens: 40, limit: 32, .. }), "{error}");
    assert!(encoder.check_text(&long).is_err());
    assert!(encoder.check_text("a photo of a cat").is_ok());
    let small = modtool::vision::Pixels { size: 32, rgb: vec![0; 32 * 32 * 3] };
    let error = encoder.embed_images(&[small]).expect_err("another size");
    assert!(matches!(error, VisionError::PictureSize { found: 32, expected: 128 }), "{error}");

    let folder = tempfile::tempdir().expect("a temporary folder");
    let builtin = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/builtin");
    for name in ["image.onnx", "text.onnx", "tokenizer.json", "model.yaml"] {
        fs::copy(builtin.join(name), folder.path().join(name)).expect("copied");
    }
    let path = folder.path().join("model.yaml");
    let yaml = fs::read_to_string(&path).expect("read");
    let refused = |change: &dyn Fn(&str) -> String| {
        fs::write(&path, change(&yaml)).expect("written");
        let model = model::load_dir(folder.path()).expect("a good description");
        let embedded = engine::open(&model, engine, EngineOptions::default()).and_then(|encoder| {
            encoder.embed_images(&[stripes(1)])?;
            encoder.embed_texts(&["a cat".to_owned()])
        });
        embedded.expect_err("what it answers does not fit").to_string()
    };
    let text = refused(&|yaml| format!("{yaml}\noutputs: {{image_embeds: vector}}\n"));
    assert!(text.contains("vector") && text.contains("image_embeds"), "{text}");
    let text = refused(&|yaml| format!("{yaml}\ninputs: {{input_ids: tokens}}\n"));
    assert!(text.contains("tokens") && text.contains("input_ids"), "{text}");
    let text = refused(&|yaml| yaml.replace("embedding_dim: 256", "embedding_dim: 512"));
    assert!(text.contains("256") && text.contains("512"), "{text}");
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("a JSON file")).expect("JSON")
}

fn strings(list: &Value) -> Vec<String> {
    let list = list.as_array().expect("a list").iter();
    list.map(|text| text.as_str().expect("a text").to_owned()).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "the models compute in single precision")]
fn numbers(list: &Value) -> Vec<f32> {
    let list = list.as_array().expect("a list").iter();
    list.map(|number| number.as_f64().expect("a number") as f32).collect()
}
