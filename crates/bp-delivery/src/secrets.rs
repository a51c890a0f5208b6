//! Read, check and pin references to secrets, and convert them for ECS, External Secrets Operator, the CSI driver and
//! Kubernetes.

mod projection;

use std::path::Path;

use bp_artifact::{
    Digest, ExitCode,
    config::EnvironmentConfig,
    deploy::preflight::SecretReference,
    error::{Classified, ErrorClass},
};
use bp_secrets::{
    CheckReport, Depth, Reference, check,
    check::Checked,
    permissions::{AccountScope, policy},
    projection::{Bindings, ProjectionError, env},
    reference::{ParseError, SecretRef},
};
use serde_json::Value;

pub use self::projection::{Form, Projection};
use crate::{Clients, Delivery, Failure};

/// The references that the next deployment of the ECS service would register: those of its task definition with the
/// settings of bp.toml.
///
/// # Errors
/// When no service is configured, it cannot be read, or one of its references is invalid.
///
/// # Permissions
/// `ecs:DescribeServices`, `ecs:DescribeTaskDefinition`.
///
/// # Cancel safety
/// Cancel safe: reads only.
pub async fn of_service(delivery: &Delivery) -> Result<Bindings, Failure> {
    let secrets = planned(delivery).await?;
    let binding = |secret: &SecretReference| -> Result<(String, Reference), Failure> {
        let name = format!("{}.{}", secret.container, secret.name);
        let reference = reference_of(secret);
        Ok((name.clone(), reference.map_err(|e| Failure::bad_input(format!("{name}: {e}")))?))
    };
    let bindings = secrets.iter().map(binding).collect::<Result<Vec<_>, _>>()?;
    Bindings::new(bindings).map_err(|error| bad_input(&error))
}

async fn planned(delivery: &Delivery) -> Result<Vec<SecretReference>, Failure> {
    let ecs = delivery.service.ecs()?;
    if ecs.secrets.is_empty() && ecs.definition.is_none() {
        return Ok(delivery.ecs_service()?.definition().await?.secrets());
    }
    // Which image is deployed makes no difference to the secrets.
    let image = delivery.service.repository.at(Digest::sha256(""));
    Ok(delivery.clone().without_pins().ecs().await?.planned_definition(&image).await?.secrets())
}

/// The reference of a task definition: the credentials of a registry may be a secret's name, everything else by name is
/// a parameter.
pub(crate) fn reference_of(secret: &SecretReference) -> Result<Reference, ParseError> {
    let value = &secret.value_from;
    if secret.name == SecretReference::REGISTRY_CREDENTIALS && !value.starts_with("arn:") {
        return SecretRef::by_name(value).map(Reference::from);
    }
    Reference::from_value_from(value)
}

/// The references of a file of `NAME=reference` lines.
///
/// # Errors
/// When the file cannot be read or a reference is invalid. The message never contains the invalid text, which may be a
/// secret.
pub fn of_file(path: &Path) -> Result<Bindings, Failure> {
    let unreadable = |error: &std::io::Error| Failure::new(ErrorClass::BadInput, error);
    let text = bp_artifact::file::read_text(path).map_err(|error| {
        Failure::bad_input(format!("cannot read {}: {}", path.display(), unreadable(&error)))
    })?;
    env::parse(&text)
        .map_err(|error| Failure::bad_input(format!("{}: {}", path.display(), bad_input(&error))))
}

/// Checks with the environment's role whether the referenced secrets exist.
///
/// # Permissions
/// `secretsmanager:DescribeSecret` or `ssm:GetParameter`; to check JSON keys, those to read the values.
///
/// # Cancel safety
/// Cancel safe: reads only.
pub async fn checked(bindings: &Bindings, clients: &Clients, depth: Depth) -> CheckReport {
    let references = bindings.references();
    check(&clients.secrets(&references), &references, depth).await
}

/// The IAM policy that the reader of the references requires: on ECS, the execution role.
pub fn required_policy(report: &CheckReport, environment: &EnvironmentConfig) -> Value {
    let scope = environment.account.as_ref().map(|account| AccountScope::new(&environment.region, account));
    policy(&report.grants(scope.as_ref()))
}

/// One line for each reference: whether it is valid, the error if not, and the warnings.
pub fn lines(bindings: &Bindings, report: &CheckReport) -> Vec<String> {
    let line = |(name, checked): (&str, &Checked)| {
        let mut line = match &checked.error {
            Some(error) => format!("{name}: {error}"),
            None => format!("{name}: {} is valid", checked.reference),
        };
        for warning in &checked.warnings {
            line.push_str(&format!("\n    warning: {warning}"));
        }
        line
    };
    let names = bindings.iter().map(|binding| binding.name.as_str());
    let lines: Vec<String> = names.zip(&report.checked).map(line).collect();
    if lines.is_empty() { vec!["there are no references to secrets".to_owned()] } else { lines }
}

/// The exit code of a check: an invalid reference takes precedence over one that could not be checked.
pub fn verdict(report: &CheckReport) -> ExitCode {
    let classes: Vec<ErrorClass> = report.errors().map(Classified::class).collect();
    match classes.iter().find(|class| **class == ErrorClass::BadInput).or(classes.first()) {
        Some(class) => (*class).into(),
        None => ExitCode::Done,
    }
}

pub(crate) fn bad_input(error: &ProjectionError) -> Failure {
    Failure::new(ErrorClass::BadInput, error)
}
