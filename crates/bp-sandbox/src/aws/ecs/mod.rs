//! Model of the Amazon ECS API and scheduler: task definitions, services, deployments and tasks.
//!
//! It is driven by the clock. The [`Behaviour`](crate::Behaviour) of an image determines what its tasks do; the
//! scheduler implements minimum and maximum percent, the circuit breaker, rollbacks, and the stages of blue/green,
//! linear and canary deployments, lifecycle hooks and early success criteria.
//!
//! States, messages and their order are those recorded on ECS (`docs/ecs-scenarios.md` in the repository lists them with
//! their tests); the delays are shorter, unless a service has the recorded [`Pace`]. What a test determines:
//!
//! | | |
//! |---|---|
//! | what a program does | [`Sandbox::script`](crate::Sandbox::script), or a label of the image |
//! | what the Lambda function of a hook returns | [`EcsHandle::hook`] |
//! | Fargate, EC2 or ECS Anywhere, with their messages | `launchType` or `capacityProviderStrategy`: [`NewService::with`] |
//! | containers that AWS injects | [`NewService::injected`] |
//! | events of the past | present in every service; more by [`NewService::past_event`] |
//! | other clients, alarms, Spot interruptions | [`ServiceHandle`] |

mod api;
mod definition;
mod events;
mod failures;
mod handle;
mod hooks;
mod injected;
mod instances;
mod names;
mod outcome;
mod pace;
mod past;
mod platform;
mod rolling;
mod rollout;
mod run_task;
mod scheduler;
mod secret;
mod service;
mod settings;
mod stages;
mod standalone;
mod tags;
mod task;
mod task_view;
mod view;
mod world;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
};

use jiff::Timestamp;
use serde_json::Value;

use self::{
    definition::Definitions, hooks::Functions, names::Place, service::Service, standalone::Standalone,
    world::World,
};
pub use self::{
    handle::{EcsHandle, NewService, RunningContainer, ServiceHandle},
    hooks::HookStatus,
    injected::InjectedContainer,
    pace::Pace,
};
use super::{
    context::Context,
    secretsmanager::SecretsManager,
    ssm::Ssm,
    wire::{Answer, Call},
};
use crate::sync::lock;

/// The service. The ECS agent of a task reads secrets from Secrets Manager and Systems Manager.
pub(super) struct Ecs {
    context: Arc<Context>,
    secretsmanager: Arc<SecretsManager>,
    ssm: Arc<Ssm>,
    /// The Lambda functions of lifecycle hooks.
    functions: Functions,
    /// The state by account and region.
    regions: Mutex<BTreeMap<(String, String), Region>>,
}

/// The ECS of one account and region.
#[derive(Debug, Default)]
struct Region {
    clusters: BTreeMap<String, Cluster>,
    definitions: Definitions,
    /// The failures of the next RunTask calls.
    refusals: VecDeque<Value>,
    capacity_providers: Vec<Value>,
}

#[derive(Debug, Default)]
struct Cluster {
    /// In order of creation. A deleted service stays; another one may have the same name.
    services: Vec<Service>,
    /// Tasks that belong to no service.
    tasks: Vec<Standalone>,
    instances: Vec<Value>,
    tags: Value,
}

impl Ecs {
    pub(super) fn new(context: Arc<Context>, secretsmanager: Arc<SecretsManager>, ssm: Arc<Ssm>) -> Self {
        Ecs { context, secretsmanager, ssm, functions: Functions::default(), regions: Mutex::default() }
    }

    /// Advances the region to the current time and calls `work` with it.
    fn at<T>(
        &self,
        account: &str,
        region: &str,
        work: impl FnOnce(&mut Region, &World<'_>, Timestamp) -> T,
    ) -> T {
        let place = Place { account: account.to_owned(), region: region.to_owned() };
        let now = self.context.clock.now();
        let world = World {
            runtime: &self.context.runtime,
            secretsmanager: &self.secretsmanager,
            ssm: &self.ssm,
            functions: &self.functions,
            place,
        };
        let mut regions = lock(&self.regions);
        let region = regions.entry((account.to_owned(), region.to_owned())).or_default();
        for service in region.clusters.values_mut().flat_map(|cluster| &mut cluster.services) {
            service.advance(&world, now);
        }
        for cluster in region.clusters.values_mut() {
            cluster.tasks.retain(|task| !task.task.is_forgotten(now));
        }
        work(region, &world, now)
    }

    /// The lines that a task has written to this log stream. `None` when no task writes to it.
    pub(super) fn log(
        &self,
        account: &str,
        region: &str,
        group: &str,
        stream: &str,
    ) -> Option<Vec<(Timestamp, String)>> {
        self.at(account, region, |region, _, now| {
            let mut tasks = region.clusters.values().flat_map(|cluster| {
                let of_services = cluster.services.iter().flat_map(|service| &service.tasks);
                of_services.chain(cluster.tasks.iter().map(|task| &task.task))
            });
            tasks.find_map(|task| task.log(group, stream, now))
        })
    }

    pub(super) fn call(&self, call: &Call) -> Answer {
        let by = self.context.identities.of(&call.access_key_id).arn;
        let input = &call.input;
        // A resource that is created with tags takes the permission to tag it.
        let creates = matches!(call.operation.as_str(), "RegisterTaskDefinition" | "RunTask");
        if creates && !input["tags"].is_null() {
            self.context.authorize_action(call, "ecs:TagResource")?;
        }
        self.at(&call.account, &call.region, |region, world, now| match call.operation.as_str() {
            "CreateCluster" => region.create_cluster(world, input),
            "DescribeClusters" => region.describe_clusters(world, input),
            "ListClusters" => region.list_clusters(world, input),
            "ListContainerInstances" => region.list_container_instances(input),
            "DescribeContainerInstances" => region.describe_container_instances(world, input),
            "DescribeCapacityProviders" => region.describe_capacity_providers(world, input),
            "RegisterTaskDefinition" => region.definitions.register(&world.place, &by, now, input),
            "DescribeTaskDefinition" => region.definitions.describe(input),
            "ListTaskDefinitions" => region.definitions.list(input),
            "DeregisterTaskDefinition" => region.definitions.deregister(now, input),
            "CreateService" => region.create_service(world, &by, now, input),
            "DescribeServices" => region.describe_services(world, input),
            "ListServices" => region.list_services(world, input),
            "UpdateService" => region.update_service(world, now, input),
            "DeleteService" => region.delete_service(world, now, input),
            "ListServiceDeployments" => region.list_service_deployments(world, input),
            "DescribeServiceDeployments" => region.describe_service_deployments(world, input),
            "DescribeServiceRevisions" => region.describe_service_revisions(world, input),
            "StopServiceDeployment" => region.stop_service_deployment(world, now, input),
            "ContinueServiceDeployment" => region.continue_service_deployment(world, now, input),
            "ListTasks" => region.list_tasks(now, input),
            "DescribeTasks" => region.describe_tasks(world, now, input),
            "RunTask" => region.run_task(world, now, input),
            "StopTask" => region.stop_task(world, now, input),
            "ListTagsForResource" => region.list_tags_for_resource(input),
            _ => Err(call.unknown()),
        })
    }
}
