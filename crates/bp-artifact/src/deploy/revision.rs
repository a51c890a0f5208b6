//! Revisions: the states that a target can be rolled back to, and the images that they run.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{image::ResolvedImage, reference::DigestRef};

/// A state that a target can be rolled back to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Revision {
    /// The platform's identifier: a task definition's ARN, a Deployment's revision number.
    pub id: String,
    /// The image that it runs in the deployed container.
    pub image: RunningImage,
    /// The scheduled tasks that are deployed with the target, as recorded before the first change. Empty if there are
    /// none, or they were not recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schedules: Vec<ScheduledTask>,
}

/// A scheduled task, and the task definition that it starts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct ScheduledTask {
    /// The schedule: `rule/<event bus>/<rule>/<target>`, or `schedule/<group>/<name>`.
    pub schedule: String,
    /// The task definition as written there: an ARN, with or without a revision.
    pub definition: String,
}

impl ScheduledTask {
    /// The schedule `schedule`, which starts tasks of `definition`.
    pub fn new(schedule: impl Into<String>, definition: impl Into<String>) -> Self {
        ScheduledTask { schedule: schedule.into(), definition: definition.into() }
    }
}

impl Revision {
    /// The revision `id`, which runs `image`.
    pub fn new(id: impl Into<String>, image: impl Into<RunningImage>) -> Self {
        Revision { id: id.into(), image: image.into(), schedules: Vec::new() }
    }

    /// Adds the scheduled tasks that are deployed with the target.
    pub fn with_schedules(mut self, schedules: Vec<ScheduledTask>) -> Self {
        self.schedules = schedules;
        self
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)
    }
}

/// An image reference as written in a platform object, kept verbatim and parsed once. Older revisions may have a tag
/// instead of a digest, or both; it is empty if the object has no image of this project yet.
///
/// ```
/// use bp_artifact::{Digest, deploy::RunningImage};
///
/// let text = format!("registry.example.com/web:1.4@{}", Digest::sha256("x"));
/// let pinned = RunningImage::from(text.clone());
/// assert_eq!(pinned.as_str(), text);
/// assert_eq!(pinned.pinned().unwrap().digest(), &Digest::sha256("x"));
/// assert_eq!(RunningImage::from("registry.example.com/web:1.4").pinned(), None);
/// ```
#[derive(Clone, Default)]
pub struct RunningImage {
    text: String,
    pinned: Option<DigestRef>,
}

impl RunningImage {
    /// The reference as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The reference by digest, if it contains a digest.
    pub fn pinned(&self) -> Option<&DigestRef> {
        self.pinned.as_ref()
    }

    /// The image to verify a proof against, if the reference contains a digest: without platforms, which only a
    /// registry can list.
    pub fn resolved(&self) -> Option<ResolvedImage> {
        self.pinned.clone().map(ResolvedImage::from)
    }

    /// Whether it is exactly this image.
    pub fn is(&self, image: &DigestRef) -> bool {
        self.pinned.as_ref() == Some(image)
    }
}

impl From<String> for RunningImage {
    fn from(text: String) -> Self {
        let pinned = text.parse().ok();
        RunningImage { text, pinned }
    }
}

impl From<&str> for RunningImage {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<&DigestRef> for RunningImage {
    fn from(image: &DigestRef) -> Self {
        RunningImage { text: image.to_string(), pinned: Some(image.clone()) }
    }
}

/// Compares the text: two spellings of the same digest differ, because a rollback has to restore the original text.
impl PartialEq for RunningImage {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for RunningImage {}

impl PartialEq<str> for RunningImage {
    fn eq(&self, other: &str) -> bool {
        self.text == other
    }
}

impl PartialEq<String> for RunningImage {
    fn eq(&self, other: &String) -> bool {
        self.text == *other
    }
}

impl std::hash::Hash for RunningImage {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl fmt::Debug for RunningImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl fmt::Display for RunningImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for RunningImage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for RunningImage {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RunningImage".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "An image as the platform reports it: by digest, or by a tag.",
        })
    }
}

impl<'de> Deserialize<'de> for RunningImage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(RunningImage::from)
    }
}
