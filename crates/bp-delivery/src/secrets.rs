//! Read and check references to secrets, and convert them for ECS, External Secrets Operator, the CSI driver and
//! Kubernetes.

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
    projection::{
        Bindings, ProjectionError, Renderer, Warning, ascp::SecretProviderClass, ecs, env,
        external_secrets::ExternalSecret, kubernetes, lint,
    },
    reference::{ParseError, SecretRef},
};
use serde_json::Value;

use crate::{Clients, Delivery, Failure};

/// The output format of references, by consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Form {
    /// `secrets` of a container in an ECS task definition
    Ecs,
    /// An `ExternalSecret` of External Secrets Operator
    ExternalSecret,
    /// A `SecretProviderClass` of the Secrets Store CSI driver
    SecretProviderClass,
    /// A Kubernetes `ConfigMap`, for programs that read the values themselves
    ConfigMap,
}

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
    Ok(delivery.ecs().await?.planned_definition(&image).await?.secrets())
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
    names.zip(&report.checked).map(line).collect()
}

/// The exit code of a check: an invalid reference takes precedence over one that could not be checked.
pub fn verdict(report: &CheckReport) -> ExitCode {
    let classes: Vec<ErrorClass> = report.errors().map(Classified::class).collect();
    match classes.iter().find(|class| **class == ErrorClass::BadInput).or(classes.first()) {
        Some(class) => (*class).into(),
        None => ExitCode::Done,
    }
}

/// Converts the references for a consumer, with the warnings that apply to it. `kind` is the type of the `Secret` that an
/// `ExternalSecret` creates.
///
/// # Errors
/// When the format cannot express one of the references.
pub fn project(
    form: Form,
    name: &str,
    namespace: Option<&str>,
    kind: Option<&str>,
    bindings: &Bindings,
) -> Result<(Value, Vec<Warning>), Failure> {
    let (object, renderer) = match form {
        Form::Ecs => (ecs::print(bindings).map_err(|error| bad_input(&error))?, Some(Renderer::Ecs)),
        Form::ExternalSecret => {
            let secret = ExternalSecret::new(name);
            let secret = namespace.map_or(secret.clone(), |namespace| secret.namespace(namespace));
            let secret = kind.map_or(secret.clone(), |kind| secret.secret_type(kind));
            (secret.print(bindings), Some(Renderer::ExternalSecrets))
        }
        Form::SecretProviderClass => {
            let class = SecretProviderClass::new(name);
            let class = namespace.map_or(class.clone(), |namespace| class.namespace(namespace));
            (class.print(bindings).map_err(|error| bad_input(&error))?, Some(Renderer::Ascp))
        }
        Form::ConfigMap => (kubernetes::config_map(name, namespace, bindings), None),
    };
    Ok((object, renderer.map(|renderer| lint(renderer, bindings)).unwrap_or_default()))
}

fn bad_input(error: &ProjectionError) -> Failure {
    Failure::new(ErrorClass::BadInput, error)
}
