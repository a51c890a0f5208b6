//! The progress of a rollout: the numbers of pods, and what the controller or most of the failing pods wait for.

use std::sync::Arc;

use bp_artifact::deploy::Progress;
use k8s_openapi::api::core::v1::Pod;

use super::{
    diagnose,
    judge::{Snapshot, Tracked},
};
use crate::{
    api::{
        pod,
        symptom::{Recovery, Symptom},
    },
    workload::{Live, RolloutStatus},
};

impl Snapshot {
    pub(super) fn progress(&self, tracked: &Tracked, live: &Live, status: &RolloutStatus) -> Progress {
        let counts = live.counts();
        let count = |n: i32| n.max(0) as u32;
        let new = self.new_pods();
        let running = new.iter().filter(|pod| pod::is_ready(pod)).count() as u32;
        let findings = self.findings(Some(tracked));
        let replaced = self.failed_pods(Some(tracked)).len() as u32;
        let is_final = |(pod, symptom): &&(&Arc<Pod>, Symptom)| {
            symptom.is_final_after(tracked.restarts) && !(diagnose::has_failed(pod) && replaced > 0)
        };
        let failed = findings.iter().filter(is_final).count() as u32;
        let mut progress = Progress::default();
        progress.desired = count(counts.desired);
        progress.running = running;
        progress.pending = (new.len() as u32).saturating_sub(running + failed);
        progress.failed = failed + replaced;
        progress.old = count(counts.total - counts.updated);
        progress.stage = if let RolloutStatus::Progressing(stage) = status {
            stage.to_string()
        } else {
            "waiting for the controller".to_owned()
        };
        let seen = findings.iter().filter(|(_, symptom)| symptom.recovery != Recovery::Starting);
        if let Some((_, symptom)) = seen.clone().max_by_key(|(_, symptom)| symptom.rank()) {
            let pods = seen.filter(|(_, other)| other.cause == symptom.cause).count();
            let pods = if pods == 1 { "1 pod".to_owned() } else { format!("{pods} pods") };
            progress.stage.push_str(&format!("; {pods}: {}", symptom.cause));
        }
        progress
    }
}
