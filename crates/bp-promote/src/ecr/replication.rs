//! Replication between registries of Amazon ECR.

use std::{collections::BTreeMap, fmt};

use aws_sdk_ecr::{
    error::ProvideErrorMetadata as _,
    types::{ImageIdentifier, ReplicationRule, ReplicationStatus, RepositoryFilterType},
};
use bp_artifact::{
    Registry, Repository,
    aws::AwsError,
    error::chain,
    text::{single_line, truncate},
    time::{self, Wait},
};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::{RegistryClient, content::Reference};

/// What the replication of Amazon ECR has done with an image.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Replication {
    /// No rule copies the repository to this destination under the same name.
    NotConfigured,
    /// The image is at the destination.
    Complete,
    /// It is being copied.
    InProgress,
    /// A rule exists, but the image was not replicated: it was pushed before the rule existed.
    NotReplicated,
    /// It could not be copied.
    Failed {
        /// ECR's code.
        code: String,
    },
    /// The rules or the status could not be read.
    Unknown {
        /// Why.
        reason: String,
    },
}

impl Replication {
    /// Whether the status may still change by itself.
    fn is_open(&self) -> bool {
        match self {
            Replication::InProgress => true,
            Replication::NotConfigured
            | Replication::Complete
            | Replication::NotReplicated
            | Replication::Failed { .. }
            | Replication::Unknown { .. } => false,
        }
    }
}

impl fmt::Display for Replication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Replication::NotConfigured => f.write_str("no replication rule copies it"),
            Replication::Complete => f.write_str("replication is complete"),
            Replication::InProgress => f.write_str("replication is still in progress"),
            Replication::NotReplicated => {
                f.write_str("it was not replicated: it was pushed before the rule existed")
            }
            Replication::Failed { code } => write!(f, "replication failed ({code})"),
            Replication::Unknown { reason } => write!(f, "whether it was replicated is unknown: {reason}"),
        }
    }
}

/// Waits until Amazon ECR has replicated an image from `from` to `to`, and returns the result at the latest when `wait`
/// is over. A copy afterwards completes what replication has not done, and changes nothing if it is complete.
///
/// Returns at once if no rule of the source registry copies the repository there.
///
/// # Permissions
/// `ecr:DescribeRegistry` and `ecr:DescribeImageReplicationStatus` on the source registry.
///
/// # Cancel safety
/// Reads only.
#[tracing::instrument(name = "await_replication", skip_all, fields(%from, %image, %to))]
pub async fn await_replication(
    client: &RegistryClient,
    from: &Repository,
    image: &Reference,
    to: &Repository,
    wait: Wait,
) -> Replication {
    let deadline = time::deadline(wait.deadline());
    let over = || Replication::Unknown { reason: "ECR did not respond in time".to_owned() };
    let mut rules = Rules::default();
    match timeout_at(deadline, rules.cover(client, from, to)).await {
        Ok(Ok(true)) => {}
        Ok(Ok(false)) => return Replication::NotConfigured,
        Ok(Err(error)) => return unknown("ecr:DescribeRegistry", &error),
        Err(_) => return over(),
    }
    // The status of an image that was just pushed may not exist yet.
    let mut is_first = true;
    let mut last = None;
    loop {
        match timeout_at(deadline, status(client, from, image, to)).await {
            Ok(Ok(Replication::NotReplicated)) if is_first => last = Some(Replication::NotReplicated),
            Ok(Ok(found)) if found.is_open() => last = Some(found),
            Ok(Ok(found)) => return found,
            Ok(Err(error)) if error.kind().is_retryable() => last = Some(unknown(STATUS, &error)),
            Ok(Err(error)) => return unknown(STATUS, &error),
            Err(_) => return last.unwrap_or_else(over),
        }
        is_first = false;
        let next = time::deadline(wait.pause()).min(deadline);
        sleep_until(next).await;
        if Instant::now() >= deadline {
            return last.unwrap_or_else(over);
        }
    }
}

/// The replication rules of source registries, each read once.
#[derive(Default)]
pub(super) struct Rules(BTreeMap<String, Vec<ReplicationRule>>);

impl Rules {
    /// Whether a rule copies the repository to a registry of Amazon ECR. Replication keeps the repository's name.
    pub(super) async fn cover(
        &mut self,
        client: &RegistryClient,
        from: &Repository,
        to: &Repository,
    ) -> Result<bool, AwsError> {
        let (Some((account, _)), Some(destination)) = (from.registry().ecr(), to.registry().ecr()) else {
            return Ok(false);
        };
        if from.path() != to.path() || from.registry() == to.registry() {
            return Ok(false);
        }
        let Some(rules) = self.of(client, from.registry(), account).await? else { return Ok(false) };
        Ok(rules.iter().any(|rule| covers(rule, destination, from.path())))
    }

    /// `None` if the registry has no client.
    async fn of(
        &mut self,
        client: &RegistryClient,
        registry: &Registry,
        account: &str,
    ) -> Result<Option<&[ReplicationRule]>, AwsError> {
        if !self.0.contains_key(registry.as_str()) {
            let Some(ecr) = client.ecr_client(registry) else { return Ok(None) };
            let answer = ecr.describe_registry().send().await.map_err(|error| AwsError::of(&error))?;
            // The API describes the registry of the caller's account.
            let is_asked = answer.registry_id().is_none_or(|id| id == account);
            let rules = answer.replication_configuration.map(|configuration| configuration.rules);
            self.0.insert(registry.to_string(), rules.filter(|_| is_asked).unwrap_or_default());
        }
        Ok(self.0.get(registry.as_str()).map(Vec::as_slice))
    }
}

/// Whether the rule copies the repository to the account and region.
fn covers(rule: &ReplicationRule, (account, region): (&str, &str), path: &str) -> bool {
    let mut destinations = rule.destinations().iter();
    let filters = rule.repository_filters();
    let is_prefix = |filter: &aws_sdk_ecr::types::RepositoryFilter| {
        filter.filter_type() == &RepositoryFilterType::PrefixMatch && path.starts_with(filter.filter())
    };
    destinations.any(|to| to.registry_id() == account && to.region() == region)
        && (filters.is_empty() || filters.iter().any(is_prefix))
}

pub(super) const STATUS: &str = "ecr:DescribeImageReplicationStatus";

/// The status of an image whose repository a rule covers.
pub(super) async fn status(
    client: &RegistryClient,
    from: &Repository,
    image: &Reference,
    to: &Repository,
) -> Result<Replication, AwsError> {
    let (Some(ecr), Some((account, _)), Some((to_account, to_region))) =
        (client.ecr_client(from.registry()), from.registry().ecr(), to.registry().ecr())
    else {
        return Ok(Replication::NotConfigured);
    };
    let id = ImageIdentifier::builder();
    let id = match image {
        Reference::Tag(tag) => id.image_tag(tag.as_str()),
        Reference::Digest(digest) => id.image_digest(digest.as_str()),
    };
    let call = ecr.describe_image_replication_status().registry_id(account).repository_name(from.path());
    let answer = match call.image_id(id.build()).send().await {
        Ok(answer) => answer,
        // The copy reports it.
        Err(error) if error.code() == Some("ImageNotFoundException") => {
            return Ok(Replication::NotReplicated);
        }
        Err(error) => return Err(AwsError::of(&error)),
    };
    let mut statuses = answer.replication_statuses().iter();
    let ours = statuses.find(|status| {
        status.region() == Some(to_region) && status.registry_id().is_none_or(|id| id == to_account)
    });
    let Some(ours) = ours else { return Ok(Replication::NotReplicated) };
    Ok(match ours.status() {
        Some(ReplicationStatus::Complete) => Replication::Complete,
        Some(ReplicationStatus::InProgress) => Replication::InProgress,
        Some(ReplicationStatus::Failed) => {
            let code = single_line(ours.failure_code().unwrap_or("no code"));
            Replication::Failed { code: truncate(&code, 200).into_owned() }
        }
        Some(other) => Replication::Unknown {
            reason: format!("the status {} is unknown to this version", single_line(other.as_str())),
        },
        None => Replication::Unknown { reason: "ECR returned no status".to_owned() },
    })
}

pub(super) fn unknown(action: &str, error: &AwsError) -> Replication {
    let reason = format!("{action} failed: {}", single_line(&chain(error)));
    Replication::Unknown { reason: truncate(&reason, 500).into_owned() }
}

#[cfg(test)]
mod tests {
    use aws_sdk_ecr::types::{ReplicationDestination, RepositoryFilter};

    use super::*;

    #[test]
    fn a_rule_covers_its_destinations_and_prefixes() {
        let rule = |prefixes: &[&str]| {
            let to = ReplicationDestination::builder().region("us-east-1").registry_id("222222222222");
            let filter = |prefix: &&str| {
                RepositoryFilter::builder()
                    .filter(*prefix)
                    .filter_type(RepositoryFilterType::PrefixMatch)
                    .build()
                    .unwrap()
            };
            let rule = ReplicationRule::builder().destinations(to.build().unwrap());
            rule.set_repository_filters(Some(prefixes.iter().map(filter).collect())).build().unwrap()
        };
        let there = ("222222222222", "us-east-1");
        for (prefixes, to, is_covered) in [
            (&[][..], there, true),
            (&["shop/"], there, true),
            (&["tools/", "sho"], there, true),
            (&["tools/"], there, false),
            (&[], ("222222222222", "us-east-2"), false),
            (&[], ("111111111111", "us-east-1"), false),
        ] {
            assert_eq!(covers(&rule(prefixes), to, "shop/web"), is_covered, "{prefixes:?} {to:?}");
        }
    }
}
