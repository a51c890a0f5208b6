//! Plan a rollout: the changes and field conflicts that a server-side dry run returns.

use bp_artifact::deploy::Change;
use serde_json::json;

use super::{
    WorkloadRollout,
    api::{ApplyOptions, Content},
    survey::Start,
};
use crate::{
    error::{Conflict, Error},
    workload::{Live, template::Slot},
};

/// The result of a server-side dry run, including defaults and admission webhooks.
pub(crate) struct Plan {
    /// The fields that would change; empty when the image is in place.
    pub(crate) changes: Vec<Change>,
    /// The conflicts with other field managers.
    pub(crate) conflicts: Vec<Conflict>,
}

impl WorkloadRollout {
    /// The plan of a deployment of `image`, including a restart.
    pub(crate) async fn plan_image(&self, live: &Live, slot: &Slot, image: &str) -> Result<Plan, Error> {
        let mut content = self.content(live, image);
        if !live.runs_to_completion() && !live.kind.is_scheduled {
            content.template.extend(self.restarting(live).await?);
        }
        self.plan(live, slot, &content).await
    }

    pub(crate) async fn plan(&self, live: &Live, slot: &Slot, content: &Content) -> Result<Plan, Error> {
        if live.runs_to_completion() {
            let from = json!({ "image": live.image(&slot.name) });
            let changes = Change::between(&from, &json!({ "image": content.image }));
            return Ok(Plan { changes, conflicts: Vec::new() });
        }
        self.check(live)?;
        let ask = |force| {
            let apply_options = ApplyOptions { force, dry_run: true };
            self.api.apply(live, slot, content, &self.options.environment, apply_options)
        };
        let (answer, conflicts) = match ask(false).await {
            Err(Error::Conflict { conflicts, .. }) => (ask(true).await?, conflicts),
            other => (other?, Vec::new()),
        };
        let spec = |live: &Live| json!({ "spec": live.spec() });
        Ok(Plan { changes: Change::between(&spec(live), &spec(&answer)), conflicts })
    }

    /// Reports what the apply will change. A failed dry run (a webhook may not support it) is ignored: if the change
    /// itself is refused, the apply reports that.
    pub(super) async fn report_changes(&self, start: &mut Start<'_>, content: &Content) {
        if let Ok(plan) = self.plan(&start.live, &start.slot, content).await {
            plan.changes.iter().for_each(|change| start.follower.notice(change.to_string()));
        }
    }
}
