//! Image references: [`Registry`], [`Repository`], [`Tag`], [`ImageRef`] (tag or digest, as users write it) and
//! [`DigestRef`] (digest only, required to deploy).

use std::{fmt, net::Ipv6Addr, num::NonZeroU16, str::FromStr};

use url::Url;

use crate::{
    digest::Digest,
    parse::{ParseError, serde_as_text},
};

/// The host of a registry with an optional port: `registry.example.com:5000`.
///
/// Always a valid URL host in normalized form: host names in lower case, addresses as in URLs, ports without leading
/// zeros. Names that differ only in case are therefore equal.
///
/// ```
/// use bp_artifact::Registry;
///
/// let registry: Registry = "Registry.Example.com:5000".parse()?;
/// assert_eq!(registry.as_str(), "registry.example.com:5000");
/// assert!("256.256.256.256".parse::<Registry>().is_err());
/// # Ok::<(), bp_artifact::error::ParseError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Registry(String);

impl Registry {
    /// Host and port as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host without its port.
    pub fn host(&self) -> &str {
        match self.0.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
            _ => &self.0,
        }
    }

    /// The account and region if this is a private Amazon ECR registry, in any partition.
    ///
    /// ```
    /// use bp_artifact::Registry;
    ///
    /// let ecr: Registry = "111111111111.dkr.ecr.eu-central-1.amazonaws.com".parse()?;
    /// assert_eq!(ecr.ecr(), Some(("111111111111", "eu-central-1")));
    /// assert_eq!("ghcr.io".parse::<Registry>()?.ecr(), None);
    /// # Ok::<(), bp_artifact::error::ParseError>(())
    /// ```
    pub fn ecr(&self) -> Option<(&str, &str)> {
        let (account, rest) = self.0.split_once(".dkr")?;
        // Dual-stack host names have a dash and another suffix.
        let (is_dual_stack, rest) = match (rest.strip_prefix('.'), rest.strip_prefix('-')) {
            (Some(rest), _) => (false, rest),
            (None, rest) => (true, rest?),
        };
        let rest = rest.strip_prefix("ecr.").or_else(|| rest.strip_prefix("ecr-fips."))?;
        let (region, suffix) = rest.split_once('.')?;
        let known = if is_dual_stack {
            matches!(
                suffix,
                "on.aws"
                    | "on.amazonwebservices.com.cn"
                    | "on.amazonwebservices.eu"
                    | "on.aws.ic.gov"
                    | "on.aws.scloud"
                    | "on.cloud-aws.adc-e.uk"
                    | "on.aws.hci.ic.gov"
            )
        } else {
            matches!(
                suffix,
                "amazonaws.com"
                    | "amazonaws.com.cn"
                    | "amazonaws.eu"
                    | "c2s.ic.gov"
                    | "sc2s.sgov.gov"
                    | "cloud.adc-e.uk"
                    | "csp.hci.ic.gov"
            )
        };
        let digits = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
        (known && digits).then_some((account, region))
    }
}

impl FromStr for Registry {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = |reason: String| ParseError::new("a registry host", text, reason);
        if text.contains('/') {
            return Err(wrong(BARE.to_owned()));
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (text, None),
        };
        let port = port.map(|port| number(port).ok_or_else(|| wrong(PORT.to_owned()))).transpose()?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let well_formed = match bracketed {
            Some(address) => address.parse::<Ipv6Addr>().is_ok(),
            None => host.split('.').all(is_label),
        };
        if !well_formed {
            return Err(wrong(HOST.to_owned()));
        }
        // The URL parser decides: it treats a name that ends in a number as an IPv4 address, and validates
        // internationalized names.
        let url = Url::parse(&format!("https://{host}/")).map_err(|error| {
            let what = if host.to_ascii_lowercase().contains("xn--") {
                "internationalized host name"
            } else {
                "host name"
            };
            wrong(format!("it is not a valid {what}: {error}"))
        })?;
        let found = url.host_str().unwrap_or_default();
        if bracketed.is_none() && found != host.to_ascii_lowercase() {
            return Err(wrong(format!("write the address as {found}")));
        }
        Ok(Registry(port.map_or_else(|| found.to_owned(), |port| format!("{found}:{port}"))))
    }
}

const HOST: &str = "expected a host name such as registry.example.com, with :port if needed";
const BARE: &str = "expected a host name with :port if needed, without https:// and without a path";
const PORT: &str = "the port is not a number from 1 to 65535";

fn number(port: &str) -> Option<NonZeroU16> {
    // `parse` alone would accept a leading `+`.
    port.parse().ok().filter(|_| port.bytes().all(|b| b.is_ascii_digit()))
}

fn is_label(label: &str) -> bool {
    !label.is_empty()
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Registry and path of a repository: `registry.example.com/shop/web`.
///
/// The registry is required: `nginx` alone is rejected, not expanded to Docker Hub.
/// Path grammar: <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests>
///
/// ```
/// use bp_artifact::{Digest, Repository};
///
/// let repository: Repository = "registry.example.com/shop/web".parse()?;
/// assert!(repository.at(Digest::sha256("...")).to_string().starts_with("registry.example.com/shop/web@sha256:"));
/// assert!("nginx".parse::<Repository>().is_err());
/// # Ok::<(), bp_artifact::error::ParseError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository {
    registry: Registry,
    path: String,
}

impl Repository {
    /// The repository `path` of `registry`.
    ///
    /// # Errors
    /// When `path` is not a valid repository path of the distribution specification.
    pub fn new(registry: Registry, path: &str) -> Result<Self, ParseError> {
        check_path(path).map_err(|reason| ParseError::new("a repository path", path, reason))?;
        Ok(Repository { registry, path: path.to_owned() })
    }

    /// The registry's host.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The path below the registry, `shop/web`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The upstream registry, if the name alone shows that this is a pull-through cache: Google's mirror of Docker
    /// Hub, or the dependency proxy of a GitLab instance. A tag in a cache may be stale; a digest cannot be.
    ///
    /// ```
    /// let repository: bp_artifact::Repository = "mirror.gcr.io/library/nginx".parse()?;
    /// assert_eq!(repository.cache_of(), Some("Docker Hub"));
    /// # Ok::<(), bp_artifact::error::ParseError>(())
    /// ```
    pub fn cache_of(&self) -> Option<&'static str> {
        let is_proxy = format!("/{}/", self.path).contains("/dependency_proxy/containers/");
        (self.registry.host() == "mirror.gcr.io" || is_proxy).then_some("Docker Hub")
    }

    /// The reference to `digest` in this repository.
    pub fn at(&self, digest: Digest) -> DigestRef {
        DigestRef { repository: self.clone(), digest }
    }

    /// The reference to `tag` in this repository.
    pub fn tagged(&self, tag: Tag) -> ImageRef {
        ImageRef { repository: self.clone(), tag: Some(tag), digest: None }
    }
}

fn check_path(path: &str) -> Result<(), &'static str> {
    if path.is_empty() {
        return Err("the repository path is missing");
    }
    if path.len() > 255 {
        return Err("a repository path has at most 255 characters");
    }
    let component = |part: &str| {
        let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let bytes = part.as_bytes();
        let edges = bytes.first().is_some_and(|b| alnum(*b)) && bytes.last().is_some_and(|b| alnum(*b));
        let separators = part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        edges
            && separators
                .into_iter()
                .all(|s| matches!(s, "" | "." | "_" | "__") || s.bytes().all(|b| b == b'-'))
    };
    if path.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err("a repository path is in lower case");
    }
    if !path.split('/').all(component) {
        return Err("each path component must be letters and digits, separated by ., _, __ or dashes");
    }
    Ok(())
}

impl FromStr for Repository {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = |reason: &'static str| ParseError::new("a repository", text, reason);
        let (host, path) = text
            .split_once('/')
            .ok_or_else(|| wrong("the registry is missing: write registry.example.com/shop/web"))?;
        // As in other container tools, the first component is a host only if it has a dot or a colon, or is localhost.
        if !(host.contains('.') || host.contains(':') || host.eq_ignore_ascii_case("localhost")) {
            return Err(wrong("the first component is not a registry host: write docker.io/library/nginx"));
        }
        let registry = host
            .parse()
            .map_err(|e: ParseError| ParseError::new("a repository", text, e.reason().to_owned()))?;
        check_path(path).map_err(wrong)?;
        Ok(Repository { registry, path: path.to_owned() })
    }
}

/// A tag: up to 128 letters, digits, `_`, `.` and `-`, not starting with `.` or `-`.
///
/// ```
/// assert!("v1.4.2".parse::<bp_artifact::Tag>().is_ok());
/// assert!("-rc".parse::<bp_artifact::Tag>().is_err());
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(String);

impl Tag {
    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let reason = match text.as_bytes() {
            [] => "it is empty",
            bytes if bytes.len() > 128 => "a tag has at most 128 characters",
            [first, rest @ ..]
                if word(*first) && rest.iter().all(|b| word(*b) || matches!(b, b'.' | b'-')) =>
            {
                return Ok(Tag(text.to_owned()));
            }
            _ => "a tag consists of letters, digits, _, . and -, and must not start with . or -",
        };
        Err(ParseError::new("a tag", text, reason))
    }
}

/// An image reference as users write it: a repository with a tag, a digest, or both.
///
/// It cannot be deployed; [resolve](crate::image::ResolvedImage) it first.
///
/// ```
/// use bp_artifact::ImageRef;
///
/// let image: ImageRef = "registry.example.com:5000/shop/web:1.4.2".parse()?;
/// assert_eq!(image.repository().path(), "shop/web");
/// assert_eq!(image.reference(), "1.4.2");
/// # Ok::<(), bp_artifact::error::ParseError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ImageRef {
    repository: Repository,
    tag: Option<Tag>,
    digest: Option<Digest>,
}

impl ImageRef {
    /// The repository.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The tag, if present.
    pub fn tag(&self) -> Option<&Tag> {
        self.tag.as_ref()
    }

    /// The digest, if present. It takes precedence over the tag.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The same reference with `digest`, which takes precedence over the tag.
    pub fn with_digest(self, digest: Digest) -> Self {
        ImageRef { digest: Some(digest), ..self }
    }

    /// The same tag and digest in another repository, as after a byte-identical copy.
    pub fn moved_to(&self, repository: &Repository) -> Self {
        ImageRef { repository: repository.clone(), ..self.clone() }
    }

    /// The reference to request from a registry: the digest if present, else the tag.
    pub fn reference(&self) -> &str {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.as_str(),
            (None, Some(tag)) => tag.as_str(),
            (None, None) => unreachable!("an ImageRef has a tag or a digest"),
        }
    }
}

impl FromStr for ImageRef {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = |e: ParseError| {
            ParseError::new("an image reference", text, format!("{:?}: {}", e.input(), e.reason()))
        };
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse().map_err(wrong)?)),
            None => (text, None),
        };
        // A colon after the last slash starts a tag; one before it belongs to the registry's port.
        let (name, tag) = match name.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag.parse().map_err(wrong)?)),
            _ => (name, None),
        };
        let repository = name.parse().map_err(wrong)?;
        if tag.is_none() && digest.is_none() {
            return Err(ParseError::new("an image reference", text, "it needs a :tag or a @sha256:… digest"));
        }
        Ok(ImageRef { repository, tag, digest })
    }
}

impl From<DigestRef> for ImageRef {
    fn from(DigestRef { repository, digest }: DigestRef) -> Self {
        ImageRef { repository, tag: None, digest: Some(digest) }
    }
}

/// A repository and a digest: the only kind of reference that can be deployed.
///
/// ```
/// use bp_artifact::DigestRef;
///
/// let text = "registry.example.com/web@sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
/// assert_eq!(text.parse::<DigestRef>()?.to_string(), text);
/// assert!("registry.example.com/web:latest".parse::<DigestRef>().is_err());
/// # Ok::<(), bp_artifact::error::ParseError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DigestRef {
    repository: Repository,
    digest: Digest,
}

impl DigestRef {
    /// The repository.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The digest.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }
}

impl TryFrom<ImageRef> for DigestRef {
    type Error = ParseError;

    fn try_from(image: ImageRef) -> Result<Self, ParseError> {
        match image.digest {
            Some(digest) => Ok(DigestRef { repository: image.repository, digest }),
            None => Err(ParseError::new(
                "a digest reference",
                &image.to_string(),
                "a tag is mutable: resolve it to repository@sha256:… first",
            )),
        }
    }
}

impl FromStr for DigestRef {
    type Err = ParseError;

    /// Parses `repository@digest`; a tag between the two is dropped, because registries ignore it.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        text.parse::<ImageRef>()?.try_into()
    }
}

impl fmt::Display for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.path)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl fmt::Display for DigestRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.repository, self.digest)
    }
}

serde_as_text!(Registry, Repository, Tag, ImageRef, DigestRef);

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

    #[test]
    fn distinguishes_ports_tags_and_digests() {
        for (text, repository, tag, digest) in [
            ("localhost/web:1", "localhost/web", Some("1"), false),
            ("127.0.0.1:5000/web:1", "127.0.0.1:5000/web", Some("1"), false),
            ("[::1]:5000/web:1", "[::1]:5000/web", Some("1"), false),
            ("r.example.com:5000/a/b-c__d.e:v1.2", "r.example.com:5000/a/b-c__d.e", Some("v1.2"), false),
            ("r.example.com/web:1@D", "r.example.com/web", Some("1"), true),
            ("r.example.com:5000/web@D", "r.example.com:5000/web", None, true),
        ] {
            let text = text.replace('D', DIGEST);
            let image: ImageRef = text.parse().unwrap();
            assert_eq!(image.repository().to_string(), repository);
            assert_eq!(image.tag().map(Tag::as_str), tag);
            assert_eq!(image.digest().is_some(), digest);
            assert_eq!(image.to_string(), text);
        }
    }

    #[test]
    fn normalizes_registry_hosts() {
        for (text, normalized) in [
            ("R.Example.COM:5000", "r.example.com:5000"),
            ("r.example.com:080", "r.example.com:80"),
            ("r.example.com:443", "r.example.com:443"),
            ("[2001:DB8:0:0:0:0:0:1]:5000", "[2001:db8::1]:5000"),
            ("[::ffff:127.0.0.1]", "[::ffff:7f00:1]"),
            ("xn--mnchen-3ya.de", "xn--mnchen-3ya.de"),
            ("127.0.0.1", "127.0.0.1"),
            ("3scale.example.com", "3scale.example.com"),
        ] {
            assert_eq!(text.parse::<Registry>().unwrap().as_str(), normalized);
        }
        for (text, part) in [
            ("256.256.256.256", "IPv4"),
            ("1.2.3.4.5", "IPv4"),
            ("foo.1", "IPv4"),
            ("aaa.0x1", "IPv4"),
            ("0x7f.1", "address as 127.0.0.1"),
            ("127.1", "address as 127.0.0.1"),
            ("xn--zzzzzz.com", "international"),
            ("r.example.com:+5000", "the port"),
            ("r.example.com:0", "the port"),
            ("r.example.com:", "the port"),
            ("r.example.com:65536", "the port"),
            ("[::1", "expected a host name"),
            ("https://r.example.com", "without https://"),
            ("r.example.com:5000/mirror", "without a path"),
            ("r.example.com:5000/", "without a path"),
            ("::1", "expected a host name"),
            ("[::1%25eth0]", "expected a host name"),
            ("user@r.example.com", "expected a host name"),
            ("r.example.com.", "expected a host name"),
            ("r.exa%6dple.com", "expected a host name"),
            ("r_1.example.com", "expected a host name"),
            ("", "expected a host name"),
        ] {
            let error = text.parse::<Registry>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        let upper: ImageRef = "GHCR.io/shop/web:1".parse().unwrap();
        assert_eq!(upper, "ghcr.io/shop/web:1".parse().unwrap());
        assert!("Localhost/web:1".parse::<ImageRef>().is_ok());
        let ecr: Registry = "111111111111.DKR.ecr.EU-CENTRAL-1.amazonaws.com".parse().unwrap();
        assert_eq!(ecr.ecr(), Some(("111111111111", "eu-central-1")));
    }

    #[test]
    fn parse_errors_state_the_reason() {
        for (text, part) in [
            ("nginx:1", "the registry is missing"),
            ("library/nginx:1", "not a registry host"),
            ("r.example.com/Web:1", "lower case"),
            ("r.example.com/web", "needs a :tag or a @sha256"),
            ("r.example.com:5000/web", "needs a :tag or a @sha256"),
            ("r.example.com/web:.1", "must not start with"),
            ("r.example.com/web@sha256:12", "64 hex digits, found 2"),
            ("r.example.com:99999/web:1", "the port is not a number"),
            ("r.example.com/a//b:1", "each path component"),
            ("r.example.com/a___b:1", "each path component"),
        ] {
            let err = text.parse::<ImageRef>().unwrap_err().to_string();
            assert!(err.contains(part), "{text}: {err}");
        }
    }

    #[test]
    fn recognises_ecr_hosts_in_every_partition() {
        for (host, found) in [
            ("111111111111.dkr.ecr.cn-north-1.amazonaws.com.cn", Some(("111111111111", "cn-north-1"))),
            (
                "111111111111.dkr.ecr-fips.us-gov-west-1.amazonaws.com",
                Some(("111111111111", "us-gov-west-1")),
            ),
            (
                "111111111111.dkr.ecr.us-isof-south-1.csp.hci.ic.gov",
                Some(("111111111111", "us-isof-south-1")),
            ),
            ("111111111111.dkr.ecr.eu-isoe-west-1.cloud.adc-e.uk", Some(("111111111111", "eu-isoe-west-1"))),
            ("111111111111.dkr-ecr.eu-west-1.on.aws", Some(("111111111111", "eu-west-1"))),
            ("111111111111.dkr-ecr-fips.us-gov-west-1.on.aws", Some(("111111111111", "us-gov-west-1"))),
            ("111111111111.dkr-ecr.us-iso-west-1.on.aws.ic.gov", Some(("111111111111", "us-iso-west-1"))),
            ("111111111111.dkr-ecr.us-isob-east-1.on.aws.scloud", Some(("111111111111", "us-isob-east-1"))),
            (
                "111111111111.dkr-ecr.eu-isoe-west-1.on.cloud-aws.adc-e.uk",
                Some(("111111111111", "eu-isoe-west-1")),
            ),
            (
                "111111111111.dkr-ecr.us-isof-south-1.on.aws.hci.ic.gov",
                Some(("111111111111", "us-isof-south-1")),
            ),
            ("111111111111.dkr-ecr.us-iso-west-1.c2s.ic.gov", None),
            (
                "111111111111.dkr-ecr.cn-north-1.on.amazonwebservices.com.cn",
                Some(("111111111111", "cn-north-1")),
            ),
            (
                "111111111111.dkr-ecr.eusc-de-east-1.on.amazonwebservices.eu",
                Some(("111111111111", "eusc-de-east-1")),
            ),
            ("111111111111.dkr-ecr.eu-west-1.amazonaws.com", None),
            ("111111111111.dkr.ecr.eu-west-1.on.aws", None),
            ("111111111111.dkrxecr.eu-west-1.on.aws", None),
            ("111111111111.dkr-ecr.eu-west-1.on.aws.example.com", None),
            ("11111111111.dkr.ecr.eu-west-1.amazonaws.com", None),
            ("111111111111.dkr.ecr.eu-west-1.example.com", None),
        ] {
            assert_eq!(host.parse::<Registry>().unwrap().ecr(), found, "{host}");
        }
    }
}
