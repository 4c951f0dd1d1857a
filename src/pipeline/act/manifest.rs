//! `quarantine/ab/abcd….FILE.json`: where the bytes beside it came from and what belonged to the
//! file, one manifest a path (`FILE` is the beginning of the path's SHA-256). Enough to put
//! everything back by hand, without the database.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::files::{Kept, Stat};
use crate::moderation::ItemId;
use crate::moderation::escape::escape_path;
use crate::store::Placement;

use super::quarantine::{MoveError, io_error, sync_folder_of};

/// The manifests of an item.
pub(super) struct Manifests {
    /// The folder that they and the item lie in.
    folder: PathBuf,
    item: ItemId,
}

impl Manifests {
    /// Beside the item's place in the quarantine.
    pub(super) fn beside(place: &Path, item: ItemId) -> Self {
        Self { folder: place.parent().unwrap_or(place).to_owned(), item }
    }

    fn of(&self, path: &Path) -> PathBuf {
        let name = ItemId::of_bytes(path.as_os_str().as_encoded_bytes()).to_string();
        self.folder.join(format!("{}.{}.json", self.item, &name[..16]))
    }

    /// The one that versions before this had for all paths together.
    fn of_all(&self) -> PathBuf {
        self.folder.join(format!("{}.json", self.item))
    }

    /// Writes down where the bytes come from and what belongs to the file.
    pub(super) fn note(
        &self,
        placement: &Placement,
        stat: &Stat,
        kept: &Kept,
    ) -> Result<(), MoveError> {
        let path = placement.sighting.path.as_path();
        let manifest = json!({
            "item": self.item.to_string(),
            "path": escape_path(path),
            "path_b64": STANDARD.encode(path.as_os_str().as_encoded_bytes()),
            "bytes": stat.file.size,
            "mode": kept.mode.map(|mode| format!("{mode:o}")),
            "owner": kept.owner.map(|(user, _)| user),
            "group": kept.owner.map(|(_, group)| group),
            "modified_ns": kept.mtime_ns,
            "attributes": kept
                .attributes
                .iter()
                .map(|(name, value)| json!([STANDARD.encode(name), STANDARD.encode(value)]))
                .collect::<Value>(),
            "attributes_lost": kept.lost,
            "held": placement.held,
            "by": placement.decided.as_ref().map(|(reviewer, _)| reviewer),
            "decided_at_ms": placement.decided.as_ref().map(|(_, at)| at.0),
            "policy": placement.policy,
        });
        Self::write(&self.of(path), &format!("{manifest:#}\n"))
    }

    fn write(file: &Path, text: &str) -> Result<(), MoveError> {
        use std::os::unix::fs::OpenOptionsExt as _;
        // The quarantine is ours alone: nobody plants a name in it.
        let written = file.with_extension("json.new");
        let write = || {
            let mut options = std::fs::OpenOptions::new();
            let mut out =
                options.write(true).create(true).truncate(true).mode(0o600).open(&written)?;
            out.write_all(text.as_bytes())?;
            out.sync_all()?;
            std::fs::rename(&written, file)
        };
        write().map_err(io_error("can't write", file))?;
        sync_folder_of(file)
    }

    /// What is written of the file at this path.
    fn read(&self, path: &Path) -> Option<Value> {
        let read = |file: PathBuf| serde_json::from_slice(&std::fs::read(file).ok()?).ok();
        if let Some(manifest) = read(self.of(path)) {
            return Some(manifest);
        }
        let all: Value = read(self.of_all())?;
        let wanted = STANDARD.encode(path.as_os_str().as_encoded_bytes());
        let mut files = all["files"].as_array().into_iter().flatten();
        files.find(|known| known["path_b64"] == *wanted).cloned()
    }

    /// What belonged to the file at this path; what is not known stays as the system makes it.
    pub(super) fn kept(&self, path: &Path) -> Kept {
        self.read(path).as_ref().map(kept_of).unwrap_or_default()
    }

    /// Whether a file from this path lies here, as far as is written.
    pub(super) fn lists(&self, path: &Path) -> bool {
        self.read(path).is_some()
    }

    /// The file of this path is not here any more.
    pub(super) fn delete(&self, path: &Path) -> Result<(), MoveError> {
        delete(&self.of(path))
    }

    /// The manifests of all paths are of no use any more, nor is what an interrupted move left
    /// beside them.
    pub(super) fn delete_all(&self) -> Result<(), MoveError> {
        let own = self.item.to_string();
        let entries = std::fs::read_dir(&self.folder).map_err(io_error("can't list", &self.folder));
        for entry in entries? {
            let entry = entry.map_err(io_error("can't list", &self.folder))?;
            let name = entry.file_name();
            let ours = name.to_str().and_then(|name| name.strip_prefix(&own));
            if ours.is_some_and(|rest| rest.contains(".json")) {
                delete(&entry.path())?;
            }
        }
        Ok(())
    }
}

fn delete(file: &Path) -> Result<(), MoveError> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(io_error("can't remove", file)(error))
        }
        _ => Ok(()),
    }
}

fn kept_of(file: &Value) -> Kept {
    let number = |field: &str| file[field].as_u64().and_then(|number| u32::try_from(number).ok());
    let seconds =
        || file["modified_s"].as_i64().map(|seconds| seconds.saturating_mul(1_000_000_000));
    let attribute = |pair: &Value| {
        let decode = |index: usize| STANDARD.decode(pair[index].as_str()?).ok();
        Some((decode(0)?, decode(1)?))
    };
    let attributes = file["attributes"].as_array().into_iter().flatten();
    Kept {
        owner: number("owner").zip(number("group")),
        mode: file["mode"].as_str().and_then(|mode| u32::from_str_radix(mode, 8).ok()),
        // Whole seconds in manifests of the first versions.
        mtime_ns: file["modified_ns"].as_i64().or_else(seconds),
        attributes: attributes.filter_map(attribute).collect(),
        lost: number("attributes_lost").unwrap_or(0),
    }
}
