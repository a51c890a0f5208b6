//! Keeps the Secret fresh with which an environment's EKS cluster pulls from Amazon ECR.

use std::time::Duration;

use bp_artifact::{ExitCode, error::ErrorClass, time::parse_duration};
use bp_eks::pull_secret::RegistryToken;

use crate::{
    Failure, Ui,
    cli::{EnvironmentArgs, ServiceArg},
    program::Verb,
};

/// Keeps the Secret fresh with which an environment's EKS cluster pulls from Amazon ECR
///
/// Run it every hour or so: it asks ECR only when the Secret is missing or runs out soon.
#[derive(Debug, clap::Args)]
pub struct RefreshPullSecret {
    #[command(flatten)]
    environment: EnvironmentArgs,
    #[command(flatten)]
    service: ServiceArg,
    /// The Secret
    #[arg(long, default_value = "ecr")]
    secret: String,
    /// Refresh a Secret that works for less than this
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "6h")]
    margin: Duration,
}

impl Verb for RefreshPullSecret {
    const NAME: &'static str = "refresh-pull-secret";

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        let delivery = self.environment.open(&self.service).await?;
        let eks = delivery.service.eks()?;
        let secret = delivery.namespace().await?.pull_secret(&self.secret);
        let secret =
            delivery.annotations().into_iter().fold(secret, |secret, (n, v)| secret.annotation(n, v));
        let mut expires = secret.expires_at().await?;
        if secret.is_due(self.margin).await? {
            let registry = delivery.environment.registry();
            let answer = delivery.clients.ecr(registry).get_authorization_token().send().await;
            let answer = answer.map_err(|e| Failure::new(ErrorClass::Unavailable, &e))?;
            let data = answer.authorization_data().first();
            let token = data.and_then(|data| {
                let expires = data.expires_at()?.secs();
                Some((data.authorization_token()?, jiff::Timestamp::from_second(expires).ok()?))
            });
            let (authorization, until) =
                token.ok_or_else(|| Failure::unexpected("ECR answered without a token"))?;
            let token = RegistryToken::new(registry.as_str(), authorization, until);
            expires = Some(secret.refresh(&token).await?.expires_at);
        }
        let until = expires.map(|at| at.to_string()).unwrap_or_default();
        let line = format!("secret/{} in {} works until {until}", self.secret, eks.namespace);
        ui.result(line, &serde_json::json!({ "secret": self.secret, "expiresAt": until }));
        Ok(ExitCode::Done)
    }
}
