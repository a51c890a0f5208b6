//! Carrying images from one environment's registry to another's.

use std::path::PathBuf;

use bp_artifact::{
    ImageRef, Operation, Registry, Repository, ResolvedImage, Tag, config::EnvironmentConfig,
    document::write_atomically, select::TagSelector, time::TimeSource,
};
use bp_promote::{
    CopyError, CopyOptions, Journal, PromotionRecord, RegistryClient,
    copy::{CopyEvent, ImageReport, RunPlan, RunReport, plan_all},
    copy_all,
    registry::{EcrClients, RegistryClientBuilder, RepositoryClient},
    store::ImageAt,
};
use serde_json::json;

use crate::{Clients, Endpoints, Failure};

/// One side of a promotion.
pub type Side<'a> = (&'a EnvironmentConfig, &'a Clients);

/// How a promotion goes about it. By default it takes all that belongs to an image, and never changes its digest.
#[derive(Debug, Clone)]
pub struct PromotionOptions {
    /// How the images are copied.
    pub copy: CopyOptions,
    /// What is begun is noted here, so that a run that was killed resumes.
    pub journal: Option<Journal>,
    /// Whether uploads to Amazon ECR are sent in parts.
    pub ecr_parts: bool,
    /// Registries that are spoken to over plain HTTP.
    pub plain_http: Vec<Registry>,
    /// Certificates (PEM) that are trusted too.
    pub root_certificates: Option<Vec<u8>>,
    /// The file that the promotion's records are written to.
    pub record: Option<PathBuf>,
    /// Whether the records are attached to the images.
    pub attach_record: bool,
}

impl Default for PromotionOptions {
    fn default() -> Self {
        PromotionOptions {
            copy: CopyOptions::default().referrers().keep_digest(),
            journal: None,
            ecr_parts: false,
            plain_http: Vec::new(),
            root_certificates: None,
            record: None,
            attach_record: false,
        }
    }
}

impl PromotionOptions {
    fn apply(&self, mut builder: RegistryClientBuilder) -> RegistryClientBuilder {
        if let Some(journal) = &self.journal {
            builder = builder.journal(journal.clone());
        }
        if self.ecr_parts {
            builder = builder.ecr_parts();
        }
        if let Some(certificates) = &self.root_certificates {
            builder = builder.root_certificates(certificates.clone());
        }
        self.plain_http.iter().cloned().fold(builder, RegistryClientBuilder::plain_http)
    }
}

/// An image and where it goes.
type Pair = (ImageAt<RepositoryClient>, ImageAt<RepositoryClient>);

/// Where an image comes from and where it goes.
#[derive(Debug, Clone, Copy)]
pub struct Route<'a> {
    /// The repository that it is read from.
    pub from: &'a Repository,
    /// The repository that it goes to.
    pub to: &'a Repository,
}

/// Promotions from one environment to another.
pub struct Promotion {
    client: RegistryClient,
    options: PromotionOptions,
}

impl Promotion {
    /// Gets ready. Opens no connection.
    ///
    /// # Errors
    /// When an endpoint is no URL, or a file cannot be read.
    pub fn new(
        from: Side<'_>,
        to: Side<'_>,
        options: PromotionOptions,
        endpoints: &Endpoints,
    ) -> Result<Self, Failure> {
        let client = options.apply(builder(&[from, to], endpoints)?).build()?;
        Ok(Promotion { client, options })
    }

    /// One image, under `tag` if there is one.
    pub fn image(&self, route: Route<'_>, image: &ResolvedImage, tag: Option<&Tag>) -> Pair {
        let source: ImageRef = image.moved_to(route.from).reference.into();
        let destination: ImageRef = match tag {
            Some(tag) => route.to.tagged(tag.clone()),
            None => route.to.at(image.digest().clone()).into(),
        };
        (self.client.image(&source), self.client.image(&destination))
    }

    /// The tags `named`, and those that the rule takes. What belongs to other images, under names that follow from
    /// digests, comes with those.
    ///
    /// # Errors
    /// When the tags cannot be listed, or none is left.
    ///
    /// # Permissions
    /// With a rule, those of listing tags at the source.
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
        match tags.is_empty() {
            true => Err(Failure::bad_input(format!("{} has no such tag", route.from))),
            false => Ok(tags.into_iter().map(|tag| (from.at(tag.clone()), to.at(tag))).collect()),
        }
    }

    /// What would be done.
    pub fn plan(&self, images: Vec<Pair>) -> Operation<CopyEvent, Result<RunPlan, CopyError>> {
        plan_all(images, self.options.copy.clone())
    }

    /// Does it.
    pub fn copy(&self, images: Vec<Pair>) -> Operation<CopyEvent, RunReport> {
        copy_all(images, self.options.copy.clone())
    }

    /// Keeps the records of what has arrived, where that was asked for: first in a file, then beside the images. `routes`
    /// are those of the report's images, in their order.
    ///
    /// # Errors
    /// When the file cannot be written, or a registry does not take a record.
    ///
    /// # Permissions
    /// To attach them, those of a push to the destination.
    ///
    /// # Cancel safety
    /// Cancel safe: a file is written whole or not at all, and a record that was not attached is attached by the next run.
    pub async fn keep_records(&self, report: &RunReport, routes: &[Route<'_>]) -> Result<(), Failure> {
        let at = TimeSource::system().now();
        let record =
            |(image, route): (&ImageReport, &Route<'_>)| PromotionRecord::of(image, route.from, route.to, at);
        let records: Vec<_> = report.images.iter().zip(routes).filter_map(record).collect();
        if let Some(path) = &self.options.record {
            let lines: String = records.iter().map(|record| format!("{}\n", json!(record))).collect();
            write_atomically(path, lines.as_bytes())?;
        }
        if self.options.attach_record {
            for record in &records {
                let repository = self.client.repository(&record.destination);
                record.attach(&repository).await.map_err(|error| {
                    let image = record.destination.at(record.digest.clone());
                    Failure::from(error)
                        .about(format!("{image} is promoted, but has no record attached to it"))
                })?;
            }
        }
        Ok(())
    }
}

/// A client for the registries of some environments, each signed in to with its own role; others by docker's
/// configuration.
///
/// # Errors
/// When an endpoint is no URL.
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
