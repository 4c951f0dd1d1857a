//! The log: structured lines on standard error. Standard output belongs to what commands print.

use std::fmt;
use std::io::{self, IsTerminal as _, Write};
use std::sync::{Mutex, PoisonError};

use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

/// How much is said and in which form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Telemetry {
    /// The least level that is written; `MODTOOL_LOG` overrides it.
    pub level: LevelFilter,
    /// One JSON object a line instead of text.
    pub json: bool,
}

type LinePrinter = Box<dyn Fn(&[u8]) + Send>;

/// Whoever draws on the terminal (a progress bar, the dashboard) prints the log's lines meanwhile.
static LINE_PRINTER: Mutex<Option<LinePrinter>> = Mutex::new(None);

/// Starts the log; once a process.
pub fn start(telemetry: Telemetry) {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::ERROR.into())
        .with_env_var("MODTOOL_LOG")
        .try_from_env()
        .unwrap_or_else(|_unset| EnvFilter::new(format!("error,modtool={}", telemetry.level)));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Stderr)
        .with_target(false)
        .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    // Fails only when a log was started before, as tests do: the first one stays.
    let _ = if telemetry.json {
        builder.json().flatten_event(true).try_init()
    } else {
        builder.compact().with_timer(LocalTime).try_init()
    };
}

/// Lets `printer` print the log's lines until [`release_lines`].
pub fn divert_lines(printer: impl Fn(&[u8]) + Send + 'static) {
    *LINE_PRINTER.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(printer));
}

/// Lines go to standard error again.
pub fn release_lines() {
    *LINE_PRINTER.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

/// `21:36:05`, where this machine stands: what a person at a terminal wants to see.
/// The JSON form has the full time in UTC.
struct LocalTime;

impl FormatTime for LocalTime {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let time = jiff::ZonedDateTime::now();
        write!(writer, "{:02}:{:02}:{:02}", time.hour(), time.minute(), time.second())
    }
}

/// Writes each log line whole, through the diversion where there is one.
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match &*LINE_PRINTER.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(print) => print(line),
            None => io::stderr().lock().write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl MakeWriter<'_> for Stderr {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        Self
    }
}
