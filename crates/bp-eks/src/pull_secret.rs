//! Create and renew the image pull Secret for Amazon ECR.
//!
//! EKS nodes do not need it: their role may pull. Other clusters, and tools that read registries themselves (Argo CD
//! Image Updater), do. ECR tokens are valid for twelve hours: run this every few hours, from a CronJob or a pipeline.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use bp_artifact::time::TimeSource;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use crate::{api::scope::Scope, error::Error, object::ObjectRef};

/// The field manager of the Secret.
const MANAGER: &str = "bp-eks:pull-secret";
const EXPIRES: &str = "bp-eks/expires-at";
const KIND: &str = "kubernetes.io/dockerconfigjson";

/// A registry's authorization, as ECR's `GetAuthorizationToken` returns it. A plain value, so that this crate needs no
/// ECR client.
///
/// ```
/// # use bp_eks::pull_secret::RegistryToken;
/// // From aws_sdk_ecr: `data.authorization_token()`, `data.proxy_endpoint()`, `data.expires_at()`.
/// let token = RegistryToken::new(
///     "https://111111111111.dkr.ecr.eu-central-1.amazonaws.com",
///     "QVdTOnBhc3N3b3Jk",
///     "2026-01-01T12:00:00Z".parse().unwrap(),
/// );
/// assert!(!format!("{token:?}").contains("QVdT"));
/// ```
#[derive(Debug, Clone)]
pub struct RegistryToken {
    registries: Vec<String>,
    authorization: SecretString,
    expires_at: Timestamp,
}

impl RegistryToken {
    /// `endpoint` is the registry's host, or its URL as ECR returns it; `authorization` is base64 of `user:password`.
    pub fn new(
        endpoint: impl AsRef<str>,
        authorization: impl Into<SecretString>,
        expires_at: Timestamp,
    ) -> Self {
        let token = RegistryToken { registries: Vec::new(), authorization: authorization.into(), expires_at };
        token.also(endpoint)
    }

    /// Adds another registry for the same token: an ECR token is valid for every registry that its principal may read.
    pub fn also(mut self, endpoint: impl AsRef<str>) -> Self {
        let registry = endpoint.as_ref().trim_start_matches("https://").trim_end_matches('/');
        self.registries.push(registry.to_owned());
        self
    }

    /// Base64 of `user:password`.
    #[cfg(feature = "helm")]
    pub(crate) fn authorization(&self) -> &SecretString {
        &self.authorization
    }
}

/// The result of a refresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refreshed {
    /// The expiry of the token.
    pub expires_at: Timestamp,
    /// Whether the Secret was changed.
    pub changed: bool,
}

/// A `kubernetes.io/dockerconfigjson` Secret in a namespace. Cheap to clone.
///
/// ```no_run
/// # async fn run(client: kube::Client, token: bp_eks::pull_secret::RegistryToken) -> Result<(), bp_eks::Error> {
/// use std::time::Duration;
/// use bp_eks::Cluster;
///
/// let secret = Cluster::new(client, "prod").namespace("shop").pull_secret("ecr");
/// // ECR tokens are valid for twelve hours; a job that runs every six hours renews one that expires within seven.
/// if secret.is_due(Duration::from_secs(7 * 3600)).await? {
///     let refreshed = secret.refresh(&token).await?;
///     tracing::info!("valid until {}, before {:?}", refreshed.expires_at, secret.expires_at().await?);
/// }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct PullSecret {
    scope: Scope,
    name: String,
    time: TimeSource,
    annotations: BTreeMap<String, String>,
}

impl std::fmt::Debug for PullSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PullSecret")
            .field("namespace", &self.scope.namespace)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl PullSecret {
    pub(crate) fn of(scope: Scope, name: String) -> Self {
        PullSecret { scope, name, time: TimeSource::system(), annotations: BTreeMap::new() }
    }

    /// An annotation that the Secret has after a refresh.
    pub fn annotation(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.annotations.insert(name.into(), value.into());
        self
    }

    /// Sets the clock, for tests.
    pub fn time_source(mut self, time: TimeSource) -> Self {
        self.time = time;
        self
    }

    fn api(&self) -> Api<Secret> {
        self.scope.api()
    }

    fn object(&self) -> ObjectRef {
        self.scope.object("secret", &self.name)
    }

    /// The expiry of the existing Secret; `None` when it does not exist or was not created by bp-eks.
    ///
    /// # Errors
    /// When it cannot be read.
    ///
    /// # Permissions
    /// RBAC: `get` on `secrets`, which may be limited to this name.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn expires_at(&self) -> Result<Option<Timestamp>, Error> {
        let found = self.api().get_metadata_opt(&self.name).await;
        let found = found.map_err(|e| self.object().error("get secrets", e))?;
        Ok(found.and_then(|secret| secret.annotations().get(EXPIRES)?.parse().ok()))
    }

    /// Whether the Secret is missing or expires within `margin`. Lets a frequent job call ECR only when necessary.
    ///
    /// # Errors
    /// As [`expires_at`](Self::expires_at).
    ///
    /// # Permissions
    /// As [`expires_at`](Self::expires_at).
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn is_due(&self, margin: Duration) -> Result<bool, Error> {
        let expires = self.expires_at().await?;
        Ok(expires.is_none_or(|at| at <= self.time.now().saturating_add(margin).unwrap_or(Timestamp::MAX)))
    }

    /// Creates or updates the Secret by server-side apply with its own field manager: labels and annotations of other
    /// field managers are kept, their data is overwritten.
    ///
    /// # Errors
    /// When the API server refuses the request; a Secret of another type with the same name cannot be changed.
    ///
    /// # Permissions
    /// RBAC: `get`, `create`, `patch` on `secrets`; for the token, the IAM action `ecr:GetAuthorizationToken`.
    ///
    /// # Cancel safety
    /// A single atomic request.
    pub async fn refresh(&self, token: &RegistryToken) -> Result<Refreshed, Error> {
        let auth = json!({ "auth": token.authorization.expose_secret() });
        let auths: serde_json::Map<_, _> =
            token.registries.iter().map(|registry| (registry.clone(), auth.clone())).collect();
        let expires_at = token.expires_at;
        let mut annotations = self.annotations.clone();
        annotations.insert(EXPIRES.to_owned(), expires_at.to_string());
        let config = STANDARD.encode(json!({ "auths": auths }).to_string());
        let secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": { "name": self.name, "annotations": annotations },
            "type": KIND,
            "data": { ".dockerconfigjson": config },
        });
        let before = self.version().await?;
        let params = PatchParams::apply(MANAGER).force();
        let applied = self.api().patch_metadata(&self.name, &params, &Patch::Apply(&secret)).await;
        let applied = applied.map_err(|e| self.object().error("patch secrets", e))?;
        Ok(Refreshed { expires_at, changed: before.is_none() || before != applied.resource_version() })
    }

    async fn version(&self) -> Result<Option<String>, Error> {
        let found = self.api().get_metadata_opt(&self.name).await;
        let found = found.map_err(|e| self.object().error("get secrets", e))?;
        Ok(found.and_then(|secret| secret.resource_version()))
    }
}
