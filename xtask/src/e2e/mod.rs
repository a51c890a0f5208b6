//! The line on real servers, and real clients on the sandbox.
//!
//! A *part* starts its servers, runs its scenarios and ends the servers. Programs are found or installed by
//! [`tools`], kept by [`server`], and what was proven where is told by [`table`].

mod aws;
mod documents;
pub(crate) mod http;
pub(crate) mod kubernetes;
mod library;
mod registries;
mod sandbox;
pub(crate) mod server;
mod stage;
mod table;
pub(crate) mod tools;

use std::fs;

use anyhow::Result;
use clap::ValueEnum;

use self::{
    stage::Stage,
    tools::{Cache, Lacking, Tool},
};
use crate::{clock, report};

/// Where the servers of a scenario come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// aws-cli against moto and against the sandbox
    Aws,
    /// Registries of others, and the same requests to them and to the sandbox
    Registries,
    /// A real control plane, with kwok for a node
    Kubernetes,
    /// Real clients against the sandbox
    Sandbox,
    /// Documents before a JSON Schema validator and in-toto's own library
    Documents,
}

impl Part {
    /// Every program that it needs.
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
            Part::Documents => vec![CHECK_JSONSCHEMA, IN_TOTO],
        }
    }

    fn run(self, stage: &mut Stage) -> Result<()> {
        stage.tools.require(&self.tools())?;
        match self {
            Part::Aws => aws::run(stage),
            Part::Registries => registries::run(stage),
            Part::Kubernetes => kubernetes::run(stage),
            Part::Sandbox => sandbox::run(stage),
            Part::Documents => documents::run(stage),
        }
    }

    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Run only this part (may be given several times)
    #[arg(long, value_enum)]
    only: Vec<Part>,
    /// Run only the scenarios whose name contains this
    #[arg(long, value_name = "TEXT")]
    scenario: Option<String>,
    /// Leave the servers up and print how to reach them; Ctrl-C ends them
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    cache: Cache,
}

/// Runs the parts; whether each could run and every scenario passed.
pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    server::end_all_on_signal()?;
    let mut stage = Stage::new(&arguments.cache, arguments.scenario.clone())?;

    let parts = if arguments.only.is_empty() { Part::value_variants() } else { &arguments.only[..] };
    let mut lacking = Vec::new();
    for part in parts {
        let (ended, took) = clock::timed(|| part.run(&mut stage));
        report::line(format_args!("::: part {} took {:.0} s", part.name(), took.as_secs_f64()));
        match ended {
            Ok(()) => {}
            Err(error) if error.downcast_ref::<Lacking>().is_some() => {
                report::line(format_args!("part {} did not run: {error}", part.name()));
                lacking.push(part.name());
            }
            // Servers that do not start are a failure of this part; the others still run.
            Err(error) => stage.table.failed(&part.name(), "the part itself", &error),
        }
        if arguments.keep {
            stay(&stage);
        }
        stage.servers.clear();
        stage.environment.clear();
    }
    report::line("");
    stage.table.print();
    if !lacking.is_empty() {
        report::line(format_args!("not run, for want of programs: {}", lacking.join(", ")));
    }
    let (passed, failed) = stage.table.counts();
    report::line(format_args!("e2e: {passed} passed, {failed} failed, {} parts not run", lacking.len()));
    // A failed run leaves its logs; a good one leaves nothing.
    if failed == 0 {
        let _ = fs::remove_dir_all(&stage.scratch);
    } else {
        report::line(format_args!("logs: {}", stage.scratch.display()));
    }
    Ok(failed == 0 && lacking.is_empty())
}

/// Tells how to reach the servers and waits for Ctrl-C.
fn stay(stage: &Stage) -> ! {
    for server in &stage.servers {
        report::line(format_args!("kept: {server}"));
    }
    for (name, value) in &stage.environment {
        report::line(format_args!("export {name}={}", value.display()));
    }
    server::stay()
}
