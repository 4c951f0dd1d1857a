//! A network rewritten to take one item at a time.
//!
//! tract can't always reason about a batch of unknown size (it gives up on some exports with
//! attention pooling), but does well when it is told the number. The number stands in the
//! file, so a copy of the file is changed: `dim_param` of the first dimension of every input and
//! output becomes `dim_value: 1`, and the shapes noted for intermediate values, which
//! repeat the old name, are left out. Everything else is copied byte for byte.
//! Field numbers: `onnx.proto3` of ONNX 1.20.

use crate::vision::protobuf::{put, rewritten};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vision::model::builtin::FILES;
    use crate::vision::protobuf::field;

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
