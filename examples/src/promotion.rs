//! Carrying images from one environment's registry to another's.

use std::path::PathBuf;

use bp_artifact::{
    Artifact, EnvironmentConfig, ImageRef, Operation, Repository, ResolvedImage, Tag, TagSelector,
    TimeSource, write_atomically,
};
use bp_promote::{
    CopyError, CopyOptions, CopyReport, Journal, PromotionRecord, RegistryClient, copy,
    copy::{CopyEvent, RunPlan, RunReport, plan_all},
    copy_all,
    registry::{EcrClients, RegistryClientBuilder, RepositoryClient},
    store::ImageAt,
};
use clap::Args;
use serde_json::json;

use crate::{Clients, Endpoints, Failure};

/// One side of a promotion.
pub type Side<'a> = (&'a EnvironmentConfig, &'a Clients);

/// How a promotion goes about it.
#[derive(Debug, Clone, Default, Args)]
pub struct CopyArgs {
    /// Refuse to move a tag that points to something else: the image's tag, and those of its signatures and referrers
    #[arg(long)]
    no_clobber: bool,
    /// Note here what is begun, so that a run that was killed goes on with it
    #[arg(long, value_name = "FILE", env = "BP_JOURNAL")]
    journal: Option<PathBuf>,
    /// Do not hash blobs on the way: the destination hashes them anyway, as the specification asks of registries, and
    /// refuses what is spoilt. A registry that does not check would keep spoilt bytes under the image's digest. Manifests
    /// are hashed in any case
    #[arg(long)]
    trust_destination: bool,
    /// Write what was promoted to this file, one JSON object a line: digest, from where to where, what the tag named
    /// before
    #[arg(long, value_name = "FILE", env = "BP_RECORD")]
    record: Option<PathBuf>,
    /// Attach that to the image in the destination's registry, as a referrer. A registry that refuses it makes the
    /// command fail after the promotion is done; run it again without this flag, or where referrers are taken
    #[arg(long)]
    attach_record: bool,
    /// Upload to Amazon ECR in parts, so that a journal lets an upload go on where it was; not proven against AWS itself
    #[arg(long)]
    ecr_parts: bool,
    /// Speak plain HTTP with this registry; may be repeated. Loopback needs no word
    #[arg(long = "plain-http", value_name = "HOST")]
    plain_http: Vec<bp_artifact::Registry>,
    /// Trust the certificates of this file (PEM) too
    #[arg(long, value_name = "FILE", env = "BP_CA_FILE")]
    ca: Option<PathBuf>,
}

impl CopyArgs {
    fn apply(&self, mut builder: RegistryClientBuilder) -> Result<RegistryClientBuilder, Failure> {
        let unreadable =
            |path: &PathBuf, error| Failure::bad_input(format!("cannot open {}: {error}", path.display()));
        if let Some(path) = &self.journal {
            builder = builder.journal(Journal::open(path).map_err(|error| unreadable(path, error))?);
        }
        if self.ecr_parts {
            builder = builder.ecr_parts();
        }
        if let Some(path) = &self.ca {
            builder =
                builder.root_certificates(std::fs::read(path).map_err(|error| unreadable(path, error))?);
        }
        Ok(self.plain_http.iter().cloned().fold(builder, RegistryClientBuilder::plain_http))
    }

    /// A promotion takes all that belongs to an image, and never changes its digest.
    fn options(&self) -> CopyOptions {
        let mut options = CopyOptions::default().referrers().keep_digest();
        if self.no_clobber {
            options = options.no_clobber();
        }
        if self.trust_destination { options.trust_destination() } else { options }
    }
}

/// An image and where it goes.
type Pair = (ImageAt<RepositoryClient>, ImageAt<RepositoryClient>);

/// A promotion from one environment to another.
pub struct Promotion<'a> {
    from: &'a Repository,
    to: &'a Repository,
    client: RegistryClient,
    options: CopyOptions,
    record: Option<PathBuf>,
    attach_record: bool,
}

impl<'a> Promotion<'a> {
    /// Gets ready. Opens no connection.
    ///
    /// # Errors
    /// When an endpoint is no URL, or a file cannot be read.
    pub fn new(
        from: Side<'a>,
        to: Side<'a>,
        args: &CopyArgs,
        endpoints: &Endpoints,
    ) -> Result<Self, Failure> {
        let client = args.apply(builder(&[from, to], endpoints)?)?.build()?;
        Ok(Promotion {
            from: &from.0.repository,
            to: &to.0.repository,
            client,
            options: args.options(),
            record: args.record.clone(),
            attach_record: args.attach_record,
        })
    }

    /// One image, under `tag` if there is one.
    pub fn image(&self, image: &ResolvedImage, tag: Option<&Tag>) -> Pair {
        let source: ImageRef = image.moved_to(self.from).reference.into();
        let destination: ImageRef = match tag {
            Some(tag) => self.to.tagged(tag.clone()),
            None => self.to.at(image.digest().clone()).into(),
        };
        (self.client.image(&source), self.client.image(&destination))
    }

    /// The tags `named`, and those that the rule takes. What belongs to other images, under names that follow from
    /// digests, comes with those.
    ///
    /// # Errors
    /// When the tags cannot be listed, or none is left.
    pub async fn tags(&self, named: &[Tag], rule: Option<&TagSelector>) -> Result<Vec<Pair>, Failure> {
        let (from, to) = (self.client.repository(self.from), self.client.repository(self.to));
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
            true => Err(Failure::bad_input(format!("{} has no such tag", self.from))),
            false => Ok(tags.into_iter().map(|tag| (from.at(tag.clone()), to.at(tag))).collect()),
        }
    }

    /// What would be done.
    pub fn plan(&self, images: Vec<Pair>) -> Operation<CopyEvent, Result<RunPlan, CopyError>> {
        plan_all(images, self.options.clone())
    }

    /// Does it.
    pub fn copy(&self, images: Vec<Pair>) -> Operation<CopyEvent, RunReport> {
        copy_all(images, self.options.clone())
    }

    /// Keeps the records of what has arrived, where that was asked for: first in a file, then beside the images.
    ///
    /// # Errors
    /// When the file cannot be written, or a registry does not take a record.
    pub async fn keep_records(&self, report: &RunReport) -> Result<(), Failure> {
        let at = TimeSource::system().now();
        let records =
            report.images.iter().filter_map(|image| PromotionRecord::of(image, self.from, self.to, at));
        let records: Vec<_> = records.collect();
        if let Some(path) = &self.record {
            let lines: String = records.iter().map(|record| format!("{}\n", json!(record))).collect();
            write_atomically(path, lines.as_bytes())?;
        }
        if self.attach_record {
            let repository = self.client.repository(self.to);
            for record in &records {
                record.attach(&repository).await.map_err(|error| {
                    let image = self.to.at(record.digest.clone());
                    Failure::from(error)
                        .about(format!("{image} is promoted, but has no record attached to it"))
                })?;
            }
        }
        Ok(())
    }
}

/// The image that the artifact means, as `from` has it.
///
/// # Errors
/// When the artifact names no image, or that registry does not have it.
pub async fn image_of(artifact: &Artifact, (from, clients): Side<'_>) -> Result<ResolvedImage, Failure> {
    if let Some(image) = artifact.resolved() {
        return Ok(image.moved_to(&from.repository));
    }
    // Without a digest its tag is resolved here, once.
    let tagged = artifact.image_in(&from.repository)?;
    Ok(clients.resolver(from.registry())?.resolve(&tagged).await?)
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

/// Copies `image` from one environment to another with all that is attached to it, under `tag` if there is one.
///
/// # Errors
/// When an endpoint is no URL. What goes wrong later is the operation's error.
pub fn promote(
    image: &ResolvedImage,
    tag: Option<&Tag>,
    from: Side<'_>,
    to: Side<'_>,
    endpoints: &Endpoints,
) -> Result<Operation<CopyEvent, Result<CopyReport, CopyError>>, Failure> {
    let promotion = Promotion::new(from, to, &CopyArgs::default(), endpoints)?;
    let (source, destination) = promotion.image(image, tag);
    Ok(copy(source, destination, promotion.options))
}
