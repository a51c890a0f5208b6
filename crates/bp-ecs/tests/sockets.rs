//! Deployments over sockets and in real time, without a paused clock.

mod common;

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_ecs::config::{BehaviorVersion, Region};
use bp_artifact::{
    ResolvedImage, Verdict,
    deploy::{Cause, DeployEvent},
};
use bp_ecs::{Cluster, EcsTarget, Options};
use bp_sandbox::{Behaviour, Clock, ImageBuilder, Sandbox, Served, registry::RegistryOptions};
use common::{ACCOUNT, HOST, REGION, reference, run};

struct World {
    sandbox: Sandbox,
    served: Served,
}

impl World {
    /// Starts the servers, with a clock accelerated 30 times.
    async fn start() -> World {
        let sandbox =
            Sandbox::builder().clock(Clock::accelerated(30)).registry(HOST, RegistryOptions::ecr()).build();
        let served = sandbox.serve().await.unwrap();
        World { sandbox, served }
    }

    fn image(&self, name: &str) -> ResolvedImage {
        let image = ImageBuilder::new().platform("linux/amd64").layer([("app/name", name)]).build();
        self.sandbox.registry(HOST).push(&image, "shop/web", name);
        reference(image.digest()).into()
    }

    fn target(&self) -> EcsTarget {
        let config = aws_sdk_ecs::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(REGION))
            .credentials_provider(Credentials::for_tests())
            .endpoint_url(format!("http://{}", self.served.address("aws").unwrap()))
            .build();
        let options = Options::new(Duration::from_secs(60)).unwrap();
        let options = options.poll_interval(Duration::from_millis(50)).unwrap();
        Cluster::new(aws_sdk_ecs::Client::from_conf(config), "shop").service("web", options).container("web")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deploys_and_rolls_back_over_sockets() {
    let world = World::start().await;
    let (old, new, broken) = (world.image("1"), world.image("2"), world.image("3"));
    let crash = Behaviour::Exits { after: Duration::from_secs(1), code: 3, log: Vec::new() };
    world.sandbox.script(broken.digest().as_str(), crash);
    let ecs = world.sandbox.aws().ecs(ACCOUNT, REGION);
    ecs.new_service("shop", "web").task_definition(common::definition(&old)).create();

    let outcome = world.target().deploy(&new).await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Deployed);

    let (events, outcome) = run(world.target().deploy(&broken)).await;
    let outcome = outcome.unwrap();
    assert_eq!(outcome.verdict(), Verdict::RolledBack);
    assert_eq!(outcome.failure.unwrap().cause, Cause::ContainerExited);
    let position = |wanted: fn(&DeployEvent) -> bool| events.iter().position(wanted).unwrap();
    let failing = position(|event| matches!(event, DeployEvent::Failing { .. }));
    assert!(failing < position(|event| matches!(event, DeployEvent::RollingBack { .. })));
    assert_eq!(world.target().prove().await.unwrap().judge(&new), Verdict::Deployed);
}
