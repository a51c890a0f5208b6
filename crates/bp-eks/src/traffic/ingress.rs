//! An Ingress' backend from one permanent Service to another: right for load balancers too, whose target groups stay.

use std::{collections::BTreeMap, sync::Arc};

use backon::BackoffBuilder;
use bp_artifact::{
    DeployEvent, DigestRef, Emitter, Operation, Outcome, Proof, ResolvedImage, Revision, TargetId, Verdict,
};
use k8s_openapi::api::{
    core::v1::{Pod, Service},
    networking::v1::{Ingress, IngressServiceBackend},
};
use kube::{
    Client, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{
    api::{MANAGER, Namespace},
    balancer,
    error::TrafficError,
    green::Switch,
    switch::{may_be_applied, pauses},
};
use crate::rollout::{
    Conflict, Error, Options, causes, is_ours, proof,
    retry::{Patience, retried},
    template,
};

/// An Ingress whose traffic goes to one of two permanent Services. Cheap to clone.
///
/// Each Service has a Deployment of its own; deploy to the idle one with [`EksTarget`](crate::EksTarget), try it, then
/// switch. To go back, switch to the other one.
///
/// ```no_run
/// # async fn run(client: kube::Client, image: bp_artifact::ResolvedImage) -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use bp_eks::{IngressSwitch, Options};
///
/// let options = Options::new(Duration::from_secs(60))?;
/// let shop = IngressSwitch::new(client, "prod", "shop", "shop", ("web-blue", "web-green"), options);
/// let switched = shop.switch("web-green", Some(&image)).await?;
/// let back = shop.switch("web-blue", None).await?;
/// let live = shop.live().await?; // Some("web-blue")
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct IngressSwitch(Arc<Inner>);

struct Inner {
    namespace: Namespace,
    id: TargetId,
    ingress: String,
    services: [String; 2],
    container: Option<String>,
    options: Options,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Inner { id, services, .. } = self;
        f.debug_struct("IngressSwitch").field("id", id).field("services", services).finish_non_exhaustive()
    }
}

impl IngressSwitch {
    /// The backends of `ingress` that lead to one of the two `services`.
    pub fn new(
        client: Client,
        cluster: impl Into<String>,
        namespace: impl Into<String>,
        ingress: impl Into<String>,
        services: (&str, &str),
        options: Options,
    ) -> Self {
        let namespace = Namespace { client, cluster: cluster.into(), name: namespace.into() };
        let ingress = ingress.into();
        let id = TargetId::new(format!("eks/{}/{}/ingress/{ingress}", namespace.cluster, namespace.name));
        let services = [services.0.to_owned(), services.1.to_owned()];
        IngressSwitch(Arc::new(Inner { namespace, id, ingress, services, container: None, options }))
    }

    /// The container whose digest is shown; the only one if not said.
    pub fn container(self, name: Option<String>) -> Self {
        let Inner { namespace, id, ingress, services, options, .. } = &*self.0;
        let (namespace, id, ingress) = (namespace.clone(), id.clone(), ingress.clone());
        let (services, options) = (services.clone(), options.clone());
        IngressSwitch(Arc::new(Inner { namespace, id, ingress, services, container: name, options }))
    }

    /// Leads every backend that goes to the other Service to the Service `to`, in one JSON patch that tests what it
    /// replaces. With `image`, the pods behind `to` must be seen to run it; without, what they are pinned to is shown.
    ///
    /// Running it again when it is done changes nothing.
    ///
    /// A load balancer follows when its controller has registered the new targets: keep the other Deployment up until
    /// they are healthy.
    ///
    /// # Errors
    /// When Ingress or Service are missing, no backend leads to either Service, `to` lacks the port or a ready pod, the
    /// pods run something else than `image`, or somebody else owns the rules ([`Options::take_over`]).
    ///
    /// # Permissions
    /// RBAC: `get`, `patch` on `ingresses.networking.k8s.io`; `get` on `services`; `list` on `pods`.
    ///
    /// # Cancel safety
    /// Cancelled before its patch it changes nothing; the patch is all or nothing.
    pub fn switch(&self, to: &str, image: Option<&ResolvedImage>) -> Switch {
        let (inner, to, image) = (Arc::clone(&self.0), to.to_owned(), image.cloned());
        Operation::spawn(|events| async move { inner.switch(&to, image, &events).await })
    }

    /// The Service that the backends lead to; `None` when some lead to one and some to the other.
    ///
    /// # Errors
    /// When the Ingress cannot be read, or leads to neither.
    ///
    /// # Permissions
    /// RBAC: `get` on `ingresses.networking.k8s.io`.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn live(&self) -> Result<Option<String>, TrafficError> {
        let ingress = self.0.namespace.ingress(&self.0.ingress).await?;
        let routes = self.0.routes(&ingress)?;
        let first = routes[0].service.clone();
        Ok(routes.iter().all(|route| route.service == first).then_some(first))
    }
}

/// A backend, by its place in the Ingress.
struct Route {
    /// The JSON pointer to the Service's name.
    pointer: String,
    service: String,
    backend: IngressServiceBackend,
}

/// What stands behind a Service.
struct Behind {
    pods: Vec<Pod>,
    container: String,
    /// The image as the pods' specification has it.
    asked: String,
}

impl Inner {
    fn object(&self) -> String {
        format!("ingress/{}", self.ingress)
    }

    async fn switch(
        &self,
        to: &str,
        image: Option<ResolvedImage>,
        events: &Emitter<DeployEvent>,
    ) -> Result<Outcome, TrafficError> {
        if !self.services.iter().any(|service| service == to) {
            let known = self.services.join(" or ");
            return Err(TrafficError::InvalidSlots(format!("{to} is not {known}")));
        }
        let ingress = self.namespace.ingress(&self.ingress).await?;
        let routes = self.routes(&ingress)?;
        let (there, away): (Vec<&Route>, Vec<&Route>) = routes.iter().partition(|route| route.service == to);
        let behind = self.behind(to, away.iter().chain(&there).map(|route| &route.backend)).await?;
        let before = away.first().map(|route| route.service.clone());
        let image = image.or_else(|| behind.asked.parse::<DigestRef>().ok().map(ResolvedImage::from));
        let proof = match &image {
            Some(image) => proof::against(behind.pods.iter(), &behind.container, image),
            None => proof::of(behind.pods.iter(), &behind.container),
        };
        let verdict = image.as_ref().map_or(Verdict::Unproven, |image| proof.judge(image));
        let revision = |service: &str, image: &str| Revision::new(service, image);
        let current = revision(before.as_deref().unwrap_or(to), "");
        let reference = image.as_ref().map(|image| image.reference.clone());
        events.emit(DeployEvent::Planned {
            target: self.id.clone(),
            image: reference.clone(),
            current: Some(current.clone()),
            changes: !away.is_empty(),
        });
        if !away.is_empty() {
            if verdict == Verdict::DigestMismatch {
                let object = format!("service/{to}");
                return Err(TrafficError::NotReady { object, why: verdict.to_string() });
            }
            self.check_owner(&ingress)?;
            if events.is_cancelled() {
                return Err(TrafficError::Interrupted { object: self.object() });
            }
            let patience =
                Patience::until(bp_artifact::time::deadline(self.options.grace.min(self.options.deadline)));
            let patched = retried(patience, events, &self.id, || self.patch(&away, to)).await;
            if let Err(error) = patched {
                if events.is_cancelled() {
                    return Err(TrafficError::Interrupted { object: self.object() });
                }
                let outcome = Outcome {
                    target: self.id.clone(),
                    verdict: Verdict::Unobserved,
                    image: reference,
                    changed: true,
                    revision: Some(revision(to, &behind.asked)),
                    previous: Some(current),
                    failure: None,
                    proof: Proof::default(),
                    detail: may_be_applied(&self.object(), error)?,
                };
                events.emit(DeployEvent::Finished { outcome: Box::new(outcome.clone()) });
                return Ok(outcome);
            }
            if balancer::is_alb(&ingress, &BTreeMap::new()) {
                let message = "the load balancer follows when its controller has registered the new targets: keep the \
                               other Deployment up until they are healthy";
                events.emit(DeployEvent::Notice { target: self.id.clone(), message: message.to_owned() });
            }
        }
        let outcome = Outcome {
            target: self.id.clone(),
            verdict,
            image: reference,
            changed: !away.is_empty(),
            revision: Some(revision(to, &behind.asked)),
            previous: Some(current),
            failure: None,
            proof,
            detail: format!("{to} has the traffic of {} backends", routes.len()),
        };
        events.emit(DeployEvent::Finished { outcome: Box::new(outcome.clone()) });
        Ok(outcome)
    }

    /// The backends that lead to one of our Services.
    fn routes(&self, ingress: &Ingress) -> Result<Vec<Route>, TrafficError> {
        let routes: Vec<Route> = pointers(ingress)
            .filter(|(_, backend)| self.services.contains(&backend.name))
            .map(|(pointer, backend)| Route {
                pointer,
                service: backend.name.clone(),
                backend: backend.clone(),
            })
            .collect();
        if routes.is_empty() {
            return Err(TrafficError::NoSuchBackend {
                ingress: self.ingress.clone(),
                wanted: self.services.join(" or "),
                found: pointers(ingress).map(|(_, backend)| backend.name.clone()).collect(),
            });
        }
        Ok(routes)
    }

    /// The ready pods behind a Service, which must have every port that the backends name.
    async fn behind<'b>(
        &self,
        service: &str,
        mut backends: impl Iterator<Item = &'b IngressServiceBackend>,
    ) -> Result<Behind, TrafficError> {
        let found = self.namespace.service(service).await?;
        let not_ready = |why: String| TrafficError::NotReady { object: format!("service/{service}"), why };
        if let Some(missing) = backends.find(|backend| !has_port(&found, backend)) {
            let port = missing.port.as_ref().map(|port| match (&port.name, port.number) {
                (Some(name), _) => name.clone(),
                (None, number) => number.unwrap_or_default().to_string(),
            });
            return Err(not_ready(format!("it has no port {}", port.unwrap_or_default())));
        }
        let selector = found.spec.and_then(|spec| spec.selector).unwrap_or_default();
        if selector.is_empty() {
            return Err(not_ready("it selects no pods".to_owned()));
        }
        let mut pods = self.namespace.pods_of(&selector).await?;
        pods.retain(|pod| causes::is_ready(pod) && pod.metadata.deletion_timestamp.is_none());
        let Some(pod) = pods.first().and_then(|pod| pod.spec.as_ref()) else {
            return Err(not_ready("it has no ready pod".to_owned()));
        };
        let only = || pod.containers.first().map(|container| container.name.clone());
        let container = self.container.clone().or_else(only).unwrap_or_default();
        let asked = template::pod_image(pod, &container).unwrap_or_default().to_owned();
        Ok(Behind { pods, container, asked })
    }

    /// Refuses rules that belong to somebody else, unless they may be taken over.
    fn check_owner(&self, ingress: &Ingress) -> Result<(), TrafficError> {
        let conflicts = owners(ingress);
        match conflicts.is_empty() || self.options.take_over {
            true => Ok(()),
            false => Err(Error::Conflict {
                object: Box::new(self.namespace.object("ingress", &self.ingress)),
                conflicts,
            }
            .into()),
        }
    }

    /// Replaces the names, each tested first. An Ingress that has changed in between is not touched.
    async fn patch(&self, routes: &[&Route], to: &str) -> Result<(), TrafficError> {
        let steps = routes.iter().flat_map(|route| {
            let (path, from) = (&route.pointer, &route.service);
            [
                json!({ "op": "test", "path": path, "value": from }),
                json!({ "op": "replace", "path": path, "value": to }),
            ]
        });
        let steps: Value = steps.collect();
        let steps = serde_json::from_value(steps).expect("steps of a JSON patch");
        let patch = Patch::Json::<()>(steps);
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let mut pauses = pauses().build();
        loop {
            match self.namespace.api::<Ingress>().patch(&self.ingress, &params, &patch).await {
                Ok(_) => return Ok(()),
                Err(kube::Error::Api(status)) if status.code == 409 => match pauses.next() {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => return Err(TrafficError::Contended { object: self.object() }),
                },
                // A test that fails, of which the server says no more: somebody led a backend elsewhere since we looked.
                Err(kube::Error::Api(status)) if status.code == 422 && is_bare(&status) => {
                    // Or we did, and the answer was lost.
                    let ingress = self.namespace.ingress(&self.ingress).await?;
                    let done = self.routes(&ingress)?.iter().all(|route| route.service == to);
                    return if done {
                        Ok(())
                    } else {
                        Err(TrafficError::Contended { object: self.object() })
                    };
                }
                Err(e) => {
                    let object = self.namespace.object("ingress", &self.ingress);
                    return Err(object.error("patch ingresses", e).into());
                }
            }
        }
    }
}

/// Whether the API names neither object nor field: what it says of a patch that cannot be applied, and never of an object
/// that does not validate.
fn is_bare(status: &kube::core::Status) -> bool {
    status.details.as_ref().is_none_or(|details| details.name.is_empty() && details.causes.is_empty())
}

/// Every backend that is a Service, with the JSON pointer to its name.
fn pointers(ingress: &Ingress) -> impl Iterator<Item = (String, &IngressServiceBackend)> {
    let spec = ingress.spec.as_ref();
    let default = spec.and_then(|spec| spec.default_backend.as_ref()?.service.as_ref());
    let default = default.map(|service| ("/spec/defaultBackend/service/name".to_owned(), service));
    let rules = spec.into_iter().flat_map(|spec| spec.rules.iter().flatten()).enumerate();
    let paths = rules.flat_map(|(rule, found)| {
        let paths = found.http.iter().flat_map(|http| &http.paths).enumerate();
        paths.filter_map(move |(path, found)| {
            let pointer = format!("/spec/rules/{rule}/http/paths/{path}/backend/service/name");
            Some((pointer, found.backend.service.as_ref()?))
        })
    });
    default.into_iter().chain(paths)
}

/// Whether the Service has the port that a backend names.
fn has_port(service: &Service, backend: &IngressServiceBackend) -> bool {
    let Some(wanted) = &backend.port else { return true };
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    ports.into_iter().any(|port| match (&wanted.name, wanted.number) {
        (Some(name), _) => port.name.as_ref() == Some(name),
        (None, number) => Some(port.port) == number,
    })
}

/// Who else owns the rules or the default backend.
fn owners(ingress: &Ingress) -> Vec<Conflict> {
    let entries = ingress.managed_fields().iter();
    let others = entries.filter(|entry| !is_ours(entry.manager.as_deref().unwrap_or_default()));
    others
        .flat_map(|entry| {
            let spec = entry.fields_v1.as_ref().map(|fields| &fields.0["f:spec"]);
            let owned =
                |field: &'static str| spec.is_some_and(|spec| spec.get(format!("f:{field}")).is_some());
            let fields: Vec<&'static str> =
                ["rules", "defaultBackend"].into_iter().filter(|field| owned(field)).collect();
            let manager = entry.manager.clone().unwrap_or_default();
            fields
                .into_iter()
                .map(move |field| Conflict { manager: manager.clone(), field: format!(".spec.{field}") })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ingress() -> Ingress {
        serde_json::from_value(json!({
            "metadata": { "name": "shop", "managedFields": [
                { "manager": "helm", "operation": "Apply", "fieldsV1": { "f:spec": { "f:rules": {} } } },
                { "manager": "bp-eks:traffic", "operation": "Update", "fieldsV1": { "f:spec": { "f:rules": {} } } },
                { "manager": "aws", "operation": "Update", "fieldsV1": { "f:status": {} } },
            ] },
            "spec": {
                "defaultBackend": { "service": { "name": "web-blue", "port": { "number": 80 } } },
                "rules": [
                    { "host": "a" },
                    { "http": { "paths": [
                        { "pathType": "Prefix", "backend": { "resource": { "kind": "Bucket", "name": "b" } } },
                        { "pathType": "Prefix", "backend": { "service": { "name": "api", "port": { "name": "http" } } } },
                    ] } },
                ],
            },
        }))
        .unwrap()
    }

    #[test]
    fn backends_are_found_by_their_place() {
        let ingress = ingress();
        let found: Vec<(String, &str)> = pointers(&ingress).map(|(p, b)| (p, b.name.as_str())).collect();
        assert_eq!(
            found,
            [
                ("/spec/defaultBackend/service/name".to_owned(), "web-blue"),
                ("/spec/rules/1/http/paths/1/backend/service/name".to_owned(), "api"),
            ]
        );
        let whole = serde_json::to_value(&ingress).unwrap();
        assert!(found.iter().all(|(pointer, name)| whole.pointer(pointer).unwrap() == name));
        assert_eq!(pointers(&Ingress::default()).count(), 0);
    }

    #[test]
    fn ports_go_by_name_or_number() {
        let service: Service = serde_json::from_value(json!({
            "metadata": {}, "spec": { "ports": [{ "name": "http", "port": 80 }] },
        }))
        .unwrap();
        for (port, expected) in [
            (json!({ "number": 80 }), true),
            (json!({ "number": 81 }), false),
            (json!({ "name": "http" }), true),
            (json!({ "name": "https" }), false),
            (json!(null), true),
        ] {
            let backend = serde_json::from_value(json!({ "name": "web", "port": port })).unwrap();
            assert_eq!(has_port(&service, &backend), expected, "{port}");
        }
    }

    #[test]
    fn owners_of_the_rules_are_told_and_we_are_none() {
        let owners = owners(&ingress());
        assert_eq!(owners, [Conflict { manager: "helm".into(), field: ".spec.rules".into() }]);
    }
}
