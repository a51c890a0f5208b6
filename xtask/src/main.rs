//! The project's own chores. `cargo xtask --help` lists them.

mod check;
mod clock;
mod command;
mod e2e;
mod report;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's own chores", disable_version_flag = true)]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Check the rules that no compiler knows: dependency direction, licences, docs, links, hygiene
    Check(check::Arguments),
    /// Run the scenarios on real servers, and real clients on the sandbox
    E2e(e2e::Arguments),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().chore {
        Chore::Check(arguments) => check::run(&arguments),
        Chore::E2e(arguments) => e2e::run(&arguments),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            report::error(&error);
            ExitCode::FAILURE
        }
    }
}
