//! Scheduled tasks (EventBridge rules, EventBridge Scheduler) that move with a deployment, and back.

mod common;

use std::{sync::Arc, time::Duration};

use aws_credential_types::Credentials;
use bp_artifact::{
    Outcome, ResolvedImage, Verdict,
    deploy::{Cause, DeployEvent, OnFailure, Receipt, Target, preflight::FindingState},
    error::{Classified, ErrorClass},
    saga::Saga,
};
use bp_ecs::{EcsTarget, Error, Lookups, Options, Schedules, aws_sdk_eventbridge, aws_sdk_scheduler};
use bp_sandbox::{Effect, Fault};
use common::{ACCOUNT, REGION, Shop, definition, exits, options, run, until_applied};
use serde_json::{Value, json};

const CLUSTER: &str = "arn:aws:ecs:eu-central-1:111111111111:cluster/shop";
const PASS_ROLE: &str = "iam:PassRole";

fn revision(name: &str) -> String {
    format!("arn:aws:ecs:eu-central-1:111111111111:task-definition/{name}")
}

/// The parameters of a task with a member that no SDK has.
fn parameters(definition: &str) -> Value {
    json!({
        "TaskDefinitionArn": revision(definition), "TaskCount": 2, "LaunchType": "FARGATE", "PlatformVersion": "1.4.0",
        "NetworkConfiguration": { "awsvpcConfiguration": { "Subnets": ["subnet-1"], "AssignPublicIp": "DISABLED" } },
        "PropagateTags": "TASK_DEFINITION", "Group": "batch", "FutureMember": { "kept": [true] },
    })
}

fn target(id: &str, definition: &str) -> Value {
    json!({
        "Id": id, "Arn": CLUSTER, "RoleArn": "arn:aws:iam::111111111111:role/events",
        "Input": "{\"containerOverrides\":[{\"name\":\"web\",\"command\":[\"./report\"]}]}",
        "RetryPolicy": { "MaximumRetryAttempts": 3 }, "EcsParameters": parameters(definition),
    })
}

fn schedule(definition: &str) -> Value {
    json!({
        "ScheduleExpression": "cron(0 3 * * ? *)", "ScheduleExpressionTimezone": "Europe/Berlin",
        "FlexibleTimeWindow": { "Mode": "FLEXIBLE", "MaximumWindowInMinutes": 10 }, "State": "DISABLED",
        "Description": "", "ActionAfterCompletion": "NONE", "EndDate": 4_000_000_000u64,
        "KmsKeyArn": "arn:aws:kms:eu-central-1:111111111111:key/1",
        "Target": {
            "Arn": CLUSTER, "RoleArn": "arn:aws:iam::111111111111:role/scheduler", "Input": "{}",
            "DeadLetterConfig": { "Arn": "arn:aws:sqs:eu-central-1:111111111111:dead" },
            "RetryPolicy": { "MaximumEventAgeInSeconds": 60, "MaximumRetryAttempts": 0 },
            "EcsParameters": parameters(definition),
        },
    })
}

/// The service `web` of version 1, with a cron rule, a rule with an event pattern on another bus, and a disabled
/// schedule; and the same for other families, clusters and services.
struct Scheduled {
    shop: Shop,
    image: ResolvedImage,
}

const RULE: &str = "rule/default/nightly/report";
const PATTERN: &str = "rule/orders/paid/invoice";
const SCHEDULE: &str = "schedule/reports/hourly";

impl Scheduled {
    fn new() -> Scheduled {
        let shop = Shop::new();
        shop.web(&shop.image("1")).create();
        let image = shop.image("2");
        let scheduled = Scheduled { shop, image };
        scheduled
            .aws()
            .rule(
                "default",
                "nightly",
                json!({ "ScheduleExpression": "cron(0 2 * * ? *)", "State": "DISABLED" }),
            )
            .target("default", "nightly", target("report", "web:1"))
            .target("default", "nightly", target("other-family", "web-admin:7"))
            .target("default", "nightly", json!({ "Id": "queue", "Arn": "arn:aws:sqs:eu-central-1:1:q" }))
            .rule("orders", "paid", json!({ "EventPattern": "{}" }))
            .target("orders", "paid", target("invoice", "web:1"))
            .schedule("reports", "hourly", schedule("web:1"))
            .schedule("reports", "other-family", schedule("web-admin:7"))
            .schedule("reports", "other-cluster", {
                let mut other = schedule("web:1");
                other["Target"]["Arn"] = json!(format!("{CLUSTER}-2"));
                other
            });
        scheduled
    }

    fn aws(&self) -> bp_sandbox::aws::Schedules<'_> {
        self.shop.sandbox.aws().schedules(ACCOUNT, REGION)
    }

    fn clients(&self) -> Schedules {
        let http = || self.shop.sandbox.http_client();
        let events = aws_sdk_eventbridge::Config::builder()
            .behavior_version(aws_sdk_eventbridge::config::BehaviorVersion::latest())
            .region(aws_sdk_eventbridge::config::Region::new(REGION))
            .credentials_provider(Credentials::for_tests())
            .retry_config(aws_sdk_eventbridge::config::retry::RetryConfig::disabled())
            .http_client(http())
            .build();
        let scheduler = aws_sdk_scheduler::Config::builder()
            .behavior_version(aws_sdk_scheduler::config::BehaviorVersion::latest())
            .region(aws_sdk_scheduler::config::Region::new(REGION))
            .credentials_provider(Credentials::for_tests())
            .retry_config(aws_sdk_scheduler::config::retry::RetryConfig::disabled())
            .http_client(http())
            .build();
        Schedules::new(
            aws_sdk_eventbridge::Client::from_conf(events),
            aws_sdk_scheduler::Client::from_conf(scheduler),
        )
    }

    fn target_with(&self, options: Options) -> EcsTarget {
        self.shop.target_with(options).schedules(self.clients())
    }

    fn target(&self) -> EcsTarget {
        self.target_with(options())
    }

    async fn deploy(&self, options: Options) -> (Vec<DeployEvent>, Outcome) {
        let (events, outcome) = run(self.target_with(options).deploy(&self.image)).await;
        (events, outcome.unwrap())
    }

    fn rule_target(&self, bus: &str, rule: &str, id: &str) -> Value {
        self.aws().targets(bus, rule).into_iter().find(|target| target["Id"] == id).unwrap()
    }

    /// The definitions of the three that belong to the service.
    fn definitions(&self) -> [String; 3] {
        let short = |parameters: &Value| {
            let arn = parameters["EcsParameters"]["TaskDefinitionArn"].as_str().unwrap();
            arn.rsplit('/').next().unwrap().to_owned()
        };
        [
            short(&self.rule_target("default", "nightly", "report")),
            short(&self.rule_target("orders", "paid", "invoice")),
            short(&self.aws().get("reports", "hourly").unwrap()["Target"]),
        ]
    }

    /// Everything that the APIs show, except when it was changed.
    fn state(&self) -> Value {
        let mut schedules: Vec<Value> = ["hourly", "other-family", "other-cluster"]
            .iter()
            .filter_map(|name| self.aws().get("reports", name))
            .collect();
        for schedule in &mut schedules {
            schedule.as_object_mut().unwrap().remove("LastModificationDate");
        }
        json!([self.aws().targets("default", "nightly"), self.aws().targets("orders", "paid"), schedules])
    }
}

fn recorded(revision: &bp_artifact::deploy::Revision) -> Vec<(&str, &str)> {
    revision.schedules.iter().map(|task| (task.schedule.as_str(), task.short_definition())).collect()
}

fn texts(events: &[DeployEvent]) -> String {
    events.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[tokio::test(start_paused = true)]
async fn moves_rules_and_schedules_to_the_deployed_revision_and_keeps_every_other_member() {
    let scheduled = Scheduled::new();
    let before = scheduled.state();
    let (events, outcome) = scheduled.deploy(options()).await;
    assert_eq!(outcome.verdict(), Verdict::Deployed, "{outcome:#?}");
    let mut expected = before;
    for pointer in ["/0/0/EcsParameters", "/1/0/EcsParameters", "/2/0/Target/EcsParameters"] {
        expected.pointer_mut(pointer).unwrap()["TaskDefinitionArn"] = json!(revision("web:2"));
    }
    assert_eq!(scheduled.state(), expected);
    let previous = outcome.previous.as_ref().unwrap();
    assert_eq!(recorded(previous), [(RULE, "web:1"), (PATTERN, "web:1"), (SCHEDULE, "web:1")]);
    let now = outcome.revision.as_ref().unwrap();
    assert_eq!(recorded(now), [(RULE, "web:2"), (PATTERN, "web:2"), (SCHEDULE, "web:2")]);
    let text = texts(&events);
    for schedule in [RULE, PATTERN, SCHEDULE] {
        assert!(text.contains(&format!("scheduled task {schedule}: web:1 -> web:2")), "{text}");
    }
    assert!(!text.contains("differs in"), "{text}");
    assert_eq!(events.iter().filter(|e| matches!(e, DeployEvent::Planned { .. })).count(), 1);
    assert_eq!(events.iter().filter(|e| matches!(e, DeployEvent::Finished { .. })).count(), 1);

    // Nothing is left to do.
    scheduled.shop.drained().await;
    let writes = |shop: &Shop| shop.calls("events:PutTargets") + shop.calls("scheduler:UpdateSchedule");
    assert_eq!(writes(&scheduled.shop), 3);
    let (_, outcome) = scheduled.deploy(options()).await;
    assert_eq!((outcome.verdict(), outcome.changed), (Verdict::Deployed, false));
    assert_eq!(writes(&scheduled.shop), 3);
}

#[tokio::test(start_paused = true)]
async fn a_rerun_moves_what_a_killed_run_left_behind() {
    let scheduled = Scheduled::new();
    assert_eq!(scheduled.shop.target().deploy(&scheduled.image).await.unwrap().verdict(), Verdict::Deployed);
    assert_eq!(scheduled.definitions(), ["web:1", "web:1", "web:1"]);
    scheduled.aws().target("default", "nightly", target("report", "web:2"));
    scheduled.shop.drained().await;
    let (_, outcome) = scheduled.deploy(options()).await;
    assert_eq!((outcome.verdict(), outcome.changed), (Verdict::Deployed, true));
    assert_eq!(scheduled.definitions(), ["web:2", "web:2", "web:2"]);
    assert_eq!(scheduled.shop.calls("events:PutTargets"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failed_deployment_changes_no_schedule() {
    let scheduled = Scheduled::new();
    let before = scheduled.state();
    scheduled.shop.sandbox.script(scheduled.image.reference.digest().as_str(), exits(1, 1));
    let (events, outcome) = scheduled.deploy(options()).await;
    assert_eq!(outcome.verdict(), Verdict::RolledBack);
    assert_eq!(scheduled.state(), before);
    assert!(texts(&events).contains("the scheduled tasks were not changed"), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn a_schedule_that_cannot_be_changed_follows_the_policy_for_failures() {
    for (policy, verdict, definitions, service) in [
        (OnFailure::RollBack, Verdict::RolledBack, ["web:1", "web:1", "web:1"], "web:1"),
        (OnFailure::Leave, Verdict::FailedInPlace, ["web:2", "web:2", "web:1"], "web:2"),
    ] {
        let scheduled = Scheduled::new();
        let denied = "User: arn:aws:iam::111111111111:user/ci is not authorized to perform: iam:PassRole on resource: \
                      arn:aws:iam::111111111111:role/scheduler because no identity-based policy allows the iam:PassRole \
                      action";
        let body = json!({ "__type": "AccessDeniedException", "message": denied }).to_string();
        let headers = vec![("x-amzn-errortype".to_owned(), "AccessDeniedException".to_owned())];
        let fault = Fault::new(Effect::Answer { status: 403, headers, body });
        scheduled.shop.inject(fault.at("aws").on("scheduler:UpdateSchedule").times(u32::MAX));
        let before = scheduled.state();
        let (_, outcome) = scheduled.deploy(options().on_failure(policy)).await;
        assert_eq!(outcome.verdict(), verdict, "{outcome:#?}");
        assert_eq!(scheduled.definitions(), definitions);
        assert!(scheduled.shop.service().definition().ends_with(service));
        for part in [SCHEDULE, "web:2", PASS_ROLE] {
            assert!(outcome.detail.contains(part), "{part}: {}", outcome.detail);
        }
        assert_eq!(outcome.failure.as_ref().unwrap().cause, Cause::PermissionMissing);
        if policy == OnFailure::RollBack {
            assert_eq!(scheduled.state(), before);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_put_targets_rejects_is_a_failure_although_the_call_succeeds() {
    let scheduled = Scheduled::new();
    let failed = |code: &str, message: &str| {
        let body = json!({
            "FailedEntryCount": 1,
            "FailedEntries": [{ "TargetId": "report", "ErrorCode": code, "ErrorMessage": message }],
        });
        let headers = vec![("content-type".to_owned(), "application/x-amz-json-1.1".to_owned())];
        let fault = Fault::new(Effect::Answer { status: 200, headers, body: body.to_string() });
        fault.at("aws").on("events:PutTargets")
    };
    // Another client changed the rule at the same time: retried.
    scheduled.shop.inject(failed("ConcurrentModificationException", "in use").times(2));
    let (_, outcome) = scheduled.deploy(options()).await;
    assert_eq!(outcome.verdict(), Verdict::Deployed, "{}", outcome.detail);

    let scheduled = Scheduled::new();
    scheduled.shop.inject(failed("ManagedRuleException", "the rule is\n::error::managed").times(u32::MAX));
    let (_, outcome) = scheduled.deploy(options()).await;
    assert_eq!(outcome.verdict(), Verdict::RolledBack);
    assert!(outcome.detail.contains("ManagedRuleException"), "{}", outcome.detail);
    assert_eq!(scheduled.definitions(), ["web:1", "web:1", "web:1"]);
}

#[tokio::test(start_paused = true)]
async fn a_change_by_another_party_during_the_deployment_is_not_overwritten() {
    let scheduled = Scheduled::new();
    let mut work = scheduled.target().deploy(&scheduled.image);
    until_applied(&mut work).await;
    scheduled.aws().target("orders", "paid", target("invoice", "web:40"));
    let (_, outcome) = run(work).await;
    let outcome = outcome.unwrap();
    assert_eq!(outcome.verdict(), Verdict::RolledBack, "{outcome:#?}");
    let detail = &outcome.detail;
    assert!(detail.contains(PATTERN) && detail.contains("from web:1 to web:40"), "{detail}");
    assert_eq!(scheduled.definitions(), ["web:1", "web:40", "web:1"]);

    // Other members are theirs to change: the newest are kept.
    let scheduled = Scheduled::new();
    let mut work = scheduled.target().deploy(&scheduled.image);
    until_applied(&mut work).await;
    let mut theirs = target("invoice", "web:1");
    theirs["Input"] = json!("{\"theirs\":1}");
    scheduled.aws().target("orders", "paid", theirs);
    assert_eq!(run(work).await.1.unwrap().verdict(), Verdict::Deployed);
    let now = scheduled.rule_target("orders", "paid", "invoice");
    assert_eq!((&now["Input"], scheduled.definitions()[1].as_str()), (&json!("{\"theirs\":1}"), "web:2"));
}

#[tokio::test(start_paused = true)]
async fn a_deleted_schedule_does_not_fail_the_deployment() {
    let scheduled = Scheduled::new();
    let mut work = scheduled.target().deploy(&scheduled.image);
    until_applied(&mut work).await;
    scheduled.aws().delete_rule("orders", "paid");
    scheduled.aws().delete("reports", "hourly");
    let (events, outcome) = run(work).await;
    let outcome = outcome.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Deployed, "{outcome:#?}");
    assert_eq!(recorded(outcome.revision.as_ref().unwrap()), [(RULE, "web:2")]);
    let text = texts(&events);
    for gone in [PATTERN, SCHEDULE] {
        assert!(text.contains(&format!("scheduled task {gone} no longer exists")), "{text}");
    }
    assert!(
        scheduled.aws().targets("orders", "paid").is_empty()
            && scheduled.aws().get("reports", "hourly").is_none()
    );
}

#[tokio::test(start_paused = true)]
async fn members_that_could_be_lost_are_refused_before_any_change() {
    let scheduled = Scheduled::new();
    scheduled.aws().set("reports", "hourly", json!({ "JitterSeconds": 3 }));
    let error = scheduled.target().deploy(&scheduled.image).await.unwrap_err();
    assert!(matches!(&error, Error::UnknownScheduleMembers { .. }), "{error}");
    assert_eq!(error.class(), ErrorClass::Refused);
    let text = error.to_string();
    assert!(text.contains(SCHEDULE) && text.contains("JitterSeconds"), "{text}");
    let refused = scheduled.target().preflight(&scheduled.image, &Lookups::default()).await;
    assert!(matches!(refused, Err(Error::UnknownScheduleMembers { .. })));
    for change in ["ecs:RegisterTaskDefinition", "ecs:UpdateService", "events:PutTargets"] {
        assert_eq!(scheduled.shop.calls(change), 0, "{change}");
    }
    // One that would not be moved refuses nothing.
    scheduled.aws().set("reports", "hourly", json!({ "EndDate": 1_700_000_000 }));
    assert_eq!(scheduled.deploy(options()).await.1.verdict(), Verdict::Deployed);
}

#[tokio::test(start_paused = true)]
async fn schedules_that_cannot_be_read_end_a_deployment_before_its_first_change() {
    for action in
        ["events:ListEventBuses", "events:DescribeRule", "scheduler:ListSchedules", "scheduler:GetSchedule"]
    {
        let scheduled = Scheduled::new();
        scheduled.shop.sandbox.aws().deny(action);
        let error = scheduled.target().deploy(&scheduled.image).await.unwrap_err();
        assert!(matches!(&error, Error::AccessDenied { action: denied, .. } if denied == action), "{error}");
        assert_eq!(scheduled.shop.calls("ecs:UpdateService"), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn throttled_and_lost_writes_are_repeated() {
    let scheduled = Scheduled::new();
    for operation in ["events:PutTargets", "scheduler:UpdateSchedule"] {
        scheduled.shop.inject(scheduled.shop.refuse(operation, "ThrottlingException", "Rate exceeded", 2));
        scheduled.shop.inject(Fault::new(Effect::LoseAnswer).at("aws").on(operation).after(2).times(1));
    }
    let before = scheduled.state();
    let (events, outcome) = scheduled.deploy(options()).await;
    assert_eq!(outcome.verdict(), Verdict::Deployed, "{outcome:#?}");
    assert_eq!(scheduled.definitions(), ["web:2", "web:2", "web:2"]);
    assert!(!texts(&events).contains("differs in"), "{}", texts(&events));
    assert_ne!(scheduled.state(), before);
}

#[tokio::test(start_paused = true)]
async fn a_change_that_cannot_be_observed_is_neither_success_nor_failure() {
    for (operation, at) in [("scheduler:GetSchedule", 1), ("scheduler:UpdateSchedule", 0)] {
        let scheduled = Scheduled::new();
        let fault = scheduled.shop.refuse(operation, "ThrottlingException", "Rate exceeded", u32::MAX);
        // The plan reads two schedules.
        scheduled.shop.inject(fault.after(at * 2));
        let start = tokio::time::Instant::now();
        let (_, outcome) = scheduled.deploy(options()).await;
        assert_eq!(outcome.verdict(), Verdict::Unobserved, "{operation}: {outcome:#?}");
        assert!(outcome.failure.is_none() && outcome.detail.contains(SCHEDULE), "{}", outcome.detail);
        assert!(start.elapsed() < Duration::from_secs(300), "{:?}", start.elapsed());
        assert!(scheduled.shop.service().definition().ends_with("web:2"), "nothing is rolled back");

        scheduled.shop.sandbox.faults().clear();
        let (_, outcome) = scheduled.deploy(options()).await;
        assert_eq!(outcome.verdict(), Verdict::Deployed);
        assert_eq!(scheduled.definitions(), ["web:2", "web:2", "web:2"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_rollback_moves_the_schedules_back() {
    // With the recorded definitions.
    let scheduled = Scheduled::new();
    scheduled.shop.ecs.register(definition(&scheduled.shop.image("0")));
    scheduled.aws().target("orders", "paid", target("invoice", "web:2"));
    let before = scheduled.state();
    let previous = scheduled.target().current().await.unwrap().stable;
    assert_eq!(recorded(&previous), [(RULE, "web:1"), (PATTERN, "web:2"), (SCHEDULE, "web:1")]);
    scheduled.deploy(options()).await;
    assert_eq!(scheduled.definitions(), ["web:3", "web:3", "web:3"]);
    let (_, outcome) = run(scheduled.target().restore(&previous)).await;
    assert_eq!(outcome.unwrap().verdict(), Verdict::Deployed);
    assert_eq!(scheduled.state(), before);

    // Without a record: those of the replaced revision.
    let scheduled = Scheduled::new();
    scheduled.deploy(options()).await;
    scheduled.aws().target("orders", "paid", target("invoice", "web:40"));
    let (events, outcome) = run(scheduled.target().rollback()).await;
    assert_eq!(outcome.unwrap().verdict(), Verdict::Deployed);
    assert_eq!(scheduled.definitions(), ["web:1", "web:40", "web:1"]);
    assert!(
        texts(&events).contains(&format!("scheduled task {PATTERN} stays at web:40")),
        "{}",
        texts(&events)
    );
}

#[tokio::test(start_paused = true)]
async fn a_restore_that_cannot_move_a_schedule_fails_and_resumes() {
    let scheduled = Scheduled::new();
    let previous = scheduled.target().current().await.unwrap().stable;
    scheduled.deploy(options()).await;
    scheduled.shop.sandbox.aws().deny("events:PutTargets");
    let outcome = scheduled.target().restore(&previous).await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::FailedInPlace, "{outcome:#?}");
    assert!(outcome.detail.contains("the service was restored, but"), "{}", outcome.detail);
    assert!(scheduled.shop.service().definition().ends_with("web:1"));

    // The service is in place; the schedules are not.
    scheduled.shop.sandbox.aws().allow("events:PutTargets");
    scheduled.shop.drained().await;
    let outcome = scheduled.target().restore(&previous).await.unwrap();
    assert_eq!((outcome.verdict(), outcome.changed), (Verdict::Deployed, true));
    assert_eq!(scheduled.definitions(), ["web:1", "web:1", "web:1"]);
}

#[tokio::test(start_paused = true)]
async fn the_receipt_of_a_saga_records_and_restores_the_schedules() {
    let scheduled = Scheduled::new();
    let before = scheduled.state();
    let path = std::env::temp_dir().join(format!("bp-scheduled-{}.json", std::process::id()));
    let targets = || -> Vec<Arc<dyn Target>> { vec![Arc::new(scheduled.target())] };
    let receipt = Saga::new(targets(), scheduled.image.clone(), &path).run().await.unwrap();
    assert_eq!(receipt.verdict, Some(Verdict::Deployed));
    let receipt = Receipt::read(&path).unwrap();
    let expected = [(RULE, "web:1"), (PATTERN, "web:1"), (SCHEDULE, "web:1")];
    assert_eq!(recorded(&receipt.targets[0].previous), expected);

    // Another run moved the service back, and was killed before the schedules.
    scheduled.shop.drained().await;
    scheduled.shop.target().restore(&receipt.targets[0].previous).await.unwrap();
    assert_eq!(scheduled.definitions(), ["web:2", "web:2", "web:2"]);
    scheduled.shop.drained().await;
    let receipt = Saga::rollback(targets(), &path).await.unwrap();
    assert_eq!(receipt.rollback_verdict(), Verdict::Deployed);
    assert_eq!(scheduled.state(), before);
    std::fs::remove_file(path).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_schedule_without_a_revision_is_pinned_and_never_follows_the_failed_one() {
    let scheduled = Scheduled::new();
    scheduled.aws().target("orders", "paid", target("invoice", "web"));
    let previous = scheduled.target().current().await.unwrap().stable;
    scheduled.deploy(options()).await;
    assert_eq!(scheduled.definitions()[1], "web:2");
    scheduled.target().restore(&previous).await.unwrap();
    assert_eq!(scheduled.definitions()[1], "web:1", "web alone is web:2, which was rolled back");
}

#[tokio::test(start_paused = true)]
async fn a_start_date_of_the_past_is_left_out_if_it_is_rejected() {
    let scheduled = Scheduled::new();
    scheduled.aws().set("reports", "hourly", json!({ "StartDate": 1_700_000_000 }));
    let (events, outcome) = scheduled.deploy(options()).await;
    assert_eq!(outcome.verdict(), Verdict::Deployed, "{outcome:#?}");
    let now = scheduled.aws().get("reports", "hourly").unwrap();
    assert_eq!((scheduled.definitions()[2].as_str(), now["StartDate"].is_null()), ("web:2", true));
    assert!(!texts(&events).contains("differs in"), "{}", texts(&events));

    let scheduled = Scheduled::new();
    scheduled.aws().set("reports", "hourly", json!({ "StartDate": 3_900_000_000u64 }));
    scheduled.deploy(options()).await;
    assert_eq!(scheduled.aws().get("reports", "hourly").unwrap()["StartDate"], 3_900_000_000u64);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_moved_is_reported_and_left() {
    let scheduled = Scheduled::new();
    let call = json!({ "Cluster": "shop", "TaskDefinition": "web:1" }).to_string();
    let universal = json!({ "Target": {
        "Arn": "arn:aws:scheduler:::aws-sdk:ecs:runTask", "RoleArn": "arn:aws:iam::1:role/s", "Input": call,
    } });
    scheduled.aws().set("reports", "hourly", universal);
    scheduled.aws().rule("orders", "paid", json!({ "ManagedBy": "batch.amazonaws.com" }));
    let mut once = schedule("web:1");
    once["ScheduleExpression"] = json!("at(2021-01-01T00:00:00)");
    scheduled.aws().schedule("default", "once", once);
    let before = scheduled.state();
    let found = scheduled.target().preflight(&scheduled.image, &Lookups::default()).await.unwrap();
    let state = |schedule: &str| {
        let finding = found.findings.iter().find(|finding| finding.subject.contains(schedule)).unwrap();
        finding.state
    };
    assert_eq!(state(RULE), FindingState::Present);
    for left in [PATTERN, SCHEDULE, "schedule/default/once"] {
        assert_eq!(state(left), FindingState::Warning, "{left}");
    }
    let (events, outcome) = scheduled.deploy(options()).await;
    assert_eq!(outcome.verdict(), Verdict::Deployed, "{outcome:#?}");
    let mut expected = before;
    expected[0][0]["EcsParameters"]["TaskDefinitionArn"] = json!(revision("web:2"));
    assert_eq!(scheduled.state(), expected);
    let text = texts(&events);
    for left in [PATTERN, SCHEDULE, "schedule/default/once"] {
        assert!(text.contains(&format!("scheduled task {left} stays at web:1")), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn plan_and_drift_show_the_schedules() {
    let scheduled = Scheduled::new();
    let found = scheduled.target().preflight(&scheduled.image, &Lookups::default()).await.unwrap();
    let shown = found.to_string();
    assert!(shown.contains(&format!("{RULE} (cron(0 2 * * ? *), disabled): web:1")), "{shown}");
    assert!(shown.contains(&format!("{PATTERN} (event pattern): web:1")), "{shown}");
    assert!(!shown.contains("web-admin") && !shown.contains("other-cluster"), "{shown}");

    scheduled.deploy(options()).await;
    scheduled.shop.drained().await;
    let drift = scheduled.target().drift(&scheduled.image).await.unwrap();
    assert!(drift.service.is_empty(), "{drift}");
    scheduled.aws().target("orders", "paid", target("invoice", "web:1"));
    let drift = scheduled.target().drift(&scheduled.image).await.unwrap();
    assert_eq!(drift.service.len(), 1, "{drift}");
    assert_eq!(drift.service[0].to_string(), format!("~ scheduled task {PATTERN}: web:2 -> web:1"));
}

#[tokio::test(start_paused = true)]
async fn pruning_keeps_the_revisions_that_schedules_of_any_cluster_use() {
    let shop = Shop::new();
    shop.web(&shop.image("1")).create();
    for name in ["2", "3", "4", "5", "6"] {
        shop.ecs.register(definition(&shop.image(name)));
    }
    shop.ecs.cluster("batch");
    let image = shop.image("7");
    let scheduled = Scheduled { shop, image };
    let mut batch = schedule("web:3");
    batch["Target"]["Arn"] = json!(CLUSTER.replace("/shop", "/batch"));
    let call = json!({ "Cluster": "batch", "TaskDefinition": "web:4" }).to_string();
    scheduled
        .aws()
        .rule("default", "nightly", json!({ "State": "DISABLED" }))
        .target("default", "nightly", target("report", "web:2"))
        .schedule("default", "batch", batch)
        .schedule("default", "call", schedule("web:1"))
        .set(
            "default",
            "call",
            json!({ "Target": {
            "Arn": "arn:aws:scheduler:::aws-sdk:ecs:runTask", "RoleArn": "r", "Input": call,
        } }),
        );
    let pruned = scheduled.target().prune(1, &[]).await.unwrap();
    let deregistered: Vec<&str> =
        pruned.deregistered.iter().map(|arn| arn.rsplit('/').next().unwrap()).collect();
    assert_eq!(deregistered, ["web:5"]);
    let kept: Vec<String> =
        pruned.kept.iter().map(|kept| format!("{}: {}", kept.revision, kept.reason)).collect();
    for part in
        ["web:2: the scheduled task rule/default/nightly/report", "web:3: the scheduled task", "web:4: the"]
    {
        assert!(kept.iter().any(|text| text.contains(part)), "{part}: {kept:?}");
    }

    // Nothing is deregistered if the schedules cannot be read.
    scheduled.shop.sandbox.aws().deny("scheduler:GetSchedule");
    scheduled.shop.ecs.register(definition(&scheduled.shop.image("8")));
    let calls = scheduled.shop.calls("ecs:DeregisterTaskDefinition");
    scheduled.target().prune(1, &[]).await.unwrap_err();
    assert_eq!(scheduled.shop.calls("ecs:DeregisterTaskDefinition"), calls);
}

#[tokio::test(start_paused = true)]
async fn reads_every_page() {
    let scheduled = Scheduled::new();
    for number in 0..230 {
        let mut other = schedule("web:1");
        other["Target"]["Arn"] = json!("arn:aws:lambda:eu-central-1:111111111111:function:f");
        scheduled.aws().schedule("aaa", &format!("s{number}"), other);
        let name = format!("r{number}");
        scheduled.aws().rule("default", &name, json!({}));
        scheduled.aws().target("default", &name, target("t", "web-admin:1"));
    }
    scheduled.aws().schedule("zzz", "last", schedule("web:1"));
    scheduled.aws().rule("default", "zzz", json!({})).target("default", "zzz", target("t", "web:1"));
    let current = scheduled.target().current().await.unwrap().stable;
    let found: Vec<&str> = current.schedules.iter().map(|task| task.schedule.as_str()).collect();
    assert!(found.contains(&"schedule/zzz/last") && found.contains(&"rule/default/zzz/t"), "{found:?}");
    assert_eq!(found.len(), 5);
    assert_eq!(scheduled.shop.calls("scheduler:ListSchedules"), 3);
    assert_eq!(scheduled.shop.calls("scheduler:GetSchedule"), 3, "only those whose target is the cluster");
}
