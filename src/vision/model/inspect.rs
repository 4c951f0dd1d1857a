//! Looks through a network before an engine gets it: what it is made of, and whether anything in it
//! is there to harm.
//!
//! An engine is a large C++ program that was made for models of friends. So a network is walked
//! first, field by field, by this reader, in a process that can do nothing else
//! (`sandbox::inspection`): only operators that networks for pictures and texts are made of, weights
//! whose size is what their shape says, and files with weights that are named and not led to.
//! Field numbers: `onnx.proto3` of ONNX 1.20.

mod operators;

use std::collections::BTreeMap;
use std::io::{self, Read};

use crate::moderation::escape::is_unprintable;
use crate::vision::protobuf::{self, Content, Head, Stream};

use super::onnx::{self, Tensor};

/// What a network says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::vision) struct Inspected {
    /// What has to be fed.
    pub(in crate::vision) inputs: Vec<Tensor>,
    /// What comes out.
    pub(in crate::vision) outputs: Vec<Tensor>,
    /// Files with weights, by name, and how many bytes each must have.
    pub(in crate::vision) external: BTreeMap<String, u64>,
}

/// Why a network is not loaded: a word for people, without bytes of the file that were not checked.
pub(in crate::vision) type Refusal = String;

/// Graphs in graphs deeper than this are nobody's network.
const DEEPEST: usize = 8;

/// Nodes of all graphs together; ViT-g has about 10,000.
const MOST_NODES: u32 = 200_000;

/// Weights of all graphs together.
const MOST_TENSORS: u32 = 200_000;

/// Files with weights.
const MOST_FILES: usize = 1024;

/// Inputs, and outputs.
const MOST_VALUES: usize = 64;

/// Fields of all messages together: many small ones are much, too.
const MOST_FIELDS: u64 = 20_000_000;

/// Bytes of what is no weight, which the engine holds in memory several times.
const MOST_GRAPH: u64 = 512 << 20;

/// The longest name, in bytes.
const LONGEST_NAME: u64 = 4096;

/// A dimension of a weight; a vocabulary has a few hundred thousand entries.
const LONGEST_SIDE: u64 = 1 << 32;

/// Bytes of one weight.
const LARGEST_TENSOR: u64 = 16 << 30;

/// Walks a network from its first byte to its last.
///
/// # Errors
/// Why it is not loaded.
pub(in crate::vision) fn inspect(network: impl Read) -> Result<Inspected, Refusal> {
    let mut walk = Walk {
        stream: Stream::of(network),
        found: Inspected::default(),
        initial: Vec::new(),
        nodes: 0,
        tensors: 0,
        fields: 0,
        weights: 0,
    };
    walk.model()?;
    let Walk { mut found, initial, .. } = walk;
    // Older exports name the weights among the inputs.
    found.inputs.retain(|input| !initial.contains(&input.name));
    if found.inputs.is_empty() || found.outputs.is_empty() {
        return Err(broken());
    }
    Ok(found)
}

fn broken() -> Refusal {
    "it is no ONNX file, or only a part of one".to_owned()
}

#[expect(clippy::needless_pass_by_value, reason = "given to `map_err`")]
fn unreadable(error: io::Error) -> Refusal {
    if error.kind() == io::ErrorKind::InvalidData || error.kind() == io::ErrorKind::UnexpectedEof {
        broken()
    } else {
        format!("it can't be read ({})", error.kind())
    }
}

struct Walk<R> {
    stream: Stream<R>,
    found: Inspected,
    /// Names of the weights of the outermost graph.
    initial: Vec<String>,
    nodes: u32,
    tensors: u32,
    fields: u64,
    /// Bytes of weights so far.
    weights: u64,
}

impl<R: Read> Walk<R> {
    fn model(&mut self) -> Result<(), Refusal> {
        while !self.stream.is_at_end().map_err(unreadable)? {
            let Some(head) = self.next(u64::MAX)? else { break };
            match head.field() {
                7 => {
                    let end = self.end_of(head)?;
                    self.graph(end, 0)?;
                }
                20 => return Err("it brings steps for training".to_owned()),
                25 => return Err("it brings functions of its own".to_owned()),
                _ => self.pass(head)?,
            }
        }
        Ok(())
    }

    fn graph(&mut self, end: u64, depth: usize) -> Result<(), Refusal> {
        if depth > DEEPEST {
            return Err(format!("it has graphs in graphs, more than {DEEPEST} deep"));
        }
        while let Some(head) = self.next(end)? {
            match head.field() {
                1 => {
                    let end = self.end_of(head)?;
                    self.node(end, depth)?;
                }
                5 => {
                    let end = self.end_of(head)?;
                    let name = self.tensor(end)?;
                    if depth == 0 {
                        self.initial.push(name);
                    }
                }
                11 if depth == 0 => {
                    let value = self.value(head)?;
                    self.found.inputs.push(value);
                }
                12 if depth == 0 => {
                    let value = self.value(head)?;
                    self.found.outputs.push(value);
                }
                15 => {
                    let end = self.end_of(head)?;
                    self.sparse(end)?;
                }
                _ => self.pass(head)?,
            }
        }
        // Those that weights stand for are taken out in the end.
        let most = MOST_VALUES + usize::try_from(self.tensors).unwrap_or(usize::MAX);
        if self.found.inputs.len() > most || self.found.outputs.len() > MOST_VALUES {
            return Err(format!("it has more than {MOST_VALUES} inputs or outputs"));
        }
        Ok(())
    }

    fn node(&mut self, end: u64, depth: usize) -> Result<(), Refusal> {
        self.nodes += 1;
        if self.nodes > MOST_NODES {
            return Err(format!("it has more than {MOST_NODES} nodes"));
        }
        let (mut operator, mut domain) = (None, None);
        while let Some(head) = self.next(end)? {
            match head.field() {
                4 => once(&mut operator, self.name(head)?)?,
                7 => once(&mut domain, self.name(head)?)?,
                5 => {
                    let end = self.end_of(head)?;
                    self.attribute(end, depth)?;
                }
                _ => self.pass(head)?,
            }
        }
        let (operator, domain) = (operator.unwrap_or_default(), domain.unwrap_or_default());
        if operators::is_known(&domain, &operator) {
            return Ok(());
        }
        let from = if domain.is_empty() { String::new() } else { format!(" of {domain}") };
        Err(format!("it has the operator {operator}{from}, which no network for pictures needs"))
    }

    fn attribute(&mut self, end: u64, depth: usize) -> Result<(), Refusal> {
        while let Some(head) = self.next(end)? {
            match head.field() {
                5 | 10 => {
                    let end = self.end_of(head)?;
                    self.tensor(end)?;
                }
                6 | 11 => {
                    let end = self.end_of(head)?;
                    self.graph(end, depth + 1)?;
                }
                22 | 23 => {
                    let end = self.end_of(head)?;
                    self.sparse(end)?;
                }
                _ => self.pass(head)?,
            }
        }
        Ok(())
    }

    fn sparse(&mut self, end: u64) -> Result<(), Refusal> {
        while let Some(head) = self.next(end)? {
            match head.field() {
                1 | 2 => {
                    let end = self.end_of(head)?;
                    self.tensor(end)?;
                }
                _ => self.pass(head)?,
            }
        }
        Ok(())
    }

    /// Answers its name.
    fn tensor(&mut self, end: u64) -> Result<String, Refusal> {
        self.tensors += 1;
        if self.tensors > MOST_TENSORS {
            return Err(format!("it has more than {MOST_TENSORS} weights"));
        }
        let mut weight = Weight { elements: 1, ..Weight::default() };
        while let Some(head) = self.next(end)? {
            match head.field() {
                1 => self.dimensions(head, &mut weight)?,
                2 => once(&mut weight.kind, head.number)?,
                8 => once(&mut weight.name, self.name(head)?)?,
                9 => {
                    let length = head.length.filter(|_| head.is_bytes()).ok_or_else(broken)?;
                    once(&mut weight.raw, length)?;
                    self.weights += length;
                    self.stream.read_over(length).map_err(unreadable)?;
                }
                13 => {
                    let entry = self.short(head)?;
                    weight.external(&entry)?;
                }
                14 => once(&mut weight.place, head.number)?,
                // Numbers that are written one by one.
                4..=7 | 10 | 11 => {
                    self.weights += head.length.unwrap_or(0);
                    self.pass(head)?;
                }
                _ => self.pass(head)?,
            }
        }
        if let Some((file, end)) = weight.checked()? {
            let known = self.found.external.entry(file).or_default();
            *known = end.max(*known);
            if self.found.external.len() > MOST_FILES {
                return Err(format!("its weights are in more than {MOST_FILES} files"));
            }
        }
        Ok(weight.name.unwrap_or_default())
    }

    /// `TensorProto.dims`: one number a field, or all in one.
    fn dimensions(&mut self, head: Head, weight: &mut Weight) -> Result<(), Refusal> {
        if !head.is_bytes() {
            return weight.dimension(head.number);
        }
        let packed = self.short(head)?;
        let mut at = 0;
        while at < packed.len() {
            let number = protobuf::number(&packed, &mut at).ok_or_else(broken)?;
            weight.dimension(number)?;
        }
        Ok(())
    }

    fn value(&mut self, head: Head) -> Result<Tensor, Refusal> {
        let value = self.short(head)?;
        onnx::tensor(&value).ok_or_else(broken)
    }

    fn name(&mut self, head: Head) -> Result<String, Refusal> {
        let length = head.length.filter(|_| head.is_bytes()).ok_or_else(broken)?;
        if length > LONGEST_NAME {
            return Err(format!("it has a name of {length} bytes"));
        }
        let bytes = self.stream.bytes(length).map_err(unreadable)?;
        printable(bytes)
    }

    /// A message that holds names and numbers alone.
    fn short(&mut self, head: Head) -> Result<Vec<u8>, Refusal> {
        let length = head.length.filter(|_| head.is_bytes()).ok_or_else(broken)?;
        if length > 16 * LONGEST_NAME {
            return Err(format!("it has a description of {length} bytes"));
        }
        self.stream.bytes(length).map_err(unreadable)
    }

    fn end_of(&self, head: Head) -> Result<u64, Refusal> {
        let length = head.length.filter(|_| head.is_bytes()).ok_or_else(broken)?;
        self.stream.at().checked_add(length).ok_or_else(broken)
    }

    fn next(&mut self, end: u64) -> Result<Option<Head>, Refusal> {
        self.fields += 1;
        if self.fields > MOST_FIELDS {
            return Err(format!("it has more than {MOST_FIELDS} fields"));
        }
        if self.stream.at().saturating_sub(self.weights) > MOST_GRAPH {
            return Err(format!("its graph has more than {} MiB", MOST_GRAPH >> 20));
        }
        self.stream.next(end).map_err(unreadable)
    }

    fn pass(&mut self, head: Head) -> Result<(), Refusal> {
        self.stream.read_over(head.length.unwrap_or(0)).map_err(unreadable)
    }
}

/// What is said twice, one reader takes from the first place and another from the last.
fn once<T>(place: &mut Option<T>, value: T) -> Result<(), Refusal> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err("it says something twice".to_owned()),
    }
}

fn printable(bytes: Vec<u8>) -> Result<String, Refusal> {
    let text = String::from_utf8(bytes).map_err(|_other| broken())?;
    if text.chars().any(is_unprintable) {
        return Err("it has a name that can't be printed".to_owned());
    }
    Ok(text)
}

/// A `TensorProto`.
#[derive(Default)]
struct Weight {
    elements: u64,
    dimensions: usize,
    kind: Option<u64>,
    name: Option<String>,
    /// Bytes that stand in the network.
    raw: Option<u64>,
    place: Option<u64>,
    location: Option<String>,
    offset: Option<u64>,
    length: Option<u64>,
}

impl Weight {
    fn dimension(&mut self, side: u64) -> Result<(), Refusal> {
        self.dimensions += 1;
        // A negative number is a very large one here.
        let elements = self.elements.checked_mul(side).filter(|_| side <= LONGEST_SIDE);
        match elements.filter(|elements| *elements <= LARGEST_TENSOR && self.dimensions <= 16) {
            Some(elements) => {
                self.elements = elements;
                Ok(())
            }
            None => Err("it has a weight of a shape that can't be".to_owned()),
        }
    }

    /// A `StringStringEntryProto` of `external_data`.
    fn external(&mut self, entry: &[u8]) -> Result<(), Refusal> {
        let (mut key, mut value) = (None, None);
        for (field, content) in protobuf::fields(entry).ok_or_else(broken)? {
            let Content::Bytes(text) = content else { continue };
            match field {
                1 => once(&mut key, printable(text.to_vec())?)?,
                2 => once(&mut value, printable(text.to_vec())?)?,
                _ => {}
            }
        }
        let (key, value) = (key.unwrap_or_default(), value.unwrap_or_default());
        let number = || value.parse().map_err(|_other| broken());
        match key.as_str() {
            "location" => once(&mut self.location, value),
            "offset" => once(&mut self.offset, number()?),
            "length" => once(&mut self.length, number()?),
            // `checksum` is not read by engines.
            _ => Ok(()),
        }
    }

    /// Whether its bytes are as many as its shape says; the file in which they lie, if they do not lie in the
    /// network, and where they end there.
    fn checked(&self) -> Result<Option<(String, u64)>, Refusal> {
        let bits = self.kind.and_then(bits_of);
        let needed = bits.map(|bits| self.elements.saturating_mul(bits).div_ceil(8));
        if needed.is_some_and(|needed| needed > LARGEST_TENSOR) {
            return Err("it has a weight that is too large".to_owned());
        }
        let fits = |bytes: u64| needed.is_none_or(|needed| needed == bytes);
        if self.raw.is_some_and(|raw| !fits(raw)) {
            return Err("it has a weight whose bytes do not fit its shape".to_owned());
        }
        let is_external = self.place == Some(1) || self.location.is_some();
        if !is_external {
            return Ok(None);
        }
        let Some(location) = self.location.clone().filter(|_| self.raw.is_none()) else {
            return Err("it has a weight that lies nowhere, or twice".to_owned());
        };
        // Like the description's: a name in the same folder.
        let is_plain = !location.is_empty()
            && ![".", ".."].contains(&location.as_str())
            && !location.contains(['/', '\\']);
        if !is_plain {
            return Err(format!("it reads weights from {location:?}, which leads elsewhere"));
        }
        let Some(length) = self.length.or(needed) else {
            return Err("it has a weight of a kind that is not known".to_owned());
        };
        if !fits(length) {
            return Err("it has a weight whose bytes do not fit its shape".to_owned());
        }
        let end = self.offset.unwrap_or(0).checked_add(length).ok_or_else(broken)?;
        Ok(Some((location, end)))
    }
}

/// Bits of a number of a `TensorProto.DataType`; `None` for texts and what is not known.
fn bits_of(kind: u64) -> Option<u64> {
    Some(match kind {
        2 | 3 | 9 | 17..=20 | 24 => 8,
        4 | 5 | 10 | 16 => 16,
        1 | 6 | 12 => 32,
        7 | 11 | 13 | 14 => 64,
        15 => 128,
        21..=23 => 4,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
