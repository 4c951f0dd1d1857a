//! The real binary in a workspace of its own: nothing of the machine's settings reaches it, and
//! nothing that it writes stays.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use modtool::store::Store;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::until;

/// No command of a test takes as long on a machine that works.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// Workspace, data folder and uploads, all in one temporary folder.
pub struct Workspace {
    dir: TempDir,
}

/// How a command ended and what it said.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Ran {
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// One JSON object a line, and nothing else.
    pub fn json_lines(&self) -> Vec<Value> {
        json_lines(&self.stdout)
    }

    /// # Panics
    /// When the command ended otherwise.
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.out(), self.err());
        self
    }
}

/// Every line as JSON.
///
/// # Panics
/// When a line is none.
pub fn json_lines(bytes: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(bytes).expect("JSON is UTF-8");
    let read = |line: &str| {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("no JSON ({error}): {line}"))
    };
    text.lines().map(read).collect()
}

impl Workspace {
    /// With the starter policies.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        for folder in ["workspace", "data", "uploads"] {
            fs::create_dir(dir.path().join(folder)).expect("a folder is made");
        }
        Self { dir }
    }

    /// With `documents` alone, from the starter policies: a start then takes half a second.
    pub fn with_one_policy() -> Self {
        let workspace = Self::new();
        let starter = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/documents.yaml");
        fs::create_dir(workspace.path().join("policies")).expect("a folder is made");
        fs::copy(starter, workspace.path().join("policies/documents.yaml")).expect("copied");
        workspace
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("workspace")
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn uploads(&self) -> PathBuf {
        // As the tool names it: its folders are canonical.
        fs::canonicalize(self.dir.path()).expect("the folder is there").join("uploads")
    }

    /// Beside the uploads, on the same file system, watched by nobody.
    pub fn outside(&self) -> PathBuf {
        let path = self.dir.path().join("outside");
        fs::create_dir_all(&path).expect("a folder is made");
        path
    }

    /// Writes an upload, making folders as needed.
    pub fn upload(&self, name: impl AsRef<OsStr>, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.uploads().join(name.as_ref());
        fs::create_dir_all(path.parent().expect("below the uploads")).expect("made");
        fs::write(&path, bytes).expect("an upload is written");
        path
    }

    /// The binary on the engine that is everywhere.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.bare(arguments);
        command.args(["--engine", "tract"]);
        command
    }

    /// The binary with nothing but the folders.
    pub fn bare(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_modtool"));
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"MODTOOL_") {
                command.env_remove(name);
            }
        }
        command
            // As on a user's machine; cargo sets them for what tests load themselves.
            .env_remove("ORT_DISABLE_TELEMETRY")
            .env_remove("ORT_TELEMETRY_DISABLED")
            .env("MODTOOL_DATA_DIR", self.data())
            .env("MODTOOL_WORKSPACE", self.path())
            .current_dir(self.dir.path())
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    /// The ONNX Runtime to test with: what the environment names, or what the tool finds by itself.
    ///
    /// # Panics
    /// When the environment names one and it does not work: who names one wants to see it work.
    pub fn onnxruntime(&self) -> Option<PathBuf> {
        let ran = run(self.bare(&["doctor", "--format", "json"]));
        let told = ran.json_lines().remove(0);
        let named = std::env::var_os("ORT_DYLIB_PATH").is_some_and(|path| !path.is_empty());
        let works = told["engine"].as_str().is_some_and(|engine| engine.contains("ONNX Runtime"));
        assert!(works || !named, "ORT_DYLIB_PATH names one that does not work: {told}");
        // `PATH (where it was found)`.
        told["library"].as_str()?.rsplit_once(" (").map(|(path, _)| PathBuf::from(path))
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        run(self.command(arguments))
    }

    /// `scan` of the uploads.
    pub fn scan(&self) -> Ran {
        self.run(&["scan", "uploads"])
    }

    /// All rows of `export verdicts`; none while there is no database.
    pub fn verdicts(&self) -> Vec<Value> {
        if !self.path().join("modtool.db").exists() {
            return Vec::new();
        }
        self.run(&["export", "verdicts"]).expect_code(0).json_lines()
    }

    /// The row of `export verdicts` of an upload.
    pub fn verdict(&self, path: &Path) -> Option<Value> {
        let path = path.to_str().expect("a test's own name");
        self.verdicts().into_iter().find(|row| row["path"] == path)
    }

    /// The workspace's database, as the library opens it.
    pub async fn store(&self) -> Store {
        Store::open(&self.path().join("modtool.db")).await.expect("the database opens")
    }
}

/// Runs a command to its end.
///
/// # Panics
/// When it takes longer than [`PATIENCE`] or is ended by a signal.
pub fn run(command: Command) -> Ran {
    let mut running = Running::start(command);
    let status = running.ended(PATIENCE);
    Ran {
        code: status.code().unwrap_or_else(|| panic!("ended by {status}: {}", running.err())),
        stdout: running.stdout(),
        stderr: running.stderr(),
    }
}

/// The ids of the policies of a row whose own outcome is not Allow.
pub fn flagging(row: &Value) -> Vec<&str> {
    let policies = row["policies"].as_array().expect("policies");
    let flagging = policies.iter().filter(|policy| policy["outcome"] != "allow");
    flagging.map(|policy| policy["id"].as_str().expect("an id")).collect()
}

/// A command under way; killed when it is dropped.
pub struct Running {
    child: Child,
    out: Arc<Mutex<Vec<u8>>>,
    err: Arc<Mutex<Vec<u8>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Running {
    /// Starts it, reading along what it says.
    pub fn start(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let (out, err) = (Arc::default(), Arc::default());
        let readers = vec![
            collect(child.stdout.take().expect("is piped"), Arc::clone(&out)),
            collect(child.stderr.take().expect("is piped"), Arc::clone(&err)),
        ];
        Self { child, out, err, readers }
    }

    /// `watch` of the uploads, waited for until it says that it is running.
    pub fn watch(workspace: &Workspace, more: &[&str]) -> Self {
        let mut arguments = vec!["watch", "uploads"];
        arguments.extend(more);
        let mut running = Self::start(workspace.command(&arguments));
        until("the watcher runs", PATIENCE, || {
            if let Some(status) = running.child.try_wait().expect("is a child") {
                panic!("watch ended with {status}: {}", running.err());
            }
            running.err().contains("scanned the folders once").then_some(())
        });
        running
    }

    /// Its number.
    pub fn pid(&self) -> Pid {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        Pid::from_raw(pid).expect("a pid is not 0")
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the signal is sent");
    }

    /// Whether a signal stopped it: `T` of proc(5).
    pub fn is_stopped(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        stat.is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" T")))
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("is a child").is_some()
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// When it does not come in time.
    pub fn ended(&mut self, deadline: Duration) -> ExitStatus {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("is a child") {
                break status;
            }
            assert!(start.elapsed() < deadline, "runs after {deadline:?}: {}", self.err());
            std::thread::sleep(Duration::from_millis(10));
        };
        for reader in self.readers.drain(..) {
            reader.join().expect("the reader does not panic");
        }
        status
    }

    /// What it said on standard output so far.
    pub fn stdout(&self) -> Vec<u8> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What it said on standard error so far.
    pub fn stderr(&self) -> Vec<u8> {
        self.err.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The same as text.
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr()).into_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended long ago.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(pipe: impl Read + Send + 'static, into: Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        loop {
            let length = match pipe.fill_buf() {
                Ok(bytes) if !bytes.is_empty() => {
                    into.lock().unwrap_or_else(PoisonError::into_inner).extend(bytes);
                    bytes.len()
                }
                _ => return,
            };
            pipe.consume(length);
        }
    })
}
