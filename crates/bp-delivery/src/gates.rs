//! Builds the gates of a deployment from `bp.toml`: approvals, and checks by HTTP, commands, CloudWatch alarms and
//! Kubernetes Jobs. Identifies the approver.

use std::{path::Path, sync::Arc, time::Duration};

use bp_artifact::{
    ResolvedImage,
    check::{Check, CommandCheck, HttpAnswer, HttpCheck, HttpTransport, TransportError},
    config::{DeployPlatform, GateCondition, GateConfig},
    deploy::{GateName, OnFailure},
    saga::Gate,
    time::Wait,
};
use bp_eks::check::JobTemplate;
use futures_util::future::BoxFuture;

use crate::{Clients, Delivery, Failure, delivery};

/// The interval between attempts of a check.
const INTERVAL: Duration = Duration::from_secs(5);
/// The timeout of one HTTP request of a check.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The interval at which a Job is polled.
const JOB_INTERVAL: Duration = Duration::from_secs(2);
/// How much longer a gate waits than its Job may run, so that a Job that does not end fails with its last log lines.
const JOB_MARGIN: Duration = Duration::from_secs(60);

/// The gates of a deployment of these services, each with its image. A gate after a service or target that is not in
/// `services` is skipped.
///
/// The environment of a gate's command contains `PATH`, `BP_ENV` (the environment's name) and `BP_IMAGE` (the deployed
/// image), and no credentials.
///
/// # Errors
/// When a gate's URL is invalid or its timeout is zero, an alarm does not exist or must not be read, the manifest of a
/// Job is invalid or its cluster cannot be reached, or a gate with `alarms` requires the feature `alarms`.
///
/// # Permissions
/// For alarms `cloudwatch:DescribeAlarms`, for Jobs `eks:DescribeCluster`.
///
/// # Cancel safety
/// Cancel safe: reads only.
pub async fn gates(services: &[(Delivery, ResolvedImage)]) -> Result<Vec<Gate>, Failure> {
    let Some((first, image)) = services.first() else { return Ok(Vec::new()) };
    // After the last stage: no rollback if a service's `on-failure` is `leave`.
    let any_leaves = services.iter().any(|(of, _)| of.service.deploy.on_failure == OnFailure::Leave);
    let after_all = if any_leaves { OnFailure::Leave } else { OnFailure::RollBack };
    let mut gates = Vec::new();
    for config in first.environment.gates().iter().filter(|gate| gate.deploy) {
        let (after, on_failure, image) = match &config.after {
            None => (u32::MAX, after_all, image),
            Some(target) => {
                let selected = services.iter().find(|(of, _)| of.service.name == target.service);
                let Some((of, image)) = selected else { continue };
                let is_left_out = match target.platform {
                    Some(DeployPlatform::Ecs) => !of.service.has_ecs(),
                    Some(DeployPlatform::Eks) => !of.service.has_eks(),
                    None => false,
                };
                if is_left_out {
                    continue;
                }
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
        let gate = gate(config, after, first, image).await;
        let gate = gate.map_err(|error| error.context(format_args!("gate {}", config.name)))?;
        gates.push(gate.on_failure(on_failure));
    }
    Ok(gates)
}

async fn gate(
    config: &GateConfig,
    after: u32,
    delivery: &Delivery,
    image: &ResolvedImage,
) -> Result<Gate, Failure> {
    match check(config, delivery, image).await? {
        None => Ok(Gate::approval(config.name.clone(), after)),
        Some((check, wait)) => Ok(Gate::check(config.name.clone(), after, check, wait)),
    }
}

/// The check of the gate `name`, for a deployment that runs it after each of its steps.
///
/// # Errors
/// When the gate does not exist or is an approval; otherwise as [`gates`].
pub(crate) async fn step_check(
    name: &GateName,
    delivery: &Delivery,
    image: &ResolvedImage,
) -> Result<(Arc<dyn Check>, Wait), Failure> {
    let gates = delivery.environment.gates();
    let config = gates.iter().find(|gate| gate.name == *name);
    let config = config.ok_or_else(|| Failure::bad_input(format!("the gate {name} does not exist")))?;
    let check = check(config, delivery, image).await;
    let check = check.map_err(|error| error.context(format_args!("gate {name}")))?;
    check.ok_or_else(|| Failure::bad_input(format!("the gate {name} is an approval, not a check")))
}

/// The check of a gate, with its deadline and interval; `None` for an approval.
pub(crate) async fn check(
    config: &GateConfig,
    delivery: &Delivery,
    image: &ResolvedImage,
) -> Result<Option<(Arc<dyn Check>, Wait)>, Failure> {
    let clients = &delivery.clients;
    let (check, timeout): (Arc<dyn Check>, Duration) = match &config.condition {
        GateCondition::Approval => return Ok(None),
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
                .variable("BP_ENV", delivery.environment.name.as_str())
                .variable("BP_IMAGE", image.reference.to_string());
            (Arc::new(arguments.iter().fold(check, CommandCheck::argument)), *timeout)
        }
        GateCondition::Alarms { names, timeout } => (alarms(clients, names).await?, *timeout),
        GateCondition::Job { manifest, cluster, namespace, timeout } => {
            let template = template(manifest, namespace)?;
            let client = clients.kube(cluster).await?;
            let namespace = bp_eks::Cluster::new(client, cluster).namespace(namespace);
            let check = namespace.job_check(template, Wait::new(*timeout, JOB_INTERVAL)?);
            (Arc::new(check), timeout.saturating_add(JOB_MARGIN))
        }
    };
    Ok(Some((check, Wait::new(timeout, INTERVAL)?)))
}

/// The check of these alarms. Reads them, so that an alarm that does not exist is reported before anything is deployed;
/// an API that cannot be reached now may be reachable when the gate is.
#[cfg(feature = "alarms")]
async fn alarms(clients: &Clients, names: &[String]) -> Result<Arc<dyn Check>, Failure> {
    use bp_artifact::error::Classified as _;
    use bp_ecs::check::AlarmCheck;
    let Some((first, others)) = names.split_first() else {
        return Err(Failure::bad_input("`alarms` is empty"));
    };
    let check = others.iter().fold(AlarmCheck::new(clients.cloudwatch(), first), AlarmCheck::alarm);
    match check.read().await {
        Err(error) if !error.is_retryable() => Err(error.into()),
        Ok(_) | Err(_) => Ok(Arc::new(check)),
    }
}

#[cfg(not(feature = "alarms"))]
async fn alarms(_: &Clients, _: &[String]) -> Result<Arc<dyn Check>, Failure> {
    Err(Failure::bad_input(
        "`alarms` requires a build with the feature `alarms`, such as the default build of bp (bp-cli)",
    ))
}

/// The Job of a manifest, which must not belong to another namespace.
fn template(manifest: &Path, namespace: &str) -> Result<JobTemplate, Failure> {
    let file = manifest.display();
    let text = bp_artifact::file::read_text(manifest)
        .map_err(|error| Failure::bad_input(format!("cannot read {file}: {error}")))?;
    let template = JobTemplate::from_yaml(&text).map_err(|error| Failure::from(error).context(&file))?;
    if let JobTemplate::Manifest(job) = &template
        && let Some(other) = job.metadata.namespace.as_deref().filter(|other| *other != namespace)
    {
        return Err(Failure::bad_input(format!(
            "{file}: the Job has the namespace {other}, but the gate runs it in {namespace}; remove it from the manifest"
        )));
    }
    Ok(template)
}

/// The HTTP transport of checks: no credentials, no cookies, no redirects.
pub(crate) struct Http(reqwest::Client);

impl Http {
    pub(crate) fn new() -> Result<Self, Failure> {
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
