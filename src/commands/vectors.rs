//! The flat vector file of a workspace, brought in step with the store before a search.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::path::PathBuf;

use crate::config::Config;
use crate::search::{VectorFile, VectorRow};
use crate::store::Store;
use crate::vision::ModelCard;

/// So many vectors are copied in one go.
const PAGE: u32 = 2000;

/// The folder of the vector files; what is in it can be deleted at any time.
pub(super) fn folder(config: &Config) -> PathBuf {
    config.workspace.join("vectors")
}

/// The vector file of a model in this workspace.
pub(super) fn file(config: &Config, card: &ModelCard) -> VectorFile {
    VectorFile::new(&folder(config), &card.fingerprint, card.embedding_dim)
}

/// Makes the vector files forget what is too old in the store: they are overwritten and removed,
/// and begun anew at the next search.
///
/// # Errors
/// When a file can't be written or removed.
pub(super) fn forget(config: &Config) -> io::Result<()> {
    let entries = match std::fs::read_dir(folder(config)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let path = entry?.path();
        if path.is_file() {
            overwrite(&path)?;
        }
    }
    Ok(())
}

/// Zeroes the vectors of one item in every vector file of this workspace, of whichever model; a
/// file that is none of ours is overwritten and removed. Answers how many vectors there were.
///
/// # Errors
/// When a file can't be read, written or removed.
pub(super) fn erase(config: &Config, item: i64) -> anyhow::Result<u64> {
    let entries = match std::fs::read_dir(folder(config)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error.into()),
    };
    let mut erased = 0;
    for entry in entries {
        let path = entry?.path();
        match VectorFile::at(&path)? {
            Some(file) => erased += file.erase(item)?,
            None if path.is_file() => overwrite(&path)?,
            None => {}
        }
    }
    Ok(erased)
}

fn overwrite(path: &std::path::Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let length = file.metadata()?.len();
    io::copy(&mut io::repeat(0).take(length), &mut file)?;
    file.sync_all()?;
    std::fs::remove_file(path)
}

/// Adds to the file what the store has and it has not. `progress` is told how many vectors were
/// copied so far. Files of this workspace are begun anew when the store has fewer vectors than
/// they know: it was replaced, or vectors were erased.
pub(super) async fn bring_up_to_date(
    store: &Store,
    card: &ModelCard,
    file: &VectorFile,
    mut progress: impl FnMut(u64),
) -> anyhow::Result<()> {
    // Other processes may be at it: waiting for them must not hold up the runtime.
    let mut appending = tokio::task::block_in_place(|| file.append())?;
    if appending.last() > store.last_vector().await? {
        drop(appending);
        std::fs::remove_file(file.path())?;
        appending = tokio::task::block_in_place(|| file.append())?;
    }
    let mut copied = 0;
    loop {
        let page = store.vectors(&card.fingerprint, appending.last(), PAGE).await?;
        if page.is_empty() {
            return Ok(());
        }
        copied += page.len() as u64;
        let rows: Vec<VectorRow> = page
            .into_iter()
            .map(|vector| VectorRow {
                number: vector.number,
                item: vector.item,
                embedding: vector.embedding,
            })
            .collect();
        tokio::task::block_in_place(|| appending.add(&rows))?;
        progress(copied);
    }
}
