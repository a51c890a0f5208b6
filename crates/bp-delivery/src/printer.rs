//! The one place that prints: nothing reaches standard output or standard error on another way.
//!
//! Most of what is printed quotes others: registries, containers, clusters, arguments. So every entry goes through
//! [`bp_artifact::text`], and column 1 is ours: what an entry quotes cannot begin a line there, and pose as another one.
#![allow(clippy::disallowed_methods, reason = "the one place that prints")]

use std::io::{self, IsTerminal as _, Write};

use bp_artifact::text;
use indicatif::{MultiProgress, ProgressDrawTarget};
use serde::Serialize;

/// The longest line, in characters: what is longer is cut, and says so. JSON is never cut, for programs read it.
const LONGEST_LINE: usize = 8192;
/// How many lines an entry may have.
const MOST_LINES: usize = 500;

/// Where something is printed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stream {
    /// Standard output: results.
    Out,
    /// Standard error: everything that is said on the way.
    Err,
}

/// Prints entries around the bars, if any are drawn. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Printer {
    bars: MultiProgress,
}

impl Printer {
    /// Draws bars to standard error, or nowhere.
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

    /// Prints text: its first line at column 1, the others indented.
    pub(crate) fn entry(&self, stream: Stream, text: &str) {
        self.bars.suspend(|| write(stream, &entry(text)));
    }

    /// Prints JSON that a serializer wrote.
    pub(crate) fn json(&self, stream: Stream, serialized: &str) {
        self.bars.suspend(|| write(stream, &text::json(serialized)));
    }

    /// Prints a value as one line of JSON on standard output.
    pub(crate) fn value(&self, value: &impl Serialize) {
        match serde_json::to_string(value) {
            Ok(serialized) => self.json(Stream::Out, &serialized),
            Err(error) => {
                self.entry(Stream::Err, &format!("error: an event cannot be written as JSON: {error}"))
            }
        }
    }
}

/// The message of a panic, in the thread that has it. It may hold the lock on the bars, so it prints past them.
pub(crate) fn panicked(panic: &std::panic::PanicHookInfo<'_>) {
    let backtrace = std::backtrace::Backtrace::capture();
    let backtrace = match backtrace.status() {
        std::backtrace::BacktraceStatus::Captured => format!("\n{backtrace}"),
        _ => String::new(),
    };
    write(Stream::Err, &entry(&format!("bug: {panic}{backtrace}")));
}

/// Takes the lines of a log, each in one piece.
impl Write for Printer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.entry(Stream::Err, &String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// For the prefix or the message of a bar.
pub(crate) fn for_bar(text: &str) -> String {
    text::truncate(&text::single_line(text), 200).into_owned()
}

fn entry(text: &str) -> String {
    let text = text::printable(text);
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let mut entry = String::with_capacity(text.len());
    for (number, line) in text.split('\n').take(MOST_LINES).enumerate() {
        if number > 0 {
            let indented = line.is_empty() || line.starts_with(char::is_whitespace);
            entry.push_str(if indented { "\n" } else { "\n    " });
        }
        entry.push_str(&text::truncate(line, LONGEST_LINE));
    }
    let missing = text.split('\n').skip(MOST_LINES).count();
    if missing > 0 {
        entry.push_str(&format!("\n    … ({missing} more lines)"));
    }
    entry
}

fn write(stream: Stream, lines: &str) {
    // A reader that went away is no reason to stop a deployment.
    let _ = match stream {
        Stream::Out => writeln!(io::stdout(), "{lines}"),
        Stream::Err => writeln!(io::stderr(), "{lines}"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_line_of_an_entry_begins_at_column_1() {
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
    fn what_is_cut_is_counted() {
        let long = entry(&"x".repeat(LONGEST_LINE + 1));
        assert!(long.chars().count() <= LONGEST_LINE && long.ends_with("… (41 more characters)"), "{long}");
        let lines = entry(&"x\n".repeat(MOST_LINES + 7));
        assert!(lines.ends_with("\n    … (7 more lines)") && lines.lines().count() == MOST_LINES + 1);
    }
}
