//! Sandbox environment of `examples/bp.toml`: three accounts with one registry each, and in staging and prod an ECS and
//! an EKS cluster that run an earlier version of the shop.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use aws_credential_types::Credentials;
use bp_artifact::{
    Config,
    config::{EksObject, EnvironmentConfig, ServiceConfig},
};
use bp_sandbox::{
    Clock, Image, ImageBuilder, Sandbox, Served,
    kube::{ClusterOptions, SECRET_ACCESS_KEY},
    registry::RegistryOptions,
};
use serde_json::json;

use bp_delivery::Endpoints;

/// The example's services and environments.
pub const BP_TOML: &str = include_str!("../bp.toml");

/// The same environments with a single service, configured without `[[service]]`.
pub const ONE_SERVICE: &str = include_str!("../one-service.toml");

/// The example's environments for a sandbox whose clock runs `rate` times as fast as real time: the tasks of a successful
/// ECS deployment are watched for 10 s of the sandbox's time.
pub fn bp_toml(rate: u32) -> String {
    stable_for(BP_TOML, &format!("{}ms", (10_000 / rate.max(1)).max(1)))
}

/// `text`, an example's `bp.toml`, with this `ecs.stable-for`.
pub fn stable_for(text: &str, time: &str) -> String {
    let set = |text: String, table: &str| text.replace(table, &format!("{table}stable-for = \"{time}\"\n"));
    ["[environment.ecs]\n", "[service.ecs]\n"].into_iter().fold(text.to_owned(), set)
}

/// An access key for the sandbox. Not a secret: the sandbox accepts any key.
pub const ACCESS_KEY: (&str, &str) = ("AKIABPSANDBOX0000000", SECRET_ACCESS_KEY);

/// A listening sandbox with the accounts, registries and clusters of `examples/bp.toml`.
pub struct World {
    /// The sandbox model.
    pub sandbox: Sandbox,
    /// The listening ports.
    pub served: Served,
    /// The environments.
    pub config: Config,
}

impl World {
    /// Starts the sandbox on free loopback ports, with a clock that runs `rate` times as fast as real time.
    ///
    /// # Errors
    /// When a port cannot be bound.
    pub async fn start(rate: u32) -> std::io::Result<Self> {
        let config = Config::parse(&bp_toml(rate), "examples/bp.toml").expect("the example file is valid");
        Self::of(config, rate).await
    }

    /// As [`start`](Self::start), with other environments than those of the example.
    ///
    /// # Errors
    /// When a port cannot be bound.
    pub async fn of(config: Config, rate: u32) -> std::io::Result<Self> {
        let mut builder = Sandbox::builder().clock(Clock::accelerated(rate));
        for environment in config.environments() {
            builder = builder.registry(environment.registry().as_str(), RegistryOptions::ecr());
            if let Some(account) = &environment.account {
                let options =
                    ClusterOptions::default().account(account.as_str()).region(environment.region.as_str());
                for cluster in clusters(environment) {
                    builder = builder.cluster(cluster, options.clone());
                }
            }
        }
        let sandbox = builder.build();
        for environment in config.environments() {
            for service in environment.services() {
                deploy_earlier_version(&sandbox, environment, service);
            }
        }
        // Completes the initial rollouts.
        sandbox.clock().advance(Duration::from_secs(600));
        let served = sandbox.serve().await?;
        Ok(World { sandbox, served, config })
    }

    /// The endpoints of the sandbox, for [`Session::new`](bp_delivery::Session::new).
    pub fn endpoints(&self) -> Endpoints {
        let (id, secret) = ACCESS_KEY;
        Endpoints {
            aws: self.url("aws"),
            credentials: Some(Credentials::from_keys(id, secret, None)),
            registries: self.registries(),
            kubeconfig: None,
        }
    }

    /// The URL of each registry host.
    pub fn registries(&self) -> BTreeMap<String, String> {
        let hosts = self.config.environments().iter().map(|e| e.registry().as_str());
        hosts.filter_map(|host| Some((host.to_owned(), self.url(host)?))).collect()
    }

    /// The environment variables that point clients to the sandbox.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let (id, secret) = ACCESS_KEY;
        let registries = self.registries().into_iter().map(|(host, url)| format!("{host}={url}"));
        vec![
            ("AWS_ENDPOINT_URL", self.url("aws").unwrap_or_default()),
            ("AWS_ACCESS_KEY_ID", id.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", secret.to_owned()),
            ("AWS_REGION", "eu-central-1".to_owned()),
            // aws-cli 1 reads only this one.
            ("AWS_DEFAULT_REGION", "eu-central-1".to_owned()),
            ("BP_REGISTRY_ENDPOINTS", registries.collect::<Vec<_>>().join(",")),
        ]
    }

    /// The cluster names, each with a kubeconfig.
    pub fn kubeconfigs(&self) -> Vec<(String, String)> {
        let kubeconfig = |name: &str| {
            let cluster = self.sandbox.cluster(name);
            let address = self.served.address(cluster.host())?;
            let server = format!("https://{address}");
            Some((name.to_owned(), cluster.kubeconfig(&server, self.sandbox.ca_pem())))
        };
        self.config.environments().iter().flat_map(clusters).filter_map(kubeconfig).collect()
    }

    fn url(&self, endpoint: &str) -> Option<String> {
        Some(format!("http://{}", self.served.address(endpoint)?))
    }
}

/// A temporary directory that only this user can read: kubeconfigs in it give access.
///
/// # Errors
/// When it cannot be created.
pub fn private_directory() -> std::io::Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    builder.tempdir()
}

/// An image of one version of the shop: real files, for two platforms.
pub fn shop(version: &str) -> ImageBuilder {
    version_of("shop", version)
}

/// An image of one version of a service of the shop.
pub fn version_of(service: &str, version: &str) -> ImageBuilder {
    ImageBuilder::new()
        .platform("linux/amd64")
        .platform("linux/arm64")
        .layer([
            ("app/serve.sh", include_str!("../shop/serve.sh")),
            ("app/site/index.html", include_str!("../shop/site/index.html")),
        ])
        .layer([("app/VERSION", version), ("app/SERVICE", service)])
        .entrypoint(["/bin/sh", "/app/serve.sh"])
        .label("org.opencontainers.image.version", version)
}

/// The names of the environment's EKS clusters.
fn clusters(environment: &EnvironmentConfig) -> BTreeSet<&str> {
    let eks = environment.services().iter().filter_map(|service| service.eks().ok());
    eks.map(|eks| eks.cluster.as_str()).collect()
}

/// Creates the earlier version of a service in one environment.
fn deploy_earlier_version(sandbox: &Sandbox, environment: &EnvironmentConfig, service: &ServiceConfig) {
    let earlier = match &service.name {
        Some(name) => version_of(name.as_str(), "0.9.0"),
        None => shop("0.9.0"),
    };
    let earlier: Image = earlier.build();
    let registry = sandbox.registry(environment.registry().as_str());
    registry.push(&earlier, service.repository.path(), "0.9.0");
    let running = format!("{}@{}", service.repository, earlier.digest());
    if let (Ok(ecs), Some(account)) = (service.ecs(), &environment.account) {
        sandbox.aws().role(account.as_str(), "shop-web-execution", "ecs-tasks.amazonaws.com");
        let definition = json!({
            "family": ecs.service,
            "networkMode": "awsvpc",
            "requiresCompatibilities": ["FARGATE"],
            "cpu": "256",
            "memory": "512",
            "executionRoleArn": format!("arn:aws:iam::{account}:role/shop-web-execution"),
            "containerDefinitions": [{
                "name": ecs.container.as_deref().unwrap_or("web"),
                "image": running,
                "essential": true,
                "portMappings": [{ "containerPort": 8080, "protocol": "tcp" }],
                "environment": [{ "name": "DEPLOY_PLATFORM", "value": "ecs" }],
                "healthCheck": { "command": ["CMD-SHELL", "wget -q -O /dev/null http://127.0.0.1:8080/"] },
            }],
        });
        sandbox
            .aws()
            .ecs(account.as_str(), environment.region.as_str())
            .new_service(&ecs.cluster, &ecs.service)
            .task_definition(definition)
            .with("launchType", json!("FARGATE"))
            .with("networkConfiguration", json!({ "awsvpcConfiguration": { "subnets": ["subnet-1"] } }))
            .circuit_breaker()
            .create();
    }
    if let Ok(eks) = service.eks() {
        let EksObject::Workload(workload) = &eks.object else { return };
        let container = eks.container.as_deref().unwrap_or("web");
        let (cluster, namespace, name) = (sandbox.cluster(&eks.cluster), &eks.namespace, &workload.name);
        // Created by kubectl with a tag; then bp-eks took over the image field and set the digest.
        cluster.deployment(namespace, name, &[(container, &format!("{}:0.9.0", service.repository))]);
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
