//! Apply an image with server-side apply, and retry transient refusals.

use std::collections::HashSet;

use bp_artifact::{
    deploy::{Revision, run::Run},
    error::Classified,
};
use tokio::time::Instant;

use super::{
    WorkloadRollout,
    api::{ApplyOptions, Content},
    deploy::Change,
    judge::Tracked,
    survey::Start,
    unanswered::Unanswered,
};
use crate::{
    api::{
        manager::is_ours,
        retry::{RetryLimit, with_retries},
    },
    error::Error,
    workload::{Live, template::Slot},
};

impl WorkloadRollout {
    /// Call before every change.
    ///
    /// # Errors
    /// When the operation was cancelled.
    pub(super) fn checkpoint(&self, run: &Run) -> Result<(), Error> {
        run.checkpoint().map_err(|_| self.interrupted())
    }

    pub(super) fn interrupted(&self) -> Error {
        Error::Interrupted { workload: self.api.workload.clone() }
    }

    /// Sends a change with retries. A change of which an attempt was sent but not answered may be applied: then the inner
    /// result is an error.
    ///
    /// # Errors
    /// When the change was refused, or the operation is cancelled.
    pub(super) async fn make<T, F>(
        &self,
        run: &Run,
        deadline: Instant,
        unanswered: &Unanswered,
        call: impl FnMut() -> F,
    ) -> Result<Result<T, String>, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        self.checkpoint(run)?;
        let limit = RetryLimit::until(deadline.min(bp_artifact::time::deadline(self.options.grace)));
        let made = with_retries(limit, run, call).await;
        self.checkpoint(run)?;
        match made {
            Ok(made) => Ok(Ok(made)),
            // Any other error, such as a conflict, is what the first attempt would have been answered.
            Err(error) if unanswered.is_any() && (error.is_refusal() || error.is_retryable()) => {
                Ok(Err(error.as_unanswered(&self.api.workload)))
            }
            Err(error) => Err(error),
        }
    }

    /// What a deployment of `image` sets: the annotations of its build, and those that the pod template keeps.
    pub(super) fn content(&self, live: &Live, image: &str) -> Content {
        Content {
            image: image.to_owned(),
            metadata: self.options.build.clone(),
            template: Self::kept_annotations(live),
        }
    }

    /// Applies the image and the annotations. Forces conflicts with other field managers of bp-eks (an undo writes the whole template), and
    /// with any field manager if `take_over` is set.
    pub(super) async fn apply(&self, live: &Live, slot: &Slot, content: &Content) -> Result<Live, Error> {
        let environment = &self.options.environment;
        let apply = |force| {
            self.api.apply(
                live,
                slot,
                content,
                environment,
                ApplyOptions { force, ..ApplyOptions::default() },
            )
        };
        match apply(false).await {
            Err(Error::Conflict { conflicts, .. })
                if self.options.take_over || conflicts.iter().all(|c| is_ours(&c.manager)) =>
            {
                apply(true).await
            }
            other => other,
        }
    }

    /// A rollout that is in progress already.
    pub(super) fn adopted(&self, start: &Start<'_>, revision: Revision) -> Change {
        Change { adopted: true, ..self.made(start, &start.live, revision) }
    }

    /// The rollout that started with `applied`.
    pub(super) fn made(&self, start: &Start<'_>, applied: &Live, revision: Revision) -> Change {
        let tracked = self.tracked(&start.live, applied, &start.slot);
        Change { revision, tracked, adopted: false, unblocks: true, back_to: None }
    }

    /// The tracked rollout that started with `applied`; `before` is the workload before it.
    pub(super) fn tracked(&self, before: &Live, applied: &Live, slot: &Slot) -> Tracked {
        Tracked {
            uid: applied.uid().to_owned(),
            generation: applied.generation(),
            slot: slot.clone(),
            image: applied.image(&slot.name).to_owned(),
            since: applied.written_by_us(),
            stalled_before: before.stalled().and_then(|(_, since)| since),
            fail_after: self.options.fail_after.map(|pods| pods.get() as usize),
            restarts: self.options.restarts.get(),
            circuit_breaker: self.options.circuit_breaker,
            grace: Some(self.options.grace),
            registry: self.options.registry.clone(),
            image_exists: false,
            known: HashSet::new(),
        }
    }
}
