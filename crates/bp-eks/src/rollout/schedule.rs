//! Set the image of a CronJob: its next Jobs run it. The specification proves the digest; Jobs in progress keep the
//! earlier image.

use std::sync::Arc;

use bp_artifact::{
    DigestRef, Outcome, ResolvedImage,
    deploy::{
        Observation, Proof, Reporter, Revision,
        run::{Ended, Intent, Run},
    },
    text,
};
use k8s_openapi::api::batch::v1::Job;
use kube::{ResourceExt, api::ListParams};

use super::{WorkloadRollout, api::Content, unanswered::Unanswered};
use crate::{
    api::text::Text,
    error::Error,
    workload::{Live, RolloutStatus, cron_job, template::Slot, version::is_owned},
};

/// The annotation of a CronJob with the image before the current one: the API keeps no revisions.
const PREVIOUS: &str = "bp-eks/previous-image";
/// The maximum number of Jobs of a list.
const JOBS: u32 = 500;
/// The maximum length of the reason why a Job failed.
const LONGEST: usize = 200;

/// The revision of a CronJob: the digest of its image identifies it.
pub(super) fn revision(live: &Live, slot: &Slot) -> Revision {
    of_image(live.image(&slot.name))
}

fn of_image(image: &str) -> Revision {
    let id = image
        .parse::<DigestRef>()
        .map_or_else(|_| image.to_owned(), |image| image.digest().abbreviated().to_string());
    Revision::new(id, image)
}

/// The revision before the current one, if bp-eks has set the image.
pub(super) fn previous(live: &Live, slot: &Slot) -> Option<Revision> {
    let image = live.object.annotations().get(PREVIOUS)?;
    (image != live.image(&slot.name)).then(|| of_image(image))
}

/// The digests in the specification.
pub(super) fn proof(live: &Live, slot: &Slot) -> Proof {
    let unit = format!("cronjob/{}", live.metadata().name.as_deref().unwrap_or_default());
    let observation = |slot: &Slot| {
        let image = live.image(&slot.name).parse::<DigestRef>();
        Observation::new(unit.clone(), &slot.name, image.ok().map(|image| image.digest().clone()))
    };
    Proof::of(slot.all().map(observation))
}

impl WorkloadRollout {
    /// Sets the image of the CronJob.
    pub(super) async fn deploy_schedule(
        &self,
        image: &ResolvedImage,
        reporter: &Reporter,
    ) -> Result<Outcome, Error> {
        let live = self.api.workload().await?;
        let slot = self.slot(&live)?;
        let in_place = revision(&live, &slot);
        let is_same = |slot: &Slot| {
            live.image(&slot.name).parse::<DigestRef>().is_ok_and(|there| there.digest() == image.digest())
        };
        // A webhook or a mirror may have replaced the registry: the digest identifies the image.
        let same = slot.all().all(is_same) && live.has_environment(&slot, &self.options.environment);
        let intent = Intent::deploy(image)
            .current(Some(in_place.clone()))
            .previous(Some(in_place.clone()))
            .changes(!same);
        let run = Run::planned(reporter, intent);
        let mut content = self.content(&live, &image.reference.to_string());
        content.metadata.insert(PREVIOUS.to_owned(), in_place.image.as_str().to_owned());
        self.set_schedule(run, &live, &slot, same, &content).await
    }

    /// Sets the image of an earlier revision.
    pub(super) async fn restore_schedule(
        &self,
        to: &Revision,
        reporter: &Reporter,
    ) -> Result<Outcome, Error> {
        let live = self.api.workload().await?;
        let slot = self.slot(&live)?;
        let in_place = revision(&live, &slot);
        let same = slot.all().all(|slot| live.image(&slot.name) == to.image.as_str());
        let intent =
            Intent::restore(to).platforms_of(&self.images).current(Some(in_place.clone())).changes(!same);
        let run = Run::planned(reporter, intent);
        let mut content = self.content(&live, to.image.as_str());
        content.metadata.clear();
        content.metadata.insert(PREVIOUS.to_owned(), in_place.image.as_str().to_owned());
        self.set_schedule(run, &live, &slot, same, &content).await
    }

    /// Proves the digest in the specification; there is nothing to follow.
    pub(super) async fn watch_schedule(&self, reporter: &Reporter) -> Result<Outcome, Error> {
        let live = self.api.workload().await?;
        let slot = self.slot(&live)?;
        let in_place = revision(&live, &slot);
        let intent =
            Intent::restore(&in_place).platforms_of(&self.images).current(Some(in_place)).changes(false);
        Ok(self.scheduled(Run::planned(reporter, intent), &live, &slot).await)
    }

    async fn set_schedule(
        &self,
        mut run: Run,
        live: &Live,
        slot: &Slot,
        same: bool,
        content: &Content,
    ) -> Result<Outcome, Error> {
        if same {
            return Ok(self.scheduled(run, live, slot).await);
        }
        self.check(live)?;
        if let Ok(plan) = self.plan(live, slot, content).await {
            plan.changes.iter().for_each(|change| run.notice(change.to_string()));
        }
        let deadline = bp_artifact::time::deadline(self.options.deadline);
        let sent = Unanswered::default();
        match self.make(&run, deadline, &sent, || sent.send(self.apply(live, slot, content))).await? {
            Ok(applied) => {
                let to = revision(&applied, slot);
                run.applied(to, format!("generation {}", applied.generation()), false);
                Ok(self.scheduled(run, &applied, slot).await)
            }
            Err(unanswered) => Ok(run.ended(Ended::Unobserved, unanswered)),
        }
    }

    /// Ends the run with the digest of the specification and the state of the latest Job.
    async fn scheduled(&self, mut run: Run, live: &Live, slot: &Slot) -> Outcome {
        run.in_place(Some(revision(live, slot)));
        run.detail(self.schedule_state(live, slot).await);
        run.proven(proof(live, slot))
    }

    /// The schedule, and the latest Job.
    pub(super) async fn schedule_state(&self, live: &Live, slot: &Slot) -> String {
        let schedule = cron_job::schedule(live);
        match self.latest_job(live).await {
            Ok(Some(job)) => format!("{schedule}; {}", self.job_state(&job, live, slot)),
            Ok(None) => format!("{schedule}; no Job yet"),
            Err(error) => format!("{schedule}; its Jobs cannot be read: {}", error.without_advice()),
        }
    }

    async fn latest_job(&self, live: &Live) -> Result<Option<Arc<Job>>, Error> {
        let list = self.api.scope.api::<Job>().list(&ListParams::default().limit(JOBS)).await;
        let list = list.map_err(|error| self.api.all("job").error("list jobs", error))?;
        let owned = list.items.into_iter().filter(|job| is_owned(job, live.uid()));
        Ok(owned.max_by_key(|job| job.metadata.creation_timestamp.as_ref().map(|at| at.0)).map(Arc::new))
    }

    fn job_state(&self, job: &Job, live: &Live, slot: &Slot) -> String {
        let containers = job.spec.iter().flat_map(|spec| spec.template.spec.iter());
        let mut containers =
            containers.flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
        let image = containers.find(|container| container.name == slot.name).and_then(|c| c.image.clone());
        let is_earlier = image.as_deref().is_some_and(|image| image != live.image(&slot.name));
        let state = match RolloutStatus::of_job(job) {
            RolloutStatus::Complete => "is complete".to_owned(),
            RolloutStatus::Failed(why) => {
                format!("has failed ({})", text::truncate(&text::single_line(&why), LONGEST))
            }
            RolloutStatus::NotObserved
            | RolloutStatus::Progressing(_)
            | RolloutStatus::Stalled(_)
            | RolloutStatus::OnDelete => {
                if is_earlier {
                    return format!(
                        "job/{} is in progress and keeps the earlier image {}",
                        job.name_any(),
                        image.text()
                    );
                }
                "is in progress".to_owned()
            }
        };
        let earlier =
            if is_earlier { format!(", with the earlier image {}", image.text()) } else { String::new() };
        format!("its latest Job, job/{}, {state}{earlier}", job.name_any())
    }
}
