//! Read target health and load balancers of Elastic Load Balancing.

use aws_sdk_elasticloadbalancingv2::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    types::{LoadBalancerStateEnum, TargetHealthDescription, TargetHealthStateEnum as State},
};
use bp_artifact::{
    aws::AwsError,
    check::{CheckResult, CheckVerdict},
    text,
};

/// The maximum number of characters quoted from a response.
const QUOTED: usize = 300;

/// The health of the targets in these target groups together: after a blue/green deployment one of them is empty.
pub(super) async fn health(client: &Client, groups: &[String]) -> CheckVerdict {
    let mut targets = Vec::new();
    for group in groups {
        let response = client.describe_target_health().target_group_arn(group).send().await;
        match response {
            Ok(response) => targets.extend(response.target_health_descriptions.unwrap_or_default()),
            Err(error) if error.code() == Some("TargetGroupNotFound") => {
                return CheckVerdict::failed(format!("target group {} does not exist", name(group)));
            }
            Err(error) => {
                return CheckVerdict::unobserved(why("elasticloadbalancing:DescribeTargetHealth", &error));
            }
        }
    }
    let names: Vec<&str> = groups.iter().map(|group| name(group)).collect();
    judge(&names.join(", "), &targets)
}

/// Targets that are being deregistered do not count. Those that are being registered, or without health checks, are
/// neither healthy nor unhealthy.
fn judge(group: &str, targets: &[TargetHealthDescription]) -> CheckVerdict {
    let state =
        |target: &&TargetHealthDescription| target.target_health().and_then(|health| health.state().cloned());
    let is_leaving = |target: &&TargetHealthDescription| {
        matches!(state(target), Some(State::Draining | State::UnhealthyDraining))
    };
    let counted: Vec<&TargetHealthDescription> =
        targets.iter().filter(|target| !is_leaving(target)).collect();
    let with = |wanted: &[State]| {
        counted.iter().filter(|target| state(target).is_some_and(|state| wanted.contains(&state))).count()
    };
    let healthy = with(&[State::Healthy]);
    let all = counted.len();
    if all > 0 && healthy == all {
        return CheckVerdict::Passed;
    }
    let reason = counted.iter().filter(|target| state(target) != Some(State::Healthy)).find_map(|target| {
        let health = target.target_health()?;
        let code = health.reason().map(|reason| reason.as_str()).or(health.state().map(State::as_str));
        let id = target.target().and_then(|target| target.id()).unwrap_or_default();
        Some(format!(": {id} {} {}", code.unwrap_or_default(), health.description().unwrap_or_default()))
    });
    let reason = text::single_line(&reason.unwrap_or_default());
    let found = format!(
        "{healthy} of {all} targets in {group} are healthy{}",
        text::truncate(reason.trim_end(), QUOTED)
    );
    match with(&[State::Unhealthy, State::Unused]) {
        0 if all > 0 => CheckVerdict::unobserved(found),
        0 => CheckVerdict::failed(format!("no target is registered in {group}")),
        _ => CheckVerdict::failed(found),
    }
}

/// The DNS name of the load balancer in front of these target groups, and whether it is active.
pub(super) async fn address(client: &Client, groups: &[String]) -> (CheckResult, String) {
    let call = client.describe_target_groups().set_target_group_arns(Some(groups.to_vec()));
    let found = match call.send().await {
        Ok(response) => response.target_groups.unwrap_or_default(),
        Err(error) if error.code() == Some("TargetGroupNotFound") => {
            return (CheckResult::Fail, "a target group does not exist".to_owned());
        }
        Err(error) => {
            return (CheckResult::Unknown, why("elasticloadbalancing:DescribeTargetGroups", &error));
        }
    };
    let mut balancers: Vec<String> =
        found.iter().flat_map(|group| group.load_balancer_arns()).cloned().collect();
    balancers.sort();
    balancers.dedup();
    if balancers.is_empty() {
        return (CheckResult::Fail, "no load balancer forwards to the target group".to_owned());
    }
    let call = client.describe_load_balancers().set_load_balancer_arns(Some(balancers));
    let found = match call.send().await {
        Ok(response) => response.load_balancers.unwrap_or_default(),
        Err(error) if error.code() == Some("LoadBalancerNotFound") => {
            return (CheckResult::Fail, "the load balancer does not exist".to_owned());
        }
        Err(error) => {
            return (CheckResult::Unknown, why("elasticloadbalancing:DescribeLoadBalancers", &error));
        }
    };
    let mut result = CheckResult::Pass;
    let mut shown = Vec::new();
    for balancer in &found {
        let name = balancer.dns_name().unwrap_or("no DNS name");
        let state = balancer.state().and_then(|state| state.code());
        let (of_one, suffix) = match state {
            Some(LoadBalancerStateEnum::Active) => (CheckResult::Pass, String::new()),
            Some(LoadBalancerStateEnum::Failed) => (CheckResult::Fail, " (failed)".to_owned()),
            Some(state) => (CheckResult::Unknown, format!(" ({})", state.as_str())),
            None => (CheckResult::Unknown, " (no state)".to_owned()),
        };
        result = result.and(of_one);
        shown.push(format!("{name}{suffix}"));
    }
    if shown.is_empty() {
        return (CheckResult::Unknown, "no load balancer was returned".to_owned());
    }
    (result, text::truncate(&text::single_line(&shown.join(", ")), QUOTED).into_owned())
}

/// The name of a target group.
fn name(arn: &str) -> &str {
    arn.split('/').nth(1).unwrap_or(arn)
}

fn why<E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static>(
    action: &str,
    error: &SdkError<E, aws_sdk_elasticloadbalancingv2::config::http::HttpResponse>,
) -> String {
    let error = text::single_line(&AwsError::of(error).to_string());
    format!("{action}: {}", text::truncate(&error, QUOTED))
}

#[cfg(test)]
mod tests {
    use aws_sdk_elasticloadbalancingv2::types::{TargetDescription, TargetHealth, TargetHealthReasonEnum};

    use super::*;

    fn targets(states: &[&str]) -> Vec<TargetHealthDescription> {
        let target = |state: &&str| {
            let health = TargetHealth::builder()
                .state(State::from(*state))
                .reason(TargetHealthReasonEnum::FailedHealthChecks)
                .description("Health checks failed\n::error::x")
                .build();
            let id = TargetDescription::builder().id("10.0.0.1").build();
            TargetHealthDescription::builder().target(id).target_health(health).build()
        };
        states.iter().map(target).collect()
    }

    #[test]
    fn healthy_and_unhealthy_are_known_and_everything_else_is_neither() {
        let ask = |states: &[&str]| judge("web", &targets(states));
        for healthy in [&["healthy"][..], &["healthy", "healthy", "draining"]] {
            assert_eq!(ask(healthy), CheckVerdict::Passed, "{healthy:?}");
        }
        for failed in
            [&["healthy", "unhealthy"][..], &["unused"], &[], &["draining"], &["initial", "unhealthy"]]
        {
            assert!(matches!(ask(failed), CheckVerdict::Failed { .. }), "{failed:?}");
        }
        for unknown in [&["initial"][..], &["healthy", "initial"], &["unavailable"], &["a-later-state"]] {
            assert!(matches!(ask(unknown), CheckVerdict::Unobserved { .. }), "{unknown:?}");
        }
        let CheckVerdict::Failed { reason } = ask(&["healthy", "unhealthy"]) else { panic!() };
        assert_eq!(
            reason,
            "1 of 2 targets in web are healthy: 10.0.0.1 Target.FailedHealthChecks Health checks failed ::error::x"
        );
    }

    #[test]
    fn a_target_group_has_the_name_in_its_arn() {
        let arn = "arn:aws:elasticloadbalancing:eu-central-1:111111111111:targetgroup/web/0123456789abcdef";
        assert_eq!((name(arn), name("web")), ("web", "web"));
    }
}
