//! Run the sandbox in the foreground and print the environment variables that point clients to it.

use std::{fmt::Write as _, path::Path, process};

use bp_artifact::{Config, ExitCode, error::ErrorClass};
use bp_delivery::{Failure, Ui, program, verb::Verb};
use bp_examples::{
    push::Push,
    world::{World, bp_toml, private_directory},
};
use serde_json::{Map, Value};

/// Run the sandbox in the foreground and print the environment variables that point these binaries, aws-cli, crane,
/// skopeo and kubectl to it
///
/// It simulates the accounts of examples/bp.toml: three registries, and in staging and prod an ECS and an EKS cluster
/// that run version 0.9.0 of the shop. All services listen on free loopback ports; no request leaves this machine, and
/// no state is kept after exit.
#[derive(Debug, clap::Args)]
struct Serve {
    /// Speed of the sandbox clock, as a multiple of real time
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    speed: u32,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Push(Push),
}

fn main() -> process::ExitCode {
    program::run::<Serve>()
}

impl Verb for Serve {
    const NAME: &'static str = "sandbox";

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        if let Some(Command::Push(push)) = self.command {
            return push.run(&ui).await;
        }
        let unavailable = |error: std::io::Error| Failure::new(ErrorClass::Unavailable, &error);
        let mut world = World::start(self.speed).await.map_err(unavailable)?;
        let directory = private_directory().map_err(unavailable)?;
        let config = bp_toml(self.speed);
        let variables = variables(&world, &config, directory.path()).map_err(unavailable)?;

        let exports = variables.iter().map(|(name, value)| format!("export {name}={value}"));
        let values = variables.iter().map(|(name, value)| ((*name).to_owned(), Value::from(value.as_str())));
        ui.results(exports, &values.collect::<Map<_, _>>());
        for (host, url) in world.registries() {
            ui.say(format!("# {host} listens at {url}"));
        }
        for line in NEXT.lines() {
            ui.say(line);
        }
        // A signal drops this future, and with it the directory.
        world.served.forever().await;
        Ok(ExitCode::Done)
    }
}

/// What to do in the other terminal.
const NEXT: &str = "\
# Paste the lines above into another terminal, in an empty directory, and continue there:
#   cargo run --bin sandbox -- push 1.0.0              # builds a version and writes artifact.json
#   cargo run --bin promote -- --to staging --all
#   cargo run --bin dual-deploy -- --env staging --all
#   cargo run --bin sandbox -- push 1.1.0 --failing    # a version that fails and is rolled back
# aws-cli: aws --profile staging ecs list-clusters; kubectl: kubectl -n shop get pods (KUBECONFIG has all clusters).
# crane, skopeo: use the addresses above, with the user AWS and the password that
# aws --profile dev ecr get-login-password prints. Ctrl-C stops the sandbox.";

/// A configuration of aws-cli with a profile for each environment, which assumes its role.
fn profiles(config: &Config) -> String {
    let mut text = String::new();
    for environment in config.environments() {
        let (name, region) = (&environment.name, &environment.region);
        let _ = write!(text, "[profile {name}]\nregion = {region}\ncredential_source = Environment\n");
        if let Some(role) = &environment.role {
            let _ = writeln!(text, "role_arn = {role}");
        }
    }
    text
}

/// The environment variables for clients. The files that they reference are written to `directory`.
fn variables(world: &World, bp_toml: &str, directory: &Path) -> std::io::Result<Vec<(&'static str, String)>> {
    let config = directory.join("bp.toml");
    std::fs::write(&config, bp_toml)?;
    let profile = directory.join("aws-config");
    std::fs::write(&profile, profiles(&world.config))?;
    let mut kubeconfigs = Vec::new();
    for (cluster, text) in world.kubeconfigs() {
        let path = directory.join(format!("{cluster}.kubeconfig"));
        std::fs::write(&path, text)?;
        kubeconfigs.push(path.display().to_string());
    }
    let mut variables = world.variables();
    variables.extend([
        ("AWS_CONFIG_FILE", profile.display().to_string()),
        ("BP_CONFIG", config.display().to_string()),
        ("KUBECONFIG", kubeconfigs.join(":")),
    ]);
    Ok(variables)
}
