//! Classify refused requests by the fixed parts of the API server's error messages.
//!
//! A message has a head that identifies the part of the API server that refused (`… is forbidden: `,
//! `admission webhook "…" denied the request`), followed by a detail with a fixed prefix. The rest of a message is
//! ignored: a policy's reason may mention timeouts, and a quota may have the name `denied`.

use bp_artifact::deploy::Cause;

use super::symptom::{Recovery, Symptom};

/// The part of the API server that refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Head {
    /// An admission webhook denied the request.
    Denied,
    /// An admission webhook could not be called.
    Webhook,
    /// Validation.
    Invalid,
    /// An admission plugin or RBAC.
    Forbidden,
    /// A concurrent change.
    Conflict,
    /// The API server itself or etcd: timeout, overload, leader change.
    Other,
}

/// Maps a kind of message to a cause.
struct Rule {
    head: Head,
    /// The prefix of the detail.
    detail: &'static str,
    cause: Cause,
    recovery: Recovery,
}

const fn rule(head: Head, detail: &'static str, cause: Cause, recovery: Recovery) -> Rule {
    Rule { head, detail, cause, recovery }
}

/// The first matching rule applies; every head has a rule that matches any detail.
const RULES: [Rule; 19] = [
    rule(Head::Denied, "", Cause::AdmissionRefused, Recovery::Never),
    rule(Head::Invalid, "", Cause::AdmissionRefused, Recovery::Never),
    rule(Head::Webhook, "", Cause::AdmissionRefused, Recovery::Retried),
    rule(Head::Forbidden, "violates PodSecurity ", Cause::AdmissionRefused, Recovery::Never),
    rule(Head::Forbidden, "ValidatingAdmissionPolicy ", Cause::AdmissionRefused, Recovery::Never),
    // An image policy webhook.
    rule(
        Head::Forbidden,
        "image policy webhook backend denied one or more images",
        Cause::AdmissionRefused,
        Recovery::Never,
    ),
    rule(
        Head::Forbidden,
        "one or more images rejected by webhook backend",
        Cause::AdmissionRefused,
        Recovery::Never,
    ),
    rule(
        Head::Forbidden,
        "unable to create new content in namespace ",
        Cause::AdmissionRefused,
        Recovery::Never,
    ),
    // The rollout's state decides whether the quota can become free.
    rule(Head::Forbidden, "exceeded quota: ", Cause::QuotaExceeded, Recovery::Soon),
    rule(Head::Forbidden, "failed quota: ", Cause::QuotaExceeded, Recovery::Retried),
    rule(Head::Forbidden, "status unknown for quota: ", Cause::QuotaExceeded, Recovery::Retried),
    rule(Head::Forbidden, "error looking up service account ", Cause::PermissionMissing, Recovery::Retried),
    rule(
        Head::Forbidden,
        "no API token found for service account ",
        Cause::PermissionMissing,
        Recovery::Retried,
    ),
    rule(Head::Forbidden, "User \"", Cause::PermissionMissing, Recovery::Retried),
    rule(Head::Forbidden, "not yet ready to handle request", Cause::NoProgress, Recovery::Retried),
    // A missing PriorityClass or RuntimeClass, a LimitRange, an image policy webhook that cannot be called.
    rule(Head::Forbidden, "", Cause::AdmissionRefused, Recovery::Retried),
    rule(Head::Conflict, "resourcequotas ", Cause::QuotaExceeded, Recovery::Retried),
    rule(Head::Conflict, "", Cause::NoProgress, Recovery::Retried),
    rule(Head::Other, "", Cause::NoProgress, Recovery::Retried),
];

fn of(message: &str) -> &'static Rule {
    let (head, detail) = read(message);
    let fits = |rule: &&Rule| rule.head == head && detail.starts_with(rule.detail);
    RULES.iter().find(fits).unwrap_or(&RULES[RULES.len() - 1])
}

/// The symptom of a controller's failure to create a pod.
pub(crate) fn symptom(message: &str) -> Symptom {
    let rule = of(message);
    let message = match webhook(message) {
        Some(webhook) => format!("the admission webhook {webhook:?} cannot be called: {message}"),
        None => message.to_owned(),
    };
    Symptom::new(rule.cause, rule.recovery, message)
}

/// Whether the API server itself failed, independent of the request.
pub(crate) fn is_server_failure(message: &str) -> bool {
    of(message).cause == Cause::NoProgress
}

/// Whether an admission webhook denied the request.
pub(crate) fn is_denied(message: &str) -> bool {
    read(message).0 == Head::Denied
}

/// Whether the applied object has a field that its schema does not have, or one of another type: the API server answers
/// this with 500.
pub(crate) fn is_off_schema(message: &str) -> bool {
    message.starts_with("failed to create typed patch object")
}

/// The admission webhook that could not be called.
pub(crate) fn webhook(message: &str) -> Option<&str> {
    let (head, detail) = read(message);
    (head == Head::Webhook).then(|| detail.split('"').next().unwrap_or_default())
}

/// Splits a message into head and detail.
fn read(message: &str) -> (Head, &str) {
    let message = without_controller(message);
    if let Some(detail) = message.strip_prefix("admission webhook \"")
        && detail.split_once('"').is_some_and(|(_, said)| said.starts_with(" denied the request"))
    {
        return (Head::Denied, detail);
    }
    if let Some(detail) = message.strip_prefix("Operation cannot be fulfilled on ") {
        return (Head::Conflict, detail);
    }
    let inner = message.strip_prefix("Internal error occurred: ").unwrap_or(message);
    for called in ["failed calling webhook \"", "failed calling admission webhook \""] {
        if let Some(detail) = inner.strip_prefix(called) {
            return (Head::Webhook, detail);
        }
    }
    for (said, head) in [(" is forbidden: ", Head::Forbidden), (" is invalid: ", Head::Invalid)] {
        if let Some((subject, detail)) = message.split_once(said)
            && is_subject(subject)
        {
            return (head, detail);
        }
    }
    (Head::Other, message)
}

/// Removes the prefix that a controller adds to the API server's message in its events.
fn without_controller(message: &str) -> &str {
    match message.split_once(" failed error: ") {
        Some((made, said)) if made.starts_with("create ") => said,
        _ => message.strip_prefix("Error creating: ").unwrap_or(message),
    }
}

/// Whether the text has the form `pods "web-1"`, `Pod "web-1"` or `pods`.
fn is_subject(text: &str) -> bool {
    let mut words = text.split(' ');
    let kind = words.next().is_some_and(|kind| !kind.is_empty() && !kind.contains('"'));
    let name = words.next().is_none_or(|name| name.starts_with('"') && name.ends_with('"'));
    kind && name && words.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classifies_refusals_by_cause_and_recovery() {
        for (message, cause, recovery) in [
            (
                "pods \"web-1\" is forbidden: exceeded quota: pods, requested: pods=1",
                Cause::QuotaExceeded,
                Recovery::Soon,
            ),
            (
                "pods \"web-1\" is forbidden: status unknown for quota: pods",
                Cause::QuotaExceeded,
                Recovery::Retried,
            ),
            (
                "create Pod web-2 in StatefulSet web failed error: pods \"web-2\" is forbidden: exceeded quota: pods",
                Cause::QuotaExceeded,
                Recovery::Soon,
            ),
            (
                "Operation cannot be fulfilled on resourcequotas \"violates PodSecurity\": the object has been modified",
                Cause::QuotaExceeded,
                Recovery::Retried,
            ),
            (
                "Error creating: pods \"web-1\" is forbidden: error looking up service account shop/web: serviceaccount \"web\" not found",
                Cause::PermissionMissing,
                Recovery::Retried,
            ),
            (
                "admission webhook \"policy\" denied the request: timeout",
                Cause::AdmissionRefused,
                Recovery::Never,
            ),
            (
                "admission webhook \"policy\" denied the request without explanation",
                Cause::AdmissionRefused,
                Recovery::Never,
            ),
            (
                "pods \"web-1\" is forbidden: violates PodSecurity \"restricted\"",
                Cause::AdmissionRefused,
                Recovery::Never,
            ),
            ("Pod \"web-1\" is invalid: spec.hostname: x", Cause::AdmissionRefused, Recovery::Never),
            // Names of objects and text inside the detail do not matter.
            (
                "Internal error occurred: failed calling webhook \"denied the request\": context deadline exceeded",
                Cause::AdmissionRefused,
                Recovery::Retried,
            ),
            ("Timeout: a request that is invalid: did not complete", Cause::NoProgress, Recovery::Retried),
            (
                "pods \"web-1\" is forbidden: maximum cpu usage per Container is 1",
                Cause::AdmissionRefused,
                Recovery::Retried,
            ),
            ("etcdserver: leader changed", Cause::NoProgress, Recovery::Retried),
            ("", Cause::NoProgress, Recovery::Retried),
        ] {
            let symptom = symptom(message);
            assert_eq!((symptom.cause, symptom.recovery), (cause, recovery), "{message}");
        }
    }

    #[test]
    fn extracts_the_webhook_that_cannot_be_called() {
        let down = "Internal error occurred: failed calling webhook \"mpod.elbv2.k8s.aws\": failed to call webhook: EOF";
        assert_eq!(webhook(down), Some("mpod.elbv2.k8s.aws"));
        assert_eq!(webhook("admission webhook \"policy\" denied the request: no"), None);
    }
}
