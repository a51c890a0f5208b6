//! Where the outside world is: endpoints of AWS, of registries, and a cluster's kubeconfig.

use std::{collections::BTreeMap, path::PathBuf};

use aws_credential_types::Credentials;
use bp_promote::{
    RegistryClient,
    registry::{CredentialSource, RegistryClientBuilder},
};

use crate::Failure;

/// Where the outside world is, when it is not where it usually is.
#[derive(Debug, Clone, Default)]
pub struct Endpoints {
    /// One endpoint for all AWS APIs. The SDK reads `AWS_ENDPOINT_URL` by itself; this wins.
    pub aws: Option<String>,
    /// Credentials, when they do not come from the SDK's usual places.
    pub credentials: Option<Credentials>,
    /// Registry host -> base URL that answers for it, such as a loopback sandbox or a pull-through proxy.
    pub registries: BTreeMap<String, String>,
    /// The cluster is the one of this file's current context, and EKS is not asked for it.
    pub kubeconfig: Option<PathBuf>,
}

/// `host=url` pairs, separated by commas.
const REGISTRIES: &str = "BP_REGISTRY_ENDPOINTS";
const KUBECONFIG: &str = "BP_KUBECONFIG";

impl Endpoints {
    /// Reads `BP_REGISTRY_ENDPOINTS`, `host=url` pairs separated by commas, and `BP_KUBECONFIG`, a file.
    ///
    /// # Errors
    /// When a pair has no `=`.
    pub fn from_env() -> Result<Self, Failure> {
        let text = std::env::var(REGISTRIES).unwrap_or_default();
        let pair = |pair: &str| match pair.split_once('=') {
            Some((host, url)) => Ok((host.trim().to_owned(), url.trim().to_owned())),
            None => Err(Failure::bad_input(format!("{REGISTRIES}: {pair:?} is not of the form host=url"))),
        };
        let registries =
            text.split(',').filter(|p| !p.trim().is_empty()).map(pair).collect::<Result<_, _>>()?;
        let kubeconfig = std::env::var_os(KUBECONFIG).filter(|file| !file.is_empty()).map(PathBuf::from);
        Ok(Endpoints { registries, kubeconfig, ..Self::default() })
    }

    /// A registry client that knows where the registries are and signs in by `credentials`.
    ///
    /// # Errors
    /// When a registry's URL is none.
    pub fn registry_client(
        &self,
        credentials: impl CredentialSource + 'static,
    ) -> Result<RegistryClient, Failure> {
        Ok(self.registries()?.credentials(credentials).build()?)
    }

    /// A registry client in the making that knows where the registries are.
    ///
    /// # Errors
    /// When a registry's name is none.
    pub fn registries(&self) -> Result<RegistryClientBuilder, Failure> {
        let mut builder = RegistryClient::builder();
        for (host, url) in &self.registries {
            builder = builder.endpoint(host.parse()?, url);
        }
        Ok(builder)
    }
}
