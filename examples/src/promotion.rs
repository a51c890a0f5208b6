//! Carrying the artifact's image from one environment's registry to another's.

use bp_artifact::{Artifact, EnvironmentConfig, ImageRef, Operation, ResolvedImage, Tag};
use bp_promote::{CopyError, CopyEvent, CopyOptions, CopyReport, EcrClients, RegistryClient, copy};

use crate::{Clients, Endpoints, Failure};

/// One side of a promotion.
pub type Side<'a> = (&'a EnvironmentConfig, &'a Clients);

/// The image that the artifact means, as `from` has it.
///
/// # Errors
/// When the artifact names no image, or that registry does not have it.
pub async fn image_of(artifact: &Artifact, (from, clients): Side<'_>) -> Result<ResolvedImage, Failure> {
    if let Some(image) = artifact.resolved() {
        return Ok(image.moved_to(&from.repository));
    }
    // Without a digest its tag is resolved here, once.
    let tagged = artifact.image_in(&from.repository)?;
    Ok(clients.resolver(from.registry())?.resolve(&tagged).await?)
}

/// A client for the registries of some environments, each signed in to with its own role; others by docker's
/// configuration.
///
/// # Errors
/// When an endpoint is no URL.
pub fn registries(sides: &[Side<'_>], endpoints: &Endpoints) -> Result<RegistryClient, Failure> {
    let mut ecr = EcrClients::new();
    for (environment, clients) in
        sides.iter().filter(|(environment, _)| environment.registry().ecr().is_some())
    {
        let registry = environment.registry().clone();
        ecr = ecr.with(registry.clone(), clients.ecr(&registry));
    }
    Ok(endpoints.registries()?.ecr(ecr).build()?)
}

/// Copies `image` from one environment to another, byte for byte, under `tag` if there is one.
///
/// # Errors
/// When an endpoint is no URL. What goes wrong later is the operation's error.
pub fn promote(
    image: &ResolvedImage,
    tag: Option<&Tag>,
    from: Side<'_>,
    to: Side<'_>,
    endpoints: &Endpoints,
) -> Result<Operation<CopyEvent, Result<CopyReport, CopyError>>, Failure> {
    let client = registries(&[from, to], endpoints)?;
    let source = image.moved_to(&from.0.repository).reference.into();
    let destination: ImageRef = match tag {
        Some(tag) => to.0.repository.tagged(tag.clone()),
        None => to.0.repository.at(image.digest().clone()).into(),
    };
    let mut options = CopyOptions::default();
    if let Some(blobs) = to.0.limits.transfers {
        options = options.concurrency(blobs.get() as usize);
    }
    Ok(copy(client.image(&source), client.image(&destination), options))
}
