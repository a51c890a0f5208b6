//! `artifact.json`: the output of a build, which later pipeline stages deploy.

mod buildx;
mod ci;
mod projection;
mod source_url;

pub use buildx::BuildxError;
pub use ci::{CiError, StatedSource};
pub use source_url::without_credentials;

use std::{collections::BTreeMap, path::Path};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    commit::CommitSha,
    config::{ServiceConfig, ServiceName},
    digest::Digest,
    document::{self, DocumentError, Location, Schema},
    error::{Classified, ErrorClass},
    image::{PlatformImage, ResolvedImage},
    reference::{ImageRef, Repository, Tag},
};

/// The content of `artifact.json`: the images that a build pushed, and the source that they were built from.
///
/// It is a superset of the older `{ "commit_sha": "<short>" }`: that file is accepted, and tools that read only
/// `commit_sha` (by convention the image's tag) keep working. Unknown fields are preserved when the file is rewritten;
/// another major version of the schema is rejected.
///
/// ```
/// use bp_artifact::{Artifact, Repository};
///
/// let old = Artifact::parse(r#"{ "commit_sha": "1a2b3c4" }"#, "artifact.json")?;
/// assert!(old.image.is_none());
/// let repository: Repository = "registry.example.com/shop/web".parse()?;
/// assert_eq!(old.image_ref(Some(&repository))?.to_string(), "registry.example.com/shop/web:1a2b3c4");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Artifact {
    #[serde(default = "current_schema")]
    schema: Schema,
    /// The abbreviated commit ID, as older readers expect it. [`Source::commit`] is the full ID.
    #[serde(default, rename = "commit_sha", skip_serializing_if = "Option::is_none")]
    pub commit: Option<CommitSha>,
    /// The image. `None` in the older format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ArtifactImage>,
    /// The images of several services, by service name in `bp.toml`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<ServiceName, ArtifactImage>,
    /// What it was built from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// The build that produced it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<Build>,
    /// The release version, such as `1.4.2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// When this file was first written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>", extend("format" = "date-time")))]
    pub created: Option<Timestamp>,
    /// Unknown fields, from a later version or another tool.
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// The image in an [`Artifact`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ArtifactImage {
    /// Registry and path.
    pub repository: Repository,
    /// The tag that the image was pushed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<Tag>,
    /// The digest, which identifies the image. Without it, the tag has to be resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The media type of the manifest or index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The size of the manifest or index in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The platforms of an index.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<PlatformImage>,
    /// The commit that the image was built from, if it was [kept](Artifact::keep_images_of_any_commit) from an artifact of
    /// another build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<CommitSha>,
    /// The release version of that build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Unknown fields, from a later version or another tool.
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// The source that an [`Artifact`] was built from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// The URL of the source repository: `https://github.com/example/shop`. Written
    /// [without credentials](without_credentials).
    #[serde(
        default,
        skip_serializing_if = "source_url::is_absent",
        serialize_with = "source_url::serialize"
    )]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub repository: Option<String>,
    /// The commit. For a pull request: its head, not the merge commit that the workflow runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<CommitSha>,
    /// The merge commit that was built, if it differs from [`commit`](Self::commit).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge_commit: Option<CommitSha>,
    /// Branch, tag or pull request: `refs/heads/main`, `refs/pull/5/head`.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Whether the commit is from a fork of [`repository`](Self::repository). `None` if the build system does not report
    /// it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fork: Option<bool>,
    /// The URL of the fork, if the build system reports it.
    #[serde(
        default,
        skip_serializing_if = "source_url::is_absent",
        serialize_with = "source_url::serialize"
    )]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub head_repository: Option<String>,
    /// Unknown fields, from a later version or another tool.
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// The build that produced an [`Artifact`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Build {
    /// The build system: `codebuild`, `github-actions`, `gitlab`, `bitbucket-pipelines`, `circleci`, `buildkite`,
    /// `jenkins`.
    pub system: String,
    /// The build ID in that system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The URL of the build, or its ARN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// Who or what started the build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initiator: Option<String>,
    /// When the build started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>", extend("format" = "date-time")))]
    pub started_at: Option<Timestamp>,
    /// Unknown fields, from a later version or another tool.
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// The JSON Schema (draft 2020-12) of `artifact.json`.
#[cfg(feature = "schema")]
pub fn artifact_schema() -> Value {
    schemars::schema_for!(Artifact).to_value()
}

const KIND: &str = "bp.artifact";
const MAJOR: u32 = 1;

fn current_schema() -> Schema {
    Schema::new(KIND, MAJOR)
}

impl Default for Artifact {
    /// An empty artifact.
    fn default() -> Self {
        Artifact {
            schema: current_schema(),
            commit: None,
            image: None,
            images: BTreeMap::new(),
            source: None,
            build: None,
            version: None,
            created: None,
            rest: Map::new(),
        }
    }
}

impl Artifact {
    /// Reads `artifact.json`.
    ///
    /// # Errors
    /// When the file cannot be read or is not an artifact; the message states file, line and column.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, DocumentError> {
        let path = path.as_ref();
        Self::parse(&document::read(path)?, &path.display().to_string())
    }

    /// Parses an artifact from `text`; `file` is the file name in messages.
    ///
    /// # Errors
    /// When it is not an artifact.
    pub fn parse(text: &str, file: &str) -> Result<Self, DocumentError> {
        // Check the schema first: in a later major version the other fields may have another meaning.
        #[derive(Deserialize)]
        struct Head {
            schema: Option<Schema>,
        }
        if let Some(schema) = document::from_json::<Head>(text, file)?.schema {
            schema.check(file, KIND, MAJOR)?;
        }
        let artifact: Artifact = document::from_json(text, file)?;
        artifact.checked(file)?;
        Ok(artifact)
    }

    fn checked(&self, file: &str) -> Result<(), DocumentError> {
        let at = || Location { file: file.to_owned(), line: 1, column: 1 };
        self.contradiction().map_or(Ok(()), |reason| Err(DocumentError::Malformed { at: at(), reason }))
    }

    fn contradiction(&self) -> Option<String> {
        let full = self.source.as_ref().and_then(|source| source.commit.as_ref());
        if let (Some(short), Some(full)) = (&self.commit, full)
            && !full.as_str().starts_with(short.as_str())
        {
            return Some(format!("commit_sha is {short}, but source.commit is {full}"));
        }
        let is_empty = |image: &ArtifactImage| image.tag.is_none() && image.digest.is_none();
        if let Some((name, _)) = self.images.iter().find(|(_, image)| is_empty(image)) {
            return Some(format!("the image of {name} has neither tag nor digest"));
        }
        match &self.image {
            Some(image) if is_empty(image) => Some("the image has neither tag nor digest".into()),
            None if self.commit.is_none() && full.is_none() && self.images.is_empty() => {
                Some("it has neither an image nor a commit_sha".into())
            }
            _ => None,
        }
    }

    /// Writes `artifact.json` atomically.
    ///
    /// # Errors
    /// When [`read`](Self::read) would reject the file, or it cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), DocumentError> {
        let path = path.as_ref();
        self.checked(&path.display().to_string())?;
        document::write(path, self.to_json().as_bytes())
    }

    /// The content of `artifact.json`.
    pub fn to_json(&self) -> String {
        document::to_json(self)
    }

    /// The image to resolve or deploy.
    ///
    /// An artifact in the older format has no repository; then `repository` (from `bp.toml` or a flag) is used, with
    /// the abbreviated commit as the tag.
    ///
    /// # Errors
    /// When the artifact has no image and no repository is given, or has neither an image nor a commit.
    pub fn image_ref(&self, repository: Option<&Repository>) -> Result<ImageRef, ArtifactError> {
        if let Some(image) = &self.image {
            return image.reference().ok_or(ArtifactError::NothingToDeploy);
        }
        let from_source = || self.source.as_ref()?.commit.as_ref().map(CommitSha::abbreviated);
        let commit = self.commit.clone().or_else(from_source).ok_or(ArtifactError::NothingToDeploy)?;
        let repository = repository.ok_or_else(|| ArtifactError::NoRepository { commit: commit.clone() })?;
        let tag = commit.as_str().parse().expect("hex digits are a valid tag");
        Ok(repository.tagged(tag))
    }

    /// The image in the `repository` of an environment, whichever repository it was built in.
    ///
    /// By digest if the artifact has one; else by tag (in the older format the abbreviated commit), which then has to
    /// be resolved in that repository.
    ///
    /// ```
    /// use bp_artifact::{Artifact, Repository};
    ///
    /// let text = r#"{ "image": { "repository": "dev.example.com/shop/web", "tag": "1.4.2" } }"#;
    /// let prod: Repository = "prod.example.com/shop/web".parse()?;
    /// let image = Artifact::parse(text, "artifact.json")?.image_in(&prod)?;
    /// assert_eq!(image.to_string(), "prod.example.com/shop/web:1.4.2");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When the artifact has neither an image nor a commit.
    pub fn image_in(&self, repository: &Repository) -> Result<ImageRef, ArtifactError> {
        Ok(self.image_ref(Some(repository))?.moved_to(repository))
    }

    /// The image of a service in the service's repository; see [`image_in`](Self::image_in).
    ///
    /// A named service uses its entry in [`images`](Self::images). If `images` is empty, it uses the only image,
    /// provided that its repository path is the service's, or, in the older format, the commit as the tag.
    ///
    /// # Errors
    /// When the artifact has no image for the service.
    pub fn image_of(&self, service: &ServiceConfig) -> Result<ImageRef, ArtifactError> {
        let Some(name) = &service.name else { return self.image_in(&service.repository) };
        if let Some(image) = self.images.get(name) {
            let image = image.reference().ok_or(ArtifactError::NothingToDeploy)?;
            return Ok(image.moved_to(&service.repository));
        }
        let has_same_path = |image: &ArtifactImage| image.repository.path() == service.repository.path();
        if self.images.is_empty() && self.image.as_ref().is_none_or(has_same_path) {
            return self.image_in(&service.repository);
        }
        Err(ArtifactError::NoImageOfService {
            service: name.clone(),
            known: self.images.keys().cloned().collect(),
        })
    }

    /// Adds the images of an earlier artifact of the same commit, for several builds that write one file.
    pub fn keep_images_of(&mut self, earlier: Artifact) {
        if self.commit == earlier.commit {
            let own = std::mem::take(&mut self.images);
            self.images = earlier.images;
            self.images.extend(own);
            self.image = self.image.take().or(earlier.image);
        }
    }

    /// Adds the images of an earlier artifact, whatever commit they were built from: those of another build record their
    /// commit and version. For a deployment of some services, whose artifact describes all of them.
    pub fn keep_images_of_any_commit(&mut self, earlier: Artifact) {
        let (commit, version) = (earlier.built_from().cloned(), earlier.version.clone());
        let is_same_build = self.built_from() == commit.as_ref() && self.version == version;
        let mut kept = earlier.images;
        if !is_same_build {
            for image in kept.values_mut().filter(|image| image.commit.is_none()) {
                (image.commit, image.version) = (commit.clone(), version.clone());
            }
        }
        kept.extend(std::mem::take(&mut self.images));
        self.images = kept;
    }

    /// The commit and the version of the build of a service's image.
    pub fn build_of(&self, service: &ServiceConfig) -> (Option<&CommitSha>, Option<&str>) {
        let image = service.name.as_ref().and_then(|name| self.images.get(name));
        match image.filter(|image| image.commit.is_some()) {
            Some(image) => (image.commit.as_ref(), image.version.as_deref()),
            None => (self.built_from(), self.version.as_deref()),
        }
    }

    /// The commit that the image was built from: the full ID if the artifact has it.
    pub fn built_from(&self) -> Option<&CommitSha> {
        self.source.as_ref().and_then(|source| source.commit.as_ref()).or(self.commit.as_ref())
    }

    /// The image with its digest, if the artifact has one.
    pub fn resolved(&self) -> Option<ResolvedImage> {
        self.image.as_ref()?.resolved()
    }

    /// The image of a service with its digest, if the artifact has one.
    pub fn resolved_of(&self, service: &ServiceConfig) -> Option<ResolvedImage> {
        match &service.name {
            Some(name) if !self.images.is_empty() => self.images.get(name)?.resolved(),
            _ => self.resolved(),
        }
    }

    /// Sets the image to a resolved image.
    pub fn set_image(&mut self, image: &ResolvedImage, tag: Option<Tag>) {
        let rest = self.image.take().map(|image| image.rest).unwrap_or_default();
        self.image = Some(ArtifactImage { rest, ..ArtifactImage::of(image, tag) });
    }

    /// Sets the image of a service to a resolved image.
    pub fn set_image_of(&mut self, service: ServiceName, image: &ResolvedImage, tag: Option<Tag>) {
        let rest = self.images.remove(&service).map(|image| image.rest).unwrap_or_default();
        self.images.insert(service, ArtifactImage { rest, ..ArtifactImage::of(image, tag) });
    }
}

impl ArtifactImage {
    fn resolved(&self) -> Option<ResolvedImage> {
        Some(ResolvedImage {
            reference: self.repository.at(self.digest.clone()?),
            media_type: self.media_type.clone(),
            size: self.size,
            platforms: self.platforms.clone(),
        })
    }

    fn of(image: &ResolvedImage, tag: Option<Tag>) -> Self {
        ArtifactImage {
            repository: image.reference.repository().clone(),
            tag,
            digest: Some(image.digest().clone()),
            media_type: image.media_type.clone(),
            size: image.size,
            platforms: image.platforms.clone(),
            commit: None,
            version: None,
            rest: Map::new(),
        }
    }

    fn named(repository: Repository, tag: Option<Tag>) -> Self {
        ArtifactImage {
            repository,
            tag,
            digest: None,
            media_type: None,
            size: None,
            platforms: Vec::new(),
            commit: None,
            version: None,
            rest: Map::new(),
        }
    }

    /// The reference by tag, digest or both, whichever are set.
    fn reference(&self) -> Option<ImageRef> {
        match (&self.tag, &self.digest) {
            (Some(tag), Some(digest)) => {
                Some(self.repository.tagged(tag.clone()).with_digest(digest.clone()))
            }
            (Some(tag), None) => Some(self.repository.tagged(tag.clone())),
            (None, Some(digest)) => Some(self.repository.at(digest.clone()).into()),
            (None, None) => None,
        }
    }
}

impl From<ImageRef> for ArtifactImage {
    fn from(image: ImageRef) -> Self {
        let digest = image.digest().cloned();
        ArtifactImage { digest, ..Self::named(image.repository().clone(), image.tag().cloned()) }
    }
}

/// Why an artifact lacks the required data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArtifactError {
    /// The older format: a commit without a repository.
    #[error(
        "the artifact has no image, only the commit {commit}: set the repository in bp.toml or with --repository"
    )]
    NoRepository {
        /// The commit.
        commit: CommitSha,
    },
    /// The image has no digest, which other tools need.
    #[error("the image in the artifact has no digest: resolve it first")]
    NotResolved,
    /// The artifact has images of other services only.
    #[error(
        "the artifact has no image for service {service}, only for {}: add it with emit-artifact --service {service}",
        names(known)
    )]
    NoImageOfService {
        /// The service.
        service: ServiceName,
        /// The services whose images it has.
        known: Vec<ServiceName>,
    },
    /// Neither an image nor a commit.
    #[error("the artifact has neither an image nor a commit: write one with emit-artifact")]
    NothingToDeploy,
}

fn names(services: &[ServiceName]) -> String {
    if services.is_empty() {
        return "another repository".to_owned();
    }
    services.iter().map(ServiceName::as_str).collect::<Vec<_>>().join(", ")
}

impl Classified for ArtifactError {
    fn class(&self) -> ErrorClass {
        ErrorClass::BadInput
    }
}
