//! Convert a failure limit in percent to a number of tasks or pods.

use std::num::NonZeroU32;

use bp_artifact::config::{EcsConfig, FailureLimit, Workload, WorkloadKind};
use kube::{
    Api,
    api::{ApiResource, DynamicObject, GroupVersionKind},
};

use crate::Failure;

/// The limit as a number of tasks, from the desired count of the service.
pub(super) async fn tasks(
    limit: FailureLimit,
    client: &aws_sdk_ecs::Client,
    ecs: &EcsConfig,
) -> Result<NonZeroU32, Failure> {
    let FailureLimit::Percent(_) = limit else { return Ok(limit.of(0)) };
    let response = client.describe_services().cluster(&ecs.cluster).services(&ecs.service).send().await;
    let response = response.map_err(|error| {
        Failure::unavailable(format!(
            "cannot read the desired count of ECS service {}: {}",
            ecs.service,
            bp_artifact::error::chain(&error)
        ))
    })?;
    // A service that does not exist is reported by the deployment.
    let desired = response.services().first().map_or(0, |service| service.desired_count());
    Ok(limit.of(u32::try_from(desired).unwrap_or(0)))
}

/// The limit as a number of pods, from the desired replicas of the workload.
pub(super) async fn pods(
    limit: FailureLimit,
    client: &kube::Client,
    namespace: &str,
    workload: &Workload,
) -> Result<NonZeroU32, Failure> {
    let FailureLimit::Percent(_) = limit else { return Ok(limit.of(0)) };
    let (group, kind, pointer) = match workload.kind {
        WorkloadKind::Deployment => ("apps", "Deployment", "/spec/replicas"),
        WorkloadKind::StatefulSet => ("apps", "StatefulSet", "/spec/replicas"),
        WorkloadKind::DaemonSet => ("apps", "DaemonSet", "/status/desiredNumberScheduled"),
        WorkloadKind::Job => ("batch", "Job", "/spec/parallelism"),
        // It has no pods of its own.
        WorkloadKind::CronJob => return Ok(limit.of(1)),
    };
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let found = api.get_opt(&workload.name).await.map_err(|error| {
        Failure::unavailable(format!(
            "cannot read the desired replicas of {workload}: {}",
            bp_artifact::error::chain(&error)
        ))
    })?;
    let desired = found.and_then(|object| object.data.pointer(pointer)?.as_u64()).unwrap_or(1);
    Ok(limit.of(u32::try_from(desired).unwrap_or(u32::MAX)))
}
