//! The verdicts of bp-ecs and the result of `aws ecs wait services-stable` in the same situations. The table is in
//! `docs/ecs-scenarios.md`; `BP_WRITE_DOCS=1` updates it.

mod common;

use std::{fmt, fs, time::Duration};

use aws_sdk_ecs::operation::describe_services::DescribeServicesOutput;
use bp_artifact::Verdict;
use bp_ecs::Options;
use bp_sandbox::{
    Behaviour,
    aws::ecs::{HookStatus, NewService, ServiceHandle},
};
use common::{Shop, definition};
use serde_json::json;
use tokio::time::sleep;

/// The interval and the number of the waiter's polls.
const INTERVAL: Duration = Duration::from_secs(15);
const POLLS: u32 = 40;

const FUNCTION: &str = "arn:aws:lambda:eu-central-1:111111111111:function:check";

/// The result of one poll of the waiter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Poll {
    Success,
    Failure(&'static str),
    Retry,
}

/// The published acceptors of the waiter `ServicesStable`, in their order.
fn poll(response: &DescribeServicesOutput) -> Poll {
    let has_status = |status: &str| response.services().iter().any(|s| s.status.as_deref() == Some(status));
    if response.failures().iter().any(|failure| failure.reason.as_deref() == Some("MISSING")) {
        return Poll::Failure("MISSING");
    }
    if has_status("DRAINING") {
        return Poll::Failure("DRAINING");
    }
    if has_status("INACTIVE") {
        return Poll::Failure("INACTIVE");
    }
    let is_stable = response
        .services()
        .iter()
        .all(|service| service.deployments().len() == 1 && service.running_count == service.desired_count);
    if is_stable { Poll::Success } else { Poll::Retry }
}

/// How the waiter ends.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Waited {
    Success(Duration),
    Failure(&'static str),
    /// After the last poll.
    TimedOut,
    /// An error of the API that no acceptor expects.
    Error(String),
}

impl fmt::Display for Waited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Waited::Success(after) => write!(f, "success after {} s", after.as_secs()),
            Waited::Failure(state) => write!(f, "failure: {state}"),
            Waited::TimedOut => write!(f, "failure: maximum number of attempts"),
            Waited::Error(code) => write!(f, "failure: {code}"),
        }
    }
}

/// Runs the waiter.
async fn wait(shop: &Shop) -> Waited {
    let client = shop.client();
    for attempt in 0..POLLS {
        if attempt > 0 {
            sleep(INTERVAL).await;
        }
        let response = match client.describe_services().cluster("shop").services("web").send().await {
            Ok(response) => response,
            Err(error) => {
                use aws_sdk_ecs::error::ProvideErrorMetadata as _;
                return Waited::Error(error.code().unwrap_or("no response").to_owned());
            }
        };
        match poll(&response) {
            Poll::Success => return Waited::Success(INTERVAL * attempt),
            Poll::Failure(state) => return Waited::Failure(state),
            Poll::Retry => {}
        }
    }
    Waited::TimedOut
}

/// Something that others do during the deployment.
type Happens = fn(&Shop, &ServiceHandle);

/// A situation: the service, the new image, and what happens during its deployment.
struct Scenario {
    name: &'static str,
    service: fn(NewService) -> NewService,
    /// `None` for an image that does not exist.
    program: Option<Behaviour>,
    /// When, and what.
    during: Option<(u64, Happens)>,
    deadline: u64,
    verdict: Verdict,
    /// Why the waiter differs. `None` when it agrees.
    reason: Option<&'static str>,
}

impl Scenario {
    fn new(name: &'static str, program: Behaviour, verdict: Verdict) -> Self {
        Scenario {
            name,
            service: |new| new,
            program: Some(program),
            during: None,
            deadline: 600,
            verdict,
            reason: None,
        }
    }

    fn service(self, service: fn(NewService) -> NewService) -> Self {
        Scenario { service, ..self }
    }

    fn during(self, seconds: u64, happens: Happens) -> Self {
        Scenario { during: Some((seconds, happens)), ..self }
    }

    fn differs(self, reason: &'static str) -> Self {
        Scenario { reason: Some(reason), ..self }
    }

    /// The service before the deployment, with the new image.
    fn set_up(&self) -> (Shop, ServiceHandle, bp_artifact::ResolvedImage) {
        let shop = Shop::new();
        let service = (self.service)(shop.web(&shop.image("1"))).create();
        shop.ecs.hook(FUNCTION, HookStatus::Failed);
        let image = match &self.program {
            Some(program) => shop.image_that("2", program.clone()),
            None => shop.missing_image(),
        };
        (shop, service, image)
    }

    async fn with_bp(&self) -> Verdict {
        let (shop, service, image) = self.set_up();
        let options = Options::new(Duration::from_secs(self.deadline)).unwrap();
        let deployment = shop.target_with(options).deploy(&image);
        if let Some((seconds, happens)) = self.during {
            sleep(Duration::from_secs(seconds)).await;
            happens(&shop, &service);
        }
        deployment.await.unwrap().verdict()
    }

    async fn with_waiter(&self) -> Waited {
        let (shop, service, image) = self.set_up();
        let mut new = definition(&shop.image("1"));
        new["containerDefinitions"][0]["image"] = json!(image.reference.to_string());
        service.update(json!({ "taskDefinition": shop.ecs.register(new) }));
        let happens = async {
            if let Some((seconds, happens)) = self.during {
                sleep(Duration::from_secs(seconds)).await;
                happens(&shop, &service);
            }
        };
        let ((), waited) = tokio::join!(happens, wait(&shop));
        waited
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn healthy(after: u64) -> Behaviour {
    Behaviour::Healthy(seconds(after))
}

fn crash() -> Behaviour {
    Behaviour::Exits { after: seconds(2), code: 3, log: vec![] }
}

fn deploy_another(shop: &Shop, service: &ServiceHandle) {
    service.update(json!({ "taskDefinition": shop.ecs.register(definition(&shop.image("3"))) }));
}

fn scenarios() -> Vec<Scenario> {
    const ROLLED_BACK: &str = "the service is stable again, with the previous revision";
    vec![
        Scenario::new("a new image becomes healthy", healthy(10), Verdict::Deployed),
        Scenario::new("the same, with 50% to 100% of the tasks", healthy(10), Verdict::Deployed).service(
            |new| {
                let limits = json!({ "minimumHealthyPercent": 50, "maximumPercent": 100 });
                new.desired(4).with("deploymentConfiguration", limits)
            },
        ),
        Scenario::new("the container exits; no circuit breaker", crash(), Verdict::RolledBack),
        Scenario::new("the container exits; the circuit breaker rolls back", crash(), Verdict::RolledBack)
            .service(NewService::circuit_breaker)
            .differs(ROLLED_BACK),
        Scenario {
            program: None,
            ..Scenario::new(
                "the image does not exist; the circuit breaker rolls back",
                crash(),
                Verdict::RolledBack,
            )
            .service(NewService::circuit_breaker)
            .differs(ROLLED_BACK)
        },
        Scenario::new("an alarm rolls back", healthy(60), Verdict::RolledBack)
            .service(|new| {
                let alarms = json!({ "enable": true, "rollback": true, "alarmNames": ["errors"] });
                new.with("deploymentConfiguration", json!({ "alarms": alarms }))
            })
            .during(20, |_, service| service.alarm("errors"))
            .differs(ROLLED_BACK),
        Scenario::new("a lifecycle hook fails", healthy(10), Verdict::RolledBack)
            .service(|new| {
                let hook = json!({ "hookTargetArn": FUNCTION, "lifecycleStages": ["PRE_SCALE_UP"] });
                new.with("deploymentConfiguration", json!({ "lifecycleHooks": [hook] }))
            })
            .differs(ROLLED_BACK),
        Scenario::new("somebody rolls it back", healthy(60), Verdict::RolledBack)
            .during(20, |_, service| service.stop_deployment("ROLLBACK"))
            .differs(ROLLED_BACK),
        Scenario::new("another deployment replaces it", healthy(60), Verdict::Superseded)
            .during(20, deploy_another)
            .differs("the service is stable, with the revision of the other deployment"),
        Scenario::new("desired count 0", healthy(10), Verdict::Unproven)
            .service(|new| new.desired(0))
            .differs("no task runs, so nothing shows that the image starts"),
        Scenario {
            deadline: 1800,
            ..Scenario::new("tasks become healthy after 15 minutes", healthy(900), Verdict::Deployed)
                .differs("the waiter gives up after 10 minutes; bp-ecs has the deadline of the caller")
        },
        Scenario::new("blue/green with a bake time of 15 minutes", healthy(10), Verdict::Deployed)
            .service(|new| {
                let configuration = json!({ "strategy": "BLUE_GREEN", "bakeTimeInMinutes": 15 });
                new.with("deploymentConfiguration", configuration)
            })
            .differs("two revisions run until the end of the bake time, which bp-ecs adds to its deadline"),
        Scenario::new("a pause hook awaits approval", healthy(10), Verdict::AwaitingApproval).service(
            |new| {
                let hook = json!({ "targetType": "PAUSE", "lifecycleStages": ["POST_TEST_TRAFFIC_SHIFT"] });
                let configuration = json!({ "strategy": "BLUE_GREEN", "lifecycleHooks": [hook] });
                new.with("deploymentConfiguration", configuration)
            },
        ),
        Scenario::new(
            "the tasks exit 6 s after they became healthy",
            Behaviour::HealthyThenExits { healthy: seconds(2), exits: seconds(8), code: 1, log: vec![] },
            Verdict::RolledBack,
        )
        .differs("as many tasks as desired happen to run during a poll; they exit again"),
        Scenario::new("the service is deleted", healthy(60), Verdict::Gone)
            .during(20, |_, service| service.delete()),
        Scenario::new("credentials expire", healthy(60), Verdict::Unobserved).during(20, |shop, _| {
            shop.inject(shop.refuse_all("ExpiredTokenException", "The security token is expired"));
        }),
    ]
}

/// The kebab-case name of a verdict, as in reports.
fn name(verdict: Verdict) -> String {
    serde_json::to_value(verdict).unwrap().as_str().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn compares_verdicts_with_the_waiter_of_aws_cli() {
    const BEGIN: &str = "<!-- waiter: generated -->\n";
    const END: &str = "<!-- /waiter -->";
    let mut table = String::from(
        "| scenario | bp-ecs | `aws ecs wait services-stable` | why they differ |\n|---|---|---|---|\n",
    );
    for scenario in scenarios() {
        let (verdict, waited) = (scenario.with_bp().await, scenario.with_waiter().await);
        assert_eq!(verdict, scenario.verdict, "{}", scenario.name);
        let agree = verdict.is_success() == matches!(waited, Waited::Success(_));
        assert_eq!(agree, scenario.reason.is_none(), "{}: {verdict}, {waited}", scenario.name);
        let reason = scenario.reason.unwrap_or("");
        table += &format!("| {} | `{}` | {waited} | {reason} |\n", scenario.name, name(verdict));
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/ecs-scenarios.md");
    let page = fs::read_to_string(path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the beginning of the table");
    let (written, after) = rest.split_once(END).expect("the end of the table");
    if std::env::var_os("BP_WRITE_DOCS").is_some() {
        fs::write(path, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(
        written, table,
        "docs/ecs-scenarios.md is out of date: BP_WRITE_DOCS=1 cargo test --workspace --test waiter"
    );
}

#[test]
fn the_waiter_has_the_published_acceptors() {
    use aws_sdk_ecs::types::{Deployment, Failure, Service};

    let deployment = || Deployment::builder().build();
    let service = |status: &str, deployments, running| {
        Service::builder()
            .status(status)
            .set_deployments(Some(deployments))
            .desired_count(2)
            .running_count(running)
    };
    let of = |services: Vec<aws_sdk_ecs::types::builders::ServiceBuilder>| {
        let services = services.into_iter().map(|service| service.build()).collect();
        DescribeServicesOutput::builder().set_services(Some(services)).build()
    };
    let stable = || service("ACTIVE", vec![deployment()], 2);
    for (response, expected) in [
        (of(vec![stable()]), Poll::Success),
        (of(vec![stable(), service("ACTIVE", vec![deployment()], 1)]), Poll::Retry),
        (of(vec![service("ACTIVE", vec![deployment(), deployment()], 2)]), Poll::Retry),
        (of(vec![service("ACTIVE", vec![deployment()], 3)]), Poll::Retry),
        (of(vec![stable(), service("DRAINING", vec![], 2)]), Poll::Failure("DRAINING")),
        (of(vec![service("INACTIVE", vec![], 0)]), Poll::Failure("INACTIVE")),
    ] {
        assert_eq!(poll(&response), expected, "{response:?}");
    }
    let missing = DescribeServicesOutput::builder().failures(Failure::builder().reason("MISSING").build());
    assert_eq!(poll(&missing.build()), Poll::Failure("MISSING"));
}
