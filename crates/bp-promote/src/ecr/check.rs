//! Checks of a plan: what the registry would refuse, create or do by itself.

use std::collections::BTreeSet;

use aws_sdk_ecr::{Client, error::ProvideErrorMetadata, types::RctAppliedFor};
use bp_artifact::{
    Digest, Repository, Tag,
    aws::AwsError,
    deploy::preflight::{Finding, FindingState},
    error::chain,
    text::{SingleLine, single_line, truncate},
};

use super::{
    mutability::Mutability,
    replication::{Replication, Rules, STATUS, status, unknown},
};
use crate::{
    RegistryClient,
    content::Reference,
    copy::{CopyOutcome, CopyPlan, RunPlan},
};

/// Checks the plan of a copy to repositories of Amazon ECR with ECR's API, and returns what was found:
/// - a repository that does not exist, and whether a creation template lets the push create it;
/// - a tag that the copy would move although it is immutable, and signature tags that could not be merged later;
/// - a replication rule of the source registry that copies the same images by itself, and how far it is.
///
/// A lookup that fails is a finding of the state [unknown](FindingState::Unknown).
///
/// # Permissions
/// `ecr:DescribeRepositories` on the destination repositories, `ecr:DescribeRepositoryCreationTemplates` if one does not
/// exist; between two registries of Amazon ECR also `ecr:DescribeRegistry` and `ecr:DescribeImageReplicationStatus` on
/// the source.
///
/// # Cancel safety
/// Reads only.
#[tracing::instrument(name = "check_ecr", skip_all, fields(images = plan.images.len()))]
pub async fn check(client: &RegistryClient, plan: &RunPlan) -> Vec<Finding> {
    let mut findings = Vec::new();
    let destinations: BTreeSet<&str> = plan.images.iter().map(|image| image.destination.as_str()).collect();
    for destination in destinations {
        let Some(checked) = Checked::new(client, destination) else { continue };
        let images: Vec<&CopyPlan> =
            plan.images.iter().filter(|image| image.destination == destination).collect();
        findings.extend(checked.repository(&images).await);
    }
    findings.extend(replicated(client, plan).await);
    findings
}

/// A destination repository of Amazon ECR.
struct Checked<'a> {
    client: &'a Client,
    repository: Repository,
    account: String,
}

impl<'a> Checked<'a> {
    /// `None` for a destination that is not a repository of Amazon ECR, or has no client.
    fn new(client: &'a RegistryClient, destination: &str) -> Option<Self> {
        let repository: Repository = destination.parse().ok()?;
        let account = repository.registry().ecr()?.0.to_owned();
        let client = client.ecr_client(repository.registry())?;
        Some(Checked { client, repository, account })
    }

    fn finding(&self, state: FindingState, message: String) -> Finding {
        Finding::new(format!("repository {}", self.repository), state, message)
    }

    async fn repository(&self, images: &[&CopyPlan]) -> Vec<Finding> {
        let call = self.client.describe_repositories().registry_id(&self.account);
        match call.repository_names(self.repository.path()).send().await {
            Ok(answer) => match answer.repositories().first() {
                Some(found) => self.tags(
                    images,
                    Mutability::of(
                        found.image_tag_mutability(),
                        found.image_tag_mutability_exclusion_filters(),
                    ),
                ),
                None => vec![self.finding(FindingState::Unknown, "ECR did not describe it".to_owned())],
            },
            Err(error) if error.code() == Some("RepositoryNotFoundException") => {
                vec![self.template().await]
            }
            Err(error) => vec![self.unknown("ecr:DescribeRepositories", &AwsError::of(&error))],
        }
    }

    fn unknown(&self, action: &str, error: &AwsError) -> Finding {
        let message = format!("{action} failed: {}", truncate(&single_line(&chain(error)), 500));
        self.finding(FindingState::Unknown, message)
    }

    /// Whether a push creates the repository.
    async fn template(&self) -> Finding {
        let mut templates = Vec::new();
        let call = self.client.describe_repository_creation_templates();
        let mut pages = call.into_paginator().send();
        while let Some(page) = pages.next().await {
            match page {
                // The API describes the registry of the caller's account.
                Ok(page) if page.registry_id().is_some_and(|id| id != self.account) => {
                    let message = format!(
                        "it does not exist; whether a push creates it is unknown, because the credentials belong to \
                         account {}",
                        single_line(page.registry_id().unwrap_or_default())
                    );
                    return self.finding(FindingState::Unknown, message);
                }
                Ok(page) => templates.extend(page.repository_creation_templates.unwrap_or_default()),
                Err(error) => {
                    let action = "it does not exist; ecr:DescribeRepositoryCreationTemplates";
                    return self.unknown(action, &AwsError::of(&error));
                }
            }
            if templates.len() > MAX_TEMPLATES {
                break;
            }
        }
        templates.retain(|template| template.applied_for().contains(&RctAppliedFor::CreateOnPush));
        let prefixes = templates.iter().map(|template| template.prefix().unwrap_or_default());
        match covering(prefixes, self.repository.path()).and_then(|at| templates.get(at)) {
            Some(template) => {
                let tags = Mutability::of(
                    template.image_tag_mutability(),
                    template.image_tag_mutability_exclusion_filters(),
                );
                let tags = tags.map_or_else(String::new, |tags| format!("; {tags}"));
                let prefix = single_line(template.prefix().unwrap_or_default());
                let message =
                    format!("it does not exist; the push creates it from the creation template {prefix}{tags}");
                self.finding(FindingState::Present, message)
            }
            None => self.finding(
                FindingState::Missing,
                "it does not exist, and no creation template for pushes (CREATE_ON_PUSH) has a prefix of its name: \
                 create the repository, or such a template"
                    .to_owned(),
            ),
        }
    }

    /// Whether the tags of the planned images can be set.
    fn tags(&self, images: &[&CopyPlan], mutability: Option<Mutability>) -> Vec<Finding> {
        let Some(mutability) = mutability else {
            let message = "its tag mutability is unknown to this version".to_owned();
            return vec![self.finding(FindingState::Unknown, message)];
        };
        if mutability.is_mutable() {
            return Vec::new();
        }
        let mut findings = vec![self.finding(FindingState::Present, mutability.to_string())];
        let tag = |image: &CopyPlan| image.reference.parse::<Tag>().ok();
        for image in images.iter().filter(|image| image.outcome != CopyOutcome::Unchanged) {
            if let (Some(tag), Some(found)) = (tag(image), &image.found)
                && mutability.is_immutable(tag.as_str())
            {
                let message = format!(
                    "it is immutable and points to {found}, so that it cannot be moved to {}: copy under another \
                     tag, or exclude it from immutability with a tag filter",
                    image.digest
                );
                let subject = format!("tag {tag} of {}", self.repository);
                findings.push(Finding::new(subject, FindingState::Denied, message));
            }
        }
        let signed = images.iter().find(|image| image.referrers.is_some()).map(|image| &image.digest);
        if signed.is_some_and(|digest| mutability.is_immutable(&signature_tag(digest))) {
            findings.push(self.finding(
                FindingState::Warning,
                "its signature tags (sha256-<digest>.sig, .att) are immutable: signatures that are added to the \
                 source later cannot be merged into them; exclude sha256-* from immutability with a tag filter"
                    .to_owned(),
            ));
        }
        findings
    }
}

/// More templates than a registry may have.
const MAX_TEMPLATES: usize = 1_000;

/// The cosign tag of an image's signatures.
fn signature_tag(digest: &Digest) -> String {
    format!("{}.sig", digest.as_str().replace(':', "-"))
}

/// The longest of the prefixes that cover the repository; `ROOT` covers those without one. A prefix ends with a path
/// component.
fn covering<'a>(prefixes: impl Iterator<Item = &'a str>, path: &str) -> Option<usize> {
    let (mut longest, mut root) = (None, None);
    for (at, prefix) in prefixes.enumerate() {
        let is_below =
            path.strip_prefix(prefix.trim_end_matches('/')).is_some_and(|rest| rest.starts_with('/'));
        match prefix {
            "" => {}
            "ROOT" => root = Some(at),
            _ if is_below && longest.is_none_or(|(length, _)| length < prefix.len()) => {
                longest = Some((prefix.len(), at));
            }
            _ => {}
        }
    }
    longest.map(|(_, at)| at).or(root)
}

/// The number of images whose replication status is requested.
const MAX_STATUSES: usize = 100;

/// The images that replication copies by itself.
async fn replicated(client: &RegistryClient, plan: &RunPlan) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut rules = Rules::default();
    let changed = plan.images.iter().filter(|image| image.outcome != CopyOutcome::Unchanged);
    for image in changed.take(MAX_STATUSES) {
        let (Ok(from), Ok(to)) =
            (image.source.parse::<Repository>(), image.destination.parse::<Repository>())
        else {
            continue;
        };
        let subject = format!("replication of {} to {to}", from.at(image.digest.clone()));
        match rules.cover(client, &from, &to).await {
            Ok(false) => continue,
            Ok(true) => {}
            Err(error) => {
                tracing::debug!(error = %SingleLine(&error), %from, "failed to read the replication rules");
                let message = format!("ecr:DescribeRegistry failed: {}", single_line(&chain(&error)));
                findings.push(Finding::new(subject, FindingState::Unknown, message));
                continue;
            }
        }
        let reference =
            Reference::Digest(image.selected_from.clone().unwrap_or_else(|| image.digest.clone()));
        let found = match status(client, &from, &reference, &to).await {
            Ok(found) => found,
            Err(error) => unknown(STATUS, &error),
        };
        let tags = "a rule of the source registry copies this repository under the same tags";
        let (state, message) = match found {
            Replication::NotConfigured => continue,
            Replication::Complete => (FindingState::Present, format!("{tags}; it is complete")),
            Replication::InProgress => (
                FindingState::Present,
                format!("{tags}; it is in progress: wait for it with --await-replication instead of copying"),
            ),
            Replication::NotReplicated => (
                FindingState::Present,
                format!("{tags}, but not this image, which was pushed before: this copy does it"),
            ),
            Replication::Failed { code } => {
                (FindingState::Warning, format!("{tags}; it failed ({code}): this copy does it"))
            }
            Replication::Unknown { reason } => (FindingState::Unknown, format!("{tags}; {reason}")),
        };
        findings.push(Finding::new(subject, state, message));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_of_whole_components_covers_a_repository() {
        for (prefixes, path, found) in [
            (&["prod", "prod/team", "ROOT"][..], "prod/team/web", Some(1)),
            (&["prod", "prod/team", "ROOT"], "prod/web", Some(0)),
            (&["prod", "prod/team", "ROOT"], "shop/web", Some(2)),
            (&["prod"], "production/web", None),
            (&["prod"], "prod", None),
            (&["prod/"], "prod/web", Some(0)),
            (&["", "/"], "prod/web", None),
            (&[], "prod/web", None),
        ] {
            assert_eq!(covering(prefixes.iter().copied(), path), found, "{prefixes:?} {path}");
        }
    }
}
