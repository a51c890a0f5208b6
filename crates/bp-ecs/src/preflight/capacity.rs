//! Whether the cluster's container instances have room for one more task, for services on EC2.

use aws_sdk_ecs::types::{
    CapacityProvider, CapacityProviderStatus, ContainerInstance, ContainerInstanceStatus, LaunchType,
    ManagedScalingStatus, Service,
};
use bp_artifact::deploy::{
    Cause,
    preflight::{Finding, FindingState},
};

use super::room::Room;
use crate::{
    api::Api,
    definition::{Demand, TaskDefinition},
    error::Error,
    names::name_of,
};

/// The maximum number of capacity providers per page of a response.
const PROVIDERS: usize = 10;
/// The maximum number of container instances per call.
const INSTANCES: i32 = 100;
/// How many pages of container instances are searched for room.
const PAGES: usize = 10;

/// The findings about the number of tasks and where they run.
pub(super) async fn check(api: &Api, service: &Service, wanted: &TaskDefinition) -> Vec<Finding> {
    let Some(room) = Room::of(service) else { return Vec::new() };
    let mut findings = vec![room.finding(service.running_count)];
    let mut instances = service.launch_type == Some(LaunchType::Ec2);
    let names = providers(service);
    if !names.is_empty() {
        match api.capacity_providers(&names).await {
            Ok(found) => {
                let (about, scales) = about_providers(&names, &found);
                findings.extend(about);
                instances = !scales;
            }
            Err(error) => findings.push(unknown(format!("capacity provider {}", names.join(", ")), &error)),
        }
    }
    if instances && room.starts_first() {
        findings.push(room_for_one(api, &names, wanted).await);
    }
    findings
}

fn unknown(subject: String, error: &Error) -> Finding {
    Finding::new(subject, FindingState::Unknown, error.in_one_line())
}

/// The capacity providers of the service, except those of Fargate, which has no container instances.
fn providers(service: &Service) -> Vec<String> {
    let names = service.capacity_provider_strategy().iter().map(|item| item.capacity_provider.clone());
    names.filter(|name| !name.starts_with("FARGATE")).collect()
}

/// The findings about capacity providers, and whether one of them adds container instances when tasks need them.
fn about_providers(names: &[String], found: &[CapacityProvider]) -> (Vec<Finding>, bool) {
    let mut scales = false;
    let about = |name: &String| {
        let subject = format!("capacity provider {name}");
        let is_named = |provider: &&CapacityProvider| provider.name.as_deref() == Some(name_of(name));
        let Some(provider) = found.iter().find(is_named) else {
            let message = "is not associated with the cluster, so it may not place tasks; associate it, or correct the \
                           service's capacityProviderStrategy";
            return Finding::new(subject, FindingState::Warning, message).cause(Cause::Unschedulable);
        };
        match &provider.status {
            None | Some(CapacityProviderStatus::Active) => {}
            Some(status) => {
                let message = format!("is {}, so it may not place tasks", status.as_str());
                return Finding::new(subject, FindingState::Warning, message);
            }
        }
        let managed = provider.auto_scaling_group_provider.as_ref().and_then(|p| p.managed_scaling.as_ref());
        let is_managed = managed.is_some_and(|m| m.status == Some(ManagedScalingStatus::Enabled))
            || provider.managed_instances_provider.is_some();
        scales |= is_managed;
        let message =
            if is_managed { "adds instances when tasks need them" } else { "does not scale by itself" };
        Finding::new(subject, FindingState::Present, message)
    };
    let findings = names.iter().map(about).collect();
    (findings, scales)
}

/// Whether a container instance has room for one more task. Placement constraints and GPUs are not evaluated.
async fn room_for_one(api: &Api, providers: &[String], wanted: &TaskDefinition) -> Finding {
    let demand = wanted.demand();
    let subject = format!("container instances of cluster {}", name_of(&api.cluster.name));
    let (mut token, mut seen) = (None, 0);
    for _ in 0..PAGES {
        let (instances, next) = match api.container_instances(token).await {
            Ok(page) => page,
            Err(error) => return unknown(subject, &error),
        };
        let ours = instances.iter().filter(|instance| is_of(instance, providers));
        let (fitting, others): (Vec<_>, Vec<_>) = ours.partition(|instance| fits(instance, &demand));
        if !fitting.is_empty() {
            return Finding::new(subject, FindingState::Present, format!("room for {}", one_task(&demand)));
        }
        seen += others.len();
        token = next;
        if token.is_none() {
            let message = format!(
                "none of {seen} has room for {}, and minimumHealthyPercent keeps all running tasks until a new one \
                 runs; add an instance, or lower minimumHealthyPercent",
                one_task(&demand)
            );
            return Finding::new(subject, FindingState::Warning, message).cause(Cause::Unschedulable);
        }
    }
    let message = format!("none of the first {seen} has room for {}", one_task(&demand));
    Finding::new(subject, FindingState::Unknown, message)
}

fn one_task(Demand { cpu, memory, ports }: &Demand) -> String {
    let ports: Vec<String> = ports.iter().map(u64::to_string).collect();
    let ports = if ports.is_empty() { String::new() } else { format!(", host port {}", ports.join(", ")) };
    format!("one more task ({cpu} CPU units, {memory} MiB{ports})")
}

/// Whether the instance belongs to one of the capacity providers, if the service has any.
fn is_of(instance: &ContainerInstance, providers: &[String]) -> bool {
    let is_named = |name: &String| providers.contains(name);
    providers.is_empty() || instance.capacity_provider_name.as_ref().is_some_and(is_named)
}

/// Whether the instance accepts tasks and has this much left.
fn fits(instance: &ContainerInstance, demand: &Demand) -> bool {
    let resource = |name: &str| {
        instance.remaining_resources().iter().find(|resource| resource.name.as_deref() == Some(name))
    };
    let left = |name: &str| {
        resource(name).and_then(|resource| u64::try_from(resource.integer_value).ok()).unwrap_or(0)
    };
    let used = resource("PORTS").map(|ports| ports.string_set_value()).unwrap_or_default();
    let is_free = |port: &u64| !used.iter().any(|taken| *taken == port.to_string());
    instance.agent_connected
        && left("CPU") >= demand.cpu
        && left("MEMORY") >= demand.memory
        && demand.ports.iter().all(is_free)
}

impl Api {
    /// `ecs:DescribeCapacityProviders`. Those of ECS Managed Instances are found only with their cluster.
    async fn capacity_providers(&self, names: &[String]) -> Result<Vec<CapacityProvider>, Error> {
        let mut found = Vec::with_capacity(names.len());
        for some in names.chunks(PROVIDERS) {
            let call = self.client().describe_capacity_providers().cluster(&self.cluster.name);
            let call = call.set_capacity_providers(Some(some.to_vec()));
            let response = call.send().await.map_err(|e| self.error("ecs:DescribeCapacityProviders", e))?;
            found.extend(response.capacity_providers.unwrap_or_default());
        }
        Ok(found)
    }

    /// `ecs:ListContainerInstances` and `ecs:DescribeContainerInstances`: a page of the active instances, and the token
    /// of the next one.
    async fn container_instances(
        &self,
        token: Option<String>,
    ) -> Result<(Vec<ContainerInstance>, Option<String>), Error> {
        let cluster = &self.cluster.name;
        let call = self.client().list_container_instances().cluster(cluster).max_results(INSTANCES);
        let call = call.status(ContainerInstanceStatus::Active).set_next_token(token);
        let listed = call.send().await.map_err(|e| self.error("ecs:ListContainerInstances", e))?;
        let arns = listed.container_instance_arns.unwrap_or_default();
        if arns.is_empty() {
            return Ok((Vec::new(), listed.next_token));
        }
        let call = self.client().describe_container_instances().cluster(cluster);
        let described = call.set_container_instances(Some(arns)).send().await;
        let described = described.map_err(|e| self.error("ecs:DescribeContainerInstances", e))?;
        Ok((described.container_instances.unwrap_or_default(), listed.next_token))
    }
}
