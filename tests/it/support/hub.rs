//! A Hub of the test's own: a real HTTP server with redirects, ranges, `ETag`s and mishaps on
//! request.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// The commit that the server says everything is of.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What was asked of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub method: String,
    /// `hub` or `store`: large files come from another host.
    pub host: &'static str,
    pub path: String,
    pub range: Option<String>,
    pub if_range: Option<String>,
    pub token: Option<String>,
}

/// What goes wrong, by the end of a file's name.
#[derive(Debug, Default)]
pub struct Mishaps {
    /// Answers are cut off after so many bytes; each entry once.
    pub cuts: Vec<(&'static str, usize)>,
    /// Answers stop after so many bytes and nothing comes for ever.
    pub stalls: Vec<(&'static str, usize)>,
    /// One bit differs from what the hash promises.
    pub damaged: Vec<&'static str>,
    /// Ranges are ignored.
    pub no_ranges: bool,
    /// Who has no such token is refused.
    pub token: Option<String>,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<String, Vec<u8>>,
    mishaps: Mishaps,
    asked: Vec<Asked>,
}

/// The running server; it ends with the test's process.
pub struct HubServer {
    pub endpoint: String,
    state: Arc<Mutex<State>>,
}

impl HubServer {
    /// Serves the files below a folder as the repository `tiny/NAME`.
    pub fn start(folder: &Path) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let bind = || TcpListener::bind("127.0.0.1:0").expect("a free port");
        let (hub, store) = (bind(), bind());
        let address = |listener: &TcpListener| {
            format!("http://{}", listener.local_addr().expect("has an address"))
        };
        let (endpoint, elsewhere) = (address(&hub), address(&store));
        for (listener, host) in [(hub, "hub"), (store, "store")] {
            let (state, elsewhere) = (Arc::clone(&state), elsewhere.clone());
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let (state, elsewhere) = (Arc::clone(&state), elsewhere.clone());
                    thread::spawn(move || serve(&stream, host, &elsewhere, &state));
                }
            });
        }
        let server = Self { endpoint, state };
        let name = folder.file_name().expect("has a name").to_string_lossy().into_owned();
        for file in files_below(folder) {
            let below = file.strip_prefix(folder).expect("below").to_string_lossy().into_owned();
            let bytes = std::fs::read(&file).expect("a file of the model");
            server.lock().files.insert(format!("tiny/{name}/{below}"), bytes);
        }
        server
    }

    pub fn change(&self, change: impl FnOnce(&mut Mishaps)) {
        change(&mut self.lock().mishaps);
    }

    pub fn remove(&self, file: &str) {
        assert!(self.lock().files.remove(file).is_some(), "{file} was not there");
    }

    pub fn put(&self, file: &str, bytes: &[u8]) {
        self.lock().files.insert(file.to_owned(), bytes.to_vec());
    }

    /// Everything that was asked so far, which is forgotten then.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.lock().asked)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn files_below(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files
}

/// One connection; a mishap ends it.
fn serve(stream: &TcpStream, host: &'static str, elsewhere: &str, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream);
    while let Some(asked) = read_request(&mut reader, host) {
        let mut locked = state.lock().unwrap_or_else(PoisonError::into_inner);
        locked.asked.push(asked.clone());
        let answer = answer(&asked, elsewhere, &mut locked);
        drop(locked);
        let mut stream = stream;
        let Answer { head, body, stalls } = answer;
        let sent = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body.bytes));
        if sent.is_err() {
            return;
        }
        if stalls {
            thread::park();
        }
        if body.cut {
            let _ = stream.shutdown(std::net::Shutdown::Both);
            return;
        }
    }
}

fn read_request(reader: &mut BufReader<&TcpStream>, host: &'static str) -> Option<Asked> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut asked = Asked { method, host, path, range: None, if_range: None, token: None };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(": ") else { return Some(asked) };
        let value = Some(value.to_owned());
        match name.to_ascii_lowercase().as_str() {
            "range" => asked.range = value,
            "if-range" => asked.if_range = value,
            "authorization" => asked.token = value,
            _ => {}
        }
    }
}

struct Body {
    bytes: Vec<u8>,
    cut: bool,
}

struct Answer {
    head: String,
    body: Body,
    stalls: bool,
}

fn status(line: &str, more: &str) -> Answer {
    let head = format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\n{more}\r\n");
    Answer { head, body: Body { bytes: Vec::new(), cut: false }, stalls: false }
}

fn answer(asked: &Asked, elsewhere: &str, state: &mut State) -> Answer {
    let Some(token) = state.mishaps.token.as_ref().filter(|_| asked.host == "hub") else {
        return content(asked, elsewhere, state);
    };
    if asked.token.as_deref() != Some(&format!("Bearer {token}")) {
        return status("401 Unauthorized", "X-Error-Code: GatedRepo\r\n");
    }
    content(asked, elsewhere, state)
}

fn content(asked: &Asked, elsewhere: &str, state: &mut State) -> Answer {
    let path = asked.path.split('?').next().unwrap_or_default();
    let (repository, file) = match path.trim_start_matches('/').split_once("/resolve/") {
        Some((repository, rest)) => (repository, rest.split_once('/').map_or("", |(_, file)| file)),
        // The other host names files as the redirect did.
        None => ("", path.trim_start_matches('/')),
    };
    let known = state.files.keys().any(|name| name.starts_with(&format!("{repository}/")));
    if !known && !repository.is_empty() {
        return status("404 Not Found", "X-Error-Code: RepoNotFound\r\n");
    }
    let name = if repository.is_empty() { file.to_owned() } else { format!("{repository}/{file}") };
    let Some(bytes) = state.files.get(&name) else {
        return status("404 Not Found", "X-Error-Code: EntryNotFound\r\n");
    };
    let large = name.contains(".onnx") || name.ends_with("safetensors");
    if large && asked.host == "hub" {
        // As the Hub does it: the redirect itself says what the file is.
        let more = format!(
            "X-Repo-Commit: {COMMIT}\r\nX-Linked-Size: {}\r\nX-Linked-Etag: \"{}\"\r\n\
             Location: {elsewhere}/{name}?signature=secret\r\n",
            bytes.len(),
            hex(&Sha256::digest(bytes)),
        );
        return status("302 Found", &more);
    }
    let tag = if asked.host == "store" {
        // The store's own tag is another one than the Hub's.
        format!("\"store-{}\"", bytes.len())
    } else {
        let blob = [format!("blob {}\0", bytes.len()).as_bytes(), bytes].concat();
        format!("\"{}\"", hex(&Sha1::digest(blob)))
    };
    let mut sent = bytes.clone();
    if state.mishaps.damaged.iter().any(|end| name.ends_with(end)) {
        let middle = sent.len() / 2;
        sent[middle] ^= 1;
    }
    let total = sent.len();
    let range = asked.range.as_deref().filter(|_| !state.mishaps.no_ranges);
    let range = range.filter(|_| asked.if_range.as_ref().is_none_or(|if_range| *if_range == tag));
    let mut head = "HTTP/1.1 200 OK\r\n".to_owned();
    if let Some(range) = range.and_then(|range| range.strip_prefix("bytes=")) {
        let (from, to) = range.split_once('-').expect("a range");
        let from: usize = from.parse().expect("a number");
        let to = to.parse().map_or(total, |to: usize| (to + 1).min(total));
        sent = sent[from..to].to_vec();
        head = format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {from}-{}/{total}\r\n",
            to - 1
        );
    }
    write!(
        head,
        "Content-Length: {}\r\nETag: {tag}\r\nX-Repo-Commit: {COMMIT}\r\n\r\n",
        sent.len()
    )
    .expect("a string takes all");
    if asked.method == "HEAD" {
        return Answer { head, body: Body { bytes: Vec::new(), cut: false }, stalls: false };
    }
    let take = |list: &mut Vec<(&'static str, usize)>| {
        let place = list.iter().position(|(end, after)| name.ends_with(end) && *after < sent.len());
        place.map(|place| list.remove(place).1)
    };
    let cut = take(&mut state.mishaps.cuts);
    let stall = take(&mut state.mishaps.stalls);
    if let Some(after) = cut.or(stall) {
        sent.truncate(after);
    }
    Answer { head, body: Body { bytes: sent, cut: cut.is_some() }, stalls: stall.is_some() }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all");
        text
    })
}
