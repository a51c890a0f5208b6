//! Copies the artifact's image, or tags of your choice, to an environment's registry, byte for byte.

use std::path::PathBuf;

use bp_artifact::{Artifact, ExitCode, ImageRef, Tag, TagSelector};

use super::Verb;
use crate::{
    Failure, Session, Ui,
    cli::{self, CopyArgs},
    patience,
    promotion::Promotion,
    wait_for_image,
};

/// Copies the artifact's image to an environment's registry, byte for byte, from the environment before it
#[derive(Debug, clap::Args)]
pub struct Promote {
    #[command(flatten)]
    given: cli::Given,
    /// The environment of bp.toml to promote to
    #[arg(long, value_name = "NAME", env = "BP_ENV")]
    to: String,
    /// The environment to promote from; the one before, if not given
    #[arg(long, value_name = "NAME")]
    from: Option<String>,
    /// This tag of the earlier environment instead of the artifact's image; may be repeated
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<Tag>,
    /// All tags of the earlier environment, or those that a rule takes: semver:^1.2, glob:release-*
    #[arg(long, value_name = "RULE", num_args = 0..=1, default_missing_value = "glob:*")]
    all_tags: Option<TagSelector>,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    copy: CopyArgs,
    #[command(flatten)]
    wait: cli::ImageTimeoutArgs,
    #[command(flatten)]
    config: cli::ConfigArgs,
    /// The artifact that the build left
    #[arg(long, value_name = "FILE", default_value = "artifact.json", env = "BP_ARTIFACT")]
    artifact: PathBuf,
}

impl Verb for Promote {
    const NAME: &'static str = "promote";

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        let some = !self.tags.is_empty() || self.all_tags.is_some();
        if self.dry_run {
            self.given.refuse(&["image-timeout"], "with --dry-run")?;
        }
        if some {
            self.given.refuse(&["artifact"], "with --tag or --all-tags")?;
        }
        let config = self.config.load(&self.to)?;
        let to = config.environment(&self.to)?;
        let from = match &self.from {
            Some(name) => config.environment(name)?,
            None => config.previous(&to.name).ok_or_else(|| {
                Failure::bad_input(format!("{} is the first environment: say --from", to.name))
            })?,
        };
        let artifact = if some { None } else { Some(Artifact::read(&self.artifact)?) };
        let session = Session::from_env()?;
        let (reads, writes) = (session.open(from).await?, session.open(to).await?);
        let promotion =
            Promotion::new((from, &reads), (to, &writes), self.copy.options()?, session.endpoints())?;

        let resolver = reads.resolver(from.registry())?;
        let timeout = self.wait.image_timeout.unwrap_or(to.deploy.image_timeout);
        // A look at what would be done does not wait.
        let find = async |image: &ImageRef| {
            if self.dry_run {
                return Ok::<_, Failure>(resolver.resolve(image).await?);
            }
            Ok(wait_for_image(&*resolver, image, patience(timeout)?, |line| ui.say(line)).await?)
        };
        let images = match &artifact {
            Some(artifact) => {
                let image = artifact.image_in(&from.repository)?;
                vec![promotion.image(&find(&image).await?, image.tag())]
            }
            None => {
                for tag in &self.tags {
                    find(&from.repository.tagged(tag.clone())).await?;
                }
                promotion.tags(&self.tags, self.all_tags.as_ref()).await?
            }
        };
        if self.dry_run {
            let plan = ui.follow(promotion.plan(images)).await?;
            ui.results(plan.to_string().lines(), &plan);
            return Ok(ExitCode::Done);
        }
        let report = ui.follow(promotion.copy(images)).await;
        for (image, error) in report.failed() {
            ui.say(format!("{}: {error}", image.reference));
        }
        let kept = promotion.keep_records(&report).await;
        if let (Err(error), true) = (&kept, report.failed().next().is_some()) {
            ui.say(error);
        }
        let report = report.into_result()?;
        let arrived = report.images.iter().filter_map(|image| image.result.as_ref().ok());
        let arrived: Vec<String> =
            arrived.map(|(digest, _)| to.repository.at(digest.clone()).to_string()).collect();
        ui.results(arrived, &report);
        kept.map(|()| ExitCode::Done)
    }
}
