//! Weights in the rules of an HTTPRoute, and what its controllers report about it. Pure functions.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::{
    brief,
    share::{Pair, Place},
};

/// The group of the Gateway API.
pub(super) const GROUP: &str = "gateway.networking.k8s.io";
/// The greatest weight that the Gateway API allows.
const MOST: u32 = 1_000_000;

/// The two Services in one rule.
#[derive(Debug, PartialEq)]
pub(super) struct Rule {
    pub(super) place: Place,
    /// The ports of the two Services, if given.
    pub(super) ports: [Option<IntOrString>; 2],
    /// The position of the rule.
    at: usize,
    /// The positions of the two Services in it.
    backends: [usize; 2],
}

/// The rules that forward to both Services, and descriptions of those that forward to one of them.
///
/// # Errors
/// When a rule is invalid.
pub(super) fn read(
    route: &DynamicObject,
    services: &[String; 2],
) -> Result<(Vec<Rule>, Vec<String>), String> {
    let namespace = route.metadata.namespace.as_deref().unwrap_or_default();
    let (mut both, mut one) = (Vec::new(), Vec::new());
    for (at, rule) in list(&route.data["spec"]["rules"]).iter().enumerate() {
        let what = match rule["name"].as_str() {
            Some(name) => format!("rule {}", brief(name)),
            None => format!("rule {}", at + 1),
        };
        let backends = list(&rule["backendRefs"]);
        let find = |service: &String| -> Result<Option<usize>, String> {
            let mut all =
                backends.iter().enumerate().filter(|(_, backend)| is_service(backend, service, namespace));
            match (all.next(), all.next()) {
                (Some(_), Some(_)) => Err(format!("{service} is twice in {what}")),
                (first, _) => Ok(first.map(|(at, _)| at)),
            }
        };
        match [find(&services[0])?, find(&services[1])?] {
            [Some(first), Some(second)] => {
                let weight = |at: usize, service: &String| {
                    weight(&backends[at]).ok_or_else(|| {
                        format!("the weight of {service} in {what} is not a number from 0 to {MOST}")
                    })
                };
                let weights = [weight(first, &services[0])?, weight(second, &services[1])?];
                let port = |at: usize| {
                    let number = backends[at]["port"].as_i64().and_then(|port| i32::try_from(port).ok());
                    number.map(IntOrString::Int)
                };
                let ports = [port(first), port(second)];
                let place = Place { what, weights, alone: backends.len() == 2, most: MOST };
                both.push(Rule { place, ports, at, backends: [first, second] });
            }
            [Some(_), None] => one.push(format!("{what} forwards to {} alone", services[0])),
            [None, Some(_)] => one.push(format!("{what} forwards to {} alone", services[1])),
            [None, None] => {}
        }
    }
    Ok((both, one))
}

/// The Services that the rules forward to, for messages.
pub(super) fn services(route: &DynamicObject) -> Vec<String> {
    let rules = list(&route.data["spec"]["rules"]);
    let backends = rules.iter().flat_map(|rule| list(&rule["backendRefs"]));
    let mut names: Vec<String> =
        backends.filter_map(|backend| Some(backend["name"].as_str()?.to_owned())).collect();
    names.dedup();
    names
}

/// The rules of the route with these weights, in the order of [`read`]; everything else is kept.
pub(super) fn edit(route: &DynamicObject, rules: &[Rule], weights: &[Pair]) -> Value {
    let mut all = route.data["spec"]["rules"].clone();
    for (rule, pair) in rules.iter().zip(weights) {
        for (backend, weight) in rule.backends.iter().zip(pair) {
            all[rule.at]["backendRefs"][backend]["weight"] = json!(weight);
        }
    }
    all
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// A text, with the default for one that is absent.
fn text<'v>(value: &'v Value, default: &'v str) -> &'v str {
    value.as_str().unwrap_or(default)
}

fn is_service(backend: &Value, service: &str, namespace: &str) -> bool {
    text(&backend["group"], "").is_empty()
        && text(&backend["kind"], "Service") == "Service"
        && text(&backend["namespace"], namespace) == namespace
        && backend["name"] == service
}

/// The weight of a backend; the default is 1.
fn weight(backend: &Value) -> Option<u32> {
    let weight = &backend["weight"];
    if weight.is_null() {
        return Some(1);
    }
    weight.as_u64().and_then(|weight| u32::try_from(weight).ok()).filter(|weight| *weight <= MOST)
}

/// What the controllers report about the latest change of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Acceptance {
    /// It is in effect.
    Accepted,
    /// Nothing is reported yet.
    Unknown(String),
    /// It is not in effect, for this reason.
    Refused(String),
}

/// What the controllers of all parents report about the latest generation of the route.
pub(super) fn acceptance(route: &DynamicObject) -> Acceptance {
    let namespace = route.metadata.namespace.as_deref().unwrap_or_default();
    let generation = route.metadata.generation.unwrap_or_default();
    let parents = list(&route.data["spec"]["parentRefs"]);
    if parents.is_empty() {
        return Acceptance::Refused("it has no parentRefs, so no Gateway serves it".to_owned());
    }
    let reported = list(&route.data["status"]["parents"]);
    let all = parents.iter().map(|parent| {
        let id = parent_id(parent, namespace);
        let name = brief(&format!("{}/{}", id[1].to_lowercase(), id[3]));
        let own = reported.iter().filter(|entry| parent_id(&entry["parentRef"], namespace) == id);
        let each: Vec<Acceptance> = own.map(|entry| of_parent(entry, &name, generation)).collect();
        worst(each).unwrap_or_else(|| Acceptance::Unknown(format!("{name} has not reported a status")))
    });
    worst(all).unwrap_or(Acceptance::Accepted)
}

/// A refusal, else what is unknown.
fn worst(all: impl IntoIterator<Item = Acceptance>) -> Option<Acceptance> {
    let rank = |acceptance: &Acceptance| match acceptance {
        Acceptance::Refused(_) => 2,
        Acceptance::Unknown(_) => 1,
        Acceptance::Accepted => 0,
    };
    all.into_iter().max_by_key(rank)
}

/// The identity of a parent, with the defaults of the API.
fn parent_id(parent: &Value, namespace: &str) -> [String; 6] {
    [
        text(&parent["group"], GROUP).to_owned(),
        text(&parent["kind"], "Gateway").to_owned(),
        text(&parent["namespace"], namespace).to_owned(),
        text(&parent["name"], "").to_owned(),
        text(&parent["sectionName"], "").to_owned(),
        parent["port"].as_i64().unwrap_or_default().to_string(),
    ]
}

fn of_parent(entry: &Value, parent: &str, generation: i64) -> Acceptance {
    let conditions = list(&entry["conditions"]);
    let current = |kind: &str| {
        let found = conditions.iter().find(|condition| condition["type"] == kind);
        found.filter(|condition| condition["observedGeneration"].as_i64().unwrap_or_default() >= generation)
    };
    let message = |kind: &str, condition: &Value| {
        let (status, reason) = (text(&condition["status"], "Unknown"), text(&condition["reason"], ""));
        let message = brief(&format!("{reason}: {}", text(&condition["message"], "")));
        format!("{parent} reports {kind} {}: {message}", brief(status))
    };
    // Set only if some rules are not in effect.
    if let Some(condition) = current("PartiallyInvalid").filter(|condition| condition["status"] == "True") {
        return Acceptance::Refused(message("PartiallyInvalid", condition));
    }
    let all = ["Accepted", "ResolvedRefs"].map(|kind| match current(kind) {
        None => Acceptance::Unknown(format!("{parent} has not reported {kind} of generation {generation}")),
        Some(condition) if condition["status"] == "True" => Acceptance::Accepted,
        Some(condition) if condition["status"] == "False" => Acceptance::Refused(message(kind, condition)),
        Some(condition) => Acceptance::Unknown(message(kind, condition)),
    });
    worst(all).unwrap_or(Acceptance::Accepted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(rules: Value, status: Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": { "name": "shop", "namespace": "prod", "generation": 3 },
            "spec": { "parentRefs": [{ "name": "public" }], "rules": rules },
            "status": status,
        }))
        .unwrap()
    }

    fn pair() -> [String; 2] {
        ["web-blue".to_owned(), "web-green".to_owned()]
    }

    fn backend(name: &str, weight: Value) -> Value {
        json!({ "name": name, "port": 80, "weight": weight, "filters": [{ "type": "RequestMirror" }] })
    }

    #[test]
    fn an_edit_changes_the_two_weights_and_nothing_else() {
        let rules = json!([
            { "matches": [{ "path": { "value": "/api" } }], "backendRefs": [backend("api", json!(null))] },
            { "name": "web", "backendRefs": [
                backend("api", json!(7)), backend("web-green", json!(null)), backend("web-blue", json!(9)),
            ] },
            { "backendRefs": [backend("web-blue", json!(1)), backend("web-green", json!(0))], "timeouts": { "request": "5s" } },
            { "backendRefs": [backend("web-blue", json!(1))] },
        ]);
        let route = route(rules.clone(), json!({}));
        let (found, alone) = read(&route, &pair()).unwrap();
        let places: Vec<(&str, Pair, bool)> = found
            .iter()
            .map(|rule| (rule.place.what.as_str(), rule.place.weights, rule.place.alone))
            .collect();
        assert_eq!(places, [("rule web", [9, 1], false), ("rule 3", [1, 0], true)]);
        assert_eq!(alone, ["rule 4 forwards to web-blue alone"]);
        let edited = edit(&route, &found, &[[8, 2], [95, 5]]);
        let mut expected = rules;
        for (rule, at, weight) in [(1, 2, 8), (1, 1, 2), (2, 0, 95), (2, 1, 5)] {
            expected[rule]["backendRefs"][at]["weight"] = json!(weight);
        }
        assert_eq!(edited, expected);
    }

    #[test]
    fn only_services_of_the_namespace_count() {
        let other = |member: &str, value: &str| {
            let mut other = backend("web-green", json!(1));
            other[member] = json!(value);
            let rules = json!([{ "backendRefs": [backend("web-blue", json!(1)), other] }]);
            read(&route(rules, json!({})), &pair()).unwrap().0.len()
        };
        assert_eq!((other("group", ""), other("kind", "Service"), other("namespace", "prod")), (1, 1, 1));
        assert_eq!(
            (other("group", "x.io"), other("kind", "ServiceImport"), other("namespace", "dev")),
            (0, 0, 0)
        );
        for (backends, reason) in [
            (json!([backend("web-blue", json!(1)), backend("web-blue", json!(1))]), "twice in rule 1"),
            (json!([backend("web-blue", json!("1")), backend("web-green", json!(1))]), "weight of web-blue"),
            (
                json!([backend("web-blue", json!(1)), backend("web-green", json!(1_000_001))]),
                "weight of web-green",
            ),
        ] {
            let error = read(&route(json!([{ "backendRefs": backends }]), json!({})), &pair()).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
        assert_eq!(read(&route(json!("x"), json!({})), &pair()).unwrap().0.len(), 0);
    }

    fn parent(name: &str, accepted: (&str, i64), resolved: (&str, i64)) -> Value {
        let condition = |kind: &str, (status, generation): (&str, i64)| json!({ "type": kind, "status": status, "observedGeneration": generation, "reason": "R", "message": "m" });
        json!({
            "parentRef": { "group": GROUP, "kind": "Gateway", "name": name }, "controllerName": "example.com/gateway",
            "conditions": [condition("Accepted", accepted), condition("ResolvedRefs", resolved)],
        })
    }

    #[test]
    fn only_a_status_of_the_latest_generation_of_every_parent_counts() {
        let current = ("True", 3);
        for (parents, expected) in [
            (json!([parent("public", current, current)]), "accepted"),
            (json!([parent("public", ("True", 4), current)]), "accepted"),
            (json!([]), "unknown: gateway/public has not reported a status"),
            (json!([parent("other", current, current)]), "unknown: gateway/public has not reported a status"),
            (
                json!([parent("public", ("True", 2), current)]),
                "unknown: gateway/public has not reported Accepted",
            ),
            (
                json!([parent("public", current, ("False", 2))]),
                "unknown: gateway/public has not reported Resolved",
            ),
            (
                json!([parent("public", current, ("Unknown", 3))]),
                "unknown: gateway/public reports ResolvedRefs",
            ),
            (
                json!([parent("public", current, ("False", 3))]),
                "refused: gateway/public reports ResolvedRefs False",
            ),
            // Two controllers serve the same parent.
            (
                json!([parent("public", current, current), parent("public", ("False", 3), current)]),
                "refused: gateway/public reports Accepted False: R: m",
            ),
        ] {
            let found = match acceptance(&route(json!([]), json!({ "parents": parents }))) {
                Acceptance::Accepted => "accepted".to_owned(),
                Acceptance::Unknown(why) => format!("unknown: {why}"),
                Acceptance::Refused(why) => format!("refused: {why}"),
            };
            assert!(found.starts_with(expected), "{parents}: {found}");
        }
        let mut two = route(json!([]), json!({ "parents": [parent("public", current, current)] }));
        two.data["spec"]["parentRefs"] = json!([{ "name": "public" }, { "name": "internal" }]);
        assert!(matches!(acceptance(&two), Acceptance::Unknown(why) if why.contains("gateway/internal")));
        two.data["spec"]["parentRefs"] = json!([{ "name": "public", "sectionName": "https" }]);
        assert!(matches!(acceptance(&two), Acceptance::Unknown(_)), "another listener");
        two.data["spec"]["parentRefs"] = json!([]);
        assert!(matches!(acceptance(&two), Acceptance::Refused(_)));
        let mut partly = parent("public", current, current);
        let invalid = json!({ "type": "PartiallyInvalid", "status": "True", "observedGeneration": 3 });
        partly["conditions"].as_array_mut().unwrap().push(invalid);
        let partly = route(json!([]), json!({ "parents": [partly] }));
        assert!(matches!(acceptance(&partly), Acceptance::Refused(_)));
    }
}
