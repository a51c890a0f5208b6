//! Why no new pod can be made, and whether the rollout itself or somebody else may change that.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use serde_json::Value;

use super::{
    causes::{self, Recovery, Symptom},
    judge::{Ours, Picture},
    live::Live,
    quota, refusals,
    text::Text,
    version::{self, Version},
};

impl Picture {
    /// Why no new pod can be made, while nothing else is under way that would change the picture.
    pub(super) fn blocked(&self, ours: &Ours) -> Option<Symptom> {
        let is_waiting = self.new_pods().iter().all(|pod| causes::is_ready(pod));
        is_waiting.then(|| self.refusal(Some(ours))).flatten()
    }

    /// Why the last new pod could not be made. A ReplicaSet says so in a condition; the other controllers only in an
    /// event. What was said before `ours` began was about something else.
    pub(super) fn refusal(&self, ours: Option<&Ours>) -> Option<Symptom> {
        let live = self.live.as_ref()?;
        let said = version::new(live, &self.versions).and_then(Version::refusal).map(str::to_owned);
        let message = said.or_else(|| self.refused_in_events(live, ours))?;
        let symptom = refusals::symptom(&message);
        if symptom.recovery == Recovery::Soon && self.may_be_freed(live, &message) {
            return Some(Symptom { recovery: Recovery::Retried, ..symptom });
        }
        Some(symptom)
    }

    fn refused_in_events(&self, live: &Live, ours: Option<&Ours>) -> Option<String> {
        let since = ours.and_then(|ours| ours.since);
        // Events stay for an hour: a pod that was made later shows that this one is over.
        let made = self.pods_of_template().filter_map(|pod| pod.metadata.creation_timestamp.as_ref());
        let made = made.map(|time| time.0).max();
        let holds = |event: &&Event| {
            let is_known = ours.is_some_and(|ours| {
                event.metadata.resource_version.as_ref().is_some_and(|version| ours.known.contains(version))
            });
            let at = at(event);
            let is_late = at.is_none_or(|at| since.is_none_or(|since| at >= since));
            !is_known && is_late && at.is_none_or(|at| made.is_none_or(|made| at > made))
        };
        let refused =
            self.warnings(&live.metadata().uid).filter(|event| event.reason.text() == "FailedCreate");
        refused.filter(holds).max_by_key(|event| at(event)).map(|event| event.message.text().to_owned())
    }

    /// Whether a quota that is used up may be freed without its being raised: by the rollout itself, by pods that are
    /// ending, or by others that use it.
    fn may_be_freed(&self, live: &Live, message: &str) -> bool {
        let counts = live.counts();
        let is_ending = self.pods.iter().any(|pod| pod.metadata.deletion_timestamp.is_some());
        let takes_away = live.is_deployment()
            && counts.total > counts.updated
            && takes_pods_away_first(live.spec(), counts.desired);
        is_ending || takes_away || live.is_job() || !quota::is_used_by(message, counts.total)
    }
}

fn at(event: &Event) -> Option<Timestamp> {
    // The newer kind of events has one time only.
    let last = event.last_timestamp.as_ref().map(|time| time.0);
    last.or_else(|| event.event_time.as_ref().map(|time| time.0))
}

/// Whether a Deployment takes old pods away before the new ones are ready. The other kinds replace a pod in its own
/// room, and take no second one away while that one is missing.
fn takes_pods_away_first(spec: &Value, desired: i32) -> bool {
    let strategy = &spec["strategy"];
    if strategy["type"] == "Recreate" {
        return true;
    }
    let bound = |field: &str, round: fn(f64) -> f64| match &strategy["rollingUpdate"][field] {
        Value::Number(number) => number.as_f64().unwrap_or_default(),
        value => {
            let percent = value.as_str().and_then(|text| text.trim_end_matches('%').parse().ok());
            round(f64::from(desired) * percent.unwrap_or(25.0) / 100.0)
        }
    };
    // Not both are zero: then the controller takes one pod away.
    bound("maxUnavailable", f64::floor) > 0.0 || bound("maxSurge", f64::ceil) <= 0.0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rolling_update_takes_pods_away_first_if_some_may_be_unavailable() {
        let rolling = |unavailable: Value, surge: Value| {
            json!({ "strategy": { "type": "RollingUpdate", "rollingUpdate": {
                "maxUnavailable": unavailable, "maxSurge": surge,
            } } })
        };
        for (spec, desired, expected) in [
            (json!({}), 3, false),
            (json!({}), 4, true),
            (rolling(json!(1), json!(0)), 3, true),
            (rolling(json!(0), json!(1)), 30, false),
            (rolling(json!("0%"), json!("0%")), 3, true),
            (rolling(json!("50%"), json!("25%")), 2, true),
            (rolling(json!("50%"), json!("25%")), 1, false),
            (json!({ "strategy": { "type": "Recreate" } }), 1, true),
        ] {
            assert_eq!(takes_pods_away_first(&spec, desired), expected, "{spec} {desired}");
        }
    }
}
