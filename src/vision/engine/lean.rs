//! A network's graph with its weights left in the file.
//!
//! ONNX Runtime reads a network that holds its weights by copying them, some twice; weights
//! beside the graph ("external data") it maps instead. A tensor of the file is such data too, if
//! one says where its bytes begin, so that is what the engine is given: a graph of a few
//! kilobytes whose large tensors name the very file that it came from. It can also be changed
//! cheaply then ([`super::gelu`]). Such tensors begin anywhere, so the engine reads numbers that are not
//! aligned, as processors of our targets can. Field numbers: `onnx.proto3` of ONNX 1.20.

use std::io;
use std::path::Path;

use crate::vision::protobuf::{Head, Stream, broken, put, put_number};

/// `ModelProto.graph` and `GraphProto.initializer`.
const GRAPH: u64 = 7;
const INITIALIZER: u64 = 5;
/// `TensorProto.raw_data`, `.external_data` and `.data_location`.
const RAW_DATA: u64 = 9;
const EXTERNAL_DATA: u64 = 13;
const DATA_LOCATION: u64 = 14;
/// `TensorProto.DataLocation.EXTERNAL`.
const EXTERNAL: u64 = 1;

/// Tensors with fewer bytes stay in the graph, where the optimiser reads them.
const LARGE: u64 = 4096;
/// A graph with more bytes than this holds weights in a form that can't be left where it is.
const LONGEST: u64 = 16 << 20;
/// What a field costs beside its content, about: many small ones are much, too.
const OVERHEAD: u64 = 16;

/// The graph of the network in a file, and how many bytes of weights were left there. Whoever opens it
/// says that its external data lie in the file's folder.
///
/// # Errors
/// When the file can't be read, is no ONNX file, has a name that is no Unicode, or keeps its
/// weights in another form than as raw bytes.
pub(super) fn graph_of(path: &Path) -> io::Result<(Vec<u8>, u64)> {
    let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(broken)?;
    let (stream, end) = Stream::open(path)?;
    let mut copy = Copy { stream, name, room: LONGEST, left: 0 };
    let graph = copy.message(Part::Model, end)?;
    Ok((graph, copy.left))
}

/// The messages on the way to a weight.
#[derive(Clone, Copy)]
enum Part {
    Model,
    Graph,
    Tensor,
}

struct Copy<'a> {
    stream: Stream,
    /// The file as its own graph names it.
    name: &'a str,
    /// Bytes that may still be copied.
    room: u64,
    /// Bytes that were not copied.
    left: u64,
}

impl Copy<'_> {
    fn message(&mut self, part: Part, end: u64) -> io::Result<Vec<u8>> {
        let mut output = Vec::new();
        while let Some(head) = self.stream.next(end)? {
            self.room = self.room.checked_sub(OVERHEAD).ok_or_else(broken)?;
            let length = head.length.unwrap_or(0);
            let below = match (part, head.field()) {
                (Part::Model, GRAPH) => Some(Part::Graph),
                (Part::Graph, INITIALIZER) if length >= LARGE => Some(Part::Tensor),
                _ => None,
            };
            match (part, head.field(), below) {
                // "Here", as some tools say although it goes without saying: the last word counts.
                (Part::Tensor, DATA_LOCATION, _) if head.number != EXTERNAL => {}
                _ if !head.is_bytes() => self.as_it_is(head, &mut output)?,
                (.., Some(below)) => {
                    let message = self.message(below, self.stream.at() + length)?;
                    put(&mut output, head.field(), &message);
                }
                (Part::Tensor, RAW_DATA, _) if length >= LARGE => {
                    self.left_behind(length, &mut output);
                    self.stream.jump(length)?;
                }
                _ => self.as_it_is(head, &mut output)?,
            }
        }
        Ok(output)
    }

    fn as_it_is(&mut self, head: Head, output: &mut Vec<u8>) -> io::Result<()> {
        put_number(output, head.tag);
        let Some(length) = head.length else {
            put_number(output, head.number);
            return Ok(());
        };
        self.room = self.room.checked_sub(length).ok_or_else(broken)?;
        if head.is_bytes() {
            put_number(output, length);
        }
        output.extend(self.stream.bytes(length)?);
        Ok(())
    }

    /// Says where the bytes are that come next in the file.
    fn left_behind(&mut self, length: u64, output: &mut Vec<u8>) {
        self.left += length;
        let (offset, length) = (self.stream.at().to_string(), length.to_string());
        for (key, value) in [("location", self.name), ("offset", &offset), ("length", &length)] {
            let mut entry = Vec::new();
            put(&mut entry, 1, key.as_bytes());
            put(&mut entry, 2, value.as_bytes());
            put(output, EXTERNAL_DATA, &entry);
        }
        put_number(output, DATA_LOCATION << 3);
        put_number(output, EXTERNAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vision::protobuf::{Content, field, fields, first};

    fn graph_of_bytes(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("image.onnx");
        std::fs::write(&path, bytes).expect("written");
        graph_of(&path).map(|(graph, _)| graph)
    }

    #[test]
    fn large_weights_are_named_where_they_stand_and_nothing_else_changes() {
        let weights: Vec<u8> = (0..=255).cycle().take(5000).collect();
        let before = [field(8, b"w"), vec![0x10, 0x01]].concat();
        let here = vec![0x70, 0x00];
        let large = [before.clone(), field(RAW_DATA, &weights), here].concat();
        let large = field(INITIALIZER, &large);
        let small = field(INITIALIZER, &[field(8, b"s"), field(RAW_DATA, &[1; 4])].concat());
        let node = field(1, &[field(1, b"x"), field(2, b"y"), field(4, &[b'o'; 5000])].concat());
        let number = [0x15, 1, 2, 3, 4];
        let model = |large: &[u8]| {
            let graph = [&node, large, &small, number.as_slice()].concat();
            [vec![0x08, 0xAC, 0x02], field(GRAPH, &graph), field(8, b"op")].concat()
        };
        let file = model(&large);
        let found = graph_of_bytes(&file).expect("a model");

        let offset = file.windows(weights.len()).position(|bytes| bytes == weights).expect("there");
        let entry = |key: &[u8], value: &str| {
            field(EXTERNAL_DATA, &[field(1, key), field(2, value.as_bytes())].concat())
        };
        let told = [
            before,
            entry(b"location", "image.onnx"),
            entry(b"offset", &offset.to_string()),
            entry(b"length", "5000"),
            vec![0x70, 0x01],
        ];
        assert_eq!(found, model(&field(INITIALIZER, &told.concat())));
    }

    #[test]
    fn weights_that_are_beside_the_graph_already_stay_there() {
        let entry = [field(1, b"location"), field(2, b"image.onnx_data")].concat();
        let tensor = [field(8, &[b'n'; 5000]), field(EXTERNAL_DATA, &entry), vec![0x70, 1]];
        let model = field(GRAPH, &field(INITIALIZER, &tensor.concat()));
        assert_eq!(graph_of_bytes(&model).expect("a model"), model);
    }

    #[test]
    fn a_network_of_the_project_keeps_its_graph() {
        let bytes = include_bytes!("../../../tests/data/models/siglip-tiny/onnx/text_model.onnx");
        let found = graph_of_bytes(bytes).expect("a model");
        assert!(found.len() + 4000 < bytes.len(), "{} of {}", found.len(), bytes.len());
        let nodes = |model: &[u8]| -> Vec<Vec<u8>> {
            let graph = first(model, GRAPH).expect("a graph");
            let fields = fields(graph).expect("fields").into_iter();
            let node = |(field, content)| match content {
                Content::Bytes(node) if field == 1 => Some(node.to_vec()),
                _ => None,
            };
            fields.filter_map(node).collect()
        };
        assert_eq!(nodes(&found), nodes(bytes));
    }

    #[test]
    fn what_is_no_model_or_holds_its_weights_otherwise_is_refused() {
        let floats = field(4, &vec![0; usize::try_from(LONGEST).expect("small") + 1]);
        let floats = field(GRAPH, &field(INITIALIZER, &floats));
        let nodes = field(GRAPH, &field(1, b"").repeat(2 << 20));
        let numbers = [0x08, 0].repeat(2 << 20);
        let small = field(GRAPH, &field(1, &field(1, b"x")));
        graph_of_bytes(&small).expect("a model");
        for bytes in [&floats, &nodes, &numbers, &small[..small.len() - 1], b"not a network"] {
            assert!(graph_of_bytes(bytes).is_err());
        }
    }
}
