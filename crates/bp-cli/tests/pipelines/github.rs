//! GitHub Actions: runs the jobs of a workflow in order, with the runner's documented variables and files. Expressions and
//! actions that it does not know are errors, so that nothing is left out silently.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::{Value, json};

use super::site::{RELEASE, Site, copy};

/// The variable with the credentials of a job.
const ACCESS_KEY: &str = "AWS_ACCESS_KEY_ID";

/// A run of a workflow.
pub(crate) struct Run<'s> {
    site: &'s Site,
    /// Values of expressions: `github.sha`, `inputs.environment`.
    values: BTreeMap<String, String>,
    attempt: u32,
}

/// A job that failed: its name and what its step printed.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) job: String,
    pub(crate) output: String,
}

impl<'s> Run<'s> {
    /// A run that was started by this event, for this ref and its commit.
    pub(crate) fn new(site: &'s Site, event: &str, reference: &str, commit: &str) -> Self {
        let name = reference.rsplit('/').next().unwrap();
        let event_file = site.path("state").join("event.json");
        fs::write(event_file, json!({ "ref": reference }).to_string()).unwrap();
        let values = [
            ("github.event_name", event),
            ("github.ref", reference),
            ("github.ref_name", name),
            ("github.sha", commit),
            ("github.token", "token-of-the-job"),
            ("vars.BP_URL", RELEASE),
            ("vars.BP_SHA256", &site.checksum()),
        ];
        let values = values.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Self { site, values, attempt: 1 }
    }

    /// The next attempt of this run.
    pub(crate) fn again(mut self) -> Self {
        self.attempt += 1;
        self
    }

    /// Runs a file of `examples/github-actions` with these inputs.
    pub(crate) async fn workflow(&self, file: &str, inputs: &[(&str, &str)]) -> Result<(), Failed> {
        let text = match file {
            "deliver.yml" => include_str!("../../../../examples/github-actions/deliver.yml"),
            "build.yml" => include_str!("../../../../examples/github-actions/build.yml"),
            "deploy.yml" => include_str!("../../../../examples/github-actions/deploy.yml"),
            "release.yml" => include_str!("../../../../examples/github-actions/release.yml"),
            "promote.yml" => include_str!("../../../../examples/github-actions/promote.yml"),
            "rollback.yml" => include_str!("../../../../examples/github-actions/rollback.yml"),
            "drift.yml" => include_str!("../../../../examples/github-actions/drift.yml"),
            "rotate.yml" => include_str!("../../../../examples/github-actions/rotate.yml"),
            "branches.yml" => include_str!("../../../../examples/github-actions/branches.yml"),
            "gitops/promote.yml" => include_str!("../../../../examples/gitops/promote.yml"),
            other => panic!("no workflow {other}"),
        };
        let workflow: Value = serde_saphyr::from_str(text).unwrap();
        let mut values = self.values.clone();
        let called = workflow["on"]["workflow_call"]["inputs"].as_object();
        let dispatched = workflow["on"]["workflow_dispatch"]["inputs"].as_object();
        for (name, _) in called.or(dispatched).into_iter().flatten() {
            let given = inputs.iter().find(|(input, _)| input == name);
            let (_, value) = given.unwrap_or_else(|| panic!("{file} needs the input {name}"));
            values.insert(format!("inputs.{name}"), (*value).to_owned());
        }
        let environment = evaluated_map(&workflow["env"], &values);

        let jobs = workflow["jobs"].as_object().unwrap();
        let mut done: BTreeSet<&str> = BTreeSet::new();
        while done.len() < jobs.len() {
            let is_ready = |job: &Value| job["needs"].as_str().is_none_or(|needed| done.contains(needed));
            let next = jobs.iter().find(|(name, job)| !done.contains(name.as_str()) && is_ready(job));
            let (name, job) = next.expect("the jobs depend on each other in a circle");
            for values in matrix(&job["strategy"]["matrix"], &values) {
                if let Some(called) = job["uses"].as_str() {
                    let file = called.strip_prefix("./.github/workflows/").unwrap();
                    let inputs = evaluated_map(&job["with"], &values);
                    let inputs: Vec<(&str, &str)> =
                        inputs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                    Box::pin(self.workflow(file, &inputs)).await?;
                } else {
                    self.job(name, job, &environment, values).await?;
                }
            }
            done.insert(name);
        }
        Ok(())
    }

    async fn job(
        &self,
        name: &str,
        job: &Value,
        environment: &BTreeMap<String, String>,
        mut values: BTreeMap<String, String>,
    ) -> Result<(), Failed> {
        let workspace = self.site.workspace(false);
        let mut job_path = String::new();
        let mut failed = None;
        let mut environment = environment.clone();
        environment.extend(evaluated_map(&job["env"], &values));
        environment.insert(ACCESS_KEY.to_owned(), self.site.key_of("none"));
        for step in job["steps"].as_array().unwrap() {
            let runs = match step["if"].as_str() {
                None => failed.is_none(),
                Some("always()") => true,
                Some("github.run_attempt > 1") => failed.is_none() && self.attempt > 1,
                Some(condition) => failed.is_none() && compared(condition, &values),
            };
            if !runs {
                continue;
            }
            let (ended, outputs) = if let Some(action) = step["uses"].as_str() {
                let inputs = evaluated_map(&step["with"], &values);
                self.action(action, &inputs, workspace.path(), &mut job_path).await
            } else {
                let mut variables = environment.clone();
                variables.extend(evaluated_map(&step["env"], &values));
                let script = evaluated(step["run"].as_str().unwrap(), &values);
                self.script(&script, &variables, workspace.path(), &mut job_path).await
            };
            let (keys, outputs): (Vec<_>, Vec<_>) =
                outputs.into_iter().partition(|(name, _)| name == ACCESS_KEY);
            environment.extend(keys);
            if let Some(id) = step["id"].as_str() {
                let named = |(name, value)| (format!("steps.{id}.outputs.{name}"), value);
                values.extend(outputs.into_iter().map(named));
            }
            if let Err(output) = ended
                && step["continue-on-error"] != json!(true)
                && failed.is_none()
            {
                failed = Some(Failed { job: name.to_owned(), output });
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Runs a script as a step does; returns what it printed if it failed, and its outputs.
    async fn script(
        &self,
        script: &str,
        variables: &BTreeMap<String, String>,
        workspace: &Path,
        job_path: &mut String,
    ) -> Step {
        let [output, path] = ["step-output", "step-path"].map(|name| self.site.path("state").join(name));
        for file in [&output, &path] {
            fs::write(file, "").unwrap();
        }
        let mut all = self.runner_variables(workspace);
        all.insert("GITHUB_OUTPUT".to_owned(), output.display().to_string());
        all.insert("GITHUB_PATH".to_owned(), path.display().to_string());
        all.extend(variables.clone());
        let options = ["--noprofile", "--norc", "-eo", "pipefail"];
        let ended = self.site.run(workspace, &options, script, &all, job_path).await;
        for line in fs::read_to_string(path).unwrap().lines() {
            *job_path = format!("{line}:{job_path}");
        }
        let outputs = fs::read_to_string(output).unwrap();
        let outputs = outputs.lines().filter_map(|line| line.split_once('='));
        let outputs = outputs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        (if ended.code == 0 { Ok(()) } else { Err(ended.output) }, outputs)
    }

    /// The default variables of a job:
    /// <https://docs.github.com/en/actions/reference/workflows-and-actions/variables>.
    fn runner_variables(&self, workspace: &Path) -> BTreeMap<String, String> {
        let of = |name: &str| self.values[name].clone();
        let reference = of("github.ref");
        let kind = if reference.starts_with("refs/tags/") { "tag" } else { "branch" };
        let event = self.site.path("state").join("event.json");
        let temporary = workspace.join(".runner");
        fs::create_dir_all(&temporary).unwrap();
        [
            ("CI", "true".to_owned()),
            ("GITHUB_ACTIONS", "true".to_owned()),
            ("GITHUB_ACTOR", "somebody".to_owned()),
            ("GITHUB_EVENT_NAME", of("github.event_name")),
            ("GITHUB_EVENT_PATH", event.display().to_string()),
            ("GITHUB_REF", reference),
            ("GITHUB_REF_NAME", of("github.ref_name")),
            ("GITHUB_REF_TYPE", kind.to_owned()),
            ("GITHUB_REPOSITORY", "example/shop".to_owned()),
            ("GITHUB_REPOSITORY_ID", "456789".to_owned()),
            ("GITHUB_REPOSITORY_OWNER", "example".to_owned()),
            ("GITHUB_RUN_ATTEMPT", self.attempt.to_string()),
            ("GITHUB_RUN_ID", "1658821493".to_owned()),
            ("GITHUB_RUN_NUMBER", "3".to_owned()),
            ("GITHUB_SERVER_URL", "https://github.com".to_owned()),
            ("GITHUB_SHA", of("github.sha")),
            ("GITHUB_WORKFLOW", "deliver".to_owned()),
            ("GITHUB_WORKSPACE", workspace.display().to_string()),
            ("RUNNER_OS", "Linux".to_owned()),
            ("RUNNER_TEMP", temporary.display().to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// What an action does; the version after `@` is its commit.
    async fn action(
        &self,
        action: &str,
        inputs: &BTreeMap<String, String>,
        workspace: &Path,
        job_path: &mut String,
    ) -> Step {
        let input = |name: &str| inputs.get(name).map(String::as_str).unwrap_or_default();
        let kept = |name: &str| self.site.path("state").join("artifacts").join(name);
        match action.split('@').next().unwrap() {
            "actions/checkout" => copy(&self.site.path("repository"), workspace),
            "actions/upload-artifact" => {
                let target = kept(input("name"));
                assert!(
                    !target.exists() || input("overwrite") == "true",
                    "artifact {} exists",
                    input("name")
                );
                fs::create_dir_all(&target).unwrap();
                let found: Vec<&str> =
                    input("path").lines().filter(|file| workspace.join(file).exists()).collect();
                if found.is_empty() && input("if-no-files-found") != "ignore" {
                    return (Err(format!("no file {}", input("path"))), Vec::new());
                }
                for file in found {
                    fs::copy(workspace.join(file), target.join(file)).unwrap();
                }
            }
            "actions/download-artifact" => {
                let source = kept(input("name"));
                if !source.exists() {
                    return (Err(format!("no artifact {}", input("name"))), Vec::new());
                }
                copy(&source, workspace);
            }
            "aws-actions/configure-aws-credentials" => {
                let role = input("role-to-assume").strip_prefix("arn:aws:iam::111111111111:role/").unwrap();
                // As the action does, for the following steps.
                let key = self.site.key_of(role);
                return (Ok(()), vec![(ACCESS_KEY.to_owned(), key)]);
            }
            "docker/setup-qemu-action" => {}
            "docker/setup-buildx-action" => fs::write(self.site.path("state").join("builder"), "").unwrap(),
            "./.github/actions/install-bp" => {
                let text = include_str!("../../../../examples/github-actions/install-bp/action.yml");
                return self.composite(text, inputs, workspace, job_path).await;
            }
            "./.github/actions/last-deployment" => {
                let text = include_str!("../../../../examples/github-actions/last-deployment/action.yml");
                return self.composite(text, inputs, workspace, job_path).await;
            }
            other => panic!("the action {other} is not known"),
        }
        (Ok(()), Vec::new())
    }

    /// Runs the steps of a composite action; returns the outputs of its last step, which are those of the action.
    async fn composite(
        &self,
        text: &str,
        inputs: &BTreeMap<String, String>,
        workspace: &Path,
        job_path: &mut String,
    ) -> Step {
        let action: Value = serde_saphyr::from_str(text).unwrap();
        let mut values = self.values.clone();
        for (name, input) in action["inputs"].as_object().unwrap() {
            let default = input["default"].as_str().map(|default| evaluated(default, &values));
            let value = inputs.get(name).cloned().or(default);
            values.insert(format!("inputs.{name}"), value.unwrap_or_else(|| panic!("{name} is required")));
        }
        let mut last = Vec::new();
        for step in action["runs"]["steps"].as_array().unwrap() {
            assert_eq!(step["shell"], "bash");
            let variables = evaluated_map(&step["env"], &values);
            let (ended, outputs) =
                self.script(step["run"].as_str().unwrap(), &variables, workspace, job_path).await;
            if ended.is_err() {
                return (ended, outputs);
            }
            last = outputs;
        }
        (Ok(()), last)
    }
}

/// What a step printed if it failed, and its outputs.
type Step = (Result<(), String>, Vec<(String, String)>);

/// A condition `NAME == 'VALUE'` or `NAME != 'VALUE'`.
fn compared(condition: &str, values: &BTreeMap<String, String>) -> bool {
    let (name, operator, value) = match condition.split(' ').collect::<Vec<_>>()[..] {
        [name, operator, value] => (name, operator, value.trim_matches('\'')),
        _ => panic!("the condition {condition:?} is not known"),
    };
    let found = values.get(name).unwrap_or_else(|| panic!("{name} is not known"));
    match operator {
        "==" => found == value,
        "!=" => found != value,
        other => panic!("the operator {other:?} is not known"),
    }
}

/// The values of each job of a matrix; one without a matrix.
fn matrix(matrix: &Value, values: &BTreeMap<String, String>) -> Vec<BTreeMap<String, String>> {
    let with = |values: &BTreeMap<String, String>, name: &str, value: &Value| {
        let mut values = values.clone();
        values.insert(format!("matrix.{name}"), value.as_str().unwrap().to_owned());
        values
    };
    let Some(axes) = matrix.as_object() else { return vec![values.clone()] };
    let [(name, list)] = axes.iter().collect::<Vec<_>>()[..] else { panic!("one axis is known") };
    let list = list.as_array().unwrap();
    if name == "include" {
        let of = |entry: &Value| {
            let entries = entry.as_object().unwrap();
            entries.iter().fold(values.clone(), |values, (name, value)| with(&values, name, value))
        };
        return list.iter().map(of).collect();
    }
    list.iter().map(|value| with(values, name, value)).collect()
}

fn evaluated_map(map: &Value, values: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let entries = map.as_object().into_iter().flatten();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    entries.map(|(name, value)| (name.clone(), evaluated(&text(value), values))).collect()
}

/// The text with its expressions replaced by their values.
fn evaluated(text: &str, values: &BTreeMap<String, String>) -> String {
    let mut parts = text.split("${{");
    let mut evaluated = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (expression, rest) = part.split_once("}}").expect("an expression ends");
        let expression = expression.trim();
        evaluated += &value_of(expression, values);
        evaluated += rest;
    }
    evaluated
}

/// The value of a name, or of an entry of an object: `fromJSON('OBJECT')[NAME]`.
fn value_of(expression: &str, values: &BTreeMap<String, String>) -> String {
    let named = |name: &str| {
        values.get(name).cloned().unwrap_or_else(|| panic!("the expression {expression:?} is not known"))
    };
    let entry = expression.strip_prefix("fromJSON('").and_then(|rest| rest.split_once("')["));
    let Some((object, name)) = entry else { return named(expression) };
    let object: Value = serde_json::from_str(object).unwrap();
    object[named(name.strip_suffix(']').unwrap())].as_str().expect("the object has the entry").to_owned()
}
