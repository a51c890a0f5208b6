//! What the AWS Load Balancer Controller reports about a change of an Ingress: its events since then.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::Event;
use kube::ResourceExt;

use super::{brief, route::Acceptance};
use crate::api::{event, text::Text};

/// The reason of a successful reconciliation. The controller records it each time.
const SUCCESS: &str = "SuccessfullyReconciled";
/// The reasons of failed ones.
const FAILURES: [&str; 6] = [
    "FailedBuildModel",
    "FailedDeployModel",
    "FailedUpdateStatus",
    "FailedAddFinalizer",
    "FailedLoadGroupID",
    "ConflictingIngressClass",
];

/// The events before a change: their resource versions by name.
pub(super) type Baseline = BTreeMap<String, String>;

pub(super) fn baseline<'e>(events: impl IntoIterator<Item = &'e Event>) -> Baseline {
    events.into_iter().map(|event| (event.name_any(), version(event).to_owned())).collect()
}

/// What the latest event since `before` reports. An event whose count increased since then is one, too.
pub(super) fn acceptance(events: &[Arc<Event>], before: &Baseline) -> Acceptance {
    let is_new = |event: &&Arc<Event>| before.get(&event.name_any()).is_none_or(|old| old != version(event));
    let reason = |event: &Event| event.reason.text().to_owned();
    let of_controller = |event: &&Arc<Event>| {
        let reason = reason(event);
        reason == SUCCESS || FAILURES.contains(&reason.as_str())
    };
    let order = |event: &&Arc<Event>| (event::last_seen(event), version(event).parse::<u64>().ok());
    match events.iter().filter(is_new).filter(of_controller).max_by_key(order) {
        None => {
            let unknown =
                "the AWS Load Balancer Controller has not reported a reconciliation since the change";
            Acceptance::Unknown(unknown.to_owned())
        }
        Some(event) if reason(event) == SUCCESS => Acceptance::Accepted,
        Some(event) => Acceptance::Refused(format!("{}: {}", reason(event), brief(event.message.text()))),
    }
}

fn version(event: &Event) -> &str {
    event.metadata.resource_version.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(name: &str, reason: &str, second: u32, version: u32) -> Arc<Event> {
        let event = json!({
            "metadata": { "name": name, "resourceVersion": version.to_string() },
            "involvedObject": {}, "reason": reason, "message": format!("{reason} {name}"),
            "lastTimestamp": format!("2026-11-29T12:00:{second:02}Z"),
        });
        Arc::new(serde_json::from_value(event).unwrap())
    }

    #[test]
    fn only_the_latest_event_since_the_change_counts() {
        let success = event("a", "SuccessfullyReconciled", 1, 10);
        let before = baseline([&*success, &*event("b", "FailedBuildModel", 0, 9)]);
        let ask = |events: &[Arc<Event>]| match acceptance(events, &before) {
            Acceptance::Accepted => "accepted".to_owned(),
            Acceptance::Unknown(_) => "unknown".to_owned(),
            Acceptance::Refused(why) => why,
        };
        assert_eq!(ask(&[]), "unknown");
        assert_eq!(ask(std::slice::from_ref(&success)), "unknown", "it was there before");
        // The same event with a higher count.
        let again = event("a", "SuccessfullyReconciled", 20, 30);
        assert_eq!(ask(std::slice::from_ref(&again)), "accepted");
        let failed = event("c", "FailedDeployModel", 21, 31);
        assert_eq!(ask(&[again.clone(), failed.clone()]), "FailedDeployModel: FailedDeployModel c");
        assert_eq!(ask(&[event("a", "SuccessfullyReconciled", 22, 32), failed.clone()]), "accepted");
        // In the same second, the resource version decides.
        assert_eq!(ask(&[event("a", "SuccessfullyReconciled", 21, 100), failed]), "accepted");
        assert_eq!(ask(&[event("d", "CreateCertificate", 40, 40), success]), "unknown");
        let long = acceptance(
            &[Arc::new(Event { message: Some("x\n".repeat(9_000)), ..Event::clone(&again_failed()) })],
            &before,
        );
        let Acceptance::Refused(why) = long else { panic!("{long:?}") };
        assert!(why.len() < 600 && !why.contains('\n'), "{}", why.len());
    }

    fn again_failed() -> Arc<Event> {
        event("z", "FailedBuildModel", 50, 50)
    }
}
