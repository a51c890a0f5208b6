//! Read the one-off tasks of an ECS service: `ecs.before.<name>`, `ecs.after.<name>`.

use std::collections::BTreeMap;

use super::{
    error::ConfigError,
    layer::{Setting, Settings, duration, list_of_strings},
    model::EcsTasks,
    name::is_dns_name,
};

pub(super) fn read(settings: &Settings) -> Result<EcsTasks, ConfigError> {
    Ok(EcsTasks {
        before: commands(settings, "ecs.before")?,
        after: commands(settings, "ecs.after")?,
        timeout: settings
            .get("ecs.task-timeout")
            .map(|_| duration(settings, "ecs.task-timeout"))
            .transpose()?,
        container: settings.text("ecs.task-container")?,
    })
}

fn commands(settings: &Settings, section: &str) -> Result<BTreeMap<String, Vec<String>>, ConfigError> {
    settings.section(section).map(|(name, setting)| Ok((name.to_owned(), command(name, setting)?))).collect()
}

fn command(name: &str, setting: &Setting) -> Result<Vec<String>, ConfigError> {
    if !is_dns_name(name) {
        return Err(setting.invalid(format!(
            "{name:?} is not the name of a task: expected lower-case letters, digits and dashes"
        )));
    }
    let words = list_of_strings(setting);
    match words.first() {
        Some(program) if !program.is_empty() => Ok(words),
        _ => Err(setting.invalid("expected a program and its arguments, as in [\"./manage\", \"migrate\"]")),
    }
}
