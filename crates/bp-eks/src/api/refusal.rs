//! Why the API server refused something, read by the fixed parts of its own messages.
//!
//! A message has a head that says which part of the API server refused (`… is forbidden: `, `admission webhook "…" denied
//! the request`), and behind it a detail whose beginning is fixed as well. Words elsewhere in a message decide nothing: a
//! policy's reason may speak of time-outs, and a quota may be called `denied`.

use bp_artifact::deploy::Cause;

use super::symptom::{Recovery, Symptom};

/// Which part of the API server refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Head {
    /// An admission webhook said no.
    Denied,
    /// An admission webhook could not be asked.
    Webhook,
    /// Validation.
    Invalid,
    /// Admission, or RBAC.
    Forbidden,
    /// Somebody else wrote at the same time.
    Conflict,
    /// The API server itself, or its store: time-outs, overload, a change of the leader.
    Other,
}

/// What a refusal means.
struct Rule {
    head: Head,
    /// How the detail begins.
    detail: &'static str,
    cause: Cause,
    recovery: Recovery,
}

const fn rule(head: Head, detail: &'static str, cause: Cause, recovery: Recovery) -> Rule {
    Rule { head, detail, cause, recovery }
}

/// The first that fits counts; every head has one for all that is not listed.
const RULES: [Rule; 17] = [
    rule(Head::Denied, "", Cause::AdmissionRefused, Recovery::Never),
    rule(Head::Invalid, "", Cause::AdmissionRefused, Recovery::Never),
    rule(Head::Webhook, "", Cause::AdmissionRefused, Recovery::Retried),
    rule(Head::Forbidden, "violates PodSecurity ", Cause::AdmissionRefused, Recovery::Never),
    rule(Head::Forbidden, "ValidatingAdmissionPolicy ", Cause::AdmissionRefused, Recovery::Never),
    rule(
        Head::Forbidden,
        "unable to create new content in namespace ",
        Cause::AdmissionRefused,
        Recovery::Never,
    ),
    // Whether anything frees the quota is for the picture to say.
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
    // A PriorityClass or a RuntimeClass that is missing, a LimitRange, an image policy that cannot be asked.
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

/// Why a controller could make no pod.
pub(crate) fn symptom(message: &str) -> Symptom {
    let rule = of(message);
    Symptom::new(rule.cause, rule.recovery, message)
}

/// Whether the API server could not do its work, whatever was asked of it.
pub(crate) fn is_servers_own(message: &str) -> bool {
    of(message).cause == Cause::NoProgress
}

/// Whether a policy refused.
pub(crate) fn is_denied(message: &str) -> bool {
    read(message).0 == Head::Denied
}

/// The admission webhook that could not be asked.
pub(crate) fn webhook(message: &str) -> Option<&str> {
    let (head, detail) = read(message);
    (head == Head::Webhook).then(|| detail.split('"').next().unwrap_or_default())
}

/// The head of a message, and its detail.
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

/// The API server's message in what a controller makes of it for its events.
fn without_controller(message: &str) -> &str {
    match message.split_once(" failed error: ") {
        Some((made, said)) if made.starts_with("create ") => said,
        _ => message.strip_prefix("Error creating: ").unwrap_or(message),
    }
}

/// Whether it is `pods "web-1"`, `Pod "web-1"` or `pods`.
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
    fn who_refused_and_whether_that_can_pass() {
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
            // Whatever an object is called, and whatever a part of it says.
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
    fn a_webhook_that_cannot_be_asked_is_named() {
        let down = "Internal error occurred: failed calling webhook \"mpod.elbv2.k8s.aws\": failed to call webhook: EOF";
        assert_eq!(webhook(down), Some("mpod.elbv2.k8s.aws"));
        assert_eq!(webhook("admission webhook \"policy\" denied the request: no"), None);
    }
}
