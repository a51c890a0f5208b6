//! Weights in the annotation `alb.ingress.kubernetes.io/actions.<name>` of an Ingress. Pure functions on its JSON text.
//!
//! The AWS Load Balancer Controller ignores the case of the members' names, as Go does.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Map, Value};

use super::share::{Pair, Place};

/// The prefix of the annotation.
pub(super) const ANNOTATION: &str = "alb.ingress.kubernetes.io/actions.";
/// The port of a backend whose action is in an annotation.
pub(super) const USE_ANNOTATION: &str = "use-annotation";
/// The greatest weight that Elastic Load Balancing allows.
const MOST: u32 = 999;

/// The two Services in a forward action.
#[derive(Debug, PartialEq)]
pub(super) struct Forward {
    pub(super) place: Place,
    /// The ports of the two Services.
    pub(super) ports: [IntOrString; 2],
}

/// The two Services in the action `name`; `None` if it does not forward to both.
///
/// # Errors
/// When the action is invalid.
pub(super) fn read(name: &str, text: &str, services: &[String; 2]) -> Result<Option<Forward>, String> {
    let action: Value = serde_json::from_str(text).map_err(|e| format!("it is not valid JSON: {e}"))?;
    let Some(groups) = groups(&action)? else { return Ok(None) };
    let found = [find(groups, &services[0])?, find(groups, &services[1])?];
    let [Some(one), Some(two)] = found else { return Ok(None) };
    let (one, two) = (&groups[one], &groups[two]);
    let weights = [weight(one, &services[0])?, weight(two, &services[1])?];
    let ports = [port(one, &services[0])?, port(two, &services[1])?];
    let place = Place { what: format!("action {name}"), weights, alone: groups.len() == 2, most: MOST };
    Ok(Some(Forward { place, ports }))
}

/// The Services that an action forwards to, for messages; empty if it is invalid.
pub(super) fn services(text: &str) -> Vec<String> {
    let action: Value = serde_json::from_str(text).unwrap_or_default();
    let groups = groups(&action).ok().flatten().map(Vec::as_slice).unwrap_or_default();
    let name = |group: &Value| Some(member(group, "serviceName").ok()??.as_str()?.to_owned());
    groups.iter().filter_map(name).collect()
}

/// The action with these weights of the two Services; everything else is kept.
///
/// # Errors
/// When the action does not forward to both.
pub(super) fn edit(text: &str, services: &[String; 2], weights: Pair) -> Result<String, String> {
    let mut action: Value = serde_json::from_str(text).map_err(|e| format!("it is not valid JSON: {e}"))?;
    let missing = || format!("it does not forward to both {} and {}", services[0], services[1]);
    for (service, wanted) in services.iter().zip(weights) {
        let groups = groups(&action)?.ok_or_else(missing)?;
        let at = find(groups, service)?.ok_or_else(missing)?;
        if weight(&groups[at], service)? == wanted {
            continue;
        }
        let config = key(&action, "forwardConfig")?.ok_or_else(missing)?;
        let list = key(&action[&config], "targetGroups")?.ok_or_else(missing)?;
        let group = &mut action[&config][&list][at];
        let name = key(group, "weight")?.unwrap_or_else(|| "weight".to_owned());
        group[&name] = wanted.into();
    }
    Ok(action.to_string())
}

/// The target groups of a forward action; `None` for another type, and for a single target group by ARN.
fn groups(action: &Value) -> Result<Option<&Vec<Value>>, String> {
    if !action.is_object() {
        return Err("it is not a JSON object".to_owned());
    }
    if member(action, "type")?.and_then(Value::as_str) != Some("forward") {
        return Ok(None);
    }
    let Some(config) = member(action, "forwardConfig")?.filter(|config| !config.is_null()) else {
        return Ok(None);
    };
    match member(config, "targetGroups")? {
        Some(Value::Array(groups)) => Ok(Some(groups)),
        Some(Value::Null) | None => Ok(None),
        Some(_) => Err("targetGroups is not a list".to_owned()),
    }
}

/// The position of the target group of a Service.
fn find(groups: &[Value], service: &str) -> Result<Option<usize>, String> {
    let mut found = None;
    for (at, group) in groups.iter().enumerate() {
        if member(group, "serviceName")?.and_then(Value::as_str) == Some(service)
            && found.replace(at).is_some()
        {
            return Err(format!("{service} is in two of its target groups"));
        }
    }
    Ok(found)
}

fn weight(group: &Value, service: &str) -> Result<u32, String> {
    let weight =
        member(group, "weight")?.and_then(Value::as_u64).and_then(|weight| u32::try_from(weight).ok());
    weight
        .filter(|weight| *weight <= MOST)
        .ok_or_else(|| format!("the weight of {service} is not a number from 0 to {MOST}"))
}

/// The port, which is a number also if it is one in quotes.
fn port(group: &Value, service: &str) -> Result<IntOrString, String> {
    let missing = || format!("{service} has no servicePort");
    let port = member(group, "servicePort")?.ok_or_else(missing)?;
    if let Some(text) = port.as_str() {
        let number = text.parse().map(IntOrString::Int);
        return Ok(number.unwrap_or_else(|_| IntOrString::String(text.to_owned())));
    }
    let number = port.as_i64().and_then(|number| i32::try_from(number).ok());
    number.map(IntOrString::Int).ok_or_else(missing)
}

/// A member of an object, whatever the case of its name.
fn member<'v>(object: &'v Value, name: &str) -> Result<Option<&'v Value>, String> {
    Ok(key(object, name)?.and_then(|key| object.get(key)))
}

/// The name of a member as it is written.
fn key(object: &Value, name: &str) -> Result<Option<String>, String> {
    let mut found =
        object.as_object().into_iter().flat_map(Map::keys).filter(|key| key.eq_ignore_ascii_case(name));
    match (found.next(), found.next()) {
        (Some(_), Some(_)) => Err(format!("it has the member {name} twice")),
        (first, _) => Ok(first.cloned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pair() -> [String; 2] {
        ["web-blue".to_owned(), "web-green".to_owned()]
    }

    fn action() -> Value {
        json!({
            "type": "forward",
            "forwardConfig": {
                "targetGroups": [
                    { "serviceName": "web-blue", "servicePort": "80", "weight": 90 },
                    { "targetGroupARN": "arn:aws:elasticloadbalancing:eu-central-1:1:targetgroup/old/1", "weight": 10 },
                    { "serviceName": "web-green", "servicePort": "http", "weight": 0 },
                ],
                "targetGroupStickinessConfig": { "enabled": true, "durationSeconds": 200 },
            },
        })
    }

    #[test]
    fn an_edit_changes_the_two_weights_and_nothing_else() {
        let read = read("web", &action().to_string(), &pair()).unwrap().unwrap();
        assert_eq!((read.place.weights, read.place.alone), ([90, 0], false));
        assert_eq!(read.ports, [IntOrString::Int(80), IntOrString::String("http".into())]);
        let edited = edit(&action().to_string(), &pair(), [68, 22]).unwrap();
        let mut expected = action();
        expected["forwardConfig"]["targetGroups"][0]["weight"] = json!(68);
        expected["forwardConfig"]["targetGroups"][2]["weight"] = json!(22);
        assert_eq!(serde_json::from_str::<Value>(&edited).unwrap(), expected);
        let back = edit(&edited, &pair(), [90, 0]).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&back).unwrap(), action());
    }

    #[test]
    fn the_case_of_names_does_not_matter_and_is_kept() {
        let old = json!({ "Type": "forward", "ForwardConfig": { "TargetGroups": [
            { "ServiceName": "web-blue", "ServicePort": 80, "Weight": 1 },
            { "ServiceName": "web-green", "ServicePort": 80, "Weight": 0, "x": [1.5, null] },
        ] } });
        let read = read("web", &old.to_string(), &pair()).unwrap().unwrap();
        assert_eq!((read.place.weights, read.place.alone), ([1, 0], true));
        let edited: Value = serde_json::from_str(&edit(&old.to_string(), &pair(), [95, 5]).unwrap()).unwrap();
        let groups = &edited["ForwardConfig"]["TargetGroups"];
        assert_eq!((&groups[0]["Weight"], &groups[1]["Weight"]), (&json!(95), &json!(5)));
        assert_eq!((&groups[1]["x"], groups[0].get("weight")), (&json!([1.5, null]), None));
    }

    #[test]
    fn other_actions_are_not_these_two_services() {
        for other in [
            json!({ "type": "redirect", "redirectConfig": { "statusCode": "HTTP_301" } }),
            json!({ "type": "forward", "targetGroupARN": "arn" }),
            json!({ "type": "forward", "forwardConfig": { "targetGroups": [
                { "serviceName": "web-blue", "servicePort": 80, "weight": 1 },
            ] } }),
            json!({ "type": "forward", "forwardConfig": null }),
        ] {
            assert_eq!(read("web", &other.to_string(), &pair()), Ok(None), "{other}");
            assert!(edit(&other.to_string(), &pair(), [1, 1]).is_err());
        }
        assert_eq!(services(&action().to_string()), ["web-blue", "web-green"]);
        assert!(services("{").is_empty());
    }

    #[test]
    fn invalid_actions_are_refused_with_the_reason() {
        let with = |change: &dyn Fn(&mut Value)| {
            let mut action = action();
            change(&mut action["forwardConfig"]["targetGroups"]);
            action.to_string()
        };
        for (text, reason) in [
            ("{".to_owned(), "not valid JSON"),
            ("[]".to_owned(), "not a JSON object"),
            ("null".to_owned(), "not a JSON object"),
            (with(&|groups| groups[0]["weight"] = json!("90")), "weight of web-blue"),
            (with(&|groups| groups[0]["weight"] = json!(1000)), "weight of web-blue"),
            (with(&|groups| groups[0]["weight"] = json!(-1)), "weight of web-blue"),
            (with(&|groups| groups[0]["weight"] = json!(1.5)), "weight of web-blue"),
            (
                with(&|groups| drop(groups[2].as_object_mut().unwrap().remove("weight"))),
                "weight of web-green",
            ),
            (with(&|groups| drop(groups[2].as_object_mut().unwrap().remove("servicePort"))), "servicePort"),
            (with(&|groups| groups[1]["serviceName"] = json!("web-blue")), "in two of its target groups"),
            (with(&|groups| groups[0]["Weight"] = json!(1)), "the member weight twice"),
            (with(&|groups| *groups = json!({})), "not a list"),
        ] {
            let error = read("web", &text, &pair()).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
