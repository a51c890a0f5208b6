//! Deploy manifests: plan, apply, follow all workloads, verify; roll back on failure.

use bp_artifact::{
    Outcome, ResolvedImage,
    deploy::{
        Cause, FailureReport, OnFailure, Reporter, Revision,
        run::{Ended, Intent, Run},
    },
    error::chain,
};

use super::{
    apply::Stopped,
    context::{Context, Item},
    error::ManifestsError,
    plan::{Planned, PlannedAction},
    revision::{self, Before},
};
use crate::{ending::Ending, error::Error};

impl Context {
    pub(super) async fn deploy(
        &self,
        image: &ResolvedImage,
        reporter: &Reporter,
    ) -> Result<Outcome, ManifestsError> {
        let deadline = bp_artifact::time::deadline(self.options.deadline);
        let items = self.prepare(image).await?;
        let planned = self.dry_run(&items).await?;
        let before =
            self.before(&items, |at| planned.get(at).is_some_and(|planned| planned.rolls_out)).await?;
        let current = revision::current(&before);
        let latest = current.clone().map(|current| current.rolling_out.unwrap_or(current.stable));
        let is_kept = |planned: &Planned| planned.shown.action == PlannedAction::Keep;
        let changes = !planned.iter().all(is_kept);
        let intent = Intent::deploy(image)
            .current(latest)
            .previous(current.map(|current| current.stable))
            .changes(changes);
        let mut run = Run::planned(reporter, intent);
        self.report(&run, &items, &planned);
        let applied = self.apply_all(&run, &items, &planned, deadline).await?;
        if !applied.changed {
            run.unchanged();
        }
        let of = items.len();
        let what = format!("{} of {of} objects", applied.objects);
        let revision = Revision::new(self.name.clone(), &image.reference);
        if matches!(applied.stopped, Some(Stopped::Refused { .. })) {
            // No `Applied`: a caller that only starts a deployment stops there, and this one is rolled back.
            run.in_place(Some(revision));
        } else {
            run.applied(revision, what, !applied.changed);
        }
        let ending = match applied.stopped {
            Some(Stopped::Unanswered(why)) => {
                let detail = format!("{} of {of} objects were applied; {why}", applied.objects);
                Ending::Ended(Ended::Unobserved, detail)
            }
            Some(Stopped::Refused { object, error }) => {
                self.refused(&mut run, &before, &items, applied.objects, &object, &error).await
            }
            None => {
                let rolls_back = self.options.on_failure == OnFailure::RollBack;
                let ended = self.follow(&run, &items, image, deadline, rolls_back).await?;
                self.conclude(&mut run, &ended, &before).await
            }
        };
        if ending.is_success(image) {
            run.in_place(self.in_place(&items).await);
        }
        Ok(ending.close(run))
    }

    /// Reports what will be changed.
    fn report(&self, run: &Run, items: &[Item], planned: &[Planned]) {
        for tag in self.tags(items) {
            run.notice(format!("image without a digest, which is allowed: {tag}"));
        }
        let (kept, changed): (Vec<&Planned>, Vec<&Planned>) =
            planned.iter().partition(|planned| planned.shown.action == PlannedAction::Keep);
        changed.iter().for_each(|planned| run.notice(planned.shown.to_string()));
        if !kept.is_empty() {
            run.notice(format!("{} of {} objects are unchanged", kept.len(), planned.len()));
        }
    }

    /// An object was refused after others were applied: the workloads that changed so far are rolled back.
    async fn refused(
        &self,
        run: &mut Run,
        before: &[Before],
        items: &[Item],
        applied: usize,
        object: &str,
        error: &Error,
    ) -> Ending {
        let why = if matches!(error, Error::AdmissionRefused { .. }) && is_secret(items, object, self) {
            "the Secret is invalid; its values are not shown".to_owned()
        } else {
            chain(error)
        };
        let left = items.len().saturating_sub(applied + 1);
        let message = format!(
            "{object} was not applied: {why}; {applied} objects before it were applied, {left} after it were not"
        );
        let cause =
            if error.is_refusal() || matches!(error, Error::Forbidden { .. } | Error::Unauthorized { .. }) {
                Cause::PermissionMissing
            } else if matches!(error, Error::AdmissionRefused { .. } | Error::WebhookUnavailable { .. }) {
                Cause::AdmissionRefused
            } else {
                Cause::Unknown
            };
        run.failing(FailureReport::new(cause, message.clone()));
        let is_applied =
            |before: &&Before| items.iter().take(applied).any(|item| item.shown(&self.scope) == before.shown);
        let before: Vec<Before> = before.iter().filter(is_applied).cloned().collect();
        self.roll_back(run, &before, &message).await
    }

    /// The revision of the set after a deployment, if it can be read.
    pub(super) async fn in_place(&self, items: &[Item]) -> Option<Revision> {
        let before = self.before(items, |_| false).await.ok()?;
        revision::current(&before).map(|current| current.stable)
    }
}

fn is_secret(items: &[Item], object: &str, context: &Context) -> bool {
    items.iter().any(|item| item.manifest.is_secret() && item.shown(&context.scope) == object)
}
