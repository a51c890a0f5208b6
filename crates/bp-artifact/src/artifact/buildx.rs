//! Import the files that `docker buildx build --metadata-file` and `docker buildx bake --metadata-file` write.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::ArtifactImage;
use crate::{
    digest::Digest,
    document::{self, DocumentError},
    error::{Classified, ErrorClass},
    reference::{ImageRef, Repository, Tag},
};

/// Build metadata that does not identify one image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildxError {
    /// Not valid JSON of build metadata.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A bake file with several targets, of which none or an unknown one was selected.
    #[error("{file} has the targets {}: select one", known.join(", "))]
    Target {
        /// The file.
        file: String,
        /// The targets in the file.
        known: Vec<String>,
    },
    /// The build pushed no image.
    #[error("{file} has no {missing}: build with --push")]
    NoImage {
        /// The file.
        file: String,
        /// The key that is missing.
        missing: &'static str,
    },
    /// The image was pushed under several names, of which none or an unknown one was selected.
    #[error("{file} has the image names {}: select one of their repositories", known.join(", "))]
    Name {
        /// The file.
        file: String,
        /// The names in the file.
        known: Vec<String>,
    },
    /// The descriptor describes another manifest.
    #[error(
        "{file} contradicts itself: containerimage.digest is {digest}, but containerimage.descriptor is of {descriptor}"
    )]
    Digest {
        /// The file.
        file: String,
        /// The digest of the image.
        digest: Digest,
        /// The digest in its descriptor.
        descriptor: Digest,
    },
}

impl Classified for BuildxError {
    fn class(&self) -> ErrorClass {
        ErrorClass::BadInput
    }
}

/// The metadata of one build.
#[derive(Deserialize)]
struct Metadata {
    #[serde(rename = "containerimage.digest")]
    digest: Option<Digest>,
    #[serde(rename = "containerimage.descriptor")]
    descriptor: Option<Descriptor>,
    /// Comma-separated names.
    #[serde(rename = "image.name")]
    name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    digest: Option<Digest>,
    media_type: Option<String>,
    size: Option<u64>,
}

impl ArtifactImage {
    /// The image that a build pushed, from the build's metadata file.
    ///
    /// `target` selects a target of a bake file, `repository` one of several names; both are optional if there is only
    /// one.
    ///
    /// ```
    /// use bp_artifact::artifact::ArtifactImage;
    ///
    /// let image = ArtifactImage::from_buildx(r#"{
    ///   "containerimage.digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
    ///   "image.name": "registry.example.com/web:1.4.2"
    /// }"#, "metadata.json", None, None)?;
    /// assert_eq!(image.tag.unwrap().as_str(), "1.4.2");
    /// # Ok::<(), bp_artifact::artifact::BuildxError>(())
    /// ```
    ///
    /// # Errors
    /// When the file is not build metadata, or the selection is ambiguous.
    pub fn from_buildx(
        text: &str,
        file: &str,
        target: Option<&str>,
        repository: Option<&Repository>,
    ) -> Result<Self, BuildxError> {
        let metadata = metadata(text, file, target)?;
        let no_image = |missing| BuildxError::NoImage { file: file.to_owned(), missing };
        let digest = metadata.digest.ok_or_else(|| no_image("containerimage.digest"))?;
        let names = metadata.name.ok_or_else(|| no_image("image.name"))?;
        let mut image = name(&names, file, repository)?;
        if let Some(Descriptor { digest: described, media_type, size }) = metadata.descriptor {
            if let Some(descriptor) = described.filter(|described| *described != digest) {
                return Err(BuildxError::Digest { file: file.to_owned(), digest, descriptor });
            }
            (image.media_type, image.size) = (media_type, size);
        }
        image.digest = Some(digest);
        Ok(image)
    }
}

/// The metadata of the build, or of one target of a bake file.
fn metadata(text: &str, file: &str, target: Option<&str>) -> Result<Metadata, BuildxError> {
    let mut root: Map<String, Value> = document::from_json(text, file)?;
    let is_build = |key: &str| key.starts_with("containerimage.") || key == "image.name";
    if target.is_none() && root.keys().any(|key| is_build(key)) {
        return Ok(document::from_json(text, file)?);
    }
    // Keys of buildx itself, such as buildx.build.warnings, are not targets.
    let targets: Vec<String> = root
        .iter()
        .filter(|(key, value)| value.is_object() && !key.starts_with("buildx."))
        .map(|(key, _)| key.clone())
        .collect();
    let chosen = match (target, targets.as_slice()) {
        (Some(target), _) => root.remove(target),
        (None, [only]) => root.remove(only),
        _ => None,
    };
    let chosen = chosen.ok_or_else(|| BuildxError::Target { file: file.to_owned(), known: targets })?;
    Ok(document::from_json(&chosen.to_string(), file)?)
}

/// The first name in the only repository, or in `repository`: several tags in one repository are the same image.
fn name(names: &str, file: &str, repository: Option<&Repository>) -> Result<ArtifactImage, BuildxError> {
    let known: Vec<String> = names.split(',').map(|name| name.trim().to_owned()).collect();
    let parsed = |name: &String| match name.parse::<ImageRef>() {
        Ok(image) => Some((image.repository().clone(), image.tag().cloned())),
        Err(_) => Some((name.parse().ok()?, None)),
    };
    let found: Vec<Option<(Repository, Option<Tag>)>> = known.iter().map(parsed).collect();
    let chosen = match repository {
        Some(wanted) => found.into_iter().flatten().find(|(found, _)| found == wanted),
        // A name that is not parsed is in another repository.
        None => {
            let all: Option<Vec<_>> = found.into_iter().collect();
            let mut all = all.unwrap_or_default().into_iter();
            let first = all.next();
            first.filter(|(repository, _)| all.all(|(other, _)| other == *repository))
        }
    };
    match chosen {
        Some((repository, tag)) => Ok(ArtifactImage::named(repository, tag)),
        None => Err(BuildxError::Name { file: file.to_owned(), known }),
    }
}
