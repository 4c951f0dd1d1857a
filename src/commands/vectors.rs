//! The flat vector file of a workspace, brought in step with the store before a search.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

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

/// The vectors of decided items alone, one view each; what is in it is in the store too.
pub(super) fn decided_file(config: &Config, card: &ModelCard) -> VectorFile {
    VectorFile::new(&decided_folder(config), &card.fingerprint, card.embedding_dim)
}

fn decided_folder(config: &Config) -> PathBuf {
    folder(config).join("decided")
}

/// Makes the vector files forget what is too old in the store: they are overwritten and removed,
/// and begun anew at the next search.
///
/// # Errors
/// When a file can't be written or removed.
pub(super) fn forget(config: &Config) -> io::Result<()> {
    files(config)?.iter().try_for_each(|path| overwrite(path))
}

/// Every file in the folders of vectors.
fn files(config: &Config) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for folder in [folder(config), decided_folder(config)] {
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let path = entry?.path();
            if path.is_file() {
                files.push(path);
            }
        }
    }
    Ok(files)
}

/// Zeroes the vectors of one item in every vector file of this workspace, of whichever model; a
/// file that is none of ours is overwritten and removed. Answers how many vectors there were.
///
/// # Errors
/// When a file can't be read, written or removed.
pub(super) fn erase(config: &Config, item: i64) -> anyhow::Result<u64> {
    let mut erased = 0;
    for path in files(config)? {
        match VectorFile::at(&path)? {
            Some(file) => erased += file.erase(item)?,
            None => overwrite(&path)?,
        }
    }
    Ok(erased)
}

fn overwrite(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let length = file.metadata()?.len();
    io::copy(&mut io::repeat(0).take(length), &mut file)?;
    file.sync_all()?;
    std::fs::remove_file(path)
}

/// Adds to the file what the store has and it has not. `progress` is told how many vectors were
/// copied so far. Files of this workspace are begun anew when the store has fewer vectors than
/// they know (it was replaced, or vectors were erased), and when it has replaced some since.
pub(super) async fn bring_up_to_date(
    store: &Store,
    card: &ModelCard,
    file: &VectorFile,
    mut progress: impl FnMut(u64),
) -> anyhow::Result<()> {
    // Other processes may be at it: waiting for them must not hold up the runtime.
    let mut appending = tokio::task::block_in_place(|| file.append())?;
    let replaced = store.replaced_up_to(&card.fingerprint).await?;
    let stale = (1..replaced).contains(&appending.last());
    if stale || appending.last() > store.last_vector().await? {
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
