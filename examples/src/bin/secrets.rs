//! Checks references to secrets, and writes them as others read them. It never shows a value.

use std::process::ExitCode;

use bp_delivery::{program, verb::Secrets};

fn main() -> ExitCode {
    program::run::<Secrets>()
}
