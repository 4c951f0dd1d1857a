//! A network rewritten to take one item at a time.
//!
//! tract can't always reason about a batch of unknown size (it gives up on some exports with
//! attention pooling), but does well when it is told the number. The number stands in the
//! file, so a copy of the file is changed: `dim_param` of the first dimension of every input and
//! output becomes `dim_value: 1`, and the shapes noted for intermediate values, which
//! repeat the old name, are left out. Everything else is copied byte for byte.
//! Field numbers: `onnx.proto3` of ONNX 1.20; encoding: Protocol Buffers, "Encoding".

/// `ModelProto.graph`.
const GRAPH: u64 = 7;
/// `GraphProto.input`, `.output` and `.value_info`.
const INPUT: u64 = 11;
const OUTPUT: u64 = 12;
const VALUE_INFO: u64 = 13;
/// `ValueInfoProto.type`, `TypeProto.tensor_type`, `TypeProto.Tensor.shape` and
/// `TensorShapeProto.dim`: the way from an input to its dimensions.
const WAY_TO_DIMENSION: [u64; 4] = [2, 1, 2, 1];
/// `TensorShapeProto.Dimension { dim_value: 1 }`.
const ONE: [u8; 2] = [0x08, 0x01];

/// The model with a batch of one; `None` when the bytes are not a model.
pub(super) fn one_at_a_time(model: &[u8]) -> Option<Vec<u8>> {
    rewritten(model, |field, content, output| {
        if field != GRAPH {
            return Some(false);
        }
        let graph = rewritten(content, |field, content, output| match field {
            VALUE_INFO => Some(true),
            INPUT | OUTPUT => {
                put(output, field, &with_first_dimension_one(content, &WAY_TO_DIMENSION)?);
                Some(true)
            }
            _ => Some(false),
        })?;
        put(output, field, &graph);
        Some(true)
    })
}

/// Follows the field numbers inwards; at their end the first message is replaced by [`ONE`].
fn with_first_dimension_one(message: &[u8], way: &[u64]) -> Option<Vec<u8>> {
    let Some((step, rest)) = way.split_first() else { return Some(ONE.to_vec()) };
    let mut done = false;
    rewritten(message, |field, content, output| {
        if field != *step || done {
            return Some(false);
        }
        done = true;
        put(output, field, &with_first_dimension_one(content, rest)?);
        Some(true)
    })
}

/// Copies a message field by field. `change` sees each field with a length before it, and answers
/// whether it has dealt with it.
fn rewritten(
    message: &[u8],
    mut change: impl FnMut(u64, &[u8], &mut Vec<u8>) -> Option<bool>,
) -> Option<Vec<u8>> {
    let mut output = Vec::with_capacity(message.len());
    let mut at = 0;
    while at < message.len() {
        let start = at;
        let tag = number(message, &mut at)?;
        match tag & 7 {
            0 => {
                number(message, &mut at)?;
            }
            1 => at += 8,
            2 => {
                let length = usize::try_from(number(message, &mut at)?).ok()?;
                let content = message.get(at..at.checked_add(length)?)?;
                at += length;
                if change(tag >> 3, content, &mut output)? {
                    continue;
                }
            }
            5 => at += 4,
            _ => return None,
        }
        output.extend_from_slice(message.get(start..at)?);
    }
    Some(output)
}

/// A number of seven bits a byte, the lowest first.
fn number(message: &[u8], at: &mut usize) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = *message.get(*at)?;
        *at += 1;
        number |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// Writes a field with a length before it.
fn put(output: &mut Vec<u8>, field: u64, content: &[u8]) {
    for mut number in [field << 3 | 2, content.len() as u64] {
        while number >= 0x80 {
            output.push(u8::try_from(number & 0x7F).unwrap_or_default() | 0x80);
            number >>= 7;
        }
        output.push(u8::try_from(number).unwrap_or_default());
    }
    output.extend_from_slice(content);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vision::model::builtin::FILES;

    fn field(field: u64, content: &[u8]) -> Vec<u8> {
        let mut output = Vec::new();
        put(&mut output, field, content);
        output
    }

    /// An input `x` of `[n, 3]`, by hand.
    fn input(first: &[u8]) -> Vec<u8> {
        let dimensions = [field(1, first), field(1, &[0x08, 0x03])].concat();
        let tensor = [vec![0x08, 0x01], field(2, &dimensions)].concat();
        [field(1, b"x"), field(2, &field(1, &tensor))].concat()
    }

    #[test]
    fn the_first_dimension_becomes_one_and_nothing_else_changes() {
        let named = input(&field(2, b"n"));
        let graph = |input: &[u8], info: &[u8]| {
            [field(2, b"g"), field(11, input), field(5, &[7; 300]), info.to_vec()].concat()
        };
        let model = |graph: &[u8]| [vec![0x08, 0x08], field(7, graph)].concat();
        let before = model(&graph(&named, &field(13, &named)));
        let after = model(&graph(&input(&ONE), &[]));
        assert_eq!(one_at_a_time(&before), Some(after));
    }

    #[test]
    fn the_built_in_networks_stay_whole() {
        for network in [FILES.image, FILES.text] {
            let changed = one_at_a_time(network).expect("a model");
            assert!(changed.len() <= network.len() && changed.len() + 4096 > network.len());
            assert_eq!(one_at_a_time(&changed), Some(changed.clone()), "once is enough");
        }
    }

    #[test]
    fn what_is_no_model_is_refused() {
        assert_eq!(one_at_a_time(&[0x3A, 0xFF]), None);
        assert_eq!(one_at_a_time(&[0xFF; 12]), None);
    }
}
