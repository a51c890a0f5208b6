//! Whether the pods that receive traffic fail.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use crate::{api::symptom::Symptom, rollout::diagnose};

/// The pods with a final failure.
#[derive(Debug, Default)]
pub(super) struct Failing {
    /// The number of pods.
    pub(super) count: usize,
    /// The failure of most of them, if enough fail.
    pub(super) symptom: Option<Symptom>,
}

impl Failing {
    /// They fail together when every pod fails, or `fail_after` of them for the same reason.
    pub(super) fn of(pods: &[&Arc<Pod>], fail_after: usize) -> Self {
        let symptoms = pods.iter().filter_map(|pod| diagnose::of_pod(pod, std::iter::empty()));
        let fatal: Vec<Symptom> = symptoms.filter(Symptom::is_final).collect();
        let alike = |symptom: &&Symptom| fatal.iter().filter(|s| s.cause == symptom.cause).count();
        let worst = fatal.iter().max_by_key(alike);
        let enough = |worst: &&Symptom| fatal.len() == pods.len() || alike(worst) >= fail_after;
        Failing { count: fatal.len(), symptom: worst.filter(enough).cloned() }
    }
}
