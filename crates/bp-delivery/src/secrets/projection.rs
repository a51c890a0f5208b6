//! Print references, and the Kubernetes objects around them, for each consumer.

use std::collections::BTreeMap;

use bp_secrets::{
    Reference,
    projection::{
        Bindings, Renderer, Warning,
        ascp::{self, SecretProviderClass},
        ecs, env,
        external_secrets::{ExternalSecret, cluster_store, controller_store},
        kubernetes, lint,
    },
    reference::Service,
};
use serde_json::{Value, json};

use super::bad_input;
use crate::Failure;

/// The output format of references, by consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Form {
    /// `secrets` of a container in an ECS task definition
    Ecs,
    /// An `ExternalSecret` of External Secrets Operator
    ExternalSecret,
    /// The `ClusterSecretStore`s of External Secrets Operator
    ClusterSecretStore,
    /// A `SecretProviderClass` of the Secrets Store CSI driver
    SecretProviderClass,
    /// The volume of a pod that mounts a `SecretProviderClass`, and its mount
    Volume,
    /// A Kubernetes `ConfigMap`, for programs that read the values themselves
    ConfigMap,
    /// A `ServiceAccount` with the IAM role that reads the secrets (IRSA), or without one for EKS Pod Identity
    ServiceAccount,
    /// An association of EKS Pod Identity, for `aws eks create-pod-identity-association --cli-input-json`
    PodIdentity,
    /// Environment variables with references, for programs that read the values themselves
    Variables,
}

impl Form {
    /// Whether it contains references.
    pub fn has_references(self) -> bool {
        match self {
            Form::Ecs
            | Form::ExternalSecret
            | Form::SecretProviderClass
            | Form::ConfigMap
            | Form::Variables => true,
            Form::ClusterSecretStore | Form::Volume | Form::ServiceAccount | Form::PodIdentity => false,
        }
    }
}

/// What to print; the options of other forms have no effect.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Projection {
    /// The form.
    pub form: Form,
    /// The name of the Kubernetes object.
    pub name: String,
    /// Its namespace.
    pub namespace: Option<String>,
    /// The type of the `Secret` that an `ExternalSecret` creates.
    pub secret_type: Option<String>,
    /// The names of the `ClusterSecretStore`s for Secrets Manager and for Parameter Store.
    pub stores: [String; 2],
    /// The region of the `ClusterSecretStore`s.
    pub region: Option<String>,
    /// Namespace and name of the service account with whose role the `ClusterSecretStore`s read (IRSA).
    pub service_account: Option<(String, String)>,
    /// The IAM role of the `ServiceAccount`, or of the association.
    pub role: Option<String>,
    /// The EKS cluster of the association.
    pub cluster: Option<String>,
    /// Whether a `SecretProviderClass` reads with EKS Pod Identity.
    pub pod_identity: bool,
    /// The region in which a `SecretProviderClass` reads replicas.
    pub failover_region: Option<String>,
    /// The `Secret` to which a `SecretProviderClass` also syncs the values.
    pub synced: Option<String>,
    /// Keys of an `ExternalSecret`, with the Go templates of their values.
    pub templates: BTreeMap<String, String>,
    /// References of which an `ExternalSecret` takes every key.
    pub extracts: Vec<Reference>,
    /// Whether the `Secret` of an `ExternalSecret` is immutable.
    pub immutable: bool,
    /// Where a volume is mounted.
    pub mount_path: String,
}

impl Projection {
    /// A projection with the defaults of its form.
    pub fn new(form: Form, name: impl Into<String>) -> Self {
        Projection {
            form,
            name: name.into(),
            namespace: None,
            secret_type: None,
            stores: ["aws-secrets-manager".to_owned(), "aws-parameter-store".to_owned()],
            region: None,
            service_account: None,
            role: None,
            cluster: None,
            pod_identity: false,
            failover_region: None,
            synced: None,
            templates: BTreeMap::new(),
            extracts: Vec::new(),
            immutable: false,
            mount_path: "/mnt/secrets".to_owned(),
        }
    }

    /// The object, with the warnings about references that its consumer handles in an unexpected way.
    ///
    /// # Errors
    /// When the form cannot express one of the references, or requires an option that is missing.
    pub fn print(&self, bindings: &Bindings) -> Result<(Value, Vec<Warning>), Failure> {
        let namespace = self.namespace.as_deref();
        let (object, renderer) = match self.form {
            Form::Ecs => (ecs::print(bindings).map_err(|error| bad_input(&error))?, Some(Renderer::Ecs)),
            Form::ExternalSecret => (self.external_secret(bindings)?, Some(Renderer::ExternalSecrets)),
            Form::SecretProviderClass => {
                let class = self.provider_class().print(bindings).map_err(|error| bad_input(&error))?;
                (class, Some(Renderer::Ascp))
            }
            Form::ConfigMap => (kubernetes::config_map(&self.name, namespace, bindings), None),
            Form::Variables => {
                let variables = env::to_variables(bindings).into_iter();
                (variables.map(|(name, value)| (name, Value::String(value))).collect(), None)
            }
            Form::ClusterSecretStore => (self.stores()?, None),
            Form::Volume => (self.volume(), None),
            Form::ServiceAccount => {
                let account = match &self.role {
                    Some(role) => kubernetes::service_account(&self.name, namespace, role),
                    None => kubernetes::plain_service_account(&self.name, namespace),
                };
                (account, None)
            }
            Form::PodIdentity => (self.association()?, None),
        };
        Ok((object, renderer.map(|renderer| lint(renderer, bindings)).unwrap_or_default()))
    }

    fn required<'o>(option: Option<&'o String>, flag: &str) -> Result<&'o str, Failure> {
        let missing = || Failure::bad_input(format!("this form requires {flag}"));
        option.map(String::as_str).ok_or_else(missing)
    }

    fn external_secret(&self, bindings: &Bindings) -> Result<Value, Failure> {
        let [secrets, parameters] = &self.stores;
        let mut secret = ExternalSecret::new(&self.name).stores(secrets, parameters);
        if let Some(namespace) = &self.namespace {
            secret = secret.namespace(namespace);
        }
        if let Some(kind) = &self.secret_type {
            let of_bindings = bindings.iter().map(|binding| binding.name.as_str());
            let of_templates = self.templates.keys().map(String::as_str);
            // The keys of extracted objects are not known.
            if self.extracts.is_empty() {
                let keys: Vec<&str> =
                    if self.templates.is_empty() { of_bindings.collect() } else { of_templates.collect() };
                kubernetes::check_type(kind, keys).map_err(|error| bad_input(&error))?;
            }
            secret = secret.secret_type(kind);
        }
        if self.immutable {
            secret = secret.immutable();
        }
        secret = self.templates.iter().fold(secret, |secret, (key, text)| secret.template(key, text));
        secret = self.extracts.iter().cloned().fold(secret, ExternalSecret::extract);
        Ok(secret.print(bindings))
    }

    fn provider_class(&self) -> SecretProviderClass {
        let class = SecretProviderClass::new(&self.name);
        let class = self.namespace.iter().fold(class, |class, namespace| class.namespace(namespace));
        let class = self.failover_region.iter().fold(class, |class, region| class.failover_region(region));
        let class = self.synced.iter().fold(class, |class, secret| class.synced(secret));
        if self.pod_identity { class.pod_identity() } else { class }
    }

    /// Both stores, in a list that kubectl applies.
    fn stores(&self) -> Result<Value, Failure> {
        let region = Self::required(self.region.as_ref(), "--store-region")?;
        let services = [Service::SecretsManager, Service::Ssm];
        let store = |(name, service): (&String, Service)| match &self.service_account {
            Some((namespace, account)) => cluster_store(name, service, region, (namespace, account)),
            None => controller_store(name, service, region),
        };
        let items: Vec<Value> = self.stores.iter().zip(services).map(store).collect();
        Ok(json!({ "apiVersion": "v1", "kind": "List", "items": items }))
    }

    fn volume(&self) -> Value {
        json!({
            "volumes": [ascp::volume(&self.name, &self.name)],
            "volumeMounts": [{ "name": self.name, "mountPath": self.mount_path, "readOnly": true }],
        })
    }

    fn association(&self) -> Result<Value, Failure> {
        let cluster = Self::required(self.cluster.as_ref(), "--pod-identity-cluster")?;
        let namespace = Self::required(self.namespace.as_ref(), "--namespace")?;
        let role = Self::required(self.role.as_ref(), "--iam-role")?;
        Ok(kubernetes::pod_identity_association(cluster, namespace, &self.name, role))
    }
}
