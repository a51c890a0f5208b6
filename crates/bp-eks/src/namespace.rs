//! A namespace of a cluster, and its deployment targets.

use std::fmt;

use bp_artifact::{
    config::{TrafficObject, Workload},
    time::Wait,
};

#[cfg(feature = "helm")]
use crate::helm::HelmRelease;
use crate::{
    api::scope::Scope,
    check::{JobCheck, JobTemplate},
    manifests::{ManifestSet, Manifests},
    options::Options,
    pull_secret::PullSecret,
    target::EksTarget,
    traffic::{BlueGreen, IngressSwitch, Slots, TrafficError, WeightedTraffic},
};

/// A namespace of a [`Cluster`](crate::Cluster). Cheap to clone.
#[derive(Clone)]
pub struct Namespace(pub(crate) Scope);

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scope { cluster, namespace, .. } = &self.0;
        f.debug_struct("Namespace").field("cluster", cluster).field("name", namespace).finish_non_exhaustive()
    }
}

impl Namespace {
    /// A workload as a deployment target.
    pub fn workload(&self, workload: Workload, options: Options) -> EksTarget {
        EksTarget::of(self.0.clone(), workload, None, options)
    }

    /// Blue/green deployment of the Service `service`, which selects one of two Deployments.
    pub fn blue_green(&self, service: impl Into<String>, slots: Slots, options: Options) -> BlueGreen {
        BlueGreen::of(self.0.clone(), service.into(), slots, options)
    }

    /// Switches the backends of the Ingress `ingress` between the two `services`.
    pub fn ingress(
        &self,
        ingress: impl Into<String>,
        services: [impl Into<String>; 2],
        options: Options,
    ) -> IngressSwitch {
        IngressSwitch::of(self.0.clone(), ingress.into(), services.map(Into::into), options)
    }

    /// Shifts traffic in steps between the two `services`, by their weights in `object`.
    ///
    /// # Errors
    /// When both Services are the same.
    pub fn weights(
        &self,
        object: TrafficObject,
        services: [impl Into<String>; 2],
        options: Options,
    ) -> Result<WeightedTraffic, TrafficError> {
        WeightedTraffic::of(self.0.clone(), object, services.map(Into::into), options)
    }

    /// The Helm release `release`; an upgrade requires its [chart](HelmRelease::chart).
    #[cfg(feature = "helm")]
    pub fn helm(&self, release: impl Into<String>, options: Options) -> HelmRelease {
        HelmRelease::of(self.0.clone(), release.into(), options)
    }

    /// The objects of manifests, created and updated together; `name` is used in the target id and in the field manager.
    pub fn manifests(&self, name: impl Into<String>, set: ManifestSet, options: Options) -> Manifests {
        Manifests::of(self.0.clone(), name.into(), set, options)
    }

    /// A check that runs a Job derived from `template`, with this deadline and interval for each attempt.
    pub fn job_check(&self, template: JobTemplate, wait: Wait) -> JobCheck {
        JobCheck::of(self.0.clone(), template, wait)
    }

    /// The image pull Secret `name`.
    pub fn pull_secret(&self, name: impl Into<String>) -> PullSecret {
        PullSecret::of(self.0.clone(), name.into())
    }
}
