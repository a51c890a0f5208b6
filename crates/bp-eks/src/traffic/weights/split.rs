//! The object with the weights as it was read: the places of the two Services, and the record of a shift.

use bp_artifact::config::TrafficObject;
use k8s_openapi::{api::networking::v1::Ingress, apimachinery::pkg::util::intstr::IntOrString};
use kube::{
    Api, ResourceExt,
    core::{ApiResource, DynamicObject, GroupVersionKind},
};

use super::{
    WeightedPair,
    action::{self, Forward},
    brief,
    ramp::{self, Ramp, RampState},
    route::{self, Rule},
    share::{Pair, Place},
};
use crate::{
    error::Error,
    object::ObjectRef,
    traffic::{balancer, error::TrafficError},
};

/// The object with the weights, and the places in it.
#[derive(Debug)]
pub(super) struct Split {
    pub(super) object: DynamicObject,
    pub(super) content: Content,
    pub(super) ramp: Option<Ramp>,
    /// What is not shifted, for notices.
    pub(super) notes: Vec<String>,
}

/// Actions by the names of their annotations.
type Actions = Vec<(String, Forward)>;

/// The places by the kind of the object.
#[derive(Debug)]
pub(super) enum Content {
    /// The actions by the names of their annotations.
    Actions(Actions),
    Rules(Vec<Rule>),
}

impl Split {
    pub(super) fn places(&self) -> Vec<Place> {
        match &self.content {
            Content::Actions(actions) => actions.iter().map(|(_, forward)| forward.place.clone()).collect(),
            Content::Rules(rules) => rules.iter().map(|rule| rule.place.clone()).collect(),
        }
    }

    pub(super) fn weights(&self) -> Vec<Pair> {
        self.places().iter().map(|place| place.weights).collect()
    }

    /// The ports by which the places refer to one of the two Services.
    pub(super) fn ports(&self, service: usize) -> Vec<IntOrString> {
        match &self.content {
            Content::Actions(actions) => {
                actions.iter().map(|(_, forward)| forward.ports[service].clone()).collect()
            }
            Content::Rules(rules) => rules.iter().filter_map(|rule| rule.ports[service].clone()).collect(),
        }
    }

    /// The record of a shift that has not ended.
    pub(super) fn shifting(&self) -> Option<&Ramp> {
        self.ramp.as_ref().filter(|ramp| ramp.state == RampState::Shifting)
    }
}

impl WeightedPair {
    /// The object, for messages.
    pub(super) fn object(&self) -> String {
        self.object.to_string()
    }

    pub(super) fn reference(&self) -> ObjectRef {
        self.namespace.object(self.object.kind(), self.object.name())
    }

    pub(super) fn resource(&self) -> ApiResource {
        let (group, kind) = match self.object {
            TrafficObject::Ingress(_) => ("networking.k8s.io", "Ingress"),
            TrafficObject::HttpRoute(_) => (route::GROUP, "HTTPRoute"),
        };
        ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind))
    }

    pub(super) fn api(&self) -> Api<DynamicObject> {
        self.namespace.dynamic(&self.resource())
    }

    /// An operation, for error messages.
    pub(super) fn operation(&self, verb: Verb) -> &'static str {
        match (verb, &self.object) {
            (Verb::Get, TrafficObject::Ingress(_)) => "get ingresses",
            (Verb::Get, TrafficObject::HttpRoute(_)) => "get httproutes",
            (Verb::Patch, TrafficObject::Ingress(_)) => "patch ingresses",
            (Verb::Patch, TrafficObject::HttpRoute(_)) => "patch httproutes",
            (Verb::Watch, TrafficObject::Ingress(_)) => "watch ingresses",
            (Verb::Watch, TrafficObject::HttpRoute(_)) => "watch httproutes",
        }
    }

    /// Reads the object.
    pub(super) async fn read(&self) -> Result<DynamicObject, TrafficError> {
        let object = self.reference();
        match self.api().get(self.object.name()).await {
            Ok(found) => Ok(found),
            Err(kube::Error::Api(status)) if status.code == 404 => {
                let is_served = status.details.as_ref().is_some_and(|details| !details.name.is_empty());
                if is_served {
                    return Err(object.missing(&self.namespace.client).await.into());
                }
                let why = format!("the cluster does not serve {}: install it", self.resource().api_version);
                Err(TrafficError::NotReady { object: self.object(), why })
            }
            Err(e) => Err(object.error(self.operation(Verb::Get), e).into()),
        }
    }

    pub(super) fn invalid(&self, why: impl Into<String>) -> TrafficError {
        TrafficError::InvalidWeights { object: self.object(), why: why.into() }
    }

    /// Finds the two Services in the object.
    pub(super) fn split(&self, object: DynamicObject) -> Result<Split, TrafficError> {
        let (content, notes, found) = match &self.object {
            TrafficObject::Ingress(_) => {
                let (actions, found) = self.actions(&object)?;
                (Content::Actions(actions), Vec::new(), found)
            }
            TrafficObject::HttpRoute(_) => {
                let (rules, notes) = route::read(&object, &self.services).map_err(|why| self.invalid(why))?;
                (Content::Rules(rules), notes, route::services(&object))
            }
        };
        let is_empty = match &content {
            Content::Actions(actions) => actions.is_empty(),
            Content::Rules(rules) => rules.is_empty(),
        };
        if is_empty {
            let what = match &content {
                Content::Actions(_) => "action of its backends",
                Content::Rules(_) => "rule",
            };
            let why = format!(
                "no {what} forwards to both {} and {}, but to {}; add both, one with the weight 0",
                self.services[0],
                self.services[1],
                if found.is_empty() { "no Service".to_owned() } else { brief(&found.join(", ")) }
            );
            return Err(self.invalid(why));
        }
        let name = ramp::annotation(&self.services);
        let record = object.annotations().get(&name).map(|text| Ramp::parse(text, &self.services));
        let ramp = record.transpose().map_err(|why| {
            self.invalid(format!("the annotation {name} is invalid: {}; remove it", brief(&why)))
        })?;
        Ok(Split { object, content, ramp, notes })
    }

    /// The actions of the backends that forward to both Services, and the Services of all of them.
    fn actions(&self, object: &DynamicObject) -> Result<(Actions, Vec<String>), TrafficError> {
        let ingress = self.ingress(object)?;
        let backends = balancer::backends(&ingress).filter_map(|backend| backend.service.as_ref());
        let by_annotation = |port: Option<&str>| port == Some(action::USE_ANNOTATION);
        let mut used: Vec<&str> = backends
            .filter(|service| by_annotation(service.port.as_ref().and_then(|port| port.name.as_deref())))
            .map(|service| service.name.as_str())
            .collect();
        used.sort_unstable();
        used.dedup();
        if let Some(wanted) = &self.action {
            if !used.contains(&wanted.as_str()) {
                let why = format!(
                    "no backend uses the action {wanted}: one must have the service name {wanted} and the port name {}",
                    action::USE_ANNOTATION
                );
                return Err(self.invalid(why));
            }
            used.retain(|name| name == wanted);
        }
        let (mut actions, mut found, mut invalid) = (Vec::new(), Vec::new(), None);
        for name in used {
            let key = format!("{}{name}", action::ANNOTATION);
            // The controller reports a missing annotation.
            let Some(text) = object.annotations().get(&key) else { continue };
            found.extend(action::services(text));
            match action::read(name, text, &self.services) {
                Ok(Some(forward)) => actions.push((key, forward)),
                Ok(None) => {}
                Err(why) => {
                    invalid.get_or_insert_with(|| self.invalid(format!("the action {name}: {why}")));
                }
            }
        }
        // The controller reports an invalid action; it matters only if it may be the one with the weights.
        if let Some(error) = invalid.filter(|_| actions.is_empty()) {
            return Err(error);
        }
        Ok((actions, found))
    }

    /// The typed form of an Ingress.
    pub(super) fn ingress(&self, object: &DynamicObject) -> Result<Ingress, TrafficError> {
        let typed = serde_json::to_value(object).and_then(serde_json::from_value);
        typed.map_err(|e| {
            let cluster = self.namespace.cluster.clone();
            let operation = self.operation(Verb::Get);
            Error::UnexpectedResponse { operation, cluster, source: e.into() }.into()
        })
    }
}

/// A verb of the API.
#[derive(Debug, Clone, Copy)]
pub(super) enum Verb {
    Get,
    Patch,
    Watch,
}
