//! Preflight checks in IAM, Elastic Load Balancing and CloudWatch Logs, with the real SDKs.

mod common;

use aws_credential_types::Credentials;
use bp_ecs::{Finding, FindingState, Lookups};
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
