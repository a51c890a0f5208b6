//! What a roll-out would change, as the API server itself says.

use bp_artifact::{ResolvedImage, deploy::Change};
use serde_json::json;

use super::{WorkloadRollout, api::Manner, survey::Start};
use crate::{
    api::manager::is_ours,
    error::{Conflict, Error},
    workload::{Live, template::Slot},
};

/// What a roll-out would change: the answer to a server-side dry run, defaults and admission webhooks included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Plan {
    /// The fields that would change. None when the image is in place.
    pub changes: Vec<Change>,
    /// Whose fields they are, where they are not ours.
    pub conflicts: Vec<Conflict>,
    /// Whether the roll-out would be refused for those conflicts: it would need
    /// [`Options::take_over`](crate::Options::take_over).
    pub is_refused: bool,
}

impl WorkloadRollout {
    pub(crate) async fn plan(&self, image: &ResolvedImage) -> Result<Plan, Error> {
        let live = self.api.workload().await?;
        let slot = self.slot(&live)?;
        if live.runs_to_completion() {
            let from = json!({ "image": live.image(&slot.name) });
            let changes = Change::between(&from, &json!({ "image": image.reference.to_string() }));
            return Ok(Plan { changes, ..Plan::default() });
        }
        self.check(&live)?;
        self.dry_run(&live, &slot, &image.reference.to_string()).await
    }

    async fn dry_run(&self, live: &Live, slot: &Slot, image: &str) -> Result<Plan, Error> {
        let ask = |force| {
            let manner = Manner { force, dry_run: true };
            self.api.apply(live, slot, image, &self.options.environment, manner)
        };
        let (answer, conflicts) = match ask(false).await {
            Err(Error::Conflict { conflicts, .. }) => (ask(true).await?, conflicts),
            other => (other?, Vec::new()),
        };
        let spec = |live: &Live| json!({ "spec": live.spec() });
        let own = conflicts.iter().all(|conflict| is_ours(&conflict.manager));
        let changes = Change::between(&spec(live), &spec(&answer));
        Ok(Plan { changes, conflicts, is_refused: !own && !self.options.take_over })
    }

    /// Tells what the apply is going to change. A cluster that makes no dry run (a webhook may not support it) does not
    /// hold up the roll-out: if it refuses the change itself, it says so then.
    pub(super) async fn tell_changes(&self, start: &mut Start<'_>, image: &str) {
        if let Ok(plan) = self.dry_run(&start.live, &start.slot, image).await {
            plan.changes.iter().for_each(|change| start.follower.notice(change.to_string()));
        }
    }
}
