//! Model of the Systems Manager Parameter Store API: parameters with versions and labels.

mod filter;
mod handle;
mod parameter;
mod put;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard},
};

use serde_json::{Value, json};

pub use self::handle::Parameters;
use self::{
    filter::Filter,
    parameter::{AccountRegion, Parameter},
};
use super::{
    context::Context,
    wire::{Answer, ApiError, Call},
};
use crate::sync::lock;

/// The maximum number of parameters in one `GetParameters` call or one page of `GetParametersByPath`.
const BATCH: usize = 10;

/// The maximum number of labels of a version.
const LABELS: usize = 10;

/// The state of the service, by account and region.
#[derive(Debug, Default)]
pub(super) struct Ssm(Mutex<BTreeMap<AccountRegion, BTreeMap<String, Parameter>>>);

impl Ssm {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<AccountRegion, BTreeMap<String, Parameter>>> {
        lock(&self.0)
    }

    pub(super) fn call(&self, context: &Context, call: &Call) -> Answer {
        let caller = context.identities.of(&call.access_key_id).arn;
        match call.operation.as_str() {
            "PutParameter" => self.put(call, context.clock.now()),
            "LabelParameterVersion" => self.label(call),
            "DeleteParameter" => self.delete(call),
            "GetParameter" => self.get(call, &caller),
            "GetParameters" => self.get_many(call, &caller),
            "GetParametersByPath" => self.by_path(call),
            _ => Err(call.unknown()),
        }
    }

    fn label(&self, call: &Call) -> Answer {
        let mut state = self.lock();
        let parameter = state.get_mut(&account_region(call)).and_then(|all| all.get_mut(call.text("Name")));
        let parameter = parameter.ok_or_else(not_found)?;
        let latest = parameter.latest().map_or(0, |v| v.number);
        let number = call.input["ParameterVersion"].as_i64().unwrap_or(latest);
        if parameter.version(Some(&number.to_string())).is_none() {
            return Err(no_version(&number.to_string(), &parameter.name));
        }
        let labels = call.input["Labels"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let (good, bad): (Vec<&str>, Vec<&str>) = labels.partition(|label| is_label(label));
        if let Some(long) = bad.iter().find(|label| label.len() > 100) {
            return Err(validation(format!(
                "1 validation error detected: Value '[{long}]' at 'labels' failed to satisfy constraint: Member must \
                 satisfy constraint: [Member must have length less than or equal to 100, Member must have length greater \
                 than or equal to 1]"
            )));
        }
        let current = parameter.version(Some(&number.to_string())).map(|version| &version.labels);
        let added = good.iter().filter(|label| current.is_some_and(|current| !current.contains(**label)));
        if current.map_or(0, BTreeSet::len) + added.count() > LABELS {
            return Err(ApiError::new(
                400,
                "ParameterVersionLabelLimitExceeded",
                "A parameter version can have a maximum of ten labels.",
            ));
        }
        good.iter().for_each(|label| parameter.label(number, label));
        Ok(json!({ "InvalidLabels": bad, "ParameterVersion": number }))
    }

    fn delete(&self, call: &Call) -> Answer {
        let mut state = self.lock();
        let removed = state.get_mut(&account_region(call)).and_then(|all| all.remove(call.text("Name")));
        removed.map(|_| json!({})).ok_or_else(not_found)
    }

    fn get(&self, call: &Call, caller: &str) -> Answer {
        let decrypt = call.input["WithDecryption"].as_bool().unwrap_or_default();
        let (id, selector) = split(call.text("Name"));
        let state = self.lock();
        allowed(&state, call, caller, "ssm:GetParameter", id, decrypt)?;
        let parameter = find(&state, call, id).ok_or_else(not_found)?;
        if selector.is_some_and(|selector| selector.contains(':')) {
            return Err(not_found());
        }
        let version = parameter
            .version(selector)
            .ok_or_else(|| no_version(selector.unwrap_or_default(), &parameter.name))?;
        Ok(json!({ "Parameter": parameter.value(version, selector, decrypt) }))
    }

    /// Up to ten parameters. Missing names are listed; one denied parameter fails the whole call.
    fn get_many(&self, call: &Call, caller: &str) -> Answer {
        let decrypt = call.input["WithDecryption"].as_bool().unwrap_or_default();
        let names: Vec<&str> =
            call.input["Names"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if names.is_empty() || names.len() > BATCH {
            let (than, bound) = if names.is_empty() { ("greater", 1) } else { ("less", BATCH) };
            return Err(validation(format!(
                "1 validation error detected: Value '[{}]' at 'names' failed to satisfy constraint: Member must \
                     have length {than} than or equal to {bound}",
                names.join(", ")
            )));
        }
        let distinct: BTreeSet<&str> = names.iter().copied().collect();
        if distinct.len() < names.len() {
            return Err(validation("Duplicate names are not allowed."));
        }
        let state = self.lock();
        for name in &names {
            allowed(&state, call, caller, "ssm:GetParameters", split(name).0, decrypt)?;
        }
        let (mut parameters, mut invalid) = (Vec::new(), Vec::new());
        for name in distinct {
            let (id, selector) = split(name);
            let found = find(&state, call, id).and_then(|p| Some((p, p.version(selector)?)));
            match found {
                Some((parameter, version)) => parameters.push(parameter.value(version, selector, decrypt)),
                None => invalid.push(name),
            }
        }
        Ok(json!({ "Parameters": parameters, "InvalidParameters": invalid }))
    }

    fn by_path(&self, call: &Call) -> Answer {
        let decrypt = call.input["WithDecryption"].as_bool().unwrap_or_default();
        let recursive = call.input["Recursive"].as_bool().unwrap_or_default();
        let limit = match call.input["MaxResults"].as_u64() {
            Some(limit) if limit > BATCH as u64 => {
                return Err(validation(format!(
                    "1 validation error detected: Value '{limit}' at 'maxResults' failed to satisfy constraint: Member must \
                     have value less than or equal to {BATCH}"
                )));
            }
            limit => limit.map_or(BATCH, |limit| (limit as usize).max(1)),
        };
        let filters = Filter::all(&call.input)?;
        let under = format!("{}/", call.text("Path").trim_end_matches('/'));
        let start = match call.text("NextToken") {
            "" => 0,
            token => token
                .parse()
                .map_err(|_| ApiError::new(400, "InvalidNextToken", "The specified token is not valid."))?,
        };
        let state = self.lock();
        let all = state.get(&account_region(call)).into_iter().flat_map(BTreeMap::values);
        let mut below = all.filter(|parameter| {
            // A name without a slash is in the root.
            let path = format!("/{}", parameter.name.trim_start_matches('/'));
            let rest = path.strip_prefix(&under);
            rest.is_some_and(|rest| recursive || !rest.contains('/'))
                && filters.iter().all(|filter| filter.matches(parameter))
        });
        let page: Vec<&Parameter> = below.by_ref().skip(start).take(limit).collect();
        let values = page.iter().filter_map(|p| Some(p.value(p.latest()?, None, decrypt)));
        let mut answer = json!({ "Parameters": values.collect::<Vec<_>>() });
        if below.next().is_some() {
            answer["NextToken"] = json!((start + limit).to_string());
        }
        Ok(answer)
    }

    /// Checks that a task's `valueFrom` (a name or ARN, with or without a selector) can be read; the error is the ECS
    /// agent's message.
    pub(super) fn exists(&self, account: &str, region: &str, value_from: &str) -> Result<(), String> {
        let failed = |error: &str| {
            format!(
                "unable to retrieve secrets from ssm: service call has been retried 1 time(s): {error} {value_from}"
            )
        };
        let (id, selector) = split(value_from);
        let fields: Vec<&str> = id.split(':').collect();
        let home = match fields.as_slice() {
            ["arn", _, "ssm", region, owner, ..] => ((*owner).to_owned(), (*region).to_owned()),
            _ => (account.to_owned(), region.to_owned()),
        };
        let state = self.lock();
        let parameter = state.get(&home).and_then(|all| all.values().find(|p| p.name == id || p.arn == id));
        let parameter = parameter.ok_or_else(|| failed("invalid parameters:"))?;
        let foreign = home.0 != account && !parameter.shared_with.contains(account);
        if foreign || parameter.denied.contains("ssm:GetParameters") {
            return Err(failed(
                "AccessDeniedException: not authorized to perform: ssm:GetParameters on resource:",
            ));
        }
        parameter.version(selector).map(|_| ()).ok_or_else(|| failed("invalid parameters:"))
    }
}

/// Rejects a call that is denied to the caller.
fn allowed(
    state: &BTreeMap<AccountRegion, BTreeMap<String, Parameter>>,
    call: &Call,
    caller: &str,
    action: &str,
    id: &str,
    decrypt: bool,
) -> Result<(), ApiError> {
    let denied = |resource: &str| {
        ApiError::new(
            400,
            "AccessDeniedException",
            format!(
                "User: {caller} is not authorized to perform: {action} on resource: {resource} because no \
                 identity-based policy allows the {action} action"
            ),
        )
    };
    let foreign = owner(id).is_some_and(|account| account != call.account);
    let Some(parameter) = find(state, call, id) else {
        return if foreign { Err(denied(id)) } else { Ok(()) };
    };
    if parameter.denied.contains(action) || (foreign && !parameter.shared_with.contains(&call.account)) {
        return Err(denied(&parameter.arn));
    }
    if decrypt && parameter.kind == "SecureString" && parameter.denied.contains("kms:Decrypt") {
        return Err(ApiError::new(
            400,
            "AccessDeniedException",
            "The ciphertext refers to a customer master key that does not exist, does not exist in this region, or \
             you are not allowed to access.",
        ));
    }
    Ok(())
}

fn find<'a>(
    state: &'a BTreeMap<AccountRegion, BTreeMap<String, Parameter>>,
    call: &Call,
    id: &str,
) -> Option<&'a Parameter> {
    let home = (owner(id).unwrap_or(&call.account).to_owned(), call.region.clone());
    state.get(&home)?.values().find(|p| p.name == id || p.arn == id)
}

/// The account in an ARN.
fn owner(id: &str) -> Option<&str> {
    id.starts_with("arn:").then(|| id.split(':').nth(4)).flatten()
}

/// The name or ARN, and the selector after the colon.
fn split(name: &str) -> (&str, Option<&str>) {
    let colons = if name.starts_with("arn:") { 5 } else { 0 };
    match name.match_indices(':').nth(colons) {
        Some((at, _)) => (&name[..at], Some(&name[at + 1..])),
        None => (name, None),
    }
}

fn is_label(label: &str) -> bool {
    let lower = label.to_ascii_lowercase();
    label.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c))
        && !label.starts_with(|c: char| c.is_ascii_digit())
        && (1..=100).contains(&label.len())
        && !lower.starts_with("aws")
        && !lower.starts_with("ssm")
}

fn account_region(call: &Call) -> AccountRegion {
    (call.account.clone(), call.region.clone())
}

fn validation(message: impl Into<String>) -> ApiError {
    ApiError::new(400, "ValidationException", message)
}

/// The service sends this error without a message.
fn not_found() -> ApiError {
    ApiError::new(400, "ParameterNotFound", "")
}

fn no_version(selector: &str, name: &str) -> ApiError {
    let what = if selector.parse::<i64>().is_ok() { "version" } else { "label" };
    ApiError::new(
        400,
        "ParameterVersionNotFound",
        format!(
            "Systems Manager could not find {what} {selector} of {name}. Verify the {what} and try again."
        ),
    )
}
