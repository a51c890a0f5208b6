//! What a task requires of a container instance: CPU units, memory and host ports.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{TaskDefinition, normal::units};

/// What one task requires of a container instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Demand {
    /// CPU units.
    pub(crate) cpu: u64,
    /// MiB.
    pub(crate) memory: u64,
    /// Fixed host ports of TCP.
    pub(crate) ports: BTreeSet<u64>,
}

impl TaskDefinition {
    /// The size of the task, or else the sum of its containers, of which a soft memory limit counts first; and the host
    /// ports that it reserves.
    pub(crate) fn demand(&self) -> Demand {
        let sum = |size: fn(&Value) -> Option<u64>| self.containers().iter().filter_map(size).sum();
        let of_task = |member: &str| self.input.get(member).and_then(units);
        Demand {
            cpu: of_task("cpu").unwrap_or_else(|| sum(|c| units(&c["cpu"]))),
            memory: of_task("memory")
                .unwrap_or_else(|| sum(|c| units(&c["memoryReservation"]).or_else(|| units(&c["memory"])))),
            ports: self.host_ports(),
        }
    }

    fn host_ports(&self) -> BTreeSet<u64> {
        let is_host = match self.input.get("networkMode").and_then(Value::as_str) {
            Some("host") => true,
            Some("bridge") | None => false,
            Some(_) => return BTreeSet::new(),
        };
        let mappings = self.containers().iter().filter_map(|c| c["portMappings"].as_array()).flatten();
        let tcp = mappings.filter(|mapping| mapping["protocol"].as_str().is_none_or(|name| name == "tcp"));
        let port = |mapping: &Value| match mapping["hostPort"].as_u64() {
            Some(port) => Some(port),
            None if is_host => mapping["containerPort"].as_u64(),
            None => None,
        };
        tcp.filter_map(port).filter(|port| *port > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn demand(definition: Value) -> Demand {
        TaskDefinition::from_json("test", &definition.to_string()).unwrap().demand()
    }

    #[test]
    fn prefers_the_size_of_the_task_to_the_sum_of_its_containers() {
        let containers = json!([
            { "name": "a", "image": "i", "cpu": 100, "memory": 300, "memoryReservation": 200 },
            { "name": "b", "image": "i", "cpu": 28, "memory": 56 },
        ]);
        let sum = demand(json!({ "family": "web", "containerDefinitions": containers }));
        assert_eq!((sum.cpu, sum.memory), (128, 256));
        let task =
            json!({ "family": "web", "containerDefinitions": containers, "cpu": ".5 vCPU", "memory": "1GB" });
        let task = demand(task);
        assert_eq!((task.cpu, task.memory), (512, 1024));
    }

    #[test]
    fn only_fixed_ports_of_the_host_are_required() {
        let ports = |mode: Option<&str>| {
            let mappings = json!([
                { "containerPort": 80, "hostPort": 8080 }, { "containerPort": 81, "hostPort": 0 },
                { "containerPort": 82 }, { "containerPort": 53, "hostPort": 53, "protocol": "udp" },
            ]);
            let container = json!([{ "name": "a", "image": "i", "portMappings": mappings }]);
            let mut definition = json!({ "family": "web", "containerDefinitions": container });
            if let Some(mode) = mode {
                definition["networkMode"] = json!(mode);
            }
            demand(definition).ports.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(ports(None), [8080]);
        assert_eq!(ports(Some("bridge")), [8080]);
        assert_eq!(ports(Some("host")), [82, 8080]);
        assert!(ports(Some("awsvpc")).is_empty());
    }
}
