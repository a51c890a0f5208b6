//! PutParameter: the rules for names and types, and new versions.

use std::collections::btree_map::Entry;

use jiff::Timestamp;
use serde_json::json;

use super::{
    Ssm, account_region,
    parameter::{Overflow, Parameter, Revision},
    validation,
};
use crate::aws::wire::{Answer, ApiError, Call};

const TYPES: [&str; 3] = ["SecureString", "StringList", "String"];
const DATA_TYPES: [&str; 3] = ["text", "aws:ec2:image", "aws:ssm:integration"];

impl Ssm {
    pub(super) fn put(&self, call: &Call, now: Timestamp) -> Answer {
        let (name, overwrite) = (call.text("Name"), call.input["Overwrite"].as_bool().unwrap_or_default());
        let (kind, data_type) = (call.input["Type"].as_str(), call.input["DataType"].as_str());
        if call.text("Value").is_empty() {
            return Err(validation(
                "1 validation error detected: Value '' at 'value' failed to satisfy constraint: Member must have length \
                 greater than or equal to 1.",
            ));
        }
        if overwrite && call.input["Tags"].as_array().is_some_and(|tags| !tags.is_empty()) {
            return Err(validation(
                "Invalid request: tags and overwrite can't be used together. To create a parameter with tags, please \
                 remove overwrite flag. To update tags for an existing parameter, please use AddTagsToResource or \
                 RemoveTagsFromResource.",
            ));
        }
        check_name(name)?;
        if let Some(kind) = kind.filter(|kind| !TYPES.contains(kind)) {
            return Err(validation(format!(
                "1 validation error detected: Value '{kind}' at 'type' failed to satisfy constraint: Member must satisfy \
                 enum value set: [{}]",
                TYPES.join(", ")
            )));
        }
        if let Some(data_type) = data_type.filter(|data_type| !DATA_TYPES.contains(data_type)) {
            return Err(validation(format!(
                "The following data type is not supported: {data_type} (Data type names are all lowercase.)"
            )));
        }
        let mut state = self.lock();
        let parameters = state.entry(account_region(call)).or_default();
        if parameters.contains_key(name) && !overwrite {
            return Err(ApiError::new(
                400,
                "ParameterAlreadyExists",
                "The parameter already exists. To overwrite this value, set the overwrite option in the request to \
                 true.",
            ));
        }
        let parameter = match parameters.entry(name.to_owned()) {
            Entry::Occupied(existing) => existing.into_mut(),
            Entry::Vacant(vacant) => {
                let kind = kind
                    .ok_or_else(|| validation("A parameter type is required when you create a parameter."))?;
                vacant.insert(Parameter::new(&account_region(call), name, kind))
            }
        };
        let revision = Revision { value: call.text("Value"), key: call.input["KeyId"].as_str(), data_type };
        let number = parameter.put(&revision, now).map_err(|Overflow(oldest)| {
            ApiError::new(
                400,
                "ParameterMaxVersionLimitExceeded",
                format!(
                    "You attempted to create a new version of {name} by calling the PutParameter API with the overwrite \
                     flag. Version {oldest}, the oldest version, can't be deleted because it has a label associated with \
                     it. Move the label to another version of the parameter, and try again."
                ),
            )
        })?;
        Ok(json!({ "Version": number, "Tier": "Standard" }))
    }
}

/// Rejects the names that are reserved for AWS.
fn check_name(name: &str) -> Result<(), ApiError> {
    let lower = name.to_ascii_lowercase();
    let bare = lower.trim_start_matches('/');
    if !bare.starts_with("aws") && !bare.starts_with("ssm") {
        return Ok(());
    }
    let is_path = name.matches('/').count() > 1;
    Err(if !is_path {
        validation("Parameter name: can't be prefixed with \"aws\" or \"ssm\" (case-insensitive).")
    } else if bare.starts_with("aws") {
        let message = format!("No access to reserved parameter name: {name}.");
        ApiError::new(400, "AccessDeniedException", message)
    } else {
        validation(
            "Parameter name: can't be prefixed with \"ssm\" (case-insensitive). If formed as a path, it can consist of \
             sub-paths divided by slash symbol; each sub-path can be formed as a mix of letters, numbers and the \
             following 3 symbols .-_",
        )
    })
}
