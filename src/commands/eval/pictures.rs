//! Many pictures through the model, as the reference implementation sees them: decoded in the
//! cage by as many threads as there are cores, encoded in batches.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use crate::commands::progress::pictures_bar;
use crate::moderation::{Embedding, Reason, Uploader};
use crate::vision::{DecoderPool, Encoder, Pixels, SandboxError};

/// What came of each picture, in their order; only an error of the decoder itself ends it.
pub(super) fn embed(
    encoder: &dyn Encoder,
    decoders: &DecoderPool,
    batch: usize,
    pictures: &[&Path],
) -> Result<Vec<Result<Embedding, Reason>>, SandboxError> {
    let batch = batch * encoder.lanes();
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let bar = pictures_bar(&encoder.model().name, pictures.len() as u64);
    let next = AtomicUsize::new(0);
    let (sender, decoded) = mpsc::sync_channel(2 * batch);
    let mut embedded: Vec<Option<Result<Embedding, Reason>>> =
        pictures.iter().map(|_| None).collect();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(path) = pictures.get(index) else { return };
                    // The receiver is gone only when the decoder failed, which ends it all.
                    if sender.send((index, decode(encoder, decoders, path))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut waiting = Vec::with_capacity(batch);
        for (index, one) in decoded {
            match one? {
                Ok(pixels) => waiting.push((index, pixels)),
                Err(reason) => embedded[index] = Some(Err(reason)),
            }
            if waiting.len() == batch {
                encode(encoder, std::mem::take(&mut waiting), &mut embedded);
            }
            bar.inc(1);
        }
        encode(encoder, waiting, &mut embedded);
        Ok(())
    })?;
    bar.finish_and_clear();
    let lost = || Err(Reason::Undecodable("it was lost on the way".into()));
    Ok(embedded.into_iter().map(|one| one.unwrap_or_else(lost)).collect())
}

fn decode(
    encoder: &dyn Encoder,
    decoders: &DecoderPool,
    path: &Path,
) -> Result<Result<Pixels, Reason>, SandboxError> {
    let bytes = match read(path, decoders.limits().file_bytes) {
        Ok(bytes) => bytes,
        Err(error) => return Ok(Err(Reason::Unreadable(error.to_string()))),
    };
    let views = decoders.reference_view(&bytes, &encoder.model().image, &Uploader::Operator)?;
    Ok(match views.map(|mut views| views.views.pop()) {
        Ok(Some(pixels)) => Ok(pixels),
        Ok(None) => Err(Reason::Undecodable("it has no frame".into())),
        Err(flaw) => Err(Reason::Undecodable(flaw.to_string())),
    })
}

/// A regular file's bytes: a pipe could hang us.
pub(super) fn read(path: &Path, limit: u64) -> std::io::Result<Vec<u8>> {
    let about = std::fs::metadata(path)?;
    if !about.is_file() {
        return Err(std::io::Error::other("it is no regular file"));
    }
    if about.len() > limit {
        return Err(std::io::Error::other(format!("it has more than {limit} bytes")));
    }
    std::fs::read(path)
}

/// When a batch fails, each picture is tried alone: one costs only itself.
fn encode(
    encoder: &dyn Encoder,
    waiting: Vec<(usize, Pixels)>,
    embedded: &mut [Option<Result<Embedding, Reason>>],
) {
    let (places, pixels): (Vec<usize>, Vec<Pixels>) = waiting.into_iter().unzip();
    if let Ok(all) = encoder.embed_images(&pixels) {
        for (place, embedding) in places.into_iter().zip(all) {
            embedded[place] = Some(Ok(embedding));
        }
        return;
    }
    for (place, pixels) in places.into_iter().zip(pixels) {
        let alone = encoder.embed_images(&[pixels]).map(|mut one| one.pop());
        embedded[place] = match alone {
            Ok(one) => one.map(Ok),
            Err(failed) => Some(Err(Reason::Undecodable(format!("the model failed: {failed}")))),
        };
    }
}
