//! The arguments of a promotion.

use std::path::PathBuf;

use bp_artifact::Registry;
use bp_promote::Journal;
use clap::Args;

use crate::{Failure, promotion::PromotionOptions};

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
    plain_http: Vec<Registry>,
    /// Trust the certificates of this file (PEM) too
    #[arg(long, value_name = "FILE", env = "BP_CA_FILE")]
    ca: Option<PathBuf>,
}

impl CopyArgs {
    /// The options that these are.
    ///
    /// # Errors
    /// When the journal or the certificates cannot be read.
    pub fn options(&self) -> Result<PromotionOptions, Failure> {
        let unreadable =
            |path: &PathBuf, error| Failure::bad_input(format!("cannot open {}: {error}", path.display()));
        let mut options = PromotionOptions {
            ecr_parts: self.ecr_parts,
            plain_http: self.plain_http.clone(),
            record: self.record.clone(),
            attach_record: self.attach_record,
            ..PromotionOptions::default()
        };
        if let Some(path) = &self.journal {
            options.journal = Some(Journal::open(path).map_err(|error| unreadable(path, error))?);
        }
        if let Some(path) = &self.ca {
            options.root_certificates = Some(std::fs::read(path).map_err(|error| unreadable(path, error))?);
        }
        if self.no_clobber {
            options.copy = options.copy.no_clobber();
        }
        if self.trust_destination {
            options.copy = options.copy.trust_destination();
        }
        Ok(options)
    }
}
