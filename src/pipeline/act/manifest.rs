//! `quarantine/ab/abcd….json`: where the bytes beside it came from and what belonged to each file.
//! Enough to put everything back by hand, without the database.

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

/// The manifest of an item.
pub(super) struct Manifest {
    file: PathBuf,
    item: ItemId,
}

impl Manifest {
    /// Beside the item's place in the quarantine.
    pub(super) fn beside(place: &Path, item: ItemId) -> Self {
        Self { file: place.with_extension("json"), item }
    }

    fn read(&self) -> Value {
        std::fs::read(&self.file)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_else(|| json!({"item": self.item.to_string(), "files": []}))
    }

    /// Writes down where the bytes come from and what belongs to the file, beside those that are
    /// known already.
    pub(super) fn note(
        &self,
        placement: &Placement,
        stat: &Stat,
        kept: &Kept,
    ) -> Result<(), MoveError> {
        let path = placement.sighting.path.as_path();
        let mut manifest = self.read();
        let entry = json!({
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
            "held": placement.held,
            "by": placement.decided.as_ref().map(|(reviewer, _)| reviewer),
            "decided_at_ms": placement.decided.as_ref().map(|(_, at)| at.0),
            "policy": placement.policy,
        });
        if let Some(files) = manifest["files"].as_array_mut() {
            files.retain(|known| known["path_b64"] != entry["path_b64"]);
            files.push(entry);
        }
        self.write(&format!("{manifest:#}\n"))
    }

    fn write(&self, text: &str) -> Result<(), MoveError> {
        use std::os::unix::fs::OpenOptionsExt as _;
        // The quarantine is ours alone: nobody plants a name in it.
        let written = self.file.with_extension("json.new");
        let write = || {
            let mut options = std::fs::OpenOptions::new();
            let mut out =
                options.write(true).create(true).truncate(true).mode(0o600).open(&written)?;
            out.write_all(text.as_bytes())?;
            out.sync_all()?;
            std::fs::rename(&written, &self.file)
        };
        write().map_err(io_error("can't write", &self.file))?;
        sync_folder_of(&self.file)
    }

    /// What belonged to the file at this path; what is not known stays as the system makes it.
    pub(super) fn kept(&self, path: &Path) -> Kept {
        let manifest = self.read();
        let wanted = STANDARD.encode(path.as_os_str().as_encoded_bytes());
        let mut files = manifest["files"].as_array().into_iter().flatten();
        files.find(|known| known["path_b64"] == *wanted).map(kept_of).unwrap_or_default()
    }

    /// The manifest is of no use any more.
    pub(super) fn delete(&self) -> Result<(), MoveError> {
        match std::fs::remove_file(&self.file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(io_error("can't remove", &self.file)(error))
            }
            _ => Ok(()),
        }
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
    Kept {
        owner: number("owner").zip(number("group")),
        mode: file["mode"].as_str().and_then(|mode| u32::from_str_radix(mode, 8).ok()),
        // Whole seconds in manifests of the first versions.
        mtime_ns: file["modified_ns"].as_i64().or_else(seconds),
        attributes: file["attributes"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(attribute)
            .collect(),
    }
}
