//! Whether the secrets exist to which the containers refer.

use bp_artifact::{
    check::{CheckKind, CheckResult, Verified},
    deploy::preflight::FindingState,
    error::{Classified, ErrorClass},
};
use bp_secrets::{CheckReport, Depth, Error, ErrorKind};

use super::row::failed;
use crate::{Delivery, Failure, secrets};

/// The number of secrets in a detail.
const LISTED: usize = 3;

/// One row for all secrets of the ECS service, down to the JSON key if `keys`: those that are wrong are listed.
pub(super) async fn of_ecs(id: &str, delivery: &Delivery, keys: bool) -> Vec<Verified> {
    let bindings = match secrets::of_service(delivery).await {
        Ok(bindings) => bindings,
        Err(failure) => return vec![failed(id, CheckKind::Secrets, &failure)],
    };
    if bindings.is_empty() {
        return Vec::new();
    }
    let depth = if keys { Depth::Keys } else { Depth::Describe };
    let report = secrets::checked(&bindings, &delivery.clients, depth).await;
    let names: Vec<&str> = bindings.iter().map(|binding| binding.name.as_str()).collect();
    let (result, detail) = judge(&names, &report, keys);
    vec![Verified::new(id, CheckKind::Secrets, result, detail)]
}

fn judge(names: &[&str], report: &CheckReport, keys: bool) -> (CheckResult, String) {
    let errors = |class: &dyn Fn(&Error) -> bool| {
        let wrong = names.iter().zip(&report.checked).filter_map(|(name, checked)| {
            let error = checked.error.as_ref().filter(|error| class(error))?;
            Some(format!("{name}: {error}"))
        });
        let wrong: Vec<String> = wrong.collect();
        let more = wrong.len().saturating_sub(LISTED);
        let more = if more == 0 { String::new() } else { format!("; and {more} more") };
        (!wrong.is_empty()).then(|| format!("{}{more}", wrong[..wrong.len().min(LISTED)].join("; ")))
    };
    let is_wrong = |error: &Error| {
        error.class() == ErrorClass::BadInput
            && !matches!(error.kind(), ErrorKind::Refused { .. } | ErrorKind::NoStore)
    };
    if let Some(wrong) = errors(&is_wrong) {
        return (CheckResult::Fail, wrong);
    }
    if let Some(unknown) = errors(&|_| true) {
        let denied = report.errors().any(|error| matches!(error.kind(), ErrorKind::Denied { .. }));
        let hint = if denied && keys { "; --skip secret-keys checks without reading values" } else { "" };
        return (CheckResult::Unknown, format!("{unknown}{hint}"));
    }
    let count = names.len();
    let word = if count == 1 { "secret exists" } else { "secrets exist" };
    let with_keys = report.checked.iter().filter(|checked| checked.reference.key().is_some()).count();
    let of_keys = match (with_keys, keys) {
        (0, _) => String::new(),
        (_, true) => format!(", {with_keys} with their JSON key"),
        (_, false) => ", JSON keys are not checked".to_owned(),
    };
    (CheckResult::Pass, format!("{count} {word}{of_keys}"))
}

/// One row for all Secrets and ConfigMaps of the workload.
pub(super) async fn of_eks(id: &str, delivery: &Delivery) -> Vec<Verified> {
    let findings = async {
        let target = delivery.eks_with(|options| options).await?;
        Ok::<_, Failure>(target.check_references().await?)
    };
    let findings = match findings.await {
        Ok(findings) => findings,
        Err(failure) => return vec![failed(id, CheckKind::Secrets, &failure)],
    };
    if findings.is_empty() {
        return Vec::new();
    }
    let wrong: Vec<String> =
        findings.iter().filter(|finding| finding.state.is_fatal()).map(ToString::to_string).collect();
    let unknown: Vec<String> = findings
        .iter()
        .filter(|finding| finding.state == FindingState::Unknown)
        .map(ToString::to_string)
        .collect();
    let (result, detail) = match (wrong.as_slice(), unknown.as_slice()) {
        ([], []) => (CheckResult::Pass, format!("{} references to Secrets and ConfigMaps", findings.len())),
        ([], unknown) => (CheckResult::Unknown, unknown.join("; ")),
        (wrong, _) => (CheckResult::Fail, wrong.join("; ")),
    };
    vec![Verified::new(id, CheckKind::Secrets, result, detail)]
}
