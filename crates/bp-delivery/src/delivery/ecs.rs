//! What `bp.toml` says of a task definition.

use std::path::Path;

use bp_artifact::config::{EcsConfig, ServiceConfig};
use bp_ecs::{ContainerOverlay, Error, Overlay, TaskDefinition};

use crate::Failure;

/// The build of the image, as far as it is known.
#[derive(Debug, Clone, Default)]
pub(super) struct Build {
    pub(super) commit: Option<String>,
    pub(super) version: Option<String>,
}

/// What bp.toml lays over the definition: tags, sizes, and the container's variables, secrets and log options.
pub(super) fn overlay(service: &ServiceConfig, ecs: &EcsConfig, container: &str, build: &Build) -> Overlay {
    let mut own = ContainerOverlay::default();
    for (name, value) in &ecs.variables {
        own = own.variable(name, value);
    }
    for (name, reference) in &ecs.secrets {
        own = own.secret(name, reference);
    }
    for (name, value) in &ecs.log_options {
        own = own.log_option(name, value);
    }
    let mut overlay = Overlay::default()
        .container(container, own)
        .image_tag("Commit", build.commit.clone())
        .image_tag("Version", build.version.clone());
    for (name, value) in &service.tags {
        overlay = overlay.tag(name, value);
    }
    if !ecs.tagging {
        overlay = overlay.without_tags();
    }
    for (name, image) in &ecs.images {
        overlay = overlay.container(name, ContainerOverlay::default().image(image.clone()));
    }
    let overlay = ecs.cpu.iter().fold(overlay, Overlay::cpu);
    ecs.memory.iter().fold(overlay, Overlay::memory)
}

/// Reads a task definition from a file, as aws-cli writes it.
///
/// # Errors
/// When it cannot be read or is none.
pub(super) fn definition(file: &Path) -> Result<TaskDefinition, Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::bad_input(format!("cannot read {}: {error}", file.display())))?;
    Ok(TaskDefinition::from_json(&file.display().to_string(), &text)?)
}

/// What to do about several containers of which `bp.toml` names none.
pub(super) fn unnamed(error: Error) -> Failure {
    match error {
        Error::ContainerNotNamed { containers, .. } => {
            let all = containers.join(", ");
            Failure::bad_input(format!("the task definition has the containers {all}: name one in bp.toml"))
        }
        error => error.into(),
    }
}
