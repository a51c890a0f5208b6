//! Why an image could not be pulled: what the registry answered, or what the node could not do.
//!
//! The messages of kubelet and container runtime are chains of clauses, from the outermost step to the innermost error.
//! Image references, URLs, digests and addresses in them are taken out first: their parts decide nothing.

use bp_artifact::deploy::Cause;
use http::StatusCode;

/// A clause that identifies the cause, and whether the cause is final.
struct Rule {
    clause: Clause,
    cause: Cause,
    is_final: bool,
}

/// What a clause says, in lower case.
enum Clause {
    Is(&'static str),
    Starts(&'static str),
}

const fn rule(clause: Clause, cause: Cause, is_final: bool) -> Rule {
    Rule { clause, cause, is_final }
}

/// The first that any clause satisfies counts. `<image>`, `<url>` and `<id>` stand for what was taken out.
const RULES: [Rule; 16] = [
    rule(Clause::Is("toomanyrequests"), Cause::ImagePullFailed, false),
    rule(Clause::Is("signaturevalidationfailed"), Cause::AdmissionRefused, true),
    // The registry has the image, and not for this node.
    rule(Clause::Starts("no match for platform in manifest"), Cause::WrongArchitecture, true),
    rule(Clause::Starts("no matching manifest for "), Cause::WrongArchitecture, true),
    rule(Clause::Starts("no image found in image index for architecture "), Cause::WrongArchitecture, true),
    rule(Clause::Starts("no image found in manifest list for architecture "), Cause::WrongArchitecture, true),
    // The registry, or the node's credential helper for it.
    rule(Clause::Is("no basic auth credentials"), Cause::ImagePullDenied, true),
    rule(Clause::Is("authorization failed"), Cause::ImagePullDenied, true),
    rule(Clause::Is("access denied"), Cause::ImagePullDenied, true),
    rule(Clause::Is("denied"), Cause::ImagePullDenied, true),
    rule(Clause::Is("unauthorized"), Cause::ImagePullDenied, true),
    rule(Clause::Starts("pull access denied"), Cause::ImagePullDenied, true),
    // The registry does not have it. What the node's own store does not have is "not found" too.
    rule(Clause::Is("manifest unknown"), Cause::ImageNotFound, true),
    rule(Clause::Is("name unknown"), Cause::ImageNotFound, true),
    rule(Clause::Is("manifest for <image> not found"), Cause::ImageNotFound, true),
    rule(Clause::Is("content at <url> not found"), Cause::ImageNotFound, true),
];

/// The cause in a message of kubelet or container runtime, and whether it is final. What is not known may pass.
pub(super) fn cause(message: &str) -> (Cause, bool) {
    let clauses = clauses(message);
    let statuses: Vec<u16> = clauses.iter().filter_map(|clause| status(clause)).collect();
    if statuses.iter().any(|code| matches!(code, 408 | 425 | 429 | 500..)) {
        return (Cause::ImagePullFailed, false);
    }
    let says = |rule: &&Rule| {
        clauses.iter().any(|clause| match rule.clause {
            Clause::Is(said) => clause == said,
            Clause::Starts(said) => clause.starts_with(said),
        })
    };
    if let Some(rule) = RULES.iter().find(says) {
        return (rule.cause, rule.is_final);
    }
    if statuses.iter().any(|code| matches!(code, 401 | 403)) {
        return (Cause::ImagePullDenied, true);
    }
    // The registry is asked for an image; everything else that can be missing is the node's.
    if clauses.windows(2).any(|pair| pair == ["<image>", "not found"]) {
        return (Cause::ImageNotFound, true);
    }
    (Cause::ImagePullFailed, false)
}

/// Whether the message says no more than that the kubelet waits before the next pull.
pub(super) fn is_bare(message: &str) -> bool {
    clauses(message).iter().all(|clause| clause.starts_with("back-off pulling image"))
}

/// The clauses of a message in lower case, without quoted names, references and ids.
fn clauses(message: &str) -> Vec<String> {
    let unquoted: String = message.split('"').step_by(2).collect::<Vec<_>>().join("<name>");
    let words: Vec<String> = unquoted.split_whitespace().map(|word| generic(word).to_lowercase()).collect();
    let text = words.join(" ");
    let clauses =
        text.split(": ").flat_map(|clause| clause.split(" - ")).flat_map(|clause| clause.split("desc = "));
    clauses.map(|clause| clause.trim().to_owned()).filter(|clause| !clause.is_empty()).collect()
}

/// A word, or what it stands for if it is a reference, a URL, a digest, an address or an id.
fn generic(word: &str) -> String {
    let is_punctuation = |c: char| matches!(c, ',' | ':' | ';' | '(' | ')' | '[' | ']' | '\'' | '.');
    let core = word.trim_matches(is_punctuation);
    let Some(stands_for) = kind(core) else { return word.to_owned() };
    word.replacen(core, stands_for, 1)
}

fn kind(core: &str) -> Option<&'static str> {
    let last = core.rsplit('/').next().unwrap_or(core);
    match core {
        _ if core.contains("://") => Some("<url>"),
        _ if core.contains('/') && (core.contains('@') || last.contains(':')) => Some("<image>"),
        _ if core.contains(['/', '@']) || core.starts_with("arn:") || is_id(core) => Some("<id>"),
        _ => None,
    }
}

/// Whether it is a digest, an address with or without a port, or a long number: ids of accounts and of requests.
fn is_id(core: &str) -> bool {
    let hex = core.rsplit(':').next().unwrap_or(core);
    let is_hex = hex.len() >= 6
        && hex.bytes().all(|b| b.is_ascii_hexdigit())
        && hex.bytes().any(|b| b.is_ascii_digit());
    let is_address =
        core.contains(['.', ':']) && core.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b':'));
    is_hex || is_address
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
        for (message, cause, is_final) in [
            (resolving(&format!("{IMAGE}: not found")), Cause::ImageNotFound, true),
            (resolving("no match for platform in manifest: not found"), Cause::WrongArchitecture, true),
            (
                resolving("unexpected status from HEAD request to https://r.example.com/v2/: 403 Forbidden"),
                Cause::ImagePullDenied,
                true,
            ),
            (
                resolving("pulling from host r.example.com failed with status code [manifests 1.0]: 401 Unauthorized"),
                Cause::ImagePullDenied,
                true,
            ),
            (
                resolving("failed to authorize: failed to fetch anonymous token: unexpected status: 401 Unauthorized"),
                Cause::ImagePullDenied,
                true,
            ),
            (
                resolving(
                    "pull access denied, repository does not exist or may require authorization: server message: \
                     insufficient_scope: authorization failed",
                ),
                Cause::ImagePullDenied,
                true,
            ),
            (
                resolving("failed to authorize: failed to fetch anonymous token: unexpected status: 404 Not Found"),
                Cause::ImagePullFailed,
                false,
            ),
            (
                resolving("unexpected status from HEAD request to https://r.example.com/v2/: 503 Service Unavailable"),
                Cause::ImagePullFailed,
                false,
            ),
            // A proxy that refuses to connect says no more than this.
            (resolving("Get \"https://r.example.com/v2/\": Forbidden"), Cause::ImagePullFailed, false),
            (resolving("dial tcp 140.31.40.3:403: i/o timeout"), Cause::ImagePullFailed, false),
            (unpacking("failed to extract layer sha256:500f1716: content digest sha256:59b1469b: not found"), Cause::ImagePullFailed, false),
            (unpacking("unable to prepare extraction snapshot: parent snapshot sha256:500f1716 does not exist: not found"), Cause::ImagePullFailed, false),
            (unpacking("lease does not exist: not found"), Cause::ImagePullFailed, false),
            (
                "Error response from daemon: manifest for shop/web:2 not found: manifest unknown: Requested image not found".into(),
                Cause::ImageNotFound,
                true,
            ),
            (
                "Error response from daemon: pull access denied for unauthorized, repository does not exist or may require \
                 'docker login': denied: requested access to the resource is denied"
                    .into(),
                Cause::ImagePullDenied,
                true,
            ),
            (
                "initializing source docker://r.example.com/web:1: reading manifest 1 in r.example.com/web: unauthorized: \
                 access to the requested resource is not authorized"
                    .into(),
                Cause::ImagePullDenied,
                true,
            ),
            (
                "initializing source docker://r.example.com/web:1: Requesting bearer token: invalid status code from registry \
                 403 (Forbidden)"
                    .into(),
                Cause::ImagePullDenied,
                true,
            ),
            (
                "name unknown: The repository with name 'denied' does not exist in the registry with id '140111111111'".into(),
                Cause::ImageNotFound,
                true,
            ),
            ("toomanyrequests: You have reached your unauthenticated pull rate limit.".into(), Cause::ImagePullFailed, false),
        ] {
            assert_eq!(super::cause(&message), (cause, is_final), "{message}\n{:?}", clauses(&message));
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
