//! Endpoint overrides for AWS APIs and registries, and a kubeconfig in place of EKS.

use std::{collections::BTreeMap, path::PathBuf};

use aws_credential_types::Credentials;
use bp_promote::{
    RegistryClient,
    registry::{CredentialSource, RegistryClientBuilder},
};

use crate::Failure;

/// Endpoint overrides for AWS APIs, registries and the cluster. Empty by default.
#[derive(Debug, Clone, Default)]
pub struct Endpoints {
    /// One endpoint for all AWS APIs. Wins over `AWS_ENDPOINT_URL`, which the SDK reads.
    pub aws: Option<String>,
    /// Credentials that replace the SDK's default provider chain.
    pub credentials: Option<Credentials>,
    /// Base URL by registry host, such as a loopback sandbox or a proxy.
    pub registries: BTreeMap<String, String>,
    /// A kubeconfig file whose current context is used as the cluster, without EKS.
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
            None => Err(Failure::bad_input(format!("{REGISTRIES}: {pair:?} is not of the form host=URL"))),
        };
        let registries =
            text.split(',').filter(|p| !p.trim().is_empty()).map(pair).collect::<Result<_, _>>()?;
        let kubeconfig = std::env::var_os(KUBECONFIG).filter(|file| !file.is_empty()).map(PathBuf::from);
        Ok(Endpoints { registries, kubeconfig, ..Self::default() })
    }

    /// A registry client with these endpoints and the given credentials.
    ///
    /// # Errors
    /// When a registry's URL is not valid.
    pub fn registry_client(
        &self,
        credentials: impl CredentialSource + 'static,
    ) -> Result<RegistryClient, Failure> {
        Ok(self.registries()?.credentials(credentials).build()?)
    }

    /// A registry client builder with these endpoints.
    ///
    /// # Errors
    /// When a registry host is not valid.
    pub fn registries(&self) -> Result<RegistryClientBuilder, Failure> {
        let mut builder = RegistryClient::builder();
        for (host, url) in &self.registries {
            builder = builder.endpoint(host.parse()?, url);
        }
        Ok(builder)
    }
}
