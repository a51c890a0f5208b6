//! ECS API operations on clusters, services, deployments and tasks.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{
    Cluster, Region,
    names::{cluster_of, name_of, page},
    rollout::Phase,
    service::{Birth, Service, Status},
    settings::Settings,
    world::World,
};
use crate::aws::wire::{Answer, ApiError, text, texts};

/// The deployment controllers whose services get their task definition from task sets.
const OTHER_CONTROLLERS: [&str; 2] = ["CODE_DEPLOY", "EXTERNAL"];

/// Members of UpdateService and CreateService that are stored. Of these, only the load balancers, the launch type and the
/// capacity providers have an effect.
const KEPT: [&str; 21] = [
    "availabilityZoneRebalancing",
    "gatewayConnectors",
    "loadBalancers",
    "serviceRegistries",
    "networkConfiguration",
    "healthCheckGracePeriodSeconds",
    "launchType",
    "monitoring",
    "volumeConfigurations",
    "vpcLatticeConfigurations",
    "capacityProviderStrategy",
    "platformVersion",
    "placementConstraints",
    "placementStrategy",
    "schedulingStrategy",
    "deploymentController",
    "enableECSManagedTags",
    "enableExecuteCommand",
    "propagateTags",
    "serviceConnectConfiguration",
    "tags",
];

fn client(message: &str) -> ApiError {
    ApiError::new(400, "ClientException", message)
}

fn invalid(message: &str) -> ApiError {
    ApiError::new(400, "InvalidParameterException", message)
}

fn cluster_not_found() -> ApiError {
    ApiError::new(400, "ClusterNotFoundException", "Cluster not found.")
}

fn service_not_found() -> ApiError {
    ApiError::new(400, "ServiceNotFoundException", "Service not found.")
}

fn deployment_not_found() -> ApiError {
    ApiError::new(400, "ServiceDeploymentNotFoundException", "Service deployment not found.")
}

fn missing(arn: &str) -> Value {
    json!({ "arn": arn, "reason": "MISSING" })
}

fn paged(mut answer: Value, next: Option<String>) -> Answer {
    if let Some(next) = next {
        answer["nextToken"] = json!(next);
    }
    Ok(answer)
}

impl Region {
    pub(super) fn create_cluster(&mut self, world: &World<'_>, input: &Value) -> Answer {
        let name = cluster_of(text(input, "clusterName")).to_owned();
        let cluster = self.clusters.entry(name.clone()).or_default();
        if !input["tags"].is_null() {
            cluster.tags = input["tags"].clone();
        }
        Ok(json!({ "cluster": cluster.view(world, &name) }))
    }

    pub(super) fn describe_clusters(&mut self, world: &World<'_>, input: &Value) -> Answer {
        let asked = match texts(input, "clusters") {
            asked if asked.is_empty() => vec!["default"],
            asked => asked,
        };
        let (mut clusters, mut failures) = (Vec::new(), Vec::new());
        for reference in asked {
            let name = cluster_of(reference);
            match self.clusters.get(name) {
                Some(cluster) => clusters.push(cluster.view(world, name)),
                None => failures.push(missing(&world.place.arn(&format!("cluster/{name}")))),
            }
        }
        Ok(json!({ "clusters": clusters, "failures": failures }))
    }

    fn cluster<'a>(&'a mut self, input: &'a Value) -> Result<(&'a str, &'a mut Cluster), ApiError> {
        let name = cluster_of(text(input, "cluster"));
        let cluster = self.clusters.get_mut(name).ok_or_else(cluster_not_found)?;
        Ok((name, cluster))
    }

    /// The service of a request, by `cluster` and `service`.
    pub(super) fn service<'a>(&'a mut self, input: &'a Value) -> Result<&'a mut Service, ApiError> {
        let name = name_of(text(input, "service"));
        let (_, cluster) = self.cluster(input)?;
        cluster.services.iter_mut().rev().find(|s| s.name == name).ok_or_else(service_not_found)
    }

    pub(super) fn create_service(
        &mut self,
        world: &World<'_>,
        by: &str,
        now: Timestamp,
        input: &Value,
    ) -> Answer {
        let name = text(input, "serviceName").to_owned();
        if name.is_empty() {
            return Err(invalid("Service name cannot be empty."));
        }
        let definition = self.definitions.deployable(text(input, "taskDefinition"))?;
        let (cluster_name, cluster) = self.cluster(input)?;
        if cluster.services.iter().any(|s| s.name == name && s.status != Status::Inactive) {
            return Err(invalid("Creation of service was not idempotent."));
        }
        let settings = Settings::read(&input["deploymentConfiguration"]);
        settings.validate().map_err(|message| invalid(&message))?;
        let birth = Birth {
            cluster: cluster_name.to_owned(),
            name,
            desired: input["desiredCount"].as_u64().unwrap_or(1) as u32,
            settings,
            spec: kept(input),
            created_by: by.to_owned(),
        };
        let mut service = Service::new(birth, definition, now);
        service.advance(world, now);
        let view = service.view(world, true);
        cluster.services.push(service);
        Ok(json!({ "service": view }))
    }

    pub(super) fn describe_services(&mut self, world: &World<'_>, input: &Value) -> Answer {
        let asked = texts(input, "services");
        if asked.is_empty() {
            return Err(invalid("Services cannot be empty."));
        }
        if asked.len() > 10 {
            return Err(invalid("Services cannot have more than 10 elements."));
        }
        let tags = texts(input, "include").contains(&"TAGS");
        let (cluster_name, cluster) = self.cluster(input)?;
        let (mut services, mut failures) = (Vec::new(), Vec::new());
        for reference in asked {
            let name = name_of(reference);
            match cluster.services.iter().rev().find(|s| s.name == name) {
                Some(service) => services.push(service.view(world, tags)),
                None => {
                    failures.push(missing(&world.place.arn(&format!("service/{cluster_name}/{name}"))));
                }
            }
        }
        Ok(json!({ "services": services, "failures": failures }))
    }

    pub(super) fn update_service(&mut self, world: &World<'_>, now: Timestamp, input: &Value) -> Answer {
        let wanted = text(input, "taskDefinition");
        let definition = match wanted {
            "" => None,
            reference => Some(self.definitions.deployable(reference)?),
        };
        let service = self.service(input)?;
        if service.status != Status::Active {
            return Err(ApiError::new(400, "ServiceNotActiveException", "Service was not ACTIVE."));
        }
        let controller =
            service.spec.get("deploymentController").map_or("ECS", |controller| text(controller, "type"));
        if definition.is_some() && OTHER_CONTROLLERS.contains(&controller) {
            return Err(invalid(&format!(
                "Unable to update task definition on services with a {controller} deployment controller."
            )));
        }
        let settings = service.settings.updated(&input["deploymentConfiguration"]);
        settings.validate().map_err(|message| invalid(&message))?;
        service.settings = settings;
        if let Some(desired) = input["desiredCount"].as_u64() {
            service.desired = desired as u32;
        }
        let kept = kept(input);
        let respecified = kept.iter().any(|(field, value)| service.spec.get(field) != Some(value));
        service.spec.extend(kept);
        let current = service.rollout(service.primary).map(|rollout| rollout.definition.clone());
        let wanted = definition.or_else(|| current.clone()).ok_or_else(service_not_found)?;
        let changed = current.is_none_or(|current| current.arn != wanted.arn);
        if changed || respecified || input["forceNewDeployment"] == true {
            service.deploy(wanted, now);
        }
        service.advance(world, now);
        Ok(json!({ "service": service.view(world, true) }))
    }

    pub(super) fn list_clusters(&mut self, world: &World<'_>, input: &Value) -> Answer {
        let arns = self.clusters.keys().map(|name| world.place.arn(&format!("cluster/{name}"))).collect();
        let size = input["maxResults"].as_u64().unwrap_or(100).min(100) as usize;
        let (arns, next): (Vec<String>, _) = page(arns, text(input, "nextToken"), size);
        paged(json!({ "clusterArns": arns }), next)
    }

    pub(super) fn list_services(&mut self, world: &World<'_>, input: &Value) -> Answer {
        let (_, cluster) = self.cluster(input)?;
        let active = cluster.services.iter().filter(|service| service.status != Status::Inactive);
        let arns = active.map(|service| service.arn(&world.place)).collect();
        let size = input["maxResults"].as_u64().unwrap_or(10).min(100) as usize;
        let (arns, next): (Vec<String>, _) = page(arns, text(input, "nextToken"), size);
        paged(json!({ "serviceArns": arns }), next)
    }

    pub(super) fn delete_service(&mut self, world: &World<'_>, now: Timestamp, input: &Value) -> Answer {
        let service = self.service(input)?;
        if service.desired > 0 && input["force"] != true {
            return Err(invalid("The service cannot be stopped while it is scaled above 0."));
        }
        service.status = Status::Draining;
        service.advance(world, now);
        Ok(json!({ "service": service.view(world, false) }))
    }

    pub(super) fn list_service_deployments(&mut self, world: &World<'_>, input: &Value) -> Answer {
        let statuses = texts(input, "status");
        let bound = |field: &str| input["createdAt"][field].as_f64();
        let (after, before) = (bound("after"), bound("before"));
        let service = self.service(input)?;
        let seconds = |at: Timestamp| at.as_millisecond() as f64 / 1000.0;
        let all: Vec<Value> = service
            .listed()
            .filter(|d| after.is_none_or(|after| seconds(Service::created_of(d)) >= after))
            .filter(|d| before.is_none_or(|before| seconds(Service::created_of(d)) <= before))
            .map(|d| service.brief(&world.place, d))
            .filter(|view| statuses.is_empty() || statuses.contains(&text(view, "status")))
            .collect();
        let size = input["maxResults"].as_u64().unwrap_or(20).min(100) as usize;
        let (briefs, next) = page(all, text(input, "nextToken"), size);
        paged(json!({ "serviceDeployments": briefs }), next)
    }

    pub(super) fn describe_service_deployments(&mut self, world: &World<'_>, input: &Value) -> Answer {
        let asked = texts(input, "serviceDeploymentArns");
        if asked.is_empty() || asked.len() > 20 {
            return Err(invalid("serviceDeploymentArns must have between 1 and 20 elements."));
        }
        let (mut found, mut failures) = (Vec::new(), Vec::new());
        for arn in asked {
            let service = self.service_of(arn);
            let view = service.and_then(|service| {
                let deployment = service.deployments.iter().find(|d| d.id == name_of(arn))?;
                Some(service.full(&world.place, deployment))
            });
            match view {
                Some(view) => found.push(view),
                None => failures.push(missing(arn)),
            }
        }
        Ok(json!({ "serviceDeployments": found, "failures": failures }))
    }

    pub(super) fn describe_service_revisions(&mut self, world: &World<'_>, input: &Value) -> Answer {
        let asked = texts(input, "serviceRevisionArns");
        if asked.is_empty() || asked.len() > 20 {
            return Err(invalid("serviceRevisionArns must have between 1 and 20 elements."));
        }
        let (mut found, mut failures) = (Vec::new(), Vec::new());
        for arn in asked {
            let view = self.service_of(arn).and_then(|service| {
                let rollout = service.rollout(name_of(arn).parse().ok()?)?;
                Some(service.revision_view(&world.place, rollout))
            });
            match view {
                Some(view) => found.push(view),
                None => failures.push(missing(arn)),
            }
        }
        Ok(json!({ "serviceRevisions": found, "failures": failures }))
    }

    /// The service that `…/<cluster>/<service>/<id>` belongs to.
    fn service_of(&mut self, arn: &str) -> Option<&mut Service> {
        let mut parts = arn.rsplit('/').skip(1);
        let (service, cluster) = (parts.next()?, parts.next()?);
        self.clusters.get_mut(cluster)?.services.iter_mut().rev().find(|s| s.name == service)
    }

    pub(super) fn stop_service_deployment(
        &mut self,
        world: &World<'_>,
        now: Timestamp,
        input: &Value,
    ) -> Answer {
        let arn = text(input, "serviceDeploymentArn");
        let service = self.service_of(arn).ok_or_else(deployment_not_found)?;
        let deployment =
            service.deployments.iter_mut().find(|d| d.id == name_of(arn)).ok_or_else(deployment_not_found)?;
        if !matches!(deployment.phase, Phase::Pending | Phase::InProgress) {
            let message = format!(
                "The service deployment cannot be stopped because its status is {}.",
                deployment.phase.name()
            );
            return Err(ApiError::new(400, "ConflictException", message));
        }
        let phase = match text(input, "stopType") {
            "ABORT" => Phase::StopRequested,
            _ => Phase::RollbackRequested,
        };
        deployment.enter(phase, None, now);
        service.advance(world, now);
        Ok(json!({ "serviceDeploymentArn": arn }))
    }

    pub(super) fn continue_service_deployment(
        &mut self,
        world: &World<'_>,
        now: Timestamp,
        input: &Value,
    ) -> Answer {
        let arn = text(input, "serviceDeploymentArn");
        let service = self.service_of(arn).ok_or_else(deployment_not_found)?;
        let deployment =
            service.deployments.iter_mut().find(|d| d.id == name_of(arn)).ok_or_else(deployment_not_found)?;
        let answered = deployment.stages.as_mut().is_some_and(|stages| stages.answer(text(input, "hookId")));
        if !answered {
            return Err(client("The lifecycle hook is not awaiting an action."));
        }
        if text(input, "action") == "ROLLBACK" {
            deployment.enter(Phase::RollbackRequested, None, now);
        }
        service.advance(world, now);
        Ok(json!({ "serviceDeploymentArn": arn }))
    }

    pub(super) fn list_tasks(&mut self, input: &Value) -> Answer {
        let stopped = text(input, "desiredStatus") == "STOPPED";
        let (name, by, family) =
            (name_of(text(input, "serviceName")), text(input, "startedBy"), text(input, "family"));
        if !name.is_empty() {
            let named = json!({ "cluster": input["cluster"], "service": name });
            self.service(&named)?;
        }
        let (_, cluster) = self.cluster(input)?;
        let arns: Vec<String> = cluster
            .services
            .iter()
            .filter(|service| name.is_empty() || service.name == name)
            .flat_map(|service| {
                let now = service.clock;
                service.tasks.iter().filter(move |task| task.is_stopping(now) == stopped)
            })
            .filter(|task| by.is_empty() || format!("ecs-svc/{}", task.deployment) == by)
            .filter(|task| family.is_empty() || task.definition().view["family"] == family)
            .map(|task| task.arn.clone())
            .collect();
        let size = input["maxResults"].as_u64().unwrap_or(100).min(100) as usize;
        let (arns, next) = page(arns, text(input, "nextToken"), size);
        paged(json!({ "taskArns": arns }), next)
    }

    pub(super) fn describe_tasks(&mut self, world: &World<'_>, input: &Value) -> Answer {
        let asked = texts(input, "tasks");
        if asked.is_empty() {
            return Err(invalid("Tasks cannot be empty."));
        }
        if asked.len() > 100 {
            return Err(invalid("Tasks cannot have more than 100 elements."));
        }
        let (cluster_name, cluster) = self.cluster(input)?;
        let (mut tasks, mut failures) = (Vec::new(), Vec::new());
        for reference in asked {
            let id = name_of(reference);
            let found = cluster
                .services
                .iter()
                .find_map(|service| Some((service, service.tasks.iter().find(|t| t.id() == id)?)));
            match found {
                Some((service, task)) => {
                    tasks.push(task.view(&world.place, service));
                }
                None => failures.push(missing(&world.place.arn(&format!("task/{cluster_name}/{id}")))),
            }
        }
        Ok(json!({ "tasks": tasks, "failures": failures }))
    }
}

impl Cluster {
    fn view(&self, world: &World<'_>, name: &str) -> Value {
        let active = self.services.iter().filter(|s| s.status == Status::Active).count();
        let tasks = |running: bool| {
            let all = self.services.iter().flat_map(|s| s.tasks.iter().map(|t| (t, s.clock)));
            all.filter(|(t, now)| if running { t.is_running(*now) } else { t.is_pending(*now) }).count()
        };
        json!({
            "clusterArn": world.place.arn(&format!("cluster/{name}")),
            "clusterName": name,
            "status": "ACTIVE",
            "registeredContainerInstancesCount": 0,
            "runningTasksCount": tasks(true),
            "pendingTasksCount": tasks(false),
            "activeServicesCount": active,
            "statistics": [],
            "tags": if self.tags.is_null() { json!([]) } else { self.tags.clone() },
            "settings": [],
            "capacityProviders": [],
            "defaultCapacityProviderStrategy": [],
        })
    }
}

fn kept(input: &Value) -> Map<String, Value> {
    let given = |field: &&str| Some((field.to_string(), input.get(*field).filter(|v| !v.is_null())?.clone()));
    KEPT.iter().filter_map(given).collect()
}
