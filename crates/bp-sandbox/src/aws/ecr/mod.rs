//! Model of the Amazon ECR API, backed by the sandbox's registries: `<account>.dkr.ecr.<region>.amazonaws.com`.

mod caches;
mod images;
mod layers;
mod repositories;

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Aws,
    wire::{Answer, ApiError, Call},
};
use crate::registry::Registry;

/// How long a registry password is valid.
const TOKEN_LIFETIME: Duration = Duration::from_secs(12 * 3600);

/// The service. Its state is in the registries, except for the pull-through cache rules.
#[derive(Debug, Default)]
pub(super) struct Ecr {
    caches: caches::Rules,
}

impl Ecr {
    pub(super) async fn call(&self, aws: &Aws, call: &Call) -> Answer {
        match call.operation.as_str() {
            "GetAuthorizationToken" => authorization_token(aws, call),
            "CreateRepository" => repositories::create(aws, call),
            "DescribeRepositories" => repositories::describe(aws, call),
            "DeleteRepository" => repositories::delete(aws, call),
            "PutImageTagMutability" => repositories::put_mutability(aws, call),
            "BatchGetImage" => images::batch_get(aws, call),
            "BatchDeleteImage" => images::batch_delete(aws, call),
            "DescribeImages" => images::describe(aws, call),
            "ListImages" => images::list(aws, call),
            "PutImage" => images::put(aws, call),
            "CreatePullThroughCacheRule" => self.caches.create(call, aws.clock.now()),
            "DescribePullThroughCacheRules" => self.caches.describe(call),
            "BatchCheckLayerAvailability" => images::check_layers(aws, call),
            "InitiateLayerUpload" => layers::initiate(aws, call),
            "UploadLayerPart" => layers::upload_part(aws, call),
            "CompleteLayerUpload" => layers::complete(aws, call),
            _ => Err(call.unknown()),
        }
    }
}

/// A password for user `AWS`, valid for every registry in the region; IAM decides what the caller may do there.
fn authorization_token(aws: &Aws, call: &Call) -> Answer {
    let password = format!("sandbox-{:032x}{:032x}", fastrand::u128(..), fastrand::u128(..));
    let until = aws.clock.now() + TOKEN_LIFETIME;
    for registry in aws.runtime.registries() {
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

/// The host of an account's registry.
fn host(account: &str, region: &str) -> String {
    let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    format!("{account}.dkr.ecr.{region}.{suffix}")
}

/// The registry id of a call; defaults to the caller's account.
fn registry_id(call: &Call) -> &str {
    match call.text("registryId") {
        "" => &call.account,
        id => id,
    }
}

/// The repository of a call.
struct Target<'a> {
    registry: Arc<Registry>,
    id: &'a str,
    name: &'a str,
}

impl<'a> Target<'a> {
    /// The repository of the call; it must exist.
    fn of(aws: &Aws, call: &'a Call) -> Result<Self, ApiError> {
        let name = call.text("repositoryName");
        check_name(name)?;
        let id = registry_id(call);
        aws.runtime
            .registry(&host(id, &call.region))
            .filter(|registry| registry.describe(name).is_some())
            .map(|registry| Target { registry, id, name })
            .ok_or_else(|| no_repository(name, id))
    }
}

/// Validates a repository name by ECR's rules.
fn check_name(name: &str) -> Result<(), ApiError> {
    const RULE: &str = "(?:[a-z0-9]+(?:[._-][a-z0-9]+)*/)*[a-z0-9]+(?:[._-][a-z0-9]+)*";
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let part =
        |part: &str| part.split(['.', '_', '-']).all(|run| !run.is_empty() && run.bytes().all(alphanumeric));
    let constraint = match name.len() {
        0..2 => "'Member must have length greater than or equal to 2'".to_owned(),
        257.. => "'Member must have length less than or equal to 256'".to_owned(),
        _ if name.split('/').all(part) => return Ok(()),
        _ => format!("'must satisfy regular expression '{RULE}''"),
    };
    Err(invalid(&format!("Invalid parameter at 'repositoryName' failed to satisfy constraint: {constraint}")))
}

fn invalid(message: &str) -> ApiError {
    ApiError::new(400, "InvalidParameterException", message)
}

fn no_repository(name: &str, id: &str) -> ApiError {
    ApiError::new(
        400,
        "RepositoryNotFoundException",
        format!("The repository with name '{name}' does not exist in the registry with id '{id}'"),
    )
}

/// One page of `all`, and the token of the next page.
fn page<T>(all: Vec<T>, call: &Call, default: usize) -> Result<(Vec<T>, Option<String>), ApiError> {
    let limit = call.input["maxResults"].as_u64().map_or(default, |limit| limit as usize);
    if !(1..=1000).contains(&limit) {
        let bound = if limit == 0 { "greater than or equal to 1" } else { "less than or equal to 1000" };
        return Err(invalid(&format!(
            "Invalid parameter at 'maxResults' failed to satisfy constraint: 'Member must have value {bound}'"
        )));
    }
    let start = match call.text("nextToken") {
        "" => 0,
        token => offset(token).ok_or_else(|| {
            invalid("Invalid parameter at 'nextToken' failed to satisfy constraint: 'Invalid token'")
        })?,
    };
    let next =
        (start + limit < all.len()).then(|| BASE64_STANDARD.encode(format!("sandbox:{}", start + limit)));
    Ok((all.into_iter().skip(start).take(limit).collect(), next))
}

fn offset(token: &str) -> Option<usize> {
    let decoded = BASE64_STANDARD.decode(token).ok()?;
    std::str::from_utf8(&decoded).ok()?.strip_prefix("sandbox:")?.parse().ok()
}

fn with_next(mut answer: Value, next: Option<String>) -> Value {
    if let Some(next) = next {
        answer["nextToken"] = json!(next);
    }
    answer
}

fn strings(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// A timestamp in the format of the JSON protocol.
fn seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}
