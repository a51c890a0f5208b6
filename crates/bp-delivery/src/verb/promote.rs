//! Promote the artifact's image, or selected tags, to an environment's registry with the same digest.

use std::path::PathBuf;

use bp_artifact::{
    Artifact, ExitCode, ImageRef, Tag,
    config::{DeployPlatform, ServiceConfig},
    select::TagSelector,
    text::single_line,
};
use bp_promote::{
    content::Reference,
    copy::{RunPlan, RunReport},
};
use tokio::time::Instant;

use crate::{
    Failure, Session, Ui,
    cli::{self, CopyArgs, GovernanceArgs, ReplicationArgs},
    governance::{Decided, Governance, GovernanceOptions},
    image_wait,
    plan_file::{self, check_unmoved},
    program::Verb,
    promotion::{Pair, Promotion, Route},
    replication::await_replication,
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
    /// Tag of the image at the destination, instead of its own; repeatable
    #[arg(long = "as", value_name = "TAG", conflicts_with = "all_tags")]
    names: Vec<Tag>,
    /// Plan only: show the planned changes; changes nothing
    #[arg(long)]
    plan: bool,
    /// Apply a plan that --plan --output json has printed, exactly; refused if a tag of the source or of the destination
    /// has moved since
    #[arg(long, value_name = "FILE", conflicts_with_all = ["tags", "all_tags", "names", "plan"])]
    apply: Option<PathBuf>,
    #[command(flatten)]
    rules: GovernanceArgs,
    #[command(flatten)]
    replication: ReplicationArgs,
    #[command(flatten)]
    services: cli::ServicesArgs,
    #[command(flatten)]
    changed: cli::ChangedArgs,
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
    const HELP: crate::help::Help = crate::help::verbs::PROMOTE;

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        let (start, timeout) = (Instant::now(), self.copy.timeout());
        let selects_tags = !self.tags.is_empty() || self.all_tags.is_some();
        if self.plan {
            self.given.refuse(&["image-timeout", "await-replication"], "with --plan")?;
        }
        if self.apply.is_some() {
            let flags =
                ["artifact", "image-timeout", "await-replication", "no-referrers", "nondistributable-layers"];
            self.given.refuse(&flags, "with --apply, which copies what was planned")?;
        }
        if self.tags.len() > 1 && !self.names.is_empty() {
            return Err(Failure::bad_input("--as applies to one image: give --tag only once"));
        }
        if selects_tags {
            self.given.refuse(&["artifact"], "with --tag or --all-tags")?;
        }
        let config = self.config.load(&self.to)?;
        let to = config.environment(&self.to)?;
        let from = match &self.from {
            Some(name) => config.environment(name)?,
            // An image that the build has pushed to the first environment gets its record there.
            None if config.previous(&to.name).is_none() && to.policy().records.is_some() => to,
            None => config.previous(&to.name).ok_or_else(|| {
                Failure::bad_input(format!("{} is the first environment of bp.toml: add --from", to.name))
            })?,
        };
        let plan = self.apply.as_deref().map(plan_file::read).transpose()?;
        let artifact = match (selects_tags, &plan) {
            (false, None) => Some(Artifact::read(&self.artifact)?),
            (true, _) | (_, Some(_)) => None,
        };
        let options = GovernanceOptions {
            key: self.rules.sign.key.as_deref(),
            artifact: artifact.as_ref(),
            break_glass: self.rules.break_glass.clone(),
        };
        let governance = Governance::new(&config, from, to, options)?;
        let services = to.choose(&self.services.services, self.services.all)?;
        let services = self.changed(services, &ui).await?;
        if services.is_empty() {
            ui.say("nothing to promote: no change concerns a service");
            return Ok(ExitCode::Done);
        }
        let session = Session::from_env()?;
        let (reads, writes) = (session.open(from).await?, session.open(to).await?);
        let mut options = self.copy.options()?;
        let transfers = services.iter().filter_map(|service| service.limits.transfers).min();
        let transfers = self.copy.jobs().or(transfers.map(|transfers| transfers.get() as usize));
        if let Some(transfers) = transfers {
            options.copy = options.copy.concurrency(transfers);
        }
        let promotion = Promotion::new((from, &reads), (to, &writes), options, session.endpoints())?;
        let promotion = if self.plan { promotion } else { promotion.open_records().await? };

        let resolver = reads.resolver(from.registry())?;
        // A plan does not wait.
        let find = async |image: &ImageRef, service: &ServiceConfig| {
            if self.plan {
                return Ok::<_, Failure>(resolver.resolve(image).await?);
            }
            let wait = image_wait(self.wait.image_timeout.unwrap_or(service.deploy.image_timeout))?;
            Ok(wait_for_image(&*resolver, image, wait, |line| ui.say(line)).await?)
        };
        if !self.plan {
            ui.step(format!("Promote from {} to {}", from.name, to.name));
        }
        let select = async {
            let (mut images, mut routes) = (Vec::new(), Vec::new());
            let mut all = Vec::new();
            for service in services {
                let source = from.service(service.name.as_ref())?;
                all.push((service, source, Route { from: &source.repository, to: &service.repository }));
            }
            if let Some(plan) = &plan {
                let known: Vec<Route<'_>> = all.iter().map(|(_, _, route)| *route).collect();
                return self.planned(plan, &promotion, &known).await;
            }
            for (service, source, route) in all {
                match &artifact {
                    Some(artifact) => {
                        let image = artifact.image_of(source)?;
                        let found = find(&image, service).await?;
                        if self.names.is_empty() {
                            images.push(promotion.image(route, &found, image.tag()));
                        }
                        images.extend(self.names.iter().map(|tag| promotion.image(route, &found, Some(tag))));
                    }
                    None => {
                        for tag in &self.tags {
                            find(&route.from.tagged(tag.clone()), service).await?;
                        }
                        let tags = promotion.tags(route, &self.tags, self.all_tags.as_ref()).await?;
                        images.extend(tags.into_iter().flat_map(|image| self.named(image)));
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
        if let Some(time) = self.replication.await_replication {
            let left = timeout.map_or(time, |timeout| timeout.saturating_sub(start.elapsed()).min(time));
            await_replication(promotion.client(), &images, left, &ui).await?;
        }
        let promotion = match timeout {
            None => promotion,
            Some(timeout) => promotion.timeout(timeout.saturating_sub(start.elapsed())),
        };
        if self.plan {
            let mut plan = ui.follow(promotion.plan(images)).await?;
            plan.findings = promotion.check(&plan).await;
            return Ok(ui.planned(&plan));
        }
        let (images, decided) = self.decide(&governance, images, &ui).await?;
        if self.rules.explain {
            return Ok(if decided.iter().all(|decided| governance.admits(decided)) {
                ExitCode::Done
            } else {
                ExitCode::Refused
            });
        }
        let mut report = match &plan {
            Some(plan) => ui.follow(promotion.apply(plan, images)).await,
            None => ui.follow(promotion.copy(images)).await,
        };
        for (image, error) in report.failed() {
            ui.warn(format!("{}: {error}", image.reference));
        }
        let recorded = promotion.keep_records(&mut report, &routes).await;
        if let (Err(error), true) = (&recorded, report.failed().next().is_some()) {
            ui.say(error);
        }
        let entered = record(&governance, &promotion, &report, &routes, decided).await;
        let report = report.into_result()?;
        let promoted = report.images.iter().zip(&routes).filter_map(|(image, route)| {
            let (digest, _) = image.result.as_ref().ok()?;
            Some(route.to.at(digest.clone()).to_string())
        });
        let promoted: Vec<String> = promoted.collect();
        ui.results(promoted, &report);
        entered?;
        recorded.map(|()| ExitCode::Done)
    }
}

/// Records the images that were copied.
async fn record(
    governance: &Governance,
    promotion: &Promotion,
    report: &RunReport,
    routes: &[Route<'_>],
    decided: Vec<Decided>,
) -> Result<(), Failure> {
    for ((image, route), decided) in report.images.iter().zip(routes).zip(decided) {
        let Ok((_, outcome)) = &image.result else { continue };
        let destination = promotion.client().repository(route.to);
        let tag = image.reference.parse::<Tag>().ok().map(|tag| tag.to_string());
        let recorded = governance.record(&destination, decided, *outcome, tag, image.previous.clone()).await;
        recorded.map_err(|error| {
            let what = format!("{} was copied, but its record is missing", image.reference);
            error.context(what).hint("run the promotion again")
        })?;
    }
    Ok(())
}

impl Promote {
    /// Decides on each image by the rules of the environment, and refuses all if one may not enter. The images are then
    /// those of the decisions, by digest.
    async fn decide(
        &self,
        governance: &Governance,
        images: Vec<Pair>,
        ui: &Ui,
    ) -> Result<(Vec<Pair>, Vec<Decided>), Failure> {
        if !governance.needs_evidence() && !self.rules.explain {
            governance.check_source()?;
            return Ok((images, Vec::new()));
        }
        let (mut pinned, mut all) = (Vec::with_capacity(images.len()), Vec::with_capacity(images.len()));
        let mut refused = None;
        for (from, to) in images {
            let digest = match &from.reference {
                Reference::Digest(digest) => digest.clone(),
                Reference::Tag(_) => from.store.manifest(&from.reference).await?.digest,
            };
            let decided = governance.decide(&from.store, &to.store, &digest).await?;
            let is_admitted = governance.admits(&decided);
            if self.rules.explain {
                ui.result(&decided.decision, &decided.decision);
            } else if !is_admitted {
                ui.say(&decided.decision);
            }
            if !is_admitted {
                refused.get_or_insert_with(|| to.store.repository().at(digest.clone()));
            }
            pinned.push((from.store.at(digest), to));
            all.push(decided);
        }
        match refused {
            Some(image) if !self.rules.explain => Err(Failure::refused(format!(
                "{image} may not enter {}: nothing was copied; see promote --explain",
                self.to
            ))),
            Some(_) | None => Ok((pinned, all)),
        }
    }

    /// The services that a change concerns. The others are reported.
    async fn changed<'s>(
        &self,
        services: Vec<&'s ServiceConfig>,
        ui: &Ui,
    ) -> Result<Vec<&'s ServiceConfig>, Failure> {
        let Some(changes) = self.changed.changes().await? else { return Ok(services) };
        let (left, skipped): (Vec<_>, Vec<_>) =
            services.into_iter().partition(|service| cli::concern_any(&changes, service));
        for service in skipped {
            let reason = changes.reason(service, DeployPlatform::Ecs);
            cli::skipped(ui, &service.repository.to_string(), &reason);
        }
        Ok(left)
    }

    /// The image under the names of --as, if there are any.
    fn named(&self, image: Pair) -> Vec<Pair> {
        if self.names.is_empty() {
            return vec![image];
        }
        let (from, to) = image;
        self.names.iter().map(|tag| (from.clone(), to.store.at(tag.clone()))).collect()
    }

    /// The images of a plan, each with its route. Refuses a plan of other repositories than those of bp.toml, and of
    /// images that have moved in the source.
    async fn planned<'a>(
        &self,
        plan: &RunPlan,
        promotion: &Promotion,
        known: &[Route<'a>],
    ) -> Result<(Vec<Pair>, Vec<Route<'a>>), Failure> {
        let (mut images, mut routes) = (Vec::new(), Vec::new());
        for image in &plan.images {
            let is_same = |route: &&Route<'a>| {
                route.from.to_string() == image.source && route.to.to_string() == image.destination
            };
            let route = known.iter().find(is_same).ok_or_else(|| {
                Failure::refused(format!(
                    "the plan copies {} to {}: no selected service of {} has these repositories",
                    single_line(&image.source),
                    single_line(&image.destination),
                    self.to
                ))
            })?;
            let (from, to) = (
                promotion.client().repository(route.from).at(image.digest.clone()),
                promotion.client().repository(route.to).at(plan_file::reference(&image.reference)?),
            );
            check_unmoved(&[image], &from.store).await?;
            images.push((from, to));
            routes.push(*route);
        }
        Ok((images, routes))
    }
}
