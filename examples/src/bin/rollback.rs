//! Puts every target of a receipt back to the revision that is noted there.

use std::process::ExitCode;

use bp_delivery::{program, verb::Rollback};

fn main() -> ExitCode {
    program::run::<Rollback>()
}
