//! Films, documents and links are not scored, but reported. All of a kind in a folder are one row of
//! the queue, so that nobody can flood it, and a row that was decided comes back with the next file.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::moderation::{FileKind, FileStat, ItemId, Reason, Sighting, Uploader};
use crate::store::{Standing, StoreError, UnjudgedFolder};

use super::monitor::now;
use super::prepare::{Content, Prepared};
use super::reconcile::{Extent, Part, Scanned, Scanner};

/// Names that are kept for whoever opens the row, at most.
const NAMES: usize = 20;

/// The files of one kind in one folder.
#[derive(Debug, Default)]
pub(super) struct InFolder {
    files: u64,
    bytes: u64,
    newest_ns: i64,
    names: Vec<OsString>,
}

impl InFolder {
    /// What tells these files from others.
    fn stat(&self) -> FileStat {
        let Self { files, bytes, newest_ns, .. } = *self;
        FileStat { size: bytes, mtime_ns: newest_ns, ctime_ns: newest_ns, inode: files }
    }
}

/// The folder's path as the row of a kind spells it: a path has one item, and a folder several.
fn spelled(folder: &Path, kind: FileKind) -> PathBuf {
    let mut path = folder.as_os_str().to_owned();
    for _ in 0..=kind as usize {
        path.push("/.");
    }
    path.into()
}

/// Stands in for the bytes of the files; `newest` tells those that a person has not decided on.
fn item_of(path: &Path, newest_ns: i64, files: u64) -> ItemId {
    let mut name = path.as_os_str().as_encoded_bytes().to_owned();
    // A path has no zero byte.
    name.extend(format!("\0{newest_ns} {files}").into_bytes());
    ItemId::of_unread(&name)
}

fn reason_of(kind: FileKind, files: u64) -> Reason {
    let count = kind.count(files);
    if kind == FileKind::Link {
        Reason::Unreadable(format!("{count}, which modtool does not follow"))
    } else {
        Reason::Unjudged(count)
    }
}

impl Scanner {
    /// Counts a file that is no picture.
    pub(super) fn note(&self, kind: FileKind, path: &Path, stat: FileStat, scanned: &mut Scanned) {
        let counted = kind != FileKind::Other || self.told.contains(&kind);
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return };
        if !counted {
            return;
        }
        let files = scanned.folders.entry((folder.to_owned(), kind)).or_default();
        files.files += 1;
        files.bytes = files.bytes.saturating_add(stat.size);
        files.newest_ns = files.newest_ns.max(stat.ctime_ns);
        if files.names.len() < NAMES {
            files.names.push(name.to_owned());
        }
    }

    /// Queues what a part of a root holds besides pictures, and takes rows out of the queue whose
    /// files are gone.
    pub(super) async fn tell_unjudged(
        &self,
        part: &Part,
        scanned: &mut Scanned,
    ) -> Result<(), StoreError> {
        let (from, to) = range_of(part);
        let known = self.store.unjudged_folders(&part.root, &from, &to).await?;
        // By their bytes: to the standard library `a/.` is `a`.
        let mut known: HashMap<OsString, UnjudgedFolder> = known
            .into_iter()
            .map(|row| (row.sighting.path.clone().into_os_string(), row))
            .collect();
        let (mut unchanged, mut flagged) = (0, 0);
        for ((folder, kind), files) in &scanned.folders {
            if !self.told.contains(kind) {
                continue;
            }
            let path = spelled(folder, *kind);
            let before = known.remove(path.as_os_str());
            match self.tell_folder(&part.root, path, *kind, files, before).await? {
                Standing::Clear => unchanged += 1,
                Standing::Flagged => (unchanged, flagged) = (unchanged + 1, flagged + 1),
                Standing::New | Standing::Otherwise => {}
            }
        }
        scanned.unchanged += unchanged;
        scanned.flagged_before += flagged;
        let unseen = |row: &UnjudgedFolder| {
            let path = &row.sighting.path;
            scanned.unreadable.iter().any(|folder| path.starts_with(folder))
        };
        for row in known.into_values().filter(|row| !unseen(row)) {
            self.store.forget_unjudged_folder(&row.sighting.path, now()).await?;
        }
        Ok(())
    }

    /// Answers how the row stood.
    async fn tell_folder(
        &self,
        root: &Path,
        path: PathBuf,
        kind: FileKind,
        files: &InFolder,
        before: Option<UnjudgedFolder>,
    ) -> Result<Standing, StoreError> {
        let stat = files.stat();
        let standing = self.store.standing(&[(path.clone(), stat)], &self.judged_with).await?;
        if let [standing @ (Standing::Clear | Standing::Flagged)] = standing.as_slice() {
            return Ok(*standing);
        }
        let nothing_new =
            |row: &UnjudgedFolder| files.newest_ns <= row.newest_ns && files.files <= row.files;
        // A decision covers what lay there then; whatever came since is another item.
        let item = match &before {
            Some(row) if row.waiting || nothing_new(row) => row.item,
            _ => item_of(&path, files.newest_ns, files.files),
        };
        let sighting = Sighting { path, root: root.to_owned() };
        let row = UnjudgedFolder {
            sighting: sighting.clone(),
            item,
            files: files.files,
            newest_ns: files.newest_ns,
            names: files.names.iter().map(PathBuf::from).collect(),
            waiting: true,
        };
        self.store.note_unjudged_folder(&row).await?;
        let uploader = Uploader::top_folder(&sighting).map_or(Uploader::Operator, Uploader::Folder);
        let content = Content::Unjudged(reason_of(kind, files.files));
        let prepared = Prepared { sighting, item, stat, content, recipe: self.unjudged.clone() };
        let unread = self.unread.clone();
        // Nobody takes it only while the run is being stopped.
        let _ = tokio::task::spawn_blocking(move || unread.push(uploader, 1, prepared)).await;
        Ok(Standing::New)
    }

    /// Says how many files of each kind the full scan came upon.
    pub(super) async fn count_kinds(
        &self,
        roots: &[PathBuf],
        scanned: &HashMap<Part, Scanned>,
    ) -> Result<(), StoreError> {
        let mut all = BTreeMap::<FileKind, u64>::new();
        for root in roots {
            let mut counted = BTreeMap::<FileKind, u64>::new();
            let parts = scanned.iter().filter(|(part, _)| part.root == *root);
            for ((_, kind), files) in parts.flat_map(|(_, scanned)| &scanned.folders) {
                *counted.entry(*kind).or_default() += files.files;
                *all.entry(*kind).or_default() += files.files;
            }
            let counted: Vec<_> = counted.into_iter().collect();
            self.store.record_media(root, &counted).await?;
        }
        self.monitor.set_media(all);
        Ok(())
    }

    /// Takes rows out of the queue whose folder is gone, which no scan comes upon.
    pub(super) async fn forget_gone_folders(&self, roots: &[PathBuf]) -> Result<(), StoreError> {
        for root in roots {
            let (root, folder) = (root.clone(), root.clone());
            let all = Part { root, folder, extent: Extent::Everything };
            let (from, to) = range_of(&all);
            for row in self.store.unjudged_folders(&all.root, &from, &to).await? {
                // Dots and slashes at the end lead nowhere else.
                let path: PathBuf = row.sighting.path.components().collect();
                let folder = Sighting { path, root: all.root.clone() };
                if folder.path != folder.root && self.is_gone(&folder) {
                    self.store.forget_unjudged_folder(&row.sighting.path, now()).await?;
                }
            }
        }
        Ok(())
    }

    /// Tasks about files that were renamed name a place where the file is.
    pub(super) async fn name_what_is_there(&self, roots: &[PathBuf]) -> Result<(), StoreError> {
        for sighting in self.store.tasks_with_twins().await? {
            if roots.contains(&sighting.root) && self.is_gone(&sighting) {
                self.store.leave(&sighting.path, now()).await?;
            }
        }
        Ok(())
    }

    fn is_gone(&self, sighting: &Sighting) -> bool {
        super::record::is_gone(&self.roots, sighting)
    }
}

/// The paths of the rows that a part may have, the second not included.
fn range_of(part: &Part) -> (Vec<u8>, Vec<u8>) {
    let bytes = part.folder.as_os_str().as_encoded_bytes();
    let with = |end: &[u8]| [bytes, end].concat();
    match part.extent {
        // `/` and `0` are neighbours.
        Extent::Everything => (with(b"/"), with(b"0")),
        // Of the folder itself alone: every kind has two dots at least.
        Extent::FilesAlone => (with(b"/./"), with(b"/.0")),
    }
}
