//! Amazon ECS: task definitions, services and their deployments, tasks.
//!
//! A model of the control plane, driven by the clock: what an image does is decided by its
//! [`Behaviour`](crate::Behaviour), what follows from it by a scheduler that knows minimum and maximum percent, the
//! circuit breaker, roll-backs, and the stages of blue/green, linear and canary deployments.

mod api;
mod definition;
mod handle;
mod names;
mod rollout;
mod scheduler;
mod secret;
mod service;
mod settings;
mod stages;
mod task;
mod view;

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

use jiff::Timestamp;
use serde_json::Value;

pub use self::handle::{EcsHandle, NewService, RunningContainer, ServiceHandle};
use self::{definition::Definitions, names::Place, service::Service};
use super::{
    Aws,
    wire::{Answer, Call},
};
use crate::sync::lock;

/// The state of the service, by account and region.
#[derive(Debug, Default)]
pub(super) struct Ecs(Mutex<BTreeMap<(String, String), Region>>);

/// One account's ECS in one region.
#[derive(Debug, Default)]
struct Region {
    clusters: BTreeMap<String, Cluster>,
    definitions: Definitions,
}

#[derive(Debug, Default)]
struct Cluster {
    /// In the order of their creation. A deleted one stays, and one of the same name may follow it.
    services: Vec<Service>,
}

/// What the model needs of the rest of the sandbox.
struct World<'a> {
    aws: &'a Aws,
    place: Place,
}

impl Ecs {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, String), Region>> {
        lock(&self.0)
    }

    /// Takes the region up to now and does something there.
    fn at<T>(
        &self,
        aws: &Aws,
        account: &str,
        region: &str,
        work: impl FnOnce(&mut Region, &World<'_>, Timestamp) -> T,
    ) -> T {
        let place = Place { account: account.to_owned(), region: region.to_owned() };
        let (world, now) = (World { aws, place }, aws.clock.now());
        let mut regions = self.lock();
        let region = regions.entry((account.to_owned(), region.to_owned())).or_default();
        for service in region.clusters.values_mut().flat_map(|cluster| &mut cluster.services) {
            service.advance(&world, now);
        }
        work(region, &world, now)
    }

    /// What a task has written to this stream of this group by now. `None` when no task writes there.
    pub(super) fn log(
        &self,
        aws: &Aws,
        account: &str,
        region: &str,
        group: &str,
        stream: &str,
    ) -> Option<Vec<(Timestamp, String)>> {
        self.at(aws, account, region, |region, _, now| {
            let services = region.clusters.values().flat_map(|cluster| &cluster.services);
            services.flat_map(|service| &service.tasks).find_map(|task| task.log(group, stream, now))
        })
    }

    pub(super) async fn call(&self, aws: &Aws, call: &Call) -> Answer {
        let by = aws.identity(&call.access_key_id).arn;
        let input = &call.input;
        // A resource that is created with tags takes the permission to tag it.
        if call.operation == "RegisterTaskDefinition" && !input["tags"].is_null() {
            aws.authorize_action(call, "ecs:TagResource")?;
        }
        self.at(aws, &call.account, &call.region, |region, world, now| match call.operation.as_str() {
            "CreateCluster" => region.create_cluster(world, input),
            "DescribeClusters" => region.describe_clusters(world, input),
            "ListClusters" => region.list_clusters(world, input),
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
            "ListTasks" => region.list_tasks(input),
            "DescribeTasks" => region.describe_tasks(world, input),
            _ => Err(call.unknown()),
        })
    }
}

/// A text member, empty when it is missing.
fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

/// A list of texts, empty when it is missing.
fn texts<'a>(value: &'a Value, field: &str) -> Vec<&'a str> {
    value[field].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}
