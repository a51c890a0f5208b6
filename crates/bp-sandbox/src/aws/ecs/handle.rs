//! Set up, inspect and disturb ECS services in tests, without the API.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::{
    Ecs, HookStatus, InjectedContainer, Pace, Region,
    service::{Service, Status},
    world::World,
};
use crate::aws::Aws;

/// The ECS of one account and region, to set up and inspect without the API.
///
/// ```
/// use bp_sandbox::Sandbox;
/// use serde_json::json;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let sandbox = Sandbox::builder().build();
/// let ecs = sandbox.aws().ecs("111111111111", "eu-central-1");
/// let web = ecs
///     .new_service("shop", "web")
///     .task_definition(json!({
///         "family": "web",
///         "memory": "512",
///         "containerDefinitions": [{ "name": "web", "image": "registry.example.com/web:1" }],
///     }))
///     .desired(0)
///     .create();
/// assert_eq!(web.definition(), "arn:aws:ecs:eu-central-1:111111111111:task-definition/web:1");
/// # }
/// ```
#[derive(Clone)]
pub struct EcsHandle {
    ecs: Arc<Ecs>,
    account: String,
    region: String,
}

impl std::fmt::Debug for EcsHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EcsHandle({} {})", self.account, self.region)
    }
}

impl Aws {
    /// ECS of an account in a region.
    pub fn ecs(self: &Arc<Self>, account: &str, region: &str) -> EcsHandle {
        EcsHandle { ecs: Arc::clone(&self.ecs), account: account.to_owned(), region: region.to_owned() }
    }
}

/// The caller of operations made through the handle.
const OPERATOR: &str = "arn:aws:iam::000000000000:user/operator";

impl EcsHandle {
    fn at<T>(&self, work: impl FnOnce(&mut Region, &World<'_>, jiff::Timestamp) -> T) -> T {
        self.ecs.at(&self.account, &self.region, work)
    }

    /// Creates a cluster, if it does not exist.
    pub fn cluster(&self, name: &str) -> &Self {
        let input = json!({ "clusterName": name });
        self.at(|region, world, _| region.create_cluster(world, &input)).expect("a cluster can be created");
        self
    }

    /// Registers a task definition, in the format of RegisterTaskDefinition's input, and returns its ARN.
    ///
    /// # Panics
    /// When the service would reject it.
    pub fn register(&self, definition: Value) -> String {
        let answer = self
            .at(|region, world, now| region.definitions.register(&world.place, OPERATOR, now, &definition))
            .expect("a task definition that the service takes");
        answer["taskDefinition"]["taskDefinitionArn"].as_str().unwrap_or_default().to_owned()
    }

    /// The number of registered revisions of `family`.
    pub fn revisions(&self, family: &str) -> usize {
        self.at(|region, _, _| region.definitions.count(family))
    }

    /// A task definition as the API describes it, and its tags.
    pub fn definition(&self, reference: &str) -> Option<Value> {
        let input = json!({ "taskDefinition": reference, "include": ["TAGS"] });
        self.at(|region, _, _| region.definitions.describe(&input)).ok()
    }

    /// Sets what the Lambda function of a lifecycle hook returns from now on. Functions without a result succeed.
    pub fn hook(&self, function_arn: &str, status: HookStatus) -> &Self {
        self.ecs.functions.set(function_arn, status);
        self
    }

    /// Starts building a service. Its cluster is also created, if it does not exist.
    pub fn new_service(&self, cluster: &str, service: &str) -> NewService {
        let input = json!({ "cluster": cluster, "serviceName": service, "desiredCount": 2 });
        NewService {
            ecs: self.clone(),
            input,
            pace: Pace::default(),
            injected: Vec::new(),
            past: Vec::new(),
            is_express: false,
        }
    }

    /// An existing service.
    pub fn service(&self, cluster: &str, service: &str) -> ServiceHandle {
        ServiceHandle { ecs: self.clone(), cluster: cluster.to_owned(), name: service.to_owned() }
    }
}

/// A service to be created.
#[derive(Debug)]
#[must_use = "call create"]
pub struct NewService {
    ecs: EcsHandle,
    input: Value,
    pace: Pace,
    injected: Vec<InjectedContainer>,
    past: Vec<(Duration, String)>,
    is_express: bool,
}

impl NewService {
    /// Sets the task definition: the ARN or name of one, or one to register.
    pub fn task_definition(mut self, definition: impl Into<Value>) -> Self {
        self.input["taskDefinition"] = match definition.into() {
            reference @ Value::String(_) => reference,
            definition => json!(self.ecs.register(definition)),
        };
        self
    }

    /// Sets the desired count; defaults to two.
    pub fn desired(mut self, count: u32) -> Self {
        self.input["desiredCount"] = json!(count);
        self
    }

    /// Sets any member of CreateService's input, such as `deploymentConfiguration` or `loadBalancers`.
    pub fn with(mut self, field: &str, value: Value) -> Self {
        self.input[field] = value;
        self
    }

    /// Enables the deployment circuit breaker, with rollback.
    pub fn circuit_breaker(mut self) -> Self {
        self.input["deploymentConfiguration"]["deploymentCircuitBreaker"] =
            json!({ "enable": true, "rollback": true });
        self
    }

    /// Sets how fast its tasks start, are replaced and are counted.
    pub fn pace(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self
    }

    /// Adds a container that AWS injects into every task.
    pub fn injected(mut self, container: InjectedContainer) -> Self {
        self.injected.push(container);
        self
    }

    /// Adds an event of the past, without the prefix `(service <name>)`, to those of earlier deployments that every
    /// service has.
    pub fn past_event(mut self, age: Duration, message: &str) -> Self {
        self.past.push((age, message.to_owned()));
        self
    }

    /// Makes it a service of Express Mode: its resources are managed by ECS (`resourceManagementType`), and its
    /// deployments are canary deployments.
    pub fn express(mut self) -> Self {
        self.is_express = true;
        let configuration = &mut self.input["deploymentConfiguration"];
        configuration["strategy"] = json!("CANARY");
        configuration["canaryConfiguration"] = json!({ "canaryPercent": 5.0, "canaryBakeTimeInMinutes": 3 });
        configuration["bakeTimeInMinutes"] = json!(3);
        self
    }

    /// Creates the service in a steady state: its first deployment is completed, its tasks are running. It is 30 days old
    /// and has events of earlier deployments, also of failed ones.
    ///
    /// # Panics
    /// When the service would reject it.
    pub fn create(self) -> ServiceHandle {
        let cluster = self.input["cluster"].as_str().unwrap_or_default().to_owned();
        let name = self.input["serviceName"].as_str().unwrap_or_default().to_owned();
        self.ecs.cluster(&cluster);
        let handle = self.ecs.service(&cluster, &name);
        self.ecs
            .at(|region, world, now| region.create_service(world, OPERATOR, now, &self.input))
            .expect("a service that ECS takes");
        handle.at(|service, world| {
            (service.pace, service.injected) = (self.pace, self.injected);
            if self.is_express {
                service.spec.insert("resourceManagementType".into(), json!("ECS"));
            }
            service.settle(world);
            self.past.iter().for_each(|(age, message)| service.remember(*age, message));
        });
        handle
    }
}

/// A container of a running task.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunningContainer {
    /// The task's ARN.
    pub task: String,
    /// The deployment that started it: `ecs-svc/<number>`.
    pub deployment: String,
    /// The container's name.
    pub container: String,
    /// The image as in the task definition.
    pub image: String,
    /// The digest that was pulled.
    pub digest: String,
}

/// One service, to inspect and disturb.
#[derive(Debug, Clone)]
pub struct ServiceHandle {
    ecs: EcsHandle,
    cluster: String,
    name: String,
}

impl ServiceHandle {
    fn at<T>(&self, work: impl FnOnce(&mut Service, &World<'_>) -> T) -> T {
        let input = json!({ "cluster": self.cluster, "service": self.name });
        self.ecs.at(|region, world, _| work(region.service(&input).expect("the service exists"), world))
    }

    /// The service as DescribeServices shows it.
    pub fn view(&self) -> Value {
        self.at(|service, world| service.view(world, true))
    }

    /// The ARN of the task definition of the primary deployment.
    pub fn definition(&self) -> String {
        self.view()["taskDefinition"].as_str().unwrap_or_default().to_owned()
    }

    /// Every container of every running task.
    pub fn running(&self) -> Vec<RunningContainer> {
        self.at(|service, _| {
            let now = service.clock;
            let running = service.tasks.iter().filter(|task| task.is_running(now));
            let containers = running.flat_map(|task| {
                task.images().map(|(container, image, digest)| RunningContainer {
                    task: task.arn.clone(),
                    deployment: format!("ecs-svc/{}", task.deployment),
                    container: container.to_owned(),
                    image: image.to_owned(),
                    digest: digest.unwrap_or_default().to_owned(),
                })
            });
            containers.collect()
        })
    }

    /// The tasks of the last hour as DescribeTasks shows them, also stopped ones.
    pub fn tasks(&self) -> Vec<Value> {
        self.at(|service, world| service.tasks.iter().map(|task| task.view(&world.place, service)).collect())
    }

    /// The service deployments, newest first, as DescribeServiceDeployments shows them.
    pub fn deployments(&self) -> Vec<Value> {
        self.at(|service, world| {
            service.deployments.iter().rev().map(|d| service.full(&world.place, d)).collect()
        })
    }

    /// Calls UpdateService as another client, with this input (cluster and service are filled in).
    ///
    /// # Panics
    /// When the service would reject it.
    pub fn update(&self, mut input: Value) {
        input["cluster"] = json!(self.cluster);
        input["service"] = json!(self.name);
        self.ecs
            .at(|region, world, now| region.update_service(world, now, &input))
            .expect("an update that ECS takes");
    }

    /// Stops the newest service deployment as another client: `ABORT` or `ROLLBACK`.
    ///
    /// # Panics
    /// When it has already ended.
    pub fn stop_deployment(&self, stop_type: &str) {
        let newest = self.deployments().swap_remove(0);
        let input = json!({ "serviceDeploymentArn": newest["serviceDeploymentArn"], "stopType": stop_type });
        self.ecs
            .at(|region, world, now| region.stop_service_deployment(world, now, &input))
            .expect("a deployment that can be stopped");
    }

    /// Deletes the service and its tasks.
    pub fn delete(&self) {
        self.at(|service, _| service.status = Status::Draining);
    }

    /// Overrides the status of the newest service deployment, also with one that the model does not know.
    pub fn show_status(&self, status: &str) {
        self.at(|service, _| service.shown_status = Some(status.to_owned()));
    }

    /// Triggers an alarm that monitors the deployment in progress.
    pub fn alarm(&self, name: &str) {
        self.at(|service, _| {
            if let Some(deployment) = service.under_way() {
                deployment.alarms.push(name.to_owned());
            }
        });
    }

    /// Stops running tasks with this stop code and reason, as a Spot interruption or a user would.
    pub fn stop_tasks(&self, count: usize, code: &'static str, reason: &str) {
        self.at(|service, _| {
            let now = service.clock;
            for task in service.tasks.iter_mut().filter(|t| t.is_running(now)).take(count) {
                task.stop_now(now, code, reason.to_owned());
            }
        });
    }
}
