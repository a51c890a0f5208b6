//! Standalone tasks of the ECS model: RunTask, StopTask, idempotency, and the errors of the API.

use std::time::Duration;

use aws_sdk_ecs::{
    Client,
    config::{BehaviorVersion, Credentials, Region, retry::RetryConfig},
    error::ProvideErrorMetadata as _,
    types::{AwsVpcConfiguration, ContainerOverride, LaunchType, NetworkConfiguration, TaskOverride},
};
use bp_sandbox::{Behaviour, ImageBuilder, Sandbox, registry::RegistryOptions};
use serde_json::json;

const HOST: &str = "registry.example.com";

/// A cluster with the definition `job`, whose command `./job` exits after 10 s with this code.
fn world(code: i32) -> (Sandbox, Client) {
    let sandbox = Sandbox::builder().registry(HOST, RegistryOptions::default()).build();
    let image = ImageBuilder::new().layer([("name", "job")]).build();
    sandbox.registry(HOST).push(&image, "job", "1");
    let behaviour =
        Behaviour::Exits { after: Duration::from_secs(10), code, log: vec!["a".into(), "b".into()] };
    sandbox.script_command(image.digest(), &["./job"], behaviour);
    let ecs = sandbox.aws().ecs("111111111111", "eu-central-1");
    ecs.cluster("shop").register(json!({
        "family": "job", "networkMode": "awsvpc", "memory": "512",
        "containerDefinitions": [{ "name": "job", "image": format!("{HOST}/job:1") }],
    }));
    let config = aws_sdk_ecs::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .credentials_provider(Credentials::new("id", "secret", None, None, "test"))
        .retry_config(RetryConfig::disabled())
        .http_client(sandbox.http_client())
        .build();
    (sandbox, Client::from_conf(config))
}

fn call(client: &Client) -> aws_sdk_ecs::operation::run_task::builders::RunTaskFluentBuilder {
    let vpc = AwsVpcConfiguration::builder().subnets("subnet-1").build().unwrap();
    let network = NetworkConfiguration::builder().awsvpc_configuration(vpc).build();
    let own = ContainerOverride::builder().name("job").command("./job").build();
    let overrides = TaskOverride::builder().container_overrides(own).build();
    let call = client.run_task().cluster("shop").task_definition("job").launch_type(LaunchType::Fargate);
    call.network_configuration(network).overrides(overrides)
}

async fn statuses(client: &Client, arn: &str) -> Vec<String> {
    let mut statuses = Vec::new();
    loop {
        let response = client.describe_tasks().cluster("shop").tasks(arn).send().await.unwrap();
        let status = response.tasks()[0].last_status().unwrap_or_default().to_owned();
        if statuses.last() != Some(&status) {
            statuses.push(status.clone());
        }
        if status == "STOPPED" {
            return statuses;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_ends_with_the_stop_code_of_an_essential_container_whatever_its_exit_code() {
    for code in [0, 3] {
        let (_sandbox, client) = world(code);
        let started = call(&client).started_by("me").send().await.unwrap();
        let task = &started.tasks()[0];
        assert_eq!((task.group(), task.last_status()), (Some("family:job"), Some("PROVISIONING")));
        let arn = task.task_arn().unwrap();
        let expected = ["PROVISIONING", "PENDING", "RUNNING", "DEPROVISIONING", "STOPPED"];
        assert_eq!(statuses(&client, arn).await, expected);
        let described = client.describe_tasks().cluster("shop").tasks(arn).send().await.unwrap();
        let task = &described.tasks()[0];
        assert_eq!(task.stop_code().map(|code| code.as_str()), Some("EssentialContainerExited"));
        assert_eq!(task.containers()[0].exit_code(), Some(code));
        let listed = client.list_tasks().cluster("shop").started_by("me").desired_status("STOPPED".into());
        assert_eq!(listed.send().await.unwrap().task_arns(), [arn]);
        let running = client.list_tasks().cluster("shop").started_by("me").send().await.unwrap();
        assert!(running.task_arns().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_token_starts_one_task() {
    let (_sandbox, client) = world(0);
    let first = call(&client).client_token("token").send().await.unwrap();
    let again = call(&client).client_token("token").send().await.unwrap();
    assert_eq!(first.tasks()[0].task_arn(), again.tasks()[0].task_arn());
    let error =
        call(&client).client_token("token").started_by("me").send().await.unwrap_err().into_service_error();
    let aws_sdk_ecs::operation::run_task::RunTaskError::ConflictException(conflict) = &error else {
        panic!("{error}");
    };
    assert_eq!(conflict.resource_ids(), [first.tasks()[0].task_arn().unwrap()]);
    let other = call(&client).client_token("other").send().await.unwrap();
    assert_ne!(other.tasks()[0].task_arn(), first.tasks()[0].task_arn());
}

#[tokio::test(start_paused = true)]
async fn a_stopped_task_has_the_reason_of_the_caller() {
    let (_sandbox, client) = world(0);
    let started = call(&client).send().await.unwrap();
    let arn = started.tasks()[0].task_arn().unwrap();
    tokio::time::sleep(Duration::from_secs(9)).await;
    client.stop_task().cluster("shop").task(arn).reason("enough").send().await.unwrap();
    statuses(&client, arn).await;
    let described = client.describe_tasks().cluster("shop").tasks(arn).send().await.unwrap();
    let task = &described.tasks()[0];
    assert_eq!(task.stop_code().map(|code| code.as_str()), Some("UserInitiated"));
    assert_eq!((task.stopped_reason(), task.containers()[0].exit_code()), (Some("enough"), Some(143)));
    let error = client.stop_task().cluster("shop").task("none").send().await.unwrap_err();
    assert_eq!(error.code(), Some("InvalidParameterException"));
}

#[tokio::test(start_paused = true)]
async fn refuses_invalid_requests_and_returns_failures() {
    let (sandbox, client) = world(0);
    let unknown = ContainerOverride::builder().name("none").build();
    let unknown = TaskOverride::builder().container_overrides(unknown).build();
    for (call, message) in [
        (call(&client).set_network_configuration(None), "Network Configuration must be provided"),
        (call(&client).overrides(unknown), "not a container in the TaskDefinition"),
        (call(&client).count(11), "Count must be between"),
        (call(&client).task_definition("none"), "TaskDefinition not found."),
        (call(&client).cluster("none"), "Cluster not found."),
    ] {
        let error = call.send().await.unwrap_err();
        assert!(error.message().is_some_and(|text| text.contains(message)), "{message}: {error:?}");
    }
    sandbox.aws().ecs("111111111111", "eu-central-1").refuse_task("RESOURCE:CPU");
    let refused = call(&client).send().await.unwrap();
    assert_eq!((refused.tasks().len(), refused.failures()[0].reason()), (0, Some("RESOURCE:CPU")));
    assert_eq!(call(&client).send().await.unwrap().tasks().len(), 1);
}
