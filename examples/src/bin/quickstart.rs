//! Run the complete pipeline on the local sandbox: build, resolve, promote, deploy, verify; then a broken build and its
//! rollback.

use std::{path::PathBuf, process, time::Duration};

use bp_artifact::{
    Artifact, ExitCode, ResolvedImage, Tag, Verdict,
    config::{EnvironmentConfig, ServiceConfig},
    deploy::Receipt,
    error::ErrorClass,
    resolve::wait_for,
    saga::Saga,
    time::{TimeSource, Wait},
};
use bp_delivery::{
    Delivery, Failure, Session, Ui, program,
    promotion::{self, Promotion, PromotionOptions, Route},
    steps,
    verb::Verb,
};
use bp_examples::world::{World, private_directory, version_of};
use bp_promote::{CopyOptions, OciLayout, copy, store::ImageAt};
use bp_sandbox::ImageBuilder;
use tokio::time::Instant;

/// Run the complete pipeline on this machine, without Docker or AWS: registries, ECS and EKS run in one process
#[derive(Debug, clap::Args)]
struct Quickstart {}

/// Suggestions printed at the end.
const NEXT: &str = "
Try next:
    cargo run --bin sandbox              # the same sandbox in the foreground, for aws-cli, crane, kubectl
    cargo run --bin dual-deploy -- --help
    docs/architecture.md                 # the responsibility of each file";

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

        let broken = tour
            .build("1.1.0", |service, image| match service {
                "web" => image
                    .label("dev.bp-sandbox.behaviour", "exit:78")
                    .label("dev.bp-sandbox.log", "shop: cannot read /app/config.toml: no such file"),
                _ => image,
            })
            .await?;
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
        let mut tour = Tour { session: Session::new(world.endpoints()), ui, world, directory, chapter: 0 };
        tour.chapter("Sandbox endpoints in this process");
        for (name, address) in tour.world.served.addresses() {
            tour.ui.say(format!("{address}  {name}"));
        }
        tour.ui.say(format!("The sandbox clock runs at {SPEED} times real time. In staging and prod, web 0.9.0 runs on ECS and EKS, and worker 0.9.0 on ECS."));
        Ok(tour)
    }

    fn chapter(&mut self, title: &str) {
        self.chapter += 1;
        self.ui.say("");
        self.ui.say(format!("== {}. {title}", self.chapter));
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
        let dev = self.environment("dev")?;
        let clients = self.session.open(&dev).await?;
        let tag: Tag = version.parse()?;
        let mut artifact = Artifact::default();
        artifact.version = Some(version.to_owned());
        artifact.created = Some(TimeSource::system().now());
        for service in dev.services() {
            let Some(name) = &service.name else { continue };
            let layout = self.file(&format!("{name}-{version}.oci"));
            let image = change(name.as_str(), version_of(name.as_str(), version)).build();
            image.write_layout(&layout, version).map_err(|e| Failure::new(ErrorClass::Unavailable, &e))?;
            let source = ImageAt::new(OciLayout::open(&layout).await?, tag.clone());
            let pushed = service.repository.tagged(tag.clone());
            let registry = promotion::registries(&[(&dev, &clients)], self.session.endpoints())?;
            self.ui.follow(copy(source, registry.image(&pushed), CopyOptions::default())).await?;

            // The only place where a tag is resolved. Later steps use only the digest.
            let wait = Wait::new(Duration::from_secs(10), Duration::from_millis(200))?;
            let image = wait_for(&*clients.resolver(dev.registry())?, &pushed, wait).await?;
            self.ui.say(format!("artifact.json: {name} resolved to {}", image.reference));
            artifact.set_image_of(name.clone(), &image, Some(tag.clone()));
        }
        artifact.write(self.file("artifact.json"))?;
        Ok(Build { artifact, tag })
    }

    /// Promotes the artifact's images to `to` from the previous environment.
    async fn promote(&mut self, to: &str, build: &Build) -> Result<(), Failure> {
        let to = self.environment(to)?;
        let from = self.world.config.previous(&to.name).unwrap_or(&to).clone();
        self.chapter(&format!(
            "Promote {} from {} to {}: the same bytes and the same digest",
            build.tag, from.name, to.name
        ));
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
        let report = self.ui.follow(promotion.copy(images)).await.into_result()?;
        self.ui.say(format!(
            "{} bytes in {} + {} requests",
            report.bytes, report.source_requests, report.destination_requests
        ));
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
        for (delivery, image) in self.services(environment, build).await? {
            for target in delivery.targets().await? {
                let proof = target.prove().await?;
                let verdict = proof.judge(&image);
                self.ui.say(format!(
                    "{}: {verdict}: observed {} times: {}",
                    target.id(),
                    proof.observations.len(),
                    image.digest()
                ));
                if verdict != Verdict::Deployed {
                    return Err(Failure::unexpected(format!(
                        "expected {} to run in {environment}",
                        build.tag
                    )));
                }
            }
        }
        Ok(())
    }

    fn summary(&mut self, good: &Build, broken: &Build, failed: &Receipt, took: Duration) {
        self.chapter("Summary");
        let ledger = self.world.sandbox.ledger();
        self.ui.say(format!("In {:.1} s and {} requests:", took.as_secs_f64(), ledger.count(|_| true)));
        self.ui.say(format!(
            "- two services of shop {} were promoted from dev to prod by digest, and verified on ECS and EKS;",
            good.tag
        ));
        self.ui
            .say(format!("- shop {} was promoted to staging, and its service web failed there:", broken.tag));
        for target in &failed.targets {
            let why = target.outcome.as_ref().and_then(|outcome| outcome.failure.as_ref());
            self.ui.say(format!(
                "    {}: {}",
                target.target,
                why.map_or("rolled back with the others".into(), ToString::to_string)
            ));
        }
        self.ui.say(format!("- all targets in staging were rolled back to {}.", good.tag));
        for line in NEXT.lines() {
            self.ui.say(line);
        }
        let images: Vec<String> = good
            .artifact
            .images
            .values()
            .filter_map(|image| Some(format!("{}@{}", image.repository, image.digest.as_ref()?)))
            .collect();
        self.ui.results([String::new(), images.join("\n")], failed);
    }
}

/// The service's image from the artifact.
fn resolved(artifact: &Artifact, service: &ServiceConfig) -> Result<ResolvedImage, Failure> {
    artifact
        .resolved_of(service)
        .ok_or_else(|| Failure::unexpected("artifact.json has no digest for this service"))
}
