//! The project's own chores. `cargo xtask --help` lists them.

mod bench_copy;
mod bench_ecs;
mod check;
mod clock;
mod command;
mod e2e;
mod mutants;
mod report;
mod results;
mod rust;
mod soak;
mod strings;

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
    /// Break promises on purpose, and see that a test of every tier turns red
    Mutants(mutants::Arguments),
    /// Copy images beside crane, skopeo and regctl, and tell how long each took and what it cost
    BenchCopy(bench_copy::Arguments),
    /// Time how soon a failing roll-out is told, beside kubectl and helm, on a real control plane
    BenchEks(e2e::kubernetes::bench::Arguments),
    /// Copy random images under random faults: a thousand times, or as often as is asked for
    Soak(soak::Arguments),
    /// Deploy to ECS beside a script of aws-cli and jq, and tell what it costs and how soon a failure is told
    BenchEcs(bench_ecs::Arguments),
    /// Print every text that users of the programs can see, for review
    Strings(strings::Arguments),
    /// Run a program and measure what it costs
    #[command(hide = true)]
    Measure(bench_copy::measure::Arguments),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().chore {
        Chore::Check(arguments) => check::run(&arguments),
        Chore::E2e(arguments) => e2e::run(&arguments),
        Chore::Mutants(arguments) => mutants::run(&arguments),
        Chore::BenchCopy(arguments) => bench_copy::run(&arguments),
        Chore::BenchEks(arguments) => e2e::kubernetes::bench::run(&arguments),
        Chore::Soak(arguments) => soak::run(&arguments),
        Chore::BenchEcs(arguments) => bench_ecs::run(&arguments),
        Chore::Strings(arguments) => strings::run(&arguments),
        Chore::Measure(arguments) => bench_copy::measure::run(&arguments),
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn every_chore_takes_its_arguments() {
        super::Arguments::command().debug_assert();
    }
}
