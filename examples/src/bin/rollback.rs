//! Roll back every target of a receipt to its recorded revision.

use std::process::ExitCode;

use bp_delivery::{program, verb::Rollback};

fn main() -> ExitCode {
    program::run::<Rollback>()
}
