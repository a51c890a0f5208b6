//! Resolve the image that a build has pushed and write `artifact.json` for later stages.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use bp_artifact::{
    Artifact, CommitSha, ExitCode, ImageRef,
    artifact::{CiError, StatedSource, without_credentials},
    config::ServiceName,
    document,
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
    /// artifact are kept if they are of the same commit
    #[arg(long, value_name = "NAME", env = "BP_SERVICE")]
    service: Option<ServiceName>,
    /// Keep the images of other services in the artifact even if they were built from other commits, which are recorded
    #[arg(long, requires = "service")]
    keep_images: bool,
    /// Omit the run of the build system, which did not build the image but deploys it again
    #[arg(long)]
    no_build: bool,
    /// Also write imagedefinitions.json, which the Amazon ECS action of CodePipeline deploys
    #[arg(long, value_name = "FILE")]
    image_definitions: Option<PathBuf>,
    /// Container in --image-definitions; defaults to ecs.container of the service in --env; repeatable
    #[arg(
        long, value_name = "NAME", requires = "image_definitions",
        value_parser = clap::builder::NonEmptyStringValueParser::new(),
    )]
    container: Vec<String>,
    /// Also write imageDetail.json, which the blue/green action of CodePipeline with CodeDeploy deploys
    #[arg(long, value_name = "FILE")]
    image_detail: Option<PathBuf>,
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
    const HELP: crate::help::Help = crate::help::verbs::EMIT_ARTIFACT;

    async fn run(mut self, ui: Ui) -> Result<ExitCode, Failure> {
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
        if self.no_build {
            artifact.build = None;
        }
        artifact.version = self.app_version.take();
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
                if self.container.is_empty() {
                    self.container.extend(service.ecs().ok().and_then(|ecs| ecs.container.clone()));
                }
                (session.open(environment).await?, service.deploy.image_timeout)
            }
            None => (session.ambient().await, TIMEOUT),
        };
        if self.image_definitions.is_some() && self.container.is_empty() {
            return Err(Failure::bad_input(
                "--image-definitions requires --container, or --env of a service with ecs.container in bp.toml",
            ));
        }
        let wait = image_wait(self.wait.image_timeout.unwrap_or(timeout))?;
        let resolver = clients.resolver(self.image.repository().registry())?;
        ui.step(format!("Resolve {}", self.image));
        let image = wait_for_image(&*resolver, &self.image, wait, |line| ui.say(line)).await?;

        let tag = self.image.tag().cloned();
        let mut single = Artifact::default();
        single.set_image(&image, tag.clone());
        // Not during the wait: runs for several services, at the same time, add their images to one file.
        let locked = locked::lock(&self.artifact).await?;
        match self.service {
            None => artifact.set_image(&image, tag),
            Some(service) => {
                artifact.set_image_of(service, &image, tag);
                // Nothing is read back from a device or a pipe.
                let earlier = if locked.is_some() { earlier(&self.artifact)? } else { None };
                if let Some(earlier) = earlier {
                    if self.keep_images {
                        artifact.keep_images_of_any_commit(earlier);
                    } else {
                        artifact.keep_images_of(earlier);
                    }
                }
            }
        }
        artifact.write(&self.artifact)?;
        drop(locked);
        if let Some(file) = &self.image_definitions {
            let definitions = single.image_definitions(self.container.iter().map(String::as_str))?;
            document::write(file, format!("{definitions:#}\n").as_bytes())?;
        }
        if let Some(file) = &self.image_detail {
            document::write(file, format!("{:#}\n", single.image_detail()?).as_bytes())?;
        }
        ui.done(format!("{} written", self.artifact.display()));
        ui.result(&image.reference, &artifact);
        Ok(ExitCode::Done)
    }
}
