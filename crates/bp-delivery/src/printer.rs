//! Print to standard output and standard error; no other module writes to them.
//!
//! Most output contains text from registries, containers, clusters and arguments. What writes here therefore takes
//! [`Clean`], which only the sanitizers of [`bp_artifact::text`] create, or a [`Line`] of it: printing text as it came does
//! not compile.
#![allow(clippy::disallowed_methods, reason = "the only module that prints")]

use std::{
    fmt::{self, Display},
    io::{self, IsTerminal as _, Write},
    sync::Arc,
};

use bp_artifact::text::Clean;
use console::Term;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::look::{self, Entry, Line, Look};

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
pub(crate) struct Printer(Arc<Device>);

#[derive(Debug)]
struct Device {
    bars: MultiProgress,
    out: Look,
    err: Look,
    /// The terminal that a test reads.
    #[cfg(test)]
    memory: Option<indicatif::InMemoryTerm>,
}

impl Printer {
    /// Prints to the streams of the process. If `plain`, as to a file, even if they are terminals.
    pub(crate) fn new(plain: bool) -> Self {
        let look = |is_terminal: bool| Look::of(is_terminal && !plain, |name| std::env::var(name).ok());
        let (out, err) = (look(io::stdout().is_terminal()), look(io::stderr().is_terminal()));
        let target = if err.rich { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Printer(Arc::new(Device {
            bars: MultiProgress::with_draw_target(target),
            out,
            err,
            #[cfg(test)]
            memory: None,
        }))
    }

    /// Prints both streams to an emulated terminal.
    #[cfg(test)]
    pub(crate) fn in_memory(terminal: &indicatif::InMemoryTerm, look: Look) -> Self {
        let target = if look.rich {
            ProgressDrawTarget::term_like(Box::new(terminal.clone()))
        } else {
            ProgressDrawTarget::hidden()
        };
        let bars = MultiProgress::with_draw_target(target);
        Printer(Arc::new(Device { bars, out: look, err: look, memory: Some(terminal.clone()) }))
    }

    /// Whether progress bars are drawn.
    pub(crate) fn draws(&self) -> bool {
        self.0.err.rich
    }

    /// A new progress bar.
    pub(crate) fn bar(&self) -> Bar {
        let style = ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
        Bar(self.0.bars.add(ProgressBar::no_length().with_style(style)))
    }

    /// Shows the state of a progress bar.
    pub(crate) fn update(&self, bar: &Bar, state: &look::Bar, seconds: u64) {
        let width = self.width(Stream::Err).unwrap_or(80);
        bar.0.set_message(state.line(seconds, self.0.err, width));
        bar.0.tick();
    }

    /// Prints an entry.
    pub(crate) fn entry(&self, stream: Stream, entry: Entry<'_>) {
        let look = match stream {
            Stream::Out => self.0.out,
            Stream::Err => self.0.err,
        };
        let lines = entry.lines(look, self.width(stream));
        self.0.bars.suspend(|| self.write(stream, &Lines(&lines)));
    }

    /// Prints a line that is safe already.
    pub(crate) fn clean(&self, stream: Stream, line: &Clean) {
        self.0.bars.suspend(|| self.write(stream, line));
    }

    /// Prints serialized JSON.
    pub(crate) fn json(&self, stream: Stream, serialized: &str) {
        self.0.bars.suspend(|| self.write(stream, &Clean::json(serialized)));
    }

    /// Prints a value as one line of JSON on standard output.
    pub(crate) fn value(&self, value: &impl Serialize) {
        match serde_json::to_string(value) {
            Ok(serialized) => self.json(Stream::Out, &serialized),
            Err(error) => {
                let text = format!("error: failed to serialize an event as JSON: {error}");
                self.entry(Stream::Err, Entry::plain(&text));
            }
        }
    }

    /// The width of the terminal, if the stream is one for a person.
    fn width(&self, stream: Stream) -> Option<usize> {
        #[cfg(test)]
        if let Some(terminal) = self.0.memory.as_ref().filter(|_| self.0.err.rich) {
            return Some(indicatif::TermLike::width(terminal).into());
        }
        let (look, terminal) = match stream {
            Stream::Out => (self.0.out, Term::stdout()),
            Stream::Err => (self.0.err, Term::stderr()),
        };
        let size = look.rich.then(|| terminal.size_checked()).flatten();
        size.map(|(_, columns)| columns.into())
    }

    fn write(&self, stream: Stream, lines: &dyn Display) {
        #[cfg(test)]
        if let Some(terminal) = &self.0.memory {
            for line in lines.to_string().lines() {
                indicatif::TermLike::write_line(terminal, line).unwrap();
            }
            return;
        }
        write(stream, lines);
    }
}

/// The lines of an entry.
struct Lines<'l>(&'l [Line]);

impl Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, line) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            line.fmt(f)?;
        }
        Ok(())
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
        self.entry(Stream::Err, Entry::plain(&String::from_utf8_lossy(bytes)));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A progress bar on the terminal.
#[derive(Debug)]
pub(crate) struct Bar(ProgressBar);

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn write(stream: Stream, lines: &dyn Display) {
    // In one call, so that lines of other processes do not come between; a closed stream must not stop a deployment.
    let text = format!("{lines}\n");
    let _ = match stream {
        Stream::Out => io::stdout().write_all(text.as_bytes()),
        Stream::Err => io::stderr().write_all(text.as_bytes()),
    };
}
