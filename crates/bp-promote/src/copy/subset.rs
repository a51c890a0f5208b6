//! Selecting platforms of an index, as a new index.

use std::collections::HashSet;

use bp_artifact::{Digest, Platform, resolve::ManifestError};
use serde_json::{Map, Value};

use super::CopyError;
use crate::content::{Manifest, object, platform_of};

/// The annotation in which buildx states the manifest that an attestation belongs to.
const SUBJECT: &str = "vnd.docker.reference.digest";

/// Builds an index with the manifests of `top` for these platforms, and their attestations. Its digest differs.
pub(super) fn of(top: &Manifest, platforms: &[Platform]) -> Result<Manifest, CopyError> {
    let malformed = |error: serde_json::Error| CopyError::Manifest {
        digest: top.digest.clone(),
        source: ManifestError::Malformed { reason: error.to_string() },
    };
    let mut index: Map<String, Value> = object(&top.bytes).map_err(malformed)?;
    let missing = |wanted: &Platform, found: Vec<String>| CopyError::NoPlatform {
        digest: top.digest.clone(),
        wanted: wanted.clone(),
        found,
    };
    let Some(Value::Array(entries)) = index.get_mut("manifests") else {
        let Some(first) = platforms.first() else { return Ok(top.clone()) };
        return Err(missing(first, Vec::new()));
    };
    let here: Vec<Option<Platform>> = entries.iter().map(platform_of).collect();
    if let Some(wanted) = platforms.iter().find(|wanted| !here.iter().flatten().any(|here| here == *wanted)) {
        return Err(missing(wanted, here.iter().flatten().map(ToString::to_string).collect()));
    }
    let chosen: HashSet<String> = entries
        .iter()
        .zip(&here)
        .filter(|(_, here)| here.as_ref().is_some_and(|here| platforms.contains(here)))
        .filter_map(|(entry, _)| Some(entry["digest"].as_str()?.to_owned()))
        .collect();
    entries.retain(|entry| {
        let of = |digest: &Value| digest.as_str().is_some_and(|digest| chosen.contains(digest));
        let subject = entry.get("annotations").and_then(|all| all.get(SUBJECT));
        entry.get("digest").is_some_and(of) || subject.is_some_and(of)
    });
    let bytes = bytes::Bytes::from(Value::Object(index).to_string());
    Ok(Manifest { media_type: top.media_type.clone(), digest: Digest::sha256(&bytes), bytes })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn index() -> Manifest {
        let entry = |name: &str, arch: &str, of: Option<&str>| {
            let mut entry = json!({
                "digest": Digest::sha256(name), "size": 1, "mediaType": "m/t",
                "platform": { "os": if of.is_some() { "unknown" } else { "linux" }, "architecture": arch },
            });
            if let Some(of) = of {
                entry["annotations"] = json!({ SUBJECT: Digest::sha256(of) });
            }
            entry
        };
        let manifests = json!([
            entry("a", "amd64", None),
            entry("b", "arm64", None),
            entry("of a", "unknown", Some("a")),
            entry("of b", "unknown", Some("b")),
        ]);
        let text = json!({ "schemaVersion": 2, "manifests": manifests, "annotations": { "k": "v" } });
        Manifest::read(Some("index"), None, text.to_string().into()).unwrap()
    }

    #[test]
    fn selected_platforms_keep_their_attestations_under_a_new_digest() {
        let top = index();
        let some = of(&top, &["linux/arm64".parse().unwrap()]).unwrap();
        assert_ne!(some.digest, top.digest);
        let kept: Vec<Digest> =
            some.links().unwrap().manifests.into_iter().map(|child| child.digest).collect();
        assert_eq!(kept, [Digest::sha256("b"), Digest::sha256("of b")]);
        let text: Value = serde_json::from_slice(&some.bytes).unwrap();
        assert_eq!(text["annotations"]["k"], "v");
    }

    #[test]
    fn a_missing_platform_error_lists_the_existing_platforms() {
        let error = of(&index(), &["windows/amd64".parse().unwrap()]).unwrap_err().to_string();
        assert!(error.contains("windows/amd64") && error.contains("linux/amd64, linux/arm64"), "{error}");
    }
}
