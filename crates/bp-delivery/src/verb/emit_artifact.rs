//! Resolves the image that a build has pushed and writes `artifact.json` for the stages after it.

use std::{path::PathBuf, time::Duration};

use bp_artifact::{
    Artifact, CommitSha, ExitCode, ImageRef, artifact::CiError, config::ServiceName, time::TimeSource,
};

use crate::{Failure, Session, Ui, cli, patience, program::Verb, wait_for_image};

/// Resolves the image that a build has pushed and writes artifact.json for the stages after it
#[derive(Debug, clap::Args)]
pub struct EmitArtifact {
    #[command(flatten)]
    given: cli::Given,
    /// The image as it was pushed: registry/repository:tag
    #[arg(long, env = "BP_IMAGE")]
    image: ImageRef,
    /// Where to write
    #[arg(long, value_name = "FILE", default_value = "artifact.json", env = "BP_ARTIFACT")]
    artifact: PathBuf,
    /// The commit, where no build system tells it
    #[arg(long)]
    commit: Option<CommitSha>,
    /// The version that people know it by
    #[arg(long, value_name = "VERSION")]
    app_version: Option<String>,
    /// Assume the role of this environment of bp.toml; else the credentials at hand are used
    #[arg(long, value_name = "NAME")]
    env: Option<String>,
    #[command(flatten)]
    config: cli::ConfigArgs,
    /// The service of bp.toml that the image is of, where it has several; the images of the others stay in the file
    #[arg(long, value_name = "NAME", env = "BP_SERVICE")]
    service: Option<ServiceName>,
    #[command(flatten)]
    wait: cli::ImageTimeoutArgs,
}

/// How long to wait where neither a flag nor bp.toml says it, as without --env.
const TIMEOUT: Duration = Duration::from_secs(300);

impl Verb for EmitArtifact {
    const NAME: &'static str = "emit-artifact";

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        if self.env.is_none() {
            self.given.refuse(&["config", "overlay", "set"], "without --env")?;
        }
        let mut artifact = match Artifact::from_environment(|name| std::env::var(name).ok()) {
            Ok(artifact) => artifact,
            // On a person's machine the commit comes by flag, or not at all.
            Err(CiError::NotRecognised) => Artifact::default(),
            Err(error) => return Err(error.into()),
        };
        artifact.commit = self.commit.map(|commit| commit.abbreviated()).or(artifact.commit);
        artifact.version = self.app_version;
        artifact.created = Some(TimeSource::system().now());

        let session = Session::from_env()?;
        let (clients, timeout) = match &self.env {
            Some(name) => {
                let config = self.config.load(name)?;
                let environment = config.environment(name)?;
                let service = environment.service(self.service.as_ref())?;
                (session.open(environment).await?, service.deploy.image_timeout)
            }
            None => (session.ambient().await, TIMEOUT),
        };
        let wait = patience(self.wait.image_timeout.unwrap_or(timeout))?;
        let resolver = clients.resolver(self.image.repository().registry())?;
        let image = wait_for_image(&*resolver, &self.image, wait, |line| ui.say(line)).await?;

        let tag = self.image.tag().cloned();
        match self.service {
            None => artifact.set_image(&image, tag),
            Some(service) => {
                artifact.set_image_of(service, &image, tag);
                match Artifact::read(&self.artifact) {
                    Ok(earlier) => artifact.keep_images_of(earlier),
                    Err(error) if error.is_missing() => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        artifact.write(&self.artifact)?;
        ui.say(format!("{} is {}", self.image, image.digest()));
        ui.result(&image.reference, &artifact);
        Ok(ExitCode::Done)
    }
}
