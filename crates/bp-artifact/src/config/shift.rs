//! Read how traffic is shifted between two Services by weight: `eks.traffic.*`.

use std::time::Duration;

use super::{
    error::ConfigError,
    layer::{Settings, duration, switch},
    model::{GateCondition, GateConfig, ServiceConfig},
    name::is_dns_name,
    traffic::{TrafficConfig, TrafficObject},
};
use crate::{deploy::GateName, parse::ParseError};

/// The settings of `eks.traffic`, if any.
pub(super) fn read(settings: &Settings) -> Result<Option<TrafficConfig>, ConfigError> {
    let Some((_, first)) = settings.section("eks.traffic").next() else { return Ok(None) };
    let missing = |key: &str| first.invalid(format!("`{}` requires `{key}`", first.key));
    let object: TrafficObject =
        settings.parse("eks.traffic.object")?.ok_or_else(|| missing("eks.traffic.object"))?;
    let action = settings.get("eks.traffic.action");
    if let (Some(action), TrafficObject::HttpRoute(_)) = (action, &object) {
        return Err(action.invalid("`eks.traffic.action` requires an Ingress: an HTTPRoute has no actions"));
    }
    let pair = settings.get("eks.traffic.services").ok_or_else(|| missing("eks.traffic.services"))?;
    let services = services(&pair.value).map_err(|error| pair.invalid(error.to_string()))?;
    let gates = |key: &str| -> Result<Vec<GateName>, ConfigError> {
        let Some(setting) = settings.get(key) else { return Ok(Vec::new()) };
        let names = setting.value.split(',').map(str::trim).filter(|name| !name.is_empty());
        names.map(|name| name.parse().map_err(|error| setting.invalid(format!("{error}")))).collect()
    };
    Ok(Some(TrafficConfig {
        object,
        action: settings.text("eks.traffic.action")?,
        services,
        steps: settings.parse("eks.traffic.steps")?.unwrap_or_default(),
        bake: match settings.get("eks.traffic.bake") {
            Some(setting) if setting.value != "0s" => duration(settings, "eks.traffic.bake")?,
            Some(_) | None => Duration::ZERO,
        },
        smoke: gates("eks.traffic.smoke")?,
        checks: gates("eks.traffic.checks")?,
        target_health: switch(settings, "eks.traffic.target-health")?.unwrap_or(true),
    }))
}

/// Parses two names of Services that differ, separated by a comma.
fn services(text: &str) -> Result<[String; 2], ParseError> {
    let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    let wrong = |reason: &'static str| ParseError::new("a pair of Services", text, reason);
    match <[String; 2]>::try_from(names) {
        Ok(pair) if !pair.iter().all(|name| is_dns_name(name)) => {
            Err(wrong("the names must consist of lower-case letters, digits and dashes"))
        }
        Ok([one, two]) if one == two => Err(wrong("the two Services must differ")),
        Ok(pair) => Ok(pair),
        Err(_) => Err(wrong("expected two names, as in web-blue, web-green")),
    }
}

/// Checks that the gates in `eks.traffic.smoke` and `eks.traffic.checks` exist, and that none is an approval.
pub(super) fn check(services: &[ServiceConfig], gates: &[GateConfig]) -> Result<(), ConfigError> {
    let all = services.iter().filter_map(|service| Some((service, service.eks.as_ref()?.traffic.as_ref()?)));
    for (service, traffic) in all {
        let smoke = traffic.smoke.iter().map(|name| ("eks.traffic.smoke", name));
        let checks = traffic.checks.iter().map(|name| ("eks.traffic.checks", name));
        for (key, name) in smoke.chain(checks) {
            let reason = match gates.iter().find(|gate| gate.name == *name) {
                None => format!("the gate {name} does not exist: add [environment.gate.{name}]"),
                Some(gate) if gate.condition == GateCondition::Approval => {
                    format!("the gate {name} is an approval, which cannot be checked")
                }
                Some(_) => continue,
            };
            let setting = service.settings.iter().find(|setting| setting.key == key);
            return Err(match setting {
                Some(setting) => setting.invalid(reason),
                None => ConfigError::Invalid { at: service.origin.clone(), reason },
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    fn config(traffic: &str, gates: &str) -> Result<Option<TrafficConfig>, ConfigError> {
        let text = format!(
            "version = 1\n[project]\nname = \"shop\"\nrepository = \"shop/web\"\n[[environment]]\nname = \"dev\"\n\
             region = \"eu-central-1\"\nregistry = \"registry.example.com\"\n[environment.eks]\ncluster = \"shop\"\n\
             namespace = \"prod\"\nworkload = \"deployment/web-blue\"\n{traffic}\n{gates}\n"
        );
        let config = Config::parse(&text, "bp.toml")?;
        let service = config.environment("dev")?.services()[0].clone();
        Ok(service.eks.and_then(|eks| eks.traffic))
    }

    const PAIR: &str = "traffic.services = \"web-blue, web-green\"\n";

    #[test]
    fn reads_the_settings_with_their_defaults() {
        assert_eq!(config("", "").unwrap(), None);
        let text = format!("traffic.object = \"httproute/shop\"\n{PAIR}");
        let traffic = config(&text, "").unwrap().unwrap();
        assert_eq!(traffic.object, TrafficObject::HttpRoute("shop".into()));
        assert_eq!(traffic.services, ["web-blue", "web-green"]);
        assert_eq!((traffic.steps.to_string().as_str(), traffic.bake), ("5, 25, 50, 100", Duration::ZERO));
        let text = format!(
            "traffic.object = \"ingress/shop\"\ntraffic.action = \"web\"\ntraffic.steps = \"50, 100\"\n\
             traffic.bake = \"5m\"\ntraffic.checks = \"smoke\"\n{PAIR}"
        );
        let traffic = config(&text, "[environment.gate.smoke]\ncommand = [\"./smoke.sh\"]").unwrap().unwrap();
        assert_eq!((traffic.action.as_deref(), traffic.bake), (Some("web"), Duration::from_secs(300)));
        assert_eq!((traffic.steps.percentages(), traffic.checks.len()), (&[50, 100][..], 1));
    }

    #[test]
    fn rejects_what_is_missing_or_contradictory_with_its_location() {
        let route = format!("traffic.object = \"httproute/shop\"\n{PAIR}");
        for (text, gates, reason) in [
            (PAIR.to_owned(), "", "requires `eks.traffic.object`"),
            ("traffic.object = \"ingress/shop\"".to_owned(), "", "requires `eks.traffic.services`"),
            (format!("traffic.object = \"service/web\"\n{PAIR}"), "", "ingress/NAME or httproute/NAME"),
            (format!("{route}traffic.action = \"web\""), "", "an HTTPRoute has no actions"),
            (format!("{route}traffic.steps = \"50\""), "", "the last step must be 100"),
            (format!("{route}traffic.checks = \"smoke\""), "", "the gate smoke does not exist"),
            (format!("{route}traffic.smoke = \"banner\""), "", "the gate banner does not exist"),
            (
                format!("{route}traffic.checks = \"go-live\""),
                "[environment.gate.go-live]\napproval = true",
                "is an approval",
            ),
            (
                "traffic.object = \"ingress/shop\"\ntraffic.services = \"web\"".to_owned(),
                "",
                "expected two names",
            ),
            (
                "traffic.object = \"ingress/shop\"\ntraffic.services = \"web, web\"".to_owned(),
                "",
                "must differ",
            ),
        ] {
            let error = config(&text, gates).unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains("bp.toml:1"), "{text}: {error}");
        }
    }
}
