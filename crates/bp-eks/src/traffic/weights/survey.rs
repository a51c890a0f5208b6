//! Read the object, the Services and their pods before a change.

use bp_artifact::{DigestRef, ResolvedImage, config::TrafficObject, deploy::Reporter};
use k8s_openapi::{api::core::v1::Event, apimachinery::pkg::util::intstr::IntOrString};
use kube::{ResourceExt, api::ListParams, core::DynamicObject};

use super::{
    WeightedPair, brief,
    ramp::Ramp,
    reconciled::{self, Baseline},
    split::Split,
};
use crate::{
    api::retry::{RetryLimit, with_retries},
    traffic::{
        balancer,
        error::TrafficError,
        labels::Labels,
        ready::{self, ReadyPods},
    },
};

/// The Service that is to receive the traffic.
pub(super) struct Destination {
    /// Its position in the pair.
    pub(super) to: usize,
    pub(super) selector: Labels,
    pub(super) ready: ReadyPods,
}

impl WeightedPair {
    /// Reads the object, and checks that a controller reads its weights.
    pub(super) async fn survey(&self, reporter: &Reporter) -> Result<Split, TrafficError> {
        let object = self.read().await?;
        if let TrafficObject::Ingress(_) = &self.object {
            let ingress = self.ingress(&object)?;
            balancer::check_alb(&self.namespace, &ingress).await?;
            let status = ingress.status.and_then(|status| status.load_balancer?.ingress);
            if status.is_none_or(|addresses| addresses.is_empty()) {
                let why = "its status has no load balancer yet".to_owned();
                return Err(TrafficError::NotReady { object: self.object(), why });
            }
        }
        let split = self.split(object)?;
        split.notes.iter().for_each(|note| reporter.notice(format!("not shifted: {note}")));
        if let Some(owner) = deployer(&split.object).filter(|_| self.options.take_over) {
            reporter.notice(format!(
                "{} is deployed by {owner}: exclude the weights there, or its next run restores them",
                self.object
            ));
        }
        Ok(split)
    }

    /// The Service `to`; without one, the Service whose pods run `image`.
    pub(super) async fn destination(
        &self,
        split: &Split,
        to: Option<&str>,
        image: Option<&ResolvedImage>,
    ) -> Result<Destination, TrafficError> {
        if let Some(to) = to {
            return self.service(split, self.position(to)?).await;
        }
        let Some(image) = image else {
            return Err(TrafficError::InvalidSlots("neither a Service nor an image is given".to_owned()));
        };
        let mut found: Vec<Destination> = Vec::new();
        for position in [0, 1] {
            match self.service(split, position).await {
                Ok(service) => {
                    let asked = service.ready.asked.parse::<DigestRef>();
                    if asked.is_ok_and(|asked| asked.digest() == image.digest()) {
                        found.push(service);
                    }
                }
                Err(TrafficError::NotReady { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        // If both run it, the interrupted shift continues; otherwise there is nothing to shift.
        let preferred = split.shifting().map_or_else(|| most(split), Ramp::to);
        found.sort_by_key(|service| service.to != preferred);
        found.into_iter().next().ok_or_else(|| TrafficError::NotReady {
            object: format!("service/{} or service/{}", self.services[0], self.services[1]),
            why: format!("no ready pod of either runs the image {}; deploy it first", image.reference),
        })
    }

    async fn service(&self, split: &Split, position: usize) -> Result<Destination, TrafficError> {
        let name = &self.services[position];
        let service = self.namespace.service(name).await?;
        if let Some(missing) = split.ports(position).iter().find(|port| !ready::has_port(&service, port)) {
            let port = match missing {
                IntOrString::Int(number) => number.to_string(),
                IntOrString::String(name) => name.clone(),
            };
            let (object, why) = (format!("service/{name}"), format!("it has no port {port}"));
            return Err(TrafficError::NotReady { object, why });
        }
        let ready = ReadyPods::of(&self.namespace, &service, self.container.as_deref()).await?;
        Ok(Destination { to: position, selector: ready::selector(&service), ready })
    }
}

impl WeightedPair {
    /// The selector of the events of an Ingress; `None` for an HTTPRoute, whose status reports its changes.
    pub(super) fn events_of(&self) -> Option<String> {
        match &self.object {
            TrafficObject::Ingress(name) => {
                Some(format!("involvedObject.kind=Ingress,involvedObject.name={name}"))
            }
            TrafficObject::HttpRoute(_) => None,
        }
    }

    /// The events of an Ingress now.
    pub(super) async fn events(&self) -> Result<Option<Baseline>, TrafficError> {
        let Some(selector) = self.events_of() else { return Ok(None) };
        let params = ListParams::default().fields(&selector);
        let events = self.namespace.api::<Event>().list(&params).await;
        let events = events.map_err(|e| self.namespace.all("event").error("list events", e))?;
        Ok(Some(reconciled::baseline(&events.items)))
    }

    /// The events of an Ingress before a change, with retries.
    pub(super) async fn baseline(&self, reporter: &Reporter) -> Result<Option<Baseline>, TrafficError> {
        let time = self.options.grace.min(self.options.deadline);
        let limit = RetryLimit::until(bp_artifact::time::deadline(time));
        with_retries(limit, reporter, || self.events()).await
    }
}

/// The position of the Service with the most traffic.
pub(super) fn most(split: &Split) -> usize {
    let weights = split.weights();
    let sum = |at: usize| weights.iter().map(|pair| u64::from(pair[at])).sum::<u64>();
    usize::from(sum(1) > sum(0))
}

/// The tool that deploys an object, by its annotations and labels.
fn deployer(object: &DynamicObject) -> Option<String> {
    let (annotations, labels) = (object.annotations(), object.labels());
    if let Some(release) = annotations.get("meta.helm.sh/release-name") {
        return Some(format!("the Helm release {}", brief(release)));
    }
    let id = annotations.get("argocd.argoproj.io/tracking-id");
    let id = id.or_else(|| labels.get("argocd.argoproj.io/instance"));
    id.map(|id| format!("Argo CD ({})", brief(id.split(':').next().unwrap_or_default())))
}
