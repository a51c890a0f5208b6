//! The API's view of a task.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    names::{Place, epoch},
    platform::Platform,
    service::Service,
    task::{Failure, Task},
};

impl Task {
    fn status(&self, now: Timestamp) -> &'static str {
        match now {
            now if self.is_stopped(now) => "STOPPED",
            now if self.is_stopping(now) => "DEPROVISIONING",
            now if now >= self.started => "RUNNING",
            now if now >= self.pulling => "PENDING",
            _ => "PROVISIONING",
        }
    }

    fn health(&self, now: Timestamp, checked: bool) -> &'static str {
        match checked {
            true if self.is_healthy(now) => "HEALTHY",
            true if self.is_stopping(now) && self.failure == Some(Failure::Unhealthy) => "UNHEALTHY",
            _ => "UNKNOWN",
        }
    }

    /// The API's view.
    pub(super) fn view(&self, place: &Place, service: &Service) -> Value {
        let (cluster, now, platform) = (&service.cluster, service.clock, service.platform());
        let status = self.status(now);
        let stopped = self.is_stopped(now);
        let container_status = match status {
            "STOPPED" | "RUNNING" => status,
            "DEPROVISIONING" => "STOPPED",
            _ => "PENDING",
        };
        let mut containers: Vec<Value> = self
            .containers
            .iter()
            .map(|container| {
                let mut view = json!({
                    "containerArn": place.arn(&format!("container/{cluster}/{}/{}", self.id, container.name)),
                    "taskArn": self.arn,
                    "name": container.name,
                    "image": container.image,
                    "lastStatus": container_status,
                    "networkInterfaces": [],
                    "healthStatus": self.health(now, container.checked),
                    "cpu": "0",
                });
                if now >= self.started
                    && let Some(digest) = &container.digest
                {
                    view["imageDigest"] = json!(digest);
                    view["runtimeId"] = json!(format!("{}-{}", self.id, container.name));
                }
                if self.is_stopping(now) {
                    view["exitCode"] = json!(container.exit);
                    view["reason"] = json!(container.reason);
                    prune(&mut view);
                }
                view
            })
            .collect();
        containers.extend(self.injected.iter().map(|injected| injected.view(&self.arn, container_status)));
        let checked = self.containers.iter().any(|c| c.checked);
        let mut view = json!({
            "taskArn": self.arn,
            "clusterArn": place.arn(&format!("cluster/{cluster}")),
            "taskDefinitionArn": self.definition.arn,
            "containers": containers,
            "attachments": [],
            "attributes": [],
            "overrides": { "containerOverrides": [], "inferenceAcceleratorOverrides": [] },
            "tags": [],
            "cpu": self.definition.view["cpu"],
            "memory": self.definition.view["memory"],
            "createdAt": epoch(self.created),
            "pullStartedAt": (now >= self.pulling).then(|| epoch(self.pulling)),
            "startedAt": (now >= self.started && self.exited_after_start()).then(|| epoch(self.started)),
            "startedBy": format!("ecs-svc/{}", self.deployment),
            "group": format!("service:{}", service.name),
            "launchType": platform.launch_type(&service.spec),
            "availabilityZone": format!("{}a", place.region),
            "connectivity": "CONNECTED",
            "enableExecuteCommand": false,
            "healthStatus": self.health(now, checked),
            "desiredStatus": if self.is_stopping(now) { "STOPPED" } else { "RUNNING" },
            "lastStatus": status,
            "version": 1 + self.turns().filter(|at| *at <= now).count(),
        });
        match platform {
            Platform::Fargate => {
                view["platformVersion"] = json!("1.4.0");
                view["platformFamily"] = json!("Linux");
            }
            Platform::Instances => {
                let instance = place.arn(&format!("container-instance/{cluster}/{}", self.id));
                view["containerInstanceArn"] = json!(instance);
            }
        }
        if let Some(stop) = self.stop.as_ref().filter(|stop| stop.at <= now) {
            view["stopCode"] = json!(stop.code);
            view["stoppedReason"] = json!(stop.reason);
            view["stoppingAt"] = epoch(stop.at);
            view["executionStoppedAt"] = epoch(stop.at);
            view["stoppedAt"] = json!(stopped.then(|| epoch(stop.done)));
        }
        prune(&mut view);
        view
    }
}

/// Removes members without a value, which the API omits.
pub(super) fn prune(view: &mut Value) {
    if let Some(map) = view.as_object_mut() {
        map.retain(|_, value| !value.is_null());
    }
}
