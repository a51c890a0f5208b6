//! Where the chores print.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a chore is a program: its output is its product"
)]

/// A line of the chore's result.
pub(crate) fn line(text: impl std::fmt::Display) {
    println!("{text}");
}

/// What stopped the chore.
pub(crate) fn error(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}
