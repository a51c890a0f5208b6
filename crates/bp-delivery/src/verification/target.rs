//! Rollout, digest and definition of a target, from its drift.

use std::collections::BTreeSet;

use bp_artifact::{
    ResolvedImage, Verdict,
    check::{CheckKind, CheckResult, Verified},
    config::{DeployPlatform, EksObject},
    deploy::{Change, Drift, Target},
};

use super::{
    address,
    host::Host,
    row::{failed, limited},
    secrets,
    selection::Selection,
};
use crate::{Delivery, Failure};

/// The number of differences in a detail.
const CHANGES: usize = 3;

/// The rows of the ECS service.
pub(super) async fn ecs(
    delivery: &Delivery,
    image: Option<&ResolvedImage>,
    selection: &Selection,
) -> Vec<Verified> {
    let id = name(delivery, DeployPlatform::Ecs);
    let mut rows = Vec::new();
    if let Some(image) = image.filter(|_| compares(selection)) {
        let (found, _) = drift(&id, async || delivery.ecs().await, image, selection).await;
        rows.extend(found);
    }
    if selection.has(CheckKind::Secrets) {
        let keys = selection.has(CheckKind::SecretKeys);
        rows.extend(limited(&id, CheckKind::Secrets, secrets::of_ecs(&id, delivery, keys)).await);
    }
    rows.extend(limited(&id, CheckKind::Targets, address::of_ecs(&id, delivery, selection)).await);
    rows
}

/// The rows of the workload, release or manifests on EKS, and the hosts of their Ingresses.
pub(super) async fn eks(
    delivery: &Delivery,
    image: Option<&ResolvedImage>,
    selection: &Selection,
) -> (Vec<Verified>, Vec<Host>) {
    let id = name(delivery, DeployPlatform::Eks);
    let mut rows = Vec::new();
    let mut pods = BTreeSet::new();
    let mut proof = None;
    if let Some(image) = image.filter(|_| compares(selection)) {
        let (found, drift) = drift(&id, async || delivery.eks().await, image, selection).await;
        rows.extend(found);
        proof = drift.map(|drift| drift.proof);
    } else if address::is_selected(selection) {
        let read = async {
            match async { Ok::<_, Failure>(delivery.eks().await?.prove().await?) }.await {
                Ok(found) => {
                    proof = Some(found);
                    Vec::new()
                }
                Err(failure) => vec![failed(&id, CheckKind::Address, &failure)],
            }
        };
        rows.extend(limited(&id, CheckKind::Address, read).await);
    }
    let units = proof.into_iter().flat_map(|proof| proof.observations);
    pods.extend(units.filter_map(|seen| seen.unit.strip_prefix("pod/").map(str::to_owned)));
    let is_workload = delivery.service.eks().is_ok_and(|eks| matches!(eks.object, EksObject::Workload(_)));
    if selection.has(CheckKind::Secrets) && is_workload {
        rows.extend(limited(&id, CheckKind::Secrets, secrets::of_eks(&id, delivery)).await);
    }
    let mut hosts = Vec::new();
    let reached = async {
        let (found, of_pods) = address::of_eks(&id, delivery, &pods, selection).await;
        hosts = of_pods;
        found
    };
    rows.extend(limited(&id, CheckKind::Address, reached).await);
    (rows, hosts)
}

/// Whether the drift of targets is required.
fn compares(selection: &Selection) -> bool {
    use CheckKind::{Definition, Digest, Rollout};
    [Rollout, Digest, Definition].into_iter().any(|kind| selection.has(kind))
}

/// The rows of a target's drift. `id` is its name if it cannot be opened.
async fn drift<T: AsTarget>(
    id: &str,
    open: impl AsyncFnOnce() -> Result<T, Failure>,
    image: &ResolvedImage,
    selection: &Selection,
) -> (Vec<Verified>, Option<Drift>) {
    let mut found = None;
    let read = async {
        let drift = async {
            let target = open().await?;
            Ok::<_, Failure>(target.as_target().drift(image).await?)
        };
        match drift.await {
            Ok(drift) => {
                let rows = rows(&drift);
                found = Some(drift);
                rows
            }
            Err(failure) => vec![failed(id, CheckKind::Rollout, &failure)],
        }
    };
    let mut rows = limited(id, CheckKind::Rollout, read).await;
    // That a target could not be read concerns all of its checks.
    rows.retain(|row| found.is_none() || selection.has(row.check));
    (rows, found)
}

/// The name of the target on a platform that the service has.
fn name(delivery: &Delivery, platform: DeployPlatform) -> String {
    let mut names = delivery.target_names().into_iter();
    names.find(|(of, _)| *of == platform).map(|(_, name)| name).unwrap_or_default()
}

/// A target of ECS, or one of the kinds of targets on EKS.
pub(super) trait AsTarget {
    fn as_target(&self) -> &dyn Target;
}

impl AsTarget for bp_ecs::EcsTarget {
    fn as_target(&self) -> &dyn Target {
        self
    }
}

impl AsTarget for std::sync::Arc<dyn Target> {
    fn as_target(&self) -> &dyn Target {
        &**self
    }
}

/// The three rows of a drift.
fn rows(drift: &Drift) -> Vec<Verified> {
    let of_changes = |kind, changes: &[Change], passed: String| {
        let result = if changes.is_empty() { CheckResult::Pass } else { CheckResult::Fail };
        let detail = if changes.is_empty() { passed } else { summary(changes) };
        Verified::new(&drift.target, kind, result, detail).changes(changes.to_vec())
    };
    vec![
        of_changes(CheckKind::Rollout, &drift.service, drift.notes.join("; ")),
        digest(drift),
        of_changes(CheckKind::Definition, &drift.definition, String::new()),
    ]
}

fn digest(drift: &Drift) -> Verified {
    let observations = &drift.proof.observations;
    let units: BTreeSet<&str> = observations.iter().map(|seen| seen.unit.as_str()).collect();
    let wanted = drift.image.digest();
    let reported: BTreeSet<&str> =
        observations.iter().filter_map(|seen| seen.digest.as_ref().map(|digest| digest.as_str())).collect();
    let (result, detail) = match drift.verdict {
        Verdict::Deployed => (CheckResult::Pass, format!("{} run {}", count(units.len()), wanted.as_str())),
        Verdict::Unproven if observations.is_empty() => {
            (CheckResult::Unknown, "nothing runs that could report its digest".to_owned())
        }
        Verdict::Unproven => {
            let found = reported.iter().next().copied().unwrap_or("no digest");
            let why = format!("{} report {found}, which may be a platform of {wanted}", count(units.len()));
            (CheckResult::Unknown, why)
        }
        Verdict::DigestMismatch
        | Verdict::RolledBack
        | Verdict::RollbackFailed
        | Verdict::FailedInPlace
        | Verdict::Stopped
        | Verdict::Superseded
        | Verdict::Gone
        | Verdict::AwaitingApproval
        | Verdict::DeadlineExceeded
        | Verdict::Unobserved => {
            let found: Vec<&str> = reported.into_iter().take(CHANGES).collect();
            (CheckResult::Fail, format!("{} run {}, not {wanted}", count(units.len()), found.join(", ")))
        }
    };
    Verified::new(&drift.target, CheckKind::Digest, result, detail)
}

fn count(units: usize) -> String {
    if units == 1 { "1 task or pod".to_owned() } else { format!("{units} tasks or pods") }
}

/// The first differences.
fn summary(changes: &[Change]) -> String {
    let shown: Vec<String> = changes.iter().take(CHANGES).map(ToString::to_string).collect();
    let more = changes.len().saturating_sub(CHANGES);
    let more = if more == 0 { String::new() } else { format!("; and {more} more") };
    format!("{}{more}", shown.join("; "))
}

#[cfg(test)]
mod tests {
    use bp_artifact::{
        Digest, Repository,
        deploy::{Observation, Proof, TargetId},
    };

    use super::*;

    fn drift(running: Option<&str>) -> Drift {
        let repository: Repository = "r.example.com/web".parse().unwrap();
        let image = ResolvedImage::from(repository.at(Digest::sha256("web")));
        let seen = running.map(|running| Observation::new("task/1", "web", Some(Digest::sha256(running))));
        Drift::of_proof(TargetId::new("ecs/shop/web"), &image, Proof::of(seen))
    }

    fn results(drift: &Drift) -> Vec<(CheckKind, CheckResult)> {
        rows(drift).iter().map(|row| (row.check, row.result)).collect()
    }

    #[test]
    fn each_part_of_a_drift_is_a_row() {
        use CheckKind::{Definition, Digest, Rollout};
        use CheckResult::{Fail, Pass, Unknown};
        let good = drift(Some("web"));
        assert_eq!(results(&good), [(Rollout, Pass), (Digest, Pass), (Definition, Pass)]);
        let mut other = drift(Some("web"));
        for n in 0..5 {
            other.definition.push(Change::new(format!("field{n}"), None, Some("x\n::error::y".into())));
        }
        other.service.push(Change::new("runningCount", Some("2".into()), Some("1".into())));
        assert_eq!(results(&other), [(Rollout, Fail), (Digest, Pass), (Definition, Fail)]);
        let definition = &rows(&other)[2];
        assert!(
            definition.detail.ends_with("; and 2 more") && !definition.detail.contains('\n'),
            "{definition:?}"
        );
        assert_eq!(definition.changes.len(), 5);
        // Another digest of an image whose platforms are unknown, and nothing that runs.
        assert_eq!(results(&drift(Some("other")))[1], (Digest, Unknown));
        assert_eq!(results(&drift(None))[1], (Digest, Unknown));
        let mismatch = Drift { verdict: Verdict::DigestMismatch, ..drift(Some("other")) };
        assert_eq!(results(&mismatch)[1], (Digest, Fail));
    }
}
