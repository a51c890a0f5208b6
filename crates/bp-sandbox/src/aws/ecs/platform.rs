//! Where tasks run: Fargate, or instances with the ECS agent, whose messages differ.

use serde_json::{Map, Value, json};

use crate::runtime::PullError;

/// Where the tasks of a service run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Platform {
    Fargate,
    /// Container instances: EC2, ECS Anywhere or Managed Instances.
    Instances,
}

/// Why a task did not start: the reason of the task, and that of the container whose image was not pulled.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PullFailure {
    pub(super) task: String,
    pub(super) container: String,
}

impl Platform {
    /// The platform of a service with these settings.
    pub(super) fn of(spec: &Map<String, Value>) -> Platform {
        let fargate = match provider(spec) {
            Some(provider) => provider.starts_with("FARGATE"),
            None => spec.get("launchType").is_none_or(|launch_type| launch_type == "FARGATE"),
        };
        if fargate { Platform::Fargate } else { Platform::Instances }
    }

    /// The launch type of a task.
    pub(super) fn launch_type(self, spec: &Map<String, Value>) -> Value {
        let default = match self {
            Platform::Fargate => "FARGATE",
            Platform::Instances => "EC2",
        };
        let given = spec.get("launchType").filter(|_| provider(spec).is_none());
        given.cloned().unwrap_or_else(|| json!(default))
    }

    /// Adds the launch type or the capacity providers to the view of a service or of its revision, and on Fargate the
    /// version of the platform.
    pub(super) fn show(self, spec: &Map<String, Value>, version: &str, view: &mut Value) {
        match spec.get("capacityProviderStrategy").filter(|_| provider(spec).is_some()) {
            Some(strategy) => view["capacityProviderStrategy"] = strategy.clone(),
            None => view["launchType"] = self.launch_type(spec),
        }
        if self == Platform::Fargate {
            view["platformVersion"] = spec.get("platformVersion").cloned().unwrap_or_else(|| json!(version));
            view["platformFamily"] = json!("Linux");
        }
    }

    /// The message for a secret that cannot be read; `failure` is Fargate's description of it.
    pub(super) fn missing_secret(self, region: &str, failure: &str) -> String {
        let error = failure.split_once("time(s): ").map_or(failure, |(_, error)| error);
        match self {
            Platform::Fargate => format!(
                "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval \
                 failed: {failure}"
            ),
            Platform::Instances if failure.contains("from asm") => {
                let error = error.trim_start_matches("failed to fetch secret ");
                let error = error.replacen(" from secrets manager", "", 1);
                format!("Fetching secret data from AWS Secrets Manager in region {region}: secret {error}")
            }
            Platform::Instances => {
                format!("Fetching secret data from SSM Parameter Store in {region}: {error}")
            }
        }
    }

    /// The messages for an image that cannot be pulled.
    pub(super) fn cannot_pull(self, image: &str, error: PullError, architecture: &str) -> PullFailure {
        const RETRIED: &str = "CannotPullContainerError: pull image manifest has been retried 7 time(s):";
        const DAEMON: &str = "Error response from daemon:";
        let container = match (self, error) {
            (Platform::Fargate, PullError::NotFound) => {
                format!("{RETRIED} failed to resolve ref {image}: {image}: not found")
            }
            (Platform::Fargate, PullError::NoPlatform) => format!(
                "{RETRIED} image Manifest does not contain descriptor matching platform 'linux/{architecture}'"
            ),
            (Platform::Fargate, PullError::Malformed) => {
                format!("CannotPullContainerError: invalid reference format: {image}")
            }
            (Platform::Instances, PullError::NotFound) => {
                format!("CannotPullImageManifestError: {DAEMON} manifest unknown: manifest unknown")
            }
            (Platform::Instances, PullError::NoPlatform) => format!(
                "CannotPullContainerError: {DAEMON} no matching manifest for linux/{architecture} in the manifest \
                 list entries"
            ),
            (Platform::Instances, PullError::Malformed) => {
                format!("CannotPullContainerError: {DAEMON} invalid reference format")
            }
        };
        let task = match self {
            Platform::Fargate => container.clone(),
            Platform::Instances => "Task failed to start".to_owned(),
        };
        PullFailure { task, container }
    }
}

/// The first capacity provider of a service. Its strategy takes precedence over a launch type.
fn provider(spec: &Map<String, Value>) -> Option<&str> {
    spec.get("capacityProviderStrategy")?.get(0)?.get("capacityProvider")?.as_str()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(spec: Value) -> Platform {
        Platform::of(spec.as_object().unwrap())
    }

    #[test]
    fn the_platform_is_that_of_the_launch_type_or_capacity_provider() {
        let provider = |name: &str| json!({ "capacityProviderStrategy": [{ "capacityProvider": name }] });
        assert_eq!(of(json!({})), Platform::Fargate);
        assert_eq!(of(json!({ "launchType": "FARGATE" })), Platform::Fargate);
        assert_eq!(of(provider("FARGATE_SPOT")), Platform::Fargate);
        assert_eq!(of(provider("on-demand")), Platform::Instances);
        for launch_type in ["EC2", "EXTERNAL", "MANAGED_INSTANCES"] {
            assert_eq!(of(json!({ "launchType": launch_type })), Platform::Instances);
        }
    }
}
