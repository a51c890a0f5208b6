//! Tags of clusters, services, tasks and task definitions.

use serde_json::{Value, json};

use super::{Region, names::name_of};
use crate::aws::wire::{Answer, ApiError, text};

impl Region {
    pub(super) fn list_tags_for_resource(&mut self, input: &Value) -> Answer {
        let arn = text(input, "resourceArn");
        let invalid = || ApiError::new(400, "InvalidParameterException", format!("Invalid ARN: {arn}"));
        let missing = |what: &str| {
            ApiError::new(
                400,
                "InvalidParameterException",
                format!("The specified {what} was not found: {arn}"),
            )
        };
        let no_cluster = || ApiError::new(400, "ClusterNotFoundException", "Cluster not found.");
        let resource = arn.splitn(6, ':').nth(5).ok_or_else(invalid)?;
        let (kind, path) = resource.split_once('/').ok_or_else(invalid)?;
        let mut parts = path.split('/');
        let tags = match (kind, parts.next().unwrap_or_default()) {
            ("task-definition", _) => {
                let described =
                    self.definitions.describe(&json!({ "taskDefinition": arn, "include": ["TAGS"] }));
                described.map_err(|_| missing("task definition"))?["tags"].clone()
            }
            ("cluster", cluster) => self.clusters.get(cluster).ok_or_else(no_cluster)?.tags.clone(),
            ("service", cluster) => {
                let cluster = self.clusters.get(cluster).ok_or_else(no_cluster)?;
                let service = cluster.services.iter().rev().find(|service| service.name == name_of(path));
                let service = service.ok_or_else(|| missing("service"))?;
                service.spec.get("tags").cloned().unwrap_or(Value::Null)
            }
            ("task", cluster) => {
                let name = cluster;
                let cluster = self.clusters.get(name).ok_or_else(no_cluster)?;
                match cluster.tasks.iter().find(|task| task.task.arn == arn) {
                    Some(task) => json!(task.tags(name)),
                    None => {
                        let mut tasks = cluster.services.iter().flat_map(|service| &service.tasks);
                        tasks.find(|task| task.arn == arn).ok_or_else(|| missing("task"))?;
                        Value::Null
                    }
                }
            }
            _ => return Err(invalid()),
        };
        Ok(json!({ "tags": if tags.is_null() { json!([]) } else { tags } }))
    }
}
