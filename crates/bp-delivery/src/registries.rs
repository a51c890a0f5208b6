//! Registry clients for command lines: connections, and the logins to use.

use std::path::{Path, PathBuf};

use bp_artifact::{Digest, Platform, Registry};
use bp_promote::{
    Journal, OciLayout, RegistryClient,
    content::{Descriptor, Manifest, Reference},
    registry::{
        AuthFile, Chain, CredentialSource as _, DockerConfig, EcrClients, Logins, RegistryClientBuilder,
        RepositoryClient,
    },
    retry::RetryPolicy,
    store::Source,
};
use futures_util::TryStreamExt as _;
use serde_json::Value;

use crate::{Endpoints, Failure, Location, Session};

/// How registries are accessed. By default over HTTPS, with the logins of docker and podman.
#[derive(Debug, Clone, Default)]
pub struct RegistryOptions {
    /// The journal of uploads in progress, from which an interrupted run resumes.
    pub journal: Option<Journal>,
    /// Whether uploads to Amazon ECR are sent in parts.
    pub ecr_parts: bool,
    /// Registries that are accessed over plain HTTP.
    pub plain_http: Vec<Registry>,
    /// Additional trusted root certificates (PEM).
    pub root_certificates: Option<Vec<u8>>,
    /// The client certificate for mutual TLS, with its private key (PEM).
    pub client_certificate: Option<Vec<u8>>,
    /// How often a failed request is retried; by default [`RetryPolicy::default`].
    pub retries: Option<usize>,
    /// Logins that win over those of files.
    pub logins: Logins,
    /// The only file of logins to read; by default those of docker and podman.
    pub auth_file: Option<PathBuf>,
}

impl RegistryOptions {
    /// Applies the options to a builder.
    pub fn apply(&self, mut builder: RegistryClientBuilder) -> RegistryClientBuilder {
        if let Some(journal) = &self.journal {
            builder = builder.journal(journal.clone());
        }
        if self.ecr_parts {
            builder = builder.ecr_parts();
        }
        if let Some(certificates) = &self.root_certificates {
            builder = builder.root_certificates(certificates.clone());
        }
        if let Some(certificate) = &self.client_certificate {
            builder = builder.client_certificate(certificate.clone());
        }
        if let Some(retries) = self.retries {
            builder = builder.retry(RetryPolicy::new(retries));
        }
        let given = Chain::new().then(self.logins.clone());
        let logins = match &self.auth_file {
            Some(path) => given.then(AuthFile::at(path)),
            None => given.then(DockerConfig),
        };
        let builder = builder.credentials(logins);
        self.plain_http.iter().cloned().fold(builder, RegistryClientBuilder::plain_http)
    }

    /// A client for these registries. Those of Amazon ECR are accessed with the AWS credentials of the process's
    /// environment, unless there are none or a login is given in the options.
    ///
    /// # Errors
    /// When an endpoint or a certificate is not valid.
    ///
    /// # Permissions
    /// `ecr:GetAuthorizationToken` for registries of Amazon ECR.
    ///
    /// # Cancel safety
    /// Cancel safe: changes nothing.
    pub async fn client(&self, registries: &[&Registry]) -> Result<RegistryClient, Failure> {
        let session = Session::new(Endpoints::from_env()?);
        let mut ecr = EcrClients::new();
        for registry in registries.iter().filter(|registry| registry.ecr().is_some()) {
            let is_given = self.auth_file.is_some() || self.logins.login(registry).await?.is_some();
            let clients = session.ambient().await;
            if !is_given && clients.has_credentials().await {
                ecr = ecr.with((*registry).clone(), clients.ecr(registry));
            }
        }
        Ok(self.apply(session.endpoints().registries()?).ecr(ecr).build()?)
    }
}

/// The maximum size of a configuration; those with a long history and many labels have some tens of kilobytes.
const MAX_CONFIG: u64 = 4 << 20;

/// An image to read.
pub(crate) struct OpenedImage {
    location: Location,
    reference: Reference,
    store: Box<dyn Source>,
    /// The same repository, which answers with the digest alone.
    repository: Option<RepositoryClient>,
}

/// Opens the image at `location`.
///
/// # Errors
/// When the location identifies no image, or a layout cannot be read.
pub(crate) async fn open(location: &Location, options: &RegistryOptions) -> Result<OpenedImage, Failure> {
    let (reference, store, repository): (_, Box<dyn Source>, _) = match location {
        Location::Registry { repository, reference } => {
            let reference = reference.clone().ok_or_else(|| {
                Failure::bad_input(format!("{location} has no tag and no digest: add :TAG or @DIGEST"))
            })?;
            let client = options.client(&[repository.registry()]).await?.repository(repository);
            (reference, Box::new(client.clone()), Some(client))
        }
        Location::Layout { path, image } | Location::Archive { path, image } => {
            let layout = open_layout(path).await?;
            let reference = match image {
                Some(image) => image.find(&layout).await?,
                None => layout.only_image().await?,
            };
            (reference, Box::new(layout), None)
        }
    };
    Ok(OpenedImage { location: location.clone(), reference, store, repository })
}

/// Opens a layout to read from: a directory or a tar archive.
pub(crate) async fn open_layout(path: &Path) -> Result<OciLayout, Failure> {
    Ok(OciLayout::open(path).await?)
}

impl OpenedImage {
    /// The digest of the manifest or index.
    pub(crate) async fn digest(&self) -> Result<Digest, Failure> {
        match &self.repository {
            Some(repository) => match repository.head(&self.reference).await? {
                Some(found) => Ok(found.digest),
                // Some registries answer HEAD with 404 although the tag exists.
                None => Ok(self.manifest().await?.digest),
            },
            None => Ok(self.manifest().await?.digest),
        }
    }

    /// The store that holds the image.
    pub(crate) fn store(&self) -> &dyn Source {
        &*self.store
    }

    /// The manifest or index.
    pub(crate) async fn manifest(&self) -> Result<Manifest, Failure> {
        self.store.manifest(&self.reference).await.map_err(|error| {
            let is_missing = error.is_not_found();
            let failure = Failure::from(error);
            if is_missing {
                Failure::bad_input(format!("{} was not found: {failure}", self.location))
            } else {
                failure
            }
        })
    }

    /// The manifest of a platform.
    pub(crate) async fn manifest_for(&self, platform: &Platform) -> Result<Manifest, Failure> {
        let index = self.manifest().await?;
        let platforms = index.platforms()?;
        match platforms.iter().find(|(found, _)| found == platform) {
            Some((_, child)) => {
                let reference = Reference::Digest(child.digest.clone());
                Ok(self.store.manifest(&reference).await?)
            }
            None if platforms.is_empty() => Err(Failure::bad_input(format!(
                "{} is not a multi-platform image: omit --platform",
                self.location
            ))),
            None => {
                let found: Vec<_> = platforms.iter().take(50).map(|(found, _)| found.to_string()).collect();
                Err(Failure::bad_input(format!(
                    "{} has no platform {platform} (it has {})",
                    self.location,
                    found.join(", ")
                )))
            }
        }
    }

    /// A blob that contains JSON, such as a configuration.
    pub(crate) async fn document(&self, blob: &Descriptor) -> Result<Value, Failure> {
        let too_large = || Failure::unexpected(format!("{} is larger than {MAX_CONFIG} bytes", blob.digest));
        if blob.size > MAX_CONFIG {
            return Err(too_large());
        }
        let mut pieces = self.store.blob(blob).await?;
        let mut bytes = Vec::new();
        while let Some(piece) = pieces.try_next().await? {
            bytes.extend_from_slice(&piece);
            if bytes.len() as u64 > MAX_CONFIG {
                return Err(too_large());
            }
        }
        serde_json::from_slice(&bytes)
            .map_err(|error| Failure::unexpected(format!("{} is not valid JSON: {error}", blob.digest)))
    }
}
