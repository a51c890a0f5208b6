//! Convert bindings to and from the `secrets` of a container in an ECS task definition.
use serde_json::{Value, json};

use super::{Binding, Bindings, ProjectionError, text};
use crate::reference::Reference;

/// Prints `[{"name", "valueFrom"}]`.
///
/// # Errors
/// When a secret is referenced by name: ECS accepts only its ARN.
pub fn print(bindings: &Bindings) -> Result<Value, ProjectionError> {
    bindings.iter().map(print_one).collect()
}

fn print_one(Binding { name, reference }: &Binding) -> Result<Value, ProjectionError> {
    if let Reference::Secret(secret) = reference
        && secret.arn().is_none()
    {
        let reason = "ECS requires the ARN of a secret: use the ARN that a check or a read returns";
        return Err(ProjectionError::not_expressible(name, "ECS", reason));
    }
    let value_from = match reference {
        // Without the prefix `ssm:` that `Display` may add.
        Reference::Parameter(parameter) => parameter.selected(),
        secret => secret.to_string(),
    };
    Ok(json!({ "name": name, "valueFrom": value_from }))
}

/// Parses `[{"name", "valueFrom"}]`.
///
/// # Errors
/// When it does not have that structure, or ECS would reject a `valueFrom`.
pub fn parse(secrets: &Value) -> Result<Bindings, ProjectionError> {
    let secrets = secrets.as_array().ok_or_else(|| ProjectionError::shape("`secrets`", "is not a list"))?;
    let texts: Vec<(&str, &str)> = secrets
        .iter()
        .map(|secret| Ok((text(secret, "/name")?, text(secret, "/valueFrom")?)))
        .collect::<Result<_, ProjectionError>>()?;
    Bindings::parsed(texts, Reference::from_value_from)
}
