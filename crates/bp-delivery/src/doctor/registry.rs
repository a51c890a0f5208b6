//! Registries: reachable, with a login, and with the repositories of all services.

use std::collections::BTreeSet;

use bp_artifact::{
    Registry, Repository,
    aws::{AwsError, AwsErrorKind},
    config::EnvironmentConfig,
};
use bp_promote::{
    registry::{DockerConfig, EcrClients},
    retry::RetryPolicy,
};
use futures_util::future::join_all;

use super::{
    access::of_aws,
    checks::Doctor,
    row::{Row, State},
};
use crate::{Clients, Failure};

/// The row of the registry itself.
const CHECK: &str = "registry";

/// A tag that is asked for to learn whether reading is allowed; whether it exists makes no difference.
const ANY_TAG: &str = "bp-doctor";

impl Doctor {
    pub(super) async fn registry(&self, environment: &EnvironmentConfig, clients: &Clients) -> Vec<Row> {
        let registry = environment.registry();
        let mut rows = vec![self.row(CHECK, login(registry, clients)).await];
        if registry.ecr().is_none() {
            return rows;
        }
        let repositories: BTreeSet<&Repository> =
            environment.services().iter().map(|service| &service.repository).collect();
        let reads = repositories.iter().map(|repository| {
            let check = format!("repository {}", repository.path());
            async move { self.row(&check.clone(), read(check, repository, clients)).await }
        });
        rows.extend(join_all(reads).await);
        let check = "pull-through caches";
        rows.push(self.row(check, caches(check, registry, clients)).await);
        let detail = "ecr:PutImage and the uploads of promote: AWS has no dry run for them";
        rows.push(
            Row::new("registry writes", State::NotTried, detail)
                .remedy("compare the policy of the role with docs/iam/promote-destination.json"),
        );
        rows
    }
}

/// Signs in to the registry itself.
async fn login(registry: &Registry, clients: &Clients) -> Row {
    let is_ecr = registry.ecr().is_some();
    let build = || -> Result<_, Failure> {
        let builder = clients.endpoints().registries()?.retry(RetryPolicy::new(1));
        let builder = if is_ecr {
            builder.ecr(EcrClients::new().with(registry.clone(), clients.ecr(registry)))
        } else {
            builder.credentials(DockerConfig)
        };
        Ok(builder.build()?)
    };
    let client = match build() {
        Ok(client) => client,
        Err(failure) => return Row::of_failure(CHECK, &failure, "correct BP_REGISTRY_ENDPOINTS"),
    };
    let remedy = if is_ecr {
        "allow ecr:GetAuthorizationToken (docs/iam/promote-destination.json)"
    } else {
        "log in: login HOST --username NAME --password-stdin"
    };
    match client.check_login(registry).await {
        Ok(true) => Row::ok(CHECK, format!("{registry}: reachable, login accepted")),
        Ok(false) => Row::ok(CHECK, format!("{registry}: reachable, without a login")),
        Err(error) => Row::of_error(CHECK, &error, remedy),
    }
}

/// Reads from the repository.
async fn read(check: String, repository: &Repository, clients: &Clients) -> Row {
    let Some((account, _)) = repository.registry().ecr() else { return Row::ok(check, "") };
    let any = aws_sdk_ecr::types::ImageIdentifier::builder().image_tag(ANY_TAG).build();
    let answer = clients
        .ecr(repository.registry())
        .batch_get_image()
        .registry_id(account)
        .repository_name(repository.path())
        .image_ids(any)
        .send()
        .await;
    let Err(error) = answer else { return Row::ok(check, "exists, reading is allowed") };
    let error = AwsError::of(&error);
    match (error.code(), error.kind()) {
        (Some("RepositoryNotFoundException"), _) => Row::new(&check, State::Failed, error.to_string())
            .remedy("create the repository, or correct project.repository or repository of the environment"),
        (_, AwsErrorKind::Denied) => {
            of_aws(&check, &error, "allow ecr:BatchGetImage (docs/iam/resolve.json)")
        }
        _ => of_aws(&check, &error, "correct the repository or the policy of the role"),
    }
}

/// Whether tags can be distinguished from those of a cache.
async fn caches(check: &str, registry: &Registry, clients: &Clients) -> Row {
    let answer = clients.ecr(registry).describe_pull_through_cache_rules().send().await;
    let Err(error) = answer else { return Row::ok(check, "readable") };
    let error = AwsError::of(&error);
    let row = of_aws(check, &error, "allow ecr:DescribePullThroughCacheRules (docs/iam/resolve.json)");
    match error.kind() {
        // Digests are deployed without it.
        AwsErrorKind::Denied => Row { state: State::Warning, ..row },
        _ => row,
    }
}
