//! Development tasks of the workspace: repository checks, end-to-end tests, benchmarks. See `cargo xtask --help`.

mod bench_build;
mod bench_copy;
mod bench_ecs;
mod check;
mod clock;
mod command;
mod dist;
mod e2e;
mod fuzz;
mod kube_schema;
mod mutants;
mod nightly;
mod report;
mod results;
mod rust;
mod soak;
mod strings;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Development tasks of the workspace", disable_version_flag = true)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Check repository rules that the compiler does not check: dependency direction, licences, docs, links, hygiene
    Check(check::Arguments),
    /// Write the listings of the public APIs in docs/api
    Api,
    /// Write the list of members and enum values of the AWS SDKs, after their review
    SdkMembers,
    /// Write the sandbox's table of Kubernetes API messages from the published API
    KubeSchema(kube_schema::Arguments),
    /// Write the snapshot of the advisory database from a clone of it
    Advisories(check::AdvisoriesArguments),
    /// Run the scenarios against real servers, and real clients against the sandbox
    E2e(e2e::Arguments),
    /// Break guarantees on purpose, and check that a test of every tier fails
    Mutants(mutants::Arguments),
    /// Compare image copies with crane, skopeo and regctl: time, CPU, memory, requests
    BenchCopy(bench_copy::Arguments),
    /// Measure how soon a failing rollout is reported, compared with kubectl and helm, on a real control plane
    BenchEks(e2e::kubernetes::bench::Arguments),
    /// Copy random images and deploy to ECS with random faults, a thousand times each by default
    Soak(soak::Arguments),
    /// Run the fuzz targets, ten minutes each by default, and extend their corpus
    Fuzz(fuzz::Arguments),
    /// Compare ECS deployments with a script of aws-cli and jq: time, CPU, calls, time to report a failure
    BenchEcs(bench_ecs::Arguments),
    /// Measure the builds of a fresh clone, and the size and start of bp, against their budgets
    BenchBuild(bench_build::Arguments),
    /// Build a release: the program, its image, checksums, SBOM and provenance
    Dist(dist::Arguments),
    /// Run what takes too long for CI, one chore after the other: several hours
    Nightly(nightly::Arguments),
    /// Print all user-visible texts of the programs, for review
    Strings(strings::Arguments),
    /// Run a program and print its time, CPU and memory usage
    #[command(hide = true)]
    Measure(bench_copy::measure::Arguments),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Check(arguments) => check::run(&arguments),
        Task::Api => check::write_api(),
        Task::SdkMembers => check::write_sdk_members(),
        Task::KubeSchema(arguments) => kube_schema::run(&arguments),
        Task::Advisories(arguments) => check::write_advisories(&arguments),
        Task::E2e(arguments) => e2e::run(&arguments),
        Task::Mutants(arguments) => mutants::run(&arguments),
        Task::BenchCopy(arguments) => bench_copy::run(&arguments),
        Task::BenchEks(arguments) => e2e::kubernetes::bench::run(&arguments),
        Task::Soak(arguments) => soak::run(&arguments),
        Task::Fuzz(arguments) => fuzz::run(&arguments),
        Task::BenchEcs(arguments) => bench_ecs::run(&arguments),
        Task::BenchBuild(arguments) => bench_build::run(&arguments),
        Task::Dist(arguments) => dist::run(&arguments),
        Task::Nightly(arguments) => nightly::run(&arguments),
        Task::Strings(arguments) => strings::run(&arguments),
        Task::Measure(arguments) => bench_copy::measure::run(&arguments),
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
    fn the_arguments_of_every_task_are_valid() {
        super::Arguments::command().debug_assert();
    }
}
