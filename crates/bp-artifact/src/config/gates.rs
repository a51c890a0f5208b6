//! Read the gates between the stages of a deployment: `[environment.gate.<name>]`.

use std::collections::BTreeSet;

use super::{
    error::ConfigError,
    keys::GATE_KINDS,
    layer::{Setting, Settings, duration, list_of_strings as words, switch},
    model::{DeployPlatform, GateCondition, GateConfig, GatePosition, ServiceConfig},
    name::ServiceName,
    origin::Origin,
};
use crate::{check::http, deploy::GateName};

/// How long a check is repeated by default.
const TIMEOUT: &str = "5m";
/// The maximum length of an alarm's name.
const ALARM_NAME: usize = 255;

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

    let after = settings.get(&key("after")).map(|setting| place(setting, services)).transpose()?;
    let given = GATE_KINDS.map(|kind| settings.get(&key(kind)).cloned());
    if matches!(given, [None, ..]) {
        settings.insert_if_missing(&key("timeout"), TIMEOUT, Origin::Default);
    }
    let of_http = ["status", "contains"].map(key);
    let of_http = of_http.iter().find_map(|key| settings.get(key));
    let of_http = of_http.or_else(|| json(settings, &name).next().map(|(_, setting)| setting));
    let timeout = || duration(settings, &key("timeout"));
    let condition = match given {
        [Some(approval), None, None, None, None] => {
            if let Some(other) = settings.get(&key("timeout")).or(of_http) {
                return Err(other.invalid(format!("`{}` is not allowed for an approval", other.key)));
            }
            if approval.value != "true" {
                return Err(approval.invalid(format!("`{}` must be true or omitted", approval.key)));
            }
            GateCondition::Approval
        }
        [None, Some(url), None, None, None] => {
            http::parse(&url.value).map_err(|error| url.invalid(error.to_string()))?;
            GateCondition::Http {
                url: url.value,
                status: settings.get(&key("status")).map(status).transpose()?,
                contains: settings.text(&key("contains"))?,
                fields: json(settings, &name).map(pointer).collect::<Result<_, _>>()?,
                timeout: timeout()?,
            }
        }
        [None, None, Some(command), None, None] => {
            let mut words = words(&command).into_iter();
            let Some(program) = words.next().filter(|program| !program.is_empty()) else {
                return Err(command.invalid("expected a program and its arguments, as in [\"./smoke.sh\"]"));
            };
            GateCondition::Command { program, arguments: words.collect(), timeout: timeout()? }
        }
        [None, None, None, Some(alarms), None] => {
            GateCondition::Alarms { names: alarm_names(&alarms)?, timeout: timeout()? }
        }
        [None, None, None, None, Some(job)] => {
            let (cluster, namespace) = job_place(&job, after.as_ref(), services)?;
            let manifest = settings.text(&job.key)?.unwrap_or_default().into();
            GateCondition::Job { manifest, cluster, namespace, timeout: timeout()? }
        }
        given => {
            let at = given.iter().flatten().last().unwrap_or(&first);
            let [kinds @ .., last] = GATE_KINDS.map(|kind| format!("`{kind}`"));
            let kinds = kinds.join(", ");
            return Err(at.invalid(format!("the gate {name} requires exactly one of {kinds} and {last}")));
        }
    };
    if let Some(other) = of_http.filter(|_| !matches!(condition, GateCondition::Http { .. })) {
        return Err(other.invalid(format!("`{}` requires a `url`", other.key)));
    }
    let [deploy, verify] = ["deploy", "verify"].map(key);
    if let (GateCondition::Approval, Some(other)) =
        (&condition, settings.get(&deploy).or(settings.get(&verify)))
    {
        return Err(other.invalid(format!("`{}` is not allowed for an approval", other.key)));
    }
    let only_reads = matches!(condition, GateCondition::Http { .. } | GateCondition::Alarms { .. });
    let deploy = switch(settings, &deploy)?.unwrap_or(true);
    let verify = switch(settings, &verify)?.unwrap_or(only_reads);
    Ok(GateConfig { name, after, condition, deploy, verify })
}

fn alarm_names(setting: &Setting) -> Result<Vec<String>, ConfigError> {
    let names = words(setting);
    if names.is_empty() {
        return Err(setting.invalid("expected names of CloudWatch alarms, as in [\"shop-5xx\"]"));
    }
    let reason = |name: &String| match name.as_str() {
        name if name.trim().is_empty() => Some("an alarm's name is empty".to_owned()),
        name if name.starts_with("arn:") => Some(format!("{name:?} is an ARN: expected the alarm's name")),
        name if name.chars().count() > ALARM_NAME || name.chars().any(char::is_control) => Some(format!(
            "{name:?} is not the name of an alarm: expected 1 to {ALARM_NAME} printable characters"
        )),
        _ => None,
    };
    match names.iter().find_map(reason) {
        Some(reason) => Err(setting.invalid(reason)),
        None => Ok(names),
    }
}

/// The cluster and the namespace of a Job: those of the service in `after`, or else the only ones of the environment.
fn job_place(
    job: &Setting,
    after: Option<&GatePosition>,
    services: &[ServiceConfig],
) -> Result<(String, String), ConfigError> {
    let of = |service: &ServiceConfig| {
        service.eks.as_ref().map(|eks| (eks.cluster.clone(), eks.namespace.clone()))
    };
    let own = after.and_then(|place| services.iter().find(|service| service.name == place.service));
    if let Some(place) = own.and_then(of) {
        return Ok(place);
    }
    let mut all: BTreeSet<(String, String)> = services.iter().filter_map(of).collect();
    match (all.pop_first(), all.is_empty()) {
        (Some(only), true) => Ok(only),
        (None, _) => {
            let reason = "requires an EKS target, but no service has one in this environment";
            Err(job.invalid(format!("`{}` {reason}", job.key)))
        }
        (Some(_), false) => {
            let reason =
                "is ambiguous, the EKS targets are in several namespaces: set `after` to a service on EKS";
            Err(job.invalid(format!("`{}` {reason}", job.key)))
        }
    }
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
fn place(setting: &Setting, services: &[ServiceConfig]) -> Result<GatePosition, ConfigError> {
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
            [first, ..] => format!("expected one of {}, as in {first} or {first}/ecs", known.join(", ")),
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
    Ok(GatePosition { service: service.name.clone(), platform })
}
