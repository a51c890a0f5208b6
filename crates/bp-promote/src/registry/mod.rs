//! Client for OCI registries: manifests, blobs, tags, referrers and authentication.

mod auth;
mod auth_document;
mod auth_file;
mod blob;
mod body;
mod builder;
mod challenge;
mod client;
mod credentials;
mod ecr;
mod endpoints;
mod error;
#[cfg(any(fuzzing, test))]
#[doc(hidden)]
pub mod fuzzing;
mod helper;
mod host;
mod http;
mod lists;
mod login;
mod origin;
mod pace;
mod platform;
mod profile;
mod providers;
mod referrers;
mod repository;
mod resolver;
mod session;
mod spans;
mod store;
mod tls;
mod upload;

#[cfg(feature = "ecr")]
pub use self::ecr::EcrClients;
pub use self::{
    auth_file::{AuthFile, DockerConfig, LoginStore},
    body::Body,
    builder::{BuildError, RegistryClientBuilder},
    client::RegistryClient,
    credentials::{Anonymous, Chain, CredentialError, CredentialSource, Logins},
    error::{ApiError, ApiErrors, RegistryError, RequestLine},
    http::{Transport, transport},
    login::{Login, RegistryLogins},
    repository::RepositoryClient,
    resolver::RegistryResolver,
    tls::TlsProblem,
};
