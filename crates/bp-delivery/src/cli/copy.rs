//! Arguments for copying images.

use std::{num::NonZeroU16, path::PathBuf, str::FromStr, time::Duration};

use bp_artifact::{Repository, Tag, error::ParseError, time::parse_duration};
use bp_promote::{CopyOptions, Journal};
use clap::Args;

use super::RegistryArgs;
use crate::{Failure, promotion::PromotionOptions, registries::RegistryOptions};

/// How images are transferred.
#[derive(Debug, Clone, Default, Args)]
pub struct TransferArgs {
    /// Refuse to move a tag that points to a different digest: the image's tag, and the tags of its signatures and
    /// referrers
    #[arg(long)]
    no_clobber: bool,
    /// Journal of uploads in progress; a rerun with the same file resumes them
    #[arg(long, value_name = "FILE", env = "BP_JOURNAL")]
    journal: Option<PathBuf>,
    /// Do not hash blobs during the copy; the destination must verify their digests, as the OCI distribution
    /// specification requires. A registry that does not verify them stores corrupted blobs unnoticed. Manifests are
    /// always hashed
    #[arg(long)]
    trust_destination: bool,
    /// Upload to Amazon ECR in parts, so that --journal can resume an interrupted upload; not verified against AWS
    /// itself
    #[arg(long)]
    ecr_parts: bool,
    /// Do not copy signatures, attestations, SBOMs and other referrers
    #[arg(long)]
    no_referrers: bool,
    /// Also copy layers of a non-distributable type, such as Windows base layers, that can be fetched from other URLs;
    /// the source registry must have them
    #[arg(long)]
    nondistributable_layers: bool,
    #[command(flatten)]
    registries: RegistryArgs,
}

impl TransferArgs {
    /// The options for the access to registries.
    ///
    /// # Errors
    /// When the journal or another file cannot be read.
    pub fn registries(&self) -> Result<RegistryOptions, Failure> {
        let mut options = RegistryOptions { ecr_parts: self.ecr_parts, ..self.registries.options()? };
        if let Some(path) = &self.journal {
            let opened = Journal::open(path);
            options.journal =
                Some(opened.map_err(|error| {
                    Failure::bad_input(format!("cannot open {}: {error}", path.display()))
                })?);
        }
        Ok(options)
    }

    /// Adds these arguments to the options of a copy with referrers.
    pub fn apply(&self, mut options: CopyOptions) -> CopyOptions {
        if self.no_referrers {
            options = options.without_referrers();
        }
        if self.nondistributable_layers {
            options = options.nondistributable_layers();
        }
        if self.no_clobber {
            options = options.no_clobber();
        }
        if self.trust_destination {
            options = options.trust_destination();
        }
        options
    }
}

/// Another name of an image at the destination: `TAG`, or `NAME:TAG` for another repository of the same registry.
#[derive(Debug, Clone)]
pub struct OtherName {
    path: Option<String>,
    /// The tag.
    pub tag: Tag,
}

impl OtherName {
    /// The repository, for a destination that is `repository`.
    ///
    /// # Errors
    /// When the name is not that of a repository.
    pub fn repository(&self, repository: &Repository) -> Result<Repository, ParseError> {
        match &self.path {
            None => Ok(repository.clone()),
            Some(path) => format!("{}/{path}", repository.registry()).parse(),
        }
    }

    /// Whether it contains a repository.
    pub fn has_repository(&self) -> bool {
        self.path.is_some()
    }
}

impl FromStr for OtherName {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (path, tag) = match text.rsplit_once(':') {
            Some((path, tag)) => (Some(path.to_owned()), tag),
            None => (None, text),
        };
        Ok(OtherName { path, tag: tag.parse()? })
    }
}

/// The number of concurrent transfers.
#[derive(Debug, Clone, Default, Args)]
pub struct JobsArgs {
    /// How many blobs are transferred at a time; defaults to limits.transfers of bp.toml, or 32
    #[arg(long, value_name = "COUNT")]
    pub jobs: Option<NonZeroU16>,
}

/// Replication of Amazon ECR.
#[derive(Debug, Clone, Default, Args)]
pub struct ReplicationArgs {
    /// Wait for the replication of Amazon ECR, if a rule of the source registry copies the images to the same
    /// destination, and copy only what it has not copied within this time: 90s, 15m, 1h30m
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub await_replication: Option<Duration>,
}

/// The options of a promotion.
#[derive(Debug, Clone, Default, Args)]
pub struct CopyArgs {
    #[command(flatten)]
    transfer: TransferArgs,
    /// Write promotion records to this file, one JSON object per line: digest, source, destination, and the previous
    /// digest of the tag
    #[arg(long, value_name = "FILE", env = "BP_RECORD")]
    record: Option<PathBuf>,
    /// Attach the promotion record to the image in the destination registry, as a referrer. If the registry rejects it,
    /// the command fails after the promotion has completed; rerun without this flag if the registry does not support
    /// referrers
    #[arg(long)]
    attach_record: bool,
    /// How long the whole promotion may take: 90s, 15m, 1h30m; by default there is no limit
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    timeout: Option<Duration>,
    #[command(flatten)]
    jobs: JobsArgs,
}

impl CopyArgs {
    /// How many blobs are transferred at a time, if given.
    pub fn jobs(&self) -> Option<usize> {
        self.jobs.jobs.map(|jobs| jobs.get().into())
    }

    /// How long the promotion may take.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// Converts the arguments to promotion options.
    ///
    /// # Errors
    /// When the journal or another file cannot be read.
    pub fn options(&self) -> Result<PromotionOptions, Failure> {
        let mut options = PromotionOptions {
            registries: self.transfer.registries()?,
            record: self.record.clone(),
            attach_record: self.attach_record,
            ..PromotionOptions::default()
        };
        options.copy = self.transfer.apply(options.copy);
        if self.record.is_some() || self.attach_record {
            options.copy = options.copy.confirm_absence();
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_name_is_a_tag_with_or_without_a_repository() {
        let repository: Repository = "r.example.com:5000/shop/web".parse().unwrap();
        for (text, expected) in [
            ("stable", Some("r.example.com:5000/shop/web:stable")),
            ("api:1.4", Some("r.example.com:5000/api:1.4")),
            ("team/api:1.4", Some("r.example.com:5000/team/api:1.4")),
            ("Api:1", None),
            (":1", None),
            ("a b", None),
            ("", None),
            ("web@sha256:ab", None),
        ] {
            let name = text.parse::<OtherName>();
            let found = name.and_then(|name| Ok(name.repository(&repository)?.tagged(name.tag.clone())));
            assert_eq!(found.ok().map(|image| image.to_string()).as_deref(), expected, "{text}");
        }
    }
}
