//! What a rollout would change, as the API server itself says.

use bp_artifact::deploy::Change;
use serde_json::json;

use super::{WorkloadRollout, api::Manner, survey::Start};
use crate::{
    error::{Conflict, Error},
    workload::{Live, template::Slot},
};

/// What a rollout would change: the answer to a server-side dry run, defaults and admission webhooks included.
pub(crate) struct Plan {
    /// The fields that would change. None when the image is in place.
    pub(crate) changes: Vec<Change>,
    /// Whose fields they are, where they are not ours.
    pub(crate) conflicts: Vec<Conflict>,
}

impl WorkloadRollout {
    pub(crate) async fn plan(&self, live: &Live, slot: &Slot, image: &str) -> Result<Plan, Error> {
        if live.runs_to_completion() {
            let from = json!({ "image": live.image(&slot.name) });
            let changes = Change::between(&from, &json!({ "image": image }));
            return Ok(Plan { changes, conflicts: Vec::new() });
        }
        self.check(live)?;
        let ask = |force| {
            let manner = Manner { force, dry_run: true };
            self.api.apply(live, slot, image, &self.options.environment, manner)
        };
        let (answer, conflicts) = match ask(false).await {
            Err(Error::Conflict { conflicts, .. }) => (ask(true).await?, conflicts),
            other => (other?, Vec::new()),
        };
        let spec = |live: &Live| json!({ "spec": live.spec() });
        Ok(Plan { changes: Change::between(&spec(live), &spec(&answer)), conflicts })
    }

    /// Tells what the apply is going to change. A cluster that makes no dry run (a webhook may not support it) does not
    /// hold up the rollout: if it refuses the change itself, it says so then.
    pub(super) async fn tell_changes(&self, start: &mut Start<'_>, image: &str) {
        if let Ok(plan) = self.plan(&start.live, &start.slot, image).await {
            plan.changes.iter().for_each(|change| start.follower.notice(change.to_string()));
        }
    }
}
