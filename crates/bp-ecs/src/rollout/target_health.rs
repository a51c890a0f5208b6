//! Health of the service's targets in failure reports, as Elastic Load Balancing reports it.

use std::{collections::BTreeSet, time::Duration};

use aws_sdk_ecs::types::Service;
use aws_sdk_elasticloadbalancingv2::{
    Client,
    types::{TargetHealthDescription, TargetHealthStateEnum as State},
};
use bp_artifact::{
    aws::AwsError,
    deploy::{Cause, Evidence, EvidenceKind, FailureReport},
    text,
};
use futures_util::future::join_all;

use super::ServiceRollout;

/// The maximum number of target groups in a report.
const MAX_GROUPS: usize = 4;
/// The maximum number of targets of a group in a report.
const MAX_TARGETS: usize = 5;
/// The longest description of a target's state.
const LONGEST: usize = 300;
/// The maximum time that a failure report waits for the health of targets.
const TIMEOUT: Duration = Duration::from_secs(5);

impl ServiceRollout {
    /// Adds the health of the targets to a failure that it may explain, if there is a client for it.
    pub(super) async fn add_target_health(&self, failure: &mut FailureReport, service: &Service) {
        let explains = matches!(failure.cause, Cause::LoadBalancerUnhealthy | Cause::NoProgress);
        let Some(client) = self.lookups.load_balancer_client().filter(|_| explains) else { return };
        let mut groups = target_groups(service);
        if let Some(group) = failure.object.as_deref().filter(|object| groups.contains(object)) {
            groups = BTreeSet::from([group]);
        }
        let read = groups.into_iter().take(MAX_GROUPS).map(|group| evidence(client, group));
        failure.evidence.extend(join_all(read).await);
    }
}

/// The ARNs of the target groups in which ECS registers the service's tasks.
fn target_groups(service: &Service) -> BTreeSet<&str> {
    let groups = service.load_balancers().iter().flat_map(|balancer| {
        let alternate = balancer.advanced_configuration.as_ref();
        let alternate = alternate.and_then(|advanced| advanced.alternate_target_group_arn.as_deref());
        [balancer.target_group_arn.as_deref(), alternate]
    });
    groups.flatten().collect()
}

async fn evidence(client: &Client, group: &str) -> Evidence {
    let call = client.describe_target_health().target_group_arn(group).send();
    let message = match tokio::time::timeout(TIMEOUT, call).await {
        Ok(Ok(response)) => summary(response.target_health_descriptions()),
        Ok(Err(error)) => {
            let error = text::single_line(&AwsError::of(&error).to_string());
            let error = text::truncate(&error, LONGEST);
            format!(
                "the health of its targets cannot be read (elasticloadbalancing:DescribeTargetHealth): {error}"
            )
        }
        Err(_) => format!("the health of its targets cannot be read within {} s", TIMEOUT.as_secs()),
    };
    Evidence::new(EvidenceKind::Deployment, message).source(format!("target group {group}"))
}

/// The number of healthy targets, and why others are not. Those that are being deregistered do not count.
fn summary(targets: &[TargetHealthDescription]) -> String {
    let state = |target: &TargetHealthDescription| target.target_health()?.state().cloned();
    let counted: Vec<_> = targets.iter().filter(|target| state(target) != Some(State::Draining)).collect();
    let other: Vec<_> = counted.iter().filter(|target| state(target) != Some(State::Healthy)).collect();
    let mut parts = vec![format!("{} of {} targets are healthy", counted.len() - other.len(), counted.len())];
    parts.extend(other.iter().take(MAX_TARGETS).map(|target| described(target)));
    if other.len() > MAX_TARGETS {
        parts.push(format!("{} more are not healthy", other.len() - MAX_TARGETS));
    }
    parts.join("; ")
}

/// `10.0.0.1:8080 is unhealthy: Target.ResponseCodeMismatch: Health checks failed with these codes: [502]`.
fn described(target: &TargetHealthDescription) -> String {
    let id = target.target().and_then(|target| target.id()).unwrap_or("a target");
    let port = target.target().and_then(|target| target.port());
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    let health = target.target_health();
    let state =
        health.and_then(|health| health.state()).map_or("in an unknown state", |state| state.as_str());
    let reason = health.and_then(|health| health.reason()).map(|reason| reason.as_str());
    let why: Vec<&str> = reason.into_iter().chain(health.and_then(|health| health.description())).collect();
    let described = [format!("{id}{port} is {state}")];
    let described: Vec<&str> = described.iter().map(String::as_str).chain(why).collect();
    text::truncate(&text::single_line(&described.join(": ")), LONGEST).into_owned()
}

#[cfg(test)]
mod tests {
    use aws_sdk_ecs::types::{AdvancedConfiguration, LoadBalancer};
    use aws_sdk_elasticloadbalancingv2::types::{TargetDescription, TargetHealth, TargetHealthReasonEnum};

    use super::*;

    fn target(number: u8, state: &str) -> TargetHealthDescription {
        let health = TargetHealth::builder().state(State::from(state));
        let health = match state {
            "unhealthy" => health
                .reason(TargetHealthReasonEnum::ResponseCodeMismatch)
                .description("Health checks failed with these codes: [502]\n\u{1b}[31m"),
            _ => health,
        };
        let target = TargetDescription::builder().id(format!("10.0.0.{number}")).port(8080).build();
        TargetHealthDescription::builder().target(target).target_health(health.build()).build()
    }

    #[test]
    fn states_why_targets_are_not_healthy() {
        let targets =
            [target(1, "healthy"), target(2, "draining"), target(3, "unhealthy"), target(4, "initial")];
        assert_eq!(
            summary(&targets),
            "1 of 3 targets are healthy; 10.0.0.3:8080 is unhealthy: Target.ResponseCodeMismatch: Health checks failed \
             with these codes: [502]; 10.0.0.4:8080 is initial"
        );
        let many: Vec<_> = (0..9).map(|number| target(number, "initial")).collect();
        assert!(summary(&many).ends_with("; 4 more are not healthy"), "{}", summary(&many));
        assert_eq!(summary(&[]), "0 of 0 targets are healthy");
        let nothing = TargetHealthDescription::builder().build();
        assert_eq!(summary(&[nothing]), "0 of 1 targets are healthy; a target is in an unknown state");
    }

    #[test]
    fn finds_the_target_groups_of_both_revisions() {
        let advanced = AdvancedConfiguration::builder().alternate_target_group_arn("green").build();
        let balancer =
            LoadBalancer::builder().target_group_arn("blue").advanced_configuration(advanced).build();
        let service = Service::builder()
            .load_balancers(balancer)
            .load_balancers(LoadBalancer::builder().target_group_arn("blue").build())
            .load_balancers(LoadBalancer::builder().load_balancer_name("classic").build())
            .build();
        assert_eq!(target_groups(&service), BTreeSet::from(["blue", "green"]));
    }
}
