//! The object store that serves redirected blob reads.

use std::sync::Arc;

use futures_core::future::BoxFuture;
use http::{Method, Request, Response, header, request};

use super::{
    Registry, blobs,
    error::{Answer, RegistryError},
    route::query,
};
use crate::{body::Body, endpoint::Endpoint};

/// Serves presigned reads of one registry's blobs. Like Amazon S3, it rejects requests with an additional Authorization
/// header.
pub(crate) struct Storage {
    host: String,
    registry: Arc<Registry>,
}

impl Storage {
    /// The object store of `registry`, if its blob reads are redirected.
    pub(crate) fn of(registry: &Arc<Registry>) -> Option<Self> {
        let host = registry.options.storage.clone()?;
        Some(Storage { host, registry: Arc::clone(registry) })
    }

    fn get(&self, parts: &request::Parts) -> Answer {
        if parts.headers.contains_key(header::AUTHORIZATION) {
            let message = "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature \
                           query string parameter or the Authorization header should be specified";
            return Err(RegistryError::new(400, "InvalidArgument", message));
        }
        let denied = || RegistryError::new(403, "AccessDenied", "Access Denied");
        query(parts, "X-Amz-Signature").ok_or_else(denied)?;
        let path = parts.uri.path().trim_start_matches('/');
        let path = path.strip_prefix(self.registry.host()).ok_or_else(denied)?;
        let (name, digest) = path.trim_start_matches('/').rsplit_once('/').ok_or_else(denied)?;
        let store = self.registry.store();
        let link = store.repositories.get(name).and_then(|repository| repository.blobs.get(digest));
        blobs::serve(&link.ok_or_else(denied)?.blob, digest, parts, self.registry.options.ranges)
    }
}

impl Endpoint for Storage {
    fn name(&self) -> String {
        self.host.clone()
    }

    fn buffers(&self) -> bool {
        false
    }

    fn operation(&self, parts: &request::Parts, _: &[u8]) -> String {
        format!("{} storage", parts.method)
    }

    fn handle(self: Arc<Self>, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        Box::pin(async move {
            let (parts, _) = request.into_parts();
            match parts.method {
                Method::GET => self.get(&parts).unwrap_or_else(RegistryError::into_response),
                _ => RegistryError::new(405, "MethodNotAllowed", "").into_response(),
            }
        })
    }
}
