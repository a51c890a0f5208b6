//! `secrets apply`: a Kubernetes Secret with the values, which go from AWS to the cluster and nowhere else.

use std::path::PathBuf;

use bp_artifact::{ExitCode, error::chain, text};
use bp_secrets::{Store as _, projection::kubernetes::secret_of_type, value::Fetched};
use kube::{
    Api,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams},
};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::{
    Failure, Ui,
    cli::{EnvironmentArgs, ServiceArg},
    secrets,
};

/// The field manager of the Secret.
const MANAGER: &str = "bp-secrets";

/// What to apply.
#[derive(Debug, clap::Args)]
pub(super) struct ApplyArgs {
    #[command(flatten)]
    environment: EnvironmentArgs,
    #[command(flatten)]
    service: ServiceArg,
    /// File of NAME=reference lines
    #[arg(long, value_name = "FILE")]
    references: PathBuf,
    /// Name of the Kubernetes object
    #[arg(long)]
    name: String,
    /// Namespace of the Kubernetes object; defaults to eks.namespace of the service
    #[arg(long)]
    namespace: Option<String>,
    /// Type of the Kubernetes Secret, such as kubernetes.io/tls; defaults to Opaque
    #[arg(id = "type", long, value_name = "TYPE")]
    kind: Option<String>,
    /// Overwrite keys of the Secret that another field manager owns, such as kubectl or an operator
    #[arg(id = "overwrite-keys", long = "overwrite-keys")]
    overwrite: bool,
}

impl ApplyArgs {
    pub(super) async fn run(self, ui: &Ui) -> Result<ExitCode, Failure> {
        let bindings = secrets::of_file(&self.references)?;
        let delivery = self.environment.open(&self.service).await?;
        let eks = delivery.service.eks()?;
        let namespace = self.namespace.as_ref().unwrap_or(&eks.namespace);
        let kind = self.kind.as_deref().unwrap_or("Opaque");
        // Before a value is read.
        let keys = bindings.iter().map(|binding| binding.name.as_str());
        bp_secrets::projection::kubernetes::check_type(kind, keys)
            .map_err(|error| secrets::bad_input(&error))?;
        let references = bindings.references();
        let fetched = delivery.clients.secrets(&references).fetch(&references).await;
        let fetched: Vec<Fetched> = fetched.into_iter().collect::<Result<_, _>>()?;
        let values = bindings
            .iter()
            .zip(&fetched)
            .map(|(binding, fetched)| (binding.name.as_str(), &binding.reference, fetched));
        let manifest = secret_of_type(&self.name, Some(namespace), kind, values)
            .map_err(|error| secrets::bad_input(&error))?;
        let unreadable = |_| Failure::unexpected("the manifest of the Secret is not valid JSON");
        let manifest: Value = serde_json::from_str(manifest.expose_secret()).map_err(unreadable)?;

        let client = delivery.clients.kube(&eks.cluster).await?;
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Secret"));
        let api: Api<DynamicObject> = Api::namespaced_with(client, namespace, &resource);
        let object = format!("secret/{} in {namespace}", self.name);
        let version = |object: &DynamicObject| object.metadata.resource_version.clone();
        let before = api.get_metadata_opt(&self.name).await.map_err(|error| refused(&object, &error))?;
        let before = before.and_then(|object| object.metadata.resource_version);
        let params = PatchParams::apply(MANAGER);
        let params = if self.overwrite { params.force() } else { params };
        let applied = api.patch(&self.name, &params, &Patch::Apply(&manifest)).await;
        let after = version(&applied.map_err(|error| refused(&object, &error))?);
        let what = match before {
            None => "created",
            Some(before) if Some(&before) == after.as_ref() => "unchanged",
            Some(_) => "updated",
        };
        let versions: Vec<Value> = bindings
            .iter()
            .zip(&fetched)
            .map(|(binding, fetched)| {
                json!({ "name": binding.name, "reference": binding.reference, "version": fetched.version() })
            })
            .collect();
        ui.result(
            format!("{object}: {what}, {} keys", versions.len()),
            &json!({ "secret": self.name, "namespace": namespace, "type": kind, "change": what, "keys": versions }),
        );
        Ok(ExitCode::Done)
    }
}

/// The error of a request. The API server's messages contain field names, and no values of a Secret.
fn refused(object: &str, error: &kube::Error) -> Failure {
    match error {
        kube::Error::Api(status) if status.code == 409 => Failure::refused(format!(
            "{object}: {}; use --overwrite-keys to take these keys over",
            text::truncate(&text::single_line(&status.message), 400)
        )),
        kube::Error::Api(status) if matches!(status.code, 400 | 404 | 422) => Failure::bad_input(format!(
            "{object}: {}",
            text::truncate(&text::single_line(&status.message), 400)
        )),
        error => Failure::unavailable(format!("{object}: {}", text::single_line(&chain(error)))),
    }
}
