//! Preflight checks: permissions, node platforms, Secrets, ConfigMaps, service account and IAM role, without changes.

mod lookups;
mod permissions;
mod platform;
mod references;
mod role;
mod rollback;
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
    text::SingleLine,
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
    /// Returns the changes of deploying `image`, from a server-side dry run, and checks its requirements: permissions,
    /// node platforms, Secrets and ConfigMaps with their keys, the service account and its AWS role. Fields of other
    /// field managers are findings; they are denied unless [`Options::take_over`](crate::Options::take_over) is set.
    ///
    /// The platform of a manifest that is not an index is known only if [`ResolvedImage::platforms`] contains it (read
    /// from the image configuration); otherwise the finding is [`Unknown`](FindingState::Unknown).
    ///
    /// ```no_run
    /// # use bp_eks::{EksTarget, Error, preflight::Lookups};
    /// # use bp_artifact::ResolvedImage;
    /// # async fn run(web: EksTarget, eks: aws_sdk_eks::Client, image: ResolvedImage) -> Result<(), Error> {
    /// let found = web.preflight(&image, &Lookups::default().eks(eks)).await?;
    /// println!("{found}"); // INVALID: role …: its trust policy does not allow …
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The errors of [`deploy`](Self::deploy) before its first change, such as an unknown workload or container; and
    /// when the API server is unreachable. A lookup that fails is a finding, not an error.
    ///
    /// # Permissions
    /// RBAC: `get` on the workload's resource, and `patch` for the dry run. Optional, without them the finding is
    /// unknown: `list` on `nodes` (cluster-wide), `get` on `secrets`, `configmaps` and `serviceaccounts`. Every
    /// authenticated user may create access reviews. With the AWS lookups: `eks:ListPodIdentityAssociations`,
    /// `eks:DescribePodIdentityAssociation`, and with the feature `iam` also `eks:DescribeCluster` and `iam:GetRole`.
    ///
    /// # Cancel safety
    /// Cancel safe: it changes nothing.
    #[tracing::instrument(
        name = "eks_preflight",
        skip_all,
        fields(target_id = %SingleLine(&self.0.id), image = %image.reference)
    )]
    pub async fn preflight(&self, image: &ResolvedImage, lookups: &Lookups) -> Result<Preflight, Error> {
        self.0.preflight(image, lookups).await
    }

    /// Checks whether the Secrets and ConfigMaps exist to which the workload's pod template refers, with their keys.
    /// Optional references do not count.
    ///
    /// # Errors
    /// When the workload cannot be read. A lookup that fails is a finding, not an error.
    ///
    /// # Permissions
    /// RBAC: `get` on the workload's resource. Optional, without them the finding is unknown: `get` on `secrets` and
    /// `configmaps`.
    ///
    /// # Cancel safety
    /// Cancel safe: it changes nothing.
    pub async fn check_references(&self) -> Result<Vec<Finding>, Error> {
        let live = self.0.api.workload().await?;
        Ok(self.0.api.references(live.template()).await)
    }
}

impl WorkloadRollout {
    async fn preflight(&self, image: &ResolvedImage, lookups: &Lookups) -> Result<Preflight, Error> {
        let mut findings = self.api.permissions().await?;
        let is_denied = findings.iter().any(|finding| finding.state == FindingState::Denied);
        let live = match self.api.workload().await {
            Ok(live) => live,
            // The findings list each denied verb already.
            Err(Error::Forbidden { .. }) if is_denied => {
                return Ok(Preflight::new(self.id.clone(), findings));
            }
            Err(error) => return Err(error),
        };
        let slot = self.slot(&live)?;
        findings.push(self.api.platform(&live, image).await);
        findings.extend(self.api.references(live.template()).await);
        findings.extend(self.api.service_account(&live, lookups).await);
        let mut changes = Vec::new();
        if !is_denied {
            changes = self.dry_run(&live, &slot, image, &mut findings).await?;
        }
        Ok(Preflight::new(self.id.clone(), findings).changes(changes))
    }

    /// The changes and findings of a dry run.
    async fn dry_run(
        &self,
        live: &Live,
        slot: &Slot,
        image: &ResolvedImage,
        findings: &mut Vec<Finding>,
    ) -> Result<Vec<Change>, Error> {
        match self.plan_image(live, slot, &image.reference.to_string()).await {
            Ok(Plan { changes, conflicts }) => {
                findings.extend(conflicts.iter().map(|conflict| self.owned(conflict)));
                Ok(changes)
            }
            Err(Error::AdmissionRefused { object, source }) => {
                let state = if is_unsupported(&source.to_string()) {
                    FindingState::Unknown
                } else {
                    FindingState::Denied
                };
                let message = format!("the API server refused the change: {}", chain(&*source));
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

    /// The finding for a field of another field manager.
    fn owned(&self, conflict: &Conflict) -> Finding {
        let Conflict { manager, field } = conflict;
        let subject = format!("field {field}");
        if is_ours(manager) || self.options.take_over {
            let message = format!("will be taken over from the field manager {manager:?}");
            return Finding::new(subject, FindingState::Warning, message);
        }
        let message =
            format!("is owned by the field manager {manager:?}; remove it there, or set --take-over");
        Finding::new(subject, FindingState::Denied, message)
    }
}

/// Whether only the dry run fails, because a webhook does not support it.
fn is_unsupported(message: &str) -> bool {
    message.contains("does not support dry run")
}
