//! Numbers in the widths that networks want and give: exports in half precision have inputs and
//! outputs in it too, and some want their tokens in 32 bits.

use half::f16;
use ort::session::{SessionInputValue, SessionOutputs};
use ort::value::{Outlet, Tensor, TensorElementType, ValueType};

use crate::vision::{ImageSpec, Pixels};

/// The width of an input's numbers; anything but a tensor is refused when the network runs.
pub(super) fn element_type(outlets: &[Outlet], name: &str) -> Option<TensorElementType> {
    let outlet = outlets.iter().find(|outlet| outlet.name() == name)?;
    match outlet.dtype() {
        ValueType::Tensor { ty, .. } => Some(*ty),
        _ => None,
    }
}

/// Whether an input takes one item at a time: its first dimension is a fixed 1.
pub(super) fn takes_one_item(outlets: &[Outlet], name: &str) -> bool {
    outlets.iter().filter(|outlet| outlet.name() == name).any(|outlet| match outlet.dtype() {
        ValueType::Tensor { shape, .. } => shape.first() == Some(&1),
        _ => false,
    })
}

/// Pictures as an input, `[n, 3, size, size]`.
pub(super) fn pictures(
    spec: &ImageSpec,
    pictures: &[Pixels],
    threads: usize,
    wanted: Option<TensorElementType>,
) -> ort::Result<SessionInputValue<'static>> {
    let side = spec.size as usize;
    let shape = [pictures.len(), 3, side, side];
    Ok(if wanted == Some(TensorElementType::Float16) {
        Tensor::from_array((shape, spec.planes(pictures, threads, f16::from_f32)))?.into()
    } else {
        Tensor::from_array((shape, spec.planes(pictures, threads, |value| value)))?.into()
    })
}

/// Tokens or a mask as an input.
pub(super) fn integers(
    shape: [usize; 2],
    values: Vec<i64>,
    wanted: Option<TensorElementType>,
) -> ort::Result<SessionInputValue<'static>> {
    Ok(match wanted {
        Some(TensorElementType::Int32) => {
            // A vocabulary has far fewer tokens; what does not fit is refused by the network.
            let narrow = |value| i32::try_from(value).unwrap_or(i32::MAX);
            let values: Vec<i32> = values.into_iter().map(narrow).collect();
            Tensor::from_array((shape, values))?.into()
        }
        Some(TensorElementType::Bool) => {
            let values: Vec<bool> = values.into_iter().map(|value| value != 0).collect();
            Tensor::from_array((shape, values))?.into()
        }
        _ => Tensor::from_array((shape, values))?.into(),
    })
}

/// An output: its shape and its values.
pub(super) fn answer(
    outputs: &SessionOutputs<'_>,
    name: &str,
) -> ort::Result<(Vec<i64>, Vec<f32>)> {
    let output = &outputs[name];
    if let ValueType::Tensor { ty: TensorElementType::Float16, .. } = output.dtype() {
        let (shape, values) = output.try_extract_tensor::<f16>()?;
        return Ok((shape.to_vec(), values.iter().map(|value| value.to_f32()).collect()));
    }
    let (shape, values) = output.try_extract_tensor::<f32>()?;
    Ok((shape.to_vec(), values.to_vec()))
}
