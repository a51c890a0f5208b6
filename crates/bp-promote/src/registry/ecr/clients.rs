//! Amazon ECR's own API: logins and layer checks.

use std::{collections::HashMap, fmt};

use aws_sdk_ecr::Client;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bp_artifact::{Registry, aws::AwsError};
use futures_core::future::BoxFuture;
use jiff::Timestamp;

use crate::registry::{
    credentials::{CredentialError, CredentialSource},
    login::Login,
};

const OPERATION: &str = "ecr:GetAuthorizationToken";

/// One client per Amazon ECR registry, each with its own role, so that source and destination may be in different
/// accounts and regions. They provide logins and, when [passed to the client
/// builder](crate::registry::RegistryClientBuilder::ecr), check up to 100 layers with one call.
///
/// # Permissions
/// `ecr:GetAuthorizationToken` on `*`, `ecr:BatchCheckLayerAvailability` on the repositories.
#[derive(Clone, Default)]
pub struct EcrClients(HashMap<Registry, Client>);

impl EcrClients {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a registry with its client, which must be configured for the registry's region.
    pub fn with(mut self, registry: Registry, client: Client) -> Self {
        self.0.insert(registry, client);
        self
    }

    pub(in crate::registry) fn of(&self, registry: &Registry) -> Option<&Client> {
        self.0.get(registry)
    }
}

impl fmt::Debug for EcrClients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl CredentialSource for EcrClients {
    fn login<'a>(&'a self, registry: &'a Registry) -> BoxFuture<'a, Result<Option<Login>, CredentialError>> {
        Box::pin(async move {
            match self.0.get(registry) {
                Some(client) => fetch(client).await.map(Some),
                None => Ok(None),
            }
        })
    }
}

async fn fetch(client: &Client) -> Result<Login, CredentialError> {
    let answer = client.get_authorization_token().send().await.map_err(|error| {
        let error = AwsError::of(&error);
        let retryable = error.kind().is_retryable();
        CredentialError::Service { service: OPERATION, retryable, source: error.into() }
    })?;
    let malformed = |reason: &'static str| CredentialError::Service {
        service: OPERATION,
        retryable: false,
        source: reason.into(),
    };
    let data = answer
        .authorization_data()
        .first()
        .ok_or_else(|| malformed("the response has no authorization data"))?;
    let token = data.authorization_token().ok_or_else(|| malformed("the response has no token"))?;
    let decoded = BASE64_STANDARD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let login = decoded
        .as_deref()
        .and_then(|text| text.split_once(':'))
        .map(|(user, password)| Login::password(user, password))
        .ok_or_else(|| malformed("the token is not user:password in base64"))?;
    let expires_at = data.expires_at().and_then(|at| Timestamp::from_second(at.secs()).ok());
    Ok(match expires_at {
        Some(at) => login.until(at),
        None => login,
    })
}
