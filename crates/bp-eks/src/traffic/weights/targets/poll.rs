//! Poll the health of targets.

use std::time::Duration;

use aws_sdk_elasticloadbalancingv2::{
    Client,
    types::{TargetHealthDescription, TargetHealthStateEnum},
};
use bp_artifact::{
    aws::{AwsError, AwsErrorKind},
    config::TrafficObject,
    error::{Classified, chain},
    text,
    time::Wait,
};
use futures_util::{StreamExt, stream};

use super::{TargetHealth, TargetWatch};
use crate::{
    api::scope::Scope,
    traffic::{balancer, error::TrafficError, weights::WeightedPair},
};

/// The interval of polls; Elastic Load Balancing checks targets every 5 s at most.
const INTERVAL: Duration = Duration::from_secs(5);
/// The time limit of one poll.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest description of a target's state.
const LONGEST: usize = 300;

impl WeightedPair {
    pub(super) fn poll_targets(&self, client: Client, service: usize) -> TargetWatch {
        let (namespace, service) = (self.namespace.clone(), self.services[service].clone());
        let fail_after = self.options.fail_after.map_or(2, |pods| pods.get() as usize);
        let is_route = matches!(self.object, TrafficObject::HttpRoute(_));
        let unknown = TargetHealth::Unknown(format!("the targets of service/{service} are not known yet"));
        let polls = stream::unfold(true, move |is_first| {
            let (client, namespace, service) = (client.clone(), namespace.clone(), service.clone());
            async move {
                if !is_first {
                    let wait = Wait::new(TIMEOUT, INTERVAL).expect("neither is zero");
                    tokio::time::sleep(wait.pause()).await;
                }
                let read = tokio::time::timeout(TIMEOUT, read(&client, &namespace, &service));
                let health = match read.await {
                    Ok(Ok(Some(targets))) => judge(&service, &targets, fail_after),
                    // Only the controller of an Ingress is known to create one.
                    Ok(Ok(None)) if is_route => TargetHealth::NotRead,
                    Ok(Ok(None)) => {
                        TargetHealth::Unknown(format!("service/{service} has no TargetGroupBinding yet"))
                    }
                    Ok(Err((why, _))) => TargetHealth::Unknown(why),
                    Err(_) => TargetHealth::Unknown(format!(
                        "the targets of service/{service} were not reported in {TIMEOUT:?}"
                    )),
                };
                Some((health, false))
            }
        });
        (unknown, polls.boxed())
    }

    /// Fails when the targets must not be read.
    pub(super) async fn check_access(&self, client: &Client, service: usize) -> Result<(), TrafficError> {
        let service = &self.services[service];
        match tokio::time::timeout(TIMEOUT, read(client, &self.namespace, service)).await {
            Ok(Err((why, false))) => Err(TrafficError::NotReady {
                object: format!("service/{service}"),
                why: format!("{why}; grant it, or turn eks.traffic.target-health off"),
            }),
            Ok(Ok(_) | Err((_, true))) | Err(_) => Ok(()),
        }
    }
}

/// The targets in all target groups of a Service; `None` if it has no target group.
///
/// # Errors
/// Why they cannot be read, and whether that may change by itself.
async fn read(
    client: &Client,
    namespace: &Scope,
    service: &str,
) -> Result<Option<Vec<TargetHealthDescription>>, (String, bool)> {
    let groups = balancer::target_groups(namespace, service).await;
    let groups = groups.map_err(|error| (chain(&error), error.is_retryable()))?;
    if groups.is_empty() {
        return Ok(None);
    }
    let mut targets = Vec::new();
    for group in groups {
        let response = client.describe_target_health().target_group_arn(&group).send().await;
        let response = response.map_err(|error| {
            let error = AwsError::of(&error);
            let why = text::single_line(&error.to_string());
            let why = format!(
                "the health of the targets of service/{service} cannot be read (elasticloadbalancing:DescribeTargetHealth): \
                 {}",
                text::truncate(&why, LONGEST)
            );
            (why, error.kind() != AwsErrorKind::Denied)
        })?;
        targets.extend(response.target_health_descriptions.unwrap_or_default());
    }
    Ok(Some(targets))
}

/// Judges the targets of a Service; those that are being deregistered do not count.
fn judge(service: &str, targets: &[TargetHealthDescription], fail_after: usize) -> TargetHealth {
    let state =
        |target: &TargetHealthDescription| target.target_health().and_then(|health| health.state().cloned());
    let counted: Vec<_> =
        targets.iter().filter(|target| state(target) != Some(TargetHealthStateEnum::Draining)).collect();
    let with = |wanted: TargetHealthStateEnum| {
        counted.iter().filter(|target| state(target).as_ref() == Some(&wanted)).count()
    };
    let (healthy, unhealthy) = (with(TargetHealthStateEnum::Healthy), with(TargetHealthStateEnum::Unhealthy));
    let all = counted.len();
    if all > 0 && healthy == all {
        return TargetHealth::Healthy;
    }
    let reason = counted.iter().find_map(|target| {
        let health =
            target.target_health().filter(|_| state(target) != Some(TargetHealthStateEnum::Healthy))?;
        let code =
            health.reason().map(|reason| reason.as_str()).or(health.state().map(|state| state.as_str()));
        Some(format!(": {}: {}", code.unwrap_or_default(), health.description().unwrap_or_default()))
    });
    let reason = text::single_line(&reason.unwrap_or_default());
    let said = format!(
        "{healthy} of {all} targets of service/{service} are healthy{}",
        text::truncate(&reason, LONGEST)
    );
    if all > 0 && (unhealthy == all || unhealthy >= fail_after) {
        TargetHealth::Unhealthy(said)
    } else {
        TargetHealth::Waiting(said)
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_elasticloadbalancingv2::types::{TargetHealth as Reported, TargetHealthReasonEnum};

    use super::*;

    fn targets(states: &[&str]) -> Vec<TargetHealthDescription> {
        let target = |state: &&str| {
            let health = Reported::builder()
                .state(TargetHealthStateEnum::from(*state))
                .reason(TargetHealthReasonEnum::FailedHealthChecks)
                .description("Health checks failed with these codes: [502]")
                .build();
            TargetHealthDescription::builder().target_health(health).build()
        };
        states.iter().map(target).collect()
    }

    #[test]
    fn only_healthy_targets_are_healthy_and_unknown_is_neither() {
        let ask = |states: &[&str]| judge("web-green", &targets(states), 2);
        assert_eq!(ask(&["healthy", "healthy", "draining"]), TargetHealth::Healthy);
        for waiting in [
            &[][..],
            &["draining"],
            &["initial"],
            &["healthy", "initial"],
            &["healthy", "unused"],
            &["unavailable"],
            &["a-state-of-a-later-version"],
            &["healthy", "healthy", "unhealthy"],
        ] {
            assert!(matches!(ask(waiting), TargetHealth::Waiting(_)), "{waiting:?}");
        }
        for unhealthy in
            [&["unhealthy"][..], &["unhealthy", "draining"], &["healthy", "unhealthy", "unhealthy"]]
        {
            let TargetHealth::Unhealthy(why) = ask(unhealthy) else { panic!("{unhealthy:?}") };
            assert!(why.contains("Target.FailedHealthChecks: Health checks failed"), "{why}");
        }
        let nothing = TargetHealthDescription::builder().build();
        assert!(matches!(judge("web", &[nothing], 2), TargetHealth::Waiting(_)));
    }
}
