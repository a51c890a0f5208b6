//! Load balancers and Ingresses by which a target is reached: their addresses, and the health of their targets.

use std::collections::BTreeSet;

use bp_artifact::check::{CheckKind, CheckResult, Verified};
use bp_eks::traffic::Exposure;

use super::{host::Host, row::failed, selection::Selection};
use crate::{Delivery, Failure};

#[cfg(not(feature = "preflight"))]
const NOT_COMPILED_IN: &str =
    "not checked: this build lacks the feature preflight, which the default build of bp (bp-cli) has";

/// The load balancers of the ECS service.
pub(super) async fn of_ecs(id: &str, delivery: &Delivery, selection: &Selection) -> Vec<Verified> {
    let kinds = [CheckKind::Targets, CheckKind::Address].map(|kind| selection.has(kind));
    if kinds == [false, false] {
        return Vec::new();
    }
    let groups = async { Ok::<_, Failure>(delivery.ecs_service()?.target_groups().await?) };
    match groups.await {
        Ok(groups) => {
            let mut rows = Vec::new();
            for of_balancer in groups {
                if selection.has(CheckKind::Targets) {
                    rows.push(health(id, delivery, &of_balancer).await);
                }
                if selection.has(CheckKind::Address) {
                    rows.push(address(id, delivery, &of_balancer).await);
                }
            }
            rows
        }
        Err(failure) => vec![failed(id, CheckKind::Targets, &failure)],
    }
}

/// Whether a check requires to know how pods are reached.
pub(super) fn is_selected(selection: &Selection) -> bool {
    use CheckKind::{Address, Dns, Targets, Tls};
    [Address, Targets, Dns, Tls].into_iter().any(|kind| selection.has(kind))
}

/// The Ingresses, Services and target groups of pods, and the hosts of the Ingresses.
pub(super) async fn of_eks(
    id: &str,
    delivery: &Delivery,
    pods: &BTreeSet<String>,
    selection: &Selection,
) -> (Vec<Verified>, Vec<Host>) {
    use CheckKind::{Address, Targets};
    if pods.is_empty() || !is_selected(selection) {
        return (Vec::new(), Vec::new());
    }
    let exposure = async { Ok::<_, Failure>(delivery.namespace().await?.exposure(pods).await?) };
    let exposure = match exposure.await {
        Ok(exposure) => exposure,
        Err(failure) => return (vec![failed(id, Address, &failure)], Vec::new()),
    };
    let mut rows = Vec::new();
    if selection.has(Address) {
        rows.extend(addresses(id, &exposure));
    }
    if selection.has(Targets) {
        for groups in exposure.target_groups.values() {
            rows.push(health(id, delivery, groups).await);
        }
    }
    let hosts = exposure
        .entries
        .iter()
        .flat_map(|entry| entry.hosts.iter().map(|host| Host::served(host, entry.https.contains(host))));
    (rows, hosts.collect())
}

fn addresses<'e>(id: &'e str, exposure: &'e Exposure) -> impl Iterator<Item = Verified> + 'e {
    exposure.entries.iter().map(move |entry| {
        let (result, detail) = match (entry.addresses.as_slice(), entry.reports_address) {
            ([], true) => (CheckResult::Fail, "its controller has reported no address".to_owned()),
            ([], false) => {
                let why = "no address is reported, which not every controller does";
                (CheckResult::Unknown, why.to_owned())
            }
            (addresses, _) => (CheckResult::Pass, addresses.join(", ")),
        };
        Verified::new(id, CheckKind::Address, result, format!("{}: {detail}", entry.object))
    })
}

/// The health of the targets in these target groups together.
async fn health(id: &str, delivery: &Delivery, groups: &[String]) -> Verified {
    #[cfg(feature = "preflight")]
    if let Some(client) = delivery.clients.load_balancers() {
        return Verified::of(id, CheckKind::Targets, &super::balancers::health(&client, groups).await);
    }
    Verified::new(id, CheckKind::Targets, CheckResult::Unknown, not_checked(delivery, groups))
}

/// The load balancer in front of these target groups.
async fn address(id: &str, delivery: &Delivery, groups: &[String]) -> Verified {
    #[cfg(feature = "preflight")]
    if let Some(client) = delivery.clients.load_balancers() {
        let (result, detail) = super::balancers::address(&client, groups).await;
        return Verified::new(id, CheckKind::Address, result, detail);
    }
    Verified::new(id, CheckKind::Address, CheckResult::Unknown, not_checked(delivery, groups))
}

#[cfg(feature = "preflight")]
fn not_checked(_: &Delivery, _: &[String]) -> String {
    "not checked, because a kubeconfig replaces EKS".to_owned()
}

#[cfg(not(feature = "preflight"))]
fn not_checked(_: &Delivery, _: &[String]) -> String {
    NOT_COMPILED_IN.to_owned()
}
