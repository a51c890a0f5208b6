//! Read the gates between the stages of a deployment: `[environment.gate.<name>]`.

use super::{
    error::ConfigError,
    layer::{Setting, Settings, duration},
    model::{DeployPlatform, GateCondition, GateConfig, GatePlace, ServiceConfig},
    name::ServiceName,
    origin::Origin,
};
use crate::{check::http, deploy::GateName};

/// How long a check is repeated by default.
const TIMEOUT: &str = "5m";

/// The gates of an environment, ordered by name.
pub(super) fn read(
    settings: &mut Settings,
    services: &[ServiceConfig],
) -> Result<Vec<GateConfig>, ConfigError> {
    settings.names("gate").iter().map(|name| gate(name, settings, services)).collect()
}

fn gate(name: &str, settings: &mut Settings, services: &[ServiceConfig]) -> Result<GateConfig, ConfigError> {
    let key = |key: &str| format!("gate.{name}.{key}");
    let first = settings.section(&format!("gate.{name}")).next().map(|(_, setting)| setting.clone());
    let Some(first) = first else { unreachable!("every name comes from a setting") };
    let name: GateName = name.parse().map_err(|error| first.invalid(format!("{error}")))?;

    let given = ["approval", "url", "command"].map(|kind| settings.get(&key(kind)).cloned());
    let condition = match given {
        [Some(approval), None, None] => {
            let none = ["status", "contains", "timeout"].map(key);
            let other = none.iter().find_map(|key| settings.get(key));
            if let Some(other) = other.or_else(|| json(settings, &name).next().map(|(_, setting)| setting)) {
                return Err(other.invalid(format!("`{}` is not allowed for an approval", other.key)));
            }
            if approval.value != "true" {
                return Err(approval.invalid(format!("`{}` must be true or omitted", approval.key)));
            }
            GateCondition::Approval
        }
        [None, Some(url), None] => {
            settings.insert_if_missing(&key("timeout"), TIMEOUT, Origin::Default);
            http::parse(&url.value).map_err(|error| url.invalid(error.to_string()))?;
            GateCondition::Http {
                url: url.value,
                status: settings.get(&key("status")).map(status).transpose()?,
                contains: settings.text(&key("contains"))?,
                fields: json(settings, &name).map(pointer).collect::<Result<_, _>>()?,
                timeout: duration(settings, &key("timeout"))?,
            }
        }
        [None, None, Some(command)] => {
            settings.insert_if_missing(&key("timeout"), TIMEOUT, Origin::Default);
            let other = ["status", "contains"].map(key);
            let other = other.iter().find_map(|key| settings.get(key));
            if let Some(other) = other.or_else(|| json(settings, &name).next().map(|(_, setting)| setting)) {
                return Err(other.invalid(format!("`{}` requires a `url`", other.key)));
            }
            let words: Result<Vec<String>, _> = serde_json::from_str(&command.value);
            let mut words = words.unwrap_or_default().into_iter();
            let Some(program) = words.next().filter(|program| !program.is_empty()) else {
                return Err(command.invalid("expected a program and its arguments, as in [\"./smoke.sh\"]"));
            };
            let timeout = duration(settings, &key("timeout"))?;
            GateCondition::Command { program, arguments: words.collect(), timeout }
        }
        given => {
            let at = given.iter().flatten().last().unwrap_or(&first);
            let reason = format!("the gate {name} requires exactly one of `approval`, `url` and `command`");
            return Err(at.invalid(reason));
        }
    };
    let after = settings.get(&key("after")).map(|setting| place(setting, services)).transpose()?;
    Ok(GateConfig { name, after, condition })
}

fn json<'a>(settings: &'a Settings, name: &GateName) -> impl Iterator<Item = (String, &'a Setting)> {
    let section = format!("gate.{name}.json.");
    let name = move |setting: &Setting| setting.key.strip_prefix(&section).map(str::to_owned);
    settings.section("gate").filter_map(move |(_, setting)| Some((name(setting)?, setting)))
}

fn pointer((pointer, setting): (String, &Setting)) -> Result<(String, String), ConfigError> {
    if !pointer.starts_with('/') {
        return Err(
            setting.invalid(format!("{pointer:?} is not a JSON pointer: expected a path such as /status"))
        );
    }
    Ok((pointer, setting.value.clone()))
}

fn status(setting: &Setting) -> Result<u16, ConfigError> {
    let status = setting.value.parse().ok().filter(|status| (100..600).contains(status));
    status.ok_or_else(|| setting.invalid(format!("{:?} is not a status from 100 to 599", setting.value)))
}

/// The targets that `after` refers to, which must exist in this environment.
fn place(setting: &Setting, services: &[ServiceConfig]) -> Result<GatePlace, ConfigError> {
    let text = setting.value.trim();
    let is_platform = |text: &str| match text {
        "ecs" => Some(DeployPlatform::Ecs),
        "eks" => Some(DeployPlatform::Eks),
        _ => None,
    };
    let found = |service: &ServiceConfig| {
        let rest = match &service.name {
            Some(name) => text.strip_prefix(name.as_str())?,
            None => return is_platform(text).map(Some),
        };
        match rest {
            "" => Some(None),
            rest => rest.strip_prefix('/').and_then(is_platform).map(Some),
        }
    };
    let place = services.iter().find_map(|service| Some((service, found(service)?)));
    let Some((service, platform)) = place else {
        let names = services.iter().filter_map(|service| service.name.as_ref());
        let known: Vec<&str> = names.map(ServiceName::as_str).collect();
        let expected = match known.as_slice() {
            [] => "expected ecs or eks".to_owned(),
            known => format!("expected one of {}, as in {} or {}/ecs", known.join(", "), known[0], known[0]),
        };
        return Err(setting.invalid(format!("{text:?} is not a service or target: {expected}")));
    };
    let is_here = match platform {
        None => service.has_ecs() || service.has_eks(),
        Some(DeployPlatform::Ecs) => service.has_ecs(),
        Some(DeployPlatform::Eks) => service.has_eks(),
    };
    if !is_here {
        return Err(setting.invalid(format!("{text:?} is not deployed in this environment")));
    }
    Ok(GatePlace { service: service.name.clone(), platform })
}
