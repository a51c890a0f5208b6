//! What ECS Anywhere cannot do: found before anything is changed, not when the first task fails.

use aws_sdk_ecs::types::{DeploymentStrategy, LaunchType, Service};
use serde_json::Value;

use crate::{definition::TaskDefinition, error::Error};

/// Refuses a definition that the service's launch type cannot run, and a service that it cannot have.
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
    let mut without = |met: bool, what: &str| {
        if met {
            limits.push(what.to_owned());
        }
    };
    without(!service.load_balancers().is_empty(), "load balancers (loadBalancers)");
    without(!service.service_registries().is_empty(), "service discovery (serviceRegistries)");
    without(
        !service.capacity_provider_strategy().is_empty(),
        "capacity providers (capacityProviderStrategy)",
    );
    let strategy = service.deployment_configuration.as_ref().and_then(|c| c.strategy.as_ref());
    without(
        strategy.is_some_and(|strategy| *strategy != DeploymentStrategy::Rolling),
        "deployment strategies other than ROLLING (strategy)",
    );
    without(text("networkMode") == Some("awsvpc"), "the network mode awsvpc: use bridge, host or none");
    without(json.contains_key("proxyConfiguration"), "App Mesh (proxyConfiguration)");
    without(
        items("volumes").iter().any(|volume| !volume["efsVolumeConfiguration"].is_null()),
        "EFS volumes (efsVolumeConfiguration)",
    );
    let required = items("requiresCompatibilities");
    without(
        !required.is_empty() && !required.iter().any(|wanted| wanted == "EXTERNAL"),
        "a definition that was not validated for it: add EXTERNAL to requiresCompatibilities",
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
    fn every_limit_of_ecs_anywhere_is_named() {
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
        let said = check(&asking, &definition).unwrap_err().to_string();
        for part in ["EXTERNAL", "load balancers", "ROLLING", "awsvpc", "EFS", "requiresCompatibilities"] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }

    #[test]
    fn what_it_can_do_and_other_launch_types_pass() {
        let plain = definition(json!({ "networkMode": "bridge", "requiresCompatibilities": ["EXTERNAL"] }));
        check(&service().build(), &plain).unwrap();
        let fargate = Service::builder().launch_type(LaunchType::Fargate).build();
        check(&fargate, &definition(json!({ "networkMode": "awsvpc" }))).unwrap();
    }
}
