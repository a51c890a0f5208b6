//! Follow an operation in progress on a release without changing it; roll back one that fails on request.

use std::time::Duration;

use bp_artifact::{
    DigestRef, Outcome, ResolvedImage,
    deploy::{
        OnFailure, Reporter, Revision,
        run::{Ended, Intent, Run},
    },
};
use tokio::time::{Instant, sleep_until};

use super::{
    context::{HelmRevision, Release},
    error::HelmError,
    follow::{End, Followed},
    manifest::{ManifestContainer, parse_manifest},
    program::Program,
    rollback::{main_image, rollback_revision},
};
use crate::ending::Ending;

/// How often the state of a revision is read while another run changes it.
const POLL: Duration = Duration::from_secs(2);

/// How an operation of another run on a revision ended.
enum Settled {
    /// The revision is deployed.
    Deployed,
    /// The revision failed, with helm's description.
    Failed(String),
    /// A later revision exists.
    Superseded(u32),
    /// It has not ended before the deadline.
    Pending(String),
}

impl Release {
    /// Follows the operation in progress; if there is none, verifies the running digests.
    pub(super) async fn watch_release(
        &self,
        on_failure: OnFailure,
        reporter: &Reporter,
    ) -> Result<Outcome, HelmError> {
        let deadline = bp_artifact::time::deadline(self.options.deadline);
        let helm = self.program(None).await?;
        helm.check().await?;
        let history = self.history(&helm).await?;
        let last = history.last().ok_or_else(|| self.not_found())?.clone();
        let manifest = self.manifest(&helm, Some(last.revision)).await?;
        let all = parse_manifest(&manifest, "get manifest")?;
        let image = main_image(&all);
        let places: Vec<ManifestContainer> = all.into_iter().filter(|place| place.image == image).collect();
        let revision = Revision::new(last.revision.to_string(), image.as_str());
        let previous = match rollback_revision(&history).filter(|back| *back != last.revision) {
            Some(back) => Some(self.revision(&helm, back).await?),
            None => None,
        };
        let known = self.images.iter().find(|known| known.reference.to_string() == image).cloned();
        let image = known.or_else(|| Some(ResolvedImage::from(image.parse::<DigestRef>().ok()?)));
        let intent = Intent::restore(&revision).platforms_of(&self.images).current(Some(revision.clone()));
        let mut run = Run::planned(reporter, intent.previous(previous).changes(false));
        run.in_place(Some(revision.clone()));
        if last.status.starts_with("pending-") {
            run.applied(revision, format!("helm revision {}", last.revision), true);
        } else {
            run.notice(format!("no operation is in progress: revision {} is {}", last.revision, last.status));
        }
        let ending = self.watch_revision(&helm, &last, &places, image.as_ref(), &mut run, deadline).await?;
        let ending = match ending {
            Ending::Ended(Ended::FailedInPlace, why) if on_failure == OnFailure::RollBack => {
                self.roll_back_failed(&mut run, why, last.revision).await?
            }
            ending @ (Ending::Proven(..) | Ending::Ended(..)) => ending,
        };
        Ok(ending.close(run))
    }

    async fn watch_revision(
        &self,
        helm: &Program,
        last: &HelmRevision,
        places: &[ManifestContainer],
        image: Option<&ResolvedImage>,
        run: &mut Run,
        deadline: Instant,
    ) -> Result<Ending, HelmError> {
        let (mut settled, mut up) = (None, None);
        {
            let settles = self.settles(helm, last, deadline, run);
            tokio::pin!(settles);
            let follows = async {
                let Some(image) = image else { return Ok(End::Up(Vec::new(), None)) };
                // Of a failed revision, only the pods' digests are read.
                let places = if last.status == "failed" { &[] } else { places };
                let (running, hooks) = (None, None);
                let followed = Followed { program: helm, running, places, hooks, image, deadline };
                self.follow(followed, run).await
            };
            tokio::pin!(follows);
            while settled.is_none() || up.is_none() {
                tokio::select! {
                    ended = &mut settles, if settled.is_none() => match ended? {
                        Settled::Deployed => settled = Some(Settled::Deployed),
                        ended @ (Settled::Failed(_) | Settled::Superseded(_) | Settled::Pending(_)) => {
                            settled = Some(ended);
                            break;
                        }
                    },
                    end = &mut follows, if up.is_none() => match end? {
                        End::Up(outcomes, unseen) => up = Some(End::Up(outcomes, unseen)),
                        end @ (End::Failed(..) | End::Unobserved(_)) => {
                            up = Some(end);
                            break;
                        }
                    },
                }
            }
        }
        match (settled, up) {
            (_, Some(End::Unobserved(why))) => Ok(self.unobserved(run, &why)),
            (_, Some(End::Failed(Some(report), why))) => {
                run.failing(report);
                Ok(Ending::Ended(Ended::FailedInPlace, why))
            }
            (_, Some(End::Failed(None, why))) if Instant::now() >= deadline => {
                Ok(Ending::Ended(Ended::DeadlineExceeded, format!("the rollout continues: {why}")))
            }
            (_, Some(End::Failed(None, why))) => Ok(Ending::Ended(Ended::FailedInPlace, why)),
            (Some(Settled::Failed(why)), _) => {
                let report = self.evidence(&why, places, None, run).await;
                run.failing(report);
                Ok(Ending::Ended(Ended::FailedInPlace, format!("revision {} failed: {why}", last.revision)))
            }
            (Some(Settled::Superseded(later)), _) => {
                let detail = format!("revision {later} of the release was created meanwhile");
                Ok(Ending::Ended(Ended::Superseded, detail))
            }
            (Some(Settled::Pending(status)), _) => {
                let detail = format!(
                    "revision {} is still {status}; if the run that created it was killed, the next deployment recovers it",
                    last.revision
                );
                Ok(Ending::Ended(Ended::DeadlineExceeded, detail))
            }
            (_, Some(End::Up(outcomes, unseen))) => match image {
                Some(image) => self.proven(run, outcomes, unseen, helm, image).await,
                None => {
                    let detail =
                        "the release runs an image without a digest, which cannot be proven".to_owned();
                    Ok(Ending::Ended(Ended::Unproven, detail))
                }
            },
            (_, None) => Ok(Ending::Ended(Ended::Unproven, String::new())),
        }
    }

    /// Waits until no operation on the revision is in progress.
    async fn settles(
        &self,
        helm: &Program,
        last: &HelmRevision,
        deadline: Instant,
        run: &Reporter,
    ) -> Result<Settled, HelmError> {
        let mut now = last.clone();
        let mut why = None;
        loop {
            if now.revision > last.revision {
                return Ok(Settled::Superseded(now.revision));
            }
            if now.status == "failed" {
                return Ok(Settled::Failed(now.description));
            }
            if !now.status.starts_with("pending-") {
                return Ok(Settled::Deployed);
            }
            if Instant::now() >= deadline {
                let status = why
                    .map_or_else(|| now.status.clone(), |why| format!("{}, or unknown: {why}", now.status));
                return Ok(Settled::Pending(status));
            }
            tokio::select! {
                () = sleep_until(deadline.min(Instant::now() + POLL)) => {}
                () = run.cancelled() => return Err(self.interrupted()),
            }
            // What cannot be read is unknown, not failed.
            match self.history(helm).await {
                Ok(history) => {
                    why = None;
                    now = history.last().cloned().ok_or_else(|| self.not_found())?;
                }
                Err(error) => why = Some(bp_artifact::error::chain(&error)),
            }
        }
    }

    /// Rolls back a failed revision, unless the run that created it still holds the Lease: then that does it.
    async fn roll_back_failed(&self, run: &mut Run, why: String, number: u32) -> Result<Ending, HelmError> {
        let mut held = match self.acquire(run).await {
            Ok(held) => held,
            Err(HelmError::Busy { holder, .. }) => {
                let detail = format!("{why}; not rolled back here: {holder} holds the lease of the release");
                return Ok(Ending::Ended(Ended::FailedInPlace, detail));
            }
            Err(error) => return Err(error),
        };
        let mut validity = held.validity();
        let ended = tokio::select! {
            ended = async {
                let helm = self.program(Some(&held)).await?;
                self.roll_back(run, why, &helm, &mut held, number).await
            } => ended,
            lost = validity.lost() => {
                let detail = lost.unwrap_or_else(|| "another run acquired the lease of the release".to_owned());
                Ok(Ending::Ended(Ended::Unobserved, format!("the rollback was stopped: {detail}; rerun the same command")))
            }
        };
        held.release().await;
        ended
    }
}
