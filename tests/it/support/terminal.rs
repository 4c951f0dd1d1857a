//! The real binary in a real pseudo-terminal, and what its screen shows.

use std::io::{Read as _, Write};
use std::num::NonZero;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use portable_pty::{Child, CommandBuilder, PtySize, native_pty_system};
use rustix::process::{Pid, Signal, kill_process};

use super::until;
use super::workspace::PATIENCE;

/// A program under way in a terminal; killed when it is dropped.
pub struct Terminal {
    child: Box<dyn Child + Send + Sync>,
    keyboard: Arc<Mutex<Box<dyn Write + Send>>>,
    output: Arc<Mutex<Vec<u8>>>,
    screen: Arc<Mutex<vt100::Parser>>,
}

impl Terminal {
    /// Starts the command in a terminal of 120 × 40.
    pub fn start(command: &Command) -> Self {
        Self::sized(command, 120, 40)
    }

    /// Starts the command. The terminal answers, as real ones do, when it is asked what it is.
    pub fn sized(command: &Command, width: u16, height: u16) -> Self {
        let rows = NonZero::new(height).expect("some rows");
        let columns = NonZero::new(width).expect("some columns");
        // Letters of 10 × 20 pixels.
        let (pixel_width, pixel_height) = (width * 10, height * 20);
        let size = PtySize { rows: height, cols: width, pixel_width, pixel_height };
        let pair = native_pty_system().openpty(size).expect("a pseudo-terminal");
        let mut builder = CommandBuilder::new(command.get_program());
        builder.args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => builder.env(name, value),
                None => builder.env_remove(name),
            }
        }
        builder.env("TERM", "xterm-256color");
        builder.env_remove("NO_COLOR");
        if let Some(folder) = command.get_current_dir() {
            builder.cwd(folder);
        }
        let child = pair.slave.spawn_command(builder).expect("the binary starts");
        let mut reader = pair.master.try_clone_reader().expect("the terminal can be read");
        let writer = pair.master.take_writer().expect("the terminal can be written to");
        let keyboard = Arc::new(Mutex::new(writer));
        let output: Arc<Mutex<Vec<u8>>> = Arc::default();
        let screen = Arc::new(Mutex::new(vt100::Parser::new(rows, columns, 0)));
        let (answer, seen, shown) =
            (Arc::clone(&keyboard), Arc::clone(&output), Arc::clone(&screen));
        std::thread::spawn(move || {
            // Lives as long as the terminal.
            let _master = pair.master;
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = reader.read(&mut bytes) {
                lock(&seen).extend(&bytes[..length]);
                lock(&shown).process(&bytes[..length]);
                if bytes[..length].windows(4).any(|window| window == b"\x1b[5n") {
                    // The last of the questions, device status; before it, primary device
                    // attributes: a VT100 with advanced video. Keys typed before are dropped.
                    let _ = lock(&answer).write_all(b"\x1b[?1;2c\x1b[0n");
                }
            }
        });
        Self { child, keyboard, output, screen }
    }

    /// Types.
    pub fn press(&self, keys: &str) {
        let mut keyboard = lock(&self.keyboard);
        keyboard.write_all(keys.as_bytes()).expect("the terminal takes keys");
        keyboard.flush().expect("the terminal takes keys");
    }

    /// What the screen shows now.
    pub fn screen(&self) -> String {
        lock(&self.screen).screen().contents()
    }

    /// Waits until the screen shows a text.
    ///
    /// # Panics
    /// When it does not in time, showing the screen.
    pub fn shows(&self, text: &str) {
        let last = Mutex::new(String::new());
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until(text, PATIENCE, || {
                *lock(&last) = self.screen();
                lock(&last).contains(text).then_some(())
            });
        }));
        assert!(found.is_ok(), "{text:?} is not on the screen:\n{}", lock(&last));
    }

    /// Sends a signal to the program.
    pub fn signal(&self, signal: Signal) {
        let pid = self.child.process_id().and_then(|pid| i32::try_from(pid).ok());
        let pid = Pid::from_raw(pid.expect("a pid")).expect("a pid is not 0");
        kill_process(pid, signal).expect("the signal is sent");
    }

    /// Waits until these bytes were written to the terminal.
    pub fn wrote(&self, what: &str, bytes: &[u8]) {
        until(what, PATIENCE, || {
            self.output().windows(bytes.len()).any(|window| window == bytes).then_some(())
        });
    }

    /// Everything that was ever written to the terminal.
    pub fn output(&self) -> Vec<u8> {
        lock(&self.output).clone()
    }

    /// Waits for the end and answers the exit code.
    pub fn ended(&mut self) -> u32 {
        until("the program ends", PATIENCE, || {
            self.child.try_wait().expect("is a child").map(|status| status.exit_code())
        })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended long ago.
        let _ = self.child.kill();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
