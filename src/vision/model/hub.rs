//! Fetching a model from the Hub: the files that its layout needs, each checked, resumed after a
//! cut.
//!
//! Addresses are `ENDPOINT/OWNER/REPO/resolve/REVISION/FILE`. The answer to a `HEAD` names the
//! commit (`X-Repo-Commit`) and the content: `X-Linked-Etag` is the SHA-256 of a large file, the
//! `ETag` of a small one its git blob hash. Everything is fetched of that one commit, into a folder
//! that is no model; only [`super::ModelsFolder::stage`] makes one of it.

mod client;

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::layout::{
    CONFIG_FILE, PREPROCESSOR_FILE, PROCESSOR_FILE, WEIGHTS_FILE, is_openclip, openclip, suffixes,
};
use super::safetensors::{StoredScale, scale_in};
use super::{TOKENIZER_FILE, onnx};

pub use client::{Hub, HubError};

/// A repository at a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// `owner/repo`.
    pub id: String,
    /// A branch, a tag or a commit.
    pub revision: String,
}

impl Repository {
    /// Reads `owner/repo` or `owner/repo@revision`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (id, revision) = text.split_once('@').unwrap_or((text, "main"));
        let (owner, repo) = id.split_once('/')?;
        let good = |part: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            !part.is_empty() && !part.starts_with('.') && part.chars().all(plain)
        };
        let branch = |part: &str| part.split('/').all(good);
        (good(owner) && good(repo) && branch(revision))
            .then(|| Self { id: id.to_owned(), revision: revision.to_owned() })
    }
}

/// What was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The commit that every file is of.
    pub commit: String,
}

/// Told what is being fetched: a file, how many of its bytes are here, and how many it has.
pub type Progress<'a> = dyn FnMut(&str, u64, u64) + 'a;

/// Fetches what a model needs into `folder`, which may hold what an earlier try fetched.
///
/// `scale_from` is another repository to look for scale and bias in.
///
/// # Errors
/// [`HubError`]; what has come stays in `folder`, and the next try goes on from there.
pub fn fetch(
    hub: &Hub,
    repository: &Repository,
    variant: Option<&str>,
    scale_from: Option<&Repository>,
    folder: &Path,
    progress: &mut Progress<'_>,
) -> Result<Fetched, HubError> {
    let config = hub.look_up(repository, CONFIG_FILE)?;
    let at = Repository { id: repository.id.clone(), revision: config.commit.clone() };
    begin(folder, &at)?;
    hub.download(&at, CONFIG_FILE, &folder.join(CONFIG_FILE), progress)?;
    let style = if is_openclip(folder) { &OPENCLIP } else { &TRANSFORMERS };
    for names in style.needed {
        download_first(hub, &at, names, folder, progress)?;
    }
    if let Some(config) = style.tokenizer_config {
        match hub.download(&at, config, &folder.join(config), progress) {
            Ok(()) | Err(HubError::NoFile { .. }) => {}
            Err(other) => return Err(other),
        }
    }
    let networks = networks(hub, &at, style, variant)?;
    let mut weights = BTreeSet::new();
    for name in &networks {
        let path = folder.join(name);
        hub.download(&at, name, &path, progress)?;
        let about =
            onnx::read(&path).map_err(|source| HubError::File { path: path.clone(), source })?;
        let beside = Path::new(name).parent().unwrap_or(Path::new(""));
        for external in about.external {
            // Others are refused, with their name, when the model is put together.
            if Path::new(&external).file_name().is_some_and(|plain| plain == external.as_str()) {
                weights.insert(beside.join(external).to_string_lossy().into_owned());
            }
        }
    }
    for name in &weights {
        hub.download(&at, name, &folder.join(name), progress)?;
    }
    let mut scale = stored_scale(hub, &at)?;
    if scale.logit_scale.is_none()
        && let Some(other) = scale_from
    {
        scale = stored_scale(hub, other)?;
    }
    keep_scale(folder, scale)?;
    Ok(Fetched { commit: at.revision })
}

/// The first of these files that the repository has; what is told of is the first one.
fn download_first(
    hub: &Hub,
    at: &Repository,
    names: &[&str],
    folder: &Path,
    progress: &mut Progress<'_>,
) -> Result<(), HubError> {
    let mut missing = None;
    for name in names {
        match hub.download(at, name, &folder.join(name), progress) {
            Err(error @ HubError::NoFile { .. }) => missing = missing.or(Some(error)),
            other => return other,
        }
    }
    missing.map_or(Ok(()), Err)
}

/// Files of another commit are no use: they would be mixed.
fn begin(folder: &Path, at: &Repository) -> Result<(), HubError> {
    let note = folder.join(".commit");
    let text = format!("{}@{}\n", at.id, at.revision);
    let failed = |source| HubError::File { path: folder.to_owned(), source };
    if fs::read_to_string(&note).ok().as_deref() == Some(&text) {
        return Ok(());
    }
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    fs::create_dir_all(folder).map_err(failed)?;
    fs::write(&note, text).map_err(failed)
}

/// Which files of a repository make a model.
struct Style {
    /// Of each list the first that is there.
    needed: [&'static [&'static str]; 2],
    /// Not everyone has it.
    tokenizer_config: Option<&'static str>,
    /// Names of the networks, without a variant and `.onnx`: the first that are there.
    networks: &'static [&'static [&'static str]],
}

/// A tower a file, or both in one; in `onnx/` or beside the other files.
const TRANSFORMERS: Style = Style {
    needed: [&[PREPROCESSOR_FILE, PROCESSOR_FILE], &[TOKENIZER_FILE]],
    tokenizer_config: None,
    networks: &[
        &["onnx/vision_model", "onnx/text_model"],
        &["vision_model", "text_model"],
        &["onnx/model"],
        &["model"],
    ],
};

/// OpenCLIP's own: a tower a folder.
const OPENCLIP: Style = Style {
    needed: [&[openclip::PICTURES_FILE], &[openclip::TOKENIZER]],
    tokenizer_config: Some(openclip::TOKENIZER_CONFIG),
    networks: &[&openclip::STEMS],
};

fn networks(
    hub: &Hub,
    at: &Repository,
    style: &Style,
    variant: Option<&str>,
) -> Result<Vec<String>, HubError> {
    let mut missing = Vec::new();
    for stems in style.networks {
        for suffix in suffixes(variant) {
            let names: Vec<String> =
                stems.iter().map(|stem| format!("{stem}{suffix}.onnx")).collect();
            match hub.look_up(at, &names[0]) {
                Ok(_) => return Ok(names),
                Err(HubError::NoFile { .. }) => missing.push(names[0].clone()),
                Err(other) => return Err(other),
            }
        }
    }
    Err(HubError::NoNetworks { repository: at.id.clone(), missing })
}

/// Two small reads of a file that may have gigabytes; nothing where the repository has none.
fn stored_scale(hub: &Hub, at: &Repository) -> Result<StoredScale, HubError> {
    let mut failed = None;
    let read = scale_in(|offset, length| {
        hub.read_range(at, WEIGHTS_FILE, offset, length).map_err(|error| {
            failed = Some(error);
            io::Error::other("the range could not be read")
        })
    });
    match (read, failed) {
        (Ok(scale), _) => Ok(scale),
        (Err(_), Some(HubError::NoFile { .. })) => Ok(StoredScale::default()),
        (Err(_), Some(error)) => Err(error),
        (Err(source), None) => Err(HubError::File { path: PathBuf::from(WEIGHTS_FILE), source }),
    }
}

/// The two numbers in a file of their own, as the layout has them.
fn keep_scale(folder: &Path, scale: StoredScale) -> Result<(), HubError> {
    let mut header = serde_json::Map::new();
    let mut values = Vec::new();
    for (name, value) in [("logit_scale", scale.logit_scale), ("logit_bias", scale.logit_bias)] {
        let Some(value) = value else { continue };
        let start = values.len();
        values.extend(value.to_le_bytes());
        let offsets = [start, values.len()];
        header.insert(
            name.to_owned(),
            serde_json::json!({"dtype": "F32", "shape": [], "data_offsets": offsets}),
        );
    }
    if header.is_empty() {
        return Ok(());
    }
    let header = serde_json::Value::from(header).to_string();
    let path = folder.join(WEIGHTS_FILE);
    let written = fs::File::create(&path).and_then(|mut file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(header.as_bytes())?;
        file.write_all(&values)
    });
    written.map_err(|source| HubError::File { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_an_owner_and_a_name() {
        let parsed = Repository::parse("Xenova/clip-vit-base-patch32@v1.0").expect("good");
        assert_eq!(
            (parsed.id.as_str(), parsed.revision.as_str()),
            ("Xenova/clip-vit-base-patch32", "v1.0")
        );
        assert_eq!(Repository::parse("a/b").expect("good").revision, "main");
        assert_eq!(Repository::parse("a/b@refs/pr/3").expect("good").revision, "refs/pr/3");
        for bad in
            ["clip", "a/b/c", "/b", "a/", "../b", "a/..", "a/b@", "a/b@../x", "a b/c", "a/b?x"]
        {
            assert_eq!(Repository::parse(bad), None, "{bad}");
        }
    }
}
