//! Classification of the failures and errors of RunTask.
//!
//! Source: <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/api_failures_messages.html>

use aws_sdk_ecs::types::Failure;
use bp_artifact::deploy::{Cause, Evidence, EvidenceKind, FailureReport};

use super::super::reasons::{self, Reading};
use crate::{error::Error, names::name_of};

/// The maximum number of failures in a report.
const MAX_EVIDENCE: usize = 5;

/// The report of a call that did not place a task.
pub(super) fn report(failures: &[Failure]) -> FailureReport {
    let Some(first) = failures.first() else {
        return FailureReport::new(Cause::Unknown, "ecs:RunTask returned neither a task nor a failure");
    };
    let Reading { cause, object } = read(first);
    let mut report = FailureReport::new(cause, message(first)).about(object);
    report.evidence.extend(failures.iter().take(MAX_EVIDENCE).map(|failure| {
        let source = failure.arn.as_deref().map_or("ecs:RunTask", name_of);
        Evidence::new(EvidenceKind::Task, message(failure)).source(source)
    }));
    report
}

/// The report of an error that states that there is no capacity, or that a quota is exceeded. `None` for others.
pub(super) fn report_of_error(error: &Error) -> Option<FailureReport> {
    const CAPACITY: [&str; 6] = [
        "capacity is unavailable",
        "no container instances were found",
        "provisioning capacity limit exceeded",
        "reached the limit",
        "above your limit",
        "account is currently blocked",
    ];
    let message = error.refusal()?;
    let text = message.to_lowercase();
    CAPACITY.iter().any(|part| text.contains(part)).then(|| {
        let Reading { cause, object } = reasons::of_placement(message);
        FailureReport::new(cause, message).about(object)
    })
}

fn message(failure: &Failure) -> String {
    let reason = failure.reason.as_deref().unwrap_or("no reason");
    match failure.detail.as_deref().filter(|detail| !detail.is_empty()) {
        Some(detail) => format!("{reason}: {detail}"),
        None => reason.to_owned(),
    }
}

fn read(failure: &Failure) -> Reading {
    let reason = failure.reason.as_deref().unwrap_or_default();
    let of = |cause, object: Option<&str>| Reading { cause, object: object.map(str::to_owned) };
    match reason.trim() {
        // The agent of the container instance is disconnected.
        "AGENT" => of(Cause::NodeFailed, failure.arn.as_deref().map(name_of)),
        "ATTRIBUTE" | "LOCATION" | "EMPTY CAPACITY PROVIDER" | "NO ACTIVE INSTANCES" | "INACTIVE" => {
            of(Cause::Unschedulable, None)
        }
        resource if resource.starts_with("RESOURCE:") => of(Cause::Unschedulable, None),
        other => reasons::of_placement(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(reason: &str) -> Cause {
        let arn = "arn:aws:ecs:eu-central-1:1:container-instance/shop/i1";
        report(&[Failure::builder().reason(reason).arn(arn).build()]).cause
    }

    #[test]
    fn classifies_documented_failures() {
        for (reason, expected) in [
            ("RESOURCE:MEMORY", Cause::Unschedulable),
            ("RESOURCE:CPU", Cause::Unschedulable),
            ("RESOURCE:ENI", Cause::Unschedulable),
            ("RESOURCE:PORTS", Cause::Unschedulable),
            ("AGENT", Cause::NodeFailed),
            ("ATTRIBUTE", Cause::Unschedulable),
            ("LOCATION", Cause::Unschedulable),
            ("EMPTY CAPACITY PROVIDER", Cause::Unschedulable),
            (
                "Capacity is unavailable at this time. Please try again later or in a different availability zone",
                Cause::Unschedulable,
            ),
            (
                "You've reached the limit on the number of vCPUs you can run concurrently",
                Cause::QuotaExceeded,
            ),
            ("The requested CPU configuration is above your limit", Cause::QuotaExceeded),
            ("Your account is currently blocked", Cause::AccountBlocked),
            ("Rate exceeded", Cause::Throttled),
        ] {
            assert_eq!(cause(reason), expected, "{reason}");
        }
        assert_eq!(report(&[]).cause, Cause::Unknown);
    }

    #[test]
    fn reports_the_container_instance_and_the_detail() {
        let arn = "arn:aws:ecs:eu-central-1:1:container-instance/shop/i1";
        let failure = Failure::builder().reason("AGENT").arn(arn).detail("disconnected").build();
        let report = report(&[failure]);
        assert_eq!((report.object.as_deref(), report.message.as_str()), (Some("i1"), "AGENT: disconnected"));
    }
}
