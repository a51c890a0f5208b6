//! The sandbox in one terminal, and the commands that it prints in another: a version is built, promoted and deployed; then
//! one that fails, with its cause before the rollback.
#![cfg(all(feature = "sandbox", unix))]

mod common;

use std::process::Stdio;

use common::{Ended, Stage, ended};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Child,
};

/// The other terminal.
struct Terminal {
    stage: Stage,
    variables: Vec<(String, String)>,
    _sandbox: Child,
}

impl Terminal {
    /// Starts the sandbox, and reads the variables that it prints.
    async fn open(speed: &str) -> Self {
        // Only its directory is used.
        let stage = Stage::new().await;
        let mut command = stage.command("sandbox", &["--speed", speed]);
        let mut sandbox = command.stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(sandbox.stdout.take().unwrap()).lines();
        let mut variables: Vec<(String, String)> = Vec::new();
        while !variables.iter().any(|(name, _)| name == "KUBECONFIG") {
            let line = lines.next_line().await.unwrap().expect("the sandbox prints its variables");
            let (name, value) = line.strip_prefix("export ").unwrap().split_once('=').unwrap();
            variables.push((name.to_owned(), value.trim_matches('"').to_owned()));
        }
        Terminal { stage, variables, _sandbox: sandbox }
    }

    async fn run(&self, name: &str, arguments: &[&str]) -> Ended {
        let mut command = self.stage.command(name, arguments);
        command.env_clear().env("CI", "true").env("HOME", self.stage.directory.path());
        command.env("AWS_EC2_METADATA_DISABLED", "true").envs(self.variables.iter().cloned());
        ended(command).await
    }
}

#[tokio::test]
async fn the_printed_commands_ship_a_version_and_survive_a_failing_one() {
    let terminal = Terminal::open("50").await;
    let ok = async |name: &str, arguments: &[&str]| {
        let end = terminal.run(name, arguments).await;
        assert_eq!(end.code, 0, "{name} {arguments:?}: {end:?}");
        end
    };
    ok("sandbox", &["push", "1.0.0"]).await;
    ok("promote", &["--to", "staging", "--all"]).await;
    ok("dual-deploy", &["--env", "staging", "--all"]).await;
    ok("verify", &["--env", "staging"]).await;
    let doctor = ok("doctor", &["--env", "staging"]).await;
    assert!(doctor.stdout.contains("ecs staging/shop-web"), "{doctor:?}");

    ok("sandbox", &["push", "1.1.0", "--failing"]).await;
    ok("promote", &["--to", "staging", "--all"]).await;
    let failed = terminal.run("dual-deploy", &["--env", "staging", "--all"]).await;
    assert_eq!(failed.code, 3, "{failed:?}");
    let at = |text: &str| failed.stderr.find(text).unwrap_or_else(|| panic!("{text}: {failed:?}"));
    assert!(at("FAILING") < at("rolling back"), "{failed:?}");
    assert!(failed.stderr.contains("cannot read /app/config.toml"), "{failed:?}");
}
