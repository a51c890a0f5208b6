//! The `secrets` of a container in an ECS task definition.

use serde_json::{Value, json};

use super::{Binding, Bindings, ProjectionError, text};
use crate::reference::Reference;

/// `[{"name", "valueFrom"}]`.
///
/// # Errors
/// When a secret is named by its name: ECS takes the ARN only.
pub fn print(bindings: &Bindings) -> Result<Value, ProjectionError> {
    bindings.iter().map(print_one).collect()
}

fn print_one(Binding { name, reference }: &Binding) -> Result<Value, ProjectionError> {
    if let Reference::Secret(secret) = reference
        && secret.arn().is_none()
    {
        let reason = "ECS takes a secret by its ARN; a check or a read tells it";
        return Err(ProjectionError::not_expressible(name, "ECS", reason));
    }
    let value_from = match reference {
        // Without the prefix that our own form may have.
        Reference::Parameter(parameter) => parameter.selected(),
        secret => secret.to_string(),
    };
    Ok(json!({ "name": name, "valueFrom": value_from }))
}

/// Reads `[{"name", "valueFrom"}]`.
///
/// # Errors
/// When it is not of that shape, or a `valueFrom` is one that ECS refuses.
pub fn parse(secrets: &Value) -> Result<Bindings, ProjectionError> {
    let secrets = secrets.as_array().ok_or_else(|| ProjectionError::shape("`secrets`", "is no list"))?;
    let texts: Vec<(&str, &str)> = secrets
        .iter()
        .map(|secret| Ok((text(secret, "/name")?, text(secret, "/valueFrom")?)))
        .collect::<Result<_, ProjectionError>>()?;
    Bindings::parsed(texts, Reference::from_value_from)
}
