//! CronJobs: the image is in the template of the Jobs that they create later, so there is no rollout to follow.

use k8s_openapi::api::batch::v1::CronJob;
use kube::core::ApiResource;

use super::{
    kind::{Counts, Kind, RolloutStatus, State, Versions, calls},
    live::Live,
};

pub(super) static KIND: Kind = Kind {
    resource: || ApiResource::erase::<CronJob>(&()),
    calls: calls!("cronjobs"),
    versions: Versions::None,
    template: &["jobTemplate", "spec", "template"],
    writes: &[("patch", true)],
    runs_to_completion: false,
    is_scheduled: true,
    deletes_pods: false,
    read: |json| Ok(Box::new(serde_json::from_value::<CronJob>(json)?)),
};

impl State for CronJob {
    /// Complete as soon as the API server has stored it: its controller has nothing to do until the next time of the
    /// schedule.
    fn status(&self, _: i64) -> RolloutStatus {
        RolloutStatus::Complete
    }

    fn counts(&self) -> Counts {
        let active = self.status.as_ref().and_then(|status| status.active.as_ref()).map_or(0, Vec::len);
        let active = i32::try_from(active).unwrap_or(i32::MAX);
        Counts { desired: 0, total: active, updated: 0 }
    }
}

/// The schedule of a CronJob, and whether it is suspended.
pub(crate) fn schedule(live: &Live) -> String {
    let spec = live.spec();
    let mut text = format!("schedule {}", spec["schedule"].as_str().unwrap_or_default());
    if let Some(zone) = spec["timeZone"].as_str() {
        text.push_str(&format!(" ({zone})"));
    }
    if is_suspended(live) {
        text.push_str(", suspended: it creates no Jobs");
    }
    text
}

pub(crate) fn is_suspended(live: &Live) -> bool {
    live.spec()["suspend"] == true
}
