//! Parameters and errors that both services share.

use serde_json::{Value, json};

use crate::aws::wire::{ApiError, Call};

/// Account and region.
pub(super) type Place = (String, String);

pub(super) fn place(call: &Call) -> Place {
    (call.account.clone(), call.region.clone())
}

/// The defaults of the parameters of an ECS task, and their rules, which both services share.
pub(super) fn ecs_parameters(parameters: &mut Value) -> Result<(), ApiError> {
    let definition = parameters["TaskDefinitionArn"].as_str().unwrap_or_default();
    let is_arn = definition.starts_with("arn:aws") && definition.contains(":task-definition/");
    if !is_arn {
        return Err(invalid("Parameter TaskDefinitionArn is not valid."));
    }
    match &parameters["TaskCount"] {
        Value::Null => parameters["TaskCount"] = json!(1),
        count if count.as_u64().is_some_and(|count| count >= 1) => {}
        _ => return Err(invalid("Parameter TaskCount is not valid.")),
    }
    Ok(())
}

pub(super) fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new(400, "ValidationException", message)
}

/// A page of a list: the start is the token, in decimal.
pub(super) fn page(
    all: &[Value],
    token: &str,
    limit: usize,
) -> Result<(Vec<Value>, Option<String>), ApiError> {
    let from = match token {
        "" => 0,
        token => token.parse::<usize>().map_err(|_| invalid("The token is invalid."))?.min(all.len()),
    };
    let to = (from + limit).min(all.len());
    Ok((all[from..to].to_vec(), (to < all.len()).then(|| to.to_string())))
}
