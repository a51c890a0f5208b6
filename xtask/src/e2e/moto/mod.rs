//! moto's own tests, in server mode, against the sandbox instead of moto: an independent judge of our models of ECS, ECR,
//! Secrets Manager, Parameter Store and STS. `expected.toml` lists each test that fails, with the reason.

mod verdict;

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{Context, Result, bail};

use self::verdict::{Expected, TestResult};
use super::{
    http,
    server::{Server, free_port},
    test_run::TestRun,
    tools::{MOTO_SOURCES, MOTO_TESTS},
};
use crate::command;

const SERVER: &str = "sandbox";
/// The services, by the directory of their tests. Each has its own server and its own process of pytest.
const SERVICES: [&str; 5] = ["ecs", "ecr", "secretsmanager", "ssm", "sts"];
/// The list of the tests that fail.
const EXPECTED: &str = "xtask/src/e2e/moto/expected.toml";
const LIMIT: Duration = Duration::from_secs(600);

pub(super) fn run(test_run: &mut TestRun) -> Result<()> {
    // The whole workspace, so that features and build artefacts are those of `cargo test --workspace`.
    command::output(command::cargo().args(["build", "--quiet", "--workspace", "--example=moto"]))?;
    let sources = test_run.tools.find(MOTO_SOURCES)?;
    let sources = sources.parent().context("moto's tests have no parent directory")?.to_owned();
    let plugins = test_run.scratch.join("pytest-plugins");
    fs::create_dir_all(&plugins)?;
    fs::write(plugins.join("bp_results.py"), include_str!("plugin.py"))?;
    let expected = fs::read_to_string(command::root().join(EXPECTED))
        .with_context(|| format!("cannot read {EXPECTED}"))?;
    let expected: Expected = toml::from_str(&expected).with_context(|| format!("cannot parse {EXPECTED}"))?;
    for service in SERVICES {
        let address = serve(test_run, service)?;
        let results = test_run.scratch.join(format!("moto-{service}.jsonl"));
        let mut pytest = test_run.tools.command(MOTO_TESTS)?;
        configure(&mut pytest, &sources, &plugins, &results, &address, service);
        test_run.table.scenario(SERVER, &format!("moto's own tests of {service}"), || {
            let results = tests(&mut pytest, &results)?;
            verdict::compare(&results, &expected.of(service))
        });
    }
    Ok(())
}

/// Starts the sandbox in place of moto's server.
fn serve(test_run: &mut TestRun, service: &str) -> Result<String> {
    let address = format!("127.0.0.1:{}", free_port()?);
    let mut sandbox = Command::new(command::root().join("target/debug/examples/moto"));
    sandbox.arg(&address);
    let name = format!("sandbox-{service}");
    let server = Server::start(&name, &address, &test_run.scratch, &mut sandbox, || {
        http::responds(&address, "/moto-api/reset")
    })?;
    test_run.servers.push(server);
    Ok(address)
}

fn configure(
    pytest: &mut Command,
    sources: &Path,
    plugins: &Path,
    results: &Path,
    address: &str,
    service: &str,
) {
    pytest
        .current_dir(sources)
        .args(["-p", "bp_results", "-p", "no:cacheprovider", "-q", "--tb=line", "-W", "ignore"])
        .args(["-o", "addopts=", &format!("tests/test_{service}")])
        .env("PYTHONPATH", plugins)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("BP_E2E_RESULTS", results)
        .env("TEST_SERVER_MODE", "true")
        .env("TEST_SERVER_MODE_ENDPOINT", format!("http://{address}"))
        .env("AWS_MAX_ATTEMPTS", "1")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
    for name in ["AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "HTTP_PROXY", "http_proxy"] {
        pytest.env_remove(name);
    }
}

/// Runs the tests and returns their results.
fn tests(pytest: &mut Command, results: &Path) -> Result<Vec<TestResult>> {
    let ended = command::ended_within(LIMIT, pytest)?;
    // 1: some tests failed, as expected. Any other code: pytest did not run them all.
    if !matches!(ended.status.code(), Some(0 | 1)) {
        bail!(
            "`{}` failed with {}:\n{}",
            command::show(pytest),
            ended.status,
            command::tail(&format!("{}\n{}", ended.stdout, ended.stderr), 40)
        );
    }
    let text = fs::read_to_string(results).with_context(|| format!("cannot read {}", results.display()))?;
    text.lines().map(|line| serde_json::from_str(line).context("cannot parse a result")).collect()
}
