//! Restore of an earlier revision.

use aws_sdk_ecs::types::ServiceDeploymentStatus;
use bp_artifact::{
    Outcome,
    deploy::{
        Reporter, Revision,
        run::{Ended, Intent, Run},
    },
};

#[cfg(feature = "schedules")]
use super::step::StepFailed;
use super::{
    ServiceRollout,
    apply::Applied,
    deploy::{deleted, not_cancelled, unobserved},
    follow::Follower,
    service::Followed,
    survey::Survey,
};
use crate::{error::Error, preflight::limits};

impl ServiceRollout {
    pub(crate) async fn restore(&self, revision: &Revision, reporter: &Reporter) -> Result<Outcome, Error> {
        let survey = self.survey().await?;
        let in_place = survey.is_settled() && survey.definition == revision.id;
        let current = self.revision(&survey.definition).await?;
        let intent = Intent::restore(revision).current(Some(current)).changes(!in_place);
        let mut run = Run::planned(reporter, intent);
        run.in_place(Some(revision.clone()));
        run.detail("already in place");
        let deadline = self.deadline();
        if in_place {
            #[cfg(feature = "schedules")]
            if let Err(why) = self.restore_schedules(&mut run, &survey.service, revision, None).await {
                return Ok(not_restored(run, why));
            }
            return Ok(self.prove_end(run, Some(&survey.service), deadline).await);
        }
        #[cfg(feature = "schedules")]
        let replaced = survey.in_flight.as_ref().map_or(&survey.definition, |f| &f.definition).clone();
        limits::check(&survey.service, &self.api.definition(&revision.id).await?)?;
        not_cancelled(reporter)?;
        // ECS may already be rolling back to this revision: then its rollback is followed.
        let (ours, service, adopted) = match self.rolling_back_to(&survey, revision).await? {
            Some(followed) => (followed, survey.service, true),
            None => {
                let force = survey.failed && survey.definition == revision.id;
                match self.apply(&survey.service, &revision.id, force, deadline).await? {
                    Applied::Started(ours, service) => (ours, *service, false),
                    Applied::Unknown(why) => return Ok(unobserved(run, &why)),
                    Applied::Replaced(replaced) => return self.superseded(run, &revision.id, replaced),
                    Applied::Gone(status) => return Ok(deleted(run, &revision.id, &status)),
                }
            }
        };
        run.applied(revision.clone(), &ours.id, adopted);
        let mut end = Follower::of(self, &mut run, ours, &service, None).adopted(adopted).run().await?;
        if adopted && end.ended == Some(Ended::RolledBack) {
            end.ended = None;
            run.recovered();
        }
        #[cfg(feature = "schedules")]
        if end.ended.is_none()
            && let Err(why) = self.restore_schedules(&mut run, &service, revision, Some(&replaced)).await
        {
            return Ok(not_restored(run, why));
        }
        Ok(self.conclude(run, end).await)
    }

    /// The deployment in progress, if it is being rolled back to this revision.
    async fn rolling_back_to(&self, survey: &Survey, revision: &Revision) -> Result<Option<Followed>, Error> {
        let Some(followed) = &survey.in_flight else { return Ok(None) };
        let Some(arn) = &followed.arn else { return Ok(None) };
        let status = self.api.deployment(arn).await?.and_then(|deployment| deployment.status);
        let is_rolling_back = status == Some(ServiceDeploymentStatus::RollbackInProgress);
        Ok((is_rolling_back && survey.definition == revision.id).then(|| followed.clone()))
    }
}

/// The end of a restore after which scheduled tasks may not start tasks of the restored revision.
#[cfg(feature = "schedules")]
fn not_restored(run: Run, why: StepFailed) -> Outcome {
    match why {
        StepFailed::Unobserved(why) => run.ended(Ended::Unobserved, why),
        StepFailed::Failed(why) => {
            run.ended(Ended::FailedInPlace, format!("the service was restored, but {why}"))
        }
    }
}
