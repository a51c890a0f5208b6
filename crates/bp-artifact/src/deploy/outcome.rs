//! What a deployment leaves behind: the outcome and the proof of what runs.

use serde::{Deserialize, Serialize};

use super::{FailureReport, Revision, TargetId, Verdict};
use crate::{digest::Digest, image::ResolvedImage, reference::DigestRef};

/// The end of one deployment to one target: made by a [`Run`](super::run::Run), or read from a receipt. Its verdict is
/// [`Deployed`](Verdict::Deployed) only where a [`Proof`] says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Outcome {
    /// Where.
    pub target: TargetId,
    // Private, so that nobody can write `Deployed` here: see `Run`.
    pub(crate) verdict: Verdict,
    /// The image that was asked for. `None` when a revision was restored whose image names no digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<DigestRef>,
    /// Whether anything was changed. A deployment of what runs already changes nothing and still proves it.
    pub changed: bool,
    /// The revision that is in place now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<Revision>,
    /// The revision that was in place before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Revision>,
    /// Why it failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureReport>,
    /// What was seen running.
    #[serde(default, skip_serializing_if = "Proof::is_empty")]
    pub proof: Proof,
    /// The platform's own, finer word for the state, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

impl Outcome {
    /// How it ended.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// An outcome to begin with. Nothing is known of it: it is [`Verdict::Unproven`], and nothing was changed.
    pub fn unproven(target: TargetId) -> Self {
        Outcome {
            target,
            verdict: Verdict::Unproven,
            image: None,
            changed: false,
            revision: None,
            previous: None,
            failure: None,
            proof: Proof::default(),
            detail: String::new(),
        }
    }
}

/// What was seen running, task by task or pod by pod.
///
/// ```
/// use bp_artifact::{Digest, DigestRef, Verdict, deploy::Proof};
///
/// let image: DigestRef = format!("registry.example.com/web@{}", Digest::sha256("x")).parse()?;
/// assert_eq!(Proof::default().judge(&image.into()), Verdict::Unproven);
/// # Ok::<(), bp_artifact::error::ParseError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Proof {
    /// One entry for each running task or pod.
    pub observations: Vec<Observation>,
}

/// One running task or pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Observation {
    /// The task or pod.
    pub unit: String,
    /// The container.
    pub container: String,
    /// The digest that it reports, when it reports one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

impl Observation {
    /// What was seen of one container.
    pub fn new(unit: impl Into<String>, container: impl Into<String>, digest: Option<Digest>) -> Self {
        Observation { unit: unit.into(), container: container.into(), digest }
    }
}

impl Proof {
    /// A proof of these observations.
    pub fn of(observations: impl IntoIterator<Item = Observation>) -> Self {
        Proof { observations: observations.into_iter().collect() }
    }

    /// Whether nothing was seen.
    pub fn is_empty(&self) -> bool {
        self.observations.is_empty()
    }

    /// What the observations prove of `image`: [`Verdict::Deployed`], [`Verdict::Unproven`] or
    /// [`Verdict::DigestMismatch`].
    ///
    /// A unit that tells no digest is unproven. A digest other than the image's own is a mismatch only when all of
    /// the image's platforms are known; else it may be a platform of it, and is unproven.
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
