//! A model's two networks on the engine of this process.

use std::borrow::Cow;
use std::thread;

use ort::session::builder::GraphOptimizationLevel;
use ort::session::{Session, SessionInputValue};
use ort::value::TensorRef;

use super::{Device, Engine, EngineOptions, FoundEngine};
use crate::vision::model::{ModelFiles, Network};
use crate::vision::tokenize::{TextReader, Tokens};
use crate::vision::{Embedding, Encoder, Model, ModelCard, Pixels, Tower, VisionError};

/// The built-in [`Encoder`].
pub(super) struct Towers {
    model: Model,
    engine: Engine,
    options: EngineOptions,
    reader: TextReader,
    normalisation: [[f32; 256]; 3],
    image: Lanes,
    /// Given up when pictures come: texts are embedded once, pictures all day.
    text: Option<Lanes>,
}

/// The sessions of one network that may run at the same time. ONNX Runtime has one, which is
/// parallel inside; tract computes on one thread, so it has one for each.
struct Lanes {
    names: Names,
    sessions: Vec<Session>,
}

/// The network's inputs and the output that is wanted.
struct Names {
    model: String,
    tower: Tower,
    /// `pixel_values` or `input_ids`.
    input: String,
    mask: Option<String>,
    output: String,
}

impl Towers {
    pub(super) fn open(
        model: &Model,
        engine: &Engine,
        options: EngineOptions,
    ) -> Result<Self, VisionError> {
        let reader = TextReader::new(model.text, &model.files.tokenizer()?)
            .map_err(|source| VisionError::Tokenizer { model: model.card.name.clone(), source })?;
        let cores = || thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let options = EngineOptions {
            threads: if options.threads == 0 { cores() } else { options.threads },
            batch: options.batch.max(1),
            ..options
        };
        Ok(Self {
            normalisation: model.card.image.normalisation(),
            image: Lanes::open(model, engine, options, Tower::Image)?,
            text: Some(Lanes::open(model, engine, options, Tower::Text)?),
            model: model.clone(),
            engine: engine.clone(),
            options,
            reader,
        })
    }
}

impl Encoder for Towers {
    fn model(&self) -> &ModelCard {
        &self.model.card
    }

    fn embed_images(&mut self, pictures: &[Pixels]) -> Result<Vec<Embedding>, VisionError> {
        self.text = None;
        let expected = self.model.card.image.size;
        let area = (expected as usize).pow(2);
        if let Some(other) = pictures.iter().find(|p| p.size != expected || p.rgb.len() != area * 3)
        {
            return Err(VisionError::PictureSize { found: other.size, expected });
        }
        let (dim, normalisation) = (self.model.card.embedding_dim, &self.normalisation);
        self.image.embed(pictures, self.options.batch, dim, |session, names, batch| {
            let pixels = planes(batch, area, normalisation);
            let side = expected as usize;
            let shape = [batch.len(), 3, side, side];
            let tensor = TensorRef::from_array_view((shape, pixels.as_slice()))?;
            names.run(session, vec![(names.input.as_str().into(), tensor.into())])
        })
    }

    fn embed_texts(&mut self, texts: &[String]) -> Result<Vec<Embedding>, VisionError> {
        let tokens: Vec<Tokens> =
            texts.iter().map(|text| self.reader.read(text)).collect::<Result<_, _>>()?;
        let lanes = match &mut self.text {
            Some(lanes) => lanes,
            None => {
                self.text.insert(Lanes::open(&self.model, &self.engine, self.options, Tower::Text)?)
            }
        };
        let dim = self.model.card.embedding_dim;
        lanes.embed(&tokens, self.options.batch, dim, |session, names, batch| {
            let ids: Vec<i64> = batch.iter().flat_map(|text| text.ids.iter().copied()).collect();
            let length = batch.first().map_or(0, |text| text.ids.len());
            let shape = [batch.len(), length];
            let mut inputs: Vec<(Cow<str>, SessionInputValue)> = vec![(
                names.input.as_str().into(),
                TensorRef::from_array_view((shape, ids.as_slice()))?.into(),
            )];
            // 1 for a text's own tokens, 0 for padding, as the tokenizers of the families do.
            let mask: Vec<i64> = batch
                .iter()
                .flat_map(|text| (0..length).map(|place| i64::from(place < text.length)))
                .collect();
            if let Some(name) = &names.mask {
                let tensor = TensorRef::from_array_view((shape, mask.as_slice()))?;
                inputs.push((name.as_str().into(), tensor.into()));
            }
            names.run(session, inputs)
        })
    }

    fn count_tokens(&self, text: &str) -> Result<usize, VisionError> {
        self.reader.count(text)
    }
}

/// What a network answered: the shape and the values.
type Answer = (Vec<i64>, Vec<f32>);

impl Lanes {
    fn open(
        model: &Model,
        engine: &Engine,
        options: EngineOptions,
        tower: Tower,
    ) -> Result<Self, VisionError> {
        let count = match engine.found {
            FoundEngine::OnnxRuntime { .. } => 1,
            FoundEngine::Tract { .. } => options.threads,
        };
        let load = || {
            session(engine, options, &model.files, tower).map_err(|source| VisionError::Load {
                engine: engine.found.name(),
                model: model.card.name.clone(),
                tower,
                source,
            })
        };
        let first = load()?;
        let names = Names::of(&first, model, tower)?;
        let mut sessions = vec![first];
        for _ in 1..count {
            sessions.push(load()?);
        }
        Ok(Self { names, sessions })
    }

    /// Cuts the items into batches, runs them on all lanes and puts the answers in order.
    fn embed<T: Sync>(
        &mut self,
        items: &[T],
        batch: usize,
        dim: usize,
        run: impl Fn(&mut Session, &Names, &[T]) -> ort::Result<Answer> + Sync,
    ) -> Result<Vec<Embedding>, VisionError> {
        let names = &self.names;
        let run_all = |session: &mut Session, items: &[T]| {
            let mut embeddings = Vec::with_capacity(items.len());
            for batch in items.chunks(batch) {
                let (shape, values) = run(session, names, batch).map_err(|source| {
                    VisionError::Run { model: names.model.clone(), tower: names.tower, source }
                })?;
                embeddings.extend(names.vectors(batch.len(), dim, &shape, &values)?);
            }
            Ok(embeddings)
        };
        let share = items.len().div_ceil(self.sessions.len());
        if let [session] = self.sessions.as_mut_slice() {
            return run_all(session, items);
        }
        if share == 0 {
            return Ok(Vec::new());
        }
        let parts: Result<Vec<Vec<Embedding>>, VisionError> = thread::scope(|scope| {
            let workers: Vec<_> = self
                .sessions
                .iter_mut()
                .zip(items.chunks(share))
                .map(|(session, items)| scope.spawn(move || run_all(session, items)))
                .collect();
            workers
                .into_iter()
                .map(|worker| {
                    worker.join().unwrap_or_else(|cause| std::panic::resume_unwind(cause))
                })
                .collect()
        });
        Ok(parts?.into_iter().flatten().collect())
    }
}

impl Names {
    fn of(session: &Session, model: &Model, tower: Tower) -> Result<Self, VisionError> {
        let present = |outlets: &[ort::value::Outlet]| -> Vec<String> {
            outlets.iter().map(|outlet| outlet.name().to_owned()).collect()
        };
        let (inputs, outputs) = (present(session.inputs()), present(session.outputs()));
        let given = &model.tensors;
        let (input, usual_input, output, usual_outputs) = match tower {
            Tower::Image => (
                &given.image_input,
                "pixel_values",
                &given.image_output,
                ["image_embeds", "pooler_output"],
            ),
            Tower::Text => (
                &given.text_input,
                "input_ids",
                &given.text_output,
                ["text_embeds", "pooler_output"],
            ),
        };
        let pick = |given: Option<&String>, usual: &[&str], present: &[String], role| {
            let wanted: Vec<String> = match given {
                Some(name) => vec![name.clone()],
                None => usual.iter().map(|&name| name.to_owned()).collect(),
            };
            wanted.iter().find(|name| present.contains(name)).cloned().ok_or_else(|| {
                VisionError::NoSuchTensor {
                    model: model.card.name.clone(),
                    tower,
                    role,
                    wanted: wanted.clone(),
                    present: present.to_vec(),
                }
            })
        };
        let input = pick(input.as_ref(), &[usual_input], &inputs, "input")?;
        let output = pick(output.as_ref(), &usual_outputs, &outputs, "output")?;
        let mask = match (tower, &given.mask_input) {
            (Tower::Image, _) => None,
            (Tower::Text, Some(name)) => Some(pick(Some(name), &[], &inputs, "input")?),
            (Tower::Text, None) => inputs.iter().find(|name| *name == "attention_mask").cloned(),
        };
        if let Some(unknown) =
            inputs.iter().find(|name| **name != input && Some(*name) != mask.as_ref())
        {
            return Err(VisionError::UnknownInput {
                model: model.card.name.clone(),
                tower,
                input: unknown.clone(),
            });
        }
        Ok(Self { model: model.card.name.clone(), tower, input, mask, output })
    }

    /// Runs the network and takes the one output that is wanted.
    fn run(
        &self,
        session: &mut Session,
        inputs: Vec<(Cow<'_, str>, SessionInputValue<'_>)>,
    ) -> ort::Result<Answer> {
        let outputs = session.run(inputs)?;
        let (shape, values) = outputs[self.output.as_str()].try_extract_tensor::<f32>()?;
        Ok((shape.to_vec(), values.to_vec()))
    }

    /// One unit vector a row.
    fn vectors(
        &self,
        items: usize,
        dim: usize,
        shape: &[i64],
        values: &[f32],
    ) -> Result<Vec<Embedding>, VisionError> {
        let expected = [items, dim].map(|n| i64::try_from(n).unwrap_or(i64::MAX));
        if shape != expected || values.len() != items * dim {
            return Err(VisionError::OutputShape {
                model: self.model.clone(),
                tower: self.tower,
                output: self.output.clone(),
                found: shape.to_vec(),
                expected: expected.to_vec(),
            });
        }
        values
            .chunks_exact(dim)
            .map(|row| {
                Embedding::normalised(row.to_vec()).map_err(|source| VisionError::NoDirection {
                    model: self.model.clone(),
                    tower: self.tower,
                    source,
                })
            })
            .collect()
    }
}

/// `[n, 3, side, side]` normalised values from rows of red, green, blue.
fn planes(batch: &[Pixels], area: usize, normalisation: &[[f32; 256]; 3]) -> Vec<f32> {
    let mut planes = vec![0.0; batch.len() * 3 * area];
    for (picture, planes) in batch.iter().zip(planes.chunks_exact_mut(3 * area)) {
        for (channel, plane) in planes.chunks_exact_mut(area).enumerate() {
            let values = picture.rgb.iter().skip(channel).step_by(3);
            for (cell, value) in plane.iter_mut().zip(values) {
                *cell = normalisation[channel][usize::from(*value)];
            }
        }
    }
    planes
}

fn session(
    engine: &Engine,
    options: EngineOptions,
    files: &ModelFiles,
    tower: Tower,
) -> ort::Result<Session> {
    // The default with ONNX Runtime; tract, not told, runs the graph as it was written.
    let mut builder = Session::builder(&engine.environment)?
        .with_optimization_level(GraphOptimizationLevel::All)?;
    // tract knows none of these options.
    if let FoundEngine::OnnxRuntime { .. } = engine.found {
        builder = builder
            .with_intra_threads(options.threads)?
            .with_inter_threads(1)?
            .with_intra_op_spinning(false)?;
        if options.device == Device::Cuda {
            let cuda = ort::ep::CUDA::default().build().error_on_failure();
            builder = builder.with_execution_providers([cuda])?;
        }
    }
    match files.network(tower) {
        Network::Bytes(bytes) => builder.commit_from_memory(bytes),
        Network::File(path) => builder.commit_from_file(path),
    }
}
