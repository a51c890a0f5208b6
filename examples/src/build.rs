//! Build versions of the shop, as a build server would: push an image of each service to the first environment, and
//! return the artifact for the later stages.

use std::time::Duration;

use bp_artifact::{
    Artifact, Config, Tag,
    error::ErrorClass,
    resolve::wait_for,
    time::{TimeSource, Wait},
};
use bp_delivery::{Failure, Session, Ui, promotion};
use bp_promote::{CopyOptions, OciLayout, copy_all, store::ImageAt};
use bp_sandbox::ImageBuilder;

use crate::world::{private_directory, shop, version_of};

/// Builds a version of every service, with the changes that `change` makes to the image of a service, and pushes them.
///
/// # Errors
/// When the registry cannot be reached or refuses the images.
///
/// # Permissions
/// Those of [`Session::open`], and those to push images to the first environment of `config`.
///
/// # Cancel safety
/// Cancel safe: a rerun completes the push.
pub async fn build_and_push(
    ui: &Ui,
    session: &Session,
    config: &Config,
    version: &Tag,
    change: impl Fn(&str, ImageBuilder) -> ImageBuilder,
) -> Result<Artifact, Failure> {
    let unavailable = |error: std::io::Error| Failure::new(ErrorClass::Unavailable, &error);
    let first = config.environments().first();
    let dev = first.ok_or_else(|| Failure::bad_input("bp.toml has no environment"))?;
    let clients = session.open(dev).await?;
    let registry = promotion::registries(&[(dev, &clients)], session.endpoints())?;
    let directory = private_directory().map_err(unavailable)?;
    let (mut images, mut pushed) = (Vec::new(), Vec::new());
    for (number, service) in dev.services().iter().enumerate() {
        let name = service.name.as_ref().map_or("shop", |name| name.as_str());
        let image = match &service.name {
            Some(_) => version_of(name, version.as_str()),
            None => shop(version.as_str()),
        };
        let layout = directory.path().join(number.to_string());
        change(name, image).build().write_layout(&layout, version.as_str()).map_err(unavailable)?;
        let source = ImageAt::new(OciLayout::open(&layout).await?, version.clone());
        let reference = service.repository.tagged(version.clone());
        images.push((source, registry.image(&reference)));
        pushed.push((service.name.clone(), reference));
    }
    ui.follow(copy_all(images, CopyOptions::default())).await.into_result()?;

    let mut artifact = Artifact::default();
    artifact.version = Some(version.to_string());
    artifact.created = Some(TimeSource::system().now());
    let resolver = clients.resolver(dev.registry())?;
    let mut digests = Vec::new();
    for (service, reference) in pushed {
        // The only place where a tag is resolved. Later steps use only the digest.
        let wait = Wait::new(Duration::from_secs(10), Duration::from_millis(200))?;
        let image = wait_for(&*resolver, &reference, wait).await?;
        let name = service.as_ref().map_or("shop", |name| name.as_str());
        digests.push(format!("{name} {}", image.digest().abbreviated()));
        match service {
            Some(service) => artifact.set_image_of(service, &image, Some(version.clone())),
            None => artifact.set_image(&image, Some(version.clone())),
        }
    }
    ui.done(format!("resolved {}", digests.join(", ")));
    Ok(artifact)
}

/// Makes a version of the service `web` fail at its start, because a file is missing.
pub fn fails_at_start(service: &str, image: ImageBuilder) -> ImageBuilder {
    match service {
        "web" | "shop" => image
            .label("dev.bp-sandbox.behaviour", "exit:78")
            .label("dev.bp-sandbox.log", "shop: cannot read /app/config.toml: no such file"),
        _ => image,
    }
}
