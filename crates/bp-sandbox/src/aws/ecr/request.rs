//! Common parts of ECR requests and responses: registry, repository, pages and errors.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    aws::{
        context::Context,
        wire::{ApiError, Call},
    },
    registry::Registry,
};

/// The host of an account's registry.
pub(super) fn host(account: &str, region: &str) -> String {
    let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    format!("{account}.dkr.ecr.{region}.{suffix}")
}

/// The registry id of a call; defaults to the caller's account.
pub(super) fn registry_id(call: &Call) -> &str {
    match call.text("registryId") {
        "" => &call.account,
        id => id,
    }
}

/// The repository of a call.
pub(super) struct Target<'a> {
    pub(super) registry: Arc<Registry>,
    pub(super) id: &'a str,
    pub(super) name: &'a str,
}

impl<'a> Target<'a> {
    /// The repository of the call; it must exist.
    pub(super) fn of(context: &Context, call: &'a Call) -> Result<Self, ApiError> {
        let name = call.text("repositoryName");
        check_name(name)?;
        let id = registry_id(call);
        context
            .runtime
            .registry(&host(id, &call.region))
            .filter(|registry| registry.describe(name).is_some())
            .map(|registry| Target { registry, id, name })
            .ok_or_else(|| no_repository(name, id))
    }
}

/// Validates a repository name by ECR's rules.
pub(super) fn check_name(name: &str) -> Result<(), ApiError> {
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

pub(super) fn invalid(message: &str) -> ApiError {
    ApiError::new(400, "InvalidParameterException", message)
}

pub(super) fn no_repository(name: &str, id: &str) -> ApiError {
    ApiError::new(
        400,
        "RepositoryNotFoundException",
        format!("The repository with name '{name}' does not exist in the registry with id '{id}'"),
    )
}

/// One page of `all`, and the token of the next page.
pub(super) fn page<T>(
    all: Vec<T>,
    call: &Call,
    default: usize,
) -> Result<(Vec<T>, Option<String>), ApiError> {
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

pub(super) fn with_next(mut answer: Value, next: Option<String>) -> Value {
    if let Some(next) = next {
        answer["nextToken"] = json!(next);
    }
    answer
}

pub(super) fn strings(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// A timestamp in the format of the JSON protocol.
pub(super) fn seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}
