//! Convert an artifact to the formats of other tools: AWS CodePipeline, Skaffold, in-toto.

use serde_json::{Value, json};

use super::{Artifact, ArtifactError};
use crate::reference::DigestRef;

impl Artifact {
    /// The image by digest, which every format requires.
    fn pinned(&self) -> Result<DigestRef, ArtifactError> {
        self.resolved().map(|image| image.reference).ok_or(ArtifactError::NotResolved)
    }

    /// `imagedefinitions.json` of CodePipeline's Amazon ECS action: each of `containers` with this image, by digest.
    ///
    /// ```
    /// # let artifact = bp_artifact::Artifact::parse(r#"{"image":{"repository":"r.example.com/web","digest":
    /// #   "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}}"#, "artifact.json")?;
    /// let definitions = artifact.image_definitions(["web"])?;
    /// assert_eq!(definitions[0]["name"], "web");
    /// assert!(definitions[0]["imageUri"].as_str().unwrap().starts_with("r.example.com/web@sha256:"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When the artifact has no digest.
    pub fn image_definitions<'a>(
        &self,
        containers: impl IntoIterator<Item = &'a str>,
    ) -> Result<Value, ArtifactError> {
        let image = self.pinned()?;
        let definition = |name: &str| json!({ "name": name, "imageUri": image });
        Ok(containers.into_iter().map(definition).collect())
    }

    /// `imageDetail.json` of CodePipeline's blue/green action.
    ///
    /// # Errors
    /// When the artifact has no digest.
    pub fn image_detail(&self) -> Result<Value, ArtifactError> {
        Ok(json!({ "ImageURI": self.pinned()? }))
    }

    /// The build output of Skaffold, as `skaffold deploy --build-artifacts` reads it. `name` is the image's name in
    /// `skaffold.yaml`.
    ///
    /// # Errors
    /// When the artifact has no digest.
    pub fn skaffold_builds(&self, name: &str) -> Result<Value, ArtifactError> {
        let pinned = self.pinned()?;
        let tag = self.image_ref(None).map_or_else(|_| pinned.to_string(), |image| image.to_string());
        Ok(json!({ "builds": [{ "imageName": name, "tag": tag }] }))
    }

    /// The `subject` of an in-toto statement about the image.
    ///
    /// # Errors
    /// When the artifact has no digest.
    pub fn in_toto_subject(&self) -> Result<Value, ArtifactError> {
        let pinned = self.pinned()?;
        let (name, digest) = (pinned.repository().to_string(), pinned.digest());
        Ok(json!([{ "name": name, "digest": { digest.algorithm().name(): digest.hex() } }]))
    }
}
