//! Task definition settings of `bp.toml`.

use std::{collections::BTreeMap, path::Path};

use bp_artifact::config::{EcsConfig, ServiceConfig};
use bp_ecs::{ContainerOverlay, EcsTarget, Error, OneOff, Overlay, TaskDefinition};

use crate::Failure;

/// The commit and version of the image's build, if known.
#[derive(Debug, Clone, Default)]
pub(super) struct Build {
    pub(super) commit: Option<String>,
    pub(super) version: Option<String>,
}

impl Build {
    /// Commit and version, by name.
    pub(super) fn annotations(&self) -> Vec<(&'static str, &String)> {
        let build = [("Commit", &self.commit), ("Version", &self.version)];
        build.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?))).collect()
    }
}

/// The overlay on the task definition: tags, sizes, and the container's variables, secrets and log options.
/// `secrets` are those of `ecs`, pinned or not.
pub(super) fn overlay(
    service: &ServiceConfig,
    ecs: &EcsConfig,
    secrets: &BTreeMap<String, String>,
    container: &str,
    build: &Build,
) -> Overlay {
    let mut own = ContainerOverlay::default();
    for (name, value) in &ecs.variables {
        own = own.variable(name, value);
    }
    for (name, reference) in secrets {
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
    let overlay = ecs.without_members.iter().fold(overlay, Overlay::without_member);
    let overlay = ecs.cpu.iter().fold(overlay, Overlay::cpu);
    ecs.memory.iter().fold(overlay, Overlay::memory)
}

/// A one-off task with the timeout and the container of bp.toml.
pub(super) fn one_off(ecs: &EcsConfig) -> OneOff {
    let task = ecs.tasks.timeout.iter().fold(OneOff::default(), |task, timeout| task.timeout(*timeout));
    ecs.tasks.container.iter().fold(task, OneOff::container)
}

/// The service with the one-off tasks of its deployments.
pub(super) fn with_tasks(service: EcsTarget, ecs: &EcsConfig) -> EcsTarget {
    let task = |command: &Vec<String>| one_off(ecs).command(command);
    let service = ecs.tasks.before.iter().fold(service, |s, (name, command)| s.before(name, task(command)));
    ecs.tasks.after.iter().fold(service, |s, (name, command)| s.after(name, task(command)))
}

/// Reads a task definition from a JSON file in the format of aws-cli.
///
/// # Errors
/// When the file cannot be read or is not a valid task definition.
pub(super) fn definition(file: &Path) -> Result<TaskDefinition, Failure> {
    let text = bp_artifact::file::read_text(file)
        .map_err(|error| Failure::bad_input(format!("cannot read {}: {error}", file.display())))?;
    Ok(TaskDefinition::from_json(&file.display().to_string(), &text)?)
}

/// Adds the remedy to the error for several containers without `ecs.container`.
pub(super) fn container_not_named(error: Error) -> Failure {
    match error {
        Error::ContainerNotNamed { containers, .. } => {
            let all = containers.join(", ");
            Failure::bad_input(format!(
                "the task definition has several containers: set ecs.container in bp.toml to one of {all}"
            ))
        }
        error => error.into(),
    }
}
