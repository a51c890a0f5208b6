//! `check`: repository rules that the compiler does not check.
//!
//! A check is a function from the workspace to its findings; each is in its own file and listed in [`CHECKS`].

mod absent;
mod advisories;
mod api;
mod circles;
mod dependencies;
mod direction;
mod documented;
mod features;
mod finding;
mod fuzz;
mod hygiene;
mod length;
mod licences;
mod links;
mod markdown;
mod panics;
mod paths;
mod scenarios;
mod sdk;
mod words;
mod workspace;

use std::time::Duration;

use anyhow::{Result, bail};

use self::{
    finding::{Finding, Severity},
    workspace::Workspace,
};
use crate::report;

/// Writes the API listings that the check `api` compares.
pub(crate) fn write_api() -> Result<bool> {
    api::write(&Workspace::load()?)
}

/// Writes the list that the check `sdk` compares.
pub(crate) fn write_sdk_members() -> Result<bool> {
    sdk::write(&Workspace::load()?)
}

pub(crate) use advisories::{Arguments as AdvisoriesArguments, write as write_advisories};

/// A check: its name, what it verifies, and its function.
struct Check {
    name: &'static str,
    proves: &'static str,
    /// Run only if selected by name, or with `--all`.
    slow: bool,
    run: fn(&Workspace) -> Result<Vec<Finding>>,
}

const CHECKS: &[Check] = &[
    Check {
        name: "direction",
        proves: "crates depend on each other only in the allowed direction",
        slow: false,
        run: direction::check,
    },
    Check {
        name: "circles",
        proves: "the files of a crate import each other in one direction",
        slow: false,
        run: circles::check,
    },
    Check {
        name: "absent",
        proves: "no build contains a crate that it must not contain",
        slow: false,
        run: absent::check,
    },
    Check {
        name: "licences",
        proves: "licences, banned crates and sources are as deny.toml allows",
        slow: false,
        run: licences::check,
    },
    Check {
        name: "advisories",
        proves: "no package has an advisory of the committed snapshot",
        slow: false,
        run: advisories::check,
    },
    Check {
        name: "dependencies",
        proves: "docs/dependencies.md has a reason for every direct dependency",
        slow: false,
        run: dependencies::check,
    },
    Check {
        name: "documented",
        proves: "every library has crate documentation and an example that compiles",
        slow: false,
        run: documented::check,
    },
    Check { name: "length", proves: "no source file is too long", slow: false, run: length::check },
    Check {
        name: "links",
        proves: "relative links in Markdown point to existing files",
        slow: false,
        run: links::check,
    },
    Check { name: "paths", proves: "paths in backticks in Markdown exist", slow: false, run: paths::check },
    Check {
        name: "hygiene",
        proves: "the repository contains no machine paths, conflict markers or unfinished code",
        slow: false,
        run: hygiene::check,
    },
    Check {
        name: "panics",
        proves: "libraries deny the lints against panics by arithmetic, indexing and slicing",
        slow: false,
        run: panics::check,
    },
    Check {
        name: "scenarios",
        proves: "tests listed in docs/*-scenarios.md exist",
        slow: false,
        run: scenarios::check,
    },
    Check {
        name: "sdk",
        proves: "members and enum values of the ECS, ECR and EKS SDKs are those that were reviewed",
        slow: false,
        run: sdk::check,
    },
    Check {
        name: "words",
        proves: "the prose uses the terms of docs/STYLE.md",
        slow: false,
        run: words::check,
    },
    Check {
        name: "api",
        proves: "the public APIs and their external types are as committed in docs/api",
        slow: true,
        run: api::check,
    },
    Check {
        name: "fuzz",
        proves: "the fuzz targets build, and each has a corpus that a test replays",
        slow: true,
        run: fuzz::check,
    },
    Check {
        name: "features",
        proves: "every library builds on its own without features",
        slow: true,
        run: features::check,
    },
    Check {
        name: "each-feature",
        proves: "every library builds on its own with each of its features, and with all of them",
        slow: true,
        run: features::check_each,
    },
];

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Checks to run [default: all except the slow ones]
    names: Vec<String>,
    /// Also run the slow checks
    #[arg(long, conflicts_with = "names")]
    all: bool,
}

/// Runs the checks; returns whether all passed.
pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    let chosen = choose(arguments)?;
    let workspace = Workspace::load()?;
    let (mut passed, mut failed) = (0, 0);
    for check in chosen {
        let (findings, took) = crate::clock::timed(|| (check.run)(&workspace));
        let findings = findings?;
        let bad = findings.iter().any(|finding| finding.severity == Severity::Failure);
        report::line(format_args!(
            "{} {:<10} {}{}",
            if bad { "FAIL" } else { "ok  " },
            check.name,
            check.proves,
            slow_note(took)
        ));
        findings.iter().for_each(report::line);
        if bad { failed += 1 } else { passed += 1 }
    }
    report::line(format_args!("checks: {passed} passed, {failed} failed"));
    Ok(failed == 0)
}

fn choose(arguments: &Arguments) -> Result<Vec<&'static Check>> {
    if arguments.names.is_empty() {
        return Ok(CHECKS.iter().filter(|check| arguments.all || !check.slow).collect());
    }
    let find = |name: &String| match CHECKS.iter().find(|check| check.name == name) {
        Some(check) => Ok(check),
        None => {
            let known: Vec<_> = CHECKS.iter().map(|check| check.name).collect();
            bail!("unknown check {name:?}; available checks: {}", known.join(", "))
        }
    };
    arguments.names.iter().map(find).collect()
}

fn slow_note(took: Duration) -> String {
    if took < Duration::from_secs(1) { String::new() } else { format!(" ({:.0} s)", took.as_secs_f64()) }
}
