//! Containers that AWS adds to tasks, which no task definition has.

use serde_json::{Value, json};

use super::names::word_id;

/// A container that AWS adds to every task of a service, such as the agent of GuardDuty.
///
/// Its failure does not stop a task. With a [reason](Self::reason), the description of every task contains a container
/// that did not start and that is unrelated to the end of the task.
#[derive(Debug, Clone)]
pub struct InjectedContainer {
    prefix: &'static str,
    image: &'static str,
    reason: Option<String>,
}

impl InjectedContainer {
    /// The agent of GuardDuty Runtime Monitoring.
    pub fn guard_duty() -> Self {
        InjectedContainer {
            prefix: "aws-guardduty-agent",
            image: "public.ecr.aws/aws-guardduty-agent-fargate:latest",
            reason: None,
        }
    }

    /// The proxy of Service Connect.
    pub fn service_connect() -> Self {
        InjectedContainer {
            prefix: "ecs-service-connect",
            image: "public.ecr.aws/appmesh/aws-appmesh-envoy:latest",
            reason: None,
        }
    }

    /// The container does not start, for this reason.
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    pub(super) fn is_guard_duty(&self) -> bool {
        self.prefix == "aws-guardduty-agent"
    }

    /// The container as added to one task.
    pub(super) fn add(&self) -> Injected {
        let id = word_id().split_off(15);
        Injected {
            name: format!("{}-{id}", self.prefix),
            image: self.image.to_owned(),
            reason: self.reason.clone(),
        }
    }
}

/// An injected container of one task.
#[derive(Debug, Clone)]
pub(super) struct Injected {
    name: String,
    image: String,
    reason: Option<String>,
}

impl Injected {
    /// One of a task's `containers[]`. `status` is that of the task's own containers.
    pub(super) fn view(&self, task: &str, status: &str) -> Value {
        let mut view = json!({
            "taskArn": task,
            "name": self.name,
            "image": self.image,
            "lastStatus": status,
            "networkInterfaces": [],
            "healthStatus": "UNKNOWN",
            "cpu": "0",
        });
        match (&self.reason, status) {
            (Some(_), "PENDING") => {}
            (Some(reason), _) => {
                view["lastStatus"] = json!("STOPPED");
                view["reason"] = json!(reason);
            }
            (None, "STOPPED") => view["exitCode"] = json!(0),
            (None, _) => {}
        }
        view
    }
}
