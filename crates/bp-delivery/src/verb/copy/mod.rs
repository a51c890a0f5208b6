//! Copy images between registries and OCI layouts, without `bp.toml`.

mod apply;

use std::{path::PathBuf, time::Duration};

use bp_artifact::{Digest, ExitCode, Platform, Repository, Tag, select::TagSelector, time::parse_duration};
use bp_promote::{
    CopyOptions, OciArchive, OciLayout, RegistryClient,
    content::Reference,
    copy::{RunReport, plan_all},
    copy_all, ecr,
    registry::RepositoryClient,
    store::{Destination, ImageAt, Source},
};
use tokio::time::Instant;

use crate::{
    Failure, Location, Ui,
    cli::{GivenFlags, JobsArgs, OtherName, ReplicationArgs, TransferArgs},
    location::LayoutImage,
    program::Verb,
    registries::open_layout,
    replication::await_replication,
};

/// Copy an image with its signatures and other referrers between registries and OCI layouts, byte for byte
#[derive(Debug, clap::Args)]
pub struct Copy {
    #[command(flatten)]
    given: GivenFlags,
    /// Image to copy: REGISTRY/REPOSITORY:TAG or @DIGEST, oci:DIR[:NAME], oci-archive:FILE[:NAME]
    #[arg(value_name = "SRC", required_unless_present = "apply")]
    source: Option<Location>,
    /// Where to copy it to, in the same form; without a tag and --as, the tag or digest of SRC is used
    #[arg(value_name = "DST", required_unless_present = "apply")]
    destination: Option<Location>,
    /// Another name of the image at the destination, in addition to the tag of DST: TAG, or NAME:TAG for another
    /// repository of the same registry; repeatable
    #[arg(long = "as", value_name = "[NAME:]TAG", conflicts_with = "all_tags")]
    names: Vec<OtherName>,
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
    /// Apply a plan that --plan --output json has printed, exactly; refused if a tag of the source or of the destination
    /// has moved since
    #[arg(long, value_name = "FILE", conflicts_with_all = ["source", "destination", "names", "platforms", "all_tags", "plan"])]
    apply: Option<PathBuf>,
    #[command(flatten)]
    jobs: JobsArgs,
    /// How long the whole copy may take: 90s, 15m, 1h30m; by default there is no limit
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    timeout: Option<Duration>,
    #[command(flatten)]
    replication: ReplicationArgs,
    #[command(flatten)]
    transfer: TransferArgs,
}

/// The images of a copy with their destinations.
type Images<S, D> = Vec<(ImageAt<S>, ImageAt<D>)>;

/// A copy between two locations.
struct Route<'a> {
    arguments: &'a Copy,
    source: &'a Location,
    destination: &'a Location,
    client: RegistryClient,
    start: Instant,
}

impl Verb for Copy {
    const NAME: &'static str = "copy";
    const HELP: crate::help::Help = crate::help::verbs::COPY;

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        if let Some(path) = &self.apply {
            return self.apply(&ui, path).await;
        }
        let (Some(source), Some(destination)) = (&self.source, &self.destination) else {
            return Err(Failure::bad_input("SRC and DST are missing"));
        };
        if self.all_tags.is_some() && (source.has_image() || destination.has_image()) {
            return Err(Failure::bad_input(
                "with --all-tags, SRC and DST are repositories or layouts: omit the tag and the digest",
            ));
        }
        if destination.repository().is_none() {
            if self.plan {
                self.given.refuse(&["plan"], "with an OCI layout as destination")?;
            }
            if self.names.iter().any(OtherName::has_repository) {
                return Err(Failure::bad_input(
                    "--as NAME:TAG requires a registry as destination; an OCI layout has tags only",
                ));
            }
        }
        if source.repository().is_none() || destination.repository().is_none() {
            self.given.refuse(&["await-replication"], "with an OCI layout")?;
        }
        if self.plan {
            self.given.refuse(&["await-replication"], "with --plan")?;
        }
        let options = self.transfer.registries()?;
        let sides = [source, destination].map(Location::repository);
        let registries: Vec<_> = sides.into_iter().flatten().map(Repository::registry).collect();
        let client = options.client(&registries).await?;
        let route = Route { arguments: &self, source, destination, client, start: Instant::now() };
        route.run(&ui).await
    }
}

impl Copy {
    /// Limits the time of work before the copy.
    async fn in_time<T>(&self, start: Instant, work: impl Future<Output = T>) -> Result<T, Failure> {
        let Some(timeout) = self.timeout else { return Ok(work.await) };
        tokio::time::timeout_at(start + timeout, work).await.map_err(|_| {
            Failure::unavailable(format!(
                "the source was not read within {} s (--timeout); nothing was copied",
                timeout.as_secs()
            ))
        })
    }

    /// The options of a copy that was started at `start`.
    fn options(&self, start: Instant) -> CopyOptions {
        let mut options = CopyOptions::default();
        if let Some(jobs) = self.jobs.jobs {
            options = options.concurrency(jobs.get().into());
        }
        match self.timeout {
            Some(timeout) => options.timeout(timeout.saturating_sub(start.elapsed())),
            None => options,
        }
    }

    /// Prints the result of a copy.
    fn report(
        &self,
        ui: &Ui,
        report: RunReport,
        place: impl Fn(&str, &Digest) -> String,
    ) -> Result<ExitCode, Failure> {
        for (image, error) in report.failed() {
            ui.say(format!("{}: {error}", image.reference));
        }
        let report = report.into_result()?;
        let copied = report.images.iter().filter_map(|image| {
            let (digest, _) = image.result.as_ref().ok()?;
            Some(place(&image.destination, digest))
        });
        let mut copied: Vec<String> = copied.collect();
        // Several tags of one image.
        copied.dedup();
        ui.results(copied, &report);
        Ok(ExitCode::Done)
    }
}

impl Route<'_> {
    async fn run(&self, ui: &Ui) -> Result<ExitCode, Failure> {
        match self.source {
            Location::Registry { repository, reference } => {
                let store = self.client.repository(repository);
                let references = match reference {
                    Some(reference) => vec![reference.clone()],
                    None => {
                        let rule = self.rule()?;
                        self.tags(rule, self.arguments.in_time(self.start, store.tags()).await??)?
                    }
                };
                if let Some(time) = self.arguments.replication.await_replication
                    && let Some(to) = self.destination.repository()
                {
                    let images = self.to_registry(store.clone(), to, &references)?;
                    let time = self.arguments.timeout.map_or(time, |timeout| timeout.min(time));
                    await_replication(&self.client, &images, time, ui).await?;
                }
                self.to(ui, store, references).await
            }
            Location::Layout { path, image } | Location::Archive { path, image } => {
                let layout = open_layout(path).await?;
                let references = match (image, &self.arguments.all_tags) {
                    (Some(image), _) => vec![image.find(&layout).await?],
                    (None, None) => vec![layout.only_image().await?],
                    (None, Some(rule)) => {
                        let names = layout.images().await?.into_iter().filter_map(|(name, _)| name);
                        self.tags(rule, names.filter_map(|name| name.parse().ok()).collect())?
                    }
                };
                self.to(ui, layout, references).await
            }
        }
    }

    /// The rule that selects tags.
    fn rule(&self) -> Result<&TagSelector, Failure> {
        self.arguments.all_tags.as_ref().ok_or_else(|| {
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

    /// The names of the image at the destination: that of DST and those of --as, or the source's.
    fn names(&self, from: &Reference) -> Result<Vec<(Option<&OtherName>, Reference)>, Failure> {
        let own = match self.destination {
            Location::Registry { reference, .. } => reference.clone(),
            Location::Layout { image, .. } | Location::Archive { image, .. } => {
                image.as_ref().map(LayoutImage::reference).transpose()?
            }
        };
        let others = &self.arguments.names;
        let own = own.or_else(|| others.is_empty().then(|| from.clone()));
        if let (Some(Reference::Digest(_)), false) = (&own, self.arguments.platforms.is_empty()) {
            return Err(Failure::bad_input(
                "the digest of an index with selected platforms is not known in advance: add a :TAG to DST",
            ));
        }
        let others = others.iter().map(|name| (Some(name), Reference::Tag(name.tag.clone())));
        Ok(own.into_iter().map(|own| (None, own)).chain(others).collect())
    }

    /// The images and their places in registries.
    fn to_registry<S: Source + Clone>(
        &self,
        source: S,
        repository: &Repository,
        references: &[Reference],
    ) -> Result<Images<S, RepositoryClient>, Failure> {
        let mut images = Vec::new();
        for from in references {
            for (name, to) in self.names(from)? {
                let repository = match name {
                    Some(name) => name.repository(repository)?,
                    None => repository.clone(),
                };
                let to = self.client.repository(&repository).at(to);
                images.push((ImageAt::new(source.clone(), from.clone()), to));
            }
        }
        Ok(images)
    }

    /// The images and their places in a layout.
    fn to_layout<S: Source + Clone, D: Destination + Clone>(
        &self,
        source: S,
        layout: &D,
        references: &[Reference],
    ) -> Result<Images<S, D>, Failure> {
        let mut images = Vec::new();
        for from in references {
            for (_, to) in self.names(from)? {
                images.push((ImageAt::new(source.clone(), from.clone()), ImageAt::new(layout.clone(), to)));
            }
        }
        Ok(images)
    }

    /// Copies to the destination.
    async fn to<S: Source + Clone>(
        &self,
        ui: &Ui,
        source: S,
        references: Vec<Reference>,
    ) -> Result<ExitCode, Failure> {
        match self.destination {
            Location::Registry { repository, .. } => {
                let images = self.to_registry(source, repository, &references)?;
                if self.arguments.plan {
                    self.plan(ui, images).await
                } else {
                    self.transfer(ui, images).await
                }
            }
            Location::Layout { path, .. } => {
                let layout = OciLayout::create(path).await?;
                self.transfer(ui, self.to_layout(source, &layout, &references)?).await
            }
            Location::Archive { path, .. } => {
                let archive = OciArchive::create(path).await?;
                self.transfer(ui, self.to_layout(source, &archive, &references)?).await
            }
        }
    }

    fn options(&self) -> CopyOptions {
        let arguments = self.arguments;
        let options = arguments.transfer.apply(arguments.options(self.start).referrers());
        options.platforms(arguments.platforms.clone())
    }

    /// Prints what would be copied, and what Amazon ECR would refuse.
    async fn plan<S: Source>(
        &self,
        ui: &Ui,
        images: Images<S, RepositoryClient>,
    ) -> Result<ExitCode, Failure> {
        let mut plan = ui.follow(plan_all(images, self.options())).await?;
        plan.findings = ecr::check(&self.client, &plan).await;
        if self.source.repository().is_none() {
            // The location of a layout, which --apply opens again.
            plan.images.iter_mut().for_each(|image| image.source = self.source.without_image().to_string());
        }
        Ok(ui.planned(&plan))
    }

    async fn transfer<S: Source, D: Destination>(
        &self,
        ui: &Ui,
        images: Images<S, D>,
    ) -> Result<ExitCode, Failure> {
        ui.step(format!("Copy {} to {}", self.source, self.destination));
        let report = ui.follow(copy_all(images, self.options())).await;
        self.arguments.report(ui, report, |name, digest| match self.destination {
            Location::Registry { .. } => format!("{name}@{digest}"),
            Location::Layout { .. } | Location::Archive { .. } => {
                self.destination.at(digest.clone()).to_string()
            }
        })
    }
}
