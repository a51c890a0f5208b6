//! Build a version of the shop's services and push it to a sandbox that runs in another process.

use std::path::PathBuf;

use bp_artifact::{Artifact, ExitCode, Tag, error::ErrorClass, time::TimeSource};
use bp_delivery::{Failure, Session, Ui, cli::FileArgs, image_wait, promotion, wait_for_image};
use bp_promote::{CopyOptions, OciLayout, copy, store::ImageAt};
use bp_sandbox::ImageBuilder;

use crate::world::{private_directory, version_of};

/// The failure of a version that does not work.
const LOG: &str = "shop: cannot read /app/config.toml: no such file";

/// Build a version of the shop for two platforms, push it to the registry of the first environment, and write
/// artifact.json
#[derive(Debug, clap::Args)]
pub struct Push {
    /// Version, which is also the tag
    #[arg(value_name = "VERSION")]
    version: Tag,
    /// Build a version whose service web exits soon after it starts, with code 78
    #[arg(long)]
    failing: bool,
    /// Artifact file to write
    #[arg(long, value_name = "FILE", default_value = "artifact.json", env = "BP_ARTIFACT")]
    artifact: PathBuf,
    #[command(flatten)]
    config: FileArgs,
}

impl Push {
    /// Builds, pushes, and writes `artifact.json`.
    ///
    /// # Errors
    /// When the sandbox does not run, or the file cannot be written.
    ///
    /// # Permissions
    /// Those to push images to the registry.
    ///
    /// # Cancel safety
    /// Run again, it completes the push.
    pub async fn run(self, ui: &Ui) -> Result<ExitCode, Failure> {
        let config = self.config.load()?;
        let Some(environment) = config.environments().first() else {
            return Err(Failure::bad_input("bp.toml has no environment"));
        };
        let session = Session::from_env()?;
        let clients = session.open(environment).await?;
        let registries = promotion::registries(&[(environment, &clients)], session.endpoints())?;
        let unavailable = |error: std::io::Error| Failure::new(ErrorClass::Unavailable, &error);
        let directory = private_directory().map_err(unavailable)?;
        let mut artifact = Artifact::default();
        artifact.version = Some(self.version.to_string());
        artifact.created = Some(TimeSource::system().now());
        for service in environment.services() {
            let name = service.name.as_ref().map_or("web", |name| name.as_str());
            let image = self.changed(name, version_of(name, self.version.as_str())).build();
            let layout = directory.path().join(name);
            image.write_layout(&layout, self.version.as_str()).map_err(unavailable)?;
            let source = ImageAt::new(OciLayout::open(&layout).await?, self.version.clone());
            let pushed = service.repository.tagged(self.version.clone());
            ui.follow(copy(source, registries.image(&pushed), CopyOptions::default())).await?;
            let resolver = clients.resolver(environment.registry())?;
            let wait = image_wait(service.deploy.image_timeout)?;
            let image = wait_for_image(&*resolver, &pushed, wait, |line| ui.say(line)).await?;
            ui.say(format!("{name}: {pushed} is {}", image.digest().abbreviated()));
            match &service.name {
                Some(name) => artifact.set_image_of(name.clone(), &image, Some(self.version.clone())),
                None => artifact.set_image(&image, Some(self.version.clone())),
            }
        }
        artifact.write(&self.artifact)?;
        ui.result(format!("{}: shop {}", self.artifact.display(), self.version), &artifact);
        Ok(ExitCode::Done)
    }

    fn changed(&self, name: &str, image: ImageBuilder) -> ImageBuilder {
        if self.failing && name == "web" {
            image.label("dev.bp-sandbox.behaviour", "exit:78").label("dev.bp-sandbox.log", LOG)
        } else {
            image
        }
    }
}
