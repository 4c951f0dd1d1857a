//! The HTTP side of the Hub: looking a file up, fetching it whole or in part.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use ureq::http::{HeaderMap, Response, StatusCode, Uri};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::{Progress, Repository};
use crate::vision::model::hex;

/// Why something can't be fetched.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The user does not want the network.
    #[error(
        "HF_HUB_OFFLINE is set, so nothing is fetched; unset it, or add a folder that is here: \
         modtool model add DIR --name NAME"
    )]
    Offline,
    /// The address of the Hub makes no sense.
    #[error("{0:?} is no address of a Hub; HF_ENDPOINT is like https://huggingface.co")]
    Endpoint(String),
    /// No answer.
    #[error("can't reach {address}")]
    Unreachable {
        /// What was asked for.
        address: String,
        /// Why.
        source: Box<ureq::Error>,
    },
    /// The repository or the revision is not there.
    #[error(
        "the Hub has no {repository} at {revision}; is the name right? (private repositories need \
         HF_TOKEN)"
    )]
    NoRepository {
        /// `owner/repo`.
        repository: String,
        /// Branch, tag or commit.
        revision: String,
    },
    /// The file is not there.
    #[error("{repository} has no file {file}")]
    NoFile {
        /// `owner/repo`.
        repository: String,
        /// The file.
        file: String,
    },
    /// The networks are not there.
    #[error(
        "{repository} has no ONNX networks of this kind: there is none of {}; look for an ONNX \
         export of the model, or another --variant", missing.join(", ")
    )]
    NoNetworks {
        /// `owner/repo`.
        repository: String,
        /// What was looked for.
        missing: Vec<String>,
    },
    /// The Hub wants to know who asks.
    #[error(
        "the Hub refuses {address} ({status}): accept the model's conditions on its page and set \
         HF_TOKEN to a token that may read it"
    )]
    Refused {
        /// What was asked for.
        address: String,
        /// 401 or 403.
        status: u16,
    },
    /// Another answer than one of the expected ones.
    #[error("the Hub answered {status} for {address}; try again later")]
    Status {
        /// What was asked for.
        address: String,
        /// The number.
        status: u16,
    },
    /// The answer does not say what the file is.
    #[error("the Hub does not say the {what} of {address}, so the file can't be checked")]
    Silent {
        /// What was asked for.
        address: String,
        /// What is missing.
        what: &'static str,
    },
    /// A redirect that is not followed.
    #[error("{address} leads to {target:?}, which is not followed")]
    Redirect {
        /// What was asked for.
        address: String,
        /// Where it leads.
        target: String,
    },
    /// The connection was cut again and again.
    #[error(
        "{file} was cut off at {here} of {size} bytes, {tries} times; the same command goes on from \
         there"
    )]
    Cut {
        /// The file.
        file: String,
        /// Bytes that are here.
        here: u64,
        /// Bytes that it has.
        size: u64,
        /// How often it was tried without getting further.
        tries: u32,
    },
    /// The bytes are not the ones that the Hub names.
    #[error("{file} arrived with the hash {found}, not {expected}; it was thrown away")]
    WrongHash {
        /// The file.
        file: String,
        /// Of the bytes that came.
        found: String,
        /// That the Hub names.
        expected: String,
    },
    /// A file on this machine.
    #[error("can't read or write {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The Hub, or a mirror of it.
#[derive(Debug)]
pub struct Hub {
    endpoint: String,
    token: Option<String>,
    agent: Agent,
}

/// What the Hub says of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct About {
    pub(super) commit: String,
    size: u64,
    hash: Hash,
}

/// How a file's bytes are told.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Hash {
    /// SHA-256 of a large file.
    Sha256(String),
    /// SHA-1 of a small file as a git blob (`blob LENGTH\0` before it).
    GitBlob(String),
}

/// Redirects that are followed.
const MOST_HOPS: usize = 5;

/// Tries without getting any further, until a download is given up for now.
const MOST_TRIES: u32 = 5;

/// A small file whose hash is of git's kind.
const LARGEST_BLOB: u64 = 64 << 20;

impl Hub {
    /// `endpoint` is an address such as `https://huggingface.co`.
    ///
    /// # Errors
    /// [`HubError::Endpoint`] for what is no such address.
    pub fn new(endpoint: &str, token: Option<String>) -> Result<Self, HubError> {
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        let uri: Option<Uri> = endpoint.parse().ok();
        let scheme = uri.as_ref().and_then(|uri| uri.scheme_str().zip(uri.host()));
        if !matches!(scheme, Some(("http" | "https", _))) {
            return Err(HubError::Endpoint(endpoint));
        }
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_recv_response(Some(Duration::from_mins(1)))
            .timeout_per_read(Some(Duration::from_mins(1)))
            .user_agent(concat!("modtool/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Ok(Self { endpoint, token, agent })
    }

    /// What people find the repository under.
    pub fn page(&self, repository: &Repository) -> String {
        format!("{}/{}", self.endpoint, repository.id)
    }

    fn address(&self, at: &Repository, file: &str) -> String {
        let revision = at.revision.replace('/', "%2F");
        format!("{}/{}/resolve/{revision}/{file}", self.endpoint, at.id)
    }

    /// What the Hub says of a file, without fetching it.
    pub(super) fn look_up(&self, at: &Repository, file: &str) -> Result<About, HubError> {
        let mut address = self.address(at, file);
        for _ in 0..MOST_HOPS {
            let answer = self.ask("HEAD", &address, &[])?;
            let about = about(answer.headers());
            let status = answer.status();
            if status.is_success() || (status.is_redirection() && about.is_ok()) {
                return about.map_err(|what| HubError::Silent { address, what });
            }
            if !status.is_redirection() {
                return Err(refusal(at, file, &address, status, answer.headers()));
            }
            // A repository that was renamed.
            address = target(&address, answer.headers())?;
        }
        Err(HubError::Redirect { target: address.clone(), address })
    }

    /// A part of a file.
    pub(super) fn read_range(
        &self,
        at: &Repository,
        file: &str,
        offset: u64,
        length: u64,
    ) -> Result<Vec<u8>, HubError> {
        if length == 0 {
            return Ok(Vec::new());
        }
        let range = format!("bytes={offset}-{}", offset.saturating_add(length - 1));
        let (address, answer) = self.get(at, file, &[("range", &range)])?;
        // A server that ignores ranges sends the whole file, from the beginning.
        let skip = if answer.status() == StatusCode::PARTIAL_CONTENT { 0 } else { offset };
        let mut body = answer.into_body().into_reader();
        let mut bytes = Vec::new();
        io::copy(&mut body.by_ref().take(skip), &mut io::sink())
            .and_then(|_| body.take(length).read_to_end(&mut bytes))
            .map_err(|source| HubError::Unreachable {
                address,
                source: Box::new(ureq::Error::Io(source)),
            })?;
        Ok(bytes)
    }

    /// Fetches a file to `to`, going on where an earlier try stopped. Nothing lies at `to` before
    /// every byte is there and checked.
    pub(super) fn download(
        &self,
        at: &Repository,
        file: &str,
        to: &Path,
        progress: &mut Progress<'_>,
    ) -> Result<(), HubError> {
        let about = self.look_up(at, file)?;
        if to.is_file() && check(file, to, &about).is_ok() {
            progress(file, about.size, about.size);
            return Ok(());
        }
        let part = Part::beside(to)?;
        let resumed = part.length() > 0;
        let fetched = self.fetch(at, file, &about, &part, progress);
        let fetched = match fetched.and_then(|()| check(file, &part.path, &about)) {
            Err(HubError::WrongHash { .. }) if resumed => {
                // The beginning may be of another time; once more, from nothing.
                part.forget()?;
                self.fetch(at, file, &about, &part, progress)?;
                check(file, &part.path, &about)
            }
            other => other,
        };
        if let Err(HubError::WrongHash { .. }) = fetched {
            part.forget()?;
        }
        fetched?;
        part.finish(to)
    }

    /// Until every byte is there; each cut is mended, as long as it gets further.
    fn fetch(
        &self,
        at: &Repository,
        file: &str,
        about: &About,
        part: &Part,
        progress: &mut Progress<'_>,
    ) -> Result<(), HubError> {
        let mut tries = 0;
        while part.length() < about.size {
            let before = part.length();
            match self.fetch_more(at, file, about, part, progress) {
                Ok(()) | Err(HubError::Status { status: 500.., .. }) => {}
                Err(HubError::Unreachable { address, source })
                    if tries + 1 >= MOST_TRIES && before == 0 =>
                {
                    return Err(HubError::Unreachable { address, source });
                }
                Err(HubError::Unreachable { source, .. }) => {
                    tracing::debug!(file, error = %source, "the connection was cut");
                }
                Err(other) => return Err(other),
            }
            let here = part.length();
            if here > before {
                tries = 0;
            } else {
                tries += 1;
                if tries >= MOST_TRIES {
                    let (file, size) = (file.to_owned(), about.size);
                    return Err(HubError::Cut { file, here, size, tries });
                }
                thread::sleep(Duration::from_millis(100 << tries));
            }
        }
        Ok(())
    }

    /// One answer of the server, as long as it lasts.
    fn fetch_more(
        &self,
        at: &Repository,
        file: &str,
        about: &About,
        part: &Part,
        progress: &mut Progress<'_>,
    ) -> Result<(), HubError> {
        let here = part.length();
        let range = format!("bytes={here}-");
        let tag = part.tag();
        let mut headers = Vec::new();
        if here > 0 {
            headers.push(("range", range.as_str()));
            headers.extend(tag.as_deref().map(|tag| ("if-range", tag)));
        }
        let (address, answer) = self.get(at, file, &headers)?;
        let continues = answer.status() == StatusCode::PARTIAL_CONTENT
            && content_start(answer.headers()) == Some(here);
        let start = if continues { here } else { 0 };
        part.remember_tag(text(answer.headers(), "etag"));
        let mut out = part.open(start)?;
        let mut body = answer.into_body().into_reader();
        let mut block = vec![0; 256 << 10];
        let mut arrived = start;
        progress(file, arrived, about.size);
        while arrived < about.size {
            let length = body.read(&mut block).map_err(|source| HubError::Unreachable {
                address: address.clone(),
                source: Box::new(ureq::Error::Io(source)),
            })?;
            if length == 0 {
                break;
            }
            out.write_all(&block[..length])
                .map_err(|source| HubError::File { path: part.path.clone(), source })?;
            arrived += length as u64;
            progress(file, arrived.min(about.size), about.size);
        }
        Ok(())
    }

    /// Follows redirects; the token is for the Hub alone.
    fn get(
        &self,
        at: &Repository,
        file: &str,
        headers: &[(&str, &str)],
    ) -> Result<(String, Response<Body>), HubError> {
        let mut address = self.address(at, file);
        for _ in 0..=MOST_HOPS {
            let answer = self.ask("GET", &address, headers)?;
            if answer.status().is_success() {
                return Ok((address, answer));
            }
            if !answer.status().is_redirection() {
                return Err(refusal(at, file, &address, answer.status(), answer.headers()));
            }
            address = target(&address, answer.headers())?;
        }
        Err(HubError::Redirect { target: address.clone(), address })
    }

    fn ask(
        &self,
        method: &str,
        address: &str,
        headers: &[(&str, &str)],
    ) -> Result<Response<Body>, HubError> {
        // Bytes as they are: a packed answer has another length and other ranges.
        let mut request = match method {
            "HEAD" => self.agent.head(address),
            _ => self.agent.get(address),
        }
        .header("accept-encoding", "identity");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(token) = &self.token
            && origin(address) == origin(&self.endpoint)
        {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        request.call().map_err(|source| HubError::Unreachable {
            address: without_query(address),
            source: Box::new(source),
        })
    }
}

/// Where a redirect leads: never from an encrypted connection to an open one.
fn target(address: &str, headers: &HeaderMap) -> Result<String, HubError> {
    let target = text(headers, "location").unwrap_or_default();
    let refused = || HubError::Redirect { address: without_query(address), target: target.clone() };
    let full = if target.starts_with('/') && !target.starts_with("//") {
        format!("{}{target}", origin(address).ok_or_else(refused)?)
    } else {
        target.clone()
    };
    let secure = full.starts_with("https://");
    let open = full.starts_with("http://") && !address.starts_with("https://");
    if secure || open { Ok(full) } else { Err(refused()) }
}

/// `https://host:port`.
fn origin(address: &str) -> Option<String> {
    let uri: Uri = address.parse().ok()?;
    Some(format!("{}://{}", uri.scheme_str()?, uri.authority()?))
}

/// Signed addresses are long, and secret for as long as they hold.
fn without_query(address: &str) -> String {
    address.split('?').next().unwrap_or_default().to_owned()
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

fn about(headers: &HeaderMap) -> Result<About, &'static str> {
    let commit = text(headers, "x-repo-commit").filter(|commit| is_hex(commit, 40));
    let size = text(headers, "x-linked-size").or_else(|| text(headers, "content-length"));
    let tag = text(headers, "x-linked-etag").or_else(|| text(headers, "etag"));
    let tag = tag.unwrap_or_default();
    let tag = tag.trim_start_matches("W/").trim_matches('"').to_ascii_lowercase();
    let hash = match tag.len() {
        64 if is_hex(&tag, 64) => Hash::Sha256(tag),
        40 if is_hex(&tag, 40) => Hash::GitBlob(tag),
        _ => return Err("hash"),
    };
    Ok(About {
        commit: commit.ok_or("commit")?,
        size: size.and_then(|size| size.parse().ok()).ok_or("size")?,
        hash,
    })
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// `bytes 100-199/200` → 100.
fn content_start(headers: &HeaderMap) -> Option<u64> {
    text(headers, "content-range")?.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}

fn refusal(
    at: &Repository,
    file: &str,
    address: &str,
    status: StatusCode,
    headers: &HeaderMap,
) -> HubError {
    let code = text(headers, "x-error-code").unwrap_or_default();
    match (status.as_u16(), code.as_str()) {
        // The Hub does not tell a private repository from one that is not there.
        (_, "RepoNotFound" | "RevisionNotFound") => {
            HubError::NoRepository { repository: at.id.clone(), revision: at.revision.clone() }
        }
        (404, _) => HubError::NoFile { repository: at.id.clone(), file: file.to_owned() },
        (status @ (401 | 403), _) => HubError::Refused { address: without_query(address), status },
        (status, _) => HubError::Status { address: without_query(address), status },
    }
}

fn check(file: &str, path: &Path, about: &About) -> Result<(), HubError> {
    let (expected, found) = match &about.hash {
        Hash::Sha256(expected) => {
            let mut hasher = Sha256::new();
            read_all(path, |block| hasher.update(block))?;
            (expected, hex(&hasher.finalize()))
        }
        Hash::GitBlob(expected) => {
            let mut hasher = Sha1::new();
            let length = fs::metadata(path).map_or(0, |meta| meta.len());
            if length > LARGEST_BLOB {
                return Err(HubError::Silent { address: file.to_owned(), what: "SHA-256" });
            }
            hasher.update(format!("blob {length}\0"));
            read_all(path, |block| hasher.update(block))?;
            (expected, hex(&hasher.finalize()))
        }
    };
    if found == *expected {
        return Ok(());
    }
    Err(HubError::WrongHash { file: file.to_owned(), found, expected: expected.clone() })
}

fn read_all(path: &Path, mut take: impl FnMut(&[u8])) -> Result<(), HubError> {
    let failed = |source| HubError::File { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    let mut block = vec![0; 1 << 20];
    loop {
        match file.read(&mut block).map_err(failed)? {
            0 => return Ok(()),
            length => take(&block[..length]),
        }
    }
}

/// A file on its way, and the tag that says of which bytes it is the beginning.
struct Part {
    path: PathBuf,
    tag: PathBuf,
}

impl Part {
    fn beside(to: &Path) -> Result<Self, HubError> {
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)
                .map_err(|source| HubError::File { path: folder.to_owned(), source })?;
        }
        let with = |end: &str| {
            let mut name = to.as_os_str().to_owned();
            name.push(end);
            PathBuf::from(name)
        };
        Ok(Self { path: with(".part"), tag: with(".part.etag") })
    }

    fn length(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |meta| meta.len())
    }

    fn tag(&self) -> Option<String> {
        fs::read_to_string(&self.tag).ok()
    }

    /// A tag that can't be kept only costs a check less; the hash is checked at the end anyway.
    fn remember_tag(&self, tag: Option<String>) {
        // A weak tag must not be used with ranges (RFC 9110, §13.1.5).
        let kept = match tag.filter(|tag| !tag.starts_with("W/")) {
            Some(tag) => fs::write(&self.tag, tag),
            None => fs::remove_file(&self.tag),
        };
        if let Err(error) = kept {
            tracing::trace!(%error, "no tag is kept");
        }
    }

    fn open(&self, start: u64) -> Result<File, HubError> {
        let failed = |source| HubError::File { path: self.path.clone(), source };
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&self.path)
            .map_err(failed)?;
        file.set_len(start).and_then(|()| file.seek(SeekFrom::Start(start))).map_err(failed)?;
        Ok(file)
    }

    fn forget(&self) -> Result<(), HubError> {
        // A tag without a file is not looked at.
        let _ = fs::remove_file(&self.tag);
        match fs::remove_file(&self.path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(HubError::File { path: self.path.clone(), source })
            }
            _ => Ok(()),
        }
    }

    fn finish(&self, to: &Path) -> Result<(), HubError> {
        let failed = |source| HubError::File { path: to.to_owned(), source };
        if self.length() == 0 {
            File::create(&self.path).map_err(failed)?;
        }
        File::open(&self.path).and_then(|file| file.sync_all()).map_err(failed)?;
        fs::rename(&self.path, to).map_err(failed)?;
        let _ = fs::remove_file(&self.tag);
        Ok(())
    }
}
