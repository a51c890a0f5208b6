//! Deploy blue/green on EKS: stage an image in the idle slot, switch all traffic atomically, and switch back.

use std::process::ExitCode;

use bp_delivery::{program, verb::SwitchTraffic};

fn main() -> ExitCode {
    program::run::<SwitchTraffic>()
}
