//! Why an image could not be pulled: what the registry answered, or what the node could not do.

use bp_artifact::deploy::Cause;
use http::StatusCode;

use super::clauses::{Clause, Clauses, Rule, rule};
use crate::api::symptom::Recovery;

/// The first that any clause satisfies counts.
const RULES: [Rule; 22] = [
    rule(Clause::Is("toomanyrequests"), Cause::ImagePullFailed, Recovery::Sometime),
    rule(Clause::Is("signaturevalidationfailed"), Cause::AdmissionRefused, Recovery::Never),
    rule(Clause::Starts("source image rejected"), Cause::AdmissionRefused, Recovery::Never),
    // A manifest that the runtime cannot read.
    rule(Clause::Has(" is no longer supported since containerd "), Cause::ImagePullFailed, Recovery::Never),
    // The registry has the image, and not for this node.
    rule(Clause::Starts("no match for platform in manifest"), Cause::WrongArchitecture, Recovery::Never),
    rule(Clause::Starts("no matching manifest for "), Cause::WrongArchitecture, Recovery::Never),
    rule(Clause::Starts("no image found in image index for "), Cause::WrongArchitecture, Recovery::Never),
    rule(Clause::Starts("no image found in manifest list for "), Cause::WrongArchitecture, Recovery::Never),
    // The registry, or the node's credential helper for it. A pull Secret is renewed while the pod waits.
    rule(Clause::Starts("your authorization token has expired"), Cause::ImagePullDenied, Recovery::Retried),
    rule(Clause::Is("no basic auth credentials"), Cause::ImagePullDenied, Recovery::Never),
    rule(Clause::Is("authorization failed"), Cause::ImagePullDenied, Recovery::Never),
    rule(Clause::Is("access denied"), Cause::ImagePullDenied, Recovery::Never),
    rule(Clause::Is("denied"), Cause::ImagePullDenied, Recovery::Never),
    rule(Clause::Is("unauthorized"), Cause::ImagePullDenied, Recovery::Never),
    rule(Clause::Starts("pull access denied"), Cause::ImagePullDenied, Recovery::Never),
    rule(
        Clause::Starts("requested access to the resource is denied"),
        Cause::ImagePullDenied,
        Recovery::Never,
    ),
    rule(Clause::Is("authentication required"), Cause::ImagePullDenied, Recovery::Never),
    // The registry does not have it. What the node's own store does not have is "not found" too.
    rule(Clause::Is("manifest unknown"), Cause::ImageNotFound, Recovery::Never),
    rule(Clause::Is("name unknown"), Cause::ImageNotFound, Recovery::Never),
    rule(Clause::Starts("repository name not known to registry"), Cause::ImageNotFound, Recovery::Never),
    rule(Clause::Is("manifest for <image> not found"), Cause::ImageNotFound, Recovery::Never),
    rule(Clause::Is("content at <url> not found"), Cause::ImageNotFound, Recovery::Never),
];

/// The cause in a message of kubelet or container runtime, and its recovery. What is not known may pass.
pub(super) fn cause(message: &str) -> (Cause, Recovery) {
    let clauses = Clauses::of(message);
    let statuses: Vec<u16> = clauses.iter().filter_map(status).collect();
    if statuses.iter().any(|code| matches!(code, 408 | 425 | 429 | 500..)) {
        return (Cause::ImagePullFailed, Recovery::Sometime);
    }
    if let Some(found) = clauses.first_of(&RULES) {
        return found;
    }
    // The registry is asked for an image; everything else that can be missing is the node's. If the kubelet has several
    // credentials, the message contains the answer to each of them, and one without any is denied.
    if clauses.pair("<image>", "not found")
        || clauses.pair("<image>", "not found, failed to pull and unpack image <name>")
    {
        return (Cause::ImageNotFound, Recovery::Never);
    }
    if statuses.iter().any(|code| matches!(code, 401 | 403)) {
        // The registry has answered with the manifest, and a layer's URL is denied: its signature expires, or the
        // policy of a VPC endpoint denies the bucket.
        let is_layer = clauses.say(Clause::Starts("failed to copy"));
        return (Cause::ImagePullDenied, if is_layer { Recovery::Retried } else { Recovery::Never });
    }
    (Cause::ImagePullFailed, Recovery::Sometime)
}

/// Whether the message says no more than that the kubelet waits before the next pull.
pub(super) fn is_bare(message: &str) -> bool {
    Clauses::of(message).iter().all(|clause| clause.starts_with("back-off pulling image"))
}

/// The HTTP status that a clause reports: `403 forbidden`, or `… 403 (forbidden)`.
fn status(clause: &str) -> Option<u16> {
    let words: Vec<&str> = clause.split(' ').collect();
    words.iter().enumerate().find_map(|(at, word)| {
        let code: u16 = word.parse().ok()?;
        let reason = StatusCode::from_u16(code).ok()?.canonical_reason()?.to_lowercase();
        let told = words[at + 1..].join(" ");
        told.trim_start_matches('(').starts_with(&reason).then_some(code)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: &str =
        "111111111111.dkr.ecr.eu-central-1.amazonaws.com/shop/web@sha256:9d6b58feebd2dbd3c56ab5853333d627";

    #[test]
    fn distinguishes_registry_errors_from_node_errors() {
        let resolving = |error: &str| {
            format!(
                "rpc error: code = Unknown desc = failed to pull and unpack image \"{IMAGE}\": failed to resolve reference \
                 \"{IMAGE}\": {error}"
            )
        };
        let unpacking = |error: &str| {
            format!(
                "rpc error: code = NotFound desc = failed to pull and unpack image \"{IMAGE}\": failed to unpack image on \
                 snapshotter overlayfs: {error}"
            )
        };
        for (message, cause, recovery) in [
            (resolving(&format!("{IMAGE}: not found")), Cause::ImageNotFound, Recovery::Never),
            (resolving("no match for platform in manifest: not found"), Cause::WrongArchitecture, Recovery::Never),
            (
                resolving("unexpected status from HEAD request to https://r.example.com/v2/: 403 Forbidden"),
                Cause::ImagePullDenied,
                Recovery::Never,
            ),
            (
                resolving("pulling from host r.example.com failed with status code [manifests 1.0]: 401 Unauthorized"),
                Cause::ImagePullDenied,
                Recovery::Never,
            ),
            (
                resolving("failed to authorize: failed to fetch anonymous token: unexpected status: 401 Unauthorized"),
                Cause::ImagePullDenied,
                Recovery::Never,
            ),
            (
                resolving(
                    "pull access denied, repository does not exist or may require authorization: server message: \
                     insufficient_scope: authorization failed",
                ),
                Cause::ImagePullDenied,
                Recovery::Never,
            ),
            (
                resolving("failed to authorize: failed to fetch anonymous token: unexpected status: 404 Not Found"),
                Cause::ImagePullFailed,
                Recovery::Sometime,
            ),
            (
                resolving("unexpected status from HEAD request to https://r.example.com/v2/: 503 Service Unavailable"),
                Cause::ImagePullFailed,
                Recovery::Sometime,
            ),
            // A proxy that refuses to connect says no more than this.
            (resolving("Get \"https://r.example.com/v2/\": Forbidden"), Cause::ImagePullFailed, Recovery::Sometime),
            (resolving("dial tcp 140.31.40.3:403: i/o timeout"), Cause::ImagePullFailed, Recovery::Sometime),
            (unpacking("failed to extract layer sha256:500f1716: content digest sha256:59b1469b: not found"), Cause::ImagePullFailed, Recovery::Sometime),
            (unpacking("unable to prepare extraction snapshot: parent snapshot sha256:500f1716 does not exist: not found"), Cause::ImagePullFailed, Recovery::Sometime),
            (unpacking("lease does not exist: not found"), Cause::ImagePullFailed, Recovery::Sometime),
            (
                "Error response from daemon: manifest for shop/web:2 not found: manifest unknown: Requested image not found".into(),
                Cause::ImageNotFound,
                Recovery::Never,
            ),
            (
                "Error response from daemon: pull access denied for unauthorized, repository does not exist or may require \
                 'docker login': denied: requested access to the resource is denied"
                    .into(),
                Cause::ImagePullDenied,
                Recovery::Never,
            ),
            (
                "initializing source docker://r.example.com/web:1: reading manifest 1 in r.example.com/web: unauthorized: \
                 access to the requested resource is not authorized"
                    .into(),
                Cause::ImagePullDenied,
                Recovery::Never,
            ),
            (
                "initializing source docker://r.example.com/web:1: Requesting bearer token: invalid status code from registry \
                 403 (Forbidden)"
                    .into(),
                Cause::ImagePullDenied,
                Recovery::Never,
            ),
            (
                "name unknown: The repository with name 'denied' does not exist in the registry with id '140111111111'".into(),
                Cause::ImageNotFound,
                Recovery::Never,
            ),
            ("toomanyrequests: You have reached your unauthenticated pull rate limit.".into(), Cause::ImagePullFailed, Recovery::Sometime),
        ] {
            assert_eq!(super::cause(&message), (cause, recovery), "{message}\n{:?}", Clauses::of(&message));
        }
    }

    #[test]
    fn a_message_without_a_reason_is_bare() {
        assert!(is_bare("Back-off pulling image \"r.example.com/web:1\"") && is_bare(""));
        assert!(!is_bare(
            "Back-off pulling image \"r.example.com/web:1\": ErrImagePull: no space left on device"
        ));
    }
}
