//! Copies the artifact's image to an environment's registry, byte for byte, from the environment before it.

use std::process::ExitCode as Process;

use bp_artifact::{Artifact, ExitCode};
use bp_examples::{Clients, Endpoints, Failure, Ui, cli, promotion};

/// Copies the artifact's image to an environment's registry, byte for byte, from the environment before it
#[derive(clap::Args)]
struct Args {
    /// The environment of bp.toml to promote to
    #[arg(long, value_name = "NAME", env = "BP_ENV")]
    to: String,
    /// The environment to promote from; the one before, if not given
    #[arg(long, value_name = "NAME")]
    from: Option<String>,
    #[command(flatten)]
    project: cli::ProjectArgs,
}

fn main() -> Process {
    bp_examples::run(promote)
}

async fn promote(args: Args, ui: Ui) -> Result<ExitCode, Failure> {
    let config = args.project.config.load(&args.to)?;
    let to = config.environment(&args.to)?;
    let from = match &args.from {
        Some(name) => config.environment(name)?,
        None => config
            .previous(&to.name)
            .ok_or_else(|| Failure::bad_input(format!("{} is the first environment: say --from", to.name)))?,
    };
    let artifact = Artifact::read(&args.project.artifact)?;
    let endpoints = Endpoints::from_env()?;
    let sides = (Clients::of(from, &endpoints).await?, Clients::of(to, &endpoints).await?);

    let image = promotion::image_of(&artifact, (from, &sides.0)).await?;
    let tag = artifact.image_in(&from.repository)?.tag().cloned();
    let copy = promotion::promote(&image, tag.as_ref(), (from, &sides.0), (to, &sides.1), &endpoints)?;
    let report = ui.follow(copy).await?;
    ui.result(image.moved_to(&to.repository).reference, &report);
    Ok(ExitCode::Done)
}
