//! Locations of images as command lines name them: references of registries, and OCI layouts.

use std::{fmt, path::PathBuf, str::FromStr};

use bp_artifact::{
    Digest, ImageRef, Repository,
    error::{Classified, ErrorClass, ParseError},
    text::truncate,
};
use bp_promote::{OciLayout, content::Reference, layout::LayoutError};

/// The place of an image or, without a tag and digest, of all images in a repository or layout.
///
/// | text | place |
/// |---|---|
/// | `registry.example.com/shop/web:1.4.2`, `...@sha256:...` | a registry; `docker://` may precede it |
/// | `oci:DIR`, `oci:DIR:NAME`, `oci:DIR@sha256:...` | an OCI layout in a directory |
/// | `oci-archive:FILE`, `oci-archive:FILE:NAME`, ... | an OCI layout in a tar archive |
///
/// ```
/// use bp_delivery::Location;
///
/// let location: Location = "oci:build/web:1.4.2".parse()?;
/// assert!(matches!(&location, Location::Layout { path, .. } if path.ends_with("web")));
/// assert!("web:1.4.2".parse::<Location>().is_err());
/// # Ok::<(), bp_delivery::LocationError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Location {
    /// A repository of a registry.
    Registry {
        /// The repository.
        repository: Repository,
        /// The tag or digest.
        reference: Option<Reference>,
    },
    /// An OCI layout in a directory.
    Layout {
        /// The directory.
        path: PathBuf,
        /// The image.
        image: Option<LayoutImage>,
    },
    /// An OCI layout in a tar archive.
    Archive {
        /// The file.
        path: PathBuf,
        /// The image.
        image: Option<LayoutImage>,
    },
}

/// An image in a layout.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LayoutImage {
    /// Its name: a tag, or a full reference as podman writes it.
    Name(String),
    /// Its digest.
    Digest(Digest),
}

impl LayoutImage {
    /// The reference to store an image under.
    ///
    /// # Errors
    /// When the name is not a tag.
    pub fn reference(&self) -> Result<Reference, ParseError> {
        Ok(match self {
            LayoutImage::Name(name) => Reference::Tag(name.parse()?),
            LayoutImage::Digest(digest) => Reference::Digest(digest.clone()),
        })
    }

    /// The reference to the image in a layout.
    pub(crate) async fn find(&self, layout: &OciLayout) -> Result<Reference, LayoutError> {
        match self {
            LayoutImage::Name(name) => layout.named(name).await,
            LayoutImage::Digest(digest) => Ok(Reference::Digest(digest.clone())),
        }
    }
}

impl Location {
    /// The repository, if it is one of a registry.
    pub fn repository(&self) -> Option<&Repository> {
        match self {
            Location::Registry { repository, .. } => Some(repository),
            Location::Layout { .. } | Location::Archive { .. } => None,
        }
    }

    /// The same repository or layout, without an image.
    pub(crate) fn without_image(&self) -> Self {
        match self {
            Location::Registry { repository, .. } => {
                Location::Registry { repository: repository.clone(), reference: None }
            }
            Location::Layout { path, .. } => Location::Layout { path: path.clone(), image: None },
            Location::Archive { path, .. } => Location::Archive { path: path.clone(), image: None },
        }
    }

    /// The image with this digest in the same repository or layout.
    pub(crate) fn at(&self, digest: Digest) -> Self {
        match self {
            Location::Registry { repository, .. } => Location::Registry {
                repository: repository.clone(),
                reference: Some(Reference::Digest(digest)),
            },
            Location::Layout { path, .. } => {
                Location::Layout { path: path.clone(), image: Some(LayoutImage::Digest(digest)) }
            }
            Location::Archive { path, .. } => {
                Location::Archive { path: path.clone(), image: Some(LayoutImage::Digest(digest)) }
            }
        }
    }

    /// Whether it identifies an image, not only a repository or layout.
    pub fn has_image(&self) -> bool {
        match self {
            Location::Registry { reference, .. } => reference.is_some(),
            Location::Layout { image, .. } | Location::Archive { image, .. } => image.is_some(),
        }
    }
}

/// Why a text is not a location.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{input:?} is not an image location: {reason}")]
pub struct LocationError {
    /// The text, truncated.
    input: String,
    reason: String,
}

impl Classified for LocationError {
    fn class(&self) -> ErrorClass {
        ErrorClass::BadInput
    }
}

impl FromStr for Location {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        let wrong = |reason: &str| LocationError {
            input: truncate(text, 200).into_owned(),
            reason: reason.to_owned(),
        };
        if let Some(rest) = text.strip_prefix("oci:") {
            let (path, image) = layout(rest).map_err(|reason| wrong(&reason))?;
            return Ok(Location::Layout { path, image });
        }
        if let Some(rest) = text.strip_prefix("oci-archive:") {
            let (path, image) = layout(rest).map_err(|reason| wrong(&reason))?;
            return Ok(Location::Archive { path, image });
        }
        let image = text.strip_prefix("docker://").unwrap_or(text);
        if let Some((transport, _)) = image.split_once(':')
            && UNSUPPORTED.contains(&transport)
        {
            return Err(wrong("only registries, oci:DIR and oci-archive:FILE are supported"));
        }
        let has_image =
            image.contains('@') || image.rsplit('/').next().is_some_and(|name| name.contains(':'));
        let parsed = if has_image {
            image.parse::<ImageRef>().map(|image| Location::Registry {
                repository: image.repository().clone(),
                reference: Some(Reference::from_image(&image)),
            })
        } else {
            image.parse().map(|repository| Location::Registry { repository, reference: None })
        };
        parsed.map_err(|error| wrong(error.reason()))
    }
}

/// Transports of skopeo that are not supported.
const UNSUPPORTED: [&str; 7] =
    ["docker-archive", "docker-daemon", "containers-storage", "dir", "ocidir", "ostree", "sif"];

/// Parses `PATH`, `PATH:NAME` or `PATH@DIGEST`.
fn layout(text: &str) -> Result<(PathBuf, Option<LayoutImage>), String> {
    let (path, image) = match text.rsplit_once("@sha") {
        Some((path, digest)) => {
            let digest = format!("sha{digest}").parse().map_err(|error: ParseError| error.to_string())?;
            (path, Some(LayoutImage::Digest(digest)))
        }
        None => match text.split_once(':') {
            Some((_, "")) => return Err("the name after the colon is missing".to_owned()),
            Some((path, name)) => (path, Some(LayoutImage::Name(name.to_owned()))),
            None => (text, None),
        },
    };
    if path.is_empty() {
        return Err("the path is missing".to_owned());
    }
    Ok((path.into(), image))
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let image = |f: &mut fmt::Formatter<'_>, image: &Option<LayoutImage>| match image {
            Some(LayoutImage::Name(name)) => write!(f, ":{name}"),
            Some(LayoutImage::Digest(digest)) => write!(f, "@{digest}"),
            None => Ok(()),
        };
        match self {
            Location::Registry { repository, reference: Some(Reference::Tag(tag)) } => {
                write!(f, "{repository}:{tag}")
            }
            Location::Registry { repository, reference: Some(Reference::Digest(digest)) } => {
                write!(f, "{repository}@{digest}")
            }
            Location::Registry { repository, reference: None } => write!(f, "{repository}"),
            Location::Layout { path, image: named } => {
                write!(f, "oci:{}", path.display())?;
                image(f, named)
            }
            Location::Archive { path, image: named } => {
                write!(f, "oci-archive:{}", path.display())?;
                image(f, named)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

    #[test]
    fn parses_references_of_registries_and_layouts() {
        for (text, shown) in [
            ("r.example.com:5000/shop/web:1.4.2", None),
            ("r.example.com:5000/shop/web", None),
            ("r.example.com/web@D", None),
            ("docker://r.example.com/web:1", Some("r.example.com/web:1")),
            ("r.example.com/web:1@D", Some("r.example.com/web@D")),
            ("oci:web", None),
            ("oci:./build/web:1", None),
            ("oci:web:docker.io/library/web:1", None),
            ("oci:web@D", None),
            ("oci-archive:/tmp/web.tar", None),
            ("oci-archive:web.tar:1", None),
        ] {
            let text = text.replace('D', DIGEST);
            let location: Location = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            let shown = shown.map_or(text.clone(), |shown| shown.replace('D', DIGEST));
            assert_eq!(location.to_string(), shown);
        }
    }

    #[test]
    fn rejects_what_it_cannot_address() {
        for (text, part) in [
            ("nginx", "the registry is missing"),
            ("nginx:1", "the registry is missing"),
            ("library/nginx:1", "not a registry host"),
            ("r.example.com/Web:1", "lower case"),
            ("docker-daemon:web:1", "only registries, oci:DIR and oci-archive:FILE"),
            ("docker-archive:/tmp/web.tar", "only registries, oci:DIR and oci-archive:FILE"),
            ("dir:/tmp/web", "only registries, oci:DIR and oci-archive:FILE"),
            ("oci:", "the path is missing"),
            ("oci::1", "the path is missing"),
            ("oci:web:", "the name after the colon is missing"),
            ("oci:web@sha256:12", "64 hex digits"),
        ] {
            let error = text.parse::<Location>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
