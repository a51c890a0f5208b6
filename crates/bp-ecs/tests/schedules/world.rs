//! Runs a schedule on the sandbox, and reads the model's state afterwards.

use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_sdk_ecs::config::retry::RetryConfig;
use bp_artifact::{ResolvedImage, Verdict, deploy::OnFailure, error::Classified as _};
use bp_ecs::{Cluster, InFlight, Options};
use bp_sandbox::{
    Behaviour, Effect, Fault,
    aws::ecs::{InjectedContainer, Pace, ServiceHandle},
};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::{
    common::{Shop, definition},
    facts::{Ending, Facts, Party, seconds},
    schedule::{ALARM, Action, Disturbance, FUNCTION, Kind, Other, Past, Policy, Program, Schedule, Sidecar},
};

/// A deployment that takes longer is considered hanging.
const LIMIT: Duration = Duration::from_secs(24 * 3600);

/// The images of a schedule.
#[derive(Clone)]
struct Images {
    previous: ResolvedImage,
    ours: ResolvedImage,
    checked: bool,
}

impl Images {
    /// The definition of the service with this image in its container.
    fn definition(&self, image: &ResolvedImage) -> Value {
        let mut definition = definition(&self.previous);
        let web = &mut definition["containerDefinitions"][0];
        web["image"] = json!(image.reference.to_string());
        if !self.checked {
            web.as_object_mut().unwrap().remove("healthCheck");
        }
        definition
    }
}

/// What other clients did: when, what, and the deployment that it started.
type History = Arc<Mutex<Vec<(f64, &'static str, Option<String>)>>>;

/// Runs the schedule to the end of the deployment.
pub(crate) async fn run(schedule: &Schedule) -> Result<Facts, String> {
    let shop = Shop::new();
    let images = Images {
        previous: shop.image("previous"),
        ours: match schedule.program.behaviour() {
            Some(behaviour) => shop.image_that("ours", behaviour),
            None => shop.missing_image(),
        },
        checked: schedule.service.checked,
    };
    let service = create(&shop, schedule, &images);
    for (number, past) in schedule.past.iter().enumerate() {
        perform(&shop, &service, &images, *past, number).await;
    }
    let before = service.deployments().len();
    let desired = service.view()["desiredCount"].as_u64().unwrap_or_default();
    shop.sandbox.ledger().clear();
    schedule.faults.iter().for_each(|disturbance| shop.inject(fault(&shop, *disturbance)));
    let start = shop.sandbox.clock().now();

    let history = History::default();
    let others = tokio::spawn(interfere(
        shop.sandbox.clone(),
        service.clone(),
        images.clone(),
        schedule.others.clone(),
        history.clone(),
    ));
    let target =
        Cluster::new(client(&shop, schedule.policy), "shop").service("web", options(schedule.policy));
    let ended = timeout(LIMIT, target.container("web").deploy(&images.ours)).await;
    others.abort();
    let ending = match ended {
        Ok(Ok(outcome)) => Ending::Verdict {
            verdict: outcome.verdict(),
            changed: outcome.changed,
            detail: format!("{}; failure: {:?}", outcome.detail, outcome.failure.map(|f| f.to_string())),
        },
        Ok(Err(error)) => Ending::Error { class: error.class(), message: error.to_string() },
        Err(_) => return Err("the deployment hangs".to_owned()),
    };
    let requests = shop.sandbox.ledger().entries();
    shop.sandbox.faults().clear();
    let mut facts = Facts {
        ending,
        policy: schedule.policy,
        image: images.ours.reference.to_string(),
        digest: images.ours.reference.digest().to_string(),
        start: seconds(start),
        now: seconds(shop.sandbox.clock().now()),
        initial_desired: desired,
        required_percent: required_percent(&schedule.service.configuration),
        service: service.view(),
        deployments: service.deployments().into_iter().rev().collect(),
        definitions: Default::default(),
        parties: Vec::new(),
        tasks: service.tasks(),
        requests,
        others: history.lock().unwrap().iter().map(|(at, what, _)| (*at, *what)).collect(),
    };
    let theirs: Vec<String> = history.lock().unwrap().iter().filter_map(|(.., arn)| arn.clone()).collect();
    for (at, deployment) in facts.deployments.iter().enumerate() {
        let arn = deployment["serviceDeploymentArn"].as_str().unwrap().to_owned();
        facts.parties.push(match at {
            at if at < before => Party::Before,
            _ if theirs.contains(&arn) => Party::Other,
            _ => Party::Ours,
        });
    }
    facts.definitions = definitions(&shop, &facts.deployments).await;
    Ok(facts)
}

fn create(shop: &Shop, schedule: &Schedule, images: &Images) -> ServiceHandle {
    let Schedule { service, .. } = schedule;
    let new = shop.ecs.new_service("shop", "web").task_definition(images.definition(&images.previous));
    let mut new = new.desired(service.desired).with("deploymentConfiguration", service.configuration.clone());
    if service.load_balancer {
        let group = "arn:aws:elasticloadbalancing:eu-central-1:111111111111:targetgroup/web/0123456789abcdef";
        let balancer = json!([{ "targetGroupArn": group, "containerName": "web", "containerPort": 8080 }]);
        new = new.with("loadBalancers", balancer);
    }
    for sidecar in &service.sidecars {
        new = new.injected(match sidecar {
            Sidecar::GuardDuty => InjectedContainer::guard_duty(),
            Sidecar::FailingGuardDuty => InjectedContainer::guard_duty().reason(
                "CannotPullContainerError: pull image manifest has been retried 1 time(s): dial tcp: i/o timeout",
            ),
            Sidecar::ServiceConnect => InjectedContainer::service_connect(),
        });
    }
    if service.recorded_pace {
        new = new.pace(Pace::Recorded);
    }
    if service.old_event {
        let message = "was unable to place a task because no container instance met all of its requirements.";
        new = new.past_event(Duration::from_secs(600), message);
    }
    shop.ecs.hook(FUNCTION, service.hook);
    new.create()
}

/// The percentage of tasks that must run for a success.
fn required_percent(configuration: &Value) -> u64 {
    configuration["earlySuccessCriteria"]["healthyPercent"].as_u64().unwrap_or(100)
}

/// Pushes an image whose containers behave like this.
fn push(shop: &bp_sandbox::Sandbox, name: &str, program: Program) -> ResolvedImage {
    let image = bp_sandbox::ImageBuilder::new().platform("linux/amd64").layer([("app/name", name)]).build();
    let reference = crate::common::reference(image.digest());
    if let Some(behaviour) = program.behaviour() {
        shop.registry(crate::common::HOST).push(&image, "shop/web", name);
        shop.script(image.digest(), behaviour);
    }
    reference.into()
}

/// A deployment before ours.
async fn perform(shop: &Shop, service: &ServiceHandle, images: &Images, past: Past, number: usize) {
    let deploy = |program| {
        let image = push(&shop.sandbox, &format!("past{number}"), program);
        let theirs = shop.ecs.register(images.definition(&image));
        service.update(json!({ "taskDefinition": theirs }));
    };
    match past {
        Past::Completed => {
            deploy(Program::Healthy(2));
            sleep(Duration::from_secs(600)).await;
        }
        Past::RolledBack => {
            deploy(Program::Exits { after: 1, code: 3 });
            sleep(Duration::from_secs(25)).await;
            if is_stoppable(service) {
                service.stop_deployment("ROLLBACK");
            }
            sleep(Duration::from_secs(240)).await;
        }
        Past::Draining => {
            deploy(Program::Healthy(2));
            sleep(Duration::from_secs(30)).await;
        }
        Past::InProgress => {
            deploy(Program::Healthy(90));
            sleep(Duration::from_secs(5)).await;
        }
        Past::InProgressSame => {
            let same = shop.ecs.register(images.definition(&images.ours));
            service.update(json!({ "taskDefinition": same }));
            sleep(Duration::from_secs(5)).await;
        }
    }
}

fn is_stoppable(service: &ServiceHandle) -> bool {
    matches!(service.deployments()[0]["status"].as_str(), Some("PENDING" | "IN_PROGRESS"))
}

/// Performs the actions of other clients.
async fn interfere(
    sandbox: bp_sandbox::Sandbox,
    service: ServiceHandle,
    images: Images,
    actions: Vec<(Duration, Action)>,
    history: History,
) {
    let start = tokio::time::Instant::now();
    for (number, (at, action)) in actions.into_iter().enumerate() {
        tokio::time::sleep_until(start + at).await;
        let before = service.deployments().len();
        if act(&sandbox, &service, &images, action, number) {
            let deployments = service.deployments();
            let new = (deployments.len() > before).then(|| deployments[0]["serviceDeploymentArn"].as_str());
            let new = new.flatten().map(str::to_owned);
            history.lock().unwrap().push((seconds(sandbox.clock().now()), action.name(), new));
        }
    }
}

/// Performs an action. `false` if it is not possible now.
fn act(
    sandbox: &bp_sandbox::Sandbox,
    service: &ServiceHandle,
    images: &Images,
    action: Action,
    number: usize,
) -> bool {
    let ecs = sandbox.aws().ecs(crate::common::ACCOUNT, crate::common::REGION);
    if service.view()["status"] != "ACTIVE" {
        return false;
    }
    match action {
        Action::Deploy(program) => {
            let image = push(sandbox, &format!("other{number}"), program);
            let theirs = ecs.register(images.definition(&image));
            service.update(json!({ "taskDefinition": theirs }));
        }
        Action::Force => {
            service.update(json!({ "taskDefinition": service.definition(), "forceNewDeployment": true }));
        }
        Action::Abort | Action::RollBack if !is_stoppable(service) => return false,
        Action::Abort => service.stop_deployment("ABORT"),
        Action::RollBack => service.stop_deployment("ROLLBACK"),
        Action::Scale(count) => service.update(json!({ "desiredCount": count })),
        Action::Delete => service.delete(),
        Action::Alarm => {
            let is_monitored = service.view()["deploymentConfiguration"]["alarms"]["enable"] == true;
            if !is_monitored || !is_stoppable(service) {
                return false;
            }
            service.alarm(ALARM);
        }
        Action::StopTasks(count, code) => service.stop_tasks(count, code, "stopped by somebody else"),
        Action::Register => {
            let image = push(sandbox, &format!("registered{number}"), Program::Healthy(2));
            ecs.register(images.definition(&image));
        }
        Action::Change(program) => match program.behaviour() {
            Some(behaviour) => sandbox.script(&images.ours.reference.digest().to_string(), behaviour),
            None => return false,
        },
        Action::BreakPrevious => {
            let crash = Behaviour::Exits { after: Duration::from_secs(1), code: 3, log: Vec::new() };
            sandbox.script(&images.previous.reference.digest().to_string(), crash);
        }
    }
    true
}

fn fault(shop: &Shop, disturbance: Disturbance) -> Fault {
    let Disturbance { kind, operation, after, times } = disturbance;
    let fault = match (kind, operation) {
        (Kind::Denied, action) => shop.deny(action.unwrap_or("ecs:DescribeServices")),
        (Kind::Throttled, _) => shop.refuse_all("ThrottlingException", "Rate exceeded"),
        (Kind::Expired, _) => {
            shop.refuse_all("ExpiredTokenException", "The security token included in the request is expired")
        }
        (Kind::Lost, _) => Fault::new(Effect::LoseAnswer),
        (Kind::Status(status), _) => Fault::status(status),
        (Kind::Reset, _) => Fault::new(Effect::Reset),
        (Kind::Cut(at), _) => Fault::new(Effect::CutBody(at)),
    };
    let fault = fault.at("aws").after(after).times(times);
    match operation {
        Some(operation) => fault.on(operation),
        None => fault,
    }
}

fn client(shop: &Shop, policy: Policy) -> aws_sdk_ecs::Client {
    let client = shop.client();
    if !policy.sdk_retries {
        return client;
    }
    let config = client.config().to_builder().retry_config(RetryConfig::standard());
    aws_sdk_ecs::Client::from_conf(config.build())
}

fn options(policy: Policy) -> Options {
    let options = Options::new(Duration::from_secs(policy.deadline)).unwrap();
    options
        .stable_for(Duration::from_secs(policy.stable_for))
        .fail_after(NonZeroU32::new(policy.fail_after).unwrap())
        .on_failure(if policy.leaves_failures { OnFailure::Leave } else { OnFailure::RollBack })
        .in_flight(match policy.in_flight {
            Other::Fail => InFlight::Fail,
            Other::AdoptIfSame => InFlight::AdoptIfSameTarget,
            Other::Supersede => InFlight::Supersede,
            Other::Wait => InFlight::Wait,
        })
        .force(policy.force)
}

/// The task definition, and the image of our container in it, of each service revision.
async fn definitions(
    shop: &Shop,
    deployments: &[Value],
) -> std::collections::BTreeMap<String, (String, String)> {
    let client = shop.client();
    let mut found = std::collections::BTreeMap::new();
    for deployment in deployments {
        let arn = deployment["targetServiceRevision"]["arn"].as_str().unwrap();
        let revision = client.describe_service_revisions().service_revision_arns(arn).send().await.unwrap();
        let definition = revision.service_revisions()[0].task_definition().unwrap().to_owned();
        let described = shop.ecs.definition(&definition).unwrap();
        let image =
            described["taskDefinition"]["containerDefinitions"][0]["image"].as_str().unwrap().to_owned();
        found.insert(arn.rsplit('/').next().unwrap().to_owned(), (definition, image));
    }
    found
}

/// Whether a verdict is one of those that the schedules must produce.
pub(crate) fn name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Deployed => "verdict: deployed",
        Verdict::Unproven => "verdict: unproven",
        Verdict::DigestMismatch => "verdict: digest mismatch",
        Verdict::RolledBack => "verdict: rolled back",
        Verdict::RollbackFailed => "verdict: rollback failed",
        Verdict::FailedInPlace => "verdict: failed in place",
        Verdict::Stopped => "verdict: stopped",
        Verdict::Superseded => "verdict: superseded",
        Verdict::Gone => "verdict: gone",
        Verdict::AwaitingApproval => "verdict: awaiting approval",
        Verdict::DeadlineExceeded => "verdict: deadline exceeded",
        Verdict::Unobserved => "verdict: unobserved",
    }
}
