//! Builds the gates of a deployment from `bp.toml`: HTTP checks, commands and approvals, and identifies the approver.

use std::{sync::Arc, time::Duration};

use bp_artifact::{
    ResolvedImage,
    check::{Check, CommandCheck, HttpAnswer, HttpCheck, HttpTransport, TransportError},
    config::{DeployPlatform, GateCondition, GateConfig},
    deploy::{Claim, OnFailure},
    saga::Gate,
    time::Wait,
};
use futures_util::future::BoxFuture;

use crate::{Delivery, Failure, delivery};

/// The interval between attempts of a check.
const INTERVAL: Duration = Duration::from_secs(5);
/// The timeout of one HTTP request of a check.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The gates of a deployment of these services, each with its image. A gate after a service that is not in `services`
/// is skipped.
///
/// The environment of a gate's command contains `PATH`, `BP_ENV` (the environment's name) and `BP_IMAGE` (the deployed
/// image), and no credentials.
///
/// # Errors
/// When a gate's URL is invalid or its timeout is zero.
pub fn gates(services: &[(Delivery, ResolvedImage)]) -> Result<Vec<Gate>, Failure> {
    let Some((first, image)) = services.first() else { return Ok(Vec::new()) };
    // After the last stage: no rollback if a service's `on-failure` is `leave`.
    let any_leaves = services.iter().any(|(of, _)| of.service.deploy.on_failure == OnFailure::Leave);
    let after_all = if any_leaves { OnFailure::Leave } else { OnFailure::RollBack };
    let mut gates = Vec::new();
    for config in first.environment.gates() {
        let (after, on_failure, image) = match &config.after {
            None => (u32::MAX, after_all, image),
            Some(target) => {
                let selected = services.iter().find(|(of, _)| of.service.name == target.service);
                let Some((of, image)) = selected else { continue };
                let stage = |platform| delivery::stage(&of.service, platform, services);
                let after = match target.platform {
                    Some(platform) => stage(platform),
                    None => {
                        let ecs = of.service.has_ecs().then_some(DeployPlatform::Ecs);
                        let eks = of.service.has_eks().then_some(DeployPlatform::Eks);
                        ecs.into_iter().chain(eks).map(stage).max().unwrap_or_default()
                    }
                };
                (after, of.service.deploy.on_failure, image)
            }
        };
        gates.push(gate(config, after, first.environment.name.as_str(), image)?.on_failure(on_failure));
    }
    Ok(gates)
}

fn gate(config: &GateConfig, after: u32, environment: &str, image: &ResolvedImage) -> Result<Gate, Failure> {
    let (check, timeout): (Arc<dyn Check>, Duration) = match &config.condition {
        GateCondition::Approval => return Ok(Gate::approval(config.name.clone(), after)),
        GateCondition::Http { url, status, contains, fields, timeout } => {
            let check = HttpCheck::new(url, Arc::new(Http::new()?))?;
            let check = status.iter().fold(check, |check, status| check.status(*status));
            let check = contains.iter().fold(check, HttpCheck::contains);
            let check =
                fields.iter().fold(check, |check, (pointer, text)| check.field_as_text(pointer, text));
            (Arc::new(check), *timeout)
        }
        GateCondition::Command { program, arguments, timeout } => {
            let check = CommandCheck::new(program)
                .variable("BP_ENV", environment)
                .variable("BP_IMAGE", image.reference.to_string());
            (Arc::new(arguments.iter().fold(check, CommandCheck::argument)), *timeout)
        }
    };
    Ok(Gate::check(config.name.clone(), after, check, Wait::new(timeout, INTERVAL)?))
}

/// The user who runs the program, as reported by variables of the build system or the shell. Not verified: anyone who
/// can run the command can set these variables.
///
/// ```
/// let variable = |name: &str| (name == "GITHUB_ACTOR").then(|| "octocat".to_owned());
/// let claim = bp_delivery::actor(variable).unwrap();
/// assert_eq!((claim.name.as_str(), claim.source.as_str()), ("octocat", "GITHUB_ACTOR"));
/// ```
pub fn actor(variable: impl Fn(&str) -> Option<String>) -> Option<Claim> {
    ["GITHUB_TRIGGERING_ACTOR", "GITHUB_ACTOR", "CODEBUILD_INITIATOR", "GITLAB_USER_LOGIN", "USER", "LOGNAME"]
        .into_iter()
        .find_map(|source| {
            let name = variable(source).filter(|name| !name.trim().is_empty())?;
            Some(Claim { name: bp_artifact::text::single_line(&name), source: source.to_owned() })
        })
}

/// The HTTP transport of checks: no credentials, no cookies, no redirects.
struct Http(reqwest::Client);

impl Http {
    fn new() -> Result<Self, Failure> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(REQUEST_TIMEOUT)
            .user_agent(concat!("bp-delivery/", env!("CARGO_PKG_VERSION")))
            .build();
        client.map(Http).map_err(|error| Failure::unexpected(bp_artifact::error::chain(&error)))
    }
}

impl HttpTransport for Http {
    fn get<'a>(&'a self, url: &'a str, limit: usize) -> BoxFuture<'a, Result<HttpAnswer, TransportError>> {
        Box::pin(async move {
            // The error would contain the URL, whose query may contain a token.
            let mut response = self.0.get(url).send().await.map_err(reqwest::Error::without_url)?;
            let location = response.headers().get(reqwest::header::LOCATION);
            let location = location.and_then(|location| location.to_str().ok()).map(str::to_owned);
            let mut answer = HttpAnswer::new(response.status().as_u16(), Vec::new());
            answer.location = location;
            while let Some(chunk) = response.chunk().await.map_err(reqwest::Error::without_url)? {
                let room = limit - answer.body.len();
                answer.body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                if chunk.len() > room {
                    answer.is_truncated = true;
                    break;
                }
            }
            Ok(answer)
        })
    }
}
