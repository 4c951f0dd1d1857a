//! The GELU with a hyperbolic tangent, put together again.
//!
//! SigLIP's layers end in `0.5 · x · (1 + tanh(√(2/π) · (x + 0.044715 · x³)))` (Hendrycks and
//! Gimpel, "Gaussian Error Linear Units", 2016). Exports write it as nine operators, each of which
//! walks over the largest tensor of the layer; ONNX Runtime has one that does it all, but does not
//! see that this is it (1.32: it looks for other spellings). Field numbers: `onnx.proto3` of
//! ONNX 1.20.

use std::collections::{HashMap, HashSet};
use std::f32::consts::FRAC_2_PI;

use half::f16;

use crate::vision::protobuf::{self, Content, first, put, put_number, rewritten};

/// `ModelProto.graph` and `.opset_import`.
const GRAPH: u64 = 7;
const OPSET_IMPORT: u64 = 8;
/// `GraphProto.node`, `.initializer`, `.output`.
const NODE: u64 = 1;
const INITIALIZER: u64 = 5;
const OUTPUT: u64 = 12;
/// Where ONNX Runtime's own operators are, and the version that all of them have.
const DOMAIN: &[u8] = b"com.microsoft";
const DOMAIN_VERSION: u64 = 1;

/// The factor of `x³`.
const CUBIC: f32 = 0.044_715;
/// How far a constant may be from its value: those of 16 bits are rounded to 11.
const TOLERANCE: f32 = 5e-4;

/// The model with one operator for each such GELU; `None` when it has none or is no model.
pub(super) fn joined(model: &[u8]) -> Option<Vec<u8>> {
    let mut found = false;
    let mut known_domain = false;
    let mut answer = rewritten(model, |field, content, output| match field {
        GRAPH => {
            let graph = Graph::read(content)?;
            let gelus = graph.gelus();
            found |= !gelus.is_empty();
            put(output, field, &without_pieces(content, &gelus)?);
            Some(true)
        }
        OPSET_IMPORT => {
            known_domain |= first(content, 1) == Some(DOMAIN);
            Some(false)
        }
        _ => Some(false),
    })?;
    if !found {
        return None;
    }
    if !known_domain {
        let mut import = Vec::new();
        put(&mut import, 1, DOMAIN);
        put_number(&mut import, 2 << 3);
        put_number(&mut import, DOMAIN_VERSION);
        put(&mut answer, OPSET_IMPORT, &import);
    }
    Some(answer)
}

/// Where a GELU stands in a graph.
struct Gelu<'a> {
    input: &'a [u8],
    output: &'a [u8],
    /// Places of its pieces among the nodes; the last one makes `output`.
    pieces: Vec<usize>,
}

/// The graph with a new node in the place of each GELU's last piece.
fn without_pieces(graph: &[u8], gelus: &[Gelu]) -> Option<Vec<u8>> {
    let last = |gelu: &Gelu| gelu.pieces.last().copied();
    let pieces: HashSet<usize> = gelus.iter().flat_map(|gelu| gelu.pieces.clone()).collect();
    let mut place = 0;
    rewritten(graph, |field, _, output| {
        if field != NODE {
            return Some(false);
        }
        place += 1;
        if let Some(gelu) = gelus.iter().find(|gelu| last(gelu) == Some(place - 1)) {
            let mut node = Vec::new();
            // NodeProto.input, .output, .op_type, .domain
            for (field, text) in [(1, gelu.input), (2, gelu.output), (4, b"FastGelu"), (7, DOMAIN)]
            {
                put(&mut node, field, text);
            }
            put(output, NODE, &node);
        }
        Some(pieces.contains(&(place - 1)))
    })
}

struct Node<'a> {
    operator: &'a [u8],
    inputs: Vec<&'a [u8]>,
    output: &'a [u8],
}

/// What has to be known of a graph.
#[derive(Default)]
struct Graph<'a> {
    nodes: Vec<Node<'a>>,
    /// Which node makes a value.
    makers: HashMap<&'a [u8], usize>,
    /// Which nodes read a value; [`NOBODY`] where the graph gives it away.
    readers: HashMap<&'a [u8], Vec<usize>>,
    /// Numbers that stand in the graph.
    constants: HashMap<&'a [u8], f32>,
}

/// Not the place of a node.
const NOBODY: usize = usize::MAX;

impl<'a> Graph<'a> {
    /// `None` for what is no graph, or one with graphs in its nodes: those may read any value.
    fn read(graph: &'a [u8]) -> Option<Self> {
        let mut read = Self::default();
        for (field, content) in protobuf::fields(graph)? {
            match (field, content) {
                (NODE, Content::Bytes(node)) => read.node(node)?,
                (INITIALIZER, Content::Bytes(tensor)) => {
                    let (name, number) = (first(tensor, 8), number_in(tensor));
                    read.constants.extend(name.zip(number));
                }
                (OUTPUT, Content::Bytes(output)) => {
                    read.readers.entry(first(output, 1)?).or_default().push(NOBODY);
                }
                _ => {}
            }
        }
        Some(read)
    }

    fn node(&mut self, node: &'a [u8]) -> Option<()> {
        let place = self.nodes.len();
        let fields = protobuf::fields(node)?;
        let all = |wanted| {
            fields.iter().filter_map(move |(field, content)| match content {
                Content::Bytes(bytes) if *field == wanted => Some(*bytes),
                _ => None,
            })
        };
        let output = all(2).next().unwrap_or_default();
        let operator = match all(7).next() {
            // The same names in other domains are other operators.
            Some(domain) if !domain.is_empty() && domain != b"ai.onnx" => b"",
            _ => all(4).next().unwrap_or_default(),
        };
        for attribute in all(5) {
            // AttributeProto.g and .graphs
            if first(attribute, 6).or(first(attribute, 11)).is_some() {
                return None;
            }
            if operator == b"Constant" {
                let number = first(attribute, 5).and_then(number_in);
                self.constants.extend(number.map(|number| (output, number)));
            }
        }
        for input in all(1) {
            self.readers.entry(input).or_default().push(place);
        }
        self.makers.extend(all(2).map(|output| (output, place)));
        self.nodes.push(Node { operator, inputs: all(1).collect(), output });
        Some(())
    }

    fn gelus(&self) -> Vec<Gelu<'a>> {
        (0..self.nodes.len()).filter_map(|place| self.gelu(place)).collect()
    }

    /// The GELU around a `Tanh`.
    fn gelu(&self, tanh: usize) -> Option<Gelu<'a>> {
        let [argument] = self.inputs(tanh, b"Tanh")?;
        let (x, mut pieces) = self.argument(argument)?;
        let sum = self.only_reader(tanh)?;
        self.with_constant(sum, b"Add", 1.0)?;
        let product = self.only_reader(sum)?;
        let [left, right] = self.inputs(product, b"Mul")?;
        let factor = if left == self.nodes[sum].output { right } else { left };
        pieces.extend([tanh, sum]);
        // (½ · x) · sum, ½ · (x · sum) or x · (½ · sum), and each from right to left.
        if let Some(half) = self.maker(factor, product)
            && self.with_constant(half, b"Mul", 0.5) == Some(x)
        {
            pieces.extend([half, product]);
        } else {
            let last = self.only_reader(product)?;
            let [left, right] = self.inputs(last, b"Mul")?;
            let other = if left == self.nodes[product].output { right } else { left };
            let is_half = |value| self.is_constant(value, 0.5);
            if !(factor == x && is_half(other) || is_half(factor) && other == x) {
                return None;
            }
            pieces.extend([product, last]);
        }
        let output = self.nodes[*pieces.last()?].output;
        Some(Gelu { input: x, output, pieces })
    }

    /// Reads √(2/π) · (x + 0.044715 · x³): `x` and the nodes.
    fn argument(&self, value: &[u8]) -> Option<(&'a [u8], Vec<usize>)> {
        let scaled = *self.makers.get(value)?;
        self.only_reader(scaled)?;
        let sum_value = self.with_constant(scaled, b"Mul", FRAC_2_PI.sqrt())?;
        let sum = self.maker(sum_value, scaled)?;
        let [left, right] = self.inputs(sum, b"Add")?;
        [(left, right), (right, left)].into_iter().find_map(|(x, term_value)| {
            let term = self.maker(term_value, sum)?;
            let cube = self.maker(self.with_constant(term, b"Mul", CUBIC)?, term)?;
            let mut pieces = vec![scaled, sum, term, cube];
            if let Some([base, exponent]) = self.inputs(cube, b"Pow") {
                return (base == x && self.is_constant(exponent, 3.0)).then_some((x, pieces));
            }
            let [left, right] = self.inputs(cube, b"Mul")?;
            let square = self.maker(if left == x { right } else { left }, cube)?;
            pieces.push(square);
            (self.inputs(square, b"Mul")? == [x, x] && (left == x || right == x))
                .then_some((x, pieces))
        })
    }

    /// The inputs of a node that is this operator and has so many.
    fn inputs<const N: usize>(&self, place: usize, operator: &[u8]) -> Option<[&'a [u8]; N]> {
        let node = self.nodes.get(place).filter(|node| node.operator == operator)?;
        node.inputs.as_slice().try_into().ok()
    }

    /// The other input of a node that is this operator and has this constant for one.
    fn with_constant(&self, place: usize, operator: &[u8], number: f32) -> Option<&'a [u8]> {
        match self.inputs(place, operator)? {
            [constant, other] if self.is_constant(constant, number) => Some(other),
            [other, constant] if self.is_constant(constant, number) => Some(other),
            _ => None,
        }
    }

    fn is_constant(&self, value: &[u8], number: f32) -> bool {
        let found = self.constants.get(value);
        found.is_some_and(|found| (found - number).abs() <= number * TOLERANCE)
    }

    /// The node that makes a value which only `reader` reads.
    fn maker(&self, value: &[u8], reader: usize) -> Option<usize> {
        let maker = *self.makers.get(value)?;
        (self.only_reader(maker)? == reader).then_some(maker)
    }

    /// The only node that reads what a node makes.
    fn only_reader(&self, place: usize) -> Option<usize> {
        match self.readers.get(self.nodes.get(place)?.output)?.as_slice() {
            [reader] if *reader != NOBODY => Some(*reader),
            _ => None,
        }
    }
}

/// The number in a `TensorProto` that holds one, of 32 or 16 bits.
fn number_in(tensor: &[u8]) -> Option<f32> {
    let (mut dimensions, mut kind, mut values, mut raw) = (0, 0, None, None);
    for (field, content) in protobuf::fields(tensor)? {
        match (field, content) {
            // One number a byte or more, packed or not.
            (1, Content::Number(_)) => dimensions += 1,
            (1, Content::Bytes(packed)) => dimensions += packed.len(),
            (2, Content::Number(number)) => kind = number,
            // A number with another beside it is another length.
            (4, Content::Bytes(bytes)) => values = Some(bytes),
            (9, Content::Bytes(bytes)) => raw = Some(bytes),
            _ => {}
        }
    }
    // With more of them what it is multiplied with could get some, too.
    let bytes = values.or(raw).filter(|_| dimensions <= 1)?;
    // TensorProto.DataType: FLOAT and FLOAT16
    match kind {
        1 => Some(f32::from_le_bytes(bytes.try_into().ok()?)),
        10 => Some(f16::from_le_bytes(bytes.try_into().ok()?).to_f32()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vision::model::builtin::FILES;
    use crate::vision::protobuf::field;

    const SIGLIP: [&[u8]; 4] = [
        include_bytes!("../../../tests/data/models/siglip-tiny/onnx/vision_model.onnx"),
        include_bytes!("../../../tests/data/models/siglip-tiny/onnx/text_model.onnx"),
        include_bytes!("../../../tests/data/models/siglip-tiny/onnx/vision_model_fp16.onnx"),
        include_bytes!("../../../tests/data/models/siglip-tiny/onnx/vision_model_int8.onnx"),
    ];
    const CLIP: &[u8] =
        include_bytes!("../../../tests/data/models/clip-tiny/onnx/vision_model.onnx");

    /// A model from lines such as `y = Mul a b`; a number is an input of that value, `out` what the
    /// graph gives away.
    fn model(lines: &[&str]) -> Vec<u8> {
        let mut graph = Vec::new();
        for line in lines {
            let words: Vec<&str> = line.split_whitespace().collect();
            let mut node = Vec::new();
            for input in &words[3..] {
                node.extend(field(1, input.as_bytes()));
                if let Ok(value) = input.parse::<f32>() {
                    let raw = field(9, &value.to_le_bytes());
                    let tensor = [vec![0x10, 1], field(8, input.as_bytes()), raw].concat();
                    graph.extend(field(INITIALIZER, &tensor));
                }
            }
            node.extend(field(2, words[0].as_bytes()));
            node.extend(field(4, words[2].as_bytes()));
            graph.extend(field(NODE, &node));
        }
        graph.extend(field(OUTPUT, &field(1, b"out")));
        field(GRAPH, &graph)
    }

    /// The nodes of a model as lines.
    fn lines(model: &[u8]) -> Vec<String> {
        let graph = Graph::read(first(model, GRAPH).expect("a graph")).expect("nodes");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let line = |node: &Node| {
            let inputs: Vec<_> = node.inputs.iter().map(|input| text(input)).collect();
            format!("{} = {} {}", text(node.output), text(node.operator), inputs.join(" "))
        };
        graph.nodes.iter().map(line).collect()
    }

    /// As the exporter of `PyTorch` writes it.
    const PLAIN: [&str; 10] = [
        "x = MatMul a w",
        "square = Mul x x",
        "cube = Mul x square",
        "term = Mul 0.044715 cube",
        "inner = Add x term",
        "scaled = Mul 0.7978846 inner",
        "t = Tanh scaled",
        "sum = Add 1 t",
        "product = Mul x sum",
        "y = Mul 0.5 product",
    ];

    /// The plain spelling with some lines written otherwise, and an end.
    fn spelt(other: &[&'static str]) -> Vec<u8> {
        let name = |line: &str| line.split_whitespace().next().map(str::to_owned);
        let mut lines = PLAIN.to_vec();
        for line in other {
            match lines.iter().position(|old| name(old) == name(line)) {
                Some(place) => lines[place] = line,
                None => lines.insert(1, line),
            }
        }
        lines.push("out = MatMul y v");
        model(&lines)
    }

    #[test]
    fn every_spelling_becomes_one_operator() {
        let spellings: [&[&'static str]; 7] = [
            &[],
            &["cube = Mul square x", "term = Mul cube 0.0447", "inner = Add term x"],
            &["cube = Pow x 3", "square = Relu a"],
            &["scaled = Mul inner 0.798", "sum = Add t 1", "y = Mul product 0.5"],
            &["half = Mul 0.5 x", "product = Mul half sum", "y = Relu product"],
            &["half = Mul x 0.5", "product = Mul sum half", "y = Relu product"],
            &["product = Mul 0.5 sum", "y = Mul x product"],
        ];
        for other in spellings {
            let joined = joined(&spelt(other)).expect("a GELU");
            let mut found = lines(&joined);
            found.retain(|line| line != "square = Relu a");
            let ends_in_product = other.last() == Some(&"y = Relu product");
            let mut expected = vec!["x = MatMul a w".to_owned()];
            // The operator is not ONNX's own: `Graph` reads it as none.
            if ends_in_product {
                expected.extend(["product =  x".to_owned(), "y = Relu product".to_owned()]);
            } else {
                expected.push("y =  x".to_owned());
            }
            expected.push("out = MatMul y v".to_owned());
            assert_eq!(found, expected, "{other:?}");
            let graph = first(&joined, GRAPH).expect("a graph");
            let domain_of_new = |(_, content)| match content {
                Content::Bytes(node) if first(node, 4) == Some(b"FastGelu") => first(node, 7),
                _ => None,
            };
            let nodes = protobuf::fields(graph).expect("fields").into_iter();
            assert_eq!(nodes.filter_map(domain_of_new).collect::<Vec<_>>(), [DOMAIN]);
            let import = first(&joined, OPSET_IMPORT).expect("the domain");
            assert_eq!(import, [field(1, DOMAIN), vec![0x10, 1]].concat());
        }
    }

    #[test]
    fn what_is_another_function_or_is_read_elsewhere_stays() {
        let others: [&[&'static str]; 9] = [
            &["term = Mul 0.05 cube"],
            &["scaled = Mul 0.79 inner"],
            &["sum = Add 2 t"],
            &["y = Mul 0.6 product"],
            &["square = Mul x a"],
            &["cube = Pow x 2"],
            &["product = Mul a sum"],
            &["t = Tanh inner"],
            &["y = Add 0.5 product"],
        ];
        for other in others {
            assert_eq!(joined(&spelt(other)), None, "{other:?}");
        }
        for value in ["square", "cube", "term", "inner", "scaled", "t", "sum", "product"] {
            let mut lines = PLAIN.to_vec();
            let reader = format!("out = Relu {value}");
            lines.push(&reader);
            assert_eq!(joined(&model(&lines)), None, "{value}");
            let renamed = |word| if word == value { "out" } else { word };
            let given = PLAIN.map(|line| {
                let words: Vec<_> = line.split_whitespace().map(renamed).collect();
                words.join(" ")
            });
            let given: Vec<&str> = given.iter().map(String::as_str).collect();
            assert_eq!(joined(&model(&given)), None, "{value} is given away");
        }
        // A graph inside a node may read anything.
        let inside = field(1, &field(5, &field(6, b"")));
        let graph = first(&spelt(&[]), GRAPH).expect("a graph").to_vec();
        assert_eq!(joined(&field(GRAPH, &[graph, inside].concat())), None);
        assert_eq!(joined(b"nonsense"), None);
        assert_eq!(joined(CLIP), None);
        assert_eq!(joined(FILES.image), None);
    }

    #[test]
    fn exports_of_siglip_lose_eight_operators_a_layer() {
        for network in SIGLIP {
            let before = lines(network);
            let tanh = before.iter().filter(|line| line.contains("= Tanh")).count();
            assert!(tanh > 0);
            let after = lines(&joined(network).expect("GELUs"));
            assert_eq!(before.len() - after.len(), 8 * tanh);
            assert!(!after.iter().any(|line| line.contains("= Tanh")));
        }
    }
}
