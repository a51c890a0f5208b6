//! Output of the tasks on the terminal.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the output of a task is its result")]

/// Prints a line of the task's result.
pub(crate) fn line(text: impl std::fmt::Display) {
    println!("{text}");
}

/// Prints the error that ended the task.
pub(crate) fn error(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}
