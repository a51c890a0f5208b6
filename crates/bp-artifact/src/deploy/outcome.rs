//! The outcome of a deployment, and the proof of what is running.

use serde::{Deserialize, Serialize};

use super::{FailureReport, Revision, RollbackCheck, TargetId, Verdict};
use crate::{digest::Digest, image::ResolvedImage, reference::DigestRef};

/// The outcome of one deployment to one target: created by a [`Run`](super::run::Run), or read from a receipt. Its
/// verdict is [`Deployed`](Verdict::Deployed) only if a [`Proof`] confirms it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Outcome {
    /// The target.
    pub target: TargetId,
    // Private, so that only a `Run` can set `Deployed`.
    pub(crate) verdict: Verdict,
    /// The requested image. `None` when a revision was restored whose image has no digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<DigestRef>,
    /// Whether anything was changed. Deploying an image that already runs changes nothing, but still proves it.
    pub changed: bool,
    /// The revision that is in place now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<Revision>,
    /// The revision that was in place before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Revision>,
    /// Whether the rollback revision could still run, if that was checked before the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<RollbackCheck>,
    /// Why it failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureReport>,
    /// The observed digests.
    #[serde(default, skip_serializing_if = "Proof::is_empty")]
    pub proof: Proof,
    /// The exit code of the container of a one-off task, if it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The outcomes of the one-off tasks that ran before and after the change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<Outcome>,
    /// The platform's more specific state, for display.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

impl Outcome {
    /// The verdict.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Creates an initial outcome: [`Verdict::Unproven`], nothing changed.
    pub fn unproven(target: TargetId) -> Self {
        Outcome {
            target,
            verdict: Verdict::Unproven,
            image: None,
            changed: false,
            revision: None,
            previous: None,
            rollback: None,
            failure: None,
            proof: Proof::default(),
            exit_code: None,
            tasks: Vec::new(),
            detail: String::new(),
        }
    }
}

/// The digests observed in each running task or pod.
///
/// ```
/// use bp_artifact::{Digest, DigestRef, Verdict, deploy::Proof};
///
/// let image: DigestRef = format!("registry.example.com/web@{}", Digest::sha256("x")).parse()?;
/// assert_eq!(Proof::default().judge(&image.into()), Verdict::Unproven);
/// # Ok::<(), bp_artifact::error::ParseError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Proof {
    /// One observation for each running task or pod.
    pub observations: Vec<Observation>,
}

/// One running task or pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Observation {
    /// The task or pod.
    pub unit: String,
    /// The container.
    pub container: String,
    /// The digest that it reports, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

impl Observation {
    /// Creates an observation of one container.
    pub fn new(unit: impl Into<String>, container: impl Into<String>, digest: Option<Digest>) -> Self {
        Observation { unit: unit.into(), container: container.into(), digest }
    }
}

impl Proof {
    /// A proof of these observations.
    pub fn of(observations: impl IntoIterator<Item = Observation>) -> Self {
        Proof { observations: observations.into_iter().collect() }
    }

    /// Whether there is no observation.
    pub fn is_empty(&self) -> bool {
        self.observations.is_empty()
    }

    /// What the observations prove about `image`: [`Verdict::Deployed`], [`Verdict::Unproven`] or
    /// [`Verdict::DigestMismatch`].
    ///
    /// A unit without a digest is unproven. A digest other than the image's own is a mismatch only if all platforms of
    /// the image are known; otherwise it may be one of them, and is unproven.
    pub fn judge(&self, image: &ResolvedImage) -> Verdict {
        let mut verdict = if self.is_empty() { Verdict::Unproven } else { Verdict::Deployed };
        for observation in &self.observations {
            match &observation.digest {
                Some(digest) if image.covers(digest) => {}
                Some(_) if image.is_complete() => return Verdict::DigestMismatch,
                _ => verdict = Verdict::Unproven,
            }
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::PlatformImage;

    fn seen(digests: &[Option<&Digest>]) -> Proof {
        let observation = |digest: &Option<&Digest>| Observation {
            unit: "task/1".into(),
            container: "web".into(),
            digest: digest.cloned(),
        };
        Proof { observations: digests.iter().map(observation).collect() }
    }

    #[test]
    fn judges_by_what_is_known() {
        let (index, child, other) =
            (Digest::sha256("index"), Digest::sha256("child"), Digest::sha256("other"));
        let unknown = ResolvedImage::from(
            "r.example.com/web".parse::<crate::reference::Repository>().unwrap().at(index.clone()),
        );
        let known = ResolvedImage {
            platforms: vec![PlatformImage::new("linux/amd64".parse().unwrap(), child.clone())],
            ..unknown.clone()
        };
        for (image, running, verdict) in [
            (&known, vec![], Verdict::Unproven),
            (&known, vec![Some(&index)], Verdict::Deployed),
            (&known, vec![Some(&index), Some(&child)], Verdict::Deployed),
            (&known, vec![Some(&child), None], Verdict::Unproven),
            (&known, vec![None, Some(&other)], Verdict::DigestMismatch),
            (&unknown, vec![Some(&index)], Verdict::Deployed),
            (&unknown, vec![Some(&child)], Verdict::Unproven),
        ] {
            assert_eq!(seen(&running).judge(image), verdict, "{running:?}");
        }
    }
}
