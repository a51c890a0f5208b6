//! Preflight checks of the room for tasks: the service's percentages, container instances and capacity providers.

mod common;

use bp_ecs::{Finding, FindingState, Lookups};
use common::{Shop, definition};
use serde_json::{Value, json};

const INSTANCES: &str = "container instances of cluster shop";
const TASKS: &str = "tasks during the deployment";

/// A shop with a service on EC2 whose task requires 256 CPU units and 512 MiB, and two tasks of which run.
fn on_ec2(change: impl FnOnce(&mut Value), members: &[(&str, Value)]) -> Shop {
    let shop = Shop::new();
    let mut running = definition(&shop.image("1"));
    running["requiresCompatibilities"] = json!(["EC2"]);
    change(&mut running);
    let service = shop.ecs.new_service("shop", "web").task_definition(running);
    members.iter().fold(service, |service, (member, value)| service.with(member, value.clone())).create();
    shop.sandbox.ledger().clear();
    shop
}

fn ec2() -> (&'static str, Value) {
    ("launchType", json!("EC2"))
}

async fn findings(shop: &Shop) -> Vec<Finding> {
    shop.target().preflight(&shop.image("2"), &Lookups::default()).await.unwrap().findings
}

fn about<'a>(findings: &'a [Finding], subject: &str) -> Option<&'a Finding> {
    findings.iter().find(|finding| finding.subject == subject)
}

#[tokio::test(start_paused = true)]
async fn percentages_that_leave_no_room_are_invalid() {
    let shop = on_ec2(
        |_| {},
        &[("desiredCount", json!(1)), ("deploymentConfiguration", json!({ "maximumPercent": 150 }))],
    );
    let found = findings(&shop).await;
    let tasks = about(&found, TASKS).unwrap();
    assert_eq!(tasks.state, FindingState::Invalid, "{tasks}");
    assert!(tasks.message.contains("none can be replaced; raise maximumPercent to 200"), "{tasks}");

    let shop = on_ec2(|_| {}, &[]);
    let found = findings(&shop).await;
    assert_eq!(
        about(&found, TASKS).unwrap().to_string(),
        format!("ok: {TASKS}: at least 2 and at most 4 of 2 desired run")
    );
    assert!(about(&found, INSTANCES).is_none(), "on Fargate there are none");
}

#[tokio::test(start_paused = true)]
async fn a_container_instance_must_have_room_for_one_more_task() {
    for (cpu, memory, members, state) in [
        (256, 512, json!({}), FindingState::Present),
        (255, 4096, json!({}), FindingState::Warning),
        (4096, 511, json!({}), FindingState::Warning),
        (4096, 4096, json!({ "agentConnected": false }), FindingState::Warning),
        (4096, 4096, json!({ "status": "DRAINING" }), FindingState::Warning),
    ] {
        let shop = on_ec2(|_| {}, &[ec2()]);
        shop.ecs.container_instance("shop", cpu, memory, &members);
        let found = findings(&shop).await;
        let instances = about(&found, INSTANCES).unwrap();
        assert_eq!(instances.state, state, "{cpu} {memory} {members}: {instances}");
        assert!(instances.message.contains("one more task (256 CPU units, 512 MiB)"), "{instances}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_fixed_host_port_must_be_free() {
    let bridge = |running: &mut Value| {
        running["networkMode"] = json!("bridge");
        running["containerDefinitions"][0]["portMappings"][0]["hostPort"] = json!(8080);
    };
    let shop = on_ec2(bridge, &[ec2()]);
    let used = json!([
        { "name": "CPU", "type": "INTEGER", "integerValue": 4096 },
        { "name": "MEMORY", "type": "INTEGER", "integerValue": 4096 },
        { "name": "PORTS", "type": "STRINGSET", "stringSetValue": ["22", "8080"] },
    ]);
    shop.ecs.container_instance("shop", 0, 0, &json!({ "remainingResources": used }));
    let found = findings(&shop).await;
    let instances = about(&found, INSTANCES).unwrap();
    assert_eq!(instances.state, FindingState::Warning);
    assert!(instances.message.starts_with("none of 1 has room for one more task"), "{instances}");
    assert!(instances.message.contains("host port 8080"), "{instances}");
    shop.ecs.container_instance("shop", 4096, 4096, &json!({}));
    let found = findings(&shop).await;
    assert_eq!(about(&found, INSTANCES).unwrap().state, FindingState::Present);
}

#[tokio::test(start_paused = true)]
async fn instances_are_read_only_if_a_task_must_start_before_one_stops() {
    let shop = on_ec2(|_| {}, &[ec2(), ("deploymentConfiguration", json!({ "minimumHealthyPercent": 50 }))]);
    assert!(about(&findings(&shop).await, INSTANCES).is_none());
    assert_eq!(shop.calls("ecs:ListContainerInstances"), 0);
}

#[tokio::test(start_paused = true)]
async fn reads_pages_of_instances_until_one_has_room() {
    let shop = on_ec2(|_| {}, &[ec2()]);
    for _ in 0..150 {
        shop.ecs.container_instance("shop", 0, 0, &json!({}));
    }
    shop.ecs.container_instance("shop", 512, 512, &json!({}));
    for _ in 0..150 {
        shop.ecs.container_instance("shop", 0, 0, &json!({}));
    }
    let found = findings(&shop).await;
    assert_eq!(about(&found, INSTANCES).unwrap().state, FindingState::Present);
    assert_eq!(
        (shop.calls("ecs:ListContainerInstances"), shop.calls("ecs:DescribeContainerInstances")),
        (2, 2)
    );
}

#[tokio::test(start_paused = true)]
async fn a_capacity_provider_that_scales_needs_no_room() {
    let strategy =
        |name: &str| ("capacityProviderStrategy", json!([{ "capacityProvider": name, "weight": 1 }]));
    for (name, instances) in
        [("scaling", None), ("fixed", Some(FindingState::Warning)), ("FARGATE_SPOT", None)]
    {
        let shop = on_ec2(|_| {}, &[strategy(name)]);
        shop.ecs.capacity_provider("scaling", true).capacity_provider("fixed", false);
        // An instance of another provider.
        shop.ecs.container_instance("shop", 4096, 4096, &json!({ "capacityProviderName": "scaling" }));
        let found = findings(&shop).await;
        assert_eq!(about(&found, INSTANCES).map(|finding| finding.state), instances, "{name}");
        let calls = shop.calls("ecs:DescribeCapacityProviders");
        assert_eq!(calls, usize::from(name != "FARGATE_SPOT"), "{name}");
    }
    let shop = on_ec2(|_| {}, &[strategy("gone")]);
    let found = findings(&shop).await;
    let provider = about(&found, "capacity provider gone").unwrap();
    assert!(
        provider.state == FindingState::Warning && provider.message.contains("is not associated"),
        "{provider}"
    );
}

#[tokio::test(start_paused = true)]
async fn denied_reads_of_capacity_are_unknown() {
    let shop = on_ec2(|_| {}, &[ec2()]);
    shop.inject(shop.deny("ecs:ListContainerInstances"));
    let found = findings(&shop).await;
    let instances = about(&found, INSTANCES).unwrap();
    assert_eq!(instances.state, FindingState::Unknown);
    assert!(instances.message.contains("ecs:ListContainerInstances"), "{instances}");
}
