//! Print to standard output and standard error; no other module writes to them.
//!
//! Most output contains text from registries, containers, clusters and arguments. What writes here therefore takes
//! [`Clean`], which only the sanitizers of [`bp_artifact::text`] create: printing text as it came does not compile.
#![allow(clippy::disallowed_methods, reason = "the only module that prints")]

use std::{
    io::{self, IsTerminal as _, Write},
    time::Duration,
};

use bp_artifact::text::Clean;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

/// The output stream.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stream {
    /// Standard output: results.
    Out,
    /// Standard error: progress and log lines.
    Err,
}

/// Prints entries above the progress bars, if any are drawn. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Printer {
    bars: MultiProgress,
}

impl Printer {
    /// Draws progress bars on standard error if `draws`.
    pub(crate) fn new(draws: bool) -> Self {
        let target = if draws { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Printer { bars: MultiProgress::with_draw_target(target) }
    }

    /// Whether standard error is a terminal.
    pub(crate) fn has_terminal() -> bool {
        io::stderr().is_terminal()
    }

    /// A new progress bar with this name.
    pub(crate) fn bar(&self, name: &str, length: u64) -> Bar {
        let style = ProgressStyle::with_template("{prefix} {bar:24.green} {wide_msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(length).with_style(style).with_prefix(beside_bar(name));
        let bar = self.bars.add(bar);
        bar.enable_steady_tick(Duration::from_millis(200));
        Bar(bar)
    }

    /// Prints text: the first line at column 1, the others indented.
    pub(crate) fn entry(&self, stream: Stream, text: &str) {
        self.bars.suspend(|| write(stream, &Clean::entry(text)));
    }

    /// Prints a line that is safe already.
    pub(crate) fn clean(&self, stream: Stream, line: &Clean) {
        self.bars.suspend(|| write(stream, line));
    }

    /// Prints serialized JSON.
    pub(crate) fn json(&self, stream: Stream, serialized: &str) {
        self.bars.suspend(|| write(stream, &Clean::json(serialized)));
    }

    /// Prints a value as one line of JSON on standard output.
    pub(crate) fn value(&self, value: &impl Serialize) {
        match serde_json::to_string(value) {
            Ok(serialized) => self.json(Stream::Out, &serialized),
            Err(error) => {
                self.entry(Stream::Err, &format!("error: failed to serialize an event as JSON: {error}"))
            }
        }
    }
}

/// Prints the message of a panic, from the panicking thread. That thread may hold the lock on the bars, so it bypasses
/// them.
pub(crate) fn panicked(panic: &std::panic::PanicHookInfo<'_>) {
    let backtrace = std::backtrace::Backtrace::capture();
    let backtrace = match backtrace.status() {
        std::backtrace::BacktraceStatus::Captured => format!("\n{backtrace}"),
        _ => String::new(),
    };
    write(Stream::Err, &Clean::entry(&format!("bug: {panic}{backtrace}")));
}

/// Receives log lines, one per call.
impl Write for Printer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.entry(Stream::Err, &String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A progress bar.
pub(crate) struct Bar(ProgressBar);

impl Bar {
    pub(crate) fn update(&self, position: u64, length: u64, message: &str) {
        self.0.set_length(length);
        self.0.set_position(position);
        self.0.set_message(beside_bar(message));
    }

    pub(crate) fn remove(&self) {
        self.0.finish_and_clear();
    }
}

/// The text on either side of a bar, of which a line has room for little.
fn beside_bar(text: &str) -> String {
    Clean::short_line(text, 200).into()
}

fn write(stream: Stream, lines: &Clean) {
    // A closed output stream must not stop a deployment.
    let _ = match stream {
        Stream::Out => writeln!(io::stdout(), "{lines}"),
        Stream::Err => writeln!(io::stderr(), "{lines}"),
    };
}
