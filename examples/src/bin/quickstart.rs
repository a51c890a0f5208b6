//! The whole line on your machine: build, resolve, promote, deploy, prove; then a broken build, and the way back.

use std::{path::PathBuf, process::ExitCode as Process, time::Duration};

use bp_artifact::{
    Artifact, EnvironmentConfig, ErrorClass, ExitCode, Receipt, ResolvedImage, Saga, Tag, TimeSource,
    Verdict, Wait, wait_for,
};
use bp_examples::{
    Clients, Endpoints, Failure, Ui,
    delivery::Delivery,
    promotion,
    world::{World, shop},
};
use bp_promote::{CopyOptions, OciLayout, copy, store::ImageAt};
use bp_sandbox::ImageBuilder;
use tokio::time::Instant;

/// Shows the whole line on this machine, with nothing but Rust: registries, ECS and EKS run in one process
#[derive(clap::Args)]
struct Args {}

/// What to try after the tour.
const NEXT: &str = "
Try next:
    cargo run --bin sandbox              # the same world in the foreground, for these binaries, aws-cli, crane, kubectl
    cargo run --bin dual-deploy -- --help
    docs/architecture.md                 # which file does what";

/// The sandbox's time runs this many times as fast as the clock on the wall.
const SPEED: u32 = 20;

fn main() -> Process {
    bp_examples::run(tour)
}

async fn tour(_: Args, ui: Ui) -> Result<ExitCode, Failure> {
    let start = Instant::now();
    let mut tour = Tour::start(ui).await?;

    let good = tour.build("1.0.0", |image| image).await?;
    tour.promote("staging", &good).await?;
    tour.deploy("staging", &good, Verdict::Deployed).await?;
    tour.promote("prod", &good).await?;
    tour.deploy("prod", &good, Verdict::Deployed).await?;
    tour.prove("prod", &good).await?;

    let broken = tour
        .build("1.1.0", |image| {
            image
                .label("dev.bp-sandbox.behaviour", "exit:78")
                .label("dev.bp-sandbox.log", "shop: cannot read /app/config.toml: no such file")
        })
        .await?;
    tour.promote("staging", &broken).await?;
    let failed = tour.deploy("staging", &broken, Verdict::RolledBack).await?;
    tour.prove("staging", &good).await?;

    tour.summary(&good, &broken, &failed, start.elapsed());
    Ok(ExitCode::Done)
}

/// The world and where the tour is.
struct Tour {
    ui: Ui,
    world: World,
    endpoints: Endpoints,
    directory: tempfile::TempDir,
    chapter: u32,
}

/// What a build left.
struct Build {
    image: ResolvedImage,
    tag: Tag,
}

impl Tour {
    async fn start(ui: Ui) -> Result<Self, Failure> {
        let unavailable = |error: std::io::Error| Failure::new(ErrorClass::Unavailable, &error);
        let world = World::start(SPEED).await.map_err(unavailable)?;
        let directory = tempfile::tempdir().map_err(unavailable)?;
        let mut tour = Tour { endpoints: world.endpoints(), ui, world, directory, chapter: 0 };
        tour.chapter("The outside world, in this process");
        for (name, address) in tour.world.served.addresses() {
            tour.ui.say(format!("{address}  {name}"));
        }
        tour.ui.say(format!("Its time runs {SPEED} times as fast as yours. In staging and prod, shop 0.9.0 runs on ECS and EKS."));
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

    /// What a build does: make the image, push it, leave `artifact.json`.
    async fn build(
        &mut self,
        version: &str,
        change: impl Fn(ImageBuilder) -> ImageBuilder,
    ) -> Result<Build, Failure> {
        self.chapter(&format!("Build shop {version} for two platforms, push it to dev, leave artifact.json"));
        let dev = self.environment("dev")?;
        let clients = Clients::of(&dev, &self.endpoints).await?;
        let tag: Tag = version.parse()?;

        let layout = self.file(&format!("shop-{version}.oci"));
        let image = change(shop(version)).build();
        image.write_layout(&layout, version).map_err(|e| Failure::new(ErrorClass::Unavailable, &e))?;
        let source = ImageAt::new(OciLayout::open(&layout).await?, tag.clone());
        let pushed = dev.repository.tagged(tag.clone());
        let registry = promotion::registries(&[(&dev, &clients)], &self.endpoints)?;
        self.ui.follow(copy(source, registry.image(&pushed), CopyOptions::default())).await?;

        // The one place where a tag is looked at. From here on only the digest travels.
        let wait = Wait::new(Duration::from_secs(10), Duration::from_millis(200))?;
        let image = wait_for(&*clients.resolver(dev.registry())?, &pushed, wait).await?;
        let mut artifact = Artifact::default();
        artifact.version = Some(version.to_owned());
        artifact.created = Some(TimeSource::system().now());
        artifact.set_image(&image, Some(tag.clone()));
        artifact.write(self.file("artifact.json"))?;
        self.ui.say(format!("artifact.json: {}", image.reference));
        Ok(Build { image, tag })
    }

    /// Copies the artifact's image to `to` from the environment before it.
    async fn promote(&mut self, to: &str, build: &Build) -> Result<(), Failure> {
        let to = self.environment(to)?;
        let from = self.world.config.previous(&to.name).unwrap_or(&to).clone();
        self.chapter(&format!(
            "Promote {} from {} to {}: the same bytes, so the same digest",
            build.tag, from.name, to.name
        ));
        let sides = (Clients::of(&from, &self.endpoints).await?, Clients::of(&to, &self.endpoints).await?);
        let (from, to) = ((&from, &sides.0), (&to, &sides.1));
        let copy = promotion::promote(&build.image, Some(&build.tag), from, to, &self.endpoints)?;
        let report = self.ui.follow(copy).await?;
        self.ui.say(format!(
            "{} bytes in {} + {} requests",
            report.bytes, report.source_requests, report.destination_requests
        ));
        Ok(())
    }

    async fn delivery(&self, environment: &str) -> Result<Delivery, Failure> {
        let environment = self.environment(environment)?;
        let clients = Clients::of(&environment, &self.endpoints).await?;
        Ok(Delivery::new(environment, clients, Duration::from_secs(60)).cadence(Duration::from_millis(200)))
    }

    /// Deploys to ECS and EKS together, and expects `verdict`.
    async fn deploy(
        &mut self,
        environment: &str,
        build: &Build,
        verdict: Verdict,
    ) -> Result<Receipt, Failure> {
        self.chapter(&format!("Deploy {} to ECS and EKS in {environment}", build.tag));
        let delivery = self.delivery(environment).await?;
        let image = build.image.moved_to(&delivery.environment.repository);
        let receipt = self.file(&format!("receipt-{environment}.json"));
        let receipt = self.ui.follow(Saga::new(delivery.targets().await?, image, receipt).run()).await?;
        match receipt.verdict {
            Some(found) if found == verdict => Ok(receipt),
            found => {
                self.ui.receipt(&receipt);
                Err(Failure::unexpected(format!(
                    "the tour expected {verdict:?} in {environment}, and found {found:?}"
                )))
            }
        }
    }

    /// Shows what runs.
    async fn prove(&mut self, environment: &str, build: &Build) -> Result<(), Failure> {
        self.chapter(&format!("What runs in {environment}?"));
        let delivery = self.delivery(environment).await?;
        let image = build.image.moved_to(&delivery.environment.repository);
        for target in delivery.targets().await? {
            let proof = target.prove().await?;
            let verdict = proof.judge(&image);
            self.ui.say(format!(
                "{}: {verdict}: seen {} times: {}",
                target.id(),
                proof.observations.len(),
                image.digest()
            ));
            if verdict != Verdict::Deployed {
                return Err(Failure::unexpected(format!("the tour expected {} in {environment}", build.tag)));
            }
        }
        Ok(())
    }

    fn summary(&mut self, good: &Build, broken: &Build, failed: &Receipt, took: Duration) {
        self.chapter("What happened");
        let ledger = self.world.sandbox.ledger();
        self.ui.say(format!("In {:.1} s and {} requests:", took.as_secs_f64(), ledger.count(|_| true)));
        self.ui.say(format!(
            "- shop {} went from dev to prod as {}, and was seen running there on ECS and EKS;",
            good.tag,
            good.image.digest()
        ));
        self.ui.say(format!("- shop {} was promoted to staging and failed there:", broken.tag));
        for target in &failed.targets {
            let why = target.outcome.as_ref().and_then(|outcome| outcome.failure.as_ref());
            self.ui.say(format!(
                "    {}: {}",
                target.target,
                why.map_or("put back with the others".into(), ToString::to_string)
            ));
        }
        self.ui.say(format!("- both targets in staging run {} again.", good.tag));
        for line in NEXT.lines() {
            self.ui.say(line);
        }
        self.ui.results(["", good.image.reference.to_string().as_str()], failed);
    }
}
