//! Switch an Ingress's backends in one JSON patch that tests each value before it replaces it.

use backon::BackoffBuilder;
use bp_artifact::{
    DigestRef, Outcome, ResolvedImage, Verdict,
    deploy::{
        Reporter, Revision,
        run::{Ended, Intent, Run},
    },
};
use k8s_openapi::api::networking::v1::{Ingress, IngressServiceBackend};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::{
    BackendSwitch,
    routes::{Route, has_no_details, has_port, owners, pointers},
};
use crate::{
    api::retry::{RetryLimit, with_retries},
    error::Error,
    rollout::proof,
    traffic::{
        api::{MANAGER, may_be_applied, pauses},
        balancer,
        error::TrafficError,
        ready::ReadyPods,
    },
};

impl BackendSwitch {
    fn object(&self) -> String {
        format!("ingress/{}", self.ingress)
    }

    pub(super) async fn switch(
        &self,
        to: &str,
        image: Option<ResolvedImage>,
        reporter: &Reporter,
    ) -> Result<Outcome, TrafficError> {
        if !self.services.iter().any(|service| service == to) {
            let known = self.services.join(" or ");
            return Err(TrafficError::InvalidSlots(format!("{to} is not {known}")));
        }
        let ingress = self.namespace.ingress(&self.ingress).await?;
        balancer::check_no_alb(&self.namespace, &ingress).await?;
        let routes = self.routes(&ingress)?;
        let (there, away): (Vec<&Route>, Vec<&Route>) = routes.iter().partition(|route| route.service == to);
        let ready_pods = self.ready_pods(to, away.iter().chain(&there).map(|route| &route.backend)).await?;
        let before = away.first().map(|route| route.service.clone());
        let image = image.or_else(|| ready_pods.asked.parse::<DigestRef>().ok().map(ResolvedImage::from));
        let proof = match &image {
            Some(image) => proof::against(ready_pods.pods.iter(), &ready_pods.container, image),
            None => proof::of(ready_pods.pods.iter(), &ready_pods.container),
        };
        let mismatch = image.as_ref().is_some_and(|image| proof.judge(image) == Verdict::DigestMismatch);
        let asked = Revision::new(to, ready_pods.asked.as_str());
        let current = Some(Revision::new(before.as_deref().unwrap_or(to), ""));
        let intent = match &image {
            Some(image) => Intent::deploy(image),
            None => Intent::restore(&asked),
        };
        let intent = intent.current(current.clone()).previous(current).changes(!away.is_empty());
        let mut run = Run::planned(reporter, intent);
        run.in_place(Some(asked.clone()));
        if !away.is_empty() {
            if mismatch {
                let (object, why) = (format!("service/{to}"), Verdict::DigestMismatch.to_string());
                return Err(TrafficError::NotReady { object, why });
            }
            self.check_owner(&ingress)?;
            self.checkpoint(&run)?;
            let limit =
                RetryLimit::until(bp_artifact::time::deadline(self.options.grace.min(self.options.deadline)));
            if let Err(error) = with_retries(limit, &run, || self.patch(&away, to)).await {
                self.checkpoint(&run)?;
                return Ok(run.ended(Ended::Unobserved, may_be_applied(&self.object(), error)?));
            }
            run.applied(asked, format!("backend {to}"), false);
        }
        run.detail(format!("service/{to} has the traffic of {} backends", routes.len()));
        Ok(run.proven(proof))
    }

    /// Call before every change.
    ///
    /// # Errors
    /// When the operation was cancelled.
    fn checkpoint(&self, run: &Run) -> Result<(), TrafficError> {
        run.checkpoint().map_err(|_| TrafficError::Interrupted { object: self.object() })
    }

    /// The backends that reference one of the two Services.
    pub(super) fn routes(&self, ingress: &Ingress) -> Result<Vec<Route>, TrafficError> {
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

    /// The ready pods behind a Service, which must have every port of `backends`.
    async fn ready_pods<'b>(
        &self,
        service: &str,
        mut backends: impl Iterator<Item = &'b IngressServiceBackend>,
    ) -> Result<ReadyPods, TrafficError> {
        let found = self.namespace.service(service).await?;
        if let Some(missing) = backends.find(|backend| !has_port(&found, backend)) {
            let port = missing.port.as_ref().map(|port| match (&port.name, port.number) {
                (Some(name), _) => name.clone(),
                (None, number) => number.unwrap_or_default().to_string(),
            });
            let (object, why) =
                (format!("service/{service}"), format!("it has no port {}", port.unwrap_or_default()));
            return Err(TrafficError::NotReady { object, why });
        }
        ReadyPods::of(&self.namespace, &found, self.container.as_deref()).await
    }

    /// Fails when a foreign field manager owns the rules, unless `take_over` is set.
    fn check_owner(&self, ingress: &Ingress) -> Result<(), TrafficError> {
        let conflicts = owners(ingress);
        if conflicts.is_empty() || self.options.take_over {
            Ok(())
        } else {
            Err(Error::Conflict {
                object: Box::new(self.namespace.object("ingress", &self.ingress)),
                conflicts,
            }
            .into())
        }
    }

    /// Replaces the Service names, each tested first. An Ingress whose backends have changed since is not modified.
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
                // A JSON patch test failed: a backend has changed since it was read.
                Err(kube::Error::Api(status)) if status.code == 422 && has_no_details(&status) => {
                    // Possibly by an earlier attempt whose answer was lost.
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
