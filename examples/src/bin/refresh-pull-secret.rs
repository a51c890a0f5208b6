//! Keeps the Secret fresh with which an environment's EKS cluster pulls from Amazon ECR.

use std::{process::ExitCode as Process, time::Duration};

use bp_artifact::{ErrorClass, ExitCode, time::parse_duration};
use bp_eks::RegistryToken;
use bp_examples::{Failure, Ui, delivery::EnvironmentArgs};

/// Keeps the Secret fresh with which an environment's EKS cluster pulls from Amazon ECR
///
/// Run it every hour or so: it asks ECR only when the Secret is missing or runs out soon.
#[derive(clap::Args)]
struct Args {
    #[command(flatten)]
    environment: EnvironmentArgs,
    /// The Secret
    #[arg(long, default_value = "ecr")]
    secret: String,
    /// Refresh a Secret that works for less than this
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "6h")]
    margin: Duration,
}

fn main() -> Process {
    bp_examples::run(refresh)
}

async fn refresh(args: Args, ui: Ui) -> Result<ExitCode, Failure> {
    let delivery = args.environment.open().await?;
    let eks = delivery.environment.eks()?;
    let secret = delivery.eks_namespace().await?.pull_secret(&args.secret);
    let mut expires = secret.expires_at().await?;
    if secret.is_due(args.margin).await? {
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
    let line = format!("secret/{} in {} works until {until}", args.secret, eks.namespace);
    ui.result(line, &serde_json::json!({ "secret": args.secret, "expiresAt": until }));
    Ok(ExitCode::Done)
}
