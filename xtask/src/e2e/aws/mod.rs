//! Comparison of the sandbox's AWS APIs with moto, by the same aws-cli calls. moto is not AWS, but it is an independent
//! implementation of the same documentation: if both agree, a misreading is less likely.

mod calls;
mod shape;

use std::{thread, time::Duration};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;

use self::{calls::Call, shape::shape};
use super::{
    http,
    sandbox::SandboxServer,
    server::{Server, free_port},
    test_run::TestRun,
    tools::{AWS_CLI, MOTO},
};
use crate::command;

const SERVER: &str = "sandbox compared with moto";

pub(super) fn run(test_run: &mut TestRun) -> Result<()> {
    let address = format!("127.0.0.1:{}", free_port()?);
    let (_, port) = address.split_once(':').context("the address has no port")?;
    let mut moto = test_run.tools.command(MOTO)?;
    moto.args(["-H", "127.0.0.1", "-p", port]);
    let server = Server::start("moto", &address, &test_run.scratch, &mut moto, || {
        http::responds(&address, "/moto-api/")
    })?;
    test_run.servers.push(server);
    let sandbox = SandboxServer::start(test_run)?;
    let moto = format!("http://{address}");
    let sandbox_endpoint = format!("http://{}", sandbox.address("aws")?);
    for call in calls::CALLS {
        test_run.table.scenario(SERVER, call.command, || compare(call, &sandbox, &sandbox_endpoint, &moto));
    }
    test_run.environment = vec![
        ("BP_E2E_MOTO", moto.into()),
        ("BP_E2E_AWS_CLI", test_run.tools.command(AWS_CLI)?.get_program().into()),
    ];
    test_run.scenarios("aws", "moto")?;
    for (what, why) in calls::SANDBOX_ONLY {
        test_run.table.sandbox_only("moto", what, why);
    }
    Ok(())
}

/// Makes the same call to both: the same result is expected and, except for ignored paths, no member that only moto
/// returns.
fn compare(call: &Call, sandbox: &SandboxServer, sandbox_endpoint: &str, moto: &str) -> Result<String> {
    let send = |endpoint: &str| -> Result<Outcome> {
        let arguments: Vec<&str> = call.command.split(' ').collect();
        let mut aws = sandbox.aws_at(endpoint, &arguments);
        aws.args(["--output", "json"]);
        let ended = command::ended_within(Duration::from_secs(180), &mut aws)?;
        Outcome::read(ended.status.success(), &ended.stdout, &ended.stderr)
    };
    // Concurrently, since most of the time is the start of aws-cli.
    let (ours, theirs) = thread::scope(|scope| {
        let ours = scope.spawn(|| send(sandbox_endpoint));
        let theirs = send(moto);
        (ours.join(), theirs)
    });
    match (ours.map_err(|_| anyhow!("the thread panicked"))??, theirs?) {
        (Outcome::Error(ours), Outcome::Success(_)) if call.refused == Some(ours.as_str()) => {
            Ok(format!("the sandbox returns the documented error {ours}; moto succeeds"))
        }
        (Outcome::Error(ours), Outcome::Error(theirs)) => {
            ensure!(ours == theirs, "the sandbox returns error {ours}, moto {theirs}");
            Ok(format!("both return error {ours}"))
        }
        (Outcome::Success(ours), Outcome::Success(theirs)) => {
            let ours = shape(&ours);
            let unknown: Vec<String> = shape(&theirs)
                .into_iter()
                .filter(|path| !ours.contains(path) && !call.ignores(path))
                .collect();
            ensure!(
                unknown.is_empty(),
                "members returned by moto and not by the sandbox: {}",
                unknown.join(", ")
            );
            Ok(String::new())
        }
        (ours, theirs) => bail!("the sandbox {}, moto {}", ours.description(), theirs.description()),
    }
}

/// The result of a call.
enum Outcome {
    Success(Value),
    /// With an error code.
    Error(String),
}

impl Outcome {
    fn read(succeeded: bool, stdout: &str, stderr: &str) -> Result<Self> {
        if succeeded {
            let text = if stdout.trim().is_empty() { "null" } else { stdout };
            return Ok(Outcome::Success(
                serde_json::from_str(text)
                    .with_context(|| format!("cannot parse the output of aws: {text:?}"))?,
            ));
        }
        // An error occurred (ResourceNotFoundException) when calling the GetSecretValue operation: ...
        let code = stderr.split_once("An error occurred (").and_then(|(_, rest)| rest.split_once(')'));
        match code {
            Some((code, _)) => Ok(Outcome::Error(code.to_owned())),
            None => bail!("aws failed without an error code: {}", stderr.trim()),
        }
    }

    fn description(&self) -> String {
        match self {
            Outcome::Success(value) => format!("returns {value}"),
            Outcome::Error(code) => format!("returns error {code}"),
        }
    }
}
