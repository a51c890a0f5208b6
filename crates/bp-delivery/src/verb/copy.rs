//! Copy images between registries and OCI layouts, without `bp.toml`.

use std::{num::NonZeroU16, time::Duration};

use bp_artifact::{ExitCode, Platform, Tag, select::TagSelector, time::parse_duration};
use bp_promote::{
    CopyOptions, OciArchive, OciLayout, RegistryClient,
    content::Reference,
    copy::{RunReport, plan_all},
    copy_all,
    store::{Destination, ImageAt, Source},
};
use tokio::time::Instant;

use crate::{
    Failure, Location, Ui,
    cli::{GivenFlags, TransferArgs},
    location::LayoutImage,
    program::Verb,
    registries::open_layout,
};

/// Copy an image with its signatures and other referrers between registries and OCI layouts, byte for byte
#[derive(Debug, clap::Args)]
pub struct Copy {
    #[command(flatten)]
    given: GivenFlags,
    /// Image to copy: REGISTRY/REPOSITORY:TAG or @DIGEST, oci:DIR[:NAME], oci-archive:FILE[:NAME]
    #[arg(value_name = "SRC")]
    source: Location,
    /// Where to copy it to, in the same form; without a tag, the tag or digest of SRC is used
    #[arg(value_name = "DST")]
    destination: Location,
    /// Copy only this platform of a multi-platform image, such as linux/arm64; repeatable. The result is an index with
    /// another digest
    #[arg(long = "platform", value_name = "PLATFORM")]
    platforms: Vec<Platform>,
    /// Copy all tags of the repository or layout SRC, or those that match a rule: --all-tags=semver:^1.2,
    /// --all-tags=glob:release-*
    #[arg(long, value_name = "RULE", num_args = 0..=1, require_equals = true, default_missing_value = "glob:*")]
    all_tags: Option<TagSelector>,
    /// Plan only: show the planned changes; changes nothing
    #[arg(long)]
    plan: bool,
    /// How many blobs are transferred at a time
    #[arg(long, value_name = "COUNT", default_value = "32")]
    jobs: NonZeroU16,
    /// How long the whole copy may take: 90s, 15m, 1h30m; by default there is no limit
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    timeout: Option<Duration>,
    #[command(flatten)]
    transfer: TransferArgs,
}

/// The references of an image in the source and in the destination.
type Names = (Reference, Reference);

impl Verb for Copy {
    const NAME: &'static str = "copy";

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        if self.all_tags.is_some() && (self.source.has_image() || self.destination.has_image()) {
            return Err(Failure::bad_input(
                "with --all-tags, SRC and DST are repositories or layouts: omit the tag and the digest",
            ));
        }
        if self.plan && matches!(self.destination, Location::Archive { .. } | Location::Layout { .. }) {
            self.given.refuse(&["plan"], "with an OCI layout as destination")?;
        }
        let options = self.transfer.registries()?;
        let sides = [&self.source, &self.destination].map(Location::repository);
        let registries: Vec<_> = sides.into_iter().flatten().map(|side| side.registry()).collect();
        let client = options.client(&registries).await?;
        match &self.source {
            Location::Registry { repository, reference } => {
                let store = client.repository(repository);
                let start = Instant::now();
                let references = match reference {
                    Some(reference) => vec![reference.clone()],
                    None => {
                        let rule = self.rule()?;
                        self.tags(rule, self.in_time(start, store.tags()).await??)?
                    }
                };
                self.to(&ui, start, store, references, &client).await
            }
            Location::Layout { path, image } | Location::Archive { path, image } => {
                let start = Instant::now();
                let layout = open_layout(path).await?;
                let references = match (image, &self.all_tags) {
                    (Some(image), _) => vec![image.find(&layout).await?],
                    (None, None) => vec![layout.only_image().await?],
                    (None, Some(rule)) => {
                        let names = layout.images().await?.into_iter().filter_map(|(name, _)| name);
                        self.tags(rule, names.filter_map(|name| name.parse().ok()).collect())?
                    }
                };
                self.to(&ui, start, layout, references, &client).await
            }
        }
    }
}

impl Copy {
    /// Limits the time of work before the copy.
    async fn in_time<T>(&self, start: Instant, work: impl Future<Output = T>) -> Result<T, Failure> {
        let Some(timeout) = self.timeout else { return Ok(work.await) };
        tokio::time::timeout_at(start + timeout, work).await.map_err(|_| {
            Failure::unavailable(format!(
                "the tags of {} were not listed within {} s (--timeout)",
                self.source,
                timeout.as_secs()
            ))
        })
    }

    /// The rule that selects tags.
    fn rule(&self) -> Result<&TagSelector, Failure> {
        self.all_tags.as_ref().ok_or_else(|| {
            Failure::bad_input(format!(
                "{} has no tag and no digest: add :TAG or @DIGEST, or copy all tags with --all-tags",
                self.source
            ))
        })
    }

    /// The selected tags. Tags derived from digests are skipped: their content is copied with the image that it is
    /// attached to.
    fn tags(&self, rule: &TagSelector, listed: Vec<Tag>) -> Result<Vec<Reference>, Failure> {
        let attached = |tag: &Tag| ["sha256-", "sha512-"].iter().any(|kind| tag.as_str().starts_with(kind));
        let mut tags: Vec<Tag> =
            listed.into_iter().filter(|tag| rule.matches(tag) && !attached(tag)).collect();
        tags.sort();
        tags.dedup();
        if tags.is_empty() {
            return Err(Failure::bad_input(format!("no tag of {} matches {rule}", self.source)));
        }
        Ok(tags.into_iter().map(Reference::Tag).collect())
    }

    /// Copies to the destination.
    async fn to<S: Source + Clone>(
        &self,
        ui: &Ui,
        start: Instant,
        source: S,
        references: Vec<Reference>,
        client: &RegistryClient,
    ) -> Result<ExitCode, Failure> {
        let asked = match &self.destination {
            Location::Registry { reference, .. } => reference.clone(),
            Location::Layout { image, .. } | Location::Archive { image, .. } => {
                image.as_ref().map(LayoutImage::reference).transpose()?
            }
        };
        let names = |from: Reference| {
            let to = asked.clone().unwrap_or_else(|| from.clone());
            match (&to, self.platforms.is_empty()) {
                (Reference::Digest(_), false) => Err(Failure::bad_input(
                    "the digest of an index with selected platforms is not known in advance: add a :TAG to DST",
                )),
                _ => Ok((from, to)),
            }
        };
        let names: Vec<Names> = references.into_iter().map(names).collect::<Result<_, _>>()?;
        match &self.destination {
            Location::Registry { repository, .. } => {
                self.transfer(ui, start, source, client.repository(repository), names).await
            }
            Location::Layout { path, .. } => {
                self.transfer(ui, start, source, OciLayout::create(path).await?, names).await
            }
            Location::Archive { path, .. } => {
                self.transfer(ui, start, source, OciArchive::create(path).await?, names).await
            }
        }
    }

    async fn transfer<S: Source + Clone, D: Destination + Clone>(
        &self,
        ui: &Ui,
        start: Instant,
        source: S,
        destination: D,
        names: Vec<Names>,
    ) -> Result<ExitCode, Failure> {
        let images = names
            .into_iter()
            .map(|(from, to)| (ImageAt::new(source.clone(), from), ImageAt::new(destination.clone(), to)));
        let images: Vec<_> = images.collect();
        let mut options = CopyOptions::default().referrers().concurrency(self.jobs.get().into());
        options = self.transfer.apply(options).platforms(self.platforms.clone());
        if let Some(timeout) = self.timeout {
            options = options.timeout(timeout.saturating_sub(start.elapsed()));
        }
        if self.plan {
            let plan = ui.follow(plan_all(images, options)).await?;
            ui.results(plan.to_string().lines(), &plan);
            return Ok(ExitCode::Done);
        }
        let report: RunReport = ui.follow(copy_all(images, options)).await;
        for (image, error) in report.failed() {
            ui.say(format!("{}: {error}", image.reference));
        }
        let report = report.into_result()?;
        let copied = report.images.iter().filter_map(|image| {
            let (digest, _) = image.result.as_ref().ok()?;
            Some(self.destination.at(digest.clone()).to_string())
        });
        let copied: Vec<String> = copied.collect();
        ui.results(copied, &report);
        Ok(ExitCode::Done)
    }
}
