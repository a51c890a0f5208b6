//! Registry options: optional features of the specification, deviations of real registries, authentication.

use std::time::Duration;

/// The options of a registry. The default supports the whole specification, without authentication.
///
/// ```
/// use std::time::Duration;
/// use bp_sandbox::registry::{Auth, RegistryOptions};
///
/// let strict = RegistryOptions::default()
///     .auth(Auth::token("ci", "s3cret", Duration::from_secs(300)))
///     .immutable_tags()
///     .without_referrers();
/// # let _ = strict;
/// ```
#[derive(Debug, Clone)]
pub struct RegistryOptions {
    pub(super) auth: Auth,
    pub(super) ecr: bool,
    pub(super) create_on_push: bool,
    pub(super) mounts: bool,
    pub(super) referrers: bool,
    pub(super) refuses_subjects: bool,
    pub(super) ranges: bool,
    pub(super) single_post: bool,
    pub(super) absolute_locations: bool,
    pub(super) mutability: TagMutability,
    pub(super) page_size: usize,
    pub(super) validator_lag: Duration,
    pub(super) reference_validation: bool,
    pub(super) storage: Option<String>,
    pub(super) conceals: Option<u16>,
    pub(super) max_request: Option<u64>,
    pub(super) min_chunk: Option<u64>,
    pub(super) max_chunk: Option<u64>,
    pub(super) whole_uploads: bool,
    #[cfg_attr(not(feature = "aws"), allow(dead_code, reason = "used by the ECR API"))]
    pub(super) replication_lag: Duration,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        RegistryOptions {
            auth: Auth::None,
            ecr: false,
            create_on_push: true,
            mounts: true,
            referrers: true,
            refuses_subjects: false,
            ranges: true,
            single_post: true,
            absolute_locations: false,
            mutability: TagMutability::Mutable,
            page_size: 1000,
            validator_lag: Duration::ZERO,
            reference_validation: true,
            storage: None,
            conceals: None,
            max_request: None,
            min_chunk: None,
            max_chunk: None,
            whole_uploads: true,
            replication_lag: Duration::from_secs(30),
        }
    }
}

impl RegistryOptions {
    /// A registry that behaves like Amazon ECR: user `AWS` with a password that expires (from
    /// [`Registry::log_in`](super::Registry::log_in) or ECR's GetAuthorizationToken) and is rejected with 403
    /// afterwards; repositories must exist; no mounts; PATCH responds with 201 and a Range that always covers only the
    /// first part; parts of at least 5 MiB; no single POST; no Location in the response to a manifest PUT.
    pub fn ecr() -> Self {
        RegistryOptions {
            auth: Auth::Ecr,
            ecr: true,
            create_on_push: false,
            mounts: false,
            single_post: false,
            absolute_locations: true,
            ..Self::default()
        }
    }

    /// Sets the authentication.
    pub fn auth(mut self, auth: Auth) -> Self {
        self.auth = auth;
        self
    }

    /// Whether a push creates its repository.
    pub fn create_on_push(mut self, yes: bool) -> Self {
        self.create_on_push = yes;
        self
    }

    /// Whether blobs of other repositories can be mounted; otherwise the response is 202, and the client uploads the
    /// blob.
    ///
    /// With [`ecr`](Self::ecr), only blobs that a manifest of the other repository refers to can be mounted.
    pub fn mounts(mut self, yes: bool) -> Self {
        self.mounts = yes;
        self
    }

    /// Disables the referrers API: `/referrers/` is 404, and subjects are ignored.
    pub fn without_referrers(mut self) -> Self {
        self.referrers = false;
        self
    }

    /// Rejects manifests with a subject with 405.
    pub fn refusing_subjects(mut self) -> Self {
        self.refuses_subjects = true;
        self
    }

    /// Ignores `Range` and responds with the whole blob.
    pub fn without_ranges(mut self) -> Self {
        self.ranges = false;
        self
    }

    /// Responds to `POST ?digest=` with 202 and requires an upload, as many registries do.
    pub fn without_single_post(mut self) -> Self {
        self.single_post = false;
        self
    }

    /// Responds with absolute Locations.
    pub fn absolute_locations(mut self) -> Self {
        self.absolute_locations = true;
        self
    }

    /// Makes all tags immutable.
    pub fn immutable_tags(mut self) -> Self {
        self.mutability = TagMutability::Immutable;
        self
    }

    /// Sets the tag mutability of repositories without a setting of their own.
    pub fn mutability(mut self, mutability: TagMutability) -> Self {
        self.mutability = mutability;
        self
    }

    /// Sets the maximum number of items per page of a list.
    pub fn page_size(mut self, size: usize) -> Self {
        self.page_size = size;
        self
    }

    /// Sets how long after a blob is stored manifests that refer to it are still rejected.
    pub fn validator_lag(mut self, lag: Duration) -> Self {
        self.validator_lag = lag;
        self
    }

    /// Accepts manifests whose blobs or child manifests do not exist, as the specification allows.
    pub fn without_reference_validation(mut self) -> Self {
        self.reference_validation = false;
        self
    }

    /// Responds to requests without a login with this status (404 or 403) instead of a challenge, except at `/v2/`, as
    /// registries do that conceal private repositories.
    pub fn concealing(mut self, status: u16) -> Self {
        self.conceals = Some(status);
        self
    }

    /// Rejects upload requests with a larger body with 413, as proxies in front of registries do.
    pub fn max_upload_request(mut self, bytes: u64) -> Self {
        self.max_request = Some(bytes);
        self
    }

    /// Requires that all requests of an upload but the last have at least this size, and says so in the header
    /// `OCI-Chunk-Min-Length`.
    pub fn min_chunk_length(mut self, bytes: u64) -> Self {
        self.min_chunk = Some(bytes);
        self
    }

    /// As [`max_upload_request`](Self::max_upload_request), and says so in the header `OCI-Chunk-Max-Length`.
    pub fn max_chunk_length(self, bytes: u64) -> Self {
        self.stating_max_chunk_length(bytes).max_upload_request(bytes)
    }

    /// States a maximum size of upload requests in the header `OCI-Chunk-Max-Length`, which is not in the specification,
    /// without enforcing it.
    pub fn stating_max_chunk_length(mut self, bytes: u64) -> Self {
        self.max_chunk = Some(bytes);
        self
    }

    /// How long the replication of an image takes that ECR's `PutReplicationConfiguration` has configured; by default
    /// 30 seconds.
    pub fn replication_lag(mut self, lag: Duration) -> Self {
        self.replication_lag = lag;
        self
    }

    /// Rejects a blob in the request that completes an upload with 405: it has to be sent with PATCH.
    pub fn without_whole_uploads(mut self) -> Self {
        self.whole_uploads = false;
        self
    }

    /// Redirects blob reads to this host, an object store that rejects requests with an Authorization header.
    pub fn redirect_blobs_to(mut self, host: &str) -> Self {
        self.storage = Some(host.to_owned());
        self
    }
}

/// The authentication of a registry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Auth {
    /// None: all clients are accepted.
    #[default]
    None,
    /// HTTP Basic with one user.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// Scoped bearer tokens from `/token` on the same host, for one user.
    Token {
        /// The user.
        user: String,
        /// The password.
        password: String,
        /// How long a token is valid.
        lifetime: Duration,
        /// Whether anonymous clients get tokens to pull.
        anonymous_pull: bool,
    },
    /// HTTP Basic with user `AWS` and passwords that expire; an expired password is rejected with 403.
    Ecr,
}

impl Auth {
    /// HTTP Basic.
    pub fn basic(user: &str, password: &str) -> Self {
        Auth::Basic { user: user.to_owned(), password: password.to_owned() }
    }

    /// Bearer tokens that are valid for `lifetime`, for pull and push.
    pub fn token(user: &str, password: &str, lifetime: Duration) -> Self {
        Auth::Token { user: user.to_owned(), password: password.to_owned(), lifetime, anonymous_pull: false }
    }
}

/// Which tags can be overwritten.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum TagMutability {
    /// All tags.
    #[default]
    Mutable,
    /// No tags.
    Immutable,
    /// Only tags that match one of these patterns (`*` matches any characters).
    ImmutableWithExclusion(Vec<String>),
    /// All tags except those that match one of these patterns.
    MutableWithExclusion(Vec<String>),
}

impl TagMutability {
    /// Whether an existing `tag` cannot be overwritten.
    pub fn is_immutable(&self, tag: &str) -> bool {
        let excluded = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, tag));
        match self {
            TagMutability::Mutable => false,
            TagMutability::Immutable => true,
            TagMutability::ImmutableWithExclusion(patterns) => !excluded(patterns),
            TagMutability::MutableWithExclusion(patterns) => excluded(patterns),
        }
    }
}

/// Whether `text` matches `pattern`, in which `*` matches any characters.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(text) = text.strip_prefix(head) else { return false };
    text.char_indices().map(|(at, _)| at).chain([text.len()]).any(|at| matches(rest, &text[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exclusions_are_wildcards() {
        let mutability = TagMutability::ImmutableWithExclusion(vec!["sha256-*".into(), "dev*-x".into()]);
        assert!(mutability.is_immutable("v1"));
        assert!(!mutability.is_immutable("sha256-abc.sig"));
        assert!(!mutability.is_immutable("dev-1-x"));
        assert!(mutability.is_immutable("dev-1-y"));
        assert!(TagMutability::MutableWithExclusion(vec!["v*".into()]).is_immutable("v1"));
    }
}
