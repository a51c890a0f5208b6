//! A namespace of a cluster, and what can be deployed to in it.

use std::fmt;

use bp_artifact::{config::Workload, time::Wait};

#[cfg(feature = "helm")]
use crate::helm::HelmRelease;
use crate::{
    api::scope::Scope,
    check::{JobCheck, JobTemplate},
    options::Options,
    pull_secret::PullSecret,
    target::EksTarget,
    traffic::{BlueGreen, IngressSwitch, Slots},
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
    /// A workload, as a place to deploy to.
    pub fn workload(&self, workload: Workload, options: Options) -> EksTarget {
        EksTarget::of(self.0.clone(), workload, None, options)
    }

    /// The Service `service`, whose traffic goes to one of two Deployments.
    pub fn blue_green(&self, service: impl Into<String>, slots: Slots, options: Options) -> BlueGreen {
        BlueGreen::of(self.0.clone(), service.into(), slots, options)
    }

    /// The backends of the Ingress `ingress` that lead to one of the two `services`.
    pub fn ingress(
        &self,
        ingress: impl Into<String>,
        services: [impl Into<String>; 2],
        options: Options,
    ) -> IngressSwitch {
        IngressSwitch::of(self.0.clone(), ingress.into(), services.map(Into::into), options)
    }

    /// The Helm release `release`, to look at and to roll back; an upgrade needs its [chart](HelmRelease::chart).
    #[cfg(feature = "helm")]
    pub fn helm(&self, release: impl Into<String>, options: Options) -> HelmRelease {
        HelmRelease::of(self.0.clone(), release.into(), options)
    }

    /// A check that runs a Job made after `template`, with this deadline and cadence for each attempt.
    pub fn job_check(&self, template: JobTemplate, wait: Wait) -> JobCheck {
        JobCheck::of(self.0.clone(), template, wait)
    }

    /// The Secret `name`, with which the cluster pulls from a registry.
    pub fn pull_secret(&self, name: impl Into<String>) -> PullSecret {
        PullSecret::of(self.0.clone(), name.into())
    }
}
