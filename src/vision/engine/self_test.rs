//! Whether an engine computes what it should: one fixed picture, two prompts.

use std::path::Path;

use super::{EngineOptions, FoundEngine, open, runtime_version, start};
use crate::vision::{Encoder, Pixels, VisionError, model};

/// Cosines of [`picture`] to prompts, as ONNX Runtime 1.32 computes them with the built-in model
/// (through its own Python interface, without any code of this project).
const EXPECTED: [(&str, f32); 2] =
    [("a photo of a cat", -0.0198), ("a screenshot of a web page", 0.1036)];

/// How far a cosine may be off: engines differ in the order of their sums.
const TOLERANCE: f32 = 1e-2;

/// What the hidden child does: loads a library, runs the self-test and answers the version.
///
/// # Errors
/// [`VisionError::LoadRuntime`] for what is not a library of ONNX Runtime,
/// [`VisionError::SelfTest`] for one that computes wrongly.
///
/// # Panics
/// The binding panics on a library that is too old; it may also hang or crash. That is why
/// this runs in a process of its own.
pub fn self_test_child(library: &Path) -> Result<String, VisionError> {
    let engine = start(&FoundEngine::OnnxRuntime {
        library: library.to_owned(),
        version: String::new(),
        origin: "the self-test",
    })?;
    let options = EngineOptions { threads: 1, ..EngineOptions::default() };
    run(open(&model::builtin()?, &engine, options)?.as_mut())?;
    Ok(runtime_version(library, ort::info()).unwrap_or_else(|| "of unknown version".to_owned()))
}

/// Lets any model compute once: two pictures and two texts. What comes out must be vectors of the
/// length that its description says.
///
/// # Errors
/// Those of the encoder.
pub fn try_out(encoder: &dyn Encoder) -> Result<(), VisionError> {
    let prompts = EXPECTED.map(|(prompt, _)| prompt.to_owned());
    encoder.embed_texts(&prompts)?;
    let size = encoder.model().image.size;
    let flat = Pixels { size, rgb: vec![128; (size as usize).pow(2) * 3] };
    encoder.embed_images(&[picture(size), flat])?;
    Ok(())
}

/// Compares the encoder of the built-in model with the known answer.
pub(super) fn run(encoder: &dyn Encoder) -> Result<(), VisionError> {
    let prompts = EXPECTED.map(|(prompt, _)| prompt.to_owned());
    let texts = encoder.embed_texts(&prompts)?;
    let pictures = encoder.embed_images(&[picture(encoder.model().image.size)])?;
    for ((prompt, expected), text) in EXPECTED.into_iter().zip(&texts) {
        for picture in &pictures {
            let found = picture.cosine(text);
            let close = (found - expected).abs() <= TOLERANCE;
            if !close {
                return Err(VisionError::SelfTest { prompt, expected, found });
            }
        }
    }
    Ok(())
}

/// A picture that any machine draws alike: a slope of colours with a bright square in it.
fn picture(size: u32) -> Pixels {
    let shade = |part: u32| u8::try_from(part * 255 / size.max(1)).unwrap_or(u8::MAX);
    let inside = |place: u32| (size / 4..size / 2).contains(&place);
    let rgb = (0..size)
        .flat_map(|y| (0..size).map(move |x| (x, y)))
        .flat_map(|(x, y)| {
            if inside(x) && inside(y) {
                [240, 240, 230]
            } else {
                [shade(x), shade(y), shade(u32::midpoint(x, y))]
            }
        })
        .collect();
    Pixels { size, rgb }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vision::engine::WhyTract;

    #[test]
    fn tract_computes_what_it_should() {
        let engine = start(&FoundEngine::Tract { why: WhyTract::AskedFor }).expect("starts");
        let model = model::builtin().expect("a good model");
        let encoder = open(&model, &engine, EngineOptions::default()).expect("opens");
        run(encoder.as_ref()).expect("the known answer");
    }
}
