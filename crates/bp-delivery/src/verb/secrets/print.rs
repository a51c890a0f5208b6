//! `secrets print`: references, and the objects around them, for each consumer.

use std::path::PathBuf;

use bp_artifact::ExitCode;
use bp_secrets::{Reference, projection::Bindings};

use crate::{
    Failure, Ui,
    cli::GivenFlags,
    secrets::{self, Form, Projection},
};

/// What to print.
#[derive(Debug, clap::Args)]
pub(super) struct PrintArgs {
    #[command(flatten)]
    given: GivenFlags,
    /// File of NAME=reference lines
    #[arg(long, value_name = "FILE")]
    references: Option<PathBuf>,
    /// Output format, by the consumer of the references
    #[arg(long, value_enum)]
    form: Form,
    /// Name of the Kubernetes object
    #[arg(long, default_value = "secrets")]
    name: String,
    /// Namespace of the Kubernetes object
    #[arg(long)]
    namespace: Option<String>,
    /// Type of the Kubernetes Secret, such as kubernetes.io/tls; defaults to Opaque
    #[arg(id = "type", long, value_name = "TYPE")]
    kind: Option<String>,
    /// Name of the ClusterSecretStore for Secrets Manager
    #[arg(long, value_name = "NAME", default_value = "aws-secrets-manager")]
    secrets_store: String,
    /// Name of the ClusterSecretStore for Parameter Store
    #[arg(long, value_name = "NAME", default_value = "aws-parameter-store")]
    parameters_store: String,
    /// AWS region of the ClusterSecretStores
    #[arg(long = "store-region", value_name = "REGION")]
    region: Option<String>,
    /// Service account with whose role the ClusterSecretStores read (IRSA); defaults to the role of the operator's pods,
    /// as with EKS Pod Identity
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = service_account)]
    service_account: Option<(String, String)>,
    /// IAM role of the ServiceAccount (IRSA), or of the association of EKS Pod Identity
    #[arg(id = "iam-role", long = "iam-role", value_name = "ARN")]
    role: Option<String>,
    /// EKS cluster of the association of EKS Pod Identity
    #[arg(id = "pod-identity-cluster", long = "pod-identity-cluster", value_name = "NAME")]
    eks_cluster: Option<String>,
    /// The SecretProviderClass reads with EKS Pod Identity
    #[arg(long)]
    use_pod_identity: bool,
    /// The SecretProviderClass reads replicas in this region when the first one fails
    #[arg(long, value_name = "REGION")]
    failover_region: Option<String>,
    /// The SecretProviderClass also syncs the values to this Secret
    #[arg(long, value_name = "SECRET")]
    sync_secret: Option<String>,
    /// Key of the ExternalSecret whose value is a Go template, as in URL=postgres://{{ .USER }}@db; repeatable
    #[arg(id = "template", long = "template", value_name = "KEY=TEMPLATE", value_parser = template)]
    templates: Vec<(String, String)>,
    /// Secret of which the ExternalSecret takes every key; repeatable
    #[arg(id = "extract", long = "extract", value_name = "REFERENCE", value_parser = reference)]
    extracts: Vec<Reference>,
    /// The Secret of the ExternalSecret is immutable
    #[arg(long)]
    immutable: bool,
    /// Where the volume is mounted
    #[arg(long, value_name = "PATH", default_value = "/mnt/secrets")]
    mount_path: String,
}

/// Splits `external-secrets/reader`.
fn service_account(text: &str) -> Result<(String, String), String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok((namespace.to_owned(), name.to_owned()))
        }
        _ => Err("expected NAMESPACE/NAME, as in external-secrets/reader".to_owned()),
    }
}

fn template(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, text)) if !key.is_empty() => Ok((key.to_owned(), text.to_owned())),
        _ => Err("expected KEY=TEMPLATE".to_owned()),
    }
}

/// The message does not quote the text, which may be a secret.
fn reference(text: &str) -> Result<Reference, String> {
    text.parse().map_err(|error: bp_secrets::reference::ParseError| error.to_string())
}

/// Every flag that only some forms have.
const OF_FORMS: &[&str] = &[
    "references",
    "name",
    "namespace",
    "type",
    "secrets-store",
    "parameters-store",
    "region",
    "service-account",
    "iam-role",
    "pod-identity-cluster",
    "use-pod-identity",
    "failover-region",
    "sync-secret",
    "template",
    "extract",
    "immutable",
    "mount-path",
];

/// The flags of a form, and its name.
fn flags(form: Form) -> (&'static [&'static str], &'static str) {
    match form {
        Form::Ecs => (&["references"], "ecs"),
        Form::ExternalSecret => (
            &[
                "references",
                "name",
                "namespace",
                "type",
                "secrets-store",
                "parameters-store",
                "template",
                "extract",
                "immutable",
            ],
            "external-secret",
        ),
        Form::ClusterSecretStore => {
            (&["secrets-store", "parameters-store", "region", "service-account"], "cluster-secret-store")
        }
        Form::SecretProviderClass => (
            &["references", "name", "namespace", "use-pod-identity", "failover-region", "sync-secret"],
            "secret-provider-class",
        ),
        Form::Volume => (&["name", "mount-path"], "volume"),
        Form::ConfigMap => (&["references", "name", "namespace"], "config-map"),
        Form::ServiceAccount => (&["name", "namespace", "iam-role"], "service-account"),
        Form::PodIdentity => (&["name", "namespace", "iam-role", "pod-identity-cluster"], "pod-identity"),
        Form::Variables => (&["references"], "variables"),
    }
}

impl PrintArgs {
    pub(super) fn run(self, ui: &Ui) -> Result<ExitCode, Failure> {
        let (allowed, form) = flags(self.form);
        let refused: Vec<&str> = OF_FORMS.iter().copied().filter(|flag| !allowed.contains(flag)).collect();
        self.given.refuse(&refused, &format!("with --form {form}"))?;
        let bindings = match &self.references {
            Some(path) => secrets::of_file(path)?,
            None if self.form.has_references() && self.extracts.is_empty() => {
                return Err(Failure::bad_input(format!("--form {form} requires --references")));
            }
            None => Bindings::default(),
        };
        let mut projection = Projection::new(self.form, self.name);
        projection.namespace = self.namespace;
        projection.secret_type = self.kind;
        projection.stores = [self.secrets_store, self.parameters_store];
        projection.region = self.region;
        projection.service_account = self.service_account;
        projection.role = self.role;
        projection.cluster = self.eks_cluster;
        projection.pod_identity = self.use_pod_identity;
        projection.failover_region = self.failover_region;
        projection.synced = self.sync_secret;
        projection.templates = self.templates.into_iter().collect();
        projection.extracts = self.extracts;
        projection.immutable = self.immutable;
        projection.mount_path = self.mount_path;
        let (object, warnings) = projection.print(&bindings)?;
        for warning in warnings {
            ui.warn(format!("{}: {}", warning.name, warning.lint));
        }
        ui.document(&object);
        Ok(ExitCode::Done)
    }
}
