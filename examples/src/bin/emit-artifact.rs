//! Resolves the image that a build has pushed and writes `artifact.json` for the stages after it.

use std::process::ExitCode;

use bp_delivery::{program, verb::EmitArtifact};

fn main() -> ExitCode {
    program::run::<EmitArtifact>()
}
