//! The AWS APIs as moto models them, beside ours. moto is no AWS, but it was written by others from the same
//! documentation: where both answer alike, one misreading is less likely.

mod calls;
mod shape;

use std::{thread, time::Duration};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;

use self::{calls::Call, shape::shape};
use super::{
    http,
    sandbox::World,
    server::{Server, free_port},
    stage::Stage,
    tools::{AWS_CLI, MOTO},
};
use crate::command;

const SERVER: &str = "sandbox beside moto";

pub(super) fn run(stage: &mut Stage) -> Result<()> {
    let address = format!("127.0.0.1:{}", free_port()?);
    let (_, port) = address.split_once(':').context("a port")?;
    let mut moto = stage.tools.command(MOTO)?;
    moto.args(["-H", "127.0.0.1", "-p", port]);
    let server =
        Server::start("moto", &address, &stage.scratch, &mut moto, || http::answers(&address, "/moto-api/"))?;
    stage.servers.push(server);
    let world = World::start(stage)?;
    let moto = format!("http://{address}");
    let sandbox = format!("http://{}", world.address("aws")?);
    for call in calls::CALLS {
        stage.table.scenario(SERVER, call.command, || compare(call, &world, &sandbox, &moto));
    }
    stage.environment = vec![
        ("BP_E2E_MOTO", moto.into()),
        ("BP_E2E_AWS_CLI", stage.tools.command(AWS_CLI)?.get_program().into()),
    ];
    stage.scenarios("aws", "moto")?;
    for (what, why) in calls::SANDBOX_ONLY {
        stage.table.sandbox_only("moto", what, why);
    }
    Ok(())
}

/// The same call to both: the same end and, unless it is known otherwise, nothing that only moto answers.
fn compare(call: &Call, world: &World, sandbox: &str, moto: &str) -> Result<String> {
    let ask = |endpoint: &str| -> Result<Answer> {
        let words: Vec<&str> = call.command.split(' ').collect();
        let mut aws = world.aws_at(endpoint, &words);
        aws.args(["--output", "json"]);
        let ended = command::ended_within(Duration::from_secs(180), &mut aws)?;
        Answer::read(ended.status.success(), &ended.stdout, &ended.stderr)
    };
    // Most of the time is aws-cli's start.
    let (ours, theirs) = thread::scope(|scope| {
        let ours = scope.spawn(|| ask(sandbox));
        let theirs = ask(moto);
        (ours.join(), theirs)
    });
    match (ours.map_err(|_| anyhow!("the thread panicked"))??, theirs?) {
        (Answer::Refused(ours), Answer::Given(_)) if call.refused == Some(ours.as_str()) => {
            Ok(format!("the sandbox refuses as documented: {ours}; moto does not"))
        }
        (Answer::Refused(ours), Answer::Refused(theirs)) => {
            ensure!(ours == theirs, "the sandbox refuses with {ours}, moto with {theirs}");
            Ok(format!("both refuse: {ours}"))
        }
        (Answer::Given(ours), Answer::Given(theirs)) => {
            let ours = shape(&ours);
            let unknown: Vec<String> =
                shape(&theirs).into_iter().filter(|path| !ours.contains(path) && !call.knows(path)).collect();
            ensure!(unknown.is_empty(), "moto answers what the sandbox does not: {}", unknown.join(", "));
            Ok(String::new())
        }
        (ours, theirs) => bail!("the sandbox {}, moto {}", ours.told(), theirs.told()),
    }
}

/// How a call ended.
enum Answer {
    Given(Value),
    /// With this error code.
    Refused(String),
}

impl Answer {
    fn read(succeeded: bool, stdout: &str, stderr: &str) -> Result<Self> {
        if succeeded {
            let text = if stdout.trim().is_empty() { "null" } else { stdout };
            return Ok(Answer::Given(
                serde_json::from_str(text).with_context(|| format!("aws printed {text:?}"))?,
            ));
        }
        // An error occurred (ResourceNotFoundException) when calling the GetSecretValue operation: ...
        let code = stderr.split_once("An error occurred (").and_then(|(_, rest)| rest.split_once(')'));
        match code {
            Some((code, _)) => Ok(Answer::Refused(code.to_owned())),
            None => bail!("aws says {}", stderr.trim()),
        }
    }

    fn told(&self) -> String {
        match self {
            Answer::Given(value) => format!("answers {value}"),
            Answer::Refused(code) => format!("refuses with {code}"),
        }
    }
}
