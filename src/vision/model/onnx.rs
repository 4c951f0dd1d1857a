//! What an ONNX file says about itself, read without an engine: inputs, outputs, and files beside it.
//!
//! A network may be gigabytes, so the file is walked field by field and weights are jumped over.
//! Field numbers: `onnx.proto3` of ONNX 1.20.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use crate::moderation::escape::is_unprintable;
use crate::vision::protobuf::{self, Content, Stream, broken, first};

/// What is known of a network from its file alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct OnnxFile {
    /// What has to be fed.
    pub(super) inputs: Vec<Tensor>,
    /// What comes out.
    pub(super) outputs: Vec<Tensor>,
    /// Files that hold weights, as the network names them.
    pub(super) external: BTreeSet<String>,
}

/// An input or output.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::vision) struct Tensor {
    pub(in crate::vision) name: String,
    /// `None` for a dimension that is open.
    pub(in crate::vision) shape: Vec<Option<u64>>,
}

/// Messages that can hold what is looked for, and the fields that lead on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Message {
    Model,
    Graph,
    Node,
    Attribute,
    SparseTensor,
    Tensor,
    Function,
    Training,
}

impl Message {
    /// What a field of this message holds, if that leads on.
    fn below(self, field: u64) -> Option<Self> {
        Some(match (self, field) {
            (Self::Model, 7) | (Self::Attribute, 6 | 11) | (Self::Training, 1 | 2) => Self::Graph,
            (Self::Model, 20) => Self::Training,
            (Self::Model, 25) => Self::Function,
            (Self::Graph, 1) | (Self::Function, 7) => Self::Node,
            (Self::Graph, 5) | (Self::Attribute, 5 | 10) | (Self::SparseTensor, 1 | 2) => {
                Self::Tensor
            }
            (Self::Graph, 15) | (Self::Attribute, 22 | 23) => Self::SparseTensor,
            (Self::Node, 5) => Self::Attribute,
            _ => return None,
        })
    }
}

/// Graphs in graphs deeper than this are nobody's network.
const DEEPEST: usize = 64;

/// The longest text (a name, a shape) that is read.
const LONGEST: u64 = 1 << 16;

/// Walks a file.
///
/// # Errors
/// When it can't be read, or is no ONNX file (`InvalidData`).
pub(super) fn read(path: &Path) -> io::Result<OnnxFile> {
    let (stream, end) = Stream::open(path)?;
    let mut walk = Walk { stream, found: OnnxFile::default(), initial: BTreeSet::new() };
    walk.message(Message::Model, end, 0)?;
    let Walk { mut found, initial, .. } = walk;
    // Older exports name the weights among the inputs.
    found.inputs.retain(|input| !initial.contains(&input.name));
    if found.inputs.is_empty() || found.outputs.is_empty() {
        return Err(broken());
    }
    Ok(found)
}

struct Walk {
    stream: Stream,
    found: OnnxFile,
    /// Names of the weights.
    initial: BTreeSet<String>,
}

impl Walk {
    fn message(&mut self, kind: Message, end: u64, depth: usize) -> io::Result<()> {
        if depth > DEEPEST {
            return Err(broken());
        }
        while let Some(head) = self.stream.next(end)? {
            let Some(length) = head.length else { continue };
            match (kind, head.field()) {
                (Message::Graph, 11) if depth == 1 => {
                    let input = tensor(&self.bytes(length)?);
                    self.found.inputs.push(input.ok_or_else(broken)?);
                }
                (Message::Graph, 12) if depth == 1 => {
                    let output = tensor(&self.bytes(length)?);
                    self.found.outputs.push(output.ok_or_else(broken)?);
                }
                (Message::Tensor, 8) => {
                    let name = self.bytes(length)?;
                    self.initial.insert(String::from_utf8_lossy(&name).into_owned());
                }
                (Message::Tensor, 13) => {
                    let entry = self.bytes(length)?;
                    if text(&entry, 1)? == "location" {
                        self.found.external.insert(text(&entry, 2)?);
                    }
                }
                (_, field) => match kind.below(field).filter(|_| head.is_bytes()) {
                    Some(below) => self.message(below, self.stream.at() + length, depth + 1)?,
                    None => self.stream.jump(length)?,
                },
            }
        }
        Ok(())
    }

    fn bytes(&mut self, length: u64) -> io::Result<Vec<u8>> {
        if length > LONGEST {
            return Err(broken());
        }
        self.stream.bytes(length)
    }
}

/// `ValueInfoProto`: name and shape.
pub(super) fn tensor(message: &[u8]) -> Option<Tensor> {
    let mut tensor = Tensor::default();
    for (field, content) in protobuf::fields(message)? {
        match (field, content) {
            (1, Content::Bytes(name)) => {
                tensor.name = String::from_utf8_lossy(name).into_owned();
                // Names go into messages; nobody's tools write such ones.
                if tensor.name.chars().any(is_unprintable) {
                    return None;
                }
            }
            // type → tensor_type → shape → dim
            (2, Content::Bytes(kind)) => {
                let shape = first(kind, 1).and_then(|kind| first(kind, 2));
                for (field, content) in shape.map_or(Some(Vec::new()), protobuf::fields)? {
                    if let (1, Content::Bytes(dimension)) = (field, content) {
                        tensor.shape.push(fixed(dimension));
                    }
                }
            }
            _ => {}
        }
    }
    Some(tensor)
}

/// `TensorShapeProto.Dimension.dim_value`, where it is one.
fn fixed(dimension: &[u8]) -> Option<u64> {
    protobuf::fields(dimension)?.into_iter().find_map(|(field, content)| match content {
        Content::Number(number) if field == 1 && number > 0 => Some(number),
        _ => None,
    })
}

/// A text of a `StringStringEntryProto`: key 1, value 2. Under `TensorProto.external_data` the keys
/// are location, offset, length and checksum.
///
/// Said twice or in no Unicode it is refused: an engine could read another text than we.
fn text(entry: &[u8], wanted: u64) -> io::Result<String> {
    let fields = protobuf::fields(entry).ok_or_else(broken)?;
    let mut texts = fields.into_iter().filter(|(field, _)| *field == wanted);
    match (texts.next(), texts.next()) {
        (None, _) => Ok(String::new()),
        (Some((_, Content::Bytes(text))), None) => {
            String::from_utf8(text.to_vec()).map_err(|_other| broken())
        }
        _ => Err(broken()),
    }
}

/// The part of a network that leads to one output, as a network of its own: some exports put both
/// towers into one file.
///
/// `None` when the bytes are no ONNX model or have no such output.
pub(super) fn part_for(model: &[u8], output: &str) -> Option<Vec<u8>> {
    protobuf::rewritten(model, |field, content, answer| {
        // ModelProto.graph
        if field != 7 {
            return Some(false);
        }
        let kept = needed(content, output)?;
        let mut place = 0;
        let graph = protobuf::rewritten(content, |field, content, _| {
            let named =
                |wanted| first(content, wanted).is_some_and(|name| kept.values.contains(name));
            Some(match field {
                1 => {
                    place += 1;
                    !kept.nodes.contains(&(place - 1))
                }
                // Initializers, inputs; notes about intermediate values are of no use.
                5 => !named(8),
                11 => !named(1),
                12 => first(content, 1) != Some(output.as_bytes()),
                13 => true,
                _ => false,
            })
        })?;
        protobuf::put(answer, field, &graph);
        Some(true)
    })
}

/// The same network with other names for files that hold weights: `renamed` answers the new name
/// of those that have one.
///
/// `None` when the bytes are no ONNX model.
pub(super) fn relocated(model: &[u8], renamed: &dyn Fn(&str) -> Option<String>) -> Option<Vec<u8>> {
    relocate(Message::Model, model, renamed, 0)
}

fn relocate(
    kind: Message,
    message: &[u8],
    renamed: &dyn Fn(&str) -> Option<String>,
    depth: usize,
) -> Option<Vec<u8>> {
    if depth > DEEPEST {
        return None;
    }
    protobuf::rewritten(message, |field, content, answer| {
        if (kind, field) == (Message::Tensor, 13) {
            let new = match text(content, 1).ok()?.as_str() {
                "location" => renamed(&text(content, 2).ok()?),
                _ => None,
            };
            let Some(new) = new else { return Some(false) };
            let mut entry = Vec::new();
            protobuf::put(&mut entry, 1, b"location");
            protobuf::put(&mut entry, 2, new.as_bytes());
            protobuf::put(answer, field, &entry);
            return Some(true);
        }
        let Some(below) = kind.below(field) else { return Some(false) };
        protobuf::put(answer, field, &relocate(below, content, renamed, depth + 1)?);
        Some(true)
    })
}

struct Needed<'a> {
    /// Places of the nodes among the graph's nodes.
    nodes: BTreeSet<usize>,
    /// Names of values.
    values: BTreeSet<&'a [u8]>,
}

/// Walks backwards from an output. ONNX keeps nodes in topological order, so once is enough.
fn needed<'a>(graph: &'a [u8], output: &'a str) -> Option<Needed<'a>> {
    let fields = protobuf::fields(graph)?;
    let bytes = |wanted| {
        fields.iter().filter_map(move |(field, content)| match content {
            Content::Bytes(bytes) if *field == wanted => Some(*bytes),
            _ => None,
        })
    };
    bytes(12).find(|one| first(one, 1) == Some(output.as_bytes()))?;
    let nodes: Vec<&[u8]> = bytes(1).collect();
    let mut needed = Needed { nodes: BTreeSet::new(), values: BTreeSet::from([output.as_bytes()]) };
    for (place, node) in nodes.iter().enumerate().rev() {
        let parts = protobuf::fields(node)?;
        let texts = |wanted| {
            parts.iter().filter_map(move |(field, content)| match content {
                Content::Bytes(text) if *field == wanted => Some(*text),
                _ => None,
            })
        };
        if texts(2).any(|made| needed.values.contains(made)) {
            needed.nodes.insert(place);
            needed.values.extend(texts(1).filter(|name| !name.is_empty()));
            // A graph inside may use any value of the graph around it.
            for attribute in texts(5) {
                inner_names(attribute, &mut needed.values, 0)?;
            }
        }
    }
    Some(needed)
}

/// Names that the nodes of graphs inside an attribute read.
fn inner_names<'a>(
    attribute: &'a [u8],
    names: &mut BTreeSet<&'a [u8]>,
    depth: usize,
) -> Option<()> {
    for (field, content) in protobuf::fields(attribute)? {
        let (6 | 11, Content::Bytes(graph)) = (field, content) else { continue };
        for (field, content) in protobuf::fields(graph)? {
            let (1, Content::Bytes(node)) = (field, content) else { continue };
            for (field, content) in protobuf::fields(node)? {
                match (field, content) {
                    (1, Content::Bytes(name)) => {
                        names.insert(name);
                    }
                    (5, Content::Bytes(inner)) if depth < DEEPEST => {
                        inner_names(inner, names, depth + 1)?;
                    }
                    _ => {}
                }
            }
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vision::model::builtin::FILES;
    use protobuf::field;

    fn read_bytes(bytes: &[u8]) -> io::Result<OnnxFile> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("x.onnx");
        std::fs::write(&path, bytes).expect("written");
        read(&path)
    }

    /// A value of `[n, 3]`.
    fn value(name: &str) -> Vec<u8> {
        let dimensions = [field(1, &field(2, b"n")), field(1, &[0x08, 0x03])].concat();
        let kind = field(1, &[vec![0x08, 0x01], field(2, &dimensions)].concat());
        [field(1, name.as_bytes()), field(2, &kind)].concat()
    }

    fn node(input: &str, output: &str) -> Vec<u8> {
        field(1, &[field(1, input.as_bytes()), field(2, output.as_bytes())].concat())
    }

    fn weight(name: &str, file: &str) -> Vec<u8> {
        let entry = [field(1, b"location"), field(2, file.as_bytes())].concat();
        let offset = [field(1, b"offset"), field(2, b"4096")].concat();
        [field(8, name.as_bytes()), field(9, &[1; 5000]), field(13, &offset), field(13, &entry)]
            .concat()
    }

    #[test]
    fn the_built_in_networks_are_read() {
        let image = read_bytes(FILES.image).expect("an ONNX file");
        assert_eq!(image.inputs[0].name, "pixel_values");
        assert_eq!(image.inputs[0].shape, [None, Some(3), Some(128), Some(128)]);
        assert_eq!(image.outputs[0].name, "image_embeds");
        assert_eq!(image.outputs[0].shape.last(), Some(&Some(256)));
        assert!(image.external.is_empty());
        let text = read_bytes(FILES.text).expect("an ONNX file");
        assert_eq!(text.inputs[0].name, "input_ids");
        for broken in [&FILES.image[..FILES.image.len() - 1], b"not a network", b""] {
            assert!(read_bytes(broken).is_err());
        }
    }

    #[test]
    fn weights_in_other_files_are_found_wherever_they_are_named() {
        let constant = field(5, &field(5, &weight("c", "../secret")));
        let graph = [
            field(1, &constant),
            field(5, &weight("w", "x.onnx_data")),
            field(11, &value("x")),
            field(11, &value("w")),
            field(12, &value("y")),
        ]
        .concat();
        let file = read_bytes(&field(7, &graph)).expect("an ONNX file");
        assert_eq!(file.external.iter().collect::<Vec<_>>(), ["../secret", "x.onnx_data"]);
        assert_eq!(file.inputs, [Tensor { name: "x".into(), shape: vec![None, Some(3)] }]);
    }

    #[test]
    fn a_file_with_weights_that_has_two_names_is_refused() {
        let graph = |name: &[u8]| {
            let entry = [field(1, b"location"), name.to_vec()].concat();
            let weight = [field(8, b"w"), field(13, &entry)].concat();
            field(7, &[field(5, &weight), field(11, &value("x")), field(12, &value("y"))].concat())
        };
        assert!(read_bytes(&graph(&field(2, b"data"))).is_ok());
        let twice = [field(2, b"data"), field(2, b"../secret")].concat();
        for name in [twice, field(2, b"\xFF")] {
            assert!(read_bytes(&graph(&name)).is_err());
        }
    }

    #[test]
    fn files_with_weights_get_other_names_wherever_they_are_named() {
        let graph = |name: &str| {
            let constant = field(5, &field(5, &weight("c", name)));
            let parts = [
                field(1, &constant),
                field(5, &weight("w", name)),
                field(5, &weight("v", "other")),
                field(11, &value("x")),
                field(12, &value("y")),
            ];
            field(7, &parts.concat())
        };
        let renamed = |name: &str| (name == "data").then(|| "text.data".to_owned());
        assert_eq!(relocated(&graph("data"), &renamed), Some(graph("text.data")));
        assert_eq!(relocated(b"nonsense", &renamed), None);
    }

    #[test]
    fn a_name_that_speaks_to_the_terminal_is_no_name() {
        let graph = [field(11, &value("x")), field(12, &value("y\u{1b}[2J"))].concat();
        assert!(read_bytes(&field(7, &graph)).is_err());
    }

    #[test]
    fn one_of_two_towers_is_cut_out_whole() {
        let inner = field(6, &node("hidden", "z"));
        let with_graph = field(1, &[field(1, b"image"), field(2, b"a"), field(5, &inner)].concat());
        let graph = |parts: &[&[u8]]| field(7, &parts.concat());
        let (image, text) = (field(11, &value("image")), field(11, &value("text")));
        let (hidden, weights) = (field(5, &field(8, b"hidden")), field(5, &field(8, b"w")));
        let (first, second) = (node("a", "image_embeds"), node("text", "text_embeds"));
        let (out, other) = (field(12, &value("image_embeds")), field(12, &value("text_embeds")));
        let whole =
            graph(&[&with_graph, &second, &first, &hidden, &weights, &image, &text, &out, &other]);
        let expected = graph(&[&with_graph, &first, &hidden, &image, &out]);
        assert_eq!(part_for(&whole, "image_embeds"), Some(expected));
        assert_eq!(part_for(&whole, "nothing"), None);
        assert_eq!(part_for(b"nonsense", "image_embeds"), None);
    }
}
