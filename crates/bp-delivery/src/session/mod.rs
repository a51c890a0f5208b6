//! Authenticate to environments: load credentials, assume roles, check the account, and create clients.

/// A client of an SDK crate, with a span for each attempt of a request.
macro_rules! client {
    ($sdk:ident, $config:expr) => {
        $sdk::Client::from_conf(
            $sdk::config::Builder::from($config).interceptor(bp_artifact::aws::RequestSpans).build(),
        )
    };
}

mod clients;
mod credentials;
mod endpoints;
mod lookups;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use aws_config::{BehaviorVersion, Region, SdkConfig, sts::AssumeRoleProvider};
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use bp_artifact::{
    config::{EnvironmentConfig, RoleArn},
    error::ErrorClass,
    sync::lock,
    time::TimeSource,
};
use tokio::sync::OnceCell;

use self::credentials::CachedProvider;
pub use self::{clients::Clients, endpoints::Endpoints};
use crate::Failure;

/// The credentials of one run: the caller's own are fetched once, and each role is assumed once, regardless of the
/// number of environments and clients that use it. Cheap to clone; clones share the credentials.
#[derive(Debug, Clone, Default)]
pub struct Session(Arc<State>);

#[derive(Debug, Default)]
struct State {
    endpoints: Endpoints,
    /// The provider of the caller's own credentials.
    own: OnceCell<Option<SharedCredentialsProvider>>,
    roles: Mutex<BTreeMap<RoleArn, SharedCredentialsProvider>>,
}

impl Session {
    /// A session with these endpoints. Opens no connection.
    pub fn new(endpoints: Endpoints) -> Self {
        Session(Arc::new(State { endpoints, ..State::default() }))
    }

    /// A session with the endpoints of [`Endpoints::from_env`].
    ///
    /// # Errors
    /// As [`Endpoints::from_env`].
    pub fn from_env() -> Result<Self, Failure> {
        Ok(Self::new(Endpoints::from_env()?))
    }

    /// The endpoint overrides.
    pub fn endpoints(&self) -> &Endpoints {
        &self.0.endpoints
    }

    /// Authenticates to an environment: loads credentials, assumes the environment's role and checks that the resulting
    /// account is that of the environment.
    ///
    /// # Errors
    /// When there are no credentials or the role cannot be assumed (unavailable), or when the account differs from that
    /// of `bp.toml` (refused).
    ///
    /// # Permissions
    /// `sts:AssumeRole` on the environment's role, and `sts:GetCallerIdentity` if `account` is set.
    ///
    /// # Cancel safety
    /// Cancel safe: changes nothing.
    pub async fn open(&self, environment: &EnvironmentConfig) -> Result<Clients, Failure> {
        let region = Region::new(environment.region.as_str().to_owned());
        let mut config = self.load(Some(region)).await;
        let none = "no AWS credentials (set AWS_PROFILE, or run where a role is attached)";
        sign_in(&config, none, environment).await?;
        if let Some(role) = &environment.role {
            let provider = self.role(role, &config).await;
            config = config.into_builder().credentials_provider(provider).build();
            sign_in(&config, &format!("cannot assume {role}"), environment).await?;
        }
        check_account(&config, environment).await?;
        Ok(Clients::new(config, self.0.endpoints.clone()))
    }

    /// Clients with the credentials and the region of the process's environment, for work outside the environments of
    /// `bp.toml`.
    ///
    /// # Permissions
    /// None: sends no request.
    ///
    /// # Cancel safety
    /// Cancel safe: changes nothing.
    pub async fn ambient(&self) -> Clients {
        Clients::new(self.load(None).await, self.0.endpoints.clone())
    }

    /// Clients in a region, with a role if there is one, neither of which is verified: for lookups outside the
    /// environments of `bp.toml`.
    #[cfg(feature = "cli")]
    pub(crate) async fn unverified(
        &self,
        region: Option<&bp_artifact::config::Region>,
        role: Option<&RoleArn>,
    ) -> Clients {
        let mut config = self.load(region.map(|region| Region::new(region.as_str().to_owned()))).await;
        if let Some(role) = role {
            let provider = self.role(role, &config).await;
            config = config.into_builder().credentials_provider(provider).build();
        }
        Clients::new(config, self.0.endpoints.clone())
    }

    async fn load(&self, region: Option<Region>) -> SdkConfig {
        let Endpoints { aws, credentials, .. } = &self.0.endpoints;
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12());
        if let Some(region) = region {
            loader = loader.region(region);
        }
        if let Some(url) = aws {
            loader = loader.endpoint_url(url);
        }
        if let Some(credentials) = credentials {
            loader = loader.credentials_provider(credentials.clone());
        }
        if let Some(Some(own)) = self.0.own.get() {
            return loader.credentials_provider(own.clone()).load().await;
        }
        let config = loader.load().await;
        let own = async { config.credentials_provider().map(cached) };
        match self.0.own.get_or_init(|| own).await {
            Some(own) => config.to_builder().credentials_provider(own.clone()).build(),
            None => config,
        }
    }

    /// The credentials of `role`, which is assumed on first use.
    async fn role(&self, role: &RoleArn, config: &SdkConfig) -> SharedCredentialsProvider {
        let roles = || lock(&self.0.roles);
        if let Some(provider) = roles().get(role) {
            return provider.clone();
        }
        let builder = AssumeRoleProvider::builder(role.as_str()).session_name("bp").configure(config);
        let provider = cached(SharedCredentialsProvider::new(builder.build().await));
        roles().entry(role.clone()).or_insert(provider).clone()
    }
}

fn cached(provider: SharedCredentialsProvider) -> SharedCredentialsProvider {
    SharedCredentialsProvider::new(CachedProvider::new(provider, TimeSource::system()))
}

/// Refuses to work in an account other than that of `bp.toml`.
async fn check_account(config: &SdkConfig, environment: &EnvironmentConfig) -> Result<(), Failure> {
    let Some(expected) = &environment.account else { return Ok(()) };
    let identity = client!(aws_sdk_sts, config).get_caller_identity().send().await;
    let identity = identity
        .map_err(|e| unavailable("cannot verify the AWS account (sts:GetCallerIdentity)", environment, &e))?;
    match identity.account() {
        Some(account) if account != expected.as_str() => Err(Failure::refused(format!(
            "the credentials belong to account {account}, but environment {} requires {expected}: check \
             account and role in bp.toml",
            environment.name
        ))),
        _ => Ok(()),
    }
}

/// Fetches the credentials early, so that missing ones are reported before any work starts.
async fn sign_in(config: &SdkConfig, what: &str, environment: &EnvironmentConfig) -> Result<(), Failure> {
    match config.credentials_provider() {
        Some(provider) => match provider.provide_credentials().await {
            Ok(_) => Ok(()),
            Err(error) => Err(unavailable(what, environment, &error)),
        },
        None => Err(Failure::unavailable(format!("{what} for environment {}", environment.name))),
    }
}

fn unavailable(what: &str, environment: &EnvironmentConfig, error: &dyn std::error::Error) -> Failure {
    let error = Failure::new(ErrorClass::Unavailable, error);
    Failure::unavailable(format!("{what} for environment {}: {error}", environment.name))
}
