//! Promote images from one environment's registry to another by digest.

use std::{path::PathBuf, sync::Arc, time::Duration};

use bp_artifact::{
    ImageRef, Operation, Repository, ResolvedImage, Tag, config::EnvironmentConfig,
    deploy::preflight::Finding, select::TagSelector, time::TimeSource,
};
use bp_promote::{
    CopyError, CopyOptions, PromotionRecord, RegistryClient,
    copy::{CopyEvent, RunPlan, RunReport, apply_all, plan_all},
    copy_all, ecr,
    registry::{EcrClients, RegistryClientBuilder, RepositoryClient},
    store::ImageAt,
};

use crate::{Clients, Endpoints, Failure, RegistryOptions, record_file::RecordFile};

/// One side of a promotion.
pub type Side<'a> = (&'a EnvironmentConfig, &'a Clients);

/// Options of a promotion. By default it copies an image with its referrers, and never changes its digest.
#[derive(Debug, Clone)]
pub struct PromotionOptions {
    /// How the images are copied.
    pub copy: CopyOptions,
    /// How the registries are accessed.
    pub registries: RegistryOptions,
    /// The file to which the promotion records are written.
    pub record: Option<PathBuf>,
    /// Whether the records are attached to the images as referrers.
    pub attach_record: bool,
}

impl Default for PromotionOptions {
    fn default() -> Self {
        PromotionOptions {
            copy: CopyOptions::default().referrers().keep_digest(),
            registries: RegistryOptions::default(),
            record: None,
            attach_record: false,
        }
    }
}

/// The source and the destination of an image.
pub type Pair = (ImageAt<RepositoryClient>, ImageAt<RepositoryClient>);

/// The source and destination repository of an image.
#[derive(Debug, Clone, Copy)]
pub struct Route<'a> {
    /// The source repository.
    pub from: &'a Repository,
    /// The destination repository.
    pub to: &'a Repository,
}

/// Promotions from one environment to another.
pub struct Promotion {
    client: RegistryClient,
    options: PromotionOptions,
    records: Option<Arc<RecordFile>>,
}

impl Promotion {
    /// Creates the registry client. Opens no connection.
    ///
    /// # Errors
    /// When an endpoint is not a valid URL, or a file cannot be read.
    pub fn new(
        from: Side<'_>,
        to: Side<'_>,
        options: PromotionOptions,
        endpoints: &Endpoints,
    ) -> Result<Self, Failure> {
        let client = options.registries.apply(builder(&[from, to], endpoints)?).build()?;
        Ok(Promotion { client, options, records: None })
    }

    /// Limits the time for copying.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options.copy = self.options.copy.timeout(timeout);
        self
    }

    /// The source and destination of one image, tagged with `tag` if given.
    pub fn image(&self, route: Route<'_>, image: &ResolvedImage, tag: Option<&Tag>) -> Pair {
        let source: ImageRef = image.moved_to(route.from).reference.into();
        let destination: ImageRef = match tag {
            Some(tag) => route.to.tagged(tag.clone()),
            None => route.to.at(image.digest().clone()).into(),
        };
        (self.client.image(&source), self.client.image(&destination))
    }

    /// The images of the tags `named` and of those that match the rule. Tags derived from digests (`sha256-...`) are
    /// skipped: their content is copied together with the image to which it is attached.
    ///
    /// # Errors
    /// When the tags cannot be listed, or no tag is selected.
    ///
    /// # Permissions
    /// With a rule, those to list the tags of the source repository.
    ///
    /// # Cancel safety
    /// Cancel safe: reads only.
    pub async fn tags(
        &self,
        route: Route<'_>,
        named: &[Tag],
        rule: Option<&TagSelector>,
    ) -> Result<Vec<Pair>, Failure> {
        let (from, to) = (self.client.repository(route.from), self.client.repository(route.to));
        let mut tags = named.to_vec();
        if let Some(rule) = rule {
            let attached =
                |tag: &Tag| tag.as_str().starts_with("sha256-") || tag.as_str().starts_with("sha512-");
            let listed = from.tags().await?.into_iter();
            tags.extend(listed.filter(|tag| rule.matches(tag) && !attached(tag)));
        }
        tags.sort();
        tags.dedup();
        if tags.is_empty() {
            return Err(Failure::bad_input(format!("no tag of {} matches the rule", route.from)));
        }
        Ok(tags.into_iter().map(|tag| (from.at(tag.clone()), to.at(tag))).collect())
    }

    /// The registry client.
    pub fn client(&self) -> &RegistryClient {
        &self.client
    }

    /// What Amazon ECR's API says about a plan: see [`ecr::check`].
    ///
    /// # Permissions
    /// Those of [`ecr::check`].
    ///
    /// # Cancel safety
    /// Cancel safe: reads only.
    pub async fn check(&self, plan: &RunPlan) -> Vec<Finding> {
        ecr::check(&self.client, plan).await
    }

    /// Plans the copy without changing anything.
    pub fn plan(&self, images: Vec<Pair>) -> Operation<CopyEvent, Result<RunPlan, CopyError>> {
        plan_all(images, self.options.copy.clone())
    }

    /// Opens the file of the records, if there is one: checks that it can be written, and locks it for this run. What a
    /// tag pointed to is then written to it before the tag moves.
    ///
    /// # Errors
    /// When another run uses the file, or it cannot be read or written. Nothing was changed.
    ///
    /// # Permissions
    /// None.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is locked.
    pub async fn open_records(mut self) -> Result<Self, Failure> {
        if let Some(path) = &self.options.record {
            let file = Arc::new(RecordFile::open(path).await?);
            self.options.copy = self.options.copy.publish_observer(file.clone());
            self.records = Some(file);
        }
        Ok(self)
    }

    /// Applies a plan: copies its images, which are `images` in the same order.
    pub fn apply(&self, plan: &RunPlan, images: Vec<Pair>) -> Operation<CopyEvent, RunReport> {
        let options = self.options.copy.clone().without_referrers();
        tracing::info_span!("promote", images = images.len()).in_scope(|| apply_all(plan, images, options))
    }

    /// Copies the images.
    pub fn copy(&self, images: Vec<Pair>) -> Operation<CopyEvent, RunReport> {
        tracing::info_span!("promote", images = images.len())
            .in_scope(|| copy_all(images, self.options.copy.clone()))
    }

    /// Writes the records of the promoted images to the file that was [opened](Self::open_records) and attaches them to
    /// the images, as the options specify. `routes` are the routes of the report's images, in the same order. If an image
    /// is unchanged since an earlier run, the record of that run is kept, and the report has its previous digest.
    ///
    /// # Errors
    /// When the file cannot be written, or a registry rejects a record.
    ///
    /// # Permissions
    /// To attach records, those to push to the destination.
    ///
    /// # Cancel safety
    /// Cancel safe: the file is written atomically, and a record that was not attached is attached by the next run.
    pub async fn keep_records(&self, report: &mut RunReport, routes: &[Route<'_>]) -> Result<(), Failure> {
        let at = TimeSource::system().now();
        let mut records = Vec::new();
        for (image, route) in report.images.iter_mut().zip(routes) {
            let Some(record) = PromotionRecord::of(image, route.from, route.to, at) else { continue };
            let record = match &self.records {
                Some(file) => file.continued(record),
                None => record,
            };
            image.previous.clone_from(&record.previous);
            records.push(record);
        }
        if let Some(file) = &self.records {
            let failed = |record: &PromotionRecord| {
                report.failed().any(|(image, _)| {
                    (&image.reference, &image.destination)
                        == (&record.reference, &record.destination.to_string())
                })
            };
            file.finish(&records, failed).map_err(|error| {
                let failure = Failure::from(error)
                    .context("the images were promoted, but their records could not be written");
                let moved = records.iter().filter_map(|record| {
                    Some(format!("{} was {}", record.reference, record.previous.as_ref()?))
                });
                moved.fold(failure, Failure::hint)
            })?;
        }
        if self.options.attach_record {
            for record in &records {
                let repository = self.client.repository(&record.destination);
                record.attach(&repository).await.map_err(|error| {
                    let image = record.destination.at(record.digest.clone());
                    Failure::from(error)
                        .context(format!("{image} was promoted, but its record could not be attached"))
                })?;
            }
        }
        Ok(())
    }
}

/// A client for the registries of the given environments, each with the credentials of its role; other registries use
/// the credentials of the docker configuration.
///
/// # Errors
/// When an endpoint is not a valid URL.
pub fn registries(sides: &[Side<'_>], endpoints: &Endpoints) -> Result<RegistryClient, Failure> {
    Ok(builder(sides, endpoints)?.build()?)
}

fn builder(sides: &[Side<'_>], endpoints: &Endpoints) -> Result<RegistryClientBuilder, Failure> {
    let mut ecr = EcrClients::new();
    for (environment, clients) in
        sides.iter().filter(|(environment, _)| environment.registry().ecr().is_some())
    {
        let registry = environment.registry().clone();
        ecr = ecr.with(registry.clone(), clients.ecr(&registry));
    }
    Ok(endpoints.registries()?.ecr(ecr))
}
