//! From the gates of `bp.toml` to those of a saga, and who answers them.

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

/// How often a check is repeated.
const CADENCE: Duration = Duration::from_secs(5);
/// How long one request of a check may take.
const REQUEST: Duration = Duration::from_secs(10);

/// The gates of a deployment of these services, each with its image. A gate behind a service that is not among them is
/// left out.
///
/// A command of a gate sees `PATH`, `BP_ENV` with the environment's name and `BP_IMAGE` with the image that is deployed,
/// and no credentials.
///
/// # Errors
/// When a gate's check cannot be made: its timeout is zero.
pub fn gates(services: &[(Delivery, ResolvedImage)]) -> Result<Vec<Gate>, Failure> {
    let Some((first, image)) = services.first() else { return Ok(Vec::new()) };
    let mut gates = Vec::new();
    for config in first.environment.gates() {
        // Behind all: nothing that is to be left in place is put back.
        let any_stays = services.iter().any(|(of, _)| of.service.deploy.on_failure == OnFailure::Leave);
        let (after, on_failure, image) = match &config.after {
            None if any_stays => (u32::MAX, OnFailure::Leave, image),
            None => (u32::MAX, OnFailure::RollBack, image),
            Some(place) => {
                let chosen = services.iter().find(|(of, _)| of.service.name == place.service);
                let Some((of, image)) = chosen else { continue };
                let stage = |platform| delivery::stage(&of.service, platform, services);
                let after = match place.platform {
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
    Ok(Gate::check(config.name.clone(), after, check, Wait::new(timeout, CADENCE)?))
}

/// Who runs this, as the variables of a build system or a shell report it. A claim: anyone who can run the command can
/// set them.
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

/// HTTP of checks: no credentials, no cookies, no redirects.
struct Http(reqwest::Client);

impl Http {
    fn new() -> Result<Self, Failure> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(REQUEST)
            .user_agent(concat!("bp-delivery/", env!("CARGO_PKG_VERSION")))
            .build();
        client.map(Http).map_err(|error| Failure::unexpected(bp_artifact::error::chain(&error)))
    }
}

impl HttpTransport for Http {
    fn get<'a>(&'a self, url: &'a str, limit: usize) -> BoxFuture<'a, Result<HttpAnswer, TransportError>> {
        Box::pin(async move {
            // An error names the URL, whose query may hold a token.
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
