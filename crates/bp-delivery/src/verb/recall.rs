//! Recall an image: attach a signed statement to every copy.

use std::path::Path;

use bp_artifact::{ExitCode, config::ServiceName, time::TimeSource};
use bp_promote::{
    attestation::{Predicate as _, Recalled, attach},
    content::Reference,
    policy::TrustedKeys,
};
use serde_json::json;

use crate::{
    Failure, Session, Ui, actor,
    cli::{FileArgs, SignArgs},
    governance,
    program::Verb,
    promotion,
};

/// Recall an image: promotions and deployments refuse it from now on, in every environment that has a copy
#[derive(Debug, clap::Args)]
pub struct Recall {
    /// Digest of the image: sha256:...
    #[arg(value_name = "DIGEST")]
    image: bp_artifact::Digest,
    /// Why, which is recorded
    #[arg(long, value_name = "REASON", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    because: String,
    /// Service of bp.toml; required if there are several
    #[arg(long, value_name = "NAME", env = "BP_SERVICE")]
    service: Option<ServiceName>,
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    sign: SignArgs,
}

impl Verb for Recall {
    const NAME: &'static str = "recall";
    const HELP: crate::help::Help = crate::help::verbs::RECALL;

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        let signer = governance::signer(self.sign.key.as_ref())?;
        let config = self.files.load()?;
        let keys = TrustedKeys::read(&config, Path::new(""))?;
        if !keys.may_recall(signer.public_key().id()) {
            return Err(Failure::refused(
                "the key of --sign signs records of no environment: see policy.keys",
            ));
        }
        let session = Session::from_env()?;
        let at = TimeSource::system().now();
        let by = actor(|name| std::env::var(name).ok()).map(|claim| claim.name);
        let recalled = Recalled { because: self.because, at, by };
        let statement = recalled.about(&self.image)?;
        let (mut lines, mut copies, mut failed) = (Vec::new(), Vec::new(), None);
        for environment in config.environments() {
            let service = environment.service(self.service.as_ref())?;
            let recall = async {
                let clients = session.open(environment).await?;
                let client = promotion::registries(&[(environment, &clients)], session.endpoints())?;
                let repository = client.repository(&service.repository);
                if repository.head(&Reference::Digest(self.image.clone())).await?.is_none() {
                    return Ok::<_, Failure>(None);
                }
                Ok(Some(attach(&repository, &self.image, &statement, &signer, at).await?))
            };
            let name = &environment.name;
            match recall.await {
                Ok(None) => lines.push(format!("{name}: no copy in {}", service.repository)),
                Ok(Some(record)) => {
                    lines.push(format!("{name}: recalled in {}", service.repository));
                    copies.push(
                        json!({ "environment": name, "repository": service.repository, "record": record }),
                    );
                }
                Err(error) => {
                    lines.push(format!("{name}: not recalled: {error}"));
                    failed = failed.or(Some(error));
                }
            }
        }
        let none = copies.is_empty();
        ui.results(lines, &json!({ "image": self.image, "recalled": recalled, "copies": copies }));
        match failed {
            Some(error) => Err(error.context("the image is not recalled everywhere: run it again")),
            None if none => Err(Failure::bad_input("no environment has a copy of the image")),
            None => Ok(ExitCode::Done),
        }
    }
}
