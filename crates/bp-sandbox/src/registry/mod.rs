//! OCI registries (distribution specification 1.1), with the deviations of Amazon ECR as options.
//!
//! Every endpoint of the specification is implemented: manifests, blobs with ranges, uploads in one or more parts,
//! mounts, tags, referrers, deletion. The operations in the [`Ledger`](crate::Ledger) are `GET base`, `GET token`,
//! `GET catalog`, `HEAD manifest`, `GET manifest`, `PUT manifest`, `DELETE manifest`, `HEAD blob`, `GET blob`,
//! `DELETE blob`, `POST upload` (`POST mount` for a mount), `PATCH upload`, `PUT upload`, `GET upload`,
//! `DELETE upload`, `GET tags`, `GET referrers`, and `GET storage` at the host that blobs are redirected to.
//!
//! ```
//! use bp_sandbox::{ImageBuilder, Sandbox, registry::RegistryOptions};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let sandbox = Sandbox::builder().registry("registry.example.com", RegistryOptions::default()).build();
//! let image = ImageBuilder::new()
//!     .platform("linux/amd64")
//!     .platform("linux/arm64")
//!     .layer([("app/hello.txt", "hello")])
//!     .entrypoint(["/app/server"])
//!     .build();
//! let registry = sandbox.registry("registry.example.com");
//! registry.push(&image, "shop/web", "1.4.2");
//! assert_eq!(registry.tags("shop/web")["1.4.2"], image.digest());
//! # }
//! ```

mod auth;
mod blobs;
mod credentials;
mod document;
mod error;
mod lists;
mod manifests;
#[cfg(feature = "aws")]
mod native;
mod options;
mod permissions;
#[cfg(feature = "aws")]
mod replication;
mod route;
mod storage;
mod store;
mod uploads;

#[cfg(feature = "aws")]
use std::sync::Weak;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use futures_core::future::BoxFuture;
use http::{Method, Request, Response, request};
use jiff::Timestamp;

#[cfg(feature = "aws")]
pub(crate) use self::native::ImageRecord;
use self::{
    credentials::{Credentials, secret},
    error::Answer,
    route::Route,
    store::{Blob, Link, Repository, Store},
};
pub(crate) use self::{error::RegistryError, storage::Storage};
pub use self::{
    options::{Auth, RegistryOptions, TagMutability},
    store::Manifest,
};
use crate::{
    body::Body, clock::Clock, digest::digest_of, endpoint::Endpoint, image::Image, ledger::Permission,
    sync::lock,
};

/// One registry of the sandbox.
pub struct Registry {
    host: String,
    options: RegistryOptions,
    clock: Clock,
    credentials: Credentials,
    store: Mutex<Store>,
    /// The prefixes below which a push creates its repository, and the tag mutability of those repositories.
    creation_prefixes: Mutex<BTreeMap<String, TagMutability>>,
    #[cfg(feature = "aws")]
    replicas: Mutex<Vec<Replica>>,
    #[cfg(feature = "aws")]
    incoming: Mutex<Vec<Incoming>>,
}

/// A destination of replication, and the repositories that are replicated there.
#[cfg(feature = "aws")]
#[derive(Debug)]
pub(crate) struct Replica {
    region: String,
    account: String,
    /// The prefixes of repository names; all repositories if there are none.
    prefixes: Vec<String>,
    /// The destination; none if the sandbox does not have it.
    to: Weak<Registry>,
}

/// The status of the replication of an image, as `DescribeImageReplicationStatus` returns it.
#[cfg(feature = "aws")]
#[derive(Debug, Clone)]
pub(crate) struct ReplicaStatus {
    pub(crate) region: String,
    pub(crate) account: String,
    pub(crate) status: &'static str,
    /// The sandbox's own code: those of ECR are not documented.
    pub(crate) failure: Option<&'static str>,
}

/// Content that arrives from another registry.
#[cfg(feature = "aws")]
struct Incoming {
    due: Timestamp,
    repository: String,
    tag: Option<String>,
    manifest: Manifest,
    blobs: Vec<(String, Link)>,
}

impl Registry {
    pub(crate) fn new(host: String, options: RegistryOptions, clock: Clock) -> Self {
        Registry {
            host,
            options,
            clock,
            credentials: Credentials::default(),
            store: Mutex::default(),
            creation_prefixes: Mutex::default(),
            #[cfg(feature = "aws")]
            replicas: Mutex::default(),
            #[cfg(feature = "aws")]
            incoming: Mutex::default(),
        }
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        #[cfg(feature = "aws")]
        {
            let mut store = lock(&self.store);
            self.receive_replicas(&mut store);
            store
        }
        #[cfg(not(feature = "aws"))]
        lock(&self.store)
    }

    /// The host name.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The manifest of `reference` (a tag or digest) in `repository`.
    pub fn manifest(&self, repository: &str, reference: &str) -> Option<Manifest> {
        self.store().repositories.get(repository)?.manifest(reference).cloned()
    }

    /// The blob with `digest` in `repository`.
    pub fn blob(&self, repository: &str, digest: &str) -> Option<Bytes> {
        Some(self.store().repositories.get(repository)?.blobs.get(digest)?.blob.bytes())
    }

    /// The digests and sizes of all blobs of `repository`.
    pub fn blobs(&self, repository: &str) -> BTreeMap<String, u64> {
        let store = self.store();
        let blobs = store.repositories.get(repository).into_iter().flat_map(|repository| &repository.blobs);
        blobs.map(|(digest, link)| (digest.clone(), link.blob.size)).collect()
    }

    /// The manifests and indexes of `repository`.
    pub fn manifests(&self, repository: &str) -> Vec<Manifest> {
        let store = self.store();
        let manifests = store.repositories.get(repository).map(|repository| repository.manifests.values());
        manifests.into_iter().flatten().cloned().collect()
    }

    /// The tags of `repository` and their digests.
    pub fn tags(&self, repository: &str) -> BTreeMap<String, String> {
        self.store().repositories.get(repository).map(|r| r.tags.clone()).unwrap_or_default()
    }

    /// The names of all repositories.
    pub fn repositories(&self) -> Vec<String> {
        self.store().repositories.keys().cloned().collect()
    }

    /// Creates `repository` if it does not exist.
    pub fn create_repository(&self, repository: &str) {
        self.with(repository, |_| ());
    }

    /// Lets a push create repositories below `prefix` (`ROOT`: all without a more specific one), as a creation template
    /// of ECR does. `None` removes the prefix.
    #[cfg_attr(not(feature = "aws"), allow(dead_code, reason = "used by the ECR API"))]
    pub(crate) fn create_on_push_below(&self, prefix: &str, mutability: Option<TagMutability>) {
        let mut prefixes = lock(&self.creation_prefixes);
        match mutability {
            Some(mutability) => prefixes.insert(prefix.to_owned(), mutability),
            None => prefixes.remove(prefix),
        };
    }

    /// The tag mutability of a repository that a push would create.
    fn creation_template(&self, repository: &str) -> Option<TagMutability> {
        let prefixes = lock(&self.creation_prefixes);
        let is_below = |prefix: &str| {
            repository.strip_prefix(prefix.trim_end_matches('/')).is_some_and(|rest| rest.starts_with('/'))
        };
        let longest =
            prefixes.iter().filter(|(prefix, _)| is_below(prefix)).max_by_key(|(prefix, _)| prefix.len());
        longest.map(|(_, mutability)| mutability).or_else(|| prefixes.get("ROOT")).cloned()
    }

    /// Sets the tag mutability of `repository`, instead of the registry's default. Creates it if it does not exist.
    pub fn set_mutability(&self, repository: &str, mutability: TagMutability) {
        self.with(repository, |repository| repository.mutability = Some(mutability));
    }

    /// Puts a blob into `repository` and returns its digest. Creates the repository if it does not exist.
    pub fn put_blob(&self, repository: &str, bytes: impl Into<Bytes>) -> String {
        let bytes = bytes.into();
        let digest = digest_of(&bytes);
        let mut blob = Blob::default();
        blob.push(bytes);
        let link = Link { blob: Arc::new(blob), since: Timestamp::UNIX_EPOCH };
        self.with(repository, |repository| repository.blobs.insert(digest.clone(), link));
        digest
    }

    /// Puts a manifest or index into `repository`, without validation, and returns its digest.
    pub fn put_manifest(&self, repository: &str, media_type: &str, bytes: impl Into<Bytes>) -> String {
        let bytes = bytes.into();
        let digest = digest_of(&bytes);
        let manifest = Manifest {
            digest: digest.clone(),
            media_type: media_type.to_owned(),
            bytes,
            pushed_at: self.clock.now(),
        };
        self.with(repository, |repository| repository.manifests.insert(digest.clone(), manifest));
        digest
    }

    /// Sets `tag` to `digest`, even if the tag is immutable.
    pub fn tag(&self, repository: &str, tag: &str, digest: &str) {
        self.with(repository, |repository| repository.tags.insert(tag.to_owned(), digest.to_owned()));
    }

    /// Puts `image` with its manifests and blobs into `repository`, and tags it.
    pub fn push(&self, image: &Image, repository: &str, tag: &str) {
        for bytes in image.blobs() {
            self.put_blob(repository, bytes.clone());
        }
        for (media_type, bytes) in image.manifests() {
            self.put_manifest(repository, media_type, bytes.clone());
        }
        self.tag(repository, tag, image.digest());
    }

    /// Deletes a manifest of `repository` and the tags that point to it. Returns whether it existed.
    pub fn delete(&self, repository: &str, digest: &str) -> bool {
        let mut store = self.store();
        let Some(repository) = store.repositories.get_mut(repository) else { return false };
        repository.tags.retain(|_, tagged| tagged != digest);
        repository.manifests.remove(digest).is_some()
    }

    /// A new password for user `AWS` that is valid for `lifetime`, as from ECR's GetAuthorizationToken.
    pub fn log_in(&self, lifetime: Duration) -> String {
        let password = secret();
        self.accept_password(&password, self.clock.now() + lifetime);
        password
    }

    /// Accepts `password` for user `AWS` until `until`.
    pub(crate) fn accept_password(&self, password: &str, until: Timestamp) {
        self.credentials.accept(password, until);
    }

    /// Calls `work` with `repository`, which is created if it does not exist.
    fn with<T>(&self, repository: &str, work: impl FnOnce(&mut Repository) -> T) -> T {
        let now = self.clock.now();
        let mut store = self.store();
        work(store.repositories.entry(repository.to_owned()).or_insert_with(|| Repository::new(now)))
    }

    async fn answer(&self, request: Request<Body>) -> Answer {
        let (parts, body) = request.into_parts();
        let route = Route::of(&parts.method, parts.uri.path())?;
        if let Route::Token = route {
            return self.token(&parts);
        }
        self.authorize(&parts, &route).map_err(|refusal| self.conceal(&parts, &route, refusal))?;
        let reading = matches!(parts.method, Method::GET | Method::HEAD);
        match route {
            Route::Token => unreachable!("answered above"),
            Route::Base => Ok(error::json(200, &serde_json::json!({}))),
            Route::Catalog => self.catalog(&parts),
            Route::Tags { name } => self.list_tags(&parts, name),
            Route::Referrers { name, digest } => self.list_referrers(&parts, name, digest),
            Route::Manifest { name, reference } => match parts.method {
                Method::PUT => self.put(&parts, name, reference, body).await,
                Method::DELETE => self.delete_manifest(name, reference),
                _ => self.get_manifest(&parts, name, reference),
            },
            Route::Blob { name, digest } if reading => self.get_blob(&parts, name, digest),
            Route::Blob { name, digest } => self.delete_blob(name, digest),
            Route::Uploads { name } => self.start_upload(&parts, name, body).await,
            Route::Upload { name, id } => match parts.method {
                Method::PATCH => self.patch_upload(&parts, name, id, body).await,
                Method::PUT => self.finish_upload(&parts, name, id, body).await,
                Method::DELETE => self.cancel_upload(name, id),
                _ => self.upload_status(&parts, name, id),
            },
        }
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("host", &self.host).finish_non_exhaustive()
    }
}

impl Endpoint for Registry {
    fn name(&self) -> String {
        self.host.clone()
    }

    fn buffers(&self) -> bool {
        false
    }

    fn operation(&self, parts: &request::Parts, _: &[u8]) -> String {
        route::operation(parts)
    }

    fn authorization(&self, parts: &request::Parts, _: &[u8]) -> (Option<String>, Vec<Permission>) {
        (None, permissions::of(&self.host, parts))
    }

    fn handle(self: Arc<Self>, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        Box::pin(async move {
            let head = request.method() == Method::HEAD;
            let response = self.answer(request).await.unwrap_or_else(RegistryError::into_response);
            if head { response.map(|_| Body::empty()) } else { response }
        })
    }
}
