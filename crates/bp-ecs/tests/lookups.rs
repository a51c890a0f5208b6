//! Preflight checks in IAM, Elastic Load Balancing and CloudWatch Logs, and the health of targets in failure reports, with
//! the real SDKs.

mod common;

use std::time::Duration;

use aws_credential_types::Credentials;
use bp_artifact::deploy::{Cause, FailureReport};
use bp_ecs::{Finding, FindingState, Lookups, Options};
use bp_sandbox::Behaviour;
use common::{ACCOUNT, REGION, Shop};
use serde_json::json;

macro_rules! client {
    ($sdk:ident, $shop:expr) => {
        $sdk::Client::from_conf(
            $sdk::Config::builder()
                .behavior_version($sdk::config::BehaviorVersion::latest())
                .region($sdk::config::Region::new(REGION))
                .credentials_provider(Credentials::for_tests())
                .retry_config($sdk::config::retry::RetryConfig::disabled())
                .http_client($shop.sandbox.http_client())
                .build(),
        )
    };
}

const GROUP: &str = "arn:aws:elasticloadbalancing:eu-central-1:111111111111:targetgroup/web/0123456789abcdef";

/// The findings about a service that requires a role, a log group and a target group.
async fn findings(prepare: impl FnOnce(&Shop)) -> Vec<Finding> {
    let shop = Shop::new();
    let image = shop.image("1");
    let mut definition = common::definition(&image);
    definition["containerDefinitions"][0]["logConfiguration"] = json!({ "logDriver": "awslogs", "options": { "awslogs-group": "/shop/web", "awslogs-region": REGION } });
    let balancers = json!([{ "targetGroupArn": GROUP, "containerName": "web", "containerPort": 8080 }]);
    shop.ecs.new_service("shop", "web").task_definition(definition).with("loadBalancers", balancers).create();
    prepare(&shop);
    let lookups = Lookups::default()
        .iam(client!(aws_sdk_iam, shop))
        .load_balancers(client!(aws_sdk_elasticloadbalancingv2, shop))
        .logs(client!(aws_sdk_cloudwatchlogs, shop));
    shop.target().preflight(&image, &lookups).await.unwrap().findings
}

fn states(findings: &[Finding]) -> Vec<(String, FindingState, String)> {
    let kinds = ["role", "log group", "target group"];
    let known = findings.iter().filter(|f| kinds.iter().any(|kind| f.subject.starts_with(kind)));
    let kind = |f: &Finding| f.subject.split([' ', '/']).next().unwrap_or_default().to_owned();
    known.map(|f| (kind(f), f.state, f.message.clone())).collect()
}

#[tokio::test(start_paused = true)]
async fn finds_role_log_group_and_target_group() {
    let found = findings(|shop| {
        let aws = shop.sandbox.aws();
        aws.role(ACCOUNT, "web", "ecs-tasks.amazonaws.com");
        aws.log_group(ACCOUNT, REGION, "/shop/web");
        aws.target_group(GROUP, "ip", true);
    })
    .await;
    let states = states(&found);
    assert_eq!(states.len(), 3, "{found:?}");
    assert!(states.iter().all(|(_, state, _)| *state == FindingState::Present), "{found:?}");
}

#[tokio::test(start_paused = true)]
async fn reports_missing_role_log_group_and_target_group() {
    let found = findings(|shop| shop.sandbox.aws().log_group(ACCOUNT, REGION, "/shop/web-admin")).await;
    let states = states(&found);
    let kinds: Vec<&str> = states.iter().map(|(kind, ..)| kind.as_str()).collect();
    assert_eq!(kinds, ["role", "log", "target"]);
    for (_, state, message) in &states {
        assert!(*state == FindingState::Missing && message.starts_with("does not exist; "), "{found:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn reports_an_unsuitable_role_or_target_group() {
    let role = findings(|shop| shop.sandbox.aws().role(ACCOUNT, "web", "lambda.amazonaws.com")).await;
    assert!(states(&role)[0].2.contains("does not allow ecs-tasks.amazonaws.com"), "{role:?}");
    let kind = findings(|shop| shop.sandbox.aws().target_group(GROUP, "instance", true)).await;
    assert!(
        states(&kind)[2].2.contains("target type instance, but tasks of this network mode require ip"),
        "{kind:?}"
    );
    let alone = findings(|shop| shop.sandbox.aws().target_group(GROUP, "ip", false)).await;
    assert!(states(&alone)[2].2.contains("no load balancer"), "{alone:?}");
}

#[tokio::test(start_paused = true)]
async fn a_denied_lookup_is_unknown_and_not_an_error() {
    let found = findings(|shop| {
        for action in ["iam:GetRole", "logs:DescribeLogGroups", "elasticloadbalancing:DescribeTargetGroups"] {
            shop.sandbox.aws().deny(action);
        }
    })
    .await;
    let states = states(&found);
    assert!(
        states
            .iter()
            .all(|(_, state, message)| *state == FindingState::Unknown && message.contains("AccessDenied")),
        "{found:?}"
    );
}

/// Deploys an image that does not become healthy behind a load balancer.
async fn fails(image: Behaviour, options: Options, prepare: impl FnOnce(&Shop)) -> FailureReport {
    let shop = Shop::new();
    let mut unchecked = common::definition(&shop.image("1"));
    if matches!(image, Behaviour::Unhealthy(_)) {
        unchecked["containerDefinitions"][0].as_object_mut().unwrap().remove("healthCheck");
    }
    let balancers = json!([{ "targetGroupArn": GROUP, "containerName": "web", "containerPort": 8080 }]);
    shop.ecs.new_service("shop", "web").task_definition(unchecked).with("loadBalancers", balancers).create();
    shop.sandbox.aws().targets(
        GROUP,
        &[
            ("10.0.0.1", "healthy"),
            ("10.0.0.2", "unhealthy"),
            ("10.0.0.3", "draining"),
            ("10.0.0.4", "initial"),
        ],
    );
    prepare(&shop);
    let lookups = Lookups::default().load_balancers(client!(aws_sdk_elasticloadbalancingv2, shop));
    let target = shop.target_with(options).lookups(lookups);
    target.deploy(&shop.image_that("ill", image)).await.unwrap().failure.unwrap()
}

/// The evidence about the target group.
fn targets(report: &FailureReport) -> Vec<&str> {
    let source = format!("target group {GROUP}");
    let about = report.evidence.iter().filter(|evidence| evidence.source == source);
    about.map(|evidence| evidence.message.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_failure_report_states_which_targets_are_not_healthy() {
    let unhealthy = || Behaviour::Unhealthy("503".into());
    let report = fails(unhealthy(), common::options(), |_| {}).await;
    assert_eq!(report.cause, Cause::LoadBalancerUnhealthy);
    assert_eq!(
        targets(&report),
        [
            "1 of 3 targets are healthy; 10.0.0.2:8080 is unhealthy: Target.FailedHealthChecks: Health checks failed; \
             10.0.0.4:8080 is initial: Elb.RegistrationInProgress: Target registration is in progress"
        ]
    );

    // Tasks that do not become healthy until the deadline, which nobody stops.
    let slow = Behaviour::Healthy(Duration::from_secs(7200));
    let report = fails(slow, Options::new(Duration::from_secs(60)).unwrap(), |_| {}).await;
    assert_eq!((report.cause, targets(&report).len()), (Cause::NoProgress, 1), "{report:#?}");

    // A failure of another kind.
    let crash = Behaviour::Exits { after: Duration::from_secs(1), code: 3, log: vec![] };
    let report = fails(crash, common::options(), |_| {}).await;
    assert_eq!((report.cause, targets(&report).len()), (Cause::ContainerExited, 0), "{report:#?}");

    let denied = fails(unhealthy(), common::options(), |shop| {
        shop.sandbox.aws().deny("elasticloadbalancing:DescribeTargetHealth");
    });
    let report = denied.await;
    assert!(
        targets(&report)[0].contains("(elasticloadbalancing:DescribeTargetHealth): AccessDenied"),
        "{report:#?}"
    );
}
