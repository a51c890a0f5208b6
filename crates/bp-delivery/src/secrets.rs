//! Read and check references to secrets, and convert them for ECS, External Secrets Operator, the CSI driver and
//! Kubernetes.

use std::path::Path;

use bp_artifact::{
    ExitCode,
    config::{EnvironmentConfig, ServiceConfig},
    error::{Classified, ErrorClass},
};
use bp_ecs::Cluster;
use bp_secrets::{
    CheckReport, Depth, Reference, check,
    check::Checked,
    permissions::{AccountScope, policy},
    projection::{
        Bindings, ProjectionError, Renderer, Warning, ascp::SecretProviderClass, ecs, env,
        external_secrets::ExternalSecret, kubernetes, lint,
    },
};
use serde_json::Value;

use crate::{Clients, Failure};

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

/// The references in the task definition that the ECS service runs.
///
/// # Errors
/// When no service is configured, it cannot be read, or one of its references is invalid.
///
/// # Permissions
/// `ecs:DescribeServices`, `ecs:DescribeTaskDefinition`.
///
/// # Cancel safety
/// Cancel safe: reads only.
pub async fn of_service(service: &ServiceConfig, clients: &Clients) -> Result<Bindings, Failure> {
    let ecs = service.ecs()?;
    let options = bp_ecs::Options::new(service.deploy.timeout)?;
    let target = Cluster::new(clients.ecs(), &ecs.cluster).service(&ecs.service, options);
    let secrets = target.definition().await?.secrets();
    let binding = |secret: &bp_ecs::SecretReference| -> Result<(String, Reference), Failure> {
        let name = format!("{}.{}", secret.container, secret.name);
        let reference = Reference::from_value_from(&secret.value_from);
        Ok((name.clone(), reference.map_err(|e| Failure::bad_input(format!("{name}: {e}")))?))
    };
    let bindings = secrets.iter().map(binding).collect::<Result<Vec<_>, _>>()?;
    Bindings::new(bindings).map_err(|error| bad_input(&error))
}

/// The references of a file of `NAME=reference` lines.
///
/// # Errors
/// When the file cannot be read or a reference is invalid. The message never contains the invalid text, which may be a
/// secret.
pub fn of_file(path: &Path) -> Result<Bindings, Failure> {
    let unreadable = |error: &std::io::Error| Failure::new(ErrorClass::BadInput, error);
    let text = std::fs::read_to_string(path).map_err(|error| {
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

/// Converts the references for a consumer, with the warnings that apply to it.
///
/// # Errors
/// When the format cannot express one of the references.
pub fn project(
    form: Form,
    name: &str,
    namespace: Option<&str>,
    bindings: &Bindings,
) -> Result<(Value, Vec<Warning>), Failure> {
    let (object, renderer) = match form {
        Form::Ecs => (ecs::print(bindings).map_err(|error| bad_input(&error))?, Some(Renderer::Ecs)),
        Form::ExternalSecret => {
            let secret = ExternalSecret::new(name);
            let secret = namespace.map_or(secret.clone(), |namespace| secret.namespace(namespace));
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
