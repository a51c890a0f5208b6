//! The way back: the image alone where nothing else changed, the whole template where more did.

use bp_artifact::{DeployEvent, Outcome, Revision};
use serde_json::Value;

use super::{
    causes,
    deploy::Events,
    error::Error,
    follow::chain,
    live::Live,
    retry::{Patience, retried},
    survey::{Start, revision_in_place},
    target::Inner,
    template::{self, Slot},
    version::{self, Version},
};

impl Inner {
    pub(super) async fn restore(&self, revision: &Revision, events: &Events) -> Result<Outcome, Error> {
        let deadline = bp_artifact::time::deadline(self.options.deadline);
        let mut start = self.start(events, deadline).await?;
        if start.live.is_job() {
            return Err(Error::NotUndoable { workload: self.cluster.workload.clone() });
        }
        let wanted = self.wanted(&start.live, &start.versions, &start.slot, revision);
        let same = start.in_place().image == revision.image && wanted.is_none();
        events.emit(DeployEvent::Planned {
            target: self.id.clone(),
            image: revision.image.pinned().cloned(),
            current: Some(start.in_place()),
            changes: !same,
        });
        let image = revision.image.pinned().cloned();
        let asked = revision.image.resolved();
        let base = Outcome { image, ..self.outcome(start.in_place(), !same) };
        if same && start.settled {
            let picture = start.follower.picture()?;
            return Ok(self.finish(base, &picture, asked.as_ref(), &start.slot, events).await);
        }
        self.check(&start.live)?;
        let ours = match same {
            true => self.ours(&start.live, &start.live, &start.slot),
            false => {
                self.not_cancelled(events)?;
                let patience = Patience::until(deadline.min(bp_artifact::time::deadline(self.options.grace)));
                let put_back = || self.put_back(&start.versions, &start.slot, revision);
                let applied = retried(patience, events, &self.id, put_back).await;
                self.not_cancelled(events)?;
                match applied {
                    Ok(applied) => self.ours(&start.live, &applied, &start.slot),
                    Err(error) => return Ok(self.ended(self.may_be_applied(base, error)?, events)),
                }
            }
        };
        start.follower.is_patient(self.options.grace);
        self.tell_applied(revision, &ours, same, events);
        self.unblock(&mut start).await;
        let end = start.follower.follow(&ours, deadline, self.options.live_logs).await?;
        let base = Outcome { revision: Some(revision.clone()), ..base };
        let Some((outcome, _)) = self.conclude(base.clone(), end, &mut start, events).await? else {
            let picture = start.follower.picture()?;
            let done =
                picture.live.as_ref().map(|live| revision_in_place(live, &picture.versions, &start.slot));
            let base = Outcome { revision: done, detail: String::new(), ..base };
            return Ok(self.finish(base, &picture, asked.as_ref(), &start.slot, events).await);
        };
        Ok(self.ended(outcome, events))
    }

    /// The template of a revision, if it is kept and differs from the one in place by more than what we apply.
    fn wanted(&self, live: &Live, versions: &[Version], slot: &Slot, revision: &Revision) -> Option<Value> {
        let kept = version::of_image(live, versions, &slot.name, revision.image.as_str(), &revision.id)?;
        let applied = template::with(
            template::plain(live.template()),
            slot,
            revision.image.as_str(),
            &self.options.environment,
        );
        (kept.template != applied).then(|| kept.template.clone())
    }

    /// Puts `revision` back, as it differs from what is in place now, and returns the workload as the API answered.
    pub(super) async fn put_back(
        &self,
        versions: &[Version],
        slot: &Slot,
        revision: &Revision,
    ) -> Result<Live, Error> {
        let live = self.cluster.workload().await?;
        match self.wanted(&live, versions, slot, revision) {
            // Refused when somebody wrote in between, most often the controller its status.
            Some(template) => self.cluster.replace_template(&live, slot, template).await,
            None => self.apply(&live, slot, revision.image.as_str()).await,
        }
    }

    /// A StatefulSet that replaces its pods in order waits for a broken pod to become ready before it replaces it, which
    /// never happens. Such pods are deleted, as its documentation tells people to do by hand.
    pub(super) async fn unblock(&self, start: &mut Start<'_>) {
        let Ok(picture) = start.follower.picture() else { return };
        if !start.live.is_ordered() {
            return;
        }
        for pod in &picture.pods {
            let stuck =
                causes::of_pod(pod, picture.warnings(&pod.metadata.uid)).is_some_and(|s| s.is_final());
            if !stuck || causes::is_ready(pod) || pod.metadata.deletion_timestamp.is_some() {
                continue;
            }
            let name = pod.metadata.name.clone().unwrap_or_default();
            let message = match self.cluster.delete_pod(pod).await {
                Ok(()) => format!(
                    "pod/{name} was deleted: broken as it was, it would have blocked its own replacement"
                ),
                Err(error) => format!(
                    "pod/{name} blocks its own replacement: delete it (kubectl delete pod {name}): {}",
                    chain(&error)
                ),
            };
            start.follower.notice(message);
        }
    }
}
