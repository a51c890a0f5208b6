//! Linters of others on the pipeline files in `examples/`. That their commands work is a test of bp-examples.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result};

use super::{
    test_run::TestRun,
    tools::{ACTIONLINT, CFN_LINT, SHELLCHECK, ZIZMOR},
};
use crate::command;

/// Directories of an example, and where a repository has their files.
const PLACES: [(&str, &str); 3] = [
    ("examples/github-actions", ".github/workflows"),
    ("examples/github-actions/install-bp", ".github/actions/install-bp"),
    ("examples/github-actions/last-deployment", ".github/actions/last-deployment"),
];
/// In the examples' directory, but not a workflow.
const CONFIGURATION: &str = "zizmor.yml";

pub(super) fn run(test_run: &mut TestRun) -> Result<()> {
    let repository = test_run.scratch.join("repository");
    for (from, to) in PLACES {
        copy(&command::root().join(from), &repository.join(to))?;
    }
    // actionlint takes the files of a repository.
    command::output(Command::new("git").args(["init", "--quiet"]).arg(&repository))?;

    let shellcheck = test_run.tools.find(SHELLCHECK)?;
    let mut actionlint = test_run.tools.command(ACTIONLINT)?;
    actionlint.current_dir(&repository).arg("-no-color").arg("-shellcheck").arg(shellcheck);
    let mut zizmor = test_run.tools.command(ZIZMOR)?;
    zizmor.args(["--offline", "--no-progress", "--quiet", "--config"]);
    zizmor.arg(command::root().join("examples/github-actions").join(CONFIGURATION)).arg(&repository);
    let mut cfn_lint = test_run.tools.command(CFN_LINT)?;
    cfn_lint.arg(command::root().join("examples/codepipeline/pipeline.yml"));
    for (linter, scenario, mut program) in [
        ("actionlint", "GitHub workflows and their scripts", actionlint),
        ("zizmor", "GitHub workflows: security", zizmor),
        ("cfn-lint", "the CloudFormation template of CodePipeline", cfn_lint),
    ] {
        test_run.table.scenario(linter, scenario, || {
            command::output(&mut program)?;
            Ok("no findings".to_owned())
        });
    }
    Ok(())
}

/// Copies the YAML files of a directory.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        if path.extension().is_some_and(|extension| extension == "yml") && name != CONFIGURATION {
            fs::copy(&path, to.join(name))?;
        }
    }
    Ok(())
}
