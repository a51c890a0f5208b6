//! How a registry behaves: the choices that the specification leaves open, and the ways of real ones.

use std::time::Duration;

/// How a registry behaves. The default is a registry that does everything the specification offers and asks nobody
/// who they are.
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
    pub(super) gaps: bool,
    pub(super) storage: Option<String>,
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
            gaps: false,
            storage: None,
        }
    }
}

impl RegistryOptions {
    /// A registry with Amazon ECR's ways: user `AWS` with a password that expires (from
    /// [`Registry::log_in`](super::Registry::log_in) or ECR's GetAuthorizationToken) and whose expiry is a 403;
    /// repositories that must exist; no mounts; PATCH answers 201 with a Range that stays at the first part; parts of
    /// at least 5 MiB; no single POST; no Location on a manifest's PUT.
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

    /// Asks for credentials.
    pub fn auth(mut self, auth: Auth) -> Self {
        self.auth = auth;
        self
    }

    /// Creates a repository when somebody pushes to it, or does not.
    pub fn create_on_push(mut self, yes: bool) -> Self {
        self.create_on_push = yes;
        self
    }

    /// Mounts blobs of other repositories, or answers 202 and takes an upload.
    ///
    /// With [`ecr`](Self::ecr), only blobs that a committed manifest of the other repository refers to.
    pub fn mounts(mut self, yes: bool) -> Self {
        self.mounts = yes;
        self
    }

    /// Knows no referrers API: `/referrers/` is 404 and a subject is ignored.
    pub fn without_referrers(mut self) -> Self {
        self.referrers = false;
        self
    }

    /// Refuses manifests that have a subject with 405.
    pub fn refusing_subjects(mut self) -> Self {
        self.refuses_subjects = true;
        self
    }

    /// Ignores `Range` and answers with the whole blob.
    pub fn without_ranges(mut self) -> Self {
        self.ranges = false;
        self
    }

    /// Answers `POST ?digest=` with 202 and takes an upload, as many registries do.
    pub fn without_single_post(mut self) -> Self {
        self.single_post = false;
        self
    }

    /// Answers with absolute Locations.
    pub fn absolute_locations(mut self) -> Self {
        self.absolute_locations = true;
        self
    }

    /// Tags that, once set, do not move.
    pub fn immutable_tags(mut self) -> Self {
        self.mutability = TagMutability::Immutable;
        self
    }

    /// Which tags may move, in repositories that do not say themselves.
    pub fn mutability(mut self, mutability: TagMutability) -> Self {
        self.mutability = mutability;
        self
    }

    /// At most this many tags or referrers on a page.
    pub fn page_size(mut self, size: usize) -> Self {
        self.page_size = size;
        self
    }

    /// For how long after a blob was stored manifests that name it are still refused.
    pub fn validator_lag(mut self, lag: Duration) -> Self {
        self.validator_lag = lag;
        self
    }

    /// Takes manifests whose blobs or children are not there, as the specification allows.
    pub fn takes_gaps(mut self) -> Self {
        self.gaps = true;
        self
    }

    /// Redirects the reading of blobs to this host, an object store that refuses requests with an Authorization header.
    pub fn redirect_blobs_to(mut self, host: &str) -> Self {
        self.storage = Some(host.to_owned());
        self
    }
}

/// Who may use a registry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Auth {
    /// Everybody.
    #[default]
    None,
    /// This user, by HTTP Basic.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// This user, by a bearer token from `/token` on the same host, bound to a scope.
    Token {
        /// The user.
        user: String,
        /// The password.
        password: String,
        /// How long a token lives.
        lifetime: Duration,
        /// Whether anybody gets a token to pull.
        anonymous_pull: bool,
    },
    /// User `AWS` by HTTP Basic, with passwords that expire; an expired one is answered with 403.
    Ecr,
}

impl Auth {
    /// HTTP Basic.
    pub fn basic(user: &str, password: &str) -> Self {
        Auth::Basic { user: user.to_owned(), password: password.to_owned() }
    }

    /// Bearer tokens that live for `lifetime`, for pull and push.
    pub fn token(user: &str, password: &str, lifetime: Duration) -> Self {
        Auth::Token { user: user.to_owned(), password: password.to_owned(), lifetime, anonymous_pull: false }
    }
}

/// Which tags may move.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum TagMutability {
    /// All of them.
    #[default]
    Mutable,
    /// None, once set.
    Immutable,
    /// None but those that match one of these patterns (`*` stands for any characters).
    ImmutableWithExclusion(Vec<String>),
    /// All but those that match one of these patterns.
    MutableWithExclusion(Vec<String>),
}

impl TagMutability {
    /// Whether `tag`, once set, stays.
    pub fn fixes(&self, tag: &str) -> bool {
        let excluded = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, tag));
        match self {
            TagMutability::Mutable => false,
            TagMutability::Immutable => true,
            TagMutability::ImmutableWithExclusion(patterns) => !excluded(patterns),
            TagMutability::MutableWithExclusion(patterns) => excluded(patterns),
        }
    }
}

/// Whether `text` matches `pattern`, in which `*` stands for any characters.
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
        let mostly = TagMutability::ImmutableWithExclusion(vec!["sha256-*".into(), "dev*-x".into()]);
        assert!(mostly.fixes("v1"));
        assert!(!mostly.fixes("sha256-abc.sig"));
        assert!(!mostly.fixes("dev-1-x"));
        assert!(mostly.fixes("dev-1-y"));
        assert!(TagMutability::MutableWithExclusion(vec!["v*".into()]).fixes("v1"));
    }
}
