//! Merge the settings of each service: from the environment, from `[[service]]`, and from the service in the
//! environment.

use super::{ConfigError, ServiceName, keys::ENVIRONMENT, layer::Settings, origin::Origin};

type Services = [(ServiceName, Origin, Settings)];

/// Settings of a single service, which an environment cannot set for all services.
const OF_ONE: &[&str] = &[
    "repository",
    "paths",
    "ecs.paths",
    "eks.paths",
    "ecs.service",
    "ecs.definition",
    "eks.workload",
    "eks.release",
    "eks.chart",
    "eks.traffic.object",
    "eks.traffic.services",
];

/// Checks that an environment has no settings of a service if there is no `[[service]]`.
pub(super) fn check_none(settings: &Settings) -> Result<(), ConfigError> {
    match settings.section("service").next() {
        Some((_, setting)) => {
            Err(setting.invalid("there is no [[service]], so `service.*` is not allowed here"))
        }
        None => Ok(()),
    }
}

/// The settings of each service in an environment. Settings of the service in the environment take precedence over
/// those of the environment, and those over `[[service]]`. The environment's own settings are left in `settings`.
pub(super) fn split(settings: &mut Settings, services: &Services) -> Result<Vec<Settings>, ConfigError> {
    let mut own: Vec<Settings> = Vec::with_capacity(services.len());
    for (name, ..) in services {
        own.push(settings.take_section(&format!("service.{name}")));
    }
    if let Some((name, setting)) = settings.section("service").next() {
        let asked = name.split('.').next().unwrap_or_default();
        let known: Vec<&str> = services.iter().map(|(name, ..)| name.as_str()).collect();
        let reason = format!("unknown service {asked:?}, expected one of {}", known.join(", "));
        return Err(setting.invalid(reason));
    }
    if let Some(setting) = OF_ONE.iter().find_map(|key| settings.get(key)) {
        let reason = format!(
            "`{}` applies to one service: move it to [[service]] or [environment.service.<name>]",
            setting.key
        );
        return Err(setting.invalid(reason));
    }
    for ((name, origin, everywhere), own) in services.iter().zip(&mut own) {
        let here = own.clone();
        own.underlay(&*settings);
        own.underlay(everywhere);
        own.retain(|key| {
            !key.starts_with("gate.")
                && !key.starts_with("policy.")
                && ENVIRONMENT.iter().all(|of_environment| of_environment.name != key)
        });
        for platform in ["ecs", "eks"] {
            // The environment sets the cluster, the service its target: without either there is no target.
            let there = settings.has_section(platform) || here.has_section(platform);
            let wanted = everywhere.has_section(platform) || here.has_section(platform);
            if !there || !wanted {
                own.take_section(platform);
            }
        }
        if own.get("repository").is_none() {
            let reason = format!("the service {name} has no `repository`");
            return Err(ConfigError::Invalid { at: origin.clone(), reason });
        }
    }
    Ok(own)
}

/// Checks that the services in `after` exist, and that no service is deployed after itself.
pub(super) fn check_order(services: &Services) -> Result<(), ConfigError> {
    let after = |settings: &Settings| -> Vec<String> {
        let text = settings.get("after").map(|setting| setting.value.clone()).unwrap_or_default();
        text.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
    };
    let mut placed: Vec<&str> = Vec::new();
    while placed.len() < services.len() {
        let open = || services.iter().filter(|(name, ..)| !placed.contains(&name.as_str()));
        let next =
            open().find(|(.., settings)| after(settings).iter().all(|name| placed.contains(&name.as_str())));
        if let Some((name, ..)) = next {
            placed.push(name.as_str());
            continue;
        }
        let Some((name, origin, settings)) = open().next() else { break };
        let at = settings.get("after").map_or(origin, |setting| &setting.origin).clone();
        let unknown = after(settings)
            .into_iter()
            .find(|name| services.iter().all(|(known, ..)| known.as_str() != name));
        let reason = match unknown {
            Some(unknown) => format!("the service {name} is after {unknown:?}, which is not a service"),
            None => format!("the service {name} is deployed after itself"),
        };
        return Err(ConfigError::Invalid { at, reason });
    }
    Ok(())
}
