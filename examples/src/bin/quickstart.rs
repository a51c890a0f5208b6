//! Run the complete pipeline on the local sandbox: build, resolve, promote, deploy, verify; then a broken build and its
//! rollback.

use std::{path::PathBuf, process, time::Duration};

use bp_artifact::{
    Artifact, ExitCode, ResolvedImage, Tag, Verdict,
    config::{EnvironmentConfig, ServiceConfig},
    deploy::Receipt,
    error::ErrorClass,
    saga::Saga,
};
use bp_delivery::{
    Delivery, Failure, Session, Ui, program,
    promotion::{Promotion, PromotionOptions, Route},
    steps,
    verb::Verb,
};
use bp_examples::{
    build::{build_and_push, fails_at_start},
    world::{World, private_directory},
};
use bp_sandbox::ImageBuilder;
use tokio::time::Instant;

/// Run the complete pipeline on this machine, without Docker or AWS: registries, ECS and EKS run in one process
#[derive(Debug, clap::Args)]
struct Quickstart {}

/// Suggestions printed at the end. The last one prints what to do in another terminal.
const NEXT: &str = "Try next:
  cargo run --bin config -- show --env staging --config examples/bp.toml   # the settings of staging
  cargo run --bin dual-deploy -- --help                                    # the command of the deployments above
  cargo run --bin sandbox                                                  # the same sandbox, to deploy by hand";

/// The speed of the sandbox clock, as a multiple of real time.
const SPEED: u32 = 20;

fn main() -> process::ExitCode {
    program::run::<Quickstart>()
}

impl Verb for Quickstart {
    const NAME: &'static str = "quickstart";

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        let start = Instant::now();
        let mut tour = Tour::start(ui).await?;

        let good = tour.build("1.0.0", |_, image| image).await?;
        tour.promote("staging", &good).await?;
        tour.deploy("staging", &good, Verdict::Deployed).await?;
        tour.promote("prod", &good).await?;
        tour.deploy("prod", &good, Verdict::Deployed).await?;
        tour.prove("prod", &good).await?;

        let broken = tour.build("1.1.0", fails_at_start).await?;
        tour.promote("staging", &broken).await?;
        let failed = tour.deploy("staging", &broken, Verdict::RolledBack).await?;
        tour.prove("staging", &good).await?;

        tour.summary(&good, &broken, &failed, start.elapsed());
        Ok(ExitCode::Done)
    }
}

/// The sandbox and the progress of the tour.
struct Tour {
    ui: Ui,
    world: World,
    session: Session,
    directory: tempfile::TempDir,
    chapter: u32,
}

/// The result of a build: an image of each service.
struct Build {
    artifact: Artifact,
    tag: Tag,
}

impl Tour {
    async fn start(ui: Ui) -> Result<Self, Failure> {
        let unavailable = |error: std::io::Error| Failure::new(ErrorClass::Unavailable, &error);
        let world = World::start(SPEED).await.map_err(unavailable)?;
        let directory = private_directory().map_err(unavailable)?;
        let session = Session::new(world.endpoints());
        let mut tour = Tour { session, ui: ui.brief(), world, directory, chapter: 0 };
        tour.chapter("Start three registries, two ECS and two EKS clusters in this process");
        tour.ui.say(format!(
            "staging and prod run web 0.9.0 on ECS and EKS, worker 0.9.0 on ECS; the clock is {SPEED} times as fast"
        ));
        Ok(tour)
    }

    fn chapter(&mut self, title: &str) {
        self.chapter += 1;
        self.ui.step(format!("{}. {title}", self.chapter));
    }

    fn environment(&self, name: &str) -> Result<EnvironmentConfig, Failure> {
        Ok(self.world.config.environment(name)?.clone())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Builds the images, pushes them, and writes `artifact.json`.
    async fn build(
        &mut self,
        version: &str,
        change: impl Fn(&str, ImageBuilder) -> ImageBuilder,
    ) -> Result<Build, Failure> {
        self.chapter(&format!("Build shop {version} for two platforms, push it to dev, write artifact.json"));
        let tag: Tag = version.parse()?;
        let artifact = build_and_push(&self.ui, &self.session, &self.world.config, &tag, change).await?;
        artifact.write(self.file("artifact.json"))?;
        Ok(Build { artifact, tag })
    }

    /// Promotes the artifact's images to `to` from the previous environment.
    async fn promote(&mut self, to: &str, build: &Build) -> Result<(), Failure> {
        let to = self.environment(to)?;
        let from = self.world.config.previous(&to.name).unwrap_or(&to).clone();
        self.chapter(&format!("Promote {} from {} to {}, byte for byte", build.tag, from.name, to.name));
        let sides = (self.session.open(&from).await?, self.session.open(&to).await?);
        let options = PromotionOptions::default();
        let (from, to) = ((&from, &sides.0), (&to, &sides.1));
        let promotion = Promotion::new(from, to, options, self.session.endpoints())?;
        let mut images = Vec::new();
        for (source, service) in from.0.services().iter().zip(to.0.services()) {
            let route = Route { from: &source.repository, to: &service.repository };
            let image = resolved(&build.artifact, source)?;
            images.push(promotion.image(route, &image, Some(&build.tag)));
        }
        self.ui.follow(promotion.copy(images)).await.into_result()?;
        Ok(())
    }

    /// The services of an environment, each with its image in that environment.
    async fn services(
        &self,
        environment: &str,
        build: &Build,
    ) -> Result<Vec<(Delivery, ResolvedImage)>, Failure> {
        let environment = self.environment(environment)?;
        let clients = self.session.open(&environment).await?;
        let service = |service: &ServiceConfig| {
            let image = resolved(&build.artifact, service)?.moved_to(&service.repository);
            let delivery = Delivery::new(environment.clone(), service.clone(), clients.clone());
            Ok((
                delivery.deadline(Some(Duration::from_secs(60))).poll_interval(Duration::from_millis(200)),
                image,
            ))
        };
        environment.services().iter().map(service).collect()
    }

    /// Deploys all services to ECS and EKS together, and expects `verdict`.
    async fn deploy(
        &mut self,
        environment: &str,
        build: &Build,
        verdict: Verdict,
    ) -> Result<Receipt, Failure> {
        self.chapter(&format!(
            "Deploy {} in {environment}: worker to ECS, then web to ECS and EKS",
            build.tag
        ));
        let steps = steps(&self.services(environment, build).await?).await?;
        let receipt = self.file(&format!("receipt-{environment}.json"));
        let receipt = self.ui.follow(Saga::of(steps, receipt).run()).await?;
        match receipt.verdict {
            Some(found) if found == verdict => Ok(receipt),
            found => {
                self.ui.receipt(&receipt);
                Err(Failure::unexpected(format!(
                    "expected verdict {verdict:?} in {environment}, found {found:?}"
                )))
            }
        }
    }

    /// Shows which digests run, and fails if they are not those of `build`.
    async fn prove(&mut self, environment: &str, build: &Build) -> Result<(), Failure> {
        self.chapter(&format!("Verify the running digests in {environment}"));
        let mut proven = Vec::new();
        for (delivery, image) in self.services(environment, build).await? {
            for target in delivery.targets().await? {
                if target.prove().await?.judge(&image) != Verdict::Deployed {
                    return Err(Failure::unexpected(format!(
                        "expected {} to run in {environment}",
                        build.tag
                    )));
                }
                proven.push(target.id());
            }
        }
        self.ui.done(format!("{} runs in all {} targets", build.tag, proven.len()));
        Ok(())
    }

    fn summary(&mut self, good: &Build, broken: &Build, failed: &Receipt, took: Duration) {
        let requests = self.world.sandbox.ledger().count(|_| true);
        let images =
            good.artifact.images.values().filter_map(|image| {
                Some(format!("\n  {}@{}", image.repository.path(), image.digest.as_ref()?))
            });
        let failures = failed.targets.iter().filter_map(|target| {
            let failure = target.outcome.as_ref()?.failure.as_ref()?;
            Some(format!("\n  {}: {}", target.target, failure.cause))
        });
        let (images, failures): (String, String) = (images.collect(), failures.collect());
        let story = [
            format!("{} was promoted from dev to prod by digest, deployed and proven{images}", good.tag),
            format!("{} failed in staging, all targets run {} again{failures}", broken.tag, good.tag),
        ];
        self.chapter(&format!("Summary, after {:.1} s and {requests} requests", took.as_secs_f64()));
        self.ui.results(story, failed);
        NEXT.lines().for_each(|line| self.ui.say(line));
    }
}

/// The service's image from the artifact.
fn resolved(artifact: &Artifact, service: &ServiceConfig) -> Result<ResolvedImage, Failure> {
    artifact
        .resolved_of(service)
        .ok_or_else(|| Failure::unexpected("artifact.json has no digest for this service"))
}
