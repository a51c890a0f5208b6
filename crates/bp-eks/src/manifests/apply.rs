//! Apply the objects in order; definitions of custom resources are awaited before their objects.

use bp_artifact::{
    deploy::run::Run,
    error::{Classified, ErrorClass},
};
use futures_util::StreamExt;
use kube::core::DynamicObject;
use tokio::time::{Instant, sleep_until};

use super::{
    context::{Context, Item},
    error::ManifestsError,
    order::is_definition,
    plan::{Planned, PlannedAction},
};
use crate::{
    api::{
        retry::{RetryLimit, with_retries},
        watch::{Query, watch},
    },
    error::Error,
};

/// How far the objects were applied.
pub(super) struct Applied {
    pub(super) objects: usize,
    /// Whether any object was created or changed.
    pub(super) changed: bool,
    pub(super) stopped: Option<Stopped>,
}

/// Why not all objects were applied.
pub(super) enum Stopped {
    /// An object was refused.
    Refused { object: String, error: Error },
    /// The change of an object was sent, and not answered.
    Unanswered(String),
}

impl Context {
    /// Applies every object that the plan does not keep, in order.
    ///
    /// # Errors
    /// When the operation is cancelled, or the first change fails: then nothing was changed.
    pub(super) async fn apply_all(
        &self,
        run: &Run,
        items: &[Item],
        planned: &[Planned],
        deadline: Instant,
    ) -> Result<Applied, ManifestsError> {
        let mut applied = Applied { objects: 0, changed: false, stopped: None };
        let mut definitions = Vec::new();
        for (item, planned) in items.iter().zip(planned) {
            let interrupted =
                |applied: &Applied| ManifestsError::Interrupted { applied: applied.objects, of: items.len() };
            if !definitions.is_empty() && !is_definition(&item.manifest) {
                for definition in std::mem::take(&mut definitions) {
                    if let Err(error) = self.established(definition, run, deadline).await {
                        run.checkpoint().map_err(|_| interrupted(&applied))?;
                        applied.stopped =
                            Some(Stopped::Refused { object: definition.shown(&self.scope), error });
                        return Ok(applied);
                    }
                }
            }
            run.checkpoint().map_err(|_| interrupted(&applied))?;
            if planned.shown.action != PlannedAction::Keep {
                match self.apply(item, planned, run, deadline).await {
                    Ok(changed) => applied.changed |= changed,
                    Err(error) => {
                        run.checkpoint().map_err(|_| interrupted(&applied))?;
                        let object = item.shown(&self.scope);
                        match error.may_be_applied(&object) {
                            Ok(unanswered) => {
                                applied.changed = true;
                                applied.stopped = Some(Stopped::Unanswered(unanswered));
                            }
                            Err(error) if !applied.changed => return Err(error.into()),
                            Err(error) => applied.stopped = Some(Stopped::Refused { object, error }),
                        }
                        return Ok(applied);
                    }
                }
            }
            if is_definition(&item.manifest) {
                definitions.push(item);
            }
            applied.objects += 1;
        }
        Ok(applied)
    }

    /// Applies one object, with retries; returns whether it changed.
    async fn apply(
        &self,
        item: &Item,
        planned: &Planned,
        run: &Run,
        deadline: Instant,
    ) -> Result<bool, Error> {
        let limit = RetryLimit::until(deadline.min(bp_artifact::time::deadline(self.options.grace)));
        let after = with_retries(limit, run, || self.apply_once(item)).await?;
        let version = |object: &DynamicObject| object.metadata.resource_version.clone();
        Ok(planned.before.as_ref().is_none_or(|before| version(before) != version(&after)))
    }

    async fn apply_once(&self, item: &Item) -> Result<DynamicObject, Error> {
        match self.patch(item, false, false).await {
            Err(Error::Conflict { conflicts, .. })
                if self.options.take_over
                    || conflicts.iter().all(|conflict| self.may_force(&conflict.manager)) =>
            {
                self.patch(item, true, false).await
            }
            answered => answered,
        }
    }

    /// Waits until the API server serves a definition.
    async fn established(&self, item: &Item, run: &Run, deadline: Instant) -> Result<(), Error> {
        let query = Query::fields(&format!("metadata.name={}", item.manifest.name));
        let (seen, mut news) = watch(self.api(item), query, "watch customresourcedefinitions", false);
        let late = deadline.min(bp_artifact::time::deadline(self.options.grace));
        let mut last = None;
        loop {
            if seen.state().iter().any(|object| is_established(object)) {
                return Ok(());
            }
            tokio::select! {
                update = news.next() => {
                    if let Some(Err(failed)) = update {
                        let error = self.object(item).error(failed.operation, *failed.error);
                        if error.class() != ErrorClass::Unavailable {
                            return Err(error);
                        }
                        last = Some(error);
                    }
                }
                () = sleep_until(late) => {
                    let names = seen.state().iter().find_map(|object| not_accepted(object));
                    return Err(last.unwrap_or_else(|| Error::AdmissionRefused {
                        object: Box::new(self.object(item)),
                        source: names.unwrap_or_else(|| "the definition was not established in time".to_owned()).into(),
                    }));
                }
                () = run.cancelled() => {
                    return Err(last.unwrap_or_else(|| Error::NotFound { object: Box::new(self.object(item)) }));
                }
            }
        }
    }
}

fn condition<'o>(object: &'o DynamicObject, kind: &str) -> Option<&'o serde_json::Value> {
    object.data["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

fn is_established(object: &DynamicObject) -> bool {
    condition(object, "Established").is_some_and(|condition| condition["status"] == "True")
}

/// Why the names of a definition are not accepted.
fn not_accepted(object: &DynamicObject) -> Option<String> {
    let condition = condition(object, "NamesAccepted").filter(|condition| condition["status"] == "False")?;
    condition["message"].as_str().map(str::to_owned)
}
