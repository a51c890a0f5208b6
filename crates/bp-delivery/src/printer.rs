//! Print to standard output and standard error; no other module writes to them.
//!
//! Most output contains text from registries, containers, clusters and arguments. Every entry is therefore escaped with
//! [`bp_artifact::text`], and only the first line of an entry starts at column 1: embedded text cannot forge a line.
#![allow(clippy::disallowed_methods, reason = "the only module that prints")]

use std::io::{self, IsTerminal as _, Write};

use bp_artifact::text;
use indicatif::{MultiProgress, ProgressDrawTarget};
use serde::Serialize;

/// The maximum line length in characters; longer lines are truncated with a notice. JSON is never truncated.
const MAX_LINE_CHARS: usize = 8192;
/// The maximum number of lines of an entry.
const MAX_ENTRY_LINES: usize = 500;

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

    pub(crate) fn bars(&self) -> &MultiProgress {
        &self.bars
    }

    /// Prints text: the first line at column 1, the others indented.
    pub(crate) fn entry(&self, stream: Stream, text: &str) {
        self.bars.suspend(|| write(stream, &entry(text)));
    }

    /// Prints serialized JSON.
    pub(crate) fn json(&self, stream: Stream, serialized: &str) {
        self.bars.suspend(|| write(stream, &text::json(serialized)));
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
    write(Stream::Err, &entry(&format!("bug: {panic}{backtrace}")));
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

/// Text for the prefix or message of a bar.
pub(crate) fn for_bar(text: &str) -> String {
    text::truncate(&text::single_line(text), 200).into_owned()
}

fn entry(text: &str) -> String {
    let text = text::printable(text);
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let mut entry = String::with_capacity(text.len());
    for (number, line) in text.split('\n').take(MAX_ENTRY_LINES).enumerate() {
        if number > 0 {
            let indented = line.is_empty() || line.starts_with(char::is_whitespace);
            entry.push_str(if indented { "\n" } else { "\n    " });
        }
        entry.push_str(&text::truncate(line, MAX_LINE_CHARS));
    }
    let missing = text.split('\n').skip(MAX_ENTRY_LINES).count();
    if missing > 0 {
        entry.push_str(&format!("\n    … ({missing} more lines)"));
    }
    entry
}

fn write(stream: Stream, lines: &str) {
    // A closed output stream must not stop a deployment.
    let _ = match stream {
        Stream::Out => writeln!(io::stdout(), "{lines}"),
        Stream::Err => writeln!(io::stderr(), "{lines}"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_line_of_an_entry_starts_at_column_1() {
        assert_eq!(entry("one"), "one");
        assert_eq!(entry("one\n"), "one");
        assert_eq!(
            entry("the registry says: no\r\nerror: nothing is wrong\n\n  more"),
            "the registry says: no\n    error: nothing is wrong\n\n  more"
        );
        assert_eq!(entry(&entry("a\nb\n c")), entry("a\nb\n c"));
        assert_eq!(entry("log: x\n::add-mask::e"), "log: x\n    : :add-mask::e");
    }

    #[test]
    fn truncation_reports_the_omitted_characters_and_lines() {
        let long = entry(&"x".repeat(MAX_LINE_CHARS + 1));
        assert!(long.chars().count() <= MAX_LINE_CHARS && long.ends_with("… (41 more characters)"), "{long}");
        let lines = entry(&"x\n".repeat(MAX_ENTRY_LINES + 7));
        assert!(lines.ends_with("\n    … (7 more lines)") && lines.lines().count() == MAX_ENTRY_LINES + 1);
    }
}
