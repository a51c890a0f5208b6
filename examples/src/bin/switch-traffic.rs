//! Blue/green on an environment's EKS cluster: stage beside what is live, switch all traffic at once, and back.

use std::process::ExitCode;

use bp_delivery::{program, verb::SwitchTraffic};

fn main() -> ExitCode {
    program::run::<SwitchTraffic>()
}
