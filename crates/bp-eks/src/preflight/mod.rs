//! Preflight: what a deployment needs, looked up before anything is changed.

mod lookups;
mod permissions;
mod platform;
mod references;
mod role;
mod service_account;
#[cfg(feature = "iam")]
mod trust;

use bp_artifact::{
    ResolvedImage,
    deploy::{
        Cause, Change,
        preflight::{Finding, FindingState, Preflight},
    },
    error::chain,
};

pub use lookups::Lookups;

use crate::{
    api::manager::is_ours,
    error::{Conflict, Error},
    rollout::{WorkloadRollout, plan::Plan},
    target::EksTarget,
    workload::{Live, template::Slot},
};

impl EksTarget {
    /// What deploying `image` would change, as the API server answers to a dry run, and whether what it needs is there:
    /// permissions, nodes of a platform of the image, secrets, config maps and their keys, the service account and its AWS
    /// role. Fields that others own are findings, and refused unless [`Options::take_over`](crate::Options::take_over) is set.
    ///
    /// Of a manifest that is not an index the platform has to be in [`ResolvedImage::platforms`], read from its
    /// configuration; where it is not, the finding is [`Unknown`](FindingState::Unknown).
    ///
    /// ```no_run
    /// # use bp_eks::{EksTarget, Error, preflight::Lookups};
    /// # async fn run(web: EksTarget, eks: aws_sdk_eks::Client, image: bp_artifact::ResolvedImage) -> Result<(), Error> {
    /// let found = web.preflight(&image, &Lookups::default().eks(eks)).await?;
    /// println!("{found}"); // INVALID: role …: its trust policy does not allow …
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// What [`deploy`](Self::deploy) would refuse before its first change, as an unknown workload or container; and when the
    /// cluster cannot be asked. A lookup that fails is a finding, not an error.
    ///
    /// # Permissions
    /// RBAC: `get` on the workload's resource, and `patch` for the dry run. What may not be looked at is a finding that is
    /// not known: `list` on `nodes` (cluster-wide), `get` on `secrets`, `configmaps` and `serviceaccounts`. Everybody may ask
    /// for access reviews. Of the lookups that are given: `eks:ListPodIdentityAssociations`,
    /// `eks:DescribePodIdentityAssociation`, and with the feature `iam` also `eks:DescribeCluster` and `iam:GetRole`.
    ///
    /// # Cancel safety
    /// Cancel safe: it changes nothing.
    pub async fn preflight(&self, image: &ResolvedImage, lookups: &Lookups) -> Result<Preflight, Error> {
        self.0.preflight(image, lookups).await
    }
}

impl WorkloadRollout {
    async fn preflight(&self, image: &ResolvedImage, lookups: &Lookups) -> Result<Preflight, Error> {
        let mut findings = self.api.permissions().await?;
        let is_denied = findings.iter().any(|finding| finding.state == FindingState::Denied);
        let live = match self.api.workload().await {
            Ok(live) => live,
            // The findings say so already, for each verb.
            Err(Error::Forbidden { .. }) if is_denied => {
                return Ok(Preflight::new(self.id.clone(), findings));
            }
            Err(error) => return Err(error),
        };
        let slot = self.slot(&live)?;
        findings.push(self.api.platform(&live, image).await);
        findings.extend(self.api.references(&live).await);
        findings.extend(self.api.service_account(&live, lookups).await);
        let mut changes = Vec::new();
        if !is_denied {
            changes = self.dry_run(&live, &slot, image, &mut findings).await?;
        }
        Ok(Preflight::new(self.id.clone(), findings).changes(changes))
    }

    /// What the API server says to the change.
    async fn dry_run(
        &self,
        live: &Live,
        slot: &Slot,
        image: &ResolvedImage,
        findings: &mut Vec<Finding>,
    ) -> Result<Vec<Change>, Error> {
        match self.plan(live, slot, &image.reference.to_string()).await {
            Ok(Plan { changes, conflicts }) => {
                findings.extend(conflicts.iter().map(|conflict| self.owned(conflict)));
                Ok(changes)
            }
            Err(Error::AdmissionRefused { object, source }) => {
                let state = match is_unsupported(&source.to_string()) {
                    true => FindingState::Unknown,
                    false => FindingState::Denied,
                };
                let message = format!("the API server refuses the change: {}", chain(&*source));
                findings
                    .push(Finding::new(object.to_string(), state, message).cause(Cause::AdmissionRefused));
                Ok(Vec::new())
            }
            Err(error @ Error::WebhookUnavailable { .. }) => {
                let finding =
                    Finding::new(self.api.object().to_string(), FindingState::Unknown, chain(&error));
                findings.push(finding.cause(Cause::AdmissionRefused));
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }

    /// A field of our change that has another owner.
    fn owned(&self, conflict: &Conflict) -> Finding {
        let Conflict { manager, field } = conflict;
        let subject = format!("field {field}");
        if is_ours(manager) || self.options.take_over {
            let message = format!("will be taken over from the field manager {manager:?}");
            return Finding::new(subject, FindingState::Warning, message);
        }
        let message =
            format!("belongs to the field manager {manager:?}: release it there, or allow --take-over");
        Finding::new(subject, FindingState::Denied, message)
    }
}

/// Whether a webhook stands in the way of dry runs alone.
fn is_unsupported(message: &str) -> bool {
    message.contains("does not support dry run")
}
