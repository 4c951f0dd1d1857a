//! Folders that can't be read: each is queued for review, as a file that can't be read is.

use std::io;
use std::path::{Path, PathBuf};

use tracing::warn;

use crate::files::{is_starved, plain_words};
use crate::moderation::escape::escape_path;
use crate::moderation::{FileStat, ItemId, Reason, Sighting, Uploader};
use crate::store::{Standing, StoreError};

use super::monitor::now;
use super::prepare::{Content, Prepared};
use super::reconcile::{Scanned, Scanner};

/// Stands in for the bytes of everything in a folder. A file has no name that ends with a slash.
fn item_of(folder: &Path) -> ItemId {
    let mut name = folder.as_os_str().as_encoded_bytes().to_owned();
    name.push(b'/');
    ItemId::of_unread(&name)
}

impl Scanner {
    /// Queues a folder for review that can't be read, or has entries that can't be looked at.
    pub(super) async fn tell_unreadable(
        &self,
        root: &Path,
        path: PathBuf,
        error: &io::Error,
        scanned: &mut Scanned,
    ) -> Result<(), StoreError> {
        if is_starved(error) {
            // That says nothing about the folder.
            scanned.starved = true;
            return Ok(());
        }
        if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) {
            // It went away, or became a link, since it was found.
            return Ok(());
        }
        let folder = self.folder_at(root, path);
        if !scanned.unreadable.insert(folder.clone()) {
            return Ok(());
        }
        warn!(path = %escape_path(&folder), %error, "a folder can't be read; it is put into the queue");
        let sighting = Sighting { path: folder, root: root.to_owned() };
        let none = FileStat { size: 0, mtime_ns: 0, ctime_ns: 0, inode: 0 };
        let stat = self.roots.stat(&sighting).ok().flatten().map_or(none, |stat| stat.file);
        let known = [(sighting.path.clone(), stat)];
        let standing = self.store.standing(&known, &self.judged_with).await?;
        if standing != [Standing::New] {
            return Ok(());
        }
        let why = plain_words(error);
        let content = Content::Unjudged(Reason::Unreadable(format!("folder: {why}")));
        let uploader = Uploader::top_folder(&sighting).map_or(Uploader::Operator, Uploader::Folder);
        let prepared = Prepared {
            item: item_of(&sighting.path),
            sighting,
            stat,
            content,
            recipe: self.unjudged.clone(),
        };
        let unread = self.unread.clone();
        // Nobody takes it only while the run is being stopped.
        let _ = tokio::task::spawn_blocking(move || unread.push(uploader, 1, prepared)).await;
        Ok(())
    }

    /// Takes folders out of the queue that can be read again, or are gone.
    pub(super) async fn close_readable(&self, roots: &[PathBuf]) -> Result<(), StoreError> {
        for (sighting, item) in self.store.unread_waiting().await? {
            let watched = roots.contains(&sighting.root) && item == item_of(&sighting.path);
            if watched && self.is_readable(&sighting) {
                self.store.read_at_last(&sighting.path, now()).await?;
            }
        }
        Ok(())
    }

    /// Whether everything in the folder can be listed and looked at, or it is no folder any more.
    fn is_readable(&self, sighting: &Sighting) -> bool {
        let Ok(held) = self.roots.root(&sighting.root) else { return false };
        let below = sighting.path.strip_prefix(&sighting.root).unwrap_or(Path::new(""));
        let denied = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
        let folder = match held.folder.folder(below) {
            Ok(folder) => folder,
            Err(error) => return !denied(&error),
        };
        let Ok(names) = folder.names() else { return false };
        let first = names.take(1).next();
        first.is_none_or(|name| name.is_ok_and(|name| folder.stat(Path::new(&name)).is_ok()))
    }

    /// The folder that can't be read: the path, or where an entry lies that can't be looked at.
    fn folder_at(&self, root: &Path, path: PathBuf) -> PathBuf {
        let sighting = Sighting { path, root: root.to_owned() };
        let looked_at = matches!(self.roots.stat(&sighting), Ok(Some(_)));
        match sighting.path.parent() {
            Some(parent) if !looked_at && sighting.path != root => parent.to_owned(),
            _ => sighting.path,
        }
    }
}
