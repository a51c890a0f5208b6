//! Copies the artifact's image, or tags of your choice, to an environment's registry, byte for byte.

use std::process::ExitCode;

use bp_delivery::{program, verb::Promote};

fn main() -> ExitCode {
    program::run::<Promote>()
}
