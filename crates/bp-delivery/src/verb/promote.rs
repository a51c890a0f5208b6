//! Promote the artifact's image, or selected tags, to an environment's registry with the same digest.

use std::path::PathBuf;

use bp_artifact::{Artifact, ExitCode, ImageRef, Tag, config::ServiceConfig, select::TagSelector};
use tokio::time::Instant;

use crate::{
    Failure, Session, Ui,
    cli::{self, CopyArgs},
    image_wait,
    program::Verb,
    promotion::{Promotion, Route},
    wait_for_image,
};

/// Promote the artifact's image, or selected tags, to an environment's registry with the same digest
#[derive(Debug, clap::Args)]
pub struct Promote {
    #[command(flatten)]
    given: cli::GivenFlags,
    /// Environment of bp.toml to promote to
    #[arg(long, value_name = "NAME", env = "BP_ENV")]
    to: String,
    /// Environment of bp.toml to promote from; defaults to the one listed before --to
    #[arg(long, value_name = "NAME")]
    from: Option<String>,
    /// Promote this tag of the source environment instead of the artifact's image; repeatable
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<Tag>,
    /// Promote all tags of the source environment, or those that match a rule: semver:^1.2, glob:release-*
    #[arg(long, value_name = "RULE", num_args = 0..=1, default_missing_value = "glob:*")]
    all_tags: Option<TagSelector>,
    /// Plan only: show the planned changes; changes nothing
    #[arg(long)]
    plan: bool,
    #[command(flatten)]
    services: cli::ServicesArgs,
    #[command(flatten)]
    copy: CopyArgs,
    #[command(flatten)]
    wait: cli::ImageTimeoutArgs,
    #[command(flatten)]
    config: cli::ConfigArgs,
    /// Artifact file written by the build
    #[arg(long, value_name = "FILE", default_value = "artifact.json", env = "BP_ARTIFACT")]
    artifact: PathBuf,
}

impl Verb for Promote {
    const NAME: &'static str = "promote";

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        let (start, timeout) = (Instant::now(), self.copy.timeout());
        let selects_tags = !self.tags.is_empty() || self.all_tags.is_some();
        if self.plan {
            self.given.refuse(&["image-timeout"], "with --plan")?;
        }
        if selects_tags {
            self.given.refuse(&["artifact"], "with --tag or --all-tags")?;
        }
        let config = self.config.load(&self.to)?;
        let to = config.environment(&self.to)?;
        let from = match &self.from {
            Some(name) => config.environment(name)?,
            None => config.previous(&to.name).ok_or_else(|| {
                Failure::bad_input(format!("{} is the first environment of bp.toml: add --from", to.name))
            })?,
        };
        let artifact = if selects_tags { None } else { Some(Artifact::read(&self.artifact)?) };
        let services = to.choose(&self.services.services, self.services.all)?;
        let session = Session::from_env()?;
        let (reads, writes) = (session.open(from).await?, session.open(to).await?);
        let mut options = self.copy.options()?;
        if let Some(transfers) = services.iter().filter_map(|service| service.limits.transfers).min() {
            options.copy = options.copy.concurrency(transfers.get() as usize);
        }
        let promotion = Promotion::new((from, &reads), (to, &writes), options, session.endpoints())?;

        let resolver = reads.resolver(from.registry())?;
        // A plan does not wait.
        let find = async |image: &ImageRef, service: &ServiceConfig| {
            if self.plan {
                return Ok::<_, Failure>(resolver.resolve(image).await?);
            }
            let wait = image_wait(self.wait.image_timeout.unwrap_or(service.deploy.image_timeout))?;
            Ok(wait_for_image(&*resolver, image, wait, |line| ui.say(line)).await?)
        };
        let select = async {
            let (mut images, mut routes) = (Vec::new(), Vec::new());
            for service in services {
                let source = from.service(service.name.as_ref())?;
                let route = Route { from: &source.repository, to: &service.repository };
                match &artifact {
                    Some(artifact) => {
                        let image = artifact.image_of(source)?;
                        images.push(promotion.image(route, &find(&image, service).await?, image.tag()));
                    }
                    None => {
                        for tag in &self.tags {
                            find(&route.from.tagged(tag.clone()), service).await?;
                        }
                        images.extend(promotion.tags(route, &self.tags, self.all_tags.as_ref()).await?);
                    }
                }
                routes.resize(images.len(), route);
            }
            Ok((images, routes))
        };
        let (images, routes) = match timeout {
            None => select.await?,
            Some(timeout) => tokio::time::timeout(timeout, select).await.unwrap_or_else(|_| {
                let seconds = timeout.as_secs();
                Err(Failure::unavailable(format!("the images were not found within {seconds} s (--timeout)")))
            })?,
        };
        let promotion = match timeout {
            None => promotion,
            Some(timeout) => promotion.timeout(timeout.saturating_sub(start.elapsed())),
        };
        if self.plan {
            let plan = ui.follow(promotion.plan(images)).await?;
            ui.results(plan.to_string().lines(), &plan);
            return Ok(ExitCode::Done);
        }
        promotion.check_record_file()?;
        let report = ui.follow(promotion.copy(images)).await;
        for (image, error) in report.failed() {
            ui.say(format!("{}: {error}", image.reference));
        }
        let recorded = promotion.keep_records(&report, &routes).await;
        if let (Err(error), true) = (&recorded, report.failed().next().is_some()) {
            ui.say(error);
        }
        let report = report.into_result()?;
        let promoted = report.images.iter().zip(&routes).filter_map(|(image, route)| {
            let (digest, _) = image.result.as_ref().ok()?;
            Some(route.to.at(digest.clone()).to_string())
        });
        let promoted: Vec<String> = promoted.collect();
        ui.results(promoted, &report);
        recorded.map(|()| ExitCode::Done)
    }
}
