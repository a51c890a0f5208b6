//! `e2e`: end-to-end tests against real servers, and with real clients against the sandbox.
//!
//! A *part* starts its servers, runs its scenarios and stops the servers. [`tools`] finds or installs programs,
//! [`server`] manages processes, and [`table`] reports the results per server.

mod aws;
mod documents;
mod everyday;
pub(crate) mod http;
pub(crate) mod kubernetes;
mod library;
mod moto;
mod pipelines;
mod registries;
mod sandbox;
pub(crate) mod server;
mod table;
mod test_run;
pub(crate) mod tools;

use std::fs;

use anyhow::Result;
use clap::ValueEnum;

use self::{
    test_run::TestRun,
    tools::{Cache, MissingPrograms, Tool},
};
use crate::{clock, report};

/// A part of the end-to-end tests, by its servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// aws-cli against moto and against the sandbox
    Aws,
    /// Other registries, with the same requests to them and to the sandbox
    Registries,
    /// A real Kubernetes control plane, with kwok for nodes
    Kubernetes,
    /// Real clients against the sandbox
    Sandbox,
    /// moto's own tests against the sandbox
    Moto,
    /// Documents checked by a JSON Schema validator and in-toto's own library
    Documents,
    /// The pipeline files of the examples, checked by linters
    Pipelines,
}

impl Part {
    /// The programs that the part requires.
    fn tools(self) -> Vec<Tool> {
        use tools::*;
        let clients = sandbox::TOOLS.to_vec();
        match self {
            Part::Aws => [vec![MOTO], clients].concat(),
            Part::Registries => [vec![DOCKER_REGISTRY, DISTRIBUTION, FERRO, CONFORMANCE], clients].concat(),
            Part::Kubernetes => {
                vec![
                    ETCD,
                    KUBE_APISERVER,
                    KUBE_CONTROLLER_MANAGER,
                    KUBE_SCHEDULER,
                    KUBECTL,
                    KWOK,
                    HELM,
                    AWS_CLI,
                ]
            }
            Part::Sandbox => clients,
            Part::Moto => vec![MOTO_TESTS, MOTO_SOURCES],
            Part::Documents => vec![CHECK_JSONSCHEMA, IN_TOTO],
            Part::Pipelines => vec![ACTIONLINT, ZIZMOR, CFN_LINT, CHECK_JSONSCHEMA, SHELLCHECK],
        }
    }

    fn run(self, test_run: &mut TestRun) -> Result<()> {
        test_run.tools.require(&self.tools())?;
        match self {
            Part::Aws => aws::run(test_run),
            Part::Registries => registries::run(test_run),
            Part::Kubernetes => kubernetes::run(test_run),
            Part::Sandbox => sandbox::run(test_run),
            Part::Moto => moto::run(test_run),
            Part::Documents => documents::run(test_run),
            Part::Pipelines => pipelines::run(test_run),
        }
    }

    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Run only this part (repeatable)
    #[arg(long, value_enum)]
    only: Vec<Part>,
    /// Run only scenarios whose name contains TEXT
    #[arg(long, value_name = "TEXT")]
    scenario: Option<String>,
    /// Keep the servers of a part running until Ctrl-C and print how to reach them
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    cache: Cache,
}

/// Runs the parts; returns whether every part ran and every scenario passed.
pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    server::stop_all_on_signal()?;
    let mut test_run = TestRun::new(&arguments.cache, arguments.scenario.clone())?;

    let parts = if arguments.only.is_empty() { Part::value_variants() } else { &arguments.only[..] };
    let mut missing = Vec::new();
    for part in parts {
        let (ended, took) = clock::timed(|| part.run(&mut test_run));
        report::line(format_args!("::: part {} took {:.0} s", part.name(), took.as_secs_f64()));
        match ended {
            Ok(()) => {}
            Err(error) if error.downcast_ref::<MissingPrograms>().is_some() => {
                report::line(format_args!("part {} was not run, programs are missing: {error}", part.name()));
                missing.push(part.name());
            }
            // A server that does not start fails this part; the other parts still run.
            Err(error) => test_run.table.failed(&part.name(), "the part itself", &error),
        }
        if arguments.keep {
            keep_running(&test_run);
        }
        test_run.servers.clear();
        test_run.environment.clear();
    }
    report::line("");
    test_run.table.print();
    if !missing.is_empty() {
        report::line(format_args!("not run because of missing programs: {}", missing.join(", ")));
    }
    let (passed, failed) = test_run.table.counts();
    report::line(format_args!("e2e: {passed} passed, {failed} failed, {} parts not run", missing.len()));
    // Keep the logs of a failed run only.
    if failed == 0 {
        let _ = fs::remove_dir_all(&test_run.scratch);
    } else {
        report::line(format_args!("logs: {}", test_run.scratch.display()));
    }
    Ok(failed == 0 && missing.is_empty())
}

/// Prints how to reach the servers and waits for Ctrl-C.
fn keep_running(test_run: &TestRun) -> ! {
    for server in &test_run.servers {
        report::line(format_args!("running: {server}"));
    }
    for (name, value) in &test_run.environment {
        report::line(format_args!("export {name}={}", value.display()));
    }
    server::wait_for_ctrl_c()
}
