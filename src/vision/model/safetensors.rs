//! Two numbers of a `model.safetensors`: how cosines become logits. The rest is not read.
//!
//! Format: eight bytes with the length of a JSON header, the header, then the values
//! (<https://github.com/huggingface/safetensors>, "Format").

use std::io;

use half::{bf16, f16};

/// The numbers as they are stored; the scale is there as its logarithm.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct StoredScale {
    /// Natural logarithm of the multiplier.
    pub(super) logit_scale: Option<f32>,
    /// Added after the multiplication.
    pub(super) logit_bias: Option<f32>,
}

/// A header of a model of thousands of tensors has a megabyte.
const LONGEST_HEADER: u64 = 32 << 20;

/// Reads the two numbers with a few small reads. `read` answers `length` bytes from `offset` on;
/// the bytes may come from a file or over the network.
///
/// # Errors
/// Those of `read`, and `InvalidData` for what is no such file.
pub(super) fn scale_in(
    mut read: impl FnMut(u64, u64) -> io::Result<Vec<u8>>,
) -> io::Result<StoredScale> {
    let length = read(0, 8)?;
    let length = length.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    let length = length.filter(|length| *length <= LONGEST_HEADER);
    let length = length.ok_or_else(|| broken("its header has no length that makes sense"))?;
    let header = read(8, length)?;
    let header: serde_json::Value =
        serde_json::from_slice(&header).map_err(|_no_json| broken("its header is no JSON"))?;
    let mut number = |name: &str| -> io::Result<Option<f32>> {
        let Some(tensor) = header.get(name) else { return Ok(None) };
        let unreadable = || broken("a number in it is stored in an unknown way");
        let start = tensor["data_offsets"][0].as_u64().ok_or_else(unreadable)?;
        let dtype = tensor["dtype"].as_str().unwrap_or_default();
        let size = match dtype {
            "F64" => 8,
            "F32" => 4,
            "F16" | "BF16" => 2,
            _ => return Err(unreadable()),
        };
        let bytes = read(8 + length + start, size)?;
        let early = || broken("it ends too early");
        let value = match dtype {
            "F64" => narrow(f64::from_le_bytes(exactly(&bytes).ok_or_else(early)?)),
            "F32" => f32::from_le_bytes(exactly(&bytes).ok_or_else(early)?),
            "F16" => f16::from_le_bytes(exactly(&bytes).ok_or_else(early)?).to_f32(),
            _ => bf16::from_le_bytes(exactly(&bytes).ok_or_else(early)?).to_f32(),
        };
        Ok(Some(value))
    };
    Ok(StoredScale { logit_scale: number("logit_scale")?, logit_bias: number("logit_bias")? })
}

fn exactly<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}

#[expect(clippy::cast_possible_truncation, reason = "models compute in single precision")]
fn narrow(value: f64) -> f32 {
    value as f32
}

fn broken(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("it is no safetensors file: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, values: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), values].concat()
    }

    fn read(bytes: &[u8]) -> io::Result<StoredScale> {
        scale_in(|offset, length| {
            let start = usize::try_from(offset).expect("small");
            let end = start + usize::try_from(length).expect("small");
            Ok(bytes.get(start..end.min(bytes.len())).unwrap_or_default().to_vec())
        })
    }

    #[test]
    fn numbers_of_every_width_are_read() {
        let values = [
            &f16::from_f32(4.75).to_le_bytes()[..],
            &(-12.5_f32).to_le_bytes(),
            &bf16::from_f32(2.0).to_le_bytes(),
            &1.5_f64.to_le_bytes(),
        ]
        .concat();
        let header = |scale, at, bias, from| {
            format!(
                r#"{{"w":{{"dtype":"F32","shape":[9],"data_offsets":[16,52]}},"logit_scale":{{"dtype":"{scale}","shape":[],"data_offsets":[{at},{at}]}},"logit_bias":{{"dtype":"{bias}","shape":[1],"data_offsets":[{from},{from}]}}}}"#
            )
        };
        let found = read(&file(&header("F16", 0, "F32", 2), &values)).expect("a good file");
        assert_eq!((found.logit_scale, found.logit_bias), (Some(4.75), Some(-12.5)));
        let found = read(&file(&header("BF16", 6, "F64", 8), &values)).expect("a good file");
        assert_eq!((found.logit_scale, found.logit_bias), (Some(2.0), Some(1.5)));
        assert_eq!(read(&file("{}", &[])).expect("a good file"), StoredScale::default());
    }

    #[test]
    fn what_is_no_such_file_is_refused() {
        let cut = r#"{"logit_scale":{"dtype":"F32","data_offsets":[0,4]}}"#;
        let odd = r#"{"logit_scale":{"dtype":"I8","data_offsets":[0,1]}}"#;
        for bytes in [vec![], vec![255; 20], file("no JSON", &[]), file(cut, &[1]), file(odd, &[1])]
        {
            assert!(read(&bytes).is_err(), "{bytes:?}");
        }
    }
}
