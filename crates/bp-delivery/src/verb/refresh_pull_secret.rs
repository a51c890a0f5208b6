//! Refresh the image pull Secret with which an environment's EKS cluster pulls from Amazon ECR.

use std::time::Duration;

use bp_artifact::{ExitCode, error::ErrorClass, time::parse_duration};
use bp_eks::pull_secret::RegistryToken;

use crate::{
    Failure, Ui,
    cli::{EnvironmentArgs, ServiceArg},
    program::Verb,
};

/// Refresh the image pull Secret with which an environment's EKS cluster pulls from Amazon ECR
///
/// Run it about every hour: it requests a token from ECR only if the Secret is missing or expires within --margin.
#[derive(Debug, clap::Args)]
pub struct RefreshPullSecret {
    #[command(flatten)]
    environment: EnvironmentArgs,
    #[command(flatten)]
    service: ServiceArg,
    /// Name of the Secret
    #[arg(long, default_value = "ecr")]
    secret: String,
    /// Refresh the Secret if it expires within this time
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "6h")]
    margin: Duration,
}

impl Verb for RefreshPullSecret {
    const NAME: &'static str = "refresh-pull-secret";
    const HELP: crate::help::Help = crate::help::verbs::REFRESH_PULL_SECRET;

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        let delivery = self.environment.open(&self.service).await?;
        let eks = delivery.service.eks()?;
        let secret = delivery.namespace().await?.pull_secret(&self.secret);
        let secret =
            delivery.annotations().into_iter().fold(secret, |secret, (n, v)| secret.annotation(n, v));
        let mut expires = secret.expires_at().await?;
        if secret.is_due(self.margin).await? {
            let registry = delivery.environment.registry();
            let response = delivery.clients.ecr(registry).get_authorization_token().send().await;
            let response = response.map_err(|e| Failure::new(ErrorClass::Unavailable, &e))?;
            let data = response.authorization_data().first();
            let token = data.and_then(|data| {
                let expires = data.expires_at()?.secs();
                Some((data.authorization_token()?, jiff::Timestamp::from_second(expires).ok()?))
            });
            let (authorization, until) = token.ok_or_else(|| {
                Failure::unexpected("the response of ecr:GetAuthorizationToken contains no token")
            })?;
            let token = RegistryToken::new(registry.as_str(), authorization, until);
            expires = Some(secret.refresh(&token).await?.expires_at);
        }
        let until = expires.map(|at| at.to_string()).unwrap_or_default();
        let line = format!("secret/{} in namespace {} is valid until {until}", self.secret, eks.namespace);
        ui.result(line, &serde_json::json!({ "secret": self.secret, "expiresAt": until }));
        Ok(ExitCode::Done)
    }
}
