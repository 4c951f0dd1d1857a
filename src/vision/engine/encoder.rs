//! A model's two networks on the engine of this process.

use std::borrow::Cow;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use ort::session::builder::GraphOptimizationLevel;
use ort::session::{Session, SessionInputValue};
use ort::value::TensorElementType;

use super::{Device, Engine, EngineOptions, FoundEngine, gelu, lean, single, tensor};
use crate::vision::model::{HeldFile, Network};
use crate::vision::sandbox::LargeBlocksGoBack;
use crate::vision::tokenize::{TextReader, Tokens};
use crate::vision::{
    Embedding, Encoder, Model, ModelCard, Pixels, Readability, Tower, VisionError,
};

/// The built-in [`Encoder`].
pub(super) struct Towers {
    model: Model,
    engine: Engine,
    options: EngineOptions,
    reader: TextReader,
    /// Images that can go through at the same time.
    lanes: usize,
    image: Slot,
    /// Opened for the first text that nobody remembers, given up when pictures come: texts are
    /// embedded once, pictures all day.
    text: Slot,
}

/// A network once it is opened.
type Slot = Mutex<Option<Arc<Lanes>>>;

/// A network for pictures that takes no more bytes than this is opened at once, as is one for a GPU:
/// what is wrong with it shows early. A larger one waits until the texts have gone through theirs,
/// because both together need twice the memory.
const SMALL: u64 = 256 << 20;

/// All lanes' copies of a network may take so many bytes: two of a ViT-B. A network that leaves no
/// room for a second lane has layers that are large enough to be shared by threads.
const MAX_COPIES: u64 = 768 << 20;

/// The sessions of one network that may run at the same time, one a core: threads that share a
/// network meet at each of its layers and wait for the slowest (a sixth of the time of ViT-B/32 on
/// two cores). A large network and that for texts have one session on ONNX Runtime, which is parallel
/// inside; tract computes on one thread only.
struct Lanes {
    names: Names,
    free: Mutex<Vec<Session>>,
    freed: Condvar,
    count: usize,
    /// The most items that go through together.
    batch: usize,
    /// What the sessions may still read from: ONNX Runtime maps weights.
    held: Vec<HeldFile>,
}

/// The network's inputs and the output that is wanted.
struct Names {
    model: String,
    tower: Tower,
    /// `pixel_values` or `input_ids`.
    input: String,
    input_type: Option<TensorElementType>,
    mask: Option<String>,
    mask_type: Option<TensorElementType>,
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
        let network = model.files.network(Tower::Image);
        let small = network.bytes().is_some_and(|bytes| bytes <= SMALL);
        let image = (small || options.device == Device::Cuda)
            .then(|| {
                let _loading = LargeBlocksGoBack::start();
                Lanes::open(model, engine, options, Tower::Image).map(Arc::new)
            })
            .transpose()?;
        Ok(Self {
            lanes: count_lanes(engine, options, &network, Tower::Image),
            image: Mutex::new(image),
            text: Mutex::default(),
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

    fn lanes(&self) -> usize {
        self.lanes
    }

    fn open_for_pictures(&self) -> Result<(), VisionError> {
        *lock(&self.text) = None;
        self.opened(Tower::Image).map(|_lanes| ())
    }

    fn embed_images(&self, pictures: &[Pixels]) -> Result<Vec<Embedding>, VisionError> {
        *lock(&self.text) = None;
        let expected = self.model.card.image.size;
        let bytes = self.model.card.image.bytes();
        let fits = |p: &&Pixels| p.size == expected && p.rgb.len() == bytes;
        if let Some(other) = pictures.iter().find(|picture| !fits(picture)) {
            return Err(VisionError::PictureSize { found: other.size, expected });
        }
        let (dim, spec) = (self.model.card.embedding_dim, &self.model.card.image);
        // Lanes side by side have a core each.
        let threads = if self.lanes == 1 { self.options.threads } else { 1 };
        self.opened(Tower::Image)?.embed(pictures, dim, |session, names, batch| {
            let tensor = tensor::pictures(spec, batch, threads, names.input_type)?;
            names.run(session, vec![(names.input.as_str().into(), tensor)])
        })
    }

    fn embed_texts(&self, texts: &[String]) -> Result<Vec<Embedding>, VisionError> {
        let tokens: Vec<Tokens> =
            texts.iter().map(|text| self.reader.read(text)).collect::<Result<_, _>>()?;
        let lanes = self.opened(Tower::Text)?;
        let dim = self.model.card.embedding_dim;
        lanes.embed(&tokens, dim, |session, names, batch| {
            let ids: Vec<i64> = batch.iter().flat_map(|text| text.ids.iter().copied()).collect();
            let length = batch.first().map_or(0, |text| text.ids.len());
            let shape = [batch.len(), length];
            let mut inputs: Vec<(Cow<str>, SessionInputValue)> = vec![(
                names.input.as_str().into(),
                tensor::integers(shape, ids, names.input_type)?,
            )];
            // 1 for a text's own tokens, 0 for padding, as the tokenizers of the families do.
            let mask: Vec<i64> = batch
                .iter()
                .flat_map(|text| (0..length).map(|place| i64::from(place < text.length)))
                .collect();
            if let Some(name) = &names.mask {
                let tensor = tensor::integers(shape, mask, names.mask_type)?;
                inputs.push((name.as_str().into(), tensor));
            }
            names.run(session, inputs)
        })
    }

    fn count_tokens(&self, text: &str) -> Result<usize, VisionError> {
        self.reader.count(text)
    }

    fn readability(&self, text: &str) -> Result<Readability, VisionError> {
        self.reader.readability(text)
    }
}

impl Towers {
    fn opened(&self, tower: Tower) -> Result<Arc<Lanes>, VisionError> {
        let slot = match tower {
            Tower::Image => &self.image,
            Tower::Text => &self.text,
        };
        let mut slot = lock(slot);
        if let Some(lanes) = &*slot {
            return Ok(Arc::clone(lanes));
        }
        let _loading = LargeBlocksGoBack::start();
        let lanes = Lanes::open(&self.model, &self.engine, self.options, tower)?;
        Ok(Arc::clone(slot.insert(Arc::new(lanes))))
    }
}

/// How many sessions of a network may run at the same time.
fn count_lanes(engine: &Engine, options: EngineOptions, network: &Network, tower: Tower) -> usize {
    let room = MAX_COPIES / network.bytes().unwrap_or(u64::MAX).max(1);
    match (options.device, tower) {
        (Device::Cuda, _) => 1,
        _ if matches!(engine.found, FoundEngine::Tract { .. }) => options.threads,
        // Texts are few, and a second copy would take longer to load than it spares.
        (_, Tower::Text) => 1,
        (_, Tower::Image) => usize::try_from(room).unwrap_or(1).clamp(1, options.threads),
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
        let on_tract = matches!(engine.found, FoundEngine::Tract { .. });
        let refused = |source| VisionError::Load {
            engine: engine.found.name(),
            model: model.card.name.clone(),
            tower,
            source,
        };
        let held = model.files.check(tower)?;
        let network = model.files.network(tower);
        let count = count_lanes(engine, options, &network, tower);
        // Rather one thread too many than an idle core.
        let threads = options.threads.div_ceil(count);
        let options = EngineOptions { threads, ..options };
        let open = |network: &Network| -> ort::Result<Vec<Session>> {
            let sessions = side_by_side((0..count).map(|_| || session(engine, options, network)));
            sessions.into_iter().collect()
        };
        // Each engine has another form that suits it better; what it can't do with that one it may
        // still do with the file as it is, or the other way round.
        let lean = if on_tract { None } else { network.lean() };
        let (sessions, mut batch) = match open(lean.as_ref().unwrap_or(&network)) {
            Ok(sessions) => (sessions, options.batch),
            Err(error) if lean.is_some() => {
                tracing::debug!(%tower, %error, "loading the network as it is");
                (open(&network).map_err(refused)?, options.batch)
            }
            Err(error) => {
                let single = network.one_at_a_time().filter(|_| on_tract);
                let Some(network) = single else { return Err(refused(error)) };
                tracing::debug!(%tower, %error, "trying again with one item at a time");
                (open(&network).map_err(refused)?, 1)
            }
        };
        let names = Names::of(&sessions[0], model, tower)?;
        if tensor::takes_one_item(sessions[0].inputs(), &names.input) {
            batch = 1;
        }
        let held = if on_tract { Vec::new() } else { held };
        Ok(Self { names, free: Mutex::new(sessions), freed: Condvar::new(), count, batch, held })
    }

    /// Cuts the items into batches, runs them on as many lanes as there are batches and puts the
    /// answers in order.
    fn embed<T: Sync>(
        &self,
        items: &[T],
        dim: usize,
        run: impl Fn(&mut Session, &Names, &[T]) -> ort::Result<Answer> + Sync,
    ) -> Result<Vec<Embedding>, VisionError> {
        let names = &self.names;
        let one_batch = |session: &mut Session, items: &[T]| {
            let (shape, values) = run(session, names, items).map_err(|source| {
                VisionError::Run { model: names.model.clone(), tower: names.tower, source }
            })?;
            names.vectors(items.len(), dim, &shape, &values)
        };
        let batches: Vec<&[T]> = items.chunks(self.batch).collect();
        let next = AtomicUsize::new(0);
        let worker = || {
            let mut lane = self.lane();
            let mut done = Vec::new();
            loop {
                let place = next.fetch_add(1, Ordering::Relaxed);
                let (Some(items), Some(session)) = (batches.get(place), &mut lane.session) else {
                    return Ok(done);
                };
                done.push((place, one_batch(session, items)?));
            }
        };
        let mut parts = Vec::with_capacity(batches.len());
        for done in side_by_side((0..self.count.min(batches.len())).map(|_| worker)) {
            parts.extend(done?);
        }
        // Afterwards: what was read until now is what it was.
        self.held.iter().try_for_each(HeldFile::unchanged)?;
        parts.sort_by_key(|(place, _)| *place);
        Ok(parts.into_iter().flat_map(|(_, embeddings)| embeddings).collect())
    }

    /// A session that nobody uses; waits for one.
    fn lane(&self) -> Lane<'_> {
        let mut free = lock(&self.free);
        loop {
            match free.pop() {
                Some(session) => return Lane { lanes: self, session: Some(session) },
                None => free = self.freed.wait(free).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

/// A session in use; it goes back when this is dropped, also in a panic.
struct Lane<'a> {
    lanes: &'a Lanes,
    session: Option<Session>,
}

impl Drop for Lane<'_> {
    fn drop(&mut self) {
        lock(&self.lanes.free).extend(self.session.take());
        self.lanes.freed.notify_one();
    }
}

/// Runs each piece of work on a thread of its own (the first on this one) and answers in order.
fn side_by_side<T: Send, F: FnOnce() -> T + Send>(work: impl IntoIterator<Item = F>) -> Vec<T> {
    let mut work = work.into_iter();
    let Some(first) = work.next() else { return Vec::new() };
    thread::scope(|scope| {
        let others: Vec<_> = work.map(|work| scope.spawn(work)).collect();
        let mut answers = vec![first()];
        for other in others {
            answers.push(other.join().unwrap_or_else(|cause| std::panic::resume_unwind(cause)));
        }
        answers
    })
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
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
        let typed = |name: &str| tensor::element_type(session.inputs(), name);
        let mask_type = mask.as_deref().and_then(typed);
        let (model, input_type) = (model.card.name.clone(), typed(&input));
        Ok(Self { model, tower, input, input_type, mask, mask_type, output })
    }

    /// Runs the network and takes the one output that is wanted.
    fn run(
        &self,
        session: &mut Session,
        inputs: Vec<(Cow<'_, str>, SessionInputValue<'_>)>,
    ) -> ort::Result<Answer> {
        let outputs = session.run(inputs)?;
        tensor::answer(&outputs, &self.output)
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

/// Where a network from memory has its external data: a key of ONNX Runtime's session options.
const WEIGHTS_FOLDER: &str = "session.model_external_initializers_file_folder_path";

fn session(engine: &Engine, options: EngineOptions, network: &Network) -> ort::Result<Session> {
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
    match network {
        Network::Bytes(bytes) => builder.commit_from_memory(bytes),
        Network::File(path) => builder.commit_from_file(path),
        Network::Graph { graph, folder } => {
            builder.with_config_entry(WEIGHTS_FOLDER, folder)?.commit_from_memory(graph)
        }
    }
}

impl Network {
    /// How large it is, with the weights that may lie beside it; `None` when it can't be told.
    fn bytes(&self) -> Option<u64> {
        let size = |path: &Path| Some(std::fs::metadata(path).ok()?.len());
        match self {
            Self::Bytes(bytes) => u64::try_from(bytes.len()).ok(),
            Self::File(path) => {
                let mut beside = path.clone().into_os_string();
                beside.push("_data");
                Some(size(path)? + size(Path::new(&beside)).unwrap_or(0))
            }
            Self::Graph { .. } => None,
        }
    }

    /// The network as ONNX Runtime loads it faster and runs it faster; `None` when it has no such
    /// form.
    fn lean(&self) -> Option<Self> {
        match self {
            Self::Bytes(bytes) => Some(Self::Bytes(gelu::joined(bytes)?.into())),
            Self::File(path) => {
                let (graph, left) = lean::graph_of(path)
                    .inspect_err(|error| tracing::debug!(%error, "weights are read with the graph"))
                    .ok()?;
                let graph = gelu::joined(&graph).unwrap_or(graph);
                tracing::debug!(bytes = graph.len(), left, "weights stay in the file");
                Some(Self::Graph { graph, folder: path.parent()?.to_str()?.to_owned() })
            }
            Self::Graph { .. } => None,
        }
    }

    /// The network changed to a batch of one; `None` when it can't be read or is no network.
    fn one_at_a_time(&self) -> Option<Self> {
        let changed = match self {
            Self::Bytes(bytes) => single::one_at_a_time(bytes),
            Self::File(path) => single::one_at_a_time(&std::fs::read(path).ok()?),
            Self::Graph { .. } => None,
        };
        changed.map(|bytes| Self::Bytes(bytes.into()))
    }
}
