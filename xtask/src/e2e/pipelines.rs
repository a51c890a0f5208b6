//! Linters of others on the pipeline files in `examples/`. That their commands work is a test of bp-examples.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result};

use super::{
    test_run::TestRun,
    tools::{ACTIONLINT, CFN_LINT, CHECK_JSONSCHEMA, SHELLCHECK, ZIZMOR},
};
use crate::command;

/// Directories of an example, and where a repository has their files.
const PLACES: [(&str, &str); 3] = [
    ("examples/github-actions", ".github/workflows"),
    ("examples/github-actions/install-bp", ".github/actions/install-bp"),
    ("examples/github-actions/last-deployment", ".github/actions/last-deployment"),
];
/// The same of the GitOps repository.
const GITOPS_PLACES: [(&str, &str); 2] = [
    ("examples/gitops", ".github/workflows"),
    ("examples/github-actions/install-bp", ".github/actions/install-bp"),
];
/// Not a workflow, but CloudFormation.
const GITOPS_TEMPLATE: &str = "pod-identity.yml";
/// CloudFormation templates.
const TEMPLATES: [&str; 6] = [
    "examples/codepipeline/pipeline.yml",
    "examples/codepipeline/eks-on-push.yml",
    "examples/codepipeline/rotate-on-schedule.yml",
    "examples/roles/github.yml",
    "examples/roles/environment.yml",
    "examples/gitops/pod-identity.yml",
];
const SCRIPTS: [&str; 1] = ["examples/github-actions/environments.sh"];
/// In the examples' directory, but not a workflow.
const CONFIGURATION: &str = "zizmor.yml";

pub(super) fn run(test_run: &mut TestRun) -> Result<()> {
    let repository = test_run.scratch.join("repository");
    let gitops = test_run.scratch.join("gitops");
    for (places, to_repository) in [(&PLACES[..], &repository), (&GITOPS_PLACES[..], &gitops)] {
        for (from, to) in places {
            copy(&command::root().join(from), &to_repository.join(to))?;
        }
        // actionlint takes the files of a repository.
        command::output(Command::new("git").args(["init", "--quiet"]).arg(to_repository))?;
    }

    let shellcheck = test_run.tools.find(SHELLCHECK)?;
    let actionlint = |directory: &Path| -> Result<Command> {
        let mut actionlint = test_run.tools.command(ACTIONLINT)?;
        actionlint.current_dir(directory).arg("-no-color").arg("-shellcheck").arg(&shellcheck);
        Ok(actionlint)
    };
    let (of_repository, of_gitops) = (actionlint(&repository)?, actionlint(&gitops)?);
    let mut zizmor = test_run.tools.command(ZIZMOR)?;
    zizmor.args(["--offline", "--no-progress", "--quiet", "--config"]);
    let configuration = command::root().join("examples/github-actions").join(CONFIGURATION);
    zizmor.arg(configuration).arg(&repository).arg(&gitops);
    let mut cfn_lint = test_run.tools.command(CFN_LINT)?;
    cfn_lint.args(TEMPLATES.map(|template| command::root().join(template)));
    let schema = |name: &str, places: &[(&str, &str)]| -> Result<Command> {
        let mut check = test_run.tools.command(CHECK_JSONSCHEMA)?;
        check.args(["--builtin-schema", name]);
        for (_, to) in places {
            for entry in fs::read_dir(repository.join(to))? {
                check.arg(entry?.path());
            }
        }
        Ok(check)
    };
    let workflows = schema("vendor.github-workflows", &PLACES[..1])?;
    let actions = schema("vendor.github-actions", &PLACES[1..])?;
    let mut scripts = Command::new(&shellcheck);
    scripts.args(SCRIPTS.map(|script| command::root().join(script)));
    for (linter, scenario, mut program) in [
        ("actionlint", "GitHub workflows and their scripts", of_repository),
        ("actionlint", "the workflow of the GitOps repository", of_gitops),
        ("zizmor", "GitHub workflows: security", zizmor),
        ("check-jsonschema", "GitHub workflows", workflows),
        ("check-jsonschema", "GitHub actions", actions),
        ("shellcheck", "scripts of the pipelines", scripts),
        ("cfn-lint", "the CloudFormation templates", cfn_lint),
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
        if path.extension().is_some_and(|extension| extension == "yml")
            && name != CONFIGURATION
            && name != GITOPS_TEMPLATE
        {
            fs::copy(&path, to.join(name))?;
        }
    }
    Ok(())
}
