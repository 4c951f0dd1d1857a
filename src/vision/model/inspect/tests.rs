//! Networks that are fine, and what is wrong with others.

use super::*;
use crate::vision::model::builtin::FILES;
use crate::vision::protobuf::field;

/// A value of `[n, 3]`.
fn value(name: &str) -> Vec<u8> {
    let dimensions = [field(1, &field(2, b"n")), field(1, &[0x08, 0x03])].concat();
    let kind = field(1, &[vec![0x08, 0x01], field(2, &dimensions)].concat());
    [field(1, name.as_bytes()), field(2, &kind)].concat()
}

fn node(operator: &str, more: &[u8]) -> Vec<u8> {
    let node = [field(1, b"x"), field(2, b"y"), field(4, operator.as_bytes())].concat();
    field(1, &[node, more.to_vec()].concat())
}

fn model(graph: &[u8]) -> Vec<u8> {
    let ends = [field(11, &value("x")), field(12, &value("y"))].concat();
    field(7, &[graph.to_vec(), ends].concat())
}

fn entry(key: &str, value: &str) -> Vec<u8> {
    field(13, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat())
}

/// Floats of the shape `[2, 3]`.
fn weight(more: &[Vec<u8>]) -> Vec<u8> {
    let head = [vec![0x08, 2, 0x08, 3, 0x10, 1], field(8, b"w")].concat();
    field(5, &[head, more.concat()].concat())
}

fn refused(graph: &[u8]) -> String {
    inspect(&*model(graph)).expect_err("it is refused")
}

#[test]
fn the_projects_own_networks_are_fine() {
    let image = inspect(FILES.image).expect("a good network");
    assert_eq!(image.inputs[0].name, "pixel_values");
    assert_eq!(image.inputs[0].shape, [None, Some(3), Some(128), Some(128)]);
    assert_eq!(image.outputs[0].name, "image_embeds");
    inspect(FILES.text).expect("a good network");
    for broken in [&FILES.image[..FILES.image.len() - 1], b"not a network", b""] {
        assert!(inspect(broken).is_err());
    }
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/models");
    let mut folders = vec![root];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("it is there").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "onnx") {
                let file = std::fs::File::open(&path).expect("opened");
                let found = inspect(file).unwrap_or_else(|why| panic!("{path:?}: {why}"));
                let sizes = found.external.iter().map(|(name, end)| {
                    let beside = path.with_file_name(name);
                    std::fs::metadata(beside).expect("it is there").len() >= *end
                });
                assert!(sizes.into_iter().all(|fits| fits), "{}", path.display());
                seen += 1;
            }
        }
    }
    assert!(seen > 10);
}

#[test]
fn operators_that_no_such_network_needs_are_refused() {
    inspect(&*model(&node("Relu", &[]))).expect("a known one");
    inspect(&*model(&node("QuickGelu", &field(7, b"com.microsoft")))).expect("a known one");
    for (operator, domain) in
        [("Loop", ""), ("Relu", "com.example"), ("ImageDecoder", "ai.onnx"), ("", "")]
    {
        let why = refused(&node(operator, &field(7, domain.as_bytes())));
        assert!(why.contains("operator"), "{why}");
    }
    let twice = node("Relu", &field(4, b"Loop"));
    assert!(refused(&twice).contains("twice"));
    let hidden = node("Relu", &field(5, &field(6, &node("Loop", &[]))));
    assert!(refused(&hidden).contains("Loop"), "in a graph inside an attribute");
    let with_functions = [model(&node("Relu", &[])), field(25, b"")].concat();
    assert!(inspect(&*with_functions).expect_err("refused").contains("functions"));
}

#[test]
fn graphs_in_graphs_have_an_end() {
    let mut graph = node("Relu", &[]);
    for _ in 0..DEEPEST {
        graph = node("If", &field(5, &field(6, &graph)));
    }
    inspect(&*model(&graph)).expect("deep, and not too deep");
    let deeper = node("If", &field(5, &field(6, &graph)));
    assert!(refused(&deeper).contains("deep"));
}

#[test]
fn weights_have_the_bytes_that_their_shape_says() {
    inspect(&*model(&weight(&[field(9, &[0; 24])]))).expect("six floats");
    assert!(refused(&weight(&[field(9, &[0; 23])])).contains("do not fit"));
    assert!(refused(&weight(&[vec![0x08, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F]])).contains("shape"));
    let negative = [0x08, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01];
    assert!(refused(&weight(&[negative.to_vec()])).contains("shape"));
    let twice = weight(&[field(9, &[0; 24]), field(9, &[0; 24])]);
    assert!(refused(&twice).contains("twice"));
}

#[test]
fn files_with_weights_are_named_and_not_led_to() {
    let external = vec![0x70, 1];
    let at = |location: &str, more: &[Vec<u8>]| {
        weight(&[vec![entry("location", location), external.clone()], more.to_vec()].concat())
    };
    let found = inspect(&*model(&at("x.data", &[entry("offset", "4096")])));
    assert_eq!(found.expect("fine").external, BTreeMap::from([("x.data".into(), 4120)]));
    for name in ["../x", "/etc/passwd", "a/b", "..", "", "a\\b"] {
        let why = refused(&at(name, &[]));
        assert!(why.contains("elsewhere"), "{name}: {why}");
    }
    assert!(refused(&at("x", &[entry("length", "25")])).contains("do not fit"));
    assert!(refused(&at("x", &[entry("offset", &u64::MAX.to_string())])).contains("no ONNX"));
    assert!(refused(&at("x", &[entry("location", "y")])).contains("twice"));
    assert!(refused(&weight(std::slice::from_ref(&external))).contains("nowhere"));
    assert!(refused(&at("x\n", &[])).contains("printed"));
    // In an attribute too.
    let inside = at("../x", &[]);
    let constant = node("Constant", &field(5, &field(5, &inside[2..])));
    assert!(refused(&constant).contains("elsewhere"));
}
