//! Resolve the image that a build has pushed and write `artifact.json` for later stages.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use bp_artifact::{
    Artifact, CommitSha, ExitCode, ImageRef,
    artifact::{CiError, StatedSource, without_credentials},
    config::ServiceName,
    time::TimeSource,
};

use crate::{Failure, Session, Ui, cli, image_wait, locked, program::Verb, wait_for_image};

/// Resolve the image that a build has pushed and write artifact.json for later stages
#[derive(Debug, clap::Args)]
pub struct EmitArtifact {
    #[command(flatten)]
    given: cli::GivenFlags,
    /// Image as pushed by the build: registry/repository:tag
    #[arg(long, env = "BP_IMAGE")]
    image: ImageRef,
    /// Artifact file to write
    #[arg(long, value_name = "FILE", default_value = "artifact.json", env = "BP_ARTIFACT")]
    artifact: PathBuf,
    /// Commit SHA of the build; defaults to the commit that the build system reports
    #[arg(long)]
    commit: Option<CommitSha>,
    /// Branch, tag or pull request that was built, such as refs/heads/main; defaults to what the build system reports
    #[arg(long = "ref", value_name = "REF", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    reference: Option<String>,
    /// URL of the source repository, recorded without credentials; defaults to what the build system reports
    #[arg(long, value_name = "URL", value_parser = repository_url)]
    source: Option<String>,
    /// Human-readable version of the build
    #[arg(long, value_name = "VERSION")]
    app_version: Option<String>,
    /// Assume the role of this environment of bp.toml; defaults to the caller's own credentials
    #[arg(long, value_name = "NAME")]
    env: Option<String>,
    #[command(flatten)]
    config: cli::ConfigArgs,
    /// Service of bp.toml to which the image belongs; required if there are several; images of other services in the
    /// artifact are kept
    #[arg(long, value_name = "NAME", env = "BP_SERVICE")]
    service: Option<ServiceName>,
    #[command(flatten)]
    wait: cli::ImageTimeoutArgs,
}

/// A URL without its credentials.
fn repository_url(text: &str) -> Result<String, &'static str> {
    without_credentials(text).ok_or("credentials cannot be separated from this URL: pass it without them")
}

/// The artifact that the file contains, to which an image is added; `None` if there is no file yet.
fn earlier(path: &Path) -> Result<Option<Artifact>, Failure> {
    match Artifact::read(path) {
        Ok(earlier) => Ok(Some(earlier)),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The image timeout without `--image-timeout` and `--env`.
const TIMEOUT: Duration = Duration::from_secs(300);

impl Verb for EmitArtifact {
    const NAME: &'static str = "emit-artifact";

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        if self.env.is_none() {
            self.given.refuse(&["config", "overlay", "set"], "without --env")?;
        }
        let stated = StatedSource { commit: self.commit, reference: self.reference, repository: self.source };
        let mut artifact = match Artifact::from_environment_and(|name| std::env::var(name).ok(), &stated) {
            Ok(artifact) => artifact,
            Err(error @ CiError::NotRecognised) => {
                ui.say(format!("the artifact has no commit, ref and source: {error}"));
                Artifact::default()
            }
            Err(error) => return Err(error.into()),
        };
        artifact.version = self.app_version;
        artifact.created = Some(TimeSource::system().now());

        // Before the wait: the image may take minutes.
        let locked = locked::lock(&self.artifact).await?;
        if locked.is_some() && self.service.is_some() {
            earlier(&self.artifact)?;
        }
        drop(locked);
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
        let wait = image_wait(self.wait.image_timeout.unwrap_or(timeout))?;
        let resolver = clients.resolver(self.image.repository().registry())?;
        let image = wait_for_image(&*resolver, &self.image, wait, |line| ui.say(line)).await?;

        let tag = self.image.tag().cloned();
        // Not during the wait: runs for several services, at the same time, add their images to one file.
        let locked = locked::lock(&self.artifact).await?;
        match self.service {
            None => artifact.set_image(&image, tag),
            Some(service) => {
                artifact.set_image_of(service, &image, tag);
                // Nothing is read back from a device or a pipe.
                let earlier = if locked.is_some() { earlier(&self.artifact)? } else { None };
                if let Some(earlier) = earlier {
                    artifact.keep_images_of(earlier);
                }
            }
        }
        artifact.write(&self.artifact)?;
        drop(locked);
        ui.say(format!("resolved {} to {}", self.image, image.digest()));
        ui.result(&image.reference, &artifact);
        Ok(ExitCode::Done)
    }
}
