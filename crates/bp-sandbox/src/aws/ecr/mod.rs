//! Model of the Amazon ECR API, backed by the sandbox's registries: `<account>.dkr.ecr.<region>.amazonaws.com`.

mod caches;
mod images;
mod layers;
mod lifecycle;
mod replication;
mod repositories;
mod request;
mod storage_class;
mod templates;

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::json;

use self::request::{host, seconds, strings};
use super::{
    context::Context,
    wire::{Answer, Call},
};

/// How long a registry password is valid.
const TOKEN_LIFETIME: Duration = Duration::from_secs(12 * 3600);

/// The service. Its state is in the registries, except for pull-through cache rules, lifecycle policies, creation
/// templates and the configuration of replication.
#[derive(Debug, Default)]
pub(super) struct Ecr {
    caches: caches::Rules,
    policies: lifecycle::Policies,
    replication: replication::Replication,
    templates: templates::Templates,
}

impl Ecr {
    pub(super) fn call(&self, context: &Context, call: &Call) -> Answer {
        match call.operation.as_str() {
            "GetAuthorizationToken" => authorization_token(context, call),
            "CreateRepository" => repositories::create(context, call),
            "DescribeRepositories" => repositories::describe(context, call),
            "DeleteRepository" => repositories::delete(context, call),
            "PutImageTagMutability" => repositories::put_mutability(context, call),
            "BatchGetImage" => images::batch_get(context, call),
            "BatchDeleteImage" => images::batch_delete(context, call),
            "DescribeImages" => images::describe(context, call),
            "ListImages" => images::list(context, call),
            "PutImage" => images::put(context, call),
            "UpdateImageStorageClass" => images::update_storage_class(context, call),
            "PutLifecyclePolicy" => self.policies.put(context, call),
            "GetLifecyclePolicy" => self.policies.get(context, call),
            "DeleteLifecyclePolicy" => self.policies.delete(context, call),
            "StartLifecyclePolicyPreview" => self.policies.start_preview(context, call),
            "GetLifecyclePolicyPreview" => self.policies.get_preview(context, call),
            "CreatePullThroughCacheRule" => self.caches.create(call, context.clock.now()),
            "DescribePullThroughCacheRules" => self.caches.describe(call),
            "CreateRepositoryCreationTemplate" => self.templates.create(context, call, context.clock.now()),
            "DescribeRepositoryCreationTemplates" => self.templates.describe(call),
            "DeleteRepositoryCreationTemplate" => self.templates.delete(context, call),
            "PutReplicationConfiguration" => self.replication.put(context, call),
            "DescribeRegistry" => self.replication.describe(call),
            "DescribeImageReplicationStatus" => replication::status(context, call),
            "BatchCheckLayerAvailability" => images::check_layers(context, call),
            "InitiateLayerUpload" => layers::initiate(context, call),
            "UploadLayerPart" => layers::upload_part(context, call),
            "CompleteLayerUpload" => layers::complete(context, call),
            _ => Err(call.unknown()),
        }
    }
}

/// A password for user `AWS`, valid for every registry in the region; IAM decides what the caller may do there.
fn authorization_token(context: &Context, call: &Call) -> Answer {
    let password = format!("sandbox-{:032x}{:032x}", fastrand::u128(..), fastrand::u128(..));
    let until = context.clock.now() + TOKEN_LIFETIME;
    for registry in context.runtime.registries() {
        if is_in(registry.host(), &call.region) {
            registry.accept_password(&password, until);
        }
    }
    let token = BASE64_STANDARD.encode(format!("AWS:{password}"));
    let requested: Vec<&str> = strings(&call.input["registryIds"]).collect();
    let ids = if requested.is_empty() { vec![call.account.as_str()] } else { requested };
    let datum = |id: &str| {
        json!({
            "authorizationToken": token,
            "expiresAt": seconds(until),
            "proxyEndpoint": format!("https://{}", host(id, &call.region)),
        })
    };
    Ok(json!({ "authorizationData": ids.into_iter().map(datum).collect::<Vec<_>>() }))
}

fn is_in(host: &str, region: &str) -> bool {
    host.contains(&format!(".dkr.ecr.{region}.amazonaws.com"))
}
