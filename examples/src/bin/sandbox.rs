//! Run the sandbox in the foreground and print the environment variables that point clients to it; push versions to it.

use std::{collections::BTreeMap, path::Path, process};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bp_artifact::{ExitCode, Tag, error::ErrorClass};
use bp_delivery::{Failure, Session, Ui, cli::FileArgs, program, verb::Verb};
use bp_examples::{
    build::{build_and_push, fails_at_start},
    world::{World, bp_toml, private_directory},
};
use serde_json::{Map, Value, json};

/// Run the sandbox in the foreground and print the environment variables that point these binaries, aws-cli, crane,
/// skopeo, kubectl and helm to it; with push, build versions to deploy there
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
    command: Option<SandboxCommand>,
}

#[derive(Debug, clap::Subcommand)]
enum SandboxCommand {
    /// Build a version of the shop, push it to dev and write artifact.json, as a build server would
    Push {
        /// Version, such as 1.0.0
        version: Tag,
        /// Build a version whose service web exits with code 78 at its start
        #[arg(long)]
        failing: bool,
        /// Artifact file to write
        #[arg(long, value_name = "FILE", default_value = "artifact.json", env = "BP_ARTIFACT")]
        artifact: std::path::PathBuf,
        #[command(flatten)]
        config: FileArgs,
    },
}

/// What to do in the other terminal: versions to deploy, and other clients. Each line works as it is printed.
const TOUR: [(&str, &[&str]); 4] = [
    (
        "Deploy a version:",
        &[
            "cargo run -q --bin sandbox -- push 1.0.0",
            "cargo run -q --bin promote -- --to staging --all",
            "cargo run -q --bin dual-deploy -- --env staging --all",
        ],
    ),
    (
        "Deploy one that fails: the last command ends with exit code 3, and 1.0.0 runs again:",
        &[
            "cargo run -q --bin sandbox -- push 1.1.0 --failing",
            "cargo run -q --bin promote -- --to staging --all",
            "cargo run -q --bin dual-deploy -- --env staging --all",
        ],
    ),
    ("See what runs:", &["cargo run -q --bin status -- --env staging"]),
    (
        "Use other clients:",
        &[
            "aws ecs list-services --cluster staging --profile staging",
            "aws ecr describe-images --repository-name shop/web",
            "kubectl get deployments --namespace shop",
            "helm list --namespace shop",
            "crane ls $DEV_REGISTRY/shop/web",
            "skopeo list-tags --tls-verify=false docker://$STAGING_REGISTRY/shop/web",
        ],
    ),
];

fn main() -> process::ExitCode {
    program::run::<Serve>()
}

impl Verb for Serve {
    const NAME: &'static str = "sandbox";

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        match self.command {
            Some(SandboxCommand::Push { version, failing, artifact, config }) => {
                ui.step(format!("Build shop {version} and push it to dev"));
                let (config, session) = (config.load()?, Session::from_env()?);
                let change =
                    |service: &str, image| if failing { fails_at_start(service, image) } else { image };
                let built = build_and_push(&ui, &session, &config, &version, change).await?;
                built.write(&artifact)?;
                ui.result(format!("{} written", artifact.display()), &built);
                Ok(ExitCode::Done)
            }
            None => serve(self.speed, &ui).await,
        }
    }
}

/// Serves until a signal drops this future.
async fn serve(speed: u32, ui: &Ui) -> Result<ExitCode, Failure> {
    let unavailable = |error: std::io::Error| Failure::new(ErrorClass::Unavailable, &error);
    let mut world = World::start(speed).await.map_err(unavailable)?;
    let directory = private_directory().map_err(unavailable)?;
    let variables = variables(&world, speed, directory.path()).map_err(unavailable)?;

    let exports: Vec<String> =
        variables.iter().map(|(name, value)| format!("export {name}={value}")).collect();
    let file = directory.path().join("env");
    std::fs::write(&file, exports.join("\n") + "\n").map_err(unavailable)?;
    let values = variables.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str())));
    ui.results(exports, &values.collect::<Map<_, _>>());
    ui.say("The sandbox runs until Ctrl-C. In another terminal, paste the lines above, or run:");
    ui.say(format!("  . {}", file.display()));
    for (title, commands) in TOUR {
        ui.say(title);
        commands.iter().for_each(|command| ui.say(format!("  {command}")));
    }
    // A signal drops this future, and with it the directory.
    world.served.forever().await;
    Ok(ExitCode::Done)
}

/// The environment variables for clients. The files that they reference are written to `directory`.
fn variables(world: &World, speed: u32, directory: &Path) -> std::io::Result<Vec<(String, String)>> {
    let write = |name: &str, text: &str| {
        let path = directory.join(name);
        std::fs::write(&path, text)?;
        Ok::<_, std::io::Error>(path.display().to_string())
    };
    let mut variables: Vec<(String, String)> =
        world.variables().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let mut set = |name: &str, value: String| variables.push((name.to_owned(), value));
    // aws-cli reads another variable than the SDKs, and assumes the roles of the other accounts by profiles.
    set("AWS_DEFAULT_REGION", "eu-central-1".to_owned());
    set("AWS_CONFIG_FILE", write("aws-config", &profiles(world))?);
    set("AWS_PAGER", String::new());
    set("BP_CONFIG", write("bp.toml", &bp_toml(speed))?);
    for (name, file) in [("BP_ARTIFACT", "artifact.json"), ("BP_RECEIPT", "receipt.json")] {
        set(name, directory.join(file).display().to_string());
    }
    let mut kubeconfigs = Vec::new();
    for (cluster, text) in world.kubeconfigs() {
        kubeconfigs.push(write(&format!("{cluster}.kubeconfig"), &text)?);
    }
    set("KUBECONFIG", kubeconfigs.join(":"));
    let docker = write("config.json", &logins(world).to_string())?;
    set("DOCKER_CONFIG", directory.display().to_string());
    set("REGISTRY_AUTH_FILE", docker);
    for (environment, address) in registries(world) {
        set(&format!("{}_REGISTRY", environment.to_uppercase()), address);
    }
    Ok(variables)
}

/// The registry of each environment, as host and port.
fn registries(world: &World) -> BTreeMap<String, String> {
    let addresses = world.registries();
    let registry = |environment: &bp_artifact::config::EnvironmentConfig| {
        let address = addresses.get(environment.registry().as_str())?.strip_prefix("http://")?;
        Some((environment.name.to_string(), address.to_owned()))
    };
    world.config.environments().iter().filter_map(registry).collect()
}

/// A profile of aws-cli for each environment.
fn profiles(world: &World) -> String {
    let profile = |environment: &bp_artifact::config::EnvironmentConfig| {
        let (name, role) = (&environment.name, environment.role.as_ref()?);
        Some(format!(
            "[profile {name}]\nrole_arn = {role}\ncredential_source = Environment\nregion = {}\n",
            environment.region
        ))
    };
    world.config.environments().iter().filter_map(profile).collect()
}

/// A docker configuration with a login for each registry, for crane and skopeo.
fn logins(world: &World) -> Value {
    /// Longer than a sandbox runs.
    const LIFETIME: std::time::Duration = std::time::Duration::from_secs(10 * 365 * 24 * 3600);
    let addresses = world.registries();
    let login = |environment: &bp_artifact::config::EnvironmentConfig| {
        let host = environment.registry().as_str();
        let address = addresses.get(host)?.strip_prefix("http://")?;
        let password = world.sandbox.registry(host).log_in(LIFETIME);
        let auth = BASE64_STANDARD.encode(format!("AWS:{password}"));
        Some((address.to_owned(), json!({ "auth": auth })))
    };
    let auths: Map<_, _> = world.config.environments().iter().filter_map(login).collect();
    json!({ "auths": auths })
}
