//! Approve that an image enters an environment.

use std::time::Duration;

use bp_artifact::{
    ExitCode,
    config::ServiceName,
    time::{TimeSource, parse_duration},
};
use bp_promote::{
    attestation::{Approved, Predicate as _, attach},
    policy::TrustedKeys,
};
use serde_json::json;

use crate::{
    Delivery, Failure, Session, Ui,
    cli::{ConfigArgs, ImageArgs, SignArgs},
    governance,
    program::Verb,
    promotion,
};

/// Approve that the artifact's image enters an environment: attach a signed statement to it
#[derive(Debug, clap::Args)]
pub struct Approve {
    /// Environment of bp.toml that the image may enter
    #[arg(long, value_name = "NAME", env = "BP_ENV")]
    env: String,
    /// Environment in whose registry the image is; defaults to the first of policy.from
    #[arg(long = "in", value_name = "NAME")]
    place: Option<String>,
    #[command(flatten)]
    config: ConfigArgs,
    /// Service of bp.toml; required if there are several
    #[arg(long, value_name = "NAME", env = "BP_SERVICE")]
    service: Option<ServiceName>,
    #[command(flatten)]
    image: ImageArgs,
    #[command(flatten)]
    sign: SignArgs,
    /// A comment, which is recorded
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    /// How long the approval is valid, if shorter than policy.approval-expiry
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    expires_in: Option<Duration>,
}

impl Verb for Approve {
    const NAME: &'static str = "approve";
    const HELP: crate::help::Help = crate::help::verbs::APPROVE;

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        self.image.check()?;
        let signer = governance::signer(self.sign.key.as_ref())?;
        let config = self.config.load(&self.env)?;
        let to = config.environment(&self.env)?;
        let policy = to.policy();
        if policy.approvals.is_none() {
            return Err(Failure::bad_input(format!(
                "{} requires no approvals: set policy.approvals",
                to.name
            )));
        }
        let keys = TrustedKeys::read(&config, std::path::Path::new(""))?;
        let approvers: Vec<_> = keys.approvers(&to.name, signer.public_key().id()).cloned().collect();
        let Some(approver) = approvers.first() else {
            return Err(Failure::refused(format!(
                "the key of --sign is that of no approver of {}: see policy.approver in bp.toml",
                to.name
            )));
        };
        let from = match (&self.place, policy.from.first()) {
            (Some(name), _) => config.environment(name)?,
            (None, Some(name)) => config.environment(name.as_str())?,
            (None, None) => to,
        };
        let session = Session::from_env()?;
        let clients = session.open(from).await?;
        let delivery =
            Delivery::new(from.clone(), from.service(self.service.as_ref())?.clone(), clients.clone());
        let image = self.image.find(&delivery).await?;
        let client = promotion::registries(&[(from, &clients)], session.endpoints())?;
        let repository = client.repository(image.reference.repository());
        let at = TimeSource::system().now();
        let expires_at = self.expires_in.map(|time| at.checked_add(time).unwrap_or(jiff::Timestamp::MAX));
        let approved = Approved {
            environment: to.name.clone(),
            policy: policy.digest(),
            at,
            expires_at,
            comment: self.comment,
        };
        let record =
            attach(&repository, image.digest(), &approved.about(image.digest())?, &signer, at).await?;
        let line = format!("{approver} approved {} for {}", image.reference, to.name);
        ui.result(line, &json!({ "record": record, "image": image.reference, "approved": approved }));
        Ok(ExitCode::Done)
    }
}
