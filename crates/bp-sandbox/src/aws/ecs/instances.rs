//! Container instances and capacity providers, as described by the API. Tasks are not placed on them: the remaining
//! resources are those that a test sets.

use serde_json::{Value, json};

use super::{EcsHandle, Region, names::name_of, names::page, world::World};
use crate::aws::wire::{Answer, ApiError, text, texts};

impl Region {
    pub(super) fn list_container_instances(&mut self, input: &Value) -> Answer {
        let (_, cluster) = self.cluster(input)?;
        let status = text(input, "status");
        let listed =
            cluster.instances.iter().filter(|instance| status.is_empty() || instance["status"] == status);
        let arns: Vec<Value> = listed.map(|instance| instance["containerInstanceArn"].clone()).collect();
        let size = input["maxResults"].as_u64().unwrap_or(100).min(100) as usize;
        let (arns, next) = page(arns, text(input, "nextToken"), size);
        let mut answer = json!({ "containerInstanceArns": arns });
        if let Some(next) = next {
            answer["nextToken"] = json!(next);
        }
        Ok(answer)
    }

    pub(super) fn describe_container_instances(&mut self, world: &World<'_>, input: &Value) -> Answer {
        let asked = texts(input, "containerInstances");
        if asked.is_empty() || asked.len() > 100 {
            let message = "Container instances must have between 1 and 100 elements.";
            return Err(ApiError::new(400, "InvalidParameterException", message));
        }
        let (name, cluster) = self.cluster(input)?;
        let (mut found, mut failures) = (Vec::new(), Vec::new());
        for reference in asked {
            let id = name_of(reference);
            let is_asked = |instance: &&Value| name_of(text(instance, "containerInstanceArn")) == id;
            match cluster.instances.iter().find(is_asked) {
                Some(instance) => found.push(instance.clone()),
                None => {
                    let arn = world.place.arn(&format!("container-instance/{name}/{id}"));
                    failures.push(json!({ "arn": arn, "reason": "MISSING" }));
                }
            }
        }
        Ok(json!({ "containerInstances": found, "failures": failures }))
    }

    pub(super) fn describe_capacity_providers(&self, world: &World<'_>, input: &Value) -> Answer {
        let asked = texts(input, "capacityProviders");
        let (mut found, mut failures) = (Vec::new(), Vec::new());
        for name in asked.iter().map(|reference| name_of(reference)) {
            match self.capacity_providers.iter().find(|provider| provider["name"] == name) {
                Some(provider) => found.push(provider.clone()),
                None => {
                    let arn = world.place.arn(&format!("capacity-provider/{name}"));
                    failures.push(json!({ "arn": arn, "reason": "MISSING" }));
                }
            }
        }
        if asked.is_empty() {
            found.clone_from(&self.capacity_providers);
        }
        Ok(json!({ "capacityProviders": found, "failures": failures }))
    }
}

impl EcsHandle {
    /// Registers a container instance with this much CPU (units) and memory (MiB) left, and returns its ARN. `members`
    /// are further members of its description, such as `capacityProviderName`, or replace others.
    ///
    /// # Panics
    /// When the cluster does not exist.
    pub fn container_instance(&self, cluster: &str, cpu: u64, memory: u64, members: &Value) -> String {
        self.at(|region, world, _| {
            let input = json!({ "cluster": cluster });
            let (name, cluster) = region.cluster(&input).expect("the cluster exists");
            let id = format!("{:032x}", cluster.instances.len() + 1);
            let arn = world.place.arn(&format!("container-instance/{name}/{id}"));
            let integer = |name: &str, value: u64| json!({ "name": name, "type": "INTEGER", "integerValue": value });
            let ports = json!({ "name": "PORTS", "type": "STRINGSET", "stringSetValue": ["22", "2375", "2376", "51678"] });
            let resources = json!([integer("CPU", cpu), integer("MEMORY", memory), ports]);
            let mut instance = json!({
                "containerInstanceArn": arn,
                "ec2InstanceId": format!("i-{}", &id[15..]),
                "status": "ACTIVE",
                "agentConnected": true,
                "runningTasksCount": 0,
                "pendingTasksCount": 0,
                "remainingResources": resources,
                "registeredResources": resources,
            });
            for (member, value) in members.as_object().into_iter().flatten() {
                instance[member] = value.clone();
            }
            cluster.instances.push(instance);
            arn
        })
    }

    /// Creates a capacity provider of an Auto Scaling group, with or without managed scaling.
    pub fn capacity_provider(&self, name: &str, managed_scaling: bool) -> &Self {
        self.at(|region, world, _| {
            let scaling = if managed_scaling { "ENABLED" } else { "DISABLED" };
            let group = format!(
                "arn:aws:autoscaling:{}:{}:autoScalingGroup:0:autoScalingGroupName/{name}",
                world.place.region, world.place.account
            );
            region.capacity_providers.push(json!({
                "capacityProviderArn": world.place.arn(&format!("capacity-provider/{name}")),
                "name": name,
                "status": "ACTIVE",
                "autoScalingGroupProvider": {
                    "autoScalingGroupArn": group,
                    "managedScaling": { "status": scaling },
                },
            }));
        });
        self
    }
}
