//! The outside world of `examples/bp.toml`: three accounts with a registry each, and in staging and prod an ECS and an
//! EKS cluster that already run an earlier version of the shop.

use std::{collections::BTreeMap, time::Duration};

use aws_credential_types::Credentials;
use bp_artifact::{Config, EksConfig, EnvironmentConfig};
use bp_sandbox::{
    Clock, Image, ImageBuilder, Sandbox, Served,
    kube::{ClusterOptions, SECRET_ACCESS_KEY},
    registry::RegistryOptions,
};
use serde_json::json;

use bp_delivery::Endpoints;

/// The example's environments.
pub const BP_TOML: &str = include_str!("../bp.toml");

/// The access key that the sandbox takes. It is no secret: the sandbox takes any.
pub const ACCESS_KEY: (&str, &str) = ("AKIABPSANDBOX0000000", SECRET_ACCESS_KEY);

/// A sandbox that listens, with what `examples/bp.toml` names.
pub struct World {
    /// The model.
    pub sandbox: Sandbox,
    /// Its ports.
    pub served: Served,
    /// The environments.
    pub config: Config,
}

impl World {
    /// Starts it on free loopback ports, its time running `rate` times as fast as the clock on the wall.
    ///
    /// # Errors
    /// When a port cannot be bound.
    pub async fn start(rate: u32) -> std::io::Result<Self> {
        let config = Config::parse(BP_TOML, "examples/bp.toml").expect("the example's own file is right");
        let mut builder = Sandbox::builder().clock(Clock::accelerated(rate));
        for environment in config.environments() {
            builder = builder.registry(environment.registry().as_str(), RegistryOptions::ecr());
            if let (Ok(eks), Some(account)) = (environment.eks(), &environment.account) {
                let options =
                    ClusterOptions::default().account(account.as_str()).region(environment.region.as_str());
                builder = builder.cluster(&eks.cluster, options);
            }
        }
        let sandbox = builder.build();
        let earlier = shop("0.9.0").build();
        for environment in config.environments() {
            furnish(&sandbox, environment, &config.project.repository, &earlier);
        }
        // All that has been rolled out by now.
        sandbox.clock().advance(Duration::from_secs(600));
        let served = sandbox.serve().await?;
        Ok(World { sandbox, served, config })
    }

    /// Where everything listens, for [`Session::new`](bp_delivery::Session::new).
    pub fn endpoints(&self) -> Endpoints {
        let (id, secret) = ACCESS_KEY;
        Endpoints {
            aws: self.url("aws"),
            credentials: Some(Credentials::from_keys(id, secret, None)),
            registries: self.registries(),
            kubeconfig: None,
        }
    }

    /// Registry host -> URL.
    pub fn registries(&self) -> BTreeMap<String, String> {
        let hosts = self.config.environments().iter().map(|e| e.registry().as_str());
        hosts.filter_map(|host| Some((host.to_owned(), self.url(host)?))).collect()
    }

    /// The clusters' names, with a kubeconfig for each.
    pub fn kubeconfigs(&self) -> Vec<(String, String)> {
        let clusters = self.config.environments().iter().filter_map(|e| e.eks().ok());
        let kubeconfig = |eks: &EksConfig| {
            let cluster = self.sandbox.cluster(&eks.cluster);
            let address = self.served.address(cluster.host())?;
            let server = format!("https://{address}");
            Some((eks.cluster.clone(), cluster.kubeconfig(&server, self.sandbox.ca_pem())))
        };
        clusters.filter_map(kubeconfig).collect()
    }

    fn url(&self, endpoint: &str) -> Option<String> {
        Some(format!("http://{}", self.served.address(endpoint)?))
    }
}

/// One version of the shop: real files in a real image, for two platforms.
pub fn shop(version: &str) -> ImageBuilder {
    ImageBuilder::new()
        .platform("linux/amd64")
        .platform("linux/arm64")
        .layer([
            ("app/serve.sh", include_str!("../shop/serve.sh")),
            ("app/site/index.html", include_str!("../shop/site/index.html")),
        ])
        .layer([("app/VERSION", version)])
        .entrypoint(["/bin/sh", "/app/serve.sh"])
        .label("org.opencontainers.image.version", version)
}

/// Puts into one environment what was there before we came.
fn furnish(sandbox: &Sandbox, environment: &EnvironmentConfig, repository: &str, earlier: &Image) {
    let registry = sandbox.registry(environment.registry().as_str());
    registry.push(earlier, repository, "0.9.0");
    let running = format!("{}@{}", environment.repository, earlier.digest());
    if let (Ok(ecs), Some(account)) = (environment.ecs(), &environment.account) {
        let definition = json!({
            "family": ecs.service,
            "networkMode": "awsvpc",
            "requiresCompatibilities": ["FARGATE"],
            "cpu": "256",
            "memory": "512",
            "executionRoleArn": format!("arn:aws:iam::{account}:role/shop-web-execution"),
            "containerDefinitions": [{
                "name": ecs.container,
                "image": running,
                "essential": true,
                "portMappings": [{ "containerPort": 8080, "protocol": "tcp" }],
                "environment": [{ "name": "DEPLOY_PLATFORM", "value": "ecs" }],
            }],
        });
        sandbox
            .aws()
            .ecs(account.as_str(), environment.region.as_str())
            .new_service(&ecs.cluster, &ecs.service)
            .task_definition(definition)
            .with("launchType", json!("FARGATE"))
            .circuit_breaker()
            .create();
    }
    if let Ok(eks) = environment.eks() {
        let container = eks.container.as_deref().unwrap_or("web");
        let (cluster, namespace, name) = (sandbox.cluster(&eks.cluster), &eks.namespace, &eks.workload.name);
        // Made by kubectl with a tag, as so many are; then bp-eks took the image over, by digest.
        cluster.deployment(namespace, name, &[(container, &format!("{}:0.9.0", environment.repository))]);
        cluster.apply(
            &format!("bp-eks:{container}"),
            &json!({
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": { "name": name, "namespace": namespace },
                "spec": { "template": { "spec": { "containers": [{ "name": container, "image": running }] } } },
            }),
        );
    }
}
