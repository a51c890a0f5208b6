//! Limitations of ECS Anywhere, checked before anything is changed.

use aws_sdk_ecs::types::{DeploymentStrategy, LaunchType, Service};
use serde_json::Value;

use crate::{definition::TaskDefinition, error::Error};

/// Returns an error if the service's launch type does not support the service's settings or the definition.
///
/// Source: <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs-anywhere.html>
pub(crate) fn check(service: &Service, definition: &TaskDefinition) -> Result<(), Error> {
    let Some(launch_type @ LaunchType::External) = &service.launch_type else { return Ok(()) };
    let limits = external(service, definition);
    if limits.is_empty() {
        return Ok(());
    }
    Err(Error::LaunchTypeLimits {
        service: service.service_name.clone().unwrap_or_default(),
        launch_type: launch_type.as_str().to_owned(),
        limits,
    })
}

fn external(service: &Service, definition: &TaskDefinition) -> Vec<String> {
    let json = definition.as_json();
    let text = |field: &str| json.get(field).and_then(Value::as_str);
    let items = |field: &str| json.get(field).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut limits = Vec::new();
    let mut unsupported = |used: bool, what: &str| {
        if used {
            limits.push(what.to_owned());
        }
    };
    unsupported(!service.load_balancers().is_empty(), "load balancers (loadBalancers)");
    unsupported(!service.service_registries().is_empty(), "service discovery (serviceRegistries)");
    unsupported(
        !service.capacity_provider_strategy().is_empty(),
        "capacity providers (capacityProviderStrategy)",
    );
    let strategy = service.deployment_configuration.as_ref().and_then(|c| c.strategy.as_ref());
    unsupported(
        strategy.is_some_and(|strategy| *strategy != DeploymentStrategy::Rolling),
        "deployment strategies other than ROLLING (strategy)",
    );
    unsupported(text("networkMode") == Some("awsvpc"), "the network mode awsvpc: use bridge, host or none");
    unsupported(json.contains_key("proxyConfiguration"), "App Mesh (proxyConfiguration)");
    unsupported(
        items("volumes").iter().any(|volume| !volume["efsVolumeConfiguration"].is_null()),
        "EFS volumes (efsVolumeConfiguration)",
    );
    let required = items("requiresCompatibilities");
    unsupported(
        !required.is_empty() && !required.iter().any(|wanted| wanted == "EXTERNAL"),
        "definitions without EXTERNAL in requiresCompatibilities: add it",
    );
    limits
}

#[cfg(test)]
mod tests {
    use aws_sdk_ecs::types::{DeploymentConfiguration, LoadBalancer};
    use serde_json::json;

    use super::*;

    fn definition(fields: Value) -> TaskDefinition {
        let mut json = json!({ "family": "web", "containerDefinitions": [{ "name": "web", "image": "i" }] });
        json.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        TaskDefinition::from_json("test", &json.to_string()).unwrap()
    }

    fn service() -> aws_sdk_ecs::types::builders::ServiceBuilder {
        Service::builder().service_name("web").launch_type(LaunchType::External)
    }

    #[test]
    fn lists_every_limitation_of_ecs_anywhere() {
        let strategy = DeploymentConfiguration::builder().strategy(DeploymentStrategy::BlueGreen).build();
        let asking = service()
            .load_balancers(LoadBalancer::builder().build())
            .deployment_configuration(strategy)
            .build();
        let definition = definition(json!({
            "networkMode": "awsvpc",
            "requiresCompatibilities": ["FARGATE"],
            "volumes": [{ "name": "v", "efsVolumeConfiguration": { "fileSystemId": "fs" } }],
        }));
        let error = check(&asking, &definition).unwrap_err().to_string();
        for part in ["EXTERNAL", "load balancers", "ROLLING", "awsvpc", "EFS", "requiresCompatibilities"] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }

    #[test]
    fn accepts_supported_features_and_other_launch_types() {
        let plain = definition(json!({ "networkMode": "bridge", "requiresCompatibilities": ["EXTERNAL"] }));
        check(&service().build(), &plain).unwrap();
        let fargate = Service::builder().launch_type(LaunchType::Fargate).build();
        check(&fargate, &definition(json!({ "networkMode": "awsvpc" }))).unwrap();
    }
}
